"""A name server that knows one name."""

import socket
import struct
import threading
from collections.abc import Sequence
from typing import Any, Self

A = 1  # the type of an IPv4 address
TTL = 600  # seconds, as Docker's: whoever keeps it so long notices no change


class NameServer:
    """Answers over UDP on loopback; a context manager. addresses: of `triton`, may be changed."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = addresses
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._answer, daemon=True)

    def resolver(self) -> dict[str, Any]:
        """The part of Envoy's configuration that has it ask here."""
        port = self._socket.getsockname()[1]
        cares = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
        where = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        typed = {"@type": f"type.googleapis.com/{cares}", "resolvers": [where]}
        return {"name": "envoy.network.dns_resolver.cares", "typed_config": typed}

    def _answer(self) -> None:
        while True:
            question, client = self._socket.recvfrom(512)
            if not question:
                return
            end = question.index(0, 12)  # of the name
            name = question[13 : 13 + question[12]]
            (kind,) = struct.unpack(">H", question[end + 1 : end + 3])
            found = self.addresses if (name, kind) == (b"triton", A) else ()
            answer = question[:2] + struct.pack(">5H", 0x8580, 1, len(found), 0, 0)
            answer += question[12 : end + 5]
            for address in found:
                answer += struct.pack(">HHHIH", 0xC00C, A, 1, TTL, 4) + socket.inet_aton(address)
            self._socket.sendto(answer, client)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()
