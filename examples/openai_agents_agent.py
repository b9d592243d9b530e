"""
An agent of OpenAI's Agents SDK whose weather service dies and comes back.

    pip install "orchestrator-async[openai-agents]"
    python examples/openai_agents_agent.py

It asks no model's API: what the model says is written below. Two calls fail, the third is
refused without asking the dead service, and then a probe finds it alive.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool
from agents import set_tracing_disabled as disable_tracing
from openai.types.responses import ResponseFunctionToolCall as Call
from openai.types.responses import ResponseOutputMessage as Message
from openai.types.responses import ResponseOutputText as Text

from orchestrator_async import Registry, ToolOrchestrator
from orchestrator_async.adapters.openai_agents import function_tools, guard_tools

registry = Registry()
orch = ToolOrchestrator(registry, failure_threshold=2, reset_timeout=1)
down = True


@function_tool
async def weather(city: str) -> str:
    """The weather in a city: a tool of the SDK."""
    print(f"  the service is asked about {city}")
    if down:
        raise ConnectionError("no route to host")
    return f"sun in {city}"


@registry.tool
async def wait() -> str:
    """Wait until the weather may be asked for again: a tool of our registry."""
    global down
    await orch.wait_available("weather")
    down = False
    return "Try it again."


class Scripted(Model):
    """Asks for the weather until there is some, and waits where it is refused."""

    turn = 0

    async def get_response(
        self, system_instructions: Any, input: Any, *rest: Any, **more: Any
    ) -> ModelResponse:
        read = input[-1].get("output", "")
        self.turn += 1
        if read:
            answer = json.loads(read) if read.startswith("{") else {"error": read}
            print(f"the model reads: {answer['error']}")
        said: Any = Call(
            type="function_call",
            call_id=f"call_{self.turn}",
            name="wait" if '"state": "open"' in read else "weather",
            arguments="{}" if '"state": "open"' in read else '{"city": "Bonn"}',
        )
        if read.startswith("sun"):
            text = Text(type="output_text", text="Take a hat.", annotations=[])
            said = Message(
                id="m", type="message", role="assistant", status="completed", content=[text]
            )
        return ModelResponse(output=[said], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


async def main() -> None:
    disable_tracing(True)
    tools = [*guard_tools([weather], orch), *function_tools(orch)]
    result = await Runner.run(Agent(name="Ada", model=Scripted(), tools=tools), "Weather?")
    print(f"the agent says: {result.final_output}")


if __name__ == "__main__":
    asyncio.run(main())
