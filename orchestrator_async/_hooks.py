"""
Functions of the user's that may be async: guards and fallbacks.

One that raises has no answer, which is logged once. But what is not its own goes up: the
caller's cancellation, an interrupt, and the control flow of a framework around us.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from . import _loop
from ._callbacks import is_control_flow
from ._caller import Caller
from ._entry import Entry
from ._foreign import is_a
from ._settle import as_it_came, fatal_in, part
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
    error = up = None
    try:
        answer = hook(*args)
        if inspect.isawaitable(answer):
            answer = await answer
    except BaseException as raised:
        error = raised
    try:
        if error is not None:
            up = _going_up(entry, caller, error)
        if up is not None:
            raise_as_it_was(up)
        if caller.caller_is_cancelled():
            await caller.reassert()
        if error is None:
            return answer
        entry.complain(what, error)
        raise NoAnswerError from error
    finally:
        # An exception refers to this frame, which must not keep it in turn.
        del error, up


class NoAnswerError(Exception):
    """
    The function has raised; it is logged.
    """


def _going_up(entry: Entry, caller: Caller, error: BaseException) -> BaseException | None:
    """
    What is raised on of it, if anything is: not what the function is to blame for.
    """
    if is_a(error, GeneratorExit):
        return error  # the coroutine is being closed; there may be no loop left to ask
    if caller.task_was_cancelled():
        caller.take_back_requests(error)
    try:
        if not _loop.is_cancellation_of_asyncio(error) and fatal_in(error) is not None:
            return error
        own, cancellation = part(error)
        if caller.caller_is_cancelled():
            return as_it_came(caller, cancellation)
        if own is not None and is_control_flow(own, entry.settings.control_flow):
            return error
    except Exception:
        return None  # a group that cannot be looked into, which is logged as it is
    return None
