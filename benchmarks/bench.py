"""
What a scenario has in hand: a bench of breakers, callers, and a verdict.

Below it are the subjects, above it the scenarios.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import repeat

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from .subject import (
    THRESHOLD,
    Make,
    NotOfferedError,
    Subject,
    ToolDownError,
    Wanted,
)

CALLERS = 1_000
SHORT = 0.2
"""Seconds open where they are to pass, mostly on a real clock."""
LONG = 3_600.0
"""Seconds open where they are not."""
ROUNDS = 5
"""Open times after which a circuit that admits nobody is called wedged."""
LIMIT = 30.0
"""Seconds that a scenario may take."""


class Mark(enum.StrEnum):
    """
    What a cell of the table says.
    """

    RIGHT = "right"
    FAULT = "fault"
    NOT_OFFERED = "n/a"
    BROKEN = "broken"


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """
    How a scenario went.

    Attributes:
        mark: Whether it was right, a fault, or could not be asked.
        says: The fault, or why there is none to be seen; empty if it was right.
    """

    mark: Mark
    says: str = ""


class FaultError(Exception):
    """
    The scenario cannot go on, and this is why.
    """


@dataclass(kw_only=True, eq=False)
class Call:
    """
    One call, which stays in the tool until it is released or cancelled.
    """

    raises: type[Exception] | None = None
    reached: bool = False
    interrupted: bool = False
    value: str | None = None
    error: Exception | None = None
    _go_on: anyio.Event = field(default_factory=anyio.Event)
    _ended: anyio.Event = field(default_factory=anyio.Event)
    _scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    @property
    def is_settled(self) -> bool:
        """
        Whether it is in the tool, or has ended.
        """
        return self.reached or self._ended.is_set()

    async def run(self, subject: Subject) -> None:
        """
        Make the call, in a task of its own.
        """
        with self._scope:
            try:
                self.value = await subject.call(self._tool)
            except Exception as error:
                self.error = error
        self._ended.set()

    async def release(self) -> Call:
        """
        Let the tool end.
        """
        self._go_on.set()
        await self._ended.wait()
        return self

    async def cancel(self) -> None:
        """
        Cancel the caller.
        """
        self._scope.cancel()
        await self._ended.wait()

    async def _tool(self) -> str:
        self.reached = True
        try:
            await self._go_on.wait()
        except BaseException:
            self.interrupted = True
            raise
        if self.raises is not None:
            raise self.raises("the tool says so")
        return "fine"


class Bench:
    """
    Breakers of one library, and callers.
    """

    def __init__(self, make: Make, group: TaskGroup) -> None:
        self._make = make
        self._group = group
        self.subject: Subject

    def renew(self, wanted: Wanted) -> None:
        """
        Go on with a breaker that nobody has used.
        """
        self.subject = self._make(wanted)

    async def start(self, count: int, raises: type[Exception] | None = None) -> list[Call]:
        """
        Make calls at one time. Each is in the tool, refused, or waits for a place.
        """
        calls = [Call(raises=raises) for _ in repeat(None, count)]
        for each in calls:
            self._group.start_soon(each.run, self.subject)
        # More turns of the loop than any library takes to admit a call, or to refuse it.
        for _ in repeat(None, 200):
            if all(each.is_settled for each in calls):
                break
            await checkpoint()
        return calls

    async def one(self, raises: type[Exception] | None = None) -> Call:
        """
        Make one call.
        """
        return (await self.start(1, raises))[0]

    async def whole(self, raises: type[Exception] | None = None) -> Call:
        """
        Make one call, and see it end.
        """
        return await (await self.one(raises)).release()

    async def trip(self) -> None:
        """
        Open the circuit.
        """
        for _ in repeat(None, THRESHOLD):
            await self.whole(ToolDownError)
        if await self.subject.state() != "open":
            raise FaultError(f"{THRESHOLD} failures in a row do not open it")

    async def trip_and_wait(self) -> None:
        """
        Open the circuit, and let the time pass that it stays open.
        """
        await self.trip()
        await self.subject.pass_time(SHORT * 1.5)

    async def probe(self) -> Call:
        """
        A probe that is in the tool.
        """
        await self.trip_and_wait()
        probe = await self.one()
        if not probe.reached:
            raise FaultError("nobody may probe after the open time")
        return probe

    async def closes(self) -> bool:
        """
        Whether good calls close it.
        """
        # One library is asked for two, for the reason that its adapter gives.
        for _ in repeat(None, 3):
            if await self.subject.state() == "closed":
                return True
            await self.whole()
        return await self.subject.state() == "closed"


Scenario = Callable[[Bench], Awaitable[str | None]]


async def judge(scenario: Scenario, make: Make) -> Verdict:
    """
    Run a scenario on a library, in bounded time.
    """
    verdict = Verdict(mark=Mark.FAULT, says="nobody gets an answer any more")
    with anyio.move_on_after(LIMIT):
        async with anyio.create_task_group() as group:
            try:
                verdict = _found(await scenario(Bench(make, group)))
            except FaultError as fault:
                verdict = _found(str(fault))
            except NotOfferedError as reason:
                verdict = Verdict(mark=Mark.NOT_OFFERED, says=str(reason))
            group.cancel_scope.cancel()
    return verdict


def _found(says: str | None) -> Verdict:
    return Verdict(mark=Mark.FAULT, says=says) if says else Verdict(mark=Mark.RIGHT)
