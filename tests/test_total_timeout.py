"""
The time of a whole call, with its queues, waits and attempts, and what verdict an attempt
has that was cut off by it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
import stamina
import trio
from anyio.lowlevel import checkpoint

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    LimitExceededError,
    LimitPolicy,
    Registry,
    RetryPolicy,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
    ToolTimeoutError,
    Verdict,
)
from orchestrator_async._policy import BreakerSettings, ToolSettings

from .clock import real_time, virtual_time
from .rig import on_asyncio
from .support import HandClock, assert_adds_up, when_blocked
from .test_retry import (
    DOWN,
    FINE,
    NEVER,
    Stage,
    at_once,
    plain,
    raising,
    run_once_begun,
)


def lasting(*seconds: float, clean_up: float = 0) -> Any:
    """
    A tool whose runs last so long, one after another, and then fail.
    """
    rest = list(seconds)

    async def act() -> Any:
        try:
            await anyio.sleep(rest.pop(0) if len(rest) > 1 else rest[0])
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(clean_up)
        raise ConnectionError("down")

    return act


async def took(stage: Stage) -> tuple[Any, float]:
    begun = anyio.current_time()
    result = await stage.orch.run("tool")
    return result, anyio.current_time() - begun


@virtual_time
async def test_a_call_that_takes_too_long_is_stopped_and_says_what_was_set() -> None:
    stage = Stage(lasting(100), total_timeout=10)
    result, seconds = await took(stage)
    assert seconds == pytest.approx(10)
    assert isinstance(result.error, ToolTimeoutError)
    assert result.error.timeout == 10
    assert "within its 10 s" in json.loads(result.content)["error"]
    assert result.attempts == 1
    assert stage.orch.stats("tool").timeouts == 1


@virtual_time
async def test_each_attempt_gets_what_is_left() -> None:
    stage = Stage(lasting(3, 100), total_timeout=10, retry=plain(attempts=9))
    begun = anyio.current_time()
    result, seconds = await took(stage)
    assert seconds == pytest.approx(10)
    assert result.attempts == 2
    assert isinstance(result.error, ToolTimeoutError)
    assert result.error.timeout == 10  # not the 6 s that this one had
    assert [each.deadline - begun for each in stage.contexts] == pytest.approx([10, 10])
    assert result.duration == pytest.approx(9)


@virtual_time
async def test_the_tools_own_timeout_is_each_attempts() -> None:
    stage = Stage(lasting(100), timeout=4, total_timeout=10, retry=plain(attempts=9))
    begun = anyio.current_time()
    result, seconds = await took(stage)
    # 4 s, a wait of 1, 4 s, and no wait of 2, which would end after the 10 s.
    assert seconds == pytest.approx(9)
    assert result.attempts == 2
    assert result.error.timeout == 4
    assert result.verdict is Verdict.FAILURE
    assert [each.deadline - begun for each in stage.contexts] == pytest.approx([4, 9])
    stage = Stage(lasting(100), timeout=4, total_timeout=7, retry=plain(attempts=9))
    result, seconds = await took(stage)
    assert seconds == pytest.approx(7)
    assert result.error.timeout == 7


@virtual_time
@pytest.mark.parametrize("wait", [9.9, 10.0, 10.1])
async def test_no_wait_goes_past_its_end(wait: float) -> None:
    stage = Stage(DOWN, FINE, total_timeout=10, retry=plain(wait_initial=wait))
    result, seconds = await took(stage)
    assert (result.attempts, stage.waits) == ((2, [9.9]) if wait < 10 else (1, []))
    assert seconds == pytest.approx(9.9 if wait < 10 else 0)


@virtual_time
@pytest.mark.parametrize("wait", [9.9, 10.0, 10.1])
async def test_no_wait_goes_past_the_callers_own_deadline(wait: float) -> None:
    stage = Stage(DOWN, FINE, total_timeout=50, retry=plain(wait_initial=wait))
    with anyio.move_on_after(10) as scope:
        result, seconds = await took(stage)
    assert not scope.cancelled_caught
    assert result.attempts == (2 if wait < 10 else 1)
    assert seconds == pytest.approx(9.9 if wait < 10 else 0)


@virtual_time
async def test_a_pause_that_ends_too_late_is_not_waited_for() -> None:
    class BusyError(Exception):
        retry_after = 10

    stage = Stage(raising(BusyError()), total_timeout=10)
    result, seconds = await took(stage)
    assert (result.attempts, result.retry_after, seconds) == (1, 10, 0)


@virtual_time
async def test_the_callers_own_deadline_is_none_of_ours() -> None:
    stage = Stage(lasting(100), total_timeout=10)
    with anyio.move_on_after(3) as scope:
        await stage.orch.run("tool")
    assert scope.cancelled_caught
    stats = stage.orch.stats("tool")
    assert (stats.cancelled, stats.timeouts, stats.total_failures) == (1, 0, 0)
    stage = Stage(lasting(100), total_timeout=10)
    with anyio.move_on_after(11) as scope:
        result, _ = await took(stage)
    assert not scope.cancel_called
    assert isinstance(result.error, ToolTimeoutError)
    with pytest.raises(TimeoutError), anyio.fail_after(10):
        await Stage(lasting(100), total_timeout=20).orch.run("tool")


@virtual_time
async def test_queues_are_within_it() -> None:
    limits = LimitPolicy(max_concurrent=1, max_wait=1000)
    stage = Stage(lasting(6), limits=limits, total_timeout=10, retry=plain(attempts=1))
    results: list[Any] = []

    async def call() -> None:
        results.append((*await took(stage), anyio.current_time()))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(call)
            await when_blocked()
    by_time = sorted(results, key=lambda each: each[2])
    kinds = [type(result.error) for result, _, _ in by_time]
    assert sorted(each.__name__ for each in kinds) == [
        "ConnectionError",
        "LimitExceededError",
        "ToolTimeoutError",
    ]
    assert [seconds for _, seconds, _ in by_time] == pytest.approx([6, 10, 10])
    cut = next(r for r, _, _ in by_time if isinstance(r.error, ToolTimeoutError))
    # The 4 s that the queue has left it say nothing of the tool.
    assert cut.verdict is Verdict.IGNORE
    assert any(isinstance(result.error, LimitExceededError) for result, _, _ in by_time)
    assert_adds_up(stage.orch)


@virtual_time
async def test_a_rate_is_waited_for_within_it() -> None:
    limits = LimitPolicy(calls=1, seconds=8, max_wait=1000)
    stage = Stage(FINE, limits=limits, total_timeout=10, retry=plain(attempts=1))
    assert (await took(stage))[0].ok
    result, seconds = await took(stage)
    assert result.ok
    assert seconds == pytest.approx(8)
    limits = LimitPolicy(calls=1, seconds=11, max_wait=1000)
    stage = Stage(FINE, limits=limits, total_timeout=10, retry=plain(attempts=1))
    await took(stage)
    result, seconds = await took(stage)
    assert isinstance(result.error, LimitExceededError)
    assert seconds == 0


@virtual_time
async def test_it_goes_by_the_loops_clock_whatever_the_orchestrators_is() -> None:
    stage = Stage(lasting(3), total_timeout=10, retry=plain(attempts=99), clock=HandClock())
    result, seconds = await took(stage)
    # 3, wait 1, 3, wait 2, and the 1 s that is left.
    assert seconds == pytest.approx(10)
    assert result.attempts == 3


def let_pass(seconds: float) -> None:
    """
    Have so much time gone by at once, as where the loop is held up.
    """
    clock: Any = (
        asyncio.get_running_loop() if on_asyncio() else trio.lowlevel.current_clock()
    )
    clock.jump(seconds)


@virtual_time
@pytest.mark.parametrize("held_up", [6, 60])
async def test_no_attempt_is_begun_where_the_loop_was_held_up_past_the_end(
    held_up: float,
) -> None:
    @contextmanager
    def until_the_next_attempt() -> Iterator[None]:
        yield
        let_pass(held_up)

    stage = Stage(DOWN, FINE, total_timeout=10, retry=plain(wait_initial=4))
    stamina.instrumentation.set_on_retry_hooks([lambda details: until_the_next_attempt()])
    try:
        result, seconds = await took(stage)
    finally:
        stamina.instrumentation.set_on_retry_hooks(None)
    assert isinstance(result.error, ConnectionError)
    assert (result.attempts, stage.runs, seconds) == (1, 1, 4 + held_up)
    assert stage.waits == [4]


# Verdicts of attempts that were cut off


@virtual_time
@pytest.mark.parametrize(
    ("policy", "first", "verdict"),
    [
        ({"total_timeout": 10}, 0, Verdict.FAILURE),  # it had all the time
        ({"total_timeout": 10}, 1, Verdict.IGNORE),
        ({"total_timeout": 10}, 0.2, Verdict.FAILURE),  # nearly all
        ({"total_timeout": 10, "hang_after": 5}, 3, Verdict.FAILURE),
        ({"total_timeout": 10, "hang_after": 5}, 6, Verdict.IGNORE),
        ({"total_timeout": 10, "hang_after": None}, 0, Verdict.IGNORE),
        ({"total_timeout": 10, "timeout": 60}, 0, Verdict.FAILURE),
        ({"total_timeout": 10, "timeout": 60}, 1, Verdict.IGNORE),
        ({"total_timeout": 10, "timeout": 4}, 0, Verdict.FAILURE),
        ({"total_timeout": 10, "timeout": 4}, 6.1, Verdict.FAILURE),  # 3.9 of its 4 s
        ({"total_timeout": 10, "timeout": 4}, 7, Verdict.IGNORE),
    ],
    ids=list("ABCDEFGHIJK"),
)
async def test_who_had_time_enough_has_failed_and_who_had_not_says_nothing(
    policy: dict[str, Any], first: float, verdict: Verdict
) -> None:
    limits = LimitPolicy(max_concurrent=1, max_wait=100)
    group: dict[str, Any] = {"orchestrator": {"groups": {"g": limits}}, "group": "g"}
    stage = Stage(lasting(100), retry=plain(attempts=1), **group, **policy)

    @stage.registry.tool(policy=ToolPolicy(group="g"))
    async def holder() -> None:
        await anyio.sleep(first)

    async with anyio.create_task_group() as tasks:
        if first:
            tasks.start_soon(stage.orch.run, "holder")
            await when_blocked()
        result, _ = await took(stage)
    assert isinstance(result.error, ToolTimeoutError)
    assert result.verdict is verdict
    failed = verdict is Verdict.FAILURE
    assert stage.orch.circuit("tool").failures == failed
    stats = stage.orch.stats("tool")
    assert (stats.timeouts, stats.total_failures, stats.ignored) == (1, failed, not failed)
    assert stage.of(CallFinished)[-1].verdict is verdict
    assert_adds_up(stage.orch)


@virtual_time
async def test_a_hung_tool_is_found_out_by_the_whole_calls_time_alone() -> None:
    policies: tuple[dict[str, Any], ...] = ({}, {"timeout": 60})
    for policy in policies:
        stage = Stage(lasting(1000), breaker=BreakerPolicy(), total_timeout=10, **policy)
        for _ in range(3):
            await stage.orch.run("tool")
        assert stage.orch.circuit("tool").state == "open"


@virtual_time
@pytest.mark.parametrize("hangs", [True, False])
async def test_a_probe_that_was_cut_off_reopens_only_if_it_had_time_enough(
    hangs: bool,
) -> None:
    limits = LimitPolicy(max_concurrent=1, max_wait=100)
    stage = Stage(
        lasting(100),
        FINE,
        breaker=BreakerPolicy(),
        total_timeout=10,
        group="g",
        orchestrator={"groups": {"g": limits}},
    )

    @stage.registry.tool(policy=ToolPolicy(group="g"))
    async def holder() -> None:
        await anyio.sleep(4)

    circuit = stage.orch.circuit("tool")
    circuit.trip()
    await anyio.sleep(300)
    async with anyio.create_task_group() as tasks:
        if not hangs:
            tasks.start_soon(stage.orch.run, "holder")
            await when_blocked()
        result, seconds = await took(stage)
    assert isinstance(result.error, ToolTimeoutError)
    assert seconds == pytest.approx(10)
    assert (result.attempts, stage.waits) == (1, [])
    assert (result.state, result.verdict) == (
        ("open", Verdict.FAILURE) if hangs else ("half_open", Verdict.IGNORE)
    )
    if not hangs:  # its place is free for the next one
        assert await stage.orch.dispatch("tool") == "fine"
        assert circuit.state == "closed"


@pytest.mark.parametrize(
    ("timeout", "total", "lease", "hang_after"),
    [
        (None, None, 77, float("inf")),
        (30, None, 33, 28.5),
        (None, 30, 33, 28.5),
        (30, 60, 33, 28.5),
        (60, 30, 33, 28.5),
        (30, 30, 33, 28.5),
        (5, 2, 3, 1.9),
    ],
)
def test_a_probes_lease_and_what_is_a_hang_go_by_the_shorter_of_the_two(
    timeout: float | None, total: float | None, lease: float, hang_after: float
) -> None:
    settings = ToolSettings.of(ToolPolicy(timeout=timeout, total_timeout=total))
    breaker = BreakerSettings.of(BreakerPolicy(probe_lease=77))
    assert settings.lease(breaker) == pytest.approx(lease)
    assert settings.hang_after == pytest.approx(hang_after)
    told = ToolSettings.of(ToolPolicy(timeout=timeout, total_timeout=total, hang_after=3))
    assert told.hang_after == 3


@virtual_time
async def test_a_probes_lease_outlasts_it() -> None:
    """
    Nobody else probes as long as the probe may run, also where it cleans up.
    """
    stage = Stage(
        lasting(100, clean_up=0.5), FINE, breaker=BreakerPolicy(), total_timeout=10
    )
    circuit = stage.orch.circuit("tool")
    circuit.trip()
    await anyio.sleep(300)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.orch.run, "tool")
        await anyio.sleep(10.4)
        assert (await stage.orch.run("tool")).attempts == 0
    assert circuit.state == "open"


@virtual_time
async def test_a_value_that_comes_late_all_the_same_goes_to_the_caller() -> None:
    async def swallow() -> str:
        try:
            await anyio.sleep(100)
        except BaseException:
            return "late"
        return "never"

    stage = Stage(swallow, total_timeout=10)
    result, _ = await took(stage)
    assert result.content == "late"
    assert result.verdict is Verdict.FAILURE
    assert result.attempts == 1


@virtual_time
async def test_a_reload_takes_nothing_from_a_call_under_way() -> None:
    stage = Stage(lasting(3, 100))
    results: list[Any] = []

    async def call() -> None:
        results.append(await took(stage))

    stage.orch.reload(policy=ToolPolicy(total_timeout=10), retry_budget=None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.sleep(3.5)
        stage.orch.reload(retry_budget=None)  # and now there is no limit
    ((result, seconds),) = results
    assert seconds == pytest.approx(10)
    assert isinstance(result.error, ToolTimeoutError)
    assert result.error.timeout == 10
    assert result.error.__cause__ is None


@real_time
async def test_a_thread_that_is_cut_off_runs_on_and_holds_its_place() -> None:
    registry, go_on, begun = Registry(), threading.Event(), threading.Event()
    policy = ToolPolicy(total_timeout=0.3, retry=at_once(), max_threads=1, breaker=NEVER)

    @registry.tool(idempotent=True, policy=policy)
    def tool() -> str:
        begun.set()
        go_on.wait(30)
        return "done"

    orch = ToolOrchestrator(registry)
    try:
        result = await run_once_begun(orch, begun)
        assert isinstance(result.error, ToolTimeoutError)
        assert result.error.still_running
        assert result.error.timeout == 0.3
        assert (result.attempts, result.verdict) == (1, Verdict.FAILURE)
        refused = await orch.run("tool")
        assert isinstance(refused.error, LimitExceededError)
    finally:
        go_on.set()


async def test_a_tool_with_nothing_but_it_works_on_every_loop() -> None:
    registry = Registry()

    @registry.tool(policy=ToolPolicy(total_timeout=1000))
    async def tool(context: ToolContext) -> str:
        await checkpoint()
        left = context.deadline - anyio.current_time()
        return "bounded" if 0 < left <= 1000 else "not"

    orch = ToolOrchestrator(registry)
    for _ in range(2):
        assert await orch.dispatch("tool") == "bounded"
        assert (await orch.run("tool")).attempts == 1
    assert await orch.call("tool") == "bounded"


@pytest.mark.parametrize("total", [0, -1, float("inf"), float("nan"), "1", True])
def test_a_time_that_cannot_be_is_refused(total: Any) -> None:
    with pytest.raises(ValueError, match="total_timeout"):
        ToolPolicy(total_timeout=total)


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"wait_initial": -1},
        {"wait_max": float("inf")},
        {"wait_exp_base": 0.5},
        {"wait_jitter": float("nan")},
        {"jitter_source": 1},
        {"on": ValueError},
        {"on": (1,)},
        {"on": "x"},
        {"on_result": 1},
    ],
    ids=repr,
)
def test_a_policy_that_cannot_be_names_what_is_wrong(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=name):
        RetryPolicy(**options)
