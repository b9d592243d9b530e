"""
resilix: the decorator. It takes no clock, so time really passes.
"""

from __future__ import annotations

from resilix import CircuitBreaker

from benchmarks.subject import THRESHOLD, Subject, ToolDownError, Wanted, through, told


def make(wanted: Wanted) -> Subject:
    """
    A ``CircuitBreaker``.
    """
    breaker = CircuitBreaker(
        failures=THRESHOLD,
        reset_timeout=wanted.reset,
        on=ToolDownError if wanted.ignores else Exception,
        on_state_change=wanted.listener,
        half_open_max=1,
    )

    async def state() -> str:
        return told(breaker.state)

    return Subject(call=breaker(through), state=state)
