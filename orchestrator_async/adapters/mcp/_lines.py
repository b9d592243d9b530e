"""
Lines out of chunks of bytes, none of them kept beyond a size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

KEPT: Final = 2_000
"""Bytes that are kept of the ends of a line that is too long: its id is in one of them."""

_ID: Final = rb'"id"\s*:\s*(?:(\d{1,18})|"([^"\\\\]{1,100})")'
_VERSION: Final = rb'"jsonrpc"\s*:\s*"2\.0"'
_AT_BEGIN: Final = re.compile(rb"\s*\{\s*(?:" + _VERSION + rb"\s*,\s*)?" + _ID + rb"\s*,")
_AT_END: Final = re.compile(rb",\s*" + _ID + rb"(?:\s*,\s*" + _VERSION + rb")?\s*\}\s*$")


@dataclass(frozen=True, slots=True)
class TooLong:
    """
    A line of which only the ends are known.
    """

    begin: bytes
    end: bytes

    def request_id(self) -> int | str | None:
        """
        The id of the request that it answers, if it can be told: servers put it first or
        last.
        """
        found = _AT_BEGIN.match(self.begin) or _AT_END.search(self.end)
        if found is None:
            return None
        number, text = found.groups()
        return int(number) if number else bytes(text).decode("utf-8", "replace")


class Lines:
    """
    Puts lines together.

    Attributes:
        endless: Bytes of the line that is being read, once it is too long.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._too_long: TooLong | None = None
        self.endless = 0

    def feed(self, chunk: bytes) -> Iterator[bytes | TooLong]:
        """
        The lines that this chunk completes.
        """
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            self._add(end)
            yield self._line()
        self._add(rest)

    def last(self) -> bytes | TooLong:
        """
        What came after the last line's end; nothing if nothing did.
        """
        return self._line()

    def _add(self, part: bytes) -> None:
        if self._too_long is not None:
            end = (self._too_long.end + part)[-KEPT:]
            self._too_long = TooLong(self._too_long.begin, end)
            self.endless += len(part)
        elif part:
            self._parts.append(part)
            self._size += len(part)
            if self._size > self._limit:
                whole = b"".join(self._parts)
                self._too_long = TooLong(whole[:KEPT], whole[-KEPT:])
                self.endless = self._size
                self._parts.clear()
                self._size = 0

    def _line(self) -> bytes | TooLong:
        line = self._too_long or b"".join(self._parts)
        self._parts.clear()
        self._size = self.endless = 0
        self._too_long = None
        return line
