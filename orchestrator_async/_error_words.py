"""
What all words of an error text say together, for ``_error_patterns``, where no row of its
table says it plainly.

A word, or two in a row, has a weight: how much more often it stands in errors of a service
(above zero) or in those that blame the call (below). ``_error_weights`` has them, as
``tests/corpus/fit.py`` counted them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Weights:
    """
    Weights of words, in tenths of a natural logarithm.

    Attributes:
        words: By the beginning of a word, or of two with a space between them.
        starts: What is there before any word is read, by what the table has said of the
            text: the name of its strongest row, or "none".
    """

    words: Mapping[str, int]
    starts: Mapping[str, int]

    def blame_the_call(self, text: str, row: str) -> bool:
        """
        Whether the words together blame the call. Unless a row does too, one of them has to
        do so by itself: a text of which nothing is known blames nobody.

        Args:
            text: As ``words_of`` makes it.
            row: A key of ``starts``.
        """
        found = [self.words[each] for each in parts_of(text) if each in self.words]
        if row != "word call" and min(found, default=0) > _SPEAKS:
            return False
        return self.starts[row] + sum(found) < 0


_SPEAKS: Final = -7
"""What a word weighs that is twice as frequent where the call is blamed."""

_MOST_WORDS: Final = 60
"""Words and stops that are read: what comes later tells of the circumstances."""

_LETTERS: Final = 6
"""Of each word: "connected", "connecting" and "connection" have the same beginning."""

_DATA: Final = re.compile(
    r"\berror executing tool [\w ]{1,100}:|\bmcp ?error\b"
    r"|\berror calling tool '[^']{1,128}'(?::|$)"
    r"|[a-z][a-z+]{1,15}://[^\s'\"`<>)]+"
    r"|(?<!\w)'[\w.@:/-]+(?: [\w.@:/-]+)?'(?!\w)"
    r"|\"[\w.@:/-]+(?: [\w.@:/-]+)?\"|`[\w.@:/-]+(?: [\w.@:/-]+)?`"
    r"|(?<!\w)\.{0,2}(?:/[\w.@:+-]+)+/?"
)
"""What servers of MCP put before errors of both kinds; URLs, paths, and a word or two in quotes."""

_STOPS: Final = ".:,;()="
_WORD: Final = re.compile(rf"[a-z]+(?:'[a-z]+)?|_|[{_STOPS}]")


def parts_of(text: str) -> set[str]:
    """
    The beginnings of the words, and the pairs that no stop divides. What is data is ``_``.
    """
    words = [
        each[:_LETTERS] for each in _WORD.findall(_DATA.sub(" _ ", text))[:_MOST_WORDS]
    ]
    pairs = itertools.pairwise(words)
    return {
        *(each for each in words if each not in _STOPS),
        *(f"{a} {b}" for a, b in pairs if a not in _STOPS and b not in _STOPS),
    }
