"""
Breakers with a fault each, of the kinds that breakers in the field have.

Each overrides the method of the real class in which the fault would be made.
``test_explorer`` sees that the explorer finds every one of them, and ``test_model`` that
the model disagrees with it.
"""

from __future__ import annotations

import math

from orchestrator_async._breaker import (
    Breaker,
    CircuitState,
    Permit,
    Refusal,
    Ruling,
    Transition,
)


class DropsTheToken(Breaker):
    """
    Whoever gives a permit back is taken for the probe.
    """

    def _free(self, permit: Permit) -> bool:
        return super()._free(permit if self.probe is None else self.probe)


class IgnoresTheGeneration(Breaker):
    """
    A late success closes the circuit.
    """

    def covers(self, permit: Permit) -> bool:
        return self._base is CircuitState.HALF_OPEN and not permit.spent


class ForgetsTheLease(Breaker):
    """
    A probe that hangs keeps its place for ever.
    """

    def refusal(self, now: float, average: float = 0.0) -> Refusal | None:
        refusal = super().refusal(now, average)
        if self.state is CircuitState.HALF_OPEN and self.probe is not None:
            return refusal or Refusal(CircuitState.HALF_OPEN, 1.0)
        return refusal


class LosesAnExpiredSuccess(Breaker):
    """
    A probe that is slower than its lease does not close the circuit.
    """

    def succeeded(self, permit: Permit) -> Ruling:
        if permit is not self.closed_permit and permit is not self.probe:
            permit.spent = True
            return Ruling(late=True, transition=None)
        return super().succeeded(permit)


class CountsAnExpiredFailure(Breaker):
    """
    A probe that is slower than its lease opens the circuit under the next one.
    """

    def failed(self, permit: Permit, now: float) -> Ruling:
        if self.covers(permit):
            self._free(permit)
            self.failures += 1
            return Ruling(False, self._open(now, "the probe failed"))
        return super().failed(permit, now)


class CountsACancellationAsAFailure(Breaker):
    def ignored(self, permit: Permit, now: float) -> Ruling:
        return self.failed(permit, now)


class CountsACancellationAsASuccess(Breaker):
    def ignored(self, permit: Permit, now: float) -> Ruling:
        return self.succeeded(permit)


class LetsAPermitVoteTwice(Breaker):
    """
    A permit is never spent.
    """

    def _free(self, permit: Permit) -> bool:
        had_the_place = super()._free(permit)
        permit.spent = False
        return had_the_place


class ClaimsATakenLease(Breaker):
    """
    Everyone who asks a half-open circuit is a probe.
    """

    def refusal(self, now: float, average: float = 0.0) -> Refusal | None:
        if self.state is CircuitState.HALF_OPEN:
            return None
        return super().refusal(now, average)


class KeepsThePlaceWithoutAVerdict(Breaker):
    """
    A probe that was cancelled keeps its place until its lease ends.
    """

    def ignored(self, permit: Permit, now: float) -> Ruling:
        if permit is self.probe:
            return Ruling(late=False, transition=None)
        return super().ignored(permit, now)


class StaysOpen(Breaker):
    """
    A circuit that opens a second time never reopens.
    """

    def _open(self, now: float, reason: str) -> Transition:
        again = self._base is CircuitState.HALF_OPEN
        transition = super()._open(now, reason)
        if again:
            self._reopen_at = math.inf
        return transition


class ReopensAtOnce(Breaker):
    """
    A circuit that opens a second time goes by the time of the first.
    """

    def _open(self, now: float, reason: str) -> Transition:
        first = self._reopen_at
        transition = super()._open(now, reason)
        if transition.old is CircuitState.HALF_OPEN:
            self._reopen_at = first
        return transition


class IsolationEndsTheProbe(Breaker):
    """
    When an isolation is lifted, a second probe is let in beside the first.
    """

    def _begin(self, old: CircuitState, reason: str) -> Transition:
        self.probe = None
        return super()._begin(old, reason)


class IsolationStartsNoGeneration(Breaker):
    """
    A probe that an isolation has covered closes the circuit when it is lifted.
    """

    def isolate(self, *, as_open: bool = False) -> Transition | None:
        transition = super().isolate(as_open=as_open)
        self.generation -= transition is not None
        return transition

    def release(self, *, as_open: bool = False) -> Transition | None:
        transition = super().release(as_open=as_open)
        self.generation -= transition is not None
        return transition


class WaitsForTheOldTime(Breaker):
    """
    Where the clock went back, the circuit waits until it is there again.
    """

    def _tick(self, now: float) -> float:
        self._seen = now
        return now


FAULTS: tuple[type[Breaker], ...] = tuple(Breaker.__subclasses__())
