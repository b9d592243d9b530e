"""
Calls that are tried again: which ones, when, how often, and what comes of them.
"""

from __future__ import annotations

import gc
import itertools
import json
import random
import subprocess
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest
import stamina
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from orchestrator_async import (
    BreakerPolicy,
    BudgetPolicy,
    CallFinished,
    CallRejected,
    CircuitOpenError,
    Event,
    InvalidArgumentsError,
    LimitExceededError,
    LimitPolicy,
    Registry,
    RetryPolicy,
    RetryScheduled,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
    ToolTimeoutError,
    Verdict,
)
from orchestrator_async import _retry as retry_module
from orchestrator_async._retry import Budget

from .clock import real_time, virtual_time
from .rig import World, on_asyncio, run
from .support import HandClock, assert_adds_up, when_blocked

DEBUG = False

NEVER = BreakerPolicy(failure_threshold=10**6)


class BusyError(Exception):
    def __init__(self, retry_after: Any = 2.0) -> None:
        super().__init__("too many requests")
        self.retry_after = retry_after


class Halt(Exception):
    """
    How a framework interrupts a run.
    """


Act = Callable[[], Awaitable[Any]]


def raising(error: BaseException) -> Act:
    async def act() -> Any:
        raise error

    return act


def returning(value: Any) -> Act:
    async def act() -> Any:
        return value

    return act


DOWN = raising(ConnectionError("down"))
FINE = returning("fine")


class Stage:
    """
    An orchestrator with one tool that does one thing after another, and the last of them
    ever after.

    Attributes:
        times: When the tool was entered, on the loop's clock.
        contexts: What it was told each time.
    """

    def __init__(
        self,
        *acts: Act,
        retry: RetryPolicy | None = None,
        idempotent: bool = True,
        clock: Callable[[], float] = anyio.current_time,
        budget: BudgetPolicy | None = None,
        breaker: BreakerPolicy = NEVER,
        orchestrator: dict[str, Any] | None = None,
        timeout: float | None = None,
        **policy: Any,
    ) -> None:
        self.acts = list(acts)
        self.times: list[float] = []
        self.contexts: list[ToolContext] = []
        self.events: list[Event] = []
        self.registry = Registry()
        retry = plain() if retry is None else retry
        self.registry.tool(
            name="tool",
            idempotent=idempotent,
            timeout=timeout,
            policy=ToolPolicy(retry=retry, breaker=breaker, **policy),
        )(self.act)
        self.orch = ToolOrchestrator(
            self.registry,
            clock=clock,
            observers=[self.events.append],
            retry_budget=budget,
            **(orchestrator or {}),
        )

    async def act(self, context: ToolContext) -> Any:
        self.times.append(anyio.current_time())
        self.contexts.append(context)
        act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
        return await act()

    @property
    def runs(self) -> int:
        return len(self.times)

    def of(self, kind: type[Any]) -> list[Any]:
        return [each for each in self.events if isinstance(each, kind)]

    @property
    def waits(self) -> list[float]:
        return [each.wait for each in self.of(RetryScheduled)]


def plain(**options: Any) -> RetryPolicy:
    """
    Waits of 1, 2, 4 and so on, without chance.
    """
    usual = {"attempts": 4, "wait_initial": 1, "wait_max": 100, "wait_jitter": 0}
    return RetryPolicy(**{**usual, **options})


def at_once(**options: Any) -> RetryPolicy:
    """
    No waits, for a loop whose time does not pass by itself.
    """
    return plain(wait_initial=0, **options)


# Attempts and waits


@virtual_time
async def test_a_failure_is_tried_again_after_longer_and_longer_waits() -> None:
    stage = Stage(DOWN, DOWN, DOWN, FINE)
    begun = anyio.current_time()
    result = await stage.orch.run("tool")
    assert result.content == "fine"
    assert result.ok
    assert [each - begun for each in stage.times] == [0, 1, 3, 7]
    assert result.attempts == 4
    assert stage.waits == [1, 2, 4]
    assert [each.attempt for each in stage.of(RetryScheduled)] == [1, 2, 3]
    assert [each.attempt for each in stage.of(CallFinished)] == [1, 2, 3, 4]
    stats = stage.orch.stats("tool")
    assert (stats.calls, stats.retries, stats.total_failures) == (4, 3, 3)
    assert_adds_up(stage.orch)


async def test_on_every_loop_the_last_of_all_attempts_is_the_answer() -> None:
    errors = [ConnectionError(f"number {n}") for n in range(3)]
    stage = Stage(*map(raising, errors), retry=at_once(attempts=3))
    result = await stage.orch.run("tool", call_id="c")
    assert result.error is errors[2]
    assert "number 2" in result.content
    assert (result.attempts, result.call_id, result.ok) == (3, "c", False)
    assert [each.error for each in stage.of(RetryScheduled)] == errors[:2]
    assert {each.call_id for each in stage.of(RetryScheduled)} == {"c"}
    stage = Stage(*map(raising, errors), retry=at_once(attempts=3))
    with pytest.raises(ConnectionError, match="number 2"):
        await stage.orch.call("tool")
    stage = Stage(*map(raising, errors), FINE, retry=at_once(attempts=4))
    assert await stage.orch.dispatch("tool") == "fine"


@virtual_time
async def test_the_seconds_of_all_attempts_are_added_up_without_the_waits() -> None:
    async def slow() -> None:
        await anyio.sleep(3)
        raise ConnectionError

    result = await Stage(slow, slow, FINE).orch.run("tool")
    assert result.duration == pytest.approx(6)


async def test_there_may_be_many_attempts() -> None:
    stage = Stage(DOWN, retry=at_once(attempts=300), breaker=NEVER)
    result = await stage.orch.run("tool")
    assert result.attempts == stage.runs == 300
    assert len(stage.waits) == 299


@virtual_time
async def test_no_wait_is_longer_than_it_may_be() -> None:
    stage = Stage(DOWN, retry=plain(attempts=6, wait_max=5))
    await stage.orch.run("tool")
    assert stage.waits == [1, 2, 4, 5, 5]
    stage = Stage(DOWN, retry=plain(attempts=3, wait_exp_base=1e300, wait_max=7))
    await stage.orch.run("tool")
    assert stage.waits == [1, 7]
    stage = Stage(DOWN, retry=plain(attempts=4, wait_exp_base=1e300, wait_max=7))
    await stage.orch.run("tool")
    assert stage.waits == [1, 7, 7]  # the last is more than a float can be


@virtual_time
async def test_chance_adds_to_a_wait_and_can_be_repeated() -> None:
    def waits(source: Callable[[], float]) -> RetryPolicy:
        return plain(attempts=5, wait_jitter=3, wait_max=9, jitter_source=source)

    stage = Stage(DOWN, retry=waits(random.Random(7).random))
    await stage.orch.run("tool")
    drawn = random.Random(7)
    assert stage.waits == [min(9, 2**n + 3 * drawn.random()) for n in range(4)]
    again = Stage(DOWN, retry=waits(random.Random(7).random))
    await again.orch.run("tool")
    assert again.waits == stage.waits
    other = Stage(DOWN, retry=waits(random.Random(8).random))
    await other.orch.run("tool")
    assert other.waits != stage.waits


@virtual_time
@pytest.mark.parametrize("drawn", [0, 1])
async def test_chance_may_be_none_and_all_there_is(
    drawn: float, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(DOWN, retry=plain(wait_jitter=10, jitter_source=lambda: drawn))
    await stage.orch.run("tool")
    assert stage.waits == [1 + 10 * drawn, 2 + 10 * drawn, 4 + 10 * drawn]
    assert "jitter_source" not in caplog.text


def bad_source() -> float:
    raise RuntimeError("no chance")


@virtual_time
@pytest.mark.parametrize(
    "source",
    [
        bad_source,
        lambda: 2.0,
        lambda: -0.1,
        lambda: float("nan"),
        lambda: "x",
        lambda: None,
    ],
    ids=["raises", "two", "less", "nan", "text", "none"],
)
async def test_a_source_of_chance_that_is_of_no_use_gives_none_and_is_logged_once(
    source: Any, caplog: pytest.LogCaptureFixture
) -> None:
    retry = plain(wait_jitter=10, jitter_source=source)
    stage = Stage(DOWN, retry=retry)
    for _ in range(2):
        await stage.orch.run("tool")
    assert stage.waits == [1, 2, 4] * 2
    assert caplog.text.count("its retry's jitter_source is of no use") == 1


async def test_an_interrupt_out_of_a_users_function_goes_up() -> None:
    def interrupted(*args: object) -> Any:
        raise KeyboardInterrupt

    for retry in (plain(wait_jitter=1, jitter_source=interrupted), plain(on=interrupted)):
        with pytest.raises(KeyboardInterrupt):
            await Stage(DOWN, retry=retry).orch.run("tool")


# What is tried again


@pytest.mark.parametrize(
    ("on", "error", "runs"),
    [
        (None, ConnectionError(), 2),
        (None, KeyError(), 1),  # ignored, so it is no failure
        ((ConnectionError,), ConnectionRefusedError(), 2),
        ((ConnectionError,), ValueError(), 1),
        ((KeyError,), KeyError(), 2),
        (lambda error: isinstance(error, ValueError), ValueError(), 2),
        (lambda error: isinstance(error, ValueError), ConnectionError(), 1),
        (lambda error: [], ConnectionError(), 1),
        ((), ConnectionError(), 1),
    ],
    ids=list("ABCDEFGHI"),
)
async def test_on_says_which_exceptions(on: Any, error: Exception, runs: int) -> None:
    stage = Stage(raising(error), FINE, retry=at_once(on=on), ignore=(KeyError,))
    result = await stage.orch.run("tool")
    assert stage.runs == runs
    assert (result.error is error) == (runs == 1)


@pytest.mark.parametrize(
    ("on_result", "value", "runs"),
    [
        (None, {"error": "x"}, 2),
        (None, {"state": "pending"}, 1),
        (lambda value: value.get("state") == "pending", {"state": "pending"}, 2),
        (lambda value: value.get("state") == "pending", {"error": "x"}, 1),
    ],
    ids=list("ABCD"),
)
async def test_on_result_says_which_values(on_result: Any, value: Any, runs: int) -> None:
    stage = Stage(returning(value), FINE, retry=at_once(on_result=on_result))
    result = await stage.orch.run("tool")
    assert stage.runs == runs
    assert (result.value == value) == (runs == 1)


async def test_on_result_says_nothing_of_exceptions_nor_on_of_values() -> None:
    stage = Stage(DOWN, FINE, retry=at_once(on_result=lambda value: False))
    assert await stage.orch.dispatch("tool") == "fine"
    stage = Stage(returning({"error": "x"}), FINE, retry=at_once(on=()))
    assert await stage.orch.dispatch("tool") == "fine"


class OddError(Exception):
    @property
    def still_running(self) -> bool:
        raise RuntimeError("do not look")


async def test_nothing_is_asked_of_a_foreign_error_that_could_raise() -> None:
    stage = Stage(raising(OddError()), FINE, retry=at_once())
    assert await stage.orch.dispatch("tool") == "fine"


@pytest.mark.parametrize("which", ["on", "on_result"])
async def test_a_predicate_that_raises_tries_nothing_again_and_is_logged_once(
    which: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(what: object) -> bool:
        raise RuntimeError("the predicate is broken")

    act = DOWN if which == "on" else returning({"error": "x"})
    stage = Stage(act, retry=at_once(**{which: broken}))
    for _ in range(3):
        result = await stage.orch.run("tool")
        assert (result.attempts, result.ok) == (1, False)
        assert "predicate" not in result.content
    assert caplog.text.count("what says whether to try again raised") == 1
    assert stage.waits == []


async def test_arguments_that_do_not_fit_and_names_that_are_not_are_not_tried_again() -> (
    None
):
    stage = Stage(FINE)
    result = await stage.orch.run("tool", {"no": 1})
    assert isinstance(result.error, InvalidArgumentsError)
    assert (result.attempts, stage.waits) == (0, [])


async def test_what_frameworks_raise_passes_through_at_once() -> None:
    stage = Stage(
        raising(Halt()),
        retry=at_once(on=lambda error: True),
        control_flow=(Halt,),
    )
    with pytest.raises(Halt):
        await stage.orch.dispatch("tool")
    assert (stage.runs, stage.waits) == (1, [])
    stage = Stage(DOWN, raising(Halt()), retry=at_once(), control_flow=(Halt,))
    with pytest.raises(Halt):
        await stage.orch.run("tool")
    assert stage.runs == 2
    stage = Stage(raising(KeyboardInterrupt()), retry=at_once())
    with pytest.raises(KeyboardInterrupt):
        await stage.orch.run("tool")
    assert stage.runs == 1
    assert_adds_up(stage.orch)


async def test_a_tool_without_a_policy_is_tried_once() -> None:
    registry, runs = Registry(), 0

    @registry.tool(idempotent=True)
    async def tool() -> None:
        nonlocal runs
        runs += 1
        raise ConnectionError

    orch = ToolOrchestrator(registry)
    assert not (await orch.run("tool")).ok
    assert (runs, orch.stats("tool").retries) == (1, 0)
    entry = orch._fleet.entries["tool"]
    assert entry.around is None
    assert entry.simple


# Tools that must not run twice


async def test_a_tool_that_is_not_idempotent_runs_once() -> None:
    stage = Stage(DOWN, idempotent=False, retry=at_once(on=lambda error: True))
    result = await stage.orch.run("tool")
    assert (stage.runs, result.attempts, stage.waits) == (1, 1, [])
    stage = Stage(returning("x"), idempotent=False, retry=at_once(on_result=lambda v: True))
    assert await stage.orch.dispatch("tool") == "x"
    assert stage.runs == 1


@virtual_time
@pytest.mark.parametrize("idempotent", [True, False])
async def test_what_a_limit_has_turned_away_is_tried_again_for_any_tool(
    idempotent: bool,
) -> None:
    async def slow() -> str:
        await anyio.sleep(4)
        return "slow"

    limits = LimitPolicy(max_concurrent=1, max_wait=0)
    stage = Stage(slow, FINE, idempotent=idempotent, limits=limits)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.orch.run, "tool")
        await when_blocked()
        result = await stage.orch.run("tool")
    assert (result.content, result.attempts) == ("fine", 1)
    assert stage.runs == 2
    assert stage.contexts[1].attempt > 1
    assert all(isinstance(e.error, LimitExceededError) for e in stage.of(RetryScheduled))
    assert len(stage.of(CallRejected)) == len(stage.waits) > 0
    assert stage.orch.stats("tool").rejected == len(stage.waits)  # each attempt is told of


@virtual_time
async def test_who_is_turned_away_each_time_is_told_of_the_last() -> None:
    limits = LimitPolicy(calls=1, seconds=90, max_wait=0)
    stage = Stage(FINE, retry=plain(attempts=3, wait_max=5), limits=limits)
    await stage.orch.run("tool")
    result = await stage.orch.run("tool")
    assert (result.attempts, stage.waits) == (0, [])  # that would take too long
    assert result.retry_after == pytest.approx(90)
    limits = LimitPolicy(max_concurrent=1, max_wait=0)
    stage = Stage(FINE, retry=plain(attempts=3), limits=limits)
    stage.acts = [returning("fine"), anyio.Event().wait]
    await stage.orch.run("tool")
    results: list[Any] = []

    async def call() -> None:
        results.append(await stage.orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.orch.run, "tool")
        await when_blocked()
        tasks.start_soon(call)
        await anyio.sleep(1000)
        tasks.cancel_scope.cancel()
    (result,) = results
    assert isinstance(result.error, LimitExceededError)
    assert result.error not in [each.error for each in stage.of(RetryScheduled)]
    assert (result.attempts, len(stage.waits), stage.runs) == (0, 2, 2)


@virtual_time
async def test_a_tool_that_is_not_idempotent_runs_once_also_after_a_limits_refusal() -> (
    None
):
    async def slow() -> str:
        await anyio.sleep(1)
        return "slow"

    limits = LimitPolicy(max_concurrent=1, max_wait=0)
    stage = Stage(slow, DOWN, idempotent=False, limits=limits)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.orch.run, "tool")
        await when_blocked()
        result = await stage.orch.run("tool")
    assert isinstance(result.error, ConnectionError)
    assert (stage.runs, result.attempts) == (2, 1)


@virtual_time
async def test_a_limits_refusal_between_two_attempts_is_one_like_any_other() -> None:
    """
    Whatever ``on`` says of failures, and however the attempt before has ended.
    """
    limits = LimitPolicy(max_concurrent=1, max_wait=0)
    retry = plain(on=(ConnectionError,), on_result=lambda value: value == "not yet")

    async def slow() -> str:
        await anyio.sleep(1.5)
        return "slow"

    stage = Stage(returning("not yet"), slow, FINE, retry=retry, limits=limits)
    results: list[Any] = []

    async def call() -> None:
        results.append(await stage.orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.sleep(0.5)
        tasks.start_soon(stage.orch.run, "tool")
    assert results[0].content == "fine"
    assert results[0].attempts == 2
    assert [each.attempt for each in stage.contexts] == [1, 1, 3]
    assert isinstance(stage.of(RetryScheduled)[1].error, LimitExceededError)


@virtual_time
async def test_an_attempt_that_its_circuit_turns_away_takes_no_turn_of_a_rate() -> None:
    limits = LimitPolicy(calls=2, seconds=100, max_wait=0)
    stage = Stage(DOWN, FINE, retry=plain(attempts=2), limits=limits)
    results: list[Any] = []

    async def call() -> None:
        results.append(await stage.orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.sleep(0.5)
        stage.orch.circuit("tool").trip()
    assert results[0].attempts == 1
    stage.orch.circuit("tool").reset()
    assert (await stage.orch.run("tool")).content == "fine"


class Replaced:
    """
    Two tools of one name, put in each other's place.
    """

    def __init__(self, one: bool = True, two: bool = False, **options: Any) -> None:
        self.registry = Registry()
        self.runs: list[str] = []
        self.tools: dict[str, Any] = {}
        for name, idempotent in (("one", one), ("two", two)):
            made = Registry()
            policy = ToolPolicy(retry=plain(), breaker=NEVER, **options)
            made.tool(name="tool", idempotent=idempotent, policy=policy)(self.fn(name))
            self.tools[name] = made["tool"]
        self.registry.add(self.tools["one"])
        self.orch = ToolOrchestrator(
            self.registry, clock=anyio.current_time, retry_budget=None
        )

    def fn(self, name: str) -> Callable[[], Awaitable[Any]]:
        async def tool() -> Any:
            self.runs.append(name)
            raise ConnectionError(name)

        return tool

    def in_group(self) -> None:
        """
        Have a queue before the tool, by another that holds the only place for 10 s.
        """

        async def holder() -> None:
            await anyio.sleep(10)

        self.registry.tool(holder)
        self.orch.reload(
            policy=ToolPolicy(group="g"), groups={"g": LimitPolicy(max_concurrent=1)}
        )

    def put(self, name: str) -> None:
        self.registry.add(self.tools[name], replace=True)


@virtual_time
async def test_a_tool_that_was_put_back_in_the_wait_is_run_again() -> None:
    tools = Replaced()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tools.orch.run, "tool")
        await anyio.sleep(0.5)
        tools.put("two")
        tools.put("one")
    assert tools.runs == ["one"] * 4


@virtual_time
@pytest.mark.parametrize("removed", [True, False])
async def test_a_tool_that_was_replaced_in_the_wait_is_not_run(removed: bool) -> None:
    tools = Replaced()
    results: list[Any] = []

    async def call() -> None:
        results.append(await tools.orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.sleep(0.5)
        if removed:
            tools.registry.remove("tool")
        else:
            tools.put("two")
    assert tools.runs == ["one"]
    assert str(results[0].error) == "one"
    assert results[0].attempts == 1


@virtual_time
@pytest.mark.parametrize("back", [True, False])
async def test_a_tool_that_was_replaced_in_the_queue_is_not_run(back: bool) -> None:
    """
    Whoever waits in the queue has asked for the other tool, by its guard and with its
    arguments. Also where it is put back in the wait, and replaced in the queue again.
    """
    tools = Replaced()
    results: list[Any] = []
    tools.in_group()

    async def call() -> None:
        results.append(await tools.orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tools.orch.run, "holder")
        await when_blocked()
        tasks.start_soon(call)
        await when_blocked()
        tools.put("two")
        if back:
            await anyio.sleep(1)
            tools.put("one")
    if back:
        assert tools.runs == ["one"] * 4
    else:
        assert tools.runs == []
        assert "was replaced while the call waited" in results[0].content
        assert results[0].attempts == 0


@virtual_time
async def test_a_retry_whose_tool_was_replaced_in_the_queue_keeps_its_result() -> None:
    tools = Replaced()
    results: list[Any] = []
    tools.in_group()

    async def call() -> None:
        results.append(await tools.orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.sleep(0.5)
        tasks.start_soon(tools.orch.run, "holder")
        await anyio.sleep(2)
        tools.put("two")
    assert tools.runs == ["one"]
    assert str(results[0].error) == "one"
    assert results[0].state == "closed"


# Context and arguments


async def test_attempts_are_numbered_and_have_the_key_of_their_call() -> None:
    stage = Stage(DOWN, retry=at_once(attempts=3))
    for _ in range(2):
        await stage.orch.run("tool")
    assert [each.attempt for each in stage.contexts] == [1, 2, 3] * 2
    keys = [each.idempotency_key for each in stage.contexts]
    assert len(set(keys[:3])) == len(set(keys[3:])) == 1
    assert keys[0] != keys[3]
    assert len(keys[0]) >= 32


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("as_text", [True, False])
async def test_what_an_attempt_changes_does_not_reach_the_next(
    validate: bool, as_text: bool
) -> None:
    registry = Registry()
    seen: list[str] = []

    @registry.tool(
        validate=validate,
        idempotent=True,
        policy=ToolPolicy(retry=at_once(), breaker=NEVER),
    )
    async def tool(items: Any, more: Any) -> None:
        seen.append(json.dumps([items, more]))
        items.append(1)
        more["x"].clear()
        raise ConnectionError

    orch = ToolOrchestrator(registry, retry_budget=None)
    args: Any = {"items": [0], "more": {"x": [1, 2]}}
    await orch.run("tool", json.dumps(args) if as_text else args)
    assert seen == ['[[0], {"x": [1, 2]}]'] * 4


async def test_who_is_refused_before_it_runs_copies_nothing() -> None:
    class Copied:
        times = 0

        def __deepcopy__(self, memo: Any) -> Copied:
            self.times += 1
            return self

    got: list[Any] = []
    for idempotent in (False, True):
        registry, thing = Registry(), Copied()

        @registry.tool(idempotent=idempotent, policy=ToolPolicy(retry=at_once()))
        async def tool(thing: Any) -> str:
            got.append(thing)
            return "fine"

        assert await ToolOrchestrator(registry).dispatch("tool", {"thing": thing}) == "fine"
        assert got.pop() is thing
        assert (thing.times > 0) is idempotent


@virtual_time
@pytest.mark.parametrize("idempotent", [True, False])
async def test_what_is_made_anew_each_time_is_made_once_for_all_attempts(
    idempotent: bool,
) -> None:
    numbers, keys, got = iter(range(100)), [], []
    registry = Registry()

    def key(arguments: Mapping[str, Any], context: ToolContext) -> str:
        keys.append(arguments["number"])
        return "key"

    @registry.tool(
        idempotent=idempotent,
        circuit=key,
        policy=ToolPolicy(
            retry=plain(attempts=3),
            limits=LimitPolicy(calls=1, seconds=1, max_wait=0),
            breaker=NEVER,
        ),
    )
    async def tool(
        number: Annotated[int, Field(default_factory=lambda: next(numbers))],
    ) -> None:
        got.append(number)
        raise ConnectionError

    orch = ToolOrchestrator(registry, clock=anyio.current_time, retry_budget=None)
    await orch.run("tool")
    if not idempotent:
        await orch.run("tool")  # is turned away by the limit at first

    assert got == ([0, 0, 0] if idempotent else [0, 1])
    assert keys == ([0, 0, 0] if idempotent else [0, 1, 1])


async def test_arguments_that_are_too_deep_to_be_copied_are_given_to_all_attempts() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    registry, got = Registry(), []
    retry = at_once(attempts=2)

    @registry.tool(validate=False, idempotent=True, policy=ToolPolicy(retry=retry))
    async def tool(thing: Any) -> None:
        got.append(thing)
        raise ConnectionError

    await ToolOrchestrator(registry).dispatch("tool", {"thing": deep})

    assert [each is deep for each in got] == [True, True]
    got.clear()
    while deep:  # taken apart by hand: to drop it in one go can be too deep as well
        (deep,) = deep


# Circuits


async def test_each_attempt_votes_and_a_circuit_that_opens_ends_it() -> None:
    stage = Stage(DOWN, retry=at_once(attempts=9), breaker=BreakerPolicy())
    result = await stage.orch.run("tool")
    assert (stage.runs, result.attempts, result.state) == (3, 3, "open")
    assert isinstance(result.error, ConnectionError)
    assert stage.of(CallRejected) == []
    assert stage.orch.stats("tool").retries == 2
    refused = await stage.orch.run("tool")
    assert isinstance(refused.error, CircuitOpenError)
    assert refused.attempts == 0
    assert stage.orch.stats("tool").retries == 2


@virtual_time
async def test_a_circuit_that_opens_for_less_than_may_be_waited_ends_it_too() -> None:
    stage = Stage(DOWN, retry=plain(attempts=9), breaker=BreakerPolicy(reset_timeout=5))
    assert (await stage.orch.run("tool")).attempts == 3
    assert stage.waits == [1, 2]


@virtual_time
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("turned_away", [False, True])
async def test_a_tool_with_circuits_by_key_that_is_isolated_ends_it(
    turned_away: bool, force: bool
) -> None:
    registry, runs = Registry(), []
    events: list[Event] = []
    limits = LimitPolicy(max_concurrent=1, max_wait=1) if turned_away else None

    @registry.tool(
        idempotent=True,
        circuit=lambda args, context: "key",
        policy=ToolPolicy(retry=plain(), limits=limits, breaker=NEVER),
    )
    async def tool() -> None:
        runs.append(1)
        if turned_away:
            await anyio.sleep(10)
        isolate()
        raise ConnectionError

    def isolate() -> None:
        circuit = orch.circuit("tool")
        circuit.force_open() if force else circuit.isolate()

    orch = ToolOrchestrator(registry, clock=anyio.current_time, observers=[events.append])

    async def be_turned_away() -> None:
        result = await orch.run("tool")
        assert isinstance(result.error, LimitExceededError)
        assert (result.attempts, anyio.current_time()) == (0, 1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.run, "tool")
        if turned_away:
            await when_blocked()
            tasks.start_soon(be_turned_away)
            await anyio.sleep(0.5)
            isolate()

    assert (len(runs), orch.stats("tool").retries) == (1, 0)
    assert [each for each in events if isinstance(each, RetryScheduled)] == []
    assert anyio.current_time() == (10 if turned_away else 0)


@virtual_time
async def test_a_circuit_that_opens_in_the_wait_refuses_the_attempt() -> None:
    stage = Stage(DOWN)
    results: list[Any] = []

    async def call() -> None:
        results.append(await stage.orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.sleep(0.5)
        stage.orch.circuit("tool").trip()
    (result,) = results
    assert isinstance(result.error, ConnectionError)
    assert (result.attempts, result.state) == (1, "open")
    assert result.retry_after == pytest.approx(299.5)
    assert result.verdict is Verdict.FAILURE
    assert len(stage.of(CallRejected)) == 1


@virtual_time
async def test_an_isolated_circuit_ends_it_and_a_disabled_one_does_not() -> None:
    stage = Stage(DOWN)
    stage.orch.circuit("tool").disable()
    assert (await stage.orch.run("tool")).attempts == 4
    stage = Stage(DOWN)

    async def isolate() -> None:
        stage.orch.circuit("tool").isolate()
        raise BusyError(1)

    stage.acts = [isolate]
    assert (await stage.orch.run("tool")).attempts == 1
    assert stage.waits == []


@virtual_time
@pytest.mark.parametrize(
    "act",
    [raising(BusyError(7)), returning({"error": "x", "retry_after": 7})],
    ids=list("AB"),
)
async def test_a_circuit_that_only_pauses_is_waited_for(act: Act) -> None:
    stage = Stage(act, FINE)
    begun = anyio.current_time()
    result = await stage.orch.run("tool")
    assert (result.content, result.attempts, result.state) == ("fine", 2, "closed")
    assert stage.waits == [7]
    assert stage.times[1] - begun == pytest.approx(7)


@virtual_time
async def test_the_pause_that_another_call_has_asked_for_is_waited_for_as_well() -> None:
    go_on = anyio.Event()

    async def late() -> Any:
        await go_on.wait()
        raise ConnectionError

    stage = Stage(late, raising(BusyError(30)), FINE)
    results: list[Any] = []

    async def call() -> None:
        results.append(await stage.orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await when_blocked()
        tasks.start_soon(stage.orch.run, "tool")
        await when_blocked()
        await anyio.sleep(10)
        go_on.set()
    assert stage.waits[0] == 30
    assert stage.waits[1] == pytest.approx(20)
    assert (results[0].content, results[0].attempts) == ("fine", 2)
    assert stage.runs == 4
    assert stage.of(CallRejected) == []


@virtual_time
async def test_one_that_names_no_time_is_paused_by_the_circuit() -> None:
    class ThrottledError(Exception):
        status_code = 429

    stage = Stage(raising(ThrottledError()), FINE, retry=plain(wait_initial=0))
    assert (await stage.orch.run("tool")).content == "fine"
    assert stage.waits == [1]


@virtual_time
async def test_who_asks_for_more_time_than_may_be_waited_is_not_tried_again() -> None:
    stage = Stage(raising(BusyError(8)), retry=plain(wait_max=7))
    result = await stage.orch.run("tool")
    assert (result.attempts, result.retry_after) == (1, 8)
    assert anyio.current_time() < 1
    stage = Stage(raising(BusyError(7)), FINE, retry=plain(wait_max=7))
    assert (await stage.orch.run("tool")).content == "fine"
    assert stage.waits == [7]


@virtual_time
async def test_where_there_are_no_pauses_it_is_waited_for_all_the_same() -> None:
    breaker = BreakerPolicy(max_pause=None, failure_threshold=10**6)
    stage = Stage(raising(BusyError(7)), FINE, breaker=breaker)
    assert (await stage.orch.run("tool")).content == "fine"
    assert stage.waits == [7]
    stage = Stage(raising(BusyError(0.5)), FINE, breaker=breaker)
    assert (await stage.orch.run("tool")).content == "fine"
    assert stage.waits == [1]  # its own wait is longer


@virtual_time
@pytest.mark.parametrize(
    "act", [DOWN, raising(BusyError(2)), returning({"pending": True})], ids=list("ABC")
)
async def test_a_probe_is_not_tried_again(act: Act) -> None:
    retry = plain(on_result=lambda value: "pending" in value)
    stage = Stage(act, retry=retry, breaker=BreakerPolicy(success_threshold=2))
    stage.orch.circuit("tool").trip()
    await anyio.sleep(300)
    result = await stage.orch.run("tool")
    assert (stage.runs, result.attempts, stage.waits) == (1, 1, [])
    assert_adds_up(stage.orch)


@virtual_time
async def test_a_call_within_a_probe_is_not_tried_again() -> None:
    registry, runs = Registry(), 0
    options: dict[str, Any] = {"circuit": "both", "idempotent": True}
    policy = ToolPolicy(retry=plain())

    @registry.tool(policy=policy, **options)
    async def inner() -> None:
        nonlocal runs
        runs += 1
        raise ConnectionError

    @registry.tool(**options)
    async def outer() -> str:
        return await orch.dispatch("inner")

    orch = ToolOrchestrator(registry, clock=anyio.current_time)
    orch.circuit("both").trip()
    await anyio.sleep(300)
    await orch.run("outer")
    assert runs == 1


async def test_circuits_by_key_are_asked_anew() -> None:
    registry, runs = Registry(), 0

    @registry.tool(
        idempotent=True,
        circuit=lambda arguments, context: str(arguments["host"]),
        policy=ToolPolicy(retry=at_once(attempts=9)),
    )
    async def tool(host: str) -> str:
        nonlocal runs
        runs += 1
        if host == "bad":
            raise ConnectionError
        return host

    orch = ToolOrchestrator(registry, retry_budget=None)
    assert (await orch.run("tool", {"host": "bad"})).attempts == 3
    assert orch.circuit("tool", "bad").state == "open"
    assert await orch.dispatch("tool", {"host": "good"}) == "good"
    assert_adds_up(orch)


@virtual_time
async def test_who_drains_does_not_wait_for_a_wait_and_has_no_attempt_after_it() -> None:
    stage = Stage(DOWN, FINE)
    results: list[Any] = []

    async def call() -> None:
        results.append(await stage.orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.sleep(0.5)
        await stage.orch.drain()
        assert anyio.current_time() % 1 == pytest.approx(0.5)
    (result,) = results
    assert isinstance(result.error, ConnectionError)
    assert (stage.runs, result.attempts, result.state) == (1, 1, "closed")


# A fallback hears of it


@virtual_time
async def test_a_fallback_answers_once_all_attempts_have_failed() -> None:
    stage = Stage(DOWN, fallback=lambda call, result: f"after {result.attempts}")
    result = await stage.orch.run("tool")
    assert (result.content, result.ok) == ("after 4", True)
    assert stage.runs == 4


@virtual_time
async def test_a_fallback_answers_also_where_the_last_attempt_was_turned_away() -> None:
    stage = Stage(DOWN, fallback=lambda call, result: type(result.error).__name__)
    results: list[Any] = []

    async def call() -> None:
        results.append(await stage.orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.sleep(0.5)
        stage.orch.circuit("tool").trip()
    assert results[0].content == "ConnectionError"


# Cancellation


@virtual_time
async def test_a_cancellation_in_the_wait_goes_up_and_nothing_is_held() -> None:
    limits = LimitPolicy(max_concurrent=1, max_wait=0)
    stage = Stage(DOWN, FINE, limits=limits)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.orch.run, "tool")
            await anyio.sleep(0.5)
            assert stage.orch.stats("tool").in_flight == 0
            assert await stage.orch.dispatch("tool") == "fine"  # the place is free
            scope.cancel()
    assert scope.cancelled_caught
    assert stage.runs == 2
    assert await stage.orch.dispatch("tool") == "fine"
    assert_adds_up(stage.orch)


@virtual_time
@pytest.mark.parametrize("kind", ["scope", "request", "both"])
@pytest.mark.parametrize(
    "case", ["retries", "with limits", "timeouts", "pauses", "total", "swallows"]
)
async def test_nothing_is_lost_wherever_a_call_with_retries_is_cancelled(
    kind: str, case: str
) -> None:
    if kind != "scope" and not on_asyncio():
        return
    steps = await cancelled_at(0, "", case)
    for at in range(1, steps + 1):
        await cancelled_at(at, kind, case)


async def cancelled_at(at: int, kind: str, case: str) -> int:
    """
    Two calls, cancelled after so many steps, and nothing is lost; how many there were.
    """
    world, count = World(retry_budget=None), 0

    async def tool() -> Any:
        nonlocal count
        count += 1
        await checkpoint()
        if case == "pauses":
            raise BusyError(1)
        if case in ("timeouts", "total") and count < 3:
            await anyio.sleep(50)
        if case == "swallows":
            with suppress(BaseException):
                await anyio.sleep(1)
        raise ConnectionError

    cases: dict[str, dict[str, Any]] = {
        "with limits": {"limits": LimitPolicy(max_concurrent=1, calls=2)},
        "total": {"total_timeout": 5},
        "timeouts": {"timeout": 4},
    }
    policy = ToolPolicy(retry=plain(attempts=3), **cases.get(case, {}))
    world.tool(tool, idempotent=True, policy=policy)

    async def body() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(world.orch.dispatch, "tool")
            group.start_soon(world.orch.run, "tool")

    steps, ended = await run(body, kind, at)
    assert ended.finished or ended.cancelled
    await anyio.sleep(60)
    await world.assert_nothing_is_lost()
    for gate in world.orch._surroundings._gates.values():
        assert gate.limit is not None
        assert (gate.limit.taken, gate.limit.waiting) == (0, 0)
    return steps


# Never twice, in whatever order


OUTCOMES = st.sampled_from(["fails", "fine", "error", "busy", "hangs", "dies", "limited"])
HAPPENINGS = st.sampled_from(
    ["put one", "put two", "remove", "cancel", "reload", "trip", "reset", "wait"]
)


@virtual_time
@settings(max_examples=150)
@given(
    outcomes=st.lists(OUTCOMES, min_size=1, max_size=6),
    happenings=st.lists(
        st.tuples(st.floats(0.0, 4.0, allow_nan=False), HAPPENINGS), max_size=8
    ),
    limited=st.booleans(),
)
async def test_no_order_of_events_runs_a_tool_twice_that_must_not(
    outcomes: list[str], happenings: list[tuple[float, str]], limited: bool
) -> None:
    registry, script = Registry(), list(outcomes)
    runs: dict[tuple[Any, str], int] = {}

    def made(name: str, idempotent: bool) -> Any:
        own = Registry()
        policy = ToolPolicy(
            retry=plain(on=lambda error: True, on_result=lambda value: True),
            limits=LimitPolicy(max_concurrent=1, max_wait=1) if limited else None,
            total_timeout=20,
        )

        @own.tool(name="tool", idempotent=idempotent, timeout=3, policy=policy)
        async def tool(context: ToolContext) -> Any:
            at = context.call_id, name
            runs[at] = runs.get(at, 0) + 1
            match script.pop(0) if script else "fails":
                case "fine":
                    return "fine"
                case "error":
                    return {"error": "x"}
                case "busy":
                    raise BusyError(1)
                case "hangs":
                    await anyio.sleep(100)
                case "dies":
                    raise anyio.get_cancelled_exc_class()() if on_asyncio() else OSError
                case "limited":
                    raise LimitExceededError(
                        tool_name="tool", limit="rate", size=1, retry_after=1
                    )
            raise ConnectionError

        return own["tool"]

    tools = {"one": made("one", True), "two": made("two", False)}
    registry.add(tools["two"])
    orch = ToolOrchestrator(registry, clock=anyio.current_time, retry_budget=None)
    scopes: list[anyio.CancelScope] = []
    numbers = itertools.count()

    async def call(call_id: str) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await orch.dispatch("tool", call_id=call_id)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(call, f"{next(numbers)}")
        for wait, what in happenings:
            await anyio.sleep(wait)
            match what:
                case "put one" | "put two":
                    registry.add(tools[what[4:]], replace="tool" in registry)
                case "remove" if "tool" in registry:
                    registry.remove("tool")
                case "cancel" if scopes:
                    scopes.pop().cancel()
                case "reload":
                    orch.reload(policy=ToolPolicy(total_timeout=7), retry_budget=None)
                case "trip" | "reset" if "tool" in registry:
                    getattr(orch.circuit("tool"), what)()
            tasks.start_soon(call, f"{next(numbers)}")
    for (call_id, name), number in runs.items():
        assert name == "one" or number == 1, call_id
        # Nor does a call that has run the one run the other as well.
        assert len([each for each in runs if each[0] == call_id]) == 1, call_id
    assert_adds_up(orch)


async def run_once_begun(orch: ToolOrchestrator, begun: threading.Event) -> Any:
    """
    The result of a call whose thread has begun before its time is up, however slow the
    machine: until then the loop stands still.
    """
    results: list[Any] = []

    async def call() -> None:
        results.append(await orch.run("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await when_blocked()
        begun.wait(30)
    return results[0]


@real_time
@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_thread_that_still_runs_gets_no_other_beside_it(idempotent: bool) -> None:
    registry, runs = Registry(), 0
    begun, go_on = threading.Event(), threading.Event()
    policy = ToolPolicy(retry=at_once(), breaker=NEVER)

    @registry.tool(idempotent=idempotent, timeout=0.3, policy=policy)
    def tool() -> str:
        nonlocal runs
        runs += 1
        begun.set()
        go_on.wait(30)
        return "late"

    orch = ToolOrchestrator(registry, retry_budget=None)
    try:
        result = await run_once_begun(orch, begun)
    finally:
        go_on.set()
    assert isinstance(result.error, ToolTimeoutError)
    assert result.error.still_running
    assert (runs, result.attempts, orch.stats("tool").retries) == (1, 1, 0)


@real_time
@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_thread_that_has_ended_is_followed_by_another(idempotent: bool) -> None:
    registry, runs = Registry(), 0
    policy = ToolPolicy(retry=at_once(), breaker=NEVER)

    @registry.tool(idempotent=idempotent, policy=policy)
    def tool() -> str:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ConnectionError
        return "fine"

    orch = ToolOrchestrator(registry, retry_budget=None)
    result = await orch.run("tool")
    assert (result.ok, runs) == ((True, 3) if idempotent else (False, 1))


# stamina's own switches and hooks


@pytest.fixture(autouse=True)
def _stamina() -> Iterator[None]:
    yield
    stamina.set_active(True)
    stamina.set_testing(False)
    stamina.instrumentation.set_on_retry_hooks(None)


async def test_where_stamina_is_switched_off_there_is_one_attempt() -> None:
    stage = Stage(DOWN, budget=BudgetPolicy(share=0, a_second=1))
    stamina.set_active(False)
    result = await stage.orch.run("tool")
    assert (result.attempts, stage.waits) == (1, [])
    assert stage.orch.stats("tool").retries == 0
    stamina.set_active(True)
    with stamina.set_testing(True, attempts=2):
        assert (await stage.orch.run("tool")).attempts == 2  # the budget was not used
    stamina.set_active(False)
    stamina.set_testing(True, attempts=5)
    assert (await stage.orch.run("tool")).attempts == 1


@pytest.mark.parametrize(
    ("options", "attempts"),
    [
        ({}, 1),
        ({"attempts": 2}, 2),
        ({"attempts": 6}, 6),
        ({"attempts": 6, "cap": True}, 4),
    ],
)
async def test_staminas_test_mode_has_its_own_number_of_attempts_and_does_not_wait(
    options: dict[str, Any], attempts: int
) -> None:
    stage = Stage(DOWN, retry=plain(wait_initial=90))
    with stamina.set_testing(True, **options):
        result = await stage.orch.run("tool")
    assert result.attempts == attempts
    assert stage.waits == [0] * (attempts - 1)
    assert stage.orch.stats("tool").retries == attempts - 1


async def test_in_staminas_test_mode_the_budget_counts_as_well() -> None:
    stage = Stage(DOWN, budget=BudgetPolicy(share=0, a_second=2), clock=HandClock())
    with stamina.set_testing(True, attempts=6):
        assert (await stage.orch.run("tool")).attempts == 3
        assert (await stage.orch.run("tool")).attempts == 1
    assert stage.orch.stats("tool").retries == 2


async def test_staminas_hooks_are_told_and_learn_no_secret() -> None:
    told: list[Any] = []

    def hook(details: Any) -> None:
        told.append(details)

    stamina.instrumentation.set_on_retry_hooks([hook])
    secret = raising(ConnectionError("password=hunter2"))
    stage = Stage(secret, FINE, retry=at_once())
    assert await stage.orch.dispatch("tool") == "fine"
    assert [each.retry_num for each in told] == [1]
    assert "tool" in repr(told[0])
    assert "hunter2" not in repr(told[0])


@pytest.mark.parametrize("error", [RuntimeError("the hook is broken"), SystemExit(1)])
async def test_a_hook_of_staminas_that_raises_ends_it_with_the_tools_own_result(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(details: Any) -> None:
        raise error

    stamina.instrumentation.set_on_retry_hooks([hook])
    stage = Stage(DOWN, retry=at_once())
    for _ in range(2):
        result = await stage.orch.run("tool")
        assert isinstance(result.error, ConnectionError)
        assert result.attempts == 1
    assert caplog.text.count("a hook of stamina's raised") == 1


async def test_where_stamina_cannot_be_imported_the_answer_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(FINE)
    monkeypatch.setitem(__import__("sys").modules, "stamina", None)
    told = json.loads(await stage.orch.dispatch("tool"))
    assert "cannot be called" in told["error"]
    assert stage.runs == 0


async def test_nothing_of_a_call_is_kept_for_the_garbage_collector() -> None:
    class Value(dict[str, Any]):
        pass

    seen: list[Any] = []

    async def act() -> Any:
        value = Value(error="x")
        seen.append(weakref.ref(value))
        return value

    stage = Stage(act, act, FINE, retry=at_once())
    stage.orch.remove_observer(stage.orch._observers.listening[0])
    gc.collect()
    gc.disable()
    try:
        assert await stage.orch.dispatch("tool") == "fine"
        assert [each() for each in seen] == [None, None]
    finally:
        gc.enable()


# The budget


async def test_the_calls_of_one_dead_tool_may_have_the_retries_of_all() -> None:
    budget = BudgetPolicy(share=0.2, a_second=0)
    stage = Stage(DOWN, retry=at_once(attempts=3), budget=budget, clock=HandClock())
    stage.registry.tool(name="well", policy=ToolPolicy(retry=at_once()))(FINE)
    assert (await stage.orch.run("tool")).attempts == 1
    for _ in range(8):
        await stage.orch.run("well")
    assert (await stage.orch.run("tool")).attempts == 3
    assert (await stage.orch.run("tool")).attempts == 1


class Slow:
    """
    A budget as it is said to be, that looks through all that ever happened.
    """

    def __init__(self, share: float, a_second: int) -> None:
        self.share, self.a_second = share, a_second
        self.calls: list[float] = []
        self.shared: list[float] = []
        self.others: list[float] = []
        self.now = 0.0

    def turn(self, now: float) -> None:
        if now < self.now:
            by = now - self.now
            for times in (self.calls, self.shared, self.others):
                times[:] = [each + by for each in times]
        self.now = now

    def bounds(self, seconds: float) -> tuple[int, int]:
        calls = sum(self.now - each < seconds for each in self.calls)
        return calls, sum(self.now - each < seconds for each in self.shared)

    def others_now(self) -> int:
        return sum(self.now - each < 1 for each in self.others)


TIMES = st.one_of(
    st.floats(0, 0.3), st.floats(0, 3), st.sampled_from([0.0, 1.0, 9.0, 10.0, 11.0, 1e4])
)


@settings(max_examples=400)
@given(
    share=st.sampled_from([0, 0.1, 0.2, 0.5, 1, 2.5]),
    a_second=st.integers(0, 4),
    steps=st.lists(
        st.tuples(TIMES, st.sampled_from(["call", "take", "take", "back", "nan"])),
        max_size=80,
    ),
)
def test_the_budget_is_what_it_is_said_to_be(
    share: float, a_second: int, steps: list[tuple[float, str]]
) -> None:
    budget = Budget(BudgetPolicy(share=share, a_second=a_second))
    slow, now = Slow(share, a_second), 1000.0
    slow.turn(now)
    budget.called(now)
    slow.calls.append(now)
    for seconds, what in steps:
        now += -seconds if what == "back" else seconds
        if what == "nan":
            budget.called(float("nan"))
            slow.calls.append(slow.now)
            now -= seconds
            continue
        slow.turn(now)
        if what == "take":
            got = budget.take(now)
            # The window is of nine to ten seconds; what is in it is known to that.
            options = set()
            for length in (9.0, 10.0):
                calls, shared = slow.bounds(length)
                options.add((calls, shared))
            by_second = slow.others_now() < a_second
            (few, few_shared), (many, many_shared) = sorted(options)[0], sorted(options)[-1]
            surely = few_shared == many_shared and many_shared + 1 <= few * share
            never = few_shared + 1 > many * share
            if surely or by_second:
                assert got
            if never and not by_second:
                assert not got
            if got:
                # By which it was cannot be seen: by the share if there was one.
                by_share = len(budget._recent) == 0 or budget._recent[-1] != now
                by_share = budget._window.failures > few_shared if surely else by_share
                (slow.shared if by_share else slow.others).append(now)
        else:
            budget.called(now)
            slow.calls.append(now)
        # Never more in all than the share of all calls, and so many a second.
        assert len(slow.shared) <= share * len(slow.calls) + 1e-9


@settings(max_examples=200)
@given(
    gaps=st.lists(st.floats(0, 2, allow_nan=False), min_size=1, max_size=200),
    share=st.sampled_from([0, 0.2, 1]),
    a_second=st.integers(0, 3),
)
def test_a_storm_of_retries_is_bounded_in_every_span_of_time(
    gaps: list[float], share: float, a_second: int
) -> None:
    budget, now = Budget(BudgetPolicy(share=share, a_second=a_second)), 0.0
    calls: list[float] = []
    retries: list[float] = []
    for gap in gaps:
        now += gap
        budget.called(now)
        calls.append(now)
        retries += [now] * sum(budget.take(now) for _ in range(4))
    spans = now // 1 + 2
    assert len(retries) <= share * len(calls) + a_second * spans
    for start in retries:
        within = sum(start <= each < start + 1 for each in retries)
        before = sum(start - 10 <= each < start + 1 for each in calls)
        assert within <= share * before + a_second


@pytest.mark.parametrize(("seconds", "counts"), [(9.75, True), (10.0, False)])
def test_a_call_counts_for_ten_seconds(seconds: float, counts: bool) -> None:
    budget = Budget(BudgetPolicy(share=1, a_second=0))
    budget.called(100.0)
    assert budget.take(100.0 + seconds) is counts


def test_a_budget_that_was_small_for_a_while_forgets_nothing() -> None:
    budget = Budget(BudgetPolicy(share=0, a_second=5))
    assert [budget.take(5.0) for _ in range(5)] == [True] * 5
    budget.configure(BudgetPolicy(share=0, a_second=1))
    assert not budget.take(5.25)
    budget.configure(BudgetPolicy(share=0, a_second=5))
    assert not budget.take(5.5)
    assert budget.take(6.0)


def test_a_budget_may_be_large() -> None:
    budget = Budget(BudgetPolicy(share=0, a_second=300))
    assert [budget.take(5.0) for _ in range(301)] == [True] * 300 + [False]


def test_a_budget_that_is_reloaded_goes_on_with_what_was_counted() -> None:
    budget = Budget(BudgetPolicy(share=0, a_second=2))
    assert [budget.take(5.0) for _ in range(3)] == [True, True, False]
    budget.configure(BudgetPolicy(share=0, a_second=3))
    assert [budget.take(5.0) for _ in range(2)] == [True, False]
    budget.configure(BudgetPolicy(share=0, a_second=1))
    assert not budget.take(5.5)
    assert budget.take(6.0)
    budget.configure(BudgetPolicy(share=0.5, a_second=0))
    for _ in range(4):
        budget.called(6.0)
    assert [budget.take(6.0) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("first", [float("nan"), float("inf")])
def test_a_clock_that_fails_at_first_wedges_no_budget(first: float) -> None:
    budget = Budget(BudgetPolicy(share=0, a_second=1))
    assert budget.take(first)
    assert not budget.take(-500.0)
    assert budget.take(-499.0)


@virtual_time
@pytest.mark.parametrize("rate", [1, 10, 100])
async def test_in_an_outage_the_dead_tool_has_few_calls_more_than_there_are_callers(
    rate: int,
) -> None:
    stage = Stage(DOWN, retry=plain(attempts=5, wait_initial=0.1), budget=BudgetPolicy())
    begun, seconds = anyio.current_time(), 30

    async with anyio.create_task_group() as tasks:
        for _ in range(rate * seconds):
            tasks.start_soon(stage.orch.dispatch, "tool")
            await anyio.sleep(1 / rate)
    calls = rate * seconds
    took = stage.times[-1] - begun
    assert stage.runs - calls == stage.orch.stats("tool").retries
    assert calls < stage.runs <= 1.2 * calls + 3 * (took + 1)
    for at in (5, 15, 29):  # and so it is at any time
        sofar = sum(each - begun <= at for each in stage.times)
        assert sofar <= 1.2 * (rate * at + 1) + 3 * (at + 1)
    # Each is either out of the share or one of three in its second: there are as many as
    # may be, where there are enough callers to want them.
    if rate >= 10:
        assert stage.runs >= 1.15 * calls
    without = Stage(DOWN, retry=plain(attempts=5, wait_initial=0.1))
    await without.orch.run("tool")
    assert without.runs == 5


async def test_the_budget_is_shared_by_all_tools_and_can_be_changed() -> None:
    registry, runs = Registry(), 0
    for name in ("one", "two"):

        @registry.tool(
            name=name, idempotent=True, policy=ToolPolicy(retry=at_once(), breaker=NEVER)
        )
        async def tool() -> None:
            nonlocal runs
            runs += 1
            raise ConnectionError

    clock = HandClock()
    budget = BudgetPolicy(share=0, a_second=4)
    orch = ToolOrchestrator(registry, clock=clock, retry_budget=budget)
    assert [(await orch.run(name)).attempts for name in ("one", "two", "one")] == [4, 2, 1]
    orch.reload(retry_budget=None)
    assert (await orch.run("two")).attempts == 4
    orch.reload(retry_budget=BudgetPolicy(share=0, a_second=2))
    assert [(await orch.run("one")).attempts for _ in range(2)] == [3, 1]
    orch.reload(retry_budget=BudgetPolicy(share=0, a_second=3))
    assert [(await orch.run("one")).attempts for _ in range(2)] == [2, 1]
    orch.reload()
    assert (await orch.run("one")).attempts == 1
    clock.turn(1)
    assert (await orch.run("one")).attempts == 4


async def test_a_clock_that_fails_tries_nothing_again() -> None:
    def clock() -> float:
        if failing:
            raise OSError("no clock")
        return 1.0

    failing = False
    stage = Stage(DOWN, retry=at_once(), clock=clock, budget=BudgetPolicy())
    await stage.orch.run("tool")
    failing = True
    assert not (await stage.orch.run("tool")).ok
    assert stage.runs == 4


def test_the_module_has_no_wait_of_its_own() -> None:
    assert "sleep(" not in Path(retry_module.__file__).read_text()


def test_retries_print_nothing_where_nobody_has_asked_for_a_log() -> None:
    program = """if True:
        import anyio
        from orchestrator_async import Registry, RetryPolicy, ToolOrchestrator, ToolPolicy
        registry, calls = Registry(), iter([1, 2])
        retry = RetryPolicy(wait_initial=0, wait_jitter=0)

        @registry.tool(idempotent=True, policy=ToolPolicy(retry=retry))
        async def tool() -> str:
            if next(calls) == 1:
                raise ConnectionError("down")
            return "fine"

        print(anyio.run(ToolOrchestrator(registry).dispatch, "tool"))
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == ("fine\n", "", 0)
