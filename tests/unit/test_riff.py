"""The example is what its script makes, and a riff fit to be edited."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[2]
RIFF = ROOT / "examples" / "riff.wav"


def test_the_script_makes_the_file_byte_for_byte(tmp_path):
    made = tmp_path / "riff.wav"
    subprocess.run([sys.executable, str(ROOT / "scripts" / "make_riff"), str(made)], check=True)
    assert made.read_bytes() == RIFF.read_bytes()


def test_it_is_four_bars_that_begin_and_end_in_silence():
    samples, rate = soundfile.read(RIFF)
    assert soundfile.info(RIFF).subtype == "PCM_16"
    assert (samples.shape, rate) == ((4 * 4 * 60 * 48000 // 100, 2), 48000)
    assert abs(20 * np.log10(np.abs(samples).max()) + 3) < 0.01
    assert (samples[[0, -1]] == 0).all()
    assert np.abs(samples.mean(axis=0)).max() < 1e-4
    assert np.abs(np.diff(samples, axis=0)).max() < 0.25  # no click
    left, right = samples.T
    assert 0.3 < np.corrcoef(left, right)[0, 1] < 0.95  # wide, and still safe in mono
