// @ts-check

import { decodeResult, fromBase64 } from "../audio/decode.js";
import { measurePeaks } from "../audio/peaks.js";
import { complain } from "../complaints.js";
import { announce } from "../dom.js";
import { formOf } from "../form/request.js";
import { EditError } from "../gateway/errors.js";
import { streamEdit } from "../gateway/gateway.js";
import { showCheckpoint } from "../gateway/server.js";
import {
  BEGINNING,
  changeTake,
  newWarnings,
  notesOf,
  progressIn,
  queuedIn,
  stageInWords,
  takeOf,
  titleOf,
} from "./take.js";

/**
 * @typedef {import("../form/request.js").EditRequest} EditRequest
 * @typedef {import("../state.js").PageStore} PageStore
 * @typedef {import("./take.js").Take} Take
 */

// How many of several takes run at once: a browser opens six connections to a host, and the page
// needs one for itself.
const CONCURRENCY = 4;

/** Makes takes: sends their edits and follows them to their end. */
export class Runner {
  #store;
  #ready;
  /** @type {string | null} */
  #session = null; // the gateway names it with the first edit
  #lastId = 0;
  /** Of the takes that run, by id. @type {Map<number, AbortController>} */
  #aborts = new Map();

  /**
   * @param {PageStore} store
   * @param {(take: Take) => void} ready  called with each take that is done
   */
  constructor(store, ready) {
    this.#store = store;
    this.#ready = ready;
  }

  /**
   * Makes one take of each request; the first stands first.
   * @param {readonly EditRequest[]} requests
   */
  async make(requests) {
    const takes = requests.map(
      (request) =>
        /** @type {Take} */ ({
          ...BEGINNING,
          id: ++this.#lastId,
          request,
          title: titleOf(request),
        }),
    );
    this.#store.set({ takes: [...takes, ...this.#store.value.takes] });
    const waiting = takes.values();
    const work = async () => {
      for (const { id } of waiting) if (takeOf(this.#store, id)) await this.#run(id);
    };
    await Promise.all(Array.from({ length: CONCURRENCY }, work));
  }

  /** Tries a failed take again. @param {number} id */
  again(id) {
    changeTake(this.#store, id, /** @type {Partial<Take>} */ (BEGINNING));
    this.#run(id);
  }

  /** Ends a running take on the server too. @param {number} id */
  cancel(id) {
    this.#aborts.get(id)?.abort();
    const take = this.#drop(id);
    if (take) announce(`${take.title} cancelled.`);
  }

  /** Takes a take that has ended off the page. @param {number} id */
  remove(id) {
    const take = this.#drop(id);
    if (take) announce(`${take.title} removed.`);
  }

  cancelAll() {
    for (const { id, status } of this.#store.value.takes) if (status === "running") this.cancel(id);
  }

  /** @param {number} id */
  #drop(id) {
    const { takes, b } = this.#store.value;
    const take = takeOf(this.#store, id);
    if (take?.result) URL.revokeObjectURL(take.result.url);
    this.#store.set({ takes: takes.filter((each) => each.id !== id), b: b?.id === id ? null : b });
    return take;
  }

  /**
   * One edit from the request to its end. What goes wrong is shown at the take.
   * @param {number} id
   */
  async #run(id) {
    const take = takeOf(this.#store, id);
    if (!take) return;
    const abort = new AbortController();
    this.#aborts.set(id, abort);
    try {
      let done = false;
      for await (const { event, data } of streamEdit(formOf(take.request, this.#session), abort.signal)) {
        if (event === "error") throw new EditError(data.error);
        if (event === "queued") this.#session ??= data.session_id;
        if (event === "queued") this.#follow(id, queuedIn(data));
        if (event === "progress") this.#follow(id, progressIn(data));
        if (event === "result") {
          await this.#finish(take, data, abort.signal);
          done = true;
        }
      }
      if (!done) throw new EditError("The connection closed before the take was ready.");
    } catch (error) {
      if (!abort.signal.aborted) this.#fail(take, error);
    } finally {
      this.#aborts.delete(id);
    }
  }

  /**
   * @param {number} id
   * @param {{stage?: string, progress?: number, doing: string}} change
   */
  #follow(id, change) {
    const take = takeOf(this.#store, id);
    if (change.stage && take && change.stage !== take.stage)
      announce(`${take.title}: ${stageInWords(change.stage)}`);
    changeTake(this.#store, id, change);
  }

  /**
   * @param {Take} take
   * @param {any} data  of the event
   * @param {AbortSignal} signal
   */
  async #finish(take, data, signal) {
    const bytes = await fromBase64(data.audio);
    const file = new Blob([bytes], { type: "audio/wav" });
    const { peaks } = await measurePeaks(await decodeResult(bytes.buffer));
    if (signal.aborted) return;
    if (data.info?.checkpoint) showCheckpoint(data.info.checkpoint);
    const result = {
      file,
      url: URL.createObjectURL(file),
      peaks,
      loudness: { clip: data.info?.clip_lufs, take: data.info?.result_lufs },
      notes: [...notesOf(data), ...newWarnings(data, take.request.clip)],
    };
    changeTake(this.#store, take.id, { status: "done", result });
    announce(`${take.title} is ready.`);
    this.#ready({ ...take, status: "done", result });
  }

  /**
   * @param {Take} take
   * @param {unknown} error
   */
  #fail(take, error) {
    const expected = error instanceof EditError;
    if (!expected) console.error(error);
    const text = expected ? error.message : "Can't read this take.";
    announce(`${take.title} failed: ${text}`);
    if (expected && error.field && complain(error.field, text)) this.#drop(take.id);
    else changeTake(this.#store, take.id, { status: "failed", error: text });
  }
}
