"""
By which failures a fleet opens a circuit: the rule in force, and those that it was chosen from.

A run is the failures in a row that a process has seen of a tool, and a success ends it. The
rules are functions of the runs that there are at one moment, and of nothing else, but for the
first, which is of the failures that there ever were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

THRESHOLD = 3
"""Failures in a row that open a circuit, by default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """
    One of them.

    Attributes:
        name: What it is called in the tables.
        processes: How many must have a run so that all runs are added up, of so many that
            are alive; ``None`` where runs are never added up.
        ends: Whether a success ends its process's run.
    """

    name: str
    processes: Callable[[int], int] | None = None
    ends: bool = True

    def opens(self, live: int, runs: Collection[int], failures: int) -> bool:
        """
        Whether the circuit opens at a failure.

        Args:
            live: Processes that are alive.
            runs: The runs that there are, this failure included.
            failures: How many failures there ever were, this one included.
        """
        if not self.ends:
            return failures >= THRESHOLD
        if max(runs) >= THRESHOLD:
            return True  # what a process sees by itself is enough for it
        if self.processes is None:
            return False
        return len(runs) >= self.processes(live) and sum(runs) >= THRESHOLD


def _share(share: float) -> Callable[[int], int]:
    return lambda live: max(2, math.ceil(live * share))


EVERY_FAILURE = Rule(name="every failure", ends=False)
TWO_PROCESSES = Rule(name="two processes", processes=_share(0.0))
A_QUARTER = Rule(name="a quarter", processes=_share(0.25))
A_HALF = Rule(name="a half", processes=_share(0.5))
ALONE = Rule(name="alone")

IN_FORCE = A_HALF
RULES = (EVERY_FAILURE, TWO_PROCESSES, A_QUARTER, A_HALF, ALONE)
