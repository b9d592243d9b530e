"""
Marks of calls in context variables: a task that outlives its call keeps none that grow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from orchestrator_async import (
    BreakerPolicy,
    LimitPolicy,
    Registry,
    ToolCall,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
)
from orchestrator_async._around import _falling
from orchestrator_async._execution import _probes
from orchestrator_async._gates import _held
from orchestrator_async._marks import put, take_off

from .support import HandClock, when_blocked

RUNS = 5


class Scheduler:
    """
    Runs of a tool, each of which is begun by the one before and made when that has ended.
    """

    def __init__(self, variable: ContextVar[Any], **options: Any) -> None:
        self.registry = Registry()
        self.clock = HandClock()
        self.orch = ToolOrchestrator(self.registry, clock=self.clock, **options)
        self.variable = variable
        self.kept: list[int] = []

    def begin_another(self) -> None:
        """
        Note how many marks there are, and begin the next run.
        """
        self.kept.append(len(self.variable.get(())))
        if len(self.kept) < RUNS:
            self.group.start_soon(self._once)

    async def run(self, once: Callable[[], Any] | None = None) -> list[int]:
        """
        Make the runs, and return how many marks each has found.
        """
        self._make = once or (lambda: self.orch.dispatch("tool"))
        async with anyio.create_task_group() as self.group:
            self.group.start_soon(self._once)
        assert self.variable.get(()) == ()
        return self.kept

    async def _once(self) -> None:
        await when_blocked()
        self.clock.turn(100)
        await self._make()


async def test_places_that_were_given_back_are_handed_on_to_nobody() -> None:
    runs = Scheduler(_held)

    @runs.registry.tool(policy=ToolPolicy(limits=LimitPolicy(max_concurrent=2)))
    async def tool() -> None:
        runs.begin_another()

    assert await runs.run() == [1] * RUNS


async def test_fallbacks_that_have_answered_are_handed_on_to_nobody() -> None:
    runs = Scheduler(_falling, failure_threshold=99)

    def answer(call: ToolCall, result: ToolResult) -> str:
        runs.begin_another()
        return "instead"

    @runs.registry.tool(policy=ToolPolicy(fallback=answer))
    async def tool() -> None:
        raise ConnectionError("down")

    assert await runs.run() == [1] * RUNS


async def test_probes_that_have_ended_are_handed_on_to_nobody() -> None:
    runs = Scheduler(_probes, policy=BreakerPolicy(failure_threshold=1, reset_timeout=50))

    @runs.registry.tool
    async def tool() -> None:
        runs.begin_another()
        raise ConnectionError("down")

    assert await runs.run() == [0] + [1] * (RUNS - 1)


async def test_places_of_streams_that_have_ended_are_handed_on_to_nobody() -> None:
    runs = Scheduler(_held)

    @runs.registry.tool(policy=ToolPolicy(limits=LimitPolicy(max_concurrent=2)))
    async def tool() -> AsyncIterator[str]:
        yield "first"
        runs.begin_another()  # within a step that the stream runs with its places
        yield "second"

    async def once() -> None:
        async with runs.orch.stream("tool") as chunks:
            async for _ in chunks:
                await checkpoint()

    assert await runs.run(once) == [1] * RUNS


class Mark:
    def __init__(self) -> None:
        self.is_over = False


@pytest.fixture
def marks() -> ContextVar[tuple[Mark, ...]]:
    return ContextVar("marks")


def test_what_is_not_over_stays(marks: ContextVar[tuple[Mark, ...]]) -> None:
    first, second, third = Mark(), Mark(), Mark()
    outer = put(marks, (first, second))
    first.is_over = True
    inner = put(marks, (third,))
    assert marks.get() == (second, third)
    take_off(marks, inner)
    assert marks.get() == (first, second)
    take_off(marks, None)
    take_off(marks, outer)
    assert marks.get(()) == ()
