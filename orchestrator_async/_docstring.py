"""
A docstring, taken apart into what a tool does and what its arguments mean.

Google, NumPy and Sphinx sections are told apart by griffe, which is imported when there
is a section to look for and not before. Nothing lies below; ``_schema`` is above.
"""

from __future__ import annotations

import logging
import re
from typing import Any

_DROPPED = frozenset(
    {"parameters", "other parameters", "returns", "yields", "receives", "raises", "warns"}
)
# Said outright, since the guess is Google's style wherever a line ends with a colon.
_SPHINX = re.compile(r"^\s*:param\b[^:\n]*:", re.MULTILINE)
# A section of Google's style right below a sentence, or with nothing above it. griffe asks
# for a blank line between them, and few people write one.
_CLOSE = re.compile(
    r"(?:\A|(?<=[^\n]\n))(?:(?:keyword |other )?(?:args|arguments|params|parameters)"
    r"|returns|yields|receives|raises|exceptions|warns):[ \t]*\n(?=[ \t]+\S)",
    re.IGNORECASE,
)


def split(text: str) -> tuple[str, dict[str, str]]:
    """
    The description in a docstring and those of the arguments.

    Args:
        text: The docstring with its indentation already removed.

    Returns:
        The summary and body without the sections on arguments, results and exceptions,
        and one description for each argument that has one.
    """
    if "\n" not in text.strip():
        return text.strip(), {}
    try:
        sections = _parse(text)
        said = [
            _text(section) for section in sections if section.kind.value not in _DROPPED
        ]
    except Exception:
        # A docstring that the parser chokes on is still the best description there is.
        return text.strip(), {}
    arguments = {
        item.name.lstrip("*"): item.description.strip()
        for section in sections
        if section.kind.value in {"parameters", "other parameters"}
        for item in section.value
        if item.description
    }
    return "\n\n".join(part for part in said if part), arguments


def _parse(text: str) -> list[Any]:
    import griffe

    style: Any = "sphinx" if _SPHINX.search(text) else "auto"
    if style == "auto":
        # The guess looks for a line above the section, and so misses one at the beginning.
        style = "google" if _CLOSE.match(text) else style
        text = _CLOSE.sub(r"\n\g<0>", text)
    logger = logging.getLogger("griffe")
    quiet, logger.disabled = logger.disabled, True
    try:
        # It would warn that there are no types: they are in the signature, not in here.
        return list(griffe.Docstring(text).parse(style))
    finally:
        logger.disabled = quiet


def _text(section: Any) -> str:
    match section.kind.value:
        case "text":
            return str(section.value).strip()
        case "admonition":
            return (
                f"{section.title or section.value.kind}:\n{section.value.contents}".strip()
            )
        case "examples":
            return "Examples:\n" + "\n".join(str(part) for _, part in section.value)
        case "deprecated":
            return f"Deprecated since {section.value.version}: {section.value.description}"
        case kind:
            # Attributes, functions, modules: lists of what has a name.
            named = [f"{item.name}: {item.description}" for item in section.value]
            return "\n".join([f"{section.title or kind.capitalize()}:", *named])
