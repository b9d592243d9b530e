"""
How long input that is large, or made to be slow, holds the loop in one piece.

    python -m tests.stalls --backend trio
    python -m tests.stalls --limit 50 --case tours    milliseconds, and some cases only

The cases stand beside the tests that say how each is answered. What is measured is the
processor's time of the thread between two turns of another task, the least of five runs,
without the garbage collector: a full collection takes its time by all that was done before,
and strikes whoever allocates. The exit status is 1 if a case is over the limit.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

import anyio
from anyio.lowlevel import checkpoint

from orchestrator_async import InvalidArgumentsError, ToolOrchestrator
from orchestrator_async._known import MOST_TEXT, MOST_VALUES, value_key
from orchestrator_async._schema import Schema
from orchestrator_async._text import clean

from .test_dispatch import (
    LARGE,
    LONG_NAMES,
    MISFITS,
    UNKNOWN,
    WORST,
    crowded,
    failing,
    plans,
)
from .test_recursion import SCHEMA, TANGLED
from .test_schema import NONSENSE, listing, made
from .test_schema import UNKNOWN as UNKNOWN_NAMES
from .test_text import SLOW_PIECES

LIMIT_MS: Final = 10.0
RUNS: Final = 5

Work = Callable[[], Awaitable[object]]

KNOWN: Final[dict[str, object]] = {
    "floats": [each / 7 for each in range(MOST_VALUES - 1)],
    "a text": "\U0001f600" * MOST_TEXT,
    "a text in a list": ["\U0001f600" * MOST_TEXT],
    "a text that is torn": ["\ud83d" * MOST_TEXT],
}


def cases() -> Iterator[tuple[str, Work]]:
    """
    Each case's name and what it does.
    """
    orch = crowded()
    for name, unknown in UNKNOWN.items():
        yield f"unknown name: {name}", asking(orch, unknown, {})
    yield "unknown name: among long ones", asking(crowded(LONG_NAMES), LONG_NAMES[:-5], {})
    for name, args in MISFITS.items():
        yield f"arguments: {name}", asking(orch, "get_weather_forecast_0500", args)
    for name, args in WORST.items():
        yield f"the most: {name}", asking(plans(), "plan", args)
    for name, make in LARGE.items():
        yield f"error: {name}", asking(failing(make), "fail", {})
    for name, tangled in TANGLED.items():
        yield f"tangled: {name}", refused(SCHEMA, tangled)
        yield f"tangled text: {name}", refused(SCHEMA, json.dumps(tangled))
    schema = made(listing)
    for name, text in NONSENSE.items():
        yield f"nonsense: {name}", refused(schema, text)
    yield "nonsense: a mapping", refused(schema, UNKNOWN_NAMES)
    for piece in SLOW_PIECES:
        yield f"text: {piece!r}", cleaning(piece * (1_000_000 // len(piece)))
    for name, value in KNOWN.items():
        yield f"known again: {name}", knowing(value)


def asking(orch: ToolOrchestrator, name: str, args: Any) -> Work:
    """
    A call by the model.
    """
    return functools.partial(orch.dispatch, name, args)


def refused(schema: Schema, args: Any) -> Work:
    """
    Arguments that do not fit.
    """
    read = schema.validate_json if isinstance(args, str) else schema.validate

    async def work() -> None:
        try:
            read(args)
        except InvalidArgumentsError:
            return
        raise AssertionError("they fit")

    return work


def cleaning(text: str) -> Work:
    """
    Foreign text on its way to the model.
    """

    async def work() -> None:
        clean(text)

    return work


def knowing(value: object) -> Work:
    """
    A value that is the largest of those that are known again.
    """

    async def work() -> None:
        assert value_key(value) is not None

    return work


async def longest_piece(work: Work) -> float:
    """
    Milliseconds that `work` keeps another task waiting at one time.
    """
    longest = last = 0.0
    over = False

    async def watch() -> None:
        nonlocal longest, last
        while not over:
            await checkpoint()
            now = time.thread_time()
            longest = max(longest, now - last)
            last = now

    async with anyio.create_task_group() as group:
        last = time.thread_time()
        group.start_soon(watch)
        for _ in range(3):
            await checkpoint()
        longest = 0.0
        await work()
        await checkpoint()
        over = True
    return longest * 1_000


async def measure(work: Work) -> float:
    """
    The least of some runs, after one that does what is done once.
    """
    await work()
    gc.collect()
    gc.disable()
    try:
        return min([await longest_piece(work) for _ in range(RUNS)])
    finally:
        gc.enable()


async def measure_all(wanted: str, limit: float) -> int:
    """
    Print what was measured, the worst first; the exit status.
    """
    figures = {name: await measure(work) for name, work in cases() if wanted in name}
    for name in sorted(figures, key=figures.__getitem__, reverse=True)[:10]:
        print(f"{figures[name]:8.2f} ms  {name}")
    over = sum(figure > limit for figure in figures.values())
    print(f"{len(figures)} cases, {over} over {limit:g} ms")
    if not figures:
        print(f"no case has {wanted!r} in its name")
    return 1 if over or not figures else 0


def main(argv: Sequence[str] | None = None) -> int:
    """
    Measure, and say by the exit status how it went.
    """
    parser = argparse.ArgumentParser(description="Measure what holds the loop.")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--limit", type=float, default=LIMIT_MS, help="milliseconds")
    parser.add_argument("--case", default="", help="only those with this in their name")
    chosen = parser.parse_args(argv)
    # As with a log that is kept: records are made and formatted, and go nowhere.
    handler = Formatting()
    log = logging.getLogger("orchestrator_async")
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        return anyio.run(measure_all, chosen.case, chosen.limit, backend=chosen.backend)
    finally:
        log.removeHandler(handler)
        log.level, log.propagate = before


class Formatting(logging.Handler):
    """
    Formats each record, and shows none.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """
        Format it.
        """
        self.format(record)


if __name__ == "__main__":
    sys.exit(main())
