"""
What is to be said of the calls of a dead tool, by the witness alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

from .trace import Execution

NEAR: Final = 0.02
"""Seconds by which a window may seem shorter than it was: clocks of two processes are read,
and an engine counts in milliseconds."""


@dataclass(frozen=True, slots=True)
class Windows:
    """
    The half-open windows of a circuit whose tool is dead: each has one call, which opens it
    again for the ``reset_timeout``.

    Attributes:
        calls: Calls of the tool.
        extra: Calls that began before the circuit could be half-open again.
        gaps: Seconds from the end of each call to the begin of the next.
    """

    calls: int
    extra: int
    gaps: tuple[float, ...]

    @property
    def longest(self) -> float:
        """
        The longest time without a call.
        """
        return max(self.gaps, default=0.0)


def windows(calls: Sequence[Execution], reset_timeout: float) -> Windows:
    """
    The windows in which these calls were made, all of which have failed.
    """
    calls = sorted(calls, key=lambda each: each.began)
    gaps = tuple(later.began - _end(one) for one, later in pairwise(calls))
    extra = sum(gap < reset_timeout - NEAR for gap in gaps)
    return Windows(len(calls), extra, gaps)


def windows_of_each(
    calls: Sequence[Execution],
    reset_timeout: float,
    key: Callable[[Execution], Hashable] = lambda each: each.pid,
) -> list[Windows]:
    """
    The same for each process by itself.
    """
    by_key = sorted(calls, key=lambda each: str(key(each)))
    groups = [list(group) for _, group in groupby(by_key, key=key)]
    return [windows(group, reset_timeout) for group in groups]


def _end(call: Execution) -> float:
    return call.began if call.ended is None else call.ended


def percentile(values: Sequence[float], share: float) -> float:
    """
    The value that this share of them does not exceed.
    """
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
