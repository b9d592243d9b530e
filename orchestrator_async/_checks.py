"""
What a policy checks of itself, each with an error that names the field.
"""

from __future__ import annotations

import enum
import inspect
import sys
from typing import Final

from ._callable import is_stream


class Inherit(enum.Enum):
    """
    The type of ``INHERIT``: what a field says that leaves the choice to the next level.
    """

    INHERIT = "inherit"

    def __repr__(self) -> str:
        return "INHERIT"


INHERIT: Final = Inherit.INHERIT


def bad(policy: object, name: str, expected: str) -> ValueError:
    """
    The error for a field of a policy, with what it should have been.
    """
    value = getattr(policy, name)
    return ValueError(
        f"{type(policy).__name__}: {name}={value!r} cannot be; expected {expected}"
    )


def check_count(policy: object, *names: str, optional: bool = False) -> None:
    """
    Whole numbers from 1.
    """
    expected = "a whole number of at least 1" + (", or None" if optional else "")
    for name in names:
        value = getattr(policy, name)
        if value is INHERIT or (optional and value is None):
            continue
        if type(value) is not int or value < 1:
            raise bad(policy, name, expected)


def check_number(
    policy: object,
    name: str,
    least: float,
    most: float,
    *,
    above: bool = False,
    optional: bool = False,
) -> None:
    """
    Numbers within bounds.
    """
    value = getattr(policy, name)
    if value is INHERIT or (optional and value is None):
        return
    good = type(value) in (int, float) and least <= value <= most
    if good and not (above and value == least):
        return
    expected = f"a number {'above' if above else 'of at least'} {least}"
    if most < sys.float_info.max:
        expected += f" and at most {most}"
    raise bad(policy, name, expected + (", or None" if optional else ""))


def check_seconds(policy: object, *names: str, optional: bool = False) -> None:
    """
    Times: above 0 and finite.
    """
    expected = "a finite number of seconds above 0" + (", or None" if optional else "")
    for name in names:
        value = getattr(policy, name)
        if value is INHERIT or (optional and value is None):
            continue
        if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:
            raise bad(policy, name, expected)


def check_types(policy: object, *names: str) -> None:
    """
    Tuples of types of exceptions.
    """
    for name in names:
        value = getattr(policy, name)
        if value is INHERIT:
            continue
        if not isinstance(value, tuple) or not all(
            isinstance(each, type) and issubclass(each, BaseException) for each in value
        ):
            raise bad(policy, name, "a tuple of exception types")


def check_predicate(policy: object, *names: str) -> None:
    """
    Plain functions.
    """
    for name in names:
        value = getattr(policy, name)
        if value is INHERIT:
            continue
        if not callable(value) or is_async(value) or is_stream(value):
            raise bad(policy, name, "a plain function, not a coroutine function")


def is_async(fn: object) -> bool:
    """
    Whether calling it gives a coroutine, for functions and for callable objects.
    """
    if isinstance(fn, type):
        return False
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(
        getattr(fn, "__call__", None)  # noqa: B004
    )
