"""
What a result says of its tool, and what the model reads of it.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import dataclasses
import datetime
import decimal
import enum
import gc
import json
import logging
import os
import pathlib
import re
import socket
import sys
import types
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import anyio
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_async import (
    BreakerPolicy,
    CircuitOpenError,
    CircuitState,
    InvalidArgumentsError,
    InvalidResultError,
    OrchestratorError,
    Outcome,
    Registry,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
    Verdict,
    any_error,
    exceptions_only,
)

from .clock import real_time


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def read(text: str) -> Any:
    return json.loads(text, parse_constant=no_constant)


def numbered(values: Iterable[Any]) -> list[str]:
    return [f"{n} {type(v).__name__}" for n, v in enumerate(values)]


def timeless(text: str) -> str:
    return re.sub(r'"execution_time": [\d.e-]+', "", text)


class Giving:
    """
    An orchestrator with one tool, ``give``, that returns or raises what it is told.
    """

    def __init__(self, **options: Any) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self.registry = Registry()
        self.registry.tool(name="give", **options)(self._give)
        # Verdicts alone are looked at: neither failures nor pauses are to open it.
        policy = BreakerPolicy(failure_threshold=1_000_000, max_pause=None)
        self.orch = ToolOrchestrator(self.registry, policy=policy)

    async def _give(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value

    async def gives(self, value: Any) -> ToolResult:
        self.value, self.error = value, None
        result = await self.orch.run("give")
        failures = self.orch.stats("give").total_failures
        assert timeless(await self.orch.dispatch("give")) == timeless(result.content)
        more = self.orch.stats("give").total_failures - failures
        assert more == (result.verdict is Verdict.FAILURE)
        return result

    async def raises(self, error: BaseException) -> ToolResult:
        self.error = error
        return await self.orch.run("give")


class Model(pydantic.BaseModel):
    error: Any = None
    output: str = "x"


@dataclasses.dataclass
class Data:
    error: Any = None
    output: str = "x"


class Truthless:
    def __bool__(self) -> bool:
        raise RuntimeError("no truth")


class Text(str):
    __slots__ = ()


class Computed(pydantic.BaseModel):
    code: int = 0

    @pydantic.computed_field
    def error(self) -> str | None:
        return "boom" if self.code else None


class Aliased(pydantic.BaseModel):
    # Made of two, lest it be the same object as everybody's "error".
    failure: str | None = pydantic.Field(
        default=None, serialization_alias="".join(("err", "or"))
    )


class ComputedAlias(pydantic.BaseModel):
    code: int = 0

    @pydantic.computed_field(alias="error")
    def failure(self) -> int:
        return self.code


class Extra(pydantic.BaseModel, extra="allow"):
    output: str = "x"


SUCCESSES: list[Any] = [
    None,
    "",
    "text",
    "[]",
    0,
    False,
    [],
    {},
    [{"error": "boom"}],
    {"error": None, "output": "x"},
    {"error": ""},
    {"error": 0},
    {"error": False},
    {"error": []},
    {"error": {}},
    {"output": {"error": "boom"}},
    {"errors": ["boom"]},
    {"Error": "boom"},
    '{"error": null, "output": "x"}',
    '{"error": ""}',
    '{ "error" : false }',
    '{"output": {"error": "boom"}}',
    '{"output": "\\"error\\": \\"boom\\""}',
    '[{"error": "boom"}]',
    '"error": "boom"',
    'The log says {"error": "boom"} twice.',
    '{"error": "boom"',
    '{"error": "boom"} and more',
    '{"error": "boom"}{"error": "boom"}',
    '{not json, "error": 1}',
    "Error: boom",
    Model(),
    Model(error=0),
    Computed(),
    Aliased(),
    ComputedAlias(),
    Extra(more="boom"),  # type: ignore[call-arg]
    Data(),
    Data(error=[]),
    types.MappingProxyType({"error": None}),
    collections.OrderedDict(output={"error": 1}),
]

FAILURES: list[Any] = [
    {"error": "boom"},
    {"error": True},
    {"error": 1},
    {"error": {"code": 1}},
    {"error": ["boom"]},
    '{"error": "boom"}',
    '{ "error" : "boom" }',
    '\n\t {\n\t"error"\r\n:\n"boom"\n}\n ',
    '{"output": "x", "error": {"code": 3}}',
    '{"err\\u006fr": "boom"}',
    '{"\\u0065rror": "boom"}',
    '{"error": "\\ud800"}',
    '{"error": null, "error": "boom"}',
    Text('{"error": "boom"}'),
    Model(error="boom"),
    Computed(code=500),
    Aliased(failure="boom"),
    ComputedAlias(code=500),
    Extra(error="boom"),  # type: ignore[call-arg]
    Data(error="boom"),
    types.MappingProxyType({"error": "boom"}),
    collections.OrderedDict(error="boom"),
    collections.ChainMap({"error": "boom"}),
]


@pytest.mark.parametrize("value", SUCCESSES, ids=numbered(SUCCESSES))
async def test_what_tells_of_no_error_is_a_success(value: Any) -> None:
    result = await Giving().gives(value)
    assert result.verdict is Verdict.SUCCESS
    assert result.ok
    assert result.value is value
    assert result.error is None
    assert any_error(Outcome(value=value)) is Verdict.SUCCESS


@pytest.mark.parametrize("value", FAILURES, ids=numbered(FAILURES))
async def test_an_error_at_the_top_is_a_failure(value: Any) -> None:
    giving = Giving()
    result = await giving.gives(value)
    assert result.verdict is Verdict.FAILURE
    assert not result.ok
    assert result.error is None
    assert result.value is value
    assert result.content == (value if isinstance(value, str) else result.content)
    assert read(result.content)["error"]
    assert any_error(Outcome(value=value)) is Verdict.FAILURE
    assert await giving.orch.call("give") is value
    assert giving.orch.stats("give").total_failures == 3


REFUSED: dict[str, Any] = {"error": "down", "tool_name": "inner"}


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({"circuit_breaker": True}, Verdict.IGNORE),
        ({"draining": True}, Verdict.IGNORE),
        ({"draining": 1}, Verdict.FAILURE),
        ({"limit": "threads", "retry_after": 1}, Verdict.IGNORE),
        ({"limit": "threads", "retry_after": None}, Verdict.IGNORE),
        ({}, Verdict.FAILURE),
        ({"circuit_breaker": False}, Verdict.FAILURE),
        ({"circuit_breaker": 2}, Verdict.FAILURE),
        ({"circuit_breaker": "open"}, Verdict.FAILURE),
        ({"limit": "threads"}, Verdict.FAILURE),
        ({"limit": 4, "retry_after": 1}, Verdict.FAILURE),
        ({"retry_after": 1}, Verdict.FAILURE),
        ({"tool_name": None, "circuit_breaker": True}, Verdict.FAILURE),
        ({"tool_name": 3, "limit": "threads", "retry_after": 1}, Verdict.FAILURE),
    ],
)
async def test_an_error_that_looks_like_an_inner_refusal_and_no_other_gives_no_verdict(
    more: dict[str, Any], verdict: Verdict
) -> None:
    value = {**REFUSED, **more}
    for form in (value, json.dumps(value), types.MappingProxyType(value)):
        result = await Giving().gives(form)
        assert (result.verdict, result.ok) == (verdict, False)
        assert any_error(Outcome(value=form)) is verdict


def test_only_a_mapping_can_be_an_inner_refusal() -> None:
    @dataclasses.dataclass
    class Refused:
        error: str = "down"
        tool_name: str = "inner"
        circuit_breaker: bool = True

    assert any_error(Outcome(value=Refused())) is Verdict.FAILURE


@pytest.mark.parametrize(
    "value", [*SUCCESSES, *FAILURES], ids=numbered([*SUCCESSES, *FAILURES])
)
async def test_exceptions_only_looks_at_no_value(value: Any) -> None:
    result = await Giving(judge=exceptions_only).gives(value)
    assert result.verdict is Verdict.SUCCESS
    assert exceptions_only(Outcome(value=value)) is Verdict.SUCCESS


async def test_a_str_goes_through_unchanged() -> None:
    giving = Giving()
    for text in ("", " x\n", '{"a": 1}', "æ\u202e\x1b[31m", "x" * 1_000_000, "\ud800"):
        assert (await giving.gives(text)).content == text


@given(st.text())
def test_any_text_has_a_verdict(text: str) -> None:
    for padded in (text, "{" + text, '{"error"' + text, '{"error": ' + text + "}"):
        try:
            value = json.loads(padded)
        except ValueError:
            expected = Verdict.SUCCESS
        else:
            failed = isinstance(value, dict) and bool(value.get("error"))
            expected = Verdict.FAILURE if failed else Verdict.SUCCESS
        if "NaN" in padded or "Infinity" in padded:
            continue
        assert any_error(Outcome(value=padded)) is expected


async def test_text_of_a_megabyte_that_tells_of_an_error_is_a_failure() -> None:
    giving = Giving()
    long = json.dumps({"output": "x" * 1_000_000, "error": "boom"})
    assert (await giving.gives(long)).verdict is Verdict.FAILURE
    assert (await giving.gives("{" * 1_000_000 + '"error"')).ok
    assert (await giving.gives('{"error":' * 100_000)).ok


# Odd values


class OddError(Mapping[str, Any]):
    def __init__(self, error: Any) -> None:
        self._error = error

    def __getitem__(self, key: str) -> Any:
        if key == "error" and isinstance(self._error, Exception):
            raise self._error
        return {"error": self._error}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(["error"])

    def __len__(self) -> int:
        return 1


class OddDict(dict[str, Any]):
    def get(self, *args: Any) -> Any:
        raise RuntimeError("no get")


@dataclasses.dataclass
class OddData:
    output: str = "x"

    @property
    def error(self) -> str:
        raise RuntimeError("no error")


class OddModel(pydantic.BaseModel):
    output: str = "x"

    @property
    def error(self) -> str:
        raise RuntimeError("no error")


class OddKeys(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")

    def __iter__(self) -> Any:
        raise RuntimeError("no iter")


ODD: list[Any] = [
    OddError(RuntimeError("odd")),
    OddError(Truthless()),
    {"error": Truthless()},
    OddDict(error="boom"),
    OddDict(output="x"),
    OddData(),
    OddModel(),
    OddKeys(error="boom"),
    OddKeys(output="x"),
]


@pytest.mark.parametrize("value", ODD, ids=numbered(ODD))
async def test_a_value_that_raises_when_it_is_looked_at_has_an_answer(value: Any) -> None:
    giving = Giving()
    result = await giving.gives(value)
    assert isinstance(read(result.content), (dict, str))
    assert giving.orch.stats("give").in_flight == 0
    assert await giving.orch.call("give") is value
    assert giving.orch.stats("give").in_flight == 0


async def test_no_class_is_kept_alive_by_what_was_found_of_it() -> None:
    giving = Giving()

    async def judged() -> weakref.ref[type]:
        @dataclasses.dataclass
        class Passing:
            error: str = "boom"

        assert (await giving.gives(Passing())).verdict is Verdict.FAILURE
        giving.value = None
        return weakref.ref(Passing)

    watched = await judged()
    await anyio.lowlevel.checkpoint()
    gc.collect()
    assert watched() is None


async def test_an_error_without_truth_is_an_error() -> None:
    giving = Giving()
    assert (await giving.gives({"error": Truthless()})).verdict is Verdict.FAILURE
    assert any_error(Outcome(value={"error": Truthless()})) is Verdict.FAILURE


# What cannot be made JSON


class Unbound:
    """
    A proxy outside of its context.
    """

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("outside of its context")


class Pretender:
    """
    What says that it is a ``str``, as some fakes do.
    """

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return str


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


class WithoutName(metaclass=Nameless):
    pass


class Leaving:
    """
    What leaves when it is read.
    """

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __fspath__(self) -> str:
        raise self.error


os.PathLike.register(Leaving)


class Leaky(pydantic.BaseModel):
    x: int = 1

    @pydantic.field_serializer("x")
    def show(self, x: int) -> Any:
        raise RuntimeError("cannot show it")


def circular_list() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def circular_dict() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = {"x": [value]}
    return value


@dataclasses.dataclass
class Node:
    child: Any = None


def circular_data() -> Node:
    node = Node()
    node.child = [node]
    return node


def nested() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


UNSHOWABLE: list[tuple[Any, str]] = [
    (object, "object"),
    (circular_list, "list"),
    (circular_dict, "dict"),
    (circular_data, "Node"),
    (nested, "list"),
    (socket.socket, "socket"),
    (lambda: {"f": lambda: None}, "dict"),
    (lambda: {"deep": [{"x": object()}]}, "dict"),
    (lambda: [Truthless()], "list"),
    (lambda: len, "builtin_function_or_method"),
    (lambda: {object(): 1}, "dict"),
    (lambda: Leaky(), "Leaky"),
    (Unbound, "Unbound"),
    (lambda: {"user": Unbound()}, "dict"),
    (Pretender, "Pretender"),
    (WithoutName, "WithoutName"),
    (lambda: Leaving(SystemExit), "Leaving"),
    (lambda: Leaving(asyncio.CancelledError), "Leaving"),
]


@pytest.mark.parametrize(
    ("make", "kind"), UNSHOWABLE, ids=numbered(kind for _, kind in UNSHOWABLE)
)
async def test_what_cannot_be_made_json_is_a_failure_that_names_tool_and_type(
    make: Any, kind: str
) -> None:
    value = make()
    giving = Giving()
    result = await giving.gives(value)
    assert result.verdict is Verdict.FAILURE
    assert not result.ok
    assert result.value is value
    said = read(result.content)
    assert {"error", "tool_name", "error_type", "execution_time"} == set(said)
    assert "give" in said["error"]
    assert kind in said["error"]
    assert said["tool_name"] == "give"
    assert len(result.content) < 2500
    assert isinstance(result.error, OrchestratorError)
    assert isinstance(result.error, TypeError)
    assert result.error.tool_name == "give"
    if type(value) is socket.socket:
        value.close()


class Saying(Exception):
    """
    What says something of its own, when it is asked.
    """

    def __init__(self, say: Callable[[], str]) -> None:
        self._say = say

    def __str__(self) -> str:
        return self._say()


class Uncut(str):
    """
    A text that leaves when it is taken apart.
    """

    __slots__ = ()

    def partition(self, sep: str, /) -> Any:
        sys.exit("not to be cut")


def stopped_by(error: BaseException) -> Iterator[int]:
    yield 1
    raise error


def bad_read() -> str:
    raise RuntimeError("no text")


REASONS: dict[str, tuple[Callable[[], Any], str]] = {
    "an object": (object, "no JSON for object"),
    "within": (lambda: {"f": [len]}, "no JSON for builtin_function_or_method"),
    "a ring": (circular_list, "it holds itself"),
    "a ring of dicts": (circular_dict, "it holds itself"),
    "two lines": (lambda: stopped_by(ValueError("no\nmore")), "no"),
    "prefixed": (lambda: stopped_by(ValueError("in line 3: no")), "no"),
    "of a serializer": (Leaky, "cannot show it"),
    "as long as may be": (lambda: stopped_by(ValueError("x" * 200)), "x" * 200),
    "longer": (lambda: stopped_by(ValueError("x" * 201)), "x" * 200),
    "uncut": (lambda: stopped_by(Saying(lambda: Uncut("no"))), "no"),
    "raises": (lambda: stopped_by(Saying(bad_read)), "it raises when it is read"),
    "leaves": (lambda: stopped_by(Saying(sys.exit)), "it raises when it is read"),
}


@pytest.mark.parametrize(("make", "reason"), REASONS.values(), ids=list(REASONS))
async def test_it_is_said_why_a_value_cannot_be_made_json(make: Any, reason: str) -> None:
    giving = Giving()
    giving.value = make()
    result = await giving.orch.run("give")
    assert result.verdict is Verdict.FAILURE
    assert f"cannot be made JSON ({reason}). It did run." in read(result.content)["error"]


async def test_an_interrupt_in_what_a_value_raised_goes_up() -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    giving = Giving()
    for method in (giving.orch.dispatch, giving.orch.run):
        giving.value = stopped_by(Saying(interrupted))
        with pytest.raises(KeyboardInterrupt):
            await method("give")
    stats = giving.orch.stats("give")
    assert (stats.in_flight, stats.total_failures, stats.state) == (0, 0, "closed")


@real_time
async def test_a_value_out_of_a_thread_that_cannot_be_looked_at_is_named() -> None:
    registry = Registry()

    @registry.tool
    def tool() -> object:
        return Unbound()

    result = await ToolOrchestrator(registry).run("tool")
    assert "Unbound" in read(result.content)["error"]
    assert result.verdict is Verdict.FAILURE


async def test_a_program_gets_the_value_that_no_model_can_read() -> None:
    giving = Giving()
    giving.value = value = object()
    assert await giving.orch.call("give") is value
    assert giving.orch.stats("give").total_failures == 0


async def test_what_cannot_be_made_json_opens_the_circuit() -> None:
    registry = Registry()

    @registry.tool
    async def give() -> object:
        return object()

    orch = ToolOrchestrator(registry, failure_threshold=2)
    await orch.dispatch("give")
    await orch.dispatch("give")
    assert orch.circuit("give").state is CircuitState.OPEN


# What can


class Colour(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Place(os.PathLike[str]):
    def __fspath__(self) -> str:
        return "/x/y"


NOON = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)


class Point(NamedTuple):
    x: int
    y: int


SHOWN: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (3, 3),
    (1.5, 1.5),
    ([1, "x", None], [1, "x", None]),
    ((1, 2), [1, 2]),
    ({"a": {"b": [1]}}, {"a": {"b": [1]}}),
    ({1: "x", None: "y"}, {"1": "x", "None": "y"}),
    (Point(1, 2), [1, 2]),
    ({3}, [3]),
    (Model(output="y"), {"error": None, "output": "y"}),
    ([Model(output="y")], [{"error": None, "output": "y"}]),
    (Data(output="y"), {"error": None, "output": "y"}),
    ({"at": NOON}, {"at": "2024-02-29T12:00:00Z"}),
    (NOON, "2024-02-29T12:00:00Z"),
    (NOON.date(), "2024-02-29"),
    (datetime.timedelta(seconds=90), "PT1M30S"),
    (decimal.Decimal("1.10"), "1.10"),
    (uuid.UUID(int=3), str(uuid.UUID(int=3))),
    (pathlib.Path("/x/y"), "/x/y"),
    (Colour.RED, "red"),
    ({"n": Number.ONE}, {"n": 1}),
    (b"text", "text"),
    (bytearray(b"text"), "text"),
    (memoryview(b"text"), "text"),
    ({"b": b"text"}, {"b": "text"}),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    ({"m": types.MappingProxyType({"a": 1})}, {"m": {"a": 1}}),
    (collections.deque([1]), [1]),
    (collections.UserList([1, "x"]), [1, "x"]),
    ({"a": 1}.keys(), ["a"]),
    ({"place": Place()}, {"place": "/x/y"}),
    ({"æ": "€🙂"}, {"æ": "€🙂"}),
]


@pytest.mark.parametrize(("value", "shown"), SHOWN, ids=numbered(SHOWN))
async def test_values_become_json(value: Any, shown: Any) -> None:
    result = await Giving().gives(value)
    assert result.ok
    assert read(result.content) == shown


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        -float("inf"),
        {"x": float("nan")},
        {float("nan"): 1, float("inf"): 2},
        decimal.Decimal("NaN"),
        decimal.Decimal("-Infinity"),
        Model(error=None, output="x").model_copy(update={"output": "y"}),
        Data(output=float("nan")),  # type: ignore[arg-type]
        pydantic.create_model("F", x=(float, 0.0))(x=float("inf")),
        {"bytes": b"\xff\xfe"},
        b"\xff\xfe",
        {b"\xff": 1},
        bytearray(b"\xff"),
        {"a": 10**100},
    ],
)
async def test_odd_values_become_json_that_every_parser_reads(value: Any) -> None:
    giving = Giving()
    giving.value = value
    result = await giving.orch.run("give")
    assert result.ok
    read(result.content)


async def test_bytes_that_are_no_text_become_base64() -> None:
    said = read((await Giving().gives({"b": b"\xff\xfe\xfd"})).content)
    assert base64.urlsafe_b64decode(said["b"]) == b"\xff\xfe\xfd"


@pytest.mark.parametrize(
    "value", [["\ud800"], {"x": "a\udfffb"}, {"\ud800": 1}, Model(output="\ud83d")]
)
async def test_lone_surrogates_do_not_take_the_rest_away(value: Any) -> None:
    result = await Giving().gives(value)
    assert result.ok
    read(result.content)
    result.content.encode()


async def test_numbers_that_are_none_are_text_beside_lone_surrogates_too() -> None:
    value = {
        "x": "\ud800",
        "y": [float("nan"), 1.5],
        "z": {"inf": -float("inf")},
        "n": None,
    }
    said = (await Giving().gives(value)).content
    assert read(said) == {**value, "y": ["NaN", 1.5], "z": {"inf": "-Infinity"}}
    assert " " not in said


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals()
    | st.datetimes()
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers() | st.floats() | st.binary(), inner)
        | st.builds(Data, error=inner)
    ),
    max_leaves=10,
)


@given(json_like.filter(lambda value: not isinstance(value, str)))
async def test_whatever_is_returned_the_model_reads_json(value: Any) -> None:
    giving = Giving()
    giving.value = value
    result = await giving.orch.run("give")
    said = read(result.content)
    assert (result.error is None) or set(said) >= {"error", "tool_name"}


async def test_a_result_of_many_megabytes_goes_through() -> None:
    value = {"x": "y" * 10_000_000}
    result = await Giving().gives(value)
    assert read(result.content) == value


# Judges


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (True, Verdict.FAILURE),
        (False, Verdict.SUCCESS),
        (Verdict.FAILURE, Verdict.FAILURE),
        (Verdict.SUCCESS, Verdict.SUCCESS),
        (Verdict.IGNORE, Verdict.IGNORE),
    ],
)
@pytest.mark.parametrize("raises", [False, True])
async def test_what_a_judge_says_holds(said: Any, verdict: Verdict, raises: bool) -> None:
    giving = Giving(judge=lambda outcome: said)
    if raises:
        result = await giving.raises(RuntimeError("no"))
        assert read(result.content)["error_type"] == "RuntimeError"
    else:
        result = await giving.gives({"error": "boom"})
        assert read(result.content) == {"error": "boom"}
        assert result.ok is (verdict is Verdict.SUCCESS)
    assert result.verdict is verdict


async def test_a_judge_without_an_opinion_leaves_it_to_the_table() -> None:
    giving = Giving(judge=lambda outcome: None)
    assert (await giving.gives("x")).verdict is Verdict.SUCCESS
    assert (await giving.gives({"error": "boom"})).verdict is Verdict.FAILURE
    assert (await giving.raises(RuntimeError())).verdict is Verdict.FAILURE
    assert (await giving.raises(InvalidArgumentsError("x"))).verdict is Verdict.IGNORE


def test_an_outcome_says_nothing_that_it_was_not_told() -> None:
    outcome = Outcome()
    assert (outcome.value, outcome.error, outcome.context) == (None, None, None)
    assert outcome.duration == 0
    assert "context" not in repr(outcome)
    with pytest.raises(TypeError):
        Outcome("x")  # type: ignore[call-arg]


def test_outcomes_are_compared_without_a_look_at_their_values() -> None:
    value = Unbound()
    one, other = Outcome(value=value), Outcome(value=value)
    assert one == one
    assert one != other
    assert len({one, other}) == 2


async def test_a_judge_sees_the_outcome_and_the_context() -> None:
    seen: list[Outcome] = []
    registry = Registry()
    error = RuntimeError("no")

    @registry.tool(judge=seen.append)
    async def give(x: int) -> int:
        if x:
            raise error
        return x

    orch = ToolOrchestrator(registry)
    await orch.dispatch("give", {"x": 0}, call_id="c1", user=3)
    await orch.dispatch("give", {"x": 1})
    assert (seen[0].value, seen[0].error) == (0, None)
    assert (seen[1].value, seen[1].error) == (None, error)
    assert all(outcome.duration >= 0 for outcome in seen)
    context = seen[0].context
    assert context is not None
    assert (context.tool_name, context.call_id) == ("give", "c1")
    assert dict(context.data) == {"user": 3}


def raising(outcome: Outcome) -> bool:
    raise ValueError("the judge is ill")


def leaving(outcome: Outcome) -> bool:
    sys.exit("the judge has had enough")


def asking_a_future(outcome: Outcome) -> bool:
    raise asyncio.CancelledError  # what ``result()`` of a cancelled one does


@pytest.mark.parametrize(
    "judge",
    [raising, leaving, asking_a_future, lambda outcome: "yes", lambda outcome: 1],
    ids=["raises", "leaves", "cancelled", "text", "number"],
)
async def test_a_judge_that_raises_has_no_opinion_and_is_logged(
    judge: Any, caplog: pytest.LogCaptureFixture
) -> None:
    giving = Giving(judge=judge)
    assert (await giving.gives("x")).verdict is Verdict.SUCCESS
    assert (await giving.gives({"error": "boom"})).verdict is Verdict.FAILURE
    assert (await giving.raises(RuntimeError())).verdict is Verdict.FAILURE
    loud = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(loud) == 1
    assert "give" in loud[0].getMessage()
    assert "judge" in loud[0].getMessage()
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("judge", [any_error, exceptions_only])
def test_the_ready_made_judges_tell_what_was_raised_as_the_table_does(judge: Any) -> None:
    inner = CircuitOpenError(
        tool_name="x", circuit="x", state="open", retry_after=1.0, failures=3
    )
    assert judge(Outcome(error=ConnectionError())) is Verdict.FAILURE
    assert judge(Outcome(error=inner)) is Verdict.IGNORE


async def test_bytes_that_are_no_text_beside_what_is_no_json_are_no_result() -> None:
    result = await Giving().gives({"a": b"\xff", "b": object()})
    assert type(result.error) is InvalidResultError
    assert "no JSON for object" in str(result.error)


async def test_an_interrupt_in_a_judge_goes_up_and_the_permit_goes_back() -> None:
    def interrupted(outcome: Outcome) -> bool:
        raise KeyboardInterrupt

    giving = Giving(judge=interrupted)
    for method in (giving.orch.dispatch, giving.orch.run):
        with pytest.raises(KeyboardInterrupt):
            await method("give")
    stats = giving.orch.stats("give")
    assert (stats.in_flight, stats.total_failures, stats.state) == (0, 0, "closed")


async def test_a_judge_that_turns_out_to_be_a_coroutine_function_has_no_opinion() -> None:
    async def judge(outcome: Outcome) -> bool:
        return True

    giving = Giving(judge=lambda outcome: judge(outcome))
    assert (await giving.gives("x")).verdict is Verdict.SUCCESS
    assert (await giving.gives({"error": "boom"})).verdict is Verdict.FAILURE


async def test_is_failure_looks_at_values_alone() -> None:
    seen: list[Any] = []

    def is_failure(value: Any) -> bool:
        seen.append(value)
        return value == "bad"

    giving = Giving(is_failure=is_failure)
    assert (await giving.gives("bad")).verdict is Verdict.FAILURE
    assert (await giving.gives({"error": "boom"})).verdict is Verdict.SUCCESS
    seen.clear()
    assert (await giving.raises(RuntimeError())).verdict is Verdict.FAILURE
    assert seen == []


async def test_ignored_types_give_no_verdict() -> None:
    giving = Giving(policy=ToolPolicy(ignore=(FileNotFoundError, KeyError)))
    result = await giving.raises(FileNotFoundError("x"))
    assert result.verdict is Verdict.IGNORE
    assert not result.ok
    assert read(result.content)["error_type"] == "FileNotFoundError"
    assert (await giving.raises(KeyError("x"))).verdict is Verdict.IGNORE
    assert (await giving.raises(ValueError("x"))).verdict is Verdict.FAILURE
    assert giving.orch.circuit("give").failures == 1


async def test_control_flow_goes_up_whoever_asked() -> None:
    class ApprovalNeeded(Exception):
        pass

    giving = Giving(policy=ToolPolicy(control_flow=(ApprovalNeeded,)))
    giving.error = ApprovalNeeded("please")
    for method in (giving.orch.dispatch, giving.orch.call, giving.orch.run):
        with pytest.raises(ApprovalNeeded) as caught:
            await method("give")
        assert caught.value is giving.error
    stats = giving.orch.stats("give")
    assert (stats.failures, stats.total_failures, stats.in_flight) == (0, 0, 0)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("no"),
        ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
        SystemExit(3),
        StopAsyncIteration(),
        TimeoutError("mine"),
        RecursionError(),
        AssertionError(),
    ],
    ids=repr,
)
async def test_what_is_raised_is_a_failure(error: BaseException) -> None:
    giving = Giving()
    result = await giving.raises(error)
    assert result.verdict is Verdict.FAILURE
    assert not result.ok
    said = read(result.content)
    assert set(said) == {"error", "tool_name", "error_type", "execution_time"}
    assert said["error_type"] == type(result.error).__name__
    assert said["tool_name"] == "give"
    assert said["execution_time"] >= 0


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ([KeyError("a")], Verdict.IGNORE),
        ([InvalidArgumentsError("a"), KeyError("b")], Verdict.IGNORE),
        ([ExceptionGroup("inner", [KeyError("a")]), KeyError("b")], Verdict.IGNORE),
        ([KeyError("a"), ValueError("b")], Verdict.FAILURE),
        ([ValueError("a"), KeyError("b")], Verdict.FAILURE),
        ([ExceptionGroup("inner", [ValueError("a")]), KeyError("b")], Verdict.FAILURE),
    ],
)
async def test_a_group_gives_no_verdict_if_nothing_in_it_does(
    errors: list[Exception], verdict: Verdict
) -> None:
    giving = Giving(policy=ToolPolicy(ignore=(KeyError,)))
    assert (await giving.raises(ExceptionGroup("several", errors))).verdict is verdict


async def test_letters_of_any_language_reach_the_model_as_they_are() -> None:
    result = await Giving().raises(RuntimeError("der Bär 🐻 schläft"))
    assert "der Bär 🐻 schläft" in result.content


async def test_call_raises_the_tools_own_exception() -> None:
    giving = Giving()
    giving.error = error = ValueError("no")
    with pytest.raises(ValueError, match="no") as caught:
        await giving.orch.call("give")
    assert caught.value is error
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    giving.error = SystemExit(3)
    with pytest.raises(OrchestratorError):
        await giving.orch.call("give")


@pytest.mark.parametrize("error", [GeneratorExit(), Exception.__base__("odd")], ids=repr)  # type: ignore[misc]
async def test_other_exceptions_go_up_without_a_verdict(error: BaseException) -> None:
    giving = Giving()
    giving.error = error
    for method in (giving.orch.dispatch, giving.orch.call, giving.orch.run):
        with pytest.raises(type(error)):
            await method("give")
    stats = giving.orch.stats("give")
    assert (stats.failures, stats.total_failures, stats.in_flight) == (0, 0, 0)


async def test_an_error_that_blames_the_arguments_gives_no_verdict() -> None:
    giving = Giving()
    for error in (
        InvalidArgumentsError("the city is on the moon"),
        InvalidArgumentsError("the city is on the moon", tool_name="give"),
    ):
        result = await giving.raises(error)
        assert result.verdict is Verdict.IGNORE
        assert "moon" in read(result.content)["error"]
    other = InvalidArgumentsError("the city is on the moon", tool_name="other")
    assert (await giving.raises(other)).verdict is Verdict.FAILURE


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class UnprintableOfOurs(OrchestratorError):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class LeavesWhenRead(Exception):
    def __str__(self) -> str:
        sys.exit("no text")


class Sly(str):
    """
    A text that leaves when it is measured, and cannot be shortened.
    """

    __slots__ = ()

    def __len__(self) -> int:
        sys.exit("no length")

    def removesuffix(self, suffix: str, /) -> str:
        raise RuntimeError("no end")


class SlyError(Exception):
    def __str__(self) -> str:
        return Sly("sly")


class SlyInvalid(InvalidArgumentsError):
    __str__ = SlyError.__str__


class WithoutAName(Exception, metaclass=Nameless):
    pass


def hiding(name: str) -> type[Exception]:
    def raising(self: Any) -> Any:
        raise RuntimeError(f"no {name}")

    return type("Hiding", (Exception,), {name: property(raising)})


class SplitsItself(BaseExceptionGroup[BaseException]):
    def derive(self, errors: Any) -> Any:
        raise RuntimeError("no parts")


ILL: dict[str, tuple[Callable[[], BaseException], str]] = {
    "no text": (Unprintable, "Unprintable"),
    "in a group": (lambda: ExceptionGroup("g", [Unprintable()]), "ExceptionGroup"),
    "of ours": (UnprintableOfOurs, "UnprintableOfOurs"),
    "of ours, named": (lambda: UnprintableOfOurs(tool_name="give"), "UnprintableOfOurs"),
    "leaves": (LeavesWhenRead, "LeavesWhenRead"),
    "sly": (SlyError, "SlyError"),
    "sly, in a group": (lambda: ExceptionGroup("g", [SlyError()]), "ExceptionGroup"),
    "no name": (WithoutAName, "WithoutAName"),
    **{
        name: (hiding(name), "Hiding")
        for name in (
            "__class__",
            "__notes__",
            "__cause__",
            "__context__",
            "__suppress_context__",
            "__traceback__",
            "__dict__",
            "args",
        )
    },
    "in a group, no class": (
        lambda: ExceptionGroup("g", [hiding("__class__")()]),
        "ExceptionGroup",
    ),
    "splits itself": (lambda: SplitsItself("g", [SystemExit()]), "SplitsItself"),
}


@pytest.mark.parametrize("level", [logging.CRITICAL, 1], ids=["quiet", "logged"])
@pytest.mark.parametrize(("make", "name"), ILL.values(), ids=list(ILL))
async def test_an_exception_that_cannot_be_shown_has_an_answer(
    make: Any, name: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level, "orchestrator_async")
    giving = Giving()
    result = await giving.raises(make())
    assert result.verdict is Verdict.FAILURE
    assert read(result.content)["error_type"] == name
    said = read(await giving.orch.dispatch("give"))
    assert (said["tool_name"], said["error_type"]) == ("give", name)
    stats = giving.orch.stats("give")
    assert (stats.in_flight, stats.total_failures, stats.failures) == (0, 2, 2)
    if level == 1:
        assert "give failed" in caplog.text


async def test_an_interrupt_goes_up_also_out_of_a_group_that_cannot_be_split() -> None:
    giving = Giving()
    giving.error = SplitsItself("g", [ValueError(), KeyboardInterrupt()])
    for method in (giving.orch.dispatch, giving.orch.run):
        with pytest.raises(SplitsItself):
            await method("give")
    stats = giving.orch.stats("give")
    assert (stats.in_flight, stats.total_failures, stats.failures) == (0, 0, 0)


@pytest.mark.parametrize(
    "errors",
    [
        None,
        3,
        [None],
        [{"argument": Unprintable()}],
        [{Unprintable(): "x"}],
        [OddKeys(a=1)],
    ],
    ids=["none", "a number", "no mapping", "no text", "no key", "no items"],
)
async def test_whatever_a_tool_says_of_its_arguments_is_an_answer(errors: Any) -> None:
    error = InvalidArgumentsError("the city is on the moon", tool_name="give")
    error.errors = errors
    giving = Giving()
    result = await giving.raises(error)
    assert result.verdict is Verdict.IGNORE
    assert "moon" in read(result.content)["error"]
    assert read(await giving.orch.dispatch("give"))["invalid_arguments"] in ([], [{}])
    assert giving.orch.stats("give").in_flight == 0


async def test_an_error_that_cannot_be_told_of_has_a_plain_answer_and_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    giving = Giving()
    for _ in range(2):
        result = await giving.raises(SlyInvalid("no"))
        assert result.verdict is Verdict.IGNORE
        said = read(result.content)
        assert said["error"].startswith("give failed. ")
        assert said["error_type"] == "SlyInvalid"
    assert giving.orch.stats("give").in_flight == 0
    (record,) = caplog.records
    assert "give: its error cannot be shown" in record.getMessage()


@pytest.mark.parametrize("named", [None, "give"])
async def test_a_tool_that_refuses_its_arguments_is_not_said_not_to_have_run(
    named: str | None,
) -> None:
    giving = Giving()
    wrong = [{"argument": "seat", "expected": "one by the aisle"}]
    result = await giving.raises(InvalidArgumentsError(tool_name=named, errors=wrong))
    said = read(result.content)
    assert said["invalid_arguments"] == wrong
    assert said["error"].startswith("give ran, and did not accept its arguments: ")
    assert "seat: one by the aisle" in said["error"]
    assert "not run" not in said["error"]
    assert "again" in said["error"]


async def test_the_name_of_a_type_is_cleaned_and_cut() -> None:
    name = "Bad\x1b[31m https://joe:hunter2@h" + "x" * 10_000
    result = await Giving().raises(type(name, (Exception,), {})("no"))
    kind = read(result.content)["error_type"]
    assert kind.startswith("Bad https://***")
    assert len(kind) <= 100
    assert len(result.content) < 1000


# The messages of the APIs


async def test_messages_are_those_of_the_apis() -> None:
    registry = Registry()

    @registry.tool
    async def give(bad: bool = False) -> dict[str, Any]:
        return {"error": "boom"} if bad else {"x": 1}

    orch = ToolOrchestrator(registry)
    good = await orch.run("give", call_id="c1")
    bad = await orch.run("give", {"bad": True}, call_id="c2")
    assert good.message() == good.message("openai")
    assert good.message("openai") == {
        "role": "tool",
        "tool_call_id": "c1",
        "content": good.content,
    }
    assert good.message("openai-responses") == {
        "type": "function_call_output",
        "call_id": "c1",
        "output": good.content,
    }
    block = {"type": "tool_result", "tool_use_id": "c1", "content": good.content}
    assert good.message("anthropic") == block
    assert bad.message("anthropic") == {
        "type": "tool_result",
        "tool_use_id": "c2",
        "content": bad.content,
        "is_error": True,
    }
    text = [{"type": "text", "text": good.content}]
    assert good.message("mcp") == {"content": text, "isError": False}
    assert bad.message("mcp")["isError"] is True
    with pytest.raises(ValueError, match="soap"):
        good.message("soap")


async def test_results_keep_everything_together() -> None:
    giving = Giving()
    result = await giving.gives({"x": 1})
    assert (result.name, result.source, result.call_id) == ("give", "give", None)
    assert (result.attempts, result.retry_after, result.late) == (1, None, False)
    assert result.state is CircuitState.CLOSED
    assert result.duration >= 0
    error = ValueError("no")
    result = await giving.raises(error)
    assert result.error is error
    assert (result.value, result.ok, result.attempts) == (None, False, 1)


async def test_reprs_show_no_arguments_and_no_values() -> None:
    seen: list[Any] = []
    registry = Registry()

    @registry.tool(judge=seen.append)
    async def give(text: str, fail: bool = False) -> str:
        if fail:
            raise RuntimeError(text)
        return text

    orch = ToolOrchestrator(registry, observers=[seen.append])
    seen.append(await orch.run("give", {"text": "hush"}, data="hush"))
    seen.append(await orch.run("give", {"text": "hush", "fail": True}))
    seen.append(await orch.run("give", {"text": ["hush"]}))
    seen.append(await orch.run("give", '{"text": "hush'))
    shown = "".join(repr(each) for each in seen if not isinstance(each, Outcome))
    assert "give" in shown
    assert "hush" not in shown
    assert "hush" not in repr(seen[0]).replace("error=RuntimeError('hush')", "")


async def test_the_same_answer_comes_from_every_loop_and_path() -> None:
    giving = Giving()
    plain = ToolOrchestrator(giving.registry, observers=[lambda event: None])
    for value in ("x", {"a": 1}, '{"error": "x"}', None):
        giving.value = value
        short = await giving.orch.dispatch("give")
        long = await plain.dispatch("give", None, call_id="c", more=1)
        with anyio.CancelScope():
            assert short == long == (await plain.run("give")).content
