"""
Which run of an agent a call belongs to, and the conversation of that run.

A run begins with what a human says. All that it does has this message in its state, also
after an interrupt, and no other run has one with its id.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.prebuilt.tool_node import ToolCallRequest

from orchestrator_async import ConversationPolicy, ToolOrchestrator
from orchestrator_async.adapters._guarding import Runner

_MOST: Final = 1000
"""Runs that are remembered: that one has ended is not told to everybody who should know."""


class Conversations:
    """
    The conversations of the runs that were last heard of.
    """

    def __init__(self, orch: ToolOrchestrator, policy: ConversationPolicy) -> None:
        self._orch = orch
        self._policy = policy
        self._open: OrderedDict[tuple[object, str], Runner] = OrderedDict()

    def of(self, request: ToolCallRequest) -> Runner | None:
        """
        That of the call's run, or ``None`` where it cannot be told from others.
        """
        key = _run_of(request)
        if key is None:
            return None
        chat = self._open.get(key)
        if chat is None:
            chat = self._open[key] = self._orch.conversation(policy=self._policy)
            if len(self._open) > _MOST:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return chat


def _run_of(request: ToolCallRequest) -> tuple[object, str] | None:
    for message in reversed(_messages(request.state)):
        if isinstance(message, HumanMessage):
            config = getattr(request.runtime, "config", None) or {}
            thread = config.get("configurable", {}).get("thread_id")
            return None if message.id is None else (thread, message.id)
    return None


def _messages(state: object) -> Sequence[Any]:
    """
    The messages of a state of any kind, by whatever name it has them.
    """
    if isinstance(state, list):
        return state
    held = state if isinstance(state, dict) else getattr(state, "__dict__", {})
    lists: list[Any] = [held.get("messages"), *held.values()]
    for found in lists:
        if isinstance(found, list | tuple) and found and isinstance(found[-1], BaseMessage):
            return found
    kept: Sequence[Any] | None = getattr(state, "messages", None)
    return kept or ()
