"""
The process that probes for the fleet dies, or sleeps for longer than its lease.
"""

from __future__ import annotations

from functools import partial

from .cases import SLEEPERS, ProberResult, run_killed_prober, run_sleeping_prober
from .conftest import cases


@cases(
    ("asyncio", partial(run_killed_prober, "asyncio")),
    ("trio", partial(run_killed_prober, "trio")),
)
def test_the_next_probe_comes_when_the_lease_of_a_dead_process_ends(
    found: ProberResult,
) -> None:
    assert not list(found.violations())


@cases(
    *(
        (
            f"{loops}: {stale} {'before' if wakes_first else 'after'} {fresh}",
            partial(
                run_sleeping_prober,
                loops,
                stale=stale,
                fresh=fresh,
                wakes_first=wakes_first,
            ),
        )
        for loops, (stale, fresh, wakes_first) in zip(
            ["asyncio", "trio", "mixed", "trio"], SLEEPERS, strict=True
        )
    )
)
def test_the_verdict_of_one_that_slept_decides_nothing(found: ProberResult) -> None:
    assert not list(found.violations())
