"""docker-compose.fleet.yml: what it promises, as far as its text shows. scripts/drills runs it."""

import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from .test_gary import Compose

ADDED = ("envoy", "redis", "prometheus", "grafana")


@pytest.fixture(scope="module")
def fleet(root: Path) -> dict[str, Any]:
    text = (root / "docker-compose.fleet.yml").read_text()
    return cast(dict[str, Any], yaml.load(text, Compose))


@pytest.mark.parametrize("name", ADDED)
def test_what_it_adds_is_closed_and_bounded(fleet: dict[str, Any], name: str) -> None:
    service = fleet["services"][name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["profiles"] == ["gpu", "cpu"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert re.fullmatch(r"[a-z/]+:[\w.-]*\d[\w.-]*", service["image"])  # a version


def test_it_mounts_what_is_there_and_read_only(fleet: dict[str, Any], root: Path) -> None:
    mounts = [mount for name in ADDED for mount in fleet["services"][name].get("volumes", [])]
    own = [mount for mount in mounts if mount.startswith("./")]
    assert len(own) == 5
    for mount in own:
        source, _, how = mount.split(":")
        assert (root / source).exists(), source
        assert how == "ro"
    named = {mount.partition(":")[0] for mount in mounts if re.match(r"[a-z]", mount)}
    assert named == fleet["volumes"].keys()


def test_what_edits_go_through_is_stopped_after_what_makes_them(fleet: dict[str, Any]) -> None:
    """Compose stops first what depends on others."""
    needs = {name: fleet["services"][name]["depends_on"] for name in ("triton-gpu", "triton-cpu")}
    assert needs == {"triton-gpu": ["envoy"], "triton-cpu": ["envoy"]}
    assert "depends_on" not in fleet["services"]["envoy"]
    assert {"envoy", "redis"} <= set(fleet["services"]["gateway"]["depends_on"])


@pytest.mark.parametrize("name", sorted(set(ADDED) - {"grafana"}))
def test_what_the_drill_starts_tells_its_health(fleet: dict[str, Any], name: str) -> None:
    assert fleet["services"][name]["healthcheck"]["test"][0] == "CMD"


def test_kubernetes_has_the_same_images(fleet: dict[str, Any], root: Path) -> None:
    for name in ("envoy", "redis"):
        text = (root / f"deploy/kubernetes/{name}.yaml").read_text()
        assert f"image: {fleet['services'][name]['image']}\n" in text


def test_prometheus_asks_the_gateway_by_a_name_that_it_has(
    fleet: dict[str, Any], root: Path
) -> None:
    scraped = yaml.safe_load((root / "deploy/prometheus/prometheus.yaml").read_text())
    [targets] = [
        job["static_configs"][0]["targets"]
        for job in scraped["scrape_configs"]
        if job["job_name"] == "gateway"
    ]
    base = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]["gateway"]
    hosts = base["environment"]["MELODYFLOW_GATEWAY_HOSTS"].split()
    assert [target.partition(":")[0] in hosts for target in targets] == [True]
    assert "MELODYFLOW_GATEWAY_TOKENS_FILE" not in fleet["services"]["gateway"]["environment"]
