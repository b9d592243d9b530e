"""
What must hold of a fleet whatever comes in between: chance decides how long the engine takes,
what of it gets lost, when callers come and give up, and what the tool does.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from orchestrator_async import CircuitState
from orchestrator_async.stores import SharedState

from .clock import virtual_time
from .fleets import Engine, Process, fleet_of
from .support import fail, succeed

pytestmark = virtual_time

DEBUG = False
TIMEOUT = 2.0
RESET = 3.0


class Erratic(Engine):
    """
    An engine that answers when chance will have it, and whose news come late, or never.
    """

    def __init__(self, chance: random.Random, *, loses: float, slow: float) -> None:
        super().__init__()
        self.chance = chance
        self.lost = loses
        self.slow = slow
        self.tasks: Any = None

    async def pass_by(self, what: str) -> None:
        await super().pass_by(what)
        await anyio.sleep(self.chance.random() * self.slow)

    async def passed(self, what: str) -> None:
        await anyio.sleep(self.chance.random() * self.slow)
        if what not in ("session", "beat", "read") and self.chance.random() < self.lost:
            raise TimeoutError("the answer was lost")

    def tell(self, id: str, state: SharedState) -> None:
        for heard in list(self.hearers):
            if self.chance.random() >= self.lost:
                self.tasks.start_soon(self.tell_later, heard, id, state)

    async def tell_later(
        self, heard: Callable[..., object], id: str, state: SharedState
    ) -> None:
        await anyio.sleep(self.chance.random() * self.slow)
        if heard in self.hearers:
            heard(id, state)


class Witness:
    """
    The tool of all processes: it knows who runs it, and why.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.is_well = False
        self.probing = 0
        self.probes = 0
        self.overlaps: list[float] = []

    def offer(self, process: Process) -> None:
        async def behave() -> str:
            is_probe = process.state is CircuitState.HALF_OPEN
            if is_probe:
                self.probes += 1
                self.probing += 1
                if self.probing > 1:
                    self.overlaps.append(anyio.current_time())
            try:
                await anyio.sleep(self.chance.choice([0.0, 0.01, 0.3, 1.5, 3.0]))
                return await (succeed() if self.is_well else fail())
            finally:
                self.probing -= is_probe

        process.service.behaviour = behave


async def keep_calling(process: Process, chance: random.Random, until: float) -> None:
    while anyio.current_time() < until:
        with anyio.move_on_after(chance.choice([0.0, 0.02, 0.06, 0.5, 10.0])):
            result = await process.orch.run("tool")
            assert not isinstance(result.error, TimeoutError) or result.attempts
        await anyio.sleep(chance.choice([0.001, 0.05, 0.3, 1.0]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("loses", "slow"), [(0.0, 0.0), (0.0, 0.03), (0.15, 0.1)])
async def test_there_is_one_probe_and_the_fleet_comes_to_rest(
    seed: int, loses: float, slow: float, without_log: None
) -> None:
    chance = random.Random(seed)
    engine, witness = Erratic(chance, loses=loses, slow=slow), Witness(chance)
    async with anyio.create_task_group() as beneath:
        engine.tasks = beneath
        options = {"tool_timeout": TIMEOUT, "reset_timeout": RESET}
        async with fleet_of(4, engine, **options) as fleet:
            for each in fleet:
                witness.offer(each)
            until = anyio.current_time() + 60
            async with anyio.create_task_group() as callers:
                for each in fleet:
                    for _ in range(3):
                        callers.start_soon(keep_calling, each, chance, until)
                callers.start_soon(turn, witness, chance, until)
            assert witness.probes > 5
            assert not witness.overlaps
            # What it comes to: a well tool is given back to all.
            engine.lost, witness.is_well = 0.0, True
            for each in fleet:
                each.service.behaviour = succeed
            until = anyio.current_time() + 15
            async with anyio.create_task_group() as callers:
                for each in fleet:
                    callers.start_soon(call_on, each, until)
            assert {each.state for each in fleet} == {CircuitState.CLOSED}
        beneath.cancel_scope.cancel()


async def turn(witness: Witness, chance: random.Random, until: float) -> None:
    while anyio.current_time() < until:
        witness.is_well = chance.random() < 0.3
        await anyio.sleep(chance.random() * 10)


async def call_on(process: Process, until: float) -> None:
    while anyio.current_time() < until:
        await process.orch.run("tool")
        await anyio.sleep(0.2)


@pytest.mark.parametrize("seed", range(4))
async def test_there_is_one_probe_though_the_engine_loses_its_data(
    seed: int, without_log: None
) -> None:
    chance = random.Random(seed)
    engine, witness = Engine(), Witness(chance)
    options = {"tool_timeout": TIMEOUT, "reset_timeout": RESET}
    async with fleet_of(4, engine, **options) as fleet:
        for each in fleet:
            witness.offer(each)
        until = anyio.current_time() + 60

        async def lose() -> None:
            while anyio.current_time() < until:
                await anyio.sleep(chance.random() * 5)
                engine.recover(empty=True)

        async with anyio.create_task_group() as callers:
            for each in fleet:
                for _ in range(3):
                    callers.start_soon(keep_calling, each, chance, until)
            callers.start_soon(turn, witness, chance, until)
            callers.start_soon(lose)
        assert witness.probes > 5
        assert not witness.overlaps
