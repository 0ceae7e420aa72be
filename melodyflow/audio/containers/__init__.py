"""The supported file formats, recognised by their content; one module for each.

A module reads the header without decoding any samples; the header decodes the rest. All files are
bytes in memory.
"""

from collections.abc import Callable

from melodyflow.audio.containers import flac, wav
from melodyflow.audio.containers.header import Header
from melodyflow.errors import AudioError, quoted

# A file's first bytes -> what reads its header.
READERS: dict[bytes, Callable[[bytes], Header]] = {
    b"RIFF": wav.read_header,
    b"RF64": wav.read_header,
    b"fLaC": flac.read_header,
}


def is_known(data: bytes) -> bool:
    """Whether it starts like a file of a supported format."""
    return data[:4] in READERS


def read_header(data: bytes) -> Header:
    """Reads a file's header. Raises AudioError."""
    if is_known(data):
        return READERS[data[:4]](data)
    start = f"{len(data)} bytes starting with {quoted(data[:8])}" if data else "0 bytes"
    raise AudioError(
        f"audio: {start}; expected a WAV or FLAC file, to which the client package converts others"
    )
