"""Everything else, decoded by FFmpeg through PyAV, an extra."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..blocks import Block, frames_of_block
from ..source import File
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
    """The sound of the file's first audio track; more than two channels are mixed to stereo.
    Raises Undecodable."""
    av = _import()
    with _open(av, file, check) as container:
        stream = _audio(container)
        context = stream.codec_context
        rate, channels = int(context.sample_rate), 1 if context.channels == 1 else 2
        kind = context.format.name.removesuffix("p") if context.format else ""
        announced = _announced(container, stream, rate)
        mixed = context.channels > 2
    sample_format, subtype = ("flt", None) if mixed else _DEPTHS.get(kind, ("flt", None))

    def blocks() -> Iterator[Block]:
        with _open(av, file, check) as container:
            yield from _gathered(_decoded(av, container, rate, channels, sample_format), channels)

    return Sound(
        sample_rate=rate,
        channels=channels,
        samples=announced,
        subtype=subtype,
        sent_unchanged=False,
        blocks=blocks,
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


def _open(av: Any, file: File, check: Check) -> Any:
    file.stream.seek(0)
    options = {
        "format_whitelist": _FORMATS,
        "protocol_whitelist": "none",
        "codec_whitelist": _audio_decoders(),
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


def _audio(container: Any) -> Any:
    if not container.streams.audio:
        raise Undecodable("audio: the file has no sound track")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise Undecodable("audio: FFmpeg has no decoder for its sound track")
    return stream


def _announced(container: Any, stream: Any, rate: int) -> int | None:
    """The samples that the header announces; None where FFmpeg estimates them from a bit rate."""
    if stream.duration is None or stream.time_base is None or container.format.name in _ESTIMATED:
        return None
    return int(stream.duration * stream.time_base * rate)


_ESTIMATED = {"mp3", "aac", "ac3", "eac3", "dts", "mpeg", "mpegts", "amr", "flv", "avi", "asf"}


def _decoded(
    av: Any, container: Any, rate: int, channels: int, sample_format: str
) -> Iterator[Block]:
    """Blocks as the decoder makes them; whatever the stream changes to, they stay in one format."""
    stream = _audio(container)
    layout = "mono" if channels == 1 else "stereo"
    source = resampler = None
    try:
        for packet in container.demux(stream):
            for frame in packet.decode():
                if resampler is None or source != _format(frame):
                    if resampler is not None:
                        yield from _resampled(resampler, None, channels)
                    source = _format(frame)
                    resampler = av.AudioResampler(format=sample_format, layout=layout, rate=rate)
                yield from _resampled(resampler, frame, channels)
        if resampler is not None:
            yield from _resampled(resampler, None, channels)
    except av.error.FFmpegError as error:
        raise _undecodable(error) from error


def _format(frame: Any) -> tuple[object, ...]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _resampled(resampler: Any, frame: Any, channels: int) -> Iterator[Block]:
    for block in resampler.resample(frame):  # None: what it still holds
        yield block.to_ndarray().reshape(-1, channels)


def _gathered(blocks: Iterator[Block], channels: int) -> Iterator[Block]:
    """Small blocks, joined to larger ones."""
    waiting: list[Block] = []
    frames = 0
    for block in blocks:
        waiting.append(block)
        frames += len(block)
        if frames >= frames_of_block(channels):
            yield np.concatenate(waiting)
            waiting, frames = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _undecodable(error: Any) -> Undecodable:
    return Undecodable(f"audio: is no sound that can be decoded: {error.strerror or error}")
