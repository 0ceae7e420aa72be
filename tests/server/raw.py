"""The tensor contract spoken as any developer would: tritonclient over gRPC, http.client over HTTP.

None of our own client's code, so that the contract is not judged by a client that was written
along with it. Every wait is bounded by PATIENCE.
"""

import base64
import http.client
import io
import json
import queue
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import soundfile
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from melodyflow.embedded import EmbeddedServer

MODEL = "melodyflow"
PATIENCE = 60.0  # seconds that any one answer may take on a busy machine
STATUSES = {"triton_grpc_error": "true"}  # asks for gRPC statuses; it can crash Triton 2.51

TRITONS_OWN = {"priority", "timeout"}  # parameters with a place of their own in tritonclient

FLOAT_INPUTS = ("flowstep", "guidance", "lambda_kl", "start", "end", "duration")
INT32_INPUTS = ("steps", "regularize_iters", "keep_last_k_iters", "sample_rate", "previews")
NUMPY_TYPES: dict[str, Any] = {
    "BYTES": np.object_,
    "FP32": np.float32,
    "FP64": np.float64,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}

Waveform = npt.NDArray[np.float32]  # [channels, samples], full scale at 1
Inputs = Mapping[str, Any]
Outputs = dict[str, Any]


@dataclass(frozen=True)
class Response:
    """One response: its outputs as plain values (`audio` as bytes, as the tensor carries them)."""

    outputs: Outputs
    at: float  # time.monotonic() of its arrival
    final: bool | None = None  # Triton's own flag, which HTTP does not show


@dataclass
class Refused(Exception):
    """A request that ended with an error.

    status: the transport's; over gRPC, where a stream has none for an error in band, the code that
    the text ends with. code: that code, over any transport. text: the rest of the text.
    """

    status: str | int | None
    text: str
    responses: list[Response] = field(default_factory=list)  # those that came before it
    code: str | None = None

    @classmethod
    def of(
        cls, status: str | int | None, said: str, responses: Sequence[Response] = ()
    ) -> "Refused":
        found = re.fullmatch(r"(.*) \[([A-Z_]+)\]", said, re.DOTALL)
        text, code = (found[1], found[2]) if found else (said, None)
        return cls(status, text, list(responses), code)

    def __str__(self) -> str:
        return f"{self.status}: {self.text}"


# --- gRPC ---------------------------------------------------------------------------------------


def tensor(name: str, value: Any, dtype: str = "", shape: tuple[int, ...] = (1, 1)) -> Any:
    """An InferInput; the type is the contract's unless another one is asked for."""
    made = triton.InferInput(name, shape, dtype or contract_type(name))
    values = np.empty(shape, NUMPY_TYPES[dtype or contract_type(name)])
    values.fill(value)  # np.full would cut zeros off the end of bytes
    made.set_data_from_numpy(values)
    return made


def contract_type(name: str) -> str:
    if name in FLOAT_INPUTS:
        return "FP32"
    if name in INT32_INPUTS:
        return "INT32"
    return {"seed": "INT64", "stream": "BOOL", "loop": "BOOL"}.get(name, "BYTES")


class Stream:
    """One request on a gRPC stream of its own; iterating gives its responses up to the final one.

    Inputs are values, or what `tensor` made. An error raises Refused.
    """

    def __init__(
        self,
        server: EmbeddedServer,
        inputs: Inputs,
        *,
        parameters: Mapping[str, Any] | None = None,
        request_id: str = "",
        statuses: bool = False,
        metadata: Mapping[str, str] | None = None,
        pace: Callable[[], object] = lambda: None,
    ) -> None:
        """pace: called after each response, before the next one is read; what it holds up stays
        with the server."""
        self._answers: queue.SimpleQueue[tuple[Any, InferenceServerException | None, float]]
        self._answers = queue.SimpleQueue()
        self._seen: list[Response] = []
        self._ended = self._left = False
        given = dict(parameters or {})
        self._client = triton.InferenceServerClient(server.grpc_url)

        def take(result: Any, error: InferenceServerException | None) -> None:
            self._answers.put((result, error, time.monotonic()))
            pace()

        self._client.start_stream(
            take,
            headers={**(STATUSES if statuses else {}), **(metadata or {})},
        )
        try:
            self._client.async_stream_infer(
                MODEL,
                [
                    value if isinstance(value, triton.InferInput) else tensor(name, _octets(value))
                    for name, value in inputs.items()
                ],
                request_id=request_id,
                parameters={name: given[name] for name in given.keys() - TRITONS_OWN},
                **{name: given[name] for name in given.keys() & TRITONS_OWN},
            )
        except BaseException:
            self.cancel()
            raise

    def __iter__(self) -> Iterator[Response]:
        while not self._ended:
            yield self.next()

    def next(self, patience: float = PATIENCE) -> Response:
        """The next response; queue.Empty where none comes in time."""
        result, error, at = self._answers.get(timeout=patience)
        if error is not None:
            self._ended = True
            refused = Refused.of(_status_name(error), error.message(), self._seen)
            refused.status = refused.status or refused.code
            raise refused
        reply = result.get_response()
        response = Response(
            {output.name: _plain(result.as_numpy(output.name)) for output in reply.outputs},
            at,
            reply.parameters["triton_final_response"].bool_param,
        )
        self._seen.append(response)
        # The result is the last one also where Triton's flag follows it, in a response of its own.
        self._ended = bool(response.final) or "audio" in response.outputs
        return response

    def silent(self) -> bool:
        """Whether nothing has come that was not taken."""
        return self._answers.empty()

    def cancel(self) -> None:
        """Leaves before the end: the stream is cancelled and the connection closed."""
        self._leave(cancel=True)

    def _leave(self, *, cancel: bool) -> None:
        if not self._left:
            self._left = True
            self._client.stop_stream(cancel_requests=cancel)
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # To cancel what has ended can make this Triton wait in vain for it when it is to stop.
        self._leave(cancel=not self._ended)


def _octets(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _status_name(error: InferenceServerException) -> str | None:
    """INVALID_ARGUMENT; None where the stream was OK and the error came as a response's text."""
    return error.status().removeprefix("StatusCode.") if error.status() else None


def _plain(values: npt.NDArray[Any]) -> Any:
    """What a tensor [1, n] holds: bytes, a number, or a list of them; text stays bytes."""
    assert values.shape[0] == 1
    items = values[0].tolist()
    return items[0] if len(items) == 1 else items


# --- HTTP ---------------------------------------------------------------------------------------


class Events:
    """One request to generate_stream; iterating gives its server-sent events up to the last one."""

    def __init__(self, server: EmbeddedServer, inputs: Inputs) -> None:
        self._connection, self._reply = post(server, "generate_stream", inputs)
        self._seen: list[Response] = []
        if self._reply.status != 200:
            with self:
                raise Refused.of(self._reply.status, _error(self._reply.read()))

    def __iter__(self) -> Iterator[Response]:
        for line in self._reply:
            if not line.startswith(b"data: "):
                assert not line.strip(), line
                continue
            event = json.loads(line.removeprefix(b"data: "))
            if "error" in event:
                raise Refused.of(None, event["error"], self._seen)
            self._seen.append(Response(_outputs(event), time.monotonic()))
            yield self._seen[-1]

    def cancel(self) -> None:
        """Leaves: closes the connection."""
        self._reply.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


def generate(server: EmbeddedServer, inputs: Inputs) -> Response:
    """One request to /generate, with its one response. An error raises Refused."""
    connection, reply = post(server, "generate", inputs)
    try:
        body = reply.read()
        if reply.status != 200:
            raise Refused.of(reply.status, _error(body))
        return Response(_outputs(json.loads(body)), time.monotonic())
    finally:
        connection.close()


def post(
    server: EmbeddedServer, endpoint: str, body: Inputs | bytes
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """Posts inputs and parameters as one JSON object, or a body as it is; waits for the header."""
    connection = ask(server, endpoint, body)
    try:
        return connection, connection.getresponse()
    except BaseException:
        connection.close()
        raise


def ask(server: EmbeddedServer, endpoint: str, body: Inputs | bytes) -> http.client.HTTPConnection:
    """Posts and does not wait for anything."""
    connection = http.client.HTTPConnection(server.http_url, timeout=PATIENCE)
    connection.request(
        "POST",
        f"/v2/models/{MODEL}/{endpoint}",
        body if isinstance(body, bytes) else json_body(body),
        {"Content-Type": "application/json"},
    )
    return connection


def json_body(inputs: Inputs) -> bytes:
    """`audio` given as a file's bytes travels as base64."""
    return json.dumps(
        {
            name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
            for name, value in inputs.items()
        }
    ).encode()


def _error(body: bytes) -> str:
    """The text of an error; generate_stream writes even a refusal as an event."""
    return str(json.loads(body.removeprefix(b"data: "))["error"])


def _outputs(event: Mapping[str, Any]) -> Outputs:
    """Triton adds the model's name and version, and a request's id."""
    ours = {k: v for k, v in event.items() if k not in ("model_name", "model_version", "id")}
    return {name: _octets(value) for name, value in ours.items()}


# --- any transport ------------------------------------------------------------------------------


def over_grpc(server: EmbeddedServer, inputs: Inputs) -> list[Response]:
    with Stream(server, inputs) as stream:
        return list(stream)


def over_generate_stream(server: EmbeddedServer, inputs: Inputs) -> list[Response]:
    with Events(server, inputs) as events:
        return list(events)


def over_generate(server: EmbeddedServer, inputs: Inputs) -> list[Response]:
    return [generate(server, {**inputs, "stream": False})]


def transform(server: EmbeddedServer, inputs: Inputs, **parameters: Any) -> Outputs:
    """The result of an edit, over gRPC."""
    with Stream(server, inputs, parameters=parameters) as stream:
        return list(stream)[-1].outputs


def eventually(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What `condition` gives once it is true; its last value where that does not happen in time.

    For what only shows in metrics or in the log, which cannot be waited for otherwise.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value


# --- audio --------------------------------------------------------------------------------------


def music(seconds: float = 1.0, rate: int = 48000, channels: int = 2, samples: int = 0) -> Waveform:
    """Something to edit: a chord that differs between channels."""
    samples = samples or round(seconds * rate)
    time_axis = np.arange(samples) / rate
    voices = [
        [np.sin(2 * np.pi * pitch * (1 + 0.5 * channel) * time_axis) for pitch in (220, 277, 330)]
        for channel in range(channels)
    ]
    return np.asarray([0.2 * sum(voice) for voice in voices], np.float32)


def file_of(waveform: Waveform, rate: int, subtype: str = "PCM_16", format: str = "WAV") -> bytes:
    """Written by libsndfile, so that our writer and our reader are not each other's only judge."""
    file = io.BytesIO()
    soundfile.write(file, waveform.T, rate, subtype=subtype, format=format)
    return file.getvalue()


def decoded(file: bytes) -> tuple[Waveform, int]:
    """Waveform and rate, read by libsndfile."""
    samples, rate = soundfile.read(io.BytesIO(file), dtype="float32", always_2d=True)
    return samples.T, rate


def comments_of(file: bytes) -> dict[str, str]:
    """The comments that libsndfile finds in a file."""
    with soundfile.SoundFile(io.BytesIO(file)) as opened:
        return dict(opened.copy_metadata())
