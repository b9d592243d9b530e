"""
How fast a server may talk without being asked.

What it says beyond that is not read until later: it waits, and nobody else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Self

import anyio

from ._bucket import Bucket
from ._sieve import sift

_PASS: Final = 500
"""Messages a second that are passed on."""

_READ: Final = 5_000
"""Those that are read. Beyond the others, what wants no answer is thrown away."""


_UNANSWERED: Final = 100
"""Requests of the server that wait for an answer at one time."""


_PATIENCE: Final = 5.0
"""Seconds until that many more are read all the same."""


class PacedStream:
    """
    A stream of messages; answers pass at any speed, everything else at most at that pace.

    Args:
        stream: That of the transport.
        hear: What is told of the method of each message that is no answer.
        left_out: What is told of a tool, by its name, that the SDK would not take, and why.
    """

    def __init__(
        self,
        stream: Any,
        hear: Callable[[str], object],
        left_out: Callable[[str, str], object],
    ) -> None:
        self._stream = stream
        self._hear = hear
        self._left_out = left_out
        self._asked = 0
        self._answered = anyio.Event()
        self._passed = Bucket(_PASS)
        self._read = Bucket(_READ)

    @property
    def last_context(self) -> Any:
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> Any:
        while True:
            item = await self._stream.receive()
            message = getattr(item, "message", None)
            method = getattr(message, "method", None)
            if method is None:
                sift(message, self._left_out)
                return item
            self._hear(method)
            if getattr(message, "id", None) is not None:
                await anyio.sleep(self._passed.take())
                await self._be_answered()
                return item
            if self._passed.has_one():
                return item
            # It may come again, and there is more of it than anybody wants to know.
            await anyio.sleep(self._read.take())

    async def _be_answered(self) -> None:
        """
        One that asks and does not read what it is told piles up answers.
        """
        with anyio.move_on_after(_PATIENCE) as scope:
            while self._asked >= _UNANSWERED:
                self._answered = anyio.Event()
                await self._answered.wait()
        if scope.cancelled_caught:
            self._asked = 0  # or it has taken them back, which needs no answer
        self._asked += 1

    def answered(self) -> None:
        """
        One of its requests was answered.
        """
        self._asked -= 1
        self._answered.set()

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


class AnsweringStream:
    """
    The other direction: tells of each answer that has been sent.
    """

    def __init__(self, stream: Any, answered: Callable[[], object]) -> None:
        self._stream = stream
        self._answered = answered

    async def send(self, item: Any) -> None:
        try:
            await self._stream.send(item)
        finally:
            if not hasattr(item.message, "method"):
                self._answered()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
