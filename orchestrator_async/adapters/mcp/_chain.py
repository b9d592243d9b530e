"""
What a server's process is told of the files that it was started from, one behind another.

A gateway that stands among its own servers would else start itself without end: hosts have
one file of servers, which names the gateway, and it may be given that same file.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from orchestrator_async.config import Config

VARIABLE: Final = "ORCHESTRATOR_CHAIN"
MOST: Final = 5
"""Programs with servers that may stand before a gateway: not each has a file to be known by."""

_DIGITS: Final = 16


def started_from(path: Path | None, server: str) -> dict[str, str]:
    """
    The variable that a server of that file is to have in its environment.

    Args:
        path: The file, or ``None`` where there is none.
        server: The server's name.
    """
    return {VARIABLE: json.dumps([*_links(), [_digest(path), server]])}


def check_chain(config: Config) -> None:
    """
    Refuse the servers of a gateway that would start itself.

    Raises:
        ConfigError: This process is one of these servers, or stands too far behind others.
    """
    links, known = _links(), _digest(config.path)
    for digest, server in links:
        if known and digest == known and server in config.servers:
            problem = (
                f"its server {json.dumps(server)} is this gateway, which starts itself"
            )
            hint = "take it out, or give the gateway a file of its own"
            raise _refused(config, problem, hint)
    if config.servers and len(links) >= MOST:
        problem = f"{MOST} programs stand before this gateway, each as a host of the next"
        raise _refused(config, problem, "let fewer stand one behind another")


def _refused(config: Config, problem: str, hint: str) -> ValueError:
    from orchestrator_async.config import ConfigError

    error = {"key": "servers", "problem": problem, "hint": hint}
    return ConfigError([error], path=config.path)


def _links() -> list[tuple[str, str]]:
    """
    Those that this process was told of; none where somebody else has written the variable.
    """
    try:
        said = json.loads(os.environ.get(VARIABLE, "[]"))
        return [(str(digest), str(server)) for digest, server in said]
    except (ValueError, TypeError, RecursionError):
        return []


def _digest(path: Path | None) -> str:
    """
    What a file is known by, whatever leads there. Not its path, which is nobody's business.
    """
    if path is None:
        return ""
    at = os.path.realpath(path)
    return hashlib.sha256(os.fsencode(at)).hexdigest()[:_DIGITS]
