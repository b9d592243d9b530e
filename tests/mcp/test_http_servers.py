"""
The tools of MCP servers over HTTP under circuits: whatever becomes of a request is a plain
failure of its call, and of no other.
"""

from __future__ import annotations

import functools
import socket
import threading
import time
from typing import Any

import anyio
import pytest
from mcp import MCPError

from orchestrator_async import (
    CircuitOpenError,
    CircuitState,
    ToolTimeoutError,
    Verdict,
)
from orchestrator_async.adapters.mcp import (
    McpServerError,
    ResultTooLargeError,
    ServerLostError,
    ServerProtocolError,
    ServerStatusError,
    ServerUnavailableError,
)
from tests.clock import real_time
from tests.conftest import Summary

from .helping import Bench, bench, gather, leaves_generators, until
from .running import HttpPeer, Peers, free_port, listening, open_fds, peers
from .servers.http_faults.faults import FAULTS

DEBUG = False

pytestmark = [leaves_generators, real_time]

TIMES_OUT = {"other_id", "no_answer", "comments", "progress", "trickle", "silent"}
OF: dict[str, type[Exception]] = {
    **dict.fromkeys(TIMES_OUT, ToolTimeoutError),
    **dict.fromkeys(
        (
            "unavailable limited limited_until unauthorized forbidden not_found broken "
            "broken_rpc"
        ).split(),
        ServerStatusError,
    ),
    **dict.fromkeys(
        "accepted redirect garbage empty page garbage_event wrong_result".split(),
        ServerProtocolError,
    ),
    **dict.fromkeys(
        ("reset closed cut cut_chunked cut_events cut_resumable endless_head dies").split(),
        ServerLostError,
    ),
    **dict.fromkeys("huge huge_event huge_error endless".split(), ResultTooLargeError),
}


@pytest.mark.parametrize("fault", [each for each in FAULTS if each != "ok"])
async def test_what_becomes_of_a_request_is_a_failure_of_its_call_alone(fault: str) -> None:
    timeout = 0.5 if fault in TIMES_OUT else 10
    with peers() as started, started.http("http_faults", "--size", "20000000") as peer:
        async with bench({"h": {"url": peer.url}}, timeout=timeout) as made:
            beside: list[Any] = []
            async with anyio.create_task_group() as tasks:
                if fault != "dies":
                    tasks.start_soon(gather, beside, made, "h__ok", {})
                result = await made.orch.run(f"h__{fault}")
            assert isinstance(result.error, OF[fault]), result.error
            assert result.verdict is Verdict.FAILURE
            assert all(each.ok for each in beside)
            if fault != "dies":
                await until(lambda: made.servers.status()["h"].connected)
                assert (await made.orch.run("h__ok")).ok


async def test_each_fault_has_an_outcome() -> None:
    assert {*OF, "ok"} == set(FAULTS)


@pytest.mark.parametrize(
    ("fault", "least", "most"),
    [("unavailable", 6, 7), ("limited", 2, 3), ("limited_until", 30, 61)],
)
async def test_a_throttle_pauses_the_circuit_for_its_time(
    fault: str, least: float, most: float
) -> None:
    with peers() as started, started.http("http_faults") as peer:
        async with bench({"h": {"url": peer.url}}) as made:
            result = await made.orch.run(f"h__{fault}")
            assert result.retry_after is not None
            assert least < result.retry_after <= most
            refused = await made.orch.run(f"h__{fault}")
            assert isinstance(refused.error, CircuitOpenError)
            assert refused.error.paused
            assert least < (refused.retry_after or 0) <= most
            assert made.orch.stats(f"h__{fault}").failures == 0
            assert (await made.orch.run("h__ok")).ok


async def test_status_and_phrase_are_told() -> None:
    with peers() as started, started.http("http_faults") as peer:
        async with bench({"h": {"url": peer.url}}) as made:
            result = await made.orch.run("h__unauthorized")
            assert isinstance(result.error, ServerStatusError)
            assert result.error.status_code == 401
            assert "HTTP 401 Unauthorized" in result.content


async def test_twenty_deaths_over_http_lose_nothing(summary: Summary) -> None:
    longest = 0.0
    port = free_port()
    with peers() as started:
        peer = Restarted(started, port)
        async with bench({"plain": {"url": peer.url}}, reset_timeout=0.1) as made:
            name, args = "plain__sleep", {"seconds": 3600}
            files = 0
            for death in range(1, 21):
                results: list[Any] = []
                async with anyio.create_task_group() as tasks:
                    for _ in range(20):
                        tasks.start_soon(gather, results, made, name, args)
                    await until(lambda: made.orch.stats(name).in_flight == 20)
                    await until(lambda: peer.has_connections(20))
                    killed = time.perf_counter()
                    peer.kill()
                longest = max(longest, time.perf_counter() - killed)
                assert len(results) == 20
                assert {type(each.error) for each in results} <= {
                    ServerLostError,
                    ServerUnavailableError,
                }
                assert made.orch.circuit(name).state is CircuitState.OPEN
                peer.start()
                await made.again("plain", death)
                await made.orch.wait_available(name)
                probe = await made.orch.run(name, {"seconds": 0})
                assert probe.ok, probe.content
                files = files or len(open_fds())
                await until(functools.partial(has_no_more_files, files))
        peer.kill()
    summary.add(
        "longest wait of a caller after a death over HTTP, in ms", round(longest * 1000)
    )


class Restarted:
    """
    A server that is killed and comes back on its port.
    """

    def __init__(self, started: Peers, port: int) -> None:
        self._started = started
        self._port = port
        self.start()

    def start(self) -> None:
        self._running = self._started.http("plain", port=self._port)
        self._peer: HttpPeer = self._running.__enter__()
        self.url = self._peer.url

    def kill(self) -> None:
        self._peer.kill()
        self._running.__exit__(None, None, None)

    def has_connections(self, least: int) -> bool:
        sockets = [each for each in open_fds(self._peer.pid).values() if "socket" in each]
        return len(sockets) > least


def has_no_more_files(most: int) -> bool:
    return len(open_fds()) <= most


async def test_a_server_that_refuses_connections_is_tried_until_it_is_there() -> None:
    port = free_port()
    with peers() as started:
        async with bench({"plain": {"url": f"http://127.0.0.1:{port}/mcp"}}) as made:
            assert not made.servers.status()["plain"].connected
            assert "ConnectError" in made.servers.status()["plain"].reason
            with started.http("plain", port=port):
                await made.again("plain", 0)
                assert (await made.orch.run("plain__echo", {"text": "x"})).ok


async def test_a_server_that_accepts_and_keeps_silent_does_not_hold_up_the_start() -> None:
    with listening() as url:
        async with bench({"h": {"url": url, "connect_timeout": 0.3}}) as made:
            assert "has not answered within 0.3 s" in made.servers.status()["h"].reason


async def test_calls_that_run_end_while_the_server_is_connected_again() -> None:
    with peers() as started, started.http("plain") as peer:
        async with bench({"plain": {"url": peer.url}}) as made:
            results: list[Any] = []
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(gather, results, made, "plain__sleep", {"seconds": 0.5})
                await until(lambda: made.orch.stats("plain__sleep").in_flight == 1)
                made.servers._servers["plain"]._connection._trouble("by hand")  # type: ignore[union-attr]
                await made.again("plain", 1)
                assert (await made.orch.run("plain__echo", {"text": "x"})).ok
            assert results[0].ok, results[0].content


async def test_more_calls_than_a_client_has_connections_are_made() -> None:
    with peers() as started, started.http("plain") as peer:
        async with bench({"plain": {"url": peer.url}}) as made:
            results: list[Any] = []
            async with anyio.create_task_group() as tasks:
                for _ in range(150):
                    tasks.start_soon(
                        gather, results, made, "plain__sleep", {"seconds": 0.2}
                    )
            assert all(each.ok for each in results)


async def test_headers_are_sent_and_not_shown() -> None:
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=remember_head, args=(server, heads))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/mcp"
        servers: dict[str, Any] = {
            "h": {"url": url, "headers": {"Authorization": "Bearer secret"}}
        }
        servers["h"]["connect_timeout"] = 1
        async with bench(servers) as made:
            await until(lambda: heads)
            assert b"\r\nauthorization: bearer secret\r\n" in heads[0].lower()
            assert "secret" not in repr(made.servers)
            assert "secret" not in repr(made.events)
        thread.join()


def remember_head(server: socket.socket, heads: list[bytes]) -> None:
    connection, _ = server.accept()
    with connection:
        heads.append(connection.recv(10_000))


async def test_the_tools_follow_over_http() -> None:
    with peers() as started, started.http("changing") as peer:
        async with bench({"c": {"url": peer.url}}) as made:
            await set_tools(made, ["one", "two"])
            await until(lambda: "c__two" in made.registry)
            await set_tools(made, ["one"])
            await until(lambda: "c__two" not in made.registry)


async def set_tools(made: Bench, names: list[str]) -> None:
    import json

    tools = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
    await made.orch.call("c__set_tools", {"tools": json.dumps(tools)})


async def test_what_a_server_fails_to_do_is_one_kind_of_error() -> None:
    for kind in set(OF.values()) - {ToolTimeoutError}:
        assert issubclass(kind, McpServerError)
    assert not issubclass(McpServerError, MCPError)
