"""Which of the servers behind Envoy gets an edit."""

import json
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

from melodyflow_client.connection import CLIP_HEADER

from ..server import raw
from ..server.drill import eventually
from .envoy import KEY, Fleet

TEN = [
    *("accordion_folk", "celtic", "chiptune", "music_box", "strings_quartet"),
    *("trap_808", "synth_bass", "boom_bap", "rock_band", "piano_classical"),
]
MISSES = 'melodyflow_inversions_total{found="miss"}'
DONE = 'melodyflow_edits_total{outcome="done"}'


def clip(pitch: float, seconds: float = 0.3) -> bytes:
    """Another pitch is another clip."""
    return raw.file_of(raw.music(seconds, 22050, 1) * pitch, 22050)


def test_a_sweep_of_ten_makes_one_inversion(fleet: Fleet) -> None:
    for n in range(4):
        before, done = fleet.counted(MISSES), fleet.counted(DONE)
        with fleet.client() as client:
            results = [
                made.result for made in client.sweep(clip(0.9 - 0.1 * n), TEN, steps=2, seed=n)
            ]
        assert all(results)
        assert sum("inversion" in result.info["shared"] for result in results if result) == 9
        assert eventually(lambda done=done: sum(fleet.counted(DONE)) == sum(done) + 10, 10)
        made = [now - then for now, then in zip(fleet.counted(MISSES), before, strict=True)]
        assert sorted(made) == [0, 1]
        ended = [now - then for now, then in zip(fleet.counted(DONE), done, strict=True)]
        assert sorted(ended) == [0, 10]


def test_single_edits_go_to_the_server_with_the_fewest(fleet: Fleet) -> None:
    done = fleet.counted(DONE)
    with fleet.client() as client, ThreadPoolExecutor(8) as pool:
        source = clip(0.5, 2.0)
        list(pool.map(lambda n: client.transform(source, prompt=f"{n}", steps=8), range(8)))
    assert eventually(lambda: sum(fleet.counted(DONE)) == sum(done) + 8, 10)
    ended = [now - then for now, then in zip(fleet.counted(DONE), done, strict=True)]
    assert min(ended) >= 2, ended


def test_clips_over_http_have_their_server_too(fleet: Fleet) -> None:
    before = fleet.counted(MISSES)
    source = b64encode(clip(0.45)).decode()
    connection = HTTPConnection(fleet.envoy.url, timeout=60)
    headers = {"authorization": f"Bearer {KEY}", CLIP_HEADER: "a clip of mine"}
    for prompt in "abcdefgh":
        edit = {"audio": source, "prompt": prompt, "seed": 1, "steps": 1, "stream": False}
        connection.request("POST", "/v2/models/melodyflow/generate", json.dumps(edit), headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
    connection.close()
    made = [now - then for now, then in zip(fleet.counted(MISSES), before, strict=True)]
    assert sorted(made) == [0, 1]
