"""What a server says of itself."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .addresses import is_loopback

_PENDING = "nv_inference_pending_request_count"
_CHECKPOINT = "melodyflow_checkpoint_info"
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)(?: \d+)?")


@dataclass(frozen=True)
class Status:
    """The state of a server.

    live, ready: of the server; model_ready: of the model: edits are taken.
    version: Triton's. checkpoint: its name where the metrics say it, else its folder as in the
        model's configuration.
    pending: edits in the queue; None where the metrics cannot be reached.
    limits: what it accepts, by the names of its settings; None where it does not say.
    error: why the server could not be asked.
    """

    server: str
    live: bool = False
    ready: bool = False
    model_ready: bool = False
    version: str | None = None
    checkpoint: str | None = None
    pending: int | None = None
    limits: Mapping[str, float] | None = None
    error: str | None = None


def checkpoint_of(config: Mapping[str, Any]) -> str | None:
    """The checkpoint's folder in a model configuration (JSON form of ModelConfigResponse)."""
    return parameters_of(config).get("checkpoint") or None


def parameters_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The settings in a model configuration (JSON form of ModelConfigResponse)."""
    parameters = config.get("config", {}).get("parameters", {})
    return {name: str(value.get("string_value", "")) for name, value in parameters.items()}


def pending_of(metrics: str, model: str) -> int | None:
    """Edits in the queue of `model`, from Prometheus text; None where it is not said."""
    for labels, value in samples(metrics, _PENDING):
        if labels.get("model") == model:
            return int(value)
    return None


def loaded_checkpoint(metrics: str) -> str | None:
    """The name of the checkpoint that is loaded, from Prometheus text; None where not said.

    It goes before the configuration's, which an environment variable of the server overrides.
    """
    for labels, _ in samples(metrics, _CHECKPOINT):
        return labels.get("name")
    return None


def samples(metrics: str, name: str) -> Iterator[tuple[dict[str, str], float]]:
    """Labels and values of one metric in Prometheus text."""
    for line in metrics.splitlines():
        sample = _SAMPLE.fullmatch(line)
        if sample and sample["name"] == name:
            labels = dict(_LABEL.findall(sample["labels"] or ""))
            yield labels, float(sample["value"])


def read_metrics(url: str, timeout: float = 2.0) -> str:
    """The Prometheus text at an http(s) address; "" where there is none to be had."""
    if urlsplit(url).scheme not in ("http", "https"):
        return ""
    proxies: dict[str, str] | None = {} if is_loopback(urlsplit(url).netloc) else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    try:
        with opener.open(url, timeout=timeout) as response:
            text: str = response.read(16 << 20).decode("utf-8", "replace")
            return text
    except (OSError, ValueError):
        return ""
