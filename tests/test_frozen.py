from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from orchestrator_async import (
    CallFinished,
    CallRejected,
    CircuitState,
    Outcome,
    ToolContext,
    ToolResult,
    Verdict,
)
from orchestrator_async._calls import context_for_judges, result
from orchestrator_async._events import finished, rejected
from orchestrator_async._frozen import quick
from orchestrator_async._outcome import outcome_of

FINISHED: dict[str, Any] = {
    "tool_name": "search",
    "call_id": None,
    "arguments": {},
    "context": {},
    "verdict": Verdict.SUCCESS,
    "late": False,
    "duration": 0.5,
    "value": "x",
    "error": None,
    "state": CircuitState.CLOSED,
}
REJECTED: dict[str, Any] = {
    "tool_name": "search",
    "call_id": "1",
    "arguments": None,
    "context": {},
    "reason": "limit",
    "retry_after": 1.0,
    "state": None,
}


@pytest.mark.parametrize(
    ("make", "cls", "given"),
    [
        (finished, CallFinished, FINISHED),
        (rejected, CallRejected, REJECTED),
        (result, ToolResult, {"name": "search", "ok": True}),
        (outcome_of, Outcome, {"value": 1, "duration": 0.5}),
    ],
)
def test_a_quick_record_is_that_record(make: Any, cls: Any, given: dict[str, Any]) -> None:
    made, usual = make(**given), cls(**given)
    assert type(made) is cls
    for name in (each.name for each in dataclasses.fields(cls)):
        assert getattr(made, name) == getattr(usual, name)
    assert repr(made) == repr(usual)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, next(iter(given)), None)
    with pytest.raises((AttributeError, TypeError)):
        made.more = 1
    for again in (copy.copy(made), pickle.loads(pickle.dumps(made))):
        assert type(again) is cls
        assert repr(again) == repr(made)
    name, value = next(iter(given.items()))
    assert getattr(dataclasses.replace(made, **{name: "7"}), name) == "7" != value


def test_a_record_by_position_has_the_order_of_its_fields() -> None:
    made = rejected(*REJECTED.values())
    assert (made.tool_name, made.reason, made.retry_after) == ("search", "limit", 1.0)


def test_a_default_that_is_made_anew_is_to_be_given() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
    class Holder:
        items: list[int] = dataclasses.field(default_factory=list)
        name: str = "x"

    make = quick(Holder)
    assert make("y", items=[1]) == Holder(items=[1], name="y")
    with pytest.raises(TypeError, match="items"):
        make("y")


def test_what_a_judge_is_told_is_a_context_like_any_other() -> None:
    made = context_for_judges("search", "c1", {"user": "ada"})
    usual = ToolContext(tool_name="search", call_id="c1", data={"user": "ada"})
    assert type(made) is ToolContext
    assert made == usual
    assert copy.copy(made) == copy.deepcopy(made) == usual
    made.report_progress(1)  # to nobody
