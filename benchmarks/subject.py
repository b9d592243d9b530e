"""
What a scenario is run on: one breaker of some library, behind three functions.

A library's adapter, in ``peers``, makes one of these out of the options that are wanted,
by the library's documented API for async code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

THRESHOLD = 3
"""Failures in a row that are to open the circuit."""

Tool = Callable[[], Awaitable[str]]
"""What is called through the breaker."""


class ToolDownError(Exception):
    """
    How a tool fails.
    """


class IgnoredError(Exception):
    """
    What a tool raises that is to be no failure, where it is asked for.
    """


class ListenerError(Exception):
    """
    What a listener raises, where there is one.
    """


class NotOfferedError(Exception):
    """
    The library has nothing of the kind, which is no fault.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """
    What the breaker is to be like.

    Attributes:
        reset: Seconds that it stays open.
        ignores: Whether an ``IgnoredError`` is not to count.
        listener: What is told of whatever the library tells of.
    """

    reset: float
    ignores: bool = False
    listener: Callable[..., None] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """
    One breaker, of any library.

    Attributes:
        call: Calls a tool through it.
        state: Says ``"closed"``, ``"open"`` or ``"half_open"``. Async, for one library
            has to ask its backend.
        pass_time: Lets so many seconds pass on its clock. It really waits where the
            library takes no clock.
    """

    call: Callable[[Tool], Awaitable[str]]
    state: Callable[[], Awaitable[str]]
    pass_time: Callable[[float], Awaitable[None]] = anyio.sleep


Make = Callable[[Wanted], Subject]
"""Makes a breaker, or raises ``NotOfferedError``."""


class Clock:
    """
    A clock that a scenario turns, for libraries that take one.
    """

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def monotonic(self) -> float:
        """
        The same, for a library whose clock is an object.
        """
        return self.now

    async def turn(self, seconds: float) -> None:
        """
        A ``pass_time`` that takes no time.
        """
        self.now += seconds


async def through(tool: Tool) -> str:
    """
    What is decorated, where a library has a decorator only.
    """
    return await tool()


def told(state: object) -> str:
    """
    A library's word for a state, as ours.
    """
    word = str(state).lower().replace("-", "_")
    return {"opened": "open", "half_opened": "half_open"}.get(word, word)
