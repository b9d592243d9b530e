"""
What a store costs a call while its circuit is closed: nothing that counts, as it is not asked.

    python -m benchmarks.fleet.dispatch                 half a minute
    python -m benchmarks.fleet.dispatch --smoke         whether it runs
    python -m benchmarks.fleet.dispatch --check         exit status 1 if the goal is missed

Three orchestrators are measured in turn, on each loop, as ``measure`` says: one without a store,
one with a session of a real engine, and another one without, which says how much of a ratio is
chance. Beside these the processor's time, in a second, of one that calls nothing, with so many
circuits that are open.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import anyio

from benchmarks.__main__ import LOOPS, _loops
from benchmarks.calls import dispatching, orchestrated
from benchmarks.measure import SMOKE, Effort, in_turn
from orchestrator_async import Registry, ToolOrchestrator
from orchestrator_async.stores.redis import RedisStore
from tests.stores.engine import engine

GOAL = 1.05
CIRCUITS = 1_000


async def ratios(url: str, effort: Effort) -> tuple[float, float, float]:
    """
    Nanoseconds of a call without a store, what it takes with one in terms of it, and what the
    same takes.
    """
    shared = orchestrated(store=RedisStore(url))
    async with shared:
        cases = {
            "memory": dispatching(orchestrated()),
            "store": dispatching(shared),
            "again": dispatching(orchestrated()),
        }
        times = await in_turn(cases, effort)
    return (
        times.ns("memory"),
        times.ratio("store", "memory"),
        times.ratio("again", "memory"),
    )


async def background(url: str, circuits: int, seconds: float) -> float:
    """
    Seconds of the processor that a process takes in a second in which it calls nothing: all of
    its threads, as the client has some.
    """
    registry = Registry()

    async def tool() -> str:
        """The forecast."""
        return "sun"

    for number in range(circuits):
        registry.tool(name=f"tool_{number:04}", validate=False)(tool)
    async with ToolOrchestrator(registry, store=RedisStore(url)) as orch:
        for each in registry:
            await orch.dispatch(each.name, {})
            orch.circuit(each.name).trip()  # so that the engine has something of it
        await anyio.sleep(min(2.0, seconds))
        before, begin = time.process_time(), time.perf_counter()
        await anyio.sleep(seconds)
        return (time.process_time() - before) / (time.perf_counter() - begin)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Measure, and print.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet.dispatch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--smoke", action="store_true", help="see only whether it runs")
    parser.add_argument("--check", action="store_true", help="fail if the goal is missed")
    given = parser.parse_args(argv)
    effort = SMOKE if given.smoke else Effort()
    circuits, seconds = (20, 0.3) if given.smoke else (CIRCUITS, 5.0)
    missed = False
    with engine() as it:
        for loop in _loops():
            backend, options = LOOPS[loop]
            ns, shared, again = anyio.run(
                ratios, it.url, effort, backend=backend, backend_options=options
            )
            busy = anyio.run(
                background,
                it.url,
                circuits,
                seconds,
                backend=backend,
                backend_options=options,
            )
            missed |= shared > GOAL
            print(
                f"{loop:15} dispatch {ns:,.0f} ns; with a store {shared:.3f} of it (goal: at "
                f"most {GOAL}), without one again {again:.3f}; {circuits:,} circuits open and "
                f"no call: {busy:.1%} of a core"
            )
    return 1 if missed and given.check else 0


if __name__ == "__main__":
    sys.exit(main())
