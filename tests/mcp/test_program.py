"""
The terminal program with real servers: what it runs, and that it ends with all of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .helping import ours
from .running import DEADLINE, ROOT, HttpPeer, Peers, RawClient, child_pids, until

BACKENDS = ("asyncio", "trio", "uvloop")
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@pytest.fixture
def config(tmp_path: Path, servers: Peers, http_faults: HttpPeer) -> Path:
    path = tmp_path / "mcp.json"
    both = {"plain": ours(servers, "plain"), "h": {"url": http_faults.url}}
    path.write_text(json.dumps({"mcpServers": both}))
    return path


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "orchestrator_async.cli", *args]


@contextmanager
def program(*args: str) -> Iterator[subprocess.Popen[bytes]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command(*args), cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ends(process: subprocess.Popen[bytes], number: signal.Signals, code: int) -> None:
    """
    It ends with that code and all of its children, and says nothing but a word.
    """
    # Its server, and not a program that a library asks something of in passing.
    until(lambda: any(_is_server(child) for child in child_pids(process.pid)))
    children = child_pids(process.pid)
    process.send_signal(number)
    assert process.wait(DEADLINE) == code
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    until(lambda: not any(os.path.exists(f"/proc/{child}") for child in children))


def _is_server(pid: int) -> bool:
    try:
        return b"tests.mcp.servers" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False  # it has ended


def is_silent(peer: HttpPeer) -> bool:
    return "silent" in json.dumps(peer.control())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("what", ["call", "run"])
def test_a_call_that_runs_is_broken_off_with_its_servers(
    what: str, backend: str, number: signal.Signals, config: Path, http_faults: HttpPeer
) -> None:
    common = ("--config", str(config), "--backend", backend)
    args = ("call", "h__silent", "{}") if what == "call" else ("run", "-")
    with program(*args, *common) as process:
        if what == "run":
            assert process.stdin is not None
            process.stdin.write(b'{"name": "h__silent", "args": {}}\n')
            process.stdin.flush()
        until(lambda: is_silent(http_faults))
        ends(process, number, 130 if number is signal.SIGINT else 143)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_a_gateway_ends_with_its_servers(
    transport: str, backend: str, number: signal.Signals, config: Path
) -> None:
    options = ("--http", "0") if transport == "http" else ()
    common = ("--config", str(config), "--backend", backend)
    with program("serve", *common, *options) as process:
        assert process.stdin is not None
        if transport == "http":
            assert process.stderr is not None
            assert process.stderr.readline().startswith(b"serving 47 tools at http://127.")
        else:
            process.stdin.write(json.dumps(HELLO).encode() + b"\n")
            process.stdin.flush()
            assert process.stdout is not None
            assert b'"result"' in process.stdout.readline()
        ends(process, number, 130 if number is signal.SIGINT else 143)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gateway_ends_with_its_host(backend: str, config: Path) -> None:
    with program("serve", "--config", str(config), "--backend", backend) as process:
        assert process.stdin is not None
        until(lambda: child_pids(process.pid))
        process.stdin.close()
        assert process.wait(DEADLINE) == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_tools_of_servers_are_listed_and_called(backend: str, config: Path) -> None:
    common = ("--config", str(config), "--backend", backend)
    listed = said(0, "tools", "--json", *common)
    assert "plain__echo" in listed
    assert "h__silent" in listed
    assert said(0, "call", "plain__echo", '{"text": "sun"}', *common) == "sun"
    assert "no such file" in said(
        1, "call", "plain__fail", '{"text": "no such file"}', *common
    )
    assert "did_you_mean" in said(2, "call", "plain__ecko", "{}", *common)


def test_what_libraries_log_is_not_printed(config: Path) -> None:
    args = ("call", "h__garbage", "{}", "--config", str(config))
    done = subprocess.run(command(*args), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "makes no sense" in done.stdout
    assert done.stderr == ""


def said(code: int, *args: str) -> Any:
    done = subprocess.run(
        command(*args), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gateway_reads_its_file_anew_when_it_is_told(
    backend: str, config: Path, servers: Peers
) -> None:
    with program("serve", "--config", str(config), "--backend", backend) as process:
        client = RawClient(process)
        assert process.stderr is not None
        client.send(HELLO)
        assert client.message()["id"] == 1
        assert "plain__echo" in names(client)
        config.write_text(json.dumps({"mcpServers": {"other": ours(servers, "plain")}}))
        process.send_signal(signal.SIGHUP)
        assert b"read anew" in process.stderr.readline()
        found = names(client)
        assert "other__echo" in found
        assert "plain__echo" not in found
        config.write_text("{")
        process.send_signal(signal.SIGHUP)
        assert b"nothing is changed: " in process.stderr.readline()
        assert "other__echo" in names(client)
        ends(process, signal.SIGINT, 130)


def names(client: RawClient) -> list[str]:
    client.ask("tools/list", id="names")
    while (message := client.message()).get("id") != "names":
        pass  # it says that the tools have changed
    return [tool["name"] for tool in message["result"]["tools"]]
