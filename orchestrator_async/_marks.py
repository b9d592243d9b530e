"""
Marks in context variables, by which code knows of the calls that it runs under.

A task that such code begins has them too, and may outlive the call. So a mark tells when it
is over, and is left out when another one is set: a tool that begins its own next run would
else hand on one more each time.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Protocol, TypeAlias, TypeVar


class Mark(Protocol):
    """
    What stands for a call.
    """

    @property
    def is_over(self) -> bool:
        """Whether it means nothing any more, and never will again."""


M = TypeVar("M", bound=Mark)

Marks: TypeAlias = tuple[M, ...]


def put(variable: ContextVar[Marks[M]], marks: Marks[M]) -> Token[Marks[M]]:
    """
    Have what runs from here on, and what that begins, run under these marks too.
    """
    before = variable.get(())
    if before:
        before = tuple([each for each in before if not each.is_over])
    return variable.set((*before, *marks))


def take_off(variable: ContextVar[Marks[M]], token: Token[Marks[M]] | None) -> None:
    """
    Have this context as it was before; ``None`` where nothing was put on.
    """
    if token is not None:
        # A coroutine that is closed by the garbage collector ends in another context.
        with suppress(ValueError):
            variable.reset(token)
