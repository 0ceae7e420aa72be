"""What a file says of its sound, and how its samples are got."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from ...errors import AudioError
from ..blocks import Block, to_float32
from ..mixing import Layout, stereo_gains, told

Check = Callable[[], None]  # called between blocks; ends the decoding by raising


class Undecodable(AudioError):
    """This decoder makes nothing of the file; another one may."""


class Damaged(Undecodable):
    """The file is of a decoder's own kind, and broken; the text says where, without "audio:"."""

    def __init__(self, what: str) -> None:
        super().__init__(f"audio: cannot be decoded: {what}")
        self.what = what


class NotInstalled(Undecodable):
    """The decoder belongs to an extra that is missing."""


@dataclass
class Sound:
    """A file's sound, as its header has it; none of it is to be trusted.

    channels: of a block. samples: per channel, None where the file does not say. subtype: what
    holds a sample exactly, as soundfile names it: PCM_16 (blocks of int16), PCM_24 and PCM_32
    (int32, the highest bits), FLOAT, DOUBLE; None for lossy codings (float32), which have no depth
    of their own. sent_unchanged: whether the server reads the file as it is. layout: the speaker of
    each channel, where the file names them.
    """

    sample_rate: int
    channels: int
    samples: int | None
    subtype: str | None
    sent_unchanged: bool
    blocks: Callable[[], Iterator[Block]]  # from the start, each time; raises Undecodable
    warnings: list[str] = field(default_factory=list)  # what was guessed or repaired so far
    layout: Layout = ()


def in_stereo(sound: Sound) -> Sound:
    """More than two channels mixed to stereo, and told. Raises AudioError."""
    if sound.channels <= 2:
        return sound
    gains = stereo_gains(sound.layout, sound.channels)
    sound.warnings.append(told(sound.layout, sound.channels))
    return replace(
        sound,
        channels=2,
        subtype=None,
        sent_unchanged=False,
        blocks=lambda: (to_float32(block) @ gains for block in sound.blocks()),
    )
