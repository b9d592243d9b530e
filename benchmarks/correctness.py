"""
Eight things that befall a circuit breaker, on this library and on its peers, as a table.

    python -m benchmarks.correctness                 whoever is installed
    python -m benchmarks.correctness --only hyx      one library; may be given again
    python -m benchmarks.correctness --json PATH     the verdicts to a file as well

``make peers`` installs the peers beside this library, in an environment of their own, and
runs it. Each cell of the table is a process of its own, so that a library which blocks or
spins costs its own cell, and nothing is left over for the next. The exit status is 1 if
this library is not right in every scenario, whatever the peers do.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import anyio

from .bench import LIMIT, Mark, Verdict, judge
from .peers import MODULES, NOT_INSTALLED, OURS
from .scenarios import SCENARIOS
from .table import Row, as_json, as_text

LOOPS = {"trio": f"{OURS}, trio"}
"""Loops but for asyncio, and the row that they are in: this library's alone."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run what is asked for, print it, and say by the exit status how this library did.
    """
    options = _parser().parse_args(argv)
    if options.cell:
        return _run_cell(*options.cell)
    rows = table(options.only or list(MODULES))
    print(as_text(rows))
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(rows), indent=2) + "\n")
    return status(rows)


def status(rows: Sequence[Row]) -> int:
    """
    1 if this library has any fault, or was not asked everything.
    """
    ours = [each for row in rows if row.is_ours for each in row.verdicts.values()]
    return int(any(each.mark is not Mark.RIGHT for each in ours))


def table(names: Sequence[str]) -> list[Row]:
    """
    One row a library, in the order of ``MODULES``, and one for each further loop.
    """
    rows = [_row(name, name) for name in MODULES if name in names]
    if OURS in names:
        rows[1:1] = [_row(OURS, title, loop) for loop, title in LOOPS.items()]
    # The cells mostly wait, so several run at one time.
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1)) as pool:
        asked = {
            (row.title, scenario): pool.submit(_ask, row, scenario)
            for row in rows
            if not row.missing
            for scenario in SCENARIOS
        }
    for row in rows:
        if not row.missing:
            row.verdicts.update(
                (each, asked[row.title, each].result()) for each in SCENARIOS
            )
    return rows


def _row(name: str, title: str, loop: str = "asyncio") -> Row:
    try:
        found, missing = version(name), ""
    except PackageNotFoundError:
        found, missing = "", _why_missing(name)
    return Row(name=name, title=title, loop=loop, version=found, missing=missing)


def _why_missing(name: str) -> str:
    reasons = Path(sys.prefix) / NOT_INSTALLED
    told = json.loads(reasons.read_text()) if reasons.exists() else {}
    return str(told.get(name, "not installed"))


def _ask(row: Row, scenario: str) -> Verdict:
    command = [sys.executable, "-m", "benchmarks.correctness", "--cell"]
    try:
        done = subprocess.run(
            [*command, row.name, scenario, row.loop],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT * 2,
        )
    except subprocess.TimeoutExpired:
        return Verdict(mark=Mark.FAULT, says="blocks the event loop")
    if done.returncode:
        last = (done.stderr.strip() or "no word").splitlines()[-1]
        return Verdict(mark=Mark.BROKEN, says=last[:200])
    told = json.loads(done.stdout.splitlines()[-1])
    return Verdict(mark=Mark(told["mark"]), says=told["says"])


def _run_cell(name: str, scenario: str, loop: str) -> int:
    # What the libraries log and warn of is not what is asked.
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    adapter = importlib.import_module(f".peers.{MODULES[name]}", __package__)
    verdict = anyio.run(judge, SCENARIOS[scenario], adapter.make, backend=loop)
    print(json.dumps(dataclasses.asdict(verdict)), flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.correctness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=MODULES, help="this library")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write it there too")
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
