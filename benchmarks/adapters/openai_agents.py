"""
What a call of a function tool of the Agents SDK costs more under a circuit.

    python -m benchmarks.adapters.openai_agents [--smoke]

A trivial tool is called as the SDK calls it, bare and guarded, and the same function by the
orchestrator alone, in turn (see ``measure``). What the guard adds is to be at most 1.2 times
what ``dispatch`` takes. Nothing of the SDK's run around the call is in it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import repeat
from statistics import median
from typing import Any

import anyio
from agents import FunctionTool, function_tool
from agents.tool import invoke_function_tool
from agents.tool_context import ToolContext

from benchmarks.measure import SMOKE, Effort, in_turn
from orchestrator_async import Registry, ToolOrchestrator
from orchestrator_async.adapters.openai_agents import function_tools, guard_tool

GOAL = 1.2
TEXT = '{"city": 1}'


async def look(city: int) -> str:
    """The forecast."""
    return "sun"


def cases() -> dict[str, Any]:
    registry = Registry()
    registry.tool(name="ours")(look)
    ours = ToolOrchestrator(registry)
    bare = function_tool(look)
    guarded = guard_tool(bare, ToolOrchestrator(Registry()))
    (offered,) = function_tools(ours)

    def by_the_sdk(tool: FunctionTool) -> Any:
        context = ToolContext(
            None, tool_name=tool.name, tool_call_id="a", tool_arguments=TEXT
        )

        async def batch(times: int) -> None:
            for _ in repeat(None, times):
                await invoke_function_tool(
                    function_tool=tool, context=context, arguments=TEXT
                )

        return batch

    async def dispatch(times: int) -> None:
        for _ in repeat(None, times):
            await ours.dispatch("ours", TEXT)

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            await ours.run("ours", TEXT)

    return {
        "bare": by_the_sdk(bare),
        "guarded": by_the_sdk(guarded),
        "offered": by_the_sdk(offered),
        "dispatch": dispatch,
        "run": run,
    }


async def measure(effort: Effort) -> list[str]:
    times = await in_turn(cases(), effort)
    added = median(times.added("guarded", "bare"))
    lines = [f"{name:<9} {times.ns(name) / 1000:8.1f} us" for name in cases()]
    ratio = added / times.ns("dispatch")
    return [*lines, *_last(added, ratio, added / times.ns("run"))]


def _last(added: float, ratio: float, to_run: float) -> Iterator[str]:
    yield f"the guard adds {added / 1000:.1f} us: {ratio:.2f} of dispatch (goal {GOAL})"
    yield f"{to_run:.2f} of run"


if __name__ == "__main__":
    effort = SMOKE if "--smoke" in sys.argv else Effort()
    print("\n".join(anyio.run(measure, effort)))
