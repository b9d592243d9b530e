"""
aiobreaker: ``call_async``. It reads ``datetime``, so time really passes.
"""

from __future__ import annotations

from datetime import timedelta

from aiobreaker import CircuitBreaker, CircuitBreakerListener

from benchmarks.subject import THRESHOLD, IgnoredError, Subject, Tool, Wanted, told


def make(wanted: Wanted) -> Subject:
    """
    A ``CircuitBreaker``.
    """
    breaker = CircuitBreaker(
        fail_max=THRESHOLD,
        timeout_duration=timedelta(seconds=wanted.reset),
        exclude=[IgnoredError] if wanted.ignores else [],
    )
    if wanted.listener:
        listener = CircuitBreakerListener()
        for hook in ("before_call", "failure", "success", "state_change"):
            setattr(listener, hook, wanted.listener)
        breaker.add_listener(listener)

    async def call(tool: Tool) -> str:
        value: str = await breaker.call_async(tool)
        return value

    async def state() -> str:
        return told(breaker.current_state.name)

    return Subject(call=call, state=state)
