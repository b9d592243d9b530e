"""
The state machine, driven by hand: every rule of it, without a loop.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_async import CircuitState
from orchestrator_async._breaker import Breaker, Permit, Refusal, Ruling, Transition
from orchestrator_async._policy import BreakerSettings

RESET = 300.0
LEASE = 30.0


def closed(threshold: int = 3) -> Breaker:
    return Breaker(BreakerSettings(failure_threshold=threshold, reset_timeout=RESET))


def admitted(breaker: Breaker, now: float, lease: float = LEASE) -> Permit:
    permit, _ = breaker.admit(now, lease)
    assert isinstance(permit, Permit)
    return permit


def refused(breaker: Breaker, now: float, average: float = 0.0) -> Refusal:
    refusal, transition = breaker.admit(now, LEASE, average)
    assert isinstance(refusal, Refusal)
    assert transition is None
    return refusal


def opened(now: float = 0.0) -> Breaker:
    """
    A circuit that has just opened.
    """
    breaker = closed()
    for _ in range(3):
        breaker.failed(admitted(breaker, now), now)
    assert breaker.state is CircuitState.OPEN
    return breaker


def probing(now: float = RESET) -> tuple[Breaker, Permit]:
    """
    A circuit that opened at zero, and the probe that was claimed at ``now``.
    """
    breaker = opened()
    return breaker, admitted(breaker, now)


# Closed


def test_calls_of_a_closed_circuit_share_one_permit() -> None:
    breaker = closed()

    assert admitted(breaker, 0) is admitted(breaker, 1) is breaker.closed_permit


def test_the_threshold_opens_the_circuit_and_one_less_does_not() -> None:
    breaker = closed()
    permit = admitted(breaker, 0)

    assert breaker.failed(permit, 0) == breaker.failed(permit, 0) == Ruling(False, None)
    assert breaker.state is CircuitState.CLOSED
    ruling = breaker.failed(permit, 0)

    assert not ruling.late
    assert ruling.transition is not None
    assert (ruling.transition.old, ruling.transition.new) == ("closed", "open")
    assert "3 failures in a row" in ruling.transition.reason
    assert breaker.failures == 3


@pytest.mark.parametrize(
    ("threshold", "reason"),
    [(1, "1 failure"), (2, "2 failures in a row"), (3, "3 failures in a row")],
)
def test_the_reason_of_an_opening_is_how_many_failures_there_were(
    threshold: int, reason: str
) -> None:
    breaker = closed(threshold)
    for _ in range(threshold):
        transition = breaker.failed(admitted(breaker, 0), 0).transition

    assert transition is not None
    assert transition.reason == reason


def test_a_lower_threshold_that_was_passed_long_ago_opens_at_the_next_failure() -> None:
    breaker = closed()
    breaker.failed(admitted(breaker, 0), 0)
    breaker.failed(admitted(breaker, 0), 0)
    breaker.configure(BreakerSettings(failure_threshold=1, reset_timeout=RESET))
    assert breaker.state is CircuitState.CLOSED

    breaker.failed(admitted(breaker, 0), 0)

    assert breaker.state is CircuitState.OPEN


def test_a_success_starts_the_row_anew() -> None:
    breaker = closed()
    permit = admitted(breaker, 0)
    for _ in range(10):
        breaker.failed(permit, 0)
        breaker.failed(permit, 0)
        breaker.succeeded(permit)

    assert (breaker.state, breaker.failures) == (CircuitState.CLOSED, 0)


def test_no_verdict_neither_adds_to_the_row_nor_ends_it() -> None:
    breaker = closed()
    permit = admitted(breaker, 0)
    breaker.failed(permit, 0)
    breaker.failed(permit, 0)
    for _ in range(10):
        assert breaker.ignored(permit, 0) == Ruling(False, None)
    assert (breaker.state, breaker.failures) == (CircuitState.CLOSED, 2)

    breaker.failed(permit, 0)

    assert breaker.state is CircuitState.OPEN


# Open


def test_an_open_circuit_says_how_long_to_wait() -> None:
    breaker = opened(now=1000)

    assert refused(breaker, 1000) == Refusal(CircuitState.OPEN, RESET)
    assert refused(breaker, 1299) == Refusal(CircuitState.OPEN, 1)
    assert breaker.refusal(1300) is None


@pytest.mark.parametrize(
    ("now", "wait"),
    [
        (99.0, 0.0),  # the clock went back, and ``refusal`` takes note of it
        (100.0, RESET),
        (150.0, RESET - 50),
        (100.0 + RESET, 0.0),
        (2000.0, 0.0),
        (math.nan, 0.0),
        (math.inf, 0.0),
        (-math.inf, 0.0),
    ],
)
def test_the_short_answer_of_an_open_circuit_is_the_time_to_wait_or_none(
    now: float, wait: float
) -> None:
    breaker = opened(now=100)

    assert breaker.open_for(now) == breaker.open_for(now) == wait


@pytest.mark.parametrize("until", ["closed", "half_open", "disabled", "isolated"])
def test_there_is_no_short_answer_where_the_circuit_is_not_open(until: str) -> None:
    breaker = opened()
    match until:
        case "closed":
            breaker.reset()
        case "half_open":
            admitted(breaker, RESET)
        case "disabled":
            breaker.disable()
        case _:
            breaker.isolate()
    assert breaker.state == until

    assert (
        breaker.open_for(0) == breaker.open_for(RESET / 2) == breaker.open_for(RESET) == 0
    )


def test_there_is_no_short_answer_before_a_clock_has_told_the_time() -> None:
    breaker = opened(now=math.nan)

    assert breaker.open_for(1000) == 0


def test_the_short_answer_takes_note_of_the_time() -> None:
    breaker = opened(now=1000)
    assert breaker.open_for(1100) == RESET - 100

    assert refused(breaker, 5).retry_after == RESET - 100


def test_asking_does_not_claim() -> None:
    breaker = opened()
    for _ in range(3):
        assert breaker.refusal(RESET) is None

    assert breaker.state is CircuitState.OPEN


def test_it_stays_open_until_a_caller_claims_the_probe() -> None:
    breaker = opened()
    assert breaker.state is CircuitState.OPEN

    permit, transition = breaker.admit(RESET * 5, LEASE)

    assert isinstance(permit, Permit)
    assert transition is not None
    assert (transition.old, transition.new) == ("open", "half_open")


# One probe


def test_while_one_probes_all_others_are_refused() -> None:
    breaker, probe = probing()

    for _ in range(1000):
        assert refused(breaker, RESET).state is CircuitState.HALF_OPEN
    assert breaker.probe is probe


def test_a_refusal_beside_a_probe_waits_for_the_lease_or_twice_the_usual_time() -> None:
    breaker, _ = probing()

    assert refused(breaker, RESET, average=0).retry_after == 1
    assert refused(breaker, RESET, average=4).retry_after == 8
    assert refused(breaker, RESET, average=1000).retry_after == LEASE
    assert refused(breaker, RESET, average=math.inf).retry_after == LEASE
    assert refused(breaker, RESET, average=math.nan).retry_after == 1
    assert refused(breaker, RESET + LEASE - 0.5, average=4).retry_after == 0.5


def test_a_refusal_beside_a_probe_of_a_tool_that_has_no_usual_time_is_for_a_second() -> (
    None
):
    breaker, _ = probing()

    assert breaker.refusal(RESET) == Refusal(CircuitState.HALF_OPEN, 1)
    assert breaker.admit(RESET, LEASE) == (Refusal(CircuitState.HALF_OPEN, 1), None)


def test_a_probe_that_succeeds_closes_the_circuit() -> None:
    breaker, probe = probing()

    ruling = breaker.succeeded(probe)

    assert not ruling.late
    assert ruling.transition is not None
    assert (breaker.state, breaker.failures) == (CircuitState.CLOSED, 0)
    assert admitted(breaker, RESET) is breaker.closed_permit


def test_a_probe_that_fails_opens_the_circuit_for_the_whole_time_again() -> None:
    breaker, probe = probing()

    ruling = breaker.failed(probe, RESET + 10)

    assert not ruling.late
    assert breaker.failures == 4
    assert refused(breaker, RESET + 10) == Refusal(CircuitState.OPEN, RESET)


def test_a_probe_without_a_verdict_lets_the_next_caller_probe_at_once() -> None:
    breaker, probe = probing()

    assert breaker.ignored(probe, RESET) == Ruling(False, None)

    assert breaker.state is CircuitState.HALF_OPEN
    second = admitted(breaker, RESET)
    assert second is not probe
    assert breaker.probe is second
    assert breaker.probe is not probe


def test_a_probe_gives_its_permit_back_only_once() -> None:
    breaker, probe = probing()
    breaker.ignored(probe, RESET)
    second = admitted(breaker, RESET)

    assert breaker.ignored(probe, RESET).late
    assert breaker.failed(probe, RESET).late

    assert breaker.probe is second
    assert refused(breaker, RESET).state is CircuitState.HALF_OPEN


def test_a_probe_that_has_given_its_permit_back_can_close_nothing_any_more() -> None:
    breaker, probe = probing()
    assert breaker.covers(probe)
    breaker.ignored(probe, RESET)

    assert not breaker.covers(probe)
    assert breaker.succeeded(probe).late
    assert breaker.state is CircuitState.HALF_OPEN


def test_only_the_permit_of_a_probe_covers_calls() -> None:
    breaker = closed()
    assert not breaker.covers(admitted(breaker, 0))
    breaker.disable()
    assert not breaker.covers(admitted(breaker, 0))
    breaker, probe = probing()
    breaker.failed(probe, RESET)
    assert not breaker.covers(probe)


@pytest.mark.parametrize("act", ["reset", "trip"])
def test_no_probe_is_under_way_once_the_circuit_was_moved_by_hand(act: str) -> None:
    breaker, probe = probing()
    assert breaker.probe is probe

    getattr(breaker, act)()

    assert breaker.probe is None


# Generations


@pytest.mark.parametrize("give", ["succeeded", "failed", "ignored"])
@pytest.mark.parametrize("until", ["open", "half_open", "closed", "isolated", "disabled"])
def test_a_permit_of_an_older_generation_decides_nothing(give: str, until: str) -> None:
    breaker = closed()
    old = admitted(breaker, 0)
    for _ in range(3):
        breaker.failed(old, 0)
    probe = None
    if until in ("half_open", "closed"):
        probe = admitted(breaker, RESET)
    if probe is not None and until == "closed":
        breaker.succeeded(probe)
    if until == "isolated":
        breaker.isolate()
    if until == "disabled":
        breaker.disable()
    before = (breaker.state, breaker.failures, breaker.generation)
    assert before[0] == until

    ruling = (
        breaker.succeeded(old)
        if give == "succeeded"
        else getattr(breaker, give)(old, RESET)
    )

    assert ruling == Ruling(late=True, transition=None)
    assert (breaker.state, breaker.failures, breaker.generation) == before
    if until == "half_open":
        assert probe is not None
        assert breaker.probe is probe


def test_every_transition_starts_a_generation() -> None:
    breaker = closed()
    seen = [breaker.generation]

    def noted() -> None:
        assert breaker.generation > seen[-1]
        seen.append(breaker.generation)

    for _ in range(3):
        breaker.failed(admitted(breaker, 0), 0)
    noted()
    probe = admitted(breaker, RESET)
    noted()
    breaker.succeeded(probe)
    noted()
    for change in (breaker.isolate, breaker.release, breaker.disable, breaker.reset):
        change()
        noted()


def test_a_circuit_that_has_changed_a_thousand_times_works_as_on_the_first_day() -> None:
    breaker, now = closed(threshold=1), 0.0
    for _ in range(200):
        breaker.failed(admitted(breaker, now), now)
        now += RESET
        breaker.ignored(admitted(breaker, now), now)
        assert not breaker.failed(admitted(breaker, now), now).late
        now += RESET
        probe = admitted(breaker, now)
        assert breaker.covers(probe)
        assert not breaker.succeeded(probe).late

    assert breaker.generation == 1000


# Leases


def test_past_the_lease_the_next_caller_probes_in_the_same_generation() -> None:
    breaker, first = probing()
    assert refused(breaker, RESET + LEASE - 0.001).state is CircuitState.HALF_OPEN

    second, transition = breaker.admit(RESET + LEASE, LEASE)

    assert isinstance(second, Permit)
    assert transition is None
    assert second is not first
    assert second.generation == first.generation
    assert refused(breaker, RESET + LEASE).state is CircuitState.HALF_OPEN


@pytest.mark.parametrize("others", [0, 1, 2])
def test_an_expired_probe_that_succeeds_closes_the_circuit(others: int) -> None:
    breaker, first = probing()
    for number in range(1, others + 1):
        admitted(breaker, RESET + number * LEASE)

    ruling = breaker.succeeded(first)

    assert not ruling.late
    assert (breaker.state, breaker.failures) == (CircuitState.CLOSED, 0)


@pytest.mark.parametrize("give", ["failed", "ignored"])
@pytest.mark.parametrize("replaced", [True, False])
@pytest.mark.parametrize("after", [0, 1, 1000])
def test_an_expired_probe_that_does_not_succeed_is_late(
    give: str, replaced: bool, after: float
) -> None:
    breaker, first = probing()
    now = RESET + LEASE + after
    second = admitted(breaker, now) if replaced else None

    assert getattr(breaker, give)(first, now) == Ruling(late=True, transition=None)

    assert breaker.state is CircuitState.HALF_OPEN
    if second is None:
        second = admitted(breaker, now)
    assert breaker.probe is second


def test_the_success_of_an_expired_probe_is_late_once_the_circuit_has_moved_on() -> None:
    breaker, first = probing()
    second = admitted(breaker, RESET + LEASE)
    breaker.failed(second, RESET + LEASE)

    assert breaker.succeeded(first).late

    assert breaker.state is CircuitState.OPEN


def test_an_expired_success_is_late_in_the_next_half_open_round() -> None:
    breaker, first = probing()
    second = admitted(breaker, RESET + LEASE)
    breaker.failed(second, RESET + LEASE)
    third = admitted(breaker, 2 * RESET + LEASE)

    assert breaker.succeeded(first).late

    assert breaker.probe is third


def test_each_probe_has_the_lease_that_it_asked_for() -> None:
    breaker, _ = probing()
    admitted(breaker, RESET + LEASE, lease=5)

    assert refused(breaker, RESET + LEASE + 4.5).retry_after == 0.5
    assert breaker.refusal(RESET + LEASE + 5) is None
    assert breaker.refusal(RESET + LEASE + 1000) is None


# Clocks


def test_where_the_clock_goes_back_what_was_left_of_the_open_time_is_left() -> None:
    breaker = opened(now=1000)
    assert refused(breaker, 1100).retry_after == 200

    assert refused(breaker, 5).retry_after == 200
    assert refused(breaker, 105).retry_after == 100
    assert breaker.refusal(205) is None


def test_where_the_clock_goes_back_what_was_left_of_the_lease_is_left() -> None:
    breaker, probe = probing()
    assert refused(breaker, RESET + 10, average=1000).retry_after == LEASE - 10

    assert refused(breaker, 0, average=1000).retry_after == LEASE - 10
    assert not breaker.failed(probe, LEASE - 10.5).late


def test_a_clock_that_keeps_going_back_never_asks_for_more_than_the_open_time() -> None:
    breaker = opened(now=1e9)
    for now in (1e8, 5e8, 1e3, 2e8, -1e6, 0.0):
        refusal = breaker.refusal(now)
        assert refusal is None or 0 < (refusal.retry_after or 0) <= RESET


def test_another_clock_keeps_what_was_left() -> None:
    breaker = opened(now=1000)
    refused(breaker, 1100)

    breaker.rebase(1e6)

    assert refused(breaker, 1e6).retry_after == 200
    assert breaker.refusal(1e6 + 200) is None


ODD_TIMES = [math.nan, float("inf"), float("-inf")]  # as no constant of math's is


@pytest.mark.parametrize("odd", ODD_TIMES)
def test_a_time_that_is_none_changes_nothing(odd: float) -> None:
    breaker = opened(now=1000)

    assert refused(breaker, odd).retry_after == RESET
    assert refused(breaker, 1100).retry_after == 200
    assert refused(breaker, odd).retry_after == 200


@pytest.mark.parametrize("odd", ODD_TIMES)
def test_a_failure_at_a_time_that_is_none_opens_for_the_whole_time(odd: float) -> None:
    breaker = closed()
    for _ in range(3):
        breaker.failed(admitted(breaker, odd), odd)

    assert refused(breaker, 1000).retry_after == RESET


@pytest.mark.parametrize("odd", ODD_TIMES)
def test_a_refusal_is_finite_on_a_clock_that_never_worked(odd: float) -> None:
    breaker = closed()
    for _ in range(3):
        breaker.failed(admitted(breaker, odd), odd)
    for _ in range(3):
        answer, _ = breaker.admit(odd, LEASE)
        if isinstance(answer, Refusal):
            assert answer.retry_after is not None
            assert math.isfinite(answer.retry_after)


@pytest.mark.parametrize("odd", ODD_TIMES)
def test_another_clock_that_tells_no_time_changes_nothing(odd: float) -> None:
    breaker = opened(now=1000)
    breaker.rebase(odd)

    assert refused(breaker, odd).retry_after == RESET
    assert refused(breaker, 1100).retry_after == RESET - 100
    assert breaker.refusal(1000 + RESET) is None


# By hand


def test_an_isolated_circuit_refuses_and_has_no_time_to_wait_for() -> None:
    breaker = closed()
    breaker.isolate()

    assert refused(breaker, 0) == Refusal(CircuitState.ISOLATED, None)
    assert refused(breaker, 1e9) == Refusal(CircuitState.ISOLATED, None)


def test_isolations_add_up() -> None:
    breaker = closed()
    assert breaker.isolate() is not None
    assert breaker.isolate() is None
    assert breaker.release() is None
    assert breaker.state is CircuitState.ISOLATED

    assert breaker.release() is not None

    assert breaker.state is CircuitState.CLOSED
    assert breaker.release() is None
    breaker.isolate()
    assert breaker.state is CircuitState.ISOLATED


def test_an_isolation_uncovers_the_open_circuit_that_lay_beneath() -> None:
    breaker = opened()
    breaker.isolate()
    refused(breaker, 100)
    breaker.release()

    assert refused(breaker, 100) == Refusal(CircuitState.OPEN, RESET - 100)


def test_after_an_isolation_a_half_open_circuit_is_probed_anew() -> None:
    breaker, probe = probing()
    breaker.isolate()
    assert breaker.succeeded(probe).late
    breaker.release()

    assert breaker.state is CircuitState.HALF_OPEN
    assert admitted(breaker, RESET) is not probe
    assert breaker.state is CircuitState.HALF_OPEN


@pytest.mark.parametrize("verdict", ["succeeded", "failed", "ignored"])
def test_an_isolation_during_a_probe_lets_no_second_one_in_beside_it(verdict: str) -> None:
    breaker, probe = probing()
    for _ in range(2):
        breaker.isolate()
        breaker.release()
    assert breaker.state is CircuitState.HALF_OPEN
    assert refused(breaker, RESET).retry_after == 1

    now = () if verdict == "succeeded" else (RESET,)
    assert getattr(breaker, verdict)(probe, *now) == Ruling(True, None)
    assert breaker.state is CircuitState.HALF_OPEN
    assert breaker.failures == 3
    second = admitted(breaker, RESET)
    assert not breaker.succeeded(second).late
    assert breaker.state is CircuitState.CLOSED


def test_a_probe_that_an_isolation_covers_keeps_its_place_until_its_lease_ends() -> None:
    breaker, probe = probing()
    breaker.isolate()
    breaker.release()
    refused(breaker, RESET + LEASE - 1)
    second = admitted(breaker, RESET + LEASE)
    assert breaker.succeeded(probe).late
    assert breaker.probe is second
    assert not breaker.succeeded(second).late


def test_a_circuit_that_is_forced_open_refuses_for_its_reset_timeout_at_any_time() -> None:
    breaker = closed()
    forced = breaker.isolate(as_open=True)

    assert forced == Transition(
        CircuitState.CLOSED, CircuitState.OPEN, "forced open by hand"
    )
    assert breaker.state is CircuitState.OPEN
    for now in (0, RESET, 1e9):
        assert refused(breaker, now) == Refusal(CircuitState.OPEN, RESET)
    assert breaker.open_for(0) == 0


def test_a_circuit_is_forced_open_by_nothing_but_forced_openings() -> None:
    breaker = opened()
    assert not breaker.is_forced_open
    for number in range(300):
        breaker.isolate(as_open=True)
        assert breaker.is_forced_open, number
    breaker.isolate()
    assert not breaker.is_forced_open

    breaker.release_all()

    assert not breaker.is_forced_open


@pytest.mark.parametrize("act", ["isolate", "release"])
def test_how_an_isolation_looks_is_said_by_name(act: str) -> None:
    with pytest.raises(TypeError):
        getattr(closed(), act)(True)


@pytest.mark.parametrize("until", ["open", "half_open", "closed", "disabled"])
def test_what_a_forced_opening_covers_comes_back_as_it_was(until: str) -> None:
    breaker, probe = closed(), None
    match until:
        case "open":
            breaker = opened()
            refused(breaker, 100)
        case "half_open":
            breaker, probe = probing()
        case "closed":
            breaker.failed(admitted(breaker, 0), 0)
        case _:
            breaker.disable()
    before = (breaker.state, breaker.failures, breaker.refusal(RESET))

    for _ in range(2):
        breaker.isolate(as_open=True)
        breaker.isolate(as_open=True)
        breaker.release(as_open=True)
        assert breaker.state is CircuitState.OPEN
        breaker.release(as_open=True)

    assert (breaker.state, breaker.failures, breaker.refusal(RESET)) == before
    assert breaker.probe is probe
    assert breaker.release(as_open=True) is None


def test_an_isolation_shows_over_a_forced_opening() -> None:
    breaker = closed()
    breaker.isolate(as_open=True)
    generation = breaker.generation

    isolated = breaker.isolate()
    assert isolated == Transition(
        CircuitState.OPEN, CircuitState.ISOLATED, "isolated by hand"
    )
    assert refused(breaker, 0) == Refusal(CircuitState.ISOLATED, None)
    assert breaker.isolate(as_open=True) is None
    uncovered = breaker.release()
    assert uncovered == Transition(
        CircuitState.ISOLATED, CircuitState.OPEN, "released by hand"
    )
    assert breaker.generation == generation

    lifted = breaker.release_all()
    assert lifted == Transition(CircuitState.OPEN, CircuitState.CLOSED, "released by hand")
    breaker.isolate()
    assert breaker.state is CircuitState.ISOLATED


def test_isolations_are_lifted_together_in_one_change() -> None:
    breaker = closed()
    for _ in range(3):
        breaker.isolate()
    generation = breaker.generation
    lifted = breaker.release_all()
    assert lifted is not None
    assert (lifted.old, lifted.new) == (CircuitState.ISOLATED, CircuitState.CLOSED)
    assert breaker.generation == generation + 1
    assert breaker.release_all() is None


def test_a_shorter_reset_timeout_reaches_a_circuit_that_is_open() -> None:
    breaker = opened()
    refused(breaker, 10)
    breaker.configure(BreakerSettings(failure_threshold=3, reset_timeout=12))
    assert refused(breaker, 10).retry_after == 2  # since it was opened, not since now
    admitted(breaker, 12)


def test_a_longer_reset_timeout_does_not_keep_a_circuit_open_for_longer() -> None:
    breaker = opened()
    breaker.configure(BreakerSettings(failure_threshold=3, reset_timeout=2 * RESET))
    admitted(breaker, RESET)


def test_failures_are_kept_under_an_isolation() -> None:
    breaker = closed()
    breaker.failed(admitted(breaker, 0), 0)
    breaker.isolate()
    breaker.release()

    assert breaker.failures == 1


def test_reset_does_not_lift_an_isolation_but_closes_what_lies_beneath() -> None:
    breaker = opened()
    breaker.isolate()

    breaker.reset()

    assert refused(breaker, 0) == Refusal(CircuitState.ISOLATED, None)
    breaker.release()
    assert (breaker.state, breaker.failures) == (CircuitState.CLOSED, 0)


def test_disabling_does_not_lift_an_isolation() -> None:
    breaker = closed()
    breaker.isolate()

    breaker.disable()

    assert refused(breaker, 0) == Refusal(CircuitState.ISOLATED, None)
    breaker.release()
    assert breaker.state is CircuitState.DISABLED


def test_a_disabled_circuit_admits_all_and_goes_on_counting() -> None:
    breaker = closed(threshold=3)
    breaker.disable()
    permits = []
    for _ in range(10):
        permits.append(admitted(breaker, 0))
        assert not breaker.failed(permits[-1], 0).late

    # The first three would have opened it; the others would not have run.
    assert (breaker.state, breaker.failures) == (CircuitState.DISABLED, 3)
    assert sum(each.is_bystanders for each in permits) == 7
    breaker.reset()
    assert (breaker.state, breaker.failures) == (CircuitState.CLOSED, 0)


def test_reset_closes_an_open_circuit_before_its_time() -> None:
    breaker = opened()

    transition = breaker.reset()

    assert (transition.old, transition.new) == ("open", "closed")
    assert admitted(breaker, 0) is breaker.closed_permit


def test_manual_control_needs_no_time() -> None:
    breaker = closed()
    for change in (breaker.isolate, breaker.release, breaker.disable, breaker.reset):
        change()

    for _ in range(3):
        breaker.failed(admitted(breaker, 5), 5)
    assert refused(breaker, 5).retry_after == RESET


# Any order of all that


class Step(NamedTuple):
    what: str
    which: int
    time: float


STEPS = st.builds(
    Step,
    st.sampled_from(
        ["admit"] * 4
        + ["succeeded", "failed", "failed", "ignored"]
        + ["isolate", "release", "disable", "reset", "rebase", "pass", "pass"]
    ),
    st.integers(0, 50),
    st.floats(-400, 700) | st.sampled_from([0.0, LEASE, RESET, math.nan]),
)


class Walk:
    """
    A circuit, and what those who use it know of it.
    """

    def __init__(self) -> None:
        self.breaker = closed(threshold=2)
        self.now = 0.0
        self.flying: list[Permit] = []

    def take(self, step: Step) -> None:
        breaker = self.breaker
        match step.what:
            case "admit":
                self.admit(step.time)
            case "succeeded" | "failed" | "ignored" if self.flying:
                self.end(step)
            case "isolate" | "release" | "disable" | "reset":
                getattr(breaker, step.what)()
            case "rebase":
                breaker.rebase(step.time)
                self.now = step.time if math.isfinite(step.time) else self.now
            case "pass" if math.isfinite(step.time):
                self.now += step.time
        self.check()

    def admit(self, time: float) -> None:
        breaker, now = self.breaker, self.now if math.isfinite(time) else time
        was_probing = [each for each in self.flying if breaker.probe is each]
        foreseen = breaker.refusal(now)
        got, _ = breaker.admit(now, LEASE)
        if isinstance(got, Permit):
            assert foreseen is None
            assert not any(breaker.probe is each for each in was_probing)
            self.flying.append(got)
            return
        assert got == foreseen
        if got.state is CircuitState.ISOLATED:
            assert got.retry_after is None
        else:
            assert got.retry_after is not None
            assert 0 < got.retry_after <= RESET

    def end(self, step: Step) -> None:
        breaker = self.breaker
        permit = self.flying.pop(step.which % len(self.flying))
        before = (breaker.state, breaker.failures, breaker.generation)
        older = permit.generation != breaker.generation
        if step.what == "succeeded":
            ruling = breaker.succeeded(permit)
        else:
            ruling = getattr(breaker, step.what)(permit, self.now)
        if older:
            assert ruling.late
        if ruling.late or step.what == "ignored":
            assert (breaker.state, breaker.failures, breaker.generation) == before

    def check(self) -> None:
        breaker = self.breaker
        lets_all = breaker.state in (CircuitState.CLOSED, CircuitState.DISABLED)
        assert (breaker.closed_permit is not None) == lets_all
        assert sum(breaker.probe is each for each in self.flying) <= 1
        if breaker.state is not CircuitState.HALF_OPEN:
            assert not any(breaker.probe is each for each in self.flying)
        if breaker.state is CircuitState.CLOSED:
            assert breaker.failures < 2


@given(st.lists(STEPS, max_size=40))
def test_no_order_of_events_breaks_a_rule_or_wedges_the_circuit(steps: list[Step]) -> None:
    walk = Walk()
    for step in steps:
        walk.take(step)

    # However it came to where it is: time and one success bring it back.
    breaker = walk.breaker
    while breaker.release() is not None or breaker.state is CircuitState.ISOLATED:
        pass
    breaker.refusal(walk.now)
    probe = admitted(breaker, walk.now + RESET)
    assert not breaker.succeeded(probe).late
    assert breaker.state in (CircuitState.CLOSED, CircuitState.DISABLED)
