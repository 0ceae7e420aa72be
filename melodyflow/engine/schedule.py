"""Who is served by the next network call: round robin with a deficit counter in tokens (after
Shreedhar and Varghese's deficit round robin, 1995), among owners and among each owner's edits.

Written by hand: libraries schedule packets or processes, not what a batch has room for.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Asker(Protocol):
    """Something that waits for the network."""

    lead: int  # tokens by which it was served more than its owner's one served least

    @property
    def owner(self) -> str:
        """Whose it is."""

    @property
    def turns(self) -> Sequence[int]:
        """Latent frames of what it asks for, in parts that can be served one by one."""


T = TypeVar("T", bound=Asker)


class Schedule:
    """Chooses whom the next call serves. An owner is known as long as something of theirs waits."""

    def __init__(self) -> None:
        self._leads: dict[str, int] = {}  # tokens by which an owner was served more than the least

    def choose(self, waiting: Sequence[T], budget: int, slack: int) -> list[tuple[T, int]]:
        """Those of `waiting` that the next call serves, and with how many of their turns: at least
        one, at most `budget` tokens together; a turn that asks for more than the budget is served
        alone. The owner served least comes first, then who has waited longest.

        An owner who leads by more than `slack` tokens waits until the others have caught up, and so
        does an edit among those of its owner. So over time all owners get the same number of
        tokens, however many edits they have; a long clip does not hold up a short one; and edits of
        about the same size stay together though some ask for one row and some for two. Further
        turns of a clip go into what the first ones of all leave of the budget.
        """
        edits: dict[str, list[T]] = {}
        for asker in waiting:
            edits.setdefault(asker.owner, []).append(asker)
        leads = {owner: self._leads.get(owner, 0) for owner in edits}
        least = min(leads.values())
        self._leads = leads = {owner: lead - least for owner, lead in leads.items()}
        for askers in edits.values():
            least = min(asker.lead for asker in askers)
            for asker in askers:
                asker.lead -= least
        chosen: dict[T, int] = {}
        used = 0
        serving = sorted(waiting, key=lambda asker: leads[asker.owner])
        while serving:
            most = slack + min(leads.values())
            most_of = {  # of the owners whose turn it is
                owner: slack + min(asker.lead for asker in askers)
                for owner, askers in edits.items()
                if leads[owner] <= most
            }
            served = []
            for asker in serving:
                owner, tokens = asker.owner, asker.turns[chosen.get(asker, 0)]
                ahead = owner not in most_of or asker.lead > most_of[owner]
                if ahead or (chosen and used + tokens > budget):
                    continue
                chosen[asker] = chosen.get(asker, 0) + 1
                asker.lead += tokens
                leads[owner] += tokens
                used += tokens
                if chosen[asker] < len(asker.turns):
                    served.append(asker)
            serving = served
        return list(chosen.items())
