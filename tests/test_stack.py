"""
Calls that nest until Python's stack is full: nothing is lost, and nothing stays wedged.
"""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from orchestrator_async import (
    BreakerPolicy,
    CircuitState,
    Event,
    LimitPolicy,
    Outcome,
    Registry,
    RetryPolicy,
    ToolOrchestrator,
    ToolPolicy,
    _stack,
)
from orchestrator_async._stack import with_room

from .support import assert_adds_up, when_blocked

WAYS = [
    "dispatch",
    "run",
    "call",
    "mixed",
    "stream",
    "keyed",
    "parts",
    "window",
    "observed",
]
DEPTHS = 24


@pytest.fixture(autouse=True)
def no_collection_where_the_stack_is_full() -> Iterator[None]:
    """
    There the destructors of whatever other tests have left could not run, which Python
    would tell of as an error of this one.
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Agents:
    """
    Two tools that ask each other until somebody mends them.
    """

    def __init__(self, way: str) -> None:
        self.way = way
        self.act = "recurse"
        self.events: list[Event] = []
        policy: Any = None
        if way == "parts":
            policy = ToolPolicy(
                guard=lambda call, context: None,
                limits=LimitPolicy(max_concurrent=3),
                retry=RetryPolicy(attempts=1),
                total_timeout=1000,
            )
        breaker = BreakerPolicy(failure_threshold=3)
        if way == "window":
            breaker = BreakerPolicy(failure_threshold=3, window_calls=20, failure_rate=1)
        registry = Registry()
        for name, other in (("one", "two"), ("two", "one")):
            registry.tool(
                name=name,
                policy=policy,
                idempotent=True,
                circuit=(lambda args, context: "key") if way == "keyed" else None,
            )(self.asks(other))
        self.orch = ToolOrchestrator(
            registry,
            policy=ToolPolicy(breaker=breaker),
            observers=[self.events.append] if way == "observed" else [],
        )

    def asks(self, other: str) -> Any:
        way = "run" if self.way in ("keyed", "parts", "observed") else self.way

        async def ask(count: int) -> Any:
            if self.act == "fails":
                raise ConnectionError("down")
            if self.act == "works":
                return "fine"
            args = {"count": count + 1}
            if way == "dispatch" or (way == "mixed" and count % 2):
                return await self.orch.dispatch(other, args)
            if way == "call":
                return await self.orch.call(other, args)
            if way == "stream":
                async with self.orch.stream(other, args) as chunks:
                    return [each async for each in chunks]
            return (await self.orch.run(other, args)).content

        return ask

    async def begin(self, depth: int) -> Any:
        if depth:
            return await self.begin(depth - 1)
        return await self.orch.run("one", {"count": 0})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_calls_that_nest_without_an_end_lose_nothing(backend: str, way: str) -> None:
    limit = sys.getrecursionlimit()

    async def main(depth: int) -> None:
        agents = Agents(way)
        result = await agents.begin(depth)
        assert result.name == "one"
        assert_adds_up(agents.orch)
        assert sys.getrecursionlimit() == limit
        # They are as they were: three failures open a circuit, and no fewer.
        for name in ("one", "two"):
            key = "key" if way == "keyed" else None
            circuit = agents.orch.circuit(name, key)
            circuit.reset()
            agents.act = "works"
            assert (await agents.orch.run(name, {"count": 0})).content == "fine"
            agents.act = "fails"
            for count in range(3):
                assert circuit.state is CircuitState.CLOSED
                result = await agents.orch.run(name, {"count": count})
                assert isinstance(result.error, ConnectionError)
            assert circuit.state is CircuitState.OPEN
        with anyio.fail_after(5):
            await agents.orch.drain(timeout=5)
        assert_adds_up(agents.orch)

    for depth in range(DEPTHS):
        anyio.run(main, depth, backend=backend)


def test_there_is_room_where_the_stack_is_all_but_full() -> None:
    limit = sys.getrecursionlimit()

    def deep(frames: int) -> int:
        return deep(frames - 1) if frames else 0

    def innermost() -> int:
        try:
            return innermost()
        except RecursionError:
            return with_room(deep, 100)

    with pytest.raises(RecursionError):
        deep(limit)
    assert innermost() == 0
    assert with_room(deep, 10) == 0
    assert sys.getrecursionlimit() == limit
    assert not _stack._room.is_raised


@pytest.mark.parametrize("left", [20, 60, 100, 140])
def test_there_is_room_where_some_is_left(left: int) -> None:
    def deep(frames: int) -> int:
        return deep(frames - 1) if frames else 0

    def go_on() -> int:
        try:
            deep(left)
        except RecursionError:
            return with_room(deep, 150)
        return go_on()

    assert go_on() == 0


def test_the_limit_is_as_it_was_when_all_have_given_back() -> None:
    limit, room = sys.getrecursionlimit(), _stack._Room()
    for _ in range(2):
        room.take()
        assert (room.is_raised, sys.getrecursionlimit()) == (True, limit + 200)
    room.lower()
    room.give_back()
    assert (room.is_raised, sys.getrecursionlimit()) == (True, limit + 200)
    room.give_back()
    room.lower()
    assert (room.is_raised, sys.getrecursionlimit()) == (False, limit)


def test_what_could_not_be_lowered_is_so_by_the_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit, room = sys.getrecursionlimit(), _stack._Room()
    monkeypatch.setattr(_stack, "_room", room)
    room.take()
    room._users = 0
    with_room(lambda: None)
    assert (room.is_raised, sys.getrecursionlimit()) == (False, limit)


def test_nothing_is_raised_where_there_is_room() -> None:
    def at(depth: int) -> bool:
        if depth:
            return at(depth - 1)
        return with_room(lambda: _stack._room.is_raised)

    for depth in (0, 250, 500):
        assert not at(depth)


def test_a_closer_look_is_taken_from_a_third_of_the_limit_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[bool] = []

    def has_room() -> bool:
        looks.append(True)
        return True

    def at(depth: int) -> None:
        if depth:
            at(depth - 1)
        else:
            with_room(lambda: None)

    monkeypatch.setattr(_stack, "_has_room", has_room)
    left = sys.getrecursionlimit() // 3 - len(inspect.stack(0))
    at(left - 10)
    assert looks == []
    at(left + 10)
    assert looks == [True]


def test_room_within_room_is_given_back_once() -> None:
    limit = sys.getrecursionlimit()
    seen: list[tuple[bool, int]] = []

    def inner() -> None:
        seen.append((_stack._room.is_raised, _stack._room._users))

    def outer() -> None:
        inner()
        with_room(inner)
        inner()

    def innermost() -> None:
        try:
            innermost()
        except RecursionError:
            with_room(outer)
            raise

    with pytest.raises(RecursionError):
        innermost()
    with_room(inner)
    assert seen[:3] == [(True, 1), (True, 2), (True, 1)]
    assert seen[-1] == (False, 0)
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize("way", ["dispatch", "run"])
async def test_a_short_call_without_any_room_is_counted_all_the_same(
    way: str, others: int, is_closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, end = Registry(), anyio.Event()

    @registry.tool
    async def tool(act: str) -> None:
        if act == "wait":
            await end.wait()
        if act != "return":
            raise ConnectionError("down")

    orch = ToolOrchestrator(registry)
    await orch.dispatch("tool", {"act": "return"})  # those to come take the short path
    land = orch._execution.land

    async def has_no_room(*args: Any, **options: Any) -> Any:
        if is_closed:
            await land(*args, **options)
        raise RecursionError

    async with anyio.create_task_group() as tasks:
        for _ in range(others):
            tasks.start_soon(orch.dispatch, "tool", {"act": "wait"})
            await when_blocked()
        with monkeypatch.context() as patched:
            patched.setattr(orch._execution, "land", has_no_room)
            with pytest.raises(RecursionError):
                await getattr(orch, way)("tool", {"act": "raise"})
        assert_adds_up(orch, in_flight=others)
        end.set()
    assert_adds_up(orch)
    figures = orch.stats("tool")
    assert figures.ignored == (not is_closed)
    assert figures.total_failures == others + is_closed
    assert figures.oldest_in_flight == 0


@pytest.mark.parametrize("way", ["dispatch", "run"])
@pytest.mark.parametrize("judged", [False, True])
async def test_a_value_is_looked_at_where_there_is_room_for_that(
    way: str, judged: bool
) -> None:
    def deep(frames: int) -> int:
        return deep(frames - 1) if frames else 0

    def shown(value: Any) -> str:
        return str(deep(100))

    def judge(outcome: Outcome) -> bool:
        return bool(deep(100))

    async def at(depth: int) -> Any:
        return await (at(depth - 1) if depth else getattr(orch, way)("tool"))

    registry = Registry()

    @registry.tool(render=shown, policy=ToolPolicy(judge=judge) if judged else None)
    async def tool() -> object:
        return object()

    orch = ToolOrchestrator(registry)
    await orch.dispatch("tool")
    for left in range(40, 140, 10):
        told = await at(sys.getrecursionlimit() - len(inspect.stack(0)) - left)
        assert (told if way == "dispatch" else told.content) == "0"
    assert orch.stats("tool").successes == 11
