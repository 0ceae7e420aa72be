"""Bodies: read piece by piece, and no further than they are worth it."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melodyflow_gateway.decoding import Decoding
from melodyflow_gateway.problems import Problem
from melodyflow_gateway.wire.body import joined, read_body
from melodyflow_gateway.wire.lifting import lift

PIECE = 2**14


async def _read(body: bytes, taken: list[int]) -> list[bytes]:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), PIECE):
            taken.append(PIECE)
            yield body[at : at + PIECE]

    decoding = Decoding()
    try:
        look = partial(lift, name="audio", whole=False)
        return await read_body(pieces(), decoding, "one", look)
    finally:
        decoding.close()


@pytest.mark.parametrize(
    "begin",
    [b'{"x": "' + b"x" * 2**18, b'{"audio": [' + b"[]," * 2**17, b"{" * 2**18, b"x" * 2**18],
)
def test_what_is_no_audio_is_not_read_to_its_end(begin: bytes) -> None:
    taken: list[int] = []
    with pytest.raises(Problem):
        asyncio.run(_read(begin + b" " * 2**22, taken))
    assert sum(taken) <= 2**17


def test_audio_is_read_to_its_end() -> None:
    body = b'{"variation": "celtic", "audio": "' + b"A" * 2**20 + b'", "seed": 1}'
    assert joined(asyncio.run(_read(body, []))) == body


@given(st.lists(st.binary(max_size=9), max_size=9))
def test_pieces_are_joined_in_their_order(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert joined(pieces) == whole
    assert not pieces


@given(
    fields=st.dictionaries(
        st.text(max_size=5), st.text(max_size=9) | st.integers(0, 99), max_size=5
    ),
    audio=st.text("AZ09+/ ", max_size=40),
    data=st.data(),
)
def test_no_beginning_of_what_is_lifted_is_refused(
    fields: dict[str, object], audio: str, data: st.DataObject
) -> None:
    fields.pop("audio", None)
    fields.pop("audio_data", None)
    text = json.dumps({**fields, "audio": audio, "more": 1}).encode()
    lift(text, "audio")
    lift(text[: data.draw(st.integers(0, len(text)))], "audio", whole=False)
