"""
Tools of Pydantic AI under circuits: the real package, with a scripted model.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from opentelemetry.trace import NonRecordingSpan, NoOpTracer, SpanContext, TracerProvider
from pydantic_ai import Agent, ModelRetry, RunContext, ToolFailed, ToolReturn
from pydantic_ai.capabilities import AbstractCapability, Instrumentation, PrepareTools
from pydantic_ai.exceptions import (
    ApprovalRequired,
    CallDeferred,
    RunCancelled,
    RunTimedOut,
    SkipToolExecution,
    ToolFailedError,
    ToolRetryError,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
)
from pydantic_ai.messages import (
    BinaryContent,
    FunctionToolResultEvent,
    ToolReturnPart,
)
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.test import TestModel
from pydantic_ai.tool_manager import ToolManager
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset
from pydantic_ai.usage import RunUsage, UsageLimits

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    CircuitChanged,
    CircuitState,
    ConversationPolicy,
    InvalidArgumentsError,
    Outcome,
    Registry,
    RetryPolicy,
    ToolCall,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
)
from orchestrator_async.adapters.pydantic_ai import (
    Circuits,
    CircuitToolset,
    OrchestratorToolset,
)
from orchestrator_async.adapters.pydantic_ai._call import CONTROL_FLOW, IGNORE
from tests.support import HandClock, assert_adds_up

from .pydantic_ai_model import Script, outcomes, returns_of, times, told

PNG = BinaryContent(b"\x89PNG", media_type="image/png")


@pytest.fixture(params=["asyncio", "asyncio+uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """
    The framework runs on asyncio alone. Real time: its plain functions run in threads.
    """
    if request.param == "asyncio":
        return "asyncio", {"debug": True}
    pytest.importorskip("uvloop")
    return "asyncio", {"use_uvloop": True}


def orchestrator(**options: Any) -> ToolOrchestrator:
    return ToolOrchestrator(Registry(), **{"failure_threshold": 2, **options})


class Tools:
    """
    Two tools of the framework: ``look`` does what it is told, ``add`` always works.
    """

    def __init__(self, *behaviour: Any) -> None:
        self.behaviour = list(behaviour)
        self.runs = 0
        self.toolset: FunctionToolset[Any] = FunctionToolset([self.look, self.add])

    async def look(self, at: str = "sun") -> Any:
        """Look at something."""
        self.runs += 1
        does = self.behaviour.pop(0) if len(self.behaviour) > 1 else self.behaviour[0]
        if isinstance(does, BaseException):
            raise does
        if callable(does):
            return await does()
        return does

    async def add(self) -> int:
        return 3


def down() -> ConnectionError:
    return ConnectionError("the service is down")


def state(orch: ToolOrchestrator, name: str = "look") -> CircuitState:
    return orch.circuit(name).state


# A tool that dies


async def test_a_tool_that_dies_is_refused_and_the_run_goes_on() -> None:
    orch, tools, script = orchestrator(), Tools(down()), Script(*times(4, "look", "add"))
    agent = Agent(script.model, toolsets=[CircuitToolset(tools.toolset, orch)])
    result = await agent.run("go")
    assert result.output == "done"
    assert tools.runs == 2
    looked = told(result.all_messages(), "look")
    assert [outcome for outcome, _ in looked] == ["failed"] * 4
    assert "the service is down" in looked[0][1]
    assert '"circuit_breaker": true' in looked[3][1]
    assert told(result.all_messages(), "add") == [("success", 3)] * 4
    assert_adds_up(orch)


async def test_of_many_calls_one_probes_when_it_returns() -> None:
    clock = HandClock()
    orch, reached, go_on = orchestrator(clock=clock), anyio.Event(), anyio.Event()

    async def comes_back() -> str:
        reached.set()
        await go_on.wait()
        return "back"

    tools = Tools(down(), down(), comes_back, "well")
    script = Script(*times(2, "look"), *times(1, *["look"] * 20), *times(1, "look"))
    agent = Agent(script.model, toolsets=[CircuitToolset(tools.toolset, orch)])

    async def turn() -> None:
        await reached.wait()
        assert state(orch) is CircuitState.HALF_OPEN
        go_on.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turn)
            orch.add_observer(lambda event: _turn_when_open(event, clock))
            result = await agent.run("go")
    assert outcomes(result.all_messages(), "look")[2:].count("success") == 2
    assert tools.runs == 4
    assert state(orch) is CircuitState.CLOSED


def _turn_when_open(event: Any, clock: HandClock) -> None:
    if isinstance(event, CircuitChanged) and event.new is CircuitState.OPEN:
        clock.turn(300)


async def test_plain_functions_are_guarded_and_give_their_threads_back() -> None:
    orch = orchestrator()

    def look() -> str:
        raise down()

    toolset: FunctionToolset[Any] = FunctionToolset([look])
    agent = Agent(Script(*times(3, "look")).model, toolsets=[CircuitToolset(toolset, orch)])
    assert outcomes((await agent.run("go")).all_messages()) == ["failed"] * 3
    assert orch.stats("look").total_failures == 2


def test_the_sync_face_of_the_framework_works() -> None:
    orch, tools = orchestrator(), Tools(down())
    toolset = CircuitToolset(tools.toolset, orch)
    loop = asyncio.new_event_loop()  # the framework takes the thread's, and leaves it open
    asyncio.set_event_loop(loop)
    try:
        for _ in range(3):
            agent = Agent(Script(*times(1, "look")).model, toolsets=[toolset])
            assert agent.run_sync("go").output == "done"
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    assert tools.runs == 2


# What passes as it is


@dataclass
class Found:
    where: str


@pytest.mark.parametrize(
    "value",
    [
        "text",
        "",
        None,
        7,
        {"a": [1]},
        [PNG, "a picture"],
        PNG,
        Found("here"),
        ToolReturn("told", content=["see", PNG], metadata=Found("there")),
        ToolReturn({"a": 1}),
        {"error": "no such city"},
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_what_a_tool_returns_reaches_the_framework_as_it_was(value: Any) -> None:
    seen: list[Any] = []

    class Watching(AbstractCapability[Any]):
        async def after_tool_execute(self, ctx: Any, *, result: Any, **_: Any) -> Any:
            seen.append(result)
            return result

    toolset = CircuitToolset(Tools(value).toolset, orchestrator(), conversation=True)
    agent = Agent(
        Script(*times(1, "look")).model, toolsets=[toolset], capabilities=[Watching()]
    )
    result = await agent.run("go")
    assert len(seen) == 1
    assert seen[0] is value
    assert outcomes(result.all_messages()) == ["success"]


async def test_a_returned_error_counts_also_within_a_tool_return() -> None:
    orch = orchestrator()
    error = {"error": "ECONNREFUSED"}
    tools = Tools(error, ToolReturn(error))
    agent = Agent(
        Script(*times(3, "look")).model, toolsets=[CircuitToolset(tools.toolset, orch)]
    )
    assert outcomes((await agent.run("go")).all_messages()) == [
        "success",
        "success",
        "failed",
    ]


async def test_what_cannot_be_sent_is_a_failure_and_ends_no_run() -> None:
    orch, tools = orchestrator(), Tools(object())
    agent = Agent(
        Script(*times(1, "look")).model, toolsets=[CircuitToolset(tools.toolset, orch)]
    )
    ((outcome, content),) = told((await agent.run("go")).all_messages())
    assert outcome == "failed"
    assert "cannot be made JSON" in content


async def test_a_model_retry_counts_in_the_frameworks_budget_alone() -> None:
    orch, tools = orchestrator(), Tools(ModelRetry("name a city"))
    toolset = CircuitToolset(tools.toolset, orch)
    agent = Agent(Script(*times(9, "look")).model, toolsets=[toolset], retries=3)
    with pytest.raises(UnexpectedModelBehavior, match="exceeded max retries count of 3"):
        await agent.run("go")
    assert tools.runs == 4
    assert state(orch) is CircuitState.CLOSED
    assert orch.stats("look").ignored == 4

    tools.behaviour = [ModelRetry("name a city"), "sun"]
    again = Agent(Script(*times(2, "look")).model, toolsets=[toolset])
    assert told((await again.run("go")).all_messages()) == [
        ("retried", "name a city"),
        ("success", "sun"),
    ]


async def test_a_model_retry_for_a_dead_service_counts_and_passes() -> None:
    orch = orchestrator()

    async def retries() -> None:
        try:
            raise down()
        except ConnectionError as error:
            raise ModelRetry("once more") from error

    agent = Agent(
        Script(*times(3, "look")).model,
        toolsets=[CircuitToolset(Tools(retries).toolset, orch)],
        retries=5,
    )
    result = await agent.run("go")
    assert outcomes(result.all_messages()) == ["retried", "retried", "failed"]
    assert orch.stats("look").last_error == "ConnectionError: the service is down"


async def test_a_model_retry_for_what_blames_the_call_does_not_count() -> None:
    orch = orchestrator()

    async def retries() -> None:
        try:
            raise KeyError("Atlantis")
        except KeyError as error:
            raise ModelRetry("no such city") from error

    agent = Agent(
        Script(*times(3, "look")).model,
        toolsets=[CircuitToolset(Tools(retries).toolset, orch)],
        retries=5,
    )
    assert outcomes((await agent.run("go")).all_messages()) == ["retried"] * 3


async def test_a_timeout_of_the_framework_passes_and_counts() -> None:
    orch = orchestrator()

    async def look() -> None:
        await anyio.sleep_forever()

    toolset: FunctionToolset[Any] = FunctionToolset(timeout=0.01, max_retries=9)
    toolset.add_function(look)
    agent = Agent(Script(*times(3, "look")).model, toolsets=[CircuitToolset(toolset, orch)])
    looked = told((await agent.run("go")).all_messages())
    assert looked[:2] == [("retried", "Timed out after 0.01 seconds.")] * 2
    assert looked[2][0] == "failed"
    assert orch.stats("look").in_flight == 0


async def test_a_timeout_of_the_framework_leaves_the_thread_of_a_plain_function() -> None:
    orch, go_on = orchestrator(), threading.Event()

    def look() -> None:
        go_on.wait()

    toolset: FunctionToolset[Any] = FunctionToolset(timeout=0.01)
    toolset.add_function(look)
    agent = Agent(Script(*times(1, "look")).model, toolsets=[CircuitToolset(toolset, orch)])
    try:
        assert outcomes((await agent.run("go")).all_messages()) == ["retried"]
    finally:
        go_on.set()
    assert (orch.stats("look").total_failures, orch.stats("look").in_flight) == (1, 0)


async def test_a_timeout_of_ours_is_told_to_the_model() -> None:
    orch = orchestrator()
    toolset = CircuitToolset(
        Tools(anyio.sleep_forever).toolset, orch, policy=ToolPolicy(timeout=0.01)
    )
    agent = Agent(Script(*times(1, "look")).model, toolsets=[toolset])
    ((outcome, content),) = told((await agent.run("go")).all_messages())
    assert (outcome, '"timeout": true' in content) == ("failed", True)


@pytest.mark.parametrize(
    ("message", "counts"),
    [("no such file: notes.txt", False), ("connection refused", True), ("boom", True)],
)
async def test_a_tool_failed_is_told_as_it_was_and_judged_by_its_words(
    message: str, counts: bool
) -> None:
    orch = orchestrator()
    toolset = CircuitToolset(Tools(ToolFailed(message)).toolset, orch)
    agent = Agent(Script(*times(2, "look")).model, toolsets=[toolset])
    assert told((await agent.run("go")).all_messages()) == [("failed", message)] * 2
    assert orch.stats("look").total_failures == (2 if counts else 0)


async def test_a_judge_of_the_users_has_the_last_word() -> None:
    seen: list[BaseException | None] = []

    def judge(outcome: Outcome) -> bool:
        seen.append(outcome.error)
        return False

    orch = orchestrator(policy=ToolPolicy(judge=judge))
    toolset = CircuitToolset(Tools(ToolFailed("no such file")).toolset, orch)
    agent = Agent(Script(*times(1, "look")).model, toolsets=[toolset])
    assert told((await agent.run("go")).all_messages()) == [("failed", "no such file")]
    assert [str(each) for each in seen] == ["no such file"]
    assert isinstance(seen[0], ToolFailed)
    assert orch.stats("look").successes == 1


@pytest.mark.parametrize(
    ("raised", "failures"), [(RunCancelled("enough"), 0), (RunTimedOut("too long"), 1)]
)
async def test_an_agent_within_a_tool_may_be_cancelled_or_run_out_of_time(
    raised: RunCancelled, failures: int
) -> None:
    orch, tools = orchestrator(), Tools(raised)
    agent = Agent(
        Script(*times(1, "look")).model, toolsets=[CircuitToolset(tools.toolset, orch)]
    )
    ((outcome, content),) = told((await agent.run("go")).all_messages())
    assert (outcome, content) == ("failed", f"The sub-agent run was cancelled: {raised}")
    assert orch.stats("look").total_failures == failures


async def test_a_usage_limit_of_an_agent_within_a_tool_ends_the_run() -> None:
    orch, tools = orchestrator(), Tools(UsageLimitExceeded("enough"))
    agent = Agent(
        Script(*times(1, "look")).model, toolsets=[CircuitToolset(tools.toolset, orch)]
    )
    with pytest.raises(UsageLimitExceeded):
        await agent.run("go")
    assert orch.stats("look").total_failures == 0


@pytest.mark.parametrize("signal", [*CONTROL_FLOW, *IGNORE], ids=lambda kind: kind.__name__)
async def test_each_signal_of_the_framework_is_raised_on_as_it_is(
    signal: type[Exception],
) -> None:
    part = ToolReturnPart(tool_name="look", content="told")
    raised = signal(part) if signal in (ToolFailedError, ToolRetryError) else signal("told")
    orch, tools = orchestrator(failure_threshold=1), Tools(raised)
    toolset = CircuitToolset(tools.toolset, orch)
    usage = RunUsage()
    ctx: RunContext[Any] = RunContext(deps=None, model=TestModel(), usage=usage)
    tool = (await toolset.get_tools(ctx))["look"]
    with pytest.raises(signal) as caught:
        await toolset.call_tool("look", {}, ctx, tool)
    assert caught.value is raised
    assert (orch.stats("look").ignored, state(orch)) == (1, CircuitState.CLOSED)


async def test_an_error_about_arguments_of_ours_becomes_a_retry() -> None:
    orch, tools = orchestrator(), Tools(InvalidArgumentsError("no such sun"), "sun")
    agent = Agent(
        Script(*times(2, "look")).model, toolsets=[CircuitToolset(tools.toolset, orch)]
    )
    looked = told((await agent.run("go")).all_messages())
    assert [outcome for outcome, _ in looked] == ["retried", "success"]
    assert "no such sun" in looked[0][1]


async def test_a_hook_that_skips_a_tool_is_no_call_of_ours() -> None:
    class Skipping(AbstractCapability[Any]):
        async def before_tool_execute(self, ctx: Any, **_: Any) -> Any:
            raise SkipToolExecution("skipped")

    orch, tools = orchestrator(), Tools("seen")
    toolset = CircuitToolset(tools.toolset, orch)
    agent = Agent(
        Script(*times(1, "look")).model, toolsets=[toolset], capabilities=[Skipping()]
    )
    assert told((await agent.run("go")).all_messages()) == [("success", "skipped")]
    assert "look" not in orch.registry


# Approval and deferred calls


def beneath(orch: ToolOrchestrator, tools: Tools) -> AbstractToolset[Any]:
    return CircuitToolset(tools.toolset.approval_required(), orch)


def above(orch: ToolOrchestrator, tools: Tools) -> AbstractToolset[Any]:
    return CircuitToolset(tools.toolset, orch).approval_required()


def declared(orch: ToolOrchestrator, tools: Tools) -> AbstractToolset[Any]:
    toolset: FunctionToolset[Any] = FunctionToolset(
        [tools.look, tools.add], requires_approval=True
    )
    return CircuitToolset(toolset, orch)


@pytest.mark.parametrize("where", [beneath, above, declared])
async def test_a_call_that_waits_for_approval_holds_nothing(where: Any) -> None:
    clock = HandClock()
    orch, tools = orchestrator(clock=clock), Tools(down(), down(), "sun")
    orch.add_observer(lambda event: _turn_when_open(event, clock))
    toolset = where(orch, tools)
    agent: Agent[None, Any] = Agent(
        Script(*times(3, "look")).model,
        toolsets=[toolset],
        output_type=[str, DeferredToolRequests],
    )
    result = await agent.run("go")
    for expected in ("failed", "failed", "success"):
        asked = result.output
        assert isinstance(asked, DeferredToolRequests)
        assert [each.tool_name for each in asked.approvals] == ["look"]
        if "look" in orch.registry:
            assert orch.stats("look").in_flight == 0
        approved = DeferredToolResults(approvals={asked.approvals[0].tool_call_id: True})
        messages = result.all_messages()
        result = await agent.run(message_history=messages, deferred_tool_results=approved)
        assert outcomes(result.all_messages())[-1] == expected
    assert result.output == "done"
    assert tools.runs == 3
    assert state(orch) is CircuitState.CLOSED


async def test_a_deferred_call_is_no_verdict_and_frees_the_probe() -> None:
    clock = HandClock()
    orch = orchestrator(clock=clock)
    tools = Tools(down(), down(), CallDeferred({"task": 7}), "sun")
    toolset = CircuitToolset(tools.toolset, orch)
    await Agent(Script(*times(2, "look")).model, toolsets=[toolset]).run("go")
    clock.turn(300)
    agent: Agent[None, Any] = Agent(
        Script(*times(1, "look")).model,
        toolsets=[toolset],
        output_type=[str, DeferredToolRequests],
    )
    first = await agent.run("go")
    ((call_id, metadata),) = first.output.metadata.items()
    assert metadata == {"task": 7}
    assert orch.stats("look").in_flight == 0
    assert state(orch) is not CircuitState.CLOSED
    results = DeferredToolResults(calls={call_id: "from outside"})
    done = await agent.run(
        message_history=first.all_messages(), deferred_tool_results=results
    )
    assert told(done.all_messages())[-1] == ("success", "from outside")
    assert tools.runs == 3
    again = await Agent(Script(*times(1, "look")).model, toolsets=[toolset]).run("go")
    assert told(again.all_messages()) == [("success", "sun")]
    assert state(orch) is CircuitState.CLOSED


async def test_an_open_circuit_asks_nobody_for_approval_of_what_it_would_refuse() -> None:
    orch, tools = orchestrator(), Tools("sun")
    toolset = beneath(orch, tools)
    agent: Agent[None, Any] = Agent(
        Script(*times(2, "look")).model,
        toolsets=[toolset],
        output_type=[str, DeferredToolRequests],
    )
    assert isinstance((await agent.run("go")).output, DeferredToolRequests)
    orch.circuit("look").isolate()
    result = await agent.run("go")
    assert (result.output, outcomes(result.all_messages())) == ("done", ["failed"])


async def test_a_tool_may_ask_for_approval_by_itself() -> None:
    orch = orchestrator()

    async def look(ctx: RunContext[None]) -> str:
        if not ctx.tool_call_approved:
            raise ApprovalRequired({"why": "it is bright"})
        return "sun"

    toolset = CircuitToolset(FunctionToolset[None]([look]), orch)
    agent: Agent[None, Any] = Agent(
        Script(*times(1, "look")).model,
        toolsets=[toolset],
        output_type=[str, DeferredToolRequests],
    )
    first = await agent.run("go")
    ((call_id, metadata),) = first.output.metadata.items()
    assert metadata == {"why": "it is bright"}
    results = DeferredToolResults(approvals={call_id: True})
    done = await agent.run(
        message_history=first.all_messages(), deferred_tool_results=results
    )
    assert told(done.all_messages()) == [("success", "sun")]
    assert (orch.stats("look").ignored, orch.stats("look").successes) == (1, 1)


# The framework's own features beside it


async def test_streams_of_the_framework_go_on() -> None:
    orch, tools = orchestrator(), Tools(down())
    toolset = CircuitToolset(tools.toolset, orch)
    agent = Agent(Script(*times(3, "look", "add")).model, toolsets=[toolset])
    async with agent.run_stream("go") as stream:
        chunks = [chunk async for chunk in stream.stream_text(delta=True)]
    assert "".join(chunks) == "done"
    assert outcomes(stream.all_messages(), "look") == ["failed"] * 3
    assert tools.runs == 2

    agent = Agent(Script(*times(2, "look", "add")).model, toolsets=[toolset])
    async with agent.iter("go") as run:
        nodes = [type(node).__name__ async for node in run]
    assert nodes.count("CallToolsNode") == 3

    agent = Agent(Script(*times(1, "look", "add")).model, toolsets=[toolset])
    async with agent.run_stream_events("go") as events:
        results = [
            each.part async for each in events if isinstance(each, FunctionToolResultEvent)
        ]
    assert {part.tool_name: part.outcome for part in results} == {
        "look": "failed",
        "add": "success",
    }


async def test_a_test_model_calls_every_tool() -> None:
    orch = orchestrator()
    agent = Agent(TestModel(), toolsets=[CircuitToolset(Tools(down()).toolset, orch)])
    result = await agent.run("go")
    assert "add" in result.output
    assert orch.stats("look").total_failures == orch.stats("add").successes == 1


class Spans(NoOpTracer):
    """
    Remembers which spans were opened, and what they were told.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[Span] = []

    @contextmanager
    def start_as_current_span(  # type: ignore[override]
        self, name: str, *args: Any, **options: Any
    ) -> Iterator[Any]:
        yield self.start_span(name, *args, **options)

    def start_span(self, name: str, *args: Any, **options: Any) -> Any:
        span = Span(name, dict(options.get("attributes") or {}))
        self.spans.append(span)
        return span


class Span(NonRecordingSpan):
    def __init__(self, name: str, attributes: dict[str, Any]) -> None:
        super().__init__(SpanContext(1, 1, is_remote=False))
        self.name, self.attributes = name, attributes

    def is_recording(self) -> bool:
        return True

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value


class Provider(TracerProvider):
    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def get_tracer(self, *args: Any, **options: Any) -> Spans:
        return self._spans


async def test_spans_of_tools_are_there_also_for_refused_calls() -> None:
    spans = Spans()
    settings = InstrumentationSettings(tracer_provider=Provider(spans))
    orch, tools = orchestrator(), Tools(down())
    agent = Agent(
        Script(*times(3, "look")).model,
        capabilities=[Circuits(orch), Instrumentation(settings=settings)],
        toolsets=[tools.toolset],
    )
    await agent.run("go")
    tool_spans = [each for each in spans.spans if each.name == "execute_tool look"]
    assert len(tool_spans) == 3
    results = [str(each.attributes) for each in tool_spans]
    assert "the service is down" in results[0]
    assert "circuit_breaker" in results[2]


async def test_tool_choice_and_definitions_reach_the_model_as_they_were() -> None:
    async def prepared(ctx: RunContext[Any], tools: list[ToolDefinition]) -> list[Any]:
        return [each for each in tools if each.name == "look"]

    tools, bare, script = Tools("sun"), Script(), Script()
    settings: Any = {"tool_choice": "none"}
    for told_of, toolset in [
        (bare, tools.toolset),
        (script, CircuitToolset(tools.toolset, orchestrator())),
    ]:
        agent = Agent(told_of.model, toolsets=[toolset.prepared(prepared)])
        await agent.run("go", model_settings=settings)
    one, other = bare.infos[0], script.infos[0]
    assert other.model_settings == one.model_settings == settings
    (was,), (now,) = one.function_tools, other.function_tools
    assert (now.name, now.description, now.parameters_json_schema, now.sequential) == (
        was.name,
        was.description,
        was.parameters_json_schema,
        was.sequential,
    )


async def test_usage_limits_count_tools_that_work() -> None:
    orch = orchestrator()
    toolset = CircuitToolset(Tools("sun").toolset, orch)
    agent = Agent(Script(*times(5, "look")).model, toolsets=[toolset])
    with pytest.raises(UsageLimitExceeded):
        await agent.run("go", usage_limits=UsageLimits(tool_calls_limit=2))
    assert orch.stats("look").successes == 2


async def test_parallel_calls_run_side_by_side_and_sequential_ones_alone() -> None:
    order: list[str] = []
    running = 0
    most: dict[str, int] = {"look": 0, "write": 0}
    both = anyio.Event()

    async def look() -> None:
        nonlocal running
        running += 1
        most["look"] = max(most["look"], running)
        if running == 2:
            both.set()
        await both.wait()
        running -= 1
        order.append("look")

    async def write() -> None:
        nonlocal running
        running += 1
        most["write"] = max(most["write"], running)
        await anyio.lowlevel.checkpoint()
        running -= 1
        order.append("write")

    toolset: FunctionToolset[Any] = FunctionToolset([look])
    toolset.add_function(write, sequential=True)
    turn = times(1, "look", "look", "write", "write")
    agent = Agent(Script(*turn).model, toolsets=[CircuitToolset(toolset, orchestrator())])
    await agent.run("go")
    assert (most, order) == ({"look": 2, "write": 1}, ["look", "look", "write", "write"])

    order.clear()
    agent = Agent(
        Script(*times(1, "write", "write")).model,
        toolsets=[CircuitToolset(toolset, orchestrator())],
    )
    with ToolManager.parallel_execution_mode("sequential"):
        await agent.run("go")
    assert order == ["write", "write"]


async def test_wrappers_of_the_framework_go_on_either_side() -> None:
    orch, tools = orchestrator(), Tools(down())
    inside: Any = CircuitToolset(tools.toolset.prefixed("sky"), orch).filtered(
        lambda ctx, tool: tool.name != "sky_add"
    )
    agent = Agent(Script(*times(3, "sky_look")).model, toolsets=[inside])
    assert outcomes((await agent.run("go")).all_messages()) == ["failed"] * 3
    assert state(orch, "sky_look") is CircuitState.OPEN

    outside: Any = CircuitToolset(tools.toolset, orch).renamed({"peer": "look"})
    agent = Agent(Script(*times(3, "sky_peer")).model, toolsets=[outside.prefixed("sky")])
    assert outcomes((await agent.run("go")).all_messages()) == ["failed"] * 3
    assert state(orch, "look") is CircuitState.OPEN


async def test_a_toolset_made_anew_at_each_step_keeps_its_circuits() -> None:
    from pydantic_ai.toolsets import DynamicToolset

    orch, made = orchestrator(), []

    def make(ctx: RunContext[Any]) -> FunctionToolset[Any]:
        made.append(Tools(down()))
        return made[-1].toolset

    dynamic: DynamicToolset[Any] = DynamicToolset(make)
    toolset = CircuitToolset(dynamic, orch, conversation=True)
    assert toolset.visit_and_replace(lambda each: each) == toolset
    agent = Agent(Script(*times(4, "look")).model, toolsets=[toolset])
    assert outcomes((await agent.run("go")).all_messages()) == ["failed"] * 4
    assert len(made) > 3
    assert sum(each.runs for each in made) == 2


async def test_instructions_and_the_life_of_the_wrapped_toolset_are_its_own() -> None:
    class Counted(FunctionToolset[Any]):
        entered = left = 0

        async def __aenter__(self) -> Any:
            self.entered += 1
            return await super().__aenter__()

        async def __aexit__(self, *args: object) -> bool | None:
            self.left += 1
            return await super().__aexit__(*args)

    wrapped = Counted(instructions="Look twice.")
    script = Script()
    toolset = CircuitToolset(wrapped, orchestrator(), conversation=True)
    await Agent(script.model, toolsets=[toolset]).run("go")
    assert "Look twice." in str(script.infos[0].instructions)
    assert (wrapped.entered, wrapped.left) == (1, 1)


# Leaving


@pytest.mark.parametrize("how", ["run", "task"])
async def test_a_run_that_is_cancelled_leaves_nothing(how: str) -> None:
    clock = HandClock()
    orch, reached = orchestrator(clock=clock), anyio.Event()

    async def hangs() -> None:
        reached.set()
        await anyio.sleep_forever()

    tools = Tools(down(), down(), hangs, "sun")
    toolset = CircuitToolset(tools.toolset, orch)
    await Agent(Script(*times(2, "look")).model, toolsets=[toolset]).run("go")
    clock.turn(300)
    agent = Agent(Script(*times(1, "look", "look")).model, toolsets=[toolset])
    scope = anyio.CancelScope()

    async def cancel(stop: Any) -> None:
        await reached.wait()
        stop()

    async with anyio.create_task_group() as tasks:
        if how == "task":
            tasks.start_soon(cancel, scope.cancel)
            with scope:
                await agent.run("go")
        else:
            with pytest.raises(RunCancelled):
                async with agent.iter("go") as run:
                    tasks.start_soon(cancel, run.cancel)
                    async for _ in run:
                        pass
    assert orch.stats("look").in_flight == 0
    assert_adds_up(orch)
    last = await Agent(Script(*times(1, "look")).model, toolsets=[toolset]).run("go")
    assert told(last.all_messages()) == [("success", "sun")]
    assert state(orch) is CircuitState.CLOSED


async def test_a_run_that_runs_out_of_time_leaves_nothing() -> None:
    orch = orchestrator()
    toolset = CircuitToolset(Tools(anyio.sleep_forever).toolset, orch)
    agent = Agent(Script(*times(1, "look")).model, toolsets=[toolset])
    with pytest.raises(RunTimedOut):
        await agent.run("go", timeout=0.5)
    assert orch.stats("look").in_flight == 0
    assert orch.stats("look").cancelled == 1


# Options


async def test_a_retry_of_ours_runs_what_is_said_to_be_idempotent() -> None:
    policy = ToolPolicy(retry=RetryPolicy(attempts=3, wait_initial=0, wait_jitter=0))
    tools = Tools(down(), "sun")
    marked = tools.toolset.with_metadata(idempotent=True, read_only=True, note="x")
    orch = orchestrator()
    toolset = CircuitToolset(marked, orch, policy=policy)
    agent = Agent(Script(*times(1, "look")).model, toolsets=[toolset])
    assert told((await agent.run("go")).all_messages()) == [("success", "sun")]
    tool = orch.registry["look"]
    assert (tool.idempotent, tool.read_only, tool.description) == (
        True,
        True,
        "Look at something.",
    )
    assert tool.render is not None
    assert tool.render({"sun": 1}) == '{"sun":1}'
    unmarked = CircuitToolset(Tools(down(), "sun").toolset, orchestrator(), policy=policy)
    agent = Agent(Script(*times(1, "look")).model, toolsets=[unmarked])
    assert outcomes((await agent.run("go")).all_messages()) == ["failed"]


async def test_a_fallback_answers() -> None:
    def from_memory(call: ToolCall, result: Any) -> dict[str, Any]:
        return {"from": "memory", "at": call.args["at"]}

    policy = ToolPolicy(fallback=from_memory)
    toolset = CircuitToolset(
        Tools(ModelRetry("again")).toolset, orchestrator(), policy=policy
    )
    failing = CircuitToolset(Tools(down()).toolset, orchestrator(), policy=policy)
    agent = Agent(Script(*times(1, ("look", {"at": "moon"}))).model, toolsets=[failing])
    answer = {"from": "memory", "at": "moon"}
    assert told((await agent.run("go")).all_messages()) == [("success", answer)]
    agent = Agent(Script(*times(1, "look")).model, toolsets=[toolset])
    assert outcomes((await agent.run("go")).all_messages()) == ["retried"]


@pytest.mark.parametrize(
    "value", ["x" * 900, ["x" * 900], ToolReturn(["x" * 900], metadata=1)], ids=type
)
async def test_what_is_too_long_is_cut_for_the_model(value: Any) -> None:
    toolset = CircuitToolset(
        Tools(value).toolset, orchestrator(), policy=ToolPolicy(max_result_size=200)
    )
    agent = Agent(Script(*times(1, "look")).model, toolsets=[toolset])
    (part,) = returns_of((await agent.run("go")).all_messages())
    assert (part.outcome, len(part.model_response_str()) <= 200) == ("success", True)
    assert part.metadata == (1 if isinstance(value, ToolReturn) else None)


async def test_a_picture_stays_where_its_text_is_cut() -> None:
    toolset = CircuitToolset(
        Tools(["x" * 900, PNG]).toolset,
        orchestrator(),
        policy=ToolPolicy(max_result_size=200),
    )
    agent = Agent(Script(*times(1, "look")).model, toolsets=[toolset])
    (part,) = returns_of((await agent.run("go")).all_messages())
    assert isinstance(part.content, list)
    assert part.files == [PNG]
    assert len(part.content[0]) <= 200


async def test_guards_and_observers_are_told_of_the_run() -> None:
    def guard(call: ToolCall, context: ToolContext) -> str | None:
        return "Only ada may look." if context.data["deps"] != "ada" else None

    orch = orchestrator(policy=ToolPolicy(guard=guard))
    events: list[CallFinished] = []

    def observe(event: Any) -> None:
        if isinstance(event, CallFinished):
            events.append(event)

    orch.add_observer(observe)
    toolset = CircuitToolset(Tools("sun").toolset, orch)
    for deps, outcome in [("ada", "success"), ("bob", "failed")]:
        agent = Agent(
            Script(*times(1, ("look", {"at": "moon"}))).model,
            toolsets=[toolset],
            deps_type=str,
        )
        result = await agent.run("go", deps=deps)
        assert outcomes(result.all_messages()) == [outcome]
        if deps == "ada":
            (event,) = events
            assert event.arguments == {"at": "moon"}
            assert event.call_id == returns_of(result.all_messages())[0].tool_call_id
            assert event.context == {"run_id": result.run_id, "deps": "ada"}


async def test_what_they_are_told_can_be_chosen() -> None:
    orch = orchestrator()
    events: list[Any] = []
    orch.add_observer(events.append)
    toolset = CircuitToolset(
        Tools("sun").toolset, orch, context=lambda ctx: {"step": ctx.run_step}
    )
    await Agent(Script(*times(2, "look")).model, toolsets=[toolset]).run("go")
    finished = [each for each in events if isinstance(each, CallFinished)]
    assert [each.context["step"] for each in finished] == [1, 2]


@pytest.mark.parametrize("seam", ["toolset", "capability"])
async def test_a_run_that_goes_round_in_circles_is_advised(seam: str) -> None:
    orch, tools = orchestrator(), Tools({"sun": "up"})
    policy = ConversationPolicy(same_results=2)
    options: dict[str, Any] = {"toolsets": [tools.toolset]}
    if seam == "toolset":
        guarded = CircuitToolset(tools.toolset, orch, conversation=policy)
        options = {"toolsets": [guarded]}
    else:
        options["capabilities"] = [Circuits(orch, conversation=policy)]
    for _ in range(2):  # each run begins anew
        tools.runs = 0
        result = await Agent(Script(*times(5, "look")).model, **options).run("go")
        looked = told(result.all_messages())
        assert looked[0] == ("success", {"sun": "up"})
        assert '"warning": ' in looked[1][1]
        assert looked[2][0] == "failed"
        assert tools.runs == 2


# All tools of an agent


async def test_all_tools_of_an_agent_are_guarded_by_a_capability() -> None:
    orch, tools = orchestrator(), Tools(down())
    agent: Agent[None, str] = Agent(
        Script(*times(3, "look", "own")).model,
        toolsets=[tools.toolset],
        capabilities=[Circuits(orch, policy=BreakerPolicy(failure_threshold=1))],
    )

    @agent.tool
    async def own(ctx: RunContext[None]) -> str:
        raise down()

    messages = (await agent.run("go")).all_messages()
    assert outcomes(messages) == ["failed"] * 6
    assert orch.stats("look").rejected == orch.stats("own").rejected == 2
    assert Circuits.get_serialization_name() is None


async def test_output_tools_are_never_guarded() -> None:
    orch = orchestrator()
    agent = Agent(TestModel(), output_type=Found, capabilities=[Circuits(orch)])
    assert isinstance((await agent.run("go")).output, Found)
    assert not list(orch.registry)


async def test_a_call_is_counted_once_by_what_is_innermost() -> None:
    orch, tools = orchestrator(), Tools(down())
    inner = orchestrator(failure_threshold=3)

    @inner.registry.tool
    async def ours() -> str:
        raise down()

    agent = Agent(
        Script(*times(4, "look", "sky_ours")).model,
        toolsets=[
            CircuitToolset(tools.toolset, inner),
            OrchestratorToolset(inner).prefixed("sky"),
        ],
        capabilities=[Circuits(orch)],
    )
    assert outcomes((await agent.run("go")).all_messages()) == ["failed"] * 8
    assert not list(orch.registry)
    assert tools.runs == inner.stats("ours").total_failures == 3
    assert inner.stats("look").calls == 3


async def test_a_name_that_the_registry_has_is_told_to_the_program() -> None:
    orch = orchestrator()

    @orch.registry.tool
    async def look() -> str:
        return "ours"

    agent = Agent(
        Script(*times(1, "look")).model,
        toolsets=[CircuitToolset(Tools("theirs").toolset, orch)],
    )
    with pytest.raises(ValueError, match="'look', which is not that of Pydantic AI"):
        await agent.run("go")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"orch": Registry()}, "orch must be a ToolOrchestrator"),
        ({"policy": 3}, "policy must be a ToolPolicy"),
        ({"conversation": "yes"}, "conversation must be True, False or a Conv.*'yes'"),
        ({"conversation": ConversationPolicy}, "conversation must be"),
        ({"context": {"user": "ada"}}, "context must be a plain function.*{'user': 'ada'}"),
        ({"context": Tools("sun").look}, "context must be a plain function"),
    ],
)
def test_what_cannot_be_used_is_told_of(options: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        CircuitToolset(Tools("sun").toolset, **{"orch": orchestrator(), **options})
    with pytest.raises(TypeError, match=words):
        Circuits(**{"orch": orchestrator(), **options})


@pytest.mark.parametrize(
    "wrapped", [[Tools("sun").look], Tools("sun").look, FunctionToolset]
)
def test_what_is_no_toolset_is_told_of(wrapped: Any) -> None:
    with pytest.raises(
        TypeError, match=r"wrapped must be a toolset, not .*FunctionToolset"
    ):
        CircuitToolset(wrapped, orchestrator())


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize(
    ("told_of", "words"),
    [
        (["ada"], "context must return a mapping"),
        (None, "context must return a mapping"),
        ({1: "ada"}, "context must return a mapping whose keys are names"),
        ({"call_id": "c1"}, "context returned call_id"),
        ({"timeout": 1}, "timeout: not an option of a call"),
    ],
)
async def test_a_context_that_cannot_be_one_is_told_of(
    told_of: Any, words: str, seen: bool
) -> None:
    orch = orchestrator(observers=[lambda event: None] if seen else [])
    await Agent(
        Script(*times(1, "look")).model, toolsets=[CircuitToolset(Tools(1).toolset, orch)]
    ).run("go")
    toolset = CircuitToolset(Tools("sun").toolset, orch, context=lambda ctx: told_of)
    with pytest.raises(TypeError, match=words):
        await Agent(Script(*times(1, "look")).model, toolsets=[toolset]).run("go")
    assert orch.stats("look").calls == 1


async def test_two_policies_for_one_tool_are_refused_and_equal_ones_are_one() -> None:
    orch, ended = orchestrator(), []
    for seconds in (5, 5, 6):
        toolset = CircuitToolset(
            Tools("sun").toolset, orch, policy=ToolPolicy(timeout=seconds)
        )
        agent = Agent(Script(*times(1, "look")).model, toolsets=[toolset])
        if seconds == 6:
            with pytest.raises(ValueError, match="look has another policy already"):
                await agent.run("go")
        else:
            ended += outcomes((await agent.run("go")).all_messages())
    assert ended == ["success", "success"]


async def test_a_policy_that_comes_later_holds_from_then_on() -> None:
    async def slow() -> str:
        await anyio.sleep(0.5)
        return "sun"

    orch = orchestrator()
    policies: list[ToolPolicy | None] = [None, ToolPolicy(timeout=0.02), None]
    for policy in policies:
        agent = Agent(
            Script(*times(1, "look")).model,
            toolsets=[Tools("sun" if policy is None else slow).toolset],
            capabilities=[Circuits(orch, policy=policy)],
        )
        await agent.run("go")
    assert orch.stats("look").timeouts == 1
    assert orch.registry["look"].policy.timeout == 0.02


async def test_tools_of_ours_that_lost_their_mark_are_left_to_us() -> None:
    async def anew(ctx: Any, tool_defs: list[ToolDefinition]) -> list[ToolDefinition]:
        return [replace(each, metadata={"shown": True}) for each in tool_defs]

    orch = orchestrator()

    @orch.registry.tool
    async def ours() -> str:
        return "fine"

    agent = Agent(
        Script(*times(1, "ours")).model,
        toolsets=[OrchestratorToolset(orch)],
        capabilities=[Circuits(orch), PrepareTools(anew)],
    )
    assert outcomes((await agent.run("go")).all_messages()) == ["success"]
    assert orch.stats("ours").calls == 1


@pytest.mark.parametrize(
    "answer", [PNG, ["a picture", PNG], ToolReturn(return_value="sun", metadata={"at": 1})]
)
async def test_a_fallback_may_answer_as_a_tool_of_the_frameworks_does(answer: Any) -> None:
    policy = ToolPolicy(fallback=lambda call, result: answer)
    toolset = CircuitToolset(Tools(down()).toolset, orchestrator(), policy=policy)
    agent = Agent(Script(*times(1, "look")).model, toolsets=[toolset])
    (part,) = returns_of((await agent.run("go")).all_messages())
    if isinstance(answer, ToolReturn):
        assert (part.content, part.metadata) == ("sun", {"at": 1})
    else:
        assert part.content == answer


async def test_a_tool_without_a_description_has_none() -> None:
    orch = orchestrator()
    toolset = CircuitToolset(Tools("sun").toolset, orch)
    await Agent(Script(*times(1, "add")).model, toolsets=[toolset]).run("go")
    assert orch.registry["add"].definition("mcp")["description"] == ""


async def test_the_tools_of_an_mcp_server_are_guarded() -> None:
    from fastmcp import FastMCP
    from pydantic_ai.mcp import MCPToolset

    server: Any = FastMCP("sky")
    runs = 0

    @server.tool
    def look() -> str:
        nonlocal runs
        runs += 1
        raise ConnectionError("connection refused")

    @server.tool
    def read(path: str) -> str:
        raise FileNotFoundError(f"no such file: {path}")

    orch = orchestrator()
    toolset = CircuitToolset(MCPToolset(server, tool_error_behavior="failed"), orch)
    turns = times(4, "look", ("read", {"path": "notes.txt"}))
    agent = Agent(Script(*turns).model, toolsets=[toolset])
    assert outcomes((await agent.run("go")).all_messages()) == ["failed"] * 8
    assert runs == 2
    assert orch.stats("read").ignored == 4


async def test_an_mcp_server_that_masks_its_errors_is_refused_when_it_dies() -> None:
    from fastmcp import FastMCP
    from pydantic_ai.mcp import MCPToolset

    server: Any = FastMCP("sky", mask_error_details=True)

    @server.tool
    def look() -> str:
        raise ConnectionError("connection refused")

    orch = orchestrator()
    toolset = CircuitToolset(MCPToolset(server, tool_error_behavior="failed"), orch)
    await Agent(Script(*times(3, "look")).model, toolsets=[toolset]).run("go")
    assert (orch.stats("look").calls, state(orch)) == (2, CircuitState.OPEN)
