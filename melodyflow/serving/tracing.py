"""Spans of edits for an OpenTelemetry collector, by OTLP over HTTP. Off, and not even imported,
unless one of OpenTelemetry's own variables names an endpoint."""

import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import melodyflow
from melodyflow.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
CLOSE_SECONDS = 3.0  # for spans that are still to be sent at the end
# An edit's stages, and what their spans are called.
SPANS = {
    "queue": "queue",
    "encoding": "encode",
    "inverting": "invert",
    "generating": "generate",
    "decoding": "decode",
}

Times = tuple[float, float]  # begin and end, by time.monotonic()


@dataclass(frozen=True)
class Edit:
    """An edit that has ended."""

    id: str
    traceparent: str  # the client's trace context; ignored if it isn't valid
    outcome: str
    times: Times
    stages: Mapping[str, Times]


class Tracing:
    """Makes spans and sends them from a thread of its own. A collector that is slow or away costs
    spans, never an edit's time."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("melodyflow", melodyflow.__version__)

    def record(self, edit: Edit) -> None:
        """Records an edit as a span with one child for each stage, if its trace is sampled."""
        try:
            self._record(edit)
        except Exception:
            log.exception("an edit's spans could not be recorded")

    def close(self) -> None:
        """Sends what is left, for three seconds at most."""
        closing = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _record(self, edit: Edit) -> None:
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        offset = time.time_ns() - int(time.monotonic() * 1e9)
        begin, end = (offset + int(at * 1e9) for at in edit.times)
        parent = TraceContextTextMapPropagator().extract({"traceparent": edit.traceparent})
        span = self._tracer.start_span(
            "edit",
            parent,
            SpanKind.SERVER,
            {"melodyflow.id": edit.id, "melodyflow.outcome": str(edit.outcome)},
            start_time=begin,
        )
        if edit.outcome not in ("done", "cancelled"):
            span.set_status(StatusCode.ERROR, str(edit.outcome))
        inside = set_span_in_context(span, parent)
        for stage, (began, ended) in edit.stages.items():
            child = self._tracer.start_span(
                SPANS[stage], inside, start_time=offset + int(began * 1e9)
            )
            child.end(offset + int(ended * 1e9))
        span.end(end)


def start_tracing(environment: Mapping[str, str], instance: str) -> Tracing | None:
    """Starts what sends spans, as OpenTelemetry's variables say; None without an endpoint.
    `instance`: the model instance's name. Raises SettingsError."""
    if not any(environment.get(name) for name in ENDPOINTS):
        return None
    if environment.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    for name in PROTOCOLS:
        given = environment.get(name) or PROTOCOL
        if given != PROTOCOL:
            raise SettingsError(f"{name}: {given!r}; spans are sent by {PROTOCOL} only")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(
            f"{ENDPOINTS[1]}: set, but OpenTelemetry is missing ({error}); pip install "
            "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http, or unset it"
        ) from None
    names = {"service.name": "melodyflow", "service.version": melodyflow.__version__}
    if environment.get("OTEL_SERVICE_NAME"):
        del names["service.name"]
    resource = Resource.create({**names, "service.instance.id": f"{os.getppid()}-{instance}"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)
