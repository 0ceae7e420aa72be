// @ts-check

import { complain } from "../complaints.js";
import { element, input, select } from "../dom.js";
import { OWN_WORDS } from "../state.js";
import { readSeed, seedAfter } from "./request.js";

/**
 * @typedef {import("../clip/clip.js").Clip} Clip
 * @typedef {import("../clip/part-fields.js").PartFields} PartFields
 * @typedef {import("../state.js").PageStore} PageStore
 * @typedef {import("./request.js").EditRequest} EditRequest
 * @typedef {import("./strength.js").Strength} Strength
 */

/** Reads the form. What can't be asked for is said at its field; the answer is null then. */
export class Form {
  #store;
  #strength;
  #part;
  #refused;
  /** The last seed of each clip, kept so that takes compare and the server shares work among them.
   * @type {WeakMap<Clip, number>} */
  #seeds = new WeakMap();

  /**
   * @param {PageStore} store
   * @param {Strength} strength
   * @param {PartFields} part
   * @param {() => void} refused  called where something can't be asked for
   */
  constructor(store, strength, part, refused) {
    this.#store = store;
    this.#strength = strength;
    this.#part = part;
    this.#refused = refused;
  }

  get highestSeed() {
    return this.#store.value.fields.seed?.highest ?? 0;
  }

  /** The seed that is kept for a clip. @param {Clip | null} clip */
  keptSeed(clip) {
    return clip ? this.#seeds.get(clip) : undefined;
  }

  /** The next take has a new seed. */
  forgetSeed() {
    const { clip } = this.#store.value;
    input("seed").value = "";
    if (clip) this.#seeds.delete(clip);
  }

  /**
   * What is asked for, whatever it should become.
   * @returns {EditRequest | null}
   */
  read() {
    for (const field of ["seed", "prompt", "audio"]) complain(field, "");
    const { clip, part, variation } = this.#store.value;
    const typed = readSeed(input("seed").value, this.highestSeed);
    if (typed === undefined) {
      complain(
        "seed",
        `The seed must be a whole number from 0 to ${this.highestSeed}. Leave it empty for a random one.`,
      );
      input("seed").focus();
      return null;
    }
    if (clip ? !this.#isPart() : !this.#isNumber("duration", "Enter a number of seconds")) return null;
    const loudness = this.#loudness();
    if (loudness === null) return null;
    const seed = typed ?? this.keptSeed(clip) ?? this.#drawSeed();
    if (!clip) {
      const own = loudness === "source" ? "none" : loudness;
      return {
        clip,
        seed,
        loudness: own,
        variation,
        prompt: null,
        duration: Number(input("duration").value),
      };
    }
    this.#seeds.set(clip, seed);
    const strength = this.#strength.value;
    return { clip, seed, loudness, variation, prompt: null, strength, part, loop: input("loop").checked };
  }

  /**
   * The same with what it should become.
   * @returns {EditRequest | null}
   */
  readOne() {
    const request = this.read();
    if (request?.variation !== OWN_WORDS) return request;
    const field = /** @type {HTMLTextAreaElement} */ (element("prompt"));
    const prompt = field.value.trim();
    if (prompt) return { ...request, prompt };
    complain("prompt", "Describe what it should become.");
    field.focus();
    return null;
  }

  #drawSeed() {
    const [drawn = 0] = crypto.getRandomValues(new Uint32Array(1));
    return seedAfter(drawn, 0, this.highestSeed);
  }

  #isPart() {
    const good = this.#part.check();
    if (!good) this.#refused();
    return good;
  }

  /** @returns {string | null} */
  #loudness() {
    const chosen = select("loudness").value;
    if (chosen !== "lufs") return chosen;
    return this.#isNumber("lufs", "Enter a number") ? input("lufs").value : null;
  }

  /**
   * Whether the number in a field can be asked for.
   * @param {string} id
   * @param {string} what  to enter
   */
  #isNumber(id, what) {
    const field = input(id);
    const good = field.value !== "" && field.checkValidity();
    const range = field.min && field.max ? ` from ${field.min} to ${field.max}` : "";
    complain(id, good ? "" : `${what}${range}.`);
    if (!good) {
      field.closest("details")?.setAttribute("open", "");
      field.focus();
      this.#refused();
    }
    return good;
  }
}
