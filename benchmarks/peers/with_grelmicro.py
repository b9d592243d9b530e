"""
grelmicro: ``async with``. It takes no clock, so time really passes.

It has no listeners; it reports to metrics. Versions that need Python 3.12 have another
constructor, and keep a circuit's state in a backend, which is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from grelmicro.resilience import CircuitBreaker

from benchmarks.subject import (
    THRESHOLD,
    IgnoredError,
    NotOfferedError,
    Subject,
    Tool,
    Wanted,
    told,
)


def make(wanted: Wanted) -> Subject:
    """
    A breaker with a place for one probe, which one success closes.
    """
    if wanted.listener:
        raise NotOfferedError("no listeners")
    breaker, state = _made(
        ignore_exceptions=IgnoredError if wanted.ignores else None,
        error_threshold=THRESHOLD,
        success_threshold=1,
        reset_timeout=wanted.reset,
        half_open_capacity=1,
        log_level="CRITICAL",
    )

    async def call(tool: Tool) -> str:
        async with breaker:
            return await tool()

    return Subject(call=call, state=state)


def _made(**options: Any) -> tuple[Any, Callable[[], Awaitable[str]]]:
    if not hasattr(CircuitBreaker, "consecutive_count"):
        breaker = CircuitBreaker("peer", **options)

        async def state() -> str:
            return told(breaker.state)

        return breaker, state

    from grelmicro.resilience.circuitbreaker.memory import MemoryCircuitBreakerAdapter

    backend = MemoryCircuitBreakerAdapter()
    newer = CircuitBreaker.consecutive_count("peer", backend=backend, **options)

    async def state_of_backend() -> str:
        bound = backend.bind(name="peer", config=newer.config)
        return told((await bound.get_snapshot()).state)

    return newer, state_of_backend
