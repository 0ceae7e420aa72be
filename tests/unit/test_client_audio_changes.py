"""Containers that are put together at random: what changes, what is between, what is mixed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melodyflow_client import AudioError
from melodyflow_client.audio import load, waveform
from melodyflow_client.audio.loading import _told

from ..files.changing import GAINS
from ..files.sounds import (
    chunk,
    encoded,
    extensible,
    float32,
    fmt,
    riff,
    sound,
    with_av,
)

pytest.importorskip("av")


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


def test_warnings_are_as_many_as_people_read() -> None:
    assert _told(["a", "b", "a"]) == ("a", "b")
    told = _told([str(number) for number in range(100)])
    assert told[-2:] == ("19", "80 more such warnings")
