"""
What the adapter to Pydantic AI adds to a call of a toolset's tool.

    python -m benchmarks.adapters.pydantic_ai [--smoke]
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.models.test import TestModel
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset
from pydantic_ai.usage import RunUsage

from benchmarks.adapters.cost import Call, main
from orchestrator_async import Registry, ToolOrchestrator
from orchestrator_async.adapters.pydantic_ai import CircuitToolset, OrchestratorToolset

ARGS = {"at": "sun"}
CONTEXT: RunContext[Any] = RunContext(
    deps=None, model=TestModel(), usage=RunUsage(), tool_call_id="c1", run_id="r1"
)


async def look(at: str) -> str:
    return "seen"


async def through(toolset: AbstractToolset[Any]) -> Call:
    tool = (await toolset.get_tools(CONTEXT))["look"]

    def call() -> Awaitable[Any]:
        return toolset.call_tool("look", ARGS, CONTEXT, tool)

    return call


async def calls() -> dict[str, Call]:
    registry = Registry()
    registry.tool(validate=False)(look)
    bare: FunctionToolset[Any] = FunctionToolset([look])
    circuits: CircuitToolset[Any] = CircuitToolset(bare, ToolOrchestrator(Registry()))
    offered: OrchestratorToolset[Any] = OrchestratorToolset(ToolOrchestrator(registry))
    return {
        "bare": await through(bare),
        "adapter": await through(circuits),
        "a tool of ours": await through(offered),
    }


if __name__ == "__main__":
    main(calls)
