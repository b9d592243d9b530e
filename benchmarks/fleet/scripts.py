"""
What each thing that a process asks of the engine takes there: ``INFO commandstats``, by kind.

    python -m benchmarks.fleet.scripts            some seconds
    python -m benchmarks.fleet.scripts --brief    whether it runs

Each kind is asked for thousands of times by one session, sixteen at a time; the figure is the
engine's own, without what it takes to read a command from the wire and to write its answer. On a
machine whose caches are cold, as where a fleet asks rarely, the same takes two or three times as
long: ``load`` shows that. Most are changes of a circuit; a beat says that a process is alive, with
the figures of so many tools.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable, Sequence
from itertools import repeat

import anyio

from orchestrator_async import CircuitState
from orchestrator_async._store import (
    NOTHING_KNOWN,
    Claim,
    Count,
    Isolate,
    Move,
    Renew,
    Run,
    SharedState,
    StoreSession,
)
from orchestrator_async.stores.redis import RedisStore
from tests.stores.engine import Engine, engine

from .load import Counters, Spent

OPEN = SharedState(state=CircuitState.OPEN, length=3600.0, rest=3600.0)
DUE = SharedState(state=CircuitState.OPEN, length=1.0)
CLOSED = SharedState(state=CircuitState.CLOSED)
FIGURES = "[12345, 67890, 12345, 67890, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1234.567891]"
PROCESSES = 160
WINDOW = 100

Ask = Callable[[StoreSession, int], Awaitable[object]]


def _run(failures: int, processes: int) -> Ask:
    def ask(session: StoreSession, number: int) -> Awaitable[object]:
        change = Run(
            known=NOTHING_KNOWN,
            process=f"process {number % processes}",
            failures=failures,
            threshold=10**6,
            processes=2,
            lasts=300.0,
            to=OPEN,
        )
        return session.change(f"runs {processes}", change)

    return ask


def _count(session: StoreSession, number: int) -> Awaitable[object]:
    change = Count(
        known=NOTHING_KNOWN,
        calls=20,
        failures=1,
        slow=0,
        window_calls=WINDOW,
        window_seconds=60.0,
        minimum_calls=10,
        failure_rate=0.5,
        slow_rate=1.0,
        to=OPEN,
    )
    return session.change("counts", change)


async def _probe(session: StoreSession, number: int) -> None:
    """
    A window of a dead tool: it opens, somebody has the lease, renews it, and it opens again.
    """
    name, token = f"probe {number % 1_000}", str(number)
    opened = await session.change(name, Move(known=NOTHING_KNOWN, to=DUE, force=True))
    claimed = await session.change(name, Claim(known=opened.state, token=token, lease=30.0))
    assert claimed.done
    await session.change(name, Renew(known=claimed.state, token=token, lease=30.0))
    done = await session.change(name, Move(known=claimed.state, to=DUE, token=token))
    assert done.done


def _denied(session: StoreSession, number: int) -> Awaitable[object]:
    known = SharedState(generation=1, state=CircuitState.OPEN, length=3600.0, rest=3600.0)
    return session.change("denied", Claim(known=known, token="one", lease=30.0))


async def _isolate(session: StoreSession, number: int) -> None:
    token = (str(number % 16),)
    await session.change("by hand", Isolate(known=NOTHING_KNOWN, add=token))
    await session.change("by hand", Isolate(known=NOTHING_KNOWN, remove=token))


def _beat(tools: int) -> Ask:
    figures = {f"tool_{number:04}": FIGURES for number in range(tools)}
    return lambda session, number: session.beat(f"process {number % PROCESSES}", figures)


def _read(circuits: int, name: str) -> Ask:
    names = [f"{name} {number}" for number in range(circuits)]
    return lambda session, number: session.read(names)


KINDS: dict[str, tuple[Ask, int]] = {
    "a failure: one process in a run": (_run(1, 1), 1),
    "a failure: 160 of them": (_run(1, PROCESSES), 1),
    "the end of a run": (_run(0, PROCESSES), 1),
    "counts of a window": (_count, 1),
    "an ask to probe, denied": (_denied, 1),
    "a probe: opened, claimed, renewed, opened": (_probe, 4),
    "isolated, and back": (_isolate, 2),
    "a beat": (_beat(0), 1),
    "a beat, figures of 10 tools": (_beat(10), 1),
    "a beat, figures of 100 tools": (_beat(100), 1),
    "a beat, figures of 1,000 tools": (_beat(1_000), 1),
    "a look at 500 circuits": (_read(500, "never open"), 1),
    "a look at 500 that were open": (_read(500, "probe"), 1),
}
"""What is asked, and with how many changes."""


async def measure(it: Engine, times: int) -> None:
    """
    Show what each takes.
    """
    async with RedisStore(it.url).session(lambda circuit, state: None) as session:
        for name, (ask, changes) in KINDS.items():
            few = times // 20 if "1,000" in name or "look" in name else times
            await _many(session, ask, max(1, few // 10))
            before = Counters.of(it)
            await _many(session, ask, few)
            spent = Spent(before=before, after=Counters.of(it))
            command = "mget" if "look" in name else "evalsha"
            rate = spent.cpu * spent.seconds / (few * changes) * 1e6
            print(
                f"| {name} | {spent.usec(command):.1f} us | {rate:.1f} us |",
                flush=True,
            )


async def _many(session: StoreSession, ask: Ask, times: int) -> None:
    numbers = iter(range(times))

    async def some() -> None:
        for number in numbers:
            await ask(session, number)

    async with anyio.create_task_group() as tasks:
        for _ in repeat(None, 16):
            tasks.start_soon(some)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Measure, and print as Markdown.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet.scripts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--brief", action="store_true", help="see only whether it runs")
    given = parser.parse_args(argv)
    with engine() as it:
        print(f"redis {it.info()['redis_version']}\n")
        print("| | of each | of each, with the wire |\n|---|---|---|")
        anyio.run(measure, it, 40 if given.brief else 8_000)
    return 0


if __name__ == "__main__":
    sys.exit(main())
