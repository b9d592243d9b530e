"""
The short paths of ``dispatch``, ``run`` and ``call`` come to what the long one does.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import re
import types
import weakref
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import suppress
from typing import Annotated, Any, cast

import anyio
import pytest
from pydantic import AfterValidator
from trio.lowlevel import current_clock
from trio.testing import MockClock

from orchestrator_async import (
    BreakerPolicy,
    Outcome,
    Registry,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
    Verdict,
    exceptions_only,
    service_errors,
)

from .clock import AutojumpEventLoop, virtual_time
from .rig import on_asyncio
from .support import HandClock, Service, assert_adds_up, bench, fail, succeed, when_blocked

Script = Callable[[ToolOrchestrator, Service, HandClock], Awaitable[list[str]]]

SCRIPTS: dict[str, tuple[Script, dict[str, Any], dict[str, Any]]] = {}


def script(
    figures: dict[str, Any], **options: Any
) -> Callable[[Callable[..., Awaitable[list[str]]]], None]:
    """
    Note what is done with a tool of these options, and what its figures are after that.
    """

    def note(steps: Callable[..., Awaitable[list[str]]]) -> None:
        SCRIPTS[steps.__name__.replace("_", " ")] = (steps, figures, options)

    return note


async def giving(orch: ToolOrchestrator, service: Service, *values: Any) -> list[str]:
    """
    What the model reads of these values, one after another.
    """
    said = []
    for value in values:

        async def give(value: Any = value) -> Any:
            return value

        service.behaviour = give
        said.append(await orch.dispatch("tool"))
    return said


async def taking(
    orch: ToolOrchestrator, service: Service, clock: HandClock, *seconds: float
) -> list[str]:
    """
    Calls that take so long by a clock turned by hand.
    """

    async def take() -> str:
        clock.turn(next(waiting))
        return "fine"

    service.behaviour, waiting = take, iter(seconds)
    return [await orch.dispatch("tool") for _ in seconds]


async def failing(orch: ToolOrchestrator, service: Service, times: int) -> list[str]:
    service.behaviour = fail
    return [await orch.dispatch("tool") for _ in range(times)]


class Overlapping:
    """
    Calls that are begun and ended one by one, in any order.
    """

    def __init__(self, orch: ToolOrchestrator, service: Service, tasks: Any) -> None:
        self._orch, self._tasks = orch, tasks
        self._gates: list[anyio.Event] = []
        self.said: list[str] = []
        service.behaviour = self._wait

    async def _wait(self) -> str:
        gate = anyio.Event()
        self._gates.append(gate)
        await gate.wait()
        return "fine"

    async def _ask(self, by: str) -> None:
        got = await getattr(self._orch, by)("tool")
        self.said.append(got if by == "dispatch" else got.content)

    async def begin(self, by: str = "dispatch") -> None:
        self._tasks.start_soon(self._ask, by)
        await when_blocked()

    async def end(self, number: int) -> None:
        self._gates[number].set()
        await when_blocked()

    def seen(self) -> tuple[int, float]:
        stats = self._orch.stats("tool")
        return stats.in_flight, stats.oldest_in_flight


@script({"successes": 3, "avg_time": 1.5, "calls": 3, "late": 0, "state": "closed"})
async def times_are_added_up(orch: Any, service: Any, clock: Any) -> list[str]:
    return await taking(orch, service, clock, 0.5, 4, 0)


@script({"successes": 2, "avg_time": 0.75, "state": "closed"})
async def a_clock_that_goes_back_takes_nothing_off(
    orch: Any, service: Any, clock: Any
) -> list[str]:
    return await taking(orch, service, clock, -0.5, 1.5)


@script({"successes": 2, "avg_time": 0.0, "state": "closed"})
async def a_clock_that_tells_no_time_adds_none(
    orch: Any, service: Any, clock: Any
) -> list[str]:
    return await taking(orch, service, clock, math.nan, 1)


@script({"successes": 4, "failures": 2, "total_failures": 4, "state": "closed"})
async def a_success_ends_a_row_of_failures(
    orch: Any, service: Any, clock: Any
) -> list[str]:
    said = await giving(orch, service, "a", "b")
    said += await failing(orch, service, 2)
    said += await giving(orch, service, "c", {"c": 1})
    return said + await failing(orch, service, 2)


@script({"successes": 5, "failures": 0, "total_failures": 0})
async def what_tells_of_no_error_is_a_success(
    orch: Any, service: Any, clock: Any
) -> list[str]:
    return await giving(orch, service, "x", '{"error": ""}', {"x": 1}, {"error": None}, 3)


@script({"successes": 1, "failures": 2, "total_failures": 2})
async def an_error_in_a_value_is_a_failure(
    orch: Any, service: Any, clock: Any
) -> list[str]:
    return await giving(orch, service, "x", {"error": "boom"}, '{"error": "boom"}')


@script({"successes": 3, "failures": 0, "total_failures": 0}, judge=exceptions_only)
async def where_no_value_is_looked_at_an_error_in_one_is_none(
    orch: Any, service: Any, clock: Any
) -> list[str]:
    return await giving(orch, service, "x", {"error": "boom"}, '{"error": "boom"}')


def strange(outcome: Outcome) -> Verdict | bool | None:
    """
    A judge that has every opinion, by what it is shown.
    """
    assert outcome.duration == 0
    value = outcome.value
    if value == "raise":
        raise RuntimeError("judge")
    opinions: dict[Any, Verdict | bool | None] = {
        "bad": True,
        "good": False,
        "blamed": Verdict.IGNORE,
        "failed": Verdict.FAILURE,
        "well": Verdict.SUCCESS,
    }
    return opinions.get(value) if isinstance(value, str) else None


@script({"successes": 4, "ignored": 1, "total_failures": 3}, judge=strange)
async def a_judge_of_ones_own_decides(orch: Any, service: Any, clock: Any) -> list[str]:
    said = await giving(orch, service, "bad", "good", "blamed", "failed", "well")
    return said + await giving(orch, service, "raise", "no opinion", {"error": "boom"})


@script({"successes": 2, "ignored": 2, "total_failures": 3}, judge=service_errors)
async def errors_of_the_service_are_told_from_those_of_the_caller(
    orch: Any, service: Any, clock: Any
) -> list[str]:
    said = await giving(orch, service, "fine", "Error: no such file: x", {"error": "503"})
    service.behaviour = fail
    said.append(await orch.dispatch("tool"))
    said += await giving(orch, service, {"x": 1}, "Error: invalid argument y")
    return said + await giving(orch, service, "Error: connection refused")


@script({"successes": 0, "failures": 2, "total_failures": 2})
async def what_cannot_be_made_text_is_a_failure(
    orch: Any, service: Any, clock: Any
) -> list[str]:
    return await giving(orch, service, object(), [len])


def broken_off() -> Iterator[int]:
    yield 1
    raise ValueError("no more")


@script({"successes": 0, "failures": 1, "total_failures": 1})
async def what_can_be_read_once_and_is_no_text_is_a_failure(
    orch: Any, service: Any, clock: Any
) -> list[str]:
    return await giving(orch, service, broken_off())


@script({"successes": 2, "total_failures": 0, "timeouts": 0, "failures": 0}, timeout=10)
async def what_ends_within_its_timeout_is_on_time(
    orch: Any, service: Any, clock: Any
) -> list[str]:
    return await giving(orch, service, "x", {"x": 1})


@script({"invalid": 3, "calls": 1, "successes": 1, "total_failures": 0})
async def arguments_that_do_not_fit_are_no_call(
    orch: Any, service: Any, clock: Any
) -> list[str]:
    service.behaviour = succeed
    wrong: list[Any] = [{"made_up": 1}, "no JSON", {}]
    return [await orch.dispatch("tool", args) for args in wrong]


@script({"invalid": 2, "calls": 1, "successes": 1, "failures": 0}, validate=False)
async def arguments_that_only_binding_refuses_are_no_call(
    orch: Any, service: Any, clock: Any
) -> list[str]:
    service.behaviour = succeed
    return [await orch.dispatch("tool", args) for args in ({"made_up": 1}, {})]


@script({"rejected": 2, "calls": 3, "total_failures": 3, "state": "open"})
async def an_open_circuit_refuses(orch: Any, service: Any, clock: Any) -> list[str]:
    said = await failing(orch, service, 4)
    clock.turn(100.5)
    return said + await failing(orch, service, 1)


@script({"rejected": 1, "calls": 4, "failures": 0, "state": "closed"})
async def a_circuit_that_was_open_long_enough_is_tried(
    orch: Any, service: Any, clock: Any
) -> list[str]:
    said = await failing(orch, service, 4)
    clock.turn(300)
    return said + await giving(orch, service, "x")


@script({"rejected": 2, "calls": 1, "state": "isolated"})
async def an_isolated_circuit_refuses(orch: Any, service: Any, clock: Any) -> list[str]:
    said = await giving(orch, service, "x")
    with orch.circuit("tool").isolate():
        said += await giving(orch, service, "x", "x")
    orch.circuit("tool").isolate()
    return said


@script({"late": 2, "successes": 2, "total_failures": 3, "state": "open", "failures": 3})
async def a_success_that_the_circuit_has_left_behind_is_late(
    orch: Any, service: Any, clock: Any
) -> list[str]:
    async with anyio.create_task_group() as tasks:
        calls = Overlapping(orch, service, tasks)
        await calls.begin()
        await calls.begin()
        said = await failing(orch, service, 3)
        await calls.end(1)
        await calls.end(0)
    return said + calls.said


@script({"successes": 5, "in_flight": 0, "oldest_in_flight": 0, "avg_time": 17})
async def calls_that_overlap_are_told_apart(
    orch: Any, service: Any, clock: Any
) -> list[str]:
    async with anyio.create_task_group() as tasks:
        calls = Overlapping(orch, service, tasks)
        await calls.begin()
        clock.turn(10)
        await calls.begin("run")
        assert calls.seen() == (2, 10)
        await calls.end(0)
        clock.turn(5)
        assert calls.seen() == (1, 5)
        await calls.begin()
        clock.turn(20)
        await calls.begin()
        assert calls.seen() == (3, 25)
        await calls.end(2)
        assert calls.seen() == (2, 25)
        await calls.begin("run")
        await calls.end(1)
        clock.turn(15)
        assert calls.seen() == (2, 15)
        await calls.end(4)
        await calls.end(3)
    return calls.said


class Asking:
    """
    An orchestrator that is asked in another way than by ``dispatch``, and all that came of
    it, as text.
    """

    def __init__(self, orch: ToolOrchestrator, way: str) -> None:
        self._orch, self._way = orch, way

    def __getattr__(self, name: str) -> Any:
        return getattr(self._orch, name)

    async def dispatch(self, name: str, args: Any = None) -> str:
        if self._way == "dispatch":
            return await self._orch.dispatch(name, args)
        if self._way == "dispatch with a context":
            return await self._orch.dispatch(name, args, call_id="c1", user="ann")
        if self._way == "call":
            try:
                return plain(await self._orch.call(name, args))
            except Exception as error:
                return f"{type(error)}: {error}"
        # Not in a variable: an exception refers to whoever has called what it came through.
        return whole(await self._orch.run(name, args, call_id="c1", user="ann"))


def whole(result: ToolResult) -> str:
    """
    All that came of a call.
    """
    fields = {each: getattr(result, each) for each in result.__slots__}
    return "; ".join(f"{each}={plain(value)}" for each, value in fields.items())


def plain(value: object) -> str:
    """
    What a value is, without its address.
    """
    return re.sub("at 0x[0-9a-f]+", "", repr(value))


WAYS = ["dispatch", "dispatch with a context", "run", "call"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SCRIPTS)
async def test_the_short_path_comes_to_what_the_long_one_does(name: str, way: str) -> None:
    steps, figures, options = SCRIPTS[name]
    said: list[list[str]] = []
    stats: list[dict[str, Any]] = []
    for observers in ([], [lambda event: None]):
        clock = HandClock()
        orch, service = bench(clock, observers=observers, **options)
        # The first call of a tool takes the long path, whatever it is.
        await orch.dispatch("tool", {"made_up": 1})
        said.append(await steps(cast("Any", Asking(orch, way)), service, clock))
        stats.append(orch.get_fleet_stats()["tool"])
        if way != "call" or "text" not in name:  # ``call`` makes no text of anything
            assert stats[-1] == {**stats[-1], **figures}
        assert_adds_up(orch)
    assert said[0] == said[1]
    assert stats[0] == stats[1]


@pytest.mark.parametrize("first", ["asyncio", "trio"])
def test_a_refusal_by_the_next_loops_clock_tells_what_was_left(first: str) -> None:
    orch, service = bench(anyio.current_time)
    second = "trio" if first == "asyncio" else "asyncio"

    async def open_it() -> None:
        await failing(orch, service, 3)
        await anyio.sleep(50)
        assert json.loads(await orch.dispatch("tool"))["retry_after"] == 250

    async def refused() -> None:
        await anyio.sleep(100)
        assert json.loads(await orch.dispatch("tool"))["retry_after"] == 250

    for backend, main in ((first, open_it), (second, refused)):
        options: dict[str, Any] = {"clock": MockClock(autojump_threshold=0)}
        if backend == "asyncio":
            options = {"loop_factory": AutojumpEventLoop}
        anyio.run(main, backend=backend, backend_options=options)


def let_pass(seconds: float) -> None:
    """
    Hold up the loop for so long, by its virtual clock.
    """
    clock: Any = asyncio.get_running_loop() if on_asyncio() else current_clock()
    clock.jump(seconds)


# One call each way, and all that can be seen of it


WATCHING = [[], [lambda event: None]]


class Seen(list[str]):
    """
    What those who look at a value were asked, in their order.
    """

    def noting(self, what: str, answer: Any) -> Callable[[Any], Any]:
        def look(_: Any) -> Any:
            self.append(what)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return look


async def returning(orch: ToolOrchestrator, service: Service, way: str, value: Any) -> str:
    async def give() -> Any:
        return value

    service.behaviour = give
    return await Asking(orch, way).dispatch("tool")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("said", [Verdict.SUCCESS, Verdict.FAILURE, None, RuntimeError()])
@pytest.mark.parametrize("text", ["text", ValueError("no text")])
async def test_a_value_is_looked_at_once_and_in_the_same_order(
    way: str, said: Any, text: Any
) -> None:
    told, asked = [], []
    for observers in WATCHING:
        seen, clock = Seen(), HandClock()
        judge, render = seen.noting("judge", said), seen.noting("text", text)
        orch, service = bench(clock, observers=observers, judge=judge, render=render)
        await orch.dispatch("tool", {"made_up": 1})
        told.append(await returning(orch, service, way, object()))
        asked.append(seen)
    assert told[0] == told[1]
    assert asked[0] == asked[1]
    assert len(asked[0]) == len(set(asked[0]))


@pytest.mark.parametrize("way", WAYS)
async def test_what_yields_once_is_read_once_though_the_call_was_slow(way: str) -> None:
    told = []
    for observers in WATCHING:
        clock = HandClock()
        policy = BreakerPolicy(window_calls=5, slow_duration=1)
        orch, service = bench(clock, observers=observers, policy=policy)
        await orch.dispatch("tool", {"made_up": 1})

        async def give(clock: HandClock = clock) -> Any:
            clock.turn(2)
            return (number for number in (1, 2))

        service.behaviour = give
        told.append(await Asking(orch, way).dispatch("tool"))
    assert re.sub("0x[0-9a-f]+", "", told[0]) == re.sub("0x[0-9a-f]+", "", told[1])
    assert way == "call" or "[1,2]" in told[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("verdict", [Verdict.SUCCESS, Verdict.FAILURE])
async def test_the_time_of_those_who_look_is_not_the_tools(
    way: str, verdict: Verdict
) -> None:
    clock = HandClock()

    def judge(outcome: Outcome) -> Verdict:
        clock.turn(5)
        return verdict

    orch, service = bench(clock, judge=judge)
    await orch.dispatch("tool", {"made_up": 1})
    await returning(orch, service, way, "value")
    assert orch.stats("tool").avg_time == 0


@pytest.mark.parametrize("way", WAYS)
async def test_the_time_of_the_arguments_is_not_the_tools(way: str) -> None:
    clock, registry = HandClock(), Registry()

    @registry.tool
    async def tool(x: Annotated[int, AfterValidator(lambda x: clock.turn(5))]) -> str:
        return "fine"

    orch = ToolOrchestrator(registry, clock=clock)
    await orch.dispatch("tool", "{")
    await Asking(orch, way).dispatch("tool", {"x": 1})
    assert orch.stats("tool").avg_time == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ends", ["trips the circuit", "stops the clock"])
async def test_what_happens_while_arguments_are_validated_is_not_missed(
    way: str, ends: str
) -> None:
    said = []
    for observers in WATCHING:
        clock, registry, asked = HandClock(), Registry(), 0

        def validated(x: int) -> int:
            nonlocal asked
            asked += 1
            if ends == "trips the circuit":
                orch.circuit("tool").trip()  # noqa: B023
            else:
                clock.now = None  # type: ignore[assignment]  # noqa: B023
            return x

        def time(clock: HandClock = clock) -> float:
            return clock() + 0.0

        @registry.tool
        async def tool(x: Annotated[int, AfterValidator(validated)]) -> str:
            raise AssertionError("it was run")

        orch = ToolOrchestrator(registry, clock=time, observers=observers)
        await orch.dispatch("tool", "{")
        said.append(await Asking(orch, way).dispatch("tool", {"x": 1}))
        assert asked == 1
        assert_adds_up(orch)
        assert orch.stats("tool").calls == 0
    assert said[0] == said[1]


@pytest.mark.parametrize("way", WAYS)
async def test_an_observer_is_told_of_the_end_of_a_call_that_runs_when_it_comes(
    way: str,
) -> None:
    orch, service = bench(HandClock())
    await orch.dispatch("tool", {"made_up": 1})
    events: list[Any] = []

    async def add() -> Any:
        orch.add_observer(events.append)
        return {"x": 1}

    service.behaviour = add
    await Asking(orch, way).dispatch("tool")
    (event,) = events
    assert (event.verdict, event.value) == (Verdict.SUCCESS, {"x": 1})


@virtual_time
@pytest.mark.parametrize("way", WAYS)
async def test_a_tool_that_blocks_past_its_timeout_has_failed_by_whatever_clock(
    way: str,
) -> None:
    said = []
    for observers in WATCHING:
        orch, service = bench(HandClock(), observers=observers, timeout=5)
        await orch.dispatch("tool", {"made_up": 1})

        async def block() -> str:
            let_pass(6)
            return "fine"

        service.behaviour = block
        said.append(await Asking(orch, way).dispatch("tool"))
        assert orch.stats("tool").timeouts == 1
    assert said[0] == said[1]


@virtual_time
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seconds", [4, 5])
async def test_a_timeout_that_is_reached_has_struck(way: str, seconds: float) -> None:
    orch, service = bench(anyio.current_time, timeout=5)
    await orch.dispatch("tool", {"made_up": 1})

    async def block() -> str:
        let_pass(seconds)
        return "fine"

    service.behaviour = block
    await Asking(orch, way).dispatch("tool")
    assert orch.stats("tool").timeouts == (seconds == 5)


@virtual_time
@pytest.mark.parametrize("way", WAYS)
async def test_a_timeout_does_not_strike_while_a_value_is_looked_at(way: str) -> None:
    def judge(outcome: Outcome) -> Verdict:
        let_pass(6)
        return Verdict.FAILURE

    orch, service = bench(anyio.current_time, timeout=5, judge=judge)
    await orch.dispatch("tool", {"made_up": 1})
    await returning(orch, service, way, "value")
    stats = orch.stats("tool")
    assert (stats.timeouts, stats.total_failures) == (0, 1)


@pytest.mark.parametrize("way", WAYS)
async def test_a_tool_that_swallows_its_timeout_has_failed(way: str) -> None:
    orch, service = bench(anyio.current_time, timeout=0.01)
    await orch.dispatch("tool", {"made_up": 1})

    async def swallow() -> str:
        with suppress(anyio.get_cancelled_exc_class()):
            await anyio.sleep_forever()
        return "fine"

    service.behaviour = swallow
    await Asking(orch, way).dispatch("tool")
    assert orch.stats("tool").timeouts == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_that_is_closed_after_its_loop_has_no_verdict(
    backend: str, way: str
) -> None:
    orch, service = bench(HandClock(), timeout=5)

    @types.coroutine
    def pause() -> Generator[None, None, None]:
        yield

    async def wait() -> str:
        await pause()
        return "fine"

    async def begin() -> Any:
        await orch.dispatch("tool", {"made_up": 1})
        service.behaviour = wait
        call = getattr(orch, way.partition(" ")[0])("tool")
        call.send(None)
        return call

    anyio.run(begin, backend=backend).close()
    assert orch.stats("tool").ignored == 1
    assert_adds_up(orch)


@pytest.mark.parametrize("way", WAYS)
async def test_a_clock_that_fails_or_goes_back_meanwhile_takes_no_time(way: str) -> None:
    took: list[float] = []

    def judge(outcome: Outcome) -> Verdict:
        took.append(outcome.duration)
        return Verdict.SUCCESS if outcome.error is None else Verdict.FAILURE

    clock = HandClock()

    def time() -> float:
        if clock.now < 0:
            raise OSError("no clock")
        return clock()

    orch, service = bench(time, judge=judge)
    await orch.dispatch("tool", {"made_up": 1})
    for now in (500.0, -1.0):
        clock.now = 1000.0

        async def turn(now: float = now) -> str:
            clock.now = now
            return "fine"

        service.behaviour = turn
        await Asking(orch, way).dispatch("tool")
    assert took == [0, 0]
    assert orch.stats("tool").successes == 2
    assert orch.stats("tool").avg_time == 0


# Garbage


class Thing:
    """
    What a caller has, and wants to be rid of.
    """


async def fail_with(thing: Any) -> None:
    raise ConnectionError("down")


async def give_back(thing: Any) -> Any:
    return thing


def no_opinion(outcome: Outcome) -> Verdict:
    raise RuntimeError("judge")


ENDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "success": (give_back, {"render": repr}),
    "failure": (fail_with, {}),
    "failure within a timeout": (fail_with, {"timeout": 5}),
    "no text": (give_back, {}),
    "a judge that raises": (give_back, {"render": repr, "judge": no_opinion}),
    "a judge's control flow": (
        give_back,
        {"judge": no_opinion, "policy": ToolPolicy(control_flow=(RuntimeError,))},
    ),
    "arguments that do not fit": (succeed, {}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ENDS)
async def test_nothing_of_a_call_is_left_to_the_garbage_collector(
    way: str, end: str
) -> None:
    registry, (fn, options) = Registry(), ENDS[end]
    registry.tool(name="tool", **options)(fn)
    orch = ToolOrchestrator(registry, failure_threshold=10)

    async def call() -> weakref.ref[Thing]:
        thing = Thing()
        with suppress(RuntimeError):
            await Asking(orch, way).dispatch("tool", {"thing": thing})
        return weakref.ref(thing)

    await call()
    gc.collect()
    gc.disable()
    try:
        assert (await call())() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seconds", [1, 2])
async def test_that_slow_calls_have_opened_a_circuit_is_logged(
    way: str, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HandClock()
    policy = BreakerPolicy(window_calls=2, slow_duration=1, slow_rate=1)
    orch, service = bench(clock, policy=policy)
    await orch.dispatch("tool", {"made_up": 1})
    caplog.clear()
    await taking(cast("Any", Asking(orch, way)), service, clock, seconds, seconds)
    assert "closed -> open" in caplog.text
