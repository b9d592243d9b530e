"""
How far calls have come, for the hosts that want to know.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio

from orchestrator_async import ProgressReported, ToolOrchestrator

_BETWEEN: Final = 0.05
"""Seconds between two notifications of one call."""

Send = Callable[[float, float | None, str | None], Awaitable[object]]


class Progress:
    """
    Tells hosts what an orchestrator's tools report. It listens only while a call wants it.
    """

    def __init__(self, orch: ToolOrchestrator) -> None:
        self._orch = orch
        self._calls: dict[str, _Thinned] = {}

    @asynccontextmanager
    async def of(self, call_id: str, send: Send) -> AsyncIterator[None]:
        """
        Tell of the progress of that call, while it runs here.

        Args:
            call_id: The call's id, that no other has.
            send: What is given each report: how much, of how much, and a message.
        """
        thinned = _Thinned(send)
        if not self._calls:
            self._orch.add_observer(self._observe)
        self._calls[call_id] = thinned
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(thinned.run)
                yield
                thinned.end()
        finally:
            del self._calls[call_id]
            if not self._calls:
                self._orch.remove_observer(self._observe)

    def _observe(self, event: Any) -> None:
        if isinstance(event, ProgressReported) and event.call_id in self._calls:
            self._calls[event.call_id].put(event)


class _Thinned:
    """
    The reports of one call: never more often than so, and the last one always.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._latest: ProgressReported | None = None
        self._there = anyio.Event()
        self._ending = anyio.Event()
        self._most = float("-inf")

    def put(self, event: ProgressReported) -> None:
        # By the protocol it only ever grows: a second attempt is silent until it is ahead.
        if event.done > self._most:
            self._latest, self._most = event, event.done
            self._there.set()

    def end(self) -> None:
        self._ending.set()
        self._there.set()

    async def run(self) -> None:
        while not self._ending.is_set():
            await self._there.wait()
            self._there = anyio.Event()
            await self._tell()
            with anyio.move_on_after(_BETWEEN):
                await self._ending.wait()
        await self._tell()

    async def _tell(self) -> None:
        event, self._latest = self._latest, None
        if event is not None:
            await self._send(event.done, event.total, event.message)
