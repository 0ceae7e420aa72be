"""What goes in: which bytes are sent, and what cannot be taken."""

import hashlib
from pathlib import Path

import numpy as np
import soundfile
from playwright.sync_api import Page, expect

from .actions import drop, load, make, save

RATE = 44100


def noise(seconds: float) -> np.ndarray:
    return 0.1 * np.random.default_rng(1).standard_normal((int(seconds * RATE), 2))


FILES = [  # a file, its depth, and that of its results
    ("16.wav", "PCM_16", "PCM_16"),
    ("24.wav", "PCM_24", "PCM_24"),
    ("float.wav", "FLOAT", "PCM_24"),
    ("16.flac", "PCM_16", "PCM_16"),
]


def test_wav_and_flac_are_sent_as_they_are_and_keep_their_depth(page: Page, tmp_path: Path) -> None:
    for name, subtype, result in FILES:
        clip = tmp_path / name
        soundfile.write(clip, noise(0.7), RATE, subtype=subtype)
        load(page, clip)
        make(page)
        sent = page.evaluate("window.sent.at(-1).audio")
        assert sent == hashlib.sha256(clip.read_bytes()).hexdigest()
        info = soundfile.info(save(page)[1])
        assert (info.subtype, info.frames) == (result, soundfile.info(clip).frames), name


def test_a_recording_becomes_a_clip(page: Page) -> None:
    page.click("#record")
    expect(page.locator("#record")).to_contain_text("Stop")
    page.wait_for_function("() => document.querySelector('#record').textContent > 'Stop  0:00.8'")
    page.click("#record")
    expect(page.locator("#name-a")).to_have_text("recording.wav")
    expect(page.locator("#record")).to_have_text("Record")
    make(page)
    assert soundfile.info(save(page)[1]).duration > 0.5


def test_a_file_that_is_not_sound_is_refused_in_words(
    page: Page, tmp_path: Path, complaints: list[str]
) -> None:
    bad = tmp_path / "notes.wav"
    bad.write_text("not a sound")
    drop(page, bad)
    said = "Can't read notes.wav as audio. The server can't read it: “is no sound"
    expect(page.locator("#clip-error")).to_contain_text(said)
    expect(page.locator("#name-a")).to_have_text("Your clip")
    assert page.evaluate("window.sent") == []
    assert ["400" in text for text in complaints] == [True]
    complaints.clear()


def test_what_the_server_refuses_is_reported_at_the_clip(
    page: Page, tmp_path: Path, tone: Path
) -> None:
    short = tmp_path / "short.wav"
    soundfile.write(short, noise(0.05), RATE)
    load(page, short)
    page.click("#make")
    expect(page.locator("#clip-error")).to_contain_text("0.1")
    expect(page.locator(".take")).to_have_count(0)
    load(page, tone)
    expect(page.locator("#clip-error")).to_be_hidden()
