"""
All of it together: servers from a file, an orchestrator before them, a gateway before that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from orchestrator_async import Registry, ToolOrchestrator
from orchestrator_async.adapters.mcp import McpEvent, McpServers
from orchestrator_async.adapters.mcp._chain import check_chain
from orchestrator_async.config import Config, load_config, read_config

from . import _asking
from ._gateway import Gateway
from ._http import rules_of, serve_http
from ._stdio import serve_stdio

START_WAIT: Final = 5.0


async def serve(
    source: Config | ToolOrchestrator | Mapping[str, Any] | str | os.PathLike[str],
    *,
    config: Config | None = None,
    http: tuple[str, int] | None = None,
    path: str = "/mcp",
    token: str | None = None,
    allowed_origins: Iterable[str] = (),
    allowed_hosts: Iterable[str] = (),
    insecure: bool = False,
    figures_tool: bool = False,
    start_wait: float = START_WAIT,
    observers: Iterable[Callable[[McpEvent], object]] = (),
    on_start: Callable[[Gateway], object] | None = None,
    on_ready: Callable[[str], object] | None = None,
) -> None:
    """
    Serve the tools of a file's servers, or of an orchestrator, until the host has gone, or
    for ever over HTTP. Cancel it to end it: calls that run are cancelled, and the servers'
    processes end.

    Hosts are answered at once, while servers are still being connected.

    Args:
        source: A config, the path of its file, a mapping as MCP hosts have it; or an
            orchestrator.
        config: The servers whose tools an orchestrator is to have, if that is the source:
            they are added to its registry. Default: none.
        http: Host and port to serve at; port 0 for any that is free. Default: standard
            input and output.
        path: See ``serve_http``, as for the following.
        token: See there.
        allowed_origins: See there.
        allowed_hosts: See there.
        insecure: See there.
        figures_tool: Whether there is a tool that tells the figures; true also where the
            config says so.
        start_wait: Seconds from the start that the list of tools waits for servers that
            are being connected. Default 5.
        observers: Plain functions that are told of each ``McpEvent``: of servers that are
            not connected, and of tools that are left out. The log is told in any case.
        on_start: What is given the gateway, before it serves: a program that reloads it
            when it is told to keeps it.
        on_ready: What is given the address, once it is listened at. Default: a line on
            standard error says it, with the number of tools, when servers were tried.

    Raises:
        ConfigError: The config cannot be, or this gateway was started as one of its own
            servers, or has five others before it.
        OSError: The address cannot be listened at.
        ValueError: A setting cannot be, or this would not be safe.
    """
    origins, hosts = tuple(allowed_origins), tuple(allowed_hosts)
    if http is not None:
        rules_of(
            http,
            path=path,
            token=token,
            allowed_origins=origins,
            allowed_hosts=hosts,
            insecure=insecure,
        )
    orch, config = _parts(source, config)
    servers = _servers(orch, config, observers)
    gateway = Gateway(
        orch,
        name="orchestrator" if config is None else config.gateway.name,
        figures_tool=figures_tool,
        servers=servers,
        path=None if config is None else config.path,
    )
    if config is not None:
        gateway.heed(config.gateway)
    if on_start is not None:
        on_start(gateway)
    async with _connected(servers, gateway, start_wait) as tasks:
        if http is None:
            await serve_stdio(gateway)
            return

        def say(url: str) -> None:
            tasks.start_soon(_say, gateway, url)

        await serve_http(
            gateway,
            host=http[0],
            port=http[1],
            path=path,
            token=token,
            allowed_origins=origins,
            allowed_hosts=hosts,
            insecure=insecure,
            on_ready=on_ready or say,
        )


def _parts(
    source: Config | ToolOrchestrator | Mapping[str, Any] | str | os.PathLike[str],
    config: Config | None,
) -> tuple[ToolOrchestrator, Config | None]:
    if isinstance(source, ToolOrchestrator):
        return source, config
    if config is not None:
        raise TypeError("config= is for an orchestrator; this is a config already")
    if isinstance(source, Mapping):
        source = read_config(source)
    elif not isinstance(source, Config):
        source = load_config(source)
    return source.orchestrator(Registry()), source


def _servers(
    orch: ToolOrchestrator,
    config: Config | None,
    observers: Iterable[Callable[[McpEvent], object]],
) -> McpServers | None:
    if config is None:
        return None
    check_chain(config)
    servers = McpServers(
        config,
        elicitation=_asking.elicitation,
        sampling=_asking.sampling,
        roots=_asking.roots,
        observers=observers,
    )
    # Before they are entered, so that the tools of each come as soon as it is connected.
    orch.registry.include(servers)
    return servers


@asynccontextmanager
async def _connected(
    servers: McpServers | None, gateway: Gateway, start_wait: float
) -> AsyncIterator[TaskGroup]:
    """
    Have the servers connected beside what is done here.
    """
    raised = None
    async with anyio.create_task_group() as tasks:
        if servers is not None:
            gateway.wait_for_servers(start_wait)
            tasks.start_soon(_hold, servers, gateway)
        try:
            yield tasks
        except Exception as error:
            raised = error  # it is to be raised as it is, and not in a group
        tasks.cancel_scope.cancel()
    if raised is not None:
        raise raised


async def _hold(servers: McpServers, gateway: Gateway) -> None:
    async with servers:
        gateway.servers_connected()
        await anyio.sleep_forever()


async def _say(gateway: Gateway, url: str) -> None:
    """
    Say it when it is known how many tools there are.
    """
    await gateway.settled()
    sys.stderr.write(f"serving {len(gateway.orch.registry)} tools at {url}\n")
    sys.stderr.flush()
