"""melodyflow.embedded without a server: what it says when something is missing."""

import ctypes
import importlib.metadata
import importlib.util
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from melodyflow.embedded import distribution
from melodyflow.embedded.distribution import find_distribution
from melodyflow.embedded.log import failure_reason
from melodyflow.embedded.ports import choose_ports
from melodyflow.embedded.probe import HOST
from melodyflow.errors import EmbeddedError


def test_free_ports_differ() -> None:
    ports = choose_ports({"http": 0, "grpc": 0, "metrics": 0})
    assert list(ports) == ["http", "grpc", "metrics"]
    assert len(set(ports.values())) == 3
    assert all(1024 < port < 32768 for port in ports.values())  # not one of a connection's
    assert choose_ports({"http": ports["http"]}) == {"http": ports["http"]}


def test_servers_that_start_together_have_ports_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = choose_ports({"http": 0})["http"]
    monkeypatch.setattr("melodyflow.embedded.ports.FREE_PORTS", range(first, first + 1))
    with pytest.raises(EmbeddedError, match="no free port"):  # though nobody listens there yet
        choose_ports({"http": 0})
    another = f"""
from melodyflow.embedded import ports
ports.FREE_PORTS = range({first}, {first + 1})
ports.choose_ports({{"http": 0}})
"""
    done = subprocess.run([sys.executable, "-c", another], capture_output=True, text=True)
    assert "no free port" in done.stderr


def test_taken_port() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=f"port {port} is in use; .* --metrics-port"):
            choose_ports({"http": 0, "metrics": port})


def test_port_taken_on_all_interfaces() -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=f"port {port} is in use"):
            choose_ports({"http": port})


def test_a_port_just_left_is_not_taken() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection((HOST, port)), listener.accept()[0] as connection:
            connection.close()  # the server's end closes first: its port stays in TIME_WAIT
    assert choose_ports({"http": port}) == {"http": port}


@pytest.mark.parametrize("port", [-1, 65536])
def test_no_port(port: int) -> None:
    with pytest.raises(EmbeddedError, match=f"--http-port {port}: must be from 0"):
        choose_ports({"http": port})


def test_port_given_twice() -> None:
    port = choose_ports({"http": 0})["http"]
    with pytest.raises(EmbeddedError, match=f"--http-port {port}: given twice"):
        choose_ports({"http": port, "grpc": port})


LOADING = 'I1122 15:45:43.732496 7828 model_lifecycle.cc:472] "loading: melodyflow:1"\n'


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            r"E1122 15:45:43.1 7828 model_lifecycle.cc:642] "
            r'"failed to load '
            r"'melodyflow' version 1: Internal: ValueError: slots \"x\": a number"
            r'\n\nAt:\n  /model.py(9): initialize\n"' + "\nI1122 more",
            'ValueError: slots "x": a number',
        ),
        (
            "E1122 15:45:43.1 7828 m.cc:1] \"Poll failed for model directory 'melodyflow': bad\"\n",
            "Poll failed for model directory 'melodyflow': bad",
        ),
        ("error: something else\n", LOADING + "error: something else"),
        ("", LOADING.strip()),
    ],
)
def test_reason_in_the_log(log: str, reason: str) -> None:
    assert failure_reason(LOADING + log) == reason


def test_reason_without_a_log() -> None:
    assert failure_reason("") == "no output"


def test_distribution_is_complete() -> None:
    found = find_distribution()
    assert found.binary.is_file()
    assert found.stub.parent.name == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_unsupported_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "PYTHONS", ((3, 99),))
    with pytest.raises(EmbeddedError, match=r"needs 3\.11 or 3\.12"):
        find_distribution()


def test_missing_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match=r"pip install --no-deps nvidia-pytriton==0\.7\.0"):
        find_distribution()


def test_missing_libpython(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def not_found(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: str(tmp_path))
    monkeypatch.setattr(ctypes, "CDLL", not_found)
    with pytest.raises(EmbeddedError, match=r"apt-get install libpython3\.1[12]"):
        find_distribution()


def test_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.2.6")
    with pytest.raises(EmbeddedError, match=r"numpy 2\.2\.6: .* pip install 'numpy==1\.26\.4'"):
        find_distribution()
