"""What Triton says of itself: its state, its checkpoint, its load, and how long an edit takes.

Where its name has several addresses, it is all of these servers together.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from melodyflow_client.aio import AsyncMelodyFlowClient
from melodyflow_client.status import Status

from ..wire.models import Checkpoint, Resources
from .servers import read_all_metrics

log = logging.getLogger(__name__)

Samples = Mapping[str, Sequence[Sample]]  # by their names

_SLOTS = 8  # of a server whose settings leave them as they are
# How old an answer may be: when a client wants to know, and for an estimate.
_FRESH_SECONDS, _ROUGHLY_FRESH_SECONDS = 1.0, 3.0
_ANSWER_SECONDS = 2.0  # in which Triton answers a question
_MOST_SECONDS = 5.0  # for all of them together


class Triton:
    """Asks Triton at most once a second, and remembers the answer."""

    def __init__(self, client: AsyncMelodyFlowClient) -> None:
        self._client = client
        self._asking: asyncio.Task[None] | None = None
        self._asked = float("-inf")
        self._status = Status(client.server, error="the server has not answered yet")
        self._metrics: Samples = {}
        self._ready = time.monotonic()

    async def status(self, patience: float = _MOST_SECONDS, age: float = _FRESH_SECONDS) -> Status:
        """Its state, at most `age` seconds old; where it takes longer than `patience` seconds to
        say so, the one before."""
        task = self.refresh(age)
        if task is not None and time.monotonic() - self._asked > age:
            await asyncio.wait({task}, timeout=patience)
        return self._status

    @property
    def away_seconds(self) -> float:
        """For how long it hasn't been ready: since it last was, or else since the start."""
        return time.monotonic() - self._ready

    def refresh(self, seconds: float = _ROUGHLY_FRESH_SECONDS) -> asyncio.Task[None] | None:
        """Asks, unless the last answer is younger than `seconds`; the task that does so, if any."""
        if self._asking is None and time.monotonic() - self._asked > seconds:
            self._asking = asyncio.create_task(self._ask())
        return self._asking

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(_MOST_SECONDS):
                self._status, self._metrics = await asyncio.gather(
                    self._client.status(timeout=_ANSWER_SECONDS), self._read_metrics()
                )
        except TimeoutError:
            error = f"the server did not answer within {_MOST_SECONDS:g} s"
            self._status = Status(self._client.server, error=error)
        finally:
            self._asked, self._asking = time.monotonic(), None
        if self._status.model_ready:
            self._ready = self._asked

    async def _read_metrics(self) -> Samples:
        url = self._client.metrics_url or ""
        try:
            # Looking up a name has no time limit of its own: Docker's resolver takes 8 s for a
            # container that is down.
            texts = await asyncio.wait_for(asyncio.to_thread(read_all_metrics, url, 2.0), 2.5)
        except TimeoutError:
            return {}
        found: defaultdict[str, list[Sample]] = defaultdict(list)
        for text in texts:
            for name, samples in parse_metrics(text).items():
                found[name] += samples
        return found

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The weights that are loaded, by the labels that the model's metrics carry."""
        for sample in self._metrics.get("melodyflow_checkpoint_info", ()):
            labels = {name: sample.labels.get(name, "") for name in Checkpoint.model_fields}
            return Checkpoint(**labels)
        return None

    @property
    def gpu(self) -> bool:
        """Whether Triton sees a GPU."""
        return self._value("nv_gpu_memory_total_bytes") is not None

    @property
    def slots(self) -> int:
        """Edits that it works on at once; its default while that is unknown."""
        return int(self._value("melodyflow_slots") or _SLOTS)

    @property
    def resources(self) -> Resources:
        """The resources of Triton's machine or machines, all GPUs together."""
        cpus = [sample.value for sample in self._metrics.get("nv_cpu_utilization", ())]
        total = self._value("nv_cpu_memory_total_bytes")
        used = self._value("nv_cpu_memory_used_bytes")
        gpu_used = self._value("nv_gpu_memory_used_bytes")
        gpu_total = self._value("nv_gpu_memory_total_bytes")
        return Resources(
            cpu_percent=round(100 * fmean(cpus), 1) if cpus else None,
            memory_percent=round(100 * used / total, 1) if total and used is not None else None,
            gpu_memory_used=None if gpu_used is None else int(gpu_used),
            gpu_memory_total=None if gpu_total is None else int(gpu_total),
        )

    @property
    def seconds_a_call(self) -> float | None:
        """The mean time of a network call so far, whatever its size; None while that is unknown."""
        self.refresh()
        seconds = self._value("melodyflow_evaluation_seconds_sum")
        calls = self._value("melodyflow_evaluation_seconds_count")
        return seconds / calls if calls and seconds is not None else None

    def _value(self, name: str) -> float | None:
        found = self._metrics.get(name)
        return sum(sample.value for sample in found) if found else None


def parse_metrics(text: str) -> Samples:
    """Prometheus text as samples by their names; empty where it can't be read."""
    found: defaultdict[str, list[Sample]] = defaultdict(list)
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name].append(sample)
    except ValueError as error:
        log.warning("Triton's metrics can't be read", extra={"reason": str(error)})
        return {}
    return found
