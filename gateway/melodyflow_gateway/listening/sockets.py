"""The listening socket, and what connections inherit from it."""

from __future__ import annotations

import socket
import struct
from asyncio import BaseTransport, Transport

from melodyflow_client.errors import InvalidRequest

# Also how many connections asyncio accepts at a time, before it looks at any of them.
BACKLOG = 128

# A client that vanished without a word is noticed within a minute, whoever's turn it is: by probes
# where nothing is under way, by unanswered data otherwise. Connections inherit both.
_IDLE_SECONDS, _PROBE_SECONDS, _PROBES = 30, 10, 3
_UNANSWERED_SECONDS = 45


def listen(host: str, port: int) -> socket.socket:
    """Raises InvalidRequest where the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise InvalidRequest(f"port: cannot listen on {host}:{port}: {error.strerror}") from None
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, _IDLE_SECONDS),
        (socket.TCP_KEEPINTVL, _PROBE_SECONDS),
        (socket.TCP_KEEPCNT, _PROBES),
        (socket.TCP_USER_TIMEOUT, 1000 * _UNANSWERED_SECONDS),
    ):
        listening.setsockopt(socket.IPPROTO_TCP, option, value)
    return listening


def reset(transport: BaseTransport) -> None:
    """Ends a connection whose client doesn't read: the kernel drops what it holds, up to megabytes,
    instead of offering it for another minute."""
    assert isinstance(transport, Transport)
    client = transport.get_extra_info("socket")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
