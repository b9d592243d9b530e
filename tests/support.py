"""
What several test modules share: a clock turned by hand, and a tool told what to do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from orchestrator_async import Registry, ToolOrchestrator


class HandClock:
    """
    A clock that stands still until a test turns it, in either direction.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def turn(self, seconds: float) -> None:
        self.now += seconds


async def fail() -> str:
    raise ConnectionError("the service is down")


async def succeed() -> str:
    return "fine"


class Service:
    """
    A tool that does what ``behaviour`` says at the moment, and counts its runs.
    """

    def __init__(self, behaviour: Callable[[], Awaitable[Any]] = succeed) -> None:
        self.behaviour = behaviour
        self.runs = 0
        self.running = 0
        self.most_running = 0

    async def __call__(self) -> Any:
        self.runs += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self.behaviour()
        finally:
            self.running -= 1

    def offer(self, registry: Registry, name: str = "tool", **options: Any) -> None:
        @registry.tool(name=name, **options)
        async def tool() -> Any:
            return await self()


def bench(
    clock: Callable[[], float], *, observers: Any = (), **options: Any
) -> tuple[ToolOrchestrator, Service]:
    """
    An orchestrator on that clock with one tool, named ``tool``, and its service.

    Its circuit opens after 3 failures and for 300 s, unless ``options`` say otherwise.
    """
    registry, service = Registry(), Service()
    service.offer(registry, **options)
    return ToolOrchestrator(registry, clock=clock, observers=observers), service


async def trip(orch: ToolOrchestrator, service: Service, name: str = "tool") -> None:
    """
    Open the circuit by failures.
    """
    behaviour, service.behaviour = service.behaviour, fail
    circuit = orch.circuit(orch.registry[name].circuit_name)
    while circuit.state != "open":
        await orch.dispatch(name)
    service.behaviour = behaviour


async def when_blocked() -> None:
    """
    Let every other task run until it waits for something.
    """
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


def assert_adds_up(orch: ToolOrchestrator, *, in_flight: int = 0) -> None:
    """
    Every call has ended one way, and nothing is in flight but what should be.

    Successes are what is left of the calls, so that the sum is always right: a call that
    was counted twice shows where it takes a success away that there was not.
    """
    for name, figures in orch.get_fleet_stats().items():
        ends = ("successes", "total_failures", "cancelled", "ignored", "in_flight")
        assert figures["calls"] == sum(figures[end] for end in ends), (name, figures)
        assert min(figures[end] for end in (*ends, "late", "timeouts")) >= 0, (
            name,
            figures,
        )
        assert figures["in_flight"] == in_flight, (name, figures)
