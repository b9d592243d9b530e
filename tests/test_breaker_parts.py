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
from orchestrator_async._breaker import (
    Breaker,
    Permit,
    Refusal,
    Ruling,
    Saved,
)
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
