"""Tells when a tritonserver must be replaced: it has ended, hangs, or its model's process is gone.

Triton 2.51 stays live and ready after its model's process has died, or when its gRPC streams hang,
and every edit then waits for ever. Readiness does not tell; the process table, a sign of life from
the model and a stream of one's own do. A server that is merely busy is left alone: a full queue, a
long network call and a loaded machine are no deaths.

`serve` restarts what has died, `container` ends with it.
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
STOPPED_SECONDS = 1.0  # shorter stops are somebody's pause, and are left alone
MUTE_SECONDS = 10.0  # without a beat
SILENT_SECONDS = 20.0  # without an answer
PROBE_EVERY, PROBE_TIMEOUT = 2.0, 3.0  # seconds
MOST_BETWEEN = PROBE_EVERY + 2 * PROBE_TIMEOUT + 1.0  # two looks, where this process runs


class Lasting:
    """For how many seconds in a row something has been so, as far as this process could see.

    A pause of the whole machine or container lets the clock jump while nothing could change: no
    more than a few seconds of it count.
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
    """Looks for what somebody has stopped (SIGSTOP) and not let go on, in whatever phase it is."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._stopped: dict[int, Lasting] = {}

    def look(self, models: Iterable[int]) -> str | None:
        """Why the server must be replaced, if it must; `models` are its models' processes."""
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
    """Looks after a tritonserver that is ready, and the processes of its models.

    server: the tritonserver. http_port, grpc_port: on loopback. heartbeats: the folder of its
    models'. What has never answered, or beaten, is not missed: it may be switched off.
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
        """Blocks until the server must be replaced, and says why; None: `ended` says so first."""
        while not ended():
            reason = self.look()
            if reason is not None:
                return reason
            time.sleep(LOOK_SECONDS)
        return None

    def look(self) -> str | None:
        """Why the server must be replaced; None: it serves, or is busy."""
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
        """Whether a model has seen a request; known beyond its death."""
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
        # Beside the looks: an answer that does not come must not delay them.
        if time.monotonic() >= self._probe_due and not (self._asking and self._asking.is_alive()):
            self._probe_due = time.monotonic() + PROBE_EVERY
            self._asking = threading.Thread(target=self._probe, daemon=True)
            self._asking.start()
        return self._unanswered

    def _probe(self) -> None:
        for probe in self._probes:
            self._unanswered = probe.ask() or self._unanswered


class Probe:
    """Asks one front end of a server, again and again."""

    def __init__(self, name: str, answers: Callable[[], bool]) -> None:
        self._name, self._answers = name, answers
        self._known = False  # whether it has ever answered
        self._silent = Lasting()

    def ask(self) -> str | None:
        """Why the server must be replaced, once this front end has been silent for too long."""
        answered = self._answers()
        self._known |= answered
        if self._silent.see(self._known and not answered) >= SILENT_SECONDS:
            return f"tritonserver has not answered over {self._name} for {SILENT_SECONDS:g} s"
        return None
