// @ts-check

/**
 * @typedef {object} Header
 * @property {"WAV" | "FLAC"} kind
 * @property {number} rate  Hz
 * @property {number} channels
 * @property {number} bits  of a sample
 */

/**
 * What the header of a WAV or FLAC file says; null for any other file.
 * @param {ArrayBuffer} bytes
 * @returns {Header | null}
 */
export function readHeader(bytes) {
  const view = new DataView(bytes);
  /** @param {number} at */
  const tag = (at) => (at + 4 <= view.byteLength ? String.fromCharCode(...new Uint8Array(bytes, at, 4)) : "");
  if (tag(0) === "fLaC") return view.byteLength >= 26 ? readFlac(view) : null;
  if (!["RIFF", "RF64"].includes(tag(0)) || tag(8) !== "WAVE") return null;
  let at = 12;
  while (at + 24 <= view.byteLength) {
    if (tag(at) === "fmt ") {
      return {
        kind: "WAV",
        channels: view.getUint16(at + 10, true),
        rate: view.getUint32(at + 12, true),
        bits: view.getUint16(at + 22, true),
      };
    }
    const size = view.getUint32(at + 4, true);
    at += 8 + size + (size % 2);
  }
  return null;
}

/**
 * STREAMINFO: 20 bits of rate, 3 of channels - 1, 5 of bits - 1 (RFC 9639, section 8.2).
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
  };
}
