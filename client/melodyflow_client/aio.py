"""The asynchronous client: one gRPC stream an edit, through tritonclient's aio client."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Self, TypeVar, Unpack

import grpc
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from .addresses import channel_options, metrics_address, server_address
from .audio import AudioSource, Clip, load
from .batch import CONCURRENCY, Key, Outcome, apart, run_all
from .contract import DEFAULT_LIMITS, OUTPUTS, draw_seed, told
from .errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    MelodyFlowError,
    ServerError,
    Unavailable,
    from_status,
    from_text,
    is_answer,
    is_cut,
)
from .options import EditOptions, GenerateOptions, SweepOptions
from .outage import Outage, Tries
from .presets import Presets, load_presets
from .protocol import (
    MODEL,
    Edit,
    Tensor,
    decode_response,
    input_tensors,
    plan,
    plan_generation,
)
from .responses import Progress, Result
from .retry import Retry
from .seeds import SeedMemory
from .status import (
    Status,
    checkpoint_of,
    loaded_checkpoint,
    parameters_of,
    pending_of,
    read_metrics,
)
from .sweep import Sweep, SweepResult, plan_sweep
from .takes import TAKES, TakeResult, Takes, plan_takes, take_seeds

T = TypeVar("T")

_QUEUED = Progress("queued", 0.0, 0, 0)
_WARMING = Progress("warming", 0.0, 0, 0)

ProgressCallback = Callable[[Progress], Awaitable[None] | None]
SweepCallback = Callable[[str, Progress], Awaitable[None] | None]
TakeCallback = Callable[[int, Progress], Awaitable[None] | None]


class AsyncMelodyFlowClient:
    """Edits music on a MelodyFlow server, from one asyncio event loop.

    server: `host:port` of the gRPC endpoint; else $MELODYFLOW_SERVER, else 127.0.0.1:8001.
    presets: a file of variations over the shipped ones, or loaded ones; else $MELODYFLOW_PRESETS.
    retry: how an unavailable server is tried again, and one that went away waited for.
    metrics_url: Triton's metrics, for status(), a URL or host:port; else two ports above gRPC.
    ssl, root_certificates: TLS, and a PEM file where the system's roots do not do.

    A client keeps the last seed of each clip, so that variations of one clip share the server's
    work. Use it as an async context manager, or close() it. Many edits may run at once.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        presets: str | os.PathLike[str] | Presets | None = None,
        retry: Retry | None = None,
        metrics_url: str | None = None,
        ssl: bool = False,
        root_certificates: str | None = None,
        model: str = MODEL,
    ) -> None:
        self.server = server_address(server)
        self.presets = presets if isinstance(presets, Presets) else load_presets(presets)
        self.retry = retry or Retry()
        self.metrics_url = metrics_address(self.server, metrics_url)
        self.model = model
        self._seeds = SeedMemory()
        self._shortest = DEFAULT_LIMITS["min_seconds"]  # of a region
        self._tls = {"ssl": ssl, "root_certificates": root_certificates}
        self._triton: InferenceServerClient | None = None
        self._outage = Outage(self.retry.patience)
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection, and with it edits still in flight."""
        self._closing.set()
        self._closing = asyncio.Event()
        triton, self._triton = self._triton, None
        if triton is not None:
            await triton.close()

    @property
    def away(self) -> bool:
        """Whether the server went away, and edits wait for it."""
        return self._outage.away

    async def transform(
        self,
        audio: AudioSource,
        *,
        on_progress: ProgressCallback | None = None,
        **options: Unpack[EditOptions],
    ) -> Result:
        """Edits a clip; `options` are those of EditOptions, at least variation or prompt.

        on_progress: called with each Progress on the event loop, awaited if it is a coroutine
        function; what it raises cancels the edit and is passed on. Cancelling the task cancels
        the edit on the server.

        Raises InvalidRequest, UnknownVariation, AudioError, Unavailable, DeadlineExceeded,
        Cancelled, ServerError.
        """
        return await _last(self.stream(audio, **options), on_progress)

    def stream(
        self, audio: AudioSource, **options: Unpack[EditOptions]
    ) -> AsyncGenerator[Progress | Result, None]:
        """The events of an edit: Progress, the first one "queued", and last the Result.

        Leaving or closing the generator cancels the edit. Raises at once what is wrong with the
        options, and while iterating what transform() raises.
        """
        return self.run(audio, plan(options, self.presets))

    async def generate(
        self,
        prompt: str | None = None,
        *,
        on_progress: ProgressCallback | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Result:
        """Text-to-music: `duration` seconds of what the prompt, or a variation's, says.

        `options` are those of GenerateOptions. on_progress, cancelling and errors: as with
        transform().
        """
        edit = plan_generation(prompt, options, self.presets)
        return await _last(self.run(None, edit), on_progress)

    def sweep(
        self,
        audio: AudioSource,
        variations: Iterable[str] | None = None,
        *,
        concurrency: int = CONCURRENCY,
        on_progress: SweepCallback | None = None,
        **options: Unpack[SweepOptions],
    ) -> AsyncGenerator[SweepResult, None]:
        """Edits a clip to many variations, all of them for None; their results as they come.

        All have one seed, which the clip keeps as with transform(), and low priority, so that
        single edits of others overtake them; the server inverts the clip once for all. Up to
        `concurrency` run at once, also while the generator waits for its next turn. An edit that
        fails gives its error and harms no other; where no server answers, those not sent yet
        have that error too. `timeout` is for each edit, from when it is sent.

        on_progress: called with variation and Progress on the event loop, awaited if it is a
        coroutine function; what it raises cancels the sweep and is passed on. Leaving or closing
        the generator cancels what still runs.

        Raises at once what is wrong with names and options (InvalidRequest, UnknownVariation), and
        while iterating AudioError, and Cancelled when the client is closed.
        """
        sweep = plan_sweep(variations, concurrency, options, self.presets)
        return _outcomes(self.run_sweep(audio, sweep), SweepResult, on_progress)

    def takes(
        self,
        audio: AudioSource,
        count: int = TAKES,
        *,
        concurrency: int = CONCURRENCY,
        on_progress: TakeCallback | None = None,
        **options: Unpack[EditOptions],
    ) -> AsyncGenerator[TakeResult, None]:
        """Edits a clip `count` times, each with a seed of its own; the takes as they come.

        `options` are those of an edit. The first seed is what transform() would use: `seed`, else
        the clip's last one, else (or with new_take) a random one; the others are those that follow
        it: seed + 1, seed + 2 ... The clip keeps the first. All have low priority, and the server
        encodes the clip and the prompt once for all. concurrency, failures, timeout, leaving: as
        with sweep().

        on_progress: called with seed and Progress, as with sweep().

        Raises at once what is wrong with count and options (InvalidRequest, UnknownVariation), and
        while iterating AudioError, and Cancelled when the client is closed.
        """
        takes = plan_takes(count, concurrency, options, self.presets)
        return _outcomes(self.run_takes(audio, takes), TakeResult, on_progress)

    async def status(self, timeout: float = 5.0) -> Status:
        """Asks the server how it is, within `timeout` seconds a question; raises nothing for it."""
        status = Status(server=self.server)
        triton = self._connected()
        try:
            status = replace(status, live=await triton.is_server_live(client_timeout=timeout))
            self._outage.known = True
            status = replace(status, ready=await triton.is_server_ready(client_timeout=timeout))
            server = await triton.get_server_metadata(client_timeout=timeout)
            ready = await triton.is_model_ready(self.model, client_timeout=timeout)
            status = replace(status, version=server.version, model_ready=ready)
            if ready and status.ready:
                self._outage.answered()
            if ready:
                config = await triton.get_model_config(
                    self.model, as_json=True, client_timeout=timeout
                )
                limits = told(parameters_of(config))
                status = replace(status, checkpoint=checkpoint_of(config), limits=limits or None)
        except InferenceServerException as error:
            return replace(status, error=error.message())
        if self.metrics_url is None:
            return status
        metrics = await asyncio.to_thread(read_metrics, self.metrics_url, min(timeout, 2.0))
        return replace(
            status,
            pending=pending_of(metrics, self.model),
            checkpoint=loaded_checkpoint(metrics) or status.checkpoint,
        )

    async def limits(self, timeout: float = 5.0) -> dict[str, float]:
        """Asks the server for its limits, by the names of its settings; {}: it tells none."""
        try:
            config = await self._connected().get_model_config(
                self.model, as_json=True, client_timeout=timeout
            )
        except InferenceServerException:
            return {}
        return told(parameters_of(config))

    async def run(
        self, audio: AudioSource | None, edit: Edit
    ) -> AsyncGenerator[Progress | Result, None]:
        """The events of an edit that is planned already; see stream(). No audio: text-to-music."""
        deadline = None if edit.timeout is None else time.monotonic() + edit.timeout
        yield _QUEUED
        clip = await self._load(audio, edit)
        async with aclosing(self._tries(clip, edit, self._seed(clip, edit), deadline)) as events:
            async for event in events:
                yield event

    async def run_sweep(
        self, audio: AudioSource, sweep: Sweep
    ) -> AsyncGenerator[tuple[str, Progress | Outcome], None]:
        """The events of a sweep that is planned already, by variation; see sweep()."""
        if not sweep.edits:
            return
        asked = next(iter(sweep.edits.values()))
        clip = await self._load(audio, asked)
        seed = self._seed(clip, asked)
        jobs = {
            name: partial(self._run_one, clip, edit, seed) for name, edit in sweep.edits.items()
        }
        async with aclosing(run_all(jobs, sweep.concurrency, self._is_gone)) as events:
            async for event in events:
                yield event

    async def run_takes(
        self, audio: AudioSource, takes: Takes
    ) -> AsyncGenerator[tuple[int, Progress | Outcome], None]:
        """The events of takes that are planned already, by seed; see takes()."""
        clip = await self._load(audio, takes.edit)
        seeds = take_seeds(self._seed(clip, takes.edit), takes.count)
        jobs = {seed: partial(self._run_one, clip, takes.edit, seed) for seed in seeds}
        async with aclosing(run_all(jobs, takes.concurrency, self._is_gone)) as events:
            async for event in events:
                yield event

    async def _load(self, audio: AudioSource | None, edit: Edit) -> Clip | None:
        """The clip, if there is one. A region is held to it, and to the server's shortest, before
        it is sent: where that forbids it, the server is asked once more, which may have been
        restarted with other limits."""
        clip = None if audio is None else await asyncio.to_thread(load, audio)
        if clip is not None and edit.region is not None:
            seconds = clip.samples / clip.sample_rate
            try:
                edit.region.check(seconds, self._shortest)
            except InvalidRequest:
                self._shortest = (await self.limits()).get("min_seconds", 0.0)
                edit.region.check(seconds, self._shortest)
        return clip

    def _seed(self, clip: Clip | None, edit: Edit) -> int:
        if clip is not None:
            return self._seeds.choose(clip.digest, edit.seed, edit.new_take)
        return draw_seed() if edit.seed in (None, -1) else edit.seed

    async def _run_one(
        self, clip: Clip | None, edit: Edit, seed: int
    ) -> AsyncGenerator[Progress | Result, None]:
        """The events of one of many edits; its timeout begins here."""
        deadline = None if edit.timeout is None else time.monotonic() + edit.timeout
        yield _QUEUED
        async with aclosing(self._tries(clip, edit, seed, deadline)) as events:
            async for event in events:
                yield event

    async def _tries(
        self, clip: Clip | None, edit: Edit, seed: int, deadline: float | None
    ) -> AsyncGenerator[Progress | Result, None]:
        """The events of an edit, tried again where the server is not available."""
        request_id = uuid.uuid4().hex  # as the seed, of all tries: a retry is the same edit
        tries = Tries(self.retry, self._outage, edit, deadline)
        closing = self._closing
        reached = 0.0
        while True:
            try:
                async with aclosing(
                    self._attempt(edit, clip, seed, request_id, deadline)
                ) as events:
                    async for event in events:
                        tries.begun()
                        if isinstance(event, Progress):
                            # A retry begins anew; what is shown does not fall.
                            reached = max(reached, event.progress)
                            event = replace(event, progress=reached)
                        yield event
                return
            except MelodyFlowError as error:
                error.request_id = request_id
                pause = tries.after(error) if isinstance(error, Unavailable) else None
                if pause is None:
                    raise
            yield replace(_WARMING if pause.warming else _QUEUED, progress=reached)
            with suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), pause.seconds)
                raise Cancelled("the client was closed")

    def _connected(self) -> InferenceServerClient:
        # Made at first use: a gRPC aio channel belongs to the loop that runs then.
        if self._triton is None:
            self._triton = InferenceServerClient(
                self.server, channel_args=channel_options(self.server), **self._tls
            )
        return self._triton

    async def _attempt(
        self, edit: Edit, clip: Clip | None, seed: int, request_id: str, deadline: float | None
    ) -> AsyncGenerator[Progress | Result, None]:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise DeadlineExceeded(_past(edit))
        request = {
            "model_name": self.model,
            "request_id": request_id,
            "inputs": [
                _infer_input(tensor)
                for tensor in input_tensors(edit, clip.data if clip else None, seed)
            ],
            "priority": edit.priority,
            # The server's clock is the second guard, for the case that a cancellation is lost.
            "parameters": {**edit.parameters, **({} if left is None else {"timeout_s": left})},
        }
        call = self._connected().stream_infer(_once(request), stream_timeout=left)
        try:
            async for answer, failure in call:
                if failure is not None:
                    error = from_text(failure.message())
                    self._outage.said(error)
                    await _let_end(call)
                    raise error
                if answer.get_response().id != request_id:
                    # Triton 2.51 does so before a stranger's stream crashes it.
                    self._outage.known = True
                    raise self._cut("the server answered with another request's response")
                self._outage.answered()
                outputs = {
                    name: values
                    for name in OUTPUTS
                    if (values := answer.as_numpy(name)) is not None
                }
                event = decode_response(outputs, variation=edit.variation, request_id=request_id)
                if isinstance(event, Result):
                    await _let_end(call)
                    yield event
                    return
                yield event
        except grpc.RpcError as error:
            late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            # gRPC calls it so where the deadline passes while the request is being written.
            late |= error.details() == "Internal error from Core" and _is_past(deadline)
            if late and left is not None:
                raise DeadlineExceeded(_past(edit), status="DEADLINE_EXCEEDED") from error
            raise self._error(error) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Cancelled("the client was closed") from None
        finally:
            call.cancel()
        raise self._cut("the stream ended without a result")

    def _error(self, error: grpc.RpcError) -> MelodyFlowError:
        """What a stream's own status means: an old server's answer, or that there is none."""
        status, details = error.code().name, error.details() or ""
        if status == "UNAVAILABLE" and details.startswith("failed to connect"):
            details = f"no server answers at {self.server}: {details}"
        known = from_status(status, details)
        if is_answer(known):
            self._outage.said(known)
            return known
        return self._cut(details or status, status) if is_cut(status, details) else known

    def _cut(self, message: str, status: str | None = None) -> MelodyFlowError:
        """What an edit without an end is: Unavailable, if there has been a server."""
        # What was broken off was there, though it has not said a word.
        if self._outage.known or status in ("UNKNOWN", "INTERNAL"):
            return Unavailable(message, status=status)
        return from_status(status, message) if status else ServerError(message)

    def _is_gone(self) -> bool:
        return self._outage.over


def _is_past(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


async def _last(
    stream: AsyncGenerator[Progress | Result, None], on_progress: ProgressCallback | None
) -> Result:
    async with aclosing(stream) as events:
        async for event in events:
            if isinstance(event, Result):
                return event
            if on_progress is not None:
                await _awaited(on_progress(event))
    raise ServerError("the stream ended without a result")


async def _outcomes(
    run: AsyncGenerator[tuple[Key, Progress | Outcome], None],
    made: Callable[[Key, Result | None, MelodyFlowError | None], T],
    on_progress: Callable[[Key, Progress], Awaitable[None] | None] | None,
) -> AsyncGenerator[T, None]:
    """What came of each of many edits, as it comes."""
    async with aclosing(run) as events:
        async for key, event in events:
            if not isinstance(event, Progress):
                yield made(key, *apart(event))
            elif on_progress is not None:
                await _awaited(on_progress(key, event))


async def _awaited(answer: Awaitable[None] | None) -> None:
    if inspect.isawaitable(answer):
        await answer


def _past(edit: Edit) -> str:
    return f"timeout: no result within {edit.timeout:g} s"


async def _let_end(call: AsyncIterator[object]) -> None:
    # Triton ends the stream right after the last response; a cancellation would be an error in its
    # log.
    with suppress(StopAsyncIteration, TimeoutError, grpc.RpcError):
        await asyncio.wait_for(anext(call), timeout=1.0)


async def _once(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield request


def _infer_input(tensor: Tensor) -> InferInput:
    infer_input = InferInput(tensor.name, list(tensor.values.shape), tensor.datatype)
    infer_input.set_data_from_numpy(tensor.values)
    return infer_input
