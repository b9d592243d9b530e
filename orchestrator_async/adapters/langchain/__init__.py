"""
LangChain and LangGraph: their tools under circuits, and our tools as tools of theirs.

Needs the extra ``[langchain]``. ``CircuitMiddleware`` is for agents of ``create_agent`` and
needs LangChain itself; the others are content with LangGraph. Each is imported when it is
first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from orchestrator_async.adapters._requiring import require

if TYPE_CHECKING:
    from ._errors import ToolMessageError
    from ._middleware import CircuitMiddleware
    from ._tools import OrchestratorTool, langchain_tools
    from ._wrapping import awrap_tool_call, wrap_tool_call

__all__ = [
    "CircuitMiddleware",
    "OrchestratorTool",
    "ToolMessageError",
    "awrap_tool_call",
    "langchain_tools",
    "wrap_tool_call",
]

_WHERE: Final = {
    "CircuitMiddleware": "._middleware",
    "OrchestratorTool": "._tools",
    "ToolMessageError": "._errors",
    "awrap_tool_call": "._wrapping",
    "langchain_tools": "._tools",
    "wrap_tool_call": "._wrapping",
}


def _check_versions(*, of_langchain: bool) -> None:
    require(
        "langchain-core",
        module="langchain_core",
        extra="langchain",
        at_least="1.4",
        below="2",
    )
    require("langgraph", module="langgraph", extra="langchain", at_least="1.2", below="2")
    if of_langchain:
        require(
            "langchain", module="langchain", extra="langchain", at_least="1.3", below="2"
        )


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _check_versions(of_langchain=name == "CircuitMiddleware")
    found = getattr(import_module(_WHERE[name], __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
