"""Dockerfile.triton and docker-compose.yml: what they promise, as far as their text shows."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from melodyflow.embedded.distribution import find_distribution
from melodyflow.embedded.launch import CLOSED_APIS, MALLOC

# Newer than the embedded Triton (2.51), which cannot vouch for them: since 25.03 and 25.08.
NEWER_FLAGS = {"grpc-max-response-pool-size", "http-max-input-size"}
SERVICES = ("triton-gpu", "triton-cpu")


@pytest.fixture(scope="module")
def dockerfile(root: Path) -> str:
    return (root / "Dockerfile.triton").read_text()


@pytest.fixture(scope="module")
def compose(root: Path) -> dict[str, Any]:
    return cast(dict[str, Any], yaml.safe_load((root / "docker-compose.yml").read_text()))


def instructions(dockerfile: str, name: str) -> list[str]:
    joined = dockerfile.replace("\\\n", " ")
    return re.findall(rf"^{name}\s+(.+)$", joined, re.M)


def environment(dockerfile: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S+)", instructions(dockerfile, "ENV")[0]))


def test_base_is_the_pinned_release(dockerfile: str) -> None:
    bases = {line.split()[0] for line in instructions(dockerfile, "FROM")}
    assert bases == {"nvcr.io/nvidia/tritonserver:26.11-py3"}


def test_it_does_not_run_as_root(dockerfile: str) -> None:
    final_stage = dockerfile[dockerfile.rindex("\nFROM ") :]
    assert instructions(final_stage, "USER") == ["1000:1000"]
    assert final_stage.index("\nUSER ") > final_stage.rindex("\nCOPY ")


def test_the_stub_finds_its_libraries_and_no_writable_folder(dockerfile: str) -> None:
    # The stub ignores PYTHONPATH (tests/server/test_serve.py): the environment goes by PATH.
    venv = environment(dockerfile)["VIRTUAL_ENV"]
    assert environment(dockerfile)["PATH"] == f"{venv}/bin:$PATH"
    assert "PYTHONPATH" not in environment(dockerfile)
    assert f"--from=libraries {venv} {venv}" in instructions(dockerfile, "COPY")
    assert instructions(dockerfile, "WORKDIR") == ["/opt/melodyflow"]


def test_whoever_made_the_checkout_the_images_user_reads_it(dockerfile: str) -> None:
    # tests/drills builds it from a checkout with umask 077.
    stages = dockerfile.split("\nFROM ")[1:]
    for source in (stage for stage in stages[:-1] if re.search(r"^COPY [a-z]", stage, re.M)):
        if "AS source" in source.partition("\n")[0]:
            assert source.rstrip().endswith("RUN chmod -R u=rwX,go=rX /opt/melodyflow")
    copied = instructions(f"FROM {stages[-1]}", "COPY")
    assert copied
    assert all(line.startswith("--from=") for line in copied)


def test_malloc_has_few_arenas(dockerfile: str) -> None:
    assert environment(dockerfile)["MALLOC_ARENA_MAX"] == MALLOC["MALLOC_ARENA_MAX"]


def test_nothing_is_fetched_when_it_starts(dockerfile: str) -> None:
    started = dockerfile[dockerfile.index("#!/bin/sh") : dockerfile.index("\nEOS")]
    for word in ("pip", "git", "curl", "wget", "apt"):
        assert not re.search(rf"\b{word}\b", started), word
    assert "git clone" not in dockerfile
    assert environment(dockerfile)["HF_HUB_OFFLINE"] == "1"


def test_everything_that_is_copied_is_there_and_not_ignored(root: Path, dockerfile: str) -> None:
    allowed = re.findall(r"^!(.+?)/?$", (root / ".dockerignore").read_text(), re.M)
    for line in instructions(dockerfile, "COPY"):
        words = [word for word in line.split() if not word.startswith("--")]
        if words[0].startswith("<<") or "--from=" in line:
            continue
        for source in words[:-1]:
            assert (root / source).exists(), source
            assert source in allowed, source
    assert not [name for name in allowed if "checkpoint" in name]


def test_weights_are_mounted(dockerfile: str) -> None:
    assert environment(dockerfile)["MELODYFLOW_CHECKPOINT"] == "/checkpoint"
    assert "/checkpoint" not in " ".join(instructions(dockerfile, "COPY"))


def test_every_flag_exists(dockerfile: str) -> None:
    serve = dockerfile[dockerfile.index("container tritonserver") : dockerfile.index("\nEOS")]
    flags = set(re.findall(r"--([a-z-]+)", serve))
    distribution = find_distribution()
    done = subprocess.run(
        [distribution.binary, "--help"],
        env={"LD_LIBRARY_PATH": str(distribution.libraries)},
        capture_output=True,
        text=True,
    )
    known = set(re.findall(r"^  --([a-z-]+)", done.stdout + done.stderr, re.M))
    assert len(known) > 50
    assert flags - known == NEWER_FLAGS
    assert {"exit-timeout-secs", "http-restricted-api", "grpc-restricted-protocol"} <= flags


def test_the_same_apis_are_closed_as_in_the_embedded_server(dockerfile: str) -> None:
    assert f'closed="{",".join(CLOSED_APIS)}:melodyflow=$(' in dockerfile


def test_the_start_script_hands_tritonserver_its_arguments(dockerfile: str, tmp_path: Path) -> None:
    (tmp_path / "tritonserver").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "tritonserver").chmod(0o755)
    script = dockerfile[dockerfile.index("#!/bin/sh") : dockerfile.index("\nEOS\n")]
    path = f"{tmp_path}:{Path(sys.executable).parent}:/usr/bin:/bin"
    # By the watcher, whose exit code is tritonserver's.
    given = subprocess.run(
        ["sh", "-c", script, "serve", "--log-verbose=1"],
        env={"PATH": path, "MELODYFLOW_EXIT_TIMEOUT": "7"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert "--exit-timeout-secs=7" in given
    assert given[-1] == "--log-verbose=1"
    keys = [word for word in given if "restricted" in word]
    assert len(keys) == 2
    assert all(re.search(r"=model-repository,.+:melodyflow=[0-9a-f]{32}$", key) for key in keys)


def test_largest_audio_fits_through_http(root: Path, dockerfile: str) -> None:
    config = (root / "model_repository/melodyflow/config.pbtxt").read_text()
    limit = re.search(r'"max_audio_bytes"\s+value \{ string_value: "(\d+)"', config)
    body = re.search(r"--http-max-input-size=(\d+)", dockerfile)
    assert limit
    assert body
    assert int(body.group(1)) > int(limit.group(1)) * 4 / 3 + 2**20


def test_the_cpu_profile_gets_the_same_torch_without_cuda(
    compose: dict[str, Any], root: Path
) -> None:
    settings = dict(re.findall(r"^(TORCH\w*)=(\S+)$", (root / "scripts/env").read_text(), re.M))
    gpu, cpu = (compose["services"][name] for name in SERVICES)
    wanted = f"--index-url {settings['TORCH_CPU_INDEX']} torch=={settings['TORCH']}"
    assert cpu["build"]["args"] == {"TORCH": f"--no-deps {wanted}"}
    assert cpu["image"] == f"{gpu['image']}-cpu"
    assert {**cpu["build"], "args": None} == {**gpu["build"], "args": None}


def test_compose_services(compose: dict[str, Any]) -> None:
    assert tuple(compose["services"]) == (*SERVICES, "gateway")
    gpu, cpu = (compose["services"][name] for name in SERVICES)
    assert (gpu["profiles"], cpu["profiles"]) == (["gpu"], ["cpu"])
    device = gpu["deploy"]["resources"]["reservations"]["devices"][0]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert "deploy" not in cpu
    assert cpu["environment"]["MELODYFLOW_DEVICE"] == "cpu"


@pytest.mark.parametrize("name", SERVICES)
def test_compose_is_closed_to_the_outside(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert [port.rpartition(":")[2] for port in service["ports"]] == ["8000", "8001", "8002"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp:size=256m"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert service["shm_size"] == "1gb"
    assert service["mem_limit"] == "${MELODYFLOW_MEMORY:-16g}"
    assert service["cpus"] == "${MELODYFLOW_CPUS:-0}"
    assert service["pids_limit"] == 4096
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    [mount] = service["volumes"]
    assert (mount["target"], mount["read_only"]) == ("/checkpoint", True)
    assert mount["source"] == "${MELODYFLOW_CHECKPOINT:-./checkpoints/demo}"


@pytest.mark.parametrize("name", SERVICES)
def test_compose_waits_longer_than_triton(
    compose: dict[str, Any], dockerfile: str, name: str
) -> None:
    service = compose["services"][name]
    timeout = service["environment"]["MELODYFLOW_EXIT_TIMEOUT"]
    assert timeout == environment(dockerfile)["MELODYFLOW_EXIT_TIMEOUT"]
    assert int(service["stop_grace_period"].removesuffix("s")) > int(timeout)


@pytest.mark.parametrize("name", SERVICES)
def test_image_and_compose_ask_for_the_same_health(
    compose: dict[str, Any], dockerfile: str, name: str
) -> None:
    [check] = instructions(dockerfile, "HEALTHCHECK")
    asked = yaml.safe_load(check[check.index("[") :])
    assert compose["services"][name]["healthcheck"]["test"] == ["CMD", *asked]
    compile(asked[-1], "healthcheck", "exec")
    # Nobody listens on that port here, or something that is not ready: it must say so by its code.
    code = asked[-1].replace(":8000/", ":1/")
    done = subprocess.run([sys.executable, *asked[1:-1], code], capture_output=True)
    assert done.returncode != 0


def test_docker_compose_reads_it(root: Path, tmp_path: Path) -> None:
    docker = shutil.which("docker")
    compose = [docker, "compose"] if docker else []
    if not compose or subprocess.run([*compose, "version"], capture_output=True).returncode != 0:
        pytest.skip("docker compose is not installed")
    done = subprocess.run(
        [*compose, "--profile", "gpu", "--profile", "cpu", "config", "--quiet"],
        cwd=root,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "MELODYFLOW_CHECKPOINT": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
