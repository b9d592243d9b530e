"""
What does not depend on the loop: the memory that a tool takes, and the import.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import anyio

import orchestrator_async
from orchestrator_async import Registry, ToolOrchestrator

from .measure import Effort, Row

MEMORY_GOAL = 1_500
IMPORT_GOAL = 45.0

BASELINE = "anyio, json, logging, dataclasses"
FORBIDDEN = ("pydantic", "pydantic_core")

Functions = Sequence[Callable[..., Any]]


def footprint(effort: Effort) -> list[Row]:
    """
    All figures of this module.
    """
    memory = bytes_per_tool(make_functions(effort.fleet))
    return [
        Row(
            loop="any",
            name="memory of a tool",
            cost=memory,
            unit="bytes",
            against="its function",
            goal=MEMORY_GOAL,
        ),
        Row(
            loop="any",
            name="import",
            cost=import_ms(effort.imports),
            unit="ms",
            against="its imports",
            goal=IMPORT_GOAL,
        ),
    ]


def make_functions(count: int) -> Functions:
    """
    So many coroutine functions, each with a name of its own.
    """
    return [_make_function(f"tool_{number:05}") for number in range(count)]


def _make_function(name: str) -> Callable[..., Any]:
    async def tool(city: int) -> str:
        """The forecast."""
        return "sun"

    tool.__name__ = tool.__qualname__ = name
    return tool


def bytes_per_tool(functions: Functions) -> float:
    """
    What ``tracemalloc`` sees allocated, and still there, once each function was
    registered and dispatched once, divided by their number.

    The functions and their names were there before. Nothing is validated, so that there
    is no schema. What the first tool of a process brings along (caches, code that
    specialises itself, the event loop's own) was brought along by another fleet.
    """
    return anyio.run(_allocated, functions) / len(functions)


async def _allocated(functions: Functions) -> int:
    await _fleet(functions[:10])
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        fleet = await _fleet(functions)
        gc.collect()
        allocated = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(fleet.get_fleet_stats()) == len(functions)
    return allocated


async def _fleet(functions: Functions) -> ToolOrchestrator:
    registry = Registry()
    orch = ToolOrchestrator(registry)
    for fn in functions:
        registry.tool(validate=False)(fn)
        assert await orch.dispatch(fn.__name__, {"city": 1}) == "sun"
    return orch


def import_ms(repeats: int) -> float:
    """
    Milliseconds of the processor that the import takes beyond what it imports, each in
    a process of its own, in turn.

    All is compiled before, to a cache of its own: where none may be written, as
    ``PYTHONDONTWRITEBYTECODE`` has it, compiling would be most of the figure.

    Raises:
        AssertionError: It imported what only a schema or a JSON result needs.
    """
    baseline = f"import {BASELINE}"
    ours = f"import {BASELINE}; import orchestrator_async"
    with TemporaryDirectory() as cache:
        _import(ours, cache)
        rounds = [
            _import(ours, cache) - _import(baseline, cache) for _ in repeat(None, repeats)
        ]
    return median(rounds)


def _import(statement: str, cache: str) -> float:
    script = (
        "import sys; from time import process_time as now; started = now()\n"
        f"{statement}\n"
        "print((now() - started) * 1e3)\n"
        f"print(*[each for each in {FORBIDDEN!r} if each in sys.modules])"
    )
    path = str(Path(orchestrator_async.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    told = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    ).stdout.splitlines()
    imported = told[1]
    assert not imported, f"{statement} imported {imported}"
    return float(told[0])
