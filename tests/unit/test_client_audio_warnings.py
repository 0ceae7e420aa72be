"""What was repaired in a file is told with the result; decoding ends with the edit's deadline."""

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from melodyflow_client import AsyncMelodyFlowClient, DeadlineExceeded, MelodyFlowClient
from melodyflow_client.audio import load

from .client_peer import CLIP, Peer, command

WARNING = "100 bytes before the file's header were skipped"


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.stop()


def repaired() -> bytes:
    return bytes(100) + load(CLIP).data


def test_results_have_the_warnings_of_their_clip(peer: Peer) -> None:
    with MelodyFlowClient(peer.address) as client:
        assert client.transform(CLIP, prompt="x").warnings == ()
        assert client.transform(repaired(), prompt="x").warnings == (WARNING,)
        swept = client.sweep(repaired(), ["celtic", "chiptune"])
        assert [ended.result.warnings for ended in swept if ended.result] == 2 * [(WARNING,)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("transform", "clip.wav", "--prompt", "x"),
        ("takes", "clip.wav", "--prompt", "x", "--count", "2"),
    ],
)
@pytest.mark.parametrize("option", [(), ("--json",), ("--quiet",)])
def test_the_command_prints_them_once(
    peer: Peer, tmp_path: Path, arguments: tuple[str, ...], option: tuple[str, ...]
) -> None:
    (tmp_path / "clip.wav").write_bytes(repaired())
    process = command(peer, *arguments, *option, cwd=tmp_path)
    output, messages = process.communicate()
    assert process.returncode == 0
    assert messages.count(f"melodyflow: warning: {WARNING}\n") == 1
    if option == ("--json",):
        [first] = [output] if arguments[0] == "transform" else output.splitlines()[:1]
        assert json.loads(first)["warnings"] == [WARNING]


def long_aiff() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, CLIP[0].T.repeat(100, 0), CLIP[1], format="AIFF")
    return buffer.getvalue()


def test_the_timeout_covers_decoding(peer: Peer) -> None:
    with (
        MelodyFlowClient(peer.address) as client,
        pytest.raises(DeadlineExceeded, match="timeout: the audio wasn't decoded"),
    ):
        client.transform(long_aiff(), prompt="x", timeout=1e-6)
    assert not peer.requests


def test_an_edit_that_is_given_up_ends_its_decoding(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        started = asyncio.Event()

        def endless(source: object, *, check) -> None:  # type: ignore[no-untyped-def]
            loop.call_soon_threadsafe(started.set)
            try:
                while True:
                    check()
            finally:
                loop.call_soon_threadsafe(ended.set)

        monkeypatch.setattr("melodyflow_client.aio.load", endless)
        async with AsyncMelodyFlowClient(peer.address) as client:
            edit = asyncio.create_task(client.transform(CLIP, prompt="x"))
            await started.wait()
            edit.cancel()
            await ended.wait()

    asyncio.run(main())
