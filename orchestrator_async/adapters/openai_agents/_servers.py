"""
The SDK's MCP servers, whose tools are under circuits of ours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

from agents.mcp import MCPServer
from agents.mcp.server import _UNSET

from orchestrator_async import (
    BreakerPolicy,
    Tool,
    ToolOrchestrator,
    ToolPolicy,
    service_errors,
)
from orchestrator_async.adapters._guarding import Guarding, as_policy

from ._guard import check_same

if TYPE_CHECKING:
    from agents import RunContextWrapper
    from agents.agent import AgentBase
    from mcp.types import CallToolResult
    from mcp.types import Tool as MCPTool


def guard_mcp_server(
    server: MCPServer,
    orch: ToolOrchestrator,
    *,
    prefix: str = "",
    policy: ToolPolicy | BreakerPolicy | None = None,
    circuit: str | None = None,
    idempotent: bool = False,
    always_answer: bool = False,
) -> GuardedMCPServer:
    """
    A server whose tools an orchestrator runs, for ``Agent(mcp_servers=...)``.

    It stands before the one that is given, which is connected and closed through it or by
    itself. Results that say they are errors are judged by ``service_errors``, unless the
    policy has a judge.

    Args:
        server: The server.
        orch: What runs its tools. They are in its registry once they were listed.
        prefix: What their names in the registry begin with.
        policy: How they are run and judged. Default: as the orchestrator says.
        circuit: Name of one circuit for all of them. Default: a circuit for each.
        idempotent: Whether running one twice does what running it once does.
        always_answer: Whether a failure is answered by our text also where the server has
            a ``failure_error_function`` of its own, or ``None`` for one.

    Raises:
        TypeError: ``server`` is no server, a policy is none, or ``orch`` is none.
        ValueError: It is guarded by another orchestrator.
    """
    given: object = server
    if not isinstance(given, MCPServer):
        raise TypeError(f"an MCPServer can be guarded, not {given!r:.100}")
    if isinstance(given, GuardedMCPServer):
        if given.orch is orch:
            return given
        raise ValueError(f"{server.name} is guarded by another orchestrator already")
    judged = _with_judge(policy)
    guarding = Guarding(
        orch,
        # So that a name which two servers have is found when they are listed.
        framework=f"the MCP server {server.name!r}",
        policy=judged,
    )
    fields = {"circuit": circuit, "idempotent": idempotent}
    check = functools.partial(
        check_same, policy=judged, circuit=circuit, idempotent=idempotent
    )
    return GuardedMCPServer(server, guarding, prefix, fields, always_answer, check)


_OWN: Final = frozenset(
    {"orch", "_server", "_guarding", "_prefix", "_fields", "_always_answer", "_check"}
)


class GuardedMCPServer(MCPServer):
    """
    A server that asks another for everything, and an orchestrator to call its tools. It is
    made by ``guard_mcp_server``, and may be used in an ``async with``, as the other.

    Attributes:
        orch: The orchestrator.
    """

    def __init__(
        self,
        server: MCPServer,
        guarding: Guarding,
        prefix: str,
        fields: Mapping[str, Any],
        always_answer: bool,
        check: Callable[[Tool], None],
    ) -> None:
        # Not the base's own: what it would set is set in the server.
        self.orch: ToolOrchestrator = guarding.orch
        self._server = server
        self._guarding = guarding
        self._prefix = prefix
        self._fields = fields
        self._always_answer = always_answer
        self._check = check

    def __getattr__(self, name: str) -> Any:
        if name == "_server":  # there is none yet while it is being copied
            raise AttributeError(name)
        return getattr(self._server, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # A filter of tools, say: set here alone, it would keep none away.
        if name in _OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self._server, name, value)

    async def call_tool(
        self,
        tool_name: str,
        arguments: dict[str, Any] | None,
        meta: dict[str, Any] | None = None,
    ) -> CallToolResult:
        given: Any = None

        async def handle() -> Any:
            nonlocal given
            # A server that knows of no meta is not told of one.
            more = {} if meta is None else {"meta": meta}
            given = await self._server.call_tool(tool_name, arguments, **more)
            return given

        result = await self._guarding.run(self._prefix + tool_name, arguments or {}, handle)
        if result is None or result.error is None:
            value: CallToolResult = given if result is None else result.value
            return value
        if not self._always_answer and self._server._failure_error_function is not _UNSET:
            raise result.error
        return _error(result.content)

    async def list_tools(
        self,
        run_context: RunContextWrapper[Any] | None = None,
        agent: AgentBase | None = None,
    ) -> list[MCPTool]:
        tools = await self._server.list_tools(run_context, agent)
        for tool in tools:
            self._know(tool)
        return tools

    def _know(self, tool: MCPTool) -> None:
        name, described = self._prefix + tool.name, functools.partial(self._described, tool)
        try:
            self._guarding.know(name, described)
        except ValueError as taken:
            raise ValueError(f"{taken}, or guard the server with a prefix=") from None
        self._check(self.orch.registry[name])

    def _described(self, tool: MCPTool) -> Mapping[str, Any]:
        from agents.mcp._compat import tool_input_schema

        parameters: Any = tool_input_schema(tool)
        return {
            "description": tool.description,
            "parameters": parameters,
            "render": repr,
            **self._fields,
        }

    # What the base has, and the server may have otherwise

    @property
    def name(self) -> str:
        return self._server.name

    @property
    def cached_tools(self) -> list[MCPTool] | None:
        return self._server.cached_tools

    async def connect(self) -> Any:
        return await self._server.connect()  # type: ignore[no-untyped-call]

    async def cleanup(self) -> Any:
        return await self._server.cleanup()  # type: ignore[no-untyped-call]

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.cleanup()

    async def list_prompts(self) -> Any:
        return await self._server.list_prompts()

    async def get_prompt(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        return await self._server.get_prompt(name, arguments)

    async def list_resources(self, cursor: str | None = None) -> Any:
        return await self._server.list_resources(cursor)

    async def list_resource_templates(self, cursor: str | None = None) -> Any:
        return await self._server.list_resource_templates(cursor)

    async def read_resource(self, uri: str) -> Any:
        return await self._server.read_resource(uri)


def _error(text: str) -> CallToolResult:
    from mcp.types import CallToolResult

    # By the names of the protocol, which both major versions of the MCP SDK take.
    return CallToolResult.model_validate(
        {"content": [{"type": "text", "text": text}], "isError": True}
    )


def _with_judge(policy: ToolPolicy | BreakerPolicy | None) -> ToolPolicy:
    made = as_policy(policy)
    if callable(made.judge) or callable(made.is_failure):
        return made
    return replace(made, judge=service_errors)
