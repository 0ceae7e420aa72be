"""Dockerfile.gateway and its service in docker-compose.yml, as far as the text shows."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from melodyflow_gateway.budget import most_memory
from melodyflow_gateway.settings import Settings, read_settings


@pytest.fixture(scope="module")
def dockerfile(root: Path) -> str:
    return (root / "Dockerfile.gateway").read_text().replace("\\\n", " ")


@pytest.fixture(scope="module")
def service(root: Path) -> dict[str, Any]:
    compose = yaml.safe_load((root / "docker-compose.yml").read_text())
    found: dict[str, Any] = compose["services"]["gateway"]
    return found


def environment(dockerfile: str) -> dict[str, str]:
    [line] = re.findall(r"^ENV (.+)$", dockerfile, re.MULTILINE)
    return dict(re.findall(r"(\w+)=(\S+)", line))


def test_everything_that_is_copied_is_there_and_not_ignored(root: Path, dockerfile: str) -> None:
    allowed = re.findall(r"^!(.+?)/?$", (root / ".dockerignore").read_text(), re.MULTILINE)
    lines = re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE)
    copied = [line.split()[0] for line in lines if not line.startswith("--from=")]
    assert len(copied) == 6
    for source in copied:
        assert (root / source).exists(), source
        assert source in allowed, source


def test_it_does_not_run_as_root_and_fetches_nothing_at_its_start(dockerfile: str) -> None:
    assert re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE) == ["1000:1000"]
    [start] = re.findall(r"^ENTRYPOINT (.+)$", dockerfile, re.MULTILINE)
    command = yaml.safe_load(start)
    assert command == ["python3", "-m", "melodyflow_gateway"]
    done = subprocess.run([sys.executable, *command[1:], "--help"], capture_output=True)
    assert done.returncode == 0


def test_its_port_is_on_loopback_alone(service: dict[str, Any], dockerfile: str) -> None:
    [port] = service["ports"]
    assert re.fullmatch(r"127\.0\.0\.1:\$\{\w+:-8002\}:8002", port)
    assert re.findall(r"^EXPOSE (.+)$", dockerfile, re.MULTILINE) == ["8002"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_image_holds_what_its_user_can_read_and_nothing_it_was_made_with(
    dockerfile: str,
) -> None:
    *_, source, image = dockerfile.split("\nFROM ")
    assert source.rstrip().endswith("RUN chmod -R u=rwX,go=rX /opt/melodyflow")
    copied = re.findall(r"^COPY (\S+) (\S+)", image, re.MULTILINE)
    assert {source.split("=")[1] for source, _ in copied} == {"libraries", "source"}
    assert all(path.startswith("/opt/melodyflow") for _, path in copied)


def test_it_is_bounded(service: dict[str, Any]) -> None:
    [number] = re.findall(r"^(\d+)g$", service["mem_limit"])
    assert int(number) * 2**30 > most_memory(Settings())
    assert service["cpus"] == "${MELODYFLOW_GATEWAY_CPUS:-2}"
    assert service["pids_limit"] == 512
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


def test_it_is_stopped_before_triton_and_has_time_to_drain(root: Path) -> None:
    services = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]
    gateway = services["gateway"]
    assert gateway["depends_on"] == {
        name: {"condition": "service_started", "required": False}
        for name in ("triton-gpu", "triton-cpu")
    }
    # Edits, results to be fetched, answers to be sent (stopping.py, command.py).
    most = Settings().drain_seconds + 25
    assert int(gateway["stop_grace_period"].removesuffix("s")) > most


def test_its_settings_are_good_with_and_without_what_may_be_given(
    service: dict[str, Any], dockerfile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    optional = re.compile(r"\$\{\w+:-\}")
    given = {name: optional.sub("", value) for name, value in service["environment"].items()}
    assert not any("$" in value for value in given.values())
    for name, value in {**environment(dockerfile), **given}.items():
        if name != "PATH":
            monkeypatch.setenv(name, value)
    settings = read_settings({})
    assert (settings.host, settings.port) == ("0.0.0.0", 8002)
    assert (settings.server, settings.metrics) == ("triton:8001", "triton:8002")
    # By these names others in the network ask for it.
    names = {"gateway", *service["networks"]["default"]["aliases"]}
    assert names == {"gateway", "melodyflow"} == set(settings.allowed_hosts)
    monkeypatch.setenv("MELODYFLOW_GATEWAY_HOSTS", f"{given['MELODYFLOW_GATEWAY_HOSTS']}studio.lan")
    assert set(read_settings({}).allowed_hosts) == names | {"studio.lan"}


def test_it_finds_whichever_triton_runs(root: Path) -> None:
    services = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]
    for name in ("triton-gpu", "triton-cpu"):
        assert services[name]["networks"]["default"]["aliases"] == ["triton"]
        assert services[name]["profiles"][0] in services["gateway"]["profiles"]


def test_docker_asks_whether_edits_are_taken(dockerfile: str) -> None:
    assert "http://127.0.0.1:8002/ready" in dockerfile
    [check] = re.findall(r"^HEALTHCHECK .*?CMD (.+)$", dockerfile, re.MULTILINE)
    # Nobody listens on that port here: it must say so by its code.
    asked = yaml.safe_load(check)
    done = subprocess.run(
        [sys.executable, *asked[1:-1], asked[-1].replace(":8002/", ":1/")], capture_output=True
    )
    assert done.returncode != 0


@pytest.mark.parametrize("name", ["Dockerfile.gateway", "Dockerfile.triton"])
def test_no_front_end_is_fetched_to_build_it(root: Path, name: str) -> None:
    assert not re.search(r"^#\s*syntax=", (root / name).read_text(), re.MULTILINE)


def test_ci_installs_what_the_wheels_do_not_bring(root: Path) -> None:
    script = (root / ".ci/run").read_text()
    assert "redis-server" in script
    assert "chromium" in script
