"""
What is shown of FastMCP servers runs, and prints what it says.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import anyio

from benchmarks.adapters import cost
from benchmarks.adapters import fastmcp as bench
from benchmarks.measure import SMOKE
from orchestrator_async import service_errors

ROOT = Path(__file__).parent.parent.parent
GUIDE = (ROOT / "docs" / "fastmcp.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "fastmcp_agent.py"


def printed(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


def test_what_the_guide_shows_prints_what_it_says() -> None:
    shown = re.findall(
        r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", GUIDE, re.M | re.DOTALL
    )
    assert len(shown) == GUIDE.count("```python") == 1
    for code, output in shown:
        assert printed("-c", code) == output


def test_the_example_loses_a_tool_and_finds_it_again() -> None:
    said = printed(str(EXAMPLE))
    places = [
        said.index(each)
        for each in (
            'forecast(\'London\'): {"error": "forecast failed',
            "circuit forecast: closed -> open",
            "refused forecast",
            'forecast(\'Paris\'): {"error": "forecast is down',
            "climate('Paris'): rain in Paris, as a rule",
            "circuit forecast: half_open -> closed",
            "forecast('Oslo'): sun in Oslo",
        )
    ]
    # The circuit opens before the third answer is printed.
    assert places[1] < places[0] < places[2]
    assert places[2:] == sorted(places[2:])
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 100


def test_what_circuits_cost_can_be_measured() -> None:
    rows = anyio.run(cost.measured, bench.calls, SMOKE, "asyncio", service_errors)
    assert [row.name for row in rows if row.goal] == ["adapter adds"]
    assert all(row.cost for row in rows)
