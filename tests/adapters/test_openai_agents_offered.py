"""
Our tools as tools of the Agents SDK.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from agents import (
    Agent,
    RunContextWrapper,
    Runner,
    RunState,
    UserError,
    function_tool,
    set_trace_processors,
)

from orchestrator_async import (
    CircuitState,
    Media,
    Registry,
    ToolContext,
    ToolOrchestrator,
)
from orchestrator_async.adapters.openai_agents import (
    function_tools,
    guard_tool,
    guard_tools,
)
from tests.support import HandClock

from .openai_model import Script, Spans, call

pytestmark = pytest.mark.parametrize(
    "anyio_backend", ["asyncio in real time", "asyncio+uvloop"], indirect=True
)

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwAD"
    "hgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(autouse=True)
def spans() -> Iterator[Spans]:
    kept = Spans()
    set_trace_processors([kept])
    yield kept
    set_trace_processors([])


def orchestrator(*functions: Any, **options: Any) -> ToolOrchestrator:
    registry = Registry()
    for each in functions:
        registry.tool(each)
    return ToolOrchestrator(registry, failure_threshold=2, **options)


def agent(model: Script, orch: ToolOrchestrator, **options: Any) -> Agent[Any]:
    return Agent(name="ada", model=model, tools=list(function_tools(orch)), **options)


async def look(city: str, days: int = 1) -> dict[str, Any]:
    """
    Looks at the sky.

    Args:
        city: Where.
        days: How many.
    """
    return {"city": city, "days": days}


async def test_the_model_is_offered_our_schema_and_reads_our_text() -> None:
    orch, model = orchestrator(look), Script([call("look", "a", city="Bonn")])
    (tool,) = function_tools(orch)
    assert (tool.name, tool.description) == ("look", "Looks at the sky.")
    assert tool.params_json_schema["required"] == ["city"]
    assert tool.strict_json_schema is False
    await Runner.run(agent(model, orch), "go")
    assert json.loads(model.output("a")) == {"city": "Bonn", "days": 1}


async def test_a_schema_that_is_strict_is_offered_as_such() -> None:
    async def strict(city: str) -> str:
        """It."""
        return city

    orch = orchestrator(strict)
    (tool,) = function_tools(orch)
    assert tool.strict_json_schema is True
    assert tool.params_json_schema == orch.registry["strict"].schema().parameters


async def test_a_schema_that_cannot_be_strict_is_offered_as_it_is() -> None:
    async def free(more: dict[str, int]) -> str:
        """It."""
        return str(more)

    (tool,) = function_tools(orchestrator(free))
    assert tool.strict_json_schema is False


async def test_arguments_that_do_not_fit_are_explained() -> None:
    model = Script(
        [call("look", "a", days=2), call("look", "b", "{"), call("look", "c", "")]
    )
    await Runner.run(agent(model, orchestrator(look)), "go")
    for each in "abc":
        assert "city" in model.output(each) or "JSON" in model.output(each)


async def test_a_tool_that_dies_is_refused_and_probed_once(spans: Spans) -> None:
    clock, down, ran = HandClock(), True, 0

    async def peek() -> str:
        """Peeks."""
        nonlocal ran
        ran += 1
        await anyio.lowlevel.checkpoint()
        if down:
            raise ConnectionError("no route to host")
        return "sun"

    orch = orchestrator(peek, look, clock=clock)
    model = Script(*[[call("peek", each)] for each in "abc"])
    await Runner.run(agent(model, orch), "go")
    assert ran == 2
    assert "no route to host" in model.output("b")
    assert json.loads(model.output("c"))["state"] == "open"
    assert all("Error running tool" in each.error["message"] for each in spans.tools)
    clock.turn(300)
    down, ran = False, 0
    model = Script([call("peek", f"p{n}") for n in range(9)])
    await Runner.run(agent(model, orch), "go")
    assert ran == 1
    assert orch.circuit("peek").state is CircuitState.CLOSED


async def test_pictures_and_files_are_seen() -> None:
    async def show() -> list[Any]:
        """Shows."""
        return [
            "Here:",
            Media(data=PIXEL, mime_type="image/png"),
            Media(data=b"%PDF", mime_type="application/pdf", name="a.pdf"),
        ]

    model = Script([call("show", "a")])
    result = await Runner.run(agent(model, orchestrator(show)), "go")
    text, picture, file = model.output("a")
    assert text["type"] == "input_text"
    assert text["text"].startswith("Here:")
    assert picture["image_url"].startswith("data:image/png;base64,iVBOR")
    assert (file["type"], file["filename"]) == ("input_file", "a.pdf")
    assert result.final_output == "done"


async def test_a_tool_finds_the_run_in_its_context() -> None:
    found: list[ToolContext] = []

    async def who(context: ToolContext) -> str:
        """Who."""
        found.append(context)
        return "it"

    orch = orchestrator(who)
    await Runner.run(agent(Script([call("who", "a")]), orch), "go", context={"user": 7})
    assert found[0].call_id == "a"
    assert found[0].data == {"run_context": {"user": 7}, "agent": "ada"}

    def named(context: RunContextWrapper[Any]) -> dict[str, Any]:
        return {"user": context.context["user"]}

    tools = list(function_tools(orch, context=named))
    ada = Agent(name="ada", model=Script([call("who", "b")]), tools=list(tools))
    await Runner.run(ada, "go", context={"user": 7})
    assert found[1].data == {"user": 7}


async def test_a_conversation_ends_a_loop() -> None:
    orch = orchestrator(look)
    tools = list(function_tools(orch, conversation=lambda context: context.context))
    model = Script(*[[call("look", f"c{n}", city="Bonn")] for n in range(12)])
    ada = Agent(name="ada", model=model, tools=list(tools))
    async with orch.conversation() as chat:
        await Runner.run(ada, "go", context=chat, max_turns=20)
    assert json.loads(model.output("c11"))["refused"] is True
    assert orch.stats("look").calls < 12


async def test_they_can_ask_for_approval_and_end_a_run() -> None:
    orch, model = orchestrator(look), Script([call("look", "a", city="Bonn")])
    ada = agent(model, orch, tool_use_behavior="stop_on_first_tool")
    ada.tools[0].needs_approval = True  # type: ignore[union-attr]
    result = await Runner.run(ada, "go")
    assert orch.stats("look").calls == 0
    state = await RunState.from_json(ada, result.to_state().to_json())
    state.approve(state.get_interruptions()[0])
    result = await Runner.run(ada, state)
    assert json.loads(result.final_output)["city"] == "Bonn"


async def test_tools_of_the_sdk_that_it_guards_are_not_offered_twice() -> None:
    async def sing(song: str) -> str:
        return song

    orch = orchestrator(look)
    sings = guard_tool(function_tool(sing), orch)
    assert [tool.name for tool in function_tools(orch)] == ["look"]
    model = Script([call("look", "a", city="Bonn"), call("sing", "b", song="la")])
    ada = Agent(name="ada", model=model, tools=[*function_tools(orch), sings])
    await Runner.run(ada, "go")
    assert model.output("b") == "la"
    assert orch.stats("sing").successes == orch.stats("look").successes == 1


async def test_a_run_that_is_cancelled_leaves_nothing_behind() -> None:
    begun = anyio.Event()

    async def hang() -> str:
        """Hangs."""
        begun.set()
        await anyio.sleep_forever()
        raise AssertionError

    orch = orchestrator(hang)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Runner.run, agent(Script([call("hang", "a")]), orch), "go")
        await begun.wait()
        tasks.cancel_scope.cancel()
    assert orch.stats("hang").in_flight == 0


async def test_they_are_guarded_already() -> None:
    orch = orchestrator(look)
    offered = function_tools(orch)
    assert guard_tools(offered, orch) == offered
    assert guard_tool(offered[0], orch) is offered[0]


async def test_what_cannot_be_used_is_named() -> None:
    with pytest.raises(TypeError, match="orch must be a ToolOrchestrator"):
        function_tools(Registry())  # type: ignore[arg-type]
    for option in ("conversation", "context"):
        options: Any = {option: "chat"}
        with pytest.raises(TypeError, match=f"{option} must be a function"):
            function_tools(orchestrator(look), **options)


async def test_what_a_call_cannot_have_is_named() -> None:
    options: list[Any] = [{"context": lambda c: None}, {"conversation": lambda c: 5}]
    for each in options:
        tools: Any = function_tools(orchestrator(look), **each)
        model = Script([call("look", "a", city="Bonn")])
        with pytest.raises(UserError, match="is to return a"):
            await Runner.run(Agent(name="ada", model=model, tools=tools), "go")
