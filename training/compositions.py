"""Random compositions: notes with chords and a tempo, the same bars for every arrangement."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
}
PROGRESSIONS = (
    (0, 3, 4, 0), (0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (0, 3, 0, 4), (1, 4, 0, 0),
    (0, 6, 5, 6), (0, 2, 3, 4), (0, 0, 3, 4), (5, 4, 3, 4), (0, 5, 1, 4), (3, 0, 4, 5),
)  # fmt: skip
STYLES = ("arpeggio", "block", "riff", "melody", "bass", "stabs", "strum")
# Where a bar's notes begin, in eighths.
RHYTHMS = (
    (0, 2, 4, 6), (0, 1, 2, 3, 4, 5, 6, 7), (0, 3, 4, 6, 7), (0, 2, 3, 5, 6), (0, 3, 6),
    (0, 1, 3, 4, 6), (0, 1.5, 3, 4, 5.5, 7), (0, 4, 6), (0, 2, 4, 5, 6, 7),
)  # fmt: skip


@dataclass(frozen=True)
class Note:
    """A note in seconds from the clip's start. pitch: MIDI; strength 0 to 1."""

    start: float
    end: float
    pitch: int
    strength: float


@dataclass(frozen=True)
class Composition:
    """What all arrangements of it share."""

    lead: tuple[Note, ...]
    chords: tuple[Note, ...]
    bass: tuple[Note, ...]
    bpm: float
    first_bar: float  # seconds; the bar that the clip begins in begins at or before 0
    seconds: float


def compose(seed: int, seconds: float) -> Composition:
    """The composition of a seed: random key, mode, tempo (70 to 150 bpm), chords and style."""
    rng = np.random.default_rng(seed)
    bpm = float(rng.uniform(70, 150))
    eighth = 30 / bpm
    scale = SCALES[str(rng.choice(list(SCALES)))]
    key = int(rng.integers(12))
    degrees = PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
    style = str(rng.choice(STYLES))
    # Half of the clips begin with the bar, the others somewhere in it.
    first_bar = 0.0 if rng.random() < 0.5 else -eighth * int(rng.integers(8))
    rhythm = RHYTHMS[rng.integers(len(RHYTHMS))]
    register = int(rng.integers(52, 66)) if style != "bass" else int(rng.integers(36, 46))
    seventh = rng.random() < 0.3
    lead: list[Note] = []
    chords: list[Note] = []
    bass: list[Note] = []
    figure = rng.integers(0, 100, 16)  # the same in every bar, so that a riff is one
    bar = 0
    while first_bar + 8 * eighth * bar < seconds:
        start = first_bar + 8 * eighth * bar
        degree = degrees[bar % len(degrees)]
        chord = _chord(key, scale, degree, register, seventh)
        low = 36 + (key + _pitch(scale, degree)) % 12
        chords += [Note(start, start + 8 * eighth, pitch, 0.6) for pitch in chord[:3]]
        times = sorted({0.0, *(float(t) for t in rhythm)}) if style != "block" else [0.0, 4.0]
        bass += [
            Note(start + t * eighth, start + (t + 2) * eighth, low, 0.8)
            for t in times
            if t in (0, 3, 4, 6)
        ]
        lead += _bar(style, chord, low, times, figure, start, eighth, rng)
        bar += 1
    return Composition(
        lead=_inside(lead, seconds),
        chords=_inside(chords, seconds),
        bass=_inside(bass, seconds),
        bpm=bpm,
        first_bar=first_bar,
        seconds=seconds,
    )


def _bar(
    style: str,
    chord: list[int],
    low: int,
    times: list[float],
    figure: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    start: float,
    eighth: float,
    rng: np.random.Generator,
) -> list[Note]:
    """One bar of the lead in a style."""
    scale_notes = sorted({*chord, *(pitch + 12 for pitch in chord)})
    ends = [*times[1:], 8.0]
    notes = []
    for index, (t, following) in enumerate(zip(times, ends, strict=True)):
        at = start + t * eighth
        strength = 0.55 + 0.3 * (t in (0, 4)) + 0.15 * float(rng.random())
        length = (following - t) * eighth
        if style == "arpeggio":
            notes.append(Note(at, at + 1.5 * length, chord[index % len(chord)], strength))
        elif style == "block":
            notes += [Note(at, at + 0.95 * length, pitch, strength) for pitch in chord]
        elif style == "stabs":
            notes += [Note(at, at + 0.4 * length, pitch, strength) for pitch in chord[:3]]
        elif style == "strum":
            strings = [low + 12, *chord] if t in (0, 4) else chord[1:]
            notes += [
                Note(at + 0.012 * order, at + length, pitch, strength)
                for order, pitch in enumerate(strings)
            ]
        elif style == "bass":
            pitch = low if figure[index] < 65 else low + (7 if figure[index] < 85 else 12)
            notes.append(Note(at, at + 0.9 * length, pitch, strength))
        else:  # riff or melody
            pitch = scale_notes[int(figure[index]) % len(scale_notes)]
            notes.append(Note(at, at + 0.92 * length, pitch, strength))
            if style == "riff" and figure[index] < 30:
                notes.append(Note(at, at + 0.92 * length, low + 12, 0.7 * strength))
    return notes


def _pitch(scale: Sequence[int], degree: int) -> int:
    return scale[degree % 7] + 12 * (degree // 7)


def _chord(key: int, scale: Sequence[int], degree: int, register: int, seventh: bool) -> list[int]:
    """A chord of thirds on a degree, each note in the octave above `register`."""
    tones = [degree + 2 * third for third in range(4 if seventh else 3)]
    pitches = [register + (key + _pitch(scale, tone) - register) % 12 for tone in tones]
    return sorted(set(pitches)) + ([min(pitches) + 12] if not seventh else [])


def _inside(notes: list[Note], seconds: float) -> tuple[Note, ...]:
    """The notes that sound in the clip. One that began before it begins with it."""
    return tuple(
        Note(max(note.start, 0.0), note.end, note.pitch, note.strength)
        for note in notes
        if note.start < seconds - 0.03 and note.end > 0.03 and note.start > -0.3
    )
