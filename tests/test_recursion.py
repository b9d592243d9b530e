"""
Unions that lead back to themselves: what fits is found as pydantic finds it, and what
does not fit does not stall the loop.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pydantic
import pytest
from pydantic import BaseModel, Field, TypeAdapter, model_validator

from orchestrator_async._errors import InvalidArgumentsError
from orchestrator_async._recursion import branching
from orchestrator_async._schema import Schema, derive

pytestmark = pytest.mark.skipif(
    pydantic.VERSION.startswith("2.12."), reason="models keep their own validators there"
)


class And(BaseModel):
    left: Expr
    right: Expr | None = None


class Or(BaseModel):
    left: Expr
    right: Expr | None = None
    either: bool = False


class Leaf(BaseModel):
    v: int


Expr = And | Or | Leaf


class All(BaseModel):
    op: Literal["all", "every"]
    of: list[Query]


class Some(BaseModel):
    op: Literal["any"]
    of: list[Query]

    @model_validator(mode="after")
    def _not_empty(self) -> Some:
        if not self.of:
            raise ValueError("of what?")
        return self


@dataclass
class Not:
    op: Literal["not"]
    of: Query


class Equal(BaseModel):
    op: Literal["="]
    value: int | str


Query = All | Some | Not | Equal


class Plain(BaseModel):
    children: list[Plain | int] = []
    parent: Plain | None = None


class Tagged(BaseModel):
    kind: Literal["node"]
    next: Annotated[Tagged | End, Field(discriminator="kind")]


class End(BaseModel):
    kind: Literal["end"]


class Guessing(BaseModel):
    """
    Fills in its own tag, so that what is given for it decides nothing.
    """

    op: Literal["guess"]
    of: Guess | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        return {**given, "op": "guess"} if isinstance(given, dict) else given


class Other(BaseModel):
    op: Literal["other"]
    of: Guess


Guess = Other | Guessing


class Both(BaseModel):
    op: Literal["and"] = "and"
    left: Term
    right: Term


class Either(BaseModel):
    op: Literal["or"] = "or"
    left: Term
    right: Term


class Value(BaseModel):
    value: int


Term = Both | Either | Value


class Made(BaseModel):
    """
    Fills in its own tag as well, in a constructor.
    """

    op: Literal["made"]
    of: Making | None = None

    def __init__(self, **given: Any) -> None:
        super().__init__(**{**given, "op": "made"})


class Numbered(BaseModel):
    op: Literal[1, 2]
    of: Making | None = None


Making = Made | Numbered

for each in (
    Both,
    Either,
    And,
    Or,
    All,
    Some,
    Plain,
    Tagged,
    Guessing,
    Other,
    Made,
    Numbered,
):
    each.model_rebuild()


def find(
    e: Expr | None = None,
    q: Query | None = None,
    g: Guess | None = None,
    m: Making | None = None,
) -> None: ...


SCHEMA = derive(find, tool_name="find")


def search(terms: list[Term]) -> None: ...


TERMS = derive(search, tool_name="search")


def term(depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {"value": 1}
    for level in range(depth):
        op = "or" if level % 2 else "and"
        made = {"op": op, "left": made, "right": {"value": 2}}
    return made


@pytest.mark.parametrize(("depth", "count"), [(12, 1), (2, 300), (6, 60)])
def test_tags_with_a_default_keep_recursion_cheap(depth: int, count: int) -> None:
    # Objects of their own, as a parser makes them.
    given = {"terms": json.loads(json.dumps([term(depth)] * count))}
    as_pydantic = TypeAdapter(list[Term]).validate_python(given["terms"])
    assert TERMS.validate(given)["terms"] == as_pydantic
    assert TERMS.validate_json(json.dumps(given))["terms"] == as_pydantic


def chain(depth: int, leaf: Any, **more: Any) -> dict[str, Any]:
    for _ in range(depth):
        leaf = {"left": leaf, **more}
    return leaf


def tree(depth: int, width: int, leaf: Any, ops: tuple[str, ...] = ("all", "any")) -> Any:
    if depth == 0:
        return leaf
    below = [tree(depth - 1, width, leaf, ops) for _ in range(width)]
    return {"op": ops[depth % len(ops)], "of": below}


def errors_of(arguments: Any, schema: Schema = SCHEMA) -> dict[str, str]:
    read = schema.validate_json if isinstance(arguments, str) else schema.validate
    with pytest.raises(InvalidArgumentsError) as caught:
        read(arguments)
    return {entry["argument"]: entry["expected"] for entry in caught.value.errors}


LEAF, EQUAL = {"v": 1}, {"op": "=", "value": 1}


@pytest.mark.parametrize(
    ("name", "hint", "given"),
    [
        pytest.param("e", Expr, chain(6, LEAF), id="ambiguous"),
        pytest.param("e", Expr, chain(5, LEAF, either=True), id="by its fields"),
        pytest.param("e", Expr, chain(3, LEAF, right=chain(2, {"v": "7"})), id="binary"),
        pytest.param("q", Query, EQUAL, id="leaf"),
        pytest.param("q", Query, tree(3, 3, EQUAL), id="tagged"),
        pytest.param("q", Query, tree(3, 2, EQUAL, ("every", "any")), id="two words"),
        pytest.param("q", Query, {"op": "not", "of": tree(2, 2, EQUAL)}, id="dataclass"),
        pytest.param("g", Guess, {"op": "?", "of": {"op": "other", "of": {}}}, id="guess"),
        pytest.param("m", Making, {"op": "?", "of": {"op": 2}}, id="constructor"),
        pytest.param("m", Making, {"op": 1, "of": {"op": 2}}, id="numbers"),
    ],
)
def test_what_fits_is_what_pydantic_makes_of_it(name: str, hint: Any, given: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(hint)
    assert SCHEMA.validate({name: given}) == {name: adapter.validate_python(given)}
    text = json.dumps(given)
    assert SCHEMA.validate_json(f'{{"{name}": {text}}}') == {
        name: adapter.validate_json(text)
    }


TANGLED: dict[str, Any] = {
    "bad leaf": {"e": chain(16, {"v": "x"})},
    "deep": {"e": chain(100, {"v": "x"})},
    "good leaf": {"e": chain(16, LEAF)},
    "wide": {"e": chain(12, LEAF, right=[0] * 300)},
    "wider": {"e": chain(12, LEAF, right={"v": [{"v": 1}] * 300})},
    "tagged": {"q": tree(6, 3, {"op": "="})},
}


# Unbounded, the first of these takes 3.5 seconds; tests/stalls.py measures them.
@pytest.mark.parametrize("as_text", [True, False], ids=["text", "mapping"])
@pytest.mark.parametrize("given", TANGLED.values(), ids=list(TANGLED))
def test_what_does_not_fit_is_refused_in_brief(given: Any, as_text: bool) -> None:
    errors = errors_of(json.dumps(given) if as_text else given)
    assert 1 <= len(errors) <= 11


def test_what_is_nested_too_deep_for_a_union_is_told_so() -> None:
    for leaf in (LEAF, {"v": "x"}):
        assert errors_of({"e": chain(16, leaf)}) == {
            "(all)": "arguments that are nested less deep, or fewer of them"
        }
    # Each call begins its own count.
    for _ in range(30):
        assert SCHEMA.validate({"e": chain(6, LEAF)})
        assert SCHEMA.validate_json(json.dumps({"e": chain(6, LEAF)}))


def test_members_told_apart_by_a_literal_may_be_large() -> None:
    given = tree(5, 4, EQUAL)
    assert SCHEMA.validate({"q": given})["q"].op == "any"
    assert SCHEMA.validate_json(json.dumps({"q": given}))["q"].op == "any"


def test_a_literal_that_does_not_fit_is_told_where_it_stands() -> None:
    errors = errors_of({"q": {"op": "all", "of": [{"op": "nor", "of": []}]}})
    assert errors["q.of[0].op"] == "'all' or 'every' or 'any' or 'not' or '=' (given: str)"
    assert set(errors_of({"q": {"op": "any", "of": []}})) >= {"q"}
    assert "q.op" in errors_of({"q": {"op": ["all"], "of": []}})


def test_what_is_no_object_is_told_where_it_stands() -> None:
    given = {"e": chain(2, "x")}
    assert "an object" in errors_of(json.dumps(given))["e.left.left"]
    assert "a valid dictionary" in errors_of(given)["e.left.left"]


def test_an_object_that_is_made_already_is_taken() -> None:
    made = SCHEMA.validate({"e": And(left=Leaf(v=1))})
    assert made == {"e": And(left=Leaf(v=1))}


def test_only_unions_with_two_ways_back_are_counted() -> None:
    def counted(hint: Any) -> set[str]:
        found = branching(TypeAdapter(hint).core_schema)  # type: ignore[arg-type]
        return {ref.rpartition(":")[0].rpartition(".")[2] for ref in found}

    assert counted(Expr) == {"And", "Or"}
    assert counted(Query) == {"All", "Some", "Not"}
    assert counted(Plain) == counted(Tagged) == counted(int | str) == set()
