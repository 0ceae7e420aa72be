// @ts-check

const START_SECONDS = 0.02; // ahead, so that A and B start at the same sample
const SWITCH_SECONDS = 0.012; // crossfade: too short to hear, long enough not to click
const FADE = SWITCH_SECONDS / 3; // its time constant
const FADED_SECONDS = 10 * FADE; // after which 1/22,000 is left

/** @typedef {"a" | "b"} Side */

/**
 * One of the two that play. `gain` is linear.
 * @typedef {object} Voice
 * @property {AudioBuffer} buffer
 * @property {number} gain
 * @property {number} start  of the source, by the context's clock
 * @property {GainNode | null} fader
 * @property {AudioBufferSourceNode | null} source
 */

/** @type {readonly Side[]} */
const SIDES = ["a", "b"];

/**
 * Plays A and B in step and lets one of them be heard: switching changes gains, so the position is
 * kept to the sample. Written by hand: libraries play one file each and can't keep two in step.
 */
export class Player {
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {Record<Side, Voice | null>} */
  #voices = { a: null, b: null };
  /** @type {Side} */
  #side = "a";
  #loop = true;
  #playing = false;
  #offset = 0; // seconds into the clip at ...
  #since = 0; // ... this time of the context
  /** Called whenever anything of it has changed. */
  onchange = () => {};

  get side() {
    return this.#side;
  }

  get loop() {
    return this.#loop;
  }

  get playing() {
    return this.#playing;
  }

  /** Seconds; 0: there is nothing to play. */
  get duration() {
    return (this.#voices.a ?? this.#voices.b)?.buffer.duration ?? 0;
  }

  /** Seconds into the clip. */
  get position() {
    return this.#playing && this.#context ? this.#positionAt(this.#context.currentTime) : this.#offset;
  }

  /** @param {number} time  of the context */
  #positionAt(time) {
    const at = this.#offset + Math.max(0, time - this.#since);
    return this.#loop ? at % this.duration : Math.min(at, this.duration);
  }

  /**
   * What is A or B from now on; position and side stay. While it plays, the one before fades out as
   * this one fades in.
   * @param {Side} side
   * @param {AudioBuffer | null} buffer
   */
  load(side, buffer) {
    const before = this.#voices[side];
    if (!buffer && !this.#voices[side === "a" ? "b" : "a"]) this.stop(); // nothing is left to play
    this.#voices[side] = buffer && { buffer, gain: before?.gain ?? 1, start: 0, fader: null, source: null };
    if (!this.#voices[this.#side]) this.#side = this.#voices.b ? "b" : "a";
    if (this.#playing && this.#context) {
      const time = this.#context.currentTime + START_SECONDS;
      fadeOut(before, time);
      this.#start(this.#context, side, time, true);
    }
    this.onchange();
  }

  /**
   * Sets how loud each is.
   * @param {Record<Side, number>} gains  decibels
   */
  level(gains) {
    for (const side of SIDES) {
      const voice = this.#voices[side];
      if (voice) voice.gain = 10 ** (gains[side] / 20);
    }
    this.#fade();
  }

  /** @param {Side} side */
  hear(side) {
    if (!this.#voices[side]) return;
    this.#side = side;
    this.#fade();
    this.onchange();
  }

  async play() {
    if (!this.duration) return;
    this.#context ??= new AudioContext();
    const context = this.#context;
    await context.resume();
    this.stop();
    if (this.#offset >= this.duration) this.#offset = 0;
    this.#playing = true;
    this.#since = context.currentTime + START_SECONDS;
    for (const side of SIDES) this.#start(context, side, this.#since);
    this.onchange();
  }

  stop() {
    if (!this.#playing) return;
    this.#offset = this.position;
    this.#playing = false;
    for (const side of SIDES) silence(this.#voices[side]);
    this.onchange();
  }

  /** @param {number} seconds */
  seek(seconds) {
    const playing = this.#playing;
    this.stop();
    this.#offset = Math.max(0, Math.min(seconds, this.duration));
    if (playing) this.play();
    else this.onchange();
  }

  /** @param {boolean} loop */
  setLoop(loop) {
    if (this.#playing && this.#context) {
      const now = this.#context.currentTime;
      this.#offset = this.#positionAt(now);
      this.#since = now;
    }
    this.#loop = loop;
    for (const side of SIDES) {
      const source = this.#voices[side]?.source;
      if (source) source.loop = loop;
    }
    this.onchange();
  }

  /**
   * @param {AudioContext} context
   * @param {Side} side
   * @param {number} time  of the context
   * @param {boolean} fades  in
   */
  #start(context, side, time, fades = false) {
    const voice = this.#voices[side];
    if (!voice) return;
    const { buffer, gain } = voice;
    const wanted = side === this.#side ? gain : 0;
    const fader = new GainNode(context, { gain: fades ? 0 : wanted });
    if (fades) fader.gain.setTargetAtTime(wanted, time, FADE);
    const source = new AudioBufferSourceNode(context, { buffer, loop: this.#loop });
    Object.assign(voice, { fader, source, start: time });
    source.connect(fader).connect(context.destination);
    if (side === "a" || !this.#voices.a) {
      source.onended = () => {
        if (voice.source === source) this.stop();
      };
    }
    source.start(time, this.#positionAt(time));
  }

  #fade() {
    for (const side of SIDES) {
      const voice = this.#voices[side];
      if (!voice?.fader) continue;
      const wanted = side === this.#side ? voice.gain : 0;
      const now = voice.fader.context.currentTime;
      voice.fader.gain.setTargetAtTime(wanted, Math.max(now, voice.start), FADE);
    }
  }
}

/** @param {Voice | null} voice */
function silence(voice) {
  if (!voice?.source) return;
  const { source, fader } = voice;
  voice.source = null;
  source.stop();
  source.disconnect();
  fader?.disconnect();
}

/**
 * Lets one that plays fade out.
 * @param {Voice | null} voice
 * @param {number} time  of the context
 */
function fadeOut(voice, time) {
  if (!voice?.source) return;
  const { source, fader } = voice;
  voice.source = null;
  source.onended = () => {
    source.disconnect();
    fader?.disconnect();
  };
  fader?.gain.setTargetAtTime(0, time, FADE);
  source.stop(time + FADED_SECONDS);
}
