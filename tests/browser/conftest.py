"""A real Chromium in front of a real gateway in front of a real tritonserver."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

from melodyflow.embedded import EmbeddedServer

from .actions import TONE_HZ
from .chromium import PROBES, executable, launched

DESKTOP = (1280, 900)
PHONE = (390, 844)
RATE = 44100
WAIT = 120_000  # milliseconds for whatever is waited for: machines are slow at times

Visit = Callable[..., Page]
expect.set_options(timeout=WAIT)


@pytest.fixture(scope="session")
def gateway(server: EmbeddedServer) -> Iterator[str]:
    """Address of a gateway before it, started as people start it."""
    with started_gateway(server.grpc_url, "--metrics", server.metrics_url) as address:
        yield address


@contextmanager
def started_gateway(server: str, *arguments: str, **environment: str) -> Iterator[str]:
    """A gateway on a free port, before a server's gRPC address; its own address."""
    command = [sys.executable, "-m", "melodyflow_client", "gateway", "--port", "0"]
    command += ["--server", server, *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().rpartition(" ")[2].strip() + "/"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium; its microphone is a beep. It ends with the module: while Playwright is
    there, an event loop runs in this thread, and no other test could use asyncio."""
    if executable() is None:
        pytest.skip("no Chromium (apt-get install chromium, or its path in $CHROMIUM)")
    with sync_playwright() as playwright, launched(playwright) as chromium:
        yield chromium


@pytest.fixture
def complaints() -> list[str]:
    """What the browser has complained of. A test that causes a complaint takes it out."""
    return []


@pytest.fixture
def visit(browser: Browser, gateway: str, complaints: list[str]) -> Iterator[Visit]:
    """Opens the page. In the end nothing may have gone elsewhere, nor been complained of."""
    contexts = []
    requests: dict[str, list[str]] = {}  # by the address that was opened

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def open_page(size: tuple[int, int] = DESKTOP, address: str = gateway) -> Page:
        def note(request: Request) -> None:
            requests.setdefault(address, []).append(request.url)

        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme="light"
        )
        context.set_default_timeout(WAIT)
        context.add_init_script(path=PROBES)
        contexts.append(context)
        page = context.new_page()
        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", note)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    for address, urls in requests.items():
        own = (address, "data:", f"blob:{address}")
        assert [url for url in urls if not url.startswith(own)] == []
    assert complaints == []


@pytest.fixture
def page(visit: Visit) -> Page:
    """The page on a desktop, light."""
    page = visit()
    page.locator(".variation").first.wait_for()
    return page


@pytest.fixture(scope="session")
def tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 s and a few samples of a loud 440 Hz tone, stereo, 16 bit, 44.1 kHz."""
    return _write_tone(tmp_path_factory.mktemp("clips") / "tone.wav", 3 * RATE + 7)


@pytest.fixture(scope="session")
def long_tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for 20 s: a slow machine does not come to its end by accident."""
    return _write_tone(tmp_path_factory.mktemp("clips") / "long.wav", 20 * RATE)


@pytest.fixture(scope="session")
def surround(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for 3 s, with six channels: the page says that they were mixed."""
    return _write_tone(tmp_path_factory.mktemp("clips") / "surround.wav", 3 * RATE, 6)


def _write_tone(path: Path, samples: int, channels: int = 2) -> Path:
    mono = 0.9 * np.sin(2 * np.pi * TONE_HZ * np.arange(samples) / RATE)
    soundfile.write(path, np.stack([mono] * channels, axis=1), RATE, subtype="PCM_16")
    return path
