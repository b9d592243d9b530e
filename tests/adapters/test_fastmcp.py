"""
FastMCP servers whose tools are under circuits, by a client that is not FastMCP's own: that
one runs on asyncio alone.
"""

from __future__ import annotations

import base64
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import fastmcp
import mcp
import mcp_types
import pytest
from fastmcp import Client, Context, FastMCP
from fastmcp.exceptions import AuthorizationError, ToolError
from fastmcp.server import create_proxy
from fastmcp.server.extensions import ServerExtension
from fastmcp.server.middleware import Middleware
from fastmcp.server.middleware.caching import ResponseCachingMiddleware
from fastmcp.server.middleware.error_handling import (
    ErrorHandlingMiddleware,
    RetryMiddleware,
)
from fastmcp.server.middleware.rate_limiting import RateLimitingMiddleware
from fastmcp.server.middleware.response_limiting import ResponseLimitingMiddleware
from fastmcp.server.middleware.timing import TimingMiddleware
from fastmcp.server.providers.proxy import ProxyProvider
from fastmcp.server.transforms.search import BM25SearchTransform
from fastmcp.tools import ToolResult
from fastmcp.tools.base import InputRequiredToolResult
from fastmcp.utilities.types import Image
from mcp import MCPError
from mcp_types import CallToolResult

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    CircuitState,
    LimitPolicy,
    Media,
    Registry,
    RetryPolicy,
    ToolCall,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
    Verdict,
    exceptions_only,
)
from orchestrator_async.adapters.fastmcp import CircuitMiddleware
from tests.clock import real_time, virtual_time
from tests.support import HandClock, Service, fail, when_blocked

asyncio_only = pytest.mark.parametrize(
    "anyio_backend", ["asyncio", "asyncio+uvloop"], indirect=True
)

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def quiet() -> Iterator[None]:
    """
    FastMCP logs the traceback of each tool that raises, in colours.
    """
    log = logging.getLogger("fastmcp")
    level, log.level = log.level, logging.CRITICAL + 1
    yield
    log.level = level


class Bench:
    """
    A server, the orchestrator that its tools are under, and a tool that is told what to do.
    """

    def __init__(
        self,
        *inner: Middleware,
        outer: tuple[Middleware, ...] = (),
        mask: bool = False,
        orch: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.clock = HandClock()
        given = {"failure_threshold": 2, "clock": self.clock, **(orch or {})}
        self.orch = ToolOrchestrator(Registry(), **given)
        self.circuits = CircuitMiddleware(self.orch, **options)
        chain = [*outer, self.circuits, *inner]
        self.server = FastMCP("bench", middleware=chain, mask_error_details=mask)
        self.service = Service()
        self.server.tool(self.service.__call__, name="look")

        @self.server.tool
        async def add(a: int, b: int) -> int:
            return a + b

    def raises(self, error: BaseException) -> None:
        async def behaviour() -> Any:
            raise error

        self.service.behaviour = behaviour

    def returns(self, value: Any) -> None:
        async def behaviour() -> Any:
            return value

        self.service.behaviour = behaviour

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[mcp.Client]:
        async with mcp.Client(self.server._mcp_server, **options) as client:
            yield client

    async def call(self, name: str = "look", /, **args: Any) -> CallToolResult:
        async with self.client() as client:
            try:
                return await client.call_tool(name, args)
            except MCPError as raised:  # not in a group, as it would be out there
                error = raised
        raise error

    async def trip(self) -> None:
        behaviour, self.service.behaviour = self.service.behaviour, fail
        for _ in range(2):
            assert (await self.call()).is_error
        self.service.behaviour = behaviour
        assert self.state is CircuitState.OPEN

    @property
    def state(self) -> CircuitState:
        return self.orch.circuit("look").state


def text_of(result: CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, mcp_types.TextContent)
    return block.text


# --- what works ------------------------------------------------------------------------


async def test_what_a_tool_returns_is_as_it_was() -> None:
    bench = Bench()
    with_it, without = Bench(), FastMCP("bench")

    @with_it.server.tool
    @without.tool
    async def paint(x: int) -> ToolResult:
        picture = Image(data=b"\x89PNG", format="png").to_image_content()
        return ToolResult(["here", picture], {"x": x}, meta={"seen": True})

    @with_it.server.tool
    @without.tool
    async def count() -> list[int]:
        return [1, 2]

    async with with_it.client() as ours, mcp.Client(without._mcp_server) as theirs:
        for name, args in (("paint", {"x": 1}), ("count", {})):
            one = await ours.call_tool(name, args)
            other = await theirs.call_tool(name, args)
            assert one.content == other.content
            assert one.structured_content == other.structured_content is not None
            assert one.meta == other.meta
    assert with_it.orch.stats("paint").successes == 1
    assert bench.orch.get_fleet_stats() == {}


async def test_a_tool_that_dies_is_refused_and_others_go_on() -> None:
    bench = Bench()
    bench.service.behaviour = fail
    async with bench.client() as client:
        for _ in range(2):
            failed = await client.call_tool("look", {})
            assert failed.is_error
            assert "look failed: ConnectionError: the service is down" in text_of(failed)
        refused = await client.call_tool("look", {})
        assert refused.is_error
        assert "Do not call it again for 300 s" in text_of(refused)
        assert bench.service.runs == 2
        added = await client.call_tool("add", {"a": 1, "b": 2})
        assert (added.is_error, added.structured_content) == (False, {"result": 3})


async def test_one_probe_is_made_when_it_returns_though_many_call() -> None:
    bench = Bench()
    await bench.trip()
    bench.clock.turn(300)
    go = anyio.Event()
    results: list[CallToolResult] = []

    async def slow() -> str:
        await go.wait()
        return "back"

    bench.service.behaviour, runs = slow, bench.service.runs

    async with bench.client() as client, anyio.create_task_group() as tasks:

        async def call() -> None:
            results.append(await client.call_tool("look", {}))
            if len(results) == 19:
                go.set()

        for _ in range(20):
            tasks.start_soon(call)
    assert bench.service.runs == runs + 1
    assert [each.is_error for each in results] == [True] * 19 + [False]
    assert bench.state is CircuitState.CLOSED


@real_time
async def test_a_plain_function_runs_in_a_thread_as_ever() -> None:
    bench = Bench()

    @bench.server.tool
    def plain(words: str) -> str:
        return words.upper()

    assert text_of(await bench.call("plain", words="hi")) == "HI"
    assert bench.orch.stats("plain").successes == 1


async def test_progress_of_a_tool_reaches_its_client() -> None:
    bench = Bench()
    told: list[Any] = []

    @bench.server.tool
    async def works(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        return "done"

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total))

    async with bench.client(mode="legacy") as client:
        await client.call_tool("works", {}, progress_callback=hear)
        await when_blocked()
    assert told == [(1, 2)]


# --- mounted servers, proxies -----------------------------------------------------------


async def test_tools_of_mounted_servers_have_circuits_of_their_own() -> None:
    bench = Bench()
    child = FastMCP("child")
    service = Service(fail)
    child.tool(service.__call__, name="look")
    bench.server.mount(child, namespace="far")
    async with bench.client() as client:
        for _ in range(3):
            result = await client.call_tool("far_look", {})
        assert "far_look is down" in text_of(result)
        assert service.runs == 2
        assert not (await client.call_tool("look", {})).is_error


async def test_a_mounted_servers_own_refusals_are_no_failures() -> None:
    bench, child = Bench(), Bench()
    bench.server.mount(child.server, namespace="far")
    await child.trip()
    for _ in range(4):
        assert "look is down" in text_of(await bench.call("far_look"))
    assert bench.orch.circuit("far_look").state is CircuitState.CLOSED
    assert bench.orch.stats("far_look").ignored == 4


async def test_a_mounted_servers_own_failures_are_its_own() -> None:
    bench, child = Bench(), Bench()
    bench.server.mount(child.server, namespace="far")
    child.service.behaviour = fail
    for _ in range(2):
        assert '"tool_name": "look"' in text_of(await bench.call("far_look"))
    assert "look is down" in text_of(await bench.call("far_look"))
    assert bench.orch.stats("far_look").ignored == 3
    assert (child.orch.stats("look").total_failures, child.service.runs) == (2, 2)


async def test_a_tool_that_calls_a_dead_one_goes_on_for_others() -> None:
    bench = Bench()
    bench.server.add_transform(BM25SearchTransform())
    bench.service.behaviour = fail
    said = [text_of(await bench.call("call_tool", name="look")) for _ in range(3)]
    assert said[0].startswith('{"error": "look failed: ConnectionError')
    assert said[2].startswith('{"error": "look is down')
    arguments = {"a": 1, "b": 1}
    added = await bench.call("call_tool", name="add", arguments=arguments)
    assert text_of(added) == "2"
    assert bench.orch.stats("call_tool").total_failures == 0


@pytest.mark.parametrize("within", [True, False])
async def test_what_a_middleware_makes_of_an_inner_failure_is_none_either(
    within: bool,
) -> None:
    handling = ErrorHandlingMiddleware()
    bench = Bench(*([handling] if within else []), outer=() if within else (handling,))

    @bench.server.tool
    async def ask(ctx: Context) -> ToolResult:
        return await ctx.fastmcp.call_tool("look", {})

    bench.service.behaviour = fail
    for _ in range(2):
        with pytest.raises(MCPError, match="Internal error"):
            await bench.call("ask")
    assert (await bench.call("ask")).is_error
    assert bench.orch.stats("ask").ignored == 3
    assert bench.orch.stats("look").total_failures == 2


async def test_an_error_that_a_tool_raises_again_and_again_counts_each_time() -> None:
    bench = Bench()
    bench.raises(MCPError(code=-32603, message="Connection closed"))
    for _ in range(2):
        await bench.call()
    assert bench.state is CircuitState.OPEN


async def test_a_second_middleware_counts_no_failure_twice() -> None:
    bench = Bench()
    bench.server.add_middleware(CircuitMiddleware(bench.orch))
    bench.service.behaviour = fail
    assert '"error": "look failed: ConnectionError' in text_of(await bench.call())
    assert bench.state is CircuitState.CLOSED
    await bench.call()
    assert "look is down" in text_of(await bench.call())
    assert bench.service.runs == 2


@asyncio_only
async def test_tools_of_a_proxys_backend_are_under_circuits() -> None:
    backend = Bench(orch={"failure_threshold": 99})
    bench = Bench()
    bench.server.mount(create_proxy(backend.server), namespace="far")
    backend.service.behaviour = fail
    async with Client(bench.server) as client:
        for _ in range(3):
            result = await client.call_tool("far_look", {}, raise_on_error=False)
        assert "far_look is down" in str(result.content)
        assert backend.service.runs == 2
        assert (await client.call_tool("far_add", {"a": 1, "b": 1})).data == 2
        backend.service.behaviour = Service().behaviour
        bench.clock.turn(300)
        assert str(await client.call_tool("far_look", {})).count("text='fine'") == 1


@asyncio_only
async def test_a_backend_that_cannot_be_reached_is_a_failure() -> None:
    backend, bench = Bench(), Bench(mask=True)
    alive = True

    def connect() -> Client[Any]:
        if not alive:
            raise ConnectionError("no route to 10.0.0.1")
        return Client(backend.server)

    bench.server.add_provider(ProxyProvider(connect), namespace="far")
    async with Client(bench.server) as client:
        assert str(await client.call_tool("far_look", {})).count("text='fine'") == 1
        alive = False
        for _ in range(2):
            result = await client.call_tool("far_look", {}, raise_on_error=False)
            assert "10.0.0.1" not in str(result.content)
        assert bench.orch.circuit("far_look").state is CircuitState.OPEN
        alive = True
        bench.clock.turn(300)
        assert str(await client.call_tool("far_look", {})).count("text='fine'") == 1


@asyncio_only
@pytest.mark.parametrize(
    "raises",
    [
        pytest.param(
            True,
            marks=pytest.mark.skipif(
                fastmcp.__version__.startswith("4.1."), reason="FastMCP 4.1 says nothing"
            ),
        ),
        False,
    ],
)
async def test_a_backend_whose_tools_cannot_be_listed_is_a_failure_if_fastmcp_says_so(
    raises: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "mounted_components_raise_on_load_error"
    monkeypatch.setattr(fastmcp.settings, name, raises)
    backend, bench = Bench(), Bench()
    alive = True

    def connect() -> Client[Any]:
        if not alive:
            raise ConnectionError("no route to 10.0.0.1")
        return Client(backend.server)

    proxy = ProxyProvider(connect, cache_ttl=0)
    bench.server.add_provider(proxy, namespace="far")
    assert not (await bench.call("far_look")).is_error
    alive = False
    for _ in range(2):
        said = text_of(await bench.call("far_look"))
        assert ("far_look failed. Do not repeat" in said) is raises
        assert ("Unknown tool" in said) is not raises
    assert (bench.orch.circuit("far_look").state is CircuitState.OPEN) is raises


# --- what blames the call, and what interrupts it -----------------------------------------


async def test_arguments_that_do_not_fit_are_told_of_in_the_frameworks_words() -> None:
    bench = Bench()
    for _ in range(4):
        result = await bench.call("add", a="x", b=1)
        assert result.is_error
        assert text_of(result).startswith("1 validation error for call[add]")
    assert bench.orch.circuit("add").state is CircuitState.CLOSED
    assert bench.orch.stats("add").ignored == 4


async def test_tools_that_there_are_not_leave_nothing() -> None:
    bench = Bench()
    for name in ("nope", "x" * 129):
        result = await bench.call(name)
        assert text_of(result) == f"Unknown tool: {name!r}"
    assert list(bench.orch.registry) == []


async def test_a_tool_that_was_disabled_has_no_verdict() -> None:
    bench = Bench()
    await bench.call()
    bench.server.disable(names={"look"})
    for _ in range(3):
        assert text_of(await bench.call()) == "Unknown tool: 'look'"
    stats = bench.orch.stats("look")
    assert (stats.calls, stats.successes, stats.total_failures) == (4, 1, 0)


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (ToolError("No such city: Olso"), Verdict.IGNORE),
        (ToolError("Pick a date in the future."), Verdict.IGNORE),
        (ToolError("The forecast service answered 503."), Verdict.FAILURE),
    ],
    ids=str,
)
async def test_the_words_of_a_tool_error_decide(said: ToolError, verdict: Verdict) -> None:
    bench = Bench()
    bench.raises(said)
    result = await bench.call()
    assert result.is_error
    assert str(said) in text_of(result).replace("503. Do", "503.")
    assert (text_of(result) == str(said)) is (verdict is Verdict.IGNORE)
    assert bench.orch.stats("look").total_failures == (verdict is Verdict.FAILURE)


async def test_an_error_result_is_judged_and_stays_as_it_was() -> None:
    bench = Bench()
    bench.returns(ToolResult("Connection refused", {"port": 80}, {"m": 1}, is_error=True))
    result = await bench.call()
    assert result.is_error
    assert text_of(result) == "Connection refused"
    assert result.structured_content == {"port": 80}
    assert result.meta is not None
    assert result.meta["m"] == 1
    bench.returns(ToolResult("No such file: a.txt", is_error=True))
    await bench.call()
    stats = bench.orch.stats("look")
    assert (stats.total_failures, stats.ignored) == (1, 1)


async def test_what_a_tool_may_not_is_passed_on_without_a_verdict() -> None:
    bench = Bench()
    bench.raises(AuthorizationError("not yours"))
    for _ in range(3):
        assert text_of(await bench.call()) == "not yours"
    assert bench.state is CircuitState.CLOSED


async def test_a_question_to_the_user_passes_and_its_answer_comes_back() -> None:
    bench = Bench()

    @bench.server.tool
    async def ask(ctx: Context) -> str:
        answer = await ctx.elicit("Really?", response_type=str)
        return str(getattr(answer, "data", answer.action))

    async def says(context: Any, params: Any) -> mcp_types.ElicitResult:
        return mcp_types.ElicitResult(action="accept", content={"value": "yes"})

    async with bench.client(mode="legacy", elicitation_callback=says) as client:
        assert text_of(await client.call_tool("ask", {})) == "yes"
    assert bench.orch.stats("ask").successes == 1


async def test_a_client_that_cannot_be_asked_is_no_failure_of_the_tool() -> None:
    bench = Bench()

    @bench.server.tool
    async def ask(ctx: Context) -> str:
        await ctx.elicit("Really?", response_type=str)
        return "thanks"

    for _ in range(3):
        assert text_of(await bench.call("ask")).startswith("elicitation via server-")
    assert bench.orch.stats("ask").ignored == 3


async def test_a_tool_that_wants_input_first_is_run_again_with_it() -> None:
    bench = Bench()

    @bench.server.tool
    async def ask(ctx: Context) -> Any:
        if not ctx.input_responses:
            schema = {"type": "object", "properties": {"value": {"type": "string"}}}
            params = mcp_types.ElicitRequestFormParams(
                message="Really?", requested_schema=schema
            )
            wanted: Any = {"q": mcp_types.ElicitRequest(params=params)}
            return mcp_types.InputRequiredResult(input_requests=wanted)
        return "thanks"

    async def says(context: Any, params: Any) -> mcp_types.ElicitResult:
        return mcp_types.ElicitResult(action="accept", content={"value": "yes"})

    async with bench.client(elicitation_callback=says) as client:
        assert text_of(await client.call_tool("ask", {})) == "thanks"
    stats = bench.orch.stats("ask")
    assert (stats.calls, stats.successes, stats.total_failures) == (2, 1, 0)


@pytest.mark.filterwarnings("ignore:The sampling capability")
async def test_sampling_passes() -> None:
    bench = Bench()

    @bench.server.tool
    async def think(ctx: Context) -> str:
        block = mcp_types.TextContent(type="text", text="2 + 2?")
        asked = mcp_types.SamplingMessage(role="user", content=block)
        said = await ctx.session.create_message([asked], max_tokens=9)
        return str(getattr(said.content, "text", said))

    async def says(context: Any, params: Any) -> mcp_types.CreateMessageResult:
        four = mcp_types.TextContent(type="text", text="4")
        return mcp_types.CreateMessageResult(role="assistant", content=four, model="m")

    async with bench.client(mode="legacy", sampling_callback=says) as client:
        result = await client.call_tool("think", {})
    assert text_of(result) == "4"


async def test_a_client_that_cannot_is_told_so_by_the_protocols_code() -> None:
    code = mcp_types.MISSING_REQUIRED_CLIENT_CAPABILITY
    bench = Bench()
    data: Any = {"requiredCapabilities": {"elicitation": {}}}
    bench.raises(MCPError(code=code, message="You cannot be asked.", data=data))
    for _ in range(3):
        with pytest.raises(MCPError, match="You cannot be asked") as caught:
            await bench.call()
        assert caught.value.error.code == code
    assert bench.state is CircuitState.CLOSED


class Tasks(ServerExtension):
    """Makes a task of each call, as background tasks do."""

    identifier = "test.example/tasks"

    async def intercept_tool_call(self, params: Any, context: Any, call_next: Any) -> Any:
        await call_next()
        return mcp_types.EmptyResult()


async def test_what_an_extension_makes_of_a_call_passes_without_a_verdict() -> None:
    bench = Bench()
    bench.server.add_extension(Tasks())
    async with bench.server._lifespan_manager():
        result: Any = await bench.server.call_tool("look")
    assert type(result) is mcp_types.EmptyResult
    stats = bench.orch.stats("look")
    assert (stats.calls, stats.successes, stats.total_failures) == (1, 0, 0)


# --- details ------------------------------------------------------------------------------


class Wordless(ConnectionResetError):
    def __str__(self) -> str:
        raise RuntimeError("hunter2")


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError("password hunter2"), ConnectionResetError(), Wordless()],
    ids=["with words", "without", "that cannot be read"],
)
async def test_what_the_server_masks_is_told_to_nobody_but_us(error: Exception) -> None:
    events: list[Any] = []
    bench = Bench(mask=True)
    bench.orch.add_observer(events.append)
    bench.raises(error)
    said = text_of(await bench.call())
    assert "hunter2" not in said
    assert "Reset" not in said
    assert said.startswith('{"error": "look failed. Do not repeat')
    (event,) = [each for each in events if isinstance(each, CallFinished)]
    assert event.error is error


class TooMany(Exception):
    status_code, retry_after = 429, 7


@pytest.mark.parametrize("mask", [True, False])
async def test_a_pause_that_a_service_asks_for_is_kept(mask: bool) -> None:
    bench = Bench(mask=mask)
    bench.raises(TooMany("slow down"))
    said = text_of(await bench.call())
    assert "do not call it again for 7 s" in said
    refused = text_of(await bench.call())
    assert "asked for a pause" in refused
    assert bench.service.runs == 1


async def test_what_a_middleware_raises_is_a_failure_without_details() -> None:
    class Breaks(Middleware):
        async def on_call_tool(self, context: Any, call_next: Any) -> Any:
            raise RuntimeError("hunter2")

    bench = Bench(Breaks())
    for _ in range(2):
        said = text_of(await bench.call())
        assert said.startswith('{"error": "look failed. Do not repeat')
    assert "look is down" in text_of(await bench.call())


# --- the framework's other middlewares ------------------------------------------------------


def retries() -> RetryMiddleware:
    return RetryMiddleware(max_retries=2, base_delay=0.001)


@virtual_time
async def test_retries_around_circuits_end_where_the_circuit_opens() -> None:
    bench = Bench(outer=(retries(),))
    bench.service.behaviour = fail
    assert "look is down" in text_of(await bench.call())
    assert bench.service.runs == 2


@virtual_time
async def test_retries_within_a_circuit_are_one_call_of_it() -> None:
    bench = Bench(retries())
    bench.service.behaviour = fail
    await bench.call()
    assert (bench.service.runs, bench.orch.stats("look").total_failures) == (3, 1)


async def test_error_handling_around_circuits_counts_failures_and_leaves_refusals() -> None:
    handling = ErrorHandlingMiddleware()
    bench = Bench(outer=(handling,))
    bench.service.behaviour = fail
    for _ in range(2):
        with pytest.raises(MCPError, match="look failed: ConnectionError"):
            await bench.call()
    assert "look is down" in text_of(await bench.call())
    assert handling.get_error_stats() == {"ToolError:tools/call": 2}


async def test_error_handling_within_circuits_keeps_its_codes_and_opens_them() -> None:
    bench = Bench(ErrorHandlingMiddleware())
    bench.service.behaviour = fail
    for _ in range(2):
        with pytest.raises(MCPError, match="Internal error") as caught:
            await bench.call()
        assert caught.value.error.code == mcp_types.INTERNAL_ERROR
    assert "look is down" in text_of(await bench.call())


@pytest.mark.parametrize("around", [True, False])
async def test_a_rate_limit_of_the_server_is_no_failure(around: bool) -> None:
    limit = RateLimitingMiddleware(max_requests_per_second=0.001, burst_capacity=3)
    bench = Bench(outer=(limit,)) if around else Bench(limit)
    said = ""
    async with bench.client() as client:
        for _ in range(10):
            try:
                await client.call_tool("look", {})
            except MCPError as raised:
                said = str(raised)
    assert "Rate limit exceeded" in said
    assert bench.orch.stats("look").total_failures == 0
    assert bench.state is CircuitState.CLOSED


async def test_what_is_cached_is_answered_while_the_tool_is_down() -> None:
    cache = ResponseCachingMiddleware()
    bench = Bench(outer=(cache,))
    assert not (await bench.call("add", a=1, b=2)).is_error
    bench.orch.circuit("add").trip()
    assert (await bench.call("add", a=1, b=2)).structured_content == {"result": 3}
    refused = await bench.call("add", a=2, b=2)
    assert "add is down" in text_of(refused)
    bench.orch.circuit("add").reset()
    assert not (await bench.call("add", a=2, b=2)).is_error  # a refusal is not cached


@pytest.mark.parametrize("around", [True, False])
async def test_timing_and_limits_of_size_work_beside_it(around: bool) -> None:
    others = (TimingMiddleware(), ResponseLimitingMiddleware(max_size=500))
    bench = Bench(outer=others) if around else Bench(*others)
    bench.returns("x" * 2000)
    assert len(text_of(await bench.call())) <= 500
    await bench.trip()
    assert "look is down" in text_of(await bench.call())


@virtual_time
async def test_a_tools_own_timeout_is_a_failure() -> None:
    bench = Bench()

    @bench.server.tool(timeout=0.5)
    async def hangs() -> None:
        await anyio.sleep_forever()

    for _ in range(2):
        assert "timed out after 0.5s" in text_of(await bench.call("hangs"))
    assert "hangs is down" in text_of(await bench.call("hangs"))


@virtual_time
async def test_a_timeout_of_ours_is_a_failure() -> None:
    bench = Bench(orch={"timeout": 0.5})
    bench.service.behaviour = anyio.sleep_forever
    for _ in range(2):
        assert '"timeout": true' in text_of(await bench.call())
    assert "look is down" in text_of(await bench.call())


# --- leaving ------------------------------------------------------------------------------


async def test_a_caller_who_leaves_leaves_nothing() -> None:
    bench = Bench()
    await bench.trip()
    bench.clock.turn(300)
    began = anyio.Event()

    async def hangs() -> None:
        began.set()
        await anyio.sleep_forever()

    bench.service.behaviour = hangs
    async with bench.client() as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "look", {})
            await began.wait()
            assert bench.orch.stats("look").in_flight == 1
            tasks.cancel_scope.cancel()
        await when_blocked()
        assert bench.orch.stats("look").in_flight == 0
        bench.returns("back")
        assert text_of(await client.call_tool("look", {})) == "back"
    assert bench.state is CircuitState.CLOSED


# --- options ------------------------------------------------------------------------------


async def test_a_policy_is_that_of_each_tool() -> None:
    bench = Bench(policy=BreakerPolicy(failure_threshold=1))
    bench.service.behaviour = fail
    await bench.call()
    assert bench.state is CircuitState.OPEN


async def test_types_of_a_policy_are_those_that_the_tool_has_raised() -> None:
    policy = ToolPolicy(ignore=(ConnectionError,), control_flow=(BlockingIOError,))
    bench = Bench(policy=policy)
    bench.service.behaviour = fail
    for _ in range(3):
        said = text_of(await bench.call())
        assert said == "Error calling tool 'look': the service is down"
    bench.raises(BlockingIOError("later"))
    assert text_of(await bench.call()) == "Error calling tool 'look': later"
    assert bench.state is CircuitState.CLOSED


@pytest.mark.parametrize("level", ["tools", "policy"])
async def test_types_of_other_policies_are_kept_beside_our_own(level: str) -> None:
    policy = ToolPolicy(ignore=(ConnectionError,), control_flow=(BlockingIOError,))
    given = {"tools": {"*": policy}} if level == "tools" else {"policy": policy}
    bench = Bench(orch={"failure_threshold": 1, **given})
    for error in (
        ConnectionError("refused"),
        BlockingIOError("later"),
        AuthorizationError("no"),
    ):
        bench.raises(error)
        assert text_of(await bench.call()).endswith(str(error))
    wanted: Any = mcp_types.InputRequiredResult(request_state="s")
    bench.returns(wanted)
    answer = await bench.server.call_tool("look")
    assert isinstance(answer, InputRequiredToolResult)
    assert bench.state is CircuitState.CLOSED
    bench.raises(OSError("No space left on device"))
    await bench.call()
    assert bench.state is CircuitState.OPEN


@pytest.mark.parametrize(
    ("policy", "failures"),
    [
        (ToolPolicy(judge=exceptions_only), 0),
        (ToolPolicy(is_failure=lambda value: value.is_error), 1),
        (ToolPolicy(timeout=5), 1),
    ],
)
async def test_a_judge_of_the_policy_judges(policy: ToolPolicy, failures: int) -> None:
    bench = Bench(policy=policy)
    bench.returns(ToolResult("Connection refused", is_error=True))
    await bench.call()
    assert bench.orch.stats("look").total_failures == failures


@virtual_time
@pytest.mark.parametrize(("trust", "runs"), [(True, 2), (False, 1)])
async def test_a_retry_is_made_where_the_tool_is_trusted_to_be_safe(
    trust: bool, runs: int
) -> None:
    policy = ToolPolicy(retry=RetryPolicy(attempts=2))
    bench = Bench(policy=policy, trust_annotations=trust)
    service = Service(fail)
    hints = mcp_types.ToolAnnotations(idempotent_hint=True)
    bench.server.tool(service.__call__, name="safe", annotations=hints)
    assert "safe failed" in text_of(await bench.call("safe"))
    assert service.runs == runs


@virtual_time
async def test_no_retry_is_made_once_the_tool_does_not_say_that_it_is_safe() -> None:
    policy = ToolPolicy(
        retry=RetryPolicy(attempts=2), breaker=BreakerPolicy(failure_threshold=9)
    )
    bench = Bench(policy=policy, trust_annotations=True)
    service = Service(fail)
    for hint, runs in ((True, 2), (False, 3), (True, 4)):
        hints = mcp_types.ToolAnnotations(read_only_hint=hint)
        bench.server.tool(service.__call__, name="safe", annotations=hints)
        await bench.call("safe")
        assert service.runs == runs
        bench.server.local_provider.remove_tool("safe")
    assert "Unknown tool" in text_of(await bench.call("safe"))
    assert bench.orch.stats("safe").total_failures == 4


async def test_a_guard_sees_who_calls() -> None:
    seen: list[Any] = []

    def guard(call: ToolCall, context: ToolContext) -> str | None:
        within = context.data["fastmcp_context"]
        seen.append((call.args, context.call_id, within.fastmcp.name))
        return "not today"

    bench = Bench(policy=ToolPolicy(guard=guard))
    assert "not today" in text_of(await bench.call("add", a=1, b=2))
    ((args, call_id, server),) = seen
    assert (args, server) == ({"a": 1, "b": 2}, "bench")
    assert call_id.isdigit()
    assert "not today" in str((await bench.server.call_tool("look")).content)
    assert seen[1][1] is None  # it was called by no client


async def test_while_draining_calls_are_refused() -> None:
    bench = Bench()
    await bench.orch.drain(timeout=0)
    refused = await bench.call()
    assert refused.is_error
    assert '"draining": true' in text_of(refused)
    assert bench.service.runs == 0


async def test_a_limit_refuses() -> None:
    bench = Bench(policy=ToolPolicy(limits=LimitPolicy(calls=1, seconds=60, max_wait=0)))
    await bench.call()
    refused = await bench.call()
    assert refused.is_error
    assert '"limit": "rate"' in text_of(refused)


async def test_a_fallback_answers_in_the_form_of_the_tool() -> None:
    bench = Bench(policy=ToolPolicy(fallback=lambda call, result: 42))

    @bench.server.tool
    async def count() -> int:
        raise ConnectionError

    result = await bench.call("count")
    assert (result.is_error, result.structured_content) == (False, {"result": 42})
    assert text_of(result) == "42"
    assert text_of(await bench.call("add", a=1, b=1)) == "2"


async def test_a_fallback_may_answer_with_pictures_or_in_fastmcps_own_form() -> None:
    answers: list[Any] = [
        Media(data=b"\x89PNG", mime_type="image/png"),
        ToolResult("from afar", meta={"m": 1}),
    ]
    bench = Bench(policy=ToolPolicy(fallback=lambda call, result: answers.pop(0)))
    bench.service.behaviour = fail
    text, picture = (await bench.call()).content
    assert isinstance(text, mcp_types.TextContent)
    assert isinstance(picture, mcp_types.ImageContent)
    assert base64.b64decode(picture.data) == b"\x89PNG"
    assert text_of(await bench.call()) == "from afar"


async def test_a_fallback_may_fit_a_schema_that_is_written_by_hand() -> None:
    answers: list[Any] = [
        {"a": 1},
        {"b": 1},
        ToolResult("no", is_error=True, meta={"m": 1}),
        "a word",
    ]
    bench = Bench(policy=ToolPolicy(fallback=lambda call, result: answers.pop(0)))

    @bench.server.tool(output_schema={"type": "object", "required": ["a"]})
    async def measure():
        raise ConnectionError

    fits = await bench.call("measure")
    assert (fits.is_error, fits.structured_content) == (False, {"a": 1})
    for said in ('{"b":1}', "no", "a word"):
        fits_not = await bench.call("measure")
        assert (fits_not.is_error, text_of(fits_not)) == (True, said)


async def test_a_fallback_without_the_form_of_the_tool_is_an_error_result() -> None:
    answers: list[Any] = ["nobody knows", {"of": "ours"}, ToolResult("afar"), "7"]
    bench = Bench(policy=ToolPolicy(fallback=lambda call, result: answers.pop(0)))

    @bench.server.tool
    async def count() -> int:
        raise ConnectionError

    for said in ("nobody knows", '{"of":"ours"}', "afar"):
        result = await bench.call("count")
        assert (result.is_error, text_of(result)) == (True, said)
    result = await bench.call("count")
    assert (result.is_error, result.structured_content) == (False, {"result": 7})


@pytest.mark.parametrize("level", ["tools", "policy"])
async def test_another_tool_of_the_server_may_answer(level: str) -> None:
    policy = ToolPolicy(fallback="recall")
    given: Any = {"tools": {"look": policy}} if level == "tools" else {}
    bench = Bench(orch=given, policy=policy if level == "policy" else None)
    asked: list[int] = []

    @bench.server.tool
    async def recall() -> Any:
        asked.append(len(asked))
        if len(asked) > 3:
            return mcp_types.InputRequiredResult(request_state="s")
        return ToolResult("as ever", structured_content={"n": len(asked)})

    bench.service.behaviour = fail
    for n in (1, 2, 3):
        result = await bench.call()
        assert (text_of(result), result.structured_content) == ("as ever", {"n": n})
    assert "look is down" in text_of(await bench.call())  # what asks first cannot answer
    assert bench.service.runs == 2
    stats = bench.orch.stats("recall")
    assert (stats.successes, stats.ignored, stats.total_failures) == (3, 1, 0)


async def test_a_fallback_that_the_server_has_not_leaves_nothing() -> None:
    bench = Bench(policy=ToolPolicy(fallback="nobody"))
    bench.service.behaviour = fail
    assert "look failed" in text_of(await bench.call())
    assert "nobody" not in bench.orch.registry


async def test_a_tool_that_is_out_of_service_has_a_note_where_that_is_wanted() -> None:
    for wanted in (True, False):
        bench = Bench(note_open=wanted)

        @bench.server.tool
        async def described() -> str:
            """Describe."""
            return "fine"

        await bench.call("described")
        await bench.trip()
        bench.orch.circuit("described").trip()
        async with bench.client() as client:
            listed = (await client.list_tools()).tools
        told = {tool.name: tool.description or "" for tool in listed}
        assert ("Out of service" in told["look"]) is wanted
        assert told["described"].startswith("Describe.")
        assert ("Out of service" in told["described"]) is wanted
        assert told["add"] == ""
        bench.orch.circuit("look").reset()
        bench.orch.circuit("described").reset()
        async with bench.client() as client:
            listed = (await client.list_tools()).tools
        assert "Out of service" not in str(listed)


async def test_a_name_of_the_orchestrators_own_tools_is_told_of() -> None:
    bench = Bench()

    @bench.orch.registry.tool
    async def look() -> str:
        return "ours"

    with pytest.raises(ValueError, match="'look', which is not that of fastmcp"):
        await bench.server.call_tool("look")


@pytest.mark.parametrize("policy", [{"timeout": 1}, 3])
def test_what_is_no_policy_is_told_of(policy: Any) -> None:
    with pytest.raises(TypeError, match="policy must be a ToolPolicy"):
        CircuitMiddleware(ToolOrchestrator(Registry()), policy=policy)


# --- imports ------------------------------------------------------------------------------


def said_by(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("option", ["note_open", "trust_annotations"])
def test_an_option_that_is_no_bool_is_told_of(option: str) -> None:
    given: Any = {option: "no"}
    with pytest.raises(TypeError, match=f"{option} must be True or False, not 'no'"):
        CircuitMiddleware(ToolOrchestrator(Registry()), **given)


def test_nothing_else_imports_the_framework() -> None:
    code = (
        "import sys, orchestrator_async, orchestrator_async.adapters\n"
        "print('fastmcp' in sys.modules, 'mcp' in sys.modules)"
    )
    assert said_by(code) == "False False\n"


def test_without_the_framework_the_extra_is_named() -> None:
    code = """
import sys

class Missing:
    def find_spec(self, name, *args):
        if name.partition(".")[0] == "fastmcp":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
try:
    import orchestrator_async.adapters.fastmcp
except ImportError as error:
    print(error)
"""
    assert 'pip install "orchestrator-async[fastmcp]"' in said_by(code)


async def test_two_middlewares_with_different_policies_for_one_tool_are_refused() -> None:
    orch = ToolOrchestrator(Registry())
    servers = []
    for policy in (None, ToolPolicy(timeout=5), ToolPolicy(timeout=6)):
        server = FastMCP("one", middleware=[CircuitMiddleware(orch, policy=policy)])

        @server.tool
        async def look() -> str:
            return "sun"

        servers.append(server)
    for server in servers[:2]:
        told = await server.call_tool("look", {})
        assert told.structured_content == {"result": "sun"}
    with pytest.raises(ValueError, match=r"look has another policy already.* timeout"):
        await servers[2].call_tool("look", {})
