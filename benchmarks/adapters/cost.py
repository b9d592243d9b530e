"""
What an adapter adds to a call of its framework, and what the core would.

A trivial tool is called in the way of the framework: bare; under a circuit, by the adapter;
and as the body of a tool of the orchestrator's own, by ``run`` and by ``dispatch``. They
follow each other in turn (see ``measure``). What each adds to the bare call is the median of
the rounds' differences. So the core's own figure is of the same conditions: after a hundred
microseconds of a framework, little of the core is left in the processor's caches, and it
takes longer than in a loop of its own.

The goal: what the adapter adds is at most 1.2 times what ``run`` does, as that is the call which
tells as much. ``dispatch`` tells the text alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Mapping
from itertools import repeat
from statistics import median
from typing import Any

import anyio

from benchmarks.measure import SMOKE, Batch, Effort, Row, in_turn
from orchestrator_async import Outcome, Registry, ToolOrchestrator, ToolPolicy, Verdict

GOAL = 1.2

Call = Callable[[], Awaitable[Any]]
Judge = Callable[[Outcome], Verdict]

Making = Callable[[], Awaitable[Mapping[str, Call]]]
"""Gives ``"bare"``, ``"adapter"`` and what else is to be compared."""


def own(bare: Call, judge: Judge | None) -> dict[str, Call]:
    """
    The bare call as a tool of the orchestrator, judged as the adapter judges.
    """
    registry = Registry()

    async def tool(at: str) -> str:
        await bare()
        return "sun"

    policy = ToolPolicy() if judge is None else ToolPolicy(judge=judge)
    registry.tool(validate=False, policy=policy)(tool)
    orch = ToolOrchestrator(registry)
    args = {"at": "sky"}
    return {
        "run": lambda: orch.run("tool", args, call_id="c1", user="ann"),
        "dispatch": lambda: orch.dispatch("tool", args),
    }


async def measured(
    making: Making, effort: Effort, loop: str, judge: Judge | None
) -> list[Row]:
    """
    The figures of one adapter on one loop.
    """
    calls = await making()
    calls = {**calls, **own(calls["bare"], judge)}
    cases = {name: batch_of(call) for name, call in calls.items()}
    for call in calls.values():  # what is made once
        await call()
    times = await in_turn(cases, effort)
    rows = [Row(loop=loop, name="bare", cost=times.ns("bare"))]
    for name in cases:
        if name == "bare":
            continue
        added = times.added(name, "bare")
        ratio = goal = None
        if name == "adapter":
            goal = GOAL
        if name not in ("run", "dispatch"):
            ratio = median(added) / median(times.added("run", "bare"))
        rows.append(
            Row(
                loop=loop,
                name=f"{name} adds",
                cost=median(added),
                ratio=ratio,
                against="" if ratio is None else "run adds",
                goal=goal,
            )
        )
    return rows


def batch_of(call: Call) -> Batch:
    async def batch(times: int) -> None:
        for _ in repeat(None, times):
            await call()

    return batch


def main(making: Making, judge: Judge | None = None) -> None:
    """
    Measure on asyncio and on uvloop, and print.
    """
    parser = argparse.ArgumentParser(description="What an adapter adds to a call.")
    parser.add_argument("--smoke", action="store_true", help="only see that it works")
    # What is added is a small part of what some of them take, so it is asked for often.
    effort = Effort(rounds=301, batch_ns=4_000_000)
    if parser.parse_args().smoke:
        effort = SMOKE
    for loop in ("asyncio", "uvloop"):
        options = {"use_uvloop": loop == "uvloop"}
        rows = anyio.run(measured, making, effort, loop, judge, backend_options=options)
        for row in rows:
            print(told(row))


def told(row: Row) -> str:
    """
    A figure as a line.
    """
    line = f"{row.loop:8} {row.name:24} {row.cost / 1000:8.2f} us"
    if row.ratio is not None:
        line += f"   {row.ratio:5.2f} times what {row.against}"
    if row.goal is not None:
        line += f" (goal: {row.goal})"
    return line
