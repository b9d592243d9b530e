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
                body = b"".join(self._parts)
                self._parts.clear()
                return {"type": "http.request", "body": body, "more_body": False}
            message = await receive()
            closed()  # after the body nothing else can come
            return message

        return replay


def preflight(origin: str | None) -> list[tuple[bytes, bytes]]:
    """
    What a browser asks before the page may.
    """
    return [
        *_cors(origin),
        (b"access-control-allow-methods", b"GET, POST, DELETE"),
        (b"access-control-allow-headers", _ASKED),
        (b"access-control-max-age", b"600"),
    ]


_ASKED: Final = (
    b"authorization, content-type, last-event-id, mcp-session-id, mcp-protocol-version, "
    b"mcp-method, mcp-name"
)


def _cors(origin: str | None) -> list[tuple[bytes, bytes]]:
    if origin is None:
        return []
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", b"mcp-session-id"),
        (b"vary", b"origin"),
    ]


def with_origin(send: Send, origin: str | None) -> Send:
    """
    Tell the browser that the page may read the answer.
    """

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *_cors(origin)]}
        await send(message)

    return send if origin is None else answer
