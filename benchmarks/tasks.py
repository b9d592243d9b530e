"""
Ten thousand tasks of a hundred calls each, through ``dispatch`` and by hand.

Once with a tool that returns at once, where the figure is all ours and the tasks' own,
and once with one that awaits a turn of the loop, where all of them are under way at one
time. The garbage collector runs, as it would.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from itertools import repeat
from statistics import median
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from . import calls
from .measure import Effort, Row, busy_ns

GOAL = 0.5

Dispatch = Callable[[str, dict[str, Any]], Awaitable[Any]]


async def waiting_tool(city: int) -> str:
    """The forecast, after a turn of the loop."""
    await checkpoint()
    return "sun"


async def hand_waiting(name: str, args: dict[str, Any]) -> Any:
    """The dispatch by hand, of tools that wait."""
    return await waiting_tools[name](**args)


waiting_tools: dict[str, Callable[..., Awaitable[Any]]] = {
    **dict.fromkeys(calls.tools, waiting_tool)
}


async def many(loop: str, effort: Effort) -> list[Row]:
    """
    The rate of both kinds of tools.
    """
    plain = calls.orchestrated().dispatch
    waiting = calls.orchestrated(waiting_tool).dispatch
    return [
        await _row(loop, "many tasks", plain, calls.hand, effort, GOAL),
        await _row(loop, "many tasks, a tool that waits", waiting, hand_waiting, effort),
    ]


async def _row(
    loop: str,
    name: str,
    dispatch: Dispatch,
    by_hand: Dispatch,
    effort: Effort,
    goal: float | None = None,
) -> Row:
    took: list[float] = []
    ratios: list[float] = []
    for _ in repeat(None, effort.task_rounds):
        ours, theirs = await _storm(dispatch, effort), await _storm(by_hand, effort)
        took.append(ours)
        ratios.append(theirs / ours)
    return Row(
        loop=loop,
        name=name,
        cost=effort.tasks * effort.calls / median(took),
        unit="calls/s",
        ratio=median(ratios),
        against="by hand",
        goal=goal,
        at_least=True,
    )


async def _storm(dispatch: Dispatch, effort: Effort) -> float:
    """
    Seconds that all of the tasks take, from the first one's making to the last's end.
    """
    args = calls.args

    async def one() -> None:
        for _ in repeat(None, effort.calls):
            await dispatch("tool", args)

    gc.collect()
    started = busy_ns()
    async with anyio.create_task_group() as group:
        for _ in repeat(None, effort.tasks):
            group.start_soon(one)
    return (busy_ns() - started) / 1e9
