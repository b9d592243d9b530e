"""
From a function's type hints and docstring to the schema that a model is shown and the
validator that its arguments pass through.

Importing this module imports no pydantic; deriving a schema does. Below lie ``_signature``
and ``_validator``, above ``_tool``.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Annotated, Any, NotRequired, Required

from ._signature import (
    CURE,
    bound_names,
    context_parameter,
    defining_namespace,
    describe,
    documented,
    evaluated_hint,
    parameters_of,
    refuse_positional,
    scope_of,
)
from ._validator import parse_arguments, refuse_unknown, validators

__all__ = [
    "Schema",
    "context_parameter",
    "defining_namespace",
    "derive",
    "describe",
    "parse_arguments",
]

# Keys of a JSON schema under which lie data, and names, and not schemas.
_DATA = frozenset({"default", "enum", "const", "examples", "mapping"})
_NAMED = frozenset({"properties", "patternProperties", "$defs"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Schema:
    """
    What a function takes, for the model and for the call.

    Attributes:
        description: The docstring without its sections on arguments, results and
            exceptions; empty if there is none.
        parameters: The JSON schema of the arguments, an object without titles.
        validate: Makes keyword arguments of a mapping, or raises
            ``InvalidArgumentsError``. What the mapping leaves out is left to the
            function's own defaults.
        validate_json: The same from JSON text.
    """

    description: str
    parameters: dict[str, Any]
    validate: Callable[[Mapping[str, Any]], dict[str, Any]]
    validate_json: Callable[[str | bytes], dict[str, Any]]


def derive(
    fn: Callable[..., Any],
    *,
    tool_name: str,
    context_parameter: str | None = None,
    namespace: Mapping[str, Any] | None = None,
) -> Schema:
    """
    Read a callable's signature and docstring.

    Args:
        fn: The callable. Arguments that a ``functools.partial`` has filled in are not
            the model's to see or to change.
        tool_name: For the messages of errors.
        context_parameter: Name of the parameter that is not the model's to fill.
        namespace: Names that annotations may use besides the function's globals.

    Raises:
        TypeError: A parameter cannot be filled from JSON; the message names it and says
            what to do.
    """
    taken = {*bound_names(fn), *([context_parameter] if context_parameter else [])}
    parameters = [p for p in parameters_of(fn) if p.name not in taken]
    for parameter in parameters:
        refuse_positional(parameter, tool_name)
    scope = scope_of(fn, namespace)
    hints = {p.name: evaluated_hint(p, scope, tool_name) for p in parameters}
    description, described = documented(fn)
    try:
        adapter = _adapter(parameters, hints, described, taken)
        shown = _shown(adapter, parameters, taken)
        validate, validate_json = validators(
            adapter.core_schema, tool_name=tool_name, known=list(shown["properties"])
        )
    except Exception as error:
        raise _unusable(hints, tool_name, error) from error
    return Schema(
        description=description,
        parameters=shown,
        validate=validate,
        validate_json=validate_json,
    )


def _adapter(
    parameters: list[Parameter],
    hints: dict[str, Any],
    described: dict[str, str],
    taken: set[str],
) -> Any:
    """
    One typed dict with a key for each argument: public pydantic, and as fast as any.
    """
    from pydantic import ConfigDict, TypeAdapter
    from typing_extensions import TypedDict

    fields: dict[str, Any] = {}
    options: dict[str, Any] = {}
    config = ConfigDict(extra="forbid")
    for parameter in parameters:
        hint = hints[parameter.name]
        if parameter.kind is not Parameter.VAR_KEYWORD:
            field = _field(hint, parameter.default, described.get(parameter.name))
            optional = not _is_required(parameter.default)
            fields[parameter.name] = NotRequired[field] if optional else field
        elif typing.get_origin(hint) is typing.Unpack:
            fields |= _unpacked(typing.get_args(hint)[0])
        else:
            config = ConfigDict(extra="allow") if hint is Any else ConfigDict()
            options = {} if hint is Any else {"extra_items": hint}
            fields |= {name: NotRequired[_refused_field()] for name in taken}
    make: Any = TypedDict  # no type checker follows one that is made of variables
    arguments = make("Arguments", fields, **options)
    arguments.__pydantic_config__ = config
    return TypeAdapter(arguments)


def _unpacked(typed_dict: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(typed_dict, include_extras=True)
    return {
        name: hint if name in typed_dict.__required_keys__ else NotRequired[hint]
        for name, hint in ((name, _unqualified(hint)) for name, hint in hints.items())
    }


def _unqualified(hint: Any) -> Any:
    return hint.__args__[0] if typing.get_origin(hint) in (Required, NotRequired) else hint


def _field(hint: Any, default: Any, description: str | None) -> Any:
    from pydantic import Field
    from pydantic.fields import FieldInfo

    extras: list[Any] = [default] if isinstance(default, FieldInfo) else []
    if typing.get_origin(hint) is Annotated:
        extras = [*hint.__metadata__, *extras]
        hint = hint.__origin__
    if description:
        # First, for the last one wins: a description in the signature is the nearer.
        extras = [Field(description=description), *extras]
    return Annotated[(hint, *extras)] if extras else hint


def _is_required(default: Any) -> bool:
    from pydantic.fields import FieldInfo

    if isinstance(default, FieldInfo):
        return default.is_required()
    return default is Parameter.empty


def _refused_field() -> Any:
    from pydantic import BeforeValidator

    return Annotated[Any, BeforeValidator(refuse_unknown)]


def _shown(adapter: Any, parameters: list[Parameter], taken: set[str]) -> dict[str, Any]:
    from pydantic.json_schema import GenerateJsonSchema

    class Quiet(GenerateJsonSchema):
        # A default that JSON cannot hold is left out, and that is all there is to say.
        ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    made = _untitled(adapter.json_schema(schema_generator=Quiet))
    properties = {n: s for n, s in made.get("properties", {}).items() if n not in taken}
    for parameter in parameters:
        if parameter.name in properties:
            properties[parameter.name] |= _shown_default(parameter.default)
    rest = {"$defs": made["$defs"]} if "$defs" in made else {}
    return {
        "type": "object",
        "properties": properties,
        "required": made.get("required", []),
        "additionalProperties": made.get("additionalProperties", True),
        **rest,
    }


def _shown_default(default: Any) -> dict[str, Any]:
    from pydantic.fields import FieldInfo
    from pydantic_core import to_jsonable_python

    if default is Parameter.empty or isinstance(default, FieldInfo):
        return {}
    try:
        value = to_jsonable_python(default)
        json.dumps(value, allow_nan=False)
    except Exception:
        return {}
    return {"default": value}


def _untitled(node: Any) -> Any:
    if isinstance(node, list):
        return [_untitled(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {}
    for key, value in node.items():
        if key in _NAMED:
            kept[key] = {name: _untitled(item) for name, item in value.items()}
        elif key in _DATA:
            kept[key] = value
        elif key != "title":
            kept[key] = _untitled(value)
    return kept


def _unusable(hints: dict[str, Any], tool_name: str, error: Exception) -> TypeError:
    from pydantic import TypeAdapter

    for name, hint in hints.items():
        try:
            TypeAdapter(hint).json_schema()
        except Exception as reason:
            shown = hint.__qualname__ if isinstance(hint, type) else repr(hint)
            first = str(reason).partition("\n")[0]
            return TypeError(
                f"tool {tool_name!r}: parameter {name!r} of type {shown} cannot be filled "
                f"from JSON ({first}); {CURE}"
            )
    return TypeError(f"tool {tool_name!r}: no schema can be made ({error}); {CURE}")
