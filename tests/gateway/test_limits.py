"""A server whose limits were changed is contradicted by nobody: not by the client, nor by the
gateway, nor after a restart with other limits."""

import base64
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient

from melodyflow.contract import DEFAULT_LIMITS
from melodyflow.embedded import EmbeddedServer
from melodyflow_client import InvalidRequest, MelodyFlowClient
from melodyflow_client.cli import main

from .conftest import RATE, Open, Running, Start, base64_of, music, wav
from .sse import events

WIDER = {
    "MIN_SECONDS": "0.05",
    "MAX_SECONDS": "700",
    "MAX_PROMPT_CHARACTERS": "1200",
    "MIN_SAMPLE_RATE": "6000",
    "MAX_CHANNELS": "3",
}
NARROWER = {
    "MIN_SECONDS": "0.5",
    "MAX_SECONDS": "2",
    "MAX_PROMPT_CHARACTERS": "20",
    "MIN_SAMPLE_RATE": "16000",
    "MAX_CHANNELS": "1",
}


def server_with(
    limits: dict[str, str], checkpoint: Path, ports: tuple[int, int, int] = (0, 0, 0)
) -> EmbeddedServer:
    http, grpc, metrics = ports
    return EmbeddedServer(
        checkpoint,
        http_port=http,
        grpc_port=grpc,
        metrics_port=metrics,
        settings={"DEVICE": "cpu", "PRECISION": "fp32", **limits},
        exit_timeout=20,
    )


def ports_of(server: EmbeddedServer) -> tuple[int, int, int]:
    urls = (server.http_url, server.grpc_url, server.metrics_url)
    http, grpc, metrics = (int(url.rpartition(":")[2]) for url in urls)
    return http, grpc, metrics


def as_told(limits: dict[str, str]) -> dict[str, float]:
    return {**DEFAULT_LIMITS, **{name.lower(): float(value) for name, value in limits.items()}}


@pytest.fixture(scope="module")
def wider(checkpoint: Path) -> Iterator[EmbeddedServer]:
    with server_with(WIDER, checkpoint) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(wider: EmbeddedServer, start_gateway: Start) -> Running:
    return start_gateway(wider.grpc_url, wider.metrics_url)


def test_the_model_configuration_tells_the_truth_over_http_and_grpc(wider: EmbeddedServer) -> None:
    url = f"http://{wider.http_url}/v2/models/melodyflow/config"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url) as answer:
        over_http = json.load(answer)["parameters"]
    with InferenceServerClient(wider.grpc_url) as triton:
        over_grpc = triton.get_model_config("melodyflow", as_json=True)["config"]["parameters"]
    for told in (over_http, over_grpc):
        stated = {name: value.get("string_value", "") for name, value in told.items()}
        assert stated.items() >= {name.lower(): value for name, value in WIDER.items()}.items()
        assert (stated["device"], stated["in_force"]) == ("cpu", "true")
        assert stated["checkpoint"] == "", "a path that came by the environment"


def test_client_and_command_say_the_servers_limits(
    wider: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with MelodyFlowClient(wider.grpc_url) as client:
        assert client.limits() == as_told(WIDER)
        assert client.status().limits == as_told(WIDER)
    assert main(["status", "--server", wider.grpc_url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["limits"] == as_told(WIDER)
    assert main(["status", "--server", wider.grpc_url]) == 0
    assert "max prompt characters: 1200" in capsys.readouterr().out


def test_the_client_asks_for_what_only_this_server_takes(wider: EmbeddedServer) -> None:
    clip = (music(1.0), RATE)
    with MelodyFlowClient(wider.grpc_url) as client:
        region = client.transform(clip, prompt="a harp", steps=2, start=0.4, end=0.47)
        assert region.waveform.shape == clip[0].shape
        long = client.transform(clip, prompt="harp " * 220, steps=2)
        assert len(long.info["parameters"]["prompt"]) == 1100
        assert (
            client.generate("a harp", duration=0.06, steps=2, sample_rate=6000).sample_rate == 6000
        )
        with pytest.raises(InvalidRequest, match=r"^prompt: 1300 characters; 1 to 1200 "):
            client.transform(clip, prompt="x" * 1300)


@pytest.mark.parametrize("path", ["/transform", "/transform/stream"])
def test_the_gateway_asks_for_what_only_this_server_takes(gateway: Running, path: str) -> None:
    clip = {"audio": base64_of(wav()), "steps": 2, "custom_prompt": "a harp"}
    for asked in (
        {**clip, "start": 0.4, "end": 0.47},
        {**clip, "custom_prompt": "harp " * 220},
        {**clip, "sample_rate": 6000},
        {"duration": 0.06, "steps": 2, "custom_prompt": "a harp"},
    ):
        answer = gateway.post(path, json=asked)
        assert answer.status_code == 200, answer.text
        assert "event: error" not in answer.text, answer.text


def test_the_gateway_passes_the_servers_limits_on(gateway: Running) -> None:
    answer = gateway.get("/limits").json()
    assert answer["limits"] == as_told(WIDER)
    assert answer["fields"]["custom_prompt"] == {"lowest": 1, "highest": 1200}
    assert answer["fields"]["duration"] == {"lowest": 0.05, "highest": 700}
    assert answer["fields"]["loudness"] == {"lowest": -70, "highest": 0}
    assert answer["fields"]["sample_rate"]["lowest"] == 6000


def test_every_option_reaches_the_model_through_the_gateway(gateway: Running) -> None:
    asked = {
        "source_prompt": "a guitar",
        "flowstep": 0.3,
        "steps": 4,
        "solver": "euler",
        "guidance": 2.5,
        "regularize_iters": 4,
        "keep_last_k_iters": 2,
        "lambda_kl": 0.1,
        "seed": 5,
        "loop": True,
        "loudness": "source",
        "format": "wav24",
        "sample_rate": 22050,
    }
    body = {"audio": base64_of(wav()), "custom_prompt": "a harp", **asked}
    more = {"metadata": False, "priority": 1}
    answer = gateway.post("/transform/stream", json={**body, **more})
    *_, (name, data) = events(answer)
    assert name == "result", data
    assert data["info"]["parameters"] == {"prompt": "a harp", **asked}
    assert data["sample_rate"] == 22050
    assert b"AI-generated" not in base64.b64decode(data["audio"])


@pytest.mark.ends_tritonserver
def test_after_a_restart_the_new_limits_count(checkpoint: Path, start_gateway: Start) -> None:
    first = server_with(WIDER, checkpoint)
    first.start()
    ports = ports_of(first)
    gateway = start_gateway(first.grpc_url, first.metrics_url)
    clip = (music(1.0), RATE)
    body = {"audio": base64_of(wav()), "steps": 2, "custom_prompt": "a harp"}
    with MelodyFlowClient(first.grpc_url) as client:
        client.transform(clip, prompt="harp " * 220, steps=2)
        assert gateway.post("/transform", json=body).status_code == 200
        first.stop()
        with server_with(NARROWER, checkpoint, ports):
            with pytest.raises(InvalidRequest, match=r"^prompt: 1100 characters; 1 to 20 "):
                client.transform(clip, prompt="harp " * 220, steps=2)
            with pytest.raises(InvalidRequest, match=r"at least 0\.5 s"):
                client.transform((music(1.0)[:1], RATE), prompt="a harp", start=0.4, end=0.47)
            assert gateway.get("/limits").json()["limits"] == as_told(NARROWER)
            narrow = {**body, "audio": base64_of(wav(channels=1))}
            for more, named in (
                ({"custom_prompt": "harp " * 220}, "custom_prompt: 1100 characters; 1 to 20 "),
                ({"start": 0.4, "end": 0.47}, "start: 0.4 s must be at least 0.5 s "),
                ({"audio": base64_of(wav(3.0, channels=1))}, "audio: is longer than 2 s"),
                ({"audio": body["audio"]}, "audio: 2 channels"),
            ):
                answer = gateway.post("/transform", json={**narrow, **more})
                assert (answer.status_code, answer.json()["error"][: len(named)]) == (400, named)


def test_limits_that_are_not_told_forbid_nothing(open_gateway: Open) -> None:
    answer = open_gateway().get("/limits").json()
    assert set(answer["limits"].values()) == {None}
    assert answer["fields"]["custom_prompt"] == {"lowest": 1, "highest": None}
