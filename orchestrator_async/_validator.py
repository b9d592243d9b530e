"""
The validator: pydantic-core's, made ready so that bad input does not hold up the loop.

Below lie ``_core_schema``, ``_recursion`` and ``_invalid``, above ``_schema``; pydantic is
imported when a validator is made.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import _invalid
from ._core_schema import Node, copied, every, keys_of
from ._errors import InvalidArgumentsError
from ._recursion import Visits, branching, members

# Above this, text is looked at before it is parsed: an array of a megabyte costs 40 ms.
_LARGE = 16_384
# Items of a large mapping that are checked before their errors, if any, are told.
_PIECE = 8

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
    extras, visits = _Extras(), Visits()
    core_schema = _refusing(core_schema, extras)
    counted = dict.fromkeys(branching(core_schema), visits)
    bounding = visits.bounding if counted else lambda read: read
    validator = _made(_prepared(core_schema, counted, large=False))
    read = bounding(validator.validate_python)
    read_json = bounding(validator.validate_json)
    may_overflow = any(map(_overflows, every(core_schema)))

    @functools.cache
    def for_large() -> tuple[Validate, ValidateJson]:
        validator = _made(_prepared(core_schema, counted, large=True))
        return bounding(validator.validate_python), bounding(validator.validate_json)

    def refused(error: Exception) -> list[dict[str, str]]:
        extras.count = 0
        return _invalid.entries(error, tool_name=tool_name, known=known)

    # Both raise outside the `except` and let go of the arguments before: an error that is
    # kept must not keep what was given, be it by its context or by its traceback.

    def validate(arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            if may_overflow and _is_large(arguments):
                return for_large()[0](arguments)
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
            if may_overflow and len(text) > _invalid.MANY:
                return for_large()[1](text)
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


def _refusing(core_schema: Node, extras: _Extras) -> Node:
    """
    The schema with unknown arguments refused by ``extras``, if it refuses any.

    The name of a parameter that goes by an alias is as unknown as any other. pydantic
    would drop it unseen, so it is given a field that nothing passes.
    """
    from pydantic_core.core_schema import no_info_plain_validator_function, typed_dict_field

    if core_schema["type"] == "definitions":
        return {**core_schema, "schema": _refusing(core_schema["schema"], extras)}
    fields = core_schema["fields"]
    refused = no_info_plain_validator_function(refuse_unknown)
    known = set().union(*keys_of(fields).values())
    hidden = {
        f"\0{name}": typed_dict_field(refused, required=False, validation_alias=name)
        for name in fields.keys() - known
    }
    made = {**core_schema, "fields": {**fields, **hidden}}
    if core_schema.get("extra_behavior") != "forbid":
        return made
    refuse = no_info_plain_validator_function(extras)
    return {**made, "extra_behavior": "allow", "extras_schema": refuse}


def _made(core_schema: Any) -> Any:
    from pydantic_core import SchemaValidator

    try:
        # Models bring validators of their own, made before the changes.
        return SchemaValidator(core_schema, None, _use_prebuilt=False)
    except TypeError:  # pragma: no cover - pydantic 2.12 alone
        # It knows no other: there the changes do not reach into models.
        return SchemaValidator(core_schema)


def _prepared(node: Node, counted: Mapping[str, Visits], *, large: bool) -> Node:
    """
    A copy of a core schema in which lists stop at the first bad item (250,000 of them
    cost 240 ms) and the members of a union do not appear in the path of an error.

    One for large input also stops in a mapping and in an object that knows its fields,
    for which there is no such option. The definitions in ``counted`` count who comes.
    """
    made = copied(node, functools.partial(_prepared, counted=counted, large=large))
    match node["type"]:
        case "list" | "set" | "frozenset" | "tuple":
            made["fail_fast"] = True
        case "generator":
            # Lazy: the items would be checked while the tool runs, and what the model
            # got wrong would be held against the tool. It gets a list.
            made |= {"type": "list", "fail_fast": True}
        case "decimal":
            made = _wrapped(made, _of_some_digits)
        case "union":
            made["choices"] = [(each, _invalid.UNION) for each in members(made)]
        case "tagged-union":
            made["choices"] = {t: _labelled(each) for t, each in made["choices"].items()}
    if large and _overflows(made):
        made = _bounded(made)
    visits = counted.get(made.get("ref", ""))
    return made if visits is None else _wrapped(made, visits.counting(node))


def _labelled(member: Node) -> Node:
    """
    A member that was chosen by its tag, with a label behind the tag in paths.
    """
    choices = [(member, _invalid.TAG)]
    return {"type": "union", "choices": choices, "auto_collapse": False}


def _wrapped(node: Node, function: Callable[[Any, Callable[[Any], Any]], Any]) -> Node:
    from pydantic_core.core_schema import no_info_wrap_validator_function

    # Who refers to it is to come through here too.
    ref = node.pop("ref", None)
    made: Any = no_info_wrap_validator_function(function, node, ref=ref)
    return made  # type: ignore[no-any-return]


def _of_some_digits(value: Any, validate: Callable[[Any], Any]) -> Any:
    from pydantic_core import PydanticKnownError

    # As many as Python itself reads of an integer. A million take 13 ms.
    if isinstance(value, str) and len(value) > 4_300:
        raise PydanticKnownError("decimal_parsing")
    return validate(value)


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


def _bounded(node: Node) -> Node:
    if node["type"] == "dict":
        return _wrapped(node, _by_pieces)
    fields = node.get("fields") or node["schema"].get("fields")
    if fields is None:
        return node  # a validator of its author's comes first, and may change it all
    return _wrapped(node, functools.partial(_of_known_fields, _invalid.MANY + len(fields)))


def _by_pieces(value: Any, validate: Callable[[Any], Any]) -> Any:
    """
    A few items at a time. Each may be a mapping too, and one item can have as many errors
    as a union has members and these have fields, so the pieces are small.
    """
    if type(value) is not dict or len(value) <= _PIECE:
        return validate(value)
    items, made = iter(value.items()), {}
    while piece := dict(itertools.islice(items, _PIECE)):
        made.update(validate(piece))
    return made


def _of_known_fields(most: int, value: Any, validate: Callable[[Any], Any]) -> Any:
    from pydantic_core import PydanticCustomError

    if isinstance(value, Mapping) and len(value) > most:
        message = "Input should be an object with the fields of its schema and no others"
        raise PydanticCustomError("too_many_fields", message)
    return validate(value)


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
