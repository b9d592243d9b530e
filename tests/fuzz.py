"""
Results as text, judged beside a plain parser: a million of them by default.

    python -m tests.fuzz --cases 1000000 --seed 1

The texts are JSON with any spacing, escapes, order and repetition of keys, and JSON that
was spoilt by a character. What is expected is written in three lines, with the parser of
the standard library. The exit status is 1 if any text was misjudged.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from orchestrator_async import Outcome, Verdict, any_error

KEYS: Final = ("error", "error", "errors", "Error", "output", "err\\or", "", "é", "a b")
HUGE: Final = "an integer of 5,000 digits"
LEAVES: Final = (
    None, True, False, 0, -0.0, 1, 2.5e-7, 10**30, HUGE, "", "boom", " ", "0", "null", '"error"',
    '{"error": 1}', "\\", "\n", "é\ud83d\ude00", "\u2028", float("nan"), float("-inf"),
)  # fmt: skip
SPACES: Final = ("", "", "", " ", "\n", "\t", "\r\n", "  ")
SPOILERS: Final = '{}[]:,"\\ e0\x00é'


class Texts:
    """
    Texts drawn from a seed.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def text(self) -> str:
        """
        One text: JSON as some program might write it, or nearly JSON.
        """
        draw = self.random
        text = (
            self._space() + self._value(draw.choice((0, 0, 0, 1, 3)), True) + self._space()
        )
        if draw.random() < 0.15:
            text = self._spoilt(text)
        return text

    def _space(self) -> str:
        return self.random.choice(SPACES)

    def _value(self, depth: int, top: bool = False) -> str:
        chance = self.random.random()
        if top or (depth > 0 and chance < 0.4):
            if top and chance < 0.08:
                return self._list(depth)
            return self._object(depth)
        if depth > 0 and chance < 0.6:
            return self._list(depth)
        leaf = self.random.choice(LEAVES)
        if leaf is HUGE:
            return "1" + "0" * 5_000
        return self._string(leaf) if isinstance(leaf, str) else json.dumps(leaf)

    def _object(self, depth: int) -> str:
        space = self._space
        members = [
            f"{space()}{self._string(self.random.choice(KEYS))}{space()}:{space()}"
            f"{self._value(depth - 1)}{space()}"
            for _ in range(self.random.choice((0, 1, 1, 2, 3)))
        ]
        return "{" + ",".join(members) + space() + "}" if members else "{" + space() + "}"

    def _list(self, depth: int) -> str:
        items = (self._value(depth - 1) for _ in range(self.random.randrange(3)))
        return "[" + ",".join(items) + "]"

    def _string(self, text: str) -> str:
        draw = self.random.random()
        if draw < 0.6:
            return json.dumps(text, ensure_ascii=draw < 0.3)
        return '"' + "".join(map(self._escaped, text)) + '"'

    def _escaped(self, letter: str) -> str:
        if self.random.random() < 0.5 and ord(letter) < 0x10000:
            return f"\\u{ord(letter):04{self.random.choice('xX')}}"
        return json.dumps(letter)[1:-1]

    def _spoilt(self, text: str) -> str:
        place = self.random.randrange(len(text) + 1)
        more = self.random.choice(SPOILERS) if self.random.random() < 0.5 else ""
        return text[:place] + more + text[place + (not more) :]


def expected(text: str) -> Verdict:
    """
    What a plain parser says of the text.
    """
    try:
        # Python makes no int of more than 4,300 digits, and there it is no plain parser.
        value: Any = json.loads(text, parse_int=float)
    except (ValueError, RecursionError):
        return Verdict.SUCCESS
    failed = isinstance(value, dict) and bool(value.get("error"))
    return Verdict.FAILURE if failed else Verdict.SUCCESS


def misjudged(
    cases: int, seed: int, judge: Callable[[Outcome], Verdict] = any_error
) -> tuple[list[str], int]:
    """
    The texts that were misjudged, and how many there were that tell of an error.
    """
    texts, wrong, failures = Texts(seed), [], 0
    for _ in range(cases):
        text = texts.text()
        right = expected(text)
        failures += right is Verdict.FAILURE
        if judge(Outcome(value=text)) is not right:
            wrong.append(text)
    return wrong, failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Judge results beside a plain parser.")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    started = time.monotonic()
    found, failures = misjudged(chosen.cases, chosen.seed)
    print(
        f"{chosen.cases:,} texts, {failures:,} of them errors, {len(found)} misjudged, "
        f"in {time.monotonic() - started:.0f} s"
    )
    for text in found[:20]:
        print(f"  MISJUDGED: {text!r}")
    sys.exit(1 if found else 0)
