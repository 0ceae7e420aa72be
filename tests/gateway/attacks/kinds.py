"""Attacks by files of every kind that is read, each made to cost as much as its kind allows."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from ...files import seeds
from ...files.changing import PLAIN_MP3
from ...files.sounds import (
    RATE,
    SIZES,
    ape,
    chunk,
    encoded,
    extensible,
    fmt,
    id3v1,
    id3v2,
    put_size,
    riff,
    with_av,
)
from ...files.whole import noise, piped_flac
from .bodies import edits
from .clients import MIB, Heard, post

_SECONDS = 590  # less than the ten minutes that a clip may have
_LINKS = 990  # less than the most that may be chained
_LARGE = 44 * MIB  # as JSON nearly the largest body


def silence(channels: int = 2, frames: int = RATE) -> np.ndarray:
    return np.zeros((frames, channels), np.int16)


def long_files() -> list[bytes]:
    """Ten minutes in each container whose parts can be put one behind the other: of one kind, and
    of two that take turns, so that each change starts a resampler."""
    made = []
    for container, codec, rates in (
        ("mp3", "libmp3lame", (44_100, 8_000)),
        ("mp2", "mp2", (48_000, 32_000)),
        ("adts", "aac", (48_000, 8_000)),
        ("mpegts", "aac", (48_000, 8_000)),
        ("ac3", "ac3", (48_000, 32_000)),
        ("eac3", "eac3", (48_000, 32_000)),
        ("latm", "aac", (48_000, 48_000)),
        ("ogg", "libopus", (48_000, 48_000)),
        ("ogg", "flac", (48_000, 8_000)),
    ):
        options = PLAIN_MP3 if container == "mp3" else None
        first, second = (
            with_av(container, codec, [silence(channels, rate)], rate=rate, options=options)
            for rate, channels in zip(rates, (2, 1), strict=True)
        )
        made += [first * _SECONDS, (first + second) * (_SECONDS // 2)]
    high, low = (
        piped_flac(data=with_av("flac", "flac", [silence(8, rate // 4)], rate=rate, layout="7.1"))
        for rate in (192_000, 8_000)
    )
    made += [(high + low) * (_LINKS // 2), (high + id3v1() + id3v2(50)) * _LINKS]
    return made


def lying_files() -> list[bytes]:
    """Sizes that are as large as can be written, many channels, headers that are odd."""
    made = []
    for container, (layout, place) in SIZES.items():
        data = encoded(container, None, silence())
        for size in (0, 2**31 - 1, 2**64 - 1):
            made.append(put_size(data, layout, place(data), size))
    for channels in (8, 32, 1000, 32_767):
        data = chunk(b"data", bytes(MIB))
        made += [riff(extensible(channels, 16, 0x63F), data), riff(fmt(channels, 8), data)]
    made += [riff(fmt(align=align), chunk(b"data", bytes(MIB))) for align in (0, 1, 65_535)]
    return made


def large_files() -> Iterator[bytes]:
    """Short sounds before, behind and between tens of megabytes of what looks like sound."""
    wav, mp3 = encoded("WAV"), with_av("mp3", "libmp3lame")

    def much(text: bytes) -> bytes:
        return text * (_LARGE // len(text))

    yield id3v2(_LARGE) + wav
    yield wav + ape() + much(b"\0")
    yield much(b"\0") + mp3
    yield mp3 + much(b"\xff\xfb\x90\x64") + mp3
    yield with_av("ac3", "ac3", rate=48_000) + much(b"\x0b\x77")
    yield piped_flac() + much(b"ID3")
    yield piped_flac() + much(b"fLaC")
    yield encoded("OGG", "VORBIS") + much(b"OggS\0")
    yield noise(_LARGE)


def every_kind(url: str, address: str) -> Generator[None, float, Heard]:
    """A file of each container and coding, one that is as long as can be, and one that lies."""
    bodies = edits([*seeds.files(RATE // 2).values(), *long_files(), *lying_files()], timeout_s=8)
    until = yield
    return post(url, address, until, "/transform", bodies)


def much_around(url: str, address: str) -> Generator[None, float, Heard]:
    """Files of which little is sound."""
    bodies = edits(large_files(), timeout_s=8)
    until = yield
    return post(url, address, until, "/transform", bodies)
