"""
The tools of hermes as tools of ours: its real ones, in a home of their own.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from anyio.lowlevel import current_token

from orchestrator_async import (
    BreakerPolicy,
    CircuitState,
    DuplicateToolError,
    LimitPolicy,
    Registry,
    RetryPolicy,
    ToolOrchestrator,
    ToolPolicy,
    Verdict,
    exceptions_only,
)
from orchestrator_async.adapters.hermes import HermesTools
from orchestrator_async.adapters.hermes._stopping import Stoppable
from tests.clock import real_time

if importlib.util.find_spec("model_tools") is None:
    pytest.skip("hermes-agent has an environment of its own", allow_module_level=True)

from . import hermes_home as hermes
from .hermes_home import Puppet, interrupted, is_gone, pid_in, puppet, registry, until

# Hermes leaves the pipes of its scripts to the garbage collector.
pytestmark = [
    real_time,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def thing() -> Iterator[Puppet]:
    with puppet() as made:
        yield made


async def test_files_and_commands_come_back_as_hermes_gives_them(tmp_path: Path) -> None:
    path = str(tmp_path / "poem.txt")
    async with HermesTools() as tools:
        orch = orch_of(tools)

        async def call(name: str, **args: Any) -> Any:
            return json.loads(await orch.dispatch(name, args, task_id="poems"))

        assert (await call("write_file", path=path, content="one\ntwo\n"))["bytes_written"]
        assert "1|one" in (await call("read_file", path=path))["content"]
        found = await call("search_files", pattern="two", path=str(tmp_path))
        assert found["matches"][0]["line"] == 2
        changed = await call(
            "patch", mode="replace", path=path, old_string="two", new_string="2"
        )
        assert changed["success"]
        assert (tmp_path / "poem.txt").read_text() == "one\n2\n"
        assert await call("terminal", command="echo hi; exit 3") == {
            "output": "hi",
            "exit_code": 3,
            "error": None,
        }
        stats = orch.stats("terminal")
        assert (stats.successes, stats.total_failures) == (1, 0)


async def test_missing_files_do_not_take_read_file_away(tmp_path: Path) -> None:
    async with HermesTools(tools=["read_file"]) as tools:
        orch = orch_of(tools)
        for n in range(4):
            result = await orch.run("read_file", {"path": str(tmp_path / str(n))})
            assert result.verdict is Verdict.IGNORE
            assert "File not found" in result.content
        assert result.state is CircuitState.CLOSED


async def test_a_dead_tool_is_refused_and_others_go_on(thing: Puppet) -> None:
    thing.behaviour = thing.fails
    async with HermesTools(tools=["puppet", "other"]) as tools:
        with puppet("other"):
            await tools.refresh()
            orch = orch_of(tools)
            said = [await orch.dispatch("puppet") for _ in range(5)]
            assert "[TOOL_ERROR] Tool execution failed: ConnectionError" in said[2]
            assert "puppet is down" in said[3]
            assert thing.runs == 3
            assert json.loads(await orch.dispatch("other"))["fine"]


async def test_one_probe_is_made_when_it_returns(thing: Puppet) -> None:
    thing.behaviour = thing.fails
    policy = BreakerPolicy(failure_threshold=1, reset_timeout=0.01)
    async with HermesTools(tools=["puppet"], policy=policy) as tools:
        orch = orch_of(tools)
        await orch.dispatch("puppet")
        await anyio.sleep(0.02)
        go_on = threading.Event()

        def waits(args: dict[str, Any]) -> Any:
            assert go_on.wait(20)
            return thing.works(args)

        thing.behaviour = waits
        results: list[Any] = []

        async def call() -> None:
            results.append(await orch.run("puppet"))
            if len(results) == 7:
                go_on.set()

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(call)
        assert sorted(each.attempts for each in results) == [0] * 7 + [1]
        assert thing.runs == 2
        assert (await orch.run("puppet")).state is CircuitState.CLOSED


@pytest.mark.skipif(not hermes.POSIX, reason="looks at processes in /proc")
@pytest.mark.parametrize("how", ["out of time", "left"])
async def test_a_call_that_is_given_up_stops_its_command(tmp_path: Path, how: str) -> None:
    pid_file = tmp_path / "pid"
    command = {"command": f"echo $$ > {pid_file}; sleep 60; touch {tmp_path}/late"}
    policy = ToolPolicy(timeout=1.0 if how == "out of time" else None)
    results: list[Any] = []

    async def call() -> None:
        results.append(await orch.run("terminal", command))

    async with anyio.create_task_group() as group:
        async with HermesTools(policy=policy) as tools:
            orch = orch_of(tools)
            group.start_soon(call)
            pid = await anyio.to_thread.run_sync(pid_in, pid_file)
            if how == "out of time":
                with anyio.fail_after(20):
                    while not results:  # noqa: ASYNC110
                        await anyio.sleep(0.01)
                assert "did not finish within its 1 s" in results[0].content
                assert (await orch.run("terminal", {"command": "true"})).ok
        group.cancel_scope.cancel()
        assert is_gone(pid)
    await anyio.to_thread.run_sync(until, lambda: not interrupted())
    assert not (tmp_path / "late").exists()


async def test_a_caller_who_leaves_stops_the_command(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    async with HermesTools() as tools:
        orch = orch_of(tools)
        async with anyio.create_task_group() as group:
            args = {"command": f"echo $$ > {pid_file}; sleep 60"}
            group.start_soon(orch.dispatch, "terminal", args)
            pid = await anyio.to_thread.run_sync(pid_in, pid_file)
            group.cancel_scope.cancel()
        assert orch.stats("terminal").in_flight == 0
        await anyio.to_thread.run_sync(until, lambda: is_gone(pid) and not interrupted())
        assert (await orch.run("terminal", {"command": "true"})).ok


@pytest.mark.skipif(not hermes.POSIX, reason="looks at processes in /proc")
@pytest.mark.parametrize("seconds", [0, 0.005, None])
async def test_a_caller_who_leaves_ends_what_began_in_the_background(
    tmp_path: Path, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = tmp_path / "pid"
    args = {"command": f"echo $$ > {pid_file}; sleep 60", "background": True}
    async with HermesTools(tools=["terminal"]) as tools:
        orch = orch_of(tools)
        with anyio.CancelScope() as scope:
            if seconds is not None:
                scope.deadline = anyio.current_time() + seconds
            else:  # when it has come, and nobody has it yet
                monkeypatch.setattr(Stoppable, "end", ends_and(scope, Stoppable.end))
            await orch.dispatch("terminal", args)
            scope.cancel()
        if not scope.cancelled_caught:  # it was there before, and is known
            await anyio.to_thread.run_sync(hermes.processes.kill_all)
        assert orch.stats("terminal").in_flight == 0
        await anyio.to_thread.run_sync(until, none_in_background)


def ends_and(scope: anyio.CancelScope, end: Any) -> Any:
    token = current_token()

    def ends(call: Stoppable) -> None:
        end(call)
        anyio.from_thread.run_sync(scope.cancel, token=token)

    return ends


def none_in_background() -> bool:
    running: int = hermes.processes.count_running()
    return running == 0


async def test_what_a_call_has_begun_in_the_background_goes_on() -> None:
    async with HermesTools(tools=["terminal", "process"]) as tools:
        orch = orch_of(tools)
        args = {"command": "sleep 60", "background": True}
        session = json.loads(await orch.dispatch("terminal", args))["session_id"]
        assert not none_in_background()
        args = {"action": "kill", "session_id": session}
        assert json.loads(await orch.dispatch("process", args))["status"] == "killed"
    assert none_in_background()


@pytest.mark.skipif(not hermes.POSIX, reason="looks at processes in /proc")
async def test_a_caller_who_leaves_stops_the_command_of_a_script(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    command = f"echo $$ > {pid_file}; sleep 60"
    code = f"from hermes_tools import terminal\nprint(terminal({command!r}))"
    async with HermesTools(tools=["terminal", "execute_code"]) as tools:
        orch = orch_of(tools)
        async with anyio.create_task_group() as group:
            group.start_soon(orch.dispatch, "execute_code", {"code": code})
            pid = await anyio.to_thread.run_sync(pid_in, pid_file)
            group.cancel_scope.cancel()
        stopped = lambda: is_gone(pid) and not interrupted()  # noqa: E731
        await anyio.to_thread.run_sync(until, stopped, 5)


async def test_scripts_leave_the_streams_of_the_program_alone(tmp_path: Path) -> None:
    own = (sys.stdout, sys.stderr)
    async with HermesTools(tools=["terminal", "execute_code"]) as tools:
        orch = orch_of(tools)

        async def run(command: str) -> None:
            code = f"from hermes_tools import terminal\nprint(terminal({command!r}))"
            assert (await orch.run("execute_code", {"code": code})).ok

        async with anyio.create_task_group() as group:
            waits = f"touch {{}}; while ! [ -e {tmp_path}/{{}} ]; do sleep 0.05; done"
            group.start_soon(run, waits.format(f"{tmp_path}/one", "go"))
            await anyio.to_thread.run_sync(until, (tmp_path / "one").exists)
            group.start_soon(run, waits.format(f"{tmp_path}/two", "on"))
            await anyio.to_thread.run_sync(until, (tmp_path / "two").exists)
            assert (sys.stdout, sys.stderr) == own
            (tmp_path / "go").touch()
            await anyio.sleep(0.5)
            (tmp_path / "on").touch()
        assert (sys.stdout, sys.stderr) == own


async def test_what_only_reads_is_tried_again() -> None:
    replies = iter(['{"error": "connection refused"}', "{}"])

    def handler(args: Any, **told: Any) -> str:
        return next(replies)

    kept = registry.get_entry("web_search")
    policy = ToolPolicy(retry=RetryPolicy(attempts=2, wait_initial=0.01))
    try:
        registry.register("web_search", kept.toolset, kept.schema, handler)
        async with HermesTools(tools=["web_search"], policy=policy) as tools:
            result = await orch_of(tools).run("web_search", {"query": "x"})
            assert (result.value, result.attempts) == ("{}", 2)
    finally:
        registry._tools["web_search"] = kept


async def test_a_call_that_was_given_up_before_its_thread_began_never_runs(
    thing: Puppet,
) -> None:
    async with HermesTools(tools=["puppet"]) as tools:
        orch = orch_of(tools)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await orch.dispatch("puppet")
        assert (await orch.run("puppet")).ok
        assert orch.stats("puppet").in_flight == 0


async def test_hermes_is_told_of_the_task_and_of_nothing_else(thing: Puppet) -> None:
    async with HermesTools(tools=["puppet"]) as tools:
        await orch_of(tools).dispatch("puppet", {}, task_id="t", session_id="s", user="ada")
        assert thing.told == [{"task_id": "t", "session_id": "s"}]


async def test_arguments_are_made_what_the_schema_says(thing: Puppet) -> None:
    async with HermesTools(tools=["puppet"]) as tools:
        said = json.loads(await orch_of(tools).dispatch("puppet", {"count": "42"}))
        assert said["args"] == {"count": 42}
        said = json.loads(await orch_of(tools).dispatch("puppet", {"self": 1, "name": 2}))
        assert said["args"] == {"self": 1, "name": 2}


@pytest.mark.parametrize(
    ("more", "text"),
    [({"text_summary": "a cat"}, "a cat"), ({}, "look\n[image_url]")],
)
async def test_an_envelope_keeps_its_form(
    thing: Puppet, more: dict[str, str], text: str
) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,eA=="}}
    envelope = {"_multimodal": True, "content": [{"type": "text", "text": "look"}, image]}
    thing.behaviour = lambda args: {**envelope, **more}
    async with HermesTools(tools=["puppet"]) as tools:
        result = await orch_of(tools).run("puppet")
        assert (result.ok, result.value) == (True, {**envelope, **more})
        assert result.content == text


async def test_what_no_handler_may_return_is_a_failure(thing: Puppet) -> None:
    thing.behaviour = lambda args: {"a": "dict"}
    async with HermesTools(tools=["puppet"]) as tools:
        result = await orch_of(tools).run("puppet")
        assert result.verdict is Verdict.FAILURE


async def test_an_async_handler_runs_in_its_thread() -> None:
    async def speaks(args: dict[str, Any], **told: Any) -> str:
        return json.dumps({"thread": threading.get_ident()})

    with puppet("speaker", handler=speaks, is_async=True, check_fn=None):
        async with HermesTools(tools=["speaker"]) as tools:
            said = json.loads(await orch_of(tools).dispatch("speaker"))
            assert said["thread"] != threading.get_ident()


async def test_tools_come_and_go_as_hermes_says(thing: Puppet) -> None:
    thing.switch(False)
    async with HermesTools(tools=["puppet"], refresh_every=0.01) as tools:
        orch = orch_of(tools)
        said = await orch.dispatch("puppet")
        assert "one of hermes, which says that it is not available now" in said
        assert "hermes" not in await orch.dispatch("terminal")
        thing.switch(True)
        with anyio.fail_after(20):
            while "puppet" not in orch.registry:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        assert json.loads(await orch.dispatch("puppet"))["fine"]
        thing.switch(False)
        await tools.refresh()
        assert "puppet" not in orch.registry


async def test_one_that_stays_keeps_its_circuit_when_hermes_is_asked_again(
    thing: Puppet,
) -> None:
    thing.behaviour = thing.fails
    async with HermesTools(tools=["puppet"]) as tools:
        orch = orch_of(tools)
        for _ in range(3):
            await orch.dispatch("puppet")
        await tools.refresh()
        assert orch.circuit("puppet").state is CircuitState.OPEN


async def test_what_hermes_says_anew_of_a_tool_is_told(thing: Puppet) -> None:
    described = ["one"]
    told = {"dynamic_schema_overrides": lambda: {"description": described[0]}}
    with puppet("changing", **told):
        async with HermesTools(tools=["changing"], refresh_every=None) as tools:
            orch = orch_of(tools)
            await orch.dispatch("changing")
            described[0] = "another"
            await tools.refresh()
            assert orch.registry["changing"].description == "another"
            await orch.dispatch("changing")
            assert orch.stats("changing").successes == 2


async def test_a_new_tool_whose_name_is_taken_is_left_out(
    thing: Puppet, caplog: pytest.LogCaptureFixture
) -> None:
    async with HermesTools(tools=["puppet", "other"], refresh_every=None) as tools:
        orch = orch_of(tools)

        @orch.registry.tool
        def other() -> str:
            return "ours"

        with puppet("other"):
            await tools.refresh()
            await tools.refresh()
            assert caplog.text.count("a new tool of hermes is left out") == 1
            assert await orch.dispatch("other") == "ours"
        await tools.refresh()
        assert await orch.dispatch("other") == "ours"


async def test_a_tool_that_no_model_can_call_is_left_out(
    thing: Puppet, caplog: pytest.LogCaptureFixture
) -> None:
    with puppet("a name " * 40):
        async with HermesTools(tools=["a name*", "puppet"]) as tools:
            await tools.refresh()
            assert [tool.name for tool in orch_of(tools).registry] == ["puppet"]
    assert caplog.text.count("a tool of hermes is left out") == 1


class Unreadable:
    """
    A schema that hermes takes, and cannot tell of.
    """

    def get(self, name: str, *default: Any) -> str:
        return name


async def test_a_refresh_that_fails_is_logged_and_made_again(
    thing: Puppet, caplog: pytest.LogCaptureFixture
) -> None:
    async with HermesTools(tools=["puppet", "broken"], refresh_every=0.01) as tools:
        orch = orch_of(tools)
        with puppet("broken", schema=Unreadable()), anyio.fail_after(20):
            while caplog.text.count("could not be asked") < 2:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        assert (await orch.run("puppet")).ok


async def test_what_needs_an_agent_is_offered_with_what_it_needs_alone() -> None:
    from tools.todo_tool import TodoStore

    async with HermesTools() as tools:
        names = {tool.name for tool in orch_of(tools).registry}
        assert {"read_file", "terminal"} < names
        assert not names & {"todo", "memory", "clarify", "delegate_task", "session_search"}
    async with HermesTools(handler_kwargs={"todo": {"store": TodoStore()}}) as tools:
        todo = {"id": "1", "content": "rest", "status": "pending"}
        said = await orch_of(tools).dispatch("todo", {"todos": [todo]})
        assert json.loads(said)["todos"] == [todo]


async def test_a_script_may_call_the_tools_that_are_offered() -> None:
    code = "from hermes_tools import terminal\nprint(terminal('echo from within'))"
    async with HermesTools(tools=["execute_code", "terminal"]) as tools:
        result = await orch_of(tools).run("execute_code", {"code": code})
        assert "from within" in json.loads(result.content)["output"]
        result = await orch_of(tools).run("execute_code", {"code": "1 / 0"})
        assert (result.verdict, result.ok) == (Verdict.IGNORE, False)


async def test_names_that_are_taken_are_told_of_and_nothing_is_added(thing: Puppet) -> None:
    registered = Registry()

    @registered.tool(name="puppet")
    def ours() -> str:
        return "ours"

    with puppet("other"):
        async with HermesTools(tools=["other", "puppet"]) as tools:
            with pytest.raises(DuplicateToolError, match="hermes has a tool named puppet"):
                registered.include(tools)
            assert [tool.name for tool in registered] == ["puppet"]


async def test_leaving_takes_the_tools_out(thing: Puppet) -> None:
    async with HermesTools(tools=["puppet"], refresh_every=None) as tools:
        one, other = orch_of(tools), orch_of(tools)
        assert repr(tools) == "<HermesTools, 1 of them>"
        other.registry.exclude(tools)
        assert "puppet" not in other.registry
        assert "puppet" in one.registry
    assert "puppet" not in one.registry


async def test_a_tool_that_was_replaced_is_not_taken_out(thing: Puppet) -> None:
    async with HermesTools(tools=["puppet"]) as tools:
        registered = orch_of(tools).registry

        @registered.tool(name="puppet", replace=True)
        def ours() -> str:
            return "ours"

    assert "puppet" in registered


async def test_a_thread_that_comes_too_late_does_nothing(thing: Puppet) -> None:
    async with HermesTools(tools=["puppet"]) as tools:
        late = Stoppable(hermes.interrupt.set_interrupt)
        late.give_up()
        assert tools._dispatch(late, "puppet", {}, {}, []) is None
        assert thing.runs == 0


async def test_they_are_entered_once() -> None:
    async with HermesTools(tools=["puppet"]) as tools:
        with pytest.raises(RuntimeError, match="entered already"):
            await tools.__aenter__()


async def test_an_error_in_the_block_comes_out_as_it_was() -> None:
    with pytest.raises(KeyError):
        async with HermesTools(tools=["puppet"]):
            raise KeyError


async def test_more_calls_than_threads_are_turned_away_without_a_verdict(
    thing: Puppet,
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def waits(args: dict[str, Any]) -> Any:
        entered.set()
        assert go_on.wait(20)
        return thing.works(args)

    thing.behaviour = waits
    async with HermesTools(tools=["puppet"], max_threads=1) as tools:
        orch = orch_of(tools)
        async with anyio.create_task_group() as group:
            group.start_soon(orch.dispatch, "puppet")
            await anyio.to_thread.run_sync(entered.wait)
            result = await orch.run("puppet")
            go_on.set()
        assert result.verdict is Verdict.IGNORE
        assert "puppet is busy: 1 of 1 threads in use" in result.content
        assert (await orch.run("puppet")).ok


async def test_a_policy_goes_before_what_is_known(thing: Puppet) -> None:
    thing.behaviour = thing.fails
    size = "x" * 1000
    policy = ToolPolicy(
        judge=exceptions_only,
        max_result_size=200,
        breaker=BreakerPolicy(failure_threshold=1),
        limits=LimitPolicy(max_concurrent=1),
    )
    async with HermesTools(tools=["puppet"], policy=policy) as tools:
        orch = orch_of(tools)
        assert (await orch.run("puppet")).verdict is Verdict.SUCCESS
        thing.behaviour = lambda args: size
        assert len(await orch.dispatch("puppet")) <= 200
    failing = ToolPolicy(is_failure=lambda value: True)
    async with HermesTools(tools=["puppet"], policy=failing) as tools:
        assert (await orch_of(tools).run("puppet")).verdict is Verdict.FAILURE


@pytest.mark.parametrize(
    ("size", "limit"), [(5000, 5000), (None, 100_000), (float("inf"), None), (100, None)]
)
async def test_a_result_is_as_long_as_hermes_says(
    size: float | None, limit: int | None
) -> None:
    with puppet("sized", max_result_size_chars=size):
        async with HermesTools(tools=["sized"]) as tools:
            policy = orch_of(tools).registry["sized"].policy
            assert policy.max_result_size == limit


async def test_those_that_change_something_say_so() -> None:
    async with HermesTools(circuit="files") as tools:
        found = orch_of(tools).registry
        assert found["read_file"].read_only is True
        assert (found["write_file"].read_only, found["terminal"].read_only) == (
            False,
            False,
        )
        assert found["write_file"].circuit_name == found["terminal"].circuit_name == "files"
        assert found["read_file"].circuit_name == "read_file"


async def test_definitions_are_those_of_hermes(thing: Puppet) -> None:
    async with HermesTools(tools=["puppet"]) as tools:
        assert orch_of(tools).registry.definitions() == registry.get_definitions({"puppet"})


def orch_of(tools: HermesTools) -> ToolOrchestrator:
    found = Registry()
    found.include(tools)
    return ToolOrchestrator(found)
