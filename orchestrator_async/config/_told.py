"""
What pydantic found wrong, in the words of a file: without the values, which may be secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from dataclasses import fields
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from . import _policies as policies
from ._config import GatewayConfig
from ._errors import Key, Problem, kind_of, quoted
from ._servers import ServerConfig

TOP: Final = ("orchestrator", "circuits", "tools", "servers", "gateway")

_TABLES: Final[dict[str, Any]] = {
    "orchestrator": policies.OrchestratorTable,
    "gateway": GatewayConfig,
    "limits": policies.LimitTable,
    "retry": policies.RetryTable,
    "retry_budget": policies.BudgetTable,
}
_BY_NAME: Final[dict[str, Any]] = {
    "circuits": policies.CircuitTable,
    "tools": policies.ToolTable,
    "servers": ServerConfig,
    "groups": policies.LimitTable,
}

_UNKNOWN: Final = ("extra_forbidden", "unexpected_keyword_argument")
_EXPECTED: Final = {
    "string_type": ("text", 'write it in quotes: "..."'),
    "int_type": ("a whole number", "write digits, without quotes"),
    "int_from_float": ("a whole number", "write digits, without quotes"),
    "float_type": ("a number", "write digits, without quotes"),
    "bool_type": ("true or false", "write one of them, without quotes"),
    "tuple_type": ("a list", 'write ["...", "..."]'),
    "mapping_type": ("a table", 'write { NAME = "..." }'),
    "dict_type": ("a table", "give each entry a name"),
    "model_type": ("a table", "write { KEY = VALUE }"),
    "dataclass_type": ("a table", "write { KEY = VALUE }"),
}


def problems_of(error: ValidationError) -> Iterator[Problem]:
    """
    Each thing that is wrong.
    """
    for each in error.errors(include_url=False):
        key = each["loc"]
        if key[-1:] == ("[key]",) and each["type"] not in _UNKNOWN:
            key = key[:-1]  # it is the name before that is wrong
        yield _problem(each, key)


def _problem(error: ErrorDetails, key: Key) -> Problem:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "config":
        return Problem(key, context["problem"], context["hint"])
    if kind in _UNKNOWN:
        return Problem(
            key, "there is no such key", _other(str(key[-1]), _keys_at(key[:-1]))
        )
    if kind in _EXPECTED:
        expected, hint = _EXPECTED[kind]
        return Problem(key, f"expected {expected}, not {kind_of(error['input'])}", hint)
    return Problem(key, "this cannot be read", "write it in another way")


def _other(name: str, known: Collection[str]) -> str:
    """
    What may be meant by a key that there is not.
    """
    if name in policies.UNSAYABLE:
        return "it takes a function or types, so give it in Python"
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {quoted(close[0])}?"
    return f"known are {', '.join(known)}"


def _keys_at(key: Key) -> list[str]:
    """
    The keys that the table at this place may have.
    """
    known, parts = list(TOP), iter(map(str, key))
    for part in parts:
        if part in _BY_NAME:
            known = keys_of(_BY_NAME[part])
            next(parts)
        else:
            known = keys_of(_TABLES[part])
    return known


def keys_of(table: Any) -> list[str]:
    """
    The keys that a table may have.
    """
    if hasattr(table, "model_fields"):
        return list(table.model_fields)
    return [each.name for each in fields(table)]
