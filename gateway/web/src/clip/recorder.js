// @ts-check

import { clock } from "../words.js";

const PCM = "audio/webm;codecs=pcm"; // lossless, where the browser has it
const TICK_MS = 100;

/** Records the microphone. */
export class Recorder {
  /** @type {MediaRecorder | null} */
  #recorder = null;

  get recording() {
    return this.#recorder !== null;
  }

  /**
   * Starts recording. Throws an Error in words for people.
   * @param {(time: string) => void} tick  called with the time that has passed
   * @param {(recording: Blob) => void} done  called once it was stopped
   */
  async start(tick, done) {
    const microphone = await openMicrophone();
    const recorder = new MediaRecorder(microphone, {
      ...(MediaRecorder.isTypeSupported(PCM) && { mimeType: PCM }),
      audioBitsPerSecond: 256000,
    });
    /** @type {Blob[]} */
    const pieces = [];
    const started = performance.now();
    const ticking = setInterval(() => tick(clock((performance.now() - started) / 1000)), TICK_MS);
    recorder.ondataavailable = (event) => pieces.push(event.data);
    recorder.onstop = () => {
      clearInterval(ticking);
      for (const track of microphone.getTracks()) track.stop();
      this.#recorder = null;
      done(new Blob(pieces, { type: recorder.mimeType }));
    };
    this.#recorder = recorder;
    recorder.start();
  }

  stop() {
    this.#recorder?.stop();
  }
}

async function openMicrophone() {
  if (!navigator.mediaDevices) {
    throw new Error("Recording needs HTTPS or localhost; browsers block the microphone elsewhere.");
  }
  try {
    // What helps speech harms music.
    return await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
  } catch (error) {
    const denied = error instanceof DOMException && error.name === "NotAllowedError";
    throw new Error(
      denied ? "The browser blocked the microphone. Allow it for this site." : "No microphone found.",
    );
  }
}
