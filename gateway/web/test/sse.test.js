// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { EditError, refusalOf } from "../src/gateway/errors.js";
import { events, lines } from "../src/gateway/sse.js";

/** @param {readonly string[]} chunks */
async function* stream(chunks) {
  yield* chunks;
}

const STREAM = [
  ": a comment\n",
  'event: progress\ndata: {"progress": 10}\n\n',
  'event:result\r\ndata:{"audio":\ndata: "UklGRg=="}\r\n\r\n',
  'data: {"plain": true}\n\n',
].join("");

const EVENTS = [
  { event: "progress", data: { progress: 10 } },
  { event: "result", data: { audio: "UklGRg==" } },
  { event: "message", data: { plain: true } },
];

test("events are the same however their text is cut into chunks", async () => {
  for (const size of [1, 2, 3, 7, 1000]) {
    const chunks = STREAM.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [];
    assert.deepEqual(await Array.fromAsync(events(stream(chunks))), EVENTS, `chunks of ${size}`);
  }
});

test("an event that the connection's end cuts off is left out", async () => {
  const cut = STREAM.slice(0, STREAM.indexOf("\n\n", 20) + 1);
  assert.deepEqual(await Array.fromAsync(events(stream([cut]))), []);
});

test("an event's name does not go over to the next one", async () => {
  const chunks = ["event: queued\n\n", 'data: {"n": 1}\n\n'];
  assert.deepEqual(await Array.fromAsync(events(stream(chunks))), [{ event: "message", data: { n: 1 } }]);
});

test("a line of many chunks is one line", async () => {
  const chunks = ["a", "b".repeat(10), "c\nd", "\n", "rest"];
  assert.deepEqual(await Array.fromAsync(lines(stream(chunks))), ["abbbbbbbbbbc", "d"]);
});

test("an error names the input that it is about", () => {
  const found = [
    "seed: -1; too low",
    "custom_prompt: empty",
    "end: 9; beyond",
    "loudness: no",
    "solver: 'rk4'",
  ];
  const errors = found.map((text) => new EditError(text));
  assert.deepEqual(
    errors.map(({ field }) => field),
    ["seed", "prompt", "start", "lufs", null],
  );
  assert.equal(errors[0]?.message, "-1; too low");
  assert.equal(errors[4]?.message, "Solver: 'rk4'");
});

test("a refusal is said in the server's words, or in ours where these help more", () => {
  assert.equal(refusalOf(400, "seed: no", Number.NaN).message, "No");
  assert.match(refusalOf(401, "token", 0).message, /signed out/);
  assert.equal(refusalOf(413, "body", 0).field, "audio");
  assert.match(refusalOf(429, null, 7).message, /busy\. Try again in 7 s\./);
  assert.match(refusalOf(418, undefined, 0).message, /status 418/);
});
