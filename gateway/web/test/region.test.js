// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { isPart, readPart, sharesOf, writePart } from "../src/clip/region.js";

const SHORTEST = 0.1;

test("a part is typed with both ends, or one", () => {
  assert.equal(readPart("", "", 3), null);
  assert.deepEqual(readPart("1", "2.5", 3), { start: 1, end: 2.5 });
  assert.deepEqual(readPart("1", "", 3), { start: 1, end: 3 });
  assert.deepEqual(readPart("", "2", 3), { start: 0, end: 2 });
});

test("a part is dragged in either direction", () => {
  assert.deepEqual(writePart(0.9, 2.1, 3, SHORTEST), { start: "0.90", end: "2.10" });
  assert.deepEqual(writePart(2.1, 0.9, 3, SHORTEST), { start: "0.90", end: "2.10" });
});

test("an end that is the clip's own is left empty", () => {
  assert.deepEqual(writePart(-1, 2, 3, SHORTEST), { start: "", end: "2.00" });
  assert.deepEqual(writePart(1, 5, 3, SHORTEST), { start: "1.00", end: "" });
  assert.deepEqual(writePart(0, Number.POSITIVE_INFINITY, 3, SHORTEST), { start: "", end: "" });
});

test("what is written is long enough for the server, at the clip's end too", () => {
  for (const at of [0, 1, 1.004, 2.95, 3, 9]) {
    const { start, end } = writePart(at, at, 3, SHORTEST);
    assert.ok(isPart(readPart(start, end, 3), 3, SHORTEST), `${at}: ${start} to ${end}`);
  }
});

test("a part must be long enough and within its clip; no part is fine", () => {
  assert.ok(isPart(null, 3, SHORTEST));
  assert.ok(isPart({ start: 1.5, end: 1.6 }, 3, SHORTEST));
  assert.ok(!isPart({ start: 1.5, end: 1.55 }, 3, SHORTEST));
  assert.ok(!isPart({ start: 2, end: 1 }, 3, SHORTEST));
  assert.ok(!isPart({ start: 1, end: 4 }, 3, SHORTEST));
  assert.ok(!isPart({ start: -1, end: 2 }, 3, SHORTEST));
});

test("shares of a clip, for drawing", () => {
  assert.deepEqual(sharesOf({ start: 1, end: 2 }, 4), [0.25, 0.5]);
  assert.deepEqual(sharesOf({ start: 1, end: 9 }, 4), [0.25, 1]);
  for (const part of [null, undefined, { start: 2, end: 1 }]) assert.equal(sharesOf(part, 4), null);
});
