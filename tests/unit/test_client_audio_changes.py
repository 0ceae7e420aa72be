"""Containers that are put together at random: what changes, what is between, what is mixed."""

import functools
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from melodyflow_client import AudioError
from melodyflow_client.audio import Limits, load, waveform
from melodyflow_client.audio.loading import _told

from ..files.case import brought, seen
from ..files.changing import GAINS, PLAIN_MP3, mp3
from ..files.sounds import chunk, encoded, extensible, float32, fmt, riff, sound, with_av

pytest.importorskip("av")

FORMATS = [(rate, channels) for rate in (32_000, 44_100, 48_000) for channels in (1, 2)]
SAMPLES = 9000


@functools.cache
def links() -> list[tuple[int, int, bytes, np.ndarray]]:
    """(rate, channels, Ogg, samples) of each format and of two codings without a loss and with."""
    made = []
    for seed, (rate, channels) in enumerate(FORMATS):
        samples = sound(channels, SAMPLES, seed)
        made.append((rate, channels, with_av("ogg", "flac", [samples], rate=rate), samples))
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, rate, format="OGG", subtype="VORBIS")
        made.append((rate, channels, buffer.getvalue(), samples))
    return made


@given(st.lists(st.sampled_from(range(2 * len(FORMATS))), min_size=2, max_size=5))
@settings(deadline=None, max_examples=25)
def test_chained_ogg_keeps_its_duration_and_pitch(chosen: list[int]) -> None:
    parts = [links()[number] for number in chosen]
    rate, channels = parts[0][:2]
    clip = load(b"".join(part[2] for part in parts))
    expected = [brought(samples, own, rate, channels) for own, _, _, samples in parts]
    assert (clip.sample_rate, clip.channels) == (rate, channels)
    got = seen(clip, np.concatenate(expected))
    assert abs(got.samples - sum(map(len, expected))) <= len(parts)
    assert abs(got.lag) <= len(parts)
    assert got.alike > 0.97
    assert bool(clip.warnings) == (len({part[:2] for part in parts}) > 1)


@functools.cache
def frames(rate: int, channels: int) -> bytes:
    return mp3(sound(channels, SAMPLES, rate), rate, PLAIN_MP3)


@given(
    st.lists(
        st.tuples(st.sampled_from(FORMATS), st.binary(max_size=40), st.integers(0, 100)),
        min_size=1,
        max_size=4,
    )
)
@settings(deadline=None, max_examples=25)
def test_joined_mp3s_with_anything_between_keep_their_duration(
    parts: list[tuple[tuple[int, int], bytes, int]],
) -> None:
    data, seconds = b"", 0.0
    for (rate, channels), junk, times in parts:
        data += frames(rate, channels) + junk.replace(b"\xff", b"\0") * times
        seconds += -(-(SAMPLES + 1105) // 1152) * 1152 / rate
    clip = load(data)
    assert (clip.sample_rate, clip.channels) == parts[0][0]
    assert clip.samples / clip.sample_rate == pytest.approx(seconds, abs=0.03 * len(parts))


@given(st.lists(st.tuples(st.sampled_from([b"JUNK", b"LIST", b"bext", b"id3 "]), st.binary())))
@settings(deadline=None, max_examples=40)
def test_chunks_of_any_size_and_order(chunks: list[tuple[bytes, bytes]]) -> None:
    others = [chunk(name, body) for name, body in chunks]
    half = len(others) // 2
    data = chunk(b"data", sound().tobytes())
    clip = load(riff(*others[:half], fmt(), *others[half:], data, *others))
    np.testing.assert_array_equal(waveform(clip.data)[0].T, float32(sound()))
    assert not clip.warnings


@given(st.integers(1, 6000), st.sampled_from(["MS_ADPCM", "GSM610"]))
@settings(deadline=None, max_examples=40)
def test_adpcm_has_the_length_that_its_file_tells(samples: int, coding: str) -> None:
    clip = load(encoded("WAV", coding, sound(1, samples)))
    assert clip.samples == samples


SPEAKERS = ("FL", "FR", "FC", "LFE", "BL", "BR", None, None, "BC", "SL", "SR")  # by bits of a mask


@given(st.sets(st.sampled_from([0, 1, 2, 3, 4, 5, 8, 9, 10]), min_size=3))
@settings(deadline=None, max_examples=40)
def test_any_layout_is_mixed_by_its_speakers(bits: set[int]) -> None:
    names = [SPEAKERS[bit] for bit in sorted(bits)]
    samples = sound(len(names), 500)
    data = chunk(b"data", samples.tobytes())
    clip = load(riff(extensible(len(names), 16, sum(1 << bit for bit in bits)), data))
    gains = np.array([GAINS[str(name)] for name in names], np.float32)
    np.testing.assert_allclose(waveform(clip.data)[0].T, float32(samples) @ gains, atol=1e-6)
    assert len(clip.warnings) == 1


@pytest.mark.parametrize("channels", [9, 12, 32])
def test_channels_that_nobody_can_place_are_refused(channels: int) -> None:
    samples = sound(channels, 500)
    for data in (
        riff(fmt(channels), chunk(b"data", samples.tobytes())),
        with_av("mov", "pcm_s16le", [samples], layout=f"{channels} channels"),
    ):
        with pytest.raises(AudioError, match=f"{channels} channels.*mix them to one or two"):
            load(data)


def test_a_layout_of_its_own_and_eight_planes_do_no_harm(tmp_path: Path) -> None:
    """In a process of its own, whose heap PyAV would spoil."""
    many = sound(8, 3000)
    files = []
    for container, codec in (("caf", "pcm_s16le"), ("caf", "alac"), ("wv", "wavpack")):
        files.append(tmp_path / f"{container}-{codec}")
        layout = "7.1(wide)" if codec == "alac" else "7.1"
        data = with_av(container, codec, [many], layout=layout)
        if codec == "pcm_s16le":  # past the reader that needs no FFmpeg
            data = data.replace(b"lpcm", b"ulaw", 1)
        files[-1].write_bytes(data)
    code = (
        "import gc, sys\n"
        "from melodyflow_client.audio.containers import ffmpeg\n"
        "from melodyflow_client.audio.source import File\n"
        "for path in sys.argv[1:]:\n"
        "    for _ in range(3):\n"
        "        sound = ffmpeg.read_header(File(open(path, 'rb')), lambda: None)\n"
        "        assert sum(map(len, sound.blocks())) > 0\n"
        "        gc.collect()\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, *files],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_CHECK_": "3"},
        check=True,
    )


class Counted:
    """A budget that counts."""

    def __init__(self) -> None:
        self.taken = self.most = 0

    def take(self, size: int) -> None:
        self.taken += size
        self.most = max(self.most, self.taken)

    def give_back(self, size: int) -> None:
        self.taken -= size


def test_limits_hold_for_what_comes_later() -> None:
    ogg, low = links()[0][2], frames(32_000, 2)
    for data, rate in (
        (ogg * 300, 32_000),
        (low * 300, 32_000),
        (low + frames(48_000, 2) * 300, 32_000),
    ):
        budget = Counted()
        with pytest.raises(AudioError, match="is longer than 2 s"):
            load(data, limits=Limits(max_seconds=2), budget=budget)
        assert budget.taken == 0
        assert budget.most < 3 * rate * 2 * 3
    with pytest.raises(AudioError, match="more than 1000 chained streams"):
        load(ogg * 1001)


def test_a_rate_that_makes_no_sense_is_left_out() -> None:
    """A stream that multiplies its samples by what it says later takes no memory for it."""
    low = io.BytesIO()
    soundfile.write(low, sound(1, SAMPLES), 100, format="OGG", subtype="VORBIS")
    clip = load(links()[-1][2] + low.getvalue())
    assert clip.samples == SAMPLES
    assert clip.sample_rate == 48_000
    assert any("left out" in warning for warning in clip.warnings)


def test_warnings_are_as_many_as_people_read() -> None:
    assert _told(["a", "b", "a"]) == ("a", "b")
    told = _told([str(number) for number in range(100)])
    assert told[-2:] == ("19", "80 more such warnings")
