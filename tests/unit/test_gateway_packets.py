"""Socket.IO's packets: what clients send is taken apart at a bounded cost."""

import base64
import json
import logging

import engineio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melodyflow_gateway.socketio.packets import (
    EVENTS,
    EngineJson,
    Json,
    TextPacket,
    WithoutTraceback,
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


def test_a_traceback_of_a_clients_making_is_one_line() -> None:
    record = logging.LogRecord("x", logging.ERROR, "", 0, "post request handler error", None, None)
    try:
        raise ValueError("no packet")
    except ValueError as error:
        record.exc_info = (ValueError, error, None)
    assert WithoutTraceback().filter(record)
    assert record.getMessage() == "post request handler error: ValueError: no packet"
    assert record.exc_info is None
