// @ts-check
// A take from the request to its end, and the words for it. Takes are replaced, never changed.

import { inOneLine, inWords } from "../words.js";

/**
 * @typedef {import("../audio/levels.js").Loudness} Loudness
 * @typedef {import("../form/request.js").EditRequest} EditRequest
 * @typedef {import("../state.js").PageStore} PageStore
 */

/** Steps done, and how many there are. @typedef {readonly [number, number]} Steps */

/**
 * What a take would be from where its edit is.
 * @typedef {object} Preview
 * @property {Blob} file  FLAC
 * @property {Float32Array} peaks
 * @property {Loudness} loudness
 * @property {Steps} step
 */

/**
 * @typedef {object} Result
 * @property {Blob} file
 * @property {string} url  of the file, until the take is removed
 * @property {Float32Array} peaks
 * @property {Loudness} loudness
 * @property {Steps | null} unfinished  how far it came before it was stopped; null: to its end
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
 * @property {number | null} steps  of each solve; null: not known yet
 * @property {Preview | null} preview  the newest one
 * @property {Result | null} result  once it is done, or stopped
 */

/** What is the same in each take that begins. */
export const BEGINNING = {
  status: "running",
  stage: "",
  progress: 0,
  doing: "waiting",
  error: "",
  steps: null,
  preview: null,
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

/** What can be heard of a take: its result, or what it is going to be. @param {Take} take */
export const soundOf = (take) => take.result ?? take.preview;

/** The waveform that a forming take is compared with: its clip's. @param {Take} take */
export const outlineOf = ({ request, result }) => (result ? null : (request.clip?.peaks ?? null));

/** @param {Steps} step */
const stepInWords = ([done, total]) => `step ${done} of ${total}`;

/** What was chosen for a take, in words. @param {EditRequest} request */
export function choicesOf({ clip, duration, strength, part, loop, steps, draft }) {
  const words = [clip ? `strength ${+(strength ?? 0).toFixed(3)}` : `${duration} s from text`];
  if (steps) words.push(draft ? `draft of ${steps} steps` : `${steps} steps`);
  if (part) words.push(`${part.start.toFixed(2)} to ${part.end.toFixed(2)} s`);
  if (loop) words.push("loop");
  return words;
}

/** How far a take has come, where it isn't whole; in words. @param {Take} take */
export function stateOf({ result, preview }) {
  if (result) return result.unfinished ? [`unfinished, ${stepInWords(result.unfinished)}`] : [];
  return preview ? [`preview, ${stepInWords(preview.step)}`] : [];
}

/** Whether an edit of the same seed would go further. @param {Take} take */
export const canBeFinal = ({ request, result }) => Boolean(result && (request.draft || result.unfinished));

/** @param {Take} take */
export const factsOf = (take) =>
  inOneLine([...stateOf(take), ...choicesOf(take.request), `seed ${take.request.seed}`]);

/**
 * A preview as the end of a take that was stopped.
 * @param {Preview} preview
 * @returns {Result}
 */
export const keptOf = ({ file, peaks, loudness, step }) => ({
  file,
  url: URL.createObjectURL(file),
  peaks,
  loudness,
  unfinished: step,
  notes: [],
});

/**
 * How loud a clip is, and a result or a preview of it.
 * @param {{clip_lufs?: number | null, result_lufs?: number | null} | undefined} info
 * @returns {Loudness}
 */
export const loudnessOf = (info) => ({ clip: info?.clip_lufs, take: info?.result_lufs });

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

/**
 * The steps of a take's solves, as the first event of its generation tells; null: not known.
 * @param {number | null} known
 * @param {{stage: string, step: Steps}} event
 */
export const stepsIn = (known, { stage, step: [done, total] }) =>
  known ?? (stage === "generating" ? total - done : null);

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
