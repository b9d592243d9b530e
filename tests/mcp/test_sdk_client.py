"""
What the SDK's own client makes of these servers, on every loop.

It shows that the servers made with the SDK do as they say, and pins down what the client does
with those that misbehave: what is built on it is built for this.
"""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CreateMessageResult, ElicitResult, TextContent

from tests.clock import real_time

from .running import DEADLINE, HttpPeer, Peers, child_pids, free_port, is_stopped, until

DEBUG = False

CLOSED, BROKEN, INVALID, UNPARSED = -32000, -32603, -32600, -32700
MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

pytestmark = [
    real_time,
    # The SDK leaves streams of events before their end, and trio warns of each generator.
    pytest.mark.filterwarnings("ignore:Async generator 'http(x|core)2:ResourceWarning"),
]


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """
    What is left to the garbage collector warns here, and not in somebody else's test.
    """
    yield
    gc.collect()


@asynccontextmanager
async def connected(server: Any, **options: Any) -> AsyncIterator[Client]:
    """
    A client of that server, a command or a URL, that has a deadline for all of it.
    """
    with anyio.fail_after(DEADLINE):
        if isinstance(server, HttpPeer):
            async with httpx2.AsyncClient(timeout=DEADLINE) as http:
                transport = streamable_http_client(server.url, http_client=http)
                async with Client(transport, **options) as client:
                    yield client
        else:
            async with Client(server, **options) as client:
                yield client


def text(result: Any) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


async def refused(client: Client, tool: str) -> MCPError:
    """
    The error that a call of this tool ends with.
    """
    with pytest.raises(MCPError) as caught:
        await client.call_tool(tool)
    return caught.value


# The plain server


async def use(client: Client) -> None:
    """
    Call every tool of the plain server that needs nothing of the client.
    """
    assert text(await client.call_tool("echo", {"text": "hello"})) == "hello"
    assert (await client.call_tool("add", {"a": 1, "b": 2})).structured_content == {
        "sum": 3
    }
    assert text(await client.call_tool("sleep", {"seconds": 0})) == "awake"
    failed = await client.call_tool("fail", {"text": "so"})
    assert (failed.is_error, text(failed)) == (True, "so")
    (image,) = (await client.call_tool("image")).content
    assert (image.type, getattr(image, "mime_type", None)) == ("image", "image/png")
    (resource,) = (await client.call_tool("resource")).content
    assert resource.type == "resource"
    meta: Any = {"traceparent": TRACE}
    context = await client.call_tool("context", meta=meta)
    assert context.structured_content is not None
    assert context.structured_content["meta"]["traceparent"] == TRACE


async def report(client: Client) -> None:
    """
    See the progress of a tool.
    """
    reports, all_there = [], anyio.Event()

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        reports.append((progress, total, message))
        if len(reports) == 3:
            all_there.set()

    result = await client.call_tool("progress", {"steps": 3}, progress_callback=progressed)
    assert text(result) == "done"
    await all_there.wait()
    assert sorted(reports) == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]


@MODES
async def test_the_plain_server_does_on_http_what_its_tools_say(
    mode: str, plain_http: HttpPeer
):
    async with connected(plain_http, mode=mode) as client:
        await use(client)
        await report(client)
        assert int(text(await client.call_tool("pid"))) == plain_http.pid


async def test_the_plain_server_does_on_stdio_what_its_tools_say(servers: Peers):
    async with connected(servers.stdio("plain")) as client:
        await use(client)
        await report(client)
        assert int(text(await client.call_tool("pid"))) in child_pids()


@MODES
async def test_the_plain_server_asks_the_person_and_the_model(
    mode: str, plain_http: HttpPeer
):
    async def asked(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"name": "Ada"})

    async def sampled(context: Any, params: Any) -> CreateMessageResult:
        said = TextContent(text="something")
        return CreateMessageResult(role="assistant", content=said, model="none")

    async with connected(
        plain_http, mode=mode, elicitation_callback=asked, sampling_callback=sampled
    ) as client:
        assert "Ada" in text(await client.call_tool("ask"))
        assert "something" in text(await client.call_tool("sample"))


async def test_the_plain_server_that_crashes_has_closed_the_connection(servers: Peers):
    async with connected(servers.stdio("plain")) as client:
        assert (await refused(client, "crash")).code == CLOSED
        assert (await refused(client, "pid")).code == CLOSED


async def test_a_child_that_holds_the_output_hides_that_its_server_has_died(servers: Peers):
    ended = anyio.Event()

    async with (
        connected(servers.stdio("plain")) as client,
        anyio.create_task_group() as tasks,
    ):

        async def crash() -> None:
            await refused(client, "crash")
            ended.set()

        await client.call_tool("grandchild")
        tasks.start_soon(crash)
        # In a thread, for the loop has to see the server die. Then there is but the child.
        await anyio.to_thread.run_sync(until, lambda: len(servers.alive()) == 1)
        with anyio.move_on_after(0.1):
            await ended.wait()
        assert not ended.is_set()
        tasks.cancel_scope.cancel()
    servers.end()


# The server that changes


@MODES
@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_changing_server_has_the_tools_it_was_told_to(
    mode: str, transport: str, servers: Peers
):
    tool = {"name": "new", "description": "first", "inputSchema": {"type": "object"}}
    if transport == "stdio":
        await change(servers.stdio("changing"), mode, tool)
    else:
        with servers.http("changing") as peer:
            await change(peer, mode, tool)


async def change(server: Any, mode: str, tool: dict[str, Any]) -> None:
    told = anyio.Event()

    async def handler(message: Any) -> None:
        assert type(message).__name__ == "ToolListChangedNotification"
        told.set()

    async with connected(server, mode=mode, message_handler=handler) as client:
        assert await descriptions(client) == {"set_tools": "Change the tools."}
        async with listening_for_changes(client, told):
            await client.call_tool("set_tools", {"tools": json.dumps([tool])})
            await told.wait()
        assert (await descriptions(client))["new"] == "first"
        assert json.loads(text(await client.call_tool("new", {"a": 1}))) == {
            "tool": "new",
            "a": 1,
        }
        await client.call_tool("set_tools", {"tools": "[]", "tell": False})
        assert list(await descriptions(client)) == ["set_tools"]
        assert (await client.call_tool("new")).is_error


@asynccontextmanager
async def listening_for_changes(client: Client, told: anyio.Event) -> AsyncIterator[None]:
    """
    Listen as the newer era of the protocol does; in the older one news comes by itself.
    """
    if client.protocol_version < "2026":
        yield
        return

    async with client.listen(tools_list_changed=True):
        yield  # the handler of messages is told of it as well


async def descriptions(client: Client) -> dict[str, str | None]:
    listing = await client.list_tools(cache_mode="refresh")
    return {tool.name: tool.description for tool in listing.tools}


# Servers that misbehave, on stdio


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("exits_later", CLOSED),
        ("closes_stdout", CLOSED),
        ("false_close", CLOSED),
        ("long_error", BROKEN),
    ],
)
async def test_a_call_that_fails_has_an_error_of_the_protocol(
    behaviour: str, code: int, servers: Peers
):
    async with connected(servers.stdio("hostile", behaviour)) as client:
        assert (await refused(client, "echo")).code == code
        assert (await refused(client, "echo")).code == code


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        ("result_number", ValueError),  # pydantic's
        ("result_block", ValueError),
        (
            "schema_type",
            ValueError,
        ),  # the call was answered; the list that follows it is bad
        ("nameless", ValueError),
        ("output_missed", RuntimeError),
        ("output_remote", RuntimeError),
        ("output_loop", RecursionError),
    ],
)
async def test_what_the_client_cannot_take_is_an_exception_of_its_own(
    behaviour: str, error: type[Exception], servers: Peers
):
    async with connected(servers.stdio("hostile", behaviour)) as client:
        with pytest.raises(error):
            await client.call_tool("echo")


@pytest.mark.parametrize(
    "behaviour", ["silent", "result_text", "progress_flood", "log_flood", "endless_line"]
)
async def test_a_call_that_is_never_answered_ends_when_it_is_cancelled(
    behaviour: str, servers: Peers
):
    async with connected(servers.stdio("hostile", behaviour)) as client:
        with anyio.move_on_after(0.1) as scope:
            await client.call_tool("echo")
        assert scope.cancelled_caught


@pytest.mark.parametrize("behaviour", ["not_utf8", "garbage"])
async def test_what_is_no_text_is_replaced_if_the_client_is_told_to(
    behaviour: str, servers: Peers
):
    server = servers.stdio("hostile", behaviour)
    server.encoding_error_handler = "replace"
    async with connected(server) as client:
        assert text(await client.call_tool("echo", {"text": "fine"}))
        assert text(await client.call_tool("echo", {"text": "fine"}))


async def test_a_byte_that_is_no_text_leaves_every_call_unanswered(servers: Peers):
    with pytest.RaisesGroup(UnicodeDecodeError, flatten_subgroups=True):
        async with connected(servers.stdio("hostile", "not_utf8")) as client:
            with anyio.move_on_after(0.1) as scope:
                await client.call_tool("echo")
            assert scope.cancelled_caught


async def test_a_server_that_has_stopped_is_alive_until_it_is_killed(servers: Peers):
    async with connected(servers.stdio("hostile", "stops")) as client:
        with anyio.move_on_after(0.1) as scope:
            await client.call_tool("echo")
        assert scope.cancelled_caught
        (pid,) = servers.alive()
        until(lambda: is_stopped(pid))
        servers.end()
        assert (await refused(client, "echo")).code == CLOSED


@pytest.mark.parametrize("behaviour", ["exits", "refuses_initialize"])
async def test_a_server_that_does_not_begin_fails_the_connection(
    behaviour: str, servers: Peers
):
    with pytest.RaisesGroup(MCPError, flatten_subgroups=True):
        async with connected(servers.stdio("hostile", behaviour)):
            pass


# Servers that misbehave, on HTTP


async def test_a_refusal_by_status_loses_its_status_and_the_session_goes_on(
    http_faults: HttpPeer,
):
    async with connected(http_faults) as client:
        for tool in ("unavailable", "limited", "unauthorized", "forbidden", "broken"):
            error = await refused(client, tool)
            assert (error.code, error.message) == (
                BROKEN,
                "Server returned an error response",
            )
        assert (await refused(client, "not_found")).message == "Session terminated"
        assert (await refused(client, "broken_rpc")).message == "the database is down"
        assert text(await client.call_tool("ok")) == "fine"


async def test_an_answer_that_is_none_has_an_error_of_the_protocol(http_faults: HttpPeer):
    expected = {
        "accepted": INVALID,
        "redirect": INVALID,
        "page": INVALID,
        "garbage": UNPARSED,
        "empty": UNPARSED,
        "garbage_event": UNPARSED,
        "cut_events": CLOSED,
        "cut_resumable": CLOSED,
        "huge_event": CLOSED,
    }
    http_faults.control(size=2_000_000)
    async with connected(http_faults) as client:
        for tool, code in expected.items():
            assert (await refused(client, tool)).code == code, tool
        with pytest.raises(ValueError, match="CallToolResult"):
            await client.call_tool("wrong_result")
        assert len(text(await client.call_tool("huge"))) == 2_000_000


@pytest.mark.parametrize(
    "fault", ["reset", "closed", "cut", "cut_chunked", "endless_head", "dies"]
)
async def test_a_connection_that_breaks_cancels_who_uses_the_client(
    fault: str, http_faults: HttpPeer
):
    ended = []
    with pytest.RaisesGroup(httpx2.TransportError):
        async with connected(http_faults) as client:
            try:
                await client.call_tool(fault)
            except BaseException as error:
                ended.append(type(error))
                raise
    assert ended == [anyio.get_cancelled_exc_class()]


async def test_a_server_that_is_not_there_fails_the_connection():
    nobody = f"http://127.0.0.1:{free_port()}/mcp"
    with pytest.RaisesGroup(httpx2.ConnectError):
        async with connected(nobody):
            pass


@pytest.mark.parametrize(
    "fault",
    ["silent", "other_id", "no_answer", "trickle", "comments", "progress", "endless"],
)
async def test_a_request_that_is_never_answered_ends_when_it_is_cancelled(
    fault: str, http_faults: HttpPeer
):
    async with connected(http_faults) as client:
        with anyio.move_on_after(0.1) as scope:
            await client.call_tool(fault)
        assert scope.cancelled_caught
        assert text(await client.call_tool("ok")) == "fine"
