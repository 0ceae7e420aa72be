"""A server of its own with one slot and narrow limits: waiting for the slot, and settings."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from melodyflow.embedded import EmbeddedServer

from . import raw
from .conftest import read_metrics

CLIP = raw.file_of(raw.music(1, channels=1), 48000)
QUICK: dict[str, Any] = {"audio": CLIP, "prompt": "a harp", "steps": 24}
# Goes on for many seconds; to be cancelled.
LONG: dict[str, Any] = {
    "audio": raw.file_of(raw.music(10, 16000, channels=1), 16000),
    "prompt": "a harp",
    "steps": 128,
    "regularize_iters": 8,
}
LIMITS = {
    "MAX_AUDIO_BYTES": "500000",
    "MAX_CHANNELS": "1",
    "MIN_SAMPLE_RATE": "16000",
    "MAX_SAMPLE_RATE": "96000",
    "MIN_SECONDS": "0.5",
    "MAX_SECONDS": "10",
    "MAX_PROMPT_CHARACTERS": "20",
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("one-slot") / "triton.log"


@pytest.fixture(scope="module")
def one_slot(checkpoint: Path, log: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(
        checkpoint,
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        settings={"DEVICE": "cpu", "PRECISION": "fp32", "SLOTS": "1", **LIMITS},
        log=log,
        exit_timeout=20,
    ) as server:
        yield server
    # In spite of all the clients that left: finalize() ran to its end.
    assert "successfully unloaded 'melodyflow'" in log.read_text()


class Queue:
    """What the metrics say of the server with one slot since a test began."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._before = read_metrics(server.metrics_url)

    def pending(self) -> int:
        """In Triton's queue; the one that execute() waits with is not counted."""
        return int(self._now('nv_inference_pending_request_count{model="melodyflow",version="1"}'))

    def in_flight(self) -> int:
        return int(self._now("melodyflow_edits_in_flight"))

    def ended(self, outcome: str) -> int:
        name = f'melodyflow_edits_total{{outcome="{outcome}"}}'
        return int(self._now(name) - self._before[name])

    def rows(self) -> int:
        return int(self._now("melodyflow_rows_total") - self._before["melodyflow_rows_total"])

    def _now(self, name: str) -> float:
        return read_metrics(self._server.metrics_url)[name]


@pytest.fixture
def queue(one_slot: EmbeddedServer) -> Queue:
    watched = Queue(one_slot)
    assert raw.eventually(lambda: watched.in_flight() == watched.pending() == 0)
    return Queue(one_slot)


@contextmanager
def running(server: EmbeddedServer) -> Iterator[raw.Stream]:
    """An edit that holds the one slot; it leaves at the end, unless it has left before."""
    with raw.Stream(server, LONG) as stream:
        stream.next()
        yield stream


def still_runs(stream: raw.Stream) -> bool:
    """It has gone on since: whatever was sent is taken, then something new comes."""
    while not stream.silent():
        stream.next()
    return not stream.next().final


# --- waiting for the slot -----------------------------------------------------------------------


def test_edits_wait_for_the_slot_in_order(one_slot: EmbeddedServer, queue: Queue) -> None:
    with ExitStack() as stack:
        holder = stack.enter_context(running(one_slot))
        first = stack.enter_context(raw.Stream(one_slot, {**QUICK, "prompt": "first"}))
        # execute() waits with one; the next one stays in Triton's queue and shows there
        second = stack.enter_context(raw.Stream(one_slot, {**QUICK, "prompt": "second"}))
        assert raw.eventually(lambda: queue.pending() == 1)
        third = stack.enter_context(raw.Stream(one_slot, {**QUICK, "prompt": "third"}))
        assert raw.eventually(lambda: queue.pending() == 2)
        assert still_runs(holder)
        assert queue.in_flight() == 1
        waiting = (first, second, third)
        assert all(stream.silent() for stream in waiting)
        holder.cancel()
        results = [list(stream) for stream in waiting]
        assert [result[-1].outputs["stage"] for result in results] == [b"done"] * 3
        # The first two were sent at a time, by connections of their own; the third after them.
        ends = [result[-1].at for result in results]
        assert ends[2] == max(ends)
    assert raw.eventually(lambda: queue.ended("done") == 3)
    assert queue.ended("cancelled") == 1
    assert raw.eventually(lambda: queue.in_flight() == queue.pending() == 0)


# A client as a process, so that it can be killed: nothing in it says goodbye.
CLIENT = """
import sys
import numpy as np
import tritonclient.grpc as triton
url, audio = sys.argv[1], open(sys.argv[2], "rb").read()
client = triton.InferenceServerClient(url)
client.start_stream(lambda result, error: None)
tensors = []
for name, value in (("audio", audio), ("prompt", b"killed")):
    tensor = triton.InferInput(name, [1, 1], "BYTES")
    values = np.empty((1, 1), object)
    values[0, 0] = value
    tensor.set_data_from_numpy(values)
    tensors.append(tensor)
client.async_stream_infer("melodyflow", tensors, request_id="killed")
print("sent", flush=True)
client.stop_stream()
"""


def test_a_client_killed_while_it_waits_leaves_no_trace(
    one_slot: EmbeddedServer, queue: Queue, log: Path, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(CLIP)
    with running(one_slot) as holder, raw.Stream(one_slot, QUICK) as before:
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, one_slot.grpc_url, str(clip)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            # Only then is the one that is pending not the one before, on its way to execute().
            assert client.stdout is not None
            assert client.stdout.readline() == "sent\n"
            assert raw.eventually(lambda: queue.pending() == 1)
            before.cancel()
            assert raw.eventually(lambda: queue.pending() == 0)  # now execute() waits with it
            assert raw.eventually(lambda: queue.ended("cancelled") == 1)
            client.kill()
            assert raw.eventually(lambda: queue.ended("cancelled") == 2)
        finally:
            client.kill()
            client.wait(10)
        assert re.search(r"edit id='killed' .* cancelled .* evaluations 0/", log.read_text())
        assert still_runs(holder)
        with raw.Stream(one_slot, QUICK) as after:
            holder.cancel()
            assert list(after)[-1].outputs["stage"] == b"done"
    assert raw.eventually(lambda: queue.ended("done") == 1)
    assert raw.eventually(lambda: queue.in_flight() == queue.pending() == 0)


def test_a_client_that_leaves_tritons_queue_is_never_served(
    one_slot: EmbeddedServer, queue: Queue
) -> None:
    with running(one_slot) as holder, raw.Stream(one_slot, QUICK) as first:
        second = raw.Stream(one_slot, QUICK)
        assert raw.eventually(lambda: queue.pending() == 1)
        second.cancel()
        holder.cancel()
        assert list(first)[-1].outputs["stage"] == b"done"
    assert raw.eventually(lambda: queue.in_flight() == queue.pending() == 0)
    raw.transform(one_slot, QUICK)  # whatever stood in the queue has had its turn
    assert raw.eventually(lambda: queue.ended("done") == 2)


def test_an_http_client_that_leaves_while_it_waits_is_not_served_to_the_end(
    one_slot: EmbeddedServer, queue: Queue, log: Path
) -> None:
    """This Triton notices a closed connection only once a response has been written to it."""
    with running(one_slot) as holder:
        waiting = raw.ask(one_slot, "generate_stream", {**LONG, "id": "gone"})
        with raw.Stream(one_slot, QUICK) as behind:
            assert raw.eventually(lambda: queue.pending() == 1)  # so the other one has arrived
            waiting.close()
            holder.cancel()
            assert list(behind)[-1].outputs["stage"] == b"done"
    assert raw.eventually(lambda: queue.ended("cancelled") == 2)
    found = re.search(r"edit id='gone' .* cancelled .* evaluations (\d+)/(\d+)", log.read_text())
    assert found
    assert int(found[1]) < int(found[2]) / 4


def test_a_deadline_passes_while_it_waits(one_slot: EmbeddedServer, queue: Queue) -> None:
    with running(one_slot) as holder:
        with (
            pytest.raises(raw.Refused, match=r"timeout_s: .* 0\.3 s") as caught,
            raw.Stream(one_slot, QUICK, parameters={"timeout_s": 0.3}) as stream,
        ):
            list(stream)
        assert caught.value.status == "DEADLINE_EXCEEDED"
        assert caught.value.responses == []
        with pytest.raises(raw.Refused, match="timeout_s: ") as caught:
            raw.generate(one_slot, {**QUICK, "timeout_s": 0.3, "stream": False})
        assert caught.value.status == 400
        assert still_runs(holder)
    assert raw.eventually(lambda: queue.ended("deadline") == 2)


def test_what_is_refused_is_refused_before_it_waits(one_slot: EmbeddedServer, queue: Queue) -> None:
    with running(one_slot) as holder:
        for bad in ({"steps": 0}, {"audio": CLIP[:100]}):
            with pytest.raises(raw.Refused) as caught:
                raw.over_generate(one_slot, {**QUICK, **bad})
            assert caught.value.status == 400
        assert still_runs(holder)
    assert raw.eventually(lambda: queue.ended("invalid") == 2)


# --- limits are settings ------------------------------------------------------------------------


def silence(samples: int, rate: int = 48000, channels: int = 1, subtype: str = "PCM_16") -> bytes:
    return raw.file_of(np.zeros((channels, samples), np.float32), rate, subtype)


@pytest.mark.parametrize(
    ("refused", "accepted", "words"),
    [
        ({"audio": silence(160_001, 16000)}, {}, "audio: 160001 samples .* at most 160000"),
        (
            {"audio": silence(23999)},
            {"audio": silence(24000)},
            "audio: 23999 samples .* at least 0.5 s",
        ),
        ({"audio": silence(48000, channels=2)}, {}, "audio: 2 channels"),
        ({"audio": silence(15999, 15999)}, {"audio": silence(16000, 16000)}, "audio: 15999 Hz"),
        ({"audio": silence(96001, 96001)}, {"audio": silence(96000, 96000)}, "audio: 96001 Hz"),
        ({"sample_rate": 15999}, {"sample_rate": 16000}, "sample_rate: 15999; 16000 to 96000"),
        ({"sample_rate": 96001}, {"sample_rate": 96000}, "sample_rate: 96001; 16000 to 96000"),
        ({"prompt": "x" * 21}, {"prompt": "x" * 20}, "prompt: 21 characters"),
        ({"source_prompt": "x" * 21}, {"source_prompt": "x" * 20}, "source_prompt: 21 char"),
        (
            {"audio": silence(70000, subtype="DOUBLE")},
            {"audio": silence(60000, subtype="DOUBLE")},
            "audio: 560.* bytes; at most 500000",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_limit_that_was_set(
    one_slot: EmbeddedServer, refused: dict[str, Any], accepted: dict[str, Any], words: str
) -> None:
    with pytest.raises(raw.Refused, match=words) as caught:
        raw.over_generate(one_slot, {**QUICK, **refused})
    assert caught.value.status == 400
    assert raw.over_grpc(one_slot, {**QUICK, **accepted})[-1].outputs["stage"] == b"done"
