"""`melodyflow gateway`: listens, serves, stops."""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn

from melodyflow_client.audio import cap_allocations

from .app import create_app
from .budget import Budget, most_memory
from .listening.connections import Bounds, Connections, reserve_descriptors
from .listening.http import Config, HttpConnection
from .listening.sockets import BACKLOG, listen
from .listening.websocket import WebSocketConnection
from .logs import log_to_stderr
from .metrics import Metrics
from .settings import read_settings
from .stopping import Stopping

log = logging.getLogger(__name__)

# For so long a thread that reads a body or a file keeps Python's lock from the event loop, at each
# step of the loop; an edit takes dozens.
_SWITCH_SECONDS = 0.0005
_ANSWER_SECONDS = 10  # for answers on their way to be sent, when the gateway ends


class _Server(uvicorn.Server):
    """Prints its address as soon as it answers, and what it may take. Told to stop, it answers
    until nothing is in flight; the second signal ends edits, the third everything."""

    most_bytes = 0

    def __init__(self, config: Config, stopping: Stopping) -> None:
        super().__init__(config)
        self._stopping, self._signals = stopping, 0
        self._announced = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 2:
            self.force_exit = True
            super().handle_exit(sig, frame)
        else:
            self._stopping.begin()

    async def on_tick(self, counter: int) -> bool:
        if self._stopping.begun and not self._announced:
            self._announced = True
            log.info("stopping", extra={"edits": self._stopping.edits})
        return await super().on_tick(counter) or self._stopping.over

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or []:
            host, port = listening.getsockname()[:2]
            name = f"[{host}]" if ":" in host else host
            print(f"MelodyFlow's gateway is at http://{name}:{port}", flush=True)
        print(f"It takes at most {self.most_bytes / 2**30:.1f} GiB of memory", flush=True)


def run(arguments: argparse.Namespace) -> int:
    """Serves until it is told to stop. Raises MelodyFlowError."""
    given = {
        name: getattr(arguments, name) for name in ("host", "port", "server", "metrics", "presets")
    }
    settings = read_settings(given)
    log_to_stderr(settings.log_level)
    metrics, stopping = Metrics(), Stopping(settings.drain_seconds)
    budget = Budget(settings.memory_bytes, metrics.budget_bytes)
    bounds = Bounds(
        connections=settings.connections,
        by_address=settings.connections_by_address,
        head_seconds=settings.head_seconds,
        rate=settings.bytes_per_second,
    )
    metrics.most_bytes.set(most_memory(settings))
    cap_allocations()
    sys.setswitchinterval(_SWITCH_SECONDS)
    reserve_descriptors(bounds.connections)
    listening = listen(settings.host, settings.port)
    config = Config(
        create_app(settings, metrics, budget, stopping),
        Connections(bounds, metrics, budget),
        http=HttpConnection,
        ws=WebSocketConnection,
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # a client is where it connects from, whatever X-Forwarded-For says
        lifespan="on",
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=_ANSWER_SECONDS,
    )
    server = _Server(config, stopping)
    server.most_bytes = most_memory(settings)
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises them again once it has stopped; that is not a failure.
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listening])
    return 0 if server.started else 1
