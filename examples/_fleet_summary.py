"""
What was counted, and what was claimed.

Above it stands ``_fleet_story``, which fills it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Claim:
    """
    What was claimed, whether it holds, and what was seen.
    """

    text: str
    holds: bool
    seen: str


class Summary:
    """
    The figures of a run.

    Attributes:
        claims: What was claimed so far.
    """

    def __init__(self) -> None:
        self.claims: list[Claim] = []
        self._counts: dict[str, dict[str, int]] = {}
        self._added: list[float] = []
        self._lag = 0.0
        self._windows: list[tuple[str, str]] = []

    def tally(self, name: str, report: dict[str, Any]) -> None:
        """
        A process tells what became of its calls so far.
        """
        self._counts[name] = report["counts"]
        self._added += report["added"]
        self._lag = max(self._lag, report["lag"])

    def all_are_there(self) -> None:
        """
        Forget how late calls were so far: a machine on which programs start is late itself.
        """
        self._added, self._lag = [], 0.0

    def windows(
        self, what: str, windows: Sequence[Sequence[object]], note: str = ""
    ) -> None:
        """
        How often the tool was executed in each of some half-open windows.
        """
        sizes = " ".join(str(len(window)) for window in windows)
        self._windows.append((what, f"{sizes} {note}".rstrip()))

    def claim(self, text: str, holds: bool, seen: str) -> None:
        """
        Write down a claim.
        """
        self.claims.append(Claim(text, holds, seen))

    def count(self, *kinds: str) -> int:
        """
        How many calls came to that, in all processes.
        """
        return sum(counts[kind] for counts in self._counts.values() for kind in kinds)

    @property
    def calls(self) -> int:
        """
        How many calls there were.
        """
        return self.count("ok", "failed", "refused", "other", "raised")

    @property
    def raised(self) -> int:
        """
        How many callers saw an exception, or an answer that is none of the tool or its
        circuit.
        """
        return self.count("raised", "other")

    def lines(self) -> list[str]:
        """
        All of it, to be read.
        """
        kinds = [f"{self.count(kind)} {kind}" for kind in ("ok", "failed", "refused")]
        lines = [
            f"Calls: {self.calls} ({', '.join(kinds)})",
            f"Exceptions seen by callers: {self.raised}",
            f"Added to a call: {self.added()}",
            "Tool executions per half-open window:",
        ]
        lines += [f"  {what:<22} {sizes}" for what, sizes in self._windows]
        lines.append("Claims, and what was seen:")
        for claim in self.claims:
            lines.append(f"  {'ok' if claim.holds else 'NO'}  {claim.text}: {claim.seen}")
        return lines

    def added(self) -> str:
        """
        The time that calls took beyond their tool's.
        """
        added = sorted(self._added)
        if not added:
            return "nothing was measured"
        return (
            f"{ms(_at(added, 0.5))} at the median, {ms(_at(added, 0.99))} for 99 in 100, "
            f"{ms(added[-1])} at most; the machine itself was late by up to {ms(self._lag)}"
        )

    def median_added(self) -> float:
        """
        Seconds that are added to half of the calls at the most.
        """
        return _at(sorted(self._added), 0.5) if self._added else math.inf


def _at(numbers: list[float], share: float) -> float:
    return numbers[min(len(numbers) - 1, int(len(numbers) * share))]


def ms(seconds: float) -> str:
    """
    A time, to be read.
    """
    return f"{max(0.0, seconds) * 1000:.1f} ms"
