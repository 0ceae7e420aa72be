"""Files that are joined from several: chained Ogg, FLACs from a pipe, MP3s, AC-3."""

import functools
import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from melodyflow_client import AudioError
from melodyflow_client.audio import Limits, load, waveform

from ..files.case import brought, seen
from ..files.changing import PLAIN_MP3, mp3
from ..files.sounds import (
    ape,
    encoded,
    ffmpeg_decodes,
    float32,
    id3v1,
    id3v2,
    lyrics3,
    sound,
    with_av,
)
from ..files.whole import piped_flac

pytest.importorskip("av")

FORMATS = [(rate, channels) for rate in (32_000, 44_100, 48_000) for channels in (1, 2)]
# Of a file that is joined: a format, and what stands behind it, so many times.
PARTS = st.lists(
    st.tuples(st.sampled_from(FORMATS), st.binary(max_size=40), st.integers(0, 100)),
    min_size=1,
    max_size=4,
)
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
def pipes() -> list[tuple[int, int, str, bytes, np.ndarray]]:
    """(rate, channels, depth, FLAC without a total, samples) of each format and depth."""
    made = []
    for seed, (rate, channels) in enumerate(FORMATS):
        samples = sound(channels, SAMPLES, seed)
        for depth in ("PCM_16", "PCM_24"):
            buffer = io.BytesIO()
            soundfile.write(buffer, samples, rate, format="FLAC", subtype=depth)
            made.append((rate, channels, depth, piped_flac(data=buffer.getvalue()), samples))
    return made


BETWEEN = (b"", bytes(300), id3v1(), ape(), id3v2(500), lyrics3() + id3v1() + id3v2(20))


@given(
    st.lists(
        st.tuples(st.sampled_from(range(2 * len(FORMATS))), st.sampled_from(BETWEEN)),
        min_size=2,
        max_size=5,
    )
)
@settings(deadline=None, max_examples=25)
def test_joined_flacs_from_pipes_keep_their_samples(chosen: list[tuple[int, bytes]]) -> None:
    parts = [pipes()[number] for number, _ in chosen]
    rate, channels, depth = parts[0][:3]
    clip = load(b"".join(pipes()[number][3] + between for number, between in chosen))
    expected = [brought(samples, own, rate, channels) for own, _, _, _, samples in parts]
    assert (clip.sample_rate, clip.channels) == (rate, channels)
    got = seen(clip, np.concatenate(expected))
    assert abs(got.samples - sum(map(len, expected))) <= len(parts)
    assert abs(got.lag) <= len(parts)
    assert got.alike > 0.99
    changes = {part[:2] for part in parts}
    assert any("changes to" in told for told in clip.warnings) == (len(changes) > 1)
    if len({part[:3] for part in parts}) == 1:
        assert got.error == 0
        assert soundfile.info(io.BytesIO(clip.data)).subtype == depth


def test_a_flac_with_a_total_ends_a_chain() -> None:
    rate, channels, _, data, samples = pipes()[0]
    whole = with_av("flac", "flac", [samples], rate=rate)
    clip = load(data + whole + data)
    expected = brought(np.concatenate([samples, samples]), rate, rate, channels)
    np.testing.assert_array_equal(waveform(clip.data)[0].T, expected)


def test_a_damaged_flac_of_a_chain_is_decoded_past_its_damage() -> None:
    samples = sound(2, 44_100)
    damaged = bytearray(piped_flac(data=encoded("FLAC", None, samples)))
    damaged[len(damaged) // 2] ^= 0xFF
    clip = load(bytes(damaged) + piped_flac(data=encoded("FLAC", None, samples)))
    assert len(samples) < clip.samples <= 2 * len(samples)
    assert any("the FLAC is damaged" in told for told in clip.warnings)
    got = waveform(clip.data)[0].T
    np.testing.assert_array_equal(got[-len(samples) :], float32(samples))
    np.testing.assert_array_equal(got[:4096], float32(samples)[:4096])


@functools.cache
def ac3(codec: str, rate: int, channels: int) -> tuple[bytes, int]:
    """Its bytes, and how many samples they are."""
    data = with_av(codec, codec, [sound(channels, SAMPLES)], rate=rate)
    return data, len(ffmpeg_decodes(data)[0])


@given(st.sampled_from(["ac3", "eac3"]), PARTS)
@settings(deadline=None, max_examples=25)
def test_joined_ac3_with_anything_between_keeps_its_duration(
    codec: str, parts: list[tuple[tuple[int, int], bytes, int]]
) -> None:
    data, seconds = b"", 0.0
    for (rate, channels), junk, times in parts:
        made, samples = ac3(codec, rate, channels)
        data += made + junk.replace(b"\x0b", b"\0") * times
        seconds += samples / rate
    clip = load(data)
    assert (clip.sample_rate, clip.channels) == parts[0][0]
    assert clip.samples / clip.sample_rate == pytest.approx(seconds, abs=0.001 * len(parts))


KILOBITS = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


@pytest.mark.parametrize("rate", [32_000, 44_100, 48_000])
@pytest.mark.parametrize("codec", ["ac3", "eac3"])
def test_the_last_frame_of_ac3_is_found_at_every_bit_rate(codec: str, rate: int) -> None:
    for kilobits in KILOBITS:
        data = with_av(codec, codec, [sound(2, 5000)], rate=rate, bit_rate=1000 * kilobits)
        clip = load(data + bytes(100))
        assert clip.samples == -(-5000 // 1536) * 1536
        assert not clip.warnings


@functools.cache
def frames(rate: int, channels: int) -> bytes:
    return mp3(sound(channels, SAMPLES, rate), rate, PLAIN_MP3)


@given(PARTS)
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
    ogg, low, flac = links()[0][2], frames(32_000, 2), pipes()[0][3]
    for data, rate in (
        (ogg * 300, 32_000),
        (low * 300, 32_000),
        (low + frames(48_000, 2) * 300, 32_000),
        (flac * 300, 32_000),
        (flac + pipes()[-1][3] * 300, 32_000),
        (ac3("ac3", 32_000, 2)[0] * 300, 32_000),
    ):
        budget = Counted()
        with pytest.raises(AudioError, match="is longer than 2 s"):
            load(data, limits=Limits(max_seconds=2), budget=budget)
        assert budget.taken == 0
        assert budget.most < 3 * rate * 2 * 3
    for data in (ogg, flac):
        with pytest.raises(AudioError, match="more than 1000 chained streams; split the file"):
            load(data * 1001)


def test_a_rate_that_makes_no_sense_is_left_out() -> None:
    """A stream that multiplies its samples by what it says later takes no memory for it."""
    low = io.BytesIO()
    soundfile.write(low, sound(1, SAMPLES), 100, format="OGG", subtype="VORBIS")
    clip = load(links()[-1][2] + low.getvalue())
    assert clip.samples == SAMPLES
    assert clip.sample_rate == 48_000
    assert any("left out" in warning for warning in clip.warnings)
