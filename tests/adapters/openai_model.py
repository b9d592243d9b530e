"""
A model of the Agents SDK that says what it was told to, and keeps what it has read.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from agents import Model, ModelResponse, TracingProcessor, Usage
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseUsage,
)
from openai.types.responses.response_usage import (
    InputTokensDetails,
    OutputTokensDetails,
)

USAGE = ResponseUsage(
    input_tokens=0,
    output_tokens=0,
    total_tokens=0,
    input_tokens_details=InputTokensDetails(cached_tokens=0, cache_write_tokens=0),
    output_tokens_details=OutputTokensDetails(reasoning_tokens=0),
)


def call(name: str, call_id: str, /, _text: str | None = None, **args: Any) -> Any:
    """
    A call of a tool, with these arguments or this text for them.
    """
    return ResponseFunctionToolCall(
        type="function_call",
        name=name,
        call_id=call_id,
        id=f"fc_{call_id}",
        arguments=json.dumps(args) if _text is None else _text,
    )


def say(text: str) -> Any:
    return ResponseOutputMessage(
        id="msg",
        type="message",
        role="assistant",
        status="completed",
        content=[ResponseOutputText(text=text, type="output_text", annotations=[])],
    )


class Script(Model):
    """
    A list of turns, each a list of calls or of what is said. After the last it is done.

    Attributes:
        read: What it was told in each turn, as the API has it.
        settings: The settings of each turn.
        offered: The names of the tools it was offered in each turn.
    """

    def __init__(self, *turns: list[Any]) -> None:
        self.turns = list(turns)
        self.read: list[Any] = []
        self.settings: list[Any] = []
        self.offered: list[list[str]] = []

    def output(self, call_id: str) -> Any:
        """
        What it has read of a call.
        """
        for item in self.read[-1]:
            if item.get("type") == "function_call_output" and item["call_id"] == call_id:
                return item["output"]
        raise LookupError(call_id)

    def _next(self, input: Any, settings: Any, tools: Any) -> list[Any]:
        self.read.append(input)
        self.settings.append(settings)
        self.offered.append([tool.name for tool in tools])
        return self.turns.pop(0) if self.turns else [say("done")]

    async def get_response(
        self,
        system_instructions: Any,
        input: Any,
        model_settings: Any,
        tools: Any,
        *others: Any,
        **options: Any,
    ) -> ModelResponse:
        output = self._next(input, model_settings, tools)
        return ModelResponse(output=output, usage=Usage(), response_id=None)

    async def stream_response(
        self,
        system_instructions: Any,
        input: Any,
        model_settings: Any,
        tools: Any,
        *others: Any,
        **options: Any,
    ) -> AsyncIterator[Any]:
        response = Response(
            id="resp",
            created_at=0,
            model="script",
            object="response",
            output=self._next(input, model_settings, tools),
            parallel_tool_calls=True,
            tool_choice="auto",
            tools=[],
            usage=USAGE,
        )
        yield ResponseCompletedEvent(
            type="response.completed", response=response, sequence_number=0
        )


class Spans(TracingProcessor):
    """
    Keeps the spans of tools that have ended.
    """

    def __init__(self) -> None:
        self.tools: list[Any] = []

    def on_trace_start(self, trace: Any) -> None: ...

    def on_trace_end(self, trace: Any) -> None: ...

    def on_span_start(self, span: Any) -> None: ...

    def on_span_end(self, span: Any) -> None:
        if span.span_data.type == "function":
            self.tools.append(span)

    def shutdown(self) -> None: ...

    def force_flush(self) -> None: ...
