from __future__ import annotations

import logging
import threading

import anyio
import pytest

from orchestrator_async.stores import StoreError
from orchestrator_async.stores.redis import RedisStore

from .engine import Engine


def run_two(engine: Engine, first: str, second: str) -> list[str]:
    """
    What becomes of a session in a loop, while another loop in another thread has one.
    """
    found: list[str] = []
    began, done = threading.Event(), threading.Event()

    async def hold() -> None:
        async with RedisStore(engine.url).session(lambda *told: None) as session:
            await session.beat("first", {})
            began.set()
            await anyio.to_thread.run_sync(done.wait, 30)
            found.append(f"first: {await session.beat('first', {})}")

    async def try_it() -> None:
        for _ in range(2):
            try:
                async with RedisStore(engine.url).session(lambda *told: None) as session:
                    found.append(f"second: {await session.beat('second', {})}")
            except StoreError as error:
                found.append(str(error))

    thread = threading.Thread(target=anyio.run, args=(hold,), kwargs={"backend": first})
    thread.start()
    try:
        assert began.wait(30)
        anyio.run(try_it, backend=second)
    finally:
        done.set()
        thread.join()
    return found


def test_a_second_loop_of_trio_is_refused_and_ends_nobody(shared_engine: Engine) -> None:
    *second, first = run_two(shared_engine, "trio", "trio")
    assert len(second) == 2
    assert all("another event loop of trio" in each for each in second)
    assert first.startswith("first: ")


@pytest.mark.parametrize(("first", "second"), [("asyncio", "asyncio"), ("trio", "asyncio")])
def test_another_loop_beside_it_is_told_of(
    shared_engine: Engine, first: str, second: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    *found, last = run_two(shared_engine, first, second)
    assert [each.partition(":")[0] for each in found] == ["second", "second"]
    assert last.startswith("first: ")
    assert "once a second" in caplog.text


def test_one_loop_after_another_is_told_of_nothing(
    shared_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async def use() -> None:
        async with RedisStore(shared_engine.url).session(lambda *told: None) as session:
            await session.beat("alone", {})

    for backend in ("trio", "asyncio", "trio"):
        anyio.run(use, backend=backend)
    assert not caplog.records
