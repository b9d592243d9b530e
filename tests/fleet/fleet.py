"""
Starts the processes of a fleet, steers them, and reads what they write.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from .switch import Behaviour, Switch
from .trace import Execution, Record, TraceReader, executions
from .worker import Setup, main

DEADLINE: Final = 30.0  # how long a hang may take to be called one, on a loaded machine

KEEP: Final = "FLEET_TRACES"
"""The environment variable that says where to keep the traces, for those who ask why."""

T = TypeVar("T")

# The processes are forks of one that has imported all that they need, which takes seconds.
_PROCESSES: Final = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.fleet.preload"])

_ONE_AT_A_TIME: Final = threading.Lock()
"""Cases may run in several threads, and ``multiprocessing`` looks at the processes of all."""

LOOPS: Final = {
    "asyncio": ("asyncio",),
    "uvloop": ("uvloop",),
    "trio": ("trio",),
    "mixed": ("asyncio", "trio", "uvloop"),
}
"""Which loops the processes have, in turn."""


class Worker:
    """
    A process of the fleet, from outside.

    Attributes:
        setup: What it was started with.
        pid: Its process.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        with _ONE_AT_A_TIME:
            self._commands, its = _PROCESSES.Pipe()
            self._process = _PROCESSES.Process(target=main, args=(setup, its))
            self._process.start()
        its.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def send(self, number: int, do: str, *args: Any) -> None:
        self._commands.send((number, do, *args))

    @property
    def status(self) -> int | None:
        """
        How it has ended, or ``None`` if it has not.
        """
        with _ONE_AT_A_TIME:
            return self._process.exitcode

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """
        End it at once.
        """
        if self.status is None:
            self.signal(signal.SIGKILL)
            self.wait()

    def wait(self) -> int | None:
        """
        How it has ended, or ``None`` if it has not for a long time.
        """
        end = time.monotonic() + DEADLINE
        while self.status is None and time.monotonic() < end:
            time.sleep(0.005)
        return self.status

    def close(self) -> None:
        """
        End it if it runs.
        """
        self.kill()
        self._commands.close()
        with _ONE_AT_A_TIME:
            self._process.close()


class Fleet:
    """
    Processes that call the same tools, and whoever steers them.

    Attributes:
        setup: What the processes are started with, but for their loops.
        workers: The processes, those that have ended included.
    """

    def __init__(self, setup: Setup) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fleet-"))
        self.setup = replace(setup, folder=str(self.folder))
        self.workers: list[Worker] = []
        self._trace = TraceReader(self.folder / "trace")
        self._asked = 0
        for number in range(setup.tools):
            self.tool(Behaviour(), f"work-{number}")

    def start(self, number: int, loops: Sequence[str], **options: Any) -> list[Worker]:
        """
        Start so many processes, with these loops in turn; they are ready on return.
        """
        new = []
        for each in range(number):
            loop = loops[each % len(loops)]
            new.append(Worker(replace(self.setup, loop=loop, **options)))
        self.workers += new
        pids = {worker.pid for worker in new}
        self.until(lambda: pids <= {record.pid for record in self.records("ready")})
        return new

    # The tools

    def tool(self, behaviour: Behaviour, tool: str = "work-0") -> None:
        """
        Have a tool behave so in all processes.
        """
        Switch(self.folder, tool).set(behaviour)

    def dies(self, tool: str = "work-0") -> float:
        """
        Have a tool fail; the time at which each process has its circuit open, which it was
        not before.
        """
        began = time.monotonic()
        self.tool(Behaviour(mode="dead"), tool)
        self.until_each_changes(("open", "half_open"), since=began, tool=tool)
        return time.monotonic()

    def until_each_changes(
        self,
        to: Sequence[str],
        *,
        since: float,
        deadline: float = DEADLINE,
        tool: str = "work-0",
    ) -> dict[int, float]:
        """
        Wait until the circuit has changed to one of these states in each process that
        lives: when, by their pids.
        """

        def have() -> dict[int, float]:
            return first_changes(self.records("changed", since), tool, to)

        self.until(lambda: {each.pid for each in self.living} <= have().keys(), deadline)
        return have()

    # What they have written

    def records(self, kind: str, since: float = 0.0) -> list[Record]:
        """
        Those of a kind, so far.
        """
        found = self._trace.read()
        return [each for each in found if each.kind == kind and each.at >= since]

    def executions(self, since: float = 0.0, tool: str | None = None) -> list[Execution]:
        """
        The tool calls that began since.
        """
        found = executions(self._trace.read(), tool)
        return [each for each in found if each.began >= since]

    def until(self, holds: Callable[[], T], deadline: float = DEADLINE) -> T:
        """
        Wait until something holds: what it was when it did.

        Raises:
            AssertionError: It does not, after so many seconds, or a process has ended by
                itself.
        """
        end = time.monotonic() + deadline
        while not (held := holds()):
            statuses = [worker.status for worker in self.workers]
            broken = [each for each in statuses if each not in (None, 0, -signal.SIGKILL)]
            assert not broken, f"processes ended with {broken}: {self.complaints()}"
            assert time.monotonic() < end, f"not after {deadline} s: {self.complaints()}"
            time.sleep(0.005)
        return held

    def watch(self, seconds: float) -> None:
        """
        Let time pass.
        """
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end, seconds + DEADLINE)

    def complaints(self) -> list[str]:
        """
        What the processes have logged and raised.
        """
        logged = [str(each.rest) for each in self.records("log")]
        raised = [str(each.rest) for each in self.records("raised")]
        return [*raised, *self.strays(), *logged[-20:]]

    def strays(self) -> list[str]:
        """
        What has come from others than the library: of an error that nobody has asked for,
        say, or from the client of the engine.
        """
        errors = self.folder / "stderr"
        lines = errors.read_text().splitlines() if errors.exists() else []
        records = self.records("log")
        others = [each.rest for each in records if each.rest[0] != "orchestrator_async"]
        return [*lines, *map(str, others)]

    # Commands

    @property
    def living(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.status is None]

    def tell(self, worker: Worker, do: str, *args: Any) -> Any:
        """
        Have a process do something: its answer.
        """
        self._asked += 1
        number = self._asked
        worker.send(number, do, *args)

        def answers() -> list[Any]:
            found = self.records("answer")
            return [each.rest[1] for each in found if each.rest[0] == number]

        self.until(answers)
        return answers()[0]

    def end(self) -> dict[int, dict[str, Any]]:
        """
        Have all processes stop: the figures of each, by their pids.

        Raises:
            AssertionError: One has ended in another way, or has not ended, or something
                was said that the library has not said.
        """
        living = self.living
        for worker in living:
            worker.send(0, "stop")
        statuses = [worker.wait() for worker in living]
        assert not any(statuses), f"ended with {statuses}: {self.complaints()}"
        assert not self.strays(), self.strays()
        return {record.pid: record.rest[0] for record in self.records("figures")}

    def close(self) -> None:
        """
        Kill what is left.
        """
        for worker in self.workers:
            worker.close()
        self._trace.close()
        if KEEP in os.environ:
            shutil.copy(self.folder / "trace", Path(os.environ[KEEP]) / self.folder.name)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def fleet(setup: Setup) -> Iterator[Fleet]:
    """
    A fleet without a process yet, of which none is left at the end.
    """
    it = Fleet(setup)
    try:
        yield it
    finally:
        it.close()


def first_changes(
    records: Sequence[Record], tool: str, to: Sequence[str]
) -> dict[int, float]:
    """
    When the circuit changed to one of these states first, in each process.
    """
    found: dict[int, float] = {}
    for record in records:
        circuit, _, new, _ = record.rest
        if circuit == tool and new in to:
            found.setdefault(record.pid, record.at)
    return found
