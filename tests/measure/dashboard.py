"""Draws docs/dashboard.png: what a real Prometheus answers to the queries of the dashboard.

    python -m tests.measure.dashboard [--out FILE] [--seconds N]

A server with the demo checkpoint and a gateway are scraped for three minutes: with one client, then
with six, then with one that sweeps.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from string import Formatter

import matplotlib
import requests
from matplotlib import pyplot

from melodyflow.embedded import DEMO_CHECKPOINT, EmbeddedServer
from melodyflow_client import MelodyFlowClient
from tests.deploy.watching import Prometheus, Query, dashboard_queries

matplotlib.use("agg")
RIFF = Path(__file__).resolve().parents[2] / "examples/riff.wav"
WINDOW = "20s"  # of rates; Grafana takes four scrapes or more
STEP = 5.0  # seconds between two points, and two scrapes


def edit_until(end: float, url: str, number: int) -> None:
    """Edits a clip through the gateway, one edit after the other."""
    seed = 1000 * number
    while time.monotonic() < end:
        seed += 1
        form = {"variation": "celtic", "steps": "4", "seed": str(seed)}
        files = {"audio": ("riff.wav", RIFF.read_bytes())}
        requests.post(f"{url}/transform", data=form, files=files, timeout=300)


def load(url: str, address: str, seconds: float) -> None:
    """One client, then six, then a sweep: a third of the time each."""
    for clients in (1, 6):
        end = time.monotonic() + seconds / 3
        crowd = [
            threading.Thread(target=edit_until, args=(end, url, number))
            for number in range(clients)
        ]
        for client in crowd:
            client.start()
        for client in crowd:
            client.join()
    names = ("celtic", "chiptune", "strings_quartet", "piano_classical", "accordion_folk")
    with MelodyFlowClient(address) as client:
        end = time.monotonic() + seconds / 3
        while time.monotonic() < end:
            for _ in client.sweep(RIFF, variations=names, steps=4):
                pass


def named(legend: str, labels: dict[str, str]) -> str | None:
    """A legend such as "slots {{instance}}", without the address; None if nothing is left."""
    plain = re.sub(r"\{\{(\w+)\}\}", r"{\1}", legend)
    known = {field: labels.get(field, "") for _, field, _, _ in Formatter().parse(plain) if field}
    return re.sub(r"127\.0\.0\.1:\d+", "", plain.format(**known)).strip() or None


def draw(prometheus: Prometheus, start: float, end: float, out: Path) -> None:
    panels: dict[str, list[Query]] = {}
    for query in dashboard_queries():
        panels.setdefault(query.panel, []).append(query)
    figure, grid = pyplot.subplots(-(-len(panels) // 4), 4, figsize=(18, 13), layout="constrained")
    for axes, (title, queries) in zip(grid.flat, panels.items(), strict=False):
        for query in queries:
            for labels, points in prometheus.query_range(query.over(WINDOW), start, end, STEP):
                at, values = zip(*points, strict=True)
                scale = 1 / 2**20 if query.unit == "bytes" else 1
                # What was zero all the time is drawn, and needs no name.
                label = named(query.legend, labels) if any(values) else None
                axes.plot([each - start for each in at], [v * scale for v in values], label=label)
        axes.set_title(title, fontsize=10)
        axes.set_ylabel({"bytes": "MiB", "s": "s"}.get(queries[0].unit, ""))
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7, loc="upper left")
    for axes in grid[-1]:
        axes.set_xlabel("seconds")
    figure.savefig(out, dpi=70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/dashboard.png"))
    parser.add_argument("--seconds", type=float, default=180.0)
    arguments = parser.parse_args()
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
    with EmbeddedServer(DEMO_CHECKPOINT, **ports, settings={"DEVICE": "cpu"}) as server:
        command = [sys.executable, "-m", "melodyflow_client", "gateway", "--port", "0"]
        command += ["--server", server.grpc_url, "--metrics", server.metrics_url]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            targets = {"triton": [server.metrics_url], "gateway": [url.removeprefix("http://")]}
            with (
                tempfile.TemporaryDirectory() as folder,
                Prometheus(Path(folder), targets, every=round(STEP)) as prometheus,
            ):
                start = time.time()
                load(url, server.grpc_url, arguments.seconds)
                draw(prometheus, start, time.time(), arguments.out)
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    main()
