"""
The helpers for users' own tests: that what they pretend is what would have happened.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

import orchestrator_async
from orchestrator_async import (
    CallFinished,
    CallRejected,
    CircuitChanged,
    InvalidResultError,
    Registry,
    Tool,
    ToolCancelledError,
    ToolContext,
    ToolOrchestrator,
    ToolTimeoutError,
    UnknownToolError,
    exceptions_only,
    testing,
)
from orchestrator_async.testing import (
    FakeClock,
    Fault,
    Faults,
    Recorder,
    ScriptedTool,
    ScriptEndedError,
    broken_off,
    forced_open,
    garbage,
    hang,
    huge,
    malformed,
    slow,
)
from orchestrator_async.testing.pytest_plugin import (
    MakeOrchestrator,
    MakeScriptedTool,
    fake_clock,
    make_orchestrator,
    recorder,
    scripted_tool,
    tool_registry,
)

from .clock import real_time, virtual_time
from .support import assert_adds_up, when_blocked

PARTS = sorted((Path(orchestrator_async.__file__).parent / "testing").glob("*.py"))
ROOT = Path(orchestrator_async.__file__).parent.parent
PLUGIN = PARTS[0].with_name("pytest_plugin.py")
FIXTURES = [fake_clock, make_orchestrator, recorder, scripted_tool, tool_registry]


def bench(*outcomes: object, **options: Any) -> tuple[ToolOrchestrator, ScriptedTool]:
    """
    An orchestrator on a clock that stands still, with one scripted tool named ``tool``.
    """
    registry, scripted = Registry(), ScriptedTool(outcomes, name="tool")
    registry.add(scripted.tool())
    return ToolOrchestrator(registry, **{"clock": FakeClock(), **options}), scripted


# --- the package ------------------------------------------------------------------------


def test_all_is_sorted_and_every_name_has_a_docstring() -> None:
    assert testing.__all__ == sorted(testing.__all__)
    for name in testing.__all__:
        value = getattr(testing, name)
        assert inspect.getdoc(value), name
        for method, member in vars(value).items() if inspect.isclass(value) else ():
            if not method.startswith("_") and callable(member):
                assert inspect.getdoc(member), f"{name}.{method}"


@pytest.mark.parametrize("path", PARTS, ids=lambda path: path.stem)
def test_the_helpers_know_the_public_names_alone(path: Path) -> None:
    allowed = {"anyio", "orchestrator_async", *sys.stdlib_module_names} - {"asyncio"}
    if path.stem == "pytest_plugin":
        allowed.add("pytest")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert all(each.name.partition(".")[0] in allowed for each in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert (node.module or "").partition(".")[0] in allowed
            if node.module == "orchestrator_async":
                assert {each.name for each in node.names} <= set(orchestrator_async.__all__)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1


def test_nobody_gets_the_helpers_who_did_not_ask_for_them() -> None:
    code = "import sys, orchestrator_async; print(*sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "orchestrator_async.testing" not in said.stdout.split()
    code = "import sys, orchestrator_async.testing; print(*sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not {"pytest", "_pytest", "pydantic", "trio"} & set(said.stdout.split())


# --- the clock --------------------------------------------------------------------------


async def test_a_fake_clock_stands_still_until_it_is_told_to_go_on() -> None:
    clock = FakeClock(5)
    orch, scripted = bench(ConnectionError, clock=clock, reset_timeout=60)
    for _ in range(3):
        await orch.dispatch("tool")
    assert (await orch.run("tool")).retry_after == 60

    clock.advance(59.5)
    assert (await orch.run("tool")).retry_after == 0.5
    clock.advance(0.5)
    await orch.dispatch("tool")

    assert (clock(), clock.now, scripted.calls) == (65, 65, 4)
    assert repr(clock) == "FakeClock(65.0)"


@pytest.mark.parametrize("seconds", [-1, -math.inf, math.inf, math.nan])
def test_a_fake_clock_never_goes_back(seconds: float) -> None:
    clock = FakeClock()
    with pytest.raises(ValueError, match="seconds="):
        clock.advance(seconds)
    assert clock() == 0
    if not math.isfinite(seconds):
        with pytest.raises(ValueError, match="now="):
            FakeClock(seconds)


# --- scripts ----------------------------------------------------------------------------


async def test_a_scripted_tool_takes_its_outcomes_in_order() -> None:
    error = ConnectionError("down")

    def add(a: int, b: int) -> int:
        return a + b

    async def later(**arguments: Any) -> str:
        await anyio.lowlevel.checkpoint()
        return str(arguments)

    orch, scripted = bench(1, {"a": None}, None, error, TimeoutError, add, later)
    assert [await orch.call("tool") for _ in range(3)] == [1, {"a": None}, None]
    with pytest.raises(ConnectionError) as caught:
        await orch.call("tool")
    assert caught.value is error
    with pytest.raises(TimeoutError):
        await orch.call("tool")
    assert await orch.call("tool", {"a": 1, "b": 2}) == 3
    assert scripted.left == 1
    assert await orch.call("tool", {"x": 1}) == "{'x': 1}"

    assert (scripted.calls, scripted.left, scripted.overrun) == (7, 0, 0)
    assert scripted.arguments[4:] == [{}, {"a": 1, "b": 2}, {"x": 1}]
    assert repr(scripted) == "<ScriptedTool 'tool': 7 calls, 0 of 7 outcomes left>"
    assert_adds_up(orch)


async def test_an_exception_that_is_raised_again_and_again_keeps_no_frames() -> None:
    orch, _ = bench(error := ValueError("no"), failure_threshold=99)
    depths = []
    for _ in range(5):
        with pytest.raises(ValueError, match="no"):
            await orch.call("tool")
        depths.append(len(inspect.getinnerframes(error.__traceback__)))  # type: ignore[arg-type]
    # The first call of a tool goes another way than those that follow.
    assert len(set(depths[1:])) == 1


async def test_a_script_that_is_over_repeats_its_last_outcome() -> None:
    orch, scripted = bench("a", "b")
    assert [await orch.call("tool") for _ in range(4)] == ["a", "b", "b", "b"]
    assert (scripted.left, scripted.overrun) == (0, 2)


async def test_a_script_may_begin_anew() -> None:
    scripted = ScriptedTool("ab", after="cycle")
    assert [await scripted() for _ in range(5)] == ["a", "b", "a", "b", "a"]


async def test_a_script_that_is_over_may_fail_the_test_through_dispatch() -> None:
    scripted = ScriptedTool(["a"], name="tool", after="fail")
    registry = Registry()
    registry.add(scripted.tool())
    orch = ToolOrchestrator(registry)
    assert await orch.dispatch("tool") == "a"
    for method in (orch.dispatch, orch.call, orch.run):
        with pytest.raises(ScriptEndedError, match=r"and its script has 1 outcome$"):
            await method("tool")
    with pytest.raises(AssertionError, match="called 5 times"):
        await orch.dispatch_all([{"type": "tool_use", "name": "tool", "input": {}}])
    assert scripted.overrun == 4
    with pytest.raises(ScriptEndedError, match="called 5 times"):
        scripted.verify()
    ScriptedTool([1], after="fail").verify()
    assert orch.stats("tool").total_failures == 0


def test_a_strict_script_adds_to_the_control_flow_of_the_tool() -> None:
    async def fn() -> None: ...

    policy = orchestrator_async.ToolPolicy(control_flow=(EOFError,), timeout=3)
    like = Tool(fn=fn, policy=policy)
    tool = ScriptedTool([1], after="fail").tool(like)
    assert tool.policy.control_flow == (EOFError, ScriptEndedError)
    assert tool.policy.timeout == 3
    assert ScriptedTool([1]).tool(like).policy == policy
    assert ScriptedTool([1]).tool(like, timeout=9).policy.timeout == 9
    assert ScriptedTool([1]).tool(like, circuit="c").policy == policy
    assert ScriptedTool([1]).tool(timeout=9, circuit="c").circuit == "c"


def test_a_script_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ScriptedTool([])
    with pytest.raises(ValueError, match="after='stop'"):
        ScriptedTool([1], after="stop")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ScriptedTool([1]).tool(timeut=3)
    for seconds in (-1, math.inf, math.nan):
        with pytest.raises(ValueError, match="seconds="):
            slow(seconds)
    with pytest.raises(ValueError, match="size="):
        huge(-1)


async def test_a_scripted_tool_is_registered_like_any_callable() -> None:
    registry = Registry()
    registry.tool(ScriptedTool(["one"], name="one"))
    registry.tool(name="two")(ScriptedTool(["two"]))
    registry.add(ScriptedTool(["three"], name="three").tool(description="Three."))
    orch = ToolOrchestrator(registry)
    assert [await orch.dispatch(name) for name in ("one", "two", "three")] == [
        "one",
        "two",
        "three",
    ]
    assert registry.definitions("mcp")[2]["description"] == "Three."


def sample(city: str, context: ToolContext, days: int = 1) -> str:
    """
    Forecast.

    Args:
        city: Where.
    """
    return f"{days} days in {city} for {context.data}"


async def test_a_scripted_tool_can_have_the_schema_of_another() -> None:
    registry, scripted = Registry(), ScriptedTool(["sun"], name="weather")
    registry.add(scripted.tool(like=sample))
    orch = ToolOrchestrator(registry)

    assert registry.definitions() == [Tool(fn=sample, name="weather").definition()]
    result = await orch.run("weather", '{"city": "Oslo", "days": "2"}', user="ada")
    assert result.value == "sun"
    assert (await orch.run("weather", {"town": "Oslo"})).attempts == 0
    assert scripted.arguments == [{"city": "Oslo", "days": 2}]
    assert scripted.contexts[0].data == {"user": "ada"}
    with pytest.raises(TypeError):
        ScriptedTool([1]).tool(like=3)  # type: ignore[arg-type]


async def test_a_script_stands_in_for_a_real_tool_for_a_while() -> None:
    registry = Registry()
    registry.tool(
        name="weather", policy=orchestrator_async.BreakerPolicy(failure_threshold=1)
    )(sample)
    real, told = registry["weather"], registry.definitions()
    orch = ToolOrchestrator(registry, clock=FakeClock())
    circuit = orch.circuit("weather")

    with pytest.raises(KeyError):  # noqa: SIM117
        with ScriptedTool([ConnectionError]).instead_of(registry, "weather") as weather:
            assert registry.definitions() == told
            assert (await orch.run("weather", {"city": "Oslo"})).state == "open"
            raise KeyError

    assert registry["weather"] is real
    assert orch.circuit("weather") is circuit
    assert (weather.calls, circuit.state) == (1, "open")
    with pytest.raises(UnknownToolError), weather.instead_of(registry):
        pass


async def test_a_tool_that_was_changed_meanwhile_is_not_put_back() -> None:
    registry = Registry()
    registry.tool(name="weather")(sample)
    newer = Tool(fn=sample, name="weather", description="Newer.")
    with ScriptedTool([1], name="weather").instead_of(registry):
        registry.add(newer, replace=True)
    assert registry["weather"] is newer
    with ScriptedTool([1], name="weather").instead_of(registry):
        registry.remove("weather")
    assert "weather" not in registry


async def test_stand_ins_may_be_nested() -> None:
    registry = Registry()
    registry.tool(name="weather")(sample)
    real = registry["weather"]
    orch = ToolOrchestrator(registry)
    args = {"city": "Oslo"}
    with ScriptedTool(["a"], name="weather").instead_of(registry):
        with Faults(error=1).into(registry):
            assert not (await orch.run("weather", args)).ok
        assert await orch.call("weather", args) == "a"
    assert registry["weather"] is real


# --- steps ------------------------------------------------------------------------------


async def test_a_tool_that_breaks_off_cancels_nobody() -> None:
    orch, _ = bench(broken_off(), "well again")
    with pytest.raises(ToolCancelledError):
        await orch.call("tool")
    await anyio.lowlevel.checkpoint()
    assert await orch.call("tool") == "well again"
    assert orch.stats("tool").total_failures == 1
    assert_adds_up(orch)


async def test_garbage_is_not_json() -> None:
    orch, _ = bench(garbage(), malformed(), malformed("<html>"), huge(), huge(3))
    assert isinstance((await orch.run("tool")).error, InvalidResultError)
    with pytest.raises(json.JSONDecodeError):
        json.loads(await orch.dispatch("tool"))
    assert await orch.dispatch("tool") == "<html>"
    assert len(await orch.dispatch("tool")) == 1_000_000
    assert await orch.dispatch("tool") == "xxx"
    assert orch.stats("tool").total_failures == 1


@virtual_time
async def test_a_slow_tool_takes_its_time_and_goes_on() -> None:
    orch, _ = bench(
        slow(20, "late"),
        slow(2, slow(3, ValueError)),
        slow(1),
        clock=anyio.current_time,
        timeout=10,
    )
    began = anyio.current_time()
    with pytest.raises(ToolTimeoutError):
        await orch.call("tool")
    assert anyio.current_time() - began == pytest.approx(10)
    result = await orch.run("tool")
    assert isinstance(result.error, ValueError)
    assert result.duration == pytest.approx(5)
    assert await orch.call("tool") is None


@virtual_time
async def test_a_tool_that_hangs_ends_by_its_timeout_alone() -> None:
    orch, scripted = bench(hang(), clock=anyio.current_time, timeout=7)
    result = await orch.run("tool")
    assert isinstance(result.error, ToolTimeoutError)
    assert result.duration == pytest.approx(7)
    assert scripted.running == 0


def test_a_step_says_what_it_does() -> None:
    steps = [hang(), slow(2, broken_off()), garbage(), malformed(), huge(5)]
    assert repr(steps) == (
        "[hang(), slow(2, broken_off()), garbage(), malformed(), huge(5)]"
    )


async def test_a_scripted_tool_counts_those_that_run() -> None:
    orch, scripted = bench(hang())
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(orch.dispatch, "tool")
        await when_blocked()
        assert (scripted.running, scripted.most_running) == (3, 3)
        group.cancel_scope.cancel()
    assert (scripted.running, scripted.most_running, scripted.calls) == (0, 3, 3)


async def _checkpoints(**arguments: Any) -> str:
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    return "done"


@pytest.mark.parametrize(
    "outcome",
    [hang(), slow(0, _checkpoints), slow(0, broken_off()), broken_off()],
    ids=repr,
)
@pytest.mark.parametrize("faulty", [False, True])
@pytest.mark.parametrize("after", range(7))
async def test_a_cancellation_is_never_swallowed(
    outcome: object, faulty: bool, after: int
) -> None:
    orch, scripted = bench(outcome)
    if faulty:
        faults = Faults(latency=1, latency_seconds=(0, 0))
        orch = ToolOrchestrator(faults.wrap(orch.registry), clock=FakeClock())
    ended: list[str] = []

    async def agent() -> None:
        for _ in range(9):
            await orch.dispatch("tool")
        ended.append("in peace")

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(agent)
            for _ in range(after):
                await anyio.lowlevel.checkpoint()
            scope.cancel()
    if not ended:
        assert scope.cancelled_caught
    assert scripted.running == 0
    assert_adds_up(orch)
    await anyio.lowlevel.checkpoint()


async def test_a_tool_that_breaks_off_while_its_caller_is_cancelled_goes_on_up() -> None:
    orch, _ = bench(broken_off())
    with anyio.CancelScope() as scope:
        scope.cancel()
        await orch.dispatch("tool")
        await anyio.lowlevel.checkpoint()
        pytest.fail("went on")
    assert scope.cancelled_caught
    assert orch.stats("tool").total_failures == 0


# --- faults -----------------------------------------------------------------------------


async def draw(faults: Faults, count: int, *names: str) -> list[tuple[str, int, str]]:
    """
    What strikes so many executions of each of the tools.
    """
    registry = Registry()
    for name in names:
        registry.add(ScriptedTool([1], name=name).tool())
    faulty = faults.wrap(registry)
    for _ in range(count):
        for name in names:
            try:
                await faulty.dispatch(name)
            except ConnectionError:
                pass
    return [(each.tool_name, each.call, each.kind) for each in faults.injected]


def some(seed: int = 1) -> Faults:
    return Faults(seed=seed, error=0.2, malformed=0.1, huge=0.05, huge_size=1)


async def test_a_seed_gives_the_same_faults_whatever_other_tools_do() -> None:
    once = await draw(some(), 200, "search", "fetch")
    assert once == await draw(some(), 200, "search", "fetch")
    alone = await draw(some(), 200, "search")
    assert alone == [each for each in once if each[0] == "search"]
    assert alone != await draw(some(2), 200, "search")
    others = [(call, kind) for name, call, kind in once if name == "fetch"]
    assert others != [(call, kind) for _, call, kind in alone]

    faults = some()
    await draw(faults, 200, "search")
    faults.reset()
    assert faults.injected == []
    assert await draw(faults, 200, "search") == alone


async def test_faults_come_at_their_rates() -> None:
    faults = some()
    await draw(faults, 4000, "search")
    counts = faults.counts
    assert counts.total() == len(faults.injected)
    for kind, rate in (("error", 0.2), ("malformed", 0.1), ("huge", 0.05)):
        # Four standard deviations; the seed makes it exact.
        off = 4 * math.sqrt(4000 * rate * (1 - rate))
        assert abs(counts[kind] - 4000 * rate) < off  # type: ignore[index]
    assert counts["hang"] == counts["latency"] == 0
    assert await draw(Faults(), 100, "search") == []
    assert len(await draw(Faults(error=1), 100, "search")) == 100


async def test_another_rate_moves_no_other_executions_fate() -> None:
    few = await draw(Faults(error=0.1), 500, "search")
    many = await draw(Faults(error=0.3), 500, "search")
    assert set(few) < set(many)


@virtual_time
async def test_each_fault_does_what_it_is_called() -> None:
    orch, scripted = bench("real")
    told: dict[str, Any] = {}
    for kind in ("error", "latency", "hang", "malformed", "huge"):
        rates: dict[str, Any] = {kind: 1}
        with Faults(**rates, errors=[EOFError("cut")]).into(orch.registry) as faults:
            began = anyio.current_time()
            told[kind] = None
            with anyio.move_on_after(50):
                told[kind] = await orch.run("tool")
            passed = anyio.current_time() - began
            assert faults.injected[0].kind == kind
            if kind == "latency":
                assert passed == pytest.approx(faults.injected[0].outcome)
                assert 0.1 <= passed <= 2
            else:
                assert passed == (50 if kind == "hang" else 0)

    assert str(told["error"].error) == "cut"
    assert told["latency"].value == "real"
    assert told["hang"] is None
    assert told["malformed"].content.startswith('{"result"')
    assert len(told["huge"].content) == 1_000_000
    assert scripted.calls == 1


def nested() -> Registry:
    """
    Tools of every kind that there is.
    """
    registry = Registry()

    City: TypeAlias = str

    class Service:
        """Something that is called."""

        async def __call__(self, query: str, context: ToolContext) -> str:
            return f"{query} {context.tool_name}"

        async def method(self, days: int = 3) -> int:
            """
            A method.

            Args:
                days: How many.
            """
            return days

        def plain(self, city: str) -> str:
            return city

    class Plain:
        def __call__(self, city: str = "Oslo") -> str:
            """In a thread."""
            return city

    @registry.tool(timeout=9, alternatives=["plain"], judge=exceptions_only)
    async def local(where: "City", *, days: int = 1) -> str:  # noqa: UP037
        """Here."""
        return f"{where} {days}"

    registry.tool(sample)
    registry.tool(name="object")(Service())
    registry.tool(name="plain_object")(Plain())
    registry.tool(Service().method)
    registry.tool(circuit="shared", idempotent=True)(Service().plain)
    registry.tool(name="partial")(functools.partial(Service().method, days=5))
    registry.tool(name="plain_partial", circuit="shared")(functools.partial(sample, days=5))
    registry.tool(name="unchecked", validate=False)(Service().method)
    registry.tool(name="by_hand", parameters={"type": "object", "properties": {}})(local)
    return registry


@pytest.mark.parametrize("format", ["openai", "anthropic", "mcp"])
def test_faulty_tools_are_told_of_like_the_real_ones(format: Any) -> None:
    registry = nested()
    faulty = Faults(error=0.5).wrap(registry)
    assert faulty.definitions(format) == registry.definitions(format)
    for real, struck in zip(registry, faulty, strict=True):
        assert replace(struck, fn=real.fn) == real
        assert struck.is_async == real.is_async
        assert struck.context_parameter == real.context_parameter
        scripted = ScriptedTool([1], name=real.name).tool(like=real)
        assert scripted.definition(format) == real.definition(format)
        assert scripted.context_parameter == real.context_parameter


@real_time
async def test_a_fault_that_does_not_strike_changes_nothing() -> None:
    registry = nested()
    real = ToolOrchestrator(registry)
    faulty = ToolOrchestrator(Faults(latency=1, latency_seconds=(0, 0)).wrap(registry))
    calls: list[tuple[str, Any]] = [
        ("local", {"where": "here", "days": "2"}),
        ("local", {"were": "here"}),
        ("sample", '{"city": "Oslo"}'),
        ("sample", {"city": "Oslo", "context": 1}),
        ("object", {"query": "x"}),
        ("plain_object", {"city": "Bergen"}),
        ("method", {}),
        ("method", {"days": "many"}),
        ("plain", {"city": "Oslo"}),
        ("partial", {}),
        ("partial", {"days": 7}),
        ("plain_partial", {"city": "Oslo"}),
        ("unchecked", {"days": "as it is"}),
        ("unchecked", {"nobody": "knows"}),
        ("by_hand", {"where": 1}),
        ("by_hand", {}),
    ]
    for name, args in calls:
        one, other = (
            await real.run(name, args, user="ada"),
            await faulty.run(name, args, user="ada"),
        )
        assert (one.content, one.verdict, one.attempts) == (
            other.content,
            other.verdict,
            other.attempts,
        ), name


@real_time
class Teller:
    """
    Tells in pieces.
    """

    async def __call__(self, text: str) -> AsyncIterator[str]:
        for piece in text.split():
            yield piece


async def tell(text: str) -> AsyncIterator[str]:
    for piece in text.split():
        yield piece


@pytest.mark.parametrize("fn", [tell, Teller()], ids=["function", "object"])
async def test_a_fault_strikes_a_stream_before_its_first_chunk(fn: Any) -> None:
    registry = Registry()
    registry.tool(name="tell")(fn)
    arguments = {"text": "a b"}

    def struck(**rates: Any) -> ToolOrchestrator:
        return ToolOrchestrator(Faults(**rates, latency_seconds=(0, 0)).wrap(registry))

    for rates in ({}, {"latency": 1.0}):
        async with struck(**rates).stream("tell", arguments) as chunks:
            assert [each async for each in chunks] == ["a", "b"]
    with pytest.raises(ConnectionError):
        async with struck(error=1).stream("tell", arguments):
            raise AssertionError("it has no first chunk")
    async with struck(malformed=1).stream("tell", arguments) as chunks:
        [chunk] = [each async for each in chunks]
        assert chunk.startswith("{")
    closed = struck().stream("tell", arguments)
    async with closed as chunks:
        assert await anext(chunks) == "a"
    assert closed.result is not None
    assert closed.result.ok


async def test_a_fault_strikes_a_plain_function_in_its_thread() -> None:
    registry, threads = Registry(), []

    @registry.tool(policy=orchestrator_async.ToolPolicy(max_threads=1))
    def plain() -> str:
        threads.append(threading.current_thread())
        return "real"

    for kind in ("error", "latency", "malformed", "huge"):
        rates: dict[str, Any] = {kind: 1}
        faults = Faults(**rates, latency_seconds=(0, 0))
        result = await ToolOrchestrator(faults.wrap(registry)).run("plain")
        if kind == "error":
            assert isinstance(result.error, ConnectionError)
        else:
            assert (result.value == "real") == (kind == "latency")
    assert await ToolOrchestrator(Faults().wrap(registry)).dispatch("plain") == "real"
    assert len(threads) == 2
    assert threading.current_thread() not in threads


@real_time
async def test_a_plain_function_that_a_fault_hangs_keeps_its_place() -> None:
    registry = Registry()

    @registry.tool(policy=orchestrator_async.ToolPolicy(max_threads=1))
    def plain() -> str:
        return "real"

    faults = Faults(hang=1)
    orch = ToolOrchestrator(faults.wrap(registry))
    async with anyio.create_task_group() as group:
        group.start_soon(orch.dispatch, "plain")
        with anyio.fail_after(30):
            while not faults.injected:  # noqa: ASYNC110
                await anyio.sleep(0.001)
        assert isinstance(
            (await orch.run("plain")).error, orchestrator_async.LimitExceededError
        )
        group.cancel_scope.cancel()
    assert_adds_up(orch)


def test_faults_that_cannot_be_are_refused() -> None:
    make: Callable[..., Faults] = Faults
    for options, told in (
        ({"error": 1.5}, "error=1.5"),
        ({"hang": -0.1}, "hang=-0.1"),
        ({"huge": math.nan}, "huge=nan"),
        ({"error": 0.6, "hang": 0.6}, "1.2 together"),
        ({"errors": ()}, "errors is empty"),
        ({"latency_seconds": (2, 1)}, "latency_seconds"),
        ({"latency_seconds": (0, math.inf)}, "latency_seconds"),
        ({"huge_size": -1}, "size=-1"),
    ):
        with pytest.raises(ValueError, match=told):
            make(**options)
    with pytest.raises(TypeError):
        make(eror=0.1)


def test_faults_say_what_they_are() -> None:
    faults = Faults(seed="x", error=0.5, hang=0.1)
    assert repr(faults) == "<Faults seed='x' error=0.5, hang=0.1: 0 injected>"


async def test_faults_may_be_about_some_tools_and_end_with_their_block() -> None:
    registry = Registry()
    for name in ("one", "two"):
        registry.add(ScriptedTool(["real"], name=name).tool())
    before = list(registry)
    orch = ToolOrchestrator(registry)
    with pytest.raises(KeyError):  # noqa: SIM117
        with Faults(error=1, tools=["two"]).into(registry) as faults:
            assert await orch.dispatch("one") == "real"
            assert not (await orch.run("two")).ok
            raise KeyError
    assert list(registry) == before
    assert all(one is other for one, other in zip(registry, before, strict=True))
    assert await orch.dispatch("two") == "real"
    assert orch.stats("two").calls == 2
    (fault,) = faults.injected
    assert (fault.tool_name, fault.call, fault.kind) == ("two", 1, "error")
    assert isinstance(fault, Fault)


# --- the recorder -----------------------------------------------------------------------


async def test_a_recorder_keeps_what_it_is_told() -> None:
    recorder = Recorder()
    orch, _ = bench("fine", ConnectionError, observers=[recorder], failure_threshold=1)
    for _ in range(3):
        await orch.dispatch("tool")
    await orch.dispatch("other")

    assert [each.verdict for each in recorder.finished] == ["success", "failure"]
    assert [each.reason for each in recorder.rejected] == ["circuit", "unknown_tool"]
    assert [each.new for each in recorder.changes] == ["open"]
    assert len(recorder) == len(recorder.of("tool")) + 1 == 5
    assert list(recorder) == recorder.events
    assert recorder.of("other") == recorder.rejected[1:]
    assert repr(recorder) == "<Recorder of 5 events>"
    recorder.clear()
    assert recorder.events == []
    assert recorder


async def test_a_recorder_waits_for_what_is_to_come_and_knows_what_has_been() -> None:
    recorder = Recorder()
    orch, _ = bench(ConnectionError, observers=[recorder])
    found: list[Any] = []

    async def wait() -> None:
        opened = await recorder.wait_for(CircuitChanged, lambda each: each.new == "open")
        recorder.clear()
        found.append(opened)
        found.append(await recorder.wait_for(CallRejected))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await when_blocked()
            for _ in range(3):
                await orch.dispatch("tool")
                recorder.clear()
            await when_blocked()
            assert len(found) == 1
            await orch.dispatch("tool")
        assert [type(each) for each in found] == [CircuitChanged, CallRejected]
        assert await recorder.wait_for(CallRejected) is found[1]


async def test_a_wait_that_is_given_up_or_raises_leaves_nothing_behind() -> None:
    recorder = Recorder()
    orch, _ = bench("fine", observers=[recorder])
    with anyio.move_on_after(0):
        await recorder.wait_for(CallFinished)
    await orch.dispatch("tool")
    with pytest.raises(ZeroDivisionError):
        await recorder.wait_for(CallFinished, lambda each: 1 / 0)
    assert recorder._inboxes == []


# --- circuits held open -----------------------------------------------------------------


async def test_a_circuit_that_is_forced_open_reads_like_one_that_is_down() -> None:
    orch, scripted = bench("fine", reset_timeout=60)
    twin, _ = bench(ConnectionError, reset_timeout=60)
    for _ in range(3):
        await twin.dispatch("tool")
    with forced_open("tool", orch=orch):
        assert await orch.dispatch("tool") == await twin.dispatch("tool")
        assert (await orch.run("tool")).retry_after == 60
    assert scripted.calls == 0
    assert await orch.dispatch("tool") == "fine"


@pytest.mark.parametrize("state", ["closed", "open", "half_open", "isolated", "disabled"])
async def test_a_circuit_is_afterwards_what_it_was(state: str) -> None:
    clock = FakeClock()
    orch, _ = bench(ConnectionError, ConnectionError, hang(), "fine", clock=clock)
    circuit = orch.circuit("tool")
    await orch.dispatch("tool")
    async with anyio.create_task_group() as group:
        match state:
            case "open" | "half_open":
                orch = ToolOrchestrator(orch.registry, failure_threshold=1, clock=clock)
                circuit = orch.circuit("tool")
                await orch.dispatch("tool")
                if state == "half_open":
                    clock.advance(300)
                    group.start_soon(orch.dispatch, "tool")
                    await when_blocked()
            case "isolated":
                circuit.isolate()
            case "disabled":
                circuit.disable()
        before = (circuit.state, circuit.failures, circuit.last_error)
        assert circuit.state == state
        refused = await orch.dispatch("tool") if "open" in state else ""

        with pytest.raises(KeyError):  # noqa: SIM117
            with forced_open("tool", orch=orch):
                with forced_open("tool", "tool", orch=orch):
                    pass
                assert circuit.state == ("isolated" if state == "isolated" else "open")
                raise KeyError

        assert (circuit.state, circuit.failures, circuit.last_error) == before
        if "open" in state:
            assert await orch.dispatch("tool") == refused
        group.cancel_scope.cancel()


async def test_a_tool_is_forced_open_with_those_that_share_its_circuit() -> None:
    registry = Registry()
    for name in ("read", "write"):
        registry.add(ScriptedTool(["fine"], name=name).tool(circuit="database"))
    orch = ToolOrchestrator(registry)
    for name in ("read", "database"):
        with forced_open(name, orch=orch):
            assert (await orch.run("write")).state == "open"
    assert await orch.dispatch("write") == "fine"
    with pytest.raises(UnknownToolError), forced_open("read", "nothing", orch=orch):
        pass
    assert orch.circuit("database").state == "closed"
    with pytest.raises(TypeError), forced_open(orch=orch):
        pass


async def test_the_ready_made_orchestrator_is_meant_where_none_is_named() -> None:
    registry = orchestrator_async.registry
    registry.add(ScriptedTool(["fine"], name="ready_made").tool())
    try:
        with forced_open("ready_made"):
            refused = await orchestrator_async.orchestrator.run("ready_made")
            assert (refused.attempts, refused.retry_after) == (0, 300)
        assert await orchestrator_async.orchestrator.dispatch("ready_made") == "fine"
    finally:
        registry.remove("ready_made")


# --- pytest -----------------------------------------------------------------------------

SUITE = """
import anyio
import pytest
from orchestrator_async.testing import ScriptEndedError, hang

pytestmark = pytest.mark.anyio


async def test_fixtures(make_orchestrator, scripted_tool, fake_clock, recorder):
    search = scripted_tool("search", [ConnectionError("down")], circuit="web")
    seen = []
    orch = make_orchestrator(reset_timeout=60, observers=[seen.append])
    for _ in range(4):
        await orch.dispatch("search", {"query": "x"})
    assert search.calls == 3
    assert recorder.events == seen
    assert [each.circuit for each in recorder.changes] == ["web"]
    fake_clock.advance(60)
    await orch.dispatch("search")
    assert search.calls == 4


async def test_fixtures_are_new(make_orchestrator, tool_registry, fake_clock, recorder):
    assert len(tool_registry) == len(recorder) == fake_clock() == 0
    assert make_orchestrator().registry is tool_registry


async def test_swallows(make_orchestrator, scripted_tool):
    scripted_tool("search", ["x"], after="fail")
    orch = make_orchestrator()
    await orch.dispatch("search")
    try:
        await orch.dispatch("search")
    except ScriptEndedError:
        pass
"""


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=90,
        check=False,
    )


def test_the_fixtures_work_for_those_who_ask_for_them(tmp_path: Path) -> None:
    (tmp_path / "test_agent.py").write_text(SUITE)
    without = run_pytest(tmp_path)
    assert "fixture 'make_orchestrator' not found" in without.stdout

    asks = 'pytest_plugins = ["orchestrator_async.testing.pytest_plugin"]\n'
    (tmp_path / "conftest.py").write_text(asks)
    said = run_pytest(tmp_path, "-W", "error")
    # On asyncio and trio, and the one that swallows fails after it has passed.
    assert "6 passed, 2 errors" in said.stdout, said.stdout
    assert "search has been called 2 times, and its script has 1 outcome" in said.stdout


def test_a_missing_pytest_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("orchestrator_async.testing.p", PLUGIN)
    assert spec is not None
    assert spec.loader is not None
    monkeypatch.setitem(sys.modules, "pytest", None)
    with pytest.raises(ModuleNotFoundError, match="needs pytest: pip install pytest"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


async def test_the_fixtures_belong_together(
    make_orchestrator: MakeOrchestrator,
    scripted_tool: MakeScriptedTool,
    fake_clock: FakeClock,
    recorder: Recorder,
    tool_registry: Registry,
) -> None:
    told: list[Any] = []
    search = scripted_tool("search", ["a", ConnectionError], after="fail", timeout=3)
    orch = make_orchestrator(failure_threshold=1, observers=[told.append])
    assert orch.registry is tool_registry
    for _ in range(3):
        await orch.dispatch("search")
    assert (search.calls, told) == (2, recorder.events)
    fake_clock.advance(299)
    assert (await orch.run("search")).retry_after == 1

    other = Registry()
    assert make_orchestrator(other, clock=FakeClock(3)).registry is other


async def test_a_name_that_is_unknown_leaves_every_circuit_untouched() -> None:
    registry, recorder = Registry(), Recorder()

    @registry.tool
    async def search() -> str:
        return "found"

    orch = ToolOrchestrator(registry, observers=[recorder])
    with pytest.raises(UnknownToolError), forced_open("search", "serach", orch=orch):
        raise AssertionError("the block is not begun")
    assert recorder.changes == []
