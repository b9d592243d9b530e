"""
A turn's calls side by side: what one does is no other's affair.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from orchestrator_async import (
    ConversationPolicy,
    LimitPolicy,
    Registry,
    ToolCall,
    ToolOrchestrator,
    ToolPolicy,
)

from .clock import virtual_time
from .rig import shuffled

asyncio_only = pytest.mark.parametrize(
    "anyio_backend", ["asyncio", "asyncio+uvloop"], indirect=True
)


LIMITS = LimitPolicy(calls=3, seconds=100, max_wait=0)


def orchestrator_of(*tools: Any) -> ToolOrchestrator:
    registry = Registry()
    for tool in tools:
        registry.tool(tool)
    return ToolOrchestrator(registry)


async def test_calls_can_be_given_by_name() -> None:
    async def tool() -> str:
        return "fine"

    orch = orchestrator_of(tool)
    [result] = await orch.dispatch_all(calls=[ToolCall("tool")], limit=1)
    assert result.content == "fine"


@pytest.mark.parametrize("limit", [1, 3, None])
async def test_calls_are_begun_in_their_order(limit: int | None) -> None:
    ran = []

    async def tool(number: int) -> None:
        ran.append(number)
        await checkpoint()

    orch = orchestrator_of(tool)
    calls = [ToolCall("tool", {"number": number}) for number in range(8)]
    await orch.dispatch_all(calls, limit=limit)
    assert ran == list(range(8))


@virtual_time
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("as_they_come", [False, True])
async def test_what_there_is_too_little_of_goes_to_the_first_calls(
    as_they_come: bool, seed: int
) -> None:
    registry = Registry()

    @registry.tool(policy=ToolPolicy(limits=LIMITS))
    async def rare(number: int) -> int:
        return number

    @registry.tool
    async def common(number: int) -> int:
        return number

    async def ran(offer: Any, name: str) -> list[int]:
        calls = [ToolCall(name, {"number": number}) for number in range(8)]
        if as_they_come:
            results = [each async for each in offer.as_completed(calls)]
        else:
            results = await offer.dispatch_all(calls)
        return sorted(each.value for each in results if each.ok)

    orch = ToolOrchestrator(registry, clock=anyio.current_time)
    with shuffled(seed):  # in whatever order the loop takes the tasks
        assert await ran(orch, "rare") == [0, 1, 2]
        async with orch.conversation(policy=ConversationPolicy(calls=3)) as chat:
            assert await ran(chat, "common") == [0, 1, 2]


async def test_what_a_call_sets_in_its_context_is_seen_by_no_other() -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    seen = []

    async def tool(number: int) -> str:
        seen.append(tenant.get())
        tenant.set(f"set by {number}")
        await checkpoint()
        return "fine"

    orch = orchestrator_of(tool)
    calls = [ToolCall("tool", {"number": number}) for number in range(6)]
    await orch.dispatch_all(calls, limit=2)
    assert seen == ["nobody"] * 6


@pytest.mark.parametrize("limit", [1, None])
async def test_nothing_is_begun_after_an_interrupt(limit: int | None) -> None:
    ran: list[int] = []

    async def interrupt() -> None:
        raise KeyboardInterrupt

    async def write(number: int) -> None:
        ran.append(number)

    orch = orchestrator_of(interrupt, write)
    calls = [ToolCall("interrupt")]
    calls += [ToolCall("write", {"number": number}) for number in range(5)]
    with pytest.raises(KeyboardInterrupt):
        await orch.dispatch_all(calls, limit=limit)
    assert ran == []


@asyncio_only
async def test_a_cancellation_of_every_task_begins_nothing_and_blames_no_tool() -> None:
    ran = []

    async def delete(number: int) -> None:
        ran.append(number)
        await anyio.sleep_forever()

    orch = orchestrator_of(delete)
    calls = [ToolCall("delete", {"number": number}) for number in range(8)]
    # The order in which all tasks are cancelled is that of a set.
    for _ in range(10):
        ran.clear()
        before = asyncio.all_tasks()
        turn = asyncio.create_task(orch.dispatch_all(calls, limit=3))
        while len(ran) < 3:
            await checkpoint()
        for task in asyncio.all_tasks() - before:
            task.cancel()
        await asyncio.wait([turn])
        assert turn.cancelled()
        assert len(ran) == 3

    figures = orch.get_fleet_stats()["delete"]
    assert (figures["total_failures"], figures["in_flight"]) == (0, 0)
    assert figures["cancelled"] == figures["calls"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_real_interrupt_leaves_a_turn_as_itself(backend: str) -> None:
    program = textwrap.dedent(
        """
        import os, signal, sys, threading
        import anyio
        from orchestrator_async import Registry, ToolCall, ToolOrchestrator

        registry, go_on = Registry(), threading.Event()

        @registry.tool
        def hang() -> str:
            print("hanging", flush=True)
            go_on.wait(20)
            return "late"

        @registry.tool
        async def wait() -> None:
            # Asyncio sets no wakeup descriptor: of a signal that comes the moment before
            # its loop waits, Python hears when the next thing happens.
            for _ in range(400):
                await anyio.sleep(0.05)

        async def main() -> None:
            registry.build()
            calls = [ToolCall("hang"), ToolCall("wait")]
            await ToolOrchestrator(registry).dispatch_all(calls)

        try:
            anyio.run(main, backend=sys.argv[1])
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, backend], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hanging\n"
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
    assert "interrupted" in said
    assert process.returncode == 0
