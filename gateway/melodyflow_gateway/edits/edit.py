"""Runs edits: place in line, seed, events."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from melodyflow_client.aio import AsyncMelodyFlowClient
from melodyflow_client.audio import Clip, Limits
from melodyflow_client.batch import LOW_PRIORITY
from melodyflow_client.contract import DEFAULT_LIMITS, OPTIONS, complete, evaluations, new_seed
from melodyflow_client.errors import DeadlineExceeded, InvalidRequest
from melodyflow_client.protocol import Edit, plan, plan_generation
from melodyflow_client.responses import Progress, Result
from melodyflow_client.status import Status

from ..budget import Share
from ..decoding import Decoding
from ..metrics import Metrics
from ..problems import Problem, outcome_of, problem_of
from ..sessions.store import SessionKey, SessionStore
from ..stopping import Stopping
from ..wire.reading import Asked
from .formats import format_of
from .line import Line
from .pace import Work
from .patience import with_patience
from .previews import Previewed, Previews
from .ticking import ticking
from .triton import Triton
from .turns import Turn, Turns

log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
_LIMITS_SECONDS = 2.0  # a server that doesn't say its limits by then refuses by itself
_LIMITS_AGE = 10.0  # seconds
_NORMAL = 2  # priority
_ROUGHLY = 10.0  # seconds from which on an estimate has no decimals
# What gRPC takes while it sends a clip, and while it receives a result, measured: Triton's client
# and protobuf copy what they are given.
SENDING_COPIES, RESULT_COPIES = 4, 3
_MUSIC_RATE = 48000  # Hz, of text-to-music where none is asked for; no checkpoint has more
_AROUND_SAMPLES = 2**16  # headers and comments of a file, and what else is in the answer


@dataclass(frozen=True)
class Waiting:
    """An edit that Triton has not started. Position and seconds are approximate.

    position: edits of this gateway ahead of it, as things are. total: all that wait. seconds:
        until the result.
    warming: Triton is down or loading its checkpoint; the edit waits for it.
    """

    position: int
    total: int
    seconds: float | None
    warming: bool = False


Event = Waiting | Progress | Previewed | Result | None


@dataclass(frozen=True)
class Prepared:
    """An edit that is ready to send; without a clip it is text-to-music."""

    clip: Clip | None
    edit: Edit
    seed: int
    asked: Asked

    def moved(self) -> Prepared:
        """The same, holding its memory by itself and no longer by the request's share."""
        return replace(self, asked=replace(self.asked, share=self.asked.share.moved()))


class Edits:
    """Sends edits to Triton, and counts those that wait and run."""

    def __init__(
        self,
        client: AsyncMelodyFlowClient,
        triton: Triton,
        sessions: SessionStore,
        metrics: Metrics,
        decoding: Decoding,
        previews: Previews,
        stopping: Stopping,
        *,
        max_seconds: float,
        edit_seconds: float,
        owner_slots: int,
    ) -> None:
        """owner_slots: Triton's slots that one owner may hold; 0: three quarters of them."""
        self._client = client
        self._triton = triton
        self._sessions = sessions
        self._metrics = metrics
        self._decoding = decoding
        self._previews = previews
        self._stopping = stopping
        self._max_seconds, self._edit_seconds = max_seconds, edit_seconds
        self._turns = Turns(
            lambda: triton.slots, lambda slots: min(owner_slots or max(1, slots * 3 // 4), slots)
        )
        self._line = Line(self._turns, metrics, lambda: triton.seconds_a_call)

    @property
    def waiting(self) -> int:
        """The number of edits that Triton has not started."""
        return self._line.waiting

    @property
    def running(self) -> int:
        """The number of edits that Triton is running."""
        return self._line.running

    async def prepare(self, key: SessionKey | None, asked: Asked) -> Prepared:
        """Checks the fields and the audio, and chooses the seed. Raises Problem.

        key: the session that keeps the clip's seed; None: without one.
        """
        fields, started = asked.fields, time.monotonic()
        clip = None
        try:
            # First, because it is cheap: the audio is read after it.
            edit = self._plan(asked)
            assert edit.timeout is not None  # it plans with one
            deadline = started + edit.timeout
            log.debug("edit", extra={"variation": edit.variation, "prompt": fields.custom_prompt})
            limits = await self.limits()
            _check(edit, None, limits)
            if asked.audio is not None:
                clip = await self._load(asked.audio, asked.share, limits, deadline)
                if fields.as_the_clip:
                    edit = replace(edit, values={**edit.values, "format": format_of(clip)})
            _check(edit, clip, limits)
            edit = replace(edit, timeout=max(deadline - time.monotonic(), 0.001))
        except Exception as error:
            raise problem_of(error) from error
        if key is None or clip is None:  # a session keeps the seeds of clips
            seed = new_seed(fields.seed, True)
            assert seed is not None
        else:
            new_take = bool(fields.new_take)
            seed = await self._sessions.seed(key, clip.digest, fields.seed, new_take)
        if key is not None:
            edit = replace(edit, parameters={**edit.parameters, "session_id": key.name})
        return Prepared(clip, replace(edit, seed=seed), seed, asked)

    async def decode(self, file: bytes, share: Share) -> Clip:
        """A file as the clip that an edit of it would send. Raises Problem."""
        deadline = time.monotonic() + self._edit_seconds
        try:
            return await self._load(file, share, await self.limits(), deadline)
        except DeadlineExceeded:
            what = f"audio: was not decoded within {self._edit_seconds:g} s; send a shorter file"
            raise Problem(504, what) from None
        except Exception as error:
            raise problem_of(error) from error

    async def _load(
        self, file: bytes, share: Share, limits: Mapping[str, float], deadline: float
    ) -> Clip:
        accepted = Limits.of_server({**DEFAULT_LIMITS, **limits})
        most = min(accepted.max_bytes, share.most // (1 + SENDING_COPIES))
        accepted = replace(accepted, max_bytes=most)
        return await self._decoding.load(file, accepted, share, deadline)

    async def limits(self) -> dict[str, float]:
        """The limits that are known: the server's, as it said them a moment ago, and this gateway's
        own."""
        self._triton.refresh()  # for the next edit: none waits for what hardly ever changes
        status = await self._triton.status(_LIMITS_SECONDS, _LIMITS_AGE)
        if status.limits is None:
            status = await self._triton.status(_LIMITS_SECONDS)
        return self.known_limits(status)

    def known_limits(self, status: Status) -> dict[str, float]:
        """The same, from what the server has said."""
        known = dict(status.limits or {})
        if "max_seconds" in known or math.isfinite(self._max_seconds):
            known["max_seconds"] = min(known.get("max_seconds", math.inf), self._max_seconds)
        return known

    def _plan(self, asked: Asked) -> Edit:
        fields = asked.fields
        timeout = min(fields.timeout_s or self._edit_seconds, self._edit_seconds)
        if asked.duration is None:
            edit = plan({**fields.options(), "timeout": timeout}, self._client.presets)
            # A low priority is that of sweeps and takes, here as in the SDK.
            return replace(edit, one_of_many=edit.priority == LOW_PRIORITY)
        options = fields.music_options(asked.duration)
        return plan_generation(
            fields.custom_prompt, {**options, "timeout": timeout}, self._client.presets
        )

    async def run(
        self, prepared: Prepared, api: str, *, patient: bool = False
    ) -> AsyncGenerator[Event, None]:
        """The events of an edit: Waiting until Triton begins, and when that changes; then Progress
        and Previewed, and last the Result. None is a tick, after each second without one.

        Closing the generator cancels the edit. `api`: what the metrics call the caller. patient:
        see with_patience(). Raises Problem.
        """
        with self._previews.of_an_edit(prepared.asked.share.owner) as newest:
            async with aclosing(self._run(prepared, api, patient=patient)) as events:
                async for event in events:
                    if isinstance(event, Progress) and event.preview is not None:
                        yield newest.keep(event.preview)
                    else:
                        yield event

    async def _run(
        self, prepared: Prepared, api: str, *, patient: bool
    ) -> AsyncGenerator[Waiting | Progress | Result | None, None]:
        started, outcome = time.monotonic(), "cancelled"
        share, reserved = prepared.asked.share, 0
        priority = prepared.edit.priority or _NORMAL
        turn, work = self._turns.join(share.owner, priority), _work_of(prepared)
        self._line.enter(turn, work)
        warming = False
        last: Waiting | None = None
        try:
            edit = with_patience(
                # A high priority counts among its owner's edits; it overtakes nobody else's.
                replace(
                    prepared.edit,
                    priority=max(priority, _NORMAL),
                    parameters={**prepared.edit.parameters, **prepared.asked.parameters},
                ),
                self._client.retry.patience,
                own_timeout=prepared.asked.fields.timeout_s is not None,
                patient=patient,
            )
            sending = partial(_room_to_send, prepared, turn)
            source = self._client.run(prepared.clip, edit, sending=sending)
            async with aclosing(ticking(source, _TICK_SECONDS)) as events:
                async for event in events:
                    if isinstance(event, Result):
                        outcome = "done"
                        share.give_back(reserved - len(event.audio))
                        self._metrics.edit_seconds.observe(time.monotonic() - started)
                        yield event
                        return
                    self._stopping.check_time()
                    if event is not None and event.stage not in ("queued", "warming"):
                        if not reserved:  # until there is room, no further message is read
                            reserved = RESULT_COPIES * _most_result_bytes(prepared)
                            await share.wait_for(reserved)
                        self._line.go_on(turn, event.progress)
                        last = None
                        yield event
                        continue
                    if event is not None:  # the first try, or one more
                        warming = event.stage == "warming"
                        self._line.enter(turn, work)
                    if not self._line.waits(turn):
                        yield None
                        continue
                    # Once the server has answered any client, this edit waits in its queue.
                    warming = warming and self._client.away
                    waiting = self._look(turn, warming=warming)
                    yield waiting if waiting != last else None
                    last = waiting
        except Exception as error:
            problem = problem_of(error)
            outcome = outcome_of(problem)
            raise problem from error
        finally:
            self._line.leave(turn, done=outcome == "done")
            self._turns.leave(turn)
            self._metrics.edits.labels(api, outcome).inc()

    def _look(self, turn: Turn, *, warming: bool) -> Waiting:
        seconds = self._line.seconds(turn)
        if seconds is not None:
            seconds = round(seconds, 1) if seconds < _ROUGHLY else float(round(seconds))
        return Waiting(self._line.position(turn), self._line.waiting, seconds, warming)


@asynccontextmanager
async def _room_to_send(prepared: Prepared, turn: Turn) -> AsyncGenerator[None, None]:
    await turn.begins()
    size = 0 if prepared.clip is None else SENDING_COPIES * len(prepared.clip.data)
    await prepared.asked.share.wait_for(size)
    try:
        yield
    finally:
        prepared.asked.share.give_back(size)


def _work_of(prepared: Prepared) -> Work:
    values, clip = complete(prepared.edit.values), prepared.clip
    calls = evaluations(values["steps"], values.get("regularize_iters", 0), music=clip is None)
    return Work(clip.samples / clip.sample_rate if clip else values["duration"], calls)


def _most_result_bytes(prepared: Prepared) -> int:
    """How large the result's file is at most."""
    edit, clip = prepared.edit, prepared.clip
    rate = edit.values.get("sample_rate") or (clip.sample_rate if clip else _MUSIC_RATE)
    seconds = clip.samples / clip.sample_rate if clip else edit.values["duration"]
    width = {"wav": 2, "wav32f": 4}.get(edit.values.get("format", "wav"), 3)
    channels = max(2, clip.channels if clip else 2)
    return int(seconds * rate + 1) * channels * width + _AROUND_SAMPLES


def _check(edit: Edit, clip: Clip | None, limits: Mapping[str, float]) -> None:
    """Raises Problem, which names the field, for what exceeds the limits."""
    try:
        edit.check(limits, math.inf if clip is None else clip.samples / clip.sample_rate)
    except InvalidRequest as error:
        name, _, rest = error.message.partition(": ")
        field = OPTIONS[name].field_name if name in OPTIONS else name
        raise Problem(400, f"{field}: {rest}") from error
