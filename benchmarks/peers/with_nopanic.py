"""
nopanic: ``acall``, with a clock that is turned.

It goes by a rate of failures: all of at least as many calls as the threshold.
"""

from __future__ import annotations

from nopanic import CircuitBreaker

from benchmarks.subject import THRESHOLD, Clock, Subject, Tool, ToolDownError, Wanted, told


def make(wanted: Wanted) -> Subject:
    """
    A breaker with a window that outlasts the scenario.
    """
    clock = Clock()
    breaker = CircuitBreaker(
        failure_threshold=1.0,
        min_calls=THRESHOLD,
        window=3_600.0,
        reset_timeout=wanted.reset,
        half_open_max_calls=1,
        on=ToolDownError if wanted.ignores else Exception,
        on_state_change=wanted.listener,
        clock=clock,
    )

    async def call(tool: Tool) -> str:
        value: str = await breaker.acall(tool)
        return value

    async def state() -> str:
        return told(breaker.state)

    return Subject(call=call, state=state, pass_time=clock.turn)
