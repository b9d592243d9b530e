"""
The tools of MCP servers, each under a circuit: ``McpServers``. Needs the extra ``[mcp]``.

The SDK is imported when servers are entered, and not before: it takes a second.
"""

from ._errors import (
    InputRefusedError,
    McpServerError,
    ResultTooLargeError,
    ServerLostError,
    ServerProtocolError,
    ServerStatusError,
    ServerTimeoutError,
    ServerUnavailableError,
    ToolChangedError,
)
from ._events import McpEvent, ServerConnected, ServerLost, ToolLeftOut, ToolsChanged
from ._meta import call_meta
from ._results import McpResult
from ._servers import McpServers, ServerStatus

__all__ = [
    "InputRefusedError",
    "McpEvent",
    "McpResult",
    "McpServerError",
    "McpServers",
    "ResultTooLargeError",
    "ServerConnected",
    "ServerLost",
    "ServerLostError",
    "ServerProtocolError",
    "ServerStatus",
    "ServerStatusError",
    "ServerTimeoutError",
    "ServerUnavailableError",
    "ToolChangedError",
    "ToolLeftOut",
    "ToolsChanged",
    "call_meta",
]
