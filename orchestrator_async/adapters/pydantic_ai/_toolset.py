"""
The tools of a registry as a toolset of the framework.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

from pydantic_ai import ModelRetry, RunContext
from pydantic_ai.tools import AgentDepsT, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool
from pydantic_core import SchemaValidator, core_schema

from orchestrator_async import (
    ConversationPolicy,
    InvalidArgumentsError,
    Tool,
    ToolOrchestrator,
)
from orchestrator_async._chat import Conversation
from orchestrator_async.adapters._guarding import own_tools

from ._call import SIGNALS, failure_of
from ._results import data_of
from ._runs import (
    RunContextData,
    check_options,
    context_of,
    conversation_of,
    marked,
    run_data,
)

_AN_OBJECT: Final = SchemaValidator(
    core_schema.dict_schema(keys_schema=core_schema.str_schema())
)
"""All that the framework checks of arguments: what they hold is ours to check."""


class OrchestratorToolset(AbstractToolset[AgentDepsT]):
    """
    The tools of an orchestrator's registry, as tools of the framework.

    Their schemas and their validation are ours. Arguments that do not fit are a
    ``ModelRetry``, and count in the framework's retries; what fails or is refused is a
    ``ToolFailed``. A tool that is marked ``read_only=False`` is run alone, in its place
    among the calls of a turn. Stand-ins of other adapters are not offered.

    Args:
        orch: The orchestrator.
        id: The toolset's id, which durable execution wants. Default: none.
        hide_open: Leave out tools whose circuit would refuse a call. Default: they have a
            note at the end of their description.
        max_retries: How often a model may correct its arguments. Default: as the agent.
        conversation: Whether each run of an agent is a conversation, which ends loops by
            advice; or the policy of these. Default: it is not.
        context: What the tools find in their ``ToolContext``, and guards and observers
            with them. Default: ``run_data``.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: ``max_retries`` is below 0.
    """

    def __init__(
        self,
        orch: ToolOrchestrator,
        *,
        id: str | None = None,
        hide_open: bool = False,
        max_retries: int | None = None,
        conversation: bool | ConversationPolicy = False,
        context: RunContextData = run_data,
    ) -> None:
        given: object = orch
        if not isinstance(given, ToolOrchestrator):
            raise TypeError(f"orch must be a ToolOrchestrator, not {given!r:.100}")
        check_options(conversation=conversation, context=context)
        _check_retries(max_retries)
        self.orch = orch
        self._id = id
        self._hide_open = hide_open
        self._max_retries = max_retries
        self._conversation = conversation
        self._context = context
        self._chat: Conversation | None = None

    @property
    def id(self) -> str | None:
        """
        The toolset's id.
        """
        return self._id

    async def for_run(self, ctx: RunContext[AgentDepsT]) -> AbstractToolset[AgentDepsT]:
        """
        The toolset of one run of an agent.
        """
        chat = conversation_of(self.orch, self._conversation)
        if chat is None:
            return self
        mine = copy.copy(self)
        mine._chat = chat
        return mine

    async def __aexit__(self, *args: object) -> bool | None:
        if self._chat is not None:
            await self._chat.__aexit__(None, None, None)
        return None

    async def get_tools(
        self, ctx: RunContext[AgentDepsT]
    ) -> dict[str, ToolsetTool[AgentDepsT]]:
        """
        The tools that there are now, with what is to be said of their circuits.

        Raises:
            TypeError: A signature does not lend itself to a schema; names the tool.
        """
        offered = self.orch.offered_tools("mcp", hide_open=self._hide_open)
        definitions = {each["name"]: each for each in offered}
        retries = ctx.max_retries if self._max_retries is None else self._max_retries
        return {
            tool.name: self._made(tool, definitions[tool.name], retries)
            for tool in own_tools(self.orch)
            if tool.name in definitions
        }

    def _made(
        self, tool: Tool, definition: dict[str, Any], max_retries: int
    ) -> ToolsetTool[AgentDepsT]:
        made: ToolsetTool[AgentDepsT] = ToolsetTool(
            toolset=self,
            tool_def=ToolDefinition(
                name=tool.name,
                description=definition["description"],
                parameters_json_schema=definition["inputSchema"],
                sequential=tool.read_only is False,
            ),
            max_retries=max_retries,
            args_validator=_AN_OBJECT,
            args_validator_func=_check_of(tool) if tool.validates else None,
        )
        return marked(made, 1)

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
            ModelRetry: The arguments do not fit.
            ToolFailed: It has failed, or was refused.
            Exception: A signal of the framework's that the tool has raised, as it was.
        """
        run = self.orch.run if self._chat is None else self._chat.run
        context = context_of(self._context, ctx)
        result = await run(name, tool_args, call_id=ctx.tool_call_id, **context)
        try:
            if result.error is None:
                return data_of(result)
            if isinstance(result.error, SIGNALS):
                raise result.error
            raise failure_of(result) from result.error
        finally:
            # An exception refers to this frame, which must not keep it in turn.
            del result


def _check_retries(given: object) -> None:
    if given is None:
        return
    if not isinstance(given, int) or isinstance(given, bool):
        raise TypeError(f"max_retries must be a number or None, not {given!r:.100}")
    if given < 0:
        raise ValueError(f"max_retries={given} cannot be; expected 0 or more")


def _check_of(tool: Tool) -> Callable[..., None]:
    """
    What the framework asks before anybody is asked to approve a call: whether it fits. The
    arguments themselves are made when the tool is run.
    """

    def check(ctx: RunContext[Any], /, **arguments: Any) -> None:
        try:
            tool.schema().validate(arguments)
        except InvalidArgumentsError as error:
            raise ModelRetry(str(error)) from None

    return check
