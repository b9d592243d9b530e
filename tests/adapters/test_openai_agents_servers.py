"""
The Agents SDK's MCP servers, with their tools under circuits of ours.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from agents import Agent, Runner, UserError, set_trace_processors
from agents.mcp import MCPServerStdio

from orchestrator_async import (
    BreakerPolicy,
    CircuitState,
    Registry,
    ToolOrchestrator,
    ToolPolicy,
    any_error,
)
from orchestrator_async.adapters.openai_agents import guard_mcp_server
from tests.mcp.running import Peers, peers

from .openai_model import Script, call

pytestmark = pytest.mark.parametrize(
    "anyio_backend", ["asyncio in real time", "asyncio+uvloop"], indirect=True
)

DOWN = "HTTP 503 Service Unavailable"


@pytest.fixture(autouse=True)
def nothing_is_sent() -> None:
    set_trace_processors([])


@pytest.fixture
def started() -> Iterator[Peers]:
    with peers() as started:
        yield started


def plain(started: Peers, **options: Any) -> MCPServerStdio:
    how = started.stdio("plain")
    params: Any = {
        "command": how.command,
        "args": how.args,
        "env": how.env,
        "cwd": str(how.cwd),
    }
    # It starts slowly on a machine that is busy.
    return MCPServerStdio(
        params, name="plain", client_session_timeout_seconds=60, **options
    )


def unconnected(**options: Any) -> MCPServerStdio:
    return MCPServerStdio({"command": "nothing-there"}, name="plain", **options)


def orchestrator() -> ToolOrchestrator:
    return ToolOrchestrator(Registry(), failure_threshold=2)


async def test_errors_of_a_service_are_counted_and_refused(started: Peers) -> None:
    orch = orchestrator()
    server = guard_mcp_server(plain(started), orch, prefix="plain__")
    model = Script(
        *[[call("fail", each, text=DOWN)] for each in "abc"],
        [call("echo", "e", text="ho"), call("image", "i")],
        [call("fail", "f", text="no such file: a.txt")],
    )
    ada = Agent(name="ada", model=model, mcp_servers=[server])
    async with server as same:
        assert same is server
        await Runner.run(ada, "go")
    assert model.output("a")[0]["text"] == DOWN
    refused = json.loads(model.output("c")[0]["text"])
    assert (refused["state"], refused["tool_name"]) == ("open", "plain__fail")
    assert model.output("e")[0]["text"] == "ho"
    assert model.output("i")[0]["type"] == "input_image"
    described = orch.registry["plain__echo"]
    assert described.description == "Say it again."
    assert orch.stats("plain__fail").failures == 2


async def test_mistakes_of_the_model_open_no_circuit(started: Peers) -> None:
    orch = orchestrator()
    policy = BreakerPolicy(failure_threshold=1)
    server = guard_mcp_server(plain(started), orch, policy=policy)
    model = Script(
        *[[call("fail", f"f{n}", text="no such file: a.txt")] for n in range(3)],
        [call("echo", "e")],
    )
    ada = Agent(name="ada", model=model, mcp_servers=[server])
    async with server:
        await Runner.run(ada, "go")
    assert "missing required parameters" in model.output("e")[0]["text"]
    assert orch.circuit("fail").state is CircuitState.CLOSED
    assert orch.circuit("echo").state is CircuitState.CLOSED


async def test_a_server_that_dies_ends_no_run(started: Peers) -> None:
    orch = orchestrator()
    policy = ToolPolicy(judge=any_error)
    server = guard_mcp_server(plain(started, cache_tools_list=True), orch, policy=policy)
    model = Script([call("crash", "a")], [call("echo", "b", text="ho")])
    ada = Agent(name="ada", model=model, mcp_servers=[server])
    async with server:  # it is listed once, for it lists its tools in every turn
        await Runner.run(ada, "go")
    assert "error" in json.loads(model.output("a")[0]["text"])
    assert "error" in json.loads(model.output("b")[0]["text"])
    assert orch.stats("echo").failures == 1
    assert orch.stats("echo").in_flight == 0


async def test_what_answers_for_failures_goes_on_doing_so() -> None:
    inner = unconnected(failure_error_function=lambda context, error: "sorry")
    for always, expected in ((False, None), (True, "not initialized")):
        orch = orchestrator()
        server = guard_mcp_server(inner, orch, always_answer=always)
        if expected is None:
            with pytest.raises(UserError, match="not initialized"):
                await server.call_tool("echo", {})
        else:
            answer: Any = await server.call_tool("echo", None, meta={"a": 1})
            assert answer.is_error
            assert expected in answer.content[0].text
        assert orch.stats("echo").calls == 1


async def test_everything_else_is_the_servers_own() -> None:
    inner = unconnected(use_structured_content=True, require_approval="always")
    server = guard_mcp_server(inner, orchestrator())
    assert (server.name, server.use_structured_content) == ("plain", True)
    assert server._needs_approval_policy is inner._needs_approval_policy
    assert server.cached_tools is None
    for asked in (
        server.list_tools(),
        server.list_prompts(),
        server.get_prompt("a"),
        server.list_resources(),
        server.list_resource_templates(),
        server.read_resource("a://b"),
    ):
        with pytest.raises(UserError, match="not initialized"):
            await asked
    with pytest.raises(AttributeError):
        server.nothing_of_the_kind  # noqa: B018
    assert copy.copy(server).name == "plain"
    await server.cleanup()


async def test_what_is_set_is_set_in_the_server() -> None:
    inner = unconnected()
    server = guard_mcp_server(inner, orchestrator())
    server.tool_filter = {"allowed_tool_names": ["echo"]}
    server.use_structured_content = True
    assert inner.tool_filter == {"allowed_tool_names": ["echo"]}
    assert (inner.use_structured_content, server.use_structured_content) == (True, True)


async def test_a_name_that_two_servers_have_is_found_when_they_are_listed(
    started: Peers,
) -> None:
    orch = orchestrator()
    options: Any = {"idempotent": True, "circuit": "plain"}
    first = guard_mcp_server(plain(started), orch, **options)
    async with first:
        await first.list_tools()
        again = guard_mcp_server(first._server, orch, **options)
        await again.list_tools()  # the same server is no other
        changed = guard_mcp_server(first._server, orch, policy=ToolPolicy(timeout=1))
        with pytest.raises(ValueError, match=r"another .*timeout, circuit, idempotent"):
            await changed.list_tools()
        assert orch.registry["echo"].idempotent
        assert orch.registry["echo"].circuit_name == "plain"
        other = plain(started)
        other._name = "other"
        async with guard_mcp_server(other, orch) as second:
            with pytest.raises(ValueError, match=r"a tool of its own named .* a prefix="):
                await second.list_tools()


async def test_guarding_twice_is_guarding_once() -> None:
    orch = orchestrator()
    server = guard_mcp_server(unconnected(), orch)
    assert guard_mcp_server(server, orch) is server
    with pytest.raises(ValueError, match="guarded by another orchestrator"):
        guard_mcp_server(server, orchestrator())


async def test_what_is_no_server_is_named() -> None:
    with pytest.raises(TypeError, match="an MCPServer can be guarded"):
        guard_mcp_server("plain", orchestrator())  # type: ignore[arg-type]
