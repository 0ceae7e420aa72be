"""Strangers' gRPC streams, each ended in a way that has killed this Triton before.

    python -m tests.server.attackers --server 127.0.0.1:8001 --streams 100

A process of its own that prints one line for each stream: its kind, whether it sent the header
`triton_grpc_error`, and how it ended. It speaks plain gRPC, with none of our client's code. Before
a proxy that asks for a key, $MELODYFLOW_API_KEY is sent: the stranger has got hold of one.
"""

import argparse
import asyncio
import itertools
import os
import random
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2, service_pb2_grpc

from . import raw

STATUSES = (("triton_grpc_error", "true"),)
KEY = os.environ.get("MELODYFLOW_API_KEY")
BEARER = (("authorization", f"Bearer {KEY}"),) if KEY else ()
HEADERS = {"none": 0.0, "half": 0.5, "all": 1.0}  # share of the streams that send it
KINDS = {"refused": 32, "cancelled": 30, "several": 26, "closed": 11, "burst": 1}  # weights
# Of the streams with several edits only so many of those that would send the header do: each ends
# this Triton in two of three tries, and a storm of them would be all restarts. The other kinds
# bring it as often as asked for.
DEADLY = 0.08
KILLED = "killed"  # a process of its own for a few of them: --vanish
AT_ONCE = 4  # streams open at a time in a process
BURST = 90  # streams at a time: more than queue and slots hold
PATIENCE = 30.0  # seconds without an answer
NO_SERVER = "no server"  # never reached it
ANOTHERS = "another's answer"  # its id is none of the stream's requests'

ENDED = (grpc.RpcError, asyncio.InvalidStateError)  # how reads and writes say it

Request = Any

CLIP = raw.file_of(raw.music(0.2, 16000, 1), 16000)
LONG_CLIP = raw.file_of(raw.music(2.0, 16000, 1), 16000)
GOOD: dict[str, Any] = {"audio": CLIP, "prompt": "a stranger's", "steps": 1, "regularize_iters": 0}
LONG: dict[str, Any] = {"audio": LONG_CLIP, "prompt": "never heard", "steps": 64}
BAD: tuple[dict[str, Any], ...] = (
    {"steps": 0},
    {"flowstep": 1.0},
    {"guidance": 11.0},
    {"prompt": ""},
    {"audio": b"not audio"},
    {"steps": raw.tensor("steps", 2.0, "FP32")},  # refused by Triton itself
)


def request(name: str, inputs: dict[str, Any]) -> Request:
    made = service_pb2.ModelInferRequest(model_name=raw.MODEL, id=name)
    for key, value in inputs.items():
        if isinstance(value, str):
            value = value.encode()
        tensor = value if hasattr(value, "_get_tensor") else raw.tensor(key, value)
        made.inputs.append(tensor._get_tensor())
        made.raw_input_contents.append(tensor._get_content())
    return made


@dataclass
class Attacker:
    """Opens streams, one kind after the other, and says how they end."""

    server: str
    header: float
    rng: random.Random

    def __post_init__(self) -> None:
        self._shared = self._channel()
        self._good = request("good", GOOD)
        self._long = request("long", LONG)
        self._bad = [request("bad", {**GOOD, **wrong}) for wrong in BAD]
        self._sent = itertools.count()

    def _channel(self) -> grpc.aio.Channel:
        # Else channels to one address would share a connection.
        return grpc.aio.insecure_channel(self.server, [("grpc.use_local_subchannel_pool", 1)])

    async def attack(self, streams: int) -> None:
        left = streams

        async def one_after_the_other() -> None:
            nonlocal left
            while left > 0:
                kind = self.rng.choices(list(KINDS), list(KINDS.values()))[0]
                if kind == "burst" and left < BURST:
                    kind = "refused"
                left -= BURST if kind == "burst" else 1
                ends = await getattr(self, f"_{kind}")()
                if NO_SERVER in ends:
                    left += ends.count(NO_SERVER)
                    await asyncio.sleep(0.5)

        await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
        await self._shared.close()

    # --- the kinds --------------------------------------------------------------------------------

    async def _refused(self) -> list[str]:
        """One request with one thing wrong."""
        call, header = self._open(self._shared)
        end = await _sent_and_heard(call, [self._named(self.rng.choice(self._bad))])
        return [_say("refused", header, end)]

    async def _several(self) -> list[str]:
        """Two or three edits on one stream, one of them refused."""
        requests = [self._good] * self.rng.randint(1, 2)
        requests.insert(self.rng.randint(0, len(requests)), self.rng.choice(self._bad))
        call, header = self._open(self._shared, self.header * DEADLY)
        end = await _sent_and_heard(call, [self._named(each) for each in requests])
        return [_say("several", header, end)]

    async def _cancelled(self) -> list[str]:
        """Cancelled at a random moment, on a connection that stays."""
        call, header = self._open(self._shared)
        end = await self._sent_and_left(call)
        call.cancel()
        return [_say("cancelled", header, end)]

    async def _closed(self) -> list[str]:
        """The connection is closed while the stream is open."""
        channel = self._channel()
        call, header = self._open(channel)
        end = await self._sent_and_left(call)
        await channel.close()
        return [_say("closed", header, end)]

    async def _burst(self) -> list[str]:
        """More streams at once than queue and slots hold; all are left soon."""
        channel = self._channel()
        calls = [self._open(channel) for _ in range(BURST)]
        ends = await asyncio.gather(*(self._sent_and_left(call, 1.0) for call, _ in calls))
        await channel.close()
        return [_say("burst", calls[n][1], end) for n, end in enumerate(ends)]

    async def vanish(self, streams: int) -> None:
        """Kills this very process while its streams are open."""
        calls = [self._open(self._shared) for _ in range(streams)]
        for call, header in calls:
            try:
                await asyncio.wait_for(call.write(self._long), PATIENCE)
                _say(KILLED, header, "killed")
            except TimeoutError:
                _say(KILLED, header, "no answer")
            except ENDED:
                _say(KILLED, header, await _status(call))
        await asyncio.sleep(self.rng.uniform(0, 0.3))
        os.kill(os.getpid(), signal.SIGKILL)

    # --- a stream ---------------------------------------------------------------------------------

    def _open(self, channel: grpc.aio.Channel, share: float | None = None) -> tuple[Any, bool]:
        """A stream, and whether it sends the header."""
        header = self.rng.random() < (self.header if share is None else share)
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return stub.ModelStreamInfer(metadata=BEARER + (STATUSES if header else ())), header

    def _named(self, like: Request) -> Request:
        """A request with an id that no other has."""
        made = service_pb2.ModelInferRequest()
        made.CopyFrom(like)
        made.id = f"{like.id}-{os.getpid()}-{next(self._sent)}"
        return made

    async def _sent_and_left(self, call: Any, longest: float = 0.15) -> str:
        """Sends an edit and waits for a random moment, reading what comes."""
        edit = self._named(self.rng.choice([self._good, self._long]))
        moment = self.rng.choice([0.0, self.rng.uniform(0, longest)])
        try:
            await asyncio.wait_for(call.write(edit), PATIENCE)
            async with asyncio.timeout(moment):
                return await _heard(call, [edit])
        except TimeoutError:
            return "left"
        except ENDED:
            return await _status(call)


async def _sent_and_heard(call: Any, requests: Sequence[Request]) -> str:
    """Sends all at once, waits for all answers, and ends the stream."""
    try:
        async with asyncio.timeout(PATIENCE):
            for each in requests:
                await call.write(each)
            end = await _heard(call, requests)
            if end == "answered":
                await call.done_writing()
                await call.read()
            return end
    except TimeoutError:
        call.cancel()
        return "no answer"
    except ENDED:
        return await _status(call)


async def _heard(call: Any, requests: Sequence[Request]) -> str:
    """Reads until all requests of a stream are answered, with a result or an error in band."""
    answers, names = len(requests), {"", *(each.id for each in requests)}
    while answers:
        reply = await call.read()
        if reply is grpc.aio.EOF:
            return await _status(call)
        if reply.infer_response.id not in names:
            return ANOTHERS
        final = reply.infer_response.parameters["triton_final_response"].bool_param
        answers -= bool(reply.error_message) or final
    return "answered"


async def _status(call: Any) -> str:
    """What a stream has ended with. (A write to one that has ended does not tell.)"""
    code, details = await call.code(), await call.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE:
        return NO_SERVER if "failed to connect" in details else "connection lost"
    return f"status {code.name}"


def _say(kind: str, header: bool, end: str) -> str:
    with suppress(BrokenPipeError):
        sys.stdout.write(f"{kind}\t{'header' if header else '-'}\t{end}\n")
        sys.stdout.flush()
    return end


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--server", required=True)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--header", choices=HEADERS, default="half")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vanish", action="store_true", help="kill itself with streams open")
    given = parser.parse_args()

    async def run() -> None:
        attacker = Attacker(given.server, HEADERS[given.header], random.Random(given.seed))
        await (attacker.vanish if given.vanish else attacker.attack)(given.streams)

    asyncio.run(run())


if __name__ == "__main__":
    main()
