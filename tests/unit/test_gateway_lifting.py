"""The audio of a JSON body: taken out whole, whatever is around it, at a bounded cost."""

import base64
import json
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from melodyflow_gateway.problems import Problem
from melodyflow_gateway.wire.base64_audio import decode_audio
from melodyflow_gateway.wire.lifting import MOST_DEPTH, MOST_OTHER_BYTES, PLACEHOLDER, lift

NAME = "audio"
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(
    st.text().filter(lambda name: name not in (NAME, "audio_data")), VALUES, max_size=6
)
# Generated under load, values can take a while.
patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def without_audio(value: object) -> bool:
    if isinstance(value, dict):
        return not {NAME, "audio_data"} & value.keys() and all(map(without_audio, value.values()))
    return not isinstance(value, list) or all(map(without_audio, value))


@patiently
@given(
    FIELDS.filter(without_audio),
    st.text(),
    st.integers(0, 6),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_what_json_would_give_is_what_is_left(
    fields: dict[str, object], audio: str, place: int, plain: bool, indent: int | None
) -> None:
    items = list(fields.items())
    items.insert(place, (NAME, audio))
    text = json.dumps(dict(items), ensure_ascii=plain, indent=indent).encode(
        "utf-8", "surrogatepass"
    )
    lifted = lift(text, NAME)
    if not audio.strip(" "):
        assert lifted.audio is None
        return
    assert lifted.audio is not None
    assert json.loads(b'"' + bytes(lifted.audio) + b'"') == audio
    assert json.loads(lifted.rest) == {**dict(items), NAME: PLACEHOLDER.decode()}


@patiently
@given(FIELDS.filter(without_audio))
def test_a_body_without_audio_is_left_alone(fields: dict[str, object]) -> None:
    text = json.dumps(fields).encode()
    assert lift(text, NAME) == lift(b"\xef\xbb\xbf" + text, NAME)
    assert lift(text, NAME).audio is None
    assert lift(text, NAME).rest == text


@patiently
@given(st.binary(max_size=300))
def test_anything_is_either_taken_apart_or_refused(text: bytes) -> None:
    try:
        lifted = lift(text, NAME)
    except Problem as problem:
        assert problem.status in (400, 413)  # noqa: PT017
        return
    gone = len(lifted.audio or b"") - (0 if lifted.audio is None else len(PLACEHOLDER))
    assert len(lifted.rest) in (len(text) - gone, len(text) - gone - 3)


@pytest.mark.parametrize(
    "text",
    [
        b'{"audio": 5, "b": "audio"}',
        b'{"a": "audio", "b": "long"}',
        b'["audio", "x"]',
        b'{"audio": null}',
        b'{"audio": {"c": "x"}}',
    ],
)
def test_only_the_string_of_that_name_is_audio(text: bytes) -> None:
    assert lift(text, NAME).audio is None


MUCH = 8 * 2**20
HOSTILE = {
    "lists": (b'{"a": [' + b"[]," * (MUCH // 3) + b"[]]}", 413),
    "deep": (b"[" * MUCH, 400),
    "objects": (b'{"a":' * (MUCH // 5), 400),
    "a long key": (b'{"' + b"k" * MUCH + b'": 1}', 413),
    "a long field": (b'{"prompt": "' + b"k" * MUCH + b'"}', 413),
    "a field without end": (b'{"prompt": "' + b"k" * MUCH, 413),
    "white space": (b" " * MUCH + b"{}", 413),
    "many keys": (b"{" + b'"a": 1,' * (MUCH // 7) + b'"b": 1}', 413),
    "digits": (b'{"seed": ' + b"1" * 1000 + b"}", 400),
    "more digits": (b'{"seed": ' + b"1" * MUCH + b"}", 400),
    "backslashes": (b'{"audio": "' + b"\\" * MUCH + b'"}', 400),
    "quotes": (b'{"audio": "' + b'\\"' * (MUCH // 2) + b'"}', 400),
    "audio twice": (b'{"audio": "AAAA", "audio": "AAAA"}', 400),
    "after the audio": (b'{"audio": "AAAA", "a": [' + b"1," * (MUCH // 2) + b"1]}", 413),
}


@pytest.mark.parametrize(("text", "status"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_too_much_is_refused_before_it_is_built(text: bytes, status: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Problem) as caught:
            lift(text, NAME)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.status == status
    assert len(caught.value.message) < 200
    assert most < 64 * MOST_OTHER_BYTES


def test_so_much_beside_the_audio_is_taken() -> None:
    body = {"prompt": "p" * (MOST_OTHER_BYTES - 100), "audio": "A" * MUCH}
    lifted = lift(json.dumps(body).encode(), NAME)
    assert lifted.audio is not None
    assert len(lifted.audio) == MUCH
    deep = b'{"a":' * (MOST_DEPTH - 1) + b"[]" + b"}" * (MOST_DEPTH - 1)
    assert lift(deep, NAME).rest == deep


@patiently
@given(
    st.binary(min_size=1, max_size=2000),
    st.sampled_from(["standard", "url"]),
    st.booleans(),
    st.integers(1, 80),
    st.sampled_from(["", "data:audio/wav;base64,", " data:audio/mpeg;codecs=x;base64,"]),
    st.booleans(),
)
def test_base64_of_any_spelling(
    data: bytes, alphabet: str, padded: bool, width: int, prefix: str, lines: bool
) -> None:
    encode = base64.b64encode if alphabet == "standard" else base64.urlsafe_b64encode
    text = encode(data).decode()
    if not padded:
        text = text.rstrip("=")
    if lines:
        text = "\r\n".join(text[at : at + width] for at in range(0, len(text), width)) + "\n"
    for escape in (
        lambda t: json.dumps(t)[1:-1],
        lambda t: json.dumps(t)[1:-1].replace("/", "\\/"),
    ):
        assert decode_audio(NAME, escape(prefix + text).encode()) == data


@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("size", [3 * 2**18, 2**20 + 1, 2**20 + 2])
def test_base64_in_pieces_is_the_whole(size: int, escaped: bool) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    text = base64.b64encode(data)
    if escaped:
        text = text.replace(b"+", b"\\u002B").replace(b"/", b"\\/")
    assert decode_audio(NAME, text) == data


@pytest.mark.parametrize(
    "text",
    [
        b"!",
        b"A",
        b"AAAA=AAA",
        b"AA=A",
        b"=AAA",
        "é".encode(),
        b"AAAA AAAA A",
        b"\\u00e9AAA",
        b"\\x",
        b"\\" * 2**19,
        b"base64_encoded_audio_data",
        b"data:audio/wav,AAAA",
        b"A" * 2**18 + b"=AAAA",
    ],
)
def test_what_is_not_base64_is_refused(text: bytes) -> None:
    with pytest.raises(Problem, match=r"audio: .*; expected an audio file in base64") as caught:
        decode_audio(NAME, text)
    assert caught.value.status == 400
    assert len(caught.value.message) < 300


def test_nothing_is_no_audio() -> None:
    for text in (b"", b" \\n", b"data:audio/wav;base64,"):
        with pytest.raises(Problem, match="audio: is empty"):
            decode_audio(NAME, text)


def test_audio_by_another_name_is_dropped() -> None:
    body = {"audio": "AAAA", "audio_data": "B" * MUCH}
    lifted = lift(json.dumps(body).encode(), NAME)
    assert bytes(lifted.audio or b"") == b"AAAA"
    assert json.loads(lifted.rest) == {"audio": "-", "audio_data": "-"}
