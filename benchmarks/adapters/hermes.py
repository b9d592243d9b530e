"""
What circuits cost around the tools of hermes, and inside hermes.

    make test-hermes && .venv-hermes/bin/python -m benchmarks.adapters.hermes
    ... --smoke              whether it runs
    ... --backend trio       on the other loop

The tool is trivial, and so is all that is left besides. The cases are measured in turn, a few
calls each, many times; shown are medians, in microseconds, for one call after another.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from statistics import median
from time import perf_counter
from typing import Any

import anyio
import anyio.to_thread

CALLS = 20
Case = Callable[[], Awaitable[object]]


async def in_turn(cases: dict[str, Case], rounds: int) -> dict[str, float]:
    """
    Microseconds that a call takes, by case.
    """
    took: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            begin = perf_counter()
            for _ in range(CALLS):
                await case()
            took[name].append((perf_counter() - begin) / CALLS * 1e6)
    return {name: median(found) for name, found in took.items()}


async def outside(rounds: int) -> dict[str, float]:
    """
    A tool of hermes in a registry of ours.
    """
    from tools.registry import registry as theirs

    from orchestrator_async import Registry, ToolOrchestrator
    from orchestrator_async.adapters.hermes import HermesTools

    async with HermesTools(tools=["trivial"]) as tools:
        registry = Registry()
        registry.include(tools)

        @registry.tool(parameters={"type": "object"})
        def plain() -> str:
            return "{}"

        orch = ToolOrchestrator(registry)

        async def bare() -> object:
            return theirs.dispatch("trivial", {})

        def in_a_thread() -> Awaitable[object]:
            return anyio.to_thread.run_sync(theirs.dispatch, "trivial", {})

        cases: dict[str, Case] = {
            "hermes alone, blocking the loop": bare,
            "hermes in a thread": in_a_thread,
            "orch.dispatch of a plain function": lambda: orch.dispatch("plain", {}),
            "orch.dispatch of hermes' tool": lambda: orch.dispatch("trivial", {}),
        }
        return await in_turn(cases, rounds)


def inside(rounds: int, backend: str) -> dict[str, float]:
    """
    Hermes' own way to a tool, without and with circuits.
    """
    from hermes_cli.plugins import get_plugin_manager
    from model_tools import handle_function_call

    from orchestrator_async.adapters.hermes import HermesCircuits

    circuits = HermesCircuits(backend=backend)
    found: list[Any] = get_plugin_manager()._middleware.setdefault("tool_execution", [])

    def case(middleware: list[Any]) -> Case:
        async def call() -> object:
            found[:] = middleware
            return handle_function_call("trivial", {})

        return call

    cases = {
        "handle_function_call": case([]),
        "the same, with circuits inside": case([circuits.middleware]),
    }
    try:
        return anyio.run(in_turn, cases, rounds)
    finally:
        found.clear()
        circuits.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="What circuits cost with hermes.")
    parser.add_argument("--smoke", action="store_true", help="see whether it runs")
    parser.add_argument("--backend", default="asyncio", choices=["asyncio", "trio"])
    options = parser.parse_args()
    rounds = 2 if options.smoke else 100
    home = os.environ["HERMES_HOME"] = tempfile.mkdtemp()
    try:
        from tools.registry import registry

        registry.register("trivial", "x", {"parameters": {"type": "object"}}, _trivial)
        figures = anyio.run(outside, rounds, backend=options.backend)
        figures |= inside(rounds, options.backend)
        for name, microseconds in figures.items():
            print(f"{name:36} {microseconds:8.1f} us")
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _trivial(args: dict[str, Any], **told: Any) -> str:
    return "{}"


if __name__ == "__main__":
    main()
