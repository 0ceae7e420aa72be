// @ts-check

import { element, input } from "../dom.js";
import { getJson } from "./gateway.js";

/** @typedef {import("../state.js").PageStore} PageStore */

const RETRY_MS = 5000;

/**
 * Says which checkpoint makes the takes.
 * @param {{name: string, licence: string}} checkpoint
 */
export function showCheckpoint({ name, licence }) {
  element("server").textContent = `${name} · ${licence === "unknown" ? "unknown licence" : licence}`;
  const restricted = /\bNC\b/.test(licence) ? " No commercial use." : "";
  element("licence").textContent = `Made with ${name} (licence of the weights: ${licence}).${restricted}`;
}

/**
 * Asks what the server accepts. Asked again where the page refuses something: the server may have
 * restarted with other limits.
 * @param {PageStore} store
 */
export async function readLimits(store) {
  const { limits, fields, max_body_bytes: bodyBytes } = await getJson("limits");
  store.set({ limits, fields, bodyBytes });
}

/**
 * Reads the server's variations and limits, and tries again while it isn't ready.
 * @param {PageStore} store
 */
export async function meetServer(store) {
  try {
    const [health, { variations }] = await Promise.all([
      getJson("health"),
      getJson("variations"),
      readLimits(store),
    ]);
    if (!Object.keys(store.value.presets).length) store.set({ presets: variations });
    // Where the gateway doesn't know the checkpoint, the first take tells.
    const ready = health.status === "healthy"; // 200 is also the answer while it may be loading
    if (ready && health.checkpoint) showCheckpoint(health.checkpoint);
    else element("server").textContent = ready ? "Ready." : "The music server isn't ready yet.";
    if (ready) return;
  } catch {
    element("server").textContent = "The server isn't responding.";
  }
  setTimeout(() => meetServer(store), RETRY_MS);
}

/**
 * Gives the form's fields the server's ranges.
 * @param {PageStore} store
 */
export function followLimits(store) {
  /** @type {(id: string, range?: {lowest: number | null, highest: number | null}) => void} */
  const bound = (id, range) => {
    input(id).min = String(range?.lowest ?? "");
    input(id).max = String(range?.highest ?? "");
  };
  store.watch(
    ({ fields }) => fields,
    ({ duration, loudness }) => {
      bound("duration", duration);
      bound("lufs", loudness);
      if (loudness)
        element("lufs-label").textContent = `LUFS, from ${loudness.lowest} to ${loudness.highest}`;
    },
  );
  store.watch(
    ({ limits }) => limits.max_prompt_characters,
    (most) => {
      if (most) element("prompt").setAttribute("maxlength", String(most));
      else element("prompt").removeAttribute("maxlength");
    },
  );
}
