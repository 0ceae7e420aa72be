// @ts-check

import { button, byId, find } from "../dom.js";
import { fileName } from "../form/request.js";
import { Waveform } from "../waveform.js";
import { canBeFinal, choicesOf, outlineOf, soundOf, stateOf } from "./take.js";

/**
 * @typedef {import("./take.js").Preview | import("./take.js").Result} Sound
 * @typedef {import("./take.js").Take} Take
 * @typedef {"stop" | "remove" | "again" | "listen" | "compare" | "final" | "refine" | "reuse"} Action
 * @typedef {"running" | "done" | "failed"} Status
 */

/**
 * How a take stands to others.
 * @typedef {object} Standing
 * @property {boolean} isB  whether it is B
 * @property {boolean} heard  whether B is what one listens to
 * @property {boolean} playing
 * @property {boolean} refinable  whether it can have more steps
 */

/** What is shown of a take in one status only. @type {readonly Status[]} */
const STATUSES = ["running", "failed"];

/** Buttons by class, and what they ask for. @type {Record<string, Action>} */
const BUTTONS = {
  stop: "stop",
  remove: "remove",
  dismiss: "remove",
  again: "again",
  listen: "listen",
  compare: "compare",
  final: "final",
  refine: "refine",
  reuse: "reuse",
};

/**
 * <take-row>: one take. What is done with it bubbles up as the event "take", whose detail has the
 * take's id and the action.
 */
export class TakeRow extends HTMLElement {
  #id = 0;
  /** @type {Status} */
  #status = "running";
  /** What is drawn. @type {Sound | null} */
  #sound = null;

  connectedCallback() {
    if (this.firstElementChild) return;
    this.append(byId("take", HTMLTemplateElement).content.cloneNode(true));
    this.classList.add("take");
    for (const [name, action] of Object.entries(BUTTONS)) {
      find(this, `.${name}`, HTMLButtonElement).addEventListener("click", () => this.#ask(action));
    }
    this.addEventListener("keydown", (event) => {
      if (event.key !== "Delete") return;
      event.preventDefault();
      this.#ask("remove");
    });
  }

  /**
   * Shows a take as it is now.
   * @param {Take} take
   * @param {Standing} standing
   */
  show(take, { isB, heard, playing, refinable }) {
    const ended = take.status !== this.#status && this.contains(document.activeElement);
    this.#id = take.id;
    this.#status = take.status;
    const { request, result } = take;
    this.classList.toggle("current", isB);
    for (const status of STATUSES) find(this, `.${status}`, HTMLElement).hidden = take.status !== status;
    this.#say(".title strong", take.title);
    this.#say(
      ".title small",
      [...stateOf(take), ...choicesOf(request), ...(result?.notes ?? [])].join(" · "),
    );
    this.#say(".reuse", `seed ${request.seed}`);
    this.#say(".doing", take.doing);
    this.#say(".stop", take.preview ? "Stop" : "Cancel");
    find(this, ".stop", HTMLButtonElement).title = take.preview ? "Ends the edit and keeps this preview" : "";
    this.#say(".failed .error", take.error);
    const progress = find(this, "progress", HTMLProgressElement);
    progress.value = take.progress;
    progress.ariaLabel = take.title;
    this.#say(".listen", isB && heard && playing ? "Pause" : "Play");
    const compare = find(this, ".compare", HTMLButtonElement);
    compare.hidden = !request.clip;
    compare.setAttribute("aria-pressed", String(isB && heard));
    find(this, ".final", HTMLButtonElement).hidden = !canBeFinal(take);
    find(this, ".refine", HTMLButtonElement).hidden = !result || !refinable || request.draft === true;
    find(this, ".remove", HTMLButtonElement).hidden = !result;
    find(this, ".remove", HTMLButtonElement).ariaLabel = `Remove ${take.title}`;
    this.#showSound(take);
    this.#showFile(take, result);
    if (ended && !document.activeElement?.checkVisibility()) this.focusFirst();
  }

  /** Focuses what one does first with it. */
  focusFirst() {
    const buttons = [".again", ".listen", ".stop"].map((selector) => find(this, selector, HTMLButtonElement));
    (buttons.find((each) => each.checkVisibility()) ?? button("make")).focus();
  }

  /** @param {Take} take */
  #showSound(take) {
    const sound = soundOf(take);
    find(this, ".actions", HTMLElement).hidden = !sound;
    const waveform = find(this, "wave-form", Waveform);
    waveform.hidden = !sound;
    if (sound && sound !== this.#sound) waveform.show(sound.peaks, 1, null, outlineOf(take));
    this.#sound = sound;
  }

  /**
   * @param {Take} take
   * @param {import("./take.js").Result | null} result
   */
  #showFile(take, result) {
    const save = find(this, ".save", HTMLAnchorElement);
    save.hidden = !result;
    if (!result || save.href === result.url) return;
    save.href = result.url;
    save.download = fileName(take.request, result.unfinished);
    save.ariaLabel = `Download ${take.title}${result.unfinished ? ", unfinished" : ""}`;
  }

  /**
   * @param {string} selector
   * @param {string} text
   */
  #say(selector, text) {
    const place = find(this, selector, HTMLElement);
    if (place.textContent !== text) place.textContent = text;
  }

  /** @param {Action} action */
  #ask(action) {
    this.dispatchEvent(new CustomEvent("take", { bubbles: true, detail: { id: this.#id, action } }));
  }
}

customElements.define("take-row", TakeRow);
