"""
What models' APIs are told of a result: a tool message in the form of each.

An image goes with its text where the API has a place for one in the answer of a tool.
Failures are text alone, as Anthropic's API wants it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from ._callbacks import is_its_own
from ._media import Media, media_of

if TYPE_CHECKING:
    from ._calls import ToolResult

_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""What all of the APIs take for an image."""

_PDF: Final = "application/pdf"


def message_of(result: ToolResult, format: str) -> dict[str, Any]:
    """
    See ``ToolResult.message``.
    """
    if format not in _FORMATS:
        *others, last = map(repr, _FORMATS)
        raise ValueError(f"format={format!r}: expected {', '.join(others)} or {last}")
    return _FORMATS[format](result)


def _seen(result: ToolResult) -> list[Media]:
    """
    What there is to look at, of kinds that an API may take.
    """
    if not result.ok or result.value is None:
        return []
    try:
        return [each for each in media_of(result.value) if each.data]
    except BaseException as raised:
        if not is_its_own(raised):
            raise
        return []  # it raises when it is looked at


def _openai(result: ToolResult) -> dict[str, Any]:
    """
    Chat completions: a tool message is text.
    """
    return {"role": "tool", "tool_call_id": result.call_id, "content": result.content}


def _responses(result: ToolResult) -> dict[str, Any]:
    blocks: list[dict[str, Any]] = []
    for each in _seen(result):
        if each.mime_type in _IMAGES:
            blocks.append({"type": "input_image", "image_url": each.url, "detail": "auto"})
        elif each.mime_type == _PDF:
            name = each.name or "document.pdf"
            blocks.append({"type": "input_file", "filename": name, "file_data": each.url})
    text = {"type": "input_text", "text": result.content}
    return {
        "type": "function_call_output",
        "call_id": result.call_id,
        "output": [text, *blocks] if blocks else result.content,
    }


def _anthropic(result: ToolResult) -> dict[str, Any]:
    blocks: list[dict[str, Any]] = []
    for each in _seen(result):
        if each.mime_type in _IMAGES or each.mime_type == _PDF:
            kind = "document" if each.mime_type == _PDF else "image"
            source = {"type": "base64", "media_type": each.mime_type, "data": each.base64}
            blocks.append({"type": kind, "source": source})
    text = {"type": "text", "text": result.content}
    block = {
        "type": "tool_result",
        "tool_use_id": result.call_id,
        "content": [text, *blocks] if blocks else result.content,
    }
    return block if result.ok else {**block, "is_error": True}


def _gemini(result: ToolResult) -> dict[str, Any]:
    response: dict[str, Any] = {
        "name": result.name,
        "response": {"output" if result.ok else "error": result.content},
    }
    if result.call_id is not None:
        response["id"] = result.call_id
    parts = [
        {"inline_data": {"mime_type": each.mime_type, "data": each.data}}
        for each in _seen(result)
        if each.mime_type in _IMAGES or each.mime_type == _PDF
    ]
    if parts:
        response["parts"] = parts
    return {"function_response": response}


def _mcp(result: ToolResult) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": result.content}]
    for each in _seen(result):
        kind = each.mime_type.partition("/")[0]
        if kind in ("image", "audio"):
            block: dict[str, Any] = {
                "type": kind,
                "data": each.base64,
                "mimeType": each.mime_type,
            }
        else:
            uri = f"resource:///{quote(each.name or 'file')}"
            held = {"uri": uri, "blob": each.base64, "mimeType": each.mime_type}
            block = {"type": "resource", "resource": held}
        content.append(block)
    return {"content": content, "isError": not result.ok}


_FORMATS: Final[dict[str, Callable[[ToolResult], dict[str, Any]]]] = {
    "openai": _openai,
    "openai-responses": _responses,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "mcp": _mcp,
}
