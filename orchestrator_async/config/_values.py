"""
Kinds of values that TOML can say: times, names, what is off, and text with variables.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainValidator,
    StrictStr,
    ValidationInfo,
)

from ._errors import kind_of, quoted, shown, wrong

_UNITS: Final = {"d": "86400", "h": "3600", "m": "60", "s": "1", "ms": "0.001"}
_NUMBER: Final = r"(\d{1,18}(?:\.\d{1,18})?)"
_DURATION: Final = re.compile("".join(f"(?:{_NUMBER}{unit})?" for unit in _UNITS), re.ASCII)
_EXAMPLES: Final = 'write "250ms", "30s" or "5m"'

_VARIABLE: Final = re.compile(
    r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}"
    r"|(?P<broken>\{))"
)
_MOST_NAME: Final = 128


def seconds(value: Any) -> float:
    """
    A number as it is, and text as seconds: ``"1h30m"``.
    """
    if type(value) is int or type(value) is float:
        # What no float can be is refused by whatever takes it, with words of its own.
        return value if value <= sys.float_info.max else math.inf
    if not isinstance(value, str):
        raise wrong(f"{kind_of(value)} is no duration", _EXAMPLES)
    found = _DURATION.fullmatch(value)
    if found is None or not value:
        raise wrong(f"{quoted(value)} is no duration", _EXAMPLES)
    # As decimals, for a sum of floats is not always the float that one would write.
    parts = zip(found.groups(), _UNITS.values(), strict=True)
    return float(sum(Decimal(each) * Decimal(unit) for each, unit in parts if each))


def off(value: Any) -> Any:
    """
    ``None``, for which TOML has no word, is said by ``false``.
    """
    return None if value is False else value


def name(value: str) -> str:
    """
    Text that can be the name of a tool, a circuit or a group.
    """
    if not 0 < len(value) <= _MOST_NAME:
        what = f"a name of {len(value)} characters" if value else "an empty name"
        raise wrong(f"{what} cannot be", f"write one of 1 to {_MOST_NAME} characters")
    return value


def filled(value: str, info: ValidationInfo) -> str:
    """
    Text with the variables in it replaced, if there is an environment to take them from.
    """
    if info.context is not None:
        value = _replaced(value, info.context["env"])
    if "\0" in value:
        raise wrong("there is a NUL character in it", "take it out")
    try:
        os.fsencode(value)  # what the system has given is taken, UTF-8 or not
    except UnicodeEncodeError:
        raise wrong("there is half a character in it", "take it out") from None
    return value


def _replaced(text: str, env: Mapping[str, str]) -> str:
    missing: list[str] = []

    def replacement(found: re.Match[str]) -> str:
        variable, default = found["name"], found["default"]
        if found["dollar"]:
            return "$"
        if variable is None:
            raise wrong(
                "after ${ there is no name and }", "write ${NAME}, or $${ for the text"
            )
        value = env.get(variable)
        if value or (value is not None and default is None):
            return value
        if default is None:
            missing.append(variable)
        return default or ""

    text = _VARIABLE.sub(replacement, text)
    if missing:
        names = [shown(each) for each in dict.fromkeys(missing)]
        are = "variable {} is" if len(names) == 1 else "variables {} are"
        problem = f"the {are.format(', '.join(names))} not set"
        raise wrong(problem, f"set it, or write ${{{names[0]}:-a default}}")
    return text


Seconds = Annotated[float, PlainValidator(seconds)]
Name = Annotated[StrictStr, AfterValidator(name)]
Text = Annotated[StrictStr, AfterValidator(filled)]
Off: Final = BeforeValidator(off)
