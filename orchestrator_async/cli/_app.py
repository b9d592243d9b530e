"""
The commands and their options, for cyclopts. What they do is in a module each.
"""

from __future__ import annotations

import functools
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.text import Text

from orchestrator_async._text import clean

from ._options import NO_SETTING, SERVING, Format, Serving, Setting, positive
from ._running import run_command


def _version() -> str:
    from importlib.metadata import version

    return version("orchestrator-async")


def _said(error: Exception) -> Text:
    # Lines are as long as they are: a terminal breaks them by itself.
    text = f"orchestrator-async: {clean(str(error))}\nMore: --help"
    return Text(text, no_wrap=True, overflow="ignore")


app = App(
    name="orchestrator-async",
    help="Run the tools of a registry, each under a circuit breaker.",
    version=_version,
    version_flags=("--version",),
    default_parameter=Parameter(negative=""),
    error_formatter=_said,
)
app.register_install_completion_command()


@app.command
def tools(
    *,
    format: Annotated[
        Format | None,
        Parameter(help="JSON for openai, anthropic or mcp.", show_choices=False),
    ] = None,
    schemas: Annotated[
        bool, Parameter(help="Show their schemas too.", show_default=False)
    ] = False,
    setting: Setting = NO_SETTING,
) -> int:
    """
    List the tools, with their descriptions.

    With --json it is a list of definitions, as a model's API wants them.
    """
    from ._tools import tools

    return run_command(functools.partial(tools, format=format, schemas=schemas), setting)


@app.command
def call(
    name: Annotated[str, Parameter(help="Name of the tool.")],
    args: Annotated[
        str | None,
        Parameter(help="JSON, @FILE, or - for standard input.", allow_leading_hyphen=True),
    ] = None,
    /,
    *,
    timeout: Annotated[
        float | None, Parameter(help="Seconds that it may take.", validator=positive)
    ] = None,
    setting: Setting = NO_SETTING,
) -> int:
    """
    Run one tool and print what a model would read of it.

    Exit code: 0 ok, 1 failed, 2 wrong usage (unknown tool, invalid arguments),
    3 refused by a circuit or a limit, 130 after Ctrl-C, 143 after SIGTERM.
    """
    from ._call import call

    return run_command(
        functools.partial(call, name=name, args=args, timeout=timeout), setting
    )


@app.command
def run(
    source: Annotated[
        str, Parameter(help="JSON Lines; - is standard input.", allow_leading_hyphen=True)
    ] = "-",
    /,
    *,
    limit: Annotated[
        int, Parameter(help="Calls at one time.", validator=Number(gte=1))
    ] = 16,
    ordered: Annotated[
        bool, Parameter(help="Results in the order of the calls.", show_default=False)
    ] = False,
    setting: Setting = NO_SETTING,
) -> int:
    """
    Run the tool calls of a file as they come, and print a line of JSON for each.

    A line is {"name": ..., "args": {...}, "id": ...}, or a call of the OpenAI or
    Anthropic API. Figures are on standard error, with --json as JSON.

    Exit code: 0 all ok, 1 any failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM.
    """
    from ._run import run

    return run_command(
        functools.partial(run, source=source, limit=limit, ordered=ordered), setting
    )


@app.command
def serve(*, serving: Serving = SERVING, setting: Setting = NO_SETTING) -> int:
    """
    Serve the tools to others by MCP: on standard input and output, or by HTTP.
    """
    from ._serve import serve

    return run_command(functools.partial(serve, serving=serving), setting)
