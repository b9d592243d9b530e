"""
One process of a fleet: an orchestrator with a store, and tasks that call its tools.

It is steered by commands that come over a pipe, and by the switches in its folder. What
happens it writes to the trace there. See ``fleet`` for the other end.
"""

from __future__ import annotations

import itertools
import logging
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import anyio

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    CircuitChanged,
    Event,
    Registry,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
)
from orchestrator_async._circuit import Isolation
from orchestrator_async._policy import FleetPolicy

from .lag import TICK, Lag, Slow
from .switch import Switch
from .trace import Trace

NOTABLE: Final = 0.015
"""Seconds that a call may take beyond its tool's before it is written down."""

LOOPS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """
    What a process is started with.

    Attributes:
        folder: Where its trace and its switches are.
        loop: ``"asyncio"``, ``"uvloop"`` or ``"trio"``.
        url: Of the engine; empty for no store.
        prefix: Of the keys in the engine.
        tools: How many tools it has: ``work-0`` and so on.
        tasks: How many tasks call them.
        every: Seconds from one call of a task to its next, on average.
        impatience: Seconds after which half of all callers give up at the latest, by
            chance; 0 for never.
        reset_timeout: Of the circuits.
        failure_threshold: Of the circuits.
        timeout: Of the tools.
        probe_lease: Of the circuits, for tools without a timeout.
        lease: Seconds for which the fleet gives a probe its place at a time.
        watched: Whether state changes are told by an observer. Else they are looked for,
            and calls take the path that they take where nobody observes.
        warm: Whether each tool is called once before all else.
    """

    folder: str
    loop: str = "asyncio"
    url: str = ""
    prefix: str = "fleet"
    tools: int = 1
    tasks: int = 10
    every: float = 0.25
    impatience: float = 0.0
    reset_timeout: float = 0.4
    failure_threshold: int = 3
    timeout: float | None = 5.0
    probe_lease: float = 30.0
    lease: float = 30.0
    watched: bool = True
    warm: bool = True


class Spent:
    """
    What the tool has to say of one call.

    Attributes:
        seconds: How many it took.
        number: Which of the process's calls it was.
    """

    __slots__ = ("number", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.number = -1


class Worker:
    """
    The process, from within.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        folder = Path(setup.folder)
        self.trace = Trace(folder / "trace")
        self.tools = [f"work-{number}" for number in range(setup.tools)]
        self.switches = {tool: Switch(folder, tool) for tool in self.tools}
        self.counts: Counter[str] = Counter()
        self.worst = self.worst_net = 0.0
        self.lag = Lag(self.note_slow)
        self.orch = orchestrator(setup, self.registry(), self.tools)
        if setup.watched:
            self.orch.add_observer(self.note)
        self.stopping = anyio.Event()
        self._numbers = itertools.count()
        self._isolations: list[Isolation] = []
        self._seen = dict.fromkeys(self.tools, "closed")

    def registry(self) -> Registry:
        registry = Registry()
        for tool in self.tools:
            registry.tool(name=tool)(self.behaviour(tool))
        return registry

    def behaviour(self, tool: str) -> Callable[[ToolContext], Awaitable[str]]:
        """
        The tool: it tells of each of its calls.
        """

        async def work(context: ToolContext) -> str:
            """Do some work."""
            number = context.data["spent"].number = next(self._numbers)
            outcome = "cancelled"
            began = self.trace.write("begin", tool, number)
            try:
                outcome = await act(self.switches[tool])
            finally:
                ended = self.trace.write("end", tool, number, outcome)
                context.data["spent"].seconds += ended - began
            if outcome == "dead":
                raise ConnectionError("the service is down")
            return "found"

        return work

    async def run(self, commands: Commands) -> None:
        """
        Until a command ends it.
        """
        async with self.orch, anyio.create_task_group() as group:
            group.start_soon(self.lag.watch)
            group.start_soon(self.obey, commands)
            if not self.setup.watched:
                group.start_soon(self.look)
            if self.setup.warm:  # a first call makes what all the others need
                for tool in self.tools:
                    await self.call(tool)
            await self.lag.all_told()
            self.worst = self.worst_net = self.lag.worst = 0.0
            self.trace.write("ready")
            async with anyio.create_task_group() as callers:
                for number in range(self.setup.tasks):
                    callers.start_soon(self.call_again_and_again, number)
                await self.stopping.wait()
                callers.cancel_scope.cancel()
            await self.lag.all_told()
            group.cancel_scope.cancel()
            leaving = time.monotonic()
        figures = self.figures() | {"leaving": time.monotonic() - leaving}
        self.trace.write("figures", figures)

    def figures(self) -> dict[str, Any]:
        return dict(self.counts) | {
            "loop": self.setup.loop,
            "worst": self.worst,
            "worst_net": self.worst_net,
            "worst_lag": self.lag.worst,
        }

    # Callers

    async def call_again_and_again(self, number: int) -> None:
        tool = self.tools[number % len(self.tools)]
        await anyio.sleep(self.setup.every * random.random())
        while True:
            await self.call(tool)
            await anyio.sleep(self.setup.every * random.uniform(0.5, 1.5))

    async def call(self, tool: str) -> str:
        """
        One call, which is to raise nothing and to take no longer than the tool does.
        """
        spent, answer = Spent(), ""
        impatient = self.setup.impatience and random.random() < 0.5
        patience = self.setup.impatience * random.random() if impatient else None
        self.counts["calls"] += 1
        began = time.monotonic()
        try:
            with anyio.move_on_after(patience) as scope:
                answer = await self.orch.dispatch(tool, None, spent=spent)
        except BaseException as error:
            if isinstance(error, anyio.get_cancelled_exc_class()):
                raise
            self.counts["raised"] += 1
            self.trace.write("raised", tool, repr(error))
            if not isinstance(error, Exception):
                raise
        ended = time.monotonic()
        self.counts["given up"] += scope.cancelled_caught
        added = ended - began - spent.seconds
        self.worst = max(self.worst, added)
        if added > NOTABLE:
            self.lag.slow(Slow(began, ended, added))
        return answer

    # What is written down

    def note(self, event: Event) -> None:
        if isinstance(event, CircuitChanged):
            self.note_change(event.circuit, event.old, event.new, event.reason)
        elif isinstance(event, CallFinished):
            verdict = "late" if event.late else event.verdict
            self.trace.write("verdict", event.context["spent"].number, verdict)

    def note_change(self, circuit: str, old: str, new: str, reason: str) -> None:
        self.trace.write("changed", circuit, old, new, reason)

    def note_slow(self, call: Slow, late: float, waited: float) -> None:
        net = call.added - max(late, waited)
        self.worst_net = max(self.worst_net, net)
        self.trace.write("slow", call.began, call.ended, call.added, late, waited)

    async def look(self) -> None:
        """
        Look for changes of state.
        """
        while True:
            for tool, old in self._seen.items():
                new = str(self.orch.circuit(tool).state)
                if new != old:
                    self._seen[tool] = new
                    self.note_change(tool, old, new, "seen")
            await anyio.sleep(TICK)

    # Commands

    async def obey(self, commands: Commands) -> None:
        async for number, do, *args in commands:
            try:
                answer = await getattr(self, f"do_{do}")(*args)
            except Exception as error:
                answer = {"error": repr(error)}
            self.trace.write("answer", number, answer)

    async def do_stop(self) -> None:
        self.stopping.set()

    async def do_call(self, tool: str, times: int = 1) -> list[str]:
        return [await self.call(tool) for _ in range(times)]

    async def do_state(self, tool: str) -> str:
        return str(self.orch.circuit(tool).state)

    async def do_isolate(self, tool: str) -> None:
        self._isolations.append(self.orch.circuit(tool).isolate())

    async def do_release(self) -> None:
        self._isolations.pop().release()

    async def do_unisolate(self, tool: str) -> None:
        self.orch.circuit(tool).unisolate()

    async def do_trip(self, tool: str) -> None:
        self.orch.circuit(tool).trip()

    async def do_reset(self, tool: str) -> None:
        self.orch.circuit(tool).reset()

    async def do_figures(self) -> dict[str, Any]:
        return self.figures()

    async def do_stats(self) -> Any:
        return self.orch.get_fleet_stats()

    async def do_all_stats(self) -> Any:
        return await self.orch.get_fleet_stats_all()


def orchestrator(setup: Setup, registry: Registry, tools: list[str]) -> ToolOrchestrator:
    """
    One whose circuits are shared if there is an engine.
    """
    breaker = BreakerPolicy(
        failure_threshold=setup.failure_threshold,
        reset_timeout=setup.reset_timeout,
        probe_lease=setup.probe_lease,
    )
    policy = ToolPolicy(timeout=setup.timeout, breaker=breaker)
    if not setup.url:
        return ToolOrchestrator(registry, policy=policy)
    from orchestrator_async.stores.redis import RedisStore

    store = RedisStore(setup.url, prefix=setup.prefix)
    shared = FleetPolicy(lease=setup.lease)
    return ToolOrchestrator(registry, policy=policy, store=store, fleet=shared)


async def act(switch: Switch) -> str:
    """
    Behave as the switch says: the mode in which that ended.
    """
    behaviour = switch.read()
    mode = behaviour.mode
    while mode == "hang":
        await anyio.sleep(0.01)
        behaviour = switch.read()
        mode = behaviour.after_hanging
    if behaviour.takes:
        await anyio.sleep(behaviour.takes)
    return mode


class Commands:
    """
    What comes from whoever steers it. When that is gone, the last command is to stop.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ended = False

    def __aiter__(self) -> Commands:
        return self

    async def __anext__(self) -> tuple[Any, ...]:
        if self._ended:
            raise StopAsyncIteration
        await anyio.wait_readable(self._connection.fileno())
        try:
            return tuple(self._connection.recv())
        except EOFError:
            self._ended = True
            return (0, "stop")


class LogToTrace(logging.Handler):
    """
    Writes what is logged into the trace.
    """

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        self._trace.write("log", record.name, record.levelname, record.getMessage())


def main(setup: Setup, connection: Connection) -> None:
    """
    Be such a process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever steers it decides
    _write_errors_to(Path(setup.folder) / "stderr")
    random.seed()
    backend, options = LOOPS[setup.loop]
    logging.getLogger().addHandler(LogToTrace(Trace(Path(setup.folder) / "trace")))

    async def run() -> None:
        await Worker(setup).run(Commands(connection))

    anyio.run(run, backend=backend, backend_options=options)


def _write_errors_to(path: Path) -> None:
    """
    Have what a library writes to standard error, also one that is not of Python, in a file.
    """
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(file, sys.stderr.fileno())
    os.close(file)
