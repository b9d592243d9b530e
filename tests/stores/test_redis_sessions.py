"""
That sessions leave nothing behind, wherever they are broken off, and which loops they run in.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from functools import partial

import anyio
import pytest
import sniffio
import trio

from orchestrator_async.stores import StoreError, StoreSession
from orchestrator_async.stores.redis import RedisStore

from .engine import Engine
from .parts import REAL_LOOPS, Listener, moved, opened, run, state_of, without_rest

on_each_loop = pytest.mark.parametrize("anyio_backend", REAL_LOOPS, indirect=True)

C = "circuit"


async def use(store: RedisStore) -> None:
    """
    Whatever can be done with a session, and some time in it.
    """
    async with store.session(Listener()) as session:
        await session.read([C])
        await session.change(C, run())
        await session.beat("one", {"tool": "1"})
        await session.figures()
        await anyio.sleep(0.001)


def tasks() -> int:
    """
    How many tasks there are in this loop.
    """
    if sniffio.current_async_library() == "trio":
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


def held() -> dict[str, int]:
    """
    What there is of which nothing is to be left.
    """
    return {
        "tasks": tasks(),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def more_than(before: dict[str, int]) -> dict[str, int]:
    """
    What there is more of than before.
    """
    return {name: now for name, now in held().items() if now > before[name]}


async def settle(is_so: Callable[[], bool]) -> None:
    """
    The client library closes in a thread of its own.
    """
    for _ in range(300):
        if is_so():
            return
        await anyio.sleep(0.05)


def clients(engine: Engine) -> int:
    """
    How many have a connection to an engine, besides who asks this.
    """
    said = engine.ask("CLIENT", "LIST")
    assert isinstance(said, str)
    return len(said.splitlines()) - 1


@pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc")
@on_each_loop
@pytest.mark.parametrize("state", ["well", "stopped", "dead"])
async def test_wherever_a_session_is_broken_off_nothing_is_left(
    own_engine: Engine, state: str
) -> None:
    store = RedisStore(own_engine.url, request_timeout=0.25)
    for _ in range(3):  # the library has threads, and files, that stay
        await use(store)
    await settle(lambda: clients(own_engine) == 0)
    before = held()
    if state == "stopped":
        own_engine.stop()
    elif state == "dead":
        own_engine.kill()
    entered, broken_off = 0, 0
    steps = {"well": (100, 0.0002), "stopped": (12, 0.03), "dead": (12, 0.0005)}
    number, step = steps[state]
    for each in range(number):
        try:
            with anyio.move_on_after(each * step) as scope:
                await use(store)
                entered += 1
        except StoreError:
            assert state != "well"
        broken_off += scope.cancelled_caught
    assert broken_off
    if state == "well":
        assert entered  # so it was broken off everywhere
    elif state == "stopped":
        own_engine.cont()
    else:
        own_engine.restart()
    await settle(lambda: clients(own_engine) == 0 and not more_than(before))
    assert clients(own_engine) == 0
    assert not more_than(before)
    await use(store)


@on_each_loop
async def test_also_where_it_is_left_while_others_ask(own_engine: Engine) -> None:
    """
    Those get an error of a store, or an answer.
    """
    store = RedisStore(own_engine.url, request_timeout=0.25)
    ends: list[str] = []

    async def asks(session: StoreSession) -> None:
        try:
            while True:
                await session.read([C])
        except StoreError:
            ends.append("error")

    async with anyio.create_task_group() as group, store.session(Listener()) as session:
        for _ in range(5):
            group.start_soon(asks, session)
        await anyio.sleep(0.02)
    assert ends == ["error"] * 5
    await settle(lambda: clients(own_engine) == 0)
    assert clients(own_engine) == 0


@on_each_loop
async def test_many_sessions_are_there_at_one_time(
    shared_engine: Engine, prefix: str
) -> None:
    store = RedisStore(shared_engine.url, prefix=prefix)
    done: list[int] = []

    async def one(number: int) -> None:
        listener = Listener()
        async with store.session(listener) as session:
            await moved(session, f"{number}", opened(failures=number))
            await listener.until(lambda: len(listener.heard) > 0)
            done.append(number)

    async with anyio.create_task_group() as group:
        for number in range(30):
            group.start_soon(one, number)
    assert sorted(done) == list(range(30))


def test_one_store_is_used_in_one_loop_after_another(
    shared_engine: Engine, prefix: str
) -> None:
    store = RedisStore(shared_engine.url, prefix=prefix)

    async def go(number: int) -> None:
        listener = Listener()
        async with store.session(listener) as session:
            before = await state_of(session, C)
            assert (0 if before is None else before.failures) == number
            state = await moved(session, C, opened(failures=number + 1))
            [(circuit, heard)] = await listener.hears(1)
            assert (circuit, without_rest(heard)) == (C, without_rest(state))

    for number, backend in enumerate(["asyncio", "trio", "trio", "asyncio", "asyncio"]):
        anyio.run(go, number, backend=backend)


@pytest.mark.parametrize("backends", [("asyncio", "trio"), ("trio", "asyncio")])
def test_a_loop_in_another_thread_goes_on_when_the_first_one_has_ended(
    shared_engine: Engine, prefix: str, backends: tuple[str, str]
) -> None:
    """
    The client library answers all loops by way of the first one, which is none of them then.
    """
    first_has_begun, second_has_begun, first_has_ended = (
        threading.Event() for _ in range(3)
    )
    errors: list[BaseException] = []

    async def first() -> None:
        async with RedisStore(shared_engine.url, prefix=prefix).session(Listener()):
            first_has_begun.set()
            await anyio.to_thread.run_sync(second_has_begun.wait, 30)

    async def second() -> None:
        listener = Listener()
        store = RedisStore(shared_engine.url, prefix=prefix, request_timeout=0.2)
        async with store.session(listener) as session:
            await moved(session, C, opened())
            second_has_begun.set()
            assert await anyio.to_thread.run_sync(first_has_ended.wait, 30)
            for _ in range(20):
                try:
                    await moved(session, C, opened(failures=5))
                except StoreError:
                    continue
                break
            await listener.until(lambda: listener.heard[-1:] != [])
            await moved(session, C, opened(failures=6))
            await listener.until(lambda: listener.heard[-1][1].failures == 6)

    def in_thread(main: Callable[..., object], backend: str) -> None:
        try:
            anyio.run(main, backend=backend)  # type: ignore[arg-type]
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=partial(in_thread, main, backend))
        for main, backend in zip((first, second), backends, strict=True)
    ]
    threads[0].start()
    assert first_has_begun.wait(60)
    threads[1].start()
    threads[0].join(60)
    first_has_ended.set()
    threads[1].join(60)
    assert not any(each.is_alive() for each in threads)
    assert errors == []
