"""
Where credentials stand in a text.

Below ``_text``, which says what is done with a text and when. The patterns are compiled
on first use, and written so that none of them backtracks over a long text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

_MASK = "***"

_Span = tuple[int, int]


def mask(text: str, *, cut: bool) -> str:
    """
    Put ``***`` in the place of every credential.

    All kinds are looked for in the same text, and what overlaps is masked as one: no
    kind can hide from another what it goes by. With ``cut`` the text goes on beyond its
    end, and whatever may be the beginning of a credential there is one.
    """
    spans = sorted(_credentials(text, cut))
    if not spans:
        return text

    out: list[str] = []
    done = start = end = 0
    for next_start, next_end in [*spans, (len(text) + 1, 0)]:
        if next_start <= end and end:
            end = max(end, next_end)
            continue
        if end:
            out += [text[done:start], _masked(text[start:end])]
            done = end
        start, end = next_start, next_end
    return "".join([*out, text[done:]])


def _masked(value: str) -> str:
    return value if not value.strip("*") else _MASK


def _credentials(text: str, cut: bool) -> Iterator[_Span]:
    patterns = _patterns()
    if "//" in text or "/\\" in text:
        yield from _in_urls(text, cut)
        if "\n" in text:
            for found in patterns.broken_userinfo.finditer(text):
                if cut or found["at"]:
                    yield found.span("value")
    folded = text.casefold()
    if any(hint in folded for hint in _HINTS):
        yield from _beside_names(text)
    if "bearer" in folded:
        yield from _after_bearer(text, cut)
    if any(hint in text for hint in _SHAPE_HINTS):
        yield from (found.span() for found in patterns.shapes.finditer(text))
    if cut:
        tail = len(text.rstrip(_TOKEN_LETTERS))
        if begun := patterns.beginnings.search(text, tail):
            yield begun.start(), len(text)


def _after_bearer(text: str, cut: bool) -> Iterator[_Span]:
    """
    What follows the word ``Bearer``, and is no word of a sentence about bearers.

    Right after it, that is whatever is no such word. "Bearer token has expired" goes on
    with words that may stand there, and may come to the token after some of them; past
    those, or past the end of the line, it is a token only if it looks like one.
    """
    for bearer in _patterns().bearer.finditer(text):
        end = bearer.end()
        for step in range(_STEPS):
            found = _patterns().next_word.match(text, end)
            if found is None:
                break
            end, word = found.end(), _bare_word(found["value"])
            if word == "bearer":
                break  # which is looked after by itself
            if word in _AFTER_BEARER:
                continue
            if (
                (step == 0 and "\n" not in found["gap"])
                or found["quote"]
                or (cut and end == len(text))
                or _looks_like_token(found["value"])
            ):
                yield found.span("value")
            break


def _looks_like_token(value: str) -> bool:
    """
    Whether there are figures among letters, capitals after small ones, or too many
    letters for a word. A name with a colon after it is that of a header.
    """
    word = value.rstrip(".,;!?)")[:200]
    if len(word) < 6 or word.endswith(":"):
        return False
    letters = sum(letter.isalpha() for letter in word)
    figures = sum(letter.isdigit() for letter in word)
    if letters and figures:
        return True
    return letters >= 24 or figures >= 10 or _patterns().camel.search(word) is not None


def _in_urls(text: str, cut: bool) -> Iterator[_Span]:
    """
    The ``user:password`` of ``scheme://user:password@host``.
    """
    for run in _patterns().runs.finditer(text):
        end = run.end()
        open_ended = cut and end == len(text)
        last_at = text.rfind("@", run.start(), end)
        position = run.start()
        while slashes := _patterns().slashes.search(text, position, end):
            start = slashes.end()
            if start > last_at and not open_ended:
                break
            quote = slashes["quote"]
            closing = text.find(quote, start, end) if quote else -1
            if closing < 0:
                user_end, position = _userinfo(text, start, end, open_ended)
            else:
                user_end, position = _userinfo(text, start, closing, open_ended=False)
            if user_end > start:
                yield start, user_end


def _userinfo(text: str, start: int, end: int, open_ended: bool) -> tuple[int, int]:
    """
    Where the user and password end that begin at ``start``, and where to read on.

    They end at the last ``@`` before the path. A password should hold no slash, yet it
    may: then what follows the colon is no port, and any ``@`` ends it.
    """
    found = _patterns().authority.match(text, start, end)
    path = found.end() if found else start
    if path == end and open_ended:
        return end, end
    at = text.rfind("@", start, path)
    if at >= 0:
        return at, path
    _, colon, port = text[start:path].rpartition(":")
    if not colon or (port.isdecimal() and len(port) <= 5):
        return start, path
    if open_ended:
        return end, end
    at = text.rfind("@", start, end)
    return max(at, start), max(at, path)


def _beside_names(text: str) -> Iterator[_Span]:
    """
    The values beside names like ``password``: ``name=value``, headers, JSON, ``repr``.

    Names are looked for inside values too, so that the value of one name cannot hide
    another name.
    """
    patterns = _patterns()
    bare_until = line_until = 0
    for name in patterns.names.finditer(text):
        start = name.end()
        if opened := patterns.opening.match(text, start):
            yield opened.end(), _closing(text, opened["quote"], opened.end())
        elif start < line_until:
            continue  # the same line, to the same end
        elif name["header"] and not patterns.one_word.match(text, start):
            line_until = _line_end(text, start, text[name.start() - 1 : name.start()])
            yield start, line_until
        elif text[start : start + 1] in ("[", "(", "{"):
            line_until = _line_end(text, start)
            yield start, line_until
        elif start >= bare_until and (found := patterns.bare.match(text, start)):
            if _is_harmless(found["value"], sentence=name["colon"] is not None):
                continue
            bare_until = found.end()
            yield found.span("value")


def _closing(text: str, quote: str, start: int) -> int:
    at = text.find(quote, start)
    while at > 0 and text[at - 1] == "\\" and at > start:
        at = text.find(quote, at + 1)
    return _line_end(text, start) if at < 0 else at


def _line_end(text: str, start: int, quote: str = "") -> int:
    end = text.find("\n", start)
    end = len(text) if end < 0 else end
    closing = text.find(quote, start, end) if quote in ("'", '"') else -1
    return end if closing < 0 else closing


def _is_harmless(value: str, *, sentence: bool) -> bool:
    # "password: must be longer" is a sentence, and a model learns from it.
    word = _bare_word(value)
    return word in _NOTHINGS or (sentence and word in _WORDS)


def _bare_word(value: str) -> str:
    return value.rstrip(".,;:!?)").casefold()


_HINTS = ("pass", "pwd", "secret", "token", "key", "sig", "credential", "auth", "cookie")
_SHAPE_HINTS = (
    *("sk-", "sk_", "rk_", "gho_", "ghp_", "ghr_", "ghs_", "ghu_", "github_pat_", "glpat-"),
    *(
        "xox",
        "xapp-",
        "AKIA",
        "ASIA",
        "AIza",
        "ya29.",
        "hf_",
        "npm_",
        "pypi-",
        "SG.",
        "eyJ",
    ),
    *("hooks.slack", "asic ", "PRIVATE KEY"),
)
_NOTHINGS = frozenset(("none", "null", "nil", "true", "false", "undefined"))
_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "cannot",
        "expected",
        "expired",
        "field",
        "got",
        "has",
        "input",
        "invalid",
        "is",
        "missing",
        "must",
        "no",
        "not",
        "or",
        "please",
        "required",
        "should",
        "string",
        "the",
        "this",
        "too",
        "value",
        "was",
        "you",
        "your",
    ]
)
_AFTER_BEARER = _WORDS | frozenset(
    [
        "auth",
        "authentication",
        "authorization",
        "credentials",
        "error",
        "format",
        "header",
        "of",
        "realm",
        "scheme",
        "token",
        "tokens",
    ]
)
_STEPS = 6
_TOKEN_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.~+/="

# A value without quotes goes on to a blank, and through punctuation unless that ends
# the text around it or stands before another pair. (The outer "+" is not possessive:
# before Python 3.11.5 a group that backtracks must not be.)
_MARKS = r",;)\]}\"'`<>&"
_BARE = rf"(?:[^\s{_MARKS}]++|[{_MARKS}]++(?!\s|\Z|[:\\]|[\w.-]++[\"']?[ \t]*[=:]))+"
_SECRETS = r"""
    pass(?:word|wd|phrase)s? | pwd | secrets? | (?<!unexpected\ )token
    | api[ _-]?keys? | secret[ _-]?(?:access[ _-]?)?key
    | (?:access|private|auth|account|master|encryption|signing|shared)[ _-]?key
"""
_BEFORE_EQUALS = r"credentials? | signature | sig | (?<![\w-])pass"


class _Patterns(NamedTuple):
    runs: re.Pattern[str]
    slashes: re.Pattern[str]
    authority: re.Pattern[str]
    names: re.Pattern[str]
    opening: re.Pattern[str]
    bare: re.Pattern[str]
    one_word: re.Pattern[str]
    bearer: re.Pattern[str]
    next_word: re.Pattern[str]
    camel: re.Pattern[str]
    broken_userinfo: re.Pattern[str]
    shapes: re.Pattern[str]
    beginnings: re.Pattern[str]


@cache
def _patterns() -> _Patterns:
    # On first use: compiling takes longer than importing all the rest.
    return _Patterns(
        runs=re.compile(r"\S+"),
        slashes=re.compile(r"(?:(?P<quote>[\"'`])[A-Za-z][\w+.\-]{0,20}:)?(?:\\{0,4}/){2}"),
        authority=re.compile(r"[^/?#\\]*"),
        names=re.compile(
            # Each begins with two of these letters, as most of a text does not.
            rf"""
            (?=[acekmpst][acehinopruw])
            (?: (?P<header> (?:proxy-)?authorization | cookies? )
              | (?: {_SECRETS} ) \d*
              | (?: {_BEFORE_EQUALS} ) (?= \\*["'] | \ ?= )
              | (?<=[?&]) (?: key | auth ) (?==)
            )
            (?: \\*["'`]? [ \t]* (?: (?P<colon> : [ \t]+ ) | => | [=:>] | %3[ad] )
              | \\*["'`] [ \t]* ,
            ) [ \t]*
            """,
            re.IGNORECASE | re.VERBOSE,
        ),
        opening=re.compile(r"[bru]{0,2}(?P<quote>\\*[\"'`])", re.IGNORECASE),
        bare=re.compile(
            rf"(?:(?:apikey|basic|bearer|digest|token)[ \t]+)?(?P<value>{_BARE})",
            re.IGNORECASE,
        ),
        one_word=re.compile(
            r"(?:basic|bearer|token|apikey)[ \t]+[^\s=]+={0,2}(?:\s|\Z)", re.IGNORECASE
        ),
        bearer=re.compile(r"bearer(?:\\*[\"'`](?=\s*[=:]))?", re.IGNORECASE),
        next_word=re.compile(
            rf"(?P<gap>(?:\s|[=:+]|%20)+)(?P<quote>\\{{0,4}}[\"'`])?(?P<value>{_BARE})"
        ),
        camel=re.compile(r"[a-z][A-Z]"),
        # A password that holds the end of a line, or two.
        broken_userinfo=re.compile(
            r"//(?P<value>[^\s/?#@:]*:(?!\d{1,5}\r?\n)[^\s/?#@]*(?:\r?\n[^\s/?#@]*){1,3})"
            r"(?:(?P<at>@)|\Z)"
        ),
        shapes=re.compile(
            r"""
            (?<![A-Za-z0-9])
            (?: sk-[\w-]{12,} | [rs]k_(?:live|test)_\w{8,}
              | gh[opsur]_\w{16,} | github_pat_\w{16,} | glpat-[\w-]{16,}
              | xox[a-z]-[\w-]{8,} | xapp-[\w-]{16,}
              | (?:AKIA|ASIA)[A-Z0-9]{12,} | AIza[\w-]{30,} | ya29\.[\w.-]{16,}
              | hf_\w{20,} | npm_\w{30,} | pypi-[\w-]{30,} | SG\.[\w-]{16,}\.[\w-]{16,}
              | (?<!_)(?<!-) eyJ[\w-]{17,} (?: \.[\w-]* )*
            )
            | (?<=hooks\.slack\.com/services/) [\w/]+
            | (?<=[Bb]asic\ ) (?= [A-Za-z+/]* [0-9=] | [A-Za-z]+ [A-Z] ) [A-Za-z0-9+/]{6,} ={0,2}
            | -----BEGIN\ [A-Z0-9 ]{0,40}PRIVATE\ KEY[\s\S]*?
              (?: -----END\ [A-Z0-9 ]{0,40}PRIVATE\ KEY[A-Z ]{0,20}----- | \Z )
            """,
            re.VERBOSE,
        ),
        beginnings=re.compile(
            r"(?<![A-Za-z0-9])(?:sk-|[rs]k_|gh[opsur]_|github_pat_|glpat-|xox[a-z]-|xapp-"
            r"|AKIA|ASIA|AIza|ya29\.|hf_|npm_|pypi-|SG\.|eyJ)"
        ),
    )
