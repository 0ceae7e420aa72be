"""Where the server and its metrics are, and the key that opens it."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from .errors import InvalidRequest

SERVER_VARIABLE = "MELODYFLOW_SERVER"
KEY_VARIABLE = "MELODYFLOW_API_KEY"
DEFAULT_SERVER = "127.0.0.1:8001"


_SCHEMES = {"grpc": False, "http": False, "grpcs": True, "https": True}  # whether it means TLS


def server_address(server: str | None = None) -> tuple[str, bool]:
    """`host:port` of the gRPC endpoint, and whether its scheme asks for TLS (https, grpcs).

    It is the argument, else $MELODYFLOW_SERVER, else 127.0.0.1:8001.
    """
    given = (server or os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER).rstrip("/")
    scheme, separator, rest = given.partition("://")
    if separator and scheme.lower() in _SCHEMES:
        return rest, _SCHEMES[scheme.lower()]
    return given, False


def api_key(given: str | None = None) -> str | None:
    """The key for a server that asks for one: the argument, else $MELODYFLOW_API_KEY, else None.

    Raises InvalidRequest for one that a header can't hold, without showing it.
    """
    key = given or os.environ.get(KEY_VARIABLE) or None
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise InvalidRequest(
            "api_key: has a blank, a control character or one that isn't ASCII; "
            "give the key alone, on one line"
        )
    return key


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
