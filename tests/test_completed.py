"""
The results of a turn's calls as they come.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from orchestrator_async import (
    ConversationPolicy,
    Registry,
    ToolCall,
    ToolCancelledError,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
)
from orchestrator_async._completed import CompletedCalls

from .clock import virtual_time
from .rig import on_asyncio
from .support import assert_adds_up, when_blocked

told: contextvars.ContextVar[str] = contextvars.ContextVar("told", default="nothing")


class Approval(Exception):
    """How a framework stops a run to ask somebody."""


class Halt(BaseException):
    """What no program answers."""


class Yard:
    """
    Tools that take their time.
    """

    def __init__(self, **options: Any) -> None:
        self.registry = Registry()
        self.begun: list[float] = []
        self.ended: list[float] = []
        self.door = anyio.Event()
        self.registry.tool(self.nap)
        self.registry.tool(self.wait)
        self.orch = ToolOrchestrator(self.registry, clock=anyio.current_time, **options)

    async def nap(self, seconds: float) -> float:
        """
        Sleep, and take a second to clean up.
        """
        self.begun.append(seconds)
        try:
            await anyio.sleep(seconds)
        finally:
            with anyio.CancelScope(shield=True):
                await when_blocked()
            self.ended.append(seconds)
        return seconds

    async def wait(self) -> str:
        """
        Wait until the door is open.
        """
        await self.door.wait()
        return "opened"

    @property
    def in_flight(self) -> int:
        stats = self.orch.get_fleet_stats().values()
        return sum(each["in_flight"] for each in stats)

    async def until_empty(self) -> None:
        """
        The tasks are not ours to wait for.
        """
        for _ in range(200):
            if not self.in_flight:
                return
            await checkpoint()
        raise AssertionError("calls go on that nobody wants")


def naps(*seconds: float) -> list[ToolCall]:
    return [ToolCall("nap", {"seconds": each}, id=str(each)) for each in seconds]


@virtual_time
async def test_results_come_in_the_order_in_which_calls_end() -> None:
    yard, began = Yard(), anyio.current_time()
    found = [
        (each.call_id, each.value, anyio.current_time() - began)
        async for each in yard.orch.as_completed(naps(3, 1, 2))
    ]
    assert found == [("1", 1, 1), ("2", 2, 2), ("3", 3, 3)]
    assert_adds_up(yard.orch)


@virtual_time
async def test_calls_go_on_while_their_consumer_does_something_else() -> None:
    yard, found = Yard(), []
    async for result in yard.orch.as_completed(naps(1, 2, 3)):
        await anyio.sleep(10)
        found.append(result.value)
        assert yard.ended == [1, 2, 3]
    assert found == [1, 2, 3]


async def test_nothing_begins_before_it_is_asked_for() -> None:
    yard = Yard()
    results = yard.orch.as_completed([ToolCall("wait")])
    await when_blocked()
    assert yard.orch.stats("wait").calls == 0
    async with results:
        assert yard.in_flight == 0
    assert [each async for each in results] == []
    assert yard.orch.stats("wait").calls == 0


async def test_no_calls_have_no_results() -> None:
    assert [each async for each in Yard().orch.as_completed([])] == []
    assert [each async for each in Yard().orch.as_completed(None)] == []  # type: ignore[arg-type]


async def test_what_dispatch_all_refuses_is_refused_at_once() -> None:
    orch = Yard().orch
    for offer in (orch, orch.conversation()):
        with pytest.raises(TypeError, match="list of tool calls"):
            offer.as_completed(ToolCall("nap"))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="limit=0"):
            offer.as_completed([], limit=0)
        with pytest.raises(TypeError, match="timeout"):
            offer.as_completed([], timeout=3)


@virtual_time
async def test_a_message_a_limit_and_context_are_as_for_dispatch_all() -> None:
    yard, seen = Yard(), []

    @yard.registry.tool
    async def tell(context: ToolContext) -> None:
        seen.append((context.call_id, dict(context.data)))
        await anyio.sleep(1)

    function = {"name": "tell", "arguments": "{}"}
    calls = [{"id": str(n), "type": "function", "function": function} for n in range(3)]
    message = {"role": "assistant", "tool_calls": [*calls, {"odd": 1}]}
    began = anyio.current_time()
    found = [
        (each.call_id, each.ok, anyio.current_time() - began)
        async for each in yard.orch.as_completed(message, limit=1, user=3)
    ]
    assert found == [("0", True, 1), ("1", True, 2), ("2", True, 3), (None, False, 3)]
    assert seen == [(str(n), {"user": 3}) for n in range(3)]


async def test_the_callers_context_is_seen_by_the_tools() -> None:
    yard = Yard()

    @yard.registry.tool
    async def look() -> str:
        return told.get()

    token = told.set("a secret")
    try:
        calls = [ToolCall("look"), ToolCall("look")]
        found = [each.value async for each in yard.orch.as_completed(calls)]
    finally:
        told.reset(token)
    assert found == ["a secret", "a secret"]


@virtual_time
async def test_calls_that_change_something_keep_their_order() -> None:
    yard, order = Yard(), []

    @yard.registry.tool(read_only=False)
    async def write(number: int) -> int:
        await anyio.sleep(3 - number)
        order.append(number)
        return number

    calls = [ToolCall("write", {"number": number}) for number in range(3)]
    found = [each.value async for each in yard.orch.as_completed(calls)]
    assert order == found == [0, 1, 2]


# Leaving


@virtual_time
async def test_who_lets_go_of_the_results_ends_the_calls() -> None:
    yard = Yard()
    async for result in yard.orch.as_completed(naps(1, 5, 6)):
        assert result.value == 1
        break
    gc.collect()
    began = anyio.current_time()
    await yard.until_empty()
    assert anyio.current_time() == began
    assert sorted(yard.ended) == [1, 5, 6]
    assert yard.orch.stats("nap").cancelled == 2
    assert_adds_up(yard.orch)


@virtual_time
async def test_an_async_with_waits_until_the_calls_have_ended() -> None:
    yard = Yard()
    async with yard.orch.as_completed(naps(1, 5, 6)) as results:
        async for _ in results:
            break
        assert yard.in_flight == 2
    assert yard.in_flight == 0
    assert sorted(yard.ended) == [1, 5, 6]
    assert [each async for each in results] == []
    await results.aclose()


@virtual_time
async def test_a_consumer_that_raises_ends_the_calls() -> None:
    yard = Yard()
    with pytest.raises(KeyError):
        async with yard.orch.as_completed(naps(1, 5)) as results:
            async for _ in results:
                raise KeyError
    assert yard.in_flight == 0


@virtual_time
@pytest.mark.parametrize("structured", [True, False], ids=["with", "bare"])
@pytest.mark.parametrize("where", ["waiting", "elsewhere"])
async def test_a_consumer_that_is_cancelled_takes_the_calls_along(
    where: str, structured: bool
) -> None:
    yard, found = Yard(), []

    async def consume(results: CompletedCalls) -> None:
        async for result in results:
            found.append(result.value)
            if where == "elsewhere":
                await anyio.sleep(100)

    async def consume_within() -> None:
        if structured:
            async with yard.orch.as_completed(naps(1, 50)) as results:
                await consume(results)
        else:
            await consume(yard.orch.as_completed(naps(1, 50)))

    with anyio.CancelScope() as outer:
        async with anyio.create_task_group() as group:
            group.start_soon(consume_within)
            await anyio.sleep(10)
            assert yard.in_flight == 1
            group.cancel_scope.cancel()
        if not structured and where == "elsewhere":
            gc.collect()
            await yard.until_empty()
        assert yard.in_flight == 0
    assert not outer.cancelled_caught
    assert found == [1]
    assert yard.orch.stats("nap").cancelled == 1
    await checkpoint()  # the scopes around are in order
    assert_adds_up(yard.orch)


@virtual_time
@pytest.mark.parametrize("again", [False, True], ids=["once", "again"])
async def test_who_is_cancelled_waits_for_calls_that_take_their_time_to_end(
    again: bool,
) -> None:
    if again and not on_asyncio():
        return  # a request to a task, which knows no shield, is asyncio's
    yard = Yard()

    @yard.registry.tool
    async def tidy() -> None:
        try:
            await anyio.sleep(100)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5)
            yard.ended.append(anyio.current_time())

    async def consume() -> None:
        async for _ in yard.orch.as_completed([ToolCall("tidy")]):
            raise AssertionError("there is no result")

    began = anyio.current_time()
    if again:
        task = asyncio.ensure_future(consume())
        for _ in range(2):
            await anyio.sleep(1)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        with anyio.move_on_after(1) as scope:
            await consume()
        assert scope.cancelled_caught
    assert yard.ended == [began + 6]
    assert yard.in_flight == 0
    assert_adds_up(yard.orch)


@virtual_time
async def test_the_callers_deadline_is_that_of_the_calls() -> None:
    yard, deadlines = Yard(), []

    @yard.registry.tool
    async def look(context: ToolContext) -> None:
        deadlines.append(context.deadline)

    with anyio.fail_after(7) as scope:
        async for _ in yard.orch.as_completed([ToolCall("look")]):
            pass
    assert deadlines == [scope.deadline]
    with anyio.move_on_after(7) as scope:
        async for _ in yard.orch.as_completed(naps(5, 50)):
            pass
    assert scope.cancelled_caught
    assert yard.in_flight == 0


@virtual_time
async def test_calls_past_the_deadline_of_where_they_began_have_an_answer() -> None:
    yard = Yard()
    results = yard.orch.as_completed(naps(1, 50))
    with anyio.move_on_after(7):
        assert (await anext(results)).value == 1
    rest = [each async for each in results]
    [late] = rest
    assert isinstance(late.error, ToolCancelledError)
    assert (late.error.begun, late.error.late) == (True, True)
    assert "the time of its caller was over" in late.content
    assert "Try it once more" not in late.content
    assert yard.in_flight == 0


@virtual_time
async def test_calls_that_had_not_begun_by_then_say_so() -> None:
    yard = Yard()
    results = yard.orch.as_completed(naps(1, 50, 2), limit=2)
    with anyio.move_on_after(1.5):
        assert (await anext(results)).value == 1
    rest = {each.call_id: each.error async for each in results}
    errors = [rest["50"], rest["2"]]
    assert [type(each) for each in errors] == [ToolCancelledError] * 2


async def test_results_have_one_consumer() -> None:
    yard, found = Yard(), []
    results = yard.orch.as_completed([ToolCall("wait")])

    async def consume() -> None:
        found.extend([each.value async for each in results])

    async with anyio.create_task_group() as group:
        group.start_soon(consume)
        await when_blocked()
        with pytest.raises(RuntimeError, match="one consumer"):
            await anext(results)
        with pytest.raises(RuntimeError, match="waits"):
            await results.aclose()
        yard.door.set()
    assert found == ["opened"]


def throw_away(body: Coroutine[Any, Any, None]) -> Callable[[], None]:
    """
    Begin something by hand, and return what throws it away where it waits.
    """
    body.send(None)
    return body.close


@pytest.mark.parametrize("structured", [True, False], ids=["with", "bare"])
async def test_a_consumer_that_is_thrown_away_ends_the_calls(structured: bool) -> None:
    if not on_asyncio():
        pytest.skip("trio's tasks cannot be run by hand")
    yard = Yard()

    async def consume(results: CompletedCalls) -> None:
        async for _ in results:
            raise AssertionError("there is nothing yet")

    async def consume_within() -> None:
        if structured:
            async with yard.orch.as_completed([ToolCall("wait")]) as results:
                await consume(results)
        else:
            await consume(yard.orch.as_completed([ToolCall("wait")]))

    close = throw_away(consume_within())
    await when_blocked()
    assert yard.in_flight == 1
    close()
    await yard.until_empty()
    assert_adds_up(yard.orch)


async def test_results_may_be_let_go_of_in_another_thread() -> None:
    yard = Yard()
    held = [yard.orch.as_completed([ToolCall("wait"), ToolCall("nope")])]
    assert not (await anext(held[0])).ok
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    for _ in range(1000):
        await checkpoint()
        if not yard.in_flight:
            break
    assert yard.in_flight == 0
    assert yard.orch.stats("wait").cancelled == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_ends_takes_the_calls_along(backend: str) -> None:
    yards: list[Yard] = []
    held: list[CompletedCalls] = []

    async def main() -> None:
        yards.append(yard := Yard())
        held.append(yard.orch.as_completed([ToolCall("wait"), ToolCall("nope")]))
        await anext(held[0])
        assert yard.in_flight == 1

    anyio.run(main, backend=backend)
    assert yards[0].in_flight == 0
    held.clear()  # where nobody hears of it any more
    gc.collect()
    assert_adds_up(yards[0].orch)


def test_one_that_was_never_begun_is_let_go_of_in_silence() -> None:
    CompletedCalls()
    ToolOrchestrator(Registry()).as_completed([])
    gc.collect()


# What is no result


@virtual_time
async def test_control_flow_goes_up_after_all_results() -> None:
    yard, found = Yard(), []

    @yard.registry.tool(policy=ToolPolicy(control_flow=(Approval,)))
    async def ask() -> None:
        raise Approval("please")

    results = yard.orch.as_completed([ToolCall("ask"), *naps(1, 2)])
    with pytest.raises(Approval, match="please"):
        found.extend([each.value async for each in results])
    assert found == []
    assert [each async for each in results] == []


async def test_an_interrupt_goes_up_and_takes_the_others_along() -> None:
    yard = Yard()

    @yard.registry.tool
    async def halt() -> None:
        await when_blocked()
        raise Halt

    with pytest.raises(Halt):
        async for _ in yard.orch.as_completed([ToolCall("wait"), ToolCall("halt")]):
            raise AssertionError("there is no result")
    assert yard.in_flight == 0
    assert_adds_up(yard.orch)


async def test_a_call_that_breaks_off_by_itself_has_an_answer() -> None:
    yard = Yard()

    @yard.registry.tool
    async def vanish() -> None:
        if not on_asyncio():
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await checkpoint()

    yard.door.set()
    calls = [ToolCall("vanish"), ToolCall("wait")]
    found = {each.name: each async for each in yard.orch.as_completed(calls)}
    assert type(found["vanish"].error) is ToolCancelledError
    assert found["wait"].value == "opened"


async def test_where_every_task_is_cancelled_no_result_is_missing() -> None:
    if not on_asyncio():
        pytest.skip("trio has no way to do that")
    yard, before = Yard(), asyncio.all_tasks()
    results = yard.orch.as_completed([ToolCall("wait"), ToolCall("wait"), ToolCall("no")])
    assert not (await anext(results)).ok
    for task in asyncio.all_tasks() - before:
        task.cancel()
    rest = [type(each.error) async for each in results]
    assert rest == [ToolCancelledError, ToolCancelledError]
    assert yard.in_flight == 0


# In a conversation


async def test_in_a_conversation_they_count_as_one_turn() -> None:
    yard = Yard(failure_threshold=100)

    @yard.registry.tool
    async def fail() -> None:
        raise OSError("no")

    policy = ConversationPolicy(same_failures=2, patience=1)
    async with yard.orch.conversation(policy=policy, tools=["fail"], user=1) as chat:
        calls = [ToolCall("fail") for _ in range(5)]
        found = [each async for each in chat.as_completed(calls, more=2)]
        assert [each.attempts for each in found] == [1] * 5
        assert not any("warning" in each.content for each in found)
        [again] = [each async for each in chat.as_completed([ToolCall("fail")])]
        assert "2 times in a row" in again.content
        [unknown] = [each async for each in chat.as_completed([ToolCall("wait")])]
        assert "unknown_tool" in unknown.content
    [over] = [each async for each in chat.as_completed([ToolCall("fail")])]
    assert over.stop


async def test_those_that_are_left_have_counted_if_their_tools_had_begun() -> None:
    yard = Yard()
    begun = 0

    @yard.registry.tool
    async def race(number: int) -> int:
        nonlocal begun
        begun += 1
        if number:
            await anyio.sleep_forever()
        return number

    policy = ConversationPolicy(calls_per_tool=3, patience=1)
    async with yard.orch.conversation(policy=policy) as chat:
        for _ in range(20):
            calls = [ToolCall("race", {"number": n}) for n in range(16)]
            async with chat.as_completed(calls) as results:
                async for _ in results:
                    break
        assert chat.stop_reason == "calls_per_tool"
    assert begun == 3
