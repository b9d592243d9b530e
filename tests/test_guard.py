"""
Guards: who may refuse a call before it is made, and that what they saw is what runs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import types
from collections import UserDict
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    CallRefusedError,
    CallRejected,
    Event,
    Registry,
    RetryPolicy,
    ToolCall,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
    Verdict,
    exceptions_only,
)
from orchestrator_async._calls import copied

from .clock import real_time, virtual_time
from .rig import on_asyncio, run, turns
from .support import Service, assert_adds_up, fail, trip, when_blocked
from .test_interrupts import CannotBeSplit

each_answer = pytest.mark.parametrize("answer", ["dispatch", "call", "run", "dispatch_all"])
asyncio_only = pytest.mark.parametrize(
    "anyio_backend", ["asyncio", "asyncio+uvloop"], indirect=True
)


class Guard:
    """
    A guard that does what it is told, and remembers what it was asked.
    """

    def __init__(self, behaviour: Callable[[], Any] | None = None) -> None:
        self.behaviour = behaviour
        self.calls: list[ToolCall] = []
        self.contexts: list[ToolContext] = []

    def __call__(self, call: ToolCall, context: ToolContext) -> Any:
        self.calls.append(call)
        self.contexts.append(context)
        return None if self.behaviour is None else self.behaviour()


class Desk:
    """
    An orchestrator with one guarded tool, what it was told and what the tool got.
    """

    def __init__(
        self,
        guard: Callable[..., Any] | None = None,
        *,
        validate: bool = True,
        clock: Callable[[], float] = anyio.current_time,
        **options: Any,
    ) -> None:
        self.guard = guard if isinstance(guard, Guard) else Guard()
        self.registry = Registry()
        self.events: list[Event] = []
        self.got: list[Any] = []
        self.contexts: list[ToolContext] = []
        self.service = Service()

        @self.registry.tool(
            name="tool",
            validate=validate,
            policy=ToolPolicy(guard=guard or self.guard, **options),
        )
        async def tool(context: ToolContext, order: Any = None, number: int = 0) -> Any:
            self.got.append(order)
            self.contexts.append(context)
            return await self.service()

        self.orch = ToolOrchestrator(
            self.registry, clock=clock, observers=[self.events.append]
        )

    def rejected(self) -> list[str]:
        return [each.reason for each in self.events if isinstance(each, CallRejected)]


def says(word: str) -> Callable[[], str]:
    return lambda: word


async def answer_of(orch: ToolOrchestrator, answer: str, args: Any = None) -> Any:
    """
    What comes of a call, as ``run`` has it or as text.
    """
    if answer == "dispatch_all":
        return (await orch.dispatch_all([ToolCall("tool", args)]))[0]
    return await getattr(orch, answer)("tool", args)


async def refused(orch: ToolOrchestrator, answer: str = "run", args: Any = None) -> str:
    """
    Why a call is refused, whichever way it was made.
    """
    if answer == "call":
        with pytest.raises(CallRefusedError) as caught:
            await orch.call("tool", args)
        assert caught.value.tool_name == "tool"
        assert caught.value.reason == str(caught.value)
        return caught.value.reason
    told = await answer_of(orch, answer, args)
    if answer != "dispatch":
        assert isinstance(told.error, CallRefusedError)
        assert (told.ok, told.verdict, told.attempts) == (False, Verdict.IGNORE, 0)
        assert (told.state, told.retry_after) == ("closed", None)
        told = told.content
    said = json.loads(told)
    assert said == {"error": said["error"], "tool_name": "tool", "refused": True}
    why: str = said["error"]
    return why


# What it says


@each_answer
async def test_where_it_says_nothing_the_call_is_made(answer: str) -> None:
    desk = Desk()

    told = await answer_of(desk.orch, answer, {"order": 1})

    assert "fine" in (told, getattr(told, "content", None))
    assert desk.got == [1]
    assert desk.rejected() == []


@pytest.mark.parametrize("is_async", [False, True])
@each_answer
async def test_text_refuses_the_call(answer: str, is_async: bool) -> None:
    async def no() -> str:
        await checkpoint()
        return "not on a Sunday"

    desk = Desk(Guard(no if is_async else says("not on a Sunday")))

    assert await refused(desk.orch, answer) == "not on a Sunday"

    assert desk.service.runs == 0
    assert desk.rejected() == ["guard"]
    stats = desk.orch.stats("tool")
    assert (stats.rejected, stats.calls, stats.invalid) == (1, 0, 0)
    assert (stats.failures, stats.state) == (0, "closed")
    assert_adds_up(desk.orch)


async def test_no_call_finds_a_shorter_way_past_it() -> None:
    registry, service, guard = Registry(), Service(), Guard(says("no"))
    service.offer(registry, policy=ToolPolicy(guard=guard))
    orch = ToolOrchestrator(registry)  # nobody listens, and the tool wants no context

    for _ in range(3):
        assert await refused(orch, "dispatch") == "no"
    assert (service.runs, len(guard.calls)) == (0, 3)
    orch.circuit("tool").isolate()
    assert await refused(orch, "dispatch") == "no"
    orch.reload()
    orch.circuit("tool").unisolate()
    assert [await refused(orch, "dispatch") for _ in range(2)] == ["no", "no"]


async def test_observers_are_told_of_a_refusal() -> None:
    desk = Desk(Guard(says("no")))

    await desk.orch.run("tool", {"number": 7}, call_id="c1", user="ann")

    (event,) = desk.events
    assert isinstance(event, CallRejected)
    assert (event.tool_name, event.call_id, event.reason) == ("tool", "c1", "guard")
    assert (event.arguments, event.context) == ({"number": 7}, {"user": "ann"})
    assert (event.retry_after, event.state) == (None, "closed")


@pytest.mark.parametrize("nothing", ["", " \n", "\x00\x1b[2J"])
async def test_a_refusal_without_words_has_some(nothing: str) -> None:
    # An empty error would be read as none.
    why = await refused(Desk(Guard(says(nothing))).orch)

    assert why == "tool was not run: the call was refused. Do not repeat it."


async def test_what_it_says_is_cleaned() -> None:
    desk = Desk(Guard(says("password=hunter2 \x1b[31m" + "x" * 5000)))

    why = await refused(desk.orch)

    assert "hunter2" not in why
    assert "\x1b" not in why
    assert len(why) <= 2000


async def test_text_of_a_class_of_its_own_is_taken_for_what_it_holds() -> None:
    class Text(str):
        __slots__ = ()

        def __str__(self) -> str:
            raise AssertionError("asked for a copy")

    assert await refused(Desk(Guard(lambda: Text("no"))).orch) == "no"


async def test_a_refused_call_passes_a_checkpoint() -> None:
    orch = Desk(Guard(says("no"))).orch

    steps, ended = await run(lambda: orch.dispatch("tool"))

    assert ended.finished
    assert steps == (await run(checkpoint))[0]


async def test_a_plain_guard_that_agrees_gives_way_to_nobody() -> None:
    desk = Desk()

    async def none() -> None:
        """Nothing."""

    steps, _ = await run(lambda: desk.orch.dispatch("tool"))

    assert steps == (await run(none))[0]


# What it is asked


async def test_it_is_asked_about_the_arguments_as_the_tool_gets_them() -> None:
    desk = Desk()

    await desk.orch.dispatch("tool", '{"number": "3"}', call_id="c1", user="ann")

    (call,) = desk.guard.calls
    assert call == ToolCall("tool", {"order": None, "number": 3}, "c1") or call == ToolCall(
        "tool", {"number": 3}, "c1"
    )
    assert json.loads(json.dumps(call.args))["number"] == 3  # it can be sent to somebody
    (context,) = desk.guard.contexts
    assert (context.tool_name, context.call_id, context.attempt) == ("tool", "c1", 1)
    assert context.data == {"user": "ann"}


async def test_the_tool_has_the_key_that_its_guard_was_told() -> None:
    desk = Desk()

    for _ in range(2):
        await desk.orch.dispatch("tool")

    keys = [each.idempotency_key for each in desk.guard.contexts]
    assert keys == [each.idempotency_key for each in desk.contexts]
    assert len({*keys, ""}) == 3


@virtual_time
async def test_it_is_told_the_callers_deadline() -> None:
    desk = Desk(timeout=5, total_timeout=5)

    await desk.orch.dispatch("tool")
    with anyio.move_on_after(10):
        deadline = anyio.current_effective_deadline()
        await desk.orch.dispatch("tool")

    assert [each.deadline for each in desk.guard.contexts] == [float("inf"), deadline]


async def test_arguments_that_do_not_fit_are_not_asked_about() -> None:
    desk = Desk()

    said = json.loads(await desk.orch.dispatch("tool", {"number": "many"}))

    assert said["invalid_arguments"][0]["argument"] == "number"
    assert desk.guard.calls == []
    assert desk.rejected() == ["invalid_arguments"]


async def test_it_is_asked_before_the_circuit() -> None:
    desk = Desk(clock=lambda: 0.0)
    desk.orch.circuit("tool").isolate()

    said = json.loads(await desk.orch.dispatch("tool"))

    assert said["state"] == "isolated"
    assert len(desk.guard.calls) == 1


async def test_it_is_asked_once_for_all_attempts() -> None:
    guard = Guard()
    registry, service = Registry(), Service(fail)
    again = RetryPolicy(attempts=3, wait_initial=0, wait_jitter=0)
    service.offer(registry, idempotent=True, policy=ToolPolicy(guard=guard, retry=again))
    orch = ToolOrchestrator(registry, policy=BreakerPolicy(failure_threshold=9))

    assert (await orch.run("tool")).attempts == 3

    assert len(guard.calls) == 1


async def test_the_orchestrators_policy_may_have_one_for_all_tools() -> None:
    registry, guard = Registry(), Guard(says("no"))
    Service().offer(registry)
    Service().offer(registry, "free", policy=ToolPolicy(guard=None))
    orch = ToolOrchestrator(registry, policy=ToolPolicy(guard=guard))

    assert json.loads(await orch.dispatch("tool"))["refused"] is True
    assert await orch.dispatch("free") == "fine"


async def test_a_tool_that_cannot_be_used_is_not_asked_about() -> None:
    registry, guard = Registry(), Guard()

    @registry.tool(policy=ToolPolicy(guard=guard))
    async def tool(thing: int, /) -> None: ...

    orch = ToolOrchestrator(registry)

    assert json.loads(await orch.dispatch("tool"))["error_type"] == "OrchestratorError"
    assert guard.calls == []


# What it has agreed to is what runs


@dataclass
class Order:
    amount: int


def shapes() -> list[Any]:
    return [
        {"order": {"lines": [{"amount": 1}]}},
        UserDict(order={"lines": [{"amount": 1}]}),
        MappingProxyType({"order": MappingProxyType({"lines": [{"amount": 1}]})}),
        {"order": {"lines": [{"amount": 1}], "lock": threading.Lock()}},
        {"order": ({"amount": 1}, threading.Lock())},
        {"order": Order(1)},
        {"order": [Order(1), threading.Lock()]},
        bytearray(b'{"order": {"lines": [{"amount": 1}]}}'),
    ]


def amounts(thing: Any) -> Iterator[Any]:
    """
    Whatever holds an amount, at any depth.
    """
    if isinstance(thing, Order):
        yield thing
    elif isinstance(thing, Mapping):
        if "amount" in thing:
            yield thing
        for each in thing.values():
            yield from amounts(each)
    elif isinstance(thing, list | tuple):
        for each in thing:
            yield from amounts(each)


def spoil(thing: Any) -> None:
    if isinstance(thing, bytearray):
        thing[:] = thing.replace(b"1", b"9")
    for each in list(amounts(thing)):
        if isinstance(each, Order):
            each.amount = 999
        else:
            each["amount"] = 999
    if type(thing) is dict or isinstance(thing, UserDict):
        thing["number"] = 999
        thing.pop("order", None)


def assert_unspoilt(got: Any) -> None:
    (found,) = list(amounts(got))
    assert (found.amount if isinstance(found, Order) else found["amount"]) == 1


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("shape", range(len(shapes())))
async def test_nobody_can_change_the_arguments_after_its_word(
    shape: int, validate: bool
) -> None:
    args = shapes()[shape]

    async def guard(call: ToolCall, context: ToolContext) -> None:
        spoil(args)  # what the caller does while somebody is asked
        assert_unspoilt(call.args)
        await checkpoint()
        spoil(call.args)
        context.data["user"] = "root"  # type: ignore[index]

    desk = Desk(guard, validate=validate)

    assert await desk.orch.dispatch("tool", args, user="ann") == "fine"

    assert_unspoilt(desk.got)
    (context,) = desk.contexts
    assert context.data == {"user": "ann"}


async def test_what_a_plain_guard_keeps_is_its_own() -> None:
    desk = Desk()

    async def spoil_what_was_shown() -> str:
        spoil(desk.guard.calls[0].args)
        return "fine"

    desk.service.behaviour = spoil_what_was_shown
    await desk.orch.dispatch("tool", {"order": [{"amount": 1}]})

    assert_unspoilt(desk.got)


async def test_what_is_made_anew_each_time_is_made_once() -> None:
    from pydantic import BaseModel, Field

    numbers = iter(range(100))

    class Job(BaseModel):
        ticket: int = Field(default_factory=lambda: next(numbers))

    registry, guard = Registry(), Guard()
    got: list[int] = []

    @registry.tool(policy=ToolPolicy(guard=guard))
    async def tool(job: Job) -> None:
        got.append(job.ticket)

    orch = ToolOrchestrator(registry)
    await orch.dispatch("tool", {"job": {}})

    assert got == [guard.calls[0].args["job"].ticket]


@pytest.mark.parametrize("nested", [False, True])
async def test_what_cannot_be_copied_has_nothing_made_anew(nested: bool) -> None:
    from pydantic import AfterValidator, BaseModel, Field

    numbers, target = iter(range(100)), ["/tmp/safe"]

    class File:
        def __init__(self, path: str) -> None:
            self.path = target[0] if path == "link" else path
            self.lock = threading.Lock()

    class Lines(BaseModel):
        lines: list[int]

    opened = Annotated[Any, AfterValidator(File)]
    kind: Any = list[opened] if nested else opened
    registry, shown, got = Registry(), [], []

    def guard(call: ToolCall, context: ToolContext) -> None:
        file, lines = call.args["file"], call.args["lines"]
        shown.append(((file[0] if nested else file).path, call.args["token"], lines.lines))
        target[0] = "/etc/passwd"
        lines.lines.append(2)
        call.args["tags"].add("c")

    @registry.tool(policy=ToolPolicy(guard=guard))
    async def tool(
        file: kind,
        lines: Lines,
        tags: set[str],
        token: Annotated[int, Field(default_factory=lambda: next(numbers))],
    ) -> None:
        got.append(((file[0] if nested else file).path, token, lines.lines))
        assert tags == {"a", "b"}

    args = {"file": "link", "lines": {"lines": [1]}, "tags": ["a", "b"]}
    if nested:
        args["file"] = ["link"]
    text = json.dumps(args)
    assert await ToolOrchestrator(registry).dispatch("tool", text) == "null"

    assert shown == [("/tmp/safe", 0, [1, 2])]
    assert got == [("/tmp/safe", 0, [1])]


async def test_a_set_beside_what_cannot_be_copied_is_copied() -> None:
    lock = threading.Lock()

    def guard(call: ToolCall, context: ToolContext) -> None:
        call.args["order"].clear()

    desk = Desk(guard)
    assert await desk.orch.dispatch("tool", {"order": {lock, 1}}) == "fine"

    assert desk.got == [{lock, 1}]


async def test_what_can_be_looked_at_once_is_there_for_both() -> None:
    registry = Registry()
    seen: list[int] = []
    got: list[int] = []

    def guard(call: ToolCall, context: ToolContext) -> None:
        seen.extend(call.args["numbers"])

    @registry.tool(policy=ToolPolicy(guard=guard))
    async def tool(numbers: Iterable[int]) -> None:
        got.extend(numbers)

    orch = ToolOrchestrator(registry)
    assert await orch.dispatch("tool", {"numbers": [1, 2]}) == "null"

    assert got == seen == [1, 2]


async def test_an_attempt_does_not_change_the_arguments_of_the_next() -> None:
    registry = Registry()
    got: list[Any] = []
    again = RetryPolicy(attempts=2, wait_initial=0, wait_jitter=0)

    @registry.tool(
        idempotent=True, validate=False, policy=ToolPolicy(guard=Guard(), retry=again)
    )
    async def tool(order: Any) -> None:
        got.append(order["amount"])
        spoil(order)
        raise ConnectionError

    await ToolOrchestrator(registry).dispatch("tool", {"order": {"amount": 1}})

    assert got == [1, 1]


async def test_arguments_that_are_too_deep_to_be_copied_are_refused() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    desk = Desk(validate=False)

    said = json.loads(await desk.orch.dispatch("tool", {"order": deep}))

    assert said["invalid_arguments"][0]["expected"] == "values that are nested less deep"
    assert desk.service.runs == len(desk.guard.calls) == 0
    while deep:  # taken apart by hand: to drop it in one go can be too deep as well
        (deep,) = deep


async def test_a_mapping_that_cannot_be_read_is_refused() -> None:
    class Unreadable(UserDict[str, Any]):
        def __iter__(self) -> Iterator[Any]:
            raise ValueError("no")

    desk = Desk()

    said = json.loads(await desk.orch.dispatch("tool", Unreadable(order=1)))

    assert said["invalid_arguments"][0]["argument"] == "(all)"
    assert desk.service.runs == len(desk.guard.calls) == 0


async def test_arguments_that_raise_when_they_are_read_are_refused() -> None:
    class Odd(str):
        __slots__ = ()

        def __len__(self) -> int:
            raise ValueError("password=hunter2")

    desk = Desk()

    said = await desk.orch.dispatch("tool", Odd("{}"))

    assert json.loads(said)["error_type"] == "OrchestratorError"
    assert "hunter2" not in said
    assert desk.service.runs == len(desk.guard.calls) == 0


VALUES = st.recursive(
    st.none() | st.integers() | st.text() | st.builds(threading.Lock),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner).map(MappingProxyType)
        | st.builds(bytearray)
    ),
    max_leaves=10,
)


def containers(value: Any) -> Iterator[Any]:
    if isinstance(value, bytearray):
        yield value
    elif isinstance(value, Mapping):
        yield value
        for each in value.values():
            yield from containers(each)
    elif isinstance(value, list | tuple):
        yield value
        for each in value:
            yield from containers(each)


@given(st.dictionaries(st.text(), VALUES))
def test_a_copy_is_equal_and_shares_nothing_that_can_be_changed(args: Any) -> None:
    made = copied(args)

    assert made == args
    mine = {id(each) for each in containers(made) if not isinstance(each, tuple)}
    theirs = {id(each) for each in containers(args) if not isinstance(each, tuple)}
    assert mine.isdisjoint(theirs)


@pytest.mark.parametrize("guarded", [True, False])
async def test_a_tool_that_takes_its_place_meanwhile_is_not_run(guarded: bool) -> None:
    asked: list[Any] = []
    ran: list[Any] = []

    def second(call: ToolCall, context: ToolContext) -> None:
        asked.append(call.args["order"])

    async def first(call: ToolCall, context: ToolContext) -> None:
        async def tool(order: int) -> str:
            ran.append(order)
            return "new"

        policy = ToolPolicy(guard=second) if guarded else None
        desk.registry.tool(name="tool", policy=policy, replace=True)(tool)

    desk = Desk(first)

    said = await desk.orch.dispatch("tool", {"order": "3"})

    assert "was replaced while the call waited" in json.loads(said)["error"]
    assert (asked, ran, desk.got) == ([], [], [])
    assert await desk.orch.dispatch("tool", {"order": "4"}) == "new"
    assert (asked, ran) == ([4] if guarded else [], [4])


async def test_a_tool_that_is_gone_when_it_has_agreed_is_unknown() -> None:
    def remove() -> None:
        desk.registry.remove("tool")

    desk = Desk(Guard(remove))

    assert json.loads(await desk.orch.dispatch("tool"))["unknown_tool"] is True
    assert desk.service.runs == 0


async def test_a_call_that_waits_for_its_word_when_all_ends_is_refused() -> None:
    async def guard(call: ToolCall, context: ToolContext) -> None:
        await desk.orch.drain()  # nothing is running, so it need not be waited for

    desk = Desk(guard)

    assert json.loads(await desk.orch.dispatch("tool"))["draining"] is True
    assert desk.service.runs == 0


async def test_settings_that_change_meanwhile_ask_nobody_anew() -> None:
    desk = Desk(Guard(lambda: desk.orch.reload(timeout=5)))

    assert await desk.orch.dispatch("tool") == "fine"
    assert len(desk.guard.calls) == 1


# How long it takes


@virtual_time
async def test_its_waiting_counts_toward_no_timeout() -> None:
    async def guard(call: ToolCall, context: ToolContext) -> None:
        await anyio.sleep(1000)

    desk = Desk(guard, timeout=5, total_timeout=6)

    async def slow() -> str:
        await anyio.sleep(4)
        return "fine"

    desk.service.behaviour = slow
    result = await desk.orch.run("tool")

    assert (result.content, result.duration) == ("fine", 4)
    assert desk.orch.stats("tool").timeouts == 0
    assert desk.contexts[0].deadline == 1005


@virtual_time
async def test_nothing_is_held_while_it_waits() -> None:
    async def guard(call: ToolCall, context: ToolContext) -> None:
        await anyio.sleep(1000)

    desk = Desk(guard)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.orch.dispatch, "tool")
        await anyio.sleep(500)
        assert desk.orch.stats("tool").calls == 0
        assert desk.orch._fleet.running() == {}
        desk.orch.circuit("tool").isolate()

    assert desk.service.runs == 0  # the circuit is asked when it has agreed
    assert desk.rejected() == ["circuit"]


@virtual_time
async def test_a_probe_is_claimed_after_its_word() -> None:
    async def guard(call: ToolCall, context: ToolContext) -> None:
        await anyio.sleep(10)

    desk = Desk(guard)
    await trip(desk.orch, desk.service)
    await anyio.sleep(300)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.orch.dispatch, "tool")
        await anyio.sleep(5)
        assert desk.orch.circuit("tool").state == "open"
    assert desk.orch.circuit("tool").state == "closed"


# One that does not do as it should


class Interrupted(BaseException):
    """A program's own."""


@dataclass
class Splits(Exception):
    """An exception whose text raises."""

    def __str__(self) -> str:
        raise ValueError("no text")


class Unsplittable(ExceptionGroup[Exception]):
    def split(self, *args: Any) -> Any:
        raise RuntimeError("cannot be split")

    def derive(self, excs: Any) -> Any:
        raise RuntimeError("cannot be derived")


def raised(error: BaseException) -> Callable[[], Any]:
    def behave() -> Any:
        raise error

    return behave


FAULTS: dict[str, Callable[[], Any]] = {
    "raises": raised(ValueError("password=hunter2")),
    "raises what has no text": raised(Splits()),
    "raises a group": raised(ExceptionGroup("two", [ValueError(), KeyError()])),
    "raises a group that cannot be split": raised(Unsplittable("bad", [ValueError()])),
    "raises a group of any that cannot be split": raised(
        CannotBeSplit("bad", [ValueError()])
    ),
    "leaves by sys.exit": raised(SystemExit(3)),
    "raises StopIteration": raised(StopIteration()),
    "raises asyncio's cancellation": raised(asyncio.CancelledError()),
    "returns true": lambda: True,
    "returns false": lambda: False,
    "returns bytes": lambda: b"no",
    "returns a list": list,
    "returns a class": lambda: str,
    "cannot be asked for the time of day": lambda: 1 / 0,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("is_async", [False, True])
async def test_one_that_fails_refuses_and_is_logged_once(
    fault: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def later() -> Any:
        await checkpoint()
        return FAULTS[fault]()

    if is_async and fault == "raises StopIteration":
        return  # Python makes another error of it
    desk = Desk(Guard(later if is_async else FAULTS[fault]), control_flow=(Approval,))

    with caplog.at_level(logging.ERROR, "orchestrator_async"):
        for answer in ("run", "dispatch", "call", "dispatch_all"):
            why = await refused(desk.orch, answer)

    assert "could not be found out" in why
    assert "not your mistake" in why
    assert "hunter2" not in why + caplog.text
    assert len(caplog.records) == 1
    assert "its guard gave no answer" in caplog.text
    assert desk.service.runs == 0
    assert desk.rejected() == ["guard"] * 4
    assert desk.orch.stats("tool").rejected == 4


async def test_what_cannot_even_be_looked_at_refuses() -> None:
    class Lying:
        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise ValueError("not now")

    assert "could not be found out" in await refused(Desk(Guard(Lying)).orch)


async def test_an_interrupt_goes_up() -> None:
    for error in (
        KeyboardInterrupt(),
        Interrupted(),
        BaseExceptionGroup("two", [ValueError(), KeyboardInterrupt()]),
    ):
        desk = Desk(Guard(raised(error)))
        with pytest.raises(type(error)) as caught:
            await desk.orch.dispatch("tool")
        assert caught.value is error
        assert desk.service.runs == 0


class Approval(Exception):
    """How a framework stops a run to ask somebody."""


@each_answer
async def test_control_flow_goes_up_as_it_is(answer: str) -> None:
    for error in (Approval("ask"), ExceptionGroup("two", [Approval(), Approval()])):
        desk = Desk(Guard(raised(error)), control_flow=(Approval,))
        with pytest.raises(type(error)) as caught:
            await answer_of(desk.orch, answer)
        assert caught.value is error
        assert desk.service.runs == 0
        assert desk.rejected() == []


# Cancellation


async def wait_for_ever() -> None:
    await anyio.sleep_forever()


async def swallow() -> None:
    with suppress(anyio.get_cancelled_exc_class()):
        await anyio.sleep_forever()


async def swallow_and_refuse() -> str:
    await swallow()
    return "no"


async def turn_into_an_error() -> None:
    try:
        await anyio.sleep_forever()
    except BaseException:
        raise ValueError("interrupted") from None


async def turn_into_control_flow() -> None:
    try:
        await anyio.sleep_forever()
    except BaseException:
        raise Approval from None


async def raise_another() -> None:
    try:
        await anyio.sleep_forever()
    except BaseException as error:
        raise type(error) from None


async def clean_up() -> None:
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await turns(2)


async def wait_in_a_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(turn_into_an_error)
        await anyio.sleep_forever()


WAITS = [
    wait_for_ever,
    swallow,
    swallow_and_refuse,
    turn_into_an_error,
    turn_into_control_flow,
    clean_up,
    wait_in_a_group,
]


@pytest.mark.parametrize("answer", ["dispatch", "call", "run", "dispatch_all"])
@pytest.mark.parametrize("kind", ["scope", "request", "both"])
@pytest.mark.parametrize("wait", [*WAITS, raise_another], ids=lambda each: each.__name__)
async def test_the_callers_cancellation_is_not_lost(
    wait: Callable[[], Awaitable[Any]], kind: str, answer: str
) -> None:
    if kind != "scope" and not on_asyncio():
        return
    desk = Desk(Guard(wait), control_flow=(Approval,))
    scope = anyio.CancelScope()
    ends: list[str] = []

    async def call() -> None:
        with scope:
            await answer_of(desk.orch, answer)
            ends.append("an answer")

    if on_asyncio():
        task = asyncio.ensure_future(call())
        await when_blocked()
        if kind in ("scope", "both"):
            scope.cancel()
        if kind in ("request", "both"):
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or (scope.cancelled_caught and task.exception() is None)
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await when_blocked()
            scope.cancel()
        assert scope.cancelled_caught
    assert ends == []
    assert len(desk.guard.calls) == 1
    assert desk.service.runs == 0
    assert desk.rejected() == []
    assert_adds_up(desk.orch)


@asyncio_only
async def test_a_cancellation_out_of_thin_air_is_not_taken_for_the_callers() -> None:
    async def swallow_and_break_off() -> None:
        await swallow()
        raise asyncio.CancelledError

    desk = Desk(Guard(swallow_and_break_off))

    async def call() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await desk.orch.dispatch("tool")
        ends.append(scope.cancelled_caught)

    scopes: list[anyio.CancelScope] = []
    ends: list[bool] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await when_blocked()
        scopes[0].cancel()

    assert ends == [True]  # the scope has known it for its own


@virtual_time
@pytest.mark.parametrize("wait", WAITS, ids=lambda each: each.__name__)
async def test_the_callers_deadline_is_not_lost(wait: Callable[[], Awaitable[Any]]) -> None:
    desk = Desk(Guard(wait), control_flow=(Approval,))

    with anyio.move_on_after(5) as scope:
        await desk.orch.dispatch("tool")
        pytest.fail("the call has returned")

    assert scope.cancelled_caught
    assert desk.service.runs == 0


async def test_a_caller_cancelled_before_it_is_asked_gets_no_answer() -> None:
    desk = Desk()

    with anyio.CancelScope() as scope:
        scope.cancel()
        await desk.orch.dispatch("tool")
        pytest.fail("the call has returned")

    assert desk.service.runs == 0


@asyncio_only
@pytest.mark.parametrize(
    "behave", [None, says("no"), lambda: 1 / 0], ids=["agrees", "no", "fails"]
)
async def test_a_request_that_was_not_delivered_yet_goes_before_its_word(
    behave: Any,
) -> None:
    desk = Desk(Guard(behave))

    async def call() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await desk.orch.dispatch("tool")

    task = asyncio.ensure_future(call())
    await asyncio.wait([task])

    assert task.cancelled()
    assert desk.service.runs == 0
    assert desk.rejected() == []


async def test_one_that_ends_cancelled_by_itself_has_failed() -> None:
    async def behave() -> None:
        raise anyio.get_cancelled_exc_class()("thin air") if on_asyncio() else OSError

    assert "could not be found out" in await refused(Desk(Guard(behave)).orch)


async def test_one_whose_own_scope_is_cancelled_goes_on() -> None:
    async def behave() -> str:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await checkpoint()
        return "gave up"

    assert await refused(Desk(Guard(behave)).orch) == "gave up"


@asyncio_only
async def test_a_task_group_of_asyncios_that_fails_cancels_nobody() -> None:
    async def behave() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    desk = Desk(Guard(behave))

    assert "could not be found out" in await refused(desk.orch)

    await checkpoint()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@asyncio_only
async def test_the_cancellation_of_a_task_that_it_awaits_is_its_own_failure() -> None:
    async def behave() -> None:
        task = asyncio.ensure_future(asyncio.sleep(1000))
        task.cancel()
        await task

    assert "could not be found out" in await refused(Desk(Guard(behave)).orch)


async def test_a_coroutine_that_is_closed_while_it_waits_ends_there() -> None:
    desk = Desk(Guard(wait_for_ever))
    coro: Any = desk.orch.dispatch("tool")
    coro.send(None)
    coro.close()

    assert desk.rejected() == []
    assert_adds_up(desk.orch)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_coroutine_that_is_closed_when_the_loop_is_gone_ends_there(backend: str) -> None:
    @types.coroutine
    def wait() -> Generator[None, None, None]:
        yield

    async def guard(call: ToolCall, context: ToolContext) -> None:
        await wait()

    desk = Desk(guard, clock=lambda: 0.0)
    coro: Any = desk.orch.dispatch("tool")

    async def main() -> None:
        coro.send(None)

    anyio.run(main, backend=backend)
    coro.close()

    assert desk.service.runs == 0
    assert desk.rejected() == []


async def test_calls_that_wait_do_not_wait_for_each_other() -> None:
    first = anyio.Event()

    async def guard(call: ToolCall, context: ToolContext) -> None:
        if call.args["number"] == 1:
            await first.wait()
        else:
            first.set()

    desk = Desk(guard)
    calls = [ToolCall("tool", {"number": each}) for each in (1, 2)]

    assert [each.ok for each in await desk.orch.dispatch_all(calls)] == [True, True]


# A guard's word on a call from within a tool


@pytest.mark.parametrize("how", ["dispatch", "call"])
@pytest.mark.parametrize("judge", [None, exceptions_only])
async def test_a_refusal_says_nothing_of_the_tool_that_made_the_call(
    how: str, judge: Any
) -> None:
    desk = Desk(Guard(says("no")))
    policy = ToolPolicy() if judge is None else ToolPolicy(judge=judge)

    @desk.registry.tool(policy=policy)
    async def outer() -> Any:
        return await getattr(desk.orch, how)("tool")

    for _ in range(5):
        result = await desk.orch.run("outer")

    stats = desk.orch.stats("outer")
    assert (stats.total_failures, stats.state) == (0, "closed")
    if judge is None or how == "call":
        assert not result.ok
        assert result.verdict is Verdict.IGNORE


@virtual_time
async def test_the_tool_may_run_in_a_thread_or_have_circuits_by_key() -> None:
    registry, guard = Registry(), Guard()

    @registry.tool(
        circuit=lambda args, context: args["host"], policy=ToolPolicy(guard=guard)
    )
    async def fetch(host: str) -> str:
        return host

    orch = ToolOrchestrator(registry, clock=anyio.current_time)
    orch.circuit("fetch", "bad").isolate()

    assert await orch.dispatch("fetch", {"host": "good"}) == "good"
    assert json.loads(await orch.dispatch("fetch", {"host": "bad"}))["state"] == "isolated"
    assert len(guard.calls) == 2


@real_time
async def test_a_plain_tool_is_guarded_as_well() -> None:
    registry, guard = Registry(), Guard()

    @registry.tool(policy=ToolPolicy(guard=guard))
    def double(number: int) -> int:
        return 2 * number

    orch = ToolOrchestrator(registry)

    assert await orch.dispatch("double", {"number": 2}) == "4"
    guard.behaviour = says("no")
    assert json.loads(await orch.dispatch("double", {"number": 2}))["refused"] is True
    assert orch._fleet.entries["double"].slots.taken == 0  # type: ignore[union-attr]


# Settings


@pytest.mark.parametrize("guard", ["tool", 3, [], object()])
def test_what_cannot_be_a_guard_is_refused_by_name(guard: Any) -> None:
    with pytest.raises(ValueError, match="guard="):
        ToolPolicy(guard=guard)


def test_a_guard_that_cannot_be_compared_can_be_one() -> None:
    class Odd:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            raise TypeError("not to be compared")

        def __call__(self, call: ToolCall, context: ToolContext) -> None: ...

    registry = Registry()
    Service().offer(registry)
    ToolOrchestrator(registry, policy=ToolPolicy(guard=Odd()))


async def test_a_finished_call_is_told_of_as_ever() -> None:
    desk = Desk()
    await desk.orch.dispatch("tool", {"number": 3})
    await when_blocked()
    (event,) = desk.events
    assert isinstance(event, CallFinished)
    assert (event.arguments, event.verdict) == ({"number": 3}, Verdict.SUCCESS)
