// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBase64 } from "../src/audio/decode.js";
import { readHeader } from "../src/audio/header.js";
import { COLUMNS, measurePeaks } from "../src/audio/peaks.js";
import { encodeWav } from "../src/audio/wav.js";
import { PIECE } from "../src/pieces.js";

/** @param {readonly Float32Array<ArrayBuffer>[]} channels */
const sound = (...channels) => ({
  numberOfChannels: channels.length,
  length: channels[0]?.length ?? 0,
  sampleRate: 44100,
  getChannelData: (/** @type {number} */ n) => channels[n] ?? new Float32Array(),
});

/** @param {Blob} blob */
const samplesOf = async (blob) => new Int16Array((await blob.arrayBuffer()).slice(44));

test("what is encoded has a header that says what it is", async () => {
  const file = await encodeWav(sound(new Float32Array(5), new Float32Array(5)), 0);
  assert.deepEqual(readHeader(await file.arrayBuffer()), { kind: "WAV", rate: 44100, channels: 2, bits: 16 });
  assert.equal(file.size, 44 + 5 * 2 * 2);
});

test("samples are interleaved, and turned down where they exceed full scale", async () => {
  const left = Float32Array.of(1, -1, 0.5);
  const right = Float32Array.of(0, 0.25, -0.5);
  const plain = await encodeWav(sound(left, right), 1);
  assert.deepEqual([...(await samplesOf(plain))], [32767, 0, -32767, 8192, 16384, -16383]);
  const loud = await encodeWav(sound(Float32Array.of(2, -1)), 2);
  assert.deepEqual([...(await samplesOf(loud))], [32767, -16383]);
});

test("headers of WAV with other chunks first, of FLAC, and of no such file", () => {
  const wav = Buffer.concat([
    Buffer.from("RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0\x03\0\x01\0", "latin1"),
    Buffer.from(Uint32Array.of(96000, 0).buffer),
    Buffer.from(Uint16Array.of(4, 32).buffer),
  ]);
  const bytes = /** @type {ArrayBuffer} */ (new Uint8Array(wav).buffer);
  assert.deepEqual(readHeader(bytes), { kind: "WAV", rate: 96000, channels: 1, bits: 32 });
  const flac = new DataView(new ArrayBuffer(26));
  for (const [n, letter] of [..."fLaC"].entries()) flac.setUint8(n, letter.charCodeAt(0));
  flac.setUint32(18, (44100 << 12) | (1 << 9) | (23 << 4));
  assert.deepEqual(readHeader(flac.buffer), { kind: "FLAC", rate: 44100, channels: 2, bits: 24 });
  for (const text of ["", "RIFF", "fLaC", "not a sound at all, but long enough", "RIFF    WAVE"]) {
    assert.equal(readHeader(new TextEncoder().encode(text).buffer), null, text);
  }
});

test("peaks are of all channels, as shares of the largest", async () => {
  const left = new Float32Array(COLUMNS * 10);
  const right = new Float32Array(COLUMNS * 10);
  left[15] = -0.5;
  right[25] = 0.25;
  const { peak, peaks } = await measurePeaks(sound(left, right));
  assert.equal(peak, 0.5);
  assert.deepEqual([...peaks.subarray(0, 4)], [0, 1, 0.5, 0]);
  assert.equal(peaks.length, COLUMNS);
});

test("silence, and clips of fewer samples than columns, have peaks too", async () => {
  assert.equal((await measurePeaks(sound(new Float32Array(100)))).peak, 0);
  const { peaks } = await measurePeaks(sound(Float32Array.of(0.5, 0.25)));
  assert.deepEqual([...new Set(peaks)].sort(), [0, 0.5, 1]);
});

test("base64 of any length, also of more than one piece", async () => {
  for (const length of [0, 1, 2, 3, 1000, PIECE + 1]) {
    const bytes = Uint8Array.from({ length }, (_, n) => (n * 7) % 256);
    const found = await fromBase64(Buffer.from(bytes).toString("base64"));
    assert.ok(Buffer.from(found).equals(Buffer.from(bytes)), String(length));
  }
});
