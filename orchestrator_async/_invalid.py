"""
Why the arguments were refused, in words that a model can act on.

What was expected goes in, what was given stays out: it may be a secret, and it may be a
megabyte. Of the given value only the name of its type is told. Above lies ``_validator``;
pydantic's errors come here as objects, and nothing here imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from ._log import log_with_traceback
from ._text import clean

ALL = "(all)"
OBJECT = "one JSON object that holds the arguments by name"
# Stands for "a member of a union" in the path of an error, and is taken out of it again.
UNION = "\0"
# The same for one that was chosen by its tag, which stands before it.
TAG = "\0tag"
# A list of more than this costs milliseconds only to be counted and thrown away.
MANY = 500
_ENTRIES = 10
_PATH = 100
_TEXT = 300
_SHOULD = "Input should be "
NO_OBJECT = ({"argument": ALL, "expected": OBJECT},)


class TooManyError(Exception):
    """
    Ends a validation that has found enough wrong; it never leaves the library.
    """


def entries(
    error: Exception, *, tool_name: str, known: Sequence[str]
) -> list[dict[str, str]]:
    """
    One entry for each bad argument, ten at most, and one that says how many more.

    Args:
        error: What the validator raised, a ``ValidationError`` or anything else.
        tool_name: For the log.
        known: The names of the arguments that there are.
    """
    if isinstance(error, TooManyError):
        return [_entry(ALL, _none_but(known))]
    if isinstance(error, RecursionError):
        return [_entry(ALL, "arguments that are nested less deep, or fewer of them")]
    count: Callable[[], int] | None = getattr(error, "error_count", None)
    if count is None:
        # Not pydantic's, so a check of the tool's author broke; its message may well
        # quote the value, and goes to the log alone.
        log_with_traceback(f"{tool_name}: a check of its arguments raised", error, clean)
        return [_entry(ALL, f"other values: a check of them failed with {_name(error)}")]
    if count() > MANY:
        return [_entry(ALL, f"values that fit the schema; {count()} of them do not")]
    try:
        found = error.errors(include_url=False)  # type: ignore[attr-defined]
    except Exception:
        # The message is made of the author's exception, whose own text may fail.
        return [_entry(ALL, "values that fit the schema")]
    return _bounded(_merged(found, known))


def _merged(found: list[dict[str, Any]], known: Sequence[str]) -> dict[str, str]:
    """
    What was expected at each path: the members of a union speak for one field together.
    """
    said: dict[str, list[str]] = {}
    given: dict[str, str] = {}
    for item in found:
        path = _path(item["loc"])
        words = _expected(item, known)
        if words not in said.setdefault(path, []):
            said[path].append(words)
        if item["msg"].startswith(_SHOULD):
            given[path] = f" (given: {_name(item['input'])})"
    return {path: " or ".join(words) + given.get(path, "") for path, words in said.items()}


def _bounded(merged: dict[str, str]) -> list[dict[str, str]]:
    shown = [_entry(path, words) for path, words in islice(merged.items(), _ENTRIES)]
    more = len(merged) - len(shown)
    return [*shown, _entry(ALL, f"{more} or more others do not fit")] if more else shown


def _expected(item: dict[str, Any], known: Sequence[str]) -> str:
    message, context = item["msg"], item.get("ctx", {})
    match item["type"]:
        case "missing":
            return "a value, for it is required"
        case "extra_forbidden" if len(item["loc"]) == 1:
            return f"no such argument; {_none_but(known)}"
        case "extra_forbidden" | "unexpected_keyword_argument":
            return "no such field"
        case "invalid_key":
            return "a name that is a string"
        case "json_invalid":
            return f"{OBJECT}; {_lowered(message)}"
        case "union_tag_invalid":
            return f"{context['discriminator']} to be one of {context['expected_tags']}"
        case "dict_type" | "string_unicode" if not item["loc"]:
            return OBJECT
    if not message.startswith(_SHOULD):
        return _without(item["input"], _lowered(message))
    words: str = message.removeprefix(_SHOULD)
    # The second half of these says how the parser stumbled, at which character even.
    return words.split(", ")[0] if item["type"].endswith("_parsing") else words


def _without(value: Any, message: str) -> str:
    """
    A message that a validator of the tool made, rid of the value if it quotes it.
    """
    quoted = str(value) if isinstance(value, (str, int, float)) else ""
    return message.replace(quoted, "...") if len(quoted) > 2 else message


def _path(location: tuple[int | str, ...]) -> str:
    parts: list[int | str] = []
    for part in location:
        if part == TAG:
            parts.pop()
        elif part not in {UNION, "[key]"}:
            parts.append(part)
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
        if len(path) > _PATH:
            break
    return _cut(path, _PATH) or ALL


def _none_but(known: Sequence[str]) -> str:
    if not known:
        return "the tool takes no arguments"
    names = ", ".join(known[:_ENTRIES]) + (", ..." if len(known) > _ENTRIES else "")
    return f"the arguments are {names}"


def _entry(path: str, expected: str) -> dict[str, str]:
    return {"argument": path, "expected": _cut(expected, _TEXT)}


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _lowered(message: str) -> str:
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message[:1].lower() + message[1:]


def _name(value: object) -> str:
    return type(value).__name__
