// @ts-check

import { sharesOf } from "../clip/region.js";
import { button, byId, element, input, isTyped } from "../dom.js";
import { factsOf, outlineOf, soundOf } from "../takes/take.js";
import { Waveform } from "../waveform.js";
import { clock } from "../words.js";

/**
 * @typedef {import("../audio/player.js").Player} Player
 * @typedef {import("../audio/player.js").Side} Side
 * @typedef {import("../clip/part-fields.js").PartFields} PartFields
 * @typedef {import("../state.js").PageStore} PageStore
 */

/** @type {readonly Side[]} */
const SIDES = ["a", "b"];
// Where Space does something else.
const PRESSED = "button, a, input, summary";

/**
 * The two waveforms and the bar that plays them.
 * @param {PageStore} store
 * @param {Player} player
 * @param {PartFields} part
 */
export function mountTransport(store, player, part) {
  mountControls(player, part);
  const showPosition = followPosition(store, player);
  store.watch(({ playback }) => playback, showPlayback);
  store.watch(
    ({ b }) => b,
    (b) => {
      element("name-b").textContent = b ? b.title : "The take";
      element("facts-b").textContent = b ? factsOf(b) : "";
      element("hear-b-name").textContent = b ? b.title : "Take";
      button("hear-b").disabled = !b;
    },
  );
  store.watch(
    ({ clip }) => clip,
    (clip) => {
      button("hear-a").disabled = !clip;
    },
  );
  for (const piece of /** @type {const} */ (["playback", "part", "b", "clip"])) {
    store.watch((state) => state[piece], showPosition);
  }
}

/**
 * @param {Player} player
 * @param {PartFields} part
 */
function mountControls(player, part) {
  const toggle = () => (player.playing ? player.stop() : player.play());
  button("play").addEventListener("click", toggle);
  button("repeat").addEventListener("click", () => player.setLoop(!player.loop));
  input("position").addEventListener("input", () => player.seek(Number(input("position").value)));
  for (const side of SIDES) {
    button(`hear-${side}`).addEventListener("click", () => player.hear(side));
    byId(`wave-${side}`, Waveform).addEventListener("seek", (event) => {
      player.seek(/** @type {CustomEvent<number>} */ (event).detail * player.duration);
      player.hear(side);
    });
  }
  byId("wave-a", Waveform).addEventListener("select", (event) => {
    const { from, to } = /** @type {CustomEvent<{from: number, to: number}>} */ (event).detail;
    part.choose(from * player.duration, to * player.duration);
  });
  document.addEventListener("keydown", (event) => {
    if (!player.duration || isTyped(event) || !(event.target instanceof Element)) return;
    if (event.key.toLowerCase() === "x") player.hear(player.side === "a" ? "b" : "a");
    else if (event.key === " " && !event.target.matches(PRESSED)) toggle();
    else return;
    event.preventDefault();
  });
}

/**
 * @param {import("../state.js").Playback} playback
 */
function showPlayback({ playing, side: heard, loop, duration }) {
  element("transport").classList.toggle("playing", playing);
  element("transport").hidden = !duration;
  element("play-label").textContent = playing ? "Pause" : "Play";
  button("repeat").setAttribute("aria-pressed", String(loop));
  for (const side of SIDES) {
    button(`hear-${side}`).setAttribute("aria-pressed", String(heard === side));
    element(`part-${side}`).classList.toggle("heard", heard === side);
  }
}

/**
 * Draws where playing is, and goes on while it plays.
 * @param {PageStore} store
 * @param {Player} player
 * @returns {() => void}  draws it now
 */
function followPosition(store, player) {
  let frame = 0;
  const show = () => {
    const { clip, part, b } = store.value;
    const { position, duration, playing } = player;
    const played = duration ? position / duration : 0;
    byId("wave-a", Waveform).show(clip?.peaks ?? null, played, sharesOf(part, duration));
    byId("wave-b", Waveform).show(
      (b && soundOf(b)?.peaks) ?? null,
      played,
      sharesOf(b?.request.part, duration),
      b && outlineOf(b),
    );
    const slider = input("position");
    slider.max = String(duration);
    slider.value = String(position);
    slider.setAttribute("aria-valuetext", `${position.toFixed(1)} of ${duration.toFixed(1)} seconds`);
    element("time").textContent = `${clock(position)} / ${clock(duration)}`;
    cancelAnimationFrame(frame);
    if (playing) frame = requestAnimationFrame(show);
  };
  return show;
}
