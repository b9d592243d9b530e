"""
The validator: pydantic-core's, made ready so that bad input does not hold up the loop.

Below lie ``_invalid`` and ``_errors``, above ``_schema``; pydantic is imported when a
validator is made.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import _invalid
from ._errors import InvalidArgumentsError

# Above this, text is looked at before it is parsed: an array of a megabyte costs 40 ms.
_LARGE = 16_384
_SEQUENCES = frozenset({"list", "set", "frozenset", "tuple"})
# Keys of a core schema under which lie data and not schemas.
_DATA = frozenset({"metadata", "config", "default", "expected", "serialization"})

Validate = Callable[[Mapping[str, Any]], dict[str, Any]]
ValidateJson = Callable[[str | bytes], dict[str, Any]]


def parse_arguments(text: str | bytes, *, tool_name: str) -> dict[str, Any]:
    """
    The mapping in JSON text, with nothing checked but that it is one.

    Raises:
        InvalidArgumentsError: It is not JSON, or not an object.
    """
    from pydantic_core import from_json

    expected = _invalid.OBJECT
    if not _cannot_be_object(text):
        try:
            value = from_json(text)
        except (ValueError, TypeError, RecursionError) as error:
            # A type error is text that is no Unicode; a plain one tells the place and
            # nothing of what stands there.
            expected += f"; {error}" if type(error) is ValueError else ""
        else:
            if isinstance(value, dict):
                return value
    del text
    errors = [{"argument": _invalid.ALL, "expected": expected}]
    raise InvalidArgumentsError(tool_name=tool_name, errors=errors) from None


def validators(
    core_schema: Any, *, tool_name: str, known: Sequence[str]
) -> tuple[Validate, ValidateJson]:
    """
    The two ways to make keyword arguments: of a mapping, and of JSON text.

    Args:
        core_schema: pydantic's schema of the arguments, a typed dict.
        tool_name: For the errors.
        known: The names of the arguments, for the errors.
    """
    extras = _Extras()
    core_schema = _refusing(core_schema, extras)
    validator = _made(_prepared(core_schema, large=False))
    read, read_json = validator.validate_python, validator.validate_json
    may_overflow = _may_overflow(core_schema)

    @functools.cache
    def read_large() -> Validate:
        validate: Validate = _made(_prepared(core_schema, large=True)).validate_python
        return validate

    def refused(error: Exception) -> list[dict[str, str]]:
        extras.count = 0
        return _invalid.entries(error, tool_name=tool_name, known=known)

    # Both raise outside the `except` and let go of the arguments before: an error that is
    # kept must not keep what was given, be it by its context or by its traceback.

    def validate(arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            if may_overflow and _is_large(arguments):
                return read_large()(arguments)
            return read(arguments)  # type: ignore[no-any-return]
        except Exception as error:
            errors = refused(error)
        del arguments
        raise InvalidArgumentsError(tool_name=tool_name, errors=errors) from None

    def validate_json(text: str | bytes) -> dict[str, Any]:
        if len(text) > _LARGE and _cannot_be_object(text):
            del text
            raise InvalidArgumentsError(tool_name=tool_name, errors=_invalid.NO_OBJECT)
        try:
            return read_json(text)  # type: ignore[no-any-return]
        except Exception as error:
            errors = refused(error)
        del text
        raise InvalidArgumentsError(tool_name=tool_name, errors=errors) from None

    return validate, validate_json


def refuse_unknown(value: Any) -> Any:
    """
    A validator that nothing passes: there is no such argument.
    """
    from pydantic_core import PydanticKnownError

    raise PydanticKnownError("extra_forbidden")


class _Extras:
    """
    Refuses unknown arguments one by one, and ends it all after a few hundred.

    The count lives on between calls because it is cheaper to put back after a failure
    than to make anew for every call; a call without unknown arguments never comes here.
    """

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, value: Any) -> Any:
        self.count += 1
        if self.count > _invalid.MANY:
            raise _invalid.TooManyError
        refuse_unknown(value)


def _cannot_be_object(text: str | bytes) -> bool:
    head = text[:64].lstrip()[:1]
    return bool(head) and head != (b"{" if isinstance(text, bytes) else "{")


def _refusing(core_schema: Any, extras: _Extras) -> Any:
    """
    The schema with unknown arguments refused by ``extras``, if it refuses any.
    """
    from pydantic_core.core_schema import no_info_plain_validator_function

    if core_schema["type"] == "definitions":
        return {**core_schema, "schema": _refusing(core_schema["schema"], extras)}
    if core_schema.get("extra_behavior") != "forbid":
        return core_schema
    refuse = no_info_plain_validator_function(extras)
    return {**core_schema, "extra_behavior": "allow", "extras_schema": refuse}


def _made(core_schema: Any) -> Any:
    from pydantic_core import SchemaValidator

    try:
        # Models bring validators of their own, made before the changes.
        return SchemaValidator(core_schema, None, _use_prebuilt=False)
    except TypeError:
        return SchemaValidator(core_schema)


def _prepared(node: Any, *, large: bool) -> Any:
    """
    A copy of a core schema in which lists stop at the first bad item (250,000 of them
    cost 240 ms) and the members of a union do not appear in the path of an error.

    One for large input also stops in a mapping and in an object that knows its fields,
    for which there is no such option.
    """
    if isinstance(node, (list, tuple)):
        return type(node)(_prepared(item, large=large) for item in node)
    if not isinstance(node, dict):
        return node
    kind = node.get("type")
    if not isinstance(kind, str):
        return {name: _prepared(item, large=large) for name, item in node.items()}
    made = {k: v if k in _DATA else _prepared(v, large=large) for k, v in node.items()}
    if kind in _SEQUENCES:
        made["fail_fast"] = True
    elif kind == "union":
        choices = (c[0] if isinstance(c, tuple) else c for c in made["choices"])
        made["choices"] = [(choice, _invalid.UNION) for choice in choices]
    return _bounded(made) if large and _overflows(made) else made


# Large mappings


def _overflows(node: Mapping[str, Any]) -> bool:
    """
    Whether there can be more errors in what this node describes than it has parts.
    """
    if node.get("type") == "dict":
        # Whoever bounds its length has bounded its errors.
        return not {"min_length", "max_length"} & node.keys()
    config = node.get("config") or {}
    extras: object = node.get("extra_behavior", config.get("extra_fields_behavior"))
    return extras == "forbid"


def _may_overflow(node: Any) -> bool:
    if isinstance(node, (list, tuple)):
        return any(map(_may_overflow, node))
    if not isinstance(node, dict):
        return False
    if _overflows(node):
        return True
    return any(_may_overflow(part) for key, part in node.items() if key not in _DATA)


def _bounded(node: dict[str, Any]) -> Any:
    from pydantic_core.core_schema import (
        no_info_before_validator_function,
        no_info_wrap_validator_function,
    )

    ref = node.pop("ref", None)  # who refers to it is to come through here too
    if node["type"] == "dict":
        return no_info_wrap_validator_function(_by_pieces, node, ref=ref)
    return no_info_before_validator_function(_of_known_fields, node, ref=ref)


def _by_pieces(value: Any, validate: Callable[[Any], Any]) -> Any:
    if type(value) is not dict or len(value) <= _invalid.MANY:
        return validate(value)
    items, made = iter(value.items()), {}
    while piece := dict(itertools.islice(items, _invalid.MANY)):
        made.update(validate(piece))
    return made


def _of_known_fields(value: Any) -> Any:
    from pydantic_core import PydanticCustomError

    if isinstance(value, Mapping) and len(value) > _invalid.MANY:
        message = "Input should be an object with the fields of its schema and no others"
        raise PydanticCustomError("too_many_fields", message)
    return value


def _is_large(arguments: object) -> bool:
    """
    Whether arguments hold more than a few hundred values. Looks at no more than those.
    """
    left = _invalid.MANY
    waiting: list[Any] = [arguments]
    for each in waiting:
        left -= len(each)
        if left < 0:
            return True
        for item in each if isinstance(each, (list, tuple)) else each.values():
            if isinstance(item, (dict, list, tuple)):
                waiting.append(item)  # noqa: PERF401
    return False
