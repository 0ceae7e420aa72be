"""The kinds of files that are taken, told by their content; each has a file of its own here.

A kind reads its header without decoding a sample, and the header decodes the rest. Bytes in memory
only.
"""

from collections.abc import Callable

from melodyflow.audio.containers import flac, wav
from melodyflow.audio.containers.header import Header
from melodyflow.errors import AudioError, quoted

# What a file begins with -> what reads its header.
READERS: dict[bytes, Callable[[bytes], Header]] = {
    b"RIFF": wav.read_header,
    b"RF64": wav.read_header,
    b"fLaC": flac.read_header,
}


def is_known(data: bytes) -> bool:
    """Whether it begins like a file of these kinds."""
    return data[:4] in READERS


def read_header(data: bytes) -> Header:
    """The header of a file of these kinds. Raises AudioError."""
    if is_known(data):
        return READERS[data[:4]](data)
    begins = f"{len(data)} bytes that begin with {quoted(data[:8])}" if data else "0 bytes"
    raise AudioError(f"audio: {begins}; a WAV or FLAC file is needed")
