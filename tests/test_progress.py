"""
Progress: what a tool says of how far it has come, from wherever and whenever it says it.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import math
import pickle
import threading
import types
from collections.abc import Callable, Generator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    Event,
    ProgressReported,
    Registry,
    RetryPolicy,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
)

from .clock import real_time, virtual_time
from .support import HandClock, assert_adds_up

Body = Callable[[ToolContext], Any]


class Works:
    """
    An orchestrator with one tool that does this with its context, and what was told.
    """

    def __init__(
        self,
        body: Body,
        clock: Callable[[], float] = anyio.current_time,
        *,
        in_thread: bool = False,
        watched: bool = True,
        clean: Any = None,
        **options: Any,
    ) -> None:
        self.events: list[Event] = []
        registry = Registry()
        if in_thread:

            @registry.tool(name="tool", **options)
            def plain(context: ToolContext) -> Any:
                return body(context)

        else:

            @registry.tool(name="tool", **options)
            async def tool(context: ToolContext) -> Any:
                return await body(context)

        more = {} if clean is None else {"clean": clean}
        self.orch = ToolOrchestrator(
            registry, clock=clock, observers=[self.events.append] if watched else [], **more
        )

    def told(self) -> list[tuple[float, float | None, str | None]]:
        return [
            (each.done, each.total, each.message)
            for each in self.events
            if isinstance(each, ProgressReported)
        ]


@pytest.mark.parametrize("answer", ["dispatch", "call", "run"])
async def test_observers_are_told_while_the_tool_runs(answer: str) -> None:
    async def body(context: ToolContext) -> str:
        context.report_progress(1, 4, "reading")
        assert works.told() == [(1, 4, "reading")]
        await checkpoint()
        context.report_progress(2.5)
        return "fine"

    works = Works(body)
    await getattr(works.orch, answer)("tool", call_id="c1")

    assert works.told() == [(1, 4, "reading"), (2.5, None, None)]
    first, _, last = works.events
    assert isinstance(last, CallFinished)
    assert isinstance(first, ProgressReported)
    assert (first.tool_name, first.call_id, first.attempt) == ("tool", "c1", 1)
    assert type(first.done) is type(first.total) is float


async def test_each_attempt_tells_its_own() -> None:
    async def body(context: ToolContext) -> None:
        context.report_progress(0)
        raise ConnectionError

    again = RetryPolicy(attempts=2, wait_initial=0, wait_jitter=0)
    works = Works(body, idempotent=True, policy=ToolPolicy(retry=again))
    await works.orch.dispatch("tool")

    attempts = [each.attempt for each in works.events if isinstance(each, ProgressReported)]
    assert attempts == [1, 2]


async def test_where_nobody_listens_it_is_not_even_looked_at() -> None:
    async def body(context: ToolContext) -> str:
        context.report_progress("x", object(), 3)  # type: ignore[arg-type]
        return "fine"

    works = Works(body, watched=False)

    assert await works.orch.dispatch("tool") == "fine"
    assert works.orch._fleet.entries["tool"].complained is None


async def test_who_joins_during_the_call_is_told() -> None:
    events: list[Event] = []

    async def body(context: ToolContext) -> None:
        works.orch.add_observer(events.append)
        context.report_progress(1)

    works = Works(body, watched=False)
    await works.orch.dispatch("tool")

    assert [type(each) for each in events] == [ProgressReported, CallFinished]


async def test_the_message_is_cleaned() -> None:
    async def body(context: ToolContext) -> None:
        context.report_progress(1, None, "password=hunter2 \x1b[31m" + "x" * 5000)

    works = Works(body)
    await works.orch.dispatch("tool")

    ((_, _, message),) = works.told()
    assert message is not None
    assert "hunter2" not in message
    assert "\x1b" not in message
    assert len(message) <= 2000


async def test_it_passes_the_orchestrators_own_cleaner() -> None:
    async def body(context: ToolContext) -> None:
        context.report_progress(1, None, "reading")

    works = Works(body, clean=str.upper)
    await works.orch.dispatch("tool")

    assert works.told() == [(1, None, "READING")]


# It never raises


class Raising:
    """
    A number and a text that raises whatever is asked of it.
    """

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __float__(self) -> float:
        raise self.error

    def __str__(self) -> str:
        raise self.error


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise AssertionError("asked for a copy")


BAD: dict[str, tuple[Any, Any, Any]] = {
    "not a number": (math.nan, None, None),
    "no end": (math.inf, None, None),
    "no end in all": (1, -math.inf, None),
    "text": ("1", None, None),
    "bytes": (b"1", None, None),
    "true": (True, None, None),
    "nothing": (None, None, None),
    "a list": ([], None, None),
    "a number that is too large": (10**400, None, None),
    "a number that raises": (Raising(ValueError("password=hunter2")), None, None),
    "a number that leaves": (Raising(SystemExit()), None, None),
    "a message that raises": (1, None, Raising(ValueError("password=hunter2"))),
    "a message that is no text": (1, None, 3),
    "bytes for a message": (1, None, b"reading"),
}


@pytest.mark.parametrize("bad", BAD)
async def test_what_cannot_be_told_is_logged_once(
    bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(context: ToolContext) -> str:
        for _ in range(3):
            context.report_progress(*BAD[bad])
        return "fine"

    works = Works(body)
    with caplog.at_level(logging.ERROR, "orchestrator_async"):
        assert await works.orch.dispatch("tool") == "fine"

    assert works.told() == []
    assert len(caplog.records) == 1
    assert "its progress cannot be told" in caplog.text
    assert "hunter2" not in caplog.text
    assert works.orch.stats("tool").total_failures == 0


@pytest.mark.parametrize(
    "number", [0, -1, 3.5, 10**20, Decimal("1.5"), Fraction(1, 2), 1e308]
)
async def test_numbers_of_any_kind_are_told(number: Any) -> None:
    async def body(context: ToolContext) -> None:
        context.report_progress(number, number, Text("reading"))

    works = Works(body)
    await works.orch.dispatch("tool")

    ((done, total, message),) = works.told()
    assert done == total == float(number)
    assert type(message) is str
    assert message == "reading"


@given(st.from_type(type).flatmap(st.from_type), st.none() | st.text() | st.floats())
def test_whatever_is_told_nothing_comes_out(done: Any, message: Any) -> None:
    async def body(context: ToolContext) -> str:
        context.report_progress(done, done, message)
        return "fine"

    async def main() -> None:
        works = Works(body, HandClock())
        assert await works.orch.dispatch("tool") == "fine"

    logging.disable()
    try:
        anyio.run(main)
    finally:
        logging.disable(logging.NOTSET)


async def test_an_observer_that_raises_does_not_reach_the_tool() -> None:
    async def body(context: ToolContext) -> str:
        context.report_progress(1)
        return "fine"

    def observer(event: Event) -> None:
        raise ValueError

    works = Works(body)
    works.orch.add_observer(observer)

    assert await works.orch.dispatch("tool") == "fine"
    assert works.told() == [(1, None, None)]


async def test_a_cleaner_that_raises_does_not_reach_the_tool() -> None:
    async def body(context: ToolContext) -> str:
        context.report_progress(1, None, "reading")
        return "fine"

    def clean(text: str) -> str:
        raise ValueError

    works = Works(body, clean=clean)

    assert await works.orch.dispatch("tool") == "fine"
    assert works.told() == [(1, None, "reading")]


async def test_an_interrupt_is_not_kept() -> None:
    async def body(context: ToolContext) -> None:
        context.report_progress(Raising(KeyboardInterrupt()))  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        await Works(body).orch.dispatch("tool")


# After the call, and from elsewhere


@pytest.mark.parametrize("how", ["returns", "raises", "is out of time", "is cancelled"])
@virtual_time
async def test_what_is_said_after_the_call_is_told_to_nobody(how: str) -> None:
    kept: list[ToolContext] = []

    async def body(context: ToolContext) -> str:
        kept.append(context)
        context.report_progress(1)
        if how == "raises":
            raise ConnectionError
        if how != "returns":
            await anyio.sleep(100)
        return "fine"

    works = Works(body, timeout=50)
    with anyio.move_on_after(20 if how == "is cancelled" else 1000):
        await works.orch.dispatch("tool")
    for context in (kept[0], copy.copy(kept[0]), copy.deepcopy(kept[0])):
        context.report_progress(2)

    assert works.told() == [(1, None, None)]
    assert isinstance(works.events[-1], CallFinished)
    assert_adds_up(works.orch)


async def test_what_a_task_of_the_tool_says_after_the_call_is_told_to_nobody() -> None:
    go = anyio.Event()

    async def later(context: ToolContext) -> None:
        context.report_progress(1)
        await go.wait()
        context.report_progress(2)

    async with anyio.create_task_group() as tasks:

        async def body(context: ToolContext) -> None:
            tasks.start_soon(later, context)
            await checkpoint()
            await checkpoint()

        works = Works(body)
        await works.orch.dispatch("tool")
        go.set()

    assert works.told() == [(1, None, None)]


@real_time
async def test_a_worker_thread_may_tell() -> None:
    where: list[threading.Thread] = []

    def body(context: ToolContext) -> str:
        for done in range(3):
            context.report_progress(done, 3)
        return "fine"

    works = Works(body, in_thread=True)
    works.orch.add_observer(lambda event: where.append(threading.current_thread()))

    assert await works.orch.dispatch("tool") == "fine"

    assert works.told() == [(0, 3, None), (1, 3, None), (2, 3, None)]
    assert isinstance(works.events[-1], CallFinished)
    assert set(where) == {threading.current_thread()}  # observers run in the loop


@real_time
async def test_a_thread_of_an_async_tool_may_tell() -> None:
    async def body(context: ToolContext) -> str:
        await anyio.to_thread.run_sync(context.report_progress, 1)
        await checkpoint()
        await anyio.to_thread.run_sync(context.report_progress, math.nan)
        return "fine"

    works = Works(body)

    assert await works.orch.dispatch("tool") == "fine"
    assert works.told() == [(1, None, None)]


@real_time
async def test_a_loop_of_its_own_in_a_thread_may_tell() -> None:
    def body(context: ToolContext) -> str:
        async def main() -> None:
            context.report_progress(1)

        anyio.run(main)
        return "fine"

    works = Works(body, in_thread=True)

    assert await works.orch.dispatch("tool") == "fine"
    assert works.told() == [(1, None, None)]


@real_time
async def test_a_thread_that_was_given_up_is_not_heard() -> None:
    entered, leave, left = anyio.Event(), threading.Event(), threading.Event()

    def body(context: ToolContext) -> None:
        anyio.from_thread.run_sync(entered.set)
        leave.wait()
        context.report_progress(2)
        left.set()

    works = Works(body, in_thread=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(works.orch.dispatch, "tool")
        await entered.wait()
        tasks.cancel_scope.cancel()
    leave.set()
    while not left.is_set():  # noqa: ASYNC110 - a thread's
        await anyio.sleep(0.001)
    await checkpoint()

    assert works.told() == []


@real_time
async def test_what_a_thread_said_as_the_call_was_ending_is_not_told_after_it() -> None:
    # The loop is blocked while the thread tells, and the call ends before it can be told.
    kept: list[ToolContext] = []

    async def body(context: ToolContext) -> str:
        thread = threading.Thread(target=context.report_progress, args=(1,))
        thread.start()
        thread.join()
        kept.append(context)
        return "fine"

    works = Works(body)

    assert await works.orch.dispatch("tool") == "fine"
    for _ in range(5):
        await checkpoint()
    assert [type(each) for each in works.events] == [CallFinished]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_thread_may_tell_when_the_loop_is_gone(backend: str) -> None:
    kept: list[ToolContext] = []
    entered, leave, left = threading.Event(), threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def body(context: ToolContext) -> None:
        kept.append(context)
        entered.set()
        leave.wait()
        try:
            context.report_progress(1, None, "late")
        except BaseException as error:
            raised.append(error)
        left.set()

    works = Works(body, HandClock(), in_thread=True)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(works.orch.dispatch, "tool")
            while not entered.is_set():  # noqa: ASYNC110 - a thread's
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    leave.set()
    assert left.wait(20)
    kept[0].report_progress(2)

    assert (raised, works.told()) == ([], [])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_whose_loop_is_gone_without_an_end_may_tell(backend: str) -> None:
    kept: list[ToolContext] = []

    @types.coroutine
    def wait() -> Generator[None, None, None]:
        yield

    async def body(context: ToolContext) -> None:
        kept.append(context)
        await wait()

    works = Works(body, HandClock())
    coro: Any = works.orch.dispatch("tool")

    async def main() -> None:
        coro.send(None)

    anyio.run(main, backend=backend)
    kept[0].report_progress(1)
    coro.close()
    kept[0].report_progress(2)

    assert works.told() == []


# What it does not do


@virtual_time
async def test_it_does_not_make_the_timeout_longer() -> None:
    async def body(context: ToolContext) -> None:
        for done in range(100):
            context.report_progress(done)
            await anyio.sleep(1)

    works = Works(body, timeout=4.5)
    said = json.loads(await works.orch.dispatch("tool"))

    assert said["timeout"] is True
    assert anyio.current_time() == 4.5
    assert [done for done, _, _ in works.told()] == [0, 1, 2, 3, 4]


@virtual_time
async def test_it_does_not_make_a_probes_lease_longer() -> None:
    async def body(context: ToolContext) -> None:
        if anyio.current_time() < 1:
            raise ConnectionError
        for _ in range(100):
            context.report_progress(1)
            await anyio.sleep(1)

    policy = BreakerPolicy(failure_threshold=1, reset_timeout=10, probe_lease=20)
    works = Works(body, policy=policy)
    await works.orch.dispatch("tool")
    await anyio.sleep(10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(works.orch.dispatch, "tool")
        await anyio.sleep(19.5)
        assert "circuit_breaker" in await works.orch.dispatch("tool")
        await anyio.sleep(1)
        tasks.start_soon(works.orch.dispatch, "tool")  # the next probe
        await checkpoint()
        await anyio.sleep(0.1)
        assert works.orch.stats("tool").in_flight == 2
        tasks.cancel_scope.cancel()


# Contexts are as they were


async def contexts() -> list[ToolContext]:
    kept: list[ToolContext] = []

    async def body(context: ToolContext) -> None:
        kept.append(context)

    works = Works(body)
    await works.orch.dispatch("tool", call_id="c1", user={"name": "ann"})
    return [*kept, ToolContext(tool_name="tool", data={"user": {"name": "ann"}})]


async def test_a_context_is_a_record_like_before() -> None:
    for context in await contexts():
        fields = dataclasses.asdict(context)
        assert list(fields) == [
            "tool_name",
            "call_id",
            "attempt",
            "deadline",
            "timeout",
            "idempotency_key",
            "data",
        ]
        assert json.loads(json.dumps(fields))["data"] == {"user": {"name": "ann"}}
        assert "report" not in repr(context)
        assert not hasattr(context, "__dict__")
        with pytest.raises(dataclasses.FrozenInstanceError):
            context.attempt = 2  # type: ignore[misc]
        with pytest.raises((AttributeError, TypeError)):  # Python's error for no field
            context._report = None  # type: ignore[attr-defined]


async def test_a_context_is_copied_and_pickled_like_before() -> None:
    for context in await contexts():
        again = [pickle.loads(pickle.dumps(context, each)) for each in range(2, 6)]
        for each in (*again, copy.copy(context), copy.deepcopy(context)):
            assert type(each) is ToolContext
            assert each == context
            each.report_progress(1)
        assert copy.copy(context).data is context.data
        assert copy.deepcopy(context).data["user"] is not context.data["user"]
        assert dataclasses.replace(context, attempt=2).attempt == 2
        assert dataclasses.replace(context, attempt=2) != context


@pytest.mark.parametrize("made", [copy.copy, copy.deepcopy])
async def test_a_copy_tells_as_well(made: Callable[[ToolContext], ToolContext]) -> None:
    async def body(context: ToolContext) -> None:
        made(context).report_progress(1)

    works = Works(body)
    await works.orch.dispatch("tool")

    assert works.told() == [(1, None, None)]


async def test_a_registry_without_an_orchestrator_tells_nobody() -> None:
    registry = Registry()

    @registry.tool
    async def tool(context: ToolContext) -> str:
        context.report_progress(1)
        return "fine"

    assert await registry.dispatch("tool") == "fine"
