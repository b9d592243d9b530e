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

from orchestrator_async import ToolOrchestrator
from orchestrator_async._chat import Conversation
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


def check_functions(conversation: object, context: object) -> None:
    """
    Raise ``TypeError`` where what is to be asked in each call is no function.
    """
    if conversation is not None and not callable(conversation):
        raise TypeError(
            "conversation must be a function from the SDK's context to a conversation, "
            f"not {conversation!r:.100}"
        )
    if not callable(context):
        raise TypeError(
            "context must be a function from the SDK's context to a mapping, "
            f"not {context!r:.100}"
        )


def told_by(function: Context, context: RunContextWrapper[Any]) -> Mapping[str, Any]:
    """
    What a function of the user's tells of a call.

    Raises:
        TypeError: It is none that a call can have.
    """
    said: object = function(context)
    if not isinstance(said, Mapping):
        raise TypeError(
            f"context= is to return a mapping of names to values, not {said!r:.100}"
        )
    if "call_id" in said:
        raise TypeError("call_id: the id of the call by the SDK; give it another name")
    return said


def runner_of(
    conversation: ConversationOf | None,
    context: RunContextWrapper[Any],
    orch: ToolOrchestrator,
) -> Runner | None:
    """
    The conversation that a call belongs to.

    Raises:
        TypeError: It is none.
        ValueError: It is one of another orchestrator, which has not these tools.
    """
    if conversation is None:
        return None
    said: object = conversation(context)
    if said is None or said is orch:
        return None
    if not isinstance(said, Conversation):
        raise TypeError(
            f"conversation= is to return a conversation or None, not {said!r:.100}"
        )
    if said._fleet is not orch._fleet:
        raise ValueError(
            "conversation= has returned a conversation of another orchestrator than the "
            "tool's: begin it with orch.conversation() of the one that runs the tool"
        )
    return said
