"""
How many values a piece of JSON text holds, told without parsing it.

Parsing cannot be interrupted, and its time goes by the number of values more than by
the number of characters: a megabyte of empty lists takes a hundred times as long as a
megabyte of prose. Nothing lies below; ``_tool`` is above.
"""

from __future__ import annotations

from typing import overload


def holds_more_values(text: str | bytes, limit: int) -> bool:
    """
    Whether JSON text holds more than so many values.

    What is counted is commas and opening brackets outside of strings, at any depth.
    Text that is no JSON gets some answer, in a time that its length bounds.
    """
    # A value and what parts it from the next are two characters at the least.
    if len(text) <= 2 * limit:
        return False
    # What is crowded is mostly so from its beginning, which is much cheaper to look at.
    for part in (text[: 8 * limit], text):
        if _over(part, limit) and _over(_without_strings(part, limit), limit):
            return True
    return False


@overload
def _over(text: str, limit: int) -> bool: ...
@overload
def _over(text: bytes, limit: int) -> bool: ...
def _over(text: str | bytes, limit: int) -> bool:
    if isinstance(text, str):
        return text.count(",") + text.count("[") + text.count("{") > limit
    return text.count(b",") + text.count(b"[") + text.count(b"{") > limit


def _without_strings(text: str | bytes, limit: int) -> str:
    """
    What stands between the strings; of very many strings, no more than is needed to
    know that they are too many.
    """
    if isinstance(text, bytes):
        text = text.decode("latin-1")  # the marks are the same, and nothing else counts
    plain = text.replace("\\\\", "").replace('\\"', "")
    # Each value is a string at the most, and may have another for its name.
    parts = plain.split('"', 4 * limit + 4)
    if len(parts) > 4 * limit + 4:
        return "," * (limit + 1)
    return "".join(parts[::2])
