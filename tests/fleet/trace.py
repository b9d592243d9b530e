"""
The file into which all processes of a fleet write what happens, a line a happening.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """
    A line.

    Attributes:
        kind: What has happened.
        at: When, in seconds of the clock that all processes of a machine share.
        pid: In which process.
        rest: More of it.
    """

    kind: str
    at: float
    pid: int
    rest: tuple[Any, ...]


class Trace:
    """
    Writes lines. Each is one ``write`` that appends, so none is torn by another process,
    and what was written stays if the writer is killed.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, kind: str, *rest: Any) -> float:
        """
        Write a line; the time that is in it.
        """
        at = time.monotonic()
        line = json.dumps([kind, at, os.getpid(), *rest])
        os.write(self._file, line.encode() + b"\n")
        return at

    def close(self) -> None:
        os.close(self._file)


class TraceReader:
    """
    Reads what was written, as far as it was.

    Attributes:
        records: What was read so far.
    """

    def __init__(self, path: Path) -> None:
        path.touch()
        self.records: list[Record] = []
        self._file = path.open("rb")

    def read(self) -> list[Record]:
        """
        All records so far.
        """
        while (line := self._file.readline()).endswith(b"\n"):
            kind, at, pid, *rest = json.loads(line)
            self.records.append(Record(kind, at, pid, tuple(rest)))
        self._file.seek(-len(line), os.SEEK_CUR)
        return self.records

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class Execution:
    """
    One call of the tool.

    Attributes:
        pid: The process that made it.
        tool: Which tool.
        began: When it began.
        ended: When it ended, or ``None`` if it has not, or its process was killed.
        outcome: ``"well"``, ``"dead"``, ``"cancelled"``, or ``None`` if it has not ended.
        verdict: What its circuit was told, if the process has an observer.
    """

    pid: int
    tool: str
    began: float
    ended: float | None = None
    outcome: str | None = None
    verdict: str | None = None


def executions(records: list[Record], tool: str | None = None) -> list[Execution]:
    """
    The calls of a tool, or of all, in the order in which they began.
    """
    found: dict[tuple[int, int], Execution] = {}
    for record in records:
        if record.kind == "begin":
            name, number = record.rest
            found[record.pid, number] = Execution(record.pid, name, record.at)
        elif record.kind == "end":
            name, number, outcome = record.rest
            found[record.pid, number] = replace(
                found[record.pid, number], ended=record.at, outcome=outcome
            )
        elif record.kind == "verdict":
            number, verdict = record.rest
            found[record.pid, number] = replace(found[record.pid, number], verdict=verdict)
    wanted = [each for each in found.values() if tool is None or each.tool == tool]
    return sorted(wanted, key=lambda each: each.began)
