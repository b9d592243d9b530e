"""
Ten thousand callers, and a tool that dies and comes back.
"""

from __future__ import annotations

import anyio
import pytest
from trio.testing import MockClock

from .clock import AutojumpEventLoop
from .stampede import (
    CALLERS,
    DIES,
    DRAWING,
    ENDS,
    EVERY,
    RESET,
    RETURNS,
    calls_that_reach_it,
    drawn,
)

USUAL = CALLERS / EVERY


@pytest.fixture(scope="module")
def on_asyncio() -> dict[int, int]:
    """
    What happens on asyncio, whose debug mode would make it ten times as slow.
    """
    return anyio.run(
        calls_that_reach_it, backend_options={"loop_factory": AutojumpEventLoop}
    )


def on_trio() -> dict[int, int]:
    clock = MockClock(autojump_threshold=0)
    return anyio.run(calls_that_reach_it, backend="trio", backend_options={"clock": clock})


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_tool_that_is_down_is_asked_once_a_reset_and_not_overrun(
    loop: str, on_asyncio: dict[int, int]
) -> None:
    reached = on_asyncio if loop == "asyncio" else on_trio()
    down = {second: reached[second] for second in range(int(DIES), int(RETURNS))}
    probes = int((RETURNS - DIES) / RESET)
    assert sum(down.values()) <= 3 + probes  # what opens the circuit, and then the probes
    assert all(number <= 3 for number in down.values())
    # It is found to be well by one call, within a reset, and then all are let in.
    back = next(s for s in range(int(RETURNS), int(ENDS)) if reached[s] > 1)
    assert back <= RETURNS + RESET + 1
    assert sum(reached[second] for second in range(int(RETURNS), back)) <= 1
    for second in (*range(int(DIES)), *range(back + 1, int(ENDS))):
        assert reached[second] <= 1.01 * USUAL + 1


def test_the_drawing_shows_what_happens(on_asyncio: dict[int, int]) -> None:
    assert DRAWING.read_text(encoding="utf-8") == drawn(on_asyncio)
