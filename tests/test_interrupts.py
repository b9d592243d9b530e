"""
Interrupts and other surprises out of code that is not ours, at the moments when we look at
what a tool has left behind: they go up, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import functools
import types
from collections.abc import Callable, Generator, Iterator
from typing import Any, cast

import anyio
import pytest
from anyio.lowlevel import checkpoint

from orchestrator_async import (
    BreakerPolicy,
    InvalidArgumentsError,
    Registry,
    ToolOrchestrator,
    ToolPolicy,
    Verdict,
)

from .support import (
    HandClock,
    assert_adds_up,
    bench,
    fail,
    succeed,
    trip,
    when_blocked,
)
from .test_turn import asyncio_only

RESET = 300
AT_ONCE = ToolPolicy(breaker=BreakerPolicy(failure_threshold=1))


class Interrupts(Exception):
    """
    Somebody presses Ctrl-C while it is read.
    """

    def __str__(self) -> str:
        raise KeyboardInterrupt


class InterruptsEntries(InvalidArgumentsError):
    """
    Or while what it says of the arguments is read.
    """

    def __init__(self) -> None:
        super().__init__("the city is on the moon", tool_name="tool")
        self.errors: Any = Entries()


class Entries(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise KeyboardInterrupt


class CannotBeSplit(BaseExceptionGroup[BaseException]):
    def derive(self, errors: Any) -> Any:
        raise RuntimeError("no parts")


@pytest.mark.parametrize("make", [Interrupts, InterruptsEntries])
@pytest.mark.parametrize("probing", [False, True], ids=["closed", "probe"])
async def test_an_interrupt_while_an_error_is_read_goes_up_and_the_permit_goes_back(
    make: Callable[[], Exception], probing: bool
) -> None:
    clock = HandClock()
    orch, service = bench(clock)
    if probing:
        await trip(orch, service)
        clock.turn(RESET)

    async def interrupted() -> None:
        raise make()

    service.behaviour = interrupted
    with pytest.raises(KeyboardInterrupt):
        await orch.dispatch("tool")
    assert_adds_up(orch)
    # No verdict was given, and so none is counted.
    assert orch.stats("tool").ignored == 1
    assert orch.circuit("tool").state == ("half_open" if probing else "closed")
    service.behaviour = succeed
    assert await orch.dispatch("tool") == "fine"
    assert orch.circuit("tool").state == "closed"


async def test_an_interrupt_in_a_call_within_a_probe_leaves_the_probe_its_place() -> None:
    clock = HandClock()
    orch, service = bench(clock, circuit="shared")

    @orch.registry.tool(circuit="shared")
    async def inner() -> None:
        raise Interrupts

    service.behaviour = fail
    for _ in range(3):
        await orch.dispatch("tool")
    clock.turn(RESET)

    async def goes_on() -> str:
        with pytest.raises(KeyboardInterrupt):
            await orch.dispatch("inner")
        assert orch.circuit("shared").state == "half_open"
        return "fine"

    service.behaviour = goes_on
    assert await orch.dispatch("tool") == "fine"
    assert orch.circuit("shared").state == "closed"
    assert_adds_up(orch)


async def test_a_caller_that_is_cancelled_goes_before_an_error_that_cannot_be_looked_at() -> (
    None
):
    orch, service = bench(HandClock())
    with anyio.CancelScope() as scope:

        async def cancelled() -> None:
            scope.cancel()
            raise CannotBeSplit("g", [ValueError()])

        service.behaviour = cancelled
        await orch.dispatch("tool")
    assert scope.cancelled_caught
    stats = orch.stats("tool")
    assert (stats.cancelled, stats.total_failures, stats.in_flight) == (1, 0, 0)


@asyncio_only
async def test_a_request_that_is_still_to_be_delivered_is_delivered_once() -> None:
    orch, service = bench(HandClock())

    async def cancels_its_task() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "done"

    service.behaviour = cancels_its_task
    after: list[str] = []

    async def caller() -> None:
        try:
            await orch.dispatch("tool")
        finally:
            await checkpoint()
            after.append("nothing more came")

    task = asyncio.ensure_future(caller())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert after == ["nothing more came"]
    assert (orch.stats("tool").successes, orch.stats("tool").in_flight) == (1, 0)


async def test_groups_within_groups_without_end_are_a_failure() -> None:
    error: Exception = ValueError("the innermost")
    for _ in range(5_000):
        error = ExceptionGroup("g", [error])
    orch, service = bench(HandClock())

    async def nested() -> None:
        raise error

    service.behaviour = nested
    result = await orch.run("tool")
    assert result.verdict is Verdict.FAILURE
    assert orch.circuit("tool").failures == 1
    assert_adds_up(orch)


async def test_a_decorator_that_refuses_by_itself_is_the_tools_failure() -> None:
    registry = Registry()

    def moody(fn: Any) -> Any:
        @functools.wraps(fn)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            raise TypeError("not today")

        return wrapper

    @registry.tool(validate=False)
    @moody
    async def tool(city: str) -> str:
        return city

    orch = ToolOrchestrator(registry)
    assert (await orch.run("tool", {"city": "Oslo"})).verdict is Verdict.FAILURE
    # The same words, where the arguments could not have been bound either.
    assert (await orch.run("tool", {"town": "Oslo"})).verdict is Verdict.IGNORE


@pytest.mark.parametrize("plain", [False, True], ids=["coroutine function", "plain"])
async def test_a_call_that_no_loop_runs_claims_no_probe_and_keeps_no_thread(
    plain: bool,
) -> None:
    registry, clock, well = Registry(), HandClock(), False

    async def tool() -> str:
        return await (succeed() if well else fail())

    def plain_tool() -> str:
        if not well:
            raise ConnectionError
        return "fine"

    registry.tool(name="tool")(plain_tool if plain else tool)
    orch = ToolOrchestrator(registry, clock=clock, failure_threshold=1)
    await orch.dispatch("tool")
    clock.turn(RESET)
    errors: list[BaseException] = []

    def by_hand() -> None:
        try:
            orch.run("tool").send(None)
        except BaseException as error:
            errors.append(error)

    await anyio.to_thread.run_sync(by_hand)
    assert [type(error) for error in errors] == [anyio.NoEventLoopError]
    assert orch.circuit("tool").state == "open"
    assert orch.stats("tool").in_flight == 0
    well = True
    assert await orch.dispatch("tool") == "fine"


async def test_a_call_with_parts_around_it_keeps_nothing_where_no_loop_runs_it() -> None:
    registry = Registry()
    policy = ToolPolicy(fallback=lambda call, result: "nothing")

    @registry.tool(name="tool", policy=policy)
    async def tool() -> str:
        return "fine"  # it awaits nothing, so it needs no loop

    orch = ToolOrchestrator(registry, clock=HandClock())

    def by_hand() -> str:
        try:
            orch.dispatch("tool").send(None)
        except StopIteration as done:
            return str(done.value)
        raise AssertionError("it awaits something")

    assert await anyio.to_thread.run_sync(by_hand) == "fine"
    assert orch.stats("tool").in_flight == 0
    assert_adds_up(orch)


@types.coroutine
def pause() -> Generator[None, None, None]:
    yield


async def test_a_probe_that_ends_where_no_loop_runs_closes_the_circuit_all_the_same() -> (
    None
):
    clock = HandClock()
    orch, service = bench(clock)
    await trip(orch, service)
    clock.turn(RESET)

    async def pauses() -> str:
        await pause()
        return "fine"

    service.behaviour = pauses
    probe = orch.run("tool")
    probe.send(None)
    assert orch.circuit("tool").state == "half_open"
    results: list[Any] = []

    def by_hand() -> None:
        try:
            probe.send(None)
        except StopIteration as ended:
            results.append(ended.value.content)

    await anyio.to_thread.run_sync(by_hand)
    assert results == ["fine"]
    assert orch.circuit("tool").state == "closed"
    assert_adds_up(orch)


@pytest.mark.parametrize("timeout", [None, 30.0])
async def test_a_dispatch_that_is_closed_while_its_tool_waits_gives_everything_back(
    timeout: float | None,
) -> None:
    orch, service = bench(HandClock(), timeout=timeout)
    await orch.dispatch("tool")
    service.behaviour = anyio.sleep_forever
    dispatch = orch.dispatch("tool")
    dispatch.send(None)
    assert orch.stats("tool").in_flight == 1
    dispatch.close()
    stats = orch.stats("tool")
    assert (stats.in_flight, stats.total_failures, stats.failures) == (0, 0, 0)
    assert_adds_up(orch)


class Refusing(dict[str, Any]):
    """
    A value that interrupts whoever asks it for its error.
    """

    def get(self, key: str, default: Any = None) -> Any:
        raise KeyboardInterrupt


def interrupted() -> Iterator[int]:
    """
    A value that interrupts whoever looks for its end.
    """
    yield 1
    raise KeyboardInterrupt


@pytest.mark.parametrize("make", [Refusing, interrupted])
@pytest.mark.parametrize("method", ["run", "dispatch"])
async def test_an_interrupt_while_a_value_is_read_goes_up_and_gives_no_verdict(
    make: Callable[[], Any], method: str
) -> None:
    orch, service = bench(HandClock())

    async def give() -> Any:
        return make()

    await orch.dispatch("tool")
    service.behaviour = give
    with pytest.raises(KeyboardInterrupt):
        await getattr(orch, method)("tool")
    assert orch.stats("tool").ignored == 1
    assert_adds_up(orch)


async def test_the_circuit_is_told_what_a_returned_error_said() -> None:
    orch, service = bench(HandClock(), policy=AT_ONCE)

    async def give() -> Any:
        return {"error": "no such city"}

    service.behaviour = give
    await orch.dispatch("tool")
    said = orch.circuit("tool").last_error
    assert said == 'it returned an error: {"error":"no such city"}'


async def test_an_interrupt_while_a_success_is_counted_goes_up_and_nothing_is_lost() -> (
    None
):
    orch, service = bench(
        HandClock(), policy=BreakerPolicy(window_calls=2, minimum_calls=2)
    )
    breaker = orch.circuit("tool").breaker
    gate = anyio.Event()

    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    async def wait() -> str:
        await gate.wait()
        return "fine"

    service.behaviour = wait
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")  # so that the other is not alone
        await when_blocked()
        service.behaviour = succeed
        kept, window = breaker._windows, types.SimpleNamespace(record=interrupted)
        breaker._windows = cast("Any", (window,))
        with pytest.raises(KeyboardInterrupt):
            await orch.dispatch("tool")
        breaker._windows = kept
        gate.set()
    assert orch.stats("tool").in_flight == 0
    assert_adds_up(orch)
