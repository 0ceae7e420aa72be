"""The door: Host, Origin, size. What a page of another site, or a careless client, cannot do."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
import requests
from httpx2 import Response
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from melodyflow.embedded import EmbeddedServer

from .conftest import PATIENCE, TOKEN, Open, Running, Start, base64_of, until, wav

MIB = 2**20
SOCKET_IO = "/socket.io/?EIO=4&transport="
ROUTES = [
    ("GET", "/"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("POST", "/logout"),
    ("POST", "/transform"),
    ("POST", "/transform/stream"),
    ("GET", "/variations"),
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/static/style/token.css"),
    ("POST", "/api/juce/transform_audio"),
    ("GET", "/api/juce/poll_status/x"),
    ("POST", "/api/juce/undo_transform"),
    ("GET", SOCKET_IO + "polling"),
    ("POST", SOCKET_IO + "polling&sid=x"),
    ("GET", "/nowhere"),
]
routes = pytest.mark.parametrize(("method", "path"), ROUTES)


def ask(gateway: Running, method: str, path: str, **headers: str | None) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = gateway.url + path
    return gateway.http.request(method, url, headers=named, timeout=PATIENCE, allow_redirects=False)


PROBES = ("/health", "/ready")


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1] not in PROBES])
def test_a_foreign_host_is_refused(gateway: Running, method: str, path: str) -> None:
    answer = ask(gateway, method, path, Host=f"evil.example:{gateway.port}")
    assert answer.status_code == 421
    assert "'evil.example:" in answer.json()["error"]
    assert "MELODYFLOW_GATEWAY_HOSTS" in answer.json()["error"]


@pytest.mark.parametrize("path", PROBES)
@pytest.mark.parametrize("host", ["10.1.2.3:8002", "evil.example", "", "@", "[::", "ready"])
def test_probes_may_have_any_host(gateway: Running, path: str, host: str) -> None:
    for method in ("GET", "HEAD"):
        assert ask(gateway, method, path, Host=host).status_code == 200
    for method in ("POST", "OPTIONS"):
        assert ask(gateway, method, path, Host=host).status_code == 421
    for other in (f"{path}/", f"/{path}", f"{path}/../limits", f"{path}%2f", path.upper()):
        assert ask(gateway, "GET", other, Host=host).status_code in (400, 421)


def test_with_a_token_the_metrics_are_there_under_any_name(open_gateway: Open) -> None:
    def get(opened: TestClient, token: str, path: str = "/metrics") -> int:
        headers = {"Host": "10.1.2.3:8002", **({"Authorization": token} if token else {})}
        return opened.get(path, headers=headers).status_code

    guarded, open_to_all = open_gateway(tokens=(TOKEN,)), open_gateway()
    assert get(guarded, f"Bearer {TOKEN}") == 200
    assert get(guarded, f"Bearer {TOKEN}", "/limits") == 421
    for wrong in ("", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer"):
        assert get(guarded, wrong) == 421
        assert get(open_to_all, wrong) == 421
    # A page of another site may have a browser send its cookie, but no token.
    cookie = guarded.post("/login", data={"token": TOKEN}).headers["set-cookie"].partition(";")[0]
    foreign = {"Host": "10.1.2.3:8002", "Cookie": cookie}
    assert guarded.get("/metrics", headers=foreign).status_code == 421
    assert guarded.get("/metrics", headers={"Cookie": cookie}).status_code == 200


@routes
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        "http://localhost.evil.example",
        "http://[",
        "http://[::1",
    ],
)
def test_a_foreign_origin_is_refused(gateway: Running, method: str, path: str, origin: str) -> None:
    answer = ask(gateway, method, path, Origin=origin)
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST", "127.1.2.3"])
@pytest.mark.parametrize("port", ["", ":8002"])
def test_this_machines_own_names_are_let_in(gateway: Running, host: str, port: str) -> None:
    answer = ask(gateway, "GET", "/variations", Host=host + port, Origin=f"http://{host}{port}")
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /variations HTTP/1.0\r\n\r\n",
        b"GET /variations HTTP/1.1\r\nHost: \r\n\r\n",
        b"GET /variations HTTP/1.1\r\nHost: localhost:x\r\n\r\n",
        b"GET /variations HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n",
        b"GET /variations HTTP/1.1\r\nHost: evil.example@localhost\r\n\r\n",
        b"GET /variations HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET http://localhost/variations HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /variations HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
        b"Origin: http://evil.example\r\n\r\n",
    ],
)
def test_no_host_and_two_are_refused(gateway: Running, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as client:
        client.sendall(head)
        assert client.recv(4096).split()[1] in (b"400", b"403", b"421")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_browsers_send_for_another_site_without_an_origin_is_refused(
    gateway: Running, site: str
) -> None:
    image = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}
    assert ask(gateway, "GET", SOCKET_IO + "polling", **image).status_code == 403
    frame = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}
    assert ask(gateway, "GET", "/login", **frame).status_code == 403
    # Following a link to the page is no harm.
    link = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert ask(gateway, "GET", "/login", **link).status_code in (200, 303)
    assert ask(gateway, "POST", "/transform", **link).status_code == 403


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}]
)
def test_a_foreign_websocket_is_refused(gateway: Running, headers: dict[str, str]) -> None:
    host = headers.get("Host", "localhost")
    head = (
        f"GET {SOCKET_IO}websocket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    if "Origin" in headers:
        head += f"Origin: {headers['Origin']}\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as client:
        client.sendall(f"{head}\r\n".encode())
        assert client.recv(4096).split()[1] == b"403"


def test_a_websocket_of_our_own_page_is_let_in(gateway: Running) -> None:
    with connect(socket_url(gateway), origin=gateway.url, proxy=None) as client:
        assert client.recv(timeout=PATIENCE).startswith("0{")


def socket_url(gateway: Running) -> str:
    return gateway.url.replace("http", "ws") + SOCKET_IO + "websocket"


def test_hosts_and_origins_can_be_allowed(open_gateway: Open) -> None:
    opened = open_gateway(hosts=("music.example",), origins=("https://studio.example",))

    def get(**headers: str) -> Response:
        return opened.get("/variations", headers=headers)

    assert get(host="music.example").status_code == 200
    assert get(host="other.example").status_code == 421
    # Behind a proxy that ends TLS the page's origin is https.
    proxied = get(host="music.example", origin="https://music.example")
    assert proxied.status_code == 200
    other = get(origin="https://studio.example")
    assert other.headers["Access-Control-Allow-Origin"] == "https://studio.example"
    assert "Access-Control-Allow-Credentials" not in other.headers

    def preflight(origin: str) -> Response:
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        return opened.options("/transform", headers=asked)

    assert preflight("https://studio.example").status_code == 200
    assert preflight("https://evil.example").status_code == 403


APPS = ("null", "file://", "capacitor://", "ionic://localhost")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("null", True),
        ("file://", True),
        ("capacitor://localhost", True),
        ("capacitor://", True),
        ("ionic://localhost", True),
        ("ionic://elsewhere", False),
        ("NULL", False),
        ("nullx", False),
        ("capacitorx://localhost", False),
        ("https://capacitor://localhost", False),
        ("capacitor://localhost/../x", False),
        ("https://evil.example", False),
        ("", False),
    ],
)
def test_pages_of_apps_can_be_allowed(open_gateway: Open, origin: str, allowed: bool) -> None:
    opened = open_gateway(origins=APPS)
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    answers = [
        opened.get("/variations", headers={"Origin": origin}),
        opened.get(SOCKET_IO + "polling", headers={"Origin": origin}),
        opened.options("/transform", headers=asked),
    ]
    for answer in answers:
        assert answer.status_code == (200 if allowed else 403)
        assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)


def test_answers_keep_browsers_careful(gateway: Running) -> None:
    for path in ("/health", "/nowhere", "/static/style/token.css"):
        headers = ask(gateway, "GET", path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "Server" not in headers
        assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "path", ["/transform", "/api/juce/transform_audio", SOCKET_IO + "polling&sid=x", "/nowhere"]
)
def test_a_body_of_65_mib_is_refused_before_it_is_sent(gateway: Running, path: str) -> None:
    before = gateway.metric('melodyflow_gateway_refused_total{reason="size"}')
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as client:
        client.sendall(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {65 * MIB}\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        status, headers, body = read_answer(client)
    assert status == 413
    assert b"connection: close" in headers.lower()
    assert str(64 * MIB) in json.loads(body)["error"]
    assert gateway.metric('melodyflow_gateway_refused_total{reason="size"}') == before + 1


def read_answer(client: socket.socket) -> tuple[int, bytes, bytes]:
    data = b""
    while more := client.recv(65536):
        data += more
    headers, _, body = data.partition(b"\r\n\r\n")
    return int(headers.split()[1]), headers, body


@pytest.mark.parametrize("path", ["/transform", "/api/juce/undo_transform"])
def test_a_body_without_a_length_is_refused_when_it_gets_too_long(
    gateway: Running, path: str
) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        yield b'{"audio": "'
        while sent < 200 * MIB:
            sent += MIB
            yield b"A" * MIB

    try:
        answer = gateway.post(path, data=chunks(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
    except requests.ConnectionError:
        pass  # closed while it was still sending, and the answer lost with it
    assert sent < 100 * MIB
    assert sent >= 64 * MIB or path != "/transform"  # a route of a few fields takes less
    assert gateway.get("/variations").status_code == 200


@pytest.mark.parametrize("path", ["/transform", "/api/juce/undo_transform"])
def test_a_client_that_leaves_while_it_sends_is_not_a_failure(gateway: Running, path: str) -> None:
    left = f'melodyflow_gateway_requests_total{{route="{path}",status="499"}}'
    before, lines = gateway.metric(left), len(gateway.said)
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as client:
        client.sendall(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            'Content-Length: 1000000\r\n\r\n{"audio": "'.encode()
        )
        assert not until(lambda: gateway.metric(left) > before, seconds=0.5)
    assert until(lambda: gateway.metric(left) == before + 1)
    assert "traceback" not in "".join(gateway.said[lines:])


def test_a_client_that_sends_a_little_too_much_sees_the_answer(gateway: Running) -> None:
    answer = gateway.post("/transform", data=b"A" * (65 * MIB))
    assert answer.status_code == 413


def test_a_form_that_is_too_large_is_refused(gateway: Running) -> None:
    files = {"audio": ("a.wav", b"\0" * (65 * MIB))}
    assert gateway.post("/transform", files=files).status_code == 413


def test_a_message_of_65_mib_ends_its_socket_alone(gateway: Running) -> None:
    with (
        connect(socket_url(gateway), proxy=None) as neighbour,
        connect(socket_url(gateway), proxy=None) as client,
    ):
        for each in (neighbour, client):
            each.recv(timeout=PATIENCE)
            each.send("40")
            assert each.recv(timeout=PATIENCE).startswith("40")
        with suppress(ConnectionClosed):  # while it still sends
            client.send('42["transform_audio_request",{"audio_data":"' + "A" * (65 * MIB) + '"}]')
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=PATIENCE)
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
        neighbour.send('42["undo_transform_request",{"session_id":"no-such"}]')
        assert "nothing to undo" in neighbour.recv(timeout=PATIENCE)


def test_a_message_of_60_mib_is_read(gateway: Running) -> None:
    with connect(socket_url(gateway), proxy=None) as client:
        client.recv(timeout=PATIENCE)
        client.send("40")
        client.recv(timeout=PATIENCE)
        client.send('42["transform_audio_request",{"audio_data":"' + "A" * (60 * MIB) + '"}]')
        answers = ""
        while '"error"' not in answers:
            answers = client.recv(timeout=PATIENCE)
        assert "audio: " in answers or "prompt: " in answers


def opened(client: ClientConnection) -> ClientConnection:
    """A connection, in the namespace "/"."""
    client.recv(timeout=PATIENCE)
    client.send("40")
    assert client.recv(timeout=PATIENCE).startswith("40")
    return client


def test_a_message_in_many_parts_is_not_collected(gateway: Running) -> None:
    with connect(socket_url(gateway), proxy=None) as client:
        opened(client).send('455-["transform_audio_request",{"audio_data":{"_placeholder":true}}]')
        # Answered before any of its five parts is sent.
        assert "audio_data: an object" in client.recv(timeout=PATIENCE)
        client.send(b"A" * MIB)
        client.send('42["undo_transform_request",{"session_id":"no-such"}]')
        assert "nothing to undo" in client.recv(timeout=PATIENCE)


@pytest.mark.parametrize("packet", ["4", "4x", "42{", "451-[", "46", b"A", '42["a' + "[" * 99_999])
def test_a_broken_packet_harms_no_log(gateway: Running, packet: str | bytes) -> None:
    count = len(gateway.said)
    with connect(socket_url(gateway), proxy=None) as client:
        opened(client).send(packet)
        client.send('42["undo_transform_request",{"session_id":"no-such"}]')
        assert "nothing to undo" in client.recv(timeout=PATIENCE)
    for line in gateway.said[count:]:
        assert json.loads(line).keys() >= {"time", "level", "event"}


def test_what_opens_a_session_is_in_no_log(guarded: Running) -> None:
    mine = {"Authorization": f"Bearer {TOKEN}"}
    packet = guarded.get(SOCKET_IO + "polling", headers=mine).text
    sid = json.loads(packet[1:])["sid"]
    with connect(f"{socket_url(guarded)}&sid={sid}", proxy=None) as client:
        client.send("2probe")
        assert client.recv(timeout=PATIENCE) == "3probe"
    count = len(guarded.said)
    guarded.get("/variations", headers=mine)
    assert until(lambda: len(guarded.said) > count)  # its line comes after all of those before
    assert sid not in "".join(guarded.said)


def test_sockets_of_the_wrong_path_are_refused(gateway: Running) -> None:
    url = gateway.url.replace("http", "ws")
    with pytest.raises(InvalidStatus), connect(f"{url}/transform", proxy=None):
        pass


def test_logs_are_json_and_tell_neither_audio_nor_prompts_nor_sessions(gateway: Running) -> None:
    audio = base64_of(wav(pitch=777))
    body = {
        "audio": audio,
        "variation": "custom",
        "custom_prompt": "a secret prompt",
        "steps": 1,
        "session_id": "a-secret-session",
    }
    count = len(gateway.said)
    assert gateway.post("/transform", json=body).status_code == 200
    assert gateway.get("/api/juce/poll_status/a-secret-session").status_code == 404
    assert until(lambda: len(gateway.said) >= count + 2)
    for line in list(gateway.said):
        assert json.loads(line).keys() >= {"time", "level", "event"}
        assert "secret" not in line
        assert audio[1000:1100] not in line


def test_prompts_are_logged_at_debug_alone(server: EmbeddedServer, start_gateway: Start) -> None:
    loud = start_gateway(server.grpc_url, server.metrics_url, LOG_LEVEL="debug")
    body = {"audio": base64_of(wav()), "custom_prompt": "an open prompt", "steps": 1}
    assert loud.post("/transform", json=body).status_code == 200
    assert until(lambda: any("an open prompt" in line for line in list(loud.said)))
