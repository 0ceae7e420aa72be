"""Clients that leave in mid-edit and deadlines: the work ends, the slot is free, others go on."""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from melodyflow.embedded import EmbeddedServer

from . import oracle, raw

Metrics = Callable[[], dict[str, float]]

CLIP = raw.file_of(raw.music(8), 48000)
SHORT = raw.file_of(raw.music(1), 48000)


def long_edit(**changes: Any) -> dict[str, Any]:
    """Goes on for many seconds: 1024 evaluations of the inversion, 128 of the generation."""
    solve = {"steps": 128, "regularize_iters": 8, "keep_last_k_iters": 1}
    # a seed of its own, so that nothing of it has been done before
    return {"audio": CLIP, "prompt": "a harp", **solve, "seed": secrets.randbelow(2**31), **changes}


def quick_edit() -> dict[str, Any]:
    return {"audio": SHORT, "prompt": "a lute", "steps": 2, "seed": secrets.randbelow(2**31)}


def rows_of(inputs: dict[str, Any], evaluations: int | None = None) -> int:
    """Rows of an edit's first evaluations, of all where no number is given: one row for each of the
    inversion, two where the reference goes along (the last K of R iterations) or under guidance."""
    steps, iterations = inputs["steps"], inputs.get("regularize_iters", 2)
    kept = inputs.get("keep_last_k_iters", 1)
    rows = []
    for _ in range(steps):
        rows += [1] * (iterations - kept) + [2] * kept if iterations else [1]
    rows += [2] * steps
    return sum(rows[:evaluations])


class Watch:
    """What the metrics and the log say since a test began."""

    def __init__(self, metrics: Metrics, log: Path) -> None:
        self._metrics, self._log = metrics, log
        self._before = metrics()

    def rows(self) -> int:
        return int(self._since("melodyflow_rows_total"))

    def ended(self, outcome: str) -> int:
        return int(self._since(f'melodyflow_edits_total{{outcome="{outcome}"}}'))

    def in_flight(self) -> int:
        return int(self._metrics()["melodyflow_edits_in_flight"])

    def line(self, request_id: str) -> tuple[str, int, int]:
        """What the log says of the end of an edit: outcome, evaluations done and in total."""
        pattern = rf"edit id='{request_id}' .*? (\w+) after .*, evaluations (\d+)/(\d+)"
        found = raw.eventually(lambda: re.search(pattern, self._log.read_text()))
        assert found, f"no line of {request_id} in the log"
        return found[1], int(found[2]), int(found[3])

    def _since(self, name: str) -> float:
        return self._metrics()[name] - self._before[name]


@pytest.fixture
def watch(metrics: Metrics, server_log: Path) -> Watch:
    assert raw.eventually(lambda: metrics()["melodyflow_edits_in_flight"] == 0)
    return Watch(metrics, server_log)


@pytest.fixture
def request_id() -> str:
    return f"take-{secrets.token_hex(4)}"


# --- leaving in mid-edit ------------------------------------------------------------------------


def leave_grpc(server: EmbeddedServer, inputs: dict[str, Any], request_id: str, stage: str) -> None:
    with raw.Stream(server, inputs, request_id=request_id) as stream:
        wait_for(stage, iter(stream))


def leave_events(
    server: EmbeddedServer, inputs: dict[str, Any], request_id: str, stage: str
) -> None:
    with raw.Events(server, {**inputs, "id": request_id}) as events:
        wait_for(stage, iter(events))


def wait_for(stage: str, responses: Iterator[raw.Response]) -> None:
    """Until a stage is on its way, with an evaluation behind it."""
    entered = next(r.outputs["step"][0] for r in responses if r.outputs["stage"] == stage.encode())
    next(r for r in responses if r.outputs["step"][0] > entered)


@pytest.mark.parametrize("stage", ["inverting", "generating"])
@pytest.mark.parametrize("leave", [leave_grpc, leave_events], ids=["grpc", "http"])
def test_a_client_leaves_in_mid_edit(
    server: EmbeddedServer,
    watch: Watch,
    request_id: str,
    leave: Callable[[EmbeddedServer, dict[str, Any], str, str], None],
    stage: str,
) -> None:
    inputs = long_edit()
    if stage == "generating":
        inputs |= {"regularize_iters": 0, "keep_last_k_iters": 0}
    leave(server, inputs, request_id, stage)
    assert raw.eventually(lambda: watch.ended("cancelled") == 1)
    rows = watch.rows()
    assert raw.eventually(lambda: watch.in_flight() == 0)

    outcome, done, total = watch.line(request_id)
    inverting = total - 128
    assert outcome == "cancelled"
    if stage == "inverting":
        assert 0 < done < inverting / 2
    else:
        assert inverting < done < total
    assert rows == rows_of(inputs, done)
    # The next one is served, and not a row but its own was evaluated meanwhile.
    raw.transform(server, quick := quick_edit())
    assert raw.eventually(lambda: watch.ended("done") == 1)
    assert watch.rows() == rows + rows_of(quick)


def test_all_slots_are_free_again_when_all_clients_have_left(
    server: EmbeddedServer, watch: Watch, metrics: Metrics
) -> None:
    slots = int(metrics()["melodyflow_slots"])
    with ExitStack() as stack:
        for _ in range(slots):
            stack.enter_context(raw.Stream(server, long_edit(audio=SHORT))).next()
        assert raw.eventually(lambda: watch.in_flight() == slots)
    assert raw.eventually(lambda: watch.ended("cancelled") == slots)
    assert raw.eventually(lambda: watch.in_flight() == 0)
    with ExitStack() as stack:  # and as many can begin at once
        streams = [stack.enter_context(raw.Stream(server, quick_edit())) for _ in range(slots)]
        for stream in streams:
            assert list(stream)[-1].outputs["stage"] == b"done"


# --- others go on -------------------------------------------------------------------------------


def test_another_edit_goes_on_when_one_leaves(
    server: EmbeddedServer, checkpoint: Path, watch: Watch, request_id: str
) -> None:
    staying = {**quick_edit(), "steps": 100, "format": "wav32f"}
    with raw.Stream(server, staying) as other:
        other.next()
        leaving = long_edit(audio=SHORT)
        leave_grpc(server, leaving, request_id, "inverting")
        result = list(other)[-1].outputs
    assert raw.eventually(lambda: watch.ended("cancelled") == watch.ended("done") == 1)
    _, done, _ = watch.line(request_id)
    assert watch.rows() == rows_of(leaving, done) + rows_of(staying)  # and of nobody else
    together = raw.decoded(result["audio"])[0]
    told = {name: staying[name] for name in ("prompt", "steps", "seed")}
    alone = oracle.edited(checkpoint, SHORT, **told)
    assert np.abs(together - alone).max() <= 1e-4 * np.abs(alone).max()


def test_the_inversion_goes_on_for_those_who_share_it(
    server: EmbeddedServer, checkpoint: Path, watch: Watch, request_id: str
) -> None:
    shared = {**quick_edit(), "steps": 100, "format": "wav32f"}
    begun = raw.Stream(server, shared, request_id=request_id)
    responses = iter(begun)
    wait_for("inverting", responses)
    with raw.Stream(server, {**shared, "prompt": "a drum kit"}) as other:
        next(response for response in other if response.outputs["stage"] == b"inverting")
        begun.cancel()
        result = list(other)[-1].outputs
    outcome, done, _ = watch.line(request_id)
    assert outcome == "cancelled"
    assert json.loads(result["info"])["shared"].count("inversion") == 1
    # The inversion once and one generation; of the other one what had begun before it left.
    inverting = 2 * shared["steps"]
    assert watch.rows() == rows_of(shared) + 2 * max(0, done - inverting)
    told = {name: shared[name] for name in ("steps", "seed")}
    alone = oracle.edited(checkpoint, SHORT, prompt="a drum kit", **told)
    together = raw.decoded(result["audio"])[0]
    assert np.abs(together - alone).max() <= 1e-4 * np.abs(alone).max()


# --- deadlines ----------------------------------------------------------------------------------


def test_a_deadline_ends_the_edit(server: EmbeddedServer, watch: Watch, request_id: str) -> None:
    late = long_edit()
    with (
        pytest.raises(raw.Refused) as caught,
        raw.Stream(server, late, parameters={"timeout_s": 0.5}, request_id=request_id) as stream,
    ):
        list(stream)
    assert caught.value.status == "DEADLINE_EXCEEDED"
    assert caught.value.text.startswith("timeout_s: ")
    assert "0.5 s" in caught.value.text
    assert caught.value.responses  # it had begun
    assert raw.eventually(lambda: watch.ended("deadline") == 1)
    outcome, done, total = watch.line(request_id)
    assert outcome == "deadline"
    assert 0 < done < total / 2
    assert watch.rows() == rows_of(late, done)
    assert raw.eventually(lambda: watch.in_flight() == 0)


def test_a_deadline_over_http(server: EmbeddedServer, watch: Watch) -> None:
    late = long_edit(timeout_s=0.3)
    with pytest.raises(raw.Refused, match=r"timeout_s: .* 0\.3 s") as caught:
        raw.generate(server, {**late, "stream": False})
    assert caught.value.status == 400  # this Triton's word for CANCELLED
    with pytest.raises(raw.Refused, match=r"timeout_s: ") as caught:
        raw.over_generate_stream(server, late)
    assert caught.value.status is None  # an event, since progress had been sent
    assert caught.value.responses
    assert raw.eventually(lambda: watch.ended("deadline") == 2)
