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

A call may need its turn by several rates: those of its tool, of a group and of all tools. It
takes a token of each at one moment, the one at which all are there, and none before: a token
that is kept for the others would be of another moment than the call's. Those who wait for the
same rates stand in one row. Its first is let in as soon as he has all that he needs, unless the
first of another row has too, and came before him. So whoever waits is overtaken only while
something that he needs is not there, and he who waits for more holds nobody up. Nor is anybody
overtaken for ever: a rate that a tool has alone keeps his token until the others come.

Only the first of a row looks at the clock before his time is up; who goes wakes the next.
``_loop`` stands below this module, and whoever calls tools above it.
"""

from __future__ import annotations

import itertools
import math
import sys
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

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

_LATE: Final = 0.01
"""Seconds by which a turn may come too late: timers do, and so do those who stand before."""

_SOON: Final = 1.0
"""Seconds after which one is asked again whose time is up, but who is about to be let in."""

_tickets: Final = itertools.count()
"""Who came before whom, also in another row."""


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

    __slots__ = ("_meter", "_rows")

    def __init__(self, limit: RateLimit) -> None:
        self._meter = _Meter(limit)
        self._rows: dict[Rates, _Row] = {}

    @property
    def limit(self) -> RateLimit:
        """
        The settings.
        """
        return self._meter.limit

    @property
    def waiting(self) -> int:
        """
        How many wait for their turn by this rate, and maybe by others, in a loop that runs.
        """
        return sum(len(row) for row in self._all_rows() if _loop.is_alive(row.token))

    def reload(self, limit: RateLimit, now: float) -> None:
        """
        Go on with other settings.

        The calls that are in use of the burst stay so, and are given back by time at the
        new rate. Where that would keep the next call out for more than the new ``seconds``,
        it does not: the rest is waived, until a reload raises the burst again. Whoever waits
        is sent away where his turn would come too late, had he come now.

        Args:
            limit: The new settings.
            now: Seconds on the clock.
        """
        meter = self._meter
        meter.see(now)
        meter.set(limit)
        for row in self._all_rows():
            ahead = 0
            for waiter in row.waiters():
                wait = meter.wait(ahead)
                if wait > min(limit.max_wait, waiter.bound):
                    row.refuse(waiter, Late(self, wait))
                else:
                    ahead += 1
                    waiter.bell.ring()  # its time may be up sooner

    def _all_rows(self) -> list[_Row]:
        # A copy: the garbage collector may close one who waits while they are gone through.
        return list(self._rows.values())

    def _rows_here(self) -> list[_Row]:
        return [row for row in self._all_rows() if row.is_of_this_loop]


Rates = tuple[Rate, ...]


class Late(NamedTuple):
    """
    Why a call was not let in: its turn would come too late.

    Attributes:
        rate: By which rate.
        wait: The finite seconds until one that comes now would have its turn, at the least.
    """

    rate: Rate
    wait: float


class Token:
    """
    The right to one call. Making it takes the place in each limit.
    """

    __slots__ = ("_taken",)

    def __init__(self, rates: Rates) -> None:
        self._taken = [(rate, rate._meter.take()) for rate in rates]

    def give_back(self) -> None:
        """
        The call was not made: leave things as if it had never been let in.

        Awaits nothing and works from anywhere. A second time does nothing.
        """
        taken, self._taken = self._taken, []
        for rate, number in taken:
            rate._meter.give_back(number)
            for row in rate._all_rows():
                row.wake()


def take(rates: Rates, now: float) -> Token | None:
    """
    Let a call in if it may run now by all of these, and nobody goes before it.

    Args:
        rates: Whose turn it needs, each once and the narrowest first.
        now: Seconds on the clock.
    """
    for rate in rates:
        rate._meter.see(now)
    first = _first_to_go(rates, now)
    if first is not None:
        first.bell.ring()  # where it sleeps by another clock, it need not know
    elif not any(rate._meter.wait() for rate in rates):
        return Token(rates)
    return None


def wait_for(rate: Rate, rates: Rates) -> float:
    """
    Seconds until a call that comes now has its turn by one of the rates that it needs, at
    the least: after all who need no more than it does. They may be 0: those who wait have
    theirs, but have yet to be woken.
    """
    ahead = sum(len(row) for row in rate._rows_here() if row.needs_no_more_than(rates))
    return rate._meter.wait(ahead)


async def acquire(
    rates: Rates, clock: Callable[[], float], rest: Callable[[], float]
) -> Token | Late:
    """
    Wait until a call is let in. Awaits nothing where it is let in, or refused, at once.

    Args:
        rates: Whose turn it needs, each once and the narrowest first.
        clock: Tells the seconds; not asked often where it is not that of the loop.
        rest: Tells the seconds after which a turn comes too late whatever ``max_wait`` is.

    Returns:
        The token; or, where its turn would come too late, by which rate. That is found out
        at once where it is sure, else when ``max_wait`` or the rest is over, or when a reload
        makes it late.
    """
    token = take(rates, clock())
    if token is not None:
        return token
    bound = rest()
    for rate in rates:
        wait = wait_for(rate, rates)
        if wait > min(rate.limit.max_wait, bound):
            return Late(rate, wait)
    row = rates[0]._rows.get(rates)
    if row is None or not row.is_of_this_loop:
        row = _Row(rates)
    waiter = _Waiter(bound)
    row.join(waiter)
    try:
        return await _stand(row, waiter, clock, rest)
    finally:
        row.leave(waiter)


async def _stand(
    row: _Row, waiter: _Waiter, clock: Callable[[], float], rest: Callable[[], float]
) -> Token | Late:
    while waiter.refusal is None:
        waiter.bell = _loop.Bell()
        pause = math.inf
        if row.is_first(waiter):
            now = clock()
            pause = row.pause(now)
            if not pause:
                first = _first_to_go(row.rates, now)
                if first is None or first.ticket >= waiter.ticket:
                    # Nothing is awaited from here on: it has its token, or is cancelled.
                    return Token(row.rates)
                first.behind.append(waiter)
                first.bell.ring()
                pause = math.inf
            waiter.let_others_look()
        left = row.time_left(waiter, clock, rest())
        if isinstance(left, Late):
            return left
        with anyio.move_on_after(min(pause, left)):
            await waiter.bell.wait()
    return waiter.refusal


def _first_to_go(rates: Rates, now: float) -> _Waiter | None:
    """
    Of those who wait for one of these rates and may go now, the one who came first.
    """
    found: _Waiter | None = None
    for rate in rates:
        for row in rate._rows_here():
            first = row.first
            if first is None or (found is not None and found.ticket <= first.ticket):
                continue
            if row.may_go(now):
                found = first
    return found


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

    Attributes:
        bell: Rung when it is to look.
        since: When it came, in seconds of the loop.
        bound: Seconds after which a turn was too late for it then.
        ticket: Less than those of all who came after it.
        behind: Those of other rows who look again when it has gone, or cannot.
        refusal: Why it was sent away.
    """

    __slots__ = ("behind", "bell", "bound", "refusal", "since", "ticket")

    def __init__(self, bound: float) -> None:
        self.bell = _loop.Bell()
        self.since = anyio.current_time()
        self.bound = bound
        self.ticket = next(_tickets)
        self.behind: list[_Waiter] = []
        self.refusal: Late | None = None

    def let_others_look(self) -> None:
        """
        Have those look who let it go first.
        """
        behind, self.behind = self.behind, []
        for each in behind:
            each.bell.ring()


class _Row:
    """
    Those who wait for the same rates in the loop that runs, in the order in which they came.

    Attributes:
        rates: Which.
        token: The loop.
    """

    __slots__ = ("_looked", "_seen", "_waiters", "rates", "token")

    def __init__(self, rates: Rates) -> None:
        # The first of a plain dict is found by stepping over all who have gone.
        self._waiters: OrderedDict[_Waiter, None] = OrderedDict()
        self.rates = rates
        self.token = current_token()
        # When the first one last looked at the clock, in seconds of the loop, and what
        # time it was then by each rate.
        self._looked = math.nan
        self._seen = [math.nan] * len(rates)

    def __len__(self) -> int:
        return len(self._waiters)

    @property
    def is_of_this_loop(self) -> bool:
        """
        Whether it is the loop that runs in which they wait. Those of a loop that was
        dropped stand in their row for ever, and nobody is to stand behind them.
        """
        return _loop.runs_here(self.token)

    @property
    def first(self) -> _Waiter | None:
        """
        Before whom nobody stands.
        """
        for waiter in self._waiters:
            return waiter
        return None

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
        for rate in self.rates:
            rate._rows[self.rates] = self

    def leave(self, waiter: _Waiter) -> None:
        """
        Stand there no more. Awaits nothing, so whoever is cancelled can do it.
        """
        if waiter.refusal is None:
            was_first = self.is_first(waiter)
            del self._waiters[waiter]
            if was_first:
                self.wake()
        waiter.let_others_look()
        if not self._waiters:
            for rate in self.rates:
                if rate._rows.get(self.rates) is self:
                    del rate._rows[self.rates]

    def refuse(self, waiter: _Waiter, refusal: Late) -> None:
        """
        Send one away.
        """
        del self._waiters[waiter]
        waiter.refusal = refusal
        waiter.bell.ring()

    def is_first(self, waiter: _Waiter) -> bool:
        """
        Whether nobody stands before it.
        """
        return self.first is waiter

    def wake(self) -> None:
        """
        Have the first one look.
        """
        if (first := self.first) is not None:
            first.bell.ring()

    def needs_no_more_than(self, rates: Rates) -> bool:
        """
        Whether these may go whenever one that needs those may.
        """
        return all(rate in rates for rate in self.rates)

    def may_go(self, now: float) -> bool:
        """
        Whether there is a token by each rate.
        """
        for rate in self.rates:
            rate._meter.see(now)
        return not any(rate._meter.wait() for rate in self.rates)

    def pause(self, now: float) -> float:
        """
        Seconds that the first one is to sleep before it looks again; 0 for none.

        The rest, but longer each time where the clock has not moved half as far as the
        loop has slept: it is another kind of clock, and to ask it often is no use.
        """
        loop_now, longest = anyio.current_time(), 0.0
        slept, self._looked = loop_now - self._looked, loop_now
        for place, rate in enumerate(self.rates):
            meter, seen = rate._meter, self._seen[place]
            # Where somebody else has read the clock since, what passed before that is known.
            meter.see(now, slept if meter.now == seen else 0.0)
            moved = meter.now - seen  # less than nothing where it is another clock
            self._seen[place] = meter.now
            rest = meter.wait()
            if rest and 0 <= moved < slept / 2:
                rest = max(rest, 2 * slept)
            longest = max(longest, rest)
        return min(longest, _LONGEST_SLEEP)

    def time_left(
        self, waiter: _Waiter, clock: Callable[[], float], rest: float
    ) -> float | Late:
        """
        Seconds after which one is to ask again whether its time is up; or by which rate its
        turn has not come in time. Where there is a token for it, that one's time counts for
        nothing: it waits for the others.

        Args:
            waiter: The one.
            clock: Asked where the time of a rate is over.
            rest: Seconds after which a turn comes too late for it.
        """
        waited = anyio.current_time() - waiter.since
        lefts = [min(rate.limit.max_wait - waited, rest) for rate in self.rates]
        if min(lefts) < -_LATE:
            now, ahead, late = clock(), self._ahead_of(waiter), list[Late]()
            for rate, left in zip(self.rates, lefts, strict=True):
                rate._meter.see(now)
                if left < -_LATE and rate._meter.wait(ahead):
                    # Who comes again comes after all who wait.
                    late.append(Late(rate, rate._meter.wait(len(self) - 1)))
            if late:
                return max(late, key=lambda each: each.wait)
        return min((left + 2 * _LATE for left in lefts if left >= -_LATE), default=_SOON)

    def _ahead_of(self, waiter: _Waiter) -> int:
        return next(place for place, each in enumerate(self._waiters) if each is waiter)
