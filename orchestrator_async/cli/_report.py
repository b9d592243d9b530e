"""
How a batch goes, on standard error: a bar while it runs, and figures at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator_async._text import quote_name

from ._batch import Tally
from ._shown import as_json


def error_console() -> Console:
    """
    Standard error, for rich.
    """
    return Console(stderr=True, markup=False, highlight=False, emoji=False)


@contextmanager
def bar(tally: Tally, size: int | None, console: Console) -> Generator[None, None, None]:
    """
    Show how far a batch is, while this lasts.

    Args:
        tally: What to show.
        size: Bytes of its file, or ``None`` if nobody knows.
        console: Where.
    """

    def drawn() -> Table:
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            ProgressBar(
                total=size, completed=min(tally.read, size or 0), pulse=not size, width=30
            ),
            Text(
                f"{tally.answered} answered, {tally.failed} failed, "
                f"{tally.begun - tally.answered} running"
            ),
        )
        return grid

    # What tools print goes above it: rich stands in for both standard streams.
    with Live(get_renderable=drawn, console=console, transient=True, refresh_per_second=8):
        yield


def show_figures(
    tally: Tally, fleet: Mapping[str, Mapping[str, Any]], console: Console
) -> None:
    """
    Print how it went, in words and as a table of the tools that were called.
    """
    console.print(Text(f"{tally.answered} answered, {tally.failed} failed"))
    if not fleet:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("tool", overflow="fold")
    for heading in ("calls", "ok", "failed", "refused", "invalid", "average"):
        table.add_column(heading, justify="right")
    for name, figures in fleet.items():
        counts = ("calls", "successes", "total_failures", "rejected", "invalid")
        shown = [str(figures[each]) for each in counts]
        table.add_row(Text(quote_name(name)), *shown, f"{figures['avg_time']:.3f} s")
    console.print(table)


def write_figures(tally: Tally, fleet: Mapping[str, Mapping[str, Any]]) -> None:
    """
    Print the same as one line of JSON.
    """
    figures = {"answered": tally.answered, "failed": tally.failed, "tools": fleet}
    sys.stderr.write(as_json(figures))
    sys.stderr.flush()
