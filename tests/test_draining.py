"""
Taking no calls any more, and waiting for those that are running.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.from_thread
import pytest

from orchestrator_async import (
    CallFinished,
    CallRejected,
    DrainingError,
    Event,
    OrchestratorError,
    Registry,
    RetryPolicy,
    ToolCall,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
    UnknownToolError,
    Verdict,
)

from .clock import AutojumpEventLoop, real_time, virtual_time
from .rig import run
from .support import HandClock, Service, assert_adds_up, bench, fail, trip, when_blocked

RESET = 300.0


class Slow:
    """
    A behaviour that takes so many seconds, and then does what another does.
    """

    def __init__(self, seconds: float, then: Callable[[], Any] | None = None) -> None:
        self.seconds = seconds
        self.then = then

    async def __call__(self) -> str:
        await anyio.sleep(self.seconds)
        return "fine" if self.then is None else await self.then()


def assert_watches_nothing(orch: ToolOrchestrator) -> None:
    """
    Calls cost what they did before.
    """
    for _, figures in orch._fleet._all_figures():
        assert type(figures.flights) is dict
    assert orch._entries is orch._fleet.entries


# What callers are told


@pytest.mark.parametrize("watched", [True, False])
async def test_every_call_is_refused_while_it_drains(watched: bool) -> None:
    events: list[Event] = []
    orch, service = bench(HandClock(), observers=[events.append] if watched else [])
    await orch.dispatch("tool")
    await orch.drain()
    before = orch.get_fleet_stats()
    events.clear()

    told = json.loads(await orch.dispatch("tool", call_id="1"))
    assert told["draining"] is True
    assert "retry_after" not in told
    assert "was not run" in told["error"]
    assert json.loads(await orch.dispatch("tool", user="me")) == told
    with pytest.raises(DrainingError, match="tool was not run") as caught:
        await orch.call("tool")
    assert caught.value.tool_name == "tool"
    result = await orch.run("tool")
    assert not result.ok
    assert result.attempts == 0
    assert result.verdict is Verdict.IGNORE
    assert type(result.error) is DrainingError
    assert json.loads(result.content) == told
    results = await orch.dispatch_all([ToolCall("tool", id="2"), ToolCall("none"), {}])
    assert [type(each.error).__name__ for each in results] == [
        "DrainingError",
        "UnknownToolError",
        "InvalidArgumentsError",
    ]

    assert service.runs == 1
    assert orch.get_fleet_stats() == before
    if watched:
        drained = [each for each in events if each.tool_name == "tool"]  # type: ignore[union-attr]
        assert len(drained) == 5
        assert all(type(each) is CallRejected for each in drained)
        assert {each.reason for each in drained} == {"draining"}  # type: ignore[union-attr]
        assert [each.call_id for each in drained] == ["1", None, None, None, "2"]  # type: ignore[union-attr]
    orch.resume()
    assert await orch.dispatch("tool") == "fine"
    assert_adds_up(orch)


async def test_bad_arguments_and_open_circuits_are_no_matter_while_it_drains() -> None:
    orch, service = bench(HandClock())
    await trip(orch, service)
    await orch.drain()
    assert json.loads(await orch.dispatch("tool", "["))["draining"] is True
    assert orch.stats("tool").rejected == orch.stats("tool").invalid == 0
    with pytest.raises(UnknownToolError):
        await orch.call("nothing")


async def test_a_tool_that_was_never_called_has_no_figures_after_it_was_refused() -> None:
    orch, _ = bench(HandClock())
    await orch.drain()
    await orch.dispatch("tool")
    assert orch.get_fleet_stats() == {}
    orch.resume()


async def test_a_refused_call_lets_others_have_a_turn() -> None:
    orch, _ = bench(HandClock())
    await orch.drain()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await orch.dispatch("tool")
    assert scope.cancelled_caught


@virtual_time
async def test_the_calls_of_a_turn_that_have_not_begun_are_refused() -> None:
    orch, service = bench(anyio.current_time)
    service.behaviour = Slow(10)
    results: list[Any] = []

    async def turn() -> None:
        calls = [ToolCall("tool") for _ in range(5)]
        results.extend(await orch.dispatch_all(calls, limit=2))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        await anyio.sleep(1)
        await orch.drain()
        assert anyio.current_time() == 10
        assert service.running == 0
    assert [result.ok for result in results] == [True, True, False, False, False]
    assert {type(each.error) for each in results[2:]} == {DrainingError}
    assert service.runs == 2


@virtual_time
async def test_the_calls_of_a_running_tool_are_refused_too() -> None:
    registry, told = Registry(), []
    orch = ToolOrchestrator(registry, clock=anyio.current_time)

    @registry.tool
    async def outer() -> str:
        await anyio.sleep(10)
        told.append(json.loads(await orch.dispatch("inner")))
        return "fine"

    @registry.tool
    async def inner() -> str:
        return "fine"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "outer")
        await anyio.sleep(1)
        await orch.drain()
    assert told[0]["draining"] is True
    assert orch.stats("outer").successes == 1
    assert orch.stats("inner").calls == 0


# What is waited for


async def test_with_nothing_running_it_costs_one_checkpoint() -> None:
    orch, _ = bench(HandClock())
    await orch.dispatch("tool")
    steps, ended = await run(orch.drain)
    assert ended.finished
    assert steps == (await run(anyio.lowlevel.checkpoint))[0]
    await orch.drain(timeout=0)
    orch.resume()
    assert_watches_nothing(orch)


@virtual_time
@pytest.mark.parametrize("answer", ["dispatch", "run", "call"])
@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("timeout", [None, 50])
async def test_every_kind_of_call_is_waited_for(
    answer: str, watched: bool, timeout: float | None
) -> None:
    observers = [lambda event: None] if watched else []
    orch, service = bench(anyio.current_time, observers=observers, timeout=timeout)

    async def one(seconds: float) -> None:
        service.behaviour = Slow(seconds, fail if seconds == 30 else None)
        with suppress(ConnectionError):
            await getattr(orch, answer)("tool")

    async with anyio.create_task_group() as tasks:
        for seconds in (20, 30, 10):
            tasks.start_soon(one, seconds)
            await when_blocked()
        await anyio.sleep(1)
        await orch.drain()
        assert anyio.current_time() == 30
        assert service.running == 0
        assert orch.stats("tool").in_flight == 0
    assert service.runs == 3
    assert orch.stats("tool").total_failures == 1
    orch.resume()
    assert_watches_nothing(orch)
    assert_adds_up(orch)


@virtual_time
async def test_one_that_runs_over_its_timeout_is_waited_for_until_then() -> None:
    orch, service = bench(anyio.current_time, timeout=20)
    service.behaviour = Slow(math.inf)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await anyio.sleep(1)
        await orch.drain()
        assert anyio.current_time() == 20
    assert orch.stats("tool").timeouts == 1


@virtual_time
@pytest.mark.parametrize("watched", [True, False])
async def test_one_that_is_cancelled_is_waited_for_until_then(watched: bool) -> None:
    observers = [lambda event: None] if watched else []
    orch, service = bench(anyio.current_time, observers=observers)
    service.behaviour = Slow(math.inf)

    async def caller() -> None:
        with anyio.move_on_after(20):
            await orch.dispatch("tool")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller)
        await anyio.sleep(1)
        await orch.drain()
        assert anyio.current_time() == 20
    assert orch.stats("tool").cancelled == 1
    assert_adds_up(orch)


@virtual_time
async def test_a_probe_is_waited_for_and_has_its_say() -> None:
    orch, service = bench(anyio.current_time)
    await trip(orch, service)
    await anyio.sleep(RESET)
    service.behaviour = Slow(10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await anyio.sleep(1)
        await orch.drain()
    assert anyio.current_time() == RESET + 10
    assert orch.circuit("tool").state == "closed"


@virtual_time
@pytest.mark.parametrize("change", ["remove", "replace", "remove and add", "reload"])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_calls_of_a_tool_that_has_gone_are_waited_for(change: str, when: str) -> None:
    orch, service = bench(anyio.current_time)
    registry = orch.registry
    service.behaviour = Slow(30)

    def act() -> None:
        if change == "reload":
            orch.reload(failure_threshold=5)
        if change.startswith("remove"):
            registry.remove("tool")
        if change in ("remove and add", "replace"):
            service.offer(registry, replace=change == "replace")

    async def later() -> None:
        await anyio.sleep(10)
        act()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await anyio.sleep(1)
        if when == "before":
            act()
            if "tool" in registry:
                tasks.start_soon(orch.dispatch, "tool")
                await when_blocked()
            with pytest.raises(
                TimeoutError, match=r"Still running after 5 s: tool \([12]\)"
            ):
                await orch.drain(timeout=5)
        else:
            tasks.start_soon(later)
        await orch.drain()
        more = 1 if when == "before" and change != "remove" else 0
        assert anyio.current_time() == 30 + more
        assert service.running == 0
    orch.resume()
    assert_watches_nothing(orch)
    assert_adds_up(orch)
    if "tool" in registry:
        assert await orch.dispatch("tool") == "fine"


@virtual_time
async def test_figures_of_tools_that_have_gone_are_not_kept_for_ever() -> None:
    orch, service = bench(anyio.current_time)
    service.behaviour = Slow(10)
    for _ in range(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(orch.dispatch, "tool")
            await anyio.sleep(1)
            orch.registry.remove("tool")
            service.offer(orch.registry)
    assert len(orch._fleet._leaving) <= 1
    await orch.drain(timeout=0)


@virtual_time
async def test_two_that_drain_at_once_both_return_when_all_has_ended() -> None:
    orch, service = bench(anyio.current_time)
    service.behaviour = Slow(30)
    times: list[float] = []

    async def drain(timeout: float | None = None) -> None:
        with suppress(TimeoutError):
            await orch.drain(timeout=timeout)
        times.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await anyio.sleep(1)
        for timeout in (None, 5, None):
            tasks.start_soon(drain, timeout)
    assert times == [6, 30, 30]


@virtual_time
async def test_calls_of_several_tools_are_all_waited_for() -> None:
    registry = Registry()
    orch = ToolOrchestrator(registry, clock=anyio.current_time)
    for seconds in (10, 30, 20):
        registry.tool(name=f"t{seconds}")(Slow(seconds).__call__)
    async with anyio.create_task_group() as tasks:
        for tool in registry:
            tasks.start_soon(orch.dispatch, tool.name)
        tasks.start_soon(orch.dispatch, "t20")
        await anyio.sleep(1)
        message = r"Still running after 5 s: (t10 \(1\)|t30 \(1\)|t20 \(2\)|, ){5}\.$"
        with pytest.raises(TimeoutError, match=message):
            await orch.drain(timeout=5)
        assert "draining" in await orch.dispatch("t10")
        with pytest.raises(TimeoutError, match=r"after 0 s"):
            await orch.drain(timeout=0)
        await orch.drain(timeout=100)
        assert anyio.current_time() == 30
    assert orch._fleet.running() == {}


@virtual_time
async def test_the_oldest_call_is_told_of_as_before() -> None:
    orch, service = bench(anyio.current_time)

    async def one(seconds: float) -> None:
        service.behaviour = Slow(seconds)
        await orch.dispatch("tool")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, 2)
        await anyio.sleep(1)
        tasks.start_soon(one, 100)
        await anyio.sleep(9)
        tasks.start_soon(one, 20)  # the first has ended, so this is alone, but not oldest
        await anyio.sleep(1)
        assert orch.stats("tool").oldest_in_flight == pytest.approx(10)
        with suppress(TimeoutError):
            await orch.drain(timeout=4)
        assert orch.stats("tool").oldest_in_flight == pytest.approx(14)
        assert orch.stats("tool").in_flight == 2
        orch.resume()
        assert orch.stats("tool").oldest_in_flight == pytest.approx(14)
        tasks.start_soon(one, 1)
        await anyio.sleep(2)
    assert_adds_up(orch)
    assert orch.stats("tool").successes == 4


@virtual_time
@pytest.mark.parametrize("end", ["returns", "raises", "is cancelled"])
async def test_a_function_that_answers_for_a_tool_is_waited_for(end: str) -> None:
    async def make(call: ToolCall, result: ToolResult) -> str:
        await anyio.sleep(math.inf if end == "is cancelled" else call.args["seconds"])
        if end == "raises":
            raise ConnectionError
        return "instead"

    registry = Registry()

    @registry.tool(policy=ToolPolicy(fallback=make))
    async def tool(seconds: int) -> None:
        raise ConnectionError

    orch = ToolOrchestrator(registry, clock=anyio.current_time)

    async def call(seconds: int) -> None:
        with anyio.move_on_after(seconds):
            await orch.dispatch("tool", {"seconds": seconds})

    async with anyio.create_task_group() as tasks:
        for seconds in (20, 30, 10):
            tasks.start_soon(call, seconds)
        await anyio.sleep(1)
        assert orch.stats("tool").in_flight == 0  # it is no execution
        with pytest.raises(TimeoutError, match=r"Still running after 14 s: tool \(2\)"):
            await orch.drain(timeout=14)
        await orch.drain()
        assert anyio.current_time() == 30
    assert orch._fleet._answering == {}
    orch.resume()
    assert_watches_nothing(orch)
    assert_adds_up(orch)


@virtual_time
@pytest.mark.parametrize("is_tool", [True, False])
@pytest.mark.parametrize("waits", ["runs", "waits to be tried again"])
async def test_what_has_not_begun_to_answer_for_a_tool_is_not_asked(
    waits: str, is_tool: bool
) -> None:
    asked: list[Any] = []
    events: list[Event] = []
    registry, results = Registry(), []

    def make(call: ToolCall, result: ToolResult) -> str:
        asked.append(call)
        return "instead"

    @registry.tool
    async def other() -> str:
        return "instead"

    retry = RetryPolicy(wait_initial=2, wait_jitter=0)
    fallback = "other" if is_tool else make

    @registry.tool(idempotent=True, policy=ToolPolicy(fallback=fallback, retry=retry))
    async def tool() -> None:
        await anyio.sleep(2 if waits == "runs" else 0)
        raise ConnectionError("down")

    orch = ToolOrchestrator(registry, clock=anyio.current_time, observers=[events.append])

    async def call() -> None:
        results.append(await orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.sleep(1)
        await orch.drain()
        assert anyio.current_time() == (2 if waits == "runs" else 1)

    (result,) = results
    assert type(result.error) is ConnectionError
    assert (result.attempts, asked) == (1, [])
    assert [each.tool_name for each in events if isinstance(each, CallRejected)] == ["tool"]
    orch.resume()
    assert await orch.dispatch("tool") == "instead"


# Ending it


@virtual_time
async def test_a_drain_that_is_cancelled_takes_no_calls_all_the_same() -> None:
    orch, service = bench(anyio.current_time)
    service.behaviour = Slow(30)

    async def body() -> None:
        await orch.drain()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await anyio.sleep(1)
        for at in (1, 2):
            _, ended = await run(body, "scope", at)
            assert ended.cancelled
            assert not orch._fleet.drain._waiting  # type: ignore[union-attr]
            assert "draining" in await orch.dispatch("tool")
        await orch.drain()
        assert anyio.current_time() == 30
    orch.resume()
    assert await orch.dispatch("tool") == "fine"
    assert_watches_nothing(orch)


@virtual_time
async def test_a_drain_that_is_called_off_says_so_to_those_who_wait() -> None:
    orch, service = bench(anyio.current_time)
    service.behaviour = Slow(30)
    raised: list[tuple[float, str]] = []

    async def drain() -> None:
        try:
            await orch.drain()
        except OrchestratorError as error:
            raised.append((anyio.current_time(), str(error)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await anyio.sleep(1)
        tasks.start_soon(drain)
        tasks.start_soon(drain)
        await anyio.sleep(1)
        orch.resume()
        tasks.start_soon(orch.dispatch, "tool")
        await anyio.sleep(1)
        assert raised == [(2, "resume was called before all calls had ended.")] * 2
        await orch.drain()
        assert anyio.current_time() == 32
    assert orch.stats("tool").successes == 2


async def test_resuming_what_does_not_drain_changes_nothing() -> None:
    orch, _ = bench(HandClock())
    orch.resume()
    assert await orch.dispatch("tool") == "fine"
    await orch.drain()
    orch.resume()
    orch.resume()
    assert await orch.dispatch("tool") == "fine"
    assert_watches_nothing(orch)
    assert_adds_up(orch)


@virtual_time
async def test_calls_that_began_before_a_drain_and_end_after_it_add_up() -> None:
    orch, service = bench(anyio.current_time)
    service.behaviour = Slow(30)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(orch.dispatch, "tool")
        await anyio.sleep(1)
        with suppress(TimeoutError):
            await orch.drain(timeout=1)
        orch.resume()
        assert_watches_nothing(orch)
        assert_adds_up(orch, in_flight=3)
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        assert_adds_up(orch, in_flight=4)
    assert_adds_up(orch)
    assert orch.stats("tool").successes == 4


@virtual_time
async def test_observers_are_told_of_the_last_call_before_the_drain_ends() -> None:
    events: list[Event] = []
    orch, service = bench(anyio.current_time, observers=[events.append])
    service.behaviour = Slow(10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await anyio.sleep(1)
        await orch.drain()
        assert [type(event) for event in events] == [CallFinished]


# Threads, and loops that are gone


@real_time
async def test_a_call_in_a_thread_is_waited_for() -> None:
    registry, go_on = Registry(), threading.Event()
    orch = ToolOrchestrator(registry, clock=time.monotonic)
    told: list[str] = []

    @registry.tool
    def tool() -> str:
        go_on.wait(30)
        told.append(anyio.from_thread.run(orch.dispatch, "tool"))
        return "fine"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        drained = anyio.Event()

        async def drain() -> None:
            await orch.drain()
            drained.set()

        tasks.start_soon(drain)
        await when_blocked()
        assert not drained.is_set()
        go_on.set()
    assert drained.is_set()
    assert json.loads(told[0])["draining"] is True
    assert orch.stats("tool").successes == 1


@real_time
async def test_the_thread_of_a_call_that_was_given_up_is_not_waited_for() -> None:
    registry, go_on = Registry(), threading.Event()
    orch = ToolOrchestrator(registry, clock=time.monotonic, timeout=0.05)

    @registry.tool
    def tool() -> str:
        go_on.wait(30)
        return "fine"

    try:
        await orch.dispatch("tool")
        with anyio.fail_after(20):
            await orch.drain()
    finally:
        go_on.set()


def test_a_drain_in_a_loop_that_is_gone_harms_no_later_one() -> None:
    orch, service = bench(anyio.current_time)
    loop = AutojumpEventLoop()
    kept: list[Any] = []

    async def leaves_tasks_behind() -> None:
        service.behaviour = Slow(30)
        make = asyncio.get_running_loop().create_task
        kept.append(make(orch.dispatch("tool")))
        await when_blocked()
        kept.append(make(orch.drain()))
        await when_blocked()

    loop.run_until_complete(leaves_tasks_behind())
    loop.close()
    for task in kept:
        task._log_destroy_pending = False

    async def later() -> None:
        with pytest.raises(TimeoutError):  # of the call that hangs in the dead loop
            await orch.drain(timeout=1)
        orch.resume()
        service.behaviour = Service().behaviour
        assert await orch.dispatch("tool") == "fine"
        with suppress(TimeoutError):
            await orch.drain(timeout=1)
        kept[0].get_coro().close()  # what the garbage collector does
        await orch.drain()
        orch.resume()

    anyio.run(later, backend_options={"loop_factory": AutojumpEventLoop})
    kept.clear()
    gc.collect()
    assert_adds_up(orch)


@pytest.mark.parametrize("way", ["returns it", "lets it out"])
async def test_calls_that_are_turned_away_say_nothing_of_the_tool_that_made_them(
    way: str,
) -> None:
    registry = Registry()
    orch = ToolOrchestrator(registry, failure_threshold=1)
    go_on = anyio.Event()

    @registry.tool
    async def inner() -> str:
        return "fine"

    @registry.tool
    async def outer() -> Any:
        await go_on.wait()
        if way == "returns it":
            return await orch.dispatch("inner")
        return await orch.call("inner")

    results = []

    async def ask() -> None:
        results.append(await orch.run("outer"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await when_blocked()
        tasks.start_soon(orch.drain)
        await when_blocked()
        go_on.set()

    assert [(each.ok, each.verdict) for each in results] == [(False, Verdict.IGNORE)]
    assert orch.circuit("outer").state == "closed"
    assert orch.snapshot()["circuits"] == []
    assert_adds_up(orch)
