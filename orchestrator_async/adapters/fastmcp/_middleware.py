"""
The middleware, which stands between a server and the orchestrator.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from inspect import Signature
from typing import Any, Final

from fastmcp.exceptions import ToolError, ValidationError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools.base import Tool, ToolResult
from fastmcp.utilities.types import get_cached_typeadapter
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

from ._call import Call, PassedOn, settled
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
        TypeError: ``orch`` is no orchestrator, ``policy`` is no policy, or one of the
            others is no ``bool``.
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
            default=judging(None),
            control_flow=(PassedOn,),
            ignore=(ValidationError,),
        )
        self._note_open = _bool(note_open, "note_open")
        self._trust = _bool(trust_annotations, "trust_annotations")

    async def on_call_tool(
        self,
        context: MiddlewareContext[CallToolRequestParams],
        call_next: CallNext[CallToolRequestParams, ToolResult],
    ) -> ToolResult:
        """
        Run a call under the circuit of its tool, or refuse it.
        """
        name = context.message.name
        if not self._guard.knows(name) and not await self._met(name, context):
            return await call_next(context)
        call = Call(context, call_next)
        try:
            result = await self._guard.run(
                name,
                context.message.arguments or {},
                partial(self._trusted, call) if self._trust else call.run,
                call_id=_request_id(context),
                context={"fastmcp_context": context.fastmcp_context},
                others=call.other,
            )
        except Exception as error:
            if not call.passes(error):
                raise
        else:
            if result is None:
                value: ToolResult = call.value
                return value
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
            if result.source == result.name and isinstance(result.value, ToolResult):
                return result.value
            return await _made(result, call.context)
        if result.error is call.error:
            raise call.told(result)
        if isinstance(result.error, _NOT_RUN):
            return ToolResult(
                [TextContent(type="text", text=result.content)], is_error=True
            )
        raise settled(ToolError(result.content)) from result.error

    async def _met(self, name: str, context: MiddlewareContext[Any]) -> bool:
        """
        Have a tool in the registry, and the one that answers for it. Not one that there is
        not: such names must not fill it.
        """
        fields = await self._fields_of(name, context)
        if fields is None:
            return False
        self._guard.know(name, fields.copy)
        fallback = self._guard.settings(name).fallback
        if isinstance(fallback, str) and not self._guard.knows(fallback):
            await self._met(fallback, context)
        return True

    async def _fields_of(
        self, name: str, context: MiddlewareContext[CallToolRequestParams]
    ) -> dict[str, Any] | None:
        """
        What is known of a tool; ``None`` where the server has none that can be called so.
        """
        found = await _find(name, context)
        if found is None or len(name) > _LONGEST_NAME:
            return None
        return {
            "description": found.description,
            "parameters": found.parameters,
            "idempotent": self._trust and _says_it_is_safe(found),
            "render": _text_of,
        }

    async def _trusted(self, call: Call) -> ToolResult:
        """
        Run a tool, but have it not tried again if it says no more that it is safe.
        """
        name, registry = call.context.message.name, self._guard.orch.registry
        known = registry.get(name)
        if known is not None and known.idempotent and is_foreign(known, "fastmcp"):
            with suppress(Exception):  # then the call meets with the same
                found = await _find(name, call.context)
                if found is not None and not _says_it_is_safe(found):
                    # A call whose tool was replaced is not tried again.
                    registry.add(replace(known, idempotent=False), replace=True)
        return await call.run()

    def _out_of_service(self) -> set[str]:
        orch = self._guard.orch
        offered = {each["name"] for each in orch.offered_tools("mcp", hide_open=True)}
        ours = {tool.name for tool in orch.registry if is_foreign(tool, "fastmcp")}
        return ours - offered


def _bool(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r:.100}")
    return value


def _says_it_is_safe(tool: Tool) -> bool:
    hints = tool.annotations
    return hints is not None and bool(hints.read_only_hint or hints.idempotent_hint)


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
    The result of a fallback, in the form of the tool that it stands for. Where it cannot
    have that, it is an error result: clients refuse any other.
    """
    tool = await _find(context.message.name, context)
    schema = None if tool is None else tool.output_schema
    if isinstance(result.value, ToolResult):
        made = result.value
    else:
        blocks = CallToolResult.model_validate(result.message("mcp")).content
        made = ToolResult(blocks)
        if tool is not None and schema is not None:
            with suppress(Exception):  # then there is the text
                like = tool.convert_result(_as_returned(result.value, tool))
                made.structured_content, made.meta = like.structured_content, like.meta
    if made.is_error or schema is None:
        return made
    if not _fits(made.structured_content, schema):
        return ToolResult(made.content, meta=made.meta, is_error=True)
    return made


def _as_returned(value: Any, tool: Tool) -> Any:
    kind = tool.return_type
    if kind is None or kind is Signature.empty:
        return value
    return get_cached_typeadapter(kind).validate_python(value)


def _fits(structured: Any, schema: dict[str, Any]) -> bool:
    from jsonschema import Draft202012Validator

    return structured is not None and Draft202012Validator(schema).is_valid(structured)
