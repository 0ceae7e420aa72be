"""Where the server and its metrics are."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

SERVER_VARIABLE = "MELODYFLOW_SERVER"
DEFAULT_SERVER = "127.0.0.1:8001"


def server_address(server: str | None = None) -> str:
    """`host:port` of the gRPC endpoint: the argument, $MELODYFLOW_SERVER, or 127.0.0.1:8001."""
    address = server or os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER
    for scheme in ("grpc://", "http://"):
        address = address.removeprefix(scheme)
    return address.rstrip("/")


def metrics_address(server: str, given: str | None = None) -> str | None:
    """The URL of Triton's metrics: `given`, a URL or host:port, else two ports above gRPC.

    The gateway has the port between them. None: there is no port to count from, as with unix:/path.
    """
    if given is not None:
        return given if "://" in given else f"http://{given}/metrics"
    parts = urlsplit(f"//{server}")
    try:
        if parts.hostname and parts.port:
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            return f"http://{host}:{parts.port + 2}/metrics"
    except ValueError:  # not a port
        pass
    return None


def is_loopback(server: str) -> bool:
    """Whether `host:port` is this machine, which no proxy reaches."""
    host = urlsplit(f"//{server}").hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
