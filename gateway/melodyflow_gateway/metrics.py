"""The gateway's own metrics, for Prometheus at /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300)
APIS = ("transform", "stream", "juce", "socketio")
OUTCOMES = ("done", "invalid", "cancelled", "deadline", "unavailable", "failed")
# By the status of the answer; of a connection there may be none.
REASONS = {421: "host", 403: "origin", 401: "token", 413: "size", 429: "limit"}
CONNECTION_REASONS = ("connections", "slow")


class Metrics:
    """The metrics of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter(
            "requests", "HTTP requests answered, by route and status", "route", "status"
        )
        self.refused = self._counter("refused", "Requests refused", "reason")
        self.edits = self._counter("edits", "Edits ended", "api", "outcome")
        self.edit_seconds = Histogram(
            "melodyflow_gateway_edit_seconds",
            "Seconds from request to result of finished edits",
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.waiting = self._gauge("edits_waiting", "Edits that Triton has not started")
        self.running = self._gauge("edits_running", "Edits that Triton is running")
        self.connections = self._gauge("connections", "Connections open")
        self.budget_bytes = self._gauge("budget_bytes", "Bytes of the budget that are taken")
        self.most_bytes = self._gauge("most_bytes", "The most memory that this process may take")
        self.sockets = self._gauge("sockets", "Socket.IO clients connected")
        self.sessions = self._gauge("sessions", "Sessions kept in this process")
        self.session_bytes = self._gauge("session_bytes", "Bytes of audio in these sessions")
        for api in APIS:
            for outcome in OUTCOMES:
                self.edits.labels(api, outcome)
        for reason in (*REASONS.values(), *CONNECTION_REASONS):
            self.refused.labels(reason)

    def count_refusal(self, status: int) -> None:
        """Counts an answer of this status, if it is a refusal."""
        if status in REASONS:
            self.refused.labels(REASONS[status]).inc()

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"melodyflow_gateway_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"melodyflow_gateway_{name}", text, registry=self.registry)
