"""
Results as messages of LangChain, and the text in what its tools have answered.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
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
        # What cannot be told to a model, no checkpointer need be able to save.
        artifact=result.value if artifact and result.error is None else None,
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
        return "\n".join(filter(None, map(text_of, answer)))
    if isinstance(answer, Command):
        return text_of(_messages(answer))
    return "" if answer is None else type(answer).__name__


def message_in(answer: object, call_id: str) -> ToolMessage | None:
    """
    The message that ends a call, in what its tool has answered; ``None`` if there is none.
    """
    if isinstance(answer, ToolMessage):
        return answer
    for each in answer if isinstance(answer, list) else [answer]:
        held = [each] if isinstance(each, ToolMessage) else _messages(each)
        for message in held:
            if message.tool_call_id == call_id:
                return message
    return None


def _messages(command: object) -> list[ToolMessage]:
    update = command.update if isinstance(command, Command) else None
    held = update.values() if isinstance(update, dict) else [update]
    lists = [each for each in held if isinstance(each, list)]
    return [each for each in chain.from_iterable(lists) if isinstance(each, ToolMessage)]


def with_message(answer: Any, old: ToolMessage, new: ToolMessage) -> Any:
    """
    What a tool has answered, with another message in the place of one.
    """
    if answer is old:
        return new
    if isinstance(answer, list):
        return [with_message(each, old, new) for each in answer]
    update = answer.update if isinstance(answer, Command) else None
    if isinstance(update, dict):
        swapped = {key: _swapped(each, old, new) for key, each in update.items()}
        return replace(answer, update=swapped)
    return answer if update is None else replace(answer, update=_swapped(update, old, new))


def _swapped(held: Any, old: ToolMessage, new: ToolMessage) -> Any:
    if not isinstance(held, list) or all(each is not old for each in held):
        return held
    return [new if each is old else each for each in held]


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
