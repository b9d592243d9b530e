"""
The store in memory, on a clock that is moved by hand: what takes too long with a real one.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio
import pytest

from orchestrator_async.stores import MemoryStore, SharedState, StoreSession
from orchestrator_async.stores._record import (
    LAST_GENERATION,
    LONGEST,
    LONGEST_LEASE,
    MOST,
    bucket_width,
    count,
    milliseconds,
    record_of,
    share,
)

from .parts import (
    HALF_OPEN,
    LONG,
    OPEN,
    Listener,
    calls,
    claim,
    half_open,
    isolate,
    moved,
    opened,
    run,
    state_of,
)

C = "circuit"
DAY = 86_400.0


class Clock:
    """
    Tells what it is set to.
    """

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock=clock)


@pytest.fixture
async def session(store: MemoryStore) -> AsyncIterator[StoreSession]:
    async with store.session(Listener()) as it:
        yield it


# Times


async def test_a_time_passes_to_the_millisecond(
    session: StoreSession, clock: Clock
) -> None:
    state = await moved(session, C, opened(5.0))
    clock.now += 4.999
    answer = await session.change(C, claim(state, lease=3.0))
    assert (answer.done, answer.state.rest) == (False, 0.001)
    clock.now += 0.001
    answer = await session.change(C, claim(state, lease=3.0))
    assert (answer.done, answer.state.rest) == (True, 3.0)
    clock.now += 2.999
    assert not (await session.change(C, claim(state, "another"))).done
    clock.now += 0.001
    assert (await session.change(C, claim(state, "another"))).done


async def test_each_time_that_a_clock_can_tell_is_one(
    session: StoreSession, clock: Clock
) -> None:
    """
    1.001 * 1000 is 1000.9999999999999.
    """
    clock.now = 1.001
    state = await moved(session, C, opened(0.3))
    clock.now = 1.301
    assert (await session.change(C, claim(state))).done


async def test_what_a_sender_knows_runs_down_from_then_on(
    session: StoreSession, clock: Clock
) -> None:
    known = half_open(10.0, generation=5)
    assert not (await session.change(C, run(known))).done
    clock.now += 9.999
    assert not (await session.change(C, claim(known, "another"))).done
    clock.now += 0.001
    assert (await session.change(C, claim(replace(known, rest=0.0), "another"))).done


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)
async def test_in_virtual_time_as_well() -> None:
    store = MemoryStore(clock=anyio.current_time)
    async with store.session(Listener()) as session:
        state = await moved(session, C, opened(30.0))
        await anyio.sleep(29.0)
        assert not (await session.change(C, claim(state))).done
        await anyio.sleep(1.0)
        assert (await session.change(C, claim(state))).done


async def test_a_run_counts_for_its_time(session: StoreSession, clock: Clock) -> None:
    await session.change(C, run(process="one", failures=2, lasts=10.0))
    clock.now += 9.999
    other = run(process="two", failures=1, threshold=9)
    assert not (await session.change(C, other)).done
    answer = await session.change(C, replace(other, threshold=3))
    assert answer.done
    await moved(session, "second", SharedState())
    state = await state_of(session, "second")
    assert state is not None
    await session.change("second", run(state, process="one", failures=2, lasts=10.0))
    clock.now += 10.0
    answer = await session.change("second", run(state, process="two", failures=9))
    assert not answer.done


# Buckets of calls


async def test_the_time_window_is_ten_buckets_long(
    session: StoreSession, clock: Clock
) -> None:
    said = calls(calls=1, failures=1, window_seconds=100.0, minimum_calls=10)
    for _ in range(9):
        assert not (await session.change(C, said)).done
        clock.now += 10.0
    assert (await session.change(C, said)).done


@pytest.mark.parametrize(("seconds", "opens"), [(90, True), (100, False)])
async def test_one_bucket_more_is_out_of_it(
    session: StoreSession, clock: Clock, seconds: int, opens: bool
) -> None:
    said = calls(calls=1, failures=1, window_seconds=100.0, minimum_calls=10)
    await session.change(C, said)
    clock.now += seconds
    answer = await session.change(C, replace(said, calls=9, failures=9))
    assert answer.done is opens


@pytest.mark.parametrize(("between", "opens"), [(4, True), (9, False)])
async def test_the_count_window_goes_back_as_far_as_it_needs(
    session: StoreSession, clock: Clock, between: int, opens: bool
) -> None:
    """
    With four calls between, it needs the five before these for its ten.
    """
    said = calls(window_calls=10, window_seconds=0.0, minimum_calls=10)
    for number, failed in [(5, 5), (between, 0)]:
        answer = await session.change(C, replace(said, calls=number, failures=failed))
        assert not answer.done
        clock.now += 1.0
    answer = await session.change(C, replace(said, calls=1, failures=1))
    assert answer.done is opens


@pytest.mark.parametrize(("seconds", "opens"), [(59, True), (60, False)])
async def test_it_holds_no_more_than_sixty_buckets(
    session: StoreSession, clock: Clock, seconds: int, opens: bool
) -> None:
    said = calls(window_calls=10, window_seconds=0.0, minimum_calls=10)
    await session.change(C, replace(said, calls=9, failures=9))
    clock.now += seconds
    answer = await session.change(C, replace(said, calls=1, failures=1))
    assert answer.done is opens


async def test_buckets_of_another_width_are_forgotten(
    session: StoreSession, clock: Clock
) -> None:
    clock.now = 5.0
    await session.change(C, calls(calls=9, failures=9, window_seconds=600.0))
    other = calls(calls=1, failures=1, window_seconds=10.0)
    assert not (await session.change(C, other)).done


@pytest.mark.parametrize("shares", [(0.0, float("inf")), (float("inf"), 0.0)])
async def test_a_share_of_nothing_opens_with_the_first_bad_call(
    session: StoreSession, shares: tuple[float, float]
) -> None:
    failure_rate, slow_rate = shares
    said = calls(calls=100, minimum_calls=1, failure_rate=failure_rate, slow_rate=slow_rate)
    assert not (await session.change(C, said)).done
    assert (await session.change(C, replace(said, failures=1, slow=1))).done


# What is past


async def test_circuits_are_forgotten_a_day_after_their_time(
    session: StoreSession, clock: Clock
) -> None:
    await moved(session, C, opened(1000.0))
    clock.now += 1000.0 + DAY - 1.0
    assert await state_of(session, C) is not None
    clock.now += 1.0
    assert await state_of(session, C) is None
    answer = await session.change(C, run())
    assert answer.state.generation == 0


async def test_isolated_ones_after_a_month(session: StoreSession, clock: Clock) -> None:
    await session.change(C, isolate(add=("a",)))
    clock.now += 30 * DAY - 1.0
    assert await state_of(session, C) is not None
    clock.now += 1.0
    assert await state_of(session, C) is None


async def test_nothing_is_kept_of_those_that_are_past(
    store: MemoryStore, session: StoreSession, clock: Clock
) -> None:
    for number in range(3000):
        await moved(session, f"first {number}", opened())
    clock.now += 2 * DAY
    for number in range(3000):
        await moved(session, f"second {number}", opened())
    assert repr(store) == "<MemoryStore: 3000 circuits>"
    assert await state_of(session, "second 0") is not None


async def test_nor_of_a_claim_that_is_not_done(
    store: MemoryStore, session: StoreSession
) -> None:
    await session.change(C, claim(opened(generation=5)))
    assert repr(store) == "<MemoryStore: 0 circuits>"


async def test_a_process_is_alive_for_ten_seconds(
    session: StoreSession, clock: Clock
) -> None:
    await session.beat("one", {"tool": "1"})
    clock.now += 10.0
    assert await session.beat("two", {}) == 2
    clock.now += 0.001
    assert await session.beat("two", {}) == 1
    assert await session.figures() == {"two": {}}
    assert await session.beat("one", {"other": "2"}) == 2
    figures = await session.figures()
    assert figures["one"] == {"tool": "1", "other": "2"}
    clock.now += 3599.999
    await session.beat("two", {})
    assert await session.beat("one", {}) == 2
    assert (await session.figures())["one"] == {"tool": "1", "other": "2"}
    clock.now += 3600.0
    await session.beat("two", {})
    assert await session.beat("one", {}) == 2
    assert (await session.figures())["one"] == {}


# Bounds


def test_times_are_whole_milliseconds_within_bounds() -> None:
    given: list[float] = [0.0, -1.0, float("nan"), 0.0004, 0.0006, 1.5, 1e9, float("inf")]
    found = [milliseconds(each, 10_000) for each in given]
    assert found == [0, 0, 0, 0, 1, 1500, 10_000, 10_000]


def test_counts_are_within_bounds() -> None:
    assert [count(each) for each in (-1, 0, 5, 10**30)] == [0, 0, 5, MOST]


def test_shares_are_finite() -> None:
    given = [0.0, 0.05, 1.0, float("inf"), float("nan"), -1.0]
    assert [share(each) for each in given] == [0.0, 0.05, 1.0, 2.0, 2.0, 0.0]


def test_a_bucket_is_a_tenth_of_the_window_or_a_second() -> None:
    given = [60.0, 0.0, 0.001, 0.014, float("nan"), 12.345]
    assert [bucket_width(each) for each in given] == [6000, 1000, 1, 1, 1000, 1234]


def test_a_record_is_within_bounds() -> None:
    huge: Any = 10**30
    record = record_of(
        SharedState(
            generation=huge,
            state=OPEN,
            rest=1e300,
            length=float("inf"),
            failures=huge,
            reopenings=-5,
            successes=huge,
            pauses=huge,
            isolations=huge,
        )
    )
    assert (record.generation, record.rest, record.length) == (
        LAST_GENERATION,
        LONGEST,
        LONGEST,
    )
    assert (record.failures, record.reopenings, record.isolations) == (MOST, 0, MOST)
    lease = record_of(SharedState(state=HALF_OPEN, rest=1e300, length=LONG))
    assert lease.rest == LONGEST_LEASE


def test_its_clock_is_monotonic_unless_another_is_given() -> None:
    code = (
        "import time\n"
        "from orchestrator_async.stores import MemoryStore\n"
        "from inspect import signature\n"
        "assert signature(MemoryStore).parameters['clock'].default is time.monotonic\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
