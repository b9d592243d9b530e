"""
What a result is known again by, and what is not looked at for that.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import sys
import uuid
import zoneinfo
from collections import OrderedDict
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import Enum, Flag, StrEnum
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr, RootModel

from orchestrator_async._known import (
    MOST_TEXT,
    MOST_VALUES,
    Heard,
    plain_text,
    result_key,
    value_key,
)


class Colour(Enum):
    RED = 1
    BLUE = object()


class Word(StrEnum):
    RED = "red"


class Right(Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass(slots=True)
class Slotted:
    x: Any


@dataclasses.dataclass(slots=True)
class More(Slotted):
    y: Any


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: Any
    _handle: Any = PrivateAttr(default_factory=object)


Root = RootModel[Any]
UTC = datetime.UTC
DAY = datetime.datetime(2020, 1, 1)

# Each is another than all the rest.
PLAIN: list[Any] = [
    None, True, False, 0, 1, -1, 255, 1.0, 0.0, -0.0, float("inf"), 1j, 10**5000, "", "1",
    "a", "\ud800", "None", b"", b"1", b"\xff", bytearray(b"1"), Decimal("1"),
    Decimal("1.0"), [], [1], [[1]], [1, 1], ["a", 1], [["a"], 1], (), (1,), {}, {"a": 1},
    {"a": "1"}, {1: "a"}, {"ab": ""}, {"a": "b"}, ["ab", ""], ["a", "b"], set(), {1},
    {1, 2}, frozenset({1}), {frozenset({1}), 2}, datetime.date(2020, 1, 1), DAY,
    DAY.replace(tzinfo=UTC), DAY.replace(tzinfo=zoneinfo.ZoneInfo("UTC")),
    DAY.replace(fold=1), datetime.time(1), datetime.time(1, tzinfo=UTC),
    datetime.timedelta(1), UTC, uuid.UUID(int=1), uuid.UUID(int=2), Colour.RED,
    Colour.BLUE, Word.RED, Right.READ, Right.READ | Right.WRITE, Right(0), Point(1),
    Point(1, 1), Point([1]), Slotted(1), Slotted(2), More(1, 2), More(2, 1), Model(x=1),
    Model(x=2), Model.model_validate({"x": 1, "y": 2}), Root(1), Root([1]),
    {"a": [Point({"b": Model(x=Word.RED)})]},
]  # fmt: skip


def test_plain_values_are_known_again_and_told_apart() -> None:
    keys = [value_key(each) for each in PLAIN]
    assert None not in keys
    assert len(set(keys)) == len(PLAIN)
    assert [value_key(copy.deepcopy(each)) for each in PLAIN] == keys
    assert [value_key([each]) for each in PLAIN] == [value_key([each]) for each in PLAIN]
    texts = [plain_text([each]) for each in PLAIN]
    assert len(set(texts)) == len(PLAIN)


def test_the_members_of_a_set_are_in_no_order() -> None:
    # Two that meet in one place of the table stand in the order in which they came.
    assert list({0, 8}) != list({8, 0})
    assert value_key({0, 8}) == value_key({8, 0})
    assert value_key({("a", 0), ("b", 8)}) != value_key({("a", 8), ("b", 0)})


class Loud:
    """
    Is not to be asked anything.
    """

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(name)

    def _asked(self, *args: Any) -> Any:
        raise KeyboardInterrupt

    __iter__ = __len__ = __bool__ = __repr__ = __str__ = __eq__ = __hash__ = _asked
    __call__ = __getitem__ = __lt__ = __reduce__ = keys = items = _asked


class LoudDict(dict[str, Any]):
    __iter__ = __len__ = items = keys = values = __getitem__ = Loud._asked


class LoudList(list[Any]):
    __iter__ = __len__ = __getitem__ = Loud._asked


class LoudText(str):
    __slots__ = ()
    __len__ = __str__ = encode = Loud._asked  # type: ignore[assignment]


class LoudZone(datetime.tzinfo):
    utcoffset = tzname = dst = __repr__ = Loud._asked


class Row(NamedTuple):
    x: int


class Below(Point):
    """
    May hold anything beside its fields.
    """


@dataclasses.dataclass
class Unset:
    x: int = dataclasses.field(init=False)


class Property:
    @property
    def x(self) -> Any:
        raise KeyboardInterrupt


@dataclasses.dataclass
class Asking(Property):
    x: int

    def __init__(self) -> None:
        self.__dict__["x"] = 1


def cycle() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


def deep(kind: Callable[[Any], Any]) -> Any:
    found: Any = kind(())
    for _ in range(2_000):
        found = kind([found])
    return found


def endless() -> Iterator[int]:
    while True:
        yield 1


UNKNOWN: dict[str, Callable[[], Any]] = {
    "object": object,
    "loud": Loud,
    "class": lambda: Loud,
    "function": lambda: endless,
    "module": lambda: sys,
    "generator": endless,
    "map": lambda: map(str, endless()),
    "range": lambda: iter(range(3)),
    "a dict of its own": lambda: LoudDict(a=1),
    "a list of its own": lambda: LoudList([1]),
    "a text of its own": lambda: LoudText("a"),
    "an ordered dict": OrderedDict,
    "a row": lambda: Row(1),
    "time in a zone of its own": lambda: DAY.replace(tzinfo=LoudZone()),
    "a subclass": lambda: Below(1),
    "a field that is not set": Unset,
    "a model without a field": Model.model_construct,
    "an exception": lambda: ValueError("a"),
    "a cycle": cycle,
    "many values": lambda: [0] * MOST_VALUES,
    "many members": lambda: dict.fromkeys(range(MOST_VALUES // 2)),
    "a large set": lambda: set(range(MOST_VALUES)),
    "many in all": lambda: [[0] * (MOST_VALUES // 2)] * 2,
    "many sets": lambda: [set(range(MOST_VALUES // 2)), set(range(MOST_VALUES // 2))],
    "a long text": lambda: "x" * (MOST_TEXT + 1),
    "long bytes": lambda: b"x" * (MOST_TEXT + 1),
    "long in all": lambda: ["x" * (MOST_TEXT // 2 + 1)] * 2,
    "a long number": lambda: 1 << (4 * MOST_TEXT + 4),
    "sets in sets": lambda: deep(frozenset),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_is_not_plain_through_and_through_is_not_known_again(kind: str) -> None:
    value = UNKNOWN[kind]()
    assert value_key(value) is None
    assert value_key({"a": [value]}) is None
    assert value_key(Point(value)) is None
    assert value_key(Slotted(value)) is None
    assert value_key(Model.model_validate({"x": 1, "y": value})) is None


def test_a_property_is_not_asked() -> None:
    assert value_key(Asking()) == value_key(Asking())
    assert value_key(Asking()) is not None


def test_it_is_known_up_to_the_bound() -> None:
    fits: list[Any] = [[0] * (MOST_VALUES - 1), dict.fromkeys(range(MOST_VALUES // 2 - 1))]
    fits += [set(range(MOST_VALUES - 1)), "x" * MOST_TEXT, ["x" * MOST_TEXT]]
    fits += [b"x" * MOST_TEXT, deep(list)]
    assert None not in [value_key(each) for each in fits]
    assert value_key("x" * MOST_TEXT) == result_key("x" * MOST_TEXT) is not None
    assert value_key([1, "x" * MOST_TEXT]) is None
    assert (MOST_TEXT, MOST_VALUES) == (500_000, 3_000)  # as docs/reference.md has it
    assert result_key("x" * (MOST_TEXT + 1)) is None


def test_what_has_heard_nothing_is_empty() -> None:
    found = Heard()
    assert found.is_empty
    found.add("")
    assert not found.is_empty


def heard(*chunks: Any) -> str | None:
    found = Heard()
    for chunk in chunks:
        found.add(chunk)
    return found.key()


@settings(max_examples=100)
@given(st.lists(st.text(max_size=3), min_size=1, max_size=5))
def test_texts_are_one_text_however_it_is_divided(texts: list[str]) -> None:
    joined = "".join(texts)
    assert heard(*texts) == heard(joined) == value_key(joined) == result_key(joined)


def test_what_was_heard_is_known_by_all_of_it() -> None:
    several: list[Any] = [
        (),
        ("a", 1),
        (1, "a"),
        ("a", 1, "a"),
        (1, 1),
        ([1, 1],),
        (1,),
        ("1",),
    ]
    several += [("a", "b", 1), ("a", ["b"], 1), (plain_text(1),), (None,), (b"a",)]
    several += [("x" * MOST_TEXT, "x"), ("x" * MOST_TEXT, "y")]
    keys = [heard(*each) for each in several]
    assert None not in keys
    assert len(set(keys)) == len(several)
    assert heard("a", object(), "b") is None
    assert heard("x" * (MOST_TEXT + 1), "a") is None
    assert Heard().is_empty
