"""
One call of a tool, and what came of it, whatever happens.
"""

from __future__ import annotations

from orchestrator_async import ToolOrchestrator
from orchestrator_async._calls import ToolCall, ToolResult
from orchestrator_async._describe import describe_error
from orchestrator_async._errors import UnknownToolError
from orchestrator_async._outcome import REFUSALS, blames_arguments, error_text


async def answer(orch: ToolOrchestrator, call: ToolCall) -> ToolResult:
    """
    The result of the call. It raises for nothing but cancellation.

    A turn of one, as a turn has an answer also where a tool has its own task cancelled. And
    what is control flow to an agent's program is none to this one: a tool that ends the
    program has failed.
    """
    try:
        [result] = await orch.dispatch_all([call])
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        said = f"{call.name} ended by raising {describe_error(error)}"
        return failed(call, said, error)
    return result


def failed(call: ToolCall, message: str, error: BaseException) -> ToolResult:
    """
    The result of a call that could not be made, or has no other.
    """
    text = error_text(message, call.name)
    return ToolResult(name=call.name, call_id=call.id, content=text, error=error)


def code_of(result: ToolResult) -> int:
    """
    The exit code that a result comes to.
    """
    error = result.error
    if result.ok:
        return 0
    if error is None:
        return 1
    if isinstance(error, REFUSALS):
        return 3
    unknown = isinstance(error, UnknownToolError) and not result.attempts
    return 2 if unknown or blames_arguments(error, result.name) else 1
