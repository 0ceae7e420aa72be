"""SIGTERM while edits run: they have the exit timeout to end, and nothing hangs beyond it."""

import http.client
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from melodyflow.embedded import EmbeddedServer
from melodyflow.embedded.processes import KILL_AFTER
from melodyflow.embedded.server import SHARED_MEMORY

from . import raw
from .conftest import read_metrics
from .test_faults import ended, runs, shared_memory_prefix, stub_of
from .test_serve import command, leftovers, serving

PENDING = 'nv_inference_pending_request_count{model="melodyflow",version="1"}'
PATIENT, IMPATIENT = 120, 3  # exit timeouts, seconds
SLACK = 30.0  # seconds that an end takes on a busy machine

SHORT = raw.file_of(raw.music(0.3), 48000)
QUICK: dict[str, Any] = {"audio": SHORT, "prompt": "a harp", "steps": 2}
SLOW: dict[str, Any] = {**QUICK, "steps": 128, "regularize_iters": 4}  # some seconds
SLOWER: dict[str, Any] = {**QUICK, "steps": 128, "regularize_iters": 8}  # twice as many
# Far longer than the short timeout: 1152 evaluations of 25 seconds.
ENDLESS: dict[str, Any] = {**SLOWER, "audio": raw.file_of(raw.music(25, 16000, 1), 16000)}


@pytest.fixture
def server(
    checkpoint: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[EmbeddedServer]:
    """A server with the exit timeout that the test asks for, which ends it."""
    made = EmbeddedServer(
        checkpoint,
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        settings={"DEVICE": "cpu", "PRECISION": "fp32", "SLOTS": "2"},
        log=tmp_path / "triton.log",
        exit_timeout=request.param,
    )
    made.start()
    try:
        yield made
    finally:
        made.stop(at_once=True)


def begin(server: EmbeddedServer, inputs: dict[str, Any], stack: ExitStack) -> raw.Stream:
    """An edit that has had its first evaluation."""
    stream = stack.enter_context(raw.Stream(server, inputs))
    while stream.next().outputs["step"][0] == 0:
        pass
    return stream


def closed(server: EmbeddedServer) -> bool:
    """Whether a new HTTP connection is refused, or dropped without an answer."""
    connection = http.client.HTTPConnection(server.http_url, timeout=raw.PATIENCE)
    try:
        connection.request("GET", "/v2/health/live")
        connection.getresponse()
    except OSError:
        return True
    finally:
        connection.close()
    return False


@pytest.mark.ends_tritonserver
@pytest.mark.parametrize("server", [PATIENT], indirect=True)
def test_what_runs_and_what_waits_is_answered_and_what_comes_is_refused(
    server: EmbeddedServer,
) -> None:
    assert server.log
    with ExitStack() as stack:
        edits = [begin(server, SLOWER, stack)]
        events = stack.enter_context(raw.Events(server, SLOW))
        following = iter(events)
        while next(following).outputs["step"][0] == 0:
            pass
        for seed in (1, 2, 3):
            edits.append(stack.enter_context(raw.Stream(server, {**QUICK, "seed": seed})))
        # One of these three waits in execute(), where it is not counted.
        assert raw.eventually(lambda: read_metrics(server.metrics_url)[PENDING] == 2)
        os.kill(server.pid, signal.SIGTERM)
        assert raw.eventually(lambda: closed(server))
        assert list(following)[-1].outputs["stage"] == b"done"
        events.cancel()
        # This Triton waits for HTTP at first, and only then refuses over gRPC.
        assert raw.eventually(lambda: "Waiting for in-flight requests" in server.log.read_text())
        with pytest.raises(raw.Refused, match=r"Server is stopping|no available versions"):
            raw.transform(server, QUICK)
        for edit in edits:
            assert list(edit)[-1].outputs["stage"] == b"done"
    try:
        assert (
            raw.eventually(lambda: ended(server), SLACK) == "tritonserver has ended (exit code 0)"
        )
    finally:
        server.stop(at_once=True)


@pytest.mark.parametrize("server", [IMPATIENT], indirect=True)
def test_nothing_hangs_beyond_the_exit_timeout(server: EmbeddedServer) -> None:
    """This Triton crashes or hangs then, its clients with it; it is killed a little later."""
    processes = [server.pid, stub_of(server.pid)]
    prefix = shared_memory_prefix(server.pid)
    assert list(SHARED_MEMORY.glob(f"{prefix}*"))
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        edit = begin(server, ENDLESS, stack)
        events = stack.enter_context(raw.Events(server, ENDLESS))
        following = iter(events)
        assert next(following).outputs["stage"] == b"encoding"
        began = time.monotonic()
        stopping = pool.submit(server.stop)
        with pytest.raises(raw.Refused) as caught:
            list(edit)
        assert caught.value.status == "UNAVAILABLE"
        stages = {b"encoding"}
        with suppress(OSError, http.client.HTTPException):  # or it just ends
            stages.update(event.outputs["stage"] for event in following)
        assert b"done" not in stages
        stopping.result(raw.PATIENCE)
        assert time.monotonic() - began < IMPATIENT + KILL_AFTER + SLACK
    assert raw.eventually(lambda: not any(map(runs, processes)))
    assert not list(SHARED_MEMORY.glob(f"{prefix}*"))


def test_nothing_is_left_when_it_is_killed_itself_while_edits_run(checkpoint: Path) -> None:
    with serving([*command(checkpoint), "--exit-timeout", "3"]) as (process, said):
        address = re.search(r"gRPC +(\S+)", said)
        assert address
        with raw.Stream(SimpleNamespace(grpc_url=address[1]), ENDLESS) as edit:
            edit.next()
            assert any("triton_python_backend_stub" in line for line in leftovers(process))
            process.kill()
            process.wait()
            assert raw.eventually(lambda: leftovers(process) == []), leftovers(process)
