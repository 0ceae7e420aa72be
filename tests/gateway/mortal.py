"""A tritonserver that tests kill, stop and start again."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from melodyflow.embedded import MODEL_REPOSITORY, EmbeddedServer
from melodyflow.embedded.ports import choose_ports


class Mortal:
    """A server that is killed and started again on the same ports."""

    def __init__(
        self, checkpoint: Path, repository: Path = MODEL_REPOSITORY, slots: int = 2
    ) -> None:
        self._checkpoint, self._repository, self._slots = checkpoint, repository, slots
        ports = choose_ports({"grpc": 0, "metrics": 0})
        self._grpc, self._metrics = ports["grpc"], ports["metrics"]
        self._server: EmbeddedServer | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._grpc}"

    @property
    def metrics(self) -> str:
        return f"127.0.0.1:{self._metrics}"

    @property
    def server(self) -> EmbeddedServer:
        assert self._server is not None
        return self._server

    def start(self) -> None:
        self._server = EmbeddedServer(
            self._checkpoint,
            http_port=0,
            grpc_port=self._grpc,
            metrics_port=self._metrics,
            settings={"DEVICE": "cpu", "PRECISION": "fp32", "SLOTS": str(self._slots)},
            model_repository=self._repository,
            exit_timeout=5,
        )
        self._server.start()

    def kill(self) -> None:
        """SIGKILL, to the tritonserver and its model alike."""
        self.stop()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It stands still: its ports are open, and nobody answers."""
        os.killpg(self.server.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.server.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(at_once=True)
            self._server = None
