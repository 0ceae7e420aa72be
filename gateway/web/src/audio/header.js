// @ts-check

/**
 * @typedef {object} Header
 * @property {"WAV" | "FLAC"} kind
 * @property {number} rate  Hz
 * @property {number} channels
 * @property {number} bits  of a sample
 * @property {number} samples  per channel; 0: a FLAC that doesn't say
 * @property {boolean} float  whether samples are floats
 * @property {number} start  bytes before the samples of a WAV; 0 for FLAC
 */

export const HEAD_BYTES = 1 << 16; // of a file, in which its header is

const [PCM, FLOAT, EXTENSIBLE] = [1, 3, 0xfffe]; // WAVE_FORMAT_*
const ELSEWHERE = 0xffffffff; // the size is in the chunk ds64 (EBU 3306)

/**
 * What the header of a plain WAV or FLAC file says. null for any other file, and for a WAV whose
 * sizes don't fit the file: only the server knows how those are read.
 * @param {ArrayBuffer} bytes  HEAD_BYTES of the file at least, or all of it
 * @param {number} [size]  bytes of the whole file
 * @returns {Header | null}
 */
export function readHeader(bytes, size = bytes.byteLength) {
  const view = new DataView(bytes);
  const first = tagAt(view, 0);
  if (first === "fLaC") return view.byteLength >= 26 ? readFlac(view) : null;
  return ["RIFF", "RF64"].includes(first) && tagAt(view, 8) === "WAVE" ? readWav(view, size) : null;
}

/**
 * @param {DataView} view
 * @param {number} at
 */
const tagAt = (view, at) =>
  at + 4 <= view.byteLength ? String.fromCharCode(...new Uint8Array(view.buffer, at, 4)) : "";

/**
 * @param {DataView} view
 * @param {number} size  bytes of the whole file
 * @returns {Header | null}
 */
function readWav(view, size) {
  /** @type {Omit<Header, "samples" | "start"> | null} */
  let format = null;
  let longSize = 0;
  let at = 12;
  while (at + 8 <= view.byteLength) {
    const [tag, told] = [tagAt(view, at), view.getUint32(at + 4, true)];
    const start = at + 8;
    const length = tag === "data" && told === ELSEWHERE ? longSize : told;
    if (tag === "data") {
      const frame = format ? (format.channels * format.bits) / 8 : 0;
      if (!format || !length || start + length > size) return null;
      return { ...format, samples: Math.floor(length / frame), start };
    }
    if (tag === "fmt ") format = readFormat(view, start, length);
    if (tag === "ds64" && start + 16 <= view.byteLength)
      longSize = Number(view.getBigUint64(start + 8, true));
    at = start + length + (length % 2);
  }
  return null;
}

/**
 * @param {DataView} view
 * @param {number} at  where the chunk's content begins
 * @param {number} length  of it
 * @returns {Omit<Header, "samples" | "start"> | null}
 */
function readFormat(view, at, length) {
  if (length < 16 || at + length > view.byteLength) return null;
  let tag = view.getUint16(at, true);
  if (tag === EXTENSIBLE && length >= 40) tag = view.getUint16(at + 24, true); // of its GUID
  const channels = view.getUint16(at + 2, true);
  const bits = view.getUint16(at + 14, true);
  const align = view.getUint16(at + 12, true);
  const depths = { [PCM]: [8, 16, 24, 32], [FLOAT]: [32, 64] }[tag] ?? [];
  if (!channels || !depths.includes(bits) || align !== (channels * bits) / 8) return null;
  return { kind: "WAV", channels, rate: view.getUint32(at + 4, true), bits, float: tag === FLOAT };
}

/**
 * STREAMINFO: 20 bits of rate, 3 of channels - 1, 5 of bits - 1, 36 of samples (RFC 9639, 8.2).
 * @param {DataView} view
 * @returns {Header}
 */
function readFlac(view) {
  const packed = view.getUint32(18);
  return {
    kind: "FLAC",
    rate: packed >>> 12,
    channels: ((packed >>> 9) & 7) + 1,
    bits: ((packed >>> 4) & 31) + 1,
    samples: (packed & 15) * 2 ** 32 + view.getUint32(22),
    float: false,
    start: 0,
  };
}
