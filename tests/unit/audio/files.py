"""Files to read, and what reading them gives."""

import io
import struct

import numpy as np
import pytest
import soundfile

from melodyflow import audio
from melodyflow.audio import Limits
from melodyflow.errors import AudioError

LIMITS = Limits()
MODEL = {"model_rate": 48000, "max_model_samples": 1_440_000}
PCM = np.arange(-9600, 9600, dtype="<i2").tobytes()  # 9600 stereo frames, 0.2 s


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


def wav(data_size=None, body=PCM, **layout):
    return riff(fmt(**layout), chunk(b"data", body, data_size))
