"""
What a result is known again by.

The values that a program gets are its own: a generator is not run to see what it yields, a
property is not asked, and nothing is made text. So only plain values are looked at, by
their own types, which cannot lie. Of any other nobody can say whether it is the same, and
two that cannot be told to be the same are not taken for it.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import fields
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from types import MemberDescriptorType, NoneType
from typing import Any, Final

from ._foreign import bare_type_name

MOST_TEXT: Final = 500_000
"""Characters of a text, or of all texts in a value, beyond which it is not known again."""

MOST_VALUES: Final = 3_000
"""Values in a value beyond which it is not known again: some milliseconds."""

_TEXTS: Final = (str, bytes, bytearray)
_SETS: Final = (set, frozenset)
_ROWS: Final = (list, tuple)


def digest(text: str) -> str:
    """
    A digest of a text, which may hold lone surrogates.
    """
    return hashlib.blake2b(_bytes(text), digest_size=16).hexdigest()


def result_key(text: str) -> str | None:
    """
    What a result's text is known again by; ``None`` for one over ``MOST_TEXT`` characters.
    """
    return digest(text) if len(text) <= MOST_TEXT else None


def value_key(value: Any) -> str | None:
    """
    What a value is known again by, or ``None``. A text has the same key as its result.
    """
    heard = Heard()
    heard.add(value)
    return heard.key()


class Heard:
    """
    Values that come one by one. Texts that follow each other are one text, however it was
    divided. None of them is kept.
    """

    __slots__ = ("_hash", "is_empty")

    def __init__(self) -> None:
        self._hash: Any = hashlib.blake2b(digest_size=16)
        self.is_empty = True

    def add(self, value: Any) -> None:
        """
        One more has come.
        """
        self.is_empty = False
        if self._hash is None:
            return
        if type(value) is str and len(value) <= MOST_TEXT:
            self._hash.update(_bytes(value))
        elif (text := plain_text(value)) is None:
            self._hash = None
        else:
            # No text has that byte in UTF-8, so that this is not taken for one.
            self._hash.update(b"\xff%b\xff" % _bytes(text))

    def key(self) -> str | None:
        """
        What they are known again by, or ``None`` where one of them is not.
        """
        return None if self._hash is None else self._hash.hexdigest()


def plain_text(value: Any) -> str | None:
    """
    A plain value as text, which no other value has; or ``None`` for what is not plain all
    through, or too large.

    Plain are ``None``, numbers, texts, bytes, dates, enums, UUIDs, and dicts, lists, tuples
    and sets, dataclasses and pydantic models by their fields. Of subclasses of these nobody
    knows what else they hold.
    """
    try:
        return _Reading().text(value)
    except Exception:  # what is not plain, nested too deep, or changed by another thread
        return None


class _UnknownError(Exception):
    """
    It cannot be known again.
    """


class _Reading:
    """
    A value that is being read, and how much of it may be read yet.
    """

    def __init__(self) -> None:
        self._values = MOST_VALUES
        self._room = MOST_TEXT

    def text(self, value: Any) -> str:
        parts: list[str] = []
        todo = [value]
        held: Sequence[Any]
        while todo:
            each = todo.pop()
            self._values -= 1
            self._check_size(each)
            if type(each) in _SETS:
                # They come in no order.
                said, held = "".join(sorted(map(self.text, each))), ()
            else:
                said, held = _taken_apart(each)
                self._room -= len(said)
            todo += held
            if self._room < 0 or len(todo) > self._values:
                raise _UnknownError
            # With its length, no part can be taken for two.
            name = bare_type_name(each)
            parts.append(f"{len(name)} {len(held)} {len(said)} {name}{said}")
        return "".join(parts)

    def _check_size(self, value: Any) -> None:
        """
        Refuse what is too large before anything is made of it.
        """
        kind = type(value)
        if kind in _TEXTS:
            fits = len(value) <= self._room
        elif kind is dict or kind in _ROWS or kind in _SETS:
            fits = len(value) <= self._values
        else:
            return
        if not fits:
            raise _UnknownError


def _taken_apart(value: Any) -> tuple[str, Sequence[Any]]:
    """
    What a plain value says itself, and what it holds.

    Raises:
        Exception: It is not plain.
    """
    kind = type(value)
    if kind is str:
        return value, ()
    if kind is int:
        return f"{value:x}", ()
    if kind in _shown():
        return repr(value), ()
    if kind is bytes or kind is bytearray:
        return value.decode("latin-1"), ()
    if kind in _ROWS:
        return "", value
    if kind is dict:
        return "", [*value, *value.values()]
    if kind is datetime or kind is time:
        return repr(value.replace(tzinfo=None)), (value.tzinfo,)
    if issubclass(kind, Enum):
        name = _own(value)["_name_"]
        return "", (_own(value)["_value_"] if name is None else name,)
    own = vars(kind)
    if "__dataclass_fields__" in own:
        return "", [_field(value, each.name) for each in fields(kind)]
    if "__pydantic_fields__" in own:
        names = list(own["__pydantic_fields__"])
        extra = object.__getattribute__(value, "__pydantic_extra__")
        return "", [*(_field(value, name) for name in names), extra]
    raise _UnknownError


@functools.cache
def _shown() -> frozenset[type]:
    """
    Types whose own text says all of a value.
    """
    from uuid import UUID
    from zoneinfo import ZoneInfo

    types = NoneType, bool, float, complex, Decimal, date, timedelta, timezone
    return frozenset((*types, UUID, ZoneInfo))


def _own(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = object.__getattribute__(value, "__dict__")
    return found


def _field(value: Any, name: str) -> Any:
    """
    A field as it is held, in a slot or not. A property of its class is not asked.
    """
    for base in type(value).__mro__:
        slot = vars(base).get(name)
        if type(slot) is MemberDescriptorType:
            return slot.__get__(value)
    return _own(value)[name]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
