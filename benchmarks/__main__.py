"""
Measures what the library costs, against what a user would write without it.

    python -m benchmarks                  all of it: some minutes
    python -m benchmarks --smoke          whether it runs: some seconds, no figures
    python -m benchmarks --loop trio      on one loop; may be given again
    python -m benchmarks --json PATH      the figures to a file as well
    python -m benchmarks --check          exit status 1 if a goal is missed

Everything is at its defaults: the clock is ``time.monotonic``, calls are counted, every
result is judged. The cases of one group are measured in turn, in batches of about a
millisecond, a hundred times; a ratio is the median of the rounds' ratios (see
``measure``). What is compared is written out in ``calls``, ``parts``, ``tasks`` and
``footprint``. ``outage`` counts calls in place of time.

The goals are for asyncio on CPython 3.12. On the other loops they are shown, and only
there to be looked at: ``--check`` and the last line go by asyncio's.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import logging
import math
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import anyio

from . import calls, outage, parts, tasks
from .footprint import footprint
from .measure import SMOKE, Effort, Row

LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {}),
    "asyncio+uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}

JUDGED = ("asyncio", "any")
"""Where a goal counts."""

GROUPS = (
    calls.closed,
    calls.refused,
    calls.timed,
    calls.threaded,
    calls.grouped,
    parts.parts,
    outage.outage,
    tasks.many,
)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Measure, print, and say by the exit status how it went.
    """
    options = _parser().parse_args(argv)
    # A failing call and an opening circuit log; what the disk takes is not measured.
    for name in ("orchestrator_async", "stamina"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    effort = SMOKE if options.smoke else Effort()
    print(f"{platform.python_implementation()} {platform.python_version()}")
    rows: list[Row] = []
    for loop in options.loop or _loops():
        rows += _show(loop, measure(loop, effort))
    rows += _show("any loop", footprint(effort))
    if options.json is not None:
        options.json.write_text(json.dumps(_record(rows), indent=2) + "\n")
    broken = [row for row in rows if not _is_measured(row)]
    for row in broken:
        print(f"not measured: {row.name} on {row.loop}: {row.figure}", file=sys.stderr)
    if options.smoke:
        print(f"{len(rows)} figures, {len(broken)} broken; too few repeats to be read")
        return 1 if broken else 0
    missed = _summarize(rows)
    return 1 if broken or (missed and options.check) else 0


def measure(loop: str, effort: Effort) -> list[Row]:
    """
    All figures of one loop.
    """

    async def all_groups() -> list[Row]:
        return [row for group in GROUPS for row in await group(loop, effort)]

    backend, backend_options = LOOPS[loop]
    return anyio.run(all_groups, backend=backend, backend_options=backend_options)


def _loops() -> Iterable[str]:
    return [name for name in LOOPS if "uvloop" not in name or _has("uvloop")]


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--smoke", action="store_true", help="only see that it runs")
    parser.add_argument("--loop", action="append", choices=LOOPS, help="only this loop")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there")
    parser.add_argument("--check", action="store_true", help="fail if a goal is missed")
    return parser


def _is_measured(row: Row) -> bool:
    return all(math.isfinite(each) and each > 0 for each in (row.cost, row.figure))


def _show(title: str, rows: list[Row]) -> list[Row]:
    print(f"\n{title:36} {'cost':>17} {'ratio':>7}  {'to':20} {'goal':>8}")
    for row in rows:
        cost = f"{row.cost:,.1f}" if row.cost < 100 else f"{row.cost:,.0f}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        print(
            f"{row.name:36} {cost:>9} {row.unit:7} {ratio:>7}  {row.against:20} {_goal(row)}"
        )
    sys.stdout.flush()
    return rows


def _goal(row: Row) -> str:
    if row.goal is None:
        return ""
    sign = ">=" if row.at_least else "<="
    return f"{sign} {row.goal:<7,g} {'ok' if row.met else 'missed'}"


def _summarize(rows: list[Row]) -> list[Row]:
    judged = [row for row in rows if row.goal is not None and row.loop in JUDGED]
    missed = [row for row in judged if not row.met]
    names = ": " + "; ".join(row.name for row in missed) if missed else ""
    print(f"\n{len(judged) - len(missed)} of {len(judged)} goals met{names}")
    return missed


def _record(rows: list[Row]) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "machine": platform.machine(),
        "rows": [{**dataclasses.asdict(row), "met": row.met} for row in rows],
    }


if __name__ == "__main__":
    sys.exit(main())
