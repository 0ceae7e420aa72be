"""Turns: nobody holds all slots, and a line is served evenly."""

import asyncio

from melodyflow_gateway.edits.turns import Turn, Turns

SLOTS = 8


def turns_of(slots: int = SLOTS, most: int = 6) -> Turns:
    return Turns(lambda: slots, lambda _: most)


def granted(turns: list[Turn]) -> int:
    return sum(turn.granted for turn in turns)


def test_one_owner_leaves_slots_for_others() -> None:
    line = turns_of()
    many = [line.join("many", 2) for _ in range(32)]
    assert granted(many) == 6
    others = [line.join(name, 2) for name in ("a", "b", "c")]
    assert [turn.granted for turn in others] == [True, True, False]
    line.leave(many[0])
    assert others[2].granted, "who holds none is first"
    assert granted(many) == 6, "of those that came first"


def test_the_slots_that_are_kept_are_not_for_a_second_edit() -> None:
    line = turns_of()
    many = [line.join("many", 2) for _ in range(32)]
    other = [line.join("other", 2) for _ in range(2)]
    assert (granted(many), granted(other)) == (6, 1)
    assert line.join("third", 2).granted


def test_a_single_slot_goes_round() -> None:
    line = turns_of(slots=1, most=1)
    waiting = [line.join("a", 2) for _ in range(4)]
    waiting += [line.join(name, 2) for name in ("b", "b", "c")]
    served = []
    while waiting:
        (turn,) = [turn for turn in waiting if turn.granted]
        served.append(turn.owner)
        waiting.remove(turn)
        line.leave(turn)
    assert served == ["a", "b", "c", "a", "b", "a", "a"]


def test_priority_orders_the_edits_of_one_owner_alone() -> None:
    line = turns_of(slots=1, most=1)
    first = line.join("a", 2)
    late, other, soon = line.join("a", 3), line.join("b", 2), line.join("a", 1)
    assert line.order() == [other, soon, late]
    line.leave(first)
    assert granted([late, soon]) == 0
    assert other.granted


def test_who_leaves_the_line_holds_up_nobody() -> None:
    line = turns_of(slots=1, most=1)
    first, second, third = (line.join("a", 2) for _ in range(3))
    line.leave(second)
    line.leave(first)
    assert third.granted
    line.leave(third)
    assert line.order() == []


def test_an_edit_that_leaves_is_waited_for_no_longer() -> None:
    async def main() -> None:
        line = turns_of(slots=1, most=1)
        first, second, third = (line.join("a", 2) for _ in range(3))
        await asyncio.wait_for(first.begins(), 1)
        waiting = [asyncio.create_task(turn.begins()) for turn in (second, third)]
        await asyncio.sleep(0)
        line.leave(second)
        line.leave(first)
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        assert done[1] is None

    asyncio.run(main())


def test_fewer_slots_than_before_grant_nothing_until_enough_have_left() -> None:
    slots = 4
    line = Turns(lambda: slots, lambda count: count)
    held, last = [line.join("a", 2) for _ in range(4)], line.join("a", 2)
    slots = 2
    for turn in held[:2]:
        line.leave(turn)
        assert not last.granted
    line.leave(held[2])
    assert last.granted
