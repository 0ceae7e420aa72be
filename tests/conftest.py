"""Shared by all tests: the checkout, a converted checkpoint, a server, the markers."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from melodyflow.embedded import EmbeddedServer
from melodyflow.embedded.processes import ending

from .servers import on_the_cpu

ROOT = Path(__file__).resolve().parent.parent

# A shell starts background jobs with SIGINT ignored and children inherit that: tests that press
# Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


# Every tritonserver of the tests that runs, and what is known of those that ended by themselves.
running: set[EmbeddedServer] = set()
deaths: list[str] = []


def pytest_configure() -> None:
    start, stop = EmbeddedServer.start, EmbeddedServer.stop

    def watched_start(server: EmbeddedServer, timeout: float = 600.0, *, restarts: int = 0) -> None:
        start(server, timeout, restarts=restarts)
        running.add(server)

    def watched_stop(server: EmbeddedServer, *, at_once: bool = False) -> None:
        look_at(server)
        running.discard(server)
        stop(server, at_once=at_once)

    EmbeddedServer.start, EmbeddedServer.stop = watched_start, watched_stop  # type: ignore[method-assign]


def look_at(server: EmbeddedServer) -> None:
    """Notes a death, once."""
    code = server._process.poll() if server in running and server._process else None
    if code is not None:
        deaths.append(
            f"tritonserver has ended ({ending(code)}); its log ends:\n{server.log_tail()}"
        )
        running.discard(server)


@pytest.fixture(autouse=True)
def no_tritonserver_dies(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test fails where a tritonserver ends that it did not end."""
    yield
    for server in list(running):
        look_at(server)
    died = "\n\n".join(deaths)
    deaths.clear()
    if died and not request.node.get_closest_marker("ends_tritonserver"):
        pytest.fail(died, pytrace=False)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Those of fixtures that outlive the tests."""
    if hasattr(session.config, "workeroutput"):  # a worker, whose exit status nobody looks at
        session.config.workeroutput["deaths"] = deaths
    elif deaths:
        print("\n\n".join(deaths))
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hears from a worker that has ended."""
    deaths.extend(getattr(node, "workeroutput", {}).get("deaths", []))


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parity fixtures' tiny random checkpoint, converted. All share it: read only."""
    from melodyflow.tools.convert import convert

    source = ROOT / "tests" / "data" / "parity"
    out = tmp_path_factory.mktemp("checkpoint") / "tiny"
    convert(source / "tiny", out, t5=source / "t5")
    return out


@pytest.fixture(scope="session")
def narrow_checkpoint(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a window of 2 s (50 frames): most clips are longer."""
    out = tmp_path_factory.mktemp("checkpoint") / "narrow"
    shutil.copytree(checkpoint, out)
    config = json.loads((out / "config.json").read_text())
    config["flow"]["segment_duration"] = 2.0
    (out / "config.json").write_text(json.dumps(config))
    return out


@pytest.fixture(scope="session")
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log file of `server`: Triton's lines and the model's."""
    return tmp_path_factory.mktemp("server") / "triton.log"


@pytest.fixture(scope="session")
def server(checkpoint: Path, server_log: Path) -> Iterator[EmbeddedServer]:
    """A tritonserver with the tiny checkpoint, which takes 200 s; its log is kept: `server_log`."""
    with on_the_cpu(checkpoint, log=server_log, MAX_SECONDS="200") as embedded:
        yield embedded
