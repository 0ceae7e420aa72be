"""What load() takes is bounded, whatever a file unpacks to: memory, limits, budget, an end."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from melodyflow_client import AudioError
from melodyflow_client.audio import Limits, load

RATE = 8000
MIB = 2**20


def file(seconds: float, container: str, subtype: str | None = None, channels: int = 2) -> bytes:
    buffer = io.BytesIO()
    samples = np.zeros((int(seconds * RATE), channels), dtype=np.float32)
    soundfile.write(buffer, samples, RATE, format=container, subtype=subtype)
    return buffer.getvalue()


def with_av(seconds: int, container: str, codec: str, rate: int) -> bytes:
    """Silence, which is small."""
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="stereo")
        resampler = av.AudioResampler(stream.format, "stereo", rate)
        silence = np.zeros((2, rate), np.float32)
        for second in range(seconds):
            frame = av.AudioFrame.from_ndarray(silence, "fltp", "stereo")
            frame.sample_rate, frame.pts = rate, second * rate
            for item in resampler.resample(frame):
                out.mux(stream.encode(item))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + crc


def png(side: int) -> bytes:
    """A black picture, small, of 3 * side ** 2 bytes in memory."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + 3 * side) * side))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def box(name: bytes, *bodies: bytes) -> bytes:
    body = b"".join(bodies)
    return struct.pack(">I", 8 + len(body)) + name + body


def with_cover(m4a: bytes, picture: bytes) -> bytes:
    """An M4A whose moov is its last box, with a cover."""
    cover = box(b"covr", box(b"data", struct.pack(">II", 14, 0), picture))
    handler = box(b"hdlr", bytes(8), b"mdirappl", bytes(9))
    tags = box(b"udta", box(b"meta", bytes(4), handler, box(b"ilst", cover)))
    start = m4a.rindex(b"moov") - 4
    return m4a[:start] + box(b"moov", m4a[start + 8 :], tags)


GROWTH = """
import re, sys
import av
from melodyflow_client import AudioError
from melodyflow_client.audio import cap_allocations, load

cap_allocations()

def most():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

before = most()
try:
    size = len(load(sys.argv[1]).data)
except AudioError:
    size = 0
print(most() - before, size)
"""


def growth(path: Path) -> tuple[int, int]:
    """(bytes that a process of its own takes to load it, bytes of the clip)."""
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    taken, size = done.stdout.split()
    return int(taken), int(size)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for its memory")
class TestMemory:
    def test_a_small_file_takes_what_its_samples_take(self, tmp_path: Path) -> None:
        path = tmp_path / "silence.wv"
        path.write_bytes(with_av(60, "wv", "wavpack", 192_000))
        assert path.stat().st_size < 100_000
        taken, size = growth(path)
        assert size == 44 + 60 * 192_000 * 2 * 2
        assert taken < size + 40 * MIB

    def test_a_wav_is_not_decoded_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "silence.wav"
        path.write_bytes(file(600, "WAV", "DOUBLE"))
        taken, size = growth(path)
        assert taken < size + 40 * MIB

    def test_pictures_are_not_decoded(self, tmp_path: Path) -> None:
        path = tmp_path / "cover.m4a"
        path.write_bytes(with_cover(with_av(1, "mp4", "aac", 44_100), png(8000)))
        taken, _ = growth(path)
        assert taken < 60 * MIB  # the picture has 183

    def test_an_index_is_bounded(self, tmp_path: Path) -> None:
        """10^8 packets in a few bytes."""
        data = bytearray(with_av(1, "mp4", "aac", 44_100))
        for name, position, values in (
            (b"stsz", 8, (4, 10**8)),
            (b"stsc", 16, (10**8,)),
            (b"stts", 12, (10**8, 1024)),
        ):
            place = data.index(name) + position
            struct.pack_into(f">{len(values)}I", data, place, *values)
        path = tmp_path / "index.m4a"
        path.write_bytes(data)
        taken, _ = growth(path)
        assert taken < 60 * MIB


class Budget:
    """Counts, and holds no more than `limit`."""

    def __init__(self, limit: float = float("inf")) -> None:
        self.limit, self.taken, self.most = limit, 0, 0

    def take(self, size: int) -> None:
        if self.taken + size > self.limit:
            raise MemoryError("the budget is spent")
        self.taken += size
        self.most = max(self.most, self.taken)

    def give_back(self, size: int) -> None:
        assert 0 <= size <= self.taken
        self.taken -= size


@pytest.mark.parametrize(
    ("container", "subtype"), [("WAV", "PCM_16"), ("AIFF", "PCM_24"), ("MP3", None)]
)
@pytest.mark.parametrize("kind", ["bytes", "bytearray", "path", "file"])
def test_the_clips_bytes_come_from_the_budget(
    container: str, subtype: str | None, kind: str, tmp_path: Path
) -> None:
    data = file(3, container, subtype)
    path = tmp_path / "sound"
    path.write_bytes(data)
    source = {"bytes": data, "bytearray": bytearray(data), "path": path, "file": io.BytesIO(data)}
    budget = Budget()
    clip = load(source[kind], budget=budget)
    assert budget.taken == (0 if clip.data is data else len(clip.data))
    assert budget.most <= len(data) + len(clip.data)


def test_a_spent_budget_ends_the_decoding(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(file(3, "WAV", "PCM_16"))
    for source in (path, file(3, "AIFF", "PCM_24"), file(3, "MP3")):
        budget = Budget(limit=40_000)
        with pytest.raises(MemoryError, match="the budget is spent"):
            load(source, budget=budget)
        assert budget.taken == 0


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_sample_rate=7999), "audio: 8000 Hz; at most 7999 Hz"),
        (Limits(max_channels=1), "audio: 2 channels; at most 1"),
        (Limits(max_seconds=29), "audio: is longer than 29 s"),
        (Limits(max_bytes=100), "audio: takes more than 100 bytes"),
    ],
)
@pytest.mark.parametrize(
    ("container", "subtype"),
    [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("AIFF", "PCM_16"), ("MP3", None), ("OGG", "VORBIS")],
)
def test_limits_hold_for_every_container(
    container: str, subtype: str | None, limits: Limits, reason: str
) -> None:
    data = file(30, container, subtype)
    load(data, limits=Limits(max_bytes=10 * MIB, max_seconds=30.5, max_channels=2))
    budget = Budget()
    with pytest.raises(AudioError, match=reason):
        load(data, limits=limits, budget=budget)
    assert budget.taken == 0
    assert budget.most <= 44 + 29 * RATE * 2 * 3


def test_decoding_ends_where_a_stream_that_announces_nothing_gets_too_long() -> None:
    data = with_av(30, "adts", "aac", 44_100)
    budget = Budget()
    with pytest.raises(AudioError, match="longer than 2 s"):
        load(data, max_seconds=2, budget=budget)
    assert 44_100 < budget.most <= 44 + 2 * 44_100 * 2 * 3


def test_what_the_header_announces_is_refused_before_it_is_decoded() -> None:
    budget = Budget()
    for limits in (Limits(max_bytes=MIB), Limits(max_seconds=10)):
        for data in (file(60, "AIFF", "PCM_24"), with_av(60, "wv", "wavpack", 48_000)):
            with pytest.raises(AudioError, match=r"(more|longer) than"):
                load(data, limits=limits, budget=budget)
    assert budget.most <= 44


def test_limits_of_a_server() -> None:
    limits = Limits.of_server({"max_seconds": 30, "max_audio_bytes": 1000, "max_channels": 2})
    assert limits == Limits(max_seconds=30, max_bytes=1000, max_channels=2)


class Enough(Exception):
    pass


@pytest.mark.parametrize(
    ("container", "subtype"), [("WAV", "PCM_16"), ("AIFF", "PCM_24"), ("MP3", None)]
)
@pytest.mark.parametrize("calls", [1, 3])
def test_a_check_ends_the_decoding(container: str, subtype: str | None, calls: int) -> None:
    left = calls
    budget = Budget()

    def check() -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Enough

    with pytest.raises(Enough):
        load(file(60, container, subtype), check=check, budget=budget)
    assert budget.taken == 0
