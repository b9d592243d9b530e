"""
What the adapter to the OpenAI Agents SDK adds to a call of a function tool.

    python -m benchmarks.adapters.openai_agents [--smoke]

The call is as the SDK makes it. Nothing of the run around it is in it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from agents import FunctionTool, function_tool
from agents.tool import invoke_function_tool
from agents.tool_context import ToolContext

from benchmarks.adapters.cost import Call, main
from orchestrator_async import Registry, ToolOrchestrator
from orchestrator_async.adapters.openai_agents import function_tools, guard_tool

TEXT = '{"city": 1}'


async def look(city: int) -> str:
    """The forecast."""
    return "sun"


def by_the_sdk(tool: FunctionTool) -> Call:
    context = ToolContext(None, tool_name=tool.name, tool_call_id="a", tool_arguments=TEXT)

    def call() -> Awaitable[Any]:
        return invoke_function_tool(function_tool=tool, context=context, arguments=TEXT)

    return call


async def calls() -> dict[str, Call]:
    registry = Registry()
    registry.tool(name="ours")(look)
    (offered,) = function_tools(ToolOrchestrator(registry))
    bare = function_tool(look)
    return {
        "bare": by_the_sdk(bare),
        "adapter": by_the_sdk(guard_tool(bare, ToolOrchestrator(Registry()))),
        "a tool of ours": by_the_sdk(offered),
    }


if __name__ == "__main__":
    main(calls)
