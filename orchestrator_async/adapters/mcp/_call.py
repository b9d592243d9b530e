"""
One call of a server's tool.

It runs as a task of the connection, in the context of its caller, so that the connection's
end never cancels the caller, and a caller who leaves need not wait for the SDK to tell the
server so.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final

import anyio
import pydantic
from mcp import Client, MCPError
from mcp_types import (
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    URL_ELICITATION_REQUIRED,
    CallToolResult,
)
from pydantic_core import from_json, to_json

from orchestrator_async import InvalidArgumentsError, ToolContext

from ._errors import (
    InputRefusedError,
    ResultTooLargeError,
    ServerLostError,
    ServerProtocolError,
    ServerStatusError,
    ServerTimeoutError,
)
from ._http import NOT_SENT, Exchange, exchange
from ._meta import call_meta
from ._questions import Questions
from ._results import McpResult
from ._stdio import PARSE_ERROR, TOO_LARGE

if TYPE_CHECKING:
    from ._connection import Connection

_CONNECTION_CLOSED: Final = -32_000
_LATE: Final = 5.0
"""Seconds that ours comes after the tool's own timeout, which is the one that counts."""


current: Final[ContextVar[Call | None]] = ContextVar("current", default=None)
"""The call in whose context something runs."""


class Call:
    """
    A call that is under way.

    Attributes:
        questions: What the server asks while the call runs.
        wanted: What the server has asked for and was not given while the call ran.
        variables: Those of its context, which are those of its caller.
    """

    def __init__(
        self,
        connection: Connection,
        tool: str,
        arguments: Mapping[str, Any],
        context: ToolContext,
        longest: float,
    ) -> None:
        self._connection = connection
        self._tool = tool
        self._arguments = _as_data(arguments, context.tool_name)
        self._context = context
        self._timeout = longest
        # The tool's own timeout strikes first, and cancels the call.
        own = context.timeout
        self._read_timeout = longest if own is None else own + _LATE
        self._exchange = Exchange()
        self._scope = anyio.CancelScope()
        self._done = anyio.Event()
        self._is_late = False
        self._result: CallToolResult | None = None
        self._error: Exception | None = None
        self.questions = Questions(context, self._scope)
        self.wanted = ""
        self.variables: Context = copy_context()

    async def run(self, client: Client) -> None:
        """
        Make the call. A task of the connection; raises nothing but its cancellation.
        """
        exchange.set(self._exchange)
        current.set(self)
        self.variables = copy_context()
        try:
            with self._scope:
                # Not the SDK's timeout, which runs on while a person is asked.
                self._scope.deadline = anyio.current_time() + self._read_timeout
                self._result = await client.call_tool(
                    self._tool,
                    self._arguments,
                    progress_callback=self._report,
                    meta=_own(call_meta.get()),
                )
            self._is_late = self._result is None
        except Exception as error:
            self._error = error
        finally:
            self._connection.leave(self, answered=self._result is not None)
            self.questions.end()
            self._done.set()

    async def wait(self) -> McpResult:
        """
        What came of it. Whoever is cancelled here gives it up.

        Raises:
            McpServerError: The server did not do its part.
            InputRefusedError: It asked for what nobody gives it.
            MCPError: It answered with an error.
        """
        try:
            await self._done.wait()
        finally:
            self.questions.end()
            self._scope.cancel()
        if self._result is not None:
            if self._result.is_error and self.wanted:
                raise self._refused()
            return McpResult.of(self._result)
        error, self._error = self._error, None
        try:
            raise self._translated(error) from error
        finally:
            del error

    async def _report(
        self, progress: float, total: float | None, message: str | None
    ) -> None:
        self._context.report_progress(progress, total, message)

    def _translated(self, error: Exception | None) -> BaseException:
        """
        What the caller is told of an error.
        """
        if self._exchange.too_large or _code(error) == TOO_LARGE:
            limit = self._connection.limit
            return ResultTooLargeError(limit=limit, **self._names)
        if self._is_late:
            return self._timed_out()
        if error is None:
            return self._lost(self._connection.reason)
        if _says_closed(error):
            if _TOO_LONG_AN_EVENT in str(error):
                return ResultTooLargeError(limit=self._connection.limit, **self._names)
            return self._lost(self._connection.reason or _said(error))
        if self._exchange.error is not None or _code(error) == NOT_SENT:
            return self._lost(_said(self._exchange.error or error))
        status = self._exchange.status
        if status >= 400 and _code(error) != INVALID_PARAMS:
            return self._status(status)
        self.wanted = self.wanted or _wanted(error)
        if self.wanted and isinstance(error, MCPError):
            return self._refused()
        if isinstance(error, MCPError):
            return self._no_result(error)
        return self._nonsense(error)

    @property
    def _names(self) -> dict[str, str]:
        return {"server": self._connection.server, "tool_name": self._context.tool_name}

    def _lost(self, reason: str) -> ServerLostError:
        return ServerLostError(reason=self._connection.hide(reason), **self._names)

    def _refused(self) -> InputRefusedError:
        return InputRefusedError(wanted=self.wanted, **self._names)

    def _timed_out(self) -> BaseException:
        status = self._exchange.status
        if status >= 400:
            return self._status(status)
        return ServerTimeoutError(timeout=self._timeout, **self._names)

    def _status(self, status: int) -> ServerStatusError:
        return ServerStatusError(
            status_code=status,
            phrase=self._exchange.phrase,
            headers=self._exchange.headers or {},
            **self._names,
        )

    def _no_result(self, error: MCPError) -> BaseException:
        if error.code == PARSE_ERROR or str(error).startswith(_NO_ANSWER):
            return self._nonsense(error)
        return error

    def _nonsense(self, error: Exception) -> ServerProtocolError:
        server = self._connection.server
        # What pydantic says at length is of use to the server's author alone.
        kind = type(error).__name__
        said = kind if isinstance(error, pydantic.ValidationError) else _said(error)
        return ServerProtocolError(
            f"the answer of the server {server} makes no sense ({said})", **self._names
        )


def _as_data(arguments: Mapping[str, Any], tool_name: str) -> dict[str, Any]:
    """
    Arguments as the JSON that will be sent. What cannot be sent would end the connection.

    Raises:
        InvalidArgumentsError: They are no JSON.
    """
    try:
        data: dict[str, Any] = from_json(to_json(dict(arguments)), allow_inf_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        said = str(error).partition("\n")[0][:200]
        expected = f"what can be sent as JSON ({said})"
        raise InvalidArgumentsError(
            tool_name=tool_name, errors=[{"argument": "(all)", "expected": expected}]
        ) from None
    return data


def _own(meta: Mapping[str, Any] | None) -> Any:
    # A copy: the SDK adds to it.
    return None if meta is None else dict(meta)


def _wanted(error: Exception | None) -> str:
    """
    What an error says that the server would need of us, if it says that.
    """
    if not isinstance(error, MCPError):
        return ""
    if error.code == URL_ELICITATION_REQUIRED:
        return "elicitation"
    if error.code == MISSING_REQUIRED_CLIENT_CAPABILITY:
        data = error.data if isinstance(error.data, dict) else {}
        missing = data.get("requiredCapabilities")
        names = ("elicitation", "sampling", "roots")
        return next((name for name in names if name in (missing or ())), "")
    return _REFUSED_BY_THE_SDK.get(error.message, "")


_REFUSED_BY_THE_SDK: Final = {
    "Elicitation not supported": "elicitation",
    "Sampling not supported": "sampling",
    "List roots not supported": "roots",
}
"""What it says for a question that a server sends as its answer to a call."""


def _says_closed(error: Exception) -> bool:
    """
    Whether it is the SDK's word that there is no connection, or no answer will come.
    """
    return _code(error) == _CONNECTION_CLOSED and str(error).startswith(_CLOSED)


_CLOSED: Final = ("Connection closed", "SSE stream")
_TOO_LONG_AN_EVENT: Final = "exceeded the"
_NO_ANSWER: Final = (
    "Redirect to ",
    "Unexpected content type",
    "server answered a request with 202",
)
"""How the SDK's words begin for what is no answer of a server, but of something before it."""


def _code(error: Exception | None) -> int:
    return error.code if isinstance(error, MCPError) else 0


def _said(error: Exception | None) -> str:
    text = str(error)[:300]
    if isinstance(error, MCPError):
        return text
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind
