"""Where the command writes results, what it refuses to write to, and what it does when it can't."""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from melodyflow_client import InvalidRequest
from melodyflow_client.cli import main, output
from melodyflow_client.cli.input import named_after
from melodyflow_client.cli.output import prepare_output
from melodyflow_client.cli.streams import json_text, say

from .client_peer import Context, Peer, Request, edit

NOWHERE = "127.0.0.1:1"  # a port that nothing listens on


@pytest.fixture
def riff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    soundfile.write("riff.wav", np.zeros(4800, np.float32), 48000)
    return Path("riff.wav")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of the command."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.stop()


def test_where_results_go(riff: Path, tmp_path: Path) -> None:
    default = "riff-celtic.wav"

    def path(asked: str | None) -> Path:
        return prepare_output(asked, default, "riff.wav").free_path

    assert path(None) == Path(default)
    assert path("new/deep/") == Path("new/deep") / default
    assert Path("new/deep").is_dir()
    assert path("new") == Path("new") / default
    Path(default).touch()
    assert path(None) == Path("riff-celtic-2.wav")
    assert path(default) == Path(default)
    assert path("./-") == Path("-")  # a file, where "-" is standard output
    Path("link.wav").symlink_to(riff)
    with pytest.raises(InvalidRequest, match="is the input"):
        path("link.wav")
    with pytest.raises(InvalidRequest, match="cannot make"):
        path("riff.wav/deep/x.wav")


@given(st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & set(b"\0/.")))
@settings(deadline=None)
def test_results_are_named_after_their_source(name: bytes) -> None:
    end = "celtic-1234567890.wav"
    made = os.fsencode(named_after(f"folder/{os.fsdecode(name)}.mp3", end))
    assert len(made) <= 250
    assert made.endswith(b"-" + end.encode())
    assert name.startswith(made[: -len(end) - 1])
    assert len(name) > 200 or made == name + b"-" + end.encode()
    assert named_after("-", end) == named_after("/dev/fd/63", end) == end


NAMES = "a\udcff\x1b[31m\u00fc\n.wav"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_names_are_bytes_for_programs_and_printable_for_terminals(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding)
    monkeypatch.setattr("sys.stdout", stream)
    say(Path(NAMES))
    assert written.getvalue() == b"a\xff\x1b[31m\xc3\xbc\n.wav\n"
    text = json_text({"output": NAMES}, stream)
    assert json.loads(text.encode(encoding)) == {"output": NAMES}
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    written.seek(0)
    written.truncate()
    say(Path(NAMES))
    shown = written.getvalue().decode(encoding)
    umlaut = r"\xfc" if encoding == "ascii" else "ü"
    assert shown == rf"a\xff\x1b[31m{umlaut}\n.wav" + "\n"


REFUSED = ("transform", "riff.wav", "--prompt", "x", "--server", NOWHERE)


@pytest.mark.parametrize(
    ("shell", "text"),
    [
        ("-o - >&-", "output: standard output is closed; name a file"),
        ("-o - 2>&1 | cat >&2", "standard error goes where standard output goes"),
        ("-o - >> riff.wav", "output: standard output is the input"),
        ("-o - > /dev/full", "cannot write standard output: No space left on device"),
        ("-o - | true", "cannot write standard output: Broken pipe"),
        ("-o /dev/stderr", "output: '/dev/stderr' is standard error"),
        ("-o log.wav 2>> log.wav; cat log.wav >&2", "output: 'log.wav' is standard error"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_edit(
    riff: Path, shell: str, text: str
) -> None:
    before = riff.read_bytes()
    call = shlex.join([sys.executable, "-m", "melodyflow_client", *REFUSED])
    if "| true" in shell:  # gone by the time that the command looks
        call = f"(exec 2>&3; sleep 0.1; {call} -o -) 3>&2 | true"
    else:
        call = f"{call} {shell}"
    done = subprocess.run(["bash", "-c", call], stderr=subprocess.PIPE, text=True, timeout=60)
    assert text in done.stderr
    assert "no server answers" not in done.stderr
    assert riff.read_bytes() == before


def test_no_samples_on_a_terminal(riff: Path) -> None:
    ours, terminal = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "melodyflow_client", *REFUSED, "-o", "/dev/stdout"],
        stdout=terminal,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(terminal)
    os.close(ours)
    assert done.returncode == 2
    assert done.stderr.startswith("melodyflow: output: standard output is a terminal; name a file")


@pytest.mark.parametrize("command", ["sweep", "takes"])
def test_many_results_need_a_folder(
    riff: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    asked = [command, "riff.wav", "--variation", "celtic", "--server", NOWHERE, "-o"]
    assert main([*asked, "-"]) == 2
    assert "standard output takes one result only; name a folder" in capsys.readouterr().err
    assert main([*asked, "/dev/null"]) == 2
    assert "cannot make the folder '/dev/null'" in capsys.readouterr().err


def test_a_preview_never_replaces_the_input(riff: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write("riff.flac", np.zeros(4800, np.float32), 48000)
    before = Path("riff.flac").read_bytes()
    Path("link.flac").symlink_to("riff.flac")
    asked = ["transform", "riff.flac", "--prompt", "x", "--server", NOWHERE, "--timeout", "1"]
    for name in ("riff.flac", "link.flac"):
        assert main([*asked, "--preview", name]) == 2
        assert f"preview: '{name}' is the input" in capsys.readouterr().err
    assert Path("riff.flac").read_bytes() == before


@pytest.mark.parametrize("command", ["transform", "sweep", "takes", "generate"])
def test_a_disk_that_is_too_small_is_told_before_the_edit(
    riff: Path, small_disk: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    asked = {"generate": ["--duration", "10"]}.get(command, ["long.wav"])
    soundfile.write("long.wav", np.zeros(40_000, np.float32), 48000)
    asked += ["--variation", "celtic", "--server", NOWHERE, "-o", f"{small_disk}/"]
    assert main([command, *asked, "--timeout", "1"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("command", ["sweep", "takes"])
def test_results_whose_folder_has_gone_are_saved_elsewhere(
    riff: Path, elsewhere: Path, peer: Peer, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    def remove_then_edit(request: Request, context: Context) -> Iterator[Any]:
        shutil.rmtree("out", ignore_errors=True)
        yield from edit(request, context)

    peer.scripts = [remove_then_edit]
    asked = {
        "sweep": ["--variation", "celtic", "--variation", "chiptune", "--seed", "7"],
        "takes": ["--prompt", "x", "--count", "2", "--seed", "7"],
    }[command]
    assert main([command, "riff.wav", *asked, "-o", "out", "--server", peer.address]) == 1
    captured = capsys.readouterr()
    saved = sorted(elsewhere.iterdir())
    assert len(saved) == 2
    assert sorted(captured.out.splitlines()) == [str(path) for path in saved]
    for path in saved:
        assert path.read_bytes() == riff.read_bytes()
        assert f"No such file or directory; the result is in {str(path)!r} instead" in captured.err
    assert "2 of 2 done" in captured.err


def test_an_interrupted_save_ends_elsewhere(
    riff: Path,
    elsewhere: Path,
    peer: Peer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt  # while nobody reads a FIFO

    monkeypatch.setattr(output, "write_file", interrupted)
    asked = ["--prompt", "x", "--seed", "7", "-o", "out.wav", "--server", peer.address]
    assert main(["transform", "riff.wav", *asked]) == 130
    assert (elsewhere / "melodyflow-7.wav").read_bytes() == riff.read_bytes()
    err = capsys.readouterr().err
    assert "the result is in" in err
    assert err.endswith("melodyflow: cancelled\n")


def test_a_result_that_fits_nowhere_is_named_by_its_seed(
    riff: Path,
    peer: Peer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "write_file", full)
    monkeypatch.setattr(output, "write_new_file", full)
    asked = ["--prompt", "x", "--seed", "7", "-o", "out.wav", "--server", peer.address]
    assert main(["transform", "riff.wav", *asked]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "seed 7 makes the same result again" in captured.err
