"""Clients killed at random moments, and clients that do not read: nobody else is harmed."""

import base64
import io
import json
import multiprocessing
import random
import re
import secrets
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import soundfile
from tritonclient.grpc import service_pb2_grpc

from melodyflow.embedded import EmbeddedServer

from . import attackers, raw

Metrics = Callable[[], dict[str, float]]

KILLS = 30
AT_A_TIME = 5
SLOTS_FREE = 20.0  # seconds after the last kill, on a busy machine; the endless go on for far more

# Each client is a process of its own, forked off one that has imported all it needs.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.server.raw"])
# start() of one process polls all others, and must not do so beside the join() of one of them.
CHILDREN = threading.Lock()
OUTCOMES = ("done", "cancelled", "invalid", "deadline", "unavailable", "failed")
ENDLESS = 128  # steps; 2 or 20 let the kill meet the other stages and the end


def client(
    said: Connection, transport: str, grpc_url: str, http_url: str, request_id: str, steps: int
) -> None:
    """Asks for an edit; says when it sends and when something has come."""
    server: Any = SimpleNamespace(grpc_url=grpc_url, http_url=http_url)
    seconds = 8 if steps == ENDLESS else 1
    inputs = {
        "audio": raw.file_of(raw.music(seconds), 48000),
        "prompt": "killed",
        "steps": steps,
        "regularize_iters": 8,
        "keep_last_k_iters": 1,
    }
    said.send("sends")
    responses: raw.Stream | raw.Events
    if transport == "grpc":
        responses = raw.Stream(server, inputs, request_id=request_id)
    else:
        responses = raw.Events(server, {**inputs, "id": request_id})
    for response in responses:
        said.send(response.outputs["stage"])


@dataclass
class Victim:
    """A client that is killed `seconds` after it has spoken so many times."""

    transport: str
    steps: int
    times: int
    seconds: float
    request_id: str
    heard: int = 0  # responses

    def run(self, server: EmbeddedServer) -> None:
        told, says = FORKS.Pipe(duplex=False)
        addresses = server.grpc_url, server.http_url
        arguments = (says, self.transport, *addresses, self.request_id, self.steps)
        process = FORKS.Process(target=client, args=arguments)
        with CHILDREN:
            process.start()
        says.close()  # so that its end is heard
        try:
            assert told.recv() == "sends"
            with suppress(EOFError):
                for _ in range(self.times - 1):
                    told.recv()
                    self.heard += 1
            time.sleep(self.seconds)
        finally:
            with CHILDREN:
                process.kill()
                process.join()
            told.close()
        self.killed = process.exitcode == -signal.SIGKILL

    def ended(self, log: str) -> list[tuple[str, int, int]]:
        """What the log says of its ends: outcome, evaluations done and in total."""
        pattern = rf"edit id='{self.request_id}' .*? (\w+) after .*, evaluations (\d+)/(\d+)"
        return [(found[1], int(found[2]), int(found[3])) for found in re.finditer(pattern, log)]


def test_clients_killed_at_random_moments(
    server: EmbeddedServer, metrics: Metrics, server_log: Path
) -> None:
    rng = random.Random(1)
    victims = [
        Victim(
            transport=rng.choice(["grpc", "http"]),
            steps=rng.choice([2, 20, ENDLESS, ENDLESS]),
            times=rng.randint(1, 6),
            seconds=rng.uniform(0, 0.1),
            request_id=f"killed-{secrets.token_hex(4)}",
        )
        for _ in range(KILLS)
    ]
    assert raw.eventually(lambda: metrics()["melodyflow_edits_in_flight"] == 0)
    before = metrics()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for running in [pool.submit(victim.run, server) for victim in victims]:
            running.result(raw.PATIENCE)

    def at_rest() -> bool:
        now = metrics()
        return now["melodyflow_edits_in_flight"] == now["melodyflow_frames_in_flight"] == 0

    assert raw.eventually(at_rest, SLOTS_FREE)
    raw.transform(server, {"audio": QUICK, "prompt": "after them", "steps": 2})

    def ends() -> dict[str, list[tuple[str, int, int]]]:
        log = server_log.read_text()
        return {victim.request_id: victim.ended(log) for victim in victims}

    def accounts() -> tuple[dict[str, float], dict[str, float]]:
        """What the metrics count since the beginning, and what the log says (and that one edit)."""
        said = Counter(outcome for ended in ends().values() for outcome, *_ in ended)
        said["done"] += 1
        now = metrics()
        names = {outcome: f'melodyflow_edits_total{{outcome="{outcome}"}}' for outcome in OUTCOMES}
        counted = {outcome: now[name] - before[name] for outcome, name in names.items()}
        return counted, {outcome: float(said[outcome]) for outcome in OUTCOMES}

    # Nothing is counted that is not said, and nothing twice. A request whose client was killed may
    # lie in Triton's queue until after the edit above, so both may still grow.
    def agree() -> bool:
        counted, said = accounts()
        return counted == said

    assert raw.eventually(agree), accounts()
    assert all(len(ended) <= 1 for ended in ends().values())
    counted, _ = accounts()
    assert sum(counted.values()) == counted["done"] + counted["cancelled"]
    surely = [victim for victim in victims if victim.steps == ENDLESS and victim.heard]
    assert len(surely) > KILLS / 4
    for victim in surely:
        assert victim.killed
        ((outcome, done, total),) = ends()[victim.request_id]
        assert outcome == "cancelled"
        assert done < total


# --- clients that do not read -------------------------------------------------------------------

QUICK = raw.file_of(raw.music(0.3), 48000)
# Its result is 3 MB, far more than lies between a server and a client that does not read.
LARGE: dict[str, Any] = {
    "audio": raw.file_of(raw.music(8), 48000),
    "prompt": "unread",
    "steps": 2,
    "format": "wav32f",
}


class UnreadStream:
    """A gRPC stream from which nothing is read before `result`: HTTP/2 holds the server back."""

    def __init__(self, server: EmbeddedServer, inputs: dict[str, Any]) -> None:
        request = attackers.request("", inputs)
        unlimited = [("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(server.grpc_url, unlimited)
        service = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._call = service.ModelStreamInfer(iter([request]), timeout=raw.PATIENCE)

    def result(self) -> bytes:
        """The audio, after all else has been read."""
        last = [reply.infer_response for reply in self._call][-1]
        names = [output.name for output in last.outputs]
        content: bytes = last.raw_output_contents[names.index("audio")]
        return content[4:]  # after its length

    def close(self) -> None:
        self._call.cancel()
        self._channel.close()


class UnreadEvents:
    """A request to generate_stream from whose connection nothing is read before `result`."""

    def __init__(self, server: EmbeddedServer, inputs: dict[str, Any]) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(raw.PATIENCE)
        host, _, port = server.http_url.partition(":")
        self._socket.connect((host, int(port)))
        body = raw.json_body(inputs)
        head = f"POST /v2/models/{raw.MODEL}/generate_stream HTTP/1.1\r\nHost: {host}\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self._socket.sendall(head.encode() + body)

    def result(self) -> bytes:
        with HTTPResponse(self._socket) as reply:
            reply.begin()
            events = [line for line in reply if line.startswith(b"data: ")]
        return base64.b64decode(json.loads(events[-1].removeprefix(b"data: "))["audio"])

    def close(self) -> None:
        self._socket.close()


def test_clients_that_do_not_read_hold_nobody_up(server: EmbeddedServer, metrics: Metrics) -> None:
    slots = int(metrics()["melodyflow_slots"])
    done = 'melodyflow_edits_total{outcome="done"}'
    before = metrics()[done]
    with ExitStack() as stack:
        unread: list[UnreadStream | UnreadEvents] = []
        for number in range(slots):
            kind = [UnreadStream, UnreadEvents][number % 2]
            unread.append(kind(server, {**LARGE, "seed": number}))
            stack.callback(unread[-1].close)
        # They are done and their slots are free, and nobody has taken a result.
        assert raw.eventually(lambda: metrics()[done] == before + slots)
        assert raw.eventually(lambda: metrics()["melodyflow_edits_in_flight"] == 0)
        for inputs in [{"audio": QUICK, "prompt": "others", "steps": 2}, {**LARGE, "seed": 99}]:
            for transport in (raw.over_grpc, raw.over_generate_stream, raw.over_generate):
                assert transport(server, inputs)[-1].outputs["stage"] == b"done"
        for client in unread:  # late, and all is there
            with soundfile.SoundFile(io.BytesIO(client.result())) as result:
                assert result.frames == 8 * 48000
