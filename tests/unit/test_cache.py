"""The cache of what edits share: its bound, and what it says it holds."""

import torch
from torch import Tensor

from melodyflow.engine.cache import Cache


def floats(count: int) -> Tensor:
    """4 bytes each."""
    return torch.ones(count)


def test_the_least_recently_used_goes_first() -> None:
    cache = Cache(40)
    cache.put("a", floats(4))
    cache.put("b", floats(4))
    assert cache.get("a") is not None
    cache.put("c", floats(6))
    assert cache.get("a") is not None
    assert cache.get("b") is None
    assert cache.bytes == 40


def test_what_does_not_fit_at_all_evicts_nothing() -> None:
    cache = Cache(40)
    cache.put("a", floats(5))
    cache.put("b", floats(5))
    cache.put("large", floats(11))
    made, found = cache.get_or_make("larger", lambda: floats(100))
    assert (len(made), found) == (100, False)
    assert cache.get("large") is cache.get("larger") is None
    assert cache.get("a") is not None
    assert cache.get("b") is not None
    # In the place of one that is held, which is no longer what the key stands for.
    cache.put("a", floats(11))
    assert cache.get("a") is None
    assert cache.bytes == 20


def test_it_tells_of_every_change_and_of_nothing_else() -> None:
    told: list[int] = []
    cache = Cache(40, told.append)
    cache.put("a", floats(5))
    cache.put("a", floats(5))  # as many bytes
    cache.get("a")
    cache.get_or_make("b", lambda: floats(3))
    cache.get_or_make("b", lambda: floats(3))
    cache.put("large", floats(11))
    assert told == [20, 32]
    cache.put("c", floats(4))  # evicts "a"
    assert told == [20, 32, 28]
    cache.put("nan", torch.full((1,), torch.nan))
    assert cache.get("nan") is None
    assert told == [20, 32, 28, 32, 28]
    assert cache.bytes == 28
