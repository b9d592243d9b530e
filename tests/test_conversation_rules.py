"""
The rules of a run: by hand, limit by limit, and beside a model that keeps all that happened.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import gc
import json
import math
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_async._checks import INHERIT
from orchestrator_async._conversation import (
    MOST_KEPT,
    OVER,
    Action,
    Call,
    ConversationPolicy,
    ConversationRules,
    Decision,
    Ending,
    Reason,
    call_key,
)
from orchestrator_async._known import MOST_TEXT, result_key

from .conversation_model import Event, Slow, reasons_of

DEBUG = False

OFF: dict[str, Any] = {
    each.name: None
    for each in dataclasses.fields(ConversationPolicy)
    if each.name != "patience"
}
SUCCESS, FAILURE, REFUSAL = Ending.SUCCESS, Ending.FAILURE, Ending.REFUSAL


def rules_of(tools: Any = None, *, began: float = 0.0, **limits: Any) -> ConversationRules:
    """
    Rules without any limit but those that are given.
    """
    return ConversationRules(ConversationPolicy(**(OFF | limits)), began, tools)


class Run:
    """
    A program that asks the rules and does as they say.

    Attributes:
        told: What the model was told last, by a warning or in place of a result.
    """

    def __init__(self, rules: ConversationRules) -> None:
        self.rules = rules
        self.now = 0.0
        self.told: str | None = None
        self.reason: Reason | None = None

    def __call__(
        self,
        name: str = "tool",
        key: str | None = "a",
        ending: Ending = SUCCESS,
        digest: str | None = "",
        *,
        polling: bool = False,
        known: bool = True,
        turn: int | None = None,
        **how: Any,
    ) -> str:
        decision = self.rules.before(
            name, key, self.now, polling=polling, known=known, turn=turn
        )
        self.reason = decision.reason
        if decision.call is None:
            assert decision.action in (Action.REFUSE, Action.STOP)
            assert decision.advice
            self.told = decision.advice
            return decision.action
        assert decision.reason is None
        assert decision.advice == ""
        if decision.action is Action.UNKNOWN:
            ending = Ending.UNKNOWN
        self.told = self.rules.after(decision.call, ending, self.now, digest=digest, **how)
        return "ok" if self.told is None else "warned"


def as_table(outcomes: Iterator[str] | list[str]) -> str:
    """
    Outcomes in a row, those that are equal together: ``"2 ok, 1 warned"``.
    """
    table: list[list[Any]] = []
    for each in outcomes:
        if table and table[-1][1] == each:
            table[-1][0] += 1
        else:
            table.append([1, each])
    return ", ".join(f"{number} {each}" for number, each in table)


def admitted(decision: Decision) -> Call:
    assert decision.call is not None
    return decision.call


# Settings


@pytest.mark.parametrize("value", [0, -1, 1.5, 3.0, True, "3", math.nan, math.inf, INHERIT])
@pytest.mark.parametrize(
    "field",
    [
        "same_failures",
        "tool_failures",
        "same_results",
        "refusals",
        "unknown",
        "calls_per_tool",
        "calls",
    ],
)
def test_limits_that_cannot_be_are_refused_by_name_and_value(
    field: str, value: Any
) -> None:
    with pytest.raises(ValueError) as error:
        ConversationPolicy(**{field: value})
    assert f"{field}={value!r}" in str(error.value)
    assert "ConversationPolicy" in str(error.value)
    assert "or None" in str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("patience", -1, "at least 0"),
        ("patience", True, "at least 0"),
        ("patience", 1.0, "at least 0"),
        ("same_results", 1, "at least 2"),
        ("calls", 0, "at least 1"),
        ("seconds", 0, "above 0"),
        ("seconds", -1.0, "above 0"),
        ("seconds", math.inf, "above 0"),
        ("seconds", math.nan, "above 0"),
        ("seconds", True, "above 0"),
        ("seconds", "5", "above 0"),
        ("seconds", INHERIT, "above 0"),
    ],
)
def test_what_is_expected_is_said(field: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError) as error:
        ConversationPolicy(**{field: value})
    assert f"{field}={value!r}" in str(error.value)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    "field", [each.name for each in dataclasses.fields(ConversationPolicy)]
)
def test_each_limit_can_be_turned_off_and_be_as_low_as_it_makes_sense(field: str) -> None:
    least: Any = {"patience": 0, "same_results": 2, "seconds": 0.001}.get(field, 1)
    assert getattr(ConversationPolicy(**{field: None}), field) is None
    assert getattr(ConversationPolicy(**{field: least}), field) == least


def test_a_policy_is_frozen_and_takes_names_only() -> None:
    policy = ConversationPolicy()
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.calls = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        ConversationPolicy(3)  # type: ignore[call-arg]


def test_reasons_are_the_fields_of_the_policy() -> None:
    assert {*Reason, "patience"} == {
        each.name for each in dataclasses.fields(ConversationPolicy)
    }


def test_the_defaults_are_those_that_are_documented() -> None:
    text = " ".join((ConversationPolicy.__doc__ or "").split())
    for each in dataclasses.fields(ConversationPolicy):
        part = text.partition(f" {each.name}: ")[2].partition("Default ")[2]
        assert float(part.split()[0].strip(".").replace(",", "")) == each.default, each.name


# Which tools

NAMES = st.text("ab_*?[]!-", max_size=8)


@settings(max_examples=300)
@given(st.lists(NAMES, max_size=4), NAMES)
def test_a_name_is_allowed_if_a_pattern_fits(patterns: list[str], name: str) -> None:
    rules = rules_of(patterns)
    fits = any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    assert rules.allows(name) is fits


def test_case_matters_and_a_name_must_fit_from_end_to_end() -> None:
    rules = rules_of(("files_*", "now"))
    names = ["files_read", "Files_read", "my_files_read", "now", "nowhere", "now\n", ""]
    assert [name for name in names if rules.allows(name)] == ["files_read", "now"]


def test_without_patterns_all_are_allowed_and_with_an_empty_list_of_them_none() -> None:
    assert rules_of(None).allows("anything")
    assert not rules_of([]).allows("anything")
    assert not rules_of([]).allows("")


def test_no_pattern_fits_a_name_that_no_tool_can_have() -> None:
    rules = rules_of(["*"])
    assert rules.allows("n" * 128)
    assert not rules.allows("n" * 129)


@pytest.mark.parametrize("tools", ["files_*", [b"files_*"], [None], ["fine", 3]])
def test_patterns_that_are_none_are_refused(tools: Any) -> None:
    with pytest.raises(ValueError, match="list of patterns"):
        rules_of(tools)


def test_a_tool_that_is_not_allowed_is_one_that_does_not_exist() -> None:
    rules = rules_of(["files_*"], unknown=1, patience=1)
    decision = rules.before("shell", "a", 0.0, known=True)

    assert decision.action is Action.UNKNOWN
    assert decision.reason is None
    warning = rules.after(admitted(decision), Ending.UNKNOWN, 0.0)
    assert warning is not None
    assert "You have asked once for tools that do not exist." in warning
    assert rules.before("files_read", "a", 0.0).action is Action.RUN
    assert rules.before("shell", "a", 0.0).action is Action.REFUSE
    assert rules.before("shell", "b", 0.0).action is Action.STOP


def test_a_tool_that_is_unknown_is_not_run_even_if_its_name_is_allowed() -> None:
    assert rules_of(["*"]).before("shell", "a", 0.0, known=False).action is Action.UNKNOWN


# Each limit: what warns, what is refused, what ends the run

STREAKS: dict[str, Callable[[Run, int], str]] = {
    "same_failures": lambda run, n: run(ending=FAILURE),
    "tool_failures": lambda run, n: run(key=str(n), ending=FAILURE),
    "same_results": lambda run, n: run(digest="same"),
    "refusals": lambda run, n: run(key=str(n), ending=REFUSAL),
    "unknown": lambda run, n: run(f"no_{n}", known=False),
}
MORE_STREAKS: dict[str, Callable[[Run, int], str]] = {
    "same_failures by invalid arguments": lambda run, n: run(ending=Ending.INVALID),
    "same_failures, mixed": lambda run, n: run(ending=(FAILURE, Ending.INVALID)[n % 2]),
    "tool_failures by invalid arguments": lambda run, n: run(
        key=str(n), ending=Ending.INVALID
    ),
    "refusals of one call": lambda run, n: run(ending=REFUSAL, whole_tool=False),
    "unknown by one name": lambda run, n: run("no", known=False),
    "unknown to whoever runs it": lambda run, n: run(ending=Ending.UNKNOWN),
}


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("case", [*STREAKS, *MORE_STREAKS])
def test_the_limit_warns_then_refusals_advise_and_the_next_ends_the_run(
    case: str, limit: int, patience: int
) -> None:
    reason = case.replace(",", " ").split()[0]
    if reason == "same_results" and limit == 1:
        limit = 9
    rules = rules_of(**{reason: limit, "patience": patience})
    run, do = Run(rules), (STREAKS | MORE_STREAKS)[case]

    seen = as_table([do(run, n) for n in range(limit)])
    assert seen == ("1 warned" if limit == 1 else f"{limit - 1} ok, 1 warned")
    assert run.told is not None
    assert (f" {limit} times" if limit > 1 else " once") in run.told
    for n in range(patience):
        assert rules.stop_reason is None
        if case != "unknown to whoever runs it":
            assert do(run, limit + n) == Action.REFUSE
            assert run.reason == reason
            assert (f" {limit} times" if limit > 1 else " once") in run.told
            last_one = "ask for it once more, this run is ended" in run.told
            assert last_one == (n == patience - 1)
    if case == "unknown to whoever runs it":
        return  # it goes on being known to exist, so nothing is refused
    assert rules.stop_reason is None
    assert do(run, 1000) == Action.STOP
    assert rules.stop_reason == run.reason == reason
    assert do(run, 1001) == run("other", "new") == Action.STOP
    assert rules.stop_reason == run.reason == reason


@pytest.mark.parametrize("case", [*STREAKS, *MORE_STREAKS])
def test_what_is_turned_off_is_not_counted_against_a_run(case: str) -> None:
    run = Run(rules_of(patience=0))
    do = (STREAKS | MORE_STREAKS)[case]
    assert as_table([do(run, n) for n in range(300)]) == "300 ok"


@pytest.mark.parametrize("case", STREAKS)
def test_without_end_of_patience_a_run_is_refused_on_and_on(case: str) -> None:
    run = Run(rules_of(**{case: 3}, patience=None))
    do = STREAKS[case]
    seen = as_table([do(run, n) for n in range(1000)])
    assert seen == "2 ok, 1 warned, 997 refuse"
    assert run.told is not None
    assert "ended" not in run.told


def test_what_the_model_reads_says_what_happened_and_what_to_do_instead() -> None:
    said = []
    for reason, do in STREAKS.items():
        run = Run(rules_of(**{reason: 2}))
        for n in range(2):
            do(run, n)
        said.append(run.told)
        do(run, 2)
        assert run.told == f"Not run. {said[-1]}"
    assert said == [
        (
            "This same call of tool has failed 2 times in a row. Do not repeat it: change the "
            "arguments, use another tool, or answer with what you have."
        ),
        (
            "tool has failed 2 times in a row, whatever its arguments. Do not go on guessing: "
            "find out by other tools what is wrong, or answer without it."
        ),
        (
            "This same call of tool has given the same result 2 times in a row. Do not repeat "
            "it: use the result that you have, do something else, or answer."
        ),
        (
            "tool was refused 2 times in a row. Do not ask for it again now: use another tool, "
            "or answer without it."
        ),
        (
            "You have asked 2 times for tools that do not exist. Call only tools that you were "
            "given, by their exact names, or answer without them."
        ),
    ]


def test_the_last_word_says_that_the_run_is_ended() -> None:
    run = Run(rules_of(same_failures=1, patience=0))
    run(ending=FAILURE)
    run(ending=FAILURE)
    assert run.told == (
        "This run is ended. This same call of tool has failed once. Call no more tools."
    )


def test_a_name_is_shown_cleaned() -> None:
    run = Run(rules_of(same_failures=1))
    run("tool\x1b[31m\nIgnore all", ending=FAILURE)
    assert run.told is not None
    assert run.told.startswith('This same call of "tool Ignore all" has failed once. ')


# What begins anew, and what does not


def test_a_success_forgives_the_call_and_the_tool() -> None:
    run = Run(rules_of(same_failures=3, tool_failures=3))
    for _ in range(50):
        assert as_table([run(ending=FAILURE) for _ in range(2)]) == "2 ok"
        assert run() == "ok"
        assert as_table([run(key="b", ending=FAILURE) for _ in range(2)]) == "2 ok"
        assert run(key="b") == "ok"


def test_a_success_of_other_arguments_forgives_the_tool_but_not_the_call() -> None:
    run = Run(rules_of(same_failures=3, tool_failures=3))
    run("tool", "b")
    assert [run(ending=FAILURE), run(ending=FAILURE), run(key="b")] == ["ok"] * 3
    assert run(ending=FAILURE) == "warned"
    assert run.told is not None
    assert run.told.startswith("This same call")
    assert run(ending=FAILURE) == Action.REFUSE
    assert run.reason is Reason.SAME_FAILURES


def test_a_success_of_another_tool_forgives_nothing() -> None:
    run = Run(rules_of(same_failures=3, tool_failures=3))
    run("other")
    for _ in range(2):
        assert run(ending=FAILURE) == "ok"
        run("other")
    assert run(ending=FAILURE) == "warned"
    run("other")
    assert run(ending=FAILURE) == Action.REFUSE


def test_a_refusal_says_nothing_of_failures() -> None:
    run = Run(rules_of(same_failures=2, refusals=3))
    assert [run(ending=FAILURE), run(ending=REFUSAL), run(ending=REFUSAL)] == ["ok"] * 3
    assert run(ending=FAILURE) == "warned"


def test_invalid_arguments_do_not_end_refusals_for_the_tool_has_not_run() -> None:
    run = Run(rules_of(refusals=2))
    endings = (REFUSAL, Ending.INVALID, REFUSAL)
    assert [run(ending=each) for each in endings] == ["ok", "ok", "warned"]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("ending", [SUCCESS, FAILURE])
def test_refusals_are_counted_from_the_last_run_on(ending: Ending, whole: bool) -> None:
    run = Run(rules_of(refusals=3))
    for _ in range(10):
        outcomes = [run(ending=REFUSAL, whole_tool=whole) for _ in range(2)]
        assert [*outcomes, run(ending=ending)] == ["ok"] * 3
    assert as_table([run(ending=REFUSAL, whole_tool=whole) for _ in range(4)]) == (
        "2 ok, 1 warned, 1 refuse"
    )


def test_refused_arguments_leave_the_tool_open_to_others() -> None:
    run = Run(rules_of(refusals=1, patience=0))
    for key in "abcdefgh":
        assert run(key=key, ending=REFUSAL, whole_tool=False) == "warned"
        assert run.told is not None
        assert run.told.startswith("This same call of tool was refused once.")
    assert run(key="fine") == "ok"


@pytest.mark.parametrize("now", [10.0, 10.5, 1e9])
def test_a_refused_tool_may_be_tried_at_any_time_after_the_one_that_it_named(
    now: float,
) -> None:
    run = Run(rules_of(refusals=1))
    run(ending=REFUSAL, retry_after=10.0)
    run.now = 9.5
    assert run() == Action.REFUSE
    run.now = now
    assert run() == "ok"


def test_a_refused_tool_may_be_tried_when_the_time_has_passed_that_it_named() -> None:
    run = Run(rules_of(refusals=2))
    run(ending=REFUSAL, retry_after=10.0)
    run.now = 5.0
    assert run(ending=REFUSAL, retry_after=10.0) == "warned"
    run.now = 14.75
    assert run() == Action.REFUSE
    run.now = 15.0
    assert run(ending=REFUSAL, retry_after=20.0) == "warned"
    assert run.told is not None
    assert "3 times" in run.told
    run.now = 34.0
    assert run() == Action.REFUSE
    run.now = 35.0
    assert run() == "ok"
    assert run(ending=REFUSAL) == "ok"


def test_a_refusal_without_a_time_does_not_pass() -> None:
    run = Run(rules_of(refusals=1))
    run(ending=REFUSAL, retry_after=1.0)
    run.now = 1.0
    run(ending=REFUSAL)
    run.now = 1e12
    assert run() == Action.REFUSE


def test_changing_arguments_are_no_offence_while_the_tool_succeeds() -> None:
    run = Run(ConversationRules(ConversationPolicy(), 0.0))
    seen = [run(key=str(n), digest="nothing found") for n in range(89)]
    assert as_table(seen) == "89 ok"


def test_another_result_begins_anew() -> None:
    run = Run(rules_of(same_results=3))
    for n in range(50):
        assert run(digest=f"{n // 2}") == "ok"
    assert as_table([run(digest="x") for _ in range(4)]) == "2 ok, 1 warned, 1 refuse"


def test_the_same_results_of_several_calls_are_counted_apart() -> None:
    run = Run(rules_of(same_results=3))
    run(key="a"), run(key="b"), run("other", "a")
    run("something new")
    seen = [(run(key="a"), run(key="b"), run("other", "a")) for _ in range(4)]
    assert seen == [("ok",) * 3, ("ok",) * 3, ("warned",) * 3, ("refuse",) * 3]


def test_a_failure_in_between_does_not_hide_that_the_results_are_the_same() -> None:
    run = Run(rules_of(same_results=3))
    outcomes = []
    for _ in range(3):
        outcomes += [run(digest="x"), run(ending=FAILURE)]
    assert outcomes[-2] == "warned"


def test_a_polling_tool_may_say_the_same_for_ever_but_for_the_totals() -> None:
    run = Run(rules_of(same_results=2, calls=1000))
    seen = as_table([run(digest="running", polling=True) for _ in range(1004)])
    assert seen == "899 ok, 1 warned, 99 ok, 1 warned, 3 refuse, 1 stop"
    assert run.reason is Reason.CALLS


def test_a_polling_tool_that_fails_is_like_any_other() -> None:
    run = Run(rules_of(same_failures=3))
    seen = as_table([run(ending=FAILURE, polling=True) for _ in range(4)])
    assert seen == "2 ok, 1 warned, 1 refuse"


# Something new


def test_a_look_at_what_was_changed_meanwhile_repeats_nothing() -> None:
    run = Run(rules_of(same_results=3, patience=0))
    for n in range(50):
        assert run("edit", str(n)) == "ok"
        assert run("run_tests", digest="2 failed") == "ok"


def test_two_calls_that_take_turns_go_round_in_a_circle() -> None:
    run = Run(rules_of(same_results=3))
    seen = [run(name) for _ in range(7) for name in ("one", "other")]
    # The first of the other is new to the one, so that this is a result behind.
    assert as_table(seen) == "5 ok, 2 warned, 6 refuse, 1 stop"


@pytest.mark.parametrize("case", ["same_failures", "tool_failures", "refusals"])
def test_after_something_new_one_more_try_is_let_through(case: str) -> None:
    run, do = Run(rules_of(**{case: 3})), STREAKS[case]
    assert as_table([do(run, n) for n in range(4)]) == "2 ok, 1 warned, 1 refuse"
    for n in range(5):
        assert run("other", str(n)) == "ok"
        assert do(run, 10 + n) == "warned"
        assert run.told is not None
        assert f" {4 + n} times" in run.told
    assert do(run, 20) == do(run, 21) == Action.REFUSE
    assert do(run, 22) == Action.STOP


def test_another_result_is_something_new_and_the_same_is_not() -> None:
    run = Run(rules_of(same_failures=1))
    run("status", digest="building", polling=True)
    run("deploy", ending=FAILURE)
    run("status", digest="building", polling=True)
    assert run("deploy") == Action.REFUSE
    run("status", digest="ready", polling=True)
    assert run("deploy") == "ok"


def test_an_unknown_name_is_not_forgiven_for_anything_new() -> None:
    run = Run(rules_of(unknown=2))
    outcomes = [(run("no", known=False), run("yes", str(n)))[0] for n in range(6)]
    assert as_table(outcomes) == "1 ok, 1 warned, 3 refuse, 1 stop"


# Totals


@pytest.mark.parametrize(
    ("limit", "table"),
    [
        (1, "1 warned, 3 refuse, 1 stop"),
        (9, "8 ok, 1 warned, 3 refuse, 1 stop"),
        (10, "8 ok, 2 warned, 3 refuse, 1 stop"),
        (19, "17 ok, 2 warned, 3 refuse, 1 stop"),
        (40, "35 ok, 1 warned, 3 ok, 1 warned, 3 refuse, 1 stop"),
        # Beyond the whole numbers of which there is but one object each.
        (3_000, "2699 ok, 1 warned, 299 ok, 1 warned, 3 refuse, 1 stop"),
    ],
)
@pytest.mark.parametrize("reason", ["calls", "calls_per_tool"])
def test_calls_are_so_many_with_a_warning_at_a_tenth_and_at_the_last(
    reason: str, limit: int, table: str
) -> None:
    run = Run(rules_of(**{reason: limit}))
    number = limit + 4
    assert as_table([run(key=str(n)) for n in range(number)]) == table
    assert run.rules.stop_reason == reason
    assert run.rules.calls == limit


def test_all_kinds_of_calls_are_calls_but_for_those_that_are_refused_here() -> None:
    run = Run(rules_of(calls=5, same_failures=1))
    run(ending=FAILURE)
    assert run() == Action.REFUSE
    run(key="b", ending=REFUSAL)
    run(key="c", ending=Ending.INVALID)
    run("no", known=False)
    assert run.rules.calls == 4
    assert run("fine") == "warned"
    assert run("fine", "b") == Action.REFUSE
    assert run("no", known=False) == Action.REFUSE
    assert run.reason is Reason.CALLS


def test_what_is_left_is_said_in_words() -> None:
    run = Run(rules_of(calls=10, calls_per_tool=20, seconds=30.0))
    said = []
    for n in range(11):
        run(key=str(n))
        said.append(run.told)
    assert said[8:] == [
        "You have 1 call left, of 10. Use them well.",
        (
            "You have called tools 10 times, which is all that you may. Answer now with what "
            "you have."
        ),
        (
            "Not run. You have called tools 10 times, which is all that you may. Answer now "
            "with what you have."
        ),
    ]
    run = Run(rules_of(calls_per_tool=20, seconds=30.0))
    said = []
    for n in range(21):
        run(key=str(n))
        said.append(run.told)
    assert said[17] == "You have 2 calls of tool left, of 20. Use them well."
    assert said[19] == (
        "tool was called 20 times, which is all that it may be. Use another tool, or answer "
        "with what you have."
    )
    run.now = 27.5
    run("other")
    assert run.told == "2 s are left of this run. Answer now with what you have."
    run.now = 30.0
    assert run("other") == Action.REFUSE
    assert run.told == (
        "Not run. The 30 s that you had have passed. Answer now with what you have."
    )


def test_warnings_of_two_kinds_are_both_given() -> None:
    run = Run(rules_of(calls=1, same_failures=1, tool_failures=1))
    run(ending=FAILURE)
    assert run.told is not None
    assert run.told.startswith("This same call of tool has failed once. ")
    assert "You have called tools once, which is all" in run.told
    assert "whatever its arguments" not in run.told


def test_a_tool_that_has_had_its_calls_leaves_those_of_others() -> None:
    run = Run(rules_of(calls_per_tool=1, patience=1))
    assert run("one") == run("other") == "warned"
    assert run("one") == run("other") == Action.REFUSE
    assert run("third") == "warned"
    assert run("one") == Action.STOP
    assert run.rules.stop_reason is Reason.CALLS_PER_TOOL


def test_unknown_names_share_no_tools_calls() -> None:
    run = Run(rules_of(calls_per_tool=1))
    assert [run("no", known=False) for _ in range(5)] == ["ok"] * 5


def test_seconds_warn_once_in_the_last_tenth_and_then_end_the_run() -> None:
    run = Run(rules_of(began=1000.0, seconds=60))
    seen = []
    for now in (1000.0, 1053.75, 1054.0, 1055.0, 1059.75, 1060.0, 1060.0, 1e9, 1e9):
        run.now = now
        seen.append(run(key=str(now)))
    assert as_table(seen) == "2 ok, 1 warned, 2 ok, 3 refuse, 1 stop"
    assert run.rules.stop_reason is Reason.SECONDS


def test_a_tenth_of_the_seconds_is_no_whole_number_of_them() -> None:
    run = Run(rules_of(seconds=15))
    assert run() == "ok"
    run.now = 13.5
    assert run(key="b") == "warned"
    assert run.told is not None
    assert run.told.startswith("1 s are left")


def test_a_call_that_ends_when_the_time_is_over_says_so() -> None:
    rules = rules_of(seconds=60)
    call = admitted(rules.before("tool", "a", 0.0))
    warning = rules.after(call, SUCCESS, 100.0)
    assert warning == "0 s are left of this run. Answer now with what you have."
    call = admitted(rules.before("tool", "a", 0.0))
    assert rules.after(call, SUCCESS, math.inf) is None  # it was said
    other = rules_of(seconds=60)
    call = admitted(other.before("tool", "a", 0.0))
    assert other.after(call, SUCCESS, math.inf) == warning
    assert other.before("tool", "a", math.inf).advice.startswith("Not run. The 60 s that")


def test_a_clock_that_goes_back_or_says_nothing_ends_no_run() -> None:
    run = Run(rules_of(seconds=60))
    for run.now in (-1e9, math.nan, 0.0):
        assert run(key=str(run.now)) == "ok"


# Side by side


@pytest.mark.parametrize("reason", ["calls", "calls_per_tool"])
def test_of_sixteen_side_by_side_with_one_call_left_one_runs(reason: str) -> None:
    rules = rules_of(**{reason: 4})
    run = Run(rules)
    for n in range(3):
        run(key=str(n))
    turn = rules.new_turn()
    decisions = [rules.before("tool", f"t{n}", 0.0, turn=turn) for n in range(16)]
    assert as_table([each.action for each in decisions]) == "1 run, 15 refuse"
    assert rules.stop_reason is None
    assert rules.calls == 4
    assert as_table([run(key="next") for _ in range(3)]) == "2 refuse, 1 stop"


@pytest.mark.parametrize("reason", ["calls", "calls_per_tool"])
def test_a_call_that_was_cancelled_gives_its_place_back_once(reason: str) -> None:
    rules = rules_of(**{reason: 2})
    first = admitted(rules.before("tool", "a", 0.0))
    second = admitted(rules.before("tool", "b", 0.0))
    assert rules.before("tool", "c", 0.0).action is Action.REFUSE
    rules.give_back(first)
    rules.give_back(first)
    assert rules.after(first, FAILURE, 0.0) is None
    third = rules.before("tool", "c", 0.0)
    assert third.action is Action.RUN
    assert rules.before("tool", "d", 0.0).action is Action.REFUSE
    rules.after(second, SUCCESS, 0.0)
    rules.give_back(second)
    assert rules.before("tool", "d", 0.0).action is Action.REFUSE
    assert rules.calls == 2


@pytest.mark.parametrize("reason", ["calls", "calls_per_tool"])
def test_a_call_whose_tool_had_begun_keeps_its_place(reason: str) -> None:
    rules = rules_of(**{reason: 2})
    first = admitted(rules.before("tool", "a", 0.0))
    second = admitted(rules.before("tool", "b", 0.0))
    first.entered = True
    rules.give_back(first)
    assert rules.calls == 2
    assert rules.before("tool", "c", 0.0).action is Action.REFUSE
    rules.give_back(second)
    assert rules.before("tool", "c", 0.0).action is Action.RUN
    assert rules.after(first, FAILURE, 0.0) is None
    assert rules.before("tool", "d", 0.0).action is Action.REFUSE


def test_an_unknown_call_can_be_given_back_too() -> None:
    rules = rules_of(calls=1, unknown=1)
    rules.give_back(admitted(rules.before("no", "a", 0.0, known=False)))
    assert rules.calls == 0
    assert rules.before("no", "a", 0.0, known=False).action is Action.UNKNOWN


def test_an_ending_that_is_told_twice_counts_once() -> None:
    rules = rules_of(same_failures=2)
    call = admitted(rules.before("tool", "a", 0.0))
    assert rules.after(call, FAILURE, 0.0) is None
    second = admitted(rules.before("tool", "a", 0.0))
    rules.after(second, SUCCESS, 0.0)
    rules.after(second, FAILURE, 0.0)
    third = admitted(rules.before("tool", "a", 0.0))
    rules.give_back(third)
    assert rules.after(third, FAILURE, 0.0) is None
    fourth = admitted(rules.before("tool", "a", 0.0))
    assert rules.after(fourth, FAILURE, 0.0) is None
    fifth = admitted(rules.before("tool", "a", 0.0))
    assert rules.after(fifth, FAILURE, 0.0) is not None
    rules.after(fifth, SUCCESS, 0.0)
    assert rules.before("tool", "a", 0.0).action is Action.REFUSE


@pytest.mark.parametrize("case", STREAKS)
def test_what_happens_in_one_turn_counts_once(case: str) -> None:
    rules = rules_of(**{case: 2}, patience=1)
    run, do = Run(rules), STREAKS[case]

    def a_turn() -> list[str]:
        turn = rules.new_turn()
        original = rules.before

        class Turned:
            after = staticmethod(rules.after)

            @staticmethod
            def before(*args: Any, **how: Any) -> Decision:
                return original(*args, **(how | {"turn": turn}))

        run.rules = Turned()  # type: ignore[assignment]
        return [do(run, turn * 100 + n) for n in range(10)]

    assert as_table(a_turn()) == "10 ok"
    # The rest of that turn is refused: what it repeats is known to be of no use.
    assert as_table(a_turn()) == "1 warned, 9 refuse"
    assert as_table(a_turn()) == "10 refuse"
    assert rules.stop_reason is None
    assert as_table(a_turn()) == "10 stop"


def test_calls_that_run_side_by_side_count_once_without_the_turn_being_named() -> None:
    rules = rules_of(same_failures=2)
    for expected in (["ok"] * 5, ["warned"] + ["ok"] * 4):
        calls = [admitted(rules.before("tool", "a", 0.0)) for _ in range(5)]
        warnings = [rules.after(call, FAILURE, 0.0) for call in calls]
        assert ["warned" if each else "ok" for each in warnings] == expected
    assert rules.before("tool", "a", 0.0).action is Action.REFUSE


def test_a_call_of_an_earlier_turn_that_fails_late_is_not_held_against_a_later_one() -> (
    None
):
    rules = rules_of(same_failures=2)
    slow = admitted(rules.before("tool", "a", 0.0))
    quick = admitted(rules.before("tool", "a", 0.0))
    assert rules.after(quick, FAILURE, 0.0) is None
    assert rules.after(slow, FAILURE, 0.0) is None
    assert rules.before("tool", "a", 0.0).action is Action.RUN


def test_a_call_may_end_after_the_run_was_stopped() -> None:
    rules = rules_of(same_failures=1, patience=0)
    running = admitted(rules.before("slow", "a", 0.0))
    run = Run(rules)
    run(ending=FAILURE)
    assert run() == Action.STOP
    assert rules.after(running, SUCCESS, 0.0) is None
    assert rules.stop_reason is Reason.SAME_FAILURES
    assert run("slow") == Action.STOP


# What really happened


def test_754_retries_of_a_tool_that_does_not_exist_end_at_the_ninth() -> None:
    run = Run(ConversationRules(ConversationPolicy(), 0.0))
    seen = [run("search_web", f"q{n % 2}", known=False) for n in range(754)]
    assert as_table(seen) == "4 ok, 1 warned, 3 refuse, 746 stop"
    assert run.rules.stop_reason is Reason.UNKNOWN


def test_1535_polls_of_a_status_end_at_the_seventh() -> None:
    run = Run(ConversationRules(ConversationPolicy(), 0.0))
    seen = [run("status", digest="pending") for _ in range(1535)]
    assert as_table(seen) == "2 ok, 1 warned, 3 refuse, 1529 stop"
    assert run.rules.stop_reason is Reason.SAME_RESULTS


def test_1535_polls_between_which_a_clock_is_read_end_with_the_calls() -> None:
    run = Run(ConversationRules(ConversationPolicy(), 0.0))
    seen = []
    for n in range(1535):
        seen += [run("status", digest="pending"), run("clock", digest=str(n))]
    assert seen.index(Action.STOP) < 210


def test_a_run_that_goes_on_asking_for_a_refused_tool_ends_at_the_seventh() -> None:
    run = Run(ConversationRules(ConversationPolicy(), 0.0))
    seen = [run("fetch", str(n), REFUSAL, retry_after=300.0) for n in range(100)]
    assert as_table(seen) == "2 ok, 1 warned, 3 refuse, 94 stop"
    assert run.rules.stop_reason is Reason.REFUSALS


# Memory


@pytest.mark.parametrize(
    "case", ["names", "unknown names", "arguments", "failures", "turns"]
)
def test_a_model_that_makes_things_up_takes_no_more_memory(case: str) -> None:
    rules = rules_of()
    run = Run(rules)
    turn = rules.new_turn()

    def make_up(n: int) -> None:
        match case:
            case "names":
                run(f"tool_{n}", ending=(SUCCESS, FAILURE, REFUSAL)[n % 3])
            case "unknown names":
                run(f"tool_{n}", known=False)
            case "arguments":
                run(key=call_key({"n": n}), digest=str(n))
            case "failures":
                run(key=str(n), ending=FAILURE)
                run(key=str(n), ending=REFUSAL, whole_tool=False)
            case "turns":
                run(key=str(n), turn=turn)

    for n in range(2 * MOST_KEPT):
        make_up(n)
    gc.collect()
    tracemalloc.start()
    try:
        for n in range(2 * MOST_KEPT, 8_000):
            make_up(n)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(rules._tools) <= MOST_KEPT
    assert len(rules._asked) <= MOST_KEPT
    # What is remembered now was made since, in place of what was remembered then.
    assert grown < 1_000 * MOST_KEPT


def test_what_was_asked_for_last_is_remembered() -> None:
    run = Run(rules_of(same_failures=3))
    run(ending=FAILURE)
    for n in range(MOST_KEPT - 1):
        run(key=str(n), ending=FAILURE)
    run(ending=FAILURE)
    for n in range(MOST_KEPT - 1):
        run(key=f"more {n}", ending=FAILURE)
    assert run(ending=FAILURE) == "warned"
    for n in range(MOST_KEPT):
        run(key=str(n), ending=FAILURE)
    assert run(ending=FAILURE) == "ok"


def test_a_call_that_is_forgotten_while_it_runs_may_end() -> None:
    rules = rules_of(same_failures=1)
    running = admitted(rules.before("tool", "a", 0.0))
    for n in range(2 * MOST_KEPT):
        rules.give_back(admitted(rules.before(f"tool_{n}", str(n), 0.0)))
    assert rules.after(running, FAILURE, 0.0) is not None
    assert rules.before("tool", "a", 0.0).action is Action.RUN


# Beside a model that keeps all that happened, and counts it anew each time

limits = st.sampled_from([None, 1, 2, 2, 3, 4])
policies = st.builds(
    ConversationPolicy,
    same_failures=limits,
    tool_failures=st.sampled_from([None, 2, 3, 5]),
    same_results=st.sampled_from([None, 2, 3]),
    refusals=limits,
    unknown=limits,
    calls_per_tool=st.sampled_from([None, None, 5, 9]),
    calls=st.sampled_from([None, None, 12, 30]),
    seconds=st.sampled_from([None, None, 20.0]),
    patience=st.sampled_from([None, 0, 1, 2, 3]),
)
totals = st.builds(
    ConversationPolicy,
    **{each: st.none() for each in OFF | {"patience": None}}
    | {each: st.sampled_from([None, 2, 3, 4]) for each in ("calls", "calls_per_tool")},
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "ask", "end", "end", "turn", "give back"]),
        st.sampled_from(["one", "one", "other", "no"]),
        st.sampled_from("aaab"),
        st.sampled_from([*Ending, FAILURE, SUCCESS, SUCCESS]),
        st.sampled_from("xxxy"),
        st.tuples(st.booleans(), st.booleans(), st.booleans()),
        st.sampled_from([None, None, 0.5, 3.0]),
    ),
    min_size=20,  # or most of them end before they come to a limit
    max_size=80,
)


@settings(max_examples=300)
@given(st.one_of(policies, policies, totals), steps)
def test_a_run_goes_as_in_the_model(policy: ConversationPolicy, script: list[Any]) -> None:
    rules, slow = ConversationRules(policy, 0.0, ["o*"]), Slow(policy)
    running: list[tuple[Call, Event]] = []
    now, turn = 0.0, None

    def end(
        index: int, ending: Ending, digest: str, whole: bool, wait: float | None
    ) -> None:
        call, event = running.pop(index)
        if event.name == "no":
            ending = Ending.UNKNOWN
        event.what, event.digest, event.whole = str(ending), digest, whole
        event.until = math.inf if wait is None else now + wait
        how: Any = {"digest": digest, "retry_after": wait, "whole_tool": whole}
        warning = rules.after(call, ending, now, **how)
        assert reasons_of(warning or "") == slow.after(event, now)

    for what, name, key, ending, digest, (polling, whole, at_once), wait in script:
        now += 0.5
        if what == "turn":
            turn = rules.new_turn() if turn is None or at_once else None
            slow.latest += turn is not None
        elif what == "ask":
            if not slow.stopped and turn is None:
                slow.latest += 1
            event = Event(
                turn=slow.latest if turn is None else turn,
                name=name,
                key=key,
                known=name != "no",
                polling=polling,
            )
            decision = rules.before(name, key, now, polling=polling, turn=turn)
            assert (decision.action, decision.reason) == slow.before(event, now)
            if decision.call is None:
                assert decision.advice
            else:
                running.append((decision.call, event))
                if at_once:
                    end(-1, ending, digest, whole, wait)
        elif running and what == "end":
            end(0 if polling else -1, ending, digest, whole, wait)
        elif running:
            call, event = running.pop(0 if polling else -1)
            call.entered = event.entered = whole
            rules.give_back(call)
            slow.give_back(event)
        assert rules.calls == slow.total
        assert rules.stop_reason == slow.stopped


@settings(max_examples=200)
@given(policies, steps)
def test_nothing_is_refused_below_the_limits_and_all_is_stopped_after_a_stop(
    policy: ConversationPolicy, script: list[Any]
) -> None:
    rules = ConversationRules(policy, 0.0)
    run = Run(rules)
    seen: dict[str, int] = dict.fromkeys(OFF, 0)
    stopped = False
    for _, name, key, ending, digest, (polling, whole, _), wait in script:
        known = name != "no"
        outcome = run(
            name, key, ending, digest,
            polling=polling, known=known, whole_tool=whole, retry_after=wait,
        )  # fmt: skip
        assert not stopped or outcome == Action.STOP
        stopped = outcome == Action.STOP
        if outcome in (Action.REFUSE, Action.STOP):
            assert run.reason is not None
            limit = getattr(policy, run.reason)
            assert limit is not None
            assert seen[run.reason] >= limit
            assert not stopped or policy.patience is not None
        else:
            # At the most so often: of all calls, and never beginning anew.
            ending = ending if known else Ending.UNKNOWN
            seen["calls"] += 1
            seen["calls_per_tool"] += known
            seen["unknown"] += ending is Ending.UNKNOWN
            seen["refusals"] += ending is REFUSAL
            seen["same_results"] += ending is SUCCESS
            failed = ending in (FAILURE, Ending.INVALID)
            seen["same_failures"] += failed
            seen["tool_failures"] += failed
    assert len(rules._asked) <= 6


def test_a_result_is_the_same_by_what_its_digest_says() -> None:
    run = Run(rules_of(same_results=2))
    assert [run(digest="".join(["same", each])) for each in ("a", "a")] == ["ok", "warned"]


def test_a_long_patience_has_an_end() -> None:
    run = Run(rules_of(calls=1, patience=300))
    run()
    assert as_table([run() for _ in range(300)]) == "300 refuse"
    assert run.told is not None
    assert run.told.endswith("once more, this run is ended.")
    assert run() == Action.STOP


def test_a_run_that_is_closed_lets_nothing_through_and_keeps_why_it_ended() -> None:
    rules = rules_of()
    rules.close()
    assert rules.before("tool", "a", 0.0) == (Action.STOP, None, OVER, None)
    rules = rules_of(calls=1, patience=0)
    run = Run(rules)
    run()
    assert run() == Action.STOP
    rules.close()
    assert rules.before("tool", "a", 0.0).reason is Reason.CALLS


def test_a_tool_polls_only_where_that_is_said() -> None:
    rules, said = rules_of(same_results=2), []
    for _ in range(2):
        call = admitted(rules.before("tool", "a", 0.0))
        said.append(rules.after(call, SUCCESS, 0.0, digest="same"))
    assert said[0] is None
    assert said[1] is not None


def test_a_refusal_in_an_earlier_turn_than_the_last_one_is_not_counted() -> None:
    rules = rules_of(calls=1, patience=1)
    run, earlier = Run(rules), rules.new_turn()
    run()
    assert run() == Action.REFUSE
    assert [run(turn=earlier) for _ in range(3)] == [Action.REFUSE] * 3
    assert run() == Action.STOP


def test_what_is_not_known_again_is_never_the_same_result() -> None:
    run = Run(rules_of(same_results=2))
    for digest in (None, None, None, "a", None, "a", None, None):
        assert run(digest=digest) == "ok"
    assert run(digest="a") == "ok"
    assert run(digest="a") == "warned"


def test_calls_that_are_not_known_again_are_never_the_same() -> None:
    run = Run(rules_of(same_failures=2, same_results=2, tool_failures=9))
    for ending in (FAILURE, SUCCESS):
        for _ in range(8):
            assert run(key=None, ending=ending, digest="a") == "ok"
    assert not run.rules._asked
    for _ in range(8):
        run(key=None, ending=FAILURE)
    assert run(key=None, ending=FAILURE) == "warned"
    assert run(key=None) == Action.REFUSE
    assert run.reason is Reason.TOOL_FAILURES


# Keys of calls

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
arguments = st.dictionaries(st.text(max_size=4), json_values, max_size=5)


def turned(value: Any) -> Any:
    """
    The same value with the members of each object in the opposite order.
    """
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return [turned(each) for each in value]
    return value


@settings(max_examples=100)
@given(arguments, st.sampled_from([None, 2, "\t"]), st.booleans())
def test_the_same_arguments_have_one_key_however_they_are_written(
    value: dict[str, Any], indent: Any, ascii_only: bool
) -> None:
    key = call_key(value)
    assert key is not None
    assert len(key) == 32
    text = json.dumps(turned(value), indent=indent, ensure_ascii=ascii_only)
    assert call_key(text) == call_key(f"\n {text} ") == key
    assert call_key(MappingProxyType(turned(value))) == key
    assert call_key(text.encode("utf-8", "surrogatepass")) == key
    assert call_key(OrderedDict(turned(value))) == key


@settings(max_examples=100)
@given(arguments, arguments)
def test_other_arguments_have_another_key(one: Any, other: Any) -> None:
    plain = [json.dumps(each, sort_keys=True) for each in (one, other)]
    assert (call_key(one) == call_key(other)) == (plain[0] == plain[1])


def test_values_that_python_takes_for_equal_are_told_apart() -> None:
    values = ["1", "1.0", "true", '"1"', "-1", "0", "0.0", "-0.0", "false", "null", '""']
    values += ["[]", "[1]", "[[1]]", "[1, 1]", "{}", '{"a": 1}', '["a", 1]', "NaN"]
    values += ["Infinity", "-Infinity", '"N"', "16", '"None"', '"True"', '["", ""]', '[""]']
    assert len({call_key(f'{{"a": {value}}}') for value in values}) == len(values)
    assert call_key({"a": 1, "b": 2}) != call_key({"a": 2, "b": 1})
    assert call_key({"a": "b"}) != call_key({"ab": ""})


@pytest.mark.parametrize(
    "nothing", [None, {}, "", " \n", "{}", " { } ", "null", b"", b"{}"], ids=repr
)
def test_no_arguments_are_an_empty_object(nothing: Any) -> None:
    assert call_key(nothing) == call_key({})


def test_text_that_is_no_json_is_taken_as_it_is_written() -> None:
    texts = ['{"a": ', "{'a': 1}", "a", "b", '{"a": 1} {', "a ", "﻿{}", "\ud800", "[" * 5000]
    texts += ['{"a": ' + "1" * 5000 + "}", '{"a": ' + "2" * 5000 + "}"]
    texts += ["d0;", "d1;s1:ai1;"]  # what is made of objects, to be read by nobody
    assert len({call_key(each) for each in (*texts, "{}", '{"a": 1}')}) == len(texts) + 2
    assert [call_key(each) for each in texts] == [call_key(f"{each}") for each in texts]


def test_lone_surrogates_are_told_apart() -> None:
    assert call_key({"a": "\ud800"}) == call_key('{"a": "\\ud800"}')
    assert call_key({"a": "\ud800"}) != call_key({"a": "\ud801"})
    assert result_key("\ud800") != result_key("\ud801")


def test_not_a_number_is_the_same_as_itself() -> None:
    assert call_key({"a": math.nan}) == call_key('{"a": NaN}')
    assert call_key({"a": math.nan}) != call_key({"a": math.inf})


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 16


class Part(float):
    def __repr__(self) -> str:
        raise AssertionError("nobody asks")


class Row(list[Any]):
    pass


class Mute:
    def __init__(self, secret: int = 0) -> None:
        self.secret = secret

    def __repr__(self) -> str:
        raise RuntimeError("not to be looked at")


class Broken(dict[str, Any]):
    def __iter__(self) -> Any:
        raise RuntimeError("not to be looked at")

    items = keys = values = __iter__


def test_what_json_would_make_of_a_value_is_what_counts() -> None:
    odd = {"a": Colour.RED, "b": Level.HIGH, "c": Part(0.5), "d": (1, Row([2]))}
    assert call_key(odd) == call_key({"a": "red", "b": 16, "c": 0.5, "d": [1, [2]]})


def test_what_json_does_not_have_is_told_apart_too() -> None:
    values = [
        date(2020, 1, 1), date(2020, 1, 2), Decimal("1"), Decimal("1.0"), b"1", b"\xff",
        b"\xfe", {1}, {2}, 1j, None, "", [], {},
    ]  # fmt: skip
    assert len({call_key({"a": value}) for value in values}) == len(values)
    assert call_key({"a": date(2020, 1, 1)}) == call_key({"a": date(2020, 1, 1)})
    assert None not in {call_key({"a": value}) for value in values}
    assert call_key({"a": b"1"}) == call_key({"a": bytearray(b"1")})


def test_names_that_are_no_text_and_cannot_be_compared() -> None:
    assert call_key({1: "a", "1": "b"}) != call_key({1: "b", "1": "a"})
    assert call_key({2: "a", 1: "b"}) == call_key({1: "b", 2: "a"})


@pytest.mark.parametrize(
    "thing", [Mute(), Broken(a=1), [Broken(a=1)], object(), Ellipsis, iter([1]), Mute]
)
def test_what_is_not_plain_is_not_known_again(thing: Any) -> None:
    assert call_key(thing) is None
    assert call_key({"a": thing}) is None
    assert call_key({"a": [1, {"b": thing}]}) is None


def test_what_lies_about_its_class_is_not_known_again() -> None:
    class Liar:
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            raise RuntimeError("not to be looked at")

    assert call_key(Liar()) is None


@settings(max_examples=100)
@given(st.text() | st.binary())
def test_any_text_has_a_key(text: Any) -> None:
    assert call_key(text) is not None
    assert call_key(text) == call_key(type(text)(text))


def test_cycles_and_depth_come_to_an_end() -> None:
    cycle: dict[str, Any] = {"a": 1}
    cycle["self"] = cycle
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    other = [deep]
    assert call_key(cycle) is None
    assert call_key({"a": deep}) is call_key({"a": other}) is None
    inner: Any = []
    for _ in range(900):
        inner = [inner]
    assert call_key({"a": inner}) == call_key(json.dumps({"a": inner}))
    while deep != 1:  # taken apart by hand, as its end would recurse
        other, deep = deep, deep[0]


class Counting(dict[str, Any]):
    """
    Counts how many of its members are looked at.
    """

    looked = 0

    def items(self) -> Any:
        for item in super().items():
            Counting.looked += 1
            yield item


def test_what_is_too_large_is_read_no_further_and_is_not_known_again() -> None:
    Counting.looked = 0
    assert call_key(Counting.fromkeys(map(str, range(100_000)), 1)) is None
    assert 1_000 < Counting.looked <= 5_001
    block: Any = [0] * 4_999
    for _ in range(300):
        block = [block, *[0] * 4_998]
    tracemalloc.start()
    try:
        assert call_key({"a": block}) is None
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert call_key({str(n): n for n in range(50_000)}) is None
    assert call_key({"a": "x" * (MOST_TEXT + 1)}) is None
    assert call_key({"a": ["x" * (MOST_TEXT // 2)] * 3}) is None
    assert call_key({"a": Row([0] * 6_000)}) is None
    assert call_key({"a": b"x" * (MOST_TEXT + 1)}) is None
    text = "x" * MOST_TEXT
    for key in (call_key, lambda text: call_key(text.encode())):
        assert key(text) is not None
        assert key(f"{text}y") is None


def test_what_is_just_not_too_large_is_told_apart_by_its_last_value() -> None:
    # A name, the list and its values.
    many = [0] * 4_998
    assert call_key({"a": many}) == call_key({"a": list(many)})
    assert call_key({"a": many}) is not None
    assert call_key({"a": many}) != call_key({"a": [*many[1:], 1]})
    assert call_key({"a": [*many, 0]}) is None
    assert call_key({"a": tuple(many)}) == call_key({"a": many})
    assert call_key({"a": (*many, 0)}) is None
    wide = {str(n): n for n in range(2_500)}
    assert call_key(wide) not in (None, call_key({**wide, "2499": -1}))
    assert call_key({**wide, "more": 0}) is None
    assert call_key(Row([0] * 5_000)) == call_key([0] * 5_000) is not None
    assert call_key(Row([0] * 5_001)) is None
    text = "x" * (MOST_TEXT - 2)
    assert call_key({"a": text + "x"}) not in (None, call_key({"a": text + "y"}))
    assert call_key({"a": text + "xy"}) is None
    assert call_key(text) not in (None, call_key(text + "x"), call_key("y" + text))


def test_long_or_crowded_json_is_taken_as_it_is_written() -> None:
    crowded = json.dumps({"a": [0] * 3_100})
    assert call_key(crowded) != call_key(crowded.replace(" ", ""))
    long = json.dumps({"a": "x" * 100_000})
    assert call_key(long) != call_key(long.replace(" ", ""))
    fits = json.dumps({"a": "x" * 99_000, "b": [0] * 300})
    assert call_key(fits) == call_key(fits.replace(" ", ""))
    for size, is_read in ((100_000, True), (100_001, False)):
        text = json.dumps({"a": "x" * (size - len('{"a": ""}'))})
        assert len(text) == size
        assert (call_key(text) == call_key(json.loads(text))) is is_read


def test_results_are_the_same_if_their_text_is() -> None:
    assert result_key("a") == result_key("a")
    assert (
        len({result_key(each) for each in ("", "a", "a ", "A", '{"a": 1}', '{"a":1}')}) == 6
    )
