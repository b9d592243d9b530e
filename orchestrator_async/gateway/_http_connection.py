"""
The requests of a connection over HTTP, one after another, for an ASGI application.

There is no upgrade to anything: a request that asks for one is answered like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

import anyio
import h11
from anyio.abc import SocketStream

from ._asgi import KNOWN, App, Message, Scope
from ._http_places import Places
from ._http_wire import Wire, dated

_FIRST: Final = 10.0
"""Seconds in which a stranger's request must have come, but for its body."""

_IDLE: Final = 30.0
"""The same for those who have asked before."""

_MOST_AHEAD: Final = 65_536
"""Bytes of further requests that may come before a request has its answer."""


async def serve_connection(
    stream: SocketStream, app: App, places: Places, who: anyio.CancelScope
) -> None:
    """
    Answer the requests of a connection, until it ends.
    """
    wire = Wire(stream)
    while (request := await _request(wire, places, who)) is not None:
        places.asks(who)
        await _Exchange(wire, request).answer(app, lambda: places.know(who))
        if not (wire.again() and places.rests(who)):
            break
    await wire.linger()


async def _request(
    wire: Wire, places: Places, who: anyio.CancelScope
) -> h11.Request | None:
    """
    The next request; ``None`` if there is none.
    """
    with anyio.move_on_after(_FIRST if places.is_stranger(who) else _IDLE):
        try:
            event = await wire.next()
        except h11.RemoteProtocolError as error:
            await wire.refuse(error.error_status_hint)
            return None
        if not isinstance(event, h11.Request):
            return None
        if event.http_version not in (b"1.0", b"1.1"):
            await wire.refuse(505)
            return None
        return event
    return None


class _Exchange:
    """
    A request and its answer, as ASGI has them. Whoever answers is through with the request:
    what has not been read of it by then is not kept.
    """

    def __init__(self, wire: Wire, request: h11.Request) -> None:
        self._wire = wire
        self._http = wire.http
        self._request = request
        self._is_whole = False
        self._has_body = False
        self._held = b""

    async def answer(self, app: App, know: Callable[[], None]) -> None:
        try:
            await app(self._scope(know), self._receive, self._send)
        except Exception:
            await self._unanswered()
            raise
        await self._unanswered()

    async def _unanswered(self) -> None:
        """
        Answer what the application has not.
        """
        if self._http.our_state is h11.SEND_RESPONSE:
            await self._wire.refuse(500)

    def _scope(self, know: Callable[[], None]) -> Scope:
        path, _, query = self._request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.1"},
            "http_version": self._request.http_version.decode(),
            "method": self._request.method.decode(),
            "scheme": "http",
            "path": unquote(path.decode()),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(self._request.headers),
            "extensions": {KNOWN: know},
        }

    async def _receive(self) -> Message:
        if not self._is_whole:
            if self._http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                await self._wire.write(self._http.send(go_on) or b"")
            try:
                event = await self._wire.next()
            except h11.RemoteProtocolError:
                return {"type": "http.disconnect"}
            self._is_whole = isinstance(event, h11.EndOfMessage)
            body = b"" if self._is_whole else bytes(event.data)
            return {"type": "http.request", "body": body, "more_body": not self._is_whole}
        await self._left()
        return {"type": "http.disconnect"}

    async def _left(self) -> None:
        """
        Return when the client has gone, or has so much more to ask that nobody could tell.
        """
        while await self._wire.read():
            if len(self._http.trailing_data[0]) > _MOST_AHEAD:
                return

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            head = self._head(message)
            if any(key == b"content-length" for key, _ in message["headers"]):
                self._held = head  # the rest comes at once: one packet
            else:
                await self._wire.write(head)
            return
        data, self._held = self._held, b""
        if body := message.get("body", b"") if self._has_body else b"":
            data += self._http.send(h11.Data(data=body)) or b""
        if not message.get("more_body", False):
            data += self._http.send(h11.EndOfMessage()) or b""
        if data:
            await self._wire.write(data)

    def _head(self, message: Message) -> bytes:
        status = message["status"]
        self._has_body = self._request.method != b"HEAD" and status not in (204, 304)
        headers = [*message["headers"], *dated()]
        if not self._came_whole():
            headers.append((b"connection", b"close"))
        return self._http.send(h11.Response(status_code=status, headers=headers)) or b""

    def _came_whole(self) -> bool:
        """
        Whether all of the request is here, read or not.
        """
        try:
            while not self._is_whole:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    return False
                self._is_whole = isinstance(event, h11.EndOfMessage)
        except h11.RemoteProtocolError:
            return False
        return True
