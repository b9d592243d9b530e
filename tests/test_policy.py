"""
Settings: what they check, where they come from, and that nothing is said twice.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import AsyncIterator
from typing import Any, cast

import anyio
import pytest

from orchestrator_async import (
    BreakerPolicy,
    BudgetPolicy,
    Registry,
    ToolOrchestrator,
    ToolPolicy,
    Verdict,
)
from orchestrator_async._policy import BreakerSettings

from .clock import virtual_time

BAD_COUNTS: list[Any] = [0, -1, 1.5, 3.0, True, "3", None, float("nan"), float("inf")]
BAD_SECONDS: list[Any] = [0, -1, -0.5, float("nan"), float("inf"), "5", True, 10**400]


def named(error: pytest.ExceptionInfo[ValueError], field: str, value: object) -> bool:
    return field in str(error.value) and repr(value) in str(error.value)


@pytest.mark.parametrize("value", BAD_COUNTS, ids=repr)
@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (BreakerPolicy, "failure_threshold"),
        (BreakerPolicy, "minimum_calls"),
        (BreakerPolicy, "success_threshold"),
        (BreakerPolicy, "max_keys"),
        (ToolOrchestrator, "failure_threshold"),
        (ToolPolicy, "max_args_size"),
        (ToolPolicy, "max_args_values"),
        (ToolPolicy, "max_threads"),
    ],
)
def test_counts_that_cannot_be_are_refused_by_name_and_value(
    policy: Any, field: str, value: Any
) -> None:
    with pytest.raises(ValueError) as error:
        policy(**{field: value})
    assert named(error, field, value)


@pytest.mark.parametrize("value", [*BAD_SECONDS, None], ids=lambda v: repr(v)[:20])
@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (BreakerPolicy, "reset_timeout"),
        (BreakerPolicy, "probe_lease"),
        (BreakerPolicy, "max_reset_timeout"),
        (ToolOrchestrator, "reset_timeout"),
    ],
)
def test_times_that_cannot_be_are_refused_by_name_and_value(
    policy: Any, field: str, value: Any
) -> None:
    with pytest.raises(ValueError) as error:
        policy(**{field: value})
    assert named(error, field, value)


@pytest.mark.parametrize("value", BAD_SECONDS, ids=lambda v: repr(v)[:20])
@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (ToolPolicy, "timeout"),
        (ToolPolicy, "hang_after"),
        (BreakerPolicy, "slow_duration"),
        (BreakerPolicy, "window_seconds"),
        (BreakerPolicy, "max_pause"),
        (ToolOrchestrator, "timeout"),
    ],
)
def test_times_that_may_be_left_out_are_checked_all_the_same(
    policy: Any, field: str, value: Any
) -> None:
    with pytest.raises(ValueError) as error:
        policy(**{field: value})
    assert named(error, field, value)
    policy(**{field: None})


NO_SHARES: list[Any] = [-0.1, 1.1, float("nan"), float("inf"), True, "0.5", 10**400]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("failure_rate", value) for value in [*NO_SHARES, 0, 0.0]],
        *[("slow_rate", value) for value in [*NO_SHARES, 0, None]],
        *[("jitter", value) for value in [*NO_SHARES, None]],
        *[("reset_multiplier", value) for value in [0.99, 0, -2, True, None, "2"]],
        *[("reset_multiplier", value) for value in [float("nan"), float("inf"), 10**400]],
        *[("window_calls", value) for value in [0, -1, 1.5, True, "3", 1_000_001]],
        *[("jitter_source", value) for value in [3, None, "random"]],
    ],
    ids=lambda each: repr(each)[:20],
)
def test_parts_of_a_circuit_that_cannot_be_are_refused_by_name_and_value(
    field: str, value: Any
) -> None:
    with pytest.raises(ValueError) as error:
        BreakerPolicy(**{field: value})
    assert named(error, field, value)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("failure_rate", 0, "a number above 0 and at most 1, or None"),
        ("slow_rate", 2, "a number above 0 and at most 1"),
        ("jitter", 2, "a number of at least 0 and at most 1"),
        ("reset_multiplier", 0.5, "a number of at least 1"),
        ("window_calls", 0, "a whole number of at least 1, or None"),
        ("window_calls", 2_000_000, "at most 1,000,000, or window_seconds"),
        ("max_keys", 0, "a whole number of at least 1"),
    ],
)
def test_what_is_refused_says_what_can_be(field: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError) as error:
        BreakerPolicy(**{field: value})
    said = f"BreakerPolicy: {field}={value!r} cannot be; expected {expected}"
    assert str(error.value) == said


def test_a_coroutine_function_is_no_source_of_chance() -> None:
    async def chance() -> float:
        return 0.5

    with pytest.raises(ValueError, match="jitter_source"):
        BreakerPolicy(jitter_source=chance)  # type: ignore[arg-type]


def test_the_ends_of_what_can_be_can_be() -> None:
    BreakerPolicy(failure_rate=1, slow_rate=1.0, jitter=1, reset_multiplier=1)
    BreakerPolicy(jitter=0.0, window_calls=1_000_000, max_keys=1, minimum_calls=1)
    BreakerPolicy(max_reset_timeout=5, reset_timeout=5)
    BreakerPolicy(failure_rate=None, window_calls=None, window_seconds=None)
    with pytest.raises(ValueError, match="max_reset_timeout=4"):
        BreakerPolicy(max_reset_timeout=4, reset_timeout=5)


DEFAULTS = BreakerSettings()


@pytest.mark.parametrize(
    ("levels", "changes"),
    [
        ([], {}),
        ([{"window_calls": 20}], {"window_calls": 20, "failure_rate": 0.5}),
        ([{"window_seconds": 9}], {"window_seconds": 9.0, "failure_rate": 0.5}),
        ([{"failure_rate": 0.2}], {"failure_rate": 0.2, "window_calls": 100}),
        (
            [{"failure_rate": 1, "window_seconds": 9}],
            {"failure_rate": 1.0, "window_seconds": 9.0},
        ),
        ([{"slow_duration": 2}], {"slow_duration": 2.0, "window_calls": 100}),
        (
            [{"slow_rate": 0.5}],
            {"slow_rate": 0.5, "slow_duration": 60.0, "window_calls": 100},
        ),
        (
            [{"window_seconds": 9, "slow_duration": 2}],
            {"window_seconds": 9.0, "slow_duration": 2.0},
        ),
        ([{"reset_timeout": 7}], {"reset_timeout": 7.0, "probe_lease": 7.0}),
        (
            [{"reset_timeout": 7_200}],
            {"reset_timeout": 7200.0, "probe_lease": 7200.0, "max_reset_timeout": 7200.0},
        ),
        (
            [{"max_reset_timeout": 60}],
            {"max_reset_timeout": 60.0, "reset_timeout": 60.0, "probe_lease": 60.0},
        ),
        (
            [{"max_reset_timeout": 60}, {"reset_timeout": 600}],
            {"max_reset_timeout": 60.0, "reset_timeout": 60.0, "probe_lease": 60.0},
        ),
        ([{"max_pause": None}], {"max_pause": None}),
        # The first level that has a say decides, also if it says that there is none.
        ([{"failure_rate": None}, {"failure_rate": 0.2}], {}),
        ([{"window_calls": None}, {"window_calls": 20}], {}),
        ([{"slow_duration": None}, {"slow_rate": 0.5}], {"slow_rate": 0.5}),
        (
            [{"failure_rate": 0.3}, {"failure_rate": 0.2, "window_calls": 20}],
            {"failure_rate": 0.3, "window_calls": 20},
        ),
    ],
    ids=repr,
)
def test_what_is_not_said_of_rates_is_filled_in(
    levels: list[dict[str, Any]], changes: dict[str, Any]
) -> None:
    settings = BreakerSettings.of(*(BreakerPolicy(**each) for each in levels or [{}]))
    assert settings == DEFAULTS._replace(**changes)
    assert {type(each) for each in settings} <= {int, float, type(None), type(len)}


async def generates(*asked: Any) -> AsyncIterator[Any]:
    yield asked


@pytest.mark.parametrize("value", [0, float("nan"), -1])
def test_tool_keywords_are_checked_where_the_tool_is_defined(value: Any) -> None:
    with pytest.raises(ValueError) as error:

        @Registry().tool(timeout=value)
        async def tool() -> None: ...

    assert named(error, "timeout", value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ignore", [ValueError]),
        ("ignore", (int,)),
        ("ignore", ValueError),
        ("control_flow", (ValueError("x"),)),
        ("judge", "strict"),
        ("is_failure", 3),
        ("breaker", {"failure_threshold": 3}),
        ("breaker", None),
        ("retry", 3),
        ("retry", {"attempts": 2}),
        ("limits", 3),
        ("limits", {"calls": 2}),
        ("group", 3),
        ("guard", "ask"),
        ("fallback", ""),
        ("fallback", 3),
        ("max_result_size", 199),
        ("guard", generates),
        ("fallback", generates),
        ("judge", generates),
    ],
)
def test_other_fields_are_checked_too(field: str, value: Any) -> None:
    with pytest.raises(ValueError) as error:
        ToolPolicy(**{field: value})
    assert field in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("share", -0.1),
        ("share", float("inf")),
        ("share", "half"),
        ("a_second", -1),
        ("a_second", 1.5),
        ("a_second", 10**9),
    ],
)
def test_a_budget_that_cannot_be_is_refused_by_name_and_value(
    field: str, value: Any
) -> None:
    with pytest.raises(ValueError) as error:
        BudgetPolicy(**{field: value})
    assert named(error, field, value)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"retry_budget": 3}, TypeError, "retry_budget=3: expected a BudgetPolicy"),
        ({"limits": 3}, TypeError, "limits=3: expected a LimitPolicy"),
        ({"groups": 3}, TypeError, "groups=3: expected a mapping of names"),
        (
            {"groups": {"slow": 3}},
            ValueError,
            r"groups\['slow'\]=3: expected a LimitPolicy",
        ),
    ],
)
def test_what_all_tools_share_is_checked_when_it_is_given(
    options: Any, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        ToolOrchestrator(Registry(), **options)
    orch = ToolOrchestrator(Registry())
    with pytest.raises(kind, match=said):
        orch.reload(**options)


@pytest.mark.parametrize("field", ["judge", "is_failure"])
def test_coroutine_functions_cannot_judge(field: str) -> None:
    async def judge(outcome: Any) -> bool:
        return True

    class Judge:
        async def __call__(self, outcome: Any) -> bool:
            return True

    each: Any
    for each in (judge, Judge()):
        with pytest.raises(ValueError, match=field):
            ToolPolicy(**{field: each})
        with pytest.raises(ValueError, match=field):
            cast("Any", Registry()).tool(**{field: each})


@pytest.mark.parametrize("policy", [{}, "strict", 3, BreakerPolicy])
def test_what_is_no_policy_is_refused(policy: Any) -> None:
    with pytest.raises(ValueError, match="policy"):
        ToolOrchestrator(Registry(), policy=policy)
    with pytest.raises(ValueError, match="policy"):
        Registry().tool(policy=policy)
    with pytest.raises(ValueError, match="search"):
        ToolOrchestrator(Registry(), circuits={"search": policy})


def test_policies_are_frozen_keyword_only_and_comparable() -> None:
    for policy, field in ((BreakerPolicy(), "reset_timeout"), (ToolPolicy(), "timeout")):
        kind: Any = type(policy)
        assert policy == kind()
        assert policy != kind(**{field: 7})
        assert hash(policy) == hash(kind())
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(policy, field, 3)
        with pytest.raises(TypeError):
            kind(3)


def test_integers_are_seconds_too() -> None:
    assert BreakerPolicy(reset_timeout=5).reset_timeout == 5
    assert ToolPolicy(timeout=5).timeout == 5


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 3, "policy": ToolPolicy(timeout=3)},
        {"timeout": None, "policy": ToolPolicy(timeout=3)},
        {"failure_threshold": 3, "policy": BreakerPolicy(failure_threshold=4)},
        {"reset_timeout": 3, "policy": BreakerPolicy(reset_timeout=4)},
        {
            "reset_timeout": 3,
            "policy": ToolPolicy(breaker=BreakerPolicy(reset_timeout=4)),
        },
    ],
)
def test_a_setting_given_twice_to_the_orchestrator_is_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="twice"):
        ToolOrchestrator(Registry(), **options)


def never(value: object) -> bool:
    return False


def say_nothing(outcome: object) -> None:
    return None


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 3, "policy": ToolPolicy(timeout=4)},
        {"judge": say_nothing, "policy": ToolPolicy(judge=say_nothing)},
        {"judge": say_nothing, "is_failure": never},
        {"judge": say_nothing, "policy": ToolPolicy(is_failure=never)},
        {"is_failure": never, "policy": ToolPolicy(judge=say_nothing)},
    ],
)
def test_a_setting_given_twice_to_a_tool_is_refused(options: Any) -> None:
    with pytest.raises(ValueError):
        Registry().tool(**options)


def test_settings_of_one_level_add_up() -> None:
    ToolOrchestrator(
        Registry(), timeout=3, policy=ToolPolicy(breaker=BreakerPolicy(reset_timeout=4))
    )
    Registry().tool(timeout=3, policy=BreakerPolicy(failure_threshold=1))


def failing(registry: Registry, name: str, **options: Any) -> None:
    @registry.tool(name=name, **options)
    async def fail() -> None:
        raise RuntimeError("no")


async def failures_until_open(orch: ToolOrchestrator, name: str) -> int:
    for count in range(1, 20):
        await orch.dispatch(name)
        if orch.circuit(name).state == "open":
            return count
    raise AssertionError("never opened")


async def seconds_open(orch: ToolOrchestrator, name: str) -> int:
    said = json.loads(await orch.dispatch(name))
    return int(said["retry_after"])


async def test_a_tools_own_setting_wins_field_by_field() -> None:
    registry = Registry()
    failing(registry, "plain")
    failing(registry, "patient", policy=BreakerPolicy(failure_threshold=5))
    failing(registry, "short", policy=ToolPolicy(breaker=BreakerPolicy(reset_timeout=7)))
    orch = ToolOrchestrator(
        registry, failure_threshold=2, reset_timeout=50, clock=lambda: 0.0
    )

    assert await failures_until_open(orch, "plain") == 2
    assert await failures_until_open(orch, "patient") == 5
    assert await failures_until_open(orch, "short") == 2
    assert await seconds_open(orch, "plain") == 50
    assert await seconds_open(orch, "patient") == 50
    assert await seconds_open(orch, "short") == 7


async def test_defaults_are_three_failures_and_five_minutes() -> None:
    registry = Registry()
    failing(registry, "plain")
    orch = ToolOrchestrator(registry, clock=lambda: 0.0)

    assert await failures_until_open(orch, "plain") == 3
    assert await seconds_open(orch, "plain") == 300


async def test_an_orchestrators_policy_is_as_good_as_its_keywords() -> None:
    registry = Registry()
    failing(registry, "plain")
    policy = BreakerPolicy(failure_threshold=4, reset_timeout=9)
    for given in (policy, ToolPolicy(breaker=policy)):
        orch = ToolOrchestrator(registry, policy=given, clock=lambda: 0.0)
        assert await failures_until_open(orch, "plain") == 4
        assert await seconds_open(orch, "plain") == 9


async def test_settings_of_a_named_circuit_stand_between_tool_and_orchestrator() -> None:
    registry = Registry()
    failing(registry, "a", circuit="mail")
    failing(registry, "b", circuit="news", policy=BreakerPolicy(failure_threshold=1))
    failing(registry, "c")
    policy = BreakerPolicy(failure_threshold=4, reset_timeout=9)
    orch = ToolOrchestrator(
        registry,
        failure_threshold=2,
        circuits={"mail": policy, "news": policy, "c": policy},
        clock=lambda: 0.0,
    )

    async def opens_after(tool: str, circuit: str) -> int:
        for count in range(1, 20):
            await orch.dispatch(tool)
            if orch.circuit(circuit).state == "open":
                return count
        raise AssertionError("never opened")

    assert await opens_after("a", "mail") == 4
    assert await opens_after("b", "news") == 1
    assert await opens_after("c", "c") == 4
    assert await seconds_open(orch, "b") == 9


@virtual_time
async def test_timeout_comes_from_the_tool_else_the_orchestrator_else_nowhere() -> None:
    registry = Registry()
    started: dict[str, float] = {}

    def sleeping(name: str, **options: Any) -> None:
        @registry.tool(name=name, **options)
        async def sleep() -> str:
            await anyio.sleep(100)
            return "slept"

    async def lasts(orch: ToolOrchestrator, name: str) -> float:
        started[name] = anyio.current_time()
        await orch.dispatch(name)
        return anyio.current_time() - started[name]

    sleeping("plain")
    sleeping("short", timeout=3)
    sleeping("policy", policy=ToolPolicy(timeout=4))
    sleeping("endless", timeout=None)
    orch = ToolOrchestrator(registry, timeout=10, clock=anyio.current_time)
    assert math.isclose(await lasts(orch, "plain"), 10)
    assert math.isclose(await lasts(orch, "short"), 3)
    assert math.isclose(await lasts(orch, "policy"), 4)
    assert math.isclose(await lasts(orch, "endless"), 100)

    bare = ToolOrchestrator(registry, clock=anyio.current_time)
    assert math.isclose(await lasts(bare, "plain"), 100)


async def test_a_tool_that_names_its_judge_inherits_no_other() -> None:
    registry = Registry()

    @registry.tool(judge=lambda outcome: Verdict.SUCCESS)
    async def judged() -> str:
        return "x"

    @registry.tool(is_failure=never)
    async def looked_at() -> str:
        return "x"

    @registry.tool
    async def plain() -> str:
        return "x"

    orch = ToolOrchestrator(registry, policy=ToolPolicy(is_failure=lambda value: True))
    assert (await orch.run("judged")).verdict is Verdict.SUCCESS
    assert (await orch.run("looked_at")).verdict is Verdict.SUCCESS
    assert (await orch.run("plain")).verdict is Verdict.FAILURE


async def test_sizes_of_arguments_are_a_setting() -> None:
    registry = Registry()

    @registry.tool(policy=ToolPolicy(max_args_size=20))
    async def echo(text: str) -> str:
        return text

    orch = ToolOrchestrator(registry)
    assert await orch.dispatch("echo", '{"text": "x"}') == "x"
    for text in ('{"text": "' + "x" * 20 + '"}', b'{"text": "' + b"x" * 20 + b'"}'):
        assert "invalid_arguments" in json.loads(await orch.dispatch("echo", text))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("registry", []),
        ("registry", {"search": print}),
        ("clock", 5),
        ("clock", None),
        ("clean", 5),
        ("clean", None),
        ("circuits", 5),
        ("circuits", ["database"]),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        ToolOrchestrator(**{name: value})
    assert str(caught.value).startswith(f"{name}={value!r}: expected ")


async def test_levels_that_contradict_each_other_make_no_tool_unusable() -> None:
    registry = Registry()
    short = BreakerPolicy(max_reset_timeout=60)

    @registry.tool(policy=short)
    async def tool() -> str:
        return "fine"

    orch = ToolOrchestrator(registry, reset_timeout=600)
    assert await orch.dispatch("tool") == "fine"
    orch.reload(reset_timeout=900)
    assert await orch.dispatch("tool") == "fine"
    with pytest.raises(ValueError, match="max_reset_timeout=60"):
        orch.reload(reset_timeout=900, policy=short)
