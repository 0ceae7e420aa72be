// @ts-check

import { decodeResult, fromBase64 } from "../audio/decode.js";
import { measurePeaks } from "../audio/peaks.js";
import { complain } from "../complaints.js";
import { announce } from "../dom.js";
import { formOf } from "../form/request.js";
import { EditError } from "../gateway/errors.js";
import { getPreview, streamEdit } from "../gateway/gateway.js";
import { showCheckpoint } from "../gateway/server.js";
import { Previewer } from "./previewer.js";
import {
  BEGINNING,
  changeTake,
  keptOf,
  loudnessOf,
  newWarnings,
  notesOf,
  progressIn,
  queuedIn,
  stageInWords,
  stateOf,
  stepsIn,
  takeOf,
  titleOf,
} from "./take.js";

/**
 * @typedef {import("../form/request.js").EditRequest} EditRequest
 * @typedef {import("../state.js").PageStore} PageStore
 * @typedef {import("./take.js").Preview} Preview
 * @typedef {import("./take.js").Take} Take
 */

/**
 * Whoever plays takes.
 * @typedef {object} Listener
 * @property {(take: Take, first: boolean) => Promise<void>} preview  it has a newer preview
 * @property {(take: Take) => void} offer  it is done
 */

// How many of several takes run at once: a browser opens six connections to a host, and the page
// needs one for itself.
const CONCURRENCY = 4;

/** Makes takes: sends their edits and follows them to their end. */
export class Runner {
  #store;
  #listener;
  /** @type {string | null} */
  #session = null; // the gateway names it with the first edit
  #lastId = 0;
  /** Of the takes that run, by id. @type {Map<number, AbortController>} */
  #aborts = new Map();

  /**
   * @param {PageStore} store
   * @param {Listener} listener
   */
  constructor(store, listener) {
    this.#store = store;
    this.#listener = listener;
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

  /**
   * Ends a running take, on the server too. What was heard of it last stays, as an unfinished take.
   * @param {number} id
   */
  stop(id) {
    const take = takeOf(this.#store, id);
    if (!take?.preview) {
      this.remove(id);
      return;
    }
    this.#aborts.get(id)?.abort();
    const kept = { ...take, status: /** @type {const} */ ("done"), result: keptOf(take.preview) };
    changeTake(this.#store, id, kept);
    announce(`${take.title} stopped: ${stateOf(kept)}.`);
    this.#listener.offer(kept);
  }

  /** Takes a take off the page; one that runs ends, on the server too. @param {number} id */
  remove(id) {
    this.#aborts.get(id)?.abort();
    const take = this.#drop(id);
    if (take) announce(`${take.title} ${take.status === "running" ? "cancelled" : "removed"}.`);
  }

  cancelAll() {
    for (const { id, status } of this.#store.value.takes) if (status === "running") this.remove(id);
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
    const previewer = new Previewer(readPreview, (preview) => this.#preview(id, preview));
    abort.signal.addEventListener("abort", () => previewer.end());
    try {
      let done = false;
      for await (const { event, data } of streamEdit(formOf(take.request, this.#session), abort.signal)) {
        if (event === "error") throw new EditError(data.error);
        if (event === "queued") this.#session ??= data.session_id;
        if (event === "queued") this.#follow(id, queuedIn(data));
        if (event === "progress") this.#follow(id, progressIn(data), data);
        if (event === "preview") previewer.tell(data);
        if (event === "result") {
          previewer.end();
          await this.#finish(take, data, abort.signal);
          done = true;
        }
      }
      if (!done) throw new EditError("The connection closed before the take was ready.");
    } catch (error) {
      if (!abort.signal.aborted) this.#fail(take, error);
    } finally {
      previewer.end();
      this.#aborts.delete(id);
    }
  }

  /**
   * @param {number} id
   * @param {{stage?: string, progress?: number, doing: string}} change
   * @param {{stage: string, step: import("./take.js").Steps} | null} progress
   */
  #follow(id, change, progress = null) {
    const take = takeOf(this.#store, id);
    if (!take) return;
    if (change.stage && change.stage !== take.stage) announce(`${take.title}: ${stageInWords(change.stage)}`);
    const steps = progress ? stepsIn(take.steps, progress) : take.steps;
    changeTake(this.#store, id, { ...change, steps });
  }

  /**
   * @param {number} id
   * @param {Preview} preview
   */
  async #preview(id, preview) {
    const before = takeOf(this.#store, id);
    if (!before) return;
    const first = !before.preview;
    if (first) announce(`${before.title}: a preview can be played.`);
    changeTake(this.#store, id, { preview });
    await this.#listener.preview({ ...before, preview }, first);
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
      loudness: loudnessOf(data.info),
      unfinished: null,
      notes: [...notesOf(data), ...newWarnings(data, take.request.clip)],
    };
    changeTake(this.#store, take.id, {
      status: "done",
      steps: data.info?.parameters?.steps ?? null,
      result,
    });
    announce(`${take.title} is ready.`);
    const done = takeOf(this.#store, take.id);
    if (done) this.#listener.offer(done);
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

/**
 * @param {{url: string, step: import("./take.js").Steps}} event
 * @param {AbortSignal} signal
 * @returns {Promise<Preview>}
 */
async function readPreview({ url, step: [, total] }, signal) {
  const { file, step, info } = await getPreview(url, signal);
  const { peaks } = await measurePeaks(await decodeResult(await file.arrayBuffer()));
  return { file, peaks, loudness: loudnessOf(info), step: [step, total] };
}
