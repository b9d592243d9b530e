"""
What is seen of the fleet: what its processes and their service tell.

Above it stands ``_fleet_story``; below it the processes, the service and the timeline.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
from _fleet_process import Report, Worker
from _fleet_service import Asked, Health, Service
from _fleet_summary import Summary
from _fleet_timeline import Timeline

PATIENCE = 15.0
"""Seconds for which anything that must come is waited for."""


class NotSeenError(Exception):
    """
    What must come has not come, so the story ends here.
    """


class Fleet:
    """
    Four processes, and what is known of them.

    Attributes:
        workers: The processes.
        service: What their tool asks.
        timeline: What is shown.
        summary: What is counted.
        states: The circuit's state in each process.
        moves: Every change of it: when, and between which states.
        alone: Those that have lost the engine, and are on their own.
    """

    def __init__(self) -> None:
        names = [
            (f"{loop}-{number}", loop) for loop in ("asyncio", "trio") for number in (1, 2)
        ]
        self.workers = [Worker(name, loop) for name, loop in names]
        self.service = Service(self._asked)
        self.timeline = Timeline([name for name, _ in names])
        self.summary = Summary()
        self.states = dict.fromkeys((name for name, _ in names), "")
        self.moves: list[tuple[float, str, str]] = []
        self.alone: set[str] = set()
        self._news = anyio.Event()

    @property
    def alive(self) -> list[Worker]:
        """
        Those that nobody has killed.
        """
        return [worker for worker in self.workers if worker.is_alive]

    def are_all(self, *states: str) -> bool:
        """
        Whether the circuit is in one of these states in every process.
        """
        return all(self.states[worker.name] in states for worker in self.alive)

    def moved_to(self, state: str, since: float) -> list[float]:
        """
        When the circuit has come to that state since then, in any process.
        """
        return sorted(at for at, _, new in self.moves if at >= since and new == state)

    def asked_since(self, since: float) -> list[Asked]:
        """
        The executions of the tool since then.
        """
        return [each for each in self.service.asked if each.began >= since]

    async def until(self, claim: str, holds: Callable[[], bool]) -> float:
        """
        Wait until that holds, which is looked at whenever there is news.

        Returns:
            The time.

        Raises:
            NotSeenError: It does not hold, for too long.
        """
        with anyio.move_on_after(PATIENCE):
            while not holds():
                await self._news.wait()
            return time.monotonic()
        self.summary.claim(claim, False, f"not within {PATIENCE:.0f} s")
        raise NotSeenError

    def hear(self, worker: Worker, report: Report) -> None:
        """
        A process tells something.
        """
        name, at = worker.name, report["at"]
        match report["kind"]:
            case "joined":
                self.states[name] = "closed"
                what = f"joins the fleet, pid {report['pid']}"
                self.timeline.add(name, what, at, "closed")
            case "moved":
                old, new = report["old"], report["new"]
                self.states[name] = new
                self.moves.append((at, old, new))
                what = f"{old} -> {new} ({report['reason']})"
                self.timeline.add(name, what, at, new)
            case "log":
                text = report["text"]
                if "each process is on its own" in text:
                    self.alone.add(name)
                elif "answers again" in text:
                    self.alone.discard(name)
                self.timeline.add(name, text, at)
            case "tally":
                self.summary.tally(name, report)
            case "left":
                self.timeline.add(name, "has left the fleet", at, "gone")
        self._have_news()

    def _asked(self, asked: Asked) -> None:
        """
        The service tells that it was asked, and that it has answered.
        """
        is_calm = self.service.health is Health.WELL and self.are_all("closed", "")
        if not asked.is_over:
            if not is_calm:
                self.timeline.add("service", f"is asked by {asked.who}", asked.began)
        elif not asked.answer:
            self.timeline.add("service", f"sees {asked.who} gone", asked.ended)
        self._have_news()

    def _have_news(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()
