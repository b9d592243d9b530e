"""
A crowd, a tool that dies, and what of the crowd reaches it until it is well again.

    python -m tests.stampede            # draws docs/stampede.svg anew

In virtual time, so that it is the same each time.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import anyio

from orchestrator_async import Registry, ToolOrchestrator

from .clock import AutojumpEventLoop

CALLERS: Final = 10_000
EVERY: Final = 5.0
"""Seconds from one call of a caller to its next."""

DIES, RETURNS, ENDS, RESET = 10.0, 35.0, 60.0, 10.0
DRAWING: Final = Path(__file__).parents[1] / "docs" / "stampede.svg"


async def calls_that_reach_it() -> dict[int, int]:
    """
    How many calls reach the tool in each second.
    """
    reached: Counter[int] = Counter()
    began = anyio.current_time()
    registry = Registry()

    @registry.tool
    async def search() -> str:
        now = anyio.current_time() - began
        reached[int(now)] += 1
        if DIES <= now < RETURNS:
            raise ConnectionError("the service is down")
        return "found"

    orch = ToolOrchestrator(registry, reset_timeout=RESET, clock=anyio.current_time)

    async def ask(start: float) -> None:
        await anyio.sleep(start)
        while anyio.current_time() - began < ENDS:
            await orch.dispatch("search")
            await anyio.sleep(EVERY)

    async with anyio.create_task_group() as group:
        for number in range(CALLERS):
            group.start_soon(ask, EVERY * number / CALLERS)
    return {second: reached[second] for second in range(int(ENDS))}


def drawn(reached: dict[int, int]) -> str:
    """
    The same as a drawing: a bar a second, as high as the root of its number, so that one
    call is seen beside thousands.
    """
    most = max(reached.values())
    left, bottom, width, height = 50, 190, 10, 150
    bars = [
        f'<rect x="{left + width * second}" y="{bottom - tall:.1f}" width="{width - 1}" '
        f'height="{tall:.1f}"/>'
        for second, number in reached.items()
        if (tall := height * (number / most) ** 0.5)
    ]
    marks = [
        f'<text x="{left + width * at:.0f}" y="{bottom + 16}">{label}</text>'
        for at, label in ((DIES, "dies"), (RETURNS, "is back"))
    ]
    levels = [
        f'<text x="{left - 6}" y="{bottom - height * (number / most) ** 0.5 + 4:.1f}" '
        f'text-anchor="end">{number:,}</text>'
        for number in (1, most // 10, most)
    ]
    head = f"calls a second that reach the tool, of {CALLERS:,} callers"
    font = 'font-family="sans-serif" font-size="11" fill="#555"'
    size = f'viewBox="0 0 {left + width * len(reached) + 10} {bottom + 30}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
        "<title>Calls a second that reach a tool which dies and comes back</title>",
        f'<text x="{left}" y="20">{head}</text>',
        *levels,
        '<g fill="#2a6fbb">',
        *bars,
        "</g>",
        *marks,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    options = {"loop_factory": AutojumpEventLoop}
    found = anyio.run(calls_that_reach_it, backend_options=options)
    DRAWING.write_text(drawn(found), encoding="utf-8")
    print(found)
