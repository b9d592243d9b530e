"""
The names of tools: what one may be, and which are close to one that does not exist.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable
from typing import Final

MAX_NAME: Final = 128
"""Characters that a tool's name may have. A longer one is unknown without a search."""

_MANY: Final = 64
_SHORTLIST: Final = 4


def check_name(what: str, name: object) -> None:
    """
    Raise ``ValueError`` for what cannot be the name of a tool or a circuit.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise ValueError(
            f"{what}={name!r:.200} cannot be; expected text of 1 to {MAX_NAME} characters"
        )


def closest(name: object, names: Collection[str]) -> list[str]:
    """
    The names that are closest to one that was made up, best first, at most three.

    It holds the event loop, so it is bounded: the standard library's comparison, some
    50 microseconds a name, sees a short list, made by shared pairs of letters; and
    of very many names only those that begin or end like the one that was asked for.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        return []
    import difflib
    import heapq

    candidates: Iterable[str] = names
    if len(names) > _MANY:
        likeness = functools.partial(_likeness, name)
        candidates = heapq.nlargest(_MANY, names, key=likeness)
    wanted = _pairs(name)
    shortlist = heapq.nlargest(
        _SHORTLIST, candidates, key=lambda each: len(wanted & _pairs(each))
    )
    return difflib.get_close_matches(name, shortlist, n=3, cutoff=0.6)


def _likeness(name: str, each: str) -> int:
    return (
        (each[:4] == name[:4])
        + (each[-4:] == name[-4:])
        + (each[-2:] == name[-2:])
        + (-3 < len(each) - len(name) < 3)
    )


def _pairs(name: str) -> set[tuple[str, str]]:
    return set(itertools.pairwise(name))
