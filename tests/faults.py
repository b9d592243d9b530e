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
from orchestrator_async._window import CountWindow, TimeWindow


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

    def succeeded(
        self, permit: Permit, now: float = math.nan, duration: float = 0.0
    ) -> Ruling:
        if permit is not self.closed_permit and permit is not self.probe:
            permit.spent = True
            return Ruling(late=True, transition=None)
        return super().succeeded(permit, now, duration)


class CountsAnExpiredFailure(Breaker):
    """
    A probe that is slower than its lease opens the circuit under the next one.
    """

    def failed(self, permit: Permit, now: float, duration: float = 0.0) -> Ruling:
        if self.covers(permit):
            self._free(permit)
            self.failures += 1
            return Ruling(False, self._open(now, "the probe failed"))
        return super().failed(permit, now, duration)


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

    def _open(self, now: float, reason: str, told: str = "") -> Transition:
        again = self._base is CircuitState.HALF_OPEN
        transition = super()._open(now, reason, told)
        if again:
            self._reopen_at = math.inf
        return transition


class ReopensAtOnce(Breaker):
    """
    A circuit that opens a second time goes by the time of the first.
    """

    def _open(self, now: float, reason: str, told: str = "") -> Transition:
        first = self._reopen_at
        transition = super()._open(now, reason, told)
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


class CountsAPauseAsAFailure(Breaker):
    """
    A service that wants to be left alone for a while is taken for one that is down.
    """

    def throttled(self, permit: Permit, now: float, seconds: float | None) -> Ruling:
        ruling = super().throttled(permit, now, seconds)
        self.failures += not ruling.late
        return ruling


class PausesAsLongAsItIsTold(Breaker):
    """
    A service that names a day takes its tool away for a day.
    """

    def throttled(self, permit: Permit, now: float, seconds: float | None) -> Ruling:
        settings = self.settings
        self.settings = settings._replace(max_pause=None)
        try:
            return super().throttled(permit, now, seconds)
        finally:
            self.settings = settings


class PausesOnAStalePermit(Breaker):
    """
    A call that began before the outage pauses a circuit that has found back.
    """

    def throttled(self, permit: Permit, now: float, seconds: float | None) -> Ruling:
        fresh = permit.generation < 0 or self.covers(permit)
        use = permit if fresh or self.closed_permit is None else self.closed_permit
        return super().throttled(use, now, seconds)


class KeepsThePlaceWhenThrottled(Breaker):
    """
    A probe that is turned away keeps the circuit half-open until its lease ends.
    """

    def throttled(self, permit: Permit, now: float, seconds: float | None) -> Ruling:
        if permit is self.probe:
            return Ruling(late=False, transition=None)
        return super().throttled(permit, now, seconds)


class ClosesAtTheFirstProbe(Breaker):
    """
    One success is enough, however many were asked for.
    """

    def succeeded(
        self, permit: Permit, now: float = math.nan, duration: float = 0.0
    ) -> Ruling:
        self._successes = self.settings.success_threshold
        return super().succeeded(permit, now, duration)


class NoVerdictEndsTheRow(Breaker):
    """
    A probe that was cancelled takes those before it along.
    """

    def ignored(self, permit: Permit, now: float) -> Ruling:
        if permit is self.probe:
            self._successes = 0
        return super().ignored(permit, now)


class RemembersTheRow(Breaker):
    """
    What succeeded before a probe failed goes on being counted.
    """

    def _begin(self, old: CircuitState, reason: str) -> Transition:
        row = self._successes
        transition = super()._begin(old, reason)
        self._successes = 0 if self._base is CircuitState.CLOSED else row
        return transition


class KeepsThePlaceBetweenProbes(Breaker):
    """
    A probe that succeeds, and is not the last that has to, keeps the next one out.
    """

    def _free(self, permit: Permit) -> bool:
        had_the_place = super()._free(permit)
        row = self._successes + 1
        if had_the_place and row < self.settings.success_threshold:
            self.probe = permit
        return had_the_place


class ASlowProbeCloses(Breaker):
    """
    A probe that took too long is taken for one that did not.
    """

    def succeeded(
        self, permit: Permit, now: float = math.nan, duration: float = 0.0
    ) -> Ruling:
        took = duration if permit is self.closed_permit else 0.0
        return super().succeeded(permit, now, took)


class CountsASlowProbeAsAFailure(Breaker):
    """
    A probe that succeeds slowly adds to the failures in a row.
    """

    def _probe_failed(
        self, permit: Permit, now: float, reason: str, told: str = ""
    ) -> Ruling:
        ruling = super()._probe_failed(permit, now, reason, told)
        self.failures += bool(told) and not ruling.late
        return ruling


class AFastSuccessTrips(Breaker):
    """
    The rate is looked at after every call, so a success can open the circuit.
    """

    def succeeded(
        self, permit: Permit, now: float = math.nan, duration: float = 0.0
    ) -> Ruling:
        was_closed = permit is self.closed_permit
        ruling = super().succeeded(permit, now, duration)
        if was_closed and not ruling.transition and (reason := self._too_many(math.inf)):
            return Ruling(False, self._open(now, reason, reason))
        return ruling


class TripsOnTooFewCalls(Breaker):
    """
    One failure of one call is a rate of one.
    """

    def _exceeds(self, window: CountWindow | TimeWindow, bad: int, rate: float) -> bool:
        return bad / window.calls >= rate


class KeepsItsWindows(Breaker):
    """
    What was counted before an outage opens the circuit again after it.
    """

    def _forget_calls(self) -> None:
        pass


class ForgetsAfterAPause(Breaker):
    """
    A pause hides what was counted before it.
    """

    def throttled(self, permit: Permit, now: float, seconds: float | None) -> Ruling:
        ruling = super().throttled(permit, now, seconds)
        if ruling.transition is not None:
            self._forget_calls()
        return ruling


class GrowsForGood(Breaker):
    """
    The time that it stays open never goes back to what it was.
    """

    def _settle(self) -> None:
        reopenings = self._reopenings
        super()._settle()
        self._reopenings = reopenings


class OutgrowsItsBound(Breaker):
    """
    The time that it stays open doubles until it is never.
    """

    def _open_time(self) -> float:
        settings = self.settings
        self.settings = settings._replace(max_reset_timeout=math.inf)
        try:
            return super()._open_time()
        finally:
            self.settings = settings


class DisabledStandsStill(Breaker):
    """
    A disabled circuit does not see what it would have done.
    """

    def admit(
        self, now: float, lease: float, average: float = 0.0
    ) -> tuple[Permit | Refusal, Transition | None]:
        if self._disabled and not self._isolations:
            return Permit(-1), None
        return super().admit(now, lease, average)


class DisabledRefuses(Breaker):
    """
    Once a circuit that is disabled has opened beneath, it lets nobody in.
    """

    def refusal(self, now: float, average: float = 0.0) -> Refusal | None:
        beneath = self._base is CircuitState.OPEN and not self._isolations
        return self._refusal(now) if beneath else super().refusal(now, average)


class ABystanderProbes(Breaker):
    """
    Everybody whom a disabled circuit lets in is its probe.
    """

    def _refusal(self, now: float, average: float = 0.0) -> Refusal | None:
        refusal = super()._refusal(now, average)
        if self._disabled and self._base is CircuitState.HALF_OPEN:
            return None
        return refusal


class TripKeepsAProbe(Breaker):
    """
    A probe that was under way closes a circuit that was opened by hand meanwhile.
    """

    def trip(self, now: float = math.nan) -> Transition:
        transition = super().trip(now)
        self.generation -= 1
        return transition


class TripLiftsAnIsolation(Breaker):
    def trip(self, now: float = math.nan) -> Transition:
        self.release_all()
        return super().trip(now)


FAULTS: tuple[type[Breaker], ...] = tuple(Breaker.__subclasses__())
