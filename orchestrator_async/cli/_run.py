"""
The command ``run``.
"""

from __future__ import annotations

import functools
import os
import stat
import sys
from contextlib import nullcontext

from ._batch import Batch, Tally
from ._errors import CliError
from ._options import STANDARD_INPUT
from ._report import bar, error_console, show_figures, write_figures
from ._running import Session
from ._stdio import opened, read_chunk


async def run(session: Session, source: str, limit: int, ordered: bool) -> int:
    """
    Make the calls of a file and print their results.

    Returns:
        The exit code.
    """
    output, tally = session.stdio.output, Tally()
    if source == STANDARD_INPUT:
        name, descriptor = "Standard input", session.stdio.input
    else:
        name, descriptor = source, opened(source)
    if descriptor is None:
        raise CliError("There is no standard input to read calls from.")
    console = error_console()
    # Among results on the same screen a bar would only be in the way.
    is_shown = console.is_terminal and not console.is_dumb_terminal
    shown = is_shown and not output.is_terminal
    batch = Batch(session.orch, output, limit=limit, ordered=ordered, tally=tally)
    try:
        with bar(tally, _size(descriptor), console) if shown else nullcontext():
            await batch.run(functools.partial(read_chunk, descriptor, name))
    finally:
        if sys.stderr is not None and not batch.is_cut_off:
            fleet = session.orch.get_fleet_stats()
            if session.setting.json:
                write_figures(tally, fleet)
            else:
                show_figures(tally, fleet, console)
    return 1 if tally.failed else 0


def _size(descriptor: int) -> int | None:
    found = os.fstat(descriptor)
    return found.st_size if stat.S_ISREG(found.st_mode) else None
