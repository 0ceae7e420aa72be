"""How far the gateway's estimates are off: what an edit is told when it comes, and on the way.

    python -m tests.measure.queue --checkpoint DIR

So many edits are ahead of it, in Triton or waiting, with clips of 1 to 8 s and 2 to 12 steps. All
are one client's, who holds three quarters of the slots. Seconds by the clock: the machine should
have nothing else to do.
"""

import argparse
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import requests

from melodyflow.embedded import DEMO_CHECKPOINT, EmbeddedServer
from tests.gateway.sse import events
from tests.server import raw

AHEAD = (1, 4, 14)
RATE = 48000


@dataclass
class Asked:
    """One edit: what it was told and when, by the clock from when it came."""

    told: list[tuple[float, float]] = field(default_factory=list)  # at, estimated
    took: float = 0.0
    heard: threading.Event = field(default_factory=threading.Event)

    def off(self, share: float) -> float | None:
        """The error of the last estimate before a share of its time, in parts of what was left."""
        known = [(at, said) for at, said in self.told if at <= max(share * self.took, 0.5)]
        if not known:
            return None
        at, said = known[-1]
        return (said - (self.took - at)) / (self.took - at)


def edit(url: str, chance: random.Random, asked: Asked) -> None:
    clip = raw.file_of(raw.music(chance.uniform(1, 8), RATE), RATE)
    form = {"variation": "celtic", "steps": str(chance.randint(2, 12))}
    form["seed"] = str(chance.randrange(2**31))
    began = time.monotonic()
    answer = requests.post(
        f"{url}/transform/stream", data=form, files={"audio": ("a.wav", clip)}, stream=True
    )
    for name, data in events(answer):
        at = time.monotonic() - began
        if name == "queued" and data["estimated_seconds"] is not None:
            asked.told.append((at, data["estimated_seconds"]))
        if name == "error":
            sys.exit(f"queue: {data['error']}")
        asked.heard.set()
    asked.took = time.monotonic() - began


def measure(url: str, ahead: int, chance: random.Random) -> Asked:
    """The last of `ahead` + 1 edits."""
    with ThreadPoolExecutor(ahead + 1) as pool:
        for number in range(ahead + 1):
            last = Asked()
            running = pool.submit(edit, url, random.Random(chance.random()), last)
            if not last.heard.wait(60) and running.done():
                running.result()
            if number == ahead - 1:
                time.sleep(1.0)
    running.result()
    return last


def gateway_of(server: EmbeddedServer) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "melodyflow_client", "gateway", "--port", "0"]
    command += ["--server", server.grpc_url, "--metrics", server.metrics_url]
    process = subprocess.Popen(
        command, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


def in_words(errors: list[float]) -> str:
    if not errors:
        return "it had begun"
    least, middle, most = (100 * error for error in (errors[0], median(errors), errors[-1]))
    return f"{middle:+.0f} % ({least:+.0f} to {most:+.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/measure queue", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--checkpoint", type=Path, default=DEMO_CHECKPOINT)
    parser.add_argument("--ahead", type=int, nargs="+", default=AHEAD, help="edits before it")
    parser.add_argument("--rounds", type=int, default=5, help="of each (default: 5)")
    given = parser.parse_args()
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
    chance = random.Random(1)
    with EmbeddedServer(given.checkpoint, settings={"DEVICE": "cpu"}, **ports) as server:
        process, url = gateway_of(server)
        try:
            measure(url, 0, chance)
            print("| ahead | took, s | error at first | halfway |\n|---|---|---|---|")
            for ahead in given.ahead:
                all_asked = [measure(url, ahead, chance) for _ in range(given.rounds)]
                took = median(asked.took for asked in all_asked)
                errors = [
                    sorted(off for asked in all_asked if (off := asked.off(share)) is not None)
                    for share in (0.0, 0.5)
                ]
                cells = [in_words(found) for found in errors]
                print(f"| {ahead} | {took:.1f} | {' | '.join(cells)} |", flush=True)
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    main()
