"""
What tools of all kinds do to the one who runs them, and what becomes of it.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import json
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, assert_type

import anyio
import anyio.from_thread
import pydantic
import pytest
from anyio import wait_all_tasks_blocked

from orchestrator_async import (
    BreakerPolicy,
    CircuitChanged,
    InvalidArgumentsError,
    Outcome,
    Registry,
    Tool,
    ToolCall,
    ToolOrchestrator,
    ToolPolicy,
    Verdict,
    any_error,
)

from .clock import real_time


class HandClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# The time of a tool is not that of making its value text


class Slow:
    """
    A value that takes a while to become text, on a clock that is moved by hand.
    """

    def __init__(self, clock: HandClock, seconds: float) -> None:
        self.clock, self.seconds, self.times = clock, seconds, 0

    def rows(self) -> Iterator[int]:
        self.times += 1
        self.clock.now += self.seconds
        yield 1


async def test_a_value_that_is_slow_to_become_text_is_on_time_and_made_once() -> None:
    clock, registry = HandClock(), Registry()
    slow = Slow(clock, 60.0)

    @registry.tool
    async def tool() -> object:
        return {"rows": slow.rows()}

    orch = ToolOrchestrator(registry, timeout=30, clock=clock)
    for turn in range(1, 5):
        assert json.loads(await orch.dispatch("tool")) == {"rows": [1]}
        assert slow.times == turn
    figures = orch.get_fleet_stats()["tool"]
    assert (figures["state"], figures["timeouts"], figures["avg_time"]) == ("closed", 0, 0)


async def test_a_value_that_breaks_half_way_is_not_tried_again() -> None:
    registry = Registry()

    def rows() -> Iterator[int]:
        yield 1
        raise ConnectionError("the cursor was gone")

    @registry.tool
    async def tool() -> object:
        return {"rows": rows()}

    orch = ToolOrchestrator(registry)
    for _ in range(3):
        assert "cannot be made JSON" in json.loads(await orch.dispatch("tool"))["error"]
    assert orch.circuit("tool").state == "open"


# Threads


@real_time
async def test_a_thread_can_ask_whether_its_call_was_given_up() -> None:
    registry = Registry()

    @registry.tool
    def tool() -> str:
        anyio.from_thread.check_cancelled()
        return "fine"

    assert await ToolOrchestrator(registry).dispatch("tool") == "fine"


@pytest.mark.parametrize("anyio_backend", ["asyncio", "asyncio+uvloop"], indirect=True)
async def test_a_call_out_of_a_thread_is_cancelled_with_it() -> None:
    registry = Registry()
    begun, ended = anyio.Event(), anyio.Event()

    @registry.tool
    async def inner() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    @registry.tool
    def outer() -> Any:
        return anyio.from_thread.run(orch.dispatch, "inner")

    orch = ToolOrchestrator(registry)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "outer")
        await begun.wait()
        tasks.cancel_scope.cancel()
    with anyio.fail_after(10):
        await ended.wait()


@real_time
async def test_a_generator_function_runs_in_its_thread() -> None:
    registry = Registry()
    threads = []

    @registry.tool
    def rows(fail: bool) -> Iterator[int]:
        import threading

        threads.append(threading.current_thread() is threading.main_thread())
        yield 1
        if fail:
            raise ConnectionError("the cursor was gone")

    orch = ToolOrchestrator(registry)
    assert await orch.dispatch("rows", {"fail": False}) == "[1]"
    assert json.loads(await orch.dispatch("rows", {"fail": True}))["error_type"] == (
        "ConnectionError"
    )
    assert threads == [False, False]


@real_time
async def test_a_generator_without_end_is_a_failure() -> None:
    registry = Registry()

    @registry.tool
    def rows() -> Iterator[int]:
        yield from itertools.count()

    @registry.tool
    async def found() -> Iterator[int]:
        return (number for number in itertools.count())

    orch = ToolOrchestrator(registry)
    for name in ("rows", "found"):
        assert "may never end" in json.loads(await orch.dispatch(name))["error"]
        assert orch.stats(name).total_failures == 1


# Types


async def test_dispatch_has_its_type() -> None:
    registry = Registry()

    @registry.tool
    async def tool() -> str:
        return "fine"

    # Seen by the type checker: a decorator that forgets the type makes it ``Any``.
    text = assert_type(await ToolOrchestrator(registry).dispatch("tool"), str)
    assert text == "fine"


# References


class Weighty:
    """
    Something in a tool's frame that can be watched.
    """


def raising(watched: list[weakref.ref[Weighty]]) -> Callable[[], Any]:
    async def tool() -> None:
        weighty = Weighty()
        watched.append(weakref.ref(weighty))
        raise ValueError("no")

    return tool


def returning(watched: list[weakref.ref[Weighty]]) -> Callable[[], Any]:
    async def tool() -> object:
        weighty = Weighty()
        watched.append(weakref.ref(weighty))
        return weighty

    return tool


@pytest.mark.parametrize("make", [raising, returning])
@pytest.mark.parametrize("answer", ["dispatch", "call", "run", "dispatch_all"])
async def test_a_failure_leaves_nothing_for_the_collector(answer: str, make: Any) -> None:
    watched: list[weakref.ref[Weighty]] = []
    registry = Registry()
    registry.tool(name="tool")(make(watched))
    orch = ToolOrchestrator(registry, failure_threshold=100)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            try:
                if answer == "dispatch_all":
                    await orch.dispatch_all([ToolCall("tool")])
                else:
                    await getattr(orch, answer)("tool")
            except ValueError:
                pass
        await anyio.lowlevel.checkpoint()
        assert [each() for each in watched] == [None] * 3
    finally:
        gc.enable()


class Owner:
    def judge(self, outcome: Outcome) -> None: ...


def owner_that_has_judged() -> weakref.ref[Owner]:
    owner, registry = Owner(), Registry()

    @registry.tool(judge=owner.judge)
    async def tool() -> None: ...

    anyio.run(ToolOrchestrator(registry).dispatch, "tool")
    return weakref.ref(owner)


def test_settings_keep_no_judge_alive() -> None:
    watched = owner_that_has_judged()
    gc.collect()
    assert watched() is None


# Odd tools and odd errors


def traced(fn: Any) -> Any:
    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await fn(*args, **kwargs)

    return wrapper


async def test_arguments_that_a_decorated_tool_cannot_bind_give_no_verdict() -> None:
    registry = Registry()

    @registry.tool(validate=False)
    @traced
    async def tool(city: str) -> str:
        if city == "odd":
            raise TypeError("from inside")
        return city

    orch = ToolOrchestrator(registry, failure_threshold=1)
    assert json.loads(await orch.dispatch("tool", {"town": "x"}))["invalid_arguments"]
    assert orch.circuit("tool").failures == 0
    await orch.dispatch("tool", {"city": "odd"})
    assert orch.circuit("tool").state == "open"


@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
async def test_a_cancellation_of_asyncio_cancels_nobody_on_trio() -> None:
    registry = Registry()

    @registry.tool
    async def tool() -> None:
        raise asyncio.CancelledError

    orch = ToolOrchestrator(registry, failure_threshold=1)
    said = json.loads(await orch.dispatch("tool"))
    assert said["error_type"] == "ToolCancelledError"
    assert orch.circuit("tool").state == "open"


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int


async def test_an_exception_that_cannot_be_changed_comes_out_as_it_is() -> None:
    registry = Registry()

    @registry.tool
    async def tool() -> None:
        raise FrozenError(3)

    orch = ToolOrchestrator(registry)
    with pytest.raises(FrozenError):
        await orch.call("tool")
    orch = ToolOrchestrator(registry, policy=ToolPolicy(control_flow=(FrozenError,)))
    with pytest.raises(FrozenError):
        await orch.dispatch("tool")


class WithMethod(pydantic.BaseModel):
    ok: bool = True

    def error(self) -> str:
        return "a method"


@dataclass
class DataWithMethod:
    ok: bool = True

    def error(self) -> str:
        return "a method"


def test_a_method_named_error_is_no_error_and_a_root_is_looked_into() -> None:
    root = pydantic.RootModel[dict[str, str]]
    assert any_error(Outcome(value=WithMethod())) is Verdict.SUCCESS
    assert any_error(Outcome(value=DataWithMethod())) is Verdict.SUCCESS
    assert any_error(Outcome(value=root({"error": "boom"}))) is Verdict.FAILURE
    assert any_error(Outcome(value=root({"output": "x"}))) is Verdict.SUCCESS


async def test_what_a_tool_says_of_bad_arguments_is_cleaned_in_names_too() -> None:
    registry = Registry()
    secret = "https://joe:hunter2@example.org"

    @registry.tool
    async def tool() -> None:
        raise InvalidArgumentsError("no", errors=[{secret: "x"}])

    assert "hunter2" not in await ToolOrchestrator(registry).dispatch("tool")


# Shared circuits


async def test_settings_of_a_tool_that_joins_a_circuit_count_at_once() -> None:
    clock, registry = HandClock(), Registry()

    async def down() -> None:
        raise ConnectionError("down")

    registry.tool(name="a", circuit="db")(down)
    orch = ToolOrchestrator(registry, clock=clock, reset_timeout=300)
    for _ in range(3):
        await orch.dispatch("a")
    policy = ToolPolicy(breaker=BreakerPolicy(probe_lease=2))
    registry.add(Tool(fn=down, name="b", circuit="db", policy=policy))
    clock.now = 300
    entered = anyio.Event()

    async def hang() -> None:
        entered.set()
        await anyio.sleep_forever()

    registry.add(Tool(fn=hang, name="a", circuit="db"), replace=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "a")
        await entered.wait()
        clock.now += 4
        assert "circuit_breaker" not in json.loads(await orch.dispatch("b"))
        tasks.cancel_scope.cancel()


async def test_the_circuit_of_a_removed_tool_says_no_more() -> None:
    registry, gate = Registry(), anyio.Event()
    events: list[object] = []

    async def tool() -> None:
        await gate.wait()
        raise ConnectionError("down")

    registry.tool(tool)
    orch = ToolOrchestrator(registry, failure_threshold=1, observers=[events.append])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await anyio.wait_all_tasks_blocked()
        registry.remove("tool")
        registry.tool(tool)
        gate.set()
    assert not [event for event in events if isinstance(event, CircuitChanged)]
    assert orch.circuit("tool").state == "closed"


async def test_a_clock_that_fails_when_a_call_ends_loses_no_permit() -> None:
    registry, asked = Registry(), 0

    def clock() -> float:
        nonlocal asked
        asked += 1
        if asked == broken:
            raise OSError("the clock is ill")
        return 0.0

    @registry.tool
    async def tool() -> str:
        return "fine"

    broken = -1
    orch = ToolOrchestrator(registry, clock=clock, observers=[lambda event: None])
    await orch.dispatch("tool")
    readings, broken = asked, 2 * asked
    await orch.dispatch("tool")
    assert asked >= broken > readings
    assert orch.stats("tool").in_flight == 0


@pytest.mark.parametrize("at", range(1, 12))
async def test_a_clock_that_fails_now_and_then_is_no_mistake_of_the_tools(at: int) -> None:
    registry = Registry()
    asked = 0

    @registry.tool
    async def well() -> str:
        return "well"

    @registry.tool
    async def ill() -> str:
        raise ValueError("ill")

    def clock() -> float:
        nonlocal asked
        asked += 1
        if asked == at:
            raise OSError("no time")
        return float(asked)

    orch = ToolOrchestrator(registry, clock=clock, failure_threshold=1)
    for name in ("well", "ill", "ill", "well", "ill"):
        assert isinstance(await orch.dispatch(name), str)
    asked = 100
    figures = orch.stats("well")
    assert (figures.total_failures, figures.in_flight) == (0, 0)
    assert figures.calls == figures.successes
    assert orch.circuit("well").failures == 0
    assert orch.stats("ill").in_flight == 0


async def test_figures_tell_the_calls_that_go_on_whoever_ends_first() -> None:
    registry = Registry()
    ends = [anyio.Event() for _ in range(4)]
    now = 0.0

    @registry.tool
    async def wait(number: int) -> str:
        await ends[number].wait()
        return "done"

    orch = ToolOrchestrator(registry, clock=lambda: now)

    async def seen() -> tuple[int, float]:
        await wait_all_tasks_blocked()
        stats = orch.stats("wait")
        assert stats.calls == stats.successes + stats.in_flight
        return stats.in_flight, stats.oldest_in_flight

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(orch.dispatch, "wait", {"number": number})
            await wait_all_tasks_blocked()
            now += 10
        assert await seen() == (3, 30)
        ends[1].set()
        assert await seen() == (2, 30)
        ends[0].set()
        assert await seen() == (1, 10)
        group.start_soon(orch.run, "wait", {"number": 3})
        await wait_all_tasks_blocked()
        now += 1
        assert await seen() == (2, 11)
        ends[2].set()
        assert await seen() == (1, 1)
        ends[3].set()
        assert await seen() == (0, 0)


def test_figures_can_be_had_where_the_loop_that_told_the_time_is_gone() -> None:
    registry = Registry()

    @registry.tool
    async def tool() -> str:
        return "done"

    orch = ToolOrchestrator(registry, clock=anyio.current_time)
    assert orch.stats("tool").oldest_in_flight == 0
    assert anyio.run(orch.dispatch, "tool") == "done"
    assert orch.stats("tool").successes == orch.get_fleet_stats()["tool"]["calls"] == 1
