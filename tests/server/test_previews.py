"""Previews: what an edit is going to be, sent while it forms."""

import base64
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest

from melodyflow.audio import loudness
from melodyflow.embedded import EmbeddedServer

from . import raw
from .conftest import Metrics
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
PREVIEW_OUTPUTS = {"preview", "step", "info"}
LONG: dict[str, Any] = {**EDIT, "audio": raw.file_of(raw.music(6, RATE), RATE), "steps": 64}
CANCELLED = 'melodyflow_edits_total{outcome="cancelled"}'


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
        info = json.loads(preview["info"])
        assert info.keys() == {"clip_lufs", "result_lufs"}
        assert info["clip_lufs"] == json.loads(plain["info"])["clip_lufs"]
        assert info["result_lufs"] == pytest.approx(loudness.integrated(samples, rate), abs=0.01)
        if "start" in asked:
            outside = np.r_[0 : RATE // 2, RATE + RATE // 2 : 2 * RATE]
            np.testing.assert_array_equal(samples[:, outside], result[:, outside])
        steps.append(preview["step"][0])
    assert steps == sorted(set(steps))
    assert unwrapped(last.outputs["audio"]) == unwrapped(plain["audio"])


def test_in_a_crowd_no_reader_changes_another_ones_bytes(
    server: EmbeddedServer, metrics: Metrics
) -> None:
    """Eight edits at once: with previews and without, over gRPC and HTTP, one read slowly, one not
    read until all others have ended, and one that ends at its first preview."""
    clip = raw.file_of(raw.music(1, RATE), RATE)
    asked = [{**EDIT, "audio": clip, "seed": seed, "steps": 16} for seed in range(4)]
    right = [raw.transform(server, each)["audio"] for each in asked]
    before = metrics()[CANCELLED]
    go_on = threading.Event()

    def read(seed: int, pace: Callable[[], object]) -> list[raw.Response]:
        with raw.Stream(server, {**asked[seed], "previews": 16}, pace=pace) as stream:
            return list(stream)

    def leave() -> None:
        with raw.Stream(server, {**LONG, "previews": 8}) as stream:
            while "preview" not in stream.next().outputs:
                pass
            stream.cancel()

    with ThreadPoolExecutor(8) as pool:
        unread = pool.submit(read, 0, partial(go_on.wait, raw.PATIENCE))
        leaving = pool.submit(leave)
        slow = pool.submit(read, 1, partial(time.sleep, 0.1))
        others = [pool.submit(read, seed, lambda: None) for seed in (0, 2, 3)]
        over_http = pool.submit(raw.over_generate_stream, server, {**asked[1], "previews": 16})
        plain = pool.submit(raw.over_grpc, server, asked[2])
        for seed, made in zip((1, 0, 2, 3, 2), (slow, *others, plain), strict=True):
            assert made.result()[-1].outputs["audio"] == right[seed]
        assert unwrapped(over_http.result()[-1].outputs["audio"]) == right[1]
        leaving.result()
        assert not unread.done()
        go_on.set()
        *behind, last = unread.result()
    assert last.outputs["audio"] == right[0]
    assert previews_of(behind)
    assert raw.eventually(lambda: metrics()[CANCELLED] == before + 1)


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


@pytest.mark.parametrize("inputs", [EDIT, MUSIC], ids=["clip", "music"])
def test_over_generate_they_are_refused_by_name(
    server: EmbeddedServer, inputs: dict[str, Any]
) -> None:
    with pytest.raises(raw.Refused, match="previews: 2; must be 0 with stream false"):
        raw.generate(server, {**inputs, "previews": 2, "stream": False})
