"""What a clip costs by its length, through a real server: processor seconds, and the most memory
that the model's process and tritonserver had while they edited it.

    python -m tests.measure.lengths --checkpoint DIR

Clips are stereo, PCM 16 at 48 kHz, and so are the results, as loud as the source: what the command
asks for. Memory is what the kernel notes (VmHWM), shared memory included, so that what both
processes map counts in both.
"""

import argparse
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melodyflow.embedded import DEMO_CHECKPOINT, EmbeddedServer
from melodyflow.embedded.server import SHARED_MEMORY
from tests.server import raw

SECONDS = (30.0, 60.0, 120.0, 180.0, 240.0)
RATE = 48000
MINUTE = 2 * 60 * RATE * 4 / 2**20  # MiB of a minute of stereo in float32
MODEL = "the model's process"


@dataclass(frozen=True)
class Cost:
    """One edit of a clip of so many seconds."""

    seconds: float
    processor: float  # seconds of the model's process
    most: dict[str, float]  # MiB: of either process, and of what both share


def measure(server: EmbeddedServer, seconds: float, steps: int) -> Cost:
    """Edits a clip of that length; raises SystemExit where the result has not its samples."""
    (stub,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    processes = {MODEL: int(stub), "tritonserver": server.pid}
    source = raw.file_of(raw.music(seconds, RATE), RATE)
    inputs = {"audio": source, "prompt": "a harp", "steps": steps, "seed": 1, "loudness": "source"}
    for process in processes.values():
        Path(f"/proc/{process}/clear_refs").write_text("5")  # VmHWM begins anew
    before = processor_seconds(processes[MODEL])
    result = raw.transform(server, inputs)
    cost = Cost(
        seconds,
        processor_seconds(processes[MODEL]) - before,
        {name: most_memory(process) for name, process in processes.items()}
        | {"/dev/shm": shared(server)},
    )
    samples = raw.decoded(result["audio"])[0].shape[1]
    if samples != round(seconds * RATE):
        sys.exit(f"lengths: {samples} samples came back of {round(seconds * RATE)}")
    return cost


def processor_seconds(process: int) -> float:
    """User and system time that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def most_memory(process: int) -> float:
    """The most resident memory since it was cleared, MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found
    return int(found[1]) / 1024


def shared(server: EmbeddedServer) -> float:
    """Of /dev/shm, through which audio travels between the two, MiB; it does not shrink."""
    line = Path(f"/proc/{server.pid}/cmdline").read_bytes()
    prefix = re.search(rb"shm-region-prefix-name=([^\0]+)", line)
    assert prefix
    files = SHARED_MEMORY.glob(f"{prefix[1].decode()}*")
    return sum(file.stat().st_size for file in files) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/measure lengths", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--checkpoint", type=Path, default=DEMO_CHECKPOINT)
    parser.add_argument("--seconds", type=float, nargs="+", default=SECONDS, help="of the clips")
    parser.add_argument("--steps", type=int, default=2, help="of the solver (default: 2)")
    given = parser.parse_args()
    settings = {"DEVICE": "cpu", "PRECISION": "fp32", "THREADS": "1"}
    settings["MAX_SECONDS"] = str(max(*given.seconds, 600))
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
    with EmbeddedServer(given.checkpoint, settings=settings, **ports) as server:
        costs = [measure(server, seconds, given.steps) for seconds in sorted(given.seconds)]
    print("| seconds | processor s | a second of clip | model, MiB | tritonserver | /dev/shm |")
    print("|---|---|---|---|---|---|")
    for cost in costs:
        cells = (
            f"{cost.seconds:g}",
            f"{cost.processor:.1f}",
            f"{cost.processor / cost.seconds:.3f}",
            *(f"{most:.0f}" for most in cost.most.values()),
        )
        print(f"| {' | '.join(cells)} |")
    if len(costs) > 1:
        minutes = [cost.seconds / 60 for cost in costs]
        for name in costs[0].most:
            slope = np.polyfit(minutes, [cost.most[name] for cost in costs], 1)[0]
            print(f"{name}: {slope:.0f} MiB a minute, {slope / MINUTE:.1f} x {MINUTE:.0f} MiB")


if __name__ == "__main__":
    main()
