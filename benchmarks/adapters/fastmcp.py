"""
What the adapter to FastMCP adds to a call of a server's tool.

    python -m benchmarks.adapters.fastmcp [--smoke]
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from fastmcp import FastMCP
from fastmcp.server.middleware import Middleware

from benchmarks.adapters.cost import Call, main
from orchestrator_async import Registry, ToolOrchestrator, service_errors
from orchestrator_async.adapters.fastmcp import CircuitMiddleware


async def tool(city: int) -> str:
    """The forecast."""
    return "sun"


def by_a_server(*middleware: Middleware) -> Call:
    server = FastMCP("bench", middleware=middleware)
    server.tool(tool)

    def call() -> Awaitable[Any]:
        return server.call_tool("tool", {"city": 1})

    return call


async def calls() -> dict[str, Call]:
    return {
        "bare": by_a_server(),
        "adapter": by_a_server(CircuitMiddleware(ToolOrchestrator(Registry()))),
        "a middleware of nothing": by_a_server(Middleware()),
    }


if __name__ == "__main__":
    main(calls, service_errors)
