"""
Anything, at any time: an engine with faults, processes that stop, die and join, a tool that
changes its mind, callers that give up, and hands. After each round all is made well, and the
fleet must be as if nothing had been.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from .cases import BACK, WATCHED, Callers, between, ground
from .faults import FAULTS, Ground
from .fleet import Fleet, Worker
from .judge import windows
from .switch import Behaviour
from .worker import Setup

RESET: Final = 0.4
LEASE: Final = 2.0
TOOL: Final = "work-0"
LOOPS: Final = ("asyncio", "trio", "uvloop")


@dataclass(kw_only=True, slots=True)
class ChaosResult:
    """
    Attributes:
        rounds: How many there were.
        found: What was not as it should be, by the number of the round and what was done.
        callers: What callers have met with, those of processes that were killed left out.
    """

    rounds: int = 0
    found: list[tuple[int, list[str], str]] = field(default_factory=list)
    callers: Callers | None = None

    def violations(self) -> Iterator[str]:
        assert self.callers is not None
        # Those of a process that is stopped wait, so how long is not looked at.
        if self.callers.raised:
            yield f"{self.callers.raised} exceptions to callers"
        for number, done, what in self.found:
            yield f"round {number}, {done}: {what}"


class Chaos:
    """
    One fleet at the mercy of chance.
    """

    def __init__(self, it: Ground, them: Fleet, seed: int) -> None:
        self.random = random.Random(seed)
        self.it = it
        self.them = them
        self.done: list[str] = []
        self.stopped: list[Worker] = []

    def disturb(self) -> None:
        """
        Some things, one after the other, while a fault of the engine lasts.
        """
        name = self.random.choice(list(FAULTS))
        fault = FAULTS[name]
        self.done = [name]
        things: list[Callable[[], object]] = [
            self.tool,
            self.stop,
            self.go_on,
            self.kill,
            self.by_hand,
            lambda: fault.again(self.it),
        ]
        fault.begin(self.it)
        try:
            for _ in range(self.random.randint(3, 9)):
                self.random.choice(things)()
                self.them.watch(self.random.uniform(0.0, 0.6))
        finally:
            fault.end(self.it)

    def tool(self) -> None:
        mode = self.random.choice(["dead", "dead", "well", "hang"])
        takes = self.random.choice([0.0, 0.0, 0.05])
        self.done.append(mode)
        self.them.tool(Behaviour(mode=mode, takes=takes))

    def stop(self) -> None:
        running = [each for each in self.them.living if each not in self.stopped]
        if len(running) > 1:
            worker = self.random.choice(running)
            self.stopped.append(worker)
            self.done.append(f"stop {worker.pid}")
            worker.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        if self.stopped:
            worker = self.stopped.pop(self.random.randrange(len(self.stopped)))
            self.done.append(f"cont {worker.pid}")
            worker.signal(signal.SIGCONT)

    def kill(self) -> None:
        running = [each for each in self.them.living if each not in self.stopped]
        if len(running) > 1 and self.random.random() < 0.5:
            worker = self.random.choice(running)
            self.done.append(f"kill {worker.pid}")
            worker.kill()

    def by_hand(self) -> None:
        running = [each for each in self.them.living if each not in self.stopped]
        worker = self.random.choice(running)
        do = self.random.choice(["trip", "reset", "isolate", "unisolate"])
        self.done.append(f"{do} {worker.pid}")
        worker.send(0, do, TOOL)

    def heal(self) -> str:
        """
        Make all well; what is wrong then.
        """
        while self.stopped:
            self.go_on()
        self.them.tool(Behaviour())
        missing = 3 - len(self.them.living)
        for _ in range(missing):
            self.them.start(1, [self.random.choice(LOOPS)])
        healed = time.monotonic()
        self.them.watch(BACK)
        # Who was stopped or killed may have left an isolation.
        self.them.tell(self.random.choice(self.them.living), "unisolate", TOOL)
        wrong = self.until_closed(healed + BACK + LEASE + RESET + 1.0)
        return wrong or self.probes()

    def until_closed(self, deadline: float) -> str:
        left = max(0.1, deadline - time.monotonic())
        with suppress(AssertionError):
            self.them.until(lambda: self.states() == {"closed"}, left)
            return ""
        return f"not closed in time: {self.states()}"

    def states(self) -> set[str]:
        return {self.them.tell(each, "state", TOOL) for each in self.them.living}

    def probes(self) -> str:
        """
        Whether the fleet is one: it probes once a window.
        """
        settled = self.them.dies()
        enough = WATCHED * (RESET + 1.0)
        with suppress(AssertionError):
            self.them.until(lambda: len(self.them.executions(settled)) >= WATCHED, enough)
        well = time.monotonic()
        self.them.tool(Behaviour())
        calls = between(self.them.executions(settled), settled, well)
        calls = [each for each in calls if each.verdict in (None, "failure")]
        found = windows(calls, RESET)
        if found.extra or found.calls < WATCHED - 1:
            return f"windows: {found}"
        return self.until_closed(time.monotonic() + RESET + LEASE + BACK)


def run_chaos(*, seconds: float, seed: int, tasks: int = 10) -> ChaosResult:
    """
    So many seconds of it.
    """
    setup = Setup(
        folder="",
        tasks=tasks,
        every=0.1,
        reset_timeout=RESET,
        timeout=LEASE - 1.0,
        impatience=0.003,
    )
    result = ChaosResult()
    with ground(setup, through_proxy=True) as (it, them):
        them.start(3, LOOPS)
        chaos = Chaos(it, them, seed)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            chaos.disturb()
            wrong = chaos.heal()
            result.rounds += 1
            if wrong:
                result.found.append((result.rounds, chaos.done, wrong))
        result.callers = Callers.end(them)
    return result
