"""What a client says beside its edits, for a proxy: which clip an edit is of, and its API key."""

import asyncio
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc
import numpy as np
import pytest
from starlette.testclient import TestClient

from melodyflow_client import AsyncMelodyFlowClient, MelodyFlowClient, Refused, ServerError
from melodyflow_client.audio import load
from melodyflow_client.cli import main
from melodyflow_client.connection import CLIP_HEADER
from melodyflow_gateway.app import create_app
from melodyflow_gateway.settings import Settings

from .client_peer import CLIP, QUICK, Context, Peer, refuse

TWO = ["celtic", "chiptune"]
OTHER_CLIP = (np.linspace(-0.2, 0.2, 4800, dtype=np.float32)[None], 48000)


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.stop()


def clips(peer: Peer) -> list[str | None]:
    """The clip's hash of each edit, as its header says."""
    return [metadata.get(CLIP_HEADER) for metadata in peer.metadata]


def test_what_belongs_together_names_its_clip_and_single_edits_do_not(peer: Peer) -> None:
    with MelodyFlowClient(peer.address, retry=QUICK) as client:
        assert all(done.result for done in client.sweep(CLIP, TWO))
        assert all(done.result for done in client.takes(CLIP, 2, prompt="x"))
        assert all(done.result for done in client.sweep(OTHER_CLIP, TWO, priority=1))
        client.transform(CLIP, prompt="x")
        with suppress(ServerError):  # the peer has no music of its own
            client.generate("x", duration=1)
    digest, other = load(CLIP).digest, load(OTHER_CLIP).digest
    assert clips(peer) == [digest] * 4 + [other] * 2 + [None] * 2
    assert digest != other


def test_so_does_the_asyncio_twin(peer: Peer) -> None:
    async def sweep() -> None:
        async with AsyncMelodyFlowClient(peer.address, retry=QUICK) as client:
            async for done in client.sweep(CLIP, TWO):
                assert done.result
            await client.transform(CLIP, prompt="x")

    asyncio.run(sweep())
    assert clips(peer) == [load(CLIP).digest] * 2 + [None]


def test_the_hash_is_of_the_sound_not_of_the_file(peer: Peer) -> None:
    array, rate = CLIP
    with MelodyFlowClient(peer.address, retry=QUICK) as client:
        for source in (CLIP, (array.astype(np.float64), rate), load(CLIP).data):
            assert all(done.result for done in client.sweep(source, TWO[:1]))
    assert len(set(clips(peer))) == 1


def test_an_edit_sent_again_names_the_same_clip(peer: Peer) -> None:
    gone = refuse(grpc.StatusCode.UNAVAILABLE, "no healthy upstream")
    peer.scripts = [gone, gone, *peer.scripts]
    with MelodyFlowClient(peer.address, retry=QUICK) as client:
        assert all(done.result for done in client.sweep(CLIP, TWO[:1]))
    assert clips(peer) == [load(CLIP).digest] * 3


class Asked(Peer):
    """It answers a question, too."""

    def ServerLive(self, request: Any, context: Context) -> Any:
        self.metadata.append(dict(context.invocation_metadata()))
        context.abort(grpc.StatusCode.UNAVAILABLE, "enough")


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_the_key_goes_with_every_question(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Asked()
    if way == "environment":
        monkeypatch.setenv("MELODYFLOW_API_KEY", "a-key")
    with MelodyFlowClient(peer.address, api_key="a-key" if way == "argument" else None) as client:
        client.transform(CLIP, prompt="x")
        client.status()
    peer.stop()
    assert [said.get("authorization") for said in peer.metadata] == ["Bearer a-key"] * 2


def test_over_tls_no_metrics_are_looked_for_beside_the_proxy() -> None:
    async def urls() -> list[str | None]:
        made = (
            AsyncMelodyFlowClient("studio:8001"),
            AsyncMelodyFlowClient("https://studio:8443"),
            AsyncMelodyFlowClient("studio:8443", ssl=True),
            AsyncMelodyFlowClient("https://studio:8443", metrics_url="studio:8003"),
        )
        return [client.metrics_url for client in made]

    studio = "http://studio:8003/metrics"
    assert asyncio.run(urls()) == [studio, None, None, studio]


def test_without_a_key_none_is_sent(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MELODYFLOW_API_KEY", raising=False)
    with MelodyFlowClient(peer.address) as client:
        client.transform(CLIP, prompt="x")
    assert "authorization" not in peer.metadata[0]


@pytest.mark.parametrize(("key", "said"), [(None, "without an API key"), ("k", "this API key")])
def test_a_refused_key_is_said_at_once(
    peer: Peer, key: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MELODYFLOW_API_KEY", raising=False)
    peer.scripts = [refuse(grpc.StatusCode.UNAUTHENTICATED, "Client authentication failed.")]
    with (
        MelodyFlowClient(peer.address, retry=QUICK, api_key=key) as client,
        pytest.raises(Refused, match=f"{said}: .*; set MELODYFLOW_API_KEY") as refused,
    ):
        client.transform(CLIP, prompt="x")
    assert refused.value.status == "UNAUTHENTICATED"
    assert len(peer.requests) == 1  # it won't get better


@pytest.mark.parametrize(("priority", "named"), [(None, False), (2, False), (3, True)])
def test_the_gateway_names_the_clip_of_edits_of_low_priority(
    peer: Peer, priority: int | None, named: bool
) -> None:
    """Its page makes sweeps and takes so."""
    app = create_app(Settings(server=peer.address, metrics="127.0.0.1:1"))
    clip = load(CLIP)
    fields: dict[str, object] = {"custom_prompt": "x", "audio": b64encode(clip.data).decode()}
    if priority is not None:
        fields["priority"] = priority
    with TestClient(app, base_url="http://127.0.0.1") as gateway:
        answer = gateway.post("/transform", json=fields)
    assert answer.status_code == 200, answer.text
    assert clips(peer) == [clip.digest if named else None]


def test_the_command_says_so(
    peer: Peer,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MELODYFLOW_API_KEY", "wrong")
    peer.scripts = [refuse(grpc.StatusCode.UNAUTHENTICATED, "Client authentication failed.")]
    (tmp_path / "riff.wav").write_bytes(load(CLIP).data)
    arguments = [str(tmp_path / "riff.wav"), "--prompt", "x", "-o", str(tmp_path / "out.wav")]
    assert main(["transform", *arguments, "--server", peer.address, "--quiet"]) == 6
    assert "refuses this API key" in capsys.readouterr().err
