"""
The parts of the state machine that a policy can switch on, each driven by hand: windows
and rates, slow calls, pauses, an open time that grows, several probes, a circuit that is
disabled or opened by hand, other settings, and going on in another process.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from orchestrator_async import CircuitState
from orchestrator_async._breaker import Breaker, Permit, Refusal, Ruling, Saved, Transition
from orchestrator_async._policy import BreakerSettings

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
DISABLED, ISOLATED = CircuitState.DISABLED, CircuitState.ISOLATED
RESET = 100.0
LEASE = 30.0
COUNTED, LATE = Ruling(False, None), Ruling(True, None)
ODD_TIMES = [math.nan, float("inf"), float("-inf")]  # as no constant of math's is


def circuit(**settings: Any) -> Breaker:
    return Breaker(BreakerSettings(**{"reset_timeout": RESET} | settings))


def admitted(breaker: Breaker, now: float = 0.0, lease: float = LEASE) -> Permit:
    permit, _ = breaker.admit(now, lease)
    assert isinstance(permit, Permit)
    return permit


def rest(breaker: Breaker, now: float) -> float | None:
    refusal, _ = breaker.admit(now, LEASE)
    assert isinstance(refusal, Refusal)
    return refusal.retry_after


def fail(breaker: Breaker, now: float = 0.0, duration: float = 0.0) -> Ruling:
    return breaker.failed(admitted(breaker, now), now, duration)


def succeed(breaker: Breaker, now: float = 0.0, duration: float = 0.0) -> Ruling:
    return breaker.succeeded(admitted(breaker, now), now, duration)


def throttle(breaker: Breaker, now: float, seconds: float | None) -> Ruling:
    return breaker.throttled(admitted(breaker, now), now, seconds)


def opened(now: float = 0.0, **settings: Any) -> Breaker:
    """
    A circuit that its first failure has opened.
    """
    breaker = circuit(failure_threshold=1, **settings)
    fail(breaker, now)
    assert breaker.state is OPEN
    return breaker


def interrupt() -> float:
    raise KeyboardInterrupt


def test_a_new_circuit_knows_of_nothing() -> None:
    breaker = circuit()

    assert (breaker.state, breaker.generation, breaker.failures) == (CLOSED, 0, 0)
    assert (breaker.paused, breaker.length, breaker.reason) == (False, 0, "")
    assert (breaker.probe, breaker.draw) == (None, None)


# Going on in another process


def test_what_is_saved_of_an_open_circuit_is_what_is_left_of_its_time() -> None:
    breaker = opened(now=1000)

    assert breaker.saved(1000).rest == RESET
    assert breaker.saved(1030) == Saved(
        is_open=True,
        rest=RESET - 30,
        paused=False,
        reopenings=0,
        failures=1,
        disabled=False,
        isolated=False,
    )
    assert breaker.saved(1000 + RESET).rest == breaker.saved(9000).rest == 0


@pytest.mark.parametrize("odd", ODD_TIMES)
def test_time_has_not_begun_to_pass_where_no_clock_has_told_it(odd: float) -> None:
    breaker = circuit()
    breaker.trip(odd)

    assert breaker.saved(odd).rest == RESET
    assert breaker.saved(50).rest == RESET


def test_what_is_saved_after_a_clock_has_gone_back_is_what_was_left() -> None:
    breaker = opened(now=1000)
    breaker.refusal(1070)

    assert breaker.saved(5).rest == RESET - 70


def test_a_circuit_that_was_opened_by_hand_ends_a_row_of_pauses() -> None:
    breaker = circuit()
    throttle(breaker, 0, None)
    throttle(breaker, 1, None)
    breaker.trip(1)

    throttle(breaker, 1 + RESET, None)

    assert rest(breaker, 1 + RESET) == 1


def test_what_is_saved_of_a_half_open_circuit_may_be_probed_at_once() -> None:
    breaker = opened()
    admitted(breaker, RESET)

    saved = breaker.saved(RESET)

    assert (saved.is_open, saved.rest) == (True, 0)


def test_a_circuit_that_was_closed_has_no_time_left() -> None:
    breaker = opened()
    breaker.reset()

    assert breaker.saved(1) == Saved(False, 0.0, False, 0, 0, False, False)


def test_however_often_it_was_forced_open_it_is_not_isolated() -> None:
    breaker = circuit()
    for _ in range(300):
        breaker.isolate(as_open=True)

    assert not breaker.saved(0).isolated


def test_what_was_done_by_hand_goes_along_but_a_forced_opening() -> None:
    breaker = circuit()
    breaker.isolate(as_open=True)
    assert not breaker.saved(0).isolated
    breaker.isolate()
    breaker.disable()

    saved = breaker.saved(0)

    assert (saved.is_open, saved.isolated, saved.disabled) == (False, True, True)
    other = circuit()
    other.restore(saved, 0)
    assert other.state is ISOLATED
    other.release()
    assert other.state is DISABLED


def test_another_process_goes_on_with_all_that_was_saved() -> None:
    breaker = circuit(max_reset_timeout=1000.0, reset_multiplier=2.0)
    saved = Saved(True, 40.0, False, 2, 5, False, False)

    transition = breaker.restore(saved, 500)

    assert transition == Transition(CLOSED, OPEN, "restored from a snapshot")
    assert (breaker.failures, breaker.counting, breaker.generation) == (5, True, 1)
    assert breaker.length == rest(breaker, 500) == 40
    assert breaker.saved(500) == saved
    assert rest(breaker, 539) == 1
    fail(breaker, 540)
    assert rest(breaker, 540) == 8 * RESET


def test_what_was_closed_is_closed_again_but_closes_nothing() -> None:
    breaker = opened()
    breaker.restore(Saved(False, 0.0, False, 0, 2, False, False), 0)
    assert (breaker.state, breaker.failures) == (OPEN, 1)
    assert rest(breaker, 1) == RESET - 1

    breaker = circuit(failure_threshold=3)

    breaker.restore(Saved(False, 0.0, False, 0, 2, False, False), 0)

    assert breaker.state is CLOSED
    assert breaker.failures == 2
    assert not fail(circuit(failure_threshold=3), 0).transition
    assert fail(breaker, 0).transition


def test_an_isolation_of_this_process_is_lifted_by_those_who_hold_it() -> None:
    isolated = Saved(False, 0.0, False, 0, 0, False, isolated=True)
    breaker = circuit()
    breaker.isolate()
    breaker.restore(isolated._replace(isolated=False), 0)
    assert breaker.state is ISOLATED
    for _ in range(3):
        breaker.restore(isolated, 0)
    breaker.release()
    assert breaker.state is ISOLATED  # that of the other process, once however often
    breaker.release()
    assert breaker.state is CLOSED

    breaker = circuit()
    breaker.isolate(as_open=True)
    breaker.restore(isolated, 0)
    breaker.release(as_open=True)
    assert breaker.state is ISOLATED
    breaker.release_all()
    assert breaker.state is CLOSED
    breaker.restore(isolated, 0)  # it is told of again
    assert breaker.state is ISOLATED
    breaker.disable()
    breaker.restore(isolated._replace(isolated=False), 0)
    breaker.release_all()
    assert breaker.state is DISABLED


def test_the_first_opening_after_a_pause_is_no_reopening() -> None:
    breaker = circuit(reset_multiplier=2.0)
    throttle(breaker, 0, 3)
    fail(breaker, 3)
    assert rest(breaker, 3) == RESET
    fail(breaker, 3 + RESET)
    assert rest(breaker, 3 + RESET) == 2 * RESET


def test_a_pause_in_an_outage_brings_none_of_its_failures_back() -> None:
    breaker = circuit(failure_threshold=99, window_calls=4, minimum_calls=2, failure_rate=1)
    fail(breaker, 0)
    fail(breaker, 0)
    assert breaker.state is OPEN
    breaker.throttled(admitted(breaker, RESET), RESET, 2)
    breaker.succeeded(admitted(breaker, RESET + 2), RESET + 2)
    assert breaker.state is CLOSED
    assert not fail(breaker, RESET + 3).transition


def test_older_permits_are_stale_after_going_on_with_what_was_saved() -> None:
    breaker = circuit()
    old = admitted(breaker)
    breaker.restore(breaker.saved(0), 0)
    assert breaker.failed(old, 0) == LATE

    breaker = opened(success_threshold=2)
    succeed(breaker, RESET)
    probe = admitted(breaker, RESET)
    assert breaker.restore(breaker.saved(RESET)._replace(isolated=True), RESET)
    breaker.release_all()

    assert breaker.succeeded(probe) == LATE
    assert breaker.state is HALF_OPEN
    assert breaker.probe is None


@pytest.mark.parametrize("rest", [0.0, RESET])
def test_a_probe_of_this_process_is_alone_whatever_is_restored(rest: float) -> None:
    breaker = opened()
    probe = admitted(breaker, RESET)

    assert breaker.restore(Saved(True, rest, False, 0, 3, False, False), RESET) is None

    assert breaker.probe is probe
    assert breaker.refusal(RESET) is not None
    assert breaker.succeeded(probe, RESET).transition
    assert breaker.state is CLOSED


def test_no_wait_of_this_process_is_made_shorter_by_what_was_saved() -> None:
    breaker = opened()
    for saved in (1.0, RESET / 2, RESET - 10):
        assert breaker.restore(Saved(True, saved, False, 0, 3, False, False), 10) is None
        assert rest(breaker, 10) == RESET - 10
    breaker.configure(breaker.settings._replace(reset_timeout=20.0))
    assert breaker.restore(Saved(True, 15.0, False, 0, 3, False, False), 10)
    assert rest(breaker, 10) == 15


def test_going_on_ends_a_row_of_pauses() -> None:
    before, breaker = circuit(), circuit()
    for pauses in range(2):
        throttle(before, pauses, None)
    breaker.restore(before.saved(1)._replace(rest=1.0), 0)
    assert breaker.state is OPEN
    assert not breaker.is_forced_open
    assert breaker.paused
    assert breaker.reason == ""

    throttle(breaker, 1, None)

    assert rest(breaker, 1) == 1


def test_what_was_saved_of_a_longer_time_is_cut_to_what_the_settings_allow() -> None:
    for saved, longest in [
        (Saved(True, 9e9, False, 0, 3, False, False), RESET),
        (Saved(True, 9e9, True, 0, 0, False, False), 5),
        (Saved(True, 2.0, True, 0, 0, False, False), 2),
    ]:
        breaker = circuit(max_pause=5.0)
        breaker.restore(saved, 0)
        assert rest(breaker, 0) == longest


@pytest.mark.parametrize("odd", ODD_TIMES)
def test_the_rest_begins_when_a_clock_tells_the_time(odd: float) -> None:
    breaker = circuit(window_seconds=10.0)
    succeed(breaker, 1000)
    breaker.restore(Saved(True, 60.0, False, 0, 3, False, False), odd)
    assert rest(breaker, odd) == 60
    assert breaker.available_in(odd) is None

    assert rest(breaker, 5000) == 60
    assert rest(breaker, 5059) == 1
    admitted(breaker, 5060)


# Windows and rates


@pytest.mark.parametrize("window", [{"window_calls": 10}, {"window_seconds": 10.0}])
def test_a_rate_of_failures_in_a_window_opens_the_circuit(window: dict[str, Any]) -> None:
    breaker = circuit(failure_threshold=9, failure_rate=0.5, minimum_calls=4, **window)
    assert breaker.counting
    for _ in range(2):
        assert fail(breaker) == COUNTED
        assert succeed(breaker) == COUNTED  # half of four, but no success opens it

    late, transition = fail(breaker)

    assert not late
    assert transition is not None
    assert (transition.old, transition.new, transition.enforced) == (CLOSED, OPEN, True)
    assert breaker.failures == 1
    assert breaker.reason == transition.reason
    where = {"window_calls": "the last 5 calls"}.get(
        next(iter(window)), "the 5 calls of the last 10 s"
    )
    assert transition.reason == f"3 of {where} failed"


def test_too_few_calls_make_no_rate() -> None:
    breaker = circuit(
        failure_threshold=9, failure_rate=0.1, minimum_calls=3, window_calls=5
    )
    assert fail(breaker) == fail(breaker) == COUNTED

    assert fail(breaker).transition


def test_a_count_window_is_full_with_fewer_calls_than_the_minimum() -> None:
    breaker = circuit(
        failure_threshold=9, failure_rate=1.0, minimum_calls=3, window_calls=2
    )
    assert fail(breaker) == COUNTED
    assert fail(breaker).transition

    both = circuit(
        failure_threshold=9,
        failure_rate=1.0,
        minimum_calls=3,
        window_calls=4,
        window_seconds=10.0,
    )
    assert [bool(fail(both).transition) for _ in range(3)] == [False, False, True]


def test_a_time_window_needs_the_minimum_whatever_the_other_holds() -> None:
    breaker = circuit(
        failure_threshold=99,
        failure_rate=0.75,
        minimum_calls=6,
        window_calls=1,
        window_seconds=10.0,
    )
    breaker.configure(breaker.settings._replace(window_calls=0))

    assert [bool(fail(breaker).transition) for _ in range(6)] == [False] * 5 + [True]


def test_a_rate_below_that_of_the_policy_opens_nothing() -> None:
    breaker = circuit(
        failure_threshold=9, failure_rate=0.75, minimum_calls=1, window_calls=8
    )
    for _ in range(3):
        succeed(breaker)
    assert [fail(breaker) for _ in range(5)] == [COUNTED] * 5

    assert fail(breaker).transition
    assert breaker.reason == "6 of the last 8 calls failed"


def test_calls_go_out_of_a_time_window() -> None:
    breaker = circuit(
        failure_threshold=9, failure_rate=1.0, minimum_calls=2, window_seconds=10.0
    )
    fail(breaker, 0)
    assert fail(breaker, 10) == COUNTED
    assert fail(breaker, 19).transition


def test_failures_in_a_row_are_looked_at_before_the_rates() -> None:
    breaker = circuit(
        failure_threshold=2, failure_rate=0.5, minimum_calls=2, window_calls=5
    )
    fail(breaker)

    transition = fail(breaker).transition

    assert transition is not None
    assert transition.reason == "2 failures in a row"
    assert breaker.reason == ""


def test_the_second_window_opens_the_circuit_where_the_first_does_not() -> None:
    both = {"minimum_calls": 4, "window_calls": 4, "window_seconds": 10.0}
    breaker = circuit(failure_threshold=9, failure_rate=0.5, **both)
    for end in (fail, fail, fail, succeed, succeed, succeed):
        assert end(breaker) == COUNTED
    assert fail(breaker).transition
    assert breaker.reason == "4 of the 7 calls of the last 10 s failed"

    breaker = slow_calls(**both)
    for duration in (2.0, 2.0, 2.0, 0.0, 0.0, 0.0):
        assert succeed(breaker, 0, duration) == COUNTED
    assert succeed(breaker, 0, 2.0).transition
    assert breaker.reason == "4 of the 7 calls of the last 10 s took 2 s or more"


def test_what_is_late_or_no_verdict_goes_into_no_window() -> None:
    breaker = circuit(
        failure_threshold=9, failure_rate=1.0, minimum_calls=2, window_calls=9
    )
    old = admitted(breaker)
    breaker.isolate()
    breaker.release()
    assert breaker.failed(old, 0) == LATE
    breaker.ignored(admitted(breaker), 0)
    throttled = circuit(failure_threshold=9, failure_rate=1.0, minimum_calls=1)

    assert throttle(throttled, 0, 1).transition
    assert fail(breaker) == COUNTED
    assert fail(breaker).transition


@pytest.mark.parametrize("emptied_by", ["a probe", "reset"])
def test_windows_are_emptied_when_the_circuit_closes(emptied_by: str) -> None:
    breaker = circuit(
        failure_threshold=9, failure_rate=0.5, minimum_calls=2, window_calls=9
    )
    fail(breaker)
    fail(breaker)
    if emptied_by == "a probe":
        succeed(breaker, RESET)
    else:
        breaker.reset()
    assert breaker.state is CLOSED

    assert fail(breaker, RESET) == COUNTED
    assert breaker.reason == ""


def test_windows_are_kept_when_the_circuit_closes_after_a_pause() -> None:
    breaker = circuit(
        failure_threshold=9, failure_rate=1.0, minimum_calls=2, window_calls=9
    )
    fail(breaker)
    throttle(breaker, 0, 1)
    succeed(breaker, 1)
    assert breaker.state is CLOSED
    assert not breaker.paused
    assert breaker.counting

    assert fail(breaker, 1).transition


def test_a_circuit_without_a_window_counts_failures_alone() -> None:
    breaker = circuit()
    assert not breaker.counting
    fail(breaker)
    assert breaker.counting

    succeed(breaker)

    assert not breaker.counting


# Slow calls


def slow_calls(**settings: Any) -> Breaker:
    usual = {"failure_threshold": 9, "slow_duration": 2.0, "slow_rate": 0.5}
    return circuit(**usual | {"minimum_calls": 2, "window_calls": 9} | settings)


@pytest.mark.parametrize("duration", [2.0, 9.0])
@pytest.mark.parametrize("end", [succeed, fail])
def test_slow_calls_open_the_circuit(end: Any, duration: float) -> None:
    breaker = slow_calls()
    assert breaker.slow_above == 2
    assert end(breaker, 0, duration) == COUNTED

    late, transition = end(breaker, 0, duration)

    assert not late

    assert transition is not None
    assert transition.reason == breaker.reason == "2 of the last 2 calls took 2 s or more"
    assert breaker.failures == (2 if end is fail else 0)


def test_a_fast_call_opens_nothing_however_many_were_slow() -> None:
    breaker = slow_calls(minimum_calls=3)
    succeed(breaker, 0, 2.0)
    succeed(breaker, 0, 9.0)
    assert succeed(breaker, 0, 1.9) == fail(breaker, 0, 1.9) == COUNTED

    assert succeed(breaker, 0, 2.0).transition


def test_a_share_of_slow_calls_below_that_of_the_policy_opens_nothing() -> None:
    breaker = slow_calls(slow_rate=0.75, minimum_calls=1)
    for _ in range(3):
        succeed(breaker)
    assert [succeed(breaker, 0, 5.0) for _ in range(6)] == [COUNTED] * 6


def test_slow_calls_alone_are_no_failures() -> None:
    breaker = slow_calls(slow_rate=1.0, failure_rate=0.25)
    succeed(breaker)
    assert succeed(breaker, 0, 5.0) == COUNTED
    assert succeed(breaker, 0, 5.0) == COUNTED

    assert fail(breaker).transition
    assert breaker.reason == "1 of the last 4 calls failed"


def test_a_slow_success_ends_the_row_of_failures() -> None:
    breaker = slow_calls(minimum_calls=9)
    fail(breaker)
    succeed(breaker, 0, 5.0)

    assert breaker.failures == 0


def test_a_success_says_nothing_of_its_time_unless_asked() -> None:
    breaker = slow_calls(slow_duration=0.5, minimum_calls=1, window_seconds=10.0)
    assert breaker.succeeded(admitted(breaker)) == COUNTED
    assert breaker.failed(admitted(breaker), 0) == COUNTED


def test_a_probe_that_is_slow_opens_the_circuit_again_and_is_no_failure() -> None:
    breaker = opened(slow_duration=2.0, reset_multiplier=2.0)
    probe = admitted(breaker, RESET)

    ruling = breaker.succeeded(probe, RESET + 2, 2.0)

    assert ruling == Ruling(
        False, Transition(HALF_OPEN, OPEN, "the probe took 2 s or more")
    )
    assert breaker.reason == "the probe took 2 s or more"
    assert breaker.failures == 1
    assert rest(breaker, RESET + 2) == 2 * RESET
    assert breaker.succeeded(probe, RESET, 2.0) == LATE


def test_a_slow_probe_whose_lease_has_expired_is_late() -> None:
    breaker = opened(slow_duration=2.0)
    probe = admitted(breaker, RESET)

    assert breaker.succeeded(probe, RESET + LEASE, LEASE) == LATE
    assert breaker.state is HALF_OPEN
    assert breaker.failures == 1


def test_a_probe_that_fails_says_so_and_one_that_is_slow_as_well_fails() -> None:
    breaker = opened(slow_duration=2.0)

    transition = fail(breaker, RESET, 9.0).transition

    assert transition == Transition(HALF_OPEN, OPEN, "the probe failed")
    assert (breaker.reason, breaker.failures) == ("", 2)


# Pauses


def test_a_call_that_is_throttled_pauses_the_circuit_and_is_no_failure() -> None:
    breaker = circuit(failure_threshold=2)
    fail(breaker)

    ruling = throttle(breaker, 0, 7.5)

    assert ruling == Ruling(False, Transition(CLOSED, OPEN, "asked for a pause of 7.5 s"))
    assert (breaker.failures, breaker.paused, breaker.reason) == (1, True, "")
    assert breaker.length == rest(breaker, 0) == 7.5
    assert admitted(breaker, 7.5) is breaker.probe
    assert breaker.paused


@pytest.mark.parametrize(
    ("seconds", "most", "pause"),
    [(9.0, 10.0, 9.0), (11.0, 10.0, 10.0), (math.inf, 10.0, 10.0), (9e9, None, 9e9)],
)
def test_a_pause_is_no_longer_than_it_may_be(
    seconds: float, most: float | None, pause: float
) -> None:
    breaker = circuit(max_pause=most, jitter=0.5, reset_multiplier=2.0)
    breaker.draw = interrupt  # no chance is asked for

    throttle(breaker, 0, seconds)

    assert rest(breaker, 0) == pause


def test_pauses_of_no_length_double_until_they_are_as_long_as_may_be() -> None:
    breaker, now, lengths = circuit(max_pause=20.0), 0.0, []
    for _ in range(7):
        throttle(breaker, now, None)
        lengths.append(breaker.length)
        now += breaker.length

    assert lengths == [1, 2, 4, 8, 16, 20, 20]


def test_pauses_of_no_length_that_have_no_bound_stop_growing() -> None:
    breaker, now = circuit(max_pause=None), 0.0
    for number in range(2000):
        throttle(breaker, now, None)
        assert breaker.length == 2.0 ** min(number, 40)
        now += breaker.length


def test_a_pause_of_some_length_is_one_of_the_row() -> None:
    breaker = circuit()
    throttle(breaker, 0, 5)
    throttle(breaker, 5, None)

    assert rest(breaker, 5) == 2


@pytest.mark.parametrize("ended_by", ["a closing", "an opening", "reset"])
def test_a_row_of_pauses_ends(ended_by: str) -> None:
    breaker, now = circuit(failure_threshold=1), 1.0
    throttle(breaker, 0, None)
    if ended_by == "a closing":
        succeed(breaker, now)
    elif ended_by == "an opening":
        fail(breaker, now)
        now += RESET
    else:
        breaker.reset()
    assert not breaker.paused

    throttle(breaker, now, None)

    assert rest(breaker, now) == 1


def test_the_success_of_one_probe_of_several_ends_no_row_of_pauses() -> None:
    breaker = circuit(success_threshold=2)
    throttle(breaker, 0, None)
    succeed(breaker, 1)
    throttle(breaker, 1, None)

    assert rest(breaker, 1) == 2
    assert breaker.paused


def test_a_probe_that_is_throttled_pauses_again_and_is_no_failure() -> None:
    breaker = opened(reset_multiplier=2.0)
    probe = admitted(breaker, RESET)

    ruling = breaker.throttled(probe, RESET, 3)

    assert ruling.transition == Transition(HALF_OPEN, OPEN, "asked for a pause of 3 s")
    assert (breaker.failures, breaker.paused) == (1, True)
    assert rest(breaker, RESET) == 3
    fail(breaker, RESET + 3)
    assert not breaker.paused
    assert rest(breaker, RESET + 3) == 2 * RESET  # the pause was no reopening


def test_a_stale_permit_pauses_nothing() -> None:
    breaker = circuit(failure_threshold=1)
    old = admitted(breaker)
    fail(breaker)
    assert breaker.throttled(old, 0, 5) == LATE
    probe = admitted(breaker, RESET)
    assert breaker.throttled(probe, RESET + LEASE, 5) == LATE

    assert breaker.state is HALF_OPEN
    assert not breaker.paused


def test_a_circuit_that_is_tripped_or_reset_is_no_longer_paused() -> None:
    for deed in ("trip", "reset"):
        breaker = circuit()
        throttle(breaker, 0, 5)
        getattr(breaker, deed)()
        assert not breaker.paused


# The time that it stays open


def test_the_open_time_grows_with_each_probe_that_fails_up_to_its_bound() -> None:
    breaker = opened(reset_multiplier=1.5, max_reset_timeout=300.0)
    now, lengths = 0.0, [breaker.length]
    for _ in range(4):
        now += breaker.length
        fail(breaker, now)
        lengths.append(breaker.length)

    assert lengths == [100, 150, 225, 300, 300]
    now += breaker.length
    succeed(breaker, now)
    fail(breaker, now)
    assert breaker.length == RESET


def test_an_open_time_without_bound_does_no_harm() -> None:
    breaker = circuit(reset_multiplier=1e300, max_reset_timeout=500.0)
    breaker.restore(Saved(True, 0.0, False, 10**6, 3, False, False), 0)

    fail(breaker, 0)

    assert rest(breaker, 0) == 500


@pytest.mark.parametrize(
    ("jitter", "draw", "length"),
    [(0.5, 0.5, 75), (0.25, 1.0, 75), (1, 1.0, 0), (0.5, 0, 100)],
)
def test_chance_makes_the_open_time_shorter(
    jitter: float, draw: float, length: float
) -> None:
    breaker = circuit(failure_threshold=1, jitter=jitter)
    breaker.draw = lambda: draw

    fail(breaker)

    assert breaker.length == length
    breaker.trip(0)
    assert breaker.length == length


def test_no_chance_is_asked_for_where_there_is_none() -> None:
    breaker = circuit(failure_threshold=1)
    breaker.draw = interrupt
    fail(breaker)
    assert breaker.length == RESET

    breaker = circuit(failure_threshold=1, jitter=0.5)
    fail(breaker)
    assert breaker.length == RESET


def test_chance_that_raises_leaves_the_circuit_whole() -> None:
    breaker = opened(jitter=0.5)
    breaker.draw = interrupt
    probe = admitted(breaker, RESET)
    with pytest.raises(KeyboardInterrupt):
        breaker.failed(probe, RESET)
    assert breaker.state is HALF_OPEN
    assert breaker.probe is None
    assert not breaker.covers(probe)
    assert succeed(breaker, RESET).transition

    with pytest.raises(KeyboardInterrupt):
        fail(breaker, RESET)
    assert (breaker.state, breaker.failures) == (CLOSED, 1)
    generation = breaker.generation
    with pytest.raises(KeyboardInterrupt):
        breaker.trip(RESET)
    assert (breaker.state, breaker.generation) == (CLOSED, generation)
    breaker.draw = None
    assert fail(breaker, RESET).transition


# Several probes


def test_so_many_probes_in_a_row_close_the_circuit_one_at_a_time() -> None:
    breaker = opened(success_threshold=3)
    probe = admitted(breaker, RESET)
    generation = breaker.generation
    for _ in range(2):
        assert rest(breaker, RESET) == 1
        assert breaker.succeeded(probe) == COUNTED
        assert (breaker.state, breaker.failures) == (HALF_OPEN, 0)
        probe = admitted(breaker, RESET)
        assert breaker.generation == generation

    assert breaker.succeeded(probe).transition == Transition(
        HALF_OPEN, CLOSED, "the probe succeeded"
    )


def test_a_probe_that_fails_begins_the_row_anew() -> None:
    breaker = opened(success_threshold=2)
    succeed(breaker, RESET)
    fail(breaker, RESET)
    assert breaker.failures == 1

    assert succeed(breaker, 2 * RESET) == COUNTED
    assert succeed(breaker, 2 * RESET).transition


def test_no_verdict_leaves_the_row_as_it_is() -> None:
    breaker = opened(success_threshold=2)
    succeed(breaker, RESET)
    breaker.ignored(admitted(breaker, RESET), RESET)

    assert succeed(breaker, RESET).transition


def test_an_expired_probe_that_succeeds_is_one_of_the_row() -> None:
    breaker = opened(success_threshold=2)
    first = admitted(breaker, RESET)
    second = admitted(breaker, RESET + LEASE)
    assert breaker.succeeded(first) == COUNTED
    assert breaker.probe is second

    assert breaker.succeeded(second).transition


def test_an_isolation_leaves_the_row_as_it_is() -> None:
    breaker = opened(success_threshold=2)
    succeed(breaker, RESET)
    breaker.isolate()
    breaker.release()

    assert succeed(breaker, RESET).transition


# Disabled


def test_a_disabled_circuit_goes_on_beneath() -> None:
    breaker = circuit(failure_threshold=2)
    assert breaker.disable() == Transition(CLOSED, DISABLED, "disabled by hand")
    fail(breaker)

    ruling = fail(breaker)

    assert ruling.transition == Transition(
        CLOSED, OPEN, "2 failures in a row", enforced=False
    )
    assert breaker.state is DISABLED
    assert breaker.refusal(1) is None
    assert breaker.available_in(1) == 0
    bystander = admitted(breaker, 1)
    assert (bystander.generation, bystander.is_bystanders) == (-1, True)
    assert bystander is not breaker.probe
    probe, transition = breaker.admit(RESET, LEASE)
    assert transition == Transition(OPEN, HALF_OPEN, "a caller probes", enforced=False)
    assert probe is breaker.probe
    assert admitted(breaker, RESET).is_bystanders
    assert isinstance(probe, Permit)
    assert not probe.is_bystanders
    assert breaker.succeeded(probe).transition == Transition(
        HALF_OPEN, CLOSED, "the probe succeeded", enforced=False
    )
    assert admitted(breaker, RESET) is breaker.closed_permit


def test_what_comes_of_a_bystander_changes_nothing_and_is_not_late() -> None:
    breaker = opened(slow_duration=2.0)
    breaker.disable()
    bystander = admitted(breaker, 1)
    before = (breaker.failures, breaker.generation, breaker.saved(1))

    for _ in range(2):
        assert breaker.succeeded(bystander, 1) == COUNTED
        assert breaker.succeeded(bystander, 1, 5.0) == COUNTED
        assert breaker.failed(bystander, 1) == COUNTED
        assert breaker.throttled(bystander, 1, 5) == COUNTED
        assert breaker.ignored(bystander, 1) == COUNTED
    assert not breaker.covers(bystander)
    assert not bystander.spent

    assert (breaker.failures, breaker.generation, breaker.saved(1)) == before


def test_disabling_keeps_the_place_of_a_probe_but_not_its_say() -> None:
    breaker = opened()
    probe = admitted(breaker, RESET)
    breaker.disable()
    assert admitted(breaker, RESET).generation == -1
    assert breaker.probe is probe

    assert breaker.succeeded(probe) == LATE
    assert admitted(breaker, RESET) is breaker.probe


@pytest.mark.parametrize(("deed", "state"), [("reset", CLOSED), ("trip", OPEN)])
def test_a_disabled_circuit_is_enabled_by_hand(deed: str, state: CircuitState) -> None:
    breaker = opened()
    breaker.disable()

    transition = getattr(breaker, deed)()

    assert (transition.old, transition.new) == (DISABLED, state)
    assert transition.enforced


def test_an_isolation_covers_a_disabled_circuit() -> None:
    breaker = opened()
    breaker.disable()
    breaker.isolate()

    assert breaker.refusal(0) == Refusal(ISOLATED, None)
    assert breaker.available_in(0) is None


# Opened by hand


def test_a_circuit_that_is_opened_by_hand_is_probed_after_its_time() -> None:
    breaker = circuit()
    old = admitted(breaker)

    transition = breaker.trip(1000)

    assert transition == Transition(CLOSED, OPEN, "opened by hand")
    assert (breaker.reason, breaker.failures) == ("opened by hand", 0)
    assert rest(breaker, 1000) == RESET
    assert breaker.failed(old, 1000) == LATE
    admitted(breaker, 1000 + RESET)


@pytest.mark.parametrize("odd", [None, *ODD_TIMES])
def test_opened_without_a_clock_it_waits_for_one(odd: float | None) -> None:
    breaker = opened(now=1000)
    breaker.trip() if odd is None else breaker.trip(odd)
    assert breaker.open_for(1050) == 0
    assert breaker.available_in(math.nan) is None

    assert rest(breaker, 1500) == RESET
    assert breaker.available_in(1510) == RESET - 10
    admitted(breaker, 1500 + RESET)


def test_opening_by_hand_keeps_the_number_of_probes_that_failed() -> None:
    breaker = opened(reset_multiplier=2.0)
    fail(breaker, RESET)

    breaker.trip(RESET)

    assert rest(breaker, RESET) == 2 * RESET


def test_opening_by_hand_does_not_lift_an_isolation() -> None:
    breaker = circuit()
    breaker.isolate()
    assert breaker.trip(0).new is ISOLATED
    breaker.release()

    assert rest(breaker, 0) == RESET


def test_reset_forgets_the_probes_that_failed() -> None:
    breaker = opened(reset_multiplier=2.0)
    fail(breaker, RESET)
    breaker.reset()
    fail(breaker, RESET)

    assert rest(breaker, RESET) == RESET


# When to come


def test_time_that_lets_a_call_in_is_told() -> None:
    breaker = circuit(failure_threshold=1)
    assert breaker.available_in(0) == 0
    fail(breaker)
    assert breaker.available_in(30) == RESET - 30
    assert breaker.available_in(RESET) == 0
    admitted(breaker, RESET)
    assert breaker.available_in(RESET + 10) == LEASE - 10
    assert breaker.available_in(RESET + LEASE) == 0
    breaker.isolate(as_open=True)
    assert breaker.available_in(RESET + LEASE) is None


def test_time_alone_lets_nobody_in_where_it_is_open_for_ever() -> None:
    breaker = circuit(max_pause=None)
    throttle(breaker, 0, math.inf)

    assert breaker.available_in(0) is None


# Other settings


def test_with_other_settings_it_goes_on_with_what_was_counted() -> None:
    breaker = slow_calls(failure_rate=1.0, minimum_calls=4)
    for _ in range(3):
        fail(breaker)
    breaker.configure(breaker.settings._replace(window_calls=8, slow_duration=1.0))
    assert (breaker.failures, breaker.slow_above) == (3, 1)

    assert fail(breaker).transition
    assert breaker.reason == "4 of the last 4 calls failed"


def test_both_windows_go_on_with_what_was_counted() -> None:
    breaker = slow_calls(failure_rate=0.5, minimum_calls=5, window_seconds=10.0)
    for end in (fail, fail, succeed, succeed):
        end(breaker)
    breaker.configure(breaker.settings._replace(window_calls=2, window_seconds=20.0))
    assert succeed(breaker) == COUNTED

    assert fail(breaker).transition
    assert breaker.reason == "1 of the last 2 calls failed"


def test_a_time_window_beside_a_count_window_goes_on_too() -> None:
    breaker = slow_calls(
        failure_rate=0.8, minimum_calls=5, window_calls=4, window_seconds=10.0
    )
    for end in (fail, fail, fail, succeed):
        end(breaker)
    breaker.configure(breaker.settings._replace(window_seconds=20.0))

    assert fail(breaker, 15).transition
    assert breaker.reason == "4 of the 5 calls of the last 20 s failed"


def test_fewer_probes_than_have_succeeded_close_the_circuit_with_the_next() -> None:
    breaker = opened(success_threshold=4)
    succeed(breaker, RESET)
    succeed(breaker, RESET)
    breaker.configure(breaker.settings._replace(success_threshold=1))
    assert breaker.state is HALF_OPEN

    assert succeed(breaker, RESET).transition


def test_a_window_comes_and_goes_with_the_settings() -> None:
    breaker = circuit()
    breaker.configure(breaker.settings._replace(window_calls=3))
    assert breaker.counting
    breaker.configure(breaker.settings._replace(window_calls=0))
    assert not breaker.counting
    breaker.configure(breaker.settings._replace(window_seconds=3.0))
    assert breaker.counting


def test_a_time_window_is_kept_beside_a_count_window() -> None:
    breaker = circuit(
        failure_threshold=9, failure_rate=1.0, minimum_calls=2, window_seconds=10.0
    )
    fail(breaker)
    breaker.configure(breaker.settings._replace(window_calls=5, window_seconds=20.0))
    assert fail(breaker, 15).transition
    assert breaker.reason == "2 of the 2 calls of the last 20 s failed"


def test_a_circuit_is_open_for_no_longer_than_other_settings_allow() -> None:
    breaker = opened(reset_multiplier=2.0)
    fail(breaker, RESET)
    now = RESET + 10
    assert rest(breaker, now) == 2 * RESET - 10
    breaker.configure(breaker.settings._replace(reset_timeout=50.0))
    assert (breaker.length, rest(breaker, now)) == (100, 90)
    breaker.configure(breaker.settings._replace(max_reset_timeout=60.0))
    assert rest(breaker, now) == 50
    breaker.configure(breaker.settings._replace(max_pause=1.0))
    assert rest(breaker, now) == 50
    breaker.configure(breaker.settings._replace(reset_timeout=1.0))
    admitted(breaker, now)


def test_a_pause_is_no_longer_than_other_settings_allow() -> None:
    breaker = circuit()
    throttle(breaker, 0, 200)
    breaker.configure(breaker.settings._replace(reset_timeout=1.0))
    assert rest(breaker, 0) == 200
    breaker.configure(breaker.settings._replace(max_pause=40.0))
    assert rest(breaker, 0) == 40
    breaker.configure(breaker.settings._replace(max_pause=None))
    assert rest(breaker, 0) == 1


def test_a_time_window_goes_along_with_another_clock() -> None:
    breaker = circuit(
        failure_threshold=9, failure_rate=1.0, minimum_calls=2, window_seconds=10.0
    )
    fail(breaker, 1000)
    breaker.rebase(5)
    assert fail(breaker, 6).transition

    breaker = circuit(
        failure_threshold=9, failure_rate=1.0, minimum_calls=2, window_seconds=10.0
    )
    fail(breaker, 1000)
    breaker.rebase(5)
    assert fail(breaker, 16) == COUNTED


# By hand, asked on its own


def test_what_refuses_by_hand_is_an_isolation_alone() -> None:
    breaker = opened()
    assert breaker.refusal_by_hand() is None
    breaker.isolate()

    assert breaker.refusal_by_hand() == Refusal(ISOLATED, None)


@pytest.mark.parametrize(("failed", "times"), [(0, 1), (1, 4)])
def test_an_outage_goes_on_in_a_pause_that_was_saved(failed: int, times: int) -> None:
    breaker = circuit(reset_multiplier=2.0)
    breaker.restore(Saved(True, 0.0, True, failed, 1, False, False), 0)
    fail(breaker, 0)
    assert rest(breaker, 0) == times * RESET


def test_a_closed_circuit_that_was_saved_has_not_opened() -> None:
    breaker = circuit(reset_multiplier=2.0, max_pause=5.0)
    breaker.restore(Saved(False, 0.0, False, 0, 0, False, False), 0)
    throttle(breaker, 0, 3)
    fail(breaker, 3)
    assert rest(breaker, 3) == RESET


@pytest.mark.parametrize("failures", [0, 2, 3, 5])
def test_one_that_was_open_says_why_it_is(failures: int) -> None:
    breaker = circuit(reset_multiplier=2.0)
    breaker.restore(Saved(True, 9.0, False, 0, failures, False, False), 0)
    # Where there are too few of them, it was opened by a rate, or by hand.
    told = "" if failures >= 3 else "opened before the program was restarted"
    assert breaker.reason == told
    fail(breaker, 9)
    assert rest(breaker, 9) == 2 * RESET


def test_an_opening_by_hand_is_the_first_of_a_row() -> None:
    breaker = circuit(reset_multiplier=2.0)
    breaker.trip(0)
    fail(breaker, RESET)
    assert rest(breaker, RESET) == 2 * RESET


def test_a_close_ends_the_outage_that_a_pause_would_go_on_with() -> None:
    breaker = opened(reset_multiplier=2.0)
    breaker.succeeded(admitted(breaker, RESET), RESET)
    throttle(breaker, RESET, 3)
    fail(breaker, RESET + 3)
    assert rest(breaker, RESET + 3) == RESET


def test_bad_calls_are_failures_in_a_row_and_what_windows_hold() -> None:
    breaker = circuit(window_calls=2, minimum_calls=2, failure_threshold=9)
    assert not breaker.has_bad_calls
    fail(breaker)
    succeed(breaker)
    assert breaker.has_bad_calls  # none in a row, but one of the last two
    succeed(breaker)
    assert not breaker.has_bad_calls
    breaker = circuit(window_calls=3, slow_duration=2.0, slow_rate=1.0, minimum_calls=3)
    breaker.succeeded(admitted(breaker), 0, 5.0)
    assert breaker.has_bad_calls  # slow, and no failure
    breaker = circuit()
    fail(breaker)
    assert breaker.has_bad_calls
    succeed(breaker)
    assert not breaker.has_bad_calls
