"""The queue by which docs/operations.md counts GPUs."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..measure.sizing import Queue, erlang_c, fewest

loads = st.floats(0.01, 0.98)


def test_one_server_is_busy_for_its_load_and_known_values_hold() -> None:
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert erlang_c(10, 8.0) == pytest.approx(0.4092, abs=1e-4)  # from tables
    assert erlang_c(3, 0.0) == 0
    for load in (3.0, 4.0, -0.1):
        with pytest.raises(ValueError, match=r"^load .*: from 0 to below 3"):
            erlang_c(3, load)


@given(st.integers(1, 300), loads)
def test_more_servers_make_shorter_waits(servers: int, busy: float) -> None:
    load = servers * busy
    few, more = (Queue(k, load, 1.0, 0.5) for k in (servers, servers + 1))
    assert 0 <= erlang_c(servers + 1, load) <= erlang_c(servers, load) <= 1
    assert more.mean_wait <= few.mean_wait
    assert more.waits_longer(1.0) <= few.waits_longer(1.0)


@given(st.floats(0.01, 500), st.floats(0.05, 20), st.floats(0, 2))
def test_fewest_is_enough_and_one_less_is_not(
    rate: float, seconds: float, variation: float
) -> None:
    queue = fewest(rate, seconds, variation, 1.0, 0.01)
    assert queue.waits_longer(1.0) <= 0.01
    one_less = Queue(queue.servers - 1, rate, seconds, variation)
    assert one_less.load >= one_less.servers or one_less.waits_longer(1.0) > 0.01
    spare = fewest(rate, seconds, variation, 1.0, 0.01, busy=0.75)
    assert spare.servers >= queue.servers
    assert spare.load <= 0.75 * spare.servers + 1e-9


@pytest.mark.parametrize(("servers", "load"), [(1, 0.6), (4, 3.2)])
def test_a_simulation_agrees(servers: int, load: float) -> None:
    """Service times of a fixed length: M/D/k, which the approximation is for as well."""
    rng, free, now, waits = random.Random(0), [0.0] * servers, 0.0, 0.0
    count = 40_000
    for _ in range(count):
        now += rng.expovariate(load)
        first = min(range(servers), key=free.__getitem__)
        begins = max(now, free[first])
        waits += begins - now
        free[first] = begins + 1.0
    assert Queue(servers, load, 1.0, 0.0).mean_wait == pytest.approx(waits / count, rel=0.15)
