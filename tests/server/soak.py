"""Hundreds of mixed edits at once through a real server, and what must hold after them.

    python -m tests.server.soak --edits 500

Prints a table; exits with 1 when a promise is broken. Memory is judged after the first 100 edits,
which fill the caches (kept small) and tritonserver's own buffers; a run of fewer shows it only.
"""

import argparse
import base64
import http.client
import queue
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tritonclient.utils import InferenceServerException

from melodyflow.embedded import EmbeddedServer
from melodyflow.embedded.server import SHARED_MEMORY

from . import raw
from .conftest import read_metrics

ROOT = Path(__file__).resolve().parents[2]
FIRST = 100  # edits after which memory must not grow
LARGEST = 48  # of these: six rounds of all clients
GROWTH = 0.05
CLIENTS, SLOTS = 8, 4
CACHE_BYTES = 2**18
PENDING = 'nv_inference_pending_request_count{model="melodyflow",version="1"}'
REFUSED = "inference input 'steps' data-type is 'FP32'"  # Triton's own words
# A stream's error may have no status: it goes by its text.
WORDS = {
    "deadline": "^timeout_s: the edit took longer",
    "failed": "the edit failed|not finite|failed to accept|loop died|Stream removed",
    "unavailable": "maximum queue size|Request timeout expired|shutting down|Server is stopping",
}
OUTCOMES = ("done", "invalid", "cancelled", "deadline", "unavailable", "failed")

LENGTHS = (0.2, 0.5, 1.0, 3.0)  # seconds
RATES = (48000, 44100, 22050)  # Hz
FORMATS = ("wav", "wav24", "wav32f", "flac")
SOLVES: tuple[dict[str, Any], ...] = (
    {"steps": 2},
    {"steps": 3, "regularize_iters": 0},
    {"steps": 2, "regularize_iters": 4, "keep_last_k_iters": 2},
    {"steps": 4, "solver": "midpoint"},
    {"steps": 8},
)
LONG = {"solver": "euler", "steps": 64, "regularize_iters": 4, "keep_last_k_iters": 1}

# What the model refuses, each with one thing wrong.
BAD: tuple[dict[str, Any], ...] = (
    {"steps": 0},
    {"flowstep": 1.0},
    {"guidance": 11.0},
    {"prompt": ""},
    {"prompt": None},  # not sent at all
    {"audio": b"not audio"},
    {"audio": raw.file_of(raw.music(1), 48000)[:2000]},
    {"format": "mp3"},
    {"sample_rate": 1},
    {"solver": "midpoint", "steps": 3},
)


@dataclass(frozen=True)
class Request:
    """One request and what its client does: `expected` is "done", "invalid" (by the model),
    "refused" (by Triton, which the model never sees), "deadline", or "left" after `responses`."""

    transport: str  # grpc, events or generate
    inputs: dict[str, Any]
    expected: str
    statuses: bool = False  # over gRPC: asks for them
    parameters: dict[str, Any] = field(default_factory=dict)
    responses: int = 0
    samples: int = 0  # of the result
    seconds: float = 0.0  # of the source


@dataclass
class Tally:
    """What the clients saw."""

    ends: Counter[str] = field(
        default_factory=Counter
    )  # of those who stayed; and "left", "left at once"
    sent: Counter[str] = field(default_factory=Counter)  # by transport
    done_seconds: float = 0.0  # of audio
    perhaps_seconds: float = 0.0  # of those who left
    wrong: list[str] = field(default_factory=list)  # broken promises, in words
    lock: threading.Lock = field(default_factory=threading.Lock)


# --- what is sent ---------------------------------------------------------------------------------


def plan(edits: int, seed: int) -> list[Request]:
    """Mixed requests: of ten, one is bad and two leave; of the rest some have a deadline to miss,
    and a third are variations of an edit not long before. Every 25th is the largest there is.

    Where memory is judged all clients send the largest at first: tritonserver keeps buffers for as
    many gRPC streams as were ever open together, each as large as its largest request and result.
    """
    rng = random.Random(seed)
    kinds = ["bad", "left", "left", *["done"] * 7]
    recent: list[Source] = []
    requests = [
        _request(rng, "done", _largest(rng), "grpc") for _ in range(LARGEST if edits > FIRST else 0)
    ]
    for number in range(edits - len(requests)):
        if number % len(kinds) == 0:
            rng.shuffle(kinds)
        kind = kinds[number % len(kinds)]
        if kind == "done" and rng.random() < 0.07:
            kind = "deadline"
        if number % 25 == 0:
            source = _largest(rng)
        elif recent and rng.random() < 0.33:
            source = rng.choice(recent[-5:])
        else:
            source = _source(rng, rng.choice(LENGTHS), rng.choice(RATES), rng.choice([1, 2]))
        if kind == "done":
            recent.append(source)
        transport = rng.choice(["grpc", "grpc", "events", "generate"])
        requests.append(_request(rng, kind, source, transport))
    return requests


@dataclass(frozen=True)
class Source:
    """A clip and all that its inversion depends on."""

    samples: int
    rate: int
    inputs: dict[str, Any]


def _source(rng: random.Random, seconds: float, rate: int, channels: int) -> Source:
    clip = raw.music(seconds, rate, channels)
    if rng.random() < 0.5:  # one that nobody else has
        clip *= rng.uniform(0.5, 1.0)
    inputs = {
        "audio": raw.file_of(clip, rate, format=rng.choice(["WAV", "FLAC"])),
        "source_prompt": rng.choice(["", "", "a guitar"]),
        "flowstep": rng.choice([0.0, 0.12, 0.5]),
        "seed": rng.choice([1, 2, rng.randrange(2**31)]),
        "format": rng.choice(FORMATS),
        **rng.choice(SOLVES),
    }
    return Source(clip.shape[1], rate, inputs)


def _largest(rng: random.Random) -> Source:
    source = _source(rng, LENGTHS[-1], RATES[0], 2)
    source.inputs["format"] = "wav32f"
    return source


def _request(rng: random.Random, kind: str, source: Source, transport: str) -> Request:
    asked = source.rate if rng.random() < 0.7 else rng.choice(RATES)
    inputs = {
        **source.inputs,
        "prompt": rng.choice(["strings", "an accordion in a café", "drums", "a choir"]),
        "guidance": rng.choice([0.0, 2.0, 4.0]),
        "sample_rate": asked,
    }
    parameters: dict[str, Any] = {"session_id": f"soak-{rng.randrange(10)}"}
    responses = 0
    if kind in ("left", "deadline"):
        inputs |= {**LONG, "seed": rng.randrange(2**31)}
    if kind == "deadline":
        parameters["timeout_s"] = rng.choice([0.001, 0.05, 0.1])
    elif kind == "left":
        responses = rng.randint(0, 4)
    elif kind == "bad":
        kind, wrong = "invalid", rng.choice([*BAD, None])
        if wrong is None and transport == "grpc":
            kind, wrong = "refused", {"steps": raw.tensor("steps", 2.0, "FP32")}
        elif wrong is None:
            wrong = {"promt": "a misspelt input"}
        inputs = {name: value for name, value in {**inputs, **wrong}.items() if value is not None}
    return Request(
        transport=transport,
        inputs=inputs,
        expected=kind,
        statuses=rng.random() < 0.5,
        parameters=parameters,
        responses=responses,
        samples=(2 * source.samples * asked + source.rate) // (2 * source.rate),
        seconds=source.samples / source.rate,
    )


# --- one client -----------------------------------------------------------------------------------


def send(server: EmbeddedServer, request: Request, tally: Tally) -> None:
    """Sends a request, takes its answers or leaves, and tallies what has come."""
    over_http = {**request.inputs, **request.parameters}
    end: raw.Response | raw.Refused | None = None
    late = 0  # answers after the end
    if request.transport == "generate":
        if request.expected == "left":  # before any answer: there is but one
            raw.ask(server, "generate", {**over_http, "stream": False}).close()
        else:
            try:
                end = raw.generate(server, {**over_http, "stream": False})
            except raw.Refused as refused:
                end = refused
    elif request.transport == "events" and request.expected == "left" and not request.responses:
        raw.ask(server, "generate_stream", over_http).close()
    elif request.transport == "events":
        try:
            with raw.Events(server, over_http) as events:
                end = _last(events, request)
                if end is not None:
                    late = len(list(events))  # up to the end of the body
        except raw.Refused as refused:  # the first answer was an error
            end = refused
    else:
        stream = raw.Stream(
            server, request.inputs, parameters=request.parameters, statuses=request.statuses
        )
        with stream:
            end = _last(stream, request)
        if end is not None:  # and the server has ended the stream
            late = 0 if stream.silent() else 1
    with tally.lock:
        tally.sent[request.transport] += 1
        _judge(request, end, late, tally)


def _last(answers: raw.Stream | raw.Events, request: Request) -> raw.Response | raw.Refused | None:
    """The answer that ends a request; None where its client leaves before."""
    taken = 0
    iterator = iter(answers)
    try:
        while request.expected != "left" or taken < request.responses:
            response = next(iterator)
            taken += 1
            if response.outputs["stage"] == b"done":
                return response
    except raw.Refused as refused:
        return refused
    return None


def _judge(
    request: Request, end: raw.Response | raw.Refused | None, late: int, tally: Tally
) -> None:
    if end is None:
        # Before any answer it is not known whether the model has seen the request.
        name = "left" if request.responses and request.transport != "generate" else "left at once"
        tally.ends[name] += 1
        tally.perhaps_seconds += request.seconds
        return
    outcome = outcome_of(end)
    if request.expected == "refused" and REFUSED in str(end):
        outcome = "refused"
    tally.ends[outcome] += 1
    what = f"{request.transport} {request.expected} {request.parameters}"
    if outcome != ("done" if request.expected == "left" else request.expected):
        tally.wrong.append(f"{what}: {outcome}: {end if isinstance(end, raw.Refused) else ''}")
    if late:
        tally.wrong.append(f"{what}: {late} answers after the end")
    if isinstance(end, raw.Response):
        tally.done_seconds += request.seconds
        file = end.outputs["audio"]
        if request.transport != "grpc":
            file = base64.b64decode(file)
        waveform, rate = raw.decoded(file)
        if (waveform.shape[1], rate) != (request.samples, request.inputs["sample_rate"]):
            tally.wrong.append(f"{what}: {waveform.shape[1]} samples, not {request.samples}")


def outcome_of(end: raw.Response | raw.Refused) -> str:
    """How a request ended: "done" or the server's word for the error."""
    if isinstance(end, raw.Response):
        return "done"
    for outcome, words in WORDS.items():
        if re.search(words, end.text):
            return outcome
    return "invalid" if end.status in (None, 400, "INVALID_ARGUMENT") else "failed"


# --- the server -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Memory:
    """What a server at rest holds, in bytes."""

    stub: int  # the model's process
    tritonserver: int
    shared: int  # in /dev/shm
    cache: int  # of these in the stub, for edits to share


def memory(server: EmbeddedServer) -> Memory:
    (stub,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    line = Path(f"/proc/{server.pid}/cmdline").read_bytes()
    prefix = re.search(rb"shm-region-prefix-name=([^\0]+)", line)
    assert prefix
    files = SHARED_MEMORY.glob(f"{prefix[1].decode()}*")
    return Memory(
        stub=resident(int(stub)),
        tritonserver=resident(server.pid),
        shared=sum(file.stat().st_size for file in files),  # never shrinks
        cache=int(read_metrics(server.metrics_url)["melodyflow_cache_bytes"]),
    )


def resident(pid: int) -> int:
    """A process's resident memory without the shared, which both have mapped."""
    status = Path(f"/proc/{pid}/status").read_text()
    kinds = re.findall(r"(?:RssAnon|RssFile):\s+(\d+) kB", status)
    assert len(kinds) == 2
    return sum(map(int, kinds)) * 1024


def at_rest(server: EmbeddedServer) -> bool:
    now = read_metrics(server.metrics_url)
    held = now["melodyflow_edits_in_flight"], now["melodyflow_frames_in_flight"], now[PENDING]
    return held == (0, 0, 0)


# --- the run --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """What a run has shown."""

    edits: int
    tally: Tally
    counted: dict[str, float]  # the server's metrics at the end, which began at 0
    slots_free: bool
    first: Memory | None  # after the first 100
    last: Memory
    seconds: float

    def broken(self) -> list[str]:
        """The promises that were not kept, in words."""
        return [*self.tally.wrong, *self._leaked(), *self._miscounted(), *self._grown()]

    def _leaked(self) -> list[str]:
        names = ("melodyflow_edits_in_flight", "melodyflow_frames_in_flight", PENDING)
        held = [f"{name} is {self.counted[name]:g} at the end" for name in names]
        return [] if self.slots_free else held

    def _miscounted(self) -> list[str]:
        tally, ends = self.tally, self.tally.ends
        counted = {name: int(self.counted[_edits(name)]) for name in OUTCOMES}
        wrong = []
        if sum(ends.values()) != self.edits:
            wrong.append(f"{self.edits} were sent, {sum(ends.values())} have ended")
        for name in ("invalid", "deadline", "unavailable", "failed"):
            if counted[name] != ends[name]:
                wrong.append(f"{name}: clients saw {ends[name]}, the server {counted[name]}")
        # Who leaves may do so when the edit has just been done, and who leaves before any answer
        # may not have been seen by the model at all. Everybody else is counted.
        surely = ends["done"] + ends["left"]
        both = counted["done"] + counted["cancelled"]
        if not surely <= both <= surely + ends["left at once"]:
            wrong.append(
                f"done and cancelled: {both}; between {surely} and {surely + ends['left at once']}"
            )
        if counted["done"] < ends["done"]:
            wrong.append(f"done: clients saw {ends['done']}, the server {counted['done']}")
        edited = self.counted["melodyflow_audio_seconds_total"]
        if not -0.01 <= edited - tally.done_seconds <= tally.perhaps_seconds + 0.01:
            wrong.append(f"{edited:g} s of audio, the clients have {tally.done_seconds:g} s")
        for total, histogram in (("rows_total", "rows"), ("busy_seconds_total", "seconds")):
            one = self.counted[f"melodyflow_{total}"]
            two = self.counted[f"melodyflow_evaluation_{histogram}_sum"]
            if abs(one - two) > 1e-6 * one:
                wrong.append(f"melodyflow_{total} is {one:g}, its histogram's sum {two:g}")
        return wrong

    def _grown(self) -> list[str]:
        if self.first is None:
            return []
        wrong = []
        for name in ("stub", "tritonserver"):
            before, after = getattr(self.first, name), getattr(self.last, name)
            if after > before * (1 + GROWTH):
                wrong.append(f"memory of {name}: {_growth(before, after)} since the first {FIRST}")
        if self.last.shared > self.first.shared:
            wrong.append(f"/dev/shm: {_growth(self.first.shared, self.last.shared)}")
        if not 0.8 * CACHE_BYTES < self.first.cache <= CACHE_BYTES:
            wrong.append(f"the caches were not full after the first {FIRST}: {self.first.cache}")
        return wrong

    def table(self) -> str:
        """All figures, for people."""
        ends, first = self.tally.ends, self.first
        lines = [f"{self.edits} edits in {self.seconds:.0f} s by {CLIENTS} clients, {SLOTS} slots"]
        lines += ["", f"{'outcome':<16}{'clients':>10}{'/metrics':>10}"]
        for name in dict.fromkeys((*OUTCOMES, *sorted(ends))):
            counted = f"{self.counted[_edits(name)]:.0f}" if name in OUTCOMES else "-"
            lines.append(f"{name:<16}{ends[name]:>10}{counted:>10}")
        sent = ", ".join(f"{name} {count}" for name, count in sorted(self.tally.sent.items()))
        found = ", ".join(
            f"{name} {self.counted[_found(name)]:.0f}" for name in ("miss", "hit", "shared")
        )
        lines += ["", f"sent over: {sent}", f"inversions: {found}", ""]
        lines.append(f"{'MiB':<16}{f'first {FIRST}':>10}{'end':>10}{'growth':>10}")
        for name in ("stub", "tritonserver", "shared", "cache"):
            before, after = getattr(first, name, None), getattr(self.last, name)
            lines.append(
                f"{name:<16}{f'{before / 2**20:.2f}' if before else '-':>10}{after / 2**20:>10.2f}"
                f"{_growth(before, after) if before else '-':>10}"
            )
        return "\n".join(lines)


def _edits(outcome: str) -> str:
    return f'melodyflow_edits_total{{outcome="{outcome}"}}'


def _found(found: str) -> str:
    return f'melodyflow_inversions_total{{found="{found}"}}'


def _growth(before: int, after: int) -> str:
    return f"{after / before - 1:+.2%}"


def soak(checkpoint: Path, edits: int, seed: int = 0, log: Path | None = None) -> Report:
    """Runs the plan against a server of its own."""
    requests, tally = plan(edits, seed), Tally()
    settings = {
        "DEVICE": "cpu",
        "PRECISION": "fp32",
        "SLOTS": str(SLOTS),
        "CACHE_BYTES": str(CACHE_BYTES),
    }
    server = EmbeddedServer(
        checkpoint,
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        settings=settings,
        log=log,
        exit_timeout=20,
    )
    with server:
        began = time.monotonic()
        first = None
        _run(server, requests[:FIRST], tally)
        if edits > FIRST:
            first = memory(server)
            _run(server, requests[FIRST:], tally)
        return Report(
            edits=edits,
            tally=tally,
            slots_free=at_rest(server),
            counted=read_metrics(server.metrics_url),
            first=first,
            last=memory(server),
            seconds=time.monotonic() - began,
        )


def _run(server: EmbeddedServer, requests: Sequence[Request], tally: Tally) -> None:
    """All requests, several at a time; returns when the server is at rest."""

    def one(request: Request) -> None:
        try:
            send(server, request, tally)
        except (queue.Empty, OSError, http.client.HTTPException, InferenceServerException) as error:
            what = f"{request.transport} {request.expected}"
            tally.wrong.append(f"{what}: no answer: {error!r}")

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(one, requests))
    if not Path(f"/proc/{server.pid}/exe").exists():  # a zombie has none
        tail = server.log.read_text()[-2000:] if server.log else ""
        raise RuntimeError(f"tritonserver has ended by itself; its log ends:\n{tail}")
    raw.eventually(lambda: at_rest(server))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/soak",
        description=(__doc__ or "").split("\n")[0],
        epilog="The drills: --storm, --kills, --stall or --busy as the first option; then --help.",
    )
    parser.add_argument("--edits", type=int, default=500)
    parser.add_argument("--checkpoint", type=Path, help="converted; without it a tiny random one")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = given.checkpoint
        if checkpoint is None:
            from melodyflow.tools.convert import convert  # imports torch

            parity, checkpoint = ROOT / "tests" / "data" / "parity", Path(folder) / "tiny"
            convert(parity / "tiny", checkpoint, t5=parity / "t5")
        report = soak(checkpoint, given.edits, given.seed)
    print(report.table())
    broken = report.broken()
    for promise in broken:
        print(f"BROKEN: {promise}")
    print(f"\n{len(broken)} promises broken" if broken else "\nall promises kept")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
