"""Previews: what an edit is going to be, sent while it forms."""

import base64
from typing import Any

import numpy as np
import pytest

from melodyflow.embedded import EmbeddedServer

from . import raw
from .test_transports import STREAMING, Send

RATE = 44100
CLIP = raw.music(2, RATE)
EDIT: dict[str, Any] = {
    "audio": raw.file_of(CLIP, RATE),
    "prompt": "a harp",
    "seed": 5,
    "steps": 32,
}
MUSIC: dict[str, Any] = {"prompt": "a harp", "seed": 5, "steps": 64, "duration": 1.5}
PREVIEW_OUTPUTS = {"preview", "step"}


def unwrapped(file: bytes) -> bytes:
    """The file, which is base64 over HTTP and where there was no clip."""
    return file if file[:4] in (b"RIFF", b"fLaC") else base64.b64decode(file, validate=True)


def previews_of(responses: list[raw.Response]) -> list[dict[str, Any]]:
    return [answer.outputs for answer in responses if "preview" in answer.outputs]


@pytest.mark.parametrize("send", STREAMING)
@pytest.mark.parametrize(
    "asked",
    [
        EDIT,
        {**EDIT, "loop": True},
        {**EDIT, "start": 0.5, "end": 1.5},
        {**EDIT, "loudness": "-20", "sample_rate": 32000, "format": "wav24"},
        MUSIC,
    ],
    ids=["clip", "loop", "region", "as asked", "music"],
)
def test_they_are_like_the_result_and_change_none_of_its_bytes(
    server: EmbeddedServer, send: Send, asked: dict[str, Any]
) -> None:
    plain = raw.transform(server, asked)
    *before, last = send(server, {**asked, "previews": 4})
    previews = previews_of(before)
    assert 1 <= len(previews) <= 4
    steps = []
    for preview in previews:
        assert set(preview) == PREVIEW_OUTPUTS
        file = unwrapped(preview["preview"])
        assert file.startswith(b"fLaC")
        samples, rate = raw.decoded(file)
        result, result_rate = raw.decoded(unwrapped(plain["audio"]))
        assert (samples.shape, rate) == (result.shape, result_rate)
        assert "unfinished" in raw.comments_of(file)["comment"]
        if "start" in asked:
            outside = np.r_[0 : RATE // 2, RATE + RATE // 2 : 2 * RATE]
            np.testing.assert_array_equal(samples[:, outside], result[:, outside])
        steps.append(preview["step"][0])
    assert steps == sorted(set(steps))
    assert unwrapped(last.outputs["audio"]) == unwrapped(plain["audio"])


def test_who_asks_for_none_gets_none(server: EmbeddedServer) -> None:
    assert previews_of(raw.over_grpc(server, {**EDIT, "steps": 4})) == []
    assert previews_of(raw.over_grpc(server, {**EDIT, "steps": 4, "previews": 0})) == []


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"previews": 2, "stream": False}, "previews: 2; must be 0 with stream false"),
        ({"previews": 17}, "previews: 17; 0 to 16 are allowed"),
        ({"previews": -1}, "previews: -1; 0 to 16 are allowed"),
        ({"previews": 1, "sample_rate": 70001, "format": "wav"}, "previews: they are FLAC files"),
    ],
)
def test_they_are_refused_by_name(server: EmbeddedServer, asked: dict[str, Any], text: str) -> None:
    with pytest.raises(raw.Refused) as caught:
        raw.transform(server, {**EDIT, **asked})
    assert caught.value.text.startswith(text)


def test_over_generate_they_are_refused_by_name(server: EmbeddedServer) -> None:
    with pytest.raises(raw.Refused, match="previews: 2; must be 0 with stream false"):
        raw.generate(server, {**EDIT, "previews": 2, "stream": False})
