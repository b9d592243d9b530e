"""
Results of our own tools, as the framework takes them.
"""

from __future__ import annotations

from typing import Any

from pydantic_ai import BinaryContent, ToolReturn
from pydantic_ai.messages import is_multi_modal_content
from pydantic_core import from_json

from orchestrator_async import ToolResult
from orchestrator_async._media import media_of


def data_of(result: ToolResult) -> Any:
    """
    What the model reads of a result: its text, with images and files, or its JSON as data.
    What is made for the framework is left as it is.
    """
    content, value = result.content, result.value
    if isinstance(value, str):
        return content
    if result.ok and _is_for_the_framework(value):
        return value
    files = _files_of(value) if result.ok else []
    if files:
        return [content, *files]
    try:
        return from_json(content)
    except ValueError:
        return content  # a tool may have its own way to make text of a value


def _is_for_the_framework(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(is_multi_modal_content(each) for each in value)
    return isinstance(value, ToolReturn) or is_multi_modal_content(value)


def _files_of(value: Any) -> list[BinaryContent]:
    try:
        found = [each for each in media_of(value) if each.data]
    except Exception:
        return []  # it raises when it is looked at
    return [
        BinaryContent.narrow_type(BinaryContent(each.data, media_type=each.mime_type))
        for each in found
    ]
