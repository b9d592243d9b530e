"""
A case of a fleet, in the size in which it is to hold.

    python -m tests.fleet windows --loops trio
    python -m tests.fleet faults --processes 8 --tasks 200
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, Final

from . import cases
from .chaos import run_chaos
from .faults import FAULTS
from .fleet import LOOPS

Case = Callable[[argparse.Namespace], Iterator[tuple[str, Any]]]


def windows(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    for impatience in (0.0, 0.02):
        found = cases.run_windows(
            options.loops,
            processes=options.processes,
            tasks=options.tasks,
            every=options.every,
            number=30,
            reset_timeout=0.4,
            impatience=impatience,
        )
        yield ("impatient callers" if impatience else "patient callers"), found


def prober(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    size: dict[str, Any] = {
        "processes": options.processes,
        "tasks": options.tasks,
        "every": options.every,
    }
    yield "killed", cases.run_killed_prober(options.loops, **size)
    for stale, fresh, wakes_first in cases.SLEEPERS:
        when = "before" if wakes_first else "after"
        found = cases.run_sleeping_prober(
            options.loops, stale=stale, fresh=fresh, wakes_first=wakes_first, **size
        )
        yield f"stale {stale}, {when} {fresh}", found


def faults(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    for name in options.fault or FAULTS:
        for trips_within in (False, True):
            found = cases.run_fault(
                name,
                options.loops,
                trips_within=trips_within,
                processes=options.processes,
                tasks=options.tasks,
                every=options.every,
            )
            yield f"{name}, {'trips within' if trips_within else 'open'}", found


def patience(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    found = cases.run_patience(
        options.loops,
        processes=options.processes,
        tasks=options.tasks,
        every=options.every,
        stopped=60.0,
        well_after=10.0,
    )
    yield "stopped for 60 s", found


def news(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    found = cases.run_news(options.loops, processes=options.processes, rounds=100)
    half, most = found.median * 1000, found.late * 1000
    yield f"OPEN seen after {half:.1f} ms by half, {most:.1f} ms by 95 %", found


def chance(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    seconds, seed = options.seconds, options.seed
    yield f"seed {seed}", run_chaos(seconds=seconds, seed=seed)


CASES: Final[dict[str, Case]] = {
    "windows": windows,
    "prober": prober,
    "faults": faults,
    "patience": patience,
    "news": news,
    "chaos": chance,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description=__doc__)
    parser.add_argument("case", nargs="?", choices=CASES, help="default: all of them")
    parser.add_argument("--loops", choices=LOOPS, default="mixed")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--every", type=float, default=1.0, help="seconds, of each task")
    parser.add_argument("--seconds", type=float, default=300.0, help="of chaos")
    parser.add_argument("--seed", type=int, default=1, help="of chaos")
    parser.add_argument("--fault", action="append", choices=FAULTS)
    options = parser.parse_args()
    wanted = [options.case] if options.case else list(CASES)
    return max(run(case, options) for case in wanted)


def run(case: str, options: argparse.Namespace) -> int:
    """
    Run a case, and print what has come of it: 1 if something was not as it should be.
    """
    failed = 0
    for name, found in CASES[case](options):
        violations = list(found.violations())
        failed = failed or int(bool(violations))
        print(f"{case}, {options.loops}: {name}: {violations or 'as it should be'}")
        for each in fields(found):
            print(f"    {each.name}: {getattr(found, each.name)}")
        sys.stdout.flush()
    return failed


if __name__ == "__main__":
    sys.exit(main())
