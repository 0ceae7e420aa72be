"""PyAV, an extra, and how FFmpeg is set up."""

from __future__ import annotations

import ctypes.util
import functools
from pathlib import Path
from typing import Any

from .sound import NotInstalled

INSTALL = 'pip install "melodyflow-client[av]"'


def imported() -> Any:
    """The module. Raises NotInstalled."""
    try:
        import av
    except ImportError as error:
        raise NotInstalled(
            f"audio: to be decoded, it needs PyAV, as MP3, M4A, OGG and video do: {INSTALL}"
        ) from error
    return av


@functools.cache
def audio_decoders() -> str:
    """The names of FFmpeg's audio decoders. No other one is ever opened: FFmpeg would decode cover
    pictures only to learn their size."""
    from av.codec import Codec, codecs_available

    names = []
    for name in sorted(codecs_available):
        try:
            decoder = Codec(name, "r")
        except ValueError:  # an encoder
            continue
        if decoder.type == "audio":
            names.append(name)
    return ",".join(names)


def cap_allocations(most: int = 2**24) -> None:
    """Caps what FFmpeg allocates at once, in bytes, in the whole process; for programs that decode
    strangers' files.

    A few bytes of an MP4 can announce 10^8 packets, whose index FFmpeg builds before anything is
    decoded. The default has room for that of 4 hours of AAC. Without PyAV, or where its libraries
    aren't found, nothing happens.
    """
    try:
        package = Path(imported().__file__).parent
    except NotInstalled:
        return
    bundled = [*package.parent.glob("av.libs/libavutil*"), *package.glob(".dylibs/libavutil*")]
    library = str(bundled[0]) if bundled else ctypes.util.find_library("avutil")
    if library is not None:
        ctypes.CDLL(library).av_max_alloc(ctypes.c_size_t(most))
