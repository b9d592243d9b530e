"""
What a generator yields, taken at once.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from typing import Any, Final

from ._foreign import is_a

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


async def joined(chunks: AsyncGenerator[Any, Any]) -> Any:
    """
    What an async generator yields: its text where all of it is text, else a list.

    Raises:
        ValueError: It yields more than 100,000 items, and may have no end.
    """
    found: list[Any] = []
    async with aclosing(chunks):
        async for chunk in chunks:
            if len(found) == MOST_ITEMS:
                raise ValueError(f"a stream of more than {MOST_ITEMS} chunks may never end")
            found.append(chunk)
    return as_one(found)


def as_one(chunks: list[Any]) -> Any:
    """
    The chunks of a stream as one value: the text that they are, or a list of them.
    """
    if all(is_a(chunk, str) for chunk in chunks):
        return "".join(chunks)
    return chunks
