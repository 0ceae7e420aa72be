"""Everything else, decoded by FFmpeg through PyAV, an extra."""

from __future__ import annotations

import ctypes.util
import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..blocks import Block
from ..source import File
from .frames import Converter, decoded, first, gathered
from .sound import Check, NotInstalled, Sound, Undecodable

# Playlists and other formats that make FFmpeg open further files or addresses are left out.
_FORMATS = (
    "mp3,mov,mp4,m4a,3gp,matroska,webm,ogg,aac,avi,flv,mpeg,mpegts,asf,wav,aiff,caf,w64,flac,"
    "wv,ape,ac3,eac3,dts,amr,au,mp2"
)

# FFmpeg's names of a decoder's samples -> what is asked of the resampler, and what holds it
_DEPTHS = {
    "u8": ("s16", "PCM_16"),
    "s16": ("s16", "PCM_16"),
    "s32": ("s32", "PCM_32"),
}


def read_header(file: File, check: Check) -> Sound:
    """The sound of the file's default audio track; more than two channels are mixed to stereo.
    Raises Undecodable."""
    av = _import()
    warnings: list[str] = []
    with _open(av, file, check) as container:
        stream = _track(container)
        context = stream.codec_context
        rate, there = int(context.sample_rate), int(context.channels)
        kind = context.format.name.removesuffix("p") if context.format else ""
        announced = _announced(container, stream, rate)
        total = announced if container.format.name == "flac" else None  # others estimate it
        tracks = len(container.streams.audio)
        if tracks > 1:
            number = 1 + list(container.streams.audio).index(stream)
            warnings.append(f"number {number} of {tracks} audio tracks was taken")
    if there > 2:
        warnings.append(f"{there} channels were mixed to stereo")
    sample_format, subtype = ("flt", None) if there > 2 else _DEPTHS.get(kind, ("flt", None))
    channels = 1 if there == 1 else 2

    def blocks() -> Iterator[Block]:
        converter = Converter(av, sample_format, channels, rate)
        with _open(av, file, check) as container:
            stream = _track(container)
            decoding = decoded(av, container.demux(stream), converter, check, warnings)
            yield from first(total, gathered(decoding, channels))

    return Sound(
        sample_rate=rate,
        channels=channels,
        # encoders pad, so what is longer by less than a second may turn out to fit
        samples=None if announced is None else max(announced - rate, 0),
        subtype=subtype,
        sent_unchanged=False,
        blocks=blocks,
        warnings=warnings,
    )


def _import() -> Any:
    try:
        import av
    except ImportError as error:
        raise NotInstalled(
            "audio: is neither WAV nor FLAC; other formats (MP3, M4A, OGG, video) need PyAV: "
            'pip install "melodyflow-client[av]"'
        ) from error
    return av


@functools.cache
def _audio_decoders() -> str:
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
        package = Path(_import().__file__).parent
    except NotInstalled:
        return
    bundled = [*package.parent.glob("av.libs/libavutil*"), *package.glob(".dylibs/libavutil*")]
    library = str(bundled[0]) if bundled else ctypes.util.find_library("avutil")
    if library is not None:
        ctypes.CDLL(library).av_max_alloc(ctypes.c_size_t(most))


def _open(av: Any, file: File, check: Check) -> Any:
    file.stream.seek(0)
    options = {
        "format_whitelist": _FORMATS,
        "protocol_whitelist": "none",
        "codec_whitelist": _audio_decoders(),
        "max_streams": "64",  # each may have an index as large as cap_allocations() allows
    }
    try:
        return av.open(_Checked(file.stream, check), "r", options=options, metadata_errors="ignore")
    except av.error.FFmpegError as error:
        raise _undecodable(error) from error


class _Checked(io.RawIOBase):
    """A file that looks at `check` whenever FFmpeg reads, which it also does before it decodes."""

    def __init__(self, stream: Any, check: Check) -> None:
        self._stream, self._check = stream, check

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self._check()
        data: bytes = self._stream.read(size)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())


def _track(container: Any) -> Any:
    if not container.streams.audio:
        raise Undecodable("audio: the file has no sound track")
    stream = container.streams.best("audio") or container.streams.audio[0]
    if stream.codec_context is None:
        raise Undecodable("audio: FFmpeg has no decoder for its sound track")
    return stream


def _announced(container: Any, stream: Any, rate: int) -> int | None:
    """The samples that the header announces; None where FFmpeg estimates them from a bit rate."""
    if stream.duration is None or stream.time_base is None or container.format.name in _ESTIMATED:
        return None
    return int(stream.duration * stream.time_base * rate)


_ESTIMATED = {"mp3", "aac", "ac3", "eac3", "dts", "mpeg", "mpegts", "amr", "flv", "avi", "asf"}


def _undecodable(error: Any) -> Undecodable:
    reason = error.strerror or ""
    if reason.startswith("Error number"):  # one of FFmpeg's own, without a text
        reason = ""
    return Undecodable(f"audio: is no sound that can be decoded{': ' + reason if reason else ''}")
