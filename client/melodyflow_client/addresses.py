"""Where the server is, and how the channel to it is set."""

from __future__ import annotations

import ipaddress
import os
from typing import Any
from urllib.parse import urlsplit

SERVER_VARIABLE = "MELODYFLOW_SERVER"
DEFAULT_SERVER = "127.0.0.1:8001"
_LARGEST_MESSAGE = 2**31 - 1


def server_address(server: str | None = None) -> str:
    """`host:port` of the gRPC endpoint: the argument, $MELODYFLOW_SERVER, or 127.0.0.1:8001."""
    address = server or os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER
    for scheme in ("grpc://", "http://"):
        address = address.removeprefix(scheme)
    return address.rstrip("/")


def metrics_address(server: str, given: str | None = None) -> str | None:
    """The URL of Triton's metrics: the one given, or two ports above gRPC, where this project has
    them: the gateway's port lies between.

    `given` may be a mere host:port.
    """
    if given is not None:
        return given if "://" in given else f"http://{given}/metrics"
    parts = urlsplit(f"//{server}")
    try:
        if parts.hostname and parts.port:
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            return f"http://{host}:{parts.port + 2}/metrics"
    except ValueError:  # a port that is none, unix:/path
        pass
    return None


def is_loopback(server: str) -> bool:
    """Whether `host:port` is this machine, which no proxy can reach."""
    host = urlsplit(f"//{server}").hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def channel_options(server: str) -> list[tuple[str, Any]]:
    """gRPC channel arguments: whole clips as messages, quick reconnects, dead peers noticed."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", _LARGEST_MESSAGE),
        ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
        # Triton ends connections that ping more often than every 5 minutes while no data flows
        # (its --grpc-http2-min-recv-ping-interval-without-data), as in a queue.
        ("grpc.keepalive_time_ms", 310_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
        # gRPC's own reconnects must not lag behind the retries here.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]
    if is_loopback(server):
        options.append(("grpc.enable_http_proxy", 0))
    return options
