"""
For how long a store that does not answer is waited for. Without I/O, and without a clock.
"""

from __future__ import annotations

import math
from typing import Final

from ._describe import describe_error
from ._log import logger
from ._store import StoreDownError

_ASKS: Final = 5
"""Asks in a row without an answer after which the store is given up."""


class Patience:
    """
    Whether the store is to be asked, or has been given up until it answers again.

    Attributes:
        is_over: Whether it has been given up. It is at first, until it has answered.
    """

    __slots__ = ("_asks", "_counted", "_has_said_so", "_seconds", "_since", "is_over")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._has_said_so = False
        self.begin()

    def begin(self) -> None:
        """
        Nothing is known of the store.
        """
        self.is_over: bool = True
        self._since: float | None = None  # when what was not answered was asked
        self._asks, self._counted = 0, -math.inf

    @property
    def wants_a_change(self) -> bool:
        """
        Whether it has turned down what would have changed something, though it answers: then
        no other answer shows that it is well.
        """
        return self._asks > 0

    def changed(self) -> None:
        """
        The store has done what it was asked for.
        """
        self._asks, self._counted = 0, -math.inf

    def answered(self) -> bool:
        """
        The store has answered; whether it had been given up.
        """
        self._since = None
        was_over, self.is_over = self.is_over, False
        if self._has_said_so:
            self._has_said_so = False
            logger.warning("the store of shared circuits answers again")
        return was_over

    def missed(
        self, error: Exception, began: float, now: float, *, ask: bool = False
    ) -> None:
        """
        The store has not answered, or not as it should.

        Args:
            error: What came in the place of an answer.
            began: When it was asked.
            now: The time now.
            ask: Whether it was asked for a lease.
        """
        self._since = began if self._since is None else min(began, self._since)
        if ask and now - self._counted >= self._seconds / _ASKS:
            # One that is refused takes no time, and many callers may ask.
            self._asks, self._counted = self._asks + 1, now
        said = describe_error(error)
        if isinstance(error, StoreDownError):
            self.lose(said)
        elif self._asks >= _ASKS:
            self.lose(f"it has not answered {self._asks} asks in a row: {said}")
        else:
            self.look(now, f": {said}")

    def look(self, now: float, why: str = "") -> None:
        """
        Give it up, if its time has come.
        """
        if self._since is not None and now - self._since >= self._seconds:
            self.lose(f"it has not answered for {now - self._since:.3g} s{why}")

    def lose(self, why: str) -> None:
        """
        Give it up.
        """
        self.is_over = True
        if not self._has_said_so:
            self._has_said_so = True
            logger.warning(
                "the store of shared circuits is gone, each process is on its own: %s", why
            )
