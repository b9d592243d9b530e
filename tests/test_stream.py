"""
Streams: tools that are async generators, whose chunks are had one by one.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import types
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import aclosing, suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    CallRefusedError,
    CircuitOpenError,
    CircuitState,
    ConversationPolicy,
    DrainingError,
    Event,
    InvalidArgumentsError,
    InvalidResultError,
    LimitExceededError,
    LimitPolicy,
    OrchestratorError,
    Outcome,
    Registry,
    RetryPolicy,
    Tool,
    ToolCall,
    ToolCancelledError,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
    ToolTimeoutError,
    UnknownToolError,
    Verdict,
)
from orchestrator_async._around import _falling
from orchestrator_async._execution import _probes
from orchestrator_async._gates import _held
from orchestrator_async._steps import Gathered

from .clock import virtual_time
from .support import HandClock, assert_adds_up, when_blocked
from .test_cancellation import block_the_loop
from .test_interrupts import CannotBeSplit
from .test_turn import asyncio_only

DEBUG = False

Chunks = AsyncGenerator[Any, None]

RESET = 300.0
UNCLOSED = "when its stream was closed"


class House:
    """
    An orchestrator with tools, and what its observers were told.
    """

    def __init__(
        self, clock: Callable[[], float] = anyio.current_time, **options: Any
    ) -> None:
        self.registry = Registry()
        self.events: list[Event] = []
        self.notes: list[Any] = []
        self.orch = ToolOrchestrator(
            self.registry,
            clock=clock,
            reset_timeout=RESET,
            observers=[self.events.append],
            **options,
        )

    def tool(self, fn: Callable[..., Any], name: str = "tool", **options: Any) -> None:
        rest = {key: options.pop(key) for key in list(options) if key in TOOL_OPTIONS}
        self.registry.tool(name=name, policy=ToolPolicy(**options), **rest)(fn)

    def finished(self) -> list[CallFinished]:
        return [each for each in self.events if isinstance(each, CallFinished)]

    def verdicts(self) -> list[str]:
        return [each.verdict.value for each in self.finished()]

    async def probe_next(self, name: str = "tool") -> None:
        self.orch.circuit(name).trip()
        await anyio.sleep(RESET)

    def assert_all_is_back(self) -> None:
        """
        Nothing is in flight, nothing is taken, and nothing of ours is left behind here.
        """
        assert_adds_up(self.orch)
        for gate in self.orch._surroundings._gates.values():
            if gate.limit is not None:
                assert (gate.limit.taken, gate.limit.waiting) == (0, 0)
        for circuit in self.orch._fleet.all_circuits():
            assert circuit.breaker.probe is None or circuit.state is CircuitState.CLOSED
        for variable in (_falling, _held, _probes):
            assert variable.get(()) == ()


TOOL_OPTIONS = ("validate", "idempotent", "circuit", "timeout", "judge")


def yields(*chunks: Any) -> Callable[[], Chunks]:
    async def tool() -> Chunks:
        for chunk in chunks:
            await checkpoint()
            yield chunk

    return tool


def then_raises(error: BaseException, *chunks: Any) -> Callable[[], Chunks]:
    async def tool() -> Chunks:
        for chunk in chunks:
            yield chunk
        await checkpoint()
        raise error

    return tool


def unless(is_bad: Callable[[Any], bool]) -> Callable[[Outcome], Verdict | None]:
    """
    A judge to whom a value may be a failure.
    """
    return lambda outcome: Verdict.FAILURE if is_bad(outcome.value) else None


async def read(house: House, name: str = "tool", args: Any = None) -> list[Any]:
    async with house.orch.stream(name, args) as chunks:
        return [chunk async for chunk in chunks]


# What a stream is


async def test_each_chunk_is_made_when_it_is_asked_for() -> None:
    house = House()

    async def tool(thing: str) -> Chunks:
        for number in range(3):
            house.notes.append(f"made {number}")
            yield f"{thing} {number}"
        house.notes.append("over")

    house.tool(tool)
    stream = house.orch.stream("tool", {"thing": "chunk"}, call_id="c1")
    assert house.notes == []
    async with stream as chunks:
        assert chunks is stream
        assert house.notes == ["made 0"]  # fetched on entry
        async for chunk in chunks:
            house.notes.append(chunk)
            assert chunks.result is None
            assert house.orch.stats("tool").in_flight == 1
            assert house.events == []

    assert house.notes == [
        "made 0",
        "chunk 0",
        "made 1",
        "chunk 1",
        "made 2",
        "chunk 2",
        "over",
    ]
    result = stream.result
    assert result is not None
    assert (result.ok, result.verdict, result.error) == (True, Verdict.SUCCESS, None)
    assert (result.name, result.call_id, result.source) == ("tool", "c1", "tool")
    assert (result.value, result.content, result.attempts) == (None, "", 1)
    assert result.state is CircuitState.CLOSED
    (told,) = house.finished()
    assert (told.call_id, told.verdict, told.attempt) == ("c1", Verdict.SUCCESS, 1)
    assert house.orch.stats("tool").successes == 1
    house.assert_all_is_back()


async def test_a_tool_is_told_of_its_call() -> None:
    house = House()

    async def tool(number: int, context: ToolContext) -> Chunks:
        yield [number, context.call_id, context.data["user"], context.tool_name]

    house.tool(tool)
    async with house.orch.stream("tool", '{"number": 7}', call_id="c1", user="ada") as it:
        assert [chunk async for chunk in it] == [[7, "c1", "ada", "tool"]]
    with pytest.raises(TypeError, match="timeout"):
        house.orch.stream("tool", timeout=3)


async def test_a_context_variable_of_the_consumer_is_seen_in_each_step() -> None:
    house, user = House(), contextvars.ContextVar("user", default="nobody")

    async def tool() -> Chunks:
        while True:
            yield user.get()

    house.tool(tool)
    async with house.orch.stream("tool") as chunks:
        user.set("ada")
        assert [await anext(chunks), await anext(chunks)] == ["nobody", "ada"]


async def test_a_stream_may_be_empty() -> None:
    house = House()
    house.tool(yields())
    async with house.orch.stream("tool") as chunks:
        assert chunks.result is not None
        assert chunks.result.ok
        assert [chunk async for chunk in chunks] == []
    assert house.verdicts() == ["success"]
    assert await house.orch.dispatch("tool") == ""
    house.assert_all_is_back()


@pytest.mark.parametrize("value", ["text", None, 7, {"error": "busy"}, object])
async def test_another_tools_value_is_one_chunk(value: Any) -> None:
    house = House()

    async def tool() -> Any:
        return value

    house.tool(tool)
    async with house.orch.stream("tool") as chunks:
        assert chunks.result is not None
        assert chunks.result.ok == (not isinstance(value, dict))
        assert [chunk async for chunk in chunks] == [value]
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)
    house.assert_all_is_back()


async def test_the_chunk_of_another_tool_is_gone_once_the_stream_was_left() -> None:
    house = House()

    async def tool() -> str:
        return "text"

    house.tool(tool)
    async with house.orch.stream("tool") as chunks:
        pass
    assert [chunk async for chunk in chunks] == []


async def test_what_another_tool_raises_is_raised_on_entry() -> None:
    house, error = House(), ConnectionError("down")

    async def tool() -> Any:
        raise error

    house.tool(tool)
    with pytest.raises(ConnectionError) as caught:
        await read(house)
    assert caught.value is error
    assert house.verdicts() == ["failure"]


def test_what_streams_is_known() -> None:
    class Speaker:
        async def __call__(self) -> Chunks:
            yield "a"

        async def method(self) -> Chunks:
            yield "b"

    async def plain() -> None: ...

    for fn in (Speaker(), Speaker().method, yields()):
        tool = Tool(fn=fn, name="tool")
        assert tool.streams
        assert tool.is_async
    assert not Tool(fn=plain, name="tool").streams
    assert not Tool(fn=Speaker, name="tool").streams


# How it ends


async def test_what_the_tool_raises_midway_is_its_failure() -> None:
    house, error = House(), ConnectionError("down")
    house.tool(then_raises(error, "a", "b"))
    got = []
    stream = house.orch.stream("tool")
    with pytest.raises(ConnectionError) as caught:
        async with stream as chunks:
            got.append(await anext(chunks))
            got.append(await anext(chunks))
            await anext(chunks)

    assert got == ["a", "b"]
    assert caught.value is error
    assert error.__context__ is None
    assert stream.result is not None
    assert (stream.result.error, stream.result.ok) == (error, False)
    assert "down" in stream.result.content
    assert house.verdicts() == ["failure"]
    assert house.orch.circuit("tool").failures == 1
    house.assert_all_is_back()


async def test_what_the_tool_raises_before_its_first_chunk_is_raised_on_entry() -> None:
    house, error = House(), ConnectionError("down")
    house.tool(then_raises(error))
    stream = house.orch.stream("tool")
    with pytest.raises(ConnectionError) as caught:
        await stream.__aenter__()
    assert caught.value is error
    assert stream.result is not None
    assert stream.result.error is error
    assert house.verdicts() == ["failure"]
    assert [chunk async for chunk in stream] == []
    house.assert_all_is_back()


async def test_three_streams_that_fail_open_the_circuit_and_the_next_is_refused() -> None:
    house = House()
    house.tool(then_raises(ConnectionError("down"), "a"))
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await read(house)
    stream = house.orch.stream("tool")
    with pytest.raises(CircuitOpenError):
        await stream.__aenter__()
    assert stream.result is not None
    assert (stream.result.attempts, stream.result.state) == (0, CircuitState.OPEN)
    assert house.orch.stats("tool").rejected == 1


@pytest.mark.parametrize("before", [(), ("a",)])
async def test_a_tool_does_not_end_a_program(before: tuple[str, ...]) -> None:
    house = House()
    house.tool(then_raises(SystemExit(2), *before))
    with pytest.raises(OrchestratorError, match="SystemExit"):
        await read(house)
    assert house.verdicts() == ["failure"]


async def test_errors_that_are_ignored_are_none_of_a_stream_either() -> None:
    house = House()
    house.tool(then_raises(LookupError("nothing"), "a"), ignore=(LookupError,))
    with pytest.raises(LookupError):
        await read(house)
    assert house.verdicts() == ["ignore"]


class Approval(Exception):
    """How a framework stops a run to ask somebody."""


async def test_control_flow_of_a_framework_goes_up_and_is_no_verdict() -> None:
    house = House()
    house.tool(then_raises(Approval(), "a"), control_flow=(Approval,))
    stream = house.orch.stream("tool")
    with pytest.raises(Approval):
        async with stream as chunks:
            async for _ in chunks:
                pass
    assert house.verdicts() == ["ignore"]
    assert stream.result is None


BUSY = {"error": "busy"}
REFUSED = {"error": "open", "circuit_open": True}


@pytest.mark.parametrize(
    ("chunks", "verdict"),
    [
        (["a", BUSY], "failure"),
        ([BUSY, {"all": "well"}], "failure"),
        ([{"error": None}, {"error": ""}, 3], "success"),
        (['{"error": ', '"busy"}'], "failure"),
        ([" ", "\n", '{"error": ', '"busy"}'], "failure"),
        (["", '{"error": "busy"}'], "failure"),
        (['{"answer": ', "1}"], "success"),
        (["the text ", '{"error": "busy"}'], "success"),
        (['{"error": "busy"}', {"all": "well"}], "success"),
        (['{"a": "', "x" * 60_000, '", "error": 1}'], "success"),
        (['{"a": "', "x" * 40_000, '", "error": 1}'], "failure"),
    ],
)
async def test_a_chunk_may_tell_of_an_error(chunks: list[Any], verdict: str) -> None:
    house = House()
    house.tool(yields(*chunks))
    stream = house.orch.stream("tool")
    async with stream as got:
        assert [chunk async for chunk in got] == chunks
    assert house.verdicts() == [verdict]
    assert stream.result is not None
    assert (stream.result.ok, stream.result.error) == (verdict == "success", None)
    house.assert_all_is_back()


@pytest.mark.parametrize("chunks", [["a", BUSY], [BUSY, 3], ['{"error": ', '"busy"}']])
async def test_a_chunk_may_tell_a_dispatch_of_an_error(chunks: list[Any]) -> None:
    house = House()
    house.tool(yields(*chunks))
    assert not (await house.orch.run("tool")).ok
    assert house.verdicts() == ["failure"]


async def test_the_refusal_of_a_call_that_it_made_is_no_verdict() -> None:
    house = House()

    house.tool(yields("x"), "inner")
    house.orch.circuit("inner").trip()

    async def passes_on() -> Chunks:
        import json

        yield "a"
        yield json.loads(await house.orch.dispatch("inner"))
        yield {"all": "well"}

    house.tool(passes_on, "outer")
    async with house.orch.stream("outer") as chunks:
        got = [chunk async for chunk in chunks]
        assert chunks.result is not None
        assert chunks.result.verdict is Verdict.IGNORE
    assert len(got) == 3

    async with house.orch.stream("outer") as chunks:
        await anext(chunks)
        await anext(chunks)
    assert house.verdicts() == ["ignore", "ignore"]


async def test_an_error_outlasts_a_refusal() -> None:
    house = House()
    house.tool(yields("x"), "inner")
    house.orch.circuit("inner").trip()

    async def tool() -> Chunks:
        import json

        refusal = json.loads(await house.orch.dispatch("inner"))
        for chunk in (BUSY, refusal):
            yield chunk

    house.tool(tool)
    await read(house)
    assert house.verdicts() == ["failure"]


@pytest.mark.parametrize("said", list(Verdict))
async def test_a_judge_has_all_of_it(said: Verdict) -> None:
    clock = HandClock()
    house = House(clock)
    asked: list[Outcome] = []

    def judge(outcome: Outcome) -> Verdict:
        asked.append(outcome)
        return said

    async def tool() -> Chunks:
        for chunk in "ab":
            clock.turn(2)
            yield chunk
        clock.turn(1)

    house.tool(tool, judge=judge)
    async with house.orch.stream("tool") as chunks:
        async for _ in chunks:
            clock.turn(50)
        assert chunks.result is not None
        assert chunks.result.duration == 5
    assert house.verdicts() == [said]
    (outcome,) = asked
    assert (outcome.value, outcome.error, outcome.duration) == ("ab", None, 5)
    assert house.finished()[0].duration == 5

    house.orch.circuit("tool").reset()
    async with house.orch.stream("tool"):
        pass
    assert len(asked) == 1  # nobody knows how it would have ended


async def test_a_judge_has_what_was_raised() -> None:
    house, error = House(), LookupError("nothing")
    house.tool(
        then_raises(error, "a"),
        judge=lambda outcome: Verdict.SUCCESS if outcome.error is error else None,
    )
    with pytest.raises(LookupError):
        await read(house)
    assert house.verdicts() == ["success"]


async def test_the_time_of_the_tool_is_what_counts_as_slow() -> None:
    clock = HandClock()
    house = House(clock)

    async def tool() -> Chunks:
        clock.turn(1)
        yield "a"
        clock.turn(1)

    slow = BreakerPolicy(slow_duration=3, slow_rate=0.5, window_calls=2, minimum_calls=2)
    house.tool(tool, breaker=slow)
    for _ in range(3):
        async with house.orch.stream("tool") as chunks:
            async for _ in chunks:
                clock.turn(100)
    assert house.orch.circuit("tool").state is CircuitState.CLOSED
    assert [each.duration for each in house.finished()] == [2, 2, 2]


# Refusals


async def test_refusals_are_raised_on_entry() -> None:
    house = House()

    async def tool(number: int = 0) -> Chunks:
        house.notes.append(number)
        yield number

    house.tool(tool)
    house.tool(tool, "guarded", guard=lambda call, context: "not now")
    house.tool(tool, "limited", limits=LimitPolicy(max_concurrent=1, max_wait=0))
    for name, args, expected in (
        ("nothing", None, UnknownToolError),
        ("tool", {"number": "x"}, InvalidArgumentsError),
        ("tool", "[", InvalidArgumentsError),
        ("guarded", None, CallRefusedError),
    ):
        with pytest.raises(expected):
            await read(house, name, args)
    async with house.orch.stream("limited") as chunks:
        with pytest.raises(LimitExceededError):
            await read(house, "limited")
        assert [chunk async for chunk in chunks] == [0]
    await house.orch.drain()
    with pytest.raises(DrainingError):
        await read(house)
    assert house.notes == [0]
    assert house.orch.stats("tool").invalid == 2
    house.assert_all_is_back()


async def test_arguments_that_cannot_be_bound_are_the_callers_mistake() -> None:
    house = House()

    async def tool(number: int) -> Chunks:
        yield number

    house.tool(tool, validate=False)
    with pytest.raises(InvalidArgumentsError):
        await read(house, args={"wrong": 1})
    assert house.orch.stats("tool").invalid == 1
    assert house.finished() == []
    house.assert_all_is_back()


async def test_a_guard_that_agrees_is_asked_once_and_the_tool_gets_what_it_agreed_to() -> (
    None
):
    house = House()

    async def tool(number: int) -> Chunks:
        yield number
        yield number + 1

    def guard(call: ToolCall, context: ToolContext) -> None:
        house.notes.append(call.args)

    house.tool(tool, guard=guard)
    assert await read(house, args={"number": "3"}) == [3, 4]
    assert house.notes == [{"number": 3}]


# As one answer


@pytest.mark.parametrize(
    ("chunks", "value", "text"),
    [
        (["a", "b"], "ab", "ab"),
        (["a", 1], ["a", 1], '["a",1]'),
        ([{"n": 1}, None], [{"n": 1}, None], '[{"n":1},null]'),
        ([], "", ""),
    ],
)
async def test_its_chunks_are_one_answer_elsewhere(
    chunks: list[Any], value: Any, text: str
) -> None:
    house = House()
    house.tool(yields(*chunks))
    assert await house.orch.dispatch("tool") == text
    assert await house.orch.call("tool") == value
    result = await house.orch.run("tool")
    assert (result.value, result.content) == (value, text)
    (result,) = await house.orch.dispatch_all([ToolCall("tool")])
    assert (result.value, result.content) == (value, text)
    assert await house.registry.dispatch("tool") == value
    assert house.verdicts() == ["success"] * 4
    house.assert_all_is_back()


class Pretends:
    """
    Raises when it is asked whether it is something else.
    """

    @property
    def __class__(self) -> Any:
        raise RuntimeError("do not ask")

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


async def test_chunks_that_raise_when_they_are_looked_at_are_handed_on() -> None:
    house, chunk = House(), Pretends()
    house.tool(yields(chunk))
    (got,) = await read(house)
    assert got is chunk
    (got,) = await house.orch.call("tool")
    assert got is chunk
    assert house.verdicts() == ["success"] * 2
    house.tool(yields(chunk), "judged", judge=lambda outcome: None)
    assert len(await read(house, "judged")) == 1
    house.assert_all_is_back()


async def test_what_fails_is_an_answer_elsewhere() -> None:
    house = House()
    house.tool(then_raises(ConnectionError("down"), "a"))
    assert "down" in await house.orch.dispatch("tool")
    with pytest.raises(ConnectionError):
        await house.orch.call("tool")
    with pytest.raises(ConnectionError):
        await house.registry.dispatch("tool")
    assert house.verdicts() == ["failure"] * 2


async def test_a_stream_without_an_end_is_an_error_and_others_have_their_turn() -> None:
    house = House()
    turns = 0

    async def tool() -> Chunks:
        try:
            while True:
                house.notes.append(turns)
                yield "x"
        finally:
            await checkpoint()
            house.notes.append("closed")

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    house.tool(tool)
    async with anyio.create_task_group() as group:
        group.start_soon(other)
        result = await house.orch.run("tool")
        assert 99 <= turns <= 110
        group.cancel_scope.cancel()

    assert isinstance(result.error, InvalidResultError)
    assert "100,000" in result.content
    assert (len(house.notes), house.notes[-1]) == (100_002, "closed")
    assert house.verdicts() == ["failure"]
    house.notes.clear()
    with pytest.raises(ValueError, match="100000"):
        await house.registry.dispatch("tool")
    assert house.notes[-1] == "closed"
    house.assert_all_is_back()


async def test_there_may_be_just_so_many_chunks() -> None:
    house = House()

    async def tool() -> Chunks:
        for _ in range(100_000):
            yield "x"

    house.tool(tool)
    assert len(await house.orch.dispatch("tool")) == 100_000
    assert len(await house.registry.dispatch("tool")) == 100_000


async def test_a_stream_that_is_taken_one_by_one_may_be_long_and_is_not_kept() -> None:
    house = House()

    class Chunk:
        pass

    made: list[weakref.ref[Chunk]] = []

    async def tool() -> Chunks:
        for _ in range(10):
            chunk = Chunk()
            made.append(weakref.ref(chunk))
            yield chunk

    async def long() -> Chunks:
        for _ in range(100_003):
            yield "{"
        yield BUSY

    house.tool(tool)
    async with house.orch.stream("tool") as chunks:
        for _ in range(5):
            await anext(chunks)
        gc.collect()
        assert sum(each() is not None for each in made) <= 1

    asked: list[Any] = []
    house.tool(long, "long", judge=asked.append)
    assert len(await read(house, "long")) == 100_004
    assert asked == []  # of what was not kept there is nothing to be said
    assert house.verdicts() == ["ignore", "failure"]


# Again, and something else


RETRY = RetryPolicy(attempts=3, wait_initial=0, wait_jitter=0)


@pytest.mark.parametrize("idempotent", [True, False])
async def test_it_is_tried_again_until_its_first_chunk(idempotent: bool) -> None:
    house = House()
    runs = 0

    async def tool(context: ToolContext) -> Chunks:
        nonlocal runs
        runs += 1
        house.notes.append((context.attempt, context.idempotency_key))
        if runs < 3:
            raise ConnectionError("reset")
        yield "a"
        raise ConnectionError("down")

    house.tool(
        tool,
        retry=RETRY,
        idempotent=idempotent,
        breaker=BreakerPolicy(failure_threshold=100),
    )
    stream = house.orch.stream("tool")
    with pytest.raises(ConnectionError, match="down" if idempotent else "reset"):
        async with stream as chunks:
            assert await anext(chunks) == "a"
            await anext(chunks)

    assert runs == (3 if idempotent else 1)
    assert [attempt for attempt, _ in house.notes] == [1, 2, 3][:runs]
    assert len({key for _, key in house.notes}) == 1
    assert stream.result is not None
    assert stream.result.attempts == runs
    assert house.verdicts() == ["failure"] * runs
    assert [each.attempt for each in house.finished()] == [1, 2, 3][:runs]
    house.assert_all_is_back()


async def test_the_times_of_its_attempts_are_added_up() -> None:
    clock = HandClock()
    house = House(clock)
    runs = 0

    async def tool() -> Chunks:
        nonlocal runs
        runs += 1
        clock.turn(runs)
        if runs == 1:
            raise ConnectionError("reset")
        yield "a"
        clock.turn(10)

    house.tool(tool, retry=RETRY, idempotent=True)
    async with house.orch.stream("tool") as chunks:
        async for _ in chunks:
            clock.turn(100)
        assert chunks.result is not None
        assert (chunks.result.duration, chunks.result.attempts) == (13, 2)
    assert [each.duration for each in house.finished()] == [1, 12]


async def test_an_empty_stream_that_was_judged_a_failure_is_tried_again() -> None:
    house = House()
    runs = 0

    async def tool() -> Chunks:
        nonlocal runs
        runs += 1
        if runs == 2:
            yield "a"

    house.tool(tool, retry=RETRY, idempotent=True, judge=unless(lambda value: value == ""))
    assert await read(house) == ["a"]
    assert house.verdicts() == ["failure", "success"]


@pytest.mark.parametrize("kind", ["stream", "function", "tool"])
@pytest.mark.parametrize("fails", ["raises", "is empty", "is refused"])
async def test_a_fallback_answers_until_its_first_chunk(kind: str, fails: str) -> None:
    house = House()

    async def other() -> str:
        return "instead"

    house.tool(yields("inst", "ead") if kind == "stream" else other, "other")
    fallback: Any = "other" if kind != "function" else lambda call, result: "instead"
    tool = then_raises(ConnectionError("down")) if fails == "raises" else yields()
    house.tool(tool, fallback=fallback, judge=unless(lambda value: value == ""))
    if fails == "is refused":
        house.orch.circuit("tool").trip()

    stream = house.orch.stream("tool", call_id="c1")
    async with stream as chunks:
        got = [chunk async for chunk in chunks]
    assert got == (["inst", "ead"] if kind == "stream" else ["instead"])
    result = stream.result
    assert result is not None
    assert (result.ok, result.name, result.call_id) == (True, "tool", "c1")
    assert result.source == ("fallback" if kind == "function" else "other")
    house.assert_all_is_back()


async def test_a_fallback_that_fails_changes_nothing() -> None:
    house = House()
    house.tool(then_raises(ConnectionError("as well")), "other")
    house.tool(then_raises(ConnectionError("down")), fallback="other")
    house.tool(yields(), "empty", fallback="other", judge=unless(lambda value: value == ""))
    with pytest.raises(ConnectionError, match="down"):
        await read(house)
    assert await read(house, "empty") == []
    house.assert_all_is_back()


async def test_a_fallback_that_is_empty_answers_with_nothing() -> None:
    house = House()
    house.tool(yields(), "other")
    house.tool(then_raises(ConnectionError("down")), fallback="other")
    assert await read(house) == []
    house.assert_all_is_back()


async def test_nothing_answers_after_the_first_chunk() -> None:
    house = House()
    house.tool(yields("instead"), "other")
    house.tool(then_raises(ConnectionError("down"), "a"), fallback="other")
    with pytest.raises(ConnectionError):
        await read(house)
    assert house.orch.stats("other").calls == 0


async def test_what_failed_does_not_fall_back_in_the_stream_that_answers_for_it() -> None:
    house = House()

    async def other() -> Chunks:
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await house.orch.call("tool")
            yield "instead"
        try:
            yield "more"
        finally:
            with pytest.raises(ConnectionError):
                await house.orch.call("tool")
            house.notes.append("closed")

    house.tool(other, "other")
    house.tool(then_raises(ConnectionError("down")), fallback="other")
    house.orch.circuit("tool").disable()
    async with house.orch.stream("tool") as chunks:
        assert [await anext(chunks) for _ in range(3)] == ["instead", "instead", "more"]
        # What its consumer calls meanwhile is another matter.
        async with house.orch.stream("tool") as again:
            assert await anext(again) == "instead"
    assert house.notes == ["closed"]
    assert house.orch.stats("other").calls == 2
    house.assert_all_is_back()


# Time


@virtual_time
@pytest.mark.parametrize(
    ("options", "first", "later"),
    [
        ({"timeout": 5}, 5, 5),
        ({"timeout": 5, "first_chunk_timeout": 2}, 2, 5),
        ({"timeout": 5, "chunk_timeout": 20}, 5, 20),
        ({"first_chunk_timeout": 2, "chunk_timeout": 3}, 2, 3),
        ({"timeout": 5, "first_chunk_timeout": None, "chunk_timeout": 3}, None, 3),
        ({"timeout": 5, "first_chunk_timeout": 2, "chunk_timeout": None}, 2, None),
        ({}, None, None),
    ],
)
async def test_each_step_has_its_time(
    options: dict[str, Any], first: float | None, later: float | None
) -> None:
    for place, timeout in enumerate((first, later, later)):
        for wait in (1.9, 1000):
            house = House()

            async def tool(place: int = place, wait: float = wait) -> Chunks:
                for number in range(3):
                    if number == place:
                        await anyio.sleep(wait)
                    yield number

            house.tool(tool, **options)
            began = anyio.current_time()
            if wait < 2 or timeout is None:
                assert await read(house) == [0, 1, 2]
                assert house.verdicts() == ["success"]
                assert anyio.current_time() == began + wait
                continue
            with pytest.raises(ToolTimeoutError) as caught:
                await read(house)
            assert (caught.value.timeout, caught.value.tool_name) == (timeout, "tool")
            assert anyio.current_time() == began + timeout
            assert house.verdicts() == ["failure"]
            assert house.orch.stats("tool").timeouts == 1
            house.assert_all_is_back()


@virtual_time
async def test_the_time_of_its_consumer_is_not_the_tools() -> None:
    house = House()

    async def tool() -> Chunks:
        for number in range(3):
            await anyio.sleep(4)
            yield number

    house.tool(tool, timeout=5)
    async with house.orch.stream("tool") as chunks:
        async for _ in chunks:
            await anyio.sleep(100)
        assert chunks.result is not None
        assert chunks.result.duration == 12
    assert house.verdicts() == ["success"]


@virtual_time
async def test_an_error_after_a_slow_consumer_is_no_timeout() -> None:
    house = House()
    house.tool(then_raises(ConnectionError("down"), "a", "b"), timeout=5)
    with pytest.raises(ConnectionError):
        async with house.orch.stream("tool") as chunks:
            async for _ in chunks:
                await anyio.sleep(100)
    assert house.orch.stats("tool").timeouts == 0


@virtual_time
@pytest.mark.parametrize("consumer", [0, 50])
async def test_the_whole_call_has_its_time_too(consumer: float) -> None:
    house = House()

    async def tool() -> Chunks:
        while True:
            await anyio.sleep(7)
            yield "a"

    house.tool(tool, timeout=10, total_timeout=60)
    stream = house.orch.stream("tool")
    began = anyio.current_time()
    with pytest.raises(ToolTimeoutError) as caught:
        async with stream as chunks:
            async for _ in chunks:
                await anyio.sleep(consumer)
    assert caught.value.timeout == 60
    if consumer:
        # 7 of 60 seconds were the tool's, and the step that was cut short had 3 of 10.
        assert anyio.current_time() == began + 60
        assert house.verdicts() == ["ignore"]
    else:
        assert anyio.current_time() == began + 60
        assert house.verdicts() == ["failure"]  # it had all the time that there is
    assert house.orch.stats("tool").timeouts == 1
    house.assert_all_is_back()


@virtual_time
async def test_a_step_that_was_cut_short_after_a_long_time_is_a_failure() -> None:
    house = House()

    async def tool() -> Chunks:
        yield "a"
        await anyio.sleep(1000)
        yield "b"

    house.tool(tool, timeout=10, total_timeout=60)
    for consumer, verdict in ((50.4, "failure"), (51, "ignore")):
        house.events.clear()
        with pytest.raises(ToolTimeoutError):
            async with house.orch.stream("tool") as chunks:
                async for _ in chunks:
                    await anyio.sleep(consumer)
        assert house.verdicts() == [verdict]


@virtual_time
async def test_a_stream_whose_time_was_up_gets_no_more() -> None:
    house = House()

    async def tool() -> Chunks:
        while True:
            yield "a"  # without any wait

    house.tool(tool, total_timeout=60)
    async with house.orch.stream("tool") as chunks:
        await anext(chunks)
        await anext(chunks)
        await anyio.sleep(100)
        with pytest.raises(ToolTimeoutError):
            await anext(chunks)
    assert house.verdicts() == ["ignore"]


@virtual_time
async def test_the_time_of_the_whole_call_counts_its_attempts() -> None:
    house = House()
    runs = 0

    async def tool() -> Chunks:
        nonlocal runs
        runs += 1
        await anyio.sleep(8)
        if runs == 1:
            raise ConnectionError("reset")
        yield "a"

    house.tool(tool, timeout=30, total_timeout=10, retry=RETRY, idempotent=True)
    with pytest.raises(ToolTimeoutError):
        await read(house)
    assert house.verdicts() == ["failure", "ignore"]


@virtual_time
async def test_a_dispatch_has_one_timeout_for_all() -> None:
    house = House()

    async def tool() -> Chunks:
        for _ in range(3):
            await anyio.sleep(2)
            yield "a"

    house.tool(tool, timeout=5)
    house.tool(tool, "patient", timeout=5, chunk_timeout=50, first_chunk_timeout=None)
    for name in ("tool", "patient"):
        result = await house.orch.run(name)
        assert isinstance(result.error, ToolTimeoutError)
        assert result.error.timeout == 5
        assert result.duration == 5
        assert await read(house, name) == ["a"] * 3
    assert house.verdicts() == ["failure", "success"] * 2


@virtual_time
@pytest.mark.parametrize("total", [None, 100])
@pytest.mark.parametrize("place", [0, 1])
async def test_a_dispatch_has_the_timeouts_of_steps_where_they_were_set(
    total: float | None, place: int
) -> None:
    house = House()

    async def tool() -> Chunks:
        for number in range(2):
            await anyio.sleep(1000 if number == place else 1)
            yield "a"

    timeouts: Any = {"first_chunk_timeout": 4, "chunk_timeout": 6}
    house.tool(tool, total_timeout=total, **timeouts)
    result = await house.orch.run("tool")
    assert isinstance(result.error, ToolTimeoutError)
    assert result.error.timeout == (6 if place else 4)
    assert result.duration == (7 if place else 4)
    assert house.verdicts() == ["failure"]
    assert house.orch.stats("tool").timeouts == 1


@virtual_time
async def test_a_dispatch_that_is_cut_short_by_the_whole_calls_time_is_told_so() -> None:
    house = House()

    async def tool() -> Chunks:
        yield "a"
        await anyio.sleep(1000)

    house.tool(tool, total_timeout=10, chunk_timeout=50)
    result = await house.orch.run("tool")
    assert isinstance(result.error, ToolTimeoutError)
    assert result.error.timeout == 10


@virtual_time
@pytest.mark.parametrize("how", ["yields", "returns", "raises"])
@pytest.mark.parametrize("joined", [False, True])
async def test_a_tool_does_not_outwit_its_timeout(how: str, joined: bool) -> None:
    house = House()

    async def tool() -> Chunks:
        try:
            yield "a"
            try:
                await anyio.sleep(1000)
            except anyio.get_cancelled_exc_class():
                if how == "raises":
                    raise ConnectionError("interrupted") from None
            if how == "yields":
                yield "b"
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(50)
            house.notes.append("closed")

    house.tool(tool, chunk_timeout=5)
    if joined:
        error = (await house.orch.run("tool")).error
        assert isinstance(error, ToolTimeoutError)
        assert "did not yield its next chunk within its 5 s" in str(error)
    else:
        with pytest.raises(ToolTimeoutError, match="next chunk within its 5 s") as caught:
            await read(house)
        error = caught.value
    assert type(error.__cause__) is (ConnectionError if how == "raises" else type(None))
    assert house.notes == ["closed"]
    assert house.verdicts() == ["failure"]
    assert house.orch.stats("tool").timeouts == 1
    house.assert_all_is_back()


@pytest.mark.parametrize(("size", "verdict"), [(50_000, "failure"), (50_001, "success")])
async def test_text_is_kept_as_far_as_it_may_be_an_object_that_tells_of_an_error(
    size: int, verdict: str
) -> None:
    house = House()
    begin, end = '{"error": "down", "log": "', '"}'

    async def tool() -> Chunks:
        yield begin
        yield "x" * (size - len(begin) - len(end))
        yield end

    house.tool(tool)
    assert len("".join(await read(house))) == size
    assert house.verdicts() == [verdict]


@pytest.mark.parametrize(
    ("chunks", "kept"),
    [
        (["{", "}"], True),
        (["", " ", '{"a"', ": 1}"], True),
        (["not", " {", "}"], False),
        (["", "not"], False),
    ],
)
def test_text_that_begins_as_no_object_does_is_not_kept(
    chunks: list[str], kept: bool
) -> None:
    house = House()
    house.tool(yields())
    gathered = Gathered(house.orch._fleet.entry(house.registry["tool"]), keeps_all=False)
    for chunk in chunks:
        gathered.add(chunk)
    assert gathered.is_whole is kept
    assert gathered.value() == ("".join(chunks) if kept else None)


@virtual_time
@pytest.mark.parametrize("total", [5, 50])
@pytest.mark.parametrize("chunks", [0, 1])
async def test_the_time_of_a_step_is_not_that_of_the_whole_where_that_is_no_less(
    chunks: int, total: int
) -> None:
    house = House()

    async def tool() -> Chunks:
        for _ in range(chunks):
            yield "a"
        await anyio.sleep(1000)
        yield "b"

    house.tool(tool, timeout=5, total_timeout=total)
    with pytest.raises(ToolTimeoutError, match="its next chunk within its 5 s"):
        await read(house)
    assert anyio.current_time() == pytest.approx(5)
    assert house.verdicts() == ["failure"]
    house.assert_all_is_back()


@virtual_time
@pytest.mark.parametrize(("seconds", "struck"), [(4.5, False), (5.0, True), (50.0, True)])
async def test_a_tool_that_holds_the_loop_up_until_its_time_is_over_was_too_slow(
    seconds: float, struck: bool
) -> None:
    house = House()

    async def tool() -> Chunks:
        block_the_loop(seconds)
        yield "a"

    house.tool(tool, timeout=5)
    if struck:
        with pytest.raises(ToolTimeoutError, match="within its 5 s"):
            await read(house)
    else:
        assert await read(house) == ["a"]
    assert house.verdicts() == ["failure" if struck else "success"]
    house.assert_all_is_back()


@virtual_time
async def test_a_caller_may_be_cancelled_while_a_tool_that_was_stopped_cleans_up() -> None:
    house = House()

    async def tool() -> Chunks:
        try:
            with suppress(anyio.get_cancelled_exc_class()):
                await anyio.sleep(1000)
            yield "a"
        finally:
            await anyio.sleep(1000)

    house.tool(tool, timeout=5)
    with anyio.move_on_after(7) as scope:
        await read(house)
    assert scope.cancelled_caught
    assert house.verdicts() == ["failure"]
    assert house.orch.stats("tool").in_flight == 0
    house.assert_all_is_back()


@virtual_time
async def test_a_clean_up_that_is_long_does_not_make_a_timeout_of_an_error() -> None:
    house = House()

    async def tool() -> Chunks:
        try:
            while True:
                yield "x"
        finally:
            await anyio.sleep(5)

    house.tool(tool, timeout=30, chunk_timeout=8, first_chunk_timeout=2)
    result = await house.orch.run("tool")
    assert isinstance(result.error, InvalidResultError)
    assert house.orch.stats("tool").timeouts == 0


@virtual_time
@pytest.mark.parametrize(
    ("place", "wait", "verdict"),
    [(0, 3.9, "failure"), (0, 3.7, "ignore"), (1, 5.8, "failure"), (1, 5.6, "ignore")],
)
async def test_a_caller_who_gives_up_a_step_has_waited_for_a_tool_that_hangs(
    place: int, wait: float, verdict: str
) -> None:
    house = House()

    async def tool() -> Chunks:
        for number in range(2):
            if number == place:
                await anyio.sleep(1000)
            await anyio.sleep(3.5)
            yield number

    house.tool(tool, first_chunk_timeout=4, chunk_timeout=6)
    stream = house.orch.stream("tool")
    with anyio.CancelScope() as scope:
        if not place:
            scope.deadline = anyio.current_time() + wait
        async with stream as chunks:
            await anext(chunks)
            scope.deadline = anyio.current_time() + wait
            await anext(chunks)
    assert scope.cancelled_caught
    assert stream.result is None
    assert house.verdicts() == [verdict]
    assert house.orch.stats("tool").cancelled == (verdict == "ignore")
    if verdict == "failure":
        error = house.finished()[0].error
        assert isinstance(error, ToolTimeoutError)
        assert error.timeout == (6 if place else 4)
    house.assert_all_is_back()


@virtual_time
@pytest.mark.parametrize(("hang_after", "verdict"), [(2, "failure"), (None, "ignore")])
async def test_when_a_step_hangs_can_be_set(hang_after: Any, verdict: str) -> None:
    house = House()

    async def tool() -> Chunks:
        yield "a"
        await anyio.sleep(1000)

    house.tool(tool, timeout=3, hang_after=hang_after)
    with anyio.move_on_after(2.95):
        await read(house)
    assert house.verdicts() == [verdict]


# Leaving early


class Leaves(Exception):
    """The consumer's own."""


async def leave(house: House, how: str, name: str = "tool", number: int = 1) -> None:
    """
    Take some chunks and leave: in one of these ways.
    """

    async def some(chunks: AsyncIterator[Any]) -> None:
        for _ in range(number):
            await anext(chunks)

    stream = house.orch.stream(name)
    match how:
        case "break":
            async with stream as chunks:
                await some(chunks)
        case "aclose":
            chunks = await stream.__aenter__()
            await some(chunks)
            await chunks.aclose()
        case "raise":
            with pytest.raises(Leaves):
                async with stream as chunks:
                    await some(chunks)
                    raise Leaves
        case "cancel":
            with anyio.CancelScope() as scope:
                async with stream as chunks:
                    await some(chunks)
                    scope.cancel()
                    await checkpoint()
            assert scope.cancelled_caught
        case "throw away":
            coro: Any = _waits(stream, some)
            coro.send(None)
            coro.close()
    if how in ("cancel", "throw away"):
        assert (stream.result is None) == (how == "cancel")
    else:
        assert stream.result is not None
        assert stream.result.error is None


async def _waits(stream: Any, some: Callable[[Any], Any]) -> None:
    async with stream as chunks:
        await some(chunks)
        await anyio.sleep_forever()


WAYS = ["break", "aclose", "raise", "cancel", "throw away"]
each_way = pytest.mark.parametrize("how", WAYS)


def closes(house: House, *chunks: Any, waits: int = 0) -> Callable[[], Chunks]:
    async def tool() -> Chunks:
        try:
            for chunk in chunks:
                yield chunk
        finally:
            for _ in range(waits):
                await checkpoint()
            house.notes.append("closed")

    return tool


@each_way
async def test_who_leaves_says_nothing_of_the_tool(how: str) -> None:
    house = House()
    house.tool(closes(house, "a", "b", "c"))
    await leave(house, how, number=2)
    assert house.notes == ["closed"]
    assert house.verdicts() == ["ignore"]
    stats = house.orch.stats("tool")
    assert (stats.cancelled, stats.ignored) == ((1, 0) if how == "cancel" else (0, 1))
    assert house.orch.circuit("tool").failures == 0
    house.assert_all_is_back()


@each_way
async def test_who_leaves_has_seen_that_a_probed_tool_is_well(how: str) -> None:
    clock = HandClock()
    house = House(clock)
    house.tool(closes(house, "a", "b"))
    house.orch.circuit("tool").trip()
    clock.turn(RESET)
    await leave(house, how)
    assert house.verdicts() == ["success"]
    assert house.orch.circuit("tool").state is CircuitState.CLOSED
    house.assert_all_is_back()


@each_way
@pytest.mark.parametrize("probes", [False, True])
async def test_who_leaves_may_have_seen_an_error(how: str, probes: bool) -> None:
    clock = HandClock()
    house = House(clock)
    house.tool(yields(BUSY, "b", "c"))
    if how == "throw away":
        house.tool(closes(house, BUSY, "b", "c"), "tool2")
    name = "tool2" if how == "throw away" else "tool"
    if probes:
        house.orch.circuit(name).trip()
        clock.turn(RESET)
    await leave(house, how, name, number=2)
    assert house.verdicts() == ["failure"]
    assert (house.orch.circuit(name).state is CircuitState.OPEN) == probes
    assert_adds_up(house.orch)


@virtual_time
async def test_a_probe_that_is_given_up_in_a_step_has_answered_before() -> None:
    house = House()

    async def tool() -> Chunks:
        yield "a"
        await anyio.sleep(1000)

    house.tool(tool)
    await house.probe_next()
    with anyio.move_on_after(1):
        await read(house)
    assert house.verdicts() == ["success"]
    assert house.orch.circuit("tool").state is CircuitState.CLOSED


@virtual_time
async def test_a_probe_that_is_given_up_before_its_first_chunk_says_nothing() -> None:
    house = House()

    async def tool() -> Chunks:
        await anyio.sleep(1000)
        yield "a"

    house.tool(tool)
    for answer in (read(house), house.orch.dispatch("tool")):
        house.events.clear()
        await house.probe_next()
        with anyio.move_on_after(1):
            await answer
        assert house.verdicts() == ["ignore"]
    assert house.orch.circuit("tool").state is CircuitState.HALF_OPEN


@virtual_time
async def test_a_dispatch_that_is_given_up_says_nothing_however_far_it_came() -> None:
    house = House()

    async def tool() -> Chunks:
        yield "a"
        await anyio.sleep(1000)

    house.tool(tool)
    await house.probe_next()
    with anyio.move_on_after(1):
        await house.orch.dispatch("tool")
    assert house.verdicts() == ["ignore"]


@pytest.mark.parametrize("how", ["break", "aclose", "raise"])
async def test_a_tool_cleans_up_in_its_consumers_task(how: str) -> None:
    house = House()

    async def tool() -> Chunks:
        try:
            while True:
                yield "a"
        finally:
            await when_blocked()
            house.notes.append(anyio.get_current_task().id)

    house.tool(tool)
    await leave(house, how)
    assert house.notes == [anyio.get_current_task().id]


@virtual_time
@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({"timeout": 5}, 5),
        ({"timeout": 5, "chunk_timeout": 7}, 7),
        ({"total_timeout": 20}, 20),
        ({"timeout": 5, "total_timeout": 20}, 5),
        ({"first_chunk_timeout": 5}, 5),
        ({}, None),
    ],
)
@pytest.mark.parametrize("consumer", [0, 100])
async def test_a_clean_up_has_the_time_of_a_step(
    options: Any,
    seconds: float | None,
    consumer: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House()

    async def tool() -> Chunks:
        try:
            yield "a"
        finally:
            await anyio.sleep(4.5)
            house.notes.append("some")
            await anyio.sleep(1000)
            house.notes.append("all")

    house.tool(tool, **options)
    for _ in range(2):
        async with house.orch.stream("tool"):
            await anyio.sleep(consumer)
            began = anyio.current_time()
    took = 1004.5 if seconds is None else seconds
    assert anyio.current_time() == pytest.approx(began + took)
    assert house.notes == (["some", "all"] * 2 if seconds is None else ["some"] * 2)
    assert house.verdicts() == ["ignore"] * 2
    assert house.orch.stats("tool").timeouts == 0
    logged = [each for each in caplog.records if UNCLOSED in each.getMessage()]
    assert len(logged) == (seconds is not None)
    if logged:
        assert f"did not finish within its {seconds} s" in caplog.text
    house.assert_all_is_back()


@pytest.mark.parametrize("error", [ValueError("oh"), SystemExit(1), "group", "broken"])
@each_way
async def test_what_a_clean_up_raises_is_logged_once(
    how: str, error: Any, caplog: pytest.LogCaptureFixture
) -> None:
    house = House()

    async def tool() -> Chunks:
        try:
            yield "a"
        finally:
            if error == "group":
                raise BaseExceptionGroup("both", [SystemExit(1), ValueError("oh")])
            if error == "broken":
                raise CannotBeSplit("no", [ValueError("oh")])
            raise error

    house.tool(tool)
    for _ in range(2):
        await leave(house, how)
    assert house.verdicts() == ["ignore"] * 2
    logged = [each for each in caplog.records if UNCLOSED in each.getMessage()]
    assert [each.levelno >= logging.WARNING for each in logged] == [True]
    house.assert_all_is_back()


@each_way
async def test_an_interrupt_in_a_clean_up_goes_up(how: str) -> None:
    house = House()

    async def tool() -> Chunks:
        try:
            yield "a"
        finally:
            raise KeyboardInterrupt

    house.tool(tool)
    with pytest.raises(KeyboardInterrupt):
        await leave(house, how)
    assert house.verdicts() == ["ignore"]
    house.assert_all_is_back()


@each_way
async def test_an_interrupt_in_a_group_of_the_clean_up_goes_up(how: str) -> None:
    house = House()

    async def tool() -> Chunks:
        try:
            yield "a"
        finally:
            members = [KeyboardInterrupt(), ValueError("oh"), GeneratorExit()]
            raise BaseExceptionGroup("all", members)

    house.tool(tool)
    with pytest.raises(BaseExceptionGroup):
        await leave(house, how)
    assert house.verdicts() == ["ignore"]
    house.assert_all_is_back()


async def test_a_tool_that_yields_when_it_is_closed_has_that_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House()

    async def tool() -> Chunks:
        with suppress(GeneratorExit):
            yield "a"
        yield "b"

    house.tool(tool)
    await leave(house, "break")
    assert UNCLOSED in caplog.text
    assert house.verdicts() == ["ignore"]


async def test_a_consumer_whose_scope_was_cancelled_is_cancelled_when_he_leaves() -> None:
    house = House()
    house.tool(closes(house, "a", waits=3))
    with anyio.CancelScope() as scope:
        async with house.orch.stream("tool") as chunks:
            await anext(chunks)
            scope.cancel()
    assert scope.cancelled_caught
    assert house.verdicts() == ["ignore"]
    house.assert_all_is_back()


@virtual_time
async def test_a_consumer_who_is_cancelled_while_the_tool_cleans_up() -> None:
    house = House()

    async def tool() -> Chunks:
        try:
            yield "a"
        finally:
            try:
                await anyio.sleep(1000)
            finally:
                house.notes.append("closed")

    house.tool(tool, timeout=2000)
    with anyio.move_on_after(5) as scope:
        await leave(house, "break")
        house.notes.append("went on")
    assert scope.cancelled_caught
    assert house.notes == ["closed"]
    assert house.verdicts() == ["ignore"]
    house.assert_all_is_back()


async def test_an_error_of_the_consumer_that_cannot_be_looked_into_goes_up() -> None:
    house = House()
    house.tool(closes(house, "a", "b", waits=1))
    error = CannotBeSplit("no parts", [ValueError("oh"), KeyboardInterrupt()])
    stream = house.orch.stream("tool")
    with pytest.raises(CannotBeSplit) as caught:
        async with stream:
            raise error
    assert caught.value is error
    assert stream.result is not None
    assert house.orch.stats("tool").ignored == 1
    assert house.notes == ["closed"]
    house.assert_all_is_back()


async def test_an_error_of_the_tool_that_cannot_be_looked_into_is_its_failure() -> None:
    house = House()
    house.tool(then_raises(CannotBeSplit("no parts", [ValueError("oh")]), "a"))
    with pytest.raises((CannotBeSplit, OrchestratorError)):
        await read(house)
    assert house.verdicts() == ["failure"]
    house.assert_all_is_back()


# Thrown away


async def test_a_consumer_that_is_thrown_away_in_a_step() -> None:
    house = House()

    async def tool() -> Chunks:
        try:
            yield "a"
            await anyio.sleep_forever()
        finally:
            house.notes.append("closed")

    limited = ToolPolicy(timeout=5, limits=LimitPolicy(max_concurrent=1))
    for policy in (ToolPolicy(), limited):
        house.registry.tool(name="tool", policy=policy, replace=True)(tool)
        for answer in (read(house), house.orch.dispatch("tool"), house.orch.run("tool")):
            coro: Any = answer
            coro.send(None)
            assert house.orch.stats("tool").in_flight == 1
            coro.close()
            house.assert_all_is_back()
    assert house.notes == ["closed"] * 6
    assert set(house.verdicts()) == {"ignore"}


async def test_a_clean_up_that_waits_is_broken_off_where_nobody_can_wait() -> None:
    house = House()

    async def tool() -> Chunks:
        try:
            yield "a"
            yield "b"
        finally:
            house.notes.append("begins")
            try:
                await anyio.sleep_forever()
            finally:
                house.notes.append("ends")

    house.tool(tool, limits=LimitPolicy(max_concurrent=1))
    await leave(house, "throw away")
    assert house.notes == ["begins", "ends"]
    assert house.verdicts() == ["ignore"]
    house.assert_all_is_back()


@types.coroutine
def wait() -> Generator[None, None, None]:
    yield


def test_a_tool_that_waits_again_and_again_is_let_go(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House(HandClock())

    async def tool() -> Chunks:
        yield "a"
        for _ in range(2):
            with suppress(GeneratorExit):
                await wait()
        await wait()  # and here Python ends it, when nobody has it any more

    house.tool(tool)
    coro: Any = read(house)
    coro.send(None)
    coro.close()
    assert house.verdicts() == ["ignore"]
    house.assert_all_is_back()
    assert UNCLOSED in caplog.text


async def test_a_dispatch_that_is_thrown_away_between_two_chunks_closes_its_tool() -> None:
    house = House()
    house.tool(closes(house, *("x" * 1500)))
    coro: Any = house.orch.dispatch("tool")
    coro.send(None)  # up to the turn of the others
    assert house.notes == []
    coro.close()
    assert house.notes == ["closed"]
    assert house.verdicts() == ["ignore"]
    house.assert_all_is_back()


def test_a_consumer_is_thrown_away_when_its_loop_is_gone() -> None:
    house = House(limits=LimitPolicy(max_concurrent=5))

    async def tool() -> Chunks:
        try:
            yield "a"
            await anyio.sleep_forever()
        finally:
            house.notes.append("closed")

    async def begin(*coros: Any) -> None:
        for coro in coros:
            coro.send(None)

    async def waits() -> None:
        async with house.orch.stream("tool"):
            await anyio.sleep_forever()

    async def cleans_up() -> None:
        async with house.orch.stream("slow"):
            pass

    house.tool(tool, timeout=5)
    house.tool(closes(house, "a", waits=3), "slow", timeout=5)
    coros: list[Any] = [waits(), read(house), house.orch.dispatch("tool"), cleans_up()]
    anyio.run(begin, *coros)
    assert sum(house.orch.stats(name).in_flight for name in ("tool", "slow")) == 4
    for coro in coros:
        coro.close()
    assert house.notes == ["closed"] * 3
    assert house.verdicts() == ["ignore"] * 4
    house.assert_all_is_back()


async def test_an_async_generator_that_is_closed_waits_for_the_clean_up() -> None:
    house = House()
    house.tool(closes(house, "a", "b", waits=5))

    async def body() -> Chunks:
        async with house.orch.stream("tool") as chunks:
            async for chunk in chunks:
                yield chunk

    async with aclosing(body()) as parts:
        assert await anext(parts) == "a"
    assert house.notes == ["closed"]
    assert house.verdicts() == ["ignore"]
    house.assert_all_is_back()


async def test_a_coroutine_that_is_closed_in_another_context_ends_there() -> None:
    house = House()

    async def other() -> Chunks:
        yield "a"
        await anyio.sleep_forever()

    async def tool() -> Chunks:
        raise ConnectionError("down")
        yield

    house.tool(other, "other", limits=LimitPolicy(max_concurrent=1))
    house.tool(tool, fallback="other")
    coro: Any = read(house)
    contextvars.copy_context().run(coro.send, None)
    coro.close()
    assert house.verdicts() == ["failure", "ignore"]
    house.assert_all_is_back()


# What it shares with other calls


async def test_a_stream_has_its_place_until_it_ends() -> None:
    for how in (*WAYS, "end", "error"):
        house = House(limits=LimitPolicy(max_concurrent=3))
        limits = LimitPolicy(max_concurrent=1)
        house.tool(closes(house, "a", "b"), limits=limits)
        house.tool(then_raises(ConnectionError("down"), "a"), "fails", limits=limits)
        gates = house.orch._surroundings._gates
        if how == "end":
            async with house.orch.stream("tool") as chunks:
                async for _ in chunks:
                    taken = [gate.limit.taken for gate in gates.values() if gate.limit]
                    assert sum(taken) == 2
        elif how == "error":
            with pytest.raises(ConnectionError):
                await read(house, "fails")
        else:
            await leave(house, how)
        house.assert_all_is_back()


async def test_who_waits_for_a_place_has_it_when_a_stream_ends() -> None:
    house = House()
    house.tool(yields("a", "b"), limits=LimitPolicy(max_concurrent=1, max_queue=1))
    got: list[Any] = []

    async def other() -> None:
        got.extend(await read(house))

    async with anyio.create_task_group() as group:
        async with house.orch.stream("tool") as chunks:
            await anext(chunks)
            group.start_soon(other)
            await when_blocked()
            assert got == []
        await when_blocked()
        assert got == ["a", "b"]
    house.assert_all_is_back()


async def test_a_nested_call_in_any_step_needs_no_second_place() -> None:
    house = House(groups={"g": LimitPolicy(max_concurrent=1, max_wait=0)})

    async def inner() -> str:
        return "inner"

    async def tool() -> Chunks:
        try:
            for _ in range(3):
                yield await house.orch.dispatch("inner")
            yield "left here"
        finally:
            house.notes.append(await house.orch.dispatch("inner"))

    house.tool(inner, "inner", group="g")
    house.tool(tool, group="g")
    async with house.orch.stream("tool") as chunks:
        assert [await anext(chunks) for _ in range(4)] == ["inner"] * 3 + ["left here"]
        # What its consumer calls meanwhile has no part in that.
        assert "limit" in await house.orch.dispatch("inner")
    assert house.notes == ["inner"]
    assert await house.orch.dispatch("tool") == "innerinnerinnerleft here"
    house.assert_all_is_back()


async def test_nested_calls_in_any_step_of_a_probe_are_under_its_permit() -> None:
    clock = HandClock()
    house = House(clock)

    async def inner() -> str:
        return "inner"

    async def inner_stream() -> Chunks:
        yield "in"
        yield "ner"

    async def tool() -> Chunks:
        try:
            yield await house.orch.dispatch("inner")
            yield await house.orch.dispatch("inner")
            async with house.orch.stream("inner_stream") as chunks:
                async for chunk in chunks:
                    yield chunk
            yield "left here"
        finally:
            house.notes.append(await house.orch.dispatch("inner"))

    for name, fn in {"tool": tool, "inner": inner, "inner_stream": inner_stream}.items():
        house.tool(fn, name, circuit="both")
    house.orch.circuit("both").trip()
    clock.turn(RESET)
    async with house.orch.stream("tool") as chunks:
        got = [await anext(chunks) for _ in range(5)]
        assert got == ["inner", "inner", "in", "ner", "left here"]
        # What its consumer calls meanwhile has no part in that.
        assert "circuit" in await house.orch.dispatch("inner")
        assert house.orch.circuit("both").state is CircuitState.HALF_OPEN
    assert house.notes == ["inner"]
    assert house.orch.circuit("both").state is CircuitState.CLOSED
    house.assert_all_is_back()


async def test_a_key_of_a_circuit_is_given_back() -> None:
    house = House()

    async def tool(host: str) -> Chunks:
        yield "a"
        if host == "b":
            raise ConnectionError("down")

    house.tool(
        tool,
        circuit=lambda arguments, context: arguments["host"],
        breaker=BreakerPolicy(failure_threshold=1, max_keys=1),
    )
    for host in "abc":
        with suppress(ConnectionError):
            await read(house, args={"host": host})
    with pytest.raises(CircuitOpenError):
        await read(house, args={"host": "b"})
    for circuit in house.orch._fleet.all_circuits():
        assert circuit.holders == 0
    house.assert_all_is_back()


async def test_a_drain_waits_for_streams() -> None:
    house = House()
    house.tool(yields("a", "b"))

    async def drain() -> None:
        await house.orch.drain()
        house.notes.append("drained")

    async with anyio.create_task_group() as group, house.orch.stream("tool") as chunks:
        await anext(chunks)
        group.start_soon(drain)
        await when_blocked()
        assert house.notes == []
        assert [chunk async for chunk in chunks] == ["b"]
        await when_blocked()
        assert house.notes == ["drained"]


async def test_a_rate_counts_a_stream_once() -> None:
    house = House()
    house.tool(yields("a", "b"), limits=LimitPolicy(calls=2, seconds=1e9))
    await read(house)
    await leave(house, "break")
    with pytest.raises(LimitExceededError):
        await read(house)


async def test_progress_is_told_until_the_stream_ends() -> None:
    house = House()
    contexts: list[ToolContext] = []

    async def tool(context: ToolContext) -> Chunks:
        contexts.append(context)
        context.report_progress(1)
        yield "a"
        context.report_progress(2)
        yield "b"

    house.tool(tool)
    async with house.orch.stream("tool") as chunks:
        await anext(chunks)
        await anext(chunks)
        told = len(house.events)
    contexts[0].report_progress(3)
    assert told == 2
    assert len(house.events) == 3  # and the end


# Cancellation


@virtual_time
async def test_a_scope_cancels_a_step() -> None:
    house = House()

    async def tool() -> Chunks:
        yield "a"
        await anyio.sleep(1000)

    house.tool(tool, timeout=2000)
    stream = house.orch.stream("tool")
    with anyio.move_on_after(5) as scope:
        async with stream as chunks:
            async for _ in chunks:
                pass
    assert scope.cancelled_caught
    assert stream.result is None
    assert house.verdicts() == ["ignore"]
    assert house.orch.stats("tool").cancelled == 1
    house.assert_all_is_back()


SWALLOWERS = ["yields", "yields on", "returns", "raises", "returns an error"]


@asyncio_only
@pytest.mark.parametrize("timeout", [None, 1000])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("how", SWALLOWERS)
async def test_a_request_to_cancel_that_a_tool_swallows_is_not_lost(
    how: str, first: bool, timeout: float | None
) -> None:
    house = House()

    async def tool() -> Chunks:
        try:
            if not first:
                yield "a"
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(10_000)
            if how == "raises":
                raise ConnectionError("down")
            if how == "returns an error":
                yield BUSY
                return
            if how.startswith("yields"):
                yield "b"
            if how == "yields on":
                yield "c"
        finally:
            await checkpoint()
            house.notes.append("closed")

    house.tool(tool, timeout=timeout, limits=LimitPolicy(max_concurrent=1))
    stream = house.orch.stream("tool")

    async def consumer() -> None:
        async with stream as chunks:
            async for chunk in chunks:
                house.notes.append(chunk)

    task = asyncio.create_task(consumer())
    await when_blocked()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert stream.result is None
    assert house.notes == ([] if first else ["a"]) + ["closed"]
    assert house.orch.circuit("tool").failures == 0 or how == "returns an error"
    house.assert_all_is_back()


@asyncio_only
async def test_a_clean_up_may_take_back_the_request_that_was_swallowed() -> None:
    house = House()

    async def tool() -> Chunks:
        yield "a"
        try:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(10_000)
            yield "b"
        finally:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()

    house.tool(tool)
    task = asyncio.create_task(read(house))
    await when_blocked()
    task.cancel()
    assert await task == ["a"]
    assert house.orch.stats("tool").cancelled == 1
    house.assert_all_is_back()


@asyncio_only
@pytest.mark.parametrize("swallows", [False, True])
async def test_a_request_during_a_clean_up_is_not_lost(swallows: bool) -> None:
    house = House()

    async def tool() -> Chunks:
        try:
            yield "a"
        finally:
            try:
                await asyncio.sleep(10_000)
            except asyncio.CancelledError:
                house.notes.append("closed")
                if not swallows:
                    raise

    house.tool(tool)
    task = asyncio.create_task(leave(house, "break"))
    await when_blocked()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert house.notes == ["closed"]
    house.assert_all_is_back()


@asyncio_only
async def test_a_request_to_the_consumer_is_not_lost_in_a_scope_that_ends_the_clean_up() -> (
    None
):
    house, scope = House(), anyio.CancelScope()

    async def tool() -> Chunks:
        try:
            yield "a"
        finally:
            await asyncio.sleep(10_000)

    async def consume() -> None:
        with scope:
            async with house.orch.stream("tool"):
                await asyncio.sleep(10_000)
        house.notes.append("went on")

    house.tool(tool)
    task = asyncio.create_task(consume())
    await when_blocked()
    task.cancel()
    await when_blocked()
    scope.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert house.notes == []
    house.assert_all_is_back()


# Leaving what has told of an error

ERROR = '{"error": "down"}'


@virtual_time
@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.parametrize(
    ("pieces", "verdict"),
    [
        ([ERROR], "failure"),
        (['{"error": ', '"down"}', " "], "failure"),
        (['{"error": ', '"down"'], None),
        (["all is well, ", ERROR], None),
        ([" ", '{"error": null}'], None),
    ],
)
async def test_text_that_tells_of_an_error_does_so_where_it_is_left(
    pieces: list[str], verdict: str | None, probe: bool
) -> None:
    house = House()
    house.tool(yields(*pieces, "and more"))
    if probe:
        await house.probe_next()
    await leave(house, "break", number=len(pieces))
    assert house.verdicts() == [verdict or ("success" if probe else "ignore")]
    closed = house.orch.circuit("tool").state is CircuitState.CLOSED
    assert closed == (verdict is None or not probe)


@virtual_time
@pytest.mark.parametrize("says", [None, True, False, Verdict.IGNORE])
@pytest.mark.parametrize("probe", [False, True])
async def test_the_tools_judge_says_whether_that_was_an_error(
    says: Any, probe: bool
) -> None:
    house = House()
    house.tool(yields({"error": "busy"}, "b"), judge=lambda outcome: says)
    if probe:
        await house.probe_next()
    await leave(house, "break")
    failed = says is True or says is None
    rest = "success" if probe and says is False else "ignore"
    assert house.verdicts() == ["failure" if failed else rest]


async def test_a_judge_is_not_asked_of_a_part() -> None:
    house = House()
    asked: list[Outcome] = []
    house.tool(yields("a", "b"), judge=asked.append)
    await leave(house, "break")
    assert asked == []
    assert await read(house) == ["a", "b"]
    assert [outcome.value for outcome in asked] == ["ab"]


async def test_a_judge_that_is_interrupted_leaves_nothing_behind() -> None:
    house = House()

    def judge(outcome: Outcome) -> None:
        raise KeyboardInterrupt

    house.tool(yields({"error": "busy"}, "b"), judge=judge)
    with pytest.raises(KeyboardInterrupt):
        await leave(house, "break")
    assert house.verdicts() == ["ignore"]
    house.assert_all_is_back()


async def test_observers_have_no_value_of_what_is_taken_in_chunks() -> None:
    house = House()
    house.tool(yields("{", "}"))
    house.tool(yields("a"), "other")
    await read(house)
    await read(house, "other")
    await house.orch.dispatch("tool")
    assert [each.value for each in house.finished()] == [None, None, "{}"]


# Tools with scopes of their own


def grouped(house: House) -> Callable[[], Chunks]:
    """
    A tool that yields while a task group of its own is open, as a client's session is.
    """

    async def tool() -> Chunks:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            for chunk in "abc":
                await checkpoint()
                yield chunk
            group.cancel_scope.cancel()
        house.notes.append("to the end")

    return tool


@pytest.mark.parametrize("how", ["break", "raise", "end"])
async def test_a_tool_may_yield_with_a_task_group_open_where_nothing_is_timed(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    house = House()
    house.tool(grouped(house))
    if how == "end":
        assert await read(house) == ["a", "b", "c"]
        assert house.notes == ["to the end"]
    else:
        await leave(house, how)
    assert UNCLOSED not in caplog.text
    assert await house.orch.dispatch("tool") == "abc"
    await checkpoint()
    house.assert_all_is_back()


@virtual_time
@pytest.mark.parametrize(
    "times",
    [
        {"timeout": 5},
        {"chunk_timeout": 5},
        {"first_chunk_timeout": 5},
        {"total_timeout": 5},
    ],
    ids=lambda times: next(iter(times)),
)
async def test_a_tool_with_a_task_group_open_cannot_be_timed_and_harms_nobody(
    times: dict[str, Any],
) -> None:
    house = House()
    house.tool(grouped(house), **times)
    with anyio.CancelScope() as scope:
        with pytest.raises(RuntimeError, match="tool yields with a cancel scope or a task"):
            await read(house)
        await anyio.sleep(100)
    assert not scope.cancelled_caught
    assert house.verdicts() == ["failure"]
    if "chunk_timeout" not in next(iter(times)):
        assert await house.orch.dispatch("tool") == "abc"
    else:
        assert "task group open" in await house.orch.dispatch("tool")
    with anyio.move_on_after(1) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    house.assert_all_is_back()


async def test_a_group_that_is_closed_may_have_errors_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House()

    async def fail_when_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise OSError("half closed")

    async def tool() -> Chunks:
        async with anyio.create_task_group() as group:
            group.start_soon(fail_when_cancelled)
            await when_blocked()
            yield "a"

    house.tool(tool)
    await leave(house, "break")
    assert UNCLOSED in caplog.text
    house.assert_all_is_back()


async def test_a_runtime_error_of_a_timed_tool_is_its_own() -> None:
    house = House()
    house.tool(then_raises(RuntimeError("no luck"), "a"), chunk_timeout=5)
    with pytest.raises(RuntimeError, match="no luck"):
        await read(house)
    assert house.verdicts() == ["failure"]


@asyncio_only
async def test_a_tool_that_breaks_off_by_itself_is_an_error() -> None:
    house = House()
    house.tool(then_raises(asyncio.CancelledError(), "a"))
    with pytest.raises(ToolCancelledError):
        await read(house)
    assert house.verdicts() == ["failure"]


@asyncio_only
async def test_a_clean_up_that_breaks_off_by_itself_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House()

    async def tool() -> Chunks:
        try:
            yield "a"
        finally:
            raise asyncio.CancelledError

    house.tool(tool)
    await leave(house, "break")
    assert UNCLOSED in caplog.text
    house.assert_all_is_back()


@asyncio_only
async def test_a_task_that_was_cancelled_before_may_still_use_streams() -> None:
    house = House()
    house.tool(yields("a", "b"))

    async def consumer() -> Any:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(10_000)
        return await read(house)

    task = asyncio.create_task(consumer())
    await when_blocked()
    task.cancel()
    assert await task == ["a", "b"]


async def test_a_stream_may_go_from_task_to_task() -> None:
    house = House()
    house.tool(closes(house, *"abcd", waits=1), timeout=50)
    stream = house.orch.stream("tool")
    got: list[Any] = []

    async def one() -> None:
        got.append(await anext(stream))

    async with stream:
        for _ in range(3):
            async with anyio.create_task_group() as group:
                group.start_soon(one)
    assert got == ["a", "b", "c"]
    assert house.notes == ["closed"]
    house.assert_all_is_back()


@virtual_time
async def test_a_tool_that_yields_within_a_scope_of_its_own_loses_nothing() -> None:
    house = House()

    async def tool() -> Chunks:
        with anyio.move_on_after(500):
            yield "a"
            await checkpoint()
            yield "b"

    house.tool(tool)
    assert await house.orch.dispatch("tool") == "ab"
    house.assert_all_is_back()


# Interrupts


@pytest.mark.parametrize("before", [(), ("a",)])
@pytest.mark.parametrize("timeout", [None, 50])
async def test_an_interrupt_goes_up_and_leaves_nothing_behind(
    before: tuple[str, ...], timeout: float | None
) -> None:
    house = House()
    house.tool(
        then_raises(KeyboardInterrupt(), *before),
        timeout=timeout,
        limits=LimitPolicy(max_concurrent=1),
    )
    stream = house.orch.stream("tool")
    with pytest.raises(KeyboardInterrupt):
        async with stream as chunks:
            async for _ in chunks:
                pass
    with pytest.raises(KeyboardInterrupt):
        await house.orch.dispatch("tool")
    assert house.verdicts() == ["ignore"] * 2
    assert stream.result is None
    house.assert_all_is_back()


async def test_an_interrupt_on_the_way_to_the_consumer_loses_nothing() -> None:
    house = House()
    house.tool(closes(house, "instead", "more"), "other")
    house.tool(then_raises(ConnectionError("down")), fallback="other")

    stream = house.orch.stream("tool")
    run = stream._run

    async def interrupted(request: Any) -> Any:
        await run(request)
        raise KeyboardInterrupt

    stream._run = interrupted
    with pytest.raises(KeyboardInterrupt):
        await stream.__aenter__()
    assert house.notes == ["closed"]
    assert stream.result is None
    house.assert_all_is_back()


async def test_an_interrupt_while_a_chunk_is_looked_at_loses_nothing() -> None:
    house = House()

    class Interrupts(dict[str, Any]):
        def get(self, *args: Any) -> Any:
            raise KeyboardInterrupt

    house.tool(closes(house, "a", Interrupts(), waits=1))
    with pytest.raises(KeyboardInterrupt):
        await read(house)
    with pytest.raises(KeyboardInterrupt):
        await house.orch.dispatch("tool")
    assert house.notes == ["closed"] * 2
    house.assert_all_is_back()


# Used wrongly


async def test_a_stream_is_to_be_entered_first() -> None:
    house = House()
    house.tool(yields("a"))
    stream = house.orch.stream("tool")
    with pytest.raises(RuntimeError, match="entered"):
        await anext(stream)
    await stream.aclose()
    assert [chunk async for chunk in _entered(stream)] == ["a"]


async def _entered(stream: Any) -> Chunks:
    async with stream:
        async for chunk in stream:
            yield chunk


async def test_a_stream_is_entered_once() -> None:
    house = House()
    house.tool(yields("a", "b"))
    stream = house.orch.stream("tool")
    async with stream as chunks:
        with pytest.raises(RuntimeError, match="made already"):
            async with stream:
                pass
        assert [chunk async for chunk in chunks] == ["a", "b"]
    with pytest.raises(RuntimeError, match="made already"):
        await stream.__aenter__()
    assert house.orch.stats("tool").calls == 1


@pytest.mark.parametrize("how", ["end", "error", "left"])
async def test_after_the_end_there_is_nothing(how: str) -> None:
    house = House()
    house.tool(
        then_raises(LookupError("x"), "a", "b") if how == "error" else yields("a", "b")
    )
    async with house.orch.stream("tool") as chunks:
        with suppress(LookupError):
            async for _ in chunks:
                if how == "left":
                    await chunks.aclose()
                    await chunks.aclose()
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(chunks)
        await chunks.aclose()
    assert len(house.finished()) == 1
    house.assert_all_is_back()


async def test_a_stream_that_was_left_before_its_first_chunk_was_taken_has_none() -> None:
    house = House()
    house.tool(yields("a", "b"))
    async with house.orch.stream("tool") as chunks:
        await chunks.aclose()
        assert [chunk async for chunk in chunks] == []


@pytest.mark.parametrize("how", ["next", "aclose", "exit", "raise", "cancel"])
@pytest.mark.parametrize("then", ["chunk", "end"])
async def test_two_tasks_at_once_do_no_harm(how: str, then: str) -> None:
    house = House()
    go_on = anyio.Event()

    async def tool() -> Chunks:
        try:
            yield "a"
            await go_on.wait()
            if then == "chunk":
                yield "b"
        finally:
            await checkpoint()
            house.notes.append("closed")

    house.tool(tool)
    stream = house.orch.stream("tool")

    async def reader() -> None:
        async for chunk in stream:
            house.notes.append(chunk)

    async with anyio.create_task_group() as group:
        wrong = RuntimeError if how == "exit" else Leaves
        with anyio.CancelScope() as scope, suppress(wrong):
            async with stream:
                await anext(stream)
                group.start_soon(reader)
                await when_blocked()
                if how == "next":
                    with pytest.raises(RuntimeError, match="another task"):
                        await anext(stream)
                    go_on.set()
                    await when_blocked()
                elif how == "aclose":
                    with pytest.raises(RuntimeError, match="another task"):
                        await stream.aclose()  # which has done nothing
                    go_on.set()
                    await when_blocked()
                elif how == "raise":
                    raise Leaves
                elif how == "cancel":
                    scope.cancel()
                    await checkpoint()
        go_on.set()
    seen = ["b"] if how in ("next", "aclose") and then == "chunk" else []
    assert house.notes == [*seen, "closed"]
    assert len(house.finished()) == 1
    house.assert_all_is_back()


async def test_a_tool_that_calls_for_its_own_stream_is_told_so() -> None:
    house = House()

    async def tool() -> Chunks:
        yield "a"
        with pytest.raises(RuntimeError, match="another task"):
            await anext(stream)
        yield "b"

    house.tool(tool)
    stream = house.orch.stream("tool")
    async with stream:
        assert [chunk async for chunk in stream] == ["a", "b"]


# In a conversation


async def test_a_stream_is_a_call_of_its_conversation() -> None:
    house = House()
    contexts: list[Any] = []

    async def tool(context: ToolContext) -> Chunks:
        contexts.append(dict(context.data))
        yield "a"
        yield {"b": 1}

    house.tool(tool)
    house.tool(yields("x"), "hidden")
    policy = ConversationPolicy(calls=2)
    async with house.orch.conversation(user="ada", tools=["tool"], policy=policy) as chat:
        async with chat.stream("tool", more=1) as chunks:
            assert [chunk async for chunk in chunks] == ["a", {"b": 1}]
            assert chunks.result is not None
            assert not chunks.result.stop
        with pytest.raises(UnknownToolError):
            async with chat.stream("hidden"):
                pass
        with pytest.raises(CallRefusedError):
            for _ in range(10):
                async with chat.stream("tool") as chunks:
                    pass
    assert contexts[0] == {"user": "ada", "more": 1}
    with pytest.raises(CallRefusedError, match="over"):
        async with chat.stream("tool"):
            pass
    house.assert_all_is_back()


async def _same(chat: Any, house: House, name: str, times: int) -> int:
    """
    How often it may be called with the same arguments, up to so many times.
    """
    done = 0
    with suppress(CallRefusedError):
        for _ in range(times):
            async with chat.stream(name) as chunks:
                async for _ in chunks:
                    pass
            done += 1
    return done


async def test_the_same_chunks_again_are_the_same_result() -> None:
    house = House()
    number = iter(range(1000))

    async def new() -> Chunks:
        yield "number "
        yield next(number)

    async def new_value() -> str:
        return f"number {next(number)}"

    async def odd() -> Chunks:
        yield object()

    async def same_value() -> str:
        return "number"

    house.tool(yields("number ", "1"), "same")
    house.tool(new, "new")
    house.tool(same_value, "same_value")
    house.tool(new_value, "new_value")
    house.tool(odd, "odd")
    often = {}
    for name in ("same", "new", "same_value", "new_value", "odd"):
        async with house.orch.conversation() as chat:
            often[name] = await _same(chat, house, name, 40)
    async with house.orch.conversation() as chat:
        plain = 0
        while (await chat.run("same")).error is None and plain < 40:
            plain += 1
    async with house.orch.conversation() as chat:
        changing = 0
        while (await chat.run("new")).error is None and changing < 40:
            changing += 1
    assert often["same"] == often["same_value"] == plain
    assert often["new"] == often["new_value"] == often["odd"] == changing
    assert plain < changing
    house.assert_all_is_back()


async def test_a_stream_that_fails_is_a_call_that_fails() -> None:
    house = House(failure_threshold=1000)
    house.tool(then_raises(ConnectionError("down"), "a"))
    made = []
    for answer in ("stream", "call"):
        count = 0
        async with house.orch.conversation() as chat:
            with suppress(CallRefusedError):
                for count in range(40):  # noqa: B007
                    with suppress(ConnectionError):
                        if answer == "call":
                            await chat.call("tool")
                        else:
                            async with chat.stream("tool") as chunks:
                                async for _ in chunks:
                                    pass
        made.append(count)
    assert made[0] == made[1] < 39


@pytest.mark.parametrize("where", ["first", "step", "body"])
async def test_a_stream_that_was_cancelled_is_a_call_of_its_conversation(
    where: str,
) -> None:
    house = House()
    refused = 0

    async def tool() -> Chunks:
        if where != "first":
            yield "a"
        if where != "body":
            await anyio.sleep_forever()
        yield "b"

    house.tool(tool)
    async with house.orch.conversation(policy=ConversationPolicy(calls=2)) as chat:
        for _ in range(3):
            async with anyio.create_task_group() as group:

                async def consumer() -> None:
                    nonlocal refused
                    try:
                        async with chat.stream("tool") as chunks:
                            await anext(chunks)
                            if where == "body":
                                await anyio.sleep_forever()
                            await anext(chunks)
                    except CallRefusedError:
                        refused += 1

                group.start_soon(consumer)
                await when_blocked()
                group.cancel_scope.cancel()
    assert house.orch.stats("tool").calls == 2
    assert refused == 1
    house.assert_all_is_back()


async def test_a_long_stream_is_known_by_all_of_it() -> None:
    house = House()
    number = iter(range(1000))

    def long(*last: Any) -> Callable[[], Chunks]:
        async def tool() -> Chunks:
            for _ in range(30):
                yield "x" * 100_000
            yield next(number) if last == (None,) else last[0]

        return tool

    house.tool(long("y"), "same")
    house.tool(long(None), "other")
    for name, often in (("same", 3), ("other", 10)):
        async with house.orch.conversation() as chat:
            assert await _same(chat, house, name, 10) == often
