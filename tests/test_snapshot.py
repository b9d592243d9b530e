"""
Circuits as data: what one process saves, another goes on with.
"""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
import time
from typing import Any

import anyio
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_async import (
    BreakerPolicy,
    CircuitChanged,
    Registry,
    ToolOrchestrator,
)

from .clock import AutojumpEventLoop
from .support import (
    HandClock,
    Service,
    assert_adds_up,
    bench,
    fail,
    succeed,
    trip,
    when_blocked,
)

RESET = 300.0
YEAR = 365.0 * 24 * 3600


def by_json(snapshot: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(snapshot, allow_nan=False)
    read: dict[str, Any] = json.loads(text)
    assert read == snapshot
    return read


def next_process(
    snapshot: Any, *, now: float = 5.0, **options: Any
) -> tuple[ToolOrchestrator, Service, HandClock]:
    """
    Another process, whose monotonic clock began elsewhere.
    """
    clock = HandClock(now)
    orch, service = bench(clock, **options)
    orch.restore(snapshot)
    return orch, service, clock


async def opened(now: float = 1e6, **options: Any) -> tuple[Any, Service, HandClock]:
    clock = HandClock(now)
    orch, service = bench(clock, **options)
    await trip(orch, service)
    return orch, service, clock


async def rest_of(orch: ToolOrchestrator) -> float:
    return (await orch.run("tool")).retry_after or 0.0


# What goes over


async def test_circuits_that_have_seen_nothing_are_left_out() -> None:
    orch, _ = bench(HandClock())
    before = time.time()
    snapshot = by_json(orch.snapshot())
    assert before <= snapshot.pop("taken_at") <= time.time()
    assert snapshot == {"version": 1, "circuits": []}
    await orch.dispatch("tool")
    orch.circuit("tool").force_open()  # a drill is over with its process
    assert orch.snapshot()["circuits"] == []
    orch.restore(orch.snapshot())


async def test_a_snapshot_says_what_has_happened() -> None:
    orch, _, clock = await opened()
    clock.turn(100)
    assert by_json(orch.snapshot())["circuits"] == [
        {
            "name": "tool",
            "is_open": True,
            "rest": 200.0,
            "paused": False,
            "reopenings": 0,
            "failures": 3,
            "disabled": False,
            "isolated": False,
        }
    ]


@pytest.mark.parametrize("there", [0.0, -1e6, 1e9])
async def test_an_open_circuit_stays_open_for_the_rest(there: float) -> None:
    first, _, clock = await opened()
    clock.turn(100)
    orch, service, clock = next_process(by_json(first.snapshot()), now=there)
    assert orch.circuit("tool").state == "open"
    assert orch.circuit("tool").failures == 3
    assert await rest_of(orch) == pytest.approx(200, abs=1)
    clock.turn(201)
    assert await orch.dispatch("tool") == "fine"
    assert orch.circuit("tool").state == "closed"
    assert service.runs == 1


@pytest.mark.parametrize("years", [1, -1, 0])
async def test_a_wall_clock_that_is_wrong_shortens_a_wait_at_the_most(years: float) -> None:
    first, _, _ = await opened()
    snapshot = first.snapshot()
    snapshot["taken_at"] -= years * YEAR  # the clock is ahead of it by so much
    orch, service, _ = next_process(snapshot)
    assert orch.circuit("tool").state == "open"  # and none closes unprobed
    if years > 0:
        service.behaviour = fail
        await orch.dispatch("tool")
        assert service.runs == 1
        assert orch.circuit("tool").state == "open"
    assert await rest_of(orch) == pytest.approx(RESET, abs=1)


async def test_half_open_is_open_and_may_be_probed() -> None:
    first, service, clock = await opened(policy=BreakerPolicy(success_threshold=2))
    clock.turn(RESET)
    await first.dispatch("tool")
    assert first.circuit("tool").state == "half_open"
    orch, service, _ = next_process(by_json(first.snapshot()))
    assert orch.circuit("tool").state == "open"
    assert await orch.dispatch("tool") == "fine"
    assert orch.circuit("tool").state == "closed"
    assert service.runs == 1


async def test_a_pause_goes_over_as_a_pause() -> None:
    clock = HandClock()
    first, service = bench(clock)

    async def busy() -> dict[str, Any]:
        return {"error": "busy", "retry_after": 60}

    service.behaviour = busy
    await first.dispatch("tool")
    orch, service, clock = next_process(by_json(first.snapshot()))
    text = await orch.dispatch("tool")
    assert "asked for a pause" in text
    assert json.loads(text)["retry_after"] == 60
    clock.turn(60)
    assert await orch.dispatch("tool") == "fine"


async def test_a_pause_is_capped_by_the_settings_of_the_process_that_goes_on() -> None:
    clock = HandClock()
    first, service = bench(clock)

    async def busy() -> dict[str, Any]:
        return {"error": "busy", "retry_after": 250}

    service.behaviour = busy
    await first.dispatch("tool")
    policy = BreakerPolicy(max_pause=30)
    orch, _, _ = next_process(first.snapshot(), policy=policy)
    assert await rest_of(orch) == 30


async def test_a_wait_is_capped_by_the_settings_of_the_process_that_goes_on() -> None:
    first, _, _ = await opened()
    orch, _, _ = next_process(first.snapshot(), policy=BreakerPolicy(reset_timeout=10))
    assert await rest_of(orch) == 10


async def test_a_time_that_has_grown_goes_on_growing() -> None:
    policy = BreakerPolicy(reset_timeout=10, reset_multiplier=2)
    first, service, clock = await opened(policy=policy)
    service.behaviour = fail
    for length in (10, 20):
        clock.turn(length)
        await first.dispatch("tool")
    orch, service, clock = next_process(by_json(first.snapshot()), policy=policy)
    assert await rest_of(orch) == pytest.approx(40, abs=1)
    clock.turn(40)
    service.behaviour = fail
    await orch.dispatch("tool")
    assert await rest_of(orch) == 80


async def test_failures_of_a_closed_circuit_go_over() -> None:
    first, service = bench(HandClock())
    service.behaviour = fail
    for _ in range(2):
        await first.dispatch("tool")
    orch, service, _ = next_process(by_json(first.snapshot()))
    assert orch.circuit("tool").state == "closed"
    service.behaviour = fail
    await orch.dispatch("tool")
    assert orch.circuit("tool").state == "open"


async def test_what_was_done_by_hand_is_done_again() -> None:
    first, _, _ = await opened()
    held = first.circuit("tool").isolate()
    first.circuit("tool").isolate()
    orch, _, _ = next_process(by_json(first.snapshot()))
    circuit = orch.circuit("tool")
    assert circuit.state == "isolated"
    held.release()
    assert circuit.state == "isolated"
    circuit.unisolate()
    assert circuit.state == "open"

    first.circuit("tool").unisolate()
    first.circuit("tool").disable()
    orch, _, _ = next_process(by_json(first.snapshot()))
    circuit = orch.circuit("tool")
    assert circuit.state == "disabled"
    assert await orch.dispatch("tool") == "fine"
    assert orch.stats("tool").would_reject == 1
    circuit.reset()
    assert circuit.state == "closed"


async def test_what_was_forced_open_is_not_though_it_is_open_beneath() -> None:
    first, _, clock = await opened()
    first.circuit("tool").force_open()
    clock.turn(RESET)
    orch, _, _ = next_process(by_json(first.snapshot()))
    assert orch.circuit("tool").state == "open"
    assert await orch.dispatch("tool") == "fine"


# Clocks


def test_a_circuit_whose_time_nobody_has_told_keeps_all_of_it() -> None:
    first, _ = bench(anyio.current_time)
    first.circuit("tool").trip()  # no loop runs
    snapshot = by_json(first.snapshot())
    assert snapshot["circuits"][0]["rest"] == RESET
    orch, _ = bench(anyio.current_time)
    orch.restore(snapshot)
    assert orch.snapshot()["circuits"][0]["rest"] == pytest.approx(RESET, abs=1)

    async def later() -> None:
        assert await rest_of(orch) == pytest.approx(RESET, abs=1)

    anyio.run(later)


def test_a_snapshot_in_another_loop_keeps_what_was_left() -> None:
    orch, service = bench(anyio.current_time)
    jumping = {"loop_factory": AutojumpEventLoop}
    anyio.run(trip, orch, service, backend_options=jumping)
    later = trio.testing.MockClock()
    later.jump(1e6)

    async def look() -> None:
        assert orch.snapshot()["circuits"][0]["rest"] == pytest.approx(RESET)
        assert await rest_of(orch) == pytest.approx(RESET)

    anyio.run(look, backend="trio", backend_options={"clock": later})


@pytest.mark.parametrize("by", ["trip", "restore"])
def test_the_time_of_a_new_loop_counts_from_the_beginning(by: str) -> None:
    orch, service = bench(anyio.current_time)
    anyio.run(trip, orch, service, backend_options={"loop_factory": AutojumpEventLoop})

    async def again() -> None:
        if by == "trip":
            orch.circuit("tool").trip()
        else:
            orch.restore(orch.snapshot())
        await anyio.sleep(RESET + 1)
        assert await orch.dispatch("tool") == "fine"

    anyio.run(again, backend_options={"loop_factory": AutojumpEventLoop})


# Tools and circuits of the process that goes on


async def test_tools_that_come_later_go_on_with_what_is_left_then() -> None:
    first, _, _ = await opened()
    clock, service = HandClock(), Service()
    orch = ToolOrchestrator(Registry(), clock=clock)
    orch.restore(by_json(first.snapshot()))
    clock.turn(100)
    service.offer(orch.registry)
    [offered] = orch.offered_tools("mcp")
    assert "Out of service" in offered["description"]
    assert await rest_of(orch) == pytest.approx(200, abs=1)
    assert orch.circuit("tool").state == "open"
    orch.registry.remove("tool")
    service.offer(orch.registry)
    assert orch.circuit("tool").state == "closed"  # it is another tool


async def test_tools_that_share_a_circuit_go_on_together() -> None:
    def both() -> tuple[ToolOrchestrator, Service]:
        registry, service = Registry(), Service()
        service.offer(registry, "one", circuit="db")
        service.offer(registry, "two", circuit="db")
        return ToolOrchestrator(registry, clock=HandClock()), service

    first, service = both()
    await trip(first, service, "one")
    snapshot = by_json(first.snapshot())
    assert [each["name"] for each in snapshot["circuits"]] == ["db"]
    orch, _ = both()
    orch.restore(snapshot)
    assert not (await orch.run("two")).ok


async def test_circuits_that_nobody_knows_are_no_matter() -> None:
    first, _, _ = await opened()
    snapshot = first.snapshot()
    snapshot["circuits"][0]["name"] = "other"
    orch, _, _ = next_process(snapshot)
    assert await orch.dispatch("tool") == "fine"
    assert list(orch._fleet.circuits) == ["tool"]
    snapshot["circuits"][0]["key"] = "a key of a tool that has none"
    snapshot["circuits"][0]["name"] = "tool"
    orch, _, _ = next_process(snapshot)
    assert await orch.dispatch("tool") == "fine"


async def test_calls_that_run_have_no_say_in_a_restored_circuit() -> None:
    first, _, _ = await opened()
    orch, service = bench(HandClock())
    go_on = anyio.Event()

    async def late() -> str:
        await go_on.wait()
        return await succeed()

    service.behaviour = late
    changes: list[CircuitChanged] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        orch.add_observer(
            lambda event: changes.append(event) if type(event) is CircuitChanged else None
        )
        orch.restore(first.snapshot())
        go_on.set()
    assert orch.stats("tool").late == 1
    assert orch.circuit("tool").state == "open"
    assert [(each.new, each.reason) for each in changes] == [
        ("open", "restored from a snapshot")
    ]
    assert_adds_up(orch)


async def test_a_probe_that_runs_is_alone_and_has_its_say_whatever_is_restored() -> None:
    orch, service, clock = await opened()
    snapshot = orch.snapshot()
    clock.turn(RESET)
    go_on = anyio.Event()

    async def late() -> str:
        await go_on.wait()
        return "fine"

    service.behaviour = late
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orch.dispatch, "tool")
        await when_blocked()
        assert orch.circuit("tool").state == "half_open"
        orch.restore(snapshot)
        orch.restore(orch.snapshot())
        clock.turn(RESET / 2)
        assert (await orch.run("tool")).attempts == 0
        go_on.set()
    assert orch.circuit("tool").state == "closed"
    assert orch.stats("tool").late == 0


def test_a_new_process_goes_on() -> None:
    program = """if True:
        import json, sys, anyio
        from orchestrator_async import Registry, ToolOrchestrator
        registry = Registry()
        @registry.tool
        async def tool() -> str:
            raise ConnectionError("down")
        orch = ToolOrchestrator(registry)
        text = sys.stdin.read()
        if text:
            orch.restore(json.loads(text))
            answer = json.loads(anyio.run(orch.dispatch, "tool"))
            print(json.dumps([answer["state"], answer["retry_after"]]))
        else:
            for _ in range(3):
                anyio.run(orch.dispatch, "tool")
            print(json.dumps(orch.snapshot()))
    """
    said = ""
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=said,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        said = done.stdout
    state, wait = json.loads(said)
    assert state == "open"
    assert RESET - 60 < wait <= RESET


# Damage

GOOD: dict[str, Any] = {
    "version": 1,
    "taken_at": 1.7e9,
    "circuits": [
        {
            "name": name,
            "is_open": True,
            "rest": 200.0,
            "paused": False,
            "reopenings": 1,
            "failures": 3,
            "disabled": False,
            "isolated": False,
        }
        for name in ("tool", "later")
    ],
}
ODD = st.sampled_from(
    [math.nan, math.inf, -math.inf, 1e308, -1, -1e-9, 0, True, False, None, 10**400, "", {}]
) | st.sampled_from([10**9, 10**9 + 1, 10**4000, [[[[]]]], "tool", 0.5, 10**20])
VALUES = ODD | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = [
    *((field,) for field in GOOD),
    *(("circuits", 0, field) for field in (*GOOD["circuits"][0], "key")),
    ("circuits", 0),
    ("circuits", 1),
]


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    snapshot = copy.deepcopy(GOOD)
    for *path, last in draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3)):
        at: Any = snapshot
        for step in path:
            try:
                at = at[step]
            except (LookupError, TypeError):
                break
        else:
            try:
                if draw(st.booleans()):
                    at[last] = draw(VALUES)
                else:
                    del at[last]
            except (LookupError, TypeError):
                pass
    return snapshot


async def assert_told_or_right(snapshot: Any) -> None:
    clock = HandClock()
    orch, service = bench(clock)
    service.behaviour = fail
    await orch.dispatch("tool")
    breaker = orch.circuit("tool").breaker
    before = breaker.saved(clock()), breaker.generation
    told = ""
    try:
        orch.restore(snapshot)
    except (TypeError, ValueError) as error:
        told = str(error)
    if told:
        assert "snapshot" in told
        assert len(told) < 300
        assert (breaker.saved(clock()), breaker.generation) == before
        assert not orch._fleet._saved
        return
    service.behaviour = succeed
    json.dumps(orch.snapshot(), allow_nan=False)
    assert 0 <= await rest_of(orch) <= RESET
    orch.circuit("tool").unisolate()
    clock.turn(RESET)
    assert await orch.dispatch("tool") == "fine"
    assert orch.circuit("tool").state in ("closed", "disabled")


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@settings(max_examples=400)
@given(damaged())
async def test_a_damaged_snapshot_is_told_of_or_right(snapshot: Any) -> None:
    await assert_told_or_right(snapshot)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize(
    "value",
    [10**5000, [10**5000], float("nan"), "x" * 10**6, 1e308],
    ids=["huge", "huge in a list", "nan", "long", "much"],
)
@pytest.mark.parametrize("path", FIELDS, ids=str)
async def test_whatever_a_field_is_it_is_told_of_or_right(path: Any, value: Any) -> None:
    snapshot = copy.deepcopy(GOOD)
    at: Any = snapshot
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    await assert_told_or_right(snapshot)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_what_is_nested_too_deep_to_be_shown_is_told_of() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match=r"snapshot: circuits\[0\]=\(list\)"):
        bench(HandClock())[0].restore({**GOOD, "circuits": [deep]})
    while deep:  # freed one by one
        deep = deep.pop()


@pytest.mark.parametrize("snapshot", [None, "{}", b"{}", [], 3], ids=repr)
def test_what_is_no_mapping_is_no_snapshot(snapshot: Any) -> None:
    with pytest.raises(
        TypeError, match=r"a snapshot is a mapping, not a \w+; .*json\.loads"
    ):
        bench(HandClock())[0].restore(snapshot)


def test_an_error_names_the_place() -> None:
    orch, _ = bench(HandClock())
    twice = copy.deepcopy(GOOD)
    twice["circuits"][1]["name"] = "tool"
    for snapshot, place in [
        ({**GOOD, "version": 2}, "snapshot: version=2; expected 1"),
        ({**GOOD, "version": 0}, "snapshot: version=0; expected 1"),
        ({**GOOD, "version": True}, "snapshot: version=True; expected 1"),
        ({**GOOD, "version": 1.0}, "snapshot: version=1.0; expected 1"),
        ({**GOOD, "taken_at": "now"}, "snapshot: taken_at='now'; expected seconds"),
        ({**GOOD, "circuits": {}}, r"snapshot: circuits=\{\}; expected a list"),
        ({**GOOD, "circuits": [3]}, r"snapshot: circuits\[0\]=3; expected an object"),
        (twice, r"snapshot: circuits\[1\]: 'tool' is there twice"),
    ]:
        with pytest.raises(ValueError, match=place):
            orch.restore(snapshot)
    for field, value, expected in [
        ("name", 3, "expected text"),
        ("key", 3, "expected text, or none"),
        ("is_open", 1, "expected a bool"),
        ("failures", True, "expected a whole number from 0 on"),
        ("failures", -1, "expected a whole number from 0 on"),
        ("reopenings", 10**9 + 1, "expected a whole number from 0 on"),
        ("rest", None, "expected seconds, from 0 on"),
        ("rest", -1, "expected seconds, from 0 on"),
        ("rest", -0.5, "expected seconds, from 0 on"),
        ("rest", float("inf"), "expected seconds, from 0 on"),
    ]:
        snapshot = copy.deepcopy(GOOD)
        snapshot["circuits"][1][field] = value
        place = rf"snapshot: circuits\[1\]: {field}={value}; {expected}"
        with pytest.raises(ValueError, match=place):
            orch.restore(snapshot)
    assert orch.circuit("tool").state == "closed"


def test_the_ends_of_what_can_be_in_a_snapshot() -> None:
    snapshot = copy.deepcopy(GOOD)
    snapshot["circuits"][0] |= {"reopenings": 0, "rest": 0}
    for count in (10**9, 9**9, 10**8 + 1, 1 << 20, 200):
        snapshot["circuits"][0]["failures"] = count
        orch, _ = bench(HandClock())
        orch.restore(snapshot)
        assert orch.circuit("tool").failures == count


@pytest.mark.parametrize(
    ("field", "value"), [("rest", 3), ("paused", True), ("reopenings", 1)]
)
def test_what_is_closed_has_nothing_that_only_an_open_circuit_has(
    field: str, value: Any
) -> None:
    snapshot = copy.deepcopy(GOOD)
    closed = {"is_open": False, "rest": 0, "paused": False, "reopenings": 0}
    snapshot["circuits"][0] |= closed
    orch, _ = bench(HandClock())
    orch.restore(snapshot)
    snapshot["circuits"][0][field] = value
    with pytest.raises(ValueError, match=rf"circuits\[0\]: {field}=.*not open"):
        orch.restore(snapshot)


async def test_the_rest_begins_when_it_is_restored_and_not_when_somebody_asks() -> None:
    snapshot = copy.deepcopy(GOOD)
    snapshot["taken_at"] = time.time()
    snapshot["circuits"][0] |= {"is_open": True, "rest": 100.0, "paused": False}
    clock = HandClock()
    orch, _ = bench(clock)
    orch.restore(snapshot)
    clock.turn(40)
    assert (await orch.run("tool")).retry_after == pytest.approx(60, abs=1)


async def test_a_wait_is_what_was_left_where_the_wall_clock_went_back() -> None:
    first, _, _ = await opened()
    snapshot = first.snapshot()
    snapshot["taken_at"] += 1000
    snapshot["circuits"][0]["rest"] = 100.0
    orch, _, _ = next_process(snapshot)
    assert await rest_of(orch) == 100.0


async def test_what_is_kept_for_a_tool_that_has_not_come_is_in_the_next_snapshot() -> None:
    one, other = Registry(), ToolOrchestrator(Registry())
    one.tool(name="tool")(fails)
    first = ToolOrchestrator(one, failure_threshold=1)
    await first.dispatch("tool")
    other.restore(first.snapshot())
    other.restore({"version": 1, "taken_at": 0, "circuits": []})
    assert [each["name"] for each in other.snapshot()["circuits"]] == ["tool"]


async def test_what_has_come_to_nothing_is_not_kept_for_a_tool_that_never_comes() -> None:
    clock = HandClock()
    orch = ToolOrchestrator(Registry(), clock=clock)
    closed = {"is_open": False, "rest": 0, "paused": False, "reopenings": 0}
    saved = copy.deepcopy(GOOD["circuits"][0])
    circuits = [
        {**saved, "name": "open", "rest": 30.0},
        {**saved, "name": "over", "rest": 10.0},
        {**saved, "name": "isolated", **closed, "isolated": True},
        {**saved, "name": "disabled", **closed, "disabled": True},
        {**saved, "name": "failing", **closed, "failures": 2},
    ]
    orch.restore({**GOOD, "taken_at": time.time(), "circuits": circuits})
    clock.turn(20)
    kept = {each["name"]: each["rest"] for each in orch.snapshot()["circuits"]}
    assert kept == {"open": pytest.approx(10, abs=1), "isolated": 0, "disabled": 0}


@pytest.mark.parametrize("first", ["asyncio", "trio"])
@pytest.mark.parametrize("second", ["asyncio", "trio"])
def test_what_waits_for_a_tool_is_not_over_by_the_clock_of_another_loop(
    first: str, second: str
) -> None:
    registry = Registry()
    orch = ToolOrchestrator(registry, clock=anyio.current_time)
    snapshot = copy.deepcopy(GOOD)
    snapshot["taken_at"] = time.time()
    snapshot["circuits"] = [{**snapshot["circuits"][0], "name": "late", "rest": 100.0}]

    async def restore() -> None:
        orch.restore(snapshot)

    async def ask() -> float | None:
        registry.tool(name="late")(fails)
        return (await orch.run("late")).retry_after

    def options(backend: str, start: float) -> dict[str, Any]:
        if backend == "trio":
            clock = trio.testing.MockClock(autojump_threshold=0)
            clock.jump(start)
            return {"clock": clock}

        def make() -> AutojumpEventLoop:
            loop = AutojumpEventLoop()
            loop.jump(start)
            return loop

        return {"loop_factory": make}

    anyio.run(restore, backend=first, backend_options=options(first, 10))
    rest = anyio.run(ask, backend=second, backend_options=options(second, 10_000))
    assert rest == pytest.approx(100, abs=1)


async def test_an_observer_may_remove_a_tool_whose_circuit_is_restored() -> None:
    one, registry = Registry(), Registry()
    one.tool(name="tool")(fails)
    first = ToolOrchestrator(one, failure_threshold=1)
    await first.dispatch("tool")
    orch = ToolOrchestrator(registry)
    orch.restore(first.snapshot())

    def remove(event: object) -> None:
        if "tool" in registry:
            registry.remove("tool")

    orch.add_observer(remove)
    registry.tool(name="tool")(fails)
    await orch.dispatch("tool")
    assert json.loads(await orch.dispatch("tool"))["unknown_tool"] is True
    assert orch.get_fleet_stats() == {}


async def fails() -> None:
    raise ConnectionError("down")
