// @ts-check

import { button, element, input, isTyped } from "../dom.js";
import { finalOf, refinedOf } from "../form/request.js";
import { canBeFinal, takeOf } from "./take.js";
import { TakeRow } from "./take-row.js";

/**
 * @typedef {import("../listening/listening.js").Listening} Listening
 * @typedef {import("../state.js").PageStore} PageStore
 * @typedef {import("./runner.js").Runner} Runner
 * @typedef {import("./take.js").Take} Take
 * @typedef {import("./take-row.js").Action} Action
 */

/**
 * The list of takes.
 * @param {PageStore} store
 * @param {Runner} runner
 * @param {Listening} listening
 */
export function mountTakes(store, runner, listening) {
  /** @type {Map<number, TakeRow>} */
  const rows = new Map();
  const show = () => {
    const { takes, b, playback } = store.value;
    const { playing, side } = playback;
    dropRows(rows, new Set(takes.map(({ id }) => id)));
    for (const take of takes.toReversed()) {
      const row = rows.get(take.id) ?? addRow(rows, take.id);
      const refinable = refined(store, take) !== null;
      row.show(take, { isB: take.id === b?.id, heard: side === "b", playing, refinable });
    }
    element("no-takes").hidden = takes.length > 0;
    button("cancel-all").hidden = takes.filter(({ status }) => status === "running").length < 2;
  };
  store.watch(({ takes }) => takes, show);
  store.watch(({ b }) => b, show);
  store.watch(({ playback }) => playback, show);
  button("cancel-all").addEventListener("click", () => runner.cancelAll());
  element("takes").addEventListener("take", (event) => {
    const { id, action } = /** @type {CustomEvent<{id: number, action: Action}>} */ (event).detail;
    const take = takeOf(store, id);
    if (!take) return;
    if (action === "reuse") {
      input("seed").value = String(take.request.seed);
      input("seed").focus();
    } else if (action === "listen") listening.listen(take);
    else if (action === "compare") listening.compare(take);
    else if (action === "final") runner.make([finalOf(take.request)]);
    else if (action === "refine") refine(store, runner, take);
    else runner[action](id);
  });
  document.addEventListener("keydown", (event) => {
    if (isTyped(event) || event.key.toLowerCase() !== "f") return;
    const take = draftFor(store, rows, event.target);
    if (!take) return;
    event.preventDefault();
    runner.make([finalOf(take.request)]);
  });
}

/**
 * @param {PageStore} store
 * @param {Take} take
 */
const refined = (store, { request, steps }) =>
  refinedOf(request, steps, store.value.fields.steps?.highest ?? 0);

/**
 * @param {PageStore} store
 * @param {Runner} runner
 * @param {Take} take
 */
function refine(store, runner, take) {
  const request = refined(store, take);
  if (request) runner.make([request]);
}

/**
 * The draft or unfinished take that a key is for: the one that has the focus, else B.
 * @param {PageStore} store
 * @param {Map<number, TakeRow>} rows
 * @param {EventTarget | null} target
 */
function draftFor(store, rows, target) {
  const row = target instanceof Element ? target.closest("take-row") : null;
  const { takes, b } = store.value;
  const take = takes.find(({ id }) => (row ? rows.get(id) === row : id === b?.id));
  return take && canBeFinal(take) ? take : null;
}

/**
 * @param {Map<number, TakeRow>} rows
 * @param {number} id
 */
function addRow(rows, id) {
  const item = document.createElement("li");
  const row = new TakeRow();
  item.append(row);
  element("takes").prepend(item);
  rows.set(id, row);
  return row;
}

/**
 * Takes away rows whose takes are gone. The focus moves on to the next take, or to making one.
 * @param {Map<number, TakeRow>} rows
 * @param {ReadonlySet<number>} left  the ids of takes that are left
 */
function dropRows(rows, left) {
  for (const [id, row] of rows) {
    if (left.has(id)) continue;
    const item = row.closest("li");
    const focused = row.contains(document.activeElement);
    const neighbour = (item?.nextElementSibling ?? item?.previousElementSibling)?.firstElementChild;
    item?.remove();
    rows.delete(id);
    if (!focused) continue;
    if (neighbour instanceof TakeRow) neighbour.focusFirst();
    else button("make").focus();
  }
}
