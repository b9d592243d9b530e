"""
The command ``tools``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from orchestrator_async._text import clean, quote_name

from ._errors import CliError
from ._options import Format
from ._running import Session
from ._shown import as_json


async def tools(session: Session, format: Format | None, schemas: bool) -> int:
    """
    Print what tools there are.

    Returns:
        The exit code.
    """
    output = session.stdio.output
    try:
        form = format or ("openai" if session.setting.json else "mcp")
        told = session.orch.registry.definitions(form)
    except TypeError as error:
        raise CliError(str(error)) from error
    if session.setting.json or format is not None:
        output.write(as_json(told, indent=2))
    elif schemas:
        output.show(*_schemas(told))
    else:
        output.show(_table(told) if told else Text("There are no tools."))
    return 0


def _table(told: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("tool", overflow="fold")
    table.add_column("description", overflow="fold")
    for each in told:
        table.add_row(Text(quote_name(each["name"])), Text(clean(each["description"])))
    return table


def _schemas(told: list[dict[str, Any]]) -> Iterator[Text]:
    for each in told:
        yield Text(quote_name(each["name"]), style="bold")
        if each["description"]:
            yield Text(clean(each["description"]))
        yield Text(clean(as_json(each["inputSchema"], indent=2), limit=100_000))
