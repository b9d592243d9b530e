"""
Connections, where servers do what the real ones at hand do not.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from orchestrator_async.adapters.mcp import ServerLostError
from tests.clock import real_time

from .helping import bench, leaves_generators, until

pytestmark = [leaves_generators, real_time]

Answer = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    """
    Answers the handshake and the list, and leaves the rest to the test.
    """

    protocol_version = "HTTP/1.1"
    answer: Answer

    def do_POST(self) -> None:
        if self.path.startswith("/moved"):
            self.send_response(307)
            self.send_header("location", "/mcp")
            self.send_header("content-length", "0")
            self.end_headers()
            self.rfile.read(int(self.headers["content-length"]))
            return
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        match message.get("method"):
            case "initialize":
                self.say(
                    message,
                    {
                        "protocolVersion": "2025-11-25",
                        "capabilities": {"tools": {}},
                        "serverInfo": {"name": "own", "version": "1"},
                    },
                )
            case "tools/list":
                tool = {"name": "echo", "inputSchema": {"type": "object"}}
                self.say(message, {"tools": [tool]})
            case "tools/call" | "notifications/cancelled":
                type(self).answer(self, message)
            case _:
                self.status(202 if "id" not in message else 404)

    def do_GET(self) -> None:
        self.status(405)

    def status(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def say(self, message: dict[str, Any], result: Any, **headers: str) -> None:
        body = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        self.raw(json.dumps(body).encode(), **headers)

    def raw(self, body: bytes, **headers: str) -> None:
        self.send_response(200)
        for name, value in {"content_type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    handler = type("Own", (Handler,), {"answer": staticmethod(answer)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/mcp"
        finally:
            server.shutdown()
            thread.join()


FINE = {"content": [{"type": "text", "text": "fine"}]}


async def test_an_answer_that_is_packed_though_nobody_asked_for_that_is_refused() -> None:
    def answer(handler: Handler, message: dict[str, Any]) -> None:
        packed = gzip.compress(json.dumps({"jsonrpc": "2.0", "id": message["id"]}).encode())
        handler.raw(packed, content_encoding="gzip")

    with serving(answer) as url:
        async with bench({"own": {"url": url}}) as made:
            result = await made.orch.run("own__echo")
            assert isinstance(result.error, ServerLostError)
            assert "packed" in result.content


async def test_a_notification_that_hangs_holds_up_no_call() -> None:
    hanging = threading.Event()

    def answer(handler: Handler, message: dict[str, Any]) -> None:
        if message["method"] == "notifications/cancelled":
            hanging.set()
            handler.connection.recv(1)  # until it is given up
        elif message["params"].get("arguments"):
            hanging.wait(30)
        else:
            handler.say(message, FINE)

    with serving(answer) as url:
        async with bench({"own": {"url": url}}, timeout=0.2) as made:
            assert not (await made.orch.run("own__echo", {"wait": True})).ok
            await until(hanging.is_set)
            made.orch.reload(timeout=20)
            assert (await made.orch.run("own__echo")).ok


async def test_a_notification_that_is_reset_ends_nothing() -> None:
    cancelled = threading.Event()

    def answer(handler: Handler, message: dict[str, Any]) -> None:
        if message["method"] == "notifications/cancelled":
            linger = b"\x01\0\0\0\0\0\0\0"
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.connection.close()
            cancelled.set()
        elif message["params"].get("arguments"):
            cancelled.wait(30)
        else:
            handler.say(message, FINE)

    with serving(answer) as url:
        async with bench({"own": {"url": url}}, timeout=0.2) as made:
            assert not (await made.orch.run("own__echo", {"wait": True})).ok
            await until(cancelled.is_set)
            made.orch.reload(timeout=20)
            assert (await made.orch.run("own__echo")).ok


async def test_an_endpoint_that_is_redirected_within_its_origin_is_used() -> None:
    def answer(handler: Handler, message: dict[str, Any]) -> None:
        handler.say(message, FINE)

    with serving(answer) as url:
        async with bench({"own": {"url": url.replace("/mcp", "/moved")}}) as made:
            assert made.servers.status()["own"].connected
            assert (await made.orch.run("own__echo")).ok


async def test_callers_who_leave_hold_up_no_other_call() -> None:
    released = threading.Event()

    def answer(handler: Handler, message: dict[str, Any]) -> None:
        if message["method"] == "notifications/cancelled" or message["params"].get(
            "arguments"
        ):
            released.wait(60)
        else:
            handler.say(message, FINE)

    with serving(answer) as url:
        try:
            async with bench({"own": {"url": url}}, timeout=0.1) as made:
                for _ in range(40):
                    assert not (await made.orch.run("own__echo", {"wait": True})).ok
                    made.orch.circuit("own__echo").reset()
                made.orch.reload(timeout=4)
                assert (await made.orch.run("own__echo")).ok
        finally:
            released.set()


@pytest.mark.parametrize(
    ("code", "data"),
    [
        (-32042, {"elicitations": []}),
        (-32021, {"requiredCapabilities": {"roots": {}}}),
    ],
)
async def test_what_a_server_needs_of_us_is_asked_for_without_a_verdict(
    code: int, data: Any
) -> None:
    def answer(handler: Handler, message: dict[str, Any]) -> None:
        error = {"code": code, "message": "first do this", "data": data}
        body = {"jsonrpc": "2.0", "id": message["id"], "error": error}
        handler.raw(json.dumps(body).encode())

    with serving(answer) as url:
        async with bench({"own": {"url": url}}) as made:
            result = await made.orch.run("own__echo")
            assert result.verdict == "ignore"
            assert "nobody here gives it that" in result.content
