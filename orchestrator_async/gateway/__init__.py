"""
The tools of an orchestrator, offered to hosts as an MCP server: ``serve``. Needs the extra
``[gateway]``.

It stands above the adapter for MCP servers, whose tools it offers behind their circuits. To
import it is to import the MCP SDK, which takes a second.
"""

try:
    import h11  # noqa: F401
    import mcp  # noqa: F401
except ImportError as _missing:
    raise ImportError(
        'a gateway needs the MCP SDK and h11: pip install "orchestrator-async[gateway]"'
    ) from _missing

from ._gateway import Gateway
from ._http import serve_http
from ._serve import serve
from ._stdio import serve_stdio

__all__ = ["Gateway", "serve", "serve_http", "serve_stdio"]
