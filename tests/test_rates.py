"""
Rates and slow calls through the orchestrator: on its short path, where nobody watches, and
on the long one. What a window counts is in ``test_window``, what trips in
``test_breaker_parts``.
"""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    CircuitChanged,
    CircuitState,
    Event,
    Registry,
    ToolOrchestrator,
)

from .support import HandClock, assert_adds_up

NEVER = 10**6  # failures in a row

ANSWERS = pytest.mark.parametrize("answer", ["dispatch", "run", "call"])
WATCHED = pytest.mark.parametrize("watched", [False, True])


class Clinic:
    """
    A tool that takes as long as it is told, and fails if it is told so.
    """

    def __init__(self, *, watched: bool, **policy: Any) -> None:
        self.clock = HandClock()
        self.events: list[Event] = []
        self.registry = Registry()
        self.registry.tool(name="tool")(self._behave)
        self.takes, self.fails = 0.0, False
        self.orch = ToolOrchestrator(
            self.registry,
            policy=BreakerPolicy(failure_threshold=NEVER, **policy),
            clock=self.clock,
            observers=[self.events.append] if watched else [],
        )
        self.circuit = self.orch.circuit("tool")

    async def _behave(self) -> str:
        await anyio.lowlevel.checkpoint()
        self.clock.turn(self.takes)
        if self.fails:
            raise ConnectionError("down")
        return "fine"

    async def calls(self, number: int, answer: str = "dispatch") -> None:
        for _ in range(number):
            try:
                await getattr(self.orch, answer)("tool")
            except ConnectionError:
                assert self.fails

    def assert_told_of(self, *reasons: str) -> None:
        """
        Those who watch were told of these openings, and of nothing else.
        """
        changed = [each for each in self.events if isinstance(each, CircuitChanged)]
        assert [each.reason for each in changed] == list(reasons)


@WATCHED
@ANSWERS
@pytest.mark.parametrize(
    ("window", "of"),
    [
        ({"window_calls": 10}, "the last 10 calls"),
        ({"window_seconds": 60}, "the 10 calls of the last 60 s"),
    ],
    ids=["calls", "seconds"],
)
async def test_every_success_goes_into_the_windows(
    window: dict[str, Any], of: str, answer: str, watched: bool
) -> None:
    clinic = Clinic(watched=watched, failure_rate=0.3, minimum_calls=10, **window)
    await clinic.calls(5, answer)
    clinic.fails = True
    await clinic.calls(2, answer)
    clinic.fails = False
    await clinic.calls(2, answer)
    assert clinic.circuit.state is CircuitState.CLOSED
    assert clinic.circuit.failures == 0

    clinic.fails = True
    await clinic.calls(1, answer)  # the tenth, and the third that fails

    assert clinic.circuit.state is CircuitState.OPEN
    told = json.loads(await clinic.orch.dispatch("tool"))["error"]
    assert told.startswith(f"tool is down (3 of {of} failed). ")
    if watched:
        clinic.assert_told_of(f"3 of {of} failed")
    assert_adds_up(clinic.orch)


@WATCHED
@ANSWERS
@pytest.mark.parametrize("takes", [5.0, 7.0], ids=["just slow", "slower"])
async def test_a_slow_success_opens_the_circuit_and_that_is_told(
    takes: float, answer: str, watched: bool
) -> None:
    clinic = Clinic(
        watched=watched,
        window_calls=4,
        slow_duration=5,
        slow_rate=0.5,
        minimum_calls=4,
        reset_timeout=100,
    )
    clinic.takes = takes
    await clinic.calls(1, answer)
    clinic.takes = 4.875
    await clinic.calls(2, answer)
    assert clinic.circuit.state is CircuitState.CLOSED
    clinic.takes = takes
    await clinic.calls(1, answer)

    assert clinic.circuit.state is CircuitState.OPEN
    stats = clinic.orch.stats("tool")
    assert (stats.calls, stats.successes, stats.late) == (4, 4, 0)
    if watched:
        clinic.assert_told_of("2 of the last 4 calls took 5 s or more")
        finished = [each for each in clinic.events if isinstance(each, CallFinished)]
        assert [each.verdict for each in finished] == ["success"] * 4
    refused = await clinic.orch.run("tool")
    assert refused.retry_after == 100
    assert "(2 of the last 4 calls took 5 s or more)" in refused.content
    assert_adds_up(clinic.orch)


@WATCHED
@pytest.mark.parametrize("takes", [5.0, 7.0], ids=["just slow", "slower"])
async def test_a_slow_success_that_opens_the_circuit_is_logged(
    watched: bool, takes: float, caplog: pytest.LogCaptureFixture
) -> None:
    clinic = Clinic(watched=watched, window_calls=2, slow_duration=5, minimum_calls=2)
    clinic.takes = takes
    with caplog.at_level("INFO", logger="orchestrator_async"):
        await clinic.calls(2)
    assert "circuit tool: closed -> open" in caplog.text


@WATCHED
async def test_a_probe_that_is_slow_opens_the_circuit_again(watched: bool) -> None:
    clinic = Clinic(watched=watched, window_calls=1, slow_duration=5, minimum_calls=1)
    clinic.takes = 6.0
    await clinic.calls(1)
    clinic.clock.turn(300)
    await clinic.calls(1)
    assert clinic.circuit.state is CircuitState.OPEN
    assert "the probe took 5 s or more" in await clinic.orch.dispatch("tool")

    clinic.clock.turn(300)
    clinic.takes = 1.0
    await clinic.calls(1)
    assert clinic.circuit.state is CircuitState.CLOSED
    assert clinic.orch.stats("tool").calls == 3


@WATCHED
async def test_a_call_that_ends_after_the_circuit_has_moved_on_is_in_no_window(
    watched: bool,
) -> None:
    clinic = Clinic(watched=watched, window_calls=2, slow_duration=5, minimum_calls=2)
    go_on, answers = anyio.Event(), []

    async def wait() -> str:
        await go_on.wait()
        return "fine"

    clinic.registry.tool(name="tool", replace=True)(wait)

    async def call() -> None:
        answers.append(await clinic.orch.dispatch("tool"))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        clinic.circuit.trip()
        clinic.circuit.reset()
        clinic.clock.turn(10)
        go_on.set()

    assert answers == ["fine"] * 3
    assert clinic.circuit.state is CircuitState.CLOSED
    assert clinic.orch.stats("tool").late == 3


@WATCHED
async def test_a_circuit_without_windows_is_opened_by_no_rate(watched: bool) -> None:
    clinic = Clinic(watched=watched)
    clinic.takes, clinic.fails = 1000.0, True
    await clinic.calls(50)
    clinic.fails = False
    await clinic.calls(1)
    assert clinic.circuit.state is CircuitState.CLOSED
    assert clinic.circuit.failures == 0


@WATCHED
async def test_a_call_is_in_the_time_window_by_its_end(watched: bool) -> None:
    clinic = Clinic(watched=watched, window_seconds=60, failure_rate=0.5, minimum_calls=4)
    await clinic.calls(1)
    clinic.takes = 50.0
    await clinic.calls(1)
    clinic.takes, clinic.fails = 0.0, True
    await clinic.calls(2)
    # All four have ended within 50 seconds.
    assert clinic.circuit.state is CircuitState.OPEN
