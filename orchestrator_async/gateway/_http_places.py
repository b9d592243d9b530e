"""
Who has a place among the connections over HTTP, and who loses it to a newcomer.
"""

from __future__ import annotations

from collections import OrderedDict

import anyio


class Places:
    """
    Connections, known by the scope that each runs in: one that is cancelled has gone.

    Whoever has not shown yet that it may ask is a stranger, and goes first; next are those
    that have no request at the moment. Whoever waits for an answer stays.

    Args:
        most: How many places there are.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: set[anyio.CancelScope] = set()
        # In the order in which they came here. Of a dict's first item one would pay for all
        # that have been before it.
        self._strangers: OrderedDict[anyio.CancelScope, None] = OrderedDict()
        self._resting: OrderedDict[anyio.CancelScope, None] = OrderedDict()
        self._is_closed = False

    def take(self, who: anyio.CancelScope) -> bool:
        """
        A place for a newcomer, if there is one or somebody can go.
        """
        if len(self._all) >= self._most and not self.free_one():
            return False
        self._all.add(who)
        self._strangers[who] = None
        return True

    def free_one(self) -> bool:
        """
        Let the one go that is missed least; whether there was one.
        """
        for those in (self._strangers, self._resting):
            if those:
                who, _ = those.popitem(last=False)
                self._all.discard(who)
                who.cancel()
                return True
        return False

    def know(self, who: anyio.CancelScope) -> None:
        """
        It has shown that it may ask.
        """
        self._strangers.pop(who, None)

    def asks(self, who: anyio.CancelScope) -> None:
        self._resting.pop(who, None)

    def rests(self, who: anyio.CancelScope) -> bool:
        """
        It has had its answer; whether it may ask again.
        """
        if self._is_closed or who not in self._all:
            return False
        if not self.is_stranger(who):
            self._resting[who] = None
        return True

    def is_stranger(self, who: anyio.CancelScope) -> bool:
        return who in self._strangers

    def leave(self, who: anyio.CancelScope) -> None:
        self._all.discard(who)
        self._strangers.pop(who, None)
        self._resting.pop(who, None)

    def close(self) -> None:
        """
        All go, those that wait for an answer after they have had it.
        """
        self._is_closed = True
        while self.free_one():
            pass
