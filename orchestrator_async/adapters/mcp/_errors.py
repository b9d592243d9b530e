"""
What can go wrong between us and a server. What the server itself answers as an error of
JSON-RPC is raised as the SDK's own ``MCPError``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchestrator_async import CallRefusedError, OrchestratorError

_OF_TIME: Final = ("retry-after", "retry-after-ms", "date")


class McpServerError(OrchestratorError, ConnectionError):
    """
    A server did not do its part. The server's fault.

    Attributes:
        server: Its name.
    """

    server: str

    def __init__(
        self, message: str, /, *, server: str, tool_name: str | None = None
    ) -> None:
        super().__init__(message, tool_name=tool_name)
        self.server = server


class ServerUnavailableError(McpServerError):
    """
    The server is not connected at the moment, so the call was not sent. It is being
    connected again in the background.
    """

    def __init__(self, *, server: str, tool_name: str, reason: str) -> None:
        because = f" ({reason})" if reason else ""
        super().__init__(
            f"the server {server} is not connected{because}. It is being connected again; "
            "the call was not sent",
            server=server,
            tool_name=tool_name,
        )
        self.reason = reason


class ServerLostError(McpServerError):
    """
    The server was lost while the call ran. It is not sent again: nobody knows how far the
    server has come.
    """

    def __init__(self, *, server: str, tool_name: str, reason: str) -> None:
        because = f" ({reason})" if reason else ""
        super().__init__(
            f"the server {server} was lost while the call ran{because}. What it was to do "
            "may have been done, or not",
            server=server,
            tool_name=tool_name,
        )
        self.reason = reason


class ServerStatusError(McpServerError):
    """
    The server, or something before it, has answered with an HTTP status of 400 or more.

    Attributes:
        status_code: The status.
        headers: What it has said of when to come back, by names in lower case: a circuit
            is paused for as long as a 429 or a 503 says.
    """

    def __init__(
        self,
        *,
        server: str,
        tool_name: str,
        status_code: int,
        phrase: str,
        headers: Mapping[str, str],
    ) -> None:
        said = f"{status_code} {phrase}".strip()
        super().__init__(
            f"the server {server} has answered with HTTP {said}",
            server=server,
            tool_name=tool_name,
        )
        self.status_code = status_code
        self.headers: dict[str, str] = {
            name: headers[name] for name in _OF_TIME if name in headers
        }


class ServerProtocolError(McpServerError):
    """
    What the server has answered is not what the protocol says, or was cut short.
    """


class ServerTimeoutError(McpServerError, TimeoutError):
    """
    The server has not answered in time.

    Attributes:
        timeout: The time that it had, in seconds.
    """

    def __init__(self, *, server: str, tool_name: str, timeout: float) -> None:
        super().__init__(
            f"the server {server} has not answered within {timeout:g} s. What it was to do "
            "may yet be done",
            server=server,
            tool_name=tool_name,
        )
        self.timeout = timeout


class ResultTooLargeError(McpServerError):
    """
    The server's answer is larger than it may be, and was thrown away.

    Attributes:
        limit: Bytes that a message may have.
    """

    def __init__(self, *, server: str, tool_name: str, limit: int) -> None:
        super().__init__(
            f"the answer of the server {server} has more than {limit:,} bytes and was "
            "thrown away. Ask for less",
            server=server,
            tool_name=tool_name,
        )
        self.limit = limit


class InputRefusedError(CallRefusedError):
    """
    The server has asked for something that nobody here gives it (input of a user, an answer
    of a model, folders), and could not do the call without. No verdict.

    Attributes:
        wanted: ``"elicitation"``, ``"sampling"`` or ``"roots"``.
    """

    def __init__(self, *, server: str, tool_name: str, wanted: str) -> None:
        what = {
            "elicitation": "input of a user",
            "sampling": "an answer of a model",
            "roots": "the folders that it may use",
        }[wanted]
        super().__init__(
            f"{tool_name} was not done: the server {server} asked for {what}, and nobody "
            "here gives it that. Call it with all that it needs, or use another tool.",
            tool_name=tool_name,
        )
        self.server = server
        self.wanted = wanted


class ToolChangedError(CallRefusedError):
    """
    The server has changed the tool since it was first seen, and its tools are pinned. No
    verdict.
    """

    def __init__(self, *, server: str, tool_name: str) -> None:
        super().__init__(
            f"{tool_name} was not run: the server {server} has changed its description or "
            "its arguments, which somebody has to look at first. Use another tool, or "
            "answer without it.",
            tool_name=tool_name,
        )
        self.server = server
