"""Keeps a server up: restarts it when it dies or hangs."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from melodyflow.embedded.server import EmbeddedServer
from melodyflow.errors import EmbeddedError

# Seconds before each restart in a row; after one more death the keeper gives up. A new row starts
# if the server was ready for a minute or had taken a request: what killed it may have been that
# client's request, and the other clients still need a server.
DELAYS = (0.0, 1.0, 2.0, 4.0)
ROW_SECONDS = 60.0


class Keeper:
    """Stops and restarts a server that must be replaced, on the same ports."""

    def __init__(self, server: EmbeddedServer, start_timeout: float) -> None:
        self._server, self._start_timeout = server, start_timeout
        self._restarts = self._row = 0

    @cached_property
    def _kept(self) -> Path:
        """Collects the logs of dead servers if there is no --log. The name is unpredictable, so
        nobody can place a link there."""
        handle, name = tempfile.mkstemp(prefix=f"melodyflow-crashes-{os.getpid()}-", suffix=".log")
        os.close(handle)
        return Path(name)

    def run(self, ended: Callable[[], bool] = lambda: False) -> None:
        """Returns when `ended()` is true. Raises EmbeddedError after too many deaths in a row."""
        while True:
            ready, watch = time.monotonic(), self._server.watch()
            reason = watch.wait(ended)
            if reason is None:
                return
            if watch.took_a_request or time.monotonic() - ready >= ROW_SECONDS:
                self._row = 0
            self._restart(reason)

    def _restart(self, reason: str) -> None:
        """Returns when the server is ready again."""
        while True:
            tail, log = self._server.log_tail(), self._server.keep_log(lambda: self._kept)
            self._server.stop(at_once=True)
            if self._row == len(DELAYS):
                raise EmbeddedError(
                    f"{reason}; gave up after {self._row + 1} deaths in a row. "
                    f"The end of its log:\n{tail}\n(full log: {log})"
                )
            delay = DELAYS[self._row]
            self._row += 1
            say(
                f"serve: {reason}; restarting{f' in {delay:g} s' if delay else ''}. "
                f"The end of its log ({log}):\n{tail}"
            )
            time.sleep(delay)
            self._restarts += 1
            begun = time.monotonic()
            try:
                self._server.start(self._start_timeout, restarts=self._restarts)
            except EmbeddedError as error:
                reason = str(error)
            else:
                say(f"serve: ready again ({time.monotonic() - begun:.1f} s)")
                return


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
