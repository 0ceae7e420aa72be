// @ts-check
// What is asked of the gateway, and the form fields that say it.

import { OWN_WORDS } from "../state.js";

/**
 * @typedef {import("../clip/clip.js").Clip} Clip
 * @typedef {import("../clip/region.js").Part} Part
 */

/**
 * One edit of a clip, or new music where `clip` is null.
 * @typedef {object} EditRequest
 * @property {Clip | null} clip
 * @property {number} seed
 * @property {string} loudness  "source", "none" or a number of LUFS
 * @property {string} variation
 * @property {string | null} prompt  the user's own words
 * @property {number} [strength]  of an edit: 1 - flowstep
 * @property {Part | null} [part]
 * @property {boolean} [loop]
 * @property {number} [duration]  seconds, of new music
 * @property {number} [steps]  in place of the variation's own
 * @property {boolean} [draft]  few steps, to choose by
 * @property {number} [priority]
 * @property {string} [named]  for the file's name, in place of the variation
 */

/** Behind single takes in the server's queue. */
export const LOW_PRIORITY = 3;

const DRAFT_STEPS = 4; // near the final take, at a sixth of its cost: docs/operations.md
const PREVIEWS = 8; // of one edit, at most

/**
 * Whether previews, which are FLAC, can have a rate (RFC 9639, 9.1.2).
 * @param {number} rate  Hz
 */
const inFlac = (rate) => rate <= 65535 || rate % 10 === 0;

/**
 * The fields of a request's form, without the audio.
 * @param {EditRequest} request
 * @param {string | null} session
 * @returns {Record<string, string>}
 */
export function fieldsOf(request, session) {
  const { clip, part } = request;
  const fields = {
    ...(clip && {
      strength: request.strength?.toFixed(3),
      // Beside a part the samples stay as they are, also those above full scale.
      format: part && clip.peak > 1 ? "wav32f" : clip.format,
      loop: request.loop || undefined,
      start: part?.start,
      end: part && part.end < clip.buffer.duration ? part.end : undefined,
    }),
    duration: request.duration,
    variation: request.variation,
    custom_prompt: request.prompt,
    seed: request.seed,
    loudness: request.loudness,
    steps: request.steps,
    previews: !clip || inFlac(clip.buffer.sampleRate) ? PREVIEWS : undefined,
    priority: request.priority,
    session_id: session,
  };
  const said = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(said.map(([name, value]) => [name, String(value)]));
}

/**
 * @param {EditRequest} request
 * @param {string | null} session
 */
export function formOf(request, session) {
  const form = new FormData();
  if (request.clip) form.set("audio", request.clip.upload, request.clip.name);
  for (const [name, value] of Object.entries(fieldsOf(request, session))) form.set(name, value);
  return form;
}

/**
 * The seed that was typed; null for none, undefined for what is no seed.
 * @param {string} text
 * @param {number} highest
 */
export function readSeed(text, highest) {
  const typed = text.trim();
  if (!typed) return null;
  return /^\d+$/.test(typed) && Number(typed) <= highest ? Number(typed) : undefined;
}

/**
 * The seed that many after another one; after the highest comes 0.
 * @param {number} seed
 * @param {number} count
 * @param {number} highest
 */
export const seedAfter = (seed, count, highest) => (seed + count) % (highest + 1);

/**
 * Several takes of one request, each with the next seed.
 * @param {EditRequest} request
 * @param {number} count
 * @param {number} highest  seed
 * @returns {EditRequest[]}
 */
export function takesOf(request, count, highest) {
  return Array.from({ length: count }, (_, n) => {
    const seed = seedAfter(request.seed, n, highest);
    return { ...request, seed, named: `${request.variation}-${seed}`, priority: LOW_PRIORITY };
  });
}

/**
 * One request for each of several variations.
 * @param {EditRequest} request
 * @param {readonly string[]} names  of variations
 * @param {(name: string) => number | undefined} strengthOf  a variation's
 * @returns {EditRequest[]}
 */
export function sweepOf(request, names, strengthOf) {
  return names.map((variation) => ({
    ...request,
    ...(request.clip && { strength: strengthOf(variation) }),
    variation,
    prompt: null,
    priority: LOW_PRIORITY,
  }));
}

/**
 * The same edit with few steps.
 * @param {EditRequest} request
 * @returns {EditRequest}
 */
export const draftOf = (request) => ({ ...request, steps: DRAFT_STEPS, draft: true });

/**
 * The edit that a draft is a draft of, or one once more, in front of takes that are made by the dozen.
 * @param {EditRequest} request
 * @returns {EditRequest}
 */
export function finalOf({ steps, draft, priority, ...request }) {
  return draft || steps === undefined ? request : { ...request, steps };
}

/**
 * The same edit with twice as many steps, or the most that the server takes; null: there are no more.
 * @param {EditRequest} request
 * @param {number | null} steps  that it has; null: not known
 * @param {number} highest
 * @returns {EditRequest | null}
 */
export function refinedOf(request, steps, highest) {
  const more = 2 * Math.floor(Math.min(2 * (steps ?? 0), highest) / 2); // even, for midpoint
  return steps && more > steps ? { ...finalOf(request), steps: more } : null;
}

/**
 * The name of a take's file. A refined or unfinished one doesn't take that of the whole.
 * @param {EditRequest} request
 * @param {readonly [number, number] | null} [unfinished]  steps done, of how many
 */
export function fileName({ clip, named, variation, draft, steps }, unfinished = null) {
  const parts = [clip?.stem ?? "new", named ?? variation];
  if (draft) parts.push("draft");
  else if (steps) parts.push(`${steps}-steps`);
  if (unfinished) parts.push(`unfinished-${unfinished[0]}-of-${unfinished[1]}`);
  return `${parts.join("-")}.${unfinished ? "flac" : "wav"}`;
}

/** Whether a variation is one of the server's. @param {string} variation */
export const isNamed = (variation) => variation !== "" && variation !== OWN_WORDS;
