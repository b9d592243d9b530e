"""
The probe of a half-open circuit: one at a time, and never one that wedges it.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import math
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, suppress
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from orchestrator_async import (
    BreakerPolicy,
    CircuitChanged,
    CircuitOpenError,
    Outcome,
    Registry,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
    Verdict,
)

from .clock import real_time, virtual_time
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

DEBUG = False

RESET = 300.0


async def about_to_probe(
    **options: Any,
) -> tuple[ToolOrchestrator, Service, HandClock]:
    """
    A circuit whose next caller is the probe.
    """
    clock = HandClock()
    orch, service = bench(clock, **options)
    await trip(orch, service)
    clock.turn(RESET)
    service.runs = 0
    return orch, service, clock


def moves(orch: ToolOrchestrator) -> list[str]:
    """
    The states that its circuits take from now on.
    """
    seen: list[str] = []

    def note(event: object) -> None:
        if isinstance(event, CircuitChanged):
            seen.append(str(event.new))

    orch.add_observer(note)
    return seen


async def assert_next_caller_closes(orch: ToolOrchestrator, service: Service) -> None:
    """
    The next call reaches the tool, now, and its success closes the circuit.
    """
    service.behaviour, before = succeed, service.runs
    assert await orch.dispatch("tool") == "fine"
    assert service.runs == before + 1
    assert orch.stats("tool").state == "closed"
    assert_adds_up(orch)


class Held:
    """
    A behaviour that waits, each time until it is let go.
    """

    def __init__(self) -> None:
        self.gates: list[anyio.Event] = []

    async def __call__(self) -> str:
        gate = anyio.Event()
        self.gates.append(gate)
        await gate.wait()
        return "fine"


# Who is let through


@pytest.mark.parametrize("answer", ["run", "dispatch", "call"])
async def test_of_a_thousand_callers_one_probes_and_none_waits_for_it(answer: str) -> None:
    orch, service, _ = await about_to_probe()
    service.behaviour = held = Held()
    refusals: list[float | None] = []
    fine: list[str] = []

    async def caller() -> None:
        if answer == "run":
            result = await orch.run("tool")
            text, wait = result.content, result.retry_after
        elif answer == "dispatch":
            text = await orch.dispatch("tool")
            wait = json.loads(text)["retry_after"] if text != "fine" else None
        else:
            try:
                text, wait = await orch.call("tool"), None
            except CircuitOpenError as error:
                text, wait = str(error), error.retry_after
        (fine if text == "fine" else refusals).append(wait or text)  # type: ignore[arg-type]

    async with anyio.create_task_group() as tasks:
        for _ in range(1000):
            tasks.start_soon(caller)
        await when_blocked()

        # The probe has not ended yet, and all the others have their answers.
        assert service.running == service.runs == 1
        assert len(refusals) == 999
        assert all(isinstance(each, (int, float)) for each in refusals)
        assert all(0 < each < math.inf for each in refusals)  # type: ignore[operator]
        assert orch.circuit("tool").state == "half_open"
        held.gates[0].set()

    assert fine == ["fine"]
    assert orch.circuit("tool").state == "closed"
    assert orch.get_fleet_stats()["tool"]["rejected"] == 999


async def test_of_a_thousand_calls_side_by_side_one_probes() -> None:
    orch, service, _ = await about_to_probe()
    service.behaviour = held = Held()
    results: list[ToolResult] = []

    async def turn() -> None:
        calls = [{"type": "tool_use", "id": "1", "name": "tool", "input": {}}] * 1000
        results.extend(await orch.dispatch_all(calls, limit=None))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        await when_blocked()
        assert service.running == 1
        held.gates[0].set()

    assert service.runs == 1
    assert sum(result.ok for result in results) == 1
    waits = [result.retry_after for result in results if not result.ok]
    assert len(waits) == 999
    assert all(wait is not None and 0 < wait < math.inf for wait in waits)


async def test_a_caller_with_bad_arguments_does_not_become_the_probe() -> None:
    orch, service, _ = await about_to_probe()

    result = await orch.run("tool", {"surprise": 1})

    assert not result.ok
    assert result.attempts == 0
    assert orch.circuit("tool").state == "open"
    await assert_next_caller_closes(orch, service)


async def test_arguments_that_do_not_bind_give_the_probes_place_back() -> None:
    orch, service, _ = await about_to_probe(validate=False)
    service.behaviour = succeed

    result = await orch.run("tool", {"surprise": 1})

    assert result.attempts == 0
    assert result.verdict is Verdict.IGNORE
    assert service.runs == 0
    assert orch.circuit("tool").state == "half_open"
    await assert_next_caller_closes(orch, service)


# How a probe ends


async def test_a_cancelled_probe_gives_no_verdict_and_the_next_caller_probes() -> None:
    orch, service, _ = await about_to_probe()
    service.behaviour = Held()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        assert service.running == 1
        tasks.cancel_scope.cancel()

    assert orch.circuit("tool").state == "half_open"
    assert orch.circuit("tool").failures == 3
    assert orch.get_fleet_stats()["tool"]["cancelled"] == 1
    await assert_next_caller_closes(orch, service)


async def test_probes_that_are_all_cancelled_never_wedge_the_circuit() -> None:
    orch, service, _ = await about_to_probe(timeout=1000)
    for _ in range(10):
        service.behaviour = Held()
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(orch.dispatch, "tool")
            await when_blocked()
            assert service.running == 1
            tasks.cancel_scope.cancel()

    assert service.runs == 10
    await assert_next_caller_closes(orch, service)


async def test_a_probe_in_a_scope_that_is_cancelled_already_gives_its_place_back() -> None:
    orch, service, _ = await about_to_probe()
    service.behaviour = Held()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await orch.dispatch("tool")

    assert scope.cancelled_caught
    assert service.running == 0
    assert orch.circuit("tool").failures == 3
    await assert_next_caller_closes(orch, service)


async def test_a_probe_that_times_out_opens_the_circuit_again() -> None:
    orch, service, clock = await about_to_probe(timeout=0.01)
    service.behaviour = Held()
    result = await orch.run("tool")

    assert result.verdict is Verdict.FAILURE
    assert not result.late
    assert orch.circuit("tool").state == "open"
    assert (await orch.run("tool")).retry_after == RESET
    clock.turn(RESET)
    await assert_next_caller_closes(orch, service)


@virtual_time
async def test_a_probe_that_times_out_votes_within_its_lease_and_is_alone() -> None:
    orch, service = bench(anyio.current_time, timeout=10)
    await trip(orch, service)
    service.behaviour, service.runs, service.most_running = Held(), 0, 0
    seen = moves(orch)

    async def caller() -> None:
        while True:
            await orch.dispatch("tool")
            await anyio.sleep(0.7)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(caller)
        await anyio.sleep(2000)
        tasks.cancel_scope.cancel()

    assert service.runs >= 6
    assert service.most_running == 1
    assert seen[:12] == ["half_open", "open"] * 6
    assert orch.get_fleet_stats()["tool"]["late"] == 0


@virtual_time
async def test_a_probe_that_cleans_up_past_its_timeout_is_alone_within_its_lease() -> None:
    orch, service = bench(anyio.current_time, timeout=10)
    await trip(orch, service)
    await anyio.sleep(RESET)
    service.most_running = 0

    async def slow_to_leave() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.9)

    service.behaviour = slow_to_leave
    async with anyio.create_task_group() as tasks:
        for _ in range(12):
            tasks.start_soon(orch.dispatch, "tool")
            await anyio.sleep(1)

    assert service.most_running == 1
    assert orch.circuit("tool").state == "open"


ENDS_IN_FAILURE: dict[str, Callable[[], Any]] = {}


def ends_in_failure(behaviour: Callable[[], Any]) -> Callable[[], Any]:
    ENDS_IN_FAILURE[behaviour.__name__] = behaviour
    return behaviour


@ends_in_failure
async def raises() -> None:
    raise ValueError("no")


@ends_in_failure
async def returns_an_error() -> dict[str, str]:
    return {"error": "the service is down"}


@ends_in_failure
async def returns_what_json_cannot_hold() -> object:
    return object()


@ends_in_failure
async def exits() -> None:
    sys.exit(2)


@ends_in_failure
async def raises_a_group() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail)
        tasks.start_soon(anyio.sleep_forever)


@ends_in_failure
async def raises_what_cannot_be_shown() -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    raise Rude


@pytest.mark.parametrize("behaviour", ENDS_IN_FAILURE.values(), ids=ENDS_IN_FAILURE)
async def test_a_probe_that_fails_opens_the_circuit_again(
    behaviour: Callable[[], Any],
) -> None:
    orch, service, clock = await about_to_probe()
    service.behaviour = behaviour

    result = await orch.run("tool")

    assert result.verdict is Verdict.FAILURE
    assert orch.circuit("tool").state == "open"
    clock.turn(RESET)
    await assert_next_caller_closes(orch, service)


class Interrupt(BaseException):
    pass


class Approval(Exception):
    pass


async def test_a_probe_that_raises_an_ignored_type_gives_no_verdict() -> None:
    orch, service, _ = await about_to_probe(policy=ToolPolicy(ignore=(LookupError,)))

    service.behaviour = not_found
    result = await orch.run("tool")

    assert result.verdict is Verdict.IGNORE
    assert orch.circuit("tool").state == "half_open"
    await assert_next_caller_closes(orch, service)


@pytest.mark.parametrize("raised", [Approval, Interrupt, KeyboardInterrupt, GeneratorExit])
async def test_what_goes_up_out_of_a_probe_gives_its_place_back(
    raised: type[BaseException],
) -> None:
    orch, service, _ = await about_to_probe(policy=ToolPolicy(control_flow=(Approval,)))

    async def interrupt() -> None:
        raise raised

    service.behaviour = interrupt
    with pytest.raises(raised):
        await orch.dispatch("tool")

    assert orch.circuit("tool").state == "half_open"
    assert orch.circuit("tool").failures == 3
    await assert_next_caller_closes(orch, service)


class Unspeakable(Exception):
    """
    Interrupted while it says what it is.
    """

    def __str__(self) -> str:
        raise KeyboardInterrupt


async def test_an_interrupt_in_an_errors_text_gives_the_probes_place_back() -> None:
    orch, service, _ = await about_to_probe()

    async def behave() -> None:
        raise Unspeakable

    service.behaviour = behave
    with pytest.raises(KeyboardInterrupt):
        await orch.dispatch("tool")

    await assert_next_caller_closes(orch, service)


async def test_an_interrupt_in_a_judge_gives_the_probes_place_back() -> None:
    interrupted = False

    def judge(outcome: Outcome) -> None:
        if interrupted:
            raise KeyboardInterrupt

    orch, service, _ = await about_to_probe(judge=judge)
    interrupted = True
    with pytest.raises(KeyboardInterrupt):
        await orch.dispatch("tool")

    interrupted = False
    assert orch.circuit("tool").state == "half_open"
    await assert_next_caller_closes(orch, service)


async def not_found() -> None:
    raise KeyError("no such city")


async def unspeakable() -> None:
    raise Unspeakable


@virtual_time
@pytest.mark.parametrize(
    "behaviour", [succeed, fail, not_found, unspeakable, anyio.sleep_forever]
)
@pytest.mark.parametrize("patience", [1.0, 60.0])
async def test_however_a_call_of_the_probe_ends_the_probe_keeps_its_place(
    behaviour: Callable[[], Any], patience: float
) -> None:
    policy = ToolPolicy(ignore=(KeyError,), hang_after=30)
    orch, service, _ = await about_to_probe(circuit="both", timeout=20, policy=policy)
    inside, go_on = anyio.Event(), anyio.Event()

    @orch.registry.tool(circuit="both")
    async def outer() -> str:
        service.behaviour = behaviour
        with anyio.move_on_after(patience), suppress(KeyboardInterrupt):
            await orch.dispatch("tool")
        inside.set()
        await go_on.wait()
        return "fine"

    async with anyio.create_task_group() as group:
        group.start_soon(orch.dispatch, "outer")
        await inside.wait()
        assert service.runs == 1
        assert orch.stats("outer").state == "half_open"
        refused = json.loads(await orch.dispatch("tool"))
        go_on.set()
    assert refused["state"] == "half_open"
    assert service.runs == 1
    assert orch.stats("outer").state == "closed"
    assert_adds_up(orch)


@pytest.mark.parametrize("name", ["tool", "plain"])
async def test_an_interrupt_in_an_observer_of_the_claim_leaves_the_place_free(
    name: str,
) -> None:
    orch, service, _ = await about_to_probe(circuit="both")

    @orch.registry.tool(circuit="both")
    def plain() -> str:
        raise AssertionError("its thread is never begun")

    def interrupted(event: object) -> None:
        if isinstance(event, CircuitChanged):
            raise KeyboardInterrupt

    orch.add_observer(interrupted)
    with pytest.raises(KeyboardInterrupt):
        await orch.dispatch(name)
    orch.remove_observer(interrupted)

    slots = orch._fleet.entry(orch.registry["plain"]).slots
    assert slots is not None
    assert slots.taken == 0
    assert service.runs == 0
    assert orch.circuit("both").state == "half_open"
    await assert_next_caller_closes(orch, service)


async def test_a_probe_leaves_nothing_in_its_callers_context() -> None:
    orch, _, _ = await about_to_probe(timeout=20)
    before = dict(contextvars.copy_context())
    assert await orch.dispatch("tool") == "fine"
    assert orch.circuit("tool").state == "closed"
    assert dict(contextvars.copy_context()) == before


@pytest.mark.parametrize("behaviour", [succeed, fail])
async def test_a_probe_whose_judge_raises_is_judged_without_it(
    behaviour: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    def judge(outcome: Outcome) -> bool:
        raise RuntimeError("the judge is ill")

    orch, service, clock = await about_to_probe(judge=judge)
    service.behaviour = behaviour

    result = await orch.run("tool")

    assert result.ok == (behaviour is succeed)
    assert orch.circuit("tool").state == ("closed" if behaviour is succeed else "open")
    assert "the judge is ill" in caplog.text
    clock.turn(RESET)
    await assert_next_caller_closes(orch, service)


async def test_a_probe_whose_value_predicate_raises_is_judged_without_it() -> None:
    def is_failure(value: Any) -> bool:
        raise RuntimeError("the predicate is ill")

    orch, service, _ = await about_to_probe(is_failure=is_failure)
    service.behaviour = succeed

    assert await orch.dispatch("tool") == "fine"

    assert orch.circuit("tool").state == "closed"


@pytest.mark.parametrize("behaviour", [succeed, fail])
async def test_a_probe_whose_observer_raises_votes_all_the_same(
    behaviour: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    orch, service, clock = await about_to_probe()
    service.behaviour = behaviour

    def observer(event: object) -> None:
        raise RuntimeError("the observer is ill")

    orch.add_observer(observer)
    result = await orch.run("tool")

    assert result.ok == (behaviour is succeed)
    assert orch.circuit("tool").state == ("closed" if behaviour is succeed else "open")
    assert caplog.text.count("RuntimeError: the observer is ill") == 1
    clock.turn(RESET)
    await assert_next_caller_closes(orch, service)


@pytest.mark.parametrize("when", ["half_open", "closed", "open", "finished"])
async def test_a_probe_whose_observer_interrupts_does_not_wedge_the_circuit(
    when: str,
) -> None:
    orch, service, clock = await about_to_probe()
    service.behaviour = fail if when == "open" else succeed

    def observer(event: object) -> None:
        if getattr(event, "new", "finished") == when:
            raise Interrupt

    orch.add_observer(observer)
    with pytest.raises(Interrupt):
        await orch.dispatch("tool")
    orch.remove_observer(observer)

    assert_adds_up(orch)
    clock.turn(RESET)
    await assert_next_caller_closes(orch, service)


async def test_a_probe_that_never_returns_is_followed_by_another_past_its_lease() -> None:
    lease = 20.0
    orch, service, clock = await about_to_probe(policy=BreakerPolicy(probe_lease=lease))
    service.behaviour = held = Held()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        clock.turn(lease - 0.5)
        refused = await orch.run("tool")
        assert (refused.state, refused.retry_after) == ("half_open", 0.5)
        assert service.runs == 1

        clock.turn(0.5)
        service.behaviour = succeed
        assert await orch.dispatch("tool") == "fine"
        assert orch.circuit("tool").state == "closed"

        assert len(held.gates) == 1
        tasks.cancel_scope.cancel()

    assert orch.get_fleet_stats()["tool"]["late"] == 1
    assert_adds_up(orch)


@pytest.mark.parametrize(
    ("timeout", "lease"), [(1.0, 2.0), (5.0, 6.0), (100.0, 110.0), (None, RESET)]
)
async def test_a_lease_is_the_timeout_and_a_grace(
    timeout: float | None, lease: float
) -> None:
    orch, service, clock = await about_to_probe()
    registry = Registry()
    service.offer(registry, timeout=timeout)
    orch = ToolOrchestrator(registry, clock=clock)
    await trip(orch, service)
    clock.turn(RESET)
    ready = anyio.Event()

    async def shielded() -> None:
        with anyio.CancelScope(shield=True):
            await ready.wait()

    service.behaviour = shielded
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        breaker = orch.circuit("tool").breaker
        refusal = breaker.refusal(clock(), average=math.inf)
        assert refusal is not None
        assert refusal.retry_after == pytest.approx(lease)
        ready.set()


# Probes that are slower than their lease


async def test_a_slow_probes_success_closes_the_circuit_among_steady_callers() -> None:
    orch, service, clock = await about_to_probe(policy=BreakerPolicy(probe_lease=10))
    service.behaviour = held = Held()
    async with anyio.create_task_group() as tasks:
        for number in range(1, 4):
            for _ in range(5):
                tasks.start_soon(orch.dispatch, "tool")
            await when_blocked()
            assert len(held.gates) == number  # one more each lease, in place of the last
            clock.turn(10)
        held.gates[0].set()
        await when_blocked()

        assert orch.circuit("tool").state == "closed"
        for gate in held.gates[1:]:
            gate.set()

    assert orch.circuit("tool").state == "closed"
    figures = orch.get_fleet_stats()["tool"]
    assert (figures["successes"], figures["late"]) == (3, 2)


@virtual_time
async def test_a_tool_of_three_leases_closes_with_its_first_success() -> None:
    orch, service = bench(anyio.current_time, policy=BreakerPolicy(probe_lease=10))
    await trip(orch, service)
    await anyio.sleep(RESET)
    seen = moves(orch)
    closed_after: list[float] = []
    start = anyio.current_time()

    async def healthy() -> str:
        await anyio.sleep(30)
        return "fine"

    async def caller() -> None:
        while orch.circuit("tool").state != "closed":
            text = await orch.dispatch("tool")
            if text == "fine" and not closed_after:
                closed_after.append(anyio.current_time() - start)
            await anyio.sleep(1)

    service.behaviour = healthy
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(caller)

    assert seen == ["half_open", "closed"]
    assert closed_after == [pytest.approx(30)]


@pytest.mark.parametrize("ending", ["fails", "is cancelled"])
async def test_an_expired_probe_that_does_not_succeed_leaves_the_next_alone(
    ending: str,
) -> None:
    orch, service, clock = await about_to_probe(policy=BreakerPolicy(probe_lease=10))
    first = anyio.Event()

    async def fail_later() -> None:
        await first.wait()
        await fail()

    service.behaviour = fail_later
    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()

        async def probe() -> None:
            with scope:
                await orch.dispatch("tool")

        tasks.start_soon(probe)
        await when_blocked()
        clock.turn(10)
        service.behaviour = held = Held()
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        if ending == "fails":
            first.set()
        else:
            scope.cancel()
        await when_blocked()

        assert service.running == 1
        assert orch.circuit("tool").state == "half_open"
        assert (await orch.run("tool")).state == "half_open"
        assert service.runs == 2
        held.gates[0].set()

    assert orch.circuit("tool").state == "closed"
    assert orch.get_fleet_stats()["tool"]["late"] == 1


# Tools that nobody waits for long enough


async def give_up(orch: ToolOrchestrator, clock: HandClock, seconds: float) -> None:
    """
    Call the tool, and let go of it after so many seconds.
    """
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        clock.turn(seconds)
        tasks.cancel_scope.cancel()


async def test_a_tool_that_is_given_up_as_hung_opens_its_circuit() -> None:
    clock = HandClock()
    orch, service = bench(clock, policy=ToolPolicy(hang_after=20))
    service.behaviour = Held()
    for _ in range(5):
        await give_up(orch, clock, 19.9)
    assert orch.circuit("tool").failures == 0

    for _ in range(3):
        assert orch.circuit("tool").state == "closed"
        await give_up(orch, clock, 20)

    assert orch.circuit("tool").state == "open"
    figures = orch.get_fleet_stats()["tool"]
    assert (figures["cancelled"], figures["total_failures"]) == (5, 3)
    assert_adds_up(orch)


async def test_a_probe_that_is_given_up_as_hung_opens_its_circuit_again() -> None:
    orch, service, clock = await about_to_probe(policy=ToolPolicy(hang_after=20))
    service.behaviour = Held()

    await give_up(orch, clock, 20)

    assert orch.circuit("tool").state == "open"
    clock.turn(RESET)
    await assert_next_caller_closes(orch, service)


@virtual_time
@pytest.mark.parametrize("share", [0.96, 1.0])
@pytest.mark.parametrize("answer", ["dispatch", "call", "run"])
async def test_a_hung_tool_whose_callers_wait_as_long_as_its_timeout_opens(
    share: float, answer: str
) -> None:
    orch, service = bench(anyio.current_time, timeout=10)
    service.behaviour = Held()
    for _ in range(3):
        assert orch.circuit("tool").state == "closed"
        with anyio.move_on_after(10 * share) as scope:
            await getattr(orch, answer)("tool")
            await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught

    assert orch.circuit("tool").state == "open"


@virtual_time
async def test_a_hung_tool_without_a_timeout_opens_by_its_impatient_callers() -> None:
    orch, service = bench(anyio.current_time, policy=ToolPolicy(hang_after=5))
    service.behaviour = Held()
    for _ in range(3):
        with anyio.move_on_after(6) as scope:
            await orch.dispatch("tool")
        assert scope.cancelled_caught

    assert orch.circuit("tool").state == "open"


@virtual_time
async def test_callers_more_impatient_than_that_say_nothing_of_a_tool() -> None:
    orch, service = bench(anyio.current_time, timeout=10)
    service.behaviour = Held()
    for _ in range(10):
        with anyio.move_on_after(9) as scope:
            await orch.dispatch("tool")
        assert scope.cancelled_caught

    assert (orch.circuit("tool").state, orch.circuit("tool").failures) == ("closed", 0)


# Tools that call tools


def nesting(
    clock: HandClock, *, circuit: str | None, by: str
) -> tuple[ToolOrchestrator, Service, Service]:
    """
    ``outer`` calls ``inner``, on one circuit or on two.
    """
    registry, inner, outer = Registry(), Service(), Service()
    inner.offer(registry, "inner", circuit=circuit)
    outer.offer(registry, "outer", circuit=circuit)
    orch = ToolOrchestrator(registry, clock=clock)

    async def call_inner() -> Any:
        return await getattr(orch, by)("inner")

    outer.behaviour = call_inner
    return orch, outer, inner


@pytest.mark.parametrize("by", ["dispatch", "call"])
async def test_a_probe_may_call_a_tool_of_its_own_circuit(by: str) -> None:
    clock = HandClock()
    orch, _, inner = nesting(clock, circuit="shared", by=by)
    inner.behaviour = fail
    for _ in range(3):
        await orch.dispatch("inner")
    assert orch.circuit("shared").state == "open"
    clock.turn(RESET)
    inner.behaviour = succeed

    assert await orch.dispatch("outer") == "fine"

    assert orch.circuit("shared").state == "closed"
    assert orch.circuit("shared").failures == 0
    assert_adds_up(orch)


@pytest.mark.parametrize("by", ["dispatch", "call"])
async def test_a_failure_within_a_probe_is_the_probes_to_judge(by: str) -> None:
    clock = HandClock()
    orch, outer, inner = nesting(clock, circuit="shared", by=by)
    inner.behaviour = fail
    for _ in range(3):
        await orch.dispatch("inner")
    clock.turn(RESET)
    rest = outer.behaviour

    async def recover() -> str:
        result = await orch.run("inner")
        assert not result.ok
        assert orch.circuit("shared").state == "half_open"
        return "made up without it"

    outer.behaviour = recover
    assert await orch.dispatch("outer") == "made up without it"
    assert orch.circuit("shared").state == "closed"

    outer.behaviour = rest
    for _ in range(3):
        await orch.dispatch("inner")
    clock.turn(RESET)
    await orch.dispatch("outer")
    assert orch.circuit("shared").state == "open"
    assert_adds_up(orch)


async def test_a_probe_may_call_many_tools_of_its_circuit_at_one_time() -> None:
    clock = HandClock()
    orch, outer, inner = nesting(clock, circuit="shared", by="call")
    inner.behaviour = fail
    for _ in range(3):
        await orch.dispatch("inner")
    clock.turn(RESET)
    inner.behaviour = succeed

    async def fan_out() -> str:
        results = await orch.dispatch_all([{"function": {"name": "inner"}}] * 5)
        assert all(result.ok for result in results)
        return "fine"

    outer.behaviour = fan_out
    assert await orch.dispatch("outer") == "fine"
    assert orch.circuit("shared").state == "closed"


async def test_a_tool_may_call_itself_while_it_probes() -> None:
    orch, service, _ = await about_to_probe()

    async def again() -> str:
        if service.runs == 1:
            return str(await orch.call("tool"))
        return "fine"

    service.behaviour = again
    assert await orch.dispatch("tool") == "fine"

    assert service.runs == 2
    assert orch.circuit("tool").state == "closed"


@pytest.mark.parametrize("by", ["dispatch", "call"])
@pytest.mark.parametrize("probing", [True, False])
async def test_the_refusal_of_an_inner_tool_is_no_failure_of_the_outer(
    by: str, probing: bool
) -> None:
    clock = HandClock()
    orch, outer, inner = nesting(clock, circuit=None, by=by)
    call_inner = outer.behaviour
    if probing:
        await trip(orch, outer, "outer")
        clock.turn(RESET)
    before = orch.circuit("outer").failures
    await trip(orch, inner, "inner")
    outer.behaviour = call_inner

    for _ in range(5):
        result = await orch.run("outer")
        assert result.verdict is Verdict.IGNORE
        assert json.loads(result.content)["error"]
    assert inner.runs == 3
    assert orch.circuit("outer").state == ("half_open" if probing else "closed")
    assert orch.circuit("outer").failures == before

    clock.turn(RESET)
    assert await orch.dispatch("outer") == "fine"
    assert orch.circuit("outer").state == orch.circuit("inner").state == "closed"
    assert_adds_up(orch)


async def test_inner_refusals_out_of_a_task_group_are_no_failure_of_the_outer() -> None:
    clock = HandClock()
    orch, outer, inner = nesting(clock, circuit=None, by="call")
    await trip(orch, inner, "inner")

    async def side_by_side() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(orch.call, "inner")
            tasks.start_soon(orch.call, "inner")

    outer.behaviour = side_by_side
    for _ in range(5):
        await orch.dispatch("outer")

    assert orch.circuit("outer").failures == 0


@pytest.mark.parametrize("by", ["dispatch", "call"])
async def test_both_circuits_probe_at_one_time(by: str) -> None:
    clock = HandClock()
    orch, outer, inner = nesting(clock, circuit=None, by=by)
    call_inner = outer.behaviour
    await trip(orch, outer, "outer")
    await trip(orch, inner, "inner")
    clock.turn(RESET)
    outer.behaviour, inner.behaviour = call_inner, Held()
    held = inner.behaviour
    assert isinstance(held, Held)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "outer")
        await when_blocked()
        assert orch.circuit("outer").state == orch.circuit("inner").state == "half_open"
        assert (await orch.run("inner")).state == "half_open"
        assert (await orch.run("outer")).state == "half_open"
        held.gates[0].set()

    assert orch.circuit("outer").state == orch.circuit("inner").state == "closed"


async def test_two_probes_that_call_each_other_are_not_deadlocked() -> None:
    clock = HandClock()
    registry, one, two = Registry(), Service(), Service()
    one.offer(registry, "one")
    two.offer(registry, "two")
    orch = ToolOrchestrator(registry, clock=clock)
    await trip(orch, one, "one")
    await trip(orch, two, "two")
    clock.turn(RESET)
    both = anyio.Event()

    async def call_two() -> Any:
        await both.wait()
        return await orch.call("two")

    async def call_one() -> Any:
        await both.wait()
        return await orch.call("one")

    one.behaviour, two.behaviour = call_two, call_one
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "one")
        tasks.start_soon(orch.dispatch, "two")
        await when_blocked()
        both.set()

    assert orch.circuit("one").state == orch.circuit("two").state == "half_open"
    one.behaviour, two.behaviour = succeed, succeed
    assert await orch.dispatch("one") == await orch.dispatch("two") == "fine"
    assert orch.circuit("one").state == orch.circuit("two").state == "closed"


async def test_what_a_probe_leaves_behind_has_no_right_to_later_probes() -> None:
    orch, service, clock = await about_to_probe()
    go_on = anyio.Event()
    states: list[str | None] = []

    async def left_behind() -> None:
        await go_on.wait()
        states.append((await orch.run("tool")).state)

    async with anyio.create_task_group() as tasks:

        async def spawn_and_fail() -> None:
            tasks.start_soon(left_behind)
            await fail()

        service.behaviour = spawn_and_fail
        await orch.dispatch("tool")
        clock.turn(RESET)
        service.behaviour = held = Held()
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        go_on.set()
        await when_blocked()
        assert states == ["half_open"]
        assert service.running == 1
        held.gates[0].set()


async def test_a_slow_probe_that_calls_its_own_circuit_past_its_lease_can_close_it() -> (
    None
):
    clock = HandClock()
    registry, inner, outer = Registry(), Service(), Service()
    policy = BreakerPolicy(probe_lease=10)
    inner.offer(registry, "inner", circuit="shared", policy=policy)
    outer.offer(registry, "outer", circuit="shared", policy=policy)
    orch = ToolOrchestrator(registry, clock=clock)
    inner.behaviour = fail
    for _ in range(3):
        await orch.dispatch("inner")
    clock.turn(RESET)
    inner.behaviour = succeed
    held = Held()

    async def slow() -> Any:
        await held()
        return await orch.call("inner")

    outer.behaviour = slow
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(orch.dispatch, "outer")
            await when_blocked()
            assert len(held.gates) == number + 1
            clock.turn(10)
        tasks.start_soon(orch.dispatch, "outer")
        await when_blocked()
        held.gates[0].set()
        await when_blocked()

        assert orch.circuit("shared").state == "closed"
        tasks.cancel_scope.cancel()


# Probes whose coroutine just ends


class Stuck:
    """
    An awaitable that no loop knows of, so that it can be driven by hand.
    """

    def __await__(self) -> Generator[None, None, None]:
        yield


async def stay() -> None:
    await Stuck()


async def wait_for_nobody() -> None:
    """
    Wait for what nobody else knows of: nothing then keeps the task that waits.
    """
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("timeout", [None, 1000.0])
@pytest.mark.parametrize("answer", ["dispatch", "call", "run"])
@pytest.mark.parametrize("probing", [True, False])
async def test_a_call_that_is_closed_half_way_gives_its_place_back(
    timeout: float | None, answer: str, probing: bool
) -> None:
    clock = HandClock()
    orch, service = bench(clock, timeout=timeout)
    if probing:
        await trip(orch, service)
        clock.turn(RESET)
    failures = orch.circuit("tool").failures
    service.behaviour = stay

    coroutine = getattr(orch, answer)("tool")
    coroutine.send(None)
    coroutine.close()

    assert service.running == 0
    assert orch.circuit("tool").failures == failures
    assert_adds_up(orch)
    await assert_next_caller_closes(orch, service)


@pytest.mark.parametrize("clock", ["by hand", "of the loop"])
@pytest.mark.parametrize(
    ("how", "timeout"),
    # Anyio itself keeps a task that is within a scope from being collected.
    [("closed", None), ("closed", 1000.0), ("collected", None)],
)
def test_a_probe_whose_loop_is_gone_gives_its_place_back(
    how: str, timeout: float | None, clock: str
) -> None:
    hand = HandClock()
    orch, service = bench(
        hand if clock == "by hand" else anyio.current_time,
        timeout=timeout,
        policy=BreakerPolicy(reset_timeout=0.001),
    )
    tasks: list[asyncio.Task[str]] = []

    async def start_probe() -> None:
        await trip(orch, service)
        hand.turn(RESET)
        await asyncio.sleep(0.01)
        service.behaviour = wait_for_nobody
        tasks.append(asyncio.create_task(orch.dispatch("tool")))
        await when_blocked()
        assert service.running == 1

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    loop.run_until_complete(start_probe())
    assert orch.circuit("tool").state == "half_open"
    if how == "closed":
        coroutine = tasks[0].get_coro()
        assert asyncio.iscoroutine(coroutine)
        coroutine.close()
    loop.close()
    service.behaviour = succeed
    tasks.clear()
    gc.collect()

    assert service.running == 0
    assert orch.circuit("tool").failures == 3
    anyio.run(assert_next_caller_closes, orch, service)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "asyncio+uvloop"], indirect=True)
async def test_a_probe_whose_task_is_collected_gives_no_verdict() -> None:
    orch, service, _ = await about_to_probe()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    service.behaviour = wait_for_nobody
    task = asyncio.create_task(orch.dispatch("tool"))
    await when_blocked()
    assert service.running == 1
    service.behaviour = succeed
    del task
    gc.collect()

    assert service.running == 0
    assert orch.circuit("tool").state == "half_open"
    assert orch.circuit("tool").failures == 3
    await assert_next_caller_closes(orch, service)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "asyncio+uvloop"], indirect=True)
@pytest.mark.parametrize("timeout", [None, 1000.0])
async def test_a_probe_that_another_task_closes_gives_no_verdict(
    timeout: float | None,
) -> None:
    orch, service, _ = await about_to_probe(timeout=timeout)
    service.behaviour = stay
    coroutine = orch.dispatch("tool")

    async def begin() -> None:
        coroutine.send(None)

    await asyncio.create_task(begin())
    coroutine.close()

    assert orch.circuit("tool").failures == 3
    await assert_next_caller_closes(orch, service)


@pytest.mark.parametrize("timeout", [None, 1000.0])
@pytest.mark.parametrize("answer", ["dispatch", "run"])
async def test_an_error_of_a_generator_that_the_tool_closes_is_the_tools_own(
    timeout: float | None, answer: str
) -> None:
    orch, service = bench(HandClock(), timeout=timeout)

    async def rows() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            raise ConnectionError("the cursor was gone")

    async def read_one_row() -> int:
        async with aclosing(rows()) as cursor:
            async for row in cursor:
                return row
        raise AssertionError

    service.behaviour = read_one_row
    for _ in range(3):
        await getattr(orch, answer)("tool")

    assert orch.circuit("tool").state == "open"
    assert_adds_up(orch)


# Probes in threads


@real_time
async def test_a_threaded_probe_that_is_given_up_gives_its_place_back_at_once() -> None:
    clock = HandClock()
    registry = Registry()
    let_go, entered = threading.Event(), threading.Event()
    mood = ["fails"]

    @registry.tool
    def tool() -> str:
        if mood[0] == "fails":
            raise ConnectionError("down")
        if mood[0] == "hangs":
            entered.set()
            let_go.wait(10)
        return "fine"

    orch = ToolOrchestrator(registry, clock=clock)
    for _ in range(3):
        await orch.dispatch("tool")
    clock.turn(RESET)
    mood[0] = "hangs"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await anyio.to_thread.run_sync(entered.wait, 10)
        assert (await orch.run("tool")).state == "half_open"
        tasks.cancel_scope.cancel()

    mood[0] = "works"
    assert orch.circuit("tool").state == "half_open"
    assert await orch.dispatch("tool") == "fine"
    assert orch.circuit("tool").state == "closed"
    let_go.set()
    assert_adds_up(orch)


@real_time
async def test_a_threaded_probe_may_call_tools_of_its_own_circuit() -> None:
    clock = HandClock()
    registry, inner = Registry(), Service(fail)
    inner.offer(registry, "inner", circuit="shared")

    @registry.tool(circuit="shared")
    def outer() -> Any:
        return anyio.from_thread.run(orch.call, "inner")

    orch = ToolOrchestrator(registry, clock=clock)
    for _ in range(3):
        await orch.dispatch("inner")
    clock.turn(RESET)
    inner.behaviour = succeed

    assert await orch.dispatch("outer") == "fine"
    assert orch.circuit("shared").state == "closed"
