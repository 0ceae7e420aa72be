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
from typing import Any, Self, Unpack

import grpc
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from .audio import AudioSource, Clip, load
from .channel import channel_options, metrics_address, server_address
from .errors import (
    Cancelled,
    DeadlineExceeded,
    MelodyFlowError,
    ServerError,
    Unavailable,
    from_status,
)
from .events import Progress, Result
from .presets import Presets, load_presets
from .protocol import (
    MODEL,
    Edit,
    EditOptions,
    SweepOptions,
    Tensor,
    decode_response,
    input_tensors,
    plan,
)
from .retry import Retry
from .seeds import SeedMemory
from .status import Status, checkpoint_of, loaded_checkpoint, pending_of, read_metrics
from .sweep import CONCURRENCY, Sweep, SweepEvent, SweepResult, plan_sweep, run_all

_OUTPUTS = ("progress", "stage", "step", "audio", "sample_rate", "seed", "gain_db", "info")

# Without it errors come inside an OK stream and carry no status; right for one stream an edit.
_HEADERS = {"triton_grpc_error": "true"}

ProgressCallback = Callable[[Progress], Awaitable[None] | None]
SweepCallback = Callable[[str, Progress], Awaitable[None] | None]


class AsyncMelodyFlowClient:
    """Edits music on a MelodyFlow server, from one asyncio event loop.

    server: `host:port` of the gRPC endpoint; else $MELODYFLOW_SERVER, else 127.0.0.1:8001.
    presets: a file of variations over the shipped ones, or loaded ones; else $MELODYFLOW_PRESETS.
    retry: how an unavailable server is tried again.
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
        self._tls = {"ssl": ssl, "root_certificates": root_certificates}
        self._triton: InferenceServerClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection, and with it edits still in flight."""
        triton, self._triton = self._triton, None
        if triton is not None:
            await triton.close()

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
        async with aclosing(self.stream(audio, **options)) as events:
            async for event in events:
                if isinstance(event, Result):
                    return event
                if on_progress is not None:
                    answer = on_progress(event)
                    if inspect.isawaitable(answer):
                        await answer
        raise ServerError("the stream ended without a result")

    def stream(
        self, audio: AudioSource, **options: Unpack[EditOptions]
    ) -> AsyncGenerator[Progress | Result, None]:
        """The events of an edit: Progress, the first one "queued", and last the Result.

        Leaving or closing the generator cancels the edit. Raises at once what is wrong with the
        options, and while iterating what transform() raises.
        """
        return self.run(audio, plan(options, self.presets))

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
        return self._sweep(
            audio, plan_sweep(variations, concurrency, options, self.presets), on_progress
        )

    async def status(self, timeout: float = 5.0) -> Status:
        """Asks the server how it is, within `timeout` seconds a question; raises nothing for it."""
        status = Status(server=self.server)
        triton = self._connected()
        try:
            status = replace(status, live=await triton.is_server_live(client_timeout=timeout))
            status = replace(status, ready=await triton.is_server_ready(client_timeout=timeout))
            server = await triton.get_server_metadata(client_timeout=timeout)
            ready = await triton.is_model_ready(self.model, client_timeout=timeout)
            status = replace(status, version=server.version, model_ready=ready)
            if ready:
                config = await triton.get_model_config(
                    self.model, as_json=True, client_timeout=timeout
                )
                status = replace(status, checkpoint=checkpoint_of(config))
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

    async def run(self, audio: AudioSource, edit: Edit) -> AsyncGenerator[Progress | Result, None]:
        """The events of an edit that is planned already; see stream()."""
        deadline = None if edit.timeout is None else time.monotonic() + edit.timeout
        queued = Progress("queued", 0.0, 0, 0)
        yield queued
        clip = await asyncio.to_thread(load, audio)
        # Both are drawn before the first try, so that a retry is the same edit.
        seed = self._seeds.choose(clip.digest, edit.seed, edit.new_take)
        request_id = uuid.uuid4().hex
        delays = self.retry.delays()
        reached = 0.0
        while True:
            try:
                async with aclosing(
                    self._attempt(edit, clip, seed, request_id, deadline)
                ) as events:
                    async for event in events:
                        if isinstance(event, Progress):
                            # A retry begins anew; what is shown does not fall.
                            reached = max(reached, event.progress)
                            event = replace(event, progress=reached)
                        yield event
                return
            except Unavailable as error:
                error.request_id = request_id
                delay = next(delays, None)
                if delay is None or (deadline and time.monotonic() + delay >= deadline):
                    raise
            except MelodyFlowError as error:
                error.request_id = request_id
                raise
            yield replace(queued, progress=reached)
            await asyncio.sleep(delay)

    async def run_sweep(self, audio: AudioSource, sweep: Sweep) -> AsyncGenerator[SweepEvent, None]:
        """The events of a sweep that is planned already; see sweep()."""
        if not sweep.edits:
            return
        clip = await asyncio.to_thread(load, audio)
        asked = next(iter(sweep.edits.values()))
        seed = self._seeds.choose(clip.digest, asked.seed, asked.new_take)

        def run(edit: Edit) -> AsyncGenerator[Progress | Result, None]:
            return self.run(clip, replace(edit, seed=seed, new_take=False))

        async with aclosing(run_all(sweep, run)) as events:
            async for event in events:
                yield event

    async def _sweep(
        self, audio: AudioSource, sweep: Sweep, on_progress: SweepCallback | None
    ) -> AsyncGenerator[SweepResult, None]:
        async with aclosing(self.run_sweep(audio, sweep)) as events:
            async for event in events:
                if isinstance(event, SweepResult):
                    yield event
                elif on_progress is not None:
                    answer = on_progress(*event)
                    if inspect.isawaitable(answer):
                        await answer

    def _connected(self) -> InferenceServerClient:
        # Made at first use: a gRPC aio channel belongs to the loop that runs then.
        if self._triton is None:
            self._triton = InferenceServerClient(
                self.server, channel_args=channel_options(self.server), **self._tls
            )
        return self._triton

    async def _attempt(
        self, edit: Edit, clip: Clip, seed: int, request_id: str, deadline: float | None
    ) -> AsyncGenerator[Progress | Result, None]:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise DeadlineExceeded(_past(edit))
        request = {
            "model_name": self.model,
            "request_id": request_id,
            "inputs": [_infer_input(t) for t in input_tensors(edit, clip.data, seed)],
            "priority": edit.priority,
            # The server's clock is the second guard, for the case that a cancellation is lost.
            "parameters": {**edit.parameters, **({} if left is None else {"timeout_s": left})},
        }
        call = self._connected().stream_infer(_once(request), stream_timeout=left, headers=_HEADERS)
        try:
            async for answer, failure in call:
                if failure is not None:  # a server that does not know the header
                    raise from_status("UNKNOWN", failure.message())
                outputs = {
                    name: values
                    for name in _OUTPUTS
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
        raise ServerError("the stream ended without a result")

    def _error(self, error: grpc.RpcError) -> MelodyFlowError:
        status, details = error.code().name, error.details() or ""
        if status == "UNAVAILABLE" and details.startswith("failed to connect"):
            details = f"no server answers at {self.server}: {details}"
        return from_status(status, details)


def _is_past(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def _past(edit: Edit) -> str:
    return f"timeout: no result within {edit.timeout:g} s"


async def _let_end(call: AsyncIterator[object]) -> None:
    # Triton ends the stream right after the result; to cancel it then is an error in its log.
    with suppress(StopAsyncIteration, TimeoutError, grpc.RpcError):
        await asyncio.wait_for(anext(call), timeout=1.0)


async def _once(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield request


def _infer_input(tensor: Tensor) -> InferInput:
    infer_input = InferInput(tensor.name, list(tensor.values.shape), tensor.datatype)
    infer_input.set_data_from_numpy(tensor.values)
    return infer_input
