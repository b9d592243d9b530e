"""
The rolling counts.
"""

from __future__ import annotations

import gc
import math
import tracemalloc
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest

from orchestrator_async._window import BUCKETS, Counts, CountWindow, TimeWindow

YEAR = 31_536_000.0
Make = Callable[[Any], Any]


def record(window: CountWindow | TimeWindow, *times: float, failed: bool = False) -> None:
    for now in times:
        window.record(now, failed, False)


# --- the last so many calls -------------------------------------------------------------


def test_the_last_calls_are_counted() -> None:
    window = CountWindow(3)
    for failed, slow in [(True, False), (False, True), (True, True), (False, False)]:
        window.record(0.0, failed, slow)

    assert window.counts == Counts(calls=3, failures=1, slow=2)


def test_time_takes_no_call_out_of_a_window_of_calls() -> None:
    window = CountWindow(3)
    record(window, 1.0, 2.0, failed=True)
    window.advance(YEAR)
    window.shift(-YEAR)

    assert window.counts == Counts(calls=2, failures=2, slow=0)


def test_a_window_of_one_call_holds_the_last() -> None:
    window = CountWindow(1)
    window.record(0.0, True, True)
    assert window.counts == Counts(1, 1, 1)
    window.record(0.0, False, False)
    assert window.counts == Counts(1, 0, 0)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_a_resized_window_goes_on_with_the_newest_calls(size: int) -> None:
    window = CountWindow(5)
    for failed in (True, True, False, True, False, False, True):
        window.record(0.0, failed, not failed)
    kept = [False, True, False, False, True][-size:]

    window = window.resized(size)
    assert window.counts == Counts(len(kept), sum(kept), len(kept) - sum(kept))
    record(window, *[0.0] * (size - len(kept)))
    for gone in range(len(kept)):
        assert window.counts == Counts(size, sum(kept[gone:]), kept[gone:].count(False))
        record(window, 0.0)


# --- the last so many seconds -----------------------------------------------------------


def test_a_call_stays_for_ten_buckets() -> None:
    window = TimeWindow(10.0)
    record(window, 100.0, 100.5, failed=True)
    record(window, 101.0)
    window.advance(109.75)
    assert window.counts == Counts(3, 2, 0)
    window.advance(110.0)
    assert window.counts == Counts(1, 0, 0)
    window.advance(111.0)
    assert window.counts == Counts(0, 0, 0)


def test_buckets_are_reckoned_from_the_first_call_after_everything_has_gone_out() -> None:
    window = TimeWindow(10.0)
    record(window, 100.0, 150.5, 151.25)
    window.advance(160.25)  # in tenths since 100.0, the call at 150.5 would be out
    assert window.calls == 2
    window.advance(160.5)
    assert window.calls == 0


def test_a_border_belongs_to_the_bucket_that_it_begins() -> None:
    window = TimeWindow(10.0)
    record(window, 0.0, 1.0)
    window.advance(10.0)
    assert window.calls == 1


def test_all_that_is_kept_moves_along_with_the_clock() -> None:
    window = TimeWindow(10.0)
    record(window, 100.0, 105.0)
    window.shift(-1000.0)
    window.advance(-890.25)
    assert window.calls == 2
    window.advance(-890.0)
    assert window.calls == 1


def test_a_cleared_window_is_a_new_one() -> None:
    window = TimeWindow(10.0)
    window.record(100.0, True, True)
    record(window, 103.0)
    window.clear()
    assert window.counts == Counts(0, 0, 0)
    record(window, 103.5)
    window.advance(113.25)
    assert window.calls == 1
    window.advance(113.5)
    assert window.calls == 0


def test_a_time_that_was_before_counts_for_the_newest_bucket() -> None:
    window = TimeWindow(10.0)
    record(window, 100.0, 109.0, 50.0, 100.0, -YEAR)
    window.advance(90.0)
    assert window.calls == 5
    window.advance(118.75)
    assert window.calls == 4
    window.advance(119.0)
    assert window.calls == 0


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_not_finite_is_the_last_one(odd: float) -> None:
    window = TimeWindow(10.0)
    window.advance(odd)
    record(window, odd)
    window.clear()
    window.advance(100.0)
    record(window, odd, 109.0, odd)
    window.advance(odd)
    window.shift(odd)
    assert window.calls == 3
    window.advance(110.5)
    assert window.calls == 2
    window.clear()
    record(window, odd)  # as at 110.0, when the newest bucket began
    window.advance(119.75)
    assert window.calls == 1
    window.advance(120.0)
    assert window.calls == 0


@pytest.mark.parametrize("seconds", [5e-324, 1e-9, 1e-3, 1.0, 1e300, 1.7e308])
def test_no_length_and_no_time_wedges_it(seconds: float) -> None:
    window = TimeWindow(seconds)
    for now in (-1.7e308, -1.0, 0.0, 5e-324, 1.0, 1e15, 1e15, YEAR + 1e15, 1e300, 1.7e308):
        window.record(now, True, True)
        assert 1 <= window.calls <= 10
        window = window.resized(seconds)
        window.shift(1e-9)
    window.shift(1.7e308)
    record(window, 1.7e308)
    assert window.calls >= 1


def test_rounding_does_not_add_up_over_a_million_buckets() -> None:
    window = TimeWindow(1.0)
    width = 1.0 / BUCKETS
    record(window, 0.0)
    for number in range(9, 1_000_000, 9):
        window.record(number * width, False, False)
        assert window.calls == 2


def test_a_window_of_the_same_length_is_the_same() -> None:
    window = TimeWindow(1.0)  # a tenth of which is rounded
    times = [0.3 + number * 0.07 for number in range(20)]
    record(window, *times)
    other = window.resized(1.0)
    for now in accumulate([0.033] * 40, initial=times[-1]):
        window.advance(now)
        other.advance(now)
        assert other.counts == window.counts


def test_a_shorter_window_keeps_the_buckets_that_began_within_it() -> None:
    window = TimeWindow(10.0)
    record(window, 100.0, 104.5, 105.5, 108.0, failed=True)
    window = window.resized(4.0)
    assert window.counts == Counts(2, 2, 0)  # those that count as made at 105 and 108
    window.advance(108.75)
    assert window.calls == 2
    window.advance(109.0)
    assert window.calls == 1


def test_a_longer_window_keeps_all_there_is() -> None:
    window = TimeWindow(10.0)
    record(window, 100.0, 104.5, 108.0)
    window = window.resized(60.0)
    assert window.calls == 3
    window.advance(159.75)
    assert window.calls == 3
    window.advance(160.0)
    assert window.calls == 1  # of 108.0, the second bucket's


def test_nothing_is_left_in_a_window_that_is_shorter_than_all_ages() -> None:
    window = TimeWindow(10.0)
    record(window, 100.0)
    window.advance(105.0)
    window = window.resized(1.0)
    assert window.counts == Counts(0, 0, 0)
    record(window, 105.0)
    assert window.calls == 1


# --- what they cost ---------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "size"), [(CountWindow, 1000), (TimeWindow, 60.0)])
@pytest.mark.parametrize("step", [0.0, 0.25, 3.0, 1000.0])
def test_memory_does_not_grow_with_calls(kind: Make, size: Any, step: float) -> None:
    gc.collect()
    tracemalloc.start()
    try:
        window = kind(size)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(100_000):
            window.record(number * step, number % 3 == 0, number % 5 == 0)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 512  # a dozen numbers, which are larger than they were
