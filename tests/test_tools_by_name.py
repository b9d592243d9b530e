"""
``tools=``: settings for tools by name or by pattern, before those of the tools themselves.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from orchestrator_async import (
    BreakerPolicy,
    LimitPolicy,
    Registry,
    RetryPolicy,
    ToolOrchestrator,
    ToolPolicy,
    exceptions_only,
)

from .clock import virtual_time
from .support import HandClock, Service, assert_adds_up, fail, succeed


def orchestrator(
    tools: Any, *names: str, circuit: str | None = None, **options: Any
) -> tuple[ToolOrchestrator, Service]:
    registry, service = Registry(), Service()
    for name in names or ("tool",):
        service.offer(registry, name, circuit=circuit)
    return ToolOrchestrator(registry, clock=HandClock(), tools=tools, **options), service


def settings(orch: ToolOrchestrator, name: str = "tool") -> Any:
    return orch._fleet.settings(orch.registry[name])


def circuit_settings(orch: ToolOrchestrator, name: str = "tool") -> Any:
    return orch.circuit(name).breaker.settings


def threshold(orch: ToolOrchestrator, name: str = "tool") -> int:
    return int(circuit_settings(orch, name).failure_threshold)


# What matches, and what goes before what


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("github_*", True),
        ("github_issue", True),
        ("*", True),
        ("github_iss?e", True),
        ("github_[hij]ssue", True),
        ("GitHub_*", False),
        ("github_", False),
        ("hub_issue", False),
        ("github_iss??e", False),
    ],
)
def test_a_pattern_is_one_of_names_and_capitals_count(pattern: str, matches: bool) -> None:
    orch, _ = orchestrator({pattern: ToolPolicy(timeout=5)}, "github_issue")
    assert settings(orch, "github_issue").timeout == (5 if matches else None)


def test_all_that_match_apply_the_later_over_the_earlier_field_by_field() -> None:
    tools = {
        "t*": ToolPolicy(timeout=1, max_threads=1, breaker=BreakerPolicy(max_keys=1)),
        "to*": ToolPolicy(timeout=2, max_args_size=2),
        "other": ToolPolicy(timeout=3),
        "*": BreakerPolicy(max_keys=4, jitter=0.4),
    }
    orch, _ = orchestrator(tools)
    told = settings(orch)
    assert (told.timeout, told.max_threads, told.max_args_size) == (2, 1, 2)
    told = circuit_settings(orch)
    assert (told.max_keys, told.jitter) == (4, 0.4)
    orch, _ = orchestrator(dict(reversed(tools.items())))
    assert settings(orch).timeout == 1
    assert circuit_settings(orch).max_keys == 1


def test_they_go_before_the_tools_own_and_the_circuits_own_reload_before_them() -> None:
    policy = ToolPolicy(timeout=9, max_threads=9, breaker=BreakerPolicy(max_keys=9))
    orch, service = orchestrator(
        {"tool": ToolPolicy(timeout=1, breaker=BreakerPolicy(failure_threshold=1))},
        circuits={"tool": BreakerPolicy(failure_threshold=5, jitter=0.5)},
        timeout=7,
        failure_threshold=7,
    )
    service.offer(orch.registry, replace=True, policy=policy)
    assert (settings(orch).timeout, settings(orch).max_threads) == (1, 9)
    told = circuit_settings(orch)
    assert (told.failure_threshold, told.max_keys, told.jitter) == (1, 9, 0.5)
    orch.circuit("tool").reload(BreakerPolicy(failure_threshold=3))
    assert threshold(orch) == 3


def test_what_is_off_by_name_is_off() -> None:
    retry, limits = RetryPolicy(), LimitPolicy(calls=3)
    orch, service = orchestrator({"tool": ToolPolicy(timeout=None, retry=None)})
    policy = ToolPolicy(timeout=9, retry=retry, limits=limits)
    service.offer(orch.registry, replace=True, policy=policy)
    told = settings(orch)
    assert (told.timeout, told.retry, told.limits) == (None, None, limits)


def test_a_judge_by_name_goes_before_a_judge_in_short_of_the_tool() -> None:
    orch, service = orchestrator({"tool": ToolPolicy(judge=exceptions_only)})
    service.offer(orch.registry, replace=True, is_failure=bool)
    told = settings(orch)
    assert (told.judge, told.is_failure) == (exceptions_only, None)


def test_times_of_two_patterns_that_do_not_fit_are_brought_together() -> None:
    tools = {
        "t*": BreakerPolicy(reset_timeout=100),
        "tool": BreakerPolicy(max_reset_timeout=50),
    }
    orch, _ = orchestrator(tools)
    assert circuit_settings(orch).reset_timeout == 50


@virtual_time
async def test_a_call_has_the_timeout_that_was_set_by_name() -> None:
    registry = Registry()

    @registry.tool(timeout=100)
    async def slow() -> None:
        await anyio.sleep(1000)

    orch = ToolOrchestrator(registry, tools={"s*": ToolPolicy(timeout=5)})
    await orch.dispatch("slow")
    assert anyio.current_time() == 5
    assert orch.stats("slow").timeouts == 1


async def test_a_tool_that_comes_later_has_the_settings_of_its_name() -> None:
    orch, service = orchestrator({"late": BreakerPolicy(failure_threshold=1)})
    service.offer(orch.registry, "late")
    service.behaviour = fail
    for name in ("tool", "late"):
        await orch.dispatch(name)
    assert orch.circuit("tool").state == "closed"
    assert orch.circuit("late").state == "open"


async def test_another_answers_where_a_fallback_is_set_by_name() -> None:
    orch, service = orchestrator({"one": ToolPolicy(fallback="two")}, "one")
    other = Service()
    other.offer(orch.registry, "two")
    service.behaviour = fail
    assert await orch.dispatch("one") == "fine"
    assert other.runs == 1


# Circuits that tools share


DISAGREE = {
    "one": BreakerPolicy(failure_threshold=1),
    "two": BreakerPolicy(failure_threshold=2, max_keys=2),
}
BOTH = r"one and two share the circuit db.*disagree on its failure_threshold: 1 and 2"


def test_tools_of_one_circuit_that_are_told_different_things_are_refused() -> None:
    with pytest.raises(ValueError, match=BOTH):
        orchestrator(DISAGREE, "one", "two", circuit="db")
    with pytest.raises(ValueError, match=r"two and one share .*: 2 and 1"):
        orchestrator(DISAGREE, "two", "one", circuit="db")
    orch, _ = orchestrator(DISAGREE, "one", "two")
    assert (threshold(orch, "one"), threshold(orch, "two")) == (1, 2)


def test_what_is_told_of_a_circuit_by_one_of_its_tools_or_by_all_alike_is_taken() -> None:
    tools = {
        "two": BreakerPolicy(max_keys=2),
        "?????": BreakerPolicy(failure_threshold=9),
        "*e": BreakerPolicy(failure_threshold=7, reset_timeout=70),
        "t*": BreakerPolicy(failure_threshold=7, reset_timeout=70.0),
    }
    orch, _ = orchestrator(tools, "one", "two", "three", circuit="db")
    told = circuit_settings(orch, "db")
    assert (told.failure_threshold, told.max_keys, told.reset_timeout) == (7, 2, 70)


def test_a_tool_may_not_come_where_it_would_be_told_something_else() -> None:
    orch, service = orchestrator(DISAGREE, "one", circuit="db")
    before = circuit_settings(orch, "db")
    with pytest.raises(ValueError, match=BOTH):
        service.offer(orch.registry, "two", circuit="db")
    assert "two" not in orch.registry
    assert circuit_settings(orch, "db") == before
    service.offer(orch.registry, "two")
    assert threshold(orch, "two") == 2
    tool = orch.registry["two"]
    with pytest.raises(ValueError, match=BOTH):
        service.offer(orch.registry, "two", circuit="db", replace=True)
    assert orch.registry["two"] is tool
    service.offer(orch.registry, "one", circuit="db", replace=True)
    assert threshold(orch, "db") == 1


def test_a_tool_that_was_refused_by_one_orchestrator_came_to_none() -> None:
    registry, service = Registry(), Service()
    service.offer(registry, "one", circuit="db")
    without = ToolOrchestrator(registry, clock=HandClock())
    orch = ToolOrchestrator(registry, clock=HandClock(), tools=DISAGREE)
    for _ in range(2):
        with pytest.raises(ValueError, match=BOTH):
            service.offer(registry, "two", circuit="db")
        assert "two" not in registry
    assert threshold(without, "db") == 3
    assert threshold(orch, "db") == 1


# Reload


async def test_a_reload_keeps_state_and_figures() -> None:
    orch, service = orchestrator({"tool": BreakerPolicy(failure_threshold=2)})
    service.behaviour = fail
    await orch.dispatch("tool")
    before, circuit = orch.get_fleet_stats(), orch.circuit("tool")
    orch.reload(tools={"t*": BreakerPolicy(failure_threshold=3)})
    assert orch.get_fleet_stats() == before
    assert orch.circuit("tool") is circuit
    await orch.dispatch("tool")
    assert circuit.state == "closed"
    await orch.dispatch("tool")
    assert circuit.state == "open"
    orch.reload(tools={})
    assert circuit.state == "open"
    assert orch.stats("tool").total_failures == 3
    assert_adds_up(orch)


def test_a_reload_without_them_leaves_them() -> None:
    orch, _ = orchestrator({"tool": BreakerPolicy(failure_threshold=2)})
    orch.reload(failure_threshold=9)
    assert threshold(orch) == 2
    orch.reload(failure_threshold=9, tools={})
    assert threshold(orch) == 9


async def test_a_tool_that_was_called_has_the_new_settings() -> None:
    orch, service = orchestrator({})
    service.behaviour = fail
    other = Service()
    other.offer(orch.registry, "other")
    assert (await orch.run("tool")).source == "tool"
    orch.reload(tools={"tool": ToolPolicy(fallback="other")})
    assert (await orch.run("tool")).source == "other"
    orch.reload(tools={})
    service.behaviour = succeed
    assert (await orch.run("tool")).source == "tool"


async def test_a_limit_by_name_is_that_of_each_tool_also_after_a_reload() -> None:
    one = ToolPolicy(limits=LimitPolicy(calls=1, seconds=60, max_wait=0))
    orch, _ = orchestrator({"*": one}, "one", "two")
    for name in ("one", "two"):
        assert (await orch.run(name)).ok
        assert not (await orch.run(name)).ok
    two = ToolPolicy(limits=LimitPolicy(calls=2, seconds=60, max_wait=0))
    orch.reload(tools={"*": one, "two": two})
    assert not (await orch.run("one")).ok
    orch.reload(tools={})
    assert (await orch.run("one")).ok


@pytest.mark.parametrize(
    ("tools", "error", "says"),
    [
        ([], TypeError, r"tools=\[\]: expected a mapping"),
        ({"tool": 3}, ValueError, r"tools\['tool'\]=3: expected a ToolPolicy"),
        ({"": ToolPolicy()}, ValueError, "pattern in tools=''"),
        ({3: ToolPolicy()}, ValueError, "pattern in tools=3"),
        ({"x" * 129: ToolPolicy()}, ValueError, "1 to 128 characters"),
        (DISAGREE, ValueError, BOTH),
    ],
    ids=["list", "policy", "empty", "number", "long", "disagree"],
)
def test_what_cannot_be_changes_nothing(tools: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        orchestrator(tools, "one", "two", circuit="db")
    orch, _ = orchestrator({"one": ToolPolicy(timeout=5)}, "one", "two", circuit="db")
    before = circuit_settings(orch, "db"), settings(orch, "one")
    with pytest.raises(error, match=says):
        orch.reload(
            timeout=99,
            failure_threshold=99,
            circuits={"db": BreakerPolicy(jitter=1)},
            limits=LimitPolicy(calls=1),
            tools=tools,
        )
    assert (circuit_settings(orch, "db"), settings(orch, "one")) == before
    assert orch._shared.limits is None


async def test_a_call_of_a_tool_with_settings_by_name_goes_the_short_path() -> None:
    # It is as quick as one without: what is set was decided when the entry was made.
    orch, _ = orchestrator({"*": ToolPolicy(timeout=5, breaker=BreakerPolicy(jitter=1))})
    await orch.dispatch("tool")
    assert orch._fleet.entries["tool"].simple
