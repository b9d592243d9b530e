"""
Cutting what a model reads to a size.
"""

from __future__ import annotations

import gc
import inspect
import json
import re
import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest
import regex
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
            *'{}[]",:\\/ \t\n\r\x00\x1f\x7f0-1.5eE+',
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
    st.integers(1, 10) | st.integers(LEAST // 2, 2 * LEAST),
)
LIMITS = st.integers(LEAST, 2 * LEAST) | st.integers(LEAST, 20_000)
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
    "a letter with the first of marks": "e\u0300",
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
    "two initials of Hangul": "\u1100\u1100\u1161",
    "an initial and a syllable": "\u1100\uac00",
    "an old syllable of Hangul": "\ua960\u1100\ud7b0\ud7cb",
    "two consonants of Devanagari": "\u0915\u094d\u0937",
    "three of them, a joiner, a vowel": "\u0938\u094d\u0924\u094d\u200d\u0930\u0940",
    "consonants with a mark between": "\u0915\u094d\u0301\u0937",
    "two consonants of Balinese": "\u1b13\u1b44\u1b13",
    "two consonants of Javanese": "\ua98f\ua9c0\ua98f",
    "a syllable of Tamil": "\u0b95\u0bcb",
    "a syllable of Thai": "\u0e01\u0e33",
    "a syllable of Lao": "\u0e81\u0eb3",
    "a voiced letter, half as wide": "\uff76\uff9e",
    "a letter that joins nothing": "a\u200c",
    "an Arabic number": "\u0600\u0661",
    "an Arabic sign and a number": "\u06001",
    "a letter with a dot before it": "\u0d4e\u0d15",
    "half an emoji and its other half": "\ud83d\ude00",
    "the halves of the first character that has any": "\ud800\udc00",
    "the halves of the last character that has any": "\udbff\udfff",
    "a character that is not yet known": "a\U000e01f0",
    "a flag of a mark": "\U0001f1eb\U0001f1f7\u0301",
}


NOTICE = re.compile(
    r"\n\[truncated: (\d+) of (\d+) characters are shown\. "
    r"Ask for less, or for one part at a time\.\]"
)
LOOK_BACK = 64


def shown_of(answer: str, text: str) -> str:
    """
    What is left of other text, if what is said of it is so.
    """
    notice = NOTICE.search(answer, answer.rindex("\n[truncated: "))
    assert notice is not None
    assert notice.end() == len(answer)
    shown = answer[: notice.start()]
    assert int(notice[1]) == len(shown)
    assert int(notice[2]) == len(text)
    assert text.startswith(shown)
    return shown


def preview_of(answer: str, text: str) -> str:
    """
    What is left of JSON, if the rest of the object is as it should be.
    """
    answer.encode()
    object_ = json.loads(answer)
    assert list(object_) == ["truncated", "total_chars", "preview"]
    assert object_["truncated"] is True
    assert object_["total_chars"] == len(text)
    preview: str = object_["preview"]
    assert joined(text).startswith(preview)
    return preview


def joined(text: str) -> str:
    """
    The text with each two surrogates that make a pair as what they mean.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def is_json_form(answer: str) -> bool:
    return answer.startswith('{"truncated": true, "total_chars": ')


# What fits


@pytest.mark.parametrize("is_json", [None, False, True])
@pytest.mark.parametrize("length", [0, 1, LEAST - 1, LEAST])
def test_text_that_fits_is_the_same_object(length: int, is_json: bool | None) -> None:
    text = "{" + "x" * (length - 2) + "}" if length > 1 else "x" * length
    assert cut(text, LEAST, is_json=is_json) is text


def test_one_character_more_than_fits_is_cut() -> None:
    for limit in (LEAST, 1000):
        assert len(cut("x" * (limit + 1), limit)) <= limit


@pytest.mark.parametrize("limit", [LEAST - 1, 1, 0, -1, -(10**9)])
def test_a_limit_below_the_least_is_the_least(limit: int) -> None:
    text = "x" * LEAST
    assert cut(text, limit) is text
    assert cut(text + "x", limit) == cut(text + "x", LEAST)


@given(LONG, LIMITS, st.sampled_from([None, False, True]))
def test_cutting_again_changes_nothing(text: str, limit: int, is_json: bool | None) -> None:
    once = cut(text, limit, is_json=is_json)
    assert cut(once, limit) is once
    assert cut(once, limit, is_json=is_json) is once


# What is left


@given(LONG, LIMITS)
@example("\r\n" * 2000, 1001)
def test_of_text_its_beginning_is_left_and_how_much_that_is(text: str, limit: int) -> None:
    answer = cut(text, limit, is_json=False)
    assert len(answer) <= limit
    if len(text) > limit:
        shown_of(answer, text)
    else:
        assert answer is text


@given(LONG, LIMITS)
@example('"' * 1000, LEAST)
@example("\x00" * 1000, LEAST)
@example("\ud83d" * 1000, LEAST)
@example("\ud83d\ude00" * 1000, LEAST)
def test_of_json_an_object_with_its_beginning_is_left(text: str, limit: int) -> None:
    answer = cut(text, limit, is_json=True)
    assert len(answer) <= limit
    if len(text) > limit:
        preview_of(answer, text)
    else:
        assert answer is text


@given(LONG, LIMITS)
def test_what_is_not_said_to_be_json_is_cut_one_way_or_the_other(
    text: str, limit: int
) -> None:
    answer = cut(text, limit)
    assert answer in (cut(text, limit, is_json=True), cut(text, limit, is_json=False))


@given(LONG, LIMITS)
def test_no_more_is_left_off_than_has_to_be(text: str, limit: int) -> None:
    if len(text) <= limit:
        return
    # Another place is looked for among so many characters, none of which takes more than six.
    shown = cut(text, limit, is_json=False)
    assert len(shown) > limit - LOOK_BACK - 10
    preview = cut(text, limit, is_json=True)
    assert len(preview) > limit - 6 * (LOOK_BACK + 1)


@pytest.mark.parametrize(
    ("piece", "takes"),
    [
        ("x", 1),
        ("\u4e2d", 1),
        ("\U0001f600", 1),
        ("\x7f", 1),
        ("\u2028", 1),
        ("/", 1),
        ('"', 2),
        ("\\", 2),
        ("\n", 2),
        ("\t", 2),
        ("\x00", 6),
        ("\x1f", 6),
        ("\ud800", 6),
        (chr(0xDFFF), 6),
        ('xx"', 2),
        ("\x00xxxx", 6),
        ('"\x01\ud800', 6),
    ],
)
def test_a_preview_is_as_long_as_fits(piece: str, takes: int) -> None:
    for limit in (*range(LEAST, LEAST + 14), 999, 1000, 1001, 20_000):
        text = piece * (limit + 1)
        answer = cut(text, limit, is_json=True)
        assert limit - takes < len(answer) <= limit
        preview_of(answer, text)


@pytest.mark.parametrize("piece", ["x", "\u4e2d", "\U0001f600", '"', "\x00", "\ud800"])
def test_the_beginning_of_text_is_as_long_as_fits(piece: str) -> None:
    for limit in (LEAST, 999, 1000, 1001, 1100, 20_000):
        text = piece * (limit + 1)
        answer = cut(text, limit, is_json=False)
        assert limit - 1 <= len(answer) <= limit  # the number shown may have a digit less
        shown_of(answer, text)


def test_what_is_left_is_long_enough_to_read_whatever_the_numbers() -> None:
    # The longest text that there can be, which no machine holds.
    assert LEAST - len(_cut._notice(LEAST, sys.maxsize)) >= 60
    answer = _cut._cut_json("x" * LEAST, sys.maxsize)
    assert len(answer) == LEAST
    assert len(json.loads(answer)["preview"]) >= 60


def test_text_reads_as_it_should() -> None:
    assert cut("abc " * 100, LEAST) == (
        "abc " * 28 + "a\n[truncated: 113 of 400 characters are shown. "
        "Ask for less, or for one part at a time.]"
    )


def test_json_reads_as_it_should() -> None:
    text = to_text({"caf\u00e9": ['"', 1] * 100}, tool_name="tool")
    start = '{"truncated": true, "total_chars": 710, "preview": "{\\"caf\u00e9\\":['
    answer = cut(text, 300)
    assert answer.startswith(start + '\\"\\\\\\"\\",1,\\"\\\\\\"\\",1')
    assert len(answer) == 300
    assert text.startswith(from_json(answer)["preview"])


def test_surrogates_that_are_a_pair_are_read_from_a_preview_as_one_character() -> None:
    assert preview_of(
        cut("\ud83d\ude00" * 300, LEAST, is_json=True), "\ud83d\ude00" * 300
    ) == ("\U0001f600" * 12)


# What is JSON

JSON = {
    "an object": '{"a": ' + "1" * 500 + "}",
    "an array": "[" + "1, " * 500 + "1]",
    "an array of strings": '["' + "x" * 500 + '"]',
    "an object, indented": '\n\t{\r\n  "a": ' + "1" * 500 + "\n}\n ",
    "much white space": "[" + " " * 500 + "]",
    "an array and white space": "[" + " " * (LEAST - 20) + "]" + " " * 30,
    "many brackets": "[" * 500 + "]" * 500,
    "NaN, as Python writes it": "[" + "NaN, Infinity, -Infinity, " * 100 + "1]",
    "lone surrogates": '["' + "\ud800" * 500 + '"]',
    "lone surrogates, escaped": '["' + "\\ud800" * 500 + '"]',
    "escapes": '["' + "\\n\\\\\\u00e9" * 500 + '"]',
}
OTHER = {
    "prose": "It is well known that. " * 100,
    "a log": "[INFO] started\n" * 100 + "[done]",
    "a log with times": "[2026-01-01 12:00:00] started\n" * 100 + "[done]",
    "footnotes": "[1] Smith, On Tools\n" * 100 + "[100]",
    "lines of JSON": '{"a": 1}\n' * 100,
    "JavaScript": '{ "use strict"; ' + "f(); " * 100 + "}",
    "a template": "{{ name }} " * 100 + "{{ name }}",
    "a set": "{1, 2, " + "3, " * 100 + "4}",
    "Python's repr": "{'a': " + "1" * 500 + "}",
    "no end": '{"a": ' + "1" * 500,
    "a wrong end": '{"a": ' + "1" * 500 + "]",
    "another wrong end": "[" + "1, " * 500 + "1}",
    "a string": '"' + "x" * 500 + '"',
    "a number": "1" * 500,
    "an object with a mark before it": '\ufeff{"a": ' + "1" * 500 + "}",
    "white space": " " * 500,
    "white space at both ends": " " * 500 + "{}" + " " * 500,
    "nothing that prints": "\x00" * 500,
}


@pytest.mark.parametrize("text", JSON.values(), ids=JSON)
def test_json_stays_json(text: str) -> None:
    answer = cut(text, LEAST)
    assert is_json_form(answer)
    preview_of(answer, text)


@pytest.mark.parametrize("text", OTHER.values(), ids=OTHER)
def test_other_text_stays_text(text: str) -> None:
    answer = cut(text, LEAST)
    assert not is_json_form(answer)
    shown_of(answer, text)


@pytest.mark.parametrize("text", [*JSON.values(), *OTHER.values()], ids=[*JSON, *OTHER])
def test_a_caller_who_knows_is_believed(text: str) -> None:
    assert is_json_form(cut(text, LEAST, is_json=True))
    assert not is_json_form(cut(text, LEAST, is_json=False))


@given(VALUES, st.sampled_from(WRITERS), st.integers(0, 2 * LEAST))
def test_json_of_any_writer_is_known_wherever_the_look_at_it_ends(
    value: Any, write: Callable[[Any], str], shift: int
) -> None:
    text = write(["x" * shift, value, "x" * LEAST])
    assert is_json_form(cut(text, LEAST))
    text = write({"x" * shift: value, "y": "x" * LEAST})
    assert is_json_form(cut(text, LEAST))


@pytest.mark.parametrize(
    "token",
    [
        "-Infinity",
        "Infinity",
        "NaN",
        "true",
        "false",
        "null",
        "-12.50e+10",
        '"a\\u00e9\\ud83d\\ude00\\\\\\"\\/"',
        "{}",
        "[]",
        '{"a": {"b": [1, {}]}}',
    ],
)
@pytest.mark.parametrize(
    "before", ["[", '{"a":', '{"a" : ', "[1, ", "[[[", '[{"a":[', "[\n  "]
)
def test_json_is_known_though_the_look_at_it_ends_in_a_token(
    before: str, token: str
) -> None:
    closing = "}" if before.startswith("{") else "]"
    for seen in range(1, len(before + token) + 2):
        text = " " * (LEAST - seen) + before + token + " " * LEAST + closing
        assert is_json_form(cut(text, LEAST)), seen


@pytest.mark.parametrize(("start", "end"), ["{}", "[]"])
@pytest.mark.parametrize("length", [0, 1, 2, 50, LEAST - 20])
def test_what_stops_being_json_before_the_look_ends_is_other_text(
    start: str, end: str, length: int
) -> None:
    text = (start + '"a' + "x" * LEAST)[: length + 1] + "\x01" + "x" * LEAST + end
    assert not is_json_form(cut(text, LEAST))


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "' + "x" * LEAST + '"}\n{"b": "' + "x" * 1000 + '"}',
        "[" + "1, " * LEAST + "and so on" * 100 + "]",
    ],
)
@pytest.mark.parametrize("limit", [LEAST, 1000])
def test_what_passes_for_json_over_its_first_200_characters_is_taken_for_it(
    text: str, limit: int
) -> None:
    preview_of(cut(text, limit), text)


def test_a_caller_deep_in_calls_gets_an_answer() -> None:
    text = "[" * 1000 + "]" * 1000

    def call(depth: int) -> str:
        return call(depth - 1) if depth else cut(text, LEAST)

    # Less is left than a parser needs that goes down with the brackets.
    depth = sys.getrecursionlimit() - len(inspect.stack(0)) - 100
    assert len(call(depth)) <= LEAST


# What a reader sees as one character


NEIGHBOURS = [
    ("x", "x"),
    (" ", "\n"),
    ("\u4e2d", "\u4e2d"),
    ("\u0915", "1"),
    ("\U0001f600", "\U0001f600"),
]


@pytest.mark.parametrize("is_json", [False, True])
@pytest.mark.parametrize("one", ONES.values(), ids=ONES)
def test_what_a_reader_sees_as_one_is_not_torn(one: str, is_json: bool) -> None:
    whole = len(joined(one) if is_json else one)
    for before, after in NEIGHBOURS:
        for start in range(LEAST + 1):
            text = before * start + one + after * LEAST
            answer = cut(text, LEAST, is_json=is_json)
            shown = preview_of(answer, text) if is_json else shown_of(answer, text)
            beyond = len(shown) - start
            assert beyond <= 0 or beyond >= whole, start


@pytest.mark.parametrize("one", ONES.values(), ids=ONES)
def test_many_that_are_one_each_are_not_torn(one: str) -> None:
    for limit in range(LEAST, LEAST + 2 * len(one)):
        answer = cut(one * LEAST, limit, is_json=False)
        assert len(shown_of(answer, one * LEAST)) % len(one) == 0
        assert limit - len(answer) <= len(one)


@pytest.mark.parametrize(
    "two",
    [
        "ab",
        "\u00e9\u00e9",
        "\u4e2d\u6587",
        "\uac00\uac01",
        "\u0915\u0937",
        "\u0940\u0915",
        "e\u0301a",
        "\u0301\u4e2d",
        "\n\r",
        "\ra",
        "\r\t",
        "\t\n",
        "a\n",
        "\u0915\u094d1",
        "\U0001f600\U0001f600",
        "\U0001f1eb1",
        "1\U0001f1eb",
        "\u200da",
        "\u200d1",
        "\u200d\u4e2d",
        "\ude00\ud83d",
        chr(0xD83D) * 2,
        chr(0xDE00) * 2,
        "\ud83da",
        "\ud83d\U0001f600",
        "\ud83d\ue000",
        chr(0xDC00) + chr(0xDC01),
        "\u0e01\u0e02",
        "\u05d0\u05b0\u05d1",
        "\u3042\u3044",
        "\u0e01\u0e34\u0e02",
    ],
)
def test_what_a_reader_sees_as_two_may_be_parted(two: str) -> None:
    text = "xx" + two
    assert _cut._boundary(text, len(text) - 1) == len(text) - 1


def test_the_tables_are_those_of_unicode() -> None:
    is_one = regex.compile(r"\X").fullmatch
    is_mark = regex.compile(r"[\p{Mn}\p{Mc}\p{Me}]").fullmatch
    every = [chr(code) for code in [*range(0x20000), *range(0xE0000, 0xE1000)]]

    # By their categories marks are known. Some places between vowels of Hangul are free.
    rest = (each for each in every if each >= "\u0300" and not is_mark(each))
    extend = {each for each in rest if is_one("e" + each) or is_one("\uac00" + each)}
    assert set(map(chr, range(0xD7C7, 0xD7CB))) | extend == _cut._EXTENDING

    flag = regex.compile(r"\p{Regional_Indicator}").fullmatch
    assert {each for each in every if flag(each)} == set(_cut._FLAGS)

    lead = {each for each in every if is_one(each + "e") or is_one(each + "\u1100")}
    assert lead == _cut._LEADING

    # Three more have been among them, or before letters, in one version or another.
    link = {each for each in every if is_one(f"\u0915{each}\u0915")}
    assert link | {"\u1cf5", "\u1cf6", "\U00011a3a"} == _cut._LINKERS


def test_two_consonants_that_are_one_are_so_at_the_very_beginning() -> None:
    assert _cut._boundary("\u0915\u094d\u0937", 2) == 0


@pytest.mark.parametrize("length", [1, 2, LOOK_BACK])
def test_what_is_one_from_the_very_beginning_is_not_torn(length: int) -> None:
    assert _cut._boundary("e" + "\u0301" * length, length) == 0


def test_a_letter_after_marks_without_a_letter_stands_for_itself() -> None:
    for marks in (1, LOOK_BACK, 2 * LOOK_BACK):
        assert _cut._boundary("\u0301" * marks + "\u0915", marks) == marks


def test_a_vowel_of_kirat_rai_is_not_torn() -> None:
    # A row of them would be one, too, so that it is not among the others.
    assert _cut._boundary("xx\U00016d63\U00016d67x", 3) < 3


@pytest.mark.parametrize("flags", [1, 2, 3, 20, 255])
def test_a_row_of_flags_is_cut_between_two(flags: int) -> None:
    for start in range(4):
        text = "x" * start + "\U0001f1eb\U0001f1f7" * 1000
        shown = shown_of(cut(text, LEAST + 2 * flags), text)
        assert (len(shown) - start) % 2 == 0


def test_what_stands_far_before_is_not_looked_at() -> None:
    # Nobody counts so many flags, nor reads a letter with so many marks.
    assert not _cut._is_one("\U0001f1eb" * 5000, 4999)
    text = "x" * 5000 + "\u094d" + "\u0301" * (LOOK_BACK + 10) + "\u0915"
    assert not _cut._is_one(text, len(text) - 1)
    near = "x" * 5000 + "\u094d" + "\u0301" * (LOOK_BACK - 10) + "\u0915"
    assert _cut._is_one(near, len(near) - 1)


def test_of_something_endless_that_a_reader_sees_as_one_as_much_as_fits_is_shown() -> None:
    text = "e" + "\u0301" * 10_000
    assert len(cut(text, LEAST)) == LEAST
    assert len(cut(text, 5000)) >= 4999


@pytest.mark.parametrize("marks", [LOOK_BACK - 1, LOOK_BACK])
def test_one_that_is_as_long_as_is_looked_back_is_not_torn(marks: int) -> None:
    one = "e" + "\u0301" * (marks - 1)
    for start in range(LEAST):
        text = "x" * start + one + "x" * LEAST
        beyond = len(shown_of(cut(text, LEAST), text)) - start
        assert beyond <= 0 or beyond >= len(one), start


# What it costs


def work_of(call: Callable[[], object], whole: object) -> tuple[int, int]:
    """
    The calls of functions that a call makes, and the most memory that it takes.

    A method of the whole text, which could look at each character, is not among them.
    """
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")
        assert getattr(argument, "__self__", None) is not whole

    call()  # once, so that all is imported
    before = sys.getprofile()
    gc.disable()  # hypothesis has a function called at each collection
    sys.setprofile(count)
    try:
        call()
        sys.setprofile(before)
        tracemalloc.start()
        call()
        return calls, tracemalloc.get_traced_memory()[1]
    finally:
        sys.setprofile(before)
        gc.enable()
        tracemalloc.stop()


LARGE = 20_000_000


@pytest.mark.parametrize("is_json", [None, False, True])
@pytest.mark.parametrize(
    "piece",
    [
        "x",
        " ",
        '"',
        "\\",
        "[",
        "[[],",
        "{",
        "\x00",
        "\n",
        "\u4e2d",
        "\u0301",
        "\u094d\u0915",
        "\u200d",
        "\U0001f1eb",
        "\U0001f469\u200d",
        "\ud800",
        "\U000e01f0",
    ],
    ids=ascii,
)
def test_a_large_text_costs_what_its_beginning_costs(
    piece: str, is_json: bool | None
) -> None:
    limit = 2000
    works = []
    for length in (limit + 500, LARGE):
        text = "[" + piece * (length // len(piece)) + "]"
        works.append(work_of(partial(cut, text, limit, is_json=is_json), text))
        del text
    (calls, memory), (calls_of_large, memory_of_large) = works
    assert calls_of_large == calls < 1500
    assert memory_of_large < memory + 2000 < 100 * limit


@pytest.mark.parametrize(
    "piece", ["x", '"', "\x00", "\u0301", "\U0001f469\u200d"], ids=ascii
)
@pytest.mark.parametrize("is_json", [None, False, True])
def test_a_limit_of_millions_takes_few_more_calls(piece: str, is_json: bool | None) -> None:
    text = "[" + piece * LARGE + "]"
    calls, _ = work_of(lambda: cut(text, 2000, is_json=is_json), text)
    more, _ = work_of(lambda: cut(text, 1_000_000, is_json=is_json), text)
    assert more < calls + 250  # a preview is found by halves, and there are more of them


def test_what_fits_is_not_looked_at() -> None:
    text = "[" + "x" * LARGE + "]"
    calls, memory = work_of(lambda: cut(text, LARGE + 2), text)
    assert calls <= 5
    assert memory < 1000


class Lying(str):
    """
    A string that has something to say to whoever looks at it.
    """

    __slots__ = ()

    def __len__(self) -> int:
        raise AssertionError("asked for its length")

    def __getitem__(self, key: object) -> str:
        raise AssertionError("asked for a piece")

    def __str__(self) -> str:
        raise AssertionError("asked for a copy")


@pytest.mark.parametrize("is_json", [None, False, True])
def test_a_string_of_a_class_of_its_own_is_taken_for_what_it_holds(
    is_json: bool | None,
) -> None:
    fits = Lying("x" * LEAST)
    assert cut(fits, LEAST, is_json=is_json) is fits
    for text in ("x" * 1000, "[" + "1," * 500 + "1]"):
        answer = cut(Lying(text), LEAST, is_json=is_json)
        assert type(answer) is str
        assert answer == cut(text, LEAST, is_json=is_json)
