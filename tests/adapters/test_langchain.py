"""
Tools that LangChain and LangGraph run, under circuits.
"""

from __future__ import annotations

import inspect
import json
import pickle
import threading
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
import pytest
from langchain.agents import AgentState
from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    ToolCallLimitMiddleware,
    ToolRetryMiddleware,
)
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import (
    BaseTool,
    InjectedToolCallId,
    StructuredTool,
    ToolException,
    tool,
)
from langchain_core.tools import Tool as SimpleTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphInterrupt, ParentCommand
from langgraph.graph import StateGraph
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode, ToolRuntime
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt
from pydantic import BaseModel, ValidationError

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    CircuitState,
    ConversationPolicy,
    RetryPolicy,
    Tool,
    ToolPolicy,
    ToolTimeoutError,
    Verdict,
    exceptions_only,
)
from orchestrator_async.adapters.langchain import (
    CircuitMiddleware,
    ToolMessageError,
    awrap_tool_call,
    wrap_tool_call,
)
from tests.adapters.langchain_agents import HELLO, agent_of, call, orchestrator, told
from tests.support import HandClock


@pytest.fixture(
    params=[("asyncio", {"debug": True}), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio", "asyncio+uvloop"],
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


class Weather:
    """
    A service with a tool, which does what ``says`` is.
    """

    def __init__(self, says: Any = "sun") -> None:
        self.says = says
        self.runs = 0

    async def answer(self) -> Any:
        self.runs += 1
        said = self.says
        if isinstance(said, BaseException):
            raise said
        return await said() if callable(said) else said

    def tool(self, name: str = "look", **options: Any) -> BaseTool:
        async def look(at: str = "here") -> Any:
            """Look at a place."""
            return await self.answer()

        return tool(name, **options)(look)


def config(thread: str = "t1") -> Any:
    return {"configurable": {"thread_id": thread}}


DOWN = ConnectionError("no route to the service")


# --- the circuit --------------------------------------------------------------------


async def test_a_tool_that_dies_is_refused_and_the_others_go_on() -> None:
    orch, dead, well = orchestrator(), Weather(DOWN), Weather("fine")
    agent = agent_of(
        *(call("look", at=f"place {number}") for number in range(3)),
        call("ask"),
        tools=[dead.tool(), well.tool("ask")],
        middleware=[CircuitMiddleware(orch)],
    )
    first, second, third, last = told(await agent.ainvoke(HELLO))
    assert dead.runs == 2
    assert [each.status for each in (first, second, third, last)] == [
        *["error"] * 3,
        "success",
    ]
    assert "no route to the service" in json.loads(str(first.content))["error"]
    refused = json.loads(str(third.content))
    assert (refused["circuit_breaker"], refused["state"]) == (True, "open")
    assert (third.name, last.content) == ("look", "fine")
    # The model has read them, each as the answer to its call.
    last_seen = agent.script.seen[-1]
    calls = [each.tool_calls[0]["id"] for each in last_seen if isinstance(each, AIMessage)]
    assert calls == [each.tool_call_id for each in (first, second, third, last)]


async def test_one_that_is_back_is_probed_once_though_many_call() -> None:
    clock = HandClock()
    orch, weather = orchestrator(clock=clock), Weather(DOWN)
    agent = agent_of(
        [call("look"), call("look")],
        [call("look") for _ in range(20)],
        [call("look") for _ in range(3)],
        tools=[weather.tool()],
        middleware=[CircuitMiddleware(orch)],
    )

    async def slow() -> str:
        await anyio.sleep(0.01)
        return "sun"

    async for _ in agent.astream(HELLO, stream_mode="updates"):
        if weather.runs == 2 and orch.circuit("look").state is CircuitState.OPEN:
            clock.turn(300)
            weather.says = slow
    assert weather.runs == 2 + 1 + 3
    assert orch.circuit("look").state is CircuitState.CLOSED


async def test_calls_of_one_turn_run_side_by_side() -> None:
    both = anyio.Event(), anyio.Event()

    @tool
    async def meet(number: int) -> str:
        """Meet the other."""
        both[number].set()
        await both[1 - number].wait()
        return "met"

    turn = [call("meet", number=0), call("meet", number=1)]
    agent = agent_of(turn, tools=[meet], middleware=[CircuitMiddleware(orchestrator())])
    with anyio.fail_after(20):
        assert [each.content for each in told(await agent.ainvoke(HELLO))] == ["met", "met"]


async def test_a_tool_that_hangs_is_given_up() -> None:
    orch, weather = orchestrator(timeout=0.02), Weather(anyio.sleep_forever)
    agent = agent_of(
        call("look"), tools=[weather.tool()], middleware=[CircuitMiddleware(orch)]
    )
    (message,) = told(await agent.ainvoke(HELLO))
    assert json.loads(str(message.content))["timeout"] is True
    assert orch.stats("look").in_flight == 0


@pytest.mark.parametrize("kind", ["function", "single", "class", "coroutine"])
async def test_of_one_that_goes_on_in_a_thread_the_model_is_told_so(kind: str) -> None:
    go_on, runs = threading.Event(), list[str]()

    def look(at: str = "here") -> str:
        """Look."""
        runs.append(at)
        go_on.wait(20)
        return "late"

    async def alook(at: str = "here") -> str:
        runs.append(at)
        await anyio.sleep(20)
        return "late"

    class Look(BaseTool):
        name: str = "look"
        description: str = "Look."

        def _run(self, at: str = "here") -> str:
            return look(at)

    may_repeat = {"idempotent": True}
    made: BaseTool = Look(metadata=may_repeat)
    if kind == "single":
        made = SimpleTool("look", look, "Look.", metadata=may_repeat)
    elif kind != "class":
        coroutine = alook if kind == "coroutine" else None
        made = StructuredTool.from_function(look, coroutine, metadata=may_repeat)
    retry = RetryPolicy(wait_initial=0, wait_jitter=0)
    orch = orchestrator(policy=ToolPolicy(timeout=0.02, retry=retry))
    args = {"__arg1": "here"} if kind == "single" else {}
    agent = agent_of(
        call("look", **args), tools=[made], middleware=[CircuitMiddleware(orch)]
    )
    try:
        (message,) = told(await agent.ainvoke(HELLO))
    finally:
        go_on.set()
    is_left = kind != "coroutine"
    assert ("may still be running" in str(message.content)) is is_left
    assert ("It was stopped" in str(message.content)) is not is_left
    assert len(runs) == (1 if is_left else 2)


async def test_a_run_that_is_cancelled_leaves_nothing() -> None:
    clock = HandClock()
    orch, weather = orchestrator(clock=clock), Weather(DOWN)
    middleware = [CircuitMiddleware(orch)]
    turn = [call("look"), call("look")]
    await agent_of(turn, tools=[weather.tool()], middleware=middleware).ainvoke(HELLO)
    clock.turn(300)
    begun = anyio.Event()

    async def hang() -> None:
        begun.set()
        await anyio.sleep_forever()

    weather.says = hang
    agent = agent_of(call("look"), tools=[weather.tool()], middleware=middleware)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(agent.ainvoke, HELLO)
        await begun.wait()
        assert orch.stats("look").in_flight == 1
        tasks.cancel_scope.cancel()
    assert orch.stats("look").in_flight == 0
    weather.says = "sun"
    agent = agent_of(call("look"), tools=[weather.tool()], middleware=middleware)
    assert told(await agent.ainvoke(HELLO))[0].content == "sun"  # the probe was free again


async def test_a_retry_of_ours_is_made_for_tools_that_say_they_may_be_repeated() -> None:
    orch, weather = orchestrator(), Weather()
    policy = ToolPolicy(retry=RetryPolicy(attempts=3, wait_initial=0.001))
    left: list[Any] = [DOWN, "sun"]

    async def flaky() -> Any:
        said = left.pop(0)
        if said is DOWN:
            raise DOWN
        return said

    weather.says = flaky
    look = weather.tool()
    look.metadata = {"idempotent": True, "read_only": True}
    agent = agent_of(
        call("look"), tools=[look], middleware=[CircuitMiddleware(orch, policy=policy)]
    )
    (message,) = told(await agent.ainvoke(HELLO))
    assert (message.content, weather.runs) == ("sun", 2)
    assert orch.registry["look"].read_only is True


async def test_a_fallback_answers_in_its_place() -> None:
    orch = orchestrator(tools={"look": ToolPolicy(fallback="recall")})

    async def recall(at: str = "here") -> dict[str, str]:
        return {at: "sun, yesterday"}

    orch.registry.add(Tool(fn=recall))
    agent = agent_of(
        call("look", at="x"),
        tools=[Weather(DOWN).tool()],
        middleware=[CircuitMiddleware(orch)],
    )
    (message,) = told(await agent.ainvoke(HELLO))
    assert (message.status, message.name) == ("success", "look")
    assert message.content == '{"x":"sun, yesterday"}'
    assert message.artifact == {"x": "sun, yesterday"}


@pytest.mark.parametrize("several", [False, True])
async def test_a_fallback_may_answer_with_a_command(several: bool) -> None:
    answer: Any = Command(goto="end")
    if several:
        answer = [ToolMessage("sun", tool_call_id="c1"), answer]
    policy = ToolPolicy(fallback=lambda made, result: answer)
    run = awrap_tool_call(orchestrator(tools={"look": policy}))

    async def handler(request: Any) -> Any:
        raise DOWN

    assert await run(request_for(Weather().tool(), call("look")), handler) is answer


async def test_a_guard_is_asked_and_is_told_of_the_run() -> None:
    seen: list[Any] = []

    def guard(made: Any, context: Any) -> str | None:
        seen.append((made.name, made.args, made.id, context.data["runtime"].context))
        return "Ask somebody first." if made.args["at"] == "secret" else None

    @dataclass
    class Who:
        user: str

    orch, weather = orchestrator(), Weather()
    turn = [call("look", at="secret"), call("look", at="sky")]
    agent = agent_of(
        turn,
        tools=[weather.tool()],
        middleware=[CircuitMiddleware(orch, policy=ToolPolicy(guard=guard))],
        context_schema=Who,
    )
    state = await agent.ainvoke(HELLO, context=Who("ada"))
    assert [each.status for each in told(state)] == ["error", "success"]
    # The calls of a turn begin in any order.
    assert ("look", {"at": "secret"}, turn[0]["id"], Who("ada")) in seen
    assert weather.runs == 1


async def test_observers_see_the_call_and_who_made_it() -> None:
    orch, events = orchestrator(), list[Any]()
    orch.add_observer(events.append)
    made = call("look", at="sky")
    agent = agent_of(made, tools=[Weather().tool()], middleware=[CircuitMiddleware(orch)])
    await agent.ainvoke(HELLO, config("t7"))
    (event,) = [each for each in events if isinstance(each, CallFinished)]
    assert (event.call_id, event.arguments) == (made["id"], {"at": "sky"})
    runtime = event.context["runtime"]
    assert runtime.config["configurable"]["thread_id"] == "t7"


async def test_it_is_in_the_registry_as_it_was_described() -> None:
    orch = orchestrator()
    agent = agent_of(
        call("look"), tools=[Weather().tool()], middleware=[CircuitMiddleware(orch)]
    )
    await agent.ainvoke(HELLO)
    (known,) = orch.registry.definitions("mcp")
    assert known["description"] == "Look at a place."
    assert known["inputSchema"]["properties"]["at"]["type"] == "string"


async def test_one_whose_arguments_have_no_schema_is_run_all_the_same() -> None:
    class Odd(BaseTool):
        name: str = "odd"
        description: str = "Odd."

        @property
        def tool_call_schema(self) -> Any:
            raise RuntimeError("no schema")

        def _run(self, *args: Any, **kwargs: Any) -> str:
            return "fine"

    node = ToolNode([Odd()], awrap_tool_call=awrap_tool_call(orchestrator()))
    (message,) = await run_node(node, call("odd"))
    assert message.content == "fine"


# --- what is a failure --------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "verdict"),
    [
        (DOWN, Verdict.FAILURE),
        (ValueError("what?"), Verdict.FAILURE),
        (ToolException("503 Service Unavailable"), Verdict.FAILURE),
        (ToolException("no such file: notes.txt"), Verdict.IGNORE),
        ("Error: no such file", Verdict.SUCCESS),
        ('{"error": "no answer"}', Verdict.FAILURE),
        ({"error": "no answer"}, Verdict.FAILURE),
    ],
)
async def test_what_a_tool_does_is_judged(says: Any, verdict: Verdict) -> None:
    orch, events = orchestrator(), list[Any]()
    orch.add_observer(events.append)
    agent = agent_of(
        call("look"), tools=[Weather(says).tool()], middleware=[CircuitMiddleware(orch)]
    )
    (message,) = told(await agent.ainvoke(HELLO))
    assert [each.verdict for each in events if isinstance(each, CallFinished)] == [verdict]
    assert message.status == ("error" if isinstance(says, Exception) else "success")


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Connection refused by the server", Verdict.FAILURE),
        ("That city does not exist.", Verdict.IGNORE),
        ('{"error": "x", "tool_name": "y", "circuit_breaker": true}', Verdict.IGNORE),
        ('{"error": "x", "tool_name": "y"}', Verdict.FAILURE),
    ],
)
async def test_a_message_with_the_status_error_is_judged_by_its_text(
    text: str, verdict: Verdict
) -> None:
    orch, events, made = orchestrator(), list[Any](), call("look")
    orch.add_observer(events.append)
    given = ToolMessage(text, tool_call_id=made["id"], status="error", artifact=[1])
    agent = agent_of(
        made, tools=[Weather(given).tool()], middleware=[CircuitMiddleware(orch)]
    )
    (message,) = told(await agent.ainvoke(HELLO))
    # The agent gets it as it was.
    assert (message.content, message.status, message.artifact) == (text, "error", [1])
    (event,) = [each for each in events if isinstance(each, CallFinished)]
    assert event.verdict is verdict
    assert isinstance(event.error, ToolMessageError)
    assert (event.error.tool_message.content, str(event.error)) == (text, text)
    assert str(pickle.loads(pickle.dumps(event.error))) == text


@pytest.mark.parametrize("kind", ["command", "list", "update of a list"])
async def test_one_in_a_command_or_a_list_is_judged_and_handed_on_as_well(
    kind: str,
) -> None:
    orch, made = orchestrator(), call("look")
    down = ToolMessage("Connection refused", tool_call_id=made["id"], status="error")
    other = ToolMessage("another's", tool_call_id="another", status="error")
    given: Any = Command(update={"messages": [down], "seen": 1})
    if kind == "list":
        given = [down, Command(update={"seen": 1})]
    elif kind == "update of a list":
        given = Command(update=[other, down])
    run = awrap_tool_call(orch)

    async def handler(request: Any) -> Any:
        return given

    look = Weather().tool()
    answers = [await run(request_for(look, made), handler) for _ in range(3)]
    assert answers[0] is answers[1] is given
    assert "circuit_breaker" in str(answers[2])
    assert orch.stats("look").total_failures == 2
    # That of another call says nothing of this one.
    given = [ToolMessage("sun", tool_call_id="c2"), Command(update={"messages": [other]})]
    weather = Weather().tool("weather")
    assert (
        await run(request_for(weather, {**call("weather"), "id": "c2"}), handler) is given
    )
    assert orch.stats("weather").successes == 1


@pytest.mark.parametrize("handled", ["default", True, False])
async def test_arguments_that_do_not_fit_are_no_failure(handled: Any) -> None:
    orch, weather = orchestrator(), Weather()
    options = {} if handled == "default" else {"handle_tool_errors": handled}
    node = ToolNode([weather.tool()], awrap_tool_call=awrap_tool_call(orch), **options)
    for _ in range(3):
        (message,) = await run_node(node, call("look", at=["timeout, connection refused"]))
        assert message.status == "error"
        assert "string" in str(message.content)
    assert (orch.stats("look").ignored, weather.runs) == (3, 0)


async def test_one_that_is_handled_by_its_tool_is_judged_too() -> None:
    orch = orchestrator()
    look = Weather(ToolException("the server is down")).tool()
    look.handle_tool_error = True
    agent = agent_of(
        call("look"), call("look"), tools=[look], middleware=[CircuitMiddleware(orch)]
    )
    first, second = told(await agent.ainvoke(HELLO))
    assert first.content == second.content == "the server is down"
    assert orch.circuit("look").state is CircuitState.OPEN


@pytest.mark.parametrize(
    ("policy", "verdict"),
    [
        (None, Verdict.FAILURE),
        (BreakerPolicy(failure_threshold=9), Verdict.FAILURE),
        (ToolPolicy(timeout=9), Verdict.FAILURE),
        (ToolPolicy(judge=exceptions_only), Verdict.SUCCESS),
        (ToolPolicy(is_failure=lambda value: False), Verdict.SUCCESS),
    ],
)
async def test_a_judge_of_ones_own_takes_the_place_of_ours(
    policy: Any, verdict: Verdict
) -> None:
    orch, events = orchestrator(), list[Any]()
    orch.add_observer(events.append)
    middleware = [CircuitMiddleware(orch, policy=policy)]
    look = Weather('{"error": "down"}').tool()
    await agent_of(call("look"), tools=[look], middleware=middleware).ainvoke(HELLO)
    assert [each.verdict for each in events if isinstance(each, CallFinished)] == [verdict]


# --- what LangGraph does goes on ----------------------------------------------------


async def test_an_interrupt_passes_and_the_run_is_resumed() -> None:
    orch, ran = orchestrator(failure_threshold=1), []

    @tool
    async def book(city: str) -> str:
        """Book a room."""
        answer = interrupt({"book": city})
        ran.append(city)
        return f"{city}: {answer}"

    agent = agent_of(
        [call("book", city="Oslo"), call("look")],
        tools=[book, Weather().tool()],
        middleware=[CircuitMiddleware(orch)],
        checkpointer=InMemorySaver(),
    )
    state = await agent.ainvoke(HELLO, config())
    (asked,) = state["__interrupt__"]
    assert asked.value == {"book": "Oslo"}
    assert orch.stats("book").in_flight == 0
    assert orch.circuit("book").state is CircuitState.CLOSED
    state = await agent.ainvoke(Command(resume="yes"), config())
    assert [each.content for each in told(state)] == ["Oslo: yes", "sun"]
    assert ran == ["Oslo"]


@pytest.mark.skipif(
    "response_schema" not in inspect.signature(interrupt).parameters,
    reason="this LangGraph checks no answers",
)
async def test_an_answer_that_does_not_fit_an_interrupt_is_told_to_who_gave_it() -> None:
    class Yes(BaseModel):
        yes: bool

    @tool
    async def book(city: str) -> str:
        """Book a room."""
        answer = interrupt(city, response_schema=Yes)
        return f"{city}: {answer.yes}"

    orch = orchestrator(failure_threshold=1)
    agent = agent_of(
        call("book", city="Oslo"),
        tools=[book],
        middleware=[CircuitMiddleware(orch)],
        checkpointer=InMemorySaver(),
    )
    await agent.ainvoke(HELLO, config())
    with pytest.raises(ValidationError, match="yes"):
        await agent.ainvoke(Command(resume={"yes": "perhaps"}), config())
    assert orch.circuit("book").state is CircuitState.CLOSED
    state = await agent.ainvoke(Command(resume={"yes": True}), config())
    assert told(state)[0].content == "Oslo: True"


async def test_a_human_in_the_loop_decides_before_the_circuit() -> None:
    orch, weather = orchestrator(), Weather()
    agent = agent_of(
        call("look", at="here"),
        call("look", at="there"),
        tools=[weather.tool()],
        middleware=[
            CircuitMiddleware(orch),
            HumanInTheLoopMiddleware(interrupt_on={"look": True}),
        ],
        checkpointer=InMemorySaver(),
    )
    await agent.ainvoke(HELLO, config())
    assert weather.runs == 0
    yes: Any = Command(resume={"decisions": [{"type": "approve"}]})
    await agent.ainvoke(yes, config())
    assert weather.runs == 1
    no: Any = Command(resume={"decisions": [{"type": "reject", "message": "no"}]})
    state = await agent.ainvoke(no, config())
    approved, rejected = told(state)
    assert (approved.content, rejected.status) == ("sun", "error")
    assert (weather.runs, orch.stats("look").calls) == (1, 1)


async def test_state_store_and_runtime_are_injected() -> None:
    class State(AgentState[Any]):
        mood: str

    @tool
    async def all_of_it(
        word: str,
        mood: Annotated[str, InjectedState("mood")],
        store: Annotated[BaseStore, InjectedStore()],
        runtime: ToolRuntime[Any, Any],
        call_id: Annotated[str, InjectedToolCallId],
    ) -> Any:
        """Use what is injected."""
        await store.aput(("words",), word, {"mood": mood})
        runtime.stream_writer({"progress": word})
        said = ToolMessage(
            f"{word} {runtime.context}", tool_call_id=call_id, artifact={"raw": 1}
        )
        return Command(update={"mood": "better", "messages": [said]})

    orch, store = orchestrator(), InMemoryStore()
    events: list[Any] = []
    orch.add_observer(events.append)
    agent = agent_of(
        call("all_of_it", word="hi"),
        tools=[all_of_it],
        middleware=[CircuitMiddleware(orch)],
        state_schema=State,
        store=store,
        context_schema=str,
    )
    chunks = [
        each
        async for each in agent.astream(
            {**HELLO, "mood": "bad"}, context="ada", stream_mode=["custom", "values"]
        )
    ]
    state = chunks[-1][1]
    (message,) = told(state)
    assert (message.content, message.artifact) == ("hi ada", {"raw": 1})
    assert ("custom", {"progress": "hi"}) in chunks
    assert (state["mood"], (await store.aget(("words",), "hi")).value) == (  # type: ignore[union-attr]
        "better",
        {"mood": "bad"},
    )
    (event,) = [each for each in events if isinstance(each, CallFinished)]
    assert event.arguments == {"word": "hi"}


async def test_what_a_tool_returned_is_handed_on_as_it_was() -> None:
    def handing(value: Any) -> Any:
        async def handler(request: Any) -> Any:
            return value

        return handler

    run = awrap_tool_call(orchestrator())
    request = request_for(Weather().tool(), call("look"))
    message = ToolMessage(
        [{"type": "text", "text": "see"}, {"type": "image", "url": "https://x.example"}],
        tool_call_id="c",
        artifact=object(),
    )
    odd: Any = Command(update=[("messages", [])])
    values: list[Any] = [
        message,
        Command(goto="end"),
        [message, Command(goto="end")],
        odd,
        {},
    ]
    for value in values:
        assert await run(request, handing(value)) is value


async def test_commands_to_a_parent_graph_pass() -> None:
    orch = orchestrator(failure_threshold=1)

    @tool
    async def hand_over(to: str) -> Any:
        """Hand over."""
        raise ParentCommand(Command(goto=to, graph=Command.PARENT))

    @tool
    async def transfer(to: str) -> Any:
        """Hand over as most do."""
        return Command(goto=to, graph=Command.PARENT, update={"messages": []})

    middleware = [CircuitMiddleware(orch)]
    for name in ("hand_over", "transfer"):
        inner = agent_of(
            call(name, to="other"), tools=[hand_over, transfer], middleware=middleware
        )
        graph: Any = StateGraph(AgentState)
        graph.add_node("first", inner)
        graph.add_node("other", lambda state: {"messages": [("assistant", "taken over")]})
        graph.set_entry_point("first")
        state = await graph.compile().ainvoke(HELLO)
        assert state["messages"][-1].content == "taken over"
        assert orch.circuit(name).state is CircuitState.CLOSED


async def test_an_agent_that_is_a_tool_has_circuits_of_its_own() -> None:
    orch, weather = orchestrator(), Weather(DOWN)
    middleware = [CircuitMiddleware(orch)]
    inner = agent_of(call("look"), tools=[weather.tool()], middleware=middleware)

    @tool
    async def delegate(task: str) -> str:
        """Ask another agent."""
        state = await inner.ainvoke({"messages": [("user", task)]})
        return str(state["messages"][-1].content)

    agent = agent_of(call("delegate", task="x"), tools=[delegate], middleware=middleware)
    (message,) = told(await agent.ainvoke(HELLO))
    assert message.content == "done"
    assert (orch.stats("look").total_failures, orch.stats("delegate").successes) == (1, 1)


async def test_a_tool_that_there_is_not_is_left_to_the_framework() -> None:
    orch = orchestrator()
    agent = agent_of(
        call("lock"), tools=[Weather().tool()], middleware=[CircuitMiddleware(orch)]
    )
    (message,) = told(await agent.ainvoke(HELLO))
    assert message.content == "Error: lock is not a valid tool, try one of [look]."
    assert list(orch.registry) == []


@pytest.mark.parametrize("fails", [False, True])
async def test_a_tool_that_is_brought_behind_the_circuits_is_told_of_once(
    fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Brings(AgentMiddleware[Any, Any, Any]):
        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            return await handler(request.override(tool=brought))

    brought = Weather(DOWN if fails else "sun").tool("brought")
    orch = orchestrator()
    circuits, look = CircuitMiddleware(orch), Weather().tool()

    async def ask(*middleware: Any) -> None:
        agent = agent_of(call("brought"), tools=[look], middleware=middleware)
        await agent.ainvoke(HELLO)

    def warned() -> list[str]:
        of_ours = [each for each in caplog.records if "orchestrator" in each.name]
        return [each.getMessage() for each in of_ours if each.levelname == "WARNING"]

    await ask(Brings(), circuits)
    assert (orch.stats("brought").calls, warned()) == (1, [])
    for _ in range(2):
        if fails:
            with pytest.raises(ConnectionError):
                await ask(circuits, Brings())
        else:
            await ask(circuits, Brings())
    assert orch.stats("brought").calls == 1
    (said,) = warned()
    assert "'brought' was run without a circuit" in said


async def test_who_interrupts_a_run_in_the_place_of_a_tool_has_not_brought_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nothing: Any = None

    async def handler(request: Any) -> Any:
        raise GraphInterrupt

    with pytest.raises(GraphInterrupt):
        await awrap_tool_call(orchestrator())(request_for(nothing, call("look")), handler)
    assert [each for each in caplog.records if "orchestrator" in each.name] == []


async def test_return_direct_ends_the_run() -> None:
    weather = Weather()
    agent = agent_of(
        call("look"),
        tools=[weather.tool(return_direct=True)],
        middleware=[CircuitMiddleware(orchestrator())],
    )
    state = await agent.ainvoke(HELLO)
    assert state["messages"][-1].content == "sun"
    assert len(agent.script.seen) == 1


async def test_messages_and_updates_are_streamed() -> None:
    middleware = [CircuitMiddleware(orchestrator())]
    turn = [call("look"), call("fail")]
    tools = [Weather().tool(), Weather(DOWN).tool("fail")]
    agent = agent_of(turn, tools=tools, middleware=middleware)
    messages, updates = [], []
    async for mode, chunk in agent.astream(HELLO, stream_mode=["messages", "updates"]):
        if mode == "messages" and isinstance(chunk[0], ToolMessage):
            messages.append((chunk[0].status, chunk[1]["langgraph_node"]))
        elif mode == "updates":
            updates += chunk
    assert sorted(messages) == [("error", "tools"), ("success", "tools")]
    assert updates == ["model", "tools", "tools", "model"]


async def test_events_of_tools_are_traced() -> None:
    turn = [call("look"), call("fail")]
    tools = [Weather().tool(), Weather(DOWN).tool("fail")]
    agent = agent_of(turn, tools=tools, middleware=[CircuitMiddleware(orchestrator())])
    events = [
        (each["event"], each["name"])
        async for each in agent.astream_events(HELLO, version="v2")
        if each["event"].startswith("on_tool")
    ]
    assert sorted(events) == [
        ("on_tool_end", "look"),
        ("on_tool_error", "fail"),
        ("on_tool_start", "fail"),
        ("on_tool_start", "look"),
    ]


async def test_a_retry_of_langchains_behind_it_is_part_of_the_call() -> None:
    orch, weather = orchestrator(), Weather(DOWN)
    retry = ToolRetryMiddleware(max_retries=2, initial_delay=0, jitter=False)
    agent = agent_of(
        *(call("look", at=str(number)) for number in range(3)),
        tools=[weather.tool()],
        middleware=[CircuitMiddleware(orch), retry],
    )
    first, _, third = told(await agent.ainvoke(HELLO))
    assert str(first.content).startswith("Tool 'look' failed after 3 attempts")
    assert "circuit_breaker" in str(third.content)
    assert (weather.runs, orch.stats("look").total_failures) == (6, 2)


async def test_a_retry_of_langchains_before_it_has_nothing_to_retry() -> None:
    orch, weather = orchestrator(), Weather(DOWN)
    retry = ToolRetryMiddleware(max_retries=2, initial_delay=0, jitter=False)
    agent = agent_of(
        call("look"), tools=[weather.tool()], middleware=[retry, CircuitMiddleware(orch)]
    )
    (message,) = told(await agent.ainvoke(HELLO))
    assert "no route to the service" in str(message.content)
    assert weather.runs == 1


@pytest.mark.parametrize("first", [True, False])
async def test_a_limit_of_langchains_holds_on_either_side(first: bool) -> None:
    orch, weather = orchestrator(), Weather()
    limit = ToolCallLimitMiddleware(tool_name="look", run_limit=1)
    circuits = CircuitMiddleware(orch)
    agent = agent_of(
        [call("look"), call("look")],
        tools=[weather.tool()],
        middleware=[circuits, limit] if first else [limit, circuits],
    )
    messages = told(await agent.ainvoke(HELLO))
    assert sorted(each.status for each in messages) == ["error", "success"]
    assert (weather.runs, orch.stats("look").calls) == (1, 1)


async def test_what_another_middleware_does_with_a_call_is_kept() -> None:
    class Renames(AgentMiddleware[Any, Any, Any]):
        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            changed = {**request.tool_call, "args": {"at": "there"}}
            return await handler(request.override(tool_call=changed))

    @tool
    async def echo(at: str) -> str:
        """Say it."""
        return at

    agent = agent_of(
        call("echo", at="here"),
        tools=[echo],
        middleware=[CircuitMiddleware(orchestrator()), Renames()],
    )
    assert told(await agent.ainvoke(HELLO))[0].content == "there"


async def test_structured_answers_of_an_agent_are_not_its_tools() -> None:
    class Answer(BaseModel):
        city: str

    orch = orchestrator()
    agent = agent_of(
        call("look"),
        call("Answer", city="Oslo"),
        tools=[Weather().tool()],
        middleware=[CircuitMiddleware(orch)],
        response_format=Answer,
    )
    state = await agent.ainvoke(HELLO)
    assert state["structured_response"] == Answer(city="Oslo")
    assert [each.name for each in orch.registry] == ["look"]


# --- loops --------------------------------------------------------------------------


async def test_a_loop_of_one_run_is_ended_by_advice() -> None:
    orch, weather = orchestrator(), Weather("sun")
    middleware = [CircuitMiddleware(orch, conversation=True)]
    again = [call("look", at="sky") for _ in range(12)]
    agent = agent_of(*again, tools=[weather.tool()], middleware=middleware)
    messages = told(await agent.ainvoke(HELLO))
    assert weather.runs < 12
    assert messages[0].content == "sun"
    warned = next(each for each in messages if "[Warning: " in str(each.content))
    assert str(warned.content).startswith("sun\n\n[Warning: ")
    assert json.loads(str(messages[-1].content))["refused"] is True
    # The next thing that a human says begins anew.
    agent = agent_of(call("look", at="sky"), tools=[weather.tool()], middleware=middleware)
    assert told(await agent.ainvoke(HELLO))[0].content == "sun"


async def test_a_run_goes_on_in_its_conversation_when_it_is_resumed() -> None:
    orch, ran = orchestrator(), []

    @tool
    async def book(city: str) -> str:
        """Book a room."""
        ran.append(interrupt(city))
        return "booked"

    agent = agent_of(
        *(call("book", city="Oslo") for _ in range(3)),
        tools=[book],
        middleware=[CircuitMiddleware(orch, conversation=ConversationPolicy(calls=4))],
        checkpointer=InMemorySaver(),
    )
    await agent.ainvoke(HELLO, config())
    for _ in range(2):
        state = await agent.ainvoke(Command(resume="yes"), config())
    assert "__interrupt__" not in state
    assert (len(ran), told(state)[-1].status) == (2, "error")


async def test_images_and_errors_of_a_loop_get_its_warnings_as_well() -> None:
    orch = orchestrator(failure_threshold=99)
    image = {"type": "image", "base64": "AAAA", "mime_type": "image/png"}
    blocks = [{"type": "text", "text": "see"}, image]
    look = Weather(blocks).tool()
    broken = Weather(ToolException("the server is down")).tool("ask")
    broken.handle_tool_error = True
    again = [[call("look"), call("ask")] for _ in range(5)]
    agent = agent_of(
        *again,
        tools=[look, broken],
        middleware=[CircuitMiddleware(orch, conversation=True)],
    )
    messages = told(await agent.ainvoke(HELLO))
    assert messages[0].content == blocks
    warned = [each for each in messages if "arning" in str(each.content)]
    assert {each.name for each in warned} == {"look", "ask"}
    seen = next(each for each in warned if each.name == "look" and each.status == "success")
    assert isinstance(seen.content, list)
    assert seen.content[1] == image


async def test_of_many_runs_the_oldest_are_forgotten() -> None:
    run = awrap_tool_call(orchestrator(), conversation=ConversationPolicy(calls=1))
    look = Weather().tool()

    async def handler(request: Any) -> Any:
        return ToolMessage("sun", tool_call_id="c")

    async def ask(human: str | None) -> str:
        state = {"messages": [HumanMessage("hello", id=human)]}
        answer = await run(request_for(look, call("look"), state), handler)
        assert isinstance(answer, ToolMessage)
        return answer.status

    assert [await ask("first"), await ask("first")] == ["success", "error"]
    for number in range(1000):
        await ask(f"another {number}")
    assert await ask("first") == "success"
    # Where it cannot be told which run it is, there is no conversation.
    assert [await ask(None), await ask(None)] == ["success", "success"]


@pytest.mark.parametrize(
    "kind", ["list", "model", "slots", "another name", "a model's other name", "nobody"]
)
async def test_a_run_is_known_by_state_of_any_kind(kind: str) -> None:
    class State(BaseModel):
        messages: list[Any]

    class Chat(BaseModel):
        chat: list[Any]

    @dataclass(slots=True)
    class Slotted:
        messages: list[Any]

    run = awrap_tool_call(orchestrator(), conversation=ConversationPolicy(calls=1))
    human = HumanMessage("hello", id="h")
    state = {
        "list": [human],
        "model": State(messages=[human]),
        "slots": Slotted([human]),
        "another name": {"seen": [1], "chat": [human]},
        "a model's other name": Chat(chat=[human]),
        "nobody": {"messages": []},
    }[kind]

    async def handler(request: Any) -> Any:
        return ToolMessage("sun", tool_call_id="c")

    answers = [
        await run(request_for(Weather().tool(), call("look"), state), handler)
        for _ in range(2)
    ]
    last = answers[-1]
    assert isinstance(last, ToolMessage)
    assert last.status == ("success" if kind == "nobody" else "error")


# --- a bare node --------------------------------------------------------------------


NO_RUNTIME: Any = None


def request_for(look: BaseTool, made: Any, state: Any = None) -> Any:
    return ToolCallRequest(tool_call=made, tool=look, state=state, runtime=NO_RUNTIME)


async def run_node(node: ToolNode, *calls: Any) -> list[ToolMessage]:
    graph: Any = StateGraph(AgentState)
    graph.add_node("tools", node)
    graph.set_entry_point("tools")
    said = AIMessage("", tool_calls=list(calls))
    state = await graph.compile().ainvoke({"messages": [said]})
    return told(state)


async def test_a_bare_node_has_its_tools_under_circuits() -> None:
    orch, weather = orchestrator(), Weather(DOWN)
    node = ToolNode([weather.tool()], awrap_tool_call=awrap_tool_call(orch))
    for _ in range(3):
        (message,) = await run_node(node, call("look"))
    assert "circuit_breaker" in str(message.content)
    assert weather.runs == 2


@pytest.mark.parametrize("kind", ["command", "list", "update of a list"])
async def test_a_result_in_a_command_is_cut_as_well_and_nothing_else_of_it(
    kind: str,
) -> None:
    orch = orchestrator(policy=ToolPolicy(max_result_size=200))
    run, made, seen = awrap_tool_call(orch), call("look"), [object()]
    long = ToolMessage("x" * 1000, tool_call_id=made["id"], artifact=[1])
    given: Any = Command(update={"messages": [long], "seen": seen}, goto="next")
    if kind == "list":
        given = [long, Command(update={"seen": seen}, goto="next")]
    elif kind == "update of a list":
        given = Command(update=[long], goto="next")

    async def handler(request: Any) -> Any:
        return given

    answer: Any = await run(request_for(Weather().tool(), made), handler)
    command = answer[1] if kind == "list" else answer
    assert command.goto == "next"
    messages = [answer[0]] if kind == "list" else command.update
    if isinstance(messages, dict):
        messages = messages["messages"]
    assert [len(each.content) for each in messages] == [200]
    assert messages[0].artifact == [1]
    assert len(long.content) == 1000
    if kind != "update of a list":
        assert command.update["seen"] is seen


async def test_what_is_not_of_one_message_is_not_cut() -> None:
    run = awrap_tool_call(orchestrator(policy=ToolPolicy(max_result_size=200)))
    for update in ({"seen": "x" * 1000}, {"messages": [HumanMessage("x" * 1000)]}, None):
        given: Any = Command(update=update)

        async def handler(request: Any, given: Any = given) -> Any:
            return given

        assert await run(request_for(Weather().tool(), call("look")), handler) is given


@pytest.mark.parametrize(
    ("status", "warning"), [("success", "Warning"), ("error", '"warning"')]
)
async def test_a_result_in_a_command_gets_the_warning_of_a_loop(
    status: Any, warning: str
) -> None:
    made, state = call("look"), {"messages": [HumanMessage("hello", id="h")]}
    run = awrap_tool_call(orchestrator(failure_threshold=99), conversation=True)

    async def handler(request: Any) -> Any:
        text = '{"error": "the server is down"}' if status == "error" else "sun"
        message = ToolMessage(text, tool_call_id=made["id"], status=status)
        return Command(update={"messages": [message]})

    request = request_for(Weather().tool(), made, state)
    answers: list[Any] = [await run(request, handler) for _ in range(3)]
    told = [answer.update["messages"][0] for answer in answers]
    assert [warning in each.content for each in told] == [False, False, True]
    assert {each.status for each in told} == {status}


async def test_a_result_is_cut_for_the_model() -> None:
    orch = orchestrator(tools={"look": ToolPolicy(max_result_size=200)})
    node = ToolNode([Weather("x" * 1000).tool()], awrap_tool_call=awrap_tool_call(orch))
    (message,) = await run_node(node, call("look"))
    assert len(str(message.content)) <= 200
    assert message.status == "success"


# --- without a loop -----------------------------------------------------------------


def test_an_agent_without_a_loop_has_its_tools_under_circuits() -> None:
    orch, runs = orchestrator(), []

    @tool
    def look(at: str) -> str:
        """Look at a place."""
        runs.append(at)
        raise DOWN

    agent = agent_of(
        *(call("look", at=f"{number}") for number in range(3)),
        [call("ask"), call("lock")],
        tools=[look, sync_tool("ask")],
        middleware=[CircuitMiddleware(orch)],
    )
    messages = told(agent.invoke(HELLO))
    assert runs == ["0", "1"]
    assert "circuit_breaker" in str(messages[2].content)
    assert {str(each.content)[:5] for each in messages[3:]} == {"fine", "Error"}
    assert orch.stats("look").in_flight == 0


def test_without_a_loop_an_agent_may_be_a_tool_of_another() -> None:
    orch = orchestrator()
    middleware = [CircuitMiddleware(orch)]
    inner = agent_of(call("ask"), tools=[sync_tool("ask")], middleware=middleware)

    @tool
    def delegate(task: str) -> str:
        """Ask another agent."""
        return str(told(inner.invoke({"messages": [("user", task)]}))[0].content)

    agent = agent_of(call("delegate", task="x"), tools=[delegate], middleware=middleware)
    (message,) = told(agent.invoke(HELLO))
    assert message.content == "fine"
    assert (orch.stats("ask").successes, orch.stats("delegate").successes) == (1, 1)


def sync_tool(name: str) -> BaseTool:
    def answer() -> str:
        """Answer."""
        return "fine"

    return tool(name)(answer)


def test_without_a_loop_one_probe_is_made_and_interrupts_pass() -> None:
    import threading

    clock = HandClock()
    orch, runs = orchestrator(clock=clock), []
    dead = True
    go_on = threading.Event()

    @tool
    def look(at: str) -> str:
        """Look at a place."""
        runs.append(threading.get_ident())
        if dead:
            raise DOWN
        go_on.wait(20)
        return "sun"

    @tool
    def ask() -> str:
        """Ask."""
        return f"said {interrupt('well?')}"

    middleware = [CircuitMiddleware(orch)]
    turn = [call("look", at=str(number)) for number in range(2)]
    agent_of(turn, tools=[look], middleware=middleware).invoke(HELLO)
    dead = False
    clock.turn(300)
    turn = [call("look", at=str(number)) for number in range(8)]
    agent = agent_of(turn, tools=[look], middleware=middleware)
    refusals = 0
    orch.add_observer(lambda event: count(type(event).__name__))

    def count(kind: str) -> None:
        nonlocal refusals
        refusals += kind == "CallRejected"
        if refusals == 7:
            go_on.set()

    messages = told(agent.invoke(HELLO))
    assert sorted(each.status for each in messages) == ["error"] * 7 + ["success"]
    assert len(runs) == 3

    saver = InMemorySaver()
    agent = agent_of(call("ask"), tools=[ask], middleware=middleware, checkpointer=saver)
    agent.invoke(HELLO, config())
    state = agent.invoke(Command(resume="hi"), config())
    assert told(state)[0].content == "said hi"


def test_without_a_loop_a_tool_that_hangs_is_given_up() -> None:
    orch, go_on = orchestrator(timeout=0.02), threading.Event()
    events: list[Any] = []
    orch.add_observer(events.append)

    @tool
    def look() -> str:
        """Look."""
        go_on.wait(20)
        return "late"

    def node_of() -> Any:
        graph: Any = StateGraph(AgentState)
        graph.add_node("tools", ToolNode([look], wrap_tool_call=wrap_tool_call(orch)))
        graph.set_entry_point("tools")
        return graph.compile()

    state = node_of().invoke({"messages": [AIMessage("", tool_calls=[call("look")])]})
    go_on.set()
    assert '"timeout": true' in str(told(state)[0].content)
    (event,) = [each for each in events if isinstance(each, CallFinished)]
    assert isinstance(event.error, ToolTimeoutError)
    assert event.error.still_running
    assert "may still be running" in str(told(state)[0].content)
    assert orch.stats("look").in_flight == 0


@pytest.mark.parametrize("simple", [False, True])
def test_without_a_loop_a_tool_that_needs_one_is_the_programmers_mistake(
    simple: bool,
) -> None:
    async def look(at: str = "here") -> str:
        """Look."""
        return "sun"

    made: BaseTool = tool(look)
    if simple:
        made = SimpleTool("look", None, "Look.", coroutine=look)
    orch, args = orchestrator(), {"__arg1": "here"} if simple else {}
    middleware = [CircuitMiddleware(orch)]
    agent = agent_of(call("look", **args), tools=[made], middleware=middleware)
    with pytest.raises(NotImplementedError, match="sync"):
        agent.invoke(HELLO)
    assert list(orch.registry) == []


# --- what cannot be -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"orch": None}, "orch must be a ToolOrchestrator"),
        ({"policy": {"timeout": 1}}, "policy must be a ToolPolicy"),
        ({"conversation": 7}, "conversation must be a bool or a ConversationPolicy"),
    ],
)
def test_what_cannot_be_used_is_told_of(options: Any, words: str) -> None:
    given = {"orch": orchestrator(), **options}
    with pytest.raises(TypeError, match=words):
        CircuitMiddleware(given.pop("orch"), **given)


async def test_a_name_that_is_taken_in_the_registry_is_told_of() -> None:
    orch = orchestrator()

    async def look() -> str:
        return "ours"

    orch.registry.add(Tool(fn=look))
    agent = agent_of(
        call("look"), tools=[Weather().tool()], middleware=[CircuitMiddleware(orch)]
    )
    with pytest.raises(ValueError, match="not that of LangChain"):
        await agent.ainvoke(HELLO)


async def test_two_middlewares_with_different_policies_for_one_tool_are_refused() -> None:
    orch, weather = orchestrator(), Weather()
    for policy in (None, ToolPolicy(timeout=5)):
        middleware = CircuitMiddleware(orch, policy=policy)
        agent = agent_of(
            [call("look", at="sky")], tools=[weather.tool()], middleware=[middleware]
        )
        state = await agent.ainvoke(HELLO)
        assert [each.status for each in told(state)] == ["success"]
    middleware = CircuitMiddleware(orch, policy=ToolPolicy(timeout=6))
    agent = agent_of(
        [call("look", at="sky")], tools=[weather.tool()], middleware=[middleware]
    )
    with pytest.raises(ValueError, match=r"look has another policy already.* timeout"):
        await agent.ainvoke(HELLO)
