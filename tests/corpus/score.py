"""
Scores ``service_errors`` on the corpus: ``python -m tests.corpus.score``.

All texts of one source are a fold. While a fold is judged, each row of the table that was
prompted by texts of that fold alone is switched off, so that no text is judged by a row that
was made for it or for a sibling. The weights of words are fitted anew to the other folds.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from orchestrator_async import Outcome, Verdict
from orchestrator_async._error_patterns import (
    OPENINGS,
    PHRASE,
    ROWS,
    SERVICE,
    WORD,
    Patterns,
    Row,
)
from orchestrator_async._error_words import Weights
from orchestrator_async._service_errors import _patterns, judge

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
    made: Any = kind_of_it
    error = made.__new__(made)
    for name, value in found.attributes.items():
        if name == "response.status_code":
            error.response = _Response(value)
        elif name == "botocore's status":
            metadata = {"HTTPStatusCode": value}
            error.response = {"ResponseMetadata": metadata}
        else:
            setattr(error, name, value)
    return cast("BaseException", error)


def _own_bases(types: tuple[str, ...]) -> tuple[type, ...]:
    import builtins

    own = [getattr(builtins, each[9:]) for each in types if each.startswith("builtins.")]
    return tuple(
        each
        for each in own
        if not any(each in one.__mro__ for one in own if one is not each)
    )


@dataclass
class _Response:
    status_code: int


Fold = Callable[[Found], str]
"""Of which fold a text is."""


def by_source(found: Found) -> str:
    """
    A fold for each server, library and program.
    """
    return found.source


_FAMILIES = {
    "anthropic": "httpx", "asyncpg": "postgres", "coreutils": "gnu", "curl": "libcurl",
    "git": "libcurl", "kubectl": "kubernetes", "make": "gnu", "mcp database": "sqlite",
    "mcp everything": "node", "mcp excel": "mcp python", "mcp fetch": "httpx",
    "mcp filesystem": "node", "mcp git": "libcurl", "mcp kubernetes": "kubernetes",
    "mcp memory": "node", "mcp postgres": "postgres", "mcp redis": "redis",
    "mcp redis node": "redis", "mcp sqlite": "sqlite", "mcp time": "mcp python", "npm": "node",
    "openai": "httpx", "pip": "python", "psql": "postgres", "psycopg": "postgres",
    "pymysql": "mysql", "mcp mysql": "mysql", "redis-cli": "redis", "requests": "urllib3",
    "sqlalchemy": "sqlite", "sqlite3": "sqlite", "text tools": "gnu",
    "axios": "node", "undici": "node", "ws": "node", "nodemailer": "node", "amqplib": "node",
    "mysql2": "mysql", "mysql-connector": "mysql", "ioredis": "redis", "pg": "postgres",
    "mongodb-node": "pymongo", "elasticsearch-node": "elasticsearch", "simple-git": "libcurl",
    "docker-py": "urllib3", "minio": "urllib3", "pygithub": "urllib3", "hvac": "urllib3",
    "influxdb": "urllib3", "kubernetes-py": "urllib3", "clickhouse": "urllib3",
    "qdrant": "httpx", "openpyxl": "python", "docx": "python", "slack-sdk": "python",
    "httplib2": "python", "asyncssh": "paramiko",
}  # fmt: skip


def by_family(found: Found) -> str:
    """
    A fold for all that hand on the errors of one engine, and one for all content. Python's
    own SQLite is among the latter's family.
    """
    if any(each.startswith("sqlite3.") for each in found.types):
        return "sqlite"
    name = "content" if found.label == "content" else found.source
    return _FAMILIES.get(name, name)


def by_chance(found: Found) -> str:
    """
    One of ten folds, whatever program a text is of.
    """
    digest = hashlib.sha256(found.id.encode()).digest()
    return str(int.from_bytes(digest, "big") % 10)


RETIRED = (
    (
        Row(PHRASE, SERVICE, r"operational error", "PEP 249"),
        "python-81c550 sqlalchemy-362b6e",
    ),
    (
        Row(WORD, SERVICE, r"-32603", "JSON-RPC 2.0"),
        "mcp-postgres-fa5f27 mcp-kubernetes-771edc",
    ),
    (Row(WORD, SERVICE, r"fatal", "a word"), "git-ca1362 mcp-git-a917a2"),
    (
        Row(PHRASE, SERVICE, r"class ?not ?found ?exception", "java.lang"),
        "java-1ef8c9",
    ),
    (Row(PHRASE, SERVICE, r"panicked at", "Rust"), "rust-ee1dbf rust-c39bb4"),
)
"""
Rows of the standards that texts have shown to be too strong, and those texts. They are back
while the only source of these is judged.
"""


def folds_of(prompted_by: str, by_id: dict[str, Found], fold: Fold) -> set[str]:
    """
    The folds that prompted a row; none for one of a standard.
    """
    if prompted_by == "standard":
        return set()
    return {fold(by_id[each]) for each in prompted_by.split()}


def patterns_without(
    name: str, by_id: dict[str, Found], fold: Fold, weights: Weights | None = None
) -> Patterns:
    """
    The table without what this fold alone prompted.
    """

    def is_its_own(prompted_by: str) -> bool:
        return folds_of(prompted_by, by_id, fold) == {name}

    return Patterns(
        [
            *(row for row in ROWS if not is_its_own(row.prompted_by)),
            *(row for row, shown_by in RETIRED if is_its_own(shown_by)),
        ],
        [each for each in OPENINGS if not is_its_own(each.prompted_by)],
        weights,
    )


def standard_only() -> Patterns:
    """
    The table as it was before the corpus was seen.
    """
    return Patterns(
        [
            *(row for row in ROWS if row.prompted_by == "standard"),
            *(row for row, _ in RETIRED),
        ],
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
        return 1 - wrong / sum(
            n for (label, _), n in self.confusion.items() if label in labels
        )


def fitted(corpus: Iterable[Found], patterns: Patterns) -> Score:
    """
    One table for all texts: a fit, for those that prompted rows.
    """
    score = Score()
    for found in corpus:
        score.add(found, judge(outcome_of(found), patterns))
    return score


def by_table_alone(_: str) -> None:
    """
    No weights, whatever is left out.
    """


def cross_validated(
    corpus: Iterable[Found],
    fold: Fold = by_source,
    weights_without: Callable[[str], Weights | None] = by_table_alone,
) -> Score:
    """
    Each fold by a table that it had no part in, and by weights that were fitted without it.
    """
    corpus = list(corpus)
    by_id = {each.id: each for each in corpus}
    tables = {
        each: patterns_without(each, by_id, fold, weights_without(each))
        for each in set(map(fold, corpus))
    }
    score = Score()
    for found in corpus:
        score.add(found, judge(outcome_of(found), tables[fold(found)]))
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
    from .fit import Fit

    corpus = load()
    crossed = cross_validated(corpus, by_source, Fit(corpus).weights)
    families = cross_validated(corpus, by_family, Fit(corpus, by_family).weights)
    chance = cross_validated(corpus, by_chance, Fit(corpus, by_chance).weights)
    print("\n".join(report(crossed)), "\n")
    for name, score in (
        ("cross-validated, ten folds by chance", chance),
        ("cross-validated by sources", crossed),
        ("by families of sources", families),
        ("the table alone", cross_validated(corpus)),
        ("the table alone, by families", cross_validated(corpus, by_family)),
        ("standards alone", fitted(corpus, standard_only())),
        ("all rows and weights, a fit", fitted(corpus, _patterns())),
    ):
        errors = score.share_of("service", "call")
        print(f"{name}: {score.share:.1%} of {score.total}; of errors alone {errors:.1%}")


if __name__ == "__main__":
    main()
