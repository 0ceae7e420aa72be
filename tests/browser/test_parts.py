"""A part of a clip, a loop, a loudness, several takes of one, and music from nothing."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Page, expect

from .actions import load, make, play_past, position, save

RATE = 44100


def drag(page: Page, start: float, end: float) -> None:
    """Drags over waveform A, between two shares of its width."""
    box = page.locator("#wave-a").bounding_box()
    assert box
    page.mouse.move(box["x"] + start * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + (start + end) / 2 * box["width"], box["y"] + 20)
    page.mouse.move(box["x"] + end * box["width"], box["y"] + 20)
    page.mouse.up()


def part(page: Page) -> tuple[str, str]:
    return page.locator("#start").input_value(), page.locator("#end").input_value()


def marked(page: Page, waveform: str) -> tuple[float, float] | None:
    """Where a part is marked on a waveform that is not played, as shares of its width."""
    opacities = page.evaluate(
        """(id) => {
            const canvas = document.querySelector(`${id} canvas`);
            const { width } = canvas;
            const often = { willReadFrequently: true };
            const copy = new OffscreenCanvas(width, 1).getContext("2d", often);
            copy.drawImage(canvas, 0, 0);
            const { data } = copy.getImageData(0, 0, width, 1);
            return [...data.filter((_, n) => n % 4 === 3)];
        }""",
        waveform,
    )
    edges = np.flatnonzero(np.array(opacities) == 255)  # nothing else is drawn so up there
    if not len(edges):
        return None
    return edges[0] / len(opacities), (edges[-1] + 1) / len(opacities)


@pytest.fixture
def fading_tone(tmp_path: Path) -> Path:
    """3 s of a tone that fades."""
    path = tmp_path / "fading.wav"
    time = np.arange(3 * RATE) / RATE
    mono = 0.2 * np.sin(2 * np.pi * 440 * time) * np.exp(-3 * time)
    soundfile.write(path, np.stack([mono, mono], axis=1), RATE, subtype="PCM_16")
    return path


def test_a_part_is_dragged_shown_and_changed_alone(page: Page, fading_tone: Path) -> None:
    load(page, fading_tone)
    assert part(page) == ("", "")
    drag(page, 0.7, 0.3)
    start, end = (float(at) for at in part(page))
    assert (start, end) == pytest.approx((0.9, 2.1), abs=0.03)
    assert marked(page, "#wave-a") == pytest.approx((0.3, 0.7), abs=0.01)
    assert position(page) == 0  # a drag does not seek
    make(page)
    assert marked(page, "#wave-b") == pytest.approx((0.3, 0.7), abs=0.01)
    expect(page.locator(".take .title small")).to_contain_text(f"{start:.2f} to {end:.2f} s")
    (source, _), (result, _) = (soundfile.read(path) for path in (fading_tone, save(page)[1]))
    first, last = int(start * RATE), int(end * RATE) + 1
    assert np.array_equal(result[:first], source[:first])
    assert np.array_equal(result[last:], source[last:])
    assert not np.allclose(result[first:last], source[first:last], atol=0.01)
    page.click("#whole")
    assert (part(page), marked(page, "#wave-a")) == (("", ""), None)
    make(page)
    assert "start" not in page.evaluate("window.sent[1]")
    drag(page, 0.2, 0.4)
    page.locator("#wave-b").click(position={"x": 200, "y": 20})
    assert position(page) > 0  # a click does


def test_a_part_is_typed_and_an_invalid_one_is_reported(page: Page, tone: Path) -> None:
    load(page, tone)
    page.get_by_label("Change from").fill("1.5")
    page.get_by_label("to", exact=True).fill("1.55")
    page.click("#make")
    expect(page.locator("#start-error")).to_contain_text("at least 0.1 s long")
    expect(page.locator("#start")).to_be_focused()
    page.get_by_label("to", exact=True).fill("4")
    expect(page.locator("#start-error")).to_be_hidden()
    page.click("#make")
    expect(page.locator("#start-error")).to_contain_text("within the clip's 3.00 s")
    assert page.evaluate("window.sent") == []
    page.get_by_label("to", exact=True).fill("")
    make(page)
    sent = page.evaluate("window.sent[0]")
    assert sent["start"] == "1.5"
    assert "end" not in sent


def test_another_clip_has_no_part(page: Page, tone: Path, fading_tone: Path) -> None:
    load(page, tone)
    drag(page, 0.5, 1.2)  # over the edge: up to the end
    assert part(page)[1] == ""
    assert float(part(page)[0]) == pytest.approx(1.5, abs=0.03)
    load(page, fading_tone)
    assert part(page) == ("", "")


def test_a_loop_is_asked_for_and_is_not_a_part(page: Page, tone: Path) -> None:
    load(page, tone)
    switch = page.get_by_label("Seamless loop")
    switch.check()
    make(page)
    assert page.evaluate("window.sent[0].loop") == "true"
    expect(page.locator(".take .title small")).to_contain_text("loop")
    assert soundfile.info(save(page)[1]).frames == soundfile.info(tone).frames
    page.fill("#start", "1")
    expect(switch).to_be_disabled()
    expect(switch).not_to_be_checked()
    expect(page.locator("#loop-note")).to_have_text("Not with a part: a loop is the whole clip.")


def test_loudness_is_the_sources_unless_asked_otherwise(page: Page, tone: Path) -> None:
    load(page, tone)
    make(page)
    page.locator("summary").click()
    loudness = page.get_by_label("Loudness of takes")
    loudness.select_option("as generated")
    make(page)
    loudness.select_option("a target in LUFS")
    page.get_by_label("LUFS, from -70 to 0").fill("-80")
    page.click("#make")
    expect(page.locator("#lufs-error")).to_have_text("Enter a number from -70 to 0.")
    page.get_by_label("LUFS, from -70 to 0").fill("0")
    make(page)
    assert [each["loudness"] for each in page.evaluate("window.sent")] == ["source", "none", "0"]
    newest = page.locator(".take .title small").first
    expect(newest).to_contain_text("quieter than requested: its peak is at -1 dBTP")


def test_takes_of_one_have_seeds_that_follow_each_other(page: Page, tone: Path) -> None:
    load(page, tone)
    page.fill("#seed", "2147483646")
    page.select_option("#count", "3")
    page.click("#make-takes")
    expect(page.locator(".take .save:visible")).to_have_count(3)
    seeds = page.locator(".take .reuse").all_inner_texts()
    assert seeds == ["seed 2147483646", "seed 2147483647", "seed 0"]
    sent = page.evaluate("window.sent")
    assert {(each["variation"], each["priority"]) for each in sent} == {("accordion_folk", "3")}
    files = [save(page, take) for take in range(3)]
    assert len({path.read_bytes() for _, path in files}) == 3
    assert files[2][0] == "tone-accordion_folk-0.wav"


def test_music_from_nothing(page: Page) -> None:
    expect(page.locator("#strength")).to_be_hidden()
    expect(page.locator("#start")).to_be_hidden()
    expect(page.locator("#loop")).to_be_hidden()
    page.get_by_role("button", name="Your own words").click()
    page.get_by_label("In your own words").fill("Lo-fi piano")
    page.get_by_label("Seconds of music").fill("0")
    page.click("#make")
    expect(page.locator("#duration-error")).to_have_text(
        "Enter a number of seconds from 0.1 to 200."
    )
    page.get_by_label("Seconds of music").fill("1.5")
    make(page)
    sent = page.evaluate("window.sent[0]")
    named = {"audio", "duration", "variation", "custom_prompt", "seed", "loudness", "previews"}
    assert sent.keys() == named
    name, file = save(page)
    assert name == "new-custom.wav"
    assert soundfile.info(file).duration == pytest.approx(1.5, abs=0.001)
    expect(page.locator("#hear-a")).to_be_disabled()
    expect(page.locator("#hear-b")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".take .compare")).to_be_hidden()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Space")
    play_past(page, 0.4)
    page.click("#play")
    page.click("#repeat")
    page.locator("#position").fill("1.3")
    page.click("#play")
    expect(page.locator("#play-label")).to_have_text("Play")  # it has come to the end


def test_a_take_that_comes_late_leaves_the_clip_in_place(page: Page, tone: Path) -> None:
    page.get_by_label("Seconds of music").fill("2")
    page.evaluate("() => { window.tamper = (form) => form.set('steps', '128'); }")
    page.click("#make")
    load(page, tone)
    expect(page.locator(".take .save:visible")).to_have_count(1)
    expect(page.locator("#name-a")).to_have_text("tone.wav")


def test_a_clip_is_put_away_and_comes_back(page: Page, tone: Path) -> None:
    load(page, tone)
    make(page)
    page.get_by_role("button", name="Remove the clip").click()
    expect(page.locator("#strength")).to_be_hidden()
    expect(page.locator("#name-a")).to_have_text("Your clip")
    page.get_by_label("Seconds of music").fill("1")
    make(page)
    page.get_by_role("button", name="Bring back tone.wav").click()
    expect(page.locator("#name-a")).to_have_text("tone.wav")
    expect(page.locator("#strength")).to_be_visible()
    # A take brings its clip, or none, with it.
    page.locator(".take").nth(0).get_by_role("button", name="Play").click()
    expect(page.locator("#name-a")).to_have_text("Your clip")
    page.locator(".take").nth(1).get_by_role("button", name="Play").click()
    expect(page.locator("#name-a")).to_have_text("tone.wav")
    expect(page.locator("#hear-b")).to_have_attribute("aria-pressed", "true")
