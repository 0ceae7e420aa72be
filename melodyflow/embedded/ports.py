"""Chooses a server's ports on loopback."""

import random
import socket
from collections.abc import Mapping
from contextlib import suppress

from melodyflow.embedded.probe import HOST
from melodyflow.errors import EmbeddedError

# Port 0 means one of these. They are below the range Linux uses for outgoing connections: otherwise
# such a connection could take the port before Triton opens it, minutes later with a large model.
FREE_PORTS = range(20000, 32768)
# Held until this process ends: a server that is started again keeps its ports.
_claims: list[socket.socket] = []


def choose_ports(wanted: Mapping[str, int]) -> dict[str, int]:
    """Returns name -> port, with 0 replaced by a free port.

    Raises EmbeddedError, naming the port and its flag, if a port is taken, given twice or invalid.
    """
    given = [port for port in wanted.values() if port != 0]
    chosen: dict[str, int] = {}
    for name, port in wanted.items():
        flag = f"--{name}-port"
        if not 0 <= port <= 65535:
            raise EmbeddedError(f"{flag} {port}: must be from 0 (any free port) to 65535")
        if given.count(port) > 1:
            raise EmbeddedError(f"{flag} {port}: given twice; each port needs its own number")
        if port == 0:
            chosen[name] = _free_port({*given, *chosen.values()})
            continue
        try:
            _listen(port)
        except PermissionError:
            raise EmbeddedError(
                f"port {port} needs root; choose 1024 or higher with {flag}"
            ) from None
        except OSError:
            raise EmbeddedError(f"port {port} is in use; choose another with {flag}") from None
        chosen[name] = port
    return chosen


def _free_port(avoided: set[int]) -> int:
    for port in random.sample(FREE_PORTS, len(FREE_PORTS)):
        if port not in avoided:
            with suppress(OSError):
                _listen(port)
                _claim(port)
                return port
    raise EmbeddedError(f"no free port from {FREE_PORTS.start} to {FREE_PORTS.stop - 1}")


def _claim(port: int) -> None:
    """Keeps a free port from servers that start at the same time: Triton listens only once the
    model has loaded. Raises OSError where another has claimed it."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0melodyflow-port-{port}")  # abstract: no file, gone with its process
    except OSError:
        claim.close()
        raise
    _claims.append(claim)


def _listen(port: int) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(1)
