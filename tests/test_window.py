"""
The rolling counts: by hand, and beside windows that keep every call and count them.
"""

from __future__ import annotations

import gc
import math
import tracemalloc
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from orchestrator_async._window import BUCKETS, Counts, CountWindow, TimeWindow

from .conftest import Summary
from .windows import (
    COUNT_FAULTS,
    TIME_FAULTS,
    AddsWidthsUp,
    DisagreeError,
    Event,
    ExactTimeWindow,
    Habits,
    SlowCountWindow,
    SlowTimeWindow,
    compare,
    events,
)

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


def test_buckets_are_reckoned_anew_also_where_everything_went_out_bit_by_bit() -> None:
    window = TimeWindow(10.0)
    record(window, 100.0)
    for now in (104.0, 109.5, 110.5):
        window.advance(now)
    record(window, 110.75)
    window.advance(120.25)  # in tenths since 100.0, it would be out
    assert window.calls == 1
    window.advance(120.75)
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


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_not_finite_can_begin_the_first_bucket(odd: float) -> None:
    window = TimeWindow(10.0)
    window.advance(100.0)
    record(window, odd, 100.5)
    window.advance(109.75)
    assert window.calls == 2
    window.advance(110.0)
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
        border = (number + 1) * width
        window.advance(math.nextafter(border, 0.0))
        assert window.calls == 2
        window.advance(border)
        assert window.calls == 1


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


# --- beside the slow ones, by a few events ----------------------------------------------

Moves = list[tuple[str, Any]]
History = tuple[Any, list[Event]]  # the size of the first window, and what happens to it

outcomes = st.tuples(st.booleans(), st.booleans())
odd_times = st.sampled_from([math.nan, math.inf, -math.inf])
jumps = st.sampled_from([0.25, 86_400.0, YEAR, 1e15])
shifts = st.integers(-4000, 4000).map(lambda quarters: quarters / 4)


def as_history(size: Any, moves: Moves, buckets: int) -> History:
    """
    Events, from moves that tell how much time has passed: in widths of a bucket, so that
    borders are met, and multiplied by that, not added up.
    """
    since, widths, width = 0.0, 0.0, size / buckets
    told = list[Event]()
    for name, detail in moves:
        now = since + widths * width
        match name, detail:
            case "pass", passed:
                widths += passed
                told.append(("advance", since + widths * width))
            case "record", (passed, outcome):
                widths += passed
                told.append(("record", since + widths * width, *outcome))
            case "odd", (odd, outcome):
                told.append(("record", odd, *outcome))
            case "back", (passed, outcome):
                told.append(("record", now - passed * width, *outcome))
            case "jump", seconds:
                since, widths = now + seconds, 0.0
            case "shift", by:
                since += by
                told.append(("shift", by))
            case "resized", other:
                since, widths, width = now, 0.0, other / buckets
                told.append(("resized", other))
            case _:
                told.append((name,))
    return size, told


def histories(sizes: Any, parts: Any, buckets: int = BUCKETS) -> st.SearchStrategy[History]:
    """
    Args:
        sizes: Calls or seconds.
        parts: Parts of a width, to be added to whole ones.
    """
    few = st.sampled_from([0.0, 0.0, 0.0, 1.0, 1.0, 2.0])
    passed = few | parts | st.sampled_from([3.0, 9.0, 10.0, 11.0])
    record = st.tuples(st.just("record"), st.tuples(passed, outcomes))
    move = st.one_of(
        record,
        record,
        record,
        st.tuples(st.just("record"), st.tuples(few, outcomes)),
        st.tuples(st.just("record"), st.tuples(few, outcomes)),
        st.tuples(st.just("record"), st.tuples(few, outcomes)),
        st.tuples(st.just("pass"), passed),
        st.tuples(st.just("back"), st.tuples(passed, outcomes)),
        st.tuples(st.just("odd"), st.tuples(odd_times, outcomes)),
        st.tuples(st.just("jump"), jumps),
        st.tuples(st.just("shift"), shifts),
        st.tuples(st.just("resized"), sizes),
        st.tuples(st.just("resized"), sizes),
        st.tuples(st.just("clear"), st.none()),
    )
    moves = st.lists(move, min_size=8, max_size=40)
    return st.builds(as_history, sizes, moves, st.just(buckets))


quarters = st.integers(0, 60).map(lambda number: number / 4)
lengths = st.sampled_from([1.0, 0.7, 1 / 3, 0.1, 77.7]) | st.floats(0.01, 1000.0)
SHORT: dict[str, tuple[Any, Make, st.SearchStrategy[History]]] = {
    "calls": (CountWindow, SlowCountWindow, histories(st.integers(1, 6), quarters, 1)),
    "exact seconds": (
        TimeWindow,
        ExactTimeWindow,
        histories(st.sampled_from([2.5, 5.0, 10.0, 30.0, 160.0]), quarters),
    ),
    "seconds": (TimeWindow, SlowTimeWindow, histories(lengths, st.floats(0.0, 12.0))),
}


def compare_short_runs(kind: str, fault: Any = None, examples: int = 300) -> None:
    fast, slow, history = SHORT[kind]
    # A fault is to be found, not to be shown at its smallest.
    phases = [Phase.generate, Phase.shrink] if fault is None else [Phase.generate]

    @settings(max_examples=examples, phases=phases, report_multiple_bugs=False)
    @given(history)
    def run(told: History) -> None:
        size, what_happens = told
        compare((fault or fast)(size), slow(size), what_happens)

    run()


@pytest.mark.parametrize("kind", SHORT)
def test_it_counts_what_a_window_that_keeps_every_call_counts(kind: str) -> None:
    compare_short_runs(kind)


# --- beside the slow ones, by a million events ------------------------------------------

LONG = 10_000
kinds = st.sampled_from(["calls", "exact seconds", "seconds"])
SIZES = [1, 2, 3, 7, 10, 64, 100, 250]
EXACT_LENGTHS = [2.5, 10.0, 30.0, 160.0]
LENGTHS = [1.0, 0.7, 1 / 3, 10.1, 77.7]
EXACT_STEPS = [0.0, 1 / 64, 0.25, 1.0, 3.0, 16.0]
STEPS = [0.0, 1e-3, 0.01, 0.1, 0.07, 1 / 30, 1.01, 7.77]
MAKES: dict[str, tuple[Any, Make, list[Any], list[float]]] = {
    "calls": (CountWindow, SlowCountWindow, SIZES, EXACT_STEPS),
    "exact seconds": (TimeWindow, SlowTimeWindow, EXACT_LENGTHS, EXACT_STEPS),
    "seconds": (TimeWindow, SlowTimeWindow, LENGTHS, STEPS),
}


def compare_long_run(
    kind: str,
    seed: int,
    failing: float,
    rare: float,
    *,
    fault: Any = None,
    number: int = LONG,
) -> int:
    fast, slow, sizes, steps = MAKES[kind]
    size = sizes[seed % len(sizes)]
    told = events(seed, Habits(sizes, steps, failing, rare), number)
    return compare((fault or fast)(size), slow(size), told, scan_every=97)


def test_a_million_events_are_counted_as_a_window_that_keeps_every_call_does(
    summary: Summary,
) -> None:
    compared = 0

    @settings(max_examples=110, phases=[Phase.generate])
    @given(
        kind=kinds,
        seed=st.integers(0, 2**32),
        failing=st.sampled_from([0.02, 0.3, 0.5, 0.9]),
        rare=st.sampled_from([0.0, 0.0005, 0.01, 0.1]),
    )
    def run(kind: str, seed: int, failing: float, rare: float) -> None:
        nonlocal compared
        compared += compare_long_run(kind, seed, failing, rare)

    run()
    assert compared >= 1_000_000
    summary.add("windows: events compared", compared)


# --- the comparison itself --------------------------------------------------------------

FAULTS: list[tuple[str, type]] = [("calls", fault) for fault in COUNT_FAULTS]
FAULTS += [("seconds", fault) for fault in TIME_FAULTS]

# Rounding shows itself where a border that is some buckets away is met to the last bit.
FOUND_BY_FEW = [each for each in FAULTS if each[1] is not AddsWidthsUp]


def test_there_are_faults_of_either_window() -> None:
    assert len(COUNT_FAULTS) >= 6
    assert len(TIME_FAULTS) >= 6


@pytest.mark.parametrize(
    ("kind", "fault"), FOUND_BY_FEW, ids=lambda each: getattr(each, "__name__", each)
)
def test_a_planted_fault_is_found_by_a_few_events(kind: str, fault: Any) -> None:
    with pytest.raises(DisagreeError):
        compare_short_runs(kind, fault, examples=5000)


@pytest.mark.parametrize(
    ("kind", "fault"), FAULTS, ids=lambda each: getattr(each, "__name__", each)
)
def test_a_planted_fault_is_found_by_a_long_run(kind: str, fault: Any) -> None:
    with pytest.raises(DisagreeError):
        for seed in range(20):
            compare_long_run(kind, seed, failing=0.3, rare=0.01, fault=fault)
