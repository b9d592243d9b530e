"""
What a call of a LangGraph tool costs, bare and under a circuit.

``python -m benchmarks.adapters.langchain`` measures, in one run and in turn: a ``ToolNode``
that runs a tool which returns a word; the same with a wrapper that does nothing; the same
with ours; and the orchestrator's own ``dispatch`` and ``run`` of such a tool, by themselves
and after a call of the node, which leaves the processor's caches to others. What is quoted
are medians of many rounds, of the time that the thread was at work.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import anyio
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime

from benchmarks.measure import busy_ns
from orchestrator_async import Registry, ToolOrchestrator
from orchestrator_async.adapters.langchain import awrap_tool_call

ROUNDS, CALLS = 300, 20


@tool
async def look(at: str) -> str:
    """Look at a place."""
    return "sun"


async def own(at: str) -> str:
    return "sun"


async def nothing(request: Any, handler: Any) -> Any:
    return await handler(request)


def node_call(**options: Any) -> Callable[[], Awaitable[Any]]:
    node = ToolNode([look], **options)
    config: Any = {"configurable": {"__pregel_runtime": Runtime()}}
    calls = [{"name": "look", "args": {"at": "sky"}, "id": "call_1"}]
    messages = [AIMessage("", tool_calls=calls)]
    return lambda: node.ainvoke(messages, config)


def subjects() -> dict[str, Callable[[], Awaitable[Any]]]:
    registry = Registry()
    registry.tool(name="own")(own)
    orch = ToolOrchestrator(registry)
    bare = node_call()

    async def both() -> None:
        await bare()
        await orch.run("own", {"at": "sky"})

    return {
        "node, bare": bare,
        "node, bare, and core, run": both,
        "node, a wrapper that does nothing": node_call(awrap_tool_call=nothing),
        "node, ours": node_call(awrap_tool_call=awrap_tool_call(orch)),
        "core, dispatch": lambda: orch.dispatch("own", {"at": "sky"}),
        "core, run": lambda: orch.run("own", {"at": "sky"}),
    }


async def measure(rounds: int = ROUNDS, calls: int = CALLS) -> dict[str, list[float]]:
    """
    Microseconds that a call of each takes, round by round.
    """
    times: dict[str, list[float]] = {}
    made = list(subjects().items())
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds + 1):
            for name, subject in made[:: 1 if number % 2 else -1]:
                start = busy_ns()
                for _ in range(calls):
                    await subject()
                if number:  # the first round is for what is made once
                    times.setdefault(name, []).append((busy_ns() - start) / calls / 1e3)
    finally:
        gc.enable()
    return times


def told(found: dict[str, list[float]]) -> list[str]:
    lines = [f"{name:<36}{median(each):8.1f} us" for name, each in found.items()]
    for base in ("bare", "a wrapper that does nothing"):
        pairs = zip(found["node, ours"], found[f"node, {base}"], strict=True)
        added = [ours - theirs for ours, theirs in pairs]
        lines.append(f"ours adds to {base}: {median(added):.1f} us")
        for what in ("dispatch", "run"):
            ratio = median(added) / median(found[f"core, {what}"])
            lines.append(f"  that is {ratio:.2f} of the core's {what}")
    pairs = zip(found["node, bare, and core, run"], found["node, bare"], strict=True)
    after = median(ours - theirs for ours, theirs in pairs)
    lines.append(f"the core's run after a call of the node: {after:.1f} us")
    return lines


def main(*args: str) -> None:
    rounds = (3, 3) if "--smoke" in args else (ROUNDS, CALLS)
    options = {"use_uvloop": "--uvloop" in args}
    found = anyio.run(measure, *rounds, backend_options=options)
    print("\n".join(told(found)))


if __name__ == "__main__":
    main(*sys.argv[1:])
