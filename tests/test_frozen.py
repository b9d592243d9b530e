from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from orchestrator_async import CallFinished, CallRejected, CircuitState, ToolResult, Verdict
from orchestrator_async._calls import result
from orchestrator_async._events import finished, rejected
from orchestrator_async._frozen import quick

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
    ],
)
def test_a_quick_record_is_that_record(make: Any, cls: Any, given: dict[str, Any]) -> None:
    made, usual = make(**given), cls(**given)
    assert type(made) is cls
    for name in cls.__slots__:
        assert getattr(made, name) == getattr(usual, name)
    assert repr(made) == repr(usual)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.call_id = None
    with pytest.raises((AttributeError, TypeError)):
        made.more = 1
    for again in (copy.copy(made), pickle.loads(pickle.dumps(made))):
        assert type(again) is cls
        assert repr(again) == repr(made)
    assert dataclasses.replace(made, call_id="7").call_id == "7"


def test_a_record_by_position_has_the_order_of_its_fields() -> None:
    made = rejected(*REJECTED.values())
    assert (made.tool_name, made.reason, made.retry_after) == ("search", "limit", 1.0)


def test_a_default_that_is_made_anew_is_no_quick_records() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
    class Holder:
        items: list[int] = dataclasses.field(default_factory=list)

    with pytest.raises(TypeError, match="items"):
        quick(Holder)
