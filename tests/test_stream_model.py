"""
Streams: the orchestrator beside a model of it, by random events and by every order of a few;
and faults in the parts, which both have to notice.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_async import LimitPolicy, Verdict, _execution, _steps
from orchestrator_async._breaker import Permit
from orchestrator_async._calls import Request
from orchestrator_async._execution import Execution
from orchestrator_async._settle import verdict_of_leaving
from orchestrator_async._steps import LAST, Steps
from orchestrator_async._streams import ToolStream

from .conftest import Summary
from .parts import (
    LOOPS,
    ONE_PLACE,
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
from .parts_model import TOOLS
from .streams import EVERYTHING, LEAVES, STREAMS, YIELDS, scenario
from .streams_model import StreamModel, StreamSetup

DEBUG = False

pytestmark = pytest.mark.usefixtures("without_log")

# --- random events ---------------------------------------------------------------------------

setups = st.builds(
    StreamSetup,
    tool=st.sampled_from([None, None, ONE_PLACE]),
    group=st.sampled_from([None, ONE_PLACE, LimitPolicy(max_concurrent=2, max_queue=1)]),
    retry=st.sampled_from([None, retry(), retry(3)]),
    budget=st.none(),
    total_timeout=st.sampled_from([None, 3.25, 5.25]),
    timeout=st.sampled_from([None, None, 2.125]),
    first=st.sampled_from([None, 1.4375, 2.5625]),
    chunk=st.sampled_from([None, 0.8125, 1.9375]),
    fallback=st.sampled_from([None, "made", "writes"]),
    cleans=st.booleans(),
    threshold=st.just(2),
    success_threshold=st.sampled_from([1, 2]),
    reset=st.sampled_from([3.0, 8.0]),
)
KINDS = (
    *["begin"] * 4,
    *["yields"] * 4,
    *["asks"] * 4,
    *["call"] * 6,  # something becomes of one that there is
    *["next"] * 4,
    *["nearly", "isolate"],
)
EVENTS = 30
events = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 1 << 16)),
    min_size=EVENTS,
    max_size=EVENTS,
)
MOST_CALLS = 4  # that go on at one time


def chosen(model: StreamModel, kind: str, which: int) -> Step | None:
    """
    The event that is meant; where it cannot be, another call begins, or something becomes of
    one that there is.
    """
    going_on = [c for c in model.calls if c.parent is None and c.where != "over"]
    is_open = model.circuits["service", None].state == "open"
    if is_open and (kind == "begin" or not going_on):
        kind = "next"  # or most calls would only be refused
    if kind in ("next", "nearly") and model.next_moment() is not None:
        return "time", kind
    if model.isolated and kind in ("begin", "isolate"):
        return ("unisolate",)  # likewise
    if kind == "isolate":
        return ("isolate",)
    steps = STREAMS.possible(model)
    wanted = {
        "yields": [each for each in steps if each[0] == "end" and each[3] in YIELDS],
        "asks": [each for each in steps if each[0] == "ask"],
    }
    steps = wanted.get(kind) or steps
    if len(going_on) < MOST_CALLS and (kind in ("begin", "next") or not steps):
        form = "dispatch" if which % 8 == 0 else "stream"
        return "begin", f"{form} {TOOLS[which // 8 % 2]}"
    return steps[which % len(steps)] if steps else None


@LOOPS
def test_whatever_happens_streams_do_what_the_model_does(
    loop: str, summary: Summary
) -> None:
    ends: set[str] = set()

    @settings(max_examples=80)
    @given(setup=setups, happens=events)
    def both(setup: StreamSetup, happens: list[tuple[str, int]]) -> None:
        pair = run_on(loop, go_through, setup, happens, chosen, STREAMS)
        ends.update(each.kind for each in pair.world.answers.values())
        assert isinstance(pair.model, StreamModel)
        ends.update(pair.model.how.values())
        summary.add("streams: random events", len(pair.trail))

    both()
    # Else the events would have to be others.
    kinds = {"value", "raised", "circuit", "limit", "timeout", "cancelled"}
    assert ends >= {*kinds, "ended", *LEAVES}


# --- every order of a few --------------------------------------------------------------------

PLACE = scenario(
    name="one place, and a queue of one",
    setup=StreamSetup(group=ONE_PLACE, threshold=2, budget=None),
    calls=("stream reads", "stream writes", "stream reads"),
    deeds=("yields", "raises", "breaks"),
    chunks=1,
    ticks=1,
)
TIMED = StreamSetup(
    first=1.4375, chunk=0.8125, total_timeout=2.0, cleans=True, threshold=2, budget=None
)
ALONE = scenario(
    name="all that can become of one stream",
    setup=TIMED,
    calls=("stream reads",),
    deeds=EVERYTHING,
    chunks=3,
    ticks=2,
    nearly=1,
    by_hand=(("isolate",),),
)
TIMES = scenario(
    name="the times of steps, of the whole call, and of a clean-up",
    setup=replace(TIMED, group=ONE_PLACE, total_timeout=2.75),
    calls=("stream reads", "stream writes"),
    deeds=("yields", "gives up"),
    chunks=2,
    ticks=3,
)
PROBED = StreamSetup(threshold=2, success_threshold=2, reset=2.0, first=4.5, budget=None)
PROBES = scenario(
    name="probes, of which two have to succeed",
    setup=PROBED,
    calls=("stream reads", "stream writes"),
    deeds=("yields", "raises", "breaks"),
    chunks=1,
    ticks=2,
    cancels=0,
    by_hand=(("trip",),),
)
PROBE = replace(
    PROBES,
    name="all that can become of a probe",
    setup=replace(PROBED, success_threshold=1, cleans=True),
    calls=("stream reads",),
    deeds=EVERYTHING,
    cancels=1,
)
RETRIES = scenario(
    name="retries before the first chunk, and a fallback that is made",
    setup=StreamSetup(
        retry=retry(3),
        first=1.4375,
        fallback="made",
        total_timeout=3.25,
        threshold=2,
        budget=None,
    ),
    calls=("stream reads",),
    deeds=("yields", "raises", "asks for a pause", "ends", "breaks"),
    chunks=1,
    ticks=3,
    nearly=1,
    by_hand=(("isolate",),),
)
FALLBACK = scenario(
    name="another tool for a fallback, and one place",
    setup=StreamSetup(
        fallback="writes",
        retry=retry(),
        threshold=2,
        group=ONE_PLACE,
        chunk=0.8125,
        budget=None,
    ),
    calls=("stream reads", "stream reads"),
    deeds=("yields", "raises", "breaks"),
    chunks=1,
    ticks=2,
)
JOINED = scenario(
    name="a dispatch beside a stream",
    setup=StreamSetup(
        timeout=2.125,
        chunk=0.8125,
        retry=retry(),
        group=ONE_PLACE,
        threshold=2,
        budget=None,
    ),
    calls=("dispatch reads", "stream reads"),
    deeds=("yields", "tells", "ends", "closes"),
    chunks=2,
    ticks=1,
)

# How many schedules each has. The figure may grow; if it falls, less is seen than was.
SCENARIOS = {
    PLACE: 976,
    ALONE: 8_479,
    TIMES: 722,
    PROBES: 1_734,
    PROBE: 748,
    RETRIES: 1_699,
    FALLBACK: 849,
    JOINED: 1_404,
}


@LOOPS
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_in_every_order_streams_do_what_the_model_does(
    scenario: Scenario, loop: str, summary: Summary
) -> None:
    report: Report = run_on(loop, explore, scenario)

    assert report.schedules >= SCENARIOS[scenario]
    summed_up(report, summary, "streams")


def test_schedules_of_streams_that_go_on_as_one_are_each_counted() -> None:
    assert_counted_plainly(FALLBACK)


# --- faults ----------------------------------------------------------------------------------


def a_place_is_lost_where_a_stream_is_left(patch: pytest.MonkeyPatch) -> None:
    leave = Execution.leave

    async def faulty(self: Any, flight: Any, **how: Any) -> None:
        flight.steps._releases.clear()
        await leave(self, flight, **how)

    patch.setattr(Execution, "leave", faulty)


def a_place_is_given_back_before_the_clean_up(patch: pytest.MonkeyPatch) -> None:
    closed = Execution._closed

    async def faulty(self: Any, flight: Any) -> None:
        flight.steps.release()
        flight.steps._releases.clear()
        await closed(self, flight)

    patch.setattr(Execution, "_closed", faulty)


def a_verdict_is_given_twice(patch: pytest.MonkeyPatch) -> None:
    ended = Execution._ended_early

    def faulty(self: Any, flight: Any, *how: Any, **more: Any) -> Any:
        ended(self, flight, *how, **more)
        flight.steps._releases.clear()
        return ended(self, flight, *how, **more)

    patch.setattr(Execution, "_ended_early", faulty)


def a_permit_is_lost_between_chunks(patch: pytest.MonkeyPatch) -> None:
    ended = Execution._ended_early

    def faulty(self: Any, flight: Any, cancelled: bool, **more: Any) -> Any:
        if not cancelled:
            return ended(self, flight, cancelled, **more)
        flight.steps.release()
        return None

    patch.setattr(Execution, "_ended_early", faulty)


def _again(patch: pytest.MonkeyPatch, name: str) -> None:
    """
    A stream that fails goes on with the chunks of another call.
    """
    begin, step = ToolStream._begin, ToolStream.__anext__

    def begun(self: Any, request: Any, *parts: Any) -> Any:
        self.again = Request(name, request.args, request.call_id, request.context)
        self.again.streams = True
        return begin(self, request, *parts)

    async def faulty(self: Any) -> Any:
        try:
            return await step(self)
        except ConnectionError:
            await self._run(self.again)
            raise

    patch.setattr(ToolStream, "_begin", begun)
    patch.setattr(ToolStream, "__anext__", faulty)


def a_stream_is_tried_again_after_a_chunk(patch: pytest.MonkeyPatch) -> None:
    _again(patch, "reads")


def a_stream_falls_back_after_a_chunk(patch: pytest.MonkeyPatch) -> None:
    _again(patch, "writes")


def the_first_chunk_is_lost(patch: pytest.MonkeyPatch) -> None:
    enter = ToolStream.__aenter__

    async def faulty(self: Any) -> Any:
        await enter(self)
        self._first = LAST
        return self

    patch.setattr(ToolStream, "__aenter__", faulty)


def the_first_chunk_is_given_twice(patch: pytest.MonkeyPatch) -> None:
    step = ToolStream.__anext__

    async def faulty(self: Any) -> Any:
        first = self._first
        chunk = await step(self)
        if first is not LAST and not hasattr(self, "twice"):
            self._first = self.twice = first
        return chunk

    patch.setattr(ToolStream, "__anext__", faulty)


def the_time_of_a_chunk_counts_the_consumers(patch: pytest.MonkeyPatch) -> None:
    step, timeout = Steps.next, Steps._timeout_of_step
    since: dict[Any, float] = {}

    async def noted(self: Any) -> Any:
        try:
            return await step(self)
        finally:
            since[self] = anyio.current_time()

    def faulty(self: Any) -> Any:
        seconds = timeout(self)
        if seconds is None or self.joined or self not in since:
            return seconds
        return max(0.0, seconds - (anyio.current_time() - since[self]))

    patch.setattr(Steps, "next", noted)
    patch.setattr(Steps, "_timeout_of_step", faulty)


def the_whole_time_is_that_of_the_first_step(patch: pytest.MonkeyPatch) -> None:
    timeout = Steps._timeout_of_step

    def faulty(self: Any) -> Any:
        course = self._flight.request.course
        if self.begun and course is not None:
            course.deadline = math.inf
        return timeout(self)

    patch.setattr(Steps, "_timeout_of_step", faulty)


def a_step_has_the_time_of_the_first_one(patch: pytest.MonkeyPatch) -> None:
    timeout = Steps._timeout_of_step

    def faulty(self: Any) -> Any:
        begun, self.begun = self.begun, False
        try:
            return timeout(self)
        finally:
            self.begun = begun

    patch.setattr(Steps, "_timeout_of_step", faulty)


def a_dispatch_has_no_times_of_steps(patch: pytest.MonkeyPatch) -> None:
    timeout = Steps._timeout_of_step
    patch.setattr(
        Steps, "_timeout_of_step", lambda self: None if self.joined else timeout(self)
    )


def who_gives_a_chunk_up_has_never_waited_for_it(patch: pytest.MonkeyPatch) -> None:
    timeout = Steps._timeout_of_step

    def faulty(self: Any) -> Any:
        seconds = timeout(self)
        self.hang_after = math.inf
        return seconds

    patch.setattr(Steps, "_timeout_of_step", faulty)


def a_clean_up_has_all_the_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Steps, "_clean_up", Steps._closing)


def a_tool_that_is_left_does_not_clean_up(patch: pytest.MonkeyPatch) -> None:
    async def faulty(self: Any) -> None:
        self.close_at_once()

    patch.setattr(Steps, "close", faulty)


def a_probe_that_is_left_has_failed(patch: pytest.MonkeyPatch) -> None:
    verdict = verdict_of_leaving
    patch.setattr(
        _execution,
        "verdict_of_leaving",
        lambda flight: Verdict.FAILURE if flight.is_probe else verdict(flight),
    )


def a_probe_that_is_left_has_said_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_execution, "verdict_of_leaving", lambda flight: Verdict.IGNORE)


def a_probe_is_let_in_beside_another(patch: pytest.MonkeyPatch) -> None:
    refusal, permit = Execution.refusal, Execution._permit

    def is_probed(circuit: Any) -> bool:
        return circuit.state == "half_open" and circuit.breaker.probe is not None

    patch.setattr(
        Execution,
        "refusal",
        lambda self, *at: None if is_probed(at[1]) else refusal(self, *at),
    )
    patch.setattr(
        Execution,
        "_permit",
        lambda self, *at: Permit(-1) if is_probed(at[1]) else permit(self, *at),
    )


def who_leaves_has_seen_no_error(patch: pytest.MonkeyPatch) -> None:
    verdict = verdict_of_leaving

    def faulty(flight: Any) -> Verdict:
        flight.steps.gathered.said = Verdict.SUCCESS
        return verdict(flight)

    patch.setattr(_execution, "verdict_of_leaving", faulty)


def a_chunk_tells_of_no_error(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_steps, "judge_value", lambda chunk: Verdict.SUCCESS)


def the_time_of_the_attempts_before_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    enter = ToolStream.__aenter__

    async def faulty(self: Any) -> Any:
        await enter(self)
        self._before = 0.0
        return self

    patch.setattr(ToolStream, "__aenter__", faulty)


# Each with a scenario in which it shows, and what is not as the model says.
FAULTS: dict[Plant, tuple[Scenario, str]] = {
    a_place_is_lost_where_a_stream_is_left: (PLACE, "group: (1, 0,"),
    a_place_is_given_back_before_the_clean_up: (TIMES, "group: (0, 0,"),
    a_verdict_is_given_twice: (PLACE, "whatever began is told of once"),
    a_permit_is_lost_between_chunks: (PROBE, "whatever began is told of once"),
    a_stream_is_tried_again_after_a_chunk: (RETRIES, "nothing is tried again"),
    a_stream_falls_back_after_a_chunk: (FALLBACK, "nothing is tried again"),
    the_first_chunk_is_lost: (ALONE, "inside (0, 'reads'): running,"),
    the_first_chunk_is_given_twice: (ALONE, "no chunk is lost, doubled"),
    the_time_of_a_chunk_counts_the_consumers: (TIMES, "answers 0: Answer(kind='timeout',"),
    the_whole_time_is_that_of_the_first_step: (ALONE, "running (0, 'reads'): 1,"),
    a_step_has_the_time_of_the_first_one: (ALONE, "running (0, 'reads'): 1,"),
    a_dispatch_has_no_times_of_steps: (JOINED, "running (0, 'reads'): 1,"),
    who_gives_a_chunk_up_has_never_waited_for_it: (ALONE, "circuit: [('closed', 0)],"),
    a_clean_up_has_all_the_time: (ALONE, "running (0, 'reads'): 1,"),
    a_tool_that_is_left_does_not_clean_up: (ALONE, "running (0, 'reads'): None,"),
    a_probe_that_is_left_has_failed: (PROBES, "answers 0: Answer(kind='value', ok=False,"),
    a_probe_that_is_left_has_said_nothing: (
        PROBES,
        "answers 0: Answer(kind='value', ok=True,",
    ),
    a_probe_is_let_in_beside_another: (PROBES, "there is one probe at a time"),
    any_tool_is_run_again: (FALLBACK, "retries: 2,"),
    who_leaves_has_seen_no_error: (ALONE, "circuit: [('closed', 0)],"),
    a_chunk_tells_of_no_error: (JOINED, "circuit: [('closed', 0)],"),
    the_time_of_the_attempts_before_is_forgotten: (
        RETRIES,
        "answers 0: Answer(kind='value',",
    ),
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_in_streams_is_found(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_found(plant, FAULTS[plant], monkeypatch)
