"""Who is served by the next network call: round robin with a deficit counter in tokens (after
Shreedhar and Varghese's deficit round robin, 1995)."""

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Asker(Protocol):
    """Something that waits for the network."""

    lead: int  # tokens by which it was served more than the one served least

    @property
    def turns(self) -> Sequence[int]:
        """Latent frames of what it asks for, in parts that can be served one by one."""


T = TypeVar("T", bound=Asker)


def choose(waiting: Sequence[T], budget: int, slack: int) -> list[tuple[T, int]]:
    """Those of `waiting`, longest waiting first, that the next call serves, and with how many of
    their turns: at least one, at most `budget` tokens together; a turn that asks for more than the
    budget is served alone.

    Who leads by more than `slack` tokens waits until the others have caught up. So over time all
    get the same number of tokens, a long clip does not hold up a short one, and edits of about
    the same size stay together though some ask for one row and some for two. Further turns of a
    clip go into what the first ones of all leave of the budget.
    """
    least = min(asker.lead for asker in waiting)
    for asker in waiting:
        asker.lead -= least
    chosen: dict[T, int] = {}
    used = 0
    serving = list(waiting)
    while serving:
        least = min(asker.lead for asker in waiting)
        served = []
        for asker in serving:
            tokens = asker.turns[chosen.get(asker, 0)]
            if asker.lead - least > slack or (chosen and used + tokens > budget):
                continue
            chosen[asker] = chosen.get(asker, 0) + 1
            asker.lead += tokens
            used += tokens
            if chosen[asker] < len(asker.turns):
                served.append(asker)
        serving = served
    return list(chosen.items())
