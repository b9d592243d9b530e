"""
Some processes of a fleet in one, for ``load``: each is an orchestrator with a session of its
own, as the engine sees it a process like any other.

A line of JSON on standard input is a stretch of ``Work``, and is answered by a line of JSON with
what was ``Done``. An empty line, or the end, ends it.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from random import Random

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from benchmarks.__main__ import LOOPS
from orchestrator_async import (
    BreakerPolicy,
    CircuitChanged,
    CircuitState,
    Registry,
    ToolOrchestrator,
)
from orchestrator_async.stores.redis import RedisStore

TICK = 0.02
"""Seconds between two handfuls of calls."""

ENDS = 1.0
"""Seconds from a failure to the success of the same tool in the same process."""

RESET = 2.0
"""Seconds that a circuit stays open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """
    What to do for so many seconds.

    Attributes:
        seconds: How long.
        calls: Calls of healthy tools a second, spread over all processes of this worker.
        failures: How many of them fail, each followed by a success a second later.
        dead: How many tools are dead.
        dead_calls: Calls of these a second, besides.
        trips: Tools that the first process here finds dead, one after the other: the
            moments at which the circuits of all processes here open are told.
        touch: Whether the first process opens and closes every circuit, so that the engine
            has something of each.
    """

    seconds: float = 0.0
    calls: float = 0.0
    failures: float = 0.0
    dead: int = 0
    dead_calls: float = 0.0
    trips: Sequence[str] = ()
    touch: bool = False


@dataclass(kw_only=True, slots=True)
class Done:
    """
    What was done.

    Attributes:
        calls: Calls of healthy tools.
        failures: How many of them failed.
        dead_calls: Calls of dead tools.
        executed: How many of these were run: all others were refused.
        lag: Seconds by which a tick was late, at the worst.
        cpu: Seconds of the processor, of all of this worker.
        opened: For each circuit that opened, in each process: its name, and the system's
            monotonic time in nanoseconds.
    """

    calls: int = 0
    failures: int = 0
    dead_calls: int = 0
    executed: int = 0
    lag: float = 0.0
    cpu: float = 0.0
    opened: list[tuple[str, int]] = field(default_factory=list)


class Worker:
    """
    The processes, and the tools that they call.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.names = [f"tool_{number:04}" for number in range(options.circuits)]
        self.done = Done()
        self._random = Random(options.seed)
        self._count: int = options.processes
        self._observers = [self._note] if options.watch else []
        self._window = 60.0 if options.window else None
        self._registry = self._register()
        self._orchs: list[ToolOrchestrator] = []

    def _register(self) -> Registry:
        registry = Registry()

        async def tool(fails: bool = False, dead: bool = False) -> str:
            """The forecast."""
            self.done.executed += dead
            if fails or dead:
                raise ConnectionError("no route to host")
            return "sun"

        for name in self.names:
            registry.tool(name=name, validate=False)(tool)
        return registry

    def _note(self, event: object) -> None:
        if isinstance(event, CircuitChanged) and event.new is CircuitState.OPEN:
            self.done.opened.append((event.circuit, time.monotonic_ns()))

    async def enter(self, url: str, stack: AsyncExitStack) -> None:
        """
        Connect all processes, and call every tool in each of them once.
        """
        for _ in range(self._count):
            orch = ToolOrchestrator(
                self._registry,
                policy=BreakerPolicy(reset_timeout=RESET, window_seconds=self._window),
                observers=self._observers,
                store=RedisStore(url),
            )
            self._orchs.append(await stack.enter_async_context(orch))
            for name in self.names:
                await orch.dispatch(name, {})
            await anyio.lowlevel.checkpoint()
        self.done = Done()

    async def work(self, work: Work) -> Done:
        """
        Do it, and say what was done.
        """
        cpu = time.process_time()
        if work.touch:
            await self._touch()
        for name in work.trips:
            await self._trip(name)
        await self._call(work)
        self.done.cpu = time.process_time() - cpu
        done, self.done = self.done, Done()  # what opens before the next work is of that
        return done

    async def _touch(self) -> None:
        for name in self.names:
            circuit = self._orchs[0].circuit(name)
            circuit.trip()
            await anyio.sleep(0.005)  # it is told
            circuit.reset()

    async def _trip(self, name: str) -> None:
        for _ in range(3):
            await self._orchs[0].dispatch(name, {"fails": True})
        await anyio.sleep(0.1 + 0.1 * self._random.random())

    async def _call(self, work: Work) -> None:
        async with anyio.create_task_group() as tasks:
            await self._keep_calling(work, tasks)

    async def _keep_calling(self, work: Work, tasks: TaskGroup) -> None:
        begin = anyio.current_time()
        ending: deque[tuple[float, ToolOrchestrator, str]] = deque()
        passed = 0.0
        while passed < work.seconds:
            while ending and ending[0][0] <= passed:
                _, orch, name = ending.popleft()
                await self._succeed(orch, name)
            while self.done.failures < work.failures * passed:
                ending.append((passed + ENDS, *await self._fail(work)))
            while self.done.calls < work.calls * passed:
                await self._succeed(self._any_process(), self._any_healthy(work))
            while self.done.dead_calls < work.dead_calls * passed:
                self.done.dead_calls += 1
                tasks.start_soon(self._call_a_dead_one, work)  # it may wait for a lease
            await anyio.sleep(TICK)
            before, passed = passed, anyio.current_time() - begin
            self.done.lag = max(self.done.lag, passed - before - TICK)

    async def _succeed(self, orch: ToolOrchestrator, name: str) -> None:
        self.done.calls += 1
        await orch.dispatch(name, {})

    async def _fail(self, work: Work) -> tuple[ToolOrchestrator, str]:
        orch, name = self._any_process(), self._any_healthy(work)
        self.done.calls += 1
        self.done.failures += 1
        await orch.dispatch(name, {"fails": True})
        return orch, name

    async def _call_a_dead_one(self, work: Work) -> None:
        name = self.names[self._random.randrange(work.dead)]
        await self._any_process().dispatch(name, {"dead": True})

    def _any_process(self) -> ToolOrchestrator:
        return self._random.choice(self._orchs)

    def _any_healthy(self, work: Work) -> str:
        return self.names[self._random.randrange(work.dead, len(self.names))]


async def run(options: argparse.Namespace) -> None:
    """
    Work until there is no more.
    """
    worker = Worker(options)
    async with AsyncExitStack() as stack:
        await worker.enter(options.url, stack)
        _say({"ready": True})
        while line := (await anyio.to_thread.run_sync(sys.stdin.readline)).strip():
            _say(asdict(await worker.work(Work(**json.loads(line)))))


def _say(what: object) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("url")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--circuits", type=int, default=1)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--loop", choices=LOOPS, default="asyncio")
    parser.add_argument("--window", action="store_true", help="circuits have a window")
    parser.add_argument("--watch", action="store_true", help="tell when circuits open")
    options = parser.parse_args()
    logging.getLogger("orchestrator_async").setLevel(logging.CRITICAL)
    backend, backend_options = LOOPS[options.loop]
    anyio.run(run, options, backend=backend, backend_options=backend_options)


if __name__ == "__main__":
    main()
