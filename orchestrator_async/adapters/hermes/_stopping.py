"""
Stops what runs in a thread, as hermes does: by a flag of the thread, which its tools ask for
in short intervals where they wait for a command or a script.

Threads are used again, and a flag that is set late would stop the wrong call. So it is set
under a lock, and only between the beginning and the end of the call.

A script of hermes calls tools from a thread of its own, whose context is a copy of that of
the script's call: by that such a call is known, and told to stop with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, Final


class Stoppable:
    """
    What runs in some thread, once, and can be told to stop until it has ended.

    Args:
        flag: Sets or clears the flag of a thread.

    Attributes:
        told: Whether it was told to stop while it ran.
    """

    __slots__ = (
        "_flag",
        "_given_up",
        "_inner",
        "_lock",
        "_outer",
        "_thread",
        "_token",
        "told",
    )

    def __init__(self, flag: Callable[[bool, int | None], None]) -> None:
        self._flag = flag
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._given_up = self.told = False
        self._outer: Stoppable | None = None
        self._inner: set[Stoppable] = set()
        self._token: Token[Stoppable | None] | None = None

    def begin(self) -> bool:
        """
        It is to begin in this thread; whether it may.
        """
        with self._lock:
            if self._given_up:
                return False
            self._thread = threading.get_ident()
        self._outer = _RUNNING.get()
        self._token = _RUNNING.set(self)
        if self._outer is not None and self._outer._has_given_up(self):
            self.give_up()
        return True

    def _has_given_up(self, inner: Stoppable) -> bool:
        """
        Whether this is to stop. If not, what runs within it will be told when it is, unless
        this has ended: then that goes its own way.
        """
        with self._lock:
            if self._thread is not None:
                self._inner.add(inner)
            return self.told and self._thread is not None

    def end(self) -> None:
        """
        It has ended. The thread's flag is cleared if it was set here, and not if hermes has
        set it, which has its own reasons.
        """
        with self._lock:
            if self._thread is None:
                return
            if self.told and not self._is_in_told_thread():
                self._flag(False, self._thread)
            self._thread = None
        if self._token is not None:
            _RUNNING.reset(self._token)
        if self._outer is not None:
            self._outer._inner.discard(self)
            self._outer = None

    def _is_in_told_thread(self) -> bool:
        outer = self._outer
        return outer is not None and outer.told and outer._thread == self._thread

    def give_up(self) -> None:
        """
        It is to stop, or not to begin. Does nothing once it has ended.
        """
        with self._lock:
            self._given_up = True
            if self._thread is None or self.told:
                return
            self.told = True
            self._flag(True, self._thread)
            inner = tuple(self._inner)
        for each in inner:
            each.give_up()


_RUNNING: Final[ContextVar[Stoppable | None]] = ContextVar("_RUNNING", default=None)
"""What runs in this thread, or in the one that has started it."""


def stopped_with_its_script(
    flag: Callable[[bool, int | None], None], next_call: Callable[[Any], Any], args: Any
) -> Any:
    """
    Run a call that a script makes, if it is one.
    """
    if _RUNNING.get() is None:
        return next_call(args)
    call = Stoppable(flag)
    call.begin()
    try:
        return next_call(args)
    finally:
        call.end()
