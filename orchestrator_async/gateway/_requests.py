"""
The request of a host that is being answered, for what is beneath the orchestrator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import anyio
from mcp.server import ServerRequestContext

from orchestrator_async.adapters.mcp import call_meta


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
    meta_token = call_meta.set(_trace(current.params))
    try:
        if over is None:
            yield
        else:
            with over.holding():
                yield
    finally:
        call_meta.reset(meta_token)
        request.reset(token)


_TRACE: Final = ("traceparent", "tracestate", "baggage")
_MOST_OF_TRACE: Final = 8_192


def _trace(params: Mapping[str, Any] | None) -> dict[str, str] | None:
    """
    Where the host's own trace is, for the servers: the SDK hands on most of it, where
    OpenTelemetry makes something of it.
    """
    meta = (params or {}).get("_meta")
    if not isinstance(meta, Mapping):
        return None
    said = {key: meta.get(key) for key in _TRACE}
    return {
        key: value
        for key, value in said.items()
        if isinstance(value, str) and len(value) <= _MOST_OF_TRACE
    } or None
