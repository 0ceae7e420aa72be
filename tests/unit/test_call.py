"""How a call ends: answered once, counted as what it was, and gone."""

import dataclasses
import gc
import logging
import os
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from melodyflow.audio import Limits
from melodyflow.edit import Parameters
from melodyflow.engine import Job
from melodyflow.engine.admission import Admission
from melodyflow.errors import Code, EditError
from melodyflow.model import MelodyFlow
from melodyflow.model.checkpoint import open_checkpoint
from melodyflow.serving import call
from melodyflow.serving.call import Call, Server
from melodyflow.serving.metrics import Metrics
from melodyflow.serving.outbox import Outbox
from melodyflow.serving.request import EditRequest
from melodyflow.serving.shared_memory import RESERVE, is_ample

from .audio.files import encoded, noise, with_total

ERROR = EditError(Code.INVALID_ARG, "steps: 0; 1 to 128 are allowed")


class Client:
    """A way back that keeps what was said, and raises where it is told to."""

    request_id = "take-1"

    def __init__(self, said: list[str], raises: type[Exception] | None = None) -> None:
        self.said = said
        self.raises = raises
        self.gone = False

    def is_cancelled(self) -> bool:
        if self.raises:
            raise self.raises("Triton cannot be asked")
        return self.gone

    def send(self, outputs: dict[str, Any], *, final: bool) -> None:
        if self.raises:
            raise self.raises("no room in shared memory")
        self.said.append(f"{'result' if 'audio' in outputs else 'progress'}, final: {final}")

    def finish(self) -> None:
        self.said.append("final")

    def send_error(self, error: EditError) -> None:
        self.said.append(f"error {error.code}: {error}")


class Ends:
    """The metrics' counts of ends, posted as theirs are."""

    def __init__(self, said: list[str], outbox: Outbox) -> None:
        self._said, self._outbox = said, outbox

    def ended(self, outcome: str, audio_seconds: float = 0.0) -> None:
        self._outbox.post(lambda: self._said.append(f"counted {outcome}, {audio_seconds:g} s"))


@pytest.fixture
def said() -> list[str]:
    """What the client was told and what was counted, in this order."""
    return []


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    made = Outbox()
    yield made
    made.close()


@pytest.fixture
def server(model: MelodyFlow, checkpoint: Path, outbox: Outbox, said: list[str]) -> Server:
    return Server(
        model=model,
        checkpoint=open_checkpoint(checkpoint),
        precision="fp32",
        limits=Limits(),
        max_model_samples=model.max_samples,
        outbox=outbox,
        metrics=cast(Metrics, Ends(said, outbox)),
    )


def text_to_music(timeout_s: float | None = None) -> EditRequest:
    """A quarter of a second of it."""
    return EditRequest(
        audio=None,
        encoding="raw",
        parameters=Parameters(
            prompt="a harp",
            seed=1,
            steps=2,
            solver="midpoint",
            regularize_iters=0,
            keep_last_k_iters=0,
            flowstep=0.0,
            duration=0.25,
        ),
        format="wav",
        loudness=None,
        sample_rate=None,
        stream=True,
        previews=0,
        timeout_s=timeout_s,
        session_id="studio-3",
        metadata=True,
        owner="",
    )


def finish(server: Server, client: Client) -> None:
    """A call whose edit is done; what it says has been said after it."""
    job = Call(server, client).accept(text_to_music())
    codec = server.model.codec.config
    job.listener.finished(torch.zeros(codec.channels, job.frames * codec.hop), job, job.check)
    server.outbox.close()


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be no room in shared memory."""
    monkeypatch.setattr(call, "is_ample", lambda size: False)


def test_a_result_and_its_end_are_one_response_where_there_is_room(
    server: Server, said: list[str]
) -> None:
    finish(server, Client(said))
    assert said == ["counted done, 0.25 s", "result, final: True"]


@pytest.mark.usefixtures("scarce")
def test_a_result_is_counted_once_it_was_sent_where_room_is_scarce(
    server: Server, said: list[str]
) -> None:
    finish(server, Client(said))
    assert said == ["result, final: False", "counted done, 0.25 s", "final"]


@pytest.mark.usefixtures("scarce")
@pytest.mark.parametrize("raises", [RuntimeError, MemoryError])
def test_a_result_that_cannot_be_sent_is_an_error_and_counted_so(
    server: Server, said: list[str], caplog: pytest.LogCaptureFixture, raises: type[Exception]
) -> None:
    caplog.set_level(logging.INFO)
    finish(server, Client(said, raises))
    assert said == [
        "counted failed, 0 s",
        "error failed: the result could not be sent: no room in shared memory",
    ]
    ends = [text for text in caplog.messages if text.startswith("edit id=")]
    assert len(ends) == 1
    assert ends[0].startswith("edit id='take-1' session='studio-3' failed after ")
    assert "the result could not be sent" in ends[0]


def test_a_deadline_ends_the_decoding_of_a_file_without_a_total(
    server: Server, said: list[str]
) -> None:
    """Nothing tells how long that takes."""
    file = with_total(encoded(noise(2, 96_000), format="FLAC"), 0)
    parameters = Parameters(prompt="a harp", seed=1)
    request = dataclasses.replace(text_to_music(0.01), audio=file, parameters=parameters)
    begun = Call(server, Client(said))
    job = begun.accept(request)
    while not job.stopped:
        time.sleep(0.01)
    assert job.read is not None
    with pytest.raises(EditError, match="took longer than 0"):
        job.read(job.check)


def test_room_is_ample_or_not() -> None:
    free = os.statvfs("/dev/shm")
    assert is_ample(0) == (free.f_bavail * free.f_frsize > RESERVE)
    assert not is_ample(free.f_blocks * free.f_frsize)


def test_a_preview_that_is_late_is_not_sent(server: Server, said: list[str]) -> None:
    job = Call(server, Client(said)).accept(dataclasses.replace(text_to_music(), previews=1))
    codec = server.model.codec.config

    def waveform() -> torch.Tensor:
        return torch.zeros(codec.channels, job.frames * codec.hop)

    job.listener.preview(waveform(), 1, job.check)
    job.listener.finished(waveform(), job, job.check)
    job.listener.preview(waveform(), 1, job.check)
    server.outbox.close()
    assert said == ["progress, final: False", "counted done, 0.25 s", "result, final: True"]


def test_a_call_ends_once(server: Server, said: list[str]) -> None:
    call = Call(server, Client(said))
    call.failed(ERROR)
    call.failed(EditError(Code.UNAVAILABLE, "the server is shutting down; try again"))
    server.outbox.close()
    assert said == ["counted invalid, 0 s", f"error invalid: {ERROR}"]


def test_the_deadline_is_seen_where_triton_cannot_be_asked(server: Server, said: list[str]) -> None:
    call = Call(server, Client(said, RuntimeError))
    job = call.accept(text_to_music(timeout_s=1e-9))
    call.look()
    assert call.stopped
    assert call.stopped.code is Code.DEADLINE
    assert job.stopped is call.stopped
    call.failed(call.stopped)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def given_up(server: Server, said: list[str]) -> "weakref.ref[Job]":
    """The job of a call whose client leaves while it waits for a slot, as Service.take has it."""
    client = Client(said)
    call = Call(server, client)
    slots = Admission(1, 10**6, lambda edits, frames: None)
    slots.acquire(lambda: None)
    job = call.accept(text_to_music())
    client.gone = True
    call.look()
    try:
        slots.acquire(lambda: call.stopped)
    except EditError as error:
        call.failed(error)
    return weakref.ref(job)


@pytest.mark.usefixtures("no_collector")
def test_what_is_given_up_is_freed_without_the_collector(server: Server, said: list[str]) -> None:
    """Its job has the request's file."""
    job = given_up(server, said)
    server.outbox.close()
    assert said == ["counted cancelled, 0 s", "error cancelled: the client cancelled the request"]
    assert job() is None
