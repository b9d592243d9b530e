"""
Functions of the user's that may be async: guards and fallbacks.

One that raises has no answer, which is logged once. But what is not its own goes up: the
caller's cancellation, an interrupt, and the control flow of a framework around us.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import anyio

from . import _loop
from ._caller import Caller
from ._entry import Entry
from ._foreign import is_a
from ._settle import fatal_in, is_control_flow
from ._traceback import raise_as_it_was


async def ask(entry: Entry, what: str, hook: Callable[..., Any], *args: Any) -> Any:
    """
    What the function returns, awaited if need be.

    Args:
        entry: The tool whose function it is.
        what: What it means that it raised, for the log.
        hook: The function.
        *args: What it is asked.

    Raises:
        NoAnswerError: It raised.
        BaseException: Cancellation and control flow.
    """
    caller = Caller()
    caller.remember_task()
    error = None
    try:
        answer = hook(*args)
        if inspect.isawaitable(answer):
            answer = await answer
    except BaseException as raised:
        error = raised
    try:
        if error is not None and _goes_up(entry, caller, error):
            raise_as_it_was(error)
        if caller.caller_is_cancelled():
            await caller.reassert()
        if error is None:
            return answer
        entry.complain(what, error)
        raise NoAnswerError from error
    finally:
        del error


class NoAnswerError(Exception):
    """
    The function has raised; it is logged.
    """


def _goes_up(entry: Entry, caller: Caller, error: BaseException) -> bool:
    if is_a(error, GeneratorExit) or is_control_flow(error, entry.settings.control_flow):
        return True
    cancelled = is_a(error, anyio.get_cancelled_exc_class())
    if cancelled or _loop.is_cancellation_of_asyncio(error):
        return cancelled and caller.caller_is_cancelled()
    return fatal_in(error) is not None
