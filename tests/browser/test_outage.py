"""The music server is killed in mid-edit: the page says so, and the take comes home."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from playwright.sync_api import expect

from ..gateway.mortal import Mortal
from .actions import ALL_STEPS, load, save
from .conftest import Visit, started_gateway

AWAY = "The server is restarting; your edit continues when it's back."


@pytest.fixture
def mortal(checkpoint: Path) -> Iterator[Mortal]:
    server = Mortal(checkpoint)
    server.start()
    yield server
    server.stop()


def test_a_server_killed_in_mid_edit_is_waited_for(
    visit: Visit, mortal: Mortal, long_tone: Path
) -> None:
    with started_gateway(mortal.address, "--metrics", mortal.metrics) as address:
        page = visit(address=address)
        load(page, long_tone)
        page.evaluate(ALL_STEPS)
        page.click("#make")
        doing, bar = page.locator(".take .doing"), page.locator(".take progress")
        expect(doing).to_have_text(re.compile(r"analysing the clip, [1-9]\d* %"))
        mortal.kill()
        expect(doing).to_have_text(AWAY)
        reached = bar.evaluate("bar => bar.value")
        assert reached > 0
        mortal.start()
        expect(doing).to_contain_text("%")
        assert bar.evaluate("bar => bar.value") >= reached
        page.locator(".take .save:visible").wait_for()
        assert soundfile.info(save(page)[1]).frames == soundfile.info(long_tone).frames
