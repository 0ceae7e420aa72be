"""Servers behind Envoy killed, stopped and replaced while edits run: short forms of the drills."""

import os
import shutil
from pathlib import Path

import pytest

from ..drills import fleet as drills
from ..drills import upgrade
from .envoy import KEY, Fleet


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELODYFLOW_API_KEY", KEY)


def test_a_killed_server_loses_no_edit(fleet: Fleet) -> None:
    print(drills.killed(fleet, edits=16))


def test_a_server_that_hangs_loses_none_and_is_taken_back(fleet: Fleet) -> None:
    print(drills.stopped(fleet, edits=8))


def test_a_server_that_is_replaced_finishes_its_edits(fleet: Fleet) -> None:
    print(drills.restarted(fleet, most=1, clients=3))


def test_the_header_that_ends_servers_ends_none_behind_envoy(fleet: Fleet) -> None:
    print(drills.stormed(fleet, streams=100, seconds=120))


def test_a_gateway_that_is_upgraded_loses_none(fleet: Fleet, tmp_path: Path) -> None:
    if shutil.which("redis-server") is None:
        if os.environ.get("CI"):
            pytest.fail("no redis-server: .ci/run installs it")
        pytest.skip("needs redis-server (apt-get install redis-server)")
    print(upgrade.upgraded(fleet, tmp_path, rounds=1, each=1))
