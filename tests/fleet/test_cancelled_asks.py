"""
A caller that is cancelled while it asks for the fleet's probe, at whatever moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import anyio
import pytest
from anyio.lowlevel import checkpoint

from orchestrator_async import BreakerPolicy, Registry, ToolOrchestrator
from orchestrator_async.stores.redis import RedisStore
from tests.stores.engine import Engine, engine

DEBUG = False
MOMENTS = 60
"""Turns of the loop after which a caller is cancelled, one after the other; an ask and its
answer take some of them."""

pytestmark = pytest.mark.parametrize(
    "anyio_backend",
    ["asyncio in real time", "asyncio+uvloop", "trio in real time"],
    indirect=True,
)


@pytest.fixture
def it() -> Iterator[Engine]:
    with engine() as one:
        yield one


@dataclass
class Process:
    """
    One that shares its circuit with others.
    """

    orch: ToolOrchestrator
    runs: int = 0


def process(it: Engine) -> Process:
    registry = Registry()
    # A lease is in force for half a minute, so one that is lost is noticed.
    breaker = BreakerPolicy(reset_timeout=0.02, probe_lease=30.0)
    orch = ToolOrchestrator(registry, policy=breaker, store=RedisStore(it.url))
    made = Process(orch)

    @registry.tool
    async def search() -> str:
        made.runs += 1
        return "found"

    return made


async def until_it_runs(*processes: Process) -> None:
    """
    Call until one call is let through.
    """
    before = sum(each.runs for each in processes)
    with anyio.fail_after(10):
        while sum(each.runs for each in processes) == before:
            for each in processes:
                await each.orch.dispatch("search")
            await anyio.sleep(0.001)


async def until_all_are(processes: tuple[Process, ...], state: str) -> None:
    circuits = [each.orch.circuit("search") for each in processes]
    await until(lambda: {circuit.state for circuit in circuits} == {state})


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not holds():  # noqa: ASYNC110  # what it waits for tells nobody
            await anyio.sleep(0.001)


async def test_a_lease_is_used_by_the_next_caller(it: Engine) -> None:
    one = process(it)
    async with one.orch:
        await until_it_runs(one)
        at_rest = len(anyio.get_running_tasks())
        before_it_ran = 0
        for moment in range(MOMENTS):
            one.orch.circuit("search").trip()
            await anyio.sleep(0.021)
            runs = one.runs
            async with anyio.create_task_group() as group:
                group.start_soon(one.orch.dispatch, "search")
                for _ in range(moment):
                    await checkpoint()
                group.cancel_scope.cancel()
            before_it_ran += one.runs == runs
            if one.orch.circuit("search").state != "closed":
                await until_it_runs(one)
            assert one.orch.circuit("search").state == "closed"
        await until(lambda: len(anyio.get_running_tasks()) <= at_rest)
    assert before_it_ran > 3  # else nobody was cancelled while it asked


async def test_a_lease_that_nobody_wants_here_is_used_elsewhere(it: Engine) -> None:
    one, other = process(it), process(it)
    async with one.orch, other.orch:
        await until_it_runs(one)
        await until_it_runs(other)
        one.orch.circuit("search").trip()
        await until_all_are((one, other), "open")
        await anyio.sleep(0.03)
        async with anyio.create_task_group() as group:
            group.start_soon(one.orch.dispatch, "search")
            await checkpoint()
            await checkpoint()
            group.cancel_scope.cancel()
        await until_all_are((one, other), "half_open")
        await until_it_runs(other)
        assert one.runs == 1
        await until_all_are((one, other), "closed")
