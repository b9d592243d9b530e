"""
How often a tool may be called: so many calls in so many seconds, and how many at once.

The rule is the generic cell rate algorithm (GCRA, ITU-T I.371). An interval is ``seconds /
calls``, and each call has a slot of one interval: from when it is let in, or from the end of
the slot before it, whichever is later. The end of the last slot is the theoretical arrival
time (TAT). A call is let in where the TAT lies at most ``burst - 1`` intervals ahead. So the
slots of the calls of any ``w`` seconds, which do not overlap, lie within ``w`` seconds and
``burst`` intervals: there are at most ``burst + w * calls / seconds``, and that is the promise.

A call that is given back leaves things as if it had never been. Where the calls were let in
at ``t[1]``, ``t[2]`` and so on, and ``n[k]`` of them are from the k-th on, the TAT is the
greatest of all ``t[k] + n[k] * interval``: that is ``max(t, tat) + interval`` written out.
Without call ``g``, one is taken from ``n[k]`` for each ``k`` up to ``g``; the term of ``g`` may
stay, as it is then no greater than the next one's, or has passed. So a token can be given
back as long as the terms are known, and not their maximum alone; but only those that may be
the greatest some day. One that is not above a later one's never will be, for what lowers the
later lowers it as well. Since the TAT only falls, those who were let in meanwhile would have
been let in without that call too: what was really called is what the rule lets through.

The terms hold readings of the clock and whole numbers. Nothing is added up, so nothing drifts.

Those who wait stand in a row. Only the first has a timer; who goes wakes the next. ``_loop``
stands below this module, and whoever calls tools above it.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import anyio
from anyio.lowlevel import current_token

from . import _loop

_MOST_RUNS: Final = 1000
"""Terms that are kept, for bounded memory. A token that is older than they are cannot be given
back any more; it takes as many calls in one burst for that."""

_STEPS: Final = 4
"""Steps of a float (at 1e9 s: 0.5 µs) by which a call may be early: two readings, their
difference and a product are rounded by half a step each, or by one. But a quarter of an
interval at the most, so that no clock, however large, lets more than a burst in at once."""

_LONGEST_SLEEP: Final = 86_400.0
"""What patience with another kind of clock comes to at the most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RateLimit:
    """
    How often a tool may be called, and how long a call may wait for its turn.

    In any ``w`` seconds at most ``burst + w * calls / seconds`` calls are let in.

    Args:
        calls: How many, at least 1.
        seconds: In how many seconds, at most 1e10, and at least a nanosecond a call.
        burst: How many may come at once after a pause, from 1 to a billion. Default 1:
            they are ``seconds / calls`` apart.
        max_wait: Seconds that a call may wait for its turn. Default 0: it is refused at
            once where it is not let in at once.

    Raises:
        ValueError: Naming the field and the value that cannot be.
    """

    calls: int
    seconds: float
    burst: int = 1
    max_wait: float = 0.0

    def __post_init__(self) -> None:
        self._check("calls", int, 1, 10**19)
        self._check("seconds", float, 1e-9, 1e10)
        self._check("burst", int, 1, 10**9)
        self._check("max_wait", float, 0, sys.float_info.max)
        if self.interval < 1e-9:
            raise ValueError(
                f"RateLimit: calls={self.calls!r} cannot be; expected at most a billion a second"
            )

    @property
    def interval(self) -> float:
        """
        Seconds from one call to the next where they come evenly.
        """
        return self.seconds / self.calls

    def _check(self, name: str, kind: type, least: float, most: float) -> None:
        value: Any = getattr(self, name)
        if type(value) not in (int, kind) or not least <= value <= most:
            what = "whole number" if kind is int else "number"
            raise ValueError(
                f"RateLimit: {name}={value!r} cannot be; expected a {what} "
                f"from {least:g} to {most:g}"
            )


class Rate:
    """
    One limit as it is used: what it has let in, and those who wait for their turn.

    It may be used in one event loop after another, but not in two threads at one time. A
    clock that goes back, or is the smaller one of another loop, is taken for one on which no
    time has passed since it was last read; so is a reading that is not finite.

    Args:
        limit: The settings.
    """

    __slots__ = ("_meter", "_row")

    def __init__(self, limit: RateLimit) -> None:
        self._meter = _Meter(limit)
        self._row: _Row | None = None

    @property
    def limit(self) -> RateLimit:
        """
        The settings.
        """
        return self._meter.limit

    @property
    def waiting(self) -> int:
        """
        How many wait for their turn, in a loop that runs.
        """
        row = self._row
        return len(row) if row is not None and _loop.is_alive(row.token) else 0

    def take(self, now: float) -> Token | float:
        """
        Let a call in if it may run now and nobody waits who came before it.

        Args:
            now: Seconds on the clock.

        Returns:
            Its token; or, where it is refused, the finite seconds until it would have its
            turn after all who wait. They may be 0: those who wait have theirs, but have yet
            to be woken.
        """
        meter, row = self._meter, self._row
        meter.see(now)
        if row is None or not len(row) or not row.is_of_this_loop:
            return meter.wait() or Token(self)
        if not meter.wait():
            row.wake()  # where it sleeps by another clock, it need not know
        return meter.wait(len(row))

    async def acquire(
        self, clock: Callable[[], float], bound: float = math.inf
    ) -> Token | float:
        """
        Wait until a call is let in. Awaits nothing where it is let in, or refused, at once.

        Args:
            clock: Tells the seconds; not asked often where it is not that of the loop.
            bound: Seconds that it may wait, if that is less than ``max_wait``. Default:
                ``max_wait`` alone decides.

        Returns:
            The token; or, where its turn would come too late, the finite seconds until
            then. That is found out at once, or when a reload makes it late.
        """
        answer = self.take(clock())
        if not isinstance(answer, float) or answer > min(self.limit.max_wait, bound):
            return answer
        row = self._row
        if row is None or not row.is_of_this_loop:
            row = self._row = _Row()
        waiter = _Waiter(bound)
        row.join(waiter)
        try:
            return await self._stand(row, waiter, clock)
        finally:
            row.leave(waiter)
            if not len(row) and self._row is row:
                self._row = None

    def reload(self, limit: RateLimit, now: float) -> None:
        """
        Go on with other settings.

        The calls that are in use of the burst stay so, and are given back by time at the
        new rate. Where that would keep the next call out for more than the new ``seconds``,
        it does not: the rest is waived, until a reload raises the burst again. Whoever waits
        is asked anew, as if it had come now.

        Args:
            limit: The new settings.
            now: Seconds on the clock.
        """
        meter, row = self._meter, self._row
        meter.see(now)
        meter.set(limit)
        if row is None:
            return
        ahead = 0
        for waiter in row.waiters():
            wait = meter.wait(ahead)
            if wait > min(limit.max_wait, waiter.bound):
                row.refuse(waiter, wait)
            else:
                ahead += 1
        row.wake()

    async def _stand(
        self, row: _Row, waiter: _Waiter, clock: Callable[[], float]
    ) -> Token | float:
        while waiter.refusal is None:
            waiter.bell = _loop.Bell()
            if not row.is_first(waiter):
                await waiter.bell.wait()
                continue
            pause = self._pause(row, clock())
            if not pause:
                # Nothing is awaited from here on: it has its token, or is cancelled.
                return Token(self)
            with anyio.move_on_after(pause):
                await waiter.bell.wait()
        return waiter.refusal

    def _pause(self, row: _Row, now: float) -> float:
        """
        Seconds that the first one is to sleep before it looks again; 0 for none.

        The rest, but longer each time where the clock has not moved half as far as the
        loop has slept: it is another kind of clock, and to ask it often is no use.
        """
        meter, loop_now = self._meter, anyio.current_time()
        slept = loop_now - row.looked
        # Where somebody else has read the clock since, what passed before that is known.
        meter.see(now, slept if meter.now == row.seen else 0.0)
        moved = meter.now - row.seen  # less than nothing where it is another clock
        row.looked, row.seen = loop_now, meter.now
        rest = meter.wait()
        if rest and 0 <= moved < slept / 2:
            rest = max(rest, 2 * slept)
        return min(rest, _LONGEST_SLEEP)


class Token:
    """
    The right to one call. Making it takes the place in the limit.
    """

    __slots__ = ("_number", "_rate")

    def __init__(self, rate: Rate) -> None:
        self._rate: Rate | None = rate
        self._number = rate._meter.take()

    def renew(self, now: float) -> bool:
        """
        The call begins only now: have it count from this moment on. Those who wait are not
        asked, as they came later.

        Args:
            now: Seconds on the clock.

        Returns:
            Whether it may begin now. If not, its turn has passed unused while others had
            theirs, and the token is given back.
        """
        rate = self._rate
        assert rate is not None
        meter = rate._meter
        meter.see(now)
        self.give_back()
        if meter.wait():
            return False
        self._rate, self._number = rate, meter.take()
        return True

    def give_back(self) -> None:
        """
        The call was not made: leave things as if it had never been let in.

        Awaits nothing and works from anywhere. A second time does nothing.
        """
        rate, self._rate = self._rate, None
        if rate is not None:
            rate._meter.give_back(self._number)
            if rate._row is not None:
                rate._row.wake()


class _Run:
    """
    A term of the TAT: when a call was let in, and how many there are from it up to the
    call of the next term.
    """

    __slots__ = ("at", "calls", "first")

    def __init__(self, at: float, first: int) -> None:
        self.at = at
        self.first = first  # its call's number
        self.calls = 1


class _Meter:
    """
    The rule without a loop: when the next call may be let in.

    Attributes:
        limit: The settings.
        now: The time, as far as it is known.
    """

    __slots__ = (
        "_calls",
        "_interval",
        "_read",
        "_runs",
        "_taken",
        "_waived",
        "limit",
        "now",
    )

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.now = 0.0
        self._interval = limit.interval
        self._read = math.inf  # the last reading of the clock: any is before the first
        # The greatest term first, and each above the next: its calls have not ended, one
        # an interval, when the next begins.
        self._runs: list[_Run] = []
        self._calls = 0  # in all of them
        self._taken = 0
        self._waived = 0.0  # seconds that reloads have taken off the TAT

    def see(self, now: float, slept: float = 0.0) -> None:
        """
        Go on to a reading of the clock.

        Args:
            now: Seconds on the clock.
            slept: Seconds that have passed since the last one, should the clock not know:
                it is not finite, or has gone back.
        """
        if self._read <= now < math.inf:
            self.now = self._read = now
        elif math.isfinite(now):
            before = self.now + slept
            for run in self._runs:
                run.at = now - (before - run.at)
            self.now = self._read = now
        else:
            self.now += slept
            self._read += slept

    def wait(self, ahead: int = 0) -> float:
        """
        Seconds until a call may be let in that has so many before it; 0 for now.
        """
        interval = self._interval
        wait = max(self._left(), 0.0) + (ahead + 1 - self.limit.burst) * interval
        steps = _STEPS * math.ulp(max(abs(self.now), self._calls * interval))
        return wait if wait > min(steps, interval / 4) else 0.0

    def take(self) -> int:
        """
        Let a call in; its number.
        """
        runs, left = self._runs, self._left()
        if left < 0:
            self._waived = max(0.0, self._waived + left)
        while runs and self._ended(runs[-1], self.now):
            self._close(len(runs) - 1)
        self._taken += 1
        self._calls += 1
        if runs and runs[-1].at == self.now:
            runs[-1].calls += 1
        else:
            runs.append(_Run(self.now, self._taken))
        if len(runs) > _MOST_RUNS:
            # The two oldest become one, whose tokens are those of the second alone: only
            # they would lower both terms.
            oldest = runs.pop(0)
            runs[0].at = oldest.at
            runs[0].calls += oldest.calls
        return self._taken

    def give_back(self, number: int) -> None:
        """
        Have the call of that number not counted.
        """
        runs = self._runs
        place = bisect_right(runs, number, key=_first) - 1
        if place < 0:
            return  # as many intervals have passed unused since
        runs[place].calls -= 1
        self._calls -= 1
        while 0 <= place < len(runs) - 1 and self._ended(runs[place], runs[place + 1].at):
            self._close(place)
            place -= 1

    def set(self, limit: RateLimit) -> None:
        """
        Go on with other settings: what is in use stays so, counted in intervals.
        """
        scale = limit.interval / self._interval
        left = self._left() * scale
        owed = left + self._waived * scale
        if owed <= 0:
            owed = left = 0.0
            self._calls = 0
            self._runs.clear()
        # A smaller burst may find it exceeded by far.
        bearable = limit.seconds + (limit.burst - 1) * limit.interval
        self._waived = max(0.0, owed - bearable)
        later = owed - self._waived - left
        for run in self._runs:
            run.at = self.now - (self.now - run.at) * scale + later
        self.limit, self._interval = limit, limit.interval

    def _left(self) -> float:
        """
        Seconds until the TAT.
        """
        if not self._runs:
            return 0.0
        return self._calls * self._interval - (self.now - self._runs[0].at)

    def _ended(self, run: _Run, by: float) -> bool:
        return run.calls * self._interval <= by - run.at

    def _close(self, place: int) -> None:
        """
        That run is no longer above the next one. Its calls are those of the one before it.
        """
        run = self._runs.pop(place)
        if place:
            self._runs[place - 1].calls += run.calls
        else:
            self._calls -= run.calls


def _first(run: _Run) -> int:
    return run.first


class _Waiter:
    """
    One who waits.
    """

    __slots__ = ("bell", "bound", "refusal")

    def __init__(self, bound: float) -> None:
        self.bell = _loop.Bell()
        self.bound = bound
        self.refusal: float | None = None


class _Row:
    """
    Those who wait in the loop that runs, in the order in which they came.

    Attributes:
        token: The loop.
        looked: When the first one last looked at the clock, in seconds of the loop, or NaN.
        seen: What time it was then on that clock, or NaN.
    """

    __slots__ = ("_waiters", "looked", "seen", "token")

    def __init__(self) -> None:
        # The first of a plain dict is found by stepping over all who have gone.
        self._waiters: OrderedDict[_Waiter, None] = OrderedDict()
        self.token = current_token()
        self.looked = self.seen = math.nan

    def __len__(self) -> int:
        return len(self._waiters)

    @property
    def is_of_this_loop(self) -> bool:
        """
        Whether it is the loop that runs in which they wait. Those of a loop that was
        dropped stand in their row for ever, and nobody is to stand behind them.
        """
        return _loop.runs_here(self.token)

    def waiters(self) -> list[_Waiter]:
        """
        Who waits at this moment.
        """
        return list(self._waiters)

    def join(self, waiter: _Waiter) -> None:
        """
        Stand at the end of the row.
        """
        self._waiters[waiter] = None

    def leave(self, waiter: _Waiter) -> None:
        """
        Stand there no more. Awaits nothing, so whoever is cancelled can do it.
        """
        if waiter.refusal is None:
            was_first = self.is_first(waiter)
            del self._waiters[waiter]
            if was_first:
                self.wake()

    def refuse(self, waiter: _Waiter, wait: float) -> None:
        """
        Send one away.
        """
        del self._waiters[waiter]
        waiter.refusal = wait
        waiter.bell.ring()

    def is_first(self, waiter: _Waiter) -> bool:
        """
        Whether nobody stands before it.
        """
        return next(iter(self._waiters)) is waiter

    def wake(self) -> None:
        """
        Have the first one look.
        """
        for waiter in self._waiters:
            waiter.bell.ring()
            break
