"""Bytes that are no text, at every door: there is always an answer, and never a traceback."""

import asyncio
import gc
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message

from melodyflow_gateway.app import create_app
from melodyflow_gateway.settings import Settings

from .asgi import Answer, Door, Headers
from .conftest import TOKEN

MINE = [(b"authorization", f"Bearer {TOKEN}".encode())]
FORM = [(b"content-type", b"multipart/form-data; boundary=x")]
JSON = [(b"content-type", b"application/json")]
SOCKET_IO = b"EIO=4&transport=polling"
SHOWN = 80


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    settings_of_it = Settings(server="127.0.0.1:1", tokens=(TOKEN,))
    with asyncio.Runner() as runner:
        yield Door(create_app(settings_of_it), runner)


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.WARNING)
    yield
    gc.collect(1)  # a task whose error nobody looked at is logged when it goes
    assert [record for record in caplog.get_records("call") if record.exc_info] == []


def part(disposition: bytes, value: bytes) -> bytes:
    return b"--x\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\n" + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--x--\r\n"


@pytest.mark.parametrize(
    ("headers", "path", "query", "body", "names"),
    [
        ([(b"authorization", b"Bearer \xff")], b"/variations", b"", b"", "authorization: "),
        (MINE, b"/variations", b"x=%ff", b"", "query: "),
        (MINE, b"/variations", b"x=\xff", b"", "query: "),
        (MINE, b"/%ff", b"", b"", "path: "),
        (MINE, b"/static/style/%ff", b"", b"", "path: "),
        (MINE, b"/api/juce/poll_status/%ff", b"", b"", "path: "),
        ([*MINE, (b"content-type", b"\xff")], b"/transform", b"", b"", "content-type: "),
        ([(b"host", b"\xff"), *MINE], b"/variations", b"", b"", "host: "),
        ([*MINE, (b"origin", b"\xff")], b"/variations", b"", b"", "origin: "),
        ([*MINE, *JSON], b"/transform", b"", b'{"variation":"\xff"}', "body: "),
        ([*MINE, *FORM], b"/transform", b"", form(part(b'name="session_id"', b"\xff")), "session"),
        ([*MINE, *FORM], b"/transform", b"", form(part(b'name="\xff"', b"x")), "multipart form: "),
        (
            [*MINE, *FORM],
            b"/transform",
            b"",
            form(part(b'name="audio"; filename="\xff"', b"x")),
            "multipart form: ",
        ),
        (
            [*MINE, (b"content-type", b"multipart/form-data")],
            b"/transform",
            b"",
            b"",
            "Content-Type: boundary",
        ),
    ],
)
def test_what_is_not_text_is_named(
    door: Door, headers: Headers, path: bytes, query: bytes, body: bytes, names: str
) -> None:
    method = "POST" if body or path == b"/transform" else "GET"
    answer = door.ask(method, path, query, headers, body)
    assert answer.status == 400
    assert answer.error.startswith(names)
    assert len(answer.error) < 2 * SHOWN + 100


@pytest.mark.parametrize("charset", [b"latin-1", b"idna", b"punycode", b"undefined", b"x" * 9999])
def test_a_form_is_utf8_whatever_it_says(door: Door, charset: bytes) -> None:
    kind = b"multipart/form-data; boundary=x; charset=" + charset
    body = form(part(b'name="session_id"', "ä".encode()))
    answer = door.ask("POST", b"/transform", headers=[*MINE, (b"content-type", kind)], body=body)
    assert (answer.status, "'ä'" in answer.error) == (400, True)


def test_a_long_field_is_cut(door: Door) -> None:
    for value in (b"\xff" * 2**23, b"x" * 2**23, b"x" * 2**15, b"\xff" * 2**15):
        body = form(part(b'name="session_id"', value))
        answer = door.ask("POST", b"/transform", headers=[*MINE, *FORM], body=body)
        assert answer.status == 400
        assert len(answer.error) < 300


def test_headers_that_nobody_reads_may_hold_anything(door: Door) -> None:
    strange = [(b"user-agent", b"B\xf6b"), (b"cookie", b'other="\xff; \xfe=; =;;')]
    assert door.ask("GET", b"/variations", headers=[*MINE, *strange]).status == 200


def test_a_cookie_that_is_not_text_opens_nothing(door: Door) -> None:
    cookie = [(b"cookie", b"melodyflow_gateway=\xff")]
    assert door.ask("GET", b"/variations", headers=cookie).status == 401
    assert door.ask("POST", b"/logout", headers=cookie).status == 303


def opened(door: Door) -> bytes:
    """A Socket.IO connection over polling, in its namespace: the query of its next requests."""
    answer = door.ask("GET", b"/socket.io/", SOCKET_IO, MINE)
    query = SOCKET_IO + b"&sid=" + json.loads(answer.body[1:])["sid"].encode()
    assert door.ask("POST", b"/socket.io/", query, body=b"40").status == 200
    return query


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"4\xff",
        b"x",
        b"9",
        b"b!",
        b"4\x1e",
        "²".encode(),
        b"0",
        b"2",
        b"6",
        b"1\x1e5",
        b"\x1e".join([b"4"] * 17),
    ],
)
@pytest.mark.parametrize("before", [b"", b"4" + b"x" * 10**6 + b"\x1e"], ids=["short", "long"])
def test_a_broken_packet_is_refused(door: Door, before: bytes, body: bytes) -> None:
    answer = door.ask("POST", b"/socket.io/", opened(door), body=before + body)
    assert answer.status == 400
    assert answer.error.startswith("body: ")


def test_a_poll_that_never_fits_the_budget_is_too_large() -> None:
    with asyncio.Runner() as runner:
        door = Door(create_app(Settings(server="127.0.0.1:1", memory_bytes=2**26)), runner)
        query = opened(door)
        event = b'42["transform_audio_request",{"audio_data":"%s"}]'
        answer = door.ask("POST", b"/socket.io/", query, body=event % (b"A" * 20 * 2**20))
        assert answer.status == 413
        assert "bytes for this edit" in answer.error
        fits = event % (b"A" * 2**20)
        assert door.ask("POST", b"/socket.io/", query, body=fits).status == 200


@pytest.mark.parametrize("text", ["", "x", "9", "b!", "²", "é"])
def test_a_broken_packet_ends_its_websocket(
    door: Door, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    got = door.talk(MINE, [{"type": "websocket.receive", "text": text}])
    assert got[-1]["type"] == "websocket.close"
    assert [record.message for record in caplog.records] == ["a socket is closed"]


@pytest.mark.parametrize(
    "packet",
    [
        '42["connect",{"asgi.scope":{"type":"http","state":{"owner":"another"},"headers":[]}}]',
        '42["disconnect"]',
        '42["undo_transform_request",1,2,3]',
        '42["undo_transform_request",{"session_id":"\\ud800"}]',
        '42["\\ud800",{}]',
        '4²1["x"]',
        '42²["x"]',
        "40",
        "40/elsewhere,",
        "41",
        "43",
        "431[]",
        "44",
        "0",
        "1",
        "5",
        "6",
    ],
)
def test_a_packet_out_of_place_harms_no_one(door: Door, packet: str) -> None:
    got = door.talk(
        MINE, [{"type": "websocket.receive", "text": text} for text in ("40", packet, "2")]
    )
    assert got[0] == {"type": "websocket.accept"}


raw = st.binary(max_size=60)
# What a server library lets through in a header, a path and a query.
header = st.lists(
    st.sampled_from([byte for byte in range(256) if byte in (9, *range(32, 127), *range(128, 256))])
).map(bytes)
escaped = st.lists(
    st.one_of(
        st.sampled_from([b"%ff", b"%", b"%00", b"/", b"..", b"=", b"&", b"+", b"sid=", b"%c3%a4"]),
        st.binary(min_size=1, max_size=3).map(lambda b: b"".join(b"%%%02x" % c for c in b)),
    ),
    max_size=8,
).map(b"".join)
PATHS = [
    b"/",
    b"/login",
    b"/variations",
    b"/limits",
    b"/metrics",
    b"/openapi.json",
    b"/static/style/token.css",
    b"/api/juce/poll_status/x",
    b"/socket.io/",
]
READ = [
    b"accept",
    b"accept-encoding",
    b"authorization",
    b"connection",
    b"content-length",
    b"content-type",
    b"cookie",
    b"host",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"origin",
    b"range",
    b"sec-fetch-dest",
    b"sec-fetch-mode",
    b"sec-fetch-site",
    b"upgrade",
    b"x-forwarded-for",
    b"x-forwarded-proto",
]
many = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def fine(answer: Answer) -> None:
    assert answer.status not in (0, 500)


@many
@given(path=st.sampled_from(PATHS), more=escaped, query=escaped)
def test_any_path_and_query_is_answered(door: Door, path: bytes, more: bytes, query: bytes) -> None:
    fine(door.ask("GET", path + more, query, MINE))
    fine(door.ask("GET", b"/socket.io/", SOCKET_IO + b"&" + query, MINE))


@many
@given(
    path=st.sampled_from(PATHS),
    name=st.one_of(st.sampled_from(READ), st.binary(min_size=1, max_size=9)),
    begin=st.sampled_from([b"", b"Bearer ", b"melodyflow_gateway=", b"bytes=0-", b"text/"]),
    value=header,
    known=st.booleans(),
)
def test_any_header_is_answered(
    door: Door, path: bytes, name: bytes, begin: bytes, value: bytes, known: bool
) -> None:
    given_headers = [(name.lower(), begin + value), *(MINE if known else [])]
    fine(door.ask("GET", path, SOCKET_IO, given_headers))
    fine(door.ask("POST", b"/login", headers=given_headers))
    fine(door.ask("POST", b"/logout", headers=given_headers))
    fine(door.ask("POST", b"/transform", headers=given_headers, body=b"{}"))


@many
@given(
    path=st.sampled_from(
        [
            b"/transform",
            b"/transform/stream",
            b"/api/juce/transform_audio",
            b"/api/juce/undo_transform",
            b"/login",
        ]
    ),
    kind=st.sampled_from([*JSON, *FORM, (b"content-type", b"application/x-www-form-urlencoded")]),
    begin=st.sampled_from([b"", b"{", b'{"session_id":"', b"--x\r\n", b"token=%", b"\xef\xbb\xbf"]),
    body=raw,
)
def test_any_body_is_answered(
    door: Door, path: bytes, kind: tuple[bytes, bytes], begin: bytes, body: bytes
) -> None:
    fine(door.ask("POST", path, headers=[*MINE, kind], body=begin + body))


@many
@given(name=raw, filename=st.none() | raw, value=raw, kind=header)
def test_any_form_is_answered(
    door: Door, name: bytes, filename: bytes | None, value: bytes, kind: bytes
) -> None:
    file = b"" if filename is None else b'; filename="' + filename + b'"'
    body = form(part(b'name="' + name + b'"' + file, value))
    headers = [*MINE, (b"content-type", b"multipart/form-data; boundary=x; charset=" + kind)]
    fine(door.ask("POST", b"/transform", headers=headers, body=body))


packet = st.one_of(
    st.text(max_size=30),
    st.text(max_size=30).map(lambda text: "42" + text),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=6,
    ).map(lambda value: "42" + json.dumps(["undo_transform_request", value])),
)


@many
@given(
    packets=st.lists(packet, max_size=4),
    binary=st.none() | raw,
)
def test_any_message_of_a_websocket_is_survived(
    door: Door, packets: list[str], binary: bytes | None
) -> None:
    sent: list[Message] = [{"type": "websocket.receive", "text": text} for text in ("40", *packets)]
    if binary is not None:
        sent.append({"type": "websocket.receive", "bytes": binary})
    assert door.talk(MINE, sent)[0] == {"type": "websocket.accept"}


@many
@given(body=raw, begin=st.sampled_from([b"", b"4", b"42", b"40", b"4\x1e", b"42["]))
def test_any_body_of_a_poll_is_answered(door: Door, body: bytes, begin: bytes) -> None:
    fine(door.ask("POST", b"/socket.io/", opened(door), body=begin + body))
