"""
What a model is shown of a tool's arguments: pydantic's JSON schema, made plain.

Nothing lies below; pydantic is imported when a schema is made. Above is ``_schema``.
"""

from __future__ import annotations

import json
import math
from inspect import Parameter
from typing import Any

# Keys of a JSON schema under which lie data, and names, and not schemas.
_DATA = frozenset({"default", "enum", "const", "examples", "mapping"})
_NAMED = frozenset({"properties", "patternProperties", "$defs"})


def shown(adapter: Any, parameters: list[Parameter], taken: set[str]) -> dict[str, Any]:
    """
    The JSON schema of the arguments.

    Args:
        adapter: pydantic's ``TypeAdapter`` of a typed dict of the arguments.
        parameters: Those of the function, for their defaults.
        taken: Names of arguments that are not the model's to fill.
    """
    made = _untitled(json_schema_of(adapter))
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


def json_schema_of(adapter: Any) -> dict[str, Any]:
    """
    What pydantic itself says, but for its warnings.
    """
    from pydantic.json_schema import GenerateJsonSchema

    class Quiet(GenerateJsonSchema):
        # A default that JSON cannot hold is left out, and that is all there is to say.
        ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    made: dict[str, Any] = adapter.json_schema(schema_generator=Quiet)
    return made


def _shown_default(default: Any) -> dict[str, Any]:
    from pydantic.fields import FieldInfo
    from pydantic_core import to_jsonable_python

    if default is Parameter.empty or isinstance(default, FieldInfo):
        return {}
    try:
        value = to_jsonable_python(default)
    except Exception:
        return {}
    return {"default": value} if _is_json(value) else {}


def _is_json(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    try:
        json.dumps(value, allow_nan=False)
    except Exception:
        return False
    return True


def _untitled(node: Any) -> Any:
    """
    A schema without titles, and without what JSON cannot hold: infinite bounds, say.
    """
    if isinstance(node, list):
        return [_untitled(item) for item in node if _is_shown(item)]
    if not isinstance(node, dict):
        return node
    kept = {}
    for key, value in node.items():
        if key in _NAMED:
            kept[key] = {name: _untitled(item) for name, item in value.items()}
        elif key in _DATA and _is_json(value):
            kept[key] = value
        elif key not in _DATA and key != "title" and _is_shown(value):
            kept[key] = _untitled(value)
    return kept


def _is_shown(value: Any) -> bool:
    return isinstance(value, (dict, list)) or _is_json(value)
