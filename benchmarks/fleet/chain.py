"""
The same as ``false_trips`` finds by trial, exactly: for how many calls a circuit stays closed.

With three failures in a row a fleet has so many processes with a run of one, so many with a run
of two, and the rest without: that is all that its future hangs on, as each call falls to each
process with the same chance. What is computed is the chance of each such state, call by call.
After some turns of all processes nothing changes but that there is less of it all, by the same
part at each call; from there on the rest is a formula. That reaches figures which no trial
would.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import count

from .rules import THRESHOLD, Rule

State = tuple[int, int]
"""How many processes have a run of one failure, and of two."""

Move = tuple[State | None, float]
"""To another state, or to an open circuit, and the chance of it."""

NEGLIGIBLE = 1e-25
"""The chance of a state below which it is left out."""

STEADY = 1e-5
"""By how much of it the part that opens may still differ after a turn of all processes."""


def median_calls(processes: int, rate: float, rule: Rule) -> float:
    """
    After how many calls of the whole fleet half of all circuits are open.

    Args:
        processes: How many share the circuit, each of them equally busy.
        rate: The share of calls that fail, each by itself.
        rule: What opens the circuit.
    """
    if not rule.ends:
        return _median_of_failures(rate)
    chances: dict[State, float] = {(0, 0): 1.0}
    moves = functools.cache(lambda state: [*_moves(state, processes, rate, rule)])
    closed, before = 1.0, 0.0
    for call in count(1):
        chances, opened = _after_a_call(chances, moves)
        part = opened / closed
        closed -= opened
        if closed <= 0.5:
            return call
        if call % processes == 0 and call >= 5 * processes:
            if part > 0 and abs(part - before) <= STEADY * part:
                return call + math.log(0.5 / closed) / math.log1p(-part)
            before = part
    raise AssertionError("a count does not end")


def mean_calls_alone(rate: float) -> float:
    """
    Calls until the first three failures in a row, on average, for one process: the formula of
    the textbooks.
    """
    return float((rate**-THRESHOLD - 1) / (1 - rate))


def _median_of_failures(rate: float) -> int:
    """
    After how many calls there were so many failures, with a chance of a half.
    """
    for calls in count(THRESHOLD):
        fewer = sum(
            math.comb(calls, failed) * rate**failed * (1 - rate) ** (calls - failed)
            for failed in range(THRESHOLD)
        )
        if fewer <= 0.5:
            return calls
    raise AssertionError("a count does not end")


def _after_a_call(
    chances: dict[State, float], moves: Callable[[State], Iterable[Move]]
) -> tuple[dict[State, float], float]:
    """
    The chances of all states in which the circuit is closed, and that of its opening.
    """
    after: dict[State, float] = {}
    opened = 0.0
    for state, chance in chances.items():
        if chance < NEGLIGIBLE:
            continue
        for to, share in moves(state):
            if to is None:
                opened += chance * share
            else:
                after[to] = after.get(to, 0.0) + chance * share
    return after, opened


def _moves(state: State, processes: int, rate: float, rule: Rule) -> Iterator[Move]:
    """
    What a call may come to.
    """
    ones, twos = state
    in_a_run = ones + twos
    fails, ends = rate / processes, (1 - rate) / processes
    if in_a_run < processes:
        begun = (ones + 1, twos)
        yield _or_open(begun, processes, rule), fails * (processes - in_a_run)
    if ones:
        yield _or_open((ones - 1, twos + 1), processes, rule), fails * ones
        yield (ones - 1, twos), ends * ones
    if twos:
        yield None, fails * twos
        yield (ones, twos - 1), ends * twos
    yield state, ends * (processes - in_a_run)


def _or_open(state: State, processes: int, rule: Rule) -> State | None:
    ones, twos = state
    runs = [1] * ones + [2] * twos
    return None if rule.opens(processes, runs, sum(runs)) else state
