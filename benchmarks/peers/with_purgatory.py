"""
purgatory: ``async with`` a breaker of the factory. It reads ``time.time``, so time really
passes.
"""

from __future__ import annotations

from purgatory import AsyncCircuitBreakerFactory

from benchmarks.subject import THRESHOLD, IgnoredError, Subject, Tool, Wanted, told


def make(wanted: Wanted) -> Subject:
    """
    A factory with one circuit.
    """
    factory = AsyncCircuitBreakerFactory(
        default_threshold=THRESHOLD,
        default_ttl=wanted.reset,
        exclude=[IgnoredError] if wanted.ignores else [],
    )
    listener = wanted.listener
    if listener:

        def hook(circuit: str, event: str, payload: object) -> None:
            # That the circuit is there is told before there is a call.
            if event != "circuit_breaker_created":
                listener(circuit, event, payload)

        factory.add_listener(hook)

    async def call(tool: Tool) -> str:
        async with await factory.get_breaker("peer"):
            return await tool()

    async def state() -> str:
        return told((await factory.get_breaker("peer")).context.state)

    return Subject(call=call, state=state)
