"""
What a generator yields, taken at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator
from typing import Any, Final

MOST_ITEMS: Final = 100_000
"""Items that a generator may yield."""


def drained(items: Generator[Any, Any, Any]) -> list[Any]:
    """
    What a generator yields, as a list.

    Raises:
        ValueError: It yields more than 100,000 items, and may have no end.
    """
    found = list(itertools.islice(items, MOST_ITEMS + 1))
    if len(found) > MOST_ITEMS:
        raise ValueError(f"a generator of more than {MOST_ITEMS} items may never end")
    return found
