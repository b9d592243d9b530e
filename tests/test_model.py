"""
The breaker and the model of it, driven by the same events, must give the same answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator_async import CircuitState
from orchestrator_async._breaker import Breaker, Permit, Refusal
from orchestrator_async._policy import BreakerSettings

from . import faults
from .model import Call, Model, Refused

# Quarters of a second, so that sums are exact and "equal" can mean equal.
seconds = st.integers(1, 48).map(lambda quarters: quarters / 4)
averages = st.sampled_from([0.0, 0.25, 0.75, 3.0, 100.0])
thresholds = st.integers(1, 3)
verdicts = st.sampled_from(["success", "failure", "none"])
# Now and then the clock tells no time at all.
odd_times = st.sampled_from([None] * 7 + [math.nan, math.inf, -math.inf])
clocks = st.sampled_from(["back", "far ahead", "is another"])


@dataclass(eq=False)
class InFlight:
    """
    A call that was admitted by both.
    """

    permit: Permit
    call: Call


class BreakerAgainstModel(RuleBasedStateMachine):
    """
    Several callers, a clock that goes any way, and an operator.

    A call that is never ended is a hung one; one that is ended after the circuit has
    moved on, or after its lease, is late; a cancelled one is ended with none.
    """

    kind: type[Breaker] = Breaker

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.breaker = self.kind(BreakerSettings(2, 10.0, 10.0))
        self.model = Model(threshold=2, reset_timeout=10.0)
        self.calls: list[InFlight] = []
        self.ended: list[InFlight] = []

    @initialize(failures=st.integers(0, 2))
    def some_calls_have_failed(self, failures: int) -> None:
        for _ in range(failures):
            self._call(self.now, 5.0, 0.0)
            self._end(self.calls.pop(), "failure", self.now)

    # --- callers -----------------------------------------------------------------------

    @rule(lease=seconds, average=averages, odd=odd_times)
    def call(self, lease: float, average: float, odd: float | None) -> None:
        self._call(self.now if odd is None else odd, lease, average)

    @rule(lease=seconds, average=averages)
    def call_when_the_time_has_come(self, lease: float, average: float) -> None:
        """
        At random times a circuit would spend most of a run open.
        """
        self.breaker.refusal(self.now)
        refused = self.model.refusal(self.now, 0.0)
        if refused is not None and refused.state == "half_open":
            assert self.model.place is not None
            self.now += self.model.place.ends - self.model.age
        elif refused is not None and refused.state == "open":
            self.now += refused.retry_after or 0.0
        self._call(self.now, lease, average)

    def _call(self, now: float, lease: float, average: float) -> None:
        before, generation = self.breaker.state, self.breaker.generation
        asked = self.breaker.refusal(now, average)
        open_for = self.breaker.open_for(now)
        shared = self.breaker.closed_permit
        got, transition = self.breaker.admit(now, lease, average)
        want = self.model.admit(now, lease, average)
        if isinstance(want, Refused):
            assert isinstance(got, Refusal)
            assert Refused(got.state, got.retry_after) == want
            assert asked == got
            if self.model.isolations:
                assert open_for == 0
            elif math.isfinite(now):
                assert open_for == (want.retry_after if want.state == "open" else 0)
            else:
                assert open_for in (0, want.retry_after)  # it may leave it to refusal()
            assert shared is None
            assert transition is None
            return
        assert isinstance(got, Permit)
        assert asked is None
        assert open_for == 0
        assert (shared is got) == (not want.token)
        assert (got is self.breaker.probe) == want.token
        assert (transition is not None) == (self.breaker.generation > generation)
        if transition is not None:
            assert (transition.old, transition.new) == (before, CircuitState.HALF_OPEN)
        self.calls.append(InFlight(got, want))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), verdict=verdicts, odd=odd_times)
    def end(self, data: st.DataObject, verdict: str, odd: float | None) -> None:
        each = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        self._end(each, verdict, self.now if odd is None else odd)

    @precondition(lambda self: any(each.call.token for each in self.calls))
    @rule(data=st.data(), verdict=verdicts)
    def end_a_probe(self, data: st.DataObject, verdict: str) -> None:
        probes = [each for each in self.calls if each.call.token]
        each = data.draw(st.sampled_from(probes))
        self.calls.remove(each)
        self._end(each, verdict, self.now)

    def _end(self, each: InFlight, verdict: str, now: float) -> None:
        self._give(each, verdict, now)
        if each.call.token:  # the shared permit of a closed circuit is never spent
            self.ended.append(each)

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), verdict=verdicts)
    def give_back_again(self, data: st.DataObject, verdict: str) -> None:
        """
        No way out of a call does so, and if one did, it would have no say.
        """
        each = data.draw(st.sampled_from(self.ended))
        self._give(each, verdict, self.now)

    def _give(self, each: InFlight, verdict: str, now: float) -> None:
        before, generation = self.breaker.state, self.breaker.generation
        if verdict == "success":
            # It takes no time: in time or not, it counts.
            ruling = self.breaker.succeeded(each.permit)
            late = self.model.end(each.call, verdict, math.nan)
        elif verdict == "failure":
            ruling = self.breaker.failed(each.permit, now)
            late = self.model.end(each.call, verdict, now)
        else:
            ruling = self.breaker.ignored(each.permit, now)
            late = self.model.end(each.call, verdict, now)
        assert ruling.late == late
        changed = self.breaker.generation > generation
        assert (ruling.transition is not None) == changed
        if ruling.transition is not None:
            assert ruling.transition.old == before
            assert ruling.transition.new == self.breaker.state

    # --- the clock and the operator ---------------------------------------------------

    @rule(by=seconds)
    def time_passes(self, by: float) -> None:
        self.now += by

    @rule(by=st.one_of(seconds, st.sampled_from([2.0**20, 2.0**30])), how=clocks)
    def the_clock_goes_wrong(self, by: float, how: str) -> None:
        match how:
            case "back":
                self.now -= by
            case "far ahead":
                self.now += 1000 * by
            case "is another":
                self.now = by
                self.breaker.rebase(self.now)
                self.model.change_clock(self.now)

    @rule(deed=st.sampled_from(["isolate", "release_all", "disable", "reset"]))
    def the_operator_acts(self, deed: str) -> None:
        self._by_hand(deed)

    @rule()
    def the_operator_forces_it_open(self) -> None:
        self._by_hand("isolate", as_open=True)

    @rule(as_open=st.booleans())
    def the_operator_takes_one_back(self, as_open: bool) -> None:
        """
        One of a kind that there is, or none at all.
        """
        others = self.model.isolations - self.model.forced
        if (self.model.forced if as_open else others) or not self.model.isolations:
            self._by_hand("release", as_open=as_open)

    @precondition(lambda self: self.model.isolations or self.model.beneath == "disabled")
    @rule()
    def the_operator_is_done(self) -> None:
        if self.model.isolations:
            self._by_hand("release_all")
        if self.model.beneath == "disabled":
            self._by_hand("reset")

    def _by_hand(self, deed: str, **how: bool) -> None:
        before, generation = self.breaker.state, self.breaker.generation
        transition = getattr(self.breaker, deed)(**how)
        getattr(self.model, deed)(**how)
        if transition is None:
            assert (self.breaker.state, self.breaker.generation) == (before, generation)
        else:
            assert (transition.old, transition.new) == (before, self.breaker.state)

    @rule(threshold=thresholds, reset_timeout=seconds)
    def the_settings_change(self, threshold: int, reset_timeout: float) -> None:
        self.breaker.configure(BreakerSettings(threshold, reset_timeout, 10.0))
        self.model.change_settings(threshold, reset_timeout)

    # --- always ------------------------------------------------------------------------------

    @invariant()
    def both_say_the_same(self) -> None:
        assert self.breaker.state == self.model.state
        assert self.breaker.failures == self.model.failures
        assert self.breaker.generation == self.model.generation
        shared = self.breaker.closed_permit
        assert (shared is not None) == (self.model.state in ("closed", "disabled"))
        assert self.breaker.is_forced_open == (
            0 < self.model.forced == self.model.isolations
        )
        for each in self.calls + self.ended:
            assert self.breaker.covers(each.permit) == self.model.can_close(each.call)
            if self.model.place is each.call and self.model.taken():
                assert self.breaker.probe is each.permit


def test_the_breaker_does_what_the_model_does() -> None:
    run_state_machine_as_test(
        BreakerAgainstModel,
        settings=settings(max_examples=300, stateful_step_count=50),
    )


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.__name__)
def test_the_model_disagrees_with_a_planted_fault(fault: type[Breaker]) -> None:
    machine = type("Faulty", (BreakerAgainstModel,), {"kind": fault})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=1000,
                stateful_step_count=50,
                phases=[Phase.generate],
                report_multiple_bugs=False,
                database=None,
            ),
        )
