"""
What a server says of its tools, and what is made of it.

All of it is foreign: names, descriptions and schemas are looked at before a model sees them,
and annotations only make us more careful, unless the server's settings say otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from ._names import tool_name

if TYPE_CHECKING:
    import mcp_types as types

MOST_DESCRIPTION: Final = 10_000
MOST_SCHEMA: Final = 100_000
MOST_DEPTH: Final = 50
_CONTROL: Final = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """
    A tool as it is offered.

    Attributes:
        name: What it is called here.
        own_name: What its server calls it.
        description: What a model reads of it.
        schema: Of its arguments.
        fields: What its annotations say of it, as fields of a ``Tool``.
    """

    name: str
    own_name: str
    description: str | None
    schema: Mapping[str, Any] = field(repr=False)
    fields: Mapping[str, Any]


def listed(
    server: str,
    tools: Iterable[types.Tool],
    *,
    take: Sequence[str],
    leave: Sequence[str],
    trust: bool,
    most: int,
    left_out: Callable[[str, str], object],
) -> dict[str, Listed]:
    """
    Those of a server's tools that can be offered, by the names that they have here.

    Args:
        server: The server's name.
        tools: What it has listed.
        take: Patterns of its own names of those to take.
        leave: Patterns of those to leave.
        trust: Whether its annotations are believed.
        most: How many there may be.
        left_out: What is told of a tool, by its own name, and the reason why it is not
            offered.
    """
    offered: dict[str, Listed] = {}
    for tool in tools:
        if not _matches(tool.name, take) or _matches(tool.name, leave):
            continue
        if len(offered) >= most:
            left_out("(the rest)", f"it lists more than {most} tools")
            break
        name = tool_name(server, tool.name)
        if name in offered:
            left_out(tool.name, "it lists another of that name")
            continue
        if tool.description is not None and len(tool.description) > MOST_DESCRIPTION:
            left_out(
                tool.name, f"its description is cut to {MOST_DESCRIPTION:,} characters"
            )
        problem = _problem_of(tool.input_schema)
        if problem:
            left_out(tool.name, f"the schema of its arguments {problem}")
            continue
        offered[name] = Listed(
            name=name,
            own_name=tool.name,
            description=_plain(tool.description),
            schema=tool.input_schema,
            fields=_fields_of(tool.annotations, trust=trust),
        )
    return offered


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _plain(description: str | None) -> str | None:
    """
    Without what a terminal would obey, and not at any length.
    """
    if description is None:
        return None
    text = _CONTROL.sub("", description[: 2 * MOST_DESCRIPTION])
    if len(text) > MOST_DESCRIPTION:
        text = text[: MOST_DESCRIPTION - 1] + "…"
    return text


def _fields_of(annotations: types.ToolAnnotations | None, *, trust: bool) -> dict[str, Any]:
    """
    What a server says of a tool is its word alone: that it changes something is believed,
    and that it does not only where the server is trusted.
    """
    if annotations is None:
        return {}
    reads = annotations.read_only_hint
    if reads is False or (reads is None and annotations.destructive_hint):
        fields: dict[str, Any] = {"read_only": False}
    elif reads and trust:
        fields = {"read_only": True, "idempotent": True}
    else:
        fields = {}
    if trust and annotations.idempotent_hint:
        fields["idempotent"] = True
    return fields


# Schemas


def _problem_of(schema: Any) -> str:
    """
    Why a model's API would not take a schema, as the end of a sentence; empty if it would.
    One that it does not take makes it refuse all tools.
    """
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return "is not that of an object"
    if _is_deeper(schema, MOST_DEPTH):
        return f"is nested more than {MOST_DEPTH} deep"
    if len(json.dumps(schema)) > MOST_SCHEMA:
        return f"has more than {MOST_SCHEMA:,} characters"
    for reference in _references(schema):
        if not isinstance(reference, str) or not reference.startswith("#"):
            return "refers to another document"
        if not _leads_somewhere(schema, reference):
            return f"refers to {reference[:100]!r}, which leads nowhere"
    return _not_a_schema(schema)


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [each for one in level for each in _within(one)]
        if not level:
            return False
    return True


def _within(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _references(schema: Any) -> Iterable[Any]:
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for word in ("$ref", "$dynamicRef"):
                # A property may be called so, and is a schema then.
                if word in value and not isinstance(value[word], dict | bool):
                    yield value[word]
        waiting += _within(value)


def _leads_somewhere(schema: Any, reference: str) -> bool:
    seen: set[str] = set()
    while reference not in seen:
        seen.add(reference)
        target = _target(schema, reference)
        if target is None:
            return False
        following = target.get("$ref") if isinstance(target, dict) else None
        if not isinstance(following, str):
            return True
        reference = following
    return False


def _target(schema: Any, reference: str) -> Any:
    """
    What a reference leads to, or ``None``.
    """
    if not reference.startswith("#/"):
        return schema if reference == "#" else None
    value = schema
    for part in reference[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            return None
    return value


def _not_a_schema(schema: dict[str, Any]) -> str:
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for

    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path))
        said = error.message if len(error.message) < 100 else error.message[:99] + "…"
        return f"is no JSON schema ({where or 'at the top'}: {said})"
    except Exception as error:
        return f"cannot be read ({type(error).__name__})"
    return ""
