"""deploy/prometheus: the scrape configuration and the alerts, by Prometheus's own promtool, and
what they promise."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from melodyflow_gateway.metrics import Metrics as GatewayMetrics

from ..unit.test_docs import made_metrics, rows, section
from .watching import dashboard_queries, tool

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/prometheus"
OPERATIONS = (ROOT / "docs/operations.md").read_text()
# Triton's own (docs/operations.md, "Metrics"), Envoy's (test_envoy.py reads it) and Prometheus's.
OTHERS = {
    "nv_inference_pending_request_count",
    "nv_inference_queue_duration_us",
    "nv_inference_request_failure",
    "nv_inference_request_success",
    "nv_cpu_memory_total_bytes",
    "nv_cpu_memory_used_bytes",
    "envoy_cluster_membership_healthy",
    "up",
}


def all_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    """The alerts."""
    return [rule for rule in all_rules() if "alert" in rule]


@pytest.fixture(scope="module")
def cases() -> list[tuple[str, bool]]:
    """Of the rules' tests: the alert's name, and whether it fires."""
    tests = yaml.safe_load((FOLDER / "rules_test.yaml").read_text())["tests"]
    return [
        (case["alertname"], bool(case["exp_alerts"]))
        for test in tests
        for case in test.get("alert_rule_test", [])
    ]


def known_metrics() -> set[str]:
    gateway = {
        sample.name
        for family in GatewayMetrics().registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    server = set()
    for name, kind in made_metrics().items():
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        server |= {name + part for part in parts}
    labelled = {"melodyflow_gateway_requests_total"}  # has no sample before the first request
    return gateway | server | labelled | OTHERS


@pytest.mark.parametrize(
    "check",
    [
        ["check", "config", "--syntax-only", "prometheus.yaml"],
        ["check", "rules", "--lint-fatal", "rules.yaml"],
        ["test", "rules", "rules_test.yaml"],
    ],
    ids=lambda check: " ".join(check[:2]),
)
def test_promtool_passes(check: list[str]) -> None:
    done = subprocess.run(
        [tool("promtool"), *check], cwd=FOLDER, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_where_it_fires_and_where_it_does_not(
    rules: list[dict[str, Any]], cases: list[tuple[str, bool]]
) -> None:
    names = {rule["alert"] for rule in rules}
    assert set(cases) == {(name, fires) for name in names for fires in (True, False)}


def test_each_alert_has_its_line_in_operations(rules: list[dict[str, Any]]) -> None:
    written = {row[0]: row[1] for row in rows(section(OPERATIONS, "Alerts"))}
    assert written == {rule["alert"]: rule["labels"]["severity"] for rule in rules}
    assert set(written.values()) <= {"page", "ticket"}


def test_rules_and_dashboard_ask_for_metrics_that_there_are() -> None:
    known = known_metrics()
    for expression in [
        *(rule["expr"] for rule in all_rules()),
        *(query.expression for query in dashboard_queries()),
    ]:
        asked = set(re.findall(r"\b(?:melodyflow|nv|envoy)_\w+(?!\w|=)|\bup\b", expression))
        assert asked, expression
        assert asked <= known, expression


def test_the_queue_alert_goes_by_the_queues_size(rules: list[dict[str, Any]]) -> None:
    config = (ROOT / "model_repository/melodyflow/config.pbtxt").read_text()
    [size] = re.findall(r"max_queue_size: (\d+)", config)
    [alert] = [rule for rule in rules if rule["alert"] == "QueueNearlyFull"]
    assert alert["expr"].endswith(f"> {int(size) * 3 // 4}")
    assert f"beyond {size} " in alert["annotations"]["summary"]


def test_the_jobs_are_those_that_rules_and_dashboard_ask_for(rules: list[dict[str, Any]]) -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    asked = {name for rule in rules for name in re.findall(r'job="(\w+)"', rule["expr"])}
    assert asked == jobs == {"triton", "gateway", "envoy"}
    [up] = [query.expression for query in dashboard_queries() if query.panel == "Up"]
    assert up == 'up{job=~"triton|gateway"}'
    assert config["rule_files"] == ["rules.yaml"]


def test_what_is_recorded_is_tested() -> None:
    text = (FOLDER / "rules_test.yaml").read_text()
    for rule in all_rules():
        assert "alert" in rule or f"expr: {rule['record']}\n" in text
