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
from collections.abc import Callable
from typing import Final, NamedTuple

from ._policy import BreakerSettings
from ._window import CountWindow, TimeWindow


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
        generation: The circuit's, when the call was admitted; -1 where it was admitted
            only because the circuit is disabled: what comes of it is nobody's business.
        spent: Whether a probe has given it back.
    """

    __slots__ = ("generation", "spent")

    def __init__(self, generation: int) -> None:
        self.generation: int = generation
        self.spent: bool = False

    @property
    def is_bystanders(self) -> bool:
        """
        Whether the call was admitted only because the circuit is disabled.
        """
        return self.generation < 0


class Refusal(NamedTuple):
    """
    Why a call may not run now, and for how many seconds (``None``: nobody knows).
    """

    state: CircuitState
    retry_after: float | None


class Transition(NamedTuple):
    """
    A change of state that has happened, for those who watch.

    ``enforced`` is false where the circuit is disabled: it would have happened.
    """

    old: CircuitState
    new: CircuitState
    reason: str
    enforced: bool = True


class Saved(NamedTuple):
    """
    What another process needs to go on with a circuit.

    Attributes:
        is_open: Whether it was not closed.
        rest: Seconds until it may be probed.
        paused: Whether it had been asked for a pause.
        reopenings: Probes in a row that have failed.
        failures: Failures in a row.
        disabled: Whether it was disabled by hand.
        isolated: Whether it was isolated by hand.
    """

    is_open: bool
    rest: float
    paused: bool
    reopenings: int
    failures: int
    disabled: bool
    isolated: bool


class Standing(NamedTuple):
    """
    How a circuit stands, without what is done by hand: what processes tell each other.

    Attributes:
        state: ``CLOSED``, ``OPEN`` or ``HALF_OPEN``.
        rest: Seconds until it may be probed, or until the probe's lease ends.
        length: Seconds for which it was opened.
        failures: Failures in a row.
        reopenings: Probes in a row that have failed.
        successes: Probes in a row that have succeeded.
        paused: Whether it is open because it was asked for a pause.
        pauses: Pauses in a row.
    """

    state: CircuitState = CircuitState.CLOSED
    rest: float = 0.0
    length: float = 0.0
    failures: int = 0
    reopenings: int = 0
    successes: int = 0
    paused: bool = False
    pauses: int = 0


class Tally:
    """
    Calls of a closed circuit since they were last taken away.
    """

    __slots__ = ("calls", "failures", "slow")

    def __init__(self) -> None:
        self.calls: int = 0
        self.failures: int = 0
        self.slow: int = 0

    def record(self, failed: bool, slow: bool) -> None:
        """
        One more call.
        """
        self.calls += 1
        self.failures += failed
        self.slow += slow

    def clear(self) -> None:
        """
        Forget them.
        """
        self.calls = self.failures = self.slow = 0


class Ruling(NamedTuple):
    """
    What came of a verdict: whether it was too late to count, and what it changed.
    """

    late: bool
    transition: Transition | None


_COUNTED: Final = Ruling(late=False, transition=None)
_LATE: Final = Ruling(late=True, transition=None)
_BYSTANDER: Final = Permit(-1)


class Breaker:
    """
    One circuit's state.

    Attributes:
        settings: Thresholds and times.
        closed_permit: The permit of every call while the circuit is closed and not
            isolated, else ``None``. Admission on that path is this one comparison.
        counting: Whether a success of such a call changes anything: it ends a run of
            failures, or goes into a window.
        slow_above: Seconds from which on a call is slow.
        generation: Grows with every transition (rule C3).
        length: For how many seconds it was opened.
        probe: The permit of the probe that is under way, or ``None``.
        paused: Whether it is open because it was asked for a pause, and not down.
        reason: Why it opened, where that is not failures in a row.
        draw: What tells the chance for ``jitter``, or ``None``.
        ran: Is told whenever the number of failures in a row is another one, or ``None``.
        tally: What else counts the calls that windows count, or ``None``.
    """

    __slots__ = (
        "_base",
        "_disabled",
        "_failures",
        "_fleets",
        "_forced",
        "_isolations",
        "_lease",
        "_lease_until",
        "_opened",
        "_pauses",
        "_reopen_at",
        "_reopenings",
        "_restored",
        "_seen",
        "_successes",
        "_windows",
        "closed_permit",
        "counting",
        "draw",
        "generation",
        "length",
        "paused",
        "probe",
        "ran",
        "reason",
        "settings",
        "slow_above",
        "tally",
    )

    def __init__(self, settings: BreakerSettings) -> None:
        self.settings: BreakerSettings = settings
        self._failures = 0
        self.generation: int = 0
        self.closed_permit: Permit | None = Permit(0)
        self._base = CircuitState.CLOSED
        self._isolations = 0
        self._forced = 0  # those of the isolations that pass for failures
        self._restored = False  # whether one of them was another process's
        self._fleets = False  # whether one of them stands for those of a fleet
        self._disabled = False
        self.probe: Permit | None = None
        self._successes = 0  # of probes in a row
        self._lease = self._lease_until = self._reopen_at = math.inf
        self.length: float = 0.0
        self._reopenings = self._pauses = 0  # in a row
        self._opened = False  # since it was closed, and not for a pause
        self.paused: bool = False
        self.reason: str = ""
        self._seen = math.nan
        self.slow_above: float = settings.slow_duration
        self.draw: Callable[[], float] | None = None
        self.ran: Callable[[], object] | None = None
        self.tally: Tally | None = None
        self._windows = _windows_of(settings, ())
        self.counting: bool = bool(self._windows)

    @property
    def failures(self) -> int:
        """
        Failures in a row, now.
        """
        return self._failures

    @failures.setter
    def failures(self, number: int) -> None:
        self._failures = number
        self.counting = number > 0 or bool(self._windows)
        if self.ran is not None:
            self.ran()

    @property
    def state(self) -> CircuitState:
        """
        The state as others see it: an isolation covers what lies beneath, and one that
        passes for failures is covered by one that does not.
        """
        if not self._isolations:
            return CircuitState.DISABLED if self._disabled else self._base
        return CircuitState.OPEN if self.is_forced_open else CircuitState.ISOLATED

    @property
    def is_disabled(self) -> bool:
        """
        Whether it admits every call, by hand.
        """
        return self._disabled

    @property
    def is_closed_beneath(self) -> bool:
        """
        Whether it is closed where nothing is done by hand.
        """
        return self._base is CircuitState.CLOSED

    @property
    def has_windows(self) -> bool:
        """
        Whether it counts calls for a rate.
        """
        return bool(self._windows)

    @property
    def has_bad_calls(self) -> bool:
        """
        Whether calls speak against it: a failure in a row, or one in its windows that
        failed or was slow. As of the last verdict: no time is looked at.
        """
        if self._failures:
            return True
        return any(window.failures or window.slow for window in self._windows)

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
            return self.refusal_by_hand()
        if self.closed_permit is not None or self._disabled:
            return None
        return self._refusal(now, average)

    def refusal_by_hand(self) -> Refusal | None:
        """
        Why no call may run as long as nobody lifts an isolation, or ``None``.
        """
        if not self._isolations:
            return None
        forced = self.is_forced_open
        return Refusal(self.state, self.settings.reset_timeout if forced else None)

    def _refusal(self, now: float, average: float = 0.0) -> Refusal | None:
        """
        The same without what is done by hand.
        """
        now = self._tick(now)
        if self._base is CircuitState.OPEN:
            rest = self._reopen_at - now
            if rest <= 0:
                return None
            # What comes first remains where no clock has told the time, and rest is nan.
            return Refusal(CircuitState.OPEN, min(self.length, rest))
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
        if self._base is not CircuitState.OPEN or self._isolations or self._disabled:
            return 0.0
        if not self._seen <= now < self._reopen_at:
            return 0.0
        self._seen = now
        return self._reopen_at - now

    def available_in(self, now: float) -> float | None:
        """
        Seconds after which time alone lets a call in: 0 if one may run now, ``None`` if
        time will not do.
        """
        if self._isolations:
            return None
        if self.refusal(now) is None:
            return 0.0
        until = self._reopen_at if self._base is CircuitState.OPEN else self._lease_until
        rest = until - self._seen
        return rest if rest < math.inf else None  # no clock has told the time

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
        if self._disabled and self._refusal(now) is not None:
            return _BYSTANDER, None
        transition = None
        if self._base is CircuitState.OPEN:
            transition = self._move(CircuitState.HALF_OPEN, "a caller probes")
        self.probe = Permit(self.generation)
        self._lease = lease
        self._lease_until = self._from_now(lease)
        return self.probe, transition

    def covers(self, permit: Permit) -> bool:
        """
        Whether this is the permit of a probe that still has a say, in time or not. The
        calls that such a probe makes run under it.
        """
        return (
            self._base is CircuitState.HALF_OPEN
            and permit.generation == self.generation
            and not permit.spent
        )

    # Verdicts: each gives the permit back

    def succeeded(
        self, permit: Permit, now: float = math.nan, duration: float = 0.0
    ) -> Ruling:
        """
        The call succeeded. So did an expired probe's, if nothing has changed since:
        else a healthy tool that is slower than its lease would never be let in again.

        Args:
            permit: The call's.
            now: Seconds on the circuit's clock; asked for by windows and slow calls.
            duration: Seconds that the call took.
        """
        if permit is self.closed_permit:
            if self._failures:
                self.failures = 0
            if self._windows:
                slow = self._record(now, False, duration)
                if slow and (reason := self._too_slow()):
                    return Ruling(False, self._open(now, reason, reason))
            return _COUNTED
        if permit.is_bystanders:
            return _COUNTED
        if duration >= self.slow_above:
            reason = f"the probe took {self.slow_above:g} s or more"
            return self._probe_failed(permit, now, reason, reason)
        has_a_say = self.covers(permit)
        self._free(permit)
        if not has_a_say:
            return _LATE
        self.failures = 0
        self._successes += 1
        if self._successes < self.settings.success_threshold:
            return _COUNTED
        return Ruling(False, self._move(CircuitState.CLOSED, "the probe succeeded"))

    def failed(self, permit: Permit, now: float, duration: float = 0.0) -> Ruling:
        """
        The call failed, which may open the circuit.
        """
        if permit is self.closed_permit:
            self.failures += 1
            if self._windows:
                self._record(now, True, duration)
            number = self._failures
            if number >= self.settings.failure_threshold:
                run = "1 failure" if number < 2 else f"{number} failures in a row"
                return Ruling(False, self._open(now, run))
            if self._windows and (reason := self._too_many(duration)):
                return Ruling(False, self._open(now, reason, reason))
            return _COUNTED
        return self._probe_failed(permit, now, "the probe failed")

    def throttled(self, permit: Permit, now: float, seconds: float | None) -> Ruling:
        """
        The call was turned away by a service that wants to be left alone for a while. It
        is not down: that is no failure, and the circuit is open for just that long.

        Args:
            permit: The call's.
            now: Seconds on the circuit's clock.
            seconds: For how long, at most ``max_pause``; ``None`` where it did not say:
                then 1 s, doubled for each time in a row.
        """
        if permit.is_bystanders:
            return _COUNTED
        if permit is not self.closed_permit and not self._give_back(permit, now):
            return _LATE
        if seconds is None:
            seconds = 2.0 ** min(self._pauses, 40)
        most = self.settings.max_pause
        pause = seconds if most is None else min(seconds, most)
        self._pauses += 1
        self.paused, self.reason = True, ""
        return Ruling(
            False, self._open_for(now, pause, f"asked for a pause of {pause:g} s")
        )

    def ignored(self, permit: Permit, now: float) -> Ruling:
        """
        The call gives no verdict. If it was the probe, the next caller probes.
        """
        if permit is self.closed_permit or permit.is_bystanders:
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
        self._restored = self._fleets = False
        return self._begin(old, "released by hand")

    def disable(self) -> Transition:
        """
        Admit every call, until ``reset`` or ``trip``. What lies beneath goes on as if
        nothing were, so that it can be seen what it would have done.
        """
        old, self._disabled = self.state, True
        return self._begin(old, "disabled by hand")

    def reset(self) -> Transition:
        """
        Close the circuit and forget its failures. Does not lift an isolation.
        """
        old, self._disabled = self.state, False
        self.failures = 0
        self._forget_calls()
        self._settle()
        self._base = CircuitState.CLOSED
        return self._begin(old, "reset by hand")

    def trip(self, now: float = math.nan) -> Transition:
        """
        Open the circuit, as failures would. Does not lift an isolation.

        Args:
            now: Seconds on the circuit's clock. Where none can be told, the time that it
                stays open begins when somebody asks.
        """
        self.length = self._open_time()
        self._forget_calls()
        self._opened = True
        old, self._disabled = self.state, False
        self.paused, self._pauses, self.reason = False, 0, "opened by hand"
        self._look(now)
        self._reopen_at = self._from_now(self.length)
        self._base = CircuitState.OPEN
        return self._begin(old, "opened by hand")

    def configure(self, settings: BreakerSettings) -> None:
        """
        Go on with other settings, and all that was counted. A circuit that is open stays
        so no longer than they say, from when it was opened.
        """
        self.settings = settings
        self.slow_above = settings.slow_duration
        self._windows = _windows_of(settings, self._windows)
        self.failures = self._failures
        length = min(self.length, self._longest())
        self._reopen_at -= self.length - length
        self.length = length
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
            for window in self._windows:
                window.shift(shift)
        self._seen = now
        self._cap()

    # Among processes

    def standing(self, now: float) -> Standing:
        """
        How it stands.
        """
        rest = 0.0
        if self._base is CircuitState.OPEN:
            now = self._tick(now)
            rest = max(0.0, min(self.length, self._reopen_at - now))
        return Standing(
            state=self._base,
            rest=rest,
            length=self.length,
            failures=self.failures,
            reopenings=self._reopenings,
            successes=self._successes,
            paused=self.paused,
            pauses=self._pauses,
        )

    def would_open(self) -> Standing:
        """
        How it would stand if what it does not know of were to open it now.
        """
        length = self._open_time()
        return Standing(CircuitState.OPEN, length, length, self.failures)

    def adopt(self, standing: Standing, now: float, reason: str) -> Transition:
        """
        Stand as others say. No wait is longer than the settings allow. A half-open circuit
        whose lease runs is being probed elsewhere; what was admitted here before, a probe
        included, decides nothing any more.

        Args:
            standing: How it is to stand.
            now: Seconds on the circuit's clock.
            reason: Why, for those who watch.
        """
        old = self.state
        self._look(now)
        self.failures = standing.failures
        self._forget_calls()
        self._reopenings, self._pauses = standing.reopenings, standing.pauses
        self._opened = standing.state is not CircuitState.CLOSED and (
            not standing.paused or bool(standing.reopenings)
        )
        self.paused = standing.paused
        self._base = standing.state
        untold = self._opened and standing.failures < self.settings.failure_threshold
        self.reason = "as other processes have found" if untold else ""
        if standing.state is CircuitState.OPEN:
            self.length = min(standing.length, self._longest())
            self._reopen_at = self._from_now(min(standing.rest, self.length))
        transition = self._begin(old, reason)
        if standing.state is CircuitState.HALF_OPEN:
            self._successes = standing.successes
            self.probe = Permit(self.generation) if standing.rest > 0 else None
            self._lease = standing.rest
            self._lease_until = self._from_now(self._lease)
        return transition

    def longest(self, paused: bool, reopenings: int) -> float:
        """
        Seconds for which it may be open at the most.

        Args:
            paused: Whether that is for a pause.
            reopenings: Probes in a row that have failed.
        """
        most = self.settings.max_pause
        if paused and most is not None:
            return most
        return self.settings.open_time(reopenings)

    def lease(self, permit: Permit | None, now: float, seconds: float) -> None:
        """
        Give the probe with this permit so many seconds from now; with ``None``, whoever
        has the probe's place.
        """
        if self.probe is not None and permit in (None, self.probe):
            self._tick(now)
            self._lease = seconds
            self._lease_until = self._from_now(seconds)

    def rest_of_lease(self, now: float) -> float:
        """
        Seconds until the lease of the probe ends.
        """
        return max(0.0, self._lease_until - self._tick(now))

    def is_overdue(self, permit: Permit, now: float) -> bool:
        """
        Whether this is the probe, and its lease has ended.
        """
        return permit is self.probe and self._tick(now) >= self._lease_until

    def hold(self, held: bool) -> Transition | None:
        """
        Be isolated by the fleet, or no more.
        """
        if held is self._fleets:
            return None
        self._fleets = held
        return self.isolate() if held else self.release()

    # From one process to the next

    def saved(self, now: float) -> Saved:
        """
        What another process needs to go on with this circuit.
        """
        rest = 0.0
        if self._base is CircuitState.OPEN:
            now = self._tick(now)  # which may move the time of reopening
            # The length remains where no clock has told the time, and the other is nan.
            rest = max(0.0, min(self.length, self._reopen_at - now))
        return Saved(
            is_open=self._base is not CircuitState.CLOSED,
            rest=rest,
            paused=self.paused,
            reopenings=self._reopenings,
            failures=self.failures,
            disabled=self._disabled,
            isolated=self._isolations > self._forced + self._fleets,
        )

    def restore(self, saved: Saved, now: float) -> Transition | None:
        """
        Go on with what another process has saved. What is open stays open for the rest,
        but no longer than the settings allow; then one caller probes. It closes nothing,
        lifts no isolation and shortens no wait that there is in this process, and where a
        caller probes here, that is waited for.
        """
        old = self.state
        by_hand = self._isolations, self._disabled
        if saved.isolated and not self._restored:
            self._restored = True
            self._isolations += 1
        self._disabled = self._disabled or saved.disabled
        if self._base is not CircuitState.CLOSED and not self._is_outdone_by(saved, now):
            if (self._isolations, self._disabled) == by_hand:
                return None
            return self._begin(old, "restored from a snapshot")
        self.failures = saved.failures
        self._reopenings = saved.reopenings
        self._opened = saved.is_open and (not saved.paused or bool(saved.reopenings))
        self._forget_calls()
        self.paused = saved.paused
        untold = saved.is_open and not saved.paused
        untold = untold and saved.failures < self.settings.failure_threshold
        self.reason = "opened before the program was restarted" if untold else ""
        self._pauses = 0
        self._base = CircuitState.OPEN if saved.is_open else CircuitState.CLOSED
        self._look(now)
        self.length = min(saved.rest, self._longest())
        self._reopen_at = self._from_now(self.length)
        return self._begin(old, "restored from a snapshot")

    def _is_outdone_by(self, saved: Saved, now: float) -> bool:
        """
        Whether it is open, and for less time than another process had it open.
        """
        if self._base is not CircuitState.OPEN or not saved.is_open:
            return False
        # The length remains where no clock has told the time, and the other is nan.
        return min(self.length, self._reopen_at - self._tick(now)) < saved.rest

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

    def _look(self, now: float) -> None:
        """
        The same for what is done by hand, at any time: where no clock tells the time, a
        wait begins when one does, for what one told long ago is over.
        """
        if math.isfinite(now):
            self._tick(now)
        else:
            self._seen = math.nan

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
        self._reopen_at = min(self._reopen_at, self._from_now(self.length))
        self._lease_until = min(self._lease_until, self._from_now(self._lease))

    def _record(self, now: float, failed: bool, duration: float) -> bool:
        """
        Put a call into the windows; whether it was slow.
        """
        now = self._tick(now)
        slow = duration >= self.slow_above
        for window in self._windows:
            window.record(now, failed, slow)
        if self.tally is not None:
            self.tally.record(failed, slow)
        return slow

    def _too_many(self, duration: float) -> str | None:
        """
        Why a failure opens the circuit by a rate, or ``None`` if it does not.
        """
        for window in self._windows:
            if self._exceeds(window, window.failures, self.settings.failure_rate):
                return f"{window.failures} of {self._all_of(window)} failed"
        return self._too_slow() if duration >= self.slow_above else None

    def _too_slow(self) -> str | None:
        """
        Why a slow call opens the circuit, or ``None`` if it does not.
        """
        for window in self._windows:
            if self._exceeds(window, window.slow, self.settings.slow_rate):
                took = f"took {self.slow_above:g} s or more"
                return f"{window.slow} of {self._all_of(window)} {took}"
        return None

    def _all_of(self, window: CountWindow | TimeWindow) -> str:
        if type(window) is CountWindow:
            return f"the last {window.calls} calls"
        return f"the {window.calls} calls of the last {self.settings.window_seconds:g} s"

    def _forget_calls(self) -> None:
        """
        Empty the windows: they have had their say. A pause leaves them as they are.
        """
        for window in self._windows:
            window.clear()
        if self.tally is not None:
            self.tally.clear()

    def _exceeds(self, window: CountWindow | TimeWindow, bad: int, rate: float) -> bool:
        least = self.settings.minimum_calls
        if type(window) is CountWindow:
            least = min(least, self.settings.window_calls)
        return window.calls >= least and bad / window.calls >= rate

    def _open(self, now: float, reason: str, told: str = "") -> Transition:
        """
        Open it because of what its calls have come to; ``told`` to those who are refused,
        if that is not how many failures there were in a row.
        """
        length = self._open_time()
        self._forget_calls()
        self._opened = True
        self.paused, self._pauses, self.reason = False, 0, told
        return self._open_for(now, length, reason)

    def _open_for(self, now: float, seconds: float, reason: str) -> Transition:
        self._tick(now)
        self.length = seconds
        self._reopen_at = self._from_now(seconds)
        return self._move(CircuitState.OPEN, reason)

    def _longest(self) -> float:
        """
        The same, as it is now.
        """
        return self.longest(self.paused, self._reopenings)

    def _open_time(self) -> float:
        """
        For how long it opens now. Chance makes it shorter, never longer than it is set.
        """
        full = self.settings.open_time(self._reopenings)
        if self.draw is None or not self.settings.jitter:
            return full
        return full * (1.0 - self.settings.jitter * self.draw())

    def _probe_failed(
        self, permit: Permit, now: float, reason: str, told: str = ""
    ) -> Ruling:
        if permit.is_bystanders:
            return _COUNTED
        if not self._give_back(permit, now):
            return _LATE
        self.failures += not told
        self._reopenings += self._opened
        return Ruling(False, self._open(now, reason, told))

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
        """
        What calls have brought about. None of them has a say under an isolation.
        """
        old, self._base = self._base, new
        if new is CircuitState.CLOSED:
            self._settle()
        self._begin(old, reason)
        return Transition(old, new, reason, enforced=not self._disabled)

    def _settle(self) -> None:
        """
        It is closed, and what was is past.
        """
        self._reopenings = self._pauses = 0
        self._opened = False
        self.paused, self.reason = False, ""

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
        base = self._base
        if base is not CircuitState.HALF_OPEN:
            self.probe = None
            self._successes = 0
        lets_all_run = not self._isolations and base is CircuitState.CLOSED
        self.closed_permit = Permit(self.generation) if lets_all_run else None
        return Transition(old, self.state, reason)


def _windows_of(
    settings: BreakerSettings, before: tuple[CountWindow | TimeWindow, ...]
) -> tuple[CountWindow | TimeWindow, ...]:
    """
    The windows of these settings, with what those before have counted.
    """
    size, seconds = settings.window_calls, settings.window_seconds
    windows: list[CountWindow | TimeWindow] = []
    counts = next((each for each in before if type(each) is CountWindow), None)
    times = next((each for each in before if type(each) is TimeWindow), None)
    if size:
        windows.append(CountWindow(size) if counts is None else counts.resized(size))
    if seconds:
        windows.append(TimeWindow(seconds) if times is None else times.resized(seconds))
    return tuple(windows)
