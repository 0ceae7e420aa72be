"""The arrangements' effects: mono float32 in, the same length out, at the music's tempo."""

import inspect
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from pedalboard import (  # fmt: skip
    Bitcrush,
    Chorus,
    Compressor,
    Distortion,
    HighpassFilter,
    LowpassFilter,
    Pedalboard,
    Phaser,
    Reverb,
)

Signal = npt.NDArray[np.float32]
Effect = Callable[[Signal, int, float, float, np.random.Generator], Signal]


def apply(
    names: tuple[str, ...],
    x: Signal,
    rate: int,
    beat: float,
    offset: float,
    rng: np.random.Generator,
) -> Signal:
    """Effects by name. beat: seconds; offset: seconds of a beat's start, at or before 0."""
    for name in names:
        x = np.asarray(EFFECTS[name](x, rate, beat, offset, rng)[: len(x)], np.float32)
    return x


def _board(*plugins: object) -> Effect:
    def effect(x: Signal, rate: int, *_: object) -> Signal:
        return np.asarray(Pedalboard(list(plugins))(x, rate, reset=True), np.float32)

    return effect


def _phase(x: Signal, rate: int, beat: float, offset: float) -> npt.NDArray[np.float64]:
    """For each sample, the beats since the clip's first one."""
    return (np.arange(len(x)) / rate - offset) / beat


def pump(x: Signal, rate: int, beat: float, offset: float, _: np.random.Generator) -> Signal:
    """Ducks at each beat, like a kick's side chain."""
    return np.asarray(
        x * (0.25 + 0.75 * np.minimum(_phase(x, rate, beat, offset) % 1 / 0.6, 1)), np.float32
    )


def stutter(x: Signal, rate: int, beat: float, offset: float, rng: np.random.Generator) -> Signal:
    """Repeats a sixteenth here and there."""
    out, step = x.copy(), int(beat * rate / 4)
    for start in range(int(offset * rate) % step, len(x) - 2 * step, 2 * step):
        if rng.random() < 0.4:
            out[start + step : start + 2 * step] = out[start : start + step]
    return out


def silences(x: Signal, rate: int, beat: float, offset: float, rng: np.random.Generator) -> Signal:
    """Gaps of a thirty-second."""
    steps = np.floor(_phase(x, rate, beat, offset) * 8).astype(int)
    open_ = rng.random(steps.max() - steps.min() + 2) > 0.2
    return np.asarray(x * open_[steps - steps.min()], np.float32)


def wobble(x: Signal, rate: int, beat: float, offset: float, _: np.random.Generator) -> Signal:
    """A low-pass that opens and closes three times a beat."""
    dark = _board(LowpassFilter(250), LowpassFilter(250))(x, rate, beat, offset, _)
    weight = 0.5 - 0.5 * np.cos(2 * np.pi * 3 * _phase(x, rate, beat, offset))
    return np.asarray(weight * x + (1 - weight) * dark, np.float32)


def sweep(x: Signal, rate: int, beat: float, offset: float, _: np.random.Generator) -> Signal:
    """A low-pass that opens over each bar."""
    dark = _board(LowpassFilter(300), LowpassFilter(300))(x, rate, beat, offset, _)
    weight = (_phase(x, rate, beat, offset) / 4) % 1
    return np.asarray(weight * x + (1 - weight) * dark, np.float32)


def dusty(x: Signal, rate: int, beat: float, offset: float, rng: np.random.Generator) -> Signal:
    """Darker, with a record's crackle."""
    dark = _board(LowpassFilter(3500), HighpassFilter(80))(x, rate, beat, offset, rng)
    crackle = (rng.random(len(x)) < 12 / rate) * rng.normal(0, 0.25, len(x)) * np.abs(x).max()
    return np.asarray(dark + crackle, np.float32)


def steam(x: Signal, rate: int, beat: float, offset: float, rng: np.random.Generator) -> Signal:
    """Hiss that swells at every second beat."""
    swell = np.maximum(np.sin(np.pi * _phase(x, rate, beat, offset)), 0) ** 4
    return np.asarray(x + 0.12 * np.abs(x).max() * swell * rng.normal(0, 1, len(x)), np.float32)


def bent(x: Signal, rate: int, beat: float, offset: float, _: np.random.Generator) -> Signal:
    """The pitch of a toy whose battery ends: slow vibrato, a fifth of a semitone deep."""
    time = np.arange(len(x)) / rate
    wow = 0.0116 / (2 * np.pi * 5) * np.sin(2 * np.pi * 5 * time)
    return np.asarray(np.interp(time + wow, time, x), np.float32)


EFFECTS: dict[str, Effect] = {
    "warm": _board(Chorus(1.0, 0.2), LowpassFilter(4000)),
    "hall": _board(Reverb(room_size=0.75, wet_level=0.25, dry_level=0.6)),
    "drive": _board(Distortion(14), LowpassFilter(5000)),
    "console": _board(Bitcrush(8), LowpassFilter(6000)),
    "eight_bit": _board(Bitcrush(5)),
    "crushed": _board(Bitcrush(4), LowpassFilter(5000)),
    "gated": _board(Reverb(room_size=0.35, wet_level=0.25, dry_level=0.7), Compressor(-20, 4)),
    "washed": _board(Chorus(0.6, 0.5), Phaser(0.3), LowpassFilter(3000)),
    **{
        function.__name__: function
        for function in (pump, stutter, silences, wobble, sweep, dusty, steam, bent)
    },
}
assert all(len(inspect.signature(effect).parameters) >= 3 for effect in EFFECTS.values())
