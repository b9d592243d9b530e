"""
Whether anybody is there at all.

The client library says of an engine that is gone and of one that is slow the same: that
it has timed out. A connection of our own tells them apart.
"""

from __future__ import annotations

from typing import Final

import anyio

from ._redis_options import Address

_LOOK: Final = 0.3
"""Seconds that a look takes at the most."""


class Door:
    """
    The address of an engine.
    """

    def __init__(self, address: Address, *, is_cluster: bool) -> None:
        """
        Nobody has looked yet.

        Args:
            address: Where it is.
            is_cluster: Whether it is one of many: then it is never known that nobody is
                there.
        """
        self._address = address
        self._is_cluster = is_cluster
        self._lock = anyio.Lock()
        self._began: float | None = None  # the last look
        self._is_shut = False

    async def is_shut(self) -> bool:
        """
        Whether it refuses connections. One looks at a time, and those who have come before
        it began take its word.
        """
        if self._is_cluster:
            return False
        came = anyio.current_time()
        async with self._lock:
            if self._began is None or self._began < came:
                self._began = anyio.current_time()
                self._is_shut = await self._look()
            return self._is_shut

    async def _look(self) -> bool:
        address = self._address
        if address.path:
            return await self._is_refused_at("", 0)
        for host, port in address.hosts:
            if not await self._is_refused_at(host, port):
                return False
        return True

    async def _is_refused_at(self, host: str, port: int) -> bool:
        with anyio.move_on_after(_LOOK):
            try:
                if host:
                    stream = await anyio.connect_tcp(host, port)
                else:
                    stream = await anyio.connect_unix(self._address.path)
                await stream.aclose()
            except OSError as error:
                return _is_refusal(error)
        return False


def _is_refusal(error: BaseException) -> bool:
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return True
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_refusal, error.exceptions))
    return error.__cause__ is not None and _is_refusal(error.__cause__)
