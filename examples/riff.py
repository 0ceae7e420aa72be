"""The example riff as code: four chords on plucked strings, four bars of 4/4 at 100 bpm (9.6 s).

    python scripts/make_riff examples/riff.wav

Always the same bytes. A string is Karplus and Strong's: a burst goes round in a delay line of one
period and loses some of its height at each turn ("Digital Synthesis of Plucked-String and Drum
Timbres", Computer Music Journal 7(2), 1983).
"""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from melodyflow import audio

Signal = npt.NDArray[np.float64]

RATE = 48000
EIGHTH = RATE * 60 // 100 // 2  # samples: 0.3 s
BARS = 4
PEAK = 10 ** (-3 / 20)

# Strings from low to high as MIDI notes, one chord a bar: Am F C G.
CHORDS = (
    (45, 52, 57, 60, 64),
    (41, 53, 57, 60, 65),
    (48, 55, 60, 64, 67),
    (43, 55, 59, 62, 67),
)
# A bar: at which eighth which strings are struck, how hard. The off-beat strums are the riff.
BAR = (
    (0, (0, 2, 3, 4), 1.0),
    (1, (2,), 0.45),
    (2, (3,), 0.6),
    (3, (1, 2, 3, 4), 0.85),
    (4, (0,), 0.75),
    (5, (2, 3), 0.55),
    (6, (4,), 0.8),
    (7, (3,), 0.5),
)
# In the last bar, instead of its last two eighths: a run back to A, high string.
RUN = ((6, 4, 65, 0.8), (6.5, 4, 64, 0.6), (7, 4, 62, 0.75), (7.5, 4, 59, 0.55))


def score() -> list[tuple[float, int, int, float]]:
    """(time in eighths, string, MIDI note, strength), a strum's strings one after another."""
    notes: list[tuple[float, int, int, float]] = []
    for bar, chord in enumerate(CHORDS):
        for eighth, strings, strength in BAR:
            if bar == BARS - 1 and eighth >= 6:
                continue
            for order, string in enumerate(strings):
                notes.append((8 * bar + eighth + 0.035 * order, string, chord[string], strength))
    notes += [(8 * (BARS - 1) + at, string, note, force) for at, string, note, force in RUN]
    return sorted(notes)


def pluck(note: int, strength: float, samples: int, random: np.random.Generator) -> Signal:
    """One string, `samples` long, silent at both ends, no offset."""
    period = RATE / (440 * 2 ** ((note - 69) / 12))
    damping = 0.25  # of the loop's low-pass, which delays by as much
    delay = int(period - damping)
    tune = period - damping - delay  # the rest, by linear interpolation
    taps = np.convolve([1 - damping, damping], [1 - tune, tune])
    partial = np.arange(1, delay // 2 + 1)
    slope = 1.25 - 0.5 * strength  # a harder stroke is a brighter one
    heights = np.abs(np.sin(np.pi * partial / 5)) * partial**-slope  # struck at a fifth of it
    phases = np.exp(2j * np.pi * random.random(len(partial)))
    burst = np.fft.irfft(np.concatenate([[0], heights * phases]), delay)  # no offset
    burst /= np.sqrt(np.mean(burst**2))
    line = np.zeros(2 + delay + samples)
    line[2 : 2 + delay] = burst
    loss = 0.5 ** (period / RATE / 0.8)  # half as high after 0.8 s, the high partials far sooner
    for start in range(2 + delay, len(line), delay):
        end = min(start + delay, len(line))
        turn = [line[start - delay - k : end - delay - k] for k in range(3)]
        line[start:end] = loss * sum(tap * old for tap, old in zip(taps, turn, strict=True))
    tone = line[2 + delay :]
    rise, fall = 48, 720  # 1 ms, 15 ms
    tone[:rise] *= np.linspace(0, 1, rise, endpoint=False)
    tone[-fall:] *= np.cos(np.linspace(0, np.pi / 2, fall)) ** 2
    return strength * tone


def riff() -> npt.NDArray[np.float32]:
    """float32 `[2, samples]`: low strings a little to the left, high ones to the right."""
    random = np.random.default_rng(100)
    total = BARS * 8 * EIGHTH
    mix = np.zeros((2, total))
    notes = score()
    for index, (at, string, note, strength) in enumerate(notes):
        start = round(at * EIGHTH)
        following = [later for later, other, *_ in notes[index + 1 :] if other == string]
        end = round(following[0] * EIGHTH) if following else total
        end = min(end + 480, total)  # a string sounds until it is struck again
        middle, side = (pluck(note, strength, end - start, random) for _ in range(2))
        angle = np.pi / 4 * (1 + 0.35 * (string - 2) / 2)
        mix[0, start:end] += np.cos(angle) * (middle + 0.4 * side)
        mix[1, start:end] += np.sin(angle) * (middle - 0.4 * side)
    hush = round(0.35 * RATE)  # the hand comes down on the strings
    mix[:, -hush:] *= np.cos(np.linspace(0, np.pi / 2, hush)) ** 2
    return np.asarray(mix * (PEAK / np.abs(mix).max()), np.float32)


if __name__ == "__main__":
    comments = {
        "title": "Example riff: Am F C G, 100 bpm",
        "software": "scripts/make_riff",
        "license": "MIT",
    }
    Path(sys.argv[1]).write_bytes(audio.write(riff(), RATE, "wav", comments))
