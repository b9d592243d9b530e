"""
The figures of a fleet: what a process says of its own, and what all together come to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ._fleet import Fleet
from ._stats import Figures
from ._text import clean

_SUMS: Final = (
    "total_failures",
    "successes",
    "calls",
    "rejected",
    "invalid",
    "late",
    "timeouts",
    "cancelled",
    "ignored",
    "in_flight",
    "throttled",
    "would_reject",
    "retries",
)
"""What is added up, in the order in which it is told."""

_MOST: Final = 2**53
_LONGEST_NAME: Final = 128


class Reports:
    """
    What one process says of its tools, and hears of those of others.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._said: dict[str, str] = {}

    def forget(self) -> None:
        """
        Nothing has been said, or it may be lost: say all of it again.
        """
        self._said.clear()

    def news(self) -> dict[str, str]:
        """
        What has changed since it was asked for last, by tool.
        """
        news = {}
        called = set(self._fleet.called())
        for name in [name for name in self._said if name not in called]:
            del self._said[name]
            news[name] = ""  # it is gone
        for name in called:
            said = self._of(self._fleet.figures(name))
            if self._said.get(name) != said:
                news[name] = self._said[name] = said
        return news

    @staticmethod
    def _of(figures: Figures) -> str:
        counts = [getattr(figures, each) for each in _SUMS]
        return json.dumps([*counts, round(figures.total_time, 6)])

    def together(
        self, others: Mapping[str, Mapping[str, str]]
    ) -> dict[str, dict[str, Any]]:
        """
        The figures of all processes, by tool: sums, and how many processes they are of.

        Args:
            others: What other processes have said, by process and tool.
        """
        sums: dict[str, list[float]] = {}
        processes: dict[str, int] = {}
        own = {name: self._of(self._fleet.figures(name)) for name in self._fleet.called()}
        for report in (own, *others.values()):
            for name, said in report.items():
                numbers = _read(said)
                if numbers is None or not self._is_name(name):
                    continue
                before = sums.get(name, [0] * len(numbers))
                sums[name] = [a + b for a, b in zip(before, numbers, strict=True)]
                processes[name] = processes.get(name, 0) + 1
        return {name: self._shown(name, sums[name], processes[name]) for name in sums}

    def _is_name(self, name: str) -> bool:
        """
        Whether that may be a tool, of this process or of another: a store holds what anybody
        could have written.
        """
        return name in self._fleet.registry or (
            len(name) <= _LONGEST_NAME and clean(name) == name
        )

    def _shown(self, name: str, numbers: list[float], processes: int) -> dict[str, Any]:
        shown: dict[str, Any] = dict(zip(_SUMS, numbers, strict=False))
        tool = self._fleet.registry.get(name)
        circuit = None if tool is None else self._fleet.circuit(tool.circuit_name)
        ended = shown["calls"] - shown["in_flight"]
        shown["avg_time"] = numbers[-1] / ended if ended > 0 else 0.0
        return {
            "state": None if circuit is None else circuit.state.value,
            "failures": None if circuit is None else circuit.failures,
            **shown,
            "processes": processes,
        }


def _read(said: str) -> list[float] | None:
    """
    The numbers in what a process has said, if that is what they can be.
    """
    try:
        numbers = json.loads(said)
    except (ValueError, RecursionError):
        return None
    if type(numbers) is not list or len(numbers) != len(_SUMS) + 1:
        return None
    *counts, seconds = numbers
    if any(type(each) is not int or not 0 <= each < _MOST for each in counts):
        return None
    if type(seconds) not in (int, float) or not 0 <= seconds < _MOST:
        return None
    return numbers
