"""
The pieces that the servers' tools are made of, each by itself.
"""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace
from typing import Any

import anyio
import mcp_types as types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.message import SessionMessage

from orchestrator_async import ToolContext
from orchestrator_async.adapters.mcp import (
    McpResult,
    ServerConnected,
    ServerLost,
    ServerStatusError,
    ServerTimeoutError,
    ServerUnavailableError,
    ToolLeftOut,
    ToolsChanged,
)
from orchestrator_async.adapters.mcp._call import Call
from orchestrator_async.adapters.mcp._connection import Connection, _why
from orchestrator_async.adapters.mcp._events import Listeners
from orchestrator_async.adapters.mcp._lines import KEPT, Lines, TooLong
from orchestrator_async.adapters.mcp._names import (
    LONGEST,
    server_of,
    server_part,
    tool_name,
)
from orchestrator_async.adapters.mcp._pace import AnsweringStream, PacedStream
from orchestrator_async.adapters.mcp._process import (
    _ends,
    _is_stopped,
    end,
    exited,
    how_it_ended,
)
from orchestrator_async.adapters.mcp._sieve import sift
from orchestrator_async.adapters.mcp._tools import Listed, listed
from orchestrator_async.config import ServerConfig
from tests.clock import real_time, virtual_time

from .running import stop

# Names


@given(st.text(), st.text())
def test_any_name_is_mapped_to_what_a_models_api_takes(server: str, tool: str) -> None:
    name = tool_name(server, tool)
    assert 1 <= len(name) <= LONGEST
    assert name.isascii()
    assert all(char.isalnum() or char in "_-" for char in name)
    assert server_of(name) == server_part(server)


@given(st.text(), st.text(), st.text(), st.text())
def test_two_tools_never_have_one_name(a: str, b: str, c: str, d: str) -> None:
    if server_part(a) != server_part(c) or b != d:
        assert tool_name(a, b) != tool_name(c, d)


@pytest.mark.parametrize(
    ("server", "tool", "name"),
    [
        ("git", "git_log", "git__git_log"),
        ("a__b", "c", "a_b__c"),
        ("a_", "b", "a__b"),
        ("", "b", "server_e3b0c442__b"),
        ("x" * 40, "b", f"{'x' * 23}_bd913ff6__b"),
        ("a", "b__c", "a__b__c"),
    ],
)
def test_plain_names_stay_what_they_are(server: str, tool: str, name: str) -> None:
    assert tool_name(server, tool) == name


def test_a_name_without_a_server_has_none() -> None:
    assert server_of("echo") is None


# Lines


@given(st.lists(st.binary(max_size=30)), st.integers(1, 100))
def test_lines_are_those_that_were_sent(chunks: list[bytes], limit: int) -> None:
    lines = Lines(limit)
    found = [line for chunk in chunks for line in lines.feed(chunk)]
    sent = b"".join(chunks).split(b"\n")[:-1]
    assert len(found) == len(sent)
    for got, line in zip(found, sent, strict=True):
        if len(line) <= limit:
            assert got == line
        else:
            assert isinstance(got, TooLong)
            assert line.startswith(got.begin)
            assert line.endswith(got.end)


def test_a_line_without_an_end_is_counted_and_not_kept() -> None:
    lines = Lines(10)
    for _ in range(1000):
        assert list(lines.feed(b"x" * 1000)) == []
    assert lines.endless == 1_000_000
    [line] = lines.feed(b"\n")
    assert isinstance(line, TooLong)
    assert len(line.begin) + len(line.end) <= 2 * KEPT
    assert lines.endless == 0


@pytest.mark.parametrize(
    ("begin", "end", "request_id"),
    [
        (b'{"jsonrpc":"2.0","id":5,"result":{"a', b"}}", 5),
        (b'{ "id" : "a-1" , "result":', b"}", "a-1"),
        (b'{"result":{"id":5,', b',"jsonrpc":"2.0","id":7}', 7),
        (b'{"result":{', b'},"id":7,"jsonrpc":"2.0"}', 7),
        (b'{"result":{"id":5,', b'"id":5}}', None),
        (b"xxx", b"yyy", None),
    ],
)
def test_whose_answer_a_long_line_is(
    begin: bytes, end: bytes, request_id: int | str | None
) -> None:
    assert TooLong(begin, end).request_id() == request_id


# Tools


def tool(name: str = "one", **fields: Any) -> types.Tool:
    return types.Tool(**{"name": name, "input_schema": {"type": "object"}, **fields})


def look(*tools: types.Tool, **options: Any) -> tuple[dict[str, Listed], list[str]]:
    left_out: list[str] = []
    settings: dict[str, Any] = {
        "take": ("*",),
        "leave": (),
        "trust": False,
        "most": 10,
        "left_out": lambda name, reason: left_out.append(reason),
    }
    return listed("s", tools, **{**settings, **options}), left_out


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "string"}, "is not that of an object"),
        (deep(30), "nested more than 50 deep"),
        ({"type": "object", "description": "x" * 100_000}, "more than 100,000 characters"),
        ({"type": "object", "$ref": "http://127.0.0.1/s"}, "another document"),
        ({"type": "object", "$ref": 17}, "another document"),
        ({"type": "object", "$ref": "#/$defs/no"}, "leads nowhere"),
        ({"type": "object", "$ref": "#anchor"}, "leads nowhere"),
        ({"type": "object", "allOf": [{"$ref": "#/allOf/7"}]}, "leads nowhere"),
        ({"type": "object", "required": "a"}, "is no JSON schema (required: 'a' is not"),
        ({"type": "object", "properties": {"a": {"type": "x" * 200}}}, "…)"),
        ({"type": "object", "$schema": 17}, "cannot be read"),
    ],
)
def test_a_schema_that_an_api_would_not_take_is_left_out(
    schema: dict[str, Any], problem: str
) -> None:
    offered, left_out = look(tool(input_schema=schema))
    assert offered == {}
    assert problem in left_out[0]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"$ref": {"type": "string"}}},
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {"type": "object", "allOf": [{"type": "object"}, {"$ref": "#/allOf/0"}]},
        {
            "type": "object",
            "$defs": {"a/b": {"type": "string"}},
            "properties": {"x": {"$ref": "#/$defs/a~1b"}},
        },
        deep(20),
    ],
)
def test_a_schema_that_refers_to_itself_rightly_is_taken(schema: dict[str, Any]) -> None:
    offered, left_out = look(tool(input_schema=schema))
    assert list(offered) == ["s__one"]
    assert left_out == []


def test_only_those_are_taken_that_the_settings_name() -> None:
    tools = [tool("read_file"), tool("read_all"), tool("write_file")]
    offered, _ = look(*tools, take=("read_*",), leave=("*_all",))
    assert list(offered) == ["s__read_file"]


def test_there_are_so_many_and_no_more() -> None:
    offered, left_out = look(*(tool(f"t{number}") for number in range(20)))
    assert len(offered) == 10
    assert left_out == ["it lists more than 10 tools"]


@pytest.mark.parametrize(
    ("hints", "trust", "fields"),
    [
        ({"read_only_hint": True, "idempotent_hint": True}, False, {}),
        ({"read_only_hint": True}, True, {"read_only": True, "idempotent": True}),
        ({"idempotent_hint": True}, True, {"idempotent": True}),
        ({"read_only_hint": False}, False, {"read_only": False}),
        ({"destructive_hint": True}, False, {"read_only": False}),
        ({"destructive_hint": True, "read_only_hint": True}, False, {}),
        ({}, True, {}),
    ],
)
def test_what_annotations_make_of_a_tool(
    hints: dict[str, Any], trust: bool, fields: dict[str, Any]
) -> None:
    annotated = tool(annotations=types.ToolAnnotations(**hints))
    offered, _ = look(annotated, trust=trust)
    assert offered["s__one"].fields == fields


def test_a_description_is_cut_and_freed_of_what_terminals_obey() -> None:
    offered, left_out = look(tool(description="\x1b[31mred\x07\u202e" + "x" * 20_000))
    description = offered["s__one"].description or ""
    assert description.startswith("redxxx")
    assert len(description) == 10_000
    assert "cut" in left_out[0]


def test_what_is_no_answer_with_tools_is_let_be() -> None:
    for message in (None, types.JSONRPCResponse(jsonrpc="2.0", id=1, result={"tools": 17})):
        sift(message, lambda name, reason: pytest.fail("nothing was left out"))


def test_more_tools_than_can_be_looked_at_are_left_out() -> None:
    tools = [
        {"name": str(number), "inputSchema": {"type": "object"}} for number in range(3000)
    ]
    answer = types.JSONRPCResponse(jsonrpc="2.0", id=1, result={"tools": tools})
    told: list[str] = []
    sift(answer, lambda name, reason: told.append(reason))
    assert len(answer.result["tools"]) == 2000
    assert told == ["it lists more than 2,000 tools at once"]


# Results


def test_blocks_are_text_for_a_model() -> None:
    blob = types.BlobResourceContents(uri="a://b", blob="QUJD" * 10)
    untold = types.BlobResourceContents(uri="a://c", blob="QUJD" * 10_000, mime_type="x/y")
    content: list[types.ContentBlock] = [
        types.TextContent(text="sun"),
        types.ImageContent(data="QUJD", mime_type="image/png"),
        types.AudioContent(data="QUJD" * 10_000, mime_type="audio/wav"),
        types.ResourceLink(name="file", uri="a://f", description="notes"),
        types.ResourceLink(name="file", uri="a://g"),
        types.EmbeddedResource(resource=types.TextResourceContents(uri="a://t", text="in")),
        types.EmbeddedResource(resource=blob),
        types.EmbeddedResource(resource=untold),
    ]
    assert str(McpResult.of(types.CallToolResult(content=content))).split("\n") == [
        "sun",
        "[image: image/png, 3 bytes]",
        "[audio: audio/wav, 30 kB]",
        "[resource a://f, file: notes]",
        "[resource a://g, file]",
        "[resource a://t]",
        "in",
        "[resource a://b: data, 30 bytes]",
        "[resource a://c: x/y, 30 kB]",
    ]


def test_a_result_without_blocks_is_its_data() -> None:
    data = types.CallToolResult(content=[], structured_content={"ä": 1})
    assert str(McpResult.of(data)) == '{"ä": 1}'
    assert str(McpResult.of(types.CallToolResult(content=[]))) == ""


def test_an_error_without_words_has_some() -> None:
    result = McpResult.of(types.CallToolResult(content=[], is_error=True))
    assert str(result) == result.error == "The tool reported an error and said no more."


# Streams


class Given:
    """
    A stream of what was given.
    """

    def __init__(self, *messages: Any) -> None:
        self._messages = list(messages)
        self.closed = False

    async def receive(self) -> Any:
        if not self._messages:
            raise anyio.EndOfStream
        return self._messages.pop(0)

    async def send(self, item: Any) -> None:
        self._messages.append(item)

    async def aclose(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True


def notification(number: int) -> SessionMessage:
    method = "notifications/progress"
    return SessionMessage(
        types.JSONRPCNotification(jsonrpc="2.0", method=method, params={"n": number})
    )


def request(number: int) -> SessionMessage:
    return SessionMessage(types.JSONRPCRequest(jsonrpc="2.0", id=number, method="ping"))


def answer(number: int) -> SessionMessage:
    return SessionMessage(types.JSONRPCResponse(jsonrpc="2.0", id=number, result={}))


def paced(*messages: Any) -> PacedStream:
    return PacedStream(Given(*messages), lambda method: None, lambda name, reason: None)


@virtual_time
async def test_answers_pass_at_any_speed() -> None:
    began = anyio.current_time()
    stream = paced(*map(answer, range(10_000)))
    assert len([each async for each in stream]) == 10_000
    assert anyio.current_time() == began


@virtual_time
async def test_what_wants_no_answer_is_thrown_away_beyond_a_pace() -> None:
    began = anyio.current_time()
    stream = paced(*map(notification, range(20_000)))
    passed = [each async for each in stream]
    took = anyio.current_time() - began
    assert 500 <= len(passed) <= 500 * (took + 1) + 1
    assert 2 < took < 5


@virtual_time
async def test_what_wants_an_answer_waits() -> None:
    began = anyio.current_time()
    heard: list[str] = []
    stream = PacedStream(
        Given(*map(request, range(1_000))), heard.append, lambda name, reason: None
    )
    asked = []
    async for each in stream:
        asked.append(each)
        stream.answered()
    assert len(asked) == len(heard) == 1_000
    assert 0.9 < anyio.current_time() - began < 1.1


@virtual_time
async def test_a_server_that_is_owed_many_answers_is_read_no_further_for_a_while() -> None:
    stream = paced(*map(request, range(101)))
    for _ in range(100):
        await stream.receive()
    began = anyio.current_time()
    await stream.receive()
    assert anyio.current_time() - began == pytest.approx(5)


@virtual_time
async def test_a_server_that_is_owed_many_answers_is_read_on_when_they_are_sent() -> None:
    stream = paced(*map(request, range(101)))
    out = AnsweringStream(Given(), stream.answered)
    for _ in range(100):
        await stream.receive()
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.receive)
        await anyio.sleep(1)
        await out.send(request(1))  # is none
        await out.send(answer(1))
    assert anyio.current_time() - began == pytest.approx(1)


async def test_streams_are_closed_through_those_around_them() -> None:
    inner = Given()
    async with PacedStream(inner, lambda method: None, lambda name, reason: None):
        pass
    assert inner.closed
    inner = Given()
    async with AnsweringStream(inner, lambda: None):
        pass
    assert inner.closed
    inner = Given()
    PacedStream(inner, lambda method: None, lambda name, reason: None).close()
    assert inner.closed


# What is told


def test_an_observer_that_raises_is_logged_once_and_the_others_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Any] = []

    def bad(event: Any) -> None:
        raise RuntimeError("no")

    listeners = Listeners((bad, told.append))
    events = (
        ServerConnected(server="s", tools=2),
        ServerLost(server="s", reason="gone", retry_in=0.5),
        ToolLeftOut(server="s", tool="t", reason="odd"),
        ToolsChanged(server="s", added=("a", "b"), changed=("c",)),
    )
    with caplog.at_level(logging.INFO, "orchestrator_async.mcp"):
        for event in events:
            listeners.tell(event)
    assert told == list(events)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "s is connected, with 2 tools",
        "an observer of MCP servers raised",
        "s is not connected: gone; tried again in 0.5 s",
        "s: tool 't': odd",
        "s has changed its tools: added a, b; changed c",
    ]


def test_why_a_connection_is_over_is_the_first_of_its_reasons() -> None:
    group = ExceptionGroup("all", [ExceptionGroup("inner", [OSError("no\nmore")])])
    assert _why(group) == "OSError: no"
    assert _why(ValueError()) == "ValueError"


# Processes


@real_time
async def test_a_process_that_has_ended_already_is_not_waited_for() -> None:
    process = await anyio.open_process([sys.executable, "-c", ""], start_new_session=True)
    await process.wait()
    with anyio.fail_after(10):
        await exited(process)
        await end(process)


@real_time
async def test_a_process_that_is_stopped_is_given_no_time_to_end_by_itself() -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(3600)"]
    process = await anyio.open_process(sleeper, start_new_session=True)
    stop(process.pid)
    with anyio.fail_after(30):
        assert not await _ends(process, 3600)
        await end(process)
    assert process.returncode == -9


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (None, "has closed what it writes to"),
        (3, "has ended with code 3"),
        (-9, "was ended by SIGKILL"),
        (-99, "was ended by signal 99"),
    ],
)
def test_how_a_process_ended_is_said(code: int | None, said: str) -> None:
    process: Any = SimpleNamespace(returncode=code)
    assert how_it_ended(process) == f"its process {said}"


def test_what_is_no_process_is_not_stopped() -> None:
    assert not _is_stopped(2**22 + 1)


# Connections that end in between


def connection() -> Connection:
    options = ServerConfig(url="http://127.0.0.1:9/mcp")

    async def ignore(*args: Any) -> None: ...

    return Connection("s", options, {}, {}, ignore, lambda name, reason: None)


async def test_a_call_to_a_connection_that_is_just_ending_is_refused() -> None:
    ending: Any = connection()
    async with anyio.create_task_group() as tasks:
        ending._tasks = tasks
    ending._client = object()
    assert ending.is_open
    with pytest.raises(ServerUnavailableError):
        await ending.call("tool", {}, ToolContext(tool_name="s__tool"))


async def test_what_the_server_has_said_is_told_of_an_answer_that_never_came_whole() -> (
    None
):
    call = Call(connection(), "tool", {}, ToolContext(tool_name="tool"), 5)
    call._is_late = True
    assert type(call._translated(None)) is ServerTimeoutError
    call._exchange.status = 500
    assert type(call._translated(None)) is ServerStatusError


async def test_trouble_before_it_is_connected_is_remembered_as_the_reason() -> None:
    failing = connection()
    failing._trouble("nobody there")
    assert not failing.over.is_set()
    failing._is_over("something else")
    assert failing.reason == "nobody there"


def test_what_is_no_tool_at_all_is_left_out() -> None:
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(100_000):
        deep = {"type": "object", "a": deep}
    tools = [17, {"name": "deep", "inputSchema": deep}]
    answer = types.JSONRPCResponse(jsonrpc="2.0", id=1, result={})
    answer.result["tools"] = tools
    told: list[str] = []
    sift(answer, lambda name, reason: told.append(name))
    assert told[0] == "(without a name)"


@pytest.mark.parametrize(
    "said",
    [
        "Illegal header value b'Bearer TOKENTOKEN '",
        "TOKENTOKEN was refused",
        "GET http://127.0.0.1/mcp?key=KEYKEY of USERUSER:PASSPASS",
    ],
)
def test_why_a_connection_is_over_names_no_secret(said: str) -> None:
    options = ServerConfig(
        url="http://USERUSER:PASSPASS@127.0.0.1:9/mcp?key=KEYKEY",
        headers={"Authorization": "Bearer TOKENTOKEN "},
    )

    async def ignore(*args: Any) -> None: ...

    failing = Connection("s", options, {}, {}, ignore, lambda name, reason: None)
    failing._trouble(said)
    assert "***" in failing.reason
    for secret in ("TOKEN", "USERUSER", "PASSPASS", "KEYKEY"):
        assert secret not in failing.reason


def test_variables_of_a_process_are_not_told() -> None:
    options = ServerConfig(command="x", env={"KEY": "KEYKEY", "LEVEL": "1"})

    async def ignore(*args: Any) -> None: ...

    failing = Connection("s", options, {}, {}, ignore, lambda name, reason: None)
    failing._is_over("its process has ended with code 1: bad key KEYKEY")
    assert failing.reason == "its process has ended with code 1: bad key ***"
