"""A real Prometheus for tests and pictures, and the dashboard's queries."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "deploy/grafana/dashboards/melodyflow.json"
PATIENCE = 60.0  # seconds


@dataclass(frozen=True)
class Query:
    """One line of a panel."""

    panel: str
    unit: str
    expression: str
    legend: str

    def over(self, window: str) -> str:
        """The expression as Grafana sends it, with rates over a window such as "1m"."""
        return self.expression.replace("$__rate_interval", window)


def dashboard_queries() -> list[Query]:
    """The dashboard's, panel by panel."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [
        Query(
            panel["title"],
            panel["fieldConfig"]["defaults"]["unit"],
            target["expr"],
            target["legendFormat"],
        )
        for panel in panels
        if panel["type"] != "row"
        for target in panel["targets"]
    ]


def tool(name: str) -> str:
    """The path of a program of Debian's package `prometheus`. Skips the test if it is missing."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"no {name}: .ci/run installs it")
        pytest.skip(f"needs {name} (apt-get install --no-install-recommends prometheus)")
    return found


class Prometheus:
    """A Prometheus on loopback. A context manager."""

    def __init__(self, folder: Path, targets: dict[str, list[str]], every: int = 1) -> None:
        """`targets`: host:port by the job's name. `every`: seconds between two scrapes, and for
        one."""
        self._folder = folder
        self._http = requests.Session()
        self._http.trust_env = False
        jobs = [
            {"job_name": job, "static_configs": [{"targets": addresses}]}
            for job, addresses in targets.items()
        ]
        pace = {"scrape_interval": f"{every}s", "scrape_timeout": f"{every}s"}
        config = {"global": pace, "scrape_configs": jobs}
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> "Prometheus":
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._log = (self._folder / "log").open("w")
        self._process = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={self._folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stderr=self._log,
        )
        deadline = time.monotonic() + PATIENCE
        while not self._is_ready():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()

    def query(self, expression: str) -> list[float]:
        """The values of an instant query, one for each series."""
        return [float(series["value"][1]) for series in self._ask("query", query=expression)]

    def query_range(
        self, expression: str, start: float, end: float, step: float
    ) -> Iterator[tuple[dict[str, str], list[tuple[float, float]]]]:
        """Each series of a query: its labels, and times (Unix) with values."""
        found = self._ask("query_range", query=expression, start=start, end=end, step=step)
        for series in found:
            yield series["metric"], [(at, float(value)) for at, value in series["values"]]

    def _ask(self, what: str, **parameters: object) -> list[dict[str, Any]]:
        answer = self._http.get(f"{self._url}/api/v1/{what}", params=parameters, timeout=PATIENCE)
        told = answer.json()
        assert told["status"] == "success", told
        result: list[dict[str, Any]] = told["data"]["result"]
        return result

    def _is_ready(self) -> bool:
        try:
            return self._http.get(f"{self._url}/-/ready", timeout=5).ok
        except requests.ConnectionError:
            return False


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
