"""
What can be run as a tool, and what it is called.

Nothing lies below; ``_tool`` is above.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any


def unwrapped(fn: Any) -> Any:
    """
    What lies inside of ``functools.partial``.
    """
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def name_of(fn: Any) -> str:
    """
    The name of a function, or of the class of a callable object.

    Raises:
        ValueError: It is a lambda.
    """
    fn = unwrapped(fn)
    name = getattr(fn, "__name__", None) or type(fn).__name__
    if name == "<lambda>":
        raise ValueError("a lambda has no name to be called by: give name=")
    return str(name)


def is_stream(fn: Any) -> bool:
    """
    Whether calling it gives an async generator, for functions and for callable objects.
    """
    fn = unwrapped(fn)
    if isinstance(fn, type):
        return False
    return inspect.isasyncgenfunction(fn) or inspect.isasyncgenfunction(
        getattr(fn, "__call__", None)  # noqa: B004
    )


def check_callable(fn: Any, name: str) -> None:
    """
    Raise ``TypeError`` for what can be called but cannot be a tool.
    """
    if owner := _owner_not_given(fn):
        raise TypeError(
            f"{name} is a method without its object, so that {owner!r} would be an "
            "argument for the model; register it bound: "
            f"registry.tool({'Class' if owner == 'cls' else 'obj'}.{fn.__name__})"
        )


def _owner_not_given(fn: Any) -> str:
    """
    ``self`` or ``cls``, if a function from the body of a class asks for it.
    """
    if not inspect.isfunction(fn):
        return ""  # a bound method, a staticmethod, a partial, an object
    where = fn.__qualname__.rpartition(".")[0]
    if not where or where.endswith("<locals>"):
        return ""
    first = next(iter(inspect.signature(fn).parameters), "")
    return first if first in {"self", "cls"} else ""
