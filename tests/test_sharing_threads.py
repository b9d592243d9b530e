"""
Circuits that a fleet shares, and more than one thread.

In real time: two loops have no virtual time in common.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from anyio.lowlevel import current_token

from orchestrator_async import (
    BreakerPolicy,
    CircuitOpenError,
    CircuitState,
    Registry,
    ToolOrchestrator,
)
from orchestrator_async.stores import MemoryStore

CLOSED, OPEN, ISOLATED = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.ISOLATED

pytestmark = pytest.mark.parametrize(
    "anyio_backend",
    ["asyncio in real time", "asyncio+uvloop", "trio in real time"],
    indirect=True,
)
other_loop = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Process:
    """
    An orchestrator with two tools of which one fails at first.
    """

    def __init__(self, store: MemoryStore) -> None:
        self.registry = Registry()
        self.fails = True
        self.runs = 0

        @self.registry.tool
        async def search() -> str:
            self.runs += 1
            if self.fails:
                raise OSError("no route")
            return "found"

        @self.registry.tool
        async def clock() -> str:
            return "noon"

        breaker = BreakerPolicy(failure_threshold=3, reset_timeout=0.05, jitter=0)
        self.orch = ToolOrchestrator(self.registry, policy=breaker, store=store)

    @property
    def state(self) -> CircuitState:
        return self.orch.circuit("search").state


async def in_another_loop(
    main: Callable[[], Coroutine[Any, Any, Any]], backend: str
) -> None:
    def run() -> None:
        anyio.run(main, backend=backend)

    with anyio.fail_after(30):
        await anyio.to_thread.run_sync(run)


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not holds():  # noqa: ASYNC110  # what it waits for tells nobody
            await anyio.sleep(0.001)


@other_loop
async def test_what_another_loop_calls_has_its_circuit_there(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    process, other = Process(store), Process(store)

    async def main() -> None:
        for _ in range(3):
            assert not (await process.orch.run("search")).ok
        assert process.state is OPEN
        refused = await process.orch.run("search")
        assert isinstance(refused.error, CircuitOpenError)
        process.fails = False
        for _ in range(5):  # it probes, and is asked for no lease
            await anyio.sleep(0.06)
            assert (await process.orch.run("search")).ok
            process.orch.circuit("search").trip()

    with caplog.at_level(logging.WARNING):
        async with process.orch, other.orch:
            await other.orch.run("clock")
            assert process.orch.circuit("clock").state is CLOSED
            await in_another_loop(main, backend)
            assert process.runs == 8
            await anyio.sleep(0.02)
            assert other.state is CLOSED
    said = [each for each in caplog.messages if "another loop" in each]
    assert len(said) == 1


@other_loop
async def test_it_is_the_fleets_again_where_that_loop_has_ended(backend: str) -> None:
    store = MemoryStore()
    process, other = Process(store), Process(store)

    async def main() -> None:
        await process.orch.run("search")

    async with process.orch, other.orch:
        assert other.state is CLOSED
        await in_another_loop(main, backend)
        for _ in range(3):
            assert not (await process.orch.run("search")).ok
        await until(lambda: other.state is OPEN)


@other_loop
async def test_what_another_loop_uses_when_it_is_entered_is_that_ones(
    backend: str,
) -> None:
    store = MemoryStore()
    process, other = Process(store), Process(store)

    here = current_token()

    async def main() -> None:
        await process.orch.run("search")  # it fails, and the circuit is this loop's
        await anyio.to_thread.run_sync(there, process.orch.__aenter__)
        process.orch.circuit("search").trip()
        assert not (await process.orch.run("search")).ok
        await anyio.to_thread.run_sync(there, leave)

    def there(fn: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        anyio.from_thread.run(fn, token=here)

    async def leave() -> None:
        await anyio.sleep(0.02)
        assert other.state is CLOSED
        await process.orch.__aexit__(None, None, None)

    async with other.orch:
        assert other.state is CLOSED
        await in_another_loop(main, backend)


@other_loop
async def test_another_loop_can_ask_for_the_figures_of_all(backend: str) -> None:
    store = MemoryStore()
    process, other = Process(store), Process(store)
    found: dict[str, Any] = {}

    async def main() -> None:
        found.update(await process.orch.get_fleet_stats_all())

    async with process.orch, other.orch:
        await other.orch.run("clock")
        await process.orch.run("clock")
        await in_another_loop(main, backend)
    assert found["clock"]["calls"] == 2


async def test_a_tool_that_a_thread_without_a_loop_removes_has_its_last_word() -> None:
    store = MemoryStore()
    process, other = Process(store), Process(store)
    async with process.orch, other.orch:
        process.orch.circuit("search").isolate()
        assert other.state is CLOSED
        await until(lambda: other.state is ISOLATED)
        await anyio.to_thread.run_sync(process.registry.remove, "search")
        await until(lambda: other.state is CLOSED)


async def test_what_a_thread_moves_by_hand_is_moved_everywhere() -> None:
    store = MemoryStore()
    process, other = Process(store), Process(store)
    async with process.orch, other.orch:
        await process.orch.run("search")
        assert other.state is CLOSED
        await anyio.to_thread.run_sync(process.orch.circuit("search").trip)
        await until(lambda: other.state is OPEN)
        await anyio.to_thread.run_sync(process.orch.circuit("search").reset)
        await until(lambda: other.state is CLOSED)


async def test_a_thread_that_moves_it_again_and_again_is_told_of_no_error() -> None:
    process = Process(MemoryStore())

    def hammer() -> None:
        circuit = process.orch.circuit("search")
        for _ in range(500):
            circuit.trip()
            circuit.reset()

    async with process.orch:
        assert process.state is CLOSED
        await anyio.to_thread.run_sync(hammer)
        assert process.state is CLOSED
