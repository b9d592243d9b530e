"""
The verdicts on several libraries, as text and as JSON.
"""

from __future__ import annotations

import dataclasses
import platform
import string
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .bench import Mark, Verdict
from .peers import OURS
from .scenarios import SCENARIOS


@dataclass(kw_only=True)
class Row:
    """
    One library on one loop.

    Attributes:
        name: What it is installed as.
        title: What the row is called.
        loop: The event loop.
        version: The installed version.
        missing: Why there are no verdicts; empty if there are.
        verdicts: By the names of the scenarios.
    """

    name: str
    title: str
    loop: str = "asyncio"
    version: str = ""
    missing: str = ""
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """
        Whether it is this library.
        """
        return self.name == OURS


def as_text(rows: Sequence[Row]) -> str:
    """
    A table of letters, with what they stand for and what was measured below it.
    """
    letters = _Letters(rows)
    width = max(len(row.title) for row in rows) + 2
    heads = [each.split(" ", 1) for each in SCENARIOS]
    lines = [
        " " * width + "".join(f"{head[part]:<11}" for head in heads) for part in (0, 1)
    ]
    for row in rows:
        cells = [f"{letters(row.verdicts[each]):<11}" for each in row.verdicts]
        lines.append(f"{row.title:<{width}}{''.join(cells) or row.missing}")
    lines += ["", *letters.legend(), "", _measured(rows)]
    return "\n".join(line.rstrip() for line in lines)


class _Letters:
    """
    A letter for each fault, in the order in which they appear.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        said = [each for row in rows for each in row.verdicts.values() if each.says]
        texts = list(dict.fromkeys(part for each in said for part in _parts(each)))
        self._letters = dict(zip(texts, string.ascii_lowercase, strict=False))

    def __call__(self, verdict: Verdict) -> str:
        if verdict.mark is Mark.RIGHT:
            return "right"
        marks = " ".join(self._letters.get(each, "?") for each in _parts(verdict))
        return f"{verdict.mark} {marks}" if verdict.mark is not Mark.FAULT else marks

    def legend(self) -> list[str]:
        return [f"  {letter}  {text}" for text, letter in self._letters.items()]


def _parts(verdict: Verdict) -> list[str]:
    return verdict.says.split("; ")


def _measured(rows: Sequence[Row]) -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    named = dict.fromkeys(f"{row.name} {row.version}" for row in rows if row.version)
    return textwrap.fill(f"{python}; {', '.join(named)}", 92)


def as_json(rows: Sequence[Row]) -> dict[str, Any]:
    """
    All of it, for a program.
    """
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "rows": [dataclasses.asdict(row) for row in rows],
    }
