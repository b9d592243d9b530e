"""
What foreign text goes through before anybody reads it: a model, a log, a page.

The text of an exception may hold a password, a terminal's escape sequences, or ten
megabytes. Everything that shows such text imports it; below it lies ``_credentials``, and
above it ``_describe`` and ``_report``, which show errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache

from ._credentials import mask
from ._foreign import bare_type_name, is_a

__all__ = ["Allowance", "clean", "quote_name", "type_name"]

# Read beyond the limit, so that a credential across the cut is mostly seen whole.
_MARGIN = 1024
_PIECE_MARGIN = 200
_ROUNDS = 8
WITHHELD = "[text withheld]"
_PIECE = 300
_NAME = 100


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
    return _clean(text, max(limit, 0), _MARGIN)


def _clean(text: str, limit: int, margin: int) -> str:
    text = str.__str__(text)
    window = text[: limit + margin]
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


_default = clean


class Allowance:
    """
    Cleans the pieces of one answer, or of one record, which share what that may cost.

    Args:
        clean: What the pieces go through.
        most: Characters that are read, of all pieces together. As many as ``clean``
            reads of one text, unless said otherwise.
    """

    def __init__(self, clean: Callable[[str], str] = clean, most: int = 3000) -> None:
        self._own = None if clean is _default else clean
        self._left = most

    def piece(self, text: str, limit: int = _PIECE) -> str:
        """
        The text, cleaned and cut; withheld where nothing is left to clean it with.
        """
        if not text:
            return ""
        if self._own is not None:
            text = self._own(text)
        limit = min(limit, self._left - _PIECE_MARGIN)
        if limit < len(WITHHELD):
            return WITHHELD
        self._left -= min(len(text), limit + _PIECE_MARGIN)
        return _clean(text, limit, _PIECE_MARGIN)


def quote_name(name: object, limit: int = 64) -> str:
    """
    Make a name that somebody made up fit to be shown: one line, short, and cleaned.

    Args:
        name: What was given as a name; maybe no string at all.
        limit: Most characters of the result.

    Returns:
        A name that looks like one as it is, and anything else in double quotes.
    """
    if not is_a(name, str):
        return _cut(f"<{type_name(name)}>", limit)
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
    return WITHHELD[:room]


def type_name(thing: object) -> str:
    """
    The name of the type of anything, on one line, cleaned and cut.
    """
    name = bare_type_name(thing)
    return _shown_type(name) if len(name) <= _NAME else _shown_type.__wrapped__(name)


@lru_cache(maxsize=256)
def _shown_type(name: str) -> str:
    # Kept, for tools fail by the same few types. Not if it is long: that may be large.
    shown = _clean(name, 2 * _NAME, 2 * _NAME)
    return _cut(" ".join(shown.partition("\n")[0].split()), _NAME) or "object"


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
