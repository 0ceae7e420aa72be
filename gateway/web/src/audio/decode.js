// @ts-check

import { breathe, PIECE } from "../pieces.js";
import { readHeader } from "./header.js";
import { readSamples } from "./wav-samples.js";

/**
 * Decodes a file at a rate; the browser resamples where the file has another.
 * @param {ArrayBuffer} bytes  gone afterwards: copying many megabytes would hold up the page
 * @param {number} rate  Hz
 * @returns {Promise<AudioBuffer>}
 */
export function decode(bytes, rate) {
  return new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
}

/**
 * Decodes a WAV or FLAC file at its own rate to the samples that its header says. Throws where the
 * browser finds fewer.
 * @param {Blob} file
 * @param {import("./header.js").Header} header
 * @returns {Promise<AudioBuffer>}
 */
export async function decodeExactly(file, header) {
  const { kind, rate, channels: numberOfChannels, samples } = header;
  let bytes = await file.arrayBuffer();
  const next = kind === "FLAC" ? nextFlac(new Uint8Array(bytes)) : -1;
  if (next >= 0) {
    if (!samples) throw new Error("the browser can't decode joined FLACs");
    bytes = bytes.slice(0, next);
  }
  const decoded = await decode(bytes, rate).catch(() => null);
  const length = samples || (decoded?.length ?? 0);
  if (decoded?.length === length && decoded.numberOfChannels === numberOfChannels) return decoded;
  const buffer = new AudioBuffer({ numberOfChannels, length, sampleRate: rate });
  let channels = [];
  if (kind === "WAV") channels = await readSamples(await file.arrayBuffer(), header);
  else if (decoded && decoded.length > length) {
    // What follows the samples that a FLAC announces is no part of it.
    channels = Array.from({ length: numberOfChannels }, (_, n) =>
      decoded.getChannelData(n).subarray(0, length),
    );
  } else throw new Error("the browser can't decode this FLAC");
  for (const [channel, values] of channels.entries()) buffer.copyToChannel(values, channel);
  return buffer;
}

const FLAC = [..."fLaC"].map((letter) => letter.charCodeAt(0));
const STREAMINFO = [0, 0, 34]; // its length, behind a byte of flags

/**
 * Where another FLAC begins behind the first one, for whose frames browsers would take its own; -1 where
 * none does.
 * @param {Uint8Array} bytes
 */
export function nextFlac(bytes) {
  const isAt = (/** @type {number} */ start, /** @type {readonly number[]} */ wanted) =>
    wanted.every((byte, n) => bytes[start + n] === byte);
  let at = bytes.indexOf(FLAC[0] ?? 0, 1);
  while (at >= 0 && !(isAt(at, FLAC) && isAt(at + 5, STREAMINFO))) at = bytes.indexOf(FLAC[0] ?? 0, at + 1);
  return at;
}

/**
 * Decodes a result, which is WAV, or a preview, which is FLAC, at its own rate.
 * @param {ArrayBuffer} bytes  gone afterwards
 */
export function decodeResult(bytes) {
  const header = readHeader(bytes);
  if (!header) throw new Error("the result has no header");
  return decode(bytes, header.rate);
}

/**
 * Base64 to bytes, in pieces.
 * @param {string} text
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
export async function fromBase64(text) {
  const padding = text.endsWith("==") ? 2 : Number(text.endsWith("="));
  const bytes = new Uint8Array((text.length / 4) * 3 - padding);
  let at = 0;
  for (let start = 0; start < text.length; start += PIECE) {
    if (start) await breathe();
    const part = atob(text.slice(start, start + PIECE)); // PIECE is a multiple of 4
    for (let n = 0; n < part.length; n++) bytes[at++] = part.charCodeAt(n);
  }
  return bytes;
}
