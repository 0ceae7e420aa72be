"""Deficit round robin: shares, tolerance, the budget."""

from dataclasses import dataclass

from melodyflow.engine.schedule import choose


@dataclass(eq=False)
class Asker:
    tokens: int
    lead: int = 0
    served: int = 0


def run(askers: list[Asker], calls: int, budget: int = 1024, slack: int = 128) -> list[list[int]]:
    """Serves `calls` calls as the loop does; the tokens that each call was made of."""
    waiting, made = list(askers), []
    for _ in range(calls):
        chosen = choose(waiting, budget, slack)
        made.append([asker.tokens for asker in chosen])
        for asker in chosen:
            asker.served += asker.tokens
        waiting = [asker for asker in waiting if asker not in chosen] + chosen
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
