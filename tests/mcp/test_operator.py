"""
What whoever runs the terminal program is told of servers, by its standard error.
"""

from __future__ import annotations

import json
import logging
import os
import signal
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
from .running import DEADLINE, ROOT, Peers, RawClient, _read_some, until
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


class Operator(RawClient):
    """
    Whoever reads what a program says on its standard error.
    """

    def read(self) -> bytes:
        return _read_some(self.process.stderr)

    def hears(self, text: str) -> str:
        """
        The next line, without the name of the program; it has that text.
        """
        line = self.line().decode()
        assert line.startswith("orchestrator-async: ")
        assert text in line
        return line.removeprefix("orchestrator-async: ")


@contextmanager
def serving(*args: str) -> Iterator[tuple[RawClient, Operator]]:
    """
    A gateway on stdio that has begun to answer, and whoever runs it, who then hears no more.
    """
    with program("serve", *args) as process:
        client = RawClient(process)
        client.send(HELLO)
        assert client.message()["id"] == 1
        operator = Operator(process)
        yield client, operator
        assert process.stdin is not None
        process.stdin.close()
        assert operator.line() == b""
        assert process.wait(DEADLINE) == 0


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
    with serving("--backend", backend, *given) as (client, operator):
        assert sorted(operator.hears("") for _ in TOLD) == TOLD
        assert len(names(client)) == 4
        operator.hears("the tool of the figures is not offered: another is called orch")
        until(lambda: len(tries.read_text()) > 2)
        names(client)


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
    with serving("--config", str(path), "--backend", backend) as (client, operator):
        said = operator.hears("tools is not connected")
        assert said.startswith(
            "tools is not connected: its process has ended with code 2: "
        )
        assert 'servers: its server "tools" is this gateway, which starts itself' in said
        assert names(client) == ["h__other__echo", "h__echo"]


# A file that is read again


@on_each_backend
def test_a_file_is_read_again_while_servers_of_the_last_are_still_waited_for(
    backend: str, tmp_path: Path, servers: Peers
) -> None:
    h = ours(servers, "hostile", "prefixed")
    silent = ours(servers, "hostile", "mute", connect_timeout="1h")
    config = written(tmp_path / "servers.json", {"h": h})
    with serving("--config", str(config), "--backend", backend) as (client, operator):
        names(client)
        before = set(servers.alive())
        written(config, {"h": h, "silent": silent})
        client.process.send_signal(signal.SIGHUP)
        until(lambda: set(servers.alive()) - before)
        figures = {"figures_tool": True, "name": "other"}
        written(config, {"h": h}, gateway=figures)
        client.process.send_signal(signal.SIGHUP)
        operator.hears("gateway.name is 'orchestrator' until it is started anew")
        operator.hears("the settings were read anew")
        assert "orchestrator__fleet" in names(client)
        until(lambda: set(servers.alive()) == before)
        config.unlink()
        os.mkfifo(config)
        client.process.send_signal(signal.SIGHUP)
        operator.hears("nothing is changed: ")
        assert len(names(client)) == 3


HANGS_UP = """
import os, pathlib, signal
from orchestrator_async import Registry

registry = Registry()
pathlib.Path(os.environ["CONFIG"]).write_text('{"gateway": {"figures_tool": true}}')
os.kill(os.getpid(), signal.SIGHUP)
"""


@on_each_backend
def test_a_hang_up_during_the_start_is_a_word_to_read_the_file_again(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = written(tmp_path / "servers.json", {"gone": {"command": "/nonexistent"}})
    monkeypatch.setenv("CONFIG", str(config))
    (tmp_path / "mine.py").write_text(HANGS_UP)
    given = ("--tools", f"{tmp_path}/mine.py:registry", "--backend", backend)
    with serving("--config", str(config), *given) as (client, operator):
        operator.hears("the settings were read anew")
        assert names(client) == ["orchestrator__fleet"]
    # Where there is nothing to be read again, it ends the program, as it does elsewhere.
    with program("serve", *given) as process:
        assert process.wait(DEADLINE) == 129


def test_a_hang_up_before_the_command_is_known_waits_for_it(tmp_path: Path) -> None:
    early = (
        "import os, signal, sys\n"
        "from orchestrator_async.cli import _interrupts, main\n"
        "_interrupts.interrupts.install()\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
        "sys.exit(main())\n"
    )
    start = [sys.executable, "-c", early]
    ended = subprocess.run([*start, "tools"], cwd=ROOT, capture_output=True)
    assert (ended.returncode, ended.stderr) == (129, b"")
    config = written(tmp_path / "servers.json", {})
    ended = subprocess.run(
        [*start, "serve", "--config", str(config)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert ended.returncode == 0


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
