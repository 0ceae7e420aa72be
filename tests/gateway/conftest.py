"""Real gateways, each the command in a process of its own, before one real tritonserver; and the
same application inside the tests' process, where no socket is needed."""

import base64
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import requests
import soundfile
from starlette.testclient import TestClient

from melodyflow.embedded import EmbeddedServer
from melodyflow_gateway.app import create_app
from melodyflow_gateway.settings import Settings

from ..server.conftest import metrics  # noqa: F401

PATIENCE = 120.0  # seconds that any one answer may take on a busy machine
ROOT = Path(__file__).resolve().parents[2]
RATE = 44100
TOKEN = "a-token-for-the-tests-0001"
OTHER_TOKEN = "a-token-for-the-tests-0002"


@dataclass(repr=False)
class Running:
    """A gateway that runs. Requests go straight to it, never by a proxy."""

    url: str
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)  # its log, line by line

    def __post_init__(self) -> None:
        self.http = requests.Session()
        self.http.trust_env = False

    def __repr__(self) -> str:  # pytest shows it where a test fails
        errors = [line for line in self.said if '"level": "info"' not in line]
        return f"{self.url}, its last errors: {errors[-3:]}"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str, **options: object) -> requests.Response:
        return self.http.get(self.url + path, timeout=PATIENCE, **options)

    def post(self, path: str, **options: object) -> requests.Response:
        return self.http.post(self.url + path, timeout=PATIENCE, **options)

    def metric(self, name: str) -> float:
        """A metric of the gateway by its name and labels as Prometheus prints them."""
        for line in self.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0


Start = Callable[..., Running]


@contextmanager
def gateways() -> Iterator[Start]:
    """Starts gateways before an address, with settings as environment variables without their
    prefix."""
    running: list[Running] = []

    def start(address: str, metrics_url: str = "", *options: str, **settings: str) -> Running:
        variables = {
            name if name == "REDIS_URL" else f"MELODYFLOW_GATEWAY_{name}": value
            for name, value in settings.items()
        }
        command = [sys.executable, "-m", "melodyflow_client", "gateway", "--port", "0"]
        command += ["--server", address, *(["--metrics", metrics_url] if metrics_url else [])]
        process = subprocess.Popen(
            [*command, *options],
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"MelodyFlow's gateway is at (http://\S+)\n", line)
        if not found:
            process.kill()
            pytest.fail(f"the gateway did not start: {line}{process.communicate()[1]}")
        started = Running(found[1], process)
        threading.Thread(target=_keep, args=(process.stderr, started.said), daemon=True).start()
        running.append(started)
        return started

    yield start
    for gateway in running:
        gateway.process.send_signal(signal.SIGTERM)
    for gateway in running:
        try:
            gateway.process.wait(30)
        except subprocess.TimeoutExpired:
            gateway.process.kill()
            gateway.process.wait()


@pytest.fixture(scope="module")
def start_gateway() -> Iterator[Start]:
    """Starts gateways that end with the module's tests; see gateways()."""
    with gateways() as start:
        yield start


@pytest.fixture(scope="session")
def lasting() -> Iterator[Start]:
    """The same for gateways of all tests."""
    with gateways() as start:
        yield start


Open = Callable[..., TestClient]


@pytest.fixture
def open_gateway() -> Iterator[Open]:
    """Opens gateways inside this process, asked over ASGI; settings by their names. Without a
    `server` there is none."""
    with ExitStack() as stack:

        def open_one(**settings: object) -> TestClient:
            nowhere = {"server": "127.0.0.1:1", "metrics": "127.0.0.1:1"}
            app = create_app(Settings(**{**nowhere, **settings}))
            client = TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)
            return stack.enter_context(client)

        yield open_one


def _keep(stream: object, lines: list[str]) -> None:
    for line in stream:  # type: ignore[attr-defined]
        lines.append(line)


@pytest.fixture(scope="session")
def gateway(server: EmbeddedServer, lasting: Start) -> Running:
    """A gateway as it is by default: on loopback, no token asked for, sessions in memory."""
    return lasting(server.grpc_url, server.metrics_url)


@pytest.fixture(scope="session")
def guarded(server: EmbeddedServer, lasting: Start) -> Running:
    """A gateway that asks for one of two tokens."""
    return lasting(
        server.grpc_url, server.metrics_url, TOKENS=f"{TOKEN},{OTHER_TOKEN}", LOG_LEVEL="info"
    )


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis of the tests' own, behind a socket; nothing else can reach it."""
    binary = shutil.which("redis-server")
    if binary is None:
        if os.environ.get("CI"):
            pytest.fail("no redis-server: .ci/run installs it")
        pytest.skip("needs redis-server (apt-get install redis-server)")
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "redis.sock"
    command = [binary, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield f"unix://{path}"
    process.terminate()
    process.wait(10)


def music(seconds: float = 1.0, pitch: float = 220.0) -> np.ndarray:
    """A stereo chord that fades, [2, samples] at RATE; another pitch is another clip."""
    t = np.arange(int(seconds * RATE)) / RATE
    waves = [np.sin(2 * np.pi * f * t) * np.exp(-t) * 0.3 for f in (pitch, pitch * 1.26)]
    return np.stack(waves).astype(np.float32)


def wav(seconds: float = 1.0, pitch: float = 220.0, channels: int = 2) -> bytes:
    """The same as a WAV file."""
    buffer = io.BytesIO()
    samples = music(seconds, pitch)[:channels]
    soundfile.write(buffer, samples.T, RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def decoded(data: bytes | str) -> tuple[np.ndarray, int]:
    """An audio file, as bytes or base64 -> [channels, samples] and its rate."""
    raw = base64.b64decode(data, validate=True) if isinstance(data, str) else data
    samples, rate = soundfile.read(io.BytesIO(raw), dtype="float32", always_2d=True)
    return samples.T, rate


def until(question: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Whether a question is answered with yes within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if question():
            return True
        time.sleep(0.05)
    return False
