"""
A gateway as a process on stdio: with servers that others wrote, and hosts that misbehave.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp_types import ToolListChangedNotification

from orchestrator_async.gateway._stdio import _read, _write
from tests.clock import real_time

from .helping import DEADLINE, clock_server, everything, leaves_generators, ours, until
from .running import MARK, ROOT, Peers, RawClient, memory
from .running import until as until_so

DEBUG = False

pytestmark = [leaves_generators, real_time]
MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])
TRACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "a=b",
    "baggage": "user=ada",
}

LOOPS = {
    "asyncio in real time": [],
    "asyncio+uvloop": ["--uvloop"],
    "trio in real time": ["--backend", "trio"],
}


@pytest.fixture
def loop(request: pytest.FixtureRequest) -> list[str]:
    """
    Arguments that have the gateway's process run on the loop that the test runs on.
    """
    return LOOPS[request.node.callspec.params["anyio_backend"]]


def written(tmp_path: Path, servers: Mapping[str, Any], **more: Any) -> Path:
    path = tmp_path / "servers.json"
    path.write_text(json.dumps({"servers": servers, **more}))
    return path


def command(path: Path, *args: str) -> list[str]:
    return [sys.executable, "-m", "tests.mcp.gateway_program", str(path), *args]


@asynccontextmanager
async def host(
    peers: Peers, path: Path, *args: str, mode: str = "auto", **options: Any
) -> AsyncIterator[Client]:
    program, *rest = command(path, *args)
    parameters = StdioServerParameters(
        command=program, args=rest, env={MARK: peers.mark, **coverage()}, cwd=str(ROOT)
    )
    with anyio.fail_after(2 * DEADLINE):
        async with Client(parameters, mode=mode, **options) as client:
            yield client


@contextmanager
def raw(peers: Peers, path: Path, *args: str) -> Iterator[RawClient]:
    """
    A host that can do what no client does.
    """
    with subprocess.Popen(
        command(path, *args),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {MARK: peers.mark},
        cwd=ROOT,
    ) as process:
        try:
            yield RawClient(process)
            with suppress(BrokenPipeError):
                process.stdin.close()  # type: ignore[union-attr]
            process.wait(DEADLINE)
        finally:
            process.kill()


def coverage() -> dict[str, str]:
    """
    What has a process measured that the SDK starts, with an environment of its own.
    """
    return {key: value for key, value in os.environ.items() if key.startswith("COVERAGE_")}


def begin(client: RawClient) -> dict[str, Any]:
    info = {"name": "raw", "version": "1"}
    client.ask(
        "initialize", id=0, protocolVersion="2025-06-18", capabilities={}, clientInfo=info
    )
    answer = client.message()
    client.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    return answer["result"]


def text(result: Any) -> str:
    return "\n".join(block.text for block in result.content)


# Servers that others wrote


@MODES
async def test_servers_that_others_wrote_are_offered_and_called(
    servers: Peers, tmp_path: Path, loop: list[str], mode: str
) -> None:
    path = written(tmp_path, {"time": clock_server(), "all": everything()})
    async with host(servers, path, *loop, mode=mode) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"time__get_current_time", "all__echo", "all__get-tiny-image"} <= names
        now = await client.call_tool("time__get_current_time", {"timezone": "Asia/Tokyo"})
        assert json.loads(text(now))["timezone"] == "Asia/Tokyo"
        said = await client.call_tool("all__echo", {"message": "hello"})
        assert "hello" in text(said)
        image = await client.call_tool("all__get-tiny-image")
        assert "image" in [block.type for block in image.content]
        data = await client.call_tool(
            "all__get-structured-content", {"location": "Chicago"}
        )
        assert set(data.structured_content) >= {"temperature", "conditions"}
        wrong = await client.call_tool("time__get_current_time", {"timezone": "Nowhere"})
        assert wrong.is_error


@MODES
async def test_a_thousand_calls_are_all_answered(
    servers: Peers, tmp_path: Path, loop: list[str], mode: str
) -> None:
    path = written(tmp_path, {"plain": ours(servers, "plain")})
    answers: dict[int, str] = {}
    async with host(servers, path, *loop, mode=mode) as client:

        async def work(first: int) -> None:
            for number in range(first, 1_000, 20):
                result = await client.call_tool("plain__echo", {"text": str(number)})
                answers[number] = text(result)

        async with anyio.create_task_group() as tasks:
            for first in range(20):
                tasks.start_soon(work, first)
    assert answers == {number: str(number) for number in range(1_000)}


@MODES
async def test_progress_trace_and_cancellation_go_all_the_way(
    servers: Peers, tmp_path: Path, loop: list[str], mode: str
) -> None:
    told: list[Any] = []

    async def report(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    path = written(tmp_path, {"plain": ours(servers, "plain")})
    async with host(servers, path, *loop, mode=mode) as client:
        await client.call_tool("plain__progress", {"steps": 50}, progress_callback=report)
        await until(lambda: told and told[-1] == (50, 50, "step 50"))
        meta: Any = TRACE
        long: Any = {"baggage": "x" * 9_000}
        context = await client.call_tool("plain__context", meta=meta)
        sent = context.structured_content["meta"]
        assert {key: sent[key] for key in TRACE} == TRACE
        context = await client.call_tool("plain__context", meta=long)
        assert "baggage" not in context.structured_content["meta"]
        with anyio.move_on_after(0.05):
            await client.call_tool("plain__sleep", {"seconds": 60})
        while True:
            (fleet,) = (await client.read_resource("orchestrator://fleet")).contents
            figures = json.loads(fleet.text)  # type: ignore[union-attr]
            if figures["tools"].get("plain__sleep", {}).get("cancelled") == 1:
                break
            await anyio.sleep(0.01)
        assert figures["servers"]["plain"] == {"connected": True, "reason": "", "tools": 13}


async def test_the_first_list_waits_for_servers_but_not_for_ever(
    servers: Peers, tmp_path: Path, loop: list[str]
) -> None:
    news = anyio.Event()

    async def hear(message: Any) -> None:
        if isinstance(message, ToolListChangedNotification):
            news.set()

    silent = {"command": sys.executable, "args": ["-c", "import time; time.sleep(99)"]}
    path = written(tmp_path, {"plain": ours(servers, "plain"), "silent": silent})
    async with host(
        servers, path, *loop, "--start-wait", "0", mode="legacy", message_handler=hear
    ) as client:
        await news.wait()
        assert len((await client.list_tools()).tools) == 13
        unknown = await client.call_tool("silent__tool")
        assert "is being connected" in text(unknown)


async def test_a_file_is_read_again_when_the_program_is_told_to(
    servers: Peers, tmp_path: Path, loop: list[str]
) -> None:
    path = written(tmp_path, {"plain": ours(servers, "plain")})
    with raw(servers, path, *loop) as client:
        begin(client)
        client.ask("tools/list")
        assert len(client.answer()["result"]["tools"]) == 13
        written(tmp_path, {"plain": ours(servers, "plain", tools=["echo"])})
        client.process.send_signal(signal.SIGHUP)
        assert client.message()["method"] == "notifications/tools/list_changed"
        assert client.process.stderr is not None
        assert client.process.stderr.readline() == b"reloaded\n"
        client.ask("tools/list")
        answer = client.answer()
        assert [tool["name"] for tool in answer["result"]["tools"]] == ["plain__echo"]


# The end


async def test_the_end_of_the_input_ends_it_and_its_servers(
    servers: Peers, tmp_path: Path, loop: list[str]
) -> None:
    path = written(tmp_path, {"plain": ours(servers, "plain")})
    with raw(servers, path, *loop) as client:
        begin(client)
        client.call("plain__sleep", seconds=60)
        assert client.process.stdin is not None
        client.process.stdin.close()
        assert client.process.wait(DEADLINE) == 0
        assert client.process.stderr is not None
        assert client.process.stderr.read() == b""
        until_so(lambda: not servers.alive())


async def test_a_signal_ends_it_in_the_middle_of_a_call_without_a_word(
    servers: Peers, tmp_path: Path, loop: list[str]
) -> None:
    path = written(tmp_path, {"plain": ours(servers, "plain")})
    with raw(servers, path, *loop) as client:
        begin(client)
        client.call("plain__sleep", seconds=60)
        client.call("plain__echo", id=2, text="x")
        assert client.answer()["id"] == 2
        client.process.terminate()
        assert client.process.wait(DEADLINE) == 0
        assert client.process.stderr is not None
        assert client.process.stderr.read() == b""


# The wire


async def test_what_others_print_is_not_on_the_wire(
    servers: Peers, tmp_path: Path, loop: list[str]
) -> None:
    with raw(servers, written(tmp_path, {}), *loop, "--own") as client:
        begin(client)
        client.call("noisy")
        answer = client.message()
        assert answer["result"]["content"][0]["text"] == "quiet"
        client.process.terminate()
        client.process.wait(DEADLINE)
        assert client.process.stderr is not None
        noise = client.process.stderr.read().splitlines()
        assert noise == [b"noise", b"more noise", b"noise of a child ''"]


async def test_garbage_is_answered_and_ends_nothing(
    servers: Peers, tmp_path: Path, loop: list[str]
) -> None:
    with raw(servers, written(tmp_path, {}), *loop) as client:
        begin(client)
        assert client.process.stdin is not None
        client.process.stdin.write(b"no json\n\n\xff\xfe\n[1]\n{}\n")
        client.process.stdin.write(b'{"jsonrpc": "2.0", "id": 7, "method": 5}\n')
        client.process.stdin.flush()
        answers = [client.message() for _ in range(5)]
        assert [(each["id"], each["error"]["code"]) for each in answers] == [
            (None, -32700),
            (None, -32700),
            (None, -32600),
            (None, -32600),
            (7, -32600),
        ]
        assert client.quiet()


async def test_numbers_that_json_has_not_are_wrong_arguments(
    servers: Peers, tmp_path: Path, loop: list[str]
) -> None:
    with raw(servers, written(tmp_path, {}), *loop, "--own") as client:
        begin(client)
        for number, odd in enumerate((math.nan, math.inf, [-math.inf], {"a": [math.nan]})):
            client.call("large", id=number, size=odd, more=1e308)
            result = client.message()["result"]
            error = json.loads(result["content"][0]["text"])
            (wrong,) = error["invalid_arguments"]
            assert wrong == {"argument": "size", "expected": "finite numbers"}
            assert result["_meta"]["orchestrator-async/verdict"] == "ignore"
            assert result["_meta"]["orchestrator-async/attempts"] == 0
        client.call("none", size=math.nan)
        assert "unknown_tool" in client.message()["result"]["content"][0]["text"]


async def test_a_line_of_a_hundred_megabytes_is_refused_and_not_kept(
    servers: Peers, tmp_path: Path, loop: list[str]
) -> None:
    with raw(servers, written(tmp_path, {}), *loop) as client:
        begin(client)
        assert client.process.stdin is not None
        before = memory(client.process.pid)
        client.process.stdin.write(b'{"jsonrpc": "2.0", "id": 3, "method": "')
        for _ in range(100):
            client.process.stdin.write(b"x" * 1_000_000)
        client.process.stdin.write(b'"}\n')
        client.process.stdin.flush()
        answer = client.message()
        assert (answer["id"], answer["error"]["code"]) == (3, -32600)
        assert "4,194,304 bytes" in answer["error"]["message"]
        assert memory(client.process.pid) - before < 30_000_000
        assert client.quiet()


async def test_a_host_that_asks_and_does_not_read_is_read_no_more(
    servers: Peers, tmp_path: Path, loop: list[str]
) -> None:
    with raw(servers, written(tmp_path, {}), *loop, "--own") as client:
        begin(client)
        assert client.process.stdin is not None
        before = memory(client.process.pid)
        descriptor = client.process.stdin.fileno()
        os.set_blocking(descriptor, False)
        ask = b'{"jsonrpc": "2.0", "id": %d, "method": "ping", "params": {"a": "%s"}}\n'
        number = sent = 0
        rest = b""
        for _ in range(2_000):
            with suppress(BlockingIOError):
                while True:
                    number += bool(not rest)
                    rest = rest or ask % (number, b"x" * 1_000)
                    taken = os.write(descriptor, rest)
                    rest, sent = rest[taken:], sent + taken
            await anyio.sleep(0.001)
        assert number < 20_000
        assert memory(client.process.pid) - before < 100_000_000
        # And when it reads, all goes on.
        os.set_blocking(descriptor, True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, os.write, descriptor, rest)
            await anyio.to_thread.run_sync(_read_until, client, number)


def _read_until(client: RawClient, number: int) -> None:
    while client.message()["id"] != number:
        pass


async def test_a_large_answer_is_written_whole(
    servers: Peers, tmp_path: Path, loop: list[str]
) -> None:
    path = written(tmp_path, {}, tools={"*": {"max_result_size": False}})
    async with host(servers, path, *loop, "--own", mode="legacy") as client:
        result = await client.call_tool("large", {"size": 3_000_000})
        assert len(text(result)) == 3_000_000


async def test_a_request_that_has_the_id_of_one_that_runs_is_refused(
    servers: Peers, tmp_path: Path, loop: list[str]
) -> None:
    path = written(tmp_path, {"plain": ours(servers, "plain")})
    with raw(servers, path, *loop) as client:
        begin(client)
        client.call("plain__sleep", id=5, seconds=60)
        client.call("plain__echo", id=5, text="x")
        answer = client.message()
        assert (answer["id"], answer["error"]["code"]) == (5, -32600)
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
        client.send({**cancelled, "params": {"requestId": 5}})

        def again() -> bool:
            client.call("plain__echo", id=5, text="x")
            return "result" in client.message()

        until_so(again)


# Descriptors that another process has changed


def full_pipe() -> tuple[int, int]:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4_096)
    return read, write


def waits_in(function: Callable[..., Any], what: str) -> bool:
    """
    Whether some thread is at that line of the function.
    """
    lines, first = inspect.getsourcelines(function)
    (line,) = (first + number for number, each in enumerate(lines) if what in each)
    return any(
        frame.f_code is function.__code__ and frame.f_lineno == line
        for frame in sys._current_frames().values()
    )


async def test_what_does_not_wait_is_waited_for() -> None:
    read, write = full_pipe()
    size = len(os.read(read, 1 << 20))
    os.close(write)
    read_there, write_there = os.pipe(), full_pipe()
    os.set_blocking(read_there[0], False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, _write, write_there[1], b"y" * 10)
        await until(lambda: waits_in(_write, "select.select"))
        got = await anyio.to_thread.run_sync(os.read, write_there[0], size)
        while not got.endswith(b"y" * 10):
            got += await anyio.to_thread.run_sync(os.read, write_there[0], size)
        chunk: list[bytes] = []

        async def take() -> None:
            chunk.append(await anyio.to_thread.run_sync(_read, read_there[0]))

        tasks.start_soon(take)
        await until(lambda: waits_in(_read, "select.select"))
        os.write(read_there[1], b"z")
    assert chunk == [b"z"]
    for descriptor in (read, *read_there, *write_there):
        os.close(descriptor)


async def test_descriptors_that_have_gone_are_at_their_end() -> None:
    read, write = os.pipe()
    os.close(read)
    assert _read(read) == b""
    _write(write, b"x")
    os.close(write)
