"""
The reference of the adapters says what they say themselves.
"""

from __future__ import annotations

import importlib
import re

import pytest

from .reference import ADAPTERS, DOCUMENT, text


def test_the_reference_is_what_the_docstrings_say() -> None:
    # ``python -m tests.adapters.reference`` writes it anew.
    assert DOCUMENT.read_text(encoding="utf-8") == text()


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_each_public_name_is_in_the_guide_as_well(adapter: str) -> None:
    module = importlib.import_module(f"orchestrator_async.adapters.{adapter}")
    guide = DOCUMENT.parent / f"{adapter.replace('_', '-')}.md"
    told = guide.read_text(encoding="utf-8")
    assert [name for name in module.__all__ if name not in told] == []


def pinned(file: str) -> dict[str, str]:
    text = (DOCUMENT.parent.parent / file).read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


@pytest.mark.parametrize(
    "package",
    [
        *("fastmcp", "hermes-agent", "langchain", "langgraph", "mcp", "openai-agents"),
        "pydantic-ai-slim",
    ],
)
def test_the_table_names_the_versions_that_the_tests_run_with(package: str) -> None:
    table = (DOCUMENT.parent / "compatibility.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| .*\b{package}\b.*\| .* \| `?.*$", table, re.MULTILINE)[:1]
    tested = row.split("|")[4]
    files = ["constraints-hermes.txt"]
    if package != "hermes-agent":
        files = ["constraints.txt", "constraints-oldest.txt"]
    for file in files:
        assert pinned(file)[package] in re.findall(r"[\d.]+\d", tested)
