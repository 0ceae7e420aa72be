"""A real tritonserver with the real model, started once for all tests of this folder."""

import http.client
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from melodyflow.embedded import EmbeddedServer

Metrics = Callable[[], dict[str, float]]


@pytest.fixture(scope="session")
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log file of `server`: Triton's lines and the model's."""
    return tmp_path_factory.mktemp("server") / "triton.log"


@pytest.fixture(scope="session")
def server(checkpoint: Path, server_log: Path) -> Iterator[EmbeddedServer]:
    """An embedded server with the tiny checkpoint on free ports; its log is kept: `server_log`."""
    embedded = EmbeddedServer(
        checkpoint,
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        settings={"DEVICE": "cpu", "PRECISION": "fp32", "MAX_SECONDS": "200"},
        log=server_log,
        exit_timeout=20,
    )
    with embedded:
        yield embedded


@pytest.fixture
def metrics(server: EmbeddedServer) -> Metrics:
    """Reads the server's metrics: `name{label="value",...}` as Prometheus prints it -> value."""
    return lambda: read_metrics(server.metrics_url)


def read_metrics(url: str) -> dict[str, float]:
    connection = http.client.HTTPConnection(url, timeout=10)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines if name}
