"""A and B: what is heard, where, and how loud."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Page, expect

from melodyflow.audio import loudness

from .actions import heard, is_tone, load, make, play_past, position, save

RATE = 44100


def loudness_of(path: Path) -> float:
    """In LUFS."""
    samples, rate = soundfile.read(path, dtype="float32")
    found = loudness.integrated(samples.T, rate)
    assert found is not None
    return found


@pytest.fixture
def listening(page: Page, long_tone: Path) -> Page:
    """The page with a take of the long tone, which is B and is to be heard."""
    load(page, long_tone)
    make(page)
    expect(page.locator("#hear-b")).to_have_attribute("aria-pressed", "true")
    return page


def test_one_key_switches_what_is_heard_and_the_position_is_kept(listening: Page) -> None:
    page = listening
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Space")
    play_past(page, 0.5)
    rate = page.evaluate("window.tap.context.sampleRate")
    assert not is_tone(heard(page), rate)
    started, before = page.evaluate("window.starts"), position(page)
    page.keyboard.press("x")
    expect(page.locator("#hear-a")).to_have_attribute("aria-pressed", "true")
    play_past(page, position(page) + 0.4)  # what is heard comes from a window of 0.2 s
    assert is_tone(heard(page), rate)
    page.keyboard.press("x")
    play_past(page, position(page) + 0.4)
    assert not is_tone(heard(page), rate)
    assert position(page) > before
    assert page.evaluate("window.starts") == started  # both play on in step: only gains change
    page.keyboard.press("Space")
    stopped = position(page)
    page.keyboard.press("x")
    assert position(page) == stopped


def test_both_are_equally_loud(listening: Page, long_tone: Path) -> None:
    page = listening
    clip, take = (loudness_of(path) for path in (long_tone, save(page)[1]))
    assert clip > take + 1  # or this test shows nothing
    lower = f"A is turned down {clip - take:.1f} dB"
    expect(page.locator("#stage-note")).to_have_text(
        f"A and B play at equal loudness (BS.1770): {lower}."
    )
    page.click("#hear-a")
    page.click("#play")
    play_past(page, 0.5)
    level = np.sqrt(np.mean(heard(page) ** 2))
    assert level == pytest.approx(0.9 / np.sqrt(2) * 10 ** ((take - clip) / 20), rel=0.03)


def test_what_has_no_loudness_is_played_as_it_is(page: Page, tmp_path: Path) -> None:
    short = tmp_path / "short.wav"
    soundfile.write(short, np.full((int(0.3 * RATE), 2), 0.1), RATE)
    load(page, short)
    make(page)
    expect(page.locator("#stage-note")).to_have_text(
        "A and B play at their own levels: one is silent or under 0.4 s."
    )


def test_seeking_and_repeating(page: Page, tone: Path) -> None:
    load(page, tone)
    make(page)
    page.locator("#position").fill("2.5")
    assert position(page) == 2.5
    page.click("#play")
    page.wait_for_function(
        "() => Number(document.querySelector('#position').value) < 1"
    )  # around again
    page.click("#repeat")
    page.locator("#position").fill("2.7")
    expect(page.locator("#play-label")).to_have_text("Play")  # it has come to the end
    assert position(page) == pytest.approx(3, abs=0.05)
    box = page.locator("#wave-a").bounding_box()
    assert box
    page.locator("#wave-a").click(position={"x": box["width"] / 3, "y": 20})
    assert position(page) == pytest.approx(1, abs=0.06)
    expect(page.locator("#hear-a")).to_have_attribute("aria-pressed", "true")
