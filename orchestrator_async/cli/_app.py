"""
The commands and their options, for cyclopts. What they do is in a module each.
"""

from __future__ import annotations

import functools
import sys
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number

from ._errors import tell
from ._options import (
    NO_SETTING,
    SERVING,
    STANDARD_INPUT,
    Format,
    Serving,
    Setting,
    positive,
)
from ._running import run_command


def _version() -> str:
    from importlib.metadata import version

    return version("orchestrator-async")


app = App(
    name="orchestrator-async",
    help="Run the tools of a registry, each under a circuit breaker.",
    version=_version,
    version_flags=("--version",),
    default_parameter=Parameter(negative=""),
)
app.register_install_completion_command()


def _as_typed(source: str) -> str:
    return "-" if source == STANDARD_INPUT else source


def start() -> int:
    """
    Run the command that the process was given; the exit code.
    """
    # A dash alone would be taken for an option, or else all options for arguments.
    tokens = [STANDARD_INPUT if each == "-" else each for each in sys.argv[1:]]
    try:
        code = app(
            tokens, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        tell(f"orchestrator-async: {error}\nMore: --help")
        return 2
    return code or 0


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
        Parameter(help="JSON, @FILE, or - for standard input."),
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
        str, Parameter(help="JSON Lines; - is standard input.", show_default=_as_typed)
    ] = STANDARD_INPUT,
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

    command = functools.partial(serve, serving=serving)
    return run_command(command, setting, servers=False, reloads=True)
