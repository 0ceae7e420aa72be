"""Musical facts and comparisons: of clips whose truth is known, and controls."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile

from melodyflow_client import AudioError, Comparison, InvalidRequest, compare
from melodyflow_client.cli import main
from melodyflow_client.measures import NOTES

RIFF = Path(__file__).resolve().parents[2] / "examples/riff.wav"  # A minor, 100 BPM, 9.6 s
RATE = 22050
Clip = tuple[np.ndarray, int]


@pytest.fixture(scope="module")
def riff() -> Clip:
    return librosa.load(RIFF, sr=RATE)[0], RATE


def tone(note: float, seconds: float, harmonics: int = 4) -> np.ndarray:
    """`[samples]`, a MIDI note on something like an organ."""
    t = np.arange(int(seconds * RATE)) / RATE
    frequency = 440 * 2 ** ((note - 69) / 12)
    wave = sum(np.sin(2 * np.pi * frequency * k * t) / k for k in range(1, harmonics + 1))
    return wave * np.minimum(1, np.minimum(t, t[::-1]) / 0.01)


def played(notes: list[int], bpm: float, harmonics: int = 4) -> Clip:
    """A melody in eighths, its first note of four accented."""
    eighth = 30 / bpm
    tones = [
        tone(note, eighth, harmonics) * (0.2 if i % 4 == 0 else 0.1) for i, note in enumerate(notes)
    ]
    return np.concatenate(tones).astype(np.float32), RATE


def test_a_clip_is_like_itself() -> None:
    found = compare(RIFF, RIFF)
    assert (found.a.seconds, found.a.sample_rate, found.a.channels) == (9.6, 48000, 2)
    assert found.a.tempo == pytest.approx(100, abs=0.3)
    assert found.a.key in ("A minor", "C major")
    assert found.a == found.b
    assert found.tempo_error == 0
    assert found.transposition == 0
    assert (found.chroma_correlation, found.onset_correlation) == pytest.approx((1, 1))
    assert found.chroma_by_shift
    assert len(found.chroma_by_shift) == 12
    assert max(found.chroma_by_shift[1:]) < 0.6


@pytest.mark.parametrize("ratio", [0.8, 0.95, 1.01, 1.04, 1.25])
def test_another_tempo_is_told_from_the_same(riff: Clip, ratio: float) -> None:
    stretched = librosa.effects.time_stretch(riff[0], rate=ratio)
    found = compare(riff, (stretched, RATE))
    assert found.tempo_error == pytest.approx(100 * (ratio - 1), abs=0.3)
    assert found.b.tempo == pytest.approx(100 * ratio, abs=0.5)
    assert found.transposition == 0
    assert found.onset_correlation is not None
    assert abs(found.onset_correlation) < 0.3  # not at the same time any more


@pytest.mark.parametrize("semitones", [-5, -1, 3, 6])
def test_a_transposed_clip_is_told(riff: Clip, semitones: int) -> None:
    shifted = librosa.effects.pitch_shift(riff[0], sr=RATE, n_steps=semitones)
    found = compare(riff, (shifted, RATE))
    assert found.transposition == semitones
    assert found.chroma_by_shift
    assert found.chroma_by_shift[semitones % 12] > 0.9
    assert found.chroma_correlation == found.chroma_by_shift[0]
    assert found.chroma_correlation < 0.5
    assert found.tempo_error == pytest.approx(0, abs=0.3)
    assert found.onset_correlation is not None
    assert found.onset_correlation > 0.5
    assert found.a.key
    tonic, mode = found.a.key.split()
    assert found.b.key == f"{NOTES[(NOTES.index(tonic) + semitones) % 12]} {mode}"


def test_another_instrument_plays_the_same_and_another_clip_does_not() -> None:
    notes = [60, 64, 67, 64, 65, 69, 72, 69, 62, 65, 69, 65, 67, 71, 74, 71] * 2
    other = [61, 66, 63, 70, 66, 61, 68, 64, 58, 63, 61, 70, 56, 61, 66, 59] * 2
    source = played(notes, 90)
    same = compare(source, played(notes, 90, harmonics=12))
    assert same.chroma_correlation is not None
    assert same.onset_correlation is not None
    assert same.chroma_correlation > 0.8
    assert same.onset_correlation > 0.8
    assert same.tempo_error == pytest.approx(0, abs=0.1)
    assert {same.a.key, same.b.key} <= {"C major", "A minor"}
    different = compare(source, played(other, 117))
    assert different.chroma_correlation is not None
    assert different.onset_correlation is not None
    assert different.chroma_correlation < 0.3
    assert different.onset_correlation < 0.3
    assert different.a.tempo == pytest.approx(90, abs=0.5)
    assert different.tempo_error == pytest.approx(30, abs=0.3)


def test_noise_is_not_taken_for_music(riff: Clip) -> None:
    noise = np.random.default_rng(0).standard_normal(len(riff[0])).astype(np.float32) / 10
    found = compare(riff, (noise, RATE))
    assert found.b.tempo is None
    assert found.tempo_error is None
    assert found.chroma_correlation == pytest.approx(0, abs=0.15)
    assert found.onset_correlation == pytest.approx(0, abs=0.15)


def test_late_is_the_same_music_at_another_time(riff: Clip) -> None:
    late = compare(riff, (np.roll(riff[0], int(0.15 * RATE)), RATE))
    assert late.tempo_error == pytest.approx(0, abs=0.1)
    assert late.chroma_correlation is not None
    assert late.onset_correlation is not None
    assert 0.8 < late.chroma_correlation < 0.95
    assert late.onset_correlation < 0.2


def test_loudness_is_that_of_bs_1770() -> None:
    # The standard's own: a 0 dBFS sine of 997 Hz in one front channel has -3.01 LKFS.
    t = np.arange(48000 * 5) / 48000
    sine = np.sin(2 * np.pi * 997 * t).astype(np.float32)
    found = compare((sine, 48000), (np.stack([sine, sine]) * 0.25, 48000))
    assert found.a.loudness == pytest.approx(-3.01, abs=0.05)
    assert found.b.loudness == pytest.approx(-12.04, abs=0.05)


@pytest.mark.parametrize("samples", [1, 100, 4800, 14400])
@pytest.mark.filterwarnings("error")
def test_silence_and_short_clips_are_no_error(samples: int) -> None:
    noise = np.random.default_rng(0).standard_normal(samples).astype(np.float32) / 10
    found = compare((noise, 48000), (noise * 0, 48000))
    nothing = (found.tempo_error, found.chroma_correlation, found.chroma_by_shift)
    assert nothing == (None, None, None)
    assert (found.transposition, found.onset_correlation) == (None, None)
    assert (found.a.loudness, found.b.loudness) == (None, None)
    assert (found.b.key, found.b.tempo) == (None, None)
    json.dumps(compare((noise, 48000), (noise, 48000)).chroma_by_shift)


def test_a_file_that_is_not_audio_is_an_error() -> None:
    with pytest.raises(AudioError):
        compare(RIFF, b"no sound")
    empty = io.BytesIO()
    soundfile.write(empty, np.zeros(0), RATE, format="WAV")
    with pytest.raises(AudioError, match="no samples"):
        compare(RIFF, empty.getvalue())
    for broken in (np.nan, np.inf):
        with pytest.raises(AudioError, match="NaN or infinite"):
            compare(RIFF, (np.array([0, broken, 0], np.float32), RATE))


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    heavy = "{'soxr', 'scipy', 'matplotlib', 'pyloudnorm'}"
    code = f"import sys, melodyflow_client.cli; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("module", ["soxr", "pyloudnorm"])
def test_without_the_extra_it_says_what_to_install(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InvalidRequest, match=f"^compare: needs {module}: pip install"):
        compare(RIFF, RIFF)
    assert main(["compare", str(RIFF), str(RIFF)]) == 2
    message = 'pip install "melodyflow-client[compare]"'
    assert message in capsys.readouterr().err


@pytest.fixture
def files(riff: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", riff[0], RATE)
    soundfile.write("longer.wav", np.append(riff[0] / 2, np.zeros(RATE)), RATE)
    return tmp_path


def test_the_command_prints_a_table(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "a.wav", "longer.wav"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["a.wav", "longer.wav"]
    assert lines[1].split() == ["length", "9.600", "s", "10.600", "s", "+1.000", "s"]
    assert float(lines[2].split()[-2]) == pytest.approx(-6.02, abs=0.2)
    assert lines[3].split()[-2:] == ["+0.0", "%"]
    assert lines[4].split()[-1] == "same"
    assert lines[5].split()[:3] == ["chroma", "correlation", "1.00"]
    assert lines[7].split() == ["transposition", "none", "(1.00)"]
    assert lines[8].split()[:3] == ["onset", "correlation", "1.00"]
    assert main(["compare", "a.wav", "longer.wav", "--json"]) == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert facts.keys() == Comparison.__dataclass_fields__.keys()
    assert facts["b"]["seconds"] == pytest.approx(10.6)
    soundfile.write("silence.wav", np.zeros(RATE), RATE)
    assert main(["compare", "a.wav", "silence.wav"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[4].split()[-1] == "-"
    assert lines[-1] == "correlations        -  (silence)"


def test_a_mono_clip_is_as_loud_as_it_sounds(
    riff: Clip, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From two speakers: an edit of it that a stereo model made as loud differs by nothing."""
    soundfile.write("stereo.wav", np.stack((riff[0], riff[0]), 1), RATE, "FLOAT")
    soundfile.write("mono.wav", riff[0], RATE, "FLOAT")
    for a, b in (("mono.wav", "stereo.wav"), ("stereo.wav", "mono.wav")):
        assert main(["compare", a, b]) == 0
        assert abs(float(capsys.readouterr().out.splitlines()[2].split()[-2])) < 0.05


@pytest.mark.parametrize(
    ("name", "begins"), [("out.png", b"\x89PNG"), ("out.svg", b"<?xml"), ("out.PDF", b"%PDF")]
)
def test_the_command_draws(files: Path, name: str, begins: bytes) -> None:
    soundfile.write("silence.wav", np.zeros(1), RATE)
    assert main(["compare", "a.wav", "longer.wav", "--plot", name]) == 0
    assert Path(name).read_bytes().startswith(begins)
    assert main(["compare", "silence.wav", "a.wav", "--plot", name]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["a.wav", "none.wav"], 2, "cannot read 'none.wav'"),
        (["a.wav", "longer.wav", "--plot", "a.wav"], 2, "plot: unknown format 'a.wav'; use .png"),
        (
            ["a.wav", "longer.wav", "--plot", "no/out.png"],
            2,
            "plot: cannot write 'no/out.png': No such file",
        ),
    ],
)
def test_failures_of_the_command(
    files: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("a.wav").read_bytes()
    assert main(["compare", *arguments]) == code
    assert message in capsys.readouterr().err
    assert Path("a.wav").read_bytes() == before
