"""One client call, from its request to the final response."""

import dataclasses
import json
import logging
import math
import threading
import time
from typing import Any, Protocol

from torch import Tensor

import melodyflow
from melodyflow.audio import Limits
from melodyflow.audio.loudness import LoudnessMatch
from melodyflow.engine import Check, Job
from melodyflow.errors import Code, EditError
from melodyflow.model import MelodyFlow
from melodyflow.model.checkpoint import Checkpoint
from melodyflow.serving.encoding import wrap
from melodyflow.serving.metrics import Metrics
from melodyflow.serving.outbox import Outbox
from melodyflow.serving.request import EditRequest
from melodyflow.serving.shared_memory import is_ample
from melodyflow.serving.sound import Result, Sound
from melodyflow.serving.tracing import Edit, Tracing

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.1  # minimum between two progress responses of an edit


class Responder(Protocol):
    """The way back to one client; called only on the outbox's thread."""

    request_id: str

    def is_cancelled(self) -> bool:
        """Whether the client has gone away."""

    def send(self, outputs: dict[str, Any], *, final: bool) -> None:
        """Sends one response. If a non-final one raises, an error can still be sent."""

    def finish(self) -> None:
        """Marks the previous response as the last one."""

    def send_error(self, error: EditError) -> None:
        """Sends the last response of a failed call."""


@dataclasses.dataclass(frozen=True)
class Server:
    """Shared by all calls of a server."""

    model: MelodyFlow
    checkpoint: Checkpoint
    precision: str
    limits: Limits
    max_model_samples: int
    outbox: Outbox
    metrics: Metrics
    tracing: Tracing | None = None  # None: no spans

    @property
    def max_seconds(self) -> float:
        """The duration of the longest clip."""
        return self.max_model_samples / self.model.codec.config.sample_rate


class Call:
    """A call from the moment the model first sees it. Watches for cancellation and the deadline."""

    def __init__(self, server: Server, responder: Responder) -> None:
        self._server = server
        self._responder = responder
        self._started = time.monotonic()
        self._timeout_s = math.inf
        self._ending = threading.Lock()
        self._ended = False
        self._stop: EditError | None = None
        self._job: Job | None = None
        self._session_id = ""
        self.traceparent = ""  # the client's trace context, unchecked
        self._job_started: float | None = None  # once it has ended
        self._evaluations = "0"  # done/total, once it has ended
        self._stages: dict[str, tuple[float, float]] = {}  # begin and end, once it has ended

    def accept(self, request: EditRequest) -> Job:
        """Makes the job for a valid request and starts watching the client and the deadline."""
        self._session_id = request.session_id
        if request.timeout_s is not None:
            self._timeout_s = request.timeout_s
        server = self._server
        codec = server.model.codec.config
        sound = Sound(request, codec, server.limits, server.max_model_samples)
        read = None if request.audio is None else sound.read
        answer = Answer(self, server, dataclasses.replace(request, audio=None), sound)
        self._job = Job(
            request.parameters, sound.frames, read, answer, request.owner, request.previews
        )
        server.outbox.watch(self)
        return self._job

    @property
    def stopped(self) -> EditError | None:
        """The reason to end the call now, if any."""
        return self._stop

    def look(self) -> None:
        """Checks the deadline and whether the client has left. On the outbox's thread."""
        if self._stop is None and time.monotonic() > self._started + self._timeout_s:
            self._stop = EditError(
                Code.DEADLINE,
                f"timeout_s: the edit took longer than {self._timeout_s:g} s and was stopped",
            )
        # After the deadline, which must hold even if Triton can't be asked.
        if self._stop is None and self._responder.is_cancelled():
            self._stop = EditError(Code.CANCELLED, "the client cancelled the request")
        job = self._job
        if self._stop and job:
            job.stop(self._stop)

    def report(self, outputs: dict[str, Any]) -> None:
        """Sends a response on the way, unless the call has ended."""
        with self._ending:  # nothing may follow the last response
            if not self._ended:
                self._server.outbox.post(lambda: self._responder.send(outputs, final=False))

    def succeed(self, outputs: dict[str, Any], audio_seconds: float) -> None:
        """Ends the call with its result, whose `audio` is so long."""
        if not self._end():
            return
        # With the flag of the last response, Triton's sender closes before it copies the response
        # into shared memory, and leaves no way to report that it didn't fit. The flag is sent
        # separately only if that can happen: Triton 2.51 may crash when a client leaves in between.
        if is_ample(len(outputs["audio"])):
            self._count("done", audio_seconds)
            self._server.outbox.post(lambda: self._responder.send(outputs, final=True))
        else:
            self._server.outbox.post(lambda: self._try_to_send(outputs, audio_seconds))

    def failed(self, error: EditError) -> None:
        """Ends the call without a result. All failures come here."""
        if self._end():
            self._answer_with(error)
        # The error isn't raised again. Its frames hold the request, and if the call keeps the error
        # as the reason to stop, they would form a cycle with it; see _end.
        error.__traceback__ = None

    def _try_to_send(self, outputs: dict[str, Any], audio_seconds: float) -> None:
        """Sends the result, or an error if there is no room for it. On the outbox's thread."""
        try:
            self._responder.send(outputs, final=False)
        except Exception as error:
            log.exception("a result could not be sent")
            unsent = EditError(Code.INTERNAL, f"the result could not be sent: {error}")
            self._answer_with(unsent)
        else:
            self._count("done", audio_seconds)
            self._server.outbox.post(self._responder.finish)

    def _answer_with(self, error: EditError) -> None:
        self._count(error.code, reason=str(error))
        self._server.outbox.post(lambda: self._responder.send_error(error))

    def _end(self) -> bool:
        """Ends the call; False if it had already ended."""
        with self._ending:
            if self._ended:
                return False
            self._ended = True
        # The job holds this call. Dropping the reference back frees both, clip and all, as soon as
        # the engine is done with them; a cycle would wait for the garbage collector.
        job, self._job = self._job, None
        if job:
            self._job_started = job.started
            self._evaluations = f"{job.done}/{job.parameters.evaluations}"
            self._stages = job.timeline()
        self._server.outbox.unwatch(self)
        return True

    def _count(self, outcome: str, audio_seconds: float = 0.0, reason: str = "") -> None:
        """Counts and logs how the call ended. Called once."""
        self._server.metrics.ended(outcome, audio_seconds)
        request_id, now = self._responder.request_id[:200], time.monotonic()
        if self._server.tracing:
            stages = {"queue": (self._started, self._job_started or now), **self._stages}
            edit = Edit(request_id, self.traceparent, outcome, (self._started, now), stages)
            self._server.tracing.record(edit)
        log.info(
            "edit id=%r session=%r %s after %.2f s, evaluations %s%s",
            request_id,
            self._session_id,
            outcome,
            now - self._started,
            self._evaluations,
            f": {reason}" if reason else "",
        )


class Answer:
    """The engine's listener for an accepted call; it makes the responses."""

    def __init__(self, call: Call, server: Server, request: EditRequest, sound: Sound) -> None:
        """`request`: without its audio, which `sound` holds until it is read."""
        self._call = call
        self._server = server
        self._request = request
        self._sound = sound
        self._progress_due = 0.0
        self._stage = ""

    def progress(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if not self._request.stream or (stage == self._stage and now < self._progress_due):
            return
        self._stage, self._progress_due = stage, now + PROGRESS_SECONDS
        # total + 1, so that only the result itself is 1.
        self._call.report({"progress": done / (total + 1), "stage": stage, "step": (done, total)})

    def preview(self, waveform: Tensor, done: int, check: Check) -> None:
        total = self._request.parameters.evaluations
        comments = self._comments(f", unfinished (step {done} of {total})")
        result = self._sound.preview(waveform, comments, check)
        outputs = {
            "preview": wrap(result.file, self._request.encoding),
            "step": (done, total),
            "info": json.dumps(_lufs(result)),
        }
        self._call.report(outputs)

    def finished(self, waveform: Tensor, job: Job, check: Check) -> None:
        request = self._request
        result = self._sound.finish(waveform, self._comments(), check)
        total = request.parameters.evaluations
        outputs = {
            "progress": 1.0,
            "stage": "done",
            "step": (total, total),
            "audio": wrap(result.file, request.encoding),
            "sample_rate": result.sample_rate,
            "seed": request.parameters.seed,
            "gain_db": result.gain_db,
            "info": json.dumps(self._info(result, job), ensure_ascii=False),
        }
        self._call.succeed(outputs, self._sound.seconds)

    def failed(self, error: EditError) -> None:
        self._call.failed(error)

    def _comments(self, state: str = "") -> dict[str, str]:
        """The file's comments. They contain nothing that would differ if the edit were repeated."""
        if not self._request.metadata:
            return {}
        parameters, checkpoint = self._request.parameters, self._server.checkpoint
        prompt = " ".join(parameters.prompt.split())
        what = "music edit" if parameters.duration is None else "music"
        return {
            "software": f"MelodyFlow on Triton {melodyflow.__version__}",
            "license": checkpoint.licence,
            "comment": (
                f"AI-generated {what}{state}. Prompt: {prompt} Seed: {parameters.seed}. "
                f"Checkpoint: {checkpoint.name} {checkpoint.sha256[:12]}. "
                f"Weights' licence: {checkpoint.licence}."
            ),
        }

    def _info(self, result: Result, job: Job) -> dict[str, Any]:
        request, checkpoint = self._request, self._server.checkpoint
        matched = {} if result.matched is None else {"loudness": _rounded(result.matched)}
        return {
            "parameters": {
                **request.parameters.in_effect(),
                "format": request.format,
                "sample_rate": result.sample_rate,
                "loudness": request.loudness or "none",
            },
            **matched,
            **_lufs(result),
            "checkpoint": {
                "name": checkpoint.name,
                "sha256": checkpoint.sha256,
                "licence": checkpoint.licence,
            },
            "precision": self._server.precision,
            "device": str(self._server.model.device),
            "shared": sorted(job.shared),
            "seconds": {stage: round(value, 4) for stage, value in job.seconds.items()},
            "version": melodyflow.__version__,
            "ai_generated": True,
        }


def _lufs(result: Result) -> dict[str, Any]:
    """How loud the whole clip and the whole result are."""
    return {"clip_lufs": _round(result.clip_lufs), "result_lufs": _round(result.result_lufs)}


def _rounded(matched: LoudnessMatch) -> dict[str, Any]:
    return {name: _round(value) for name, value in dataclasses.asdict(matched).items()}


def _round(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
