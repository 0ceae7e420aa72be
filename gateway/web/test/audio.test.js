// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBase64, nextFlac } from "../src/audio/decode.js";
import { readHeader } from "../src/audio/header.js";
import { COLUMNS, measurePeaks } from "../src/audio/peaks.js";
import { encodeWav, wavBytes } from "../src/audio/wav.js";
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
  assert.deepEqual(readHeader(await file.arrayBuffer()), {
    kind: "WAV",
    rate: 44100,
    channels: 2,
    bits: 16,
    samples: 5,
    float: false,
    start: 44,
  });
  assert.equal(file.size, wavBytes(sound(new Float32Array(5), new Float32Array(5))));
});

test("samples are interleaved, and turned down where they exceed full scale", async () => {
  const left = Float32Array.of(1, -1, 0.5);
  const right = Float32Array.of(0, 0.25, -0.5);
  const plain = await encodeWav(sound(left, right), 1);
  assert.deepEqual([...(await samplesOf(plain))], [32767, 0, -32767, 8192, 16384, -16383]);
  const loud = await encodeWav(sound(Float32Array.of(2, -1)), 2);
  assert.deepEqual([...(await samplesOf(loud))], [32767, -16383]);
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

test("another FLAC behind a FLAC is found, wherever it begins", () => {
  const flac = Uint8Array.of(...[..."fLaC"].map((letter) => letter.charCodeAt(0)), 0x80, 0, 0, 34, 16, 0);
  assert.equal(nextFlac(flac), -1);
  for (const size of [0, 1, 5000]) {
    const near = new Uint8Array(size).fill(0x66);
    assert.equal(nextFlac(Uint8Array.from([...flac, ...near, ...flac])), flac.length + size);
    assert.equal(nextFlac(Uint8Array.from([...flac, ...near, ...flac.subarray(0, 7)])), -1);
  }
});
