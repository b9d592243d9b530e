"""
An agent with the tools of a FastMCP server, one of which dies and returns.

    python examples/fastmcp_agent.py

The model is a script, so nothing is needed but ``pip install "orchestrator-async[fastmcp]"``.
"""

from __future__ import annotations

import logging
from typing import Any

import anyio
from fastmcp import Client, FastMCP

from orchestrator_async import (
    CallRejected,
    CircuitChanged,
    Event,
    Registry,
    ToolOrchestrator,
)
from orchestrator_async.adapters.fastmcp import CircuitMiddleware

ANSWERS = iter([ConnectionError("no route to the service")] * 3 + ["sun"] * 9)
CITIES = ["Oslo", "Bergen", "London", "Paris"]
RESET = 0.2


def show(event: Event) -> None:
    """Print what happens to circuits and to calls that are refused."""
    if isinstance(event, CircuitChanged):
        print(f"  circuit {event.circuit}: {event.old} -> {event.new}")
    elif isinstance(event, CallRejected):
        print(f"  refused {event.tool_name}, which was not run")


def make_server() -> FastMCP:
    """A server with two tools, each under a circuit."""
    orch = ToolOrchestrator(
        Registry(), failure_threshold=3, reset_timeout=RESET, observers=[show]
    )
    server = FastMCP("weather", middleware=[CircuitMiddleware(orch)])

    @server.tool
    async def forecast(city: str) -> str:
        """The forecast of a city."""
        answer = next(ANSWERS)
        if isinstance(answer, Exception):
            raise answer
        return f"{answer} in {city}"

    @server.tool
    async def climate(city: str) -> str:
        """The usual weather of a city."""
        return f"rain in {city}, as a rule"

    return server


async def ask(client: Client[Any], tool: str, city: str) -> bool:
    """One turn: the model calls a tool, and reads what comes of it."""
    result = await client.call_tool(tool, {"city": city}, raise_on_error=False)
    [block] = result.content
    print(f"{tool}({city!r}): {getattr(block, 'text', '')[:68]}")
    return not result.is_error


async def main() -> None:
    """Ask for the weather until the service is back."""
    async with Client(make_server()) as client:
        answered = [await ask(client, "forecast", city) for city in CITIES]
        if not answered[-1]:  # it has read that the tool is down, and takes another
            await ask(client, "climate", CITIES[-1])
        print("A while later:")
        await anyio.sleep(RESET)
        await ask(client, "forecast", "Oslo")
        await ask(client, "forecast", "Paris")


if __name__ == "__main__":
    logging.getLogger("fastmcp").setLevel(logging.CRITICAL)  # it logs each error
    anyio.run(main)
