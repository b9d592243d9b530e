"""
What can be learned of a foreign object without asking it.

``isinstance`` reads ``__class__``, which a class may have made a property that raises: a
proxy outside of its context does. An exception may do the same with its notes and its
cause. What is asked here is the type, which cannot lie, and the slots of the builtins.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final, TypeGuard, TypeVar

T = TypeVar("T")

_name: Final = type.__dict__["__name__"]
_context: Final = BaseException.__dict__["__context__"]
_cause: Final = BaseException.__dict__["__cause__"]
_is_suppressed: Final = BaseException.__dict__["__suppress_context__"]
_traceback: Final = BaseException.__dict__["__traceback__"]
_members: Final = BaseExceptionGroup.__dict__["exceptions"]
_dict: Final = BaseException.__dict__["__dict__"]


def is_a(thing: object, kind: type[T] | tuple[type[T], ...]) -> TypeGuard[T]:
    """
    Whether the object is of the kind, and does not only say so.
    """
    return issubclass(type(thing), kind)


def bare_type_name(thing: object) -> str:
    """
    The name of its type, as it is: not to be shown before it is cleaned.
    """
    name: str = _name.__get__(type(thing))
    return name


def context_of(error: BaseException) -> BaseException | None:
    """
    Its ``__context__``, which is what was being handled when it was raised.
    """
    found: BaseException | None = _context.__get__(error)
    return found


def set_context(error: BaseException, context: BaseException | None) -> None:
    """
    Set its ``__context__``, which an assignment might be refused.
    """
    _context.__set__(error, context)


def cause_of(error: BaseException) -> BaseException | None:
    """
    What a traceback names as the reason for it: its cause, or else its context.
    """
    cause: BaseException | None = _cause.__get__(error)
    if cause is not None or _is_suppressed.__get__(error):
        return cause
    return context_of(error)


def explicit_cause_of(error: BaseException) -> BaseException | None:
    """
    What it was raised ``from``, and nothing that was merely being handled.
    """
    found: BaseException | None = _cause.__get__(error)
    return found


def traceback_of(error: BaseException) -> TracebackType | None:
    """
    Its ``__traceback__``.
    """
    found: TracebackType | None = _traceback.__get__(error)
    return found


def members_of(group: BaseExceptionGroup[Any]) -> tuple[BaseException, ...]:
    """
    The exceptions that it holds.
    """
    found: tuple[BaseException, ...] = _members.__get__(group)
    return found


def bare_notes(error: BaseException) -> list[str]:
    """
    The notes that were added to it, as they are.
    """
    notes: Any = _dict.__get__(error).get("__notes__")
    if not is_a(notes, (list, tuple)):
        return []
    return [note for note in notes[:100] if is_a(note, str)]
