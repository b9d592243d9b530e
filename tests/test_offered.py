"""
What the model is offered, and what it is told of tools that are out of service.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import trio

from orchestrator_async import Registry, ToolOrchestrator

from .clock import AutojumpEventLoop
from .support import HandClock, Service, trip, when_blocked

RESET = 300.0
FORMATS = ["openai", "anthropic", "mcp"]


def three(clock: Any = None) -> tuple[ToolOrchestrator, Service]:
    registry, service = Registry(), Service()
    service.offer(registry, "one", description="The first.", circuit="db")
    service.offer(registry, "two", circuit="db")
    service.offer(registry, "three", description="The third.")
    return ToolOrchestrator(registry, clock=clock or HandClock()), service


def names(offered: list[dict[str, Any]]) -> list[str]:
    return [(each.get("function") or each)["name"] for each in offered]


def noted(orch: ToolOrchestrator, format: Any = "openai") -> list[str]:
    return [
        (each.get("function") or each)["name"]
        for each in orch.offered_tools(format)
        if "Out of service" in (each.get("function") or each)["description"]
    ]


@pytest.mark.parametrize("format", FORMATS)
async def test_all_are_offered_and_those_that_refuse_have_a_note(format: Any) -> None:
    clock = HandClock()
    orch, service = three(clock)
    assert orch.offered_tools(format) == orch.registry.definitions(format)
    assert not orch._fleet.circuits  # asking makes none
    await trip(orch, service, "one")
    offered = orch.offered_tools(format)
    assert names(offered) == ["one", "two", "three"]
    assert noted(orch, format) == ["one", "two"]
    described = [(each.get("function") or each)["description"] for each in offered]
    assert described[0].startswith("The first. (Out of service")
    assert described[1].startswith("(Out of service")
    assert described[2] == "The third."
    clock.turn(RESET - 1)
    assert orch.offered_tools(format) == offered  # a prompt that a cache has
    assert names(orch.offered_tools(format, hide_open=True)) == ["three"]
    clock.turn(1)
    assert noted(orch, format) == []
    assert orch.circuit("db").state == "open"  # asking is no probe
    assert orch.registry.definitions(format) == orch.offered_tools(format)


async def test_a_probe_under_way_keeps_the_note_and_a_free_place_ends_it() -> None:
    clock = HandClock()
    orch, service = three(clock)
    await trip(orch, service, "three")
    clock.turn(RESET)
    service.behaviour = anyio.Event().wait
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "three")
        await when_blocked()
        assert noted(orch) == ["three"]
        tasks.cancel_scope.cancel()
    assert orch.circuit("three").state == "half_open"
    assert noted(orch) == []
    assert names(orch.offered_tools(hide_open=True)) == ["one", "two", "three"]


def test_what_is_done_by_hand_is_seen() -> None:
    orch, _ = three()
    with orch.circuit("three").isolate():
        assert noted(orch) == ["three"]
    orch.circuit("three").trip()
    assert noted(orch) == ["three"]
    orch.circuit("three").disable()
    assert noted(orch) == []


def test_a_tool_with_circuits_by_key_is_hidden_only_if_it_is_isolated() -> None:
    registry = Registry()

    @registry.tool(circuit=lambda arguments, context: "key")
    async def keyed() -> str:
        return "fine"

    orch = ToolOrchestrator(registry, clock=HandClock())
    assert noted(orch) == []
    orch.circuit("keyed").trip()
    assert noted(orch) == []
    orch.circuit("keyed").isolate()
    assert noted(orch) == ["keyed"]
    assert orch.offered_tools(hide_open=True) == []


def test_a_format_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="format"):
        three()[0].offered_tools("xml")  # type: ignore[arg-type]


def test_a_look_in_another_loop_takes_nothing_off_the_wait() -> None:
    orch, service = three(anyio.current_time)
    anyio.run(
        trip, orch, service, "one", backend_options={"loop_factory": AutojumpEventLoop}
    )
    later = trio.testing.MockClock()
    later.jump(1e6)

    async def look() -> None:
        assert noted(orch) == ["one", "two"]
        assert (await orch.run("one")).retry_after == pytest.approx(RESET)

    anyio.run(look, backend="trio", backend_options={"clock": later})
    assert noted(orch) == ["one", "two"]  # also where no loop tells the time
