"""
Runs the calls of one function tool, and says what the SDK is to have for an answer.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from agents import (
    FunctionTool,
    ModelBehaviorError,
    RunContextWrapper,
    ToolTimeoutError,
    default_tool_error_function,
)
from agents import tool as sdk
from agents.agent_tool_state import (
    drop_agent_tool_run_result,
    get_agent_tool_state_scope,
    peek_agent_tool_run_result,
)
from agents.tool_context import ToolContext
from anyio import get_cancelled_exc_class

from orchestrator_async import (
    BreakerPolicy,
    Tool,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
)
from orchestrator_async import ToolTimeoutError as OutOfTime
from orchestrator_async.adapters._guarding import Guarding, as_policy, left_running

from ._context import (
    CONTROL_FLOW,
    Context,
    ConversationOf,
    check_functions,
    runner_of,
    told,
    told_by,
)

FRAMEWORK = "the OpenAI Agents SDK"

Invoke = Callable[[Any, str], Awaitable[Any]]
"""Runs a tool with the SDK's context and the arguments as JSON text."""

Report = Callable[[FunctionTool, Exception, str, ToolContext[Any]], None]
"""Writes a failure that the run survives into the SDK's trace and its log."""

_report: Report = sdk._build_handled_function_tool_error_handler(
    span_message="Error running tool (non-fatal)", log_label="Tool"
)


def report_failure(tool: FunctionTool, error: Exception, text: str, context: Any) -> None:
    """
    Write it, unless the tool was called by hand, with less than the context of a call.
    """
    if isinstance(context, ToolContext):
        _report(tool, error, text, context)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    orch: ToolOrchestrator
    policy: ToolPolicy | BreakerPolicy | None
    circuit: str | None
    idempotent: bool
    always_answer: bool
    conversation: ConversationOf | None
    context: Context

    def __post_init__(self) -> None:
        check_functions(self.conversation, self.context)


class HandedOnError(Exception):
    """
    A failure, or control flow, that the tool's own settings answer for.
    """

    def __init__(self, error: BaseException) -> None:
        self.error = sdk._coerce_tool_error_for_failure_error_function(error)


class _PausedError(Exception):
    """
    An agent that is a tool waits for an approval: it has neither failed nor succeeded.
    """

    def __init__(self, value: Any) -> None:
        self.value = value


class Guard:
    """
    Runs the calls of one tool and its copies.
    """

    def __init__(self, tool: FunctionTool, options: Options) -> None:
        self.orch = options.orch
        self._options = options
        self._tool = tool
        self._timeout = tool.timeout_seconds
        marker = sdk._SYNC_FUNCTION_TOOL_MARKER
        self._in_a_thread = bool(getattr(tool.on_invoke_tool, marker, False))
        policy = _with_timeout(options.policy, tool.timeout_seconds)
        self._guarding = Guarding(
            options.orch,
            framework=FRAMEWORK,
            policy=policy,
            control_flow=(*CONTROL_FLOW, _PausedError),
            ignore=(ModelBehaviorError,),  # what a model wrote is not JSON, or does not fit
        )
        self._guarding.know(tool.qualified_name, self._described)
        check_same(
            self.orch.registry[tool.qualified_name],
            policy,
            circuit=options.circuit,
            idempotent=options.idempotent,
        )

    async def run(
        self,
        tool: FunctionTool,
        invoke: Invoke,
        context: RunContextWrapper[Any],
        text: str,
        report: Report,
    ) -> Any:
        """
        Run a call.

        Returns:
            What the SDK is to have for an answer.

        Raises:
            HandedOnError: The tool's settings answer for what has happened.
            ToolTimeoutError: The tool ran out of time, and that is to end the run.
        """
        runner = runner_of(self._options.conversation, context, self.orch)
        asked = self._options.context
        about = partial(told, context) if asked is told else told_by(asked, context)
        entered, value = False, None

        async def handle() -> Any:
            nonlocal entered, value
            entered = True
            try:
                value = await invoke(context, text)
            except get_cancelled_exc_class():
                if self._in_a_thread:
                    left_running(tool.qualified_name)
                raise
            if tool._is_agent_tool and _waits(context):
                raise _PausedError(value)
            return value

        try:
            result = await self._guarding.run(
                tool.qualified_name,  # a namespace may have made another one of it
                lambda: self._arguments(tool, text),
                handle,
                call_id=getattr(context, "tool_call_id", None),
                described=self._described,
                runner=runner,
                context=about,
            )
        except _PausedError as paused:
            return paused.value
        except Exception as control_flow:
            if not entered:  # a name that is taken, say: no tool has raised that
                raise
            raise HandedOnError(control_flow) from None
        if result is None:
            return value
        if result.error is None:
            return _as_it_was(result, tool)
        if not entered and tool._is_agent_tool:
            _forget_what_waits(context)
        failed = HandedOnError(result.error)
        return await self._answer(tool, result, failed, context, text, report)

    async def _answer(
        self,
        tool: FunctionTool,
        result: ToolResult,
        failed: HandedOnError,
        context: Any,
        text: str,
        report: Report,
    ) -> Any:
        if not self._options.always_answer:
            if isinstance(result.error, OutOfTime) and self._timeout is not None:
                said = await self._said_of_timeout(tool, context, self._timeout)
                if said is not None:
                    return said
            elif not _is_default(tool, context):
                raise failed
            elif (said := await _formatted(tool, context, failed.error)) is not None:
                report(tool, failed.error, text, context)
                return said
        # So the SDK knows its own text for failures, which no schema of results is about.
        setattr(context, sdk._DEFAULT_FAILURE_HANDLED_ATTR, True)
        report(tool, failed.error, text, context)
        return result.content

    async def _said_of_timeout(
        self, tool: FunctionTool, context: RunContextWrapper[Any], seconds: float
    ) -> str | None:
        """
        What the tool says for itself where it ran out of time, if it does.
        """
        error = ToolTimeoutError(tool_name=tool.name, timeout_seconds=seconds)
        if tool.timeout_behavior == "raise_exception":
            raise error
        if tool.timeout_error_function is None:
            return None
        said = tool.timeout_error_function(context, error)
        return await said if inspect.isawaitable(said) else said

    def _arguments(self, tool: FunctionTool, text: str) -> Any:
        """
        The arguments, for those who watch. Where they are no object, the tool says so; but
        a guard cannot have seen them, so the orchestrator is left to refuse the text.
        """
        arguments = _object_in(text)
        if arguments is not None:
            return arguments
        return text if self._guarding.has_guard(tool.qualified_name) else {}

    def _described(self) -> Mapping[str, Any]:
        return {
            "description": self._tool.description,
            "parameters": self._tool.params_json_schema,
            "circuit": self._options.circuit,
            "idempotent": self._options.idempotent,
            "render": _shown,
        }


def check_same(
    known: Tool, policy: ToolPolicy, *, circuit: str | None, idempotent: bool
) -> None:
    """
    Raise ``ValueError`` where the tool of that name was guarded with other settings, which
    would go on to hold.
    """
    given = {each.name: getattr(policy, each.name) for each in fields(policy)}
    held = {name: getattr(known.policy, name) for name in given}
    held |= {"circuit": known.circuit, "idempotent": known.idempotent}
    given |= {"circuit": circuit, "idempotent": idempotent}
    differ = [name for name, value in given.items() if held[name] != value]
    if differ:
        raise ValueError(
            f"a tool named {known.name!r} is guarded already by this orchestrator, with "
            f"another {', '.join(differ)}, and what has one name has one circuit: give it "
            "the same settings or another name, or use two orchestrators"
        )


def _object_in(text: str) -> dict[str, Any] | None:
    try:
        arguments = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return None
    return arguments if isinstance(arguments, dict) else None


def _as_it_was(result: ToolResult, tool: FunctionTool) -> Any:
    """
    What the tool returned. A text may be cut to a size, or have a warning at its end.
    """
    if type(result.value) is str and tool.output_json_schema is None:
        return result.content
    return result.value


def _shown(value: object) -> str:
    """
    What is no text is shown by the SDK, which takes any value there is.
    """
    return str(value)


def _waits(context: RunContextWrapper[Any]) -> bool:
    call = getattr(context, "tool_call", None)
    if call is None:
        return False
    run = peek_agent_tool_run_result(call, scope_id=get_agent_tool_state_scope(context))
    return bool(getattr(run, "interruptions", None))


def _forget_what_waits(context: RunContextWrapper[Any]) -> None:
    """
    An agent that waited for an approval, has it, and is refused all the same: the SDK would
    ask for the approval again and again, and no model would ever read of the refusal.
    """
    call = getattr(context, "tool_call", None)
    if call is not None:
        drop_agent_tool_run_result(call, scope_id=get_agent_tool_state_scope(context))


def _is_default(tool: FunctionTool, context: RunContextWrapper[Any]) -> bool:
    """
    Whether the SDK's own text is what it would say of a failure.
    """
    said_by = sdk.resolve_function_tool_failure_error_function(tool, context)
    return said_by is default_tool_error_function


async def _formatted(
    tool: FunctionTool, context: RunContextWrapper[Any], error: Exception
) -> str | None:
    """
    What the run's ``tool_error_formatter`` makes of a failure, if it makes anything of it.
    """
    said = await sdk.maybe_invoke_function_tool_failure_error_function(
        function_tool=tool, context=context, error=error
    )
    return None if said == default_tool_error_function(context, error) else said


def _with_timeout(
    policy: ToolPolicy | BreakerPolicy | None, seconds: float | None
) -> ToolPolicy:
    """
    The policy, with the tool's timeout where it has none or a longer one.
    """
    made = as_policy(policy)
    if seconds is None:
        return made
    shorter = (
        min(seconds, made.timeout) if isinstance(made.timeout, float | int) else seconds
    )
    return replace(made, timeout=shorter)
