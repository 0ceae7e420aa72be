"""The metrics of several servers behind one name, added up."""

import asyncio
import http.server
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from melodyflow_client import AsyncMelodyFlowClient
from melodyflow_gateway.edits.servers import each_address, read_all_metrics
from melodyflow_gateway.edits.triton import Triton

TEXT = """melodyflow_slots {slots}
nv_cpu_utilization {cpu}
nv_cpu_memory_used_bytes 1
nv_cpu_memory_total_bytes 4
melodyflow_evaluation_seconds_sum 3
melodyflow_evaluation_seconds_count {slots}
"""


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        last = int(self.server.server_address[0].rpartition(".")[2])  # type: ignore[union-attr]
        text = TEXT.format(slots=2 * last, cpu=last / 10).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of two servers, at 127.0.0.2 and 127.0.0.3, which `triton` names, beside one that is gone."""
    first = http.server.ThreadingHTTPServer(("127.0.0.2", 0), Answers)
    made = int(first.server_address[1])
    servers = [first, http.server.ThreadingHTTPServer(("127.0.0.3", made), Answers)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    names(monkeypatch, "127.0.0.2", "127.0.0.3", "127.0.0.4")
    yield made
    for server in servers:
        server.shutdown()
        server.server_close()


def names(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """What the name `triton` stands for."""
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *more: Any, **how: Any) -> Any:
        if host != "triton":
            return real(host, port, *more, **how)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [found for one in addresses for found in real(one, port, *more, **how)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_all_that_answer_are_read(port: int) -> None:
    texts = read_all_metrics(f"http://triton:{port}/metrics", 5.0)
    assert sorted(text.split()[1] for text in texts) == ["4", "6"]


def test_slots_add_up_and_the_load_is_the_mean(port: int) -> None:
    async def look() -> Triton:
        async with AsyncMelodyFlowClient("127.0.0.1:1", metrics_url=f"triton:{port}") as client:
            triton = Triton(client)
            await triton.status()
            return triton

    triton = asyncio.run(look())
    assert triton.slots == 4 + 6
    assert triton.resources.cpu_percent == 25.0
    assert triton.resources.memory_percent == 25.0


@pytest.mark.parametrize(
    ("addresses", "places"),
    [
        ((), ["triton"]),
        (("127.0.0.1",), ["triton"]),
        (("::1", "127.0.0.1"), ["triton"]),  # one server
        (("127.0.0.1", "127.0.0.1"), ["triton"]),
        (("::1", "127.0.0.1", "127.0.0.2"), ["127.0.0.1", "127.0.0.2"]),
        (("::1", "::2"), ["[::1]", "[::2]"]),
    ],
)
def test_a_name_is_its_addresses_of_one_family(
    addresses: tuple[str, ...], places: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, *addresses)
    assert each_address("http://triton:8002/metrics") == [
        f"http://{place}:8002/metrics" for place in places
    ]


@pytest.mark.parametrize(
    "url", ["", "https://triton:8002/metrics", "http://triton:x/metrics", "http://[triton/"]
)
def test_what_has_no_addresses_stays_as_it_is(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, "127.0.0.1", "127.0.0.2")
    assert each_address(url) == [url]
