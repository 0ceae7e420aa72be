"""How many GPUs so many users need, by the queue M/G/k, and what an edit costs.

    python -m tests.measure.sizing [--users 1000] [--seconds 0.37] [--price 3]

Edits come at random (Poisson), most of them in the busiest hour; each occupies one GPU, as a GPU
that works on several at once is no slower (docs/gpu.md). Waiting follows Erlang's formula C for
exponential service times, scaled by (1 + variation^2) / 2 for others (Allen and Cunneen).
"""

import argparse
import math
from dataclasses import dataclass


def erlang_c(servers: int, load: float) -> float:
    """The probability that an edit waits; load: mean number of busy servers, below `servers`."""
    if not 0 <= load < servers:
        raise ValueError(f"load {load:g}: from 0 to below {servers}, the number of servers")
    blocked = 1.0  # Erlang's formula B, by recursion over the servers
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


@dataclass(frozen=True)
class Queue:
    """k servers. rate: edits a second. seconds: of an edit. variation: deviation by mean."""

    servers: int
    rate: float
    seconds: float
    variation: float

    @property
    def load(self) -> float:
        """Busy servers on average (Little's law)."""
        return self.rate * self.seconds

    @property
    def mean_wait(self) -> float:
        """Seconds."""
        exponential = erlang_c(self.servers, self.load) * self.seconds / (self.servers - self.load)
        return exponential * self._scale

    def waits_longer(self, seconds: float) -> float:
        """The probability to wait longer than that."""
        rate = (self.servers - self.load) / self.seconds / self._scale
        return erlang_c(self.servers, self.load) * math.exp(-rate * seconds)

    @property
    def _scale(self) -> float:
        return (1 + self.variation**2) / 2


def fewest(
    rate: float, seconds: float, variation: float, longest: float, share: float, busy: float = 1.0
) -> Queue:
    """The fewest servers before which at most that share of edits waits longer than `longest`, and
    that are busy for at most that part of the time."""
    servers = max(math.floor(rate * seconds) + 1, math.ceil(rate * seconds / busy))
    while True:
        queue = Queue(servers, rate, seconds, variation)
        if queue.waits_longer(longest) <= share:
            return queue
        servers += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--users", type=int, nargs="*", default=[1_000, 1_000_000], help="a day")
    parser.add_argument("--edits", type=float, default=10, help="of a user a day (10)")
    parser.add_argument("--peak", type=float, default=0.15, help="share of the busiest hour (0.15)")
    parser.add_argument("--seconds", type=float, default=0.37, help="of an edit, alone (0.37)")
    parser.add_argument("--variation", type=float, default=0.37, help="deviation by mean (0.37)")
    parser.add_argument("--longest", type=float, default=1.0, help="seconds of waiting (1)")
    parser.add_argument("--share", type=float, default=0.01, help="that may wait longer (0.01)")
    parser.add_argument("--busy", type=float, default=0.75, help="at most, of a GPU's time (0.75)")
    parser.add_argument("--price", type=float, default=3.0, help="of a GPU's hour (3)")
    given = parser.parse_args()
    for users in given.users:
        edits = users * given.edits
        rate = edits * given.peak / 3600
        wanted = (given.longest, given.share, given.busy)
        queue = fewest(rate, given.seconds, given.variation, *wanted)
        always = queue.servers * 24 * given.price / edits
        busy = given.seconds * given.price / 3600 * queue.servers / queue.load
        print(
            f"{users} users: {rate:.3g} edits/s in the busiest hour, {queue.load:.3g} GPUs busy, "
            f"{queue.servers} needed ({queue.load / queue.servers:.0%} busy); an edit waits "
            f"{queue.mean_wait:.2g} s on average, {queue.waits_longer(given.longest):.1%} longer "
            f"than {given.longest:g} s; an edit costs {always:.2g} with all of them on all day, "
            f"{busy:.2g} where they follow the load"
        )


if __name__ == "__main__":
    main()
