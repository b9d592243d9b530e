"""
Agents of LangChain whose model says what a script has, and what the tests ask of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

from orchestrator_async import Registry, ToolOrchestrator

_numbers = itertools.count(1)


def call(name: str, /, **args: Any) -> dict[str, Any]:
    """
    A call that the model makes, with an id of its own.
    """
    return {"name": name, "args": args, "id": f"call_{next(_numbers)}"}


class Script(BaseChatModel):
    """
    A model that makes the calls of its script, turn by turn, or says its text.
    """

    turns: list[Any]
    seen: list[Any] = Field(default_factory=list)
    offered: list[Any] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "script"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:
        self.offered[:] = [convert_to_openai_tool(each)["function"] for each in tools]
        return self

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, *args: Any, **options: Any
    ) -> ChatResult:
        self.seen.append(list(messages))
        turn = self.turns.pop(0)
        if isinstance(turn, dict):
            turn = [turn]
        said = (
            AIMessage(turn)
            if isinstance(turn, str)
            else AIMessage("", tool_calls=[each.copy() for each in turn])
        )
        return ChatResult(generations=[ChatGeneration(message=said)])


def agent_of(
    *turns: Any, tools: Sequence[BaseTool], middleware: Sequence[Any] = (), **options: Any
) -> Any:
    """
    An agent whose model makes those turns, and then is done.
    """
    model = Script(turns=[*turns, "done"])
    agent = create_agent(model, list(tools), middleware=middleware, **options)
    agent.script = model  # type: ignore[attr-defined]
    return agent


HELLO = {"messages": [("user", "hello")]}


def told(state: Any) -> list[ToolMessage]:
    """
    What the model was told of its calls.
    """
    return [each for each in state["messages"] if isinstance(each, ToolMessage)]


def orchestrator(**options: Any) -> ToolOrchestrator:
    return ToolOrchestrator(Registry(), **{"failure_threshold": 2, **options})
