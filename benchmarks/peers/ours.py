"""
This library, as it is used: through a ``ToolOrchestrator``.
"""

from __future__ import annotations

from benchmarks.subject import THRESHOLD, Clock, IgnoredError, Subject, Tool, Wanted
from orchestrator_async import Registry, ToolContext, ToolOrchestrator, ToolPolicy


def make(wanted: Wanted) -> Subject:
    """
    An orchestrator with one tool, which does what is handed to it as context.
    """
    registry, clock = Registry(), Clock()

    @registry.tool
    async def tool(context: ToolContext) -> str:
        body: Tool = context.data["body"]
        return await body()

    orch = ToolOrchestrator(
        registry,
        failure_threshold=THRESHOLD,
        reset_timeout=wanted.reset,
        policy=ToolPolicy(ignore=(IgnoredError,) if wanted.ignores else ()),
        observers=[wanted.listener] if wanted.listener else [],
        clock=clock,
    )

    async def call(body: Tool) -> str:
        value: str = await orch.call("tool", body=body)
        return value

    async def state() -> str:
        return str(orch.circuit("tool").state)

    return Subject(call=call, state=state, pass_time=clock.turn)
