from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import gc
import json
import logging
import math
import subprocess
import sys
import types
import weakref
from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Unpack
from uuid import UUID

import pydantic.dataclasses
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import TypedDict as ExtendedTypedDict

from orchestrator_async._errors import InvalidArgumentsError
from orchestrator_async._invalid import entries
from orchestrator_async._schema import (
    Schema,
    context_parameter,
    defining_namespace,
    derive,
    describe,
    parse_arguments,
)

if TYPE_CHECKING:
    from nowhere import Context as HiddenContext  # type: ignore[import-not-found]
    from nowhere import Elsewhere


ANYTHING = object()


class Context:
    pass


class Filter(BaseModel):
    """
    Narrows a search.
    """

    name: str
    limit: int = 10


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]


class Tree(BaseModel):
    children: list[Tree] = []


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Options(ExtendedTypedDict, total=False):
    size: Annotated[int, Field(ge=3)]


def search(city: str, days: int = 1) -> None:
    """
    Forecast for a city.

    It is a guess.

    Args:
        city: Name of the city.
        days (int): How many days,
            1 to 14.

    Returns:
        Nothing.

    Raises:
        ValueError: Never.
    """


def made(fn: Any, **options: Any) -> Schema:
    return derive(fn, tool_name="tool", **options)


def errors_of(schema: Schema, arguments: Any) -> dict[str, str]:
    read = schema.validate_json if isinstance(arguments, (str, bytes)) else schema.validate
    with pytest.raises(InvalidArgumentsError) as caught:
        read(arguments)
    assert caught.value.tool_name == "tool"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    json.dumps(caught.value.errors)
    return {entry["argument"]: entry["expected"] for entry in caught.value.errors}


# The schema


def test_schema_holds_types_defaults_and_descriptions_and_no_titles() -> None:
    assert made(search).parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Name of the city."},
            "days": {
                "type": "integer",
                "default": 1,
                "description": "How many days,\n1 to 14.",
            },
        },
        "required": ["city"],
        "additionalProperties": False,
    }


def test_description_leaves_out_the_sections_on_arguments_and_results() -> None:
    assert made(search).description == "Forecast for a city.\n\nIt is a guess."
    assert describe(search) == made(search).description


def test_no_docstring_is_no_description() -> None:
    def tool(city: str) -> None: ...

    assert describe(tool) == ""
    assert "description" not in made(tool).parameters["properties"]["city"]


def test_notes_and_examples_belong_to_the_description() -> None:
    def tool(city: str) -> None:
        """Do.

        Args:
            city: Name.

        Note:
            Slow.

        Examples:
            >>> tool("Oslo")
        """

    assert describe(tool) == 'Do.\n\nNote:\nSlow.\n\nExamples:\n>>> tool("Oslo")'


@pytest.mark.parametrize(
    ("text", "description"),
    [
        (
            "Do.\n\nModules:\n    pay: Payments,\n        not refunds.\n    auth: Log in.",
            "Do.\n\nModules:\npay: Payments,\nnot refunds.\nauth: Log in.",
        ),
        (
            "Do.\n\nClasses: of fares\n    first: Wide.",
            "Do.\n\nof fares:\nfirst: Wide.",
        ),
        (
            "Do.\n\nAttributes\n----------\nx : int\n    Left.",
            "Do.\n\nAttributes:\nx: Left.",
        ),
        (
            "Do.\n\nDeprecated\n----------\n1.2\n    Use book.",
            "Do.\n\nDeprecated since 1.2: Use book.",
        ),
    ],
)
def test_sections_on_anything_else_belong_to_the_description(
    text: str, description: str
) -> None:
    def tool() -> None: ...

    tool.__doc__ = text
    assert describe(tool) == description


def test_a_docstring_that_cannot_be_parsed_is_the_description_as_it_is() -> None:
    def tool(city: str) -> None: ...

    tool.__doc__ = "Do.\n\nArgs:\n    city (\ud800): Name."
    assert describe(tool) == tool.__doc__
    assert made(tool).validate({"city": "Oslo"}) == {"city": "Oslo"}


def test_a_class_lends_its_docstring_to_an_object_whose_call_has_none() -> None:
    class Tool:
        """Of the class."""

        def __call__(self, city: str) -> None: ...

    assert describe(Tool()) == "Of the class."


def test_a_class_is_called_with_the_arguments_of_its_constructor() -> None:
    schema = made(Point)
    assert schema.validate({"x": "1"}) == {"x": 1}
    assert list(schema.parameters["properties"]) == ["x", "y"]


NUMPY = """Forecast for a city.

Parameters
----------
city : str
    Name of the city.

Returns
-------
dict
    The forecast.
"""
SPHINX = """Forecast for a city.

:param city: Name of the city.
:type city: str
:returns: The forecast.
:raises ValueError: Never.
"""


@pytest.mark.parametrize("text", [NUMPY, SPHINX])
def test_docstring_styles_are_told_apart(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    def tool(city: str) -> None: ...

    tool.__doc__ = text
    schema = made(tool)
    assert schema.description == "Forecast for a city."
    assert schema.parameters["properties"]["city"]["description"] == "Name of the city."
    assert not caplog.records


def test_sphinx_fields_are_found_below_a_line_that_ends_with_a_colon() -> None:
    def tool(city: str) -> None: ...

    tool.__doc__ = "Steps:\n    one\n\n:param city: Name.\n"
    assert made(tool).parameters["properties"]["city"]["description"] == "Name."


GOOGLE = """Forecast for a city.
Args:
    city: Name of the city.
Returns:
    The forecast.
"""


@pytest.mark.parametrize(
    "text", [GOOGLE, GOOGLE.partition("\n")[2]], ids=["below", "first"]
)
def test_a_section_needs_no_blank_line_above_it(text: str) -> None:
    def tool(city: str) -> None: ...

    tool.__doc__ = text
    schema = made(tool)
    assert schema.description == text.partition("Args:")[0].strip()
    assert schema.parameters["properties"]["city"]["description"] == "Name of the city."


@pytest.mark.parametrize(
    "text",
    [
        "Say what it\nreturns:\nnothing at all.",
        "Take the\nargs: all of them\n    as they are.",
        "Do.\nSteps:\n    one\n    two",
    ],
)
def test_prose_that_looks_like_a_section_stays_prose(text: str) -> None:
    def tool(city: str) -> None: ...

    tool.__doc__ = text
    assert made(tool).description == text


def test_description_in_the_signature_wins_over_the_docstring() -> None:
    def tool(city: Annotated[str, Field(description="nearer")]) -> None:
        """Do.

        Args:
            city: farther
        """

    assert made(tool).parameters["properties"]["city"]["description"] == "nearer"


def test_title_of_a_property_stays_where_it_is_a_name() -> None:
    def tool(title: str, at: dict[str, Filter]) -> None: ...

    parameters = made(tool).parameters
    assert parameters["properties"]["title"] == {"type": "string"}
    assert "title" not in parameters["$defs"]["Filter"]
    assert parameters["$defs"]["Filter"]["properties"]["name"] == {"type": "string"}


def test_defaults_that_json_cannot_hold_are_left_out() -> None:
    def tool(
        a: Any = ANYTHING,
        b: float = float("nan"),
        c: Colour = Colour.RED,
        d: bytes = b"\xff",
    ) -> None: ...

    schema = made(tool)
    shown = {
        k: v.get("default", "none") for k, v in schema.parameters["properties"].items()
    }
    assert shown == {"a": "none", "b": "none", "c": "red", "d": "none"}
    assert schema.validate({}) == {}


class Unbounded(BaseModel):
    most: float = math.inf
    least: float = Field(-math.inf, le=math.inf, examples=[math.nan])
    title: str = "none"


def test_a_definition_is_json_whatever_stands_in_it() -> None:
    def tool(
        a: Unbounded,
        b: float = Field(-math.inf),
        c: Annotated[float, Field(json_schema_extra={"near": [1, math.inf]})] = math.inf,
    ) -> None: ...

    schema = made(tool)
    shown = schema.parameters["properties"]
    assert shown["b"] == {"type": "number"}
    assert shown["c"] == {"type": "number", "near": [1]}
    assert schema.parameters["$defs"]["Unbounded"]["properties"] == {
        "most": {"type": "number"},
        "least": {"type": "number"},
        "title": {"default": "none", "type": "string"},
    }
    json.dumps(schema.parameters, allow_nan=False)
    assert schema.validate({"a": {}})["b"] == -math.inf


def test_field_as_a_default_is_filled_in() -> None:
    def tool(
        a: int = Field(ge=1), b: int = Field(default=3, description="the b")
    ) -> None: ...

    schema = made(tool)
    assert schema.parameters["required"] == ["a"]
    assert schema.parameters["properties"]["b"]["default"] == 3
    assert schema.validate({"a": "2"}) == {"a": 2, "b": 3}
    assert set(errors_of(schema, {"a": 0})) == {"a"}


def test_none_as_a_default_may_be_given() -> None:
    def tool(city: str = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    assert made(tool).validate({"city": None}) == {"city": None}


def test_none_as_a_default_may_be_given_however_the_argument_is_written() -> None:
    def tool(
        a: Annotated[str, Field(description="A.", min_length=2)] = None,  # type: ignore[assignment]  # noqa: RUF013
        b: str = Field(None, description="B."),  # type: ignore[assignment]
        c: Annotated[str, AfterValidator(str.strip)] = None,  # type: ignore[assignment]  # noqa: RUF013
        d: Annotated[Cat | Dog, Field(discriminator="kind")] = None,  # type: ignore[assignment]
        e: Annotated[int, Field(alias="number", ge=2)] = None,  # type: ignore[assignment]  # noqa: RUF013
    ) -> None: ...

    schema = made(tool)
    shown = schema.parameters["properties"]
    for name in ("a", "b", "c", "d", "number"):
        assert {"type": "null"} in shown[name]["anyOf"]
        assert schema.validate({name: None})
    assert (shown["a"]["description"], shown["b"]["description"]) == ("A.", "B.")
    assert schema.validate({"c": " x "})["c"] == "x"
    errors = errors_of(schema, {"a": "1", "number": 1, "d": {"kind": "cat"}})
    assert set(errors) == {"a", "number", "d.lives"}


def test_each_kind_of_type_is_read() -> None:
    def tool(
        model: Filter,
        point: Point,
        options: Options,
        colour: Colour,
        mode: Literal["a", "b"],
        either: int | str,
        when: datetime,
        day: date,
        key: UUID,
        price: Decimal,
        where: Path,
        anything,
        *,
        few: Annotated[list[int], Field(max_length=2)] = [],  # noqa: B006
    ) -> None: ...

    given_ = {
        "model": {"name": "x"},
        "point": {"x": "1"},
        "options": {"size": 4},
        "colour": "red",
        "mode": "a",
        "either": "1",
        "when": "2024-01-02T03:04:05",
        "day": "2024-01-02",
        "key": "12345678-1234-5678-1234-567812345678",
        "price": "1.5",
        "where": "a/b",
        "anything": {"x": [1]},
        "few": ["1", 2],
    }
    expected = {
        "model": Filter(name="x"),
        "point": Point(1),
        "options": {"size": 4},
        "colour": Colour.RED,
        "mode": "a",
        "either": "1",
        "when": datetime(2024, 1, 2, 3, 4, 5),
        "day": date(2024, 1, 2),
        "key": UUID("12345678-1234-5678-1234-567812345678"),
        "price": Decimal("1.5"),
        "where": Path("a/b"),
        "anything": {"x": [1]},
        "few": [1, 2],
    }
    schema = made(tool)
    assert schema.validate(given_) == expected
    assert schema.validate_json(json.dumps(given_)) == expected
    assert schema.validate_json(json.dumps(given_).encode()) == expected
    assert set(errors_of(schema, given_ | {"few": [1, 2, 3], "mode": "c"})) == {
        "few",
        "mode",
    }


def test_names_that_pydantic_uses_itself_are_names_like_others() -> None:
    def tool(
        schema: int, copy: int, json: int, model_config: int, _private: int, model_dump: int
    ) -> None: ...

    names = ["schema", "copy", "json", "model_config", "_private", "model_dump"]
    derived = made(tool)
    assert list(derived.parameters["properties"]) == names
    assert derived.validate(dict.fromkeys(names, "1")) == dict.fromkeys(names, 1)

    def selfish(self: int, cls: int, type: int, fields: int, validate: int) -> None: ...

    names = ["self", "cls", "type", "fields", "validate"]
    assert made(selfish).validate(dict.fromkeys(names, 1)) == dict.fromkeys(names, 1)


# The callable


class Tools:
    def bound(self, city: str, days: int = 1) -> None:
        """Bound."""

    @classmethod
    def of_class(cls, city: str, days: int = 1) -> None:
        """Of class."""

    @staticmethod
    def static(city: str, days: int = 1) -> None:
        """Static."""


class Calling:
    def __call__(self, city: str, days: int = 1) -> None:
        """Calling."""


async def coroutine(city: str, days: int = 1) -> None:
    """Coroutine."""


@functools.wraps(search)
def wrapped(*args: Any, **kwargs: Any) -> Any:
    return search(*args, **kwargs)


@pytest.mark.parametrize(
    ("fn", "description"),
    [
        (coroutine, "Coroutine."),
        (Tools().bound, "Bound."),
        (Tools.of_class, "Of class."),
        (Tools.static, "Static."),
        (Calling(), "Calling."),
        (wrapped, "Forecast for a city.\n\nIt is a guess."),
        (functools.partial(coroutine), "Coroutine."),
        (functools.partial(Calling()), "Calling."),
        (functools.partial(wrapped), "Forecast for a city.\n\nIt is a guess."),
    ],
)
def test_every_kind_of_callable_is_read(fn: Any, description: str) -> None:
    schema = made(fn)
    assert schema.description == description
    assert schema.validate({"city": "Oslo", "days": "2"}) == {"city": "Oslo", "days": 2}
    assert context_parameter(fn, Context) is None


def test_what_a_partial_has_filled_in_is_not_the_models() -> None:
    schema = made(functools.partial(search, days=3))
    assert list(schema.parameters["properties"]) == ["city"]
    assert set(errors_of(schema, {"city": "Oslo", "days": 9})) == {"days"}

    def open_ended(root: str, **options: Any) -> None: ...

    schema = made(functools.partial(open_ended, root="/safe"))
    assert set(errors_of(schema, {"root": "/"})) == {"root"}
    assert schema.validate({"other": 1}) == {"other": 1}


def test_star_arguments_are_refused_by_name() -> None:
    def tool(*cities: str) -> None: ...

    with pytest.raises(TypeError, match=r"'tool'.*'cities'.*list"):
        made(tool)


def test_a_callable_without_a_signature_is_refused() -> None:
    with pytest.raises(TypeError, match="parameters="):
        made(min)


def test_positional_only_arguments_are_refused_by_name() -> None:
    def tool(city: str, /) -> None: ...

    with pytest.raises(TypeError, match=r"'tool'.*'city'.*'/'"):
        made(tool)


def test_keyword_arguments_allow_others_but_never_the_context() -> None:
    def tool(city: str, ctx: Context, **rest: int) -> None: ...

    schema = made(tool, context_parameter="ctx")
    assert schema.parameters["additionalProperties"] == {"type": "integer"}
    assert list(schema.parameters["properties"]) == ["city"]
    assert schema.validate({"city": "Oslo", "a": "1"}) == {"city": "Oslo", "a": 1}
    assert set(errors_of(schema, {"city": "Oslo", "a": "x", "ctx": 1})) == {"a", "ctx"}
    assert set(errors_of(schema, '{"city": "Oslo", "ctx": null}')) == {"ctx"}


def test_bare_keyword_arguments_allow_anything() -> None:
    def tool(ctx: Context, **rest) -> None: ...

    schema = made(tool, context_parameter="ctx")
    assert schema.parameters["additionalProperties"] is True
    assert schema.validate({"a": [1]}) == {"a": [1]}
    assert set(errors_of(schema, {"ctx": 1})) == {"ctx"}


def test_unpacked_keyword_arguments_are_arguments() -> None:
    def tool(**options: Unpack[Options]) -> None: ...

    schema = made(tool)
    assert schema.parameters["properties"] == {"size": {"type": "integer", "minimum": 3}}
    assert schema.validate({}) == {}
    assert set(errors_of(schema, {"size": 1, "other": 2})) == {"size", "other"}


def test_a_type_that_json_cannot_fill_is_refused_with_the_cure() -> None:
    def tool(city: str, where: Context) -> None: ...

    with pytest.raises(TypeError, match=r"'tool'.*'where'.*Context.*validate=False"):
        made(tool)


def test_a_schema_that_cannot_be_made_is_told_in_one_short_sentence() -> None:
    def tool(where: Context) -> None: ...

    with pytest.raises(TypeError) as caught:
        made(tool)
    assert "arbitrary_types_allowed" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_default_that_does_not_go_with_the_type_is_refused_by_name() -> None:
    def tool(
        first: object = Field(default=ANYTHING), city: str = Field(pattern="(")
    ) -> None: ...

    with pytest.raises(TypeError, match=r"'tool'.*'city' of type str"):
        made(tool)


class Places(ExtendedTypedDict):
    where: Context


def test_a_fault_in_unpacked_keyword_arguments_is_told_as_it_is() -> None:
    def tool(city: str, **places: Unpack[Places]) -> None: ...

    with pytest.raises(TypeError, match=r"'tool': no schema.*Context.*validate=False"):
        made(tool)


class Size(tuple[int, int], enum.Enum):  # noqa: SLOT001
    SMALL = (1, 2)


def test_values_in_a_type_are_left_alone() -> None:
    def tool(size: Size, at: Literal["type", 1] = 1, type: str = "x") -> None: ...

    assert made(tool).validate({"size": (1, 2), "at": "type", "type": "y"}) == {
        "size": Size.SMALL,
        "at": "type",
        "type": "y",
    }


@pytest.mark.parametrize("as_text", [True, False], ids=["text", "mapping"])
def test_items_are_checked_before_the_tool_asks_for_them(as_text: bool) -> None:
    def tool(items: Iterable[int]) -> None: ...

    schema = made(tool)
    good, bad = {"items": [1, "2"]}, {"items": [1, "x"]}
    read: Any = schema.validate_json if as_text else schema.validate
    assert read(json.dumps(good) if as_text else good) == {"items": [1, 2]}
    assert errors_of(schema, json.dumps(bad) if as_text else bad) == {
        "items[1]": "a valid integer (given: str)"
    }


def test_the_name_of_a_parameter_that_goes_by_an_alias_is_unknown() -> None:
    def tool(
        q: Annotated[str, Field(alias="query")],
        limit: Annotated[
            int, Field(validation_alias=AliasChoices("most", AliasPath("page", "size")))
        ] = 10,
        size: Annotated[int, Field(validation_alias=AliasPath("page", "size"))] = 10,
    ) -> None: ...

    schema = made(tool)
    assert schema.validate({"query": "x", "most": 2}) == {"q": "x", "limit": 2}
    paged = schema.validate({"query": "x", "page": {"size": 3}})
    assert paged == {"q": "x", "limit": 3, "size": 3}
    for given_ in ({"query": "x", "limit": 5}, {"query": "x", "most": 2, "limit": 5}):
        assert list(errors_of(schema, given_)) == ["limit"]
        assert list(errors_of(schema, json.dumps(given_))) == ["limit"]


def test_an_alias_may_not_be_the_name_of_what_the_model_does_not_fill() -> None:
    def tool(context: Context, q: Annotated[str, Field(alias="context")]) -> None: ...

    with pytest.raises(TypeError, match=r"'q'.*'context'.*another alias"):
        made(tool, context_parameter="context")


def test_a_name_that_is_not_there_is_refused_with_the_cure() -> None:
    def tool(where: Elsewhere) -> None: ...

    with pytest.raises(TypeError, match=r"'tool'.*'where'.*Elsewhere.*parameters="):
        made(tool)


def test_a_return_type_that_is_not_there_does_not_matter() -> None:
    def tool(city: str) -> Elsewhere: ...

    assert made(tool).validate({"city": "Oslo"}) == {"city": "Oslo"}


# Local names and the context


def caller_namespace(fn: Any) -> Any:
    return defining_namespace(fn, 1)


def test_local_types_are_found_in_the_defining_frame() -> None:
    class Local(BaseModel):
        a: int

    def tool(it: Local) -> None: ...

    namespace = defining_namespace(tool, 0)
    assert namespace == {"Local": Local} == caller_namespace(tool)
    assert made(tool, namespace=namespace).validate({"it": {"a": 1}}) == {"it": Local(a=1)}


def test_functions_that_are_not_nested_have_no_namespace() -> None:
    assert defining_namespace(search, 0) is None
    assert defining_namespace(lambda city: city, 0) is None


def test_a_frame_that_is_not_there_has_no_namespace() -> None:
    def tool(it: Filter) -> None: ...

    assert defining_namespace(tool, 10**6) is None


def test_context_parameter_is_found_in_every_spelling() -> None:
    class Local: ...

    def plain(city: str, ctx: Context) -> None: ...
    def optional(ctx: Context | None = None) -> None: ...
    def annotated(ctx: Annotated[Context, "x"] | None = None) -> None: ...
    def hidden(ctx: HiddenContext | None = None) -> None: ...
    def other(city: str, where: Elsewhere, *args: Context, **rest: Context) -> None: ...
    def local(ctx: Local) -> None: ...
    def evaluated(ctx: Any) -> None: ...

    evaluated.__annotations__["ctx"] = Context
    for fn in (plain, optional, annotated, evaluated):
        assert context_parameter(fn, Context) == "ctx"
    renamed = type("HiddenContext", (), {})
    assert context_parameter(hidden, renamed) == "ctx"
    assert context_parameter(other, Context) is None
    assert context_parameter(local, Local) == "ctx"
    assert context_parameter(local, Local, defining_namespace(local, 0)) == "ctx"


def test_a_type_of_the_same_name_is_not_the_context() -> None:
    def plain(ctx: Context) -> None: ...

    assert context_parameter(plain, type("Context", (), {})) is None


def test_two_contexts_are_refused() -> None:
    def tool(a: Context, b: Context | None) -> None: ...

    with pytest.raises(TypeError, match="a and b"):
        context_parameter(tool, Context)


def test_a_positional_context_is_refused() -> None:
    def tool(a: Context, /) -> None: ...

    with pytest.raises(TypeError, match="'a'"):
        context_parameter(tool, Context)


def test_context_is_no_argument() -> None:
    def tool(city: str, ctx: Context) -> None: ...

    schema = made(tool, context_parameter="ctx")
    assert schema.parameters["required"] == ["city"]
    assert set(errors_of(schema, {"city": "Oslo", "ctx": {}})) == {"ctx"}


# Validation


def test_defaults_are_left_to_the_function() -> None:
    assert made(search).validate({"city": "Oslo"}) == {"city": "Oslo"}


def test_models_arrive_as_instances_and_the_input_is_not_touched() -> None:
    def tool(filters: list[Filter]) -> None: ...

    arguments = {"filters": [{"name": "a"}]}
    assert made(tool).validate(arguments) == {"filters": [Filter(name="a")]}
    assert arguments == {"filters": [{"name": "a"}]}


@pytest.mark.parametrize("kind", [types.MappingProxyType, collections.UserDict, dict])
def test_any_mapping_will_do(kind: Any) -> None:
    assert made(search).validate(kind({"city": "Oslo"})) == {"city": "Oslo"}


@pytest.mark.parametrize("given_", [None, 5, [], ["city"], object()])
def test_what_is_no_mapping_is_refused(given_: Any) -> None:
    assert "object" in errors_of(made(search), given_)["(all)"]


def test_a_name_that_is_no_string_is_refused() -> None:
    assert errors_of(made(search), {"city": "Oslo", 1: 2}) == {
        "[1]": "a name that is a string"
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "[1",
        '"x"',
        "null",
        "3",
        b"\xff",
        '{"city": ',
        '{"city": "\\ud800"}',
        '{"city": "\ud800"}',
        '{"city": "a"} x',
        "[" * 20_000,
        " " * 20_000,
        " " * 100 + "[]",
        "x" * 20_000,
    ],
)
def test_text_that_is_no_json_object_says_so(text: str | bytes) -> None:
    errors = errors_of(made(search), text)
    assert list(errors) == ["(all)"]
    assert "object" in errors["(all)"]
    with pytest.raises(InvalidArgumentsError, match="object"):
        parse_arguments(text, tool_name="tool")


def test_odd_but_readable_json_is_a_value() -> None:
    def tool(a: float) -> None: ...

    assert made(tool).validate_json('{"a": 1, "a": 2}') == {"a": 2.0}
    assert made(search).validate_json('{"city": "\\u0000"}') == {"city": "\0"}
    assert repr(made(tool).validate_json('{"a": NaN}')) == "{'a': nan}"


def test_parsed_arguments_are_not_checked() -> None:
    assert parse_arguments('{"a": [1, "x"]}', tool_name="tool") == {"a": [1, "x"]}
    assert parse_arguments(b"  {}", tool_name="tool") == {}


def test_each_bad_argument_has_one_entry_that_says_what_was_expected() -> None:
    def tool(
        city: str, days: int, filters: list[Filter], either: int | bool | None
    ) -> None: ...

    given_ = {"days": "many", "filters": [{}], "either": [], "town": "Oslo"}
    expected = {
        "city": "a value, for it is required",
        "days": "a valid integer (given: str)",
        "filters[0].name": "a value, for it is required",
        "either": "a valid integer or a valid boolean (given: list)",
        "town": "no such argument; the arguments are city, days, filters, either",
    }
    assert errors_of(made(tool), given_) == expected
    assert errors_of(made(tool), json.dumps(given_)) == expected


class Strict(BaseModel, extra="forbid"):
    size: int = 0


@pydantic.dataclasses.dataclass(config=ConfigDict(extra="forbid"))
class StrictPoint:
    x: int = 0


def test_a_field_that_an_object_does_not_have_is_named() -> None:
    def tool(box: Strict, at: StrictPoint) -> None: ...

    given_ = {"box": {"weight": 1}, "at": {"y": 1}}
    expected = {"box.weight": "no such field", "at.y": "no such field"}
    assert errors_of(made(tool), given_) == expected
    assert errors_of(made(tool), json.dumps(given_)) == expected


def test_members_of_a_union_do_not_show_in_a_path() -> None:
    def tool(it: list[int] | dict[str, Filter]) -> None: ...

    paths = set(errors_of(made(tool), {"it": {"a": {"name": 1}}}))
    assert paths == {"it", "it.a.name"}


def test_tags_of_a_union_do_not_show_in_a_path() -> None:
    def tool(
        pets: dict[str, Annotated[Cat | Dog, Field(discriminator="kind")]],
    ) -> None: ...

    given_ = {"pets": {"dog": {"kind": "cat"}, "cat": {"kind": "cow"}}}
    assert errors_of(made(tool), given_) == {
        "pets.dog.lives": "a value, for it is required",
        "pets.cat": "'kind' to be one of 'cat', 'dog'",
    }


def test_known_names_are_few() -> None:
    names = [f"argument_{i}" for i in range(100)]
    make: Any = ExtendedTypedDict
    arguments = make("arguments", dict.fromkeys(names, int), total=False)

    def tool(**options: Any) -> None: ...

    tool.__annotations__["options"] = Unpack[arguments]
    errors = errors_of(made(tool), {"x": 1})
    assert len(errors["x"]) < 300
    assert "argument_9, ..." in errors["x"]


def test_at_most_ten_entries_and_one_that_counts_the_rest() -> None:
    errors = errors_of(made(search), {f"k{i}": 1 for i in range(24)})
    assert len(errors) == 11
    assert errors["(all)"] == "15 or more others do not fit"


def test_paths_and_texts_are_cut() -> None:
    modes = Literal[tuple(f"mode{i}" for i in range(1000))]  # type: ignore[valid-type]

    def tool(mode: str) -> None: ...

    tool.__annotations__["mode"] = modes
    errors = errors_of(made(tool), {"mode": "x", "k" * 1000: 1})
    assert max(map(len, errors)) == 100
    assert max(map(len, errors.values())) <= 300


def quoting(value: str) -> str:
    raise ValueError(f"no city is named {value}")


def broken(value: Any) -> Any:
    raise KeyError(value)


class UnprintableError(ValueError):
    def __str__(self) -> str:
        raise RuntimeError


def unprintable(value: Any) -> Any:
    raise UnprintableError


def test_values_are_never_shown() -> None:
    def tool(
        quoted: Annotated[str, AfterValidator(quoting)],
        pet: Annotated[Cat | Dog, Field(discriminator="kind")],
        day: date,
        key: UUID,
        colour: Colour,
        number: Decimal,
    ) -> None: ...

    secret = "SECRET-zq"
    given_ = dict.fromkeys(["quoted", "day", "key", "colour", "number"], secret)
    given_ |= {"pet": {"kind": secret}}  # type: ignore[dict-item]
    errors = errors_of(made(tool), given_)
    assert errors == errors_of(made(tool), json.dumps(given_))
    assert set(errors) == {"quoted", "pet", "day", "key", "colour", "number"}
    assert errors["quoted"] == "no city is named ..."
    assert errors["pet"] == "'kind' to be one of 'cat', 'dog'"
    assert "zq" not in str(errors)
    assert "`" not in errors["key"]


def test_a_validator_that_breaks_is_logged_and_tells_no_value(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def tool(city: Annotated[str, BeforeValidator(broken)]) -> None: ...

    errors = errors_of(made(tool), {"city": "SECRET"})
    assert list(errors) == ["(all)"]
    assert "KeyError" in errors["(all)"]
    assert "SECRET" not in str(errors)
    [record] = caplog.records
    assert (record.name, record.levelno) == ("orchestrator_async", logging.ERROR)
    assert "Traceback" in record.getMessage()


def test_a_validators_error_that_cannot_be_shown_is_still_a_refusal() -> None:
    def tool(city: Annotated[str, BeforeValidator(unprintable)]) -> None: ...

    assert list(errors_of(made(tool), {"city": "x"})) == ["(all)"]


class StoppingError(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


def stopping(value: Any) -> Any:
    raise StoppingError


def test_an_interrupt_while_a_broken_check_is_logged_goes_up() -> None:
    def tool(city: Annotated[str, BeforeValidator(stopping)]) -> None: ...

    with pytest.raises(KeyboardInterrupt):
        made(tool).validate({"city": "Oslo"})


class UnlistableError(Exception):
    def error_count(self) -> int:
        return 1

    def errors(self, **options: bool) -> None:
        raise UnprintableError


def test_an_error_that_cannot_list_itself_is_still_a_refusal() -> None:
    expected = [{"argument": "(all)", "expected": "values that fit the schema"}]
    assert entries(UnlistableError(), tool_name="tool", known=[]) == expected


def bottomless(value: Any) -> Any:
    return bottomless(value)


def test_a_validator_that_never_ends_is_a_refusal() -> None:
    def tool(city: Annotated[str, BeforeValidator(bottomless)]) -> None: ...

    assert "nested" in errors_of(made(tool), {"city": "x"})["(all)"]


def test_more_errors_than_anyone_reads_are_only_counted() -> None:
    def tool(scores: dict[str, int]) -> None: ...

    # A mapping that is large is not looked at to its end.
    scores = dict.fromkeys(map(str, range(600)), "x")
    for args in ({"scores": scores}, json.dumps({"scores": scores})):
        errors = errors_of(made(tool), args)
        assert list(errors) == [f"scores.{number}" for number in range(8)]


def test_a_tool_without_arguments_says_so() -> None:
    def tool() -> None: ...

    assert made(tool).parameters["required"] == []
    assert made(tool).validate_json("{}") == {}
    assert "takes no arguments" in errors_of(made(tool), {"a": 1})["a"]


def test_nesting_without_end_is_refused() -> None:
    def tool(tree: Tree) -> None: ...

    nested: dict[str, Any] = {}
    for _ in range(5_000):
        nested = {"children": [nested]}
    errors_of(made(tool), {"tree": nested})
    errors_of(made(tool), '{"tree": ' + '{"children": [' * 50_000)


class Held(dict[str, Any]):
    pass


def test_an_error_that_is_kept_keeps_no_input() -> None:
    schema = made(search)
    caught = []
    arguments = Held(city=Held())
    alive = [weakref.ref(arguments), weakref.ref(arguments["city"])]
    try:
        schema.validate(arguments)
    except InvalidArgumentsError as error:
        caught.append(error)
    del arguments
    assert [ref() for ref in alive] == [None, None]
    assert caught[0].__traceback__ is not None


def test_failures_leave_no_garbage_to_collect() -> None:
    schema = made(search)
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            try:
                schema.validate({"city": 1})
            except InvalidArgumentsError:
                pass
        assert gc.collect() == 0
    finally:
        gc.enable()


# A megabyte of nonsense


def flood(items: int, item: str) -> str:
    return "[" + ",".join([item] * items) + "]"


def listing(
    xs: list[int] = [],  # noqa: B006
    model: Tree | None = None,
    price: Annotated[Decimal, Field(max_digits=5)] = Decimal(0),
) -> None: ...


NONSENSE: dict[str, str] = {
    "bad items": '{"xs": %s}' % flood(250_000, '"a"'),  # noqa: UP031
    "unknown": "{" + ",".join(f'"k{i}":1' for i in range(90_000)) + "}",
    "nesting": "[" * 1_000_000,
    "nesting inside": '{"xs": ' + "[" * 1_000_000,
    "array": flood(500_000, "1"),
    "no json": "x" * 1_000_000,
    "digits": '{"xs": [%s]}' % ("1" * 1_000_000),
    "digits of a price": '{"price": "%s"}' % ("1" * 990_000),
}


# A validator that lists all it finds takes 0.1 to 0.5 s; tests/stalls.py measures them.
@pytest.mark.parametrize("text", NONSENSE.values(), ids=list(NONSENSE))
def test_a_megabyte_of_nonsense_is_refused_briefly(text: str) -> None:
    schema = made(listing)
    for _ in range(3):
        assert 1 <= len(errors_of(schema, text)) <= 2


UNKNOWN = {f"k{i}": 1 for i in range(100_000)}


def test_a_mapping_of_unknown_names_is_refused_briefly() -> None:
    schema = made(listing)
    assert list(errors_of(schema, UNKNOWN)) == ["(all)"]
    # The count of unknown names starts anew with every call.
    assert list(errors_of(schema, {"a": 1})) == ["a"]


@pytest.mark.parametrize(
    "price",
    [
        "1.50",
        " 2 ",
        "1e3",
        3,
        0.1,
        1e22,
        12345678901234567890,
        "NaN",
        "x",
        True,
        None,
        [],
        "9" * 4_300,
    ],
)
def test_a_decimal_is_what_pydantic_makes_of_it(price: Any) -> None:
    def tool(price: Annotated[Decimal, Field(allow_inf_nan=True)]) -> None: ...

    schema = made(tool)
    plain: TypeAdapter[Any] = TypeAdapter(Annotated[Decimal, Field(allow_inf_nan=True)])
    text = json.dumps(price)
    pairs: list[tuple[Callable[[], Any], Callable[[], Any]]] = [
        (lambda: schema.validate({"price": price}), lambda: plain.validate_python(price)),
        (
            lambda: schema.validate_json(f'{{"price": {text}}}'),
            lambda: plain.validate_json(text),
        ),
    ]
    for ours, theirs in pairs:
        try:
            expected = theirs()
        except ValidationError:
            with pytest.raises(InvalidArgumentsError):
                ours()
        else:
            # Not its exponent: of a large number in text pydantic keeps all digits.
            assert ours()["price"] == expected or expected.is_nan()


def test_a_million_digits_of_a_decimal_are_refused_unread() -> None:
    def tool(price: Annotated[Decimal, Field(max_digits=5)]) -> None: ...

    for digits in ("1" * 990_000, "9" * 4_301):
        for args in ({"price": digits}, json.dumps({"price": digits})):
            assert errors_of(made(tool), args) == {"price": "a valid decimal (given: str)"}


def test_lists_stop_at_the_first_bad_item() -> None:
    assert list(errors_of(made(listing), {"xs": ["a", "b"]})) == ["xs[0]"]


# Anything at all


@given(st.binary() | st.text())
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    for read in (SEARCH.validate_json, lambda t: parse_arguments(t, tool_name="tool")):
        try:
            assert isinstance(read(text), dict)
        except InvalidArgumentsError:
            pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["city", "days", "other"]) | st.text(), JSON))
def test_any_mapping_and_its_json_are_treated_alike(arguments: dict[str, Any]) -> None:
    text = json.dumps(arguments)
    try:
        expected: Any = SEARCH.validate(arguments)
    except InvalidArgumentsError as error:
        expected = error.errors
    try:
        got: Any = SEARCH.validate_json(text)
    except InvalidArgumentsError as error:
        got = error.errors
    assert got == expected


def everything(
    a: int,
    b: float | None = None,
    c: list[str] = [],  # noqa: B006
    d: dict[str, bool] = {},  # noqa: B006
    e: Filter | None = None,
) -> None: ...


SEARCH = derive(search, tool_name="tool")
EVERYTHING = derive(everything, tool_name="tool")


@given(
    st.fixed_dictionaries(
        {"a": st.integers(-(10**30), 10**30)},
        optional={
            "b": st.none() | st.floats(allow_nan=False),
            "c": st.lists(st.text()),
            "d": st.dictionaries(st.text(), st.booleans()),
            "e": st.none() | st.fixed_dictionaries({"name": st.text()}),
        },
    )
)
def test_valid_arguments_round_trip_from_mapping_and_text(
    arguments: dict[str, Any],
) -> None:
    expected = dict(arguments)
    if expected.get("e") is not None:
        expected["e"] = Filter.model_validate(expected["e"])
    assert EVERYTHING.validate(arguments) == expected
    assert EVERYTHING.validate_json(json.dumps(arguments)) == expected


# What it costs to import


def test_importing_the_module_imports_no_pydantic() -> None:
    package = Path(__file__).parents[1] / "orchestrator_async"
    program = f"""
import sys, types
package = types.ModuleType("orchestrator_async")
package.__path__ = [{str(package)!r}]
sys.modules["orchestrator_async"] = package
from orchestrator_async._schema import context_parameter, defining_namespace, describe
def tool(a: "int | None", b: "str") -> None:
    "One line."
assert context_parameter(tool, dict) is None
assert defining_namespace(tool, 0) is None
assert describe(tool) == "One line."
heavy = [n for n in sys.modules if n.startswith(("pydantic", "griffe", "typing_ext"))]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True)
