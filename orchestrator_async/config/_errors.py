"""
What is wrong with a configuration, all of it at once, by key, with how to mend it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from orchestrator_async import OrchestratorError

_MOST: Final = 100
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")

Key = tuple[str | int, ...]
"""The names and numbers that lead to a place of a file."""


class ConfigError(OrchestratorError, ValueError):
    """
    A configuration that cannot be. The message has a line for each mistake.

    No value that came from the environment is in it.

    Args:
        errors: One mapping each, see below.
        path: The file, or ``None`` where it was none.

    Attributes:
        path: As given.
        errors: For each mistake a mapping of ``key`` (where it is, ``servers.git.args[1]``,
            or empty for the whole file), ``problem`` and ``hint`` (how to mend it).
    """

    def __init__(
        self, errors: Iterable[Mapping[str, str]], *, path: Path | None = None
    ) -> None:
        self.errors: tuple[Mapping[str, str], ...] = tuple(errors)
        self.path = path
        where = "" if path is None else f"{shown(str(path), 1000)}: "
        super().__init__("\n".join(f"{where}{_line(each)}" for each in self.errors))


def _line(error: Mapping[str, str]) -> str:
    key = f"{error['key']}: " if error["key"] else ""
    return f"{key}{error['problem']}; {error['hint']}"


class Problem(NamedTuple):
    """
    One mistake, before its key is text.
    """

    key: Key
    problem: str
    hint: str

    def told(self) -> dict[str, str]:
        """
        It as a ``ConfigError`` has it.
        """
        return {"key": key_text(self.key), "problem": self.problem, "hint": self.hint}


def wrong(problem: str, hint: str) -> PydanticCustomError:
    """
    What a validator raises for the value that it is asked of.
    """
    # The text is passed as a value, for a template would take braces in it for its own.
    return PydanticCustomError("config", "{problem}", {"problem": problem, "hint": hint})


def all_wrong(problems: Iterable[Problem]) -> ValidationError:
    """
    What a validator raises for several places within its value.
    """
    return ValidationError.from_exception_data(
        "configuration",
        [
            InitErrorDetails(type=wrong(each.problem, each.hint), loc=each.key, input=None)
            for each in problems
        ],
        hide_input=True,
    )


def shown(text: str, most: int = _MOST) -> str:
    """
    Foreign text in one line: not too long, and without what a terminal would obey.
    """
    if len(text) > most:
        text = f"{text[:most]}..."
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def quoted(text: str) -> str:
    """
    The same in quotes.
    """
    return f'"{shown(text)}"'


def key_text(key: Key) -> str:
    """
    A place as TOML would write it: ``tools."git__*".alternatives[1]``.
    """
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = str(part)  # of a mapping that is of no file, it may be anything
            name = name if _BARE.fullmatch(name) else quoted(name)
            text += f".{name}" if text else name
    return text


def kind_of(value: Any) -> str:
    """
    What a value of a file is, without showing it.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    names: dict[type, str] = {
        str: "text",
        int: "a whole number",
        float: "a number",
        list: "a list",
        dict: "a table",
        type(None): "null",
    }
    return names.get(type(value), f"a {type(value).__name__}")
