"""Who is served by the next network call: round robin with a deficit counter in tokens (after
Shreedhar and Varghese's deficit round robin, 1995)."""

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Asker(Protocol):
    """Something that waits for the network."""

    lead: int  # tokens by which it was served more than the one served least

    @property
    def tokens(self) -> int:
        """Latent frames that its next evaluation takes."""


T = TypeVar("T", bound=Asker)


def choose(waiting: Sequence[T], budget: int, slack: int) -> list[T]:
    """Those of `waiting`, longest waiting first, that the next call serves: at least one, at most
    `budget` tokens together; one that asks for more than the budget is served alone.

    Who leads by more than `slack` tokens waits until the others have caught up. So over time all
    get the same number of tokens, a long clip does not hold up a short one, and edits of about
    the same size stay together though some ask for one row and some for two.
    """
    least = min(asker.lead for asker in waiting)
    chosen: list[T] = []
    used = 0
    for asker in waiting:
        asker.lead -= least
        if asker.lead > slack or (chosen and used + asker.tokens > budget):
            continue
        chosen.append(asker)
        asker.lead += asker.tokens
        used += asker.tokens
    return chosen
