// @ts-check

import { decode } from "../audio/decode.js";
import { readHeader } from "../audio/header.js";
import { measurePeaks } from "../audio/peaks.js";
import { encodeWav } from "../audio/wav.js";
import { channelsInWords, inOneLine, rateInWords } from "../words.js";

const DECODED_RATE = 48000; // Hz, of files that don't say their rate before they are decoded

/**
 * @typedef {object} Clip
 * @property {string} name  with its extension
 * @property {string} stem  without
 * @property {Blob} upload  what is sent to the server
 * @property {"wav" | "wav24"} format  asked of results: 16 bits, or 24 where the clip has more
 * @property {string} facts  for people
 * @property {AudioBuffer} buffer
 * @property {number} peak  its largest absolute sample
 * @property {Float32Array} peaks  of its columns, as shares of `peak`
 */

/**
 * A file as a clip to edit: WAV and FLAC keep their bytes, anything else that the browser decodes
 * becomes WAV. Throws an Error in words for people.
 * @param {Blob} file
 * @param {string} name  with its extension
 * @returns {Promise<Clip>}
 */
export async function readClip(file, name) {
  const bytes = await file.arrayBuffer();
  const header = readHeader(bytes);
  /** @type {AudioBuffer} */
  let buffer;
  try {
    buffer = await decode(bytes, header?.rate ?? DECODED_RATE);
  } catch {
    throw new Error(
      `Can't read ${name} as audio. Use WAV or FLAC; most browsers also read MP3, M4A and OGG.`,
    );
  }
  const facts = header
    ? [header.kind, rateInWords(header.rate), channelsInWords(header.channels), `${header.bits} bit`]
    : [rateInWords(buffer.sampleRate), channelsInWords(buffer.numberOfChannels), "converted to WAV"];
  const { peak, peaks } = await measurePeaks(buffer);
  return {
    name,
    stem: name.replace(/\.[^.]*$/, "") || "clip",
    upload: header ? file : await encodeWav(buffer, peak),
    format: header && header.bits > 16 ? "wav24" : "wav",
    facts: inOneLine([`${buffer.duration.toFixed(1)} s`, ...facts]),
    buffer,
    peak,
    peaks,
  };
}
