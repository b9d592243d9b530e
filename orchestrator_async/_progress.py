"""
How far a tool has come, as it tells its observers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from anyio.lowlevel import EventLoopToken, current_token

from . import _loop
from ._callbacks import is_its_own
from ._events import Observers, ProgressReported
from ._foreign import is_a
from ._settle import Flight


class Reporter:
    """
    What ``ToolContext.report_progress`` calls, for one execution.

    A tool may keep it, copy it and call it from any thread and at any time, and nothing
    comes of what it says after its execution has ended. Observers are told in the loop.

    Attributes:
        flight: That execution, until it has ended.
        time_now: The orchestrator's clock.
    """

    __slots__ = ("_clean", "_observers", "_token", "flight", "time_now")

    def __init__(
        self,
        flight: Flight,
        observers: Observers,
        clean: Callable[[str], str],
        time_now: Callable[[], float],
    ) -> None:
        self.flight: Flight | None = flight
        self._observers = observers
        self._clean = clean
        self.time_now = time_now
        self._token: EventLoopToken = current_token()

    def __call__(self, done: Any, total: Any, message: Any) -> None:
        """
        Tell the observers.
        """
        flight = self.flight
        if flight is None or not self._observers.listening:
            return
        try:
            event = self._event(flight, done, total, message)
        except BaseException as raised:
            if not is_its_own(raised):
                raise
            flight.entry.complain("its progress cannot be told", raised)
            return
        if _loop.runs_here(self._token):
            self._tell(event)
        else:
            _loop.wake(self._token, lambda: self._tell(event))

    def end(self) -> None:
        """
        The execution has ended.
        """
        self.flight = None

    def _tell(self, event: ProgressReported) -> None:
        if self.flight is not None:
            self._observers.tell(event)

    def _event(
        self, flight: Flight, done: Any, total: Any, message: Any
    ) -> ProgressReported:
        request = flight.request
        return ProgressReported(
            tool_name=flight.entry.name,
            call_id=request.call_id,
            attempt=1 if request.course is None else request.course.attempt,
            done=_number(done),
            total=None if total is None else _number(total),
            message=None if message is None else self._clean(_text(message)),
        )


def _number(value: object) -> float:
    if not is_a(value, (bool, str, bytes, bytearray)):
        number = float(value)  # type: ignore[arg-type]
        if math.isfinite(number):
            return number
    raise ValueError("progress is told in finite numbers")


def _text(value: object) -> str:
    if is_a(value, str):
        return str.__str__(value)
    raise TypeError("the message of a progress is text")
