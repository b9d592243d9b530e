"""
The simulation of a fleet's false trips is right: beside formulas, and beside calls made one by
one.
"""

from __future__ import annotations

import math
from itertools import count, repeat
from random import Random
from statistics import mean

import pytest

from benchmarks.fleet.chain import mean_calls_alone, median_calls
from benchmarks.fleet.false_trips import (
    BRIEF,
    DEAD,
    HEALTHY,
    Effort,
    Trips,
    discoveries,
    false_trips,
    main,
    shown,
    trial,
)
from benchmarks.fleet.rules import (
    A_HALF,
    A_QUARTER,
    ALONE,
    EVERY_FAILURE,
    IN_FORCE,
    RULES,
    TWO_PROCESSES,
)
from orchestrator_async import CircuitState, FleetPolicy

from .clock import virtual_time
from .fleets import fleet_of, settle
from .support import fail, succeed

TRIALS = Effort(trials=601, calls=100_000)

NEAR = 0.15
"""What 601 trials may be off by: the median of so many is within 6 %, once in three times."""


def one_by_one(processes: int, rate: float, random: Random) -> Trips:
    """
    A trial that makes each call, and forgets nothing.
    """
    trips: Trips = {}
    seen: list[list[bool]] = [[] for _ in range(processes)]
    for call in count(1):
        failed = random.random() < rate
        seen[random.randrange(processes)].append(failed)
        if not failed:
            continue
        runs = [run for run in map(failures_in_a_row, seen) if run]
        failures = sum(map(sum, seen))
        for rule in RULES:
            if rule not in trips and rule.opens(processes, runs, failures):
                trips[rule] = call, failures
        if len(trips) == len(RULES):
            return trips
    raise AssertionError("a count does not end")


def failures_in_a_row(seen: list[bool]) -> int:
    return next((n for n, failed in enumerate(reversed(seen)) if not failed), len(seen))


@pytest.mark.parametrize(
    ("live", "runs", "opens"),
    [
        (1, [2], False),
        (1, [3], True),
        (2, [1, 1], False),
        (2, [2, 1], True),
        (4, [2, 1], True),
        (5, [2, 1], False),
        (5, [1, 1, 1], True),
        (160, [2] * 79, False),
        (160, [1] * 80, True),
        (160, [3], True),
    ],
)
def test_half_of_the_processes_must_have_a_run_and_never_one(
    live: int, runs: list[int], opens: bool
) -> None:
    assert A_HALF.opens(live, runs, sum(runs)) is opens


def test_two_processes_are_enough_where_no_share_is_asked_for() -> None:
    assert TWO_PROCESSES.opens(160, [2, 1], 3)
    assert not TWO_PROCESSES.opens(160, [2], 2)


def test_every_failure_counts_where_no_success_ends_a_run() -> None:
    assert not EVERY_FAILURE.opens(8, [1], 2)
    assert EVERY_FAILURE.opens(8, [1], 3)


def test_one_process_alone_opens_as_the_formula_says() -> None:
    random = Random(8)
    calls = [trial(1, 0.1, 10**6, random)[ALONE][0] for _ in repeat(None, 3000)]
    assert mean(calls) == pytest.approx(mean_calls_alone(0.1), rel=0.06)


def test_three_failures_are_there_when_the_formula_says() -> None:
    for rate in (0.01, 0.3):
        calls = int(median_calls(1, rate, EVERY_FAILURE))
        at_most_two = [
            sum(math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(3))
            for n in (calls - 1, calls)
        ]
        assert at_most_two[0] > 0.5 >= at_most_two[1]


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("processes", [1, 2, 3, 8, 13, 40])
def test_the_trials_come_to_what_the_chain_does(processes: int, rate: float) -> None:
    tried = false_trips(processes, rate, TRIALS)
    for rule in RULES:
        exact = median_calls(processes, rate, rule)
        assert tried[rule] == pytest.approx(exact, rel=NEAR, abs=1), rule.name


def test_the_chain_goes_on_by_a_formula_where_nothing_changes_any_more() -> None:
    # One process opens at a call if it was closed before the success that came four calls
    # earlier, and has failed since.
    rate = 0.01
    closed = [1.0, 1.0, 1.0, 1 - rate**3]
    while closed[-1] > 0.5:
        closed.append(closed[-1] - rate**3 * (1 - rate) * closed[-4])
    assert median_calls(1, rate, ALONE) == pytest.approx(len(closed) - 1, rel=1e-5)


@pytest.mark.parametrize(("processes", "rate"), [(1, 0.3), (4, 0.2), (12, 0.3), (5, 1.0)])
def test_calls_that_change_nothing_can_be_left_out(processes: int, rate: float) -> None:
    random = Random(f"{processes} {rate}")
    whole = [one_by_one(processes, rate, random) for _ in repeat(None, TRIALS.trials)]
    brief = [trial(processes, rate, 10**6, random) for _ in repeat(None, TRIALS.trials)]
    for rule in RULES:
        for part in (0, 1):  # the calls, and how many of them failed
            expected = mean(each[rule][part] for each in whole)
            assert mean(each[rule][part] for each in brief) == pytest.approx(
                expected, rel=NEAR
            ), rule.name


async def opens_in_a_fleet(calls: list[tuple[int, bool]], processes: int) -> int | None:
    """
    The number of the call at which a real fleet opens its circuit.
    """
    async with fleet_of(processes) as fleet:
        await settle(2.0)  # until each knows how many there are
        for number, (process, failed) in enumerate(calls, 1):
            fleet[process].service.behaviour = fail if failed else succeed
            await fleet[process].call()
            await settle(0.01)
            if fleet[0].state is not CircuitState.CLOSED:
                assert {each.state for each in fleet} == {CircuitState.OPEN}
                return number
    return None


def opens_in_the_simulation(calls: list[tuple[int, bool]], processes: int) -> int | None:
    """
    The same, by the rule that is simulated.
    """
    seen: list[list[bool]] = [[] for _ in range(processes)]
    for number, (process, failed) in enumerate(calls, 1):
        seen[process].append(failed)
        runs = [run for run in map(failures_in_a_row, seen) if run]
        if failed and IN_FORCE.opens(processes, runs, sum(map(sum, seen))):
            return number
    return None


def test_the_rule_in_force_is_that_of_the_default_policy() -> None:
    assert FleetPolicy().quorum == 0.5
    assert IN_FORCE is A_HALF


@virtual_time
@pytest.mark.parametrize("processes", [1, 2, 3, 8, 13])
async def test_a_real_fleet_opens_by_the_rule_that_is_simulated(processes: int) -> None:
    random = Random(processes)
    opened = []
    for _ in range(8):
        rate = random.choice([0.1, 0.3, 0.6])
        calls = [
            (random.randrange(processes), random.random() < rate) for _ in repeat(None, 60)
        ]
        opened.append(await opens_in_a_fleet(calls, processes))
        assert opened[-1] == opens_in_the_simulation(calls, processes)
    assert len(set(opened)) > 2  # at different calls, and so by different runs


def test_a_dead_tool_is_found_by_each_process_where_nothing_is_shared() -> None:
    found = discoveries(40, 1.0, BRIEF)
    assert found[ALONE] == (120, 120)
    assert found[TWO_PROCESSES] == found[EVERY_FAILURE] == (3, 3)
    assert 10 <= found[A_QUARTER][0] <= 14 < found[A_HALF][0] < 40


def test_a_tool_that_fails_half_the_time_is_found_by_all_of_the_rules() -> None:
    for processes in BRIEF.fleets:
        calls = {
            rule: found[0] for rule, found in discoveries(processes, 0.5, BRIEF).items()
        }
        assert all(each < 20 * processes + 10 for each in calls.values())
        assert processes == 1 or max(calls.values()) == calls[ALONE]


def test_trials_end_where_they_are_told_to() -> None:
    tried = trial(1, 0.001, 5_000, Random(1))
    assert tried[ALONE] == (math.inf, math.inf)
    assert shown(tried[ALONE][0], 5_000) == ">5,000"


def test_the_same_trials_are_made_each_time() -> None:
    assert false_trips(8, 0.1, BRIEF) == false_trips(8, 0.1, BRIEF)


def test_what_is_printed_are_two_tables_of_every_fleet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--brief"]) == 0
    printed = capsys.readouterr().out
    for processes in BRIEF.fleets:
        assert printed.count(f"\n| {processes} |") == len(HEALTHY + DEAD)
    assert all(rule.name in printed for rule in RULES)
