"""A real gRPC peer that answers the clients as scripted."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from melodyflow_client import Retry

ROOT = Path(__file__).resolve().parents[2]
CLIP = (np.linspace(-0.5, 0.5, 4800, dtype=np.float32)[None], 48000)
QUICK = Retry(retries=5, first=0.01, longest=0.02)

Request = Any
Context = grpc.ServicerContext
Script = Callable[[Request, Context], Iterator[Any]]


class Peer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers the n-th stream with the n-th script, later ones with the last. port 0: any."""

    def __init__(self, port: int = 0) -> None:
        self.scripts: list[Script] = [edit]
        self.requests: list[Request] = []
        self.metadata: list[dict[str, Any]] = []
        self.cancelled = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"
        self._server.start()

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def stop(self) -> None:
        self._server.stop(None).wait()

    def ModelStreamInfer(self, requests: Iterator[Request], context: Context) -> Iterator[Any]:
        request = next(iter(requests))
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        script = self.scripts[min(len(self.requests), len(self.scripts)) - 1]
        ended = threading.Event()
        context.add_callback(lambda: ended.is_set() or self.cancelled.set())
        for response in script(request, context):
            # As Triton does; a script may answer with another request's.
            response.infer_response.id = response.infer_response.id or request.id
            yield response
        ended.set()


def value(request: Request, name: str) -> bytes:
    index = [tensor.name for tensor in request.inputs].index(name)
    content: bytes = request.raw_input_contents[index]
    return content[4:] if request.inputs[index].datatype == "BYTES" else content


def seed_of(request: Request) -> int:
    return int(np.frombuffer(value(request, "seed"), np.int64)[0])


def answer(**outputs: Any) -> Any:
    response = service_pb2.ModelStreamInferResponse()
    kinds = {"progress": "FP32", "gain_db": "FP32", "seed": "INT64"}
    for name, content in outputs.items():
        is_bytes = isinstance(content, bytes)
        kind = "BYTES" if is_bytes else kinds.get(name, "INT32")
        dtype = {"FP32": np.float32, "INT64": np.int64, "INT32": np.int32, "BYTES": np.uint8}[kind]
        items = content if isinstance(content, tuple) else (content,)
        response.infer_response.outputs.add(name=name, datatype=kind, shape=[1, len(items)])
        raw = (
            len(content).to_bytes(4, "little") + content
            if is_bytes
            else np.array(items, dtype).tobytes()
        )
        response.infer_response.raw_output_contents.append(raw)
    return response


def progress(share: float, stage: bytes = b"inverting") -> Any:
    return answer(progress=share, stage=stage, step=(round(share * 10), 10))


def edit(request: Request, context: Context) -> Iterator[Any]:
    yield progress(0.1)
    yield progress(0.6, b"generating")
    yield answer(
        progress=1.0,
        stage=b"done",
        step=(10, 10),
        audio=value(request, "audio"),
        sample_rate=48000,
        seed=seed_of(request),
        gain_db=0.0,
        info=json.dumps({"precision": "fp32"}).encode(),
    )


def refuse(code: grpc.StatusCode, text: str, after: float | None = None) -> Script:
    def script(request: Request, context: Context) -> Iterator[Any]:
        if after is not None:
            yield progress(after)
        context.abort(code, text)

    return script


def say(text: str, after: float | None = None) -> Script:
    """An error inside the stream, as Triton sends it."""

    def script(request: Request, context: Context) -> Iterator[Any]:
        if after is not None:
            yield progress(after)
        yield service_pb2.ModelStreamInferResponse(error_message=text)

    return script


def hang(request: Request, context: Context) -> Iterator[Any]:
    yield progress(0.1)
    while context.is_active():
        time.sleep(0.01)


FULL = refuse(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")


class Relay:
    """A TCP relay in front of a peer. It resets connections as if the peer's process were killed:
    on cut(), or once by itself, after `cut_after` bytes from the peer."""

    def __init__(self, peer: Peer) -> None:
        self.cut_after: int | None = None
        self._peer = peer
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        for end in self._ends:
            with suppress(OSError):
                # No linger: the connection is reset.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def stop(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                peer = socket.create_connection(("127.0.0.1", self._peer.port))
                self._ends += [client, peer]
                for ends in ((client, peer), (peer, client)):
                    threading.Thread(target=self._carry, args=(*ends, ends[0] is peer)).start()

    def _carry(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
                if answers and self.cut_after is not None:
                    self.cut_after -= len(data)
                    if self.cut_after < 0:
                        self.cut_after = None
                        self.cut()


def command(peer: Peer, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "melodyflow_client", *arguments, "--server", peer.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'client'}:{os.environ.get('PYTHONPATH', '')}"},
    )
