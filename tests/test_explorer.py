"""
The breaker under every interleaving of a few calls; and the explorer, under test itself.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest

from orchestrator_async._breaker import Breaker

from . import faults
from .conftest import Summary
from .explorer import RuleBrokenError, Scenario, count_plainly, explore

# How many schedules each scenario has. The number may grow; if it falls, the explorer
# sees less than it did.
SCENARIOS = {
    Scenario(
        name="an outage begins among calls in flight", awaits=(1, 1, 1, 1), ticks=4, asks=2
    ): 3_077_952,
    Scenario(
        name="failures add up among calls in flight",
        awaits=(2, 2, 1, 1),
        threshold=2,
        ticks=4,
        asks=2,
    ): 5_049_140,
    Scenario(
        name="an outage ends, with awaits to be cancelled at",
        awaits=(2, 2, 2),
        begins_open=True,
        ticks=4,
        asks=2,
    ): 31_233_738,
    Scenario(
        name="an outage ends for many",
        awaits=(1, 1, 1, 1),
        begins_open=True,
        ticks=5,
        asks=2,
    ): 328_555_056,
    Scenario(
        name="a lease that is longer than the circuit stays open",
        awaits=(1, 1, 1),
        begins_open=True,
        lease=16.0,
        ticks=4,
        nearly=1,
        asks=2,
    ): 3_138_630,
    Scenario(
        name="a clock that goes back",
        awaits=(2, 1, 1),
        begins_open=True,
        ticks=3,
        nearly=1,
        back=1,
    ): 875_634,
    Scenario(
        name="an operator isolates",
        awaits=(2, 1, 1),
        begins_open=True,
        ticks=3,
        by_hand=("isolate", "release"),
    ): 476_742,
    Scenario(
        name="an operator disables and resets",
        awaits=(1, 1, 1),
        begins_open=True,
        ticks=3,
        by_hand=("disable", "reset"),
    ): 1_155_900,
    Scenario(
        name="an operator does it all",
        awaits=(1, 1),
        begins_open=True,
        ticks=2,
        asks=2,
        by_hand=("isolate", "release", "disable", "reset"),
    ): 1_492_470,
    Scenario(
        name="two probes have to succeed",
        awaits=(1, 1, 1),
        begins_open=True,
        successes=2,
        ticks=3,
        asks=3,
    ): 6_400_926,
    Scenario(
        name="two slow probes have to succeed, and a clock goes back",
        awaits=(1, 1),
        begins_open=True,
        successes=2,
        others=("is slow",),
        ticks=3,
        back=1,
        asks=3,
    ): 79_412,
    Scenario(
        name="a rate of failures and slow calls",
        awaits=(1, 1, 1, 1),
        threshold=9,
        window=3,
        others=("is slow",),
        ticks=1,
    ): 857_232,
    Scenario(
        name="a window after an outage, and after a pause",
        awaits=(1, 1, 1, 1),
        threshold=9,
        window=2,
        others=("is slow", "is throttled"),
        ticks=2,
        asks=2,
    ): 7_339_632,
    Scenario(
        name="calls and probes are throttled",
        awaits=(1, 1, 1, 1),
        threshold=2,
        others=("is throttled",),
        ticks=3,
        asks=2,
    ): 6_313_344,
    Scenario(
        name="a circuit stays open for longer each time",
        awaits=(1, 1, 1),
        begins_open=True,
        multiplier=2.0,
        max_reset=30.0,
        others=("is slow",),
        ticks=4,
        nearly=1,
        asks=2,
    ): 8_323_374,
    Scenario(
        name="an operator trips and disables among calls in flight",
        awaits=(1, 1, 1),
        ticks=2,
        asks=2,
        by_hand=("trip", "disable"),
    ): 3_522_600,
    Scenario(
        name="an operator disables two probes and a pause",
        awaits=(1, 1),
        begins_open=True,
        successes=2,
        others=("is throttled",),
        ticks=2,
        asks=3,
        by_hand=("disable", "isolate", "release"),
    ): 2_541_992,
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_no_interleaving_breaks_a_rule(scenario: Scenario, summary: Summary) -> None:
    report = explore(scenario)

    assert report.schedules >= SCENARIOS[scenario]
    summary.add("explorer: schedules", report.schedules)
    summary.add("explorer: situations that they led through", report.situations)
    summary.add("explorer: steps taken", report.steps)


# --- the explorer itself --------------------------------------------------------------

HEALTHY = Scenario(name="healthy", awaits=(1, 1, 1, 1), threshold=2, ticks=2)
OUTAGE = Scenario(name="outage", awaits=(1, 1, 1), begins_open=True, ticks=3)
CLOCK = Scenario(name="clock", awaits=(2, 1), begins_open=True, ticks=2, back=1, nearly=1)
BY_HAND = Scenario(
    name="by hand",
    awaits=(1, 1),
    begins_open=True,
    ticks=2,
    asks=2,
    by_hand=("isolate", "release", "reset"),
)
TWO_PROBES = Scenario(
    name="two probes", awaits=(1, 1, 1, 1), begins_open=True, successes=2, ticks=3
)
PAUSES = Scenario(
    name="pauses", awaits=(1, 1, 1, 1), threshold=2, ticks=2, others=("is throttled",)
)
WINDOW = Scenario(
    name="window",
    awaits=(1, 1, 1, 1),
    threshold=9,
    window=2,
    rate=0.5,
    ticks=2,
    others=("is slow", "is throttled"),
)
GROWS = Scenario(
    name="grows",
    awaits=(1, 1, 1, 1),
    begins_open=True,
    multiplier=2.0,
    max_reset=15.0,
    ticks=3,
    others=("is slow",),
)
DISABLED = Scenario(
    name="disabled",
    awaits=(1, 1),
    begins_open=True,
    ticks=2,
    by_hand=("disable", "isolate", "trip"),
)


@pytest.mark.parametrize(
    "scenario",
    [
        OUTAGE,
        CLOCK,
        replace(BY_HAND, asks=1),
        replace(HEALTHY, awaits=(1, 1, 2)),
        replace(TWO_PROBES, awaits=(1, 1, 1)),
        replace(WINDOW, awaits=(1, 1)),
        replace(DISABLED, ticks=1, by_hand=("disable", "trip")),
    ],
    ids=lambda scenario: scenario.name,
)
def test_schedules_that_go_on_as_one_are_each_counted(scenario: Scenario) -> None:
    report = explore(scenario)
    assert report.schedules == count_plainly(scenario)
    assert report.situations < report.schedules


# Each fault with a scenario in which it shows, the rule that it breaks, and a shortest
# schedule that breaks it.
Found = dict[type[Breaker], tuple[Scenario, str, str]]

FOUND_BY_A_STEP: Found = {
    faults.DropsTheToken: (
        OUTAGE,
        "an expired probe's failure changes nothing",
        "time passes, A asks, time passes, B asks, A fails",
    ),
    faults.IgnoresTheGeneration: (
        HEALTHY,
        "a stale permit changes nothing",
        "A asks, A fails, B asks, C asks, B fails, time passes, D asks, C succeeds",
    ),
    faults.LosesAnExpiredSuccess: (
        OUTAGE,
        "a probe's success closes the circuit, expired or not",
        "time passes, A asks, time passes, B asks, A succeeds",
    ),
    faults.CountsAnExpiredFailure: (
        OUTAGE,
        "an expired probe's failure changes nothing",
        "time passes, A asks, time passes, A fails",
    ),
    faults.CountsACancellationAsAFailure: (
        HEALTHY,
        "no verdict changes no state",
        "A asks, A is cancelled",
    ),
    faults.CountsACancellationAsASuccess: (
        OUTAGE,
        "no verdict changes no state",
        "time passes, A asks, A is cancelled",
    ),
    faults.ClaimsATakenLease: (
        OUTAGE,
        "one probe in flight a lease",
        "time passes, A asks, B asks",
    ),
    faults.KeepsThePlaceWithoutAVerdict: (
        OUTAGE,
        "a place that was given back is free",
        "time passes, A asks, A is cancelled",
    ),
    faults.ReopensAtOnce: (
        OUTAGE,
        "an open circuit lets nobody in before its time",
        "time passes, A asks, A fails, B asks",
    ),
    faults.IsolationEndsTheProbe: (
        BY_HAND,
        "one probe in flight a lease",
        "time passes, A asks, the operator: isolate, the operator: release, B asks",
    ),
    faults.IsolationStartsNoGeneration: (
        BY_HAND,
        "every transition starts a generation",
        "the operator: isolate",
    ),
    faults.CountsAPauseAsAFailure: (
        PAUSES,
        "a pause is no failure",
        "A asks, A is throttled",
    ),
    faults.PausesAsLongAsItIsTold: (
        PAUSES,
        "a pause is no longer than it may be",
        "A asks, A is throttled, B asks",
    ),
    faults.PausesOnAStalePermit: (
        PAUSES,
        "a stale permit changes nothing",
        "A asks, B asks, A is throttled, time passes, C asks, C succeeds, B is throttled",
    ),
    faults.KeepsThePlaceWhenThrottled: (
        PAUSES,
        "a verdict in time has its effect",
        "A asks, A is throttled, time passes, B asks, B is throttled",
    ),
    faults.ClosesAtTheFirstProbe: (
        TWO_PROBES,
        "a verdict in time has its effect",
        "time passes, A asks, A succeeds",
    ),
    faults.NoVerdictEndsTheRow: (
        TWO_PROBES,
        "a probe's success closes the circuit, expired or not",
        "time passes, A asks, A succeeds, B asks, B is cancelled, C asks, C succeeds",
    ),
    faults.RemembersTheRow: (
        TWO_PROBES,
        "a verdict in time has its effect",
        "time passes, A asks, A succeeds, B asks, B fails, time passes, C asks, C succeeds",
    ),
    faults.KeepsThePlaceBetweenProbes: (
        TWO_PROBES,
        "a place that was given back is free",
        "time passes, A asks, A succeeds",
    ),
    faults.ASlowProbeCloses: (
        WINDOW,
        "a verdict in time has its effect",
        "A asks, A is throttled, time passes, B asks, B is slow",
    ),
    faults.CountsASlowProbeAsAFailure: (
        WINDOW,
        "a slow probe is no failure",
        "A asks, A is throttled, time passes, B asks, B is slow",
    ),
    faults.AFastSuccessTrips: (
        WINDOW,
        "a verdict in time has its effect",
        "A asks, A fails, B asks, B succeeds",
    ),
    faults.TripsOnTooFewCalls: (
        WINDOW,
        "a verdict in time has its effect",
        "A asks, A fails",
    ),
    faults.KeepsItsWindows: (
        WINDOW,
        "a verdict in time has its effect",
        (
            "A asks, A succeeds, B asks, B fails, time passes, C asks, C succeeds, "
            "D asks, D fails"
        ),
    ),
    faults.ForgetsAfterAPause: (
        WINDOW,
        "a verdict in time has its effect",
        (
            "A asks, A succeeds, B asks, B is throttled, time passes, C asks, "
            "C succeeds, D asks, D fails"
        ),
    ),
    faults.GrowsForGood: (
        GROWS,
        "a wait is no longer than was set",
        (
            "time passes, A asks, A fails, time passes, B asks, B succeeds, C asks, "
            "C fails, D asks"
        ),
    ),
    faults.OutgrowsItsBound: (
        GROWS,
        "a wait is no longer than was set",
        "time passes, A asks, A fails, B asks",
    ),
    faults.DisabledStandsStill: (
        DISABLED,
        "who would have been refused is a bystander",
        "time passes, the operator: disable, A asks",
    ),
    faults.DisabledRefuses: (
        DISABLED,
        "while it is disabled nobody is refused",
        "the operator: disable, A asks",
    ),
    faults.ABystanderProbes: (
        DISABLED,
        "who would have been refused is a bystander",
        "time passes, A asks, the operator: disable, B asks",
    ),
    faults.TripKeepsAProbe: (
        DISABLED,
        "every transition starts a generation",
        "the operator: disable, the operator: trip",
    ),
    faults.TripLiftsAnIsolation: (
        DISABLED,
        "an isolation holds until it is lifted",
        "the operator: isolate, the operator: trip",
    ),
}

# These show when one looks ahead: what becomes of those who come later?
FOUND_AHEAD: Found = {
    faults.ForgetsTheLease: (
        OUTAGE,
        "the circuit can always be probed again",
        "time passes, A asks, all hang until all times are over, one more asks",
    ),
    faults.LetsAPermitVoteTwice: (
        OUTAGE,
        "a permit has one effect, once",
        "time passes, A asks, A is cancelled, A votes again",
    ),
    faults.StaysOpen: (
        OUTAGE,
        "the circuit can always be probed again",
        "time passes, A asks, A fails, all hang until all times are over, one more asks",
    ),
    faults.WaitsForTheOldTime: (
        CLOCK,
        "the circuit can always be probed again",
        "the clock goes back, all hang until all times are over, one more asks",
    ),
}
FOUND = FOUND_BY_A_STEP | FOUND_AHEAD


def test_each_fault_has_a_schedule_that_shows_it() -> None:
    assert set(FOUND) == set(faults.FAULTS)
    assert len(FOUND) >= 30


explored_well = functools.cache(explore)  # many faults show in one scenario


@pytest.mark.parametrize("fault", FOUND, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(fault: type[Breaker]) -> None:
    scenario, rule, schedule = FOUND[fault]
    ahead = fault in FOUND_AHEAD
    with pytest.raises(RuleBrokenError) as found:
        explore(scenario, fault, ahead=ahead)

    assert (found.value.rule, ", ".join(found.value.schedule)) == (rule, schedule)
    explored_well(scenario)  # it is the fault that was found
