"""Sounds of all kinds -> what is sent, and the hash of what they say."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from melodyflow_client import AudioError, Result
from melodyflow_client.audio import load, waveform

RATE = 22050


def sound(channels: int = 2, seconds: float = 0.5) -> np.ndarray:
    """float32 [channels, samples], exact in 16 bits."""
    t = np.arange(int(seconds * RATE)) / RATE
    waves = [np.sin(2 * np.pi * 220 * (c + 1) * t) * 0.4 for c in range(channels)]
    return (np.round(np.stack(waves) * 2**15) / 2**15).astype(np.float32)


def encoded(array: np.ndarray, container: str, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    if (subtype or "PCM").startswith("PCM"):  # whole numbers, lest soundfile scales by 2^15 - 1
        array = np.round(array * 2**15).astype(np.int16)
    soundfile.write(buffer, array.T, RATE, format=container, subtype=subtype)
    return buffer.getvalue()


def with_av(array: np.ndarray, container: str, codec: str, rate: int = 44100) -> bytes:
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.layout = "stereo"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(array), "fltp", "stereo")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(stream.format, "stereo", rate)
        for item in [*resampler.resample(frame), *resampler.resample(None)]:
            for packet in stream.encode(item):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "PCM_32"),
        ("WAV", "FLOAT"),
        ("WAV", "DOUBLE"),
        ("WAVEX", "PCM_24"),
        ("RF64", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("FLAC", "PCM_24"),
    ],
)
def test_wav_and_flac_travel_as_they_are_and_are_one_clip(container: str, subtype: str) -> None:
    data = encoded(sound(), container, subtype)
    clip = load(data)
    assert clip.data == data
    assert (clip.sample_rate, clip.channels, clip.samples) == (RATE, 2, RATE // 2)
    assert clip.digest == load((sound(), RATE)).digest


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("AIFF", "PCM_16"), ("CAF", "PCM_16"), ("W64", "PCM_24"), ("AU", "FLOAT")],
)
def test_other_lossless_files_are_rewritten_exactly(container: str, subtype: str) -> None:
    clip = load(encoded(sound(), container, subtype))
    assert clip.data.startswith(b"RIFF")
    assert clip.digest == load((sound(), RATE)).digest


@pytest.mark.parametrize(
    ("container", "subtype"), [("AIFF", "PCM_32"), ("AU", "FLOAT"), ("W64", "DOUBLE")]
)
def test_no_depth_is_lost(container: str, subtype: str) -> None:
    fine = np.array([[0.5 + 2**-24, -1.5, 2**-20 + 2**-31]]) / 2
    buffer = io.BytesIO()
    soundfile.write(buffer, fine.T, RATE, format=container, subtype=subtype)
    with soundfile.SoundFile(io.BytesIO(load(buffer.getvalue()).data)) as sent:
        assert sent.subtype == subtype
        np.testing.assert_array_equal(
            sent.read(dtype="float64"), soundfile.read(io.BytesIO(buffer.getvalue()))[0]
        )


def test_a_tag_in_another_encoding_costs_nothing() -> None:
    mp3 = with_av(sound(), "mp3", "libmp3lame")
    tag = b"TAG" + "Für Elise".encode("latin-1").ljust(125, b"\0")
    assert load(mp3 + tag).digest == load(mp3).digest


def test_a_coding_that_ffmpeg_does_not_know_is_reported() -> None:
    pytest.importorskip("av")
    unknown = encoded(sound(), "CAF", "PCM_16").replace(b"lpcm", b"none", 1)
    with pytest.raises(AudioError, match="no decoder"):
        load(unknown)


def test_wav_of_other_codings_is_rewritten() -> None:
    for subtype in ("PCM_U8", "ULAW"):
        clip = load(encoded(sound(), "WAV", subtype))
        assert clip.data.startswith(b"RIFF")
        assert clip.samples == RATE // 2


def test_path_bytes_file_object_and_array_are_one_clip(tmp_path: Path) -> None:
    data = encoded(sound(), "WAV", "PCM_16")
    path = tmp_path / "riff.wav"
    path.write_bytes(data)
    clips = [load(path), load(str(path)), load(data), load(bytearray(data)), load(io.BytesIO(data))]
    with path.open("rb") as file:
        clips.append(load(file))
    assert {clip.digest for clip in clips} == {load((sound(), RATE)).digest}


def test_a_loaded_clip_is_taken_as_it_is() -> None:
    clip = load((sound(), RATE))
    assert load(clip) is clip


def test_rate_channels_and_samples_make_another_clip() -> None:
    base = sound(1)
    digests = {
        load((base, RATE)).digest,
        load((base, 2 * RATE)).digest,
        load((np.concatenate([base, base]), RATE)).digest,
        load((base * np.float32(0.5), RATE)).digest,
        load((base[:, :-1], RATE)).digest,
    }
    assert len(digests) == 5


@pytest.mark.parametrize("kind", ["int16", "int32", "float32", "float64"])
def test_arrays_keep_their_values(kind: str) -> None:
    array = sound()
    if kind.startswith("int"):
        array = array.astype(np.float64) * 2.0 ** (int(kind[3:]) - 1)
    clip = load((array.astype(kind), RATE))
    decoded, rate = waveform(clip.data)
    assert rate == RATE
    np.testing.assert_array_equal(decoded, sound())


def test_mono_array_may_be_flat_and_floats_may_exceed_full_scale() -> None:
    loud = np.array([0.0, 2.5, -3.0], dtype=np.float32)
    clip = load((loud, 48000))
    np.testing.assert_array_equal(waveform(clip.data)[0], loud[None])


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("mp3", "libmp3lame", 44100),
        ("mp4", "aac", 44100),
        ("ogg", "libopus", 48000),
        ("matroska", "aac", 44100),
    ],
)
def test_lossy_files_are_decoded_and_sent_as_wav(container: str, codec: str, rate: int) -> None:
    clip = load(with_av(sound(seconds=1.0), container, codec, rate))
    assert clip.data.startswith(b"RIFF")
    assert (clip.sample_rate, clip.channels) == (rate, 2)
    assert abs(clip.samples - rate) < 4096  # encoders pad
    decoded, _ = waveform(clip.data)
    spectrum = np.abs(np.fft.rfft(decoded[0]))
    assert abs(np.argmax(spectrum) * rate / clip.samples - 220) < 2


@pytest.mark.parametrize("container", ["mp3", "wav", "w64"])
def test_without_pyav_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, container: str
) -> None:
    data = with_av(sound(), container, "libmp3lame")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r'pip install "melodyflow-client\[av\]"'):
        load(data)


def test_a_broken_mp3_in_a_wav_is_refused_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    data = with_av(sound(), "wav", "libmp3lame")
    start = data.index(b"data") + 8
    for size in (1, 40, 4000):
        with pytest.raises(AudioError, match="nothing of its sound can be decoded"):
            load(data[:start] + bytes(size))
    assert capfd.readouterr().err == ""


def test_playlists_open_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret.ts").write_bytes(with_av(sound(), "mpegts", "aac"))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{tmp_path}/secret.ts\n"
    for text in (
        playlist + "#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{tmp_path}/secret.ts'",
    ):
        with pytest.raises(AudioError, match="can be decoded"):
            load(text.encode())


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"", "empty"),
        (b"not a sound at all" * 100, "can be decoded"),
        ("/nowhere/riff.wav", "cannot read '/nowhere/riff.wav': No such file"),
        ("/", "cannot read"),
        (np.zeros((2, 100), np.float32), "needs its rate"),
        ((np.zeros((100, 2), np.float32), 48000), "transpose"),
        ((np.zeros((2, 0), np.float32), 48000), "not empty"),
        ((np.zeros((1, 2, 3), np.float32), 48000), "shape"),
        ((np.zeros(3, np.float32), 0), "rate"),
        ((np.zeros(3, np.float32), 44100.0), "rate"),
        ((np.zeros(3, np.uint8), 44100), "uint8"),
        ((np.zeros(3, np.float32), 44100, 1), "tuple of 3"),
        (io.StringIO("text"), "binary"),
        (17, "not int"),
    ],
)
def test_what_is_not_sound_is_refused(source: object, reason: str) -> None:
    with pytest.raises(AudioError, match=reason) as caught:
        load(source)  # type: ignore[arg-type]
    assert str(caught.value).startswith("audio: ")


def test_a_pipe_that_does_not_wait_for_the_rest_is_refused() -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.write(write, encoded(sound(), "WAV", "PCM_16")[:1000])
    with open(read, "rb") as file, pytest.raises(AudioError, match="doesn't wait"):
        load(file)
    os.close(write)


def test_file_without_a_sound_track_is_refused() -> None:
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    with pytest.raises(AudioError, match="no sound track"):
        load(buffer.getvalue())


def result(data: bytes) -> Result:
    return Result(audio=data, sample_rate=RATE, seed=7, gain_db=0.0, info={})


def test_result_waveform_seconds_peak_and_save(tmp_path: Path) -> None:
    made = result(encoded(sound(), "WAV", "PCM_16"))
    np.testing.assert_array_equal(made.waveform, sound())
    assert made.waveform.dtype == np.float32
    assert made.seconds == 0.5
    assert made.peak == pytest.approx(0.4, abs=1e-3)
    path = made.save(tmp_path / "out.wav")
    assert path.read_bytes() == made.audio
    assert list(tmp_path.iterdir()) == [path]


def test_save_refuses_a_suffix_of_another_format(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="the result is WAV"):
        result(encoded(sound(), "WAV")).save(tmp_path / "out.flac")
    with pytest.raises(AudioError, match="the result is FLAC"):
        result(encoded(sound(), "FLAC")).save(tmp_path / "out.wav")
    assert not list(tmp_path.iterdir())
