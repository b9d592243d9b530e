"""
Fallbacks and alternatives: what answers where a tool does not, and what a model is pointed to.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Any

import anyio
import anyio.from_thread
import pytest
from anyio.lowlevel import checkpoint
from pydantic import Field

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    CallRejected,
    CircuitOpenError,
    ConversationPolicy,
    Event,
    InvalidArgumentsError,
    LimitExceededError,
    LimitPolicy,
    Registry,
    RetryPolicy,
    Tool,
    ToolCall,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
    ToolTimeoutError,
    Verdict,
)
from orchestrator_async._around import _falling

from .clock import real_time, virtual_time
from .rig import on_asyncio, run
from .support import HandClock, Service, assert_adds_up, fail, succeed, when_blocked

each_answer = pytest.mark.parametrize("answer", ["dispatch", "call", "run", "dispatch_all"])


class Approval(Exception):
    """How a framework stops a run to ask somebody."""


class NotFoundError(Exception):
    """Says something of the world."""


class House:
    """
    An orchestrator with tools that are told what to do.
    """

    def __init__(
        self, clock: Callable[[], float] = anyio.current_time, **options: Any
    ) -> None:
        self.registry = Registry()
        self.events: list[Event] = []
        self.got: dict[str, list[Any]] = {}
        self.services: dict[str, Service] = {}
        self.orch = ToolOrchestrator(
            self.registry, clock=clock, observers=[self.events.append], **options
        )

    def tool(
        self,
        name: str = "tool",
        behaviour: Callable[[], Awaitable[Any]] = fail,
        *,
        fallback: Any = None,
        **options: Any,
    ) -> None:
        service = self.services[name] = Service(behaviour)
        got = self.got[name] = []
        rest = {key: options.pop(key) for key in list(options) if key in TOOL_OPTIONS}
        if fallback is not None:
            options["fallback"] = fallback

        @self.registry.tool(name=name, policy=ToolPolicy(**options), **rest)
        async def tool(thing: Any = None, number: int = 0) -> Any:
            got.append(thing)
            return await service()

    def runs(self) -> dict[str, int]:
        return {name: each.runs for name, each in self.services.items() if each.runs}


TOOL_OPTIONS = ("validate", "idempotent", "alternatives", "circuit", "replace")


def answers(word: Any) -> Callable[[], Awaitable[Any]]:
    async def behave() -> Any:
        return word

    return behave


def raises(error: BaseException) -> Callable[[], Awaitable[Any]]:
    async def behave() -> Any:
        raise error

    return behave


async def answer_of(house: House, answer: str, args: Any = None) -> str:
    """
    What a call comes to, as text; ``call`` returns the value, which is text as well.
    """
    if answer == "dispatch_all":
        (result,) = await house.orch.dispatch_all([ToolCall("tool", args)])
        return result.content
    told = await getattr(house.orch, answer)("tool", args)
    return told.content if isinstance(told, ToolResult) else told


# When


@pytest.mark.parametrize("is_tool", [True, False])
@each_answer
async def test_it_answers_where_the_tool_has_failed(answer: str, is_tool: bool) -> None:
    house = House()
    if is_tool:
        house.tool("other", answers("instead"))
    house.tool(fallback="other" if is_tool else lambda call, result: "instead")

    assert await answer_of(house, answer) == "instead"

    assert house.services["tool"].runs == 1
    stats = house.orch.stats("tool")
    assert (stats.calls, stats.total_failures, stats.failures) == (1, 1, 1)
    assert_adds_up(house.orch)


@pytest.mark.parametrize("is_tool", [True, False])
async def test_it_is_not_asked_where_the_tool_has_answered(is_tool: bool) -> None:
    house = House()
    house.tool("other", answers("instead"))
    asked: list[Any] = []

    def make(call: ToolCall, result: ToolResult) -> None:
        asked.append(call)

    house.tool(behaviour=succeed, fallback="other" if is_tool else make)

    assert await house.orch.dispatch("tool") == "fine"
    assert house.runs() == {"tool": 1}
    assert asked == []


async def test_no_call_finds_a_shorter_way_past_it() -> None:
    registry = Registry()
    policy = ToolPolicy(fallback=lambda call, result: "instead")
    registry.tool(name="tool", policy=policy)(fail)
    orch = ToolOrchestrator(registry)  # nobody listens, and the tool wants no context

    # The circuit opens on the way.
    assert [await orch.dispatch("tool") for _ in range(6)] == ["instead"] * 6


async def test_an_error_that_was_returned_is_a_failure_too() -> None:
    house = House()
    house.tool(
        behaviour=answers({"error": "down"}), fallback=lambda call, result: "instead"
    )

    result = await house.orch.run("tool")

    assert (result.content, result.ok, result.error) == ("instead", True, None)
    assert result.verdict is Verdict.FAILURE  # what the circuit was told


@virtual_time
async def test_it_answers_where_the_tool_has_run_out_of_time() -> None:
    async def hang() -> None:
        await anyio.sleep(1000)

    each: list[dict[str, Any]] = [
        {"timeout": 5},
        {"total_timeout": 5},
        {"hang_after": 9, "timeout": 5},
    ]
    for options in each:
        house = House()
        house.tool("other", answers("instead"))
        house.tool(behaviour=hang, fallback="other", **options)
        assert await house.orch.dispatch("tool") == "instead", options
        assert anyio.current_time() % 5 == 0


@virtual_time
async def test_what_is_left_of_the_calls_time_too_short_to_judge_by_is_out_of_time() -> (
    None
):
    async def hang() -> None:
        await anyio.sleep(1000)

    house = House()
    house.tool("other", answers("instead"))
    # The tool is not to blame, so it is no failure of it, but there is no answer.
    house.tool(behaviour=hang, fallback="other", total_timeout=5, hang_after=60)

    assert await house.orch.dispatch("tool") == "instead"
    assert house.orch.stats("tool").total_failures == 0


@virtual_time
async def test_it_answers_where_the_verdict_came_late() -> None:
    house = House()
    house.tool("other", answers("instead"))

    async def fail_late() -> None:
        house.orch.circuit("tool").trip()
        await fail()

    house.tool(behaviour=fail_late, fallback="other")

    assert await house.orch.dispatch("tool") == "instead"
    assert house.orch.stats("tool").late == 1


@pytest.mark.parametrize("is_tool", [True, False])
@each_answer
async def test_it_answers_where_the_circuit_refuses(answer: str, is_tool: bool) -> None:
    house = House()
    house.tool("other", answers("instead"))
    house.tool(fallback="other" if is_tool else lambda call, result: "instead")
    house.orch.circuit("tool").isolate()

    assert await answer_of(house, answer) == "instead"

    assert house.services["tool"].runs == 0
    told = [each.reason for each in house.events if isinstance(each, CallRejected)]
    assert told == ["circuit"]


async def test_it_answers_where_a_limit_refuses() -> None:
    house = House()
    house.tool("other", answers("instead"))
    limits = LimitPolicy(calls=1, seconds=1000, burst=1, max_wait=0)
    house.tool(behaviour=succeed, fallback="other", limits=limits)

    assert [await house.orch.dispatch("tool") for _ in range(2)] == ["fine", "instead"]


@real_time
async def test_it_answers_where_there_is_no_thread() -> None:
    house, entered, leave = House(), anyio.Event(), anyio.Event()
    house.tool("other", answers("instead"))
    policy = ToolPolicy(max_threads=1, fallback="other")

    @house.registry.tool(policy=policy)
    def tool() -> str:
        anyio.from_thread.run_sync(entered.set)
        anyio.from_thread.run(leave.wait)
        return "fine"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.orch.dispatch, "tool")
        await entered.wait()
        assert await house.orch.dispatch("tool") == "instead"
        leave.set()


@virtual_time
async def test_it_answers_where_a_later_attempt_was_turned_away() -> None:
    house = House(policy=BreakerPolicy(failure_threshold=9))
    house.tool("other", answers("instead"))
    # The second attempt finds the rate used up: the first one's failure is the answer.
    house.tool(
        fallback="other",
        idempotent=True,
        retry=RetryPolicy(attempts=2, wait_jitter=0),
        limits=LimitPolicy(calls=1, seconds=1000, burst=1, max_wait=0),
    )

    assert await house.orch.dispatch("tool") == "instead"
    assert house.services["tool"].runs == 1


async def test_all_attempts_come_before_it() -> None:
    house = House()
    house.tool("other", answers("instead"))
    again = RetryPolicy(attempts=3, wait_initial=0, wait_jitter=0)
    house.tool(fallback="other", idempotent=True, retry=again)

    result = await house.orch.run("tool")

    assert house.runs() == {"tool": 3, "other": 1}
    assert (result.content, result.attempts, result.source) == ("instead", 1, "other")


@pytest.mark.parametrize("how", ["dispatch", "call"])
async def test_it_answers_where_what_the_tool_calls_is_down(how: str) -> None:
    house = House()
    house.tool("inner")
    house.tool("other", answers("instead"))
    house.orch.circuit("inner").isolate()

    async def use_inner() -> Any:
        return await getattr(house.orch, how)("inner")

    house.tool(behaviour=use_inner, fallback="other")

    assert await house.orch.dispatch("tool") == "instead"
    assert house.orch.stats("tool").total_failures == 0


# When not


async def nothing(house: House, made: list[Any]) -> ToolResult:
    """
    A call that no fallback is to answer.
    """
    result = await house.orch.run("tool", {"number": 1})
    assert not result.ok
    assert (result.source, made) == ("tool", [])
    assert "other" not in house.runs()
    return result


def two(behaviour: Callable[[], Awaitable[Any]], **options: Any) -> Any:
    """
    A house with a fallback of either kind.
    """
    made: list[Any] = []
    function, tool = House(), House()
    function.tool(
        behaviour=behaviour, fallback=lambda *asked: made.append(asked), **options
    )
    tool.tool("other", answers("instead"))
    tool.tool(behaviour=behaviour, fallback="other", **options)
    return [function, tool], made


async def test_not_for_arguments_that_do_not_fit() -> None:
    houses, made = two(succeed)
    for house in houses:
        result = await house.orch.run("tool", {"number": "many"})
        assert isinstance(result.error, InvalidArgumentsError)
        assert house.runs() == {}
    assert made == []


async def test_not_for_arguments_that_the_tool_says_do_not_fit() -> None:
    houses, made = two(raises(InvalidArgumentsError("no such city")))
    for house in houses:
        await nothing(house, made)


async def test_not_for_a_call_that_is_refused_by_its_guard() -> None:
    houses, made = two(succeed, guard=lambda call, context: "no")
    for house in houses:
        assert "refused" in (await nothing(house, made)).content


@pytest.mark.parametrize("how", ["dispatch", "call", "stream"])
@pytest.mark.parametrize("why", ["guard", "conversation", "draining", "limit"])
async def test_not_for_a_call_of_its_own_that_is_not_to_be_made(how: str, why: str) -> None:
    # But for one that a limit has refused, as what stands in its place may be well.
    other, made = House(), []
    guard = None if why != "guard" else lambda call, context: "no"
    limits = None if why != "limit" else LimitPolicy(calls=1, seconds=1e6, max_wait=0)
    other.tool("inner", succeed, guard=guard, limits=limits)
    if why == "draining":
        await other.orch.drain()
    await other.orch.dispatch("inner")

    async def inner() -> Any:
        if why != "conversation":
            return await getattr(other.orch, "call" if how == "call" else "dispatch")(
                "inner"
            )
        policy = ConversationPolicy(calls=1)
        async with other.orch.conversation(policy=policy) as chat:
            await chat.dispatch("inner")
            return await getattr(chat, "call" if how == "call" else "dispatch")("inner")

    house = House()
    policy = ToolPolicy(fallback=lambda *asked: made.append(asked))
    if how == "stream":

        @house.registry.tool(policy=policy)
        async def tool() -> AsyncIterator[Any]:
            yield "one"
            yield json.loads(await inner())

    else:
        house.registry.tool(name="tool", policy=policy)(inner)

    result = await house.orch.run("tool")

    assert len(made) == (why == "limit")
    assert result.source == ("fallback" if why == "limit" else "tool")
    assert house.orch.stats("tool").total_failures == 0


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()], ids=repr)
async def test_an_answer_that_cannot_be_looked_at_again_forbids_nothing(
    error: BaseException,
) -> None:
    class Answer(dict[str, Any]):
        looks = 0

        def get(self, key: str, default: Any = None) -> Any:
            self.looks += key == "refused"
            if self.looks > 1:
                raise error
            return super().get(key, default)

    house = House()
    answer = Answer(error="no", tool_name="inner", refused=True)
    house.tool(behaviour=answers(answer), fallback=lambda call, result: "instead")

    if isinstance(error, Exception):
        assert (await house.orch.run("tool")).content == "instead"
    else:
        with pytest.raises(KeyboardInterrupt):
            await house.orch.run("tool")
    assert answer.looks > 1
    assert_adds_up(house.orch)


async def test_not_while_nothing_is_taken_any_more() -> None:
    houses, made = two(succeed)
    for house in houses:
        await house.orch.drain()
        assert "draining" in (await nothing(house, made)).content


async def test_not_for_what_the_policy_calls_no_failure() -> None:
    for error in (
        NotFoundError(),
        ToolTimeoutError(tool_name="inner", timeout=1),
        ToolTimeoutError(tool_name="within", timeout=1),
        CircuitOpenError(
            tool_name="inner", circuit="i", state="open", retry_after=1, failures=3
        ),
    ):
        houses, made = two(raises(error), ignore=(type(error),))
        for house in houses:
            assert (await nothing(house, made)).error is error


async def test_what_the_policy_calls_no_failure_is_about_what_the_tool_raises() -> None:
    houses, _ = two(succeed, ignore=(CircuitOpenError,))
    for house in houses:
        house.orch.circuit("tool").isolate()
        result = await house.orch.run("tool")
        assert (result.ok, result.content) in [(True, "instead"), (True, "null")]


async def test_not_for_what_the_judge_calls_none() -> None:
    houses, made = two(fail, judge=lambda outcome: Verdict.IGNORE)
    for house in houses:
        await nothing(house, made)


async def test_control_flow_goes_past_it() -> None:
    houses, made = two(raises(Approval()), control_flow=(Approval,))
    for house in houses:
        with pytest.raises(Approval):
            await house.orch.dispatch("tool")
        assert "other" not in house.runs()
    assert made == []


async def test_not_for_a_tool_that_is_gone() -> None:
    houses, made = two(succeed, guard=lambda call, context: None)
    for house in houses:
        house.registry.remove("tool")
        result = await house.orch.run("tool")
        assert "unknown_tool" in result.content
    assert made == []


# What it is given, and what becomes of its answer


@pytest.mark.parametrize("validate", [True, False])
async def test_another_tool_gets_the_same_arguments(validate: bool) -> None:
    house = House()
    house.tool("other", answers("instead"), validate=validate)
    args = {"thing": {"lines": [1]}, "number": 3}

    async def spoil() -> None:
        house.got["tool"][0]["lines"].append("spoilt by the tool")
        args["thing"]["lines"].append("spoilt by the caller")  # type: ignore[index]
        args["number"] = "no number"
        await fail()

    house.tool(behaviour=spoil, fallback="other", validate=validate)

    assert await house.orch.dispatch("tool", args, call_id="c1", user="ann") == "instead"

    assert house.got["other"] == [{"lines": [1]}]
    finished = [each for each in house.events if isinstance(each, CallFinished)]
    assert [each.tool_name for each in finished] == ["tool", "other"]
    assert [each.call_id for each in finished] == ["c1", "c1"]
    assert [each.context for each in finished] == [{"user": "ann"}] * 2


async def test_a_function_gets_what_the_tool_had_that_is_made_anew_each_time() -> None:
    numbers, got = iter(range(100)), []

    def make(call: ToolCall, result: ToolResult) -> str:
        got.append(dict(call.args))
        return "instead"

    registry = Registry()
    again = RetryPolicy(attempts=2, wait_initial=0, wait_jitter=0)
    policy = ToolPolicy(fallback=make, retry=again)

    @registry.tool(policy=policy, idempotent=True)
    async def tool(
        rooms: list[str],
        booking: Annotated[int, Field(default_factory=lambda: next(numbers))],
    ) -> None:
        got.append({"rooms": list(rooms), "booking": booking})
        rooms.append("spoilt")
        raise ConnectionError

    assert await ToolOrchestrator(registry).dispatch("tool", {"rooms": ["a"]}) == "instead"

    assert got == [{"rooms": ["a"], "booking": 0}] * 3


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    "args", [{"thing": [1], "number": "3"}, '{"thing":[1],"number":3}']
)
async def test_a_function_gets_the_call_and_what_came_of_it(
    args: Any, is_async: bool
) -> None:
    house, asked = House(), []

    def make(call: ToolCall, result: ToolResult) -> dict[str, Any]:
        asked.append((call, result))
        call.args["thing"].append(2)  # its own
        return {"cached": True}

    async def make_later(call: ToolCall, result: ToolResult) -> dict[str, Any]:
        await checkpoint()
        return make(call, result)

    house.tool(fallback=make_later if is_async else make)

    result = await house.orch.run("tool", args, call_id="c1")

    ((call, own),) = asked
    assert call == ToolCall("tool", {"thing": [1, 2], "number": 3}, "c1")
    assert isinstance(own.error, ConnectionError)
    assert json.loads(own.content)["error_type"] == "ConnectionError"
    assert house.got["tool"] == [[1]]
    assert (result.name, result.call_id) == ("tool", "c1")
    assert (result.content, result.value) == ('{"cached":true}', {"cached": True})
    assert (result.ok, result.error, result.source) == (True, None, "fallback")
    assert (result.attempts, result.verdict) == (1, Verdict.FAILURE)


async def test_a_function_is_not_asked_about_arguments_that_do_not_fit() -> None:
    houses, made = two(succeed)
    for house in houses:
        house.orch.circuit("tool").isolate()  # which is asked before they are looked at
        result = await house.orch.run("tool", {"number": "many"})
        assert isinstance(result.error, CircuitOpenError)
    assert made == []


async def test_the_result_says_where_it_came_from() -> None:
    house = House()
    house.tool("other", answers("instead"))
    house.tool(fallback="other")
    house.orch.circuit("tool").isolate()

    result = await house.orch.run("tool", call_id="c1")

    assert (result.name, result.call_id, result.source) == ("tool", "c1", "other")
    assert (result.ok, result.attempts, result.retry_after) == (True, 1, None)
    assert (result.verdict, result.state) == (Verdict.SUCCESS, "closed")
    assert result.message()["tool_call_id"] == "c1"


async def test_an_answer_names_no_time_to_come_back() -> None:
    house = House(clock=HandClock())
    house.tool(fallback=lambda call, result: result.retry_after)
    house.orch.circuit("tool").trip()

    result = await house.orch.run("tool")

    assert (result.value, result.retry_after, result.attempts) == (300, None, 0)


async def test_another_tool_goes_its_own_way() -> None:
    house = House()
    house.tool("other", succeed, guard=lambda call, context: "not this either")
    house.tool(fallback="other")
    assert "ConnectionError" in await house.orch.dispatch("tool")
    assert house.orch.stats("other").rejected == 1

    house = House(policy=ToolPolicy(breaker=BreakerPolicy(failure_threshold=1)))
    house.tool("other")
    house.tool(fallback="other")
    for _ in range(2):
        await house.orch.dispatch("tool")
    stats = house.orch.stats("other")
    assert (stats.calls, stats.rejected, stats.state) == (1, 1, "open")


@each_answer
@pytest.mark.parametrize("is_tool", [True, False])
async def test_where_it_fails_too_the_tools_own_result_is_given(
    is_tool: bool, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    house = House()
    house.tool("other", raises(KeyError("other")))

    def make(call: ToolCall, result: ToolResult) -> None:
        raise KeyError("password=hunter2")

    house.tool(fallback="other" if is_tool else make)

    with caplog.at_level(logging.ERROR, "orchestrator_async"):
        for _ in range(2):
            if answer == "call":
                with pytest.raises(ConnectionError):
                    await house.orch.call("tool")
            else:
                assert "ConnectionError" in await answer_of(house, answer)

    assert len(caplog.records) == (0 if is_tool else 1)
    assert "hunter2" not in caplog.text
    if not is_tool:
        assert "its fallback raised" in caplog.text


@pytest.mark.parametrize(
    "made", [{"error": "no"}, '{"error": "no"}', object(), lambda: 1], ids=repr
)
async def test_what_is_no_answer_is_none(
    made: Any, caplog: pytest.LogCaptureFixture
) -> None:
    house = House()
    house.tool(fallback=lambda call, result: made)

    with caplog.at_level(logging.ERROR, "orchestrator_async"):
        for _ in range(2):
            result = await house.orch.run("tool")
            assert isinstance(result.error, ConnectionError)

    assert len(caplog.records) == (0 if isinstance(made, dict | str) else 1)


async def test_a_program_gets_its_value_as_it_is() -> None:
    house, value = House(), object()
    house.tool(fallback=lambda call, result: value)

    assert await house.orch.call("tool") is value


async def test_nothing_is_an_answer() -> None:
    house = House()
    house.tool(fallback=lambda call, result: None)

    assert await house.orch.dispatch("tool") == "null"


async def test_one_that_is_no_tool_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House()
    house.tool(fallback="othr")

    with caplog.at_level(logging.ERROR, "orchestrator_async"):
        for _ in range(2):
            assert "ConnectionError" in await house.orch.dispatch("tool")

    assert len(caplog.records) == 1
    assert "its fallback is no tool that there is" in caplog.text
    assert [type(each) for each in house.events] == [CallFinished, CallFinished]
    house.tool("othr", answers("instead"))
    assert await house.orch.dispatch("tool") == "instead"


@virtual_time
async def test_the_calls_time_is_not_its_own() -> None:
    async def slow() -> str:
        await anyio.sleep(100)
        return "instead"

    async def make(call: ToolCall, result: ToolResult) -> str:
        return await slow()

    for fallback in ("other", make):
        house = House()
        house.tool("other", slow)
        house.tool(behaviour=slow, fallback=fallback, total_timeout=5)
        assert await house.orch.dispatch("tool") == "instead"


# Chains and circles


@pytest.mark.parametrize("answer", ["dispatch", "call", "run", "dispatch_all"])
@pytest.mark.parametrize("last", [fail, answers("c")])
async def test_fallbacks_have_fallbacks(
    answer: str, last: Callable[[], Awaitable[Any]]
) -> None:
    house = House()
    house.tool("c", last)
    house.tool("b", raises(KeyError()), fallback="c")
    house.tool(fallback="b")

    if last is not fail:
        assert await answer_of(house, answer) == "c"
        result = await house.orch.run("tool")
        assert (result.name, result.source) == ("tool", "c")
    elif answer == "call":
        with pytest.raises(ConnectionError):
            await house.orch.call("tool")
    else:
        assert "tool failed: ConnectionError" in await answer_of(house, answer)
    assert set(house.runs().values()) <= {1, 2}


async def test_a_function_may_be_the_fallback_of_a_fallback() -> None:
    house = House()
    house.tool("b", fallback=lambda call, result: call.name)
    house.tool(fallback="b")

    result = await house.orch.run("tool")

    assert (result.content, result.name, result.source) == ("b", "tool", "fallback")


@pytest.mark.parametrize("length", [33, 300])
async def test_a_chain_of_fallbacks_is_followed_for_so_long(
    length: int, caplog: pytest.LogCaptureFixture
) -> None:
    house = House()
    for each in range(length):
        is_last = each == length - 1
        following = None if is_last else f"t{each + 1}"
        house.tool(f"t{each}", succeed if is_last else fail, fallback=following)

    with caplog.at_level(logging.ERROR, "orchestrator_async"):
        result = await house.orch.run("t0")

    assert len(house.runs()) == 33
    assert result.source == ("t32" if length == 33 else "t0")
    assert result.ok == (length == 33)
    said = [record.message for record in caplog.records]
    assert [each.startswith("t32: its fallback is not asked") for each in said] == (
        [] if length == 33 else [True]
    )
    assert_adds_up(house.orch)


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_a_circle_is_refused_when_it_is_closed(length: int) -> None:
    names = [f"t{each}" for each in range(length)]
    for last in range(length):
        registry = Registry()
        order = [*names[last + 1 :], *names[: last + 1]]
        for name in order[:-1]:
            following = names[(names.index(name) + 1) % length]
            registry.add(Tool(fn=fail, name=name, policy=ToolPolicy(fallback=following)))
        closing = order[-1]
        following = names[(names.index(closing) + 1) % length]
        circle = " -> ".join([closing, *order[: length - 1], closing])
        with pytest.raises(ValueError, match=f"circle: {circle}$"):
            registry.add(Tool(fn=fail, name=closing, policy=ToolPolicy(fallback=following)))
        assert closing not in registry
        assert len(registry) == length - 1
        registry.add(Tool(fn=fail, name=closing))


def test_a_circle_is_refused_where_a_tool_is_replaced() -> None:
    registry = Registry()
    registry.tool(name="a", policy=ToolPolicy(fallback="b"))(fail)
    registry.tool(name="b")(fail)
    before = registry["b"]
    with pytest.raises(ValueError, match="b -> a -> b"):
        registry.tool(name="b", policy=ToolPolicy(fallback="a"), replace=True)(succeed)
    assert registry["b"] is before
    # Replaced the other way round, there is no circle any more.
    registry.tool(name="a", replace=True)(fail)
    registry.tool(name="b", policy=ToolPolicy(fallback="a"), replace=True)(succeed)
    assert registry["b"] is not before


def test_what_leads_nowhere_or_to_a_function_is_no_circle() -> None:
    registry = Registry()
    registry.tool(name="a", policy=ToolPolicy(fallback="b"))(fail)
    registry.tool(name="b", policy=ToolPolicy(fallback=lambda call, result: 1))(fail)
    registry.tool(name="c", policy=ToolPolicy(fallback="a"))(fail)
    registry.tool(name="d", policy=ToolPolicy(fallback="none such"))(fail)
    assert len(registry) == 4


async def test_one_for_all_tools_does_no_harm_to_itself() -> None:
    name = "".join(["help", "er"])  # not the very object by which it is known
    house = House(policy=ToolPolicy(fallback=name))
    house.tool("helper", answers("helped"))
    house.tool()
    assert await house.orch.dispatch("tool") == "helped"
    assert house.runs() == {"tool": 1, "helper": 1}

    house.services["helper"].behaviour = fail
    assert "helper failed" in await house.orch.dispatch("helper")
    assert house.runs() == {"tool": 1, "helper": 2}
    assert "tool failed" in await house.orch.dispatch("tool")
    assert house.runs() == {"tool": 2, "helper": 3}


async def test_a_circle_by_way_of_the_orchestrators_policy_ends() -> None:
    house = House(policy=ToolPolicy(fallback="a"))
    house.tool("a", fallback="b")
    house.tool("b")  # whose fallback is "a", like everybody's
    house.tool()

    for name, ran in (
        ("a", {"a": 1, "b": 1}),
        ("b", {"a": 2, "b": 2}),
        ("tool", {"a": 3, "b": 3, "tool": 1}),
    ):
        assert f"{name} failed" in await house.orch.dispatch(name)
        assert house.runs() == ran


async def test_tools_that_call_each_other_by_code_and_by_fallback_end() -> None:
    house = House(policy=BreakerPolicy(failure_threshold=99))

    async def call_b() -> Any:
        return await house.orch.call("b")

    house.tool("a", call_b)
    house.tool("b", raises(KeyError()), fallback="a")

    # b fails, so a answers for it and calls b, which fails for good.
    assert "b failed: KeyError" in await house.orch.dispatch("b")
    assert house.runs() == {"a": 1, "b": 2}
    # a calls b, which fails; a answers for it and calls b again.
    assert "a failed: KeyError" in await house.orch.dispatch("a")
    assert house.runs() == {"a": 3, "b": 4}


async def test_a_function_that_calls_its_own_tool_ends() -> None:
    house = House(policy=BreakerPolicy(failure_threshold=99))

    async def again(call: ToolCall, result: ToolResult) -> Any:
        (other,) = await house.orch.dispatch_all([ToolCall("tool")])
        return (
            f"{house.services['tool'].runs} and {json.loads(other.content)['error_type']}"
        )

    house.tool(fallback=again)

    assert await house.orch.dispatch("tool") == "2 and ConnectionError"


async def test_a_task_that_outlives_it_has_fallbacks_again() -> None:
    house = House(policy=BreakerPolicy(failure_threshold=99))
    go = anyio.Event()
    said: list[str] = []

    async def later() -> None:
        await go.wait()
        said.append(await house.orch.dispatch("tool"))

    async with anyio.create_task_group() as tasks:

        def make(call: ToolCall, result: ToolResult) -> str:
            if not said and house.services["tool"].runs == 1:
                tasks.start_soon(later)
            return "instead"

        house.tool(fallback=make)
        assert await house.orch.dispatch("tool") == "instead"
        go.set()

    assert said == ["instead"]


async def test_another_orchestrator_has_fallbacks_of_its_own() -> None:
    one, other = House(), House()
    other.tool(fallback=lambda call, result: "of the other")

    async def make(call: ToolCall, result: ToolResult) -> Any:
        return await other.orch.dispatch("tool")

    one.tool(fallback=make)

    assert await one.orch.dispatch("tool") == "of the other"


async def test_a_second_call_falls_back_like_the_first() -> None:
    house = House(policy=BreakerPolicy(failure_threshold=99))
    house.tool("other", answers("instead"))
    house.tool(fallback="other")

    assert [await house.orch.dispatch("tool") for _ in range(3)] == ["instead"] * 3
    assert _falling.get(()) == ()  # a task that lives for long remembers none of them


async def test_calls_of_a_turn_fall_back_each_for_itself() -> None:
    house = House(policy=BreakerPolicy(failure_threshold=99))
    house.tool("other", answers("instead"))
    house.tool(fallback="other")
    house.tool("well", answers("well"))

    results = await house.orch.dispatch_all(
        [ToolCall("tool", id="1"), ToolCall("well", id="2"), ToolCall("tool", id="3")]
    )

    told = [(each.call_id, each.content, each.source) for each in results]
    assert told == [
        ("1", "instead", "other"),
        ("2", "well", "well"),
        ("3", "instead", "other"),
    ]


async def test_it_answers_within_a_probe_that_calls_its_own_circuit() -> None:
    # The fallback shares the circuit of its tool, and is refused by it.
    house = House(clock=HandClock())
    house.tool("other", answers("instead"), circuit="shared")
    house.tool(fallback="other", circuit="shared")
    house.orch.circuit("shared").isolate()

    result = await house.orch.run("tool")

    assert isinstance(result.error, CircuitOpenError)
    assert result.error.tool_name == "tool"


# Interrupts and cancellation


@pytest.mark.parametrize("is_tool", [True, False])
@pytest.mark.parametrize("error", [Approval(), KeyboardInterrupt()], ids=repr)
async def test_control_flow_goes_up_from_it(is_tool: bool, error: BaseException) -> None:
    house = House(policy=ToolPolicy(control_flow=(Approval,)))
    house.tool("other", raises(error))

    async def make(call: ToolCall, result: ToolResult) -> None:
        raise error

    house.tool(fallback="other" if is_tool else make)

    with pytest.raises(type(error)) as caught:
        await house.orch.dispatch("tool")
    assert caught.value is error
    assert_adds_up(house.orch)


async def swallow() -> str:
    with suppress(anyio.get_cancelled_exc_class()):
        await anyio.sleep_forever()
    return "swallowed"


async def turn_into_an_error() -> str:
    try:
        await anyio.sleep_forever()
    except BaseException:
        raise ValueError("interrupted") from None
    return ""


async def wait_for_ever() -> None:
    await anyio.sleep_forever()


@pytest.mark.parametrize("is_tool", [True, False])
@pytest.mark.parametrize("kind", ["scope", "request"])
@pytest.mark.parametrize("wait", [swallow, turn_into_an_error, wait_for_ever])
async def test_cancellation_meanwhile_is_not_lost(
    wait: Callable[[], Awaitable[Any]], kind: str, is_tool: bool
) -> None:
    if kind == "request" and not on_asyncio():
        return
    house = House()
    house.tool("other", wait)

    async def make(call: ToolCall, result: ToolResult) -> Any:
        return await wait()

    house.tool(fallback="other" if is_tool else make)
    scope = anyio.CancelScope()
    ends: list[str] = []

    async def call() -> None:
        with scope:
            ends.append(await house.orch.dispatch("tool"))
            await checkpoint()

    if kind == "request":
        task = asyncio.ensure_future(call())
        await when_blocked()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert ends == []
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await when_blocked()
            scope.cancel()
        assert scope.cancelled_caught
    assert house.services["tool"].runs == 1
    assert_adds_up(house.orch)


async def test_a_tool_whose_caller_is_cancelled_has_no_fallback() -> None:
    house, made = House(), []
    house.tool(behaviour=turn_into_an_error, fallback=lambda *asked: made.append(asked))

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(house.orch.dispatch, "tool")
            await when_blocked()
            scope.cancel()

    assert made == []


async def test_one_that_ends_cancelled_by_itself_has_no_answer() -> None:
    house = House()

    async def make(call: ToolCall, result: ToolResult) -> None:
        raise asyncio.CancelledError

    house.tool(fallback=make)

    assert "ConnectionError" in await house.orch.dispatch("tool")


async def test_a_coroutine_that_is_closed_while_it_waits_ends_there() -> None:
    house = House(clock=HandClock())

    async def make(call: ToolCall, result: ToolResult) -> None:
        await anyio.sleep_forever()

    house.tool(fallback=make)
    coro: Any = house.orch.dispatch("tool")
    coro.send(None)
    coro.close()
    assert_adds_up(house.orch)
    # What it was in is over: the next call in this task falls back as ever.
    house.tool(fallback=lambda call, result: "instead", replace=True)
    assert await house.orch.dispatch("tool") == "instead"


async def test_a_coroutine_that_is_closed_in_another_context_ends_there() -> None:
    import contextvars

    house = House(clock=HandClock())

    async def make(call: ToolCall, result: ToolResult) -> None:
        await anyio.sleep_forever()

    house.tool(fallback=make)
    coro: Any = house.orch.dispatch("tool")
    contextvars.copy_context().run(coro.send, None)
    coro.close()
    assert_adds_up(house.orch)


async def test_arguments_that_are_too_deep_to_be_copied_are_given_as_they_are() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    house = House()
    house.tool("other", answers("instead"), validate=False)
    house.tool(fallback="other", validate=False)

    assert await house.orch.dispatch("tool", {"thing": deep}) == "instead"

    assert house.got["other"][0] is house.got["tool"][0] is deep
    house.got.clear()
    while deep:  # taken apart by hand: to drop it in one go can be too deep as well
        (deep,) = deep


# The size of what it says


@pytest.mark.parametrize("is_tool", [True, False])
@each_answer
async def test_the_tools_own_limit_of_size_holds(answer: str, is_tool: bool) -> None:
    house, long = House(), "word " * 1000
    house.tool("other", answers(long))
    made = "other" if is_tool else lambda call, result: long
    house.tool(fallback=made, max_result_size=300)

    told = await answer_of(house, answer)

    if answer == "call":
        assert told == long
    else:
        assert len(told) <= 300
        assert "[truncated: " in told
    result = await house.orch.run("tool")
    assert result.value == long


async def test_json_of_a_fallback_stays_json() -> None:
    house = House()
    house.tool("other", answers(["x" * 100] * 100))
    house.tool(fallback="other", max_result_size=300)

    result = await house.orch.run("tool")

    assert json.loads(result.content)["truncated"] is True
    assert result.value == ["x" * 100] * 100


# Alternatives


async def alternatives_of(house: House) -> tuple[str, ...]:
    """
    What a refusal of the tool names, in all the ways that it can be read.
    """
    result = await house.orch.run("tool")
    assert isinstance(result.error, CircuitOpenError)
    named = result.error.alternatives
    for text in (result.content, await house.orch.dispatch("tool")):
        said = json.loads(text)
        assert tuple(said["alternatives"]) == named
        words = f"use {' or '.join(named)} instead" if named else "use another tool"
        assert words in said["error"]
    return named


async def test_a_refusal_names_the_alternatives_that_can_be_called() -> None:
    house = House(clock=HandClock())
    house.tool(alternatives=["a", "b", "c"])
    house.tool("a", succeed)
    house.tool("b", succeed)
    house.orch.circuit("tool").isolate()

    # There is no tool named c here: it is one from elsewhere.
    assert await alternatives_of(house) == ("a", "b", "c")
    house.tool("c", succeed)
    assert await alternatives_of(house) == ("a", "b", "c")
    isolation = house.orch.circuit("a").isolate()
    assert await alternatives_of(house) == ("b", "c")
    house.orch.circuit("b").trip()
    assert await alternatives_of(house) == ("c",)
    house.orch.circuit("b").disable()
    assert await alternatives_of(house) == ("b", "c")
    isolation.release()
    assert await alternatives_of(house) == ("a", "b", "c")
    house.orch.circuit("b").reset()
    for name in ("a", "b", "c"):
        house.orch.circuit(name).isolate()
    assert await alternatives_of(house) == ()


async def test_a_limit_names_them_too_those_that_the_caller_may_be_told_of() -> None:
    house = House()
    house.tool(
        alternatives=["a", "b"], limits=LimitPolicy(calls=1, seconds=1e6, max_wait=0)
    )
    house.tool("a", succeed)
    house.tool("b", succeed)
    house.tool("plain", limits=LimitPolicy(calls=1, seconds=1e6, max_wait=0))
    for name in ("tool", "plain"):
        await house.orch.dispatch(name)
    assert json.loads(await house.orch.dispatch("tool"))["alternatives"] == ["a", "b"]
    house.orch.circuit("a").isolate()
    assert json.loads(await house.orch.dispatch("tool"))["alternatives"] == ["b"]
    async with house.orch.conversation(tools=["tool", "a"]) as chat:
        assert "alternatives" not in json.loads(await chat.dispatch("tool"))
    assert "alternatives" not in json.loads(await house.orch.dispatch("plain"))


async def test_one_that_is_open_past_its_time_is_not_named() -> None:
    clock = HandClock()
    house = House(clock=clock)
    house.tool(alternatives=["a"])
    house.tool("a", succeed)
    house.orch.circuit("tool").isolate()
    house.orch.circuit("a").trip()
    clock.turn(1000)

    assert await alternatives_of(house) == ()  # only one call would get through

    assert await house.orch.dispatch("a") == "fine"
    assert await alternatives_of(house) == ("a",)


async def test_one_on_the_same_circuit_is_not_named() -> None:
    house = House(clock=HandClock())
    house.tool(alternatives=["a", "tool"], circuit="shared")
    house.tool("a", succeed, circuit="shared")
    house.orch.circuit("shared").isolate()

    assert await alternatives_of(house) == ()


async def test_one_with_circuits_by_key_is_named_unless_it_is_taken_out() -> None:
    house = House(clock=HandClock())
    house.tool(alternatives=["a"])
    house.tool("a", fail, circuit=lambda args, context: "key")
    for _ in range(3):
        await house.orch.dispatch("a")
    assert house.orch.circuit("a", "key").state == "open"
    house.orch.circuit("tool").isolate()

    assert await alternatives_of(house) == ("a",)
    house.orch.circuit("a").trip()  # that of calls without a key
    assert await alternatives_of(house) == ("a",)
    house.orch.circuit("a").isolate()
    assert await alternatives_of(house) == ()


async def test_a_tool_with_circuits_by_key_names_them_too() -> None:
    house = House(clock=HandClock())
    house.tool(alternatives=["a", "b"], circuit=lambda args, context: "key")
    house.tool("a", succeed)
    house.tool("b", succeed)
    house.orch.circuit("b").isolate()
    house.orch.circuit("tool", "key").isolate()

    result = await house.orch.run("tool")

    assert isinstance(result.error, CircuitOpenError)
    assert result.error.alternatives == ("a",)
    assert json.loads(result.content)["alternatives"] == ["a"]


async def test_what_was_restored_as_open_is_not_named() -> None:
    before = House(clock=HandClock())
    before.tool("a")
    before.orch.circuit("a").trip()
    house = House(clock=HandClock())
    house.tool(alternatives=["a"])
    house.orch.restore(before.orch.snapshot())
    house.orch.circuit("tool").isolate()
    house.tool("a", succeed)

    assert await alternatives_of(house) == ()


async def test_a_text_that_says_the_same_is_rendered_once() -> None:
    house = House(clock=HandClock())
    house.orch.remove_observer(house.events.append)
    house.tool(alternatives=["a"])
    house.tool("a", succeed)
    house.orch.circuit("tool").trip()
    first = await house.orch.dispatch("tool")
    assert await house.orch.dispatch("tool") is first
    house.orch.circuit("a").isolate()
    second = await house.orch.dispatch("tool")
    assert second != first
    assert await house.orch.dispatch("tool") is second


async def test_a_fallback_is_tried_before_alternatives_are_named() -> None:
    house = House(clock=HandClock())
    house.tool("a", succeed)
    house.tool("other", answers("instead"))
    house.tool(alternatives=["a"], fallback="other")
    house.orch.circuit("tool").isolate()

    assert await house.orch.dispatch("tool") == "instead"
    house.services["other"].behaviour = fail
    assert json.loads(await house.orch.dispatch("tool"))["alternatives"] == ["a"]


# Settings


@pytest.mark.parametrize("fallback", [3, [], object(), "", "x" * 129, b"tool"])
def test_what_cannot_be_a_fallback_is_refused_by_name(fallback: Any) -> None:
    with pytest.raises(ValueError, match="fallback="):
        ToolPolicy(fallback=fallback)


async def test_a_tool_may_have_none_where_all_have_one() -> None:
    house = House(policy=ToolPolicy(fallback=lambda call, result: "instead"))
    house.tool()
    house.registry.tool(name="bare", policy=ToolPolicy(fallback=None))(fail)

    assert await house.orch.dispatch("tool") == "instead"
    assert "bare failed" in await house.orch.dispatch("bare")
    assert house.orch._fleet.entries["bare"].around is None


async def test_a_limit_that_refuses_is_what_the_caller_is_told_where_nothing_helps() -> (
    None
):
    house = House()
    house.tool("other")
    limits = LimitPolicy(calls=1, seconds=1000, burst=1, max_wait=0)
    house.tool(behaviour=succeed, fallback="other", limits=limits)
    await house.orch.dispatch("tool")

    with pytest.raises(LimitExceededError):
        await house.orch.call("tool")


async def test_a_call_that_succeeds_takes_no_step_more_for_it() -> None:
    house = House()
    house.tool("plain", succeed)
    house.tool(behaviour=succeed, fallback="plain")

    steps, _ = await run(lambda: house.orch.dispatch("tool"))

    assert steps == (await run(lambda: house.orch.dispatch("plain")))[0]
