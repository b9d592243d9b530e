"""
A gateway over streamable HTTP, by hypercorn, which serves on either loop.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final

import anyio
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from orchestrator_async._loop import in_asyncio_task

from ._guard import MOST_BODY, Guard
from ._quiet import quiet
from ._rules import Rules

if TYPE_CHECKING:
    from hypercorn.config import Config

    from ._gateway import Gateway

_MOST_SESSIONS: Final = 1_000
_HEADERS: Final = 16 * 1024
_IDLE: Final = 30.0
"""Seconds that a connection is kept without a request, or with one that has not come whole."""

_GRACE: Final = 1.0


def _unheard(url: str) -> None:
    """
    Nobody wants to know.
    """


async def serve_http(
    gateway: Gateway,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    path: str = "/mcp",
    token: str | None = None,
    allowed_origins: Iterable[str] = (),
    allowed_hosts: Iterable[str] = (),
    insecure: bool = False,
    on_ready: Callable[[str], object] = _unheard,
) -> None:
    """
    Serve hosts over streamable HTTP, until this is cancelled. ``GET /healthz`` says
    ``{"status": "ok"}`` to anybody.

    A page of a browser may ask only from an origin of this machine with this port, or from
    one that is allowed, and only by a name that is known: other pages, and names that lead
    here from elsewhere, are refused.

    Args:
        gateway: What is served.
        host: The address to listen at. Default ``"127.0.0.1"``, this machine alone.
        port: The port; 0 for any that is free. Default 8765.
        path: Where MCP is. Default ``"/mcp"``.
        token: What each request must bring, as ``Authorization: Bearer ...``. Default:
            nothing, which is for this machine alone.
        allowed_origins: Further origins of pages, such as ``"https://example.com"``.
        allowed_hosts: Further names that this is known by, such as ``"tools.example.com"``,
            with a port or for any.
        insecure: Whether others than this machine may ask without a token. Default false.
        on_ready: What is given the address, once it is listened at.

    Raises:
        ImportError: Hypercorn is not installed.
        OSError: The address cannot be listened at.
        ValueError: A setting cannot be, or this would not be safe.
    """
    is_local = checked(host, token, insecure)
    if not path.startswith("/") or path == "/healthz":
        raise ValueError(f"path={path!r}: expected one such as /mcp")
    worker = _worker()
    with quiet(), _listening(host, port) as listener:
        port = listener.getsockname()[1]
        rules = Rules(
            port=port,
            path=path,
            token=token,
            origins=tuple(allowed_origins),
            hosts=(host, *allowed_hosts),
            is_local=is_local,
        )
        manager = StreamableHTTPSessionManager(
            gateway.server(), max_sessions=_MOST_SESSIONS, max_request_body_size=MOST_BODY
        )
        guard = Guard(manager.handle_request, rules)
        async with anyio.create_task_group() as tasks:
            stop = anyio.Event()
            work = functools.partial(
                worker, guard, _config(listener), shutdown_trigger=stop.wait
            )
            tasks.start_soon(_work, manager, work)
            try:
                on_ready(f"http://{_in_url(host)}:{port}{path}")
                await anyio.sleep_forever()
            finally:
                guard.close()
                stop.set()


def checked(host: str, token: str | None, insecure: bool) -> bool:
    """
    Whether an address is that of this machine alone.

    Raises:
        ValueError: It is not, and anybody could ask; or the token is none.
    """
    if token is not None and not token.strip():
        raise ValueError("the token is empty; give a long one, or none at all")
    is_local = _is_loopback(host)
    if not (is_local or token or insecure):
        raise ValueError(
            f"{host} can be reached by other machines, and anybody there could call the "
            "tools. Give a token, or listen at 127.0.0.1"
        )
    return is_local


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=100)
    # Of the connections too: an answer of two parts would else wait 40 ms in between.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


Worker = Callable[..., Awaitable[None]]


def _worker() -> Worker:
    """
    Hypercorn's for the loop that runs.
    """
    try:
        import hypercorn  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'to serve over HTTP needs hypercorn: pip install "orchestrator-async[gateway]"'
        ) from error
    if in_asyncio_task():
        from hypercorn.asyncio import serve
    else:
        from hypercorn.trio import serve
    return serve


async def _work(
    manager: StreamableHTTPSessionManager, worker: Callable[[], Awaitable[None]]
) -> None:
    """
    It ends when it is told to, from the outside in: first the exchanges, then the
    connections, then the sessions. If all of them were cancelled at the same time, each would
    complain of the others.
    """
    with anyio.CancelScope(shield=True):
        async with manager.run():
            await worker()


def _config(listener: socket.socket) -> Config:
    from hypercorn.config import Config

    config = Config()
    # It closes its copy.
    config.bind = [f"fd://{listener.dup().detach()}"]
    # Else it would write to standard error by itself.
    config.errorlog = logging.getLogger("orchestrator_async.gateway.http")
    config.h11_max_incomplete_size = _HEADERS
    config.keep_alive_timeout = _IDLE
    config.keep_alive_max_requests = 1_000_000_000
    config.graceful_timeout = _GRACE
    config.include_server_header = False
    return config
