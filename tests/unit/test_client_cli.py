"""The command: help, exit codes, where results go."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from melodyflow_client import InvalidRequest, Progress, Result, load_presets
from melodyflow_client.addresses import api_key, is_loopback, metrics_address, server_address
from melodyflow_client.cli import main
from melodyflow_client.cli.details import details_of, summary
from melodyflow_client.cli.progress import display
from melodyflow_client.connection import channel_options

NOWHERE = "127.0.0.1:1"  # a port that nothing listens on


@pytest.fixture
def riff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    soundfile.write("riff.wav", np.zeros(4800, np.float32), 48000)
    return Path("riff.wav")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["transform", "--help"], ["sweep", "--help"], ["status", "--help"]],
)
def test_help_lists_the_exit_codes(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for code in (
        "0    success",
        "2    wrong usage",
        "3    the server is unreach",
        "130  interrupted",
    ):
        assert code in text


def test_help_says_which_way_flowstep_goes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["transform", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    flowstep = text.partition("--flowstep X ")[2].partition("--strength X ")[0]
    assert re.search(r"\b0 = most change\b.*\b1 = the source is kept\b", flowstep)
    assert "melodyflow transform riff.wav --variation piano_classical" in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["transform", "riff.wav", "--variation", "string_quartet"], 2, "did you mean strings_qua"),
        (["transform", "riff.wav"], 2, "prompt: give a prompt or a variation"),
        (["transform", "none.wav", "--variation", "celtic"], 2, "cannot read 'none.wav'"),
        (["transform", "riff.wav", "--prompt", "x", "--strength", "2"], 2, "strength: must be"),
        (["transform", "riff.wav", "--prompt", "x", "--draft", "--steps", "4"], 2, "steps: 4; a d"),
        (["takes", "riff.wav", "--prompt", "x", "--draft", "--steps", "9"], 2, "steps: 9; a draft"),
        (["transform", "riff.wav", "--prompt", "x", "-o", "riff.wav"], 2, "is the input"),
        (["transform", "riff.wav", "--prompt", "x", "-o", ""], 2, "output: is empty; name a file"),
        (["transform", "riff.wav", "--prompt", "x", "-o", "./riff.wav"], 2, "is the input"),
        (["transform", "riff.wav", "--prompt", "x", "-o", "x.mp3"], 2, "doesn't fit the format"),
        (
            ["transform", "riff.wav", "--prompt", "x", "-o", "/proc/x.wav"],
            2,
            "'/proc/x.wav': No suc",
        ),
        (["transform", "riff.wav", "--prompt", "x", "-o", "/dev/full"], 2, "'/dev/full': No space"),
        (["transform", "riff.wav", "--prompt", "x", "-o", "x" * 300], 2, "': File name too long"),
        (["generate", "--prompt", "x", "--duration", "nan", "--timeout", "4"], 3, "no server"),
        (
            ["transform", "riff.wav", "--prompt", "x", "--format", "flac", "-o", "x.wav"],
            2,
            "doesn't fit the format",
        ),
        (["transform", "riff.wav", "--prompt", "x", "--presets", "no.json"], 2, "no.json: cannot"),
        (["transform", "riff.wav", "--prompt", "x", "--timeout", "4"], 3, "no server answers at"),
    ],
)
def test_failures_have_their_exit_code_and_one_line(
    riff: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = riff.read_bytes()
    assert main([*arguments, "--server", NOWHERE, "--quiet"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("melodyflow: ")
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert riff.read_bytes() == before
    assert list(Path().iterdir()) == [riff]


@pytest.mark.parametrize(
    "arguments", [[], ["transform"], ["transform", "a", "--steps", "many"], ["transmogrify"]]
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_variations(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["variations"]) == 0
    text = capsys.readouterr().out
    assert "hip hop percussion\n  trap_808 " in text
    assert main(["variations", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert list(listed) == list(load_presets())
    assert listed["celtic"]["steps"] == 25


def test_own_variations_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.json"
    own.write_text('{"variations": {"kazoo": {"prompt": "Kazoo choir, silly."}}}')
    assert main(["variations", "--presets", str(own)]) == 0
    assert "own\n  kazoo " in capsys.readouterr().out


def test_status_without_a_server_is_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--server", NOWHERE, "--json"]) == 3
    status = json.loads(capsys.readouterr().out)
    assert (status["server"], status["live"], status["model_ready"]) == (NOWHERE, False, False)
    assert status["error"]


@pytest.mark.parametrize(
    ("gain_db", "loudness", "text"),
    [
        (0.0, None, "peak 0.500, seed 7"),
        (-1.52, None, "peak 0.500, turned down by 1.5 dB, seed 7"),
        (2.0, {"result_lufs": -14.02}, "peak 0.500, -14.0 LUFS, turned up by 2.0 dB, seed 7"),
        (
            -0.01,
            {"result_lufs": -9.5, "limited_by": "peak"},
            "peak 0.500, -9.5 LUFS (as loud as -1 dBTP allows), seed 7",
        ),
        (0.0, {"result_lufs": None, "limited_by": None}, "peak 0.500, seed 7"),
    ],
)
def test_levels_are_reported(gain_db: float, loudness: Any, text: str) -> None:
    info = {} if loudness is None else {"loudness": loudness}
    wave = np.array([[0.5, 0]], np.float32)
    file = io.BytesIO()
    soundfile.write(file, wave.T, 48000, format="WAV", subtype="FLOAT")
    result = Result(file.getvalue(), 48000, 7, gain_db, info)
    assert result.loudness == loudness
    assert summary(details_of(Path("x.wav"), result)).endswith(text)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_are_at_most_one_per_second_and_edit() -> None:
    stream = io.StringIO()
    with display(stream) as shown:
        for step in range(100):
            shown.show("celtic", Progress("inverting", step / 100, step, 100))
            shown.show("chiptune", Progress("inverting", step / 100, step, 100))
        shown.end("celtic", "done")
    assert stream.getvalue() == "celtic: inverting 0%\nchiptune: inverting 0%\nceltic: done\n"


def test_quiet_shows_nothing() -> None:
    stream = io.StringIO()
    with display(stream, quiet=True) as shown:
        shown.show("celtic", Progress("inverting", 0.5, 1, 2))
        shown.end("celtic", "done")
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_with_the_stage() -> None:
    stream = Terminal()
    with display(stream) as shown:
        shown.show("celtic", Progress("queued", 0, 0, 0))
        shown.show("celtic", Progress("generating", 0.42, 42, 100))
    assert "generating" in stream.getvalue()
    assert "42 %" in stream.getvalue()


def test_on_a_terminal_one_line_per_edit_of_a_batch_stays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with display(stream) as shown:
        shown.show("celtic", Progress("queued", 0, 0, 0))
        shown.show("chiptune", Progress("queued", 0, 0, 0))
        shown.end("celtic", "done")
        shown.end("kazoo", "failed")  # one that was never sent
        print("out/riff-celtic.wav")  # data: not for the terminal where output is no terminal
    assert "celtic: done" in stream.getvalue()
    assert "kazoo: failed" in stream.getvalue()
    assert capsys.readouterr().out == "out/riff-celtic.wav\n"


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MELODYFLOW_SERVER", raising=False)
    assert server_address() == ("127.0.0.1:8001", False)
    monkeypatch.setenv("MELODYFLOW_SERVER", "studio:9001")
    assert server_address() == ("studio:9001", False)
    assert server_address("grpc://other:1/") == ("other:1", False)
    assert server_address("http://other:1") == ("other:1", False)
    for secure in ("https://other:1/", "grpcs://other:1", "HTTPS://other:1"):
        assert server_address(secure) == ("other:1", True)
    assert server_address("unix:///run/melodyflow") == ("unix:///run/melodyflow", False)
    assert metrics_address("studio:8001") == "http://studio:8003/metrics"
    assert metrics_address("[::1]:8001") == "http://[::1]:8003/metrics"
    assert metrics_address("studio") is None
    assert metrics_address("studio:1", "other:2") == "http://other:2/metrics"
    assert metrics_address("studio:1", "https://other/m") == "https://other/m"
    assert is_loopback("127.0.0.1:8001")
    assert is_loopback("localhost:8001")
    assert not is_loopback("studio:8001")
    options = dict(channel_options("studio:8001"))
    assert options["grpc.max_receive_message_length"] == 2**31 - 1
    assert options["grpc.keepalive_time_ms"] > 300_000


def test_an_api_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MELODYFLOW_API_KEY", raising=False)
    assert (api_key(), api_key("")) == (None, None)
    monkeypatch.setenv("MELODYFLOW_API_KEY", "from-the-environment")
    assert (api_key(), api_key("given")) == ("from-the-environment", "given")
    for unusable in ("with a blank", "a-line\n", "Schlüssel", "\x00"):
        with pytest.raises(InvalidRequest, match=r"^api_key: ") as refused:
            api_key(unusable)
        assert unusable.strip() not in str(refused.value)  # a secret
