// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { Previewer } from "../src/takes/previewer.js";

const settle = () => new Promise((resolve) => setTimeout(resolve));

/** One whose reads end when the test says so. */
function slow() {
  /** @type {number[]} */
  const shown = [];
  /** @type {{event: number, signal: AbortSignal, resolve: (value: number) => void, reject: (error: Error) => void}[]} */
  const reads = [];
  const previewer = new Previewer(
    (/** @type {number} */ event, signal) =>
      /** @type {Promise<number>} */ (
        new Promise((resolve, reject) => reads.push({ event, signal, resolve, reject }))
      ),
    async (preview) => {
      shown.push(preview);
    },
  );
  return { previewer, shown, reads };
}

test("one is read at a time, and of those that come meanwhile only the newest", async () => {
  const { previewer, shown, reads } = slow();
  for (const event of [1, 2, 3, 4]) previewer.tell(event);
  assert.deepEqual(
    reads.map(({ event }) => event),
    [1],
  );
  reads[0]?.resolve(1);
  await settle();
  assert.deepEqual(
    reads.map(({ event }) => event),
    [1, 4],
  );
  reads[1]?.resolve(4);
  await settle();
  assert.deepEqual(shown, [1, 4]);
  previewer.tell(5);
  assert.equal(reads.length, 3);
});

test("one that can't be had is left out, and the next one is read", async () => {
  const { previewer, shown, reads } = slow();
  previewer.tell(1);
  previewer.tell(2);
  reads[0]?.reject(new Error("404"));
  await settle();
  reads[1]?.resolve(2);
  await settle();
  assert.deepEqual(shown, [2]);
});

test("one that can't be shown harms none after it", async () => {
  /** @type {number[]} */
  const asked = [];
  const previewer = new Previewer(
    async (/** @type {number} */ event) => event,
    async (event) => {
      asked.push(event);
      throw new Error("can't decode");
    },
  );
  previewer.tell(1);
  previewer.tell(2);
  await settle();
  assert.deepEqual(asked, [1, 2]);
});

test("nothing is shown or read after the end, not even what was on its way", async () => {
  const { previewer, shown, reads } = slow();
  previewer.tell(1);
  previewer.tell(2);
  previewer.end();
  assert.equal(reads[0]?.signal.aborted, true);
  reads[0]?.resolve(1);
  await settle();
  previewer.tell(3);
  await settle();
  assert.deepEqual([shown, reads.length], [[], 1]);
});
