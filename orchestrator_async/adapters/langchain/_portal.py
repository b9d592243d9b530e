"""
An event loop for agents that are run without one, by ``invoke`` and ``stream``.

LangGraph runs such an agent's tools in threads, and an orchestrator belongs in one thread
at a time: so all calls of one orchestrator go through one loop, in a thread that lives as
long as there are any.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from threading import Lock
from typing import Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from anyio import CapacityLimiter, to_thread
from anyio.from_thread import BlockingPortalProvider
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.tools import Tool as SimpleTool

from orchestrator_async import ToolOrchestrator

P = ParamSpec("P")
T = TypeVar("T")

_providers: Final[WeakKeyDictionary[ToolOrchestrator, BlockingPortalProvider]] = (
    WeakKeyDictionary()
)
_lock: Final = Lock()


def portal_of(orch: ToolOrchestrator) -> BlockingPortalProvider:
    """
    The loop of an orchestrator, for threads that have none.
    """
    with _lock:
        return _providers.setdefault(orch, BlockingPortalProvider())


def in_thread(fn: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """
    A plain function to be awaited. A timeout leaves it behind, as threads cannot be stopped.
    """

    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        # LangGraph limits its threads by itself; each of them waits for one of these.
        limiter = CapacityLimiter(math.inf)
        return await to_thread.run_sync(
            lambda: fn(*args, **kwargs), abandon_on_cancel=True, limiter=limiter
        )

    return run


def has_thread(tool: BaseTool) -> bool:
    """
    Whether LangChain runs a tool in a thread where there is an event loop.
    """
    if isinstance(tool, StructuredTool | SimpleTool):
        return not tool.coroutine
    return type(tool)._arun is BaseTool._arun


def has_sync_face(tool: BaseTool) -> bool:
    """
    Whether LangChain can run a tool without an event loop, as far as can be told.
    """
    return not isinstance(tool, StructuredTool | SimpleTool) or tool.func is not None
