"""load(max_seconds=...): what is too long is given up, whatever its container or header says."""

import io

import numpy as np
import pytest
import soundfile

from melodyflow_client import AudioError, load

RATE = 8000


def file(seconds: float, container: str, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    samples = np.zeros((int(seconds * RATE), 2), dtype=np.float32)
    soundfile.write(buffer, samples, RATE, format=container, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("AIFF", "PCM_16"), ("WAV", "PCM_U8"), ("MP3", None)],
)
def test_longer_than_asked_for_is_refused(container: str, subtype: str | None) -> None:
    data = file(12.0, container, subtype)
    assert load(data, max_seconds=20.0).samples >= 12 * RATE
    with pytest.raises(AudioError, match=r"audio: is longer than 11\.5 s"):
        load(data, max_seconds=11.5)


def test_exactly_as_long_is_taken() -> None:
    assert load(file(2.0, "WAV"), max_seconds=2.0).samples == 2 * RATE


def test_a_flac_whose_header_does_not_say_is_counted() -> None:
    data = bytearray(file(12.0, "FLAC"))
    assert data[:4] == b"fLaC"
    # STREAMINFO: the lower 36 bits of these 8 bytes are the number of samples; 0 is unknown.
    start = 8 + 10
    value = int.from_bytes(data[start : start + 8], "big") & ~(2**36 - 1)
    data[start : start + 8] = value.to_bytes(8, "big")
    with pytest.raises(AudioError, match="audio: "):
        load(bytes(data), max_seconds=5.0)
