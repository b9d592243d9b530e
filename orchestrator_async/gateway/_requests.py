"""
The request of a host that is being answered, for what is beneath the orchestrator.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import anyio
from mcp.server import ServerRequestContext


class Exchange:
    """
    An exchange over HTTP. When its host has closed it, nobody waits for its answer.
    """

    def __init__(self) -> None:
        self._scopes: set[anyio.CancelScope] = set()
        self._is_closed = False

    def close(self) -> None:
        """
        The host has gone: what runs for it is cancelled.
        """
        self._is_closed = True
        for scope in tuple(self._scopes):
            scope.cancel()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """
        What runs here runs for it. Where it is closed, it ends here.
        """
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            if self._is_closed:
                scope.cancel()
            try:
                yield
            finally:
                self._scopes.discard(scope)


exchange: Final[ContextVar[Exchange | None]] = ContextVar("exchange", default=None)
"""The one that brought a request: the SDK hands the context down to its handler."""

request: Final[ContextVar[ServerRequestContext[Any, Any] | None]] = ContextVar(
    "request", default=None
)
"""The one in whose context a tool runs."""


@contextmanager
def serving(current: ServerRequestContext[Any, Any]) -> Iterator[None]:
    """
    Serve that request here, and stop where its host has gone.
    """
    over = exchange.get()
    token = request.set(current)
    try:
        if over is None:
            yield
        else:
            with over.holding():
                yield
    finally:
        request.reset(token)
