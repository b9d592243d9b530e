"""
Waiting until no call is running, for an orchestrator that takes no new ones.

A call costs nothing more for it. How many are running is known by the figures, which keep
the beginnings of calls in a dict; while somebody waits, that dict is of a kind that tells
when it has become empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from anyio.lowlevel import checkpoint

from . import _loop
from ._errors import OrchestratorError
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
    flights = dict(figures.flights)
    if figures.alone:
        flights[figures.alone] = figures.alone_since
        flights = dict(sorted(flights.items()))  # it may have begun after some of them
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
        self._waiting: set[_loop.Bell] = set()
        self._called_off = False
        self._tools = 0  # of which calls are running

    def watch(self, figures: Figures) -> None:
        """
        Have it told when the last call of a tool has ended.
        """
        self._tools += 1
        watch(figures, self.landed)

    def landed(self) -> None:
        """
        The last call of some tool has ended. There are no new ones.
        """
        self._tools -= 1
        if not self._tools:
            self._ring()

    def call_off(self) -> None:
        """
        Calls are taken again, so that there may be no end to them.
        """
        self._called_off = True
        self._ring()

    async def wait(self) -> None:
        """
        Return when no call is running.

        Raises:
            OrchestratorError: It was called off before.
        """
        await checkpoint()
        while self._running():
            if self._called_off:
                raise OrchestratorError("resume was called before all calls had ended.")
            bell = _loop.Bell()
            self._waiting.add(bell)
            try:
                await bell.wait()
            finally:
                self._waiting.discard(bell)

    def _ring(self) -> None:
        for bell in self._waiting:
            bell.ring()
