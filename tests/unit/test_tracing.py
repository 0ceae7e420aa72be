"""Spans of edits: off unless asked for, under the client's context, and never in an edit's way.
tests/deploy/test_spans.py sends them to a real receiver."""

import os
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melodyflow.errors import SettingsError
from melodyflow.serving.tracing import SPANS, Edit, Tracing, start_tracing

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason=". scripts/env installs it")
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: E402
    InMemorySpanExporter,
)

STAGES = {name: (10.0 + at, 11.0 + at) for at, name in enumerate(SPANS)}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def edit(traceparent: str = "", outcome: str = "done", **stages: Any) -> Edit:
    return Edit("an-edit", traceparent, outcome, (10.0, 16.0), stages or STAGES)


def spans_of(edit: Edit) -> list[Any]:
    """The edit's own span first."""
    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    Tracing(provider).record(edit)
    return sorted(exporter.get_finished_spans(), key=lambda span: span.name != "edit")


def test_an_edit_has_a_child_for_each_stage() -> None:
    own, *children = spans_of(edit(f"00-{TRACE}-{PARENT}-01"))
    assert (f"{own.context.trace_id:032x}", f"{own.parent.span_id:016x}") == (TRACE, PARENT)
    assert [child.name for child in children] == ["queue", "encode", "invert", "generate", "decode"]
    assert all(child.parent.span_id == own.context.span_id for child in children)
    assert {child.end_time - child.start_time for child in children} == {10**9}
    assert own.end_time - own.start_time == 6 * 10**9
    assert children[0].start_time == own.start_time
    assert dict(own.attributes) == {"melodyflow.id": "an-edit", "melodyflow.outcome": "done"}


def test_the_parent_decides_whether_it_is_recorded() -> None:
    assert spans_of(edit(f"00-{TRACE}-{PARENT}-00")) == []


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda noise: f"00-{noise.hex()}-01"))
def test_what_is_no_trace_context_is_ignored(traceparent: str) -> None:
    own, *children = spans_of(edit(traceparent))
    assert own.parent is None
    assert len(children) == 5


@pytest.mark.parametrize(
    ("outcome", "code"),
    [("done", "UNSET"), ("cancelled", "UNSET"), ("failed", "ERROR"), ("deadline", "ERROR")],
)
def test_a_failure_shows(outcome: str, code: str) -> None:
    own, *children = spans_of(edit(outcome=outcome, queue=(10.0, 12.0)))
    assert own.status.status_code.name == code
    assert [child.name for child in children] == ["queue"]


def test_what_goes_wrong_with_spans_is_no_edits_business(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(sdk.TracerProvider):  # type: ignore[misc, name-defined]
        def get_tracer(self, *_: Any, **__: Any) -> None:
            return None

    Tracing(Broken()).record(edit())
    assert "could not be recorded" in caplog.text


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_it_is_off_unless_asked_for(environment: dict[str, str]) -> None:
    assert start_tracing(environment, "melodyflow_0_0") is None


def test_another_protocol_is_refused() -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with pytest.raises(SettingsError, match=r"OTLP_PROTOCOL: 'grpc'; spans are sent by http"):
        start_tracing(environment, "melodyflow_0_0")


def test_a_collector_that_never_answers_holds_up_the_end_for_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
            tracing = start_tracing(os.environ, "melodyflow_0_0")
        assert tracing is not None
        began = time.monotonic()
        for _ in range(3000):  # more than are kept
            tracing.record(edit())
        tracing.close()
        assert time.monotonic() - began < 30


def test_without_an_endpoint_nothing_is_imported() -> None:
    code = (
        "import sys, melodyflow.serving.service; from melodyflow.serving.tracing import "
        "start_tracing; start_tracing({}, 'x'); "
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
