"""
What whoever runs the terminal program is told of servers, by its standard error.
"""

from __future__ import annotations

import json
import logging
import string
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator_async.adapters.mcp import ServerConnected, ServerLost, ToolLeftOut
from orchestrator_async.cli._news import MOST, News

from .helping import ours
from .running import ROOT, Peers, RawClient, until
from .test_program import BACKENDS, HELLO, command, names, program

on_each_backend = pytest.mark.parametrize("backend", BACKENDS)
REGISTRY = """
from orchestrator_async import Registry

registry = Registry()

@registry.tool(name="twice__echo")
async def mine() -> str:
    return "mine"

@registry.tool(name="orchestrator__fleet")
async def fleet() -> str:
    return "mine"
"""
MEND = "give the server another name, or exclude this tool of it"
TOLD = [
    "ends is not connected: its process has ended with code 3",
    "gone is not connected: its program cannot be started: No such file or directory",
    "many: tool '(the rest)': it lists more than 2 tools",
    f"twice: tool 'echo': another tool is called twice__echo, and stays; {MEND}",
    "twice: tool 'echo': it lists another of that name",
]


def written(path: Path, servers: dict[str, Any], **more: Any) -> Path:
    path.write_text(json.dumps({"servers": servers, **more}))
    return path


@contextmanager
def serving(*args: str) -> Iterator[tuple[RawClient, Any]]:
    """
    A gateway on stdio that has begun to answer, and what it says to its operator.
    """
    with program("serve", *args) as process:
        client = RawClient(process)
        client.send(HELLO)
        assert client.message()["id"] == 1
        yield client, process.stderr


def lines_of(stderr: Any, count: int) -> list[str]:
    """
    The next lines of the operator's, without the name of the program; in order of the text.
    """
    lines = [stderr.readline().decode() for _ in range(count)]
    assert all(line.startswith("orchestrator-async: ") for line in lines), lines
    return sorted(line.removeprefix("orchestrator-async: ").rstrip() for line in lines)


@pytest.fixture
def tries(tmp_path: Path) -> Path:
    """
    Where the server that ends writes a line each time.
    """
    return tmp_path / "tries"


@pytest.fixture
def given(tmp_path: Path, tries: Path, servers: Peers) -> tuple[str, ...]:
    """
    Options of servers and tools with which much is wrong.
    """
    (tmp_path / "mine.py").write_text(REGISTRY)
    config = written(
        tmp_path / "servers.json",
        {
            "gone": {"command": "/nonexistent"},
            "ends": {"command": "sh", "args": ["-c", f"echo >> {tries}; exit 3"]},
            "many": ours(servers, "hostile", "many", "--count", "9", max_tools=2),
            "twice": ours(servers, "hostile", "twice"),
        },
        gateway={"figures_tool": True},
    )
    return ("--config", str(config), "--tools", f"{tmp_path}/mine.py:registry")


@on_each_backend
def test_what_is_wrong_with_servers_and_tools_is_said_once(
    backend: str, given: tuple[str, ...], tries: Path
) -> None:
    with serving("--backend", backend, *given) as (client, stderr):
        assert lines_of(stderr, len(TOLD)) == TOLD
        assert len(names(client)) == 4
        figures = "the tool of the figures is not offered: another is called "
        assert lines_of(stderr, 1) == [f"{figures}orchestrator__fleet"]
        until(lambda: len(tries.read_text()) > 2)
        names(client)
        client.process.terminate()
        assert stderr.read() == b""


def test_it_is_said_by_other_commands_too(given: tuple[str, ...]) -> None:
    listed = subprocess.run(
        command("tools", *given), cwd=ROOT, capture_output=True, text=True
    )
    assert listed.returncode == 0
    lines = sorted(listed.stderr.splitlines())
    assert lines == [f"orchestrator-async: {each}" for each in TOLD]
    assert "twice__echo" in listed.stdout


@on_each_backend
def test_a_gateway_among_its_own_servers_is_named_and_starts_no_other(
    backend: str, tmp_path: Path, servers: Peers
) -> None:
    path = tmp_path / "mcp.json"
    itself = {
        "command": sys.executable,
        "args": ["-m", "orchestrator_async.cli", "serve", "--config", str(path)],
        "cwd": str(ROOT),
    }
    written(path, {"tools": itself, "h": ours(servers, "hostile", "prefixed")})
    with serving("--config", str(path), "--backend", backend) as (client, stderr):
        (said,) = lines_of(stderr, 1)
        assert said.startswith(
            "tools is not connected: its process has ended with code 2: "
        )
        assert 'servers: its server "tools" is this gateway, which starts itself' in said
        assert names(client) == ["h__other__echo", "h__echo"]


# What is told already


def test_of_one_server_not_much_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    news = News()
    for each in string.ascii_letters:
        for _ in range(2):
            news.hear(ServerLost(server="a", reason=f"{each}\nx", retry_in=1.0))
    news.hear(ServerConnected(server="a", tools=1))
    news.hear(ToolLeftOut(server="b", tool="t\n", reason="no"))
    *lines, last, other = capsys.readouterr().err.splitlines()
    assert lines[0] == "orchestrator-async: a is not connected: a x"
    assert len(lines) == MOST
    assert last == "orchestrator-async: a: there is more, of which nothing is said here"
    assert other == r"orchestrator-async: b: tool 't\n': no"


def test_what_differs_in_numbers_alone_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    news = News()
    for number in range(3):
        news.lost("a", f"at 12:{number}: refused")
    news.forget()
    news.lost("a", "at 13:00: refused")
    assert capsys.readouterr().err.splitlines() == [
        "orchestrator-async: a is not connected: at 12:0: refused",
        "orchestrator-async: a is not connected: at 13:00: refused",
    ]


def test_warnings_are_said_in_a_line_while_they_are_heard(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = logging.getLogger("orchestrator_async.gateway")
    with News().hearing(logger.name):
        logger.info("nothing")
        logger.error("a call of %s\nwent wrong", "x", exc_info=ValueError("secret"))
    logger.warning("later")
    err = capsys.readouterr().err
    assert err == "orchestrator-async: a call of x went wrong\n"
