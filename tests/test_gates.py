"""
How many calls there may be, of a tool, of a group and in all, from ``dispatch`` on down.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import json
import pickle
import random
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import anyio
import anyio.from_thread
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator_async import (
    BreakerPolicy,
    BudgetPolicy,
    CallRejected,
    CircuitOpenError,
    DrainingError,
    Event,
    InvalidArgumentsError,
    LimitExceededError,
    LimitPolicy,
    OrchestratorError,
    Registry,
    RetryPolicy,
    ToolCall,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
    UnknownToolError,
)
from orchestrator_async._gates import Gate
from orchestrator_async._rate import take

from . import rig
from .clock import AutojumpEventLoop, real_time, virtual_time
from .rig import shuffled
from .support import HandClock, Service, assert_adds_up, fail, succeed, trip, when_blocked
from .test_threads import run_script

DEBUG = False

HOUR = 3600.0
ONE = LimitPolicy(max_concurrent=1)
NO_WAIT = LimitPolicy(max_concurrent=1, max_wait=0)
TWO_AN_HOUR = LimitPolicy(calls=2, seconds=HOUR, max_wait=0)


class Door:
    """
    A behaviour that waits until it is let go.
    """

    def __init__(self) -> None:
        self.open = anyio.Event()

    async def __call__(self) -> str:
        await self.open.wait()
        return "fine"


class Order:
    """
    A tool that notes who was let in, and when; each stays until it is let go.
    """

    def __init__(self) -> None:
        self.came: list[Any] = []
        self.at: list[float] = []
        self.doors: dict[Any, anyio.Event] = {}
        self.running = self.most = 0

    async def __call__(self, who: str) -> str:
        self.came.append(who)
        self.at.append(anyio.current_time())
        self.doors[who] = anyio.Event()
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.doors[who].wait()
        finally:
            self.running -= 1
        return who


def limited(
    scope: str = "tool",
    limits: LimitPolicy | None = ONE,
    *,
    clock: Callable[[], float] = anyio.current_time,
    policy: ToolPolicy | None = None,
    observers: Any = (),
    orch: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[ToolOrchestrator, Service]:
    """
    An orchestrator with one tool, named ``tool``, whose calls this limits, and its service.
    """
    registry, service = Registry(), Service()
    more: dict[str, Any] = dict(orch or {})
    policies: dict[str, Any] = {}
    if scope == "tool":
        policies["limits"] = limits
    elif scope == "group":
        policies["group"] = "g"
        more["groups"] = {"g": limits}
    elif scope == "all":
        more["limits"] = limits
    if policy is not None:
        policies |= {
            name: value
            for name in ToolPolicy.__dataclass_fields__
            if (value := getattr(policy, name)) != getattr(ToolPolicy(), name)
        }
    service.offer(registry, policy=ToolPolicy(**policies), **options)
    return ToolOrchestrator(registry, clock=clock, observers=observers, **more), service


SCOPES = pytest.mark.parametrize("scope", ["tool", "group", "all"])


def gates(orch: ToolOrchestrator) -> list[Gate]:
    return list(orch._surroundings._gates.values())


def taken(orch: ToolOrchestrator) -> int:
    return sum(each.limit.taken for each in gates(orch) if each.limit is not None)


def waiting(orch: ToolOrchestrator) -> int:
    """
    How many wait, for a place or for their turn.
    """
    return sum(
        (0 if each.limit is None else each.limit.waiting)
        + (0 if each.rate is None else each.rate.waiting)
        for each in gates(orch)
    )


def turns_left(gate: Gate, now: float) -> int:
    """
    How many calls its rate would let in at this moment, one after another.
    """
    assert gate.rate is not None
    return rig.turns_left(gate.rate, now)


def assert_free(orch: ToolOrchestrator) -> None:
    """
    Nobody has a place, nobody waits, and nothing is in flight.
    """
    assert taken(orch) == 0
    assert waiting(orch) == 0
    assert_adds_up(orch)


def one_by_one(tasks: anyio.abc.TaskGroup, order: list[Callable[[], Any]]) -> Any:
    async def start() -> None:
        for each in order:
            tasks.start_soon(each)
            await when_blocked()

    return start()


# Places and the queue


@SCOPES
@pytest.mark.parametrize("answer", ["dispatch", "run", "call"])
async def test_so_many_run_at_one_time_and_the_others_in_their_order(
    scope: str, answer: str
) -> None:
    orch, _ = limited(scope, LimitPolicy(max_concurrent=2, max_wait=1e6))
    order = Order()
    policy = orch.registry["tool"].policy
    orch.registry.tool(name="tool", policy=policy, replace=True)(order)
    async with anyio.create_task_group() as tasks:

        async def one(who: int) -> None:
            await getattr(orch, answer)("tool", {"who": str(who)})

        for who in range(6):
            tasks.start_soon(one, who)
            await when_blocked()
        assert order.came == ["0", "1"]
        assert (taken(orch), waiting(orch)) == (2, 4)
        for who in range(6):
            order.doors[str(who)].set()
            await when_blocked()
    assert order.came == [str(who) for who in range(6)]
    assert order.most == 2
    assert_free(orch)


SCOPED = {"tool": "", "group": "group g", "all": "all tools"}


@SCOPES
async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(scope: str) -> None:
    events: list[Event] = []
    limits = LimitPolicy(max_concurrent=1, max_queue=1, max_wait=1e6)
    orch, service = limited(scope, limits, observers=[events.append])
    service.behaviour = door = Door()
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(orch.dispatch, "tool")
            await when_blocked()
        told = json.loads(await orch.dispatch("tool"))
        result = await orch.run("tool", call_id="7")
        with pytest.raises(LimitExceededError) as caught:
            await orch.call("tool")
        door.open.set()
    error = caught.value
    assert (error.limit, error.size, error.scope) == ("concurrency", 1, SCOPED[scope])
    assert error.seconds is None
    assert error.retry_after >= 1
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))
    assert (told["limit"], told["retry_after"], told["tool_name"]) == (
        "concurrency",
        1,
        "tool",
    )
    of = f" of {SCOPED[scope]}" if SCOPED[scope] else ""
    assert told["error"] == (
        f"tool is busy: 1 of 1 calls{of} are running. Try again in 1 s, "
        "or use another tool."
    )
    assert json.loads(result.content) == told
    assert type(result.error) is LimitExceededError
    assert (result.ok, result.attempts, result.call_id) == (False, 0, "7")
    assert result.retry_after == 1
    refused = [each for each in events if isinstance(each, CallRejected)]
    assert [each.reason for each in refused] == ["limit"] * 3
    assert {each.retry_after for each in refused} == {1}
    assert service.runs == 2
    assert orch.stats("tool").rejected == 3
    assert orch.stats("tool").total_failures == 0
    assert_free(orch)


@SCOPES
async def test_who_may_not_wait_is_refused_at_once(scope: str) -> None:
    orch, service = limited(scope, NO_WAIT)
    service.behaviour = door = Door()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        assert json.loads(await orch.dispatch("tool"))["limit"] == "concurrency"
        door.open.set()
    assert_free(orch)


@SCOPES
@pytest.mark.parametrize("limits", [NO_WAIT, LimitPolicy(calls=1, max_wait=0)])
async def test_who_asks_and_asks_can_be_cancelled(scope: str, limits: LimitPolicy) -> None:
    orch, service = limited(scope, limits, clock=HandClock())
    service.behaviour = door = Door()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        with anyio.CancelScope() as scope_of_caller:
            scope_of_caller.cancel()
            await orch.run("tool")
            pytest.fail("a refusal has no checkpoint")
        assert scope_of_caller.cancelled_caught
        door.open.set()
    assert_free(orch)


@virtual_time
@SCOPES
async def test_a_wait_in_the_queue_has_an_end(scope: str) -> None:
    orch, service = limited(scope, LimitPolicy(max_concurrent=1, max_wait=20))

    async def long() -> None:
        await anyio.sleep(100)

    service.behaviour = long
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        before = anyio.current_time()
        error = (await orch.run("tool")).error
        assert isinstance(error, LimitExceededError)
        assert anyio.current_time() - before == pytest.approx(20)
        assert error.retry_after == 40  # nobody has come back yet: twice what was seen
        assert taken(orch) == 1
    assert service.runs == 1
    assert_free(orch)


async def test_a_message_names_the_narrowest_limit_that_is_full() -> None:
    policy = ToolPolicy(group="g")
    more = {"limits": NO_WAIT, "groups": {"g": NO_WAIT}}
    orch, service = limited("tool", NO_WAIT, policy=policy, orch=more)
    service.offer(orch.registry, "other", policy=ToolPolicy(group="g"))
    service.offer(orch.registry, "third")
    service.behaviour = door = Door()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        scopes = [
            getattr((await orch.run(name)).error, "scope", None)
            for name in ("tool", "other", "third")
        ]
        door.open.set()
    assert scopes == ["", "group g", "all tools"]
    assert_free(orch)


async def test_who_is_refused_by_a_wide_limit_gives_back_the_narrow_one() -> None:
    orch, service = limited("tool", LimitPolicy(max_concurrent=5), orch={"limits": NO_WAIT})
    service.behaviour = door = Door()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        for _ in range(3):
            assert "all tools" in await orch.dispatch("tool")
        assert sorted(each.limit.taken for each in gates(orch) if each.limit) == [1, 1]
        door.open.set()
    assert_free(orch)


async def test_a_group_has_one_limit_and_a_tool_beside_it_has_none_of_it() -> None:
    orch, service = limited("group", NO_WAIT)
    service.offer(orch.registry, "sister", policy=ToolPolicy(group="g"))
    service.offer(orch.registry, "beside")
    service.behaviour = door = Door()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        assert "group g" in await orch.dispatch("sister")
        service.behaviour = succeed
        assert await orch.dispatch("beside") == "fine"
        door.open.set()
    assert_free(orch)


async def test_limits_of_the_orchestrators_policy_are_of_each_tool() -> None:
    orch, service = limited("none", None, orch={"policy": ToolPolicy(limits=NO_WAIT)})
    service.offer(orch.registry, "other")
    service.offer(orch.registry, "free", policy=ToolPolicy(limits=None))
    service.behaviour = door = Door()
    async with anyio.create_task_group() as tasks:
        for name in ("tool", "other", "free", "free"):
            tasks.start_soon(orch.dispatch, name)
        await when_blocked()
        assert service.running == 4
        assert "busy" in await orch.dispatch("tool")
        door.open.set()
    assert_free(orch)


@virtual_time
async def test_a_turn_of_many_calls_is_held_to_the_limit() -> None:
    orch, service = limited("tool", LimitPolicy(max_concurrent=3, max_queue=100))

    async def work() -> str:
        await anyio.sleep(1)
        return "fine"

    service.behaviour = work
    results = await orch.dispatch_all([ToolCall("tool")] * 12, limit=None)
    assert [each.content for each in results] == ["fine"] * 12
    assert service.most_running == 3
    assert anyio.current_time() == pytest.approx(4)
    assert_free(orch)


# What is asked before


@SCOPES
@pytest.mark.parametrize("kind", ["places", "turns"])
async def test_an_open_circuit_refuses_without_a_wait_and_without_a_turn(
    scope: str, kind: str
) -> None:
    limits = LimitPolicy(max_concurrent=1, calls=4, seconds=HOUR, max_wait=HOUR)
    clock = HandClock()
    orch, service = limited(scope, limits, clock=clock)
    await trip(orch, service)
    [gate] = gates(orch)
    assert turns_left(gate, clock()) == 1
    if kind == "places":
        assert gate.limit is not None
        assert gate.limit.take()
    else:
        assert gate.rate is not None
        assert take((gate.rate,), clock()) is not None
    left = turns_left(gate, clock())
    assert json.loads(await orch.dispatch("tool"))["circuit_breaker"]
    with pytest.raises(CircuitOpenError):
        await orch.call("tool")
    assert turns_left(gate, clock()) == left
    assert waiting(orch) == 0


@SCOPES
async def test_arguments_that_do_not_fit_neither_wait_nor_take_a_turn(scope: str) -> None:
    limits = LimitPolicy(max_concurrent=1, calls=1, seconds=HOUR, max_wait=HOUR)
    clock = HandClock()
    orch, _ = limited(scope, limits, clock=clock)
    order = Order()
    policy = orch.registry["tool"].policy
    orch.registry.tool(name="tool", policy=policy, replace=True)(order)
    for args in ({}, {"who": 3}, "[", {"who": "a", "more": 1}):
        assert "invalid_arguments" in json.loads(await orch.dispatch("tool", args))
    [gate] = gates(orch)
    assert turns_left(gate, clock()) == 1
    assert gate.limit is not None
    assert gate.limit.take()
    assert "invalid_arguments" in json.loads(await orch.dispatch("tool", {}))
    with pytest.raises(InvalidArgumentsError):
        await orch.call("tool", {"who": 4})
    assert orch.stats("tool").invalid == 6
    assert waiting(orch) == 0


@virtual_time
async def test_a_circuit_that_opened_meanwhile_refuses_and_the_turn_goes_back() -> None:
    limits = LimitPolicy(max_concurrent=1, calls=9, seconds=1e9)
    orch, service = limited("tool", limits)

    async def die() -> None:
        await anyio.sleep(5)
        raise ConnectionError("down")

    service.behaviour = die
    results = []

    async def one() -> None:
        results.append(await orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(one)
    errors = [type(each.error) for each in results]
    assert errors == [ConnectionError] * 3 + [CircuitOpenError] * 3
    assert anyio.current_time() == pytest.approx(15)
    [gate] = gates(orch)
    assert turns_left(gate, anyio.current_time()) == 6
    assert service.runs == 3
    assert_free(orch)


@virtual_time
async def test_a_probe_is_claimed_after_the_wait_and_not_before() -> None:
    """
    A probe's lease would run out in the queue.
    """
    orch, service = limited("tool", LimitPolicy(max_concurrent=1, max_wait=1e6))
    service.offer(orch.registry, "other", policy=ToolPolicy(limits=ONE), circuit="tool2")
    await trip(orch, service)
    [gate] = gates(orch)
    assert gate.limit is not None
    await anyio.sleep(300)
    assert gate.limit.take()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        assert orch.circuit("tool").state == "open"
        await anyio.sleep(1000)
        gate.limit.release()
    assert orch.circuit("tool").state == "closed"
    assert_free(orch)


@virtual_time
async def test_of_those_who_wait_for_a_place_one_probes() -> None:
    orch, service = limited("tool", LimitPolicy(max_concurrent=3))
    await trip(orch, service)
    await anyio.sleep(300)
    service.behaviour = door = Door()
    results: list[Any] = []

    async def one() -> None:
        results.append(await orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(one)
        await when_blocked()
        assert service.running == 1
        assert len(results) == 4
        assert taken(orch) == 1
        door.open.set()
    assert orch.circuit("tool").state == "closed"
    assert_free(orch)


def by_host(limits: LimitPolicy, clock: Callable[[], float]) -> Any:
    return limited(
        "tool",
        limits,
        clock=clock,
        policy=ToolPolicy(breaker=BreakerPolicy(failure_threshold=1, max_keys=2)),
        circuit=lambda arguments, context: context.data.get("host"),
    )


async def test_the_circuit_of_the_key_is_asked_before_the_queue() -> None:
    clock = HandClock()
    limits = LimitPolicy(max_concurrent=1, calls=5, seconds=HOUR, max_wait=HOUR)
    orch, service = by_host(limits, clock)
    service.behaviour = fail
    await orch.dispatch("tool", host="dead")
    service.behaviour = door = Door()
    [gate] = gates(orch)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: orch.dispatch("tool", host="well"))
        await when_blocked()
        refused = await orch.run("tool", host="dead")
        assert isinstance(refused.error, CircuitOpenError)
        assert refused.error.key == "dead"
        assert turns_left(gate, clock()) == 3
        tasks.start_soon(lambda: orch.dispatch("tool"))  # without a key: the tool's own
        tasks.start_soon(lambda: orch.dispatch("tool", host="new"))
        await when_blocked()
        assert waiting(orch) == 2
        # Isolated by hand, the tool's own circuit has all keys.
        with orch.circuit("tool").isolate():
            assert json.loads(await orch.dispatch("tool", host="well"))["circuit_breaker"]
        door.open.set()
    assert service.runs == 4
    assert_free(orch)


@virtual_time
async def test_a_key_whose_circuit_opened_meanwhile_is_refused_after_the_wait() -> None:
    orch, service = by_host(LimitPolicy(max_concurrent=1), anyio.current_time)

    async def die() -> None:
        await anyio.sleep(1)
        raise ConnectionError("down")

    service.behaviour = die
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(lambda: orch.dispatch("tool", host="dead"))
    assert service.runs == 1
    assert orch.stats("tool").rejected == 2
    assert_free(orch)


@pytest.mark.parametrize(
    "limits",
    [LimitPolicy(max_concurrent=1, max_queue=0), LimitPolicy(calls=1, seconds=HOUR)],
    ids=["concurrency", "rate"],
)
async def test_what_a_limit_refuses_has_the_state_of_the_circuit_of_its_key(
    limits: LimitPolicy,
) -> None:
    clock = HandClock()
    orch, service = by_host(limits, clock)
    events: list[Any] = []
    orch.add_observer(events.append)
    orch.circuit("tool", "shadow").disable()
    service.behaviour = door = Door()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: orch.dispatch("tool", host="well"))
        await when_blocked()
        # Of a host that has no circuit yet, and without one, it is the tool's own.
        hosts: list[dict[str, Any]] = [{"host": "shadow"}, {"host": "new"}, {}]
        refused = [await orch.run("tool", **each) for each in hosts]
        door.open.set()
    assert all(isinstance(each.error, LimitExceededError) for each in refused)
    states = ["disabled", "closed", "closed"]
    assert [each.state for each in refused] == states
    told = [each for each in events if isinstance(each, CallRejected)]
    assert [each.state for each in told] == states
    assert_free(orch)


async def test_a_key_that_cannot_be_had_is_none_also_in_the_queue() -> None:
    def broken(arguments: Any, context: Any) -> str:
        raise ValueError("no key")

    orch, _ = limited("tool", ONE, circuit=broken)
    assert await orch.dispatch("tool") == "fine"


async def test_a_tool_that_cannot_be_asked_about_is_said_to_be_unusable() -> None:
    def clock() -> float:
        raise OSError("no clock")

    orch, service = limited("tool", ONE, clock=clock, circuit=lambda a, c: "key")
    said = json.loads(await orch.dispatch("tool"))
    assert "cannot be called" in said["error"]
    assert service.runs == 0
    assert taken(orch) == 0


# Rates


@SCOPES
async def test_a_rate_lets_a_burst_in_and_refuses_the_rest(scope: str) -> None:
    clock = HandClock()
    limits = LimitPolicy(calls=2, seconds=10, burst=3, max_wait=0)
    orch, service = limited(scope, limits, clock=clock)
    assert [await orch.dispatch("tool") for _ in range(3)] == ["fine"] * 3
    clock.turn(1.5)
    with pytest.raises(LimitExceededError) as caught:
        await orch.call("tool")
    error = caught.value
    assert (error.limit, error.size, error.seconds) == ("rate", 2, 10)
    assert (error.scope, error.retry_after) == (SCOPED[scope], 3.5)
    of = f" of {SCOPED[scope]}" if SCOPED[scope] else ""
    told = json.loads(await orch.dispatch("tool"))
    assert told == {
        "error": f"tool may not be called that often: 2 calls{of} in 10 s. Try again in 4 s, "
        "or use another tool.",
        "tool_name": "tool",
        "limit": "rate",
        "retry_after": 4,
    }
    clock.turn(3.5)
    assert await orch.dispatch("tool") == "fine"
    assert "rate" in await orch.dispatch("tool")
    assert service.runs == 4
    assert orch.stats("tool").rejected == 3
    assert_free(orch)


async def test_a_burst_is_as_many_as_the_calls_where_nothing_is_said() -> None:
    orch, _ = limited("tool", TWO_AN_HOUR, clock=HandClock())
    said = [await orch.dispatch("tool") for _ in range(3)]
    assert [each == "fine" for each in said] == [True, True, False]


@virtual_time
@SCOPES
async def test_calls_wait_for_their_turn_in_their_order(scope: str) -> None:
    limits = LimitPolicy(calls=1, seconds=10, max_wait=35)
    orch, _ = limited(scope, limits)
    order = Order()
    policy = orch.registry["tool"].policy
    orch.registry.tool(name="tool", policy=policy, replace=True)(order)
    refused = []

    async def one(who: int) -> None:
        result = await orch.run("tool", {"who": str(who)})
        if result.error is not None:
            refused.append((who, result.retry_after, anyio.current_time()))

    async with anyio.create_task_group() as tasks:
        for who in range(5):
            tasks.start_soon(one, who)
            await when_blocked()
        assert refused == [(4, 40, 0)]  # at once, and not after 35 s
        await anyio.sleep(100)
        for door in order.doors.values():
            door.set()
    assert order.came == ["0", "1", "2", "3"]
    assert order.at == pytest.approx([0, 10, 20, 30])
    assert_free(orch)


@virtual_time
@pytest.mark.parametrize("whose", ["caller", "whole call"])
async def test_a_turn_that_would_come_too_late_is_refused_at_once(whose: str) -> None:
    limits = LimitPolicy(calls=1, seconds=100, max_wait=1e6)
    total = ToolPolicy(total_timeout=99) if whose == "whole call" else None
    orch, service = limited("tool", limits, policy=total)
    assert await orch.dispatch("tool") == "fine"
    for seconds in (99, 101):
        before = anyio.current_time()
        with anyio.move_on_after(seconds if whose == "caller" else None):
            result = await orch.run("tool")
            if seconds == 99:
                assert isinstance(result.error, LimitExceededError)
                assert result.retry_after == 100
                assert anyio.current_time() == before
                if whose == "whole call":
                    orch.reload(policy=ToolPolicy(total_timeout=None))
                    policy = ToolPolicy(limits=limits, total_timeout=101)
                    service.offer(orch.registry, policy=policy, replace=True)
            else:
                assert result.content == "fine"
                assert anyio.current_time() == pytest.approx(before + 100)
    [gate] = gates(orch)
    assert turns_left(gate, anyio.current_time()) == 0
    assert_free(orch)


@virtual_time
async def test_the_whole_calls_time_ends_a_wait_for_a_place() -> None:
    orch, service = limited(
        "tool",
        LimitPolicy(max_concurrent=1, max_wait=1e6),
        policy=ToolPolicy(total_timeout=30),
    )
    [_, gate] = [await orch.dispatch("tool"), gates(orch)[0]]
    assert gate.limit is not None
    assert gate.limit.take()
    before = anyio.current_time()
    error = (await orch.run("tool")).error
    assert isinstance(error, LimitExceededError)
    assert anyio.current_time() - before == pytest.approx(30)
    assert service.runs == 1
    gate.limit.release()
    assert_free(orch)


@virtual_time
async def test_a_wait_for_a_place_is_part_of_the_whole_calls_time() -> None:
    orch, service = limited(
        "tool",
        LimitPolicy(max_concurrent=1, max_wait=1e6),
        policy=ToolPolicy(total_timeout=30),
    )

    async def long() -> None:
        await anyio.sleep(20)

    service.behaviour = long
    ended = []

    async def one() -> None:
        result = await orch.run("tool")
        ended.append((anyio.current_time(), type(result.error).__name__))

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(one)
    assert ended == [(20, "NoneType"), (30, "ToolTimeoutError")]
    assert_free(orch)


@virtual_time
async def test_a_clock_that_cannot_tell_leaves_the_callers_deadline() -> None:
    broken = False

    def clock() -> float:
        if broken:
            raise OSError("no clock")
        return anyio.current_time()

    limits = LimitPolicy(calls=1, seconds=100, max_wait=1e6)
    orch, service = limited(
        "tool", limits, policy=ToolPolicy(total_timeout=1e6), clock=clock
    )
    await orch.dispatch("tool")
    broken = True
    with anyio.move_on_after(50):
        error = (await orch.run("tool")).error
        assert isinstance(error, LimitExceededError)
        assert anyio.current_time() == 0
    assert service.runs == 1


@virtual_time
async def test_rates_of_tool_group_and_all_hold_together() -> None:
    registry, order = Registry(), Order()

    async def note(who: str) -> str:
        order.came.append(who)
        order.at.append(anyio.current_time())
        return who

    mine = LimitPolicy(calls=1, seconds=3, max_wait=1e6)
    registry.tool(name="a", policy=ToolPolicy(limits=mine, group="g"))(note)
    registry.tool(name="b", policy=ToolPolicy(group="g"))(note)
    registry.tool(name="c")(note)
    orch = ToolOrchestrator(
        registry,
        clock=anyio.current_time,
        limits=LimitPolicy(calls=1, seconds=1, max_wait=1e6),
        groups={"g": LimitPolicy(calls=1, seconds=2, max_wait=1e6)},
    )
    calls = [ToolCall(name, {"who": name}) for name in "aabbccaabbcc"]
    await orch.dispatch_all(calls, limit=None)
    times = {
        name: [at for who, at in zip(order.came, order.at, strict=True) if who in name]
        for name in ("a", "ab", "abc")
    }
    for (name, at), apart in zip(times.items(), (3, 2, 1), strict=True):
        gaps = [later - sooner for sooner, later in itertools.pairwise(at)]
        assert min(gaps) >= apart - 1e-6, name
    assert len(order.came) == 12
    assert_free(orch)


def assert_held(at: list[float], limit: LimitPolicy) -> None:
    """
    In any time there are at most a burst and what the rate comes to.
    """
    for first, began in enumerate(at):
        for last in range(first, len(at)):
            assert limit.calls is not None
            allowed = (limit.burst or 1) + (at[last] - began) * limit.calls / limit.seconds
            assert last - first + 1 <= allowed + 1e-6, (began, at[last], limit)


@given(
    came=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 40)), min_size=1, max_size=25
    ),
    rates=st.tuples(*[st.integers(1, 9)] * 3),
    seed=st.integers(0, 100),
)
@settings(max_examples=60)
@virtual_time
async def test_every_rate_holds_for_the_moments_at_which_calls_begin(
    came: list[tuple[str, int]], rates: tuple[int, int, int], seed: int
) -> None:
    registry, began = Registry(), dict[str, list[float]]()
    mine, groups, every = (
        LimitPolicy(calls=1, seconds=each, max_wait=1e6, max_concurrent=many)
        for each, many in zip(rates, (2, None, 3), strict=True)
    )

    def offer(name: str, scopes: str, policy: ToolPolicy) -> None:
        @registry.tool(name=name, policy=policy)
        async def tool() -> str:
            for each in scopes:
                began.setdefault(each, []).append(anyio.current_time())
            await anyio.sleep(2)
            return "fine"

    offer("a", "tga", ToolPolicy(limits=mine, group="g"))
    offer("b", "ga", ToolPolicy(group="g"))
    offer("c", "a", ToolPolicy())
    orch = ToolOrchestrator(
        registry, clock=anyio.current_time, limits=every, groups={"g": groups}
    )

    async def one(name: str, when: int) -> None:
        await anyio.sleep(when)
        assert await orch.dispatch(name) == "fine"

    with shuffled(seed):
        start = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for name, when in came:
                tasks.start_soon(one, name, when)
    for scope, limit in (("t", mine), ("g", groups), ("a", every)):
        assert_held(began.get(scope, []), limit)
    # Nobody starves: by turns, each takes no longer than its rates and its run together.
    assert anyio.current_time() - start <= 40 + len(came) * (sum(rates) + 2) + 1
    assert_free(orch)


class Line:
    """
    Calls of a few tools by number: when each came and began, and which were refused.
    """

    def __init__(self, tools: dict[str, ToolPolicy], **options: Any) -> None:
        self.registry = Registry()
        self.came: dict[tuple[str, int], float] = {}
        self.began: dict[tuple[str, int], float] = {}
        self.refused: dict[tuple[str, int], tuple[float, LimitExceededError]] = {}
        for name, policy in tools.items():
            self.offer(name, policy)
        self.orch = ToolOrchestrator(self.registry, clock=anyio.current_time, **options)

    def offer(self, name: str, policy: ToolPolicy) -> None:
        @self.registry.tool(name=name, policy=policy)
        async def tool(number: int) -> str:
            self.began[name, number] = anyio.current_time()
            return "fine"

    async def one(self, name: str, number: int) -> None:
        self.came[name, number] = anyio.current_time()
        result = await self.orch.run(name, {"number": number})
        if not result.ok:
            assert isinstance(result.error, LimitExceededError)
            self.refused[name, number] = anyio.current_time(), result.error

    def times(self, names: str) -> list[float]:
        return sorted(at for (name, _), at in self.began.items() if name in names)

    def assert_in_order(self) -> None:
        """
        Of one tool nobody was overtaken.
        """
        for tool in {name for name, _ in self.began}:
            order = [key for key in self.began if key[0] == tool]
            assert order == [key for key in self.came if key in self.began and key in order]


def evenly(
    calls: int, burst: int, max_wait: float = 30.0, seconds: float = 1
) -> LimitPolicy:
    return LimitPolicy(calls=calls, seconds=seconds, burst=burst, max_wait=max_wait)


@virtual_time
@pytest.mark.parametrize("burst", [1, 2, 12])
async def test_a_burst_is_worked_off_where_less_comes_than_every_rate_lets_in(
    burst: int,
) -> None:
    own = ToolPolicy(limits=evenly(10, burst))
    line = Line({"a": own, "b": own}, limits=evenly(12, burst))
    start = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for number in range(140):
            for name in "ab":
                tasks.start_soon(line.one, name, number)
            await anyio.sleep(0 if number < 10 else 2 / 11)
    assert not line.refused
    assert len(line.began) == 280
    line.assert_in_order()
    # No turn of the wide rate is left unused until the row is empty.
    backlog = line.times("ab")[:80]
    assert backlog[-1] - start <= (len(backlog) - burst) / 12 + 1e-3
    waits = [line.began[key] - came for key, came in line.came.items()]
    assert max(waits[-20:]) <= 1 / 12 + 1e-3  # two come at once
    assert_free(line.orch)


@virtual_time
async def test_whoever_would_have_had_a_turn_in_time_is_let_in() -> None:
    own = ToolPolicy(limits=evenly(5, 5))
    line = Line({"a": own, "b": own}, limits=evenly(6, 5))
    start = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for number in range(100):
            for name in "ab":
                tasks.start_soon(line.one, name, number)
    # As many as the wide rate lets in in 30 seconds, and nobody of the others too soon.
    assert len(line.began) == 5 + 30 * 6
    assert len(line.refused) == 15
    for at, error in line.refused.values():
        assert at - start == pytest.approx(30, abs=0.1)
        assert error.scope == "all tools"
        assert error.retry_after > 0
    line.assert_in_order()
    assert_free(line.orch)


@virtual_time
async def test_a_tool_has_its_turn_by_when_it_came_and_not_by_when_its_own_rate_let_it() -> (
    None
):
    narrow = ToolPolicy(limits=evenly(1, 1, 1e6), group="g")
    line = Line(
        {"narrow": narrow, "wide": ToolPolicy(group="g")}, groups={"g": evenly(10, 1, 1e6)}
    )
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(line.one, "narrow", number)
        await when_blocked()
        for number in range(200):
            tasks.start_soon(line.one, "wide", number)
    # However many stand before the group, it takes a turn whenever its own is there.
    at = [at for (name, _), at in line.began.items() if name == "narrow"]
    assert at == pytest.approx([at[0] + number for number in range(5)], abs=1e-3)
    assert line.times("narrow wide")[-1] - at[0] == pytest.approx(20.4, abs=0.11)
    assert_free(line.orch)


LIMITS = st.builds(
    evenly,
    st.sampled_from([1, 3, 10]),
    st.sampled_from([1, 2, 10]),
    st.sampled_from([0.0, 2.0, 30.0]),
    st.sampled_from([0.5, 1.0, 3.0]),
)


@given(
    limits=st.tuples(LIMITS, LIMITS, LIMITS | st.none(), LIMITS),
    many=st.none() | st.integers(1, 3),
    plan=st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from([0, 0, 0, 0.05, 0.3, 1]),
            st.sampled_from([0.2, 3, 1e3, 1e3]),
        ),
        max_size=40,
    ),
    reloaded=st.none() | st.tuples(st.integers(0, 40), LIMITS),
    seed=st.integers(0, 100),
)
@settings(max_examples=60)
@virtual_time
async def test_rates_together_hold_and_keep_the_order_whoever_leaves(
    limits: tuple[Any, ...],
    many: int | None,
    plan: list[tuple[str, float, float]],
    reloaded: tuple[int, LimitPolicy] | None,
    seed: int,
) -> None:
    own, other, group, every = limits
    every = replace(every, max_concurrent=many)
    line = Line(
        {
            "a": ToolPolicy(limits=own, group="g"),
            "b": ToolPolicy(limits=other, group="g"),
            "c": ToolPolicy(),
        },
        limits=every,
        groups={"g": group or LimitPolicy(max_concurrent=9)},
    )

    async def leave(scope: anyio.CancelScope, patience: float) -> None:
        # Not by a deadline, for which it would be refused at once.
        await anyio.sleep(patience)
        scope.cancel()

    async def one(name: str, number: int, patience: float) -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as mine:
                mine.start_soon(leave, scope, patience)
                await line.one(name, number)
                mine.cancel_scope.cancel()

    with shuffled(seed):
        async with anyio.create_task_group() as tasks:
            for number, (name, gap, patience) in enumerate(plan):
                tasks.start_soon(one, name, number, patience)
                await when_blocked()
                if reloaded is not None and reloaded[0] == number:
                    line.orch.reload(limits=reloaded[1])
                await anyio.sleep(gap)
    line.assert_in_order()
    for names, limit in (("a", own), ("b", other), ("ab", group), ("abc", every)):
        if limit is None or (reloaded is not None and limit is every):
            continue
        assert_held(line.times(names), limit)
    assert_free(line.orch)
    for gate in gates(line.orch):
        assert gate.rate is None or not gate.rate._rows


@virtual_time
async def test_who_leaves_the_row_of_two_rates_lets_the_next_one_go() -> None:
    own = ToolPolicy(limits=evenly(1, 1, 1e6, 10))
    line = Line({"a": own, "b": own}, limits=evenly(1, 1, 1e6, 100))
    await line.one("a", 0)
    start = anyio.current_time()
    async with anyio.create_task_group() as tasks, anyio.create_task_group() as gone:
        gone.start_soon(line.one, "a", 1)
        await when_blocked()
        for name, number in (("a", 2), ("b", 3)):
            tasks.start_soon(line.one, name, number)
            await when_blocked()
        await anyio.sleep(50)
        gone.cancel_scope.cancel()
    assert list(line.began) == [("a", 0), ("a", 2), ("b", 3)]
    at = [line.began[key] - start for key in (("a", 2), ("b", 3))]
    assert at == pytest.approx([100, 200], abs=1e-3)
    assert_free(line.orch)


@virtual_time
async def test_a_rate_that_was_in_time_is_not_asked_about_its_own_max_wait() -> None:
    """
    Its turn was there; what the call waits for is the other one.
    """
    line = Line({"a": ToolPolicy(limits=evenly(2, 2, 0, 1e9))}, limits=evenly(1, 1, 60, 50))
    await line.one("a", 0)
    await line.one("a", 1)
    assert line.began["a", 1] == pytest.approx(line.began["a", 0] + 50, abs=1e-3)
    await line.one("a", 2)
    [(at, error)] = line.refused.values()
    assert at == pytest.approx(line.began["a", 1])
    assert (error.scope, error.seconds) == ("", 1e9)
    assert_free(line.orch)


@virtual_time
async def test_a_turn_that_others_have_had_meanwhile_is_waited_for_until_max_wait() -> None:
    """
    Also until the end of the whole call, though it looked as if there were time enough.
    """
    patient = ToolPolicy(limits=evenly(1, 1, 1e6, 7))
    hasty = ToolPolicy(limits=evenly(1, 1, 1e6, 7), total_timeout=25)
    line = Line({"a": patient, "b": patient, "c": hasty}, limits=evenly(1, 1, 35, 10))
    async with anyio.create_task_group() as tasks:
        for name, number in (("a", 0), ("a", 1), ("b", 2), ("b", 3), ("b", 4), ("c", 5)):
            tasks.start_soon(line.one, name, number)
            await when_blocked()
    assert [round(at) for at in line.times("abc")] == [0, 10, 20, 30]
    assert list(line.began) == [("a", 0), ("a", 1), ("b", 2), ("b", 3)]
    [(late, _), (hurried, error)] = line.refused["b", 4], line.refused["c", 5]
    assert (round(late), round(hurried)) == (35, 25)
    assert error.scope == "all tools"
    assert error.retry_after == pytest.approx(5, abs=0.1)
    assert_free(line.orch)


@virtual_time
async def test_a_turn_after_all_who_need_no_more_is_known_to_be_too_late_at_once() -> None:
    own = ToolPolicy(limits=evenly(10, 1, 1e6))
    line = Line({"a": own, "c": ToolPolicy()}, limits=evenly(1, 1, 3.5))
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(line.one, "c", number)
        await when_blocked()
        before = anyio.current_time()
        await line.one("a", 4)
        [(at, error)] = line.refused.values()
        assert (at, error.scope) == (before, "all tools")
        assert error.retry_after == pytest.approx(4, abs=1e-3)
    assert len(line.began) == 4
    assert_free(line.orch)


# A turn goes back if the tool was not run after all


ENDLESS = LimitPolicy(calls=5, seconds=1e9, max_wait=0)


def left(orch: ToolOrchestrator) -> int:
    """
    Turns left of the five that the tool has for good.
    """
    gate = orch._surroundings._gates["tool", "tool"]
    return turns_left(gate, orch._fleet.time())


@virtual_time
async def test_a_wait_for_another_rate_takes_no_turn() -> None:
    wide = LimitPolicy(calls=1, seconds=100, max_wait=1e6)
    orch, service = limited("tool", ENDLESS, orch={"limits": wide})
    await orch.dispatch("tool")
    assert left(orch) == 4
    with anyio.move_on_after(200) as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(orch.dispatch, "tool")
            await when_blocked()
            assert (left(orch), waiting(orch)) == (4, 2)  # in the row of two rates
            tasks.cancel_scope.cancel()
    assert not scope.cancelled_caught
    assert left(orch) == 4
    # The turn by the wide one was not taken either.
    assert turns_left(orch._surroundings._gates["all", ""], 100) == 1
    assert service.runs == 1
    assert_free(orch)


async def test_a_turn_goes_back_that_a_wider_rate_made_useless() -> None:
    orch, _ = limited("tool", ENDLESS, orch={"limits": LimitPolicy(calls=1, max_wait=0)})
    orch._fleet._clock = HandClock()
    await orch.dispatch("tool")
    for _ in range(3):
        assert "all tools" in await orch.dispatch("tool")
    assert left(orch) == 4


@virtual_time
@pytest.mark.parametrize("what", ["drain", "remove", "isolate"])
async def test_a_turn_goes_back_from_a_call_that_is_turned_away_after_its_wait(
    what: str,
) -> None:
    wide = LimitPolicy(calls=1, seconds=100, max_wait=1e6)
    orch, service = limited("tool", ENDLESS, orch={"limits": wide})
    await orch.dispatch("tool")
    gate = orch._surroundings._gates["tool", "tool"]
    results: list[Any] = []

    async def one() -> None:
        results.append(await orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        await when_blocked()
        assert turns_left(gate, 0) == 4  # none is taken before all are there
        if what == "drain":
            await orch.drain()  # what waits is not running
            assert anyio.current_time() == 0
        elif what == "remove":
            orch.registry.remove("tool")
        else:
            orch.circuit("tool").isolate()
    kind = {"drain": DrainingError, "remove": UnknownToolError, "isolate": CircuitOpenError}
    assert type(results[0].error) is kind[what]
    assert turns_left(gate, 0) == 4
    assert turns_left(orch._surroundings._gates["all", ""], 100) == 1
    assert service.runs == 1
    assert_free(orch)


@real_time
async def test_a_turn_goes_back_where_there_is_no_thread() -> None:
    registry, go_on = Registry(), threading.Event()

    @registry.tool(policy=ToolPolicy(limits=ENDLESS, max_threads=1, timeout=60))
    def tool() -> str:
        go_on.wait(30)
        return "fine"

    orch = ToolOrchestrator(registry)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        with anyio.fail_after(20):
            while not orch._fleet.running():  # noqa: ASYNC110
                await anyio.sleep(0.001)
        for _ in range(3):
            assert json.loads(await orch.dispatch("tool"))["limit"] == "threads"
        assert left(orch) == 4
        go_on.set()
    assert await orch.dispatch("tool") == "fine"
    assert left(orch) == 3
    assert_free(orch)


def test_a_turn_goes_back_where_the_system_has_no_thread() -> None:
    text = """
        import anyio, threading, time
        from orchestrator_async import LimitPolicy, Registry, ToolOrchestrator, ToolPolicy

        registry = Registry()

        @registry.tool(policy=ToolPolicy(limits=LimitPolicy(calls=1, seconds=1e9, max_wait=0)))
        def tool() -> str:
            return "fine"

        orch = ToolOrchestrator(registry)

        async def main():
            # Room for a stack that no machine has: a thread cannot be started.
            threading.stack_size(1 << 46)
            print(await orch.dispatch("tool"))
            threading.stack_size(0)
            print(await orch.dispatch("tool"))
            print(await orch.dispatch("tool"))

        anyio.run(main)
        print(time.monotonic())
    """
    first, second, third = run_script(text, "asyncio")[0].splitlines()
    assert json.loads(first)["limit"] == "system threads"
    assert second == "fine"
    assert json.loads(third)["limit"] == "rate"


async def test_a_turn_goes_back_where_the_arguments_could_not_be_bound() -> None:
    registry = Registry()

    @registry.tool(policy=ToolPolicy(limits=ENDLESS), validate=False)
    async def tool(who: str) -> str:
        return who

    orch = ToolOrchestrator(registry, clock=HandClock())
    assert "invalid_arguments" in json.loads(await orch.dispatch("tool", {"what": 1}))
    assert left(orch) == 5
    assert await orch.dispatch("tool", {"who": "me"}) == "me"
    assert left(orch) == 4


async def test_a_turn_is_used_by_a_call_that_failed() -> None:
    orch, service = limited("tool", ENDLESS, clock=HandClock())
    service.behaviour = fail
    await orch.dispatch("tool")
    assert left(orch) == 4


# Places are back after any end


class Approval(BaseException):
    pass


async def leave() -> None:
    raise SystemExit(3)


async def interrupt() -> None:
    raise KeyboardInterrupt


async def approve() -> None:
    raise Approval


async def hang() -> None:
    await anyio.sleep_forever()


async def garbage() -> object:
    return object()


EVERYTHING = LimitPolicy(max_concurrent=1, calls=50, seconds=1e9)
ENDS: dict[str, tuple[Callable[[], Awaitable[Any]], type[BaseException] | None]] = {
    "succeed": (succeed, None),
    "fail": (fail, None),
    "leave": (leave, None),
    "garbage": (garbage, None),
    "hang": (hang, None),
    "interrupt": (interrupt, KeyboardInterrupt),
    "approve": (approve, Approval),
}


@virtual_time
@pytest.mark.parametrize("end", ENDS)
async def test_a_place_is_back_after_any_end(end: str) -> None:
    policy = ToolPolicy(timeout=10, control_flow=(Approval,), group="g")
    more = {"limits": EVERYTHING, "groups": {"g": EVERYTHING}, "failure_threshold": 99}
    orch, service = limited("tool", EVERYTHING, policy=policy, orch=more)
    service.behaviour, raised = ENDS[end]
    for answer in (orch.dispatch, orch.run, orch.call):
        if raised is None:
            with suppress(Exception):
                await answer("tool")
        else:
            with pytest.raises(raised):
                await answer("tool")
        assert len(gates(orch)) == 3
        assert_free(orch)
    for gate in gates(orch):
        assert turns_left(gate, anyio.current_time()) == 47


@real_time
async def test_a_place_is_held_as_long_as_the_call_and_a_thread_longer() -> None:
    registry, go_on = Registry(), threading.Event()
    entered = threading.Event()

    @registry.tool(policy=ToolPolicy(limits=NO_WAIT, max_threads=2))
    def tool() -> str:
        entered.set()
        go_on.wait(30)
        return "fine"

    orch = ToolOrchestrator(registry)
    entry = orch._fleet.entry(registry["tool"])
    assert entry.slots is not None

    async def given_up() -> None:
        entered.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(orch.dispatch, "tool")
            with anyio.fail_after(20):
                while not entered.is_set():  # noqa: ASYNC110
                    await anyio.sleep(0.001)
            assert taken(orch) == 1
            assert json.loads(await orch.dispatch("tool"))["limit"] == "concurrency"
            tasks.cancel_scope.cancel()

    await given_up()
    assert (taken(orch), entry.slots.taken) == (0, 1)
    await given_up()
    assert (taken(orch), entry.slots.taken) == (0, 2)
    assert json.loads(await orch.dispatch("tool"))["limit"] == "threads"
    go_on.set()
    with anyio.fail_after(20):
        while entry.slots.taken:  # noqa: ASYNC110
            await anyio.sleep(0.001)
    assert await orch.dispatch("tool") == "fine"
    assert_free(orch)


# Tools that call tools


@SCOPES
@pytest.mark.parametrize("answer", ["dispatch", "run", "call", "dispatch_all"])
async def test_a_call_from_within_does_not_wait_for_its_own_place(
    scope: str, answer: str
) -> None:
    orch, service = limited(scope, NO_WAIT)
    service.offer(orch.registry, "inner", policy=orch.registry["tool"].policy)
    depth = 0

    async def deeper() -> Any:
        nonlocal depth
        depth += 1
        if depth > 3:
            return "deep"
        # A tool's own limit is met by the tool itself.
        name = "tool" if scope == "tool" else "inner"
        if answer == "dispatch_all":
            [result] = await orch.dispatch_all([ToolCall(name)])
            return result.content
        said = await getattr(orch, answer)(name)
        return said.content if answer == "run" else said

    service.behaviour = deeper
    assert await orch.dispatch("tool") == "deep"
    assert depth == 4
    assert orch._surroundings._gates  # it was limited
    assert_free(orch)


async def test_a_call_from_within_has_the_places_of_all_that_it_is_within() -> None:
    orch, service = limited("all", NO_WAIT)
    inner = Service()
    inner.offer(orch.registry, "inner", policy=ToolPolicy(limits=ONE))

    async def outer() -> str:
        service.behaviour = succeed
        return await orch.dispatch("inner")

    async def back() -> str:
        return await orch.dispatch("tool")

    service.behaviour, inner.behaviour = outer, back
    assert await orch.dispatch("tool") == "fine"
    assert len(gates(orch)) == 2
    assert_free(orch)


@real_time
async def test_a_call_from_a_tools_thread_does_not_wait_for_its_own_place() -> None:
    registry = Registry()

    @registry.tool(policy=ToolPolicy(group="g"))
    def outer() -> str:
        return anyio.from_thread.run(orch.dispatch, "inner")

    @registry.tool(policy=ToolPolicy(group="g"))
    async def inner() -> str:
        return "fine"

    orch = ToolOrchestrator(registry, groups={"g": NO_WAIT})
    assert await orch.dispatch("outer") == "fine"
    assert_free(orch)


async def test_a_call_from_within_waits_for_limits_that_its_caller_has_not_passed() -> None:
    orch, service = limited("group", NO_WAIT)
    inner = Service()
    inner.offer(orch.registry, "inner", policy=ToolPolicy(limits=NO_WAIT, group="g"))
    inner.behaviour = door = Door()

    async def outer() -> str:
        return await orch.dispatch("inner")

    service.behaviour = outer
    orch.reload(groups={"g": LimitPolicy(max_concurrent=2)})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "inner")
        await when_blocked()
        said = json.loads(await orch.dispatch("tool"))
        assert said["tool_name"] == "inner"
        assert said["limit"] == "concurrency"
        door.open.set()
    assert_free(orch)


@virtual_time
async def test_those_who_wait_for_each_other_do_so_for_max_wait() -> None:
    """
    One is within all places and wants the inner tool's; one has that, and waits for all.
    """
    orch, service = limited("none", None, orch={"limits": LimitPolicy(max_concurrent=1)})
    inner = LimitPolicy(max_concurrent=1, max_wait=10)
    service.offer(orch.registry, "inner", policy=ToolPolicy(limits=inner))
    said: dict[str, str] = {}

    async def outer() -> str:
        await anyio.sleep(1)
        service.behaviour = succeed
        return await orch.dispatch("inner")

    async def one(name: str) -> None:
        said[name] = await orch.dispatch(name)

    service.behaviour = outer
    async with anyio.create_task_group() as tasks:
        await one_by_one(tasks, [lambda: one("tool"), lambda: one("inner")])
    assert json.loads(said["tool"])["limit"] == "concurrency"
    assert said["inner"] == "fine"
    assert anyio.current_time() == pytest.approx(11)
    assert_free(orch)


async def test_a_call_from_within_takes_a_turn_of_its_own() -> None:
    orch, service = limited("group", TWO_AN_HOUR, clock=HandClock())
    service.offer(orch.registry, "inner", policy=ToolPolicy(group="g"))
    depth = 0

    async def deeper() -> Any:
        nonlocal depth
        depth += 1
        return await orch.dispatch("inner")

    service.behaviour = deeper
    assert "may not be called that often" in await orch.dispatch("tool")
    assert depth == 2


async def test_a_task_that_outlives_its_call_may_not_pass_any_more() -> None:
    orch, service = limited("group", LimitPolicy(max_concurrent=1, max_wait=1e6))
    service.offer(orch.registry, "inner", policy=ToolPolicy(group="g"))
    go_on, said = anyio.Event(), []

    async def later() -> None:
        await go_on.wait()
        said.append(await orch.dispatch("inner"))

    async with anyio.create_task_group() as tasks:

        async def outer() -> str:
            tasks.start_soon(later)
            await checkpoint()
            return "begun"

        service.behaviour = outer
        assert await orch.dispatch("tool") == "begun"
        service.behaviour = door = Door()
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        go_on.set()
        await when_blocked()
        assert (taken(orch), waiting(orch), said) == (1, 1, [])
        door.open.set()
    assert said == ["fine"]
    assert service.most_running == 1
    assert_free(orch)


async def test_nothing_of_a_call_stays_in_its_callers_context() -> None:
    """
    Else a caller would pass with a place that it has not any more.
    """
    orch, service = limited("all", NO_WAIT)
    before = contextvars.copy_context()
    await orch.dispatch("tool")
    service.behaviour = fail
    await orch.dispatch("tool")
    after = contextvars.copy_context()
    assert {each: before.get(each) for each in before} == {
        each: after.get(each) for each in after
    }


async def test_what_is_closed_in_another_context_leaves_that_as_it_was() -> None:
    """
    As by the garbage collector, in the middle of somebody's call.
    """
    orch, service = limited("all", LimitPolicy(max_concurrent=2, max_queue=0))
    service.behaviour = hang
    dropped = orch.dispatch("tool")

    contextvars.copy_context().run(dropped.send, None)
    assert taken(orch) == 1
    [gate] = gates(orch)
    limit = gate.limit
    assert limit is not None

    async def outer() -> str:
        service.behaviour = succeed
        dropped.close()
        # Its place is taken anew, so that the inner call has none but that of the outer.
        assert limit.take()
        return await orch.dispatch("tool")

    service.behaviour = outer
    assert await orch.dispatch("tool") == "fine"
    limit.release()
    assert_free(orch)


# With the other parts


@virtual_time
async def test_nothing_is_held_between_two_attempts() -> None:
    retry = RetryPolicy(attempts=2, wait_initial=50, wait_max=50, wait_jitter=0)
    policy = ToolPolicy(retry=retry)
    orch, service = limited("tool", NO_WAIT, policy=policy, idempotent=True)
    outcomes = iter([fail, succeed, succeed])

    async def next_one() -> Any:
        return await next(outcomes)()

    service.behaviour = next_one
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await anyio.sleep(10)
        assert taken(orch) == 0
        assert await orch.dispatch("tool") == "fine"
    assert service.runs == 3
    assert_free(orch)


@virtual_time
async def test_each_attempt_takes_a_turn() -> None:
    retry = RetryPolicy(attempts=3, wait_initial=1, wait_jitter=0)
    orch, service = limited(
        "tool", ENDLESS, policy=ToolPolicy(retry=retry), idempotent=True
    )
    service.behaviour = fail
    await orch.dispatch("tool")
    assert service.runs == 3
    assert left(orch) == 2


@virtual_time
async def test_what_a_limit_refused_is_tried_again_for_any_tool() -> None:
    retry = RetryPolicy(attempts=3, wait_initial=0.1, wait_max=50, wait_jitter=0)
    limits = LimitPolicy(calls=1, seconds=40, max_wait=0)
    orch, service = limited("tool", limits, policy=ToolPolicy(retry=retry))
    await orch.dispatch("tool")
    result = await orch.run("tool")
    assert (result.content, result.attempts) == ("fine", 1)
    assert anyio.current_time() == pytest.approx(40)
    assert service.runs == 2
    assert orch.stats("tool").retries == 1
    assert_free(orch)


@virtual_time
async def test_a_retry_does_not_queue_once_calls_are_taken_no_more() -> None:
    retry = RetryPolicy(attempts=2, wait_initial=5, wait_jitter=0)
    limits = LimitPolicy(max_concurrent=1, max_wait=1e6)
    orch, service = limited("tool", limits, policy=ToolPolicy(retry=retry), idempotent=True)
    service.behaviour = fail
    results: list[Any] = []

    async def one() -> None:
        results.append(await orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        await anyio.sleep(1)
        await orch.drain()
        limit = gates(orch)[0].limit
        assert limit is not None
        assert limit.take()
    assert anyio.current_time() == pytest.approx(5)
    assert isinstance(results[0].error, ConnectionError)  # the outcome of the one that ran
    assert limit is not None
    limit.release()
    assert service.runs == 1
    assert_free(orch)


async def test_a_fallback_answers_where_a_limit_refuses_and_the_place_is_not_held() -> None:
    policy = ToolPolicy(fallback="other")
    orch, service = limited("tool", NO_WAIT, policy=policy)
    service.offer(orch.registry, "other", policy=ToolPolicy(fallback=None))
    service.behaviour = door = Door()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        service.behaviour = succeed
        result = await orch.run("tool")
        assert (result.content, result.source) == ("fine", "other")
        door.open.set()
    assert_free(orch)


async def test_a_guard_is_asked_before_anything_is_taken() -> None:
    seen = []

    async def guard(call: ToolCall, context: ToolContext) -> str | None:
        await checkpoint()
        seen.append(taken(orch))
        return "no" if len(seen) == 1 else None

    policy = ToolPolicy(guard=guard)
    orch, _ = limited("tool", TWO_AN_HOUR, policy=policy, clock=HandClock())
    assert json.loads(await orch.dispatch("tool"))["refused"]
    assert turns_left(gates(orch)[0], 1000) == 2
    assert await orch.dispatch("tool") == "fine"
    assert seen == [0, 0]


# Draining and waiting


@SCOPES
async def test_who_waits_while_calls_are_drained_is_refused_as_the_place_comes(
    scope: str,
) -> None:
    orch, service = limited(scope, LimitPolicy(max_concurrent=1, max_wait=1e6))
    service.behaviour = door = Door()
    results, drained = [], []

    async def one() -> None:
        results.append(await orch.run("tool"))

    async def drain() -> None:
        await orch.drain()
        drained.append(len(results))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(one)
        await when_blocked()
        tasks.start_soon(drain)
        await when_blocked()
        assert drained == []
        assert json.loads(await orch.dispatch("tool"))["draining"]  # does not queue
        door.open.set()
    assert len(drained) == 1
    kinds = [type(each.error) for each in results]
    assert kinds.count(DrainingError) == 3
    assert service.runs == 1
    assert_free(orch)
    orch.resume()
    assert await orch.dispatch("tool") == "fine"


async def test_who_still_waits_when_calls_are_taken_again_goes_on() -> None:
    orch, service = limited("tool", LimitPolicy(max_concurrent=1, max_wait=1e6))
    service.behaviour = door = Door()

    async def drain() -> None:
        with pytest.raises(OrchestratorError, match="resume"):
            await orch.drain()

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        tasks.start_soon(drain)
        await when_blocked()
        orch.resume()
        await when_blocked()
        door.open.set()
    assert service.runs == 2
    assert_free(orch)


async def test_waiting_for_a_tool_waits_for_its_circuit_and_not_for_its_limits() -> None:
    orch, service = limited("tool", NO_WAIT)
    service.behaviour = door = Door()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        await orch.wait_available("tool")
        assert taken(orch) == 1
        door.open.set()


@virtual_time
async def test_tools_that_share_a_circuit_have_limits_of_their_own() -> None:
    orch, service = limited("tool", NO_WAIT, circuit="db")
    service.offer(orch.registry, "other", policy=ToolPolicy(limits=NO_WAIT), circuit="db")
    service.behaviour = door = Door()
    async with anyio.create_task_group() as tasks:
        for name in ("tool", "other"):
            tasks.start_soon(orch.dispatch, name)
        await when_blocked()
        assert service.running == 2
        door.open.set()
    service.behaviour = fail
    for name in ("tool", "other", "tool"):
        await orch.dispatch(name)
    assert json.loads(await orch.dispatch("other"))["circuit_breaker"]
    assert_free(orch)


# Other settings while calls run


def reload(orch: ToolOrchestrator, scope: str, limits: LimitPolicy | None) -> None:
    """
    Go on with these limits, wherever they were set.
    """
    if scope == "tool":
        orch.reload(policy=ToolPolicy(limits=limits))
    elif scope == "group":
        orch.reload(groups={} if limits is None else {"g": limits})
    else:
        orch.reload(limits=limits)


def reloadable(scope: str, limits: LimitPolicy) -> tuple[ToolOrchestrator, Service]:
    """
    The same as ``limited``, but a tool's own limits come from the orchestrator's policy.
    """
    if scope == "tool":
        return limited("none", None, orch={"policy": ToolPolicy(limits=limits)})
    return limited(scope, limits)


@SCOPES
@pytest.mark.parametrize("to", [3, None])
async def test_who_waits_is_let_in_at_once_where_there_is_room_now(
    scope: str, to: int | None
) -> None:
    orch, service = reloadable(scope, LimitPolicy(max_concurrent=1, max_wait=1e6))
    service.behaviour = door = Door()
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        assert service.running == 1
        reload(orch, scope, None if to is None else LimitPolicy(max_concurrent=to))
        await when_blocked()
        # Of a group that is gone, its tools cannot be used.
        assert service.running == (3 if to else 1 if scope == "group" else 4)
        door.open.set()
    assert_free(orch)


@SCOPES
async def test_places_that_are_taken_count_after_a_reload_too(scope: str) -> None:
    orch, service = reloadable(scope, LimitPolicy(max_concurrent=3))
    service.behaviour = door = Door()
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        reload(orch, scope, LimitPolicy(max_concurrent=2, max_wait=0))
        assert "busy: 2 of 2 calls" in await orch.dispatch("tool")
        reload(orch, scope, None)
        reload(orch, scope, LimitPolicy(max_concurrent=3, max_wait=0))
        assert "busy: 3 of 3 calls" in await orch.dispatch("tool")
        door.open.set()
    assert await orch.dispatch("tool") == "fine"
    assert_free(orch)


async def test_a_place_is_its_calls_own_also_after_its_limit_was_off() -> None:
    orch, service = reloadable("all", NO_WAIT)
    service.offer(orch.registry, "inner")

    async def outer() -> str:
        service.behaviour = succeed
        orch.reload(limits=None)
        orch.reload(limits=NO_WAIT)
        return await orch.dispatch("inner")

    service.behaviour = outer
    assert await orch.dispatch("tool") == "fine"
    assert_free(orch)


@virtual_time
@SCOPES
@pytest.mark.parametrize("to", [5, None])
async def test_who_waits_for_a_turn_goes_sooner_by_a_new_rate(
    scope: str, to: int | None
) -> None:
    slow = LimitPolicy(calls=1, seconds=100, max_wait=1e6)
    orch, service = reloadable(scope, slow)
    times = []

    async def one() -> None:
        result = await orch.run("tool")
        times.append((round(anyio.current_time()), result.ok))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(one)
        await anyio.sleep(10)
        policy = None if to is None else LimitPolicy(calls=1, seconds=to, max_wait=1e6)
        reload(orch, scope, policy)
    if to is not None:
        assert times == [(0, True), (14, True), (20, True), (24, True)] or (
            [ok for _, ok in times] == [True] * 4 and times[-1][0] <= 10 + 3 * to
        )
    else:
        # Of a group that is gone, its tools cannot be used.
        assert times == [(0, True), *[(10, scope != "group")] * 3]
    assert service.runs == sum(ok for _, ok in times)
    assert_free(orch)


@virtual_time
async def test_a_rate_that_goes_as_it_refuses_still_has_an_answer() -> None:
    """
    Who is refused by a reload may wake when there is no rate any more.
    """
    orch, _ = reloadable("all", LimitPolicy(calls=1, seconds=100, max_wait=1e6))
    results: list[Any] = []

    async def one() -> None:
        results.append(await orch.run("tool"))

    await orch.dispatch("tool")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        await when_blocked()
        orch.reload(limits=LimitPolicy(calls=1, seconds=100, max_wait=0))
        orch.reload(limits=None)
    [result] = results
    assert isinstance(result.error, LimitExceededError)
    assert_free(orch)


async def test_a_gate_that_limits_only_a_rate_is_followed_by_those_of_places() -> None:
    registry, inside, end = Registry(), [], anyio.Event()

    @registry.tool(policy=ToolPolicy(limits=LimitPolicy(calls=100, seconds=1)))
    async def tool() -> None:
        inside.append(1)
        await end.wait()

    orch = ToolOrchestrator(registry, limits=LimitPolicy(max_concurrent=1, max_queue=0))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        with anyio.fail_after(5):
            result = await orch.run("tool")
        end.set()
    assert isinstance(result.error, LimitExceededError)
    assert (result.error.scope, inside) == ("all tools", [1])
    assert_free(orch)


@virtual_time
async def test_nobody_waits_for_a_turn_past_a_deadline_of_his_own_however_late_it_is() -> (
    None
):
    registry = Registry()

    @registry.tool(policy=ToolPolicy(limits=LimitPolicy(calls=1, seconds=30, max_wait=100)))
    async def tool() -> str:
        return "fine"

    orch = ToolOrchestrator(registry, clock=anyio.current_time)
    await anyio.sleep(1000)
    assert (await orch.run("tool")).ok
    began = anyio.current_time()
    with anyio.fail_after(10):
        result = await orch.run("tool")
    assert isinstance(result.error, LimitExceededError)
    assert anyio.current_time() == began


@pytest.mark.parametrize(
    "limits",
    [
        LimitPolicy(max_concurrent=1, max_queue=200, max_wait=1e6),
        LimitPolicy(calls=1, seconds=1e5, max_wait=1e9),
    ],
    ids=["places", "rate"],
)
async def test_all_who_wait_go_on_when_there_is_no_limit_any_more(
    limits: LimitPolicy,
) -> None:
    registry, inside, end = Registry(), [], anyio.Event()

    @registry.tool
    async def tool(number: int) -> None:
        inside.append(number)
        await end.wait()

    orch = ToolOrchestrator(registry, limits=limits)
    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(orch.dispatch, "tool", {"number": number})
        await when_blocked()
        assert len(inside) == 1
        orch.reload(limits=None)
        for _ in range(5):
            await when_blocked()
        went_on = len(inside)
        end.set()
    assert went_on == 100
    assert_free(orch)


async def test_what_was_used_of_a_rate_is_so_after_a_reload() -> None:
    clock = HandClock()
    orch, service = limited("all", TWO_AN_HOUR, clock=clock)
    for _ in range(2):
        await orch.dispatch("tool")
    orch.reload(failure_threshold=7)
    assert "often" in await orch.dispatch("tool")
    # Also where no tool is left that has it.
    orch.registry.remove("tool")
    gc.collect()
    service.offer(orch.registry, "tool")
    assert "often" in await orch.dispatch("tool")
    orch.reload(limits=LimitPolicy(calls=3, seconds=HOUR, max_wait=0))
    assert await orch.dispatch("tool") == "fine"
    assert "often" in await orch.dispatch("tool")


async def test_a_call_whose_guard_outlasts_the_drain_takes_no_place() -> None:
    asked, agreed = anyio.Event(), anyio.Event()

    async def guard(call: ToolCall, context: ToolContext) -> None:
        asked.set()
        await agreed.wait()

    registry, runs = Registry(), []
    policy = ToolPolicy(
        guard=guard, limits=LimitPolicy(max_concurrent=1, calls=1, seconds=9)
    )

    @registry.tool(policy=policy)
    async def tool() -> None:
        runs.append(taken(orch))

    orch = ToolOrchestrator(registry, clock=HandClock())
    results = []

    async def one() -> None:
        results.append(await orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        await asked.wait()
        await orch.drain()
        agreed.set()
    assert isinstance(results[0].error, DrainingError)
    assert runs == []
    orch.resume()
    assert (await orch.run("tool")).ok  # there is a place, and a turn
    assert runs == [1]


async def test_a_clock_that_fails_before_the_queue_has_an_answer() -> None:
    class Clock(HandClock):
        is_broken = False

        def __call__(self) -> float:
            if self.is_broken:
                raise OSError("no time")
            return super().__call__()

    clock = Clock()
    orch, service = limited("tool", LimitPolicy(max_concurrent=1), clock=clock)
    orch.circuit("tool").trip()
    clock.is_broken = True
    result = await orch.run("tool")
    assert isinstance(result.error, OrchestratorError)
    assert "cannot be called" in result.content
    clock.is_broken = False
    assert service.runs == 0
    assert_free(orch)


async def test_the_limits_of_a_tool_go_with_it() -> None:
    orch, _ = limited("tool", TWO_AN_HOUR, clock=HandClock())
    await orch.dispatch("tool")
    assert len(gates(orch)) == 1
    orch.registry.remove("tool")
    gc.collect()
    assert gates(orch) == []


async def test_what_nobody_has_any_more_is_not_kept() -> None:
    orch, _ = limited("group", TWO_AN_HOUR, clock=HandClock())
    await orch.dispatch("tool")
    assert len(orch._surroundings._lasting) == 1
    orch.registry.remove("tool")
    orch.reload(groups={})
    gc.collect()
    assert gates(orch) == []
    assert orch._surroundings._lasting == {}


async def test_a_reload_that_gives_no_limits_leaves_them() -> None:
    orch, _ = limited("all", TWO_AN_HOUR, clock=HandClock())
    orch.reload()
    said = [await orch.dispatch("tool") for _ in range(3)]
    assert ["often" in each for each in said] == [False, False, True]


async def test_a_reload_works_where_no_loop_runs() -> None:
    orch, service = limited("all", LimitPolicy(max_concurrent=1, calls=3, seconds=9))

    def outside() -> None:
        orch.reload(limits=LimitPolicy(max_concurrent=2, calls=5, seconds=9))

    service.behaviour = door = Door()
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        thread = threading.Thread(target=outside)
        thread.start()
        while thread.is_alive() or service.running < 2:
            await checkpoint()
        door.open.set()
    assert_free(orch)


# Groups that are not there


async def test_a_group_that_is_not_there_makes_its_tools_unusable(
    caplog: pytest.LogCaptureFixture,
) -> None:
    orch, service = limited("group", ONE, orch={})
    service.offer(orch.registry, "stray", policy=ToolPolicy(group="h", limits=ONE))
    service.offer(orch.registry, "plain")
    with caplog.at_level("ERROR"):
        for _ in range(2):
            told = json.loads(await orch.dispatch("stray"))
    assert told["error_type"] == "OrchestratorError"
    assert "stray cannot be called" in told["error"]
    assert "'h'" not in told["error"]
    [record] = caplog.records
    assert "stray: group='h': the orchestrator's groups are g" in record.getMessage()
    result = await orch.run("stray")
    assert type(getattr(result.error, "__cause__", None)) is ValueError
    assert await orch.dispatch("plain") == "fine"
    assert await orch.dispatch("tool") == "fine"
    assert orch.circuit("stray").state == "closed"
    # It is there from now on, and the other is not.
    orch.reload(groups={"h": ONE})
    assert await orch.dispatch("stray") == "fine"
    assert "cannot be called" in await orch.dispatch("tool")
    orch.reload(groups={})
    cause = (await orch.run("tool")).error
    assert "the orchestrator's groups are none" in str(cause and cause.__cause__)
    assert_free(orch)


async def test_a_group_that_goes_while_its_calls_wait_loses_nothing() -> None:
    orch, service = limited("group", LimitPolicy(max_concurrent=1, max_wait=1e6))
    service.behaviour = door = Door()
    results: list[Any] = []

    async def one() -> None:
        results.append(await orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(one)
        await when_blocked()
        orch.reload(groups={})
        await when_blocked()
        assert len(results) == 2  # let in, and turned away
        orch.reload(groups={"g": NO_WAIT})
        assert json.loads(await orch.dispatch("tool"))["limit"] == "concurrency"
        door.open.set()
    assert [each.ok for each in results] == [False, False, True]
    assert await orch.dispatch("tool") == "fine"
    assert_free(orch)


# Tools that are replaced or removed


@pytest.mark.parametrize("surrounded", [True, False])
async def test_a_call_whose_tool_was_replaced_in_the_queue_runs_neither(
    surrounded: bool,
) -> None:
    """
    Its arguments were made for the other one, and nobody has asked the guard of this one.
    """
    clock = HandClock()
    limits = LimitPolicy(max_concurrent=1, calls=5, seconds=1e9)
    orch, service = limited("tool", limits, clock=clock)
    service.behaviour = door = Door()
    asked: list[int] = []
    results: list[Any] = []

    def guard(call: ToolCall, context: ToolContext) -> str | None:
        asked.append(taken(orch))
        return None

    async def one() -> None:
        results.append(await orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(one)
        await when_blocked()
        [gate] = gates(orch)
        policy = ToolPolicy(limits=limits, guard=guard) if surrounded else ToolPolicy()

        @orch.registry.tool(name="tool", policy=policy, replace=True)
        async def after(amount: int = 1) -> str:
            return "after"

        if not surrounded:
            assert await orch.dispatch("tool") == "after"  # it has no limits
        door.open.set()
    assert sorted(each.content == "fine" for each in results) == [False, False, True]
    for each in results:
        if each.content != "fine":
            assert "was replaced while the call waited" in each.content
            assert each.attempts == 0
            assert type(each.error) is OrchestratorError
    assert asked == []
    assert turns_left(gate, clock()) == 4
    assert await orch.dispatch("tool", {"amount": 2}) == "after"
    assert asked == ([0] if surrounded else [])
    assert_free(orch)


async def test_a_reload_in_the_queue_is_no_replacement() -> None:
    orch, service = limited("tool", LimitPolicy(max_concurrent=1, max_wait=1e6))
    service.behaviour = door = Door()
    said: list[str] = []

    async def one() -> None:
        said.append(await orch.dispatch("tool"))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(one)
        await when_blocked()
        orch.reload(timeout=1000)
        door.open.set()
    assert said == ["fine"] * 3
    assert_free(orch)


async def test_a_tool_that_was_removed_and_came_again_has_the_places_of_its_calls() -> None:
    orch, service = limited("tool", NO_WAIT)
    service.behaviour = door = Door()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        orch.registry.remove("tool")
        assert json.loads(await orch.dispatch("tool"))["unknown_tool"]
        service.offer(orch.registry, policy=ToolPolicy(limits=NO_WAIT))
        assert json.loads(await orch.dispatch("tool"))["limit"] == "concurrency"
        door.open.set()
    assert await orch.dispatch("tool") == "fine"
    assert_free(orch)


# Loops one after another


def test_places_and_turns_hold_from_one_loop_to_the_next() -> None:
    limits = LimitPolicy(max_concurrent=1, calls=4, seconds=1e6, max_wait=0)
    orch, service = limited("all", limits, clock=time.monotonic)

    async def once() -> list[str]:
        service.behaviour = door = Door()
        said = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(orch.dispatch, "tool")
            await when_blocked()
            said.append(await orch.dispatch("tool"))
            door.open.set()
        return said

    for backend in ("asyncio", "trio", "asyncio", "trio"):
        assert "busy" in anyio.run(once, backend=backend)[0]
        assert_free(orch)
    service.behaviour = succeed
    assert "often" in anyio.run(orch.dispatch, "tool")
    assert service.runs == 4


def test_a_loop_that_was_dropped_in_the_middle_holds_nobody_up() -> None:
    orch, service = limited("all", LimitPolicy(max_concurrent=1, calls=9, seconds=1e6))
    service.behaviour = hang
    loop = AutojumpEventLoop()
    tasks = [loop.create_task(orch.dispatch("tool")) for _ in range(3)]
    for _ in range(20):
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert (taken(orch), waiting(orch)) == (1, 2)
    service.behaviour = succeed

    async def next_one() -> str:
        [gate] = gates(orch)
        assert gate.limit is not None
        gate.limit.release()  # as if the one that ran had been closed
        said = await orch.dispatch("tool")
        assert gate.limit.take()
        return said

    assert anyio.run(next_one) == "fine"
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()
    assert_free(orch)
    assert anyio.run(orch.dispatch, "tool") == "fine"


# The short path


async def test_a_tool_without_limits_takes_the_short_path() -> None:
    orch, service = limited("none", None, orch={"groups": {"g": ONE}})
    service.offer(orch.registry, "grouped", policy=ToolPolicy(group="g"))
    assert await orch.dispatch("tool") == "fine"
    assert await orch.dispatch("grouped") == "fine"
    entries = orch._fleet.entries
    assert entries["tool"].simple
    assert entries["tool"].around is None
    assert not entries["grouped"].simple
    assert entries["grouped"].around is not None
    orch.reload(limits=ONE)
    assert await orch.dispatch("tool") == "fine"
    assert entries["tool"].around is not None
    orch.reload(limits=None)
    assert await orch.dispatch("tool") == "fine"
    assert entries["tool"].simple
    assert entries["tool"].around is None


@virtual_time
async def test_a_limit_that_lets_a_call_in_awaits_nothing() -> None:
    """
    From the caller's await to the tool's own, nothing else gets a turn.
    """
    limits = LimitPolicy(max_concurrent=1, calls=1, seconds=1)
    orch, service = limited("tool", limits, orch={"limits": limits})
    turns = 0
    seen: list[int] = []

    async def count() -> None:
        nonlocal turns
        while not seen:
            turns += 1
            await checkpoint()

    async def note() -> None:
        seen.append(turns)

    service.behaviour = note
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        await checkpoint()
        before = turns
        await orch.dispatch("tool")
    assert seen == [before]


# What may be set


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_concurrent", 0),
        ("max_concurrent", True),
        ("max_concurrent", 1.5),
        ("max_queue", -1),
        ("max_queue", 1.0),
        ("calls", 0),
        ("calls", 10**9 + 1),
        ("seconds", 0),
        ("seconds", float("nan")),
        ("seconds", 1e11),
        ("burst", 0),
        ("burst", 10**9 + 1),
        ("max_wait", -1),
        ("max_wait", float("inf")),
        ("max_wait", "3"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_by_name(field: str, value: Any) -> None:
    base: dict[str, Any] = {} if field == "calls" else {"calls": 5}
    with pytest.raises(ValueError, match=field):
        LimitPolicy(**{**base, field: value})


def test_what_makes_no_sense_together_is_refused() -> None:
    with pytest.raises(ValueError, match="burst"):
        LimitPolicy(burst=3)
    with pytest.raises(ValueError, match="calls"):
        LimitPolicy(calls=10**9, seconds=0.5)


@pytest.mark.parametrize(
    "policy",
    [
        LimitPolicy(max_concurrent=10**30, max_queue=10**30, max_wait=10**300),
        LimitPolicy(calls=10**9, seconds=1, burst=10**9, max_wait=10**300),
        LimitPolicy(calls=1, seconds=1e-9, burst=1),
        LimitPolicy(calls=1, seconds=10**10),
        LimitPolicy(),
    ],
)
async def test_whatever_may_be_set_works(policy: LimitPolicy) -> None:
    orch, _ = limited("tool", policy, orch={"limits": policy}, clock=HandClock())
    assert await orch.dispatch("tool") == "fine"
    assert_free(orch)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("limits", 3, TypeError),
        ("groups", [ONE], TypeError),
        ("groups", {"g": 3}, ValueError),
        ("groups", {"g": None}, ValueError),
    ],
)
def test_what_an_orchestrator_cannot_have_is_refused(
    name: str, value: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=name):
        ToolOrchestrator(Registry(), **{name: value})
    orch = ToolOrchestrator(Registry(), limits=ONE, groups={"g": ONE})
    with pytest.raises(kind, match=name):
        orch.reload(failure_threshold=9, **{name: value})
    assert orch._shared.limits is ONE
    assert orch._fleet._policy.breaker.failure_threshold != 9


def test_a_tool_cannot_have_limits_or_a_group_of_another_kind() -> None:
    with pytest.raises(ValueError, match="limits"):
        ToolPolicy(limits=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="group"):
        ToolPolicy(group=3)  # type: ignore[arg-type]


# All parts at once


class Storm:
    """
    Many callers of a few tools that have every part, and what is left of them.
    """

    def __init__(self, seed: int, limits: LimitPolicy, many: int = 1000) -> None:
        self.random = random.Random(seed)
        self.many = many
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.runs = 0
        self.ends = {"finished": 0, "cancelled": 0}
        registry = Registry()
        self.policy = LimitPolicy(
            max_concurrent=4, max_queue=200, calls=500, seconds=1e9, max_wait=60
        )
        policy = ToolPolicy(
            limits=self.policy,
            group="g",
            timeout=20,
            total_timeout=90,
            retry=RetryPolicy(
                attempts=3, wait_initial=0.5, jitter_source=random.Random(seed).random
            ),
            guard=self.guard,
            fallback=lambda call, result: "made up",
            breaker=BreakerPolicy(
                window_calls=20,
                window_seconds=30,
                failure_rate=0.7,
                slow_duration=15,
                reset_timeout=10,
                max_keys=3,
            ),
        )
        for name in ("a", "b"):
            registry.tool(
                name=name,
                policy=policy,
                idempotent=name == "a",
                circuit=lambda arguments, context: context.data["host"],
            )(self.tool(name))
        self.orch = ToolOrchestrator(
            registry,
            clock=anyio.current_time,
            limits=limits,
            groups={"g": LimitPolicy(max_concurrent=6, max_queue=300, max_wait=60)},
            retry_budget=BudgetPolicy(share=0.5),
        )

    def tool(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def behave(context: ToolContext) -> Any:
            self.runs += 1
            self.running[name] = self.running.get(name, 0) + 1
            self.most[name] = max(self.most.get(name, 0), self.running[name])
            total = sum(self.running.values())
            self.most["all"] = max(self.most.get("all", 0), total)
            try:
                await anyio.sleep(self.random.choice([0, 0.1, 1, 16, 30]))
                chance = self.random.random()
                if chance < 0.3:
                    raise ConnectionError("down")
                if chance < 0.4 and not context.data.get("within"):
                    # From within: only what the call has not passed yet.
                    other = "b" if name == "a" else "a"
                    return await self.orch.dispatch(
                        other, host=context.data["host"], within=True
                    )
            finally:
                self.running[name] -= 1
            return "well"

        return behave

    async def guard(self, call: ToolCall, context: ToolContext) -> str | None:
        await checkpoint()
        return "no" if self.random.random() < 0.05 else None

    async def one(self, name: str, host: str, patience: float, delay: float) -> None:
        await anyio.sleep(delay)
        with anyio.move_on_after(patience) as scope:
            answer = self.random.choice([self.orch.dispatch, self.orch.run, self.orch.call])
            with suppress(Exception):
                await answer(name, host=host)
        self.ends["cancelled" if scope.cancelled_caught else "finished"] += 1

    async def rage(self) -> None:
        draw = self.random
        async with anyio.create_task_group() as tasks:
            for _ in range(self.many):
                tasks.start_soon(
                    self.one,
                    draw.choice("ab"),
                    draw.choice("vwxyz"),
                    draw.choice([0, 0.05, 1, 10, 1e6]),
                    draw.choice([0, 0, 1, 20, 50]),
                )

    def assert_calm(self) -> None:
        orch = self.orch
        assert_free(orch)
        assert not any(self.running.values())
        now = anyio.current_time()
        for name in ("a", "b"):
            gate = orch._surroundings._gates.get(("tool", name))
            calls = orch.stats(name).calls if gate else 0
            if gate:
                assert turns_left(gate, now) == max(0, 500 - calls)
        for circuit in orch._fleet.all_circuits():
            assert circuit.holders == 0
            assert circuit.waiters is None
            assert circuit.breaker.probe is None
        for keyed in orch._fleet.keyed.values():
            assert all(place.shelf is not None for place in keyed._places.values())


@virtual_time
@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_left_of_a_thousand_callers(seed: int) -> None:
    storm = Storm(seed, LimitPolicy(max_concurrent=8, max_queue=500, max_wait=60))
    await storm.rage()
    storm.assert_calm()
    assert sum(storm.ends.values()) == 1000
    assert storm.ends["cancelled"] > 100
    assert storm.runs > 50
    assert storm.most["all"] <= 12


@given(
    seed=st.integers(0, 10**6),
    many=st.integers(1, 40),
    size=st.integers(1, 6),
    queue=st.integers(0, 30),
    calls=st.integers(1, 50),
    wait=st.sampled_from([0, 1, 30, 1e6]),
)
@settings(max_examples=40)
@example(seed=1, many=40, size=1, queue=0, calls=1, wait=0)
@virtual_time
async def test_nothing_is_left_of_any_schedule(
    seed: int, many: int, size: int, queue: int, calls: int, wait: float
) -> None:
    limits = LimitPolicy(
        max_concurrent=size, max_queue=queue, calls=calls, seconds=10, max_wait=wait
    )
    with shuffled(seed):
        storm = Storm(seed, limits, many)
        await storm.rage()
    storm.assert_calm()
    await anyio.sleep(1e4)
    results = [await storm.orch.run("a", host="fresh") for _ in range(3)]
    assert not any(isinstance(each.error, LimitExceededError) for each in results)
