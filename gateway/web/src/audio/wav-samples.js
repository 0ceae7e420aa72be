// @ts-check

import { breathe, PIECE } from "../pieces.js";

/**
 * How a sample is read, by its bits; full scale at 1.
 * @type {Record<number, (view: DataView, at: number) => number>}
 */
const PCM = {
  16: (view, at) => view.getInt16(at, true) / 2 ** 15,
  24: (view, at) => (view.getInt16(at + 1, true) * 256 + view.getUint8(at)) / 2 ** 23,
  32: (view, at) => view.getInt32(at, true) / 2 ** 31,
};
/** @type {typeof PCM} */
const FLOAT = {
  32: (view, at) => view.getFloat32(at, true),
  64: (view, at) => view.getFloat64(at, true),
};

/**
 * The samples of a WAV file, one array for each channel; in pieces. For what browsers don't decode,
 * such as floats of 64 bits.
 * @param {ArrayBuffer} bytes
 * @param {import("./header.js").Header} header
 */
export async function readSamples(bytes, { start, samples, channels, bits, float }) {
  const read = (float ? FLOAT : PCM)[bits];
  if (!read) throw new Error(`WAV of ${bits} bits`);
  const view = new DataView(bytes);
  const width = bits / 8;
  const found = [];
  for (let channel = 0; channel < channels; channel++) {
    const values = new Float32Array(samples);
    for (let first = 0; first < samples; first += PIECE) {
      const last = Math.min(first + PIECE, samples);
      for (let n = first; n < last; n++) values[n] = read(view, start + (n * channels + channel) * width);
      await breathe();
    }
    found.push(values);
  }
  return found;
}
