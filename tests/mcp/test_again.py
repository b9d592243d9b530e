"""
A file of settings that is read again while the loop goes on.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from orchestrator_async.adapters.mcp._again import load_again
from orchestrator_async.config import Config, ConfigError, load_config
from tests.clock import real_time

pytestmark = real_time


async def refused_again(path: Path, **options: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        await load_again(path, **options)
    assert raised.value.path == path
    return str(raised.value)


async def test_a_file_is_read_again_beside_what_else_there_is(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[gateway]\nname = 'x'")
    assert (await load_again(path)).gateway.name == "x"
    assert "this is a directory" in await refused_again(tmp_path)
    assert "there is no such file" in await refused_again(tmp_path / "missing")
    assert await refused_again(path, limit=0) == (
        f"{path}: it was not read within 0 s; give one that is at hand"
    )


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
async def test_what_can_be_read_once_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe.json"
    os.mkfifo(path)
    assert await refused_again(path) == (
        f"{path}: this is no file that can be read again; give a regular file"
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.Path(path).write_text, "{}")
        config = await anyio.to_thread.run_sync(load_config, path)
    assert config == Config(path=path)
