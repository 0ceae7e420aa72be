"""The decoders, and which of them a file is for, told by its content."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..source import File
from . import aiff, au, caf, coded, ffmpeg, flac, libsndfile, ogg, w64, wav
from .sound import Check, Damaged, NotInstalled, Sound, Undecodable, in_stereo
from .tags import end_of, search, start_of

__all__ = [
    "Check",
    "Damaged",
    "NotInstalled",
    "Sound",
    "Undecodable",
    "container_of",
    "in_stereo",
]

Reader = Callable[[File, Check], Sound]

# Of IRCAM, which has one for each kind of machine, in both byte orders
_IRCAM = tuple(
    magic
    for kind in range(1, 5)
    for magic in (bytes((100, 163, kind, 0)), bytes((0, kind, 163, 100)))
)

# What a container begins with -> what reads it, in the order in which it is tried. FFmpeg comes
# after these, and is alone for everything else.
READERS: dict[bytes, tuple[Reader, ...]] = {
    b"RIFF": (wav.read_header, coded.reader(wav.walk), coded.others(wav.walk)),
    b"RF64": (wav.read_header, coded.reader(wav.walk), coded.others(wav.walk)),
    b"BW64": (wav.read_header,),
    b"RIFX": (libsndfile.read_header,),  # big-endian
    b"fLaC": (flac.read_header,),
    b"FORM": (aiff.read_header, libsndfile.read_header),
    b"caff": (caf.read_header,),
    b"riff": (w64.read_header, coded.reader(w64.walk), coded.others(w64.walk)),
    b".snd": (au.read_header, libsndfile.read_header),
    b"dns.": (libsndfile.read_header,),
    b"OggS": (ogg.read_header, libsndfile.read_header),
    **dict.fromkeys(
        (b"Crea", b"NIST", b" paf", b"fap ", b"2BIT", b"PVF1", *_IRCAM), (libsndfile.read_header,)
    ),
}


class Container(NamedTuple):
    """The part of a file that is the container, and what may read it, in this order."""

    part: File
    readers: tuple[Reader, ...]
    warnings: list[str]


def container_of(file: File) -> Container:
    """Looks behind tags, and behind junk, for the beginning of a container of READERS."""
    start = start_of(file)
    warnings = []
    if file.head(4, start) not in READERS and (found := search(file, start)) is not None:
        warnings.append(f"{found - start} bytes before the file's header were skipped")
        start = found
    known = READERS.get(file.head(4, start), ())
    # The others tell where their samples end, and may end in what looks like a tag.
    told = known and known[0] not in (flac.read_header, libsndfile.read_header)
    end = file.size if told else end_of(file, start)
    return Container(file.part(start, end), (*known, ffmpeg.read_header), warnings)
