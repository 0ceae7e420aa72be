"""Each attack of scripts/attack for a second: memory stays within its bound, honest edits come
home. How fast is measured by the script."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from melodyflow.embedded import EmbeddedServer

from .attack import ATTACKS, address_of, honest_edit, memory_of, most_bytes
from .attacks.clients import Heard, session_from
from .conftest import Running, Start

SECONDS = 1.2


@pytest.fixture(scope="module")
def attacked(server: EmbeddedServer, start_gateway: Start) -> Running:
    """A gateway with so little memory that the attacks would take more."""
    return start_gateway(
        server.grpc_url,
        server.metrics_url,
        EDITS_PER_MINUTE="100000",
        CONCURRENT_EDITS="1000",
        MEMORY_BYTES=str(2**28),
        SESSION_BYTES=str(2**26),
    )


@pytest.mark.parametrize("name", ATTACKS)
def test_memory_is_bounded_and_honest_edits_come_home(attacked: Running, name: str) -> None:
    going = ATTACKS[name](attacked.url, address_of(name))
    next(going)
    pid = attacked.process.pid
    memory_of(pid, reset=True)
    client = session_from("127.0.0.1")

    def attack() -> Heard:
        try:
            going.send(time.time() + SECONDS)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        raise AssertionError("it goes on")

    with ThreadPoolExecutor(1) as pool:
        attacking = pool.submit(attack)
        edits = 0
        while not attacking.done() or not edits:
            honest_edit(client, attacked.url, edits := edits + 1)
            assert client.get(f"{attacked.url}/health").status_code == 200
        heard = attacking.result()
    assert sum(heard.values()) > 0
    most = most_bytes(attacked.url)
    assert most is not None
    assert memory_of(pid) <= most
    assert not [line for line in attacked.said if "traceback" in line]
