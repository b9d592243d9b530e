"""
The tools of a FastMCP server, each under a circuit.

A middleware hands each call of a tool, wherever the server has it from, to the
orchestrator, and gives back what the framework would have given: what a tool returned as
it was, what a failure says as a ``ToolError``, and a refusal as an error result, which is
what its client shows to a model. Beneath it stands ``_guarding``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from orchestrator_async import (
    BreakerPolicy,
    CallRefusedError,
    CircuitOpenError,
    DrainingError,
    LimitExceededError,
    Outcome,
    ToolOrchestrator,
    ToolPolicy,
    Verdict,
    service_errors,
)
from orchestrator_async import ToolResult as CallResult
from orchestrator_async.adapters._guarding import Guarding, is_foreign
from orchestrator_async.adapters._requiring import require

require("fastmcp", module="fastmcp", extra="fastmcp", at_least="4.1", below="5")

from fastmcp.exceptions import (  # noqa: E402
    AuthorizationError,
    DisabledError,
    NotFoundError,
    ToolError,
    ValidationError,
)
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext  # noqa: E402
from fastmcp.server.middleware.rate_limiting import RateLimitError  # noqa: E402
from fastmcp.tools.base import InputRequiredToolResult, Tool, ToolResult  # noqa: E402
from mcp import MCPError  # noqa: E402
from mcp_types import (  # noqa: E402
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    URL_ELICITATION_REQUIRED,
    CallToolRequestParams,
    CallToolResult,
    ListToolsRequest,
    TextContent,
)

__all__ = ["CircuitMiddleware"]

_NOTE: Final = (
    "(Out of service at the moment: a call would be refused. Do not call it until this "
    "note is gone.)"
)
_ONCE: Final = (
    "Do not repeat the same call unchanged more than once; change it, or use another tool."
)
_LONGEST_NAME: Final = 128
_NOT_RUN: Final = (CircuitOpenError, LimitExceededError, CallRefusedError, DrainingError)
_FLOW: Final = (NotFoundError, DisabledError, AuthorizationError, RateLimitError)
_FLOW_CODES: Final = (MISSING_REQUIRED_CLIENT_CAPABILITY, URL_ELICITATION_REQUIRED)


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
            policy=_judging(policy),
            control_flow=(_PassedOn,),
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
        if self._guard.orch.registry.get(name) is None:
            fields = await self._fields_of(name, context)
            if fields is None:  # what there is not must not fill the registry
                return await call_next(context)
            described = fields.copy
        call = _Call(context, call_next)
        try:
            result = await self._guard.run(
                name,
                context.message.arguments or {},
                call.run,
                call_id=_request_id(context),
                described=described,
                fastmcp_context=context.fastmcp_context,
            )
        except Exception as error:
            if not call.passes(error):
                raise
        else:
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

    async def _answer(self, result: CallResult, call: _Call) -> ToolResult:
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


class _PassedOn(Exception):  # noqa: N818
    """
    There is nothing to judge: the framework goes on with what it has.
    """


class _Call:
    """
    A call, and what the framework would have made of it.
    """

    def __init__(
        self,
        context: MiddlewareContext[CallToolRequestParams],
        call_next: CallNext[CallToolRequestParams, ToolResult],
    ) -> None:
        self.context = context
        self._call_next = call_next
        self._raised: Exception | None = None
        self.error: Exception | None = None  # what has really happened
        self._value: Any = None

    async def run(self) -> ToolResult:
        """
        Run the tool, and raise what it has raised, without what was put around it.
        """
        self._raised = self.error = None
        try:
            value: object = await self._call_next(self.context)
        except Exception as raised:
            self._raised, self.error = raised, (error := _behind(raised))
        else:
            if not isinstance(value, ToolResult) or isinstance(
                value, InputRequiredToolResult
            ):
                # An extension has made a task of it, or it asks for input first.
                self._value = value
                raise _PassedOn
            return value
        if _is_flow(error):
            raise _PassedOn
        raise error

    def passes(self, error: Exception) -> bool:
        """
        Whether that was raised for the framework, and not by the orchestrator.
        """
        return isinstance(error, _PassedOn) or error is self.error

    def as_it_was(self) -> ToolResult:
        """
        What there would be without circuits.
        """
        if self._raised is not None:
            raise self._raised
        value: ToolResult = self._value
        return value

    def told(self, result: CallResult) -> Exception:
        """
        What is raised of a call that has failed. What blames the call has its own words for
        it, and what speaks to the client's program is not for a model.
        """
        raised = self._raised
        assert raised is not None
        if result.verdict is not Verdict.FAILURE or isinstance(raised, MCPError):
            return raised
        text = result.content
        if not _shows(raised, self.error):
            text = _without_details(result, raised)
        told = ToolError(text, log_level=getattr(raised, "log_level", logging.ERROR))
        # Retries look at the cause of what is raised, and no deeper.
        told.__cause__ = (
            self.error if raised is not self.error else raised.__cause__ or raised
        )
        return told


# What the framework raises


def _behind(raised: Exception) -> Exception:
    """
    What happened, of which the framework made an error of its own.
    """
    error: BaseException = raised
    while _is_wrapped(error) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    assert isinstance(error, Exception)
    return error


_FIXED: Final = (
    "Rate limited by upstream API, please retry later",
    "Upstream request timed out, please retry",
)
_WRAPPED: Final = ("Error calling tool ", *_FIXED)
"""How the server's words begin. A tool's own ``ToolError`` may have a cause as well."""


def _is_wrapped(error: BaseException) -> bool:
    if isinstance(error, MCPError):
        return True
    return type(error) is ToolError and str(error).startswith(_WRAPPED)


def _shows(raised: Exception, error: Exception | None) -> bool:
    """
    Whether the framework lets a client see what has really happened. It does not where the
    server masks it, nor of what is no error of its own.
    """
    if not isinstance(raised, ToolError):
        return False
    with suppress(Exception):  # it may have no words at all
        return raised is error or str(raised).endswith(f": {error}")
    return False


def _is_flow(error: Exception | None) -> bool:
    if isinstance(error, MCPError) and error.error.code in _FLOW_CODES:
        return True
    return isinstance(error, _FLOW)


# Judging


def _judging(
    policy: ToolPolicy | BreakerPolicy | None,
) -> ToolPolicy | BreakerPolicy | None:
    """
    The policy, with our judge where it has none. What is no policy is told of by others.
    """
    if policy is None:
        return ToolPolicy(judge=_Judge(()))
    if isinstance(policy, BreakerPolicy):
        return ToolPolicy(judge=_Judge(()), breaker=policy)
    unset = ToolPolicy()
    if not isinstance(policy, ToolPolicy) or (
        (policy.judge, policy.is_failure) != (unset.judge, unset.is_failure)
    ):
        return policy
    ignore = policy.ignore if isinstance(policy.ignore, tuple) else ()
    return replace(policy, judge=_Judge(ignore))


class _Judge:
    """
    ``service_errors``, but that types which the policy ignores are ignored: a judge that
    has an opinion of everything leaves nothing to them.
    """

    def __init__(self, ignore: tuple[type[BaseException], ...]) -> None:
        self._ignore = (*ignore, ValidationError)

    def __call__(self, outcome: Outcome) -> Verdict:
        if isinstance(outcome.error, self._ignore):
            return Verdict.IGNORE
        return service_errors(outcome)


# Words


def _text_of(value: Any) -> str:
    """
    What a model reads of a result.
    """
    if not isinstance(value, ToolResult):
        return str(value)
    return "\n".join(getattr(block, "text", f"[{block.type}]") for block in value.content)


def _without_details(result: CallResult, raised: Exception) -> str:
    """
    The text of a failure with no more of it than the framework shows.
    """
    told = json.loads(result.content)
    told.pop("error_type", None)
    advice = _ONCE
    if (wait := told.get("retry_after")) is not None:
        advice = f"It asks for a pause: do not call it again for {wait} s."
    what = f": {raised}" if str(raised) in _FIXED else ""
    told["error"] = f"{result.name} failed{what}. {advice}"
    return json.dumps(told, ensure_ascii=False)


def _noted(tool: Tool) -> Tool:
    description = f"{tool.description}\n\n{_NOTE}" if tool.description else _NOTE
    return tool.model_copy(update={"description": description})


# The server


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
