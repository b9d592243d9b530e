"""
Streams: the orchestrator beside a model of it, by random events and by every order of a few;
and faults in the parts, which both have to notice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_async import LimitPolicy, RetryPolicy, Verdict, _retry
from orchestrator_async._execution import Execution
from orchestrator_async._steps import Steps

from .conftest import Summary
from .parts import DifferError, Pair, Report, Scenario, Step, explore, paired, run_on
from .parts_model import TOOLS, no_chance
from .streams import ENDS, LEAVES, STREAMS, YIELDS, scenario
from .streams_model import StreamModel, StreamSetup

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "trio"])


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    """
    What is logged of thousands of calls would take longer than the calls.
    """
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def retry(attempts: int = 2) -> RetryPolicy:
    chance: dict[str, Any] = {"wait_jitter": 0.0, "jitter_source": no_chance}
    return RetryPolicy(attempts=attempts, wait_initial=0.25, wait_max=2.5, **chance)


ONE_PLACE = LimitPolicy(max_concurrent=1, max_queue=1, max_wait=1.5)

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
MOST_CALLS = 4  # that go on at one time; not more than six in all have moments of their own


def chosen(model: StreamModel, kind: str, which: int) -> Step | None:
    """
    The event that is meant; where it cannot be, another call begins, or something becomes of
    one that there is.
    """
    going_on = [c for c in model.calls if c.parent is None and c.where != "over"]
    if kind in ("next", "nearly") and model.next_moment() is not None:
        return "time", kind
    if model.isolated and kind in ("begin", "isolate"):
        return ("unisolate",)  # or most calls would only be refused
    if kind == "isolate":
        return ("isolate",)
    steps = STREAMS.possible(model)
    wanted = {
        "yields": [each for each in steps if each[0] == "end" and each[3] in YIELDS],
        "asks": [each for each in steps if each[0] == "ask"],
    }
    steps = wanted.get(kind) or steps
    if len(going_on) < MOST_CALLS and (kind == "begin" or not steps):
        form = "dispatch" if which % 8 == 0 else "stream"
        return "begin", f"{form} {TOOLS[which // 8 % 2]}"
    return steps[which % len(steps)] if steps else None


async def go_through(setup: StreamSetup, happens: list[tuple[str, int]]) -> Pair:
    async with paired(setup, STREAMS) as pair:
        for kind, which in happens:
            assert isinstance(pair.model, StreamModel)
            step = chosen(pair.model, kind, which)
            # Where two are due at one moment, nobody has promised who goes first.
            if step is not None and not STREAMS.is_tied(pair.model, step):
                await pair.step(step)
        await pair.finish()
    return pair


@LOOPS
def test_whatever_happens_streams_do_what_the_model_does(
    loop: str, summary: Summary
) -> None:
    ends: set[str] = set()

    @settings(max_examples=80)
    @given(setup=setups, happens=events)
    def both(setup: StreamSetup, happens: list[tuple[str, int]]) -> None:
        pair = run_on(loop, go_through, setup, happens)
        ends.update(each.kind for each in pair.world.answers.values())
        assert isinstance(pair.model, StreamModel)
        ends.update(pair.model.how.values())
        summary.add("streams: random events", len(pair.trail))

    both()
    # Else the events would have to be others.
    kinds = {"value", "raised", "circuit", "limit", "timeout", "cancelled"}
    assert ends >= {*kinds, "ended", *LEAVES}
