"""Deficit round robin: shares, tolerance, the budget."""

from dataclasses import dataclass

from melodyflow.engine.schedule import Schedule


@dataclass(eq=False)
class Asker:
    tokens: int  # of one turn
    windows: int = 1
    lead: int = 0
    served: int = 0
    answered: int = 0
    owner: str = ""

    @property
    def turns(self) -> list[int]:
        return [self.tokens] * (self.windows - self.answered)

    def serve(self, turns: int) -> None:
        self.served += turns * self.tokens
        self.answered = (self.answered + turns) % self.windows


def run(askers: list[Asker], calls: int, budget: int = 1024, slack: int = 128) -> list[list[int]]:
    """Serves `calls` calls as the loop does; the tokens that each call was made of."""
    schedule, waiting, made = Schedule(), list(askers), []
    for _ in range(calls):
        chosen = dict(schedule.choose(waiting, budget, slack))
        made.append([asker.tokens for asker, turns in chosen.items() for _ in range(turns)])
        for asker, turns in chosen.items():
            asker.serve(turns)
        waiting = [asker for asker in waiting if asker not in chosen] + list(chosen)
    return made


def test_equals_go_together_up_to_the_budget() -> None:
    assert run([Asker(100) for _ in range(8)], 1) == [[100] * 8]
    assert run([Asker(100) for _ in range(12)], 2) == [[100] * 10, [100] * 10]


def test_about_equals_stay_together() -> None:
    """An inversion alternates between one row and two; edits out of step must not split up."""
    made = run([Asker(50), Asker(100), Asker(50), Asker(100)], 20)
    assert sum(len(call) for call in made) > 20 * 3 - 10


def test_a_long_clip_gets_the_same_tokens_as_a_short_one() -> None:
    short, long = Asker(100), Asker(1500)
    made = run([short, long], 200)
    assert [1500] in made, "above the budget: alone"
    assert [100, 1500] not in made
    assert 0.8 < short.served / long.served < 1.25


def test_nobody_starves_among_many() -> None:
    askers = [Asker(100) for _ in range(30)] + [Asker(900), Asker(3000)]
    run(askers, 1000)
    shares = [asker.served for asker in askers]
    assert max(shares) < 1.5 * min(shares)


def test_one_alone_is_always_served() -> None:
    assert run([Asker(5000)], 3) == [[5000]] * 3


def test_the_windows_of_one_clip_fill_a_call() -> None:
    assert run([Asker(100, windows=15)], 3) == [[100] * 10, [100] * 5, [100] * 10]
    assert run([Asker(1500, windows=2)], 2) == [[1500], [1500]], "above the budget: one by one"


def test_a_clip_of_many_windows_gets_the_same_tokens_as_one_of_one() -> None:
    short, long = Asker(100), Asker(100, windows=20)
    made = run([short, long], 200)
    assert 0.8 < short.served / long.served < 1.25
    assert all(100 in call for call in made)
    assert sum(len(call) for call in made) > 300, "they go together"


def test_an_owner_of_many_edits_gets_what_an_owner_of_one_gets() -> None:
    one = Asker(100, owner="one")
    many = [Asker(100, windows=20, owner="many") for _ in range(8)]
    run([*many, one], 400)
    shares = [asker.served for asker in many]
    assert 0.8 < one.served / sum(shares) < 1.25
    assert max(shares) < 1.5 * min(shares), "and shares it among those evenly"


def test_an_owner_who_comes_is_served_at_once() -> None:
    schedule, many = Schedule(), [Asker(100, windows=20, owner="many") for _ in range(8)]
    for _ in range(50):
        for asker, turns in schedule.choose(many, 1024, 128):
            asker.serve(turns)
    one = Asker(100, owner="one")
    assert one in dict(schedule.choose([*many, one], 1024, 128))


def test_owners_of_equal_edits_go_together() -> None:
    made = run([Asker(100, owner=str(i % 4)) for i in range(8)], 20)
    assert made == [[100] * 8] * 20
