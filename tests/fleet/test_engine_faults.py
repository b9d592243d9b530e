"""
Whatever an engine does, callers notice nothing, and the fleet is one again soon.
"""

from __future__ import annotations

from functools import partial

from .cases import FaultResult, PatienceResult, run_fault, run_patience
from .conftest import cases
from .faults import FAULTS


@cases(("mixed", partial(run_patience, "mixed")))
def test_a_process_is_not_kept_open_by_an_engine_that_says_nothing(
    found: PatienceResult,
) -> None:
    assert not list(found.violations())


SECONDS = {"stopped": 3.0, "black hole": 3.0}
"""For how long, where that must be longer than an answer is waited for."""


@cases(
    *((name, partial(run_fault, name, seconds=SECONDS.get(name, 1.5))) for name in FAULTS)
)
def test_a_fault_of_the_engine_while_a_tool_is_dead(found: FaultResult) -> None:
    assert not list(found.violations())


@cases(
    *(
        (name, partial(run_fault, name, seconds=1.5, trips_within=True))
        for name in ("stopped", "killed", "read-only")
    )
)
def test_a_tool_that_dies_while_the_engine_is_out_of_order(found: FaultResult) -> None:
    assert not list(found.violations())
