"""What audio.py promises: refusals that name the input, exact samples, exact lengths, levels."""

import base64
import io
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile

from melodyflow import audio
from melodyflow.audio import FORMATS, Audio, AudioError, Limits
from melodyflow.containers import MAX_CHUNKS

LIMITS = Limits()
MODEL = {"model_rate": 48000, "max_model_samples": 1_440_000}


def noise(channels=2, samples=9600, seed=0, peak=0.5):
    values = np.random.default_rng(seed).uniform(-peak, peak, (channels, samples))
    return values.astype(np.float32)


def on_grid(waveform, bits):
    full = 2.0 ** (bits - 1)
    return (np.clip(np.rint(waveform * full), -full, full - 1) / full).astype(np.float32)


def encoded(waveform, rate=48000, format="WAV", subtype="PCM_16"):
    """By libsndfile, so that our own writer is not judged by our own reader alone."""
    file = io.BytesIO()
    soundfile.write(file, waveform.T, rate, subtype=subtype, format=format)
    return file.getvalue()


def riff(*chunks, name=b"RIFF", size=None):
    body = b"WAVE" + b"".join(chunks)
    return name + struct.pack("<I", len(body) if size is None else size) + body


def chunk(name, body, size=None):
    return name + struct.pack("<I", len(body) if size is None else size) + body


def fmt(tag=1, channels=2, rate=48000, bits=16, align=None):
    align = channels * bits // 8 if align is None else align
    align &= 0xFFFF
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * align, align, bits))


def read(data, limits=LIMITS, **over):
    return audio.read(data, limits, **{**MODEL, **over})


def refused(data, words, **over):
    with pytest.raises(AudioError, match=words) as caught:
        read(data, **over)
    assert str(caught.value).startswith("audio: ")


def with_total(flac, total):
    """The same FLAC with another number of samples in its STREAMINFO (36 bits at byte 21.5)."""
    packed = int.from_bytes(flac[18:26], "big") >> 36 << 36 | total
    return flac[:18] + packed.to_bytes(8, "big") + flac[26:]


PCM = np.arange(-9600, 9600, dtype="<i2").tobytes()  # 9600 stereo frames, 0.2 s


# --- unwrap -------------------------------------------------------------------------------------


def test_unwrap_tells_raw_from_base64():
    wav, flac = encoded(noise()), encoded(noise(), format="FLAC")
    for file in (wav, flac):
        text = base64.b64encode(file)
        assert audio.unwrap(file, None, LIMITS) == (file, "raw")
        assert audio.unwrap(file, "raw", LIMITS) == (file, "raw")
        assert audio.unwrap(text, None, LIMITS) == (file, "base64")
        assert audio.unwrap(text, "base64", LIMITS) == (file, "base64")
        assert audio.wrap(file, "raw") == file
        assert audio.wrap(file, "base64") == text


@pytest.mark.parametrize(
    ("payload", "encoding", "words"),
    [
        (b"", None, "audio: 0 bytes"),
        (b"", "raw", "audio: 0 bytes"),
        (b"UklG", "hex", "encoding: 'hex'; 'raw' or 'base64'"),
        (b"UklG\nUklG", None, "encoding: a line break at byte 4 .* without line breaks"),
        (b"UklG UklG", "base64", "encoding: ' ' at byte 4"),
        (b"UklG-_==", None, "encoding: '-' at byte 4"),
        (b"ID3\x03abc", None, r"encoding: '\\x03' at byte 3"),
        (b"UklGR", None, "encoding: audio of 5 bytes is broken base64"),
        (b"UklGR=", None, "broken base64"),
        (b"Ukl=UklG", None, "broken base64"),
        (b"UklGRg==UklG", None, "broken base64"),
        (b"====", None, "broken base64"),
        (b"UklG=", None, "broken base64"),
        (b"UklG====", None, "broken base64"),
        (b"data:audio/wav;base64,UklG", None, "audio: begins with 'data:audio/wav;base64'.*remove"),
        (b"base64_encoded_audio_data", None, "audio: the placeholder"),
        (b"base64_encoded_audio_data", "base64", "audio: the placeholder"),
    ],
)
def test_unwrap_refuses(payload, encoding, words):
    with pytest.raises(AudioError, match=words):
        audio.unwrap(payload, encoding, LIMITS)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 3000, 3001, 3002])
def test_base64_in_several_pieces(size):
    """The last piece is one group, or as full as the others: 3 bytes are 4 characters."""
    size += audio.BASE64_PIECE // 4 * 3 * 2 - 3000
    file = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    assert audio.unwrap(base64.b64encode(file), "base64", LIMITS) == (file, "base64")


@pytest.mark.parametrize("at", [-5, -1, 0, 1, 5])  # beside the seam of two pieces
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (b"\n", "encoding: a line break at byte {at} of .* without line breaks"),
        (b"-", "encoding: '-' at byte {at} of audio"),
        (b"=", "encoding: audio of {length} bytes is broken base64"),
        (b"==", "encoding: audio of {length} bytes is broken base64"),
        (b"====", "encoding: audio of {length} bytes is broken base64"),
    ],
)
def test_broken_base64_in_several_pieces(at, fault, words):
    at += audio.BASE64_PIECE
    text = bytearray(b"A" * (2 * audio.BASE64_PIECE + 4))
    text[at : at + len(fault)] = fault
    with pytest.raises(AudioError, match=words.format(at=at, length=len(text))):
        audio.unwrap(bytes(text), "base64", LIMITS)


@pytest.mark.parametrize(
    "end", [b"A", b"AA", b"AAA", b"A=", b"AA=", b"A===", b"=", b"====", b"AA=A"]
)
def test_a_broken_last_piece_of_base64(end):
    text = b"A" * audio.BASE64_PIECE + end
    with pytest.raises(AudioError, match=f"audio of {len(text)} bytes is broken base64"):
        audio.unwrap(text, "base64", LIMITS)


def test_unwrap_holds_the_decoded_size_to_the_limit():
    limits = Limits(max_bytes=100)
    for size in (98, 99, 100):
        text = base64.b64encode(bytes(size))
        assert len(audio.unwrap(text, None, limits)[0]) == size
    for payload, encoding in ((base64.b64encode(bytes(101)), None), (bytes(101), "raw")):
        with pytest.raises(AudioError, match="audio: 101 bytes; at most 100 are allowed"):
            audio.unwrap(payload, encoding, limits)
    with pytest.raises(AudioError, match="at most"):  # before a character of it is looked at
        audio.unwrap(b"!" * 1000, "base64", limits)


# --- read: what is accepted ---------------------------------------------------------------------


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


# --- read: what is refused ----------------------------------------------------------------------


def wav(data_size=None, body=PCM, **layout):
    return riff(fmt(**layout), chunk(b"data", body, data_size))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes; a WAV or FLAC file is needed"),
        (b"R", "1 bytes that begin with 'R'"),
        (b"OggS" + bytes(60), "begin with 'OggS"),
        (b"RIFF", "RIFF of type ''"),
        (b"RIFF\0\0\0\0AVI " + bytes(60), "RIFF of type 'AVI '"),
        (b"RIFF\0\0\0\0WAVE", "without a data chunk"),
        (riff(fmt()), "without a data chunk"),
        (riff(chunk(b"data", PCM), fmt()), "without a fmt chunk"),
        (riff(chunk(b"fmt ", bytes(10)), chunk(b"data", PCM)), "fmt chunk of 10 bytes"),
        (riff(chunk(b"junk", b"", 2**31), fmt()), "truncated: WAV chunk 'junk' announces"),
        (wav(2**30), "truncated: the WAV header announces 1073741824 bytes of samples, 38400"),
        (wav(body=PCM[:-1], data_size=len(PCM)), "truncated"),
        (wav(body=b""), "0 samples"),
        (wav(channels=0), "0 channels; 1 to 2 are allowed"),
        (wav(channels=3), "3 channels; 1 to 2 are allowed"),
        (wav(channels=65535), "65535 channels; 1 to 2 are allowed"),
        (wav(rate=0), "0 Hz; 8000 to 192000 Hz are allowed"),
        (wav(rate=7999), "7999 Hz; 8000"),
        (wav(rate=192001), "192001 Hz; 8000"),
        (wav(rate=2**32 - 1, align=1), "4294967295 Hz"),
        (wav(align=0), "block align 0; 2 channels of 16 bits make 4"),
        (wav(align=1000), "block align 1000"),
        (wav(bits=8), "format 0x0001 with 8 bits; PCM of 16, 24 or 32"),
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
    monkeypatch.setattr("melodyflow.containers._decode_flac", None)  # never gets there
    refused(with_total(encoded(noise(), format="FLAC"), 2**36 - 1), "68719476735 samples")
    monkeypatch.setattr("melodyflow.containers._decode_wav", None)
    sparse = riff(fmt(channels=1), chunk(b"data", bytes(2 * 1_440_001)))
    refused(sparse, "1440001 samples at 48000 Hz .*; at most 1440000")


def test_read_flac_that_lies_about_its_length():
    flac = encoded(noise(), format="FLAC")
    refused(with_total(flac, 9599), "MD5 checksum")
    refused(with_total(flac, 9601), "announces 9601 samples, 9600 are there")
    long = encoded(np.zeros((1, 2_000_000)), format="FLAC")
    for total in (0, 2_000_000, 1_500_000):
        refused(with_total(long, total), "at most 1440000")
    # one within the limits: what is behind the announced end is never decoded
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
    refused(bytes(flac), "FLAC of 20 bits; 8, 16 and 24 are allowed")


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


# --- lengths, rates, channels -------------------------------------------------------------------


def test_lengths_in_integers():
    assert audio.model_length(44100, 44100, 48000) == 48000
    assert audio.model_length(44101, 44100, 48000) == 48002
    assert audio.model_length(1, 192000, 48000) == 1
    assert audio.model_length(48001, 48000, 48000) == 48001
    assert audio.result_length(48001, 48000, 48000) == 48001
    assert audio.result_length(3, 48000, 24000) == 2  # 1.5 is rounded up
    assert audio.result_length(2**40 + 1, 44100, 44100) == 2**40 + 1  # beyond float32, exact


def test_equal_rates_leave_the_samples_alone():
    source = read(encoded(noise()))
    there = audio.to_model(source, sample_rate=48000, channels=2)
    np.testing.assert_array_equal(there, source.samples)
    back = audio.from_model(there, model_rate=48000, extent=source.extent, sample_rate=48000)
    np.testing.assert_array_equal(back, source.samples)


def tones(rate, samples, channels):
    """Band-limited below 3 kHz, silent at both ends: any resampler can keep it."""
    seconds = np.arange(samples) / rate
    window = np.sin(np.pi * np.arange(samples) / samples) ** 2
    waves = [
        window * sum(np.sin(2 * np.pi * (f + 31 * c) * seconds) for f in (220, 997, 2900)) / 4
        for c in range(channels)
    ]
    return np.stack(waves).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize("extra", [0, 1])
def test_round_trip_keeps_length_time_and_content(rate, extra):
    source = Audio(tones(rate, rate // 2 + extra, 2), rate, "FLOAT")
    there = audio.to_model(source, sample_rate=48000, channels=2)
    assert there.shape == (2, audio.model_length(rate // 2 + extra, rate, 48000))
    np.testing.assert_allclose(there, tones_like(there, rate, rate // 2 + extra), atol=1e-4)
    untrimmed = np.pad(there, ((0, 0), (0, -there.shape[1] % 1920)))
    back = audio.from_model(untrimmed, model_rate=48000, extent=source.extent, sample_rate=rate)
    assert back.shape == source.samples.shape
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, source.samples, atol=1e-4)


def tones_like(waveform, rate, samples):
    """tones(rate, samples) as a function of time, sampled at 48 kHz."""
    seconds = np.arange(waveform.shape[1]) / 48000
    window = np.sin(np.pi * np.minimum(seconds * rate / samples, 1)) ** 2
    return np.stack(
        [
            window * sum(np.sin(2 * np.pi * (f + 31 * c) * seconds) for f in (220, 997, 2900)) / 4
            for c in range(waveform.shape[0])
        ]
    )


@pytest.mark.parametrize("own", [8000, 22050, 44100, 47999, 48000, 96000, 192000])
@pytest.mark.parametrize("asked", [8000, 22050, 44100, 48000, 96000, 191999, 192000])
@pytest.mark.parametrize("model", [16000, 32000, 44100, 48000])
def test_results_have_the_exact_length(own, asked, model):
    for samples in (own // 10, own // 7 + 1):
        source = Audio(np.zeros((1, samples), np.float32), own, "PCM_16")
        there = audio.to_model(source, sample_rate=model, channels=2)
        assert there.shape == (2, -(-samples * model // own))
        back = audio.from_model(there, model_rate=model, extent=source.extent, sample_rate=asked)
        assert back.shape == (2, (2 * samples * asked + own) // (2 * own))


def test_channels():
    mono, stereo = (Audio(noise(c), 48000, "PCM_16") for c in (1, 2))
    there = audio.to_model(mono, sample_rate=48000, channels=2)
    np.testing.assert_array_equal(there, np.repeat(mono.samples, 2, axis=0))
    mean = audio.to_model(stereo, sample_rate=48000, channels=1)
    np.testing.assert_allclose(mean[0], stereo.samples.mean(0), atol=1e-7)
    out = {
        (source.samples.shape[0], codec): audio.from_model(
            noise(codec), model_rate=48000, extent=source.extent, sample_rate=48000
        )
        for source in (mono, stereo)
        for codec in (1, 2)
    }
    assert {pair: wave.shape[0] for pair, wave in out.items()} == {
        (1, 1): 1,
        (1, 2): 2,
        (2, 1): 2,
        (2, 2): 2,
    }
    np.testing.assert_array_equal(out[2, 1][0], out[2, 1][1])


def test_from_model_refuses_to_invent_what_the_codec_did_not_give():
    source = Audio(noise(2, 9600), 48000, "PCM_16")
    with pytest.raises(ValueError, match="decoded: 9599 samples; at least 9600 are needed"):
        audio.from_model(noise(2, 9599), model_rate=48000, extent=source.extent, sample_rate=48000)


# --- levels and files ---------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_level_leaves_what_fits(format):
    for wave in (np.zeros((2, 100), np.float32), noise(peak=1.0), np.ones((1, 9), np.float32)):
        before = wave.copy()
        assert audio.level(wave, format) == 0.0
        np.testing.assert_array_equal(wave, before)


@pytest.mark.parametrize(("format", "bits"), [("wav", 16), ("wav24", 24), ("flac", 24)])
@pytest.mark.parametrize("peak", [1.0000001, 1.5, 3.7, 1000.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_level_scales_the_peak_to_the_largest_value(format, bits, peak, sign):
    wave = noise(peak=0.9 * peak)
    wave[1, 5] = sign * np.float32(peak)
    scaled = wave.copy()
    gain = audio.level(scaled, format)
    assert gain == pytest.approx(-20 * np.log10(peak), abs=1e-3)
    assert gain < 0
    data, _ = soundfile.read(
        io.BytesIO(audio.write(scaled, 48000, format, {})), dtype="int32", always_2d=True
    )
    stored = data.T >> (32 - bits)
    largest = 2 ** (bits - 1) - 1
    assert stored[1, 5] == sign * largest
    assert (np.abs(stored) == largest).sum() == 1
    np.testing.assert_allclose(scaled * peak, wave, rtol=1e-4, atol=1e-4)


def test_level_never_touches_float_files():
    loud = noise(peak=8.0)
    before = loud.copy()
    assert audio.level(loud, "wav32f") == 0.0
    np.testing.assert_array_equal(loud, before)
    np.testing.assert_array_equal(read(audio.write(loud, 48000, "wav32f", {})).samples, loud)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_level_refuses_what_is_not_finite(value):
    wave = noise()
    wave[0, 3] = value
    with pytest.raises(ValueError, match="must be finite"):
        audio.level(wave, "wav")


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
    with pytest.raises(AudioError, match="sample_rate: 191999 Hz in FLAC; above 65535 Hz"):
        audio.write(noise(), 191_999, "flac", {})


# --- regions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "samples"),
    [
        (None, None, (0, 100_000)),
        (0.5, None, (22050, 100_000)),
        (None, 1.0, (0, 44100)),
        (0.5, 0.6, (22050, 26460)),
        (0.0, 100_000 / 44100, (0, 100_000)),
        (0.0, np.float32(100_000 / 44100).item() + 1e-4, (0, 100_000)),  # late, by rounding
    ],
)
def test_the_samples_of_a_region(start, end, samples):
    extent = audio.Extent(1, 100_000, 44100)
    assert audio.region_samples(start, end, extent, Limits()) == samples


@pytest.mark.parametrize(
    ("named", "start", "end"),
    [
        ("start", 3.0, None),
        ("end", 1.0, 2.3),
        ("end", 1.0, 1.0999),
        ("start", 2.2, None),
        ("end", None, 0.05),
    ],
)
def test_what_is_no_region_is_named(named, start, end):
    with pytest.raises(AudioError, match=rf"^{named}: "):
        audio.region_samples(start, end, audio.Extent(1, 100_000, 44100), Limits())


@pytest.mark.parametrize(("first", "last"), [(0, 900), (100, 900), (100, 1000), (0, 1000)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_splice_changes_nothing_outside_and_hands_over_inside(first, last, channels):
    source, result = noise(channels, 1000), noise(2, last - first) + 3
    spliced = audio.splice(source, result, first, last, 50)
    np.testing.assert_array_equal(spliced[:, :first], np.broadcast_to(source, (2, 1000))[:, :first])
    np.testing.assert_array_equal(spliced[:, last:], np.broadcast_to(source, (2, 1000))[:, last:])
    begin, end = (50 if first else 0), (50 if last < 1000 else 0)
    inner = slice(first + begin, last - end)
    expected = result[:, begin : result.shape[1] - end]
    np.testing.assert_allclose(spliced[:, inner], expected, atol=1e-6)
    assert np.all(spliced <= np.maximum(source.max(), result.max()))


def test_a_splice_joins_without_a_jump():
    """Two unrelated tones: a hard cut jumps by up to 2, the crossfade moves little more than a
    tone does by itself."""
    t = np.arange(9600, dtype=np.float32) / 48000
    source, result = np.cos(2 * np.pi * 200 * t)[None], -np.cos(2 * np.pi * 200 * t)[None]
    steps = {
        fade: np.abs(np.diff(audio.splice(source, result[:, 2400:7200], 2400, 7200, fade))).max()
        for fade in (0, 480)
    }
    alone = np.abs(np.diff(source)).max()
    assert steps[0] > 20 * alone
    assert steps[480] < 1.3 * alone


# --- loops --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "own", "frames"),
    [(4800, 48000, 3), (4799, 48000, 2), (88200, 44100, 50), (89082, 44100, 51), (1, 8000, 1)],
)
def test_a_loop_gets_the_nearest_whole_frames(samples, own, frames):
    assert audio.loop_length(samples, own, 48000, 1920) == frames * 1920


@pytest.mark.parametrize(("samples", "rate"), [(44100, 44100), (44101, 44100), (31999, 16000)])
def test_a_loop_there_and_back_is_the_same_and_closes(samples, rate):
    """Periods that fit into the loop stay sines, also over its end."""
    turns = 2 * np.pi * np.arange(samples) / samples
    wave = np.sin(440 * turns)[None].astype(np.float32)
    source = Audio(wave, rate, "FLOAT")
    there = audio.to_model(source, sample_rate=48000, channels=1, loop_hop=1920)
    assert there.shape[1] % 1920 == 0
    around = 2 * np.pi * np.arange(there.shape[1]) / there.shape[1]
    np.testing.assert_allclose(there[0], np.sin(440 * around), atol=1e-4)
    back = audio.from_model(
        there, model_rate=48000, extent=source.extent, sample_rate=rate, loop=True
    )
    np.testing.assert_allclose(back, wave, atol=1e-4)


@pytest.mark.parametrize(
    ("own", "new"), [(800, 1280), (1280, 800), (4799, 4800), (3528, 1280), (192001, 190080)]
)
def test_a_loop_keeps_its_highs(own, new):
    """At nine tenths of the lower rate's half."""
    turns = int(0.45 * min(own, new)) * 2 * np.pi
    wave = np.cos(turns * np.arange(own) / own)[None].astype(np.float32)
    made = audio._resample_loop(wave, new)
    np.testing.assert_allclose(made[0], np.cos(turns * np.arange(new) / new), atol=1e-3)


def test_a_loop_takes_memory_for_its_lap_alone():
    """Also where its length has no small factors: ten minutes of them must not fill the machine."""
    wave = np.zeros((1, 4_000_037), np.float32)
    tracemalloc.start()
    made = audio._resample_loop(wave, 4_000_320)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < made.nbytes + 24 * 2**20
