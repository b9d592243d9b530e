"""
Tools that LangGraph runs, each under a circuit of ours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from logging import getLogger
from typing import Any, Final, cast

from anyio import get_cancelled_exc_class
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_function
from langgraph import errors as langgraph_errors
from langgraph.errors import GraphBubbleUp
from langgraph.prebuilt.tool_node import ToolCallRequest, ToolInvocationError
from langgraph.types import Command

from orchestrator_async import (
    BreakerPolicy,
    ConversationPolicy,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
)
from orchestrator_async.adapters._guarding import Guarding, Runner, left_running

from ._errors import ToolMessageError, judge
from ._portal import has_sync_face, has_thread, in_thread, portal_of
from ._results import message_in, message_of, text_of, with_message, with_text
from ._runs import Conversations
from ._tools import OrchestratorTool, runner

Answer = ToolMessage | Command[Any]
_logger: Final = getLogger("orchestrator_async.langchain")

Handler = Callable[[ToolCallRequest], Answer]
AsyncHandler = Callable[[ToolCallRequest], Awaitable[Answer]]


# Before it was there, no answer to an interrupt was checked.
_is_invalid_resume: Final[Callable[[BaseException], bool]] = getattr(
    langgraph_errors, "is_invalid_resume", lambda error: False
)


class _InvalidResumeError(Exception):
    """
    Carries up what tells LangGraph that an interrupt was not answered as it has to be.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Circuits:
    """
    Runs tool calls under the circuits of an orchestrator.

    Args:
        orch: The orchestrator.
        policy: How the tools are run and judged.
        conversation: Whether calls of one run are those of one conversation, or its rules.
    """

    def __init__(
        self,
        orch: ToolOrchestrator,
        *,
        policy: ToolPolicy | BreakerPolicy | None = None,
        conversation: bool | ConversationPolicy = False,
    ) -> None:
        self._guarding = Guarding(
            orch,
            framework="LangChain",
            policy=_with_judge(policy),
            default=_with_judge(None),
            control_flow=(GraphBubbleUp, _InvalidResumeError),
            ignore=(ToolInvocationError,),
        )
        self._orch = orch
        self._complained = False
        self._conversations: Conversations | None = None
        if conversation is not False:
            rules = ConversationPolicy() if conversation is True else conversation
            given: object = rules
            if not isinstance(given, ConversationPolicy):
                raise TypeError(
                    f"conversation must be a bool or a ConversationPolicy, not {given!r:.100}"
                )
            self._conversations = Conversations(orch, rules)

    async def run(
        self,
        request: ToolCallRequest,
        handler: AsyncHandler,
        in_a_thread: Callable[[BaseTool], bool] = has_thread,
    ) -> Answer:
        """
        What ``awrap_tool_call`` is to do. A tool that is ``in_a_thread`` cannot be stopped.
        """
        tool, call = request.tool, request.tool_call
        if tool is None:
            return await self._unknown(request, handler)
        chat = None if self._conversations is None else self._conversations.of(request)
        if self._is_ours(tool):
            token = runner.set(chat)
            try:
                return await handler(request)
            finally:
                runner.reset(token)
        answer: Answer | None = None

        async def made() -> Answer:
            nonlocal answer
            try:
                given = answer = await _made(request, handler)
            except get_cancelled_exc_class():
                if in_a_thread(tool):
                    left_running(call["name"])
                raise
            return given

        try:
            result = await self._guarding.run(
                call["name"],
                call["args"],
                made,
                call_id=call["id"],
                described=partial(_described, tool),
                runner=chat,
                context=lambda: {"runtime": request.runtime},
            )
        except _InvalidResumeError as raised:
            invalid = raised.error
        else:
            if result is None:
                return cast("Answer", answer)
            return _answer(result, call["name"], call["id"] or "", chat)
        raise invalid

    def run_sync(self, request: ToolCallRequest, handler: Handler) -> Answer:
        """
        What ``wrap_tool_call`` is to do, in a thread without a loop.
        """
        if request.tool is not None and not has_sync_face(request.tool):
            return handler(request)  # it cannot be run, which its framework is to say
        with portal_of(self._orch) as portal:
            return portal.call(self.run, request, in_thread(handler), lambda tool: True)

    async def _unknown(self, request: ToolCallRequest, handler: AsyncHandler) -> Answer:
        """
        A call of a tool that its node does not have: LangGraph knows what to say, unless
        what stands behind this brings one, which then is run without a circuit.
        """
        try:
            answer = await handler(request)
        except GraphBubbleUp:
            raise
        except Exception:
            self._complain(request)
            raise
        if not (isinstance(answer, ToolMessage) and answer.status == "error"):
            self._complain(request)
        return answer

    def _complain(self, request: ToolCallRequest) -> None:
        if not self._complained:
            self._complained = True
            _logger.warning(
                "%.100r was run without a circuit: it is no tool of its agent, but one that "
                "a middleware brings, which has to stand before the circuits",
                request.tool_call["name"],
            )

    def _is_ours(self, tool: BaseTool) -> bool:
        return isinstance(tool, OrchestratorTool) and tool.belongs_to(self._orch)


def awrap_tool_call(
    orch: ToolOrchestrator,
    *,
    policy: ToolPolicy | BreakerPolicy | None = None,
    conversation: bool | ConversationPolicy = False,
) -> Callable[[ToolCallRequest, AsyncHandler], Awaitable[Answer]]:
    """
    For a ``ToolNode`` of LangGraph: ``ToolNode(tools, awrap_tool_call=...)`` runs its tools
    under the circuits of an orchestrator. It does what ``CircuitMiddleware`` does.

    Args:
        orch: The orchestrator.
        policy: How the tools are run and judged. Default: as the orchestrator says.
        conversation: Whether the calls that follow one message of a human are those of one
            conversation, or the rules of such.
    """
    return Circuits(orch, policy=policy, conversation=conversation).run


def wrap_tool_call(
    orch: ToolOrchestrator,
    *,
    policy: ToolPolicy | BreakerPolicy | None = None,
    conversation: bool | ConversationPolicy = False,
) -> Callable[[ToolCallRequest, Handler], Answer]:
    """
    The same for graphs that are run by ``invoke``: ``ToolNode(tools, wrap_tool_call=...)``.
    A node that is given this one alone holds the event loop of a graph that has one.
    """
    return Circuits(orch, policy=policy, conversation=conversation).run_sync


# Beneath

_NOTHING: Final = ToolPolicy()


def _with_judge(policy: ToolPolicy | BreakerPolicy | None) -> Any:
    """
    The policy with the judge for LangChain's tools, unless it has one of its own.
    """
    if policy is None:
        return ToolPolicy(judge=judge)
    if isinstance(policy, BreakerPolicy):
        return ToolPolicy(judge=judge, breaker=policy)
    given: object = policy
    if not isinstance(given, ToolPolicy):
        return policy  # whoever takes it will say so
    if (given.judge, given.is_failure) != (_NOTHING.judge, _NOTHING.is_failure):
        return given
    return replace(given, judge=judge)


async def _made(request: ToolCallRequest, handler: AsyncHandler) -> Answer:
    """
    The call, run as LangGraph would run it. An error that it returns is raised.
    """
    try:
        answer = await handler(request)
    except GraphBubbleUp:
        raise
    except Exception as error:
        if _is_invalid_resume(error):
            raise _InvalidResumeError(error) from error
        raise
    message: ToolMessage | None
    if isinstance(answer, ToolMessage):
        message = answer
    else:
        message = message_in(answer, request.tool_call["id"] or "")
    if message is not None and message.status == "error":
        failed = ToolMessageError(message)
        failed.answer = answer
        raise failed
    return answer


def _described(tool: BaseTool) -> Mapping[str, Any]:
    said = tool.metadata or {}
    read_only = said.get("read_only")
    return {
        "description": tool.description,
        "parameters": _parameters(tool),
        "idempotent": said.get("idempotent") is True,
        "read_only": read_only if isinstance(read_only, bool) else None,
        "render": text_of,
    }


def _parameters(tool: BaseTool) -> Mapping[str, Any]:
    found: Any = None
    try:
        found = convert_to_openai_function(tool).get("parameters")
    except Exception:  # a model has been told of it in another way
        pass
    return found if isinstance(found, dict) else {"type": "object"}


def _answer(result: ToolResult, name: str, call_id: str, chat: Runner | None) -> Answer:
    """
    What LangGraph is handed: as the tool has answered, but for what has been said since.
    """
    error, value = result.error, result.value
    if isinstance(error, ToolMessageError):
        if chat is None:
            return cast("Answer", error.answer)
        warned = with_text(error.tool_message, result.content)
        return cast("Answer", with_message(error.answer, error.tool_message, warned))
    if error is not None or (result.source != name and not _is_answer(value)):
        return message_of(result, name, call_id)
    text = text_of(value)
    message = None if result.content == text else message_in(value, call_id)
    if message is not None and text_of(message) == text:
        value = with_message(value, message, with_text(message, result.content))
    return cast("Answer", value)


def _is_answer(value: object) -> bool:
    """
    Whether a fallback has answered in the words of LangGraph.
    """
    several = value if isinstance(value, list) and value else [value]
    return all(isinstance(each, ToolMessage | Command) for each in several)
