// @ts-check

import { button, byId, find } from "../dom.js";
import { fileName } from "../form/request.js";
import { Waveform } from "../waveform.js";
import { choicesOf } from "./take.js";

/** @typedef {import("./take.js").Take} Take */

/**
 * @typedef {"cancel" | "remove" | "again" | "listen" | "compare" | "reuse"} Action
 * @typedef {"running" | "done" | "failed"} Status
 */

/** @type {readonly Status[]} */
const STATUSES = ["running", "done", "failed"];

/** Buttons by class, and what they ask for. @type {Record<string, Action>} */
const BUTTONS = {
  cancel: "cancel",
  remove: "remove",
  dismiss: "remove",
  again: "again",
  listen: "listen",
  compare: "compare",
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
      this.#ask(this.#status === "running" ? "cancel" : "remove");
    });
  }

  /**
   * Shows a take as it is now.
   * @param {Take} take
   * @param {boolean} isB  whether it is B
   * @param {boolean} heard  whether B is what one listens to
   * @param {boolean} playing
   */
  show(take, isB, heard, playing) {
    this.#id = take.id;
    this.#status = take.status;
    const { request, result } = take;
    this.classList.toggle("current", isB);
    for (const status of STATUSES) find(this, `.${status}`, HTMLElement).hidden = take.status !== status;
    this.#say(".title strong", take.title);
    this.#say(".title small", [...choicesOf(request), ...(result?.notes ?? [])].join(" · "));
    this.#say(".reuse", `seed ${request.seed}`);
    this.#say(".doing", take.doing);
    this.#say(".failed .error", take.error);
    const progress = find(this, "progress", HTMLProgressElement);
    progress.value = take.progress;
    progress.ariaLabel = take.title;
    this.#say(".listen", isB && heard && playing ? "Pause" : "Play");
    const compare = find(this, ".compare", HTMLButtonElement);
    compare.hidden = !request.clip;
    compare.setAttribute("aria-pressed", String(isB && heard));
    find(this, ".remove", HTMLButtonElement).ariaLabel = `Remove ${take.title}`;
    if (result) this.#showResult(take, result);
  }

  /** Focuses what one does first with it. */
  focusFirst() {
    const buttons = [".listen", ".again", ".cancel"].map((selector) =>
      find(this, selector, HTMLButtonElement),
    );
    (buttons.find((each) => each.checkVisibility()) ?? button("make")).focus();
  }

  /**
   * @param {Take} take
   * @param {import("./take.js").Result} result
   */
  #showResult(take, result) {
    const save = find(this, ".save", HTMLAnchorElement);
    if (save.href === result.url) return;
    save.href = result.url;
    save.download = fileName(take.request);
    save.ariaLabel = `Download ${take.title}`;
    find(this, "wave-form", Waveform).show(result.peaks, 1);
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
