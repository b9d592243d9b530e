"""
What foreign text goes through before anybody reads it: a model, a log, a page.

The text of an exception may hold a password, a terminal's escape sequences, or ten
megabytes. Everything that shows such text imports it; below it lies ``_credentials``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache

from ._credentials import mask

__all__ = ["clean", "describe_error", "quote_name"]

# Read beyond the limit, so that a credential across the cut is mostly seen whole.
_MARGIN = 1024
_ROUNDS = 8
_WITHHELD = "[text withheld]"
_INNER_ERRORS = 5
_INNER_LIMIT = 300


def clean(text: str, *, limit: int = 2000) -> str:
    """
    Make foreign text safe to show: short, without control characters and credentials.

    The head of the text is kept, and a last line says how many characters were cut.
    Control characters go (but for newline and tab), and so do escape sequences, lone
    surrogates, and characters that are invisible or turn the direction of writing.
    Credentials become ``***``: in URLs, in headers, after ``Bearer``, beside names like
    ``password`` and ``api_key``, and the well-known shapes of tokens and private keys.

    The time it takes grows with the limit, not with the text. Cleaning twice is the
    same as cleaning once.

    Args:
        text: Any text.
        limit: Most characters of the result.

    Returns:
        The text, at most ``limit`` characters of it.
    """
    limit = max(limit, 0)
    text = str.__str__(text)
    window = text[: limit + _MARGIN]
    beyond = len(text) - len(window)

    # Masked before the control characters go as well as after: an escape sequence may
    # end with the first letter of the name that gives a password away.
    plain = _strip_controls(window)
    if plain != window:
        plain = _strip_controls(mask(window, cut=beyond > 0))
    masked = mask(plain, cut=True) if beyond else _settle(plain, None)
    if not beyond and len(masked) <= limit:
        return masked

    length = len(masked) + beyond
    room = limit - len(_notice(length))
    if room < 0:
        return _settle(masked[:limit], limit)
    head = _settle(masked[:room], room)
    return head + _notice(length - min(room, len(masked)))


def describe_error(error: BaseException, clean: Callable[[str], str] = clean) -> str:
    """
    Say what an exception is: ``"TypeName: its message"``, cleaned.

    An exception group names the errors inside it, five at most, however deep they lie:
    "unhandled errors in a TaskGroup" alone helps nobody.

    Args:
        error: Any exception, also one whose ``__str__`` raises.
        clean: What the text goes through.

    Returns:
        One text, whose length is bounded.
    """
    if not isinstance(error, BaseExceptionGroup):
        return _describe_one(error, clean)

    described: list[str] = []
    more = False
    for inner in _leaves(error):
        if len(described) == _INNER_ERRORS:
            more = True
            break
        described.append(_shorten(_describe_one(inner, clean)))
    if more:
        described.append("and more")
    return f"{_shorten(_describe_one(error, clean))}: {'; '.join(described)}"


def quote_name(name: object, limit: int = 64) -> str:
    """
    Make a name that somebody made up fit to be shown: one line, short, and cleaned.

    Args:
        name: What was given as a name; maybe no string at all.
        limit: Most characters of the result.

    Returns:
        A name that looks like one as it is, and anything else in double quotes.
    """
    if not isinstance(name, str):
        return _cut(f"<{_type_name(name)}>", limit)
    window = name[: limit + _MARGIN]
    shown = " ".join(
        _settle(mask(_strip_controls(window), cut=window != name), None).split()
    )
    if window != name:
        shown += "…" * (limit + 1 - len(shown))
    if shown and all(letter.isalnum() or letter in "_-.:/*" for letter in shown):
        return _cut(shown, limit)
    shown = _cut(shown.replace('"', "'"), limit - 2)
    return f'"{shown}"'[: max(limit, 0)]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: max(limit - 1, 0)]}…"[: max(limit, 0)]


def _shorten(text: str) -> str:
    return clean(text, limit=_INNER_LIMIT)


def _notice(missing: int) -> str:
    # A line of its own: a value without quotes ends with its line.
    return f"\n[{missing} characters cut]"


def _settle(text: str, room: int | None) -> str:
    """
    Mask until nothing is left to mask, so that cleaning again changes nothing.

    What is masked may bring to light what looks like another credential, and a cut may
    as well. Text made to do that without end is not shown.
    """
    for _ in range(_ROUNDS):
        again = mask(text, cut=False)[:room]
        if again == text:
            return text
        text = again
    return _WITHHELD[:room]


# --- errors ------------------------------------------------------------------------


def _type_name(thing: object) -> str:
    name = getattr(type(thing), "__name__", "")
    return _cut(clean(name) if isinstance(name, str) else "", 100) or "object"


def _describe_one(error: BaseException, clean: Callable[[str], str]) -> str:
    name = _type_name(error)
    try:
        message = str(error)
    except Exception:
        message = "(its message cannot be had)"
    try:
        shown = clean(message)
    except Exception:
        # A cleaner that fails has not said that the message may be seen.
        shown = _WITHHELD
    return f"{name}: {shown}" if shown else name


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    # By hand and bounded: groups nest deeper than Python recurses.
    waiting: list[BaseException] = [group]
    for _ in range(1000):
        if not waiting:
            return
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(reversed(error.exceptions[: 2 * _INNER_ERRORS]))
        else:
            yield error


# --- control characters --------------------------------------------------------------


def _strip_controls(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return _controls().sub("", text)


_CONTROLS = (
    # Escape sequences whole. A letter straight after ESC is one only when no word
    # begins with it; the ESC itself always goes.
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f\n]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]+[0-~]"
    r"|\x1b(?:[0-?\\]|[@-Z^-~](?![A-Za-z_]))"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


@cache
def _controls() -> re.Pattern[str]:
    # On first use: compiling takes longer than importing all the rest.
    return re.compile(_CONTROLS)
