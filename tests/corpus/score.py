"""
Scores ``service_errors`` on the corpus: ``python -m tests.corpus.score``.

All texts of one source are a fold. While a fold is judged, each row of the table that was
prompted by texts of that fold alone is switched off, so that no text is judged by a row that
was made for it or for a sibling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from orchestrator_async import Outcome, Verdict
from orchestrator_async._error_patterns import OPENINGS, ROWS, Opening, Patterns, Row
from orchestrator_async._service_errors import judge

from .found import LABELS, Found, load

RIGHT = {"service": Verdict.FAILURE, "call": Verdict.IGNORE, "content": Verdict.SUCCESS}


def outcome_of(found: Found) -> Outcome:
    """
    What a tool would have returned or raised.
    """
    match found.form:
        case "exception":
            return Outcome(error=_exception(found))
        case "error":
            return Outcome(value={"error": found.text})
        case "mcp" | "mcp-ok":
            block = {"type": "text", "text": found.text}
            return Outcome(value={"content": [block], "isError": found.form == "mcp"})
        case _:
            return Outcome(value=found.text)


def _exception(found: Found) -> BaseException:
    """
    One of classes of the same names, under the same classes of Python's own.
    """
    base = _own_bases(found.types)
    for name in reversed(found.types):
        module, _, kind = name.rpartition(".")
        if module != "builtins":
            base = (type(kind, base, {"__module__": module}),)
    kind_of_it = type(base[0].__name__, base, {"__str__": lambda _: found.text})
    kind_of_it.__module__ = found.types[0].rpartition(".")[0]
    error: BaseException = kind_of_it.__new__(kind_of_it)
    for name, value in found.attributes.items():
        if name == "response.status_code":
            error.response = _Response(value)  # type: ignore[attr-defined]
        elif name == "botocore's status":
            metadata = {"HTTPStatusCode": value}
            error.response = {"ResponseMetadata": metadata}  # type: ignore[attr-defined]
        else:
            setattr(error, name, value)
    return error


def _own_bases(types: tuple[str, ...]) -> tuple[type, ...]:
    import builtins

    own = [getattr(builtins, each[9:]) for each in types if each.startswith("builtins.")]
    return tuple(
        each for each in own if not any(each in one.__mro__ for one in own if one is not each)
    )


@dataclass
class _Response:
    status_code: int


def sources_of(row: Row | Opening, by_id: dict[str, Found]) -> set[str]:
    """
    The folds that prompted the row; none for one of a standard.
    """
    if row.prompted_by == "standard":
        return set()
    return {by_id[each].source for each in row.prompted_by.split()}


def patterns_without(source: str, by_id: dict[str, Found]) -> Patterns:
    """
    The table without what this source alone prompted.
    """
    return Patterns(
        [row for row in ROWS if sources_of(row, by_id) != {source}],
        [each for each in OPENINGS if sources_of(each, by_id) != {source}],
    )


def standard_only() -> Patterns:
    """
    The table as it was before the corpus was seen.
    """
    return Patterns(
        [row for row in ROWS if row.prompted_by == "standard"],
        [each for each in OPENINGS if each.prompted_by == "standard"],
    )


@dataclass
class Score:
    """
    What was right, and what was not.
    """

    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_source: dict[str, Counter[bool]] = field(default_factory=dict)
    wrong: list[tuple[Found, Verdict]] = field(default_factory=list)

    def add(self, found: Found, said: Verdict) -> None:
        is_right = said is RIGHT[found.label]
        self.confusion[found.label, said.value] += 1
        self.by_source.setdefault(found.source, Counter())[is_right] += 1
        if not is_right:
            self.wrong.append((found, said))

    @property
    def total(self) -> int:
        return self.confusion.total()

    @property
    def share(self) -> float:
        """
        Of all texts, those that were judged right.
        """
        return 1 - len(self.wrong) / self.total

    def share_of(self, *labels: str) -> float:
        """
        The same of texts with these labels.
        """
        wrong = sum(found.label in labels for found, _ in self.wrong)
        return 1 - wrong / sum(n for (label, _), n in self.confusion.items() if label in labels)


def fitted(corpus: Iterable[Found], patterns: Patterns) -> Score:
    """
    One table for all texts: a fit, for those that prompted rows.
    """
    score = Score()
    for found in corpus:
        score.add(found, judge(outcome_of(found), patterns))
    return score


def cross_validated(corpus: Iterable[Found]) -> Score:
    """
    Each source by a table that it had no part in.
    """
    corpus = list(corpus)
    by_id = {each.id: each for each in corpus}
    tables = {each: patterns_without(each, by_id) for each in {one.source for one in corpus}}
    score = Score()
    for found in corpus:
        score.add(found, judge(outcome_of(found), tables[found.source]))
    return score


def report(score: Score) -> Iterator[str]:
    """
    The folds, the confusions, and every text that was judged wrong.
    """
    yield f"{'source':<20} {'right':>6} {'wrong':>6}"
    for source, counts in sorted(score.by_source.items()):
        yield f"{source:<20} {counts[True]:>6} {counts[False]:>6}"
    yield from ["", f"{'':<10}" + "".join(f"{each.value:>10}" for each in Verdict)]
    for label in LABELS:
        numbers = [score.confusion[label, each.value] for each in Verdict]
        yield f"{label:<10}" + "".join(f"{each:>10}" for each in numbers)
    yield from ["", "wrong:"]
    for found, said in score.wrong:
        text = " ".join(found.text.split())[:100]
        yield f"  {found.id}: {found.label}, but {said.value}: {text}"


def main() -> None:
    corpus: Any = load()
    crossed = cross_validated(corpus)
    print("\n".join(report(crossed)), "\n")
    for name, score in (
        ("cross-validated", crossed),
        ("standards alone", fitted(corpus, standard_only())),
        ("all rows, a fit", fitted(corpus, Patterns())),
    ):
        errors = score.share_of("service", "call")
        print(f"{name}: {score.share:.1%} of {score.total}; of errors alone {errors:.1%}")


if __name__ == "__main__":
    main()
