"""Gateways replaced by newer ones, with Redis behind them and edits in flight: none is lost.

    scripts/drills upgrade [--rounds 3] [--old CHECKOUT]

Clients of all kinds work through the gateway that is current, as behind a load balancer. Each round
starts the next gateway, makes it the current one, and ends the one before with SIGTERM. --old: the
checkout of another version, whose gateway every other one is. The right bytes of every edit are
known beforehand. Exits with 1 if an edit is lost.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from ..deploy.envoy import KEY, Fleet, binary
from ..server import crowd
from ..server.drill import Gateway, checkpoint_or_tiny, eventually
from .fleet import all_right, edits_of, promise

BEGIN, POLL = "/api/juce/transform_audio", "/api/juce/poll_status"
WORKING = 60.0  # seconds until every client has had an edit
ENDS = 120.0  # seconds in which a gateway has ended
NAMES = ("JSON", "events", "VST")


@dataclass
class Front:
    """Where new requests go."""

    url: str = ""


class Following:
    """A client that begins each edit at the gateway that is current."""

    def __init__(self, front: Front, way: str, number: int) -> None:
        self.name = f"{way} {number}"
        self._front, self._way = front, way

    def ask(self, edit: crowd.Edit, heard: crowd.Heard) -> None:
        if self._way == "VST":
            self._begin_and_poll(edit, heard)
            return
        kind = crowd.GatewayJson if self._way == "JSON" else crowd.GatewayEvents
        client = kind(self._front.url)
        try:
            client.ask(edit, heard)
        finally:
            client.close()

    def _begin_and_poll(self, edit: crowd.Edit, heard: crowd.Heard) -> None:
        options = edit.options()
        body = {
            **options,
            "audio_data": b64encode(edit.audio).decode(),
            "variation": "custom",
            "custom_prompt": options.pop("prompt"),
        }
        del body["prompt"]
        answer = requests.post(self._front.url + BEGIN, json=body, timeout=60)
        if answer.status_code != 200:
            raise crowd.Failed(f"{answer.status_code}: {answer.text[:300]}")
        session = answer.json()["session_id"]
        until = time.monotonic() + crowd.EDIT_SECONDS
        while time.monotonic() < until:
            # Whichever gateway is asked, the answer is in Redis.
            state = requests.get(f"{self._front.url}{POLL}/{session}?consume=1", timeout=60).json()
            if not state["transform_in_progress"]:
                if state["status"] != "completed":
                    raise crowd.Failed(str(state))
                heard.results.append(b64decode(state["audio_data"]))
                return
            time.sleep(0.1)
        raise crowd.Failed(f"{session}: no result")

    def close(self) -> None:
        pass


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """The URL of a Redis that keeps nothing."""
    path = folder / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", ""]
    process = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL)
    try:
        promise(eventually(path.exists, 30), "Redis did not start")
        yield f"unix://{path}"
    finally:
        process.terminate()
        process.wait(10)


def upgraded(
    fleet: Fleet, folder: Path, rounds: int = 3, old: Path | None = None, each: int = 3
) -> str:
    """Each gateway follows one that has edits in flight. each: clients of each way."""
    edits, front = edits_of(fleet.servers[0].grpc_url, 6, 24), Front()
    clients = [lambda w=way, n=n: Following(front, w, n) for way in NAMES for n in range(each)]
    with ExitStack() as stack:
        url = stack.enter_context(redis(folder))

        def start(number: int) -> Gateway:
            settings = {"REDIS_URL": url}
            if old is not None and number % 2 == 0:
                parts = (old, old / "client", old / "gateway")
                settings["PYTHONPATH"] = os.pathsep.join(map(str, parts))
            metrics = fleet.servers[0].metrics_url
            gateway = Gateway(fleet.envoy.url, metrics, **settings)
            stack.callback(gateway.end)
            return gateway

        current = start(0)
        front.url = current.url
        with crowd.Crowd(edits, clients) as honest:
            for number in range(1, rounds + 1):
                following, moment = start(number), time.monotonic()
                promise(
                    eventually(
                        lambda moment=moment: len(honest.home_since(moment)) == len(clients),
                        WORKING,
                    ),
                    f"not every client is at work: {honest.home_since(moment)}",
                )
                front.url = following.url
                time.sleep(0.5)  # for requests on their way to it
                current.process.send_signal(signal.SIGTERM)
                promise(
                    eventually(lambda gateway=current: not gateway.runs, ENDS),
                    "a gateway has not ended",
                )
                current = following
        all_right(honest.deliveries)
    return f"{rounds} upgrades, {len(honest.deliveries)} edits, none lost"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/drills upgrade", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--old", type=Path, help="checkout of another version")
    parser.add_argument("--checkpoint", type=Path, help="converted; without it a tiny random one")
    given = parser.parse_args(arguments)
    try:
        binary()
    except pytest.skip.Exception as why:
        print(f"upgrade: SKIPPED: {why}")
        return 0
    if shutil.which("redis-server") is None:
        print("upgrade: SKIPPED: needs redis-server (apt-get install redis-server)")
        return 0
    os.environ["MELODYFLOW_API_KEY"] = KEY
    with (
        tempfile.TemporaryDirectory(prefix="upgrade-") as folder,
        checkpoint_or_tiny(given.checkpoint) as checkpoint,
        Fleet(checkpoint, Path(folder), servers=2) as fleet,
    ):
        try:
            print(f"upgraded: {upgraded(fleet, Path(folder), given.rounds, given.old)}")
        except AssertionError as error:
            print(f"upgraded: BROKEN: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
