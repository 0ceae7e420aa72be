"""The short form of the drills: 200 hostile streams and 3 kills, and no honest edit is lost."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from .attackers import KILLED, KINDS
from .drill import ONE_A_CALL, STUB, TRITON, Gateway, Service
from .kills import Kind, kills
from .storm import storm

STREAMS = 200
PLANNED = [
    Kind(STUB, signal.SIGKILL),
    Kind(TRITON, signal.SIGKILL),
    Kind(STUB, signal.SIGSTOP),
]


@pytest.fixture(scope="module")
def service(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("storm") / "triton.log"
    with Service(checkpoint, log, *ONE_A_CALL) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(service: Service) -> Iterator[Gateway]:
    with Gateway(service.grpc_url, service.metrics_url) as running:
        yield running


def test_no_honest_edit_is_lost_in_a_storm(service: Service, gateway: Gateway) -> None:
    report = storm(service, gateway, STREAMS, seconds=120, seed=1)
    assert report.broken() == [], report.table()
    # Without them the promise says little.
    assert report.streams.sent() >= STREAMS
    assert {kind for kind, *_ in report.streams.ends} >= {*KINDS, KILLED} - {"burst"}


def test_it_comes_back_from_kills_and_no_edit_is_lost(service: Service, gateway: Gateway) -> None:
    report = kills(service, gateway, PLANNED, quiet=2)
    assert report.broken() == [], report.table()
    assert {delivery.client for delivery in report.deliveries} == {
        "SDK",
        "SDK asyncio",
        "gateway JSON",
        "gateway events",
        *("SDK 2", "SDK asyncio 2", "gateway JSON 2", "gateway events 2"),
    }
