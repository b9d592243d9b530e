"""
An agent of LangChain with a tool that dies and returns.

    pip install "orchestrator-async[langchain]"
    python examples/langchain_agent.py

No model is asked: one that is scripted makes the calls that a model would make.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anyio
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool

from orchestrator_async import CircuitChanged, Event, Registry, ToolOrchestrator
from orchestrator_async.adapters.langchain import CircuitMiddleware, langchain_tools

SCRIPT = ["get_weather"] * 3 + ["get_climate", "", "get_weather", ""]
"""What is called, turn by turn; where nothing is, the model answers."""

service = {"up": False}


@tool
async def get_weather(city: str) -> str:
    """Weather in a city, now."""
    if not service["up"]:
        raise ConnectionError("no route to the weather service")
    return f"sun in {city}"


registry = Registry()


@registry.tool
async def get_climate(city: str) -> dict[str, Any]:
    """What the weather in a city is like in most years."""
    return {"city": city, "july": 18}


class Scripted(BaseChatModel):
    """
    Says what the script has.
    """

    turns: Iterator[tuple[int, str]]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        return self

    def _generate(self, messages: Any, *args: Any, **options: Any) -> ChatResult:
        number, name = next(self.turns)
        call = {"name": name, "args": {"city": "Oslo"}, "id": f"call_{number}"}
        said = AIMessage("", tool_calls=[call]) if name else AIMessage("Done.")
        return ChatResult(generations=[ChatGeneration(message=said)])


def watch(event: Event) -> None:
    if isinstance(event, CircuitChanged):
        print(f"* {event.circuit}: {event.old} -> {event.new}")


async def ask(agent: Any, question: str) -> None:
    print(f"> {question}")
    state = {"messages": [("user", question)]}
    async for update in agent.astream(state, stream_mode="updates"):
        for message in update.get("tools", {}).get("messages", []):
            said = str(message.content)
            told = json.loads(said)["error"] if message.status == "error" else said
            print(f"  {message.name}: {told}")


async def main() -> None:
    orch = ToolOrchestrator(
        registry, failure_threshold=2, reset_timeout=0.5, observers=[watch]
    )
    model = Scripted(turns=iter(enumerate(SCRIPT)))
    tools = [get_weather, *langchain_tools(orch)]
    agent = create_agent(model, tools, middleware=[CircuitMiddleware(orch)])
    await ask(agent, "How is the weather in Oslo?")
    service["up"] = True
    await orch.wait_available("get_weather")
    await ask(agent, "And now?")


if __name__ == "__main__":
    anyio.run(main)
