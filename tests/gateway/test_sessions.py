"""Both stores of sessions, in memory and in a real Redis, keep the same promises."""

import asyncio
import json
import secrets
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from melodyflow_gateway.problems import Problem
from melodyflow_gateway.sessions import in_process
from melodyflow_gateway.sessions import redis as redis_sessions
from melodyflow_gateway.sessions.in_process import InProcessSessions
from melodyflow_gateway.sessions.redis import RedisSessions
from melodyflow_gateway.sessions.store import JobRecord, SessionKey, SessionStore

POLL_SECONDS = 0.2

Test = Callable[[SessionStore], Awaitable[None]]
Play = Callable[[Test], None]


@pytest.fixture(params=["memory", "redis"])
def play(request: pytest.FixtureRequest) -> Play:
    """Runs a test with a store."""
    redis_url = request.getfixturevalue("redis_url") if request.param == "redis" else None

    def run(test: Test) -> None:
        async def with_store() -> None:
            store: SessionStore = (
                InProcessSessions(100, 10_000, 60, POLL_SECONDS)
                if redis_url is None
                else RedisSessions(redis_url, 60, POLL_SECONDS)
            )
            try:
                await test(store)
            finally:
                await store.close()

        asyncio.run(with_store())

    return run


@pytest.fixture
def key() -> SessionKey:
    return SessionKey("owner", secrets.token_hex(8))


def test_a_clips_seed_is_kept_until_another_is_asked_for(play: Play, key: SessionKey) -> None:
    async def test(store: SessionStore) -> None:
        first = await store.seed(key, "clip", None, False)
        assert 0 <= first < 2**31
        assert await store.seed(key, "clip", None, False) == first
        assert await store.seed(key, "other clip", None, False) != first
        assert await store.seed(key._replace(name="x" + key.name), "clip", None, False) != first
        assert await store.seed(key._replace(owner="other"), "clip", None, False) != first
        assert await store.seed(key, "clip", 0, False) == 0
        assert await store.seed(key, "clip", None, False) == 0
        take = await store.seed(key, "clip", None, True)
        assert take != 0
        assert await store.seed(key, "clip", None, False) == take
        drawn = await store.seed(key, "clip", -1, False)
        assert drawn != take
        assert await store.seed(key, "clip", None, False) == drawn

    play(test)


def test_edits_that_begin_together_have_one_seed(play: Play, key: SessionKey) -> None:
    async def test(store: SessionStore) -> None:
        seeds = await asyncio.gather(*(store.seed(key, "clip", None, False) for _ in range(20)))
        assert len(set(seeds)) == 1

    play(test)


def test_a_sessions_seeds_are_bounded(
    play: Play, key: SessionKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_process, "SEEDS_KEPT", 3)
    monkeypatch.setattr(redis_sessions, "SEEDS_KEPT", 3)

    async def test(store: SessionStore) -> None:
        first = await store.seed(key, "clip 0", None, False)
        for number in range(1, 6):
            await store.seed(key, f"clip {number}", None, False)
        assert await store.seed(key, "clip 0", None, False) != first

    play(test)


def test_a_session_full_of_seeds_keeps_those_it_knows(
    play: Play, key: SessionKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_process, "SEEDS_KEPT", 3)
    monkeypatch.setattr(redis_sessions, "SEEDS_KEPT", 3)

    async def test(store: SessionStore) -> None:
        clips = [f"clip {number}" for number in range(3)]
        seeds = [await store.seed(key, clip, None, False) for clip in clips]
        assert [await store.seed(key, clip, None, False) for clip in clips] == seeds
        assert await store.seed(key, "clip 0", 5, False) == 5
        assert await store.seed(key, "clip 1", None, False) == seeds[1]

    play(test)


def test_a_job_from_its_beginning_to_its_end(play: Play, key: SessionKey) -> None:
    async def test(store: SessionStore) -> None:
        assert await store.poll(key) is None
        assert await store.original(key) is None
        state = JobRecord("job", 7, polled=True, variation="celtic")
        await store.begin(key, state)
        assert await store.poll(key) == (state, None)
        moved = replace(state, status="processing", progress=12.5)
        assert await store.report(key, moved)
        assert await store.poll(key) == (moved, None)
        done = replace(moved, status="completed", progress=100.0)
        assert await store.original(key) is None
        assert await store.finish(key, done, b"before", b"after\x00\xff")
        assert await store.poll(key) == (done, b"after\x00\xff")
        assert await store.original(key) == b"before"
        for other in (key._replace(owner="other"), key._replace(name="other")):
            assert await store.poll(other) is None
            assert await store.original(other) is None

    play(test)


def test_a_newer_job_takes_the_place_of_one_that_runs(play: Play, key: SessionKey) -> None:
    async def test(store: SessionStore) -> None:
        first, second = JobRecord("first", 1), JobRecord("second", 1)
        await store.begin(key, first)
        await store.begin(key, second)
        assert not await store.report(key, first)
        assert not await store.finish(key, replace(first, status="completed"), b"1", b"late")
        assert await store.poll(key) == (second, None)
        assert await store.original(key) is None

    play(test)


def test_a_poll_has_the_result_of_its_own_job_alone(play: Play, key: SessionKey) -> None:
    async def test(store: SessionStore) -> None:
        await done(store, key, "first", b"1", b"result")
        second = JobRecord("second", 1)
        await store.begin(key, second)
        assert await store.poll(key) == (second, None)
        failed = replace(second, status="failed")
        assert await store.finish(key, failed)
        assert await store.poll(key) == (failed, None)

    play(test)


def test_a_session_goes_on_from_its_last_result_or_from_what_was_before(
    play: Play, key: SessionKey
) -> None:
    async def test(store: SessionStore) -> None:
        assert await store.latest(key) is None
        assert await store.undo(key) is None
        assert await store.poll(key) is None
        await done(store, key, "first", b"1", b"2")
        assert await store.latest(key) == b"2"
        await store.begin(key, JobRecord("second", 1))
        assert await store.latest(key) == b"2"
        assert await store.finish(key, JobRecord("second", 1, status="failed"))
        assert await store.latest(key) == b"2"
        assert await store.undo(key) == await store.original(key) == b"1"
        assert await store.latest(key) == b"1"
        await done(store, key, "third", b"1", b"3")
        assert await store.latest(key) == b"3"
        other = key._replace(owner="other")
        assert await store.latest(other) is None

    play(test)


def test_a_result_is_dropped_where_its_own_job_is_named(play: Play, key: SessionKey) -> None:
    async def test(store: SessionStore) -> None:
        await store.consume(key, "nobody's")
        assert await store.poll(key) is None
        await done(store, key, "first", b"1", b"2")
        await store.consume(key, "another")
        assert await store.latest(key) == b"2"
        await store.consume(key, "first")
        found = await store.poll(key)
        assert found is not None
        assert (found[0].status, found[1]) == ("completed", None)
        assert await store.latest(key) == await store.original(key) == b"1"

    play(test)


def test_what_is_dropped_makes_room() -> None:
    async def test() -> None:
        store = InProcessSessions(100, 100, 60, POLL_SECONDS)
        await done(store, names(0), "first", b"x" * 40, b"y" * 50)
        await store.consume(names(0), "first")
        assert await store.sizes() == (1, 40)

    run(test())


def test_an_edit_that_fails_leaves_the_undo_of_the_one_before(play: Play, key: SessionKey) -> None:
    async def test(store: SessionStore) -> None:
        await done(store, key, "first", b"1", b"result")
        second = JobRecord("second", 1)
        await store.begin(key, second)
        assert await store.original(key) == b"1"
        assert await store.finish(key, replace(second, status="failed"))
        assert await store.original(key) == b"1"
        await done(store, key, "third", b"3", b"result")
        assert await store.original(key) == b"3"

    play(test)


async def done(
    store: SessionStore, key: SessionKey, job: str, original: bytes, result: bytes
) -> None:
    """A job from its beginning to its end."""
    await store.begin(key, JobRecord(job, 1))
    assert await store.finish(key, JobRecord(job, 1, status="completed"), original, result)


def test_a_polled_job_that_nobody_asks_after_is_not_wanted(play: Play, key: SessionKey) -> None:
    async def test(store: SessionStore) -> None:
        state = JobRecord("job", 1, polled=True)
        await store.begin(key, state)
        assert await store.report(key, state)
        await asyncio.sleep(0.3)
        assert not await store.report(key, state)
        await store.poll(key)
        assert await store.report(key, state)
        listened = JobRecord("listened", 1)
        await store.begin(key, listened)
        await asyncio.sleep(0.3)
        assert await store.report(key, listened)

    play(test)


def run(test: Awaitable[None]) -> None:
    async def awaited() -> None:
        await test

    asyncio.run(awaited())


def names(number: int) -> SessionKey:
    return SessionKey("owner", str(number))


async def filled(store: InProcessSessions, number: int, size: int, *, runs: bool = False) -> None:
    """A session with `size` bytes of audio, whose next job runs or has failed."""
    await done(store, names(number), f"job {number}", b"x" * size, b"")
    await store.begin(names(number), JobRecord("next", 1))
    if not runs:
        await store.finish(names(number), JobRecord("next", 1, status="failed"))


def test_memory_is_bounded_by_number_and_drops_the_longest_unused() -> None:
    async def test() -> None:
        store = InProcessSessions(3, 10_000, 60, POLL_SECONDS)
        for number in range(3):
            await filled(store, number, 1)
        assert await store.original(names(0)) is not None  # used: 1 is the oldest now
        await filled(store, 3, 1)
        assert await store.original(names(1)) is None
        assert await store.original(names(0)) is not None
        assert await store.sizes() == (3, 3)

    run(test())


def test_memory_is_bounded_by_bytes_and_never_drops_a_running_job() -> None:
    async def test() -> None:
        store = InProcessSessions(100, 100, 60, POLL_SECONDS)
        await filled(store, 0, 40, runs=True)
        await filled(store, 1, 40)
        await filled(store, 2, 40)
        assert await store.sizes() == (2, 80)
        assert await store.original(names(1)) is None
        assert await store.original(names(0)) is not None
        with pytest.raises(Problem) as refused:
            await filled(store, 3, 70)
        assert (refused.value.status, refused.value.retry_after) == (503, 5)
        assert await store.original(names(0)) is not None
        # It would not have fitted without this one either, which nobody has worked on lately.
        assert await store.original(names(2)) is not None
        sizes = await store.sizes()
        assert sizes is not None
        assert sizes[1] <= 100

    run(test())


def test_memory_forgets_with_age() -> None:
    async def test() -> None:
        store = InProcessSessions(100, 100, 0.2, POLL_SECONDS)
        await filled(store, 0, 10, runs=True)
        await filled(store, 1, 10)
        for _ in range(3):  # it goes on, and is in nobody's way
            await asyncio.sleep(0.1)
            assert await store.report(names(0), JobRecord("next", 1))
        assert await store.original(names(1)) is None
        assert await store.original(names(0)) is not None
        assert await store.sizes() == (1, 10)

    run(test())


def test_memory_forgets_with_age_where_nobody_asks() -> None:
    async def test() -> None:
        store = InProcessSessions(100, 100, 0.2, POLL_SECONDS)
        await filled(store, 0, 10)
        audio = weakref.ref(store._sessions[names(0)])
        await asyncio.sleep(0.5)
        assert audio() is None
        await store.close()

    run(test())


def test_what_redis_loses_under_a_running_job_is_written_anew(
    redis_url: str, key: SessionKey
) -> None:
    async def test() -> None:
        store, redis = RedisSessions(redis_url, 60, POLL_SECONDS), Redis.from_url(redis_url)
        state = JobRecord("job", 1, polled=True)
        await store.begin(key, state)
        await redis.flushall()
        assert await store.report(key, state)
        assert await store.poll(key) == (state, None)
        await redis.flushall()
        over = replace(state, status="completed")
        assert await store.finish(key, over, b"before", b"after")
        assert await store.poll(key) == (over, b"after")
        await redis.aclose()
        await store.close()

    run(test())


def test_a_newer_gateways_state_is_read_as_far_as_it_is_known(
    redis_url: str, key: SessionKey
) -> None:
    """During an upgrade both have one Redis."""

    async def test() -> None:
        store, redis = RedisSessions(redis_url, 60, POLL_SECONDS), Redis.from_url(redis_url)
        state = JobRecord("job", 7, polled=True)
        await store.begin(key, state)
        newer = {**state.as_dict(), "mood": "of a later version"}
        name = redis_sessions._name(key)
        assert json.loads(await redis.hget(name, "state")) == state.as_dict()
        await redis.hset(name, "state", json.dumps(newer))
        assert await store.poll(key) == (state, None)
        assert await store.report(key, state)
        await redis.aclose()
        await store.close()

    run(test())


def test_redis_forgets_with_age(redis_url: str, key: SessionKey) -> None:
    async def test() -> None:
        store = RedisSessions(redis_url, 1, POLL_SECONDS)
        await done(store, key, "job", b"audio", b"result")
        first = await store.seed(key, "clip", None, False)
        await asyncio.sleep(1.5)
        assert await store.original(key) is None
        assert await store.seed(key, "clip", None, False) != first
        await store.close()

    run(test())


def test_without_redis_it_is_a_503_and_no_ping(tmp_path: object) -> None:
    async def test() -> None:
        store = RedisSessions(f"unix://{tmp_path}/nobody.sock", 60, POLL_SECONDS)
        assert not await store.ping()
        with pytest.raises(Problem) as refused:
            await store.poll(names(0))
        assert (refused.value.status, refused.value.retry_after) == (503, 5)
        await store.close()

    run(test())
