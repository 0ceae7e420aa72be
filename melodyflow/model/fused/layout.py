"""The layout of a call's sequences among its tokens, in sizes few enough to be recorded."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def padded(tokens: int) -> int:
    """Rounds tokens up to a recorded size: by at most an eighth from 512 on, and by at most a
    sixteenth from 4096 on, where a call's time is proportional to its tokens."""
    bits = max(tokens - 1, 1).bit_length()
    step = max(64, 1 << max(0, bits - (4 if bits <= 12 else 5)))
    return -(-tokens // step) * step


def _power(least: int, n: int) -> int:
    """The smallest power of two that is at least `least` and `n`."""
    return max(least, 1 << (n - 1).bit_length())


@dataclass(frozen=True)
class Size:
    """The sizes a recorded call depends on; all but `frames` are rounded up."""

    told: int  # tokens of sequences with a text, which come first
    null: int  # tokens of the others
    sequences: int
    longest: int
    text: int  # text tokens
    longest_text: int
    frames: int  # of each sequence, if all are equal and fill the tokens; else 0

    @property
    def tokens(self) -> int:
        return self.told + self.null


@dataclass(frozen=True, eq=False)
class Layout:
    """The layout of a call's sequences among its tokens."""

    size: Size
    begins: tuple[int, ...]
    starts: Tensor  # [sequences + 1] int32: all, for self-attention
    told_starts: Tensor  # [sequences + 1] int32: those with a text
    text_starts: Tensor  # [sequences + 1] int32: their texts
    owner: Tensor  # [tokens] int32
    position: Tensor  # [tokens] int32, within the sequence
    extent: Tensor  # of `attend`
    text_extent: Tensor

    @staticmethod
    def of(
        told: Sequence[int],
        null: Sequence[int],
        texts: Sequence[int],
        window: int,
        device: torch.device,
    ) -> "Layout":
        """`told`, `null`: frames of the sequences with and without a text; `texts`: tokens of each
        text; `window`: the length for which exact sizes are worthwhile."""
        frames = [*told, *null]
        equal = window if set(frames) == {window} else 0
        size = Size(
            told=padded(sum(told)) if told and not equal else sum(told),
            null=padded(sum(null)) if null and not equal else sum(null),
            sequences=_power(8, len(frames) + 1),
            longest=_power(128, max(frames)),
            text=_power(64, sum(texts)) if texts else 0,
            longest_text=_power(64, max(texts)) if texts else 0,
            frames=equal,
        )
        owner, position = torch.zeros((2, size.tokens), dtype=torch.int32)
        begins, starts, at = [], [0], 0
        for i, length in enumerate(frames):
            if i == len(told) and at < size.told:
                at = size.told
                starts.append(at)  # the padding is a sequence of its own
            begins.append(at)
            owner[at : at + length] = i
            position[at : at + length] = torch.arange(length)
            at += length
            starts.append(at)
        told_starts, text_starts = [0], [0]
        for length, tokens in zip(told, texts, strict=True):
            told_starts.append(told_starts[-1] + length)
            text_starts.append(text_starts[-1] + tokens)

        def filled(starts: list[int]) -> Tensor:
            """Filled up with empty sequences."""
            empty = [starts[-1]] * (size.sequences + 1 - len(starts))
            return torch.tensor(starts + empty, dtype=torch.int32, device=device)

        return Layout(
            size=size,
            begins=tuple(begins),
            starts=filled(starts),
            told_starts=filled(told_starts),
            text_starts=filled(text_starts),
            owner=owner.to(device),
            position=position.to(device),
            extent=torch.tensor((size.longest, size.longest, size.frames)),
            text_extent=torch.tensor((size.longest, size.longest_text, 0)),
        )
