"""
Waiting until no call is running, for an orchestrator that takes no new ones.

A call costs nothing more for it. How many are running is known by the figures, which keep
the beginnings of calls in a dict; while somebody waits, that dict is of a kind that tells
when it has become empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio
from anyio.lowlevel import checkpoint

from ._stats import Figures


class Flights(dict[int, float]):
    """
    When the calls of a tool that are going on began, which tells when the last has ended.
    """

    def __init__(self, flights: dict[int, float], landed: Callable[[], None]) -> None:
        super().__init__(flights)
        self._landed = landed

    def __delitem__(self, number: int) -> None:
        super().__delitem__(number)
        if not self:
            self._landed()


def watch(figures: Figures, landed: Callable[[], None]) -> None:
    """
    Have it told when the last call of a tool has ended.
    """
    if isinstance(figures.flights, Flights):
        return
    flights = dict(figures.flights)
    if figures.alone:
        flights = {figures.alone: figures.alone_since, **flights}
        figures.alone = 0
    figures.flights = Flights(flights, landed)


def unwatch(figures: Figures) -> None:
    """
    Have it told no more.
    """
    figures.flights = dict(figures.flights)


class Drain:
    """
    The end of all calls, for those who wait for it.
    """

    def __init__(self, running: Callable[[], Mapping[str, int]]) -> None:
        self._running = running
        self._waiting: set[anyio.Event] = set()

    def landed(self) -> None:
        """
        The last call of some tool has ended.
        """
        if self._waiting and not self._running():
            for event in self._waiting:
                event.set()

    async def wait(self) -> None:
        """
        Return when no call is running.
        """
        await checkpoint()
        while self._running():
            event = anyio.Event()
            self._waiting.add(event)
            try:
                await event.wait()
            finally:
                self._waiting.discard(event)
