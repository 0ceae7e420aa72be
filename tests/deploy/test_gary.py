"""examples/gary: the gateway in the place of the gary tool chain's `melodyflow` container."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from melodyflow_gateway.settings import read_settings


class Compose(yaml.SafeLoader):
    """Compose's own tags: what an override replaces or takes away."""


Compose.add_constructor("!override", lambda loader, node: _plain(loader, node))
Compose.add_constructor("!reset", lambda loader, node: None)


def _plain(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return root / "examples/gary"


@pytest.fixture(scope="module")
def services(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load((folder / "melodyflow.yml").read_text(), Compose)["services"]
    return found


def test_the_gateway_is_where_the_back_ends_look_for_it(
    services: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gateway = services["melodyflow"]
    shared = gateway["environment"]["MELODYFLOW_GATEWAY_SHARED_FOLDER"]
    there = {"MELODYFLOW_GATEWAY_SHARED_FOLDER": str(tmp_path)}  # the other is in the container
    for name, value in {**gateway["environment"], **there}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MELODYFLOW_GATEWAY_HOST", "0.0.0.0")  # as the image says
    settings = read_settings({})
    assert settings.port == 8002
    assert settings.allowed_hosts == ("melodyflow",)
    assert (settings.server, settings.metrics) == ("triton:8001", "triton:8002")
    assert (settings.gary_events, settings.redis_url) == (True, "redis://redis:6379")
    assert gateway["volumes"] == [f"audio-transfer:{shared}:ro"]
    # The back end that stands in for theirs looks there, too.
    assigned = {
        node.targets[0].id: node.value
        for node in ast.parse((folder / "back_end/app.py").read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    defaults = {name: ast.unparse(assigned[name]) for name in ("SERVICE", "REDIS_URL", "FOLDER")}
    assert "'http://melodyflow:8002'" in defaults["SERVICE"]
    assert repr(settings.redis_url) in defaults["REDIS_URL"]
    assert repr(shared) in defaults["FOLDER"]


def test_no_port_is_open_to_the_outside_and_none_is_tritons(services: dict[str, Any]) -> None:
    assert services["melodyflow"]["ports"] == ["127.0.0.1:8002:8002"]
    assert "ports" not in services["triton"]


def test_the_services_are_as_closed_as_in_the_projects_own_file(
    services: dict[str, Any], root: Path
) -> None:
    own = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]
    for name, ours in (("melodyflow", "gateway"), ("triton", "triton-gpu")):
        for key in ("image", "init", "read_only", "tmpfs", "cap_drop", "security_opt"):
            assert services[name].get(key) == own[ours].get(key), (name, key)
        for key in ("shm_size", "stop_grace_period", "restart", "pids_limit"):
            assert services[name].get(key) == own[ours].get(key), (name, key)
    assert services["triton"]["environment"] == own["triton-gpu"]["environment"]


def test_the_services_are_bounded(services: dict[str, Any]) -> None:
    assert (services["melodyflow"]["mem_limit"], services["melodyflow"]["cpus"]) == ("4g", 2)
    assert services["triton"]["mem_limit"] == "16g"


def test_the_check_of_health_is_the_images(services: dict[str, Any], root: Path) -> None:
    dockerfile = (root / "Dockerfile.gateway").read_text().replace("\\\n", " ")
    [check] = re.findall(r"^HEALTHCHECK .*?CMD (.+)$", dockerfile, re.MULTILINE)
    assert services["melodyflow"]["healthcheck"]["test"] == ["CMD", *yaml.safe_load(check)]


def test_what_theirs_has_is_replaced_and_not_added_to(folder: Path) -> None:
    text = (folder / "melodyflow.yml").read_text()
    for name in ("volumes", "ports", "healthcheck"):
        assert re.search(rf"^    {name}: !override$", text, re.MULTILINE), name
    assert re.search(r"^    deploy: !reset null", text, re.MULTILINE)
