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
 * @property {number} [priority]
 * @property {string} [named]  for the file's name, in place of the variation
 */

/** Behind single takes in the server's queue. */
export const LOW_PRIORITY = 3;

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
 * The name of a take's file.
 * @param {EditRequest} request
 */
export const fileName = ({ clip, named, variation }) => `${clip?.stem ?? "new"}-${named ?? variation}.wav`;

/** Whether a variation is one of the server's. @param {string} variation */
export const isNamed = (variation) => variation !== "" && variation !== OWN_WORDS;
