"""
Anything at all as arguments, and as a result.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core import from_json

from orchestrator_async import (
    InvalidResultError,
    Outcome,
    Registry,
    ToolOrchestrator,
    Verdict,
)

from .fuzz import misjudged
from .support import assert_adds_up

DEBUG = False


class Stop(BaseModel):
    city: str
    days: list[int] = []


class Trip:
    """
    Tools that note what they were run with.
    """

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        registry = Registry()

        @registry.tool
        async def plan(stops: list[Stop], notes: dict[str, float] | None = None) -> str:
            self.seen.append({"stops": stops, "notes": notes})
            return "planned"

        @registry.tool(validate=False)
        async def loose(city: str = "", days: Any = None) -> str:
            self.seen.append({"city": city, "days": days})
            return "done"

        @registry.tool(parameters={"type": "object"})
        async def by_hand(**arguments: Any) -> str:
            self.seen.append(arguments)
            return "done"

        self.orch = ToolOrchestrator(registry, failure_threshold=1)

    async def check(self, args: Any) -> None:
        """
        An answer whatever was given, and no verdict of what does not fit.
        """
        for name in ("plan", "loose", "by_hand"):
            before = len(self.seen)
            result = await self.orch.run(name, args)
            assert isinstance(result.content, str)
            if result.attempts:
                assert result.ok
                assert len(self.seen) == before + 1
                self.check_seen(name)
            else:
                assert json.loads(result.content)["invalid_arguments"]
                assert result.verdict is Verdict.IGNORE
                assert len(self.seen) == before
            assert self.orch.circuit(name).failures == 0
        assert_adds_up(self.orch)

    def check_seen(self, name: str) -> None:
        given = self.seen[-1]
        assert all(isinstance(key, str) for key in given)
        if name == "plan":
            assert all(isinstance(stop, Stop) for stop in given["stops"])
            notes = given["notes"] or {}
            assert all(isinstance(note, float) for note in notes.values())


TRIP = st.fixed_dictionaries(
    {}, optional={"stops": st.lists(st.just({"city": "Oslo"})), "city": st.text()}
).map(json.dumps)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=6,
)


@settings(max_examples=150)
@given(args=st.binary() | st.text() | VALUES | TRIP | TRIP.map(str.encode))
@example(args="")
@example(args=b"\xff\xfe{")
@example(args='{"stops": [], "stops": 3}')
@example(args='{"stops": 3, "stops": []}')
@example(args='{"city": NaN, "days": -Infinity}')
@example(args='{"notes": {"a": NaN}, "stops": []}')
@example(args='{"city": "\ud800"}')
@example(args='{"city": "\\ud800"}')
@example(args={"city": "\udfff", "stops": [{"city": "\udfff"}]})
@example(args='{"city": ' * 100_000)
@example(args="[" * 100_000)
@example(args='{"days": ' + "[" * 300 + "]" * 300 + "}")
@example(args='{"city": 1' + "0" * 5_000 + "}")
@example(args={"stops": [{"city": "x"}], 3: 4})
async def test_anything_as_arguments_has_an_answer_and_no_verdict(args: Any) -> None:
    await Trip().check(args)


@pytest.mark.parametrize("fits", [True, False])
async def test_twenty_megabytes_as_arguments_have_an_answer(fits: bool) -> None:
    trip = Trip()
    huge = "x" * 20_000_000
    await trip.check('{"city": "' + huge + '"}')
    assert trip.seen == []
    await trip.check({"city": huge} if fits else {"stops": huge})
    # A mapping has no limit, and what is not checked is taken as it comes.
    assert len(trip.seen) == (2 if fits else 1)


def failed(value: Any) -> bool:
    """
    By a plain parser, and what is true in Python.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return False
    return isinstance(value, dict) and bool(value.get("error"))


ERRORS = st.dictionaries(st.sampled_from(["error", "Error", "output"]), VALUES)


@settings(max_examples=300)
@given(value=st.text() | VALUES | ERRORS | ERRORS.map(str) | st.binary())
@example(value='{"error": "\\ud800"}')
@example(value='{"error": 1, "error": null}')
@example(value='{"error": null, "\\u0065rror": 1}')
@example(value='{"error": NaN}')
@example(value='{"error": ' * 100_000)
@example(value='{"error": "\ud800"}')
@example(value={"error": float("nan")})
async def test_anything_as_a_result_has_an_answer_and_its_verdict(value: Any) -> None:
    registry = Registry()

    @registry.tool
    async def give() -> Any:
        return value

    orch = ToolOrchestrator(registry)
    result = await orch.run("give")
    assert isinstance(result.content, str)
    assert isinstance(await orch.dispatch("give"), str)
    if result.error is None:
        assert result.verdict == ("failure" if failed(value) else "success")
    else:
        assert type(result.error) is InvalidResultError
        assert json.loads(result.content)["error_type"] == "InvalidResultError"
    assert_adds_up(orch)


async def test_twenty_megabytes_as_a_result_have_a_verdict() -> None:
    registry = Registry()
    results: list[str] = []

    @registry.tool
    async def read() -> str:
        return results[-1]

    orch = ToolOrchestrator(registry)
    for text, verdict in (
        ("x" * 20_000_000, "success"),
        (json.dumps({"output": "x" * 20_000_000, "error": "boom"}), "failure"),
        (json.dumps({"output": "x" * 20_000_000, "error": ""}), "success"),
    ):
        results.append(text)
        assert (await orch.run("read")).verdict == verdict


@pytest.mark.parametrize("seed", range(4))
def test_no_result_is_misjudged_for_the_way_it_is_written(seed: int) -> None:
    wrong, failures = misjudged(10_000, seed)
    assert wrong == []
    assert failures > 1_000


def by_its_looks(outcome: Outcome) -> Verdict:
    return Verdict.FAILURE if '"error":' in outcome.value else Verdict.SUCCESS


def by_a_strict_parser(outcome: Outcome) -> Verdict:
    try:
        value = from_json(outcome.value)
    except Exception:
        return Verdict.SUCCESS
    failed = isinstance(value, dict) and bool(value.get("error"))
    return Verdict.FAILURE if failed else Verdict.SUCCESS


@pytest.mark.parametrize("judge", [by_its_looks, by_a_strict_parser])
def test_the_comparison_finds_a_judge_that_is_wrong(judge: Any) -> None:
    wrong, _ = misjudged(5_000, 1, judge)
    assert wrong
