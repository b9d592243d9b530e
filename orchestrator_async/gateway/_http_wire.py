"""
A connection's bytes, as events of HTTP/1.1 and back, by h11: that is all of the protocol,
and no other than it.
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Any, Final

import anyio
import h11
from anyio.abc import SocketStream

from ._quiet import GONE

_HEADERS: Final = 16 * 1024
_CHUNK: Final = 65_536
_LINGER: Final = 1.0
"""Seconds for a client to take an answer that came before it had sent all."""


def dated() -> list[tuple[bytes, bytes]]:
    return [(b"date", formatdate(usegmt=True).encode())]


class Wire:
    """
    One connection.

    Attributes:
        http: What is known of both sides.
    """

    def __init__(self, stream: SocketStream) -> None:
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEADERS)
        self._stream = stream
        self._lock = anyio.Lock()
        self._unwritten = 0

    async def next(self) -> Any:
        """
        The next event from the client.

        Raises:
            h11.RemoteProtocolError: It is none, or the client has gone in the middle of it.
        """
        while (event := self.http.next_event()) is h11.NEED_DATA:
            await self.read()
        return event

    async def read(self) -> bool:
        """
        Take what comes; whether it was more than that the client has gone.
        """
        try:
            data = await self._stream.receive(_CHUNK)
        except (anyio.EndOfStream, *GONE):
            data = b""
        self.http.receive_data(data)
        return bool(data)

    async def write(self, data: bytes) -> None:
        """
        Send it; to somebody who has gone, nothing.
        """
        self._unwritten += 1
        async with self._lock:  # an event stream has two who write
            try:
                await self._stream.send(data)
            except GONE:
                return
        self._unwritten -= 1

    async def refuse(self, status: int) -> None:
        headers = [*dated(), (b"content-length", b"0"), (b"connection", b"close")]
        head = self.http.send(h11.Response(status_code=status, headers=headers))
        await self.write(head + self.http.send(h11.EndOfMessage()))

    def again(self) -> bool:
        """
        Get ready for another request, if one can come: both sides are through with the last
        one, and all of its answer was sent.
        """
        states = {self.http.our_state, self.http.their_state}
        if states != {h11.DONE} or self._unwritten:
            return False
        self.http.start_next_cycle()
        return True

    async def linger(self) -> None:
        """
        Let a client read why it was refused: if the connection were closed while there is
        something of it unread, it would be told of a reset instead.
        """
        if self.http.their_state not in (h11.SEND_BODY, h11.ERROR) or self._unwritten:
            return
        with anyio.move_on_after(_LINGER):
            try:
                await self._stream.send_eof()
                while True:
                    await self._stream.receive(_CHUNK)
            except (OSError, anyio.EndOfStream, *GONE):
                pass
