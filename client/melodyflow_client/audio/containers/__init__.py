"""The decoders, and which of them a file is for, told by its content."""

from collections.abc import Callable

from ..source import File
from . import ffmpeg, libsndfile
from .sound import Check, NotInstalled, Sound, Undecodable

__all__ = ["Check", "NotInstalled", "Reader", "Sound", "Undecodable", "readers"]

Reader = Callable[[File, Check], Sound]

# What a file begins with -> what reads it. FFmpeg is asked for the rest, and after these.
READERS: dict[bytes, Reader] = {
    b"RIFF": libsndfile.read_header,
    b"RF64": libsndfile.read_header,
    b"fLaC": libsndfile.read_header,
    b"FORM": libsndfile.read_header,  # AIFF
    b"caff": libsndfile.read_header,
    b"riff": libsndfile.read_header,  # W64
    b".snd": libsndfile.read_header,  # AU
    b"dns.": libsndfile.read_header,
}


def readers(file: File) -> list[Reader]:
    """What may read the file, in the order in which it is tried."""
    first = READERS.get(file.head(4))
    return [ffmpeg.read_header] if first is None else [first, ffmpeg.read_header]
