"""
circuitbreaker: the decorator. It takes no clock, so time really passes.

It has no listeners.
"""

from __future__ import annotations

from circuitbreaker import CircuitBreaker

from benchmarks.subject import (
    THRESHOLD,
    NotOfferedError,
    Subject,
    ToolDownError,
    Wanted,
    through,
    told,
)


def make(wanted: Wanted) -> Subject:
    """
    A ``CircuitBreaker``.
    """
    if wanted.listener:
        raise NotOfferedError("no listeners")
    breaker = CircuitBreaker(
        failure_threshold=THRESHOLD,
        recovery_timeout=wanted.reset,
        expected_exception=ToolDownError if wanted.ignores else Exception,
    )

    async def state() -> str:
        return told(breaker.state)

    return Subject(call=breaker(through), state=state)
