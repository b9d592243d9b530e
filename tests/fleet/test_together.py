"""
What one process does by hand all others see, and what all have done adds up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.conftest import Summary

from .cases import Callers, ground, run_news
from .faults import FAULTS, Ground
from .fleet import LOOPS, Fleet, Worker
from .switch import Behaviour
from .worker import Setup

SOON = 2.0
"""Seconds after which a resync has brought what a message did not."""

TOOL = "work-0"


@pytest.fixture(scope="module")
def standing() -> Iterator[tuple[Ground, Fleet]]:
    """
    A fleet for all tests of this module: one process on each loop, which do what they are
    told to.
    """
    setup = Setup(folder="", tasks=0, tools=2, reset_timeout=60.0)
    with ground(setup) as (it, them):
        them.start(3, LOOPS["mixed"])
        yield it, them
        assert not Callers.end(them).raised


@pytest.fixture
def them(standing: tuple[Ground, Fleet]) -> Iterator[Fleet]:
    """
    That fleet, whose circuits are closed before and after the test.
    """
    _, them = standing
    yield them
    them.tool(Behaviour())
    one = them.workers[0]
    them.tell(one, "unisolate", TOOL)
    them.tell(one, "reset", TOOL)
    states(them, "closed")


def states(them: Fleet, wanted: str, tool: str = TOOL) -> None:
    """
    Wait until all processes have a circuit in this state.
    """
    them.until(lambda: all(state(them, each, tool) == wanted for each in them.living))


def state(them: Fleet, worker: Worker, tool: str = TOOL) -> str:
    return them.tell(worker, "state", tool)


def test_an_isolation_is_seen_by_all_and_ends_when_the_last_is_lifted(them: Fleet) -> None:
    one, other, third = them.workers
    them.tell(one, "isolate", TOOL)
    states(them, "isolated")
    them.tell(other, "isolate", TOOL)
    them.tell(one, "release")
    them.watch(SOON)
    assert state(them, third) == "isolated"
    assert "circuit_breaker" in them.tell(third, "call", TOOL)[0]
    them.tell(other, "release")
    states(them, "closed")
    assert them.tell(third, "call", TOOL) == ["found"]


def test_one_process_lifts_the_isolations_of_all(them: Fleet) -> None:
    one, other, third = them.workers
    them.tell(one, "isolate", TOOL)
    them.tell(other, "isolate", TOOL)
    states(them, "isolated")
    them.tell(third, "unisolate", TOOL)
    states(them, "closed")
    them.tell(one, "release")  # it was lifted before
    them.watch(SOON)
    assert state(them, other) == "closed"


def test_a_circuit_that_is_tripped_by_hand_is_open_for_all(them: Fleet) -> None:
    one, other, _ = them.workers
    them.tell(one, "trip", TOOL)
    states(them, "open")
    assert "circuit_breaker" in them.tell(other, "call", TOOL)[0]


def test_a_circuit_that_is_reset_by_hand_is_closed_for_all(them: Fleet) -> None:
    one, other, third = them.workers
    them.tool(Behaviour(mode="dead"))
    them.tell(one, "call", TOOL, 3)
    states(them, "open")
    them.tool(Behaviour())
    them.tell(other, "reset", TOOL)
    states(them, "closed")
    assert them.tell(third, "call", TOOL) == ["found"]


def test_failures_in_a_row_of_two_processes_add_up(them: Fleet) -> None:
    one, other, third = them.workers
    them.tool(Behaviour(mode="dead"))
    them.tell(one, "call", TOOL, 2)
    them.tell(other, "call", TOOL, 1)
    states(them, "open")
    assert "circuit_breaker" in them.tell(third, "call", TOOL)[0]


def test_a_success_ends_the_run_of_its_process(them: Fleet) -> None:
    one, other, _ = them.workers
    them.tool(Behaviour(mode="dead"))
    them.tell(one, "call", TOOL, 2)
    them.tool(Behaviour())
    them.tell(one, "call", TOOL, 1)
    them.watch(0.3)  # for the engine to be told
    them.tool(Behaviour(mode="dead"))
    them.tell(other, "call", TOOL, 2)
    them.watch(SOON)
    assert [state(them, each) for each in them.living] == ["closed"] * 3


def test_a_circuit_that_is_open_is_so_for_a_process_that_comes_later(
    them: Fleet,
) -> None:
    one = them.workers[0]
    them.tell(one, "trip", TOOL)
    states(them, "open")
    (late,) = them.start(1, ["trio"], warm=False)
    calls = len(them.executions())
    assert "circuit_breaker" in them.tell(late, "call", TOOL)[0]
    assert len(them.executions()) == calls
    late.send(0, "stop")
    assert late.wait() == 0


def test_the_figures_of_all_processes_add_up(them: Fleet) -> None:
    tool = "work-1"
    before = {worker.pid: own(them, worker, tool) for worker in them.living}
    for number, worker in enumerate(them.living):
        them.tool(Behaviour(mode="dead"), tool)
        them.tell(worker, "call", tool, 1)
        them.tool(Behaviour(), tool)
        them.tell(worker, "call", tool, number + 2)
    each = [own(them, worker, tool) for worker in them.living]
    assert sum(one["calls"] for one in each) == len(them.executions(tool=tool))
    assert sum(one["total_failures"] for one in each) == len(before)
    for worker in them.living:
        them.until(partial(adds_up, them, worker, tool, each))


def test_calls_that_succeed_are_no_news_to_the_engine(
    standing: tuple[Ground, Fleet], them: Fleet
) -> None:
    it, _ = standing
    before = int(it.engine.info()["total_commands_processed"])
    for worker in them.living:
        assert set(them.tell(worker, "call", TOOL, 1000)) == {"found"}
    after = int(it.engine.info()["total_commands_processed"])
    assert after - before < 300  # what three processes say while that goes on


def own(them: Fleet, worker: Worker, tool: str) -> dict[str, Any]:
    return them.tell(worker, "stats")[tool]


def adds_up(them: Fleet, worker: Worker, tool: str, each: list[dict[str, Any]]) -> bool:
    """
    Whether what this process says of all is the sum of what each says of itself.
    """
    of_all = them.tell(worker, "all_stats")[tool]
    summed = ("calls", "successes", "total_failures", "rejected", "late", "cancelled")
    seconds = sum(one["avg_time"] * one["calls"] for one in each)
    return (
        all(of_all[what] == sum(one[what] for one in each) for what in summed)
        and of_all["processes"] == len(each)
        and of_all["avg_time"] == pytest.approx(seconds / of_all["calls"], abs=1e-4)
    )


def test_a_process_that_ends_in_a_probe_leaves_its_place() -> None:
    setup = Setup(folder="", tasks=5, every=0.05, timeout=30.0, reset_timeout=0.4)
    with ground(setup) as (_, them):
        them.start(2, LOOPS["mixed"])
        settled = them.dies()
        them.until(lambda: them.executions(settled))
        them.tool(Behaviour(mode="hang"))
        them.until(lambda: [e for e in them.executions(settled) if e.ended is None])
        (probe,) = (e for e in them.executions(settled) if e.ended is None)
        prober = next(each for each in them.workers if each.pid == probe.pid)
        left = time.monotonic()
        prober.send(0, "stop")
        assert prober.wait() == 0
        them.until(lambda: len(them.executions(left)) > 0)
        # Not after the lease, which is more than half a minute.
        assert them.executions(left)[0].began - left < 10.0
        them.tool(Behaviour())
        them.until_each_changes(("closed",), since=left)
        assert not Callers.end(them).raised


def test_a_fleet_that_begins_without_an_engine_is_one_when_that_comes() -> None:
    setup = Setup(folder="", tasks=10, every=0.05, reset_timeout=0.4)
    with ground(setup) as (it, them):
        it.engine.kill()
        them.start(3, LOOPS["mixed"])
        assert all(len(e) > 0 for e in [them.executions()])
        it.engine.restart()
        them.watch(SOON)
        one, other, third = them.workers
        them.tell(one, "isolate", TOOL)
        states(them, "isolated")
        them.tell(one, "release")
        states(them, "closed")
        callers = Callers.end(them)
        assert not callers.raised
        assert third.status == other.status == 0


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_an_engine_that_is_not_there_keeps_nobody_from_beginning_or_ending(
    how: str,
) -> None:
    setup = Setup(folder="", tasks=5, every=0.05, reset_timeout=0.4)
    with ground(setup) as (it, them):
        fault = FAULTS[how]
        fault.begin(it)
        began = time.monotonic()
        them.start(3, LOOPS["mixed"])
        entering = time.monotonic() - began
        them.watch(0.5)
        callers = Callers.end(them)
        fault.end(it)
        assert not callers.raised
        # A second each, as promised, and another one for the machine.
        assert entering < 2.0 + callers.worst_lag
        assert callers.leaving < 2.0 + callers.worst_lag


def test_how_fast_open_travels(summary: Summary) -> None:
    found = run_news(rounds=15)
    assert not list(found.violations())
    summary.add("fleet: OPEN seen by others, p50, in us", round(found.median * 1e6))
    summary.add("fleet: OPEN seen by others, p95, in us", round(found.late * 1e6))
