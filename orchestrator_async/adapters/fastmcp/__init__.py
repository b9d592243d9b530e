"""
The tools of a FastMCP server, each under a circuit.

A middleware hands each call of a tool, wherever the server has it from, to the
orchestrator, and gives back what the framework would have given: what a tool returned as
it was, what a failure says as a ``ToolError``, and a refusal as an error result, which is
what its client shows to a model.
"""

from __future__ import annotations

from orchestrator_async._requiring import require

require("fastmcp", module="fastmcp", extra="fastmcp", at_least="4.1", below="5")

from ._middleware import CircuitMiddleware  # noqa: E402

__all__ = ["CircuitMiddleware"]
