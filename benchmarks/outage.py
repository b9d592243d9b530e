"""
What retries make of an outage: how often a dead tool is called, for each call of a caller.

Each call fails and has two more attempts, if there is a retry in the budget. The clock is
turned by hand, a hundredth of a second a call, and nobody waits: what is counted is calls,
not time. The circuit never opens, as it does not where many tools, processes or keys share
one service, each of them with too few failures in a row.
"""

from __future__ import annotations

from itertools import repeat

from orchestrator_async import (
    BreakerPolicy,
    BudgetPolicy,
    Registry,
    RetryPolicy,
    ToolOrchestrator,
    ToolPolicy,
)

from .measure import Effort, Row
from .parts import NEVER
from .subject import Clock

RATE = 100
"""Calls a second."""

GOAL = 1.25
"""A share of 0.2, three a second, and a little for the last second, which counts whole."""

BUDGETS: dict[str, BudgetPolicy | None] = {
    "an outage, retries with the budget": BudgetPolicy(),
    "an outage, retries without it": None,
}


async def outage(loop: str, effort: Effort) -> list[Row]:
    """
    The same outage with the budget that is the default, and with none.
    """
    return [
        Row(
            loop=loop,
            name=name,
            cost=await _calls(budget, effort.calls * 20),
            unit="calls",
            against="",
            goal=GOAL if budget is not None else None,
        )
        for name, budget in BUDGETS.items()
    ]


async def _calls(budget: BudgetPolicy | None, callers: int) -> float:
    """
    Calls of the dead tool for each call of a caller.
    """
    registry, clock, calls = Registry(), Clock(), 0
    retry = RetryPolicy(wait_initial=0, wait_jitter=0)
    policy = ToolPolicy(retry=retry, breaker=BreakerPolicy(failure_threshold=NEVER))

    @registry.tool(idempotent=True, policy=policy)
    async def dead() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError("no route to host")

    orch = ToolOrchestrator(registry, clock=clock, retry_budget=budget)
    for _ in repeat(None, callers):
        await orch.dispatch("dead")
        clock.now += 1 / RATE
    return calls / callers
