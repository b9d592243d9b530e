"""
A circuit among loops, threads and observers; and verdicts that come late.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    CallRejected,
    CircuitChanged,
    CircuitOpenError,
    CircuitState,
    Event,
    InvalidArgumentsError,
    LimitExceededError,
    OrchestratorError,
    Registry,
    ToolCall,
    ToolOrchestrator,
    ToolPolicy,
    UnknownToolError,
    Verdict,
)
from orchestrator_async._circuit import Isolation

from .clock import virtual_time
from .support import (
    HandClock,
    Service,
    assert_adds_up,
    bench,
    fail,
    succeed,
    trip,
    when_blocked,
)

RESET = 300.0


def in_every_loop(main: Callable[[], Awaitable[None]]) -> None:
    """
    Run it on one loop after another: asyncio, trio, and asyncio again.
    """
    for backend in ("asyncio", "trio", "asyncio"):
        anyio.run(main, backend=backend)


# A handle


def test_a_handle_works_where_no_loop_runs() -> None:
    orch, _ = bench(anyio.current_time)
    circuit = orch.circuit("tool")

    assert (circuit.name, circuit.state, circuit.failures) == ("tool", "closed", 0)
    circuit.isolate()
    assert circuit.state == "isolated"
    circuit.unisolate()
    circuit.disable()
    assert circuit.state == "disabled"
    circuit.reset()
    assert circuit.state == "closed"
    assert "tool" in repr(circuit)


def test_a_handle_on_nothing_is_refused_and_leaves_nothing() -> None:
    orch, _ = bench(HandClock())
    for number in range(100):
        with pytest.raises(UnknownToolError):
            orch.circuit(f"nothing {number}")

    assert "1 tool" in repr(orch)
    assert "0 circuits" in repr(orch)


async def test_an_isolated_circuit_refuses_without_a_time_until_it_is_released() -> None:
    orch, service = bench(HandClock())
    isolation = orch.circuit("tool").isolate()

    answer = json.loads(await orch.dispatch("tool"))
    assert (answer["state"], answer["retry_after"]) == ("isolated", None)
    with pytest.raises(CircuitOpenError) as caught:
        await orch.call("tool")
    assert caught.value.retry_after is None
    assert service.runs == 0

    isolation.release()
    assert await orch.dispatch("tool") == "fine"


async def test_a_circuit_that_is_forced_open_is_refused_like_one_that_is_down() -> None:
    orch, service = bench(HandClock())
    twin, broken = bench(HandClock())
    await trip(twin, broken)

    with orch.circuit("tool").force_open():
        assert await orch.dispatch("tool") == await twin.dispatch("tool")
        forced, real = await orch.run("tool"), await twin.run("tool")
        assert (forced.content, forced.state) == (real.content, real.state)
        assert repr(forced.error) == repr(real.error)
        assert forced.retry_after == real.retry_after == 300
        assert orch.stats("tool").failures == 0

    assert service.runs == 0
    assert await orch.dispatch("tool") == "fine"


async def test_no_caller_probes_a_circuit_that_is_forced_open() -> None:
    clock = HandClock()
    orch, service = bench(clock)
    forced = orch.circuit("tool").force_open()
    for _ in range(3):
        clock.turn(1000)
        assert (await orch.run("tool")).retry_after == 300

    orch.circuit("tool").isolate()
    assert orch.circuit("tool").state == "isolated"
    orch.circuit("tool").unisolate()
    assert orch.circuit("tool").state == "closed"
    forced.release()
    assert (service.runs, await orch.dispatch("tool")) == (0, "fine")


async def test_isolations_are_lifted_each_by_its_own_handle() -> None:
    orch, _ = bench(HandClock())
    circuit = orch.circuit("tool")
    with circuit.isolate() as first:
        second = circuit.isolate()
        first.release()
        first.release()
        assert circuit.state == "isolated"
        second.release()
        assert circuit.state == "closed"
        third = circuit.isolate()

    assert circuit.state == "isolated"
    third.release()
    assert circuit.state == "closed"


def test_an_isolation_that_was_lifted_with_all_others_lifts_no_later_one() -> None:
    orch, _ = bench(HandClock())
    circuit = orch.circuit("tool")
    stale = circuit.isolate()
    circuit.unisolate()
    circuit.isolate()

    stale.release()

    assert circuit.state == "isolated"


def test_how_an_isolation_looks_is_said_by_name() -> None:
    orch, _ = bench(HandClock())
    circuit: Any = orch.circuit("tool")
    make: Any = Isolation

    with pytest.raises(TypeError):
        circuit.release(circuit._series, True)
    with pytest.raises(TypeError):
        make(circuit, circuit._series, True)


@pytest.mark.parametrize("first", ["isolate", "force_open"])
@pytest.mark.parametrize(
    ("second", "state"), [("isolate", "isolated"), ("force_open", "open")]
)
def test_an_isolation_that_was_lifted_leaves_nothing_to_the_next(
    first: str, second: str, state: str
) -> None:
    orch, _ = bench(HandClock())
    circuit = orch.circuit("tool")
    getattr(circuit, first)().release()
    assert circuit.state == "closed"

    with getattr(circuit, second)():
        assert circuit.state == state
    assert circuit.state == "closed"


async def test_reset_does_not_lift_an_isolation() -> None:
    orch, service = bench(HandClock())
    await trip(orch, service)
    isolation = orch.circuit("tool").isolate()
    orch.circuit("tool").reset()

    assert orch.circuit("tool").state == "isolated"
    isolation.release()
    assert (orch.circuit("tool").state, orch.circuit("tool").failures) == ("closed", 0)


async def test_a_disabled_circuit_lets_all_calls_run() -> None:
    orch, service = bench(HandClock())
    orch.circuit("tool").disable()
    service.behaviour = fail
    for _ in range(10):
        await orch.dispatch("tool")

    assert service.runs == 10
    assert orch.get_fleet_stats()["tool"]["state"] == "disabled"
    assert orch.get_fleet_stats()["tool"]["total_failures"] == 10


# One loop after another


def test_a_circuit_is_remembered_from_loop_to_loop() -> None:
    clock = HandClock()
    orch, service = bench(clock)
    service.behaviour = fail

    async def fail_once() -> None:
        await orch.dispatch("tool")

    in_every_loop(fail_once)
    assert orch.circuit("tool").state == "open"

    async def refused() -> None:
        result = await orch.run("tool")
        assert (result.state, result.retry_after) == ("open", RESET)

    in_every_loop(refused)
    clock.turn(RESET)

    async def fail_again() -> None:
        assert (await orch.run("tool")).verdict is Verdict.FAILURE
        assert orch.circuit("tool").state == "open"
        clock.turn(RESET)

    in_every_loop(fail_again)
    service.behaviour = succeed

    async def works() -> None:
        assert await orch.dispatch("tool") == "fine"
        assert orch.circuit("tool").state == "closed"

    in_every_loop(works)
    assert_adds_up(orch)


@pytest.mark.parametrize("first", ["asyncio", "trio"])
def test_on_the_clock_of_the_loop_the_next_loop_keeps_what_was_left(first: str) -> None:
    orch, service = bench(anyio.current_time)
    second = "trio" if first == "asyncio" else "asyncio"

    async def fail_thrice() -> None:
        await trip(orch, service)

    async def refused() -> None:
        result = await orch.run("tool")
        assert result.state == "open"
        assert result.retry_after is not None
        assert RESET - 60 < result.retry_after <= RESET

    anyio.run(fail_thrice, backend=first)
    for backend in (second, first, second):
        anyio.run(refused, backend=backend)


def test_a_probe_that_ended_with_its_loop_lets_the_next_loop_probe() -> None:
    clock = HandClock()
    orch, service = bench(clock, timeout=1000)

    async def cut_short() -> None:
        service.behaviour = anyio.sleep_forever
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(orch.dispatch, "tool")
            await when_blocked()
            assert orch.circuit("tool").state == "half_open"
            raise KeyError("the program ends")

    for backend in ("asyncio", "trio", "asyncio"):

        async def open_it() -> None:
            await trip(orch, service)

        anyio.run(open_it, backend=backend)
        clock.turn(RESET)
        with pytest.raises(ExceptionGroup):
            anyio.run(cut_short, backend=backend)

    service.behaviour = succeed

    async def works() -> None:
        assert await orch.dispatch("tool") == "fine"

    in_every_loop(works)
    assert_adds_up(orch)


def test_manual_control_before_any_loop_holds_in_every_loop() -> None:
    orch, service = bench(anyio.current_time)
    isolation = orch.circuit("tool").isolate()

    async def refused() -> None:
        assert (await orch.run("tool")).state == "isolated"

    async def works() -> None:
        assert await orch.dispatch("tool") == "fine"

    in_every_loop(refused)
    isolation.release()
    in_every_loop(works)

    async def fail_thrice() -> None:
        await trip(orch, service)

    for backend in ("asyncio", "trio", "asyncio"):
        anyio.run(fail_thrice, backend=backend)
        assert orch.circuit("tool").state == "open"
        orch.circuit("tool").reset()
        assert orch.circuit("tool").state == "closed"
    in_every_loop(works)


# From an observer


def when(
    orch: ToolOrchestrator, new: str, act: Callable[[], object], *, once: bool = True
) -> None:
    """
    Do that from inside an observer, as the circuit takes this state.
    """
    done = False

    def observer(event: object) -> None:
        nonlocal done
        if isinstance(event, CircuitChanged) and event.new == new and not (done and once):
            done = True
            act()

    orch.add_observer(observer)


async def test_an_observer_may_reset_the_circuit_that_opens() -> None:
    orch, service = bench(HandClock())
    service.behaviour = fail
    when(orch, "open", lambda: orch.circuit("tool").reset(), once=False)
    for _ in range(9):
        result = await orch.run("tool")
        assert result.verdict is Verdict.FAILURE

    assert service.runs == 9
    assert orch.circuit("tool").state == "closed"
    assert_adds_up(orch)


async def test_an_observer_may_isolate_the_circuit_that_opens() -> None:
    orch, service = bench(HandClock())
    when(orch, "open", lambda: orch.circuit("tool").isolate())
    service.behaviour = fail
    for _ in range(3):
        await orch.dispatch("tool")

    assert orch.circuit("tool").state == "isolated"
    orch.circuit("tool").unisolate()
    assert orch.circuit("tool").state == "open"


@pytest.mark.parametrize("act", ["reset", "isolate", "disable"])
@pytest.mark.parametrize("behaviour", [succeed, fail])
async def test_an_observer_may_move_the_circuit_as_a_probe_begins(
    act: str, behaviour: Callable[[], Awaitable[str]]
) -> None:
    clock = HandClock()
    orch, service = bench(clock)
    await trip(orch, service)
    clock.turn(RESET)
    when(orch, "half_open", lambda: getattr(orch.circuit("tool"), act)())
    service.behaviour = behaviour

    await orch.dispatch("tool")

    expected = {"reset": "closed", "isolate": "isolated", "disable": "disabled"}[act]
    assert orch.circuit("tool").state == expected
    orch.circuit("tool").unisolate()
    orch.circuit("tool").reset()
    service.behaviour = succeed
    assert await orch.dispatch("tool") == "fine"
    assert_adds_up(orch)


async def test_observers_see_one_change_after_the_other_and_no_lock_is_held() -> None:
    orch, service = bench(HandClock())
    seen: list[tuple[str, str]] = []

    def first(event: object) -> None:
        if isinstance(event, CircuitChanged) and event.new == "open":
            orch.circuit("tool").reset()

    def second(event: object) -> None:
        if isinstance(event, CircuitChanged):
            seen.append((str(event.old), str(event.new)))

    orch.add_observer(first)
    orch.add_observer(second)
    service.behaviour = fail
    for _ in range(3):
        await orch.dispatch("tool")

    assert seen == [("closed", "open"), ("open", "closed")]


# The lock


async def test_the_lock_is_free_after_every_way_out() -> None:
    clock = HandClock()
    orch, service = bench(clock, policy=ToolPolicy(control_flow=(LookupError,)))
    circuit = orch.circuit("tool")

    async def interrupt() -> None:
        raise LookupError

    async def look() -> str:
        assert_free()
        return "fine"

    def assert_free() -> None:
        assert circuit._lock is not None
        assert not circuit._lock.locked()

    behaviours: list[Any] = [succeed, fail, interrupt, anyio.sleep_forever, look]
    for behaviour in behaviours:
        await trip(orch, service)
        assert_free()
        clock.turn(RESET)
        service.behaviour = behaviour
        with anyio.move_on_after(0.005), suppress(LookupError):
            result = await orch.run("tool")
            assert result.ok == (behaviour in (succeed, look))
        assert_free()
        await orch.dispatch_all([ToolCall("tool")] * 3 if behaviour is fail else [])
        assert_free()
        circuit.reset()


async def test_a_healthy_circuit_has_no_lock() -> None:
    orch, _ = bench(HandClock())
    for _ in range(3):
        await orch.dispatch("tool")

    assert orch.circuit("tool")._lock is None


async def test_an_observer_that_raises_leaves_the_lock_free() -> None:
    orch, service = bench(HandClock())

    def observer(event: object) -> None:
        if isinstance(event, CircuitChanged):
            raise KeyboardInterrupt

    orch.add_observer(observer)
    service.behaviour = fail
    await orch.dispatch("tool")
    await orch.dispatch("tool")
    with pytest.raises(KeyboardInterrupt):
        await orch.dispatch("tool")

    lock = orch.circuit("tool")._lock
    assert lock is not None
    assert not lock.locked()
    assert orch.circuit("tool").state == "open"
    assert_adds_up(orch)


async def test_an_observer_that_interrupts_the_claim_of_a_probe_keeps_nobody_out() -> None:
    clock = HandClock()
    orch, service = bench(clock)
    await trip(orch, service)
    clock.turn(RESET)

    def observer(event: object) -> None:
        if isinstance(event, CircuitChanged) and event.new == "half_open":
            raise KeyboardInterrupt

    orch.add_observer(observer)
    with pytest.raises(KeyboardInterrupt):
        await orch.dispatch("tool")
    assert orch.circuit("tool").state == "half_open"

    assert await orch.dispatch("tool") == "fine"
    assert orch.circuit("tool").state == "closed"
    assert_adds_up(orch)


async def test_one_lock_serves_a_loop_for_as_long_as_it_runs() -> None:
    orch, service = bench(HandClock())
    await trip(orch, service)
    lock = orch.circuit("tool")._lock

    orch.circuit("tool").reset()
    await trip(orch, service)

    assert orch.circuit("tool")._lock is lock


def test_a_claim_where_no_loop_runs_is_refused_for_a_second_and_takes_nothing() -> None:
    clock = HandClock()
    orch, service = bench(clock)
    anyio.run(trip, orch, service)
    clock.turn(RESET)
    circuit = orch.circuit("tool")

    assert circuit.admit(clock(), 30, 0) == (CircuitState.OPEN, 1)

    assert (circuit.state, circuit.breaker.probe) == ("open", None)


# Two loops at one time


class OtherLoop:
    """
    A thread whose loop runs beside this one's until it is left.
    """

    def __init__(self, main: Callable[[], Awaitable[None]], backend: str) -> None:
        self._done, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(
            target=anyio.run, args=(self._run,), kwargs={"backend": backend}
        )
        self._main = main

    async def _run(self) -> None:
        await self._main()
        self._done.set()
        await anyio.to_thread.run_sync(self._go.wait, 10)

    def __enter__(self) -> None:
        self._thread.start()
        assert self._done.wait(10)

    def __exit__(self, *exc_info: object) -> None:
        self._go.set()
        self._thread.join(10)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("other", ["asyncio", "trio"])
def test_a_claim_from_a_second_thread_is_a_clear_error_and_takes_nothing(
    backend: str, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HandClock()
    orch, service = bench(clock)
    texts: list[str] = []

    async def open_it() -> None:
        await trip(orch, service)

    async def probe_from_here() -> None:
        texts.extend([await orch.dispatch("tool") for _ in range(3)])
        with pytest.raises(OrchestratorError, match="thread"):
            await orch.call("tool")

    with OtherLoop(open_it, other):
        clock.turn(RESET)
        runs = service.runs
        anyio.run(probe_from_here, backend=backend)
        assert service.runs == runs

    assert all("thread" in json.loads(text)["error"] for text in texts)
    assert caplog.text.count("in use by an event loop in another thread") <= 2
    assert sum("cannot be called" in record.message for record in caplog.records) == 1
    assert orch.circuit("tool").state == "open"

    async def works() -> None:
        assert await orch.dispatch("tool") == "fine"

    anyio.run(works, backend=backend)
    assert orch.circuit("tool").state == "closed"
    assert_adds_up(orch)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("other", ["asyncio", "trio"])
def test_a_verdict_from_a_second_thread_is_not_given_but_its_permit_is(
    backend: str, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    orch, service = bench(HandClock())
    circuit = orch.circuit("tool")

    async def open_it() -> None:
        await trip(orch, service)
        circuit.reset()

    async def fail_from_here() -> None:
        service.behaviour = fail
        for _ in range(5):
            result = await orch.run("tool")
            assert result.verdict is Verdict.IGNORE
            assert "thread" in str(result.error)
            assert "thread" in json.loads(result.content)["error"]

    async def works() -> None:
        service.behaviour = succeed
        assert await orch.dispatch("tool") == "fine"

    with OtherLoop(open_it, other):
        anyio.run(fail_from_here, backend=backend)
        anyio.run(works, backend=backend)  # nothing changes, so nothing is noticed

    assert sum("verdict" in record.message for record in caplog.records) == 1
    assert (circuit.state, circuit.failures) == ("closed", 0)
    assert_adds_up(orch)
    anyio.run(trip, orch, service, backend=backend)
    assert circuit.state == "open"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_loop_that_came_first_keeps_out_one_of_a_thread_that_begins_later(
    backend: str,
) -> None:
    clock = HandClock()
    orch, service = bench(clock)
    answers: list[str] = []

    async def probe_from_there() -> None:
        answers.append(await orch.dispatch("tool"))

    async def probe_from_both() -> None:
        await trip(orch, service)
        clock.turn(RESET)
        other = threading.Thread(
            target=anyio.run, args=(probe_from_there,), kwargs={"backend": backend}
        )
        other.start()
        other.join(10)
        answers.append(await orch.dispatch("tool"))

    anyio.run(probe_from_both, backend=backend)

    assert "in another thread" in json.loads(answers[0])["error"]
    assert answers[1] == "fine"


def test_a_loop_that_runs_inside_of_another_uses_the_circuit_by_turns_with_it() -> None:
    orch, service = bench(HandClock())

    async def inner() -> None:
        assert await orch.dispatch("tool") == "fine"
        service.behaviour = fail
        await orch.dispatch("tool")

    async def outer() -> None:
        await trip(orch, service)
        orch.circuit("tool").reset()
        trio.run(inner)
        await orch.dispatch("tool")

    asyncio.run(outer())

    assert orch.circuit("tool").failures == 2


# Late


MOVES: dict[str, Callable[[ToolOrchestrator, Service, HandClock], Awaitable[None]]] = {}


def move(
    fn: Callable[[ToolOrchestrator, Service, HandClock], Awaitable[None]],
) -> Callable[[ToolOrchestrator, Service, HandClock], Awaitable[None]]:
    MOVES[fn.__name__] = fn
    return fn


@move
async def opened(orch: ToolOrchestrator, service: Service, clock: HandClock) -> None:
    await trip(orch, service)


@move
async def closed_again(orch: ToolOrchestrator, service: Service, clock: HandClock) -> None:
    await trip(orch, service)
    clock.turn(RESET)
    service.behaviour = succeed
    await orch.dispatch("tool")
    service.behaviour = fail
    await orch.dispatch("tool")  # a row has begun, and is to be kept


@move
async def opened_again(orch: ToolOrchestrator, service: Service, clock: HandClock) -> None:
    await trip(orch, service)
    clock.turn(RESET)
    service.behaviour = fail
    await orch.dispatch("tool")


@move
async def isolated(orch: ToolOrchestrator, service: Service, clock: HandClock) -> None:
    orch.circuit("tool").isolate()


@move
async def reset_by_hand(orch: ToolOrchestrator, service: Service, clock: HandClock) -> None:
    await trip(orch, service)
    orch.circuit("tool").reset()


async def finish_after(
    orch: ToolOrchestrator,
    service: Service,
    ending: Callable[[], Awaitable[Any]],
    meanwhile: Callable[[], Awaitable[None]],
    answer: str,
) -> Any:
    """
    A call that was admitted first, and what it answers after all that.
    """
    gate, answers = anyio.Event(), []

    async def slow() -> Any:
        await gate.wait()
        return await ending()

    async def caller() -> None:
        try:
            answers.append(await getattr(orch, answer)("tool"))
        except ConnectionError as error:
            answers.append(error)

    service.behaviour = slow
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller)
        await when_blocked()
        service.behaviour = succeed
        await meanwhile()
        circuit = orch.circuit("tool")
        before = (circuit.state, circuit.failures, circuit.breaker.generation)
        gate.set()
        await when_blocked()
        after = (circuit.state, circuit.failures, circuit.breaker.generation)
    assert after == before
    return answers[0]


@pytest.mark.parametrize("ending", [succeed, fail])
@pytest.mark.parametrize("moved", MOVES)
@pytest.mark.parametrize("answer", ["dispatch", "call", "run"])
async def test_a_call_that_the_circuit_has_left_behind_answers_and_moves_nothing(
    answer: str, moved: str, ending: Callable[[], Awaitable[Any]]
) -> None:
    clock = HandClock()
    orch, service = bench(clock)

    async def meanwhile() -> None:
        await MOVES[moved](orch, service, clock)

    got = await finish_after(orch, service, ending, meanwhile, answer)

    if answer == "run":
        assert got.late
        assert got.verdict is Verdict.IGNORE
        got = got.value if got.ok else got.error if got.error else got
    if ending is succeed:
        assert got == "fine"
    else:
        assert isinstance(got, ConnectionError) or "the service is down" in got
    assert orch.get_fleet_stats()["tool"]["late"] == 1
    assert_adds_up(orch)


@pytest.mark.parametrize("ending", [succeed, fail])
async def test_a_late_call_does_not_disturb_the_probe(
    ending: Callable[[], Awaitable[Any]],
) -> None:
    clock = HandClock()
    orch, service = bench(clock)
    probe = anyio.Event()

    async def probe_later() -> str:
        await probe.wait()
        return "fine"

    async with anyio.create_task_group() as tasks:

        async def meanwhile() -> None:
            await trip(orch, service)
            clock.turn(RESET)
            service.behaviour = probe_later
            tasks.start_soon(orch.dispatch, "tool")
            await when_blocked()
            assert orch.circuit("tool").state == "half_open"

        await finish_after(orch, service, ending, meanwhile, "run")
        assert orch.circuit("tool").state == "half_open"
        assert (await orch.run("tool")).state == "half_open"
        probe.set()

    assert orch.circuit("tool").state == "closed"
    assert orch.get_fleet_stats()["tool"]["late"] == 1


async def test_calls_that_fail_together_after_the_circuit_opened_are_late() -> None:
    orch, service = bench(HandClock())
    gate = anyio.Event()

    async def fail_together() -> None:
        await gate.wait()
        await fail()

    service.behaviour = fail_together
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        gate.set()

    figures = orch.get_fleet_stats()["tool"]
    assert (figures["state"], figures["failures"]) == ("open", 3)
    assert (figures["total_failures"], figures["late"]) == (10, 7)
    assert_adds_up(orch)


# Time


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
async def test_a_clock_that_never_tells_the_time_breaks_no_answer(odd: float) -> None:
    orch, service = bench(lambda: odd)
    service.behaviour = fail
    for _ in range(10):
        answer = json.loads(await orch.dispatch("tool"))
        assert "error" in answer
        if "retry_after" in answer:
            assert 0 <= answer["retry_after"] <= RESET

    assert_adds_up(orch)


async def test_a_clock_that_goes_back_keeps_what_was_left() -> None:
    clock = HandClock()
    orch, service = bench(clock)
    await trip(orch, service)
    clock.turn(100)
    assert (await orch.run("tool")).retry_after == RESET - 100

    clock.turn(-5000)
    assert (await orch.run("tool")).retry_after == RESET - 100
    clock.turn(RESET - 100)
    assert await orch.dispatch("tool") == "fine"


async def test_a_clock_that_goes_back_during_a_call_gives_no_negative_figures() -> None:
    clock = HandClock()
    orch, service = bench(clock)

    async def turn_back() -> str:
        clock.turn(-500)
        assert orch.get_fleet_stats()["tool"]["oldest_in_flight"] >= 0
        return "fine"

    service.behaviour = turn_back
    result = await orch.run("tool")
    await orch.dispatch("tool")

    assert result.duration >= 0
    assert orch.get_fleet_stats()["tool"]["avg_time"] >= 0


@virtual_time
async def test_an_open_circuit_needs_no_timer_to_be_probed() -> None:
    orch, service = bench(anyio.current_time)
    await trip(orch, service)
    await anyio.sleep(10 * RESET)
    assert orch.get_fleet_stats()["tool"]["state"] == "open"

    assert await orch.dispatch("tool") == "fine"


# Figures


ENDINGS = ["succeed", "fail", "error value", "ignored", "control flow", "exit", "hang"]

ACTS = st.lists(
    st.sampled_from(
        [
            *ENDINGS * 2,
            "invalid",
            "unbound",
            "isolate",
            "release",
            "disable",
            "reset",
            "pass",
            "pass",
            "finish one",
            "cancel one",
            "start one",
            "start one",
        ]
    ),
    max_size=30,
)


class Mix:
    """
    Calls of every kind, and what else may happen between them.
    """

    def __init__(self) -> None:
        self.clock = HandClock()
        policy = ToolPolicy(
            ignore=(LookupError,),
            control_flow=(InterruptedError,),
            timeout=5000,
            hang_after=400,
        )
        self.told: list[Any] = []
        self.orch, self.service = bench(
            self.clock, observers=[self.told.append], policy=policy, validate=False
        )
        self.scopes: list[anyio.CancelScope] = []
        self.gates: list[anyio.Event] = []

    async def end(self, how: str) -> Any:
        match how:
            case "fail":
                raise ConnectionError("down")
            case "error value":
                return {"error": "down"}
            case "ignored":
                raise KeyError("no such thing")
            case "control flow":
                raise InterruptedError
            case "exit":
                raise SystemExit(2)
            case "hang":
                await anyio.sleep_forever()
        return "fine"

    async def act(self, what: str, tasks: anyio.abc.TaskGroup) -> None:
        orch, circuit = self.orch, self.orch.circuit("tool")
        match what:
            case "isolate":
                circuit.isolate()
            case "release":
                circuit.unisolate()
            case "disable" | "reset":
                getattr(circuit, what)()
            case "pass":
                self.clock.turn(RESET / 2)
            case "invalid":
                await orch.dispatch("tool", "{")
            case "unbound":
                await orch.dispatch("tool", {"surprise": 1})
            case "start one":
                self.start(tasks)
                await when_blocked()
            case "finish one" if self.gates:
                self.gates.pop(0).set()
                await when_blocked()
            case "cancel one" if self.scopes:
                self.scopes.pop().cancel()
                await when_blocked()
            case "hang":
                self.service.behaviour = lambda: self.end("hang")
                with anyio.CancelScope() as scope:
                    tasks.start_soon(cancel_when_blocked, scope)
                    await orch.run("tool")
            case _:
                self.service.behaviour = lambda: self.end(what)
                with suppress(InterruptedError):
                    await orch.dispatch("tool")

    def start(self, tasks: anyio.abc.TaskGroup) -> None:
        scope, gate = anyio.CancelScope(), anyio.Event()
        self.scopes.append(scope)
        self.gates.append(gate)
        how = "fail" if len(self.gates) % 2 else "succeed"

        async def later() -> Any:
            await gate.wait()
            return await self.end(how)

        async def caller() -> None:
            with scope:
                await self.orch.dispatch("tool")

        self.service.behaviour = later
        tasks.start_soon(caller)


async def cancel_when_blocked(scope: anyio.CancelScope) -> None:
    await when_blocked()
    scope.cancel()


@settings(max_examples=40)
@given(acts=ACTS)
async def test_the_figures_add_up_after_any_mix(acts: list[str]) -> None:
    mix = Mix()
    async with anyio.create_task_group() as tasks:
        for act in acts:
            await mix.act(act, tasks)
            check(mix)
        tasks.cancel_scope.cancel()
    check(mix)

    assert mix.service.running == 0
    assert_adds_up(mix.orch)
    finished = [event for event in mix.told if isinstance(event, CallFinished)]
    rejected = [event for event in mix.told if isinstance(event, CallRejected)]
    if mix.orch.get_fleet_stats():
        figures = mix.orch.get_fleet_stats()["tool"]
        assert len(finished) == figures["calls"] == mix.service.runs
        assert len(rejected) == figures["rejected"] + figures["invalid"]
        assert sum(event.late for event in finished) == figures["late"]

    # And the circuit can be brought back by time and a success alone.
    circuit = mix.orch.circuit("tool")
    circuit.unisolate()
    mix.clock.turn(RESET + 5500)
    mix.service.behaviour = succeed
    assert await mix.orch.dispatch("tool") == "fine"
    assert circuit.state in ("closed", "disabled")


def check(mix: Mix) -> None:
    if mix.orch.get_fleet_stats():
        assert_adds_up(mix.orch, in_flight=mix.service.running)


# Memory, and what else a circuit is told


async def test_refusals_allocate_nothing_that_stays() -> None:
    orch, _ = bench(HandClock())
    for number in range(200):
        await orch.dispatch(f"unknown {number}")
        await orch.dispatch_all([ToolCall(f"unknown {number}")])

    assert orch.get_fleet_stats() == {}
    assert "0 circuits" in repr(orch)


async def test_a_limit_that_an_inner_tool_reaches_is_no_failure_of_the_outer() -> None:
    orch, service = bench(HandClock())

    async def limited() -> None:
        raise LimitExceededError(tool_name="inner", limit="threads", size=1, retry_after=1)

    service.behaviour = limited
    for _ in range(5):
        assert (await orch.run("tool")).verdict is Verdict.IGNORE

    assert orch.circuit("tool").failures == 0


async def test_arguments_that_an_inner_tool_refuses_are_the_outers_failure() -> None:
    orch, service = bench(HandClock())

    async def inner_refuses() -> None:
        raise InvalidArgumentsError(tool_name="inner")

    async def refuse() -> None:
        raise InvalidArgumentsError(tool_name="tool")

    service.behaviour = refuse
    assert (await orch.run("tool")).verdict is Verdict.IGNORE
    service.behaviour = inner_refuses
    assert (await orch.run("tool")).verdict is Verdict.FAILURE


async def test_a_circuit_goes_with_its_last_tool() -> None:
    registry, one, two = Registry(), Service(fail), Service()
    one.offer(registry, "one", circuit="shared")
    two.offer(registry, "two", circuit="shared")
    orch = ToolOrchestrator(registry, clock=HandClock())
    for _ in range(3):
        await orch.dispatch("one")
    registry.remove("one")
    assert orch.circuit("shared").state == "open"

    registry.remove("two")
    with pytest.raises(UnknownToolError):
        orch.circuit("shared")
    two.offer(registry, "two", circuit="shared")
    assert orch.circuit("shared").state == "closed"


async def test_a_call_whose_tool_is_removed_meanwhile_ends_as_ever() -> None:
    clock = HandClock()
    orch, service = bench(clock, policy=BreakerPolicy(failure_threshold=1))
    gate = anyio.Event()

    async def slow() -> str:
        await gate.wait()
        return "fine"

    service.behaviour = slow
    answers: list[str] = []

    async def caller() -> None:
        answers.append(await orch.dispatch("tool"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller)
        await when_blocked()
        orch.registry.remove("tool")
        gate.set()

    assert answers == ["fine"]
    assert orch.get_fleet_stats() == {}


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_tasks_that_begin_eagerly_are_cancelled_like_others() -> None:
    eager = getattr(asyncio, "eager_task_factory", None)
    if eager is None:
        pytest.skip("this Python has no eager tasks")
    orch, service = bench(HandClock())
    service.behaviour = anyio.sleep_forever
    asyncio.get_running_loop().set_task_factory(eager)
    task = asyncio.create_task(orch.dispatch("tool"))
    assert service.running == 1
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert orch.circuit("tool").failures == 0
    assert_adds_up(orch)


# Settings that change, and observers that answer back


async def test_a_tool_that_joins_an_open_circuit_with_a_shorter_time_is_told_the_truth() -> (
    None
):
    registry, clock = Registry(), HandClock()

    @registry.tool(circuit="db")
    async def read() -> str:
        raise ConnectionError("down")

    orch = ToolOrchestrator(registry, clock=clock, reset_timeout=300)
    for _ in range(3):
        await orch.dispatch("read")

    @registry.tool(circuit="db", policy=BreakerPolicy(reset_timeout=5))
    async def write() -> str:
        return "written"

    refused = await orch.run("write")
    assert refused.retry_after == 5
    clock.turn(refused.retry_after)
    assert await orch.dispatch("write") == "written"


def test_an_observer_that_isolates_what_was_lifted_ends_isolated() -> None:
    registry = Registry()
    registry.tool(name="tool")(succeed)
    orch = ToolOrchestrator(registry)
    states: list[str] = []

    def guard(event: Event) -> None:
        if isinstance(event, CircuitChanged):
            states.append(event.new)
            if event.new == "closed":
                orch.circuit("tool").isolate()

    orch.add_observer(guard)
    orch.circuit("tool").isolate()
    orch.circuit("tool").isolate()
    orch.circuit("tool").unisolate()
    assert states == ["isolated", "closed", "isolated"]
    assert orch.circuit("tool").state == "isolated"


async def test_an_isolation_during_a_probe_lets_no_second_one_in() -> None:
    clock = HandClock()
    orch, service = bench(clock)
    await trip(orch, service)
    clock.turn(300)
    gate = anyio.Event()

    async def wait() -> str:
        await gate.wait()
        return "fine"

    service.behaviour = wait
    async with anyio.create_task_group() as group:
        group.start_soon(orch.dispatch, "tool")
        await when_blocked()
        for _ in range(3):
            with orch.circuit("tool").isolate():
                pass
            assert (await orch.run("tool")).attempts == 0
        assert service.running == 1
        gate.set()
    assert orch.stats("tool").late == 1
    assert await orch.dispatch("tool") == "fine"
    assert orch.circuit("tool").state == "closed"
