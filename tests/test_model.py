"""
The breaker and the model of it, driven by the same events, must give the same answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

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

from orchestrator_async._breaker import Breaker, Permit, Refusal, Ruling, Saved, Transition
from orchestrator_async._policy import BreakerSettings

from . import faults
from .model import Call, Kept, Model, Refused

# Quarters of a second, so that sums are exact and "equal" can mean equal.
seconds = st.integers(1, 48).map(lambda quarters: quarters / 4)
averages = st.sampled_from([0.0, 0.25, 0.75, 3.0, 100.0])
verdicts = st.sampled_from(["success", "failure", "throttle", "none"])
durations = st.sampled_from([0.0, 0.0, 1.75, 2.0, 8.0])
pauses = st.one_of(st.sampled_from([None, 2.0**40, math.inf]), seconds)
# Now and then the clock tells no time at all.
odd_times = st.sampled_from([None] * 7 + [math.nan, math.inf, -math.inf])
clocks = st.sampled_from(["back", "far ahead", "is another"])
chances = st.sampled_from([0.0, 0.25, 0.5, 1.0, KeyboardInterrupt])


def maybe(off: object, *on: object) -> st.SearchStrategy[object]:
    """
    A part that is as often off as on.
    """
    return st.sampled_from([off] * len(on) + list(on))


def settings_of(**parts: st.SearchStrategy[object]) -> st.SearchStrategy[BreakerSettings]:
    """
    What is not named stays as it is by default.
    """
    return st.fixed_dictionaries(parts).map(lambda each: BreakerSettings(**each))  # type: ignore[arg-type]


anything = settings_of(
    failure_threshold=st.sampled_from([1, 2, 3, 9, 9]),
    reset_timeout=seconds,
    probe_lease=st.just(10.0),
    success_threshold=maybe(1, 2, 3),
    failure_rate=maybe(math.inf, 0.25, 0.5, 1.0),
    slow_duration=maybe(math.inf, 2.0),
    slow_rate=st.sampled_from([0.5, 0.75, 1.0]),
    window_calls=maybe(0, 1, 2, 4),
    window_seconds=maybe(0.0, 2.5, 5.0, 20.0),
    minimum_calls=st.integers(1, 4),
    reset_multiplier=maybe(1.0, 1.5, 2.0),
    max_reset_timeout=st.sampled_from([12.0, 30.0, 3600.0]),
    jitter=maybe(0.0, 0.5, 1.0),
    max_pause=st.sampled_from([None, 0.5, 4.0, 300.0]),
)

# Where anything goes, failures in a row mostly open the circuit before a rate does, and few
# probes come to a row.
rates = settings_of(
    failure_threshold=st.just(9),
    reset_timeout=seconds,
    failure_rate=st.sampled_from([0.5, 1.0]),
    slow_duration=maybe(math.inf, 2.0),
    slow_rate=st.just(0.5),
    window_calls=st.integers(2, 4),
    window_seconds=maybe(0.0, 5.0),
    minimum_calls=st.integers(2, 3),
)
probes = settings_of(
    failure_threshold=st.just(1),
    reset_timeout=seconds,
    success_threshold=st.integers(2, 3),
    slow_duration=maybe(math.inf, 2.0),
    reset_multiplier=maybe(1.0, 2.0),
)
policies = anything | rates | probes


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
        self.chance: object = 0.0
        self.begin(BreakerSettings(2, 10.0, 10.0))

    def begin(self, policy: BreakerSettings) -> None:
        """
        Go on in a process that knows of nothing.
        """
        self.breaker = self.kind(policy)
        self.breaker.draw = self._draw
        self.model = Model(policy, self._draw)
        self.calls: list[InFlight] = []
        self.ended: list[InFlight] = []

    def _draw(self) -> float:
        if self.chance is KeyboardInterrupt:
            raise KeyboardInterrupt
        assert isinstance(self.chance, float)
        return self.chance

    @initialize(policy=policies, failures=st.integers(0, 2))
    def some_calls_have_failed(self, policy: BreakerSettings, failures: int) -> None:
        self.begin(policy)
        for _ in range(failures):
            self._call(self.now, 5.0, 0.0)
            if self.calls:
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

    @rule(series=st.lists(st.tuples(verdicts, durations, pauses), min_size=1, max_size=8))
    def calls_come_and_go(self, series: list[tuple[str, float, float | None]]) -> None:
        """
        As most calls do: nothing comes between their beginning and their end. Under an
        isolation none of them would.
        """
        if self.model.isolations:
            self._by_hand("release_all")
        for verdict, duration, pause in series:
            before = len(self.calls)
            self.call_when_the_time_has_come(lease=10.0, average=0.0)
            if len(self.calls) > before:
                self._end(self.calls.pop(), verdict, self.now, duration, pause)

    def _call(self, now: float, lease: float, average: float) -> None:
        asked = self.breaker.refusal(now, average)
        open_for = self.breaker.open_for(now)
        shared = self.breaker.closed_permit
        got, transition = self.breaker.admit(now, lease, average)
        want = self.model.admit(now, lease, average)
        self._told(transition)
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
            return
        assert isinstance(got, Permit)
        assert asked is None
        assert open_for == 0
        assert got.is_bystanders == want.bystander
        assert (shared is got) == (not want.token and not want.bystander)
        assert (got is self.breaker.probe) == want.token
        self.calls.append(InFlight(got, want))

    @precondition(lambda self: self.calls)
    @rule(
        data=st.data(),
        verdict=verdicts,
        odd=odd_times,
        duration=durations,
        pause=pauses,
    )
    def end(
        self,
        data: st.DataObject,
        verdict: str,
        odd: float | None,
        duration: float,
        pause: float | None,
    ) -> None:
        each = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        self._end(each, verdict, self.now if odd is None else odd, duration, pause)

    @precondition(lambda self: any(each.call.token for each in self.calls))
    @rule(data=st.data(), verdict=verdicts, duration=durations, pause=pauses)
    def end_a_probe(
        self, data: st.DataObject, verdict: str, duration: float, pause: float | None
    ) -> None:
        probes = [each for each in self.calls if each.call.token]
        each = data.draw(st.sampled_from(probes))
        self.calls.remove(each)
        self._end(each, verdict, self.now, duration, pause)

    def _end(
        self,
        each: InFlight,
        verdict: str,
        now: float,
        duration: float = 0.0,
        pause: float | None = None,
    ) -> None:
        self._give(each, verdict, now, duration, pause)
        if each.call.token:  # the shared permit of a closed circuit is never spent
            self.ended.append(each)

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), verdict=verdicts, duration=durations)
    def give_back_again(self, data: st.DataObject, verdict: str, duration: float) -> None:
        """
        No way out of a call does so, and if one did, it would have no say.
        """
        each = data.draw(st.sampled_from(self.ended))
        self._give(each, verdict, self.now, duration, None)

    def _give(
        self,
        each: InFlight,
        verdict: str,
        now: float,
        duration: float,
        pause: float | None,
    ) -> None:
        if pause == math.inf and self.model.settings.max_pause is None:
            pause = 2.0**40  # what has no end is kept away from the breaker
        breaker, permit, ruling = self.breaker, each.permit, None
        late = None
        try:
            match verdict:
                case "success":
                    ruling = breaker.succeeded(permit, now, duration)
                case "failure":
                    ruling = breaker.failed(permit, now, duration)
                case "throttle":
                    ruling = breaker.throttled(permit, now, pause)
                case _:
                    ruling = breaker.ignored(permit, now)
        except KeyboardInterrupt:
            assert self.chance is KeyboardInterrupt
        try:
            late = self.model.end(each.call, verdict, now, duration, pause)
        except KeyboardInterrupt:
            assert ruling is None
            self.chance = 0.0
            return
        assert isinstance(ruling, Ruling)
        assert ruling.late == late
        self._told(ruling.transition)

    # --- the clock, the operator, and another process ----------------------------------

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

    @rule(chance=chances)
    def chance_turns(self, chance: object) -> None:
        self.chance = chance

    @rule(odd=odd_times)
    def somebody_asks_when_to_come(self, odd: float | None) -> None:
        now = self.now if odd is None else odd
        assert self.breaker.available_in(now) == self.model.available_in(now)

    @rule(deed=st.sampled_from(["isolate", "release_all", "disable", "disable", "reset"]))
    def the_operator_acts(self, deed: str) -> None:
        self._by_hand(deed)

    @precondition(lambda self: self.model.taken() and not self.model.isolations)
    @rule()
    def the_operator_disables_it_while_one_probes(self) -> None:
        self._by_hand("disable")
        self._call(self.now, 5.0, 0.0)

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

    @rule(odd=odd_times)
    def the_operator_trips_it(self, odd: float | None) -> None:
        now, chance = self.now if odd is None else odd, self.chance
        if chance is KeyboardInterrupt and self.model.settings.jitter:
            for trip in (self.breaker.trip, self.model.trip):
                with pytest.raises(KeyboardInterrupt):
                    trip(now)
            self.chance = 0.0
            return
        self._told(self.breaker.trip(now), lambda: self.model.trip(now))

    @precondition(lambda self: self.model.isolations or self.model.disabled)
    @rule()
    def the_operator_is_done(self) -> None:
        if self.model.isolations:
            self._by_hand("release_all")
        if self.model.disabled:
            self._by_hand("reset")

    def _by_hand(self, deed: str, **how: bool) -> None:
        self._told(
            getattr(self.breaker, deed)(**how), lambda: getattr(self.model, deed)(**how)
        )

    @rule(policy=policies)
    def the_settings_change(self, policy: BreakerSettings) -> None:
        self.breaker.configure(policy)
        self.model.configure(policy)

    @rule(odd=odd_times, policy=st.none() | policies)
    def another_process_goes_on(
        self, odd: float | None, policy: BreakerSettings | None
    ) -> None:
        """
        One that is new, or this one with what it has saved.
        """
        now = self.now if odd is None else odd
        saved, kept = self.breaker.saved(now), self.model.saved(now)
        assert Kept(**saved._asdict()) == kept
        if policy is not None:
            self.begin(policy)
        self._restore(Saved(**asdict(kept)), kept, now)

    @rule(odd=odd_times, rest=seconds, number=st.integers(0, 5), flags=st.integers(0, 15))
    def it_is_told_what_another_saved(
        self, odd: float | None, rest: float, number: int, flags: int
    ) -> None:
        is_open, paused, disabled, isolated = (bool(flags & 1 << each) for each in range(4))
        paused &= is_open
        kept = Kept(is_open, rest, paused, number, number % 3, disabled, isolated)
        self._restore(Saved(**asdict(kept)), kept, self.now if odd is None else odd)

    def _restore(self, saved: Saved, kept: Kept, now: float) -> None:
        self._told(self.breaker.restore(saved, now), lambda: self.model.restore(kept, now))

    # --- always ------------------------------------------------------------------------------

    def _told(
        self, transition: Transition | None, act: Callable[[], None] | None = None
    ) -> None:
        if act is not None:
            act()
        want, self.model.told = self.model.told, []
        if transition is None:
            assert want == []
        else:
            assert [(transition.old, transition.new, transition.enforced)] == want

    @invariant()
    def both_say_the_same(self) -> None:
        breaker, model = self.breaker, self.model
        assert breaker.state == model.state
        assert breaker.failures == model.failures
        assert breaker.generation == model.generation
        assert breaker.paused == model.paused
        lets_all_run = not model.isolations and model.beneath == "closed"
        assert (breaker.closed_permit is not None) == lets_all_run
        assert breaker.counting == (model.failures > 0 or bool(model.windows()))
        assert breaker.is_forced_open == (0 < model.forced == model.isolations)
        for each in self.calls + self.ended:
            assert breaker.covers(each.permit) == model.can_close(each.call)
            if model.place is each.call and model.taken():
                assert breaker.probe is each.permit


def test_the_breaker_does_what_the_model_does() -> None:
    run_state_machine_as_test(
        BreakerAgainstModel,
        settings=settings(max_examples=600, stateful_step_count=50),
    )


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.__name__)
def test_the_model_disagrees_with_a_planted_fault(fault: type[Breaker]) -> None:
    machine = type("Faulty", (BreakerAgainstModel,), {"kind": fault})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=20_000,  # far more than most need: it ends with the first
                stateful_step_count=50,
                phases=[Phase.generate],
                report_multiple_bugs=False,
                database=None,
            ),
        )
