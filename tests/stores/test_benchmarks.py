"""
The benchmarks of a fleet run, on a real engine, and measure what they say. Their timings are
nobody's to assert here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.fleet.load import BEAT, Load, delays_of, expected, loads
from benchmarks.fleet.scripts import KINDS
from benchmarks.fleet.worker import RESET, Work
from tests.conftest import LOOPS

ROOT = Path(__file__).parent.parent.parent


def printed_by(module: str, *options: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"benchmarks.fleet.{module}", *options],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    return ran.stdout


def rows_of(printed: str) -> dict[str, list[str]]:
    """
    The rows of a table, by their first cell.
    """
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    return {name: cells for name, *cells in rows}


def number(cell: str) -> float:
    return float(cell.split()[0].replace(",", "").rstrip("%"))


def test_commands_do_not_grow_with_calls() -> None:
    printed = printed_by("load", "--brief")
    rows = rows_of(printed)
    assert list(rows) == [load.name for load in loads(10, 20, 1.0)[:3]]
    few, many = rows["calls"], rows["ten times the calls"]
    calls, failures, commands = 2, 3, 4
    assert number(few[failures]) > 0
    assert number(many[calls]) > 3 * number(few[calls])
    assert number(many[commands]) < 3 * number(few[commands])
    assert all(number(row[commands]) > 0 for row in rows.values())
    assert "of 21 never" in printed


def test_each_kind_of_command_takes_its_time() -> None:
    rows = rows_of(printed_by("scripts", "--brief"))
    assert list(rows) == list(KINDS)
    assert all(number(row[0]) > 0 for row in rows.values())


def test_a_store_is_measured_beside_none_on_each_loop() -> None:
    printed = printed_by("dispatch", "--smoke")
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines] == LOOPS
    assert all("with a store" in line for line in lines)


def a_load(**changes: object) -> Load:
    processes, circuits = 50, 1_000
    work = Work(seconds=1.0, **changes)  # type: ignore[arg-type]
    return Load(name="", processes=processes, circuits=circuits, work=work)


def test_what_is_expected_does_not_grow_with_calls_but_with_all_else() -> None:
    idle = expected(a_load())
    assert idle == pytest.approx(50 / BEAT * 5)  # alive, and two looks of two commands
    assert expected(a_load(calls=10_000)) == idle
    assert expected(a_load(calls=10_000, failures=7)) == pytest.approx(idle + 14)
    assert expected(a_load(dead=4)) == pytest.approx(idle + 8 / RESET)


def test_openings_are_told_from_the_first_of_each_circuit() -> None:
    opened = [("a", 5_000_000), ("b", 1_000_000), ("a", 2_000_000), ("a", 9_000_000)]
    delays, missing = delays_of(opened, 3)
    assert sorted(delays) == [3.0, 7.0]
    assert missing == 2  # of "b", which nobody but the first has opened
