// @ts-check

import { breathe, PIECE } from "../pieces.js";

export const COLUMNS = 600; // kept of a waveform

/**
 * The largest absolute sample, and as a share of it that of each of COLUMNS columns; in pieces.
 * @param {import("./wav.js").Sound} sound
 * @returns {Promise<{peak: number, peaks: Float32Array}>}
 */
export async function measurePeaks(sound) {
  const columns = new Float32Array(COLUMNS);
  let work = 0;
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    const samples = sound.getChannelData(channel);
    for (let column = 0; column < COLUMNS; column++) {
      const first = Math.ceil((column * samples.length) / COLUMNS);
      const last = Math.ceil(((column + 1) * samples.length) / COLUMNS);
      let largest = columns[column] ?? 0;
      for (let n = first; n < last; n++) largest = Math.max(largest, Math.abs(samples[n] ?? 0));
      columns[column] = largest;
      work += last - first;
      if (work > PIECE) {
        work = 0;
        await breathe();
      }
    }
  }
  const peak = columns.reduce((largest, each) => Math.max(largest, each), 0);
  return { peak, peaks: columns.map((each) => each / (peak || 1)) };
}
