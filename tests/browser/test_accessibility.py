"""axe finds nothing serious: in light and dark, on a desktop and a phone, empty and with takes."""

import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .actions import in_each_scheme, load, make
from .conftest import DESKTOP, PHONE, Visit

GRAVE = ("serious", "critical")


@pytest.fixture(scope="module")
def axe(root: Path) -> str:
    """axe-core's script."""
    done = subprocess.run([root / "scripts/web", "install"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(done.stderr.strip())
    return (root / "gateway/web/node_modules/axe-core/axe.min.js").read_text()


def grave(page: Page, axe: str) -> list[str]:
    """What axe finds grave: the rule, what it says, and where."""
    page.evaluate(axe)  # like the developer's tools: the page's policy is not in its way
    violations = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{each['id']}: {each['help']}: {[node['target'] for node in each['nodes']]}"
        for each in violations
        if each["impact"] in GRAVE
    ]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_serious(
    visit: Visit, axe: str, surround: Path, size: tuple[int, int]
) -> None:
    page = visit(size)
    page.locator(".variation").first.wait_for()
    for scheme in in_each_scheme(page):
        assert grave(page, axe) == [], scheme
    load(page, surround)
    expect(page.locator("#clip-note")).to_be_visible()
    page.locator("summary").click()
    page.get_by_label("Draft first").check()
    make(page)
    page.get_by_label("Draft first").uncheck()
    page.get_by_role("button", name="Your own words").click()
    page.click("#make")
    expect(page.locator("#prompt-error")).to_be_visible()
    page.fill("#prompt", "Solo harp")
    make(page)
    page.evaluate("() => { window.tamper = (form) => form.set('steps', '128'); }")
    page.click("#make-takes")
    page.locator(".take .stop:visible", has_text="Stop").first.click()
    expect(page.locator(".take small", has_text="unfinished")).to_be_visible()
    for scheme in in_each_scheme(page):
        assert grave(page, axe) == [], scheme


def test_axe_finds_what_is_wrong(page: Page, axe: str) -> None:
    page.evaluate("document.querySelector('#seed').labels[0].remove()")
    page.evaluate("document.querySelector('#seed').removeAttribute('placeholder')")
    assert [text for text in grave(page, axe) if text.startswith("label")]
