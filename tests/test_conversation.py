"""
A run of an agent through an orchestrator: what it may call, what it is told, how it ends.

The rules themselves are in ``test_conversation_rules``.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from orchestrator_async import (
    CallRefusedError,
    CallRejected,
    ConversationPolicy,
    Event,
    LimitPolicy,
    Registry,
    RetryPolicy,
    ToolCall,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
    UnknownToolError,
)
from orchestrator_async._chat import Conversation, warned

from .clock import virtual_time
from .support import HandClock, assert_adds_up, when_blocked


class Office:
    """
    Tools of several kinds, and what they were asked.
    """

    def __init__(self, **options: Any) -> None:
        self.registry = Registry()
        self.clock = HandClock()
        self.asked: list[dict[str, Any]] = []
        self.events: list[Event] = []
        self.answers = iter(range(10**6))
        for tool in (self.mail_read, self.mail_send, self.shell):
            self.registry.tool(tool)
        self.registry.tool(polling=True)(self.status)
        self.orch = ToolOrchestrator(
            self.registry,
            failure_threshold=10**6,
            observers=[self.events.append],
            **{"clock": self.clock, **options},
        )

    async def mail_read(self, number: int, context: ToolContext) -> str:
        self.asked.append(dict(context.data))
        return f"mail {number}"

    async def mail_send(self, text: str) -> dict[str, int]:
        self.asked.append({"text": text})
        return {"sent": next(self.answers)}

    async def shell(self, command: str) -> str:
        self.asked.append({"command": command})
        raise OSError("no such command")

    async def status(self) -> str:
        self.asked.append({})
        return "pending"

    def conversation(self, **options: Any) -> Conversation:
        return self.orch.conversation(**options)


def read(content: str) -> dict[str, Any]:
    said = json.loads(content)
    assert isinstance(said, dict)
    return said


async def test_a_conversation_runs_tools_as_its_orchestrator_does() -> None:
    office = Office()
    async with office.conversation(user="ada") as chat:
        assert await chat.dispatch("mail_read", {"number": 1}) == "mail 1"
        result = await chat.run("mail_send", '{"text": "hello"}', call_id="c1")
        assert (result.ok, result.call_id, result.value) == (True, "c1", {"sent": 0})
        assert await chat.call("mail_read", {"number": 2}) == "mail 2"
        with pytest.raises(OSError, match="no such command"):
            await chat.call("shell", {"command": "x"})
        calls = [ToolCall("mail_read", {"number": n}, id=str(n)) for n in (3, 4)]
        results = await chat.dispatch_all([*calls, {"odd": 1}])
        assert [each.call_id for each in results] == ["3", "4", None]
        assert [each.ok for each in results] == [True, True, False]
        assert chat.stop_reason is None
        assert not any(each.stop for each in results)
    assert_adds_up(office.orch)


async def test_its_context_is_in_every_call_and_a_call_may_add_to_it() -> None:
    office = Office()
    async with office.conversation(user="ada", tenant=1) as chat:
        await chat.dispatch("mail_read", {"number": 1})
        await chat.dispatch("mail_read", {"number": 2}, tenant=2, more=3)
        await chat.dispatch_all([ToolCall("mail_read", {"number": 3})], user="bob")
    assert office.asked == [
        {"user": "ada", "tenant": 1},
        {"user": "ada", "tenant": 2, "more": 3},
        {"user": "bob", "tenant": 1},
    ]


async def test_only_its_own_tools_are_offered_run_and_told_of() -> None:
    office = Office()
    async with office.conversation(tools=["mail_*"]) as chat:
        for style in ("anthropic", "mcp"):
            names = [each["name"] for each in chat.offered_tools(style)]
            assert names == ["mail_read", "mail_send"]
        for name in ("shell", "shel", "mail_rea"):
            said = read(await chat.dispatch(name, {"command": "x"}))
            assert said["unknown_tool"] is True
            assert "shell" not in said["did_you_mean"]
        with pytest.raises(UnknownToolError):
            await chat.call("shell", {"command": "x"})
    assert office.asked == []
    assert office.orch.stats("shell").calls == 0
    async with office.conversation(tools=["mail_send", "status"]) as chat:
        names = [each["name"] for each in chat.offered_tools("mcp")]
        assert names == ["mail_send", "status"]
    async with office.conversation(tools=[]) as chat:
        assert chat.offered_tools() == []


async def test_all_tools_are_offered_unless_it_is_asked_for_those_that_are_open() -> None:
    office = Office()
    office.orch.circuit("shell").isolate()
    async with office.conversation(tools=["shell", "status"]) as chat:
        names = [each["name"] for each in chat.offered_tools("mcp")]
        assert names == ["shell", "status"]
        names = [each["name"] for each in chat.offered_tools("mcp", hide_open=True)]
        assert names == ["status"]


@pytest.mark.parametrize("as_they_come", [False, True])
async def test_sixteen_calls_of_a_turn_run_at_one_time(as_they_come: bool) -> None:
    office = Office()
    running = most = 0
    sixteen = anyio.Event()

    @office.registry.tool
    async def tool(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 16:
            sixteen.set()
        with anyio.fail_after(5):
            await sixteen.wait()
        running -= 1

    calls = [ToolCall("tool", {"number": number}) for number in range(20)]
    async with office.conversation() as chat:
        if as_they_come:
            results = [each async for each in chat.as_completed(calls)]
        else:
            results = await chat.dispatch_all(calls)
        assert len(results) == 20
        assert most == 16


async def test_no_alternatives_are_named_that_it_may_not_call() -> None:
    office = Office()
    office.registry.remove("mail_read")
    office.registry.tool(alternatives=["shell", "mail_send"])(office.mail_read)
    office.orch.circuit("mail_read").isolate()
    arguments = {"number": 1}
    said = read(await office.orch.dispatch("mail_read", arguments))
    assert said["alternatives"] == ["shell", "mail_send"]
    async with office.conversation(tools=["mail_*"]) as chat:
        said = read(await chat.dispatch("mail_read", arguments))
        assert said["alternatives"] == ["mail_send"]
        assert "shell" not in said["error"]
    assert "shell" in await office.orch.dispatch("mail_read", arguments)


async def test_no_other_tool_falls_back_on_what_it_may_not_call() -> None:
    office = Office()
    office.registry.remove("shell")
    office.registry.tool(policy=ToolPolicy(fallback="sandbox"))(office.shell)

    @office.registry.tool
    async def sandbox(command: str) -> str:
        return "pending"

    arguments = {"command": "x"}
    assert await office.orch.dispatch("shell", arguments) == "pending"
    async with office.conversation(tools=["shell"]) as chat:
        assert "no such command" in await chat.dispatch("shell", arguments)
    async with office.conversation(tools=["s*"]) as chat:
        assert await chat.dispatch("shell", arguments) == "pending"


async def test_it_warns_then_refuses_then_stops() -> None:
    office = Office()
    policy = ConversationPolicy(same_failures=2, patience=1)
    async with office.conversation(policy=policy) as chat:
        results = [await chat.run("shell", {"command": "x"}) for _ in range(5)]
        said = [read(each.content) for each in results]
        assert "warning" not in said[0]
        assert "2 times in a row" in said[1]["warning"]
        assert said[2]["refused"] is True
        assert said[2]["reason"] == "same_failures"
        assert [each.stop for each in results] == [False, False, False, True, True]
        assert said[4]["stop"] is True
        assert chat.stop_reason == "same_failures"
        refused = await chat.run("mail_read", {"number": 1})
        assert refused.stop
        assert type(refused.error) is CallRefusedError
        with pytest.raises(CallRefusedError):
            await chat.call("mail_read", {"number": 1})
    assert chat.stop_reason == "same_failures"
    assert len(office.asked) == 2
    rejected = [each for each in office.events if isinstance(each, CallRejected)]
    assert {each.reason for each in rejected} == {"conversation"}


async def test_wrong_arguments_and_unusable_tools_are_told_and_counted() -> None:
    office = Office()

    @office.registry.tool
    async def broken(value: Missing) -> str:  # type: ignore[name-defined]  # noqa: F821
        return "never"

    policy = ConversationPolicy(same_failures=2)
    async with office.conversation(policy=policy) as chat:
        for name, arguments in (("mail_read", {"number": "x"}), ("broken", {"value": 1})):
            first, second = [await chat.run(name, arguments) for _ in range(2)]
            assert (first.attempts, second.attempts) == (0, 0)
            assert "warning" not in read(first.content)
            assert "2 times in a row" in read(second.content)["warning"]
    assert office.asked == []


@dataclasses.dataclass
class Page:
    rows: Any


def numbers() -> Iterator[int]:
    return (number for number in range(3))


HOLDERS: dict[str, Callable[[], tuple[Any, Iterator[Any]]]] = {
    "generator": lambda: ((rows := numbers()), rows),
    "dict": lambda: ({"rows": (rows := numbers())}, rows),
    "list": lambda: ([(rows := numbers())], rows),
    "deep": lambda: ([{"a": ({"b": (rows := numbers())},)}], rows),
    "dataclass": lambda: (Page(rows := numbers()), rows),
    "map": lambda: ((rows := map(str, range(3))), rows),
    "iterator": lambda: ([rows := iter(range(3))], rows),
}


@pytest.mark.parametrize("kind", HOLDERS)
async def test_call_and_stream_leave_a_value_as_it_was(kind: str) -> None:
    office = Office()
    made: list[tuple[Any, Iterator[Any]]] = []

    @office.registry.tool
    async def get() -> Any:
        made.append(HOLDERS[kind]())
        return made[-1][0]

    @office.registry.tool
    async def chunks() -> AsyncIterator[Any]:
        for _ in range(2):
            made.append(HOLDERS[kind]())
            yield made[-1][0]

    async with office.conversation() as chat:
        found = [await chat.call("get")]
        for name in ("get", "chunks"):
            async with chat.stream(name) as stream:
                found += [chunk async for chunk in stream]
    assert len(found) == 4
    for value, (given, rows) in zip(found, made, strict=True):
        assert value is given
        assert str(next(rows)) == "0"


async def test_what_cannot_be_known_again_is_never_the_same_result() -> None:
    office = Office()
    policy = ConversationPolicy(same_results=2, patience=0)
    one = object()

    @office.registry.tool
    async def cursor() -> Any:
        return {"cursor": object(), "rows": numbers()}

    @office.registry.tool
    async def the_same() -> object:
        return one

    @office.registry.tool
    async def stream() -> AsyncIterator[Any]:
        yield "a"
        yield one

    async with office.conversation(policy=policy) as chat:
        for name in ("cursor", "the_same", "stream"):
            for _ in range(8):
                await chat.call(name)
                async with chat.stream(name) as chunks:
                    async for _ in chunks:
                        pass
        assert chat.stop_reason is None


@pytest.mark.parametrize(
    "value",
    [None, "text", 3, [1, {"a": (2.5, b"c")}], {"a": {1, 2}}, Page([1, 2])],
    ids=repr,
)
async def test_a_plain_value_is_known_again(value: Any) -> None:
    office = Office()

    @office.registry.tool
    async def get() -> Any:
        return copy.deepcopy(value)

    @office.registry.tool
    async def stream() -> AsyncIterator[Any]:
        yield copy.deepcopy(value)

    async with office.conversation(policy=ConversationPolicy(same_results=3)) as chat:
        await chat.call("get")
        async with chat.stream("get") as chunks:
            assert [chunk async for chunk in chunks] == [value]
        async with chat.stream("get"):
            pass
        with pytest.raises(CallRefusedError, match="the same result 3 times"):
            await chat.call("get")
        for _ in range(3):
            async with chat.stream("stream") as chunks:
                async for _ in chunks:
                    pass
        with pytest.raises(CallRefusedError, match="the same result 3 times"):
            async with chat.stream("stream"):
                pass


async def test_a_text_is_the_same_result_whoever_reads_it() -> None:
    office = Office()
    async with office.conversation(policy=ConversationPolicy(same_results=2)) as chat:
        await chat.dispatch("mail_read", {"number": 1})
        await chat.call("mail_read", {"number": 1})
        assert "the same result 2 times" in await chat.dispatch("mail_read", {"number": 1})


async def test_call_tells_other_results_from_the_same() -> None:
    office = Office()
    policy = ConversationPolicy(same_results=2, patience=1)
    async with office.conversation(policy=policy) as chat:
        for _ in range(9):
            await chat.call("mail_send", {"text": "hello"})
        assert chat.stop_reason is None
        for _ in range(2):
            await chat.call("mail_read", {"number": 1})
        with pytest.raises(CallRefusedError):
            await chat.call("mail_read", {"number": 1})


async def test_large_arguments_that_differ_at_their_end_are_not_the_same_call() -> None:
    office = Office()

    @office.registry.tool(validate=False)
    async def table(rows: Any) -> str:
        raise ValueError(f"row {rows[-1]}")

    async with office.conversation(policy=ConversationPolicy(tool_failures=None)) as chat:
        for n in range(8):
            result = await chat.run("table", {"rows": [0] * 6_000 + [n]})
            assert result.attempts == 1
            assert "warning" not in read(result.content)


async def test_what_cannot_be_read_is_held_to_the_rules() -> None:
    office = Office()
    unread = {"id": "c1", "type": "function", "function": {"name": None}}
    async with office.conversation() as chat:
        made = 0
        while chat.stop_reason is None:
            [result] = await chat.dispatch_all([unread])
            assert (result.ok, result.attempts, result.call_id) == (False, 0, "c1")
            made += 1
            assert made < 50
        assert chat.stop_reason == "unknown"
        results = await chat.dispatch_all([unread, ToolCall("status")])
        assert [each.stop for each in results] == [True, True]
    results = await chat.dispatch_all([unread, ToolCall("status")])
    assert [each.stop for each in results] == [True, True]


async def test_what_was_broken_off_says_stop_too() -> None:
    office = Office()
    policy = ConversationPolicy(calls=1, patience=1)
    async with office.conversation(policy=policy) as chat:
        broken_off = chat._turn({}, None, None)._broken_off
        assert not broken_off(ToolCall("status"), begun=True).stop
        while chat.stop_reason is None:
            await chat.dispatch("status")
        assert broken_off(ToolCall("status"), begun=False).stop


async def test_a_warning_leaves_json_json_and_text_text() -> None:
    office = Office()

    @office.registry.tool
    async def give(kind: str) -> Any:
        return {"list": [1, 2], "empty": {}, "object": {"a": 1}, "text": "plain"}[kind]

    policy = ConversationPolicy(same_results=2)
    async with office.conversation(policy=policy) as chat:
        for kind in ("list", "empty", "object", "text"):
            await chat.run("give", {"kind": kind})
            result = await chat.run("give", {"kind": kind})
            if kind in ("empty", "object"):
                said = read(result.content)
                assert "2 times" in said.pop("warning")
                assert said == result.value
            else:
                assert "2 times" in result.content
                assert result.content.startswith(("[1,2]\n", "plain\n"))


@pytest.mark.parametrize(
    ("content", "is_json"),
    [
        ("{}", True),
        ('{ "a": {} }  ', True),
        ('{"a": {}}', True),
        (' \n{"a": 1}\n', True),
        ('{"b": "{"}', True),
        ("{name} and {other}", False),  # text, which it stays
        ('{"a": 1} {"a": 2}', False),
        (
            '{"warning": "of the tool", "warning_of_run": 1}',
            False,
        ),  # which are not to be lost
        ('{"a": NaN', False),
        ("[1, 2]", False),
        ("", False),
        ('{"a":' * 100_000, False),
        ('{"long": "' + "x" * (50_000 - 12) + '"}', True),
        ('{"long": "' + "x" * (50_001 - 12) + '"}', False),
    ],
)
def test_a_warning_is_a_member_of_what_is_an_object_and_else_a_line(
    content: str, is_json: bool
) -> None:
    said = warned(content, 'do not "repeat" müde')
    assert "müde" in said
    if is_json:
        value = json.loads(said)
        assert value.pop("warning") == 'do not "repeat" müde'
        assert value == json.loads(content)
    else:
        assert said == content + '\n\n[Warning: do not "repeat" müde]'


def test_a_warning_leaves_a_tool_its_own() -> None:
    said = json.loads(warned('{"warning": "of the tool"}', "do not repeat it"))
    assert said == {"warning": "of the tool", "warning_of_run": "do not repeat it"}


class Hostile(str):
    __slots__ = ()

    def __len__(self) -> int:
        raise RuntimeError("no length")

    __getitem__ = startswith = isascii = __len__  # type: ignore[assignment]


async def test_text_of_a_class_of_its_own_is_read_as_what_it_holds() -> None:
    office = Office()
    value = Hostile("text")

    @office.registry.tool
    async def give() -> Any:
        return value

    async with office.conversation(policy=ConversationPolicy(same_results=2)) as chat:
        results = [await chat.run("give") for _ in range(2)]
        assert [type(each.content) for each in results] == [str, str]
        assert results[0].value is value
        assert results[1].content.startswith("text\n\n[Warning: This same call of give")


async def test_a_tool_that_waits_for_something_may_be_asked_again_and_again() -> None:
    office = Office()
    async with office.conversation() as chat:
        said = [await chat.dispatch("status") for _ in range(50)]
    assert set(said) == {"pending"}


async def test_of_the_last_calls_that_are_left_no_more_run_side_by_side() -> None:
    office = Office()
    async with office.conversation(policy=ConversationPolicy(calls=3)) as chat:
        calls = [ToolCall("mail_read", {"number": n}) for n in range(16)]
        results = await chat.dispatch_all(calls, limit=None)
    assert sum(each.attempts for each in results) == 3 == len(office.asked)


async def cancelled(*calls: Callable[[], Awaitable[Any]]) -> None:
    """
    Make the calls side by side, and cancel them when all of them wait.
    """

    async def make(call: Callable[[], Awaitable[Any]]) -> None:
        with suppress(CallRefusedError):
            await call()

    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(make, call)
            await when_blocked()
        tasks.cancel_scope.cancel()


async def hang() -> str:
    await anyio.sleep_forever()
    return "never"


@pytest.mark.parametrize("way", ["run", "call", "dispatch", "dispatch_all"])
async def test_a_call_that_is_cancelled_counts_if_its_tool_had_begun(way: str) -> None:
    office = Office()

    @office.registry.tool
    async def buy(item: str) -> str:
        office.asked.append({"item": item})
        return await hang()

    policy = ConversationPolicy(calls=5, calls_per_tool=3, patience=0)
    async with office.conversation(policy=policy) as chat:
        for n in range(20):
            call: Any = functools.partial(getattr(chat, way), "buy", {"item": str(n)})
            if way == "dispatch_all":
                call = functools.partial(
                    chat.dispatch_all, [ToolCall("buy", {"item": str(n)})]
                )
            await cancelled(call)
        assert chat.stop_reason == "calls_per_tool"
    assert len(office.asked) == 3


async def test_a_call_that_is_cancelled_before_its_tool_leaves_its_place() -> None:
    office = Office()
    limits = LimitPolicy(max_concurrent=1)
    guard: Any = lambda call, context: hang()  # noqa: E731
    office.registry.tool(name="asked", policy=ToolPolicy(guard=guard))(office.status)
    office.registry.tool(name="queued", policy=ToolPolicy(limits=limits))(hang)
    refused = []

    async def one_too_many(chat: Conversation) -> None:
        refused.append((await chat.run("status")).attempts == 0)

    async with anyio.create_task_group() as others:
        others.start_soon(office.orch.run, "queued")
        await when_blocked()
        policy = ConversationPolicy(calls=3, patience=None)
        async with office.conversation(policy=policy) as chat:
            for _ in range(5):
                # While they wait, they have their places.
                ways = ("asked", "queued", "asked")
                waiting = [functools.partial(chat.run, each) for each in ways]
                await cancelled(*waiting, functools.partial(one_too_many, chat))
            assert [(await chat.run("status")).attempts for _ in range(4)] == [1, 1, 1, 0]
        others.cancel_scope.cancel()
    assert refused == [True] * 5
    assert office.orch.stats("queued").calls == 1


@pytest.mark.parametrize("limit", ["calls", "calls_per_tool"])
async def test_no_call_is_told_that_it_was_the_last_while_one_is_left(limit: str) -> None:
    office, done = Office(), anyio.Event()
    said: dict[str, str] = {}

    async def person(call: ToolCall, context: ToolContext) -> None:
        if call.args["item"] == "asks":
            await hang()

    @office.registry.tool(policy=ToolPolicy(guard=person))
    async def buy(item: str) -> str:
        if item == "runs":
            await done.wait()
        return item

    policy = ConversationPolicy(**{limit: 2})
    async with office.conversation(policy=policy) as chat:

        async def make(item: str) -> None:
            said[item] = await chat.dispatch("buy", {"item": item})

        async with anyio.create_task_group() as tasks:
            await cancelled(
                functools.partial(make, "asks"),
                functools.partial(as_task, tasks, make, "runs"),
            )
            done.set()
        await make("last")
    assert said["runs"] == "runs"  # for the one that was first has left its place
    assert said["last"].startswith("last\n\n[Warning: ")


def as_task(tasks: TaskGroup, make: Callable[..., Any], *args: Any) -> Awaitable[None]:
    """
    Have it made by a task that goes on.
    """
    tasks.start_soon(make, *args)
    return checkpoint()


async def test_a_call_counts_once_whatever_of_it_was_cancelled() -> None:
    office = Office()
    retry = RetryPolicy(wait_initial=3600, wait_max=3600)
    full = ToolPolicy(limits=LimitPolicy(max_concurrent=1), fallback="other")
    office.registry.tool(name="other")(hang)
    office.registry.tool(name="again", idempotent=True, policy=ToolPolicy(retry=retry))(
        office.shell
    )
    office.registry.tool(name="falls", policy=full)(office.status)
    office.orch.circuit("falls").isolate()
    calls = ("again", {"command": "x"}), ("falls", None)
    for name, args in calls:
        policy = ConversationPolicy(calls=2)
        async with office.conversation(policy=policy) as chat:
            call = functools.partial(chat.run, name, args)
            await cancelled(call, call)
            assert (await chat.run("status")).attempts == 0
    assert_adds_up(office.orch)


async def end_the_run(chat: Conversation) -> None:
    while chat.stop_reason is None:
        await chat.run("no such tool")


def told_to_stop(result: ToolResult) -> bool:
    """
    Whether it is what a call is told that comes after the end.
    """
    said = read(result.content)
    assert "warning" not in said
    assert said["reason"] == "unknown"
    assert type(result.error) is CallRefusedError
    return result.stop and said["stop"] and result.attempts == 0


@pytest.mark.parametrize("limits", [None, LimitPolicy(max_concurrent=1)])
@pytest.mark.parametrize("way", ["run", "call", "dispatch_all", "stream"])
async def test_what_waits_for_its_guard_when_the_run_ends_is_not_run(
    way: str, limits: LimitPolicy | None
) -> None:
    office, asked, word = Office(), anyio.Event(), anyio.Event()
    refused = []

    async def person(call: ToolCall, context: ToolContext) -> None:
        asked.set()
        await word.wait()

    policy = ToolPolicy(guard=person, limits=limits)
    office.registry.tool(name="guarded", policy=policy)(office.status)
    async with office.conversation() as chat:

        async def make() -> None:
            if way == "dispatch_all":
                refused.extend(await chat.dispatch_all([ToolCall("guarded")]))
                return
            if way == "run":
                refused.append(await chat.run("guarded"))
                return
            with pytest.raises(CallRefusedError, match="This run is ended"):
                if way == "call":
                    await chat.call("guarded")
                async with chat.stream("guarded"):
                    pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(make)
            await asked.wait()
            await end_the_run(chat)
            rules: Any = chat._rules
            calls = rules.calls
            word.set()
        assert rules.calls == calls - 1  # it is no call that the run has had
    assert office.asked == []
    assert all(told_to_stop(each) for each in refused)
    assert isinstance(office.events[-1], CallRejected)
    assert office.events[-1].reason == "conversation"
    assert_adds_up(office.orch)


@virtual_time
async def test_what_waits_in_a_queue_or_for_a_turn_when_the_run_ends_is_not_run() -> None:
    office = Office(clock=anyio.current_time)
    rate = LimitPolicy(calls=1, seconds=10, max_wait=100)
    one = LimitPolicy(max_concurrent=1, max_wait=100)

    async def pay() -> str:
        office.asked.append({})
        await anyio.sleep(5)
        return "paid"

    office.registry.tool(name="queued", policy=ToolPolicy(limits=one))(pay)
    office.registry.tool(name="rated", policy=ToolPolicy(limits=rate))(pay)
    for name in ("queued", "rated"):
        office.asked.clear()
        results: list[ToolResult] = []
        async with office.conversation() as chat:

            async def make(name: str = name, chat: Conversation = chat) -> None:
                results.extend(await chat.dispatch_all([ToolCall(name)] * 4))  # noqa: B023

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(make)
                await anyio.sleep(1)
                await end_the_run(chat)
        assert len(office.asked) == 1
        [paid] = [each for each in results if each.ok]
        assert (paid.content, paid.stop) == ("paid", True)  # what runs, goes on
        assert all(told_to_stop(each) for each in results if each is not paid)
        assert office.orch.stats(name).calls == 1
    assert_adds_up(office.orch)


@virtual_time
async def test_what_waits_for_another_attempt_when_the_run_ends_is_not_tried_again() -> (
    None
):
    office = Office(clock=anyio.current_time)
    retry = RetryPolicy(wait_initial=10, wait_max=10)
    policy = ToolPolicy(retry=retry, fallback="status")
    office.registry.tool(name="again", idempotent=True, policy=policy)(office.shell)
    results = []
    async with office.conversation() as chat:

        async def make() -> None:
            results.append(await chat.run("again", {"command": "x"}))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(make)
            await anyio.sleep(1)
            await end_the_run(chat)
    # What it says is what came of the attempt that was made; nothing falls back either.
    assert "no such command" in results[0].content
    assert (results[0].attempts, results[0].stop) == (1, True)
    assert office.asked == [{"command": "x"}]


async def test_time_is_over_by_the_clock_of_the_orchestrator() -> None:
    office = Office()
    policy = ConversationPolicy(seconds=100, patience=0)
    async with office.conversation(policy=policy) as chat:
        assert (await chat.run("status")).ok
        office.clock.turn(101)
        assert (await chat.run("status")).stop
        assert chat.stop_reason == "seconds"


async def test_a_refusal_by_a_circuit_or_a_guard_counts_as_one() -> None:
    office = Office()
    office.registry.tool(
        name="guarded", policy=ToolPolicy(guard=lambda call, context: "ask first")
    )(office.status)
    office.orch.circuit("status").isolate()
    for name in ("status", "guarded"):
        async with office.conversation() as chat:
            for _ in range(20):
                result = await chat.run(name)
            assert result.stop
            assert chat.stop_reason == "refusals"


@pytest.mark.parametrize("args", ["{}", '{"number": 1}'], ids=["wrong", "refused"])
async def test_what_a_tool_was_refused_is_a_failure_of_the_tool(args: str) -> None:
    office = Office()
    office.orch.circuit("mail_read").isolate()

    @office.registry.tool
    async def passes_on() -> Any:
        await office.orch.call("mail_read", args)

    policy = ConversationPolicy(same_failures=2, refusals=None)
    async with office.conversation(policy=policy) as chat:
        results = [await chat.run("passes_on") for _ in range(3)]
        assert [each.attempts for each in results] == [1, 1, 0]
        assert "failed 2 times in a row" in results[1].content
        assert "failed 2 times in a row" in results[2].content


@pytest.mark.parametrize("refuses", ["guard", "key", "tool"])
async def test_what_only_some_arguments_were_refused_others_may_be_asked(
    refuses: str,
) -> None:
    office = Office()

    @office.registry.tool(
        circuit=(lambda args, context: args["text"]) if refuses == "key" else None,
        policy=ToolPolicy(
            guard=lambda call, context: (
                "ask first" if (refuses, call.args["text"]) == ("guard", "bad") else None
            )
        ),
    )
    async def tool(text: str) -> str:
        return text

    circuit = office.orch.circuit("tool", key="bad" if refuses == "key" else None)
    policy = ConversationPolicy(refusals=1)
    async with office.conversation(policy=policy) as chat:
        if refuses != "guard":
            circuit.isolate()
        assert not (await chat.run("tool", {"text": "bad"})).ok
        if refuses != "guard":
            circuit.unisolate()
        again = await chat.run("tool", {"text": "bad"})
        assert again.content.startswith('{"error": "Not run. ')
        other = await chat.run("tool", {"text": "good"})
        assert other.ok is (refuses != "tool")


async def test_nothing_runs_and_nothing_is_kept_when_it_has_ended() -> None:
    office = Office()
    async with office.conversation(user="ada") as chat:
        await chat.dispatch("status")
    result = await chat.run("status")
    assert (result.stop, result.attempts) == (True, 0)
    assert read(result.content)["reason"] == "over"
    assert (await chat.dispatch_all([ToolCall("status")]))[0].stop
    assert chat.offered_tools() == []
    assert len(office.asked) == 1
    assert chat._rules is None
    await chat.__aexit__(None, None, None)  # to leave it again changes nothing
    assert (await chat.run("status")).stop


@virtual_time
async def test_what_waits_when_its_conversation_is_left_is_not_run() -> None:
    office = Office(clock=anyio.current_time)
    one = LimitPolicy(max_concurrent=1, max_wait=100)

    @office.registry.tool(policy=ToolPolicy(limits=one))
    async def pay() -> str:
        office.asked.append({})
        await anyio.sleep(5)
        return "paid"

    results: list[ToolResult] = []
    async with anyio.create_task_group() as tasks, office.conversation() as chat:

        async def make() -> None:
            results.extend(await chat.dispatch_all([ToolCall("pay")] * 3))

        tasks.start_soon(make)
        await anyio.sleep(1)
    assert [each.ok for each in results] == [True, False, False]
    assert not results[0].stop  # what ran has gone on
    for each in results[1:]:
        assert (each.stop, each.attempts) == (True, 0)
        assert read(each.content)["reason"] == "over"
    assert len(office.asked) == 1
    assert_adds_up(office.orch)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"policy": 3}, "expected a ConversationPolicy"),
        ({"tools": "mail"}, "tools"),
        ({"timeout": 3}, "timeout"),
    ],
)
async def test_what_cannot_be_is_refused_at_once(
    options: dict[str, Any], error: str
) -> None:
    office = Office()
    with pytest.raises((TypeError, ValueError), match=error):
        office.conversation(**options)
    async with office.conversation() as chat:
        with pytest.raises(TypeError, match="list of tool calls"):
            await chat.dispatch_all("status")
        with pytest.raises(ValueError, match="limit"):
            await chat.dispatch_all([], limit=0)


# What has happened to others


async def test_a_tool_that_does_not_exist_is_not_asked_for_754_times() -> None:
    office = Office()
    async with office.conversation() as chat:
        asked = 1
        while not (await chat.run("search_web", {"query": "x"})).stop and asked < 754:
            asked += 1
    assert asked < 20
    assert chat.stop_reason == "unknown"


async def test_the_same_poll_is_not_made_1535_times() -> None:
    office = Office()
    async with office.conversation() as chat:
        asked = 1
        while not (await chat.run("mail_read", {"number": 1})).stop and asked < 1535:
            asked += 1
    assert asked < 20
    assert len(office.asked) == 3


async def test_a_run_does_not_go_on_after_its_tool_was_refused() -> None:
    office = Office()
    office.orch.circuit("shell").isolate()
    async with office.conversation() as chat:
        asked = 1
        while not (await chat.run("shell", {"command": str(asked)})).stop and asked < 1000:
            asked += 1
    assert asked < 20
    assert office.asked == []
