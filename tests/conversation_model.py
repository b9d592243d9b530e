"""
A model of the rules of a conversation, which keeps all that happened and counts it anew each
time; and which rules a warning is of, as a model reads it.

It is written from docs/reference.md and the docstring of ``ConversationPolicy``. Of the package
it reads the settings alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from orchestrator_async import ConversationPolicy

Streak = tuple[str, ...]
"""A reason, and whose it is: of one call, a tool, or the run."""

WORDS = {
    "same_failures": r"This same call of \S+ has failed",
    "tool_failures": r"whatever its arguments",
    "same_results": r"has given the same result",
    "refusals": r"\S+ was refused",
    "unknown": r"do not exist",
    "calls": r"You have called tools|You have \d+ calls? left",
    "calls_per_tool": r"\S+ was called|You have \d+ calls? of \S+ left",
    "seconds": r"\d+ s are left of this run",
}


def reasons_of(warning: str) -> set[str]:
    """
    What a warning is of.
    """
    return {reason for reason, words in WORDS.items() if re.search(words, warning)}


@dataclass(eq=False, kw_only=True)
class Event:
    """
    A call, and what has become of it; or that one was refused.

    Attributes:
        turn: In which turn it was asked for.
        latest: The last turn that had begun when it ended.
        whole: Whether the tool was refused, and not these arguments alone.
        until: When the time has passed that the refusal named.
        streak: For what these rules have refused it.
        entered: Whether a tool was begun for it.
        place: As which of the calls of the run it was let through.
        place_of_tool: As which of those of its tool.
    """

    what: str = ""  # an ending, or "refused"
    turn: int
    latest: int = 0
    name: str = ""
    key: str = ""
    digest: str = ""
    known: bool = True
    polling: bool = False
    whole: bool = True
    until: float = math.inf
    streak: Streak = ()
    entered: bool = False
    place: int = 0
    place_of_tool: int = 0


@dataclass
class Tally:
    count: int = 0
    refused: int = 0
    heeded: int = 0
    news: int = 0
    until: float = math.inf


class Slow:
    """
    The rules of one run.
    """

    def __init__(self, policy: ConversationPolicy, began: float = 0.0) -> None:
        self.policy = policy
        self.began = began
        self.history: list[Event] = []
        self.latest = 0
        self.counted: list[Event] = []  # the calls that the run has had
        self.stopped: str | None = None
        self.news = 0
        self.time_is_short = False

    @property
    def total(self) -> int:
        return len(self.counted)

    def total_of(self, name: str) -> int:
        return sum(each.known and each.name == name for each in self.counted)

    def tally(self, streak: Streak) -> Tally:
        reason, *whose = streak
        tally = Tally()
        self.news = 0
        last: dict[Any, str] = {}
        for event in self.history:
            call = (event.name, event.key)
            fresh = event.what == "success" and last.get(call) != event.digest
            if event.what == "success":
                last[call] = event.digest
                self.news += fresh
            mine = whose == list(call) or whose == [event.name] or not whose
            counted = False
            if event.streak == streak:
                if event.turn > tally.heeded:
                    tally.refused += 1
                    tally.heeded = event.latest
            elif event.what == "refused" or not mine:
                continue
            elif reason in ("same_failures", "tool_failures"):
                if event.what == "success":
                    tally = Tally()
                counted = event.what in ("failure", "invalid")
            elif reason == "refusals":
                if event.what in ("success", "failure"):
                    tally = Tally()
                counted = event.what == "refusal" and event.whole == (len(whose) == 1)
                if counted:
                    tally.until = event.until
            elif reason == "same_results" and event.what == "success":
                if fresh or (not event.polling and tally.news != self.news):
                    tally = Tally()
                counted = fresh or not event.polling
            elif reason == "unknown":
                counted = event.what == "unknown"
            if counted and event.turn > tally.heeded:
                tally.count += 1
                tally.heeded = event.latest
                tally.news = self.news
        return tally

    def before(self, event: Event, now: float) -> tuple[str, str | None]:
        """
        What is to be done with the call, and why it is not to be run.
        """
        if self.stopped:
            return "stop", self.stopped
        over = self._over_budget(event, now) or self._going_round(event, now)
        if over is None:
            self.counted.append(event)
            event.place, event.place_of_tool = self.total, self.total_of(event.name)
            return ("run" if event.known else "unknown"), None
        tally, patience = self.tally(over), self.policy.patience
        if event.turn > tally.heeded and patience is not None and tally.refused >= patience:
            self.stopped = over[0]
            return "stop", over[0]
        refused = Event(what="refused", turn=event.turn, latest=self.latest, streak=over)
        self.history.append(refused)
        return "refuse", over[0]

    def _over_budget(self, event: Event, now: float) -> Streak | None:
        policy = self.policy
        if policy.seconds is not None and now - self.began >= policy.seconds:
            return ("seconds",)
        if policy.calls is not None and self.total >= policy.calls:
            return ("calls",)
        most = policy.calls_per_tool
        if event.known and most is not None and self.total_of(event.name) >= most:
            return "calls_per_tool", event.name
        return None

    def _going_round(self, event: Event, now: float) -> Streak | None:
        for streak in self.streaks_of(event):
            limit, tally = getattr(self.policy, streak[0]), self.tally(streak)
            if limit is None or tally.count < limit:
                continue
            if not event.known or (tally.news == self.news and now < tally.until):
                return streak
        return None

    def streaks_of(self, event: Event) -> list[Streak]:
        """
        What can be held against it.
        """
        name, key = event.name, event.key
        if not event.known:
            return [("unknown",)]
        return [
            ("same_failures", name, key),
            ("tool_failures", name),
            ("refusals", name, key),
            ("refusals", name),
            ("same_results", name, key),
        ]

    def after(self, event: Event, now: float) -> set[str]:
        """
        It has ended; the reasons of which there is a warning.
        """
        event.latest = self.latest
        streaks: list[Streak]
        match event.what:
            case "unknown":
                streaks = [("unknown",)]
            case "success":
                streaks = [("same_results", event.name, event.key)]
            case "refusal":
                whose = (event.name,) if event.whole else (event.name, event.key)
                streaks = [("refusals", *whose)]
            case _:
                streaks = [
                    ("same_failures", event.name, event.key),
                    ("tool_failures", event.name),
                ]
        before = [self.tally(each) for each in streaks]
        self.history.append(event)
        warned = set()
        for streak, old in zip(streaks, before, strict=True):
            limit, new = getattr(self.policy, streak[0]), self.tally(streak)
            counted = new != old and (new.count, new.heeded) != (old.count, old.heeded)
            if limit is not None and new.count >= limit and counted:
                warned.add(streak[0])
        if warned == {"same_failures", "tool_failures"}:
            warned = {"same_failures"}
        return warned | self._little_left(event, now)

    def _little_left(self, event: Event, now: float) -> set[str]:
        """
        Of which totals there is a warning: with the last call, and where a tenth is left. What
        is said is so when it is said: places that others have given back are left.
        """
        policy, warned = self.policy, set()
        totals = [("calls", policy.calls, min(event.place, self.total))]
        if event.known:
            mine = min(event.place_of_tool, self.total_of(event.name))
            totals.append(("calls_per_tool", policy.calls_per_tool, mine))
        for reason, limit, number in totals:
            if limit is not None and limit - number in (0, limit // 10):
                warned.add(reason)
        seconds = policy.seconds
        if seconds is not None and not self.time_is_short:
            self.time_is_short = seconds - (now - self.began) <= seconds / 10
            if self.time_is_short:
                warned.add("seconds")
        return warned

    def give_back(self, event: Event) -> None:
        """
        It was cancelled, or the run has ended while it waited.
        """
        if not event.entered:
            self.counted.remove(event)

    # Where it stands

    def situation(self, now: float, events: Iterable[Event | None]) -> tuple[object, ...]:
        """
        What decides what is to come of it, with these calls that it has had: of those that
        are still to end, what can be held against them.
        """
        running = [each for each in events if each is not None and not each.what]
        places = {(each.name, each.key) for each in self.history + running if each.name}
        streaks: set[Streak] = {("calls",), ("seconds",), ("unknown",)}
        for name, key in places:
            streaks |= {("calls_per_tool", name)}
            streaks |= set(self.streaks_of(Event(turn=0, name=name, key=key)))
        tallies = {each: self.tally(each) for each in sorted(streaks)}
        last = {(e.name, e.key): e.digest for e in self.history if e.what == "success"}
        seconds = self.policy.seconds
        return (
            *(self.stopped, self.time_is_short, self.total),
            tuple(self.total_of(name) for name in sorted({name for name, _ in places})),
            seconds and round(seconds - (now - self.began), 6),
            tuple(
                (
                    *(streak, tally.count, tally.refused, tally.news == self.news),
                    round(max(0.0, tally.until - now), 6),
                )
                for streak, tally in tallies.items()
            ),
            tuple(sorted(last.items())),
            tuple(
                (
                    *(each.name, each.key, each.place, each.place_of_tool, each.entered),
                    *(each.turn > tally.heeded for tally in tallies.values()),
                )
                for each in running
            ),
        )
