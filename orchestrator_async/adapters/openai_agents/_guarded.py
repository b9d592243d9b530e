"""
The SDK's function tools under circuits of ours.

The SDK's own invoker makes text of an exception before whoever stands around it can see
one. So what stands inside is taken out of it, run by the orchestrator, and put into an
invoker of ours, which is still one of the SDK's: it goes by the type for approvals, copies
and the function that was decorated.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Any, Final, cast

from agents import (
    AgentBase,
    FunctionTool,
    Tool,
)
from agents import tool as sdk
from agents.tool_context import ToolContext

from orchestrator_async import (
    BreakerPolicy,
    ToolOrchestrator,
    ToolPolicy,
)

from ._context import Context, ConversationOf, told
from ._guard import Guard, HandedOnError, Invoke, Options, report_failure
from ._offered import OFFERED


def guard_tools(
    tools: Iterable[Tool],
    orch: ToolOrchestrator,
    *,
    policy: ToolPolicy | BreakerPolicy | None = None,
    circuit: str | None = None,
    idempotent: bool = False,
    always_answer: bool = False,
    conversation: ConversationOf | None = None,
    context: Context = told,
) -> list[Tool]:
    """
    Copies of tools that an orchestrator runs, for ``Agent(tools=...)``.

    Function tools, among them agents as tools, get a circuit. Others are passed on as they
    are: hosted tools run elsewhere, and the local shell, computer, patch and custom tools
    are not run as functions. So are those which the orchestrator runs already.

    Args:
        tools: The tools, in any mixture.
        orch: What runs them. They are in its registry from now on, under their names, with
            their namespaces before them where they have one.
        policy: How they are run and judged. Default: as the orchestrator says.
        circuit: Name of one circuit for all of them, as one dead service takes all its
            tools with it. Default: a circuit for each.
        idempotent: Whether running one twice does what running it once does: only then a
            retry of the policy runs it again.
        always_answer: Whether a failure is answered by our text also where the tool has a
            ``failure_error_function`` of its own, or ``None`` for one, which ends the run.
        conversation: From the SDK's context of a call to the conversation of the
            orchestrator that it belongs to, or ``None``. Default: none.
        context: From the SDK's context of a call to what guards and observers find as its
            context. Default: ``told``.

    Raises:
        TypeError: A policy is none, ``orch`` is none, or what is among the tools.
        ValueError: The registry has a tool of that name which is not the SDK's, or one that
            was guarded with other settings; or a tool is guarded by another orchestrator.
    """
    options = Options(
        orch=orch,
        policy=policy,
        circuit=circuit,
        idempotent=idempotent,
        always_answer=always_answer,
        conversation=conversation,
        context=context,
    )
    given: object = tools
    if isinstance(given, str | FunctionTool) or not isinstance(given, Iterable):
        raise TypeError(f"tools must be a list of the SDK's tools, not {given!r:.100}")
    return [_passed(tool, options) for tool in tools]


def guard_tool(
    tool: FunctionTool,
    orch: ToolOrchestrator,
    *,
    policy: ToolPolicy | BreakerPolicy | None = None,
    circuit: str | None = None,
    idempotent: bool = False,
    always_answer: bool = False,
    conversation: ConversationOf | None = None,
    context: Context = told,
) -> FunctionTool:
    """
    ``guard_tools`` for one function tool.

    Raises:
        TypeError: It is no function tool; else as there.
        ValueError: As there.
    """
    given: object = tool
    if not isinstance(given, FunctionTool):
        raise TypeError(f"a FunctionTool can be guarded, not {given!r:.100}")
    (ours,) = guard_tools(
        [tool],
        orch,
        policy=policy,
        circuit=circuit,
        idempotent=idempotent,
        always_answer=always_answer,
        conversation=conversation,
        context=context,
    )
    return cast("FunctionTool", ours)


_GUARD: Final = "_orchestrator_guard"
"""The attribute by which what was guarded is known."""


def _passed(tool: Tool, options: Options) -> Tool:
    if isinstance(tool, FunctionTool):
        return _guarded(tool, options)
    given: object = tool
    if isinstance(given, AgentBase):
        raise TypeError(f"{given.name} is an agent and no tool; give its as_tool(...)")
    if not isinstance(getattr(given, "name", None), str):
        raise TypeError(
            f"{given!r:.100} is no tool of the SDK; of a function, function_tool makes one"
        )
    return tool


def _guarded(tool: FunctionTool, options: Options) -> FunctionTool:
    if getattr(tool.on_invoke_tool, OFFERED, None) is options.orch:
        return tool
    known = getattr(tool.on_invoke_tool, _GUARD, None)
    if isinstance(known, Guard):
        if known.orch is options.orch:
            return tool
        raise ValueError(f"{tool.name} is guarded by another orchestrator already")
    guard = Guard(tool, options)
    ours = copy(tool)
    inner = ours.on_invoke_tool
    # The SDK's timer would cancel the call, which says nothing of the tool. Ours says that
    # the tool ran out of time.
    ours.timeout_seconds = None
    if isinstance(inner, sdk._FailureHandlingFunctionToolInvoker):
        ours.on_invoke_tool = _Invoker(inner, guard, ours)
    else:
        ours.on_invoke_tool = _Around(inner, guard, ours, less=_wants_less(ours))
    return ours


def _wants_less(tool: FunctionTool) -> bool:
    """
    Whether the SDK gives a function the context of the run and not that of the call, as the
    type of its parameter says.
    """
    whole = ToolContext[Any](None, tool_name="", tool_call_id="", tool_arguments="")
    return sdk._get_function_tool_invoke_context(tool, whole) is not whole


class _Invoker(sdk._FailureHandlingFunctionToolInvoker):
    """
    The SDK's invoker, whose inner part is run by a guard.
    """

    def __init__(
        self,
        inner: sdk._FailureHandlingFunctionToolInvoker,
        guard: Guard,
        function_tool: FunctionTool,
    ) -> None:
        super().__init__(
            inner._invoke_tool_impl, inner._on_handled_error, function_tool=function_tool
        )
        self._inner = inner
        self._orchestrator_guard = guard
        if getattr(inner, sdk._SYNC_FUNCTION_TOOL_MARKER, False):
            setattr(self, sdk._SYNC_FUNCTION_TOOL_MARKER, True)

    def __agents_bind_function_tool__(self, function_tool: FunctionTool) -> _Invoker:
        return _Invoker(self._inner, self._orchestrator_guard, function_tool)

    async def __call__(self, ctx: ToolContext[Any], input: str) -> Any:
        assert self._function_tool is not None
        guard, report = self._orchestrator_guard, self._on_handled_error
        try:
            return await guard.run(
                self._function_tool, self._invoke_tool_impl, ctx, input, report
            )
        except HandedOnError as failed:
            error = failed.error
        # As the SDK does with whatever a tool raises.
        said = await sdk.maybe_invoke_function_tool_failure_error_function(
            function_tool=self._function_tool, context=ctx, error=error
        )
        if said is None:
            raise error
        report(self._function_tool, error, input, ctx)
        return said


class _Around:
    """
    The same for a function that somebody wrote for ``on_invoke_tool``. The SDK looks at
    the signature for what kind of context is wanted: this wants all, and gives the function
    what that one wants.
    """

    def __init__(
        self, invoke: Invoke, guard: Guard, function_tool: FunctionTool, *, less: bool
    ) -> None:
        self._inner = invoke
        self._less = less
        self._function_tool = function_tool
        self._orchestrator_guard = guard

    def __agents_bind_function_tool__(self, function_tool: FunctionTool) -> _Around:
        guard = self._orchestrator_guard
        return _Around(self._inner, guard, function_tool, less=self._less)

    async def __call__(self, ctx: Any, input: str) -> Any:
        guard = self._orchestrator_guard
        try:
            return await guard.run(
                self._function_tool, self._invoke, ctx, input, report_failure
            )
        except HandedOnError as failed:
            raise failed.error from None

    async def _invoke(self, context: Any, input: str) -> Any:
        if self._less and isinstance(context, ToolContext):
            context = context._fork_with_tool_input(context.tool_input)
        return await self._inner(context, input)
