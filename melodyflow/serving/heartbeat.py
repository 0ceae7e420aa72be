"""The model's sign of life, for whoever watches its process (melodyflow.embedded.watch)."""

import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

# Names the folder where each model's process has a file, named by its pid, whose time of change it
# keeps moving.
HEARTBEAT_VARIABLE = "MELODYFLOW_HEARTBEAT"
RESTARTS_VARIABLE = "MELODYFLOW_RESTARTS"  # how often the server was started again before
BEAT_SECONDS = 1.0

log = logging.getLogger(__name__)


class Heartbeat:
    """Touches this process's file in a folder every second, from a thread of its own.

    The thread waits for nothing that an edit holds, so that it says one thing only: this process
    still runs Python. The file is empty until the first request.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / str(os.getpid())
        self._end = threading.Event()
        self._took = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def took_a_request(self) -> None:
        """Says that there was one; once."""
        if not self._took:
            self._took = True
            with suppress(OSError):
                self._file.write_bytes(b"1")

    def close(self) -> None:
        """Ends the thread."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        beating = True
        while True:
            try:
                self._file.touch()
                beating = True
            except OSError as error:  # said once, and tried on
                if beating:
                    log.warning("can't write the heartbeat: %s", error)
                beating = False
            if self._end.wait(BEAT_SECONDS):
                return
