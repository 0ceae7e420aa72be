"""From a file on the page to the edited file: the way everybody goes."""

from pathlib import Path

import soundfile
from playwright.sync_api import Page, expect

from .actions import ALL_STEPS, drop, heard, load, make, play_past, save


def test_a_dropped_file_becomes_another_arrangement(page: Page, tone: Path) -> None:
    drop(page, tone)
    expect(page.locator("#name-a")).to_have_text("tone.wav")
    expect(page.locator("#facts-a")).to_have_text("3.0 s · WAV · 44.1 kHz · stereo · 16 bit")
    page.get_by_label("Strings quartet").check()
    page.evaluate(ALL_STEPS)
    page.evaluate("watch()")
    make(page)
    seen = page.evaluate("window.seen")
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert len(set(shares)) > 3
    stages = {words.partition(",")[0] for _, words in seen}
    assert {"analysing the clip", "generating"} <= stages

    page.click("#play")
    play_past(page, 0.3)
    assert abs(heard(page)).max() > 0.001
    page.click("#play")

    name, file = save(page)
    assert name == "tone-strings_quartet.wav"
    source, result = soundfile.info(tone), soundfile.info(file)
    assert result.format == "WAV"
    assert (result.frames, result.samplerate) == (source.frames, source.samplerate)
    assert (result.channels, result.subtype) == (source.channels, source.subtype)


def test_own_words(page: Page, tone: Path) -> None:
    load(page, tone)
    page.get_by_role("button", name="Your own words").click()
    page.get_by_label("In your own words").fill("Solo cello, slow")
    make(page)
    expect(page.locator(".take .title strong")).to_have_text("Solo cello, slow")
    assert page.evaluate("window.sent[0].custom_prompt") == "Solo cello, slow"
    assert save(page)[0] == "tone-custom.wav"


def test_the_strength_is_shown_in_words_and_sent(page: Page, tone: Path) -> None:
    load(page, tone)
    slider = page.get_by_label("Strength of the change")
    said = []
    for strength in ("0.82", "0.88", "0.95"):
        slider.fill(strength)
        said.append(page.locator("#strength-words").inner_text())
    assert said == ["keep most of it", "an even balance", "change most of it"]
    expect(page.locator("#strength-number")).to_contain_text("Strength 0.950, flowstep 0.050")
    meaning = "0 = most change, towards 1 = the source is kept"
    expect(page.locator("#strength-number")).to_contain_text(meaning)
    make(page)
    assert page.evaluate("window.sent[0].strength") == "0.950"


def test_the_page_says_what_runs_and_that_takes_are_generated(page: Page) -> None:
    expect(page.locator("#server")).to_have_text("tiny · unknown licence")
    expect(page.locator("footer")).to_contain_text("All takes are AI-generated")
    expect(page.locator("footer")).to_contain_text(
        "Made with tiny (licence of the weights: unknown)."
    )
