"""HEAD answers wherever there is a GET, with its headers and no body."""

import pytest

from .conftest import TOKEN, Open, Running

PATHS = [
    "/",
    "/login",
    "/health",
    "/ready",
    "/limits",
    "/metrics",
    "/variations",
    "/openapi.json",
    "/static/src/main.js",
    "/api/juce/poll_status/nobody",
]


@pytest.mark.parametrize("path", PATHS)
def test_it_is_get_without_a_body(gateway: Running, path: str) -> None:
    got = gateway.get(path, allow_redirects=False)
    head = gateway.http.head(gateway.url + path, timeout=60)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers.keys() == got.headers.keys()
    changing = path in ("/metrics", "/health")
    if not changing:
        assert head.headers["Content-Length"] == got.headers["Content-Length"]
    assert int(head.headers["Content-Length"]) > 0 or head.is_redirect
    # The connection is still in step: nothing of a body was left on it.
    assert gateway.http.head(gateway.url + path, timeout=60).status_code == got.status_code


def test_what_only_posts_has_no_head(gateway: Running) -> None:
    for path in ("/transform", "/decode", "/nowhere"):
        answer = gateway.http.head(gateway.url + path, timeout=60)
        assert answer.status_code == gateway.get(path).status_code
        assert answer.status_code in (404, 405)
        assert answer.content == b""


def test_the_door_is_the_same(open_gateway: Open) -> None:
    client = open_gateway(tokens=(TOKEN,))
    assert client.head("/limits").status_code == 401
    assert client.head("/limits", headers={"Host": "evil.example"}).status_code == 421
    answer = client.head("/limits", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert 'melodyflow_gateway_requests_total{route="/limits",status="200"} 1.0' in (
        client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    )


def test_no_socket_is_opened(gateway: Running) -> None:
    path = "/socket.io/?EIO=4&transport=polling"
    before = gateway.metric("melodyflow_gateway_sockets")
    answer = gateway.http.head(gateway.url + path, timeout=60)
    assert (answer.status_code, answer.content) == (405, b"")
    assert gateway.metric("melodyflow_gateway_sockets") == before
