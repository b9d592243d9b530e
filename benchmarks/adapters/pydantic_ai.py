"""
What the adapter to Pydantic AI costs.

    python -m benchmarks.adapters.pydantic_ai

A trivial tool is called by its toolset, bare and under a circuit, and by the orchestrator
itself, in turn; medians of the rounds' differences and ratios. The goal: what the circuit
adds is at most what the core's own call of such a tool takes, plus 20 %.
"""

from __future__ import annotations

import argparse
from itertools import repeat
from statistics import median
from typing import Any

import anyio
from pydantic_ai import RunContext
from pydantic_ai.models.test import TestModel
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset
from pydantic_ai.usage import RunUsage

from benchmarks.measure import SMOKE, Batch, Effort, in_turn
from orchestrator_async import Registry, ToolOrchestrator
from orchestrator_async.adapters.pydantic_ai import CircuitToolset, OrchestratorToolset

GOAL = 1.2
ARGS = {"at": "sun"}
CONTEXT: RunContext[Any] = RunContext(
    deps=None, model=TestModel(), usage=RunUsage(), tool_call_id="c1", run_id="r1"
)


async def look(at: str) -> str:
    return "seen"


async def through(toolset: AbstractToolset[Any]) -> Batch:
    """
    Calls of the toolset's tool.
    """
    tool = (await toolset.get_tools(CONTEXT))["look"]

    async def batch(times: int) -> None:
        for _ in repeat(None, times):
            await toolset.call_tool("look", ARGS, CONTEXT, tool)

    return batch


async def measure(effort: Effort) -> dict[str, float]:
    """
    Nanoseconds of each case, and what the adapter adds, by what it is compared with.
    """
    registry = Registry()
    registry.tool(validate=False)(look)
    core = ToolOrchestrator(registry)
    told = {"run_id": "r1", "deps": None}

    async def dispatch(times: int) -> None:
        for _ in repeat(None, times):
            await core.dispatch("look", ARGS)

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            await core.run("look", ARGS, call_id="c1", **told)

    bare: FunctionToolset[Any] = FunctionToolset([look])
    wrapped: CircuitToolset[Any] = CircuitToolset(bare, ToolOrchestrator(Registry()))
    offered: OrchestratorToolset[Any] = OrchestratorToolset(core)
    cases = {
        "bare": await through(bare),
        "wrapped": await through(wrapped),
        "offered": await through(offered),
        "dispatch": dispatch,
        "run": run,
    }
    times = await in_turn(cases, effort)
    figures = {name: times.ns(name) for name in cases}
    added = times.added("wrapped", "bare")
    figures["added"] = median(added)
    for name in ("dispatch", "run"):
        figures[f"added / {name}"] = figures["added"] / figures[name]
    figures["offered / run"] = times.ratio("offered", "run")
    return figures


def main() -> None:
    """
    Measure, on asyncio and on uvloop, and print.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="only see that it works")
    effort = SMOKE if parser.parse_args().smoke else Effort()
    for uvloop in (False, True):
        options = {"use_uvloop": uvloop}
        figures = anyio.run(measure, effort, backend_options=options)
        print("uvloop" if uvloop else "asyncio")
        for name, figure in figures.items():
            unit = "" if "/" in name else " ns"
            goal = f"  (goal: {GOAL})" if name.startswith("added /") else ""
            print(f"  {name:18} {figure:9,.2f}{unit}{goal}")


if __name__ == "__main__":
    main()
