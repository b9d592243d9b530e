"""
What a call of a tool knows of the run that it is made in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agents import MaxTurnsExceeded, ModelRefusalError, RunContextWrapper
from agents.exceptions import (
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
)

from orchestrator_async.adapters._guarding import Runner

Context = Callable[[RunContextWrapper[Any]], Mapping[str, Any]]
"""From the SDK's context of a call to what guards and observers are told of it."""

ConversationOf = Callable[[RunContextWrapper[Any]], Runner | None]
"""From the SDK's context of a call to the conversation that it belongs to, if any."""

CONTROL_FLOW = (
    MaxTurnsExceeded,
    ModelRefusalError,
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
)
"""What ends a run, also one inside a tool that is an agent, and says nothing of a service."""


def told(context: RunContextWrapper[Any]) -> dict[str, Any]:
    """
    What is told of a call, unless it is said otherwise: ``run_context``, the object that
    ``Runner.run(context=...)`` was given, and ``agent``, the name of the agent.
    """
    agent = getattr(context, "agent", None)
    return {"run_context": context.context, "agent": None if agent is None else agent.name}


def runner_of(
    conversation: ConversationOf | None, context: RunContextWrapper[Any]
) -> Runner | None:
    """
    The conversation that a call belongs to.
    """
    return None if conversation is None else conversation(context)
