"""
Room on Python's stack for what must not fail: giving back.

Where tools call each other without an end, the innermost call finds the stack full. It is
to be judged, counted and told of all the same, and that takes more frames than the tool
had. So the limit is raised for as long as that takes, in one piece.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

Returned = TypeVar("Returned")

_FRAMES: Final = 200
"""Frames that are enough to judge a call, to log it and to tell its observers."""

_SHARE: Final = 3
"""From which part of the limit on a closer look is taken. To look at how many frames there are
is cheap, but calls within Python itself count as well."""

_LEAST: Final = 8
"""Frames that it takes to raise the limit, and as many again for whoever traces them."""


def check_room(frames: int = _LEAST) -> None:
    """
    Called before something is taken, so that ``with_room`` can be called afterwards.

    Raises:
        RecursionError: The stack is full.
    """
    if frames:
        check_room(frames - 1)


class _Room:
    """
    The limit, raised while anybody needs it: it is one for all threads.

    Attributes:
        is_raised: Whether it is. It may stay so for a while after nobody needs it, as it
            cannot be lowered from beyond what it is to be.
    """

    def __init__(self) -> None:
        self.is_raised = False
        self._lock = threading.Lock()
        self._users = 0

    def take(self) -> None:
        with self._lock:
            if not self.is_raised:
                sys.setrecursionlimit(sys.getrecursionlimit() + _FRAMES)
                self.is_raised = True
            self._users += 1

    def give_back(self) -> None:
        with self._lock:
            self._users -= 1
        self.lower()

    def lower(self) -> None:
        with self._lock, suppress(RecursionError):
            if self.is_raised and not self._users:
                sys.setrecursionlimit(sys.getrecursionlimit() - _FRAMES)
                self.is_raised = False


_room: Final = _Room()


def with_room(fn: Callable[..., Returned], *args: Any) -> Returned:
    """
    What a function comes to that awaits nothing, called where there is room for it.

    Raises:
        RecursionError: There is no room for this call itself. The function has not begun.
    """
    if not is_deep():
        if _room.is_raised:
            _room.lower()
        return fn(*args)
    if _has_room():
        return fn(*args)
    _room.take()
    try:
        return fn(*args)
    finally:
        _room.give_back()


def is_deep() -> bool:
    """
    Whether the stack may be nearly full.
    """
    try:
        sys._getframe(sys.getrecursionlimit() // _SHARE)
    except ValueError:
        return False
    return True


def _has_room() -> bool:
    if _room.is_raised:
        return False  # or it might be lowered meanwhile
    try:
        check_room(_FRAMES)
    except RecursionError:
        return False
    return True
