"""
The policies as tables of a file: their own fields, as far as TOML can say them.

The fields are those of the policies, by what their annotations say. A new one of a kind
that is not known here fails when this is imported, and is not left out by mistake.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, fields
from typing import Annotated, Any, Final, NamedTuple, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    PlainValidator,
    StrictBool,
    StrictFloat,
    StrictInt,
    create_model,
)

import orchestrator_async
from orchestrator_async import (
    BreakerPolicy,
    BudgetPolicy,
    LimitPolicy,
    RetryPolicy,
    ToolPolicy,
)

from ._errors import Problem, all_wrong, kind_of, quoted, wrong
from ._values import Name, Off, Seconds

_SECONDS: Final = (
    "timeout hang_after total_timeout first_chunk_timeout chunk_timeout slow_duration "
    "window_seconds reset_timeout max_reset_timeout probe_lease max_pause wait_initial "
    "wait_max wait_jitter seconds max_wait"
)
_FACTORS: Final = "failure_rate slow_rate reset_multiplier jitter wait_exp_base share"
_FLOATS: Final[dict[str, Any]] = {
    **dict.fromkeys(_SECONDS.split(), Seconds),
    **dict.fromkeys(_FACTORS.split(), StrictFloat),
}

UNSAYABLE: Final = frozenset(
    "is_failure ignore control_flow guard jitter_source on on_result".split()
)
"""Fields of policies that take functions or types, which a file cannot say."""

_WITH_OTHERS: Final = frozenset(["burst"])
"""Fields that cannot be right alone."""

JUDGES: Final = {
    each.__name__: each
    for each in (
        orchestrator_async.any_error,
        orchestrator_async.exceptions_only,
        orchestrator_async.service_errors,
    )
}

_REFUSED: Final = re.compile(r"\w+: (\w+)=(.*) cannot be; expected (.*)", re.DOTALL)

Made = TypeVar("Made")


def judge(value: Any) -> Any:
    """
    A ready-made judge, by its name.
    """
    if not isinstance(value, str) or value not in JUDGES:
        what = quoted(value) if isinstance(value, str) else kind_of(value)
        raise wrong(f"{what} is no judge", f"write one of {', '.join(map(quoted, JUDGES))}")
    return JUDGES[value]


def alternatives(value: tuple[str, ...]) -> tuple[str, ...]:
    """
    As many names as a tool may point to.
    """
    if len(value) > 3:
        raise wrong(f"{len(value)} alternatives are too many", "name at most 3 tools")
    return value


def values_of(model: BaseModel) -> dict[str, Any]:
    """
    What was said, and nothing of what was not.
    """
    return {each: getattr(model, each) for each in model.model_fields_set}


def made(kind: Callable[..., Made], said: Mapping[str, Any], told: list[Problem]) -> Made:
    """
    The policy of these values, without those that it refuses, which are told of.
    """
    said = dict(said)
    while True:
        try:
            return kind(**said)
        except ValueError as error:
            refused = _REFUSED.fullmatch(str(error))
            assert refused is not None
            name, value, expected = refused.groups()
            hint = f"expected {expected.replace('None', 'false')}"
            told.append(Problem((name,), f"{value:.100} cannot be", hint))
            del said[name]


def table(name: str, kinds: Mapping[str, Any]) -> type[BaseModel]:
    """
    The model of a table that may have these keys.
    """
    optional: Any = {each: (kind, None) for each, kind in kinds.items()}
    return create_model(name, __config__=ConfigDict(extra="forbid"), **optional)


def _policy(kind: Callable[..., Any], model: type[BaseModel]) -> Any:
    """
    What is validated as the table, and is the policy.
    """

    def make(table: BaseModel) -> Any:
        told: list[Problem] = []
        policy = made(kind, values_of(table), told)
        if told:
            raise all_wrong(told)
        return policy

    return Annotated[model, AfterValidator(make)]


def _kinds(policy: Any, but: Iterable[str] = ()) -> dict[str, Any]:
    """
    The kind of each field that can be said.
    """
    return {
        each.name: Annotated[_kind(each), AfterValidator(_alone(policy, each.name))]
        for each in fields(policy)
        if each.name not in UNSAYABLE and each.name not in but
    }


def _alone(policy: Any, name: str) -> Callable[[Any], Any]:
    """
    The policy's own check of one field, so that all that are wrong are told of at once.
    """

    def check(value: Any) -> Any:
        told: list[Problem] = []
        if name not in _WITH_OTHERS:
            made(policy, {name: value}, told)
        for each in told:
            raise wrong(each.problem, each.hint)
        return value

    return check


def _kind(field: Field[Any]) -> Any:
    said = str(field.type).removesuffix(" | Inherit")
    alone = said.removesuffix(" | None")
    kind = _FLOATS[field.name] if alone == "float" else _BY_TYPE[alone]
    return kind if alone == said else Annotated[kind | None, Off]


_BY_TYPE: Final[dict[str, Any]] = {
    "int": StrictInt,
    "str": Name,
    "str | Fallback": Name,
    "Judge": Annotated[Any, PlainValidator(judge)],
}
RetryTable: Final = table("RetryTable", _kinds(RetryPolicy))
LimitTable: Final = table("LimitTable", _kinds(LimitPolicy))
BudgetTable: Final = table("BudgetTable", _kinds(BudgetPolicy))
CircuitTable: Final = table("CircuitTable", _kinds(BreakerPolicy))
Limit: Final[Any] = _policy(LimitPolicy, LimitTable)
Budget: Final[Any] = _policy(BudgetPolicy, BudgetTable)
Circuit: Final[Any] = _policy(BreakerPolicy, CircuitTable)
_BY_TYPE["RetryPolicy"] = _policy(RetryPolicy, RetryTable)
_BY_TYPE["LimitPolicy"] = Limit

_FLAT: Final = {**_kinds(ToolPolicy, but=["breaker"]), **_kinds(BreakerPolicy)}
FIELDS: Final[dict[str, Any]] = {
    "idempotent": StrictBool,
    "read_only": StrictBool,
    "polling": StrictBool,
    "circuit": Annotated[Name | None, Off],
    "alternatives": Annotated[tuple[Name, ...], AfterValidator(alternatives)],
}
"""Fields of ``Tool`` that are said of tools of servers."""

_SHARED: Final[dict[str, Any]] = {
    "limits": Annotated[Limit | None, Off],
    "retry_budget": Annotated[Budget | None, Off],
    "groups": dict[Name, Limit],
}
ToolTable: Final = table("ToolTable", {**_FLAT, **FIELDS})
OrchestratorTable: Final = table("OrchestratorTable", {**_FLAT, **_SHARED})


class Said(NamedTuple):
    """
    What a table says: a tool's policy with its circuit's, and what is not of it.
    """

    policy: ToolPolicy = ToolPolicy()
    others: Mapping[str, Any] = {}


def _split(others: Iterable[str]) -> Callable[[BaseModel], Said]:
    def split(table: BaseModel) -> Said:
        said, told = values_of(table), list[Problem]()
        rest = {each: said.pop(each) for each in others if each in said}
        circuit = {each: said.pop(each) for each in BreakerPolicy.__slots__ if each in said}
        breaker = made(BreakerPolicy, circuit, told)
        policy = made(ToolPolicy, {**said, "breaker": breaker}, told)
        if told:
            raise all_wrong(told)
        return Said(policy, rest)

    return split


ToolSaid: Final[Any] = Annotated[ToolTable, AfterValidator(_split(FIELDS))]
OrchestratorSaid: Final[Any] = Annotated[OrchestratorTable, AfterValidator(_split(_SHARED))]
