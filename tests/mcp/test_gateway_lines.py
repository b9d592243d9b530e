"""
The lines between a gateway and one host: what is answered, and what is done at the end.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from orchestrator_async import Registry, ToolOrchestrator
from orchestrator_async.gateway import Gateway
from orchestrator_async.gateway._messages import Fault, parts_of
from orchestrator_async.gateway._open import Open
from orchestrator_async.gateway._wire import Wire
from tests.clock import real_time

from .helping import DEADLINE, leaves_generators

pytestmark = [leaves_generators, real_time]

PARSE, REQUEST = -32700, -32600
CLOSED = -32000


class Host:
    """
    Somebody who can send any line.
    """

    def __init__(self) -> None:
        self._send, self.to_gateway = anyio.create_memory_object_stream[bytes](100)
        self.from_gateway, self._receive = anyio.create_memory_object_stream[bytes](100)

    def raw(self, data: bytes) -> None:
        self._send.send_nowait(data)

    def send(self, message: Any) -> None:
        self.raw(json.dumps(message).encode() + b"\n")

    def ask(self, method: str, *, id: Any = 1, **params: Any) -> None:
        self.send(request(method, id=id, **params))

    def close(self) -> None:
        self._send.close()

    async def receive(self) -> bytes:
        try:
            return await self.to_gateway.receive()
        except anyio.EndOfStream:
            return b""

    async def message(self) -> Any:
        return json.loads(await self._receive.receive())

    async def quiet(self) -> bool:
        self.ask("ping", id="quiet")
        return (await self.message()).get("id") == "quiet"

    async def begin(self, version: str) -> None:
        info = {"name": "raw", "version": "1"}
        options = {"protocolVersion": version, "capabilities": {}, "clientInfo": info}
        self.ask("initialize", id="begin", **options)
        assert (await self.message())["result"]["protocolVersion"] == version
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})


def request(method: str, *, id: Any = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def call(name: str, id: Any = 1, **arguments: Any) -> dict[str, Any]:
    return request("tools/call", id=id, name=name, arguments=arguments)


@asynccontextmanager
async def host(
    *fns: Callable[..., Any], version: str = "2025-06-18"
) -> AsyncIterator[Host]:
    registry = Registry()
    for fn in fns:
        registry.tool(fn)
    server = Gateway(ToolOrchestrator(registry)).server()
    made = Host()
    wire = Wire(made.receive, made.from_gateway.send)
    incoming, read_stream = anyio.create_memory_object_stream[Any](0)
    write_stream, outgoing = anyio.create_memory_object_stream[Any](0)

    async def serve() -> None:
        await server.run(read_stream, write_stream, server.create_initialization_options())
        await wire.written.wait()
        made.from_gateway.close()

    streams = (made.to_gateway, made._receive, made._send)
    with anyio.fail_after(DEADLINE), incoming, read_stream, write_stream, outgoing:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.read, incoming)
            tasks.start_soon(wire.write, outgoing)
            tasks.start_soon(serve)
            await made.begin(version)
            yield made
            made.close()
        for stream in streams:
            stream.close()


async def echo(text: str) -> str:
    return text


# What is no message


@pytest.mark.parametrize(
    ("line", "id", "code"),
    [
        (b"no json", None, PARSE),
        (b"\xff\xfe", None, PARSE),
        (b'{"jsonrpc":"2.0","id":5,"method":"ping","params":{"a":"\xff"}}', 5, PARSE),
        (b'{"jsonrpc":"2.0","id":6,"method":"ping"', 6, PARSE),
        (b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}', None, PARSE),
        (b'{"jsonrpc":"2.0","id":1e999,"method":"ping"}', None, REQUEST),
        (b"[]", None, REQUEST),
        (b'[{"jsonrpc":"2.0","id":6,"method":"ping"}]', None, REQUEST),
        (b"{}", None, REQUEST),
        (b"1", None, REQUEST),
        (b'{"jsonrpc":"2.0","id":7,"method":5}', 7, REQUEST),
        (b'{"jsonrpc":"1.0","id":8,"method":"ping"}', 8, REQUEST),
        (b'{"id":"9","method":"ping"}', "9", REQUEST),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', None, REQUEST),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', None, REQUEST),
        (b'{"jsonrpc":"2.0","id":[1],"method":"ping"}', None, REQUEST),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', 1.5, REQUEST),
        (b'{"jsonrpc":"2.0","id":2.0,"method":"ping"}', 2.0, REQUEST),
        (b'{"jsonrpc":"2.0","method":"ping","params":"x"}', None, REQUEST),
    ],
)
async def test_what_is_no_message_is_answered_with_an_error(
    line: bytes, id: Any, code: int
) -> None:
    (fault,), is_batch = parts_of(line, batches=False)
    assert isinstance(fault, Fault)
    assert not is_batch
    answer = json.loads(str(fault))
    assert (answer["id"], answer["error"]["code"]) == (id, code)
    assert type(answer["id"]) is type(id)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" \r",
        b"\xef\xbb\xbf",
        b'{"jsonrpc":"2.0","id":5,"result":"of no request, and no object"}',
        b'{"jsonrpc":"2.0","id":5,"error":"of no request, and no object"}',
    ],
)
async def test_to_what_asks_for_nothing_nothing_is_said(line: bytes) -> None:
    assert parts_of(line, batches=True) == ([], False)


async def test_a_mark_of_the_order_of_bytes_is_passed_over() -> None:
    async with host() as client:
        client.raw(b"\xef\xbb\xbf" + json.dumps(request("ping")).encode() + b"\r\n")
        assert (await client.message())["result"] == {}
        client.raw(b"rubbish\n")
        assert (await client.message())["error"]["code"] == PARSE
        assert await client.quiet()


# Batches


async def test_a_batch_is_answered_together_where_the_protocol_has_batches() -> None:
    release = anyio.Event()

    async def waits() -> str:
        await release.wait()
        return "waited"

    async with host(echo, waits, version="2025-03-26") as client:
        note = {"jsonrpc": "2.0", "method": "notifications/other"}
        first = call("echo", 1, text="x")
        client.send([first, note, call("waits", 2), {"id": 3}, 4, call("waits", 2)])
        assert await client.quiet()
        release.set()
        answers = {each["id"]: each for each in await client.message() if each["id"] != 2}
        assert answers.keys() == {1, 3, None}
        assert answers[1]["result"]["content"][0]["text"] == "x"
        assert answers[3]["error"]["code"] == answers[None]["error"]["code"] == REQUEST
        client.send([note, note])
        assert await client.quiet()
        client.send([])
        assert (await client.message())["error"]["code"] == REQUEST
        client.send([7])
        (answer,) = await client.message()
        assert answer["id"] is None


async def test_what_is_cancelled_of_a_batch_is_not_waited_for() -> None:
    async def never() -> None:
        await anyio.sleep_forever()

    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
    async with host(echo, never, version="2025-03-26") as client:
        client.send([call("echo", 1, text="x"), call("never", 2)])
        client.send({**cancelled, "params": {"requestId": 2}})
        (answer,) = await client.message()
        assert answer["id"] == 1
        client.send([call("never", 3)])
        client.send({**cancelled, "params": {"requestId": 3}})
        assert await client.quiet()


async def test_no_batch_is_taken_where_the_protocol_has_none() -> None:
    async with host(echo) as client:
        client.send([call("echo", 1, text="x")])
        answer = await client.message()
        assert (answer["id"], answer["error"]["code"]) == (None, REQUEST)
        assert "by itself" in answer["error"]["message"]


# The end


async def test_what_was_asked_before_the_end_is_answered() -> None:
    begun, closed = anyio.Event(), anyio.Event()

    async def waits() -> str:
        begun.set()
        await closed.wait()
        return "waited"

    async with host(waits) as client:
        client.raw(json.dumps(call("waits")).encode())  # and no end of the line
        client.close()
        await begun.wait()
        closed.set()
        answer = await client.message()
        assert answer["result"]["content"][0]["text"] == "waited"


async def test_what_lasts_is_cancelled_at_the_end_and_its_host_is_told() -> None:
    ended = anyio.Event()

    async def never() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with host(never) as client:
        client.send(call("never", 5))
        client.close()
        answer = await client.message()
        assert (answer["id"], answer["error"]["code"]) == (5, CLOSED)
        assert ended.is_set()


async def test_nobody_waits_for_what_is_answered_at_the_end_alone() -> None:
    waiting = Open()
    waiting.begin("news", 1, stays=True)
    await waiting.idle()
    waiting.begin(1, 1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting.idle)
        waiting.answered(1)
    waiting.answered("news")
    await waiting.idle()
