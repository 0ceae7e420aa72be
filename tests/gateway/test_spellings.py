"""Bodies as browsers and other people's libraries write them, at every door."""

import asyncio
import base64
import codecs
import json

import pytest

from .conftest import Running, base64_of, decoded, music, until, wav
from .sse import events
from .test_socketio import connected

FIELDS = {"variation": "celtic", "steps": 1, "seed": 3}
# With both signs that the two alphabets spell otherwise, and a length that is padded.
CLIP = wav(0.3)
STANDARD = base64_of(CLIP)
URL_SAFE = base64.urlsafe_b64encode(CLIP).decode()
assert "+" in STANDARD
assert "/" in STANDARD
assert STANDARD.endswith("=")
SPELLINGS = {
    "data url": f"data:audio/wav;base64,{STANDARD}",
    "data url with a codec": f"data:audio/webm;codecs=opus;base64,{STANDARD}",
    "url-safe": URL_SAFE,
    "unpadded": STANDARD.rstrip("="),
    "url-safe and unpadded": URL_SAFE.rstrip("="),
    "in lines": "\r\n".join(STANDARD[at : at + 76] for at in range(0, len(STANDARD), 76)),
}
spellings = pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
boms = pytest.mark.parametrize("bom", [b"", codecs.BOM_UTF8], ids=["", "bom"])
JSON = {"Content-Type": "application/json"}


def is_edited(audio: object) -> bool:
    assert isinstance(audio, str)
    return decoded(audio)[0].shape == music(0.3).shape


@spellings
@boms
def test_over_http(gateway: Running, spelling: str, bom: bytes) -> None:
    body = bom + json.dumps({"audio": spelling, **FIELDS}).encode()
    answer = gateway.post("/transform", data=body, headers=JSON)
    assert answer.status_code == 200, answer.text
    assert is_edited(answer.json()["audio"])
    with gateway.post("/transform/stream", data=body, headers=JSON, stream=True) as answer:
        name, result = list(events(answer))[-1]
    assert name == "result"
    assert is_edited(result["audio"])


@spellings
@boms
def test_for_the_vst(gateway: Running, spelling: str, bom: bytes) -> None:
    body = bom + json.dumps({"audio_data": spelling, **FIELDS}).encode()
    answer = gateway.post("/api/juce/transform_audio", data=body, headers=JSON)
    assert answer.status_code == 200, answer.text
    session = answer.json()["session_id"]
    poll = f"/api/juce/poll_status/{session}"
    assert until(lambda: gateway.get(poll).json()["status"] == "completed")
    body = bom + json.dumps({"session_id": session}).encode()
    undone = gateway.post("/api/juce/undo_transform", data=body, headers=JSON)
    assert undone.json()["audio_data"] == STANDARD


@spellings
def test_over_socket_io(gateway: Running, spelling: str) -> None:
    async def play() -> dict[str, object]:
        async with connected(gateway) as client:
            body = {"audio_data": spelling, **FIELDS}
            await client.socket.emit("transform_audio_request", body)
            return await client.wait_for("audio_transformed", "error")

    result = asyncio.run(play())
    assert is_edited(result.get("audio_data")), result


@pytest.mark.parametrize("path", ["/transform", "/transform/stream"])
@pytest.mark.parametrize("name", ["file", "Audio", "audio_data", "ton é", "x" * 500])
def test_a_file_by_another_name_is_named(gateway: Running, path: str, name: str) -> None:
    for files in ([(name, CLIP)], [("audio", CLIP), (name, CLIP)], [(name, CLIP), ("audio", CLIP)]):
        answer = gateway.post(path, data=FIELDS, files=files)
        assert answer.status_code == 400
        named = f"{name[:80]}: the form's file must be called 'audio'"
        assert answer.json() == {"error": named}


def test_text_in_the_files_place(gateway: Running) -> None:
    for text in (SPELLINGS["data url"], STANDARD * 20):
        answer = gateway.post("/transform", files={"audio": (None, text)}, data=FIELDS)
        assert answer.status_code == 400
        assert answer.json()["error"] == "audio: is text; expected a file part of this name"
    blank = {"audio": (None, " "), "duration": (None, "0.3"), "custom_prompt": (None, "harp")}
    assert gateway.post("/transform", files=blank).status_code == 200
