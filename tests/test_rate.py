"""
The rate limit: what it lets through, whom it lets go first, and what is given back.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import itertools
import math
import random
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_async import _rate
from orchestrator_async._rate import (
    Rate,
    RateLimit,
    Token,
    _Meter,
    acquire,
    take,
    wait_for,
)

from .clock import AutojumpEventLoop, real_time, virtual_time
from .rig import on_asyncio, run
from .support import HandClock, when_blocked

YEAR = 365 * 86_400.0


class Plain:
    """
    The rule as slow as it is obvious: every question goes through all calls once more.

    It has a time of its own, of exact fractions, that goes on by as much as the clock does.
    """

    def __init__(self, limit: RateLimit) -> None:
        self.interval = Fraction(limit.seconds) / limit.calls
        self.burst = limit.burst
        self.now = Fraction(0)
        self.read: float | None = None
        self.calls: dict[int, Fraction] = {}
        self.number = 0

    def see(self, now: float) -> None:
        if not math.isfinite(now):
            return
        if self.read is not None and now > self.read:
            self.now += Fraction(now) - Fraction(self.read)
        self.read = now

    def wait(self, ahead: int = 0) -> Fraction:
        tat = Fraction(-(10**400))
        for at in self.calls.values():
            tat = max(at, tat) + self.interval
        tat = max(self.now, tat) + ahead * self.interval
        return max(Fraction(0), tat - (self.burst - 1) * self.interval - self.now)

    def take(self, now: float) -> int | Fraction:
        self.see(now)
        wait = self.wait()
        if wait:
            return wait
        self.number += 1
        self.calls[self.number] = self.now
        return self.number

    def assert_promise(self) -> None:
        assert_promise(list(self.calls.values()), self.interval, self.burst)


def assert_promise(
    times: list[Fraction], interval: Fraction, burst: int, rounding: Fraction = Fraction(0)
) -> None:
    """
    In each window of the calls that were made there are no more than was promised.
    """
    for first, last in itertools.combinations_with_replacement(range(len(times)), 2):
        window = times[last] - times[first] + rounding
        assert last - first + 1 <= burst + window / interval, (first, last)


def ask(rate: Rate, now: float) -> Token | float:
    """
    A token of this rate alone, or the seconds until there is one.
    """
    return take((rate,), now) or wait_for(rate, (rate,))


async def turn(
    rate: Rate, clock: Callable[[], float], bound: float = math.inf
) -> Token | float:
    """
    A turn by this rate alone, waited for, or the seconds after which it would come.
    """
    deadline = anyio.current_time() + bound
    answer = await acquire((rate,), clock, lambda: deadline - anyio.current_time())
    if isinstance(answer, Token):
        return answer
    assert answer.rate is rate
    return answer.wait


def taken(rate: Rate, now: float) -> Token:
    token = ask(rate, now)
    assert isinstance(token, Token), token
    return token


def refused(rate: Rate, now: float) -> float:
    wait = ask(rate, now)
    assert isinstance(wait, float)
    assert 0 <= wait < math.inf
    return wait


def at_once(rate: Rate, now: float, most: int = 10_000) -> int:
    """
    How many are let in at this time; they are not given back.
    """
    for number in range(most):
        if isinstance(ask(rate, now), float):
            return number
    raise AssertionError("there is no end to it")


# The rule


def test_a_burst_is_let_in_at_once_and_then_one_an_interval() -> None:
    rate = Rate(RateLimit(calls=2, seconds=10.0, burst=3))
    assert at_once(rate, 100.0) == 3
    assert refused(rate, 100.0) == 5.0
    assert refused(rate, 104.0) == 1.0
    assert at_once(rate, 105.0) == 1
    assert refused(rate, 105.0) == 5.0
    assert at_once(rate, 115.0) == 2
    assert at_once(rate, 115.0 + YEAR) == 3


def test_one_at_a_time_is_the_default() -> None:
    rate = Rate(RateLimit(calls=60, seconds=60))
    assert rate.limit == RateLimit(calls=60, seconds=60, burst=1, max_wait=0.0)
    assert at_once(rate, 0) == 1
    assert refused(rate, 0.25) == 0.75
    assert at_once(rate, 1) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *itertools.product(("calls", "burst"), [0, -1, 1.0, True, "1", None, 10**20]),
        *itertools.product(
            ("seconds", "max_wait"), [-1, math.nan, math.inf, True, "1", None, 10**400]
        ),
        ("seconds", 0),
        ("seconds", 1e-10),
        ("seconds", 1e11),
        ("seconds", 1e10 + 1),
        ("burst", 10**9 + 1),
    ],
)
def test_a_setting_that_cannot_be_is_named(name: str, value: Any) -> None:
    what = "whole number" if name in ("calls", "burst") else "number"
    with pytest.raises(ValueError, match=f"{name}=.* cannot be; expected a {what} from"):
        RateLimit(**{"calls": 1, "seconds": 1.0, name: value})


def test_no_rate_is_more_than_a_billion_a_second() -> None:
    with pytest.raises(ValueError, match=r"calls=1000000000000 cannot be; .* a billion a"):
        RateLimit(calls=10**12, seconds=1.0)
    with pytest.raises(ValueError, match="expected a whole number from"):
        RateLimit(calls=10**19 + 1, seconds=1e10)


def test_settings_are_frozen_and_take_names_only() -> None:
    limit = RateLimit(calls=1, seconds=1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        limit.calls = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        RateLimit(1, 1.0)  # type: ignore[call-arg]


def test_the_largest_and_the_smallest_settings_can_be() -> None:
    for calls, seconds in ((1, 1e10), (10**19, 1e10), (1, 1e-9), (10**9, 1)):
        rate = Rate(RateLimit(calls=calls, seconds=seconds, burst=10**9, max_wait=1e308))
        taken(rate, 0.0)
        rate = Rate(RateLimit(calls=calls, seconds=seconds))
        assert at_once(rate, 0.0) == 1
        assert refused(rate, 0.0) == pytest.approx(seconds / calls)


# Times are eighths and intervals are too, so that floats are exact and both must agree.
EIGHTHS = st.integers(0, 80).map(lambda number: number / 8)
LIMITS = st.builds(
    RateLimit,
    calls=st.sampled_from([1, 2, 4]),
    seconds=st.sampled_from([1.0, 4.0, 12.0]),
    burst=st.integers(1, 6),
)
USUAL = [
    st.tuples(st.just("pass"), EIGHTHS | st.just(YEAR)),
    st.tuples(st.just("pass"), st.sampled_from([0.125, 0.25, 0.5, 1.0])),
    st.tuples(st.just("take"), st.integers(1, 4)),
    st.tuples(st.just("give back"), st.integers(0, 40)),
]
ODD = [
    st.tuples(st.just("turn to"), EIGHTHS | st.sampled_from([-YEAR, YEAR])),
    st.tuples(st.just("take at"), st.sampled_from([math.nan, float("inf"), -math.inf])),
]


def drive(limit: RateLimit, steps: list[tuple[str, Any]], now: float = 1000.0) -> None:
    """
    The rate and the plain one agree on every call and every wait, and keep the promise.
    """
    rate, plain, tokens = Rate(limit), Plain(limit), dict[int, Token]()
    for what, value in [*steps, ("take", 10)]:
        match what:
            case "pass":
                now += value
            case "turn to":
                now = value
            case "take" | "take at":
                for _ in range(value if what == "take" else 1):
                    at = now if what == "take" else value
                    mine, theirs = ask(rate, at), plain.take(at)
                    if isinstance(theirs, Fraction):
                        assert mine == theirs
                    else:
                        assert isinstance(mine, Token)
                        tokens[theirs] = mine
            case _ if tokens:
                number = sorted(tokens)[value % len(tokens)]
                tokens.pop(number).give_back()
                del plain.calls[number]
    plain.assert_promise()


@settings(max_examples=400)
@given(LIMITS, st.lists(st.one_of(USUAL), max_size=60))
def test_it_lets_in_what_the_rule_says_as_if_what_was_given_back_had_never_been(
    limit: RateLimit, steps: list[tuple[str, Any]]
) -> None:
    drive(limit, steps)


@settings(max_examples=400)
@given(LIMITS, st.lists(st.one_of(USUAL + ODD), max_size=60))
def test_a_clock_that_goes_back_or_tells_nothing_is_one_that_stands(
    limit: RateLimit, steps: list[tuple[str, Any]]
) -> None:
    drive(limit, steps)


# Rounding


@pytest.mark.parametrize("burst", [1, 3])
@pytest.mark.parametrize("start", [0.0, 0.1, 1e6, 1e9, -1e9])
@pytest.mark.parametrize(
    ("calls", "seconds"), [(10, 1.0), (3, 1.0), (7, 60.0), (1000, 1.0)]
)
def test_calls_that_come_evenly_are_never_refused_by_rounding(
    calls: int, seconds: float, start: float, burst: int
) -> None:
    rate = Rate(RateLimit(calls=calls, seconds=seconds, burst=burst))
    assert at_once(rate, start) == burst
    for number in range(1, 10_000):
        taken(rate, float(Fraction(start) + number * Fraction(seconds) / calls))


def test_a_caller_after_a_large_burst_is_let_in_when_it_was_told_to_come() -> None:
    # A sum of many intervals is rounded by more than the time is.
    draw = random.Random(1)
    for calls, seconds in itertools.product((3, 7, 10), (1 / 3, 60.0, 3600.0)):
        for start in (0.0, 0.1, *(draw.random() for _ in range(50))):
            meter = _Meter(RateLimit(calls=calls, seconds=seconds, burst=1_000))
            now = start
            meter.see(now)
            for _ in range(1_000):
                meter.take()
            for _ in range(10):
                now += meter.wait()
                meter.see(now)
                assert meter.wait() == 0.0
                meter.take()
                if draw.random() < 0.5:
                    now += draw.random() * seconds / calls
                    meter.see(now)
                    meter.give_back(draw.randint(990, 1_000))


@pytest.mark.parametrize("start", [1000.0, 1e9])
def test_a_caller_that_comes_when_it_was_told_to_is_let_in(start: float) -> None:
    rate = Rate(RateLimit(calls=3, seconds=1.0, burst=2))
    now, times = start, list[Fraction]()
    for _ in range(2_000):
        while not isinstance(token := ask(rate, now), Token):
            assert token > 0
            assert now + token > now
            now += token
        times.append(Fraction(now))
    assert float(times[-1] - times[0]) == pytest.approx(1998 / 3, abs=1e-5)
    step = Fraction(math.ulp(start))
    assert_promise(times[-300:], Fraction(1, 3), 2, rounding=8 * step)
    assert all(
        times[n + size] - times[n] + 8 * step >= (size - 1) * Fraction(1, 3)
        for size in (1, 2, 3, 100, 1500)
        for n in range(len(times) - size)
    )


@pytest.mark.parametrize("now", [1e15, 1e300, -1e300, 5e-324])
def test_no_clock_is_too_large_for_a_burst_to_end(now: float) -> None:
    rate = Rate(RateLimit(calls=1000, seconds=1.0, burst=5))
    assert at_once(rate, now) == 5
    assert refused(rate, now) > 0
    assert at_once(rate, 0.0) <= 5
    assert at_once(rate, 10.0) == 5


# A clock that is none


def test_a_clock_that_goes_back_leaves_what_was_left() -> None:
    rate = Rate(RateLimit(calls=1, seconds=10.0, burst=2))
    assert at_once(rate, 1e6) == 2
    assert refused(rate, 1e6 + 4) == 6.0
    assert refused(rate, 7.0) == 6.0
    assert refused(rate, 12.0) == 1.0
    assert at_once(rate, 13.0) == 1


def test_a_clock_that_goes_back_leaves_a_burst_that_was_there() -> None:
    rate = Rate(RateLimit(calls=1, seconds=3600.0, burst=3))
    assert at_once(rate, 1e6, 3 + 1) == 3
    assert at_once(rate, 1e6 + YEAR) == 3
    rate = Rate(RateLimit(calls=1, seconds=3600.0, burst=3))
    taken(rate, 1e6)
    assert at_once(rate, 0.0) == 2


@pytest.mark.parametrize("extreme", [1.7e308, -1.7e308])
def test_the_farthest_jumps_of_a_clock_are_jumps_like_others(extreme: float) -> None:
    rate = Rate(RateLimit(calls=1, seconds=10.0, burst=2))
    for now in (extreme, -extreme, 0.0, extreme, 5.0):
        assert at_once(rate, now) <= 2
    rate.reload(RateLimit(calls=1, seconds=20.0, burst=2), -extreme)
    assert at_once(rate, 100.0) <= 2
    assert at_once(rate, 140.0) == 2


def test_a_clock_that_tells_nothing_at_first_gives_no_second_burst() -> None:
    rate = Rate(RateLimit(calls=1, seconds=10.0, burst=2))
    assert at_once(rate, math.nan) == 2
    assert refused(rate, math.nan) == 10.0
    assert refused(rate, 1e9) == 10.0
    assert at_once(rate, 1e9 + 10) == 1


# Given back


def test_a_token_is_given_back_once() -> None:
    rate = Rate(RateLimit(calls=1, seconds=10.0, burst=2))
    token, _ = taken(rate, 0.0), taken(rate, 0.0)
    token.give_back()
    token.give_back()
    assert at_once(rate, 0.0) == 1


def test_what_would_have_run_over_is_not_given_back() -> None:
    rate = Rate(RateLimit(calls=1, seconds=10.0, burst=1))
    token = taken(rate, 0.0)
    taken(rate, 50.0)
    token.give_back()
    assert refused(rate, 50.0) == 10.0
    # The second would have come to a bucket that was full but for four seconds.
    rate = Rate(RateLimit(calls=1, seconds=10.0, burst=2))
    token = taken(rate, 0.0)
    taken(rate, 6.0)
    taken(rate, 10.0)
    token.give_back()
    assert refused(rate, 10.0) == 6.0


def test_all_of_a_burst_is_given_back_in_any_order() -> None:
    for order in itertools.permutations(range(4)):
        rate = Rate(RateLimit(calls=1, seconds=10.0, burst=4))
        tokens = [taken(rate, 5.0 + number / 8) for number in range(4)]
        for number in order:
            tokens[number].give_back()
        assert at_once(rate, 6.0) == 4, order


def test_any_two_calls_of_five_may_be_given_back() -> None:
    limit = RateLimit(calls=1, seconds=1.0, burst=5)
    for gaps in itertools.product((0.0, 0.25, 0.75, 1.25), repeat=4):
        for order in itertools.permutations(range(1, 6), 2):
            meter, plain, now = _Meter(limit), Plain(limit), 0.0
            for gap in (0.0, *gaps):
                now += gap
                meter.see(now)
                assert meter.take() == plain.take(now)
            for number in order:
                meter.give_back(number)
                del plain.calls[number]
                assert meter.wait(5) == plain.wait(5)
            # What is said of a moment is said of all later ones, for the calls that are left
            # must be let in by them as well.
            for _ in range(6):
                now += 0.5
                meter.see(now)
                plain.see(now)
                assert meter.wait(5) == plain.wait(5)
                assert meter.take() > 0
                plain.number += 1
                plain.calls[plain.number] = plain.now
                assert meter.wait(9) == plain.wait(9)


def test_memory_is_bounded_and_the_oldest_tokens_are_past_giving_back() -> None:
    most = _rate._MOST_RUNS
    rate = Rate(RateLimit(calls=1, seconds=10.0, burst=10**6))
    tokens = [taken(rate, number / 1024) for number in range(most + 501)]
    assert len(rate._meter._runs) == most
    tokens.pop().give_back()
    now = (most + 501) / 1024
    left = rate._meter._left()
    for token in tokens[:501]:
        token.give_back()
    assert rate._meter._left() == left
    for token in tokens[501:]:
        token.give_back()
    # The 501 calls that cannot be given back count from the first one on.
    assert rate._meter._left() == pytest.approx(501 * 10.0 - now, abs=0.1)
    assert len(rate._meter._runs) <= most


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 5))
def test_what_is_forgotten_of_old_calls_lets_nothing_more_through(
    order: list[int], most: int
) -> None:
    kept, _rate._MOST_RUNS = _rate._MOST_RUNS, most  # type: ignore[misc]
    try:
        limit = RateLimit(calls=1, seconds=1.0, burst=6)
        rate, plain, tokens = Rate(limit), Plain(limit), list[tuple[int, Token]]()
        now = 0.0
        for each in order:
            now += (each % 7) / 8
            mine, theirs = ask(rate, now), plain.take(now)
            assert isinstance(theirs, int) or isinstance(mine, float)
            if isinstance(mine, Token):
                assert isinstance(theirs, int)
                tokens.append((theirs, mine))
            elif isinstance(theirs, int):
                del plain.calls[theirs]  # it was not let in
            assert len(rate._meter._runs) <= most
            if each % 3 == 0 and tokens:
                number, token = tokens.pop(each % len(tokens))
                token.give_back()
                del plain.calls[number]
        plain.assert_promise()
    finally:
        _rate._MOST_RUNS = kept  # type: ignore[misc]


def test_no_more_is_kept_than_may_matter() -> None:
    rate = Rate(RateLimit(calls=1, seconds=10.0, burst=50))
    for _ in range(50):
        taken(rate, float("0"))  # each time another object
    assert len(rate._meter._runs) == 1
    for number in range(1, 100):
        taken(rate, 10.0 * number)
        assert len(rate._meter._runs) <= 2
    taken(rate, YEAR)
    assert len(rate._meter._runs) == 1
    for _ in range(2):
        taken(rate, YEAR + 0.25)
        assert len(rate._meter._runs) == 2


# Other settings


def test_a_reload_keeps_what_was_used() -> None:
    rate = Rate(RateLimit(calls=1, seconds=10.0, burst=3))
    assert [taken(rate, 0.0) for _ in range(2)]
    rate.reload(RateLimit(calls=1, seconds=100.0, burst=3), 5.0)  # 1.5 in use
    assert at_once(rate, 5.0) == 1
    assert refused(rate, 5.0) == 50.0
    rate.reload(RateLimit(calls=1, seconds=1.0, burst=5), 5.0)  # 2.5 in use
    assert rate.limit.burst == 5
    assert at_once(rate, 5.0) == 2
    assert refused(rate, 5.0) == 0.5
    rate.reload(rate.limit, 5.0)
    assert refused(rate, 5.0) == 0.5


def test_a_reload_of_what_is_unused_has_the_new_burst() -> None:
    rate = Rate(RateLimit(calls=1, seconds=10.0))
    rate.reload(RateLimit(calls=1, seconds=10.0, burst=4), 0.0)
    assert at_once(rate, 0.0) == 4
    rate.reload(RateLimit(calls=1, seconds=10.0, burst=7), 1000.0)
    assert at_once(rate, 1000.0) == 7


def test_no_reload_keeps_anybody_out_for_longer_than_its_own_seconds() -> None:
    rate = Rate(RateLimit(calls=1000, seconds=1.0, burst=1000))
    assert at_once(rate, 0.0) == 1000
    rate.reload(RateLimit(calls=1, seconds=60.0), 0.0)
    assert refused(rate, 0.0) == 60.0
    assert at_once(rate, 60.0) == 1
    assert refused(rate, 60.0) == 60.0
    rate = used_up(Rate(RateLimit(calls=1000, seconds=1.0, burst=1000)), 0.0)
    rate.reload(RateLimit(calls=10, seconds=60.0, burst=3), 0.0)
    assert refused(rate, 0.0) == 60.0
    rate = used_up(Rate(RateLimit(calls=1000, seconds=1.0, burst=1000)), 0.0)
    rate.reload(RateLimit(calls=10, seconds=60.0, burst=4), 0.0)
    assert refused(rate, 0.0) == 60.0


def test_a_reload_of_what_is_unused_has_nothing_to_waive() -> None:
    rate = Rate(RateLimit(calls=1, seconds=10.0))
    rate.reload(RateLimit(calls=1, seconds=0.25), 0.0)
    taken(rate, 0.0)
    rate.reload(RateLimit(calls=1, seconds=0.25, burst=100), 0.0)
    assert rate._meter._left() == 0.25


def test_what_a_reload_has_waived_is_counted_in_intervals_as_well() -> None:
    rate = used_up(Rate(RateLimit(calls=1, seconds=1.0, burst=10)), 0.0)
    rate.reload(RateLimit(calls=1, seconds=1.0, burst=2), 0.0)
    rate.reload(RateLimit(calls=1, seconds=4.0, burst=2), 0.0)
    assert refused(rate, 0.0) == 4.0
    rate.reload(RateLimit(calls=1, seconds=4.0, burst=100), 0.0)
    assert rate._meter._left() == 40.0
    assert at_once(rate, 0.0) == 90


@pytest.mark.parametrize(("now", "left"), [(1.5, 9.5), (2.5, 8.5), (100.0, 1.0)])
def test_what_a_reload_has_waived_is_paid_by_time_that_nobody_uses(
    now: float, left: float
) -> None:
    rate = used_up(Rate(RateLimit(calls=1, seconds=1.0, burst=10)), 0.0)
    rate.reload(RateLimit(calls=1, seconds=1.0, burst=2), 0.0)
    taken(rate, now)
    rate.reload(RateLimit(calls=1, seconds=1.0, burst=100), now)
    assert rate._meter._left() == left


def test_reloads_there_and_back_give_no_burst() -> None:
    large = RateLimit(calls=1, seconds=10.0, burst=100)
    small = RateLimit(calls=1, seconds=10.0, burst=1)
    rate = Rate(large)
    tokens = [taken(rate, 0.0) for _ in range(100)]
    for _ in range(3):
        rate.reload(small, 0.0)
        assert at_once(rate, 0.0) == 0
        rate.reload(large, 0.0)
        assert at_once(rate, 0.0) == 0
    # Nor does time that passes between: what it pays is paid once.
    rate.reload(small, 0.0)
    assert at_once(rate, 30.0) == 1
    rate.reload(large, 30.0)
    assert at_once(rate, 30.0) == 2
    for token in tokens:  # the small burst has been full since
        token.give_back()
    assert at_once(rate, 30.0) == 0
    rate.reload(small, 30.0)
    rate.reload(large, 30.0 + YEAR)
    assert at_once(rate, 30.0 + YEAR) == 100
    rate.reload(small, 30.0 + YEAR)
    assert at_once(rate, 30.0 + 2 * YEAR) == 1
    rate.reload(large, 30.0 + 2 * YEAR)
    assert at_once(rate, 30.0 + 2 * YEAR) == 99


def test_a_token_from_before_a_reload_is_given_back_after_it() -> None:
    rate = Rate(RateLimit(calls=1, seconds=10.0, burst=3))
    tokens = [taken(rate, float(number)) for number in range(3)]
    rate.reload(RateLimit(calls=1, seconds=100.0, burst=3), 2.0)
    waited = refused(rate, 2.0)
    tokens[1].give_back()
    assert at_once(rate, 2.0) == 1
    assert refused(rate, 2.0) == pytest.approx(waited)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("pass"), EIGHTHS),
            st.tuples(st.just("take"), st.integers(1, 6)),
            st.tuples(st.just("give back"), st.integers(0, 40)),
            st.tuples(st.just("reload"), st.integers(1, 8)),
        ),
        max_size=40,
    )
)
def test_whatever_bursts_are_set_the_largest_of_them_is_kept_to(
    steps: list[tuple[str, Any]],
) -> None:
    # The interval stays the same, so there is one promise to hold all of it against.
    rate, now = Rate(RateLimit(calls=1, seconds=1.0, burst=8)), 0.0
    made: list[tuple[Fraction, Token]] = []
    for what, value in steps:
        match what:
            case "pass":
                now += value
            case "reload":
                rate.reload(RateLimit(calls=1, seconds=1.0, burst=value), now)
            case "take":
                answers = [ask(rate, now) for _ in range(value)]
                made += [
                    (Fraction(now), each) for each in answers if isinstance(each, Token)
                ]
            case _ if made:
                made.pop(value % len(made))[1].give_back()
    assert_promise([at for at, _ in made], Fraction(1), 8)


# Those who wait

PATIENT = 1e6


class Crowd:
    """
    Tasks that wait for their turn: in what order they came, and when each went.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float] = anyio.current_time) -> None:
        self.rate = rate
        self.clock = clock
        self.came: list[int] = []
        self.went: dict[int, float] = {}
        self.tokens: dict[int, Token] = {}
        self.refused: dict[int, float] = {}
        self.scopes: dict[int, anyio.CancelScope] = {}

    async def join(self, tasks: anyio.abc.TaskGroup, number: int) -> None:
        """
        So many begin to wait, one after the other: trio draws the order of its tasks.
        """
        for each in range(len(self.came), len(self.came) + number):
            tasks.start_soon(self.one, each)
            if not on_asyncio():  # where it would take time
                await anyio.wait_all_tasks_blocked()
        await when_blocked()

    async def one(self, number: int, bound: float = math.inf) -> None:
        with anyio.CancelScope() as self.scopes[number]:
            self.came.append(number)
            answer = await turn(self.rate, self.clock, bound)
            if isinstance(answer, Token):
                self.went[number] = anyio.current_time()
                self.tokens[number] = answer
            else:
                self.refused[number] = answer


class CountingClock:
    """
    A clock, and how often it was asked.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.clock()


def patient(calls: int, seconds: float, burst: int = 1, max_wait: float = PATIENT) -> Rate:
    return Rate(RateLimit(calls=calls, seconds=seconds, burst=burst, max_wait=max_wait))


def used_up(rate: Rate, now: float) -> Rate:
    at_once(rate, now)
    return rate


async def test_a_call_that_may_go_and_one_that_may_not_await_nothing() -> None:
    rate, clock = patient(1, 10.0, max_wait=9.0), HandClock()
    answers: list[Any] = []

    async def both() -> None:
        answers.append(await turn(rate, clock))
        answers.append(await turn(rate, clock))

    steps, ended = await run(both)
    assert ended.finished
    assert isinstance(answers[0], Token)
    assert answers[1] == 10.0
    assert steps == (await run(nothing))[0]
    assert rate.waiting == 0


async def nothing() -> None:
    pass


@virtual_time
async def test_each_waits_for_its_turn_and_no_longer() -> None:
    rate = patient(1, 10.0, burst=2)
    crowd = Crowd(rate)
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 5)
        assert rate.waiting == 3
    assert list(crowd.went) == [0, 1, 2, 3, 4]
    assert list(crowd.went.values()) == pytest.approx([0, 0, 10, 20, 30], abs=1e-6)
    assert rate.waiting == 0
    assert not rate._rows


@virtual_time
@pytest.mark.parametrize(
    ("max_wait", "bound"), [(25.0, math.inf), (PATIENT, 25.0), (25.0, 1e3), (1e3, 25.0)]
)
async def test_whoever_would_wait_for_too_long_is_refused_at_once(
    max_wait: float, bound: float
) -> None:
    rate = used_up(patient(1, 10.0, max_wait=max_wait), 0.0)
    crowd = Crowd(rate)
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(crowd.one, number, bound)
        await when_blocked()
        assert sorted(crowd.refused.values()) == [30.0, 30.0]
        assert rate.waiting == 2
    assert len(crowd.went) == 2
    assert anyio.current_time() == pytest.approx(20.0)


@virtual_time
async def test_a_wait_as_long_as_the_bound_is_not_too_long() -> None:
    rate = used_up(patient(1, 10.0), 0.0)
    assert await turn(rate, anyio.current_time, math.nextafter(10.0, 0.0)) == 10.0
    assert isinstance(await turn(rate, anyio.current_time, 10.0), Token)


@virtual_time
async def test_nobody_takes_a_token_before_those_who_wait() -> None:
    clock = HandClock()
    rate = used_up(patient(1, 10.0, burst=3), clock.now)
    crowd = Crowd(rate, clock)
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 2)
        assert refused(rate, clock.now) == 30.0
        clock.turn(30.0)  # a clock by which nobody sleeps
        assert refused(rate, clock.now) == 0.0
        assert not crowd.went
        tasks.start_soon(crowd.one, 2, 0.0)  # no wait, but its turn is after theirs
        await when_blocked()
        assert list(crowd.went) == [0, 1, 2]
        assert refused(rate, clock.now) == 10.0
    assert anyio.current_time() == 0


async def test_a_row_that_is_yet_to_be_woken_has_one_burst_and_no_more() -> None:
    clock = HandClock()
    rate = used_up(patient(1, 10.0), clock.now)
    crowd = Crowd(rate, clock)
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 2)
        clock.turn(YEAR)
        assert refused(rate, clock.now) == 20.0
        tasks.cancel_scope.cancel()


async def test_a_token_that_is_given_back_goes_to_the_first_who_waits() -> None:
    clock = HandClock()
    rate = patient(1, 3600.0, burst=2)
    tokens = [taken(rate, clock.now) for _ in range(2)]
    crowd = Crowd(rate, clock)
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 3)
        tokens[0].give_back()
        assert isinstance(ask(rate, clock.now), float)
        await when_blocked()
        assert list(crowd.went) == [0]
        crowd.tokens[0].give_back()
        await when_blocked()
        assert list(crowd.went) == [0, 1]
        assert rate.waiting == 1
        tasks.cancel_scope.cancel()
    assert rate.waiting == 0
    assert not rate._rows


async def test_the_clock_is_asked_by_the_first_alone() -> None:
    clock = CountingClock(HandClock())
    rate = used_up(patient(1, 3600.0), clock())
    crowd = Crowd(rate, clock)
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 50)
        assert clock.looks == 1 + 50 + 1
        for number in range(25):
            crowd.scopes[number].cancel()
            await when_blocked()
        assert clock.looks <= 1 + 50 + 26
        assert rate.waiting == 25
        for number in range(49, 25, -1):
            crowd.scopes[number].cancel()
        await when_blocked()
        assert clock.looks <= 1 + 50 + 26
        tasks.cancel_scope.cancel()


@virtual_time
async def test_many_wait_and_each_looks_when_it_is_the_first_and_when_it_goes() -> None:
    await assert_all_go_in_order(500)


def test_ten_thousand_may_wait() -> None:
    # Not in debug mode, in which asyncio takes ten times as long.
    options = {"loop_factory": AutojumpEventLoop}
    anyio.run(assert_all_go_in_order, 10_000, backend_options=options)


async def assert_all_go_in_order(many: int) -> None:
    rate = used_up(patient(1, 1.0), 0.0)
    clock = CountingClock(anyio.current_time)
    crowd = Crowd(rate, clock)
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, many)
        assert rate.waiting == many
    assert list(crowd.went) == list(range(many))
    assert anyio.current_time() == pytest.approx(many)
    # Once as it comes, once as the first, and once or twice as its time has come.
    assert clock.looks <= 4 * many


@virtual_time
async def test_many_tokens_at_once_are_handed_out_one_after_the_other() -> None:
    clock = HandClock()
    rate = used_up(patient(1, 1.0, burst=300), clock.now)
    crowd = Crowd(rate, clock)
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 500)
        clock.turn(300.0)
        ask(rate, clock.now)
        await anyio.sleep(1e-3)
        assert list(crowd.went) == list(range(300))
        tasks.cancel_scope.cancel()


@virtual_time
async def test_all_who_wait_may_be_cancelled_at_once() -> None:
    rate = used_up(patient(1, 1.0), 0.0)
    crowd = Crowd(rate)
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 300)
        tasks.cancel_scope.cancel()
    assert not crowd.went
    assert not rate._rows
    assert refused(rate, 0.0) == 1.0


# Cancelled


@virtual_time
@pytest.mark.parametrize("kind", ["scope", "request", "both"])
@pytest.mark.parametrize("victim", range(3))
async def test_whenever_one_is_cancelled_the_others_have_their_turn(
    victim: int, kind: str
) -> None:
    if kind != "scope" and not on_asyncio():
        return

    async def world(at: int) -> int:
        began = anyio.current_time()
        rate = used_up(patient(1, 10.0, burst=2), began)
        crowd = Crowd(rate)
        steps = 0

        async def one() -> None:
            nonlocal steps
            steps, ended = await run(lambda: crowd.one(victim), kind if at else "", at)
            assert ended.finished or ended.cancelled

        async def gives_back() -> None:
            # At the very moment of a turn, so that one is woken twice.
            await anyio.sleep(10.0)
            if victim in crowd.tokens:
                crowd.tokens.pop(victim).give_back()

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(one) if number == victim else tasks.start_soon(
                    crowd.one, number
                )
                await when_blocked()
            tasks.start_soon(gives_back)
        others = {0, 1, 2} - {victim}
        assert others <= set(crowd.went), at
        assert [each for each in crowd.went if each != victim] == sorted(others)
        assert not rate._rows
        # What is left tells of those who have a token, and of nobody else.
        rate._meter.see(anyio.current_time())
        expected = (2 + len(crowd.tokens)) * 10.0 - (anyio.current_time() - began)
        assert rate._meter._left() == pytest.approx(expected, abs=1e-5), at
        return steps

    for at in range(1, await world(0) + 1):
        await world(at)


@pytest.mark.parametrize("kind", ["scope", "request"])
@pytest.mark.parametrize("first", [True, False])
async def test_one_that_is_cancelled_as_it_is_woken_passes_its_turn_on(
    kind: str, first: bool
) -> None:
    if kind == "request" and not on_asyncio():
        return
    clock = HandClock()
    rate = patient(1, 3600.0)
    token = taken(rate, clock.now)
    crowd = Crowd(rate, clock)
    told: list[Any] = []

    async def victim() -> None:
        if on_asyncio():
            told.append(asyncio.current_task())
        await crowd.one(0)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(victim)
        await when_blocked()
        tasks.start_soon(crowd.one, 1)
        await when_blocked()
        if first:
            token.give_back()
        told[0].cancel() if kind == "request" else crowd.scopes[0].cancel()
        if not first:
            token.give_back()
        await when_blocked()
        if 0 in crowd.tokens:  # it was let go before
            crowd.tokens[0].give_back()
            await when_blocked()
        assert 1 in crowd.tokens
    assert not rate._rows


PLANS = st.lists(
    st.tuples(
        EIGHTHS.map(lambda each: each if each < 4 else 0.0),  # after the one before it
        st.none() | EIGHTHS,  # cancelled after
        st.none() | EIGHTHS.map(lambda each: each / 4),  # given back after
    ),
    max_size=12,
)


@virtual_time
@settings(max_examples=60)
@given(LIMITS, PLANS)
async def test_whoever_comes_goes_and_gives_back_the_promise_and_the_order_are_kept(
    limit: RateLimit, plan: list[tuple[float, float | None, float | None]]
) -> None:
    rate = patient(limit.calls, limit.seconds, limit.burst)
    crowd = Crowd(rate)
    began = anyio.current_time()

    def look() -> None:
        # No token is there while somebody waits for one.
        rate._meter.see(anyio.current_time())
        assert not rate.waiting or rate._meter.wait() > 0

    async def one(number: int, cancelled: float | None, back: float | None) -> None:
        with anyio.move_on_after(math.inf if cancelled is None else cancelled):
            await crowd.one(number)
        if number in crowd.tokens and back is not None:
            await anyio.sleep(back)
            crowd.tokens.pop(number).give_back()
        await when_blocked()
        look()

    async with anyio.create_task_group() as tasks:
        for number, (gap, cancelled, back) in enumerate(plan):
            await anyio.sleep(gap)
            tasks.start_soon(one, number, cancelled, back)
            await when_blocked()
            look()
    assert list(crowd.went) == [number for number in crowd.came if number in crowd.went]
    assert not crowd.refused
    assert all(number in crowd.went for number, each in enumerate(plan) if each[1] is None)
    assert not rate._rows
    made = sorted(Fraction(crowd.went[number]) for number in crowd.tokens)
    interval = Fraction(limit.seconds) / limit.calls
    assert_promise(made, interval, limit.burst, Fraction(1, 10**5))
    look()
    tat = Fraction(began)
    for at in made:
        tat = max(at, tat) + interval
    left = max(0.0, float(tat - Fraction(anyio.current_time())))
    # The order of what happens at one moment is the loop's, but nothing is lost or gained.
    assert max(0.0, rate._meter._left()) == pytest.approx(left, abs=1e-5)


# Another kind of clock


@virtual_time
async def test_a_clock_turned_by_hand_is_looked_at_a_few_times() -> None:
    hand = HandClock()
    clock = CountingClock(hand)
    rate = used_up(patient(1, 300.0), clock())
    clock.looks = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn, rate, clock)
        await anyio.sleep(299)
        assert clock.looks == 2
        hand.turn(300)
    assert clock.looks == 3
    assert anyio.current_time() == pytest.approx(300)


@virtual_time
@pytest.mark.parametrize("seconds", [0.5, 300.0])
async def test_a_clock_that_stands_still_is_looked_at_ever_less_often(
    seconds: float,
) -> None:
    clock = CountingClock(HandClock())
    rate = used_up(patient(1, seconds), clock())
    with anyio.move_on_after(100 * seconds) as scope:
        await turn(rate, clock)
    assert scope.cancelled_caught
    assert clock.looks <= 10


@virtual_time
async def test_who_waits_in_vain_is_told_when_his_turn_would_be_after_all_others() -> None:
    clock = HandClock()  # which stands still
    rate = used_up(patient(1, 10.0, max_wait=30.0), clock.now)
    crowd = Crowd(rate, clock)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            await crowd.join(tasks, 1)
            await anyio.sleep(1)
        await anyio.sleep(26.5)
        assert crowd.refused == {}
        await anyio.sleep(1)
        assert crowd.refused == {0: 30.0}
    # Each leaves one fewer.
    assert crowd.refused == {0: 30.0, 1: 20.0, 2: 10.0}


@virtual_time
async def test_of_three_rows_for_one_rate_the_one_who_came_first_goes_first() -> None:
    clock = HandClock()
    narrow, wide, other = (used_up(patient(1, 10.0), clock.now) for _ in range(3))
    went: list[str] = []
    scopes: dict[str, anyio.CancelScope] = {}

    async def one(name: str, *rates: Rate) -> None:
        with anyio.CancelScope() as scopes[name]:
            await acquire(rates, clock, lambda: math.inf)
            went.append(name)

    async with anyio.create_task_group() as tasks:
        for name, rates in (
            ("a", (narrow, wide)),
            ("b", (narrow,)),
            ("third", (narrow, other)),
            ("fourth", (narrow, wide)),
            ("fifth", (narrow,)),
        ):
            tasks.start_soon(one, name, *rates)
            await when_blocked()
        for name in ("a", "b"):
            scopes[name].cancel()
        await when_blocked()
        assert _rate._first_to_go((narrow,), clock.now) is None
        clock.turn(10.0)
        found = _rate._first_to_go((narrow,), clock.now)
        assert found is not None
        rows = list(narrow._rows_here())
        assert len(rows) == 3
        assert found.ticket == min(row.first.ticket for row in rows if row.first)
        await anyio.sleep(11)
        assert went == ["third"]
        tasks.cancel_scope.cancel()


@virtual_time
async def test_who_waits_for_two_rates_is_told_of_the_one_that_was_too_late() -> None:
    clock = HandClock()  # which stands still
    short = used_up(patient(1, 10.0, max_wait=30.0), clock.now)
    long = used_up(patient(1, 50.0, max_wait=500.0), clock.now)
    for rates in ((short, long), (long, short)):
        with anyio.fail_after(31):
            answer = await acquire(rates, clock, lambda: math.inf)
        assert not isinstance(answer, Token)
        assert (answer.rate, answer.wait) == (short, 10.0)


@virtual_time
async def test_a_clock_of_real_time_is_met_in_the_end_in_virtual_time() -> None:
    # Each look is a sleep of a day by then, and none is a sleep for ever.
    rate = used_up(patient(1, 0.3, max_wait=1e300), time.monotonic())
    assert isinstance(await turn(rate, time.monotonic), Token)
    assert math.isfinite(anyio.current_time())


@virtual_time
async def test_a_clock_that_runs_at_another_pace_is_not_asked_often() -> None:
    clock = CountingClock(lambda: anyio.current_time() / 10)
    rate = used_up(patient(1, 300.0), 0.0)
    assert isinstance(await turn(rate, clock), Token)
    assert 3000 <= anyio.current_time() < 7500
    assert clock.looks <= 8


@virtual_time
async def test_a_long_wait_is_looked_at_once_a_day() -> None:
    clock = CountingClock(anyio.current_time)
    rate = used_up(patient(1, 10 * 86_400.0), 0.0)
    assert isinstance(await turn(rate, clock), Token)
    assert anyio.current_time() == pytest.approx(10 * 86_400.0)
    assert 10 <= clock.looks <= 13


@virtual_time
@pytest.mark.parametrize("reading", [math.nan, math.inf, -math.inf, -YEAR, 0.0])
async def test_a_clock_that_breaks_while_one_waits_holds_nobody_up(reading: float) -> None:
    clock = HandClock()
    rate = used_up(patient(1, 10.0), clock.now)
    crowd = Crowd(rate, clock)
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 3)
        await anyio.sleep(5)
        clock.now = reading
        await anyio.sleep(6)
        # The loop has slept for as long: that is believed where the clock says nothing.
        assert list(crowd.went) == [0]
        if math.isfinite(reading):
            tasks.cancel_scope.cancel()  # it stands, as it was told to
    if not math.isfinite(reading):
        assert list(crowd.went.values()) == pytest.approx([10, 20, 30], abs=1e-6)
        # And what was believed is not given once more.
        assert refused(rate, 1020.0) == pytest.approx(10.0)
        assert refused(rate, 1025.0) == pytest.approx(5.0)


@virtual_time
async def test_what_others_have_read_meanwhile_is_not_believed_twice() -> None:
    clock = HandClock()
    rate = used_up(patient(1, 10.0), clock.now)
    crowd = Crowd(rate, clock)
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 1)
        await anyio.sleep(6)
        assert refused(rate, clock.now + 6) == pytest.approx(14.0)
        clock.now = math.nan
    # It looked at 10, when 4 seconds were left as far as was known, and then once more.
    assert crowd.went[0] == pytest.approx(14.0)


@virtual_time
async def test_another_clock_that_others_read_makes_nobody_sleep_longer() -> None:
    clock = HandClock()
    rate = used_up(patient(1, 10.0), clock.now)
    crowd = Crowd(rate, clock)
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 1)
        await anyio.sleep(9)
        clock.now = 0.0
        assert refused(rate, clock.now) == pytest.approx(20.0)
        await anyio.sleep(2)
        clock.turn(10.0)
    assert crowd.went[0] == pytest.approx(20.0)


async def test_a_clock_that_raises_leaves_no_place_behind() -> None:
    hand = HandClock()
    broken: list[bool] = []

    def clock() -> float:
        if broken:
            raise OSError("no clock")
        return hand()

    token = taken(rate := patient(1, 3600.0), clock())
    failed: list[OSError] = []

    async def waits() -> None:
        try:
            await turn(rate, clock)
        except OSError as error:
            failed.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waits)
        tasks.start_soon(waits)
        await when_blocked()
        assert rate.waiting == 2
        broken.append(True)
        token.give_back()
    assert len(failed) == 2
    assert not rate._rows


# Other settings, while some wait


@virtual_time
async def test_a_faster_rate_shortens_the_wait() -> None:
    rate = used_up(patient(1, 100.0), 0.0)
    crowd = Crowd(rate)
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 3)
        await anyio.sleep(50)
        rate.reload(RateLimit(calls=1, seconds=10.0, max_wait=PATIENT), 50.0)
    assert list(crowd.went.values()) == pytest.approx([55, 65, 75])


@virtual_time
async def test_a_slower_rate_refuses_those_who_will_be_too_late() -> None:
    rate = used_up(patient(1, 10.0, max_wait=100.0), 0.0)
    crowd = Crowd(rate)
    async with anyio.create_task_group() as tasks:
        for number, bound in enumerate([math.inf, 30.0, 1e9, 1e9]):
            tasks.start_soon(crowd.one, number, bound)
            await when_blocked()
        rate.reload(RateLimit(calls=1, seconds=40.0, max_wait=80.0), 0.0)
        assert rate.waiting == 2
        await when_blocked()
        assert crowd.refused == {1: 80.0, 3: 120.0}
    assert list(crowd.went) == [0, 2]
    assert list(crowd.went.values()) == pytest.approx([40, 80])


async def test_a_reload_that_lets_nobody_wait_sends_all_away() -> None:
    clock = HandClock()
    rate = used_up(patient(1, 10.0), clock.now)
    crowd = Crowd(rate, clock)
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 3)
        clock.turn(1.0)
        rate.reload(RateLimit(calls=1, seconds=10.0), clock.now)
        assert rate.waiting == 0
        taken(rate, clock.now + 9.0)  # though they have yet to hear of it
    assert len(crowd.refused) == 3
    assert not rate._rows


# One loop after another


@real_time
async def test_it_waits_on_each_loop_in_real_time() -> None:
    rate = patient(1, 0.02)
    clock = CountingClock(time.monotonic)
    crowd = Crowd(rate, clock)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(crowd.one, number)
    assert list(crowd.went) == crowd.came


@real_time
async def test_a_token_that_is_given_back_in_another_thread_wakes_the_first() -> None:
    token = taken(rate := patient(1, 3600.0), time.monotonic())
    crowd = Crowd(rate, time.monotonic)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(crowd.one, 0)
            await when_blocked()
            await anyio.to_thread.run_sync(token.give_back)
    assert 0 in crowd.went


def test_a_rate_is_used_in_one_loop_after_another() -> None:
    rate = patient(1, 10.0)
    times: list[float] = []

    async def takes_and_leaves_in_the_middle_of_a_wait() -> None:
        taken(rate, anyio.current_time())
        with anyio.move_on_after(4.0):
            await turn(rate, anyio.current_time)
        assert rate.waiting == 0

    async def waits() -> None:
        began = anyio.current_time()
        assert isinstance(await turn(rate, anyio.current_time), Token)
        times.append(anyio.current_time() - began)

    trio_clock = trio.testing.MockClock(autojump_threshold=0)
    trio_clock.jump(5e5)
    on_trio: Any = {"backend": "trio", "backend_options": {"clock": trio_clock}}
    virtual: Any = {"backend_options": {"loop_factory": AutojumpEventLoop}}
    anyio.run(takes_and_leaves_in_the_middle_of_a_wait, **on_trio)
    anyio.run(waits, **virtual)
    anyio.run(waits, **virtual)
    # What passed after the last look at a clock that is gone nobody knows.
    assert times == pytest.approx([10.0, 10.0])


def test_those_who_waited_in_a_loop_that_is_gone_hold_nobody_up() -> None:
    rate = used_up(patient(1, 10.0), 0.0)
    first, tasks = AutojumpEventLoop(), list[asyncio.Task[Any]]()

    async def leaves_tasks_behind() -> None:
        loop = asyncio.get_running_loop()
        tasks.extend(loop.create_task(turn(rate, lambda: 0.0)) for _ in range(3))
        await when_blocked()
        assert rate.waiting == 3

    async def waits() -> None:
        assert rate.waiting == 0
        assert refused(rate, 0.0) == 10.0
        crowd = Crowd(rate)
        async with anyio.create_task_group() as group:
            await crowd.join(group, 3)
            forget(tasks)  # those that nobody else keeps leave their row now
            assert rate.waiting == 3
        assert list(crowd.went.values()) == pytest.approx([10, 20, 30])
        crowd.tokens[2].give_back()

    first.run_until_complete(leaves_tasks_behind())
    first.close()
    assert rate.waiting == 0
    rate.reload(rate.limit, 0.0)
    anyio.run(waits, backend_options={"loop_factory": AutojumpEventLoop})
    assert not rate._rows


def test_loops_that_go_on_by_turns_have_a_row_each() -> None:
    rate = used_up(patient(1, 10.0), 0.0)
    one, other = AutojumpEventLoop(), AutojumpEventLoop()

    async def begins() -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(turn(rate, anyio.current_time))
        await when_blocked()
        assert rate.waiting == 1
        return task

    async def ends(task: asyncio.Task[Any]) -> None:
        assert isinstance(await task, Token)

    async def asks() -> int:
        return rate.waiting

    first = one.run_until_complete(begins())
    second = other.run_until_complete(begins())
    one.run_until_complete(ends(first))
    assert other.run_until_complete(asks()) == 1
    other.run_until_complete(ends(second))
    assert not rate._rows
    one.close()
    other.close()


def forget(tasks: list[asyncio.Task[Any]]) -> None:
    """
    Have the garbage collector close what they were about.
    """
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task
    tasks.clear()
    gc.collect()


def test_one_that_waited_in_a_loop_that_is_gone_may_be_sent_away() -> None:
    rate = used_up(patient(1, 10.0), 0.0)
    loop = AutojumpEventLoop()
    kept: list[asyncio.Task[Any]] = []

    async def leaves_a_task_behind() -> None:
        kept.append(asyncio.get_running_loop().create_task(turn(rate, lambda: 0.0)))
        await when_blocked()

    loop.run_until_complete(leaves_a_task_behind())
    loop.close()
    rate.reload(RateLimit(calls=1, seconds=10.0), 0.0)
    assert refused(rate, 0.0) == 10.0
    assert at_once(rate, 10.0) == 1
    forget(kept)
