"""Files that clients name by their paths: who may, on which route, and what is refused."""

from pathlib import Path

import pytest

from melodyflow.embedded import EmbeddedServer

from .conftest import OTHER_TOKEN, TOKEN, Open, base64_of, wav
from .test_juce import BEGIN
from .test_old_clients import is_an_edit_of, written


def test_a_form_may_name_a_file_too(
    server: EmbeddedServer, open_gateway: Open, tmp_path: Path
) -> None:
    opened = open_gateway(
        server=server.grpc_url, metrics=server.metrics_url, shared_folder=str(tmp_path)
    )
    form = {"audio_file_path": written(tmp_path, wav(), "form"), "variation": "celtic"}
    # A form without a file is still multipart.
    answer = opened.post("/transform", files={name: (None, v) for name, v in form.items()})
    assert answer.headers["content-type"] == "audio/wav", answer.text
    assert is_an_edit_of(answer.content, wav())


@pytest.mark.parametrize(
    ("path", "begins"),
    [
        ("/etc/passwd", "audio_file_path: '/etc/passwd' lies outside"),
        ("../secret.wav", "audio_file_path: '../secret.wav' holds '..'"),
        ("nothing.wav", "audio_file_path: 'nothing.wav' doesn't exist"),
        ("empty.wav", "audio: is empty"),
        ("text.wav", "audio: "),
        (7, "audio_file_path: 7; "),
        ("a\0b", "audio_file_path: 'a\\x00b' holds a NUL"),
    ],
)
def test_what_is_wrong_with_a_path_is_named(
    open_gateway: Open, tmp_path: Path, path: object, begins: str
) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no sound at all")
    opened = open_gateway(shared_folder=str(tmp_path))
    sent = {"audio_file_path": path, "variation": "celtic"}
    answer = opened.post("/transform", json=sent)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(begins)


def test_a_path_beside_audio_is_refused(open_gateway: Open, tmp_path: Path) -> None:
    opened = open_gateway(shared_folder=str(tmp_path))
    path = written(tmp_path, wav(), "both")
    for other, begins in (
        ({"audio": base64_of(wav())}, "audio_file_path: comes with audio"),
        ({"duration": 3}, "duration: "),
    ):
        sent = {"audio_file_path": path, "variation": "celtic", **other}
        answer = opened.post("/transform", json=sent)
        assert (answer.status_code, answer.json()["error"].startswith(begins)) == (400, True)


@pytest.mark.parametrize("token", [TOKEN, OTHER_TOKEN])
def test_files_are_shared_with_tokens_that_are_named(
    open_gateway: Open, tmp_path: Path, token: str
) -> None:
    opened = open_gateway(
        tokens=(TOKEN, OTHER_TOKEN), shared_folder=str(tmp_path), shared_tokens=(TOKEN,)
    )
    answer = opened.post(
        "/transform",
        json={"audio_file_path": "nothing.wav", "variation": "celtic"},
        headers={"Authorization": f"Bearer {token}"},
    )
    why = "doesn't exist" if token == TOKEN else "no files are shared with this token"
    assert (answer.status_code, why in answer.json()["error"]) == (400, True)


def test_other_routes_open_no_file(open_gateway: Open, tmp_path: Path) -> None:
    opened = open_gateway(shared_folder=str(tmp_path))
    sent = {"audio_file_path": written(tmp_path, wav(), "x"), "variation": "celtic"}
    for path in (BEGIN, "/transform/stream"):
        answer = opened.post(path, json=sent | {"session_id": "x"})
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("audio_file_path: only POST /transform")
