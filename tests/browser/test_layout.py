"""Readable and reachable: on a desktop and a phone, in light and dark, with the keyboard alone."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .actions import in_each_scheme, load, make
from .conftest import DESKTOP, PHONE, Visit

SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_is_cut_off_and_everything_can_be_read(
    visit: Visit, surround: Path, size: tuple[int, int]
) -> None:
    page = visit(size)
    page.locator(".variation").first.wait_for()

    def check() -> None:
        assert page.evaluate(SIDEWAYS) == 0
        for scheme in in_each_scheme(page):
            contrast, text = page.evaluate("lowestContrast()")
            assert contrast >= 4.5, (scheme, text)

    check()
    page.fill("#duration", "1")
    make(page)
    check()
    load(page, surround)
    expect(page.locator("#clip-note")).to_be_visible()
    page.locator("summary").click()
    page.select_option("#loudness", "lufs")
    page.fill("#start", "2")
    check()
    page.fill("#seed", "no seed")
    page.click("#make")
    expect(page.locator("#seed-error")).to_be_visible()
    check()
    page.fill("#seed", "")
    page.get_by_role("button", name="Your own words").click()
    page.fill("#prompt", "a very long sentence about an instrument " * 20 + "x" * 100)
    page.click("#make")
    check()
    expect(page.locator(".take .save:visible")).to_have_count(2)
    page.click("#play")
    check()


def test_the_keyboard_is_enough(page: Page, tone: Path) -> None:
    load(page, tone)
    make(page)
    page.evaluate("document.activeElement.blur()")
    reached = {}
    for _ in range(100):  # twice around at least
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            continue
        focus = page.evaluate("focused()")
        assert focus["outlined"], focus
        assert focus["name"], focus
        reached[focus["id"]] = focus["name"]
    wanted = {"file", "record", "variation", "strength", "seed", "make", "new-take", "try-six"}
    wanted |= {"other-six", "count", "make-takes", "start", "end", "whole", "loop", "put-away"}
    wanted |= {"SUMMARY", "play", "hear-a", "hear-b", "position", "repeat"}
    wanted |= {"listen", "compare", "button save", "quiet reuse", "quiet remove"}
    assert wanted <= reached.keys(), wanted - reached.keys()

    page.locator("#start").focus()
    page.keyboard.type("1")
    expect(page.locator("#loop")).to_be_disabled()
    page.locator("#whole").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#start")).to_have_value("")
    expect(page.locator("#loop")).to_be_enabled()

    page.locator(".variation input").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#make")).to_have_text("Make “Banjo bluegrass”")
    page.locator("#make").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".take .save:visible")).to_have_count(2)


def test_progress_is_told_to_those_who_do_not_see_it(page: Page, tone: Path) -> None:
    page.evaluate("watch()")
    load(page, tone)
    make(page)
    told = page.evaluate("window.told")
    assert told[0] == "tone.wav is ready."
    assert told[-1] == "Accordion folk is ready."
    assert "Accordion folk: analysing the clip" in told
    assert len(told) <= 7  # stages and a preview, not per cents
