"""The model's metrics on Triton's endpoint, named by Prometheus's conventions."""

from collections.abc import Callable
from typing import Any

from melodyflow.errors import Code

SECONDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100]
OUTCOMES = ("done", *Code)


class Metrics:
    """The model's metrics. Every change is posted to the outbox, because it is a message to the
    server process."""

    def __init__(
        self, pb_utils: Any, instance: str, post: Callable[[Callable[[], None]], None]
    ) -> None:
        """`instance`: the model instance's name, a label of every series. Without it, all processes
        would share one series and overwrite each other's gauges. It isn't called `instance`,
        because Prometheus sets that label itself."""
        self._pb_utils = pb_utils
        self._instance = {"model_instance": instance}
        self._post = post
        self._families: list[Any] = []  # a metric is freed with its family
        self._edits = self._counter("edits_total", "Edits ended, by outcome", "outcome", OUTCOMES)
        self._restarts = self._counter("restarts_total", "Restarts of the server after a fault")[""]
        self._audio_seconds = self._counter("audio_seconds_total", "Seconds of audio edited")[""]
        self._busy_seconds = self._counter("busy_seconds_total", "Seconds spent in the network")[""]
        self._rows = self._counter("rows_total", "Sequences evaluated by the network")[""]
        self._slots = self._gauge("slots", "Edits that can be in flight")
        self._in_flight = self._gauge("edits_in_flight", "Edits that hold a slot")
        self._checkpoint = self._family("checkpoint_info", "The checkpoint, always 1", "GAUGE")
        self._frames = self._gauge("frames_in_flight", "Latent frames of those that have room")
        self._cache_bytes = self._gauge("cache_bytes", "Bytes held for edits to share")
        self._inversions = self._counter(
            "inversions_total",
            "Inversions asked for: cached (hit), in flight (shared), to be done (miss)",
            "found",
            ("hit", "shared", "miss"),
        )
        self._evaluation_seconds = self._histogram(
            "evaluation_seconds", "Seconds a network call", SECONDS
        )
        self._call_rows = self._histogram(
            "evaluation_rows", "Sequences a network call", [1, 2, 4, 8, 16, 32, 64]
        )
        self._call_tokens = self._histogram(
            "evaluation_tokens",
            "Latent frames a network call",
            [2**n for n in range(5, 17)],
        )
        family = self._family("stage_seconds", "Seconds a stage of an edit", "HISTOGRAM")
        self._stages = {
            stage: self._metric(family, {"stage": stage}, SECONDS)
            for stage in ("encoding", "inverting", "generating", "decoding")
        }

    def checkpoint(self, name: str, sha256: str, licence: str, precision: str) -> None:
        """The checkpoint and precision, as labels of a gauge that is 1."""
        labels = {"name": name, "sha256": sha256, "licence": licence, "precision": precision}
        self._checkpoint_info = self._metric(self._checkpoint, labels)
        self._post(lambda: self._checkpoint_info.set(1))

    def restarts(self, restarts: int) -> None:
        """The number of restarts before this process started."""
        self._post(lambda: self._restarts.increment(restarts))

    def slots(self, slots: int) -> None:
        self._post(lambda: self._slots.set(slots))

    def in_flight(self, edits: int, frames: int) -> None:
        def set_both() -> None:
            self._in_flight.set(edits)
            self._frames.set(frames)

        self._post(set_both)

    def inversion(self, found: str) -> None:
        """An edit needed an inversion: "hit", "miss" or "shared"."""
        self._post(lambda: self._inversions[found].increment(1))

    def cached(self, cache_bytes: int) -> None:
        """The size of the cache, in bytes."""
        self._post(lambda: self._cache_bytes.set(cache_bytes))

    def evaluated(self, rows: int, tokens: int, seconds: float) -> None:
        def count() -> None:
            self._rows.increment(rows)
            self._busy_seconds.increment(seconds)
            self._evaluation_seconds.observe(seconds)
            self._call_rows.observe(rows)
            self._call_tokens.observe(tokens)

        self._post(count)

    def stage(self, name: str, seconds: float) -> None:
        self._post(lambda: self._stages[name].observe(seconds))

    def ended(self, outcome: str, audio_seconds: float = 0.0) -> None:
        """One edit ended: "done" or a `Code`."""

        def count() -> None:
            self._edits[outcome].increment(1)
            self._audio_seconds.increment(audio_seconds)

        self._post(count)

    def _family(self, name: str, description: str, kind: str) -> Any:
        kinds = self._pb_utils.MetricFamily
        family = kinds(
            name=f"melodyflow_{name}",
            description=description,
            kind=getattr(kinds, kind),
        )
        self._families.append(family)
        return family

    def _metric(
        self, family: Any, labels: dict[str, str], buckets: list[float] | None = None
    ) -> Any:
        of_histogram = {} if buckets is None else {"buckets": buckets}
        return family.Metric(labels=labels | self._instance, **of_histogram)

    def _counter(
        self,
        name: str,
        description: str,
        label: str = "",
        values: tuple[str, ...] = ("",),
    ) -> dict[str, Any]:
        family = self._family(name, description, "COUNTER")
        return {
            value: self._metric(family, {label: str(value)} if label else {}) for value in values
        }

    def _gauge(self, name: str, description: str) -> Any:
        return self._metric(self._family(name, description, "GAUGE"), {})

    def _histogram(self, name: str, description: str, buckets: list[float]) -> Any:
        return self._metric(self._family(name, description, "HISTOGRAM"), {}, buckets)
