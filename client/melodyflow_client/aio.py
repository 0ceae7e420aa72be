"""The asynchronous client."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Self, TypeVar, Unpack

from .addresses import metrics_address, server_address
from .audio import AudioSource, Clip, load
from .batch import CONCURRENCY, Key, Outcome, apart, run_all
from .connection import QUEUED, Connection, Request, deadline_of
from .contract import DEFAULT_LIMITS, draw_seed
from .errors import InvalidRequest, MelodyFlowError, ServerError
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
        self._seeds = LastSeeds()
        self._min_seconds = DEFAULT_LIMITS["min_seconds"]  # of a region
        self._outage = Outage(self.retry.patience)
        self._connect = partial(
            Connection,
            self.server,
            model,
            self.retry,
            self._outage,
            ssl=ssl,
            root_certificates=root_certificates,
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
        """Asks the server for its limits, by the names of its settings; {}: it tells none."""
        return await self._connected().limits(timeout)

    async def run(
        self, audio: AudioSource | None, edit: Edit
    ) -> AsyncGenerator[Progress | Result, None]:
        """The events of an edit that is planned already; see stream(). No audio: text-to-music."""
        deadline = deadline_of(edit)
        yield QUEUED
        clip = await self._load(audio, edit)
        request = Request(edit, clip, self._seed(clip, edit), deadline)
        async with aclosing(self._connected().stream(request)) as events:
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
        """The clip, if there is one; its region is checked before anything is sent.

        Where the limit last heard of forbids the region, the server is asked again: it may have
        been restarted with another one.
        """
        clip = None if audio is None else await asyncio.to_thread(load, audio)
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
