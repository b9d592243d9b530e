"""
What the demo shows: a live table below the log in a terminal, a plain log elsewhere.

All foreign text (what tools return, what exceptions say, what the model asks) goes
through :func:`foreign` into a ``Text``: shown as text, never as markup or control codes.
Above it stands ``_demo_story``; below it rich alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

STATES = {"closed": "green", "open": "bold red", "half_open": "yellow"}
PLAIN_WIDTH = 110
"""Columns of the table where no terminal says how many there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """
    One claim of the demo and what was seen of it.
    """

    claim: str
    holds: bool
    seen: str


def foreign(text: object, limit: int = 150) -> str:
    """
    Text that somebody else wrote, as one short line without control characters.
    """
    words = " ".join(str(text).split())
    shown = "".join(letter if letter.isprintable() else "?" for letter in words)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."


class Screen:
    """
    The terminal, or whatever stands in its place.

    Args:
        console: Where to write; standard output unless given.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=sys.stdout, highlight=False)
        self.status = ""
        self._live: Live | None = None
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            # Drawn by the story's own loop: another thread must not ask the orchestrator.
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
        elif console is None:
            self.console.width = PLAIN_WIDTH

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def write(
        self, *parts: str | tuple[str, str], indent: int = 0, crop: bool = False
    ) -> None:
        """
        Something for the log, of texts and of texts with their styles.

        Args:
            indent: Columns to leave free on the left.
            crop: Cut it at the terminal's edge instead of wrapping it.
        """
        text = Text.assemble(*parts)
        if self._live is None:
            self.console.print(Text(" " * indent) + text, soft_wrap=True)
        elif crop:
            self.console.print(text, no_wrap=True, overflow="crop")
        else:
            self.console.print(Padding(text, (0, 0, 0, indent)) if indent else text)

    def say(self, text: str) -> None:
        """
        What the demo itself does.
        """
        self.status = text
        self.write(("** ", "bold magenta"), (foreign(text, 500), "bold"))

    def turn(self, content: str) -> None:
        """
        The assistant speaks.
        """
        self.status = "The tools run."
        self.write()
        self.write(("assistant  ", "bold cyan"), (foreign(content), "italic"))

    def answer(
        self, how: str, tool: str, arguments: str, seconds: float, content: str
    ) -> None:
        """
        One tool call and what the model reads of it.
        """
        style = {"ok": "green", "failed": "red"}.get(how, "yellow")
        head: tuple[str | tuple[str, str], ...] = (
            (f"  {how:<8}", style),
            (f"{foreign(tool):<13}", "bold"),
            f"{foreign(arguments, 48):<48}",
            (f"{self.seconds(seconds) if seconds else 'not run':>8}  ", "dim"),
        )
        if how == "ok":
            self.write(*head, foreign(content), crop=True)
        else:
            self.write(*head, crop=True)
            self.write(foreign(_message_of(content), 300), indent=10)

    def transition(self, circuit: str, old: str, new: str, reason: object) -> None:
        """
        A circuit moved.
        """
        self.write(
            (f"  circuit {foreign(circuit)}: ", "bold"),
            (old, STATES.get(old, "")),
            " -> ",
            (new, STATES.get(new, "")),
            f"  ({foreign(reason)})" if reason else "",
        )

    def draw(self, stats: Mapping[str, Mapping[str, Any]]) -> None:
        """
        The live part: what goes on, and the fleet.
        """
        if self._live is not None:
            status = Text(foreign(self.status), style="dim", no_wrap=True, overflow="crop")
            self._live.update(Group(Text(), self._table(stats), status), refresh=True)

    def fleet(self, stats: Mapping[str, Mapping[str, Any]]) -> None:
        """
        The fleet at the end.
        """
        self.write()
        self.console.print(self._table(stats))

    def checks(self, checks: Iterable[Check]) -> None:
        """
        Each claim with what was seen.
        """
        signs = ("ok", "FAILED") if self._ascii else ("✓", "✗")
        for check in checks:
            sign, style = (signs[0], "green") if check.holds else (signs[1], "bold red")
            self.write(
                (f"{sign} ", style),
                foreign(check.claim),
                (f": {foreign(check.seen)}", "dim"),
            )

    def seconds(self, seconds: float) -> str:
        """
        A duration in the unit that suits it.
        """
        if seconds < 1e-3:
            return f"{seconds * 1e6:.0f} {'us' if self._ascii else 'µs'}"
        return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"

    @property
    def _ascii(self) -> bool:
        try:
            "✓✗µ".encode(self.console.encoding)
        except UnicodeEncodeError:
            return True
        return False

    def _table(self, stats: Mapping[str, Mapping[str, Any]]) -> Table:
        table = Table(title="fleet", title_justify="left")
        table.add_column("tool")
        table.add_column("circuit")
        for heading in ("runs", "ok", "failed", "refused", "in flight", "average"):
            table.add_column(heading, justify="right")
        for tool, row in stats.items():
            figures = [
                row[key] for key in ("calls", "successes", "total_failures", "rejected")
            ]
            table.add_row(
                Text(foreign(tool)),
                Text(str(row["state"]), style=STATES.get(row["state"], "")),
                *(str(figure) for figure in (*figures, row["in_flight"])),
                self.seconds(row["avg_time"]) if row["calls"] else "",
            )
        return table


def _message_of(content: str) -> str:
    """
    The sentence in an answer that reports an error, else the answer.
    """
    try:
        answer = json.loads(content)
    except ValueError:
        return content
    if isinstance(answer, dict) and isinstance(answer.get("error"), str):
        return str(answer["error"])
    return content
