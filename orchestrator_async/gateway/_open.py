"""
How many requests of a host may wait for an answer.
"""

from __future__ import annotations

from typing import Final

import anyio

_MOST: Final = 2_000
_MOST_BYTES: Final = 64 * 1024 * 1024


class Open:
    """
    The requests of one host that have no answer yet.
    """

    def __init__(self, most: int = _MOST, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._sizes: dict[int | str, int] = {}
        self._bytes = 0
        self._staying: set[int | str] = set()
        self._answered = anyio.Event()

    def begin(self, id: int | str, size: int, *, stays: bool = False) -> str:
        """
        One more, of so many bytes. Why it is not taken, or nothing if it is.

        Args:
            id: Its id.
            size: Its bytes.
            stays: Whether its answer comes at the end alone, so that nobody waits for it.
        """
        if id in self._sizes:
            return "there is a request with this id already"
        if len(self._sizes) >= self._most:
            return f"{self._most:,} requests wait for an answer; wait for one of them"
        if self._bytes + size > self._most_bytes:
            return "the requests that wait for an answer are too large together"
        if stays:
            self._staying.add(id)
        self._sizes[id] = size
        self._bytes += size
        return ""

    def answered(self, id: int | str | None) -> None:
        """
        That one has its answer, or will never have one.
        """
        if id is not None:
            self._bytes -= self._sizes.pop(id, 0)
            self._staying.discard(id)
            self._answered.set()

    async def idle(self) -> None:
        """
        Return when none waits but those that stay.
        """
        while len(self._sizes) > len(self._staying):
            self._answered = anyio.Event()
            await self._answered.wait()
