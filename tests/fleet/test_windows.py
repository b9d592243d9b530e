"""
A dead tool is called once in each half-open window, by one process of the whole fleet.
"""

from __future__ import annotations

from functools import partial

import pytest

from .cases import WindowsResult, run_windows
from .conftest import cases


@cases(
    ("asyncio", partial(run_windows, "asyncio")),
    ("trio", partial(run_windows, "trio")),
    ("mixed", partial(run_windows, "mixed")),
)
def test_one_call_a_window_in_the_whole_fleet(found: WindowsResult) -> None:
    assert not list(found.violations())


@cases(
    ("asyncio", partial(run_windows, "asyncio", impatience=0.003)),
    ("trio", partial(run_windows, "trio", impatience=0.003)),
    ("uvloop", partial(run_windows, "uvloop", impatience=0.003)),
)
def test_callers_that_give_up_while_they_ask_cost_no_window(found: WindowsResult) -> None:
    assert not list(found.violations())
    assert found.callers.given_up
    # What was asked for was there for the next caller: nobody waited for a lease to end.
    assert found.windows.longest < found.reset_timeout + 1.0


@cases(("two on their own", partial(run_windows, "mixed", shared=False)))
def test_processes_on_their_own_are_found_out(found: WindowsResult) -> None:
    assert found.windows.extra > 0
    assert any("more than one a window" in each for each in found.violations())


@pytest.mark.parametrize("processes", [1])
def test_nothing_is_found_where_there_is_nothing(processes: int) -> None:
    found = run_windows("asyncio", processes=processes, number=3, shared=False)
    assert not list(found.violations())
