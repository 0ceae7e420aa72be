"""Sounds that stand one after another in a file, as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..blocks import Block
from ..source import File
from . import pyav
from .converter import Converter
from .frames import gathered
from .sound import Check, NotInstalled, Sound, Undecodable

MOST_LINKS = 1000


def chained(links: Sequence[File], read: Callable[[File, Check], Sound], check: Check) -> Sound:
    """All of it at the rate and channels of the first that can be decoded; what can't be is told.
    read: of one link, two channels at most. Raises Undecodable."""
    for number, link in enumerate(links):
        try:
            sound = read(link, check)
        except Undecodable:
            continue
        return _behind(sound, links[number + 1 :], read, check, left_out=number)
    raise Undecodable(f"audio: nothing of {len(links)} chained streams can be decoded")


def _behind(
    sound: Sound,
    links: Sequence[File],
    read: Callable[[File, Check], Sound],
    check: Check,
    left_out: int,
) -> Sound:
    channels, rate = sound.channels, sound.sample_rate
    warnings = sound.warnings

    def decoded() -> Iterator[Block]:
        converter = Converter(channels, rate)
        lost, reason = left_out, ""
        for part in (None, *links):
            try:
                link = sound if part is None else read(part, check)
                for block in link.blocks():
                    yield from converter.convert(block, link.layout, link.sample_rate)
            except (Undecodable, ValueError) as error:
                lost += 1
                if isinstance(error, NotInstalled):
                    reason = f"; they need PyAV: {pyav.INSTALL}"
                continue
            if link is not sound:
                warnings.extend(word for word in link.warnings if word not in warnings)
        yield from converter.rest()
        warnings.extend(converter.changes)
        if lost:
            count = len(links) + 1 + left_out
            warnings.append(f"{lost} of {count} chained streams left out{reason}")

    return Sound(
        sample_rate=rate,
        channels=channels,
        samples=sound.samples,  # at least
        subtype=None,  # the links may differ
        sent_unchanged=False,
        blocks=lambda: gathered(decoded(), channels),
        warnings=warnings,
    )
