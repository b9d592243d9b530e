"""
A turn's parallel calls: each its own answer, in its own place.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import threading
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from orchestrator_async import (
    InvalidArgumentsError,
    Registry,
    ToolCall,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
    Verdict,
)

from .clock import real_time, virtual_time
from .rig import shuffled


class Turn:
    """
    An orchestrator with tools of every kind.
    """

    def __init__(self, **options: Any) -> None:
        self.inside = self.most = 0
        self.open_doors = anyio.Event()
        self.contexts: list[ToolContext] = []
        registry = Registry()
        for tool in (self.echo, self.fail, self.wait, self.meet, self.tell):
            registry.tool(tool)
        self.orch = ToolOrchestrator(registry, **options)

    async def echo(self, text: str) -> str:
        return text

    async def fail(self) -> None:
        raise RuntimeError("no")

    async def wait(self) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.open_doors.wait()
        finally:
            self.inside -= 1
        return "waited"

    async def meet(self) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        for _ in range(5):
            await checkpoint()
        self.inside -= 1
        return "met"

    async def tell(self, context: ToolContext) -> str:
        self.contexts.append(context)
        return "told"


def openai(name: Any, arguments: Any = "{}", call_id: Any = "c1") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def anthropic(name: Any, args: Any, call_id: Any = "t1") -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": args}


def responses(name: Any, arguments: Any, call_id: Any = "r1") -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": "fc_1",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


async def test_each_call_has_its_own_answer_in_its_place() -> None:
    turn = Turn()
    results = await turn.orch.dispatch_all(
        [
            openai("echo", '{"text": "one"}', "c1"),
            {"name": "echo"},
            openai("fail", "{}", "c2"),
            openai("nothing", "{}", "c3"),
            None,
            anthropic("echo", {"text": "two"}, "t1"),
            openai("echo", '{"text": ', "c4"),
            responses("echo", '{"text": "three"}', "r1"),
            ToolCall("echo", {"text": "four"}, "own"),
        ]
    )
    assert [each.call_id for each in results] == [
        "c1",
        None,
        "c2",
        "c3",
        None,
        "t1",
        "c4",
        "r1",
        "own",
    ]
    said = [each.content for each in results]
    assert (said[0], said[5], said[7], said[8]) == ("one", "two", "three", "four")
    for bad in (1, 4, 6):
        assert json.loads(said[bad])["invalid_arguments"]
    assert json.loads(said[2])["error_type"] == "RuntimeError"
    assert json.loads(said[3])["unknown_tool"] is True
    assert [each.ok for each in results] == [
        True, False, False, False, False, True, False, True, True,
    ]  # fmt: skip
    assert turn.orch.stats("fail").failures == 1


class Odd(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("no get")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no iter")

    def __len__(self) -> int:
        raise RuntimeError("no len")


class OddDict(dict[str, Any]):
    def get(self, *args: Any) -> Any:
        raise RuntimeError("no get")


class OddKey:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class OddEqual:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equality")

    __hash__ = object.__hash__


MALFORMED: dict[str, Any] = {
    "none": None,
    "text": "echo",
    "number": 3,
    "list": ["echo", {}],
    "object": object(),
    "class": ToolCall,
    "empty": {},
    "no name": openai(None),
    "number as name": openai(3),
    "list as name": anthropic(["echo"], {}),
    "no function": {"id": "c1", "type": "function", "function": "echo"},
    "unknown type": {"id": "c1", "type": "server_tool_use", "name": "echo"},
    "message": {"role": "assistant", "tool_calls": []},
    "many keys": {str(number): 1 for number in range(50_000)},
    "mapping": Odd(),
    "dict": OddDict(type="tool_use", name="echo", input={"text": "x"}),
    "function": {"function": Odd(), "id": "c1"},
    "key": {OddKey(): 1},
    "equal": {"type": OddEqual()},
}


@pytest.mark.parametrize("entry", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_no_tool_call_has_an_error_in_its_place(entry: Any) -> None:
    turn = Turn()
    good = openai("echo", '{"text": "x"}')
    results = await turn.orch.dispatch_all([good, entry, good])
    assert [each.ok for each in results] == [True, False, True]
    said = json.loads(results[1].content)
    assert said["invalid_arguments"]
    assert "tool call" in said["error"]
    assert len(results[1].content) < 4_000
    assert isinstance(results[1].error, InvalidArgumentsError)
    assert results[1].verdict is Verdict.IGNORE
    assert results[1].attempts == 0
    assert list(turn.orch.get_fleet_stats()) == ["echo"]


async def test_a_tool_call_with_an_odd_name_or_id_has_an_answer() -> None:
    turn = Turn()
    calls: list[Any] = [
        ToolCall(None),  # type: ignore[arg-type]
        ToolCall("x" * 1_000_000),
        ToolCall([]),  # type: ignore[arg-type]
        ToolCall("echo", object()),
        openai("echo", '{"text": "x"}', 7),
        openai("echo", {"text": "x"}, None),
        openai("echo", Odd()),
    ]
    results = await turn.orch.dispatch_all(calls)
    assert [each.ok for each in results] == [False] * 4 + [True] * 2 + [False]
    for each in results[:4]:
        assert json.loads(each.content)["error"]


async def test_the_id_of_what_cannot_be_read_comes_back_where_it_can_be_seen() -> None:
    results = await Turn().orch.dispatch_all([openai(None, "{}", "c9"), {"call_id": "r9"}])
    assert [each.call_id for each in results] == ["c9", "r9"]
    assert results[0].message()["tool_call_id"] == "c9"


async def test_an_id_that_is_a_number_comes_back_as_text() -> None:
    calls = [
        openai("echo", '{"text": "x"}', 7),
        anthropic("echo", {"text": "x"}, 0),
        ToolCall("echo", {"text": "x"}, 8),  # type: ignore[arg-type]
        openai(None, "{}", 9),
        openai("echo", '{"text": "x"}', True),
        ToolCall("echo", {"text": "x"}, 10**5_000),  # type: ignore[arg-type]
    ]
    results = await Turn().orch.dispatch_all(calls)
    assert [each.call_id for each in results] == ["7", "0", "8", "9", None, None]


async def test_no_calls_are_no_results() -> None:
    turn = Turn()
    assert await turn.orch.dispatch_all([]) == []
    assert await turn.orch.dispatch_all(None) == []  # type: ignore[arg-type]
    assert await turn.orch.dispatch_all(iter([])) == []


@pytest.mark.parametrize(
    "calls",
    [openai("echo"), "echo", b"echo", ToolCall("echo")],
    ids=["dict", "str", "bytes", "call"],
)
async def test_one_call_is_no_list_of_calls(calls: Any) -> None:
    with pytest.raises(TypeError, match="list"):
        await Turn().orch.dispatch_all(calls)


def as_object(data: Any) -> Any:
    if isinstance(data, dict):
        return SimpleNamespace(
            **{
                key: each if key == "input" else as_object(each)
                for key, each in data.items()
            }
        )
    return [as_object(each) for each in data] if isinstance(data, list) else data


SAID = {"type": "text", "text": "I shall look."}
MESSAGES = {
    "openai": {
        "role": "assistant",
        "content": None,
        "tool_calls": [openai("echo", '{"text": "a"}'), openai("echo", '{"text": "b"}')],
    },
    "anthropic": {
        "role": "assistant",
        "content": [
            SAID,
            anthropic("echo", {"text": "a"}),
            anthropic("echo", {"text": "b"}),
        ],
    },
    "responses": {
        "output": [
            {"type": "reasoning"},
            {"type": "function_call", "name": "echo", "arguments": '{"text": "a"}'},
            {"type": "function_call", "name": "echo", "arguments": '{"text": "b"}'},
        ]
    },
}


@pytest.mark.parametrize("form", [dict, as_object], ids=["dict", "object"])
@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
async def test_a_message_is_taken_for_the_calls_in_it(message: Any, form: Any) -> None:
    turn = Turn()
    results = await turn.orch.dispatch_all(form(message))
    assert [each.value for each in results] == ["a", "b"]


@pytest.mark.parametrize("form", [dict, as_object], ids=["dict", "object"])
@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "Done."},
        {"role": "assistant", "content": [SAID]},
        {"role": "assistant", "content": None, "tool_calls": None},
        {"role": "assistant", "tool_calls": []},
    ],
)
async def test_a_message_that_only_speaks_has_no_calls(message: Any, form: Any) -> None:
    assert await Turn().orch.dispatch_all(form(message)) == []


class Unreadable:
    @property
    def role(self) -> str:
        raise RuntimeError("there is nothing to be read")


@pytest.mark.parametrize(
    "calls", [3, object(), {}, {"role": "user"}, {"content": "x"}, Unreadable()]
)
async def test_what_has_no_calls_is_refused(calls: Any) -> None:
    with pytest.raises(TypeError, match="message"):
        await Turn().orch.dispatch_all(calls)


# Order


class Ledger:
    """
    Tools that write down when they begin and end.
    """

    def __init__(self) -> None:
        self.registry = Registry()
        self.orch = ToolOrchestrator(self.registry)
        self.lines: list[str] = []

    def tool(self, name: str, **options: Any) -> None:
        async def tool(number: int) -> int:
            self.lines.append(f"{name}{number} begins")
            for _ in range(10 - number):
                await checkpoint()
            self.lines.append(f"{name}{number} ends")
            if number == 2:
                raise ConnectionError("down")
            return number

        self.registry.tool(name=name, **options)(tool)

    async def run(self, *names: str, **options: Any) -> list[ToolResult]:
        calls = [ToolCall(name, {"number": number}) for number, name in enumerate(names)]
        return await self.orch.dispatch_all(calls, **options)


@pytest.mark.parametrize("limit", [1, 2, None])
async def test_calls_that_change_something_on_one_circuit_keep_their_order(
    limit: int | None,
) -> None:
    ledger = Ledger()
    ledger.tool("write", circuit="database", read_only=False)
    ledger.tool("drop", circuit="database", read_only=False)
    names = ["write", "drop", "write", "drop", "write"]
    results = await ledger.run(*names, limit=limit)
    assert ledger.lines == [
        f"{name}{number} {what}"
        for number, name in enumerate(names)
        for what in ("begins", "ends")
    ]
    assert [each.ok for each in results] == [True, True, False, True, True]


@pytest.mark.parametrize("read_only", [True, None])
async def test_calls_that_change_nothing_run_side_by_side(read_only: bool | None) -> None:
    ledger = Ledger()
    ledger.tool("write", circuit="database", read_only=False)
    ledger.tool("read", circuit="database", read_only=read_only)
    ledger.tool("other", read_only=False)
    await ledger.run("write", "read", "other", "read", {"odd": 1})  # type: ignore[arg-type]
    assert sorted(ledger.lines[:4]) == [
        "other2 begins",
        "read1 begins",
        "read3 begins",
        "write0 begins",
    ]


async def test_who_waits_for_the_one_before_takes_no_place() -> None:
    ledger = Ledger()
    ledger.tool("write", circuit="database", read_only=False)
    ledger.tool("read")
    await ledger.run(*["write"] * 9, "read", "read", limit=2)
    assert ledger.lines[:3] == ["write0 begins", "read9 begins", "read9 ends"]
    writes = [line for line in ledger.lines if line.startswith("write")]
    assert writes == [f"write{n} {what}" for n in range(9) for what in ("begins", "ends")]


@virtual_time
@pytest.mark.parametrize("limit", [1, 2, 3, None])
@pytest.mark.parametrize("seed", range(4))
async def test_the_first_call_that_waits_for_no_other_begins_when_there_is_a_place(
    seed: int, limit: int | None
) -> None:
    chance = random.Random(seed)
    names = chance.choices(["read", "write", "drop", "send"], k=20)
    seconds = [chance.random() for _ in names]
    line = {"write": "database", "drop": "database", "send": "mail"}
    begun: dict[int, float] = {}
    registry = Registry()

    async def work(number: int) -> None:
        begun[number] = anyio.current_time() - start
        await anyio.sleep(seconds[number])

    for name in set(names):
        circuit, writes = line.get(name), name in line
        registry.tool(name=name, circuit=circuit, read_only=not writes)(work)
    calls = [ToolCall(name, {"number": number}) for number, name in enumerate(names)]
    start = anyio.current_time()
    with shuffled(seed):
        await ToolOrchestrator(registry).dispatch_all(calls, limit=limit)

    expected: dict[int, float] = {}
    running: dict[int, float] = {}
    waiting, now = list(range(len(names))), 0.0
    while waiting:
        for number in list(waiting):
            before = [*running, *(each for each in waiting if each < number)]
            lines = {line[names[each]] for each in before if names[each] in line}
            free = limit is None or len(running) < limit
            if free and line.get(names[number]) not in lines:
                waiting.remove(number)
                expected[number], running[number] = now, now + seconds[number]
        first = min(running, key=running.__getitem__)
        now = running.pop(first)
    assert begun == pytest.approx(expected)
    assert list(begun) == sorted(begun, key=lambda number: (begun[number], number))


async def test_a_tool_that_is_replaced_or_gone_keeps_no_order() -> None:
    ledger = Ledger()
    ledger.tool("write", read_only=False)
    assert ledger.registry.has_writers
    ledger.tool("write", replace=True)
    assert not ledger.registry.has_writers
    ledger.tool("drop", read_only=False)
    ledger.registry.remove("drop")
    assert not ledger.registry.has_writers
    await ledger.run("write", "write")
    assert sorted(ledger.lines[:2]) == ["write0 begins", "write1 begins"]


async def test_who_waits_for_one_that_is_cancelled_has_its_turn() -> None:
    ledger = Ledger()

    @ledger.registry.tool(circuit="database", read_only=False)
    async def broken(number: int) -> None:
        raise asyncio.CancelledError

    ledger.tool("write", circuit="database", read_only=False)
    results = await ledger.run("broken", "write", "broken")
    assert [each.ok for each in results] == [False, True, False]
    assert ledger.lines == ["write1 begins", "write1 ends"]


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "3", float("nan")])
async def test_a_limit_that_cannot_be_is_refused(limit: Any) -> None:
    turn = Turn()
    for calls in ([], [ToolCall("echo", {"text": "x"})]):
        with pytest.raises(ValueError, match="limit"):
            await turn.orch.dispatch_all(calls, limit=limit)
    assert turn.orch.get_fleet_stats() == {}


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 16), ({"limit": 1}, 1), ({"limit": 5}, 5), ({"limit": None}, 100)],
)
async def test_no_more_calls_run_at_one_time_than_the_limit(
    options: Any, most: int
) -> None:
    turn = Turn()
    results = await turn.orch.dispatch_all([ToolCall("meet")] * 100, **options)
    assert [each.content for each in results] == ["met"] * 100
    assert turn.most == most


async def test_calls_run_side_by_side_and_results_keep_the_order() -> None:
    registry = Registry()
    events = [anyio.Event() for _ in range(10)]
    order: list[int] = []

    @registry.tool
    async def step(number: int) -> int:
        # Each waits for the one that was asked for after it.
        if number < 9:
            await events[number + 1].wait()
        order.append(number)
        events[number].set()
        return number

    calls = [ToolCall("step", {"number": number}) for number in range(10)]
    results = await ToolOrchestrator(registry).dispatch_all(calls)
    assert [each.value for each in results] == list(range(10))
    assert order == list(range(9, -1, -1))


async def test_a_failing_tool_cancels_none_of_its_siblings() -> None:
    turn = Turn()
    results: list[ToolResult] = []

    async def ask() -> None:
        results.extend(
            await turn.orch.dispatch_all(
                [ToolCall("fail"), ToolCall("wait"), ToolCall("fail"), ToolCall("wait")]
            )
        )

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        while turn.inside < 2 or turn.orch.stats("fail").total_failures < 2:
            await checkpoint()
        turn.open_doors.set()
    assert [each.ok for each in results] == [False, True, False, True]


async def test_a_turn_that_is_cancelled_gives_everything_back() -> None:
    turn = Turn()
    calls = [ToolCall("wait")] * 30 + [None] + [ToolCall("fail")]
    async with anyio.create_task_group() as group:
        group.start_soon(turn.orch.dispatch_all, calls)
        while turn.inside < 16:
            await checkpoint()
        assert turn.orch.stats("wait").in_flight == 16
        group.cancel_scope.cancel()
    assert turn.inside == 0
    stats = turn.orch.stats("wait")
    assert (stats.in_flight, stats.cancelled, stats.total_failures) == (0, 16, 0)
    assert (stats.calls, stats.state) == (16, "closed")

    turn.open_doors.set()
    results = await turn.orch.dispatch_all([ToolCall("wait")] * 30)
    assert all(each.ok for each in results)


async def test_a_probe_in_a_turn_that_is_cancelled_frees_its_place() -> None:
    registry = Registry()
    now = 0.0
    ill = True
    begun, never = anyio.Event(), anyio.Event()

    @registry.tool
    async def tool() -> str:
        if ill:
            raise RuntimeError("no")
        begun.set()
        await never.wait()
        return "up"

    orch = ToolOrchestrator(
        registry, failure_threshold=1, reset_timeout=10, clock=lambda: now
    )
    await orch.dispatch("tool")
    ill, now = False, 11.0
    async with anyio.create_task_group() as group:
        group.start_soon(orch.dispatch_all, [ToolCall("tool")] * 3)
        await begun.wait()
        assert orch.circuit("tool").state == "half_open"
        for _ in range(5):
            await checkpoint()
        assert orch.stats("tool").rejected == 2
        group.cancel_scope.cancel()
    assert orch.stats("tool").in_flight == 0
    never.set()
    assert await orch.dispatch("tool") == "up"
    assert orch.circuit("tool").state == "closed"


@virtual_time
async def test_a_turn_past_its_callers_deadline_gives_everything_back() -> None:
    turn = Turn(clock=anyio.current_time)
    with anyio.move_on_after(5) as scope:
        await turn.orch.dispatch_all([ToolCall("wait")] * 3)
    assert scope.cancelled_caught
    stats = turn.orch.stats("wait")
    assert (stats.in_flight, stats.cancelled, stats.failures) == (0, 3, 0)


@real_time
async def test_a_turn_that_is_cancelled_gives_its_threads_back_when_they_end() -> None:
    registry = Registry()
    go_on = threading.Event()
    inside = threading.Semaphore(0)

    @registry.tool(policy=ToolPolicy(max_threads=3))
    def hang() -> str:
        inside.release()
        go_on.wait(30)
        return "done"

    orch = ToolOrchestrator(registry)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(orch.dispatch_all, [ToolCall("hang")] * 3)
            for _ in range(3):
                while not inside.acquire(blocking=False):  # noqa: ASYNC110
                    await anyio.sleep(0.001)
            group.cancel_scope.cancel()
        assert json.loads(await orch.dispatch("hang"))["limit"] == "threads"
    finally:
        go_on.set()
    with anyio.fail_after(10):
        while not all(  # noqa: ASYNC110
            each.ok for each in await orch.dispatch_all([ToolCall("hang")] * 3)
        ):
            await anyio.sleep(0.001)
    assert orch.stats("hang").in_flight == 0


async def test_context_reaches_every_call_with_the_id_of_its_own() -> None:
    turn = Turn()
    calls = [ToolCall("tell", id="a"), openai("tell", "{}", "b")]
    await turn.orch.dispatch_all(calls, user=3)
    assert sorted(str(each.call_id) for each in turn.contexts) == ["a", "b"]
    assert [dict(each.data) for each in turn.contexts] == [{"user": 3}] * 2
    for word in ("timeout", "policy", "circuit"):
        with pytest.raises(TypeError, match=word):
            await turn.orch.dispatch_all(calls, **{word: 3})
    assert len(turn.contexts) == 2


async def test_control_flow_goes_up_when_the_others_are_done() -> None:
    class Approval(Exception):
        pass

    registry = Registry()
    done: list[str] = []

    @registry.tool
    async def other() -> None:
        for _ in range(5):
            await checkpoint()
        done.append("other")

    @registry.tool(policy=ToolPolicy(control_flow=(Approval,)))
    async def ask() -> None:
        raise Approval("please")

    orch = ToolOrchestrator(registry)
    with pytest.raises(Approval):
        await orch.dispatch_all([ToolCall("other"), ToolCall("ask"), ToolCall("other")])
    assert done == ["other", "other"]
    assert orch.stats("ask").failures == 0


async def test_of_two_that_go_up_it_is_the_first_call_and_not_the_first_to_end() -> None:
    class Approval(Exception):
        pass

    registry, second_has_ended = Registry(), anyio.Event()
    policy = ToolPolicy(control_flow=(Approval,))

    @registry.tool(policy=policy)
    async def first() -> None:
        await second_has_ended.wait()
        raise Approval("first")

    @registry.tool(policy=policy)
    async def second() -> None:
        second_has_ended.set()
        raise Approval("second")

    orch = ToolOrchestrator(registry)
    with pytest.raises(Approval, match="first"):
        await orch.dispatch_all([ToolCall("first"), ToolCall("second")])


async def test_an_interrupt_goes_up_before_what_came_out_of_an_earlier_call() -> None:
    class Approval(Exception):
        pass

    registry, first_has_ended = Registry(), anyio.Event()

    @registry.tool(policy=ToolPolicy(control_flow=(Approval,)))
    async def first() -> None:
        first_has_ended.set()
        raise Approval("first")

    @registry.tool
    async def second() -> None:
        await first_has_ended.wait()
        await checkpoint()
        raise KeyboardInterrupt

    orch = ToolOrchestrator(registry)
    with pytest.raises(KeyboardInterrupt):
        await orch.dispatch_all([ToolCall("first"), ToolCall("second")])


async def test_an_interrupt_goes_up_and_takes_the_others_along() -> None:
    class Halt(BaseException):
        pass

    turn = Turn()
    begun = anyio.Event()

    @turn.orch.registry.tool
    async def halt() -> None:
        begun.set()
        raise Halt

    with pytest.raises(Halt):
        await turn.orch.dispatch_all([ToolCall("wait"), ToolCall("halt"), ToolCall("wait")])
    assert begun.is_set()
    stats = turn.orch.get_fleet_stats()
    assert all(each["in_flight"] == 0 for each in stats.values())
    assert all(each["failures"] == 0 for each in stats.values())


async def test_calls_may_come_from_a_generator() -> None:
    turn = Turn()
    calls = (ToolCall("echo", {"text": str(number)}) for number in range(40))
    results = await turn.orch.dispatch_all(calls, limit=3)
    assert [each.content for each in results] == [str(number) for number in range(40)]


# Tasks that asyncio is asked to cancel, one by one

on_asyncio = pytest.mark.parametrize(
    "anyio_backend", ["asyncio", "asyncio+uvloop"], indirect=True
)


def own_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def cancel_again() -> str:
    own_task().cancel()
    try:
        await asyncio.sleep(1000)
    finally:
        own_task().cancel()
    return "no"


async def break_off_and_cancel() -> str:
    try:
        raise asyncio.CancelledError
    except asyncio.CancelledError:
        own_task().cancel()
        raise


@on_asyncio
@pytest.mark.parametrize("tool", [cancel_again, break_off_and_cancel])
async def test_a_tool_that_cancels_its_own_task_twice_harms_no_sibling(tool: Any) -> None:
    turn = Turn()
    ended = anyio.Event()

    @turn.orch.registry.tool
    async def odd() -> Any:
        try:
            return await tool()
        finally:
            ended.set()

    @turn.orch.registry.tool
    async def slow() -> None:
        await ended.wait()
        for _ in range(5):
            await checkpoint()

    calls = [ToolCall(name) for name in ("slow", "odd", "slow")]
    results = await turn.orch.dispatch_all(calls)
    assert [result.ok for result in results] == [True, False, True]
    assert results[1].name == "odd"
    assert results[1].attempts == 1
    assert "was not run" not in results[1].content


@on_asyncio
@pytest.mark.parametrize("limit", [None, 1, 2])
@pytest.mark.parametrize("in_line", [False, True])
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_a_call_whose_task_never_began_has_an_answer_and_keeps_no_place(
    in_line: bool, limit: int | None
) -> None:
    turn = Turn()
    turn.orch.registry.tool(read_only=not in_line, replace=True)(turn.echo)
    before = asyncio.all_tasks()

    async def cancel_what_is_new() -> None:
        for task in asyncio.all_tasks() - before - {own_task()}:
            task.cancel()

    supervisor = asyncio.create_task(cancel_what_is_new())
    calls = [ToolCall("echo", {"text": str(number)}) for number in range(4)]
    with anyio.fail_after(5):
        results = await turn.orch.dispatch_all(calls, limit=limit)
    await supervisor
    assert [result.name for result in results] == ["echo"] * 4
    answers = {result.content for result in results if result.ok}
    broken = [result for result in results if not result.ok]
    assert broken
    assert all(result.attempts == 0 for result in broken)
    assert not any("time" in result.content for result in broken)
    assert len(answers) + len(broken) == 4
    gc.collect()


@on_asyncio
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_a_call_that_had_begun_is_not_said_to_have_never_run() -> None:
    turn = Turn()
    before = asyncio.all_tasks()

    @turn.orch.registry.tool
    async def pay() -> str:
        for task in asyncio.all_tasks() - before - {own_task()}:
            task.cancel()  # none of them has begun
        await anyio.sleep_forever()
        return "paid"

    results = await turn.orch.dispatch_all([ToolCall("pay"), ToolCall("echo")])
    assert [result.attempts for result in results] == [1, 0]
    assert "was not run" not in results[0].content
    assert "was not run" in results[1].content
    assert turn.orch.stats("pay").calls == 1


@on_asyncio
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_what_cannot_be_read_has_its_error_also_where_its_task_never_began() -> None:
    turn = Turn()
    before = asyncio.all_tasks()

    @turn.orch.registry.tool
    async def shut_down() -> str:
        for task in asyncio.all_tasks() - before - {own_task()}:
            task.cancel()
        return "done"

    results = await turn.orch.dispatch_all(
        [ToolCall("shut_down"), {"odd": 1}, ToolCall("echo", {"text": "x"})]
    )
    assert [result.ok for result in results] == [True, False, False]
    assert "cannot be read" in results[1].content
    assert "was not run" in results[2].content
    assert [result.attempts for result in results] == [1, 0, 0]
    gc.collect()
