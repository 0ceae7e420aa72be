"""The takes of a visit: many at once, seeds, failures, leaving one off."""

import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, expect

from melodyflow.embedded import EmbeddedServer

from ..server.conftest import read_metrics
from .actions import heard, is_tone, load, make, play_past, position, save

CANCELLED = 'melodyflow_edits_total{outcome="cancelled"}'
SLOW = "() => { window.tamper = (form) => form.set('steps', '128'); }"
HONEST = "() => { window.tamper = null; }"


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def seeds(page: Page) -> list[str]:
    return page.locator(".take .reuse:visible").all_inner_texts()


def test_cancelling_ends_the_edit_on_the_server(
    page: Page, long_tone: Path, server: EmbeddedServer
) -> None:
    load(page, long_tone)
    page.evaluate(SLOW)
    before = read_metrics(server.metrics_url).get(CANCELLED, 0)
    page.click("#make")
    page.wait_for_function("() => document.querySelector('.take progress').value > 0")
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.locator(".take")).to_have_count(0)
    expect(page.locator("#make")).to_be_focused()
    wait_for(lambda: read_metrics(server.metrics_url).get(CANCELLED, 0) == before + 1)


def test_six_at_once_with_one_seed(page: Page, tone: Path) -> None:
    load(page, tone)
    names = page.locator("#six-names li").all_inner_texts()
    assert len(set(names)) == 6
    page.click("#try-six")
    expect(page.locator(".take")).to_have_count(6)
    expect(page.locator(".take .save:visible")).to_have_count(6)
    assert page.locator(".take .title strong").all_inner_texts() == names
    assert len(set(seeds(page))) == 1
    sent = page.evaluate("window.sent")
    assert {each["priority"] for each in sent} == {"3"}
    files = {save(page, take)[1].read_bytes() for take in range(6)}
    assert len(files) == 6
    page.click("#other-six")
    assert page.locator("#six-names li").all_inner_texts() != names


def test_one_failure_harms_no_other_and_can_be_tried_again(
    page: Page, tone: Path, complaints: list[str]
) -> None:
    load(page, tone)
    page.evaluate(
        """() => {
            let edits = 0;
            window.tamper = (form) => {
                if (++edits === 3) form.set("solver", "rk4");
            };
        }"""
    )
    page.click("#try-six")
    expect(page.locator(".take .save:visible")).to_have_count(5)
    failed = page.locator(".take .failed:visible")
    expect(failed.locator(".error")).to_contain_text("Solver: 'rk4'")
    page.evaluate(HONEST)
    failed.get_by_role("button", name="Try again").click()
    expect(page.locator(".take .save:visible")).to_have_count(6)
    assert [text for text in complaints if "400" in text]
    complaints.clear()


def test_all_of_a_sweep_can_be_cancelled(page: Page, long_tone: Path) -> None:
    load(page, long_tone)
    page.evaluate(SLOW)
    page.click("#try-six")
    page.click("#cancel-all")
    expect(page.locator(".take")).to_have_count(0)
    page.evaluate(HONEST)
    make(page)  # nothing is left that would come back
    expect(page.locator(".take")).to_have_count(1)


def test_the_seed_is_kept_typed_or_new(page: Page, tone: Path) -> None:
    load(page, tone)
    make(page)
    make(page)
    first, again = save(page, 1)[1].read_bytes(), save(page, 0)[1].read_bytes()
    assert first == again
    kept = seeds(page)[0]
    make(page, "#new-take")
    assert seeds(page)[0] != kept
    page.get_by_role("button", name=kept).first.click()
    expect(page.locator("#seed")).to_have_value(kept.removeprefix("seed "))
    make(page)
    assert seeds(page)[0] == kept
    assert save(page)[1].read_bytes() == first


def test_an_invalid_seed_is_reported_at_the_seed(page: Page, tone: Path) -> None:
    load(page, tone)
    error = page.locator("#seed-error")
    for typed in ("-1", "12.5", "2147483648", "seven"):
        error.evaluate("each => { each.textContent = ''; }")  # of the seed before
        page.fill("#seed", typed)
        page.click("#make")
        expect(error, typed).to_contain_text("whole number from 0 to 2147483647")
        expect(page.locator("#seed")).to_be_focused()
    assert page.evaluate("window.sent") == []


def test_empty_words_are_asked_for(page: Page, tone: Path) -> None:
    load(page, tone)
    page.get_by_role("button", name="Your own words").click()
    page.click("#make")
    expect(page.locator("#prompt-error")).to_have_text("Describe what it should become.")


def test_an_earlier_take_can_be_heard_and_compared(page: Page, long_tone: Path) -> None:
    load(page, long_tone)
    make(page)
    page.get_by_label("Celtic").check()
    make(page)
    earlier = page.locator(".take").nth(1)
    earlier.get_by_role("button", name="Play").click()
    expect(page.locator("#name-b")).to_have_text("Accordion folk")
    play_past(page, 0.5)
    rate = page.evaluate("window.tap.context.sampleRate")
    earlier.get_by_role("button", name="A/B").click()
    expect(page.locator("#hear-a")).to_have_attribute("aria-pressed", "true")
    play_past(page, position(page) + 0.4)
    assert is_tone(heard(page), rate)
    at = position(page)
    page.locator(".take").nth(0).get_by_role("button", name="A/B").click()
    expect(page.locator("#name-b")).to_have_text("Celtic")
    expect(page.locator("#hear-b")).to_have_attribute("aria-pressed", "true")
    assert position(page) >= at


def test_a_take_can_be_removed(page: Page, tone: Path) -> None:
    load(page, tone)
    make(page)
    page.get_by_label("Celtic").check()
    make(page)
    expect(page.locator("#name-b")).to_have_text("Celtic")
    assert page.evaluate("urls.size") == 2
    page.get_by_role("button", name="Remove Accordion folk").click()
    expect(page.locator(".take .title strong")).to_have_text("Celtic")
    expect(page.locator("#announcer")).to_have_text("Accordion folk removed.")
    expect(page.locator(".take .listen")).to_be_focused()
    expect(page.locator("#name-b")).to_have_text("Celtic")
    assert page.evaluate("urls.size") == 1

    page.keyboard.press("Delete")
    expect(page.locator(".take")).to_have_count(0)
    expect(page.locator("#no-takes")).to_be_visible()
    expect(page.locator("#announcer")).to_have_text("Celtic removed.")
    expect(page.locator("#make")).to_be_focused()
    expect(page.locator("#name-b")).to_have_text("The take")
    expect(page.locator("#hear-b")).to_be_disabled()
    expect(page.locator("#hear-a")).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("urls.size") == 0


def test_without_a_server_the_take_says_so_and_can_be_tried_again(
    page: Page, tone: Path, complaints: list[str]
) -> None:
    load(page, tone)
    context: BrowserContext = page.context
    context.set_offline(True)
    page.click("#make")
    failed = page.locator(".take .failed:visible")
    expect(failed.locator(".error")).to_contain_text("The server isn't responding.")
    context.set_offline(False)
    failed.get_by_role("button", name="Try again").click()
    expect(page.locator(".take .save:visible")).to_have_count(1)
    assert [text for text in complaints if "ERR_INTERNET_DISCONNECTED" in text]
    complaints.clear()
