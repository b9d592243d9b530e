"""
What stands before the SDK over HTTP: who may ask, and for how much.

It does not leave this to the SDK's own middleware, which knows no tokens, cannot be told of
the port and buffers a body for as long as its sender likes.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import anyio

from ._requests import Exchange, exchange

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BODY: Final = 4 * 1024 * 1024
_MOST_BODIES: Final = 64 * 1024 * 1024
_BODY_TIME: Final = 30.0
"""Seconds in which a body must have come."""

_MOST_EXCHANGES: Final = 2_000
HEALTH: Final = "/healthz"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """
    Who may ask.

    Args:
        port: The port that is listened at.
        path: Where MCP is.
        token: What a request must bring, or ``None``.
        origins: Those of pages that may ask, besides those of this machine.
        hosts: What this may be called, besides the names of this machine.
        is_local: Whether only this machine can ask; else it may be called by any address.
    """

    port: int
    path: str
    token: str | None = field(default=None, repr=False)
    origins: Iterable[str] = ()
    hosts: Iterable[str] = ()
    is_local: bool = True

    def knows_host(self, host: str) -> bool:
        """
        Whether this is a name of this server. One that is not was made to lead here by
        somebody else.
        """
        if host.lower() in {each.lower() for each in self.hosts}:
            return True
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name == "localhost" or name in {each.lower() for each in self.hosts}:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.is_local

    def knows_origin(self, origin: str) -> bool:
        """
        Whether a page from there may ask.
        """
        names = ("localhost", "127.0.0.1", "[::1]")
        own = {f"http://{name}:{self.port}" for name in names}
        return origin.lower() in own | {each.lower().rstrip("/") for each in self.origins}

    def knows_token(self, given: list[bytes]) -> bool:
        """
        Whether these are the ``Authorization`` headers of somebody who has the token.
        """
        if self.token is None:
            return True
        scheme, _, token = (given[0] if len(given) == 1 else b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(
            token.strip(), self.token.strip().encode("utf-8", "surrogateescape")
        )


class Guard:
    """
    An ASGI application before another.

    Args:
        app: The other.
        rules: Who may ask it.
    """

    def __init__(self, app: App, rules: Rules) -> None:
        self._app = app
        self._rules = rules
        self._scopes: set[anyio.CancelScope] = set()
        self._bytes = 0

    def close(self) -> None:
        """
        End all exchanges.
        """
        for scope in tuple(self._scopes):
            scope.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            with anyio.CancelScope() as ends:
                self._scopes.add(ends)
                try:
                    await self._answer(scope, receive, send)
                finally:
                    self._scopes.discard(ends)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == HEALTH and scope["method"] == "GET":
            await _say(send, 200, {"status": "ok"})
            return
        headers = _Headers(scope["headers"])
        origin = headers.one("origin")
        refused = self._refused(scope, headers, origin)
        if refused is not None:
            status, text, *more = refused
            await _say(send, status, {"error": text}, *more)
        elif scope["method"] == "OPTIONS":
            await _say(send, 204, None, *_preflight(origin))
        else:
            await self._pass_on(scope, receive, _with_origin(send, origin))

    def _refused(
        self, scope: Scope, headers: _Headers, origin: str | None
    ) -> tuple[Any, ...] | None:
        """
        Why this is not answered: a status, a sentence, and headers.
        """
        rules = self._rules
        if not rules.knows_host(headers.one("host") or ""):
            return 421, "this server is not known by that name; allow it"
        if origin is not None and not rules.knows_origin(origin):
            return 403, "pages of that origin may not ask; allow it"
        if scope["method"] != "OPTIONS" and not rules.knows_token(
            headers.all("authorization")
        ):
            return 401, "a token is needed", (b"www-authenticate", b"Bearer")
        if scope["path"] != rules.path:
            return 404, f"there is nothing here; MCP is at {rules.path}"
        if len(self._scopes) > _MOST_EXCHANGES:
            return 503, "too many requests at one time", (b"retry-after", b"1")
        return None

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        taken = _Body()
        try:
            with anyio.move_on_after(_BODY_TIME) as late:
                refused = await self._take(taken, receive)
            if late.cancelled_caught:
                refused = 408, "the request has not come whole in time"
            if refused is not None:
                status, text = refused
                await _say(send, status, {"error": text}, (b"connection", b"close"))
                return
            over = Exchange()
            exchange.set(over)
            # The SDK is not to log it, nor hand it to anybody.
            headers = [each for each in scope["headers"] if each[0] != b"authorization"]
            replayed = taken.replayed(receive, over.close)
            await self._app({**scope, "headers": headers}, replayed, send)
        finally:
            self._bytes -= taken.size

    async def _take(self, body: _Body, receive: Receive) -> tuple[int, str] | None:
        """
        Take the body, all of it; why it is not taken, if it is not.
        """
        while body.wants_more:
            size = body.put(await receive())
            self._bytes += size
            if body.size > MOST_BODY:
                return 413, f"the request has more than {MOST_BODY:,} bytes"
            if self._bytes > _MOST_BODIES:
                return 503, "the requests at this moment are too large together"
        return None


class _Body:
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
            if message["type"] == "http.disconnect":
                closed()
            return message

        return replay


class _Headers:
    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._headers = tuple(headers)

    def all(self, name: str) -> list[bytes]:
        return [value for key, value in self._headers if key == name.encode()]

    def one(self, name: str) -> str | None:
        """
        The header as text; where there are several, what no rule knows.
        """
        values = self.all(name)
        return b", ".join(values).decode("latin-1") if values else None


async def _live(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def _say(send: Send, status: int, body: Any, *headers: tuple[bytes, bytes]) -> None:
    content = b"" if body is None else json.dumps(body).encode()
    kind = (b"content-type", b"application/json")
    size = (b"content-length", str(len(content)).encode())
    sized = () if body is None else (kind, size)
    start = {"type": "http.response.start", "status": status, "headers": [*sized, *headers]}
    await send(start)
    await send({"type": "http.response.body", "body": content})


def _preflight(origin: str | None) -> list[tuple[bytes, bytes]]:
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


def _with_origin(send: Send, origin: str | None) -> Send:
    """
    Tell the browser that the page may read the answer.
    """

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *_cors(origin)]}
        await send(message)

    return send if origin is None else answer
