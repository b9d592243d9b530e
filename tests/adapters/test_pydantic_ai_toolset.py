"""
Our tools as tools of Pydantic AI: the real package, with a scripted model.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, ToolFailed, ToolReturn
from pydantic_ai.exceptions import (
    ApprovalRequired,
    CallDeferred,
    UnexpectedModelBehavior,
)
from pydantic_ai.messages import BinaryImage, FunctionToolCallEvent
from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults

from orchestrator_async import (
    CircuitState,
    ConversationPolicy,
    InvalidArgumentsError,
    Media,
    Registry,
    Tool,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
)
from orchestrator_async.adapters.pydantic_ai import CircuitToolset, OrchestratorToolset
from tests.support import HandClock, assert_adds_up

from .pydantic_ai_model import Script, outcomes, returns_of, times, told
from .test_pydantic_ai import Tools, anyio_backend, down  # noqa: F401


def orchestrator(*functions: Any, **options: Any) -> ToolOrchestrator:
    registry = Registry()
    for fn in functions:
        registry.tool(fn)
    return ToolOrchestrator(registry, **{"failure_threshold": 2, **options})


def agent_of(script: Script, orch: ToolOrchestrator, **options: Any) -> Agent[Any, Any]:
    return Agent(script.model, toolsets=[OrchestratorToolset(orch)], **options)


async def look(at: str, days: int = 1) -> str:
    """Look at something.

    Args:
        at: At what.
    """
    return f"{at} for {days}"


async def dies() -> str:
    raise down()


async def test_the_model_is_told_of_our_tools_in_our_words() -> None:
    script, orch = Script(), orchestrator(look, dies)
    await agent_of(script, orch).run("go")
    first, second = script.infos[0].function_tools
    definition = orch.registry["look"].definition("mcp")
    assert (first.name, first.description) == ("look", "Look at something.")
    assert first.parameters_json_schema == definition["inputSchema"]
    assert second.name == "dies"


async def test_a_tool_that_dies_is_refused_and_the_run_goes_on() -> None:
    clock = HandClock()
    orch = orchestrator(look, dies, clock=clock)
    script = Script(*times(3, "dies", ("look", {"at": "sun"})))
    messages = (await agent_of(script, orch).run("go")).all_messages()
    said = told(messages, "dies")
    assert [outcome for outcome, _ in said] == ["failed"] * 3
    assert "the service is down" in said[0][1]
    assert '"circuit_breaker": true' in said[2][1]
    assert told(messages, "look") == [("success", "sun for 1")] * 3
    assert orch.stats("dies").total_failures == 2
    assert_adds_up(orch)


async def test_of_many_calls_one_probes_when_it_returns() -> None:
    clock, works = HandClock(), False
    reached, go_on = anyio.Event(), anyio.Event()

    async def comes_back() -> str:
        if not works:
            raise down()
        reached.set()
        await go_on.wait()
        return "back"

    orch = orchestrator(comes_back, clock=clock)
    await agent_of(Script(*times(2, "comes_back")), orch).run("go")
    clock.turn(300)
    works = True

    async def turn() -> None:
        await reached.wait()
        go_on.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        script = Script(*times(1, *["comes_back"] * 20))
        result = await agent_of(script, orch).run("go")
    assert outcomes(result.all_messages()).count("success") == 1
    assert orch.stats("comes_back").calls == 3
    assert orch.circuit("comes_back").state is CircuitState.CLOSED


async def test_arguments_are_converted_and_refused_within_the_frameworks_retries() -> None:
    orch = orchestrator(look)
    wrong, right = (
        ("look", {"at": "sun", "days": "many"}),
        ("look", {"at": "sun", "days": "3"}),
    )
    script = Script([wrong], [right])
    result = await agent_of(script, orch).run("go")
    (retried, reason), done = told(result.all_messages())
    assert (retried, done) == ("retried", ("success", "sun for 3"))
    assert "days: a valid integer" in reason
    with pytest.raises(UnexpectedModelBehavior, match="exceeded max retries count of 2"):
        await agent_of(Script(*times(5, wrong)), orch, retries=2).run("go")
    toolset: OrchestratorToolset[Any] = OrchestratorToolset(orch, max_retries=0)
    agent = Agent(Script(*times(5, wrong)).model, toolsets=[toolset])
    with pytest.raises(UnexpectedModelBehavior, match="exceeded max retries count of 0"):
        await agent.run("go")
    assert orch.stats("look").calls == 1


async def test_what_is_no_object_is_refused_by_the_framework() -> None:
    orch = orchestrator(look)
    agent = agent_of(Script([("look", "[1]")], [("look", '{"at": ')]), orch, retries=3)  # type: ignore[list-item]
    assert outcomes((await agent.run("go")).all_messages()) == ["retried"] * 2


async def test_nobody_is_asked_to_approve_what_does_not_fit() -> None:
    orch = orchestrator(look)
    toolset: Any = OrchestratorToolset(orch).approval_required()
    agent: Agent[None, Any] = Agent(
        Script([("look", {})], [("look", {"at": "sun"})]).model,
        toolsets=[toolset],
        output_type=[str, DeferredToolRequests],
    )
    valid = []
    async with agent.run_stream_events("go") as events:
        async for event in events:
            if isinstance(event, FunctionToolCallEvent):
                valid.append(event.args_valid)
            result: Any = event
    assert valid == [False, True]
    asked = result.result.output
    assert isinstance(asked, DeferredToolRequests)
    approvals: Any = {each.tool_call_id: True for each in asked.approvals}
    done = await agent.run(
        message_history=result.result.all_messages(),
        deferred_tool_results=DeferredToolResults(approvals=approvals),
    )
    assert told(done.all_messages())[-1] == ("success", "sun for 1")


async def test_an_argument_may_have_any_name() -> None:
    async def odd(self: int, ctx: int, name: int) -> int:
        return self + ctx + name

    call = ("odd", {"self": 1, "ctx": 2, "name": 3})
    result = await agent_of(Script([call]), orchestrator(odd)).run("go")
    assert told(result.all_messages()) == [("success", 6)]


async def test_a_tool_that_blames_the_arguments_asks_for_others() -> None:
    async def pick(city: str) -> str:
        if city != "Oslo":
            raise InvalidArgumentsError("Only Oslo is known.")
        return "picked"

    turns = [("pick", {"city": "Bonn"})], [("pick", {"city": "Oslo"})]
    result = await agent_of(Script(*turns), orchestrator(pick)).run("go")
    (retried, why), done = told(result.all_messages())
    assert (retried, done) == ("retried", ("success", "picked"))
    assert "Only Oslo is known." in why


class Forecast(BaseModel):
    city: str
    days: list[int]


class Hidden:
    @property
    def content(self) -> Any:
        raise RuntimeError("not to be looked at")


async def chunks() -> AsyncIterator[str]:
    yield "one "
    yield "two"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        ('{"text": 1}', '{"text": 1}'),
        (None, None),
        (Forecast(city="Oslo", days=[1]), {"city": "Oslo", "days": [1]}),
        ([1, 2.5, "x"], [1, 2.5, "x"]),
        ({"error": "no such city"}, {"error": "no such city"}),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_results_are_what_the_model_reads_as_data(value: Any, expected: Any) -> None:
    async def gives() -> Any:
        return value

    result = await agent_of(Script(*times(1, "gives")), orchestrator(gives)).run("go")
    assert told(result.all_messages()) == [("success", expected)]
    assert result.all_messages_json()


async def test_streams_and_text_of_its_own_are_text() -> None:
    async def gives() -> Forecast:
        return Forecast(city="Oslo", days=[1])

    registry = Registry()
    registry.add(Tool(fn=chunks))
    registry.add(Tool(fn=gives, render=lambda value: f"sun in {value.city}"))
    script = Script(*times(1, "chunks", "gives"))
    result = await agent_of(script, ToolOrchestrator(registry)).run("go")
    assert [content for _, content in told(result.all_messages())] == [
        "one two",
        "sun in Oslo",
    ]


@pytest.mark.parametrize(
    "value",
    [
        Media(data=b"\x89PNG", mime_type="image/png"),
        ["a chart", Media(data=b"\x89PNG", mime_type="image/png")],
        {
            "content": [{"type": "image", "data": "iVBORw==", "mimeType": "image/png"}],
            "isError": False,
        },
    ],
    ids=["alone", "among texts", "of MCP"],
)
async def test_images_are_images_of_the_framework(value: Any) -> None:
    async def chart() -> Any:
        return value

    result = await agent_of(Script(*times(1, "chart")), orchestrator(chart)).run("go")
    (part,) = returns_of(result.all_messages())
    (image,) = part.files
    assert isinstance(image, BinaryImage)
    assert (image.data[:4], image.media_type) == (b"\x89PNG", "image/png")
    assert isinstance(part.content, list)
    assert isinstance(part.content[0], str)


async def test_a_file_is_none_of_an_image() -> None:
    async def report() -> Media:
        return Media(data=b"%PDF", mime_type="application/pdf", name="report.pdf")

    result = await agent_of(Script(*times(1, "report")), orchestrator(report)).run("go")
    (part,) = returns_of(result.all_messages())
    assert [each.media_type for each in part.files] == ["application/pdf"]
    assert part.content[0] == "[report.pdf: application/pdf, 4 bytes]"  # type: ignore[index]


async def test_a_value_that_cannot_be_looked_at_is_its_text() -> None:
    async def hides() -> Any:
        return Hidden()

    registry = Registry()
    registry.add(Tool(fn=hides, render=lambda value: "hidden"))
    result = await agent_of(Script(*times(1, "hides")), ToolOrchestrator(registry)).run(
        "go"
    )
    assert told(result.all_messages()) == [("success", "hidden")]


async def test_what_is_too_long_is_cut_and_still_json() -> None:
    async def much() -> list[str]:
        return ["word"] * 900

    orch = orchestrator(much, policy=ToolPolicy(max_result_size=200))
    result = await agent_of(Script(*times(1, "much")), orch).run("go")
    ((outcome, content),) = told(result.all_messages())
    assert (outcome, len(str(content)) <= 400) == ("success", True)


@pytest.mark.parametrize("hide", [False, True])
async def test_an_open_circuit_is_noted_or_its_tool_left_out(hide: bool) -> None:
    orch, script = orchestrator(look, dies), Script(*times(2, "dies"))
    toolset: OrchestratorToolset[Any] = OrchestratorToolset(orch, hide_open=hide)
    await Agent(script.model, toolsets=[toolset]).run("go")
    before, after = script.infos[0].function_tools, script.infos[2].function_tools
    assert [each.name for each in before] == ["look", "dies"]
    assert [each.name for each in after] == (["look"] if hide else ["look", "dies"])
    assert "Out of service" not in str(before)
    assert ("Out of service" in str(after[-1].description)) is not hide


async def test_tools_that_change_something_run_alone() -> None:
    registry, order, running = Registry(), [], 0

    @registry.tool(read_only=False)
    async def write(number: int) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await anyio.lowlevel.checkpoint()
        running -= 1
        order.append(number)

    registry.tool(look)
    script = Script([("write", {"number": number}) for number in range(5)])
    await agent_of(script, ToolOrchestrator(registry)).run("go")
    assert order == [0, 1, 2, 3, 4]
    assert [each.sequential for each in script.infos[0].function_tools] == [True, False]


async def test_tools_find_the_run_in_their_context() -> None:
    async def who(context: ToolContext) -> str:
        return f"{context.call_id} {context.data['deps']} {context.data['run_id']}"

    orch = orchestrator(who)
    result = await agent_of(Script(*times(1, "who")), orch).run("go", deps="ada")
    (part,) = returns_of(result.all_messages())
    assert part.content == f"{part.tool_call_id} ada {result.run_id}"
    toolset: OrchestratorToolset[Any] = OrchestratorToolset(
        orch, context=lambda ctx: {"deps": "bob", "run_id": 7}
    )
    agent = Agent(Script(*times(1, "who")).model, toolsets=[toolset])
    (part,) = returns_of((await agent.run("go")).all_messages())
    assert part.content == f"{part.tool_call_id} bob 7"


async def test_a_run_that_goes_round_in_circles_is_advised() -> None:
    async def same() -> dict[str, int]:
        return {"sun": 1}

    orch = orchestrator(same)
    toolset: OrchestratorToolset[Any] = OrchestratorToolset(
        orch, conversation=ConversationPolicy(same_results=2)
    )
    for run in range(2):  # each run begins anew
        agent = Agent(Script(*times(4, "same")).model, toolsets=[toolset])
        said = told((await agent.run("go")).all_messages())
        assert said[0] == ("success", {"sun": 1})
        assert set(said[1][1]) == {"sun", "warning"}
        assert said[2][0] == "failed"
        assert orch.stats("same").calls == 2 * (run + 1)


async def test_tools_may_come_and_go() -> None:
    orch, script = orchestrator(dies), Script(*times(2, "look"))
    agent = agent_of(script, orch, retries=5)

    def observe(event: Any) -> None:
        orch.registry.remove("look")

    await agent_of(Script(), orch).run("go")
    orch.registry.tool(look)
    script = Script([("look", {"at": "sun"}), ("look", {"at": "moon"})], *times(1, "look"))
    orch.add_observer(observe)
    agent = agent_of(script, orch, retries=5)
    said = told((await agent.run("go")).all_messages())
    assert said[0] == ("success", "sun for 1")
    assert said[1][0] == "failed"
    assert '"unknown_tool": true' in said[1][1]
    assert said[2][0] == "retried"


async def test_stand_ins_of_the_frameworks_tools_are_not_offered() -> None:
    orch, script = orchestrator(dies), Script(*times(2, "look"))
    both = [CircuitToolset(Tools("sun").toolset, orch), OrchestratorToolset(orch)]
    agent = Agent(script.model, toolsets=both)
    assert outcomes((await agent.run("go")).all_messages()) == ["success"] * 2
    names = [each.name for each in script.infos[2].function_tools]
    assert names == ["look", "add", "dies"]


async def test_a_run_that_is_cancelled_leaves_nothing() -> None:
    reached = anyio.Event()

    async def hangs() -> None:
        reached.set()
        await anyio.sleep_forever()

    orch = orchestrator(hangs)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(agent_of(Script(*times(1, "hangs")), orch).run, "go")
            await reached.wait()
            scope.cancel()
    assert orch.stats("hangs").in_flight == 0
    assert_adds_up(orch)


async def test_a_test_model_calls_every_tool() -> None:
    orch = orchestrator(look, dies)
    result = await Agent(TestModel(), toolsets=[OrchestratorToolset(orch)]).run("go")
    assert "look" in result.output
    assert orch.stats("look").calls == orch.stats("dies").calls == 1


def test_it_has_an_id_for_durable_runs_and_wants_an_orchestrator() -> None:
    toolset: OrchestratorToolset[Any] = OrchestratorToolset(orchestrator(), id="ours")
    assert (toolset.id, toolset.label) == ("ours", "OrchestratorToolset 'ours'")
    with pytest.raises(TypeError, match="orch must be a ToolOrchestrator"):
        OrchestratorToolset(Registry())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_retries": "3"}, "max_retries must be a number or None, not '3'"),
        ({"max_retries": True}, "max_retries must be a number or None"),
        ({"max_retries": -1}, "max_retries=-1 cannot be"),
        ({"conversation": "yes"}, "conversation must be"),
        ({"context": {"user": "ada"}}, "context must be a plain function"),
    ],
)
def test_what_cannot_be_used_is_told_of(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        OrchestratorToolset(orchestrator(), **options)


async def test_a_context_that_cannot_be_one_is_told_of() -> None:
    toolset: OrchestratorToolset[Any] = OrchestratorToolset(
        orchestrator(look), context=lambda ctx: {"call_id": "c1"}
    )
    agent = Agent(Script(*times(1, ("look", {"at": "sun"}))).model, toolsets=[toolset])
    with pytest.raises(TypeError, match="context returned call_id"):
        await agent.run("go")


# Signals and values of the framework, in tools of ours


async def test_a_tool_may_ask_for_another_try_as_the_frameworks_do() -> None:
    async def asks() -> str:
        raise ModelRetry("not so")

    orch = orchestrator(asks)
    script = Script(*times(1, "asks"))
    (said,) = told((await agent_of(script, orch).run("go")).all_messages())
    assert said == ("retried", "not so")
    assert orch.stats("asks").total_failures == 1  # its policy says nothing of these


@pytest.mark.parametrize("quiet", [True, False])
@pytest.mark.parametrize("signal", [ApprovalRequired(), CallDeferred(), ToolFailed("no")])
async def test_signals_of_the_framework_pass_and_count_as_the_policy_says(
    signal: Exception, quiet: bool
) -> None:
    async def signals() -> str:
        raise signal

    orch = orchestrator()
    policy = ToolPolicy(control_flow=(type(signal),) if quiet else ())
    orch.registry.tool(policy=policy)(signals)
    output = [str, DeferredToolRequests]
    agent = agent_of(Script(*times(1, "signals")), orch, output_type=output)
    result = await agent.run("go")
    if isinstance(signal, ToolFailed):
        assert told(result.all_messages()) == [("failed", "no")]
    else:
        assert isinstance(result.output, DeferredToolRequests)
    stats = orch.stats("signals")
    assert (stats.ignored, stats.total_failures) == ((1, 0) if quiet else (0, 1))


async def test_what_is_made_for_the_framework_is_left_as_it_is() -> None:
    async def whole() -> ToolReturn:
        return ToolReturn(return_value="sun", content="look here", metadata={"at": 1})

    async def picture() -> BinaryImage:
        return BinaryImage(b"\x89PNG", media_type="image/png")

    orch = orchestrator(whole, picture)
    script = Script(*times(1, "whole", "picture"))
    first, second = returns_of((await agent_of(script, orch).run("go")).all_messages())
    assert (first.content, first.metadata) == ("sun", {"at": 1})
    assert second.content == BinaryImage(b"\x89PNG", media_type="image/png")
