"""
Results as messages of LangChain, and the text in what its tools have answered.
"""

from __future__ import annotations

from typing import Any

from langchain_core.messages import ToolMessage
from langgraph.types import Command

from orchestrator_async import ToolResult


def content_of(result: ToolResult) -> str | list[str | dict[str, Any]]:
    """
    What a model reads of a result, and looks at: text, or blocks of content.
    """
    if not result.ok or isinstance(result.value, str):
        return result.content
    text, *others = result.message("mcp")["content"]
    if not others:
        return result.content
    return [{"type": "text", "text": text["text"]}, *map(_block, others)]


def _block(block: dict[str, Any]) -> dict[str, Any]:
    """
    A block of an MCP result as one of LangChain's. A message of a tool has no place for
    sounds but as files.
    """
    held = block.get("resource")
    if held is None:
        kind = "image" if block["type"] == "image" else "file"
        return {"type": kind, "base64": block["data"], "mime_type": block["mimeType"]}
    name = held["uri"].rpartition("/")[2]
    made = {"type": "file", "base64": held["blob"], "mime_type": held["mimeType"]}
    return {**made, "extras": {"filename": name}}


def message_of(
    result: ToolResult, name: str, call_id: str, *, artifact: bool = True
) -> ToolMessage:
    """
    The message that hands a result back.
    """
    return ToolMessage(
        content=content_of(result),
        name=name,
        tool_call_id=call_id,
        artifact=result.value if artifact else None,
        status="success" if result.ok else "error",
    )


def text_of(answer: object) -> str:
    """
    The text in what a tool has answered: the same for two calls that come to the same.
    """
    if isinstance(answer, ToolMessage):
        content = answer.content
        return content if isinstance(content, str) else str(answer.text)
    if isinstance(answer, list):
        return "\n".join(map(text_of, answer))
    if isinstance(answer, Command) and isinstance(answer.update, dict):
        return text_of(answer.update.get("messages"))
    return "" if answer is None else type(answer).__name__


def with_text(message: ToolMessage, text: str) -> ToolMessage:
    """
    The message with another text; images and the like stay.
    """
    content: Any = text
    if not isinstance(message.content, str):
        others = [
            each
            for each in message.content
            if isinstance(each, dict) and each.get("type") != "text"
        ]
        content = [{"type": "text", "text": text}, *others]
    return message.model_copy(update={"content": content})
