"""
Calls that do not run a tool, answers that a model can act on, text that is safe to show.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import gc
import json
import logging
import re
import tracemalloc
import types
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from datetime import time as time_of_day
from typing import Annotated, Any, Literal
from uuid import UUID

import anyio
import pydantic
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_async import (
    BreakerPolicy,
    CircuitChanged,
    CircuitOpenError,
    InvalidArgumentsError,
    OrchestratorError,
    Registry,
    ToolCall,
    ToolOrchestrator,
    ToolPolicy,
    ToolTimeoutError,
    UnknownToolError,
    Verdict,
)

from .clock import real_time, virtual_time
from .conftest import LOOPS

DEBUG = False


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def read(text: str) -> Any:
    return json.loads(text, parse_constant=no_constant)


class Weather:
    """
    An orchestrator with tools that note that they ran.
    """

    def __init__(self, **options: Any) -> None:
        self.ran: list[Any] = []
        self.registry = Registry()
        self.registry.tool(name="get_weather")(self._get_weather)
        self.registry.tool(name="plain")(self._plain)
        self.registry.tool(name="loose", validate=False)(self._loose)
        self.registry.tool(name="loose_plain", validate=False)(self._loose_plain)
        self.orch = ToolOrchestrator(self.registry, **options)

    async def _get_weather(self, city: str, days: int = 1) -> str:
        self.ran.append((city, days))
        return "sun"

    def _plain(self, city: str, days: int = 1) -> str:
        self.ran.append((city, days))
        return "sun"

    async def _loose(self, city: str, days: int = 1) -> str:
        self.ran.append((city, days))
        return "sun"

    def _loose_plain(self, city: str, days: int = 1) -> str:
        self.ran.append((city, days))
        return "sun"


NESTED = '{"city":' * 1_250_000

INVALID: dict[str, Any] = {
    "nothing": None,
    "nothing in it": {},
    "wrong type": {"city": ["Oslo"]},
    "second wrong": {"city": "Oslo", "days": "many"},
    "unknown": {"city": "Oslo", "country": "Norway"},
    "no text": "",
    "blank": "  \n",
    "no JSON": "city=Oslo",
    "half": '{"city": "Oslo"',
    "more": '{"city": "Oslo"} {}',
    "single quotes": "{'city': 'Oslo'}",
    "array": '["Oslo"]',
    "array bytes": b'["Oslo"]',
    "number": "3",
    "null": "null",
    "string": '"Oslo"',
    "text in text": '"{\\"city\\": \\"Oslo\\"}"',
    "nested 10 MB": NESTED,
    "arrays 10 MB": "[" * 10_000_000,
    "nested": NESTED[:900_000],
    "arrays": '{"city":' + "[" * 900_000,
    "big": '{"city": "' + "x" * 1_000_000 + '"}',
    "bytes big": b'{"city": "' + b"x" * 1_000_000 + b'"}',
    "no UTF-8": b'{"city": "\xff"}',
    "UTF-16": '{"city": "Oslo"}'.encode("utf-16"),
    "zero": "\0",
    "surrogate": '{"city": "\ud800"}',
    "list": ["Oslo"],
    "pairs": [("city", "Oslo")],
    "object": object(),
    "number itself": 3,
    "type": dict,
    "names": {3: "Oslo"},
    "names too": {("city",): "Oslo", "city": "Oslo"},
    "surrogate name": {"\ud800": 1},
    "long name": {"x" * 1_000_000: 1},
    "memory": memoryview(b"{}"),
}


@pytest.mark.parametrize("tool", ["get_weather", "plain"])
@pytest.mark.parametrize("args", INVALID.values(), ids=INVALID.keys())
async def test_arguments_that_do_not_fit_are_an_answer_and_no_verdict(
    tool: str, args: Any
) -> None:
    weather = Weather(failure_threshold=1)
    for _ in range(2):
        said = read(await weather.orch.dispatch(tool, args))
        assert set(said) == {"error", "tool_name", "invalid_arguments"}
        assert said["tool_name"] == tool
        assert tool in said["error"]
        assert "not run" in said["error"]
        assert said["invalid_arguments"]
        assert all(
            set(entry) == {"argument", "expected"} for entry in said["invalid_arguments"]
        )
    result = await weather.orch.run(tool, args)
    assert len(result.content) < 3000
    assert isinstance(result.error, InvalidArgumentsError)
    assert isinstance(result.error, ValueError)
    assert result.error.tool_name == tool
    assert (result.verdict, result.attempts, result.ok) == (Verdict.IGNORE, 0, False)
    with pytest.raises(InvalidArgumentsError):
        await weather.orch.call(tool, args)
    assert weather.ran == []
    stats = weather.orch.stats(tool)
    assert (stats.calls, stats.failures, stats.total_failures) == (0, 0, 0)
    assert (stats.in_flight, stats.invalid, stats.state) == (0, 4, "closed")
    assert await weather.orch.dispatch(tool, {"city": "Oslo"}) == "sun"


async def test_each_bad_argument_is_named_with_what_was_expected() -> None:
    weather = Weather()
    args = {"days": "many", "country": "Norway"}
    said = read(await weather.orch.dispatch("get_weather", args))
    entries = {each["argument"]: each["expected"] for each in said["invalid_arguments"]}
    assert set(entries) == {"city", "days", "country"}
    assert "integer" in entries["days"]
    assert "city" in entries["country"]
    assert "Norway" not in json.dumps(said)
    assert "many" not in json.dumps(said)


async def test_arguments_come_as_mapping_text_or_bytes_in_lax_mode() -> None:
    weather = Weather()
    for args in (
        {"city": "Oslo", "days": "3"},
        {"city": "Oslo", "days": 3.0},
        '{"city": "Oslo", "days": 3}',
        b'{"city": "Oslo", "days": "3"}',
        bytearray(b' {"city": "Oslo", "days": 3}\n'),
        types.MappingProxyType({"city": "Oslo", "days": 3}),
    ):
        assert await weather.orch.dispatch("get_weather", args) == "sun"
        assert await weather.orch.dispatch("plain", args) == "sun"
    assert set(weather.ran) == {("Oslo", 3)}


async def test_no_arguments_are_an_empty_object() -> None:
    registry = Registry()

    @registry.tool
    async def now() -> str:
        return "noon"

    orch = ToolOrchestrator(registry)
    args: Any
    for args in (None, {}, "", "{}", b"", " "):
        assert await orch.dispatch("now", args) == "noon"
    assert "invalid_arguments" in read(await orch.dispatch("now", {"x": 1}))


async def test_arguments_are_not_changed_by_a_tool() -> None:
    registry = Registry()

    @registry.tool(validate=False)
    async def change(**arguments: Any) -> str:
        arguments["x"] = 3
        return "done"

    given = {"y": 1}
    assert await ToolOrchestrator(registry).dispatch("change", given) == "done"
    assert given == {"y": 1}


# Arguments that nobody checks


@pytest.mark.parametrize("tool", ["loose", "loose_plain"])
@pytest.mark.parametrize(
    "args",
    [
        {"city": "Oslo", "country": "Norway"},
        {},
        {"days": 3},
        '{"city": "Oslo", "country": "Norway"}',
        {3: 4, "city": "Oslo"},
    ],
    ids=["made up", "missing", "other missing", "text", "no name"],
)
@real_time
async def test_a_made_up_argument_is_invalid_also_where_nothing_is_validated(
    tool: str, args: Any
) -> None:
    weather = Weather(failure_threshold=1)
    for observers in ([], [lambda event: None]):
        for each in observers:
            weather.orch.add_observer(each)
        said = read(await weather.orch.dispatch(tool, args))
        assert set(said) == {"error", "tool_name", "invalid_arguments"}
        result = await weather.orch.run(tool, args)
        assert (result.verdict, result.attempts) == (Verdict.IGNORE, 0)
        with pytest.raises(InvalidArgumentsError):
            await weather.orch.call(tool, args)
    stats = weather.orch.stats(tool)
    assert (stats.calls, stats.total_failures, stats.in_flight) == (0, 0, 0)
    assert stats.state == "closed"
    assert weather.ran == []


def wrongly(**options: Any) -> Registry:
    registry = Registry()

    def helper(x: int) -> None: ...

    @registry.tool(name="inner", **options)
    async def inner() -> None:
        helper("x", "y")  # type: ignore[call-arg,arg-type]

    @registry.tool(name="builtin", **options)
    async def builtin() -> Any:
        return len(3)  # type: ignore[arg-type]

    @registry.tool(name="later", **options)
    async def later() -> Any:
        await checkpoint()
        raise TypeError("later() got an unexpected keyword argument 'x'")

    @registry.tool(name="plain", **options)
    def plain() -> None:
        helper("x", "y")  # type: ignore[call-arg,arg-type]

    @registry.tool(name="plain_builtin", **options)
    def plain_builtin() -> Any:
        return len(3)  # type: ignore[arg-type]

    @registry.tool(name="chained", **options)
    async def chained() -> Any:
        try:
            helper()  # type: ignore[call-arg]
        except TypeError as error:
            raise error.with_traceback(None) from None

    return registry


@pytest.mark.parametrize(
    "tool", ["inner", "builtin", "later", "plain", "plain_builtin", "chained"]
)
@pytest.mark.parametrize("validate", [True, False])
@real_time
async def test_a_type_error_from_inside_the_tool_is_a_failure(
    tool: str, validate: bool
) -> None:
    orch = ToolOrchestrator(wrongly(validate=validate), failure_threshold=2)
    assert read(await orch.dispatch(tool, {}))["error_type"] == "TypeError"
    result = await orch.run(tool)
    assert (result.verdict, result.attempts) == (Verdict.FAILURE, 1)
    assert orch.circuit(tool).state == "open"


@real_time
async def test_a_type_error_of_a_tool_that_is_called_by_a_tool_blames_the_outer() -> None:
    registry = Registry()
    orch = ToolOrchestrator(registry)

    @registry.tool(validate=False)
    async def outer(**arguments: Any) -> Any:
        return await orch.call("inner", arguments)

    @registry.tool(validate=False)
    async def inner(x: int) -> int:
        return x

    @registry.tool(validate=False)
    async def direct() -> Any:
        return await inner()  # type: ignore[call-arg]

    assert (await orch.run("outer", {"y": 1})).verdict is Verdict.FAILURE
    assert (await orch.run("direct")).verdict is Verdict.FAILURE
    assert orch.stats("inner").total_failures == 0
    assert orch.stats("inner").invalid == 1


# Names


async def test_an_unknown_tool_is_an_answer_with_the_closest_names() -> None:
    weather = Weather()
    said = read(await weather.orch.dispatch("get_wether", {"city": "Oslo"}))
    assert set(said) == {"error", "tool_name", "unknown_tool", "did_you_mean"}
    assert said["unknown_tool"] is True
    assert said["did_you_mean"] == ["get_weather"]
    assert said["tool_name"] == "get_wether"
    assert "get_weather" in said["error"]
    result = await weather.orch.run("zzz")
    assert isinstance(result.error, UnknownToolError)
    assert isinstance(result.error, LookupError)
    assert result.error.did_you_mean == ()
    assert (result.verdict, result.attempts, result.state) == (Verdict.IGNORE, 0, None)
    with pytest.raises(UnknownToolError):
        await weather.orch.call("zzz")
    assert weather.orch.get_fleet_stats() == {}


class OddHash:
    def __hash__(self) -> int:
        raise RuntimeError("no hash")


class OddText(str):
    __slots__ = ()

    def __hash__(self) -> int:
        raise RuntimeError("no hash")


class OddEqual(str):
    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equality")


ODD_NAMES: dict[str, Any] = {
    "none": None,
    "number": 3,
    "bytes": b"get_weather",
    "list": ["get_weather"],
    "dict": {},
    "tuple": ("get_weather",),
    "empty": "",
    "10 MB": "x" * 10_000_000,
    "10 MB of a tool": "get_weather" * 1_000_000,
    "quotes": 'get"weather"',
    "lines": "get\nweather\r\x1b[31m\0",
    "surrogate": "\ud800",
    "password": "https://joe:hunter2@example.org",
    "hash": OddHash(),
    "text hash": OddText("get_weather"),
    "text equal": OddEqual("get_weather"),
    "text unequal": OddEqual("zzz"),
    "129": "g" * 129,
}


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES.keys())
async def test_whatever_stands_for_a_name_has_an_answer(name: Any) -> None:
    weather = Weather()
    await weather.orch.dispatch("get_weather", {"city": "Oslo"})
    text = await weather.orch.dispatch(name, {"city": "Oslo"})
    if text != "sun":
        said = read(text)
        assert said["unknown_tool"] is True
        assert len(text) < 1000
        text.encode()
        assert "hunter2" not in text
        assert not re.search(r"[\x00-\x1f\x7f]", said["tool_name"])
    result = await weather.orch.run(name, {"city": "Oslo"})
    assert result.content == text
    assert len(result.name) <= 128
    assert list(weather.orch.get_fleet_stats()) == ["get_weather"]


async def test_a_long_name_is_compared_with_nothing() -> None:
    registry = Registry()
    registry.tool(name="x" * 128)(lambda: None)
    orch = ToolOrchestrator(registry)
    said = read(await orch.dispatch("x" * 127))
    assert said["did_you_mean"]
    said = read(await orch.dispatch("x" * 129))
    assert said["did_you_mean"] == []


async def test_a_tool_may_have_an_odd_name() -> None:
    registry = Registry()
    name = 'get "weather"\n\x1b[31m\ud800'

    @registry.tool(name=name)
    async def odd(fail: bool = False) -> str:
        raise RuntimeError("no")

    orch = ToolOrchestrator(registry, failure_threshold=1)
    assert read(await orch.dispatch(name, {"fail": "often"}))["tool_name"] == name
    assert read(await orch.dispatch(name))["tool_name"] == name
    assert read(await orch.dispatch(name))["circuit_breaker"] is True


def weight(root: object) -> int:
    """
    How much the containers that an object holds contain, all in all.
    """
    seen: set[int] = set()
    waiting: list[Any] = [root]
    total = 0
    foreign = (type, types.ModuleType, types.FunctionType, types.MethodType, types.CodeType)
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, foreign):
            continue
        seen.add(id(thing))
        if isinstance(thing, (dict, list, set, frozenset, tuple)):
            total += len(thing)
        waiting += gc.get_referents(thing)
    return total


# Not through the fixture: asyncio's debug mode makes it three times as slow.
@pytest.mark.parametrize("loop", LOOPS)
def test_a_hundred_thousand_made_up_names_leave_nothing_behind(loop: str) -> None:
    registry = Registry()

    @registry.tool
    async def get_weather(city: str) -> str:
        return "sun"

    orch = ToolOrchestrator(registry)

    async def ask(prefix: str, times: int) -> None:
        for number in range(times):
            await orch.dispatch(f"{prefix}{number}", {"city": "Oslo"})

    async def main() -> None:
        await orch.dispatch("get_weather", {"city": "Oslo"})
        await ask("x", 200)
        before = weight((orch, registry))
        tracemalloc.start()
        try:
            await ask("y", 1)
            gc.collect()
            used, _ = tracemalloc.get_traced_memory()
            await ask("made_up_", 1_000)
            gc.collect()
            now, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert now - used < 100_000
        await ask("_", 99_000)
        assert weight((orch, registry)) == before

    backend, _, uvloop = loop.partition("+")
    options = {"use_uvloop": True} if uvloop else {}
    anyio.run(main, backend=backend, backend_options=options)
    assert list(orch.get_fleet_stats()) == ["get_weather"]
    assert len(registry) == 1


async def test_refused_arguments_are_not_kept() -> None:
    class Here:
        pass

    weather = Weather()
    orch = weather.orch
    await orch.dispatch("get_weather", {"city": 3})
    before = weight((orch, weather.registry))
    for number in range(1_000):
        await orch.dispatch("get_weather", {f"x{number}": Here()})
        await orch.dispatch("loose", {f"x{number}": Here()})
    await orch.dispatch("get_weather", {"city": 3})
    gc.collect()
    assert not any(isinstance(thing, Here) for thing in gc.get_objects())
    assert weight((orch, weather.registry)) - before < 100


# What is large or made to be slow: tests/stalls.py measures how long it holds the loop


def crowded(pattern: str = "get_weather_forecast_{:04d}") -> ToolOrchestrator:
    registry = Registry()

    async def tool(city: str, days: list[int] | None = None) -> str:
        return "sun"

    for number in range(1_000):
        registry.tool(name=pattern.format(number))(tool)
    return ToolOrchestrator(registry)


UNKNOWN: dict[str, str] = {
    "miss": "get_weather_forecst_0001",
    "number": "get_weather_forecast_1001",
    "zeros": "get_weather_forecast_" + "0" * 100,
    "again": "get_weather_forecast" * 6,
    "other": "x" * 128,
    "long": "x" * 129,
    "10 MB": "get_weather" * 1_000_000,
    "letters": "abcdefghijklmnopqrstuvwxyz_0123456789" * 3,
}
LONG_NAMES = "mcp__" + "a_server_with_a_long_name__and_tools_with_long_ones_too_" * 2
LONG_NAMES = LONG_NAMES[:120] + "_{:04d}"


@pytest.mark.parametrize("name", UNKNOWN.values(), ids=list(UNKNOWN))
async def test_a_name_is_unknown_among_a_thousand_tools(name: str) -> None:
    orch = crowded()
    assert read(await orch.dispatch(name, {}))["unknown_tool"] is True


async def test_a_name_is_unknown_among_long_names() -> None:
    name = LONG_NAMES[:120] + "_x001"
    assert read(await crowded(LONG_NAMES).dispatch(name, {}))["unknown_tool"] is True


MISFITS: dict[str, Any] = {
    "nested 10 MB": NESTED,
    "nested 1 MB": NESTED[:999_000],
    "arrays 10 MB": "[" * 10_000_000,
    "arrays 1 MB": "[" * 999_000,
    "array": '["Oslo"]',
    "long array": "[" + "1," * 490_000 + "1]",
    "arrays inside": '{"city":' + "[" * 900_000,
    "no JSON": "x" * 999_000,
    "no text": b"\xff" * 999_000,
    "no end": '{"city": "' + "x" * 900_000,
    "unknown names": {f"x{number}": number for number in range(50_000)},
    "arrays in arrays": '{"city": ' + "[1,2" * 200_000,
    "list of another type": '{"days": [' + '"x",' * 200_000 + '"x"]}',
    "objects for text": '{"city": [' + '{"a":1},' * 110_000 + "1]}",
    "arrays for nothing": '{"x": [' + "[]," * 300_000 + "1]}",
    "escapes": '{"x": [' + r'"\\\",[",' * 80_000 + "1]}",
}


@pytest.mark.parametrize("args", MISFITS.values(), ids=list(MISFITS))
async def test_large_arguments_that_do_not_fit_are_the_models_fault(args: Any) -> None:
    said = await crowded().dispatch("get_weather_forecast_0500", args)
    assert read(said)["invalid_arguments"]
    assert len(said) < 1_000


# Arguments that only a whole check shows to be bad, as large as they may be


class Stop(pydantic.BaseModel):
    city: str
    days: list[int] = []


class Exactly(pydantic.BaseModel, extra="forbid"):
    a: int


class Walk(pydantic.BaseModel):
    kind: Literal["walk"]
    x: int
    y: int
    note: str


class Ride(Walk):
    kind: Literal["ride"]  # type: ignore[assignment]


class Swim(Walk):
    kind: Literal["swim"]  # type: ignore[assignment]


Leg = Walk | Ride | Swim


def plans() -> ToolOrchestrator:
    registry = Registry()

    @registry.tool
    async def plan(
        stops: list[Stop] | None = None,
        named: dict[str, Stop] | None = None,
        counted: dict[str, int] | None = None,
        any: list[int | str | Stop] | None = None,
        exactly: dict[str, Exactly] | None = None,
        legs: dict[str, Leg] | None = None,
        tours: dict[str, dict[str, Leg]] | None = None,
        routes: dict[str, list[Leg]] | None = None,
        scalars: dict[str, int | date | UUID | bool | float | time_of_day] | None = None,
    ) -> str:
        return "planned"

    return ToolOrchestrator(registry)


STOP = {"city": "Oslo"}
BAD = {"city": 1}


def many(item: Any, count: int, last: Any = None) -> list[Any]:
    return [*[item] * count, item if last is None else last]


def by_name(items: list[Any]) -> dict[str, Any]:
    return {f"a{number}": item for number, item in enumerate(items)}


WORST: dict[str, Any] = {
    "a bad last one": json.dumps({"stops": many(STOP, 1_490, BAD)}),
    "a bad last one by name": json.dumps({"named": by_name(many(STOP, 1_490, BAD))}),
    "bad ones": json.dumps({"named": by_name(many(BAD, 1_490))}),
    "empty ones": json.dumps({"named": by_name(many({}, 1_490))}),
    "bad numbers": json.dumps({"counted": by_name(many("x", 2_980))}),
    "of no kind": json.dumps({"any": many(STOP, 1_490, BAD)}),
    "a mapping of bad numbers": {"counted": by_name(many("x", 100_000))},
    "a mapping of bad ones": {"named": by_name(many(BAD, 100_000))},
    "a mapping of what it does not know": {"exactly": {"a": by_name(many(1, 100_000))}},
    "a long list": {"stops": many(BAD, 1_000_000)},
    "legs": json.dumps({"legs": by_name(many({}, 1_400))}),
    "tours": json.dumps({"tours": by_name(many(by_name(many({}, 30)), 45))}),
    "a mapping of tours": {"tours": by_name(many(by_name(many({}, 30)), 600))},
    "routes": json.dumps({"routes": by_name(many([{}], 990))}),
    "scalars": json.dumps({"scalars": by_name(many("zz", 2_900))}),
}


@pytest.mark.parametrize("args", WORST.values(), ids=list(WORST))
async def test_the_most_that_may_be_wrong_is_the_models_fault(args: Any) -> None:
    said = await plans().dispatch("plan", args)
    assert read(said)["invalid_arguments"]
    assert len(said) < 3_000


async def test_large_arguments_that_fit_are_taken() -> None:
    registry = Registry()

    @registry.tool
    async def weigh(
        either: dict[str, int] | dict[str, str],
        numbers: dict[int, float],
        rows: list[dict[str, Exactly]],
    ) -> list[Any]:
        return [len(either), sum(numbers), len(rows[0]), type(rows[0]["a7"]).__name__]

    orch = ToolOrchestrator(registry)
    args = {
        "either": by_name(many("x", 20_000)),
        "numbers": {str(number): number for number in range(2_000)},
        "rows": [by_name(many({"a": 1}, 1_000))],
    }
    said = await orch.run("weigh", args)
    assert said.value == [20_001, 1_999_000, 1_001, "Exactly"], said.error


class Scores(pydantic.BaseModel, extra="forbid"):
    values: dict[str, int]

    @pydantic.model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"values": given} if "values" not in given else given


@pytest.mark.parametrize("count", [3, 500, 501, 1_400])
async def test_a_large_object_is_what_a_small_one_is_from_text_and_from_a_mapping(
    count: int,
) -> None:
    registry = Registry()

    @registry.tool
    async def save(scores: Scores, ids: dict[int, str]) -> list[int]:
        return [len(scores.values), sum(ids)]

    orch = ToolOrchestrator(registry)
    numbers = by_name(list(range(count)))
    args = {"scores": numbers, "ids": {str(number): "x" for number in range(count)}}
    said = [count, sum(range(count))]
    assert (await orch.run("save", args)).value == said
    assert (await orch.run("save", json.dumps(args))).value == said
    args["ids"]["no number"] = "x"
    for bad in (args, json.dumps(args)):
        errors = read(await orch.dispatch("save", bad))["invalid_arguments"]
        assert [error["argument"] for error in errors] == ["ids.no number"]


async def test_how_many_values_arguments_may_hold_is_a_setting() -> None:
    registry = Registry()

    @registry.tool(policy=ToolPolicy(max_args_values=3))
    async def count(numbers: list[int]) -> int:
        return len(numbers)

    @registry.tool(validate=False)
    async def loose(numbers: list[int]) -> int:
        return len(numbers)

    orch = ToolOrchestrator(registry)
    assert await orch.dispatch("count", '{"numbers": [1, 2]}') == "2"
    said = read(await orch.dispatch("count", '{"numbers": [1, 2, 3]}'))
    assert said["invalid_arguments"] == [
        {"argument": "(all)", "expected": "at most 3 values; send fewer"}
    ]
    assert await orch.dispatch("count", {"numbers": [1, 2, 3]}) == "3"
    assert await orch.dispatch("loose", json.dumps({"numbers": [1] * 2_998})) == "2998"
    for text in (
        json.dumps({"numbers": [1] * 3_000}),
        b'{"numbers": [%s1]}' % (b"1," * 3_000),
    ):
        assert read(await orch.dispatch("loose", text))["invalid_arguments"]
    with pytest.raises(InvalidArgumentsError):
        await registry.dispatch("count", '{"numbers": [1, 2, 3]}')


@pytest.mark.parametrize("asked", ["unknown", "get_weather", "down", "isolated"])
async def test_a_loop_that_keeps_asking_can_be_cancelled_and_starves_nobody(
    asked: str,
) -> None:
    weather = Weather(failure_threshold=1)

    @weather.registry.tool
    async def down() -> None:
        raise RuntimeError("no")

    @weather.registry.tool
    async def isolated() -> None: ...

    await weather.orch.dispatch("down")
    weather.orch.circuit("isolated").isolate()
    others = 0

    async def other() -> None:
        nonlocal others
        for _ in range(10):
            await checkpoint()
            others += 1
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        while True:
            await weather.orch.dispatch(asked, {"no": 1})
    assert others == 10
    assert all(s["in_flight"] == 0 for s in weather.orch.get_fleet_stats().values())


# What else the model reads


@virtual_time
async def test_a_refusal_says_how_long_to_wait_and_what_to_do_instead() -> None:
    registry = Registry()

    @registry.tool(alternatives=("get_climate", "search"))
    async def get_weather(city: str) -> str:
        raise RuntimeError("no")

    for name in ("get_climate", "search"):
        registry.tool(name=name)(no_constant)
    orch = ToolOrchestrator(registry, reset_timeout=42, clock=anyio.current_time)
    for _ in range(3):
        await orch.dispatch("get_weather", {"city": "Oslo"})
    await anyio.sleep(1.5)
    said = read(await orch.dispatch("get_weather", {"city": "Oslo"}))
    assert said == {
        "error": said["error"],
        "tool_name": "get_weather",
        "circuit_breaker": True,
        "state": "open",
        "retry_after": 41,
        "alternatives": ["get_climate", "search"],
    }
    for words in ("get_weather is down (3 failures in a row)", "41 s", "get_climate"):
        assert words in said["error"]
    with pytest.raises(CircuitOpenError) as caught:
        await orch.call("get_weather", {"city": "Oslo"})
    assert caught.value.retry_after == pytest.approx(40.5)
    assert (caught.value.state, caught.value.failures) == ("open", 3)
    result = await orch.run("get_weather", {"city": "Oslo"})
    assert result.retry_after == pytest.approx(40.5)
    assert (result.attempts, result.verdict, result.ok) == (0, Verdict.IGNORE, False)
    await anyio.sleep(40)
    assert read(await orch.dispatch("get_weather", {"city": "Oslo"}))["retry_after"] == 1
    # The circuit is asked before the arguments are looked at.
    assert "circuit_breaker" in read(await orch.dispatch("get_weather", {"x": 1}))
    await anyio.sleep(1)
    assert "invalid_arguments" in read(await orch.dispatch("get_weather", {"x": 1}))
    assert orch.circuit("get_weather").state == "open"


async def test_a_refusal_by_a_circuit_isolated_by_hand_has_no_time() -> None:
    weather = Weather()
    weather.orch.circuit("get_weather").isolate()
    said = read(await weather.orch.dispatch("get_weather", {"city": "Oslo"}))
    assert said["retry_after"] is None
    assert said["state"] == "isolated"
    assert said["alternatives"] == []
    assert said["circuit_breaker"] is True
    assert weather.ran == []


async def test_a_refusal_while_a_probe_is_out_has_a_finite_time() -> None:
    registry = Registry()
    now = 0.0
    begun, go_on = anyio.Event(), anyio.Event()

    @registry.tool
    async def tool(wait: bool = False) -> str:
        if wait:
            begun.set()
            await go_on.wait()
            return "up"
        raise RuntimeError("no")

    orch = ToolOrchestrator(
        registry, failure_threshold=1, reset_timeout=10, clock=lambda: now
    )
    await orch.dispatch("tool")
    now = 11.0
    async with anyio.create_task_group() as group:
        group.start_soon(orch.dispatch, "tool", {"wait": True})
        await begun.wait()
        said = read(await orch.dispatch("tool"))
        assert (said["state"], said["retry_after"]) == ("half_open", 1)
        assert said["circuit_breaker"] is True
        go_on.set()
    assert orch.circuit("tool").state == "closed"


@real_time
async def test_a_tool_over_its_timeout_says_so() -> None:
    registry = Registry()

    @registry.tool(timeout=0.01)
    async def slow() -> None:
        await anyio.sleep_forever()

    orch = ToolOrchestrator(registry)
    said = read(await orch.dispatch("slow"))
    assert set(said) == {"error", "tool_name", "timeout", "execution_time"}
    assert said["timeout"] is True
    assert said["execution_time"] > 0  # loops round their timers, each in its own way
    assert "slow" in said["error"]
    assert "0.01 s" in said["error"]
    with pytest.raises(ToolTimeoutError) as caught:
        await orch.call("slow")
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.timeout, caught.value.still_running) == (0.01, False)
    stats = orch.stats("slow")
    assert (stats.timeouts, stats.total_failures, stats.in_flight) == (2, 2, 0)


async def test_an_exception_shows_its_type_and_message() -> None:
    registry = Registry()

    @registry.tool
    async def fail() -> None:
        raise FileNotFoundError(2, "No such file", "/x")

    said = read(await ToolOrchestrator(registry).dispatch("fail"))
    assert set(said) == {"error", "tool_name", "error_type", "execution_time"}
    assert said["error_type"] == "FileNotFoundError"
    assert "No such file" in said["error"]
    assert "Traceback" not in said["error"]


async def test_a_group_of_exceptions_shows_what_is_in_it() -> None:
    registry = Registry()

    @registry.tool
    async def fail() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            raise ConnectionError("the line is dead")

    result = await ToolOrchestrator(registry).run("fail")
    assert result.verdict is Verdict.FAILURE
    assert "the line is dead" in read(result.content)["error"]


async def test_context_variables_of_the_caller_are_seen_by_the_tool() -> None:
    registry = Registry()
    user = contextvars.ContextVar("user", default="nobody")

    @registry.tool
    async def who() -> str:
        return user.get()

    orch = ToolOrchestrator(registry)
    user.set("joe")
    assert await orch.dispatch("who") == "joe"
    assert (await orch.dispatch_all([{"type": "tool_use", "name": "who", "input": {}}]))[
        0
    ].content == "joe"


async def test_words_that_are_parameters_too_may_be_context() -> None:
    registry = Registry()
    seen: list[Any] = []

    def note(outcome: Any) -> None:
        seen.append(outcome.context.data)

    @registry.tool(judge=note)
    async def ask() -> str:
        return "x"

    orch = ToolOrchestrator(registry)
    assert await orch.dispatch("ask", None, name="n", args="a", self="s") == "x"
    assert dict(seen[0]) == {"name": "n", "args": "a", "self": "s"}


def test_the_loops_may_follow_each_other() -> None:
    weather = Weather()

    async def main() -> None:
        assert await weather.orch.dispatch("get_weather", {"city": "Oslo"}) == "sun"
        assert await weather.orch.dispatch("plain", {"city": "Oslo"}) == "sun"

    for backend, options in (
        ("asyncio", {}),
        ("trio", {}),
        ("asyncio", {"use_uvloop": True}),
        ("trio", {}),
    ):
        anyio.run(main, backend=backend, backend_options=options)
    assert weather.orch.stats("get_weather").successes == 4


# Foreign text

HUNTER = "https://joe:hunter2@example.org/x?token=hunter2"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"
NASTY = (
    f"GET {HUNTER} failed\n"
    f"Authorization: Bearer {TOKEN}\n"
    "password=hunter2 \x1b[31mred\x1b[0m \x00\x07\x9b\u202e\ud800 " + "x" * 1_000_000
)
FORBIDDEN = re.compile(r"hunter2|dozjgNryP4J3|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800]")


def check(text: str, *, most: int = 5_000) -> None:
    found = FORBIDDEN.search(text)
    assert found is None, text[max(0, found.start() - 60) : found.end() + 60]
    assert len(text) <= most
    text.encode()


class Ears(logging.Handler):
    """
    Whatever is logged, as a file would have it, and the records themselves.
    """

    def __init__(self) -> None:
        super().__init__(0)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def ears() -> Iterator[Ears]:
    ears = Ears()
    log = logging.getLogger("orchestrator_async")
    level = log.level
    log.addHandler(ears)
    log.setLevel(1)
    yield ears
    log.removeHandler(ears)
    log.setLevel(level)


def raise_nasty() -> None:
    raise RuntimeError(NASTY)


def raise_chained() -> None:
    try:
        raise_nasty()
    except RuntimeError as error:
        raise ValueError(NASTY) from error


def raise_group() -> None:
    raise ExceptionGroup(NASTY[:3000], [RuntimeError(NASTY), OSError(NASTY)])


def raise_noted() -> None:
    error = RuntimeError("noted")
    error.add_note(NASTY)
    raise error


def raise_ours() -> None:
    raise OrchestratorError(NASTY, tool_name="fail")


def raise_invalid() -> None:
    raise InvalidArgumentsError(NASTY, tool_name="fail")


def raise_keyed() -> None:
    raise KeyError(NASTY)


def raise_exit() -> None:
    raise SystemExit(NASTY)


def return_error() -> Any:
    return {"error": NASTY}


RAISERS = [
    raise_nasty,
    raise_chained,
    raise_group,
    raise_noted,
    raise_ours,
    raise_invalid,
    raise_keyed,
    raise_exit,
]


@pytest.mark.parametrize("act", RAISERS)
@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
@real_time
async def test_the_text_of_an_exception_is_cleaned_wherever_it_goes(
    act: Any, plain: bool, ears: Ears
) -> None:
    registry = Registry()
    events: list[Any] = []

    async def fail() -> Any:
        return act()

    registry.tool(name="fail")(act if plain else fail)
    orch = ToolOrchestrator(registry, failure_threshold=2)
    check(await orch.dispatch("fail"))
    orch.add_observer(events.append)
    check((await orch.run("fail")).content)
    check(await orch.dispatch("fail"))
    result = await orch.run("fail")
    check(result.content)
    check(repr(result))
    check(json.dumps(orch.get_fleet_stats(), ensure_ascii=False))
    check(repr(orch.stats("fail")))
    check(repr(orch.circuit("fail")))
    if act is not raise_invalid:
        assert orch.circuit("fail").state == "open"
        changed = [each for each in events if isinstance(each, CircuitChanged)]
        assert changed[0].last_error
        with pytest.raises(CircuitOpenError) as caught:
            await orch.call("fail")
        check(str(caught.value))
        check(repr(caught.value))
        check(repr(caught.value.__dict__))
    for each in events:
        check(repr(each))
        if isinstance(each, CircuitChanged):
            check(str(each.last_error))
    for line in ears.lines:
        check(line, most=40_000)


async def test_the_text_of_a_returned_error_is_cleaned_beside_the_answer(
    ears: Ears,
) -> None:
    registry = Registry()
    events: list[Any] = []

    @registry.tool
    async def fail() -> Any:
        return {"error": NASTY.replace("\ud800", "")}

    for method in ("dispatch", "call", "run"):
        orch = ToolOrchestrator(registry, failure_threshold=1, observers=[events.append])
        await getattr(orch, method)("fail")
        check(json.dumps(orch.get_fleet_stats(), ensure_ascii=False))
    for each in events:
        check(repr(each))
    for line in ears.lines:
        check(line, most=40_000)


@real_time
async def test_what_our_own_parts_say_of_foreign_errors_is_cleaned(ears: Ears) -> None:
    registry = Registry()

    def judge(outcome: object) -> None:
        raise_nasty()

    def refuse(value: Any) -> Any:
        raise RuntimeError(NASTY)

    def say_no(value: Any) -> Any:
        raise ValueError(NASTY)

    def observer(event: object) -> None:
        raise_nasty()

    class Leaky(pydantic.BaseModel):
        x: int = 1

        @pydantic.field_serializer("x")
        def show(self, x: int) -> Any:
            raise_nasty()

    @registry.tool(judge=judge)
    async def judged() -> str:
        return "x"

    @registry.tool
    async def refusing(x: Annotated[int, pydantic.BeforeValidator(refuse)]) -> str:
        return "x"

    @registry.tool
    async def saying_no(x: Annotated[int, pydantic.BeforeValidator(say_no)]) -> str:
        return "x"

    @registry.tool
    async def leaking() -> Leaky:
        return Leaky()

    @registry.tool(timeout=0.01)
    async def slow() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise_nasty()

    @registry.tool
    async def unusable(x: int, /) -> None: ...

    orch = ToolOrchestrator(registry, failure_threshold=1, observers=[observer])
    for tool in ("judged", "refusing", "saying_no", "leaking", "slow", "unusable"):
        for _ in range(2):
            text = await orch.dispatch(tool, {"x": 1} if "ing" in tool[:9] else {})
            check(text)
    for _ in range(2):
        check(await orch.dispatch("refusing", {"x": 1}))
        check(await orch.dispatch("saying_no", {"x": 1}))
        check(await orch.dispatch("leaking"))
    check(json.dumps(orch.get_fleet_stats(), ensure_ascii=False))
    assert ears.lines
    for line in ears.lines:
        check(line, most=40_000)


async def test_the_cleaner_can_be_replaced_and_may_fail(ears: Ears) -> None:
    registry = Registry()

    @registry.tool
    async def fail() -> None:
        raise RuntimeError(f"my secret, and {HUNTER}")

    orch = ToolOrchestrator(registry, clean=lambda text: text.replace("secret", "s..."))
    text = await orch.dispatch("fail")
    assert "my s..." in text

    def broken(text: str) -> str:
        raise RuntimeError(text)

    for clean in (broken, lambda text: None):
        orch = ToolOrchestrator(registry, failure_threshold=1, clean=clean)  # type: ignore[arg-type]
        check(await orch.dispatch("fail"))
        check(json.dumps(orch.get_fleet_stats()))
    ears.lines = [line for line in ears.lines if "s..." not in line]
    for line in ears.lines:
        check(line, most=40_000)


KEY = "-----BEGIN PRIVATE KEY-----\nhunter2\nhunter2\n-----END PRIVATE KEY-----"
# Costly to clean, each in another way.
COSTLY = ("bearer token ", "//joe:hunter2@x\u200d", "token\ttoken\t//\u200d", "/a://b:c@")


def noted(*notes: str) -> Exception:
    error = ValueError("noted")
    for note in notes:
        error.add_note(note)
    return error


def led_by(many: int) -> Exception:
    error = ValueError("the first of all")
    for _ in range(many):
        try:
            raise ValueError(NASTY[:5000]) from error
        except ValueError as caught:
            error = caught
    return error


def in_a_ring() -> Exception:
    one, other = ValueError(NASTY), KeyError("other")
    one.__cause__, other.__cause__ = other, one
    return one


def from_deep(depth: int) -> None:
    if depth:
        from_deep(depth - 1)
    raise ValueError(NASTY)


def group_of(*texts: str) -> Exception:
    return ExceptionGroup("many", [ValueError(text) for text in texts])


LARGE: dict[str, Callable[[], Any]] = {
    "text": lambda: ValueError(NASTY),
    "lines": lambda: ValueError("<p>hunter</p>\n" * 80_000),
    "a note": lambda: noted(NASTY),
    "lines in a note": lambda: noted("<p>hunter</p>\n" * 80_000),
    "a key in a note": lambda: noted("see", KEY),
    "notes": lambda: noted(*[NASTY] * 50),
    "causes": lambda: led_by(300),
    "a ring of causes": in_a_ring,
    "calls": lambda: from_deep(200),
    "a group": lambda: group_of(*[NASTY] * 8),
    "groups in groups": lambda: ExceptionGroup("g", [group_of(*[NASTY] * 8)] * 8),
    "bad arguments": lambda: InvalidArgumentsError(
        errors=[{"argument": NASTY, "expected": NASTY}] * 3
    ),
    "many bad arguments": lambda: InvalidArgumentsError(
        errors=[{"argument": NASTY[:500], "expected": NASTY[:500]}] * 100
    ),
    **{
        repr(text): functools.partial(ValueError, text * (1_000_000 // len(text)))
        for text in COSTLY
    },
    **{
        f"a group of {text!r}": functools.partial(
            group_of, *[text * (1_000_000 // len(text))] * 8
        )
        for text in COSTLY
    },
}


def failing(make: Callable[[], Any]) -> ToolOrchestrator:
    """
    With a tool ``fail`` that raises one error again and again: `make` makes or raises it.
    """
    registry = Registry()
    error: Any = None
    with contextlib.suppress(ValueError):
        error = make()

    @registry.tool
    async def fail() -> None:
        nonlocal error
        if error is not None:
            raise error
        try:
            make()
        except ValueError as raised:
            error = raised
            raise

    return ToolOrchestrator(registry, failure_threshold=1_000_000)


@pytest.mark.parametrize("make", LARGE.values(), ids=list(LARGE))
async def test_no_exception_fills_the_log(make: Any, ears: Ears) -> None:
    orch = failing(make)
    for _ in range(6):
        check(await orch.dispatch("fail"))
    check(json.dumps(orch.get_fleet_stats()))
    # The model's mistakes are no news.
    assert bool(ears.lines) == (orch.stats("fail").total_failures > 0)
    for line in ears.lines:
        check(line, most=12_500)


async def test_the_log_tells_the_whole_story_of_an_error(ears: Ears) -> None:
    registry = Registry()

    @registry.tool
    async def fail() -> None:
        try:
            try:
                raise KeyError("first")
            except KeyError as error:
                raise ExceptionGroup("several", [OSError("one"), OSError("two")]) from error
        except ExceptionGroup:
            last = ValueError("last")
            last.add_note("and a note")
            raise last  # noqa: B904

    await ToolOrchestrator(registry).dispatch("fail")
    (text,) = ears.lines
    parts = [
        "KeyError: 'first'",
        "several",
        "OSError: one",
        "OSError: two",
        "ValueError: last",
        "and a note",
    ]
    places = [text.index(part, text.index("\n")) for part in parts]
    assert places == sorted(places)
    assert text.count("Traceback (most recent call last):") == 3
    assert "in fail\n    raise last" in text


async def test_a_made_up_argument_of_a_megabyte_is_cut(ears: Ears) -> None:
    weather = Weather()
    for tool in ("get_weather", "loose"):
        check(await weather.orch.dispatch(tool, {"x" * 1_000_000: 1, "city": "Oslo"}))
        check(await weather.orch.dispatch(tool, {HUNTER: 1, "city": "Oslo"}))


# Anything at all

anything: st.SearchStrategy[Any] = st.deferred(
    lambda: (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.binary()
        | st.builds(object)
        | st.lists(anything, max_size=3)
        | st.tuples(anything)
        | st.dictionaries(st.text() | st.integers() | st.none(), anything, max_size=3)
        | st.sampled_from([dict, len, re.compile("x"), NASTY])
    )
)


@given(name=anything, args=anything)
@settings(max_examples=200)
async def test_dispatch_raises_for_no_name_and_no_arguments(name: Any, args: Any) -> None:
    weather = Weather()
    said = read(await weather.orch.dispatch(name, args))
    assert isinstance(said["error"], str)
    assert said["unknown_tool"] is True


@given(
    tool=st.sampled_from(["get_weather", "loose"]),
    args=anything
    | st.text().map(lambda text: '{"city": ' + text)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps)
    | st.dictionaries(st.sampled_from(["city", "days", "x"]), anything),
)
@settings(max_examples=300)
async def test_dispatch_raises_for_no_arguments_of_a_tool(tool: str, args: Any) -> None:
    weather = Weather()
    text = await weather.orch.dispatch(tool, args)
    if weather.ran:
        assert text == "sun"
    else:
        said = read(text)
        assert isinstance(said["error"], str)
        assert said["invalid_arguments"]
    assert weather.orch.stats(tool).failures == 0
    assert weather.orch.stats(tool).in_flight == 0


class OddMapping(Mapping[str, Any]):
    def __init__(self, *broken: str) -> None:
        self._broken = broken

    def _do(self, what: str) -> None:
        if what in self._broken:
            raise RuntimeError(f"no {what}: {HUNTER}")

    def __getitem__(self, key: str) -> Any:
        self._do("get")
        return {"city": "Oslo"}[key]

    def __iter__(self) -> Iterator[str]:
        self._do("iter")
        return iter(["city"])

    def __len__(self) -> int:
        self._do("len")
        return 1

    def __bool__(self) -> bool:
        self._do("bool")
        return True


class OddDict(dict[str, Any]):
    def keys(self) -> Any:
        raise RuntimeError("no keys")

    def __iter__(self) -> Any:
        raise RuntimeError("no iter")

    def get(self, *args: Any) -> Any:
        raise RuntimeError("no get")

    def items(self) -> Any:
        raise RuntimeError("no items")


@pytest.mark.parametrize("tool", ["get_weather", "plain", "loose", "loose_plain"])
@pytest.mark.parametrize(
    "args",
    [
        OddMapping("get"),
        OddMapping("iter"),
        OddMapping("len"),
        OddMapping("bool"),
        OddMapping("get", "iter", "len", "bool"),
        OddDict(),
        OddDict(city="Oslo"),
    ],
    ids=["get", "iter", "len", "bool", "all", "dict", "full dict"],
)
@real_time
async def test_a_mapping_that_raises_is_invalid_arguments(
    tool: str, args: Any, ears: Ears
) -> None:
    weather = Weather(failure_threshold=1)
    text = await weather.orch.dispatch(tool, args)
    if weather.ran:
        assert text == "sun"
    else:
        assert read(text)["invalid_arguments"]
        check(text)
    stats = weather.orch.stats(tool)
    assert (stats.failures, stats.in_flight, stats.state) == (0, 0, "closed")
    for line in ears.lines:
        check(line, most=40_000)


async def test_text_with_a_byte_order_mark_has_an_answer() -> None:
    weather = Weather()
    for args in ('\ufeff{"city": "Oslo"}', b'\xef\xbb\xbf{"city": "Oslo"}'):
        for tool in ("get_weather", "loose"):
            text = await weather.orch.dispatch(tool, args)
            assert text == "sun" or read(text)["invalid_arguments"]


async def test_a_shared_breaker_policy_does_not_mix_tools_up() -> None:
    registry = Registry()
    policy = ToolPolicy(breaker=BreakerPolicy(failure_threshold=1))

    @registry.tool(policy=policy)
    async def one() -> None:
        raise RuntimeError("no")

    @registry.tool(policy=policy)
    async def two() -> str:
        return "x"

    orch = ToolOrchestrator(registry)
    await orch.dispatch("one")
    assert orch.circuit("one").state == "open"
    assert await orch.dispatch("two") == "x"


class TextWithoutLength(str):  # noqa: SLOT000
    def __len__(self) -> int:
        raise RuntimeError("no length")


async def test_text_whose_length_raises_is_text() -> None:
    registry = Registry()

    @registry.tool
    async def speak() -> str:
        return TextWithoutLength("hello")

    for observers in ([], [lambda event: None]):
        orch = ToolOrchestrator(registry, observers=observers)
        assert str.__str__(await orch.dispatch("speak")) == "hello"
        assert (await orch.run("speak")).ok
        assert [result.ok for result in await orch.dispatch_all([ToolCall("speak")])] == [
            True
        ]
