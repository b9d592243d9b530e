"""
pybreaker: ``with breaker.calling()`` around the await. It reads ``datetime``, so time
really passes.

Of its three documented ways this is the one that serves asyncio. ``call`` takes the
coroutine of an async function for its result, and so never opens. ``call_async`` is for
Tornado's coroutines; seen with Tornado on asyncio: after the open time it closes the
circuit without waiting for the call.
"""

from __future__ import annotations

from pybreaker import CircuitBreaker, CircuitBreakerListener

from benchmarks.subject import THRESHOLD, IgnoredError, Subject, Tool, Wanted, told


def make(wanted: Wanted) -> Subject:
    """
    A ``CircuitBreaker``.
    """
    breaker = CircuitBreaker(
        fail_max=THRESHOLD,
        reset_timeout=wanted.reset,
        exclude=[IgnoredError] if wanted.ignores else [],
    )
    if wanted.listener:
        listener = CircuitBreakerListener()
        for hook in ("before_call", "failure", "success", "state_change"):
            setattr(listener, hook, wanted.listener)
        breaker.add_listener(listener)

    async def call(tool: Tool) -> str:
        with breaker.calling():
            return await tool()

    async def state() -> str:
        return told(breaker.current_state)

    return Subject(call=call, state=state)
