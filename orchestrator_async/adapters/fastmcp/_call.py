"""
A call of a server's tool, and what the framework makes of it.

The server puts an error of its own around what a tool has raised. What has really happened
is judged and told to observers; what a client may know of it is what the server says.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

from fastmcp.exceptions import (
    AuthorizationError,
    DisabledError,
    NotFoundError,
    ToolError,
)
from fastmcp.server.middleware import CallNext, MiddlewareContext
from fastmcp.server.middleware.rate_limiting import RateLimitError
from fastmcp.tools.base import InputRequiredToolResult, ToolResult
from mcp import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    URL_ELICITATION_REQUIRED,
    CallToolRequestParams,
)

from orchestrator_async import CallRefusedError, Verdict
from orchestrator_async import ToolResult as CallResult

_ONCE: Final = (
    "Do not repeat the same call unchanged more than once; change it, or use another tool."
)
_CANNOT_BE_ASKED: Final = "elicitation via server-initiated requests is unavailable"
"""How the server's words begin where the client's protocol has no such questions."""

_SETTLED: Final = "_settled_by_a_circuit"
_FLOW: Final = (NotFoundError, DisabledError, AuthorizationError, RateLimitError)
_FLOW_CODES: Final = (MISSING_REQUIRED_CLIENT_CAPABILITY, URL_ELICITATION_REQUIRED)


class PassedOn(Exception):  # noqa: N818
    """
    There is nothing to judge: the framework goes on with what it has.
    """


class Call:
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
        self.value: Any = None

    async def run(self) -> ToolResult:
        """
        Run the tool, and raise what it has raised, without what was put around it.
        """
        self._raised = self.error = None
        try:
            value = await self._call_next(self.context)
        except Exception as raised:
            self._raised, self.error = raised, (error := _behind(raised))
        else:
            self.value = value
            if type(value) is not ToolResult and not _is_result(value):
                raise PassedOn
            return value
        if _is_flow(error):
            raise PassedOn
        raise error

    async def other(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """
        Run another tool of the server, which answers for this one.
        """
        asked = {"name": name, "arguments": dict(arguments)}
        message = self.context.message.model_copy(update=asked)
        other = Call(self.context.copy(message=message), self._call_next)
        try:
            return await other.run()
        except PassedOn:
            reason = f"{name} cannot answer for {self.context.message.name}."
            raise CallRefusedError(reason, tool_name=name) from other._raised

    def passes(self, error: Exception) -> bool:
        """
        Whether that was raised for the framework, and not by the orchestrator.
        """
        return isinstance(error, PassedOn) or error is self.error

    def as_it_was(self) -> ToolResult:
        """
        What there would be without circuits.
        """
        if self._raised is not None:
            raise self._raised
        value: ToolResult = self.value
        return value

    def told(self, result: CallResult) -> Exception:
        """
        What is raised of a call that has failed. What blames the call has its own words for
        it, and what speaks to the client's program is not for a model.
        """
        raised = self._raised
        assert raised is not None
        if result.verdict is not Verdict.FAILURE or isinstance(raised, MCPError):
            # What is the tool's own may be raised by it again.
            return raised if raised is self.error else settled(raised)
        text = result.content
        if not _shows(raised, self.error):
            text = _without_details(result, raised)
        told = ToolError(text, log_level=getattr(raised, "log_level", logging.ERROR))
        # Retries look at the cause of what is raised, and no deeper.
        told.__cause__ = (
            self.error if raised is not self.error else raised.__cause__ or raised
        )
        return settled(told)


E = TypeVar("E", bound=Exception)


def settled(error: E) -> E:
    """
    That error, with a mark for circuits around this one: a tool that only passes on what
    came of another has not failed by itself.
    """
    vars(error)[_SETTLED] = True
    return error


def _is_result(value: object) -> bool:
    """
    Whether it is what came of a tool, and neither a question that must be answered first,
    nor the task that an extension has made of the call. (To ask a model's class takes
    microseconds.)
    """
    return isinstance(value, ToolResult) and not isinstance(value, InputRequiredToolResult)


def _behind(raised: Exception) -> Exception:
    """
    What happened, of which the framework made an error of its own.
    """
    error: BaseException = raised
    while (
        _SETTLED not in vars(error)
        and _is_wrapped(error)
        and isinstance(error.__cause__, Exception)
    ):
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


def _is_flow(error: Exception) -> bool:
    """
    Whether it says nothing of the tool: that there is none, what the client may not or
    cannot, or what a circuit further in has judged.
    """
    if isinstance(error, _FLOW) or _SETTLED in vars(error):
        return True
    if isinstance(error, MCPError):
        return error.error.code in _FLOW_CODES
    return type(error) is ToolError and str(error).startswith(_CANNOT_BE_ASKED)


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
