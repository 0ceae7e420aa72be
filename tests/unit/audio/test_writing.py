"""What is written is what is read, comments and all, and the same bytes each time."""

import io

import numpy as np
import pytest
import soundfile

from melodyflow import audio
from melodyflow.audio import FORMATS
from melodyflow.errors import AudioError

from .files import encoded, noise, on_grid, read


@pytest.mark.parametrize("format", ["wav", "wav24", "flac"])
def test_full_scale_never_wraps_around(format):
    peaks = [1 - 2**-24, 1 - 2**-16, 1 - 2**-15, 1.0, 1.5]
    wave = np.array([peaks, [-p for p in peaks]], np.float32).repeat(1000, axis=1)
    got = read(audio.write(wave, 48000, format, {})).samples
    np.testing.assert_allclose(got, np.clip(wave, -1, 1), atol=2**-15)


@pytest.mark.parametrize(
    ("format", "bits", "subtype"),
    [
        ("wav", 16, "PCM_16"),
        ("wav24", 24, "PCM_24"),
        ("wav32f", 24, "FLOAT"),
        ("flac", 24, "PCM_24"),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_written_is_what_is_read(format, bits, subtype, channels):
    wave = on_grid(noise(channels, 9601, peak=1.0), bits)
    file = audio.write(wave, 44100, format, {"title": "x"})
    got = read(file)
    np.testing.assert_array_equal(got.samples, wave)
    assert (got.sample_rate, got.subtype) == (44100, subtype)
    other, rate = soundfile.read(io.BytesIO(file), dtype="float32", always_2d=True)
    np.testing.assert_array_equal(other.T, wave)
    assert rate == 44100


def test_every_16_bit_value_survives():
    values = np.arange(-(2**15), 2**15, dtype=np.int16)
    file = encoded(values[None], subtype="PCM_16")
    again = audio.write(read(file).samples, 48000, "wav", {})
    np.testing.assert_array_equal(soundfile.read(io.BytesIO(again), dtype="int16")[0], values)


@pytest.mark.parametrize("format", FORMATS)
def test_comments_survive_in_any_script(format):
    comments = {
        "title": "Smyčcový kvartet, 弦楽四重奏",
        "comment": "AI-generated; prompt: " + "žluťoučký kůň 🎻 " * 60 + "the end",
        "artist": "someone",
        "date": "2026",
    }
    all_of_them = comments | {"software": "MelodyFlow on Triton", "license": "CC-BY-NC 4.0"}
    file = audio.write(noise(), 48000, format, all_of_them)
    kept = soundfile.SoundFile(io.BytesIO(file)).copy_metadata()
    assert {name: kept[name] for name in comments} == comments
    assert kept["software"].startswith("MelodyFlow on Triton")
    assert kept["license" if format == "flac" else "copyright"] == "CC-BY-NC 4.0"
    bare = read(audio.write(noise(), 48000, format, {}))
    np.testing.assert_array_equal(read(file).samples, bare.samples)


@pytest.mark.parametrize("format", FORMATS)
def test_the_longest_prompt_is_kept_whole(format):
    prompt = "🎻" * 1000  # 4000 bytes; libsndfile's reader skips INFO strings above 2048
    assert prompt.encode() in audio.write(noise(), 48000, format, {"comment": prompt})


def test_comments_that_share_a_tag_or_cannot_be_stored():
    both = {"copyright": "somebody", "license": "CC0", "comment": "a\0b\ud800"}
    kept = soundfile.SoundFile(io.BytesIO(audio.write(noise(), 8000, "wav", both))).copy_metadata()
    assert kept["copyright"] == "somebody; CC0"
    assert kept["comment"] == "a b?"
    with pytest.raises(ValueError, match="comments: mood; title, "):
        audio.write(noise(), 8000, "wav", {"mood": "good"})


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_samples_give_the_same_bytes(format, monkeypatch):
    files = []
    for now in (1e9, 2e9):
        monkeypatch.setattr("time.time", lambda now=now: now)
        files.append(audio.write(noise(), 48000, format, {"comment": "same"}))
    assert files[0] == files[1]
    assert b"PEAK" not in files[0]  # libsndfile's chunk with the time of writing


def test_check_format():
    for format in FORMATS:
        for rate in (8000, 44100, 65535, 96000, 176400, 192000):
            audio.check_format(format, rate)
            assert read(audio.write(noise(1, 20_000), rate, format, {})).sample_rate == rate
    audio.check_format("wav", 191_999)
    with pytest.raises(AudioError, match="format: 'mp3'; wav, wav24, wav32f, flac are allowed"):
        audio.check_format("mp3", 48000)
    with pytest.raises(AudioError, match="sample_rate: 191999 Hz; in FLAC, rates above"):
        audio.write(noise(), 191_999, "flac", {})
