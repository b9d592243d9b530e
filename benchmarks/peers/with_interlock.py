"""
interlock-cb: ``call_async``, with a clock that is turned.

The window is as long as the threshold, and all of it has to fail. What is to be ignored
on a probe is an "unreachable exception". A round of probes that has brought as many of
these as it has places opens the circuit again, so it has two places where one is wanted
to be ignored; still only one call probes at a time.
"""

from __future__ import annotations

from typing import Any

from interlock import CircuitBreaker, Config

from benchmarks.subject import THRESHOLD, Clock, IgnoredError, Subject, Tool, Wanted, told


class Listener:
    """
    Every hook of a circuit, and one function behind them.
    """

    def __init__(self, tell: Any) -> None:
        self.on_state_change = tell
        self.on_call = tell
        self.on_rejected = tell
        self.on_reset = tell


def make(wanted: Wanted) -> Subject:
    """
    A ``CircuitBreaker`` without a shared storage.
    """
    clock = Clock()
    breaker = CircuitBreaker(
        name="peer",
        config=Config(
            failure_rate_threshold=1.0,
            minimum_number_of_calls=THRESHOLD,
            window_size=THRESHOLD,
            permitted_calls_in_half_open=2 if wanted.ignores else 1,
            max_concurrent_probes=1,
            wait_duration_in_open=wanted.reset,
        ),
        clock=clock,
        listener=Listener(wanted.listener) if wanted.listener else None,
        unreachable_exceptions=(IgnoredError,) if wanted.ignores else (),
    )

    async def call(tool: Tool) -> str:
        value: str = await breaker.call_async(tool)
        return value

    async def state() -> str:
        return told(breaker.state)

    return Subject(call=call, state=state, pass_time=clock.turn)
