"""
What servers ask for while a tool runs: it comes to the host whose call it is, and to no other.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp import Client
from mcp_types import (
    INVALID_REQUEST,
    CreateMessageResult,
    CreateMessageResultWithTools,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    ErrorData,
    ListRootsResult,
    Root,
    SamplingMessage,
    TextContent,
    ToolUseContent,
)
from mcp_types import CreateMessageRequestParams as Sampling
from mcp_types import Tool as SdkTool

from orchestrator_async import Registry, ToolContext, ToolOrchestrator, Verdict
from orchestrator_async.adapters.mcp import InputRefusedError, McpServers
from orchestrator_async.adapters.mcp._call import current
from orchestrator_async.adapters.mcp._questions import Questions
from orchestrator_async.gateway import Gateway, _asking
from tests.clock import real_time

from .helping import DEADLINE, bench, everything, leaves_generators, ours, until
from .running import HttpPeer, Peers

pytestmark = [leaves_generators, real_time]


class Person:
    """
    Somebody at a host.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[Any] = []

    async def input(self, context: Any, params: Any) -> ElicitResult:
        self.asked.append(params)
        return ElicitResult(action="accept", content={"name": self.name})

    async def answer(self, context: Any, params: Any) -> CreateMessageResult:
        self.asked.append(params)
        content = TextContent(text=f"said {self.name}")
        return CreateMessageResult(role="assistant", content=content, model=self.name)

    async def folders(self, context: Any) -> ListRootsResult:
        uri: Any = f"file:///{self.name}"
        return ListRootsResult(roots=[Root(uri=uri)])


@asynccontextmanager
async def gateway_to(config: Mapping[str, Any]) -> AsyncIterator[Gateway]:
    servers = McpServers(
        {"servers": config},
        elicitation=_asking.elicitation,
        sampling=_asking.sampling,
        roots=_asking.roots,
    )
    registry = Registry()
    with anyio.fail_after(2 * DEADLINE):
        async with servers:
            registry.include(servers)
            yield Gateway(ToolOrchestrator(registry), servers=servers)


@asynccontextmanager
async def host(
    gateway: Gateway, person: Person | None, **options: Any
) -> AsyncIterator[Client]:
    if person is not None:
        options = {
            "elicitation_callback": person.input,
            "sampling_callback": person.answer,
            "list_roots_callback": person.folders,
            **options,
        }
    async with Client(gateway.server(), **{"mode": "legacy", **options}) as client:
        yield client


def text(result: Any) -> str:
    return "\n".join(block.text for block in result.content)


def refused(result: Any) -> str:
    """
    The error of a call that was refused, without a verdict.
    """
    assert result.is_error
    assert result.meta["orchestrator-async/verdict"] == "ignore"
    return json.loads(text(result))["error"]


async def test_each_host_is_asked_for_its_own_calls(servers: Peers) -> None:
    ada, bob = Person("ada"), Person("bob")
    async with (
        gateway_to({"plain": ours(servers, "plain")}) as gateway,
        host(gateway, ada) as first,
        host(gateway, bob) as second,
    ):
        for client, name in ((first, "ada"), (second, "bob")):
            assert f'"name":"{name}"' in text(await client.call_tool("plain__ask"))
            assert f"said {name}" in text(await client.call_tool("plain__sample"))
    assert [len(person.asked) for person in (ada, bob)] == [2, 2]


async def test_a_server_that_asks_over_its_pipe_is_answered_while_one_call_runs(
    servers: Peers,
) -> None:
    ada = Person("ada")
    async with gateway_to({"all": everything()}) as gateway, host(gateway, ada) as client:
        await until(lambda: "all__trigger-elicitation-request" in gateway.orch.registry)
        said = await client.call_tool("all__trigger-elicitation-request")
        assert "ada" in text(said)
        said = await client.call_tool(
            "all__trigger-sampling-request", {"prompt": "hello", "maxTokens": 5}
        )
        assert "said ada" in text(said)
        # Another call over the same pipe, and nobody can tell whose question it is.
        async with anyio.create_task_group() as tasks:
            long = {"duration": 60, "steps": 1}
            name = "all__trigger-long-running-operation"
            tasks.start_soon(client.call_tool, name, long)
            await until(lambda: gateway.orch.stats(name).in_flight == 1)
            before = len(ada.asked)
            said = await client.call_tool("all__trigger-elicitation-request")
            assert (said.is_error, len(ada.asked)) == (True, before)
            tasks.cancel_scope.cancel()


async def test_over_http_it_is_known_whose_question_it_is(plain_http: HttpPeer) -> None:
    ada, bob = Person("ada"), Person("bob")
    async with (
        gateway_to({"plain": {"url": plain_http.url}}) as gateway,
        host(gateway, ada) as first,
        host(gateway, bob) as second,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(first.call_tool, "plain__sleep", {"seconds": 60})
        await until(lambda: gateway.orch.stats("plain__sleep").in_flight == 1)
        assert '"name":"bob"' in text(await second.call_tool("plain__ask"))
        tasks.cancel_scope.cancel()
    assert ada.asked == []


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_host_that_cannot_be_asked_has_its_call_refused(
    servers: Peers, mode: str
) -> None:
    # In 2026-07-28 servers ask nothing of hosts while a call runs.
    person = Person("ada") if mode == "auto" else None
    async with (
        gateway_to({"plain": ours(servers, "plain")}) as gateway,
        host(gateway, person, mode=mode) as client,
    ):
        assert "input of a user" in refused(await client.call_tool("plain__ask"))
        assert "answer of a model" in refused(await client.call_tool("plain__sample"))
        assert gateway.orch.stats("plain__ask").failures == 0


async def test_a_host_that_answers_with_an_error_is_no_failure(servers: Peers) -> None:
    async def no(context: Any, params: Any) -> ErrorData:
        return ErrorData(code=INVALID_REQUEST, message="not now")

    async with (
        gateway_to({"plain": ours(servers, "plain")}) as gateway,
        host(gateway, None, elicitation_callback=no) as client,
    ):
        assert "input of a user" in refused(await client.call_tool("plain__ask"))


# People who think


class Thinks(Person):
    """
    Somebody who has not answered yet.
    """

    def __init__(self) -> None:
        super().__init__("ada")
        self.is_asked, self.answers, self.left = anyio.Event(), anyio.Event(), 0

    async def input(self, context: Any, params: Any) -> ElicitResult:
        await self.think()
        return await super().input(context, params)

    async def folders(self, context: Any) -> ListRootsResult:
        await self.think()
        return await super().folders(context)

    async def think(self) -> None:
        self.is_asked.set()
        try:
            await self.answers.wait()
        except BaseException:
            self.left += 1
            raise


@pytest.mark.parametrize("upstream", ["that withdraws it", "that does not"])
async def test_a_question_is_withdrawn_when_its_call_ends(
    servers: Peers, upstream: str
) -> None:
    ada = Thinks()
    # The other asks, and reads no more whatever comes.
    rude = ours(servers, "hostile", "asks_then_dies")
    config = {"server": ours(servers, "plain") if upstream == "that withdraws it" else rude}
    tool = "server__ask" if upstream == "that withdraws it" else "server__echo"
    async with gateway_to(config) as gateway, host(gateway, ada) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, tool)
            await ada.is_asked.wait()
            tasks.cancel_scope.cancel()
        await until(lambda: ada.left)
        assert gateway.orch.stats(tool).failures == 0
    assert ada.asked == []


async def test_the_time_that_a_person_takes_is_not_the_servers(servers: Peers) -> None:
    calls: list[Any] = []

    async def answer(context: Any, params: Any) -> ElicitResult:
        call = current.get()
        assert call is not None
        flight = call._context._report.flight  # type: ignore[attr-defined]
        calls.append(call)
        calls.append((flight.scope.deadline, call._scope.deadline))
        return ElicitResult(action="accept", content={"name": "ada"})

    async with bench(
        {"plain": ours(servers, "plain")}, options={"elicitation": answer}, timeout=30
    ) as made:
        assert (await made.orch.run("plain__ask")).ok
        call, deadlines = calls
        assert deadlines == (math.inf, math.inf)
        # And from then on, it runs on.
        assert call._scope.deadline <= anyio.current_time() + 35


async def test_a_person_has_so_much_time_and_no_more(servers: Peers) -> None:
    called: list[Any] = []

    async def never(context: Any, params: Any) -> None:
        called.append(current.get())
        # The time is over: ten minutes, in a test.
        await until(lambda: called[0].questions._open)
        (scope,) = called[0].questions._open
        assert 500 < scope.deadline - anyio.current_time() <= 600
        scope.deadline = anyio.current_time()
        await anyio.sleep_forever()

    async with bench(
        {"plain": ours(servers, "plain")}, options={"elicitation": never}
    ) as made:
        result = await made.orch.run("plain__ask")
        assert type(result.error) is InputRefusedError
        assert result.verdict is Verdict.IGNORE


async def test_of_a_call_that_has_ended_nothing_is_asked() -> None:
    asked: list[Any] = []

    async def question() -> None:
        asked.append("begun")
        await anyio.lowlevel.checkpoint()
        asked.append("asked")

    questions = Questions(ToolContext(tool_name="tool"), anyio.CancelScope())
    questions.end()
    answer = await questions.ask(question)
    assert answer.message == "the call that it is for has ended"
    assert "asked" not in asked


async def test_the_time_of_a_call_runs_on_when_its_last_question_is_answered() -> None:
    scope = anyio.CancelScope(deadline=anyio.current_time() + 60)
    questions = Questions(ToolContext(tool_name="tool"), scope)
    first, second = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(questions.ask, first.wait)
        tasks.start_soon(questions.ask, second.wait)
        await until(lambda: len(questions._open) == 2)
        assert scope.deadline == math.inf
        first.set()
        await until(lambda: len(questions._open) == 1)
        assert scope.deadline == math.inf
        second.set()
    assert 0 < scope.deadline - anyio.current_time() <= 60


# The questions by themselves


async def asking(question: Any, **options: Any) -> Any:
    """
    What comes of a question that is asked in a call of a host.
    """
    answers: list[Any] = []
    registry = Registry()

    @registry.tool
    async def tool() -> None:
        answers.append(await question())

    gateway = Gateway(ToolOrchestrator(registry))
    async with host(gateway, None, **options) as client:
        await client.call_tool("tool")
    return answers[0]


def form() -> Any:
    schema: Any = {"type": "object", "properties": {}}
    params = ElicitRequestFormParams(message="name?", requested_schema=schema)
    return lambda: _asking.elicitation(None, params)


def url() -> Any:
    params = ElicitRequestURLParams(
        message="log in", url="https://example.com", elicitation_id="1"
    )
    return lambda: _asking.elicitation(None, params)


MESSAGE = SamplingMessage(role="user", content=TextContent(text="hello"))


async def test_folders_come_from_the_host_whose_call_it_is() -> None:
    found = await asking(
        lambda: _asking.roots(None), list_roots_callback=Person("a").folders
    )
    assert [str(each.uri) for each in found.roots] == ["file:///a"]
    assert isinstance(await asking(lambda: _asking.roots(None)), ErrorData)


async def test_outside_of_a_call_nobody_is_asked() -> None:
    assert isinstance(await _asking.roots(None), ErrorData)


async def test_input_is_asked_for_in_the_ways_that_a_host_has() -> None:
    ada = Person("ada")
    for question in (form(), url()):
        assert isinstance(await asking(question), ErrorData)
        answer = await asking(question, elicitation_callback=ada.input)
        assert isinstance(answer, ElicitResult), answer
    assert [type(each) for each in ada.asked] == [
        ElicitRequestFormParams,
        ElicitRequestURLParams,
    ]


async def test_a_model_is_given_tools_only_by_hosts_that_can() -> None:
    async def answer(context: Any, params: Any) -> CreateMessageResultWithTools:
        use = ToolUseContent(name="t", id="1", input={})
        return CreateMessageResultWithTools(role="assistant", content=use, model="m")

    tool = SdkTool(name="t", input_schema={"type": "object"})
    params = Sampling(messages=[MESSAGE], max_tokens=1, tools=[tool])

    async def question() -> Any:
        return await _asking.sampling(None, params)

    assert isinstance(await asking(question, sampling_callback=answer), ErrorData)
    from mcp_types import SamplingCapability, SamplingToolsCapability

    able = SamplingCapability(tools=SamplingToolsCapability())
    said = await asking(question, sampling_callback=answer, sampling_capabilities=able)
    assert said.content.type == "tool_use"
