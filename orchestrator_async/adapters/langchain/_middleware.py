"""
The middleware for agents of LangChain.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command

from orchestrator_async import (
    BreakerPolicy,
    ConversationPolicy,
    ToolOrchestrator,
    ToolPolicy,
)

from ._wrapping import Circuits


class CircuitMiddleware(AgentMiddleware[Any, Any, Any]):
    """
    Runs the tools of an agent, ``create_agent(..., middleware=[CircuitMiddleware(orch)])``,
    under the circuits of an orchestrator.

    A call that fails or is refused ends no run: the model reads why, in a message with the
    status ``"error"``. What a tool returned reaches the agent as it was. Interrupts, commands
    and whatever else LangGraph raises to steer a run pass through and give no verdict; a tool
    that the agent does not have is left to LangGraph.

    It goes first in the list: what stands behind it, such as a ``ToolRetryMiddleware``, is
    part of the call. Agents may share one, and several may have one orchestrator.

    Agents that are run by ``invoke`` and ``stream`` have their calls made on an event loop in
    a thread of its own, one for all calls of the orchestrator. Use an orchestrator there, or
    with ``ainvoke`` and ``astream``; not for both at one time.

    Args:
        orch: The orchestrator.
        policy: How the tools are run and judged. Default: as the orchestrator says. Unless it
            has a judge of its own, errors that a tool returns, and each ``ToolException``,
            are judged by what they say, as ``service_errors`` does.
        conversation: Whether the calls that follow one message of a human are those of one
            conversation, or the rules of such: loops are then ended by advice. Default: no.

    Raises:
        TypeError: ``orch``, ``policy`` or ``conversation`` is none.
    """

    def __init__(
        self,
        orch: ToolOrchestrator,
        *,
        policy: ToolPolicy | BreakerPolicy | None = None,
        conversation: bool | ConversationPolicy = False,
    ) -> None:
        super().__init__()
        self.tools: list[BaseTool] = []
        self._circuits = Circuits(orch, policy=policy, conversation=conversation)

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        """
        Run a call, or refuse it.
        """
        return await self._circuits.run(request, handler)

    def wrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]],
    ) -> ToolMessage | Command[Any]:
        """
        The same, for agents that are run without an event loop.
        """
        return self._circuits.run_sync(request, handler)
