"""
The state machine among others: how it stands, and how it follows them.
"""

from __future__ import annotations

import math

import pytest

from orchestrator_async import CircuitState
from orchestrator_async._breaker import Breaker, Permit, Refusal, Standing, Tally
from orchestrator_async._policy import BreakerSettings

from .test_breaker import LEASE, RESET, admitted, closed, opened, probing, refused

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


def test_it_stands_as_it_was_brought_to() -> None:
    assert closed().standing(5.0) == Standing()
    one = closed()
    one.failed(admitted(one, 0.0), 0.0)
    assert one.standing(1.0) == Standing(failures=1)
    assert opened().standing(100.0) == Standing(OPEN, RESET - 100.0, RESET, 3)
    assert opened().standing(RESET + 1).rest == 0.0
    breaker, permit = probing()
    assert breaker.standing(RESET) == Standing(HALF_OPEN, 0.0, RESET, 3)
    breaker.failed(permit, RESET)
    assert breaker.standing(RESET) == Standing(OPEN, RESET, RESET, 4, reopenings=1)


def test_it_says_how_many_probes_have_succeeded_and_how_often_it_has_paused() -> None:
    breaker = Breaker(BreakerSettings(success_threshold=3))
    breaker.throttled(admitted(breaker, 0.0), 0.0, 7.0)
    assert breaker.standing(1.0) == Standing(OPEN, 6.0, 7.0, paused=True, pauses=1)
    breaker.succeeded(admitted(breaker, 7.0), 7.0)
    assert breaker.standing(7.0).successes == 1


def test_it_stands_where_no_clock_has_told_the_time() -> None:
    breaker = closed()
    breaker.trip()
    assert breaker.standing(math.nan).rest == RESET


def test_what_it_would_open_to() -> None:
    breaker = closed()
    breaker.failed(admitted(breaker, 0.0), 0.0)
    assert breaker.would_open() == Standing(OPEN, RESET, RESET, 1)
    assert breaker.state is CLOSED
    drawn = Breaker(BreakerSettings(reset_timeout=RESET, jitter=0.5))
    drawn.draw = lambda: 1.0
    assert drawn.would_open().rest == drawn.would_open().length == RESET / 2


def test_it_follows_an_opening() -> None:
    breaker = closed()
    before = admitted(breaker, 0.0)
    transition = breaker.adopt(Standing(OPEN, 50.0, 100.0, 3), 10.0, "because")
    assert (transition.old, transition.new, transition.reason) == (CLOSED, OPEN, "because")
    assert refused(breaker, 20.0) == Refusal(OPEN, 40.0)
    assert breaker.probe is None
    assert breaker.failures == 3
    assert breaker.length == 100.0
    assert breaker.reason == ""
    assert breaker.succeeded(before, 20.0).late
    permit = admitted(breaker, 60.0)
    assert breaker.failed(permit, 60.0).transition is not None
    assert breaker.standing(60.0).reopenings == 1  # it was open, and not for a pause


def test_it_follows_no_longer_than_it_is_set_to() -> None:
    breaker = closed()
    breaker.adopt(Standing(OPEN, 1e9, 1e9, 3), 0.0, "")
    assert breaker.length == RESET
    assert refused(breaker, 0.0).retry_after == RESET
    breaker.adopt(Standing(OPEN, RESET, 10.0, 3), 0.0, "")
    assert refused(breaker, 0.0).retry_after == 10.0
    assert breaker.longest(False, 0) == breaker.longest(True, 0) == RESET
    grows = Breaker(BreakerSettings(reset_multiplier=2, max_reset_timeout=1e4, max_pause=7))
    assert grows.longest(False, 2) == 1200
    assert grows.longest(True, 2) == 7
    unpaused = Breaker(BreakerSettings(max_pause=None, reset_multiplier=2))
    assert unpaused.longest(True, 1) == 600


def test_it_follows_the_times_that_others_have_reopened() -> None:
    breaker = Breaker(BreakerSettings(reset_multiplier=2))
    breaker.adopt(Standing(OPEN, 1200.0, 1200.0, 5, reopenings=2), 0.0, "")
    breaker.failed(admitted(breaker, 1200.0), 1200.0)
    assert breaker.length == 2400.0


def test_it_follows_a_pause() -> None:
    breaker = closed()
    breaker.adopt(Standing(OPEN, 8.0, 8.0, paused=True, pauses=3), 0.0, "")
    assert breaker.paused
    assert breaker.reason == ""
    permit = admitted(breaker, 8.0)
    breaker.throttled(permit, 8.0, None)
    assert breaker.length == 8.0  # the fourth in a row
    breaker.failed(admitted(breaker, 16.0), 16.0)
    assert breaker.standing(16.0).reopenings == 0  # a pause is no opening
    breaker.adopt(Standing(OPEN, 8.0, 8.0, paused=True, reopenings=1), 0.0, "")
    breaker.failed(admitted(breaker, 8.0), 8.0)
    assert breaker.standing(8.0).reopenings == 2


@pytest.mark.parametrize(
    ("failures", "reason"),
    [
        (0, "as other processes have found"),
        (2, "as other processes have found"),
        (3, ""),
        (4, ""),
    ],
)
def test_it_says_why_it_is_open_where_failures_in_a_row_do_not(failures, reason) -> None:
    breaker = closed()
    breaker.adopt(Standing(OPEN, 5.0, 5.0, failures), 0.0, "")
    assert breaker.reason == reason
    breaker.adopt(Standing(), 1.0, "")
    assert breaker.reason == ""


def test_it_follows_a_probe_elsewhere() -> None:
    breaker = opened()
    breaker.adopt(Standing(HALF_OPEN, LEASE, RESET, 3), RESET, "")
    assert breaker.state is HALF_OPEN
    assert refused(breaker, RESET, average=40.0) == Refusal(HALF_OPEN, LEASE)
    assert breaker.rest_of_lease(RESET + 10) == LEASE - 10
    assert breaker.rest_of_lease(RESET + LEASE + 10) == 0.0
    permit = admitted(breaker, RESET + LEASE)
    assert permit is breaker.probe
    assert breaker.succeeded(permit, RESET + LEASE).transition is not None
    assert breaker.state is CLOSED


def test_it_follows_one_that_nobody_probes() -> None:
    breaker = Breaker(BreakerSettings(success_threshold=2))
    breaker.adopt(Standing(HALF_OPEN, 0.0, RESET, 3, successes=1), 0.0, "")
    assert breaker.probe is None
    breaker.succeeded(admitted(breaker, 0.0), 0.0)
    assert breaker.state is CLOSED
    breaker.adopt(Standing(HALF_OPEN, -1.0, RESET, 3), 0.0, "")
    assert breaker.probe is None
    assert breaker.rest_of_lease(0.0) == 0.0


def test_its_own_probe_decides_nothing_once_it_has_followed() -> None:
    for state, rest in ((CLOSED, 0.0), (OPEN, 9.0), (HALF_OPEN, 9.0), (HALF_OPEN, 0.0)):
        for verdict in ("succeeded", "failed", "ignored"):
            breaker, permit = probing()
            breaker.adopt(Standing(state, rest, 9.0, 3), RESET, "")
            assert getattr(breaker, verdict)(permit, RESET).late
            assert breaker.state is state


def test_it_follows_a_close() -> None:
    breaker = Breaker(BreakerSettings(failure_threshold=3, reset_multiplier=2))
    breaker.adopt(Standing(OPEN, 5.0, 5.0, 7, reopenings=4, pauses=2), 0.0, "")
    transition = breaker.adopt(Standing(), 1.0, "well again")
    assert (transition.old, transition.new) == (OPEN, CLOSED)
    assert breaker.length == 5.0  # that of the last time
    assert breaker.failures == 0
    assert not breaker.counting
    assert admitted(breaker, 1.0) is breaker.closed_permit
    for _ in range(3):
        breaker.failed(admitted(breaker, 2.0), 2.0)
    assert breaker.length == RESET
    assert breaker.standing(2.0) == Standing(OPEN, RESET, RESET, 3)
    breaker.failed(admitted(breaker, 302.0), 302.0)
    assert breaker.length == 2 * RESET


def test_a_window_begins_anew_where_it_follows() -> None:
    breaker = Breaker(BreakerSettings(failure_rate=0.5, window_calls=10, minimum_calls=4))
    for _ in range(2):
        breaker.failed(admitted(breaker, 0.0), 0.0)
    breaker.adopt(Standing(), 0.0, "")
    for _ in range(2):
        breaker.succeeded(admitted(breaker, 0.0), 0.0)
    breaker.failed(admitted(breaker, 0.0), 0.0)
    breaker.failed(admitted(breaker, 0.0), 0.0)
    assert breaker.state is OPEN  # of these four
    assert breaker.reason == "2 of the last 4 calls failed"


def test_following_covers_nothing_that_was_done_by_hand() -> None:
    breaker = closed()
    breaker.isolate()
    breaker.adopt(Standing(OPEN, 5.0, 5.0, 3), 0.0, "")
    assert breaker.state is CircuitState.ISOLATED
    breaker.release()
    assert breaker.state is OPEN
    breaker.disable()
    assert breaker.is_disabled
    transition = breaker.adopt(Standing(), 0.0, "")
    assert transition.old is transition.new is CircuitState.DISABLED
    assert breaker.is_closed_beneath
    breaker.reset()
    assert not breaker.is_disabled


def test_a_lease_is_given_to_the_probe_alone() -> None:
    breaker, permit = probing()
    assert not breaker.is_overdue(permit, RESET + LEASE - 0.1)
    assert breaker.is_overdue(permit, RESET + LEASE)
    breaker.lease(permit, RESET + LEASE, 5.0)
    assert not breaker.is_overdue(permit, RESET + LEASE + 4.9)
    assert breaker.is_overdue(permit, RESET + LEASE + 5.0)
    breaker.lease(Permit(breaker.generation), RESET + LEASE, 50.0)
    assert breaker.is_overdue(permit, RESET + LEASE + 5.0)
    breaker.lease(None, RESET + LEASE, 50.0)
    assert not breaker.is_overdue(permit, RESET + LEASE + 5.0)
    breaker.ignored(permit, RESET + LEASE)
    assert not breaker.is_overdue(permit, RESET + LEASE + 99.0)
    breaker.lease(None, RESET + LEASE, 50.0)  # of nobody
    assert breaker.probe is None


def test_a_lease_is_no_longer_than_it_was_given_when_the_clock_goes_back() -> None:
    breaker, permit = probing()
    breaker.lease(permit, RESET, 5.0)
    assert not breaker.is_overdue(permit, 10.0)
    assert breaker.rest_of_lease(10.0) == 5.0
    assert breaker.is_overdue(permit, 15.0)


def test_the_fleet_holds_it_once() -> None:
    breaker = closed()
    assert breaker.hold(False) is None
    transition = breaker.hold(True)
    assert transition is not None
    assert transition.new is CircuitState.ISOLATED
    assert breaker.hold(True) is None
    breaker.isolate()
    breaker.hold(False)
    assert breaker.state is CircuitState.ISOLATED
    breaker.release()
    assert breaker.state is CLOSED
    breaker.hold(True)
    breaker.release_all()
    assert breaker.state is CLOSED
    assert breaker.hold(False) is None
    assert breaker.hold(True) is not None


def test_what_is_saved_has_no_isolation_of_the_fleet() -> None:
    breaker = closed()
    breaker.hold(True)
    assert not breaker.saved(0.0).isolated
    breaker.isolate(as_open=True)
    assert not breaker.saved(0.0).isolated
    breaker.isolate()
    assert breaker.saved(0.0).isolated


def test_it_tells_of_every_change_of_its_run() -> None:
    breaker, told = closed(), []
    breaker.ran = lambda: told.append(breaker.failures)
    breaker.succeeded(admitted(breaker, 0.0))
    assert told == []
    breaker.failed(admitted(breaker, 0.0), 0.0)
    breaker.failed(admitted(breaker, 0.0), 0.0)
    breaker.succeeded(admitted(breaker, 0.0))
    assert told == [1, 2, 0]


def test_it_tallies_what_windows_count() -> None:
    breaker = Breaker(
        BreakerSettings(window_calls=100, failure_rate=0.9, slow_duration=2.0)
    )
    assert breaker.has_windows
    assert not closed().has_windows
    breaker.succeeded(admitted(breaker, 0.0), 0.0, 1.0)  # nobody wants to know
    tally = breaker.tally = Tally()
    breaker.succeeded(admitted(breaker, 0.0), 0.0, 1.0)
    breaker.succeeded(admitted(breaker, 0.0), 0.0, 2.0)
    breaker.failed(admitted(breaker, 0.0), 0.0, 1.0)
    assert (tally.calls, tally.failures, tally.slow) == (3, 1, 1)
