// @ts-check

import { breathe, PIECE } from "../pieces.js";

const HEADER = 44; // bytes
const WIDTH = 2; // bytes of a sample

/**
 * What is encoded: an AudioBuffer, or anything like it.
 * @typedef {Pick<AudioBuffer, "numberOfChannels" | "length" | "sampleRate" | "getChannelData">} Sound
 */

/** How large encodeWav() makes a sound, in bytes. @param {Pick<Sound, "numberOfChannels" | "length">} sound */
export const wavBytes = ({ numberOfChannels, length }) => HEADER + length * numberOfChannels * WIDTH;

/**
 * A WAV file of 16 bits: what is decoded here lost more before, and the server's limits are in
 * bytes. Turned down where the sound exceeds full scale.
 * @param {Sound} sound
 * @param {number} peak  its largest absolute sample
 * @returns {Promise<Blob>}
 */
export async function encodeWav(sound, peak) {
  const { numberOfChannels: channels, length } = sound;
  const view = new DataView(new ArrayBuffer(wavBytes(sound)));
  writeHeader(view, channels, sound.sampleRate);
  const scale = 32767 / Math.max(1, peak);
  for (let channel = 0; channel < channels; channel++) {
    const samples = sound.getChannelData(channel);
    for (let first = 0; first < length; first += PIECE) {
      const last = Math.min(first + PIECE, length);
      for (let n = first; n < last; n++) {
        const sample = Math.round((samples[n] ?? 0) * scale);
        view.setInt16(HEADER + (n * channels + channel) * WIDTH, sample, true);
      }
      await breathe();
    }
  }
  return new Blob([view.buffer], { type: "audio/wav" });
}

/**
 * @param {DataView<ArrayBuffer>} view  of the whole file
 * @param {number} channels
 * @param {number} rate  Hz
 */
function writeHeader(view, channels, rate) {
  /** @type {(at: number, tag: string) => void} */
  const text = (at, tag) => {
    for (let n = 0; n < tag.length; n++) view.setUint8(at + n, tag.charCodeAt(n));
  };
  text(0, "RIFF");
  view.setUint32(4, view.byteLength - 8, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, channels, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * channels * WIDTH, true);
  view.setUint16(32, channels * WIDTH, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, view.byteLength - HEADER, true);
}
