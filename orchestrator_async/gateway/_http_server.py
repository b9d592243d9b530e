"""
A server of HTTP/1.1 for an ASGI application, on whatever loop runs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import Final

import anyio
from anyio.abc import Listener, SocketStream, TaskGroup

from ._asgi import App
from ._http_connection import serve_connection
from ._http_places import Places

_log = logging.getLogger("orchestrator_async.gateway.http")

_MOST: Final = 2_400
_PAUSE: Final = 0.01
"""Seconds until it is tried again, where the system has no place for a connection."""

_TOLD_AGAIN: Final = 60.0
_GRACE: Final = 1.0


class HttpServer:
    """
    Takes connections, so many at one time.

    Args:
        app: What answers.
        most: How many.
    """

    def __init__(self, app: App, most: int) -> None:
        self._app = app
        self._places = Places(most)
        self._told = -math.inf

    async def serve(
        self, listeners: Iterable[Listener[SocketStream]], stop: anyio.Event
    ) -> None:
        """
        Serve until it is told to stop. Whoever waits for an answer then gets it, if that
        takes no longer than a second.
        """
        async with anyio.create_task_group() as connections:
            async with anyio.create_task_group() as accepting:
                for listener in listeners:
                    accepting.start_soon(self._accept, listener, connections)
                await stop.wait()
                accepting.cancel_scope.cancel()
            self._places.close()
            connections.cancel_scope.deadline = anyio.current_time() + _GRACE

    async def _accept(
        self, listener: Listener[SocketStream], connections: TaskGroup
    ) -> None:
        while True:
            try:
                await listener.serve(self._connected, connections)
            except (OSError, anyio.BrokenResourceError) as error:
                self._tell(error)
                await anyio.sleep(_PAUSE)
                # Nobody may go by itself, and the next one may be the one that may ask.
                self._places.free_one()

    def _tell(self, error: Exception) -> None:
        """
        Write it to the log, once in a while: it is tried again at once.
        """
        now = anyio.current_time()
        if now - self._told >= _TOLD_AGAIN:
            self._told = now
            reason = error.__cause__ or error
            _log.warning("connections cannot be taken at the moment: %s", reason)

    async def _connected(self, stream: SocketStream) -> None:
        who = anyio.CancelScope()
        try:
            if self._places.take(who):
                with who:
                    await serve_connection(stream, self._app, self._places, who)
        except Exception:
            # Of one connection; the others go on.
            _log.exception("a request has failed")
        finally:
            self._places.leave(who)
            await anyio.aclose_forcefully(stream)


def most_connections() -> int:
    """
    How many there may be: half of the files that this process may have open, for the servers
    of tools need some too.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return _MOST
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if files == resource.RLIM_INFINITY else min(_MOST, files // 2)
