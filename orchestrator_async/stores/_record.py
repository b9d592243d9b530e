"""
A circuit as stores keep it: whole numbers within bounds, and times in milliseconds.

Below the stores, above ``_store``. What comes in is brought within bounds here, wherever it
comes from: what one process has believed goes on to all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from orchestrator_async._breaker import CircuitState
from orchestrator_async._store import SharedState

SECOND: Final = 1_000
DAY: Final = 86_400 * SECOND
MONTH: Final = 30 * DAY

LONGEST: Final = MONTH
"""The longest time for which a circuit is open."""

LONGEST_LEASE: Final = DAY
"""The longest time for which a probe or a run of failures counts."""

MOST: Final = 999_999_999
"""The highest count. Ten thousand of them, added up, are still exact in a float."""

LAST_GENERATION: Final = 999_999_999_999_999
"""The highest one: a clock says that in the year 33658."""

ALIVE: Final = 10 * SECOND
"""How long a process counts as alive that has said so."""

REMEMBERED: Final = 3_600 * SECOND
"""How long the figures of a process are kept that says nothing more."""

MOST_RUNS: Final = 10_000
"""Processes of which the runs of one circuit are kept."""

BUCKETS: Final = 60
"""Buckets of calls that are kept of one circuit."""


@dataclass(slots=True)
class Record:
    """
    The fields of a ``SharedState``, of which it says more; ``rest`` and ``length`` are in
    milliseconds.
    """

    generation: int
    state: CircuitState
    rest: int
    length: int
    failures: int
    reopenings: int
    successes: int
    paused: bool
    pauses: int
    isolations: int

    def as_state(self) -> SharedState:
        return SharedState(
            generation=self.generation,
            state=self.state,
            rest=self.rest / SECOND,
            length=self.length / SECOND,
            failures=self.failures,
            reopenings=self.reopenings,
            successes=self.successes,
            paused=self.paused,
            pauses=self.pauses,
            isolations=self.isolations,
        )


def record_of(state: SharedState) -> Record:
    """
    What a process says of a circuit, within bounds.

    Raises:
        ValueError: It is in a state that a store does not know.
    """
    length = milliseconds(state.length, LONGEST)
    return Record(
        generation=min(max(state.generation, 0), LAST_GENERATION),
        state=state.state,
        rest=milliseconds(state.rest, longest_rest(state.state, length)),
        length=length,
        failures=count(state.failures),
        reopenings=count(state.reopenings),
        successes=count(state.successes),
        paused=bool(state.paused),
        pauses=count(state.pauses),
        isolations=count(state.isolations),
    )


def longest_rest(state: CircuitState, length: int) -> int:
    """
    Milliseconds that are left at the most of the time of such a circuit.

    Raises:
        ValueError: It is in a state that a store does not know.
    """
    match state:
        case CircuitState.CLOSED:
            return 0
        case CircuitState.OPEN:
            return length
        case CircuitState.HALF_OPEN:
            return LONGEST_LEASE
    raise ValueError(f"a store keeps closed, open and half_open, not {state!r}")


def milliseconds(seconds: float, most: int) -> int:
    """
    Whole milliseconds, from none to so many. What is no number is none.
    """
    if not seconds > 0:
        return 0
    return most if math.isinf(seconds) else min(round(seconds * SECOND), most)


def count(number: int) -> int:
    return min(max(number, 0), MOST)


def share(rate: float) -> float:
    """
    A share of calls from which on a circuit opens, as a finite number: none is over 1.
    """
    return 2.0 if math.isnan(rate) else min(max(rate, 0.0), 2.0)


def bucket_width(window_seconds: float) -> int:
    """
    Milliseconds of a bucket of calls: a tenth of the window, or a second where there is none.
    """
    window = milliseconds(window_seconds, LONGEST)
    return max(round(window / 10), 1) if window else SECOND
