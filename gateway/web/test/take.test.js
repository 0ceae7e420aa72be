// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  BEGINNING,
  canBeFinal,
  choicesOf,
  factsOf,
  keptOf,
  outlineOf,
  soundOf,
  stateOf,
  stepsIn,
} from "../src/takes/take.js";

/** @typedef {import("../src/takes/take.js").Take} Take */

const REQUEST = { clip: null, duration: 10, seed: 7, loudness: "none", variation: "celtic", prompt: null };
const PREVIEW = {
  file: new Blob(["fLaC"]),
  peaks: new Float32Array(2),
  loudness: { clip: -12, take: -14 },
  step: /** @type {const} */ ([58, 75]),
};
const TAKE = /** @type {Take} */ ({ ...BEGINNING, id: 1, title: "Celtic", request: REQUEST });

test("a take is heard as its preview until it has ended", () => {
  assert.equal(soundOf(TAKE), null);
  const forming = { ...TAKE, preview: PREVIEW };
  assert.equal(soundOf(forming), PREVIEW);
  const kept = keptOf(PREVIEW);
  assert.equal(soundOf({ ...forming, result: kept }), kept);
  assert.equal(kept.file, PREVIEW.file);
  URL.revokeObjectURL(kept.url);
});

test("a take forms over its clip's waveform, if it has a clip", () => {
  const clip = /** @type {import("../src/clip/clip.js").Clip} */ ({ peaks: new Float32Array(2) });
  const take = { ...TAKE, request: { ...REQUEST, clip }, preview: PREVIEW };
  assert.equal(outlineOf(take), clip.peaks);
  assert.equal(outlineOf({ ...TAKE, preview: PREVIEW }), null);
  const result = keptOf(PREVIEW);
  URL.revokeObjectURL(result.url);
  assert.equal(outlineOf({ ...take, result }), null);
});

test("drafts and unfinished takes can be made final", () => {
  const unfinished = keptOf(PREVIEW);
  URL.revokeObjectURL(unfinished.url);
  const whole = { ...unfinished, unfinished: null };
  const draft = { ...TAKE, request: { ...REQUEST, steps: 4, draft: true } };
  assert.equal(canBeFinal(draft), false); // it runs
  assert.equal(canBeFinal({ ...draft, result: whole }), true);
  assert.equal(canBeFinal({ ...TAKE, preview: PREVIEW }), false);
  assert.equal(canBeFinal({ ...TAKE, result: unfinished }), true);
  assert.equal(canBeFinal({ ...TAKE, result: whole }), false);
});

test("what isn't whole says so, and what is doesn't", () => {
  const forming = { ...TAKE, preview: PREVIEW };
  const result = keptOf(PREVIEW);
  URL.revokeObjectURL(result.url);
  assert.deepEqual(stateOf(TAKE), []);
  assert.deepEqual(stateOf(forming), ["preview, step 58 of 75"]);
  assert.deepEqual(stateOf({ ...forming, result }), ["unfinished, step 58 of 75"]);
  assert.deepEqual(stateOf({ ...forming, result: { ...result, unfinished: null } }), []);
  const facts = factsOf({ ...forming, result }).replaceAll("\u00a0", " ");
  assert.equal(facts, "unfinished, step 58 of 75 · 10 s from text · seed 7");
});

test("steps are named where they aren't the variation's own", () => {
  assert.deepEqual(choicesOf(REQUEST), ["10 s from text"]);
  assert.deepEqual(choicesOf({ ...REQUEST, steps: 50 }), ["10 s from text", "50 steps"]);
  assert.deepEqual(choicesOf({ ...REQUEST, steps: 4, draft: true }), ["10 s from text", "draft of 4 steps"]);
});

test("the steps of a solve are what the first event of the generation has left", () => {
  assert.equal(stepsIn(null, { stage: "inverting", step: [10, 75] }), null);
  assert.equal(stepsIn(null, { stage: "generating", step: [50, 75] }), 25);
  assert.equal(stepsIn(25, { stage: "generating", step: [60, 75] }), 25);
});
