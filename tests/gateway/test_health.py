"""What the gateway says of itself: /health, /variations, /metrics, its pages."""

import hashlib
import json
import posixpath
import re
from pathlib import Path, PurePosixPath

from melodyflow.embedded import EmbeddedServer
from melodyflow_client import __version__, load_presets

from .conftest import PATIENCE, Open, Running, Start, until


def test_health_says_what_runs(gateway: Running, checkpoint: Path) -> None:
    answer = gateway.get("/health")
    assert answer.status_code == 200
    health = answer.json()
    assert (health["status"], health["error"], health["model_loaded"]) == ("healthy", None, True)
    assert health["version"] == __version__
    assert until(lambda: gateway.get("/health").json()["uptime"] > 0)
    assert 0 <= health["resources"]["cpu_percent"] <= 100
    assert 0 < health["resources"]["memory_percent"] < 100
    assert health["gpu_available"] is False
    assert health["queue"]["waiting"] is not None
    said = health["checkpoint"]
    assert said.keys() == {"name", "licence", "sha256"}
    assert len(said["sha256"]) == len(hashlib.sha256().hexdigest())


def test_health_says_what_may_be_sent(gateway: Running) -> None:
    health = gateway.get("/health").json()
    most = gateway.get("/limits").json()["limits"]["max_seconds"]
    assert health["limits"] == {"seconds": most, "bytes": 64 * 2**20}
    assert health["audio_formats"] == ["wav", "wav24", "wav32f", "flac", "wav_float"]


def test_health_without_triton_is_warming_for_a_while(open_gateway: Open) -> None:
    lonely = open_gateway()
    for _ in range(2):
        answer = lonely.get("/health")
        assert (answer.status_code, "Retry-After" in answer.headers) == (200, False)
        health = answer.json()
        assert (health["status"], health["model_loaded"]) == ("warming", False)
        assert health["error"]
        assert health["limits"] == {"seconds": None, "bytes": 64 * 2**20}
    # A probe is told as it is.
    answer = lonely.get("/ready")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json() == {"ready": False, "error": health["error"]}


def test_health_without_triton_is_503_after_that(open_gateway: Open) -> None:
    lonely = open_gateway(warming_seconds=0.5)
    assert until(lambda: lonely.get("/health").status_code == 503)
    answer = lonely.get("/health")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    health = answer.json()
    assert (health["status"], health["model_loaded"], health["checkpoint"]) == (
        "unhealthy",
        False,
        None,
    )
    assert health["error"]
    # What needs no server is there all the same.
    assert lonely.get("/variations").status_code == 200


def test_ready_with_triton(gateway: Running) -> None:
    assert gateway.get("/ready").json() == {"ready": True, "error": None}


def test_without_redis_both_are_503(
    server: EmbeddedServer, open_gateway: Open, tmp_path: Path
) -> None:
    opened = open_gateway(
        server=server.grpc_url,
        metrics=server.metrics_url,
        redis_url=f"unix://{tmp_path}/nobody.sock",
    )
    for path in ("/health", "/ready"):
        answer = opened.get(path)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert answer.json()["error"] == "can't reach Redis"


def test_variations_are_the_presets(gateway: Running) -> None:
    listed = gateway.get("/variations").json()["variations"]
    presets = load_presets()
    assert list(listed) == list(presets)
    assert len(listed) == 33
    for name, entry in listed.items():
        preset = presets[name]
        assert entry == {
            "prompt": preset.prompt,
            "flowstep": preset.flowstep,
            "steps": preset.steps,
            "category": preset.category,
        }


def test_variations_of_ones_own(open_gateway: Open, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"variations": {"kazoo": {"prompt": "Kazoo choir."}}}))
    listed = open_gateway(presets=str(own)).get("/variations").json()["variations"]
    assert (len(listed), listed["kazoo"]["prompt"]) == (34, "Kazoo choir.")


def test_metrics_count_requests_by_route(gateway: Running) -> None:
    name = 'melodyflow_gateway_requests_total{route="/variations",status="200"}'
    before = gateway.metric(name)
    gateway.get("/variations")
    assert gateway.metric(name) == before + 1
    # A session's name is in no label.
    gateway.get("/api/juce/poll_status/a-name")
    text = gateway.get("/metrics").text
    assert 'route="/api/juce/poll_status/{session_id}",status="404"' in text
    assert "a-name" not in text


def test_what_asks_every_few_seconds_is_neither_counted_nor_logged(
    server: EmbeddedServer, start_gateway: Start
) -> None:
    started = start_gateway(server.grpc_url, server.metrics_url)
    for path in ("/health", "/ready", "/metrics"):
        assert started.get(path).status_code == 200
        assert started.http.head(started.url + path, timeout=PATIENCE).status_code == 200
    assert started.get("/variations").status_code == 200
    text = started.get("/metrics").text
    routes = re.findall(r'^melodyflow_gateway_requests_total\{route="(.+?)"', text, re.MULTILINE)
    assert routes == ["/variations"]
    assert until(lambda: any("/variations" in line for line in started.said))
    assert [json.loads(line)["route"] for line in started.said] == ["/variations"]


def test_the_page_tells_of_all_modules_at_once(gateway: Running) -> None:
    links = gateway.get("/").headers["Link"].split(", ")
    paths = [link.removesuffix(">; rel=modulepreload").removeprefix("<") for link in links]
    assert "static/src/main.js" in paths
    for path in paths:
        answer = gateway.get(f"/{path}")
        assert answer.headers["Content-Type"].startswith("text/javascript")
        folder = PurePosixPath(path).parent
        for imported in re.findall(r'\bfrom "(\..+?)"', answer.text):
            assert posixpath.normpath(folder / imported) in paths


def test_pages_have_a_strict_policy_and_nothing_inline(guarded: Running) -> None:
    answer = guarded.get("/login")
    assert answer.headers["Content-Type"].startswith("text/html")
    policy = answer.headers["Content-Security-Policy"]
    for directive in (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "worker-src 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ):
        assert directive in policy
    assert "unsafe" not in policy
    assert "style=" not in answer.text
    assert "<script" not in answer.text


def test_static_files_stay_in_their_folder(gateway: Running) -> None:
    assert gateway.get("/static/style/token.css").status_code == 200
    assert gateway.get("/static/src/main.js").status_code == 200
    escapes = [f"/static/src/{up}package.json" for up in ("../", "%2e%2e/", "..%2f")]
    for path in (*escapes, "/static/", "/static/src/", "/static/package.json", "/static/test/"):
        assert gateway.get(path).status_code == 404
