"""fetch.py against a small hub of our own on loopback: what it promises of breaks, checksums and
of being offline. The hub itself is not asked for anything here."""

import hashlib
import json
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from melodyflow.tools import fetch
from melodyflow.tools.fetch import FetchError, Repository

pytest.importorskip("huggingface_hub")
REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """The part of the hub's HTTP interface that a download needs."""

    files: dict[str, bytes] = field(default_factory=dict)  # "owner/name/file"
    served: dict[str, bytes] = field(default_factory=dict)  # instead of what was announced
    break_at: dict[str, int] = field(default_factory=dict)  # bytes of a file, then never again
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    headers: list[dict[str, str]] = field(default_factory=list)
    small: tuple[str, ...] = (".json",)  # in git itself, not in LFS
    url: str = ""

    def info(self, repository: str) -> bytes:
        siblings = []
        for path, data in self.files.items():
            if path.startswith(repository + "/"):
                blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
                sibling = {"rfilename": Path(path).name, "size": len(data), "blobId": blob}
                if not path.endswith(self.small):
                    sha256 = hashlib.sha256(data).hexdigest()
                    sibling["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
                siblings.append(sibling)
        return json.dumps({"id": repository, "sha": REVISION, "siblings": siblings}).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def log_message(self, *_):
        pass

    def reply(self, status, body, **headers):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urlsplit(self.path)
        wanted = self.headers.get("Range")
        self.hub.requests.append((url.path, wanted))
        self.hub.headers.append(dict(self.headers))
        owner, name, *rest = url.path.removeprefix("/api/models").strip("/").split("/")
        if url.path.startswith("/api/models/"):
            assert rest == ["revision", REVISION]
            assert "blobs" in parse_qs(url.query)
            return self.reply(
                200, self.hub.info(f"{owner}/{name}"), Content_Type="application/json"
            )
        if owner == "storage":  # large files come from another place, as the hub's do
            owner, name, *rest = [name, *rest]
        elif not url.path.endswith(self.hub.small):
            return self.reply(302, b"", Location="/storage" + url.path)
        assert rest[:2] == ["resolve", REVISION]
        path = f"{owner}/{name}/{rest[2]}"
        data = self.hub.served.get(path, self.hub.files[path])
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        end = self.hub.break_at.get(path)
        if end is not None and start >= end:
            return self.reply(503, b"come back later")
        headers = {"Content-Length": str(len(data) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.close_connection = True
        return self.reply(206 if start else 200, data[start:end], **headers)


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub = Hub(url=f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_ENDPOINT", server.hub.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the hub client's own tries
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.hub
    server.shutdown()
    server.server_close()
    thread.join()


BIG = bytes(range(256)) * 4000
REPOSITORY = Repository("some/model", REVISION, ("config.json", "weights.bin"), ("extra.json",))


@pytest.fixture
def model(hub):
    hub.files = {"some/model/weights.bin": BIG, "some/model/config.json": b'{"a": 1}'}
    return hub


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_downloads_what_is_wanted_and_no_more(model, tmp_path):
    model.files["some/model/README.md"] = b"not wanted"
    fetch.download(REPOSITORY, tmp_path / "a")
    assert bytes_of(tmp_path / "a") == {"config.json": b'{"a": 1}', "weights.bin": BIG}
    model.files["some/model/extra.json"] = b"{}"
    fetch.download(REPOSITORY, tmp_path / "b")
    assert bytes_of(tmp_path / "b")["extra.json"] == b"{}"


def test_sends_no_token(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch.download(REPOSITORY, tmp_path)
    assert model.headers
    assert "hf_secret" not in str(model.headers)


def test_goes_on_after_a_break_in_a_later_run(model, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)  # 10 MB
    model.break_at["some/model/weights.bin"] = 300_000
    with pytest.raises(FetchError, match=r"weights\.bin: interrupted at 300,000 of 1,024,000 "):
        fetch.download(REPOSITORY, tmp_path)
    assert set(bytes_of(tmp_path)) == {"config.json", "weights.bin.part"}
    model.break_at.clear()
    model.requests.clear()
    fetch.download(REPOSITORY, tmp_path)
    assert bytes_of(tmp_path) == {"config.json": b'{"a": 1}', "weights.bin": BIG}
    stored = f"/some/model/resolve/{REVISION}/weights.bin"
    assert model.requests[1:] == [
        (stored, "bytes=300000-"),
        (f"/storage{stored}", "bytes=300000-"),
    ]


def test_a_part_that_is_too_long_starts_anew(model, tmp_path):
    (tmp_path / "weights.bin.part").write_bytes(BIG + b"x")
    fetch.download(REPOSITORY, tmp_path)
    assert bytes_of(tmp_path)["weights.bin"] == BIG


@pytest.mark.parametrize(("file", "kind"), [("weights.bin", "sha256"), ("config.json", "sha1")])
def test_what_the_hub_did_not_announce_is_refused_and_deleted(model, tmp_path, file, kind):
    announced = model.files[f"some/model/{file}"]
    model.served[f"some/model/{file}"] = b"!" + announced[1:]
    with pytest.raises(FetchError, match=f"{file}: {kind} is .*deleted"):
        fetch.download(REPOSITORY, tmp_path)
    assert not [name for name in bytes_of(tmp_path) if name.startswith(file)]
    model.served.clear()
    fetch.download(REPOSITORY, tmp_path)
    assert bytes_of(tmp_path)[file] == announced


def test_another_file_than_the_known_one_is_not_even_downloaded(model, tmp_path):
    for known in ({"weights.bin": "0" * 64}, {"config.json": "0" * 64}):
        with pytest.raises(FetchError, match=r"expected 0+\. Nothing was downloaded"):
            fetch.download(replace(REPOSITORY, sha256=known), tmp_path)
    assert bytes_of(tmp_path) == {}
    assert len(model.requests) == 2
    right = {"weights.bin": hashlib.sha256(BIG).hexdigest()}
    fetch.download(replace(REPOSITORY, sha256=right), tmp_path)


def test_names_what_the_hub_lacks(model, tmp_path):
    with pytest.raises(FetchError, match=r"some/model: the hub does not have spiece\.model"):
        fetch.download(replace(REPOSITORY, files=("config.json", "spiece.model")), tmp_path)


def test_says_when_there_is_no_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(FetchError, match=r"some/model: .*refused"):
        fetch.download(REPOSITORY, tmp_path)


def test_from_the_hub_to_a_checkpoint_and_offline_from_then_on(hub, tmp_path, monkeypatch, capsys):
    convert = pytest.importorskip("melodyflow.tools.convert")
    from melodyflow.tools.make_checkpoint import make_checkpoint

    made = tmp_path / "made"
    make_checkpoint("tiny", made)
    binaries = ("compression_state_dict.bin", "state_dict.bin")
    hub.files = {f"some/flow/{name}": (made / name).read_bytes() for name in binaries}
    hub.files |= {f"some/t5/{path.name}": path.read_bytes() for path in (made / "t5").iterdir()}
    flow = Repository(
        "some/flow", REVISION, binaries, census={f: convert.census(made / f) for f in binaries}
    )
    t5 = Repository("some/t5", REVISION, tuple(path.name for path in (made / "t5").iterdir()))
    out, source = tmp_path / "out", tmp_path / "source"

    wrong = replace(flow, census={"state_dict.bin": (334, 962_425_632)})
    with pytest.raises(FetchError, match=r"expected 334 of 962,425,632"):
        fetch.fetch(out, source, model=wrong, t5=t5)
    assert not out.exists()

    hub.requests.clear()  # everything is there by now
    fetch.fetch(out, source, model=flow, t5=t5)
    assert hub.requests == []
    config = json.loads((out / "config.json").read_text())
    assert config["name"] == "flow"

    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch.main([str(out), "--source", str(tmp_path / "never")]) == 0
    assert "CC-BY-NC 4.0: no commercial" in capsys.readouterr().err


def test_the_command_says_what_went_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    given = [str(tmp_path / "out"), "--source", str(tmp_path / "source")]
    assert fetch.main(given) == 1
    assert "fetch_weights: facebook/melodyflow-t24-30secs: " in capsys.readouterr().err
