"""
The terminal program with a file of settings, with servers, and as a server.

Settings, servers and the gateway are parts of their own with tests of their own. Here stand-ins
take their places, which say what they are asked for.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .cli_program import TOOLS, Ended, redirected, run
from .test_cli import on_each_backend, said

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX streams")

CONFIG = """
import json
from orchestrator_async import BreakerPolicy, ToolOrchestrator

class Config:
    def __init__(self, path):
        self.servers = json.loads(path.read_text())
        if not isinstance(self.servers, dict):
            raise ValueError(f"{path.name}: servers: no table\\n{path.name}: tools: no table")

    def settings(self):
        return {"policy": BreakerPolicy(failure_threshold=2)}

    def orchestrator(self, registry):
        return ToolOrchestrator(registry, **self.settings())

load_config = Config
"""

SERVERS = """
import sys
from types import SimpleNamespace
from orchestrator_async import Registry

class ServerLost(SimpleNamespace):
    pass

class ToolLeftOut(SimpleNamespace):
    pass

class McpServers:
    def __init__(self, config, observers):
        self.names = config.servers
        for observer in observers:
            for name in self.names:
                if name.startswith("left"):
                    observer(ToolLeftOut(server=name, tool="a\\nb", reason="no"))
                observer(ServerLost(server=name, reason="told of already"))

    def status(self):
        return {
            name: SimpleNamespace(name=name, connected=not said, reason=said)
            for name, said in self.names.items()
        }

    async def __aenter__(self):
        print("up", file=sys.stderr)
        return self

    async def __aexit__(self, *error):
        print("down", file=sys.stderr)

def include(self, servers):
    for name in servers.names:
        async def tool() -> str:
            return "from a server"
        self.tool(tool, name=name)

def exclude(self, servers):
    for name in servers.names:
        self.remove(name)

Registry.include, Registry.exclude = include, exclude
"""

GATEWAY = """
import sys
import anyio

async def serve(orch, **options):
    if options["http"] and options["http"][0] == "0.0.0.0" and not options["token"]:
        raise ValueError("a token is needed")
    if options["path"] == "/taken":
        raise OSError(98, "Address already in use") if options["http"] else OSError("closed")
    print("to standard error" if options["http"] else "to standard output")
    sys.stdout.flush()
    options.pop("on_start", None)
    options.pop("observers")
    options["tools"] = len(orch.registry)
    options["config"] = options["config"] and sorted(options["config"].servers)
    print(dict(sorted(options.items())), file=sys.stderr)
    await anyio.lowlevel.checkpoint()
"""

START = (
    "import sys, orchestrator_async; orchestrator_async.__path__.insert(0, sys.argv.pop(1)); "
    "from orchestrator_async.cli import main; sys.exit(main())"
)
WITH_PARTS = [sys.executable, "-P", "-W", "error", "-c", START]
Program = Callable[..., Ended]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """
    The program, with stand-ins for what it uses if it is there.
    """
    parts = tmp_path / "parts"
    (parts / "adapters").mkdir(parents=True)
    for name, text in {
        "config.py": CONFIG,
        "adapters/__init__.py": "",
        "adapters/mcp.py": SERVERS,
        "gateway.py": GATEWAY,
    }.items():
        (parts / name).write_text(text)
    start = [*WITH_PARTS, str(parts)]

    def begin(*args: str, servers: Any = None, **options: Any) -> Ended:
        (tmp_path / "file.toml").write_text(json.dumps(servers))
        given = [] if servers is None else ["--config", "file.toml"]
        return run(*args, *given, start=start, cwd=tmp_path, **options)

    return begin


def without(program: Program, tmp_path: Path, part: str) -> None:
    """
    Have a part that says what it needs and has not.
    """
    (tmp_path / "parts" / part).write_text("raise ImportError('pip install the [extra]')")


@on_each_backend
def test_tools_of_servers_stand_beside_those_of_modules(
    program: Program, backend: str
) -> None:
    servers = {"mail": "", "web": ""}
    ended = program("tools", "--json", "--backend", backend, servers=servers)
    names = [each["function"]["name"] for each in json.loads(ended.out)]
    assert names[0] == "add"
    assert names[-2:] == ["mail", "web"]
    assert (ended.code, ended.err) == (0, "up\ndown\n")
    ended = program("call", "mail", "--backend", backend, servers=servers, tools=None)
    assert ended == (0, "from a server", "up\ndown\n")


def test_a_server_that_is_not_there_is_named(program: Program) -> None:
    ended = program("tools", servers={"mail": "no such\x1b[2J program", "web": ""})
    assert ended.code == 0
    said = "orchestrator-async: mail is not connected: no such program"
    assert ended.err.splitlines() == ["up", said, "down"]


def test_a_tool_that_is_left_out_is_named_in_a_line(program: Program) -> None:
    ended = program("tools", servers={"left": ""})
    assert ended.code == 0
    assert ended.err.splitlines() == [
        r"orchestrator-async: left: tool 'a\nb': no",
        "up",
        "down",
    ]


@pytest.mark.parametrize("attribute", ["registry", "orchestrator"])
def test_settings_of_a_file_are_those_of_the_tools(
    program: Program, attribute: str
) -> None:
    calls = '{"name": "fail"}\n' * 2
    ended = program("run", servers={}, tools=f"{TOOLS}:{attribute}", input=calls)
    states = [json.loads(line)["state"] for line in ended.out.splitlines()]
    assert states == ["closed", "open"]


def test_a_file_that_is_wrong_is_told_line_by_line(program: Program) -> None:
    ended = program("tools", servers=[])
    assert ended.code == 2
    assert said(ended).splitlines() == [
        "file.toml: servers: no table",
        "file.toml: tools: no table",
    ]


@pytest.mark.parametrize(
    ("part", "args"),
    [("config.py", ["tools"]), ("adapters/mcp.py", ["tools"]), ("gateway.py", ["serve"])],
)
def test_a_part_whose_packages_are_missing_says_so(
    program: Program, tmp_path: Path, part: str, args: list[str]
) -> None:
    without(program, tmp_path, part)
    ended = program(*args, servers={"web": ""})
    assert ended.code == 2
    assert ended.err.splitlines()[-1] == "orchestrator-async: pip install the [extra]"


def options(ended: Ended) -> dict[str, Any]:
    found: dict[str, Any] = eval(ended.err.splitlines()[-1])
    return found


@on_each_backend
def test_it_serves_on_standard_output_unless_told_otherwise(
    program: Program, backend: str
) -> None:
    ended = program("serve", "--backend", backend, tools=f"{TOOLS}:wide")
    assert (ended.code, ended.out) == (0, "to standard output\n")
    assert options(ended) == {
        "allowed_hosts": (),
        "allowed_origins": (),
        "config": None,
        "figures_tool": False,
        "http": None,
        "path": "/mcp",
        "token": None,
        "tools": 3,
    }


def test_what_it_serves_is_said_by_options_and_by_the_file(program: Program) -> None:
    given = (
        "serve --http 8000 --path /x --token-env MINE --allow-host a --allow-host b "
        "--allow-origin http://c --figures-tool"
    )
    ended = program(
        *given.split(), servers={"web": ""}, tools=f"{TOOLS}:wide", env={"MINE": "secret"}
    )
    assert (ended.code, ended.out) == (0, "")
    assert "to standard error\n" in ended.err
    assert options(ended) == {
        "allowed_hosts": ("a", "b"),
        "allowed_origins": ("http://c",),
        "config": ["web"],
        "figures_tool": True,
        "http": ("127.0.0.1", 8000),
        "path": "/x",
        "token": "secret",
        "tools": 3,
    }


def test_it_does_not_serve_without_the_token_that_it_was_told_of(program: Program) -> None:
    ended = program("serve", "--token-env", "MINE", env={"MINE": ""})
    assert ended.code == 2
    assert said(ended) == "--token-env MINE: the environment has no such variable."


def test_what_the_gateway_refuses_is_wrong_usage(program: Program) -> None:
    ended = program("serve", "--http", "0.0.0.0:0")
    assert (ended.code, said(ended)) == (2, "a token is needed")


def test_an_address_that_cannot_be_had_is_wrong_usage(program: Program) -> None:
    ended = program("serve", "--http", "8000", "--path", "/taken")
    assert (ended.code, said(ended)) == (2, "--http 8000: Address already in use.")
    ended = program("serve", "--path", "/taken")
    assert (ended.code, said(ended)) == (1, "OSError: closed")


@pytest.mark.parametrize("closed", ["<&-", "</dev/null >&-"])
def test_it_does_not_serve_on_streams_that_were_closed(
    program: Program, tmp_path: Path, closed: str
) -> None:
    start = [*WITH_PARTS, str(tmp_path / "parts")]
    ended = redirected(f'serve --tools "{TOOLS}:registry"', closed, start)
    assert ended.code == 2
    assert said(ended) == "There is no standard input and output to serve on."


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0", ("127.0.0.1", 0)),
        (":80", ("127.0.0.1", 80)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_an_address_is_a_port_or_a_host_and_a_port(
    text: str, address: tuple[str, int]
) -> None:
    from orchestrator_async.cli._serve import address_of

    assert address_of(text) == address


@pytest.mark.parametrize(
    "text", ["", "localhost", "80x", "1:65536", "1:-1", "9" * 9, "1:²"]
)
def test_an_address_that_is_none_is_refused(program: Program, text: str) -> None:
    ended = program("serve", "--http", text)
    assert ended.code == 2
    assert said(ended) == (
        f"--http {text}: write a port, or a host and a port: 127.0.0.1:8000."
    )
