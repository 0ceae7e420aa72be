// @ts-check

import { decodeResult } from "../audio/decode.js";
import { levelsInWords, matchingGains } from "../audio/levels.js";
import { element } from "../dom.js";
import { setClip } from "../state.js";
import { soundOf } from "../takes/take.js";

/**
 * @typedef {import("../audio/player.js").Player} Player
 * @typedef {import("../state.js").PageStore} PageStore
 * @typedef {import("../takes/take.js").Take} Take
 */

/** What A and B are, and which is heard. */
export class Listening {
  #store;
  #player;
  /** The id of the take that is to be heard once its sound is there. @type {number | null} */
  #awaited = null;

  /**
   * @param {PageStore} store
   * @param {Player} player
   */
  constructor(store, player) {
    this.#store = store;
    this.#player = player;
    player.onchange = () => {
      const { playing, side, loop, duration } = player;
      store.set({ playback: { playing, side, loop, duration } });
    };
    store.watch(
      ({ clip }) => clip,
      (clip) => {
        player.stop();
        player.seek(0);
        player.load("a", clip?.buffer ?? null);
      },
    );
    store.watch(
      ({ b }) => b,
      (b) => {
        if (!b) this.#load(null, null);
      },
    );
  }

  /**
   * Makes a take B, and its clip A where that is another one, or none.
   * @param {Take} take
   */
  async bring(take) {
    const sound = soundOf(take);
    if (!sound) return;
    if (take.request.clip !== this.#store.value.clip) setClip(this.#store, take.request.clip);
    this.#store.set({ b: take });
    const buffer = await decodeResult(await sound.file.arrayBuffer());
    if (this.#store.value.b === take) this.#load(take, buffer);
  }

  /**
   * Lets a take that has just come be heard, unless one listens or works on another clip. In the
   * place of its own preview it is always.
   * @param {Take} take
   */
  async offer(take) {
    if (this.#isB(take)) return this.bring(take);
    if (this.#player.playing || take.request.clip !== this.#store.value.clip) return;
    await this.#bringToHear(take);
  }

  /**
   * Lets a take's newest preview be heard in the place of the one before. The first one becomes B
   * where no other take is made or listened to.
   * @param {Take} take
   * @param {boolean} first
   */
  async preview(take, first) {
    if (this.#isB(take)) return this.bring(take);
    const { b, clip, takes } = this.#store.value;
    const alone = takes.every(({ id, status }) => id === take.id || status !== "running");
    const { playing } = this.#player;
    if (!first || !alone || take.request.clip !== clip || (playing && b)) return;
    await (playing ? this.bring(take) : this.#bringToHear(take));
  }

  /** Plays a take, or pauses it. @param {Take} take */
  async listen(take) {
    const isB = this.#isB(take);
    if (isB && this.#player.playing && this.#player.side === "b") {
      this.#player.stop();
      return;
    }
    if (isB) this.#player.hear("b");
    else await this.#bringToHear(take);
    if (!this.#player.playing) await this.#player.play();
  }

  /** Switches between a take and its clip. @param {Take} take */
  async compare(take) {
    const isB = this.#isB(take);
    if (!isB) await this.#bringToHear(take);
    else this.#player.hear(this.#player.side === "a" ? "b" : "a");
  }

  /**
   * Makes a take B, and lets it be heard once its sound is there: a preview's, or the result's if
   * that comes before it is decoded.
   * @param {Take} take
   */
  async #bringToHear(take) {
    this.#awaited = take.id;
    await this.bring(take);
  }

  /** @param {Take} take */
  #isB(take) {
    return this.#store.value.b?.id === take.id;
  }

  /**
   * @param {Take | null} take
   * @param {AudioBuffer | null} buffer
   */
  #load(take, buffer) {
    this.#player.load("b", buffer);
    if (take && take.id === this.#awaited) {
      this.#awaited = null;
      this.#player.hear("b");
    }
    const loudness = take?.request.clip ? soundOf(take)?.loudness : undefined;
    this.#player.level(loudness ? matchingGains(loudness) : { a: 0, b: 0 });
    if (!take && !this.#store.value.clip) return;
    const forming = loudness && !take?.result ? "B is forming; the line is A's waveform. " : "";
    element("stage-note").textContent = loudness ? forming + levelsInWords(loudness) : "";
  }
}
