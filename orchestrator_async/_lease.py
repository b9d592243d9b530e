"""
What a circuit's link to a fleet keeps: the lease of a probe, a move that is not confirmed, and
how a circuit stands as the one side says it and the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from ._breaker import CircuitState, Permit, Standing
from ._store import SharedState


class Lease:
    """
    The right to probe for the whole fleet.

    Attributes:
        token: By which the store knows it.
        came: When it came, on the circuit's clock.
        until: When it ends, at the earliest.
        length: Seconds that it was given for last.
        last: When it may not be renewed any more.
        permit: The probe's, once there is one.
    """

    __slots__ = ("came", "last", "length", "permit", "token", "until")

    def __init__(self, token: str, length: float, until: float, came: float) -> None:
        self.token: str = token
        self.came: float = came
        self.until: float = until
        self.last: float = until
        self.length: float = length
        self.permit: Permit | None = None


@dataclass(slots=True)
class Pending:
    """
    A move that the fleet has not confirmed.
    """

    standing: Standing
    since: float
    token: str | None
    force: bool
    is_old: bool = False


def standing_of(state: SharedState) -> Standing:
    """
    How a circuit stands in which the fleet has this.
    """
    return Standing(
        state=state.state,
        rest=state.rest,
        length=state.length,
        failures=state.failures,
        reopenings=state.reopenings,
        successes=state.successes,
        paused=state.paused,
        pauses=state.pauses,
    )


def shared_of(standing: Standing, passed: float = 0.0) -> SharedState:
    """
    What the fleet has of a circuit that has stood so for some seconds.
    """
    rest = standing.rest - passed if standing.state is CircuitState.OPEN else 0.0
    return SharedState(
        state=standing.state,
        rest=max(0.0, rest),
        length=standing.length,
        failures=standing.failures,
        reopenings=standing.reopenings,
        successes=standing.successes,
        paused=standing.paused,
        pauses=standing.pauses,
    )
