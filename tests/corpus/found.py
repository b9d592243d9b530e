"""
A text of the corpus: what it is made of, how it is kept, and what varies in it.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).with_name("service_errors.jsonl")

LABELS = ("service", "call", "content")
FORMS = ("error", "exception", "json", "mcp", "mcp-ok", "text")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """
    A text that a program gave, and how it was made to.

    Attributes:
        source: The server, library or program.
        provoked: How it was made to fail.
        form: How a tool hands it on: the ``error`` of an object that it returns, an
            ``exception``, the text of a ``json`` object, an ``mcp`` result with ``is_error``
            or one without (``mcp-ok``), or plain ``text``.
        text: What it said.
        label: ``service``, ``call``, or ``content`` for what is no error. It is said by who
            provokes the text, by what was done and not by what was said.
        why: A word on it, if one may think otherwise.
        types: Of an exception: its classes with their modules, without ``object``.
        attributes: Of an exception: what it has beside its text.
    """

    source: str
    provoked: str
    form: str
    text: str
    label: str
    why: str = ""
    types: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """
        The same as long as the text is the same.
        """
        said = f"{self.form} {self.types[:1]} {self.text}"
        digest = hashlib.blake2b(said.encode("utf-8", "replace"), digest_size=3).hexdigest()
        return f"{self.source.replace(' ', '-')}-{digest}"

    def line(self) -> str:
        kept = {"id": self.id} | {
            key: value for key, value in asdict(self).items() if value
        }
        return json.dumps(kept, ensure_ascii=False)


def load(path: Path = CORPUS) -> list[Found]:
    """
    The corpus.
    """
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        kept = json.loads(line)
        name = kept.pop("id")
        kept["types"] = tuple(kept.get("types", ()))
        found.append(Found(**kept))
        assert found[-1].id == name, name
    return found


# What varies from one machine or run to the next, and what is put in its place.
_VARIES = [
    (r"\x1b\[[\d;]*m", ""),
    (r"(?<![\w.])/(?:[\w.@+-]+/)+(?:site-packages|dist-packages|node_modules|lib/python[\d.]+)/",
     "/usr/lib/"),
    (r"(?<![\w.])/(?:tmp|root|home|work|var/tmp|private)(?:/[\w.@+-]+)*/corpus-\w+", "/srv/data"),
    (r"(?<![\w.])/(?:root|work|home)(?:/[\w.@+-]+)+", "/srv/example"),
    (r"(?<![\w.])/tmp(?:/[\w.@+-]+)+", "/srv/data/temporary"),
    (r"(?<=127\.0\.0\.1:)\d+|(?<=localhost:)\d+", "8080"),
    (r"(?<=port )\d{3,5}|(?<=port=)\d{3,5}|(?<=, port ')\d+", "8080"),
    (r"(?<=\('127\.0\.0\.1', )\d+", "8080"),
    (r"0x[0-9a-fA-F]{6,}", "0x7f0000000000"),
    (r"\b\d+(?:\.\d+)? ?ms\b", "12 ms"),
    (r"\b20\d\d-\d\d-\d\dT?[ _]?\d\d[:_]\d\d[:_]\d\d[\w.:+]*", "2026-01-02T03:04:05"),
    (r"\b[0-9a-f]{40}\b", "0" * 40),
    (r"(?<=/dev/tcp/127\.0\.0\.1/)\d+", "8080"),
    (r"(?<=line 1: )(?: *\d+ )(?=Killed|Segmentation)", " 4321 "),
    (r"(?<=thread 'main' \()\d+", "4321"),
    (r"\b(?!127\.|0\.)\d+\.\d+\.\d+\.\d+:53\b", "192.0.2.53:53"),
    (r"(?:(?<=\\n)|\b)[EWI]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ", "E0102 03:04:05.000000 4321 "),
    (r"\b[0-9A-F]{16}(?=:error)", "7F00000000000000"),
    (r"\b1[34]\d{13}\b", "140000000000000"),
    (r"\b[0-9a-f]{24}\b", "0" * 24),
    (r"\b[0-9a-f]{32}\b", "0" * 32),
    (r"(?<=timed out after )[\d.]+", "0.1"),
    (r"(?<=response id )-?\d+|(?<=but expected )\d{4,}", "1234"),
    (r"(?i)\bpid[ =:]+\d+|process \d+", "process 4321"),
]  # fmt: skip


def normal(text: str) -> str:
    """
    The text without what varies, and without a path of this machine.
    """
    text = text.replace(tempfile.gettempdir() + "/corpus", "/tmp/corpus")
    for pattern, instead in _VARIES:
        text = re.sub(pattern, instead, text)
    return text.strip()


def skeleton(found: Found) -> str:
    """
    What near duplicates have in common: the words, without names, numbers and paths.
    """
    text = re.sub(r"(['\"`]).{0,200}?\1", "*", found.text)
    text = re.sub(r"\S*/\S*|\d+", "*", text)
    return f"{found.label} {' '.join(re.findall(r'[a-z*]+', text.lower()))}"


def distinct(all_of_them: Iterable[Found]) -> Iterator[Found]:
    """
    One of each kind: what differs by a file's name alone counts once, and so does what
    several programs say in the same words.
    """
    seen: set[str] = set()
    for found in all_of_them:
        if found.text and not {skeleton(found), found.text} & seen:
            seen |= {skeleton(found), found.text}
            yield found
