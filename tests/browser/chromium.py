"""The system's Chromium, started with what the tests need."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Playwright

PROBES = Path(__file__).with_name("probes.js")  # for each page, before its own script


def executable() -> str | None:
    """Its path; None where there is none."""
    # Without a screen, the first one takes two thirds of the time.
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@contextmanager
def launched(playwright: Playwright) -> Iterator[Browser]:
    """Its microphone is a beep."""
    microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    chromium = playwright.chromium.launch(executable_path=executable(), args=microphone)
    try:
        yield chromium
    finally:
        chromium.close()
