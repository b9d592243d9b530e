"""
The reference of the adapters says what they say themselves.
"""

from __future__ import annotations

import importlib

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
