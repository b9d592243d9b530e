"""
Lists of tools, before the SDK sees them: one tool that is wrong makes it refuse all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import mcp_types as types
from pydantic import ValidationError

MOST: Final = 2_000
"""Tools that are looked at in one answer: each takes some microseconds of the event loop."""


def sift(message: Any, left_out: Callable[[str, str], object]) -> None:
    """
    Take out of an answer that lists tools those that are none, and of the others the schema
    of what they return: the SDK compares each result with that on the event loop, where a
    pattern in it could hold everything up for hours.
    """
    result: Any = getattr(message, "result", None)
    tools = result.get("tools") if isinstance(result, dict) else None
    if not isinstance(tools, list):
        return
    if len(tools) > MOST:
        left_out("(the rest)", f"it lists more than {MOST:,} tools at once")
    result["tools"] = [tool for tool in tools[:MOST] if _is_one(tool, left_out)]


def _is_one(tool: Any, left_out: Callable[[str, str], object]) -> bool:
    if isinstance(tool, dict):
        tool.pop("outputSchema", None)
        schema = tool.get("inputSchema")
        if isinstance(schema, dict) and schema.get("type") != "object":
            left_out(_name(tool), "the schema of its arguments is not that of an object")
            return False
    try:
        types.Tool.model_validate(tool, by_name=False)
    except (ValidationError, RecursionError) as error:
        left_out(_name(tool), f"it is described wrongly ({_where(error)})")
        return False
    return True


def _name(tool: Any) -> str:
    name = tool.get("name") if isinstance(tool, dict) else None
    return name if isinstance(name, str) else "(without a name)"


def _where(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "nested too deep"
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"][:3])) or "at the top"
    return f"{where}: {first['msg']}"
