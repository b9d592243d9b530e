"""
By how much a loop runs late, so that what a machine adds to a call can be told from what
the library adds.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

TICK: Final = 0.005
_USUAL: Final = 0.002
"""Seconds by which timers are late on a machine that has nothing else to do."""


@dataclass(frozen=True, slots=True)
class Slow:
    """
    A call that took longer than its tool.

    Attributes:
        began: When it began.
        ended: When it ended.
        added: Seconds that it took beyond its tool's own.
    """

    began: float
    ended: float
    added: float


class Lag:
    """
    Watches the loop that it runs in.

    Attributes:
        worst: The largest lateness of a tick, in seconds.
    """

    def __init__(self, report: Callable[[Slow, float, float], object]) -> None:
        """
        Args:
            report: Is told of each slow call, with the seconds that the loop was late
                during it, and those that its thread waited for a processor.
        """
        self.worst = 0.0
        self._report = report
        self._late: deque[tuple[float, float]] = deque(maxlen=4000)
        self._waited: deque[tuple[float, float]] = deque(maxlen=4000)
        self._slow: list[Slow] = []

    def slow(self, call: Slow) -> None:
        """
        Report this call at the next tick, when it is known how late the loop was.
        """
        self._slow.append(call)

    async def all_told(self) -> None:
        """
        Wait until all slow calls are reported.
        """
        await anyio.sleep(2 * TICK)
        while self._slow:  # noqa: ASYNC110  # it is told with each tick
            await anyio.sleep(TICK)

    async def watch(self) -> None:
        """
        For ever.
        """
        before = time.monotonic()
        while True:
            await anyio.sleep(TICK)
            now = time.monotonic()
            late = now - before - TICK
            self.worst = max(self.worst, late)
            self._late.append((now, late))
            self._waited.append((now, waited_for_processor()))
            before = now
            calls, self._slow = self._slow, []
            for call in calls:
                self._report(call, self._late_during(call), self._waited_during(call))

    def _late_during(self, call: Slow) -> float:
        return sum(late for late in self._ticks_during(call) if late > _USUAL)

    def _ticks_during(self, call: Slow) -> Iterator[float]:
        for at, late in reversed(self._late):
            if at < call.began:
                return
            if at - late - TICK <= call.ended:
                yield late

    def _waited_during(self, call: Slow) -> float:
        after = next((w for at, w in self._waited if at >= call.ended), 0.0)
        before = next((w for at, w in reversed(self._waited) if at <= call.began), after)
        return max(0.0, after - before)


def waited_for_processor() -> float:
    """
    Seconds that this thread could have run and another one did, since it began.
    """
    with suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    return 0.0
