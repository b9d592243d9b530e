"""
The middleware, which stands between a server and the orchestrator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from fastmcp.exceptions import ToolError, ValidationError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools.base import Tool, ToolResult
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsRequest,
    TextContent,
)

from orchestrator_async import (
    BreakerPolicy,
    CallRefusedError,
    CircuitOpenError,
    DrainingError,
    LimitExceededError,
    ToolOrchestrator,
    ToolPolicy,
)
from orchestrator_async import ToolResult as CallResult
from orchestrator_async.adapters._guarding import Guarding, is_foreign

from ._call import Call, PassedOn
from ._judging import judging

_NOTE: Final = (
    "(Out of service at the moment: a call would be refused. Do not call it until this "
    "note is gone.)"
)
_LONGEST_NAME: Final = 128
_NOT_RUN: Final = (CircuitOpenError, LimitExceededError, CallRefusedError, DrainingError)


class CircuitMiddleware(Middleware):
    """
    Puts each tool of a FastMCP server under a circuit: its own, those of servers that are
    mounted in it, and those that it is a proxy for.

    A call that is refused is answered by a result with ``is_error`` and a text that says
    what to do instead. One that fails raises a ``ToolError``, as the server does by itself,
    with such a text. Everything else is as it would be without: results with all that is
    in them, errors that blame the call, and what interrupts it.

    Args:
        orch: The orchestrator. Two servers that have one between them have one circuit
            for tools of one name.
        policy: How the tools are run and judged. The judge is ``service_errors`` where it
            names none.
        note_open: Whether the description of a tool that would be refused says so in
            lists of tools. Default: no, as another list makes another prompt.
        trust_annotations: Whether tools that say they are read-only or idempotent may be
            tried again where the policy has a ``retry``. Default: no, as those of a
            proxy are the word of its backend.

    Raises:
        TypeError: ``orch`` is no orchestrator, or ``policy`` is no policy.
    """

    def __init__(
        self,
        orch: ToolOrchestrator,
        *,
        policy: ToolPolicy | BreakerPolicy | None = None,
        note_open: bool = False,
        trust_annotations: bool = False,
    ) -> None:
        self._guard = Guarding(
            orch,
            framework="fastmcp",
            policy=judging(policy),
            control_flow=(PassedOn,),
            ignore=(ValidationError,),
        )
        self._note_open = note_open
        self._trust = trust_annotations

    async def on_call_tool(
        self,
        context: MiddlewareContext[CallToolRequestParams],
        call_next: CallNext[CallToolRequestParams, ToolResult],
    ) -> ToolResult:
        """
        Run a call under the circuit of its tool, or refuse it.
        """
        name = context.message.name
        described: Callable[[], Mapping[str, Any]] | None = None
        if not self._guard.knows(name):
            fields = await self._fields_of(name, context)
            if fields is None:  # what there is not must not fill the registry
                return await call_next(context)
            described = fields.copy
        call = Call(context, call_next)
        try:
            result = await self._guard.run(
                name,
                context.message.arguments or {},
                call.run,
                call_id=_request_id(context),
                described=described,
                context={"fastmcp_context": context.fastmcp_context},
            )
        except Exception as error:
            if not call.passes(error):
                raise
        else:
            if result is None:
                value: ToolResult = call.value
                return value
            if type(result.value) is ToolResult:
                return result.value
            return await self._answer(result, call)
        return call.as_it_was()

    async def on_list_tools(
        self,
        context: MiddlewareContext[ListToolsRequest],
        call_next: CallNext[ListToolsRequest, Sequence[Tool]],
    ) -> Sequence[Tool]:
        """
        List the tools, with a note at those that are out of service if that is wanted.
        """
        tools = await call_next(context)
        out = self._out_of_service() if self._note_open else ()
        if not out:
            return tools
        return [_noted(tool) if tool.name in out else tool for tool in tools]

    async def _answer(self, result: CallResult, call: Call) -> ToolResult:
        if result.error is None:
            if isinstance(result.value, ToolResult):
                return result.value
            return await _made(result, call.context)
        if result.error is call.error:
            raise call.told(result)
        if isinstance(result.error, _NOT_RUN):
            return ToolResult(
                [TextContent(type="text", text=result.content)], is_error=True
            )
        raise ToolError(result.content) from result.error

    async def _fields_of(
        self, name: str, context: MiddlewareContext[CallToolRequestParams]
    ) -> dict[str, Any] | None:
        """
        What is known of a tool; ``None`` where the server has none that can be called so.
        """
        found = await _find(name, context)
        if found is None or len(name) > _LONGEST_NAME:
            return None
        hints = found.annotations if self._trust else None
        safe = hints is not None and bool(hints.read_only_hint or hints.idempotent_hint)
        return {
            "description": found.description,
            "parameters": found.parameters,
            "idempotent": safe,
            "render": _text_of,
        }

    def _out_of_service(self) -> set[str]:
        orch = self._guard.orch
        offered = {each["name"] for each in orch.offered_tools("mcp", hide_open=True)}
        ours = {tool.name for tool in orch.registry if is_foreign(tool, "fastmcp")}
        return ours - offered


def _text_of(value: Any) -> str:
    """
    What a model reads of a result.
    """
    if not isinstance(value, ToolResult):
        return str(value)
    blocks = value.content
    if len(blocks) == 1 and isinstance(blocks[0], TextContent):
        return blocks[0].text
    return "\n".join(getattr(block, "text", f"[{block.type}]") for block in blocks)


def _noted(tool: Tool) -> Tool:
    description = f"{tool.description}\n\n{_NOTE}" if tool.description else _NOTE
    return tool.model_copy(update={"description": description})


async def _find(name: str, context: MiddlewareContext[Any]) -> Tool | None:
    within = context.fastmcp_context
    return None if within is None else await within.fastmcp.get_tool(name)


def _request_id(context: MiddlewareContext[Any]) -> str | None:
    within = context.fastmcp_context
    request = None if within is None else within.request_context
    return None if request is None else str(request.request_id)


async def _made(result: CallResult, context: MiddlewareContext[Any]) -> ToolResult:
    """
    The result of a fallback, in the form of the tool that it stands for.
    """
    tool = await _find(context.message.name, context)
    blocks = CallToolResult.model_validate(result.message("mcp")).content
    made = ToolResult(blocks)
    if tool is not None and tool.output_schema is not None:
        with suppress(Exception):  # then there is the text
            like = tool.convert_result(result.value)
            made.structured_content, made.meta = like.structured_content, like.meta
    return made
