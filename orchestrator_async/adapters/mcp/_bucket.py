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
        Take one; the seconds for which there is none, or 0.
        """
        now = anyio.current_time()
        self._left = min(self._rate, self._left + (now - self._since) * self._rate)
        self._since = now
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._rate
