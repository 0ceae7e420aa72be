"""Redis killed and started again, and gateways whose clocks disagree: no edit is lost for it."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from melodyflow.embedded import EmbeddedServer

from .conftest import PATIENCE, Running, Start, base64_of, until, wav

BEGIN, POLL = "/api/juce/transform_audio", "/api/juce/poll_status"
SHIFTED = Path(__file__).parent / "shifted_clock"
SECONDS_APART = 120


class MortalRedis:
    """A Redis of this module's own, which keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "redis.sock"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self.path), "--save", ""]
        binary = shutil.which("redis-server")
        assert binary is not None
        self.process = subprocess.Popen(
            [binary, *options, "--dir", str(self.path.parent)], stdout=subprocess.DEVNULL
        )
        assert until(self.path.exists)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalRedis]:
    if shutil.which("redis-server") is None:
        if os.environ.get("CI"):
            pytest.fail("no redis-server: .ci/run installs it")
        pytest.skip("needs redis-server (apt-get install redis-server)")
    made = MortalRedis(tmp_path_factory.mktemp("mortal-redis"))
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def apart(
    server: EmbeddedServer, start_gateway: Start, redis: MortalRedis
) -> tuple[Running, Running]:
    """Two gateways; the clock of the second is late.

    Not that of the first early: Python tells gRPC's core its deadlines by this clock, and the core
    has the right one.
    """
    gateways = []
    for shift in (0, SECONDS_APART):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SHIFTED_CLOCK", str(shift))
            paths = [str(SHIFTED), *filter(None, [os.environ.get("PYTHONPATH")])]
            patch.setenv("PYTHONPATH", os.pathsep.join(paths))
            gateways.append(
                start_gateway(
                    server.grpc_url,
                    server.metrics_url,
                    REDIS_URL=redis.url,
                    EDITS_PER_MINUTE="100000",
                )
            )
    return gateways[0], gateways[1]


def begin(gateway: Running, session: str, **changes: object) -> None:
    body = {"audio_data": base64_of(wav()), "variation": "celtic", "session_id": session, **changes}
    answer = gateway.post(BEGIN, json=body)
    assert answer.status_code == 200, answer.text


def finished(gateway: Running, session: str) -> dict[str, object]:
    """The last poll's answer. Only 503 with Retry-After may come in between."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        answer = gateway.get(f"{POLL}/{session}")
        if answer.status_code == 503:
            assert "Retry-After" in answer.headers
        else:
            assert answer.status_code == 200, answer.text
            state = answer.json()
            if not state["transform_in_progress"]:
                return state  # type: ignore[no-any-return]
        time.sleep(0.1)
    raise AssertionError(session)


def test_the_clocks_are_apart(apart: tuple[Running, Running]) -> None:
    early, late = (
        time.strptime(gateway.said[-1].partition('"time": "')[2][:19], "%Y-%m-%dT%H:%M:%S")
        for gateway in apart
        if gateway.get("/limits").status_code == 200 and until(lambda g=gateway: bool(g.said))
    )
    assert time.mktime(late) - time.mktime(early) > SECONDS_APART / 2


def test_clocks_that_disagree_end_no_edit(apart: tuple[Running, Running]) -> None:
    early, late = apart
    for one, other, session in ((early, late, "from the early"), (late, early, "from the late")):
        session = session.replace(" ", "-")
        begin(one, session, steps=64)
        assert finished(other, session)["status"] == "completed"


def test_a_restart_of_redis_loses_no_edit(
    apart: tuple[Running, Running], redis: MortalRedis
) -> None:
    early, late = apart
    long = base64_of(wav(5, 111))
    begin(early, "running-early", audio_data=long, steps=128)
    begin(late, "running-late", audio_data=long, steps=128)
    running = lambda: late.get(f"{POLL}/running-late").json()["progress"] > 0  # noqa: E731
    assert until(running)
    with ThreadPoolExecutor(6) as pool:
        asked = [
            pool.submit(finished, gateway, session)
            for gateway in apart
            for session in ("running-early", "running-late")
        ]
        redis.kill()
        # A request of just now waits until Redis is back.
        begun = [
            pool.submit(begin, gateway, f"begun-{number}", steps=2)
            for number, gateway in enumerate(apart)
        ]
        time.sleep(3)
        redis.start()
        for each in (*asked, *begun):
            each.result()
    assert [state for state in map(Future.result, asked) if state["status"] != "completed"] == []
    for number, gateway in enumerate(reversed(apart)):
        assert finished(gateway, f"begun-{number}")["status"] == "completed"


def test_health_says_within_a_second_that_redis_is_gone(
    apart: tuple[Running, Running], redis: MortalRedis
) -> None:
    redis.kill()
    try:
        answer = apart[0].get("/health")
        assert answer.status_code == 503
        assert answer.json()["error"] == "can't reach Redis"
    finally:
        redis.start()
    assert until(lambda: apart[0].get("/health").status_code == 200)
