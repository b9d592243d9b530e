"""
Waiting until a circuit lets a call in: how long, in what order, and without a stampede.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import itertools
import math
import re
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trio
from anyio.lowlevel import checkpoint, current_token

from orchestrator_async import (
    BreakerPolicy,
    CircuitState,
    DrainingError,
    OrchestratorError,
    Registry,
    ToolOrchestrator,
    ToolPolicy,
    UnknownToolError,
)
from orchestrator_async._waiting import Pace, Waiter, Waiters

from .clock import AutojumpEventLoop, real_time, virtual_time
from .rig import on_asyncio, run
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


class CountingClock:
    """
    Another clock, and how often it was asked.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.clock()


class Crowd:
    """
    Tasks that wait for a tool, and when each went; what it does then is up to the test.
    """

    def __init__(
        self,
        orch: ToolOrchestrator,
        then: Callable[[int], Awaitable[Any]] | None = None,
    ) -> None:
        self.orch = orch
        self.then = then
        self.went: dict[int, float] = {}
        self.raised: dict[int, BaseException] = {}
        self.scopes: dict[int, anyio.CancelScope] = {}

    async def join(self, tasks: anyio.abc.TaskGroup, number: int) -> None:
        """
        So many begin to wait, one after the other: trio draws the order of its tasks.
        """
        for each in range(number):
            tasks.start_soon(self.one, each)
            if not on_asyncio():  # where it would take time
                await anyio.wait_all_tasks_blocked()
        await when_blocked()

    async def one(self, number: int, name: str = "tool") -> None:
        with anyio.CancelScope() as self.scopes[number]:
            try:
                await self.orch.wait_available(name)
            except Exception as error:
                self.raised[number] = error
                return
            self.went[number] = anyio.current_time()
            if self.then is not None:
                await self.then(number)


def nobody_waits(orch: ToolOrchestrator) -> bool:
    """
    At any circuit.
    """
    return all(circuit.waiters is None for circuit in orch._fleet.all_circuits())


async def opened(
    clock: Callable[[], float] = anyio.current_time, **options: Any
) -> tuple[ToolOrchestrator, Service]:
    orch, service = bench(clock, **options)
    await trip(orch, service)
    service.runs = 0
    return orch, service


class Gate:
    """
    A behaviour that waits until it is let go.
    """

    def __init__(self) -> None:
        self.entered = anyio.Event()
        self.open = anyio.Event()

    async def __call__(self) -> str:
        self.entered.set()
        await self.open.wait()
        return "fine"


# One that waits


async def test_a_closed_circuit_costs_one_checkpoint() -> None:
    orch, _ = bench(HandClock())

    steps, ended = await run(lambda: orch.wait_available("tool"))

    assert ended.finished
    assert steps == (await run(checkpoint))[0]
    assert nobody_waits(orch)


async def test_a_caller_that_is_cancelled_is_told_so_though_the_circuit_is_closed() -> None:
    orch, _ = bench(HandClock())
    with anyio.CancelScope() as scope:
        scope.cancel()
        await orch.wait_available("tool")
    assert scope.cancelled_caught


async def test_a_circuit_that_may_be_probed_lets_one_go_at_once() -> None:
    clock = HandClock()
    orch, _ = await opened(clock)
    clock.turn(RESET)

    steps, _ = await run(lambda: orch.wait_available("tool"))

    assert steps == (await run(checkpoint))[0]
    assert orch.circuit("tool").state == "open"  # whoever calls is the probe
    assert nobody_waits(orch)


@virtual_time
async def test_an_open_circuit_is_waited_for_exactly_as_long_as_it_is_open() -> None:
    orch, service = await opened()
    await anyio.sleep(100)
    then = anyio.current_time()

    steps, _ = await run(lambda: orch.wait_available("tool"))

    assert anyio.current_time() - then == pytest.approx(RESET - 100, abs=1e-6)
    assert steps <= 3
    assert await orch.dispatch("tool") == "fine"
    assert service.runs == 1


@virtual_time
async def test_a_clock_turned_by_hand_is_looked_at_a_few_times() -> None:
    hand = HandClock()
    clock = CountingClock(hand)
    orch, _ = await opened(clock)
    clock.looks = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.wait_available, "tool")
        await anyio.sleep(RESET - 1)
        assert clock.looks == 1
        hand.turn(RESET)
    assert clock.looks == 2
    assert anyio.current_time() == pytest.approx(RESET)


@virtual_time
async def test_a_clock_that_stands_still_is_looked_at_ever_less_often() -> None:
    clock = CountingClock(HandClock())
    orch, _ = await opened(clock)
    clock.looks = 0
    with pytest.raises(TimeoutError):
        await orch.wait_available("tool", timeout=100 * RESET)
    assert clock.looks <= 8


@virtual_time
async def test_a_clock_of_real_time_is_not_spun_on_in_virtual_time() -> None:
    clock = CountingClock(time.monotonic)
    orch, _ = await opened(clock)
    clock.looks = 0
    with pytest.raises(TimeoutError):
        await orch.wait_available("tool", timeout=24 * 3600)
    assert clock.looks <= 10


@virtual_time
async def test_a_clock_of_real_time_is_met_in_the_end_in_virtual_time() -> None:
    # Each look is a sleep of a day by then, and none is a sleep for ever.
    orch, _ = await opened(time.monotonic, policy=BreakerPolicy(reset_timeout=0.3))
    await orch.wait_available("tool")
    assert await orch.dispatch("tool") == "fine"
    assert math.isfinite(anyio.current_time())


@virtual_time
async def test_a_clock_that_runs_at_another_pace_is_not_asked_often() -> None:
    clock = CountingClock(lambda: anyio.current_time() / 10)
    orch, _ = await opened(clock)
    clock.looks = 0
    await orch.wait_available("tool")
    assert 10 * RESET <= anyio.current_time() < 25 * RESET
    assert clock.looks <= 6


@virtual_time
async def test_a_clock_that_fails_is_asked_every_few_seconds() -> None:
    hand = HandClock()
    broken = [False]

    def tell() -> float:
        if broken[0]:
            raise OSError("no clock")
        return hand()

    clock = CountingClock(tell)
    orch, _ = bench(clock)
    broken[0] = True
    orch.circuit("tool").trip()  # its time begins when somebody can tell it
    clock.looks = 0
    with anyio.move_on_after(100) as scope:
        await orch.wait_available("tool")
    assert scope.cancelled_caught
    assert clock.looks <= 21
    broken[0] = False
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.wait_available, "tool")
        await anyio.sleep(1)
        hand.turn(RESET)
    assert nobody_waits(orch)


@virtual_time
async def test_a_pause_that_a_service_asked_for_is_waited_for() -> None:
    orch, service = bench(anyio.current_time)

    async def busy() -> dict[str, Any]:
        return {"error": "too many requests", "retry_after": 2}

    service.behaviour = busy
    await orch.dispatch("tool")
    await orch.wait_available("tool")
    assert anyio.current_time() == pytest.approx(2)


@virtual_time
async def test_two_probes_in_a_row_are_waited_for_one_after_the_other() -> None:
    orch, service = await opened(policy=BreakerPolicy(success_threshold=2))
    crowd = Crowd(orch, lambda number: orch.dispatch("tool"))
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 3)
    assert list(crowd.went) == [0, 1, 2]
    assert anyio.current_time() < RESET + 0.5
    assert service.runs == 3
    assert orch.circuit("tool").state == "closed"


# While a probe is under way


async def about_to_wait_for_a_probe(
    tasks: anyio.abc.TaskGroup, **options: Any
) -> tuple[ToolOrchestrator, Crowd, Gate, anyio.CancelScope]:
    orch, service = await opened(**options)
    await anyio.sleep(RESET)
    service.behaviour = gate = Gate()
    scope = anyio.CancelScope()

    async def probe() -> None:
        with scope:
            await orch.dispatch("tool")

    tasks.start_soon(probe)
    await gate.entered.wait()
    service.behaviour = succeed
    crowd = Crowd(orch)
    tasks.start_soon(crowd.one, 0)
    await anyio.sleep(7)
    assert not crowd.went
    assert orch.circuit("tool").state == "half_open"
    return orch, crowd, gate, scope


@virtual_time
async def test_a_probe_that_gives_its_place_back_lets_the_next_one_go() -> None:
    async with anyio.create_task_group() as tasks:
        orch, crowd, _, scope = await about_to_wait_for_a_probe(tasks)
        scope.cancel()
    assert crowd.went[0] == RESET + 7
    assert orch.circuit("tool").state == "half_open"
    assert nobody_waits(orch)


@virtual_time
async def test_a_probe_that_closes_the_circuit_lets_the_next_one_go() -> None:
    async with anyio.create_task_group() as tasks:
        orch, crowd, gate, _ = await about_to_wait_for_a_probe(tasks)
        gate.open.set()
    assert crowd.went[0] == RESET + 7
    assert orch.circuit("tool").state == "closed"


@virtual_time
async def test_a_probe_that_fails_is_waited_for_once_more() -> None:
    async with anyio.create_task_group() as tasks:
        orch, crowd, _, _ = await about_to_wait_for_a_probe(tasks, timeout=20)
    assert crowd.went[0] == pytest.approx(RESET + 20 + RESET)
    assert orch.circuit("tool").state == "open"


@virtual_time
async def test_a_probe_whose_lease_ends_lets_the_next_one_go() -> None:
    async with anyio.create_task_group() as tasks:
        policy = BreakerPolicy(probe_lease=20)
        _, crowd, gate, _ = await about_to_wait_for_a_probe(tasks, policy=policy)
        await anyio.sleep(30)
        assert crowd.went[0] == pytest.approx(RESET + 20)
        gate.open.set()


@virtual_time
async def test_a_reset_by_hand_ends_the_wait_for_a_probe() -> None:
    async with anyio.create_task_group() as tasks:
        orch, crowd, gate, _ = await about_to_wait_for_a_probe(tasks)
        orch.circuit("tool").reset()
        await when_blocked()
        assert crowd.went[0] == RESET + 7
        gate.open.set()


async def test_a_tool_within_its_own_circuits_probe_does_not_wait_for_itself() -> None:
    clock = HandClock()
    registry = Registry()
    orch = ToolOrchestrator(registry, clock=clock)
    told: list[str] = []

    @registry.tool(circuit="database")
    async def outer() -> str:
        await orch.wait_available("inner")
        told.append(await orch.dispatch("inner"))
        return "fine"

    @registry.tool(circuit="database")
    async def inner() -> str:
        return "inner"

    orch.circuit("database").trip()
    clock.turn(RESET)
    with anyio.fail_after(10):
        assert await orch.dispatch("outer") == "fine"
    assert told == ["inner"]
    assert orch.circuit("database").state == "closed"


# By hand


@virtual_time
@pytest.mark.parametrize("hand", ["isolate", "force_open"])
async def test_what_is_closed_by_hand_is_waited_for_until_it_is_lifted(hand: str) -> None:
    orch, _ = bench(anyio.current_time)
    crowd = Crowd(orch)
    circuit = orch.circuit("tool")
    async with anyio.create_task_group() as tasks:
        with getattr(circuit, hand)():
            tasks.start_soon(crowd.one, 0)
            await anyio.sleep(1000.5)
            assert not crowd.went
        await when_blocked()
        assert crowd.went[0] == 1000.5


@virtual_time
async def test_what_lies_beneath_an_isolation_is_waited_for_after_it() -> None:
    orch, _ = await opened()
    circuit = orch.circuit("tool")
    circuit.isolate()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.wait_available, "tool")
        await anyio.sleep(100)
        circuit.unisolate()
    assert anyio.current_time() == pytest.approx(RESET)


async def test_an_isolation_is_lifted_outside_of_any_task() -> None:
    orch, _ = bench(HandClock())
    circuit = orch.circuit("tool")
    circuit.isolate()
    crowd = Crowd(orch)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crowd.one, 0)
        await when_blocked()
        if on_asyncio():
            asyncio.get_running_loop().call_soon(circuit.unisolate)
        else:
            trio.lowlevel.current_trio_token().run_sync_soon(circuit.unisolate)
        await when_blocked()
        assert 0 in crowd.went


@real_time
async def test_what_is_done_by_hand_in_another_thread_wakes_those_who_wait() -> None:
    orch, service = bench(time.monotonic)
    await trip(orch, service)
    crowd = Crowd(orch)
    # By itself it would look again when the circuit may be probed, in 300 s.
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(crowd.one, 0)
            await when_blocked()
            await anyio.to_thread.run_sync(orch.circuit("tool").reset)
    assert 0 in crowd.went


@virtual_time
async def test_a_disabled_circuit_lets_all_go_as_a_closed_one_does() -> None:
    orch, _ = await opened()
    crowd = Crowd(orch)
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 100)
        await anyio.sleep(10)
        assert not crowd.went
        orch.circuit("tool").disable()
    assert list(crowd.went) == list(range(100))
    assert anyio.current_time() < 11
    await orch.wait_available("tool")
    assert nobody_waits(orch)


@virtual_time
async def test_a_circuit_that_is_tripped_by_hand_is_waited_for_anew() -> None:
    orch, _ = await opened()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.wait_available, "tool")
        await anyio.sleep(100)
        orch.circuit("tool").trip()
    assert anyio.current_time() == pytest.approx(100 + RESET)


@virtual_time
async def test_a_circuit_that_is_reset_by_hand_is_waited_for_no_more() -> None:
    orch, _ = await opened()
    crowd = Crowd(orch)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crowd.one, 0)
        await anyio.sleep(100)
        orch.circuit("tool").reset()
        await when_blocked()
        assert crowd.went == {0: 100}


@virtual_time
@pytest.mark.parametrize("of", ["circuit", "orchestrator"])
async def test_a_reload_that_shortens_the_time_shortens_the_wait(of: str) -> None:
    orch, _ = await opened()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.wait_available, "tool")
        await anyio.sleep(100)
        if of == "circuit":
            orch.circuit("tool").reload(BreakerPolicy(reset_timeout=120))
        else:
            orch.reload(reset_timeout=120)
    assert anyio.current_time() == pytest.approx(120)


@virtual_time
async def test_a_circuit_that_a_snapshot_has_open_for_less_is_waited_for_as_long() -> None:
    orch, _ = await opened()
    snapshot = orch.snapshot()
    snapshot["circuits"][0]["rest"] = 20.0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.wait_available, "tool")
        await anyio.sleep(100)
        orch.restore(snapshot)
    assert anyio.current_time() == pytest.approx(RESET, abs=1)


# Keys that have no place


def hosts(**options: Any) -> ToolOrchestrator:
    """
    A tool with one place for all its hosts, which is open, as is what the others share.
    """
    registry = Registry()
    policy = BreakerPolicy(max_keys=1, failure_threshold=1, **options)

    @registry.tool(circuit=lambda arguments, context: arguments["host"], policy=policy)
    async def fetch(host: str) -> str:
        if host == "down":
            return await fail()
        return host

    return ToolOrchestrator(registry, clock=anyio.current_time)


@virtual_time
async def test_who_has_no_place_goes_when_a_hand_makes_room() -> None:
    orch = hosts()
    orch.circuit("fetch", "a").trip()
    orch.circuit("fetch", "(others)").trip()
    async with anyio.create_task_group() as tasks:
        for host in "bc":
            tasks.start_soon(orch.wait_available, "fetch", {"host": host})
        await anyio.sleep(100)
        orch.circuit("fetch", "a").reset()
    assert anyio.current_time() == pytest.approx(100.1)  # one after the other
    assert await orch.dispatch("fetch", {"host": "c"}) == "c"
    assert nobody_waits(orch)


@virtual_time
async def test_who_has_no_place_goes_when_a_call_has_given_its_own_back() -> None:
    orch = hosts()
    orch.circuit("fetch", "(others)").trip()
    go_on = anyio.Event()

    async def slow(host: str) -> str:
        await go_on.wait()
        return host

    tool = orch.registry["fetch"]
    orch.registry.add(dataclasses.replace(tool, fn=slow, name="fetch"), replace=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "fetch", {"host": "a"})
        await when_blocked()
        tasks.start_soon(orch.wait_available, "fetch", {"host": "b"})
        await anyio.sleep(100)
        go_on.set()
    assert anyio.current_time() == pytest.approx(100)


@virtual_time
async def test_who_has_no_place_looks_again_when_time_may_have_made_room() -> None:
    orch = hosts(reset_timeout=RESET)
    await orch.dispatch("fetch", {"host": "down"})
    await anyio.sleep(100)
    orch.circuit("fetch", "(others)").trip()
    with anyio.fail_after(RESET - 100 + 6):  # and not 300 s
        await orch.wait_available("fetch", {"host": "b"})
    assert await orch.dispatch("fetch", {"host": "b"}) == "b"


# Those who have another circuit now


def spaced(times: list[float]) -> bool:
    """
    The first alone, and then at shorter and shorter intervals; never two side by side.
    """
    gaps = [after - before for before, after in itertools.pairwise(times)]
    return (
        all(after <= before + 1e-6 for before, after in itertools.pairwise(gaps))
        and gaps[0] == pytest.approx(0.1)
        and min(gaps) > 0
    )


class Hosts:
    """
    A tool with a circuit a host, and when whom it asked.
    """

    def __init__(self, **options: Any) -> None:
        registry = Registry()
        policy = BreakerPolicy(**{"max_keys": 1, "reset_timeout": RESET, **options})
        self.asked: list[tuple[str | None, float]] = []
        self.went: list[tuple[int, str | None, float]] = []
        self.down: set[str] = set()
        self.takes = 0.5

        def host(arguments: Any, context: Any) -> Any:
            return arguments["host"]

        @registry.tool(circuit=host, policy=policy)
        async def fetch(host: str | None) -> str:
            self.asked.append((host, anyio.current_time()))
            await anyio.sleep(self.takes)
            if host in self.down:
                raise ConnectionError(host)
            return "fine"

        self.orch = ToolOrchestrator(registry, clock=anyio.current_time)

    def fill(self) -> None:
        """
        Have the one place taken by a host that is down, and those who share as well.
        """
        for key in ("taken", "(others)"):
            self.orch.circuit("fetch", key).trip()

    async def get(self, host: str | None) -> str:
        return await self.orch.dispatch("fetch", {"host": host})

    async def one(self, number: int, host: str | None, calls: bool = True) -> None:
        await self.orch.wait_available("fetch", {"host": host})
        self.went.append((number, host, anyio.current_time()))
        if calls:
            await self.get(host)

    def times(self, host: str) -> list[float]:
        return [at for each, at in self.asked if each == host]


@virtual_time
async def test_a_dead_host_that_has_a_circuit_of_its_own_now_is_probed_and_no_more() -> (
    None
):
    hosts = Hosts(failure_threshold=3)
    hosts.fill()
    hosts.down.add("dead")
    async with anyio.create_task_group() as tasks:
        for number in range(300):
            tasks.start_soon(hosts.one, number, "dead")
        await anyio.sleep(RESET + 100)
        # There was room once its time had come, and three calls have found out.
        first = hosts.times("dead")[0]
        assert RESET <= first <= RESET + 5
        assert hosts.times("dead") == pytest.approx([first, first + 1, first + 2])
        assert hosts.orch.circuit("fetch", "dead").state == "open"
        tasks.cancel_scope.cancel()
    assert nobody_waits(hosts.orch)


@virtual_time
async def test_a_host_that_is_well_is_asked_once_and_then_by_all_at_intervals() -> None:
    hosts = Hosts()
    hosts.fill()
    async with anyio.create_task_group() as tasks:
        for number in range(300):
            tasks.start_soon(hosts.one, number, "well")
            if not on_asyncio():
                await anyio.wait_all_tasks_blocked()
        await anyio.sleep(100)
        hosts.orch.circuit("fetch", "taken").reset()
    assert [number for number, _, _ in hosts.went] == list(range(300))
    first, *others = hosts.times("well")
    assert first == 100
    assert others[0] == pytest.approx(100 + hosts.takes)
    assert spaced(others)
    assert others[-1] < 102
    assert hosts.orch.stats("fetch").rejected == 0
    assert nobody_waits(hosts.orch)


@virtual_time
@pytest.mark.parametrize("calls", [True, False])
async def test_hosts_that_take_the_room_in_turn_let_nobody_go_side_by_side(
    calls: bool,
) -> None:
    hosts = Hosts()
    hosts.fill()
    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(hosts.one, number, "ab"[number % 2], calls)
        await anyio.sleep(100)
        hosts.orch.circuit("fetch", "taken").reset()
    assert len(hosts.went) == 40
    for host in "ab":
        times = [at for _, each, at in hosts.went if each == host]
        assert min(b - a for a, b in itertools.pairwise(times)) > 1e-3
        assert times[1] - times[0] >= 0.1 - 1e-6
    assert nobody_waits(hosts.orch)


@virtual_time
@pytest.mark.parametrize("hand", ["isolate", "force_open"])
async def test_a_tool_with_keys_that_is_released_is_not_met_by_all(hand: str) -> None:
    hosts = Hosts()
    with getattr(hosts.orch.circuit("fetch"), hand)():
        async with anyio.create_task_group() as tasks:
            for number in range(300):
                tasks.start_soon(hosts.one, number, "host")
            await anyio.sleep(10)
            assert not hosts.went
            hosts.orch.circuit("fetch").unisolate()
    first, *others = hosts.times("host")
    assert first == 10
    assert others[0] == pytest.approx(10 + hosts.takes)
    assert spaced(others)
    assert nobody_waits(hosts.orch)


async def test_who_need_not_wait_has_no_circuit_made() -> None:
    hosts = Hosts(max_keys=10)
    await hosts.orch.wait_available("fetch", {"host": "new"})
    assert [each.key for each in hosts.orch._fleet.all_circuits()] == [None]


@virtual_time
async def test_who_has_a_key_does_not_wait_for_one_who_has_none() -> None:
    hosts = Hosts(max_keys=10)
    own = hosts.orch.circuit("fetch")
    own.trip()
    own.isolate()
    await hosts.get("known")
    hosts.orch.circuit("fetch", "known")
    async with anyio.create_task_group() as tasks:
        for number, host in enumerate([None, "known", None, "new", "newer"]):
            tasks.start_soon(hosts.one, number, host)
            await anyio.sleep(1)
        own.unisolate()
        await anyio.sleep(1)
        assert [number for number, _, _ in hosts.went] == [1, 3, 4]
        assert [at for _, _, at in hosts.went] == pytest.approx([5, 5, 5.1])
    assert [number for number, _, _ in hosts.went[3:]] == [0, 2]
    assert hosts.went[3][2] == pytest.approx(RESET)
    assert nobody_waits(hosts.orch)


@virtual_time
async def test_who_stands_behind_another_key_goes_when_its_own_has_a_place() -> None:
    hosts = Hosts()
    hosts.fill()
    hosts.takes = 200
    async with anyio.create_task_group() as tasks:
        for number, host in enumerate("xyy"):
            tasks.start_soon(hosts.one, number, host, False)
            await anyio.sleep(1)

        async def come() -> None:
            hosts.orch.circuit("fetch", "taken").reset()
            await hosts.get("y")  # before anybody has looked

        tasks.start_soon(come)
        await anyio.sleep(1)
        assert hosts.went == [(1, "y", 3), (2, "y", pytest.approx(3.1))]
        assert hosts.orch.circuit("fetch", "y").holders == 1
    assert hosts.went[2] == (0, "x", pytest.approx(203))
    assert nobody_waits(hosts.orch)


async def where_two_are_known_good(hosts: Hosts) -> None:
    """
    "y" and "x", in this order; they share a circuit, as others hold both places.
    """
    for host in "yxpq":
        await hosts.get(host)
    for host in "pq":
        hosts.orch.circuit("fetch", host).isolate()
    hosts.orch.circuit("fetch", "(others, good so far)").trip()


@virtual_time
async def test_who_stands_behind_another_key_notices_that_it_is_good_no_more() -> None:
    hosts = Hosts(max_keys=2)
    await where_two_are_known_good(hosts)
    hosts.down.add("y")
    due = anyio.current_time() + RESET
    async with anyio.create_task_group() as tasks:
        for number, host in enumerate("xxyy"):
            tasks.start_soon(hosts.one, number, host, False)
            await anyio.sleep(1)
        await anyio.sleep(RESET - 4 + 0.1)
        assert hosts.went == [(0, "x", pytest.approx(due))]
        await hosts.get("y")  # the probe: it opens what the good ones share
        await anyio.sleep(10)
        assert [number for number, _, _ in hosts.went] == [0, 2, 3]
        failed = due + 0.1 + hosts.takes
        assert [at - failed for _, _, at in hosts.went[1:]] == pytest.approx([0, 0.1])
    assert hosts.went[3] == (1, "x", pytest.approx(failed + RESET))
    assert nobody_waits(hosts.orch)


@virtual_time
@pytest.mark.parametrize("how", ["another", "fewer places"])
async def test_who_stands_behind_another_key_notices_that_it_was_forgotten(
    how: str,
) -> None:
    hosts = Hosts(max_keys=2)
    await where_two_are_known_good(hosts)
    async with anyio.create_task_group() as tasks:
        for number, host in enumerate("xy"):
            tasks.start_soon(hosts.one, number, host, False)
            await anyio.sleep(1)
        if how == "another":
            await hosts.get("w")  # is known good from here on, in the place of "y"
        else:
            hosts.orch.circuit("fetch").reload(BreakerPolicy(max_keys=1))
        then = anyio.current_time()
        await anyio.sleep(1)
        assert hosts.went == [(1, "y", then)]
    assert nobody_waits(hosts.orch)


@virtual_time
async def test_those_whose_tool_has_another_circuit_now_do_not_meet_it_at_once() -> None:
    orch, service = await opened()
    crowd = Crowd(orch, lambda number: orch.dispatch("tool"))
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 200)
        await anyio.sleep(10)
        service.offer(orch.registry, replace=True, circuit="other")
        await anyio.sleep(0.12)
        assert len(crowd.went) == 2
        tasks.start_soon(crowd.one, 200)  # stands behind those who were moved
    assert next(reversed(crowd.went)) == 200
    assert next(iter(crowd.went.values())) == 10
    assert spaced(list(crowd.went.values()))
    assert nobody_waits(orch)


@virtual_time
async def test_those_who_are_moved_later_are_let_go_as_slowly_as_the_first() -> None:
    orch, service = await opened()
    for circuit, before in (("other", "tool"), ("third", "other"), ("other", "third")):
        orch.circuit(before).trip()
        crowd = Crowd(orch)
        async with anyio.create_task_group() as tasks:
            await crowd.join(tasks, 30)
            await anyio.sleep(10)
            service.offer(orch.registry, replace=True, circuit=circuit)
            if before == "third":
                orch.circuit("other").reset()
        assert spaced(list(crowd.went.values()))


@virtual_time
@pytest.mark.parametrize("kind", ["scope", "request"])
@pytest.mark.parametrize("event", ["room", "hand", "replaced"])
@pytest.mark.parametrize("victim", range(3))
async def test_whenever_one_is_cancelled_on_its_way_to_another_circuit_the_others_go(
    victim: int, event: str, kind: str
) -> None:
    if kind == "request" and not on_asyncio():
        return

    async def world(at: int) -> int:
        hosts = Hosts()
        own = hosts.orch.circuit("fetch")
        if event == "hand":
            own.isolate()
        else:
            hosts.fill()
        steps = 0

        async def one() -> None:
            nonlocal steps
            steps, _ = await run(lambda: hosts.one(victim, "h"), kind if at else "", at)

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                if number == victim:
                    tasks.start_soon(one)
                else:
                    tasks.start_soon(hosts.one, number, "h")
            await anyio.sleep(10)
            if event == "hand":
                own.unisolate()
            elif event == "room":
                hosts.orch.circuit("fetch", "taken").reset()
            else:
                tool = dataclasses.replace(
                    hosts.orch.registry["fetch"], circuit="other", name="fetch"
                )
                hosts.orch.registry.add(tool, replace=True)
        assert {0, 1, 2} - {victim} <= {number for number, _, _ in hosts.went}, at
        assert nobody_waits(hosts.orch)
        assert all(each.holders == 0 for each in hosts.orch._fleet.all_circuits())
        assert_adds_up(hosts.orch)
        return steps

    for at in range(1, await world(0) + 1):
        await world(at)


# Tools that come and go


@virtual_time
async def test_a_tool_that_is_removed_is_waited_for_no_more() -> None:
    orch, _ = await opened()
    crowd = Crowd(orch)
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(crowd.one, number)
        await anyio.sleep(100)
        circuit = orch.circuit("tool")
        orch.registry.remove("tool")
        await when_blocked()
        assert [type(error) for error in crowd.raised.values()] == [UnknownToolError] * 3
    assert circuit.waiters is None
    assert anyio.current_time() == 100


async def test_a_tool_that_does_not_exist_is_not_waited_for() -> None:
    orch, _ = bench(HandClock())
    with pytest.raises(UnknownToolError, match="tool"):
        await orch.wait_available("tol")


@virtual_time
async def test_a_tool_that_is_replaced_is_waited_for_as_before() -> None:
    orch, service = await opened()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.wait_available, "tool")
        await anyio.sleep(100)
        service.offer(orch.registry, replace=True)
    assert anyio.current_time() == pytest.approx(RESET)


@virtual_time
async def test_a_tool_that_has_another_circuit_now_is_waited_for_there() -> None:
    orch, service = await opened()
    crowd = Crowd(orch)
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 3)
        await anyio.sleep(100)
        service.offer(orch.registry, replace=True, circuit="other")
    assert sorted(at - 100 for at in crowd.went.values()) == pytest.approx([0, 0.1, 0.15])
    assert nobody_waits(orch)


@virtual_time
@pytest.mark.parametrize("is_open", [True, False], ids=["open", "isolated"])
@pytest.mark.parametrize("moves", [True, False], ids=["moved", "removed"])
async def test_wherever_one_stands_one_does_not_wait_where_the_tool_is_no_more(
    is_open: bool, moves: bool
) -> None:
    registry, service = Registry(), Service()
    service.offer(registry, "stays", circuit="both")
    service.offer(registry, "leaves", circuit="both")
    orch = ToolOrchestrator(registry, clock=anyio.current_time)
    circuit = orch.circuit("both")
    if is_open:
        circuit.trip()
    else:
        circuit.isolate()
    crowd = Crowd(orch)
    async with anyio.create_task_group() as tasks:
        for number, name in enumerate(["leaves", "stays", "leaves", "leaves"]):
            tasks.start_soon(crowd.one, number, name)
            await anyio.sleep(1)
        if moves:
            service.offer(registry, "leaves", circuit="other", replace=True)
        else:
            registry.remove("leaves")
        await anyio.sleep(0.2 if moves else 0)  # where they are moved they keep a distance
        await when_blocked()
        assert set(crowd.went if moves else crowd.raised) == {0, 2, 3}
        assert all(type(error) is UnknownToolError for error in crowd.raised.values())
        circuit.unisolate()
    assert crowd.went[1] == pytest.approx(RESET if is_open else 4.2 if moves else 4)
    assert nobody_waits(orch)


@virtual_time
async def test_a_tool_that_is_removed_and_added_again_is_waited_for_in_the_old_order() -> (
    None
):
    orch, service = await opened()
    crowd = Crowd(orch)
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 5)
        await anyio.sleep(100)
        orch.registry.remove("tool")
        service.offer(orch.registry)
        orch.circuit("tool").trip()
    assert list(crowd.went) == list(range(5))
    assert crowd.went[0] == pytest.approx(100 + RESET)


@virtual_time
async def test_tools_that_share_a_circuit_stand_in_one_row() -> None:
    registry, service = Registry(), Service()
    service.offer(registry, "one", circuit="both")
    service.offer(registry, "two", circuit="both")
    orch = ToolOrchestrator(registry, clock=anyio.current_time)
    await trip(orch, service, "one")
    crowd = Crowd(orch)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crowd.one, 0, "one")
        await anyio.sleep(1)
        tasks.start_soon(crowd.one, 1, "two")
        await anyio.sleep(RESET - 0.5)
        orch.registry.remove("one")  # the other one keeps the circuit
    assert list(crowd.went) == [0, 1]
    assert crowd.went[1] == pytest.approx(RESET + 1)


async def test_a_circuit_that_is_another_whenever_one_asks_leaves_the_loop_to_others() -> (
    None
):
    orch, service = bench(HandClock())
    service.offer(orch.registry, "other")
    circuits = [orch.circuit("tool"), orch.circuit("other")]
    for circuit in circuits:
        circuit.isolate()
    # It is another for so often only, or a loop that is held up would be so for ever.
    answers = iter(circuits * 1000)
    waiter = Waiter(lambda make: next(answers), lambda circuit: 0.0, lambda: None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiter.wait)
        await when_blocked()
        waiter.wake()
        await when_blocked()
        assert circuits[0].waiters is None
        assert circuits[1].waiters is not None
        tasks.cancel_scope.cancel()
    assert nobody_waits(orch)


@virtual_time
async def test_an_orchestrator_that_is_drained_is_waited_for_by_nobody() -> None:
    orch, _ = await opened()
    crowd = Crowd(orch)
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(crowd.one, number)
        await anyio.sleep(100)
        await orch.drain()
        await when_blocked()
        assert [type(error) for error in crowd.raised.values()] == [DrainingError] * 3
    assert anyio.current_time() == 100
    with pytest.raises(DrainingError):
        await orch.wait_available("tool")
    orch.resume()
    await orch.wait_available("tool")
    assert anyio.current_time() == pytest.approx(RESET)


# For so long and no longer


@virtual_time
async def test_a_wait_that_takes_too_long_names_the_tool_and_its_state() -> None:
    orch, _ = await opened()
    message = "tool was not available within 299.5 s: its circuit is open."
    with pytest.raises(TimeoutError, match=re.escape(message)):
        await orch.wait_available("tool", timeout=299.5)
    assert anyio.current_time() == 299.5
    assert nobody_waits(orch)
    await orch.wait_available("tool", timeout=1)


@virtual_time
@pytest.mark.parametrize("state", ["closed", "disabled"])
async def test_a_timeout_that_ends_a_wait_behind_others_says_so(state: str) -> None:
    orch, _ = await opened()
    message = f"its circuit is {state} now, and those who have waited go one after another."
    async with anyio.create_task_group() as tasks:
        await Crowd(orch).join(tasks, 50)
        {"closed": orch.circuit("tool").reset, "disabled": orch.circuit("tool").disable}[
            state
        ]()
        with pytest.raises(TimeoutError, match=re.escape(message)):
            await orch.wait_available("tool", timeout=0.05)
    assert nobody_waits(orch)


@virtual_time
async def test_a_timeout_that_ends_a_wait_for_a_circuit_to_be_made_says_the_same() -> None:
    hosts = Hosts(max_keys=2)
    own = hosts.orch.circuit("fetch")
    own.isolate()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hosts.one, 0, "a", False)
        await anyio.sleep(1)
        tasks.start_soon(hosts.one, 1, "b", False)
        await anyio.sleep(1)

        async def give_up() -> None:
            with pytest.raises(TimeoutError, match="its circuit is closed now, and those"):
                await hosts.orch.wait_available("fetch", {"host": "c"}, timeout=8.05)

        tasks.start_soon(give_up)
        await anyio.sleep(8)
        own.unisolate()
    assert [number for number, _, _ in hosts.went] == [0, 1]
    assert nobody_waits(hosts.orch)


@pytest.mark.parametrize("what", ["group", "signature"])
async def test_a_tool_that_cannot_be_used_is_not_waited_for(what: str) -> None:
    orch, _ = bench(HandClock())

    async def odd(value: "Unknown") -> str:  # type: ignore[name-defined]  # noqa: F821, UP037
        return ""

    if what == "group":
        orch.registry.tool(name="odd", policy=ToolPolicy(group="nowhere"))(succeed)
    else:
        orch.registry.tool(name="odd")(odd)
    for ask in (orch.wait_available, orch.call):
        with pytest.raises(OrchestratorError, match="odd cannot be called") as told:
            await ask("odd", {})
        assert type(told.value) is OrchestratorError
        assert isinstance(
            told.value.__cause__, ValueError if what == "group" else TypeError
        )


@pytest.mark.parametrize("state", ["closed", "open", "isolated", "due"])
async def test_a_timeout_of_nothing_only_looks(state: str) -> None:
    clock = HandClock()
    orch, service = bench(clock)
    if state in ("open", "due"):
        await trip(orch, service)
    if state == "due":
        clock.turn(RESET)
    if state == "isolated":
        orch.circuit("tool").isolate()
    if state in ("closed", "due"):
        await orch.wait_available("tool", timeout=0)
    else:
        with pytest.raises(TimeoutError, match=f"within 0 s: its circuit is {state}"):
            await orch.wait_available("tool", timeout=0)
    assert nobody_waits(orch)


@virtual_time
async def test_a_timeout_that_ends_a_wait_beside_a_probe_says_so() -> None:
    async with anyio.create_task_group() as tasks:
        orch, _, gate, _ = await about_to_wait_for_a_probe(tasks)
        with pytest.raises(TimeoutError, match="its circuit is half_open"):
            await orch.wait_available("tool", timeout=5)
        gate.open.set()


@pytest.mark.parametrize(
    "timeout",
    [-1, math.nan, math.inf, -math.inf, True, "5", 10**400, [1], -0.1, 1j],
    ids=lambda value: repr(value)[:9],
)
async def test_a_timeout_that_is_none_is_refused(timeout: Any) -> None:
    orch, _ = bench(HandClock())
    with pytest.raises(ValueError, match="timeout="):
        await orch.wait_available("tool", timeout=timeout)
    with pytest.raises(ValueError, match="timeout="):
        await orch.drain(timeout=timeout)
    assert await orch.dispatch("tool") == "fine"  # it does not drain


async def test_the_longest_timeout_that_there_is_is_one() -> None:
    orch, _ = bench(HandClock())
    await orch.wait_available("tool", timeout=sys.float_info.max)
    await orch.drain(timeout=sys.float_info.max)


@virtual_time
async def test_the_deadline_of_the_caller_is_its_own() -> None:
    orch, _ = await opened()
    with anyio.move_on_after(10) as scope:
        await orch.wait_available("tool", timeout=20)
    assert scope.cancelled_caught
    assert nobody_waits(orch)


# Many


@virtual_time
async def test_of_a_thousand_that_wait_one_probes_and_the_others_follow_slowly() -> None:
    orch, service = await opened()
    service.behaviour = gate = Gate()
    crowd = Crowd(orch, lambda number: orch.dispatch("tool"))
    async with anyio.create_task_group() as tasks:
        await crowd.join(tasks, 1000)
        await anyio.sleep(RESET - 1)
        assert not crowd.went
        await gate.entered.wait()
        assert anyio.current_time() == pytest.approx(RESET)
        assert len(crowd.went) == 1
        await anyio.sleep(50)
        assert len(crowd.went) == service.runs == 1
        service.behaviour = succeed
        closed = anyio.current_time()
        gate.open.set()

    assert len(crowd.went) == service.runs == 1000
    assert list(crowd.went) == list(range(1000))
    times = [at - closed for at in crowd.went.values()][1:]
    assert times == sorted(times)
    assert times[0] == pytest.approx(0, abs=1e-6)
    assert times[1] == pytest.approx(0.1)
    assert times[2] == pytest.approx(0.15)
    assert 0.5 < times[-1] < 1.5
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert all(after <= before + 1e-6 for before, after in itertools.pairwise(gaps))
    assert min(gaps) > 0  # none of them side by side
    assert orch.stats("tool").rejected == 0
    assert_adds_up(orch)
    assert nobody_waits(orch)


@virtual_time
async def test_those_who_come_while_others_follow_stand_behind_them() -> None:
    orch, _ = await opened()
    crowd = Crowd(orch)
    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(crowd.one, number)
        await anyio.sleep(1)
        orch.circuit("tool").reset()
        await anyio.sleep(0.12)
        assert 1 < len(crowd.went) < 50
        tasks.start_soon(crowd.one, 50)
    assert next(reversed(crowd.went)) == 50
    await orch.wait_available("tool")


@virtual_time
async def test_one_that_goes_and_never_calls_holds_the_next_up_for_a_second() -> None:
    orch, service = await opened()

    async def then(number: int) -> None:
        if len(crowd.went) == 4:
            await orch.dispatch("tool")

    crowd = Crowd(orch, then)
    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(crowd.one, number)
    times = [at - RESET for at in crowd.went.values()]
    assert times[:4] == pytest.approx([0, 1, 2, 3], abs=1e-6)
    assert times[4] < 3.5
    assert times[5] < 3.5
    assert service.runs == 1


@virtual_time
@pytest.mark.parametrize("late", [0, 0.25])
async def test_those_who_come_when_a_call_would_be_the_probe_go_one_a_second_too(
    late: float,
) -> None:
    orch, _ = await opened()
    await anyio.sleep(RESET)
    crowd = Crowd(orch)
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(crowd.one, number)
            await anyio.sleep(late)
    times = [at - RESET for at in crowd.went.values()]
    assert times == pytest.approx([0, 1, 2, 3, 4], abs=1e-6)
    with pytest.raises(TimeoutError, match="its circuit is open"):
        await orch.wait_available("tool", timeout=0)
    await anyio.sleep(1)
    await orch.wait_available("tool", timeout=0)
    assert nobody_waits(orch)


@virtual_time
async def test_one_that_comes_after_a_probe_that_told_nothing_is_the_first_again() -> None:
    orch, service = await opened()
    await anyio.sleep(RESET)
    for _ in range(3):
        await orch.wait_available("tool")
        service.behaviour = Gate()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(orch.dispatch, "tool")
                await service.behaviour.entered.wait()
                scope.cancel()
    assert service.runs == 3
    assert anyio.current_time() == RESET
    assert orch.circuit("tool").state == "half_open"


@virtual_time
@pytest.mark.parametrize("how", ["reset", "disable", "isolate"])
async def test_one_that_comes_after_a_change_of_state_is_the_first_again(how: str) -> None:
    orch, _ = await opened(policy=BreakerPolicy(reset_timeout=0.5))
    circuit = orch.circuit("tool")
    await orch.wait_available("tool")
    getattr(circuit, how)()
    assert nobody_waits(orch)
    circuit.unisolate()
    circuit.trip()
    await orch.wait_available("tool")
    assert anyio.current_time() == pytest.approx(1)


@virtual_time
async def test_a_probe_that_fails_sends_the_others_back_to_wait() -> None:
    orch, service = await opened()
    service.behaviour = fail
    crowd = Crowd(orch, lambda number: orch.dispatch("tool"))
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(crowd.one, number)
    assert list(crowd.went.values()) == pytest.approx([RESET * n for n in range(1, 6)])
    assert service.runs == 5
    assert orch.stats("tool").rejected == 0


@virtual_time
async def test_a_circuit_that_opens_while_others_follow_holds_them_again() -> None:
    orch, service = await opened()
    crowd = Crowd(orch)
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(crowd.one, number)
        await anyio.sleep(1)
        circuit = orch.circuit("tool")
        circuit.reset()
        await anyio.sleep(0.16)
        gone = len(crowd.went)
        assert 1 < gone < 20
        await trip(orch, service)
        await anyio.sleep(200)
        assert len(crowd.went) == gone
    later = list(crowd.went.values())[gone:]
    assert later[0] == pytest.approx(1.16 + RESET)
    assert later[1] == pytest.approx(1.16 + RESET + 1)  # nobody has probed


@virtual_time
@pytest.mark.parametrize("pause", [0, 5.0, RESET - 1e-9])
@pytest.mark.parametrize("whom", [[0], [1], [2], [0, 1], [1, 2], [0, 2], [0, 1, 2]])
async def test_whoever_is_cancelled_the_others_have_their_turn(
    whom: list[int], pause: float
) -> None:
    orch, service = await opened()
    crowd = Crowd(orch, lambda number: orch.dispatch("tool"))
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(crowd.one, number)
        await when_blocked()
        await anyio.sleep(pause)
        for number in whom:
            crowd.scopes[number].cancel()
    assert set(crowd.went) == {0, 1, 2} - set(whom)
    assert service.runs == 3 - len(whom)
    assert anyio.current_time() < RESET + 0.5
    assert nobody_waits(orch)


@virtual_time
@pytest.mark.parametrize("kind", ["scope", "request"])
@pytest.mark.parametrize("victim", range(4))
async def test_whenever_one_is_cancelled_the_others_have_their_turn(
    victim: int, kind: str
) -> None:
    if kind == "request" and not on_asyncio():
        return

    async def world(at: int) -> int:
        orch, _ = await opened()
        began = anyio.current_time()
        crowd = Crowd(orch, lambda number: orch.dispatch("tool"))
        steps = 0

        async def one() -> None:
            nonlocal steps
            steps, _ = await run(lambda: crowd.one(victim), kind if at else "", at)

        async with anyio.create_task_group() as tasks:
            for number in range(4):
                if number == victim:
                    tasks.start_soon(one)
                else:
                    tasks.start_soon(crowd.one, number)
        others = {0, 1, 2, 3} - {victim}
        assert others <= set(crowd.went), at
        assert anyio.current_time() - began < RESET + 1.5, at
        assert nobody_waits(orch)
        assert orch.circuit("tool").state is CircuitState.CLOSED
        assert_adds_up(orch)
        return steps

    for at in range(1, await world(0) + 1):
        await world(at)


# One loop after another


def test_an_orchestrator_is_waited_for_in_one_loop_after_another() -> None:
    orch, service = bench(anyio.current_time)

    async def opens_and_gives_up() -> None:
        await trip(orch, service)
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(orch.wait_available, "tool")
            await anyio.sleep(100)
            tasks.cancel_scope.cancel()

    async def waits() -> None:
        crowd = Crowd(orch)
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(crowd.one, number)
            await anyio.sleep(0.5)
            assert not crowd.went
            await anyio.sleep(100)
            tasks.cancel_scope.cancel()

    async def is_let_in() -> None:
        began = anyio.current_time()
        await orch.wait_available("tool")
        waited.append(anyio.current_time() - began)

    waited: list[float] = []
    asyncio_options = {"loop_factory": AutojumpEventLoop}

    def trio_options(offset: float) -> dict[str, Any]:
        clock = trio.testing.MockClock(autojump_threshold=0)
        clock.jump(offset)
        return {"clock": clock}

    anyio.run(opens_and_gives_up, backend_options=asyncio_options)
    anyio.run(waits, backend="trio", backend_options=trio_options(5e5))
    anyio.run(is_let_in, backend_options=asyncio_options)
    # What passed after the last look at a clock that is gone nobody knows: it is not taken off.
    assert RESET - 200.5 <= waited[-1] <= RESET
    assert nobody_waits(orch)


def test_when_the_last_one_went_in_another_loop_holds_nobody_up() -> None:
    clock = HandClock()
    orch, service = bench(clock)

    async def goes(after: float) -> None:
        await anyio.sleep(after)
        await orch.wait_available("tool")
        assert anyio.current_time() == after

    anyio.run(trip, orch, service)
    clock.turn(RESET)
    for after in (500, 0):
        loop = {"loop_factory": AutojumpEventLoop}
        anyio.run(goes, after, backend_options=loop)
    assert orch.circuit("tool").state == "open"


def test_those_who_waited_in_a_loop_that_is_gone_hold_nobody_up() -> None:
    orch, service = bench(anyio.current_time)
    first = AutojumpEventLoop()
    tasks: list[asyncio.Task[None]] = []

    async def leaves_tasks_behind() -> None:
        await trip(orch, service)
        tasks.extend(
            asyncio.get_running_loop().create_task(orch.wait_available("tool"))
            for _ in range(3)
        )
        await when_blocked()

    async def waits() -> None:
        crowd = Crowd(orch, lambda number: orch.dispatch("tool"))
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(crowd.one, number)
        assert list(crowd.went) == [0, 1, 2]

    first.run_until_complete(leaves_tasks_behind())
    first.close()
    anyio.run(waits, backend_options={"loop_factory": AutojumpEventLoop})
    assert orch.circuit("tool").state == "closed"
    orch.circuit("tool").isolate()
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task
    tasks.clear()
    gc.collect()
    assert nobody_waits(orch)


def test_control_by_hand_minds_nobody_who_waited_in_a_loop_that_is_gone() -> None:
    orch, service = bench(anyio.current_time)
    loop = AutojumpEventLoop()
    kept: list[Any] = []

    async def leaves_a_task_behind() -> None:
        await trip(orch, service)
        kept.append(asyncio.get_running_loop().create_task(orch.wait_available("tool")))
        await when_blocked()

    loop.run_until_complete(leaves_a_task_behind())
    loop.close()
    orch.circuit("tool").reset()
    anyio.run(orch.dispatch, "tool")
    orch.circuit("tool").isolate()
    orch.circuit("tool").unisolate()
    anyio.run(orch.wait_available, "tool")
    assert nobody_waits(orch)
    kept[0]._log_destroy_pending = False


@real_time
async def test_a_loop_of_another_thread_waits_in_a_row_of_its_own() -> None:
    # One orchestrator in two threads is not supported, but nobody is stuck for it.
    orch, _ = await opened(time.monotonic, policy=BreakerPolicy(reset_timeout=0.3))
    token = current_token()
    crowd = Crowd(orch)

    def elsewhere() -> None:
        async def waits() -> None:
            assert current_token() != token
            await orch.wait_available("tool")

        anyio.run(waits)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crowd.one, 0)
        await when_blocked()
        await anyio.to_thread.run_sync(elsewhere)
    assert 0 in crowd.went
    assert nobody_waits(orch)


# A circuit's clock that is not the loop's


@pytest.mark.parametrize(
    ("before", "slept", "rest", "pause"),
    [
        (math.nan, math.nan, 7.0, 7.0),
        (100.0, 100.0, 100.0, 200.0),  # the clock stands still
        (100.0, 100.0, 51.0, 200.0),
        (100.0, 100.0, 50.0, 50.0),  # it goes at half the pace of the loop's
        (100.0, 100.0, 49.0, 49.0),
        (100.0, 200.0, 20.0, 400.0),
        (3.0, 3.0, 1.8, 6.0),
        (8e4, 8e4, 8e4, 86_400.0),
        (1e6, 86_400.0, 1e6, 1e6),
    ],
)
def test_one_who_waits_asks_a_slow_clock_less_and_less_often(
    before: float, slept: float, rest: float, pause: float
) -> None:
    async def main() -> float:
        waiter = Waiter(lambda make: None, lambda circuit: 0.0, lambda: None)
        waiter._rest, waiter._slept = before, slept
        return waiter._patience(rest)

    assert anyio.run(main) == pause


def test_what_was_slept_before_the_circuit_could_be_asked_is_no_sign_of_its_clock() -> None:
    async def main() -> list[float]:
        rests = iter([100.0, 0.0, 100.0, None, 100.0])
        breaker = SimpleNamespace(available_in=lambda now: next(rests))
        circuit: Any = SimpleNamespace(breaker=breaker, pace=None, key=None, untried=True)
        waiter = Waiter(lambda make: None, lambda circuit: 0.0, lambda: None)
        return [waiter._pause(circuit) for _ in range(5)]

    first, none, again, _, last = anyio.run(main)
    assert (first, none, again, last) == (100.0, 0.0, 100.0, 100.0)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_row_in_the_loop_of_another_thread_is_alive_as_long_as_that(backend: str) -> None:
    rows: list[Waiters] = []
    made, enough = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        rows.append(Waiters())
        assert rows[0].is_alive
        made.set()
        await anyio.to_thread.run_sync(enough.wait)

    thread = threading.Thread(
        target=anyio.run, args=(elsewhere,), kwargs={"backend": backend}
    )
    thread.start()
    assert made.wait(60)
    assert rows[0].is_alive
    assert not rows[0].is_of_this_loop
    enough.set()
    thread.join()
    assert not rows[0].is_alive


@virtual_time
async def test_a_pace_begins_anew_after_a_second_and_on_another_clock() -> None:
    await anyio.sleep(0.9)
    pace = Pace.after(None)
    assert (pace.let_go, pace.at) == (1, pytest.approx(0.9))
    await anyio.sleep(0.99)
    assert Pace.after(pace).let_go == 2
    for late in (0.01, 0.1, 1.0):
        await anyio.sleep(late)
        assert Pace.after(pace).let_go == 1
    assert Pace.after(Pace(7, anyio.current_time())).let_go == 8
    for ahead in (0.5, 100.0):
        assert Pace.after(Pace(7, anyio.current_time() + ahead)).let_go == 1
