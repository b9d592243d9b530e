"""
Other settings for circuits in use: what is kept, what changes, and who has the last word.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from orchestrator_async import (
    BreakerPolicy,
    OrchestratorError,
    Outcome,
    Registry,
    ToolOrchestrator,
    ToolPolicy,
)

from .clock import virtual_time
from .support import HandClock, Service, assert_adds_up, bench, fail, trip

RESET = 300.0


def threshold(orch: ToolOrchestrator, name: str = "tool") -> int:
    return orch.circuit(name).breaker.settings.failure_threshold


async def test_state_failures_and_figures_are_kept() -> None:
    orch, service = bench(HandClock())
    await orch.dispatch("tool")
    service.behaviour = fail
    await orch.dispatch("tool")
    before, circuit = orch.get_fleet_stats(), orch.circuit("tool")
    for policy in (BreakerPolicy(failure_threshold=5), None):
        circuit.reload(policy)
        orch.reload(failure_threshold=4)
        assert orch.circuit("tool") is circuit
        assert orch.get_fleet_stats() == before
    for _ in range(3):
        assert circuit.state == "closed"
        await orch.dispatch("tool")
    assert circuit.state == "open"
    assert orch.stats("tool").total_failures == 4
    assert_adds_up(orch)


async def test_a_window_keeps_the_newest_of_its_calls() -> None:
    policy = BreakerPolicy(failure_threshold=100, failure_rate=0.5, window_calls=10)
    orch, service = bench(HandClock())
    orch.reload(policy=policy)
    service.behaviour = fail
    for _ in range(4):
        await orch.dispatch("tool")
    orch.circuit("tool").reload(BreakerPolicy(window_calls=5))
    await orch.dispatch("tool")
    assert orch.circuit("tool").state == "open"


@pytest.mark.parametrize("asked", [False, True])
async def test_an_open_circuit_is_open_no_longer_than_the_new_settings_say(
    asked: bool,
) -> None:
    clock = HandClock()
    orch, service = bench(clock)
    await trip(orch, service)
    clock.turn(100)
    if asked:  # the breaker knows of the time by those who ask alone
        await orch.dispatch("tool")
    orch.reload(reset_timeout=200)
    assert (await orch.run("tool")).retry_after == 100
    orch.reload(reset_timeout=1000)
    assert (await orch.run("tool")).retry_after == 100
    orch.reload(reset_timeout=110)
    assert (await orch.run("tool")).retry_after == 10
    clock.turn(10)
    assert await orch.dispatch("tool") == "fine"


async def test_a_pause_is_no_longer_than_the_new_settings_say() -> None:
    clock = HandClock()
    orch, service = bench(clock)

    async def busy() -> dict[str, Any]:
        return {"error": "busy", "retry_after": 200}

    service.behaviour = busy
    await orch.dispatch("tool")
    orch.reload(policy=BreakerPolicy(max_pause=20))
    assert (await orch.run("tool")).retry_after == 20


@virtual_time
async def test_a_running_call_ends_by_the_settings_it_began_with() -> None:
    orch, service = bench(anyio.current_time)
    orch.reload(timeout=20)

    async def hang() -> None:
        await anyio.sleep(1000)

    service.behaviour = hang
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await anyio.sleep(1)
        orch.reload(timeout=5, failure_threshold=1)
    assert anyio.current_time() == 20
    assert orch.stats("tool").timeouts == 1
    assert orch.circuit("tool").state == "open"  # the circuit's are those of now
    orch.circuit("tool").reset()
    await orch.dispatch("tool")
    assert anyio.current_time() == 25
    assert_adds_up(orch)


async def test_what_is_not_given_is_the_default_again() -> None:
    orch, _ = bench(HandClock())
    orch.reload(failure_threshold=7, circuits={"tool": BreakerPolicy(reset_timeout=7)})
    assert threshold(orch) == 7
    orch.reload()
    settings = orch.circuit("tool").breaker.settings
    assert (settings.failure_threshold, settings.reset_timeout) == (3, 7)
    orch.reload(circuits={})
    assert orch.circuit("tool").breaker.settings.reset_timeout == RESET


def test_the_last_word_is_the_circuits_then_the_tools_then_the_orchestrators() -> None:
    orch, service = bench(HandClock())
    orch.reload(
        failure_threshold=10, circuits={"tool": BreakerPolicy(failure_threshold=20)}
    )
    assert threshold(orch) == 20
    policy = BreakerPolicy(failure_threshold=30)
    service.offer(orch.registry, replace=True, policy=policy)
    assert threshold(orch) == 30
    orch.circuit("tool").reload(BreakerPolicy(failure_threshold=40))
    assert threshold(orch) == 40
    service.offer(orch.registry, replace=True, policy=policy)
    orch.reload(failure_threshold=50)
    assert threshold(orch) == 40
    orch.circuit("tool").reload(BreakerPolicy(reset_timeout=5))
    assert threshold(orch) == 30
    orch.circuit("tool").reload(None)
    assert orch.circuit("tool").breaker.settings.reset_timeout == RESET
    service.offer(orch.registry, replace=True)
    assert threshold(orch) == 20
    orch.reload(failure_threshold=50, circuits={})
    assert threshold(orch) == 50


def test_what_a_circuit_was_told_goes_with_its_last_tool() -> None:
    registry, service = Registry(), Service()
    for name in ("one", "two"):
        service.offer(registry, name, circuit="db")
    orch = ToolOrchestrator(registry, clock=HandClock())
    circuit = orch.circuit("db")
    circuit.reload(BreakerPolicy(failure_threshold=9))
    registry.remove("one")
    assert threshold(orch, "db") == 9
    registry.remove("two")
    with pytest.raises(OrchestratorError, match="no call any more"):
        circuit.reload(BreakerPolicy(failure_threshold=8))
    service.offer(registry, "one", circuit="db")
    assert threshold(orch, "db") == 3


async def test_a_circuit_that_is_shared_has_one_set_of_settings() -> None:
    registry, service = Registry(), Service()
    for name in ("one", "two"):
        service.offer(registry, name, circuit="db")
    orch = ToolOrchestrator(registry, clock=HandClock())
    orch.circuit("db").reload(BreakerPolicy(failure_threshold=2))
    service.behaviour = fail
    for name in ("one", "two"):
        await orch.dispatch(name)
    assert orch.stats("one").state == orch.stats("two").state == "open"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"failure_threshold": 0}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"reset_timeout": "5"}, ValueError),
        ({"policy": 3}, ValueError),
        ({"reset_timeout": 5, "policy": BreakerPolicy(reset_timeout=6)}, ValueError),
        ({"timeout": 5, "policy": ToolPolicy(timeout=6)}, ValueError),
        ({"circuits": []}, TypeError),
        ({"failure_threshold": 9, "circuits": {"tool": 3}}, ValueError),
    ],
    ids=str,
)
def test_settings_that_cannot_be_change_nothing(given: Any, error: Any) -> None:
    orch, _ = bench(HandClock())
    orch.reload(failure_threshold=7)
    before = orch.circuit("tool").breaker.settings
    with pytest.raises(error):
        orch.reload(**given)
    with pytest.raises(TypeError, match="expected a BreakerPolicy"):
        orch.circuit("tool").reload(ToolPolicy())  # type: ignore[arg-type]
    assert orch.circuit("tool").breaker.settings == before


async def test_options_are_given_by_name() -> None:
    orch, _ = bench(HandClock())
    anything: Any = orch
    with pytest.raises(TypeError, match="positional"):
        anything.reload(None, 3)
    with pytest.raises(TypeError, match="positional"):
        await anything.drain(3)
    with pytest.raises(TypeError, match="positional"):
        anything.offered_tools("openai", True)
    with pytest.raises(TypeError, match="positional"):
        await anything.wait_available("tool", {}, 3)
    with pytest.raises(TypeError, match="positional"):
        anything.conversation(["tool"])
    with pytest.raises(TypeError, match="positional"):
        anything.circuit("tool", "key", 3)
    kind: Any = ToolOrchestrator
    with pytest.raises(TypeError, match="positional"):
        kind(Registry(), 3)
    assert kind(registry=Registry()).get_fleet_stats() == {}


@pytest.mark.parametrize("whole", [True, False])
async def test_what_raises_after_a_reload_is_logged_anew(
    whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    orch, service = bench(HandClock())

    def no_chance() -> float:
        raise RuntimeError("no chance")

    for _ in range(2):
        policy = BreakerPolicy(jitter=0.5, jitter_source=no_chance)
        if whole:
            orch.reload(policy=policy)
        else:
            orch.circuit("tool").reload(policy)
        for _ in range(2):
            await trip(orch, service)
            orch.circuit("tool").reset()
    assert sum("no chance" in each.message for each in caplog.records) == 2


async def test_a_judge_that_raises_after_a_reload_is_logged_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    orch, _ = bench(HandClock())

    def no_opinion(outcome: Outcome) -> None:
        raise RuntimeError("no opinion")

    for _ in range(2):
        orch.reload(policy=ToolPolicy(judge=no_opinion, timeout=5 + len(caplog.records)))
        await orch.dispatch("tool")
        await orch.dispatch("tool")
    assert sum("no opinion" in each.message for each in caplog.records) == 2
