"""A request's body, whole."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from functools import partial

from ..decoding import Decoding

# Bytes of a body by which it is known whether more of it is worth reading: twice what may stand
# beside audio.
_BEGINNING = 2**17


async def read_body(
    pieces: AsyncIterable[bytes],
    decoding: Decoding,
    owner: str,
    look: Callable[[bytearray], object],
) -> list[bytes]:
    """The pieces of a body. look: is called once with the beginning of a long one, in a thread;
    what it raises ends the reading, however much is announced."""
    read: list[bytes] = []
    size = 0
    async for piece in pieces:
        before, size = size, size + len(piece)
        read.append(piece)
        if before < _BEGINNING <= size:
            await decoding.run(partial(look, joined(list(read))), owner)
    return read


def joined(pieces: list[bytes]) -> bytearray:
    """The pieces as one, which lets go of each. Not for the event loop: one with tens of megabytes
    takes a while."""
    pieces.reverse()
    whole = bytearray()
    while pieces:
        whole += pieces.pop()
    return whole
