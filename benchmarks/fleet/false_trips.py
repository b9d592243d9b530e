"""
How often a fleet takes a healthy tool away by mistake, and how soon it finds a dead one.

    python -m benchmarks.fleet.false_trips             both tables: less than a minute
    python -m benchmarks.fleet.false_trips --brief     fewer trials, to see that it runs

A healthy tool fails now and then, each call by itself. All processes are equally busy, so with
160 of them many have just seen a failure at any moment: added up, these are more than enough to
open a circuit that has nothing wrong with it. The rules of ``rules`` are tried on the same calls.
Each figure is a number of calls of the whole fleet, the median of many trials whose seeds are
fixed; beside it stands what ``chain`` computes. Nothing takes time here: a failure, and the
success that ends a run, are known to all at once, and a run lasts until its process calls again.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from random import Random
from statistics import median

from .chain import median_calls
from .rules import ALONE, RULES, THRESHOLD, Rule

HEALTHY = (0.001, 0.01, 0.05, 0.1)
DEAD = (1.0, 0.5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """
    How much is tried.

    Attributes:
        trials: How often each fleet begins anew; ten times as often with a tool that is dead,
            which takes few calls.
        calls: Calls after which a trial ends though not every rule has opened the circuit.
        fleets: How many processes each of them has.
    """

    trials: int = 101
    calls: int = 2_000_000
    fleets: tuple[int, ...] = (1, 2, 4, 8, 16, 40, 80, 160)


BRIEF = Effort(trials=9, calls=50_000, fleets=(1, 2, 8, 40))

Trips = dict[Rule, tuple[float, float]]
"""The call at which each rule opens the circuit, and how many had failed by then."""


def trial(processes: int, rate: float, most: int, random: Random) -> Trips:
    """
    Call a tool until every rule has opened its circuit.

    Only calls that change something are drawn: the failures, and the successes of processes
    that have a run. Between two of these there are as many others as chance has it.

    Args:
        processes: How many share the circuit.
        rate: The share of calls that fail.
        most: Calls after which it ends.
        random: Where chance comes from.

    Returns:
        An infinite number for a rule that has not opened it by then.
    """
    trips: Trips = {}
    runs: dict[int, int] = {}
    calls = failures = 0
    while len(trips) < len(RULES):
        ending = (1 - rate) * len(runs) / processes
        calls += _draws_until(rate + ending, random)
        if calls > most:
            break
        if random.random() * (rate + ending) < ending:
            del runs[random.choice([*runs])]
            continue
        failures += 1
        failing = random.randrange(processes)
        runs[failing] = runs.get(failing, 0) + 1
        for rule in RULES:
            if rule not in trips and rule.opens(processes, runs.values(), failures):
                trips[rule] = calls, failures
    return {rule: trips.get(rule, (math.inf, math.inf)) for rule in RULES}


def trial_alone(processes: int, rate: float, random: Random) -> tuple[int, int]:
    """
    Calls and failures until every process has found a tool dead by itself: whoever has, calls
    it no more.
    """
    calls = failures = 0
    for _ in repeat(None, processes):
        run = 0
        while run < THRESHOLD:
            failed = random.random() < rate
            run = run + 1 if failed else 0
            calls, failures = calls + 1, failures + failed
    return calls, failures


def _draws_until(chance: float, random: Random) -> int:
    """
    How many draws it takes until one succeeds that does with this chance.
    """
    if chance >= 1:
        return 1
    return 1 + int(math.log(1 - random.random()) / math.log1p(-chance))


def false_trips(processes: int, rate: float, effort: Effort) -> dict[Rule, float]:
    """
    Calls until a healthy tool is taken away, the median for each rule.
    """
    trials = _trials(processes, rate, effort)
    return {rule: median(each[rule][0] for each in trials) for rule in RULES}


def discoveries(
    processes: int, rate: float, effort: Effort
) -> dict[Rule, tuple[float, float]]:
    """
    Calls and failures until a dead tool is taken away from every process, the medians for
    each rule.
    """
    trials = _trials(processes, rate, replace(effort, trials=10 * effort.trials))
    random = _seeded(processes, rate, "alone")
    alone = [trial_alone(processes, rate, random) for _ in trials]
    for each, found in zip(trials, alone, strict=True):
        each[ALONE] = found
    return {
        rule: (
            median(each[rule][0] for each in trials),
            median(each[rule][1] for each in trials),
        )
        for rule in RULES
    }


def _trials(processes: int, rate: float, effort: Effort) -> list[Trips]:
    random = _seeded(processes, rate, "together")
    return [
        trial(processes, rate, effort.calls, random) for _ in repeat(None, effort.trials)
    ]


def _seeded(processes: int, rate: float, what: str) -> Random:
    return Random(f"{processes} {rate} {what}")


def main(argv: Sequence[str] | None = None) -> int:
    """
    Print both tables, as Markdown.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet.false_trips",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--brief", action="store_true", help="only see that it runs")
    effort = BRIEF if parser.parse_args(argv).brief else Effort()
    for rate in HEALTHY:
        print(
            f"\n{rate:.1%} of the calls fail: calls until the circuit opens, in brackets exactly"
        )
        _show(effort, rate, _healthy_row)
    for rate in DEAD:
        print(
            f"\n{rate:.0%} of the calls fail: calls until nobody calls it, failures in brackets"
        )
        _show(effort, rate, _dead_row)
    return 0


def _show(effort: Effort, rate: float, row: Callable[..., list[str]]) -> None:
    names = [rule.name for rule in RULES]
    print(f"\n| processes | {' | '.join(names)} |\n|{'---|' * (1 + len(names))}")
    for processes in effort.fleets:
        print(f"| {processes} | {' | '.join(row(processes, rate, effort))} |", flush=True)


def _healthy_row(processes: int, rate: float, effort: Effort) -> list[str]:
    tried = false_trips(processes, rate, effort)
    return [
        f"{shown(tried[rule], effort.calls)} ({shown(median_calls(processes, rate, rule))})"
        for rule in RULES
    ]


def _dead_row(processes: int, rate: float, effort: Effort) -> list[str]:
    found = discoveries(processes, rate, effort)
    return [f"{shown(calls)} ({shown(failed)})" for calls, failed in found.values()]


def shown(calls: float, most: float = math.inf) -> str:
    """
    A number of calls as far as it means something: two digits of it, if it is a large one.
    """
    if math.isinf(calls):
        return f">{most:,.0f}"
    if calls < 100:
        return f"{calls:,.0f}"
    unit = 10 ** (int(math.log10(calls)) - 1)
    return f"{round(calls / unit) * unit:,}"


if __name__ == "__main__":
    sys.exit(main())
