"""
How fast a server may talk without being asked.

What it says beyond that is not read until later: it waits, and nobody else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Self

import anyio

_BURST: Final = 500
_PER_SECOND: Final = 500


class PacedStream:
    """
    A stream of messages; answers pass at any speed, everything else at most at that pace.

    Args:
        stream: That of the transport.
        hear: What is told of the method of each message that is no answer.
    """

    def __init__(self, stream: Any, hear: Callable[[str], object]) -> None:
        self._stream = stream
        self._hear = hear
        self._left = float(_BURST)
        self._since = 0.0

    @property
    def last_context(self) -> Any:
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> Any:
        item = await self._stream.receive()
        method = getattr(getattr(item, "message", None), "method", None)
        if method is not None:
            self._hear(method)
            await self._pace()
        return item

    async def _pace(self) -> None:
        now = anyio.current_time()
        self._left = min(_BURST, self._left + (now - self._since) * _PER_SECOND) - 1
        self._since = now
        if self._left < 0:
            await anyio.sleep(-self._left / _PER_SECOND)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def close(self) -> None:
        self._stream.close()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
