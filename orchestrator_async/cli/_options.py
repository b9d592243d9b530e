"""
The options that every command has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import Parameter

STANDARD_INPUT: Final = "@-"
"""What stands for a dash, which no option can be taken for."""

Backend = Literal["asyncio", "trio", "uvloop"]
Format = Literal["openai", "anthropic", "mcp"]


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """
    Where the tools are, and how they are run.

    Attributes:
        tools: What ``--tools`` was given, each time that it was.
        config: A file with settings and servers.
        backend: The event loop.
        json: Whether JSON is printed.
        debug: Whether errors are shown with their tracebacks.
    """

    tools: Annotated[
        tuple[str, ...],
        Parameter(
            help="module:registry or file.py:registry; repeatable.", show_default=False
        ),
    ] = ()
    config: Annotated[
        Path | None, Parameter(help="TOML file with settings and servers of tools.")
    ] = None
    backend: Annotated[
        Backend, Parameter(help="asyncio, trio or uvloop.", show_choices=False)
    ] = "asyncio"
    json: Annotated[bool, Parameter(help="Print JSON.", show_default=False)] = False
    debug: Annotated[
        bool, Parameter(help="Show errors with tracebacks.", show_default=False)
    ] = False


NO_SETTING: Final = Setting()


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True, slots=True)
class Serving:
    """
    How the tools are served.

    Attributes:
        http: ``[HOST:]PORT``, or ``None`` for standard input and output.
        path: The path of the endpoint.
        token_env: The variable of the environment that has the token.
        allow_origin: Origins of web pages that may ask.
        allow_host: Names of hosts by which it may be asked.
        figures_tool: Whether there is a tool that tells the figures.
    """

    http: Annotated[str | None, Parameter(help="[HOST:]PORT to serve on by HTTP.")] = None
    path: Annotated[str, Parameter(help="Path of the endpoint.")] = "/mcp"
    token_env: Annotated[str, Parameter(help="Variable that has the bearer token.")] = (
        "ORCHESTRATOR_TOKEN"
    )
    allow_origin: Annotated[
        tuple[str, ...],
        Parameter(
            help="Origin of a web page that may ask; repeatable.", show_default=False
        ),
    ] = ()
    allow_host: Annotated[
        tuple[str, ...],
        Parameter(help="Host name to be asked by; repeatable.", show_default=False),
    ] = ()
    figures_tool: Annotated[
        bool, Parameter(help="Add a tool that tells the figures.", show_default=False)
    ] = False


SERVING: Final = Serving()


def positive(kind: object, value: float | None) -> None:
    """
    Raise ``ValueError`` for what is no number above 0.
    """
    if value is not None and not 0 < value < math.inf:
        raise ValueError("Must be a number above 0.")
