"""
A gateway over HTTP: who may ask, what ends a call, and how it ends itself.
"""

from __future__ import annotations

import inspect
import logging
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ToolListChangedNotification

from orchestrator_async import Registry, ToolContext, ToolOrchestrator
from orchestrator_async.gateway import Gateway, serve, serve_http
from orchestrator_async.gateway._guard import Guard
from orchestrator_async.gateway._quiet import quiet
from orchestrator_async.gateway._requests import Exchange
from orchestrator_async.gateway._rules import Rules
from tests.clock import real_time, virtual_time

from .helping import DEADLINE, leaves_generators, ours, until
from .running import MARK, ROOT, Peers, free_port
from .running import until as until_so
from .test_gateway_stdio import LOOPS, command, text, written
from .test_import import said_by

DEBUG = False

pytestmark = [leaves_generators]
MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])
TOKEN = "a tökén that nobody guesses"


@pytest.fixture
def loop(request: pytest.FixtureRequest) -> list[str]:
    return LOOPS[request.node.callspec.params["anyio_backend"]]


class Site:
    """
    A gateway that is served in this process, with a tool that waits.
    """

    def __init__(self) -> None:
        self.registry = Registry()
        self.orch = ToolOrchestrator(self.registry)
        self.gateway = Gateway(self.orch)
        self.url = ""
        self.began, self.ended = anyio.Event(), anyio.Event()
        self.registry.tool(self.echo)
        self.registry.tool(self.wait)
        self.registry.tool(self.report)

    async def echo(self, text: str) -> str:
        return text

    async def wait(self) -> None:
        self.began.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.ended.set()

    async def report(self, context: ToolContext) -> str:
        context.report_progress(1, 2, "half")
        return "done"

    @property
    def port(self) -> int:
        return int(httpx2.URL(self.url).port or 0)


@asynccontextmanager
async def site(**options: Any) -> AsyncIterator[Site]:
    made, ready = Site(), anyio.Event()

    def note(url: str) -> None:
        made.url = url
        ready.set()

    async def run() -> None:
        await serve_http(made.gateway, port=0, on_ready=note, **options)

    with anyio.fail_after(2 * DEADLINE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await ready.wait()
            yield made
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def host(
    url: str, mode: str = "auto", token: str | None = None, **options: Any
) -> AsyncIterator[Client]:
    headers: Any = {}
    if token is not None:
        headers["authorization"] = f"Bearer {token}".encode()
    async with httpx2.AsyncClient(timeout=DEADLINE, headers=headers) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode, **options) as client:
            yield client


def initialize() -> dict[str, Any]:
    info = {"name": "raw", "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
    return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}


ACCEPT = {"accept": "application/json, text/event-stream"}


async def post(url: str, headers: Any = None, **options: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=DEADLINE) as http:
        asked = {"json": initialize(), **options}
        return await http.post(url, headers={**ACCEPT, **(headers or {})}, **asked)


# What it does


@real_time
@MODES
async def test_a_thousand_calls_are_all_answered_over_http(mode: str) -> None:
    answers: dict[int, str] = {}
    async with site() as made, host(made.url, mode) as client:

        async def work(first: int) -> None:
            for number in range(first, 1_000, 10):
                result = await client.call_tool("echo", {"text": str(number)})
                answers[number] = text(result)

        async with anyio.create_task_group() as tasks:
            for first in range(10):
                tasks.start_soon(work, first)
        assert made.orch.stats("echo").successes == 1_000
    assert answers == {number: str(number) for number in range(1_000)}


@real_time
@MODES
async def test_progress_and_changes_are_told_over_http(mode: str) -> None:
    told: list[Any] = []
    news = anyio.Event()

    async def report(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async def hear(message: Any) -> None:
        if isinstance(message, ToolListChangedNotification):
            news.set()

    async with site() as made, host(made.url, mode, message_handler=hear) as client:
        await client.call_tool("report", progress_callback=report)
        await until(lambda: told == [(1, 2, "half")])
        if mode == "legacy":
            # Until the client listens there is nobody to be told.
            numbers = iter(range(1_000))
            while not news.is_set():
                made.registry.tool(name=f"tool{next(numbers)}")(made.echo)
                with anyio.move_on_after(0.3):
                    await news.wait()
        else:
            async with client.listen(tools_list_changed=True) as events:
                made.registry.tool(name="tool")(made.echo)
                async for _ in events:
                    break


@real_time
@MODES
async def test_a_call_whose_host_has_gone_is_cancelled(mode: str) -> None:
    async with site() as made:
        async with host(made.url, mode) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "wait")
            await made.began.wait()
            tasks.cancel_scope.cancel()
        await made.ended.wait()
        await until(lambda: made.orch.stats("wait").in_flight == 0)
        assert made.orch.stats("wait").cancelled == 1


@real_time
async def test_a_call_whose_stream_is_closed_is_cancelled_without_a_word() -> None:
    async with site() as made, httpx2.AsyncClient(timeout=DEADLINE) as http:
        begun = await http.post(made.url, json=initialize(), headers=ACCEPT)
        headers = {**ACCEPT, "mcp-session-id": begun.headers["mcp-session-id"]}
        call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call"}
        wait = {**call, "params": {"name": "wait", "arguments": {}}}
        async with http.stream("POST", made.url, json=wait, headers=headers):
            await made.began.wait()
        await made.ended.wait()
        # The session goes on.
        echo = {**call, "id": 3, "params": {"name": "echo", "arguments": {"text": "on"}}}
        answer = await http.post(made.url, json=echo, headers=headers)
        assert '"on"' in answer.text


@real_time
async def test_leaving_ends_what_runs_and_what_listens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with anyio.create_task_group() as tasks:
        async with site() as made:

            async def calls() -> None:
                try:
                    async with host(made.url, "legacy") as client:
                        await client.call_tool("wait")
                except* Exception:
                    pass  # it was left alone

            tasks.start_soon(calls)
            await made.began.wait()
        await made.ended.wait()
        tasks.cancel_scope.cancel()
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []
    with pytest.raises(httpx2.ConnectError):
        await post(made.url)


@real_time
async def test_all_of_it_together_as_a_process(
    servers: Peers, tmp_path: Path, loop: list[str]
) -> None:
    path = written(tmp_path, {"plain": ours(servers, "plain")})
    with subprocess.Popen(  # noqa: ASYNC220
        command(path, *loop, "--http", "0"),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, MARK: servers.mark},
        cwd=ROOT,
    ) as process:
        try:
            assert process.stderr is not None
            line = await anyio.to_thread.run_sync(process.stderr.readline)
            said, _, url = line.decode().strip().rpartition(" ")
            assert said == "serving 13 tools at"
            async with host(url, "legacy") as client:
                called = await client.call_tool("plain__echo", {"text": "hello"})
                assert text(called) == "hello"
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(client.call_tool, "plain__sleep", {"seconds": 60})
                    await client.call_tool("plain__echo", {"text": "hello"})
                    tasks.cancel_scope.cancel()
            process.send_signal(signal.SIGTERM)
            assert await anyio.to_thread.run_sync(process.wait, DEADLINE) == 0
            assert process.stderr.read() == b""
        finally:
            process.kill()
    until_so(lambda: not servers.alive())


# Who may ask


@real_time
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:{port}"}, 200),
        ({"origin": "http://localhost:{port}"}, 200),
        ({"origin": "HTTP://LOCALHOST:{port}"}, 200),
        ({"origin": "http://[::1]:{port}"}, 200),
        ({"origin": "https://allowed.example"}, 200),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"origin": "http://127.0.0.1"}, 403),
        ({"origin": "https://127.0.0.1:{port}"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:{port}.evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"host": "localhost:{port}"}, 200),
        ({"host": "127.0.0.1"}, 200),
        ({"host": "[::1]:{port}"}, 200),
        ({"host": "known.example"}, 200),
        ({"host": "known.example:99"}, 200),
        ({"host": "exact.example:99"}, 200),
        ({"host": "exact.example:98"}, 421),
        ({"host": "evil.example:{port}"}, 421),
        ({"host": "localhost.evil.example"}, 421),
        ({"host": "192.168.1.1:{port}"}, 421),
        ({"host": "[::1"}, 421),
        ({"host": "localhost:abc"}, 421),
        ({"host": "localhost:99999999"}, 421),
        ({"host": "evil.example@localhost"}, 421),
        ({"host": ""}, 421),
    ],
)
async def test_pages_from_elsewhere_and_names_that_lead_here_are_refused(
    headers: dict[str, str], status: int
) -> None:
    async with site(
        allowed_origins=["https://Allowed.example/"],
        allowed_hosts=["Known.example", "exact.example:99"],
    ) as made:
        sent = {
            key: value.replace("{port}", str(made.port)) for key, value in headers.items()
        }
        answer = await post(made.url, sent)
        assert answer.status_code == status
        if status == 200 and "origin" in sent:
            assert answer.headers["access-control-allow-origin"] == sent["origin"]
        asked = await post(made.url, {**sent, "x": "y"})
        assert asked.status_code == status


@real_time
async def test_a_page_that_may_ask_is_told_so_before_it_does() -> None:
    async with site(token=TOKEN) as made, httpx2.AsyncClient() as http:
        origin = f"http://localhost:{made.port}"
        answer = await http.options(made.url, headers={"origin": origin})
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == origin
        assert "authorization" in answer.headers["access-control-allow-headers"]
        wanted = b"X-Other, Mcp-Param-City, mcp-param-k\xf6ln"
        asked = [(b"origin", origin.encode()), (b"access-control-request-headers", wanted)]
        answer = await http.options(made.url, headers=asked)
        allowed = answer.headers["access-control-allow-headers"]
        assert allowed.endswith(", mcp-name, mcp-param-city")
        answer = await http.options(made.url)
        assert "access-control-allow-origin" not in answer.headers
        answer = await http.options(made.url, headers={"origin": "http://evil.example"})
        assert answer.status_code == 403


async def test_a_page_that_may_ask_may_read_why_it_is_refused() -> None:
    origin = (b"origin", b"http://localhost:1")
    rules = Rules(port=1, path="/mcp", token="x")
    cases: list[tuple[dict[str, Any], int, Guard]] = [
        ({"path": "/"}, 404, Guard(nobody, rules)),
        ({"path": "/mcp"}, 503, Guard(nobody, rules, most=0)),
        ({"token": b"y"}, 401, Guard(nobody, rules)),
        ({"origin": b"http://evil.example"}, 403, Guard(nobody, rules)),
    ]
    for refused, status, guard in cases:
        token = (b"authorization", b"Bearer " + refused.pop("token", b"x"))
        page = (b"origin", refused.pop("origin", origin[1]))
        sent = Sent()
        headers = [(b"host", b"localhost"), token, page]
        await guard(scope(headers=headers, **refused), parts(b""), sent)
        assert sent.status == status
        allowed = [each for each in sent[0]["headers"] if b"allow-origin" in each[0]]
        assert [value for _, value in allowed] == ([] if status == 403 else [origin[1]])


@real_time
@MODES
async def test_without_the_token_nobody_is_answered(mode: str) -> None:
    async with site(token=TOKEN) as made:
        for wrong in (b"", b"Bearer", b"Bearer wrong", b"Basic " + TOKEN.encode()):
            answer = await post(made.url, {"authorization": wrong})
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert TOKEN not in answer.text
        assert (await post(made.url)).status_code == 401
        answer = await post(made.url, {"authorization": b"bearer  " + TOKEN.encode()})
        assert answer.status_code == 200
        async with host(made.url, mode, token=TOKEN) as client:
            assert text(await client.call_tool("echo", {"text": "hi"})) == "hi"


@real_time
async def test_the_token_is_in_no_log_and_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with site(token=TOKEN) as made, host(made.url, "legacy", token=TOKEN) as client:
        await client.call_tool("echo", {"text": "hi"})
        await post(made.url, {"authorization": b"Bearer wrong"})
    others = [each.getMessage() for each in caplog.records if "httpcore" not in each.name]
    assert TOKEN not in "".join(others)
    assert TOKEN not in repr(Rules(port=1, path="/mcp", token=TOKEN))


async def test_tokens_are_compared_in_the_same_time_however_alike_they_are() -> None:
    assert "hmac.compare_digest" in inspect.getsource(Rules.knows_token)


async def test_other_machines_need_a_token() -> None:
    orch = ToolOrchestrator(Registry())
    for address in ("0.0.0.0", "::", "192.168.1.1", "tools.example.com"):
        with pytest.raises(ValueError, match="Give a token") as caught:
            await serve_http(Gateway(orch), host=address)
        assert address in str(caught.value)
        with pytest.raises(ValueError, match="Give a token"):
            await serve(orch, http=(address, 0))
    with pytest.raises(ValueError, match="token is empty"):
        await serve_http(Gateway(orch), token=" ")
    for path in ("mcp", "/healthz"):
        with pytest.raises(ValueError, match="expected one such as /mcp"):
            await serve_http(Gateway(orch), path=path)


@pytest.mark.parametrize(
    "options",
    [
        {"allowed_origins": ["*"]},
        {"allowed_origins": ["null"]},
        {"allowed_origins": ["example.com"]},
        {"allowed_origins": ["https://example.com/page"]},
        {"allowed_origins": ["https://*.example.com"]},
        {"allowed_origins": ["https://b\xfccher.example"]},
        {"allowed_origins": "https://example.com"},
        {"allowed_hosts": ["http://tools.example.com"]},
        {"allowed_hosts": ["tools.example.com:port"]},
        {"allowed_hosts": ["*"]},
    ],
)
async def test_what_could_never_be_asked_by_is_not_allowed_in_vain(options: Any) -> None:
    with pytest.raises(ValueError, match="expected one such as"):
        await serve(ToolOrchestrator(Registry()), http=("127.0.0.1", 0), **options)


async def test_what_can_be_asked_by_may_be_allowed() -> None:
    origins = ["https://example.com:8443/", "chrome-extension://abc", "http://[::1]"]
    hosts = ["tools.example.com", "my_host:80", "[fe80::1]:8765", "fe80::1", "10.0.0.1"]
    rules = Rules(port=1, path="/mcp", origins=origins, hosts=hosts)
    assert rules.knows_origin("https://example.com:8443")
    assert rules.knows_host("[fe80::1]")


async def test_where_other_machines_ask_it_may_be_called_by_any_address() -> None:
    rules = Rules(port=8765, path="/mcp", hosts=["0.0.0.0"], is_local=False)
    assert rules.knows_host("192.168.1.1:8765")
    assert rules.knows_host("0.0.0.0:8765")
    assert not rules.knows_host("evil.example:8765")


@real_time
@pytest.mark.parametrize("address", ["localhost", "::1"])
async def test_every_address_of_this_machine_is_its_own(address: str) -> None:
    async with site(host=address) as made:
        assert (await post(made.url)).status_code == 200


@real_time
async def test_an_address_that_is_taken_is_an_error_as_it_is(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            await serve_http(Gateway(ToolOrchestrator(Registry())), port=port)
        with pytest.raises(OSError, match="in use"):
            await serve(
                ToolOrchestrator(Registry()), http=("127.0.0.1", port), insecure=True
            )
        with pytest.raises(OSError, match="in use"):
            await serve({"servers": {}}, http=("127.0.0.1", port))
        path = tmp_path / "servers.json"
        path.write_text('{"servers": {}}')
        with pytest.raises(OSError, match="in use"):
            await serve(path, http=("127.0.0.1", port))


@real_time
async def test_a_stream_that_would_go_on_begins_anew() -> None:
    async with site() as made, httpx2.AsyncClient(timeout=DEADLINE) as http:
        begun = await http.post(made.url, json=initialize(), headers=ACCEPT)
        headers = {**ACCEPT, "mcp-session-id": begun.headers["mcp-session-id"]}
        headers["last-event-id"] = "1"
        async with http.stream("GET", made.url, headers=headers) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")


# What else is there


@real_time
async def test_it_says_that_it_is_well_to_anybody() -> None:
    async with site(token=TOKEN) as made, httpx2.AsyncClient() as http:
        url = f"http://127.0.0.1:{made.port}/healthz"
        answer = await http.get(url, headers={"host": "probe.example"})
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert (await http.head(url)).status_code == 200
        assert (await http.post(url)).status_code == 401


@real_time
async def test_there_is_nothing_anywhere_else() -> None:
    async with site(path="/tools") as made, httpx2.AsyncClient() as http:
        assert made.url.endswith("/tools")
        answer = await http.get(f"http://127.0.0.1:{made.port}/mcp")
        assert (answer.status_code, "/tools" in answer.text) == (404, True)


@real_time
async def test_a_body_that_is_too_large_is_refused() -> None:
    async with site() as made:
        answer = await post(made.url, content=b"x" * 5_000_000, json=None)
        assert answer.status_code == 413
        assert (await post(made.url)).status_code == 200


@real_time
async def test_nobody_needs_to_hear_where_it_is() -> None:
    gateway, port = Gateway(ToolOrchestrator(Registry())), free_port()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: serve_http(gateway, port=port))
        with anyio.fail_after(DEADLINE):
            while True:
                try:
                    answer = await post(f"http://127.0.0.1:{port}/mcp")
                    break
                except httpx2.ConnectError:
                    await anyio.sleep(0.005)
        assert answer.status_code == 200
        tasks.cancel_scope.cancel()


async def test_what_begins_for_a_host_that_has_gone_does_not_run() -> None:
    gone = Exchange()
    gone.close()
    with gone.holding():
        await anyio.lowlevel.checkpoint()
        raise AssertionError("it has run")


# The guard by itself

Receive = Callable[[], Any]


class Sent(list[Any]):
    async def __call__(self, message: Any) -> None:
        self.append(message)

    @property
    def status(self) -> int:
        return self[0]["status"]


def scope(**more: Any) -> dict[str, Any]:
    headers = [(b"host", b"localhost:1"), (b"authorization", b"Bearer x")]
    return {"type": "http", "method": "POST", "path": "/mcp", "headers": headers, **more}


def parts(*bodies: bytes) -> Receive:
    left = [{"type": "http.request", "body": body, "more_body": True} for body in bodies]
    left[-1]["more_body"] = False

    async def receive() -> Any:
        if left:
            return left.pop(0)
        return {"type": "http.disconnect"}

    return receive


async def nobody(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nobody is to be asked")


RULES = Rules(port=1, path="/mcp")


@virtual_time
async def test_a_body_that_does_not_come_is_not_waited_for_for_ever() -> None:
    async def receive() -> Any:
        await anyio.sleep(20)
        return {"type": "http.request", "body": b"x", "more_body": True}

    guard, sent = Guard(nobody, RULES), Sent()
    await guard(scope(), receive, sent)
    assert sent.status == 408
    assert guard._bytes == 0


async def test_bodies_that_are_too_large_together_are_refused() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        got = await receive()
        assert len(got["body"]) == 4_000_000
        if next(left) > 0:
            inner = Sent()
            await guard(scope, parts(b"x" * 4_000_000), inner)
            sent.extend(inner)

    left = iter(range(20, -1, -1))
    guard, sent = Guard(app, RULES), Sent()
    await guard(scope(), parts(b"x" * 1_000_000, b"x" * 3_000_000), sent)
    assert sent.status == 503
    assert guard._bytes == 0


async def test_too_many_requests_at_one_time_are_refused() -> None:
    guard, sent = Guard(nobody, RULES, most=0), Sent()
    await guard(scope(), parts(b""), sent)
    assert sent.status == 503


async def test_two_hosts_or_two_tokens_are_none() -> None:
    name, token = (b"host", b"localhost"), (b"authorization", b"Bearer x")
    rules = Rules(port=1, path="/mcp", token="x")
    for headers, status in (([name, name, token], 421), ([name, token, token], 401)):
        sent = Sent()
        await Guard(nobody, rules)(scope(headers=headers), parts(b""), sent)
        assert sent.status == status


async def test_of_two_requests_with_one_id_in_a_session_the_second_is_refused() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((await receive())["body"])
        if seen == [first]:
            refused.append(await ask("s", b'{"id": 1, "method": "x"}'))

    async def ask(session: str, body: bytes) -> Sent:
        sent = Sent()
        headers = [(b"host", b"localhost"), (b"mcp-session-id", session.encode())]
        await guard(scope(headers=headers), parts(body), sent)
        return sent

    guard = Guard(app, RULES)
    first, same = b'{"id": "1", "method": "x"}', b'{"id": 1, "method": "x"}'
    seen: list[bytes] = []
    refused: list[Sent] = []
    await ask("s", first)
    assert refused[0].status == 400
    assert b"id already" in refused[0][1]["body"]
    # It is only so while the first has no answer, in that session, and not for an answer.
    for session, body in (
        ("s", same),
        ("other", same),
        ("s", b'{"id": 1, "result": {}}'),
        ("s", b'{"method": "x"}'),
        ("s", b"[]"),
        ("s", b"{"),
    ):
        await ask(session, body)
        assert seen.pop() == body


async def test_whoever_is_asked_is_not_shown_the_token() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])

    await Guard(app, RULES)(scope(), parts(b"{}"), Sent())
    assert seen == [(b"host", b"localhost:1")]


async def test_a_host_that_goes_before_its_body_is_whole_is_passed_over() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((await receive())["body"])
        seen.append((await receive())["type"])

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    await Guard(app, RULES)(scope(), receive, Sent())
    assert seen == []


# The log


async def test_that_a_host_has_gone_is_no_error_and_anything_else_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("mcp.server.streamable_http")

    def log(first: Exception, second: Exception) -> None:
        try:
            try:
                raise first
            except Exception:
                raise second  # noqa: B904
        except Exception:
            logger.exception("it failed")

    with quiet():
        log(anyio.ClosedResourceError(), ValueError())
        log(ValueError(), anyio.BrokenResourceError())
        assert caplog.records == []
        log(ValueError(), ValueError())
        logger.error("without one")
        assert len(caplog.records) == 2
    log(anyio.ClosedResourceError(), ValueError())
    assert len(caplog.records) == 3


# What is needed


@pytest.mark.parametrize("missing", ["mcp", "h11"])
async def test_without_what_it_needs_its_extra_is_named(missing: str) -> None:
    code = f"""
import sys
class Missing:
    def find_spec(self, name, *args):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
try:
    import orchestrator_async.gateway
except ImportError as error:
    print(error)
"""
    assert 'pip install "orchestrator-async[gateway]"' in said_by(code)


async def test_without_its_metadata_it_has_a_version_all_the_same() -> None:
    code = """
import sys
from orchestrator_async import Registry, ToolOrchestrator
from orchestrator_async.gateway import Gateway
sys.path.clear()
print(Gateway(ToolOrchestrator(Registry())).server().version)
"""
    assert said_by(code) == "0\n"


async def test_a_config_comes_once() -> None:
    from orchestrator_async.config import read_config

    with pytest.raises(TypeError, match="config already"):
        await serve(read_config({}), config=read_config({}))
