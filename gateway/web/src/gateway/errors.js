// @ts-check

/** Inputs of the page whose field at the gateway has another name, or whose errors show elsewhere.
 * @type {Record<string, string>} */
const INPUTS = { custom_prompt: "prompt", end: "start", loudness: "lufs" };

const NAMED = /^(audio|prompt|custom_prompt|seed|start|end|loudness|duration): (.*)$/s;

/** A refused or failed edit, in words for people. */
export class EditError extends Error {
  /**
   * @param {string} message  as the gateway says it: "field: what is wrong"
   * @param {number} [status]  of its answer; 0: there was none, or it is an event
   */
  constructor(message, status = 0) {
    const [, name, rest] = NAMED.exec(message) ?? [];
    const said = rest ?? message;
    super(said.charAt(0).toUpperCase() + said.slice(1));
    /** What is wrong, as a part of a sentence. */
    this.said = said;
    this.status = status;
    /** The input that it is about, where the text names one. @type {string | null} */
    this.field = name ? (INPUTS[name] ?? name) : null;
  }
}

/** @type {Record<number, string>} */
const KNOWN = {
  401: "You are signed out. Reload the page to sign in again. Takes you haven't downloaded will be lost.",
  413: "audio: this file is too large for the server. FLAC files are smaller.",
  429: "The server is busy.",
  503: "Can't reach the music server.",
};

/**
 * The words for an answer that isn't a stream.
 * @param {number} status
 * @param {unknown} said  the `error` of its body
 * @param {number} wait  seconds, of Retry-After; NaN or 0: it has none
 */
export function refusalOf(status, said, wait) {
  const own = typeof said === "string" && ![401, 413].includes(status) ? said : null;
  const message = own ?? KNOWN[status] ?? `The server answered with status ${status}.`;
  return new EditError(wait > 0 ? `${message} Try again in ${wait} s.` : message, status);
}
