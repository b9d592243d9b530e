"""
Lines of a file of calls: cut out of what is read, and read as tool calls.

No I/O: chunks of bytes in, lines and calls out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from orchestrator_async._calls import ToolCall, call_id_of, read_call
from orchestrator_async._errors import InvalidArgumentsError

MAX_LINE: Final = 10_000_000
"""Bytes that a line may have. Of a longer one nothing is kept but its number."""

_OURS: Final = ("args", "arguments", "input")
_EXPECTED: Final = (
    'expected {"name": ..., "args": {...}, "id": ...}, or a tool call of the OpenAI or '
    "Anthropic API"
)


class Line(NamedTuple):
    """
    A line of the input.

    Attributes:
        number: The first is 1.
        data: What is in it; ``None`` if that is too long.
    """

    number: int
    data: bytes | None


class Lines:
    """
    Cuts lines out of what is read. Blank ones are counted and left out.
    """

    def __init__(self) -> None:
        self._number = 0
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """
        The lines that are whole now. Nothing is read at the end: the last line may have no
        end of its own.
        """
        if not chunk:
            if self._size:
                yield from self._end()
            return
        *ends, rest = chunk.split(b"\n")
        for piece in ends:
            self._hold(piece)
            yield from self._end()
        self._hold(rest)

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > MAX_LINE:
            self._held.clear()
        else:
            self._held.append(piece)

    def _end(self) -> Iterator[Line]:
        is_whole = self._size <= MAX_LINE
        data = b"".join(self._held) if is_whole else None
        self._number, self._size = self._number + 1, 0
        self._held.clear()
        if data is None or data.strip():
            yield Line(self._number, data)


class UnreadableError(Exception):
    """
    The line is no tool call.

    Attributes:
        call_id: The id that it has all the same, or ``None``.
    """

    def __init__(self, message: str, call_id: str | None = None) -> None:
        super().__init__(message)
        self.call_id = call_id


def call_in(line: Line) -> ToolCall:
    """
    The tool call that a line is.

    Raises:
        UnreadableError: It is none; says why.
    """
    number, data = line
    if data is None:
        raise UnreadableError(f"Line {number} is too long: more than {MAX_LINE:,} bytes.")
    try:
        entry = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UnreadableError(f"Line {number} is not text in UTF-8.") from None
    except json.JSONDecodeError as error:
        said = f"{error.msg}, at column {error.colno}"
        raise UnreadableError(f"Line {number} is no JSON: {said}.") from None
    except (ValueError, RecursionError) as error:
        raise UnreadableError(
            f"Line {number} is no JSON that can be read: {error}."
        ) from None
    try:
        return read_call(_of_our_own(entry))
    except InvalidArgumentsError:
        found = call_id_of(entry)
    raise UnreadableError(f"Line {number} is no tool call: {_EXPECTED}.", found)


def _of_our_own(entry: Any) -> Any:
    """
    A call in the form of ``ToolCall``, which says no type; anything else as it is.
    """
    if not isinstance(entry, dict) or "type" in entry or "function" in entry:
        return entry
    if not isinstance(entry.get("name"), str):
        return entry
    given = [entry[key] for key in _OURS if key in entry]
    return ToolCall(entry["name"], given[0] if given else None, entry.get("id"))
