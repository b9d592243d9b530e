"""
Collects the corpus again: ``python -m tests.corpus.collect [part ...]``.

Each part makes servers, libraries or programs fail, on this machine alone, and takes down
what they say. What is not installed is skipped, and what was collected of it before is kept.
``CORPUS_TOOLS`` names directories with more programs than are in the ``PATH``, and
``CORPUS_NODE`` one with the libraries of Node.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import traceback
from dataclasses import replace
from pathlib import Path

from .found import CORPUS, Found, distinct, load, normal
from .loopback import Net

PARTS = (
    "commands",
    "node",
    "python",
    "clients",
    "databases",
    "servers",
    "more_servers",
    "content",
    "libraries",
    "node_libraries",
)


def main(parts: list[str]) -> None:
    """
    Collect these parts, or all of them, and keep what is there of other sources.
    """
    os.environ["PATH"] = f"{os.environ['PATH']}:{os.environ.get('CORPUS_TOOLS', '')}"
    new: list[Found] = []
    with Net() as net:
        for part in parts or PARTS:
            with tempfile.TemporaryDirectory(prefix="corpus-") as here:
                new += _collected(part, net, Path(here))
    again = {each.source for each in new}
    kept = [each for each in load() if each.source not in again] if CORPUS.exists() else []
    texts = [replace(each, text=_both_ends(normal(each.text))) for each in new]
    ordered = [*distinct(sorted([*kept, *texts], key=lambda each: each.source))]
    CORPUS.write_text("".join(f"{each.line()}\n" for each in ordered), encoding="utf-8")
    print(f"{len(ordered)} texts of {len({each.source for each in ordered})} sources")


def _both_ends(text: str) -> str:
    return text if len(text) <= 2000 else f"{text[:1000]} ... {text[-1000:]}"


def _collected(part: str, net: Net, here: Path) -> list[Found]:
    found: list[Found] = []
    try:
        for each in importlib.import_module(f"{__package__}.{part}").collect(net, here):
            found.append(each)  # noqa: PERF402 - what came before an error is kept
    except Exception:
        traceback.print_exc()
    print(f"{part}: {len(found)}")
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
