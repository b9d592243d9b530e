"""
A fleet at the mercy of chance, briefly. ``python -m tests.fleet chaos`` goes on for longer.
"""

from __future__ import annotations

from functools import partial

from .chaos import ChaosResult, run_chaos
from .conftest import cases


@cases(*((f"seed {seed}", partial(run_chaos, seconds=8.0, seed=seed)) for seed in (1, 2)))
def test_after_whatever_it_was_a_fleet_is_one_again(found: ChaosResult) -> None:
    assert found.rounds
    assert not list(found.violations())
