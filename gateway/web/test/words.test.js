// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { levelsInWords, matchingGains } from "../src/audio/levels.js";
import { notesOf, progressIn, queuedIn } from "../src/takes/take.js";
import { channelsInWords, clock, inOneLine, inWords, rateInWords, strengthInWords } from "../src/words.js";

test("times have minutes, two digits of seconds, and tenths that are not rounded up", () => {
  const said = [0, 0.06, 9.99, 59.99, 60, 61.25, 599.95, 3600].map(clock);
  assert.deepEqual(said, ["0:00.0", "0:00.0", "0:09.9", "0:59.9", "1:00.0", "1:01.2", "9:59.9", "60:00.0"]);
});

test("names of variations are read as words", () => {
  const said = ["strings_quartet", "edm_drop", "retro_rpg", "celtic", ""].map(inWords);
  assert.deepEqual(said, ["Strings quartet", "EDM drop", "Retro RPG", "Celtic", ""]);
});

test("rates, channels, and facts that break at their dots only", () => {
  assert.deepEqual([44100, 48000, 22050].map(rateInWords), ["44.1 kHz", "48 kHz", "22.05 kHz"]);
  assert.deepEqual([1, 2, 6].map(channelsInWords), ["mono", "stereo", "6 channels"]);
  assert.equal(inOneLine(["3.0 s", "16 bit"]), "3.0\u00a0s\u00a0· 16\u00a0bit");
});

test("a strength in words, from keeping to changing", () => {
  const said = [0.8, 0.845, 0.88, 0.9, 0.95, 1].map(strengthInWords);
  const words = ["keep most of it", "keep a lot", "an even balance", "change a lot", "change most of it"];
  assert.deepEqual(said, [...words, "almost a new piece"]);
});

test("the louder of clip and take is turned down", () => {
  assert.deepEqual(matchingGains({ clip: -10, take: -14 }), { a: -4, b: 0 });
  assert.deepEqual(matchingGains({ clip: -20, take: -14 }), { a: 0, b: -6 });
  assert.match(levelsInWords({ clip: -10, take: -14 }), /A is turned down 4\.0 dB/);
  assert.match(levelsInWords({ clip: -20, take: -14 }), /B is turned down 6\.0 dB/);
  assert.match(levelsInWords({ clip: -14.01, take: -14 }), /no change needed/);
});

test("what has no loudness, or is not told by an older server, is played as it is and said", () => {
  for (const clip of [null, undefined]) assert.deepEqual(matchingGains({ clip, take: -14 }), { a: 0, b: 0 });
  assert.match(levelsInWords({ clip: null, take: -14 }), /silent or under 0\.4 s/);
  assert.match(levelsInWords({ clip: undefined, take: undefined }), /doesn't report loudness/);
});

test("what was done to a take's level is said unless it was asked for", () => {
  assert.deepEqual(notesOf({ gain_db: 0 }), []);
  assert.deepEqual(notesOf({ gain_db: -3, info: { loudness: { limited_by: null, gain_db: -3 } } }), []);
  assert.deepEqual(notesOf({ gain_db: -2.5, info: {} }), ["turned down 2.5 dB to avoid clipping"]);
  const limited = { gain_db: 1, info: { loudness: { limited_by: "peak", gain_db: 1 } } };
  assert.deepEqual(notesOf(limited), ["quieter than requested: its peak is at -1 dBTP"]);
});

test("a take's way: waiting, a server that restarts, progress", () => {
  assert.equal(queuedIn({ position: 0, estimated_seconds: 0 }).doing, "waiting");
  assert.equal(queuedIn({ position: 2, estimated_seconds: 3.2 }).doing, "waiting, 2 ahead, about 4 s");
  assert.match(queuedIn({ position: 0, estimated_seconds: 0, warming: true }).doing, /restarting/);
  const { progress, doing } = progressIn({ progress: 41.9, stage: "generating" });
  assert.deepEqual([progress, doing], [41.9, "generating, 41 %"]);
});
