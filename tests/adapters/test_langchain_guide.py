"""
What the guide and the example of LangChain show, and what is imported when.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator_async.adapters import langchain as adapter
from tests.test_readme import blocks_of

ROOT = Path(__file__).parents[2]
GUIDE = list(blocks_of(ROOT / "docs" / "langchain.md"))


def run(*args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


@pytest.mark.parametrize("number", range(len(GUIDE)))
def test_the_guide_runs_as_shown(number: int) -> None:
    assert run("-c", GUIDE[number].code) == GUIDE[number].output


def test_the_example_shows_a_tool_that_dies_and_returns() -> None:
    lines = run("examples/langchain_agent.py").splitlines()
    starts = [
        "> How is",
        "  get_weather: get_weather failed",
        "* get_weather: closed -> open",
        "  get_weather: get_weather failed",
        "  get_weather: get_weather is down",
        '  get_climate: {"city":"Oslo","july":18}',
        "> And now?",
        "* get_weather: open -> half_open",
        "* get_weather: half_open -> closed",
        "  get_weather: sun in Oslo",
    ]
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def test_nothing_of_it_is_imported_before_it_is_asked_for() -> None:
    code = """
import sys
import orchestrator_async, orchestrator_async.adapters
import orchestrator_async.adapters.langchain as adapter
print([name for name in sys.modules if name.startswith(("langchain", "langgraph"))])
adapter.langchain_tools
print("langchain_core" in sys.modules, "langgraph.graph" in sys.modules)
adapter.awrap_tool_call
print("langchain.agents" in sys.modules)
adapter.CircuitMiddleware
print("langchain.agents" in sys.modules)
"""
    assert run("-c", code).splitlines() == [
        "[]",
        "True False",
        "False",
        "True",
    ]


def test_there_is_what_it_says_and_nothing_else() -> None:
    missing = "no_such_name"
    assert set(adapter.__all__) <= set(dir(adapter))
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        getattr(adapter, missing)


@pytest.mark.parametrize(
    ("missing", "name", "words"),
    [
        ("langchain", "CircuitMiddleware", "orchestrator-async[langchain]"),
        ("langgraph", "awrap_tool_call", "orchestrator-async[langchain]"),
        ("langchain_core", "langchain_tools", "orchestrator-async[langchain]"),
    ],
)
def test_where_it_is_missing_the_extra_is_named(
    missing: str, name: str, words: str
) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None
import orchestrator_async.adapters.langchain as adapter
try:
    adapter.{name}
except ImportError as error:
    print(error)
"""
    assert words in run("-c", code)


def test_langgraph_alone_is_enough_for_its_nodes_and_for_our_tools() -> None:
    code = """
import sys
sys.modules["langchain"] = None
from orchestrator_async.adapters.langchain import awrap_tool_call, langchain_tools
print("fine")
"""
    assert run("-c", code) == "fine\n"
