"""
Core schemas, pydantic's own plan of a validator: how to walk one and how to copy one.

They are nested dicts. Where in them schemas lie and where data (the members of an enum,
the values of a literal, defaults, classes) is told by the keys, and those under which
schemas lie are the fewer. Nothing lies below; above are ``_recursion`` and ``_validator``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

_SCHEMAS = frozenset(
    {
        "arguments_schema",
        "choices",
        "definitions",
        "extras_keys_schema",
        "extras_schema",
        "fields",
        "items_schema",
        "json_schema",
        "keys_schema",
        "lax_schema",
        "python_schema",
        "schema",
        "steps",
        "strict_schema",
        "values_schema",
        "var_args_schema",
        "var_kwargs_schema",
    }
)

Node = dict[str, Any]


def every(node: Node) -> Iterator[Node]:
    """
    A schema and all that lie in it; references are not followed.
    """
    yield node
    for key in node.keys() & _SCHEMAS:
        for child in _nodes(node[key]):
            yield from every(child)


def copied(node: Node, change: Callable[[Node], Node]) -> Node:
    """
    A copy in which each schema directly below has gone through ``change``.
    """
    return {k: _changed(v, change) if k in _SCHEMAS else v for k, v in node.items()}


def arguments_of(core_schema: Node) -> Node:
    """
    The typed dict of the arguments in its schema, which may stand beside definitions.
    """
    while core_schema["type"] == "definitions":
        core_schema = core_schema["schema"]
    return core_schema


def keys_of(fields: dict[str, Node]) -> dict[str, set[str]]:
    """
    Under which keys each field is looked for: its own name, or its aliases.
    """
    return {
        name: _keys(field.get("validation_alias", name)) for name, field in fields.items()
    }


def _keys(alias: Any) -> set[str]:
    if isinstance(alias, str):
        return {alias}
    # One path, or a list of such: what comes first in a path is the key.
    paths = alias if isinstance(alias[0], list) else [alias]
    return {path[0] for path in paths}


def _is_node(value: dict[Any, Any]) -> bool:
    # Not so in a mapping of names to schemas, even if one of the names is "type".
    return isinstance(value.get("type"), str)


def _nodes(value: Any) -> Iterator[Node]:
    if isinstance(value, dict) and _is_node(value):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _nodes(item)


def _changed(value: Any, change: Callable[[Node], Node]) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)([_changed(item, change) for item in value])
    if not isinstance(value, dict):
        return value
    if _is_node(value):
        return change(value)
    return {name: _changed(item, change) for name, item in value.items()}
