"""
What both toolsets know of the framework's runs: what is told of one, and what marks a tool.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from pydantic_ai import RunContext
from pydantic_ai.tools import AgentDepsT
from pydantic_ai.toolsets import ToolsetTool

from orchestrator_async import ConversationPolicy, ToolOrchestrator
from orchestrator_async._chat import Conversation

RunContextData: TypeAlias = Callable[[RunContext[Any]], Mapping[str, Any]]
"""From the context of a run to what guards, observers and tools find as their context."""


def run_data(ctx: RunContext[Any]) -> Mapping[str, Any]:
    """
    What is told of a run unless it is said otherwise: its ``run_id`` and its ``deps``.
    """
    return {"run_id": ctx.run_id, "deps": ctx.deps}


def check_options(*, conversation: object, context: object) -> None:
    """
    Refuse what cannot be used, before there is a run.

    Raises:
        TypeError: It is of the wrong kind; names it.
    """
    if not isinstance(conversation, bool | ConversationPolicy):
        raise TypeError(
            "conversation must be True, False or a ConversationPolicy, "
            f"not {conversation!r:.100}"
        )
    if not callable(context) or inspect.iscoroutinefunction(context):
        raise TypeError(
            f"context must be a plain function of a RunContext, not {context!r:.100}"
        )


def context_of(context: RunContextData, ctx: RunContext[Any]) -> Mapping[str, Any]:
    """
    What such a function tells of a run.

    Raises:
        TypeError: That cannot be the context of a call.
    """
    if context is run_data:
        return run_data(ctx)
    told: object = context(ctx)
    if not isinstance(told, Mapping) or not all(isinstance(name, str) for name in told):
        raise TypeError(
            "context must return a mapping whose keys are names, such as {'user': 'ada'}, "
            f"not {told!r:.100}"
        )
    if "call_id" in told:
        raise TypeError("context returned call_id, which is told of each call by itself")
    return told


def conversation_of(
    orch: ToolOrchestrator, option: bool | ConversationPolicy
) -> Conversation | None:
    """
    The conversation of one run of an agent, or ``None`` where none is wanted.
    """
    if option is False:
        return None
    policy = ConversationPolicy() if option is True else option
    return orch.conversation(policy=policy)


_LAYERS: Final = "orchestrator_async"
"""How many of us a tool is under, in its metadata: the innermost alone counts its calls."""


def layers_of(tool: ToolsetTool[AgentDepsT]) -> int:
    """
    How many of our toolsets have marked the tool.
    """
    found = (tool.tool_def.metadata or {}).get(_LAYERS)
    return found if type(found) is int else 0


def marked(tool: ToolsetTool[AgentDepsT], layers: int) -> ToolsetTool[AgentDepsT]:
    """
    The tool, under so many of us.
    """
    metadata = {**(tool.tool_def.metadata or {}), _LAYERS: layers}
    return replace(tool, tool_def=replace(tool.tool_def, metadata=metadata))
