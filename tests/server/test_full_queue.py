"""Triton's queue before the one slot: full, overtaken, left by its own clock, and counted."""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from melodyflow.embedded import MODEL_REPOSITORY, EmbeddedServer

from . import raw
from .conftest import read_metrics

LENGTH = 3  # of the queue, for each priority
# One more waits in execute(), and Triton may have taken another one ahead: nobody overtakes these.
HEAD = 2
PENDING = 'nv_inference_pending_request_count{model="melodyflow",version="1"}'
FULL = "Exceeds maximum queue size"

SHORT = raw.file_of(raw.music(0.3), 48000)
# Long enough that results come in the order in which edits had the slot.
QUICK: dict[str, Any] = {"audio": SHORT, "prompt": "a harp", "steps": 48}
# Goes on until it is cancelled: 1152 evaluations of 25 seconds.
ENDLESS: dict[str, Any] = {
    **QUICK,
    "audio": raw.file_of(raw.music(25, 16000, 1), 16000),
    "steps": 128,
    "regularize_iters": 8,
}


@pytest.fixture(scope="module")
def one_slot(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedServer]:
    """The real repository but for the length of the queue."""
    repository = tmp_path_factory.mktemp("short-queue") / "repository"
    shutil.copytree(MODEL_REPOSITORY, repository)
    config = repository / "melodyflow" / "config.pbtxt"
    text, changed = re.subn(r"max_queue_size: \d+", f"max_queue_size: {LENGTH}", config.read_text())
    assert changed == 1
    config.write_text(text)
    with EmbeddedServer(
        checkpoint,
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        settings={"DEVICE": "cpu", "PRECISION": "fp32", "SLOTS": "1"},
        model_repository=repository,
        exit_timeout=20,
    ) as server:
        yield server


class Queue:
    """One edit that holds the slot, and the streams that were sent behind it, by their names."""

    def __init__(self, server: EmbeddedServer, stack: ExitStack) -> None:
        self.server, self._stack = server, stack
        self.waiting: dict[str, raw.Stream] = {}
        self.holder = stack.enter_context(raw.Stream(server, ENDLESS))
        self.holder.next()

    def send(self, name: str, **parameters: Any) -> raw.Stream:
        inputs = {**QUICK, "prompt": name}
        stream = raw.Stream(self.server, inputs, parameters=parameters)
        self.waiting[name] = self._stack.enter_context(stream)
        return stream

    def pending(self) -> int:
        return int(read_metrics(self.server.metrics_url)[PENDING])

    def fill(self) -> raw.Refused:
        """Sends until one is refused, each once the one before has its place: that refusal."""
        self.send("0")
        self.send("1")  # one of both waits in execute(), the other is the first that is counted
        assert raw.eventually(lambda: self.pending() == 1)
        while True:
            name, counted = str(len(self.waiting)), self.pending()
            stream = self.send(name)
            assert raw.eventually(lambda s=stream, n=counted: not s.silent() or self.pending() > n)
            if not stream.silent():
                del self.waiting[name]
                return refusal(stream)

    def holder_runs(self) -> bool:
        """It has gone on since: whatever it has sent is taken, then something new comes."""
        while not self.holder.silent():
            self.holder.next()
        return self.holder.next().outputs["stage"] != b"done"

    def order(self) -> list[str]:
        """The holder leaves; who is done, in the order of the results."""
        self.holder.cancel()
        ends = {name: list(stream)[-1] for name, stream in self.waiting.items()}
        assert all(end.outputs["stage"] == b"done" for end in ends.values())
        return sorted(ends, key=lambda name: ends[name].at)


@pytest.fixture
def queue(one_slot: EmbeddedServer) -> Iterator[Queue]:
    with ExitStack() as stack:
        yield Queue(one_slot, stack)
    metrics = {}
    assert raw.eventually(
        lambda: (
            metrics.update(read_metrics(one_slot.metrics_url))
            or metrics[PENDING] == metrics["melodyflow_edits_in_flight"] == 0
        )
    )


def refusal(stream: raw.Stream) -> raw.Refused:
    with pytest.raises(raw.Refused) as caught:
        list(stream)
    return caught.value


def test_when_the_queue_is_full_the_next_is_refused_at_once(queue: Queue) -> None:
    refused = queue.fill()
    assert FULL in refused.text
    # Before the model sees a request this Triton gives no status on a stream; over HTTP it does.
    assert refused.status in (None, "UNAVAILABLE")
    with pytest.raises(raw.Refused, match=FULL) as caught:
        raw.generate(queue.server, {**QUICK, "stream": False})
    assert caught.value.status == 503
    assert queue.holder_runs(), "it was refused at once: nobody had to end for it"

    assert 1 + LENGTH <= len(queue.waiting) <= HEAD + LENGTH
    assert queue.pending() == len(queue.waiting) - 1, "all but the one in execute()"
    # Among equals Triton promises no order between connections: everybody is served.
    assert sorted(queue.order()) == sorted(queue.waiting)


def test_single_edits_overtake_sweeps(queue: Queue) -> None:
    """Whose priority is 3, under the default."""
    for number in range(HEAD + 1):
        queue.send(f"sweep {number}", priority=3)
        assert raw.eventually(lambda n=number: queue.pending() == n)
    counted = queue.pending()
    queue.send("single")
    assert raw.eventually(lambda: queue.pending() == counted + 1)
    queue.send("urgent", priority=1)
    assert raw.eventually(lambda: queue.pending() == counted + 2)
    order = queue.order()
    assert order.index("urgent") < order.index("single") < order.index(f"sweep {HEAD}")


def test_priority_1_overtakes_all_but_the_head(queue: Queue) -> None:
    queue.fill()
    counted = queue.pending()
    queue.send("urgent", priority=1)
    assert raw.eventually(lambda: queue.pending() == counted + 1), "it has a queue of its own"
    queue.send("urgent too", priority=1)
    assert raw.eventually(lambda: queue.pending() == counted + 2)
    order = queue.order()
    assert "urgent" in order[: HEAD + 1]
    assert order.index("urgent too") == order.index("urgent") + 1


def test_a_timeout_in_the_queue_is_honoured_within_a_second(queue: Queue) -> None:
    queue.fill()
    counted = queue.pending()
    waited = []
    for seconds in (0.3, 1.2, 0.3):
        began = time.monotonic()
        late = queue.send("late", priority=1, timeout=round(seconds * 1e6))
        refused = refusal(late)
        waited.append(time.monotonic() - began - seconds)
        assert refused.status is None
        assert "Request timeout expired" in refused.text
        assert refused.responses == []
        del queue.waiting["late"]
        assert raw.eventually(lambda: queue.pending() == counted), "it is not counted any more"
    assert min(waited) >= 0
    assert sorted(waited)[1] < 1, "Triton looks every half second; a busy machine may be later"
    assert queue.holder_runs()
    assert len(queue.order()) == len(queue.waiting), "nobody else was harmed"
