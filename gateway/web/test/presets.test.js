// @ts-check
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { drawSome, familiesOf } from "../src/library/presets.js";

/** The project's own. @type {{variations: import("../src/library/presets.js").Presets}} */
const { variations } = JSON.parse(
  await readFile(new URL("../../../contract/presets.json", import.meta.url), "utf8"),
);

/** Numbers that a test can repeat. @param {number} seed */
function randomFrom(seed) {
  let state = seed;
  return () => {
    state = (state * 16807 + 1) % 2147483647;
    return state / 2147483647;
  };
}

test("each variation is found in one family, in the order of the list", () => {
  const families = familiesOf(variations);
  assert.deepEqual([...families.values()].flat().sort(), Object.keys(variations).sort());
  for (const [family, names] of families) {
    const wanted = Object.keys(variations).filter((name) => variations[name]?.category === family);
    assert.deepEqual(names, wanted);
  }
});

test("a variation without a family is among the others", () => {
  assert.deepEqual([...familiesOf({ harp: { prompt: "Harp", flowstep: 0.1 } })], [["others", ["harp"]]]);
});

test("six to try are six different ones of six families", () => {
  for (let seed = 1; seed < 50; seed++) {
    const six = drawSome(variations, 6, randomFrom(seed));
    assert.equal(new Set(six).size, 6);
    assert.equal(new Set(six.map((name) => variations[name]?.category)).size, 6);
  }
});

test("where there are fewer families, the rest comes from any; where there are fewer variations, all", () => {
  const preset = { prompt: "", flowstep: 0.1, category: "one" };
  const few = { a: preset, b: preset, c: preset, d: { ...preset, category: "two" } };
  const three = drawSome(few, 3, randomFrom(1));
  assert.equal(new Set(three).size, 3);
  assert.ok(three.includes("d"));
  assert.deepEqual(drawSome(few, 6, randomFrom(2)).sort(), ["a", "b", "c", "d"]);
  assert.deepEqual(drawSome({}, 6), []);
});

test("another draw gives others", () => {
  assert.notDeepEqual(drawSome(variations, 6, randomFrom(1)), drawSome(variations, 6, randomFrom(2)));
});
