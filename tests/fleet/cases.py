"""
What a fleet has to go through, in any size: each case says what has come of it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from tests.stores.engine import engine

from .faults import FAULTS, Fault, Ground
from .fleet import LOOPS, Fleet, Worker, fleet
from .judge import Windows, percentile, windows, windows_of_each
from .proxy import proxy
from .switch import Behaviour
from .trace import Execution
from .worker import Setup

ADDED: Final = 0.060
"""Seconds that any call may take beyond its tool's own, and the machine's."""

HANGS: Final = 0.2
"""Seconds after which a call that has not ended hangs."""

BACK: Final = 2.0
"""Seconds after which a fleet whose engine is well again shares its circuits again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Callers:
    """
    What callers have met with.

    Attributes:
        calls: How many they made.
        raised: Exceptions out of ``dispatch``.
        given_up: Calls that were given up.
        worst: Seconds that a call took beyond its tool's own, at the most.
        worst_net: The same, without those in which the loop was late.
        worst_lag: By how many seconds a loop was late, at the most.
        leaving: Seconds that an orchestrator took to end, at the most.
        slowest: Of the slowest calls: when they were made, what they took beyond their
            tools', for how much of that the loop was late, and waited for a processor.
        logged: What was logged, without what circuits say, and when.
    """

    calls: int
    raised: int
    given_up: int
    worst: float
    worst_net: float
    worst_lag: float
    leaving: float
    slowest: list[tuple[float, ...]]
    logged: list[tuple[float, int, str]]

    @classmethod
    def end(cls, them: Fleet) -> Callers:
        """
        Those of all processes, which are to stop.
        """
        each = them.end().values()
        ready = max(record.at for record in them.records("ready"))
        slow = [record.rest for record in them.records("slow", ready)]
        net = sorted(slow, key=lambda call: max(call[3:]) - call[2])
        return cls(
            calls=sum(one["calls"] for one in each),
            raised=len(them.records("raised")),
            given_up=sum(one["given up"] for one in each),
            worst=max(one["worst"] for one in each),
            worst_net=max(one["worst_net"] for one in each),
            worst_lag=max(one["worst_lag"] for one in each),
            leaving=max(one["leaving"] for one in each),
            slowest=[(began, *rest) for began, _, *rest in net[:3]],
            logged=_logged(them),
        )

    def violations(self) -> Iterator[str]:
        if self.raised:
            yield f"{self.raised} exceptions to callers"
        if self.worst_net > ADDED:
            yield f"a call took {self.worst_net * 1000:.0f} ms more than its tool"


def _logged(them: Fleet) -> list[tuple[float, int, str]]:
    return [
        (each.at, each.pid, each.rest[2])
        for each in them.records("log")
        if not each.rest[2].startswith("circuit work")
    ]


@contextmanager
def ground(setup: Setup, *, through_proxy: bool = False) -> Iterator[tuple[Ground, Fleet]]:
    """
    An engine, and a fleet without a process yet that is to use it.
    """
    with engine() as it, proxy(it.port) as before_it:
        url = before_it.url if through_proxy else it.url
        with fleet(replace(setup, url=url)) as processes:
            yield Ground(engine=it, proxy=before_it, prefix=setup.prefix), processes


@contextmanager
def alone(setup: Setup) -> Iterator[tuple[None, Fleet]]:
    """
    Processes that have nothing in common.
    """
    with fleet(setup) as processes:
        yield None, processes


def start(
    them: Fleet, loops: str, processes: int, *, watch_all: bool = False
) -> list[Worker]:
    """
    Start so many processes, of which one in three has no observer, or all have.
    """
    watched = processes if watch_all else processes - processes // 3
    names = [LOOPS[loops][each % len(LOOPS[loops])] for each in range(processes)]
    return [
        *them.start(watched, names[:watched]),
        *them.start(processes - watched, names[watched:], watched=False),
    ]


# Windows


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowsResult:
    """
    Attributes:
        windows: The half-open windows.
        seconds: How long they took.
        closing: Seconds from the tool's recovery to the last process that is closed again.
        callers: What callers have met with.
        wanted: How many windows there were to be.
        reset_timeout: Of the circuit.
    """

    windows: Windows
    seconds: float
    closing: float
    callers: Callers
    wanted: int
    reset_timeout: float

    def violations(self) -> Iterator[str]:
        yield from self.callers.violations()
        if self.windows.calls < self.wanted:
            yield f"{self.windows.calls} windows, not {self.wanted}"
        if self.windows.extra:
            yield f"{self.windows.extra} calls more than one a window"


def run_windows(
    loops: str,
    *,
    processes: int = 3,
    tasks: int = 30,
    every: float = 0.1,
    number: int = 8,
    reset_timeout: float = 0.3,
    impatience: float = 0.0,
    shared: bool = True,
) -> WindowsResult:
    """
    A tool that is dead for so many windows, and then well.

    Args:
        loops: The loops of the processes.
        processes: How many there are.
        tasks: How many call the tool in each.
        every: Seconds from one call of a task to its next.
        number: How many windows.
        reset_timeout: Of the circuit.
        impatience: Seconds after which callers give up at the latest, by chance.
        shared: Whether the processes share the circuit at all.
    """
    setup = Setup(
        folder="",
        tasks=tasks,
        every=every,
        reset_timeout=reset_timeout,
        impatience=impatience,
    )
    with ground(setup) if shared else alone(setup) as (_, them):
        start(them, loops, processes, watch_all=impatience > 0)
        them.watch(0.3)
        settled = them.dies()
        enough = number * (reset_timeout + 1.0)
        them.until(lambda: len(_heard(them, settled)) >= number, enough)
        seconds = time.monotonic() - settled
        well = time.monotonic()
        them.tool(Behaviour())
        closed = them.until_each_changes(("closed",), since=well)
        return WindowsResult(
            windows=windows(_heard(them, settled), reset_timeout),
            seconds=seconds,
            closing=max(closed.values()) - well,
            callers=Callers.end(them),
            wanted=number,
            reset_timeout=reset_timeout,
        )


def _heard(them: Fleet, since: float) -> list[Execution]:
    """
    The failures that the circuit has heard of: of a call that is given up it does not.
    """
    dead = [each for each in them.executions(since) if each.outcome == "dead"]
    return [each for each in dead if each.verdict in (None, "failure")]


# A prober that dies, or sleeps


@dataclass(frozen=True, kw_only=True, slots=True)
class ProberResult:
    """
    Attributes:
        lease: Seconds of a probe's lease.
        next_probe: Seconds from the first probe's begin to the next probe's.
        is_another: Whether that was in another process.
        extra: Calls that nobody should have made.
        states: What the circuits became after the second probe's verdict and the stale one.
        wanted: What they should be.
        callers: What callers have met with.
    """

    lease: float
    next_probe: float
    is_another: bool
    extra: int
    states: dict[int, list[str]]
    wanted: str
    callers: Callers

    def violations(self) -> Iterator[str]:
        # What the sleeper's own callers waited is what it slept.
        if self.callers.raised:
            yield f"{self.callers.raised} exceptions to callers"
        if self.next_probe > self.lease + 1.0 + self.callers.worst_lag:
            yield f"the next probe after {self.next_probe:.2f} s"
        if self.next_probe < self.lease - 0.1 - self.callers.worst_lag:
            yield f"the next probe within the lease: after {self.next_probe:.2f} s"
        if not self.is_another:
            yield "the next probe was in the same process"
        if self.extra:
            yield f"{self.extra} calls more than were to be"
        for pid, states in self.states.items():
            if states != [self.wanted]:
                yield f"process {pid} was {states}, not {self.wanted}"


def _hanging_probe(them: Fleet, processes: int, loops: str) -> tuple[Worker, Execution]:
    """
    A fleet whose open circuit is being probed by a call that hangs: by whom, and the probe.
    """
    start(them, loops, processes)
    settled = them.dies()
    them.until(lambda: them.executions(settled))
    them.tool(Behaviour(mode="hang"))

    def hanging() -> list[Execution]:
        # One that was begun before the tool hangs ends at once, and is seen to a moment later.
        old = time.monotonic() - HANGS
        all_of_them = them.executions(settled)
        return [each for each in all_of_them if each.ended is None and each.began < old]

    (probe,) = them.until(hanging)
    return next(each for each in them.workers if each.pid == probe.pid), probe


def run_killed_prober(
    loops: str,
    *,
    processes: int = 3,
    tasks: int = 10,
    every: float = 0.05,
    timeout: float = 2.0,
) -> ProberResult:
    """
    A process that is killed while it probes.
    """
    setup = Setup(folder="", tasks=tasks, every=every, timeout=timeout)
    with ground(setup) as (_, them):
        prober, probe = _hanging_probe(them, processes, loops)
        prober.kill()
        them.tool(Behaviour())
        them.until(lambda: len(them.executions(probe.began)) > 1)
        second = them.executions(probe.began)[1]
        them.until_each_changes(("closed",), since=second.began)
        return ProberResult(
            lease=timeout + 1.0,
            next_probe=second.began - probe.began,
            is_another=second.pid != probe.pid,
            extra=0,
            states={},
            wanted="closed",
            callers=Callers.end(them),
        )


def run_sleeping_prober(
    loops: str,
    *,
    stale: str,
    fresh: str,
    wakes_first: bool,
    processes: int = 3,
    tasks: int = 10,
    every: float = 0.05,
    lease: float = 2.5,
) -> ProberResult:
    """
    A process that is stopped while it probes, for longer than its lease, and then goes on.

    Args:
        loops: The loops of the processes.
        stale: What its own probe finds out at last: ``"well"`` or ``"dead"``.
        fresh: The same of the next probe.
        wakes_first: Whether it wakes while that one runs, or after its verdict.
        processes: How many there are.
        tasks: How many call the tool in each.
        every: Seconds from one call of a task to its next.
        lease: Seconds of a probe's lease.
    """
    reset_timeout = 1.5
    setup = Setup(
        folder="",
        tasks=tasks,
        every=every,
        timeout=None,
        probe_lease=lease,
        reset_timeout=reset_timeout,
    )
    with ground(setup) as (_, them):
        prober, probe = _hanging_probe(them, processes, loops)
        prober.signal(signal.SIGSTOP)
        try:
            them.until(lambda: len(them.executions(probe.began)) > 1)
            second = them.executions(probe.began)[1]
            sleeper = {str(prober.pid): stale}
            if wakes_first:
                _wake(them, prober, Behaviour(mode="hang", hung=sleeper))
                them.watch(0.3)
            # It reads what the others do only when it wakes.
            them.tool(Behaviour(mode=fresh, hung=sleeper))
            them.until(lambda: _ended(them, second))
            verdict_at = _ended(them, second)
            assert verdict_at is not None
            if not wakes_first:
                them.watch(0.1)
                _wake(them, prober, Behaviour(mode=fresh, hung=sleeper))
            them.watch(verdict_at + reset_timeout - 0.3 - time.monotonic())
        finally:
            prober.signal(signal.SIGCONT)
        wanted = "closed" if fresh == "well" else "open"
        states = _states(them, since=second.began, until=time.monotonic())
        calls = them.executions(second.began)[1:]
        extra = [each for each in calls if fresh == "dead" or each.began < verdict_at]
        return ProberResult(
            lease=lease,
            next_probe=second.began - probe.began,
            is_another=second.pid != probe.pid,
            extra=len(extra),
            states=states,
            wanted=wanted,
            callers=Callers.end(them),
        )


SLEEPERS: Final = [
    ("well", "dead", True),
    ("well", "dead", False),
    ("dead", "well", True),
    ("dead", "well", False),
]
"""Stale verdicts, the fresh one beside each, and whether the stale one comes first."""


def _wake(them: Fleet, prober: Worker, behaviour: Behaviour) -> None:
    """
    Have it go on, and wait until its stale probe has ended.
    """
    woken = time.monotonic()
    them.tool(behaviour)
    prober.signal(signal.SIGCONT)
    them.until(lambda: [e for e in them.records("end", woken) if e.pid == prober.pid])


def _ended(them: Fleet, call: Execution) -> float | None:
    """
    When that call has ended.
    """
    for each in them.executions():
        if (each.pid, each.began) == (call.pid, call.began):
            return each.ended
    return None


def _states(them: Fleet, *, since: float, until: float) -> dict[int, list[str]]:
    """
    Which states besides half-open each circuit has come to, in this time.
    """
    found: dict[int, list[str]] = {worker.pid: [] for worker in them.workers}
    for record in them.records("changed", since):
        if record.rest[2] != "half_open" and record.at < until:
            found[record.pid].append(record.rest[2])
    return found


# An engine with faults


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultResult:
    """
    Attributes:
        fault: Which.
        lasted: Seconds of it.
        before: Windows before it.
        during: Windows while it lasted, of the whole fleet.
        of_each: The same of each process by itself.
        after: Windows after it, from when all is to be as before.
        back: Seconds from the end of the fault to the last call that was one more than one
            a window.
        closing: Seconds from the tool's recovery to the last process that is closed again.
        callers: What callers have met with.
        is_fleet_wide: Whether there was to be one probe a window in the fleet all the time.
        reset_timeout: Of the circuit.
    """

    fault: str
    lasted: float
    before: Windows
    during: Windows
    of_each: list[Windows]
    after: Windows
    back: float
    closing: float
    callers: Callers
    is_fleet_wide: bool
    reset_timeout: float

    def violations(self) -> Iterator[str]:
        yield from self.callers.violations()
        if self.before.extra:
            yield f"{self.before.extra} extra calls before the fault"
        if self.is_fleet_wide and self.during.extra:
            yield f"{self.during.extra} extra calls while it lasted"
        extra = sum(each.extra for each in self.of_each)
        if extra:
            yield f"{extra} extra calls by one process while it lasted"
        if self.after.extra:
            yield f"{self.after.extra} extra calls once back"
        if self.after.calls < WATCHED:
            yield f"{self.after.calls} windows once back, not {WATCHED}"
        if self.closing > self.reset_timeout + BACK + self.callers.worst_lag:
            yield f"closed only after {self.closing:.1f} s"


WATCHED: Final = 3
"""Windows that are looked at once the fleet is back."""


def run_fault(
    name: str,
    loops: str = "mixed",
    *,
    trips_within: bool = False,
    processes: int = 3,
    tasks: int = 20,
    every: float = 0.1,
    seconds: float = 3.0,
    reset_timeout: float = 0.4,
) -> FaultResult:
    """
    A fault while calls are made of a tool that is dead.

    Args:
        name: Which fault.
        loops: The loops of the processes.
        trips_within: Whether the tool dies while it lasts, or before.
        processes: How many there are.
        tasks: How many call the tool in each.
        every: Seconds from one call of a task to its next.
        seconds: How long it lasts.
        reset_timeout: Of the circuit.
    """
    fault = FAULTS[name]
    setup = Setup(folder="", tasks=tasks, every=every, reset_timeout=reset_timeout)
    with ground(setup, through_proxy=fault.through_proxy) as (it, them):
        start(them, loops, processes)
        them.watch(0.3)
        settled = time.monotonic()
        if not trips_within:
            settled = them.dies()
            them.watch(3 * reset_timeout)
        began = time.monotonic()
        fault.begin(it)
        if trips_within:
            settled = them.dies()
        _last(them, it, fault, until=began + seconds)
        fault.end(it)
        healed = time.monotonic()
        them.watch(BACK)
        enough = WATCHED * (reset_timeout + 1.0)
        them.until(lambda: len(_heard(them, healed + BACK)) >= WATCHED, enough)
        well = time.monotonic()
        them.tool(Behaviour())
        closed = them.until_each_changes(("closed",), since=well)
        dead = _heard(them, settled)
        within = between(dead, began, healed)
        return FaultResult(
            fault=name,
            lasted=healed - began,
            before=windows(between(dead, 0.0, began), reset_timeout),
            during=windows(within, reset_timeout),
            of_each=windows_of_each(within, reset_timeout),
            after=windows(between(dead, healed + BACK, well), reset_timeout),
            back=_back(between(dead, healed, well), reset_timeout) - healed,
            closing=max(closed.values()) - well,
            callers=Callers.end(them),
            is_fleet_wide=fault.is_fleet_wide,
            reset_timeout=reset_timeout,
        )


def _last(them: Fleet, it: Ground, fault: Fault, until: float) -> None:
    while time.monotonic() < until:
        fault.again(it)
        them.watch(min(0.2, max(0.0, until - time.monotonic())))


def between(calls: Sequence[Execution], since: float, until: float) -> list[Execution]:
    """
    Those that began in this time.
    """
    return [each for each in calls if since <= each.began < until]


def _back(calls: Sequence[Execution], reset_timeout: float) -> float:
    """
    When the last call began that came too early.
    """
    found = windows(calls, reset_timeout)
    early = [
        call.began
        for call, gap in zip(calls[1:], found.gaps, strict=True)
        if gap < reset_timeout - 0.02
    ]
    return max(early, default=calls[0].began if calls else 0.0)


# An engine that is slow for long


@dataclass(frozen=True, kw_only=True, slots=True)
class PatienceResult:
    """
    Attributes:
        closing: Seconds from the tool's recovery until each process was closed.
        allowed: How many there may be.
        reopened: Circuits that were opened again when the engine went on.
        unsettled: Seconds from then on until all were closed for good: what the engine was
            asked before it slept, it does when it wakes.
        callers: What callers have met with.
    """

    closing: list[float]
    allowed: float
    reopened: int
    unsettled: float
    callers: Callers

    def violations(self) -> Iterator[str]:
        yield from self.callers.violations()
        if max(self.closing) > self.allowed + self.callers.worst_lag:
            yield f"closed only after {max(self.closing):.1f} s"
        if self.reopened:
            yield f"{self.reopened} circuits were opened again by an engine that woke up"
        if self.unsettled > BACK + self.callers.worst_lag:
            yield f"closed for good only {self.unsettled:.1f} s after it woke up"


def run_patience(
    loops: str = "mixed",
    *,
    processes: int = 3,
    tasks: int = 10,
    every: float = 0.1,
    stopped: float = 10.0,
    well_after: float = 2.0,
    reset_timeout: float = 1.0,
) -> PatienceResult:
    """
    An engine that is stopped while a circuit is open, and a tool that is well again long
    before the engine goes on.
    """
    setup = Setup(folder="", tasks=tasks, every=every, reset_timeout=reset_timeout)
    with ground(setup) as (it, them):
        start(them, loops, processes)
        them.dies()
        it.engine.stop()
        began = time.monotonic()
        them.watch(well_after)
        them.tool(Behaviour())
        well = time.monotonic()
        closed = them.until_each_changes(("closed",), since=well, deadline=stopped)
        them.watch(began + stopped - time.monotonic())
        it.engine.cont()
        woken = time.monotonic()
        them.watch(3.0)
        changes = them.records("changed", woken)
        states = [them.tell(worker, "state", "work-0") for worker in them.living]
        assert set(states) == {"closed"}, states
        return PatienceResult(
            closing=[at - well for at in closed.values()],
            allowed=reset_timeout + 5.0,
            reopened=sum(each.rest[2] == "open" for each in changes),
            unsettled=max((each.at - woken for each in changes), default=0.0),
            callers=Callers.end(them),
        )


# How news travel


@dataclass(frozen=True, kw_only=True, slots=True)
class NewsResult:
    """
    Attributes:
        delays: Seconds from a process's change to OPEN until each other one had it.
    """

    delays: list[float]

    def violations(self) -> Iterator[str]:
        # What a resync takes is half a second on average. How fast it is, is for those who
        # look.
        if self.median > 0.2:
            yield f"half of them needed more than {self.median:.2f} s"

    @property
    def median(self) -> float:
        return percentile(self.delays, 0.5)

    @property
    def late(self) -> float:
        """
        What one in twenty exceeds.
        """
        return percentile(self.delays, 0.95)


def run_news(loops: str = "mixed", *, processes: int = 4, rounds: int = 20) -> NewsResult:
    """
    A circuit that is opened by failures in one process, again and again.
    """
    setup = Setup(folder="", tasks=0, reset_timeout=60.0)
    delays = []
    with ground(setup) as (_, them):
        workers = them.start(processes, LOOPS[loops])
        for each in range(rounds):
            one = workers[each % processes]
            began = time.monotonic()
            them.tool(Behaviour(mode="dead"))
            them.tell(one, "call", "work-0", setup.failure_threshold)
            opened = them.until_each_changes(("open",), since=began)
            first = opened.pop(one.pid)
            delays += [at - first for at in opened.values()]
            began = time.monotonic()
            them.tell(one, "reset", "work-0")
            them.until_each_changes(("closed",), since=began)
        them.end()
    return NewsResult(delays=delays)
