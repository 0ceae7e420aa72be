// @ts-check

import { EditError, refusalOf } from "./errors.js";
import { events } from "./sse.js";

/**
 * What the gateway answers with JSON.
 * @param {string} path
 * @returns {Promise<{ok: boolean, body: any}>}
 */
export async function getJson(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  return { ok: answer.ok, body: await answer.json() };
}

/**
 * Asks for one edit and yields its events. EventSource cannot send a file.
 * @param {FormData} form
 * @param {AbortSignal} signal  aborting cancels the edit on the server
 */
export async function* streamEdit(form, signal) {
  const answer = await post(form, signal);
  if (!answer.ok || !answer.body) {
    const body = await answer.json().catch(() => ({}));
    throw refusalOf(answer.status, body.error, Number(answer.headers.get("Retry-After")));
  }
  yield* events(chunksOf(answer.body.pipeThrough(new TextDecoderStream())));
}

/**
 * @param {FormData} form
 * @param {AbortSignal} signal
 */
async function post(form, signal) {
  try {
    return await fetch("transform/stream", { method: "POST", body: form, signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new EditError("The server isn't responding. Is it still running?");
  }
}

/**
 * The chunks of a stream. (Not all browsers iterate over streams themselves.)
 * @template T
 * @param {ReadableStream<T>} stream
 */
async function* chunksOf(stream) {
  const reader = stream.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield value;
  }
}
