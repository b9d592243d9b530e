"""
What an MCP tool returns, whole for programs and as text for a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class McpResult:
    """
    The result of an MCP tool.

    Attributes:
        content: Its blocks, as the SDK has them: text, images, audio, links, resources.
        structured_content: Its value as data, if it has one; else ``None``.
        is_error: Whether the server calls it an error.
        error: The text of that error; ``None`` where it is none.
        meta: What the server has said beside it.
    """

    content: Sequence[ContentBlock] = field(default=(), repr=False)
    structured_content: Any = field(default=None, repr=False)
    is_error: bool = False
    error: str | None = field(default=None, repr=False)
    meta: Mapping[str, Any] | None = field(default=None, repr=False)

    @staticmethod
    def of(result: CallToolResult) -> McpResult:
        """
        The same as the SDK has it.
        """
        error = None
        if result.is_error:
            error = _text(result.content) or "The tool reported an error and said no more."
        return McpResult(
            content=tuple(result.content),
            structured_content=result.structured_content,
            is_error=result.is_error,
            error=error,
            meta=result.meta,
        )

    def __str__(self) -> str:
        """
        What a model reads: the texts, and a word for each block that is none.
        """
        if self.error is not None:
            return self.error
        text = _text(self.content)
        if not text and self.structured_content is not None:
            return json.dumps(self.structured_content, ensure_ascii=False)
        return text


def _text(content: Sequence[Any]) -> str:
    return "\n".join(map(_text_of, content))


def _text_of(block: Any) -> str:
    match block.type:
        case "text":
            return str(block.text)
        case "image" | "audio":
            return f"[{block.type}: {block.mime_type}, {_size(block.data)}]"
        case "resource_link":
            said = f": {block.description}" if block.description else ""
            return f"[resource {block.uri}, {block.name}{said}]"
        case _:  # "resource", one that is in it
            resource = block.resource
            text = getattr(resource, "text", None)
            if text is not None:
                return f"[resource {resource.uri}]\n{text}"
            kind = resource.mime_type or "data"
            return f"[resource {resource.uri}: {kind}, {_size(resource.blob)}]"


def _size(data: str) -> str:
    """
    Of what base64 stands for, for people.
    """
    size = len(data) * 3 // 4
    return f"{size} bytes" if size < 10_000 else f"{size // 1000:,} kB"
