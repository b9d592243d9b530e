"""
How time is measured here: in turn, in small batches, as medians.

A busy machine makes every number of its own worthless, so nothing is compared with a
figure of another run. The cases of one group are run one after the other, a batch of
about a millisecond each, and again, a hundred times, every other round backwards. A
ratio is the median of the rounds' ratios: what slows the machine for longer than a round
slows both sides of it, and what strikes one batch alone is not the median.

What is counted is the processor's time of the thread, so that other processes do not
count. Nothing here waits, but for calls in a worker thread: these have the wall's clock.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from statistics import median
from time import get_clock_info, perf_counter_ns, thread_time_ns

import anyio.lowlevel

Clock = Callable[[], int]

wall_ns: Clock = perf_counter_ns
"""For what another thread does a part of."""

# Some systems count the time of a thread in ticks of milliseconds.
_IS_FINE = get_clock_info("thread_time").resolution <= 1e-6
busy_ns: Clock = thread_time_ns if _IS_FINE else perf_counter_ns
"""The time that this thread was at work, in nanoseconds."""

Batch = Callable[[int], Awaitable[None]]
"""Does the thing so many times, in a loop written out, and nothing else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """
    How much is done.

    Attributes:
        rounds: How often each case has its turn.
        batch_ns: Nanoseconds that one turn is to take.
        tasks: Concurrent tasks of the run with many of them.
        calls: Calls that each of these makes.
        task_rounds: How often each of these runs is made.
        fleet: Tools that memory is measured over.
        imports: How often each import is made.
    """

    rounds: int = 101
    batch_ns: int = 1_000_000
    tasks: int = 10_000
    calls: int = 100
    task_rounds: int = 3
    fleet: int = 1_000
    imports: int = 20


SMOKE = Effort(
    rounds=5,
    batch_ns=100_000,
    tasks=200,
    calls=10,
    task_rounds=2,
    fleet=100,
    imports=2,
)
"""Enough to see that everything can be measured, and for nothing else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """
    One figure.

    Attributes:
        loop: The loop it was measured on, or ``"any"``.
        name: What was measured.
        cost: What it costs, in ``unit``.
        unit: ``"ns"``, ``"ms"``, ``"bytes"``, ``"calls"`` or ``"calls/s"``.
        ratio: Its cost in terms of ``against``; ``None`` where the cost is the figure.
        against: What it is compared with.
        goal: What the ratio, or else the cost, is to be at most.
        at_least: Whether ``goal`` is to be reached instead.
    """

    loop: str
    name: str
    cost: float
    unit: str = "ns"
    ratio: float | None = None
    against: str = ""
    goal: float | None = None
    at_least: bool = False

    @property
    def figure(self) -> float:
        """
        What the goal is about.
        """
        return self.cost if self.ratio is None else self.ratio

    @property
    def met(self) -> bool | None:
        """
        Whether the goal is met, or ``None`` if there is none.
        """
        if self.goal is None:
            return None
        return self.figure >= self.goal if self.at_least else self.figure <= self.goal


class Times:
    """
    Nanoseconds of one execution, by case, one figure a round.
    """

    def __init__(self, rounds: Mapping[str, list[float]]) -> None:
        self._rounds = rounds

    def ns(self, name: str) -> float:
        """
        What the case takes.
        """
        return median(self._rounds[name])

    def ratio(self, name: str, against: str) -> float:
        """
        What the case takes, in terms of another.
        """
        pairs = zip(self._rounds[name], self._rounds[against], strict=True)
        return median(one / other for one, other in pairs)

    def added(self, name: str, to: str) -> list[float]:
        """
        What the case takes longer than another, round by round.
        """
        pairs = zip(self._rounds[name], self._rounds[to], strict=True)
        return [one - other for one, other in pairs]


async def in_turn(
    cases: Mapping[str, Batch], effort: Effort, clock: Clock = busy_ns
) -> Times:
    """
    Run every case once a round.
    """
    sizes = {each: await _size_of(cases[each], effort.batch_ns, clock) for each in cases}
    rounds: dict[str, list[float]] = {name: [] for name in cases}
    order = list(cases)
    for _ in repeat(None, effort.rounds):
        for name in order:
            rounds[name].append(await _time(cases[name], sizes[name], clock))
        order.reverse()
    return Times(rounds)


async def _size_of(batch: Batch, batch_ns: int, clock: Clock) -> int:
    """
    How many executions take about that long, first ones and hiccups apart.
    """
    await batch(10)
    times = 1
    while True:
        took = min([await _time(batch, times, clock) for _ in range(3)]) * times
        if took >= batch_ns / 2:
            return max(1, round(times * batch_ns / took))
        times *= 2


async def _time(batch: Batch, times: int, clock: Clock) -> float:
    await anyio.lowlevel.checkpoint()  # what the loop has put off is not the case's
    with no_collection():
        started = clock()
        await batch(times)
        return max(1, clock() - started) / times


@contextmanager
def no_collection() -> Iterator[None]:
    """
    Keep the garbage collector's turns out of a short measurement, as ``timeit`` does.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
