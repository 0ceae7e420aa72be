"""What Socket.IO's clients send, taken apart at a bounded cost."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from typing import Any

import socketio

from ..problems import Problem
from ..wire.lifting import PLACEHOLDER, lift
from .quoted import is_quoted, quoted_event

AUDIO = "audio_data"  # the only field of an event that may be large
# What clients may send.
EVENTS = ("transform_audio_request", "undo_transform_request", "request_progress_status")
_NAME = re.compile(rb'\s*\[\s*"([A-Za-z0-9_:.-]{1,100})"\s*,')  # of an event
_LONGEST_ENGINE_JSON = 4096  # characters
RESERVED = ("connect", "disconnect")
SEPARATOR = b"\x1e"  # between the packets of a body
_MESSAGE = b"4"  # Engine.IO's type of a packet that carries one of Socket.IO's
_LONGEST_HEAD = 256  # bytes before an event's JSON: its type, namespace and id


class Json:
    """Socket.IO's JSON: audio stays as it is, in base64, and is not parsed.

    An event's audio becomes a memoryview of its characters. Raises ValueError for what is no JSON
    or is more than an event may hold.
    """

    dumps = staticmethod(json.dumps)

    @staticmethod
    def loads(text: str | bytes, **_: Any) -> Any:
        return event_of(text.encode() if isinstance(text, str) else text)


def event_of(text: bytes | bytearray, start: int = 0) -> Any:
    """The same for JSON that begins at `start`; the audio is a part of `text`, not a copy."""
    try:
        quoted = quoted_event(text, AUDIO, start)
        if quoted is not None:
            return quoted
        lifted = lift(text, AUDIO, start)
        value = json.loads(lifted.rest)
    except Problem as problem:
        foreign = _foreign_name(text, start)
        if foreign is not None:
            return [foreign]  # it is refused, whatever it holds
        raise ValueError(problem.message) from None
    except RecursionError as error:
        raise ValueError(str(error)) from None
    if lifted.audio is not None:
        for part in value if isinstance(value, list) else ():
            if isinstance(part, dict) and part.get(AUDIO) == PLACEHOLDER.decode():
                part[AUDIO] = lifted.audio
    return value


def look_at(beginning: bytearray) -> None:
    """Raises Problem for the beginning of a long body that can't be an event of ours: one with too
    much beside its audio. A body of several packets, or JSON in a string, is looked at when it is
    here."""
    start = beginning.find(b"[", 0, _LONGEST_HEAD)
    if start < 0 or SEPARATOR in beginning or is_quoted(beginning, start):
        return
    if _foreign_name(beginning, start) is None:  # else it is refused by its name
        lift(beginning, AUDIO, start, whole=False)


def _foreign_name(text: bytes | bytearray, start: int) -> str | None:
    """The name of an event that isn't ours."""
    name = _NAME.match(text, start)
    return None if name is None or name[1].decode() in EVENTS else name[1].decode()


class EngineJson:
    """Engine.IO's JSON, under Socket.IO's: it tries every message, and only its own are short."""

    dumps = staticmethod(json.dumps)

    @staticmethod
    def loads(text: str, **_: Any) -> Any:
        if len(text) > _LONGEST_ENGINE_JSON:
            raise ValueError("too long")
        return json.loads(text)


class TextPacket(socketio.packet.Packet):  # type: ignore[misc]  # published without types
    """A packet without binary attachments, of which one event could have any number, each as large
    as a message may be. Audio comes in base64; who sends it otherwise finds a placeholder read."""

    json: Any = Json
    packet_type: int
    data: Any
    id: int | None

    def decode(self, encoded_packet: str | bytes) -> int:
        """Raises ValueError for what no client of ours sends."""
        if not isinstance(encoded_packet, str):
            raise ValueError("binary attachments are not allowed")
        super().decode(encoded_packet)
        if self.packet_type in (socketio.packet.BINARY_EVENT, socketio.packet.BINARY_ACK):
            self.packet_type = socketio.packet.EVENT
        if self.packet_type == socketio.packet.EVENT:
            named = isinstance(self.data, list) and self.data and isinstance(self.data[0], str)
            if not named:
                raise ValueError("an event is a list that begins with its name")
            # Socket.IO would call its own handlers with what the client says.
            if self.data[0] in RESERVED:
                raise ValueError("the name of an event is reserved")
            if len(self.data) > 2:
                raise ValueError("an event carries one object")
        return 0


class LargeEvent(TextPacket):
    """An event whose JSON is read where it lies: the library would copy it several times."""

    def __init__(self, message: bytes | bytearray) -> None:
        """message: as Engine.IO has it, its own type first. Raises ValueError."""
        start = message.find(b"[", 0, _LONGEST_HEAD)
        if start < 0 or message[:1] != _MESSAGE:
            raise ValueError("only an event may be so long")
        self.json = _Read(event_of(message, start))
        super().__init__(encoded_packet=message[1:start].decode() + "[]")
        if self.packet_type != socketio.packet.EVENT:
            raise ValueError("only an event may be so long")


@dataclass(frozen=True)
class _Read:
    """JSON that has been read already."""

    value: Any

    def loads(self, _: str) -> Any:
        return self.value


class WithoutTraceback(logging.Filter):
    """For the libraries' logs: what a client sent that is no packet is one line, not a traceback.
    Errors of ours in an event's handler do not come this way: they are answered and logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            record.msg = f"{record.msg}: {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            record.exc_info = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True
