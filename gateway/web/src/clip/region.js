// @ts-check
// The part of a clip that is to change: between its text fields, seconds and shares of a waveform.

/** @typedef {{start: number, end: number}} Part  seconds into the clip */

/**
 * The part that two fields say; null: the whole clip.
 * @param {string} start  as typed; "": from the clip's start
 * @param {string} end  as typed; "": to the clip's end
 * @param {number} duration  seconds, of the clip
 * @returns {Part | null}
 */
export function readPart(start, end, duration) {
  if (!start && !end) return null;
  return { start: Number(start), end: end ? Number(end) : duration };
}

/**
 * The fields for a part between two points, in either order, made long enough to be edited.
 * @param {number} one  seconds
 * @param {number} other  seconds
 * @param {number} duration  seconds, of the clip
 * @param {number} shortest  seconds that a part must have
 * @returns {{start: string, end: string}}  "" where it starts or ends with the clip
 */
export function writePart(one, other, duration, shortest) {
  const start = Math.max(0, Math.min(one, other, duration - shortest));
  const end = Math.max(one, other, start + shortest + 0.01); // it is rounded to hundredths
  return { start: start > 0 ? start.toFixed(2) : "", end: end < duration ? end.toFixed(2) : "" };
}

/**
 * Whether the server can edit a part.
 * @param {Part | null} part
 * @param {number} duration  seconds, of the clip
 * @param {number} shortest  seconds that a part must have
 */
export function isPart(part, duration, shortest) {
  if (!part) return true;
  return part.start >= 0 && part.end - part.start > shortest - 1e-6 && part.end < duration + 0.01;
}

/**
 * A part as shares of its clip, for drawing; null for none.
 * @param {Part | null | undefined} part
 * @param {number} duration  seconds
 * @returns {[number, number] | null}
 */
export function sharesOf(part, duration) {
  if (!part || !(part.start < part.end)) return null;
  return [Math.min(1, part.start / duration), Math.min(1, part.end / duration)];
}
