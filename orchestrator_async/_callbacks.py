"""
Functions of the user's that are called in passing: judges, predicates, observers.
"""

from __future__ import annotations

import anyio

from . import _loop
from ._foreign import is_a


def is_its_own(
    error: BaseException, control_flow: tuple[type[BaseException], ...] = ()
) -> bool:
    """
    Whether what came out of a synchronous function is that function's own failure, and not
    of the ``control_flow`` types.

    No cancellation can arrive inside one, for nothing is awaited there: what looks like
    one came out of thin air (``result()`` of a future that was cancelled, say). Nor does
    it end the program by ``sys.exit``. A ``KeyboardInterrupt`` is not its own.
    """
    if is_control_flow(error, control_flow):
        return False
    if is_a(error, (Exception, SystemExit)) or _loop.is_cancellation_of_asyncio(error):
        return True
    try:
        return is_a(error, anyio.get_cancelled_exc_class())
    except anyio.NoEventLoopError:
        return False


def is_control_flow(error: BaseException, types: tuple[type[BaseException], ...]) -> bool:
    """
    Whether it is how a framework interrupts a run, by its types; or a group of such.
    """
    if not types:
        return False
    if is_a(error, types):
        return True
    if not is_a(error, BaseExceptionGroup):
        return False
    try:
        return error.split(types)[1] is None
    except Exception:
        return False  # it cannot be looked into
