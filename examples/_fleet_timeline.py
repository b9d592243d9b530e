"""
The timeline: what many processes tell, each in its own time, in one order.

Above it stands ``_fleet_story``; below it there is ``print``.
"""

from __future__ import annotations

import heapq
import time

import anyio

HELD = 0.3
"""Seconds for which a line waits for earlier ones, which may come from a process that is slow."""

SIGNS = {"closed": "-", "open": "O", "half_open": "H", "": ".", "gone": "x"}
LEGEND = "Circuits: - closed, O open, H half-open, x its process has ended."


class Timeline:
    """
    Lines that are shown in the order of their times, a moment after these.

    Attributes:
        began: What times are counted from.
    """

    def __init__(self, names: list[str]) -> None:
        """
        It is empty.

        Args:
            names: The processes whose circuits are shown beside each line.
        """
        self.began = time.monotonic()
        self._states = dict.fromkeys(names, "")
        self._waiting: list[tuple[float, int, str, str, str]] = []
        self._number = 0

    def head(self) -> None:
        """
        Show what the columns are.
        """
        print(f"\n{LEGEND}", flush=True)
        print(f"Side by side those of {', '.join(self._states)}.", flush=True)

    def add(self, who: str, what: str, at: float | None = None, state: str = "") -> None:
        """
        Add a line.

        Args:
            who: Who tells it; nobody, for a heading.
            what: What has happened.
            at: When, on the monotonic clock; now, if nothing is said.
            state: What its circuit is from then on, if that is new.
        """
        at = time.monotonic() if at is None else at
        self._number += 1  # lines of one moment stay in the order in which they came
        heapq.heappush(self._waiting, (at, self._number, who, what, state))

    def seconds(self) -> float:
        """
        How long it is by now.
        """
        return time.monotonic() - self.began

    async def show(self) -> None:
        """
        Show lines as they come, for good.
        """
        while True:
            await anyio.sleep(HELD / 4)
            self.show_until(time.monotonic() - HELD)

    def show_until(self, end: float = float("inf")) -> None:
        """
        Show what has happened until then.
        """
        while self._waiting and self._waiting[0][0] <= end:
            at, _, who, what, state = heapq.heappop(self._waiting)
            if state:
                self._states[who] = state
            signs = " ".join(SIGNS.get(state, "?") for state in self._states.values())
            if not who:
                print()
            print(
                f"{at - self.began:7.3f} s  {signs}  {who or '***':<9}  {what}", flush=True
            )
