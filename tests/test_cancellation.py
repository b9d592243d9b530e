"""
Cancellation: whose it was, what it says of the tool, and that it is never lost.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from orchestrator_async import (
    BreakerPolicy,
    Registry,
    ToolCall,
    ToolCancelledError,
    ToolOrchestrator,
    ToolPolicy,
    ToolTimeoutError,
    Verdict,
)

from .clock import virtual_time
from .support import HandClock, Service, assert_adds_up, bench, fail, succeed, when_blocked

asyncio_only = pytest.mark.parametrize(
    "anyio_backend", ["asyncio", "asyncio+uvloop"], indirect=True
)

each_answer = pytest.mark.parametrize("answer", ["dispatch", "call", "run", "dispatch_all"])
with_and_without_timeout = pytest.mark.parametrize("timeout", [None, 1000.0])


async def ask(orch: ToolOrchestrator, answer: str, name: str = "tool") -> Any:
    if answer == "dispatch_all":
        return await orch.dispatch_all([ToolCall(name)])
    return await getattr(orch, answer)(name)


def assert_untouched(orch: ToolOrchestrator, name: str = "tool") -> None:
    """
    Nothing was held against the tool, and nothing is in flight.
    """
    circuit = orch.circuit(name)
    assert (circuit.state, circuit.failures) == ("closed", 0)
    assert orch.get_fleet_stats()[name]["total_failures"] == 0
    assert_adds_up(orch)


# A cancellation that nobody asked for


async def break_off() -> None:
    """
    End cancelled, as what waits on a connection's own task does when that is gone.
    """
    if asyncio_is_running():
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future
    else:
        raise await a_cancellation()


def asyncio_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def a_cancellation() -> BaseException:
    """
    The exception of a cancellation that is over.
    """
    kept: list[BaseException] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            kept.append(error)
            raise
    return kept[0]


@with_and_without_timeout
async def test_a_tool_that_breaks_off_by_itself_is_an_error_and_its_siblings_answer(
    timeout: float | None,
) -> None:
    registry, broken, slow = Registry(), Service(break_off), Service()
    broken.offer(registry, "broken")
    slow.offer(registry, "slow")
    Service().offer(registry, "quick")
    orch = ToolOrchestrator(registry, clock=HandClock(), timeout=timeout)

    for turn in range(10):
        gate = anyio.Event()

        async def after_the_break(gate: anyio.Event = gate) -> str:
            await gate.wait()
            return "fine"

        async def break_beside_others(gate: anyio.Event = gate) -> None:
            await when_blocked()
            gate.set()
            await break_off()

        broken.behaviour, slow.behaviour = break_beside_others, after_the_break
        if turn >= 3:
            gate.set()
        results = await orch.dispatch_all(
            [ToolCall("slow"), ToolCall("broken"), ToolCall("quick")]
        )

        assert [result.ok for result in results] == [True, False, True]
        assert "error" in json.loads(results[1].content)
        assert orch.circuit("broken").state == ("open" if turn >= 2 else "closed")

    assert broken.runs == 3
    assert orch.circuit("slow").failures == orch.circuit("quick").failures == 0
    assert_adds_up(orch)


async def test_a_call_that_breaks_off_by_itself_raises_an_error_of_ours() -> None:
    orch, service = bench(HandClock())
    service.behaviour = break_off

    with pytest.raises(ToolCancelledError) as caught:
        await orch.call("tool")

    assert caught.value.tool_name == "tool"
    assert orch.circuit("tool").failures == 1


async def test_an_answer_to_a_call_that_breaks_off_is_text() -> None:
    orch, service = bench(HandClock())
    service.behaviour = break_off

    answer = json.loads(await orch.dispatch("tool"))

    assert answer["error_type"] == "ToolCancelledError"
    await anyio.lowlevel.checkpoint()  # and nothing is left of it


@asyncio_only
@each_answer
async def test_a_tool_that_cancels_its_own_task_does_not_break_what_is_around_it(
    answer: str,
) -> None:
    orch, service = bench(HandClock())

    async def cancel_myself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    service.behaviour = cancel_myself

    async def caller() -> Any:
        return await ask(orch, answer)

    task = asyncio.create_task(caller())
    await asyncio.wait([task])

    # Whoever it was that it cancelled: an answer or a cancellation, and nothing else.
    assert task.cancelled() or task.exception() is None or answer == "call"
    assert_adds_up(orch)


@asyncio_only
@pytest.mark.parametrize("limit", [1, 2, 16])
async def test_a_tool_that_cancels_its_own_task_leaves_its_siblings_their_answers(
    limit: int,
) -> None:
    registry = Registry()

    @registry.tool
    async def suicidal() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    Service().offer(registry, "healthy")
    orch = ToolOrchestrator(registry, clock=HandClock())

    results = await orch.dispatch_all(
        [
            ToolCall("suicidal"),
            ToolCall("healthy"),
            ToolCall("suicidal"),
            ToolCall("healthy"),
        ],
        limit=limit,
    )

    assert [result.ok for result in results] == [False, True, False, True]


# A cancellation that somebody asked for


async def hang() -> None:
    await anyio.sleep_forever()


@with_and_without_timeout
@each_answer
async def test_a_scope_cancels_a_call(answer: str, timeout: float | None) -> None:
    orch, service = bench(HandClock(), timeout=timeout)
    service.behaviour = hang
    for _ in range(5):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def cancel_later(scope: anyio.CancelScope = scope) -> None:
                    await when_blocked()
                    scope.cancel()

                tasks.start_soon(cancel_later)
                await ask(orch, answer)
        assert scope.cancelled_caught

    assert_untouched(orch)
    assert orch.get_fleet_stats()["tool"]["cancelled"] == 5


@asyncio_only
@with_and_without_timeout
@each_answer
async def test_a_request_to_the_task_cancels_a_call(
    answer: str, timeout: float | None
) -> None:
    orch, service = bench(HandClock(), timeout=timeout)
    service.behaviour = hang
    for _ in range(5):
        task = asyncio.create_task(ask(orch, answer))
        await when_blocked()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    assert_untouched(orch)
    assert orch.get_fleet_stats()["tool"]["cancelled"] == 5


@asyncio_only
@with_and_without_timeout
@each_answer
@pytest.mark.parametrize("way", ["timeout", "wait_for"])
async def test_a_deadline_of_asyncio_cancels_a_call(
    answer: str, timeout: float | None, way: str
) -> None:
    orch, service = bench(HandClock(), timeout=timeout)
    service.behaviour = hang

    async def caller() -> None:
        if way == "wait_for":
            await asyncio.wait_for(ask(orch, answer), 0.005)
        else:
            async with asyncio.timeout(0.005):
                await ask(orch, answer)

    with pytest.raises(TimeoutError):
        await caller()

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert_untouched(orch)


async def test_five_cancelled_calls_say_nothing_of_a_healthy_tool() -> None:
    orch, service = bench(HandClock())
    service.behaviour = hang
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        assert orch.get_fleet_stats()["tool"]["in_flight"] == 5
        tasks.cancel_scope.cancel()

    assert_untouched(orch)
    figures = orch.get_fleet_stats()["tool"]
    assert (figures["calls"], figures["cancelled"], figures["in_flight"]) == (5, 5, 0)


async def test_cancelled_calls_do_not_end_a_row_of_failures() -> None:
    orch, service = bench(HandClock())
    for behaviour in (fail, hang, fail, hang, fail):
        service.behaviour = behaviour
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(orch.dispatch, "tool")
            await when_blocked()
            tasks.cancel_scope.cancel()

    assert orch.circuit("tool").state == "open"


@with_and_without_timeout
@each_answer
async def test_a_caller_that_moves_on_sees_its_own_cancellation(
    answer: str, timeout: float | None
) -> None:
    orch, service = bench(HandClock(), timeout=timeout)
    service.behaviour = hang
    with anyio.move_on_after(0.005) as scope:
        await ask(orch, answer)
        pytest.fail("the call went on")

    assert scope.cancelled_caught
    assert_untouched(orch)


@each_answer
async def test_a_caller_with_a_deadline_gets_its_own_timeout_error(answer: str) -> None:
    orch, service = bench(HandClock(), timeout=1000)
    service.behaviour = hang

    with pytest.raises(TimeoutError) as caught:
        with anyio.fail_after(0.005):
            await ask(orch, answer)

    assert not isinstance(caught.value, ToolTimeoutError)
    assert_untouched(orch)


@each_answer
async def test_a_call_in_a_cancelled_scope_ends_at_its_first_wait(answer: str) -> None:
    orch, service = bench(HandClock())
    service.behaviour = hang
    with anyio.CancelScope() as scope:
        scope.cancel()
        await ask(orch, answer)

    assert scope.cancelled_caught
    assert_adds_up(orch)
    assert orch.circuit("tool").failures == 0


@asyncio_only
@each_answer
async def test_a_task_cancelled_before_it_began_calls_nothing(answer: str) -> None:
    orch, service = bench(HandClock())
    task = asyncio.create_task(ask(orch, answer))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert service.runs == 0
    assert orch.get_fleet_stats() == {}


@asyncio_only
@with_and_without_timeout
@each_answer
async def test_a_request_made_just_before_the_call_cancels_it(
    answer: str, timeout: float | None
) -> None:
    orch, service = bench(HandClock(), timeout=timeout)
    service.behaviour = hang

    async def caller() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await ask(orch, answer)

    task = asyncio.create_task(caller())
    with pytest.raises(asyncio.CancelledError):
        await task

    assert orch.circuit("tool").failures == 0
    assert_adds_up(orch)


# Tools that do not let themselves be cancelled


async def swallow_and_return() -> str:
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        return "fine"
    raise AssertionError


async def swallow_and_return_an_error() -> dict[str, str]:
    with suppress(anyio.get_cancelled_exc_class()):
        await anyio.sleep_forever()
    return {"error": "I was interrupted"}


async def turn_it_into_an_error() -> None:
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        raise ConnectionError("interrupted") from None


async def turn_it_into_an_exit() -> None:
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        sys.exit(1)


async def raise_while_cleaning_up() -> None:
    async def child() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise OSError("the socket was gone")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child)
        tasks.start_soon(anyio.sleep_forever)
        await anyio.sleep_forever()


async def raise_while_cleaning_up_on_top() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep_forever)
        try:
            await anyio.sleep_forever()
        finally:
            raise OSError("the socket was gone")


async def shield_the_rest() -> str:
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await when_blocked()
    raise AssertionError


async def nest_groups() -> None:
    async with anyio.create_task_group() as outer:
        outer.start_soon(raise_while_cleaning_up)
        async with anyio.create_task_group() as inner:
            inner.start_soon(raise_while_cleaning_up)
            inner.start_soon(raise_while_cleaning_up_on_top)
            await anyio.sleep_forever()


async def break_off_when_cancelled() -> None:
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        await break_off()


STUBBORN = [
    swallow_and_return,
    swallow_and_return_an_error,
    turn_it_into_an_error,
    turn_it_into_an_exit,
    raise_while_cleaning_up,
    raise_while_cleaning_up_on_top,
    shield_the_rest,
    nest_groups,
    break_off_when_cancelled,
]
each_stubborn = pytest.mark.parametrize(
    "behaviour", STUBBORN, ids=[each.__name__ for each in STUBBORN]
)

# Not ``nest_groups`` for a request to the task: there anyio's own groups take the
# request back (``cancelling()`` is 0 at their end), so nobody can know of it.
ASKED = [each for each in STUBBORN if each is not nest_groups]
each_stubborn_that_asyncio_knows_of = pytest.mark.parametrize(
    "behaviour", ASKED, ids=[each.__name__ for each in ASKED]
)


@with_and_without_timeout
@each_answer
@each_stubborn
async def test_no_tool_keeps_a_scope_from_cancelling(
    behaviour: Callable[[], Awaitable[Any]], answer: str, timeout: float | None
) -> None:
    orch, service = bench(HandClock(), timeout=timeout)
    service.behaviour = behaviour
    for _ in range(4):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def cancel_later(scope: anyio.CancelScope = scope) -> None:
                    await when_blocked()
                    scope.cancel()

                tasks.start_soon(cancel_later)
                await ask(orch, answer)
                # It may answer first; at the next wait there is no way round it.
                await anyio.lowlevel.checkpoint()
                pytest.fail("the cancellation was lost")
        assert scope.cancelled_caught

    assert service.running == 0
    assert_untouched(orch)


@asyncio_only
@with_and_without_timeout
@each_answer
@each_stubborn_that_asyncio_knows_of
async def test_no_tool_keeps_a_request_to_the_task_from_cancelling(
    behaviour: Callable[[], Awaitable[Any]], answer: str, timeout: float | None
) -> None:
    orch, service = bench(HandClock(), timeout=timeout)
    service.behaviour = behaviour
    for _ in range(4):
        task = asyncio.create_task(ask(orch, answer))
        await when_blocked()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    assert service.running == 0
    assert_untouched(orch)


@asyncio_only
@each_answer
@each_stubborn_that_asyncio_knows_of
async def test_no_tool_keeps_a_deadline_of_asyncio_from_cancelling(
    behaviour: Callable[[], Awaitable[Any]], answer: str
) -> None:
    orch, service = bench(HandClock())
    service.behaviour = behaviour

    async def caller() -> None:
        async with asyncio.timeout(0.005):
            await ask(orch, answer)

    with pytest.raises(TimeoutError):
        await caller()

    assert_untouched(orch)


@asyncio_only
@pytest.mark.parametrize("behaviour", [swallow_and_return, turn_it_into_an_error])
async def test_a_request_is_not_lost_in_a_scope_that_is_cancelled_too(
    behaviour: Callable[[], Awaitable[Any]],
) -> None:
    orch, service = bench(HandClock())
    swallowed, go_on = anyio.Event(), anyio.Event()

    async def swallow_then_linger() -> Any:
        try:
            return await behaviour()
        finally:
            swallowed.set()
            with anyio.CancelScope(shield=True):
                await go_on.wait()

    service.behaviour = swallow_then_linger
    scope = anyio.CancelScope()

    async def caller() -> None:
        with scope:
            await orch.dispatch("tool")
            await anyio.lowlevel.checkpoint()

    task = asyncio.create_task(caller())
    await when_blocked()
    task.cancel()
    await swallowed.wait()
    scope.cancel()
    await when_blocked()
    go_on.set()
    await asyncio.wait([task])

    assert task.cancelled()
    assert_untouched(orch)


@with_and_without_timeout
async def test_a_cancellation_goes_up_also_where_an_error_is_being_handled(
    timeout: float | None,
) -> None:
    orch, service = bench(HandClock(), timeout=timeout)
    # Anyio knows a cancellation that was raised anew by what it came from.
    service.behaviour = break_off_when_cancelled
    for _ in range(2):
        with anyio.move_on_after(0.005) as scope:
            try:
                raise ValueError("something went wrong; ask the tool about it")
            except ValueError:
                await orch.dispatch("tool")
        assert scope.cancelled_caught

    assert_untouched(orch)


@each_answer
async def test_what_a_tool_raises_has_no_context_of_ours(answer: str) -> None:
    orch, service = bench(HandClock(), policy=ToolPolicy(control_flow=(Approval,)))

    async def interrupt() -> None:
        raise Approval

    service.behaviour = interrupt
    with pytest.raises(Approval) as caught:
        await ask(orch, answer)

    assert caught.value.__context__ is None


@asyncio_only
async def test_deadlines_and_groups_of_asyncio_within_a_tool_are_its_own_affair() -> None:
    orch, service = bench(HandClock(), policy=BreakerPolicy(failure_threshold=100))
    verdicts = []

    async def own_deadline() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(1000)

    async def own_deadline_met() -> str:
        with suppress(TimeoutError):
            await own_deadline()
        return "fine"

    async def own_group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            await asyncio.sleep(1000)

    async def own_group_met() -> str:
        with suppress(Exception):
            await own_group()
        return "fine"

    for behaviour in (own_deadline, own_deadline_met, own_group, own_group_met):
        service.behaviour = behaviour
        verdicts.append((await orch.run("tool")).verdict)

    assert verdicts == ["failure", "success", "failure", "success"]
    assert_adds_up(orch)


@asyncio_only
@pytest.mark.parametrize("answer", ["dispatch", "call", "run"])
async def test_a_tool_may_take_back_the_request_that_it_has_answered(answer: str) -> None:
    orch, service = bench(HandClock())

    async def take_it_back() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        return "fine"

    service.behaviour = take_it_back
    task = asyncio.create_task(ask(orch, answer))
    await when_blocked()
    task.cancel()
    await task

    assert not task.cancelled()
    assert orch.get_fleet_stats()["tool"]["successes"] == 1


async def test_a_value_returned_in_spite_of_a_cancellation_is_a_success() -> None:
    orch, service = bench(HandClock())
    service.behaviour = fail
    await orch.dispatch("tool")
    service.behaviour = swallow_and_return
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        tasks.cancel_scope.cancel()

    assert orch.circuit("tool").failures == 0
    assert orch.get_fleet_stats()["tool"]["successes"] == 1
    assert_adds_up(orch)


async def test_a_caller_that_shields_itself_is_not_taken_for_cancelled() -> None:
    orch, service = bench(HandClock())
    service.behaviour = fail
    with anyio.CancelScope() as scope:
        scope.cancel()
        with anyio.CancelScope(shield=True):
            for _ in range(3):
                result = await orch.run("tool")
                assert result.verdict is Verdict.FAILURE

    assert orch.circuit("tool").state == "open"


@asyncio_only
@with_and_without_timeout
@each_answer
async def test_cleanup_after_a_swallowed_request_can_call_tools(
    answer: str, timeout: float | None
) -> None:
    orch, service = bench(HandClock(), timeout=timeout)
    texts: list[Any] = []

    async def wait_a_little() -> str:
        await when_blocked()
        return "fine"

    async def caller() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 1
        service.behaviour = wait_a_little
        texts.append(await ask(orch, answer))
        service.behaviour = fail
        with suppress(ConnectionError):
            texts.append(await ask(orch, answer))
        service.behaviour = break_off
        with suppress(ToolCancelledError):
            texts.append(await ask(orch, answer))
        texts.append("done")

    task = asyncio.create_task(caller())
    await when_blocked()
    task.cancel()
    await task

    assert texts[-1] == "done"
    figures = orch.get_fleet_stats()["tool"]
    assert (figures["successes"], figures["total_failures"]) == (1, 2)
    assert_adds_up(orch)


@asyncio_only
async def test_cleanup_after_a_swallowed_request_can_be_cancelled_in_turn() -> None:
    orch, service = bench(HandClock())
    service.behaviour = turn_it_into_an_error

    async def caller() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)
        await orch.dispatch("tool")

    task = asyncio.create_task(caller())
    await when_blocked()
    task.cancel()
    await when_blocked()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert_untouched(orch)


async def test_cleanup_in_a_cancelled_task_can_call_tools_behind_a_shield() -> None:
    orch, service = bench(HandClock(), timeout=0.01)
    texts: list[str] = []

    async def caller() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                for behaviour in (succeed, fail, break_off, hang):
                    service.behaviour = behaviour
                    texts.append(await orch.dispatch("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller)
        await when_blocked()
        tasks.cancel_scope.cancel()

    assert len(texts) == 4
    figures = orch.get_fleet_stats()["tool"]
    assert (figures["successes"], figures["total_failures"], figures["timeouts"]) == (
        1,
        3,
        1,
    )
    assert_adds_up(orch)


# Our own timeout, and the caller's


@pytest.mark.parametrize("answer", ["dispatch", "call", "run"])
@each_stubborn
async def test_the_tools_own_timeout_is_a_failure_however_it_ends(
    behaviour: Callable[[], Awaitable[Any]], answer: str
) -> None:
    orch, service = bench(HandClock(), timeout=0.005)
    service.behaviour = behaviour
    for _ in range(3):
        with suppress(ToolTimeoutError):
            await ask(orch, answer)

    assert orch.circuit("tool").state == "open"
    figures = orch.get_fleet_stats()["tool"]
    assert (figures["timeouts"], figures["total_failures"]) == (3, 3)
    assert_adds_up(orch)
    await anyio.lowlevel.checkpoint()


async def test_a_value_returned_in_spite_of_the_timeout_reaches_the_caller() -> None:
    orch, service = bench(HandClock(), timeout=0.005)
    service.behaviour = swallow_and_return

    result = await orch.run("tool")

    assert (result.value, result.content, result.ok) == ("fine", "fine", False)
    assert result.verdict is Verdict.FAILURE
    assert await orch.dispatch("tool") == await orch.call("tool") == "fine"


@with_and_without_timeout
async def test_a_timeout_error_of_the_tool_itself_is_not_taken_for_ours(
    timeout: float | None,
) -> None:
    orch, service = bench(HandClock(), timeout=timeout)

    async def give_up() -> None:
        raise TimeoutError("the peer was too slow")

    service.behaviour = give_up
    with pytest.raises(TimeoutError) as caught:
        await orch.call("tool")

    assert not isinstance(caught.value, ToolTimeoutError)
    assert orch.get_fleet_stats()["tool"]["timeouts"] == 0


@virtual_time
@pytest.mark.parametrize("behaviour", [hang, turn_it_into_an_error, shield_the_rest])
async def test_where_both_deadlines_pass_the_callers_is_acted_on_and_the_tool_is_blamed(
    behaviour: Callable[[], Awaitable[Any]],
) -> None:
    orch, service = bench(anyio.current_time, timeout=10)
    service.behaviour = behaviour
    with anyio.move_on_after(10) as scope:
        await orch.dispatch("tool")
        await anyio.lowlevel.checkpoint()
        pytest.fail("the cancellation was lost")

    assert scope.cancelled_caught
    assert orch.circuit("tool").failures == 1


@virtual_time
async def test_a_caller_cancelled_while_a_timed_out_tool_cleans_up_is_cancelled() -> None:
    orch, service = bench(anyio.current_time, timeout=10)

    async def leave_slowly() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5)

    service.behaviour = leave_slowly
    with anyio.move_on_after(12) as scope:
        await orch.dispatch("tool")
        await anyio.lowlevel.checkpoint()
        pytest.fail("the cancellation was lost")

    assert scope.cancelled_caught
    assert orch.circuit("tool").failures == 1
    assert_adds_up(orch)


@asyncio_only
@pytest.mark.parametrize("first", ["request", "timeout"])
@pytest.mark.parametrize("behaviour", [hang, swallow_and_return, turn_it_into_an_error])
async def test_a_request_at_the_moment_of_the_timeout_is_not_lost(
    behaviour: Callable[[], Awaitable[Any]], first: str
) -> None:
    orch, service = bench(HandClock(), timeout=0.005)
    task: asyncio.Task[Any]

    async def meet() -> Any:
        loop = asyncio.get_running_loop()
        if first == "request":
            loop.call_later(0.0049, task.cancel)
        else:
            loop.call_later(0.00500001, task.cancel)
        return await behaviour()

    service.behaviour = meet
    task = asyncio.create_task(orch.dispatch("tool"))
    await asyncio.wait([task])

    # Unless the call was over before, of course, and had its timeout reported.
    assert task.cancelled() or task.cancelling() == 0
    assert_adds_up(orch)


def block_the_loop(seconds: float) -> None:
    """
    Let time pass without giving anybody a turn.
    """
    if asyncio_is_running():
        asyncio.get_running_loop().jump(seconds)  # type: ignore[attr-defined]
    else:
        import trio

        trio.lowlevel.current_clock().jump(seconds)  # type: ignore[attr-defined]


@virtual_time
@each_answer
async def test_a_tool_that_blocks_past_its_callers_deadline_and_fails_gives_no_verdict(
    answer: str,
) -> None:
    orch, service = bench(anyio.current_time)

    async def block_and_fail() -> None:
        block_the_loop(20)
        await fail()

    service.behaviour = block_and_fail
    with anyio.move_on_after(10) as scope:
        await ask(orch, answer)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        pytest.fail("the cancellation was lost")

    assert scope.cancelled_caught
    assert_untouched(orch)


@virtual_time
@pytest.mark.parametrize("seconds", [10, 20])
async def test_a_tool_that_blocks_up_to_its_own_timeout_fails(seconds: float) -> None:
    orch, service = bench(anyio.current_time, timeout=10)

    async def block() -> str:
        block_the_loop(seconds)
        return "fine"

    service.behaviour = block
    result = await orch.run("tool")

    assert (result.value, result.verdict) == ("fine", Verdict.FAILURE)
    assert await orch.dispatch("tool") == "fine"
    assert orch.get_fleet_stats()["tool"]["timeouts"] == 2


@virtual_time
@pytest.mark.parametrize("answer", ["dispatch", "run"])
async def test_a_value_that_is_slow_to_turn_out_no_text_was_on_time(answer: str) -> None:
    orch, service = bench(anyio.current_time, timeout=10)

    def slow() -> Iterator[int]:
        block_the_loop(20)
        raise ValueError("no more")
        yield 1

    async def give() -> Any:
        return slow()

    assert await orch.dispatch("tool") == "fine"
    service.behaviour = give
    await ask(orch, answer)
    figures = orch.get_fleet_stats()["tool"]
    assert (figures["total_failures"], figures["timeouts"]) == (1, 0)


# Control flow


class Approval(Exception):
    pass


class Stop(BaseException):
    pass


@with_and_without_timeout
@each_answer
@pytest.mark.parametrize("raised", [Approval, KeyboardInterrupt, Stop])
async def test_control_flow_is_raised_on_and_gives_no_verdict(
    answer: str, raised: type[BaseException], timeout: float | None
) -> None:
    orch, service = bench(
        HandClock(), policy=ToolPolicy(control_flow=(Approval,)), timeout=timeout
    )

    async def interrupt() -> None:
        raise raised("wait for a human")

    service.behaviour = interrupt
    for _ in range(4):
        with pytest.raises(raised, match="wait for a human"):
            await ask(orch, answer)

    assert_untouched(orch)
    assert orch.get_fleet_stats()["tool"]["ignored"] == 4


@pytest.mark.parametrize("raised", [Approval, KeyboardInterrupt, Stop])
async def test_control_flow_comes_out_of_a_turn_of_several_tools(
    raised: type[BaseException],
) -> None:
    registry = Registry()

    @registry.tool(policy=ToolPolicy(control_flow=(Approval,)))
    async def asks() -> None:
        await when_blocked()
        raise raised

    slow = Service(when_blocked)
    slow.offer(registry, "slow")
    Service().offer(registry, "quick")
    orch = ToolOrchestrator(registry, clock=HandClock())

    with pytest.raises(raised):
        await orch.dispatch_all([ToolCall("slow"), ToolCall("asks"), ToolCall("quick")])

    for name in ("slow", "asks", "quick"):
        assert orch.circuit(name).failures == 0
    assert_adds_up(orch)


async def test_control_flow_out_of_the_tools_own_group_is_raised_on() -> None:
    orch, service = bench(HandClock(), policy=ToolPolicy(control_flow=(Approval,)))

    async def ask_in_a_group() -> None:
        async def child() -> None:
            raise Approval

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)

    service.behaviour = ask_in_a_group
    with pytest.raises((Approval, ExceptionGroup)):
        await orch.dispatch("tool")

    assert_untouched(orch)


async def test_an_interrupt_is_not_lost_where_the_caller_is_cancelled_too() -> None:
    orch, service = bench(HandClock())

    async def interrupted_while_leaving() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            try:
                await anyio.sleep_forever()
            finally:
                raise KeyboardInterrupt

    service.behaviour = interrupted_while_leaving
    with pytest.raises(BaseException) as caught:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(when_blocked_then, scope.cancel)
                await orch.dispatch("tool")

    error: BaseException | None = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, KeyboardInterrupt)
    assert_adds_up(orch)


async def when_blocked_then(fn: Callable[[], object]) -> None:
    await when_blocked()
    fn()


async def test_a_tool_that_exits_fails_and_its_siblings_live() -> None:
    registry, slow = Registry(), Service()
    gate = anyio.Event()

    @registry.tool
    async def exits() -> None:
        await when_blocked()
        gate.set()
        sys.exit(2)

    async def after_the_exit() -> str:
        await gate.wait()
        await when_blocked()
        return "fine"

    slow.behaviour = after_the_exit
    slow.offer(registry, "slow")
    Service().offer(registry, "quick")
    orch = ToolOrchestrator(registry, clock=HandClock())

    for _ in range(3):
        results = await orch.dispatch_all(
            [ToolCall("slow"), ToolCall("exits"), ToolCall("quick")]
        )
        assert [result.ok for result in results] == [True, False, True]
        assert results[1].verdict is Verdict.FAILURE
        assert "SystemExit" in results[1].content

    assert orch.circuit("exits").state == "open"
    assert_adds_up(orch)


async def test_a_program_that_calls_a_tool_that_exits_gets_an_exception() -> None:
    orch, service = bench(HandClock())

    async def leave() -> None:
        sys.exit(2)

    service.behaviour = leave
    with pytest.raises(Exception, match="SystemExit"):
        await orch.call("tool")

    assert orch.circuit("tool").failures == 1


# Groups


async def test_a_group_of_the_tools_own_errors_is_a_failure_that_can_be_read() -> None:
    orch, service = bench(HandClock())

    async def two_children() -> None:
        async def refuse(what: str) -> None:
            raise ConnectionError(f"the {what} host is unreachable")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refuse, "first")
            tasks.start_soon(anyio.sleep_forever)
            await anyio.sleep_forever()

    service.behaviour = two_children
    text = await orch.dispatch("tool")
    assert "the first host is unreachable" in json.loads(text)["error"]
    with pytest.raises(ExceptionGroup):
        await orch.call("tool")
    result = await orch.run("tool")

    assert result.verdict is Verdict.FAILURE
    assert orch.circuit("tool").state == "open"


async def mixed() -> None:
    """
    A group of a cancellation that nobody asked for and of an error.
    """
    raise BaseExceptionGroup(
        "both",
        [
            BaseExceptionGroup("deeper", [await a_cancellation(), OSError("disk full")]),
            ValueError("bad luck"),
        ],
    )


async def test_a_mixed_group_while_nobody_is_cancelled_is_a_failure() -> None:
    orch, service = bench(HandClock())
    service.behaviour = mixed

    result = await orch.run("tool")

    assert result.verdict is Verdict.FAILURE
    assert "disk full" in result.content
    assert "bad luck" in result.content
    assert orch.circuit("tool").failures == 1


@each_answer
async def test_a_mixed_group_while_the_caller_is_cancelled_is_its_cancellation(
    answer: str,
) -> None:
    orch, service = bench(HandClock())

    async def mix_when_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as error:
            deeper = BaseExceptionGroup("deeper", [OSError("disk full"), error])
            raise BaseExceptionGroup("both", [ValueError("bad luck"), deeper]) from None

    service.behaviour = mix_when_cancelled
    with anyio.move_on_after(0.005) as scope:
        await ask(orch, answer)
        pytest.fail("the cancellation was lost")

    assert scope.cancelled_caught
    assert_untouched(orch)


async def test_a_group_of_nothing_but_cancellations_that_nobody_asked_for_fails() -> None:
    orch, service = bench(HandClock())

    async def broken_off() -> None:
        raise BaseExceptionGroup("both", [await a_cancellation(), await a_cancellation()])

    service.behaviour = broken_off
    with pytest.raises(ToolCancelledError):
        await orch.call("tool")

    assert orch.circuit("tool").failures == 1


async def test_a_group_with_an_exit_in_it_is_a_failure() -> None:
    orch, service = bench(HandClock())

    async def leave() -> None:
        raise BaseExceptionGroup("both", [SystemExit(2), ValueError("bad luck")])

    service.behaviour = leave
    result = await orch.run("tool")

    assert result.verdict is Verdict.FAILURE


# Which row decides


@virtual_time
async def test_a_timeout_decides_before_control_flow_ignored_types_and_the_judge() -> None:
    orch, service = bench(
        anyio.current_time,
        timeout=10,
        judge=lambda outcome: Verdict.SUCCESS,
        policy=ToolPolicy(control_flow=(Approval,), ignore=(LookupError,)),
    )

    def ending_with(error: BaseException | None) -> Callable[[], Awaitable[str]]:
        async def behaviour() -> str:
            with suppress(anyio.get_cancelled_exc_class()):
                await anyio.sleep_forever()
            if error is not None:
                raise error
            return "fine"

        return behaviour

    for number, error in enumerate([Approval(), KeyError(), None], 1):
        service.behaviour = ending_with(error)
        result = await orch.run("tool")
        assert result.verdict is Verdict.FAILURE
        assert orch.circuit("tool").failures == number


async def test_a_cancelled_caller_decides_before_the_judge() -> None:
    orch, service = bench(HandClock(), judge=lambda outcome: Verdict.FAILURE)
    service.behaviour = turn_it_into_an_error
    with anyio.move_on_after(0.005):
        await orch.dispatch("tool")

    assert_untouched(orch)


async def test_the_judge_decides_before_ignored_types_and_errors() -> None:
    said: list[Any] = [Verdict.FAILURE, True, Verdict.SUCCESS, False, None]
    orch, service = bench(
        HandClock(),
        judge=lambda outcome: said[0],
        policy=ToolPolicy(ignore=(LookupError,)),
    )

    async def not_found() -> None:
        raise KeyError("no such city")

    verdicts = []
    while said:
        service.behaviour = not_found
        verdicts.append((await orch.run("tool")).verdict)
        said.pop(0)

    assert verdicts == ["failure", "failure", "success", "success", "ignore"]


async def test_control_flow_decides_before_the_judge() -> None:
    orch, service = bench(
        HandClock(),
        judge=lambda outcome: Verdict.FAILURE,
        policy=ToolPolicy(control_flow=(Approval,)),
    )

    async def interrupt() -> None:
        raise Approval

    service.behaviour = interrupt
    with pytest.raises(Approval):
        await orch.dispatch("tool")

    assert_untouched(orch)


# A caller that keeps asking


@pytest.mark.parametrize("answer", ["dispatch", "call", "run", "dispatch_all"])
@pytest.mark.parametrize("why", ["refused", "unknown", "invalid", "not text", "unbound"])
async def test_who_keeps_asking_in_vain_can_be_cancelled_and_starves_nobody(
    answer: str, why: str
) -> None:
    clock = HandClock()
    orch, service = bench(clock, validate=why != "unbound")
    if why == "refused":
        orch.circuit("tool").isolate()
    name = "nothing" if why == "unknown" else "tool"
    args: Any = {
        "invalid": {"surprise": 1},
        "not text": "{",
        "unbound": {"surprise": 1},
    }.get(why)
    turns = 0

    async def keep_asking() -> None:
        nonlocal turns
        while True:
            turns += 1
            if turns > 10_000:
                raise AssertionError("nobody else had a turn")
            with suppress(Exception):
                if answer == "dispatch_all":
                    await orch.dispatch_all([ToolCall(name, args)])
                else:
                    await getattr(orch, answer)(name, args)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_asking)
        await when_blocked()
        tasks.cancel_scope.cancel()

    assert 0 < turns < 10_000
    assert service.runs == 0


# asyncio's groups ask their own task to be cancelled


async def fail_soon() -> str:
    await asyncio.sleep(0)
    raise ConnectionError("the service is down")


async def group_that_waits() -> str:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fail_soon())
        tasks.create_task(asyncio.sleep(1000))
    return "fine"


async def groups_within_a_group() -> str:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(group_that_waits())
        tasks.create_task(group_that_waits())
    return "fine"


async def another_error_for_that_of_a_group() -> str:
    try:
        return await group_that_waits()
    except* ConnectionError:
        raise RuntimeError("no pages") from None


async def one_group_after_another() -> str:
    try:
        return await group_that_waits()
    except ExceptionGroup:
        return await group_that_waits()


@asyncio_only
@each_answer
@pytest.mark.parametrize(
    "behaviour",
    [
        group_that_waits,
        groups_within_a_group,
        another_error_for_that_of_a_group,
        one_group_after_another,
    ],
)
async def test_the_failure_of_a_group_that_waits_is_no_cancellation(
    behaviour: Callable[[], Awaitable[Any]], answer: str
) -> None:
    orch, service = bench(HandClock(), policy=BreakerPolicy(failure_threshold=3))
    service.behaviour = behaviour
    task = asyncio.current_task()
    assert task is not None
    for _ in range(3):
        with suppress(ExceptionGroup, RuntimeError):
            await ask(orch, answer)
    assert orch.get_fleet_stats()["tool"]["total_failures"] == 3
    assert orch.circuit("tool").state == "open"
    assert task.cancelling() == 0
    assert_adds_up(orch)


@asyncio_only
async def test_a_request_is_not_lost_beside_that_of_a_group() -> None:
    orch, service = bench(HandClock())

    async def swallow_and_fail_in_a_group() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)
        return await group_that_waits()

    service.behaviour = swallow_and_fail_in_a_group
    task = asyncio.create_task(orch.dispatch("tool"))
    await when_blocked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_untouched(orch)


# A request to the task and the cancellation of a scope at one time


@asyncio_only
@pytest.mark.parametrize("answer", ["dispatch", "call", "run"])
async def test_a_request_is_not_lost_beside_the_cancellation_of_a_scope(
    answer: str,
) -> None:
    orch, service = bench(HandClock())
    went_on = False
    scope = anyio.CancelScope()

    async def swallow_both() -> str:
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)
        return "value"

    async def agent() -> None:
        nonlocal went_on
        with scope:
            await ask(orch, answer)
        went_on = True

    service.behaviour = swallow_both
    task = asyncio.create_task(agent())
    await when_blocked()
    task.cancel()
    await when_blocked()
    scope.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not went_on
    assert_untouched(orch)


@asyncio_only
@pytest.mark.parametrize("answer", ["dispatch", "call", "run"])
async def test_the_cancellation_of_a_scope_alone_is_no_request_to_the_task(
    answer: str,
) -> None:
    orch, service = bench(HandClock())
    scope = anyio.CancelScope()

    async def swallow() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)
        return "value"

    service.behaviour = swallow
    seen: list[Any] = []

    async def agent() -> str:
        with scope:
            seen.append(await ask(orch, answer))
            await anyio.lowlevel.checkpoint()
            seen.append("not cancelled")
        return "went on"

    task = asyncio.create_task(agent())
    await when_blocked()
    scope.cancel()
    assert await task == "went on"
    assert len(seen) == 1
    assert scope.cancelled_caught
    assert task.cancelling() == 0
    assert_untouched(orch)


@each_answer
@pytest.mark.parametrize("passed", ["cancelled", "deadline"])
async def test_what_breaks_off_as_its_caller_is_cancelled_ends_in_the_callers_scope(
    answer: str, passed: str
) -> None:
    orch, service = bench(HandClock())
    scope = anyio.CancelScope()

    async def break_off_at_that_moment() -> None:
        if passed == "cancelled":
            scope.cancel()
        else:
            scope.deadline = anyio.current_time()
        await break_off()

    service.behaviour = break_off_at_that_moment
    with scope:
        await ask(orch, answer)
        await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert_untouched(orch)


@asyncio_only
@pytest.mark.parametrize("answer", ["dispatch", "run"])
async def test_a_swallowed_cancellation_is_in_the_figures_as_one(answer: str) -> None:
    orch, service = bench(HandClock())

    async def swallow() -> dict[str, str]:
        with suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        return {"error": "interrupted"}

    service.behaviour = swallow
    task = asyncio.create_task(getattr(orch, answer)("tool"))
    await when_blocked()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    figures = orch.stats("tool")
    assert (figures.cancelled, figures.ignored, figures.successes) == (1, 0, 0)
