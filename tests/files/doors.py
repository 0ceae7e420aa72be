"""The ways into the service, each of which makes a clip of a file: the SDK, the command, a gateway
and its page; and the SDK and the server of an earlier commit.

A door is called with a case and gives the clip that it makes of its file. It raises AudioError
where the file is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import requests
from playwright.sync_api import Page, expect, sync_playwright

from melodyflow_client import AudioError
from melodyflow_client.audio import Clip, load, waveform
from melodyflow_client.cli import main

from ..browser.actions import sound_of_a
from ..browser.chromium import PROBES, launched
from ..server.drill import Gateway, Service, checkpoint_or_tiny
from .case import Case, Door
from .sounds import float32

WAIT = 120_000  # milliseconds, for a machine that is busy
EDITED_SECONDS = 0.1  # the least that can be edited


def sdk(case: Case) -> Clip:
    return load(case.data)


@contextmanager
def command(server: str) -> Iterator[Door]:
    """`melodyflow transform` of a file, of which it edits the first tenth of a second. The result
    is the clip; where it is edited, nothing can be compared, and the expected samples stand."""
    with tempfile.TemporaryDirectory(prefix="files-") as folder:
        source, result = Path(folder) / "source", Path(folder) / "result.wav"
        options = ["--server", server, "--variation", "celtic", "--steps", "1", "--quiet"]
        options += ["--end", str(EDITED_SECONDS), "--format", "wav32f"]

        def transform(case: Case) -> Clip:
            source.write_bytes(case.data)
            result.unlink(missing_ok=True)
            said = io.StringIO()
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                code = main(["transform", str(source), "-o", str(result), *options])
            lines = said.getvalue().splitlines()
            if code:
                raise AudioError("; ".join(lines).removeprefix("melodyflow: "))
            told = tuple(line.removeprefix("melodyflow: warning: ") for line in lines)
            samples, rate = waveform(result.read_bytes())
            return clip_of(_filled_in(samples, rate, case), rate, told)

        yield transform


def _filled_in(samples: np.ndarray, rate: int, case: Case) -> np.ndarray:
    """A result `[channels, samples]` without what was edited."""
    expected = float32(case.expected).T
    if len(expected) == 1 and np.array_equal(*samples[:, int(EDITED_SECONDS * rate) + 1 :]):
        samples = samples[:1]  # a mono source stays mono, in both channels
    edited = min(int(EDITED_SECONDS * rate) + 1, samples.shape[1], expected.shape[1])
    if len(samples) == len(expected):
        samples[:, :edited] = expected[:, :edited]
    return samples


def clip_of(samples: np.ndarray, rate: int, told: tuple[str, ...]) -> Clip:
    """Samples `[channels, samples]` and what was told of them."""
    clip = load((samples, rate))
    return Clip(clip.data, "", rate, clip.channels, clip.samples, told)


def gateway(url: str) -> Door:
    """POST /decode: what an edit of the file would send."""

    def decode(case: Case) -> Clip:
        answer = requests.post(f"{url}/decode", files={"audio": case.data}, timeout=60)
        if answer.status_code != 200:
            raise AudioError(f"{answer.status_code}: {answer.json()['error']}")
        samples, rate = waveform(answer.content)
        told = json.loads(answer.headers.get("X-Melodyflow-Warnings", "[]"))
        return Clip(answer.content, "", rate, *samples.shape, tuple(told))

    return decode


@contextmanager
def page(url: str) -> Iterator[Door]:
    """The page in Chromium: what it plays as A of a file that is chosen, and what it says below
    it. An edit is made, which must send the file's own bytes."""
    with sync_playwright() as playwright, launched(playwright) as browser:
        shown = browser.new_page()
        shown.set_default_timeout(WAIT)
        shown.add_init_script(path=PROBES)
        shown.goto(url)
        shown.locator(".variation").first.wait_for()
        shown.check("#draft")
        count = 0

        def choose(case: Case) -> Clip:
            nonlocal count
            count += 1
            name = f"{count}.bin"
            shown.set_input_files(
                "#file", {"name": name, "mimeType": "application/octet-stream", "buffer": case.data}
            )
            shown.wait_for_function(
                """name => document.querySelector("#name-a").textContent === name
                    || document.querySelector("#clip-error").textContent""",
                arg=name,
            )
            if refusal := shown.locator("#clip-error").text_content():
                raise AudioError(refusal)
            rate, samples = sound_of_a(shown)
            note = shown.locator("#clip-note").text_content()
            if "browser" in (shown.locator("#facts-a").text_content() or ""):
                raise AudioError(f"the browser had to decode it: {note}")
            if sent(shown) != hashlib.sha256(case.data).hexdigest():
                raise AudioError("the page sends other bytes than the file's")
            return clip_of(samples, rate, (note,) if note else ())

        yield choose


def sent(shown: Page) -> str:
    """Makes an edit; the SHA-256 of the audio that is sent."""
    before = shown.evaluate("window.sent.length")
    shown.click("#make")
    shown.wait_for_function("before => window.sent.length > before", arg=before)
    expect(shown.locator("#make")).to_be_enabled()
    digest: str = shown.evaluate("window.sent.at(-1).audio")
    return digest


@contextmanager
def earlier(checkout: Path, cases: list[Case]) -> Iterator[Door]:
    """What the SDK of an earlier commit sends, as the server of that commit reads it. All files at
    once, in a process of its own with that commit's code."""
    script = Path(__file__).with_name("earlier.py")
    with tempfile.TemporaryDirectory(prefix="files-") as folder:
        numbers = {case.name: number for number, case in enumerate(cases)}
        for case in cases:
            (Path(folder) / f"{numbers[case.name]}.file").write_bytes(case.data)
        subprocess.run(
            [sys.executable, str(script), folder],
            env=os.environ | {"PYTHONPATH": f"{checkout}:{checkout / 'client'}"},
            cwd=folder,
            check=True,
        )

        def read(case: Case) -> Clip:
            made = Path(folder) / str(numbers[case.name])
            said = json.loads(made.with_suffix(".json").read_text())
            if "refused" in said:
                raise AudioError(said["refused"])
            if "failed" in said:
                raise RuntimeError(said["failed"])
            return clip_of(np.load(made.with_suffix(".npy")), said["rate"], ())

        yield read


@contextmanager
def opened(names: list[str], checkout: Path | None, cases: list[Case]) -> Iterator[dict[str, Door]]:
    """The doors of these names, before a real server with the tests' tiny checkpoint."""
    with ExitStack() as stack:
        doors: dict[str, Door] = {}
        if {"command", "gateway", "page"} & set(names):
            checkpoint = stack.enter_context(checkpoint_or_tiny(None))
            log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "triton.log"
            service = stack.enter_context(Service(checkpoint, log))
            url = stack.enter_context(Gateway(service.grpc_url, service.metrics_url)).url
        if "before" in names and checkout is not None:
            doors["before"] = stack.enter_context(earlier(checkout, cases))
        if "SDK" in names:
            doors["SDK"] = sdk
        if "command" in names:
            doors["command"] = stack.enter_context(command(service.grpc_url))
        if "gateway" in names:
            doors["gateway"] = gateway(url)
        if "page" in names:
            doors["page"] = stack.enter_context(page(url))
        yield doors
