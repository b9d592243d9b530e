"""
Cutting what a model reads to a size.
"""

from __future__ import annotations

import dis
import json
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import from_json

from orchestrator_async import _cut
from orchestrator_async._cut import LEAST, cut
from orchestrator_async._outcome import to_text

CHARACTERS = st.characters(codec=None, exclude_categories=())
PIECES = st.one_of(
    st.text(CHARACTERS, min_size=1, max_size=20),
    st.sampled_from(
        [
            *"{}[]\",:\\/ \t\n\r\x00\x1f\x7f0-1.5eE+",
            '{"a": ',
            '"\\ud83d\\ude00"',
            "\ud83d\ude00",
            "\ud83d",
            "\ude00",
            "\r\n",
            "e\u0301",
            "\U0001f1eb\U0001f1f7",
            "\U0001f469\u200d\U0001f469\u200d\U0001f467",
        ]
    ),
)
LONG = st.builds(
    lambda pieces, times: "".join(pieces) * times,
    st.lists(PIECES, max_size=12),
    st.integers(1, 300),
)
LIMITS = st.integers(LEAST, 3 * LEAST) | st.integers(LEAST, 20_000)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(CHARACTERS, max_size=80)
    | st.text(max_size=80),
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.dictionaries(st.text(max_size=20), inner, max_size=20)
    ),
    max_leaves=40,
)

WRITERS: list[Callable[[Any], str]] = [
    json.dumps,
    lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
    lambda value: json.dumps(value, indent=4),
    lambda value: to_text(value, tool_name="tool"),
]

# What a reader sees as one.
ONES = {
    "a letter with an accent": "e\u0301",
    "a letter with four marks": "o\u0302\u0301\u0323\u0331",
    "the end of a line": "\r\n",
    "a heart, in colour": "\u2764\ufe0f",
    "a keycap": "1\ufe0f\u20e3",
    "a thumb of a skin tone": "\U0001f44d\U0001f3fd",
    "a family": "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "two of two skin tones": "\U0001f469\U0001f3fb\u200d\u2764\ufe0f\u200d\U0001f468\U0001f3ff",
    "a flag of a rainbow": "\U0001f3f3\ufe0f\u200d\U0001f308",
    "a person beside a sign": "\U0001f9d1\u200d\u2139",
    "a flag": "\U0001f1eb\U0001f1f7",
    "the flag of Wales": "\U0001f3f4\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f",
    "a syllable of Hangul in pieces": "\u1112\u1161\u11ab",
    "a syllable and its final": "\uac00\u11a8",
    "an old syllable of Hangul": "\ua960\u1100\ud7b0\ud7cb",
    "two consonants of Devanagari": "\u0915\u094d\u0937",
    "three of them, a joiner, a vowel": "\u0938\u094d\u0924\u094d\u200d\u0930\u0940",
    "consonants with a mark between": "\u0915\u094d\u0301\u0937",
    "two consonants of Balinese": "\u1b13\u1b44\u1b13",
    "a syllable of Tamil": "\u0b95\u0bcb",
    "a syllable of Thai": "\u0e01\u0e33",
    "a syllable of Lao": "\u0e81\u0eb3",
    "a voiced letter, half as wide": "\uff76\uff9e",
    "a letter that joins nothing": "a\u200c",
    "an Arabic number": "\u0600\u0661",
    "a letter with a dot before it": "\u0d4e\u0d15",
    "half an emoji and its other half": "\ud83d\ude00",
    "a character that is not yet known": "a\U000e01f0",
    "a flag of a mark": "\U0001f1eb\U0001f1f7\u0301",
}


def shown_of(text: str) -> tuple[str, int, int]:
    """
    What is left of other text, how much that is said to be, and of how much.
    """
    shown, _, notice = text.rpartition("\n[truncated: ")
    words = notice.split()
    assert words[1:3] + words[4:] == (
        "of characters are shown. Ask for less, or for one part at a time.]".split()
    )[:1] + "characters are shown. Ask for less, or for one part at a time.]".split()[:1] + (
        "are shown. Ask for less, or for one part at a time.]".split()
    )
    return shown, int(words[0]), int(words[3 - 1])


