"""Containers as people have them: tags and junk around them, sizes that are wrong, damage.

Random prefixes, suffixes and sizes; the samples stay the same, to the last one.
"""

import contextlib
import functools
import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from melodyflow_client import AudioError
from melodyflow_client.audio import Clip, load, waveform

from ..files.sounds import SIZES, ape, id3v1, id3v2, put_size, sound, with_av

RATE = 22050
FRAMES = 5003


def samples() -> np.ndarray:
    """int16 `[frames, channels]`."""
    noise = np.random.default_rng(7).integers(-9000, 9000, (FRAMES, 2))
    return noise.astype(np.int16)


def encoded(container: str, subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples(), RATE, format=container, subtype=subtype)
    return buffer.getvalue()


PLAIN = load((samples().T, RATE))
FILES = {
    name: encoded(*name.split())
    for name in ("WAV", "WAV PCM_24", "WAVEX PCM_24", "RF64", "FLAC", "AIFF", "CAF", "W64", "AU")
}
CONTAINERS = st.sampled_from(sorted(FILES))


def says_the_same(data: bytes) -> Clip:
    clip = load(data)
    assert clip.samples == FRAMES
    assert clip.digest == PLAIN.digest
    # what is sent starts where the server looks for it, and is read by it alone
    assert clip.data[:4] in (b"RIFF", b"RF64", b"fLaC")
    np.testing.assert_array_equal(waveform(clip.data)[0], samples().T / np.float32(2**15))
    return clip


@given(CONTAINERS, st.lists(st.integers(0, 100_000), max_size=3))
@settings(deadline=None, max_examples=60)
def test_tags_before_the_file(name: str, sizes: list[int]) -> None:
    clip = says_the_same(b"".join(map(id3v2, sizes)) + FILES[name])
    assert not clip.warnings


@given(CONTAINERS, st.lists(st.sampled_from([id3v1(), ape()]), max_size=3))
@settings(deadline=None, max_examples=40)
def test_tags_behind_the_file(name: str, tags: list[bytes]) -> None:
    assert not says_the_same(FILES[name] + b"".join(tags)).warnings


@given(CONTAINERS, st.binary(max_size=300), st.integers(1, 100))
@settings(deadline=None, max_examples=60)
def test_junk_behind_the_file(name: str, junk: bytes, times: int) -> None:
    says_the_same(FILES[name] + junk * times)


@functools.cache
def other(container: str) -> bytes:
    """A file that libsndfile or FFmpeg reads as a whole."""
    if container.isupper():
        return encoded(container)
    codecs = {"latm": "aac", "mpegts": "aac", "wv": "wavpack"}
    return with_av(container, codecs.get(container, container), [sound()], rate=48_000)


@given(
    st.sampled_from(["VOC", "NIST", "tta", "wv", "ac3", "eac3", "mp2", "latm", "mpegts"]),
    st.integers(0, 60_000),
    st.booleans(),
    st.lists(st.sampled_from([id3v1(), ape()]), max_size=3),
)
@settings(deadline=None, max_examples=60)
def test_what_stands_around_other_containers_changes_nothing(
    container: str, size: int, tag: bool, behind: list[bytes]
) -> None:
    pytest.importorskip("av")
    before = id3v2(size) if tag else bytes(size)
    clip = load(before + other(container) + b"".join(behind))
    assert clip.digest == load(other(container)).digest
    assert bool(clip.warnings) == (not tag and size > 0)


@given(st.sampled_from(["WAV", "RF64", "FLAC", "AIFF", "CAF", "W64"]), st.integers(1, 60_000))
@settings(deadline=None, max_examples=40)
def test_junk_before_the_file_is_told(name: str, size: int) -> None:
    clip = says_the_same(bytes(size) + FILES[name])
    assert clip.warnings == (f"{size} bytes before the file's header were skipped",)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(
    "size",
    [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF - 36, -1, "file", "file - 8"],
)
@pytest.mark.parametrize("riff", [None, 0, -1])
def test_sizes_that_were_never_filled_in(name: str, size: int | str, riff: int | None) -> None:
    data = FILES[name]
    layout, position = SIZES[name]
    if isinstance(size, str):
        size = len(data) - (8 if "8" in size else 0)
    data = put_size(data, layout, position(data), size)
    if riff is not None and data[:4] == b"RIFF":
        data = put_size(data, "<I", 4, riff)
    says_the_same(data)


@pytest.mark.parametrize("name", SIZES)
@given(st.integers(1, 4 * FRAMES - 8))
@settings(deadline=None, max_examples=25)
def test_a_cut_file_gives_its_whole_frames_and_says_so(name: str, cut: int) -> None:
    if name == "RF64":
        cut = min(cut, 15_000)
    clip = load(FILES[name][:-cut])
    np.testing.assert_array_equal(
        waveform(clip.data)[0], samples()[: clip.samples].T / np.float32(2**15)
    )
    padding = (
        len(FILES[name]) - 4 * FRAMES - FILES[name].index(samples().tobytes()[:64])
        if (name in ("WAV", "RF64", "W64"))
        else 0
    )
    assert clip.samples == FRAMES - -(-max(cut - padding, 0) // 4)
    assert any("announces" in warning for warning in clip.warnings) == (clip.samples < FRAMES)


def test_an_empty_wav_with_a_chunk_behind_is_empty() -> None:
    header = put_size(FILES["WAV"], "<I", 40, 0)[:44]
    with pytest.raises(AudioError, match="holds no samples"):
        load(header + b"LIST" + struct.pack("<I", 10) + b"INFOabcdef")


def test_samples_that_look_like_a_tag_are_samples() -> None:
    tag = np.frombuffer(id3v1() * 2, np.int16).reshape(-1, 2)
    sound = np.concatenate([samples(), tag])
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, RATE, format="WAV")
    assert load(buffer.getvalue()).digest == load((sound.T, RATE)).digest


def wav(channels: int, align: int, bits: int, data: bytes, tag: int = 1) -> bytes:
    layout = struct.pack("<HHIIHH", tag, channels, RATE, RATE * align, align, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + layout + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(body) + len(data)) + body + data


@pytest.mark.parametrize(
    ("align", "bits", "width"),
    [
        (0, 16, 2),  # no block align
        (32, 16, 2),  # in bits
        (4, 12, 2),
        (6, 20, 3),
        (8, 24, 4),
        (8, 32, 4),
    ],
)
def test_odd_headers_are_made_even(align: int, bits: int, width: int) -> None:
    wide = samples().astype("<i4") << 16
    data = wide.view(np.uint8).reshape(-1, 4)[:, 4 - width :].tobytes()
    assert load(wav(2, align, bits, data)).digest == PLAIN.digest
    sent = load(wav(2, align, bits, data)).data
    assert struct.unpack_from("<HH", sent, 32) == (2 * width, 8 * width)


def flac(*, total: bool = True, checksum: bool = True) -> bytes:
    data = bytearray(FILES["FLAC"])
    if not total:
        packed = int.from_bytes(data[18:26], "big") >> 36 << 36
        data[18:26] = packed.to_bytes(8, "big")
    if not checksum:
        data[26:42] = bytes(16)
    return bytes(data)


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("behind", [b"", id3v1(), bytes(1000), b"junk" * 500])
def test_flac_from_a_pipe(checksum: bool, behind: bytes) -> None:
    clip = says_the_same(flac(total=False, checksum=checksum) + behind)
    if not behind:
        assert clip.data[:4] == b"fLaC"
    assert says_the_same(flac(checksum=checksum) + behind).warnings == ()


def test_damaged_flac_is_decoded_past_the_damage() -> None:
    pytest.importorskip("av")
    data = bytearray(FILES["FLAC"])
    data[len(data) // 2] ^= 0xFF
    clip = load(bytes(data))
    assert clip.data[:4] == b"RIFF"
    assert 0 < clip.samples <= FRAMES
    assert any("damaged" in warning for warning in clip.warnings)


def test_a_wrong_checksum_is_told() -> None:
    pytest.importorskip("av")
    data = bytearray(FILES["FLAC"])
    data[30] ^= 0xFF
    clip = says_the_same(bytes(data))
    assert clip.warnings == ("the FLAC's checksum doesn't match its samples",)


def mp3() -> bytes:
    buffer = io.BytesIO()
    long = np.tile(samples(), (20, 1))
    soundfile.write(buffer, long, RATE, format="MP3")
    return buffer.getvalue()


@given(st.integers(5_000, 20_000), st.binary(min_size=10, max_size=2000))
@settings(deadline=None, max_examples=15)
def test_damage_inside_an_mp3_costs_what_is_damaged(position: int, junk: bytes) -> None:
    pytest.importorskip("av")
    data = mp3()
    position = min(position, len(data) - 1)
    clip = load(data[:position] + junk + data[position + len(junk) :])
    assert clip.samples > 10 * FRAMES


@given(CONTAINERS, st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=20))
@settings(deadline=None, max_examples=150)
def test_any_bytes_are_a_clip_or_refused(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(FILES[name])
    for position, value in changes:
        data[position % len(data)] = value
    with contextlib.suppress(AudioError):
        assert load(bytes(data), max_seconds=60).samples > 0


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "FLAC", "AIFF", "CAF", "W64"])
@pytest.mark.parametrize("channels", [3, 4, 6, 8])
def test_more_than_two_channels_are_mixed_to_stereo_and_told(container: str, channels: int) -> None:
    pytest.importorskip("av")
    buffer = io.BytesIO()
    sound = np.zeros((FRAMES, channels), np.int16)
    sound[:, 0], sound[:, 1] = samples().T
    soundfile.write(buffer, sound, RATE, format=container)
    clip = load(buffer.getvalue())
    assert (clip.channels, clip.samples) == (2, FRAMES)
    [warning] = clip.warnings
    assert warning.startswith(f"{channels} channels were mixed to stereo")
    mixed = waveform(clip.data)[0]
    loudest = np.abs(mixed).max(axis=1)
    np.testing.assert_allclose(loudest, np.abs(samples() / 2**15).max(axis=0), rtol=0.5)
