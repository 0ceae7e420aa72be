"""What a person does with the page, and what they hear of it."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from playwright.sync_api import Page

TONE_HZ = 440.0
SCHEMES: tuple[Literal["dark", "light"], ...] = ("dark", "light")
ALL_STEPS = "() => { window.steps = null; }"  # edits are as long as anybody's


def drop(page: Page, path: Path) -> None:
    """Drops a file onto the page, as from a file manager."""
    transfer = page.evaluate_handle(
        """([name, text]) => {
            const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name));
            return transfer;
        }""",
        [path.name, base64.b64encode(path.read_bytes()).decode()],
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": transfer})
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})


def load(page: Page, path: Path) -> None:
    """Gives the page a clip and waits until edits of it can be asked for."""
    page.set_input_files("#file", path)
    page.locator("#name-a", has_text=path.name).wait_for()
    page.locator("#make:enabled").wait_for()


def make(page: Page, button: str = "#make") -> None:
    """Asks for one edit and waits for its take, which is the first of the list."""
    count = page.locator(".take .save:visible").count()
    page.click(button)
    page.locator(".take .save:visible").nth(count).wait_for()


def save(page: Page, take: int = 0) -> tuple[str, Path]:
    """Downloads a take; its name and the file."""
    with page.expect_download() as download:
        page.locator(".take").nth(take).locator(".save").click()
    return download.value.suggested_filename, Path(download.value.path())


def in_each_scheme(page: Page) -> Iterator[str]:
    """Shows the page in dark, then in light."""
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        yield scheme


def position(page: Page) -> float:
    """Seconds into the clip, as the page shows them."""
    return float(page.locator("#position").input_value())


def play_past(page: Page, seconds: float) -> None:
    """Waits until playing has come past a position."""
    page.wait_for_function(
        "s => Number(document.querySelector('#position').value) > s", arg=seconds
    )


def heard(page: Page) -> np.ndarray:
    """The last samples that went to the loudspeakers, as mono."""
    return np.array(page.evaluate("window.heard()"))


def is_tone(samples: np.ndarray, rate: float) -> bool:
    """Whether what is heard is the clip `tone`: nearly all its energy at 440 Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / rate)
    near = np.abs(frequencies - TONE_HZ) < 30
    return bool(spectrum[near].sum() > 0.95 * spectrum.sum() > 0)


def sound_of_a(page: Page) -> tuple[int, np.ndarray]:
    """What is played as A: its rate in Hz, and float32 `[channels, samples]`."""
    page.evaluate("window.buffers = []")
    page.click("#play")
    page.wait_for_function("() => window.buffers.length")
    page.click("#play")
    rate, channels = page.evaluate(
        """async () => {
            const a = window.buffers[0];
            const texts = Array.from({ length: a.numberOfChannels }, async (_, number) => {
                const url = await new Promise((done) => {
                    const reader = new FileReader();
                    reader.onload = () => done(reader.result);
                    reader.readAsDataURL(new Blob([a.getChannelData(number)]));
                });
                return url.slice(url.indexOf(",") + 1);
            });
            return [a.sampleRate, await Promise.all(texts)];
        }"""
    )
    return rate, np.stack([np.frombuffer(base64.b64decode(text), "<f4") for text in channels])
