"""
One call of a tool of the framework's: what is counted of it, and what is handed back.

The framework's own signals are handed back as they were raised. What they say of the tool
is another matter: a ``ModelRetry`` blames the call, but not one that was raised for a
timeout or a lost connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic_ai import ModelRetry, RunContext, ToolFailed, ToolReturn
from pydantic_ai.exceptions import (
    ApprovalRequired,
    CallDeferred,
    RunCancelled,
    RunTimedOut,
    SkipToolExecution,
    SkipToolValidation,
    ToolFailedError,
    ToolRetryError,
    UsageLimitExceeded,
)
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool

from orchestrator_async import (
    InvalidArgumentsError,
    Outcome,
    ToolResult,
    Verdict,
    service_errors,
)

from ._results import data_of


class Blaming(ToolFailed):
    """
    A ``ToolFailed`` that blames the call: nothing is held against the tool.
    """


CONTROL_FLOW: Final = (
    ApprovalRequired,
    CallDeferred,
    RunCancelled,
    SkipToolExecution,
    SkipToolValidation,
    ToolFailedError,
    ToolRetryError,
    UsageLimitExceeded,
)
"""What is raised on as it is, and no word of the tool."""

IGNORE: Final = (Blaming, ModelRetry)
"""What is handed back as it was, and blames the call."""

SIGNALS: Final = (*CONTROL_FLOW, ModelRetry, ToolFailed)
"""What the framework is to get as it was raised, also by a tool of ours."""

_MARKS: Final = ("idempotent", "polling", "read_only")
"""What a tool's metadata may say of it, as true or false."""


def described(tool_def: ToolDefinition) -> Mapping[str, Any]:
    """
    What the framework knows of a tool, as fields of ours.
    """
    said = tool_def.metadata or {}
    return {
        "description": tool_def.description or "",
        "parameters": tool_def.parameters_json_schema,
        "render": rendered,
        **{name: said[name] for name in _MARKS if type(said.get(name)) is bool},
    }


class GuardedCall:
    """
    Runs the call in the framework's way, and remembers what came of its last attempt.
    """

    __slots__ = ("_args", "_toolset", "asked", "raised", "returned")

    def __init__(
        self,
        toolset: AbstractToolset[Any],
        *args: *tuple[str, dict[str, Any], RunContext[Any], ToolsetTool[Any]],
    ) -> None:
        self._toolset = toolset
        self._args = args
        self.asked: Exception | None = None
        """What the framework is to get: its own signal, as it was raised."""
        self.raised: Exception | None = None
        """What was counted in its place."""
        self.returned: Any = None

    def _begin(self) -> None:
        self.asked = self.raised = self.returned = None

    async def __call__(self) -> Any:
        self.asked = self.raised = self.returned = None
        try:
            returned = await self._toolset.call_tool(*self._args)
        except (ModelRetry, ToolFailed, RunTimedOut) as error:
            self.asked = error
            self.raised = _counted(error)
        else:
            self.returned = returned
            return returned.return_value if isinstance(returned, ToolReturn) else returned
        # Out of the handler: what it was raised for would else refer back to it.
        raise self.raised

    def end(self, result: ToolResult) -> Any:
        """
        What the framework gets.

        Raises:
            ModelRetry: The tool has asked for another try, or the arguments do not fit.
            ToolFailed: It has failed, or was refused.
        """
        try:
            if result.error is None:
                return self._handed_back(result)
            if self.asked is not None and result.error is self.raised:
                raise self.asked
            raise failure_of(result) from result.error
        finally:
            # An exception refers to this frame, which must not keep it in turn.
            self._begin()
            del result

    def _handed_back(self, result: ToolResult) -> Any:
        """
        What the tool has returned, unless the model is to read something else: less of it,
        or a warning with it.
        """
        returned = self.returned
        is_wrapped = isinstance(returned, ToolReturn)
        value = returned.return_value if is_wrapped else returned
        if result.value is not value:
            return data_of(result)  # its fallback has answered
        if result.content == (value if isinstance(value, str) else rendered(value)):
            return returned
        files = ToolReturnPart(tool_name=result.name, content=value).files
        told = [result.content, *files] if files else result.content
        return replace(returned, return_value=told) if is_wrapped else told


def failure_of(result: ToolResult) -> ModelRetry | ToolFailed:
    """
    How the framework is told that a call has failed: as a mistake of the model, which it
    is to put right within its retries, or else as a failure that it has to live with.
    """
    if result.verdict is Verdict.IGNORE and isinstance(result.error, InvalidArgumentsError):
        return ModelRetry(result.content)
    return ToolFailed(result.content)


def _counted(error: ModelRetry | ToolFailed | RunTimedOut) -> Exception:
    """
    What a circuit is told of one of the framework's signals.
    """
    if isinstance(error, RunTimedOut):
        return TimeoutError(error.message)  # the tool is an agent itself, and took too long
    cause = error.__cause__
    if isinstance(error, ToolFailed):
        said = (
            Outcome(value={"error": error.message})
            if cause is None
            else Outcome(error=cause)
        )
        return error if _tells_of_service(said) else Blaming(error.message)
    if cause is None and isinstance(error.__context__, TimeoutError):
        cause = error.__context__  # so the framework says that a tool ran over its timeout
    if isinstance(cause, Exception) and _tells_of_service(Outcome(error=cause)):
        return cause
    return error


def _tells_of_service(outcome: Outcome) -> bool:
    return service_errors(outcome) is Verdict.FAILURE


def rendered(value: Any) -> str:
    """
    The text that the framework would send of a value. Files are not in it.

    Raises:
        Exception: It cannot be sent, which would else end the run later.
    """
    return ToolReturnPart(tool_name="", content=value).model_response_str()
