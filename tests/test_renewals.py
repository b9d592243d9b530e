"""
When a lease is renewed whose probe runs.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from orchestrator_async._lease import Lease
from orchestrator_async._renewals import Renewals
from orchestrator_async._store import Answer, Renew, SharedState

from .clock import virtual_time

pytestmark = virtual_time

LENGTH = 3.0


class Line:
    """
    A session that answers at once, or fails.
    """

    def __init__(self, tasks: TaskGroup) -> None:
        self.session: Line | None = self
        self.is_up = True
        self.fails = False
        self.began = anyio.current_time()
        self.asked: list[float] = []
        self.missed_at: list[float] = []
        self._tasks = tasks

    def start(self, fn: Callable[..., Coroutine[Any, Any, object]], *args: object) -> None:
        self._tasks.start_soon(fn, *args)

    def time(self) -> float:
        return anyio.current_time() - self.began

    def missed(self, error: Exception, began: float) -> None:
        assert isinstance(error, OSError)
        self.missed_at.append(began)

    async def change(self, id: str, renew: Renew) -> Answer:
        assert id == "tool"
        self.asked.append(round(self.time(), 3))
        if self.fails:
            raise OSError("no route")
        return Answer(done=True, state=SharedState())


class Link:
    """
    A circuit whose probe runs.
    """

    id = "tool"

    def __init__(self, lease: Lease) -> None:
        self.lease: Lease | None = lease

    def renewal(self, lease: Lease, now: float) -> Renew | None:
        if self.lease is not lease or now >= lease.last:
            return None
        seconds = min(LENGTH, lease.last - now)
        return Renew(known=SharedState(), token=lease.token, lease=seconds)

    def renewed(self, lease: Lease, renew: Renew, answer: Answer, began: float) -> None:
        assert answer.done
        lease.until = began + renew.lease


class Rig:
    """
    One lease of three seconds, which may last a minute.
    """

    def __init__(self, tasks: TaskGroup) -> None:
        self.line = Line(tasks)
        self.lease = Lease("token", LENGTH, LENGTH, 0.0)
        self.lease.last = 60.0
        self.link: Any = Link(self.lease)
        of: Any = self.line
        self.renewals = Renewals(of)

    def keep(self) -> None:
        self.renewals.keep(self.link, self.lease)


async def asked_in(seconds: float, prepare: Callable[[Rig], object]) -> list[float]:
    async with anyio.create_task_group() as tasks:
        rig = Rig(tasks)
        prepare(rig)
        rig.keep()
        await anyio.sleep(seconds)
        tasks.cancel_scope.cancel()
    found: list[float] = rig.line.asked
    return found


async def test_it_is_renewed_when_a_third_of_it_has_gone():
    assert await asked_in(4.5, lambda rig: None) == [1.0, 2.0, 3.0, 4.0]


async def test_one_of_which_less_than_half_is_left_is_renewed_at_once():
    def prepare(rig: Rig) -> None:
        rig.line.began -= 1.6

    assert await asked_in(1.2, prepare) == [1.6, 2.6]


async def test_one_of_which_more_than_half_is_left_is_not():
    def prepare(rig: Rig) -> None:
        rig.line.began -= 1.4

    assert await asked_in(1.0, prepare) == [pytest.approx(1.4 + 1.6 / 3, abs=1e-3)]


async def test_it_is_not_renewed_where_its_tool_has_no_more_time():
    def prepare(rig: Rig) -> None:
        rig.lease.last = 3.6

    assert await asked_in(10.0, prepare) == [1.0]  # for the 2.6 s that are left


async def test_nor_for_the_little_that_an_answer_takes():
    def prepare(rig: Rig) -> None:
        rig.lease.last = LENGTH + 0.04

    assert await asked_in(10.0, prepare) == []


async def test_one_that_fails_is_tried_again_and_again_with_a_pause():
    def prepare(rig: Rig) -> None:
        rig.line.fails = True

    found = await asked_in(2.0, prepare)
    assert found[:2] == [1.0, pytest.approx(1.667, abs=1e-3)]
    pauses = [after - before for before, after in pairwise(found[1:])]
    assert pauses == [pytest.approx(0.05, abs=2e-3)] * 6


@pytest.mark.parametrize("gone", ["session", "patience"])
async def test_nobody_is_asked_while_the_store_is_down(gone: str):
    async with anyio.create_task_group() as tasks:
        rig = Rig(tasks)
        if gone == "session":
            rig.line.session = None
        rig.line.is_up = False
        rig.keep()
        await anyio.sleep(2.0)
        assert rig.line.asked == []
        rig.line.session, rig.line.is_up = rig.line, True
        await anyio.sleep(0.06)
        assert len(rig.line.asked) == 1  # it is back
        rig.link.lease = None
        rig.renewals.release(rig.lease)


async def test_who_fails_is_told_of_when_it_was_asked():
    async with anyio.create_task_group() as tasks:
        rig = Rig(tasks)
        rig.line.fails = True
        rig.keep()
        await anyio.sleep(1.1)
        assert rig.line.missed_at == [pytest.approx(1.0)]
        tasks.cancel_scope.cancel()


async def test_it_ends_with_the_probe():
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        rig = Rig(tasks)
        rig.keep()
        await anyio.sleep(0.5)
        rig.link.lease = None
        rig.renewals.release(rig.lease)
    assert anyio.current_time() - began == pytest.approx(0.5)
    assert rig.line.asked == []
    rig.renewals.release(rig.lease)  # nothing keeps it any more


async def test_one_that_has_ended_before_it_began_is_not_kept():
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        rig = Rig(tasks)
        rig.keep()
        rig.link.lease = None
        rig.renewals.release(rig.lease)
    assert anyio.current_time() == began


async def test_it_is_kept_once():
    async with anyio.create_task_group() as tasks:
        rig = Rig(tasks)
        rig.keep()
        rig.keep()
        await anyio.sleep(1.5)
        assert rig.line.asked == [1.0]
        tasks.cancel_scope.cancel()


async def test_one_that_is_lost_is_renewed_at_once_and_once():
    async with anyio.create_task_group() as tasks:
        rig = Rig(tasks)
        rig.renewals.once(rig.link, rig.lease)
        await anyio.sleep(5.0)
    assert rig.line.asked == [0.0]


async def test_what_was_kept_in_a_loop_that_is_gone_is_forgotten():
    async with anyio.create_task_group() as tasks:
        rig = Rig(tasks)
        rig.keep()
        await anyio.sleep(0.5)
        rig.renewals.begin()
        rig.keep()
        await anyio.sleep(1.0)
        assert rig.line.asked == [1.0, pytest.approx(0.5 + 2.5 / 3, abs=1e-3)]  # by both
        tasks.cancel_scope.cancel()
