"""
A model of one circuit, written from the rules alone: C1 to C7, the parts that a policy can
switch on, and the verdict table.

It is as plain as it can be, so that a reader can hold it against the rules line by line;
it shares nothing with the breaker but the names of the states and the record of the
settings, of which it reads the fields. Its windows are lists that are looked through.

Its time is not a clock's reading but an age: the seconds that the clock was seen to go
forward. Then "what was left is kept when the clock goes back" needs no further word. It
looks at the clock where a rule asks for a time and nowhere else: how often a healthy
circuit does so is nobody's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator_async._policy import BreakerSettings


@dataclass(frozen=True)
class Refused:
    state: str
    retry_after: float | None


@dataclass(frozen=True)
class Kept:
    """
    What goes from one process to the next.
    """

    is_open: bool
    rest: float
    paused: bool
    reopenings: int
    failures: int
    disabled: bool
    isolated: bool


@dataclass(eq=False)
class Call:
    """
    An admitted call. ``token`` is set for a probe, and then its lease ends at ``ends``.
    A ``bystander`` runs only because the circuit is disabled.
    """

    generation: int
    token: bool = False
    ends: float = math.inf
    given_back: bool = False
    bystander: bool = False


@dataclass(frozen=True)
class Ended:
    """
    A call in a window: when it ended, and what it was.
    """

    at: float
    failed: bool
    slow: bool


class LastCalls:
    """
    The last so many calls.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls: list[Ended] = []

    def add(self, call: Ended) -> None:
        self.calls = [*self.calls, call][-self.size :]

    def resize(self, size: int) -> None:
        self.size = size
        self.calls = self.calls[-size:]

    def shift(self, by: float) -> None:
        pass

    def clear(self) -> None:
        self.calls = []


class RecentCalls:
    """
    The calls of ten buckets of time: of the newest, and of the nine before it. Buckets
    are reckoned from the first call that was added when there was none.
    """

    def __init__(self, seconds: float) -> None:
        self.width = seconds / 10
        self.origin = 0.0
        self.newest = 0
        self.calls: list[Ended] = []

    def bucket(self, at: float) -> int:
        return math.floor((at - self.origin) / self.width)

    def add(self, call: Ended) -> None:
        if math.isfinite(call.at):
            number = max(self.bucket(call.at), self.newest)
            kept = [each for each in self.calls if self.bucket(each.at) > number - 10]
            if kept:
                self.newest = number
            else:
                self.origin, self.newest = call.at, 0
            self.calls = kept
        # A call is known by its bucket alone, and one that came too early is in the newest.
        began = self.origin + self.newest * self.width
        self.calls.append(Ended(began, call.failed, call.slow))

    def resize(self, seconds: float) -> None:
        began = self.origin + self.newest * self.width
        self.calls = [each for each in self.calls if began - each.at < seconds]
        self.origin = min((each.at for each in self.calls), default=began)
        self.width = seconds / 10
        self.newest = max((self.bucket(each.at) for each in self.calls), default=0)
        self.calls = [
            Ended(self.origin + self.bucket(each.at) * self.width, each.failed, each.slow)
            for each in self.calls
        ]

    def shift(self, by: float) -> None:
        self.origin += by
        self.calls = [Ended(each.at + by, each.failed, each.slow) for each in self.calls]

    def clear(self) -> None:
        self.origin += self.newest * self.width
        self.newest = 0
        self.calls = []


@dataclass
class Model:
    settings: BreakerSettings
    draw: Callable[[], float] = lambda: 0.0

    beneath: str = "closed"  # what is covered by an isolation, and by being disabled
    isolations: int = 0
    forced: int = 0  # how many of them pass for failures
    restored: bool = False  # whether one of them was another process's
    disabled: bool = False
    failures: int = 0
    generation: int = 0
    age: float = 0.0
    since: float = 0.0  # the age at which it was opened
    stays: float = 0.0  # for how long it is open
    place: Call | None = None  # who holds the probe's place
    row: int = 0  # probes in a row that have succeeded
    reopenings: int = 0  # probes in a row that have failed
    throttles: int = 0  # in a row
    paused: bool = False
    opened: bool = False  # since it was closed, by failures or by hand, not for a pause
    told: list[tuple[str, str, bool]] = field(default_factory=list)  # old, new, enforced
    last: LastCalls | None = None
    recent: RecentCalls | None = None
    _seen: float = field(default=math.nan, repr=False)

    def __post_init__(self) -> None:
        self._set_windows()

    # --- C5: one clock ---------------------------------------------------------------

    def look(self, now: float) -> None:
        """
        Read the clock. What goes back has not passed, and what is no time says nothing.
        """
        if not math.isfinite(now):
            return
        if now < self._seen:
            self._shift(now - self._seen)
        elif now > self._seen:
            self.age += now - self._seen
        self._seen = now

    def change_clock(self, now: float) -> None:
        if self.knows_the_time():
            self._shift(now - self._seen)
        self._seen = now

    def look_by_hand(self, now: float) -> None:
        """
        Where no clock tells the time, a wait begins when one does.
        """
        self.look(now)
        if not math.isfinite(now):
            self._seen = math.nan

    def knows_the_time(self) -> bool:
        return math.isfinite(self._seen)

    def _shift(self, by: float) -> None:
        for window in self.windows():
            window.shift(by)

    # --- the settings ------------------------------------------------------------------

    def windows(self) -> list[LastCalls | RecentCalls]:
        return [each for each in (self.last, self.recent) if each is not None]

    def configure(self, settings: BreakerSettings) -> None:
        """
        A circuit that is open stays so no longer than they say.
        """
        self.settings = settings
        self._set_windows()
        self.stays = min(self.stays, self._longest())

    def _set_windows(self) -> None:
        size, seconds = self.settings.window_calls, self.settings.window_seconds
        if not size:
            self.last = None
        elif self.last is None:
            self.last = LastCalls(size)
        else:
            self.last.resize(size)
        if not seconds:
            self.recent = None
        elif self.recent is None:
            self.recent = RecentCalls(seconds)
        else:
            self.recent.resize(seconds)

    def _full_time(self) -> float:
        """
        How long it would be open without chance, as it is now.
        """
        seconds = self.settings.reset_timeout
        for _ in range(self.reopenings):
            seconds *= self.settings.reset_multiplier
        return min(seconds, self.settings.max_reset_timeout)

    def _open_time(self) -> float:
        jitter = self.settings.jitter
        return self._full_time() * (1 - jitter * self.draw() if jitter else 1)

    def _longest(self) -> float:
        longest = self.settings.max_pause
        return longest if self.paused and longest is not None else self._full_time()

    @property
    def reopens(self) -> float:
        """
        The age at which an open circuit may be probed.
        """
        return self.since + self.stays

    # --- C1, C4, C6, C7: who may run ---------------------------------------------------

    @property
    def state(self) -> str:
        if not self.isolations:
            return "disabled" if self.disabled else self.beneath
        return "open" if self.forced == self.isolations else "isolated"

    def taken(self) -> bool:
        """
        Whether a probe holds an unexpired lease.
        """
        return self.place is not None and self.age < self.place.ends

    def refusal(self, now: float, average: float) -> Refused | None:
        if self.isolations:
            # One that passes for failures never says that its time has nearly come.
            wait = self.settings.reset_timeout if self.state == "open" else None
            return Refused(self.state, wait)
        return None if self.disabled else self._refusal_beneath(now, average)

    def _refusal_beneath(self, now: float, average: float) -> Refused | None:
        if self.beneath == "closed":
            return None
        self.look(now)
        if self.beneath == "open":
            due = self.knows_the_time() and self.age >= self.reopens
            return None if due else Refused("open", self.reopens - self.age)
        if self.taken():
            assert self.place is not None
            rest = self.place.ends - self.age
            return Refused("half_open", min(rest, max(1.0, 2 * average)))
        return None

    def available_in(self, now: float) -> float | None:
        if self.isolations:
            return None
        if self.refusal(now, 0.0) is None:
            return 0.0
        if not self.knows_the_time():
            return None
        if self.beneath == "open":
            return self.reopens - self.age
        assert self.place is not None
        return self.place.ends - self.age

    def admit(self, now: float, lease: float, average: float) -> Call | Refused:
        refused = self.refusal(now, average)
        if refused:
            return refused
        if self.beneath == "closed":
            return Call(self.generation)
        if self.disabled and self._refusal_beneath(now, average):
            return Call(-1, bystander=True)
        if self.beneath == "open":
            self._move("half_open")
        self.place = Call(self.generation, token=True, ends=self.age + lease)
        return self.place

    # --- C2, C3, C4: what a verdict does -------------------------------------------------

    def end(
        self,
        call: Call,
        verdict: str,
        now: float,
        duration: float = 0.0,
        pause: float | None = None,
    ) -> bool:
        """
        Give a call's verdict: ``success``, ``failure``, ``throttle`` or ``none``. Returns
        whether it was late, that is, came when the circuit had moved on.
        """
        slow = duration >= self.settings.slow_duration
        if call.bystander:
            return False
        if self._is_late(call, now, in_time=verdict != "success" or slow):
            return True
        if verdict == "throttle":
            self._pause(now, pause)
        elif verdict != "none" and call.token:
            self._probe_ended(verdict == "failure", slow, now)
        elif verdict != "none":
            self._call_ended(Ended(now, verdict == "failure", slow))
        return False

    def _is_late(self, call: Call, now: float, *, in_time: bool) -> bool:
        """
        Take the permit back. A probe has a say ``in_time`` only, or after it as well.
        """
        if call.given_back:
            return True
        call.given_back = True
        had_place = self.place is call
        if had_place:
            self.place = None
        if call.generation != self.generation:
            return True
        if not call.token or not in_time:
            return False
        if had_place:
            self.look(now)
        return not had_place or self.age >= call.ends

    def _call_ended(self, call: Ended) -> None:
        self.failures = self.failures + 1 if call.failed else 0
        if self.windows():
            self.look(call.at)
        for window in self.windows():
            window.add(Ended(self._seen, call.failed, call.slow))
        in_a_row = call.failed and self.failures >= self.settings.failure_threshold
        if in_a_row or any(self._trips(call, window) for window in self.windows()):
            self._open(call.at)

    def _trips(self, call: Ended, window: LastCalls | RecentCalls) -> bool:
        least, calls = self.settings.minimum_calls, window.calls
        if isinstance(window, LastCalls):
            least = min(least, window.size)
        if len(calls) < least:
            return False
        failed = sum(each.failed for each in calls) / len(calls)
        slow = sum(each.slow for each in calls) / len(calls)
        return (call.failed and failed >= self.settings.failure_rate) or (
            call.slow and slow >= self.settings.slow_rate
        )

    def _probe_ended(self, failed: bool, slow: bool, now: float) -> None:
        if failed or slow:
            self.failures += failed
            self.reopenings += self.opened
            self._open(now)
            return
        self.failures = 0
        self.row += 1
        if self.row >= self.settings.success_threshold:
            self._forget()
            self._move("closed")

    def _open(self, now: float) -> None:
        seconds = self._open_time()
        self.look(now)
        self.since, self.stays = self.age, seconds
        self.paused, self.throttles = False, 0
        self._forget_calls()
        self.opened = True
        self._move("open")

    def _pause(self, now: float, seconds: float | None) -> None:
        if seconds is None:
            seconds = 2.0**self.throttles
        if self.settings.max_pause is not None:
            seconds = min(seconds, self.settings.max_pause)
        self.look(now)
        self.since, self.stays = self.age, seconds
        self.paused = True
        self.throttles += 1
        self._move("open")

    def _forget_calls(self) -> None:
        """
        What the windows have counted has had its effect. A pause was no failure of the
        tool's, so what was counted before it goes on being true.
        """
        for window in self.windows():
            window.clear()

    def _forget(self) -> None:
        """
        It closes.
        """
        self.paused, self.throttles, self.reopenings = False, 0, 0
        self.opened = False

    def can_close(self, call: Call) -> bool:
        """
        Whether a success of this probe, in time or not, would count.
        """
        return call.token and not call.given_back and call.generation == self.generation

    # --- by hand -------------------------------------------------------------------------

    def isolate(self, *, as_open: bool = False) -> None:
        """
        Refuse all. Isolations add up, and the place of a probe stays its own beneath.
        """
        before = self.state
        self.isolations += 1
        self.forced += as_open
        self._by_hand(before, begins=self.isolations == 1)

    def release(self, *, as_open: bool = False) -> None:
        if self.isolations:
            before = self.state
            self.isolations -= 1
            self.forced -= as_open
            self._by_hand(before, begins=not self.isolations)

    def release_all(self) -> None:
        if self.isolations:
            before = self.state
            self.isolations = self.forced = 0
            self.restored = False
            self._by_hand(before)

    def disable(self) -> None:
        before = self.state
        self.disabled = True
        self._by_hand(before)

    def reset(self) -> None:
        before = self.state
        self.failures, self.disabled = 0, False
        self._forget_calls()
        self._forget()
        self._set("closed")
        self._by_hand(before)

    def trip(self, now: float) -> None:
        before = self.state
        seconds = self._open_time()
        self.look_by_hand(now)
        self.since, self.stays = self.age, seconds
        self.paused, self.throttles, self.disabled = False, 0, False
        self._forget_calls()
        self.opened = True
        self._set("open")
        self._by_hand(before)

    def saved(self, now: float) -> Kept:
        if self.beneath == "open":
            self.look(now)
        return Kept(
            is_open=self.beneath != "closed",
            rest=max(0.0, self.reopens - self.age) if self.beneath == "open" else 0.0,
            paused=self.paused,
            reopenings=self.reopenings,
            failures=self.failures,
            disabled=self.disabled,
            isolated=self.isolations > self.forced,
        )

    def restore(self, kept: Kept, now: float) -> None:
        """
        What was open stays open for the rest. What is not closed here goes on as it is,
        unless that other rest is the longer one, and no isolation ends.
        """
        before, by_hand = self.state, (self.isolations, self.disabled)
        if kept.isolated and not self.restored:
            self.isolations, self.restored = self.isolations + 1, True
        self.disabled = self.disabled or kept.disabled
        if self.beneath == "open" and kept.is_open:
            self.look(now)
            rest = self.reopens - self.age
            keeps = rest >= kept.rest
        else:
            keeps = self.beneath != "closed"
        if keeps:
            if (self.isolations, self.disabled) != by_hand:
                self._by_hand(before)
            return
        self.failures, self.reopenings = kept.failures, kept.reopenings
        self.opened = kept.is_open and (not kept.paused or kept.reopenings > 0)
        self.paused, self.throttles = kept.paused, 0
        self._forget_calls()
        self.look_by_hand(now)
        self.since, self.stays = self.age, min(kept.rest, self._longest())
        self._set("open" if kept.is_open else "closed")
        self._by_hand(before)

    # --- C3: each change starts a generation ---------------------------------------------

    def _by_hand(self, before: str, *, begins: bool = True) -> None:
        """
        Tell of what has been done by hand, which may be no more than another look.
        """
        self.generation += begins
        if begins or self.state != before:
            self.told.append((before, self.state, True))

    def _move(self, state: str) -> None:
        self.told.append((self.beneath, state, not self.disabled))
        self._set(state)
        self.generation += 1

    def _set(self, state: str) -> None:
        """
        A probe's place is of the half-open circuit that gave it, and goes with it.
        """
        self.beneath = state
        self.place = None
        self.row = 0


# What has happened to a call that the circuit let in, and the verdict by the table.
VERDICTS = {
    "it returns a value": "success",
    "it returns an error object": "failure",
    "it raises": "failure",
    "it raises a type that the policy ignores": "none",
    "it blames the arguments": "none",
    "it raises control flow": "none",
    "it ends cancelled, though nobody cancelled it": "failure",
    "it runs over its timeout": "failure",
    "it runs over its timeout, then returns a value": "failure",
    "its caller is cancelled": "none",
    "its caller is cancelled, and it returns a value": "success",
    "its caller is cancelled, and it returns an error object": "none",
    "its caller is cancelled, and it raises": "none",
    "its caller is cancelled after it hung": "failure",
}
