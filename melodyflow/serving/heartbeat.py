"""The model's heartbeat, for the watcher of its process (melodyflow.embedded.watch)."""

import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

# The folder in which each model's process touches a file named by its pid.
HEARTBEAT_VARIABLE = "MELODYFLOW_HEARTBEAT"
RESTARTS_VARIABLE = "MELODYFLOW_RESTARTS"  # how often the server has been restarted
BEAT_SECONDS = 1.0

log = logging.getLogger(__name__)


class Heartbeat:
    """Touches this process's file in a folder every second, from its own thread.

    The thread takes no lock that an edit holds, so a beat means only that this process still runs
    Python. The file is empty until the first request.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / str(os.getpid())
        self._end = threading.Event()
        self._took = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def took_a_request(self) -> None:
        """Marks the file at the first request."""
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
            except OSError as error:  # logged once; keep trying
                if beating:
                    log.warning("can't write the heartbeat: %s", error)
                beating = False
            if self._end.wait(BEAT_SECONDS):
                return
