"""
A rig for what must hold whenever a caller is cancelled, and in whatever order tasks run.

A scenario is run once to count the steps that its tasks take, and then once for each of
them, cancelled there. A step ends where a task gives way to the loop, so every await that
waits is met, in every task that the scenario starts. What must not be lost is checked
after each run: see ``World.assert_nothing_is_lost``. Another scenario joins by being
written down; see ``test_nothing_lost``.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import random
import types
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from contextlib import aclosing, contextmanager
from typing import Any

import anyio
import trio
from anyio.lowlevel import checkpoint

from orchestrator_async import (
    CallFinished,
    CallRejected,
    CircuitState,
    Event,
    Registry,
    ToolOrchestrator,
    Verdict,
)
from orchestrator_async._around import _falling
from orchestrator_async._execution import _probes
from orchestrator_async._gates import _held
from orchestrator_async._rate import Rate, Token, take

from .support import assert_adds_up

RESET = 300.0
MANY_STEPS = 3_000
LIFETIME = 1e9

_within: contextvars.ContextVar[Steps | None] = contextvars.ContextVar(
    "within", default=None
)


class World:
    """
    What one run of a scenario has: an orchestrator, its tools, and what they did.

    Args:
        clock: The orchestrator's.
        watched: Whether there is an observer. Where there is none, ``dispatch`` takes its
            short path.
        **options: Those of the orchestrator.
    """

    def __init__(
        self,
        clock: Callable[[], float] = anyio.current_time,
        *,
        watched: bool = True,
        **options: Any,
    ) -> None:
        self.registry = Registry()
        self.events: list[Event] = []
        self.watched = watched
        self.runs: Counter[str] = Counter()
        self.inside = self.most_inside = 0
        self.orch = ToolOrchestrator(
            self.registry,
            clock=clock,
            reset_timeout=RESET,
            observers=[self.events.append] if watched else [],
            **options,
        )
        self.well = self.down = False

    def tool(
        self, fn: Callable[[], Awaitable[Any]], name: str = "tool", **options: Any
    ) -> None:
        """
        Offer a tool that does this, until the world is well again.
        """

        async def behave() -> Any:
            self.runs[name] += 1
            if self.down:
                raise ConnectionError("down")
            if self.well:
                return "well"
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
            try:
                return await fn()
            finally:
                self.inside -= 1

        self.registry.tool(name=name, **options)(behave)

    def stream(
        self,
        fn: Callable[[], AsyncGenerator[Any, None]],
        name: str = "tool",
        **options: Any,
    ) -> None:
        """
        The same of a tool that is an async generator. It counts who is inside of it from
        its beginning until it is closed, and is never left to the garbage collector.
        """

        async def behave() -> AsyncGenerator[Any, None]:
            self.runs[name] += 1
            if self.down:
                raise ConnectionError("down")
            if self.well:
                yield "well"
                return
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
            try:
                async with aclosing(fn()) as chunks:
                    async for chunk in chunks:
                        yield chunk
            finally:
                self.inside -= 1

        self.registry.tool(name=name, **options)(behave)

    async def open(self, name: str = "tool", *, and_wait: bool = True) -> None:
        """
        Open a circuit by failures of this tool, and let its time pass.
        """
        circuit, self.down = self.orch.circuit(self.registry[name].circuit_name), True
        while circuit.state is CircuitState.CLOSED:
            await self.orch.dispatch(name)
        self.down = False
        if and_wait:
            await anyio.sleep(RESET)

    async def assert_nothing_is_lost(self) -> None:
        """
        Nothing is in flight, the figures and the events add up, every place is free, and
        time and a tool that is well bring every circuit back.
        """
        assert self.inside == 0
        assert_adds_up(self.orch)
        for variable in (_falling, _held, _probes):
            assert variable.get(()) == ()
        if self.watched:
            self._assert_told()
        stats = self.orch.get_fleet_stats()
        for name in self.runs:
            assert stats[name]["calls"] == self.runs[name], name
        self._assert_gates_are_free()
        assert self.orch._fleet._answering == {}
        for entry in self.orch._fleet.entries.values():
            assert entry.slots is None or entry.slots.taken == 0
            assert type(entry.figures.flights) is dict  # nobody waits for their end
        for circuit in self.orch._fleet.all_circuits():
            assert circuit.waiters is None, circuit
            assert circuit.holders == 0, circuit
        self.well = True
        for tool in self.registry:
            if tool.is_async:
                await self._assert_comes_back(tool.name)

    def _assert_gates_are_free(self) -> None:
        """
        No place is taken and nobody waits; and of a rate that gives nothing back in a
        lifetime there are as many turns used as tools were run.
        """
        for (kind, name), gate in self.orch._surroundings._gates.items():
            if gate.limit is not None:
                assert (gate.limit.taken, gate.limit.waiting) == (0, 0), gate.limit
            if gate.rate is None:
                continue
            assert gate.rate.waiting == 0
            if gate.rate.limit.seconds >= LIFETIME:
                used = sum(
                    self.runs[each.name]
                    for each in self.orch._fleet.entries.values()
                    if kind == "all" or name in (each.name, each.settings.group)
                )
                most = gate.rate.limit.burst
                assert turns_left(gate.rate, self.orch._clock()) == most - used, name

    def _assert_told(self) -> None:
        finished = [each for each in self.events if isinstance(each, CallFinished)]
        rejected = [
            each
            for each in self.events
            if isinstance(each, CallRejected) and each.reason != "draining"  # in no figure
        ]
        stats = self.orch.get_fleet_stats()
        for name in [name for name in stats if name in self.registry]:
            figures = stats[name]
            mine = [each for each in finished if each.tool_name == name]
            assert len(mine) == figures["calls"], name
            assert sum(each.late for each in mine) == figures["late"], name
            # What was late is told of without its verdict, and is in the figures by it.
            in_time = Counter(each.verdict for each in mine if not each.late)
            assert in_time[Verdict.SUCCESS] <= figures["successes"], name
            assert in_time[Verdict.FAILURE] <= figures["total_failures"], name
            without = figures["cancelled"] + figures["ignored"]
            assert in_time[Verdict.IGNORE] <= without, name
            told = sum(each.tool_name == name for each in rejected)
            assert told == figures["rejected"] + figures["invalid"], name

    async def _assert_comes_back(self, name: str) -> None:
        circuit = self.orch.circuit(self.registry[name].circuit_name)
        if circuit.state is not CircuitState.CLOSED:
            await anyio.sleep(2 * RESET)
        for _ in range(circuit.breaker.settings.success_threshold):
            assert await self.orch.dispatch(name) == "well", name
        assert circuit.state is CircuitState.CLOSED, name


def turns_left(rate: Rate, now: float) -> int:
    """
    How many calls the rate would let in at this moment, one after another.
    """
    tokens: list[Token] = []
    while (token := take((rate,), now)) is not None:
        tokens.append(token)
    for token in tokens:
        token.give_back()
    return len(tokens)


class Steps:
    """
    The steps of a scenario's tasks, counted, and what is done after one of them.
    """

    def __init__(self, at: int = 0, act: Callable[[], object] | None = None) -> None:
        self.count = 0
        self._at = at
        self._act = act

    def one(self) -> None:
        """
        A task gives way.
        """
        self.count += 1
        assert self.count < MANY_STEPS, "the scenario does not end"
        if self.count == self._at and self._act is not None:
            self._act()


# asyncio: the task factory wraps every coroutine; trio: an instrument sees every step


@types.coroutine
def _counted(coro: Coroutine[Any, Any, Any], steps: Steps) -> Generator[Any, Any, Any]:
    move, given = coro.send, None
    while True:
        try:
            waited = move(given)
        except StopIteration as done:
            return done.value
        steps.one()
        try:
            move, given = coro.send, (yield waited)
        except GeneratorExit:
            coro.close()
            raise
        except BaseException as error:
            move, given = coro.throw, error


class _Instrument(trio.abc.Instrument):
    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        # A task that has ended gives way to nobody.
        if task.context.get(_within) is self._steps and task.coro.cr_frame is not None:
            self._steps.one()


@contextmanager
def _counting(steps: Steps) -> Iterator[None]:
    token = _within.set(steps)
    try:
        if on_asyncio():
            loop = asyncio.get_running_loop()
            before = loop.get_task_factory()
            loop.set_task_factory(_task_factory)
            try:
                yield
            finally:
                loop.set_task_factory(before)
        else:
            instrument = _Instrument(steps)
            trio.lowlevel.add_instrument(instrument)
            try:
                yield
            finally:
                trio.lowlevel.remove_instrument(instrument)
    finally:
        _within.reset(token)


def _task_factory(
    loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
) -> asyncio.Task[Any]:
    steps = _within.get()

    async def counted() -> Any:
        return await _counted(coro, steps) if steps is not None else await coro

    return asyncio.Task(counted(), loop=loop, **options)


def on_asyncio() -> bool:
    """
    Whether the loop that runs is one of asyncio's.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


# Running a scenario


class Ended:
    """
    How a run ended: with a value, or cancelled.
    """

    def __init__(self) -> None:
        self.finished = self.cancelled = False


async def run(
    body: Callable[[], Awaitable[Any]], kind: str = "", at: int = 0
) -> tuple[int, Ended]:
    """
    Run a scenario in a task of its own, cancelled after so many steps.

    Args:
        body: The scenario.
        kind: ``"scope"`` for a cancel scope around it, ``"request"`` for a request to its
            task (asyncio), ``"both"`` for both at once; empty for none.
        at: After which step.

    Returns:
        How many steps there were, and how it ended.
    """
    ended, scope = Ended(), anyio.CancelScope()
    task: asyncio.Task[Any] | None = None

    def cancel() -> None:
        if kind in ("scope", "both"):
            scope.cancel()
        if kind in ("request", "both"):
            assert task is not None
            task.cancel()

    steps = Steps(at, cancel)

    async def within() -> None:
        with scope:
            await body()
            ended.finished = True

    with _counting(steps):
        if on_asyncio():
            task = asyncio.ensure_future(asyncio.get_running_loop().create_task(within()))
            await asyncio.wait([task])
            ended.cancelled = task.cancelled() or scope.cancelled_caught
            if not task.cancelled():
                task.result()
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(within)
            ended.cancelled = scope.cancelled_caught
    return steps.count, ended


# An order of tasks by choice


@contextmanager
def shuffled(seed: int) -> Iterator[None]:
    """
    Have the loop take the tasks that are ready in an order drawn from the seed.
    """
    if on_asyncio():
        loop: Any = asyncio.get_running_loop()
        loop.order = random.Random(seed)
        try:
            yield
        finally:
            loop.order = None
        return
    # Trio's own plugins for pytest and hypothesis get at its order in this way.
    trio_run: Any = importlib.import_module("trio._core._run")
    before = trio_run._r.getstate(), trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    trio_run._r.seed(seed)
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    try:
        yield
    finally:
        trio_run._r.setstate(before[0])
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before[1]


async def turns(number: int) -> None:
    """
    Give way so many times.
    """
    for _ in range(number):
        await checkpoint()
