"""The asynchronous client."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, nullcontext
from dataclasses import replace
from functools import partial
from typing import Self, TypeVar, Unpack

from .addresses import api_key as key_of
from .addresses import metrics_address, server_address
from .audio import AudioSource, Clip, load
from .batch import CONCURRENCY, Key, Outcome, result_and_error, run_batch
from .connection import QUEUED, Connection, Request, Sending, deadline_of
from .contract import DEFAULT_LIMITS, draw_seed
from .errors import Cancelled, DeadlineExceeded, InvalidRequest, MelodyFlowError, ServerError
from .options import EditOptions, GenerateOptions, SweepOptions
from .outage import Outage
from .presets import Presets, load_presets
from .protocol import MODEL, Edit, plan, plan_generation
from .responses import Progress, Result
from .retry import Retry
from .seeds import LastSeeds
from .status import Status, loaded_checkpoint, pending_of, read_metrics
from .sweep import Sweep, SweepResult, plan_sweep
from .takes import TAKES, TakeResult, Takes, plan_takes, take_seeds

T = TypeVar("T")

ProgressCallback = Callable[[Progress], Awaitable[None] | None]
SweepCallback = Callable[[str, Progress], Awaitable[None] | None]
TakeCallback = Callable[[int, Progress], Awaitable[None] | None]


class AsyncMelodyFlowClient:
    """Edits music on a MelodyFlow server, from one asyncio event loop.

    server: `host:port` of the gRPC endpoint; else $MELODYFLOW_SERVER, else 127.0.0.1:8001.
    presets: a file of your own variations, or loaded ones; else $MELODYFLOW_PRESETS.
    retry: when to try an unavailable server again, and how long to wait for one that went away.
    metrics_url: Triton's metrics, for status(): a URL or host:port; else two ports above gRPC.
    ssl: whether to use TLS, as https:// before the server does. root_certificates: a PEM file to
        use instead of gRPC's own roots. api_key: for a server that asks for one; else
        $MELODYFLOW_API_KEY.

    A client keeps the last seed of each clip, so variations of one clip share the server's work.
    Use it as an async context manager, or close() it. Edits may run at the same time.
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
        api_key: str | None = None,
        model: str = MODEL,
    ) -> None:
        self.server, secure = server_address(server)
        self.presets = presets if isinstance(presets, Presets) else load_presets(presets)
        self.retry = retry or Retry()
        secure = ssl or secure
        # Over TLS it is a proxy, beside which no server's metrics are.
        self.metrics_url = (
            None if secure and not metrics_url else metrics_address(self.server, metrics_url)
        )
        self.model = model
        self._seeds = LastSeeds()
        self._min_seconds = DEFAULT_LIMITS["min_seconds"]  # of a region
        self._outage = Outage(self.retry.patience)
        self._connect = partial(
            Connection,
            self.server,
            model,
            self.retry,
            self._outage,
            ssl=secure,
            root_certificates=root_certificates,
            api_key=key_of(api_key),
        )
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; edits in flight end with Cancelled."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    @property
    def away(self) -> bool:
        """Whether the server went away and edits wait for it."""
        return self._outage.away

    async def transform(
        self,
        audio: AudioSource,
        *,
        on_progress: ProgressCallback | None = None,
        **options: Unpack[EditOptions],
    ) -> Result:
        """Edits a clip; `options` are those of EditOptions, at least variation or prompt.

        on_progress: called with each Progress on the event loop and awaited if it is a coroutine
        function. If it raises, the edit is cancelled and the exception passed on. Cancelling the
        task cancels the edit on the server.

        Raises InvalidRequest, UnknownVariation, AudioError, Unavailable, DeadlineExceeded,
        Cancelled, ServerError.
        """
        return await _last(self.stream(audio, **options), on_progress)

    def stream(
        self, audio: AudioSource, **options: Unpack[EditOptions]
    ) -> AsyncGenerator[Progress | Result, None]:
        """The events of an edit: Progress, the first one "queued", and last the Result.

        Leaving or closing the generator cancels the edit. Wrong options raise here; iterating
        raises whatever transform() would.
        """
        return self.run(audio, plan(options, self.presets))

    async def generate(
        self,
        prompt: str | None = None,
        *,
        on_progress: ProgressCallback | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Result:
        """Text-to-music: `duration` seconds of what the prompt, or the variation's, describes.

        `options` are those of GenerateOptions. on_progress, cancelling and errors are as for
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
        """Edits a clip to several variations, None: to all; yields results as they arrive.

        All edits share one seed, which the clip keeps as with transform(), so the server inverts
        the clip only once. They have low priority: single edits overtake them. Up to `concurrency`
        run at once, even while nobody asks for the next result. A failed edit yields its error and
        doesn't affect the rest; but if no server answers, the edits not yet sent get that error,
        too. `timeout` applies to each edit, from when it is sent.

        on_progress: called with variation and Progress on the event loop and awaited if it is a
        coroutine function. If it raises, the sweep is cancelled and the exception passed on.
        Leaving or closing the generator cancels the edits that still run.

        Wrong names and options raise here (InvalidRequest, UnknownVariation); iterating raises
        AudioError, or Cancelled if the client is closed.
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
        """Edits a clip `count` times, each with its own seed; yields takes as they arrive.

        `options` are those of EditOptions. The first seed is the one transform() would use: `seed`,
        else the clip's last one, else (or with new_take) a random one; the others count up from it.
        The clip keeps the first. Takes have low priority, and the server encodes the clip and the
        prompt only once. concurrency, failures, timeout and leaving are as for sweep().

        on_progress: called with seed and Progress, as for sweep().

        A wrong count and wrong options raise here (InvalidRequest, UnknownVariation); iterating
        raises AudioError, or Cancelled if the client is closed.
        """
        takes = plan_takes(count, concurrency, options, self.presets)
        return _outcomes(self.run_takes(audio, takes), TakeResult, on_progress)

    async def status(self, timeout: float = 5.0) -> Status:
        """Asks the server whether it is ready, `timeout` seconds per question; raises no errors."""
        status = await self._connected().status(timeout)
        if status.error is not None or self.metrics_url is None:
            return status
        metrics = await asyncio.to_thread(read_metrics, self.metrics_url, min(timeout, 2.0))
        return replace(
            status,
            pending=pending_of(metrics, self.model),
            checkpoint=loaded_checkpoint(metrics) or status.checkpoint,
        )

    async def limits(self, timeout: float = 5.0) -> dict[str, float]:
        """Asks the server for its limits, by the names of its settings; {} if it doesn't say."""
        return await self._connected().limits(timeout)

    async def run(
        self, audio: AudioSource | None, edit: Edit, *, sending: Sending = nullcontext
    ) -> AsyncGenerator[Progress | Result, None]:
        """The events of a planned edit; see stream(). No audio: text-to-music.

        sending: entered while its message is built and written, at each try.
        """
        deadline = deadline_of(edit)
        yield QUEUED
        clip = await self._load(audio, edit, deadline)
        request = Request(edit, clip, self._seed(clip, edit), deadline, sending=sending)
        async with aclosing(self._connected().stream(request)) as events:
            async for event in events:
                yield event

    async def run_sweep(
        self, audio: AudioSource, sweep: Sweep
    ) -> AsyncGenerator[tuple[str, Progress | Outcome], None]:
        """The events of a planned sweep, each with its variation."""
        if not sweep.edits:
            return
        any_edit = next(iter(sweep.edits.values()))  # all have the same region and seed
        clip = await self._load(audio, any_edit)
        seed = self._seed(clip, any_edit)
        edits = {
            name: partial(self._run_one, clip, edit, seed) for name, edit in sweep.edits.items()
        }
        async with aclosing(run_batch(edits, sweep.concurrency, self._is_gone)) as events:
            async for event in events:
                yield event

    async def run_takes(
        self, audio: AudioSource, takes: Takes
    ) -> AsyncGenerator[tuple[int, Progress | Outcome], None]:
        """The events of planned takes, each with its seed."""
        clip = await self._load(audio, takes.edit)
        seeds = take_seeds(self._seed(clip, takes.edit), takes.count)
        edits = {seed: partial(self._run_one, clip, takes.edit, seed) for seed in seeds}
        async with aclosing(run_batch(edits, takes.concurrency, self._is_gone)) as events:
            async for event in events:
                yield event

    async def _load(
        self, audio: AudioSource | None, edit: Edit, deadline: float | None = None
    ) -> Clip | None:
        """The clip, if there is one; its region is checked before anything is sent.

        Where the limit last heard of forbids the region, the server is asked again: it may have
        been restarted with another one.
        """
        clip = None if audio is None else await _decoded(audio, edit, deadline)
        if clip is not None and edit.region is not None:
            seconds = clip.samples / clip.sample_rate
            try:
                edit.region.check(seconds, self._min_seconds)
            except InvalidRequest:
                self._min_seconds = (await self.limits()).get("min_seconds", 0.0)
                edit.region.check(seconds, self._min_seconds)
        return clip

    def _seed(self, clip: Clip | None, edit: Edit) -> int:
        if clip is not None:
            return self._seeds.choose(clip.digest, edit.seed, edit.new_take)
        return draw_seed() if edit.seed in (None, -1) else edit.seed

    async def _run_one(
        self, clip: Clip | None, edit: Edit, seed: int
    ) -> AsyncGenerator[Progress | Result, None]:
        """The events of one edit of a batch; its timeout starts here."""
        request = Request(edit, clip, seed, deadline_of(edit))
        yield QUEUED
        async with aclosing(self._connected().stream(request)) as events:
            async for event in events:
                yield event

    def _connected(self) -> Connection:
        """The connection, made when it is first used: it belongs to the event loop."""
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _is_gone(self) -> bool:
        return self._outage.over


async def _decoded(audio: AudioSource, edit: Edit, deadline: float | None) -> Clip:
    """Loads a clip in a thread, which ends soon after the deadline or this coroutine does."""
    given_up = threading.Event()

    def check() -> None:
        if given_up.is_set():
            raise Cancelled("nobody waits for the audio any longer")
        if deadline is not None and time.monotonic() >= deadline:
            raise DeadlineExceeded(f"timeout: the audio wasn't decoded within {edit.timeout:g} s")

    try:
        return await asyncio.to_thread(load, audio, check=check)
    finally:
        given_up.set()


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
    """The outcome of each edit of a batch, as it arrives."""
    async with aclosing(run) as events:
        async for key, event in events:
            if not isinstance(event, Progress):
                yield made(key, *result_and_error(event))
            elif on_progress is not None:
                await _awaited(on_progress(key, event))


async def _awaited(answer: Awaitable[None] | None) -> None:
    if inspect.isawaitable(answer):
        await answer
