"""
Plain functions in worker threads: slots, hangs, and a process that ends all the same.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import json
import os
import queue
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from orchestrator_async import (
    LimitExceededError,
    Registry,
    ToolOrchestrator,
    ToolPolicy,
    ToolTimeoutError,
    Verdict,
)
from orchestrator_async._threads import Slots, ThreadedCall, _idle, _Worker

from .clock import real_time
from .conftest import LOOPS

ROOT = Path(__file__).parents[1]
BACKENDS = {
    "asyncio": "'asyncio', backend_options={}",
    "asyncio+uvloop": "'asyncio', backend_options={'use_uvloop': True}",
    "trio": "'trio', backend_options={}",
}


def run_script(text: str, backend: str, *flags: str) -> tuple[str, float]:
    """
    What a program printed, and how many seconds it took to end after its loop.
    """
    text = textwrap.dedent(text).replace("BACKEND", BACKENDS[backend])
    done = subprocess.run(
        [sys.executable, *flags, "-c", text],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ended = time.monotonic()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *lines, last = done.stdout.splitlines()
    return "\n".join(lines), ended - float(last)


class Hanging:
    """
    An orchestrator with a plain tool that hangs until it is let go.
    """

    def __init__(self, *, timeout: float | None = 0.25, max_threads: int = 4) -> None:
        self.go_on = threading.Event()
        self.inside = 0
        self.most = 0
        self.begun = 0
        self._lock = threading.Lock()
        self.registry = Registry()
        policy = ToolPolicy(max_threads=max_threads)
        self.registry.tool(name="hang", timeout=timeout, policy=policy)(self._hang)
        self.registry.tool(name="plain", policy=policy)(self._plain)
        self.registry.tool(name="other")(self._other)
        self.orch = ToolOrchestrator(self.registry, failure_threshold=1_000)

    def _hang(self) -> str:
        with self._lock:
            self.inside += 1
            self.begun += 1
            self.most = max(self.most, self.inside)
        self.go_on.wait(30)
        with self._lock:
            self.inside -= 1
        return "done"

    def _plain(self) -> str:
        return "plain"

    async def _other(self) -> str:
        return "other"


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.go_on.set()


async def until(condition: Any) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110
            # A thread's doing: no event of the loop tells of it.
            await anyio.sleep(0.001)


@real_time
async def test_a_plain_function_runs_in_a_thread_and_not_in_the_loop() -> None:
    registry = Registry()
    threads: list[threading.Thread] = []

    @registry.tool
    def plain(x: int) -> int:
        threads.append(threading.current_thread())
        return x + 1

    orch = ToolOrchestrator(registry)
    assert await orch.dispatch("plain", {"x": "3"}) == "4"
    assert await orch.call("plain", {"x": 3}) == 4
    assert threading.current_thread() not in threads
    assert all(thread.daemon for thread in threads)


@real_time
async def test_a_hung_function_uses_no_more_threads_than_its_limit(
    hanging: Hanging,
) -> None:
    orch = hanging.orch
    before = threading.active_count()
    answers = [json.loads(await orch.dispatch("hang")) for _ in range(100)]

    assert hanging.begun == hanging.most == 4
    assert threading.active_count() - before <= 4
    late = [each for each in answers if "timeout" in each]
    assert all("still be running" in each["error"] for each in late)
    for each in [each for each in answers if each not in late]:
        assert set(each) == {"error", "tool_name", "limit", "retry_after"}
        assert each["limit"] == "threads"
        assert each["retry_after"] >= 1
        assert each["tool_name"] == "hang"
    stats = orch.stats("hang")
    assert (stats.timeouts, stats.total_failures, stats.failures) == (4, 4, 4)
    assert (stats.rejected, stats.calls, stats.in_flight) == (96, 4, 0)

    assert await orch.dispatch("other") == "other"
    for _ in range(10):
        assert await orch.dispatch("plain") == "plain"

    result = await orch.run("hang")
    assert isinstance(result.error, LimitExceededError)
    assert (result.verdict, result.attempts, result.ok) == (Verdict.IGNORE, 0, False)
    assert result.retry_after
    with pytest.raises(LimitExceededError):
        await orch.call("hang")

    hanging.go_on.set()
    await until(lambda: hanging.inside == 0)
    with anyio.fail_after(10):
        while await orch.dispatch("hang") != "done":  # noqa: ASYNC110
            await anyio.sleep(0.001)


@real_time
async def test_calls_side_by_side_share_the_limit(hanging: Hanging) -> None:
    orch = hanging.orch
    calls = [{"type": "tool_use", "name": "hang", "input": {}}] * 100
    results = await orch.dispatch_all(calls, limit=None)
    refused = [each for each in results if isinstance(each.error, LimitExceededError)]
    late = [each for each in results if isinstance(each.error, ToolTimeoutError)]
    assert (len(refused), len(late)) == (96, 4)
    assert hanging.most == 4


@real_time
async def test_a_function_that_its_caller_gave_up_keeps_its_slot_until_it_ends() -> None:
    hanging = Hanging(timeout=None, max_threads=1)
    orch = hanging.orch
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(orch.dispatch, "hang")
            await until(lambda: hanging.inside == 1)
            group.cancel_scope.cancel()
        assert json.loads(await orch.dispatch("hang"))["limit"] == "threads"
        stats = orch.stats("hang")
        assert (stats.cancelled, stats.total_failures, stats.in_flight) == (1, 0, 0)
        assert await orch.dispatch("plain") == "plain"
    finally:
        hanging.go_on.set()
    await until(lambda: hanging.inside == 0)
    with anyio.fail_after(10):
        while await orch.dispatch("hang") != "done":  # noqa: ASYNC110
            await anyio.sleep(0.001)


@real_time
async def test_a_replaced_tool_does_not_get_a_second_set_of_threads(
    hanging: Hanging,
) -> None:
    orch = hanging.orch
    for _ in range(10):
        await orch.dispatch("hang")
    hanging.registry.tool(
        name="hang", timeout=0.05, policy=ToolPolicy(max_threads=4), replace=True
    )(hanging._hang)
    for _ in range(10):
        await orch.dispatch("hang")
    assert hanging.most == 4


@real_time
async def test_another_number_of_threads_is_no_second_set_of_them(hanging: Hanging) -> None:
    orch = hanging.orch
    for size, most in ((4, 4), (6, 6), (3, 6), (2, 6)):
        hanging.registry.tool(
            name="hang", timeout=0.01, policy=ToolPolicy(max_threads=size), replace=True
        )(hanging._hang)
        for _ in range(8):
            await orch.dispatch("hang")
        assert hanging.most == most


@real_time
async def test_a_tool_that_is_removed_and_added_again_has_the_threads_it_had(
    hanging: Hanging,
) -> None:
    orch, policy = hanging.orch, ToolPolicy(max_threads=4)
    for _ in range(3):
        for _ in range(8):
            await orch.dispatch("hang")
        hanging.registry.remove("hang")
        hanging.registry.tool(name="hang", timeout=0.01, policy=policy)(hanging._hang)
    assert hanging.most == 4
    hanging.go_on.set()
    await until(lambda: hanging.inside == 0)
    with anyio.fail_after(10):
        while await orch.dispatch("hang") != "done":  # noqa: ASYNC110
            await anyio.sleep(0.001)


@real_time
async def test_a_function_that_was_given_up_may_still_call_tools() -> None:
    registry, begun, go_on = Registry(), threading.Event(), threading.Event()
    answers: list[str] = []

    @registry.tool
    async def look_up() -> str:
        await anyio.lowlevel.checkpoint()
        raise ConnectionError("down")

    @registry.tool(timeout=0.05)
    def report() -> str:
        begun.set()
        go_on.wait(30)
        answers.append(anyio.from_thread.run(orch.dispatch, "look_up"))
        return "done"

    orch = ToolOrchestrator(registry)
    assert json.loads(await orch.dispatch("report"))["timeout"] is True
    go_on.set()
    await until(lambda: answers)
    assert "down" in answers[0]
    assert orch.stats("look_up").in_flight == 0


@real_time
async def test_a_call_from_a_thread_that_was_given_up_has_an_answer() -> None:
    registry, go_on = Registry(), threading.Event()
    answers: list[str] = []

    @registry.tool
    async def look_up() -> str:
        await anyio.lowlevel.checkpoint()
        raise ConnectionError("down")

    orch = ToolOrchestrator(registry)

    def elsewhere() -> None:
        go_on.wait(30)
        answers.append(anyio.from_thread.run(orch.dispatch, "look_up"))

    with anyio.move_on_after(0.05):
        await anyio.to_thread.run_sync(elsewhere, abandon_on_cancel=True)
    go_on.set()
    await until(lambda: answers)
    assert "down" in answers[0]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_thread_that_cannot_be_had_is_held_against_nobody(loop: str) -> None:
    # In a process of its own, which has no thread that idles.
    text = """
        import anyio, threading, time
        from orchestrator_async import Registry, ToolOrchestrator

        registry = Registry()

        @registry.tool
        def convert() -> str:
            return "done"

        orch = ToolOrchestrator(registry, failure_threshold=1)

        async def main():
            # Room for a stack that no machine has: a thread cannot be started.
            threading.stack_size(1 << 46)
            refused = await orch.run("convert")
            threading.stack_size(0)
            print(refused.content)
            print(refused.verdict, type(refused.error).__name__)
            print(orch.circuit("convert").state, await orch.dispatch("convert"))

        anyio.run(main, backend=BACKEND)
        print(time.monotonic())
    """
    said, verdict, after = run_script(text, loop)[0].splitlines()
    assert json.loads(said)["limit"] == "system threads"
    assert verdict == "ignore LimitExceededError"
    assert after == "closed done"


@pytest.mark.parametrize(
    "anyio_backend", ["asyncio in real time", "asyncio+uvloop"], indirect=True
)
async def test_a_call_that_another_task_closes_gives_no_verdict() -> None:
    registry, go_on = Registry(), threading.Event()

    @registry.tool
    def convert() -> str:
        go_on.wait(30)
        return "done"

    orch = ToolOrchestrator(registry, failure_threshold=1)
    coroutine = orch.dispatch("convert")

    async def begin() -> None:
        coroutine.send(None)

    try:
        await asyncio.create_task(begin())
        coroutine.close()
    finally:
        go_on.set()
    assert orch.circuit("convert").failures == 0
    assert orch.stats("convert").ignored == 1
    assert orch.stats("convert").in_flight == 0


@real_time
async def test_the_late_error_of_a_function_that_was_given_up_is_not_kept() -> None:
    class Big:
        pass

    registry, go_on, ended = Registry(), threading.Event(), threading.Event()
    alive: weakref.WeakSet[Big] = weakref.WeakSet()

    @registry.tool(timeout=0.02)
    def read() -> str:
        big = Big()
        alive.add(big)
        try:
            go_on.wait(30)
            raise OSError("late")
        finally:
            ended.set()

    orch = ToolOrchestrator(registry)
    gc.collect()
    gc.disable()
    try:
        await orch.dispatch("read")
        go_on.set()
        await until(ended.is_set)
        await until(lambda: not alive)
    finally:
        gc.enable()


@real_time
@pytest.mark.parametrize("late", [True, False])
async def test_a_coroutine_that_nobody_takes_any_more_is_closed(late: bool) -> None:
    registry = Registry()
    begun, go_on = threading.Event(), threading.Event()
    made: list[Any] = []

    async def rest() -> str:
        return "never"

    @registry.tool
    def read() -> Any:
        begun.set()
        go_on.wait(30)
        made.append(rest())
        return made[-1]

    orch = ToolOrchestrator(registry)
    async with anyio.create_task_group() as group:
        group.start_soon(orch.dispatch, "read")
        await until(begun.is_set)
        slots = orch._fleet.entry(registry["read"]).slots
        assert slots is not None
        if not late:
            go_on.set()
            while slots.taken:
                time.sleep(0.001)  # noqa: ASYNC251 (the loop is not to hear of it)
        group.cancel_scope.cancel()
    go_on.set()
    await until(lambda: bool(made) and inspect.getcoroutinestate(made[0]) == "CORO_CLOSED")


@real_time
async def test_a_limit_is_no_probe() -> None:
    hanging = Hanging(max_threads=1)
    now = 0.0
    orch = ToolOrchestrator(
        hanging.registry, failure_threshold=1, reset_timeout=5, clock=lambda: now
    )
    try:
        assert json.loads(await orch.dispatch("hang"))["timeout"] is True
        assert orch.circuit("hang").state == "open"
        now = 6.0
        for _ in range(3):
            assert json.loads(await orch.dispatch("hang"))["limit"] == "threads"
            assert orch.circuit("hang").state == "open"
    finally:
        hanging.go_on.set()
    await until(lambda: hanging.inside == 0)
    with anyio.fail_after(10):
        while await orch.dispatch("hang") != "done":
            now += 10
            await anyio.sleep(0.001)
    assert orch.circuit("hang").state == "closed"


@real_time
async def test_every_way_out_of_a_thread_gives_its_slot_back() -> None:
    registry = Registry()

    @registry.tool(policy=ToolPolicy(max_threads=1), validate=False)
    def plain(what: str) -> str:
        match what:
            case "raise":
                raise RuntimeError("no")
            case "exit":
                raise SystemExit(3)
            case "stop":
                raise StopIteration
        return what

    orch = ToolOrchestrator(registry, failure_threshold=1_000)
    for _ in range(20):
        assert await orch.dispatch("plain", {"what": "x"}) == "x"
        for what in ("raise", "exit", "stop"):
            result = await orch.run("plain", {"what": what})
            assert result.verdict is Verdict.FAILURE
            assert "limit" not in json.loads(result.content)
        assert "invalid_arguments" in json.loads(await orch.dispatch("plain", {"y": 1}))
        orch.circuit("plain").isolate().release()
    stats = orch.stats("plain")
    assert (stats.rejected, stats.in_flight, stats.successes) == (0, 0, 20)


@real_time
async def test_an_interrupt_in_a_thread_goes_up() -> None:
    registry = Registry()

    class Halt(BaseException):
        pass

    @registry.tool
    def plain() -> None:
        raise Halt

    orch = ToolOrchestrator(registry)
    with pytest.raises(Halt):
        await orch.dispatch("plain")
    stats = orch.stats("plain")
    assert (stats.total_failures, stats.in_flight) == (0, 0)


@real_time
async def test_call_raises_what_the_function_raised() -> None:
    registry = Registry()
    error = ValueError("no")

    @registry.tool
    def plain() -> None:
        raise error

    orch = ToolOrchestrator(registry)
    with pytest.raises(ValueError, match="no") as caught:
        await orch.call("plain")
    assert caught.value is error


@real_time
async def test_context_variables_of_the_caller_are_seen_in_the_thread() -> None:
    registry = Registry()
    user = contextvars.ContextVar("user", default="nobody")

    @registry.tool
    def who() -> str:
        seen = user.get()
        user.set("changed")
        return seen

    orch = ToolOrchestrator(registry)
    for name in ("joe", "ann"):
        user.set(name)
        assert await orch.dispatch("who") == name
        assert await registry.dispatch("who") == name
        assert user.get() == name


@real_time
async def test_a_plain_function_can_call_into_the_loop() -> None:
    registry = Registry()
    loop_thread = threading.get_ident()

    async def in_loop(x: int) -> tuple[int, int]:
        await anyio.lowlevel.checkpoint()
        return x + 1, threading.get_ident()

    @registry.tool
    def plain(x: int) -> list[Any]:
        value, thread = anyio.from_thread.run(in_loop, x)
        again = anyio.from_thread.run_sync(threading.get_ident)
        return [value, thread == again == loop_thread]

    @registry.tool
    def outer() -> Any:
        return json.loads(anyio.from_thread.run(orch.dispatch, "plain", {"x": 5}))

    orch = ToolOrchestrator(registry)
    assert await orch.call("plain", {"x": 3}) == [4, True]
    assert await registry.dispatch("plain", {"x": 3}) == [4, True]
    assert await orch.call("outer") == [6, True]


@real_time
async def test_a_plain_function_may_return_something_to_await() -> None:
    registry = Registry()

    async def later() -> str:
        await anyio.lowlevel.checkpoint()
        return "later"

    registry.tool(name="wrapped")(lambda: later())
    assert await ToolOrchestrator(registry).dispatch("wrapped") == "later"


@real_time
async def test_threads_are_used_again() -> None:
    registry = Registry()

    @registry.tool
    def which() -> int:
        return threading.get_ident()

    orch = ToolOrchestrator(registry)
    threads = {await orch.call("which") for _ in range(50)}
    assert len(threads) <= 3


@real_time
async def test_what_a_function_returned_is_not_kept_by_its_thread() -> None:
    class Big:
        pass

    registry = Registry()

    @registry.tool
    def make() -> Big:
        return Big()

    orch = ToolOrchestrator(registry)
    value = weakref.ref(await orch.call("make"))
    for _ in range(100):
        gc.collect()
        if value() is None:
            break
        await anyio.sleep(0.001)
    assert value() is None


@real_time
async def test_a_plain_function_over_its_timeout_is_a_failure_however_it_ends() -> None:
    hanging = Hanging()
    result = await hanging.orch.run("hang")
    hanging.go_on.set()
    assert result.verdict is Verdict.FAILURE
    assert isinstance(result.error, ToolTimeoutError)
    assert result.error.still_running
    await until(lambda: hanging.inside == 0)
    assert hanging.orch.stats("hang").total_failures == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_hung_function_does_not_keep_the_process(backend: str) -> None:
    said, seconds = run_script(
        """
        import anyio, json, threading, time
        from orchestrator_async import Registry, ToolOrchestrator, ToolPolicy

        registry = Registry()

        @registry.tool(timeout=0.25, policy=ToolPolicy(max_threads=4))
        def hang():
            time.sleep(120)

        @registry.tool
        def plain():
            return "fine"

        orch = ToolOrchestrator(registry, failure_threshold=1000)

        async def main():
            said = [json.loads(await orch.dispatch("hang")) for _ in range(100)]
            print(sum("timeout" in each for each in said))
            print(sum("limit" in each for each in said))
            print(await orch.dispatch("plain"))

        anyio.run(main, backend=BACKEND)
        print(time.monotonic(), flush=True)
        """,
        backend,
    )
    assert said.split() == ["4", "96", "fine"]
    assert seconds < 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_thread_that_outlives_its_loop_is_harmless(backend: str) -> None:
    said, _ = run_script(
        """
        import anyio, threading, time
        from orchestrator_async import Registry, ToolOrchestrator, ToolPolicy

        registry = Registry()
        go_on = threading.Event()
        ended = threading.Event()

        @registry.tool(timeout=0.02, policy=ToolPolicy(max_threads=1))
        def slow(wait: bool = True):
            if wait:
                go_on.wait()
                ended.set()
            return "fine"

        orch = ToolOrchestrator(registry, failure_threshold=1000)

        async def main(wait):
            print(await orch.dispatch("slow", {"wait": wait}))

        anyio.run(main, True, backend=BACKEND)
        go_on.set()
        ended.wait()
        time.sleep(0.05)
        anyio.run(main, False, backend=BACKEND)
        print(time.monotonic(), flush=True)
        """,
        backend,
    )
    assert "timeout" in said.splitlines()[0]
    assert said.splitlines()[1] == "fine"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_forked_child_has_threads_of_its_own(backend: str) -> None:
    said, _ = run_script(
        """
        import anyio, os, sys, threading, time
        from orchestrator_async import Registry, ToolOrchestrator, ToolPolicy

        registry = Registry()

        @registry.tool(timeout=5)
        def plain():
            return "fine"

        orch = ToolOrchestrator(registry)

        async def main():
            for _ in range(3):
                print(await orch.dispatch("plain"), flush=True)

        anyio.run(main, backend=BACKEND)
        time.sleep(0.05)
        child = os.fork()
        if not child:
            anyio.run(main, backend=BACKEND)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0
        anyio.run(main, backend=BACKEND)
        print(time.monotonic(), flush=True)
        """,
        backend,
        "-W",
        "ignore::DeprecationWarning",
    )
    assert said.split() == ["fine"] * 9


def test_a_worker_that_is_taken_as_its_time_ends_takes_the_call() -> None:
    """
    It finds nothing, is no longer among the idle ones, and so looks once more.
    """

    class Inbox(queue.SimpleQueue[Any]):
        looks = 0

        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            self.looks += 1
            if self.looks != 2:
                raise queue.Empty
            return super().get(block, 10)

    async def main() -> None:
        slots, worker, ran = Slots(1), _Worker(), threading.Event()
        worker.inbox = Inbox()
        assert slots.take()
        _idle.append(worker)
        async with anyio.create_task_group() as group:
            group.start_soon(ThreadedCall(slots).wait, ran.set)
            await until(lambda: worker not in _idle)
            worker.start()
        assert ran.is_set()
        assert slots.taken == 0
        await until(lambda: not worker.is_alive())
        assert worker not in _idle

    anyio.run(main)
