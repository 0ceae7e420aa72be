"""What a server says about itself."""

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
    """Whether a server is ready, and what it serves.

    live, ready: the server's. model_ready: the server accepts edits.
    version: Triton's. checkpoint: its name from the metrics, else its folder from the model's
        configuration.
    pending: edits in the queue; None: the metrics can't be reached.
    limits: by the names of the server's settings; None: it doesn't say.
    error: why the server couldn't be asked.
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
    """How many edits are queued for `model`, from Prometheus text; None: not in it."""
    for labels, value in _samples(metrics, _PENDING):
        if labels.get("model") == model:
            return int(value)
    return None


def loaded_checkpoint(metrics: str) -> str | None:
    """The name of the loaded checkpoint, from Prometheus text; None: not in it.

    It takes precedence over the configuration's, which the server's environment may override.
    """
    for labels, _ in _samples(metrics, _CHECKPOINT):
        return labels.get("name")
    return None


def _samples(metrics: str, name: str) -> Iterator[tuple[dict[str, str], float]]:
    """Labels and values of one metric in Prometheus text."""
    for line in metrics.splitlines():
        sample = _SAMPLE.fullmatch(line)
        if sample and sample["name"] == name:
            labels = dict(_LABEL.findall(sample["labels"] or ""))
            yield labels, float(sample["value"])


def read_metrics(url: str, timeout: float = 2.0) -> str:
    """The Prometheus text at an http(s) address; "" if it can't be had within `timeout` seconds."""
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
