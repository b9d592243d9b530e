"""
What observers are told, and what is logged.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from typing import Any

import anyio
import pytest

from orchestrator_async import (
    CallFinished,
    CallRejected,
    CircuitChanged,
    CircuitState,
    Registry,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
    UnknownToolError,
    Verdict,
)

from .clock import real_time


class Watched:
    """
    An orchestrator whose clock stands still until it is moved, and what it tells.
    """

    def __init__(self, **options: Any) -> None:
        self.now = 0.0
        self.events: list[Any] = []
        self.ill = False
        registry = Registry()
        registry.tool(self.tool)
        self.orch = ToolOrchestrator(
            registry,
            failure_threshold=2,
            reset_timeout=10,
            clock=lambda: self.now,
            observers=[self.events.append],
            **options,
        )

    async def tool(self, x: int = 1) -> dict[str, int]:
        self.now += 0.5
        if self.ill:
            raise RuntimeError("no")
        return {"x": x}


async def test_a_finished_call_is_told_with_everything_by_reference() -> None:
    watched = Watched()
    args = {"x": 3}
    given = object()
    value = await watched.orch.call("tool", args, call_id="c1", given=given)
    (event,) = watched.events
    assert isinstance(event, CallFinished)
    assert event.arguments is args
    assert event.context["given"] is given
    assert event.value is value
    assert (event.tool_name, event.call_id) == ("tool", "c1")
    assert (event.verdict, event.late, event.duration) == (Verdict.SUCCESS, False, 0.5)
    assert (event.error, event.state) == (None, CircuitState.CLOSED)


async def test_a_failed_call_is_told_with_its_error() -> None:
    watched = Watched()
    watched.ill = True
    result = await watched.orch.run("tool", '{"x": 3}')
    (event,) = watched.events
    assert event.arguments == '{"x": 3}'
    assert event.error is result.error
    assert (event.verdict, event.value) == (Verdict.FAILURE, None)
    assert event.call_id is None


async def test_every_method_tells() -> None:
    watched = Watched()
    await watched.orch.dispatch("tool")
    await watched.orch.dispatch("tool", {"x": 1})
    await watched.orch.call("tool")
    await watched.orch.run("tool")
    await watched.orch.dispatch_all([{"type": "tool_use", "name": "tool", "input": {}}])
    assert [type(each) for each in watched.events] == [CallFinished] * 5
    assert [each.arguments for each in watched.events] == [None, {"x": 1}, None, None, {}]


async def test_a_call_that_is_turned_away_is_told_with_the_reason() -> None:
    watched = Watched()
    args: dict[str, Any] = {"x": "many"}
    await watched.orch.dispatch("tool", args, call_id="c1", user=3)
    await watched.orch.dispatch("toool", args)
    await watched.orch.dispatch("y" * 10_000_000)
    await watched.orch.dispatch_all(["nonsense"])
    watched.ill = True
    await watched.orch.dispatch("tool")
    await watched.orch.dispatch("tool")
    await watched.orch.dispatch("tool", args, call_id="c2", user=4)
    await watched.orch.run("tool", args)
    rejected = [each for each in watched.events if isinstance(each, CallRejected)]
    assert [each.reason for each in rejected] == [
        "invalid_arguments",
        "unknown_tool",
        "unknown_tool",
        "invalid_arguments",
        "circuit",
        "circuit",
    ]
    assert rejected[0].arguments is args
    assert dict(rejected[0].context) == {"user": 3}
    assert (rejected[0].call_id, rejected[0].retry_after) == ("c1", None)
    assert rejected[0].state is CircuitState.CLOSED
    assert rejected[1].tool_name == "toool"
    assert rejected[1].state is None
    assert len(rejected[2].tool_name) <= 128
    assert rejected[3].arguments == "nonsense"
    assert (rejected[4].call_id, rejected[4].retry_after) == ("c2", 10)
    assert dict(rejected[4].context) == {"user": 4}
    assert rejected[4].state is CircuitState.OPEN
    assert rejected[4].arguments is args


async def test_arguments_that_only_binding_refuses_are_told_as_turned_away() -> None:
    watched = Watched()

    @watched.orch.registry.tool(validate=False)
    async def loose(x: int) -> None: ...

    await watched.orch.dispatch("loose", {"y": 1})
    (event,) = watched.events
    assert isinstance(event, CallRejected)
    assert event.reason == "invalid_arguments"


@real_time
async def test_a_full_limiter_is_told_as_turned_away() -> None:
    watched = Watched()

    @watched.orch.registry.tool(policy=ToolPolicy(max_threads=1))
    def plain() -> Any:
        return anyio.from_thread.run(watched.orch.dispatch, "plain")

    await watched.orch.dispatch("plain")
    rejected, finished = watched.events
    assert (rejected.reason, rejected.tool_name) == ("limit", "plain")
    assert rejected.retry_after > 0
    # It handed on the answer of a limit, which is nobody's fault.
    assert finished.verdict is Verdict.IGNORE


async def test_changes_of_a_circuit_are_told_in_their_order() -> None:
    watched = Watched()
    watched.ill = True
    for _ in range(2):
        await watched.orch.dispatch("tool")
    watched.now += 20
    await watched.orch.dispatch("tool")
    watched.now += 20
    watched.ill = False
    await watched.orch.dispatch("tool")
    circuit = watched.orch.circuit("tool")
    with circuit.isolate():
        pass
    circuit.disable()
    circuit.reset()
    changes = [each for each in watched.events if isinstance(each, CircuitChanged)]
    assert [(each.old.value, each.new.value) for each in changes] == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
        ("closed", "isolated"),
        ("isolated", "closed"),
        ("closed", "disabled"),
        ("disabled", "closed"),
    ]
    assert changes[0].last_error == "RuntimeError: no"
    assert changes[0].retry_after == 10
    assert changes[0].reason == "2 failures in a row"
    assert changes[1].retry_after is None
    assert {each.circuit for each in changes} == {"tool"}
    kinds = [type(each).__name__ for each in watched.events]
    assert kinds[:3] == ["CallFinished", "CircuitChanged", "CallFinished"]


async def test_a_cancelled_call_is_told() -> None:
    watched = Watched()
    begun = anyio.Event()

    @watched.orch.registry.tool
    async def wait() -> None:
        begun.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(watched.orch.dispatch, "wait")
        await begun.wait()
        group.cancel_scope.cancel()
    (event,) = watched.events
    assert event.verdict is Verdict.IGNORE
    assert isinstance(event.error, anyio.get_cancelled_exc_class())


async def test_the_state_is_whole_when_an_observer_is_told() -> None:
    watched = Watched()
    seen: list[Any] = []

    def look(event: Any) -> None:
        if isinstance(event, CircuitChanged):
            seen.append(watched.orch.circuit(event.circuit).state == event.new)
            seen.append(watched.orch.get_fleet_stats()["tool"]["state"] == event.new)

    watched.orch.add_observer(look)
    watched.ill = True
    await watched.orch.dispatch("tool")
    await watched.orch.dispatch("tool")
    assert seen == [True, True]


async def test_an_observer_may_act_on_a_circuit_and_hears_of_it_afterwards() -> None:
    watched = Watched()
    order: list[str] = []

    def act(event: Any) -> None:
        if isinstance(event, CircuitChanged):
            order.append(f"first {event.new}")
            if event.new is CircuitState.OPEN:
                watched.orch.circuit("tool").reset()
                order.append("reset")

    def look(event: Any) -> None:
        if isinstance(event, CircuitChanged):
            order.append(f"second {event.new}")

    watched.orch.add_observer(act)
    watched.orch.add_observer(look)
    watched.ill = True
    await watched.orch.dispatch("tool")
    await watched.orch.dispatch("tool")
    assert order == ["first open", "reset", "second open", "first closed", "second closed"]
    assert watched.orch.circuit("tool").state == "closed"


async def test_observers_are_told_in_the_order_in_which_they_came() -> None:
    watched = Watched()
    order: list[int] = []
    for number in range(3):
        watched.orch.add_observer(lambda event, number=number: order.append(number))
    await watched.orch.dispatch("tool")
    assert order == [0, 1, 2]


async def test_observers_come_and_go() -> None:
    watched = Watched()
    await watched.orch.dispatch("tool")
    watched.orch.remove_observer(watched.events.append)
    await watched.orch.dispatch("tool")
    watched.orch.remove_observer(watched.events.append)
    assert len(watched.events) == 1
    watched.orch.add_observer(watched.events.append)
    await watched.orch.dispatch("tool")
    assert len(watched.events) == 2


async def test_an_observer_that_removes_itself_leaves_the_others_alone() -> None:
    watched = Watched()
    told: list[str] = []

    def once(event: Any) -> None:
        told.append("once")
        watched.orch.remove_observer(once)

    watched.orch.add_observer(once)
    watched.orch.add_observer(lambda event: told.append("always"))
    await watched.orch.dispatch("tool")
    await watched.orch.dispatch("tool")
    assert told == ["once", "always", "always"]


async def coroutine(event: Any) -> None: ...


class AsyncCallable:
    async def __call__(self, event: Any) -> None: ...


@pytest.mark.parametrize(
    "observer", [None, 3, "log", coroutine, AsyncCallable()], ids=lambda o: type(o).__name__
)
def test_what_cannot_be_told_is_refused(observer: Any) -> None:
    with pytest.raises(TypeError):
        ToolOrchestrator(Registry(), observers=[observer])
    with pytest.raises(TypeError):
        ToolOrchestrator(Registry()).add_observer(observer)


class Broken:
    def __call__(self, event: Any) -> None:
        raise RuntimeError("the observer is ill")


class Unprintable(Broken):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Nameless(Broken):
    def __getattribute__(self, name: str) -> Any:
        if name == "__qualname__":
            raise RuntimeError("no name")
        return super().__getattribute__(name)


class Leaving:
    def __init__(self, kind: type[BaseException]) -> None:
        self.error: BaseException = kind("the observer is ill")

    def __call__(self, event: Any) -> None:
        raise self.error


@pytest.mark.parametrize(
    "broken",
    [
        Broken(),
        Unprintable(),
        Nameless(),
        Leaving(SystemExit),
        Leaving(asyncio.CancelledError),
    ],
    ids=["plain", "no repr", "no name", "leaves", "cancelled"],
)
async def test_an_observer_that_raises_is_logged_once_and_changes_nothing(
    broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched()
    watched.orch.remove_observer(watched.events.append)
    watched.orch.add_observer(broken)
    watched.orch.add_observer(watched.events.append)
    for _ in range(3):
        assert json.loads(await watched.orch.dispatch("tool")) == {"x": 1}
    watched.ill = True
    for _ in range(3):
        await watched.orch.dispatch("tool")
    assert watched.orch.circuit("tool").state == "open"
    assert watched.orch.stats("tool").in_flight == 0
    assert len(watched.events) == 7
    complaints = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert len(complaints) == 1
    assert "the observer is ill" in complaints[0].getMessage()
    assert "Traceback" in complaints[0].getMessage()


async def test_an_observer_that_comes_after_one_that_raised_is_logged_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Watcher:
        def see(self, event: object) -> None:
            raise RuntimeError("no")

    watched, watcher = Watched(), Watcher()
    for _ in range(20):  # whose bound methods have the same few addresses
        watched.orch.add_observer(watcher.see)
        await watched.orch.dispatch("tool")
        watched.orch.remove_observer(watcher.see)
    assert sum("the observer" in each.message for each in caplog.records) == 20


async def test_a_cancellation_out_of_an_observer_is_its_own_on_every_loop() -> None:
    watched = Watched()
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.lowlevel.checkpoint()
        except anyio.get_cancelled_exc_class() as cancelled:
            leaving = Leaving(RuntimeError)
            leaving.error = cancelled
            watched.orch.add_observer(leaving)
            raise
    assert json.loads(await watched.orch.dispatch("tool")) == {"x": 1}
    assert len(watched.events) == 1


async def test_an_interrupt_in_an_observer_goes_up_when_all_have_been_told() -> None:
    watched = Watched()
    told: list[str] = []

    def interrupted(event: Any) -> None:
        told.append(type(event).__name__)
        if isinstance(event, CallFinished):
            watched.orch.circuit("tool").isolate()
            watched.orch.circuit("tool").unisolate()
            raise KeyboardInterrupt

    watched.orch.remove_observer(watched.events.append)
    watched.orch.add_observer(interrupted)
    watched.orch.add_observer(watched.events.append)
    with pytest.raises(KeyboardInterrupt):
        await watched.orch.dispatch("tool")
    names = ["CallFinished", "CircuitChanged", "CircuitChanged"]
    assert told == names
    assert [type(event).__name__ for event in watched.events] == names
    assert watched.orch.stats("tool").in_flight == 0


async def test_a_call_whose_verdict_is_interrupted_in_an_observer_is_told_of() -> None:
    watched = Watched()
    watched.ill = True

    def interrupted(event: Any) -> None:
        if isinstance(event, CircuitChanged):
            raise KeyboardInterrupt

    await watched.orch.dispatch("tool")
    watched.orch.add_observer(interrupted)
    with pytest.raises(KeyboardInterrupt):
        await watched.orch.dispatch("tool")
    names = ["CallFinished", "CircuitChanged", "CallFinished"]
    assert [type(event).__name__ for event in watched.events] == names
    assert watched.events[-1].verdict is Verdict.FAILURE
    assert watched.events[-1].state is CircuitState.OPEN
    assert watched.orch.stats("tool").total_failures == 2


async def test_a_change_tells_of_the_very_failure_that_made_it() -> None:
    watched = Watched()
    numbers = iter("123")

    @watched.orch.registry.tool
    async def counts() -> None:
        raise RuntimeError(next(numbers))

    for _ in range(2):
        await watched.orch.dispatch("counts")
    watched.now += 10
    await watched.orch.dispatch("counts")
    changes = [each for each in watched.events if isinstance(each, CircuitChanged)]
    told = [(each.new.value, each.last_error) for each in changes]
    assert told == [
        ("open", "RuntimeError: 2"),
        ("half_open", "RuntimeError: 2"),
        ("open", "RuntimeError: 3"),
    ]


async def test_a_second_interrupt_ends_the_telling_and_leaves_nothing_over() -> None:
    watched = Watched()

    def interrupted(event: Any) -> None:
        if isinstance(event, CallFinished):
            watched.orch.circuit("tool").isolate()
            watched.orch.circuit("tool").unisolate()
        raise KeyboardInterrupt

    watched.orch.add_observer(interrupted)
    with pytest.raises(KeyboardInterrupt):
        await watched.orch.dispatch("tool")
    watched.orch.remove_observer(interrupted)
    watched.events.clear()
    await watched.orch.dispatch("tool")
    assert [type(event).__name__ for event in watched.events] == ["CallFinished"]


async def test_an_audit_log_is_a_few_lines() -> None:
    lines: list[str] = []

    def audit(event: object) -> None:
        if isinstance(event, CallFinished):
            what, detail = "ran", event.verdict.value
        elif isinstance(event, CallRejected):
            what, detail = "refused", event.reason
        else:
            return
        who = event.context.get("user")
        lines.append(
            f"{who} {what} {event.tool_name}({json.dumps(event.arguments)}): {detail}"
        )

    watched = Watched()
    watched.orch.add_observer(audit)
    await watched.orch.dispatch("tool", {"x": 1}, user="joe")
    await watched.orch.dispatch("tool", {"x": "y"}, user="joe")
    await watched.orch.dispatch("rm", {"path": "/"}, user="eve")
    watched.ill = True
    for _ in range(3):
        await watched.orch.dispatch("tool", user="ann")
    assert lines == [
        'joe ran tool({"x": 1}): success',
        'joe refused tool({"x": "y"}): invalid_arguments',
        'eve refused rm({"path": "/"}): unknown_tool',
        "ann ran tool(null): failure",
        "ann ran tool(null): failure",
        "ann refused tool(null): circuit",
    ]


async def test_events_are_frozen_and_show_nothing_private() -> None:
    watched = Watched()
    await watched.orch.dispatch("tool", {"x": 77_777}, secret="hush")
    await watched.orch.dispatch("tool", {"y": 77_777}, secret="hush")
    watched.ill = True
    await watched.orch.dispatch("tool")
    await watched.orch.dispatch("tool")
    for event in watched.events:
        assert "77777" not in repr(event)
        assert "hush" not in repr(event)
        field = dataclasses.fields(event)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, field, "x")


async def test_the_answer_is_the_same_with_and_without_observers() -> None:
    registry = Registry()

    @registry.tool
    async def tool(x: int, context: ToolContext) -> Any:
        return {"x": x, "error": None}

    watched = ToolOrchestrator(registry, observers=[lambda event: None])
    alone = ToolOrchestrator(registry)
    for args in ({"x": 1}, {"x": "1"}, {}, '{"x": 2}', "[]"):
        assert await watched.dispatch("tool", args) == await alone.dispatch("tool", args)


# The log


async def test_an_open_circuit_is_one_warning_with_the_last_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(1, "orchestrator_async")
    watched = Watched()
    watched.ill = True
    for _ in range(5):
        await watched.orch.dispatch("tool")
    loud = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(loud) == 1
    assert loud[0].levelno == logging.WARNING
    message = loud[0].getMessage()
    for words in ("tool", "open", "2 failures in a row", "RuntimeError: no"):
        assert words in message
    assert {each.name for each in caplog.records} == {"orchestrator_async"}


async def test_other_changes_are_told_quietly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "orchestrator_async")
    watched = Watched()
    watched.ill = True
    for _ in range(2):
        await watched.orch.dispatch("tool")
    watched.now += 20
    watched.ill = False
    caplog.clear()
    await watched.orch.dispatch("tool")
    said = [
        (each.levelno, each.getMessage())
        for each in caplog.records
        if "->" in each.getMessage()
    ]
    assert [level for level, _ in said] == [logging.INFO] * 2
    assert "open -> half_open" in said[0][1]
    assert "half_open -> closed" in said[1][1]


async def test_healthy_calls_and_refused_ones_log_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "orchestrator_async")
    watched = Watched()
    for _ in range(3):
        await watched.orch.dispatch("tool")
        await watched.orch.dispatch("tool", {"x": "y"})
        await watched.orch.dispatch("unknown")
    assert caplog.records == []


async def test_a_failing_tool_leaves_its_traceback_in_the_log_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(1, "orchestrator_async")
    watched = Watched()
    watched.ill = True
    text = await watched.orch.dispatch("tool")
    assert "Traceback" not in text
    assert "Traceback" in caplog.text
    assert "test_events.py" in caplog.text


# Circuits by hand


def test_circuits_can_be_held_outside_a_loop() -> None:
    watched = Watched()
    circuit = watched.orch.circuit("tool")
    assert circuit.state is CircuitState.CLOSED
    handle = circuit.isolate()
    assert circuit.state is CircuitState.ISOLATED
    handle.release()
    circuit.disable()
    assert circuit.state is CircuitState.DISABLED
    circuit.reset()
    assert circuit.state is CircuitState.CLOSED
    assert len([e for e in watched.events if isinstance(e, CircuitChanged)]) == 4
    with pytest.raises(UnknownToolError):
        watched.orch.circuit("other")
    assert watched.orch.get_fleet_stats() == {}


def test_an_interrupt_in_an_observer_goes_up_outside_a_loop_too() -> None:
    watched = Watched()
    watched.orch.remove_observer(watched.events.append)
    watched.orch.add_observer(Leaving(KeyboardInterrupt))
    watched.orch.add_observer(watched.events.append)
    circuit = watched.orch.circuit("tool")
    with pytest.raises(KeyboardInterrupt):
        circuit.isolate()
    assert circuit.state is CircuitState.ISOLATED
    assert len(watched.events) == 1


async def test_figures_of_a_tool_that_was_not_called_may_be_asked_for() -> None:
    watched = Watched()
    assert watched.orch.stats("tool").calls == 0
    assert watched.orch.get_fleet_stats() == {}
    with pytest.raises(UnknownToolError):
        watched.orch.stats("other")
