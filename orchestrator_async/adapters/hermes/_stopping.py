"""
Stops what runs in a thread, as hermes does: by a flag of the thread, which its tools ask for
in short intervals where they wait for a command or a script.

Threads are used again, and a flag that is set late would stop the wrong call. So it is set
under a lock, and only between the beginning and the end of the call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Stoppable:
    """
    What runs in some thread, once, and can be told to stop until it has ended.

    Args:
        flag: Sets or clears the flag of a thread.
    """

    __slots__ = ("_flag", "_given_up", "_lock", "_thread", "_told")

    def __init__(self, flag: Callable[[bool, int | None], None]) -> None:
        self._flag = flag
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._given_up = self._told = False

    def begin(self) -> bool:
        """
        It is to begin in this thread; whether it may.
        """
        with self._lock:
            if self._given_up:
                return False
            self._thread = threading.get_ident()
            return True

    def end(self) -> None:
        """
        It has ended. The thread's flag is cleared if it was set here, and not if hermes has
        set it, which has its own reasons.
        """
        with self._lock:
            if self._told:
                self._flag(False, self._thread)
            self._thread = None

    def give_up(self) -> None:
        """
        It is to stop, or not to begin. Does nothing once it has ended.
        """
        with self._lock:
            self._given_up = True
            if self._thread is not None and not self._told:
                self._told = True
                self._flag(True, self._thread)
