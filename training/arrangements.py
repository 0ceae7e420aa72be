"""How each class of sound plays a composition: General MIDI instruments, drum patterns, effects.

A class is one of the 33 variations of presets.json, or one of the two plain instruments that only
serve as sources (a nylon guitar) and as a target of the evaluation (a church organ). The programs
are General MIDI's, counted from 0.
"""

from dataclasses import dataclass
from typing import Literal

Part = Literal["lead", "chords", "bass"]
Manner = Literal["written", "sustained", "short", "arpeggio", "pulse"]


@dataclass(frozen=True)
class Voice:
    """One instrument and what it plays."""

    program: int
    part: Part = "lead"
    transpose: int = 0  # semitones
    level: float = 1.0  # of the notes' velocity
    manner: Manner = "written"


@dataclass(frozen=True)
class Drums:
    """A kit (a program of bank 128) and a bar of sixteen steps for each of its sounds."""

    kit: int
    bar: str  # "36:x...x...x...x... 42:..x...", x loud, o soft
    level: float = 0.7
    bars: int = 1  # of the drums to one of the music


@dataclass(frozen=True)
class Arrangement:
    """A class of sound. `effects` names functions of training/effects.py, in their order."""

    voices: tuple[Voice, ...]
    drums: Drums | None = None
    effects: tuple[str, ...] = ()


KICK, RIM, SNARE, CLAP, CLOSED, OPEN, CRASH = 36, 37, 38, 39, 42, 46, 49


def _bar(**sounds: str) -> str:
    numbers = {
        "kick": KICK, "rim": RIM, "snare": SNARE, "clap": CLAP, "hat": CLOSED, "open": OPEN,
        "tom": 45, "low": 41, "conga": 63, "tumba": 64, "bongo": 60, "shaker": 82, "wood": 76,
        "agogo": 67, "cowbell": 56, "ride": 51, "tambourine": 54, "metal": 80,
    }  # fmt: skip
    return " ".join(f"{numbers[name]}:{steps}" for name, steps in sounds.items())


ROCK = _bar(kick="x.....x.x.......", snare="....x.......x...", hat="x.o.x.o.x.o.x.o.")
FOUR = _bar(kick="x...x...x...x...", open="..o...o...o...o.", clap="....o.......o...")
LOFI = _bar(kick="x......o..x.....", snare="....x.......x..o", hat="o.o.o.oo.o.o.o.o")
BOOM = _bar(kick="x.x.......xx....", snare="....x.......x...", hat="x.x.x.x.x.x.x.x.")
TRAP = _bar(kick="x.....x...x.....", clap="........x.......", hat="x.x.xxx.x.x.xoxo")
HALF = _bar(kick="x.........x.....", snare="........x.......", hat="o...o...o...o.o.")
BREAK = _bar(kick="x.x.......xx....", snare="....x..o.o..x..o", ride="x.x.x.x.x.x.x.x.")
GATED = _bar(kick="x.......x.x.....", snare="....x.......x...", tom="..............oo")
LATIN = _bar(conga="..x...x...x..xx.", tumba="x.......x.......", shaker="o.oxo.oxo.oxo.ox")
HANDS = _bar(
    conga="x..x..x...x.x...", tumba="..x.....x.....x.", bongo="x.xx.x.xx.x.x.xx",
    wood="x...x..x..x.x...", shaker="o.o.o.o.o.o.o.o.",
)  # fmt: skip
FOLK = _bar(low="x.....o.x...o...", tambourine="....o.......o...")
EPIC = _bar(low="x.....x.x..x..x.", tom="..x.....o.x.....", kick="x.......x.......")
CLANG = _bar(metal="x..x......x..x..", cowbell="....x.......x...", kick="x...x...x...x...")
SPARSE = _bar(kick="x.......x.......", rim="....x.......x...", hat="..o...o...o...o.")
FUNKY = _bar(kick="x..x..x...x.....", snare="....x..o....x...", hat="xoxoxoxxx.xoxoxo")


def _bass(program: int, level: float = 0.8, manner: Manner = "written") -> Voice:
    return Voice(program, "bass", 0, level, manner)


def _chords(program: int, level: float = 0.5, manner: Manner = "sustained") -> Voice:
    return Voice(program, "chords", 0, level, manner)


SOURCES = ("nylon_guitar", "church_organ")  # beside the variations

ARRANGEMENTS: dict[str, Arrangement] = {
    "nylon_guitar": Arrangement((Voice(24),)),
    "church_organ": Arrangement((Voice(19),)),
    "accordion_folk": Arrangement((Voice(21), _bass(32, 0.6), _chords(24, 0.35, "short"))),
    "banjo_bluegrass": Arrangement((Voice(105), Voice(110, level=0.4), _bass(32, 0.6, "short"))),
    "piano_classical": Arrangement((Voice(0),)),
    "celtic": Arrangement((Voice(73), Voice(46, level=0.7)), Drums(48, FOLK, 0.4)),
    "strings_quartet": Arrangement((Voice(48, manner="sustained"), _bass(42, 0.6, "sustained"))),
    "synth_retro": Arrangement((Voice(81, level=0.8), _bass(38, 0.7)), effects=("warm",)),
    "synth_modern": Arrangement((Voice(90), Voice(81, level=0.5), _bass(39, 0.7))),
    "synth_ambient": Arrangement((Voice(89, manner="sustained"),), effects=("hall",)),
    "synth_edm": Arrangement(
        (Voice(81), Voice(81, transpose=12, level=0.6)), Drums(24, FOUR), ("pump",)
    ),
    "rock_band": Arrangement((Voice(29), _bass(33, 0.8)), Drums(16, ROCK), ("drive",)),
    "cinematic_epic": Arrangement(
        (Voice(61), Voice(48, transpose=12, level=0.7), _chords(52, 0.6)), Drums(48, EPIC), ("hall",)
    ),
    "lofi_chill": Arrangement((Voice(4), _chords(26, 0.3)), Drums(8, LOFI, 0.5), ("dusty",)),
    "synth_bass": Arrangement((Voice(38, transpose=-12),), Drums(24, SPARSE, 0.5), ("sweep",)),
    "retro_rpg": Arrangement((Voice(73), Voice(14, level=0.5), _chords(48, 0.4)), effects=("console",)),
    "steel_drums": Arrangement((Voice(114), _bass(32, 0.6)), Drums(0, LATIN, 0.5)),
    "chiptune": Arrangement((Voice(80), Voice(80, "chords", 12, 0.4, "arpeggio")), effects=("eight_bit",)),
    "gamelan_fusion": Arrangement((Voice(11), Voice(12, transpose=12, level=0.7), _chords(95, 0.4))),
    "music_box": Arrangement((Voice(10, transpose=12),)),
    "trap_808": Arrangement((Voice(14, level=0.8), _bass(38, 1.0, "sustained")), Drums(25, TRAP)),
    "lo_fi_drums": Arrangement((Voice(4, level=0.6),), Drums(8, LOFI, 1.0), ("dusty", "crushed")),
    "boom_bap": Arrangement((Voice(61, manner="short"), _bass(32, 0.8)), Drums(0, BOOM, 0.9)),
    "percussion_ensemble": Arrangement((Voice(12, level=0.8),), Drums(0, HANDS, 0.9)),
    "future_bass": Arrangement(
        (Voice(90), Voice(54, level=0.6), _bass(39, 0.7)), Drums(24, HALF, 0.6), ("pump",)
    ),
    "synthwave_retro": Arrangement(
        (Voice(81), _bass(38, 0.8, "pulse"), _chords(50, 0.5)), Drums(24, GATED, 0.7), ("gated",)
    ),
    "melodic_techno": Arrangement(
        (Voice(87, manner="short"), _bass(38, 0.7, "pulse"), _chords(89, 0.5)), Drums(25, FOUR, 0.7)
    ),
    "dubstep_wobble": Arrangement(
        (Voice(39, transpose=-12), Voice(81, level=0.5)), Drums(24, HALF, 0.8), ("wobble", "drive")
    ),
    "glitch_hop": Arrangement(
        (Voice(62, manner="short"), _bass(36, 0.8)), Drums(24, FUNKY, 0.7), ("stutter",)
    ),
    "digital_disruption": Arrangement((Voice(80, level=0.9),), effects=("crushed", "stutter", "silences")),
    "circuit_bent": Arrangement((Voice(98), Voice(80, transpose=12, level=0.5)), effects=("bent", "crushed")),
    "orchestral_glitch": Arrangement((Voice(48), Voice(61, level=0.7)), effects=("stutter", "hall")),
    "vapor_drums": Arrangement((Voice(5, level=0.7),), Drums(24, GATED, 0.9), ("gated", "washed")),
    "industrial_textures": Arrangement((Voice(30, transpose=-12),), Drums(16, CLANG, 0.8), ("drive", "steam")),
    "jungle_breaks": Arrangement(
        (Voice(89), _bass(39, 0.9, "sustained")), Drums(16, BREAK, 0.9, bars=2)
    ),
}  # fmt: skip

# One instrument each: what the table of the evaluation gives by name.
INSTRUMENTS = (
    "piano_classical", "nylon_guitar", "strings_quartet", "accordion_folk", "banjo_bluegrass",
    "music_box", "steel_drums", "chiptune", "synth_ambient", "synth_bass", "celtic", "rock_band",
    "church_organ",
)  # fmt: skip
