"""
OpenAI's Agents SDK: its tools under circuits of ours, and our tools in its agents.

The module is about agents of that SDK alone, and imports it: needs the extra
``openai-agents``. Below it stands ``_guarding``.
"""

from __future__ import annotations

from orchestrator_async._requiring import require

require(
    "openai-agents",
    module="agents",
    extra="openai-agents",
    at_least="0.24",
    below="0.25",  # it has to look at fields that are not public
)

from ._context import told  # noqa: E402
from ._guarded import guard_tool, guard_tools  # noqa: E402
from ._offered import function_tools  # noqa: E402
from ._servers import GuardedMCPServer, guard_mcp_server  # noqa: E402

__all__ = [
    "GuardedMCPServer",
    "function_tools",
    "guard_mcp_server",
    "guard_tool",
    "guard_tools",
    "told",
]
