"""
What is told of a call that has ended: to the model, to the circuit, to the log.

Errors of all kinds are looked at here. None of them can keep itself from being told of,
and the log's level changes nothing but the log.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final

from ._callbacks import is_its_own
from ._cut import cut
from ._describe import describe_error, message_of
from ._entry import Entry
from ._errors import (
    NOT_RUN,
    InvalidArgumentsError,
    InvalidResultError,
    LimitExceededError,
    ToolCancelledError,
)
from ._foreign import is_a
from ._log import log_with_traceback
from ._media import is_media
from ._outcome import Verdict, blames_arguments, error_text
from ._settle import End
from ._text import Allowance, type_name

_BRIEFLY: Final = 300
_ONCE: Final = (
    "Do not repeat the same call unchanged more than once; change it, or use another tool."
)
_MOST_ENTRIES: Final = 20


class Endings:
    """
    Tells of the calls of one orchestrator.

    Args:
        clean: What foreign text passes through.
    """

    def __init__(self, clean: Callable[[str], str]) -> None:
        self._clean = clean

    def why(self, end: End) -> str:
        """
        What the circuit is told of a failure; empty where there is none.
        """
        if end.error is not None:
            try:
                return describe_error(end.error, self._clean)
            except BaseException as raised:
                if not is_its_own(raised):
                    raise
                return type_name(end.error)
        if end.timed_out:
            return "it ran over its timeout"
        if end.verdict is not Verdict.FAILURE:
            return ""
        return f"it returned an error: {self._clean(end.text or '')[:200]}"

    def text(self, entry: Entry, end: End, why: str) -> str:
        """
        What the model reads of a call that has ended.

        Whatever comes of looking at a foreign error, there is an answer.
        """
        if end.error is None:
            text = "" if end.text is None else end.text
            most = entry.settings.max_result_size
            if most is None:
                return text
            return cut(text, most, is_json=is_made(end.value, entry.tool.render))
        try:
            return self._text(entry, end, end.error, why)
        except BaseException as raised:
            if not is_its_own(raised):
                raise
            entry.complain("its error cannot be shown", raised)
            more = {"error_type": type_name(end.error)}
            return error_text(f"{entry.name} failed. {_ONCE}", entry.name, **more)

    def _text(self, entry: Entry, end: End, error: BaseException, why: str) -> str:
        if end.not_run and is_a(error, InvalidArgumentsError):
            return invalid_text(error, entry.name, self._clean)
        more: dict[str, Any] = {"execution_time": round(end.duration, 3)}
        if end.timed_out:
            return error_text(str(error), entry.name, timeout=True, **more)
        if type(error) is LimitExceededError and error.tool_name == entry.name:
            wait = math.ceil(error.retry_after)
            return error_text(str(error), entry.name, limit=error.limit, retry_after=wait)
        more = {"error_type": type_name(error), **more}
        if end.retry_after is not None:
            more["retry_after"] = math.ceil(end.retry_after)
        if blames_arguments(error, entry.name):
            return self._blamed_text(error, entry.name, **more)
        if type(error) in (ToolCancelledError, InvalidResultError):
            return error_text(self._clean(str(error)), entry.name, **more)
        advice = _ONCE
        if end.retry_after is not None:
            wait = more["retry_after"]
            advice = f"It asks for a pause: do not call it again for {wait} s."
        text = f"{entry.name} failed: {why.rstrip('.')}. {advice}"
        return error_text(text, entry.name, **more)

    def log(self, entry: Entry, end: End, why: str) -> None:
        """
        Log a failure. Its traceback goes here, and nowhere else.
        """
        brief = why
        if end.error is not None and len(why) > _BRIEFLY:
            brief = f"{why[:_BRIEFLY]}..."  # the traceback says it again
        message = f"{entry.name} failed: {brief}"
        log_with_traceback(message, end.error, self._clean, logging.INFO, why)

    def _blamed_text(self, error: InvalidArgumentsError, name: str, **more: Any) -> str:
        """
        The text where the tool has run and says that it was asked for nonsense.
        """
        piece = Allowance(self._clean, 4000).piece
        said = piece(message_of(error).removesuffix(NOT_RUN), 1000).rstrip(".")
        text = (
            f"{name} ran, and did not accept its arguments: {said}. It may have done a part "
            "of its work. Change the arguments before you call it again."
        )
        return error_text(text, name, invalid_arguments=_entries(error, piece), **more)


def is_made(value: object, render: object = None) -> bool | None:
    """
    Whether the text of a value is JSON: all that is made of a value is; what a tool has
    returned as text, or renders itself, may be anything.
    """
    return None if is_a(value, str) or render is not None or is_media(value) else True


def invalid_text(
    error: InvalidArgumentsError, name: str, clean: Callable[[str], str]
) -> str:
    """
    The text where arguments were refused, and the tool has not run.
    """
    # Ours, and so its entries are few and short; what they quote may be anybody's.
    piece = Allowance(clean, 6000).piece
    entries = _entries(error, piece)
    return error_text(clean(str(error)), name, invalid_arguments=entries)


def _entries(
    error: InvalidArgumentsError, piece: Callable[[str], str]
) -> list[dict[str, str]]:
    """
    What is wrong with which argument. A tool may raise such an error itself, and fill
    it with anything.
    """
    entries: list[dict[str, str]] = []
    try:
        given: Iterable[object] = error.errors
        for entry in islice(given, _MOST_ENTRIES):
            if isinstance(entry, Mapping):
                items = islice(entry.items(), _MOST_ENTRIES)
                entries.append({piece(str(key)): piece(str(it)) for key, it in items})
    except BaseException as raised:
        if not is_its_own(raised):
            raise
    return entries
