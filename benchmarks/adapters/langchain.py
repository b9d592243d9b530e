"""
What the adapter to LangChain adds to a call of a ``ToolNode``.

    python -m benchmarks.adapters.langchain [--smoke]
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime

from benchmarks.adapters.cost import Call, main
from orchestrator_async import Registry, ToolOrchestrator
from orchestrator_async.adapters.langchain import awrap_tool_call


@tool
async def look(at: str) -> str:
    """Look at a place."""
    return "sun"


async def nothing(request: Any, handler: Any) -> Any:
    return await handler(request)


def by_a_node(**options: Any) -> Call:
    node = ToolNode([look], **options)
    config: Any = {"configurable": {"__pregel_runtime": Runtime()}}
    asked = [{"name": "look", "args": {"at": "sky"}, "id": "call_1"}]
    messages = [AIMessage("", tool_calls=asked)]

    def call() -> Awaitable[Any]:
        return node.ainvoke(messages, config)

    return call


async def calls() -> dict[str, Call]:
    wrapper = awrap_tool_call(ToolOrchestrator(Registry()))
    return {
        "bare": by_a_node(),
        "adapter": by_a_node(awrap_tool_call=wrapper),
        "a wrapper of nothing": by_a_node(awrap_tool_call=nothing),
    }


if __name__ == "__main__":
    main(calls)
