// @ts-check

import { Store } from "./store.js";

/**
 * @typedef {import("./clip/clip.js").Clip} Clip
 * @typedef {import("./clip/region.js").Part} Part
 * @typedef {import("./library/presets.js").Presets} Presets
 * @typedef {import("./takes/take.js").Take} Take
 */

/**
 * What the player does.
 * @typedef {object} Playback
 * @property {boolean} playing
 * @property {"a" | "b"} side  the one that is heard
 * @property {boolean} loop
 * @property {number} duration  seconds; 0: there is nothing to play
 */

/**
 * @typedef {object} State
 * @property {Clip | null} clip  A; null: takes are made from text alone
 * @property {Clip | null} putAway  the clip that was A before
 * @property {Part | null} part  what of the clip is to change; null: all of it
 * @property {Take | null} b  the take that is B
 * @property {readonly Take[]} takes  newest first
 * @property {Presets} presets
 * @property {string} variation  its name, or OWN_WORDS
 * @property {Record<string, number | null>} limits  the server's, by setting; null: it doesn't say
 * @property {number} bodyBytes  that a request may have; Infinity: not known yet
 * @property {Record<string, {lowest: number | null, highest: number | null}>} fields  their ranges
 * @property {Playback} playback
 */

/** @typedef {Store<State>} PageStore */

/** The variation of a take made from the user's own words. */
export const OWN_WORDS = "custom";

/** @returns {PageStore} */
export function createStore() {
  return new Store({
    clip: null,
    putAway: null,
    part: null,
    b: null,
    takes: [],
    presets: {},
    variation: "",
    limits: {},
    bodyBytes: Number.POSITIVE_INFINITY,
    fields: {},
    playback: { playing: false, side: "a", loop: true, duration: 0 },
  });
}

/**
 * Makes a clip A, or takes it away (null). A new A has no part and no B yet.
 * @param {PageStore} store
 * @param {Clip | null} clip
 */
export function setClip(store, clip) {
  const { clip: before, putAway } = store.value;
  store.set({ clip, putAway: clip ? putAway : (before ?? putAway), part: null, b: null });
}
