"""The Grafana dashboard's queries, asked of a Prometheus that scrapes a server and its gateway."""

import math
import threading
from pathlib import Path

from melodyflow.embedded import EmbeddedServer

from ..deploy.watching import Prometheus, dashboard_queries
from .conftest import Running, until, wav


def test_every_query_returns_data(gateway: Running, server: EmbeddedServer, tmp_path: Path) -> None:
    targets = {"triton": [server.metrics_url], "gateway": [f"127.0.0.1:{gateway.port}"]}
    stop = threading.Event()

    def edit() -> None:
        pitch = 200.0
        while not stop.is_set():
            pitch += 1
            form = {"variation": "celtic", "steps": "2"}
            answer = gateway.post(
                "/transform", data=form, files={"audio": ("a.wav", wav(0.5, pitch))}
            )
            assert answer.ok, answer.text

    editing = threading.Thread(target=edit)
    with Prometheus(tmp_path, targets) as prometheus:
        editing.start()
        try:
            empty = [query.over("10s") for query in dashboard_queries()]
            assert len(empty) > 20

            def all_answered() -> bool:
                nonlocal empty
                empty = [
                    each for each in empty if not any(map(math.isfinite, prometheus.query(each)))
                ]
                return not empty

            assert until(all_answered, 40), empty
            assert set(prometheus.query("up")) == {1.0}
        finally:
            stop.set()
            editing.join()
