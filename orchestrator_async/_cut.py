"""
Cuts the text that a model reads to a size.

A tool may return any amount of text, and what a model can read has an end and a price. What
is cut off is cut off for the model alone; whoever has the value has all of it. The model is
told how much there was, so that it does not take a part for the whole. Text stays text, and
JSON stays JSON.

All of this is done in one piece on the event loop, and so its cost goes by the limit, never
by the text: 20 MB cost no more than what is left of them. Below it stands nothing.
"""

from __future__ import annotations

import json
from typing import Final

__all__ = ["LEAST", "cut"]

LEAST: Final = 200
"""The smallest limit. It has room for what is said of the cut, whatever the numbers in it,
and for at least 60 characters of a text: less would be an answer about nothing."""

_LOOK: Final = 200
"""Characters by which JSON is told from other text, at either end."""

_TORN: Final = 12
"""Characters that a token of JSON can have lost its end in: ``-Infinity``, or an escape."""

_LOOK_BACK: Final = 64
"""Most characters that are given up so as not to tear one. The longest in use, families of
emoji and letters with marks, have some 30 (which Unicode calls stream-safe)."""

_FLAGS_BACK: Final = 1024
"""How far a row of flags is looked at, half a flag each: all flags there are, twice."""

_SPACE: Final = " \t\n\r"


def cut(text: str, limit: int, *, is_json: bool | None = None) -> str:
    """
    The text, if it fits; else its beginning, and how much of it that is.

    What is left of JSON is an object with ``truncated`` (``true``), ``total_chars`` (of the
    whole text) and ``preview`` (a string, the beginning of the text). What is left of other
    text ends with a line that says how many of how many characters it has, and to ask for
    less. No more is left off than has to be, but for a few characters: the cut never goes
    through what a reader sees as one, such as a letter with its accents, a flag or an emoji
    of several. Only a row of more than 64 that all seem to belong together, as nobody writes
    it, may be torn.

    Any ``str`` will do. In a preview, lone surrogates are escaped, as in all JSON that is
    made of a tool's value; two that make a pair are read from there as the character that
    they mean.

    Args:
        text: What to cut.
        limit: Most characters of the result, all of it. One below ``LEAST`` is taken for
            ``LEAST``.
        is_json: Whether the text is JSON, if the caller knows. ``None``: if it looks like
            an object or an array. For that it begins like one, over 200 characters, and
            ends with the right bracket; what stands between is not looked at. So it can be
            wrong about a text that was made to look so, or about lines of JSON with a long
            first one. Nothing depends on it but in which way the model is told.

    Returns:
        The very same object where it fits, and otherwise a new string.
    """
    # Asked of the type: a class of strings may have these methods say anything.
    total = str.__len__(text)
    limit = max(limit, LEAST)
    if total <= limit:
        return text
    head = str.__getitem__(text, slice(limit))
    if is_json is None:
        tail = str.__getitem__(text, slice(-_LOOK, None))
        is_json = _looks_like_json(head[:_LOOK], tail)
    return _cut_json(head, total) if is_json else _cut_text(head, total)


def _cut_text(head: str, total: int) -> str:
    room = len(head) - len(_notice(len(head), total))
    shown = head[: _boundary(head, room)]
    return shown + _notice(len(shown), total)


def _notice(shown: int, total: int) -> str:
    return (
        f"\n[truncated: {shown} of {total} characters are shown. "
        "Ask for less, or for one part at a time.]"
    )


def _cut_json(head: str, total: int) -> str:
    start, end = f'{{"truncated": true, "total_chars": {total}, "preview": "', '"}'
    room = len(head) - len(start) - len(end)
    preview = head[: _boundary(head, _fitting(head, room))]
    return start + _escaped(preview) + end


# --- JSON ----------------------------------------------------------------------------


def _looks_like_json(head: str, tail: str) -> bool:
    """
    Whether these may be both ends of an object or an array.
    """
    if head.lstrip(_SPACE)[:1] + tail.rstrip(_SPACE)[-1:] not in ("{}", "[]"):
        return False
    try:
        json.loads(head)
    except (ValueError, RecursionError) as error:
        # It is the beginning of JSON if the parser came to its end, or to a string that
        # has none. The other error is of brackets, and of a caller deep in calls.
        reached = getattr(error, "pos", 0)
        return reached > len(head) - _TORN or "Unterminated string" in str(error)
    return True  # only white space is missing


_encoded: Final = json.JSONEncoder(ensure_ascii=False).encode


def _escaped(text: str) -> str:
    """
    What stands for the text between the quotes of a JSON string.
    """
    # UTF-8 lacks nothing but the surrogates, and Python's escape for them is JSON's.
    return _encoded(text)[1:-1].encode("utf-8", "backslashreplace").decode()


def _fitting(text: str, room: int) -> int:
    """
    How many characters of the text fit in so much room when they are escaped.
    """
    # By halves, quarters and so on, so that each is escaped but once or so.
    fitting, most = 0, min(len(text), room)
    while fitting < most:
        middle = (fitting + most + 1) // 2
        takes = len(_escaped(text[fitting:middle]))
        if takes <= room:
            fitting, room = middle, room - takes
        else:
            most = middle - 1
    return fitting


# --- what a reader sees as one character ---------------------------------------------
#
# The rules of Unicode's annex 29, looked at from behind: do two neighbours belong together?
# Some rules ask for a certain character further to the front as well. That is not looked
# for where it stands in whatever people write; so two may be kept together that need not.

_FIRST_MARK: Final = "\u0300"
"""Below it there is nothing that joins others, but for CR and LF."""

_MARKS: Final = ("Mn", "Mc", "Me", "Cn")
"""Categories of what joins what stands before it. A character that is not yet known to this
Python's tables may be a mark."""

_EXTENDING: Final = frozenset(
    map(
        chr,
        [
            *(0x0E33, 0x0EB3),  # Thai and Lao AM
            *(0x200C, 0x200D),  # zero-width non-joiner and joiner
            *range(0x1160, 0x1200),  # Hangul: vowels and finals
            *range(0xD7B0, 0xD7FC),
            *(0x16D63, *range(0x16D67, 0x16D6B)),  # Kirat Rai: vowels
            *(0xFF9E, 0xFF9F),  # halfwidth Katakana: voiced marks
            *range(0x1F3FB, 0x1F400),  # skin tones
            *range(0xE0020, 0xE0080),  # tags, of flags that are no country's
        ],
    )
)
"""What else joins what stands before it."""

_LEADING: Final = frozenset(
    map(
        chr,
        [
            *range(0x1100, 0x1160),  # Hangul: initials
            *range(0xA960, 0xA97D),
            *(*range(0x0600, 0x0606), 0x06DD, 0x070F, 0x0890, 0x0891, 0x08E2),
            *(0x0D4E, 0x110BD, 0x110CD, 0x111C2, 0x111C3, 0x113D1, 0x1193F, 0x11941),
            *(*range(0x11A84, 0x11A8A), 0x11D46, 0x11F02),
        ],
    )
)
"""What joins what stands behind it."""

_LINKERS: Final = frozenset(
    "\u094d\u09cd\u0acd\u0b4d\u0c4d\u0d4d\u1039\u17d2\u1a60\u1b44\u1bab\u1cf5\u1cf6\ua9c0"
    "\uaaf6\U00010a3f\U00011133\U000113d0\U0001193e\U00011a3a\U00011a47\U00011a99\U00011f42"
)
"""What makes one of two consonants: the viramas that do."""

_JOINER: Final = "\u200d"
_INFORMATION: Final = "\u2139"  # the one emoji that is a letter
_FLAGS: Final = "".join(map(chr, range(0x1F1E6, 0x1F200)))


def _boundary(text: str, at: int) -> int:
    """
    The last place up to this one that is between two characters as a reader sees them.
    """
    for place in range(at, max(at - _LOOK_BACK, 0), -1):
        if not _is_one(text, place):
            return place
    return at if at > _LOOK_BACK else 0


def _is_one(text: str, place: int) -> bool:
    """
    Whether the characters before and after a place are one to a reader, or parts of one.
    """
    before, after = text[place - 1], text[place]
    if before < _FIRST_MARK and after < _FIRST_MARK:
        return before == "\r" and after == "\n"
    if before in _LEADING or _extends(after):
        return True
    if before in _FLAGS and after in _FLAGS:
        row = text[max(place - _FLAGS_BACK, 0) : place]
        return (len(row) - len(row.rstrip(_FLAGS))) % 2 == 1
    if after.isalnum() and after != _INFORMATION:
        return after.isalpha() and _is_linked(text, place)
    return before == _JOINER or ("\ud800" <= before < "\udc00" <= after < "\ue000")


def _extends(character: str) -> bool:
    from unicodedata import category  # most text never comes here

    return character in _EXTENDING or category(character) in _MARKS


def _is_linked(text: str, place: int) -> bool:
    """
    Whether a letter at this place would be a part of the consonant before it.
    """
    for each in reversed(text[max(place - _LOOK_BACK, 0) : place]):
        if each in _LINKERS or not _extends(each):
            return each in _LINKERS
    return False
