"""
pyresilience: the decorator. It takes no clock, so time really passes.
"""

from __future__ import annotations

from pyresilience import CircuitBreakerConfig, resilient

from benchmarks.subject import THRESHOLD, IgnoredError, Subject, Wanted, through, told


def make(wanted: Wanted) -> Subject:
    """
    A decorated function, with a breaker that one success closes.
    """
    call = resilient(
        circuit_breaker=CircuitBreakerConfig(
            failure_threshold=THRESHOLD,
            recovery_timeout=wanted.reset,
            success_threshold=1,
            ignore_on=(IgnoredError,) if wanted.ignores else (),
        ),
        listeners=[wanted.listener] if wanted.listener else None,
    )(through)

    async def state() -> str:
        # There is no public way from a decorated function to its breaker.
        return told(call._executor._circuit_breaker.state.value)

    return Subject(call=call, state=state)
