"""
What one call costs, on the loop that runs.

The baselines are the tool itself, awaited, and the dispatch that a user would write by
hand without protection: a dict of functions, and a function around it. The cases are
written out, for a helper that calls any of them would cost as much as they do.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from itertools import repeat
from statistics import median
from typing import Any

import anyio
import anyio.to_thread
from anyio.lowlevel import checkpoint

from orchestrator_async import (
    BreakerPolicy,
    CircuitState,
    Observer,
    Registry,
    ToolCall,
    ToolOrchestrator,
)

from .measure import Batch, Effort, Row, in_turn, wall_ns

CLOSED_GOAL = 3.0
REFUSAL_GOAL = 1.4
TIMEOUT_GOAL = 1.25

REFUSAL_KEYS = {
    "error",
    "tool_name",
    "circuit_breaker",
    "state",
    "retry_after",
    "alternatives",
}

TOOLS = 20
"""Tools that are registered wherever one is called."""

args = {"city": 1}
text = '{"city": 1}'


async def tool(city: int) -> str:
    """The forecast."""
    return "sun"


async def tool_with_dict(city: int) -> dict[str, object]:
    """The forecast, with more to it."""
    return {"city": city, "forecast": ["sun", "rain"], "error": None}


async def broken_tool(city: int) -> str:
    """The forecast, on a bad day."""
    raise ConnectionError("no route to host")


def plain_tool(city: int) -> str:
    """The forecast, by a plain function."""
    return "sun"


tools: dict[str, Callable[..., Awaitable[Any]]] = {
    **{f"tool_{number}": tool for number in range(TOOLS - 1)},
    "tool": tool,
}


async def hand(name: str, args: dict[str, Any]) -> Any:
    """The dispatch that a user would write by hand."""
    return await tools[name](**args)


def registered(fn: Callable[..., Any] = tool, *, validate: bool = False) -> Registry:
    """
    A registry with this function as ``tool``, and others.
    """
    registry = Registry()
    for number in range(TOOLS - 1):
        registry.tool(name=f"tool_{number}", validate=validate)(tool)
    registry.tool(name="tool", validate=validate)(fn)
    return registry


def orchestrated(
    fn: Callable[..., Any] = tool, *, validate: bool = False, **options: Any
) -> ToolOrchestrator:
    """
    An orchestrator with defaults for such a registry.
    """
    return ToolOrchestrator(registered(fn, validate=validate), **options)


def ignore_event(event: object) -> None:
    """An observer that does nothing."""


# Cases


async def bare(times: int) -> None:
    """The tool, called by its name in Python."""
    for _ in repeat(None, times):
        await tool(1)


async def inline(times: int) -> None:
    """The tool, looked up on the spot."""
    for _ in repeat(None, times):
        await tools["tool"](**args)


async def by_hand(times: int) -> None:
    """The tool, through the function that a user would write."""
    for _ in repeat(None, times):
        await hand("tool", args)


async def bare_timeout(times: int) -> None:
    """The tool, under a timeout."""
    for _ in repeat(None, times):
        with anyio.move_on_after(30):
            await tool(1)


async def bare_checkpoint(times: int) -> None:
    """One turn of the loop."""
    for _ in repeat(None, times):
        await checkpoint()


async def bare_thread(times: int) -> None:
    """The plain function in a thread."""
    for _ in repeat(None, times):
        await anyio.to_thread.run_sync(plain_tool, 1)


async def bare_group(times: int) -> None:
    """16 calls by hand, side by side."""
    for _ in repeat(None, times):
        async with anyio.create_task_group() as group:
            for _ in range(16):
                group.start_soon(hand, "tool", args)


def dispatching(orch: ToolOrchestrator, given: Any = args) -> Batch:
    """
    ``dispatch``, with these arguments.
    """

    async def batch(times: int) -> None:
        for _ in repeat(None, times):
            await orch.dispatch("tool", given)

    return batch


def running(orch: ToolOrchestrator) -> Batch:
    """
    ``run``.
    """

    async def batch(times: int) -> None:
        for _ in repeat(None, times):
            await orch.run("tool", args)

    return batch


def calling(orch: ToolOrchestrator) -> Batch:
    """
    ``call``.
    """

    async def batch(times: int) -> None:
        for _ in repeat(None, times):
            await orch.call("tool", args)

    return batch


def dispatching_all(orch: ToolOrchestrator) -> Batch:
    """
    ``dispatch_all`` of 16 calls.
    """
    turn = [ToolCall("tool", args) for _ in range(16)]

    async def batch(times: int) -> None:
        for _ in repeat(None, times):
            await orch.dispatch_all(turn)

    return batch


# Figures


async def closed(loop: str, effort: Effort) -> list[Row]:
    """
    Calls on a healthy circuit, in a coroutine.
    """
    never_opens = BreakerPolicy(failure_threshold=10**9)
    cases: dict[str, Batch] = {
        "bare await": bare,
        "by hand, inline": inline,
        "by hand": by_hand,
        "dispatch": dispatching(orchestrated()),
        "dispatch, validated, from a dict": dispatching(orchestrated(validate=True)),
        "dispatch, validated, from JSON": dispatching(orchestrated(validate=True), text),
        "dispatch, a dict result": dispatching(orchestrated(tool_with_dict)),
        "dispatch, one observer": dispatching(orchestrated(observers=[ignore_event])),
        "dispatch, a failure": dispatching(orchestrated(broken_tool, policy=never_opens)),
        "run": running(orchestrated()),
        "call": calling(orchestrated()),
    }
    assert await orchestrated().dispatch("tool", args) == await hand("tool", args)
    times = await in_turn(cases, effort)
    return [
        Row(
            loop=loop,
            name=name,
            cost=times.ns(name),
            ratio=times.ratio(name, "by hand"),
            against="by hand",
            goal=CLOSED_GOAL if name == "dispatch" else None,
        )
        for name in cases
    ]


async def refused(loop: str, effort: Effort) -> list[Row]:
    """
    Calls on an open circuit, which are answered after one turn of the loop.
    """
    names: dict[str, list[Observer]] = {
        "a refusal": [],
        "a refusal, one observer": [ignore_event],
    }
    cases: dict[str, Batch] = {"checkpoint": bare_checkpoint}
    for name, observers in names.items():
        cases[name] = dispatching(await _opened(observers))
    times = await in_turn(cases, effort)
    return [
        Row(
            loop=loop,
            name=name,
            cost=times.ns(name),
            ratio=times.ratio(name, "checkpoint"),
            against="checkpoint",
            goal=REFUSAL_GOAL if observers else None,
        )
        for name, observers in names.items()
    ]


async def _opened(observers: Sequence[Observer]) -> ToolOrchestrator:
    orch = orchestrated(broken_tool, observers=observers)
    while orch.circuit("tool").state is CircuitState.CLOSED:
        await orch.dispatch("tool", args)
    answer = json.loads(await orch.dispatch("tool", args))
    assert set(answer) == REFUSAL_KEYS, answer
    return orch


async def timed(loop: str, effort: Effort) -> list[Row]:
    """
    What a timeout adds to a call, beside what ``move_on_after`` adds to a bare one.
    """
    cases: dict[str, Batch] = {
        "bare await": bare,
        "move_on_after": bare_timeout,
        "dispatch": dispatching(orchestrated()),
        "dispatch, a timeout": dispatching(orchestrated(timeout=30)),
    }
    times = await in_turn(cases, effort)
    added = times.added("dispatch, a timeout", to="dispatch")
    scope = times.added("move_on_after", to="bare await")
    return [
        Row(
            loop=loop,
            name="dispatch, what a timeout adds",
            cost=median(added),
            ratio=median(added) / median(scope),
            against="move_on_after",
            goal=TIMEOUT_GOAL,
        )
    ]


async def threaded(loop: str, effort: Effort) -> list[Row]:
    """
    Calls of a plain function.
    """
    cases = {"to_thread": bare_thread, "thread": dispatching(orchestrated(plain_tool))}
    times = await in_turn(cases, effort, wall_ns)
    return [
        Row(
            loop=loop,
            name="dispatch, a plain function",
            cost=times.ns("thread"),
            ratio=times.ratio("thread", "to_thread"),
            against="to_thread.run_sync",
        )
    ]


async def grouped(loop: str, effort: Effort) -> list[Row]:
    """
    A turn's calls, side by side.
    """
    cases = {"group": bare_group, "all": dispatching_all(orchestrated())}
    times = await in_turn(cases, effort)
    return [
        Row(
            loop=loop,
            name="dispatch_all of 16",
            cost=times.ns("all"),
            ratio=times.ratio("all", "group"),
            against="a task group by hand",
        )
    ]
