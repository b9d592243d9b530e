"""
The Agents SDK's tools under circuits of ours, and our tools in its agents.
"""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import pytest
from agents import (
    Agent,
    FunctionTool,
    RunConfig,
    RunContextWrapper,
    Runner,
    RunState,
    ToolExecutionConfig,
    ToolGuardrailFunctionOutput,
    ToolOutputImage,
    UserError,
    WebSearchTool,
    function_tool,
    set_trace_processors,
    tool_input_guardrail,
    tool_namespace,
    tool_output_guardrail,
)
from agents import tool as sdk
from agents.exceptions import (
    AgentsException,
    MaxTurnsExceeded,
    ToolInputGuardrailTripwireTriggered,
    ToolTimeoutError,
)
from agents.model_settings import ModelSettings
from agents.tool_context import ToolContext as SdkContext
from pydantic import BaseModel

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    CircuitState,
    ConversationPolicy,
    Registry,
    RetryPolicy,
    ToolOrchestrator,
    ToolPolicy,
)
from orchestrator_async.adapters.openai_agents import guard_tool, guard_tools
from tests.support import HandClock, when_blocked

from .openai_model import Script, Spans, call

pytestmark = pytest.mark.parametrize(
    "anyio_backend", ["asyncio in real time", "asyncio+uvloop"], indirect=True
)


@pytest.fixture(autouse=True)
def spans() -> Iterator[Spans]:
    """
    The spans of tools; they are sent nowhere.
    """
    kept = Spans()
    set_trace_processors([kept])
    yield kept
    set_trace_processors([])


class Service:
    """
    What a tool asks: it is down, or it is not.
    """

    def __init__(self, *, down: bool = True) -> None:
        self.down = down
        self.runs = 0

    async def ask(self, city: str) -> str:
        self.runs += 1
        await anyio.lowlevel.checkpoint()
        if self.down:
            raise ConnectionError("no route to host")
        return f"sun in {city}"

    def tool(self, name: str = "look", **options: Any) -> FunctionTool:
        return function_tool(self.ask, name_override=name, **options)


class Weather(BaseModel):
    sky: str


def orchestrator(**options: Any) -> ToolOrchestrator:
    return ToolOrchestrator(Registry(), failure_threshold=2, **options)


def agent(model: Script, *tools: Any, **options: Any) -> Agent[Any]:
    return Agent(name="ada", model=model, tools=list(tools), **options)


def looks(*ids: str, city: str = "Bonn") -> list[Any]:
    return [call("look", each, city=city) for each in ids]


# --- failures ----------------------------------------------------------------------


async def test_a_tool_that_works_gives_what_it_gave() -> None:
    orch, model = orchestrator(), Script(looks("a"))
    tool = guard_tool(Service(down=False).tool(), orch)
    result = await Runner.run(agent(model, tool), "go")
    assert (result.final_output, model.output("a")) == ("done", "sun in Bonn")
    assert orch.stats("look").successes == 1


async def test_one_that_dies_is_refused_and_others_go_on() -> None:
    orch, dead = orchestrator(), Service()
    model = Script(*[looks(each) for each in "abc"], [call("walk", "w", city="Bonn")])
    tools = guard_tools([dead.tool(), Service(down=False).tool("walk")], orch)
    await Runner.run(agent(model, *tools), "go")
    assert dead.runs == 2
    first, refused = json.loads(model.output("a")), json.loads(model.output("c"))
    assert "no route to host" in first["error"]
    assert (refused["state"], refused["tool_name"]) == ("open", "look")
    assert refused["retry_after"] > 0
    assert model.output("w") == "sun in Bonn"


async def test_one_probe_is_made_when_it_returns() -> None:
    clock, service = HandClock(), Service()
    orch = orchestrator(clock=clock)
    tool = guard_tool(service.tool(), orch)
    await Runner.run(agent(Script(looks("a"), looks("b")), tool), "go")
    assert orch.circuit("look").state is CircuitState.OPEN
    clock.turn(300)
    service.down, service.runs = False, 0
    model = Script(looks(*"cdefgh"), looks("i"))
    await Runner.run(agent(model, tool), "go")
    assert service.runs == 2  # one of the six, and the one after it
    answers = [model.output(each) for each in "cdefgh"]
    assert answers.count("sun in Bonn") == 1
    assert model.output("i") == "sun in Bonn"


async def test_a_tool_that_raises_ends_no_run() -> None:
    async def invoke(context: SdkContext[Any], input: str) -> str:
        raise ConnectionError("no route to host")

    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    tool = FunctionTool("look", "It looks.", schema, invoke)
    with pytest.raises(UserError):
        await Runner.run(agent(Script(looks("a")), tool), "go")
    model = Script(looks("a"))
    await Runner.run(agent(model, guard_tool(tool, orchestrator())), "go")
    assert "no route to host" in model.output("a")


async def test_a_tool_that_breaks_off_by_itself_is_answered() -> None:
    async def look(city: str) -> str:
        raise asyncio.CancelledError

    orch, model = orchestrator(), Script(looks("a"))
    await Runner.run(agent(model, guard_tool(function_tool(look), orch)), "go")
    assert "look" in json.loads(model.output("a"))["error"]
    assert orch.stats("look").in_flight == 0


async def test_what_answers_for_failures_of_its_own_goes_on_doing_so() -> None:
    heard: list[Exception] = []

    def sorry(context: RunContextWrapper[Any], error: Exception) -> str:
        heard.append(error)
        return f"sorry: {type(error).__name__}"

    model = Script(looks("a"), looks("b"), looks("c"))
    tool = guard_tool(Service().tool(failure_error_function=sorry), orchestrator())
    await Runner.run(agent(model, tool), "go")
    assert model.output("b") == "sorry: ConnectionError"
    assert model.output("c") == "sorry: CircuitOpenError"
    assert len(heard) == 3


async def test_a_run_that_was_to_end_ends_as_it_did() -> None:
    service, orch = Service(), orchestrator()
    bare = service.tool(failure_error_function=None)
    ends = []
    for tool in (bare, guard_tool(bare, orch)):
        with pytest.raises(UserError) as caught:
            await Runner.run(agent(Script(looks("a")), tool), "go")
        ends.append((str(caught.value), type(caught.value.__cause__)))
    assert ends[0] == ends[1]
    assert orch.stats("look").failures == 1


async def test_all_failures_can_be_answered_by_us() -> None:
    for answer in (None, lambda context, error: "sorry"):
        model = Script(looks("a"))
        tool = Service().tool(failure_error_function=answer)
        guarded = guard_tool(tool, orchestrator(), always_answer=True)
        await Runner.run(agent(model, guarded), "go")
        assert "no route to host" in model.output("a")
    slow = function_tool(
        never, name_override="look", timeout=0.02, timeout_behavior="raise_exception"
    )
    model = Script(looks("a"))
    guarded = guard_tool(slow, orchestrator(), always_answer=True)
    await Runner.run(agent(model, guarded), "go")
    assert "0.02 s" in model.output("a")


async def test_a_runs_formatter_of_errors_is_asked() -> None:
    config = RunConfig(tool_error_formatter=lambda args: f"{args.kind}: {args.error}")
    model = Script(looks("a"))
    tool = guard_tool(Service().tool(), orchestrator())
    await Runner.run(agent(model, tool), "go", run_config=config)
    assert model.output("a") == "tool_exception: no route to host"


async def test_invalid_arguments_are_nobodys_failure() -> None:
    orch = orchestrator()
    bad = [call("look", each, text) for each, text in zip("abc", "[{0", strict=True)]
    model = Script(bad)
    await Runner.run(agent(model, guard_tool(Service().tool(), orch)), "go")
    assert "Invalid JSON" in model.output("a")
    assert orch.stats("look").ignored == 3
    assert orch.circuit("look").state is CircuitState.CLOSED


async def test_a_retry_runs_the_tool_again() -> None:
    service = Service()
    policy = ToolPolicy(retry=RetryPolicy(attempts=2, wait_initial=0, wait_jitter=0))
    model = Script(looks("a"))
    tool = guard_tool(service.tool(), orchestrator(), policy=policy, idempotent=True)
    await Runner.run(agent(model, tool), "go")
    assert service.runs == 2


# --- what passes through ------------------------------------------------------------


async def never(city: str) -> str:
    """Never comes back."""
    await anyio.sleep_forever()
    raise AssertionError


async def test_the_tools_own_timeout_is_a_failure_of_it() -> None:
    orch, model = orchestrator(), Script(looks("a"), looks("b"), looks("c"))
    tool = guard_tool(function_tool(never, name_override="look", timeout=0.02), orch)
    await Runner.run(agent(model, tool), "go")
    assert "0.02 s" in model.output("a")
    assert json.loads(model.output("c"))["state"] == "open"
    assert orch.get_fleet_stats()["look"]["timeouts"] == 2


async def test_a_timeout_says_what_the_tool_says_of_it() -> None:
    async def gone(context: Any, error: Exception) -> str:
        assert isinstance(error, ToolTimeoutError)
        return f"gone for {error.timeout_seconds:g} s"

    tool = function_tool(
        never, name_override="look", timeout=0.02, timeout_error_function=gone
    )
    model = Script(looks("a"))
    await Runner.run(agent(model, guard_tool(tool, orchestrator())), "go")
    assert model.output("a") == "gone for 0.02 s"

    plain = function_tool(
        never,
        name_override="look",
        timeout=0.02,
        timeout_error_function=lambda context, error: "gone",
    )
    model = Script(looks("a"))
    policy = ToolPolicy(timeout=60)
    await Runner.run(agent(model, guard_tool(plain, orchestrator(), policy=policy)), "go")
    assert model.output("a") == "gone"


async def test_a_timeout_that_ends_the_run_ends_it_and_counts() -> None:
    orch = orchestrator()
    tool = function_tool(
        never, name_override="look", timeout=0.02, timeout_behavior="raise_exception"
    )
    policy = BreakerPolicy(failure_threshold=1)
    guarded = guard_tool(tool, orch, policy=policy)
    with pytest.raises(ToolTimeoutError, match="look"):
        await Runner.run(agent(Script(looks("a")), guarded), "go")
    assert orch.circuit("look").state is CircuitState.OPEN


async def test_approval_sees_the_arguments_and_the_run_goes_on() -> None:
    asked: list[dict[str, Any]] = []

    async def needs(context: Any, args: dict[str, Any], call_id: str) -> bool:
        asked.append(args)
        return True

    service, orch = Service(down=False), orchestrator()
    model = Script(looks("a", "b"))
    ada = agent(model, guard_tool(service.tool(needs_approval=needs), orch))
    result = await Runner.run(ada, "go")
    assert (len(result.interruptions), service.runs) == (2, 0)
    assert orch.stats("look").calls == 0
    state = await RunState.from_json(ada, result.to_state().to_json())
    yes, no = state.get_interruptions()
    state.approve(yes)
    state.reject(no)
    result = await Runner.run(ada, state)
    assert (result.final_output, service.runs) == ("done", 1)
    assert asked[0] == {"city": "Bonn"}
    assert model.output("a") == "sun in Bonn"
    assert orch.stats("look").successes == 1


async def test_guardrails_stand_before_and_behind() -> None:
    @tool_input_guardrail
    def before(data: Any) -> ToolGuardrailFunctionOutput:
        if "Bonn" in data.context.tool_arguments:
            return ToolGuardrailFunctionOutput.reject_content("not there")
        return ToolGuardrailFunctionOutput.allow()

    @tool_output_guardrail
    def behind(data: Any) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.reject_content(f"seen: {data.output}")

    orch, model = orchestrator(), Script([*looks("a"), *looks("b", city="Ulm")])
    tool = Service(down=False).tool(
        tool_input_guardrails=[before], tool_output_guardrails=[behind]
    )
    await Runner.run(agent(model, guard_tool(tool, orch)), "go")
    assert (model.output("a"), model.output("b")) == ("not there", "seen: sun in Ulm")
    assert orch.stats("look").calls == 1


async def test_a_tripwire_stops_the_run_and_is_no_verdict() -> None:
    @tool_input_guardrail
    def stop(data: Any) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.raise_exception()

    orch = orchestrator()
    inner = agent(
        Script(looks("x")), Service(down=False).tool(tool_input_guardrails=[stop])
    )
    as_tool = inner.as_tool("ask", "Asks.", failure_error_function=None)
    for _ in range(3):
        outer = agent(Script([call("ask", "a", input="now")]), guard_tool(as_tool, orch))
        inner.model = Script(looks("x"))
        with pytest.raises(ToolInputGuardrailTripwireTriggered):
            await Runner.run(outer, "go")
    assert orch.circuit("ask").state is CircuitState.CLOSED
    assert orch.stats("ask").failures == 0


async def test_an_agent_that_is_a_tool_runs_out_of_turns_without_a_verdict() -> None:
    orch = orchestrator()
    inner = agent(Script(looks("x")), Service(down=False).tool())
    for function, expected in ((None, None), (sdk.default_tool_error_function, "error")):
        as_tool = inner.as_tool(
            "ask", "Asks.", max_turns=1, failure_error_function=function
        )
        inner.model = Script(looks("x"))
        model = Script([call("ask", "a", input="now")])
        outer = agent(model, guard_tool(as_tool, orch))
        if expected is None:
            with pytest.raises(MaxTurnsExceeded):
                await Runner.run(outer, "go")
        else:
            await Runner.run(outer, "go")
            assert expected in model.output("a")
    assert orch.stats("ask").failures == 0


async def test_an_approval_inside_an_agent_that_is_a_tool_is_no_verdict() -> None:
    orch, service = orchestrator(), Service(down=False)
    inner = agent(Script(looks("x")), service.tool(needs_approval=True))
    inner.name = "inner"
    model = Script([call("ask", "a", input="now")])
    outer = agent(model, guard_tool(inner.as_tool("ask", "Asks."), orch))
    result = await Runner.run(outer, "go")
    assert orch.stats("ask").successes == 0
    state = await RunState.from_json(outer, result.to_state().to_json())
    (item,) = state.get_interruptions()
    state.approve(item)
    result = await Runner.run(outer, state)
    assert (result.final_output, model.output("a")) == ("done", "done")
    assert service.runs == 1
    assert orch.stats("ask").successes == 1


async def test_an_agent_that_is_a_tool_can_be_called_by_hand() -> None:
    tool = guard_tool(agent(Script()).as_tool("ask", "Asks."), orchestrator())
    text = '{"input": "now"}'
    context = SdkContext(None, tool_name="ask", tool_call_id="a", tool_arguments=text)
    assert await tool.on_invoke_tool(context, text) == "done"


async def test_one_that_is_refused_by_hand_is_told_of() -> None:
    orch = orchestrator()
    tool = guard_tool(agent(Script()).as_tool("ask", "Asks."), orch)
    orch.circuit("ask").trip()
    text = '{"input": "now"}'
    context = SdkContext(None, tool_name="ask", tool_call_id="a", tool_arguments=text)
    assert "ask is down" in await tool.on_invoke_tool(context, text)


async def test_streaming_shows_what_tools_gave() -> None:
    orch, model = orchestrator(), Script(looks("a"), looks("b"), looks("c"))
    run = Runner.run_streamed(agent(model, guard_tool(Service().tool(), orch)), "go")
    outputs = [
        event.item.output
        async for event in run.stream_events()
        if event.type == "run_item_stream_event" and event.name == "tool_output"
    ]
    assert run.final_output == "done"
    assert len(outputs) == 3
    assert json.loads(outputs[2])["state"] == "open"


async def test_traces_have_the_tools_spans_and_their_failures(spans: Spans) -> None:
    seen: list[Any] = []

    async def look(city: str) -> str:
        from agents.tracing import get_current_span

        seen.append(get_current_span())
        if city == "Bonn":
            raise ConnectionError("down")
        return "sun"

    tool = guard_tool(function_tool(look), orchestrator())
    model = Script(looks("a"), looks("b", city="Ulm"))
    await Runner.run(agent(model, tool), "go")
    failed, fine = spans.tools
    assert (failed.span_data.name, fine.error) == ("look", None)
    assert "Error running tool" in failed.error["message"]
    assert fine.span_data.output == "sun"
    assert [each.span_id for each in seen] == [failed.span_id, fine.span_id]


async def test_tool_choice_and_use_of_tools_are_as_they_were() -> None:
    tool = guard_tool(Service(down=False).tool(), orchestrator())
    model = Script(looks("a"))
    ada = agent(
        model,
        tool,
        tool_use_behavior="stop_on_first_tool",
        model_settings=ModelSettings(tool_choice="look"),
    )
    result = await Runner.run(ada, "go")
    assert result.final_output == "sun in Bonn"
    assert model.settings[0].tool_choice == "look"
    assert model.offered == [["look"]]


async def test_calls_run_side_by_side_as_far_as_the_run_allows() -> None:
    running = most = 0

    async def look(city: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.lowlevel.checkpoint()
        running -= 1
        return "sun"

    tool = guard_tool(function_tool(look), orchestrator())
    await Runner.run(agent(Script(looks(*"abcdef")), tool), "go")
    assert most == 6
    most = 0
    limited = RunConfig(tool_execution=ToolExecutionConfig(max_function_tool_concurrency=2))
    await Runner.run(agent(Script(looks(*"abcdef")), tool), "go", run_config=limited)
    assert most == 2


async def test_a_run_that_is_cancelled_leaves_nothing_behind() -> None:
    clock, service = HandClock(), Service()
    orch = orchestrator(clock=clock)
    begun = anyio.Event()

    async def look(city: str) -> str:
        if city == "Bonn":
            return await service.ask(city)
        begun.set()
        return await never(city)

    tool = guard_tool(function_tool(look), orch)
    await Runner.run(agent(Script(looks("a"), looks("b")), tool), "go")
    clock.turn(300)
    async with anyio.create_task_group() as tasks:
        slow = agent(Script(looks("c", city="Ulm")), tool)
        tasks.start_soon(partial(Runner.run, slow, "go"))
        await begun.wait()
        assert orch.stats("look").in_flight == 1
        tasks.cancel_scope.cancel()
    assert orch.stats("look").in_flight == 0
    service.down = False
    model = Script(looks("d"))
    await Runner.run(agent(model, tool), "go")
    assert model.output("d") == "sun in Bonn"


async def test_a_streamed_run_that_is_cancelled_leaves_nothing_behind() -> None:
    orch = orchestrator()
    begun, ended = anyio.Event(), anyio.Event()

    async def look(city: str) -> str:
        begun.set()
        try:
            return await never(city)
        finally:
            ended.set()

    tool = guard_tool(function_tool(look), orch)
    run = Runner.run_streamed(agent(Script(looks("a")), tool), "go")
    await begun.wait()
    run.cancel()
    async for _ in run.stream_events():
        pass
    await ended.wait()
    await when_blocked()
    figures = orch.stats("look")
    assert (figures.in_flight, figures.cancelled) == (0, 1)


async def test_a_plain_function_runs_in_its_thread() -> None:
    threads: list[int] = []

    def look(context: RunContextWrapper[str], city: str) -> str:
        """
        Looks.

        Args:
            city: Where.
        """
        threads.append(threading.get_ident())
        return f"{context.context} in {city}"

    bare = function_tool(look)
    tool = guard_tool(bare, orchestrator())
    model = Script(looks("a"))
    await Runner.run(agent(model, tool), "go", context="rain")
    assert model.output("a") == "rain in Bonn"
    assert threads != [threading.get_ident()]
    assert tool.__wrapped__ is look
    with pytest.raises(ValueError, match="only supported for async"):
        tool.timeout_seconds = 3
        copy(tool)


async def test_of_one_that_goes_on_in_a_thread_the_model_is_told_so() -> None:
    go_on, runs = threading.Event(), list[str]()

    @function_tool
    def look(city: str) -> str:
        runs.append(city)
        go_on.wait(20)
        return "late"

    retry = RetryPolicy(wait_initial=0, wait_jitter=0)
    policy = ToolPolicy(timeout=0.02, retry=retry)
    tool = guard_tool(look, orchestrator(), policy=policy, idempotent=True)
    model = Script(looks("a"))
    try:
        await Runner.run(agent(model, tool), "go")
    finally:
        go_on.set()
    assert "It may still be running" in json.loads(model.output("a"))["error"]
    assert runs == ["Bonn"]


def test_a_run_without_a_loop_of_its_own_works(anyio_backend: Any) -> None:
    model = Script(looks("a"))
    tool = guard_tool(Service(down=False).tool(), orchestrator())
    with asyncio.Runner() as loop:
        asyncio.set_event_loop(loop.get_loop())  # else the SDK makes one and keeps it
        Runner.run_sync(agent(model, tool), "go")
    asyncio.set_event_loop(None)
    assert model.output("a") == "sun in Bonn"


async def test_a_run_that_fails_cancels_the_others_without_a_verdict() -> None:
    begun = anyio.Event()

    async def wait(city: str) -> str:
        begun.set()
        return await never(city)

    async def fail(city: str) -> str:
        await begun.wait()
        raise ConnectionError("down")

    orch = orchestrator()
    tools = guard_tools(
        [function_tool(wait), function_tool(fail, failure_error_function=None)], orch
    )
    both = [call("wait", "a", city="Bonn"), call("fail", "b", city="Bonn")]
    with pytest.raises(UserError, match="down"):
        await Runner.run(agent(Script(both), *tools), "go")
    figures = orch.stats("wait")
    assert (figures.in_flight, figures.cancelled, figures.failures) == (0, 1, 0)


async def test_what_ends_a_run_passes_out_of_a_function_that_somebody_wrote() -> None:
    async def invoke(context: SdkContext[Any], input: str) -> str:
        raise MaxTurnsExceeded("enough")

    orch = orchestrator()
    tool = FunctionTool("look", "", {"type": "object", "properties": {}}, invoke)
    with pytest.raises(MaxTurnsExceeded, match="enough"):
        await Runner.run(agent(Script(looks("a")), guard_tool(tool, orch)), "go")
    assert (orch.stats("look").failures, orch.stats("look").in_flight) == (0, 0)


async def test_a_hosted_program_is_told_of_failures_as_it_was() -> None:
    async def look(city: str) -> Weather:
        raise ConnectionError("down")

    bare = function_tool(look, output_type=Weather, allowed_callers=["programmatic"])
    ends = []
    for tool in (bare, guard_tool(bare, orchestrator())):
        asked = looks("a")[0].model_copy(
            update={"caller": {"type": "program", "caller_id": "p"}}
        )
        with pytest.raises(ConnectionError) as caught:
            await tool.on_invoke_tool(
                SdkContext(
                    None,
                    tool_name="look",
                    tool_call_id="a",
                    tool_arguments=asked.arguments,
                    tool_call=asked,
                ),
                asked.arguments,
            )
        ends.append(repr(caught.value))
    assert ends[0] == ends[1]


async def test_everything_else_of_a_tool_stays() -> None:
    bare = Service().tool(
        is_enabled=False,
        needs_approval=True,
        description_override="It looks.",
        custom_data_extractor=lambda context: {"a": 1},
    )
    tool = guard_tool(bare, orchestrator())
    changed = {
        name
        for name, value in vars(bare).items()
        if getattr(tool, name) is not value and getattr(tool, name) != value
    }
    assert changed == {"on_invoke_tool"}
    assert bare.on_invoke_tool is not tool.on_invoke_tool


async def test_custom_data_and_values_reach_the_sdk_as_they_were() -> None:
    picture = ToolOutputImage(image_url="data:image/png;base64,AAAA")
    seen: list[Any] = []

    class Odd:
        def __str__(self) -> str:
            return "odd"

    values: list[Any] = [picture, {"a": 1}, Odd(), None]

    async def look(city: str) -> Any:
        return values[int(city)]

    tool = guard_tool(
        function_tool(look, custom_data_extractor=lambda c: seen.append(c.output)),
        orchestrator(),
    )
    model = Script([call("look", f"c{n}", city=str(n)) for n in range(4)])
    result = await Runner.run(agent(model, tool), "go")
    assert all(any(each is value for each in seen) for value in values)
    assert model.output("c0")[0]["type"] == "input_image"
    assert model.output("c2") == "odd"
    assert len(result.new_items) == 9


async def test_results_with_a_schema_are_held_to_it_and_failures_are_not() -> None:
    async def look(city: str) -> Weather:
        if city == "Bonn":
            raise ConnectionError("down")
        return Weather(sky="blue")

    tool = guard_tool(function_tool(look, output_type=Weather), orchestrator())
    model = Script([*looks("a"), *looks("b", city="Ulm")])
    await Runner.run(agent(model, tool), "go")
    assert "down" in model.output("a")
    assert json.loads(model.output("b")) == {"sky": "blue"}


async def test_a_namespace_makes_another_tool_of_it() -> None:
    orch = orchestrator()
    tool = guard_tool(Service(down=False).tool(), orch)
    (crm,) = tool_namespace(name="crm", description="Customers.", tools=[tool])
    context = SdkContext(None, tool_name="look", tool_call_id="a", tool_arguments="{}")
    assert await crm.on_invoke_tool(context, '{"city": "Bonn"}') == "sun in Bonn"
    assert orch.stats("crm.look").successes == 1
    assert orch.stats("look").calls == 0
    assert copy(crm).on_invoke_tool is not crm.on_invoke_tool

    (taken,) = tool_namespace(name="own", description="Own.", tools=[tool])
    orch.registry.tool(name="own.look")(never)
    with pytest.raises(ValueError, match=r"a tool of its own named 'own\.look'"):
        await taken.on_invoke_tool(context, '{"city": "Bonn"}')


async def test_a_function_that_wants_less_context_is_given_less() -> None:
    given: list[Any] = []

    async def invoke(context: RunContextWrapper[Any], input: str) -> str:
        given.append(type(context))
        return "fine"

    tool = FunctionTool("look", "", {"type": "object", "properties": {}}, invoke)
    tool.tool_input_guardrails = []
    model = Script(looks("a"))
    await Runner.run(agent(model, guard_tool(tool, orchestrator())), "go")
    assert given == [RunContextWrapper]
    assert model.output("a") == "fine"


@pytest.mark.parametrize("timeout", [None, 0.01])
async def test_one_that_wants_less_context_fails_as_any_other(
    spans: Spans, timeout: float | None
) -> None:
    async def invoke(context: RunContextWrapper[Any], input: str) -> str:
        if timeout is not None:
            await anyio.sleep_forever()
        raise ConnectionError("no route to host")

    seen: list[Any] = []
    orch = orchestrator(observers=[seen.append])
    schema: Any = {"type": "object", "properties": {}}
    tool = FunctionTool("look", "", schema, invoke, timeout_seconds=timeout)
    model = Script(*[looks(each) for each in "abc"])
    await Runner.run(agent(model, guard_tool(tool, orch)), "go", context="all of it")
    assert json.loads(model.output("a"))["tool_name"] == "look"
    assert json.loads(model.output("c"))["state"] == "open"
    assert all(span.error is not None for span in spans.tools)
    assert len(spans.tools) == 3
    told = [each.context for each in seen if isinstance(each, CallFinished)]
    assert told == [{"run_context": "all of it", "agent": "ada"}] * 2
    assert next(iter(seen)).call_id == "a"


async def test_a_function_that_somebody_wrote_can_be_called_by_hand() -> None:
    async def invoke(context: Any, input: str) -> str:
        if input == "{}":
            raise ConnectionError("no route to host")
        return input

    tool = FunctionTool("look", "", {"type": "object", "properties": {}}, invoke)
    guarded = guard_tool(tool, orchestrator())
    context: Any = RunContextWrapper(None)
    assert await guarded.on_invoke_tool(context, "now") == "now"
    assert "no route to host" in await guarded.on_invoke_tool(context, "{}")


async def test_a_copy_of_what_somebody_wrote_is_another_tool() -> None:
    async def invoke(context: Any, input: str) -> str:
        raise ConnectionError("no route to host")

    orch = orchestrator()
    tool = FunctionTool("look", "", {"type": "object", "properties": {}}, invoke)
    renamed = replace(guard_tool(tool, orch), name="peek")
    model = Script([call("peek", "a")])
    await Runner.run(agent(model, renamed), "go")
    assert json.loads(model.output("a"))["tool_name"] == "peek"
    assert (orch.stats("peek").failures, orch.stats("look").failures) == (1, 0)


async def test_hosted_tools_are_passed_on() -> None:
    hosted = WebSearchTool()
    orch = orchestrator()
    tools = guard_tools([hosted, Service().tool()], orch)
    assert tools[0] is hosted
    assert [each.name for each in orch.registry] == ["look"]


# --- options ------------------------------------------------------------------------


async def test_settings_by_name_and_of_the_policy_hold() -> None:
    orch = orchestrator(tools={"look": ToolPolicy(guard=lambda call, context: "no")})
    model = Script(looks("a"))
    await Runner.run(agent(model, guard_tool(Service().tool(), orch)), "go")
    assert json.loads(model.output("a"))["refused"] is True
    policy = ToolPolicy(max_result_size=200)
    tool = guard_tool(Service(down=False).tool(), orchestrator(), policy=policy)
    model = Script(looks("a", city="B" * 1000))
    await Runner.run(agent(model, tool), "go")
    assert len(model.output("a")) <= 200


async def test_tools_of_one_service_share_a_circuit() -> None:
    orch, service = orchestrator(), Service()
    tools = guard_tools(
        [service.tool("look"), service.tool("peek")], orch, circuit="weather"
    )
    model = Script(looks("a"), looks("b"), [call("peek", "c", city="Bonn")])
    await Runner.run(agent(model, *tools), "go")
    assert json.loads(model.output("c"))["state"] == "open"
    assert service.runs == 2


async def test_observers_are_told_of_the_run() -> None:
    events: list[Any] = []
    orch = orchestrator(observers=[events.append])
    tool = guard_tool(Service(down=False).tool(), orch)
    own = {"user": "ada"}
    await Runner.run(agent(Script(looks("a")), tool), "go", context=own)
    (event,) = [each for each in events if isinstance(each, CallFinished)]
    assert (event.call_id, event.arguments) == ("a", {"city": "Bonn"})
    assert event.context == {"run_context": own, "agent": "ada"}

    user = guard_tool(
        Service().tool("peek"), orch, context=lambda context: {"name": context.context}
    )
    model = Script([call("peek", "b", city="Bonn")])
    await Runner.run(agent(model, user), "go", context="ada")
    assert events[-1].context == {"name": "ada"}


async def test_a_conversation_ends_a_loop() -> None:
    service, orch = Service(down=False), orchestrator()
    tool = guard_tool(service.tool(), orch, conversation=lambda context: context.context)
    model = Script(*[looks(f"c{n}") for n in range(12)])
    rules = ConversationPolicy()
    async with orch.conversation(policy=rules) as chat:
        await Runner.run(agent(model, tool), "go", context=chat, max_turns=20)
    assert service.runs < 12
    assert json.loads(model.output("c11"))["refused"] is True


async def test_guarding_twice_is_guarding_once() -> None:
    async def invoke(context: Any, input: str) -> str:
        return "fine"

    orch = orchestrator()
    plain = FunctionTool("peek", "", {"type": "object", "properties": {}}, invoke)
    for bare in (Service().tool(), plain):
        tool = guard_tool(bare, orch)
        assert guard_tools([tool], orch) == [tool]
        with pytest.raises(ValueError, match="guarded by another orchestrator"):
            guard_tool(tool, orchestrator())


async def test_what_cannot_be_guarded_is_named() -> None:
    with pytest.raises(TypeError, match="a FunctionTool can be guarded"):
        guard_tool(WebSearchTool(), orchestrator())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="policy must be"):
        guard_tool(Service().tool(timeout=1), orchestrator(), policy=3)  # type: ignore[arg-type]
    orch = orchestrator()
    orch.registry.tool(name="look")(never)
    with pytest.raises(ValueError, match="a tool of its own named 'look'"):
        guard_tool(Service().tool(), orch)


async def test_runs_leave_no_garbage_that_holds_the_tool() -> None:
    import weakref

    orch, service = orchestrator(), Service()
    tool = guard_tool(service.tool(failure_error_function=None), orch)
    with pytest.raises(AgentsException):
        await Runner.run(agent(Script(looks("a")), tool), "go")
    assert await orch.dispatch("look") != ""  # only the SDK can run it
    known = weakref.ref(service)
    orch.registry.remove("look")
    del tool, service
    gc.collect()
    assert known() is None


# --- wrong use ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "options", "second", "word"),
    [
        ({}, {"policy": BreakerPolicy(failure_threshold=1)}, {}, "breaker"),
        ({}, {"policy": ToolPolicy(guard=lambda call, context: None)}, {}, "guard"),
        ({}, {"circuit": "sky"}, {}, "circuit"),
        ({}, {"idempotent": True}, {}, "idempotent"),
        ({}, {}, {"timeout": 1}, "timeout"),
        ({"timeout": 2}, {}, {"timeout": 1}, "timeout"),
    ],
)
async def test_one_name_has_one_set_of_settings(
    first: Any, options: Any, second: Any, word: str
) -> None:
    orch = orchestrator()
    guard_tool(Service().tool(**first), orch)
    with pytest.raises(ValueError, match=f"'look' is guarded already .* {word}, and"):
        guard_tool(Service().tool(**second), orch, **options)


async def test_tools_made_for_each_request_share_what_is_of_their_name() -> None:
    orch = orchestrator()
    policy = ToolPolicy(timeout=5, breaker=BreakerPolicy(failure_threshold=1))
    outputs = []
    for city in ("Bonn", "Rome"):
        model = Script(looks("a", city=city))
        tool = guard_tool(Service().tool(timeout=9), orch, policy=policy, circuit="sky")
        await Runner.run(agent(model, tool), "go")
        outputs.append(json.loads(model.output("a")).get("state"))
    assert outputs == [None, "open"]


async def test_what_is_no_tool_is_named() -> None:
    orch = orchestrator()
    cases: list[tuple[Any, str]] = [
        (Service().tool(), "a list of the SDK's tools"),
        (None, "a list of the SDK's tools"),
        ([never], "of a function, function_tool makes one"),
        ([None], "None is no tool of the SDK"),
        ([agent(Script())], "ada is an agent and no tool"),
    ]
    for tools, words in cases:
        with pytest.raises(TypeError, match=words):
            guard_tools(tools, orch)


async def test_what_is_no_function_is_named() -> None:
    for option in ("conversation", "context"):
        options: Any = {option: {}}
        with pytest.raises(TypeError, match=f"{option} must be a function"):
            guard_tool(Service().tool(), orchestrator(), **options)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("context", None, "context= is to return a mapping"),
        ("context", {"call_id": "a"}, "call_id: the id of the call by the SDK"),
        ("conversation", 5, "conversation= is to return a conversation or None"),
    ],
)
async def test_what_a_call_cannot_have_is_named(
    option: str, value: Any, words: str
) -> None:
    options: Any = {option: lambda context: value}
    tool = guard_tool(Service().tool(), orchestrator(), **options)
    with pytest.raises(UserError, match=words):
        await Runner.run(agent(Script(looks("a")), tool), "go")


async def test_a_call_may_have_no_conversation() -> None:
    orch = orchestrator()
    for value in (None, orch):
        tool = guard_tool(
            Service(down=False).tool(), orch, conversation=lambda run: run.context
        )
        model = Script(looks("a"))
        await Runner.run(agent(model, tool), "go", context=value)
        assert model.output("a") == "sun in Bonn"


async def test_a_conversation_of_another_orchestrator_is_named() -> None:
    async with orchestrator().conversation() as chat:
        tool = guard_tool(
            Service().tool(), orchestrator(), conversation=lambda context: chat
        )
        with pytest.raises(UserError, match="a conversation of another orchestrator"):
            await Runner.run(agent(Script(looks("a")), tool), "go")


@pytest.mark.parametrize("text", ["{'path': '/etc'}", '["/etc"]', "/etc", "null"])
async def test_what_a_guard_cannot_see_is_not_run(text: str) -> None:
    ran = []

    async def lenient(context: Any, input: str) -> str:
        ran.append(input)
        return "fine"

    def guard(call: Any, context: Any) -> str | None:
        return "Not there." if call.args else None

    orch = orchestrator()
    schema = {"type": "object", "properties": {}}
    plain = FunctionTool("peek", "", schema, lenient, strict_json_schema=False)
    tool = guard_tool(plain, orch, policy=ToolPolicy(guard=guard))
    model = Script([call("peek", "a", text), call("peek", "b", "")])
    await Runner.run(agent(model, tool), "go")
    assert "one JSON object" in model.output("a")
    assert (model.output("b"), ran) == ("fine", [""])
    assert orch.stats("peek").invalid == 1


async def test_text_that_is_no_json_reaches_a_tool_that_wants_such() -> None:
    async def lenient(context: Any, input: str) -> str:
        return input.upper()

    plain = FunctionTool("peek", "", {"type": "object", "properties": {}}, lenient)
    model = Script([call("peek", "a", "plain words")])
    await Runner.run(agent(model, guard_tool(plain, orchestrator())), "go")
    assert model.output("a") == "PLAIN WORDS"


async def test_an_agent_that_is_refused_when_it_may_go_on_is_over() -> None:
    orch, service = orchestrator(), Service(down=False)
    inner = agent(Script(looks("x")), service.tool(needs_approval=True))
    model = Script([call("ask", "a", input="now")])
    outer = agent(model, guard_tool(inner.as_tool("ask", "Asks."), orch))
    result = await Runner.run(outer, "go")
    state = await RunState.from_json(outer, result.to_state().to_json())
    (item,) = state.get_interruptions()
    state.approve(item)
    orch.circuit("ask").trip()
    result = await Runner.run(outer, state)
    assert (result.final_output, result.interruptions) == ("done", [])
    assert json.loads(model.output("a"))["state"] == "open"
    assert service.runs == 0
