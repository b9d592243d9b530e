"""
An agent of Pydantic AI whose weather service dies and comes back, without a network.

    pip install "orchestrator-async[pydantic-ai]"
    python examples/pydantic_ai_agent.py

A scripted model asks for both tools in every turn, whatever it is told. Its ``get_weather``
is a tool of the framework's; ``get_time`` is one of our registry. Both are under circuits
of one orchestrator.
"""

from __future__ import annotations

import asyncio
import json

from pydantic_ai import Agent
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from orchestrator_async import CircuitChanged, Registry, ToolOrchestrator
from orchestrator_async.adapters.pydantic_ai import Circuits, OrchestratorToolset

TURNS, DEAD = 6, range(2, 5)  # the turns, and those in which the service is down


def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    turn = sum(isinstance(message, ModelResponse) for message in messages) + 1
    if turn > TURNS:
        return ModelResponse(parts=[TextPart("Sun in Oslo.")])
    calls = [
        ToolCallPart("get_weather", {"city": "Oslo", "turn": turn}),
        ToolCallPart("get_time", {"zone": "UTC"}),
    ]
    return ModelResponse(parts=calls)


registry = Registry()
hour = 12.0  # the clock of the circuits: each turn takes an hour


@registry.tool
async def get_time(zone: str) -> str:
    """The time in a zone."""
    return f"{hour:02.0f}:00 {zone}"


orch = ToolOrchestrator(registry, failure_threshold=2, reset_timeout=2, clock=lambda: hour)
agent = Agent(
    FunctionModel(model),
    toolsets=[OrchestratorToolset(orch)],
    capabilities=[Circuits(orch)],
)


@agent.tool_plain
async def get_weather(city: str, turn: int) -> str:
    """The weather in a city."""
    if turn in DEAD:
        raise ConnectionError("the weather service does not answer")
    return f"sun in {city}"


def show(event: object) -> None:
    if isinstance(event, CircuitChanged):
        print(f"  circuit {event.circuit}: {event.old} -> {event.new}  ({event.reason})")


async def main() -> None:
    global hour
    orch.add_observer(show)
    async with agent.iter("What is the weather in Oslo?") as run:
        async for node in run:
            if not Agent.is_model_request_node(node):
                continue
            for part in node.request.parts:
                if isinstance(part, ToolReturnPart):
                    print(f"{part.outcome:8} {part.tool_name:12} {said(part)}")
            hour += 1
    figures = orch.stats("get_weather")
    print(
        f"get_weather ran {figures.calls} times and was refused {figures.rejected} times."
    )


def said(part: ToolReturnPart) -> str:
    content = str(part.content)
    return json.loads(content)["error"] if part.outcome == "failed" else content


if __name__ == "__main__":
    asyncio.run(main())
