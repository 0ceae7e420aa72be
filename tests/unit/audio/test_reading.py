"""Every file that is taken gives exact samples; every other one is refused, by name."""

import io
import struct

import numpy as np
import pytest
import soundfile

from melodyflow.audio import Limits
from melodyflow.audio.containers.flac import FlacHeader
from melodyflow.audio.containers.pcm import BLOCK
from melodyflow.audio.containers.wav import MAX_CHUNKS, WavHeader
from melodyflow.errors import AudioError

from .files import PCM, chunk, encoded, fmt, noise, read, refused, riff, wav, with_total


@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "PCM_32"),
        ("WAV", "FLOAT"),
        ("WAV", "DOUBLE"),
        ("WAVEX", "PCM_16"),
        ("WAVEX", "PCM_24"),
        ("WAVEX", "FLOAT"),
        ("RF64", "PCM_16"),
        ("RF64", "FLOAT"),
        ("FLAC", "PCM_S8"),
        ("FLAC", "PCM_16"),
        ("FLAC", "PCM_24"),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_read_gives_the_samples_libsndfile_gives(format, subtype, channels):
    file = encoded(noise(channels, 70_001), 44100, format, subtype)
    got = read(file)
    expected, rate = soundfile.read(io.BytesIO(file), dtype="float32", always_2d=True)
    assert got.samples.dtype == np.float32
    assert got.samples.shape == (channels, 70_001)
    np.testing.assert_array_equal(got.samples, expected.T)
    assert (got.sample_rate, got.subtype) == (rate, subtype)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 88200, 96000, 191999, 192000])
def test_read_accepts_every_rate_within_the_limits(rate):
    assert read(encoded(noise(1, rate // 4), rate)).sample_rate == rate


def test_read_to_the_end_where_a_pipe_could_not_say_the_size():
    whole = read(riff(fmt(), chunk(b"data", PCM))).samples
    for riff_size, data_size in (
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0, 0),
        (0xFFFFFFFF, 0),
        (0, 0xFFFFFFFF),
        (0, len(PCM) + 1000),
        (0x7FFFF024, 0x7FFFF000),  # SoX
        (0xFFFFFFFF, len(PCM)),
    ):
        file = riff(fmt(), chunk(b"data", PCM, data_size), size=riff_size)
        np.testing.assert_array_equal(read(file).samples, whole)
        cut = read(file[:-2] if data_size != len(PCM) else file).samples  # half a frame is no frame
        np.testing.assert_array_equal(cut, whole[:, : cut.shape[1]])
        assert cut.shape[1] >= whole.shape[1] - 1


def test_read_rf64_takes_its_sizes_from_ds64():
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, len(PCM), len(PCM) // 4, 0))
    file = riff(
        sizes, fmt(), chunk(b"data", PCM, 0xFFFFFFFF), b"tail", name=b"RF64", size=2**32 - 1
    )
    assert read(file).samples.shape == (2, 9600)
    refused(riff(fmt(), chunk(b"data", PCM, 0xFFFFFFFF), name=b"RF64"), "RF64 without a ds64")


def test_read_skips_other_chunks_with_their_padding():
    junk = chunk(b"junk", bytes(100_000)), chunk(b"LIST", b"INFOISFT\x01\0\0\0x") + b"\0"
    file = riff(*junk, fmt(), *junk, chunk(b"data", PCM), chunk(b"data", b"more"))
    assert read(file).samples.shape == (2, 9600)


def test_read_flac_with_an_unknown_total():
    flac = encoded(noise(), format="FLAC")
    np.testing.assert_array_equal(read(with_total(flac, 0)).samples, read(flac).samples)


@pytest.mark.parametrize(
    "behind", [bytes(5000), b"TAG" + bytes(125), encoded(noise(), format="FLAC")]
)
def test_read_flac_ends_at_its_total(behind):
    flac = encoded(noise(), format="FLAC")
    np.testing.assert_array_equal(read(flac + behind).samples, read(flac).samples)


@pytest.mark.parametrize("format", ["WAV", "FLAC"])
def test_reading_can_be_ended_between_two_blocks(format):
    """As an edit's deadline does, also for a FLAC whose length nobody knows."""
    file = encoded(noise(2, 10 * BLOCK), format=format)
    file = with_total(file, 0) if format == "FLAC" else file
    looks = []

    def check():
        looks.append(None)
        if len(looks) == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        read(file, max_model_samples=10**7, check=check)
    assert len(looks) == 3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes; expected a WAV or FLAC file"),
        (b"R", "1 bytes starting with 'R'"),
        (b"OggS" + bytes(60), "starting with 'OggS"),
        (b"RIFF", "RIFF of type ''"),
        (b"RIFF\0\0\0\0AVI " + bytes(60), "RIFF of type 'AVI '"),
        (b"RIFF\0\0\0\0WAVE", "without a data chunk"),
        (riff(fmt()), "without a data chunk"),
        (riff(chunk(b"data", PCM), fmt()), "without a fmt chunk"),
        (riff(chunk(b"fmt ", bytes(10)), chunk(b"data", PCM)), "fmt chunk of 10 bytes"),
        (riff(chunk(b"junk", b"", 2**31), fmt()), "truncated: WAV chunk 'junk' claims"),
        (
            wav(2**30),
            "truncated: the WAV header says 1073741824 bytes of samples, but the file has 38400",
        ),
        (wav(body=PCM[:-1], data_size=len(PCM)), "truncated"),
        (wav(body=b""), "0 samples"),
        (wav(data_size=0), "says 0 bytes of samples, but 38400 follow; write the size"),
        (riff(fmt(), chunk(b"data", b""), chunk(b"LIST", b"INFO")), "0 samples"),
        (wav(channels=0), "0 channels; 1 to 2 are allowed"),
        (wav(channels=3), "3 channels; 1 to 2 are allowed; mix them to stereo"),
        (wav(channels=65535), "65535 channels; 1 to 2 are allowed"),
        (wav(rate=0), "0 Hz; 8000 to 192000 Hz are allowed"),
        (wav(rate=7999), "7999 Hz; 8000"),
        (wav(rate=192001), "192001 Hz; 8000"),
        (wav(rate=2**32 - 1, align=1), "4294967295 Hz"),
        (wav(align=0), "block align 0; must be 4 for 2 channels of 16 bits"),
        (wav(align=1000), "block align 1000"),
        (wav(bits=8), "format 0x0001 with 8 bits; 16, 24 and 32-bit PCM"),
        (wav(bits=0), "with 0 bits"),
        (wav(tag=3), "format 0x0003 with 16 bits"),
        (wav(tag=0x55), "format 0x0055"),
        (wav(tag=0xFFFE), "format 0xfffe"),
        (wav(body=PCM[: 4 * 4799]), r"4799 samples at 48000 Hz \(0.100 s\); at least 0.1 s"),
        (b"fLaC" + bytes(10), "FLAC of 14 bytes without a STREAMINFO"),
    ],
)
def test_read_refuses(data, words):
    refused(data, words)


def test_read_takes_only_so_many_chunks():
    refused(riff(*[chunk(b"junk", b"")] * (MAX_CHUNKS + 1), fmt()), "more than 1000 WAV chunks")


def test_read_refuses_more_bytes_than_allowed():
    refused(wav(), "38444 bytes; at most 1000 are allowed", limits=Limits(max_bytes=1000))


@pytest.mark.parametrize("format", ["WAV", "FLAC"])
def test_read_counts_the_length_in_model_samples(format):
    for rate, most in ((48000, 4800), (44100, 4410), (96000, 9600), (11025, 1102), (8000, 800)):
        limit = {"model_rate": 48000, "max_model_samples": 4800, "limits": Limits(min_seconds=0)}
        assert read(encoded(noise(1, most), rate, format), **limit).samples.shape == (1, most)
        refused(encoded(noise(1, most + 1), rate, format), f"at most {most} ", **limit)


def test_read_judges_the_header_before_the_samples(monkeypatch):
    monkeypatch.setattr(FlacHeader, "decode", None)  # never gets there
    refused(with_total(encoded(noise(), format="FLAC"), 2**36 - 1), "68719476735 samples")
    monkeypatch.setattr(WavHeader, "decode", None)
    sparse = riff(fmt(channels=1), chunk(b"data", bytes(2 * 1_440_001)))
    refused(sparse, "1440001 samples at 48000 Hz .*; at most 1440000")


def test_read_flac_that_lies_about_its_length():
    flac = encoded(noise(), format="FLAC")
    refused(with_total(flac, 9599), "MD5 checksum")
    refused(with_total(flac, 9601), "says 9601 samples, but the file has 9600")
    long = encoded(np.zeros((1, 2_000_000)), format="FLAC")
    for total in (0, 2_000_000, 1_500_000):
        refused(with_total(long, total), "at most 1440000")
    # one within the limits: nothing after the claimed end is ever decoded
    refused(with_total(long, 10_000), "MD5 checksum")


@pytest.mark.parametrize("total", [0, 9600])
def test_read_refuses_flac_that_ends_early_or_is_damaged(total):
    flac = with_total(encoded(noise(), format="FLAC", subtype="PCM_24"), total)
    for cut in (10, 41, 42, 60, 1000, len(flac) // 2, len(flac) - 1):
        refused(flac[:cut], "FLAC")
    damaged = bytearray(flac)
    damaged[len(flac) // 2] ^= 0xFF
    refused(bytes(damaged), "broken or truncated FLAC")


def test_read_refuses_flac_of_other_bits():
    flac = bytearray(encoded(noise(), format="FLAC"))
    packed = int.from_bytes(flac[18:26], "big") & ~(0x1F << 36) | (19 << 36)
    flac[18:26] = packed.to_bytes(8, "big")
    refused(bytes(flac), "FLAC with 20 bits; 8, 16 and 24 are allowed")


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2e6, -2e6])
def test_read_refuses_what_is_not_finite(subtype, value):
    wave = noise()
    wave[1, 77] = value
    refused(encoded(wave, subtype=subtype), "sample 77 of channel 1 is .*; finite values")


def test_read_raises_nothing_but_audio_errors():
    """Seeded mutations of valid files; what is still accepted must be sound."""
    seeds = [encoded(noise(samples=6000), format="WAV", subtype=s) for s in ("PCM_24", "FLOAT")]
    seeds += [encoded(noise(samples=6000), format=f) for f in ("FLAC", "RF64", "WAVEX")]
    random = np.random.default_rng(1)
    accepted = 0
    for _ in range(600):
        data = bytearray(seeds[random.integers(len(seeds))])
        where = int(random.integers(100 if random.random() < 0.7 else len(data)))
        kind = random.integers(4)
        if kind == 0:
            data[where] = random.integers(256)
        elif kind == 1:
            del data[where : where + int(random.integers(1, 50))]
        elif kind == 2:
            data[where:where] = random.bytes(int(random.integers(1, 50)))
        else:
            data[where : where + 4] = random.choice([b"\xff" * 4, b"\0" * 4, b"data"])
        try:
            got = read(bytes(data), max_model_samples=48_000)
        except AudioError:
            continue
        accepted += 1
        assert got.samples.shape[1] * 48000 <= 48_000 * got.sample_rate
        assert np.isfinite(got.samples).all()
    assert 50 < accepted < 550
