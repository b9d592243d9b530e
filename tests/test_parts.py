"""
Whole calls with all their parts: the orchestrator beside a model of it, by random events and by
every order of a few; and faults in the parts, which both have to notice.
"""

from __future__ import annotations

import itertools
import math
import sys
from contextlib import nullcontext
from dataclasses import fields, replace
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_async import (
    BudgetPolicy,
    CallRefusedError,
    ConversationPolicy,
    LimitExceededError,
    LimitPolicy,
    Verdict,
    _around,
    _conversation,
    _gates,
    _limits,
    _rate,
    _retry,
    _settle,
)
from orchestrator_async._breaker import CircuitState, Permit
from orchestrator_async._circuit import Circuit
from orchestrator_async._conversation import ConversationRules
from orchestrator_async._entry import Entry
from orchestrator_async._execution import Execution
from orchestrator_async._fleet import Fleet

from .conftest import Summary
from .parts import (
    LOOPS,
    ONE_PLACE,
    PLAY,
    Plant,
    Report,
    Scenario,
    Step,
    any_tool_is_run_again,
    assert_counted_plainly,
    assert_found,
    explore,
    go_through,
    retry,
    run_on,
    summed_up,
)
from .parts_model import TOOLS, Model, Setup

DEBUG = False

pytestmark = pytest.mark.usefixtures("without_log")

# --- random events ---------------------------------------------------------------------------

waits = st.sampled_from([0.0, 1.5, 4.0])
few = st.sampled_from([1, 2])
places = {"max_concurrent": few, "max_queue": st.integers(0, 2), "max_wait": waits}
turns = {"calls": few, "seconds": st.sampled_from([1.0, 1.5, 2.0]), "burst": few}
limits = st.one_of(
    st.builds(LimitPolicy, **places),
    st.builds(LimitPolicy, **turns, max_wait=waits),
    st.builds(LimitPolicy, **places, **turns),
)
setups = st.builds(
    Setup,
    tool=st.one_of(st.none(), limits),
    group=st.one_of(st.none(), limits),
    all=st.one_of(st.none(), limits),
    retry=st.one_of(
        st.none(),
        st.builds(
            retry,
            attempts=st.integers(2, 4),
            wait_initial=st.sampled_from([0.25, 0.5]),
            wait_max=st.sampled_from([1.0, 3.0]),
        ),
    ),
    budget=st.sampled_from(
        [
            None,
            BudgetPolicy(),
            BudgetPolicy(share=0.5, a_second=0),
            BudgetPolicy(a_second=1),
        ]
    ),
    total_timeout=st.sampled_from([None, 3.25, 5.25]),
    timeout=st.sampled_from([None, None, 2.125]),
    fallback=st.sampled_from([None, "made", "asked", "writes"]),
    guard=st.sampled_from([False, False, True]),
    keyed=st.sampled_from([False, False, True]),
    threshold=st.sampled_from([2, 3, 5]),
    reset=st.sampled_from([3.0, 8.0]),
)
chats = st.builds(
    ConversationPolicy,
    same_failures=st.sampled_from([None, 1, 1, 2]),
    tool_failures=st.sampled_from([None, 2, 3]),
    same_results=st.sampled_from([None, 2, 3]),
    refusals=st.sampled_from([None, 1, 2]),
    calls_per_tool=st.sampled_from([None, 3, 6]),
    calls=st.sampled_from([None, 4, 10]),
    seconds=st.sampled_from([None, None, 12.0]),
    patience=st.sampled_from([None, 0, 1, 2]),
)
KINDS = (
    *["begin"] * 4,
    *["call"] * 6,  # something becomes of one that there is
    *["next"] * 4,
    *["nearly", "isolate", "resize", "resize", "leave"],
)
EVENTS = 40
events = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 1 << 16)),
    min_size=EVENTS,
    max_size=EVENTS,
)
MOST_CALLS = 5  # that go on at one time


def chosen(model: Model, kind: str, number: int) -> Step | None:
    """
    The event that is meant; where it cannot be, another call begins, or something becomes of
    one that there is.
    """
    going_on = [c for c in model.calls if c.parent is None and c.where != "over"]
    if kind in ("next", "nearly") and model.next_moment() is not None:
        return "time", kind
    if model.isolated and kind in ("begin", "isolate"):
        return ("unisolate",)  # or most calls would only be refused
    if kind == "isolate" and not model.setup.keyed:
        return ("isolate",)
    if kind == "resize":
        scopes = [each for each in ("group", "all") if each in model.gates]
        sizes = {scope: model.gates[scope].size for scope in scopes}
        able = [(scope, size) for scope, size in sizes.items() if size is not None]
        if able:
            scope, size = able[number % len(able)]
            return "resize", scope, size + 1 if size == 1 or number & 2 else size - 1
        if number % 32 == 0:
            return ("drain",)
    if kind == "leave" and not going_on and model.chat and number % 4 == 0:
        return ("leave",)
    steps = PLAY.possible(model)
    if len(going_on) < MOST_CALLS and (kind != "call" or not steps):
        if model.chat is not None:
            return "begin", TOOLS[number % 2], number // 2 % 3
        return "begin", TOOLS[number % 2]
    return steps[number % len(steps)] if steps else None


@LOOPS
def test_whatever_happens_the_parts_do_what_the_model_does(
    loop: str, summary: Summary
) -> None:
    ends: set[str] = set()

    @settings(max_examples=80)
    @given(setup=setups, happens=events)
    def both(setup: Setup, happens: list[tuple[str, int]]) -> None:
        pair = run_on(loop, go_through, setup, happens, chosen)
        ends.update(each.kind for each in pair.world.answers.values())
        summary.add("parts: random events", len(pair.trail))

    both()
    # Else the events would have to be others.
    assert ends >= {"value", "raised", "circuit", "limit", "timeout", "guard", "cancelled"}


@LOOPS
def test_whatever_happens_in_a_conversation_goes_as_in_the_model(
    loop: str, summary: Summary
) -> None:
    ends: set[tuple[object, ...]] = set()

    @settings(max_examples=45)
    @given(setup=setups, chat=chats, happens=events)
    def both(
        setup: Setup, chat: ConversationPolicy, happens: list[tuple[str, int]]
    ) -> None:
        pair = run_on(loop, go_through, replace(setup, chat=chat), happens, chosen)
        for each in pair.world.answers.values():
            ends.add((each.kind, *each.detail) if each.kind == "conversation" else ())
            ends.update(("warned", reason) for reason in each.warned)
        summary.add("parts: random events in conversations", len(pair.trail))

    both()
    # Else the events would have to be others.
    reasons = {"calls", "calls_per_tool", "refusals", "same_failures"}
    refusals = {("conversation", each) for each in reasons | {"over"}}
    assert ends >= refusals | {("warned", each) for each in reasons}


# --- every order of a few --------------------------------------------------------------------

QUEUE = Scenario(
    name="one place, and a queue of one",
    setup=Setup(group=ONE_PLACE, threshold=2),
    calls=("reads", "writes", "reads"),
    ticks=2,
    by_hand=(("isolate",),),
)
RATE = Scenario(
    name="a rate",
    setup=Setup(group=LimitPolicy(calls=1, seconds=1.0, burst=1, max_wait=2.5)),
    calls=("reads", "writes", "reads"),
    deeds=("returns",),
    ticks=2,
    by_hand=(("isolate",),),
)
RATES = Scenario(
    name="a narrow rate and a wide one",
    setup=Setup(
        tool=LimitPolicy(calls=1, seconds=2.0, burst=1, max_wait=4.0),
        group=LimitPolicy(calls=1, seconds=1.0, burst=1, max_wait=1.5),
    ),
    calls=("reads", "reads", "writes"),
    deeds=("returns",),
    ticks=3,
)
ROWS = Scenario(
    name="two rows that wait for one rate",
    setup=Setup(
        tool=LimitPolicy(calls=2, seconds=4.0, burst=2, max_wait=4.0),
        group=LimitPolicy(calls=1, seconds=1.0, burst=1, max_wait=1.5),
    ),
    calls=("reads", "writes", "reads", "writes"),
    deeds=("returns",),
    ticks=2,
)
RETRIES = Scenario(
    name="retries, and their budget",
    setup=Setup(
        retry=retry(attempts=3),
        budget=BudgetPolicy(share=1.0, a_second=0),
        threshold=5,
    ),
    calls=("reads", "reads"),
    ticks=3,
)
PAUSES = Scenario(
    name="pauses, probes and retries, with one place",
    setup=Setup(retry=retry(), threshold=1, reset=2.0, group=ONE_PLACE),
    calls=("reads", "writes"),
    deeds=("returns", "raises", "asks for a pause"),
    ticks=3,
    nearly=1,
)
ISOLATED = Scenario(
    name="an isolation, and retries of what a limit refuses",
    setup=Setup(retry=retry(), group=ONE_PLACE),
    calls=("reads", "writes"),
    ticks=3,
    by_hand=(("isolate",),),
)
FALLBACK = Scenario(
    name="a guard, and another tool for a fallback",
    setup=Setup(
        fallback="writes",
        guard=True,
        threshold=1,
        reset=2.0,
        group=ONE_PLACE,
        timeout=2.125,
    ),
    calls=("reads", "reads"),
    ticks=2,
    nearly=1,
)
TOTAL = Scenario(
    name="the time of a whole call, and a fallback that is made",
    setup=Setup(
        fallback="made",
        retry=retry(),
        total_timeout=3.25,
        threshold=2,
        group=LimitPolicy(max_concurrent=1, max_queue=1, max_wait=4.0),
    ),
    calls=("reads", "reads"),
    ticks=3,
    by_hand=(("isolate",),),
)
BY_HAND = Scenario(
    name="an operator reloads and drains",
    setup=Setup(
        retry=retry(), group=LimitPolicy(max_concurrent=1, max_queue=2, max_wait=1.5)
    ),
    calls=("reads", "writes", "reads"),
    deeds=("returns",),
    cancels=0,
    by_hand=(("resize", "group", 2), ("resize", "group", 1), ("drain",)),
)
DRAIN = Scenario(
    name="a drain, and a fallback function that is waited for",
    setup=Setup(fallback="asked", threshold=2, group=ONE_PLACE),
    calls=("reads", "reads"),
    ticks=1,
    by_hand=(("drain",),),
)
KEYED = Scenario(
    name="circuits by key, and one place",
    setup=Setup(
        keyed=True,
        threshold=1,
        reset=2.0,
        group=LimitPolicy(max_concurrent=1, max_queue=2, max_wait=1.5),
    ),
    calls=("reads", "reads", "reads"),
    ticks=3,
    cancels=0,
)


def chat(**limits: Any) -> ConversationPolicy:
    off = {each.name: None for each in fields(ConversationPolicy)}
    return ConversationPolicy(**{**off, **limits})


PLACES_OF_A_RUN = Scenario(
    name="a run of two calls, a guard and one place",
    setup=Setup(guard=True, group=ONE_PLACE, chat=chat(calls=2, patience=1)),
    calls=("reads", "writes", "reads"),
    deeds=("returns",),
    ticks=1,
    by_hand=(("leave",),),
)
END_OF_A_RUN = Scenario(
    name="the end of a run, a queue and retries",
    setup=Setup(
        retry=retry(),
        fallback="writes",
        group=LimitPolicy(max_concurrent=1, max_queue=2, max_wait=1.5),
        chat=chat(calls=3, patience=0),
    ),
    calls=("reads", "writes", "reads", "writes"),
    deeds=("raises",),
    ticks=2,
    cancels=0,
)
SAME_CALL = Scenario(
    name="one call that fails again, and its retries",
    setup=Setup(
        retry=retry(),
        threshold=9,
        chat=chat(same_failures=1, tool_failures=2, calls_per_tool=3, patience=0),
    ),
    calls=(("reads", 0), ("reads", 0), ("reads", 1)),
    deeds=("raises",),
    ticks=1,
    cancels=0,
)
REFUSED = Scenario(
    name="a run that is refused, and its time",
    setup=Setup(
        group=LimitPolicy(calls=1, seconds=1.0, burst=1, max_wait=0.0),
        chat=chat(refusals=1, same_results=2, seconds=3.0, patience=1),
    ),
    calls=(("reads", 0), ("reads", 0), ("writes", 0), ("reads", 1)),
    ticks=2,
)
GUARDED = Scenario(
    name="a run whose guard refuses",
    setup=Setup(guard=True, chat=chat(refusals=1, patience=0)),
    calls=(("reads", 0), ("reads", 1)),
    deeds=("returns",),
    by_hand=(("leave",),),
)

# How many schedules each has. The number may grow; if it falls, less is seen than was.
SCENARIOS = {
    QUEUE: 494,
    RATE: 1_001,
    RATES: 222,
    ROWS: 1_279,
    RETRIES: 488,
    PAUSES: 783,
    ISOLATED: 331,
    FALLBACK: 872,
    TOTAL: 413,
    BY_HAND: 1_346,
    DRAIN: 797,
    KEYED: 170,
    PLACES_OF_A_RUN: 137,
    END_OF_A_RUN: 264,
    SAME_CALL: 156,
    REFUSED: 61,
    GUARDED: 74,
}


@LOOPS
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_in_every_order_the_parts_do_what_the_model_does(
    scenario: Scenario, loop: str, summary: Summary
) -> None:
    report: Report = run_on(loop, explore, scenario)

    assert report.schedules >= SCENARIOS[scenario]
    summed_up(report, summary, "parts")


@pytest.mark.parametrize("scenario", [FALLBACK, RATES], ids=lambda scenario: scenario.name)
def test_schedules_that_go_on_as_one_are_each_counted(scenario: Scenario) -> None:
    assert_counted_plainly(scenario)


# --- faults ----------------------------------------------------------------------------------


def _is_being_cancelled() -> bool:
    return isinstance(sys.exception(), anyio.get_cancelled_exc_class())


def a_place_is_lost_with_its_caller(patch: pytest.MonkeyPatch) -> None:
    release = _gates.Gated._release

    def faulty(self: Any, places: Any) -> None:
        if not _is_being_cancelled():
            release(self, places)

    patch.setattr(_gates.Gated, "_release", faulty)


def who_has_given_up_stays_in_the_queue(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_limits.Limit, "_leave", lambda self, waiter: None)


def the_last_who_came_goes_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_limits.Limit, "_first", lambda self: next(reversed(self._row), None))


def a_turn_is_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_rate.Token, "give_back", lambda self: None)


def turns_are_kept_for_one_another(patch: pytest.MonkeyPatch) -> None:
    async def one_by_one(rates: Any, clock: Any, rest: Any) -> Any:
        tokens: list[Any] = []
        try:
            for rate in rates:
                token = await _rate.acquire((rate,), clock, rest)
                if isinstance(token, _rate.Late):
                    return token
                tokens.append(token)
            whole = _rate.Token(())
            whole._taken = [each for token in tokens for each in token._taken]
            tokens.clear()
            return whole
        finally:
            for token in tokens:
                token.give_back()

    patch.setattr(_gates, "acquire", one_by_one)


def who_is_too_late_waits_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_rate._Row, "time_left", lambda self, waiter, clock, rest: math.inf)


def who_has_one_turn_is_sent_away_for_its_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_rate._Row, "_ahead_of", lambda self, waiter: 9)


def the_younger_of_two_rows_goes_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_rate, "_tickets", itertools.count(0, -1))


def who_waits_for_more_goes_before(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_rate._Row, "needs_no_more_than", lambda self, rates: True)


def who_waits_for_more_holds_others_up(patch: pytest.MonkeyPatch) -> None:
    def faulty(self: Any, waiter: Any) -> bool:
        rows = [row for rate in self.rates for row in rate._rows_here()]
        return all(row.first.ticket >= waiter.ticket for row in rows)

    patch.setattr(_rate._Row, "is_first", faulty)


def nobody_wakes_the_next(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_rate._Row, "wake", lambda self: None)


def a_pause_ends_the_attempts(patch: pytest.MonkeyPatch) -> None:
    may = _retry.Retrying._may_run_again

    def faulty(self: Any, course: Any, result: Any) -> bool:
        course.pause = 0.0
        return may(self, course, result)

    patch.setattr(_retry.Retrying, "_may_run_again", faulty)


def a_place_is_held_in_the_waits(patch: pytest.MonkeyPatch) -> None:
    wait = _retry.Retrying._next

    async def faulty(self: Any, attempts: Any) -> Any:
        taken = [gate.limit for gate in self._attempt._gates if gate.limit.take()]
        try:
            return await wait(self, attempts)
        finally:
            for limit in taken:
                limit.release()

    patch.setattr(_retry.Retrying, "_next", faulty)


def the_waits_do_not_grow(patch: pytest.MonkeyPatch) -> None:
    backoff = _retry.Retrying._backoff
    patch.setattr(_retry.Retrying, "_backoff", lambda self, attempt: backoff(self, 1))


def the_budget_is_never_refilled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_retry.Budget, "called", lambda self, now: None)


def the_budget_has_no_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_retry.Budget, "take", lambda self, now: True)


def a_probe_keeps_its_permit_when_cancelled(patch: pytest.MonkeyPatch) -> None:
    ignored = Circuit.ignored

    def faulty(self: Any, permit: Permit, now: float) -> bool:
        is_in_time = permit is self.breaker.probe and self.breaker.refusal(now)
        return False if is_in_time else ignored(self, permit, now)

    patch.setattr(Circuit, "ignored", faulty)


def the_circuit_is_not_asked_after_the_queue(patch: pytest.MonkeyPatch) -> None:
    admitted, refusal = Execution._admitted, Execution.refusal
    inside: list[bool] = []

    def faulty(self: Any, entry: Any, request: Any) -> Any:
        inside.append(True)
        try:
            return admitted(self, entry, request)
        finally:
            inside.pop()

    patch.setattr(Execution, "_admitted", faulty)
    patch.setattr(
        Execution,
        "refusal",
        lambda self, entry, circuit: None if inside else refusal(self, entry, circuit),
    )
    patch.setattr(
        Execution,
        "_permit",
        lambda self, entry, circuit, now: circuit.breaker.closed_permit or Permit(-1),
    )


def a_queue_does_not_look_at_the_whole_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_gates.Gated, "_rest", lambda self, request: 1e9)


def what_is_cut_off_is_the_tools_failure(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_settle, "_verdict_of_timeout", lambda flight, duration: Verdict.FAILURE)


def an_open_circuit_is_no_end_of_the_attempts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_retry, "_ADMITTING", tuple(CircuitState))


def an_isolation_is_no_end_of_the_attempts(patch: pytest.MonkeyPatch) -> None:
    may = _retry.Retrying._may_run_again

    def faulty(self: Any, course: Any, result: Any) -> bool:
        refused = not course.ran and isinstance(result.error, LimitExceededError)
        return refused or may(self, course, result)

    patch.setattr(_retry.Retrying, "_may_run_again", faulty)


def a_fallback_answers_for_a_guard(patch: pytest.MonkeyPatch) -> None:
    guarded = _around.Guarded.__call__

    async def faulty(self: Any, request: Any, render: bool) -> Any:
        result = await guarded(self, request, render)
        if not isinstance(result.error, CallRefusedError):
            return result
        return await self._step._answer(request, result, render) or result

    patch.setattr(_around.Guarded, "__call__", faulty)


def arguments_are_made_for_each_attempt(patch: pytest.MonkeyPatch) -> None:
    made = Execution.made

    def faulty(self: Any, entry: Any, request: Any) -> Any:
        request.course.made = None
        return made(self, entry, request)

    patch.setattr(Execution, "made", faulty)


def all_keys_have_one_circuit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Entry, "key_of", lambda self, arguments, request: "0")


def a_limit_tells_the_state_of_the_tools_own_circuit(patch: pytest.MonkeyPatch) -> None:
    def faulty(self: Any, error: Any, request: Any) -> Any:
        return self._answers.limited(self._entry, self._entry.circuit, request, error)

    patch.setattr(_gates.Gated, "_limited", faulty)


class _NeverDraining:
    drain = None

    def __init__(self, fleet: Fleet) -> None:
        self.answering = fleet.answering
        self.registry = fleet.registry


def a_fallback_is_asked_while_draining(patch: pytest.MonkeyPatch) -> None:
    make = _around.FallingBack.__init__

    def faulty(self: Any, *parts: Any) -> None:
        make(self, *parts)
        self._fleet = _NeverDraining(self._fleet)

    patch.setattr(_around.FallingBack, "__init__", faulty)


def a_drain_does_not_wait_for_a_fallback(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fleet, "answering", lambda self, name: nullcontext())


def a_reload_lets_nobody_in(patch: pytest.MonkeyPatch) -> None:
    reload = _limits.Limit.reload

    def faulty(self: Any, size: int, **options: Any) -> None:
        row, self._row = self._row, type(self._row)()
        reload(self, size, **options)
        self._row = row

    patch.setattr(_limits.Limit, "reload", faulty)


def a_refusal_does_not_say_when_to_come_again(patch: pytest.MonkeyPatch) -> None:
    both = _retry._both

    def faulty(before: Any, now: Any) -> Any:
        return replace(both(before, now), retry_after=before.retry_after)

    patch.setattr(_retry, "_both", faulty)


def the_last_attempt_is_the_answer(patch: pytest.MonkeyPatch) -> None:
    def faulty(before: Any, now: Any) -> Any:
        seconds = before.duration + now.duration
        return replace(now, attempts=before.attempts + now.attempts, duration=seconds)

    patch.setattr(_retry, "_both", faulty)


def a_call_that_is_cancelled_never_counts(patch: pytest.MonkeyPatch) -> None:
    give_back = ConversationRules.give_back

    def faulty(self: Any, call: Any) -> None:
        call.entered = False
        give_back(self, call)

    patch.setattr(ConversationRules, "give_back", faulty)


def a_call_that_is_cancelled_keeps_its_place(patch: pytest.MonkeyPatch) -> None:
    give_back = ConversationRules.give_back

    def faulty(self: Any, call: Any) -> None:
        if not _is_being_cancelled():
            give_back(self, call)

    patch.setattr(ConversationRules, "give_back", faulty)


def who_waits_is_run_after_the_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Execution, "_stopped", lambda self, call, request: None)


def a_call_that_the_end_has_stopped_counts(patch: pytest.MonkeyPatch) -> None:
    stopped = Execution._stopped

    def faulty(self: Any, call: Any, request: Any) -> Any:
        result = stopped(self, call, request)
        return result and replace(result, stop=False)

    patch.setattr(Execution, "_stopped", faulty)


def a_retry_is_a_call_of_its_own(patch: pytest.MonkeyPatch) -> None:
    schedule = _retry.Retrying._schedule

    def faulty(self: Any, request: Any, result: Any, wait: float) -> bool:
        is_one = schedule(self, request, result, wait)
        if request.counted is not None:
            request.counted.rules.calls += is_one
        return is_one

    patch.setattr(_retry.Retrying, "_schedule", faulty)


def a_refusal_is_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ConversationRules, "_refused", lambda self, *args, **options: None)


def what_runs_side_by_side_counts_each(patch: pytest.MonkeyPatch) -> None:
    count = ConversationRules._count

    def faulty(self: Any, streak: Any, call: Any) -> Any:
        streak.heeded = -1
        return count(self, streak, call)

    patch.setattr(ConversationRules, "_count", faulty)


def a_call_is_the_last_though_one_is_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_conversation, "min", lambda then, now: then, raising=False)


def a_guard_refuses_the_whole_tool(patch: pytest.MonkeyPatch) -> None:
    after = ConversationRules.after

    def faulty(self: Any, *args: Any, whole_tool: bool, **options: Any) -> Any:
        return after(self, *args, whole_tool=True, **options)

    patch.setattr(ConversationRules, "after", faulty)


# Each with a scenario in which it shows, and what is not as the model says.
FAULTS: dict[Plant, tuple[Scenario, str]] = {
    a_place_is_lost_with_its_caller: (QUEUE, "group: (1, 0,"),
    who_has_given_up_stays_in_the_queue: (QUEUE, "answers 1: "),
    the_last_who_came_goes_first: (BY_HAND, "running (1, 'writes'): None,"),
    a_turn_is_lost: (RATE, "group: (0, 0, 1.0,"),
    turns_are_kept_for_one_another: (RATES, "group: (0, 0, "),
    who_is_too_late_waits_for_ever: (ROWS, "answers 2: None,"),
    who_has_one_turn_is_sent_away_for_its_time: (RATES, "answers 1: "),
    the_younger_of_two_rows_goes_first: (ROWS, "running (1, 'writes'): None,"),
    who_waits_for_more_goes_before: (ROWS, "answers 2: "),
    who_waits_for_more_holds_others_up: (RATES, "running "),
    nobody_wakes_the_next: (RATE, "answers 2: None,"),
    any_tool_is_run_again: (PAUSES, "retries: 1,"),
    a_pause_ends_the_attempts: (PAUSES, "retries: 0,"),
    a_place_is_held_in_the_waits: (PAUSES, "group: (1, 0,"),
    the_waits_do_not_grow: (RETRIES, "told (1, 'reads'): "),
    the_budget_is_never_refilled: (RETRIES, "budget: (0, 0, 0),"),
    the_budget_has_no_end: (RETRIES, "budget: (2, 0, 0),"),
    a_probe_keeps_its_permit_when_cancelled: (PAUSES, "running (1, 'writes'): None,"),
    the_circuit_is_not_asked_after_the_queue: (TOTAL, "running (1, 'reads'): 1,"),
    a_queue_does_not_look_at_the_whole_time: (TOTAL, "answers 0: None,"),
    what_is_cut_off_is_the_tools_failure: (TOTAL, "circuit: [('open', 2)],"),
    an_open_circuit_is_no_end_of_the_attempts: (TOTAL, "retries: 2,"),
    an_isolation_is_no_end_of_the_attempts: (ISOLATED, "retries: 2,"),
    a_fallback_answers_for_a_guard: (FALLBACK, "running (1, 'writes'): 1,"),
    a_reload_lets_nobody_in: (BY_HAND, "answers 1: None,"),
    arguments_are_made_for_each_attempt: (RETRIES, "arguments are made once a call"),
    all_keys_have_one_circuit: (KEYED, "circuit: "),
    a_limit_tells_the_state_of_the_tools_own_circuit: (KEYED, "answers "),
    a_fallback_is_asked_while_draining: (DRAIN, "answering: [1],"),
    a_drain_does_not_wait_for_a_fallback: (DRAIN, "drained: True,"),
    a_refusal_does_not_say_when_to_come_again: (PAUSES, "answers "),
    the_last_attempt_is_the_answer: (ISOLATED, "answers "),
    a_call_that_is_cancelled_never_counts: (PLACES_OF_A_RUN, "run: (None, 0),"),
    a_call_that_is_cancelled_keeps_its_place: (PLACES_OF_A_RUN, "run: (None, 1),"),
    who_waits_is_run_after_the_end: (END_OF_A_RUN, "answers 2: None,"),
    a_call_that_the_end_has_stopped_counts: (END_OF_A_RUN, "answers 2: "),
    a_retry_is_a_call_of_its_own: (SAME_CALL, "run: (None, 2),"),
    a_refusal_is_not_counted: (REFUSED, "answers "),
    what_runs_side_by_side_counts_each: (SAME_CALL, "answers "),
    a_call_is_the_last_though_one_is_left: (PLACES_OF_A_RUN, "answers "),
    a_guard_refuses_the_whole_tool: (GUARDED, "asked: [],"),
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_found(plant, FAULTS[plant], monkeypatch)
