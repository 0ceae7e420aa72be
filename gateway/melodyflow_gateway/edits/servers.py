"""The metrics of all servers behind one name."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit, urlunsplit

from melodyflow_client.status import read_metrics


def read_all_metrics(url: str, timeout: float) -> list[str]:
    """The Prometheus text of each server that answers within `timeout` seconds."""
    urls = each_address(url)
    with ThreadPoolExecutor(len(urls)) as pool:
        return [text for text in pool.map(lambda one: read_metrics(one, timeout), urls) if text]


def each_address(url: str) -> list[str]:
    """The URL for each address of its host: IPv4 where it has any, for a server may have both.

    One with a single address stays as it is, and so does one over TLS, which needs the name.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
        if parts.scheme != "http" or not host:
            return [url]
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):  # no such name, not a port: whoever reads it finds out
        return [url]
    ipv4 = dict.fromkeys(f"{to[0]}:{port}" for family, *_, to in found if family == socket.AF_INET)
    ipv6 = dict.fromkeys(
        f"[{to[0]}]:{port}" for family, *_, to in found if family == socket.AF_INET6
    )
    places = list(ipv4 or ipv6)
    if len(places) < 2:
        return [url]
    return [urlunsplit(parts._replace(netloc=place)) for place in places]
