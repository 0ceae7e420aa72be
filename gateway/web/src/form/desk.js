// @ts-check

import { button, element, input, select } from "../dom.js";
import { drawSome } from "../library/presets.js";
import { inWords } from "../words.js";
import { draftOf, isNamed, sweepOf, takesOf } from "./request.js";

/**
 * @typedef {import("../state.js").PageStore} PageStore
 * @typedef {import("./form.js").Form} Form
 * @typedef {import("./request.js").EditRequest} EditRequest
 * @typedef {import("./strength.js").Strength} Strength
 */

const SWEEP = 6; // variations of "Try these six"
const MAKERS = ["make", "new-take", "try-six", "make-takes"];

/**
 * The buttons that make takes, and the notes beside them.
 * @param {PageStore} store
 * @param {Form} form
 * @param {Strength} strength
 * @param {(requests: EditRequest[]) => void} send
 */
export function mountDesk(store, form, strength, send) {
  /** @param {EditRequest[]} requests */
  const make = (requests) => send(input("draft").checked ? requests.map(draftOf) : requests);
  /** @type {string[]} */
  let six = [];
  const draw = () => {
    six = drawSome(store.value.presets, SWEEP);
    const items = six.map((name) =>
      Object.assign(document.createElement("li"), { textContent: inWords(name) }),
    );
    element("six-names").replaceChildren(...items);
  };
  const makeOne = () => {
    const request = form.readOne();
    if (request) make([request]);
  };
  element("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!button("make").disabled) makeOne();
  });
  button("new-take").addEventListener("click", () => {
    form.forgetSeed();
    makeOne();
  });
  button("try-six").addEventListener("click", () => {
    const request = form.read();
    if (request) make(sweepOf(request, six, (name) => strength.of(name)));
  });
  button("make-takes").addEventListener("click", () => {
    const request = form.readOne();
    if (request) make(takesOf(request, Number(select("count").value), form.highestSeed));
  });
  button("other-six").addEventListener("click", draw);
  select("count").addEventListener("change", showChoices);
  select("loudness").addEventListener("change", showChoices);
  showChoices();
  follow(store, form, draw);
}

/** Follows what is chosen in the form. */
function showChoices() {
  input("lufs").hidden = select("loudness").value !== "lufs";
  button("make-takes").textContent = `Make ${select("count").value} takes`;
}

/**
 * Follows what the page knows.
 * @param {PageStore} store
 * @param {Form} form
 * @param {() => void} draw
 */
function follow(store, form, draw) {
  store.watch(
    ({ presets }) => presets,
    (presets) => {
      const known = Object.keys(presets).length > 0;
      for (const id of MAKERS) button(id).disabled = !known;
      draw();
    },
  );
  store.watch(
    ({ variation }) => variation,
    (variation) => {
      button("make").textContent = isNamed(variation) ? `Make “${inWords(variation)}”` : "Make it";
    },
  );
  store.watch(
    ({ part }) => Boolean(part),
    (hasPart) => {
      input("loop").disabled = hasPart;
      if (hasPart) input("loop").checked = false;
      element("loop-note").textContent = hasPart
        ? "Not with a part: a loop is the whole clip."
        : "The end of the take runs into its start.";
    },
  );
  const showSeed = () => {
    const { clip } = store.value;
    const kept = form.keptSeed(clip);
    element("go-note").textContent = clip
      ? "Same settings, new seed."
      : "Without a clip, this makes new music from text.";
    input("seed").placeholder = String(kept ?? "random");
    element("seed-note").textContent =
      kept === undefined
        ? "The same seed gives the same take again."
        : "Leave it empty to keep this seed, so takes stay comparable.";
  };
  store.watch(({ clip }) => clip, showSeed);
  store.watch(({ takes }) => takes.length, showSeed);
}
