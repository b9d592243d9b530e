"""
Small pieces of ASGI: a body that is passed on, and what a browser is told of origins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

KNOWN: Final = "orchestrator_async.known"
"""The extension with which an application says that whoever asks may ask."""


class Body:
    """
    What has come of a request.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._last: Message | None = None
        self._is_told = False
        self.size = 0

    @property
    def content(self) -> bytes:
        self._parts[:] = [b"".join(self._parts)]
        return self._parts[0]

    @property
    def wants_more(self) -> bool:
        return self._last is None

    def put(self, message: Message) -> int:
        part = message.get("body", b"")
        self._parts.append(part)
        self.size += len(part)
        if not message.get("more_body", False):
            self._last = message
        return len(part)

    def replayed(self, receive: Receive, closed: Callable[[], object]) -> Receive:
        """
        As it came, for whoever is next; and what is called where its sender has gone.
        """

        async def replay() -> Message:
            if not self._is_told:
                self._is_told = True
                body = self.content
                self._parts.clear()
                return {"type": "http.request", "body": body, "more_body": False}
            message = await receive()
            closed()  # after the body nothing else can come
            return message

        return replay


def preflight(wanted: str | None) -> list[tuple[bytes, bytes]]:
    """
    What a browser asks before the page may: with which methods, and which of the headers
    that it wants to send.
    """
    names = (name.strip().lower() for name in (wanted or "").split(","))
    # One for each parameter of a tool that is told by header too; nobody knows them all.
    more = [name for name in names if name.startswith(_PARAMETER) and name.isascii()]
    return [
        (b"access-control-allow-methods", b"GET, POST, DELETE"),
        (b"access-control-allow-headers", ", ".join([*_ASKED, *more]).encode()),
        (b"access-control-max-age", b"600"),
    ]


_PARAMETER: Final = "mcp-param-"
_ASKED: Final = (
    "authorization",
    "content-type",
    "last-event-id",
    "mcp-session-id",
    "mcp-protocol-version",
    "mcp-method",
    "mcp-name",
)


def _cors(origin: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (
            b"access-control-expose-headers",
            b"mcp-session-id, retry-after, www-authenticate",
        ),
        (b"vary", b"origin"),
    ]


def with_origin(send: Send, origin: str | None) -> Send:
    """
    Tell the browser that the page may read the answer.
    """

    if origin is None:
        return send
    headers = _cors(origin)

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *headers]}
        await send(message)

    return answer
