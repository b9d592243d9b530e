"""
A limit of calls at one time: who has a place and who is next, also when they are cancelled,
when a place comes back out of nowhere, and when their loop is gone.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import math
import sys
import threading
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import nullcontext, suppress
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trio
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from orchestrator_async._limits import Limit, Refused

from .clock import AutojumpEventLoop, real_time, virtual_time
from .rig import on_asyncio, run, shuffled, turns
from .support import when_blocked

DEBUG = False

LONG = 1_000.0
ENDS = Callable[[], None]


class Guest:
    """
    A task that asks for a place, and holds it until it is told to leave, or cancelled.

    Attributes:
        got: What it was told; ``"waits"`` until then.
        at: When, on the loop's clock.
        ended: Whether the task is over.
    """

    def __init__(self, limit: Limit, wait: float = math.inf) -> None:
        self.limit = limit
        self.wait = wait
        self.got: Refused | str | None = "waits"
        self.at = math.nan
        self.scope = anyio.CancelScope()
        self.arrived = anyio.Event()
        self.leave = anyio.Event()
        self.task: asyncio.Task[Any] | None = None
        self.ended = False

    @property
    def is_in(self) -> bool:
        return self.got is None and not self.ended

    async def __call__(self) -> None:
        if on_asyncio():
            self.task = asyncio.current_task()
        try:
            # A request to the task itself is nobody else's business.
            with suppress(asyncio.CancelledError), self.scope:
                await self.stay()
        finally:
            self.ended = True

    async def stay(self) -> None:
        self.got = await self.limit.acquire(wait=self.wait)
        self.at = anyio.current_time()
        if self.got is None:
            self.arrived.set()
            try:
                await self.leave.wait()
            finally:
                self.limit.release()

    def cancel(self, kind: str) -> None:
        if kind in ("scope", "both"):
            self.scope.cancel()
        if kind in ("request", "both"):
            assert self.task is not None
            self.task.cancel()


def kinds() -> list[str]:
    """
    The ways in which a task of the loop that runs can be cancelled.
    """
    return ["scope", "request", "both"] if on_asyncio() else ["scope"]


async def join(
    tasks: anyio.abc.TaskGroup, limit: Limit, number: int, wait: float = math.inf
) -> list[Guest]:
    """
    So many come, one after the other.
    """
    guests = [Guest(limit, wait) for _ in range(number)]
    for guest in guests:
        tasks.start_soon(guest)
        await turns(3)
    return guests


def full(size: int = 1, queue: int = 10, max_wait: float = LONG) -> Limit:
    """
    A limit whose places are all taken.
    """
    limit = Limit("github", size, max_queue=queue, max_wait=max_wait)
    for _ in range(size):
        assert limit.take()
    return limit


def at_once(answer: Coroutine[Any, Any, Any]) -> Any:
    """
    What a coroutine returns that awaits nothing.
    """
    try:
        answer.send(None)
    except StopIteration as done:
        return done.value
    answer.close()
    raise AssertionError("it has awaited something")


def assert_all_back(limit: Limit) -> None:
    """
    Nobody holds a place, nobody waits, and each place can be had.
    """
    assert (limit.taken, limit.waiting) == (0, 0)
    assert [limit.take() for _ in range(limit.size + 1)] == [True] * limit.size + [False]
    for _ in range(limit.size):
        limit.release()


# Settings


@pytest.mark.parametrize(
    ("setting", "bad"),
    [
        *(("size", bad) for bad in (0, -1, 1.0, True, "4", None)),
        *(("max_queue", bad) for bad in (-1, 1.5, False, None, math.inf)),
        *(("max_wait", bad) for bad in (-0.1, float("inf"), math.nan, "1", None, True)),
    ],
)
def test_a_setting_that_cannot_be_is_named_and_changes_nothing(
    setting: str, bad: Any
) -> None:
    given: dict[str, Any] = {"size": 3, "max_queue": 4, "max_wait": 5.0, setting: bad}
    with pytest.raises(ValueError, match=f"{setting}={bad!r}"):
        Limit("github", **given)
    limit = Limit("github", 7, max_queue=8, max_wait=9)
    with pytest.raises(ValueError, match=f"{setting}={bad!r}"):
        limit.reload(**given)
    assert (limit.size, limit.max_queue, limit.max_wait) == (7, 8, 9)


def test_by_default_nobody_waits() -> None:
    limit = Limit("github", 1)
    assert (limit.max_queue, limit.max_wait) == (0, 30.0)
    assert limit.take()
    assert at_once(limit.acquire()) is Refused.FULL


async def test_what_it_shows_is_its_name_and_its_figures() -> None:
    limit = full(2)
    async with anyio.create_task_group() as tasks:
        await join(tasks, limit, 1)
        assert repr(limit) == "<Limit 'github' 2 of 2 taken, 1 waiting>"
        tasks.cancel_scope.cancel()


# Places


def test_there_are_so_many_places() -> None:
    limit = Limit("github", 3)
    assert [limit.take() for _ in range(5)] == [True, True, True, False, False]
    assert limit.taken == 3
    limit.release()
    assert limit.taken == 2
    assert [limit.take() for _ in range(2)] == [True, False]


def test_a_place_that_nobody_has_taken_cannot_be_released() -> None:
    limit = Limit("github", 2)
    limit.take()
    limit.release()
    with pytest.raises(RuntimeError, match=r"'github' 0 of 2 .*more often than taken"):
        limit.release()
    assert_all_back(limit)


async def test_a_free_place_is_had_without_an_await() -> None:
    limit = Limit("github", 1, max_queue=1)
    assert at_once(limit.acquire()) is None
    assert limit.taken == 1
    assert at_once(limit.acquire(wait=0)) is Refused.TIMED_OUT
    limit.release()
    with anyio.CancelScope() as scope:
        scope.cancel()
        assert await limit.acquire() is None  # and no cancellation is met in it
    assert limit.taken == 1


async def test_who_finds_the_row_full_is_refused_without_an_await() -> None:
    limit = full(queue=2)
    async with anyio.create_task_group() as tasks:
        guests = await join(tasks, limit, 3)
        assert guests[2].got is Refused.FULL
        assert at_once(limit.acquire()) is Refused.FULL
        assert limit.waiting == 2
        guests[0].cancel("scope")
        await when_blocked()
        assert limit.waiting == 1  # its place in the row is free
        guests += await join(tasks, limit, 1)
        assert guests[3].got == "waits"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("wait", [0, 0.0, -1.0, -math.inf])
async def test_who_has_no_time_is_refused_without_an_await(wait: float) -> None:
    limit = full()
    assert at_once(limit.acquire(wait=wait)) is Refused.TIMED_OUT
    assert limit.waiting == 0
    limit.release()
    assert at_once(limit.acquire(wait=wait)) is None


async def test_at_a_max_wait_of_nothing_nobody_waits() -> None:
    limit = full(max_wait=0)
    assert at_once(limit.acquire()) is Refused.TIMED_OUT
    assert at_once(limit.acquire(wait=5)) is Refused.TIMED_OUT


async def test_who_has_no_time_and_finds_the_row_full_is_told_of_the_row() -> None:
    assert at_once(full(queue=0).acquire(wait=0)) is Refused.FULL


# Order


async def test_first_come_first_served() -> None:
    limit = full(2)
    async with anyio.create_task_group() as tasks:
        guests = await join(tasks, limit, 4)
        for served in range(1, 5):
            if served <= 2:
                limit.release()
            else:
                guests[served - 3].leave.set()
            await when_blocked()
            assert [guest.got is None for guest in guests] == [
                number < served for number in range(4)
            ]
            assert limit.taken == 2
        guests[2].leave.set()
        guests[3].leave.set()
    assert_all_back(limit)


async def test_a_place_is_the_firsts_before_it_wakes() -> None:
    limit = full()
    async with anyio.create_task_group() as tasks:
        guests = await join(tasks, limit, 2)
        limit.release()
        assert (limit.taken, limit.waiting) == (1, 1)
        assert not limit.take()
        assert not guests[0].is_in
        await when_blocked()
        assert guests[0].is_in
        assert not limit.take()
        tasks.cancel_scope.cancel()
    assert_all_back(limit)


async def test_who_comes_in_the_turn_of_the_hand_over_stands_behind() -> None:
    limit = full()
    async with anyio.create_task_group() as tasks:
        guests = await join(tasks, limit, 1)
        limit.release()
        with anyio.move_on_after(0):
            assert await limit.acquire() is Refused.TIMED_OUT  # never
        await when_blocked()
        assert guests[0].is_in
        assert limit.waiting == 0
        tasks.cancel_scope.cancel()
    assert_all_back(limit)


@types.coroutine
def noting(coro: Any, resumed: list[Any]) -> Generator[Any, Any, Any]:
    """
    Run a coroutine, and note each time that it is resumed.
    """
    move, given = coro.send, None
    while True:
        try:
            waited = move(given)
        except StopIteration as done:
            return done.value
        try:
            move, given = coro.send, (yield waited)
            resumed.append(coro)
        except BaseException as error:
            move, given = coro.throw, error


async def test_a_release_wakes_one() -> None:
    limit = full(2, queue=50)
    resumed: list[Any] = []

    async def one() -> None:
        await noting(limit.acquire(), resumed)

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(one)
        await when_blocked()
        assert limit.waiting == 50
        for number in range(4):
            assert len(resumed) == number
            limit.release()
            await when_blocked()
        limit.reload(5, max_queue=50, max_wait=LONG)
        await when_blocked()
        assert len(resumed) == 7
        tasks.cancel_scope.cancel()
    for _ in range(5):
        limit.release()
    assert_all_back(limit)


# Time


@virtual_time
@pytest.mark.parametrize(
    ("wait", "max_wait", "waited"),
    [(3, 7, 3), (7, 3, 3), (math.inf, 5, 5), (math.nan, 5, 5)],
)
async def test_one_waits_for_the_smaller_of_two_times(
    wait: float, max_wait: float, waited: float
) -> None:
    limit = full(max_wait=max_wait)
    then = anyio.current_time()
    assert await limit.acquire(wait=wait) is Refused.TIMED_OUT
    assert anyio.current_time() - then == pytest.approx(waited)
    assert (limit.taken, limit.waiting) == (1, 0)


@virtual_time
async def test_who_has_waited_too_long_is_not_handed_a_place() -> None:
    limit = full()
    async with anyio.create_task_group() as tasks:
        first, second = await join(tasks, limit, 1, 2) + await join(tasks, limit, 1, 9)
        await anyio.sleep(3)
        assert first.got is Refused.TIMED_OUT
        assert limit.waiting == 1
        limit.release()
        await when_blocked()
        assert second.is_in
        second.leave.set()
    assert_all_back(limit)


@virtual_time
@pytest.mark.parametrize("timers", ["release first", "release last"])
async def test_a_time_that_is_up_in_the_turn_of_the_hand_over_loses_no_place(
    timers: str,
) -> None:
    # The time at which both are due is exact, for a virtual clock goes on by jumps.
    for turned in range(6):
        limit = full()

        due = anyio.current_time() + 10

        async def release_then(
            limit: Limit = limit, due: float = due, turned: int = turned
        ) -> None:
            await anyio.sleep_until(due)
            await turns(turned)
            limit.release()

        async with anyio.create_task_group() as tasks:
            if timers == "release first":
                tasks.start_soon(release_then)
                await turns(3)
            guests = await join(tasks, limit, 1, 10)
            guests += await join(tasks, limit, 1, 20)
            if timers == "release last":
                tasks.start_soon(release_then)
            await anyio.sleep(15)
            await when_blocked()
            # The first has it, or has passed it on to the second.
            assert guests[0].got in (None, Refused.TIMED_OUT)
            assert guests[1].is_in is (guests[0].got is Refused.TIMED_OUT)
            assert (limit.taken, limit.waiting) == (1, int(guests[0].got is None))
            tasks.cancel_scope.cancel()
        assert_all_back(limit)


async def test_who_was_handed_a_place_has_it_also_if_his_time_is_up() -> None:
    limit = full()
    # It is up before he wakes: the clock goes on while the loop is held.
    async with anyio.create_task_group() as tasks:
        guests = await join(tasks, limit, 1, wait=0.01)
        then = anyio.current_time()
        if isinstance(_loop_of_asyncio(), AutojumpEventLoop):
            _loop_of_asyncio().jump(1.0)
        elif not on_asyncio() and isinstance(trio.lowlevel.current_clock(), MockClock):
            trio.lowlevel.current_clock().jump(1.0)  # type: ignore[attr-defined]
        else:
            while anyio.current_time() < then + 0.02:
                pass
        limit.release()
        await when_blocked()
        assert guests[0].is_in
        guests[0].leave.set()
    assert_all_back(limit)


def _loop_of_asyncio() -> Any:
    return asyncio.get_running_loop() if on_asyncio() else None


# Cancellation


@pytest.mark.parametrize("order", ["cancel first", "release first"])
async def test_a_place_handed_to_one_who_is_cancelled_goes_to_the_next(order: str) -> None:
    for kind in kinds():
        limit = full()
        async with anyio.create_task_group() as tasks:
            guests = await join(tasks, limit, 3)
            acts: list[ENDS] = [lambda: guests[0].cancel(kind), limit.release]  # noqa: B023
            for act in acts if order == "cancel first" else reversed(acts):
                act()
            await when_blocked()
            assert guests[0].ended, kind
            # Anyio does not disturb a task that is about to wake; asyncio does.
            assert guests[0].got == "waits" or kind == "scope"
            assert guests[1].is_in
            assert (limit.taken, limit.waiting) == (1, 1)
            tasks.cancel_scope.cancel()
        assert_all_back(limit)


async def test_a_place_goes_past_all_who_are_cancelled_in_that_turn() -> None:
    for kind in kinds():
        limit = full()
        async with anyio.create_task_group() as tasks:
            guests = await join(tasks, limit, 6)
            limit.release()
            for guest in guests[:5]:
                guest.cancel(kind)
            await when_blocked()
            assert guests[5].is_in
            assert (limit.taken, limit.waiting) == (1, 0)
            for guest in guests[5:]:
                guest.cancel(kind)
        assert_all_back(limit)


async def test_the_last_who_is_cancelled_with_a_place_leaves_it_free() -> None:
    for kind in kinds():
        limit = full()
        async with anyio.create_task_group() as tasks:
            guests = await join(tasks, limit, 1)
            limit.release()
            guests[0].cancel(kind)
            assert not limit.take()  # it is still due to one
            await when_blocked()
            assert_all_back(limit)


async def test_one_who_is_cancelled_in_the_middle_of_the_row_leaves_it() -> None:
    for kind in kinds():
        limit = full()
        async with anyio.create_task_group() as tasks:
            guests = await join(tasks, limit, 3)
            guests[1].cancel(kind)
            await when_blocked()
            assert limit.waiting == 2
            limit.release()
            await when_blocked()
            guests[0].leave.set()
            await when_blocked()
            assert guests[2].is_in
            guests[2].leave.set()
        assert_all_back(limit)


async def scenario(limit: Limit, seen: list[int]) -> None:
    """
    Everything that happens to a limit, in tasks of its own.
    """
    inside = 0

    async def visit(number: int) -> None:
        nonlocal inside
        wait = 0.5 if number == 3 else math.inf
        if await limit.acquire(wait=wait) is None:
            inside += 1
            seen.append(inside)
            try:
                await turns(2)
            finally:
                inside -= 1
                limit.release()

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(visit, number)
        await turns(2)
        limit.reload(1, max_queue=3, max_wait=LONG)
        with anyio.CancelScope() as scope:
            tasks.start_soon(visit, 6)
            await checkpoint()
            scope.cancel()
            await visit(7)
        limit.reload(3, max_queue=3, max_wait=LONG)
        await visit(8)


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_lost_wherever_it_is_cancelled(seed: int) -> None:
    loop = _loop_of_asyncio()
    ordered = loop is None or isinstance(loop, AutojumpEventLoop)
    steps, ended = 0, None
    for kind in ["", *kinds()]:
        for at in range(1, steps + 1) if kind else [0]:
            limit, seen = Limit("github", 2, max_queue=4, max_wait=LONG), list[int]()
            with shuffled(seed) if ordered else nullcontext():
                count, ended = await run(lambda: scenario(limit, seen), kind, at)  # noqa: B023
            assert max(seen, default=0) <= 3
            assert (limit.taken, limit.waiting) == (0, 0), (kind, at)
            assert_all_back(limit)
            if not kind:
                assert ended.finished
                steps = count
    assert steps >= 20


# Reload


async def test_growing_lets_as_many_in_as_there_are_new_places() -> None:
    limit = full(1)
    async with anyio.create_task_group() as tasks:
        guests = await join(tasks, limit, 4)
        limit.reload(3, max_queue=10, max_wait=LONG)
        assert (limit.taken, limit.waiting) == (3, 2)
        await when_blocked()
        assert [guest.is_in for guest in guests] == [True, True, False, False]
        limit.reload(100, max_queue=10, max_wait=LONG)
        await when_blocked()
        assert all(guest.is_in for guest in guests)
        assert limit.take()
        limit.release()
        tasks.cancel_scope.cancel()
    limit.release()
    assert_all_back(limit)


async def test_shrinking_lets_nobody_in_until_enough_have_come_back() -> None:
    limit = full(4)
    limit.reload(2, max_queue=10, max_wait=LONG)
    assert limit.taken == 4
    async with anyio.create_task_group() as tasks:
        guests = await join(tasks, limit, 1)
        for _ in range(2):
            limit.release()
            assert not limit.take()
            await when_blocked()
            assert not guests[0].is_in
        assert limit.taken == 2
        limit.release()
        await when_blocked()
        assert guests[0].is_in
        assert limit.taken == 2
        guests[0].leave.set()
    limit.release()
    assert_all_back(limit)


async def test_a_shorter_row_sends_nobody_away_who_stands_in_it() -> None:
    limit = full()
    async with anyio.create_task_group() as tasks:
        guests = await join(tasks, limit, 3)
        limit.reload(1, max_queue=1, max_wait=LONG)
        assert limit.waiting == 3
        assert at_once(limit.acquire()) is Refused.FULL
        limit.release()
        await when_blocked()
        assert guests[0].is_in
        assert at_once(limit.acquire()) is Refused.FULL  # two wait still
        tasks.cancel_scope.cancel()
    assert_all_back(limit)


@virtual_time
async def test_a_shorter_wait_is_for_those_who_come_then() -> None:
    limit = full(max_wait=20)
    async with anyio.create_task_group() as tasks:
        before = await join(tasks, limit, 1)
        limit.reload(1, max_queue=10, max_wait=5)
        after = await join(tasks, limit, 1)
    assert after[0].at == pytest.approx(5)
    assert before[0].at == pytest.approx(20)
    assert after[0].got is before[0].got is Refused.TIMED_OUT


# Against a model: a list of those who wait, a set of those who are in, and the rules


class Model:
    """
    The rules once more, as slow and as plain as can be.
    """

    def __init__(self, size: int, queue: int) -> None:
        self.size = size
        self.queue = queue
        self.inside: set[object] = set()
        self.row: list[object] = []

    def let_in(self) -> None:
        while self.row and len(self.inside) < self.size:
            self.inside.add(self.row.pop(0))

    def ask(self, who: object, wait: float) -> str:
        if len(self.inside) < self.size and not self.row:
            self.inside.add(who)
            return "in"
        if len(self.row) >= self.queue:
            return "full"
        if wait <= 0:
            return "timed out"
        self.row.append(who)
        return "waits"

    def quit(self, who: object) -> None:
        if who in self.inside:
            self.inside.remove(who)
            self.let_in()
        else:
            self.row.remove(who)


class Play:
    """
    A limit and its model, told the same in the order in which it happens.
    """

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self.tasks = tasks
        self.limit = Limit("github", 2, max_queue=3, max_wait=LONG)
        self.model = Model(2, 3)
        self.guests: list[ModelGuest] = []

    def check(self) -> None:
        assert self.limit.taken == len(self.model.inside)
        assert self.limit.waiting == len(self.model.row)
        assert 1 <= self.limit.retry_after() <= 3600

    async def settle(self) -> None:
        """
        Nobody is on the way, and who is in knows it.
        """
        await when_blocked()
        self.check()
        arrived = {guest for guest in self.guests if guest.is_in}
        assert {each for each in self.model.inside if type(each) is ModelGuest} == arrived

    def waiting(self) -> list[ModelGuest]:
        return [guest for guest in self.guests if guest.got == "waits" and not guest.ended]

    def act(self, name: str, number: int, kind: str) -> None:
        limit, model = self.limit, self.model
        match name:
            case "ask":
                wait = [math.inf, 0.0, 1.0, 3.0, math.inf, math.inf][number % 6]
                self.guests.append(ModelGuest(self, wait))
                self.tasks.start_soon(self.guests[-1])
            case "take":
                who = object()
                expected = len(model.inside) < model.size and not model.row
                assert limit.take() is expected
                if expected:
                    model.inside.add(who)
            case "release":
                plain = [each for each in model.inside if type(each) is object]
                if plain:
                    limit.release()
                    model.quit(plain[0])
            case "leave":
                inside = [guest for guest in self.guests if guest.is_in]
                if inside:
                    inside[number % len(inside)].leave.set()
            case "cancel":
                on_the_way = [guest for guest in self.guests if not guest.ended]
                if on_the_way:
                    guest = on_the_way[number % len(on_the_way)]
                    guest.cancel(kind if guest.task is not None else "scope")
            case "reload":
                model.size, model.queue = 1 + number % 4, number % 5
                limit.reload(model.size, max_queue=model.queue, max_wait=LONG)
                model.let_in()
        self.check()


class ModelGuest(Guest):
    """
    One whose comings and goings the model is told of.
    """

    def __init__(self, play: Play, wait: float) -> None:
        super().__init__(play.limit, wait)
        self.play = play

    async def stay(self) -> None:
        play, model = self.play, self.play.model
        expected = model.ask(self, self.wait)
        then = anyio.current_time()
        try:
            got = await self.limit.acquire(wait=self.wait)
        except BaseException:
            assert expected == "waits"
            model.quit(self)
            play.check()
            raise
        self.got = got
        if got is None:
            assert self in model.inside
        elif expected == "waits":
            assert got is Refused.TIMED_OUT
            assert anyio.current_time() >= then + self.wait
            model.row.remove(self)
        else:
            assert got.value == expected
        play.check()
        if got is None:
            try:
                await self.leave.wait()
            finally:
                self.limit.release()
                model.quit(self)
                self.ended = True
                play.check()


ACTS = st.tuples(
    st.sampled_from(
        ["ask"] * 5
        + ["take", "release", "release", "leave", "leave", "cancel", "cancel"]
        + ["reload", "turn", "turn", "sleep", "settle"]
    ),
    st.integers(0, 11),
    st.sampled_from(["scope", "request", "both"]),
)
OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "asyncio": lambda: {"loop_factory": AutojumpEventLoop},
    "asyncio+uvloop": lambda: {"use_uvloop": True},
    "trio": lambda: {"clock": MockClock(autojump_threshold=0)},
}


def run_on(loop: str, main: Callable[[], Awaitable[Any]]) -> Any:
    backend = loop.partition("+")[0]
    return anyio.run(main, backend=backend, backend_options=OPTIONS[loop]())


@pytest.mark.parametrize("loop", OPTIONS)
@settings(max_examples=250)
@given(acts=st.lists(ACTS, max_size=40), seed=st.integers(0, 1000))
def test_it_does_what_the_model_does(
    loop: str, acts: list[tuple[str, int, str]], seed: int
) -> None:
    async def main() -> None:
        with nullcontext() if loop == "asyncio+uvloop" else shuffled(seed):
            async with anyio.create_task_group() as tasks:
                play = Play(tasks)
                for name, number, kind in acts:
                    if name == "turn":
                        await checkpoint()
                    elif name == "settle":
                        await play.settle()
                    elif name == "sleep":
                        await anyio.sleep(0 if loop == "asyncio+uvloop" else number % 4)
                    else:
                        play.act(name, number, kind)
                await play.settle()
                tasks.cancel_scope.cancel()
        while play.model.inside:
            play.act("release", 0, "")
        assert_all_back(play.limit)

    run_on(loop, main)


# Many


def calls_of(act: Callable[[], object]) -> int:
    """
    How many functions are called, of Python's and of C's. The garbage collector is kept
    out of it: others have it call them.
    """
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    gc.disable()
    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(before)
        gc.enable()
    return calls


# Not in the debug mode of asyncio, in which so many tasks are slow to begin.
@pytest.mark.parametrize("loop", OPTIONS)
def test_what_it_does_is_as_much_for_ten_thousand_as_for_ten(loop: str) -> None:
    figures: list[list[int]] = []

    async def main(number: int) -> None:
        limit = full(queue=number)
        async with anyio.create_task_group() as tasks:
            guests = [Guest(limit) for _ in range(number)]
            for guest in guests:
                tasks.start_soon(guest)
            await when_blocked()
            assert limit.waiting == number
            figures.append(
                [
                    calls_of(limit.take),
                    calls_of(lambda: at_once(limit.acquire())),
                    calls_of(limit.retry_after),
                    calls_of(lambda: limit.waiting),
                    calls_of(limit.release),
                ]
            )
            for guest in guests[1:-1]:
                guest.scope.cancel()
            await when_blocked()
            assert limit.waiting + sum(guest.is_in for guest in guests) == 2
            for guest in guests:
                guest.leave.set()
        assert_all_back(limit)

    for number in (10, 10_000):
        run_on(loop, functools.partial(main, number))
    assert figures[0] == figures[1]


@pytest.mark.parametrize("loop", OPTIONS)
def test_ten_thousand_are_served_in_their_order(loop: str) -> None:
    limit = full(3, queue=10_000)
    came: list[int] = []
    served: list[int] = []

    async def visit(number: int) -> None:
        came.append(number)
        assert await limit.acquire() is None
        served.append(number)
        await checkpoint()
        limit.release()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(10_000):
                tasks.start_soon(visit, number)
            await when_blocked()
            assert limit.waiting == 10_000
            limit.release()

    run_on(loop, main)
    limit.release()
    limit.release()
    assert served == came
    assert_all_back(limit)


# A place that comes back at any moment


@pytest.mark.parametrize("act", ["release", "grow", "refuse", "guess"])
async def test_a_place_may_come_back_at_any_call_within(act: str) -> None:
    # The garbage collector runs at a call, and may close a coroutine that holds a place.
    for at in itertools.count(1):
        limit = full(3, queue=5)
        acts: dict[str, Callable[[], object]] = {
            "release": limit.release,
            "grow": lambda: limit.reload(4, max_queue=5, max_wait=LONG),  # noqa: B023
            "refuse": lambda: at_once(limit.acquire(wait=0)),  # noqa: B023
            "guess": limit.retry_after,
        }
        async with anyio.create_task_group() as tasks:
            guests = await join(tasks, limit, 4)
            seen = _release_at(limit, at, acts[act])
            await when_blocked()
            came = 1 + (act in ("release", "grow"))
            assert [guest.is_in for guest in guests] == [n < came for n in range(4)], at
            assert limit.taken == (4 if act == "grow" else 3)
            assert limit.waiting == 4 - came
            tasks.cancel_scope.cancel()
        if seen < at:
            break
    assert at > 3


def _release_at(limit: Limit, at: int, act: Callable[[], object]) -> int:
    """
    Do something, and have a place released at the call of that number, or afterwards.
    """
    seen = 0

    def look(frame: Any, event: str, argument: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == at:
            limit.release()

    before = sys.getprofile()
    gc.disable()  # it is played here
    sys.setprofile(look)
    try:
        act()
    finally:
        sys.setprofile(before)
        gc.enable()
    if seen < at:
        limit.release()
    return seen


async def test_a_place_is_released_in_a_callback_of_the_loop() -> None:
    limit = full()
    async with anyio.create_task_group() as tasks:
        guests = await join(tasks, limit, 1)
        if on_asyncio():
            asyncio.get_running_loop().call_soon(limit.release)
        else:
            trio.lowlevel.current_trio_token().run_sync_soon(limit.release)
        await when_blocked()
        assert guests[0].is_in
        guests[0].leave.set()
    assert_all_back(limit)


def test_a_place_is_released_where_asyncio_cannot_tell_which_loop_it_is() -> None:
    limit = full()

    async def main() -> Refused | None:
        asyncio.get_running_loop().call_later(0.01, limit.release)
        return await limit.acquire()

    assert asyncio.run(main()) is None
    limit.release()
    assert_all_back(limit)


@real_time
async def test_a_place_is_released_in_another_thread() -> None:
    limit = full()
    async with anyio.create_task_group() as tasks:
        guests = await join(tasks, limit, 2)
        with anyio.fail_after(60):
            await anyio.to_thread.run_sync(limit.release)
            await guests[0].arrived.wait()
        assert not guests[1].is_in
        assert (limit.taken, limit.waiting) == (1, 1)
        tasks.cancel_scope.cancel()
    assert_all_back(limit)


@real_time
async def test_nobody_overtakes_while_another_thread_hands_a_place_over() -> None:
    limit = full()
    async with anyio.create_task_group() as tasks:
        guests = await join(tasks, limit, 1)
        thread = threading.Thread(target=limit.release)
        thread.start()
        thread.join()  # the loop has had no turn since
        assert not limit.take()
        assert limit.waiting == 1
        await when_blocked()
        assert guests[0].is_in
        guests[0].leave.set()
    assert_all_back(limit)


# One loop after another


@pytest.mark.parametrize("second", OPTIONS)
@pytest.mark.parametrize("first", OPTIONS)
def test_it_is_used_in_one_loop_after_another(first: str, second: str) -> None:
    limit = Limit("github", 1, max_queue=5, max_wait=LONG)

    async def use() -> None:
        async with anyio.create_task_group() as tasks:
            guests = await join(tasks, limit, 3)
            assert guests[0].is_in
            guests[0].leave.set()
            await when_blocked()
            assert guests[1].is_in
            tasks.cancel_scope.cancel()

    async def break_down() -> None:
        with suppress(ExceptionGroup):
            async with anyio.create_task_group() as tasks:
                await join(tasks, limit, 3)
                raise RuntimeError

    for loop in (first, second, first):
        run_on(loop, use)
        assert_all_back(limit)
        run_on(loop, break_down)
        assert_all_back(limit)


def new_loop(kind: str) -> Any:
    if kind == "asyncio":
        return AutojumpEventLoop()
    return pytest.importorskip("uvloop").new_event_loop()


class Left:
    """
    A loop of asyncio that stands still, with tasks that hold a place or wait for one.
    """

    def __init__(self, kind: str, limit: Limit, number: int) -> None:
        self.loop = new_loop(kind)
        self.limit = limit
        self.tasks: list[asyncio.Task[Any]] = []
        self.guests: list[Guest] = []
        self.loop.run_until_complete(self._begin(number))

    async def _begin(self, number: int) -> None:
        for _ in range(number):
            guest = Guest(self.limit)
            self.guests.append(guest)
            self.tasks.append(asyncio.create_task(guest()))
            self.tasks[-1]._log_destroy_pending = False  # type: ignore[attr-defined]
            await turns(3)

    def go_on(self) -> None:
        self.loop.run_until_complete(when_blocked())

    def end(self) -> None:
        for guest in self.guests:
            guest.cancel("request")
        self.go_on()
        self.loop.close()


stopped = pytest.mark.parametrize("kind", ["asyncio", "asyncio+uvloop"])


@stopped
@pytest.mark.parametrize("second", OPTIONS)
def test_who_waits_in_a_loop_that_was_dropped_stands_before_nobody(
    kind: str, second: str
) -> None:
    limit = full(queue=3)
    left = Left(kind, limit, 3)
    left.loop.close()
    assert limit.waiting == 3

    async def later() -> None:
        async with anyio.create_task_group() as tasks:
            guests = await join(tasks, limit, 3)
            assert [guest.got for guest in guests] == ["waits"] * 3
            assert limit.waiting == 3
            limit.release()
            await when_blocked()
            assert [guest.is_in for guest in guests] == [True, False, False]
            tasks.cancel_scope.cancel()

    run_on(second, later)
    assert_all_back(limit)


@stopped
def test_a_release_outside_of_a_loop_passes_over_those_of_one_that_was_dropped(
    kind: str,
) -> None:
    limit = full(queue=3)
    left = Left(kind, limit, 3)
    left.loop.close()
    limit.release()
    assert_all_back(limit)


@stopped
def test_a_place_held_in_a_loop_that_was_dropped_comes_back_by_its_finally(
    kind: str,
) -> None:
    limit = Limit("github", 2, max_queue=3, max_wait=LONG)
    left = Left(kind, limit, 4)
    assert (limit.taken, limit.waiting) == (2, 2)
    left.loop.close()
    for task in left.tasks:
        with suppress(RuntimeError):  # of the scope around it, which is the test's
            task.get_coro().close()
    assert_all_back(limit)


@stopped
def test_the_garbage_collector_brings_everything_back(kind: str) -> None:
    limit = full(2, queue=3)

    async def holds() -> None:
        limit.release()
        assert await limit.acquire() is None
        try:
            await anyio.sleep(LONG)
        finally:
            limit.release()

    async def waits() -> None:
        await limit.acquire()

    async def begin() -> None:
        for fn in (holds, waits, waits):
            task = asyncio.create_task(fn())
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            await turns(3)
            del task

    loop = new_loop(kind)
    loop.run_until_complete(begin())
    assert (limit.taken, limit.waiting) == (2, 2)
    loop.close()
    del loop
    gc.collect()
    limit.release()
    gc.collect()
    assert_all_back(limit)


@stopped
def test_a_coroutine_that_is_closed_while_it_waits_says_nothing(kind: str) -> None:
    limit = full()
    loop = new_loop(kind)
    acquire = limit.acquire()

    async def begin() -> None:
        task = asyncio.create_task(acquire)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        await turns(3)

    loop.run_until_complete(begin())
    loop.close()
    assert limit.waiting == 1
    acquire.close()
    assert (limit.taken, limit.waiting) == (1, 0)
    limit.release()
    assert_all_back(limit)


def test_a_coroutine_that_is_closed_when_it_was_handed_a_place_gives_it_back() -> None:
    limit = full()
    loop = asyncio.new_event_loop()
    acquire = limit.acquire()

    async def begin() -> None:
        task = loop.create_task(acquire)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        await turns(3)
        loop.stop()  # there is no turn after this one
        limit.release()

    beginning = loop.create_task(begin())
    loop.run_forever()
    assert beginning.done()
    loop.close()
    assert (limit.taken, limit.waiting) == (1, 0)
    acquire.close()
    assert_all_back(limit)


def test_a_coroutine_of_trio_that_is_closed_while_it_waits_says_nothing() -> None:
    limit = full()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(limit.acquire)
            await when_blocked()
            assert limit.waiting == 1
            (task,) = nursery.child_tasks
            task.coro.close()
            assert limit.waiting == 0
            nursery.cancel_scope.cancel()  # trio does not know that it is over

    with pytest.raises(ExceptionGroup):
        trio.run(main)
    limit.release()
    assert_all_back(limit)


@stopped
def test_a_loop_that_stood_still_and_goes_on_queues_again(kind: str) -> None:
    limit = full()
    left = Left(kind, limit, 3)
    limit.release()
    assert (limit.taken, limit.waiting) == (0, 0)
    assert limit.take()  # nobody is kept waiting by a loop that does not run
    left.go_on()
    assert limit.waiting == 3
    assert not any(guest.is_in for guest in left.guests)
    limit.release()  # outside of the loop again
    left.go_on()
    assert [guest.is_in for guest in left.guests] == [True, False, False]
    left.guests[0].leave.set()
    left.go_on()
    assert [guest.is_in for guest in left.guests] == [False, True, False]
    left.end()
    assert_all_back(limit)


@stopped
@pytest.mark.parametrize("second", OPTIONS)
def test_two_loops_by_turns_lose_nothing(kind: str, second: str) -> None:
    limit = full(queue=2)
    left = Left(kind, limit, 2)

    async def between() -> None:
        async with anyio.create_task_group() as tasks:
            guests = await join(tasks, limit, 2)
            assert limit.waiting == 2
            limit.release()
            await when_blocked()
            assert guests[0].is_in
            guests[0].leave.set()
            guests[1].leave.set()

    run_on(second, between)
    assert_all_back(limit)
    left.go_on()
    assert [guest.is_in for guest in left.guests] == [True, False]
    left.end()
    assert_all_back(limit)


@stopped
def test_one_who_queues_again_may_be_cancelled_then(kind: str) -> None:
    limit = full()
    left = Left(kind, limit, 2)
    limit.release()
    left.guests[0].cancel("request")
    left.go_on()
    assert left.guests[0].ended
    assert left.guests[1].is_in
    left.end()
    assert_all_back(limit)


@pytest.mark.parametrize("second", OPTIONS)
def test_a_hand_over_that_a_loop_has_not_lived_to_see_is_made_up_for(second: str) -> None:
    limit = full()
    loop = asyncio.new_event_loop()
    acquire = limit.acquire()

    async def begin() -> None:
        task = loop.create_task(acquire)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        await turns(3)
        loop.stop()  # there is no turn after this one
        thread = threading.Thread(target=limit.release)
        thread.start()
        thread.join()

    beginning = loop.create_task(begin())
    loop.run_forever()
    assert beginning.done()
    loop.close()
    assert (limit.taken, limit.waiting) == (0, 1)

    async def later() -> None:
        assert at_once(limit.acquire()) is None

    run_on(second, later)
    limit.release()
    assert_all_back(limit)
    acquire.close()
    assert_all_back(limit)


def test_a_loop_within_a_callback_of_another_waits_for_that() -> None:
    limit = full()

    async def inner() -> None:
        # The outer one lives, but has no turn before this one ends.
        assert await limit.acquire(wait=1) is Refused.TIMED_OUT
        limit.release()
        assert not limit.take()
        assert await limit.acquire(wait=1) is Refused.TIMED_OUT

    async def outer() -> None:
        async with anyio.create_task_group() as tasks:
            guests = await join(tasks, limit, 1)
            asyncio.get_running_loop().call_soon(
                lambda: trio.run(inner, clock=MockClock(autojump_threshold=0))
            )
            await when_blocked()
            assert guests[0].is_in
            guests[0].leave.set()

    run_on("asyncio", outer)
    assert_all_back(limit)


@pytest.mark.parametrize("loop", OPTIONS)
def test_nothing_of_a_loop_is_kept_when_it_has_ended(loop: str) -> None:
    limit = full()

    async def use() -> None:
        assert await limit.acquire(wait=0.001) is Refused.TIMED_OUT
        async with anyio.create_task_group() as tasks:
            await join(tasks, limit, 2)
            tasks.cancel_scope.cancel()

    run_on(loop, use)
    kept = [limit]
    for each in kept:
        for thing in gc.get_referents(each):
            if type(thing).__module__.partition(".")[0] not in ("builtins", "collections"):
                assert type(thing) is type
                continue
            if not isinstance(thing, type) and all(thing is not other for other in kept):
                kept.append(thing)
    assert len(kept) < 20


# When a place may be free


def use(limit: Limit, calls: int, seconds: float, start: float = 0.0) -> float:
    """
    So many rounds of calls that take all places for so long; when the last has ended.
    """
    now = start
    for _ in range(calls):
        for _ in range(limit.size):
            assert limit.take(now)
        now += seconds
        for _ in range(limit.size):
            limit.release(now)
    return now


def test_a_limit_that_nobody_has_used_says_a_second() -> None:
    assert Limit("github", 4).retry_after() == 1.0
    assert Limit("github", 4).retry_after(50.0) == 1.0


@pytest.mark.parametrize(("size", "calls"), [(1, 7), (1, 500), (4, 100), (50, 3)])
def test_it_says_how_long_a_place_is_held_on_average_shared_by_the_places(
    size: int, calls: int
) -> None:
    limit = Limit("github", size)
    now = use(limit, calls, 100.0)
    while limit.take(now):
        pass
    # Those who have just begun count for half a call.
    assert limit.retry_after(now) == pytest.approx(100 / size, rel=0.2)


async def test_it_says_longer_for_each_who_waits() -> None:
    limit = Limit("github", 2, max_queue=10, max_wait=LONG)
    now = use(limit, 16, 60.0)
    while limit.take(now):
        pass
    alone = limit.retry_after(now)
    async with anyio.create_task_group() as tasks:
        await join(tasks, limit, 3)
        assert limit.retry_after(now) == pytest.approx(4 * alone)
        tasks.cancel_scope.cancel()


def test_it_says_longer_where_it_has_shrunk() -> None:
    limit = Limit("github", 4)
    now = use(limit, 16, 60.0)
    while limit.take(now):
        pass
    alone = limit.retry_after(now)
    limit.reload(2, max_queue=0, max_wait=1)
    assert limit.retry_after(now) == pytest.approx(alone * 2 * 3)


async def test_it_says_longer_for_each_who_waits_where_it_has_shrunk() -> None:
    limit = Limit("github", 4, max_queue=10, max_wait=LONG)
    now = use(limit, 16, 60.0)
    while limit.take(now):
        pass
    alone = limit.retry_after(now)
    async with anyio.create_task_group() as tasks:
        await join(tasks, limit, 1)
        limit.reload(2, max_queue=10, max_wait=LONG)
        assert limit.retry_after(now) == pytest.approx(alone * 2 * 4)
        tasks.cancel_scope.cancel()


def test_parts_of_seconds_are_not_lost_where_the_older_half_counts_for_half() -> None:
    limit = Limit("github", 1)
    now = use(limit, 64, 1.37)
    assert limit.retry_after(now) == pytest.approx(1.37)


def test_calls_that_hang_make_it_longer_before_any_has_ended() -> None:
    limit = Limit("github", 2)
    assert limit.take(0.0)
    assert limit.take(0.0)
    assert limit.retry_after(0.0) == 1.0
    assert limit.retry_after(600.0) == pytest.approx(600)
    assert limit.retry_after(80_000.0) == 3600.0


@pytest.mark.parametrize("size", [1, 3, 40])
def test_what_was_long_ago_counts_for_little(size: int) -> None:
    limit = Limit("github", size)
    now = use(limit, 200, 1000.0)
    now = use(limit, 400, 50.0 * size, now)
    while limit.take(now):
        pass
    assert limit.retry_after(now) == pytest.approx(50, rel=0.1)


@pytest.mark.parametrize("size", [1, 4, 8])
def test_at_so_many_calls_the_older_half_counts_for_half(size: int) -> None:
    limit = Limit("github", size)
    rounds = 16 if size >= 4 else 64  # 16 calls a place, of at least four places
    now = use(limit, rounds, 100.0)
    now = use(limit, rounds, 10.0, now)
    # 100 s on average; 55 where half of the rest were of 10 s; and then 32.5.
    assert limit.retry_after(now) == pytest.approx(32.5 / size)


def test_steps_of_the_clock_count_that_are_less_than_a_second() -> None:
    limit = Limit("github", 4)
    now = use(limit, 16, 0.5)  # of which half are remembered
    while limit.take(now):
        pass
    limit.reload(1, max_queue=0, max_wait=1)
    assert limit.retry_after(now) == pytest.approx(4 * 16 / 34)


def test_a_time_that_is_not_known_loses_none_that_is() -> None:
    limit = Limit("github", 2)
    assert limit.take(0.0)
    assert limit.take()
    for _ in range(2):
        limit.release(100.0)
    assert limit.retry_after(100.0) == pytest.approx(100 / 2)


def test_a_clock_that_goes_back_a_little_takes_nothing_off() -> None:
    limit = Limit("github", 1)
    now = use(limit, 64, 100.0)
    assert limit.take(now)
    assert limit.retry_after(now - 0.5) == pytest.approx(3200 / 32.5)
    assert limit.retry_after(now + 0.5) == pytest.approx(3201 / 32.5)


def test_what_was_long_ago_counts_for_little_where_it_has_shrunk() -> None:
    limit = Limit("github", 10)
    now = use(limit, 15, 1000.0)
    limit.reload(1, max_queue=0, max_wait=1)
    now = use(limit, 400, 50.0, now)
    assert limit.retry_after(now) == pytest.approx(50, rel=0.1)


async def test_a_place_that_is_handed_over_is_held_all_the_time() -> None:
    limit = Limit("github", 1, max_queue=10, max_wait=LONG)
    limit.take(0.0)
    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(limit.acquire)
        await when_blocked()
        for number in range(1, 9):
            limit.release(number * 20.0)  # as those who are handed it will
        await when_blocked()
        assert limit.retry_after(160.0) == pytest.approx(160 / 8.5)
        tasks.cancel_scope.cancel()


async def test_a_place_that_a_reload_gives_is_held_from_then_on() -> None:
    limit = Limit("github", 1, max_queue=1, max_wait=LONG)
    limit.take(0.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limit.acquire, 0.0)
        await when_blocked()
        limit.reload(2, max_queue=1, max_wait=LONG, now=100.0)
        await when_blocked()
        limit.release(100.0)
        limit.release(100.0)
    # Two calls, of 100 seconds and of none, and two places.
    assert limit.retry_after(100.0) == pytest.approx(50 / 2)


def test_a_place_that_is_free_is_not_held() -> None:
    limit = Limit("github", 1)
    now = use(limit, 10, 20.0)
    now = use(limit, 10, 20.0, now + 5_000)
    assert limit.retry_after(now) == pytest.approx(20)
    assert limit.retry_after(now + 5_000) == pytest.approx(20)


def test_a_release_at_a_time_that_is_not_known_is_one_at_the_last_that_was() -> None:
    limit = Limit("github", 1)
    for start in range(0, 1000, 100):
        assert limit.take(start)
        assert limit.retry_after(start + 10.0) >= 1
        limit.release()
    assert limit.retry_after(1000.0) == pytest.approx(10)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 0.0, 1e18, -1e300])
def test_a_clock_that_cannot_be_right_does_no_harm(odd: float) -> None:
    limit = Limit("github", 1)
    now = use(limit, 5, 20.0, 1_000.0)
    for time in (odd, now, odd, odd):
        assert limit.take(time)
        assert 1 <= limit.retry_after(time) < 60
        limit.release(time)
    now = use(limit, 5, 20.0, now)
    assert 5 <= limit.retry_after(now) <= 20
