"""
What came of a call, as MCP says it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

import mcp_types as types
from mcp_types.version import is_version_at_least

from orchestrator_async import InvalidArgumentsError, ToolResult
from orchestrator_async._endings import invalid_text
from orchestrator_async._text import clean
from orchestrator_async.adapters.mcp import McpResult
from orchestrator_async.adapters.mcp._meta import PREFIX

_SINCE: Final = {"audio": "2025-03-26", "resource_link": "2025-06-18"}
"""The versions of the protocol that brought kinds of blocks."""

_STRUCTURED: Final = "2025-06-18"
_ANY_VALUE: Final = "2026-07-28"
"""The versions that brought values as data: objects at first, then any."""


def told(result: ToolResult, version: str) -> types.CallToolResult:
    """
    The result for a host that speaks this version of the protocol.
    """
    value = result.value
    if result.error is None and isinstance(value, McpResult):
        return _passed_on(value, result, version)
    structured = None if isinstance(value, str) else _object_in(result)
    return types.CallToolResult(
        content=[types.TextContent(text=result.content)],
        structured_content=structured,
        is_error=not result.ok,
        _meta=_meta(result),
    )


def error(text: str) -> types.CallToolResult:
    """
    An error that a model reads.
    """
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)


def not_json(name: str, arguments: Iterable[str]) -> ToolResult:
    """
    The result of a call that is not made, for these arguments hold no finite numbers.
    """
    errors = [{"argument": each, "expected": "finite numbers"} for each in arguments]
    wrong = InvalidArgumentsError(tool_name=name, errors=errors)
    return ToolResult(name=name, content=invalid_text(wrong, name, clean), error=wrong)


def _passed_on(value: McpResult, result: ToolResult, version: str) -> types.CallToolResult:
    """
    What another server has said, in its own form.
    """
    content, structured = list(value.content), value.structured_content
    if result.content != str(value):
        # It was cut to the size that a model is to read, and its other forms are larger.
        texts: list[Any] = [types.TextContent(text=result.content)]
        content = texts + [block for block in content if block.type != "text"]
        structured = None
    if not isinstance(structured, dict) and not is_version_at_least(version, _ANY_VALUE):
        structured = None
    if structured is not None and not is_version_at_least(version, _STRUCTURED):
        structured = None
    if not content and value.structured_content is not None:
        content = [types.TextContent(text=result.content)]
    said = value.meta or {}
    own = {key: each for key, each in said.items() if key != _WHO and not _is_ours(key)}
    return types.CallToolResult(
        content=list(_understood(content, version)),
        structured_content=structured,
        is_error=value.is_error,
        _meta={**own, **_meta(result)},
    )


_WHO: Final = types.SERVER_INFO_META_KEY
"""What says which server has answered: to the host, that is this one."""


def _is_ours(key: str) -> bool:
    # Of a key that has nothing to say there would else be what a server says of itself.
    return key.startswith(PREFIX)


def _understood(content: Sequence[Any], version: str) -> Iterable[Any]:
    for block in content:
        since = _SINCE.get(block.type)
        if since is None or is_version_at_least(version, since):
            yield block
        else:
            yield types.TextContent(text=str(McpResult(content=[block])))


def _object_in(result: ToolResult) -> dict[str, Any] | None:
    """
    The value as data, where it is an object of JSON and the text shows all of it.
    """
    if result.error is not None or not result.content.startswith("{"):
        return None
    try:
        value = json.loads(result.content, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return None  # what a tool's ``render`` makes may be anything
    return None if _CUT.keys() <= value.keys() else value


_CUT: Final = {"truncated": True, "total_chars": 0, "preview": ""}


def _no_json(word: str) -> Any:
    raise ValueError(word)


def _meta(result: ToolResult) -> dict[str, Any]:
    said = {
        "verdict": str(result.verdict),
        "state": None if result.state is None else str(result.state),
        "attempts": result.attempts,
        "retry_after": result.retry_after,
        "source": None if result.source == result.name else result.source or None,
    }
    return {f"{PREFIX}{key}": value for key, value in said.items() if value is not None}
