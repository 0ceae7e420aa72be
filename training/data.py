"""Paired music: every composition as several arrangements, rendered with FluidR3 by fluidsynth.

    python -m training.data WORK --compositions 1400

writes WORK/audio.npy, int16 [clips, samples], and WORK/clips.npz: the composition's seed and the
class of each clip. Mono, 16 kHz, 5.12 s. The same arguments give the same clips.
"""

import argparse
import multiprocessing
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from training.arrangements import ARRANGEMENTS, Arrangement, Manner
from training.compositions import Composition, Note, compose

RATE = 16000
RENDERED = 32000  # instruments played above their own rate alias: rendered higher, then resampled
SECONDS = 5.12
LEVEL = 10 ** (-20 / 20)  # root mean square
HELD_OUT = 60  # compositions with the highest seeds: for evaluation only
PER_COMPOSITION = 16  # arrangements of each, drawn; the held out ones have all
SOUNDFONTS = (Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),)
CLASSES = tuple(ARRANGEMENTS)

Signal = npt.NDArray[np.float32]


@cache
def _synth() -> tuple[Any, int]:
    """The synthesizer and its sound font. Only rendering needs them: imported late."""
    import fluidsynth

    found = [path for path in SOUNDFONTS if path.is_file()]
    if not found:
        raise SystemExit(f"{SOUNDFONTS[0]}: missing; apt-get install fluidsynth fluid-soundfont-gm")
    synth = fluidsynth.Synth(gain=0.35, samplerate=RENDERED)
    synth.setting("synth.reverb.active", 0)
    synth.setting("synth.chorus.active", 0)
    return synth, synth.sfload(str(found[0]))


def _played(notes: tuple[Note, ...], manner: Manner, beat: float) -> list[Note]:
    """The notes as an instrument plays them."""
    if manner == "sustained":
        return [Note(n.start, max(n.end, n.start + 1.2 * beat), n.pitch, n.strength) for n in notes]
    if manner == "short":
        return [
            Note(n.start, n.start + min(n.end - n.start, beat / 3), n.pitch, n.strength)
            for n in notes
        ]
    if manner == "pulse":  # eighths for as long as the note lasts
        half = beat / 2
        return [
            Note(at, at + 0.8 * half, n.pitch, n.strength)
            for n in notes
            for at in np.arange(n.start, n.end - 0.05, half)
        ]
    if manner == "arpeggio":  # a chord's notes one after the other, in sixteenths
        step, played = beat / 4, []
        for start in sorted({n.start for n in notes}):
            chord = [n for n in notes if n.start == start]
            for index, at in enumerate(np.arange(start, chord[0].end, step)):
                n = chord[index % len(chord)]
                played.append(Note(at, at + step, n.pitch, n.strength))
        return played
    return list(notes)


def _fits(pitch: int) -> int:
    """A pitch in the range that instruments have: by octaves."""
    while pitch > 96:
        pitch -= 12
    while pitch < 24:
        pitch += 12
    return pitch


def render(arrangement: Arrangement, composition: Composition, seed: int = 0) -> Signal:
    """A composition's clip as one class plays it: [samples] at RATE, at LEVEL unless that clips."""
    from training import effects

    synth, font = _synth()
    beat = 60 / composition.bpm
    events: list[
        tuple[int, int, int, int, int]
    ] = []  # sample, off before on, channel, pitch, velocity
    for channel, voice in enumerate(arrangement.voices):
        synth.program_select(channel, font, 0, voice.program)
        notes = getattr(composition, voice.part)
        for note in _played(notes, voice.manner, beat):
            pitch = _fits(note.pitch + voice.transpose)
            velocity = max(1, min(127, round(118 * note.strength * voice.level)))
            events.append((int(note.start * RENDERED), 1, channel, pitch, velocity))
            events.append((int(max(note.end, note.start + 0.04) * RENDERED), 0, channel, pitch, 0))
    if arrangement.drums:
        channel = 9  # General MIDI's own for drums
        synth.program_select(channel, font, 128, arrangement.drums.kit)
        step = beat / 4 / arrangement.drums.bars
        for line in arrangement.drums.bar.split():
            sound, steps = line.split(":")
            for index in range(int((composition.seconds - composition.first_bar) / step) + 1):
                mark, at = steps[index % 16], composition.first_bar + index * step
                if mark != "." and at >= 0:
                    velocity = round((115 if mark == "x" else 70) * arrangement.drums.level)
                    events.append((int(at * RENDERED), 1, channel, int(sound), velocity))
    total = round(composition.seconds * RENDERED)
    pieces, now = [], 0
    for at, on, where, pitch, velocity in sorted(events):
        if at >= total:
            break
        if at > now:
            pieces.append(synth.get_samples(at - now))
            now = at
        (synth.noteon(where, pitch, velocity) if on else synth.noteoff(where, pitch))
    pieces.append(synth.get_samples(total - now))
    synth.system_reset()
    stereo = np.concatenate(pieces).reshape(-1, 2).astype(np.float32) / 32768
    x = np.asarray(soxr.resample(stereo.mean(1), RENDERED, RATE), np.float32)
    rng = np.random.default_rng(seed)
    x = effects.apply(arrangement.effects, x, RATE, beat, composition.first_bar, rng)
    x = x * (LEVEL / max(float(np.sqrt(np.mean(x**2))), 1e-4))
    return x * min(1.0, 0.98 / max(float(np.abs(x).max()), 1e-9))


def clip(seed: int, name: str, seconds: float = SECONDS) -> Signal:
    """The composition of a seed as a class plays it."""
    return render(ARRANGEMENTS[name], compose(seed, seconds), zlib.crc32(f"{seed} {name}".encode()))


def _classes_of(seed: int, held_out: bool) -> list[int]:
    if held_out:
        return list(range(len(CLASSES)))
    drawn = np.random.default_rng([seed, 1]).permutation(len(CLASSES))[:PER_COMPOSITION]
    return sorted({CLASSES.index("nylon_guitar"), *(int(i) for i in drawn)})


def _render_one(task: tuple[int, list[int]]) -> npt.NDArray[np.int16]:
    seed, classes = task
    clips = [clip(seed, CLASSES[index]) for index in classes]
    return np.asarray(np.round(np.stack(clips) * 32767), np.int16)


def make(work: Path, compositions: int) -> None:
    """Renders the data set into `work`, on all cores."""
    work.mkdir(parents=True, exist_ok=True)
    tasks = [
        (seed, _classes_of(seed, seed >= compositions - HELD_OUT)) for seed in range(compositions)
    ]
    labels = np.array([(seed, index) for seed, classes in tasks for index in classes])
    samples = round(SECONDS * RATE)
    audio = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        work / "audio.npy.part", "w+", np.int16, (len(labels), samples)
    )
    with multiprocessing.Pool() as pool:
        at = 0
        for done, clips in enumerate(pool.imap(_render_one, tasks), 1):
            audio[at : at + len(clips)] = clips
            at += len(clips)
            if done % 100 == 0:
                print(f"data: {done}/{compositions} compositions", flush=True)
    audio.flush()
    np.savez(work / "clips.npz", seed=labels[:, 0], label=labels[:, 1], compositions=compositions)
    (work / "audio.npy.part").rename(work / "audio.npy")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.data", description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--compositions", type=int, default=1400)
    given = parser.parse_args()
    make(given.work, given.compositions)


if __name__ == "__main__":
    main()
