"""
Failures that ask for a pause, from the tool to what the model reads.
"""

from __future__ import annotations

import json
import math
from typing import Any

import anyio
import pytest

from orchestrator_async import (
    BreakerPolicy,
    CircuitOpenError,
    Registry,
    ToolOrchestrator,
    Verdict,
)

from .support import (
    HandClock,
    Service,
    assert_adds_up,
    bench,
    fail,
    succeed,
    trip,
    when_blocked,
)


class BusyError(Exception):
    def __init__(self, retry_after: Any = 2) -> None:
        super().__init__("too many requests")
        self.status_code = 429
        self.retry_after = retry_after


def raising(retry_after: Any = 2) -> Any:
    async def busy() -> None:
        raise BusyError(retry_after)

    return busy


def returning(retry_after: Any = 2) -> Any:
    async def busy() -> dict[str, Any]:
        return {"error": "too many requests", "retry_after": retry_after}

    return busy


@pytest.mark.parametrize("answer", ["dispatch", "run", "call"])
async def test_a_service_that_asks_for_a_pause_has_it_and_then_one_probe(
    answer: str,
) -> None:
    clock = HandClock()
    orch, service = bench(clock)
    service.behaviour = raising()
    if answer == "dispatch":
        told = json.loads(await orch.dispatch("tool"))
        assert told["retry_after"] == 2
        assert "It asks for a pause: do not call it again for 2 s." in told["error"]
    elif answer == "run":
        result = await orch.run("tool")
        assert result.retry_after == 2
        assert result.verdict is Verdict.FAILURE
        assert json.loads(result.content)["retry_after"] == 2
    else:
        with pytest.raises(BusyError):
            await orch.call("tool")

    service.behaviour = succeed
    refused = json.loads(await orch.dispatch("tool"))
    assert refused["retry_after"] == 2
    assert (
        "is not down, but has had too many calls and asked for a pause" in refused["error"]
    )
    with pytest.raises(CircuitOpenError) as caught:
        await orch.call("tool")
    assert caught.value.paused
    assert caught.value.retry_after == 2
    assert orch.circuit("tool").failures == 0

    clock.turn(2)
    service.behaviour = anyio.Event().wait
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        assert "tried again after a pause" in await orch.dispatch("tool")
        tasks.cancel_scope.cancel()
    service.behaviour = succeed
    assert await orch.dispatch("tool") == "fine"
    stats = orch.stats("tool")
    assert (stats.state, stats.throttled, stats.total_failures) == ("closed", 1, 1)
    assert_adds_up(orch)


async def test_a_value_says_so_too_and_is_read_as_it_is() -> None:
    orch, service = bench(HandClock())
    service.behaviour = returning(7)
    result = await orch.run("tool")
    assert result.value == json.loads(result.content) == await returning(7)()
    assert result.retry_after == 7
    assert (await orch.run("tool")).retry_after == 7
    assert orch.stats("tool").throttled == 1


async def test_a_judge_that_condemns_a_value_makes_a_pause_of_it() -> None:
    clock = HandClock()
    orch, service = bench(clock, is_failure=lambda value: "retry_after" in value)

    async def polite() -> dict[str, Any]:
        return {"status": "later", "retry_after": 9}

    service.behaviour = polite
    assert (await orch.run("tool")).retry_after == 9
    assert orch.circuit("tool").state == "open"
    orch, service = bench(clock, is_failure=lambda value: False)
    service.behaviour = polite
    assert (await orch.run("tool")).ok
    assert orch.circuit("tool").state == "closed"


async def test_pauses_are_counted_neither_in_a_row_nor_in_a_window() -> None:
    clock = HandClock()
    policy = BreakerPolicy(failure_rate=0.5, window_calls=10, minimum_calls=3)
    orch, service = bench(clock, policy=policy)
    for _ in range(6):
        service.behaviour = raising()
        await orch.dispatch("tool")
        assert orch.circuit("tool").state == "open"
        clock.turn(2)
        service.behaviour = succeed
        await orch.dispatch("tool")
        assert orch.circuit("tool").state == "closed"
    breaker = orch.circuit("tool").breaker
    assert [window.failures for window in breaker._windows] == [0]
    assert breaker.failures == 0


async def test_a_pause_is_no_longer_than_it_may_be() -> None:
    orch, service = bench(HandClock(), policy=BreakerPolicy(max_pause=30))
    service.behaviour = raising(1000)
    assert (await orch.run("tool")).retry_after == 30
    assert (await orch.run("tool")).retry_after == 30


async def test_where_there_are_no_pauses_it_is_a_failure_like_any_other() -> None:
    orch, service = bench(HandClock(), policy=BreakerPolicy(max_pause=None))
    service.behaviour = raising()
    for _ in range(3):
        result = await orch.run("tool")
        assert result.retry_after is None
        assert "pause" not in result.content
    assert orch.circuit("tool").failures == 3
    assert orch.stats("tool").throttled == 0
    assert "is down (3 failures in a row)" in await orch.dispatch("tool")


async def test_who_does_not_say_for_how_long_is_left_alone_longer_each_time() -> None:
    clock = HandClock()
    orch, service = bench(clock)
    service.behaviour = raising(None)
    for seconds in (1, 2, 4, 8):
        assert (await orch.run("tool")).retry_after == seconds
        assert (await orch.run("tool")).retry_after == seconds
        clock.turn(seconds)
    service.behaviour = succeed
    await orch.dispatch("tool")
    service.behaviour = raising(None)
    assert (await orch.run("tool")).retry_after == 1


@pytest.mark.parametrize("make", [raising, returning])
@pytest.mark.parametrize(
    "said",
    [1e308, math.nan, math.inf, -1, "soon", True, 10**400, "1e400", [], {}],
    ids=repr,
)
async def test_a_time_that_makes_no_sense_does_no_harm(make: Any, said: Any) -> None:
    clock = HandClock()
    orch, service = bench(clock)
    service.behaviour = make(said)
    result = await orch.run("tool")
    assert result.verdict is Verdict.FAILURE
    assert result.retry_after is None or 0 < result.retry_after <= 300
    if orch.circuit("tool").state == "open":
        assert (await orch.run("tool")).retry_after == result.retry_after
    clock.turn(300)
    service.behaviour = succeed
    assert await orch.dispatch("tool") == "fine"
    assert orch.circuit("tool").state == "closed"


async def test_one_that_comes_too_late_changes_nothing() -> None:
    orch, service = bench(HandClock())
    go_on = anyio.Event()

    async def late() -> None:
        await go_on.wait()
        raise BusyError

    service.behaviour = late
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        await trip(orch, service)
        go_on.set()
    assert orch.stats("tool").late == 1
    assert not orch.circuit("tool").breaker.paused
    assert (await orch.run("tool")).retry_after == 300
    assert_adds_up(orch)


async def test_a_probe_that_is_told_to_wait_does_not_make_it_worse() -> None:
    clock = HandClock()
    policy = BreakerPolicy(reset_multiplier=2)
    orch, service = bench(clock, policy=policy)
    await trip(orch, service)
    clock.turn(300)
    service.behaviour = raising(5)
    assert (await orch.run("tool")).retry_after == 5
    assert orch.circuit("tool").failures == 3
    assert "asked for a pause" in await orch.dispatch("tool")
    clock.turn(5)
    service.behaviour = fail
    await orch.dispatch("tool")
    assert (await orch.run("tool")).retry_after == 600  # the first probe that failed
    assert "is down (4 failures in a row)" in await orch.dispatch("tool")


@pytest.mark.parametrize("same", [True, False])
async def test_a_call_within_a_call_pauses_its_own_circuit(same: bool) -> None:
    registry, service, clock = Registry(), Service(raising(5)), HandClock()
    orch = ToolOrchestrator(registry, clock=clock)
    circuit = {"circuit": "both"} if same else {}
    service.offer(registry, "inner", **circuit)

    @registry.tool(**circuit)  # type: ignore[call-overload]
    async def outer() -> Any:
        return await orch.call("inner")

    orch.circuit("both" if same else "outer").trip()
    clock.turn(300)
    result = await orch.run("outer")
    assert result.retry_after == 5
    assert (await orch.run("inner")).retry_after == 5
    assert orch.circuit("both" if same else "inner").breaker.paused
    assert orch.stats("inner").throttled == 1
    assert_adds_up(orch)


async def test_a_disabled_circuit_lets_the_next_call_through() -> None:
    orch, service = bench(HandClock())
    orch.circuit("tool").disable()
    service.behaviour = raising(5)
    await orch.dispatch("tool")
    service.behaviour = succeed
    assert await orch.dispatch("tool") == "fine"
    assert orch.stats("tool").would_reject == 1
