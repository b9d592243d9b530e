"""
Our circuits inside hermes: its own way to a tool, and threads as it has them.
"""

from __future__ import annotations

import contextvars
import importlib.util
import io
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    CircuitState,
    LimitPolicy,
    Registry,
    RetryPolicy,
    ToolOrchestrator,
    ToolPolicy,
)
from orchestrator_async.adapters.hermes import HermesCircuits, HermesTools
from orchestrator_async.adapters.hermes import plugin as our_plugin
from orchestrator_async.adapters.hermes._circuits import _Call
from orchestrator_async.adapters.hermes._stopping import Stoppable
from orchestrator_async.adapters.hermes._streams import OwnStreams
from tests.support import HandClock

if importlib.util.find_spec("model_tools") is None:
    pytest.skip("hermes-agent has an environment of its own", allow_module_level=True)

from . import hermes_home as hermes
from .hermes_home import Puppet, Thread, handle, interrupted, is_gone, pid_in, puppet, until

# Hermes leaves the pipes of its commands to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

plugins: Any = importlib.import_module("hermes_cli.plugins")
Make = Callable[..., HermesCircuits]


@pytest.fixture(params=["asyncio", "trio"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """
    Makes circuits and puts them inside hermes, for one test.
    """
    made: list[HermesCircuits] = []
    manager = plugins.get_plugin_manager()
    manifest = plugins.PluginManifest(name="circuits")

    def make(**options: Any) -> HermesCircuits:
        circuits = HermesCircuits(backend=request.param, **options)
        context = plugins.PluginContext(manifest, manager)
        context.register_middleware("tool_execution", circuits.middleware)
        made.append(circuits)
        return circuits

    yield make
    manager._middleware.pop("tool_execution", None)
    for each in made:
        assert all(not found["in_flight"] for found in each.orch.get_fleet_stats().values())
        each.close()
    assert not interrupted()


@pytest.fixture
def thing() -> Iterator[Puppet]:
    with puppet() as made:
        yield made


def call(name: str = "puppet", args: dict[str, Any] | None = None, **more: Any) -> Any:
    said = handle(name, args or {}, **more)
    return json.loads(said) if isinstance(said, str) else said


def landed(circuits: HermesCircuits, name: str) -> bool:
    return circuits.orch.get_fleet_stats()[name]["in_flight"] == 0


def test_what_a_tool_returns_reaches_hermes_as_it_was(make: Make, thing: Puppet) -> None:
    circuits = make()
    assert call(args={"count": "3"})["args"] == {"count": 3}
    envelope = {"_multimodal": True, "content": [{"type": "text", "text": "look"}]}
    thing.behaviour = lambda args: envelope
    assert handle("puppet", {}) is envelope
    thing.behaviour = lambda args: "x" * 300_000
    assert handle("puppet", {}) == "x" * 300_000
    assert circuits.orch.stats("puppet").successes == 3


def test_a_dead_tool_is_refused_and_others_go_on(make: Make, thing: Puppet) -> None:
    thing.behaviour = thing.fails
    make()
    said = [call()["error"] for _ in range(5)]
    assert said[2].startswith("[TOOL_ERROR] Tool execution failed: ConnectionError")
    assert said[3].startswith("puppet is down (3 failures in a row). Do not call it again")
    assert thing.runs == 3
    with puppet("other"):
        assert call("other")["fine"]


def test_one_probe_is_made_though_many_threads_call(make: Make, thing: Puppet) -> None:
    thing.behaviour = thing.fails
    clock = HandClock()
    orch = ToolOrchestrator(Registry(), clock=clock)
    circuits = make(orch=orch, policy=BreakerPolicy(failure_threshold=1))
    call()
    clock.turn(300)
    go_on, refused = threading.Event(), threading.Semaphore(0)

    def waits(args: dict[str, Any]) -> Any:
        assert go_on.wait(20)
        return thing.works(args)

    def calls() -> Any:
        said = call()
        if "error" in said:
            refused.release()
        return said

    thing.behaviour = waits
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(calls) for _ in range(8)]
        for _ in range(7):
            assert refused.acquire(timeout=20)
        go_on.set()
        said = [each.result() for each in found]
    assert sum("error" in each for each in said) == 7
    assert thing.runs == 2
    assert circuits.orch.circuit("puppet").state is CircuitState.CLOSED


def test_missing_files_do_not_take_read_file_away(make: Make, tmp_path: Path) -> None:
    circuits = make()
    for n in range(4):
        assert (
            "File not found" in call("read_file", {"path": str(tmp_path / str(n))})["error"]
        )
    assert circuits.orch.stats("read_file").ignored == 4


def test_the_tool_runs_in_the_thread_and_the_context_of_its_caller(
    make: Make, thing: Puppet
) -> None:
    make()
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user")
    seen: list[Any] = []

    def looks(args: dict[str, Any]) -> str:
        seen.append((threading.get_ident(), user.get()))
        return "{}"

    thing.behaviour = looks

    def calls(name: str) -> None:
        user.set(name)
        call()
        assert seen.pop() == (threading.get_ident(), name)

    calls("ada")
    Thread(lambda: calls("bob")).result()


def test_what_a_tool_sets_in_its_context_stays(make: Make, thing: Puppet) -> None:
    make()
    left: contextvars.ContextVar[str] = contextvars.ContextVar("left", default="")

    def leaves(args: dict[str, Any]) -> str:
        left.set("behind")
        return "{}"

    thing.behaviour = leaves
    call()
    assert left.get() == "behind"


@pytest.mark.skipif(not hermes.POSIX, reason="looks at processes in /proc")
def test_an_interrupt_of_hermes_stops_a_command(make: Make, tmp_path: Path) -> None:
    circuits = make()
    pid_file = tmp_path / "pid"
    args = {"command": f"echo $$ > {pid_file}; sleep 60"}
    caller = Thread(lambda: call("terminal", args))
    pid = pid_in(pid_file)
    hermes.interrupt.set_interrupt(True, caller.ident)
    try:
        said = caller.result()
    finally:
        hermes.interrupt.set_interrupt(False, caller.ident)
    assert (said["exit_code"], is_gone(pid)) == (130, True)
    until(lambda: landed(circuits, "terminal"))
    assert circuits.orch.stats("terminal").ignored == 1


@pytest.mark.skipif(not hermes.POSIX, reason="looks at processes in /proc")
def test_a_timeout_stops_a_command(make: Make, tmp_path: Path) -> None:
    circuits = make(policy=ToolPolicy(timeout=1.0))
    pid_file = tmp_path / "pid"
    said = call("terminal", {"command": f"echo $$ > {pid_file}; sleep 60"})
    assert said["error"].startswith("terminal did not finish within its 1 s, and was told")
    assert json.loads(said["late_result"])["exit_code"] == 130
    assert is_gone(pid_in(pid_file))
    assert circuits.orch.stats("terminal").timeouts == 1
    assert call("terminal", {"command": "echo on"})["output"] == "on"


SCRIPT = "from hermes_tools import terminal\nprint(terminal({command!r}))"


@pytest.mark.skipif(not hermes.POSIX, reason="looks at processes in /proc")
def test_a_timeout_stops_a_command_of_a_script(make: Make, tmp_path: Path) -> None:
    settings = {"execute_code": ToolPolicy(timeout=2.0)}
    circuits = make(orch=ToolOrchestrator(Registry(), tools=settings))
    pid_file = tmp_path / "pid"
    code = SCRIPT.format(command=f"echo $$ > {pid_file}; sleep 60")
    assert call("execute_code", {"code": code})["timeout"]
    pid = pid_in(pid_file)
    until(lambda: is_gone(pid) and landed(circuits, "terminal"), 5)
    assert circuits.orch.stats("terminal").ignored == 1


@pytest.mark.parametrize("how", ["works", "fails"])
def test_what_comes_after_a_timeout_is_told(make: Make, thing: Puppet, how: str) -> None:
    circuits = make(policy=ToolPolicy(timeout=0.05))

    def late(args: Any) -> Any:
        until(hermes.interrupt.is_interrupted)
        if how == "fails":
            raise ConnectionError("the service is down")
        return "done after all"

    said = json.loads(circuits.middleware(tool_name="slow", args={}, next_call=late))
    came = "done after all" if how == "works" else "It raised ConnectionError('the service"
    assert said["timeout"]
    assert said["late_result"].startswith(came)
    assert circuits.orch.stats("slow").timeouts == 1


def begun(thing: Puppet) -> tuple[Thread, threading.Event]:
    """
    A call that has begun, and what lets it end.
    """
    entered, go_on = threading.Event(), threading.Event()

    def waits(args: dict[str, Any]) -> Any:
        entered.set()
        assert go_on.wait(20)
        return thing.works(args)

    thing.behaviour = waits
    caller = Thread(call)
    assert entered.wait(20)
    return caller, go_on


def test_a_timeout_before_its_turn_is_told_and_the_tool_not_run(
    make: Make, thing: Puppet
) -> None:
    orch = ToolOrchestrator(
        Registry(),
        limits=LimitPolicy(max_concurrent=1),
        tools={"other": ToolPolicy(total_timeout=0.05)},
    )
    make(orch=orch)
    first, go_on = begun(thing)
    with puppet("other") as other:
        said = call("other")
        assert (other.runs, "late_result" in said) == (0, False)
        assert "error" in said
    go_on.set()
    assert first.result()["fine"]


def test_a_flag_that_hermes_has_set_stays_and_the_call_gives_no_verdict(
    make: Make, thing: Puppet
) -> None:
    circuits = make()

    def stopped(args: Any) -> Any:
        hermes.interrupt.set_interrupt(True)
        raise InterruptedError("User sent a new message")

    thing.behaviour = stopped
    try:
        assert "User sent a new message" in call()["error"]
        assert hermes.interrupt.is_interrupted()
    finally:
        hermes.interrupt.set_interrupt(False)
    until(lambda: landed(circuits, "puppet"))
    assert circuits.orch.stats("puppet").ignored == 1


def test_who_waits_for_a_place_can_be_interrupted(make: Make, thing: Puppet) -> None:
    circuits = make(policy=ToolPolicy(limits=LimitPolicy(max_concurrent=1)))
    first, go_on = begun(thing)
    second = Thread(call)
    hermes.interrupt.set_interrupt(True, second.ident)
    try:
        said = second.result()["error"]
    finally:
        hermes.interrupt.set_interrupt(False, second.ident)
    assert said == "puppet was not run: the user interrupted while it waited."
    go_on.set()
    assert first.result()["fine"]
    assert thing.runs == 1
    until(lambda: landed(circuits, "puppet"))
    assert call()["fine"]


def test_ctrl_c_passes_and_gives_no_verdict(make: Make, thing: Puppet) -> None:
    circuits = make(policy=BreakerPolicy(failure_threshold=1))

    def presses(args: dict[str, Any]) -> Any:
        raise KeyboardInterrupt

    thing.behaviour = presses
    with pytest.raises(KeyboardInterrupt):
        call()
    until(lambda: landed(circuits, "puppet"))
    thing.behaviour = thing.works
    assert call()["fine"]
    assert circuits.orch.stats("puppet").cancelled == 1


def test_ctrl_c_in_a_probe_leaves_the_next_one_free(make: Make, thing: Puppet) -> None:
    clock = HandClock()
    orch = ToolOrchestrator(Registry(), clock=clock)
    circuits = make(orch=orch, policy=BreakerPolicy(failure_threshold=1))
    thing.behaviour = thing.fails
    call()

    def presses(args: dict[str, Any]) -> Any:
        raise KeyboardInterrupt

    thing.behaviour = presses
    clock.turn(300)
    with pytest.raises(KeyboardInterrupt):
        call()
    until(lambda: landed(circuits, "puppet"))
    thing.behaviour = thing.works
    assert call()["fine"]


def test_what_is_raised_below_us_is_told_of_and_not_raised(make: Make) -> None:
    make()
    run = importlib.import_module("hermes_cli.middleware").run_tool_execution_middleware

    def fails(args: Any) -> Any:
        raise ConnectionError("the service is down")

    def misses(args: Any) -> Any:
        raise FileNotFoundError("/nope")

    for each in (misses, misses, misses, fails, fails):
        assert "error" in json.loads(run("agents_own", {}, each))
    assert "the service is down" in run("agents_own", {}, fails)
    assert "agents_own is down" in run("agents_own", {}, fails)


def test_control_flow_passes_and_gives_no_verdict(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    circuits = make(policy=ToolPolicy(control_flow=(LookupError,)))
    run = importlib.import_module("hermes_cli.middleware").run_tool_execution_middleware

    def hands_over(args: Any) -> Any:
        raise KeyError("another agent")

    with pytest.raises(KeyError):
        run("agents_own", {}, hands_over)
    assert "has no circuit" not in caplog.text
    until(lambda: landed(circuits, "agents_own"))
    assert circuits.orch.stats("agents_own").total_failures == 0


def test_a_call_that_passes_twice_is_counted_once(make: Make, thing: Puppet) -> None:
    circuits = make()
    run = importlib.import_module("hermes_cli.middleware").run_tool_execution_middleware
    told: dict[str, Any] = {"tool_call_id": "c1"}
    assert run("puppet", {}, lambda args: handle("puppet", args, **told), **told)
    assert (thing.runs, circuits.orch.stats("puppet").calls) == (1, 1)
    assert call(**told)["fine"]
    assert circuits.orch.stats("puppet").calls == 2


def test_a_tool_that_another_calls_has_a_circuit_of_its_own(
    make: Make, thing: Puppet
) -> None:
    circuits = make()
    with puppet("inner"):
        thing.behaviour = lambda args: handle("inner", {})
        assert call()["fine"]
    assert circuits.orch.stats("inner").successes == 1


def test_observers_see_whose_call_it_is(make: Make, thing: Puppet) -> None:
    circuits = make()
    events: list[Any] = []
    circuits.orch.add_observer(events.append)
    call(args={"count": 1}, task_id="t", session_id="s", tool_call_id="c1")
    (event,) = [each for each in events if isinstance(each, CallFinished)]
    assert (event.call_id, event.arguments) == ("c1", {"count": 1})
    assert event.context == {"task_id": "t", "session_id": "s"}


def test_a_fallback_answers(make: Make, thing: Puppet) -> None:
    envelope = {"_multimodal": True, "content": [{"type": "text", "text": "look"}]}
    answers: list[Any] = ["from the cache", envelope]
    make(policy=ToolPolicy(fallback=lambda call, result: answers.pop(0)))
    thing.behaviour = thing.fails
    assert handle("puppet", {}) == "from the cache"
    assert handle("puppet", {}) is envelope


def test_a_call_is_never_run_twice(make: Make, thing: Puppet) -> None:
    retry = RetryPolicy(wait_initial=0, wait_jitter=0)
    circuits = make(policy=ToolPolicy(retry=retry))
    call()
    registry = circuits.orch.registry
    registry.add(replace(registry["puppet"], idempotent=True), replace=True)
    thing.behaviour = thing.fails
    assert "error" in call()
    assert thing.runs == 2


def test_what_fails_of_ours_takes_nothing_away(
    make: Make, thing: Puppet, caplog: pytest.LogCaptureFixture
) -> None:
    circuits = make()

    @circuits.orch.registry.tool(name="puppet")
    def ours() -> str:
        return "ours"

    assert call()["fine"]
    assert "puppet has no circuit" in caplog.text
    thing.behaviour = thing.fails
    assert "TOOL_ERROR" in call()["error"]


def test_closing_takes_nothing_from_a_call_that_runs(make: Make, thing: Puppet) -> None:
    circuits = make()
    caller, go_on = begun(thing)
    circuits.close()
    circuits.close()
    go_on.set()
    assert caller.result()["fine"]
    thing.behaviour = thing.works
    assert call()["fine"]


def test_a_call_that_the_loop_has_given_up_is_run_all_the_same() -> None:
    asked = _Call("a", lambda: "fine")
    asked._stop.give_up()
    asked._run_now()
    assert not asked.has_run
    assert asked.outcome() == "fine"


def test_an_error_of_a_call_that_was_left_alone_is_raised(make: Make) -> None:
    circuits = make()
    entered, go_on = threading.Event(), threading.Event()

    def fails(args: Any) -> Any:
        entered.set()
        assert go_on.wait(20)
        raise ConnectionError("the service is down")

    told: dict[str, Any] = {"tool_name": "agents_own", "args": {}, "next_call": fails}
    caller = Thread(lambda: circuits.middleware(**told))
    assert entered.wait(20)
    circuits.close()
    go_on.set()
    with pytest.raises(ConnectionError):
        caller.result()


def test_a_program_that_never_closes_its_circuits_ends() -> None:
    code = """
from orchestrator_async.adapters.hermes import HermesCircuits
circuits = HermesCircuits()
print(circuits.middleware(tool_name="a", args={}, next_call=lambda args: "fine"))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("fine\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_has_a_loop_of_its_own() -> None:
    code = """
import os, warnings
from orchestrator_async.adapters.hermes import HermesCircuits
warnings.simplefilter("ignore")
circuits = HermesCircuits()
def call():
    return circuits.middleware(tool_name="a", args={}, next_call=lambda args: "fine")
assert call() == "fine"
pid = os.fork()
if not pid:
    os._exit(0 if call() == "fine" else 1)
print(os.waitpid(pid, 0)[1])
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("0\n", "")


# The plugin


def context(**entry: Any) -> Any:
    (hermes.HOME / "config.yaml").write_text(
        json.dumps({"plugins": {"entries": {"circuits": entry}}})
    )
    manifest = plugins.PluginManifest(name="circuits")
    return plugins.PluginContext(manifest, plugins.PluginManager())


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(our_plugin, "_made", [])
    monkeypatch.delenv(our_plugin.VARIABLE, raising=False)
    yield
    found = our_plugin.circuits()
    if found is not None:
        found.close()
    (hermes.HOME / "config.yaml").unlink()


@pytest.mark.parametrize("where", ["environment", "config.yaml"])
def test_settings_are_read_from_a_file(
    where: str, unregistered: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "circuits.toml"
    path.write_text("[orchestrator]\nfailure_threshold = 1\n")
    if where == "environment":
        monkeypatch.setenv(our_plugin.VARIABLE, str(path))
        ctx = context()
    else:
        ctx = context(config=str(path))
    assert our_plugin.circuits() is None
    our_plugin.register(ctx)
    [middleware] = ctx._manager._middleware["tool_execution"]

    def fails(args: Any) -> Any:
        raise ConnectionError

    middleware(tool_name="a", args={}, next_call=fails)
    assert "a is down" in middleware(tool_name="a", args={}, next_call=fails)


REFUSED = '{"error": "connection refused"}'


def test_a_path_may_begin_at_home(
    unregistered: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "circuits.toml").write_text("[orchestrator]\nfailure_threshold = 1\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    our_plugin.register(context(config="~/circuits.toml"))
    found = our_plugin.circuits()
    assert found is not None
    told: Any = {"tool_name": "a", "args": {}, "next_call": lambda args: REFUSED}
    found.middleware(**told)
    assert found.orch.circuit("a").state is CircuitState.OPEN


def test_what_is_no_path_is_told_of_by_where_it_stands(unregistered: None) -> None:
    with pytest.raises(ValueError, match=r"plugins\.entries\.circuits\.config is 5 in"):
        our_plugin.register(context(config=5))


def test_a_loop_that_cannot_begin_takes_nothing_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    circuits = HermesCircuits()
    circuits._loop._backend = "puppets"
    told: dict[str, Any] = {"tool_name": "a", "args": {}, "next_call": lambda args: "fine"}
    assert circuits.middleware(**told) == "fine"
    assert "a has no circuit" in caplog.text


def test_loading_it_again_leaves_the_circuits_as_they_are(unregistered: None) -> None:
    our_plugin.register(context())
    made = our_plugin.circuits()
    our_plugin.register(context())
    assert our_plugin.circuits() is made


def test_hermes_finds_it_by_its_entry_point() -> None:
    found = {each.name: each for each in plugins.PluginManager()._scan_entry_points()}
    assert found["orchestrator-async"].path == "orchestrator_async.adapters.hermes.plugin"


def test_the_example_runs(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "examples.hermes_agent"]
    clean = {name: each for name, each in os.environ.items() if "HERMES" not in name}
    done = subprocess.run(
        command, cwd=root, env=clean, capture_output=True, text=True, timeout=120
    )
    lines = done.stdout.splitlines()
    assert [line.partition("ConnectionError")[1] for line in lines[:3]] == [
        "ConnectionError"
    ] * 3
    assert "weather is down (3 failures in a row)" in lines[3]
    assert lines[5:] == [
        'tool:  {"sky": "clear"}',
        "model: Sunny.",
        "runs:  4",
    ]


# The parts


def test_a_flag_never_reaches_another_call_of_the_thread() -> None:
    chance = random.Random(7)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    current: list[Stoppable | None] = [None]
    done = threading.Event()
    stopped = 0

    def flag(on: bool, thread: int | None) -> None:
        if on:
            time.sleep(1e-6)  # in which the call could end, and the next one begin
        hermes.interrupt.set_interrupt(on, thread)

    def kill() -> None:
        while not done.is_set():
            call = current[0]
            if call is not None:
                call.give_up()

    killers = [hermes.Thread(kill) for _ in range(3)]
    try:
        for _ in range(2_000):
            call = Stoppable(flag)
            assert call.begin()
            assert not hermes.interrupt.is_interrupted()
            current[0] = call
            time.sleep(chance.choice([0, 1e-6, 1e-5, 1e-4]))
            call.end()
            stopped += call.told
            assert not hermes.interrupt.is_interrupted()
    finally:
        done.set()
        sys.setswitchinterval(before)
        hermes.interrupt.set_interrupt(False)
    for each in killers:
        each.result()
    assert stopped > 0


def test_a_thread_that_cannot_be_had_is_held_against_nobody(tmp_path: Path) -> None:
    code = """
import anyio, threading
from orchestrator_async import Registry, ToolOrchestrator
from orchestrator_async.adapters.hermes import HermesTools

async def main():
    registry = Registry()
    async with HermesTools(tools=["skills_list"]) as tools:
        registry.include(tools)
        orch = ToolOrchestrator(registry, failure_threshold=1)
        # Room for a stack that no machine has: a thread cannot be started.
        threading.stack_size(1 << 46)
        refused = await orch.run("skills_list")
        threading.stack_size(0)
        print(refused.verdict, "system threads in use" in refused.content)
        print((await orch.run("skills_list")).ok)

anyio.run(main)
"""
    command = [sys.executable, "-c", code]
    env = {**os.environ, "HERMES_HOME": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == "ignore True\nTrue\n", done.stderr


def test_tools_of_another_are_not_taken_for_those_of_hermes(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text("")
    code = """
from orchestrator_async.adapters.hermes import HermesCircuits
circuits = HermesCircuits()
try:
    from orchestrator_async.adapters.hermes import _hermes
    _hermes.registry()
except ImportError as error:
    print(error)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "the module `tools` is not its own" in done.stdout


def test_its_home_is_the_one_that_was_named() -> None:
    assert os.environ["HERMES_HOME"] == str(hermes.HOME)
    assert (hermes.HOME / "SOUL.md").exists()


def test_a_stream_that_hermes_has_closed_is_put_back() -> None:
    own, streams = sys.stdout, OwnStreams()
    try:
        with streams, open(os.devnull, "w", encoding="utf-8") as nowhere:
            sys.stdout = nowhere
        assert sys.stdout is own
        with streams:
            sys.stdout = other = io.StringIO()
        assert sys.stdout is other
    finally:
        sys.stdout = own


def test_a_call_within_another_leaves_the_flag_to_it() -> None:
    flags: list[bool] = []
    outer, inner = (Stoppable(lambda on, _: flags.append(on)) for _ in range(2))
    outer.begin()
    inner.begin()
    outer.give_up()
    inner.end()
    assert flags == [True, True]
    outer.end()
    assert flags[2:] == [False]


def test_what_begins_within_a_call_that_is_given_up_is_told_at_once() -> None:
    flags: list[bool] = []
    outer, inner = (Stoppable(lambda on, _: flags.append(on)) for _ in range(2))
    outer.begin()
    outer.give_up()
    assert inner.begin()
    assert inner.told
    inner.end()
    outer.end()


def test_what_outlives_the_call_that_has_begun_it_is_left_alone() -> None:
    outer, inner, late = (Stoppable(lambda on, _: None) for _ in range(3))
    outer.begin()
    thread = contextvars.copy_context()
    thread.run(inner.begin)
    outer.end()
    outer.give_up()
    thread.run(inner.end)
    thread.run(late.begin)
    assert (inner.told, late.told) == (False, False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tools": "puppet"}, "tools must be several"),
        ({"tools": [1]}, "tools must be several"),
        ({"tools": 1}, "tools must be several"),
        ({"handler_kwargs": [1]}, "handler_kwargs must be the arguments of handlers, by"),
        ({"handler_kwargs": {"todo": 1}}, "handler_kwargs must be the arguments of"),
        ({"circuit": 3}, "circuit must be a name or None, not 3"),
        ({"refresh_every": 0}, "refresh_every=0: expected a finite number of seconds"),
        ({"refresh_every": "1"}, "refresh_every='1': expected"),
        ({"refresh_every": True}, "refresh_every=True: expected"),
        ({"max_threads": 0}, "max_threads=0: expected a whole number from 1"),
        ({"policy": 1}, "expected a ToolPolicy"),
    ],
)
def test_what_cannot_be_used_is_told_of(options: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        HermesTools(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"orch": Registry()}, "orch must be a ToolOrchestrator"),
        ({"policy": 1}, "expected a ToolPolicy"),
        ({"backend": "curio"}, "expected 'asyncio' or 'trio'"),
    ],
)
def test_what_makes_no_circuits_is_told_of(options: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        HermesCircuits(**options)
