"""
What stands in the engine: keys, circuits as text, and the scripts that read and write them.

Sans-I/O. Whatever comes from the engine is parsed here, and may be anything at all: what
cannot be read is ``None``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final
from urllib.parse import quote, unquote

from orchestrator_async._breaker import CircuitState

from . import _record
from ._record import Record, longest_rest

VERSION: Final = 1
LONGEST_TEXT: Final = 500
MOST_FIGURES: Final = 10_000
_LONGEST_TOKEN: Final = 200

_LETTERS: Final = {
    CircuitState.CLOSED: "c",
    CircuitState.OPEN: "o",
    CircuitState.HALF_OPEN: "h",
}
_STATES: Final = {letter.encode(): state for state, letter in _LETTERS.items()}

_TEXT: Final = re.compile(
    rb"1:(?P<generation>\d{1,15}):(?P<state>[coh]):(?P<time>\d{1,15})"
    rb":(?P<length>\d{1,15}):(?P<failures>\d{1,15}):(?P<reopenings>\d{1,15})"
    rb":(?P<successes>\d{1,15}):(?P<paused>0{0,14}[01]):(?P<pauses>\d{1,15})"
    rb":(?P<isolations>\d{1,15}):(?P<token>[^:]*)"
)
_MESSAGE: Final = re.compile(rb"(?P<circuit>[A-Za-z0-9%_.~-]{0,4096}) (?P<text>\S{1,500})")


_QUESTION: Final = re.compile(rb"\? (?P<word>[A-Za-z0-9%_.~-]{1,200})")


class Keys:
    """
    The names of all there is under a prefix.

    All keys of one circuit have one hash tag, so a cluster has them in one place.

    Attributes:
        channel: Where changes are told.
        alive: The processes that are alive.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}:{VERSION}"
        self.channel = f"{self._prefix}:changes"
        self.alive = f"{self._prefix}:{{fleet}}:alive"

    def state(self, circuit: str) -> str:
        return f"{self._prefix}:{{{quoted(circuit)}}}:state"

    def of(self, circuit: str) -> list[str]:
        """
        All keys of a circuit, in the order that the script wants.
        """
        tag = f"{self._prefix}:{{{quoted(circuit)}}}"
        return [f"{tag}:{kind}" for kind in ("state", "runs", "counts", "hands")]

    def figures(self, process: str) -> str:
        """
        The figures of a process, whose name is quoted already.
        """
        return f"{self._prefix}:{{fleet}}:figures:{process}"


def quoted(name: str) -> str:
    """
    Any text as one in which nothing has a meaning: no ``{}``, no space, no colon.
    """
    return quote(name, safe="", errors="surrogatepass")


def unquoted(name: bytes) -> str | None:
    """
    The same back again, or ``None``.
    """
    try:
        text = unquote(name.decode("ascii"), errors="surrogatepass")
    except UnicodeError:
        return None
    return text if quoted(text).encode() == name else None


def quoted_token(name: str | None) -> str:
    """
    A token as a word, which is empty for nobody's. A long one is known by its digest.
    """
    if name is None:
        return ""
    word = f"={quoted(name)}"
    if len(word) <= _LONGEST_TOKEN:
        return word
    return "#" + sha256(word.encode()).hexdigest()


def text_of(record: Record) -> str:
    """
    A circuit as scripts want it: with the milliseconds that are left of its time.
    """
    numbers = (
        VERSION,
        record.generation,
        _LETTERS[record.state],
        record.rest,
        record.length,
        record.failures,
        record.reopenings,
        record.successes,
        int(record.paused),
        record.pauses,
        record.isolations,
        "",
    )
    return ":".join(str(each) for each in numbers)


def record_from(
    text: object, now: int = 0, latest: int = _record.LAST_GENERATION
) -> Record | None:
    """
    A circuit from the text of one, within bounds.

    Args:
        text: What the engine says.
        now: Milliseconds on its clock, where the text has points in time; 0 where it has
            what is left.
        latest: The same where it is known about, for there is no generation that is more
            than a day ahead of it.
    """
    if not isinstance(text, bytes) or len(text) > LONGEST_TEXT:
        return None
    found = _TEXT.fullmatch(text)
    if found is None or int(found["generation"]) > (now or latest) + _record.DAY:
        return None
    state = _STATES[found["state"]]
    length = min(int(found["length"]), _record.LONGEST)
    left = max(int(found["time"]) - now, 0)
    return Record(
        generation=int(found["generation"]),
        state=state,
        rest=min(left, longest_rest(state, length)),
        length=length,
        failures=_count(found["failures"]),
        reopenings=_count(found["reopenings"]),
        successes=_count(found["successes"]),
        paused=int(found["paused"]) == 1,
        pauses=_count(found["pauses"]),
        isolations=_count(found["isolations"]),
    )


def _count(text: bytes) -> int:
    return _record.count(int(text))


def is_beyond(text: bytes, record: Record, now: int) -> bool:
    """
    Whether a text has a time that is too far away, or too long a one.
    """
    found = _TEXT.fullmatch(text)
    if found is None or int(found["length"]) > _record.LONGEST:
        return True
    is_timed = record.state is not CircuitState.CLOSED
    return is_timed and int(found["time"]) - now > record.rest


def message_from(message: object, latest: int) -> tuple[str, Record] | None:
    """
    What is told of a circuit, if it is that; ``latest`` is about the engine's time.
    """
    if not isinstance(message, bytes) or len(message) > 8192:
        return None
    found = _MESSAGE.fullmatch(message)
    if found is None:
        return None
    circuit, record = unquoted(found["circuit"]), record_from(found["text"], latest=latest)
    return None if circuit is None or record is None else (circuit, record)


def question_of(word: str) -> str:
    """
    What asks all processes for their figures.
    """
    return f"? {quoted(word)}"


def word_from(message: object) -> str | None:
    """
    The word of such a question, if it is one.
    """
    if not isinstance(message, bytes):
        return None
    found = _QUESTION.fullmatch(message)
    return None if found is None else unquoted(found["word"])


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What the script of changes answers.

    Attributes:
        done: Whether the change was done.
        record: The circuit.
        odd: Keys in which there was what could not be read.
    """

    done: bool
    record: Record
    odd: tuple[str, ...]


def reply_from(answer: object) -> Reply | None:
    match answer:
        case [0 | 1 as done, bytes() as text, list() as odd]:
            record = record_from(text)
        case _:
            return None
    if record is None:
        return None
    return Reply(done == 1, record, tuple(_texts(odd)))


def _texts(answer: Iterable[object]) -> list[str]:
    return [each.decode(errors="replace") for each in answer if isinstance(each, bytes)]


def time_from(answer: object) -> int | None:
    """
    Milliseconds, from what ``TIME`` answers.
    """
    match answer:
        case [bytes() as seconds, bytes() as micros]:
            pass
        case _:
            return None
    try:
        return int(seconds) * 1000 + int(micros) // 1000
    except ValueError:
        return None


def names_from(answer: object) -> list[str]:
    """
    Names, from what is to be a list of quoted ones.
    """
    if not isinstance(answer, list):
        return []
    names = (unquoted(each) for each in answer if isinstance(each, bytes))
    return [each for each in names if each is not None]


def pairs_from(answer: object) -> dict[str, str]:
    """
    Names and what belongs to them, of a hash whose names are quoted.
    """
    if isinstance(answer, dict):
        pairs = list(answer.items())
    elif isinstance(answer, list):
        pairs = list(zip(answer[::2], answer[1::2], strict=False))
    else:
        return {}
    found: dict[str, str] = {}
    for name, value in pairs:
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            continue
        plain = unquoted(name)
        if plain is not None:
            found[plain] = value.decode(errors="replace")
    return found


@cache
def script(name: str) -> str:
    """
    A script, with the bounds that it goes by.
    """
    bounds = {
        "BUCKETS": _record.BUCKETS,
        "DAY": _record.DAY,
        "LAST_GENERATION": _record.LAST_GENERATION,
        "LIFE": _record.ALIVE,
        "LONGEST": _record.LONGEST,
        "LONGEST_LEASE": _record.LONGEST_LEASE,
        "LONGEST_TEXT": LONGEST_TEXT,
        "MONTH": _record.MONTH,
        "MOST": _record.MOST,
        "MOST_FIGURES": MOST_FIGURES,
        "MOST_RUNS": _record.MOST_RUNS + 1,  # with the generation that they are of
        "REMEMBERED": _record.REMEMBERED,
    }
    text = files(__package__).joinpath(f"_redis_{name}.lua").read_text(encoding="utf-8")
    used = {
        each: bound for each, bound in bounds.items() if re.search(rf"\b{each}\b", text)
    }
    return "".join(f"local {each} = {bound}\n" for each, bound in used.items()) + text
