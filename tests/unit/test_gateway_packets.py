"""Socket.IO's packets: what clients send is taken apart at a bounded cost."""

import base64
import json
import logging

import engineio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melodyflow_gateway.problems import Problem
from melodyflow_gateway.socketio.messages import _short_body
from melodyflow_gateway.socketio.packets import (
    EVENTS,
    EngineJson,
    Json,
    LargeEvent,
    TextPacket,
    WithoutTraceback,
    look_at,
)

AUDIO = base64.b64encode(bytes(range(256)) * 4).decode()


def test_audio_is_lifted_out_of_an_event() -> None:
    event = ["transform_audio_request", {"session_id": "a", "audio_data": AUDIO, "seed": 1}]
    packet = TextPacket(encoded_packet="2" + json.dumps(event))
    name, data = packet.data
    assert name == event[0]
    assert bytes(data.pop("audio_data")).decode() == AUDIO
    assert data == {"session_id": "a", "seed": 1}


@given(
    st.recursive(
        st.none() | st.integers(-(2**60), 2**60) | st.text().filter(lambda text: "{" not in text),
        lambda inner: st.lists(inner),
    )
)
def test_other_events_are_as_json_reads_them(value: object) -> None:
    event = ["name", value]
    assert TextPacket(encoded_packet="2" + json.dumps(event)).data == event


@pytest.mark.parametrize(
    "text",
    [
        '2["x"',
        "2[]",
        "2[1]",
        "2{}",
        "2",
        "2" + "9" * 400 + '["x"]',
        "2[" * 10,
        f'2["{EVENTS[0]}", ' + "[" * 100 + "]" * 100 + "]",
        f'2["{EVENTS[0]}", "' + "x" * 2**17 + '"]',
        f'2["{EVENTS[0]}", {{"audio_data": "A", "audio_data": "A"}}]',
        "x",
        '511111111111111-["a"]',
    ],
)
def test_what_is_not_an_event_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the libraries' own texts among them
        TextPacket(encoded_packet=text)


@given(st.text(max_size=60))
def test_anything_else_is_a_packet_or_a_value_error(text: str) -> None:
    try:
        TextPacket(encoded_packet=text)
    except (ValueError, IndexError):
        return


def test_nothing_large_is_built_of_lists() -> None:
    with pytest.raises(ValueError, match="more than 65536 bytes"):
        Json.loads(f'["{EVENTS[0]}", [' + "[]," * 10**7 + "[]]]")
    packet = engineio.packet.Packet(encoded_packet="4" + json.dumps({"sid": "x"}))
    assert packet.data == {"sid": "x"}
    engineio.packet.Packet.json, before = EngineJson, engineio.packet.Packet.json
    try:
        lists = "[" + "[]," * 10**7 + "[]]"
        assert engineio.packet.Packet(encoded_packet="4" + lists).data == lists
    finally:
        engineio.packet.Packet.json = before


@given(
    head=st.sampled_from(["2", "212", "2/room,", "2/room,7", "51-"]),
    name=st.sampled_from([*EVENTS, "audio_chunk", 'a "b"']),
    fields=st.dictionaries(
        st.sampled_from(["session_id", "seed"]), st.text(max_size=9) | st.none()
    ),
    audio=st.none() | st.just(AUDIO),
    in_a_string=st.booleans(),
)
def test_a_large_event_is_read_like_any_other(
    head: str, name: str, fields: dict[str, object], audio: str | None, in_a_string: bool
) -> None:
    data: object = fields if audio is None else {**fields, "audio_data": audio}
    text = head + json.dumps([name, json.dumps(data) if in_a_string else data])
    expected, event = TextPacket(encoded_packet=text), LargeEvent(bytearray(f"4{text}".encode()))
    assert (event.packet_type, event.namespace, event.id) == (
        expected.packet_type,
        expected.namespace,
        expected.id,
    )
    assert event.data == expected.data


@pytest.mark.parametrize(
    "message", ["3", "4", "40", "41", '4[]"', "43[]", "2" * 300 + "[]", '42["x"']
)
def test_only_an_event_may_be_large(message: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        LargeEvent(message.encode())


def test_short_packets_stand_for_large_ones() -> None:
    large = "A" * 2**17
    events = [f'42["{EVENTS[0]}",{{"audio_data":"{audio}"}}]' for audio in (large, AUDIO, large)]
    read: dict[str, LargeEvent] = {}
    body = _short_body(bytearray("\x1e".join(["3", *events]).encode()), read).split(b"\x1e")
    assert body[0] == b"3"
    assert body[2].decode() == events[1]
    for number in (1, 3):
        event = read.pop(body[number][1:].decode())
        assert event.data[1]["audio_data"] == large.encode()
    assert not read


@pytest.mark.parametrize("body", [b"4" + b"x" * 2**17, b"3" * 2**17, b'42["x"' + b" " * 2**17])
def test_a_large_packet_that_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(Problem, match="body: ") as refused:
        _short_body(bytearray(body), {})
    assert refused.value.status == 400


def test_a_long_body_is_refused_by_its_beginning() -> None:
    begins = f'42["{EVENTS[0]}",{{'.encode()
    rest = b"A" * 2**17
    look_at(bytearray(begins + b'"audio_data": "' + rest))
    look_at(bytearray(b'42["audio_chunk",{"chunk":"' + rest))  # refused by its name
    look_at(bytearray(f'42["{EVENTS[0]}","{{\\"audio_data\\":\\"'.encode() + rest))
    for other in (b'"x": "' + rest, b'"x": [' + b"[]," * 2**15, b'"audio_data": ["' + rest):
        with pytest.raises(Problem, match="more than 65536 bytes") as refused:
            look_at(bytearray(begins + other))
        assert refused.value.status == 413


def test_a_traceback_of_a_clients_making_is_one_line() -> None:
    record = logging.LogRecord("x", logging.ERROR, "", 0, "post request handler error", None, None)
    try:
        raise ValueError("no packet")
    except ValueError as error:
        record.exc_info = (ValueError, error, None)
    assert WithoutTraceback().filter(record)
    assert record.getMessage() == "post request handler error: ValueError: no packet"
    assert record.exc_info is None
