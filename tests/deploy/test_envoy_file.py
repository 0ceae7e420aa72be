"""deploy/envoy/envoy.yaml, as Envoy reads it, and beside what it must agree with."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from melodyflow_client.connection import CLIP_HEADER

from .envoy import FILES, binary, write_site

ROOT = Path(__file__).resolve().parents[2]


def config() -> dict[str, Any]:
    return yaml.safe_load((FILES / "envoy.yaml").read_text())  # type: ignore[no-any-return]


def test_it_is_valid_and_nothing_in_it_is_deprecated_or_unfinished(tmp_path: Path) -> None:
    write_site(tmp_path)
    text = (FILES / "envoy.yaml").read_text().replace("/etc/envoy", str(tmp_path))
    (tmp_path / "envoy.yaml").write_text(text)
    command = [binary(), "--mode", "validate", "-c", str(tmp_path / "envoy.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not re.search(r"\[(warning|error|critical)\]", done.stderr), done.stderr


def test_no_timeout_is_shorter_than_an_edit() -> None:
    queue = re.search(
        r"default_timeout_microseconds: (\d+)",
        (ROOT / "model_repository/melodyflow/config.pbtxt").read_text(),
    )
    assert queue
    listeners = {one["name"]: one for one in config()["static_resources"]["listeners"]}
    [edits] = listeners["tls"]["filter_chains"][0]["filters"]
    assert listeners["plain"]["filter_chains"][0]["filters"] == [edits]
    manager = edits["typed_config"]
    assert float(manager["stream_idle_timeout"].removesuffix("s")) > 2 * int(queue[1]) / 1e6
    assert "request_timeout" not in manager
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        if "route" in route:
            questions = re.search("Server|Ready|Health|health", json.dumps(route["match"]))
            assert route["route"]["timeout"] == ("30s" if questions else "0s")


def test_it_agrees_with_the_client_and_the_image() -> None:
    text = (FILES / "envoy.yaml").read_text()
    image = (ROOT / "Dockerfile.triton").read_text()
    largest = re.search(r"--http-max-input-size=(\d+)", image)
    assert largest
    assert f"end: {int(largest[1]) + 1} " in text
    assert text.count(f"name: {CLIP_HEADER}") == 4
    assert config()["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
