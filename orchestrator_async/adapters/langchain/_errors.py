"""
Errors that a tool of LangChain returns, and how they are judged.
"""

from __future__ import annotations

from typing import Any, Final

from langchain_core.messages import ToolMessage
from langchain_core.tools import ToolException
from langgraph.prebuilt.tool_node import ToolInvocationError

from orchestrator_async import Outcome, Verdict, any_error, service_errors
from orchestrator_async._outcome import looks_at_values_alone

_BLAMES_ARGUMENTS: Final = ("Error invoking tool '", "Error: ToolInvocationError(")
"""How LangGraph begins what it tells a model of arguments that do not fit."""

_MAY_BE_AN_OBJECT: Final = frozenset("{ \t\n\r")
"""How a text begins that may be a JSON object."""


class ToolMessageError(ToolException):
    """
    Stands for a ``ToolMessage`` with the status ``"error"`` that a tool, or what runs it,
    has returned: in events, and for judges. The agent gets the message itself.

    Attributes:
        tool_message: The message.
        answer: What was returned: the message, or the ``Command`` or list that holds it.
    """

    def __init__(self, tool_message: ToolMessage) -> None:
        super().__init__(str(tool_message.text))
        self.tool_message = tool_message
        self.answer: Any = tool_message

    def __reduce__(self) -> tuple[type[ToolMessageError], tuple[ToolMessage]]:
        return type(self), (self.tool_message,)


def _of_value(value: object) -> Verdict | None:
    if not isinstance(value, ToolMessage):
        return None
    content = value.content
    if isinstance(content, str) and content[:1] not in _MAY_BE_AN_OBJECT:
        return Verdict.SUCCESS  # most are, and this is less work
    return any_error(Outcome(value=content))


@looks_at_values_alone(_of_value)
def judge(outcome: Outcome) -> Verdict | None:
    """
    The judge for LangChain's tools: an error that a tool returns, or raises as a
    ``ToolException``, is a failure unless it blames the arguments or the state of the
    world. What is no error is looked at as any tool's value is.
    """
    error, value = outcome.error, outcome.value
    if error is None:
        return _of_value(value)
    if isinstance(error, ToolMessageError):
        return _of_message(error, outcome)
    if isinstance(error, ToolException) and not isinstance(error, ToolInvocationError):
        return service_errors(outcome)
    return None


def _of_message(error: ToolMessageError, outcome: Outcome) -> Verdict:
    text = str(error)
    if text.startswith(_BLAMES_ARGUMENTS):
        return Verdict.IGNORE
    # It may be an answer of an orchestrator, in JSON.
    by_object = any_error(Outcome(value=text, context=outcome.context))
    return service_errors(outcome) if by_object is Verdict.SUCCESS else by_object
