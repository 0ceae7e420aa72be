"""Socket.IO events whose data is JSON in a string."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melodyflow_gateway.socketio.packets import EVENTS, TextPacket
from melodyflow_gateway.wire.base64_audio import decode_audio

SOUND = bytes(range(256)) * 8  # its base64 has / and +
AUDIO = base64.b64encode(SOUND).decode()

texts = st.text(max_size=20) | st.sampled_from(
    ['say "hi"', "a\\b", 'a "\\" b', "ü 🎵", "a\nb", '\\"audio_data\\":\\"', "/"]
)
values = st.none() | st.booleans() | st.integers(-9, 9) | texts
objects = st.dictionaries(texts | st.sampled_from(["session_id", "custom_prompt"]), values).filter(
    lambda data: not {"audio", "audio_data"} & data.keys()
)


def sent(name: str, text: str) -> Any:
    """The event as the gateway reads it."""
    return TextPacket(encoded_packet="2" + json.dumps([name, text])).data


def read(data: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """An event's other fields, and its audio."""
    return data, bytes(decode_audio("audio_data", data.pop("audio_data")))


@given(objects, st.booleans(), st.booleans(), st.booleans())
def test_the_object_is_read_with_its_audio(
    data: dict[str, Any], first: bool, ascii_only: bool, slashes: bool
) -> None:
    whole = {"audio_data": AUDIO, **data} if first else {**data, "audio_data": AUDIO}
    text = json.dumps(whole, ensure_ascii=ascii_only)
    if slashes:  # as Apple's JSONSerialization writes them
        text = text.replace("/", "\\/")
    name, found = sent(EVENTS[0], text)
    assert name == EVENTS[0]
    assert read(found) == (data, SOUND)


@given(objects, st.booleans())
def test_escaped_once_too_often_it_is_read_all_the_same(
    data: dict[str, Any], slashes: bool
) -> None:
    text = json.dumps({**data, "audio_data": AUDIO})
    if slashes:
        text = text.replace("/", "\\/")
    assert read(sent(EVENTS[0], json.dumps(text)[1:-1])[1]) == (data, SOUND)


@pytest.mark.parametrize(
    "text",
    [
        '{\\"session_id\\": "abc", \\"seed\\": 3}',
        '\n {"session_id":\\"abc\\", "seed": 3} ',
        '\\{"session_id": "abc", "seed": 3}\\',
    ],
)
def test_backslashes_that_are_left_over_do_not_matter(text: str) -> None:
    assert sent(EVENTS[1], text)[1] == {"session_id": "abc", "seed": 3}


@given(objects)
def test_without_audio_it_is_the_object(data: dict[str, Any]) -> None:
    assert sent(EVENTS[1], json.dumps(data))[1] == data


def test_lines_of_base64_are_read() -> None:
    text = json.dumps({"audio_data": base64.encodebytes(SOUND).decode()})
    assert read(sent(EVENTS[0], text)[1])[1] == SOUND
    assert read(sent(EVENTS[0], json.dumps(text)[1:-1])[1])[1] == SOUND


@pytest.mark.parametrize("text", ["words", "", "[1]", '"{}"', "{", "{]", "{'a': 1}", "7"])
def test_what_is_not_an_object_stays_text(text: str) -> None:
    assert sent(EVENTS[0], text) == [EVENTS[0], text]


@given(st.text(alphabet='\\"{}:,an 0-', max_size=60))
def test_anything_is_an_object_or_text(text: str) -> None:
    data = sent(EVENTS[0], text)[1]
    assert data == text or isinstance(data, dict)


@pytest.mark.parametrize("character", ["\\", '"', "{", " ", "\\n", "x", '\\"audio_data'])
def test_too_much_of_anything_is_refused(character: str) -> None:
    text = '{"a": "' + character * (2**21 // len(character))
    for end in ("", '"}'):
        with pytest.raises(ValueError, match=r"more than|backslashes"):
            sent(EVENTS[0], text + end)


@pytest.mark.parametrize("data", [{"chunk": "A" * 2**17}, "B" * 2**17, [[]] * 2**15])
def test_a_foreign_event_is_known_by_its_name_whatever_it_holds(data: object) -> None:
    assert TextPacket(encoded_packet="2" + json.dumps(["audio_chunk", data])).data == [
        "audio_chunk"
    ]
