"""
Hermes in a home of its own, for tests that run its real tools.

Nothing of hermes may be imported before its home is named, for it writes there.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HOME = Path(tempfile.mkdtemp(prefix="hermes-home-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ["HERMES_HOME"] = str(HOME)

handle: Callable[..., Any] = importlib.import_module("model_tools").handle_function_call
interrupt: Any = importlib.import_module("tools.interrupt")
registry: Any = importlib.import_module("tools.registry").registry
processes: Any = importlib.import_module("tools.process_registry").process_registry
invalidate: Callable[[], None] = importlib.import_module(
    "tools.registry"
).invalidate_check_fn_cache


def interrupted() -> set[int]:
    """
    The threads whose flags are set.
    """
    return set(interrupt._interrupted_threads)


class Puppet:
    """
    A tool in hermes' registry that does what ``behaviour`` says, and counts its runs.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.runs = 0
        self.told: list[dict[str, Any]] = []
        self.behaviour: Callable[[dict[str, Any]], Any] = self.works
        self.available = True

    def __call__(self, args: dict[str, Any], **told: Any) -> Any:
        self.runs += 1
        self.told.append(told)
        return self.behaviour(args)

    @staticmethod
    def works(args: dict[str, Any]) -> Any:
        return json.dumps({"fine": True, "args": args})

    @staticmethod
    def fails(args: dict[str, Any]) -> Any:
        raise ConnectionError("the service is down")

    def is_available(self) -> bool:
        return self.available

    def switch(self, on: bool) -> None:
        self.available = on
        invalidate()


@contextmanager
def puppet(name: str = "puppet", **options: Any) -> Iterator[Puppet]:
    """
    One that is registered for so long.
    """
    made = Puppet(name)
    schema: Any = {
        "name": name,
        "description": "A puppet.",
        "parameters": {
            "type": "object",
            "properties": {"count": {"type": "integer"}},
        },
    }
    options = {"handler": made, "check_fn": made.is_available, **options}
    schema = options.pop("schema", schema)
    registry.register(name, "puppets", schema, **options)
    try:
        yield made
    finally:
        registry.deregister(name)


def until(what: Callable[[], object], seconds: float = 20.0) -> None:
    """
    Ask at short intervals until it is so.
    """
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to be so"
        time.sleep(0.01)


def pid_in(path: Path) -> int:
    """
    The number that a command has written to a file, once it is there.
    """
    until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


def is_gone(pid: int) -> bool:
    """
    Whether a process has ended, reaped or not.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


class Thread(threading.Thread):
    """
    A thread whose function's value or exception can be had.
    """

    def __init__(self, fn: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._fn = fn
        self._value: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._value = self._fn()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self.join(30)
        assert not self.is_alive(), "it has not ended"
        if self._error is not None:
            raise self._error
        return self._value


POSIX = sys.platform == "linux"
