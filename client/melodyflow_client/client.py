"""The synchronous client: it runs the asynchronous one on a thread of its own."""

from __future__ import annotations

import asyncio
import os
import queue
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass
from typing import Any, Self, TypeVar, Unpack

from .aio import AsyncMelodyFlowClient
from .audio import AudioSource
from .batch import CONCURRENCY, Key, Outcome, result_and_error
from .errors import Cancelled, MelodyFlowError, ServerError
from .event_loop import background_loop
from .options import EditOptions, GenerateOptions, SweepOptions
from .presets import Presets
from .protocol import MODEL, plan, plan_generation
from .responses import Progress, Result
from .retry import Retry
from .status import Status
from .sweep import SweepResult, plan_sweep
from .takes import TAKES, TakeResult, plan_takes

T = TypeVar("T")

# Waits are short: on Windows, Ctrl-C doesn't interrupt a wait without a timeout.
_WAIT_SECONDS = 0.2
_CANCEL_SECONDS = 5.0  # for a cancellation to reach the server


class MelodyFlowClient:
    """Edits music on a MelodyFlow server. May be used from several threads at once.

    server: `host:port` of the gRPC endpoint; else $MELODYFLOW_SERVER, else 127.0.0.1:8001.
    presets: a file of your own variations, or loaded ones; else $MELODYFLOW_PRESETS.
    retry: when to try an unavailable server again, and how long to wait for one that went away.
    metrics_url: Triton's metrics, for status(): a URL or host:port; else two ports above gRPC.
    ssl: whether to use TLS, as https:// before the server does. root_certificates: a PEM file to
        use instead of gRPC's own roots. api_key: for a server that asks for one; else
        $MELODYFLOW_API_KEY.

    A client keeps the last seed of each clip, so variations of one clip share the server's work.
    Use it as a context manager, or close() it.
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
        self._aio = AsyncMelodyFlowClient(
            server,
            presets=presets,
            retry=retry,
            metrics_url=metrics_url,
            ssl=ssl,
            root_certificates=root_certificates,
            api_key=api_key,
            model=model,
        )

    @property
    def server(self) -> str:
        """`host:port` of the gRPC endpoint."""
        return self._aio.server

    @property
    def presets(self) -> Presets:
        """The variations this client knows."""
        return self._aio.presets

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; edits in flight end with Cancelled."""
        self._wait(self._aio.close())

    def transform(
        self,
        audio: AudioSource,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        **options: Unpack[EditOptions],
    ) -> Result:
        """Edits a clip; `options` are those of EditOptions, at least variation or prompt.

        on_progress: called with each Progress on the caller's thread. If it raises, the edit is
        cancelled and the exception passed on. Ctrl-C cancels the edit on the server.

        Raises InvalidRequest, UnknownVariation, AudioError, Unavailable, DeadlineExceeded,
        Cancelled, ServerError.
        """
        return _last(self.stream(audio, **options), on_progress)

    def stream(
        self, audio: AudioSource, **options: Unpack[EditOptions]
    ) -> Generator[Progress | Result, None, None]:
        """The events of an edit: Progress, the first one "queued", and last the Result.

        Leaving or closing the generator cancels the edit. Wrong options raise here; iterating
        raises whatever transform() would.
        """
        edit = plan(options, self.presets)
        return self._events(lambda: self._aio.run(audio, edit))

    def generate(
        self,
        prompt: str | None = None,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Result:
        """Text-to-music: `duration` seconds of what the prompt, or the variation's, describes.

        `options` are those of GenerateOptions. on_progress, Ctrl-C and errors are as for
        transform().
        """
        edit = plan_generation(prompt, options, self.presets)
        return _last(self._events(lambda: self._aio.run(None, edit)), on_progress)

    def sweep(
        self,
        audio: AudioSource,
        variations: Iterable[str] | None = None,
        *,
        concurrency: int = CONCURRENCY,
        on_progress: Callable[[str, Progress], None] | None = None,
        **options: Unpack[SweepOptions],
    ) -> Generator[SweepResult, None, None]:
        """Edits a clip to several variations, None: to all; yields results as they arrive.

        All edits share one seed, which the clip keeps as with transform(), so the server inverts
        the clip only once. They have low priority: single edits overtake them. Up to `concurrency`
        run at once, even while nobody asks for the next result. A failed edit yields its error and
        doesn't affect the rest; but if no server answers, the edits not yet sent get that error,
        too. `timeout` applies to each edit, from when it is sent.

        on_progress: called with variation and Progress on the caller's thread, between results.
        If it raises, the sweep is cancelled and the exception passed on. Leaving or closing the
        generator cancels the edits that still run.

        Wrong names and options raise here (InvalidRequest, UnknownVariation); iterating raises
        AudioError, or Cancelled if the client is closed.
        """
        sweep = plan_sweep(variations, concurrency, options, self.presets)
        events = self._events(lambda: self._aio.run_sweep(audio, sweep))
        return _outcomes(events, SweepResult, on_progress)

    def takes(
        self,
        audio: AudioSource,
        count: int = TAKES,
        *,
        concurrency: int = CONCURRENCY,
        on_progress: Callable[[int, Progress], None] | None = None,
        **options: Unpack[EditOptions],
    ) -> Generator[TakeResult, None, None]:
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
        events = self._events(lambda: self._aio.run_takes(audio, takes))
        return _outcomes(events, TakeResult, on_progress)

    def status(self, timeout: float = 5.0) -> Status:
        """Asks the server whether it is ready, `timeout` seconds per question; raises no errors."""
        return self._wait(self._aio.status(timeout))

    def limits(self, timeout: float = 5.0) -> dict[str, float]:
        """Asks the server for its limits, by the names of its settings; {} if it doesn't say."""
        return self._wait(self._aio.limits(timeout))

    def _events(self, begin: Callable[[], AsyncGenerator[T, None]]) -> Generator[T, None, None]:
        """What an asynchronous generator yields, run on the background loop."""
        loop = background_loop()
        events: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
        task: asyncio.Task[None] | None = None

        async def pump() -> None:
            async with aclosing(begin()) as source:
                async for event in source:
                    events.put(event)

        def start() -> None:
            nonlocal task
            task = loop.create_task(pump())
            task.add_done_callback(lambda ended: events.put(_End.of(ended)))

        def cancel() -> None:
            if task is not None:
                task.cancel()

        loop.call_soon_threadsafe(start)
        over = False
        try:
            while True:
                event = _next(events)
                if isinstance(event, _End):
                    over = True
                    if event.error is not None:
                        raise event.error
                    return
                yield event
        finally:
            if not over:
                loop.call_soon_threadsafe(cancel)
                # Before the pump has ended, the server may not know.
                _drain(events)

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, background_loop()).result()


def _last(
    stream: Generator[Progress | Result, None, None],
    on_progress: Callable[[Progress], None] | None,
) -> Result:
    with closing(stream) as events:
        for event in events:
            if isinstance(event, Result):
                return event
            if on_progress is not None:
                on_progress(event)
    raise ServerError("the stream ended without a result")


def _outcomes(
    run: Generator[tuple[Key, Progress | Outcome], None, None],
    made: Callable[[Key, Result | None, MelodyFlowError | None], T],
    on_progress: Callable[[Key, Progress], None] | None,
) -> Generator[T, None, None]:
    """The outcome of each edit of a batch, as it arrives."""
    with closing(run) as events:
        for key, event in events:
            if not isinstance(event, Progress):
                yield made(key, *result_and_error(event))
            elif on_progress is not None:
                on_progress(key, event)


@dataclass(frozen=True)
class _End:
    """The last item in the queue of events: the error that ended the generator, if any."""

    error: BaseException | None

    @classmethod
    def of(cls, task: asyncio.Task[None]) -> _End:
        if task.cancelled():
            return cls(Cancelled("the client was closed"))
        return cls(task.exception())


def _next(events: queue.SimpleQueue[T]) -> T:
    while True:
        try:
            return events.get(timeout=_WAIT_SECONDS)
        except queue.Empty:
            continue


def _drain(events: queue.SimpleQueue[Any]) -> None:
    until = time.monotonic() + _CANCEL_SECONDS
    while time.monotonic() < until:
        with suppress(queue.Empty):
            if isinstance(events.get(timeout=_WAIT_SECONDS), _End):
                return
