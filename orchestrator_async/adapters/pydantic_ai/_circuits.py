"""
The framework's tools under circuits: those of a toolset, or all of an agent.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.tools import AgentDepsT
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool, WrapperToolset

from orchestrator_async import (
    BreakerPolicy,
    ConversationPolicy,
    ToolOrchestrator,
    ToolPolicy,
)
from orchestrator_async._chat import Conversation
from orchestrator_async.adapters._guarding import Guarding

from ._call import CONTROL_FLOW, IGNORE, GuardedCall, described
from ._runs import (
    RunContextData,
    check_options,
    context_of,
    conversation_of,
    layers_of,
    marked,
    run_data,
)
from ._toolset import OrchestratorToolset


@dataclass
class CircuitToolset(WrapperToolset[AgentDepsT]):
    """
    A toolset whose tools run under circuits, one for each name.

    A tool that fails is told to the model as ``ToolFailed``, with our text; one whose
    circuit is open is not run. What the framework signals by exceptions, and what tools
    return, passes as it is. All state is in the orchestrator, so toolsets of one
    orchestrator share the circuits of tools that have the same name.

    Args:
        wrapped: The toolset, of any kind.
        orch: The orchestrator. Its registry gets a stand-in for each tool that is called.
        policy: How the tools are run and judged. Default: as the orchestrator says.
        conversation: Whether each run of an agent is a conversation, which ends loops by
            advice; or the policy of these. Default: it is not.
        context: What guards and observers are told of a run. Default: ``run_data``.

    Raises:
        TypeError: An argument is of the wrong kind.
    """

    orch: ToolOrchestrator
    _: KW_ONLY
    policy: ToolPolicy | BreakerPolicy | None = None
    conversation: bool | ConversationPolicy = False
    context: RunContextData = run_data
    _chat: Conversation | None = field(default=None, repr=False, compare=False)
    _guarding: Guarding = field(init=False, repr=False, compare=False)
    _not_ours: set[str] = field(init=False, repr=False, compare=False, default_factory=set)

    def __post_init__(self) -> None:
        # What it keeps can be found out anew: the framework copies toolsets from run to run.
        self._guarding = _guarding_of(self)
        wrapped: object = self.wrapped
        if not isinstance(wrapped, AbstractToolset):
            raise TypeError(
                f"wrapped must be a toolset, not {wrapped!r:.100}; a FunctionToolset is "
                "made of functions, and a DynamicToolset of a function that gives a toolset"
            )

    async def for_run(self, ctx: RunContext[AgentDepsT]) -> AbstractToolset[AgentDepsT]:
        """
        The toolset of one run of an agent.
        """
        wrapped = await self.wrapped.for_run(ctx)
        chat = conversation_of(self.orch, self.conversation)
        if wrapped is self.wrapped and chat is None:
            return self
        return replace(self, wrapped=wrapped, _chat=chat)

    async def __aexit__(self, *args: object) -> bool | None:
        try:
            return await self.wrapped.__aexit__(*args)
        finally:
            if self._chat is not None:
                await self._chat.__aexit__(None, None, None)

    async def get_tools(
        self, ctx: RunContext[AgentDepsT]
    ) -> dict[str, ToolsetTool[AgentDepsT]]:
        """
        The tools of the wrapped toolset.
        """
        tools = await self.wrapped.get_tools(ctx)
        return {name: marked(tool, layers_of(tool) + 1) for name, tool in tools.items()}

    async def call_tool(
        self,
        name: str,
        tool_args: dict[str, Any],
        ctx: RunContext[AgentDepsT],
        tool: ToolsetTool[AgentDepsT],
    ) -> Any:
        """
        Run the tool, or refuse it.

        Raises:
            ToolFailed: It has failed, or was refused.
            ValueError: The registry has a tool of that name which is none of the
                framework's, or one with another policy.
            TypeError: What ``context`` has returned cannot be one.
        """
        if (layers := layers_of(tool)) > 1:
            # Another toolset of ours is beneath, and counts the call.
            inner = marked(tool, layers - 1)
            return await self.wrapped.call_tool(name, tool_args, ctx, inner)
        told: Any = self.context
        told = partial(run_data, ctx) if told is run_data else context_of(told, ctx)
        if name not in self._not_ours:
            if isinstance(tool.toolset, OrchestratorToolset):
                # It has lost its mark, which is in metadata that others may replace.
                return await self.wrapped.call_tool(name, tool_args, ctx, tool)
            self._not_ours.add(name)
        call = GuardedCall(self.wrapped, name, tool_args, ctx, tool)
        result = await self._guarding.run(
            name,
            tool_args,
            call,
            call_id=ctx.tool_call_id,
            described=partial(described, tool.tool_def),
            runner=self._chat,
            context=told,
        )
        return call.returned if result is None else call.end(result)


@dataclass
class Circuits(AbstractCapability[AgentDepsT]):
    """
    All tools of an agent under circuits, those of ``@agent.tool`` and of its toolsets.

    It is a ``CircuitToolset`` around them all. Tools that are under one already, and those
    of an ``OrchestratorToolset``, are left to that one. Output tools are never under one.

    Args:
        orch: The orchestrator.
        policy: How the tools are run and judged. Default: as the orchestrator says.
        conversation: Whether each run of the agent is a conversation, which ends loops by
            advice; or the policy of these. Default: it is not.
        context: What guards and observers are told of a run. Default: ``run_data``.

    Raises:
        TypeError: An argument is of the wrong kind.
    """

    orch: ToolOrchestrator
    _: KW_ONLY
    policy: ToolPolicy | BreakerPolicy | None = None
    conversation: bool | ConversationPolicy = False
    context: RunContextData = run_data

    def __post_init__(self) -> None:
        _guarding_of(self)

    @classmethod
    def get_serialization_name(cls) -> str | None:
        """
        None: an orchestrator cannot be written down.
        """
        return None

    def get_wrapper_toolset(
        self, toolset: AbstractToolset[AgentDepsT]
    ) -> AbstractToolset[AgentDepsT]:
        """
        The agent's tools, under circuits.
        """
        return CircuitToolset(
            toolset,
            self.orch,
            policy=self.policy,
            conversation=self.conversation,
            context=self.context,
        )


def _guarding_of(options: CircuitToolset[Any] | Circuits[Any]) -> Guarding:
    """
    What runs the calls.

    Raises:
        TypeError: An option is of the wrong kind.
    """
    check_options(conversation=options.conversation, context=options.context)
    return Guarding(
        options.orch,
        framework="Pydantic AI",
        policy=options.policy,
        control_flow=CONTROL_FLOW,
        ignore=IGNORE,
        checks_text=True,  # what it cannot send ends a run
    )
