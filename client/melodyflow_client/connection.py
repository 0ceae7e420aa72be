"""The connection to a server: one gRPC channel, on which each edit is a stream of its own."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from .addresses import KEY_VARIABLE, is_loopback
from .audio import Clip
from .contract import OUTPUTS, told
from .errors import (
    Cancelled,
    DeadlineExceeded,
    MelodyFlowError,
    ServerError,
    Unavailable,
    from_status,
    from_text,
    is_answer,
    is_cut,
    is_proxys,
)
from .outage import Outage, Tries
from .protocol import Edit, Tensor, decode_response, input_tensors
from .responses import Progress, Result
from .retry import Retry
from .status import Status, checkpoint_of, parameters_of

Sending = Callable[[], AbstractAsyncContextManager[None]]

QUEUED = Progress("queued", 0.0, 0, 0)
_WARMING = Progress("warming", 0.0, 0, 0)
_LARGEST_MESSAGE = 2**31 - 1
# The hash of the clip, for a proxy in front of several servers: what has the same goes to the same.
CLIP_HEADER = "melodyflow-clip"


@dataclass(frozen=True)
class Request:
    """An edit with all that it needs: clip (None: text-to-music), seed, deadline and request id.

    deadline: by time.monotonic(); None: no timeout. A retry is the same request: the same seed, the
    same id. sending: entered before its message is built, and left when that is written and the
    memory for it is free again: about four times the clip.
    """

    edit: Edit
    clip: Clip | None
    seed: int
    deadline: float | None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    sending: Sending = nullcontext

    def seconds_left(self) -> float | None:
        """Until the deadline; None: no timeout. Raises DeadlineExceeded."""
        if self.deadline is None:
            return None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise self.late()
        return left

    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def late(self, status: str | None = None) -> DeadlineExceeded:
        """The error for a deadline that passed."""
        return DeadlineExceeded(f"timeout: no result within {self.edit.timeout:g} s", status=status)


def deadline_of(edit: Edit) -> float | None:
    """The deadline of an edit that starts now."""
    return None if edit.timeout is None else time.monotonic() + edit.timeout


class Connection:
    """One gRPC channel to a server.

    It belongs to the event loop that runs when it is made. outage: what the client knows about the
    server; it outlives the connection.
    """

    def __init__(
        self,
        server: str,
        model: str,
        retry: Retry,
        outage: Outage,
        *,
        ssl: bool = False,
        root_certificates: str | None = None,
        api_key: str | None = None,
    ) -> None:
        self._headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self._server, self._model, self._retry, self._outage = server, model, retry, outage
        self._closing = asyncio.Event()
        self._triton = InferenceServerClient(
            server,
            channel_args=channel_options(server),
            ssl=ssl,
            root_certificates=root_certificates,
        )

    async def close(self) -> None:
        """Closes the channel; edits in flight end with Cancelled."""
        self._closing.set()
        await self._triton.close()

    async def status(self, timeout: float) -> Status:
        """The server's status without its metrics; `timeout` in seconds is for each question."""
        status, triton = Status(server=self._server), self._triton
        how: dict[str, Any] = {"client_timeout": timeout, "headers": self._headers}
        try:
            status = replace(status, live=await triton.is_server_live(**how))
            self._outage.known = True
            status = replace(status, ready=await triton.is_server_ready(**how))
            server = await triton.get_server_metadata(**how)
            ready = await triton.is_model_ready(self._model, **how)
            status = replace(status, version=server.version, model_ready=ready)
            if ready and status.ready:
                self._outage.answered()
            if ready:
                config = await self._config(timeout)
                limits = told(parameters_of(config))
                status = replace(status, checkpoint=checkpoint_of(config), limits=limits or None)
        except InferenceServerException as error:
            return replace(status, error=error.message())
        return status

    async def limits(self, timeout: float) -> dict[str, float]:
        """The server's limits; {} if it doesn't answer or doesn't say."""
        try:
            return told(parameters_of(await self._config(timeout)))
        except InferenceServerException:
            return {}

    async def _config(self, timeout: float) -> dict[str, Any]:
        config: dict[str, Any] = await self._triton.get_model_config(
            self._model, as_json=True, client_timeout=timeout, headers=self._headers
        )
        return config

    async def stream(self, request: Request) -> AsyncGenerator[Progress | Result, None]:
        """The events of an edit, sent again while the server is unavailable."""
        tries = Tries(self._retry, self._outage, request.edit, request.deadline)
        reached = 0.0
        while True:
            try:
                async with aclosing(self._attempt(request)) as events:
                    async for event in events:
                        tries.begun()
                        if isinstance(event, Progress):
                            # A retry starts over; the progress shown never falls.
                            reached = max(reached, event.progress)
                            event = replace(event, progress=reached)
                        yield event
                return
            except MelodyFlowError as error:
                error.request_id = request.id
                pause = tries.after(error) if isinstance(error, Unavailable) else None
                if pause is None:
                    raise
            yield replace(_WARMING if pause.warming else QUEUED, progress=reached)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), pause.seconds)
                raise Cancelled("the client was closed")

    async def _attempt(self, request: Request) -> AsyncGenerator[Progress | Result, None]:
        """Sends the request once; the last event is the Result."""
        left = request.seconds_left()
        headers = self._headers
        if request.edit.one_of_many and request.clip is not None:
            headers = {**headers, CLIP_HEADER: request.clip.digest}
        call = self._triton.stream_infer(
            self._message(request), stream_timeout=left, headers=headers
        )
        try:
            async for answer, failure in call:
                if failure is not None:
                    error = from_text(failure.message())
                    self._outage.said(error)
                    await _let_end(call)
                    raise error
                if answer.get_response().id != request.id:
                    # Triton 2.51 does this just before another client's stream crashes it.
                    self._outage.known = True
                    raise self._cut_off("the server answered with another request's response")
                self._outage.answered()
                outputs = {
                    name: values
                    for name in OUTPUTS
                    if (values := answer.as_numpy(name)) is not None
                }
                event = decode_response(
                    outputs, variation=request.edit.variation, request_id=request.id
                )
                if isinstance(event, Result):
                    await _let_end(call)
                    yield replace(event, warnings=request.clip.warnings if request.clip else ())
                    return
                yield event
        except grpc.RpcError as error:
            raise self._error(error, request) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            if self._closing.is_set():
                raise Cancelled("the client was closed") from None
            # gRPC gives up a call that ends while its request is being written.
            if request.is_late():
                raise request.late("DEADLINE_EXCEEDED") from None
            raise self._cut_off("the request could not be sent") from None
        finally:
            call.cancel()
        raise self._cut_off("the stream ended without a result")

    async def _message(self, request: Request) -> AsyncIterator[dict[str, Any]]:
        """The only message of a stream. gRPC asks for the next one once this one is written."""
        async with request.sending():
            yield self._infer_arguments(request)

    def _infer_arguments(self, request: Request) -> dict[str, Any]:
        edit, clip = request.edit, request.clip
        tensors = input_tensors(edit, clip.data if clip else None, request.seed)
        # The server's own deadline holds even if a cancellation is lost; gRPC's has ended the call
        # where none of it is left.
        deadline = request.deadline
        left = {} if deadline is None else {"timeout_s": max(deadline - time.monotonic(), 0.001)}
        return {
            "model_name": self._model,
            "request_id": request.id,
            "inputs": [_infer_input(tensor) for tensor in tensors],
            "priority": edit.priority,
            "parameters": {**edit.parameters, **left},
        }

    def _error(self, error: grpc.RpcError, request: Request) -> MelodyFlowError:
        """What it means that a stream ended with a gRPC status: an older server answers so, too."""
        status, details = error.code().name, error.details() or ""
        if request.deadline is not None:
            # gRPC says the latter if the deadline passes while it writes the request.
            broken_off = details == "Internal error from Core" and request.is_late()
            if status == "DEADLINE_EXCEEDED" or broken_off:
                return request.late("DEADLINE_EXCEEDED")
        if status == "UNAVAILABLE" and details.startswith("failed to connect"):
            details = f"no server answers at {self._server}: {details}"
        if status == "UNAVAILABLE" and is_proxys(details):
            # The address is right, though no server has answered yet: they may come back.
            self._outage.known = True
        if status in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            key = "this API key" if self._headers else "edits without an API key"
            details = f"{self._server} refuses {key}: {details}; set {KEY_VARIABLE} or api_key"
        known = from_status(status, details)
        if is_answer(known):
            self._outage.said(known)
            return known
        return self._cut_off(details or status, status) if is_cut(status, details) else known

    def _cut_off(self, message: str, status: str | None = None) -> MelodyFlowError:
        """The error for a stream that ended early: Unavailable if there was a server."""
        # A stream that broke off had a server, even one that hasn't answered yet.
        if self._outage.known or status in ("UNKNOWN", "INTERNAL"):
            return Unavailable(message, status=status)
        return from_status(status, message) if status else ServerError(message)


def channel_options(server: str) -> list[tuple[str, Any]]:
    """gRPC channel arguments: whole clips as messages, quick reconnects, dead peers noticed."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", _LARGEST_MESSAGE),
        ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
        # Triton closes connections that ping more often than every 5 minutes while no data flows,
        # as in its queue (--grpc-http2-min-recv-ping-interval-without-data).
        ("grpc.keepalive_time_ms", 310_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
        # gRPC's own reconnects must not lag behind our retries.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]
    if is_loopback(server):
        options.append(("grpc.enable_http_proxy", 0))
    return options


async def _let_end(call: AsyncIterator[object]) -> None:
    """Waits for the end of a stream, which Triton sends right after the last response: cancelling
    it instead would be an error in Triton's log."""
    with suppress(StopAsyncIteration, TimeoutError, grpc.RpcError):
        await asyncio.wait_for(anext(call), timeout=1.0)


def _infer_input(tensor: Tensor) -> InferInput:
    infer_input = InferInput(tensor.name, list(tensor.values.shape), tensor.datatype)
    infer_input.set_data_from_numpy(tensor.values)
    return infer_input
