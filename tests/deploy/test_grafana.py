"""deploy/grafana: what Grafana reads at its start. test_dashboard.py runs the queries."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from .watching import DASHBOARD, dashboard_queries

ROOT = Path(__file__).resolve().parents[2]
PROVISIONING = ROOT / "deploy/grafana/provisioning"


@pytest.fixture(scope="module")
def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def test_panels_neither_overlap_nor_share_a_name(panels: list[dict[str, Any]]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24  # Grafana's columns
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    for key in ("id", "title"):
        assert len({panel[key] for panel in panels}) == len(panels)


def test_every_query_goes_to_the_source_that_is_chosen(panels: list[dict[str, Any]]) -> None:
    for panel in panels:
        for part in (panel, *panel.get("targets", [])):
            if panel["type"] != "row":
                assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    [variable] = json.loads(DASHBOARD.read_text())["templating"]["list"]
    assert (variable["name"], variable["query"]) == ("datasource", "prometheus")
    for query in dashboard_queries():
        assert "[" not in query.expression.replace("[$__rate_interval]", ""), query.expression


def test_provisioning_names_prometheus_and_the_dashboards_folder() -> None:
    [source] = _read("datasources/prometheus.yaml")["datasources"]
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text())
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]
    [provider] = _read("dashboards/melodyflow.yaml")["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PROVISIONING / name).read_text())
    assert found["apiVersion"] == 1
    return found
