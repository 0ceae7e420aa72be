// @ts-check

import { complain } from "../complaints.js";
import { button, input } from "../dom.js";
import { isPart, readPart, writePart } from "./region.js";

/** @typedef {import("../state.js").PageStore} PageStore */

/** The two fields that say which part of the clip is to change. */
export class PartFields {
  #store;

  /** @param {PageStore} store */
  constructor(store) {
    this.#store = store;
    for (const id of ["start", "end"]) input(id).addEventListener("input", () => this.#typed());
    button("whole").addEventListener("click", () => this.choose(0, Number.POSITIVE_INFINITY));
    store.watch(
      ({ clip }) => clip,
      (clip) => {
        input("end").placeholder = clip?.buffer.duration.toFixed(2) ?? "";
        this.choose(0, Number.POSITIVE_INFINITY);
      },
    );
  }

  /**
   * Chooses the part between two points.
   * @param {number} one  seconds
   * @param {number} other  seconds
   */
  choose(one, other) {
    const { start, end } = writePart(one, other, this.#duration, this.#shortest);
    input("start").value = start;
    input("end").value = end;
    this.#typed();
  }

  /** Whether the part that was typed can be asked for; says so where it can't. */
  check() {
    const numbers = ["start", "end"].every((id) => input(id).checkValidity());
    const good = numbers && isPart(this.#store.value.part, this.#duration, this.#shortest);
    const shortest = `at least ${this.#shortest} s long`;
    complain(
      "start",
      good ? "" : `The part must be ${shortest} and within the clip's ${this.#duration.toFixed(2)} s.`,
    );
    if (!good) input("start").focus();
    return good;
  }

  #typed() {
    const { clip } = this.#store.value;
    complain("start", "");
    const part = clip && readPart(input("start").value, input("end").value, this.#duration);
    this.#store.set({ part });
  }

  get #duration() {
    return this.#store.value.clip?.buffer.duration ?? 0;
  }

  get #shortest() {
    return this.#store.value.limits.min_seconds ?? 0;
  }
}
