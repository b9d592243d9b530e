"""
What stands before the SDK over HTTP: who may ask, and for how much.

It does not leave this to the SDK's own middleware, which knows no tokens, cannot be told of
the port and buffers a body for as long as its sender likes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

import anyio
from mcp_types import INVALID_REQUEST

from ._asgi import KNOWN, App, Body, Receive, Scope, Send, preflight, with_origin
from ._http_ids import Ids
from ._requests import Exchange, exchange
from ._rules import HEALTH, Rules

MOST_BODY: Final = 4 * 1024 * 1024
_MOST_BODIES: Final = 64 * 1024 * 1024
_BODY_TIME: Final = 30.0
"""Seconds in which a body must have come."""

MOST_EXCHANGES: Final = 2_000
_TWICE: Final = "there is a request with this id already"
_KEPT: Final = (b"authorization", b"last-event-id")
"""Headers that the SDK is not shown: the one it would log and hand on; by the other a stream
would go on where it ended, and what was sent is kept by nobody. A new one begins instead."""


class Guard:
    """
    An ASGI application before another.

    Args:
        app: The other.
        rules: Who may ask it.
        most: How many may ask at one time.
    """

    def __init__(self, app: App, rules: Rules, most: int = MOST_EXCHANGES) -> None:
        self._app = app
        self._rules = rules
        self._most = most
        self._scopes: set[anyio.CancelScope] = set()
        self._asking = 0
        self._bytes = 0
        self._ids = Ids()

    def close(self) -> None:
        """
        End all exchanges.
        """
        for scope in tuple(self._scopes):
            scope.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.CancelScope() as ends:
            self._scopes.add(ends)
            try:
                await self._answer(scope, receive, send)
            finally:
                self._scopes.discard(ends)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == HEALTH and scope["method"] in ("GET", "HEAD"):
            await _say(send, 200, {"status": "ok"})
            return
        headers = _Headers(scope["headers"])
        origin = headers.one("origin")
        if origin is None or self._rules.knows_origin(origin):
            # A page that may ask may also read why it is refused.
            send = with_origin(send, origin)
        refused = self._refused(scope, headers, origin)
        if refused is not None:
            status, text, *more = refused
            await _say(send, status, {"error": text}, *more)
        elif scope["method"] == "OPTIONS":
            wanted = headers.one("access-control-request-headers")
            await _say(send, 204, None, *preflight(wanted))
        else:
            scope.get("extensions", {}).get(KNOWN, _unheard)()
            self._asking += 1
            try:
                await self._pass_on(scope, receive, send)
            finally:
                self._asking -= 1

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
        if self._asking >= self._most:
            return 503, "too many requests at one time", (b"retry-after", b"1")
        return None

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        taken = Body()
        try:
            with anyio.move_on_after(_BODY_TIME) as late:
                refused = await self._take(taken, receive)
            if late.cancelled_caught:
                refused = 408, "the request has not come whole in time"
            if refused is not None:
                status, text = refused
                await _say(send, status, {"error": text})
                return
            session = _Headers(scope["headers"]).one("mcp-session-id")
            with self._ids.holding(session, taken.content) as is_only_one:
                if is_only_one:
                    await self._hand_on(scope, taken, receive, send)
                else:
                    error = {"code": INVALID_REQUEST, "message": _TWICE}
                    await _say(send, 400, {"jsonrpc": "2.0", "id": None, "error": error})
        finally:
            self._bytes -= taken.size

    async def _hand_on(
        self, scope: Scope, taken: Body, receive: Receive, send: Send
    ) -> None:
        over = Exchange()
        current = exchange.set(over)
        headers = [each for each in scope["headers"] if each[0] not in _KEPT]
        try:
            replayed = taken.replayed(receive, over.close)
            await self._app({**scope, "headers": headers}, replayed, send)
        finally:
            over.close()
            exchange.reset(current)

    async def _take(self, body: Body, receive: Receive) -> tuple[int, str] | None:
        """
        Take the body, all of it; why it is not taken, if it is not.
        """
        while body.wants_more:
            message = await receive()
            if message["type"] != "http.request":
                return 400, "the request has not come whole"
            self._bytes += body.put(message)
            if body.size > MOST_BODY:
                return 413, f"the request has more than {MOST_BODY:,} bytes"
            if self._bytes > _MOST_BODIES:
                return 503, "the requests at this moment are too large together"
        return None


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


def _unheard() -> None:
    """
    Nobody wants to know.
    """


async def _say(send: Send, status: int, body: Any, *headers: tuple[bytes, bytes]) -> None:
    content = b"" if body is None else json.dumps(body).encode()
    kind = (b"content-type", b"application/json")
    size = (b"content-length", str(len(content)).encode())
    sized = () if body is None else (kind, size)
    start = {"type": "http.response.start", "status": status, "headers": [*sized, *headers]}
    await send(start)
    await send({"type": "http.response.body", "body": content})
