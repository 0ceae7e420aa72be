"""What cannot be done is refused by name, with the right status, and nothing else is harmed."""

import base64
import json
import re
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from melodyflow.embedded import EmbeddedServer

from . import oracle, raw
from .raw import Refused

CLIP = raw.file_of(raw.music(1), 48000)
GOOD: dict[str, Any] = {"audio": CLIP, "prompt": "a harp", "steps": 2, "seed": 5}


# --- files to be refused ------------------------------------------------------------------------


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body


def wav(
    *,
    tag: int = 1,
    channels: int = 2,
    rate: int = 48000,
    bits: int = 16,
    align: int | None = None,
    body: bytes = bytes(4 * 48000),
    size: int | None = None,
    kind: bytes = b"WAVE",
) -> bytes:
    """A WAV whose header says whatever it is told to; `body`: a second of stereo PCM 16."""
    align = channels * bits // 8 if align is None else align
    layout = struct.pack("<HHIIHH", tag, channels, rate, 0, align & 0xFFFF, bits)
    inside = kind + chunk(b"fmt ", layout) + chunk(b"data", body, size)
    return chunk(b"RIFF", inside)


def floats(value: float, at: int) -> bytes:
    """A second of float stereo with one sample that is `value`."""
    samples = raw.music(1)
    samples[1, at] = value
    return wav(tag=3, bits=32, body=samples.T.astype("<f4").tobytes())


def flac(samples: int = 48000, rate: int = 48000, channels: int = 2) -> bytes:
    return raw.file_of(
        raw.music(samples=samples, rate=rate, channels=channels), rate, format="FLAC"
    )


def with_total(file: bytes, total: int) -> bytes:
    """The same FLAC with another number of samples in its STREAMINFO; 0: it does not say."""
    packed = int.from_bytes(file[18:26], "big") >> 36 << 36 | total
    return file[:18] + packed.to_bytes(8, "big") + file[26:]


def flipped(file: bytes, at: int) -> bytes:
    return file[:at] + bytes([file[at] ^ 0xFF]) + file[at + 1 :]


# --- the requests -------------------------------------------------------------------------------

MISSING = object()


@dataclass(frozen=True)
class Bad:
    """What makes a good request bad, and what the refusal says."""

    label: str
    named: str  # the input or parameter that the text begins with
    words: str  # what it says further on
    inputs: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)

    def request(self) -> dict[str, Any]:
        return {k: v for k, v in {**GOOD, **self.inputs}.items() if v is not MISSING}


def audio(label: str, words: str, file: bytes, **more: Any) -> Bad:
    return Bad(label, "audio", words, {"audio": file, **more})


def base64_text(label: str, named: str, words: str, text: str, **more: Any) -> Bad:
    return Bad(label, named, words, {"audio": text, **more})


EVERYWHERE = [
    # the solve
    Bad("flowstep 1", "flowstep", "0 <= flowstep < 1", {"flowstep": 1.0}),
    Bad("flowstep negative", "flowstep", "-0.1", {"flowstep": -0.1}),
    Bad("flowstep above 1", "flowstep", "1.5", {"flowstep": 1.5}),
    Bad("steps 0", "steps", "1 to 128", {"steps": 0}),
    Bad("steps negative", "steps", "1 to 128", {"steps": -2}),
    Bad("steps 129", "steps", "1 to 128", {"steps": 129}),
    Bad("midpoint odd", "steps", "even", {"solver": "midpoint", "steps": 5}),
    Bad("solver unknown", "solver", "euler or midpoint", {"solver": "heun"}),
    Bad("solver empty", "solver", "euler or midpoint", {"solver": ""}),
    Bad("solver capital", "solver", "'Euler'", {"solver": "Euler"}),
    Bad("guidance negative", "guidance", "0 to 10", {"guidance": -0.5}),
    Bad("guidance 10.5", "guidance", "0 to 10", {"guidance": 10.5}),
    Bad("R negative", "regularize_iters", "0 to 8", {"regularize_iters": -1}),
    Bad("R 9", "regularize_iters", "0 to 8", {"regularize_iters": 9}),
    Bad("R = 1", "regularize_iters", "2 to 8", {"regularize_iters": 1}),
    Bad("R = K = 1", "regularize_iters", "", {"regularize_iters": 1, "keep_last_k_iters": 1}),
    Bad("R with midpoint", "regularize_iters", "midpoint", {"solver": "midpoint", "steps": 4}
        | {"regularize_iters": 2}),
    Bad("K > R", "keep_last_k_iters", "1 to", {"regularize_iters": 2, "keep_last_k_iters": 3}),
    Bad("K > default R", "keep_last_k_iters", "1 to", {"keep_last_k_iters": 3}),
    Bad("K = 0, R > 0", "keep_last_k_iters", "1 to", {"keep_last_k_iters": 0}),
    Bad("K negative", "keep_last_k_iters", "0 to 8", {"keep_last_k_iters": -1}),
    Bad("K without R", "keep_last_k_iters", "must be 0 if", {"regularize_iters": 0}
        | {"keep_last_k_iters": 1}),
    Bad("lambda negative", "lambda_kl", "0 to 1", {"lambda_kl": -0.1}),
    Bad("lambda above 1", "lambda_kl", "0 to 1", {"lambda_kl": 1.1}),
    Bad("seed -2", "seed", "to 2147483647", {"seed": -2}),
    Bad("seed 2^31", "seed", "to 2147483647", {"seed": 2**31}),
    Bad("seed 2^62", "seed", "to 2147483647", {"seed": 2**62}),
    # the texts
    Bad("prompt missing", "prompt", "missing", {"prompt": MISSING}),
    Bad("prompt empty", "prompt", "1 to 1000 characters", {"prompt": ""}),
    Bad("prompt blank", "prompt", "whitespace", {"prompt": " \n\t"}),
    Bad("prompt too long", "prompt", "1001 characters", {"prompt": "ä" * 1001}),
    Bad("source too long", "source_prompt", "1001 characters", {"source_prompt": "x" * 1001}),
    # the result
    Bad("format unknown", "format", "wav24", {"format": "mp3"}),
    Bad("format endless", "format", "wav24", {"format": "ü" * 100_000}),
    Bad("format capital", "format", "'WAV'", {"format": "WAV"}),
    Bad("rate 0", "sample_rate", "8000 to 192000", {"sample_rate": 0}),
    Bad("rate 7999", "sample_rate", "8000 to 192000", {"sample_rate": 7999}),
    Bad("rate 192001", "sample_rate", "8000 to 192000", {"sample_rate": 192001}),
    Bad("rate not in flac", "sample_rate", "FLAC", {"format": "flac", "sample_rate": 96001}),
    # parameters
    Bad("misspelt input", "flowstpe", "did you mean 'flowstep'?", parameters={"flowstpe": 1}),
    Bad("misspelt prompt", "promt", "did you mean 'prompt'?", {"prompt": MISSING}
        | {"source_prompt": ""}, {"promt": "a harp"}),
    Bad("misspelt parameter", "timeout", "", parameters={"timeout_sec": 5}),
    Bad("of a later version", "tempo", "no such input", parameters={"tempo": 4}),
    # a region; the clip has 1 s
    Bad("start after end", "start", "less than end", {"start": 0.8, "end": 0.3}),
    Bad("start negative", "start", "from the clip's start", {"start": -1}),
    Bad("start beyond", "start", "ends at 1 s", {"start": 1.2}),
    Bad("end beyond", "end", "ends at 1 s", {"end": 1.01}),
    Bad("region too short", "end", "at least 0.1 s", {"start": 0.5, "end": 0.55}),
    Bad("region at another rate", "sample_rate", "the input's own", {"start": 0.5}
        | {"sample_rate": 44100}),
    Bad("region that cannot be held", "format", "wav32f", {"start": 0.5}
        | {"audio": wav(tag=3, bits=32, body=(6 * raw.music(1)).T.astype("<f4").tobytes())}),
    Bad("loop with region", "loop", "false with a region", {"loop": True, "start": 0.2}),
    Bad("loudness unknown", "loudness", "none, source or a number", {"loudness": "loud"}),
    Bad("loudness above 0", "loudness", "-70 to 0", {"loudness": "3"}),
    # text-to-music
    Bad("loudness of no source", "loudness", "no source", {"audio": MISSING}
        | {"duration": 4, "loudness": "source"}),
    Bad("duration with region", "start", "not allowed with duration", {"audio": MISSING}
        | {"duration": 4, "start": 1}),
    Bad("duration with loop", "loop", "not allowed with duration", {"audio": MISSING}
        | {"duration": 4, "loop": True}),
    Bad("duration with audio", "duration", "not allowed with audio", {"duration": 4}),
    Bad("duration too long", "duration", "0.1 to 200 s", {"audio": MISSING, "duration": 200.1}),
    Bad("duration too short", "duration", "0.1 to 200 s", {"audio": MISSING, "duration": 0}),
    Bad("duration with flowstep", "flowstep", "not allowed with duration", {"audio": MISSING}
        | {"duration": 4, "flowstep": 0.12}),
    Bad("duration with source", "source_prompt", "not allowed with duration", {"audio": MISSING}
        | {"duration": 4, "source_prompt": ""}),
    Bad("duration with R", "regularize_iters", "not allowed with duration", {"audio": MISSING}
        | {"duration": 4, "regularize_iters": 0}),
    Bad("an endless name", "xxx", "...", parameters={"x" * 100_000: 1}),
    Bad("a name of two lines", "'flow\\nstep'", "no such", parameters={"flow\nstep": 1}),
    Bad("a path", "audio_file_path", "no such", parameters={"audio_file_path": "/etc/passwd"}),
    Bad("timeout 0", "timeout_s", "above 0", parameters={"timeout_s": 0}),
    Bad("timeout negative", "timeout_s", "above 0", parameters={"timeout_s": -1}),
    Bad("timeout text", "timeout_s", "'soon'", parameters={"timeout_s": "soon"}),
    Bad("timeout inf", "timeout_s", "'inf'", parameters={"timeout_s": "inf"}),
    Bad("timeout true", "timeout_s", "above 0", parameters={"timeout_s": True}),
    Bad("metadata perhaps", "metadata", "true or false", parameters={"metadata": "perhaps"}),
    Bad("metadata 1", "metadata", "true or false", parameters={"metadata": 1}),
    # the audio: missing, not audio
    Bad("audio missing", "audio", "missing", {"audio": MISSING}),
    audio("nothing", "0 bytes", b""),
    audio("only RIFF", "", b"RIFF"),
    audio("AVI", "AVI ", wav(kind=b"AVI ")),
    # the audio: WAV
    audio("no samples", "0 samples", wav(body=b"")),
    audio("cut in the header", "", CLIP[:30]),
    audio("no data chunk", "data chunk", chunk(b"RIFF", b"WAVE" + CLIP[12:36])),
    audio("truncated", "truncated", CLIP[:-1000]),
    audio("0 channels", "channels", wav(channels=0)),
    audio("3 channels", "3 channels", wav(channels=3)),
    audio("65535 channels", "65535 channels", wav(channels=65535)),
    audio("0 Hz", "0 Hz", wav(rate=0)),
    audio("7999 Hz", "7999 Hz", wav(rate=7999)),
    audio("192001 Hz", "192001 Hz", wav(rate=192001)),
    audio("4294967295 Hz", "4294967295 Hz", wav(rate=2**32 - 1)),
    audio("align of mono", "block align 2", wav(align=2)),
    audio("align 0", "block align 0", wav(align=0)),
    audio("data size too large", "truncated", wav(size=5 * 48000)),
    audio("8 bits", "8 bits", wav(bits=8)),
    audio("ADPCM", "0x0002", wav(tag=2, bits=4)),
    audio("a rate that makes it too long", "at most", wav(rate=8000, body=bytes(4 * 1600001))),
    audio("channels that make it too long", "at most",
          wav(rate=8000, channels=1, body=bytes(4 * 1600000))),
    audio("too short by one sample", "at least 0.1", wav(body=bytes(4 * 4799))),
    audio("too long by one sample", "1600001 samples",
          wav(rate=8000, channels=1, body=bytes(2 * 1600001))),
    audio("too long at 11.025 kHz", "2205001 samples",
          wav(rate=11025, channels=1, body=bytes(2 * 2205001))),
    audio("NaN first", "nan", floats(np.nan, 0)),
    audio("NaN last", "nan", floats(np.nan, 47999)),
    audio("infinity", "inf", floats(np.inf, 100)),
    audio("minus infinity", "inf", floats(-np.inf, 100)),
    audio("far beyond full scale", "finite values", floats(1e7, 100)),
    # the audio: FLAC
    audio("FLAC header alone", "FLAC", flac()[:42]),
    audio("FLAC cut in its header", "FLAC", flac()[:20]),
    audio("FLAC truncated", "truncated", flac()[:-3000]),
    audio("FLAC truncated, no total", "truncated", with_total(flac()[:-3000], 0)),
    audio("FLAC damaged", "broken", flipped(flac(), 5000)),
    audio("FLAC of 3 channels", "3 channels", flac(channels=3)),
    audio("FLAC total too small", "broken or truncated", with_total(flac(), 30000)),
    audio("FLAC total too large", "truncated", with_total(flac(), 50000)),
    audio("FLAC total beyond", "at most", with_total(flac(), 2**36 - 1)),
    audio("FLAC longer than it says", "", with_total(flac(201 * 8000, 8000, 1), 8000)),
    audio("FLAC too long, no total", "at most", with_total(flac(201 * 8000, 8000, 1), 0)),
    # the audio: base64
    base64_text("not base64", "encoding", "'$'", "xx$"),
    base64_text("base64 with line breaks", "encoding", "line break",
                base64.encodebytes(CLIP).decode()),
    base64_text("base64 for URLs", "encoding", "'-'", base64.b64encode(CLIP).decode() + "-_=="),
    base64_text("base64 without padding", "encoding", "broken base64",
                base64.b64encode(CLIP + bytes(2)).decode().rstrip("=")),
    base64_text("base64 cut", "encoding", "broken base64", base64.b64encode(CLIP).decode()[:-3]),
    base64_text("data URL", "audio", "data:audio/wav",
                "data:audio/wav;base64," + base64.b64encode(CLIP).decode()),
    base64_text("base64 of no audio", "audio", "WAV or FLAC",
                base64.b64encode(b"ID3\x04" + bytes(1000)).decode()),
    base64_text("base64 called raw", "audio", "WAV or FLAC",
                base64.b64encode(CLIP).decode(), encoding="raw"),
    Bad("encoding unknown", "encoding", "'hex'", {"encoding": "hex"}),
    Bad("encoding endless", "encoding", "'raw' or 'base64'", {"encoding": "x" * 100_000}),
    Bad("encoding empty", "encoding", "'raw' or 'base64'", {"encoding": ""}),
]  # fmt: skip

# What JSON cannot carry.
GRPC_ONLY = [
    Bad("flowstep NaN", "flowstep", "nan", {"flowstep": np.nan}),
    Bad("flowstep inf", "flowstep", "inf", {"flowstep": np.inf}),
    Bad("flowstep -inf", "flowstep", "-inf", {"flowstep": -np.inf}),
    Bad("guidance NaN", "guidance", "nan", {"guidance": np.nan}),
    Bad("lambda NaN", "lambda_kl", "nan", {"lambda_kl": np.nan}),
    Bad("prompt not UTF-8", "prompt", "UTF-8", {"prompt": b"a \xff\xfe harp"}),
    Bad("source not UTF-8", "source_prompt", "UTF-8", {"source_prompt": b"\x80"}),
    Bad("solver not UTF-8", "solver", "euler or midpoint", {"solver": b"\xff"}),
    Bad("garbage", "encoding", "strict base64", {"audio": np.random.default_rng(0).bytes(5000)}),
    Bad("MP3", "encoding", "strict base64", {"audio": b"ID3\x04" + bytes(range(256)) * 20}),
    audio("garbage called raw", "WAV or FLAC", np.random.default_rng(0).bytes(5000),
          encoding="raw"),
    Bad("raw called base64", "encoding", "strict base64", {"encoding": "base64"}),
]  # fmt: skip


def ids(cases: list[Bad]) -> list[Any]:
    return [pytest.param(case, id=case.label) for case in cases]


def refused(call: Callable[[], Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        call()
    assert caught.value.responses == []
    return caught.value


def stream(server: EmbeddedServer, case: Bad, statuses: bool = False) -> list[raw.Response]:
    inputs, parameters = case.request(), case.parameters
    with raw.Stream(server, inputs, parameters=parameters, statuses=statuses) as opened:
        return list(opened)


@pytest.mark.parametrize("case", ids(EVERYWHERE + GRPC_ONLY))
def test_refused_over_grpc(server: EmbeddedServer, case: Bad) -> None:
    answer = refused(lambda: stream(server, case))
    assert answer.status == "INVALID_ARGUMENT"
    assert_explained(answer, case)


# One case of each input, where the first of each will do.
BY_INPUT = list({case.named: case for case in GRPC_ONLY + EVERYWHERE}.values())


def test_the_header_of_older_clients_still_gets_a_status(server: EmbeddedServer) -> None:
    """Once alone: tritonserver 2.51 can die of it (docs/contract.md)."""
    case = BY_INPUT[0]
    answer = refused(lambda: stream(server, case, statuses=True))
    assert answer.status == answer.code == "INVALID_ARGUMENT"
    assert_explained(answer, case)


@pytest.mark.parametrize("case", ids(EVERYWHERE))
def test_refused_over_http(server: EmbeddedServer, case: Bad) -> None:
    answer = refused(
        lambda: raw.generate(server, {**case.request(), **case.parameters, "stream": False})
    )
    assert answer.status == 400
    assert_explained(answer, case)


@pytest.mark.parametrize("case", ids([case for case in BY_INPUT if case in EVERYWHERE]))
def test_refused_as_the_first_event(server: EmbeddedServer, case: Bad) -> None:
    answer = refused(lambda: raw.Events(server, {**case.request(), **case.parameters}))
    assert answer.status == 400
    assert_explained(answer, case)


def assert_explained(answer: Refused, case: Bad) -> None:
    """NAME: value; what is allowed. In one line that can be read, with the code at its end."""
    assert answer.code == "INVALID_ARGUMENT"
    assert re.match(rf"{re.escape(case.named)}[^ ]*: ", answer.text), answer.text
    assert case.words in answer.text
    assert "\n" not in answer.text
    assert "Traceback" not in answer.text
    assert len(answer.text) < 400


# --- text that is no UTF-8, which only JSON's bytes can carry here ------------------------------


@pytest.mark.parametrize(
    ("named", "field"),
    [
        ("id", b'"id": "\xff"'),
        ("id", b'"id": "\xc3"'),
        ("parameters", b'"session_id": "\xff\xfe"'),
        ("parameters", b'"\xff": 1'),
        ("parameters", b'"session_id": "%s"' % (b"\xff" * 2**20)),
        ("prompt", b'"prompt": "\xff"'),
        ("source_prompt", b'"source_prompt": "\xed\xa0\x80"'),
        ("solver", b'"solver": "\xff"'),
    ],
    ids=lambda value: value[:24].decode("latin-1") if isinstance(value, bytes) else value,
)
def test_text_that_is_not_utf_8(server: EmbeddedServer, named: str, field: bytes) -> None:
    good = b'"duration": 0.2, "stream": false'
    prompt = b"" if named == "prompt" else b'"prompt": "a harp", '
    connection, reply = raw.post(server, "generate", b"{" + prompt + good + b", " + field + b"}")
    said = json.loads(reply.read())["error"]
    connection.close()
    assert reply.status == 400
    assert said.startswith(f"{named}: ")
    assert said.endswith(" [INVALID_ARGUMENT]")
    assert len(said) < 300
    assert "model.py" not in said


# --- what Triton refuses before the model sees it: its own text ---------------------------------


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("flowstep", raw.tensor("flowstep", 0.5, "FP64")),
        ("steps", raw.tensor("steps", 5, "INT64")),
        ("seed", raw.tensor("seed", 5, "INT32")),
        ("prompt", raw.tensor("prompt", 5, "INT32")),
        ("stream", raw.tensor("stream", b"true", "BYTES")),
        ("steps", raw.tensor("steps", 5, shape=(1, 2))),
        ("steps", raw.tensor("steps", 5, shape=(1,))),
        ("prompt", raw.tensor("prompt", b"a harp", shape=(1, 2))),
        ("prompt", raw.tensor("prompt", b"a harp", shape=(2, 1))),
        ("audio", raw.tensor("audio", CLIP, shape=(1, 0))),
        ("tempo", raw.tensor("tempo", 5, "INT32")),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.datatype()}{value.shape()}",
)
def test_wrong_types_and_shapes(server: EmbeddedServer, name: str, wrong: Any) -> None:
    """This Triton gives no status here, even when asked for one: docs/contract.md says so."""
    answer = refused(lambda: raw.over_grpc(server, {**GOOD, name: wrong}))
    assert answer.status in (None, "INVALID_ARGUMENT")
    assert name in answer.text or "batch" in answer.text


def test_no_inputs_at_all(server: EmbeddedServer) -> None:
    assert "input" in refused(lambda: raw.over_grpc(server, {})).text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"a harp"',
        b"{}",
        b'{"prompt": "a harp", "prompt": "a lute"}',
        b'{"prompt": "a harp", "audio": "\xff\xfe"}',
        b'{"prompt": "a harp", "audio": {"bytes": 1}}',
        b'{"prompt": ["a", "b"], "audio": "UklG"}',
        b'{"prompt": "a harp", "audio": "UklG", "steps": "2"}',
        b'{"prompt": "a harp", "audio": "UklG", "steps": 2.7}',
        b'{"prompt": "a harp", "audio": "UklG", "steps": null}',
        b'{"prompt": "a harp", "audio": "UklG", "flowstep": "half"}',
        b'{"prompt": "a harp", "audio": "UklG", "flowstep": NaN}',
        b'{"prompt": "a harp", "audio": "UklG", "flowstep": 1e999}',
        b'{"prompt": "a harp", "audio": "UklG", "seed": 1e30}',
        b'{"prompt": "a harp", "audio": "UklG", "stream": "false"}',
        b'{"prompt": 5, "audio": "UklG"}',
    ],
    ids=lambda body: body.decode("latin-1"),
)
def test_json_of_the_wrong_kind(server: EmbeddedServer, body: bytes) -> None:
    """Some of it Triton answers with 500: its own doing, see docs/contract.md."""
    connection, reply = raw.post(server, "generate", body)
    with_text = reply.read()
    connection.close()
    assert reply.status in (400, 500)
    assert json.loads(with_text)["error"]


# --- valid, however odd -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "samples"),
    [
        pytest.param(with_total(flac(), 0), 48000, id="FLAC without a total"),
        pytest.param(wav(size=0xFFFFFFFF), 48000, id="WAV written to a pipe"),
        pytest.param(CLIP + bytes(1001), 48000, id="WAV with something behind it"),
        pytest.param(wav(size=4 * 24000), 24000, id="WAV that announces less"),
        pytest.param(CLIP[:36] + chunk(b"LIST", b"INFO") + CLIP[36:], 48000, id="WAV with a LIST"),
    ],
)
def test_odd_files_are_accepted(server: EmbeddedServer, file: bytes, samples: int) -> None:
    result = raw.transform(server, {**GOOD, "audio": file})
    assert raw.decoded(result["audio"])[0].shape == (2, samples)


@pytest.mark.parametrize(
    ("change", "parameters"),
    [
        ({"prompt": "ä" * 1000}, {}),
        ({"prompt": "🎻\n\"'\\ \x00\u202e"}, {}),
        ({"source_prompt": ""}, {}),
        ({"flowstep": 0.0}, {}),
        ({"flowstep": 0.9999999}, {}),
        ({"guidance": 0.0}, {}),
        ({"guidance": 10.0}, {}),
        ({"lambda_kl": 0.0}, {}),
        ({"lambda_kl": 1.0}, {}),
        ({"steps": 1, "regularize_iters": 8, "keep_last_k_iters": 8}, {}),
        ({"steps": 1, "regularize_iters": 0, "keep_last_k_iters": 0}, {}),
        ({"solver": "midpoint", "regularize_iters": 0}, {}),
        ({"sample_rate": 8000}, {}),
        ({"sample_rate": 192000}, {}),
        ({}, {"timeout_s": 60}),
        ({}, {"timeout_s": 60.5}),
        ({}, {"timeout_s": "60"}),
        ({}, {"metadata": "False"}),
        ({}, {"session_id": "x" * 10_000}),
        ({}, {"session_id": 12}),
    ],
    ids=str,
)
def test_the_ends_of_each_range_are_accepted(
    server: EmbeddedServer, change: dict[str, Any], parameters: dict[str, Any]
) -> None:
    result = raw.transform(server, {**GOOD, **change}, **parameters)
    samples, _ = raw.decoded(result["audio"])
    assert np.isfinite(samples).all()
    told = json.loads(result["info"])["parameters"]
    for name, value in change.items():
        assert told[name] == value


def test_tritons_own_parameters_are_let_through(server: EmbeddedServer) -> None:
    tritons = {"id": "take-1", "priority": 1, "timeout": 60_000_000, "triton_anything": "x"}
    (answer,) = raw.over_generate(server, {**GOOD, **tritons})
    assert answer.outputs["stage"] == b"done"


# --- an edit in flight is never harmed ----------------------------------------------------------


def test_bad_requests_do_not_harm_an_edit_in_flight(
    server: EmbeddedServer, checkpoint: Path, metrics: Callable[[], dict[str, float]]
) -> None:
    invalid = 'melodyflow_edits_total{outcome="invalid"}'
    before = metrics()[invalid]
    parameters = {"prompt": "a lute", "steps": 128, "seed": secrets.randbelow(2**31)}
    with raw.Stream(server, {"audio": CLIP, "format": "wav32f", **parameters}) as other:
        other.next()
        for case in EVERYWHERE + GRPC_ONLY:
            refused(partial(stream, server, case))
        samples, _ = raw.decoded(list(other)[-1].outputs["audio"])
    expected = oracle.edited(checkpoint, CLIP, **parameters)
    assert np.abs(samples - expected).max() <= 1e-4 * np.abs(expected).max()
    # All are counted, nothing is held, and the next one is served.
    assert raw.eventually(lambda: metrics()[invalid] == before + len(EVERYWHERE + GRPC_ONLY))
    assert raw.eventually(lambda: metrics()["melodyflow_edits_in_flight"] == 0)
    assert raw.transform(server, GOOD)["stage"] == b"done"
