"""
Who isolates a circuit by hand, here and in other processes. Without I/O, and without a clock.
"""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._circuit import Circuit


@dataclass(frozen=True, slots=True)
class ByHand:
    """
    What somebody has done here.

    Attributes:
        add: Isolations that have begun, by their tokens.
        remove: Those that have ended; ``None`` for all, whoever began them.
    """

    add: tuple[str, ...]
    remove: tuple[str, ...] | None


class Hands:
    """
    Those on one circuit.
    """

    __slots__ = ("_circuit", "_held", "_news")

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self._held: set[str] = set()
        self._news: deque[ByHand] = deque()

    @property
    def news(self) -> ByHand | None:
        """
        What the fleet is to be told next.
        """
        return self._news[0] if self._news else None

    def told(self, news: object) -> None:
        """
        The fleet has been told.
        """
        if self._news and self._news[0] is news:
            self._news.popleft()

    def isolate(self) -> str:
        """
        It was isolated; the token by which that ends.
        """
        token = secrets.token_hex(8)
        self._held.add(token)
        self._news.append(ByHand((token,), ()))
        return token

    def release(self, token: str) -> bool:
        """
        An isolation is to end; whether it has not ended before.
        """
        if token not in self._held:
            return False
        self._held.discard(token)
        self._news.append(ByHand((), (token,)))
        return True

    def lift(self) -> None:
        """
        All isolations have ended, whoever held them.
        """
        self._held.clear()
        self._news.append(ByHand((), None))

    def retire(self) -> None:
        """
        The circuit is in use no more, and isolated from here no more.
        """
        if self._held:
            self._news.append(ByHand((), tuple(self._held)))
            self._held.clear()

    def others(self, isolations: int) -> int:
        """
        How many of those that the fleet has are held elsewhere.
        """
        return max(0, isolations - len(self._held))

    def hear(self, isolations: int) -> None:
        """
        The fleet has so many.
        """
        if self._news:
            return  # ours are on their way
        if isolations < len(self._held):
            number = len(self._held)
            self._held.clear()
            self._circuit.lift(number)
        self._circuit.hold(isolations > len(self._held))

    def missing(self, others: int) -> None:
        """
        The store has lost them; so many are held elsewhere. Each change tells of those.
        """
        if (self._held or others) and not self._news:
            self._news.append(ByHand(tuple(self._held), ()))
