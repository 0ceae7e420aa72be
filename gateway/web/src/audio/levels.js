// @ts-check

/**
 * Loudness of a whole clip and of a whole take in LUFS, as the server's `info` has it. null: silent
 * or too short to have one; undefined: an older server, which doesn't say.
 * @typedef {{clip: number | null | undefined, take: number | null | undefined}} Loudness
 */

/**
 * Gains that make A and B equally loud. The louder one is turned down, so nothing clips.
 * @param {Loudness} loudness
 * @returns {{a: number, b: number}}  decibels, 0 or less
 */
export function matchingGains({ clip, take }) {
  if (clip == null || take == null) return { a: 0, b: 0 };
  return { a: Math.min(0, take - clip), b: Math.min(0, clip - take) };
}

/**
 * What is done to the levels of A and B, in words.
 * @param {Loudness} loudness
 */
export function levelsInWords(loudness) {
  const { clip, take } = loudness;
  if (clip === undefined || take === undefined) {
    return "A and B play at their own levels: this server doesn't report loudness.";
  }
  if (clip === null || take === null) {
    return "A and B play at their own levels: one is silent or under 0.4 s.";
  }
  const gains = matchingGains(loudness);
  const [louder, gain] = gains.a < gains.b ? ["A", gains.a] : ["B", gains.b];
  const lower = (-gain).toFixed(1);
  const turned = lower === "0.0" ? "no change needed" : `${louder} is turned down ${lower} dB`;
  return `A and B play at equal loudness (BS.1770): ${turned}.`;
}
