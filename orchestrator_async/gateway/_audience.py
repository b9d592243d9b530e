"""
The hosts that are connected over one transport, and who tells them of other tools.
"""

from __future__ import annotations

from typing import Any, Final

import anyio
import mcp_types as types
from mcp.server.connection import Connection
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ToolsListChanged,
)

_SETTLE: Final = 0.1
"""Seconds in which more may change, before hosts are told once of all of it."""

_SEND: Final = 5.0
"""Seconds that a host has to take the news."""


class Audience:
    """
    Those who are to hear that the tools are others now.
    """

    def __init__(self) -> None:
        # For hosts of 2026-07-28 and later, each of which listens by a request.
        self._bus = InMemorySubscriptionBus()
        self._listen = ListenHandler(self._bus)
        self._connections: set[Connection] = set()
        self._changed = anyio.Event()

    def join(self, session: Any) -> None:
        """
        Tell this host too, of an earlier protocol, until it has gone.

        Args:
            session: What a handler has of its connection.
        """
        # There is no public way from a handler to the connection: 2.3 has it only here.
        connection: Connection = session._connection
        if connection not in self._connections:
            self._connections.add(connection)
            connection.exit_stack.callback(self._connections.discard, connection)

    async def listen(
        self, ctx: Any, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """
        Tell the host of what it wants to hear. What it can have no news of is not confirmed.
        """
        wanted = types.SubscriptionFilter(
            tools_list_changed=params.notifications.tools_list_changed
        )
        params = params.model_copy(update={"notifications": wanted})
        return await self._listen(ctx, params)

    def changed(self) -> None:
        """
        The tools are others now.
        """
        self._changed.set()

    async def tell(self) -> None:
        """
        Tell of changes, until cancelled. One host that does not read holds up nobody.
        """
        while True:
            await self._changed.wait()
            await anyio.sleep(_SETTLE)
            self._changed = anyio.Event()
            await self._bus.publish(ToolsListChanged())
            async with anyio.create_task_group() as tasks:
                for connection in tuple(self._connections):
                    tasks.start_soon(_tell, connection)


async def _tell(connection: Connection) -> None:
    with anyio.move_on_after(_SEND):
        await connection.send_tool_list_changed()
