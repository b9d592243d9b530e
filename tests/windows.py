"""
Windows as slow as they are obvious, windows with a fault each, and what drives them.

The slow ones keep every call that is in the window, and can count them one by one. They
take calls out as their rule says and share nothing with the real ones but the number of
buckets. ``test_window`` drives both with the same events and wants the same counts after
each; and it sees that the same comparison finds every fault.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from random import Random
from typing import Any, NamedTuple, Protocol

from orchestrator_async._window import BUCKETS, Counts, CountWindow, TimeWindow


class Call(NamedTuple):
    failed: bool
    slow: bool
    number: int = 0  # of its bucket


class Kept:
    """
    Calls in their order, counted when they come and when they go.
    """

    def __init__(self) -> None:
        self.kept: deque[Call] = deque()
        self.calls = self.failures = self.slow = 0

    @property
    def counts(self) -> Counts:
        return Counts(self.calls, self.failures, self.slow)

    def scan(self) -> Counts:
        """
        The counts as they can be seen: one by one.
        """
        return Counts(
            len(self.kept),
            sum(call.failed for call in self.kept),
            sum(call.slow for call in self.kept),
        )

    def take(self, call: Call) -> None:
        self.kept.append(call)
        self._count(call, 1)

    def drop_oldest(self) -> None:
        self._count(self.kept.popleft(), -1)

    def _count(self, call: Call, by: int) -> None:
        self.calls += by
        self.failures += by if call.failed else 0
        self.slow += by if call.slow else 0


class SlowCountWindow(Kept):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def record(self, now: float, failed: bool, slow: bool) -> None:
        self.take(Call(failed, slow))
        if len(self.kept) > self.size:
            self.drop_oldest()

    def advance(self, now: float) -> None:
        pass

    def shift(self, by: float) -> None:
        pass

    def clear(self) -> None:
        while self.kept:
            self.drop_oldest()

    def resized(self, size: int) -> SlowCountWindow:
        new = SlowCountWindow(size)
        for call in self.kept:
            new.record(0.0, call.failed, call.slow)
        return new


class SlowTimeWindow(Kept):
    """
    Its numbers of buckets are those that the rule gives in floats.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.width = seconds / BUCKETS
        self.origin = 0.0
        self.current = 0  # the number of the newest bucket
        self.seen = 0.0  # the last time that an empty window knows of

    def number_at(self, now: float) -> int:
        return self.number_after(now - self.origin)

    def number_after(self, elapsed: float) -> int:
        """
        The greatest number for which ``number * width <= elapsed``.
        """
        number = int(elapsed / self.width)
        while number * self.width > elapsed:
            number -= 1
        while (number + 1) * self.width <= elapsed:
            number += 1
        return number

    def record(self, now: float, failed: bool, slow: bool) -> None:
        self.advance(now)
        if not self.kept:
            self.origin, self.current = self.seen, 0
        self.take(Call(failed, slow, self.current))

    def advance(self, now: float) -> None:
        if not math.isfinite(now):
            return
        if self.kept:
            self.current = max(self.current, self.number_at(now))
        while self.kept and self.kept[0].number <= self.current - BUCKETS:
            self.drop_oldest()
        if not self.kept:
            self.seen = now

    def shift(self, by: float) -> None:
        self.origin += by
        self.seen += by

    def clear(self) -> None:
        if self.kept:
            self.seen = self.origin + self.current * self.width
        while self.kept:
            self.drop_oldest()

    def resized(self, seconds: float) -> SlowTimeWindow:
        new = type(self)(seconds)
        kept = [
            call
            for call in self.kept
            if (self.current - call.number) * self.width < BUCKETS * new.width
        ]
        self.clear()
        new.seen = self.seen
        if kept:
            first = kept[0].number
            for call in kept:
                new.current = new.number_after((call.number - first) * self.width)
                new.take(Call(call.failed, call.slow, new.current))
            new.origin = self.origin + first * self.width
        return new


class ExactTimeWindow(SlowTimeWindow):
    """
    Its numbers of buckets are those that the rule gives without any rounding.
    """

    def number_at(self, now: float) -> int:
        return (Fraction(now) - Fraction(self.origin)) // Fraction(self.width)


# --- what drives them -------------------------------------------------------------------

Event = tuple[Any, ...]  # the name of the method, and its arguments


class Window(Protocol):
    calls: int
    failures: int
    slow: int

    @property
    def counts(self) -> Counts: ...
    def record(self, now: float, failed: bool, slow: bool) -> None: ...
    def advance(self, now: float) -> None: ...
    def shift(self, by: float) -> None: ...
    def clear(self) -> None: ...
    def resized(self, size: Any, /) -> Any: ...


class Slow(Window, Protocol):
    def scan(self) -> Counts: ...


class DisagreeError(AssertionError):
    """
    The two windows count differently.
    """


def compare(
    window: Window, slow: Slow, events: Iterable[Event], scan_every: int = 1
) -> int:
    """
    Drive both with the events, and want the same counts after each. How many they were.

    Args:
        scan_every: Count the slow one's calls one by one after every so many events.
    """
    done = 0
    for done, (name, *arguments) in enumerate(events, 1):
        if name == "resized":
            window, slow = window.resized(*arguments), slow.resized(*arguments)
        else:
            getattr(window, name)(*arguments)
            getattr(slow, name)(*arguments)
        want = slow.counts
        if (window.calls, window.failures, window.slow) != want or window.counts != want:
            raise DisagreeError(
                f"after {done}, {name}{arguments}: {window.counts}, not {want}"
            )
        if done % scan_every == 0:
            assert slow.scan() == want
    return done


class Habits(NamedTuple):
    """
    How the events of a long run are drawn.

    Attributes:
        sizes: What the window is resized to: calls or seconds.
        steps: Seconds from an event to the next.
        failing: How many of the calls fail, and how many are slow.
        rare: How many of the events are none of ``record`` and ``advance``.
    """

    sizes: list[Any]
    steps: list[float]
    failing: float
    rare: float


def events(seed: int, habits: Habits, number: int) -> Iterator[Event]:
    """
    A long run. Times are steps added up, or multiples of a step since the last jump, for
    these fall on the borders of buckets also where a width is not exact.
    """
    random = Random(seed)
    sizes, steps, failing, rare = habits
    now = since = float(random.randrange(1000))
    beat, beats = random.choice(steps), 0
    for _ in range(number):
        draw = random.random()
        if draw < 0.5:
            now += random.choice(steps)
        elif draw < 0.8:
            beats += random.choice((0, 1, 1, 1, 2, 9, 10, 11))
            now = max(now, since + beats * beat)
        if random.random() < rare:
            kind = random.choice(["shift", "clear", "resized", "jump", "odd"])
            if kind == "clear":
                yield ("clear",)
            elif kind == "resized":
                yield "resized", random.choice(sizes)
            elif kind == "odd":
                odd = random.choice([math.nan, math.inf, -math.inf, now - 64.0])
                yield random.choice([("record", odd, True, False), ("advance", odd)])
            elif kind == "shift":
                by = float(random.randrange(-512, 512))
                now += by
                since, beats = now, 0
                yield "shift", by
            else:
                now += random.choice([86_400.0, 31_536_000.0])
                since, beats, beat = now, 0, random.choice(steps)
                yield "advance", now
        elif draw < 0.95:
            yield "record", now, random.random() < failing, random.random() < failing
        else:
            yield "advance", now


# --- faults -----------------------------------------------------------------------------


class HoldsOneMore(CountWindow):
    def __init__(self, size: int) -> None:
        super().__init__(size + 1)


class EvictsTheNewest(CountWindow):
    """
    Once it is full, a call takes the place of the one before.
    """

    def record(self, now: float, failed: bool, slow: bool) -> None:
        if self.calls == len(self._ring):
            self._next = (self._next + 1) % len(self._ring)
        super().record(now, failed, slow)


class KeepsTheFailuresThatGo(CountWindow):
    """
    What is evicted is not taken out of the sum.
    """

    def record(self, now: float, failed: bool, slow: bool) -> None:
        before = self.failures
        super().record(now, failed, slow)
        self.failures = max(before, self.failures)


class ClearsTheSumsAlone(CountWindow):
    """
    The outcomes that were forgotten are evicted later on.
    """

    def clear(self) -> None:
        ring = self._ring[:]
        new = not hasattr(self, "calls")
        super().clear()
        if not new:
            self._ring = ring


class KeepsTheOldest(CountWindow):
    """
    A smaller window gets the calls that should have gone.
    """

    def resized(self, size: int) -> CountWindow:
        newest, gone = self._next + 1, max(0, self.calls - size)
        newest_first = self._ring[newest:] + self._ring[:newest]
        self._ring = newest_first[gone:] + newest_first[:gone]
        self._next = self._last
        return super().resized(size)


class CopiesTheRingAsItLies(CountWindow):
    """
    What is newest there is not what came last.
    """

    def resized(self, size: int) -> CountWindow:
        if self.calls == len(self._ring):
            self._next = self._last
        return super().resized(size)


class HoldsABucketTooMany(TimeWindow):
    """
    What goes out of the window does so a bucket later.
    """

    def clear(self) -> None:
        super().clear()
        self.late = 0

    def _next_bucket(self) -> None:
        before = self.calls
        super()._next_bucket()
        gone = before - self.calls
        self.calls += gone - self.late
        self.late = gone
        self._before = self.counts


class HoldsABucketTooFew(TimeWindow):
    def _next_bucket(self) -> None:
        super()._next_bucket()
        slot = (self._number + 1) % BUCKETS
        self.calls -= self._calls_of[slot]
        self._calls_of[slot] = 0
        self._before = self.counts


class DropsNothingOfASkippedBucket(TimeWindow):
    """
    Where time passes over buckets, only the last of them is looked at.
    """

    def _move_on(self, now: float) -> None:
        elapsed = now - self._origin
        if self.calls and elapsed < (self._number + BUCKETS) * self._width:
            while elapsed >= (self._number + 2) * self._width:
                self._note_newest()
                self._before = self.counts
                self._number += 1
        super()._move_on(now)


class KeepsTheSlowThatGo(TimeWindow):
    """
    What goes out is not taken out of the sum.
    """

    def _next_bucket(self) -> None:
        slow = self.slow
        super()._next_bucket()
        self.slow = slow


class CountsATimeOnce(TimeWindow):
    """
    Of calls at the same time, it counts the first.
    """

    last = math.nan

    def record(self, now: float, failed: bool, slow: bool) -> None:
        if now != self.last:
            super().record(now, failed, slow)
        self.last = now


class ForgetsToShift(TimeWindow):
    def shift(self, by: float) -> None:
        pass


class KeepsItsOrigin(TimeWindow):
    """
    Where everything has gone out, the buckets go on where they were.
    """

    def _move_on(self, now: float) -> None:
        before = self._origin
        super()._move_on(now)
        if self._origin != before:
            self._origin = before + (now - before) // self._width * self._width


class TakesABorderForTheBucketBefore(TimeWindow):
    def record(self, now: float, failed: bool, slow: bool) -> None:
        on_border = now - self._origin == self._ends
        super().record(self._origin if on_border else now, failed, slow)


class AddsWidthsUp(TimeWindow):
    """
    The border of a bucket is that of the one before and a width, rounded every time.
    """

    def _next_bucket(self) -> None:
        ends = self._ends
        super()._next_bucket()
        self._ends = ends + self._width


class ClearsTheNewestAlone(TimeWindow):
    """
    The buckets that were forgotten go out later on.
    """

    def clear(self) -> None:
        buckets = self._calls_of[:]
        super().clear()
        self._calls_of = buckets


class TakesAnOldTimeForANewClock(TimeWindow):
    def record(self, now: float, failed: bool, slow: bool) -> None:
        if now < self._origin:
            self.clear()
        super().record(now, failed, slow)


class IsResizedAsIfAllWereNew(TimeWindow):
    """
    What is kept stays for the whole of the new length.
    """

    def resized(self, seconds: float) -> TimeWindow:
        new = super().resized(seconds)
        start = self._origin + self._number * self._width
        calls, failures, slow = new.counts
        new.clear()
        new._make_room(start)
        new.calls, new.failures, new.slow = calls, failures, slow
        return new


COUNT_FAULTS: tuple[type[CountWindow], ...] = tuple(CountWindow.__subclasses__())
TIME_FAULTS: tuple[type[TimeWindow], ...] = tuple(TimeWindow.__subclasses__())
