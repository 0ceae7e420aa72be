"""A server whose queue is full and whose network calls are slow: busy is not dead.

    scripts/soak --busy 600

Every network call takes longer than a heartbeat may be old, and as many edits wait as the queue
holds, all the time: first with calls that sleep, then with calls that burn a core. Exits with 1
when the service was restarted.
"""

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2_grpc

from melodyflow.embedded import MODEL_REPOSITORY

from .attackers import GOOD, request
from .conftest import read_metrics
from .drill import TRITON, NotStarted, Service, Watch, checkpoint_or_tiny, tail

WAYS = ("sleep", "burn")
CALL_SECONDS = 20.0
STREAMS = 90  # open at a time: queue (64), slots (8) and some that the full queue refuses
PENDING = 'nv_inference_pending_request_count{model="melodyflow",version="1"}'


@dataclass
class Busy:
    """What a busy server has shown."""

    way: str
    seconds: float
    ends: Counter[str] = field(default_factory=Counter)
    pending: list[float] = field(default_factory=list)  # once a second, from when the queue is full
    watch: Watch = field(default_factory=Watch)
    said: list[str] = field(default_factory=list)
    counted: int | None = None

    def broken(self) -> list[str]:
        servers = len(self.watch.seen[TRITON])
        wrong = [f"{self.way}: {servers} tritonservers, not one"] if servers != 1 else []
        wrong += [f"{self.way}: {line}" for line in self.said]
        if self.counted:
            wrong.append(f"{self.way}: {self.counted} restarts in /metrics")
        if not self.pending:
            wrong.append(f"{self.way}: the queue was never full")
        return wrong

    def __str__(self) -> str:
        ends = ", ".join(f"{end} {count}" for end, count in self.ends.most_common())
        restarts = "not counted" if self.counted is None else self.counted
        line = f"calls that {self.way}: {self.seconds:.0f} s, restarts {restarts}; edits: {ends}"
        if self.pending:
            least, median = min(self.pending), statistics.median(self.pending)
            line += f"; waiting, once the queue was full: at least {least:.0f}, median {median:.0f}"
        return line


def busy(service: Service, way: str, seconds: float) -> Busy:
    """Keeps the queue of a service full for some time."""
    found = Busy(way, seconds)

    async def run() -> None:
        channel = grpc.aio.insecure_channel(service.grpc_url)
        clients = [asyncio.create_task(_ask(channel, found.ends)) for _ in range(STREAMS)]
        until = time.monotonic() + seconds
        while time.monotonic() < until and service.runs:
            await asyncio.sleep(1)
            found.watch.look(service)
            waiting = await asyncio.to_thread(_waiting, service)
            if found.pending or waiting >= 60:
                found.pending.append(waiting)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await channel.close()

    found.counted = 0
    asyncio.run(run())
    found.said, found.counted = service.said_restarts(), service.restarts()
    return found


async def _ask(channel: grpc.aio.Channel, ends: Counter[str]) -> None:
    """One edit after the other, again where the queue is full."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    while True:
        call = stub.ModelStreamInfer()
        try:
            await call.write(request("waits", GOOD))
            end = "done"
            async for reply in call:
                if reply.error_message:
                    end = reply.error_message[:80]
                    break
                if reply.infer_response.parameters["triton_final_response"].bool_param:
                    break
        except (grpc.RpcError, asyncio.InvalidStateError):
            end = f"status {(await call.code()).name}"
        finally:
            call.cancel()
        ends[end] += 1
        if end != "done":
            await asyncio.sleep(1)


def _waiting(service: Service) -> float:
    try:
        return read_metrics(service.metrics_url)[PENDING]
    except OSError:
        return 0.0


def slow_repository(folder: Path) -> Path:
    """The repository whose network calls are slow, with the real contract."""
    repository = folder / "repository"
    shutil.copytree(Path(__file__).parent / "slow_repository", repository)
    shutil.copy(MODEL_REPOSITORY / "melodyflow" / "config.pbtxt", repository / "melodyflow")
    return repository


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/soak --busy", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("seconds", type=float, help="for both ways together")
    parser.add_argument("--call-seconds", type=float, default=CALL_SECONDS, help="of each call")
    parser.add_argument("--way", choices=WAYS, action="append", help="only this one")
    parser.add_argument("--checkpoint", type=Path, help="converted; without it a tiny random one")
    given = parser.parse_args(arguments)
    ways, broken = given.way or WAYS, list[str]()
    with (
        tempfile.TemporaryDirectory(prefix="busy-") as folder,
        checkpoint_or_tiny(given.checkpoint) as checkpoint,
    ):
        repository, log = slow_repository(Path(folder)), Path(folder) / "triton.log"
        for way in ways:
            settings = (f"CALL_SECONDS={given.call_seconds}", f"CALL_HOW={way}")
            more = [word for setting in settings for word in ("--set", setting)]
            try:
                with Service(
                    checkpoint, log, *more, "--model-repository", str(repository)
                ) as service:
                    found = busy(service, way, given.seconds / len(ways))
            except NotStarted as error:
                print(f"not started: {error}", file=sys.stderr)
                return 1
            print(found, flush=True)
            if found.broken():
                print(f"the log ends:\n{tail(log)}")
            broken += found.broken()
    for promise in broken:
        print(f"BROKEN: {promise}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
