// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { createStore, setClip } from "../src/state.js";
import { Store } from "../src/store.js";

/** @typedef {import("../src/clip/clip.js").Clip} Clip */

test("who watches is called at once, and again only when that piece changes", () => {
  const store = new Store({ clip: "riff", takes: 0 });
  /** @type {string[]} */
  const seen = [];
  store.watch(
    ({ clip }) => clip,
    (clip) => seen.push(clip),
  );
  store.set({ takes: 1 });
  store.set({ clip: "riff" });
  store.set({ clip: "drums" });
  assert.deepEqual(seen, ["riff", "drums"]);
  assert.deepEqual(store.value, { clip: "drums", takes: 1 });
});

test("a value is replaced and never changed in place", () => {
  const store = new Store({ takes: 0 });
  const before = store.value;
  store.set({ takes: 1 });
  assert.deepEqual(before, { takes: 0 });
});

test("who has stopped watching is not called", () => {
  const store = new Store({ takes: 0 });
  let calls = 0;
  const stop = store.watch(
    ({ takes }) => takes,
    () => calls++,
  );
  stop();
  store.set({ takes: 1 });
  assert.equal(calls, 1);
});

test("a change made while another one is told leaves nobody with an old value", () => {
  const store = new Store({ clip: "", part: "" });
  /** @type {string[]} */
  const seen = [];
  store.watch(
    ({ clip }) => clip,
    (clip) => store.set({ part: `part of ${clip}` }),
  );
  store.watch(
    ({ part }) => part,
    (part) => seen.push(part),
  );
  store.set({ clip: "riff" });
  assert.deepEqual(seen, ["part of ", "part of riff"]);
});

test("a new clip has no part and no B, and the one before can be brought back", () => {
  const [riff, drums] = ["riff", "drums"].map((name) => /** @type {Clip} */ ({ name }));
  assert.ok(riff && drums);
  const store = createStore();
  setClip(store, riff);
  store.set({ part: { start: 1, end: 2 } });
  setClip(store, null);
  assert.deepEqual([store.value.clip, store.value.putAway, store.value.part], [null, riff, null]);
  setClip(store, null);
  assert.equal(store.value.putAway, riff);
  setClip(store, drums);
  setClip(store, null);
  assert.equal(store.value.putAway, drums);
});
