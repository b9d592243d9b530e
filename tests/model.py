"""
A model of one circuit, written from the rules alone: C1 to C7 and the verdict table.

It is as plain as it can be, so that a reader can hold it against the rules line by line;
it shares nothing with the breaker but the names of the states. ``test_model`` drives
both with the same events and wants the same answers.

Its time is not a clock's reading but an age: the seconds that the clock was seen to go
forward. Then "what was left is kept when the clock goes back" needs no further word. It
looks at the clock where a rule asks for a time and nowhere else: how often a healthy
circuit does so is nobody's business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Refused:
    state: str
    retry_after: float | None


@dataclass(eq=False)
class Call:
    """
    An admitted call. ``token`` is set for a probe, and then its lease ends at ``ends``.
    """

    generation: int
    token: bool = False
    ends: float = math.inf
    given_back: bool = False


@dataclass
class Model:
    threshold: int
    reset_timeout: float

    beneath: str = "closed"  # what an isolation covers
    isolations: int = 0
    forced: int = 0  # how many of them pass for failures
    failures: int = 0
    generation: int = 0
    age: float = 0.0
    reopens: float = 0.0  # the age at which an open circuit may be probed
    place: Call | None = None  # who holds the probe's place
    _seen: float = field(default=math.nan, repr=False)

    # --- C5: one clock ---------------------------------------------------------------

    def look(self, now: float) -> None:
        """
        Read the clock. What goes back has not passed, and what is no time says nothing.
        """
        if math.isfinite(now):
            if now > self._seen:
                self.age += now - self._seen
            self._seen = now

    def change_clock(self, now: float) -> None:
        self._seen = now

    def change_settings(self, threshold: int, reset_timeout: float) -> None:
        """
        A circuit that is open stays so no longer than they say.
        """
        self.threshold, self.reset_timeout = threshold, reset_timeout
        self.reopens = min(self.reopens, self.age + reset_timeout)

    # --- C1, C4, C6, C7: who may run ---------------------------------------------------

    @property
    def state(self) -> str:
        if not self.isolations:
            return self.beneath
        return "open" if self.forced == self.isolations else "isolated"

    def taken(self) -> bool:
        """
        Whether a probe holds an unexpired lease.
        """
        return self.place is not None and self.age < self.place.ends

    def refusal(self, now: float, average: float) -> Refused | None:
        if self.isolations:
            # One that passes for failures never says that its time has nearly come.
            wait = self.reset_timeout if self.state == "open" else None
            return Refused(self.state, wait)
        if self.beneath in ("closed", "disabled"):
            return None
        self.look(now)
        if self.beneath == "open" and self.age < self.reopens:
            return Refused("open", self.reopens - self.age)
        if self.beneath == "half_open" and self.taken():
            assert self.place is not None
            rest = self.place.ends - self.age
            return Refused("half_open", min(rest, max(1.0, 2 * average)))
        return None

    def admit(self, now: float, lease: float, average: float) -> Call | Refused:
        refused = self.refusal(now, average)
        if refused:
            return refused
        if self.beneath in ("closed", "disabled"):
            return Call(self.generation)
        if self.beneath == "open":
            self._move("half_open")
        self.place = Call(self.generation, token=True, ends=self.age + lease)
        return self.place

    # --- C2, C3, C4: what a verdict does -------------------------------------------------

    def end(self, call: Call, verdict: str, now: float) -> bool:
        """
        Give a call's verdict: ``success``, ``failure`` or ``none``. Returns whether it
        was late, that is, came when the circuit had moved on.
        """
        if call.given_back:
            return True
        call.given_back = True
        had_place = self.place is call
        if had_place:
            self.place = None
        if call.generation != self.generation:
            return True
        if call.token and verdict != "success":
            self.look(now)
            if not had_place or self.age >= call.ends:
                return True
        if verdict == "success":
            self.failures = 0
            if self.beneath == "half_open":
                self._move("closed")
        elif verdict == "failure":
            self.failures += 1
            tripped = self.beneath == "closed" and self.failures >= self.threshold
            if tripped or self.beneath == "half_open":
                self.look(now)
                self.reopens = self.age + self.reset_timeout
                self._move("open")
        return False

    def can_close(self, call: Call) -> bool:
        """
        Whether a success of this probe, in time or not, would close the circuit.
        """
        return call.token and not call.given_back and call.generation == self.generation

    # --- by hand -------------------------------------------------------------------------

    def isolate(self, *, as_open: bool = False) -> None:
        """
        Refuse all. Isolations add up, and the place of a probe stays its own beneath.
        """
        self.isolations += 1
        self.forced += as_open
        if self.isolations == 1:
            self.generation += 1

    def release(self, *, as_open: bool = False) -> None:
        if self.isolations:
            self.isolations -= 1
            self.forced -= as_open
            if not self.isolations:
                self.generation += 1

    def release_all(self) -> None:
        while self.isolations:
            self.release(as_open=self.forced > 0)

    def disable(self) -> None:
        self._move("disabled")

    def reset(self) -> None:
        self.failures = 0
        self._move("closed")

    def _move(self, state: str) -> None:
        """
        C3: each transition starts a generation. A probe's place is of the half-open
        circuit that gave it, and goes with it.
        """
        self.beneath = state
        self.generation += 1
        self.place = None


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
