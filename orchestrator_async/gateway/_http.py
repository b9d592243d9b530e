"""
A gateway over streamable HTTP.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.stapled import MultiListener
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from ._guard import MOST_BODY, MOST_EXCHANGES, Guard
from ._http_server import HttpServer, most_connections
from ._quiet import quiet
from ._rules import Rules

if TYPE_CHECKING:
    from ._gateway import Gateway

_MOST_SESSIONS: Final = 1_000
_BACKLOG: Final = 100


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
        OSError: The address cannot be listened at.
        ValueError: A setting cannot be, or this would not be safe.
    """
    rules = rules_of(
        (host, port),
        path=path,
        token=token,
        allowed_origins=allowed_origins,
        allowed_hosts=allowed_hosts,
        insecure=insecure,
    )
    listener = await _listening(host, port)
    async with listener:
        rules = replace(rules, port=listener.extra(SocketAttribute.local_port))
        with quiet():
            url = f"http://{_in_url(host)}:{rules.port}{path}"
            await _serve(gateway, rules, listener, lambda: on_ready(url))


def rules_of(
    http: tuple[str, int],
    *,
    path: str,
    token: str | None,
    allowed_origins: Iterable[str],
    allowed_hosts: Iterable[str],
    insecure: bool,
) -> Rules:
    """
    The rules that the options of ``serve_http`` are.

    Raises:
        ValueError: They are none, or anybody could ask.
    """
    host, port = http
    is_local = _is_loopback(host)
    rules = Rules(
        port=port,
        path=path,
        token=token,
        origins=tuple(allowed_origins),
        hosts=tuple(allowed_hosts),
        host=host,
        is_local=is_local,
    )
    if not (is_local or token or insecure):
        raise ValueError(
            f"{host} can be reached by other machines, and anybody there could call the "
            "tools. Give a token, or listen at 127.0.0.1"
        )
    return rules


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _listening(host: str, port: int) -> MultiListener[SocketStream]:
    listen = functools.partial(
        anyio.create_tcp_listener, local_host=host, local_port=port, backlog=_BACKLOG
    )
    # A name may have addresses of both kinds, and a port that is free at both is hard to find.
    return await listen(family=socket.AF_INET6 if ":" in host else socket.AF_INET)


async def _serve(
    gateway: Gateway,
    rules: Rules,
    listener: MultiListener[SocketStream],
    on_ready: Callable[[], object],
) -> None:
    manager = StreamableHTTPSessionManager(
        gateway.server(), max_sessions=_MOST_SESSIONS, max_request_body_size=MOST_BODY
    )
    most = most_connections()
    guard = Guard(manager.handle_request, rules, min(MOST_EXCHANGES, most * 7 // 8))
    server = HttpServer(guard, most)
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        work = functools.partial(server.serve, listener.listeners, stop)
        tasks.start_soon(_work, manager, work)
        try:
            on_ready()
            await anyio.sleep_forever()
        finally:
            guard.close()
            stop.set()


async def _work(
    manager: StreamableHTTPSessionManager, work: Callable[[], Awaitable[None]]
) -> None:
    """
    It ends when it is told to, from the outside in: first the exchanges, then the
    connections, then the sessions. If all of them were cancelled at the same time, each would
    complain of the others.
    """
    with anyio.CancelScope(shield=True):
        async with manager.run():
            await work()
