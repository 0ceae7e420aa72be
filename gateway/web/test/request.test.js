// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  fieldsOf,
  fileName,
  formOf,
  isNamed,
  readSeed,
  seedAfter,
  sweepOf,
  takesOf,
} from "../src/form/request.js";

/** @typedef {import("../src/form/request.js").EditRequest} EditRequest */

const HIGHEST = 2 ** 31 - 1;

/** @param {Partial<import("../src/clip/clip.js").Clip>} more */
const clip = (more = {}) =>
  /** @type {import("../src/clip/clip.js").Clip} */ ({
    name: "riff.wav",
    stem: "riff",
    upload: new Blob(["RIFF"]),
    format: "wav24",
    peak: 0.9,
    buffer: { duration: 3 },
    ...more,
  });

/** @type {EditRequest} */
const EDIT = {
  clip: clip(),
  seed: 7,
  loudness: "source",
  variation: "celtic",
  prompt: null,
  strength: 0.88,
  part: null,
};

test("an edit says its strength, its format and no more than was asked for", () => {
  assert.deepEqual(fieldsOf(EDIT, null), {
    strength: "0.880",
    format: "wav24",
    variation: "celtic",
    seed: "7",
    loudness: "source",
  });
});

test("a part that ends with the clip says its start alone", () => {
  assert.equal(fieldsOf({ ...EDIT, part: { start: 1.5, end: 3 } }, null).end, undefined);
  const { start, end } = fieldsOf({ ...EDIT, part: { start: 0, end: 2 } }, null);
  assert.deepEqual([start, end], ["0", "2"]);
});

test("beside a part, samples above full scale are kept", () => {
  const part = { start: 1, end: 2 };
  assert.equal(fieldsOf({ ...EDIT, clip: clip({ peak: 1.2 }), part }, null).format, "wav32f");
  assert.equal(fieldsOf({ ...EDIT, clip: clip({ peak: 1.2 }) }, null).format, "wav24");
  assert.equal(fieldsOf({ ...EDIT, part }, null).format, "wav24");
});

test("a loop, own words, a session and a priority are said where they are there", () => {
  const fields = fieldsOf({ ...EDIT, loop: true, prompt: "Harp", variation: "custom", priority: 3 }, "s-1");
  assert.equal(fields.loop, "true");
  assert.deepEqual([fields.custom_prompt, fields.session_id, fields.priority], ["Harp", "s-1", "3"]);
  assert.equal(fieldsOf({ ...EDIT, loop: false }, null).loop, undefined);
});

test("new music has a duration and nothing that is about a clip", () => {
  const music = { clip: null, seed: 0, loudness: "none", variation: "celtic", prompt: null, duration: 10 };
  const fields = { duration: "10", variation: "celtic", seed: "0", loudness: "none" };
  assert.deepEqual(fieldsOf(music, null), fields);
  assert.deepEqual(Object.fromEntries(formOf(music, null)), fields);
  assert.equal(fileName(music), "new-celtic.wav");
});

test("the form carries the clip's file under its name", () => {
  const audio = formOf(EDIT, null).get("audio");
  assert.ok(audio instanceof File);
  assert.equal(audio.name, "riff.wav");
  assert.equal(fileName(EDIT), "riff-celtic.wav");
});

test("a seed is a whole number in the range, or none", () => {
  assert.deepEqual(
    [" 7 ", "0", String(HIGHEST), "", "  "].map((text) => readSeed(text, HIGHEST)),
    [7, 0, HIGHEST, null, null],
  );
  for (const text of ["-1", "12.5", "seven", "1e3", String(HIGHEST + 1)]) {
    assert.equal(readSeed(text, HIGHEST), undefined, text);
  }
});

test("several takes have seeds that follow each other, and 0 follows the highest", () => {
  assert.equal(seedAfter(HIGHEST, 1, HIGHEST), 0);
  const takes = takesOf({ ...EDIT, seed: HIGHEST - 1 }, 3, HIGHEST);
  assert.deepEqual(
    takes.map(({ seed }) => seed),
    [HIGHEST - 1, HIGHEST, 0],
  );
  assert.deepEqual(takes.map(fileName).at(-1), "riff-celtic-0.wav");
  assert.ok(takes.every(({ priority }) => priority === 3));
});

test("a sweep has each variation's strength and one seed", () => {
  const sweep = sweepOf({ ...EDIT, prompt: "Harp" }, ["chiptune", "rock_band"], (name) => name.length / 10);
  assert.deepEqual(
    sweep.map(({ strength }) => strength),
    [0.8, 0.9],
  );
  assert.ok(sweep.every(({ seed, prompt }) => seed === 7 && prompt === null));
  const [music] = sweepOf({ ...EDIT, clip: null, strength: undefined }, ["chiptune"], () => 0.9);
  assert.equal(music && fieldsOf(music, null).strength, undefined);
});

test("own words are no variation of the server's", () => {
  assert.deepEqual(["celtic", "custom", ""].map(isNamed), [true, false, false]);
});
