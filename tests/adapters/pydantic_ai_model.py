"""
A model that says what a script says, and what came of it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

Call = tuple[str, dict[str, Any]]


class Script:
    """
    Asks for the calls of one turn after another, and ends with a word.

    Attributes:
        infos: What the model was told, turn by turn.
    """

    def __init__(self, *turns: Iterable[Call]) -> None:
        self._turns = [list(turn) for turn in turns]
        self.infos: list[AgentInfo] = []

    @property
    def model(self) -> FunctionModel:
        return FunctionModel(self._answer, stream_function=self._stream)

    def _next(self, info: AgentInfo) -> list[Call]:
        self.infos.append(info)
        return self._turns.pop(0) if self._turns else []

    def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        calls = self._next(info)
        if not calls:
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(parts=[ToolCallPart(name, args) for name, args in calls])

    async def _stream(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        calls = self._next(info)
        if not calls:
            yield "do"
            yield "ne"
        for place, (name, args) in enumerate(calls):
            yield {place: DeltaToolCall(name=name, json_args=json.dumps(args))}


def times(number: int, *calls: str | Call) -> list[list[Call]]:
    """
    So many turns, each with these calls.
    """
    turn = [(each, {}) if isinstance(each, str) else each for each in calls]
    return [list(turn) for _ in range(number)]


def returns_of(messages: Iterable[ModelMessage]) -> list[ToolReturnPart]:
    """
    What the model was told of its calls, in their order.
    """
    parts = [part for message in messages for part in message.parts]
    return [part for part in parts if isinstance(part, ToolReturnPart)]


def told(
    messages: Iterable[ModelMessage], name: str | None = None
) -> list[tuple[str, Any]]:
    """
    The same in short: outcome and content.
    """
    return [
        (part.outcome, part.content)
        for part in returns_of(messages)
        if name in (None, part.tool_name)
    ]


def outcomes(messages: Iterable[ModelMessage], name: str | None = None) -> list[str]:
    return [outcome for outcome, _ in told(messages, name)]
