"""
Circuits that are tripped and disabled by hand, and a source of chance of the user's own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from orchestrator_async import BreakerPolicy, CircuitChanged, Event, OrchestratorError
from orchestrator_async._circuit import Circuit

from .support import (
    HandClock,
    assert_adds_up,
    bench,
    fail,
    succeed,
    trip,
    when_blocked,
)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


async def test_a_circuit_that_is_tripped_opens_as_if_it_had_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "orchestrator_async")
    events: list[Event] = []
    clock = HandClock()
    orch, service = bench(clock, observers=[events.append])
    orch.circuit("tool").trip()
    [event] = events
    assert isinstance(event, CircuitChanged)
    assert (event.old, event.new, event.reason) == ("closed", "open", "opened by hand")
    assert event.enforced
    assert event.retry_after == 300
    assert said(caplog) == [
        "circuit tool: closed -> open (opened by hand); last error: None"
    ]
    assert orch.stats("tool").state == "open"
    result = await orch.run("tool")
    assert result.retry_after == 300
    assert "is down (opened by hand)" in result.content
    clock.turn(300)
    assert await orch.dispatch("tool") == "fine"
    assert service.runs == 1


async def test_a_disabled_circuit_tells_what_it_would_have_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "orchestrator_async")
    events: list[CircuitChanged] = []
    clock = HandClock()

    def note(event: Event) -> None:
        if isinstance(event, CircuitChanged):
            events.append(event)

    orch, service = bench(clock, observers=[note])
    circuit = orch.circuit("tool")
    circuit.disable()
    assert orch.stats("tool").state == "disabled"
    service.behaviour = fail
    for _ in range(5):
        await orch.dispatch("tool")
    assert service.runs == 5
    assert orch.stats("tool").state == "disabled"
    assert orch.stats("tool").would_reject == 2
    assert orch.stats("tool").rejected == 0
    clock.turn(300)
    service.behaviour = succeed
    await orch.dispatch("tool")
    assert [(each.old, each.new, each.enforced) for each in events] == [
        ("closed", "disabled", True),
        ("closed", "open", False),
        ("open", "half_open", False),
        ("half_open", "closed", False),
    ]
    lines = [line for line in said(caplog) if line.startswith("circuit")]
    assert "circuit tool: disabled, else closed -> open (3 failures in a row)" in lines[1]
    circuit.trip()
    assert orch.stats("tool").state == "open"
    assert orch.stats("tool").would_reject == 2
    assert not (await orch.run("tool")).ok
    circuit.reset()
    assert await orch.dispatch("tool") == "fine"
    assert_adds_up(orch)


# Chance


def policy(source: Callable[[], Any]) -> BreakerPolicy:
    return BreakerPolicy(jitter=0.5, jitter_source=source, reset_timeout=100)


def broken() -> float:
    raise OSError("no dice")


def leaving() -> float:
    raise SystemExit(3)


def telling(value: Any) -> Callable[[], Any]:
    return lambda: value


@pytest.mark.parametrize(
    "source",
    [broken, leaving, *map(telling, (math.nan, 2.0, -0.1, "x", None, [], 1j))],
    ids=["raises", "leaves", "nan", "2", "below 0", "text", "none", "list", "complex"],
)
async def test_a_source_that_says_nothing_of_use_is_logged_once(
    source: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "orchestrator_async")
    clock = HandClock()
    orch, service = bench(clock, policy=policy(source))
    for _ in range(3):
        await trip(orch, service)
        assert (await orch.run("tool")).retry_after == 100
        clock.turn(100)
        assert await orch.dispatch("tool") == "fine"
    orch.circuit("tool").trip()
    complaints = [line for line in said(caplog) if "jitter_source is of no use" in line]
    assert len(complaints) == 1
    assert_adds_up(orch)


@pytest.mark.parametrize(("drawn", "seconds"), [(0, 100), (0.5, 75), (1, 50), (True, 50)])
async def test_chance_shortens_the_time(drawn: float, seconds: float) -> None:
    clock = HandClock()
    orch, service = bench(clock, policy=policy(lambda: drawn))
    await trip(orch, service)
    assert (await orch.run("tool")).retry_after == seconds
    orch.reload(policy=BreakerPolicy(max_pause=5))
    assert (await orch.run("tool")).retry_after == seconds


@pytest.mark.parametrize("answer", ["dispatch", "run", "call"])
@pytest.mark.parametrize("probing", [True, False])
async def test_an_interrupt_in_a_source_wedges_nothing(answer: str, probing: bool) -> None:
    clock = HandClock()
    interrupt = [False]

    def source() -> float:
        if interrupt[0]:
            raise KeyboardInterrupt
        return 0.0

    orch, service = bench(clock, policy=policy(source))
    service.behaviour = fail
    for _ in range(3 if probing else 2):
        await orch.dispatch("tool")
    clock.turn(100)
    interrupt[0] = True
    with pytest.raises(KeyboardInterrupt):
        await getattr(orch, answer)("tool")
    assert_adds_up(orch)
    assert orch.circuit("tool").breaker.probe is None
    with pytest.raises(KeyboardInterrupt):
        orch.circuit("tool").trip()
    interrupt[0] = False
    if not probing:  # one more failure opens it
        await orch.dispatch("tool")
        assert orch.circuit("tool").state == "open"
        clock.turn(100)
    service.behaviour = succeed
    assert await orch.dispatch("tool") == "fine"
    assert orch.circuit("tool").state == "closed"
    assert_adds_up(orch)


async def test_one_that_is_forced_open_says_for_how_long_as_those_who_ask_are_told() -> (
    None
):
    orch, _ = bench(HandClock())
    events: list[object] = []
    orch.add_observer(events.append)
    with orch.circuit("tool").force_open():
        result = await orch.run("tool")
    changed = [each for each in events if isinstance(each, CircuitChanged)]
    assert changed[0].retry_after == result.retry_after == 300


async def test_an_option_of_waiting_is_not_taken_for_context() -> None:
    orch, _ = bench(HandClock())
    with pytest.raises(TypeError, match="limit"):
        await orch.wait_available("tool", limit=3)


@pytest.mark.parametrize(("drawn", "length"), [(0.0, 100), (0.5, 75), (1.0, 50)])
async def test_any_number_from_0_to_1_is_a_chance(
    drawn: float, length: float, caplog: pytest.LogCaptureFixture
) -> None:
    policy = BreakerPolicy(jitter=0.5, jitter_source=lambda: drawn, reset_timeout=100)
    orch, _ = bench(HandClock(), policy=policy)
    orch.circuit("tool").trip()
    assert (await orch.run("tool")).retry_after == length
    assert not [line for line in said(caplog) if "jitter_source" in line]


def test_a_handle_shows_its_name_and_state() -> None:
    orch, _ = bench(HandClock())
    assert repr(orch.circuit("tool")) == "<Circuit 'tool' closed failures=0>"


@pytest.mark.parametrize(
    "deed",
    [
        Circuit.isolate,
        Circuit.force_open,
        Circuit.unisolate,
        Circuit.disable,
        Circuit.trip,
        Circuit.reset,
        lambda circuit: circuit.reload(None),
    ],
    ids="isolate force_open unisolate disable trip reset reload".split(),
)
async def test_the_handle_of_a_tool_that_has_gone_says_so_and_moves_nothing(
    deed: Callable[[Circuit], object],
) -> None:
    orch, service = bench(HandClock())
    await trip(orch, service)
    handle = orch.circuit("tool")
    orch.registry.remove("tool")
    service.offer(orch.registry)
    with pytest.raises(OrchestratorError, match=r"of tool .*orch\.circuit\(name\) anew"):
        deed(handle)
    assert (handle.state, handle.failures) == ("open", 3)
    assert repr(handle) == "<Circuit 'tool' open failures=3>"
    assert orch.circuit("tool").state == "closed"


async def test_an_isolation_may_be_lifted_when_its_tool_has_gone() -> None:
    orch, _ = bench(HandClock())
    handle = orch.circuit("tool")
    forced = handle.force_open()
    with handle.isolate():
        orch.registry.remove("tool")
    assert handle.state == "open"
    forced.release()
    assert handle.state == "closed"


async def test_the_circuit_of_a_tool_that_has_gone_opens_without_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def no_chance() -> float:
        raise OSError("no chance")

    go_on = anyio.Event()

    async def fail_later() -> str:
        await go_on.wait()
        return await fail()

    policy = BreakerPolicy(jitter=0.5, jitter_source=no_chance, failure_threshold=1)
    orch, service = bench(HandClock(), policy=policy)
    service.behaviour = fail_later
    handle = orch.circuit("tool")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        orch.registry.remove("tool")
        go_on.set()
    assert handle.state == "open"
    assert not [each for each in said(caplog) if "circuit" in each]
