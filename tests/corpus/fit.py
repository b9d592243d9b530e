"""
Fits the weights of words to the corpus: ``python -m tests.corpus.fit`` writes them to
``orchestrator_async/_error_weights.py``.

They are those of a naive Bayes classifier, with both kinds of errors as likely as each other.
Beside the words it counts what the table said of each text, without the rows that the text's
own fold prompted: so it learns how far the table is to be trusted on texts that it was not
made for. A part that one source alone has is not learned.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orchestrator_async
from orchestrator_async import Verdict
from orchestrator_async._error_patterns import (
    PHRASE,
    ROWS,
    SERVICE,
    WORD,
    Patterns,
    Row,
    Strength,
    in_whole_and_causes,
)
from orchestrator_async._error_words import Weights, parts_of
from orchestrator_async._service_errors import judge

from .found import Found, load
from .score import RETIRED, Fold, by_source, folds_of, outcome_of

WEIGHTS = Path(orchestrator_async.__file__).with_name("_error_weights.py")

_PUT_IN = re.compile(
    r"\bnowhere[\w.-]*|\bhello there\b|\b\w+\.(?:txt|db|pem|json|sql|yaml|py|js|tar|gz)\b|"
    r"\b(?:non?sense|nope|foo|bar|baz|frobnicate|plain|txt|srv|example|tomorrowish|nobody|"
    r"selec|storagegateway|localhost|secret|xx+)\b"
)
"""The names that those who provoke the texts give to what is not there, and what their
servers say. They tell of the corpus and of nothing else."""

_EVEN = 0.1
"""How often a part counts as seen before it is, in either kind."""

_SCALE = 10


class _Heard(Patterns):
    """
    A table without rows that takes down what it is asked.
    """

    __slots__ = ("asked",)

    def __init__(self) -> None:
        super().__init__([])
        self.asked: str | None = None

    def say(self, words: str, *, at_most: Strength = WORD) -> Verdict | None:
        self.asked = words if at_most is WORD else None
        return None


@dataclass(frozen=True, slots=True)
class Text:
    """
    An error that the table is asked about.

    Attributes:
        found: Where it is from.
        words: What the table is asked about.
        parts: Of its words, those that can be learned.
        rows: Those that match the whole of it, and then those that match each of its causes,
            the innermost first, by their places among all.
    """

    found: Found
    words: str
    parts: frozenset[str]
    rows: tuple[tuple[int, ...], ...]


def texts_of(corpus: Iterable[Found]) -> list[Text]:
    """
    All errors of the corpus that are not settled by their type or status.
    """
    alone = [Patterns([row]) for row in _ALL]
    texts = []
    for found in corpus:
        heard = _Heard()
        judge(outcome_of(found), heard)
        if heard.asked is None or found.label == "content":
            continue
        rows = tuple(
            tuple(i for i, table in enumerate(alone) if table.say(each) is not None)
            for each in in_whole_and_causes(heard.asked)
        )
        texts.append(Text(found, heard.asked, frozenset(_learnable(heard.asked)), rows))
    return texts


def _learnable(words: str) -> Iterator[str]:
    for part in parts_of(_PUT_IN.sub("x", words)):
        if part != "_" and all(len(each) > 1 or each in "a_" for each in part.split()):
            yield part


_ALL: tuple[Row, ...] = (*ROWS, *(row for row, _ in RETIRED))


class Fit:
    """
    Reads a corpus once, and fits to as many of its folds as are wanted.

    Args:
        corpus: All of it.
        fold: What is left out together.
    """

    def __init__(self, corpus: list[Found], fold: Fold = by_source) -> None:
        by_id = {each.id: each for each in corpus}
        prompts = [row.prompted_by for row in ROWS] + [shown_by for _, shown_by in RETIRED]
        self._prompted = [folds_of(each, by_id, fold) for each in prompts]
        self.texts = texts_of(corpus)
        self._folds = [fold(each.found) for each in self.texts]

    def weights(self, *held: str) -> Weights:
        """
        Fitted to all folds but these.
        """
        counts = _Counts(), _Counts()
        source_of: dict[str, str] = {}
        learned: set[str] = set()
        for text, own in zip(self.texts, self._folds, strict=True):
            if own in held:
                continue
            mine = counts[text.found.label == "service"]
            mine.texts += 1
            mine.parts.update(text.parts)
            mine.rows[self.row_of(text, {own, *held})] += 1
            source = text.found.source
            learned.update(
                each for each in text.parts if source_of.setdefault(each, source) != source
            )
        words = {each: _logs(each, [of.parts for of in counts], counts) for each in learned}
        names = counts[0].rows | counts[1].rows
        rows = {each: _logs(each, [of.rows for of in counts], counts) for each in names}
        # What is not there counts as well: together, what a text without any known part has.
        start = math.fsum(absent for _, absent in [*words.values(), *rows.values()])
        return Weights(
            words={
                part: weight
                for part, (present, absent) in sorted(words.items())
                if (weight := round(_SCALE * (present - absent)))
            },
            starts={
                name: round(_SCALE * (start + rows[name][0] - rows[name][1]))
                for name in _WEAK
            },
        )

    def row_of(self, text: Text, off: set[str]) -> str:
        """
        What the table says, without what these folds alone prompted.
        """
        whole, *causes = (
            [_ALL[i] for i in rows if _is_on(i, self._prompted[i], off)]
            for rows in text.rows
        )
        for rows in causes:
            strong = [row for row in rows if row.strength <= PHRASE]
            if strong:
                return f"cause {_strongest(strong)}"
        return _strongest(whole) if whole else "none"


_WEAK = ("none", "phrase service", "word call", "word service")
"""What the table says where words are weighed."""


def _is_on(place: int, prompted: set[str], off: set[str]) -> bool:
    is_theirs = bool(prompted) and prompted <= off
    return is_theirs if place >= len(ROWS) else not is_theirs


def _strongest(rows: list[Row]) -> str:
    row = min(rows, key=lambda row: (row.strength, row.says is not SERVICE))
    return f"{row.strength.name.lower()} {'service' if row.says is SERVICE else 'call'}"


@dataclass(slots=True)
class _Counts:
    """
    Of the errors of one kind: how many there are, and what is in how many of them.
    """

    texts: int = 0
    parts: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)


def _logs(
    what: str, seen: list[Counter[str]], counts: tuple[_Counts, _Counts]
) -> tuple[float, float]:
    """
    How much more likely the service's is where this is there, and where it is not.
    """
    of_call, of_service = (
        (by[what] + _EVEN) / (of.texts + 2 * _EVEN)
        for by, of in zip(seen, counts, strict=True)
    )
    return math.log(of_service / of_call), math.log((1 - of_service) / (1 - of_call))


def written(weights: Weights) -> str:
    """
    The module that has them.
    """
    by_weight: dict[int, list[str]] = {}
    for part, weight in weights.words.items():
        by_weight.setdefault(weight, []).append(part)
    lines = [_HEAD, "STARTS: Final = {"]
    lines += [f'    "{name}": {weight},' for name, weight in sorted(weights.starts.items())]
    lines += ["}", "", "_BY_WEIGHT: Final = {"]
    for weight in sorted(by_weight, reverse=True):
        rows = textwrap.wrap(
            ",".join(sorted(by_weight[weight])).replace(" ", "+").replace(",", ", "),
            80,
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += [f'    {weight}: """', *rows, '""",']
    return "\n".join([*lines, "}", _TAIL])


_HEAD = '''"""
What each word of an error text weighs: made by ``python -m tests.corpus.fit``, not by hand.

In tenths of a natural logarithm, the most telling of the service first. A word is known by
its first letters, and ``a+b`` is one after another; ``_`` is a path, a URL or a name in quotes.
"""

from typing import Final
'''

_TAIL = """
WORDS: Final = {
    word.replace("+", " "): weight
    for weight, words in _BY_WEIGHT.items()
    for word in words.replace(",", " ").split()
}
"""


def main() -> None:
    WEIGHTS.write_text(written(Fit(load()).weights()), encoding="utf-8")


if __name__ == "__main__":
    main()
