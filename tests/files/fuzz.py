"""Mutated files of all containers -> clips or clear refusals, and nothing else.

    python -m tests.files.fuzz [--minutes 20] [--first 0]

Each file is decoded in a process beside this one, by its number, so that any of them can be made
again (--first N). Printed: how many were taken and refused. Exits with 1 after a traceback, a
crash, a hang or too much memory, and prints the numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import multiprocessing.connection
import resource
import sys
import time
import traceback

import numpy as np

from melodyflow_client import AudioError
from melodyflow_client.audio import Limits, cap_allocations, load

from . import seeds

HANG_SECONDS = 30.0  # for one small file, on a machine that does other things as well
MOST_BYTES = 2**30  # of the decoding process
LIMITS = Limits(max_bytes=2**25, max_seconds=60, max_sample_rate=192_000, max_channels=2)


def mutated(files: list[bytes], number: int) -> bytes:
    """The file of that number: one of the seeds with a few changes, mostly near its beginning."""
    random = np.random.default_rng(number)
    data = bytearray(files[random.integers(len(files))])
    for _ in range(random.integers(1, 8)):
        near = random.random() < 0.6
        where = int(random.integers(min(len(data), 400) if near else len(data)))
        size = int(random.integers(1, 40))
        kind = random.integers(7)
        if kind == 0:
            data[where] = random.integers(256)
        elif kind == 1:
            data[where : where + 4] = random.choice(
                [b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0"]
            ).tobytes()
        elif kind == 2:
            del data[where : where + size]
        elif kind == 3:
            data[where:where] = random.bytes(size)
        elif kind == 4:
            data[where : where + size] = bytes(size)
        elif kind == 5:
            data[where] ^= 1 << int(random.integers(8))
        else:
            other = files[random.integers(len(files))]
            data[where:where] = other[: int(random.integers(len(other)))]
        if not data:
            return b"\0"
    if random.random() < 0.2:
        del data[int(random.integers(len(data))) :]
    return bytes(data)


def decode(
    files: list[bytes], first: int, connection: multiprocessing.connection.Connection
) -> None:
    """Sends each number and what became of it, forever."""
    cap_allocations()
    for number in range(first, sys.maxsize):
        data = mutated(files, number)
        connection.send((number, None, 0))
        try:
            clip = load(io.BytesIO(data) if number % 2 else data, limits=LIMITS)
            what = "taken" if clip.samples else "taken without samples"
        except AudioError as error:
            text = str(error)
            what = "refused" if text.startswith("audio: ") and "Error number" not in text else text
        except BaseException:
            what = traceback.format_exc()
        connection.send((number, what, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--first", type=int, default=0, metavar="N")
    asked = parser.parse_args()
    files = list(seeds.files().values())
    end = time.monotonic() + 60 * asked.minutes
    counts = {"taken": 0, "refused": 0}
    most, number, bad = 0, asked.first, 0
    context = multiprocessing.get_context("spawn")
    while time.monotonic() < end:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=decode, args=(files, number, there), daemon=True)
        process.start()
        there.close()
        fault = None
        with contextlib.suppress(EOFError):
            while fault is None and time.monotonic() < end:
                if not here.poll(HANG_SECONDS):
                    fault = f"hangs, more than {HANG_SECONDS:.0f} s"
                    break
                number, what, memory = here.recv()
                most = max(most, memory)
                if what in counts:
                    counts[what] += 1
                elif what is not None:
                    fault = what
                if memory > MOST_BYTES:
                    fault = f"{memory >> 20} MiB"
        if fault is None and time.monotonic() < end:
            process.join(5)
            fault = f"ended the process, exit code {process.exitcode}"
        process.kill()
        process.join()
        if fault is not None:
            bad += 1
            print(f"{number}: {fault}", flush=True)
            number += 1
    total = sum(counts.values())
    print(
        f"{total} files of {len(files)} kinds: {counts['taken']} taken, {counts['refused']} "
        f"refused, {bad} faults; at most {most >> 20} MiB"
    )
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
