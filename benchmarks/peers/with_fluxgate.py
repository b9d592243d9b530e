"""
fluxgate: ``AsyncCircuitBreaker.call``. It reads ``time.time``, so time really passes.

Callers of a half-open circuit queue for the probe's place.
"""

from __future__ import annotations

from fluxgate import AsyncCircuitBreaker
from fluxgate.permits import All
from fluxgate.retries import Cooldown
from fluxgate.trackers import TypeOf
from fluxgate.trippers import Closed, FailureStreak, HalfOpened

from benchmarks.subject import THRESHOLD, Subject, Tool, ToolDownError, Wanted, told


def make(wanted: Wanted) -> Subject:
    """
    A breaker that opens after failures in a row, or after one of a probe.
    """
    breaker = AsyncCircuitBreaker(
        tracker=TypeOf(ToolDownError) if wanted.ignores else None,
        tripper=(Closed() & FailureStreak(THRESHOLD)) | (HalfOpened() & FailureStreak(1)),
        retry=Cooldown(wanted.reset),
        permit=All(),
        max_half_open_calls=1,
        listeners=[wanted.listener] if wanted.listener else [],
    )

    async def call(tool: Tool) -> str:
        value: str = await breaker.call(tool)
        return value

    async def state() -> str:
        return told(breaker.info().state)

    return Subject(call=call, state=state)
