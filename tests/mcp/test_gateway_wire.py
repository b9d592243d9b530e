"""
The gateway's server of HTTP: connections that come, ask and go, one by one and in crowds.
"""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream

from orchestrator_async.gateway._asgi import KNOWN
from orchestrator_async.gateway._http_places import Places
from orchestrator_async.gateway._http_server import HttpServer, most_connections
from tests.clock import real_time, virtual_time

from .helping import DEADLINE, until
from .running import ROOT, open_fds
from .test_gateway_http import loop  # noqa: F401
from .test_gateway_stdio import command, written

App = Callable[[Any, Any, Any], Awaitable[None]]


class Served:
    """
    A server of an application, and clients that expect nothing of it.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.stop = anyio.Event()
        self.ended = anyio.Event()

    async def connect(self, data: bytes = b"") -> SocketStream:
        stream = await anyio.connect_tcp("127.0.0.1", self.port)
        await stream.send(data)
        return stream

    async def ask(self, data: bytes) -> bytes:
        """
        All that is answered until the server closes the connection.
        """
        async with await self.connect(data) as stream:
            return await rest(stream)


@asynccontextmanager
async def served(app: App, most: int = 100) -> AsyncIterator[Served]:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        made = Served(listener.extra(anyio.abc.SocketAttribute.local_port))

        async def run() -> None:
            await HttpServer(app, most).serve(listener.listeners, made.stop)
            made.ended.set()

        with anyio.fail_after(120):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                yield made
                made.stop.set()


async def rest(stream: SocketStream) -> bytes:
    data = b""
    try:
        while True:
            data += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return data


async def until_it_says(stream: SocketStream, text: bytes) -> bytes:
    data = b""
    while text not in data:
        data += await stream.receive()
    return data


def get(path: str = "/", *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def post(body: bytes, *headers: str) -> bytes:
    return get("/", f"Content-Length: {len(body)}", *headers, method="POST") + body


async def say(send: Any, status: int, body: bytes = b"", **more: Any) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    start = {"type": "http.response.start", "status": status, "headers": headers}
    await send({**start, **more})
    await send({"type": "http.response.body", "body": body})


CLOSE = "Connection: close"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """
    Answer with what was asked, and be known to whoever sends "known".
    """
    if b"known" in scope["query_string"]:
        scope["extensions"][KNOWN]()
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    asked = f"{scope['method']} {scope['path']} {scope['http_version']} ".encode()
    await say(send, 200, asked + body)


# What is asked and what is answered


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (get("/a%20b", CLOSE), b"GET /a b 1.1 "),
        (get("/a", version="1.0"), b"GET /a 1.0 "),
        (post(b"body", CLOSE), b"POST / 1.1 body"),
        (get() + get("/b") + post(b"c", CLOSE), b"POST / 1.1 c"),
        (get("/", "Upgrade: websocket", "Connection: Upgrade, close"), b"GET / 1.1 "),
    ],
)
@real_time
async def test_requests_are_answered_one_after_another(
    asked: bytes, answered: bytes
) -> None:
    async with served(echo) as made:
        said = await made.ask(asked)
    assert said.count(b"HTTP/1.1 200") == asked.count(b"Host:")
    assert said.endswith(answered)
    assert b"date: " in said


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"nothing\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00", b"400"),
        (get("/", "X: " + 100_000 * "x"), b"431"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
        (get("/", "Host: twice"), b"400"),
    ],
)
@real_time
async def test_what_is_no_request_is_refused(asked: bytes, status: bytes) -> None:
    async with served(echo) as made:
        said = await made.ask(asked)
    assert said.startswith(b"HTTP/1.1 " + status)
    assert b"connection: close" in said


@real_time
async def test_an_answer_without_a_body_has_none() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, int(scope["path"][1:]), b"body")

    async with served(app) as made:
        said = await made.ask(get("/200", method="HEAD") + get("/304", CLOSE))
    assert said.count(b"HTTP/1.1") == 2
    assert b"body" not in said


@real_time
async def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    async with served(echo) as made:
        head, body = post(b"body", "Expect: 100-continue", CLOSE).split(b"body")[0], b"body"
        async with await made.connect(head) as stream:
            await until_it_says(stream, b"HTTP/1.1 100")
            await stream.send(body)
            assert (await rest(stream)).endswith(b"POST / 1.1 body")


@real_time
async def test_an_event_stream_is_sent_piece_by_piece_by_two_at_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

        async def pieces(letter: bytes) -> None:
            for _ in range(100):
                body = {"type": "http.response.body", "body": 1_000 * letter}
                await send({**body, "more_body": True})

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pieces, b"a")
            tasks.start_soon(pieces, b"b")
        await send({"type": "http.response.body"})

    async with served(app) as made:
        said = await made.ask(get("/", CLOSE))
    assert (said.count(b"a" * 1_000), said.count(b"b" * 1_000)) == (100, 100)
    assert said.endswith(b"0\r\n\r\n")


@real_time
async def test_a_refusal_is_read_by_a_client_that_is_still_sending() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await say(send, 413, b"too much")

    async with served(app) as made:
        stream = await made.connect(get("/", "Content-Length: 2000000", method="POST"))
        async with stream, anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, b"x" * 2_000_000)
            said = await rest(stream)
    assert said.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in said
    assert said.endswith(b"too much")


@real_time
async def test_a_body_that_nobody_reads_is_passed_over() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, 200, scope["path"].encode())

    chunked = get("/chunks", "Transfer-Encoding: chunked", method="POST")
    async with served(app) as made:
        said = await made.ask(post(b"body") + get("/on", CLOSE))
        assert said.endswith(b"/on")
        said = await made.ask(chunked + b"nonsense\r\n\r\n" + get("/on"))
        assert said.endswith(b"/chunks")


@real_time
async def test_an_application_that_fails_is_an_error_of_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/late":
            start = {"type": "http.response.start", "status": 200, "headers": []}
            await send(start)
        if scope["path"] != "/silent":
            raise ValueError("it fails")

    async with served(app) as made:
        assert (await made.ask(get("/early"))).startswith(b"HTTP/1.1 500")
        assert not (await made.ask(get("/late"))).endswith(b"0\r\n\r\n")
        assert len(caplog.records) == 2
        assert (await made.ask(get("/silent"))).startswith(b"HTTP/1.1 500")


# Clients that go


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        get(),
        post(b"body")[:-1],
        get("/wait"),
        get("/stream"),
        get("/wait", CLOSE) + get(),
        get("/wait") + get("/wait"),
    ],
)
@real_time
async def test_a_client_that_goes_takes_its_connection_with_it(sent: bytes) -> None:
    begun, gone = anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/":
            await echo(scope, receive, send)
            return
        begun.set()
        await receive()
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        assert (await receive())["type"] == "http.disconnect"
        # Nobody hears that any more.
        if scope["path"] == "/stream":
            for _ in range(20):
                body = {"type": "http.response.body", "body": 100_000 * b"x"}
                await send({**body, "more_body": True})
        gone.set()

    async with served(app) as made:
        await made.ask(get("/", CLOSE))  # a loop may open some of its own
        before = len(open_fds())
        stream = await made.connect(sent)
        if b"/wait" in sent or b"/stream" in sent:
            await begun.wait()
            await stream.send(get())  # which will have no answer
        await stream.aclose()
        await until(lambda: len(open_fds()) == before)
        await until(lambda: gone.is_set() == begun.is_set())


@real_time
async def test_who_asks_for_too_much_at_once_is_not_waited_for() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        assert (await receive())["type"] == "http.disconnect"

    async with served(app) as made:
        said = await made.ask(get() + 10_000 * get())
    assert said.count(b"HTTP/1.1") <= 1


@virtual_time
@pytest.mark.parametrize(
    ("sent", "seconds"), [(b"", 10), (b"GET / HT", 10), (get("/?known"), 30)]
)
async def test_who_does_not_ask_is_not_waited_for_for_ever(
    sent: bytes, seconds: int
) -> None:
    async with served(echo) as made:
        begin = anyio.current_time()
        await made.ask(sent)
        assert seconds <= anyio.current_time() - begin < seconds + 1


# Crowds


@real_time
async def test_the_least_missed_goes_for_a_newcomer() -> None:
    release = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            scope["extensions"][KNOWN]()
            await release.wait()
        await echo(scope, receive, send)

    async with served(app, most=3) as made:
        asks = await made.connect(get("/wait"))
        rests = await made.connect(get("/?known"))
        await until_it_says(rests, b"GET /")
        # Strangers go first, the older one before the newer.
        silent = [await made.connect() for _ in range(20)]
        for stream in silent[:-1]:
            assert await rest(stream) == b""
        await rests.send(get("/?known"))
        await until_it_says(rests, b"GET /")
        await silent[-1].send(get("/wait"))
        await anyio.wait_all_tasks_blocked()
        # Then those that ask nothing at the moment, and nobody else.
        last = await made.connect(get("/wait"))
        assert await rest(rests) == b""
        assert await made.ask(get()) == b""
        release.set()
        for stream in (asks, silent[-1], last):
            await until_it_says(stream, b"GET /wait")
            await stream.aclose()
        for stream in (*silent, rests):
            await stream.aclose()


async def test_who_has_lost_its_place_does_not_get_it_back() -> None:
    places = Places(1)
    one, other = anyio.CancelScope(), anyio.CancelScope()
    assert places.take(one)
    places.know(one)
    assert places.rests(one)
    assert places.take(other)
    assert one.cancel_called
    assert not places.rests(one)
    places.know(other)
    assert not places.take(anyio.CancelScope())
    places.leave(other)
    assert places.take(anyio.CancelScope())


@virtual_time
async def test_at_the_end_who_waits_is_answered_and_who_does_not_answer_is_left() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"][KNOWN]()
        if scope["path"] == "/never":
            await anyio.sleep_forever()
        await made.stop.wait()
        await echo(scope, receive, send)

    async with served(app) as made:
        never, asks = await made.connect(get("/never")), await made.connect(get("/asks"))
        silent = await made.connect()
        await anyio.wait_all_tasks_blocked()
        made.stop.set()
        assert (await rest(asks)).endswith(b"GET /asks 1.1 ")
        assert await rest(silent) == b""
        assert await rest(never) == b""
        await made.ended.wait()
        for stream in (never, asks, silent):
            await stream.aclose()


HOLDER = get("/healthz", CLOSE)


@real_time
async def test_with_few_descriptors_all_are_answered_and_a_crowd_shuts_nobody_out(
    tmp_path: Path,
    loop: list[str],  # noqa: F811
) -> None:
    path = written(tmp_path, {})
    few = ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh"]
    with subprocess.Popen(  # noqa: ASYNC220
        [*few, *command(path, *loop, "--http", "0")],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        try:
            assert process.stderr is not None
            line = await anyio.to_thread.run_sync(process.stderr.readline)
            made = Served(int(line.split(b":")[-1].removesuffix(b"/mcp\n")))
            with anyio.fail_after(DEADLINE):
                for _ in range(300):  # each closes its connection by itself
                    async with await made.connect(get("/healthz")) as stream:
                        await until_it_says(stream, b"ok")
                silent = [
                    socket.create_connection(("127.0.0.1", made.port)) for _ in range(300)
                ]
                said = await made.ask(HOLDER)
                for each in silent:
                    each.close()
                assert said.startswith(b"HTTP/1.1 200")
            process.send_signal(signal.SIGTERM)
            assert await anyio.to_thread.run_sync(process.wait, DEADLINE) == 0
            assert process.stderr.read() == b""
        finally:
            process.kill()


WITHOUT_DESCRIPTORS = """
import logging, os, resource, socket, sys
import anyio
from orchestrator_async.gateway._http_server import HttpServer
from tests.mcp.running import open_fds

async def app(scope, receive, send):
    await receive()
    head = {"type": "http.response.start", "status": 200}
    await send({**head, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})

async def main():
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    address = "127.0.0.1", listener.extra(anyio.abc.SocketAttribute.local_port)
    stop = anyio.Event()
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(HttpServer(app, 100).serve, listener.listeners, stop)
        await anyio.to_thread.run_sync(int)  # a thread may need some
        silent, *strangers = [socket.socket() for _ in range(5)]
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_fds()) + 2, most))
        spare = []
        try:
            while True:
                spare.append(os.dup(0))
        except OSError:
            os.close(spare.pop())  # the only one
        silent.connect(address)
        for stranger in strangers:
            stranger.connect(address)
            stranger.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        for stranger in strangers:
            print(await anyio.to_thread.run_sync(stranger.recv, 12))
        stop.set()

logging.basicConfig(format="%(message)s")
options = {"use_uvloop": True} if sys.argv[1:] == ["uvloop"] else {}
backend = "trio" if sys.argv[1:] == ["trio"] else "asyncio"
anyio.run(main, backend=backend, backend_options=options)
"""


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_where_no_descriptor_is_left_it_is_said_once_and_it_goes_on(backend: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DESCRIPTORS, backend],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stdout == 4 * "b'HTTP/1.1 200'\n", done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("connections cannot be taken at the moment: [Errno 24]")


def test_half_of_the_descriptors_are_for_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert most_connections() == 128
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert most_connections() == 2_400
