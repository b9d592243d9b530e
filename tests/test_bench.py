"""
The benchmarks run, and measure what they say. Their timings are nobody's to assert here.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.footprint import bytes_per_tool, make_functions
from benchmarks.measure import Row

from .conftest import LOOPS

ROOT = Path(__file__).parent.parent

EVERY_LOOP = {
    "bare await",
    "by hand, inline",
    "by hand",
    "dispatch",
    "dispatch, validated, from a dict",
    "dispatch, validated, from JSON",
    "dispatch, a dict result",
    "dispatch, one observer",
    "dispatch, a failure",
    "run",
    "call",
    "a refusal",
    "a refusal, one observer",
    "dispatch, what a timeout adds",
    "dispatch, a plain function",
    "dispatch_all of 16",
    "part: open time, jitter, probes",
    "part: count window",
    "part: time window",
    "part: slow calls",
    "part: both windows and slow calls",
    "part: disabled",
    "part: 8 keys",
    "part: 1,000 keys",
    "part: 100,000 keys, room for 1,000",
    "part: 100,000 keys, room for all",
    "part: wait_available",
    "part: a whole call's time",
    "part: retries",
    "part: a limit of calls at one time",
    "part: a limit of calls in a time",
    "part: a fallback",
    "part: a guard",
    "part: the size of results",
    "part: all parts around",
    "part: a conversation",
    "part: a failure, asked for a pause",
    "part: a failure, a time window",
    "part: 10 chunks, joined",
    "part: a stream of 10 chunks",
    "part: a timed stream of 10 chunks",
    "part: 10 calls in a turn",
    "part: 10 calls as they come",
    "an outage, retries with the budget",
    "an outage, retries without it",
    "many tasks",
    "many tasks, a tool that waits",
}

ANY_LOOP = {"memory of a tool", "import"}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """
    What one brief run printed, and what it wrote.
    """
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--smoke", "--json", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(path.read_text())["rows"]


def test_smoke_measures_every_figure_on_every_loop(
    smoke: tuple[str, list[dict[str, Any]]],
) -> None:
    _, rows = smoke
    measured: dict[str, set[str]] = {}
    for row in rows:
        measured.setdefault(row["loop"], set()).add(row["name"])
    assert measured == {**dict.fromkeys(LOOPS, EVERY_LOOP), "any": ANY_LOOP}
    assert all(math.isfinite(row["cost"]) and row["cost"] > 0 for row in rows)


def test_smoke_prints_every_figure(smoke: tuple[str, list[dict[str, Any]]]) -> None:
    printed, rows = smoke
    lines = [line[:36].strip() for line in printed.splitlines()]
    for name in EVERY_LOOP:
        assert lines.count(name) == len(LOOPS), name
    for name in ANY_LOOP:
        assert lines.count(name) == 1, name
    assert f"{len(rows)} figures, 0 broken" in printed


def test_each_goal_is_given_once_a_loop(smoke: tuple[str, list[dict[str, Any]]]) -> None:
    _, rows = smoke
    goals = {(row["name"], row["goal"]) for row in rows if row["goal"] is not None}
    assert goals == {
        ("dispatch", 3.0),
        ("a refusal, one observer", 1.4),
        ("dispatch, what a timeout adds", 1.25),
        ("an outage, retries with the budget", 1.25),
        ("many tasks", 0.5),
        ("memory of a tool", 1_500),
        ("import", 45.0),
    }


def test_memory_is_counted_per_tool() -> None:
    few, many = bytes_per_tool(make_functions(128)), bytes_per_tool(make_functions(512))
    assert 300 < few < 20_000
    assert many == pytest.approx(few, rel=0.2)


def test_memory_leaves_the_functions_out() -> None:
    functions = make_functions(64)
    for fn in functions:
        fn.__doc__ = "A long one. " * 10_000
    assert bytes_per_tool(functions) < 20_000


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row(loop="any", name="no goal", cost=1.0), None),
        (Row(loop="any", name="a cost", cost=2.0, goal=1.0), False),
        (Row(loop="any", name="a ratio", cost=2.0, ratio=1.0, goal=1.0), True),
        (
            Row(loop="any", name="a rate", cost=2.0, ratio=0.5, goal=0.6, at_least=True),
            False,
        ),
    ],
    ids=lambda each: each.name if isinstance(each, Row) else None,
)
def test_a_goal_is_about_the_ratio_if_there_is_one(row: Row, met: bool | None) -> None:
    assert row.met is met
