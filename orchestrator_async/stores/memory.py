"""
Circuits that the orchestrators of one process share.

It does what the store on an engine does, without one: for tests, and for what is said of
both to be tried with either.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from anyio.lowlevel import checkpoint

from orchestrator_async._store import Answer, Change, SharedState, StoreError

from ._hearing import Asked, Heard, hear
from ._memory_circuit import MemoryCircuit
from ._record import ALIVE, REMEMBERED, SECOND

_SWEEP = 1_000
"""Circuits, or as many again as were left by the last one, after which is swept."""


@dataclass(slots=True)
class _Process:
    """
    A process: when it said last that it is alive, and its figures.
    """

    seen: int = 0
    figures: dict[str, str] = field(default_factory=dict)


class MemoryStore:
    """
    A store for the orchestrators of one process.

    Its sessions are to be used in one thread, as orchestrators are; in one event loop after
    another if need be.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """
        An empty one.

        Args:
            clock: Tells the seconds. Tests in virtual time pass ``anyio.current_time``.
        """
        self._clock = clock
        self._circuits: dict[str, MemoryCircuit] = {}
        self._sweep_at = _SWEEP
        self._processes: dict[str, _Process] = {}
        self._listeners: list[tuple[Heard, Asked | None]] = []

    def __repr__(self) -> str:
        return f"<MemoryStore: {len(self._circuits)} circuits>"

    def session(
        self,
        heard: Callable[[str, SharedState], object],
        asked: Callable[[str], object] | None = None,
    ) -> AbstractAsyncContextManager[_Session]:
        """
        A connection, as ``Store`` says; it cannot fail.
        """
        return self._session(heard, asked)

    @asynccontextmanager
    async def _session(self, heard: Heard, asked: Asked | None) -> AsyncIterator[_Session]:
        session = _Session(self)
        listener = (heard, asked)
        self._listeners.append(listener)
        try:
            yield session
        finally:
            session.is_open = False
            self._listeners.remove(listener)

    # For its sessions. All of these are whole: they wait for nothing.

    def read(self, circuit: str) -> SharedState | None:
        found, now = self._circuits.get(circuit), self._now()
        if found is None or not found.is_known or found.expires <= now:
            return None
        return found.record(now).as_state()

    def change(self, circuit: str, change: Change) -> Answer:
        now = self._now()
        found = self._circuits.get(circuit)
        if found is None or found.expires <= now:
            found = MemoryCircuit()
        outcome = found.change(change, now)
        if found.expires > now:
            self._circuits[circuit] = found
        state = found.record_for(change, now).as_state()
        self._sweep(now)
        if outcome.told:
            for heard, _ in tuple(self._listeners):
                hear(heard, circuit, state)
        return Answer(done=outcome.done, state=state)

    def beat(self, process: str, figures: Mapping[str, str]) -> int:
        now = self._now()
        it = self._processes.setdefault(process, _Process())
        it.seen = now
        it.figures = {
            name: text for name, text in {**it.figures, **figures}.items() if text
        }
        for each, other in tuple(self._processes.items()):
            if now - other.seen >= REMEMBERED:
                del self._processes[each]
        return len(self._alive())

    def ask(self, word: str) -> None:
        for _, asked in tuple(self._listeners):
            if asked is not None:
                hear(asked, word)

    def figures(self) -> dict[str, dict[str, str]]:
        return {process: dict(it.figures) for process, it in self._alive().items()}

    def leave(self, process: str) -> None:
        self._processes.pop(process, None)

    def _alive(self) -> dict[str, _Process]:
        now = self._now()
        return {
            process: it for process, it in self._processes.items() if now - it.seen <= ALIVE
        }

    def _now(self) -> int:
        return round(self._clock() * SECOND)

    def _sweep(self, now: int) -> None:
        """
        Forget what is long past.
        """
        if len(self._circuits) < self._sweep_at:
            return
        for name, it in tuple(self._circuits.items()):
            if it.expires <= now:
                del self._circuits[name]
        self._sweep_at = max(_SWEEP, 2 * len(self._circuits))


class _Session:
    """
    A session of the store in memory. What it does, it does whole; but it always lets others
    run first, as one does that asks an engine.
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.is_open = True

    async def read(self, circuits: Sequence[str]) -> Sequence[SharedState | None]:
        await self._begin()
        return [self._store.read(each) for each in circuits]

    async def change(self, circuit: str, change: Change) -> Answer:
        await self._begin()
        return self._store.change(circuit, change)

    async def beat(self, process: str, figures: Mapping[str, str]) -> int:
        await self._begin()
        return self._store.beat(process, figures)

    async def ask(self, word: str) -> None:
        await self._begin()
        self._store.ask(word)

    async def figures(self) -> Mapping[str, Mapping[str, str]]:
        await self._begin()
        return self._store.figures()

    async def is_down(self) -> bool:
        await self._begin()
        return False

    async def leave(self, process: str) -> None:
        await self._begin()
        self._store.leave(process)

    async def _begin(self) -> None:
        await checkpoint()
        if not self.is_open:
            raise StoreError("the session with the store has ended")
