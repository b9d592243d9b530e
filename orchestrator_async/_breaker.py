"""
The state machine of a circuit, without I/O: no await, no lock, no clock, no log.

Every method is one synchronous, whole change of state; ``now`` is an argument, in
seconds of one monotonic clock. So every interleaving can be enumerated in a test.
Above it stands ``_circuit``, which puts it into the async world.

The ideas it is made of: generation numbers against late results are gobreaker's, a
synchronous owner of state that says what is to be done is httpcore's.
"""

from __future__ import annotations

import enum
import math
from typing import Final, NamedTuple

from ._policy import BreakerSettings


class CircuitState(enum.StrEnum):
    """
    The states of a circuit.
    """

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    ISOLATED = "isolated"
    DISABLED = "disabled"


class Permit:
    """
    The right of an admitted call to give a verdict, as long as its generation lasts.

    Calls of a closed circuit share one. A probe has its own, and its identity is the
    token: who holds another one is not the probe.

    Attributes:
        generation: The circuit's, when the call was admitted.
        spent: Whether a probe has given it back.
    """

    __slots__ = ("generation", "spent")

    def __init__(self, generation: int) -> None:
        self.generation: int = generation
        self.spent: bool = False


class Refusal(NamedTuple):
    """
    Why a call may not run now, and for how many seconds (``None``: nobody knows).
    """

    state: CircuitState
    retry_after: float | None


class Transition(NamedTuple):
    """
    A change of state that has happened, for those who watch.
    """

    old: CircuitState
    new: CircuitState
    reason: str


class Ruling(NamedTuple):
    """
    What came of a verdict: whether it was too late to count, and what it changed.
    """

    late: bool
    transition: Transition | None


_COUNTED: Final = Ruling(late=False, transition=None)
_LATE: Final = Ruling(late=True, transition=None)


class Breaker:
    """
    One circuit's state.

    Attributes:
        settings: Thresholds and times.
        closed_permit: The permit of every call while the circuit lets all calls run
            (closed or disabled, and not isolated), else ``None``. Admission on that
            path is this one comparison.
        failures: Failures in a row, now.
        generation: Grows with every transition (rule C3).
        probe: The permit of the probe that is under way, or ``None``.
    """

    __slots__ = (
        "_base",
        "_forced",
        "_isolations",
        "_lease",
        "_lease_until",
        "_reopen_at",
        "_seen",
        "closed_permit",
        "failures",
        "generation",
        "probe",
        "settings",
    )

    def __init__(self, settings: BreakerSettings) -> None:
        self.settings: BreakerSettings = settings
        self.failures: int = 0
        self.generation: int = 0
        self.closed_permit: Permit | None = Permit(0)
        self._base = CircuitState.CLOSED
        self._isolations = 0
        self._forced = 0  # those of the isolations that pass for failures
        self.probe: Permit | None = None
        self._lease = self._lease_until = self._reopen_at = math.inf
        self._seen = math.nan

    @property
    def state(self) -> CircuitState:
        """
        The state as others see it: an isolation covers what lies beneath, and one that
        passes for failures is covered by one that does not.
        """
        if not self._isolations:
            return self._base
        return CircuitState.OPEN if self.is_forced_open else CircuitState.ISOLATED

    @property
    def is_forced_open(self) -> bool:
        """
        Whether it is open by hand, and not of failures.
        """
        return 0 < self._forced == self._isolations

    # Admission

    def refusal(self, now: float, average: float = 0.0) -> Refusal | None:
        """
        Why a call may not run, or ``None`` if it may. Claims nothing.

        Args:
            now: Seconds on the circuit's clock.
            average: Seconds that the tool usually takes, for how long to wait for a
                probe that is under way.
        """
        if self._isolations:
            forced = self.is_forced_open
            return Refusal(self.state, self.settings.reset_timeout if forced else None)
        if self.closed_permit is not None:
            return None
        now = self._tick(now)
        if self._base is CircuitState.OPEN:
            rest = self._reopen_at - now
            if rest <= 0:
                return None
            # What comes first remains where no clock has told the time, and rest is nan.
            return Refusal(CircuitState.OPEN, min(self.settings.reset_timeout, rest))
        if self.probe is None:
            return None
        rest = self._lease_until - now
        if rest <= 0:
            return None
        usual = max(1.0, 2 * average)
        return Refusal(CircuitState.HALF_OPEN, min(usual, rest))

    def open_for(self, now: float) -> float:
        """
        Seconds for which an open circuit refuses, or 0 where ``refusal`` has to say:
        its most frequent answer, for a fraction of the price.
        """
        if self._base is not CircuitState.OPEN or self._isolations:
            return 0.0
        if not self._seen <= now < self._reopen_at:
            return 0.0
        self._seen = now
        return self._reopen_at - now

    def admit(
        self, now: float, lease: float, average: float = 0.0
    ) -> tuple[Permit | Refusal, Transition | None]:
        """
        A permit, or why not. An open circuit whose time has come gives the probe's.

        Args:
            now: Seconds on the circuit's clock.
            lease: Seconds that a probe by this caller may take.
            average: As for ``refusal``.
        """
        refusal = self.refusal(now, average)
        if refusal is not None:
            return refusal, None
        if self.closed_permit is not None:
            return self.closed_permit, None
        transition = None
        if self._base is CircuitState.OPEN:
            transition = self._move(CircuitState.HALF_OPEN, "a caller probes")
        self.probe = Permit(self.generation)
        self._lease = lease
        self._lease_until = self._from_now(lease)
        return self.probe, transition

    def covers(self, permit: Permit) -> bool:
        """
        Whether this is the permit of a probe that still can close the circuit, in time
        or not. The calls that such a probe makes run under it.
        """
        return (
            self._base is CircuitState.HALF_OPEN
            and permit.generation == self.generation
            and not permit.spent
        )

    # Verdicts: each gives the permit back

    def succeeded(self, permit: Permit) -> Ruling:
        """
        The call succeeded. So did an expired probe's, if nothing has changed since:
        else a healthy tool that is slower than its lease would never be let in again.
        """
        if permit is self.closed_permit:
            self.failures = 0
            return _COUNTED
        in_time = self.covers(permit)
        self._free(permit)
        if not in_time:
            return _LATE
        self.failures = 0
        return Ruling(False, self._move(CircuitState.CLOSED, "the probe succeeded"))

    def failed(self, permit: Permit, now: float) -> Ruling:
        """
        The call failed, which may open the circuit.
        """
        if permit is self.closed_permit:
            self.failures += 1
            return Ruling(False, self._trip(now)) if self._must_trip() else _COUNTED
        if not self._give_back(permit, now):
            return _LATE
        self.failures += 1
        return Ruling(False, self._open(now, "the probe failed"))

    def ignored(self, permit: Permit, now: float) -> Ruling:
        """
        The call gives no verdict. If it was the probe, the next caller probes.
        """
        if permit is self.closed_permit:
            return _COUNTED
        return _COUNTED if self._give_back(permit, now) else _LATE

    # By hand: needs no clock, so it works outside an event loop

    def isolate(self, *, as_open: bool = False) -> Transition | None:
        """
        Refuse every call until as many ``release`` as ``isolate`` were called.

        Args:
            as_open: Whether it looks like a circuit that its failures have opened, and
                whose time never comes.
        """
        old, covers = self.state, self._isolations
        self._isolations += 1
        self._forced += as_open
        reason = "forced open by hand" if as_open else "isolated by hand"
        return self._covered(old, reason) if covers else self._begin(old, reason)

    def release(self, *, as_open: bool = False) -> Transition | None:
        """
        Take one isolation back. The last one uncovers the state beneath.
        """
        if not self._isolations:
            return None
        old, reason = self.state, "released by hand"
        self._isolations -= 1
        self._forced -= as_open
        return self._covered(old, reason) if self._isolations else self._begin(old, reason)

    def release_all(self) -> Transition | None:
        """
        Take every isolation back.
        """
        if not self._isolations:
            return None
        old = self.state
        self._isolations = self._forced = 0
        return self._begin(old, "released by hand")

    def disable(self) -> Transition:
        """
        Admit every call, and go on counting, until ``reset``.
        """
        return self._move(CircuitState.DISABLED, "disabled by hand")

    def reset(self) -> Transition:
        """
        Close the circuit and forget its failures. Does not lift an isolation.
        """
        self.failures = 0
        return self._move(CircuitState.CLOSED, "reset by hand")

    def configure(self, settings: BreakerSettings) -> None:
        """
        Go on with other settings. A circuit that is open stays so no longer than they say.
        """
        self.settings = settings
        self._cap()

    def rebase(self, now: float) -> None:
        """
        Go on with another clock that says ``now``; what was left of a time is left. One
        that tells no time changes nothing.
        """
        if not math.isfinite(now):
            return
        shift = now - self._seen
        if math.isfinite(shift):
            self._reopen_at += shift
            self._lease_until += shift
        self._seen = now
        self._cap()

    # Beneath

    def _tick(self, now: float) -> float:
        """
        Take note of the time. Where the clock went back, what was left is kept.
        """
        if self._seen <= now < math.inf:
            self._seen = now
        else:
            self.rebase(now)
        return self._seen

    def _from_now(self, seconds: float) -> float:
        """
        The time after so many seconds. As long as no clock has told any, it is never;
        the first time that is told brings it near.
        """
        return math.inf if math.isnan(self._seen) else self._seen + seconds

    def _cap(self) -> None:
        """
        Let no wait be longer than it was set to be.
        """
        self._reopen_at = min(self._reopen_at, self._from_now(self.settings.reset_timeout))
        self._lease_until = min(self._lease_until, self._from_now(self._lease))

    def _must_trip(self) -> bool:
        return (
            self._base is CircuitState.CLOSED
            and self.failures >= self.settings.failure_threshold
        )

    def _trip(self, now: float) -> Transition:
        runs = "1 failure" if self.failures < 2 else f"{self.failures} failures in a row"
        return self._open(now, runs)

    def _open(self, now: float, reason: str) -> Transition:
        self._tick(now)
        self._reopen_at = self._from_now(self.settings.reset_timeout)
        return self._move(CircuitState.OPEN, reason)

    def _give_back(self, permit: Permit, now: float) -> bool:
        """
        Free the probe's place if this permit holds it; whether it still had a say.
        """
        if not self._free(permit) or permit.generation != self.generation:
            return False
        return self._tick(now) < self._lease_until

    def _free(self, permit: Permit) -> bool:
        permit.spent = True
        if permit is not self.probe:
            return False
        self.probe = None
        return True

    def _move(self, new: CircuitState, reason: str) -> Transition:
        old = self.state
        self._base = new
        return self._begin(old, reason)

    def _covered(self, old: CircuitState, reason: str) -> Transition | None:
        """
        One isolation more or less where there are others: at the most another look.
        """
        return None if self.state is old else Transition(old, self.state, reason)

    def _begin(self, old: CircuitState, reason: str) -> Transition:
        """
        Start a generation: what was admitted before decides nothing from here on. A
        probe that an isolation has covered keeps its place, though, until its lease
        ends: a second one beside it would be one too many.
        """
        self.generation += 1
        if self._base is not CircuitState.HALF_OPEN:
            self.probe = None
        lets_all_run = not self._isolations and self._base in _LETTING
        self.closed_permit = Permit(self.generation) if lets_all_run else None
        return Transition(old, self.state, reason)


_LETTING: Final = (CircuitState.CLOSED, CircuitState.DISABLED)
