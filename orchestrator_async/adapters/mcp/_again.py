"""
A file of settings that is read again, by a program that has other things to do meanwhile.
"""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from orchestrator_async._threads import Slots, ThreadedCall

if TYPE_CHECKING:
    from orchestrator_async.config import Config, ConfigError

_LIMIT: Final = 10.0


async def load_again(path: str | os.PathLike[str], limit: float = _LIMIT) -> Config:
    """
    ``load_config`` in a thread, which is not waited for beyond so many seconds. What can be
    read only once, such as a pipe, is refused.

    Raises:
        ConfigError: See there; or this takes too long.
    """
    slots = Slots(1)
    slots.take()
    with anyio.move_on_after(limit):
        read = functools.partial(_load, path)
        config: Config = await ThreadedCall(slots).wait(read)
        return config
    raise _refused(path, f"it was not read within {limit:g} s", "give one that is at hand")


def _load(path: str | os.PathLike[str]) -> Config:
    if _is_stream(path):
        # To open it would be to wait for somebody who writes to it.
        raise _refused(
            path, "this is no file that can be read again", "give a regular file"
        )
    from orchestrator_async.config import load_config

    return load_config(path)


def _is_stream(path: str | os.PathLike[str]) -> bool:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False  # what is wrong with it is said where it is read
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _refused(path: str | os.PathLike[str], problem: str, hint: str) -> ConfigError:
    from orchestrator_async.config import ConfigError

    error = {"key": "", "problem": problem, "hint": hint}
    return ConfigError([error], path=Path(path))
