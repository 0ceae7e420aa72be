// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  draftOf,
  fieldsOf,
  fileName,
  finalOf,
  formOf,
  isNamed,
  readSeed,
  refinedOf,
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
  const fields = { duration: "10", variation: "celtic", seed: "0", loudness: "none", previews: "8" };
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
  assert.deepEqual(takes.map((request) => fileName(request)).at(-1), "riff-celtic-0.wav");
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

test("previews are asked for where FLAC can hold the rate", () => {
  const at = (/** @type {number} */ sampleRate) =>
    fieldsOf({ ...EDIT, clip: clip({ buffer: /** @type {any} */ ({ duration: 3, sampleRate }) }) }, null);
  for (const rate of [8000, 44100, 48001, 65535, 65540, 192000]) assert.equal(at(rate).previews, "8");
  for (const rate of [65536, 88201, 191999]) assert.equal(at(rate).previews, undefined);
});

test("a draft has few steps, and its final one all of them, with the same seed", () => {
  const draft = draftOf({ ...EDIT, priority: 3, named: "celtic-7" });
  assert.deepEqual([draft.steps, fieldsOf(draft, null).steps], [4, "4"]);
  assert.deepEqual(finalOf(draft), { ...EDIT, named: "celtic-7" });
  assert.equal(fieldsOf(finalOf(draft), null).steps, undefined);
  assert.equal(finalOf({ ...EDIT, steps: 50 }).steps, 50); // one that was stopped
});

test("refining doubles the steps, up to the most that there are", () => {
  const steps = (/** @type {number | null} */ has, highest = 128) =>
    refinedOf({ ...EDIT, priority: 3 }, has, highest)?.steps;
  assert.deepEqual([steps(25), steps(50), steps(64), steps(100)], [50, 100, 128, 128]);
  assert.equal(steps(100, 127), 126); // the midpoint solver's are even
  for (const [has, highest] of [
    [128, 128],
    [126, 127],
    [null, 128],
    [25, 0],
  ])
    assert.equal(steps(has ?? null, highest ?? 0), undefined);
  const refined = refinedOf(draftOf({ ...EDIT, priority: 3 }), 4, 128);
  assert.deepEqual(refined, { ...EDIT, steps: 8 });
});

test("a file's name tells a draft, a refined take and an unfinished one from the whole", () => {
  assert.equal(fileName(draftOf(EDIT)), "riff-celtic-draft.wav");
  assert.equal(fileName({ ...EDIT, steps: 50 }), "riff-celtic-50-steps.wav");
  assert.equal(fileName(EDIT, [58, 75]), "riff-celtic-unfinished-58-of-75.flac");
  assert.equal(fileName(draftOf(EDIT), [9, 12]), "riff-celtic-draft-unfinished-9-of-12.flac");
});
