"""Two instances of the model in one server: both work, and the queue's promises hold."""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from melodyflow.embedded import MODEL_REPOSITORY
from melodyflow_client import MelodyFlowClient

from . import raw
from .conftest import read_metrics, read_series
from .test_full_queue import ENDLESS, FULL, LENGTH, PENDING, QUICK, refusal
from .test_serve import addresses, command, leftovers, member, said_until, serving

IN_FLIGHT = "melodyflow_edits_in_flight"
NAMES = [f"melodyflow_0_{number}" for number in (0, 1)]
# Some seconds: it ends by itself, but not before the others have been sent.
LONGER: dict[str, Any] = {
    **QUICK,
    "audio": raw.file_of(raw.music(4), 48000),
    "steps": 128,
    "regularize_iters": 4,
}


@dataclass
class Two:
    """A server with two instances of a slot each."""

    process: Popen[str]
    grpc_url: str
    http_url: str
    metrics_url: str

    def of_each(self, name: str) -> list[float]:
        series = read_series(self.metrics_url)
        return [series[f'{name}{{model_instance="{instance}"}}'] for instance in NAMES]

    def at_rest(self) -> bool:
        now = read_metrics(self.metrics_url)
        return now[IN_FLIGHT] == now["melodyflow_frames_in_flight"] == now[PENDING] == 0


@pytest.fixture(scope="module")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """The real repository but for the number of instances and the length of the queue."""
    folder = tmp_path_factory.mktemp("two-instances")
    repository = folder / "repository"
    shutil.copytree(MODEL_REPOSITORY, repository)
    config = repository / "melodyflow" / "config.pbtxt"
    text = config.read_text()
    for old, new in (
        (r"instance_group .*", "instance_group [{ count: 2, kind: KIND_CPU }]"),
        (r"max_queue_size: \d+", f"max_queue_size: {LENGTH}"),
    ):
        text, changed = re.subn(old, new, text)
        assert changed == 1
    config.write_text(text)
    arguments = command(checkpoint, "--model-repository", str(repository), "--set", "SLOTS=1")
    log = ("--log", str(folder / "log"))
    with serving([*arguments, "--set", "DEVICE=cpu", *log]) as (process, said):
        urls = addresses(said)
        yield Two(process, urls["gRPC"], urls["HTTP"], urls["metrics"])


@pytest.fixture
def two(server: Two) -> Iterator[Two]:
    yield server
    if server.process.poll() is None:
        assert raw.eventually(server.at_rest)


def begin(two: Two, stack: ExitStack, inputs: dict[str, Any] = ENDLESS) -> raw.Stream:
    """An edit that has had its first evaluation."""
    stream = stack.enter_context(raw.Stream(two, inputs))
    while stream.next().outputs["step"][0] == 0:
        pass
    return stream


def goes_on(stream: raw.Stream) -> bool:
    """It was not harmed: whatever it has sent is taken, then something new comes."""
    while not stream.silent():
        stream.next()
    return stream.next().outputs["stage"] != b"done"


def test_two_edits_at_once_run_in_both_and_are_cancelled_in_both(two: Two) -> None:
    assert two.of_each("melodyflow_slots") == [1, 1]
    with ExitStack() as stack:
        both = [begin(two, stack) for _ in range(2)]
        assert two.of_each(IN_FLIGHT) == [1, 1]
        assert all(map(goes_on, both))
    assert raw.eventually(lambda: two.of_each(IN_FLIGHT) == [0, 0])
    for name in NAMES:
        cancelled = f'melodyflow_edits_total{{model_instance="{name}",outcome="cancelled"}}'
        assert raw.eventually(lambda c=cancelled: read_series(two.metrics_url)[c] == 1)


def test_the_same_seed_gives_the_same_bytes_in_both(two: Two) -> None:
    inputs = {**QUICK, "seed": 7}
    with ExitStack() as stack:
        results = [raw.transform(two, inputs)["audio"] for _ in range(2)]
        begin(two, stack)  # takes one of them away
        results += [raw.transform(two, inputs)["audio"] for _ in range(2)]
    assert len(set(results)) == 1


def test_no_edit_waits_for_a_busy_instance_beside_a_free_one(two: Two) -> None:
    with ExitStack() as stack:
        holder = begin(two, stack)
        for seed in range(6):
            raw.transform(two, {**QUICK, "seed": seed})
        assert goes_on(holder)


def test_the_queue_before_two_busy_instances(two: Two) -> None:
    """Its length, priorities and timeouts: nothing waits outside of it."""
    waiting = []
    with ExitStack() as stack:
        holders = [begin(two, stack) for _ in range(2)]
        for number in range(LENGTH):
            waiting.append(stack.enter_context(raw.Stream(two, {**QUICK, "seed": number})))
            assert raw.eventually(lambda n=number: read_metrics(two.metrics_url)[PENDING] == n + 1)
        with raw.Stream(two, QUICK) as surplus:
            assert FULL in refusal(surplus).text
        with raw.Stream(two, QUICK, parameters={"priority": 1, "timeout": 300_000}) as late:
            assert "Request timeout expired" in refusal(late).text
        urgent = stack.enter_context(raw.Stream(two, QUICK, parameters={"priority": 1}))
        assert raw.eventually(lambda: read_metrics(two.metrics_url)[PENDING] == LENGTH + 1)
        assert all(map(goes_on, holders))
        holders[0].cancel()
        ends = [list(stream)[-1] for stream in (urgent, *waiting)]
        assert all(end.outputs["stage"] == b"done" for end in ends)
        assert ends[0].at == min(end.at for end in ends), "it has overtaken all"
        assert goes_on(holders[1])


def test_an_edit_outlives_either_process(two: Two) -> None:
    """Both edits come home where one of the two processes is killed."""
    options = {name: LONGER[name] for name in ("steps", "regularize_iters")}
    with MelodyFlowClient(two.grpc_url) as client, ThreadPoolExecutor(2) as pool:
        edits = [
            pool.submit(client.transform, LONGER["audio"], **options, prompt=f"harp {number}")
            for number in range(2)
        ]
        assert raw.eventually(lambda: two.of_each(IN_FLIGHT) == [1, 1])
        pid = member(two.process, "triton_python_backend_stub")
        os.kill(pid, signal.SIGKILL)
        told = said_until(two.process, "ready again")
        assert f"the model's process ({pid}) has ended" in told
        samples = [edit.result(raw.PATIENCE).waveform.shape[1] for edit in edits]
    assert samples == [4 * 48000] * 2
    assert two.of_each("melodyflow_restarts_total") == [1, 1]


def test_what_runs_in_both_and_what_waits_ends_before_the_server(two: Two) -> None:
    """The last test here: it ends the server."""
    with ExitStack() as stack:
        edits = [stack.enter_context(raw.Stream(two, LONGER)) for _ in range(2)]
        assert raw.eventually(lambda: two.of_each(IN_FLIGHT) == [1, 1])
        edits.append(stack.enter_context(raw.Stream(two, QUICK)))
        assert raw.eventually(lambda: read_metrics(two.metrics_url)[PENDING] == 1)
        two.process.send_signal(signal.SIGTERM)
        assert all(list(edit)[-1].outputs["stage"] == b"done" for edit in edits)
    assert two.process.wait(30) == 0
    assert leftovers(two.process) == []
