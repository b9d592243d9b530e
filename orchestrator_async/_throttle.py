"""
Whether a failure says "come back later", and when.

It is asked of a call that was judged a failure already. HTTP says it by a status of 429 or
503 (some by 529) and by ``Retry-After``; clients hang both on their exceptions, each in its
own place, and tools put them into what they raise or return. No client is imported: their
exceptions are known by shape. Judging, which comes first, is in ``_outcome``.

All that is read here is foreign. Each piece is read by itself, so that one that raises
hides no other, and nothing is read at length.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

from ._callbacks import is_its_own
from ._foreign import explicit_cause_of, is_a, members_of
from ._outcome import REFUSALS, field_of, is_refusal, read_object

P = ParamSpec("P")
T = TypeVar("T")

_TOO_MANY_REQUESTS: Final = 429
_MAY_SAY_WHEN: Final = (None, _TOO_MANY_REQUESTS, 503, 529)
"""The statuses beside which ``Retry-After`` is a throttle. A 301 may carry one as well."""

_STATUS_NAMES: Final = ("status_code", "status", "code")
_HEADERS: Final = frozenset({"retry-after", "retry-after-ms", "date"})

_MOST_ERRORS: Final = 100
_MOST_CAUSES: Final = 5
_MOST_HEADERS: Final = 300
_MOST_CHARACTERS: Final = 100


class Throttle(NamedTuple):
    """
    A failure that says "come back later".

    Attributes:
        seconds: The time that it names, finite and more than 0, however long; ``None`` if
            it names none that is of use.
    """

    seconds: float | None


def throttle_of_error(error: BaseException) -> Throttle | None:
    """
    What an exception says, or else the one that it was raised from. A group is what all
    of its members are: one ordinary failure makes it an ordinary failure.
    """
    waiting = [(error, 0)]
    times: list[float] = []
    for _ in range(_MOST_ERRORS):
        each, causes = waiting.pop()
        # A refusal says when another tool may be called, and of this one nothing.
        refused = is_a(each, REFUSALS)
        throttle = None if refused else _quietly(_said_by, each)
        if throttle is not None:
            times.append(throttle.seconds or 0.0)
        elif not refused:
            behind = _behind(each, causes)
            if not behind:
                return None
            waiting += behind
        if not waiting:
            return Throttle(max(times) or None) if times else None
    return None


def _behind(error: BaseException, causes: int) -> list[tuple[BaseException, int]]:
    """
    Those that speak for one that says nothing itself, each with the number of causes that
    led to it.
    """
    if is_a(error, BaseExceptionGroup):
        # Where there are more, their end is not reached either way.
        return [(each, causes) for each in members_of(error)[:_MOST_ERRORS]]
    cause = explicit_cause_of(error)
    return [] if cause is None or causes == _MOST_CAUSES else [(cause, causes + 1)]


def throttle_of_value(value: Any) -> Throttle | None:
    """
    What a returned object says, at its top level or in its ``error``.
    """
    return _quietly(_said_in, value)


def _quietly(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """
    What the function returns; ``None`` where it raises because of what it looks at.
    """
    try:
        return function(*args, **kwargs)
    except BaseException as raised:
        if not is_its_own(raised):
            raise
        return None


# Exceptions


def _said_by(error: BaseException) -> Throttle | None:
    response = _attribute(error, "response")
    headers = _headers(error, response)
    date = headers.get("date")
    its_own = _attribute(error, "retry_after_ms"), _attribute(error, "retry_after")
    seconds = _first_time(*its_own, date)
    status = _status(error, response)
    if seconds is None and status in _MAY_SAY_WHEN:
        said = headers.get("retry-after-ms"), headers.get("retry-after")
        seconds = _first_time(*said, date)
    return _throttle(seconds, is_one=status == _TOO_MANY_REQUESTS)


def _throttle(seconds: float | None, *, is_one: bool) -> Throttle | None:
    """
    Made of a time, if there is one. A time of 0 makes a throttle too, but names no time.
    """
    return Throttle(seconds or None) if is_one or seconds is not None else None


def _attribute(thing: object, name: str) -> Any:
    return _quietly(getattr, thing, name, None)


def status_of(error: BaseException) -> int | None:
    """
    The status of HTTP that an exception, or the response that it has, tells of.
    """
    return _status(error, _attribute(error, "response"))


def _status(error: BaseException, response: Any) -> int | None:
    for place in (error, response):
        for name in _STATUS_NAMES:
            # One at a time: aiohttp warns whoever reads the last where it has a better.
            status = _http_status(_attribute(place, name))
            if status is not None:
                return status
    return _http_status(_in_metadata(response, "HTTPStatusCode"))


def _http_status(said: object) -> int | None:
    """
    The number, if it can be one of HTTP's: the exit statuses of processes and the codes
    of gRPC are less, those of closed websockets more.
    """
    if not is_a(said, int):
        return None
    status = int.__index__(said)
    return status if 100 <= status <= 599 else None


def _headers(error: BaseException, response: Any) -> dict[str, Any]:
    """
    The headers that matter, by their names in lower case.
    """
    found: dict[str, Any] = {}
    for headers in (
        _attribute(error, "headers"),
        _attribute(response, "headers"),
        _in_metadata(response, "HTTPHeaders"),
    ):
        if headers is not None:
            _quietly(_gather, headers, found)
    return found


def _gather(headers: Any, found: dict[str, Any]) -> None:
    if not hasattr(type(headers), "keys"):  # an email.message.Message is no Mapping
        return
    for key in islice(headers, _MOST_HEADERS):
        name = str.lower(key) if is_a(key, str) else ""
        if name in _HEADERS and name not in found:
            found[name] = _quietly(operator.getitem, headers, key)


def _in_metadata(response: Any, name: str) -> Any:
    """
    Where botocore, whose responses are dicts, has what came with the answer.
    """
    return _quietly(_item, _quietly(_item, response, "ResponseMetadata"), name)


def _item(thing: Any, name: str) -> Any:
    return thing.get(name) if is_a(thing, Mapping) else None


# Values


def _said_in(value: Any) -> Throttle | None:
    if is_a(value, str):
        value = read_object(str.__str__(value), _may_say_later)
    both = value, _field(value, "error")
    places = [each for each in both if not _quietly(is_refusal, each)]
    found = (
        _first_time(_field(place, "retry_after_ms"), _field(place, "retry_after"))
        for place in places
    )
    seconds = next((each for each in found if each is not None), None)
    return _throttle(seconds, is_one=any(map(_has_429, places)))


def _may_say_later(text: str) -> bool:
    """
    Whether parsing is worth its cost: a time or the status is there, plain or in escapes.
    """
    return "retry_after" in text or "429" in text or "\\u00" in text


def _field(value: Any, name: str) -> Any:
    return _quietly(field_of, value, name)


def _has_429(place: Any) -> bool:
    statuses = (_field(place, name) for name in _STATUS_NAMES)
    return any(_quietly(_is_429, status) for status in statuses)


def _is_429(status: Any) -> bool:
    """
    Whether it is that number: as text as well, for Azure has it so in its errors.
    """
    return is_a(status, (int, float, str)) and status in (_TOO_MANY_REQUESTS, "429")


# Times


def _first_time(milliseconds: Any, time: Any, date: Any = None) -> float | None:
    """
    Seconds: a usable time of the two. Milliseconds come first, for they are more exact.
    """
    for found in (_quietly(_milliseconds, milliseconds), _quietly(_time, time, date)):
        if found is not None and 0 <= found < math.inf:
            return found
    return None


def _milliseconds(said: Any) -> float | None:
    number = _number(said)
    return None if number is None else number / 1000


def _time(said: Any, date: Any) -> float | None:
    """
    Seconds, said in any of the forms that are in use.

    Args:
        said: A number of seconds, a ``timedelta``, or the text of a number or of a date.
        date: The ``Date`` of the response.
    """
    if is_a(said, timedelta):
        return timedelta.total_seconds(said)
    number = _quietly(_number, said)
    if number is None and is_a(said, str):
        return _until(said, date)
    return number


def _number(said: Any) -> float | None:
    if is_a(said, str):
        return float(_short(said))
    is_number = is_a(said, (int, float, Decimal)) and not is_a(said, bool)
    return float(said) if is_number else None


def _until(said: str, date: Any) -> float:
    """
    Seconds until an HTTP date, by the clock that it was made by where the response tells
    of it: the one here may be wrong.
    """
    now = _quietly(_date, date) or datetime.now(UTC)
    return max((_date(said) - now).total_seconds(), 0.0)


def _date(said: Any) -> datetime:
    from email.utils import parsedate_to_datetime  # what is slow to import comes late

    date = parsedate_to_datetime(_short(said))
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _short(text: str) -> str:
    """
    The text as it is, if it is no longer than what can be a time.
    """
    if str.__len__(text) > _MOST_CHARACTERS:
        raise ValueError("too long for a time")
    return str.__str__(text)
