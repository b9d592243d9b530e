"""
The fleet's figures, for hosts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import mcp_types as types

from orchestrator_async import ToolOrchestrator

if TYPE_CHECKING:
    from orchestrator_async.adapters.mcp import McpServers

FLEET: Final = types.Resource(
    uri="orchestrator://fleet",
    name="fleet",
    title="Figures of all tools",
    description="For each tool how often it was called and failed, and the state of its "
    "circuit; for each server whether it is connected.",
    mime_type="application/json",
)

FLEET_TOOL: Final = types.Tool(
    name="orchestrator__fleet",
    title="Figures of all tools",
    description="Which tools and servers work at the moment: for each tool how often it was "
    "called and failed, and the state of its circuit; for each server whether it is connected.",
    input_schema={"type": "object", "properties": {}, "additionalProperties": False},
    annotations=types.ToolAnnotations(
        read_only_hint=True, idempotent_hint=True, open_world_hint=False
    ),
)


def figures(orch: ToolOrchestrator, servers: McpServers | None) -> dict[str, Any]:
    """
    What there is to tell, ready to be JSON.
    """
    status = {} if servers is None else servers.status()
    return {
        "tools": orch.get_fleet_stats(),
        "servers": {
            name: {
                "connected": each.connected,
                "reason": each.reason,
                "tools": len(each.tools),
            }
            for name, each in status.items()
        },
    }
