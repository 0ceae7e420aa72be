"""Detects when a tritonserver must be replaced: it has ended, it hangs, or its model's process is
gone.

Triton 2.51 stays live and ready when its model's process has died or its gRPC streams hang, and
every edit then waits forever. Readiness doesn't reveal this, so the watch checks the process table,
the model's heartbeat, and a stream of its own. A busy server is left alone: a full queue, a long
network call or a loaded machine don't count as death.

`serve` then restarts the server; `container` exits.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from melodyflow.embedded.probe import answers_http, answers_stream
from melodyflow.embedded.processes import ending, models_of, read_process, runs

LOOK_SECONDS = 0.25
STOPPED_SECONDS = 1.0  # shorter stops are taken for a deliberate pause
MUTE_SECONDS = 10.0  # without a heartbeat
SILENT_SECONDS = 20.0  # without an answer
PROBE_EVERY, PROBE_TIMEOUT = 2.0, 3.0  # seconds
MOST_BETWEEN = PROBE_EVERY + 2 * PROBE_TIMEOUT + 1.0  # between two looks, unless we were paused


class Lasting:
    """Measures for how many seconds in a row a condition has held.

    When the whole machine or container is paused, the clock jumps although nothing could change, so
    at most a few seconds of a gap count.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._seen = time.monotonic()

    def see(self, so: bool) -> float:
        now = time.monotonic()
        passed = min(now - self._seen, MOST_BETWEEN)
        self._seen = now
        self.seconds = self.seconds + passed if so else 0.0
        return self.seconds


class Stops:
    """Detects processes that were stopped (SIGSTOP) and not continued, in any phase."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._stopped: dict[int, Lasting] = {}

    def look(self, models: Iterable[int]) -> str | None:
        """Returns why the server must be replaced, if it must. `models`: its models' processes."""
        for pid, who in {
            self._server: "tritonserver",
            **dict.fromkeys(models, "the model"),
        }.items():
            process = read_process(pid)
            stopped = process is not None and process.state == "T"
            if self._stopped.setdefault(pid, Lasting()).see(stopped) >= STOPPED_SECONDS:
                return f"{who}'s process ({pid}) is stopped (SIGSTOP)"
        return None


class Watch:
    """Watches a tritonserver that is ready, and its models' processes.

    `http_port`, `grpc_port`: on loopback. `heartbeats`: the models' folder. A front end or
    heartbeat that never answered isn't expected to: it may be switched off.
    """

    def __init__(
        self, server: subprocess.Popen[bytes], http_port: int, grpc_port: int, heartbeats: Path
    ) -> None:
        self._server, self._heartbeats = server, heartbeats
        self._models = models_of(server.pid)
        self._stops = Stops(server.pid)
        self._beats: dict[str, int] = {}
        self._mute: dict[str, Lasting] = {}
        self._probes = [
            Probe("HTTP", lambda: answers_http(http_port, "/v2/health/live", PROBE_TIMEOUT)),
            Probe("gRPC", lambda: answers_stream(grpc_port, PROBE_TIMEOUT)),
        ]
        self._probe_due = 0.0
        self._asking: threading.Thread | None = None
        self._unanswered: str | None = None

    def wait(self, ended: Callable[[], bool] = lambda: False) -> str | None:
        """Blocks until the server must be replaced, and returns why; None if `ended()` is true
        first."""
        while not ended():
            reason = self.look()
            if reason is not None:
                return reason
            time.sleep(LOOK_SECONDS)
        return None

    def look(self) -> str | None:
        """Returns why the server must be replaced; None if it is serving or busy."""
        code = self._server.poll()
        if code is not None:
            return f"tritonserver has ended ({ending(code)})"
        return (
            self._look_at_the_models()
            or self._stops.look(self._models)
            or self._listen_to_the_models()
            or self._ask()
        )

    @property
    def took_a_request(self) -> bool:
        """Whether a model has seen a request. Also works after the model has died."""
        return any(beat.st_size > 0 for beat in self._last_beats().values())

    def _look_at_the_models(self) -> str | None:
        for pid, started in self._models.items():
            if not runs(pid, started):
                return f"the model's process ({pid}) has ended"
        return None

    def _listen_to_the_models(self) -> str | None:
        for pid, beat in self._last_beats().items():
            moved = beat.st_mtime_ns != self._beats.get(pid)
            self._beats[pid] = beat.st_mtime_ns
            if self._mute.setdefault(pid, Lasting()).see(not moved) >= MUTE_SECONDS:
                return f"the model's process ({pid}) gave no sign of life for {MUTE_SECONDS:g} s"
        return None

    def _last_beats(self) -> dict[str, os.stat_result]:
        found = {}
        for file in self._heartbeats.glob("*"):
            with suppress(OSError):
                found[file.name] = file.stat()
        return found

    def _ask(self) -> str | None:
        # In its own thread: a missing answer must not delay the other checks.
        if time.monotonic() >= self._probe_due and not (self._asking and self._asking.is_alive()):
            self._probe_due = time.monotonic() + PROBE_EVERY
            self._asking = threading.Thread(target=self._probe, daemon=True)
            self._asking.start()
        return self._unanswered

    def _probe(self) -> None:
        for probe in self._probes:
            self._unanswered = probe.ask() or self._unanswered


class Probe:
    """Checks one of a server's front ends repeatedly."""

    def __init__(self, name: str, answers: Callable[[], bool]) -> None:
        self._name, self._answers = name, answers
        self._known = False  # whether it has ever answered
        self._silent = Lasting()

    def ask(self) -> str | None:
        """Returns why the server must be replaced, if this front end has been silent for too
        long."""
        answered = self._answers()
        self._known |= answered
        if self._silent.see(self._known and not answered) >= SILENT_SECONDS:
            return f"tritonserver has not answered over {self._name} for {SILENT_SECONDS:g} s"
        return None
