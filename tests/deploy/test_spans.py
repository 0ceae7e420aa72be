"""Spans of a real server's edits, at a real OTLP receiver (rotel)."""

import importlib.util
import itertools
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from melodyflow.embedded import EmbeddedServer

from ..gateway.conftest import Start, start_gateway, wav  # noqa: F401
from ..server import raw
from ..servers import on_the_cpu
from .watching import free_port

CHILDREN = ["queue", "encode", "invert", "generate", "decode"]
PATIENCE = 60.0


@dataclass(frozen=True)
class Span:
    """As the receiver has printed it."""

    name: str
    trace: str
    id: str
    parent: str
    begin: int
    end: int


@dataclass
class Receiver:
    """A rotel that prints what it gets."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    seen: set[str] = field(default_factory=set)

    def spans(self) -> list[Span]:
        text = self.log.read_text(errors="replace")
        return [
            Span(
                *(
                    re.findall(rf"^ *{name} *: (\S*)$", block, re.MULTILINE)[0]
                    for name in ("Name", "Trace ID", "ID", "Parent ID")
                ),
                *(
                    int(re.findall(rf"^{name} time: (\d+)", block, re.MULTILINE)[0])
                    for name in ("Start", "End")
                ),
            )
            for block in re.split(r"^Span #\d+$", text, flags=re.MULTILINE)[1:]
            if "\nEnd time:" in block
        ]

    def edit(self) -> tuple[Span, list[Span]]:
        """The next edit, and its children by time."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            spans = self.spans()
            for span in spans:
                if span.name == "edit" and span.id not in self.seen:
                    self.seen.add(span.id)
                    children = [each for each in spans if each.parent == span.id]
                    return span, sorted(children, key=lambda each: each.begin)
            time.sleep(0.1)
        pytest.fail("no span of an edit has come")


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    found = importlib.util.find_spec("rotel")
    if found is None or not found.submodule_search_locations:
        if os.environ.get("CI"):
            pytest.fail("no rotel: tests/deploy/environment installs it")
        pytest.skip("needs rotel: run tests/deploy/environment")
    folder = tmp_path_factory.mktemp("rotel")
    http, grpc = (f"127.0.0.1:{free_port()}" for _ in range(2))
    command = [
        *(Path(found.submodule_search_locations[0]) / "rotel-agent", "start"),
        *("--otlp-http-endpoint", http, "--otlp-grpc-endpoint", grpc),
        *("--exporter", "blackhole", "--debug-log", "traces"),
        *("--debug-log-verbosity", "detailed", "--pid-file", folder / "pid"),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        yield Receiver(f"http://{http}", process, folder / "log")
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def traced(receiver: Receiver, checkpoint: Path) -> Iterator[EmbeddedServer]:
    server = on_the_cpu(checkpoint)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        patched.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # milliseconds
        server.start()
    yield server
    server.stop()


def context(sampled: bool = True) -> tuple[str, str, str]:
    """A trace's id, a span's id in it, and both as a header."""
    trace, span = os.urandom(16).hex(), os.urandom(8).hex()
    return trace, span, f"00-{trace}-{span}-{sampled:02d}"


def inputs(seed: int) -> dict[str, Any]:
    audio = raw.file_of(raw.music(1.0), 48000)
    return {"audio": audio, "prompt": "strings", "seed": seed, "steps": 2}


def edit(server: EmbeddedServer, seed: int, **options: Any) -> bytes:
    """An edit of a second over gRPC; its result."""
    with raw.Stream(server, inputs(seed), **options) as stream:
        return bytes(list(stream)[-1].outputs["audio"])


def test_an_edit_is_a_span_under_its_clients_with_a_child_for_each_stage(
    receiver: Receiver, traced: EmbeddedServer
) -> None:
    trace, parent, header = context()
    edit(traced, 1, metadata={"traceparent": header, "traceparent-more": "ignored"})
    span, children = receiver.edit()
    assert (span.trace, span.parent) == (trace, parent)
    assert [child.name for child in children] == CHILDREN
    assert {child.trace for child in children} == {trace}
    assert children[0].begin == span.begin
    for child, later in itertools.pairwise(children):
        assert child.begin < child.end <= later.begin
    assert children[-1].end < span.end
    assert abs(span.end / 1e9 - time.time()) < PATIENCE
    # What is found in the cache is no stage.
    edit(traced, 1, metadata={"traceparent": header})
    span, children = receiver.edit()
    assert [child.name for child in children] == [each for each in CHILDREN if each != "invert"]


def test_the_parameter_counts_over_http(receiver: Receiver, traced: EmbeddedServer) -> None:
    trace, parent, header = context()
    raw.generate(traced, {**inputs(2), "stream": False, "parameters": {"traceparent": header}})
    span, children = receiver.edit()
    assert (span.trace, span.parent) == (trace, parent)
    assert [child.name for child in children] == CHILDREN


def test_the_parent_decides_and_without_one_the_edit_has_its_own_trace(
    receiver: Receiver, traced: EmbeddedServer
) -> None:
    _, _, unsampled = context(sampled=False)
    edit(traced, 3, metadata={"traceparent": unsampled})
    edit(traced, 4, metadata={"traceparent": "nonsense"})
    span, _ = receiver.edit()  # the second one, for they come in order
    assert span.parent == ""
    edit(traced, 5)
    assert receiver.edit()[0].parent == ""
    assert not any(each.trace == unsampled[3:35] for each in receiver.spans())


def test_the_gateway_passes_its_clients_context_on(
    receiver: Receiver,
    traced: EmbeddedServer,
    start_gateway: Start,  # noqa: F811
) -> None:
    gateway = start_gateway(traced.grpc_url, traced.metrics_url)
    form = {"variation": "celtic", "steps": "2"}

    def transform(traceparent: str) -> None:
        headers, files = {"traceparent": traceparent}, {"audio": ("a.wav", wav(0.5))}
        assert gateway.post("/transform", data=form, files=files, headers=headers).ok

    trace, parent, header = context()
    transform(header)
    span, _ = receiver.edit()
    assert (span.trace, span.parent) == (trace, parent)
    transform("nonsense")
    assert receiver.edit()[0].parent == ""


def test_what_is_refused_is_recorded_too(receiver: Receiver, traced: EmbeddedServer) -> None:
    trace, parent, header = context()
    with pytest.raises(raw.Refused, match="timeout_s: -1"):
        edit(traced, 6, parameters={"traceparent": header, "timeout_s": -1})
    span, children = receiver.edit()
    assert (span.trace, span.parent) == (trace, parent)
    assert [child.name for child in children] == ["queue"]


# The last one here, for it ends the receiver.
def test_without_its_collector_a_server_edits_as_before_and_ends_in_time(
    receiver: Receiver, traced: EmbeddedServer
) -> None:
    with_collector = edit(traced, 7)
    receiver.process.kill()
    receiver.process.wait()
    began = time.monotonic()
    assert edit(traced, 7) == with_collector
    for seed in range(8, 11):
        edit(traced, seed)
    assert time.monotonic() - began < PATIENCE
    began = time.monotonic()
    traced.stop()
    assert time.monotonic() - began < 15
