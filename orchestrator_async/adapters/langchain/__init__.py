"""
LangChain and LangGraph: their tools under circuits, and our tools as tools of theirs.

Needs the extra ``[langchain]``. ``CircuitMiddleware`` is for agents of ``create_agent`` and
needs LangChain itself; the others are content with LangGraph. Each is imported when it is
first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from orchestrator_async._requiring import require

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
    needed = [("langchain-core", "1.6"), ("langgraph", "1.2.11")]
    if of_langchain:
        needed.append(("langchain", "1.4"))
    for name, at_least in needed:
        module = name.replace("-", "_")
        require(name, module=module, extra="langchain", at_least=at_least, below="2")


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _check_versions(of_langchain=name == "CircuitMiddleware")
    found = getattr(import_module(_WHERE[name], __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
