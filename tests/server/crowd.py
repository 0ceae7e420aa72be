"""Honest clients of a drill: small edits all the time, whose right bytes are known beforehand.

Two speak through the client package (one of them asyncio), two through a gateway (one JSON, one
server-sent events). An edit that does not come home with its right bytes is a broken promise.
A full queue is none: who meets one asks again, as a person would.
"""

import asyncio
import base64
import json
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import Any, Protocol

import requests

from melodyflow_client import MelodyFlowClient, Progress, Result
from melodyflow_client.aio import AsyncMelodyFlowClient

from . import raw

EDIT_SECONDS = 180.0  # an edit's own deadline: what takes longer is lost
FULL = "Exceeds maximum queue size"
PAUSE = (0.0, 0.3)  # seconds between two edits of a client
RATE = 22050


@dataclass(frozen=True)
class Edit:
    """An edit and the file that must come of it."""

    audio: bytes
    prompt: str
    seed: int
    steps: int
    right: bytes = b""

    def options(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt,
            "seed": self.seed,
            "steps": self.steps,
            "flowstep": 0.12,
            "loudness": "none",
        }


def edits_of(grpc_url: str) -> list[Edit]:
    """Small edits with their right bytes, made one after the other on a server at rest."""
    planned = [
        Edit(raw.file_of(raw.music(seconds, RATE, channels), RATE), prompt, seed, steps)
        for seed, (seconds, channels, prompt, steps) in enumerate(
            [
                (0.2, 1, "a harp", 2),
                (0.3, 2, "a choir", 3),
                (0.5, 1, "drums", 2),
                (0.4, 2, "an organ", 4),
                (0.2, 2, "strings", 3),
                (0.6, 1, "a flute", 2),
            ],
            start=101,
        )
    ]
    with MelodyFlowClient(grpc_url) as client:
        return [
            Edit(e.audio, e.prompt, e.seed, e.steps, client.transform(e.audio, **e.options()).audio)
            for e in planned
        ]


# --- the four ways to ask -------------------------------------------------------------------------


@dataclass
class Heard:
    """What a client has heard of one edit."""

    results: list[bytes] = field(default_factory=list)
    request_id: str = ""  # as the server's log has it
    again: int = 0  # times that the client has sent it again by itself


class Client(Protocol):
    """One way to ask for an edit. Used by one thread."""

    name: str

    def ask(self, edit: Edit, heard: Heard) -> None:
        """Returns when the edit has ended; raises why it has failed."""

    def close(self) -> None: ...


def _hear(event: Progress | Result, heard: Heard, begun: bool) -> bool:
    """Whether the edit has been queued before."""
    if isinstance(event, Result):
        heard.results.append(event.audio)
        heard.request_id = event.request_id
    elif event.stage in ("queued", "warming") and begun:
        heard.again += 1
    return True


class Sdk:
    """The client package, synchronous, without a timeout: as long as its own patience lasts."""

    def __init__(self, grpc_url: str, name: str = "SDK", api_key: str | None = None) -> None:
        self.name = name
        self._client = MelodyFlowClient(grpc_url, api_key=api_key)

    def ask(self, edit: Edit, heard: Heard) -> None:
        begun = False
        with closing(self._client.stream(edit.audio, **edit.options())) as events:
            for event in events:
                begun = _hear(event, heard, begun)

    def close(self) -> None:
        self._client.close()


class AsyncSdk:
    """The client package, asyncio, with a timeout."""

    def __init__(self, grpc_url: str, name: str = "SDK asyncio") -> None:
        self.name = name
        self._runner = asyncio.Runner()
        self._client = AsyncMelodyFlowClient(grpc_url)

    def ask(self, edit: Edit, heard: Heard) -> None:
        self._runner.run(self._ask(edit, heard))

    async def _ask(self, edit: Edit, heard: Heard) -> None:
        begun = False
        options = edit.options()
        async with aclosing(
            self._client.stream(edit.audio, timeout=EDIT_SECONDS, **options)
        ) as events:
            async for event in events:
                begun = _hear(event, heard, begun)

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


class _OverGateway:
    def __init__(self, url: str, path: str, name: str, token: str) -> None:
        self.name = name
        self._url = url + path
        self._http = requests.Session()
        self._http.trust_env = False
        if token:
            self._http.headers["Authorization"] = f"Bearer {token}"

    def _post(self, edit: Edit, **how: Any) -> requests.Response:
        options = edit.options()
        body = {
            **options,
            "audio": base64.b64encode(edit.audio).decode(),
            "custom_prompt": options.pop("prompt"),
        }
        del body["prompt"]
        answer = self._http.post(self._url, json=body, timeout=EDIT_SECONDS, **how)
        if answer.status_code != 200:
            raise Failed(f"{answer.status_code}: {answer.text[:300]}")
        return answer

    def close(self) -> None:
        self._http.close()


class GatewayJson(_OverGateway):
    """POST /transform of a gateway."""

    def __init__(self, url: str, name: str = "gateway JSON", token: str = "") -> None:
        super().__init__(url, "/transform", name, token)

    def ask(self, edit: Edit, heard: Heard) -> None:
        heard.results.append(base64.b64decode(self._post(edit).json()["audio"]))


class GatewayEvents(_OverGateway):
    """POST /transform/stream of a gateway."""

    def __init__(self, url: str, name: str = "gateway events", token: str = "") -> None:
        super().__init__(url, "/transform/stream", name, token)

    def ask(self, edit: Edit, heard: Heard) -> None:
        working = False
        with self._post(edit, stream=True) as answer:
            for name, data in _events(answer):
                if name == "result":
                    heard.results.append(base64.b64decode(data["audio"]))
                elif name == "error":
                    raise Failed(f"{data['code']}: {data['error']}")
                elif name == "queued" and working:
                    heard.again += 1
                working = name == "progress"


def four(grpc_url: str, gateway_url: str) -> list[Callable[[], Client]]:
    """One client of each way."""
    return [
        lambda: Sdk(grpc_url),
        lambda: AsyncSdk(grpc_url),
        lambda: GatewayJson(gateway_url),
        lambda: GatewayEvents(gateway_url),
    ]


class Failed(Exception):
    """A gateway's answer that is no result."""


def _events(answer: requests.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    name = ""
    for line in answer.iter_lines(chunk_size=None):
        text = line.decode()
        if text.startswith("event: "):
            name = text.removeprefix("event: ")
        elif text.startswith("data: "):
            yield name, json.loads(text.removeprefix("data: "))


# --- what came of it ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Delivery:
    """What came of one edit: "done", "wrong" or "failed", with the reason."""

    client: str
    outcome: str
    reason: str
    began: float  # time.monotonic()
    seconds: float
    full: int  # times that the queue was full
    heard: Heard

    @property
    def home(self) -> bool:
        return self.outcome == "done"


def deliver(client: Client, edit: Edit, patience: float = EDIT_SECONDS) -> Delivery:
    """Asks for an edit, again where the queue is full, and judges what comes."""
    began, full, heard = time.monotonic(), 0, Heard()
    outcome, reason = "done", ""
    while True:
        try:
            client.ask(edit, heard)
        except Exception as error:
            if FULL in str(error) and time.monotonic() - began < patience:
                full += 1
                time.sleep(1.0)
                continue
            outcome, reason = "failed", f"{type(error).__name__}: {error}"
        break
    if outcome == "done" and any(file != edit.right for file in heard.results):
        outcome, reason = "wrong", _difference(heard.results[-1], edit.right)
        reason = f"{heard.request_id}: {reason}"
    elif outcome == "done" and len(heard.results) != 1:
        outcome, reason = "wrong", f"{len(heard.results)} results"
    seconds = time.monotonic() - began
    return Delivery(client.name, outcome, reason, began, seconds, full, heard)


def _difference(file: bytes, right: bytes) -> str:
    try:
        one, two = raw.decoded(file)[0], raw.decoded(right)[0]
        return f"samples differ by up to {abs(one - two).max():g} (seen as [-1, 1])"
    except (RuntimeError, ValueError) as error:
        return f"{len(file)} bytes, not {len(right)}: {error}"


class Crowd:
    """Clients at work, each on a thread of its own, until they are told to stop."""

    def __init__(
        self, edits: Sequence[Edit], clients: Sequence[Callable[[], Client]], seed: int = 0
    ) -> None:
        self.deliveries: list[Delivery] = []
        made = [make() for make in clients]
        self.names = {client.name for client in made}
        self._begun: dict[str, float] = {}  # edits that have not ended: client -> when it began
        self._edits = edits
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, args=(client, random.Random(seed + n)), daemon=True)
            for n, client in enumerate(made)
        ]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Every client ends the edit it has begun; what does not end is lost."""
        self._stopping.set()
        until = time.monotonic() + EDIT_SECONDS + 20
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        with self._lock:
            for name, began in self._begun.items():
                seconds = time.monotonic() - began
                self.deliveries.append(
                    Delivery(name, "failed", "it has not ended", began, seconds, 0, Heard())
                )
            self._begun.clear()

    def home_since(self, moment: float) -> set[str]:
        """The clients that have got an edit which they began after a moment."""
        with self._lock:
            return {d.client for d in self.deliveries if d.home and d.began > moment}

    def last_home(self) -> float:
        """When the last edit came home; 0 before any."""
        with self._lock:
            return max((d.began + d.seconds for d in self.deliveries if d.home), default=0.0)

    def _work(self, client: Client, rng: random.Random) -> None:
        try:
            while not self._stopping.is_set():
                with self._lock:
                    self._begun[client.name] = time.monotonic()
                delivery = deliver(client, rng.choice(self._edits))
                with self._lock:
                    if self._begun.pop(client.name, None) is not None:
                        self.deliveries.append(delivery)
                self._stopping.wait(rng.uniform(*PAUSE) + (0 if delivery.home else 0.5))
        finally:
            client.close()


def lost(deliveries: Sequence[Delivery]) -> list[Delivery]:
    return [delivery for delivery in deliveries if not delivery.home]


def table(deliveries: Sequence[Delivery]) -> str:
    """The honest edits by client, and the reasons of those that did not come home."""
    head = (
        f"{'honest client':<20}{'done':>7}{'wrong':>7}{'failed':>7}{'again':>7}{'queue full':>12}"
    )
    lines = [f"{head}{'median s':>10}{'worst s':>9}"]
    for name in [*dict.fromkeys(sorted(d.client for d in deliveries)), "all"]:
        own = [d for d in deliveries if name in (d.client, "all")]
        count = Counter(d.outcome for d in own)
        times = [d.seconds for d in own if d.home] or [float("nan")]
        lines.append(
            f"{name:<20}{count['done']:>7}{count['wrong']:>7}{count['failed']:>7}"
            f"{sum(d.heard.again > 0 for d in own):>7}{sum(d.full for d in own):>12}"
            f"{statistics.median(times):>10.2f}{max(times):>9.2f}"
        )
    reasons = Counter(f"{d.outcome}: {d.reason[:160]}" for d in lost(deliveries))
    lines += [f"  {count} x {reason}" for reason, count in reasons.most_common(12)]
    return "\n".join(lines)
