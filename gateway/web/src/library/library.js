// @ts-check

import { element } from "../dom.js";
import { OWN_WORDS } from "../state.js";
import { inWords } from "../words.js";
import { familiesOf } from "./presets.js";

/** @typedef {import("../state.js").PageStore} PageStore */

/**
 * The library: families of variations, and the user's own words.
 * @param {PageStore} store
 */
export function mountLibrary(store) {
  store.watch(
    ({ presets }) => presets,
    (presets) => {
      const families = [...familiesOf(presets).keys()];
      if (!families.length) return;
      element("families").replaceChildren(
        ...[...families, OWN_WORDS].map((family) => familyButton(store, family)),
      );
      chooseFamily(store, families[0] ?? OWN_WORDS);
    },
  );
}

/**
 * @param {PageStore} store
 * @param {string} family
 */
function familyButton(store, family) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = family === OWN_WORDS ? "Your own words" : inWords(family);
  button.dataset.family = family;
  button.addEventListener("click", () => chooseFamily(store, family));
  return button;
}

/**
 * @param {PageStore} store
 * @param {string} family
 */
function chooseFamily(store, family) {
  const own = family === OWN_WORDS;
  for (const button of element("families").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.family === family));
  }
  element("own").hidden = !own;
  element("variations").hidden = own;
  if (own) {
    store.set({ variation: OWN_WORDS });
    return;
  }
  const { presets, variation } = store.value;
  const names = familiesOf(presets).get(family) ?? [];
  if (variation === OWN_WORDS || !variation) store.set({ variation: names[0] ?? "" });
  const legend = element("variations").querySelector("legend");
  element("variations").replaceChildren(
    ...(legend ? [legend] : []),
    ...names.map((name) => choice(store, name)),
  );
}

/**
 * @param {PageStore} store
 * @param {string} name
 */
function choice(store, name) {
  const label = document.createElement("label");
  label.className = "variation";
  const radio = document.createElement("input");
  const checked = name === store.value.variation;
  Object.assign(radio, { type: "radio", name: "variation", value: name, checked });
  radio.addEventListener("change", () => store.set({ variation: name }));
  const title = document.createElement("strong");
  title.textContent = inWords(name);
  const prompt = document.createElement("span");
  prompt.textContent = store.value.presets[name]?.prompt ?? "";
  label.append(radio, title, prompt);
  return label;
}
