"""The command loses no result, wherever it goes and whatever becomes of the terminal."""

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from melodyflow.embedded import EmbeddedServer

RATE = 44100
EDIT = ("--prompt", "x", "--steps", "1", "--seed", "7")
Command = Callable[..., "subprocess.Popen[bytes]"]


def wav(seconds: float = 0.2) -> bytes:
    """A mono clip."""
    file = io.BytesIO()
    samples = 0.3 * np.sin(np.arange(int(seconds * RATE)) / 20)
    soundfile.write(file, samples, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


RIFF = wav()


@pytest.fixture
def command(server: EmbeddedServer, tmp_path: Path) -> Command:
    """Starts the command in `tmp_path/here`, where riff.wav is; its temporary folder is
    `tmp_path/elsewhere`."""
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here" / "riff.wav").write_bytes(RIFF)

    def start(*arguments: str | bytes, shell: str = "", **settings: Any) -> Any:
        """shell: what a shell adds to the command, such as `2>&-`."""
        call: list[str | bytes] = [sys.executable, "-m", "melodyflow_client", *arguments]
        call += ["--server", server.grpc_url]
        if shell:
            call = ["bash", "-c", f'"$@" {shell}', "bash", *call]
        settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
        env = {**os.environ, "TMPDIR": str(tmp_path / "elsewhere"), **settings.pop("env", {})}
        return subprocess.Popen(call, cwd=tmp_path / "here", env=env, **settings)

    return start


def ended(process: "subprocess.Popen[bytes]", data: bytes | None = None) -> tuple[int, bytes, str]:
    out, err = process.communicate(data, timeout=60)
    return process.returncode, out or b"", (err or b"").decode()


def same_sound(data: bytes) -> bool:
    """Whether it is a WAV of the riff's length."""
    info = soundfile.info(io.BytesIO(data))
    return (info.frames, info.samplerate) == (len(RIFF[44:]) // 2, RATE)


def test_standard_input_and_output(command: Command, tmp_path: Path) -> None:
    code, by_name, err = ended(
        command("transform", "riff.wav", *EDIT, "-o", "/dev/stdout", "--json")
    )
    assert code == 0, err
    assert same_sound(by_name)
    details = json.loads(err[err.index("{\n") :])
    assert (details["output"], details["seed"]) == ("-", 7)
    code, piped, err = ended(
        command("transform", "-", *EDIT, "-o", "-", stdin=subprocess.PIPE), RIFF
    )
    assert code == 0, err
    assert "seed 7" in err
    assert piped == by_name
    assert os.listdir(tmp_path / "here") == ["riff.wav"]


def test_fifos_and_process_substitution(command: Command, tmp_path: Path) -> None:
    here = tmp_path / "here"
    for name in ("in.wav", "out.wav"):
        os.mkfifo(here / name)
    writer = threading.Thread(target=lambda: (here / "in.wav").write_bytes(RIFF))
    writer.start()
    process = command("transform", "in.wav", *EDIT, "-o", "out.wav")
    got = (here / "out.wav").read_bytes()
    code, out, err = ended(process)
    writer.join()
    assert (code, out) == (0, b"out.wav\n"), err
    assert same_sound(got)
    shell = "<(cat riff.wav) -o >(cat > got.wav); code=$?; wait $!; exit $code"
    code, out, err = ended(command("transform", *EDIT, shell=shell))
    assert code == 0, err
    assert (here / "got.wav").read_bytes() == got


ODD = b"\xff\x1b[31m\xc3\xbc\n.wav"  # no text, a terminal's escape sequence, u umlaut, a line end


@pytest.mark.parametrize(
    ("shell", "env"),
    [
        ("2>&-", {}),
        ("2>/dev/full", {}),
        ("2> >(true)", {}),
        ("", {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}),
        ("0<&- 2>&-", {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
    ],
)
def test_odd_names_and_a_useless_standard_error(
    command: Command, tmp_path: Path, shell: str, env: dict[str, str]
) -> None:
    here = os.fsencode(tmp_path / "here")
    with open(os.path.join(here, ODD), "wb") as file:
        file.write(RIFF)
    code, out, err = ended(command("transform", ODD, *EDIT, shell=shell, env=env))
    name = ODD.replace(b".wav", b"-custom.wav")
    assert (code, out) == (0, name + b"\n"), err
    with open(os.path.join(here, name), "rb") as file:
        assert same_sound(file.read())
    assert "\x1b" not in err
    if not shell:
        code, out, err = ended(command("transform", ODD, *EDIT, "--json", env=env))
        assert code == 0, err
        assert os.fsencode(json.loads(out)["output"]) == ODD.replace(b".wav", b"-custom-2.wav")


@pytest.mark.parametrize(
    ("shell", "code", "text"),
    [
        (">&-", 0, "seed 7"),
        ("> >(true)", 0, "seed 7"),
        (">/dev/full", 1, "cannot write standard output: No space left on device"),
    ],
)
def test_a_useless_standard_output(
    command: Command, tmp_path: Path, shell: str, code: int, text: str
) -> None:
    result = ended(command("transform", "riff.wav", *EDIT, "-o", "out.wav", shell=shell))
    assert result[0] == code
    assert text in result[2]
    assert "Traceback" not in result[2]
    assert same_sound((tmp_path / "here" / "out.wav").read_bytes())


def test_names_as_long_as_names_may_be(command: Command, tmp_path: Path) -> None:
    long = "x" * 251 + ".wav"
    (tmp_path / "here" / long).write_bytes(RIFF)
    code, out, err = ended(command("transform", long, *EDIT, "-o", "y" * 251 + ".wav"))
    assert code == 0, err
    code, out, err = ended(
        command("sweep", long, "--variation", "celtic", "--steps", "1", "-o", "out")
    )
    assert code == 0, err
    assert same_sound((tmp_path / "here" / os.fsdecode(out.strip())).read_bytes())
    assert os.listdir(tmp_path / "here" / "out") == [("x" * 300 + "-celtic.wav")[-250:]]


def test_a_sweep_goes_on_when_nobody_reads_its_paths(command: Command, tmp_path: Path) -> None:
    names = [part for name in ("celtic", "chiptune") for part in ("--variation", name)]
    sweep = ("sweep", "riff.wav", *names, "--steps", "1", "-o", "out")
    code, _, err = ended(command(*sweep, shell="> >(true)"))
    assert code == 0, err
    assert len(os.listdir(tmp_path / "here" / "out")) == 2


@pytest.mark.parametrize("way", ["folder", "pipe"])
def test_a_result_that_cannot_be_written_any_more_is_saved_elsewhere(
    command: Command, tmp_path: Path, way: str
) -> None:
    output = "-" if way == "pipe" else "gone/out.wav"
    process = command("transform", "riff.wav", *EDIT[:2], "--steps", "128", "-o", output)
    assert process.stderr is not None
    assert process.stdout is not None
    process.stderr.readline()  # progress: what could be told beforehand has been
    if way == "folder":
        (tmp_path / "here" / "gone").rmdir()
        out = process.stdout.read()
    else:
        process.stdout.close()
        process.stdout = None
    code, _, err = ended(process)
    assert code == 1
    (saved,) = (tmp_path / "elsewhere").iterdir()
    assert same_sound(saved.read_bytes())
    assert f"the result is in {str(saved)!r} instead" in err
    if way == "folder":
        assert out == os.fsencode(saved) + b"\n"


def test_the_newest_preview_is_in_its_file(command: Command, tmp_path: Path) -> None:
    arguments = ["transform", "riff.wav", "-o", "out.wav", "--prompt", "x", "--steps", "64"]
    code, _, said = ended(command(*arguments, "--preview", "now.flac"))
    assert code == 0, said
    here = tmp_path / "here"
    samples, rate = soundfile.read(here / "now.flac")
    result, result_rate = soundfile.read(here / "out.wav")
    assert (samples.shape, rate) == (result.shape, result_rate)
    assert {path.name for path in here.iterdir()} == {"riff.wav", "out.wav", "now.flac"}


def test_a_draft_says_how_it_is_made_final(command: Command) -> None:
    arguments = ["transform", "riff.wav", "--prompt", "x", "--seed", "7"]
    code, _, said = ended(command(*arguments, "-o", "draft.flac", "--draft", "--json"))
    assert code == 0, said
    assert "draft" not in said  # what asks for JSON reads no advice
    code, _, said = ended(command("takes", *arguments[1:], "--count", "2", "--draft", "-o", "."))
    assert code == 0, said
    assert "draft of 4 steps; for the final result, leave out --draft and add its --seed" in said
    code, _, said = ended(command(*arguments, "-o", "again.flac", "--draft"))
    assert code == 0, said
    assert "draft of 4 steps; for the final result, leave out --draft and add --seed 7" in said


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("now.wav", "previews are FLAC: name it .flac"),
        ("/dev/null.d/now.flac", "cannot write"),
        ("folder.flac", "is no file"),
    ],
)
def test_a_preview_that_cannot_be_written_is_told_before_the_edit(
    command: Command, tmp_path: Path, file: str, text: str
) -> None:
    (tmp_path / "here" / "folder.flac").mkdir()
    code, _, said = ended(command("transform", "riff.wav", *EDIT, "--preview", file))
    assert code == 2
    assert "preview: " in said
    assert text in said
    assert not list((tmp_path / "here").glob("riff-*.wav"))
