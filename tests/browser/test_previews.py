"""Takes that are heard while they form: drawn, played, stopped and kept, refined, drafted."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Page, expect

from melodyflow.embedded import EmbeddedServer

from ..server.conftest import read_metrics
from .actions import ALL_STEPS, heard, in_each_scheme, load, make, play_past, position, save
from .conftest import PHONE, Visit
from .test_layout import SIDEWAYS
from .test_listening import loudness_of
from .test_takes import CANCELLED, HONEST, wait_for

LONG = "() => { window.tamper = (form) => form.set('steps', '40'); }"
# Notes [what the newest take is, its waveform as a picture] at each preview.
WATCH_FORMS = """() => {
    window.forms = [];
    new MutationObserver(() => {
        const facts = document.querySelector(".take .title small")?.textContent ?? "";
        if (!facts.startsWith("preview") || facts === window.forms.at(-1)?.[0]) return;
        window.forms.push([facts, document.querySelector(".take wave-form canvas").toDataURL()]);
    }).observe(document.querySelector("#takes"), { subtree: true, childList: true });
}"""
FACTS = ".take .title small"
PREVIEW = re.compile(r"^preview, step \d+ of \d+ · strength")


def begin(page: Page, clip: Path) -> None:
    """Begins a long take and waits for its first preview."""
    load(page, clip)
    page.evaluate(LONG)
    page.click("#make")
    expect(page.locator(FACTS)).to_have_text(PREVIEW)


def test_a_take_is_drawn_and_played_while_it_forms(page: Page, long_tone: Path) -> None:
    page.evaluate("watch()")
    page.evaluate(WATCH_FORMS)
    begin(page, long_tone)
    expect(page.locator(".take progress")).to_be_visible()
    expect(page.locator("#facts-b")).to_contain_text("preview,")
    expect(page.locator("#stage-note")).to_contain_text("B is forming; the line is A's waveform.")
    assert min(page.evaluate("drawn('#wave-b')")) > 500  # the clip's outline, too
    page.click("#play")
    starts = page.evaluate("window.starts")
    expect(page.locator("#hear-b")).to_have_attribute("aria-pressed", "true")
    page.wait_for_function(f"() => window.starts > {starts}")  # a newer one plays
    play_past(page, position(page))
    assert abs(heard(page)).max() > 0.001
    page.locator(".take .save:visible").wait_for()
    expect(page.locator("#play-label")).to_have_text("Pause")  # it goes on with the result
    expect(page.locator("#facts-b")).not_to_contain_text("preview")
    assert page.evaluate("drawn('#wave-b')[1]") == 0
    for scheme in in_each_scheme(page):
        assert page.evaluate("Math.min(...contrasts('#wave-b'))") >= 4.5, scheme
    assert page.evaluate("urls.size") == 1
    forms = page.evaluate("window.forms")
    steps = [int(re.findall(r"\d+", facts)[0]) for facts, _ in forms]
    assert len(steps) > 1
    assert steps == sorted(steps)
    assert len({picture for _, picture in forms}) > 1
    told = [text for text in page.evaluate("window.told") if "preview" in text]
    assert told == ["Accordion folk: a preview can be played."]


def test_what_is_stopped_is_kept_and_says_so(
    page: Page, long_tone: Path, server: EmbeddedServer
) -> None:
    before = read_metrics(server.metrics_url).get(CANCELLED, 0)
    page.locator("summary").click()
    page.select_option("#loudness", "none")
    begin(page, long_tone)
    page.locator(".take .stop").focus()
    page.keyboard.press("Enter")
    facts = page.locator(FACTS)
    expect(facts).to_have_text(re.compile(r"^unfinished, step \d+ of \d+ · strength"))
    expect(page.locator(".take .listen")).to_be_focused()
    expect(page.locator("#announcer")).to_have_text(
        re.compile(r"^Accordion folk stopped: unfinished, step \d+ of \d+\.$")
    )
    expect(page.locator("#facts-b")).to_contain_text("unfinished")
    wait_for(lambda: read_metrics(server.metrics_url).get(CANCELLED, 0) == before + 1)
    name, file = save(page)
    found = re.fullmatch(r"long-accordion_folk-unfinished-(\d+)-of-(\d+)\.flac", name)
    assert found
    assert f"step {found[1]} of {found[2]}" in facts.inner_text()
    source, kept = soundfile.info(long_tone), soundfile.info(file)
    assert (kept.format, kept.frames, kept.samplerate) == ("FLAC", source.frames, source.samplerate)
    lower = loudness_of(long_tone) - loudness_of(file)
    assert lower > 1  # or this shows nothing
    expect(page.locator("#stage-note")).to_have_text(
        f"A and B play at equal loudness (BS.1770): A is turned down {lower:.1f} dB."
    )
    assert page.evaluate("urls.size") == 1

    page.evaluate(HONEST)
    page.locator(".take .refine").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => window.sent.length === 2")
    page.locator(".take .listen").last.focus()
    page.keyboard.press("f")
    page.wait_for_function("() => window.sent.length === 3")
    stopped, refined, final = page.evaluate("window.sent")
    assert refined == {**stopped, "steps": "80", "session_id": refined["session_id"]}
    del stopped["steps"]  # the test's own
    assert final == {**stopped, "session_id": final["session_id"]}
    for left in (2, 1, 0):
        page.keyboard.press("Delete")
        expect(page.locator(".take")).to_have_count(left)
    assert page.evaluate("urls.size") == 0


def test_a_draft_becomes_final_with_one_key(page: Page, tone: Path) -> None:
    load(page, tone)
    page.evaluate(ALL_STEPS)
    page.get_by_label("Draft first").check()
    make(page)
    expect(page.locator(FACTS)).to_contain_text("draft of 4 steps")
    assert save(page)[0] == "tone-accordion_folk-draft.wav"
    expect(page.locator(".take .refine")).to_be_hidden()
    page.locator("#seed").focus()
    page.keyboard.press("f")  # typed
    page.locator("#play").focus()
    page.keyboard.press("f")
    expect(page.locator(".take .save:visible")).to_have_count(2)
    page.keyboard.press("f")  # B is the final one now
    draft, final = page.evaluate("window.sent")
    assert draft["steps"] == "4"
    assert final == {**{name: draft[name] for name in draft if name != "steps"}, **final}
    assert "steps" not in final
    expect(page.locator(".take .final:visible")).to_have_count(1)
    page.locator(".take .refine:visible").click()
    expect(page.locator(".take .save:visible")).to_have_count(3)
    refined = page.evaluate("window.sent[2]")
    assert (refined["steps"], refined["seed"]) == ("50", draft["seed"])
    expect(page.locator(FACTS).first).to_contain_text("50 steps")
    assert save(page)[0] == "tone-accordion_folk-50-steps.wav"


def test_several_drafts_are_taken_at_once(page: Page, tone: Path) -> None:
    load(page, tone)
    page.get_by_label("Draft first").check()
    page.click("#make-takes")
    expect(page.locator(".take .final:visible")).to_have_count(4)
    assert [each["steps"] for each in page.evaluate("window.sent")] == ["4"] * 4
    seed = page.locator(".take .reuse").nth(2).inner_text()
    page.locator(".take .listen").nth(2).focus()
    page.keyboard.press("f")
    expect(page.locator(".take .save:visible")).to_have_count(5)
    sent = page.evaluate("window.sent")
    assert f"seed {sent[4]['seed']}" == seed
    assert not {"steps", "priority"} & sent[4].keys()


def test_previews_that_cannot_be_had_cost_nothing(page: Page, tone: Path) -> None:
    asked = []

    def answer(route):  # type: ignore[no-untyped-def]
        asked.append(route.request.url)
        route.fulfill(status=200, content_type="audio/flac", body="fLaC, but no more of it")

    page.route("**/preview/**", answer)
    load(page, tone)
    page.evaluate(LONG)
    make(page)
    assert asked
    assert soundfile.info(save(page)[1]).frames == soundfile.info(tone).frames
    expect(page.locator(FACTS)).not_to_contain_text("preview")


def test_a_phone_shows_all_of_it(visit: Visit, long_tone: Path) -> None:
    """And where motion is to be reduced nothing moves between two previews; nor is it told of
    them, after the first."""
    page = visit(PHONE)
    page.emulate_media(reduced_motion="reduce")
    begin(page, long_tone)
    page.evaluate("watchForming()")
    page.wait_for_function("() => window.facts.size > 1")
    assert page.evaluate("window.pictures.size") <= page.evaluate("window.facts.size")
    assert page.evaluate("window.animations") == 0
    said = page.evaluate("window.said")
    assert [text for text in said if "preview" in text or "step" in text] == []
    assert page.evaluate(SIDEWAYS) == 0
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator(".take .save")).to_be_visible()
    assert page.evaluate(SIDEWAYS) == 0
    contrast, text = page.evaluate("lowestContrast()")
    assert contrast >= 4.5, text


@pytest.mark.parametrize("to", [0.5, -0.5])
def test_a_newer_preview_takes_over_without_a_click(page: Page, to: float) -> None:
    """From a level of 0.5 to another one: no sample is far from the one before it."""
    page.evaluate(
        """async () => {
            const { Player } = await import("/static/src/audio/player.js");
            window.player = new Player();
            window.flat = (level) => {
                const buffer = new AudioBuffer({ length: 441000, sampleRate: 44100 });
                buffer.getChannelData(0).fill(level);
                return buffer;
            };
            player.load("b", flat(0.5));
        }"""
    )
    page.click("h1")  # sound needs a gesture
    page.evaluate("player.play()")
    page.wait_for_function("() => player.position > 0.3")
    for _ in range(50):  # until a look is in time
        samples = np.array(
            page.evaluate(
                """async (level) => {
                    player.load("b", flat(level));
                    player.level({ a: 0, b: 0 });
                    await new Promise((resolve) => setTimeout(resolve, 90));
                    return heard();
                }""",
                to,
            )
        )
        if abs(samples[0] - 0.5) < 0.01 and abs(samples[-1] - to) < 0.01:
            break
        page.evaluate("player.load('b', flat(0.5))")
        page.wait_for_timeout(400)
    else:
        raise AssertionError("the change was never seen")
    assert np.abs(np.diff(samples)).max() < 0.02
    if to == 0.5:
        assert np.abs(samples - 0.5).max() < 0.02
    page.evaluate("player.stop()")
