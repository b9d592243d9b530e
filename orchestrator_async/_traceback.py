"""
Exceptions on their way: raised anew as they were, and where they came from.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any, Final, NoReturn, TypeVar

from ._foreign import context_of, set_context, traceback_of

Function = TypeVar("Function", bound=Callable[..., Any])

_binding: Final[set[CodeType]] = set()


def raise_as_it_was(error: BaseException) -> NoReturn:
    """
    Raise an exception that was caught before, and leave its context as it was.

    To raise is to put whatever the caller is handling in the place of the context, by
    which anyio knows a cancellation that somebody has raised anew.
    """
    context = context_of(error)
    try:
        raise error
    finally:
        set_context(error, context)
        del error, context


def binds_arguments(fn: Function) -> Function:
    """
    Mark a function of ours that calls a tool: a ``TypeError`` out of its own frame
    came from binding the arguments, before the tool was entered.
    """
    _binding.add(fn.__code__)
    return fn


def ends_in_ours(error: BaseException) -> bool:
    """
    Whether the exception came out of a marked function's own frame.
    """
    codes = codes_of(error)
    return bool(codes) and codes[-1] in _binding


def codes_of(error: BaseException) -> list[CodeType]:
    """
    The code of every frame that the exception has come through, outermost first.
    """
    codes = []
    traceback = traceback_of(error)
    while traceback is not None:
        codes.append(traceback.tb_frame.f_code)
        traceback = traceback.tb_next
    return codes
