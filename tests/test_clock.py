"""
The clocks that the other tests stand on.
"""

from __future__ import annotations

import logging
import math
import threading
import time

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from .clock import real_time, virtual_time


@virtual_time
async def test_a_long_sleep_takes_its_time_on_the_loop_and_none_on_the_wall() -> None:
    wall, start = time.monotonic(), anyio.current_time()

    await anyio.sleep(1000)

    assert anyio.current_time() - start == pytest.approx(1000)
    assert time.monotonic() - wall < 5


@virtual_time
async def test_sleepers_wake_in_the_order_of_their_deadlines() -> None:
    woken: list[tuple[int, float]] = []
    start = anyio.current_time()

    async def sleeper(seconds: int) -> None:
        await anyio.sleep(seconds)
        woken.append((seconds, anyio.current_time() - start))

    async with anyio.create_task_group() as tasks:
        for seconds in (300, 5, 86_400 * 3, 40):
            tasks.start_soon(sleeper, seconds)

    assert [seconds for seconds, _ in woken] == [5, 40, 300, 86_400 * 3]
    assert [at for _, at in woken] == pytest.approx([5, 40, 300, 86_400 * 3])


@virtual_time
async def test_time_stands_still_while_a_task_is_ready() -> None:
    start = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep, 1000)
        for _ in range(50):
            await anyio.lowlevel.checkpoint()
            assert anyio.current_time() == pytest.approx(start)
        tasks.cancel_scope.cancel()


@virtual_time
async def test_a_deadline_strikes_on_time() -> None:
    start = anyio.current_time()
    with anyio.move_on_after(250) as scope:
        await anyio.sleep(math.inf)

    assert scope.cancelled_caught
    assert anyio.current_time() - start == pytest.approx(250)


@virtual_time
async def test_who_sleeps_forever_can_be_cancelled() -> None:
    asleep = anyio.Event()
    ended = False

    async def sleeper() -> None:
        nonlocal ended
        asleep.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleeper)
        await asleep.wait()
        await anyio.sleep(86_400 * 365)
        assert not ended
        tasks.cancel_scope.cancel()

    assert ended


@virtual_time
async def test_time_goes_on_for_years() -> None:
    start = anyio.current_time()
    for _ in range(20):
        await anyio.sleep(86_400 * 180)
        await anyio.sleep(0.001)

    assert anyio.current_time() - start == pytest.approx(86_400 * 3600 + 0.02, abs=1e-3)


@pytest.mark.parametrize("turn", [1, 2])
@virtual_time
async def test_each_test_has_a_clock_of_its_own(turn: int) -> None:
    # MockClock and the loop start near zero; a shared clock would show the first turn.
    first = anyio.current_time()
    await anyio.sleep(50_000)
    again = anyio.current_time()

    assert again - first == pytest.approx(50_000)
    assert turn in (1, 2)


@real_time
async def test_in_real_time_a_thread_is_waited_for() -> None:
    start, wall = anyio.current_time(), time.monotonic()
    release = threading.Event()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, release.wait, 10)
        with anyio.move_on_after(0.01):
            await anyio.sleep_forever()
        release.set()

    took = time.monotonic() - wall
    assert anyio.current_time() - start <= took + 0.05
    assert 0.005 < took < 10


async def test_every_loop_runs_a_test(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await anyio.lowlevel.checkpoint()

    assert not caplog.records
