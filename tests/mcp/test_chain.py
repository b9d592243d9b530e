"""
Gateways that stand among their own servers, and gateways behind gateways.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator_async.adapters.mcp import _chain
from orchestrator_async.adapters.mcp._chain import MOST, VARIABLE, started_from
from orchestrator_async.config import Config, ConfigError, load_config, read_config
from orchestrator_async.gateway import serve
from tests.clock import real_time

from .running import ROOT

SERVERS = {"mcpServers": {"tools": {"command": "x"}, "other": {"command": "y"}}}


def written(path: Path) -> Config:
    path.write_text(json.dumps(SERVERS))
    return load_config(path)


def as_started(patch: pytest.MonkeyPatch, path: Path | None, server: str) -> None:
    """
    Have the environment of a server of that file.
    """
    for name, value in started_from(path, server).items():
        patch.setenv(name, value)


@real_time
async def test_a_gateway_that_is_its_own_server_refuses_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = written(tmp_path / "mcp.json")
    as_started(monkeypatch, config.path, "tools")
    with pytest.raises(ConfigError) as caught:
        await serve(config)
    assert str(caught.value) == (
        f'{config.path}: servers: its server "tools" is this gateway, which starts itself; '
        "take it out, or give the gateway a file of its own"
    )


def test_the_program_says_so_in_a_line(tmp_path: Path) -> None:
    config = written(tmp_path / "mcp.json")
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "orchestrator_async.cli",
            "serve",
            "--config",
            str(config.path),
        ],
        env=os.environ | started_from(config.path, "tools"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"orchestrator-async: {config.path}: ")
    assert 'its server "tools" is this gateway' in line


def test_a_file_is_known_by_whatever_leads_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = written(tmp_path / "mcp.json")
    (tmp_path / "link.json").symlink_to("mcp.json")
    monkeypatch.chdir(tmp_path)
    as_started(monkeypatch, config.path, "tools")
    for path in ("link.json", "./mcp.json"):
        with pytest.raises(ConfigError, match="starts itself"):
            _chain.check_chain(load_config(path))


def test_it_is_known_behind_others_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = written(tmp_path / "mcp.json")
    as_started(monkeypatch, config.path, "tools")
    as_started(monkeypatch, tmp_path / "another.json", "a")
    as_started(monkeypatch, None, "b")
    with pytest.raises(ConfigError, match="starts itself"):
        _chain.check_chain(config)


def test_a_gateway_behind_another_is_let_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = written(tmp_path / "mcp.json")
    as_started(monkeypatch, tmp_path / "another.json", "tools")
    _chain.check_chain(config)
    # Of the same file, but not among those servers that it starts itself.
    as_started(monkeypatch, config.path, "a server that is there no more")
    _chain.check_chain(config)


def test_no_more_than_some_stand_one_behind_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = read_config(SERVERS)
    for _ in range(MOST):
        _chain.check_chain(config)
        as_started(monkeypatch, None, "tools")
    with pytest.raises(ConfigError, match="5 programs stand before this gateway"):
        _chain.check_chain(config)
    _chain.check_chain(read_config({}))


@pytest.mark.parametrize("said", ["", "{", "5", "[1]", "[[1]]", "[" * 100_000])
def test_what_others_have_written_there_is_nothing(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, said)
    assert json.loads(started_from(None, "tools")[VARIABLE]) == [["", "tools"]]


def test_the_variable_does_not_tell_where_the_file_is(tmp_path: Path) -> None:
    assert tmp_path.name not in started_from(tmp_path / "mcp.json", "tools")[VARIABLE]
