"""
What the adapters cost can be measured.
"""

from __future__ import annotations

import importlib

import anyio
import pytest

from benchmarks.adapters import cost
from benchmarks.measure import SMOKE


@pytest.mark.parametrize(
    "adapter", ["fastmcp", "langchain", "openai_agents", "pydantic_ai"]
)
def test_what_an_adapter_adds_is_compared_with_what_the_core_adds(adapter: str) -> None:
    making = importlib.import_module(f"benchmarks.adapters.{adapter}").calls
    rows = anyio.run(cost.measured, making, SMOKE, "asyncio", None)
    figures = {row.name: row for row in rows}
    assert {"bare", "adapter adds", "run adds", "dispatch adds"} < set(figures)
    assert [name for name, row in figures.items() if row.goal] == ["adapter adds"]
    assert figures["bare"].cost > 0
    ratio = figures["adapter adds"].cost / figures["run adds"].cost
    assert figures["adapter adds"].ratio == pytest.approx(ratio)
    assert "asyncio" in cost.told(figures["adapter adds"])
