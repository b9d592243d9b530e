"""
How many calls may run at one time, and how many may wait for that: a bulkhead.

A place that comes back is handed to the first who waits, and is his before he wakes. So
nobody overtakes, one release wakes one task, and whoever is handed a place while being
cancelled, or while his time runs out, is the one who has it: he returns with it or passes
it on. Places are counted here and belong to no task and no loop; giving one back never
awaits, and works where no loop runs.

Anyio's ``CapacityLimiter`` is not used beneath. It holds the order, and passes a place on
when a task is cancelled; but it

- belongs to one loop (one that was made outside becomes that of the first loop that asks),
  and on trio a release outside of it, or by the garbage collector, raises;
- hands places to tasks of a loop that is gone: the release raises, and the place is lost;
- knows a place by its borrower, a task unless one is given, and a task may hold but one;
- has no bound on those who wait, and can tell their number only with a list of everybody
  who has a place;
- takes a turn of the loop for each place, also for one that is free.

The garbage collector closes coroutines in whatever thread and at whatever call it runs, so
``release`` may come between any two calls in here. There is no call between looking and
acting where that would matter. Otherwise a limit is not made for two threads at a time.

Nothing here looks at a clock: ``now`` is an argument, in seconds of one monotonic clock, or
NaN where the time is not known. Above it stands whoever runs tools; below it, ``_loop``.
"""

from __future__ import annotations

import enum
import functools
import math
from collections import OrderedDict
from typing import Final

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from . import _loop

_SHORTEST_RETRY: Final = 1.0
_LONGEST_RETRY: Final = 3600.0

_LONGEST_STEP: Final = 86_400.0
"""Seconds by which a clock may go on at once; if it is more, it was set, or is another."""

_REMEMBERED: Final = 16
"""Calls for each place that the average is of, at the most; at this number the older half
of what is known counts for half, so it is of that many or of half as many."""

_FEWEST_PLACES: Final = 4
"""A limit remembers as many calls as one of this size does, however small it is."""


class Refused(enum.Enum):
    """
    Why a place was not had.
    """

    FULL = "full"
    """As many wait as may. Nothing was awaited."""

    TIMED_OUT = "timed out"
    """None came back in time."""


class _Waiter:
    """
    One who waits.

    Attributes:
        has_place: Whether a place was handed over, which must be used or passed on.
        was_closed: Whether its coroutine was closed, by the garbage collector most often.
    """

    __slots__ = ("called", "has_place", "token", "was_closed")

    def __init__(self) -> None:
        self.token: EventLoopToken = current_token()
        self.called = anyio.Event()
        self.has_place = False
        self.was_closed = False


class Limit:
    """
    So many places, and a row of those who wait for one: first come, first served.

    Args:
        name: What it limits, as messages say it: ``"github"``.
        size: How many places, at least 1.
        max_queue: How many may wait at one time. Default 0: who finds no place is
            refused at once.
        max_wait: Seconds that one may wait; finite. Default 30. At 0 nobody waits.

    Attributes:
        name: What it limits.
        size: How many places.
        max_queue: How many may wait.
        max_wait: Seconds that one may wait.
        taken: How many places are taken. More than ``size`` for a while, where that has
            shrunk.

    Raises:
        ValueError: Naming the setting and the value that cannot be.
    """

    __slots__ = (
        "__weakref__",
        "_ended",
        "_held",
        "_most",
        "_row",
        "_seen",
        "max_queue",
        "max_wait",
        "name",
        "size",
        "taken",
    )

    def __init__(
        self, name: str, size: int, *, max_queue: int = 0, max_wait: float = 30.0
    ) -> None:
        self.name: str = name
        self.size: int
        self.max_queue: int
        self.max_wait: float
        self.taken: int = 0
        self._row: OrderedDict[_Waiter, None] = OrderedDict()
        self._seen = math.inf  # the last time that was told
        self._held = 0.0  # seconds, over all places, of the calls that are remembered
        self._ended = 0.0  # how many of these have ended
        self.reload(size, max_queue=max_queue, max_wait=max_wait)

    def __repr__(self) -> str:
        return f"<Limit {self.name!r} {self.taken} of {self.size} taken, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        """
        How many wait. Those of a loop that is gone are among them until a place comes
        back, or somebody else asks for one and finds none.
        """
        return len(self._row)

    def reload(
        self, size: int, *, max_queue: int, max_wait: float, now: float = math.nan
    ) -> None:
        """
        Go on with other settings. Those who hold a place keep it, and those who wait go
        on waiting, for as long as they would have. Growing lets the first of them in at
        once; shrinking lets nobody in until enough places have come back.

        Args:
            size: As above; so for the others.
            now: Seconds on the clock. Default: not known.

        Raises:
            ValueError: Naming the setting and the value that cannot be; nothing changes.
        """
        _check_count("size", size, 1)
        _check_count("max_queue", max_queue, 0)
        if type(max_wait) not in (int, float) or not 0 <= max_wait < math.inf:
            raise ValueError(f"max_wait={max_wait!r}: expected finite seconds, 0 or more")
        self._pass_time(now)  # who is let in now has held no place until now
        self.size, self.max_queue, self.max_wait = size, max_queue, max_wait
        self._most = _REMEMBERED * max(size, _FEWEST_PLACES)
        self._let_in()

    def take(self, now: float = math.nan) -> bool:
        """
        Take a place if one is free that is due to nobody who waits; whether there was one.
        It does not look whether the loop of those who wait is still there: ``acquire`` does.

        Args:
            now: Seconds on the clock. Default: not known.
        """
        if self.taken >= self.size or self._row:
            return False
        self._pass_time(now)
        self.taken += 1
        return True

    async def acquire(
        self, now: float = math.nan, *, wait: float = math.inf
    ) -> Refused | None:
        """
        Take a place, and wait for one if need be. Awaits nothing where one is free, or
        where nobody may wait for it.

        Args:
            now: Seconds on the clock. Default: not known.
            wait: Seconds to wait at the most, where that is less than ``max_wait``. At 0
                or less it does not wait.

        Returns:
            ``None`` if the place is held, which then has to be released; else why not.
        """
        if self.take(now):
            return None
        self._let_in()  # who stands first may be of a loop that is gone
        if self.take(now):
            return None
        if len(self._row) >= self.max_queue:
            return Refused.FULL
        wait = min(self.max_wait, wait)
        return await self._stand(wait) if wait > 0 else Refused.TIMED_OUT

    def release(self, now: float = math.nan) -> None:
        """
        Give a place back: to the first who waits, if there is one. Awaits nothing, and
        may be called anywhere: outside of a loop, in another one than that in which the
        place was taken, and in a coroutine that is being closed.

        Args:
            now: Seconds on the clock. Default: not known.

        Raises:
            RuntimeError: No place is taken.
        """
        if not self.taken:
            raise RuntimeError(f"{self!r}: released more often than taken")
        self._pass_time(now)
        self.taken -= 1
        self._ended += 1
        if self._ended >= self._most:
            self._held, self._ended = self._held / 2, self._ended / 2
        if self._row:
            self._let_in()

    def retry_after(self, now: float = math.nan) -> float:
        """
        Seconds after which who comes now may have a place, at a guess: as many places as
        are wanted before must come back, at the pace of the last calls. From 1 to 3600.

        Args:
            now: Seconds on the clock. Default: not known.
        """
        self._pass_time(now)
        # Those who hold a place now have been seen for half of their time, on average.
        calls = self._ended + self.taken / 2
        average = self._held / calls if calls else 0.0
        before = self.waiting + 1 + max(0, self.taken - self.size)
        return min(max(_SHORTEST_RETRY, average * before / self.size), _LONGEST_RETRY)

    def _pass_time(self, now: float) -> None:
        """
        Add up for how long places have been held. A clock that cannot be right adds none.
        """
        step = now - self._seen
        if step > 0:
            if step < _LONGEST_STEP:
                self._held += step * self.taken
            self._seen = now
        elif step < 0:
            self._seen = now

    async def _stand(self, wait: float) -> Refused | None:
        """
        Wait in the row for so long.
        """
        waiter = _Waiter()
        self._row[waiter] = None
        try:
            with anyio.move_on_after(wait):
                await self._be_called(waiter)
        except BaseException:
            self._leave(waiter)
            if waiter.was_closed:
                # The scope has complained, of a task that is not the one it knows.
                raise GeneratorExit from None
            raise
        if waiter.has_place:  # also where the time was up in the same moment
            return None
        self._leave(waiter)
        return Refused.TIMED_OUT

    async def _be_called(self, waiter: _Waiter) -> None:
        """
        Wait until a place is handed over.
        """
        try:
            await waiter.called.wait()
            while not waiter.has_place:
                # The loop stood still, and goes on: the turn was missed, so queue again.
                waiter.called = anyio.Event()
                self._row[waiter] = None
                self._let_in()
                await waiter.called.wait()
        except GeneratorExit:
            waiter.was_closed = True
            raise

    def _leave(self, waiter: _Waiter) -> None:
        """
        Wait no more; a place that was handed over goes to the next.
        """
        if waiter.has_place:
            self.release()
        else:
            self._row.pop(waiter, None)

    def _let_in(self, loop: EventLoopToken | None = None) -> None:
        """
        Hand the places that are free to those who wait, and send those away whose loop
        does not run, as far as they stand before them.

        Args:
            loop: The loop that runs, where a callback of it does this: on asyncio such a
                one cannot always tell.
        """
        while (first := self._first()) is not None:
            token = first.token
            is_here = token == loop or _loop.runs_here(token)
            if not is_here and _loop.is_alive(token):
                if self.taken < self.size:
                    _loop.wake(token, functools.partial(self._let_in, token))
                return
            # Those were calls. From here to the end of the change there is none.
            if self._first() is not first:
                continue
            if not is_here:
                del self._row[first]
                _loop.wake(token, first.called.set)  # heard if it goes on
            elif self.taken < self.size:
                self.taken += 1
                del self._row[first]
                first.has_place = True
                first.called.set()
            else:
                return

    def _first(self) -> _Waiter | None:
        for waiter in self._row:
            return waiter
        return None


def _check_count(name: str, value: int, least: int) -> None:
    if type(value) is not int or value < least:
        raise ValueError(f"{name}={value!r}: expected a whole number, at least {least}")
