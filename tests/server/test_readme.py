"""README.md's Python and bash blocks, run as they stand: only the addresses are this server's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from melodyflow.embedded import EmbeddedServer

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"^(<!-- not run.*?-->\n)?```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
BLOCKS = [
    (language, code)
    for left_out, language, code in BLOCK.findall((ROOT / "README.md").read_text())
    if not left_out
]


@pytest.fixture(scope="module")
def folder(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the checkout, where all blocks have been run in their order."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("examples", "tests", "melodyflow", "client", "contract"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "scripts").mkdir()
    # The real one first looks after the environment that this test runs in.
    parity = folder / "scripts/parity"
    parity.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m melodyflow.tools.parity "$@"\n')
    parity.chmod(0o755)
    places = {
        "127.0.0.1:8000": server.http_url,
        "127.0.0.1:8001": server.grpc_url,
        "127.0.0.1:8003": server.metrics_url,
    }
    environment = os.environ | {
        "MELODYFLOW_SERVER": server.grpc_url,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for language, code in BLOCKS:
        for default, address in places.items():
            code = code.replace(default, address)
        command = (
            [sys.executable, "-c", code]
            if language == "python"
            else ["bash", "-euo", "pipefail", "-c", code]
        )
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return folder


def test_blocks_are_found() -> None:
    assert [language for language, _ in BLOCKS] == [
        "bash",
        "python",
        "python",
        "bash",
        "bash",
        "bash",
    ]


@pytest.mark.parametrize(
    "name", ["strings.wav", "cello.flac", "piano.wav", "raw.wav", "curl.wav", "streamed.wav"]
)
def test_every_block_gives_a_file_as_long_as_the_riff(folder: Path, name: str) -> None:
    riff, result = soundfile.info(ROOT / "examples/riff.wav"), soundfile.info(folder / name)
    assert (result.frames, result.samplerate) == (riff.frames, riff.samplerate)


def test_text_to_music_is_as_long_as_asked(folder: Path) -> None:
    info = soundfile.info(folder / "lofi.wav")
    assert info.frames == 5 * info.samplerate


def test_the_same_seed_gives_the_same_bytes_over_grpc_and_http(folder: Path) -> None:
    raw, curl, streamed = (
        (folder / name).read_bytes() for name in ("raw.wav", "curl.wav", "streamed.wav")
    )
    assert raw == curl == streamed
