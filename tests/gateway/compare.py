"""Honest work through two gateways in turns: is one of them slower?

    scripts/compare_gateways URL URL [--rounds 5]

Both run already, before the same server. Each round asks one and then the other, and the next round
the other way round: a clip of 44 MiB each way, of which one second is edited; 16 clients at once;
the page in Chromium ($CHROMIUM). Prints the medians in seconds.
"""

from __future__ import annotations

import argparse
import base64
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import requests
from playwright.sync_api import sync_playwright

from ..browser.chromium import executable
from .attacks.clients import session_from
from .attacks.files import wav

LARGE_SECONDS = 44 * 2**20 / (44100 * 4)
CLIENTS, EDITS = 16, 4  # at once, and of each


def edit(client: requests.Session, url: str, sound: str, **fields: object) -> None:
    body = {"audio": sound, "variation": "celtic", "steps": 2, **fields}
    answer = client.post(f"{url}/transform", json=body, timeout=300)
    if answer.status_code != 200:
        raise RuntimeError(f"{url}: {answer.status_code} {answer.text[:300]}")
    if len(answer.json()["audio"]) < len(sound) // 2:
        raise RuntimeError(f"{url}: the result is too short")


def large_clip(url: str) -> float:
    sound = base64.b64encode(wav(LARGE_SECONDS, random.uniform(200, 400))).decode()
    started = time.monotonic()
    edit(session_from("127.0.0.1"), url, sound, start=1.0, end=2.0)
    return time.monotonic() - started


def many_clients(url: str) -> float:
    sounds = [base64.b64encode(wav(1.0, 200 + number)).decode() for number in range(CLIENTS)]

    def work(sound: str) -> None:
        client = session_from("127.0.0.1")
        for _ in range(EDITS):
            edit(client, url, sound, seed=random.randrange(2**31))

    started = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, sounds))
    return time.monotonic() - started


def page(url: str) -> float:
    """Until all that it loads is there, in a browser with an empty cache."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable())
        tab = browser.new_page()
        tab.goto(url)
        ended = "performance.getEntriesByType('navigation')[0].loadEventEnd"
        milliseconds: float = tab.evaluate(ended)
        browser.close()
    return milliseconds / 1000


WORK: dict[str, Callable[[str], float]] = {
    "a clip of 44 MiB each way": large_clip,
    f"{CLIENTS} clients at once, {EDITS} edits each": many_clients,
    "the page": page,
}


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/compare_gateways", description=(__doc__ or "").strip()
    )
    parser.add_argument("urls", nargs=2, metavar="URL")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(words)
    print(f"{'seconds':<36}{'first':>8}{'second':>8}{'ratio':>8}")
    for name, work in WORK.items():
        for url in given.urls:
            work(url)  # what is loaded once
        took: dict[str, list[float]] = {url: [] for url in given.urls}
        for number in range(given.rounds):
            for url in given.urls[:: 1 if number % 2 else -1]:
                took[url].append(work(url))
        first, second = (statistics.median(took[url]) for url in given.urls)
        print(f"{name:<36}{first:>8.2f}{second:>8.2f}{second / first:>8.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
