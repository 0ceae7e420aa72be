// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { readHeader } from "../src/audio/header.js";
import { readSamples } from "../src/audio/wav-samples.js";

const [PCM, FLOAT, A_LAW, EXTENSIBLE] = [1, 3, 6, 0xfffe];

/**
 * A WAV file.
 * @param {{tag?: number, sub?: number, channels?: number, bits?: number, align?: number,
 *   data: Uint8Array, told?: number, before?: string, after?: number}} what  told: the size that its
 *   header says; before: a chunk in front; after: bytes behind
 * @returns {ArrayBuffer}
 */
function wav({ tag = PCM, sub = 0, channels = 1, bits = 16, align, data, told, before = "", after = 0 }) {
  const format = Buffer.alloc(tag === EXTENSIBLE ? 40 : 16);
  format.writeUInt16LE(tag, 0);
  format.writeUInt16LE(channels, 2);
  format.writeUInt32LE(96000, 4);
  format.writeUInt16LE(align ?? (channels * bits) / 8, 12);
  format.writeUInt16LE(bits, 14);
  if (tag === EXTENSIBLE) format.writeUInt16LE(sub, 24);
  /** @type {(name: string, content: Uint8Array, size?: number) => Buffer} */
  const chunk = (name, content, size = content.length) => {
    const head = Buffer.alloc(8);
    head.write(name, "latin1");
    head.writeUInt32LE(size, 4);
    return Buffer.concat([head, content, Buffer.alloc(content.length % 2)]);
  };
  const chunks = [chunk("fmt ", format), chunk("data", data, told), Buffer.alloc(after)];
  const inFront = before ? [chunk("LIST", Buffer.from(before))] : [];
  return new Uint8Array(Buffer.concat([Buffer.from("RIFF\0\0\0\0WAVE", "latin1"), ...inFront, ...chunks]))
    .buffer;
}

const data = new Uint8Array(48);

test("a WAV with other chunks around its samples", () => {
  for (const before of ["", "abc", "a".repeat(1000)]) {
    const header = readHeader(wav({ tag: FLOAT, bits: 32, data, before, after: 333 }));
    const { start, ...rest } = header ?? {};
    assert.deepEqual(rest, { kind: "WAV", rate: 96000, channels: 1, bits: 32, samples: 12, float: true });
    assert.equal(start, 44 + (before ? 8 + before.length + (before.length % 2) : 0));
  }
});

test("an RF64, whose size is in another chunk", () => {
  const size = Buffer.alloc(24);
  size.writeBigUInt64LE(48n, 8);
  const plain = Buffer.from(wav({ data, told: 0xffffffff }));
  const chunk = Buffer.concat([Buffer.from("ds64\x18\0\0\0", "latin1"), size]);
  const bytes = Buffer.concat([Buffer.from("RF64"), plain.subarray(4, 12), chunk, plain.subarray(12)]);
  assert.equal(readHeader(new Uint8Array(bytes).buffer)?.samples, 24);
  assert.equal(readHeader(new Uint8Array(bytes.subarray(0, -2)).buffer), null, "cut");
});

test("an extensible WAV is what its GUID says", () => {
  const told = (/** @type {number} */ sub, /** @type {number} */ bits) =>
    readHeader(wav({ tag: EXTENSIBLE, sub, bits, channels: 2, data }));
  assert.equal(told(PCM, 24)?.samples, 8);
  assert.equal(told(FLOAT, 64)?.float, true);
  assert.equal(told(A_LAW, 8), null);
});

test("the samples of FLAC, of which there may be more than 32 bits can count", () => {
  const flac = new DataView(new ArrayBuffer(26));
  for (const [n, letter] of [..."fLaC"].entries()) flac.setUint8(n, letter.charCodeAt(0));
  flac.setUint32(18, (44100 << 12) | (1 << 9) | (23 << 4) | 2);
  flac.setUint32(22, 7);
  const { kind, rate, channels, bits, samples } = readHeader(flac.buffer) ?? {};
  assert.deepEqual([kind, rate, channels, bits], ["FLAC", 44100, 2, 24]);
  assert.equal(samples, 2 ** 33 + 7);
});

test("the server reads what isn't plain, or whose header doesn't fit the file", () => {
  for (const told of [0, 49, 0x7fffffff, 0x80000000, 0xffffffff - 44, 0xffffffff]) {
    assert.equal(readHeader(wav({ data, told })), null, `a size of ${told}`);
  }
  const odd = [
    wav({ data, align: 0 }),
    wav({ data, align: 16 }),
    wav({ data, channels: 0 }),
    wav({ data, bits: 20, align: 3 }),
    wav({ data, bits: 12, align: 2 }),
    wav({ data, tag: A_LAW, bits: 8 }),
    wav({ data, tag: FLOAT, bits: 16 }),
  ];
  for (const [n, each] of odd.entries()) assert.equal(readHeader(each), null, String(n));
  for (const text of [
    "",
    "RIFF",
    "fLaC",
    "ID3 not a sound at all, but long enough",
    "RIFF    WAVE",
    "RF64    WAVE",
  ]) {
    assert.equal(readHeader(new TextEncoder().encode(text).buffer), null, text);
  }
  const whole = wav({ data });
  assert.equal(readHeader(whole.slice(0, 30)), null, "a cut header");
  assert.equal(readHeader(whole.slice(0, 60), whole.byteLength)?.samples, 24, "its beginning");
  assert.equal(readHeader(whole.slice(0, 60)), null, "a cut file");
});

/** A sample as bytes, for each of the formats. @type {[boolean, number, (at: Buffer, value: number) => void][]} */
const FORMATS = [
  [false, 16, (at, value) => at.writeInt16LE(value * 2 ** 15)],
  [false, 24, (at, value) => at.writeIntLE(value * 2 ** 23, 0, 3)],
  [false, 32, (at, value) => at.writeInt32LE(value * 2 ** 31)],
  [true, 32, (at, value) => at.writeFloatLE(value)],
  [true, 64, (at, value) => at.writeDoubleLE(value)],
];

test("the samples of a WAV, of each depth", async () => {
  const left = [0.5, -1, 0.25, 0];
  const right = [-0.5, 0.75, -0.125, 2 ** -15];
  for (const [float, bits, write] of FORMATS) {
    const width = bits / 8;
    const samples = Buffer.alloc(8 * width);
    for (const [n, value] of left.flatMap((each, n) => [each, right[n] ?? 0]).entries()) {
      write(samples.subarray(n * width), value);
    }
    const bytes = wav({ tag: float ? FLOAT : PCM, bits, channels: 2, data: samples, before: "x" });
    const header = readHeader(bytes);
    assert.ok(header);
    const found = await readSamples(bytes, header);
    assert.deepEqual(
      found.map((each) => [...each]),
      [left, right],
      `${bits} ${float}`,
    );
  }
});
