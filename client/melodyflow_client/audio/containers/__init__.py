"""The decoders, and which of them a file is for, told by its content."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..source import File
from . import aiff, au, caf, ffmpeg, flac, libsndfile, w64, wav
from .sound import Check, Damaged, NotInstalled, Sound, Undecodable
from .tags import end_of, search, start_of

__all__ = ["Check", "Damaged", "NotInstalled", "Sound", "Undecodable", "container_of"]

Reader = Callable[[File, Check], Sound]

# What a container begins with -> what reads it, in the order in which it is tried. FFmpeg comes
# after these, and is alone for everything else.
READERS: dict[bytes, tuple[Reader, ...]] = {
    b"RIFF": (wav.read_header, libsndfile.read_header),
    b"RF64": (wav.read_header, libsndfile.read_header),
    b"BW64": (wav.read_header,),
    b"RIFX": (libsndfile.read_header,),  # big-endian
    b"fLaC": (flac.read_header,),
    b"FORM": (aiff.read_header, libsndfile.read_header),
    b"caff": (caf.read_header, libsndfile.read_header),
    b"riff": (w64.read_header, libsndfile.read_header),
    b".snd": (au.read_header, libsndfile.read_header),
    b"dns.": (libsndfile.read_header,),
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
    end = end_of(file, start) if flac.read_header in known else file.size
    part = file.part(start, end) if known else file
    return Container(part, (*known, ffmpeg.read_header), warnings)
