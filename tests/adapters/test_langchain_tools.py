"""
The tools of an orchestrator as tools of LangChain.
"""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command, interrupt

from orchestrator_async import (
    CallFinished,
    CircuitState,
    ConversationPolicy,
    Media,
    Registry,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
    UnknownToolError,
)
from orchestrator_async.adapters.langchain import (
    CircuitMiddleware,
    OrchestratorTool,
    langchain_tools,
)
from tests.adapters.langchain_agents import HELLO, agent_of, call, told
from tests.adapters.test_langchain import Weather, anyio_backend, config

__all__ = ["anyio_backend"]


def bench(**options: Any) -> ToolOrchestrator:
    """
    An orchestrator with tools of all kinds.
    """
    registry = Registry()

    @registry.tool(idempotent=True)
    async def add(a: int, b: int = 1) -> dict[str, int]:
        """Add two numbers."""
        return {"sum": a + b}

    @registry.tool
    async def fail(why: str) -> str:
        """Fail."""
        raise ConnectionError(why)

    @registry.tool
    async def says_error() -> dict[str, str]:
        """Return an error."""
        return {"error": "nobody is there"}

    @registry.tool
    async def draw() -> list[Any]:
        """Draw."""
        return [
            "a house",
            Media(data=b"1", mime_type="image/png"),
            Media(data=b"2", mime_type="audio/wav"),
            Media(data=b"3", mime_type="application/pdf", name="house.pdf"),
        ]

    @registry.tool
    def plain(word: str) -> str:
        """A plain function."""
        return word.upper()

    return ToolOrchestrator(registry, **{"failure_threshold": 2, **options})


async def test_an_agent_is_told_of_them_and_runs_them() -> None:
    orch = bench()
    agent = agent_of(
        [call("add", a=1), call("plain", word="hi")], tools=langchain_tools(orch)
    )
    added, said = told(await agent.ainvoke(HELLO))
    assert (added.content, added.artifact, added.status) == (
        '{"sum":2}',
        {"sum": 2},
        "success",
    )
    assert (said.content, said.name) == ("HI", "plain")
    first = agent.script.offered[0]
    assert (first["name"], first["description"]) == ("add", "Add two numbers.")
    assert first["parameters"]["properties"]["b"] == {"type": "integer", "default": 1}


async def test_a_failure_has_the_status_of_one() -> None:
    orch = bench()
    turns = [call("fail", why="down") for _ in range(3)]
    wrong = [call("add", a="x"), call("says_error")]
    agent = agent_of(*turns, wrong, tools=langchain_tools(orch))
    *_, refused, invalid, returned = told(await agent.ainvoke(HELLO))
    assert json.loads(str(refused.content))["circuit_breaker"] is True
    assert "invalid_arguments" in json.loads(str(invalid.content))
    assert returned.content == '{"error":"nobody is there"}'
    assert returned.artifact == {"error": "nobody is there"}
    assert {each.status for each in (refused, invalid, returned)} == {"error"}


async def test_images_and_files_are_blocks_of_content() -> None:
    (draw,) = langchain_tools(bench(), names=["draw"])
    message = await draw.ainvoke({"type": "tool_call", **call("draw")})
    text, *others = message.content
    assert text["text"].startswith("a house\n[image/png, 1 bytes]")
    assert others == [
        {"type": "image", "base64": "MQ==", "mime_type": "image/png"},
        {"type": "file", "base64": "Mg==", "mime_type": "audio/wav"},
        {
            "type": "file",
            "base64": "Mw==",
            "mime_type": "application/pdf",
            "extras": {"filename": "house.pdf"},
        },
    ]
    assert message.artifact[1] == Media(data=b"1", mime_type="image/png")


async def test_artifacts_can_be_left_out() -> None:
    (add,) = langchain_tools(bench(), names=["add"], artifacts=False)
    message = await add.ainvoke({"type": "tool_call", **call("add", a=1)})
    assert (message.content, message.artifact) == ('{"sum":2}', None)


async def test_what_no_model_can_be_told_is_not_kept_for_a_checkpointer() -> None:
    orch = bench()

    @orch.registry.tool
    async def odd() -> dict[str, Any]:
        return {"lock": threading.Lock()}

    agent = agent_of(call("odd"), tools=langchain_tools(orch), checkpointer=InMemorySaver())
    (message,) = told(await agent.ainvoke(HELLO, config()))
    assert "cannot be made JSON" in str(message.content)
    assert (message.status, message.artifact) == ("error", None)


async def test_without_the_call_of_a_model_text_is_returned() -> None:
    orch = bench()
    tools = {each.name: each for each in langchain_tools(orch)}
    assert await tools["add"].ainvoke({"a": 1}) == '{"sum":2}'
    assert await tools["add"].ainvoke('{"a": 2}') == '{"sum":3}'
    assert "down" in json.loads(await tools["fail"].ainvoke({"why": "down"}))["error"]


async def test_an_argument_may_have_any_name() -> None:
    registry = Registry()

    @registry.tool
    async def odd(
        config: int, run_manager: int, runtime: int, state: int, args: int
    ) -> int:
        """Take arguments of names that LangChain has uses for."""
        return config + run_manager + runtime + state + args

    (tool,) = langchain_tools(ToolOrchestrator(registry))
    made = call("odd", config=1, run_manager=2, runtime=3, state=4, args=5)
    (message,) = told(await agent_of(made, tools=[tool]).ainvoke(HELLO))
    assert message.content == "15"


async def test_a_tool_and_observers_are_told_of_the_run() -> None:
    registry, events = Registry(), list[Any]()

    @registry.tool
    async def who(context: ToolContext) -> str:
        """Say who asks."""
        thread = context.data["config"]["configurable"]["thread_id"]
        return f"{context.data['user']} in {thread}"

    orch = ToolOrchestrator(registry, observers=[events.append])
    made = call("who")
    agent = agent_of(made, tools=langchain_tools(orch, user="ada"))
    (message,) = told(await agent.ainvoke(HELLO, config("t3")))
    assert message.content == "ada in t3"
    (event,) = [each for each in events if isinstance(each, CallFinished)]
    assert event.call_id == made["id"]


async def test_a_middleware_of_the_same_orchestrator_lets_them_be() -> None:
    orch = bench()
    agent = agent_of(
        [call("add", a=1), call("look")],
        [call("fail", why="down"), call("fail", why="down")],
        tools=[*langchain_tools(orch), Weather().tool()],
        middleware=[CircuitMiddleware(orch)],
    )
    messages = told(await agent.ainvoke(HELLO))
    assert [each.content for each in messages[:2]] == ['{"sum":2}', "sun"]
    assert (orch.stats("add").calls, orch.stats("look").calls) == (1, 1)
    assert orch.circuit("fail").state is CircuitState.OPEN
    # What a framework runs is offered to none.
    assert "look" not in [each.name for each in langchain_tools(orch)]


async def test_one_of_another_orchestrators_is_a_tool_like_any() -> None:
    theirs, ours = bench(), bench()
    ours.registry.remove("fail")
    agent = agent_of(
        *(call("fail", why="down") for _ in range(4)),
        tools=langchain_tools(theirs, names=["fail"]),
        middleware=[CircuitMiddleware(ours)],
    )
    messages = told(await agent.ainvoke(HELLO))
    assert "circuit_breaker" in str(messages[-1].content)
    # Its refusals are no failures of it.
    assert theirs.stats("fail").total_failures == 2
    assert ours.stats("fail").total_failures == 2


async def test_they_are_in_the_conversation_of_the_run() -> None:
    orch = bench()
    rules = ConversationPolicy(calls=1)
    agent = agent_of(
        call("add", a=1),
        call("add", a=2),
        tools=langchain_tools(orch),
        middleware=[CircuitMiddleware(orch, conversation=rules)],
    )
    _, refused = told(await agent.ainvoke(HELLO))
    assert json.loads(str(refused.content))["refused"] is True


async def test_one_that_interrupts_a_run_says_so_in_its_policy() -> None:
    registry = Registry()

    @registry.tool(policy=ToolPolicy(control_flow=(GraphBubbleUp,)))
    async def ask(what: str) -> str:
        """Ask a human."""
        return f"{what}: {interrupt(what)}"

    orch = ToolOrchestrator(registry, failure_threshold=1)
    agent = agent_of(
        call("ask", what="well?"),
        tools=langchain_tools(orch),
        checkpointer=InMemorySaver(),
    )
    state = await agent.ainvoke(HELLO, config())
    assert state["__interrupt__"][0].value == "well?"
    (message,) = told(await agent.ainvoke(Command(resume="yes"), config()))
    assert message.content == "well?: yes"


async def test_calls_of_them_are_traced() -> None:
    agent = agent_of(call("add", a=1), tools=langchain_tools(bench()))
    events = [
        (each["event"], each["data"].get("input"))
        async for each in agent.astream_events(HELLO, version="v2")
        if each["event"].startswith("on_tool")
    ]
    assert events == [("on_tool_start", {"a": 1}), ("on_tool_end", {"a": 1})]


def test_without_a_loop_they_run_on_one_of_the_orchestrators() -> None:
    orch = bench()
    before = threading.active_count()
    agent = agent_of(
        [call("add", a=1), call("plain", word="hi")],
        call("fail", why="down"),
        tools=langchain_tools(orch),
        middleware=[CircuitMiddleware(orch)],
    )
    added, said, failed = told(agent.invoke(HELLO))
    assert (added.content, said.content, failed.status) == ('{"sum":2}', "HI", "error")
    (add,) = langchain_tools(orch, names=["add"])
    assert add.invoke({"a": 2}) == '{"sum":3}'
    assert threading.active_count() <= before + 1  # one that is idle, of a plain function


async def test_what_cannot_be_offered_is_told_of() -> None:
    nobody: Any = None
    with pytest.raises(TypeError, match="orch must be a ToolOrchestrator, not None"):
        langchain_tools(nobody)
    orch = bench()
    with pytest.raises(UnknownToolError):
        langchain_tools(orch, names=["lock"])
    agent = agent_of(
        call("look"), tools=[Weather().tool()], middleware=[CircuitMiddleware(orch)]
    )

    def refuses() -> None:
        with pytest.raises(
            ValueError, match="look is a tool that only a framework can run"
        ):
            langchain_tools(orch, names=["look"])

    await agent.ainvoke(HELLO)
    refuses()


def test_they_say_whose_they_are() -> None:
    orch = bench()
    (add,) = langchain_tools(orch, names=["add"])
    assert isinstance(add, OrchestratorTool)
    assert (add.belongs_to(orch), add.belongs_to(bench())) == (True, False)
    assert add.metadata == {"idempotent": True, "read_only": None}


def test_a_message_can_be_saved() -> None:
    (add,) = langchain_tools(bench(), names=["add"])
    message = add.invoke({"type": "tool_call", **call("add", a=1)})
    assert ToolMessage.model_validate_json(message.model_dump_json()) == message
