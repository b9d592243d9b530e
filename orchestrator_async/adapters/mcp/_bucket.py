"""
How often something may happen.
"""

from __future__ import annotations

import anyio


class Bucket:
    """
    So many a second, and as many at once.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._left = float(rate)
        self._since = 0.0

    def take(self) -> float:
        """
        Take one, also one that is not there yet; the seconds until it is.
        """
        self._fill()
        self._left -= 1
        return max(0.0, -self._left / self._rate)

    def has_one(self) -> bool:
        """
        Take one if it is there; whether it was.
        """
        self._fill()
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _fill(self) -> None:
        now = anyio.current_time()
        self._left = min(self._rate, self._left + (now - self._since) * self._rate)
        self._since = now
