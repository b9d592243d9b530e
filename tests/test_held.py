"""
Time in which a tool waits for a person: it is not the tool's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from orchestrator_async import (
    Registry,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
    ToolTimeoutError,
    Verdict,
)
from orchestrator_async._held import held

from .clock import virtual_time

pytestmark = virtual_time


def orchestrator(body: Callable[[ToolContext], Any], **policy: Any) -> ToolOrchestrator:
    registry = Registry()

    @registry.tool(policy=ToolPolicy(**policy))
    async def tool(context: ToolContext) -> Any:
        return await body(context)

    return ToolOrchestrator(registry, clock=anyio.current_time)


async def thinks(context: ToolContext, seconds: float = 3600) -> None:
    with held(context):
        await anyio.sleep(seconds)


async def test_a_timeout_does_not_run_while_it_is_held() -> None:
    async def body(context: ToolContext) -> str:
        await anyio.sleep(3)
        await thinks(context)
        await anyio.sleep(3)
        await thinks(context)
        await anyio.sleep(3)
        return "done"

    result = await orchestrator(body, timeout=10).run("tool")
    assert (result.value, result.verdict) == ("done", Verdict.SUCCESS)
    assert result.duration == pytest.approx(9)


async def test_what_is_left_of_a_timeout_runs_on_afterwards() -> None:
    async def body(context: ToolContext) -> None:
        await anyio.sleep(7)
        await thinks(context)
        await anyio.sleep(4)

    began = anyio.current_time()
    result = await orchestrator(body, timeout=10).run("tool")
    assert type(result.error) is ToolTimeoutError
    assert result.verdict is Verdict.FAILURE
    assert anyio.current_time() - began == pytest.approx(3610)
    assert result.duration == pytest.approx(10)


async def test_several_hold_it_until_the_last_lets_go() -> None:
    async def body(context: ToolContext) -> str:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(thinks, context, 100)
            tasks.start_soon(thinks, context, 300)
        await anyio.sleep(9)
        return "done"

    result = await orchestrator(body, timeout=10).run("tool")
    assert (result.value, result.duration) == ("done", pytest.approx(9))


async def test_the_time_of_the_whole_call_runs_on_and_blames_nobody() -> None:
    began = anyio.current_time()
    result = await orchestrator(thinks, timeout=10, total_timeout=60).run("tool")
    assert type(result.error) is ToolTimeoutError
    assert result.error.timeout == 60
    assert result.verdict is Verdict.IGNORE
    assert anyio.current_time() - began == pytest.approx(60)


async def test_a_timeout_that_outlasts_the_whole_call_is_cut_by_it() -> None:
    async def body(context: ToolContext) -> None:
        await thinks(context, 55)
        await anyio.sleep(8)

    began = anyio.current_time()
    result = await orchestrator(body, timeout=10, total_timeout=60).run("tool")
    assert result.verdict is Verdict.IGNORE
    assert anyio.current_time() - began == pytest.approx(60)


async def test_what_is_left_of_the_whole_call_is_not_made_longer() -> None:
    async def body(context: ToolContext) -> None:
        await thinks(context)

    orch = orchestrator(body, timeout=100, total_timeout=60)
    began = anyio.current_time()
    assert (await orch.run("tool")).verdict is Verdict.IGNORE
    assert anyio.current_time() - began == pytest.approx(60)


async def test_without_a_timeout_it_is_no_part_of_how_long_it_took() -> None:
    async def body(context: ToolContext) -> None:
        await anyio.sleep(1)
        await thinks(context)

    result = await orchestrator(body).run("tool")
    assert result.ok
    assert result.duration == pytest.approx(1)


async def test_whoever_leaves_while_it_is_held_has_not_waited_for_a_tool_that_hangs() -> (
    None
):
    orch = orchestrator(thinks, timeout=100)
    with anyio.move_on_after(1000):
        await orch.run("tool")
    (stats,) = orch.get_fleet_stats().values()
    assert (stats["total_failures"], stats["cancelled"]) == (0, 1)


async def test_a_timeout_that_has_struck_is_not_taken_back() -> None:
    async def body(context: ToolContext) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await thinks(context, 5)

    result = await orchestrator(body, timeout=10).run("tool")
    assert result.verdict is Verdict.FAILURE
    assert type(result.error) is ToolTimeoutError


async def test_an_execution_that_has_ended_is_not_held() -> None:
    kept: list[ToolContext] = []

    async def body(context: ToolContext) -> None:
        kept.append(context)

    await orchestrator(body, timeout=10).run("tool")
    for context in (*kept, ToolContext(tool_name="by hand")):
        with held(context):
            pass
