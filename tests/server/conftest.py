"""A real tritonserver with the real model, started once for all tests of this folder."""

import http.client
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from melodyflow.embedded import EmbeddedServer

Metrics = Callable[[], dict[str, float]]


@pytest.fixture(scope="session")
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log file of `server`: Triton's lines and the model's."""
    return tmp_path_factory.mktemp("server") / "triton.log"


def on_the_cpu(checkpoint: Path, *, log: Path | None = None, **settings: str) -> EmbeddedServer:
    """A server on free ports, not yet started; settings by their names."""
    return EmbeddedServer(
        checkpoint,
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        settings={"DEVICE": "cpu", "PRECISION": "fp32", **settings},
        log=log,
        exit_timeout=20,
    )


@pytest.fixture(scope="session")
def server(checkpoint: Path, server_log: Path) -> Iterator[EmbeddedServer]:
    """An embedded server with the tiny checkpoint on free ports; its log is kept: `server_log`."""
    with on_the_cpu(checkpoint, log=server_log, MAX_SECONDS="200") as embedded:
        yield embedded


@pytest.fixture
def metrics(server: EmbeddedServer) -> Metrics:
    """Reads the server's metrics; see read_metrics."""
    return lambda: read_metrics(server.metrics_url)


def read_metrics(url: str) -> dict[str, float]:
    """`name{label="value",...}` as Prometheus prints it -> value, summed over the model's
    instances."""
    total: Counter[str] = Counter()
    for name, value in read_series(url).items():
        name = re.sub(r'model_instance="[^"]*",?', "", name)
        total[name.replace(",}", "}").replace("{}", "")] += value
    return dict(total)


def read_series(url: str) -> dict[str, float]:
    """Each instance's own series: `name{label="value",...}` -> value."""
    connection = http.client.HTTPConnection(url, timeout=10)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines if name}
