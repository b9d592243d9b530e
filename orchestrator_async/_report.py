"""
Errors with their tracebacks, for the log: whole enough to be read, and never large.

The ``traceback`` module shows everything: each of a thousand causes, a megabyte of notes,
and all of it as it is. Here the number of errors and frames and the length of each text
are bounded before anything is cleaned, and what an error's own properties do cannot be
noticed. Notes and messages are cleaned in one piece each: a private key has many lines.
"""

from __future__ import annotations

import linecache
from collections import deque
from collections.abc import Callable
from types import CodeType
from typing import Final

from ._describe import message_of
from ._foreign import bare_notes, cause_of, is_a, members_of, traceback_of
from ._text import Allowance, type_name

MOST: Final = 10_000
"""Characters of a report."""

_ERRORS = 8
_MEMBERS = 5
_FRAMES = 12
_LINE = 200
_NOTES = 5
_NOTE = 4000  # more than is read of all of them together
_FIRST, _OTHERS, _ALL_NOTES = 1000, 200, 600


def report(
    error: BaseException, clean: Callable[[str], str], said: str | None = None
) -> str:
    """
    The traceback of an error, with those that led to it and those that it holds.

    Args:
        error: Any exception.
        clean: What its texts, and the lines of the source, go through.
        said: The error in a line, as ``describe_error`` has it, if that is known: to clean
            a long text costs milliseconds, and once is enough.
    """
    text = _Report(clean, said).of(error)
    return text if len(text) <= MOST else f"{text[: MOST - 6]}\n[cut]"


class _Report:
    """
    One report that is being made, with what it may still take.
    """

    def __init__(self, clean: Callable[[str], str], said: str | None) -> None:
        self._said = said
        self._words = Allowance(clean, 3000)
        self._sources = Allowance(clean, 6000)
        self._left = _ERRORS
        self._seen: set[int] = set()

    def of(self, error: BaseException) -> str:
        """
        The error, after those that led to it. Each of them is looked at after what
        came of it, for that says more, should there not be room for all.
        """
        parts: list[str] = []
        each: BaseException | None = error
        while each is not None:
            if not self._left or id(each) in self._seen:
                parts.append("[earlier errors left out]")
                break
            self._left -= 1
            self._seen.add(id(each))
            parts.append(self._section(each))
            each = cause_of(each)
        return "\n\nwhich led to:\n\n".join(reversed(parts))

    def _section(self, error: BaseException) -> str:
        lines = self._frames(error)
        lines.append(self._line(error))
        notes = [str.__str__(note)[:_NOTE] for note in bare_notes(error)[:_NOTES]]
        if notes:
            lines.append(self._words.piece("\n".join(notes), _ALL_NOTES))
        if is_a(error, BaseExceptionGroup):
            lines += self._members(members_of(error))
        return "\n".join(lines)

    def _line(self, error: BaseException) -> str:
        limit = _OTHERS
        if self._left == _ERRORS - 1 and not is_a(error, BaseExceptionGroup):
            if self._said is not None:
                return self._said[:_FIRST]
            limit = _FIRST
        said = self._words.piece(message_of(error), limit)
        return f"{type_name(error)}: {said}" if said else type_name(error)

    def _members(self, members: tuple[BaseException, ...]) -> list[str]:
        lines = []
        for number, member in enumerate(members, 1):
            if number > _MEMBERS or not self._left:
                lines.append(f"[{len(members) - number + 1} more of {len(members)}]")
                break
            inner = f"in it, {number} of {len(members)}:\n{self.of(member)}"
            lines.append("\n".join(f"  {line}" for line in inner.split("\n")))
        return lines

    def _frames(self, error: BaseException) -> list[str]:
        last: deque[tuple[CodeType, int | None]] = deque(maxlen=_FRAMES)
        count = 0
        traceback = traceback_of(error)
        while traceback is not None:
            last.append((traceback.tb_frame.f_code, traceback.tb_lineno))
            count += 1
            traceback = traceback.tb_next
        if not last:
            return []
        lines = ["Traceback (most recent call last):"]
        if count > len(last):
            lines.append(f"  [{count - len(last)} calls left out]")
        shown = "\n".join(_frame(code, number or 0) for code, number in last)
        return [*lines, self._sources.piece(shown, len(shown))]


def _frame(code: CodeType, number: int) -> str:
    filename = code.co_filename
    where = f'  File "{filename[-_LINE:]}", line {number}, in {code.co_name[:_LINE]}'
    linecache.checkcache(filename)
    line = linecache.getline(filename, number).strip()
    return f"{where}\n    {line}" if 0 < len(line) <= _LINE else where
