// @ts-check

import { decode, decodeExactly } from "../audio/decode.js";
import { HEAD_BYTES, readHeader } from "../audio/header.js";
import { measurePeaks } from "../audio/peaks.js";
import { encodeWav, wavBytes } from "../audio/wav.js";
import { EditError } from "../gateway/errors.js";
import { decodeThere } from "../gateway/gateway.js";
import { channelsInWords, inOneLine, mebibytes, rateInWords } from "../words.js";

const DECODED_RATE = 48000; // Hz, of files that don't say their rate before they are decoded
const FORM_BYTES = 1 << 14; // of an edit's form beside its file
// What the server can't do with a file, and a browser perhaps can. It is not for a server that is
// busy, or that one has to sign in to.
const UNREADABLE = [400, 413, 500, 504];

/**
 * @typedef {object} Clip
 * @property {string} name  with its extension
 * @property {string} stem  without
 * @property {Blob} upload  what is sent to the server
 * @property {"wav" | "wav24"} format  asked of results: 16 bits, or 24 where the clip has more
 * @property {string} facts  for people
 * @property {readonly string[]} warnings  what was guessed or repaired, as the server says it
 * @property {string} note  why the browser decoded it, in words; ""
 * @property {AudioBuffer} buffer  sample by sample what the server edits
 * @property {number} peak  its largest absolute sample
 * @property {Float32Array} peaks  of its columns, as shares of `peak`
 */

/**
 * What the server takes at most; Infinity where it doesn't say.
 * @typedef {{bodyBytes: number, seconds: number}} Most
 */

/**
 * A file as a clip to edit. Its bytes are sent as they are, and the server decodes them: A is what
 * the server makes of them, so that A and B are in step. What the server can't take the browser
 * decodes, and the clip's note says so. Throws an Error in words for people.
 * @param {Blob} file
 * @param {string} name  with its extension
 * @param {Most} most
 * @param {AbortSignal} signal
 * @returns {Promise<Clip>}
 */
export async function readClip(file, name, most, signal) {
  const fits = file.size + FORM_BYTES <= most.bodyBytes;
  if (!fits) return decodeHere(file, name, most, tooLarge(most));
  const header = await headerOf(file);
  // Every decoder makes the same samples of these.
  if (header && header.channels <= 2) {
    const buffer = await decodeExactly(file, header).catch(() => null);
    if (buffer) {
      const { kind, rate, channels, bits } = header;
      const facts = [kind, rateInWords(rate), channelsInWords(channels), `${bits} bit`];
      return clipOf(name, buffer, { file, bits, facts });
    }
  }
  try {
    const { decoded, warnings } = await decodeThere(file, name, signal);
    const its = readHeader(await decoded.arrayBuffer());
    if (!its) throw new Error(`Your browser can't read what the server made of ${name}.`);
    const { rate, channels, bits } = its;
    const facts = [rateInWords(rate), channelsInWords(channels), "decoded by the server"];
    return clipOf(name, await decodeExactly(decoded, its), { file, bits, facts, warnings });
  } catch (error) {
    if (!(error instanceof EditError && UNREADABLE.includes(error.status))) throw error;
    return decodeHere(file, name, most, `The server can't read it: “${error.said}”.`);
  }
}

/**
 * A file as a clip that the browser decodes, and that is sent as WAV. Throws an Error in words.
 * @param {Blob} file
 * @param {string} name
 * @param {Most} most
 * @param {string} [why]  the browser does, in a sentence
 */
export async function decodeHere(file, name, most, why = "") {
  const rate = (await headerOf(file))?.rate ?? DECODED_RATE;
  const buffer = await file
    .arrayBuffer()
    .then((bytes) => decode(bytes, rate))
    .catch(() => null);
  if (!buffer) throw new Error(`Can't read ${name} as audio. ${why}`.trim());
  const { duration, numberOfChannels: channels } = buffer;
  if (duration > most.seconds) {
    throw new Error(`${name} has ${duration.toFixed(1)} s; the server takes ${most.seconds} s at most.`);
  }
  const bytes = wavBytes(buffer);
  if (bytes + FORM_BYTES > most.bodyBytes) {
    throw new Error(
      `${name} is too long: as WAV it has ${mebibytes(bytes)}, and the server takes ${mebibytes(most.bodyBytes)}.`,
    );
  }
  const facts = [rateInWords(rate), channelsInWords(channels), "decoded by your browser"];
  const note = why && `${why} Your browser decoded it, and sends it as 16-bit WAV at ${rateInWords(rate)}.`;
  return clipOf(name, buffer, { file: null, bits: 16, facts, note });
}

/** @param {Most} most */
const tooLarge = ({ bodyBytes }) =>
  `This file is larger than the ${mebibytes(bodyBytes)} that the server takes.`;

/** @param {Blob} file */
const headerOf = async (file) => readHeader(await file.slice(0, HEAD_BYTES).arrayBuffer(), file.size);

/**
 * @param {string} name
 * @param {AudioBuffer} buffer
 * @param {object} about
 * @param {Blob | null} about.file  what is sent; null: the buffer as WAV
 * @param {number} about.bits  of its samples
 * @param {readonly string[]} about.facts
 * @param {readonly string[]} [about.warnings]
 * @param {string} [about.note]
 * @returns {Promise<Clip>}
 */
async function clipOf(name, buffer, { file, bits, facts, warnings = [], note = "" }) {
  const { peak, peaks } = await measurePeaks(buffer);
  return {
    name,
    stem: name.replace(/\.[^.]*$/, "") || "clip",
    upload: file ?? (await encodeWav(buffer, peak)),
    format: bits > 16 ? "wav24" : "wav",
    facts: inOneLine([`${buffer.duration.toFixed(1)} s`, ...facts]),
    warnings,
    note,
    buffer,
    peak,
    peaks,
  };
}
