"""
From a function's type hints and docstring to the schema that a model is shown and the
validator that its arguments pass through.

Importing this module imports no pydantic; deriving a schema does. Below lie ``_signature``,
``_shown`` and ``_validator``, above ``_tool``.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Annotated, Any, NotRequired, Required

from ._core_schema import arguments_of, keys_of
from ._shown import json_schema_of, shown
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
        told = shown(adapter, parameters, taken)
        validate, validate_json = validators(
            adapter.core_schema, tool_name=tool_name, known=list(told["properties"])
        )
    except Exception as error:
        raise _unusable(parameters, hints, tool_name, error) from error
    _refuse_aliases(adapter.core_schema, taken, tool_name)
    return Schema(
        description=description,
        parameters=told,
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

    extras: list[Any] = []
    if typing.get_origin(hint) is Annotated:
        extras, hint = list(hint.__metadata__), hint.__origin__
    if _is_none(default) and hint is not Any:
        # `x: str = None` is common, and models send null for what they leave out. Checks
        # that are beside the type are not to see it; a `Field` speaks of the argument.
        checks = [each for each in extras if not isinstance(each, FieldInfo)]
        extras = [each for each in extras if isinstance(each, FieldInfo)]
        hint = typing.Optional[Annotated[(hint, *checks)] if checks else hint]  # noqa: UP045
    if isinstance(default, FieldInfo):
        extras.append(default)
    if description:
        # First, for the last one wins: a description in the signature is the nearer.
        extras = [Field(description=description), *extras]
    return Annotated[(hint, *extras)] if extras else hint


def _is_none(default: Any) -> bool:
    from pydantic.fields import FieldInfo

    return (default.default if isinstance(default, FieldInfo) else default) is None


def _is_required(default: Any) -> bool:
    from pydantic.fields import FieldInfo

    if isinstance(default, FieldInfo):
        return default.is_required()
    return default is Parameter.empty


def _refused_field() -> Any:
    from pydantic import BeforeValidator

    return Annotated[Any, BeforeValidator(refuse_unknown)]


def _refuse_aliases(core_schema: Any, taken: set[str], tool_name: str) -> None:
    for name, keys in keys_of(arguments_of(core_schema)["fields"]).items():
        if name not in taken and (both := keys & taken):
            raise TypeError(
                f"tool {tool_name!r}: parameter {name!r} goes by the alias {min(both)!r}, "
                "which is the name of a parameter that is not the model's to fill; give it "
                "another alias"
            )


def _unusable(
    parameters: list[Parameter], hints: dict[str, Any], tool_name: str, error: Exception
) -> TypeError:
    from pydantic import TypeAdapter

    for parameter in parameters:
        hint = hints[parameter.name]
        if typing.get_origin(hint) is typing.Unpack:
            continue  # no type by itself; the error speaks of what is in it
        try:
            json_schema_of(TypeAdapter(_field(hint, parameter.default, None)))
        except Exception as reason:
            kind = hint.__qualname__ if isinstance(hint, type) else repr(hint)
            return TypeError(
                f"tool {tool_name!r}: parameter {parameter.name!r} of type {kind} cannot be filled "
                f"from JSON ({_in_short(reason)}); {CURE}"
            )
    return TypeError(
        f"tool {tool_name!r}: no schema can be made ({_in_short(error)}); {CURE}"
    )


def _in_short(error: Exception) -> str:
    """
    The first sentence of pydantic's, without what it advises for models.
    """
    first = str(error).partition("\n")[0].partition(". Set `")[0]
    return first.strip(" :") or type(error).__name__
