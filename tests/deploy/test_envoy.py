"""What Envoy lets through to servers: deploy/envoy/envoy.yaml, run before real ones."""

import http.client
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2, service_pb2_grpc

from melodyflow_client import MelodyFlowClient, Refused

from ..server import attackers, raw
from ..server.drill import eventually
from .envoy import KEY, OTHER_KEY, Envoy, Fleet, address_of, write_keys, write_site
from .names import NameServer

BEARER = {"authorization": f"Bearer {KEY}"}
EDIT: dict[str, Any] = {"prompt": "a harp", "seed": 3, "steps": 1, "loudness": "none"}
CLIP = raw.file_of(raw.music(0.2, 22050, 1), 22050)
OPEN = [
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    *(f"/v2/models/melodyflow{path}" for path in ("", "/ready", "/config", "/stats")),
]
CLOSED = [
    ("GET", "/"),
    ("GET", "/metrics"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/melodyflow/load"),
    ("POST", "/v2/repository/models/melodyflow/unload"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("POST", "/v2/systemsharedmemory/region/x/register"),
    ("GET", "/v2/cudasharedmemory/status"),
    ("GET", "/v2/trace/setting"),
    ("POST", "/v2/models/melodyflow/trace/setting"),
    ("POST", "/v2/logging"),
    ("GET", "/v2/models/stats"),
    ("GET", "/v2/models/another/config"),
    ("POST", "/v2/models/melodyflow/ready"),
    ("GET", "/v2/models/melodyflow/generate"),
    ("POST", "/v2/models/another/generate"),
]


def ask(
    fleet: Fleet, method: str, path: str, headers: dict[str, str] = BEARER, body: bytes = b""
) -> tuple[int, bytes]:
    """The answer to a request through Envoy, its path as it is."""
    connection = http.client.HTTPConnection(fleet.envoy.url, timeout=60)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_servers_are_found_by_their_name(fleet: Fleet, tmp_path: Path) -> None:
    """With DNS, as in the file; the other tests name them in a file."""
    address = address_of(fleet.servers[0])
    with (
        NameServer(["127.0.0.1", "127.0.0.2"]) as names,
        Envoy(tmp_path, [address], names=names) as envoy,
        MelodyFlowClient(envoy.url, api_key=KEY) as client,
    ):
        assert eventually(lambda: envoy.healthy() == 1, 30), (tmp_path / "envoy.log").read_text()
        assert client.transform(CLIP, **EDIT).seed == 3
        names.addresses = ["127.0.0.2"]  # where nobody is
        assert eventually(lambda: envoy.healthy() == 0, 30)
        names.addresses = ["127.0.0.1"]
        assert eventually(lambda: envoy.healthy() == 1, 30)
        assert client.transform(CLIP, **EDIT).seed == 3


@pytest.mark.parametrize("key", [None, "a-wrong-key", KEY[:-1], KEY + "x", f"{KEY},{OTHER_KEY}"])
@pytest.mark.parametrize("tls", [False, True])
def test_without_the_right_key_nothing_is_let_through(
    fleet: Fleet, key: str | None, tls: bool
) -> None:
    certificate = str(fleet.envoy.folder / "tls" / "tls.crt")
    url = f"https://{fleet.envoy.tls_url}" if tls else fleet.envoy.url
    with (
        MelodyFlowClient(url, api_key=key, root_certificates=certificate) as client,
        pytest.raises(Refused),
    ):
        client.transform(CLIP, **EDIT)
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    for method, path in (*(("GET", path) for path in OPEN), *CLOSED):
        assert ask(fleet, method, path, headers)[0] == 403
    assert ask(fleet, "GET", "/v2", {"authorization": KEY})[0] == 403


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
def test_with_a_key_edits_come_home_over_tls_and_without(fleet: Fleet, key: str) -> None:
    certificate = str(fleet.envoy.folder / "tls" / "tls.crt")
    made = set()
    for url in (fleet.envoy.url, f"https://{fleet.envoy.tls_url}"):
        with MelodyFlowClient(url, api_key=key, root_certificates=certificate) as client:
            made.add(client.transform(CLIP, **EDIT).audio)
            assert client.status().model_ready
    with MelodyFlowClient(fleet.servers[0].grpc_url) as client:
        made.add(client.transform(CLIP, **EDIT).audio)
    assert len(made) == 1


def test_the_command_takes_https_and_the_key_from_the_environment(
    fleet: Fleet, tmp_path: Path
) -> None:
    (tmp_path / "riff.wav").write_bytes(CLIP)
    given = {
        "MELODYFLOW_SERVER": f"https://{fleet.envoy.tls_url}",
        "MELODYFLOW_API_KEY": KEY,
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(fleet.envoy.folder / "tls" / "tls.crt"),
    }
    command = [sys.executable, "-m", "melodyflow_client", "transform", "riff.wav"]
    command += ["--prompt", "a harp", "--steps", "1", "-o", "out.wav"]
    for key, code in ((KEY, 0), ("wrong", 6)):
        environment = os.environ | given | {"MELODYFLOW_API_KEY": key}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, done.stderr
    assert "refuses this API key" in done.stderr


def test_without_its_files_nobody_is_let_in(fleet: Fleet, tmp_path: Path) -> None:
    server = [address_of(fleet.servers[0])]
    for missing in ("keys/keys.yaml", "tls/tls.crt"):
        folder = tmp_path / missing.partition("/")[0]
        write_site(folder)
        (folder / missing).unlink()
        envoy = Envoy(folder, server)
        if "keys" in missing:
            with pytest.raises(pytest.fail.Exception, match=r"keys\.yaml' does not exist"):
                envoy.start()
            continue
        with envoy:
            assert envoy.get("plain", "/v2") == 403
            with pytest.raises(OSError, match=r"(?i)ssl|reset|eof"):
                ssl.get_server_certificate(("127.0.0.1", envoy.ports["tls"]), timeout=10)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_old_tls_is_refused(fleet: Fleet) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(fleet.envoy.tls_url, timeout=30, context=context)
    connection.request("GET", "/v2", headers=BEARER)
    assert connection.getresponse().status == 200
    assert connection.sock.version() in ("TLSv1.2", "TLSv1.3")
    connection.close()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    old = http.client.HTTPSConnection(fleet.envoy.tls_url, timeout=30, context=context)
    with pytest.raises(OSError, match=r"(?i)ssl|tls|reset"):
        old.request("GET", "/v2", headers=BEARER)


def test_keys_are_read_again_and_taken_away(fleet: Fleet) -> None:
    def answers(key: str) -> bool:
        return ask(fleet, "GET", "/v2", {"authorization": f"Bearer {key}"})[0] == 200

    try:
        write_keys(fleet.envoy.folder, ["a-new-key-0001"])
        assert eventually(lambda: answers("a-new-key-0001"), 20)
        assert not answers(KEY)
        write_keys(fleet.envoy.folder, [])
        assert eventually(lambda: not answers("a-new-key-0001"), 20)
    finally:
        write_keys(fleet.envoy.folder, [KEY, OTHER_KEY])
        assert eventually(lambda: answers(KEY), 20)


def test_open_paths_are_answered_by_a_server(fleet: Fleet) -> None:
    assert [ask(fleet, "GET", path)[0] for path in OPEN] == [200] * len(OPEN)
    body = json.dumps({"prompt": "a harp", "duration": 0.2, "steps": 2, "stream": False}).encode()
    for name in ("generate", "generate_stream"):
        status, answer = ask(fleet, "POST", f"/v2/models/melodyflow/{name}", body=body)
        assert status == 200
        assert b'"audio"' in answer


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_closed_paths_are_refused(fleet: Fleet, method: str, path: str) -> None:
    assert ask(fleet, method, path)[0] in (403, 411)  # 411: an edit's path needs a length first


def test_no_other_spelling_opens_a_closed_path(fleet: Fleet) -> None:
    pieces = ["repository", "index", "models", "melodyflow", "v2", "..", ".", "", "%2e%2e", "%2F"]
    words = st.lists(st.sampled_from(pieces), min_size=1, max_size=6).map("/".join)
    seen = []

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(words)
    def play(path: str) -> None:
        status, body = ask(fleet, "POST", f"/v2/{path}")
        seen.append(status)
        assert status in (400, 403, 411), (path, status, body)

    play()
    assert 403 in seen


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("RepositoryIndex", service_pb2.RepositoryIndexRequest()),
        (
            "RepositoryModelUnload",
            service_pb2.RepositoryModelUnloadRequest(model_name="melodyflow"),
        ),
        ("SystemSharedMemoryStatus", service_pb2.SystemSharedMemoryStatusRequest()),
        ("CudaSharedMemoryStatus", service_pb2.CudaSharedMemoryStatusRequest()),
        ("TraceSetting", service_pb2.TraceSettingRequest()),
        ("LogSettings", service_pb2.LogSettingsRequest()),
    ],
)
def test_closed_calls_are_refused_at_envoy_and_at_triton(
    fleet: Fleet, name: str, request_: Any
) -> None:
    refusals = []
    for address in (fleet.envoy.url, fleet.servers[0].grpc_url):
        with grpc.insecure_channel(address) as channel:
            call = getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), name)
            with pytest.raises(grpc.RpcError) as refused:
                call(request_, timeout=30, metadata=list(BEARER.items()))
            refusals.append(refused.value.code().name)
    assert refusals == ["PERMISSION_DENIED", "UNAVAILABLE"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"content-length": "402653185"}, 413), ({"transfer-encoding": "chunked"}, 411), ({}, 411)],
)
def test_a_body_has_a_length_within_the_limit(
    fleet: Fleet, headers: dict[str, str], status: int
) -> None:
    for name in ("generate", "generate_stream", "infer"):
        path = f"/v2/models/melodyflow/{name}"
        assert ask(fleet, "POST", path, {**BEARER, **headers})[0] == status


def test_the_header_that_ends_servers_does_not_reach_them(fleet: Fleet) -> None:
    """With it the first error would be the stream's status; without, an answer in the stream."""
    bad = attackers.request("bad", {**attackers.GOOD, "steps": 0})
    metadata = [*BEARER.items(), *attackers.STATUSES]
    with grpc.insecure_channel(fleet.envoy.url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        [answer] = stub.ModelStreamInfer(iter([bad]), timeout=60, metadata=metadata)
    assert answer.error_message.startswith("steps: 0")


def test_clients_cannot_shorten_timeouts_or_order_retries(fleet: Fleet) -> None:
    headers = {
        **BEARER,
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-expected-rq-timeout-ms": "1",
        "x-envoy-retry-on": "5xx,retriable-4xx",
        "x-envoy-max-retries": "5",
    }
    body = {"prompt": "a harp", "duration": 1.0, "steps": 8, "stream": False}
    encoded = json.dumps(body).encode()
    assert ask(fleet, "POST", "/v2/models/melodyflow/generate", headers, encoded)[0] == 200


def test_its_own_state_is_two_paths(fleet: Fleet) -> None:
    statuses = {
        path: fleet.envoy.get("own", path)
        for path in ("/ready", "/stats/prometheus", "/stats", "/quitquitquit", "/config_dump", "/")
    }
    assert statuses == dict.fromkeys(statuses, 404) | {"/ready": 200, "/stats/prometheus": 200}


def test_the_access_log_names_the_client_and_not_the_key(fleet: Fleet) -> None:
    with fleet.client() as client:
        client.transform(CLIP, **EDIT)
    log = fleet.envoy.folder / "access.log"

    def logged() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return [
            line for line in lines if line["client"] == "client-0" and line["grpc_status"] == "OK"
        ]

    assert eventually(logged, 20)
    assert logged()[-1]["server"] in [server.grpc_url for server in fleet.servers]
    assert KEY not in log.read_text()
    assert "harp" not in log.read_text()
