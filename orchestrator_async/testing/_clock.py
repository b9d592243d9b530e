"""
A clock that tests turn by hand.
"""

from __future__ import annotations

import math


class FakeClock:
    """
    A clock that stands still until it is told to go on: ``ToolOrchestrator(clock=...)``.

    Circuits, leases and durations go by it. The ``timeout`` of a tool does not: that goes
    by the event loop's clock, as everything does that sleeps.

    Args:
        now: Seconds that it shows at first. Default 0.

    Attributes:
        now: Seconds that it shows.

    Raises:
        ValueError: ``now`` is not finite.
    """

    __slots__ = ("now",)

    def __init__(self, now: float = 0.0) -> None:
        if not math.isfinite(now):
            raise ValueError(f"now={now!r} cannot be; expected a finite number of seconds")
        self.now: float = now

    def __call__(self) -> float:
        return self.now

    def __repr__(self) -> str:
        return f"FakeClock({self.now!r})"

    def advance(self, seconds: float) -> None:
        """
        Let time pass.

        Args:
            seconds: How much, 0 or more.

        Raises:
            ValueError: ``seconds`` is negative or not finite: a monotonic clock never
                goes back.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"seconds={seconds!r} cannot be; expected 0 or more")
        self.now += seconds
