"""
A fleet within one loop: orchestrators that share a store in memory, each as a process of
its own would, and a store that can be made slow, or to fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

from orchestrator_async import CircuitState, FleetPolicy, Registry, ToolOrchestrator
from orchestrator_async.stores import (
    Answer,
    Change,
    MemoryStore,
    SharedState,
    StoreDownError,
    StoreSession,
)

from .support import Service, fail


class Engine:
    """
    A store in memory that does what it is told to do wrong. As an engine that processes
    talk to over a wire, it may have done what its answer is late for.

    Attributes:
        asked: How often each kind of thing was asked, by its name.
        delay: Seconds until an answer comes.
        error: What is raised in the place of answers, or ``None``.
        is_gone: Whether it can be seen that nobody is there.
        fails: Kinds of asks that raise.
        says: What it answers in the place of states, to "read" and to "change".
        deaf: Whether nobody hears of changes.
        loses: Whether what it has done is not answered.
        reads_only: Whether it does no change, and fails where that would have been one.
        store: What it is made of; another one, and all its data is lost.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.delay = 0.0
        self.error: BaseException | None = None
        self.is_gone = False
        self.says: dict[str, Any] = {}
        self.fails: set[str] = set()
        self.breaking = anyio.Event()
        self.deaf = self.loses = self.reads_only = False
        self.store = MemoryStore(clock=anyio.current_time)
        self.hearers: list[Callable[[str, SharedState], object]] = []
        self.asking: list[Callable[[str], object]] = []

    def die(self) -> None:
        self.error = StoreDownError("nobody is there")

    def hang(self, seconds: float = 2.0) -> None:
        self.error, self.delay = TimeoutError("it took too long"), seconds

    def recover(self, *, empty: bool = False) -> None:
        self.error, self.delay, self.is_gone = None, 0.0, False
        if empty:
            self.store = MemoryStore(clock=anyio.current_time)

    @asynccontextmanager
    async def session(
        self,
        heard: Callable[[str, SharedState], object],
        asked: Callable[[str], object] | None = None,
    ) -> AsyncIterator[StoreSession]:
        await self.pass_by("session")
        self.hearers.append(heard)
        if asked is not None:
            self.asking.append(asked)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.break_off)
                yield _Session(self)
                tasks.cancel_scope.cancel()
        finally:
            self.hearers.remove(heard)
            if asked is not None:
                self.asking.remove(asked)

    def ask(self, word: str) -> None:
        for asked in list(self.asking):
            asked(word)

    async def break_off(self) -> None:
        await self.breaking.wait()
        raise ConnectionError("it broke off")

    def break_sessions(self) -> None:
        """
        Have each session break off as soon as it is there, until ``mend_sessions``.
        """
        self.breaking.set()

    def mend_sessions(self) -> None:
        self.breaking = anyio.Event()

    async def pass_by(self, what: str) -> None:
        self.asked[what] += 1
        if self.delay:
            await anyio.sleep(self.delay)
        if self.error is not None:
            raise self.error

    async def passed(self, what: str) -> None:
        """
        It has done that; what of the answer?
        """
        if self.loses:
            raise TimeoutError("no answer")

    def tell(self, id: str, state: SharedState) -> None:
        if not self.deaf:
            for heard in list(self.hearers):
                heard(id, state)


class Wire:
    """
    A process's own connection to an engine, which can be cut: nothing goes through any more.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_cut = False

    @asynccontextmanager
    async def session(
        self,
        heard: Callable[[str, SharedState], object],
        asked: Callable[[str], object] | None = None,
    ) -> AsyncIterator[StoreSession]:
        def hear(circuit: str, state: SharedState) -> None:
            if not self.is_cut:
                heard(circuit, state)

        async with self.engine.session(hear, asked):
            yield _Session(self.engine, self)


class _Session:
    def __init__(self, engine: Engine, wire: Wire | None = None) -> None:
        self.engine = engine
        self.wire = wire

    async def _do(self, what: str, fn: Callable[[StoreSession], Any]) -> Any:
        if self.wire is not None and self.wire.is_cut:
            await anyio.sleep_forever()
        await self.engine.pass_by(what)
        if what in self.engine.fails:
            raise ValueError("it does not do that")
        if self.engine.reads_only and what not in ("read", "Claim", "figures"):
            raise ValueError("it takes no changes")
        own = self.engine.store.session(self.engine.tell, self.engine.ask)
        async with own as session:
            answer = await fn(session)
        await self.engine.passed(what)
        if what == "read" and "read" in self.engine.says:
            return [self.engine.says["read"] for _ in answer]
        if isinstance(answer, Answer) and "change" in self.engine.says:
            return Answer(done=answer.done, state=self.engine.says["change"])
        return answer

    async def read(self, circuits: Sequence[str]) -> Sequence[SharedState | None]:
        return await self._do("read", lambda session: session.read(circuits))

    async def change(self, circuit: str, change: Change) -> Answer:
        what = type(change).__name__
        return await self._do(what, lambda session: session.change(circuit, change))

    async def beat(self, process: str, figures: Mapping[str, str]) -> int:
        return await self._do("beat", lambda session: session.beat(process, figures))

    async def ask(self, word: str) -> None:
        await self._do("ask", lambda session: session.ask(word))

    async def figures(self) -> Mapping[str, Mapping[str, str]]:
        return await self._do("figures", lambda session: session.figures())

    async def is_down(self) -> bool:
        return self.engine.is_gone

    async def leave(self, process: str) -> None:
        await self._do("leave", lambda session: session.leave(process))


class Process:
    """
    One of a fleet: an orchestrator with the tool ``tool``.

    Attributes:
        service: What the tool does here.
        seen: The states that its circuit has had.
    """

    def __init__(self, engine: Any, **options: Any) -> None:
        self.service = Service(fail)
        registry = Registry()
        self.service.offer(registry, timeout=options.pop("tool_timeout", None))
        options.setdefault("failure_threshold", 3)
        options.setdefault("reset_timeout", 10.0)
        options.setdefault("clock", anyio.current_time)
        options.setdefault("fleet", FleetPolicy())
        self.seen: list[CircuitState] = []
        self.orch = ToolOrchestrator(registry, store=engine, **options)
        self.orch.add_observer(self._note)

    def _note(self, event: Any) -> None:
        if hasattr(event, "new"):
            self.seen.append(event.new)

    @property
    def state(self) -> CircuitState:
        return self.orch.circuit("tool").state

    async def call(self, times: int = 1) -> list[Any]:
        return [await self.orch.run("tool") for _ in range(times)]


@asynccontextmanager
async def fleet_of(
    number: int, engine: Any = None, **options: Any
) -> AsyncIterator[list[Process]]:
    """
    So many processes of one fleet.
    """
    engine = Engine() if engine is None else engine
    async with AsyncExitStack() as stack:
        processes = [Process(engine, **options) for _ in range(number)]
        for each in processes:
            await stack.enter_async_context(each.orch)
        yield processes


async def settle(seconds: float = 0.1) -> None:
    """
    Let what is under way arrive.
    """
    await anyio.sleep(seconds)
