"""
The time in which a tool waits for a person, which is not the tool's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from ._calls import ToolContext
from ._progress import Reporter
from ._settle import Flight


@contextmanager
def held(context: ToolContext) -> Iterator[None]:
    """
    While this is entered, the timeout of that execution does not run, and nothing that takes
    its duration counts the time. The timeout of the whole call runs on.

    To be entered in the loop; from any task, and by several at a time.
    """
    reporter = getattr(context, "_report", None)
    flight = reporter.flight if isinstance(reporter, Reporter) else None
    if flight is None:
        yield  # it has ended, or is none of ours
        return
    assert isinstance(reporter, Reporter)
    pause = flight.pause or Pause(flight)
    flight.pause = pause
    pause.begin(reporter.time_now())
    try:
        yield
    finally:
        pause.end(reporter.time_now())


class Pause:
    """
    What one execution is held for, by all that hold it.
    """

    __slots__ = ("_flight", "_holders", "_left", "_seconds", "_since")

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._holders = 0
        self._seconds = self._since = 0.0
        self._left: float | None = None

    def seconds(self, now: float) -> float:
        """
        Seconds that it was held until now, on the orchestrator's clock.
        """
        return self._seconds + (now - self._since if self._holders else 0.0)

    def begin(self, now: float) -> None:
        """
        One more holds it.
        """
        self._holders += 1
        if self._holders > 1:
            return
        self._since = now
        scope, flight = self._flight.scope, self._flight
        if scope is None or flight.is_cut or flight.timeout_struck():
            return
        self._left = scope.deadline - anyio.current_time()
        self._move(math.inf)

    def end(self, now: float) -> None:
        """
        One holds it no more.
        """
        self._seconds, self._since = self.seconds(now), now
        self._holders -= 1
        if not self._holders and self._left is not None:
            left, self._left = self._left, None
            self._move(anyio.current_time() + left)

    def _move(self, deadline: float) -> None:
        flight, scope = self._flight, self._flight.scope
        course = flight.request.course
        assert scope is not None
        whole = math.inf if course is None else course.deadline
        flight.is_cut = whole < deadline
        scope.deadline = min(deadline, whole)
