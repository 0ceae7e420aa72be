// @ts-check
// A take from the request to its end, and the words for it. Takes are replaced, never changed.

import { inOneLine, inWords } from "../words.js";

/**
 * @typedef {import("../audio/levels.js").Loudness} Loudness
 * @typedef {import("../form/request.js").EditRequest} EditRequest
 * @typedef {import("../state.js").PageStore} PageStore
 */

/**
 * @typedef {object} Result
 * @property {Blob} file
 * @property {string} url  of the file, until the take is removed
 * @property {Float32Array} peaks
 * @property {Loudness} loudness
 * @property {readonly string[]} notes  what was done to its level, and to its clip if that isn't known
 */

/**
 * @typedef {object} Take
 * @property {number} id
 * @property {EditRequest} request
 * @property {string} title
 * @property {"running" | "done" | "failed"} status
 * @property {string} stage
 * @property {number} progress  0 to 100
 * @property {string} doing  what goes on, in words
 * @property {string} error
 * @property {Result | null} result  once it is done
 */

/** What is the same in each take that begins. */
export const BEGINNING = {
  status: "running",
  stage: "",
  progress: 0,
  doing: "waiting",
  error: "",
  result: null,
};

/** @type {Record<string, string>} */
const STAGES = {
  encoding: "reading the clip",
  inverting: "analysing the clip",
  generating: "generating",
  decoding: "writing the take",
};

const AWAY = "The server is restarting; your edit continues when it's back.";

/** @param {EditRequest} request */
export const titleOf = (request) => request.prompt ?? inWords(request.variation);

/** What was chosen for a take, in words. @param {EditRequest} request */
export function choicesOf({ clip, duration, strength, part, loop }) {
  if (!clip) return [`${duration} s from text`];
  const words = [`strength ${+(strength ?? 0).toFixed(3)}`];
  if (part) words.push(`${part.start.toFixed(2)} to ${part.end.toFixed(2)} s`);
  if (loop) words.push("loop");
  return words;
}

/** @param {EditRequest} request */
export const factsOf = (request) => inOneLine([...choicesOf(request), `seed ${request.seed}`]);

/**
 * What was done to a result's level beyond what was asked for, in words.
 * @param {{gain_db: number, info?: {loudness?: {limited_by: string | null, gain_db: number}}}} result
 */
export function notesOf({ gain_db: gain, info }) {
  if (info?.loudness?.limited_by) return ["quieter than requested: its peak is at -1 dBTP"];
  const unclipped = gain - (info?.loudness?.gain_db ?? 0);
  return unclipped < -0.05 ? [`turned down ${(-unclipped).toFixed(1)} dB to avoid clipping`] : [];
}

/**
 * What the server guessed or repaired in a clip that the page didn't know of.
 * @param {{warnings?: readonly string[]}} result
 * @param {Pick<import("../clip/clip.js").Clip, "warnings"> | null} clip
 */
export const newWarnings = ({ warnings = [] }, clip) =>
  warnings.filter((warning) => !clip?.warnings.includes(warning));

/**
 * How a waiting take goes on.
 * @param {{position: number, estimated_seconds: number, warming?: boolean}} queued
 */
export function queuedIn({ position, estimated_seconds: seconds, warming }) {
  if (warming) return { stage: "warming", doing: AWAY };
  const parts = ["waiting"];
  if (position > 0) parts.push(`${position} ahead`);
  if (seconds > 0) parts.push(`about ${Math.ceil(seconds)} s`);
  return { doing: parts.join(", ") };
}

/**
 * How a running take goes on.
 * @param {{progress: number, stage: string}} event
 */
export const progressIn = ({ progress, stage }) => ({
  stage,
  progress,
  doing: `${STAGES[stage] ?? stage}, ${Math.floor(progress)} %`,
});

/** What a stage is called aloud. @param {string} stage */
export const stageInWords = (stage) => (stage === "warming" ? AWAY : (STAGES[stage] ?? stage));

/**
 * The take with an id, as it is now.
 * @param {PageStore} store
 * @param {number} id
 */
export const takeOf = (store, id) => store.value.takes.find((take) => take.id === id);

/**
 * Replaces a take, if it is still there.
 * @param {PageStore} store
 * @param {number} id
 * @param {Partial<Take>} change
 */
export function changeTake(store, id, change) {
  store.set({ takes: store.value.takes.map((take) => (take.id === id ? { ...take, ...change } : take)) });
}
