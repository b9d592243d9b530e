"""
Rolling counts of calls: of the last so many, or of the last so many seconds.

Neither looks at a clock: ``now`` is an argument, in seconds of one monotonic clock. It is
the caller who sees to it that it does not go back. Below it stands nothing; a breaker that
trips on a rate of failures asks it. The memory of a window is taken when it is made. A call
costs the same however many there were, but for the first one in a bucket, which pays for
the buckets that time has passed over: for ten at most.

The two kinds, and what they are called, are Resilience4j's.
"""

from __future__ import annotations

import math
from array import array
from typing import Final, NamedTuple

BUCKETS: Final = 10

# An outcome in a ring is the sum of what holds for it.
_FAILED: Final = 1
_SLOW: Final = 2
_FAILED_AND_SLOW: Final = 3
_NONE_YET: Final = 4
_NO_OUTCOME: Final = bytes([_NONE_YET])

_NO_CALLS: Final = array("Q", [0] * BUCKETS)


class Counts(NamedTuple):
    """
    How many calls there were, how many of them failed, and how many were slow.
    """

    calls: int
    failures: int
    slow: int


class CountWindow:
    """
    The last ``size`` calls.

    Attributes:
        calls: How many there are in it.
        failures: How many of these failed.
        slow: How many of these were slow.
    """

    __slots__ = ("_last", "_next", "_ring", "calls", "failures", "slow")

    def __init__(self, size: int) -> None:
        """
        Args:
            size: How many calls it holds, at least 1.
        """
        self._last = size - 1
        self._ring = bytearray(size)  # filled from its end to its beginning
        self._next: int
        self.clear()

    @property
    def counts(self) -> Counts:
        """
        What is in it, in one piece.
        """
        return Counts(self.calls, self.failures, self.slow)

    def record(self, now: float, failed: bool, slow: bool) -> None:
        """
        A call has ended; the oldest goes if there is no place left.

        Args:
            now: Not looked at.
            failed: Whether it counts as a failure.
            slow: Whether it counts as slow, failed or not.
        """
        at = self._next
        self._next = at - 1 if at else self._last
        speed = _SLOW if slow else 0
        outcome = speed | _FAILED if failed else speed
        ring = self._ring
        old = ring[at]
        if old != outcome:  # mostly it is the same: one success for another
            ring[at] = outcome
            if old == _NONE_YET:
                self.calls += 1
            elif old:
                if old & _FAILED:
                    self.failures -= 1
                if old & _SLOW:
                    self.slow -= 1
            if failed:
                self.failures += 1
            if slow:
                self.slow += 1

    def advance(self, now: float) -> None:
        """
        Does nothing: no time takes a call out of it.
        """

    def shift(self, by: float) -> None:
        """
        Does nothing: it remembers no times.
        """

    def clear(self) -> None:
        """
        Forget all calls.
        """
        self._ring[:] = _NO_OUTCOME * len(self._ring)
        self._next = self._last
        self.calls: int = 0
        self.failures: int = 0
        self.slow: int = 0

    def resized(self, size: int) -> CountWindow:
        """
        One of another size, with the newest of these calls in their order.
        """
        newest = self._next + 1
        newest_first = self._ring[newest:] + self._ring[:newest]
        kept = newest_first.rstrip(_NO_OUTCOME)[:size]
        new = CountWindow(size)
        free = size - len(kept)
        new._ring[free:] = kept
        new._next = free - 1 if free else new._last
        new.calls = len(kept)
        both = kept.count(_FAILED_AND_SLOW)
        new.failures = kept.count(_FAILED) + both
        new.slow = kept.count(_SLOW) + both
        return new


class TimeWindow:
    """
    The calls of the last ``seconds`` seconds, in ten buckets: of the one that is being
    filled, and of the nine before it.

    Bucket ``k`` is of the times for which ``k * width <= now - origin < (k + 1) * width``,
    where ``width`` is a tenth of ``seconds`` and ``origin`` the time of the first call
    that was recorded in an empty window. That is a new one, one that was cleared, and one
    that everything has gone out of. Every border is reckoned from the origin, so that
    rounding does not add up. At the time ``now`` the window holds the buckets whose number
    is greater than that of ``now``, less ten.

    A time before that of the newest bucket counts for that bucket, and so does one that
    is not finite. In an empty window the latter is the last time that it knows of.

    Attributes:
        calls: How many there are in it, as of the last ``record`` or ``advance``.
        failures: How many of these failed.
        slow: How many of these were slow.
    """

    __slots__ = (
        "_before",
        "_calls_of",
        "_ends",
        "_failures_of",
        "_number",
        "_origin",
        "_slow_of",
        "_width",
        "calls",
        "failures",
        "slow",
    )

    def __init__(self, seconds: float) -> None:
        """
        Args:
            seconds: How long a call stays in it: for that long at most, and for more
                than nine tenths of it.
        """
        self._width = seconds / BUCKETS
        self._origin = 0.0  # of an empty window: the last time that it knows of
        self._number = 0
        # What is in the buckets, by number modulo ten, but for the newest: of that one it
        # is known what the sums were before it, so that a call has but the sums to raise.
        self._calls_of = _NO_CALLS[:]
        self._failures_of = _NO_CALLS[:]
        self._slow_of = _NO_CALLS[:]
        self.clear()

    @property
    def counts(self) -> Counts:
        """
        What is in it, in one piece.
        """
        return Counts(self.calls, self.failures, self.slow)

    def record(self, now: float, failed: bool, slow: bool) -> None:
        """
        A call has ended.

        Args:
            now: Seconds on the circuit's clock.
            failed: Whether it counts as a failure.
            slow: Whether it counts as slow, failed or not.
        """
        # Not ">=", which would be false where a time is not a number.
        if not now - self._origin < self._ends:
            self._make_room(now)
        self.calls += 1
        if failed:
            self.failures += 1
        if slow:
            self.slow += 1

    def advance(self, now: float) -> None:
        """
        Drop the buckets that have gone out of the window.
        """
        if not now - self._origin < self._ends:
            self._move_on(now)

    def shift(self, by: float) -> None:
        """
        The clock was replaced by one that reads ``by`` more: all that is kept moves along.
        """
        origin = self._origin + by
        if math.isfinite(origin):
            self._origin = origin

    def clear(self) -> None:
        """
        Forget all calls.
        """
        self._origin += self._number * self._width
        self._number = 0
        self._ends = -math.inf  # no time is in a bucket, and the next call makes one
        self.calls: int = 0
        self.failures: int = 0
        self.slow: int = 0
        self._before = self.counts
        self._calls_of[:] = self._failures_of[:] = self._slow_of[:] = _NO_CALLS

    def resized(self, seconds: float) -> TimeWindow:
        """
        One of another length, with what is known of these calls: the buckets that began
        less than ``seconds`` before the newest did, as if all calls of a bucket had been
        recorded when it began. So none is kept for too long, and some go early, by the
        width of a bucket of this window at most.
        """
        new = TimeWindow(seconds)
        self._note_newest()
        kept = [
            number
            for number in range(self._number - BUCKETS + 1, self._number + 1)
            if self._calls_of[number % BUCKETS]
            and (self._number - number) * self._width < BUCKETS * new._width
        ]
        first = kept[0] if kept else self._number
        for number in kept:
            slot = number % BUCKETS
            # Times are told from the first one on, and are exact where the widths are equal.
            new._make_room((number - first) * self._width)
            new.calls += self._calls_of[slot]
            new.failures += self._failures_of[slot]
            new.slow += self._slow_of[slot]
        new.shift(self._origin + first * self._width)
        return new

    def _make_room(self, now: float) -> None:
        """
        See that the newest bucket is that of ``now``, also where there was none.
        """
        self._move_on(now)
        if not self.calls:
            self._ends = self._width

    def _move_on(self, now: float) -> None:
        """
        Go on to the bucket of ``now``. Where nothing is left, the next call sets the origin.
        """
        if not math.isfinite(now):
            return
        elapsed = now - self._origin
        if self.calls and elapsed < (self._number + BUCKETS) * self._width:
            while elapsed >= self._ends:
                self._next_bucket()
            if self.calls:
                return
        self.clear()
        self._origin = now

    def _next_bucket(self) -> None:
        self._note_newest()
        self._number += 1
        self._ends = (self._number + 1) * self._width
        slot = self._number % BUCKETS  # of the oldest, until now
        self.calls -= self._calls_of[slot]
        self.failures -= self._failures_of[slot]
        self.slow -= self._slow_of[slot]
        self._before = self.counts

    def _note_newest(self) -> None:
        slot = self._number % BUCKETS
        self._calls_of[slot] = self.calls - self._before.calls
        self._failures_of[slot] = self.failures - self._before.failures
        self._slow_of[slot] = self.slow - self._before.slow
