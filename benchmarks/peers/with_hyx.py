"""
hyx: the decorator. It reads ``datetime``, so time really passes.

The release that is on the package index has no listeners. Its context manager takes a
cancellation for a success; the decorator, which is measured, does not.
"""

from __future__ import annotations

from hyx.circuitbreaker import consecutive_breaker

from benchmarks.subject import (
    THRESHOLD,
    NotOfferedError,
    Subject,
    ToolDownError,
    Wanted,
    through,
)

STATES = {"working": "closed", "failing": "open", "recovering": "half_open"}


def make(wanted: Wanted) -> Subject:
    """
    A breaker that one success closes.
    """
    if wanted.listener:
        raise NotOfferedError("no listeners")
    breaker = consecutive_breaker(
        exceptions=ToolDownError if wanted.ignores else Exception,
        failure_threshold=THRESHOLD,
        recovery_time_secs=wanted.reset,
        recovery_threshold=1,
    )

    async def state() -> str:
        return STATES[breaker.state.name]

    return Subject(call=breaker(through), state=state)
