from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_async._measure import holds_more_values

LEAVES = st.none() | st.integers() | st.text('a,[]{}"\\\n é') | st.booleans()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(st.text('k,[{"\\'), inner),
    max_leaves=30,
)


def marks(value: Any) -> int:
    """
    The separators and the openings that JSON text of the value has.
    """
    if not isinstance(value, (list, dict)):
        return 0
    items = value.values() if isinstance(value, dict) else value
    return 1 + max(0, len(value) - 1) + sum(map(marks, items))


@given(VALUES, st.integers(0, 30), st.sampled_from([None, 1]), st.booleans())
def test_values_are_counted_as_a_parser_finds_them(
    value: Any, limit: int, indent: int | None, as_bytes: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    told = holds_more_values(text.encode() if as_bytes else text, limit)
    assert told == (marks(value) > limit)


@given(st.text('{}[],:"\\1a') | st.binary(), st.integers(0, 10))
def test_text_that_is_no_json_gets_some_answer(text: str | bytes, limit: int) -> None:
    assert isinstance(holds_more_values(text, limit), bool)


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (json.dumps({"page": "1,2,[3],{}\n" * 90_000}), False),
        (json.dumps({"page": '\\"' * 100_000, "next": ',"[' * 100_000}), False),
        (json.dumps(["x"] * 4_000), False),
        (json.dumps(["x"] * 4_001), True),
        (json.dumps({"a": [[]] * 2_000}), True),
        ("[" * 8_001, True),
        ('"' * 1_000_000 + ",[" * 4_000, True),
    ],
    ids=["a table", "quotes", "4,000", "4,001", "empty", "open", "quotes only"],
)
def test_what_stands_in_strings_does_not_count(text: str, more: bool) -> None:
    assert holds_more_values(text, 4_000) is more
    assert holds_more_values(text.encode(), 4_000) is more
