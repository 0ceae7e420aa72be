"""What the server counts."""

import http.client
import re
from collections import Counter
from collections.abc import Callable

import pytest

from melodyflow.embedded import EmbeddedServer

Metrics = Callable[[], dict[str, float]]


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
