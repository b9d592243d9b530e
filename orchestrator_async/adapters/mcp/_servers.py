"""
MCP servers, and their tools in registries.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from orchestrator_async import Registry, Tool

from ._again import load_again
from ._chain import started_from
from ._events import Listeners, McpEvent
from ._names import server_of, server_part
from ._server import Server

if TYPE_CHECKING:
    from os import PathLike

    from orchestrator_async.config import Config

_FAREWELL: Final = 8.0
"""Seconds that all connections have to end. Each has less by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerStatus:
    """
    How a server does.

    Attributes:
        name: Its name.
        connected: Whether it takes calls now.
        pid: The id of its process, if it is one that runs; else ``None``.
        reason: Why it does not; empty if it does.
        tools: The names of its tools, as they are called here.
    """

    name: str
    connected: bool
    pid: int | None
    reason: str
    tools: tuple[str, ...] = field(repr=False)


class McpServers:
    """
    MCP servers whose tools a registry has, each kept connected in the background.

    ``async with McpServers(config) as servers: registry.include(servers)``. The ``async
    with`` begins when each server was tried once; one that is down fails nothing, and its
    tools come when it does. Leaving it ends the servers' processes.

    Args:
        config: The servers: a ``Config``, the path of its file, or a mapping as MCP hosts
            have it (``{"mcpServers": {...}}``).
        elicitation: Who is asked where a server wants input of a user; a callback as the
            SDK's client takes it. Default: nobody, and such a call is refused.
        sampling: The same for an answer of a model.
        roots: The same for the folders that a server may use.
        observers: Plain functions that are told of each ``McpEvent``.

    Raises:
        ConfigError: The config cannot be; names the key.
        ImportError: The SDK is not installed.
    """

    def __init__(
        self,
        config: Config | Mapping[str, Any] | str | PathLike[str],
        *,
        elicitation: Callable[..., Awaitable[Any]] | None = None,
        sampling: Callable[..., Awaitable[Any]] | None = None,
        roots: Callable[..., Awaitable[Any]] | None = None,
        observers: Iterable[Callable[[McpEvent], object]] = (),
    ) -> None:
        _need_the_sdk()
        self._config = _read(config)
        asks = {"elicitation": elicitation, "sampling": sampling, "roots": roots}
        self._asks = {wanted: ask for wanted, ask in asks.items() if ask is not None}
        self._listeners = Listeners(tuple(observers))
        self._registries: list[Registry] = []
        self._placed: dict[tuple[int, str], Tool] = {}
        self._servers: dict[str, Server] = {}
        self._stack: AsyncExitStack | None = None
        self._tasks: TaskGroup | None = None
        self._is_entered = False
        self._reloads = 0

    def __repr__(self) -> str:
        return f"<McpServers {', '.join(self._config.servers) or 'without servers'}>"

    async def __aenter__(self) -> Self:
        if self._is_entered:
            raise RuntimeError("these servers are entered already")
        self._is_entered = True
        try:
            await self._enter()
        except BaseException:
            self._is_entered = False
            raise
        return self

    async def _enter(self) -> None:
        # It takes a second, which the event loop is not to wait for.
        await anyio.to_thread.run_sync(
            importlib.import_module, f"{__package__}._connection"
        )
        async with AsyncExitStack() as stack:
            self._tasks = await stack.enter_async_context(anyio.create_task_group())
            stack.push_async_callback(self._close)
            self._start(self._config)
            for server in tuple(self._servers.values()):
                await server.settled.wait()
            self._stack = stack.pop_all()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._stack is not None
        stack, self._stack = self._stack, None
        try:
            # Not with the error, which would come out in a group.
            await stack.__aexit__(None, None, None)
        finally:
            self._is_entered = False

    async def _close(self) -> None:
        """
        End all connections. Where the program is cancelled, in the same bounded time.
        """
        assert self._tasks is not None
        for server in self._servers.values():
            server.close()
        for registry in tuple(self._registries):
            registry.exclude(self)
        self._servers.clear()
        tasks, self._tasks = self._tasks, None
        tasks.cancel_scope.deadline = anyio.current_time() + _FAREWELL

    def _start(self, config: Config) -> None:
        assert self._tasks is not None
        for name, each in config.servers.items():
            if name not in self._servers:
                server = Server(
                    name,
                    each,
                    started_from(config.path, name),
                    self._asks,
                    self._fields_of,
                    self._listeners,
                    functools.partial(self._changed, name),
                )
                self._servers[name] = server
                self._tasks.start_soon(server.supervise, self._tasks)

    def _fields_of(self, name: str) -> Mapping[str, Any]:
        return self._config.tool_fields(name)

    async def reload(
        self, config: Config | Mapping[str, Any] | str | PathLike[str] | None = None
    ) -> None:
        """
        Go on with other servers: those whose settings are the same stay connected, the
        others end or begin. Returns when those that begin were tried once. Where they are
        not entered yet, they are entered with these.

        Of reloads that overlap, the last that was begun is the one that holds.

        Args:
            config: As for ``McpServers``. Default: the file that it was read from, anew.

        Raises:
            ConfigError: It cannot be; nothing has changed.
            ValueError: There is no file to read anew.
        """
        given = self._config.path if config is None else config
        if given is None:
            raise ValueError("the servers were not read from a file; give a config")
        self._reloads += 1
        this = self._reloads
        read = await _read_again(given)
        if this == self._reloads:
            self._go_on_with(read)
        for server in tuple(self._servers.values()):
            await server.settled.wait()

    def _go_on_with(self, config: Config) -> None:
        before, self._config = self._config, config
        if self._tasks is None:
            return
        for name, server in tuple(self._servers.items()):
            fields = [config.tool_fields(tool) for tool in server.tools]
            if config.servers.get(name) != server.config:
                del self._servers[name]
                server.close()
                self._changed(name, list(server.tools), [])
            elif fields != [before.tool_fields(tool) for tool in server.tools]:
                server.make_tools()
        self._start(config)

    # What is known of them

    def status(self) -> dict[str, ServerStatus]:
        """
        How each server does, by name.
        """
        return {
            name: ServerStatus(
                name=name,
                connected=server.is_connected,
                pid=server.pid,
                reason="" if server.is_connected else server.reason,
                tools=tuple(server.tools),
            )
            for name, server in self._servers.items()
        }

    # Registries; see ``ToolSource``

    def attach(self, registry: Registry) -> None:
        """
        Have the tools in a registry, now and as they change: ``Registry.include`` calls it.
        One that cannot be there, as another has its name, is left out and told of.
        """
        self._registries.append(registry)
        for server in self._servers.values():
            for tool in server.tools.values():
                self._put(registry, server.name, tool)

    def detach(self, registry: Registry) -> None:
        """
        Take the tools out of a registry again: ``Registry.exclude`` calls it.
        """
        self._registries.remove(registry)
        for place in [place for place in self._placed if place[0] == id(registry)]:
            self._remove(registry, place[1])

    def _remove(self, registry: Registry, name: str) -> None:
        """
        Take a tool out of a registry, if it is still ours.
        """
        placed = self._placed.pop((id(registry), name), None)
        if placed is not None and registry.get(name) is placed:
            registry.remove(name)

    def why_unknown(self, name: str) -> str:
        """
        Why there is no tool of that name, if it would be one of a server's.
        """
        part = server_of(name)
        for server in self._servers.values():
            if server_part(server.name) != part:
                continue
            if server.is_connected or server.tools:
                return f"The server {server.name} has no such tool, or has it no more."
            return (
                f"The server {server.name} is not connected ({server.reason}), so its tools "
                "are not known yet."
            )
        return ""

    def _changed(self, server: str, gone: Sequence[str], new: Sequence[Tool]) -> None:
        """
        A server's word that its tools are others now.
        """
        for registry in self._registries:
            for name in gone:
                self._remove(registry, name)
            for tool in new:
                self._put(registry, server, tool)

    def _put(self, registry: Registry, server: str, tool: Tool) -> None:
        there, place = registry.get(tool.name), (id(registry), tool.name)
        try:
            if there is not None and there is not self._placed.get(place):
                raise ValueError(
                    f"another tool is called {tool.name}, and stays; give the server another "
                    "name, or exclude this tool of it"
                )
            registry.add(tool, replace=True)
        except ValueError as error:
            its = self._servers[server]
            its.left_out(its.offered[tool.name].own_name, str(error))
        else:
            self._placed[place] = tool


def _need_the_sdk() -> None:
    try:
        found = importlib.util.find_spec("mcp") is not None
    except ImportError:
        found = False
    if not found:
        raise ImportError(
            'MCP servers need the MCP SDK: pip install "orchestrator-async[mcp]"'
        )


def _read(config: Config | Mapping[str, Any] | str | PathLike[str]) -> Config:
    from orchestrator_async.config import Config, load_config, read_config

    if isinstance(config, Config):
        return config
    return read_config(config) if isinstance(config, Mapping) else load_config(config)


async def _read_again(config: Config | Mapping[str, Any] | str | PathLike[str]) -> Config:
    from orchestrator_async.config import Config

    if isinstance(config, Config | Mapping):
        return _read(config)
    return await load_again(config)
