"""
The tools of an orchestrator as an MCP server.

What is specific to one transport (who is connected, and hears of changes) is made anew for
each in ``Gateway.server``, so that one gateway can be served by several at a time.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any, Final

import anyio
import mcp_types as types
from mcp import MCPError
from mcp.server import ServerRequestContext
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.models import InitializationOptions

from orchestrator_async import ToolOrchestrator
from orchestrator_async.adapters.mcp._again import load_again
from orchestrator_async.config import GatewayConfig

from . import _results
from ._audience import Audience
from ._figures import FLEET, FLEET_TOOL, figures
from ._listing import PAGE, Listing
from ._progress import Progress
from ._requests import serving

if TYPE_CHECKING:
    from orchestrator_async.adapters.mcp import McpServers


_Context = ServerRequestContext[Audience, Any]
logger: Final = logging.getLogger("orchestrator_async.gateway")

INSTRUCTIONS: Final = (
    "A tool that has failed several times is refused for some time: its result is then an "
    "error that says for how many seconds (retry_after). Do not call it again before that; "
    "use one of the alternatives that it names, or answer without it."
)
"""What a model is told of the server, where nothing else is said."""


class Gateway:
    """
    An MCP server whose tools are those of an orchestrator.

    ``serve_stdio`` and ``serve_http`` serve it. Each call of a host goes through
    ``ToolOrchestrator.run``, and what comes of it, a refusal too, is a result that the
    host's model reads. Tools that come and go in the registry do so at the hosts.

    Args:
        orch: The orchestrator.
        name: What the server calls itself. Default ``"orchestrator"``.
        version: Its version. Default: that of this library.
        figures_tool: Whether there is a tool ``orchestrator__fleet``, by which a model asks
            for the fleet's figures. They are a resource in any case. Default false.
        instructions: What a model is told of the server. Default: what a refusal means.
        servers: The servers whose tools the registry includes, for ``reload`` and the
            figures.
        path: The file that ``reload`` reads.
        page_size: Tools on a page of their list. Default 500.
    """

    def __init__(
        self,
        orch: ToolOrchestrator,
        *,
        name: str = "orchestrator",
        version: str | None = None,
        figures_tool: bool = False,
        instructions: str | None = None,
        servers: McpServers | None = None,
        path: str | os.PathLike[str] | None = None,
        page_size: int = PAGE,
    ) -> None:
        if page_size < 1:
            raise ValueError(f"page_size={page_size}: expected at least 1")
        self.orch = orch
        self.name = name
        self._version = _version() if version is None else version
        self._instructions = INSTRUCTIONS if instructions is None else instructions
        self._figures_tool = self._wants_figures = figures_tool
        self._said: GatewayConfig | None = None
        self._reloads = 0
        self._servers = servers
        self._path = path
        self._page_size = page_size
        self._audiences: set[Audience] = set()
        self._listing = Listing(orch.registry, self._changed)
        self._progress = Progress(orch)
        self._ids = itertools.count(1)
        self._id_prefix = os.urandom(4).hex()
        self._waits_until = float("-inf")
        self._connected = anyio.Event()
        self._has_complained = False

    def __repr__(self) -> str:
        return f"<Gateway {self.name!r} with {len(self.orch.registry)} tools>"

    async def reload(self) -> None:
        """
        Read the file again: its settings, and its servers. Those that are the same stay
        connected. Returns when those that begin were tried once. The file is read in a
        thread, for 10 seconds at the most.

        Of reloads that overlap, the last that was begun is the one that holds. What the
        server calls itself stays as it is, as hosts were told that; the log says so.

        Raises:
            ConfigError: The file cannot be; nothing has changed.
            ValueError: Its settings do not fit the tools that there are, and nothing has
                changed; or there is no file.
        """
        if self._path is None:
            raise ValueError("this gateway was not made from a file; there is none to read")
        self._reloads += 1
        this = self._reloads
        config = await load_again(self._path)
        if this != self._reloads:
            return
        self.orch.reload(**config.settings())
        self.heed(config.gateway)
        if self._servers is not None:
            await self._servers.reload(config)

    def heed(self, said: GatewayConfig) -> None:
        """
        Go by what a file says of the gateway, as far as that can be changed.
        """
        self._said = self._said or said
        if said.name != self._said.name:
            logger.warning(
                "gateway.name is %r until it is started anew, and not %r",
                self.name,
                said.name,
            )
        before, self._figures_tool = (
            self._figures_tool,
            self._wants_figures or said.figures_tool,
        )
        if self._figures_tool != before:
            self._changed()

    def server(self) -> Server[Any]:
        """
        An MCP server of the SDK's, of the low level, for a transport of its own: for
        programs that serve it in another way than this package does. One for each
        transport.
        """
        audience = Audience()

        @asynccontextmanager
        async def lifespan(_: Server[Any]) -> AsyncIterator[Audience]:
            self._audiences.add(audience)
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(audience.tell)
                    yield audience
                    tasks.cancel_scope.cancel()
            finally:
                self._audiences.discard(audience)

        server = _Telling(
            self.name,
            version=self._version,
            instructions=self._instructions,
            lifespan=lifespan,
            get_tool_input_schema=self._listing.input_schema,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_read_resource=self._read_resource,
            on_subscriptions_listen=audience.listen,
        )
        server.add_notification_handler(
            "notifications/initialized", types.NotificationParams, _join
        )
        return server

    # Servers that are still being connected

    def wait_for_servers(self, seconds: float) -> None:
        """
        From now on, for so long, the list of tools waits for servers that are being
        connected: many hosts ask for it only once. ``servers_connected`` ends that.
        """
        self._waits_until = anyio.current_time() + seconds

    def servers_connected(self) -> None:
        """
        Each server was tried once.
        """
        self._connected.set()

    async def settled(self) -> None:
        """
        Return when each server was tried once, or that time is over.
        """
        left = self._waits_until - anyio.current_time()
        if left > 0:
            with anyio.move_on_after(left):
                await self._connected.wait()

    # What hosts ask

    def _changed(self) -> None:
        for audience in self._audiences:
            audience.changed()

    async def _list_tools(
        self, ctx: _Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        await self.settled()
        cursor = None if params is None else params.cursor
        tools, following = self._listing.page(cursor, self._page_size)
        if following is None and self._offers_figures():
            tools = [*tools, FLEET_TOOL]
        return types.ListToolsResult(tools=tools, next_cursor=following)

    async def _call_tool(
        self, ctx: _Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        if params.name == FLEET_TOOL.name and self._offers_figures():
            return types.CallToolResult(content=[types.TextContent(text=self._figures())])
        name = self._listing.own_name(params.name)
        if name not in self.orch.registry:
            await self.settled()
            name = self._listing.own_name(params.name)
        result = _UNREAD
        try:
            with serving(ctx):
                result = await self._run(ctx, name, params.arguments)
        except Exception:
            # A model is shown no traceback, and the SDK would show it the text of this.
            logger.exception("a call of %.100r could not be made", params.name)
            return _results.error("The call could not be made. Do not repeat it.")
        return result

    async def _run(
        self, ctx: _Context, name: str, arguments: Mapping[str, Any] | None
    ) -> types.CallToolResult:
        call_id = f"{self._id_prefix}-{next(self._ids)}"
        args = dict(arguments or {})
        odd = _not_finite(args)
        if odd and name in self.orch.registry:
            return _results.told(_results.not_json(name, odd), ctx.protocol_version)
        if _wants_progress(ctx.params):
            async with self._progress.of(call_id, ctx.session.report_progress):
                result = await self.orch.run(name, args, call_id=call_id)
        else:
            result = await self.orch.run(name, args, call_id=call_id)
        return _results.told(result, ctx.protocol_version)

    async def _list_resources(
        self, ctx: _Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        return types.ListResourcesResult(resources=[FLEET])

    async def _read_resource(
        self, ctx: _Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        if params.uri != FLEET.uri:
            raise MCPError(
                _NO_SUCH_RESOURCE, f"there is no such resource; there is {FLEET.uri}"
            )
        text = types.TextResourceContents(
            uri=FLEET.uri, mime_type=FLEET.mime_type, text=self._figures()
        )
        return types.ReadResourceResult(contents=[text])

    def _offers_figures(self) -> bool:
        if not self._figures_tool or FLEET_TOOL.name not in self.orch.registry:
            return self._figures_tool
        if not self._has_complained:
            self._has_complained = True
            logger.warning(
                "the tool of the figures is not offered: another is called %s",
                FLEET_TOOL.name,
            )
        return False

    def _figures(self) -> str:
        return json.dumps(figures(self.orch, self._servers), ensure_ascii=False)


_NO_SUCH_RESOURCE: Final = -32_002
_UNREAD: Final = _results.error("The host has gone.")
"""What is returned where nobody is told of it."""


class _Telling(Server[Audience]):
    """
    The SDK's server, one that tells of changed tools, and of nothing else: over HTTP the SDK
    does not ask for that, and to hosts that can listen it promises news of all there is.
    """

    def get_capabilities(self, *args: Any, **options: Any) -> types.ServerCapabilities:
        able = super().get_capabilities(*args, **options)
        silent = types.ResourcesCapability(subscribe=False, list_changed=False)
        return able.model_copy(update={"resources": silent})

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        return super().create_initialization_options(
            notification_options or NotificationOptions(tools_changed=True),
            experimental_capabilities,
            extensions,
        )


async def _join(ctx: _Context, params: types.NotificationParams | None) -> None:
    ctx.lifespan_context.join(ctx.session)


def _wants_progress(params: Mapping[str, Any] | None) -> bool:
    meta = (params or {}).get("_meta")
    return isinstance(meta, Mapping) and meta.get("progressToken") is not None


def _not_finite(arguments: Mapping[str, Any]) -> list[str]:
    """
    Those that hold a number which JSON has not: NaN, or one too large to be told from
    infinity. The SDK takes them, on either transport.
    """
    odd = []
    for name, value in arguments.items():
        try:
            json.dumps(value, allow_nan=False)
        except ValueError:
            odd.append(name)
    return odd[:_MOST_NAMED]


_MOST_NAMED: Final = 5


def _version() -> str:
    try:
        return version_of("orchestrator-async")
    except PackageNotFoundError:
        return "0"
