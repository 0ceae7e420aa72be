"""Tokens, the browser's cookie, and what one token may ask for."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from melodyflow.embedded import EmbeddedServer

from .conftest import PATIENCE, TOKEN, Running, Start, base64_of, until, wav

Metrics = Callable[[], dict[str, float]]
MINE = {"Authorization": f"Bearer {TOKEN}"}
COOKIE = "melodyflow_gateway"
CLOSED = [
    ("POST", "/transform"),
    ("POST", "/transform/stream"),
    ("GET", "/variations"),
    ("GET", "/metrics"),
    ("POST", "/api/juce/transform_audio"),
    ("GET", "/api/juce/poll_status/x"),
    ("POST", "/api/juce/undo_transform"),
]


@pytest.mark.parametrize(("method", "path"), CLOSED)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer "},
        {"Cookie": f"{COOKIE}={TOKEN}"},
        {"Cookie": f"{COOKIE}="},
    ],
)
def test_without_a_token_nothing_is_allowed(
    guarded: Running, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = requests.request(method, guarded.url + path, headers=headers, timeout=PATIENCE)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert TOKEN not in answer.text


def test_health_needs_no_token(guarded: Running) -> None:
    assert guarded.get("/health").status_code == 200


def test_with_a_token_everything_is_allowed(guarded: Running) -> None:
    assert guarded.get("/variations", headers=MINE).status_code == 200
    assert guarded.get("/metrics", headers=MINE).status_code == 200
    body = {"audio": base64_of(wav()), "variation": "celtic", "steps": 1}
    assert guarded.post("/transform", json=body, headers=MINE).status_code == 200


def test_a_browser_trades_a_token_for_a_cookie(guarded: Running) -> None:
    with requests.Session() as browser:
        browser.trust_env = False
        asked = browser.get(guarded.url + "/", timeout=PATIENCE)
        assert asked.url.endswith("/login")
        assert "script-src 'self'" in asked.headers["Content-Security-Policy"]
        assert '<input id="token" name="token" type="password"' in asked.text
        wrong = browser.post(guarded.url + "/login", data={"token": "wrong"}, timeout=PATIENCE)
        assert (wrong.status_code, len(browser.cookies)) == (401, 0)
        right = browser.post(
            guarded.url + "/login", data={"token": TOKEN}, timeout=PATIENCE, allow_redirects=False
        )
        assert (right.status_code, right.headers["Location"]) == (303, "/")
        said = right.headers["Set-Cookie"].lower()
        assert "httponly" in said
        assert "samesite=strict" in said
        assert TOKEN not in right.headers["Set-Cookie"]
        assert browser.get(guarded.url + "/variations", timeout=PATIENCE).status_code == 200
        # The cookie is the same owner as its token.
        body = {"audio_data": base64_of(wav()), "variation": "celtic", "steps": 1}
        begun = browser.post(
            guarded.url + "/api/juce/transform_audio", json=body, timeout=PATIENCE
        ).json()
        path = f"/api/juce/poll_status/{begun['session_id']}"
        assert guarded.get(path, headers=MINE).status_code == 200
        browser.post(guarded.url + "/logout", timeout=PATIENCE)
        assert browser.get(guarded.url + "/variations", timeout=PATIENCE).status_code == 401


@pytest.mark.parametrize(("scheme", "secure"), [("https", True), ("http", False)])
def test_the_cookie_is_secure_where_the_page_came_over_tls(
    guarded: Running, scheme: str, secure: bool
) -> None:
    with requests.Session() as browser:  # with cookies of its own
        browser.trust_env = False
        answer = browser.post(
            guarded.url + "/login",
            data={"token": TOKEN},
            headers={"X-Forwarded-Proto": scheme},
            timeout=PATIENCE,
            allow_redirects=False,
        )
    assert answer.status_code == 303
    assert ("secure" in answer.headers["Set-Cookie"].lower()) is secure


def test_trying_tokens_is_slow(guarded: Running) -> None:
    def statuses() -> list[int]:
        return [guarded.post("/login", data={"token": f"guess-{n}"}).status_code for n in range(15)]

    assert 429 in statuses()


def test_a_login_form_is_small(guarded: Running) -> None:
    assert guarded.post("/login", data=b"token=" + b"x" * 10_000).status_code in (413, 429)


@pytest.fixture(scope="module")
def stingy(server: EmbeddedServer, start_gateway: Start) -> Running:
    return start_gateway(
        server.grpc_url,
        server.metrics_url,
        EDITS_PER_MINUTE="5",
        CONCURRENT_EDITS="1",
        EDIT_SECONDS="300",
    )


def test_edits_of_one_token_are_limited(stingy: Running, metrics: Metrics) -> None:
    body = {"audio": base64_of(wav(5)), "variation": "celtic", "steps": 128}
    before = metrics()["melodyflow_edits_in_flight"]
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(stingy.post, "/transform", json=body)
        assert until(lambda: metrics()["melodyflow_edits_in_flight"] > before)
        second = stingy.post("/transform", json=body)
        assert (second.status_code, int(second.headers["Retry-After"]) > 0) == (429, True)
        assert "too many concurrent edits (1)" in second.json()["error"]
        assert slow.result().status_code == 200
    quick = {"audio": base64_of(wav(0.2)), "variation": "celtic", "steps": 1}
    answers = [stingy.post("/transform", json=quick) for _ in range(6)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert all(1 <= int(answer.headers["Retry-After"]) <= 60 for answer in refused)
    assert answers[0].status_code == 200


def test_without_a_token_it_listens_on_loopback_alone(server: EmbeddedServer) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "melodyflow_client", "gateway", "--host", "0.0.0.0", "--port", "0"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert "no token is required" in done.stderr
