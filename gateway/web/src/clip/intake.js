// @ts-check

import { complain } from "../complaints.js";
import { announce, button, element, input } from "../dom.js";
import { setClip } from "../state.js";
import { sentence } from "../words.js";
import { decodeHere, readClip } from "./clip.js";
import { Recorder } from "./recorder.js";

/** @typedef {import("../state.js").PageStore} PageStore */

/**
 * Where clips come from: a chosen or dropped file, or the microphone.
 * @param {PageStore} store
 * @param {() => void} stopPlaying
 */
export function mountIntake(store, stopPlaying) {
  mountRecorder(store, stopPlaying);
  mountDropping(store);
  const takeChosen = () => {
    const file = input("file").files?.[0];
    input("file").value = ""; // the same file can be chosen again
    if (file) takeClip(store, file, file.name);
  };
  input("file").addEventListener("change", takeChosen);
  takeChosen(); // a file may have been chosen before this script ran
  button("put-away").addEventListener("click", () => {
    setClip(store, store.value.clip ? null : store.value.putAway);
  });
  store.watch(
    ({ clip }) => clip,
    (clip) => showClip(clip, store.value.putAway),
  );
}

/** Of the clip that is being read: a newer one takes its place. */
let reading = new AbortController();

/**
 * @param {PageStore} store
 * @param {Blob} file
 * @param {string} name
 * @param {typeof readClip} [read]
 */
async function takeClip(store, file, name, read = readClip) {
  reading.abort();
  reading = new AbortController();
  const { signal } = reading;
  const { limits, bodyBytes } = store.value;
  complain("audio", "");
  element("facts-a").textContent = `reading ${name} …`;
  try {
    const most = { bodyBytes, seconds: limits.max_seconds ?? Number.POSITIVE_INFINITY };
    const found = await read(file, name, most, signal);
    if (signal.aborted) return;
    setClip(store, found);
    announce(`${name} is ready.`);
  } catch (error) {
    if (signal.aborted) return;
    showClip(store.value.clip, store.value.putAway);
    complain("audio", error instanceof Error ? error.message : String(error));
  }
}

/**
 * @param {import("./clip.js").Clip | null} clip
 * @param {import("./clip.js").Clip | null} putAway
 */
function showClip(clip, putAway) {
  document.body.classList.toggle("nothing", !clip);
  element("stage").classList.toggle("filled", Boolean(clip));
  element("invitation").hidden = Boolean(clip);
  element("name-a").textContent = clip?.name ?? "Your clip";
  element("facts-a").textContent = clip?.facts ?? "";
  const told = clip ? [clip.note, ...clip.warnings.map(sentence)].filter(Boolean).join(" ") : "";
  element("clip-note").textContent = told;
  element("clip-note").hidden = !told;
  const away = button("put-away");
  away.hidden = !clip && !putAway;
  away.textContent = clip ? "×" : `Bring back ${putAway?.name}`;
  away.ariaLabel = clip ? "Remove the clip" : null;
}

/**
 * @param {PageStore} store
 * @param {() => void} stopPlaying
 */
function mountRecorder(store, stopPlaying) {
  const recorder = new Recorder();
  const record = button("record");
  record.addEventListener("click", async () => {
    if (recorder.recording) {
      recorder.stop();
      return;
    }
    complain("audio", "");
    try {
      await recorder.start(
        (time) => {
          record.textContent = `Stop  ${time}`;
        },
        (recording) => {
          record.textContent = "Record";
          record.classList.remove("recording");
          takeClip(store, recording, "recording.wav", (blob, name, most) => decodeHere(blob, name, most));
        },
      );
      record.classList.add("recording");
      stopPlaying();
    } catch (error) {
      complain("audio", error instanceof Error ? error.message : String(error));
    }
  });
}

/** @param {PageStore} store */
function mountDropping(store) {
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    const file = event.dataTransfer?.files[0];
    if (!file) return; // text dropped into a field
    event.preventDefault();
    takeClip(store, file, file.name);
  });
}
