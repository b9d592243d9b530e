"""
A server of tools that speaks MCP: a program that is started, or an address.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    ConfigDict,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)
from pydantic.dataclasses import dataclass

from ._errors import Problem, all_wrong, wrong
from ._values import Name, Seconds, Text

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OF_STDIO: Final = ("args", "env", "cwd")


def _command(value: str) -> str:
    if not value:
        raise wrong("the command is empty", "name a program, and its arguments in args")
    return value


def _address(value: str) -> str:
    # What is wrong with it is not shown, as it may hold a password.
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise wrong("this is no address", 'write one like "https://example.com/mcp"')
    return value


def _above_zero(value: float) -> float:
    if not 0 < value < math.inf:
        raise wrong(f"{value} seconds cannot be", 'write a time above 0, such as "30s"')
    return value


def _count(value: int) -> int:
    if value < 1:
        raise wrong(f"{value} cannot be", "write a whole number of at least 1")
    return value


def _variable(value: str) -> str:
    if not value or "=" in value or "\0" in value:
        raise wrong("no variable has such a name", "write one without = and NUL")
    return value


def _header(value: str) -> str:
    if not _HEADER.fullmatch(value):
        raise wrong("no header has such a name", "write letters, digits and -")
    return value


def _line(value: str) -> str:
    if "\r" in value or "\n" in value:
        raise wrong("the value has a line break in it", "take it out")
    return value.strip(" \t")  # no header can begin or end in a blank


Count = Annotated[StrictInt, AfterValidator(_count)]
Variables = Mapping[Annotated[StrictStr, AfterValidator(_variable)], Text]
Headers = Mapping[
    Annotated[StrictStr, AfterValidator(_header)], Annotated[Text, AfterValidator(_line)]
]


@dataclass(
    frozen=True,
    kw_only=True,
    slots=True,
    repr=False,
    config=ConfigDict(extra="forbid", hide_input_in_errors=True),
)
class ServerConfig:
    """
    A server, of which either the command or the address is given.

    Its text is used as it is: variables in it are replaced when a file is read. ``repr``
    shows no values, for they may be secret.

    Args:
        command: The program that is started, and spoken to by its standard input and
            output.
        args: Its arguments.
        env: Variables of its environment, besides the few that every server has.
        cwd: Its working directory. Default: that of this program.
        url: Where a server that runs is spoken to, by streamable HTTP.
        headers: What is sent to it with each request.
        connect_timeout: Seconds until it must be ready. Default 30.
        read_timeout: Seconds that it has for a call whose tool has no timeout of its own:
            one that has stopped says nothing, and would be waited for for ever. Default 300.
        pin: Whether its tools stay what they were at first: one whose description or
            schema has changed is not called. Default false.
        trust_annotations: Whether its word is believed on which of its tools change
            nothing, or may be run twice. Default false.
        circuit: Name of a circuit that all of its tools share. Default: one a tool.
        tools: Patterns of the names, as the server has them, of the tools that are taken.
            Default: all.
        exclude: Patterns of those that are not taken all the same. Default: none.
        max_tools: Tools that are taken at the most. Default 500.
        max_result_size: Characters, or bytes, that one message from it may have. Default
            10,000,000.

    Raises:
        ValueError: Something cannot be; says what.
    """

    command: Annotated[Text, AfterValidator(_command)] | None = None
    args: tuple[Text, ...] = ()
    env: Variables | None = None
    cwd: Text | None = None
    url: Annotated[Text, AfterValidator(_address)] | None = None
    headers: Headers | None = None
    connect_timeout: Annotated[Seconds, AfterValidator(_above_zero)] = 30.0
    read_timeout: Annotated[Seconds, AfterValidator(_above_zero)] = 300.0
    pin: StrictBool = False
    trust_annotations: StrictBool = False
    circuit: Name | None = None
    tools: tuple[Name, ...] = ("*",)
    exclude: tuple[Name, ...] = ()
    max_tools: Count = 500
    max_result_size: Count = 10_000_000

    @model_validator(mode="after")
    def _is_one_kind(self) -> ServerConfig:
        given = ("command", "url", *_OF_STDIO, "headers")
        if told := list(of_two_kinds([each for each in given if getattr(self, each)])):
            raise all_wrong(told)
        return self

    def __repr__(self) -> str:
        kind = "http" if self.command is None else "stdio"
        keys = {"env": self.env, "headers": self.headers}
        said = [f", {name}: {', '.join(each)}" for name, each in keys.items() if each]
        return f"<ServerConfig {kind}{''.join(said)}>"


def of_two_kinds(given: list[str]) -> Iterator[Problem]:
    """
    What is wrong with these keys together.
    """
    if "command" in given and "url" in given:
        yield Problem((), "there are both a command and a url", "leave out one of them")
    elif "command" in given:
        if "headers" in given:
            yield Problem(("headers",), "a command is sent no headers", "take them out")
    elif "url" in given:
        for each in _OF_STDIO:
            if each in given:
                hint = "take it out, or give a command in place of the url"
                yield Problem((each,), "this is for a server that is started", hint)
    else:
        hint = "give one of them: a program, or an address"
        yield Problem((), "there is neither a command nor a url", hint)
