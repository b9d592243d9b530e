"""
What circuits add to a call of a FastMCP server's tool.

    python -m benchmarks.adapters.fastmcp

What a call takes with them more than without is compared with what the orchestrator takes by
itself, where the same call is a tool of its own.
"""

from __future__ import annotations

from itertools import repeat
from statistics import median

import anyio
from fastmcp import FastMCP
from fastmcp.server.middleware import Middleware
from fastmcp.tools import ToolResult

from benchmarks.measure import SMOKE, Batch, Effort, Row, in_turn
from orchestrator_async import (
    Registry,
    Tool,
    ToolOrchestrator,
    ToolPolicy,
    service_errors,
)
from orchestrator_async.adapters.fastmcp import CircuitMiddleware

GOAL = 1.2


async def tool(city: int) -> str:
    """The forecast."""
    return "sun"


def calling(*middleware: Middleware) -> Batch:
    """
    A server's own call of the tool, behind these.
    """
    server = FastMCP("bench", middleware=middleware)
    server.tool(tool)

    async def batch(times: int) -> None:
        for _ in repeat(None, times):
            await server.call_tool("tool", {"city": 1})

    return batch


def running() -> Batch:
    """
    The same server's call as a tool of the orchestrator, which judges it likewise.
    """
    server = FastMCP("bench")
    server.tool(tool)

    async def call(city: int) -> ToolResult:
        return await server.call_tool("tool", {"city": city})

    policy = ToolPolicy(judge=service_errors)
    registry = Registry()
    registry.add(Tool(fn=call, policy=policy, parameters={}, render=lambda result: ""))
    orch = ToolOrchestrator(registry)

    async def batch(times: int) -> None:
        for _ in repeat(None, times):
            await orch.run("call", {"city": 1})

    return batch


async def measured(effort: Effort) -> list[Row]:
    """
    The figures, on asyncio.
    """
    cases = {
        "bare": calling(),
        "a middleware that does nothing": calling(Middleware()),
        "circuits": calling(CircuitMiddleware(ToolOrchestrator(Registry()))),
        "orch.run of the bare call": running(),
    }
    times = await in_turn(cases, effort)
    rows = [Row(loop="asyncio", name=name, cost=times.ns(name)) for name in cases]
    own = median(times.added("orch.run of the bare call", "bare"))
    for base, goal in (("bare", GOAL), ("a middleware that does nothing", None)):
        added = median(times.added("circuits", base))
        name = f"circuits, more than {base}"
        against = "what orch.run takes more than bare"
        rows.append(
            Row(
                loop="asyncio",
                name=name,
                cost=added,
                ratio=added / own,
                against=against,
                goal=goal,
            )
        )
    return rows


def main(effort: Effort = SMOKE) -> None:
    """
    Measure, and print.
    """
    for row in anyio.run(measured, effort):
        ratio = "" if row.ratio is None else f"{row.ratio:6.2f} x {row.against}"
        goal = "" if row.goal is None else f" (goal: {row.goal})"
        print(f"{row.name:50} {row.cost / 1000:8.1f} us {ratio}{goal}")


if __name__ == "__main__":
    main(Effort())
