"""
One server: connected again and again, with the tools that it offers.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from orchestrator_async import Tool, ToolContext, ToolPolicy

from ._errors import ServerUnavailableError, ToolChangedError
from ._events import Listeners, ServerConnected, ServerLost, ToolLeftOut, ToolsChanged
from ._judge import judge
from ._results import McpResult
from ._tools import Listed, listed

if TYPE_CHECKING:
    import mcp_types as types

    from orchestrator_async.config import ServerConfig

    from ._connection import Ask, Connection

_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 30.0
_STEADY: Final = 10.0
"""Seconds that a connection must last for the next wait to be short again, where it has not
answered a call."""

_ON_DEMAND: Final = 1.0
"""Seconds between attempts that calls ask for."""

_POLICY: Final = ToolPolicy(judge=judge)


class Server:
    """
    A server, for as long as its servers are entered.

    Args:
        name: Its name.
        config: How it is reached, and what is taken of it.
        env: See ``Connection``.
        asks: What answers what it asks for.
        fields: What else is said of a tool, by its name here.
        listeners: Who is told of what happens.
        changed: What is called with the tools that are gone and those that are new.

    Attributes:
        offered: Its tools, by the names that they have here.
        tools: The same, as a registry has them.
        settled: Set when the first attempt to connect it has succeeded or failed.
        reason: Why it is not connected.
    """

    def __init__(
        self,
        name: str,
        config: ServerConfig,
        env: Mapping[str, str],
        asks: Mapping[str, Ask],
        fields: Callable[[str], Mapping[str, Any]],
        listeners: Listeners,
        changed: Callable[[Sequence[str], Sequence[Tool]], object],
    ) -> None:
        self.name = name
        self.config = config
        self._env = env
        self._asks = asks
        self._fields = fields
        self._listeners = listeners
        self._changed = changed
        self._connection: Connection | None = None
        self._demand = anyio.Event()
        self._told: set[tuple[str, str]] = set()
        self._refused: set[str] = set()
        self._was_listed = self._is_closed = False
        self.offered: dict[str, Listed] = {}
        self.tools: dict[str, Tool] = {}
        self.settled = anyio.Event()
        self.reason = "it is being connected"

    @property
    def is_connected(self) -> bool:
        """
        Whether it takes calls now.
        """
        return self._connection is not None and self._connection.is_open

    @property
    def pid(self) -> int | None:
        """
        The id of its process, if it is one that runs.
        """
        return None if self._connection is None else self._connection.pid

    # Its connection

    async def supervise(self, tasks: TaskGroup) -> None:
        """
        Keep it connected until it is closed, however often it takes.
        """
        from ._connection import Connection

        wait = _FIRST_WAIT
        while not self._ended():
            connection = Connection(
                self.name, self.config, self._env, self._asks, self._listed, self.left_out
            )
            self._connection = connection
            # What is left of the one before ends by itself, in its own time.
            tasks.start_soon(connection.live)
            began = anyio.current_time()
            await connection.settled.wait()
            self.reason = connection.reason
            if connection.is_open:
                self._listeners.tell(
                    ServerConnected(server=self.name, tools=len(self.offered))
                )
            self.settled.set()
            await connection.over.wait()
            self.reason = connection.reason
            if self._ended():
                return
            if connection.has_served or anyio.current_time() - began > _STEADY:
                wait = _FIRST_WAIT
            pause = wait * random.uniform(0.8, 1.0)
            self._listeners.tell(
                ServerLost(server=self.name, reason=self.reason, retry_in=pause)
            )
            await self._pause(pause)
            wait = min(_LONGEST_WAIT, 2 * wait)

    def _ended(self) -> bool:
        return self._is_closed

    async def _pause(self, seconds: float) -> None:
        """
        Wait, but not for so long while there are calls for it.
        """
        self._demand = anyio.Event()
        with anyio.move_on_after(seconds):
            await anyio.sleep(min(seconds, _ON_DEMAND))
            await self._demand.wait()

    def close(self) -> None:
        """
        Take no more calls, and have it end.
        """
        self._is_closed = True
        self.reason = "it was closed"
        self._demand.set()
        self.settled.set()
        if self._connection is not None:
            self._connection.close()

    # Its tools

    async def _listed(self, tools: Sequence[types.Tool], whole: bool) -> None:
        """
        What it has listed, now or anew.
        """
        left_out: list[tuple[str, str]] = []
        if not whole:
            left_out.append(("(the rest)", "its list does not end"))
        config, asked = self.config, self._connection
        # A millisecond a schema.
        found = await anyio.to_thread.run_sync(
            functools.partial(
                listed,
                self.name,
                tools,
                take=config.tools,
                leave=config.exclude,
                trust=config.trust_annotations,
                most=config.max_tools,
                left_out=lambda tool, reason: left_out.append((tool, reason)),
            )
        )
        if self._is_closed or self._connection is not asked:
            return  # it says nothing more, or another connection knows better
        for tool, reason in left_out:
            self.left_out(tool, reason)
        self._offer(found)

    def _offer(self, found: dict[str, Listed]) -> None:
        """
        Offer these tools from now on, but for what its settings say of changes.
        """
        config = self.config
        before, pinned = self.offered, config.pin and self._was_listed
        gone = [name for name in before if name not in found]
        new = [] if pinned else [name for name in found if name not in before]
        changed = [
            name for name in found if name in before and _differ(found[name], before[name])
        ]
        refused = [name for name in changed if pinned]
        if pinned:
            for name in found.keys() - before.keys():
                self.left_out(found[name].own_name, "it is new, and the tools are pinned")
            # Until it is again what it was.
            self._refused = set(refused)
            found = {name: before[name] for name in found if name in before}
        self.offered = found
        self._was_listed = True
        made = {
            name: self._made(found[name]) for name in new + changed if name not in refused
        }
        for name in gone:
            del self.tools[name]
        self.tools |= made
        if gone or made:
            self._changed(gone, list(made.values()))
        if before and (gone or new or changed):
            self._listeners.tell(
                ToolsChanged(
                    server=self.name,
                    added=tuple(new),
                    removed=tuple(gone),
                    changed=tuple(changed),
                    refused=tuple(refused),
                )
            )

    def make_tools(self) -> None:
        """
        Make its tools anew, as what else is said of them has changed.
        """
        self.tools = {name: self._made(tool) for name, tool in self.offered.items()}
        self._changed([], list(self.tools.values()))

    def left_out(self, tool: str, reason: str) -> None:
        """
        Tell, once, that a tool is not offered, or not as it is described.
        """
        tool = tool if len(tool) <= 64 else tool[:63] + "…"
        if (tool, reason) not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add((tool, reason))
            self._listeners.tell(ToolLeftOut(server=self.name, tool=tool, reason=reason))

    def _made(self, tool: Listed) -> Tool:
        # A model's arguments may have any other name.
        async def call(*, __tool_context__: ToolContext, **arguments: Any) -> McpResult:
            return await self._call(tool, arguments, __tool_context__)

        fields = {**tool.fields, **self._fields(tool.name)}
        fields.setdefault("circuit", self.config.circuit)
        return Tool(
            fn=call,
            name=tool.name,
            description=tool.description,
            parameters=tool.schema,
            policy=_POLICY,
            render=str,
            **fields,
        )

    # Its calls

    async def _call(
        self, tool: Listed, arguments: Mapping[str, Any], context: ToolContext
    ) -> McpResult:
        if tool.name in self._refused:
            raise ToolChangedError(server=self.name, tool_name=tool.name)
        connection = self._connection
        if connection is None or not connection.is_open:
            self._demand.set()
            raise ServerUnavailableError(
                server=self.name, tool_name=tool.name, reason=self.reason
            )
        return await connection.call(tool.own_name, arguments, context)


_MOST_TOLD: Final = 1000


def _differ(one: Listed, other: Listed) -> bool:
    return (one.description, one.schema, one.fields) != (
        other.description,
        other.schema,
        other.fields,
    )
