from __future__ import annotations

import asyncio
import json
import logging
import math
import random
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
import sniffio

from orchestrator_async import (
    BreakerPolicy,
    CircuitOpenError,
    CircuitState,
    FleetPolicy,
    Registry,
    ToolOrchestrator,
)
from orchestrator_async.stores import Answer, Isolate, MemoryStore, SharedState

from .clock import virtual_time
from .fleets import Engine, Process, Wire, fleet_of, settle
from .support import fail, succeed

pytestmark = virtual_time

DEBUG = False

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
ISOLATED = CircuitState.ISOLATED


def states(fleet: list[Process]) -> set[CircuitState]:
    return {each.state for each in fleet}


def runs(fleet: list[Process]) -> int:
    return sum(each.service.runs for each in fleet)


async def make_open(fleet: list[Process]) -> None:
    await fleet[0].call(3)
    await settle()
    assert states(fleet) == {OPEN}


async def rush(fleet: list[Process], callers: int = 5) -> list[Any]:
    """
    Many calls at one moment, in every process.
    """
    results: list[Any] = []

    async def call(process: Process) -> None:
        results.extend(await process.call())

    async with anyio.create_task_group() as tasks:
        for each in fleet:
            for _ in range(callers):
                tasks.start_soon(call, each)
    return results


# Opening


async def test_what_one_process_opens_is_open_in_all():
    async with fleet_of(3) as fleet:
        await fleet[0].call(3)
        assert fleet[0].state is OPEN  # at once
        await settle()
        assert states(fleet) == {OPEN}
        (refused,) = await fleet[1].call()
        assert isinstance(refused.error, CircuitOpenError)
        assert refused.error.failures == 3
        assert 9 < refused.retry_after <= 10
        assert fleet[1].service.runs == 0


async def test_failures_in_a_row_of_two_processes_add_up():
    async with fleet_of(4) as fleet:
        await fleet[0].call(2)
        await settle()
        assert states(fleet) == {CLOSED}
        await fleet[1].call(1)
        await settle()
        assert states(fleet) == {OPEN}


async def test_a_success_ends_the_run_of_its_process():
    async with fleet_of(2) as fleet:
        await fleet[0].call(2)
        await settle()
        fleet[0].service.behaviour = succeed
        await fleet[0].call(1)
        await settle()
        await fleet[1].call(2)
        await settle()
        assert states(fleet) == {CLOSED}


async def test_a_success_ends_a_run_of_which_the_store_knows_nothing_yet():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await fleet[0].call(1)
        fleet[0].service.behaviour = succeed
        await fleet[0].call(1)
        await settle()
        await fleet[1].call(2)
        await settle()
        assert states(fleet) == {CLOSED}


async def test_a_fleet_wants_a_share_of_its_processes_to_fail():
    async with fleet_of(6) as fleet:
        await settle(3)  # until all know how many there are
        await fleet[0].call(2)
        await fleet[1].call(2)
        await settle()
        assert states(fleet) == {CLOSED}  # two of six
        await fleet[2].call(1)
        await settle()
        assert states(fleet) == {OPEN}


async def test_rates_are_of_all_processes_together():
    policy = BreakerPolicy(failure_rate=0.5, window_seconds=60.0, minimum_calls=20)
    async with fleet_of(4, failure_threshold=100, policy=policy) as fleet:
        for each in fleet[:2]:
            each.service.behaviour = succeed
        for each in fleet:
            await each.call(4)
        await settle(2)
        assert states(fleet) == {CLOSED}  # 16 calls
        for each in fleet[:3]:
            await each.call(1)
        await settle(2)
        assert states(fleet) == {CLOSED}
        await fleet[3].call(1)
        await settle(2)
        assert states(fleet) == {OPEN}  # 10 of 20 have failed


async def test_a_pause_is_one_for_all():
    class Throttled(Exception):
        retry_after = 4.0

    async def throttle() -> str:
        raise Throttled("later")

    async with fleet_of(2) as fleet:
        fleet[0].service.behaviour = throttle
        await fleet[0].call()
        await settle()
        (refused,) = await fleet[1].call()
        assert refused.error.paused
        assert 3 < refused.retry_after <= 4


# The closed path


async def test_a_success_asks_the_store_nothing():
    engine = Engine()
    async with fleet_of(1, engine) as fleet:
        fleet[0].service.behaviour = succeed
        await fleet[0].call()
        await settle()
        before = engine.asked.copy()
        for _ in range(100):
            await fleet[0].call()
            assert await fleet[0].orch.dispatch("tool", {}) == "fine"
        assert engine.asked == before


async def test_failures_that_come_fast_are_told_together():
    engine = Engine()
    async with fleet_of(1, engine, failure_threshold=1000) as fleet:
        await settle(1.5)
        await rush(fleet, 500)
        await settle()
        assert fleet[0].orch.circuit("tool").failures == 500
        assert 1 <= engine.asked["Run"] <= 2


# Probing


@pytest.mark.parametrize("behaviour", [succeed, fail])
async def test_one_probe_for_the_whole_fleet(behaviour):
    async with fleet_of(5) as fleet:
        await make_open(fleet)
        for window in range(1, 4):
            before = runs(fleet)
            await settle(10.5)
            for each in fleet:

                async def slowly() -> str:
                    await anyio.sleep(0.5)
                    return await fail()

                each.service.behaviour = slowly
            results = await rush(fleet)
            assert runs(fleet) == before + 1, window
            assert sum(each.attempts for each in results) == 1
            await settle()
            assert states(fleet) == {OPEN}
        await settle(10.5)
        for each in fleet:
            each.service.behaviour = behaviour
        await fleet[3].call()
        await settle()
        assert states(fleet) == {CLOSED if behaviour is succeed else OPEN}


async def test_everybody_sees_that_somebody_probes():
    async with fleet_of(3) as fleet:
        await make_open(fleet)
        await settle(10.5)
        done = anyio.Event()

        async def wait() -> str:
            await done.wait()
            return "fine"

        fleet[1].service.behaviour = wait
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet[1].call)
            await settle()
            assert states(fleet) == {HALF_OPEN}
            (refused,) = await fleet[2].call()
            assert refused.error.state == "half_open"
            done.set()
        await settle()
        assert states(fleet) == {CLOSED}


async def test_a_probe_without_a_verdict_leaves_its_place_to_another_process():
    async with fleet_of(2) as fleet:
        await make_open(fleet)
        await settle(10.5)
        fleet[0].service.behaviour = anyio.sleep_forever
        with anyio.move_on_after(1):
            await fleet[0].call()
        await settle()
        fleet[1].service.behaviour = succeed
        (result,) = await fleet[1].call()
        assert result.ok
        await settle()
        assert states(fleet) == {CLOSED}


async def test_probes_in_a_row_may_be_of_several_processes():
    policy = BreakerPolicy(success_threshold=2)
    async with fleet_of(2, policy=policy) as fleet:
        await make_open(fleet)
        await settle(10.5)
        for each in fleet:
            each.service.behaviour = succeed
        await fleet[0].call()
        await settle()
        assert states(fleet) == {HALF_OPEN}
        await fleet[1].call()
        await settle()
        assert states(fleet) == {CLOSED}


async def test_the_time_that_it_stays_open_grows_for_all():
    policy = BreakerPolicy(reset_multiplier=3)
    async with fleet_of(2, policy=policy) as fleet:
        await make_open(fleet)
        await settle(10.5)
        await fleet[0].call()
        await settle()
        (refused,) = await fleet[1].call()
        assert 29 < refused.retry_after <= 30
        await settle(30)
        await fleet[1].call()
        await settle()
        (refused,) = await fleet[0].call()
        assert 89 < refused.retry_after <= 90


async def test_who_dies_in_a_probe_is_given_up_when_the_lease_ends():
    engine = Engine()
    wire = Wire(engine)
    async with (
        fleet_of(1, engine, tool_timeout=2.0) as (other,),
        fleet_of(1, wire, tool_timeout=2.0) as (dying,),
    ):
        await make_open([other, dying])
        await settle(10.5)
        dying.service.behaviour = anyio.sleep_forever
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dying.call)
            await settle()
            wire.is_cut = True
            assert other.state is HALF_OPEN
            await settle(2.8)
            (refused,) = await other.call()
            assert refused.attempts == 0
            await settle(0.2)
            other.service.behaviour = succeed
            (result,) = await other.call()
            assert result.ok
        assert other.state is CLOSED


async def test_a_lease_whose_answer_was_lost_comes_with_the_next_ask():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await make_open(fleet)
        await settle(10.5)
        engine.deaf = True
        engine.loses = True
        (refused,) = await fleet[0].call()
        assert refused.attempts == 0
        engine.deaf = engine.loses = False
        await settle(1.5)
        fleet[0].service.behaviour = succeed
        (result,) = await fleet[0].call()
        assert result.ok
        await settle()
        assert states(fleet) == {CLOSED}


async def test_a_late_success_closes_where_nobody_has_probed_since():
    policy = BreakerPolicy(probe_lease=2.0)
    async with fleet_of(2, policy=policy) as fleet:
        await make_open(fleet)
        await settle(10.5)

        async def slowly() -> str:
            await anyio.sleep(5)
            return "fine"

        fleet[0].service.behaviour = slowly
        (result,) = await fleet[0].call()
        assert result.late
        await settle()
        assert states(fleet) == {CLOSED}


@pytest.mark.parametrize("behaviour", [succeed, fail])
async def test_a_late_verdict_decides_nothing_where_somebody_probes(behaviour):
    policy = BreakerPolicy(probe_lease=2.0)
    async with fleet_of(2, policy=policy) as fleet:
        await make_open(fleet)
        await settle(10.5)
        done = anyio.Event()

        async def slowly() -> str:
            await done.wait()
            return await behaviour()

        other_done = anyio.Event()

        async def other() -> str:
            await other_done.wait()
            return "fine"

        fleet[0].service.behaviour, fleet[1].service.behaviour = slowly, other
        results: list[Any] = []

        async def call() -> None:
            results.extend(await fleet[0].call())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await settle(2.5)
            tasks.start_soon(fleet[1].call)
            await settle()
            assert fleet[1].service.runs == 1
            done.set()
            await settle()
            assert results[0].late
            assert states(fleet) == {HALF_OPEN}
            other_done.set()
        await settle()
        assert states(fleet) == {CLOSED}


async def test_a_lease_is_renewed_while_its_probe_runs():
    engine = Engine()
    policy = FleetPolicy(lease=1.0)
    async with fleet_of(2, engine, tool_timeout=20.0, fleet=policy) as fleet:
        await make_open(fleet)
        await settle(10.5)

        async def slowly() -> str:
            await anyio.sleep(15)
            return "fine"

        fleet[0].service.behaviour = slowly
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet[0].call)
            for _ in range(14):
                await settle(1.0)
                (refused,) = await fleet[1].call()
                assert refused.attempts == 0
        await settle()
        assert fleet[1].service.runs == 0
        assert states(fleet) == {CLOSED}
        assert engine.asked["Renew"] >= 15


async def test_who_renews_a_lease_ends_with_its_probe():
    breaker = BreakerPolicy(probe_lease=60.0)
    async with fleet_of(1, policy=breaker) as (process,):
        await make_open([process])
        await settle(10.5)
        at_rest = len(anyio.get_running_tasks())
        slowly = anyio.Event()
        process.service.behaviour = slowly.wait
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(process.call)
            await settle(0.01)
            assert process.service.running == 1
            assert len(anyio.get_running_tasks()) == at_rest + 2
            slowly.set()
        await settle(0.01)
        assert len(anyio.get_running_tasks()) == at_rest


@pytest.mark.parametrize("seconds", [0.3, 1.0, 1.9])
async def test_an_engine_that_takes_long_for_each_answer_closes_all(seconds: float):
    class Far(Engine):
        async def pass_by(self, what: str) -> None:
            await anyio.sleep(seconds / 2)
            await super().pass_by(what)

        async def passed(self, what: str) -> None:
            await anyio.sleep(seconds / 2)

    async def keep_calling(process: Process) -> None:
        while True:
            await process.call()
            await settle(0.3)

    async with fleet_of(20, Far(), tool_timeout=0.3, reset_timeout=1.0) as fleet:
        await fleet[0].call(3)
        for each in fleet:
            each.service.behaviour = succeed
        async with anyio.create_task_group() as tasks:
            for number, each in enumerate(fleet):
                tasks.start_soon(keep_calling, each)
                await settle(0.3 / len(fleet) * (number % 2))
            await settle(15)
            assert states(fleet) == {CLOSED}
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["hangs", "dies"])
async def test_what_all_have_closed_on_their_own_is_closed_in_the_store(how: str):
    engine = Engine()
    async with AsyncExitStack() as stack:
        wire = Wire(engine)
        fleet = [Process(each, tool_timeout=5.0) for each in (engine, engine, wire)]
        for each in fleet:
            await stack.enter_async_context(each.orch)
        one, other, prober = fleet
        await make_open(fleet)
        await settle(10.5)
        prober.service.behaviour = anyio.sleep_forever
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(prober.call)
            await settle()
            wire.is_cut = True  # it is gone, in the middle of its probe
            if how == "hangs":
                engine.hang()
            else:
                engine.die()
            one.service.behaviour = other.service.behaviour = succeed
            with anyio.fail_after(20):
                while states([one, other]) != {CLOSED}:
                    await one.call()
                    await other.call()
                    await settle(0.2)
            engine.recover()
            await settle(8)  # the lease of the one that is gone is over
            assert states([one, other]) == {CLOSED}
            one.service.behaviour = fail
            await one.call(3)
            await settle()
            assert states([one, other]) == {OPEN}
            tasks.cancel_scope.cancel()


async def test_a_lease_is_renewed_where_its_process_was_left_and_entered_meanwhile():
    policy = FleetPolicy(lease=5.0)
    async with fleet_of(2, tool_timeout=60.0, fleet=policy) as fleet:
        one, other = fleet
        await make_open(fleet)
        await settle(10.5)

        async def slowly() -> str:
            await anyio.sleep(20)
            return "fine"

        one.service.behaviour, other.service.behaviour = slowly, succeed
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.call)
            await settle(1)
            await one.orch.__aexit__(None, None, None)
            await one.orch.__aenter__()
            for _ in range(18):
                await settle(1)
                (refused,) = await other.call()
                assert refused.attempts == 0
        await settle()
        assert states(fleet) == {CLOSED}


async def test_a_claim_that_is_never_answered_keeps_no_circuit_open():
    class Silent(Engine):
        async def passed(self, what: str) -> None:
            if what == "Claim":
                await anyio.sleep_forever()

    async with fleet_of(1, Silent()) as (process,):
        await make_open([process])
        process.service.behaviour = succeed
        await settle(10.5)
        with anyio.fail_after(7):
            while process.state is not CLOSED:
                await process.call()
                await settle(0.1)


async def test_a_renewal_that_fails_is_tried_again():
    engine = Engine()
    policy = FleetPolicy(lease=2.0)
    async with fleet_of(2, engine, tool_timeout=20.0, fleet=policy) as fleet:
        await make_open(fleet)
        await settle(10.5)

        async def slowly() -> str:
            await anyio.sleep(6)
            return "fine"

        fleet[0].service.behaviour = slowly
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet[0].call)
            await settle(1)
            engine.fails = {"Renew"}
            await settle(0.6)
            engine.fails = set()
            for _ in range(4):
                (refused,) = await fleet[1].call()
                assert refused.attempts == 0
                await settle(1)
        await settle()
        assert states(fleet) == {CLOSED}


async def test_a_lease_is_renewed_for_no_longer_than_the_tool_may_take():
    policy = FleetPolicy(lease=1.0)
    breaker = BreakerPolicy(probe_lease=4.0)
    async with fleet_of(2, fleet=policy, policy=breaker) as fleet:
        await make_open(fleet)
        await settle(10.5)
        fleet[0].service.behaviour = anyio.sleep_forever
        fleet[1].service.behaviour = succeed
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet[0].call)
            await settle(3.5)
            (refused,) = await fleet[1].call()
            assert refused.attempts == 0
            await settle(1.0)
            (result,) = await fleet[1].call()
            assert result.ok
            tasks.cancel_scope.cancel()


async def test_a_lease_that_comes_too_late_is_kept_for_the_next_caller():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await make_open(fleet)
        await settle(10.5)
        before = runs(fleet)
        engine.delay = 0.5
        began = anyio.current_time()
        (refused,) = await fleet[0].call()
        assert refused.attempts == 0
        assert anyio.current_time() - began <= 0.051
        (refused,) = await fleet[0].call()  # it is being asked for
        assert refused.attempts == 0
        assert engine.asked["Claim"] == 1
        await settle(0.6)
        began = anyio.current_time()
        (result,) = await fleet[0].call()
        assert result.attempts == 1
        assert anyio.current_time() == began
        assert runs(fleet) == before + 1
        assert engine.asked["Claim"] == 1


async def test_a_lease_whose_asker_was_cancelled_is_kept_for_the_next_caller():
    engine = Engine()
    async with fleet_of(1, engine) as fleet:
        await make_open(fleet)
        await settle(10.5)
        engine.delay = 0.04
        with anyio.move_on_after(0.01) as scope:
            await fleet[0].call()
        assert scope.cancelled_caught
        await settle()
        (result,) = await fleet[0].call()
        assert result.attempts == 1
        assert engine.asked["Claim"] == 1


@pytest.mark.parametrize("what", ["drained", "removed", "replaced"])
async def test_a_call_that_has_asked_is_not_run_where_none_is_any_more(what: str):
    engine = Engine()
    async with fleet_of(1, engine) as (process,):
        await make_open([process])
        await settle(10.5)
        engine.delay = 0.04
        before = process.service.runs
        results: list[Any] = []

        async def call() -> None:
            results.extend(await process.call())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await settle(0.02)
            assert engine.asked["Claim"] == 1
            if what == "drained":
                await process.orch.drain(timeout=1)
            else:
                process.orch.registry.remove("tool")
            if what == "replaced":
                process.service.offer(process.orch.registry)
        assert process.service.runs == before
        assert not results[0].ok
        assert results[0].attempts == 0


async def test_a_lease_for_a_tool_that_was_removed_meanwhile_goes_back_to_the_fleet():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await make_open(fleet)
        await settle(10.5)
        engine.delay = 0.04
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet[0].call)
            await settle(0.02)
            fleet[0].orch.registry.remove("tool")
        engine.delay = 0.0
        await settle()
        fleet[1].service.behaviour = succeed
        (result,) = await fleet[1].call()
        assert result.ok


@pytest.mark.parametrize("when", ["its claim is on its way", "its lease is there"])
async def test_a_tool_that_is_removed_does_not_end_what_others_share(
    when: str, caplog: pytest.LogCaptureFixture
):
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        for each in fleet:
            each.service.offer(each.orch.registry, "other")
        await make_open(fleet)
        await settle(10.5)
        engine.delay = 0.02
        caplog.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet[0].call)
            await settle(0.01)
            tasks.cancel_scope.cancel()
        if when == "its lease is there":
            await settle(0.02)
        fleet[0].orch.registry.remove("tool")
        await settle(1)
        assert caplog.records == []
        for _ in range(3):
            await fleet[0].orch.run("other")
        await settle()
        assert [each.orch.circuit("other").state for each in fleet] == [OPEN, OPEN]
        fleet[1].service.behaviour = succeed
        (result,) = await fleet[1].call()
        assert result.ok


async def test_what_is_said_while_the_store_is_down_of_a_tool_that_goes_is_told_later():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        isolation = fleet[0].orch.circuit("tool").isolate()
        await settle()
        assert states(fleet) == {ISOLATED}
        engine.die()
        await settle(2)
        isolation.release()
        fleet[0].orch.registry.remove("tool")
        engine.recover()
        await settle(3)
        assert fleet[1].state is CLOSED


async def test_a_lease_that_nobody_uses_goes_back_to_the_fleet():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await make_open(fleet)
        await settle(10.5)
        engine.delay = 0.04
        with anyio.move_on_after(0.01):
            await fleet[0].call()
        engine.delay = 0.0
        await settle(4)
        fleet[1].service.behaviour = succeed
        (result,) = await fleet[1].call()
        assert result.ok


async def test_who_leaves_gives_its_lease_back():
    engine = Engine()
    async with fleet_of(1, engine) as fleet:
        async with fleet_of(1, engine) as leaving:
            await make_open([*fleet, *leaving])
            await settle(10.5)
            engine.delay = 0.04
            with anyio.move_on_after(0.01):
                await leaving[0].call()
            engine.delay = 0.0
            await settle()
        fleet[0].service.behaviour = succeed
        (result,) = await fleet[0].call()
        assert result.ok


async def test_a_probe_cancelled_at_any_step_leaves_nothing():
    for delay in (0.0, 0.02, 0.04):
        for after in (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07):
            engine = Engine()
            async with fleet_of(2, engine) as fleet:
                await make_open(fleet)
                await settle(10.5)
                engine.delay = delay

                async def slowly() -> str:
                    await anyio.sleep(0.03)
                    return "fine"

                for each in fleet:
                    each.service.behaviour = slowly
                with anyio.move_on_after(after):
                    await fleet[0].call()
                engine.delay = 0.0
                await settle(4)
                for each in fleet:
                    (result,) = await each.call()
                    assert result.ok, (delay, after)
                    await settle()
                assert states(fleet) == {CLOSED}


async def test_a_lease_that_overtakes_the_answer_to_a_move_is_lost_to_nobody():
    engine = Engine()
    policy = BreakerPolicy(probe_lease=30.0)
    async with fleet_of(2, engine, reset_timeout=0.05, policy=policy) as fleet:
        await settle()
        held = anyio.Event()

        async def pass_late(what: str) -> None:
            if what == "Move":
                await held.wait()

        engine.passed = pass_late  # type: ignore[method-assign]
        fleet[0].orch.circuit("tool").trip()
        await settle(0.06)
        await fleet[0].call()
        await settle()
        held.set()
        await settle()
        fleet[1].service.behaviour = succeed
        (result,) = await fleet[1].call()
        assert result.ok


async def test_a_lease_that_is_used_late_covers_the_probe_all_the_same():
    engine = Engine()
    async with fleet_of(2, engine, tool_timeout=0.9) as fleet:
        await make_open(fleet)
        await settle(10.5)
        engine.delay = 0.04
        with anyio.move_on_after(0.01):
            await fleet[0].call()
        engine.delay = 0.0
        await settle(1.5)  # of its 1.9 s

        async def slowly() -> str:
            await anyio.sleep(0.8)
            return "fine"

        fleet[0].service.behaviour = slowly
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet[0].call)
            for _ in range(7):
                await settle(0.1)
                (refused,) = await fleet[1].call()
                assert refused.attempts == 0
        await settle()
        assert states(fleet) == {CLOSED}


async def test_the_lease_of_a_tool_that_was_removed_goes_back_to_the_fleet():
    async with fleet_of(2) as fleet:
        await make_open(fleet)
        await settle(10.5)

        async def slowly() -> str:
            await anyio.sleep(1)
            return "fine"

        fleet[0].service.behaviour = slowly
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet[0].call)
            await settle()
            fleet[0].orch.registry.remove("tool")
            fleet[0].service.offer(fleet[0].orch.registry)
        fleet[1].service.behaviour = succeed
        (result,) = await fleet[1].call()
        assert result.ok


# Circuits that come and go


def by_host(engine: Engine, **policy: Any) -> tuple[ToolOrchestrator, list[str]]:
    """
    A process whose tool has a circuit a host, and the hosts that are down.
    """
    registry = Registry()
    down: list[str] = []

    @registry.tool(circuit=lambda arguments, context: arguments["host"])
    async def fetch(host: str) -> str:
        if host in down:
            raise ConnectionError(host)
        return host

    orch = ToolOrchestrator(
        registry,
        store=engine,
        clock=anyio.current_time,
        reset_timeout=10.0,
        policy=BreakerPolicy(**policy),
    )
    return orch, down


async def test_circuits_by_key_are_shared_by_a_digest_of_the_key():
    engine = Engine()
    (one, down), (two, _) = by_host(engine), by_host(engine)
    async with one, two:
        await two.run("fetch", {"host": "secret.example"})
        down.append("secret.example")
        for _ in range(3):
            await one.run("fetch", {"host": "secret.example"})
        await settle()
        assert two.circuit("fetch", "secret.example").state is OPEN
        assert (await two.run("fetch", {"host": "other"})).ok
        refused = await two.run("fetch", {"host": "secret.example"})
        assert refused.attempts == 0
        await settle(10.5)
        result = await two.run("fetch", {"host": "secret.example"})
        assert result.ok
        await settle()
        assert one.circuit("fetch", "secret.example").state is CLOSED
    assert not any("secret" in name for name in engine.store._circuits)
    assert len(engine.store._circuits) == 1


async def test_nothing_is_kept_of_circuits_that_are_gone():
    engine = Engine()
    for enter in (False, True):
        orch, down = by_host(engine, max_keys=5)
        down.extend(f"host {number}" for number in range(100))
        if enter:
            await orch.__aenter__()
        for number in range(100):
            await orch.run("fetch", {"host": f"host {number}"})
        sharing = orch._sharing
        assert sharing is not None
        assert len(sharing._links) <= 6
        assert len(sharing._fresh) <= 6
        assert len(sharing._dirty) <= 6
        if enter:
            await orch.__aexit__(None, None, None)


async def test_those_who_share_a_circuit_here_share_it_with_nobody_there():
    engine = Engine()
    orch, down = by_host(engine, max_keys=1)
    async with orch:
        with orch.circuit("fetch", "first").isolate():
            down.extend(["second", "third"])
            for host in ("second", "third", "second"):
                await orch.run("fetch", {"host": host})
            await settle()
            assert not engine.asked["Move"]
            assert (await orch.run("fetch", {"host": "third"})).attempts == 0


async def test_a_tool_that_is_removed_is_told_of_no_more():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await make_open(fleet)
        fleet[0].orch.registry.remove("tool")
        fleet[1].orch.circuit("tool").reset()
        await settle(2)
        assert "tool" not in fleet[0].orch._fleet.circuits
        fleet[0].service.offer(fleet[0].orch.registry)
        await fleet[1].call(3)
        await settle()
        assert states(fleet) == {OPEN}


# By hand


async def test_isolation_is_one_for_all():
    async with fleet_of(3) as fleet:
        for each in fleet:
            each.service.behaviour = succeed
        with fleet[0].orch.circuit("tool").isolate():
            assert fleet[0].state is ISOLATED
            await settle()
            assert states(fleet) == {ISOLATED}
            (refused,) = await fleet[1].call()
            assert refused.retry_after is None
        await settle()
        assert states(fleet) == {CLOSED}


async def test_isolations_of_several_processes_add_up():
    async with fleet_of(2) as fleet:
        one = fleet[0].orch.circuit("tool").isolate()
        two = fleet[1].orch.circuit("tool").isolate()
        await settle()
        one.release()
        await settle()
        assert states(fleet) == {ISOLATED}
        two.release()
        await settle()
        assert states(fleet) == {CLOSED}


async def test_anybody_can_lift_all_isolations():
    async with fleet_of(2) as fleet:
        held = fleet[0].orch.circuit("tool").isolate()
        await settle()
        fleet[1].orch.circuit("tool").unisolate()
        await settle()
        assert states(fleet) == {CLOSED}
        held.release()
        await settle()
        assert states(fleet) == {CLOSED}
        again = fleet[0].orch.circuit("tool").isolate()
        await settle()
        assert states(fleet) == {ISOLATED}
        again.release()
        await settle()
        assert states(fleet) == {CLOSED}


async def test_an_isolation_outlives_the_process_that_made_it():
    engine = Engine()
    async with fleet_of(1, engine) as fleet:
        async with fleet_of(1, engine) as operator:
            operator[0].orch.circuit("tool").isolate()
        await settle()
        assert states(fleet) == {ISOLATED}
        fleet[0].orch.circuit("tool").unisolate()
        assert states(fleet) == {CLOSED}


async def test_a_process_that_comes_later_knows_what_is_open():
    engine = Engine()
    async with fleet_of(1, engine) as fleet:
        await make_open(fleet)
        async with fleet_of(1, engine) as late:
            assert late[0].state is OPEN
            (refused,) = await late[0].call()
            assert refused.attempts == 0


async def test_reset_and_trip_are_for_all():
    async with fleet_of(3) as fleet:
        await make_open(fleet)
        fleet[1].orch.circuit("tool").reset()
        await settle()
        assert states(fleet) == {CLOSED}
        fleet[2].orch.circuit("tool").trip()
        await settle()
        assert states(fleet) == {OPEN}


async def test_reset_has_all_forget_their_failures():
    async with fleet_of(3) as fleet:
        await settle()
        await fleet[0].call(2)
        await settle()
        fleet[1].orch.circuit("tool").reset()
        await settle()
        assert fleet[0].orch.circuit("tool").failures == 0
        await fleet[0].call(2)
        await settle()
        assert states(fleet) == {CLOSED}


async def test_reset_forgets_the_calls_that_were_not_told_yet():
    policy = BreakerPolicy(failure_rate=0.5, window_seconds=60.0, minimum_calls=10)
    async with fleet_of(2, failure_threshold=100, policy=policy) as fleet:
        await fleet[0].call(9)
        fleet[0].orch.circuit("tool").reset()
        fleet[0].service.behaviour = succeed
        await fleet[0].call(3)
        fleet[0].service.behaviour = fail
        await fleet[0].call(1)
        await settle(3)
        assert states(fleet) == {CLOSED}


async def test_unisolate_elsewhere_lifts_no_drill_here():
    async with fleet_of(2) as fleet:
        circuit = fleet[0].orch.circuit("tool")
        drill, isolation = circuit.force_open(), circuit.isolate()
        await settle()
        fleet[1].orch.circuit("tool").unisolate()
        await settle()
        assert fleet[0].state is OPEN
        isolation.release()
        assert fleet[0].state is OPEN
        drill.release()
        assert fleet[0].state is CLOSED


async def test_a_snapshot_has_no_isolation_of_others():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        with fleet[0].orch.circuit("tool").isolate():
            await settle()
            snapshot = fleet[1].orch.snapshot()
            assert snapshot["circuits"] == []
            mine = fleet[0].orch.snapshot()
            assert mine["circuits"][0]["isolated"]
        await settle()
        fleet[1].orch.restore(mine)
        await settle()
        assert states(fleet) == {ISOLATED}
        fleet[0].orch.circuit("tool").unisolate()
        await settle()
        assert states(fleet) == {CLOSED}


async def test_a_reload_to_a_shorter_time_is_for_what_is_open_already():
    async with fleet_of(2, reset_timeout=300.0) as fleet:
        await make_open(fleet)
        await settle(1)
        for each in fleet:
            each.orch.reload(reset_timeout=10.0, failure_threshold=3)
            each.service.behaviour = succeed
        await settle(8.5)
        assert (await fleet[0].call())[0].attempts == 0
        await settle(1)
        assert (await fleet[0].call())[0].ok


async def test_the_calls_of_what_is_disabled_here_are_not_counted():
    policy = BreakerPolicy(failure_rate=0.5, window_seconds=60.0, minimum_calls=10)
    engine = Engine()
    async with fleet_of(2, engine, failure_threshold=100, policy=policy) as fleet:
        fleet[0].orch.circuit("tool").disable()
        await fleet[0].call(9)
        await settle(2)
        assert not engine.asked["Count"]
        await fleet[1].call(1)
        await settle(2)
        assert engine.asked["Count"] == 1
        assert fleet[1].state is CLOSED


async def test_what_is_disabled_here_takes_no_part():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        fleet[0].orch.circuit("tool").disable()
        await fleet[0].call(5)
        await settle()
        assert fleet[1].state is CLOSED
        assert not engine.asked["Move"]
        assert not engine.asked["Run"]
        await fleet[1].call(3)
        await settle()
        (result,) = await fleet[0].call()
        assert result.attempts == 1


# The store fails


async def test_a_slow_store_is_waited_for_and_then_each_is_on_its_own():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await make_open(fleet)
        await settle(9.5)
        engine.hang()
        await settle(1)
        before = runs(fleet)
        for _ in range(20):
            began = anyio.current_time()
            await rush(fleet)
            assert anyio.current_time() - began <= 0.06
            await settle(0.1)
        assert runs(fleet) == before
        for each in fleet:
            each.service.behaviour = succeed
        await settle(3)
        await rush(fleet, 1)
        assert states(fleet) == {CLOSED}


async def test_a_store_that_is_gone_is_not_waited_for():
    engine = Engine()
    async with fleet_of(3, engine) as fleet:
        await make_open(fleet)
        engine.die()
        await settle(10.5)
        before = runs(fleet)
        began = anyio.current_time()
        await rush(fleet)
        assert anyio.current_time() == began
        assert runs(fleet) == before + 3  # one each


async def test_one_that_is_gone_is_found_out_before_an_answer_is_given_up():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await make_open(fleet)
        await settle(8.5)
        engine.hang(5.0)
        engine.is_gone = True
        await settle(1.8)
        before = runs(fleet)
        await rush(fleet)
        assert runs(fleet) == before + 2


@pytest.mark.parametrize("empty", [False, True])
async def test_a_fleet_comes_together_again(empty):
    engine = Engine()
    async with fleet_of(3, engine) as fleet:
        await make_open(fleet)
        engine.die()
        await settle(10.5)
        await rush(fleet)
        engine.recover(empty=empty)
        await settle(2)
        for _ in range(3):
            await settle(10.5)
            before = runs(fleet)
            await rush(fleet)
            assert runs(fleet) == before + 1
            await settle()
        fleet[1].service.behaviour = succeed
        await settle(10.5)
        await fleet[1].call()
        await settle()
        assert states(fleet) == {CLOSED}


async def test_what_happened_meanwhile_is_told_when_the_store_is_back():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await make_open(fleet)
        engine.die()
        await settle(10.5)
        fleet[0].service.behaviour = succeed
        await fleet[0].call()
        assert fleet[0].state is CLOSED
        engine.recover()
        await settle(2)
        assert states(fleet) == {CLOSED}
        engine.die()
        await settle(2)
        fleet[0].service.behaviour = fail
        await fleet[0].call(3)
        engine.recover()
        await settle(2)
        assert states(fleet) == {OPEN}


async def test_a_probe_that_runs_when_the_store_is_back_is_the_only_one():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await make_open(fleet)
        engine.die()
        await settle(10.5)

        async def slowly() -> str:
            await anyio.sleep(6)
            return "fine"

        fleet[0].service.behaviour = slowly
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet[0].call)
            await settle()
            engine.recover()
            await settle(1)
            for _ in range(10):
                (refused,) = await fleet[1].call()
                assert refused.attempts == 0
                await settle(0.3)
        await settle()
        assert states(fleet) == {CLOSED}


async def test_a_lease_outlives_the_data_of_the_store():
    engine = Engine()
    async with fleet_of(3, engine) as fleet:
        await make_open(fleet)
        await settle(10.5)
        done = anyio.Event()

        async def wait() -> str:
            await done.wait()
            return "fine"

        fleet[0].service.behaviour = wait
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet[0].call)
            await settle()
            engine.recover(empty=True)
            for _ in range(20):
                before = runs(fleet)
                await rush(fleet)
                assert runs(fleet) == before
                await settle(0.2)
            done.set()
        await settle()
        assert states(fleet) == {CLOSED}


async def test_a_time_that_the_settings_do_not_allow_is_cut_for_all(caplog):
    engine = Engine()
    async with fleet_of(1, engine, reset_timeout=1e6) as (strange,):
        await strange.call(3)
    async with fleet_of(2, engine) as fleet:
        await settle()
        assert states(fleet) == {OPEN}
        for each in fleet:
            (refused,) = await each.call()
            assert 9 < refused.retry_after <= 10
        assert "settings allow 10" in caplog.text
        await settle(10.5)
        fleet[0].service.behaviour = succeed
        (result,) = await fleet[0].call()
        assert result.ok


async def test_what_is_open_stays_so_when_the_store_has_lost_its_data():
    engine = Engine()
    async with fleet_of(1, engine) as fleet:
        await make_open(fleet)
        engine.recover(empty=True)
        await settle(2)
        async with fleet_of(1, engine) as late:
            assert late[0].state is OPEN


async def test_an_isolation_outlives_the_data_of_the_store():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        with fleet[0].orch.circuit("tool").isolate():
            await settle()
            engine.recover(empty=True)
            await settle(3)
            assert states(fleet) == {ISOLATED}
        await settle()
        assert states(fleet) == {CLOSED}


async def test_an_isolation_outlives_its_maker_and_the_data_of_the_store():
    engine = Engine()
    async with fleet_of(1, engine) as fleet:
        async with fleet_of(1, engine) as operator:
            operator[0].orch.circuit("tool").isolate()
        await settle()
        engine.recover(empty=True)
        await settle(2)
        async with fleet_of(1, engine) as newcomer:
            assert states([*fleet, *newcomer]) == {ISOLATED}
            newcomer[0].orch.circuit("tool").unisolate()
            await settle()
            assert states([*fleet, *newcomer]) == {CLOSED}


async def test_the_isolation_of_a_tool_that_was_removed_ends():
    async with fleet_of(2) as fleet:
        with fleet[0].orch.circuit("tool").isolate():
            await settle()
            fleet[0].orch.registry.remove("tool")
            fleet[0].service.offer(fleet[0].orch.registry)
        await settle()
        assert states(fleet) == {CLOSED}


async def test_what_nobody_has_heard_is_seen_within_a_second():
    engine = Engine()
    engine.deaf = True
    async with fleet_of(2, engine) as fleet:
        await fleet[0].call(3)
        await settle(1.1)
        assert states(fleet) == {OPEN}


async def test_of_very_many_tools_that_nobody_has_called_all_are_looked_at_in_turn():
    engine = Engine()
    engine.deaf = True
    async with fleet_of(2, engine) as (opener, other):
        names = [f"tool {number}" for number in range(1200)]
        for process in (opener, other):
            for name in names:
                process.service.offer(process.orch.registry, name)
        await settle(2)
        for name in names[::400]:
            opener.orch.circuit(name).trip()
        await settle(4)
        assert {other.orch.circuit(name).state for name in names[::400]} == {OPEN}
        assert other.orch.circuit("tool 1").state is CLOSED


async def test_a_store_that_does_not_answer_at_all_is_given_up_in_time():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await make_open(fleet)
        await settle(8.5)
        engine.hang(1000)
        await settle(6.5)
        before = runs(fleet)
        await rush(fleet)
        assert runs(fleet) == before + 2
        engine.recover()
        await settle(70)
        before = runs(fleet)
        await rush(fleet)
        assert runs(fleet) == before + 1


async def test_a_lease_is_no_longer_than_any_may_be():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await make_open(fleet)
        link = fleet[0].orch.circuit("tool").link
        assert link is not None
        generation = link.known.generation + 100
        poisoned = replace(link.known, state=HALF_OPEN, rest=86_400.0)
        engine.tell("tool", replace(poisoned, generation=generation))
        async with engine.store.session(print) as session:
            known = replace(poisoned, generation=generation)
            await session.change("tool", Isolate(known=known))
        assert states(fleet) == {HALF_OPEN}
        fleet[0].service.behaviour = succeed
        await settle(30.1)
        assert (await fleet[0].call())[0].attempts == 0
        await settle(30.1)
        assert (await fleet[0].call())[0].ok


async def test_one_that_answers_too_late_for_rare_callers_takes_no_tool_away():
    engine = Engine()
    async with fleet_of(3, engine) as fleet:
        await make_open(fleet)
        await settle(10.5)
        engine.delay = 0.06
        for each in fleet:
            each.service.behaviour = succeed
        answers = []
        for _ in range(6):
            await settle(3.5)  # when the last lease has gone back
            began = anyio.current_time()
            answers.append((await fleet[0].call())[0].ok)
            assert anyio.current_time() - began <= 0.051
        # It takes its patience, and then another ask.
        assert answers.index(True) in (2, 3, 4)
        await settle()
        assert states(fleet) == {CLOSED}


async def test_one_that_refuses_at_once_is_waited_for_as_one_that_is_slow():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await make_open(fleet)
        await settle(10.5)
        before = runs(fleet)
        engine.error = ValueError("no room")
        for _ in range(100):
            await rush(fleet)
            await settle(0.02)
        assert runs(fleet) == before
        engine.recover()
        await settle(1)
        await rush(fleet)
        assert runs(fleet) == before + 1


async def test_circuits_that_could_not_be_looked_at_are_looked_at_with_the_next_beat():
    engine = Engine()
    engine.deaf = True
    async with fleet_of(1, engine) as (opener,):
        await make_open([opener])
        process = Process(engine)
        engine.fails = {"read"}
        async with process.orch:
            await process.call(1)
            await settle()
            assert process.state is CLOSED
            engine.fails = set()
            await settle(2)
            assert process.state is OPEN


async def test_one_that_says_closed_and_takes_no_opening_is_given_up():
    engine = Engine()
    async with fleet_of(1, engine) as (process,):
        await settle()
        engine.fails = {"Move", "Isolate"}
        await process.call(3)
        await settle(10.5)
        process.service.behaviour = succeed
        answers = []
        for _ in range(8):
            answers += await process.call()
            await settle(1)
        assert not answers[0].ok
        assert answers[-1].ok


async def test_one_that_answers_and_changes_nothing_is_given_up():
    engine = Engine()
    async with fleet_of(1, engine) as (process,):
        await make_open([process])
        await settle(9)
        engine.fails = {"Claim", "Move", "Isolate", "Run"}
        process.service.behaviour = succeed
        answers = []
        for _ in range(12):
            await settle(1)
            answers += await process.call()
        assert answers[-1].ok
        engine.fails = set()
        await settle(2)
        async with fleet_of(1, engine) as (other,):
            assert other.state is CLOSED
            await process.orch.run("tool")
            process.orch.circuit("tool").trip()
            await settle()
            assert other.state is OPEN


async def test_what_was_known_before_is_not_put_over_what_the_fleet_knows():
    engine = Engine()
    async with fleet_of(1, engine) as (process,):
        await make_open([process])
        snapshot = process.orch.snapshot()
        process.orch.circuit("tool").reset()
        await settle()
        late, restored = Process(engine), Process(engine)
        await late.call(3)
        restored.orch.restore(snapshot)
        await settle(8)
        async with late.orch, restored.orch:
            await settle(2)
            assert states([process, late, restored]) == {CLOSED}


GARBAGE = [
    None,
    "open",
    SharedState(state="open"),  # type: ignore[arg-type]
    SharedState(state=ISOLATED),
    SharedState(generation=math.inf, state=OPEN),  # type: ignore[arg-type]
    SharedState(generation=-1),
    SharedState(generation=2**60, state=OPEN),
    SharedState(generation=2**40, state=OPEN, rest=math.nan),
    SharedState(generation=2**40, state=OPEN, length=math.inf),
    SharedState(generation=2**40, state=OPEN, rest=None),  # type: ignore[arg-type]
    SharedState(generation=2**40, failures="abc"),  # type: ignore[arg-type]
    SharedState(generation=2**40, failures=True),
    SharedState(generation=2**40, reopenings=-1),
    SharedState(generation=2**40, isolations="x"),  # type: ignore[arg-type]
    SharedState(generation=2**40, paused=1),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=repr)
@pytest.mark.parametrize("where", ["heard", "read", "change"])
async def test_a_state_that_cannot_be_is_none(garbage: Any, where: str):
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await fleet[0].call(1)
        if where == "heard":
            engine.tell("tool", garbage)
            engine.tell(garbage, garbage)
        else:
            engine.says[where] = garbage
        await settle(3)
        await fleet[0].call(3)
        assert fleet[0].state is OPEN
        engine.says.clear()
        await settle(10.5)
        for each in fleet:
            each.service.behaviour = succeed
        assert (await fleet[1].call())[0].ok
        await settle(3)
        await fleet[0].call()
        await settle()
        assert states(fleet) == {CLOSED}


async def test_a_store_that_keeps_nothing_holds_nothing_up():
    class Null:
        async def read(self, circuits):
            return [None for _ in circuits]

        async def change(self, circuit, change):
            return Answer(done=False, state=SharedState())

        async def beat(self, process, figures):
            return 1

        async def ask(self, word):
            pass

        async def figures(self):
            return {}

        async def is_down(self):
            return False

        async def leave(self, process):
            pass

    class NullStore:
        @asynccontextmanager
        async def session(self, heard, asked=None):
            yield Null()

    async with fleet_of(1, NullStore()) as (process,):
        await process.call(3)
        await settle(10.5)
        process.service.behaviour = succeed
        answers = []
        for _ in range(10):
            answers += await process.call()
            await settle(1)
        assert answers[-1].ok


class Panic(BaseException):
    """As that of a library in another language."""


@pytest.mark.parametrize("error", [Panic("oh"), "cancelled"], ids=str)
async def test_what_a_store_raises_is_its_own_affair(error):
    if error == "cancelled":
        if sniffio.current_async_library() == "trio":
            return  # nobody can raise that there
        error = asyncio.CancelledError()
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await make_open(fleet)
        engine.error = error
        await settle(10.5)
        results = await rush(fleet)
        assert all(isinstance(each.error, CircuitOpenError | Exception) for each in results)
        await settle(10.5)
        before = runs(fleet)
        await rush(fleet)
        assert runs(fleet) == before + 2
        engine.recover()
        await settle(2)
        await settle(10.5)
        before = runs(fleet)
        await rush(fleet)
        assert runs(fleet) == before + 1


async def test_a_flood_of_changes_is_followed_to_an_end(caplog):
    engine = Engine()
    async with fleet_of(1, engine) as (process,):
        await process.call(1)
        await settle(1)
        caplog.clear()
        for number in range(30_000):
            state = CLOSED if number % 2 else OPEN
            told = SharedState(generation=10**6 + number, state=state, rest=1, length=1)
            engine.tell("tool", told)
        assert len(caplog.records) < 5_000


async def test_a_session_that_breaks_off_is_begun_again():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await make_open(fleet)
        engine.break_sessions()
        await settle(3)
        assert engine.asked["session"] > 4
        await settle(8)
        assert engine.asked["session"] < 50  # less and less often
        before = runs(fleet)
        await rush(fleet)
        assert runs(fleet) == before + 2
        engine.mend_sessions()
        await settle(2)
        for _ in range(2):
            await settle(10.5)
            before = runs(fleet)
            await rush(fleet)
            assert runs(fleet) == before + 1


async def test_a_store_that_is_not_there_at_first(caplog):
    engine = Engine()
    engine.die()
    began = anyio.current_time()
    async with fleet_of(2, engine) as fleet:
        assert anyio.current_time() - began < 1
        await fleet[0].call(3)
        assert states(fleet) == {OPEN, CLOSED}
        engine.recover()
        await settle(3)
        assert states(fleet) == {OPEN}
    said = [each for each in caplog.records if "on its own" in each.getMessage()]
    assert len(said) == 2  # one a process
    assert all(each.levelno == logging.WARNING for each in said)


async def test_a_store_that_refuses_everything():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await make_open(fleet)
        engine.error = RuntimeError("no room")
        await settle(10.5)
        results = await rush(fleet)
        assert not any(isinstance(each.error, RuntimeError) for each in results)
        await settle(10.5)
        before = runs(fleet)
        await rush(fleet)
        assert runs(fleet) == before + 2
        engine.recover()
        await settle(2)
        await settle(10.5)
        before = runs(fleet)
        await rush(fleet)
        assert runs(fleet) == before + 1


async def test_a_store_that_takes_no_changes_is_given_up():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await settle()
        engine.reads_only = True
        await fleet[0].call(3)
        await settle(10.5)
        assert states(fleet) == {OPEN, CLOSED}
        fleet[0].service.behaviour = succeed
        for _ in range(6):  # each finds it closed there, where nobody was told
            await fleet[0].call()
        assert fleet[0].state is CLOSED
        engine.reads_only = False
        await settle(2)
        assert states(fleet) == {CLOSED}


async def test_what_a_store_does_late_takes_no_tool_away():
    engine = Engine()
    wire = Wire(engine)
    async with fleet_of(2, engine) as fleet, fleet_of(1, wire) as (dying,):
        await make_open([*fleet, dying])
        await settle(10.5)
        engine.deaf = engine.loses = True
        await dying.call()  # it has a lease, and will never know
        wire.is_cut = True
        engine.die()
        await settle(1)
        fleet[0].service.behaviour = succeed
        (result,) = await fleet[0].call()
        assert result.ok
        engine.deaf = engine.loses = False
        engine.recover()
        for _ in range(5):
            await settle(1)
            (result,) = await fleet[0].call()
            assert result.ok
        assert states(fleet) == {CLOSED, HALF_OPEN}
        fleet[1].service.behaviour = succeed
        await settle(10)
        (result,) = await fleet[1].call()
        assert result.ok
        await settle()
        assert states(fleet) == {CLOSED}


async def test_random_faults_of_the_store_reach_nobody():
    chance = random.Random(8)
    engine = Engine()
    async with fleet_of(3, engine, tool_timeout=1.0) as fleet:
        for _ in range(300):
            what = chance.randrange(8)
            if what == 0:
                engine.die()
            elif what == 1:
                engine.hang(chance.random() * 3)
            elif what == 2:
                engine.error = ValueError("nonsense")
            elif what == 3:
                engine.recover(empty=True)
            elif what == 4:
                engine.recover()
            engine.deaf = chance.random() < 0.3
            for each in fleet:
                each.service.behaviour = chance.choice([succeed, fail])
            began = anyio.current_time()
            await rush(fleet, 2)
            assert anyio.current_time() - began <= 0.06
            await settle(chance.random() * 8)
        engine.recover()
        engine.deaf = False
        for each in fleet:
            each.service.behaviour = succeed
        await settle(15)
        for each in fleet:
            await each.call()
            await settle()
        assert states(fleet) == {CLOSED}


# Figures


async def test_figures_of_all_processes():
    async with fleet_of(3) as fleet:
        fleet[0].service.behaviour = succeed
        await fleet[0].call(4)
        await fleet[1].call(2)
        figures = await fleet[2].orch.get_fleet_stats_all()
        assert figures["tool"]["calls"] == 6
        assert figures["tool"]["successes"] == 4
        assert figures["tool"]["total_failures"] == 2
        assert figures["tool"]["processes"] == 2
        assert figures["tool"]["state"] == "closed"
    alone = await fleet[0].orch.get_fleet_stats_all()
    assert alone["tool"]["calls"] == 4


async def test_figures_are_told_to_who_asks_and_to_nobody_else():
    engine = Engine()
    async with fleet_of(3, engine) as fleet:
        fleet[0].service.behaviour = succeed
        await settle(3)
        for number in range(1, 4):
            before = engine.asked["beat"]
            await fleet[0].call()
            answers: list[Any] = []

            async def ask(process: Process, told: list[Any] = answers) -> None:
                told.append(await process.orch.get_fleet_stats_all())

            async with anyio.create_task_group() as tasks:
                for each in fleet:
                    tasks.start_soon(ask, each)
            assert [each["tool"]["calls"] for each in answers] == [number] * 3
            assert engine.asked["beat"] - before <= 12
        await settle(3)
        assert engine.asked["ask"] == 9


async def test_who_does_not_answer_is_left_out_of_the_wait():
    engine = Engine()
    wire = Wire(engine)
    async with fleet_of(1, engine) as (process,), fleet_of(1, wire) as (other,):
        await other.call(2)
        await process.call(1)
        await settle(2)
        assert (await process.orch.get_fleet_stats_all())["tool"]["calls"] == 3
        wire.is_cut = True
        await other.call(1)
        began = anyio.current_time()
        figures = await process.orch.get_fleet_stats_all()
        assert figures["tool"]["calls"] == 3  # as it has said last
        assert anyio.current_time() - began <= 0.26


async def test_figures_of_tools_that_only_others_have():
    engine = Engine()
    async with fleet_of(1, engine) as fleet:
        await fleet[0].call(2)
        async with ToolOrchestrator(Registry(), store=engine) as orch:
            figures = await orch.get_fleet_stats_all()
            assert figures["tool"]["calls"] == 2
            assert figures["tool"]["state"] is None


async def test_figures_that_are_none_are_left_out():
    engine = Engine()
    good = json.dumps([*range(13), 1.5])
    async with fleet_of(1, engine) as fleet, engine.store.session(print) as session:
        for bad in (
            "",
            "[]",
            "{}",
            "nonsense",
            "[" * 100_000,
            json.dumps([*range(12), 1.5]),
            json.dumps([-1, *range(12), 1.5]),
            json.dumps([True, *range(12), 1.5]),
            json.dumps([1.5, *range(12), 1.5]),
            json.dumps([2**53, *range(12), 1.5]),
            json.dumps([*range(13), float("nan")]),
            json.dumps([*range(13), "1"]),
            json.dumps([*range(13), -1]),
        ):
            await session.beat(
                "stranger", {"tool": bad, "other\x1b": good, "n" * 129: good}
            )
            figures = await fleet[0].orch.get_fleet_stats_all()
            assert figures == {}, bad
        await session.beat("stranger", {"tool": good})
        figures = await fleet[0].orch.get_fleet_stats_all()
        assert figures["tool"]["retries"] == 12


async def test_figures_of_tools_that_are_gone_go():
    async with fleet_of(2) as fleet:
        await fleet[0].call()
        assert "tool" in await fleet[1].orch.get_fleet_stats_all()
        fleet[0].orch.registry.remove("tool")
        assert await fleet[1].orch.get_fleet_stats_all() == {}


async def test_many_who_ask_for_figures_do_not_wait_for_each_other():
    engine = Engine()
    async with fleet_of(3, engine) as fleet:
        await fleet[0].call()
        await settle()
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for each in fleet:
                for _ in range(4):
                    tasks.start_soon(each.orch.get_fleet_stats_all)
        assert anyio.current_time() - began <= 0.05
        assert engine.asked["figures"] <= 40


async def test_questions_that_are_none_are_not_answered():
    engine = Engine()
    async with fleet_of(1, engine) as (process,):
        await process.call()
        before = engine.asked["beat"]
        engine.ask("x" * 101)
        engine.ask(None)  # type: ignore[arg-type]
        await settle(0.1)
        assert engine.asked["beat"] == before
        engine.ask("x" * 100)
        await settle(0.1)
        assert engine.asked["beat"] == before + 1


async def test_figures_that_could_not_be_told_are_told_again():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await fleet[0].call(2)
        engine.fails = {"beat", "figures", "leave"}
        assert (await fleet[1].orch.get_fleet_stats_all()) == {}
        engine.fails = set()
        figures = await fleet[1].orch.get_fleet_stats_all()
        assert figures["tool"]["calls"] == 2
        engine.fails = {"leave"}


async def test_figures_where_the_store_fails():
    engine = Engine()
    async with fleet_of(2, engine) as fleet:
        await fleet[0].call(1)
        engine.hang(100)
        began = anyio.current_time()
        figures = await fleet[0].orch.get_fleet_stats_all()
        assert figures["tool"]["calls"] == 1
        assert anyio.current_time() - began <= 0.26
        engine.recover()


async def test_figures_without_a_store():
    registry = Registry()
    orch = ToolOrchestrator(registry)

    @registry.tool
    async def tool() -> str:
        return "fine"

    await orch.dispatch("tool")
    figures = await orch.get_fleet_stats_all()
    assert figures["tool"]["successes"] == 1
    assert figures["tool"]["processes"] == 1


# Entering and leaving


async def test_without_a_store_entering_does_nothing():
    async with ToolOrchestrator(Registry()) as orch:
        with pytest.raises(RuntimeError, match="entered already"):
            await orch.__aenter__()
    async with orch:
        pass


async def test_one_that_was_not_entered_is_on_its_own_and_says_so(caplog):
    engine = Engine()
    process = Process(engine)
    await process.call(3)
    assert process.state is OPEN
    await settle(10.5)
    for _ in range(2):
        (result,) = await process.call()
        assert result.attempts == 1
        await settle(10.5)
    said = [each for each in caplog.records if "async with" in each.getMessage()]
    assert len(said) == 1
    assert not engine.asked


async def test_it_can_be_entered_again():
    engine = Engine()
    process = Process(engine)
    other = Process(engine)
    async with other.orch:
        for _ in range(2):
            async with process.orch:
                await process.call(3)
                await settle()
                assert other.state is OPEN
                other.orch.circuit("tool").reset()
                await settle()
                assert process.state is CLOSED


async def test_what_happens_before_it_is_entered_is_told_then():
    engine = Engine()
    process = Process(engine)
    process.orch.circuit("tool").isolate()
    async with fleet_of(1, engine) as fleet, process.orch:
        await settle()
        assert fleet[0].state is ISOLATED


async def test_who_enters_need_not_be_who_leaves():
    engine = Engine()
    one, two = Process(engine), Process(engine)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.orch.__aenter__)
        tasks.start_soon(two.orch.__aenter__)
    await one.call(3)
    await settle()
    assert two.state is OPEN
    await one.orch.__aexit__(None, None, None)  # in the order of entering
    two.orch.circuit("tool").reset()
    await settle()
    assert two.state is CLOSED
    assert one.state is OPEN
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(two.orch.__aexit__, None, None, None)
    assert not engine.hearers


async def test_entering_that_is_cancelled_leaves_nothing(caplog):
    for delay in (0.0, 0.005, 0.02):
        for after in (0.0, 0.001, 0.005, 0.01, 0.02, 0.03, 0.05):
            engine = Engine()
            engine.delay = delay
            process = Process(engine)
            with anyio.move_on_after(after):
                async with process.orch:
                    await process.call(1)
                    await anyio.sleep_forever()
            await settle()
            assert not engine.hearers
            async with process.orch:
                await settle()
    assert not [each for each in caplog.records if "AssertionError" in each.getMessage()]


async def test_one_whose_loop_has_ended_can_be_entered_again():
    engine = Engine()
    process = Process(engine)

    def end_early() -> None:
        async def main() -> None:
            await process.orch.__aenter__()

        anyio.run(main)

    await anyio.to_thread.run_sync(end_early)
    async with process.orch:
        pass


async def test_leaving_while_the_store_is_down_and_something_has_just_happened():
    engine = Engine()
    async with fleet_of(1, engine) as (process,):
        engine.die()
        await settle(2)
        await process.call(1)
    async with fleet_of(1, engine) as (process,):
        await process.call(3)


async def test_a_store_that_takes_long_to_end_is_not_waited_for():
    class Slow(Engine):
        @asynccontextmanager
        async def session(self, heard, asked=None):
            async with super().session(heard, asked) as session:
                try:
                    yield session
                finally:
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(60)

    async with fleet_of(1, Slow()):
        began = anyio.current_time()
    assert anyio.current_time() - began <= 2.1


async def test_what_is_left_of_a_session_does_not_end_the_next_one():
    class SlowOnce(Engine):
        slow = True

        @asynccontextmanager
        async def session(self, heard, asked=None):
            async with super().session(heard, asked) as session:
                try:
                    yield session
                finally:
                    if self.slow:
                        self.slow = False
                        with anyio.CancelScope(shield=True):
                            await anyio.sleep(5)

    engine = SlowOnce()
    process = Process(engine)
    async with process.orch:
        await settle()
    async with process.orch, fleet_of(1, engine) as (other,):
        await settle(10)
        await other.call(3)
        await settle()
        assert process.state is OPEN


async def test_an_error_in_the_block_comes_out_as_it_was():
    with pytest.raises(LookupError, match="mine"):
        async with fleet_of(1):
            raise LookupError("mine")


async def test_leaving_does_not_wait_for_a_store_that_hangs():
    engine = Engine()
    async with fleet_of(1, engine) as fleet:
        await fleet[0].call(2)
        engine.hang(1000)
        began = anyio.current_time()
    assert anyio.current_time() - began <= 1.1


@pytest.mark.parametrize("wrong", [object(), "redis://u:secret@host", 3, MemoryStore])
async def test_what_is_no_store_is_refused(wrong):
    with pytest.raises(TypeError, match="store: expected a Store") as raised:
        ToolOrchestrator(Registry(), store=wrong)
    assert "secret" not in str(raised.value)


async def test_what_is_no_policy_is_refused():
    with pytest.raises(TypeError, match="fleet="):
        ToolOrchestrator(Registry(), store=MemoryStore(), fleet=3)  # type: ignore[arg-type]
    for field in ("probe_wait", "engine_patience", "lease", "quorum"):
        with pytest.raises(ValueError, match=field):
            FleetPolicy(**{field: -1})
