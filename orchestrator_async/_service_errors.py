"""
The judge for tools that report two kinds of errors alike.

One kind blames the arguments or the state of the world: no such file, no such row. The
other tells of the service. What an error says is read from its type, its status and its
words: by the table in ``_error_patterns``, and by ``_error_weights`` where it is weak.
Whatever it is given, this judge does not raise, and looks at no more than both ends of a
text.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from ._callbacks import is_its_own
from ._error_patterns import (
    BLAMING_ERRNOS,
    CALL,
    LIMIT,
    LOOK,
    SERVICE,
    TYPES,
    Patterns,
    words_of,
)
from ._error_words import Weights
from ._errors import InvalidArgumentsError
from ._foreign import bare_type_name, explicit_cause_of, is_a, members_of
from ._outcome import (
    Outcome,
    Verdict,
    field_of,
    judge_error,
    judge_value,
    looks_at_values_alone,
    read_object,
)
from ._throttle import status_of

_MOST_CAUSES: Final = 5
"""How far the causes of an exception are followed."""

_MOST_ERROR: Final = 1_000
"""Characters of a text that may be an error by its beginning alone: content is longer."""

_TRACEBACK: Final = "Traceback (most recent call last):"


@cache
def _patterns() -> Patterns:
    """
    Made when they are first asked: that takes longer than all the rest of the package.
    """
    from ._error_weights import STARTS, WORDS

    return Patterns(weights=Weights(WORDS, STARTS))


def of_value(value: Any) -> Verdict:
    """
    What ``service_errors`` says of a value that was returned.
    """
    return _of_returned(value, _patterns())


@looks_at_values_alone(of_value)
def service_errors(outcome: Outcome) -> Verdict:
    """
    The judge for tools that report errors of the service and errors of the caller alike,
    as MCP servers do.

    An error, raised or returned, that blames the arguments or the state of the world (not
    found, invalid, denied, already exists) gives no verdict. One that tells of the service
    (no connection, a timeout, 5xx, 429, a quota, a credential) is a failure, and so is one
    that cannot be placed. What is no error is a success.

    Returned errors are: an object whose ``error`` is true, as ``any_error`` sees it; an MCP
    result whose ``is_error`` is true; and a short text, also one in an MCP result, that
    begins as only errors do (``"Database error: no such table"``).
    """
    return judge(outcome, _patterns())


def judge(outcome: Outcome, patterns: Patterns) -> Verdict:
    """
    The same by another table, or by a part of it.
    """
    if outcome.error is not None:
        name = None if outcome.context is None else outcome.context.tool_name
        return _of_raised(outcome.error, patterns, name)
    return _of_returned(outcome.value, patterns)


class Told(NamedTuple):
    """
    What an error tells of itself.
    """

    text: str
    status: int | None = None


def _placed(told: Told, patterns: Patterns) -> Verdict | None:
    """
    By limits, then by the status, then by the other words.
    """
    words = words_of(told.text)
    by_status = None if told.status is None else _by_status(told.status)
    if by_status is None:
        return patterns.say(words)
    return patterns.say(words, at_most=LIMIT) or by_status


_FAILING_4XX: Final = frozenset({401, 402, 407, 408, 421, 425, 429})
"""Statuses that no other arguments mend: the credential, the account, the moment."""


def _by_status(status: int) -> Verdict | None:
    if status in _FAILING_4XX or status >= 500:
        return SERVICE
    return CALL if status >= 400 else None


# What was raised


def _of_raised(error: BaseException, patterns: Patterns, tool_name: str | None) -> Verdict:
    try:
        by_rule = judge_error(error, tool_name=tool_name)
        if by_rule is Verdict.IGNORE or is_a(error, InvalidArgumentsError):
            return by_rule  # a refusal, or the arguments of this call or of an inner one
        verdict = _of_exception(error, patterns, tool_name)
        return verdict or patterns.guess(words_of(_told_by(error).text))
    except BaseException as raised:
        if not is_its_own(raised):
            raise
        return SERVICE  # it raises when it is looked at, and cannot be placed


def _of_exception(
    error: BaseException, patterns: Patterns, tool_name: str | None
) -> Verdict | None:
    """
    By the exception, or else by the first of its causes that can be placed.
    """
    for _ in range(_MOST_CAUSES):
        if is_a(error, BaseExceptionGroup):
            said = {_of_raised(each, patterns, tool_name) for each in members_of(error)}
            return SERVICE if SERVICE in said else CALL
        verdict = _of_one(error, patterns)
        cause = explicit_cause_of(error)
        if verdict is not None or cause is None:
            return verdict
        error = cause
    return None


def _of_one(error: BaseException, patterns: Patterns) -> Verdict | None:
    leaning = None
    for kind in type(error).__mro__:
        by_type = TYPES.get(f"{kind.__module__}.{kind.__qualname__}")
        if by_type is not None and by_type.is_sure:
            return by_type.says
        leaning = leaning or by_type
        if kind is OSError and (verdict := _by_errno(error)) is not None:
            return verdict
    verdict = _placed(_told_by(error), patterns)
    return leaning.says if verdict is None and leaning is not None else verdict


_errno: Final = OSError.__dict__["errno"]


def _by_errno(error: BaseException) -> Verdict | None:
    number = _errno.__get__(error)
    if number in BLAMING_ERRNOS:
        return CALL if number is not None else None
    return SERVICE if number in errno.errorcode else None


_CODES: Final = {"sqlstate": "SQLSTATE ", "pgcode": "SQLSTATE ", "sqlite_errorname": ""}
"""Where drivers of databases have a code, and what a row expects before it."""


def _told_by(error: BaseException) -> Told:
    """
    Its status, its type, its codes and its text.
    """
    status = status_of(error)
    parts = [bare_type_name(error)]
    for name, before in _CODES.items():
        code = getattr(error, name, None)
        if is_a(code, str):
            parts.append(before + code)
    if status is None and is_a(code := getattr(error, "code", None), int):
        parts.append(f"code {int.__index__(code)}")  # of JSON-RPC
    parts.append(_ends_of(str(error)))
    return Told(": ".join(parts), status)


# What was returned


def _of_returned(value: Any, patterns: Patterns) -> Verdict:
    try:
        if is_a(value, str):
            return _of_text(str.__str__(value), patterns)
        if type(value) in _PLAIN:
            return Verdict.SUCCESS
        texts = _texts_of_result(value)
        if texts is None:
            return _of_object(value, patterns)
        if _flag(value) is True:
            return _of_error_text(" ".join(texts), patterns)
        return _of_text(texts[0], patterns) if len(texts) == 1 else Verdict.SUCCESS
    except BaseException as raised:
        if not is_its_own(raised):
            raise
        return Verdict.SUCCESS  # it raises when it is looked at, and tells of nothing


_PLAIN: Final = frozenset({type(None), bool, int, float, bytes, list, tuple})
"""What holds no error that could be seen."""


def _of_text(text: str, patterns: Patterns) -> Verdict:
    """
    Of a text that nobody has said to be an error.
    """
    try:
        found = read_object(text, _may_hold_error)
    except ValueError:
        found = None
    if found is not None:
        return _of_object(found, patterns)
    return _of_error_text(text, patterns) if _is_error(text, patterns) else Verdict.SUCCESS


def _may_hold_error(text: str) -> bool:
    return '"error"' in text or '"success"' in text or "\\u00" in text


def _is_error(text: str, patterns: Patterns) -> bool:
    """
    Whether a text is an error by its beginning. A second line that begins like the first
    makes it a log; a traceback that something follows is part of one too.
    """
    start = text[:_MOST_ERROR].lstrip()
    if start.startswith(_TRACEBACK):
        return _ENDS_A_TRACEBACK.search(text[-LOOK:].rstrip()) is not None
    if len(text) > _MOST_ERROR or not patterns.begins_an_error(start):
        return False
    more = start.partition("\n")[2].lstrip()
    return not patterns.begins_an_error(more)


def _of_error_text(text: str, patterns: Patterns) -> Verdict:
    """
    Of a text that is an error.
    """
    words = words_of(text)
    return patterns.say(words) or patterns.guess(words)


def _of_object(value: Any, patterns: Patterns) -> Verdict:
    verdict = judge_value(value)
    if verdict is Verdict.IGNORE:
        return verdict  # the refusal of an inner call
    if verdict is Verdict.SUCCESS and field_of(value, "success") is not False:
        return verdict
    try:
        told = _told_in(value)
        return _placed(told, patterns) or patterns.guess(words_of(told.text))
    except BaseException as raised:
        if not is_its_own(raised):
            raise
        return SERVICE  # there is an error, and it cannot be read


_TEXTS: Final = (
    "type",
    "error_type",
    "name",
    "code",
    "status",
    "message",
    "detail",
    "reason",
)
"""Where an error, or the object that it is in, has words of what it is about."""

_STATUSES: Final = ("status_code", "statusCode", "status", "code")


def _told_in(value: Any) -> Told:
    """
    What the object's ``error`` says, and what stands beside it.
    """
    error = field_of(value, "error")
    status, parts = None, []
    for place in (error, value):
        if is_a(place, str):
            parts.append(_ends_of(place))
            continue
        if type(place) in _PLAIN:
            parts.append("" if place is True else _ends_of(str(place)))
            continue
        for name in _STATUSES:
            found = field_of(place, name)
            if status is None and is_a(found, int) and 400 <= found <= 599:
                status = int.__index__(found)
        for name in _TEXTS:
            found = field_of(place, name)
            if is_a(found, str):
                parts.append(_ends_of(found))
            elif is_a(found, int) and not is_a(found, bool):
                parts.append(f"{name} {int.__index__(found)}")
    return Told(": ".join(parts), status)


def _texts_of_result(value: Any) -> list[str] | None:
    """
    The texts of an MCP result, known by its shape; ``None`` for what is none.
    """
    content = _look(value, "content")
    if not is_a(content, (list, tuple)) or _flag(value) not in (True, False):
        return None
    texts = (_look(block, "text") for block in content[:_MOST_BLOCKS])
    return [_ends_of(text) for text in texts if is_a(text, str)]


_MOST_BLOCKS: Final = 20
"""Blocks of a result that are looked at."""


def _flag(value: Any) -> Any:
    said = _look(value, "is_error")
    return _look(value, "isError") if said is None else said


def _look(value: Any, name: str) -> Any:
    return value.get(name) if is_a(value, Mapping) else getattr(value, name, None)


def _ends_of(text: str) -> str:
    text = str.__str__(text)
    return text if len(text) <= 2 * LOOK else f"{text[:LOOK]} ... {text[-LOOK:]}"


_ENDS_A_TRACEBACK: Final = re.compile(r"(?:^|\n)[A-Za-z_][\w.]{0,200}(?:: [^\n]*)?$")
