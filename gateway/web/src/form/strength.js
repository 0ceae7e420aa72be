// @ts-check

import { element, input } from "../dom.js";
import { strengthInWords } from "../words.js";

/** @typedef {import("../state.js").PageStore} PageStore */

/** The slider of how much changes. It follows the variation until somebody moves it. */
export class Strength {
  #store;
  #moved = false;

  /** @param {PageStore} store */
  constructor(store) {
    this.#store = store;
    input("strength").addEventListener("input", () => {
      this.#moved = true;
      this.#show();
    });
    store.watch(
      ({ variation }) => variation,
      (variation) => {
        const flowstep = store.value.presets[variation]?.flowstep;
        if (!this.#moved && flowstep !== undefined) input("strength").value = String(1 - flowstep);
        this.#show();
      },
    );
  }

  get value() {
    return Number(input("strength").value);
  }

  /** What a variation is edited with. @param {string} name */
  of(name) {
    const flowstep = this.#store.value.presets[name]?.flowstep;
    return this.#moved || flowstep === undefined ? this.value : 1 - flowstep;
  }

  #show() {
    const words = strengthInWords(this.value);
    const number = this.value.toFixed(3);
    element("strength-words").textContent = words;
    input("strength").setAttribute("aria-valuetext", `${words}, ${number}`);
    element("strength-number").textContent =
      `Strength ${number}, flowstep ${(1 - this.value).toFixed(3)} (0 = most change, towards 1 = the source is kept). ` +
      "Small steps matter; the useful range is between the marks.";
  }
}
