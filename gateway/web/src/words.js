// @ts-check
// Numbers and names as people read them.

/** Minutes, seconds and tenths. @param {number} seconds */
export function clock(seconds) {
  const tenths = Math.floor(seconds * 10);
  const whole = String(Math.floor(tenths / 10) % 60).padStart(2, "0");
  return `${Math.floor(tenths / 600)}:${whole}.${tenths % 10}`;
}

/** strings_quartet -> Strings quartet. @param {string} name */
export function inWords(name) {
  const words = name.replaceAll("_", " ").replace(/\b(edm|rpg)\b/, (letters) => letters.toUpperCase());
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** One line that breaks after a dot only. @param {readonly string[]} facts */
export const inOneLine = (facts) => facts.map((fact) => fact.replaceAll(" ", "\u00a0")).join("\u00a0· ");

/** @param {number} rate  Hz */
export const rateInWords = (rate) => `${+(rate / 1000).toFixed(2)} kHz`;

/** @param {number} bytes */
export const mebibytes = (bytes) => `${+(bytes / 2 ** 20).toFixed(1)} MiB`;

/** What the server says of a thing, as a sentence. @param {string} text */
export const sentence = (text) =>
  text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

/** @param {number} channels */
export const channelsInWords = (channels) => ["mono", "stereo"][channels - 1] ?? `${channels} channels`;

/** What a strength below the number does. @type {readonly (readonly [number, string])[]} */
const STRENGTHS = [
  [0.845, "keep most of it"],
  [0.87, "keep a lot"],
  [0.9, "an even balance"],
  [0.93, "change a lot"],
  [0.96, "change most of it"],
];

/** @param {number} strength  1 - flowstep */
export const strengthInWords = (strength) =>
  STRENGTHS.find(([below]) => strength < below)?.[1] ?? "almost a new piece";
