"""
Control flow of a framework around us, raised by functions that are asked in passing: it goes
up, with everything given back and no verdict.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    Event,
    LimitPolicy,
    Registry,
    RetryPolicy,
    ToolCall,
    ToolOrchestrator,
    ToolPolicy,
    Verdict,
)

from .clock import virtual_time
from .rig import on_asyncio
from .support import HandClock, assert_adds_up, when_blocked


class Approval(Exception):
    """How a framework stops a run to ask somebody."""


class Interrupt(BaseException):
    """The same of another framework."""


class Unsplittable(ExceptionGroup[Exception]):
    def split(self, *args: Any) -> Any:
        raise RuntimeError("cannot be split")

    def derive(self, excs: Any) -> Any:
        raise RuntimeError("cannot be derived")


each_error = pytest.mark.parametrize(
    "error",
    [Approval("ask"), Interrupt(), ExceptionGroup("two", [Approval(), Approval()])],
    ids=lambda error: type(error).__name__,
)
each_answer = pytest.mark.parametrize("answer", ["dispatch", "call", "run", "dispatch_all"])

ASKED = ["circuit", "judge", "is_failure", "on", "on_result"]


class Stage:
    """
    A tool with one function that is asked in passing, and raises what it is told to.

    Attributes:
        error: What it raises; ``None`` for nothing.
    """

    def __init__(
        self,
        asked: str,
        error: BaseException | None,
        *,
        clock: Callable[[], float] | None = None,
        **policy: Any,
    ) -> None:
        self.asked, self.error = asked, error
        self.fails = asked == "on"
        self.events: list[Event] = []
        self.registry, self.runs = Registry(), 0
        policy.setdefault("control_flow", (Approval, Interrupt))
        circuit: Any = None
        if asked in ("on", "on_result"):
            policy["retry"] = RetryPolicy(**{asked: self.function})  # type: ignore[arg-type]
        elif asked == "circuit":
            circuit = self.function
        else:
            policy[asked] = self.function

        @self.registry.tool(circuit=circuit, idempotent=True, policy=ToolPolicy(**policy))
        async def tool() -> str:
            self.runs += 1
            if self.fails:
                raise ConnectionError("down")
            return "fine"

        self.orch = ToolOrchestrator(
            self.registry, clock=clock or HandClock(), observers=[self.events.append]
        )

    def function(self, *asked: Any) -> Any:
        if self.error is not None:
            raise self.error
        return "key" if self.asked == "circuit" else None

    async def answer(self, answer: str) -> Any:
        if answer == "dispatch_all":
            return await self.orch.dispatch_all([ToolCall("tool")])
        return await getattr(self.orch, answer)("tool")

    def verdicts(self) -> list[Verdict]:
        return [each.verdict for each in self.events if isinstance(each, CallFinished)]


@each_error
@each_answer
@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("asked", ASKED)
async def test_it_goes_up_and_everything_is_given_back(
    asked: str,
    limited: bool,
    answer: str,
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = LimitPolicy(max_concurrent=1, max_queue=0) if limited else None
    made: list[Any] = []
    stage = Stage(asked, error, limits=limits, fallback=lambda *asked: made.append(asked))

    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            await stage.answer(answer)
        assert caught.value is error

    assert made == []
    assert not any(each.levelno >= logging.ERROR for each in caplog.records)
    verdict = {
        "circuit": [],
        "judge": [Verdict.IGNORE],
        "is_failure": [Verdict.IGNORE],
        "on": [Verdict.FAILURE],  # which was given before anybody asked
        "on_result": [Verdict.SUCCESS],
    }[asked]
    assert stage.verdicts() == verdict * 2
    stats = stage.orch.stats("tool")
    assert (stats.calls, stats.retries, stats.rejected) == (len(verdict) * 2, 0, 0)
    assert stats.ignored == verdict.count(Verdict.IGNORE) * 2
    assert_adds_up(stage.orch)
    # Every place is free, and all is as it was.
    stage.error, stage.fails = None, False
    assert await stage.orch.dispatch("tool") == "fine"
    assert all(each.holders == 0 for each in stage.orch._fleet.all_circuits())


@pytest.mark.parametrize("asked", ASKED)
async def test_another_error_does_not(asked: str) -> None:
    errors = ValueError(), Unsplittable("bad", [ValueError()])
    groups = ExceptionGroup("two", [Approval(), ValueError()])
    for error in (*errors, groups):
        stage = Stage(asked, error)
        assert ("fine" in await stage.orch.dispatch("tool")) is (asked != "on")
        assert_adds_up(stage.orch)


@pytest.mark.parametrize("raises", [False, True])
@each_error
async def test_that_of_a_judge_frees_a_probes_place(
    error: BaseException, raises: bool
) -> None:
    clock = HandClock()
    stage = Stage("judge", error, clock=clock, breaker=BreakerPolicy(reset_timeout=5))
    stage.fails = raises
    stage.orch.circuit("tool").trip()
    clock.turn(6)

    for _ in range(2):
        with pytest.raises(type(error)):
            await stage.orch.dispatch("tool")
        assert stage.orch.circuit("tool").state == "half_open"

    assert stage.runs == 2
    stage.error, stage.fails = None, False
    assert await stage.orch.dispatch("tool") == "fine"
    assert stage.orch.circuit("tool").state == "closed"


@pytest.mark.parametrize("kind", ["scope", "request"])
@each_error
async def test_the_callers_cancellation_goes_before_that_of_a_judge(
    error: BaseException, kind: str
) -> None:
    if kind == "request" and not on_asyncio():
        return
    registry = Registry()
    asked: list[Any] = []

    def judge(outcome: Any) -> None:
        asked.append(outcome)
        raise error

    policy = ToolPolicy(judge=judge, control_flow=(Approval, Interrupt))

    @registry.tool(policy=policy)
    async def tool() -> str:
        with suppress(anyio.get_cancelled_exc_class()):
            await anyio.sleep_forever()
        return "swallowed"

    orch = ToolOrchestrator(registry)
    scope, ends = anyio.CancelScope(), []

    async def call() -> None:
        with scope:
            try:
                ends.append(await orch.dispatch("tool"))
            except (Approval, Interrupt, ExceptionGroup) as raised:
                ends.append(repr(raised))

    if kind == "request":
        task = asyncio.ensure_future(call())
        await when_blocked()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await when_blocked()
            scope.cancel()
        assert scope.cancelled_caught
    assert (ends, len(asked)) == ([], 1)
    assert orch.stats("tool").cancelled == 1
    assert_adds_up(orch)


@virtual_time
@pytest.mark.parametrize("how", ["end", "break", "cancel", "cancel between", "close"])
@each_error
async def test_that_of_a_judge_and_a_stream(how: str, error: BaseException) -> None:
    registry = Registry()
    asked: list[Any] = []

    def judge(outcome: Any) -> None:
        asked.append(outcome)
        raise error

    policy = ToolPolicy(judge=judge, control_flow=(Approval, Interrupt))

    @registry.tool(policy=policy)
    async def tool() -> AsyncIterator[Any]:
        yield {"error": "busy"}
        if how != "end":
            await anyio.sleep(10)

    orch = ToolOrchestrator(registry)

    async def read() -> None:
        async with orch.stream("tool") as chunks:
            async for _ in chunks:
                if how == "break":
                    break
                if how == "cancel between":
                    await anyio.sleep_forever()
                if how == "close":
                    await Suspended()

    if how.startswith("cancel"):
        with anyio.move_on_after(1) as scope:
            await read()
        assert scope.cancelled_caught
    elif how == "close":
        coro = read()
        coro.send(None)
        coro.close()
    else:
        with pytest.raises(type(error)) as caught:
            await read()
        assert caught.value is error
    assert len(asked) == 1
    stats = orch.stats("tool")
    assert (stats.calls, stats.in_flight, stats.total_failures) == (1, 0, 0)
    assert_adds_up(orch)


class Suspended:
    """Gives way to whoever drives the coroutine by hand."""

    def __await__(self) -> Any:
        yield


async def test_a_key_that_is_waited_for_goes_up_too() -> None:
    stage = Stage("circuit", Approval())

    with pytest.raises(Approval):
        await stage.orch.wait_available("tool")


@pytest.mark.parametrize("what", ["jitter_source", "observer"])
async def test_chance_and_observers_have_none(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    def up(*asked: Any) -> Any:
        raise Approval

    registry, runs = Registry(), []
    retry = RetryPolicy(attempts=2, wait_initial=0, wait_jitter=1e-9, jitter_source=up)

    @registry.tool(
        idempotent=True,
        policy=ToolPolicy(
            retry=retry if what == "jitter_source" else None, control_flow=(Approval,)
        ),
    )
    async def tool() -> str:
        runs.append(1)
        raise ConnectionError("down")

    orch = ToolOrchestrator(registry, observers=[up] if what == "observer" else [])

    assert "ConnectionError" in await orch.dispatch("tool")
    assert len(runs) == (2 if what == "jitter_source" else 1)
    assert any(each.levelno >= logging.ERROR for each in caplog.records)
