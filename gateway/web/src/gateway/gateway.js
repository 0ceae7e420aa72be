// @ts-check

import { EditError, refusalOf } from "./errors.js";
import { events } from "./sse.js";

/**
 * What the gateway answers with JSON.
 * @param {string} path
 * @returns {Promise<any>}
 */
export async function getJson(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  return answer.json();
}

/**
 * Asks for one edit and yields its events. EventSource cannot send a file.
 * @param {FormData} form
 * @param {AbortSignal} signal  aborting cancels the edit on the server
 */
export async function* streamEdit(form, signal) {
  const { body } = await post("transform/stream", form, signal);
  if (body) yield* events(chunksOf(body.pipeThrough(new TextDecoderStream())));
}

/**
 * A preview that an edit has told of, or a newer one, to which the gateway leads on; with its step
 * and its loudness.
 * @param {string} url  from the gateway's root
 * @param {AbortSignal} signal
 * @returns {Promise<{file: Blob, step: number, info: any}>}
 */
export async function getPreview(url, signal) {
  const answer = await fetch(url.replace(/^\//, ""), { signal });
  if (!answer.ok) throw refusalOf(answer.status, null, 0);
  const info = JSON.parse(answer.headers.get("X-Melodyflow-Info") ?? "{}");
  return { file: await answer.blob(), step: Number(answer.url.split("/").at(-1)), info };
}

/**
 * A file as the server decodes it, WAV or FLAC, and what it guessed or repaired.
 * @param {Blob} file
 * @param {string} name
 * @param {AbortSignal} signal
 * @returns {Promise<{decoded: Blob, warnings: string[]}>}
 */
export async function decodeThere(file, name, signal) {
  const form = new FormData();
  form.set("audio", file, name);
  const answer = await post("decode", form, signal);
  const warnings = JSON.parse(answer.headers.get("X-Melodyflow-Warnings") ?? "[]");
  return { decoded: await answer.blob(), warnings };
}

/**
 * @param {string} path
 * @param {FormData} form
 * @param {AbortSignal} signal
 */
async function post(path, form, signal) {
  /** @type {Response} */
  let answer;
  try {
    answer = await fetch(path, { method: "POST", body: form, signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new EditError("The server isn't responding. Is it still running?");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw refusalOf(answer.status, body.error, Number(answer.headers.get("Retry-After")));
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
