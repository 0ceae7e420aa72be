"""Files that browsers read in their own way, or not at all: the gateway decodes them, and A and B
are in step to the sample."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import soundfile
from playwright.sync_api import Page, expect

from melodyflow.embedded import EmbeddedServer
from melodyflow_client.audio import load as decode
from melodyflow_client.audio import waveform

from ..files.whole import piped_flac
from .actions import load, make, save, sound_of_a
from .conftest import Visit, started_gateway

RATE = 44100
MIXED = "6 channels were mixed to stereo"


def tone(channels: int = 2, seconds: float = 0.7) -> np.ndarray:
    """[channels, samples], each channel of another pitch."""
    t = np.arange(int(seconds * RATE)) / RATE
    return np.stack([0.2 * np.sin(2 * np.pi * 220 * (n + 1) * t) for n in range(channels)])


def by_libsndfile(subtype: str, **options: str) -> Callable[[Path], None]:
    return lambda path: soundfile.write(path, tone().T, RATE, subtype=subtype, **options)


def by_ffmpeg(codec: str, layout: str = "stereo") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with av.open(path, "w") as file:
            stream = file.add_stream(codec, rate=RATE, layout=layout)
            assert isinstance(stream, av.AudioStream)
            samples = tone(stream.codec_context.channels).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, "fltp", layout)
            frame.sample_rate = RATE
            file.mux([*stream.encode(frame), *stream.encode(None)])

    return write


def behind_junk(path: Path) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone().T, RATE, format="WAV", subtype="PCM_16")
    path.write_bytes(bytes(100) + buffer.getvalue())


def cut(path: Path) -> None:
    """A WAV that breaks off before the end that its header announces."""
    buffer = io.BytesIO()
    soundfile.write(buffer, tone().T, RATE, format="WAV", subtype="PCM_16")
    path.write_bytes(buffer.getvalue()[:-1001])


def flacs(*rates: int, total: bool) -> Callable[[Path], None]:
    """FLACs of these rates, one behind the other, with or without a total."""

    def write(path: Path) -> None:
        parts = []
        for rate in rates:
            buffer = io.BytesIO()
            soundfile.write(buffer, tone().T, rate, format="FLAC", subtype="PCM_16")
            parts.append(piped_flac(data=buffer.getvalue(), total=total))
        path.write_bytes(b"".join(parts))

    return write


# A file's name -> what writes it, and what the page says of it.
FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "clip.mp3": (by_libsndfile("MPEG_LAYER_III"), ""),
    "clip.aiff": (by_libsndfile("PCM_24"), ""),
    "surround.m4a": (by_ffmpeg("aac", "5.1"), MIXED),
    "clip.wv": (by_ffmpeg("wavpack"), ""),
}
MORE: dict[str, tuple[Callable[[Path], None], str]] = {
    "clip.ogg": (by_libsndfile("VORBIS"), ""),
    "clip.caf": (by_libsndfile("PCM_16"), ""),
    "clip.w64": (by_libsndfile("PCM_16"), ""),
    "alac.m4a": (by_ffmpeg("alac"), ""),
    "clip.au": (by_libsndfile("FLOAT"), ""),
    "doubles.wav": (by_libsndfile("DOUBLE"), ""),
    "rf64.wav": (by_libsndfile("PCM_24", format="RF64"), ""),
    "a-law.wav": (by_libsndfile("ALAW"), ""),
    "adpcm.wav": (by_libsndfile("MS_ADPCM"), ""),
    "clip.aac": (by_ffmpeg("aac"), ""),
    "another.flac": (flacs(RATE, 48000, total=True), ""),
    "twice.flac": (flacs(RATE, RATE, total=False), ""),
    "joined.flac": (flacs(RATE, 48000, total=False), "changes to 48000 Hz"),
    "junk.wav": (behind_junk, "100 bytes before the file's header were skipped."),
    "cut.wav": (cut, "."),
}


def expect_a(page: Page, path: Path, said: str) -> None:
    """A is what the SDK decodes, and the page says what was repaired."""
    clip = decode(path)
    rate, samples = sound_of_a(page)
    assert rate == clip.sample_rate
    np.testing.assert_allclose(samples, waveform(clip.data)[0], atol=1e-4, rtol=0)
    note = page.locator("#clip-note")
    assert bool(said) == bool(clip.warnings)
    if said:
        expect(note).to_contain_text(said)
    else:
        expect(note).to_be_hidden()


def test_their_bytes_are_sent_and_as_many_samples_come_back(page: Page, tmp_path: Path) -> None:
    for name, (write, said) in FILES.items():
        path = tmp_path / name
        write(path)
        load(page, path)
        expect(page.locator("#facts-a")).to_contain_text(
            "44.1 kHz · stereo · decoded by the server"
        )
        expect_a(page, path, said)
        make(page)
        sent = page.evaluate("window.sent.at(-1).audio")
        assert sent == hashlib.sha256(path.read_bytes()).hexdigest()
        info = soundfile.info(save(page)[1])
        assert (info.frames, info.samplerate) == (decode(path).samples, RATE)
    expect(page.locator(".take .title small", has_text="mixed")).to_have_count(
        0
    )  # said at the clip


def test_all_kinds_of_files_are_in_step(page: Page, tmp_path: Path) -> None:
    for name, (write, said) in MORE.items():
        path = tmp_path / name
        write(path)
        load(page, path)
        expect_a(page, path, said)


def test_the_newest_of_two_files_is_taken(page: Page, tmp_path: Path) -> None:
    slow, quick = tmp_path / "slow.mp3", tmp_path / "quick.wav"
    by_libsndfile("MPEG_LAYER_III")(slow)
    by_libsndfile("PCM_16")(quick)
    page.evaluate(
        """() => {
            const fetch = window.fetch;
            window.fetch = async (address, options) => {
                if (address === "decode") await new Promise((go) => { window.go = go; });
                return fetch(address, options);
            };
        }"""
    )
    page.set_input_files("#file", slow)
    expect(page.locator("#facts-a")).to_have_text("reading slow.mp3 …")
    page.wait_for_function("() => Boolean(window.go)")
    load(page, quick)
    page.evaluate("window.go()")
    make(page)
    expect(page.locator("#name-a")).to_have_text("quick.wav")
    expect(page.locator("#clip-error")).to_be_hidden()


def test_what_is_too_large_to_send_the_browser_decodes_and_the_page_says_so(
    visit: Visit, server: EmbeddedServer, tmp_path: Path
) -> None:
    large, huge = tmp_path / "large.wav", tmp_path / "huge.wav"
    soundfile.write(large, tone(seconds=5).T, RATE, subtype="FLOAT")
    soundfile.write(huge, tone(seconds=8).T, RATE, subtype="FLOAT")
    limit = {"MELODYFLOW_GATEWAY_MAX_BODY_BYTES": str(2**20)}
    with started_gateway(server.grpc_url, **limit) as address:
        page = visit(address=address)
        page.locator(".variation").first.wait_for()
        load(page, large)
        expect(page.locator("#clip-note")).to_have_text(
            "This file is larger than the 1 MiB that the server takes. Your browser decoded it, "
            "and sends it as 16-bit WAV at 44.1 kHz."
        )
        expect(page.locator("#facts-a")).to_contain_text("decoded by your browser")
        make(page)
        info = soundfile.info(save(page)[1])
        assert (info.frames, info.samplerate, info.subtype) == (5 * RATE, RATE, "PCM_16")
        page.set_input_files("#file", huge)
        expect(page.locator("#clip-error")).to_have_text(
            "huge.wav is too long: as WAV it has 1.3 MiB, and the server takes 1 MiB."
        )
        expect(page.locator("#name-a")).to_have_text("large.wav")


def test_what_the_server_cannot_decode_the_browser_does_and_the_page_says_so(
    visit: Visit, server: EmbeddedServer, tmp_path: Path, complaints: list[str]
) -> None:
    path = tmp_path / "clip.mp3"
    by_libsndfile("MPEG_LAYER_III")(path)
    with started_gateway(server.grpc_url, MELODYFLOW_GATEWAY_EDIT_SECONDS="0.000001") as address:
        page = visit(address=address)
        load(page, path)
        expect(page.locator("#clip-note")).to_have_text(
            "The server can't read it: “was not decoded within 1e-06 s; send a shorter file”. Your "
            "browser decoded it, and sends it as 16-bit WAV at 48 kHz."
        )
        assert ["504" in text for text in complaints] == [True]
        complaints.clear()
