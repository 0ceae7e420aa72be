"""Logs as JSON, one object a line: times, routes and statuses; never audio, prompts at debug."""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import dataclass
from typing import TextIO

LONGEST = 16384  # characters of a line, tracebacks included
_SHOWN = 200  # of a message, to tell kinds apart
_KINDS = 256  # remembered at once; more kinds than that are all written

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """A record as a JSON object: what was given as `extra` becomes keys of it."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= {
            name: value
            for name, value in vars(record).items()
            if name not in _PLAIN and value is not None
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Repeats(logging.StreamHandler[TextIO]):
    """Writes a warning of one kind once, and then every `seconds` how often it came again.

    A kind is a logger's message before its values are put in. What is below a warning is written
    always: requests are counted by it. Lines are cut at LONGEST characters.
    """

    def __init__(self, stream: TextIO, seconds: float = 10.0) -> None:
        super().__init__(stream)
        self._seconds = seconds
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        for name, kind in list(self._kinds.items()):
            if now - kind.since < self._seconds:
                continue
            if not kind.repeated:
                del self._kinds[name]
                continue
            kind.last.repeated = kind.repeated
            super().emit(kind.last)
            kind.since, kind.repeated = now, 0
        if record.levelno >= logging.WARNING:
            name = record.name, str(record.msg)[:_SHOWN]
            if name in self._kinds:
                self._kinds[name].repeated += 1
                self._kinds[name].last = record
                return
            if len(self._kinds) < _KINDS:
                self._kinds[name] = _Kind(now, record)
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


@dataclass
class _Kind:
    since: float
    last: logging.LogRecord
    repeated: int = 0


def log_to_stderr(level: str) -> None:
    """Sets up the process' logs: what the gateway says from `level` on, of libraries warnings.
    What they say below that may hold the paths and the ids that open a session."""
    handler = Repeats(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("melodyflow_gateway").setLevel(level.upper())
