"""
Names of servers and their tools, as a model's API takes them: ``server__tool``, of at most
64 of the characters ``A-Z a-z 0-9 _ -``.

A name is made of the two alone, never of what else there is: a server that joins renames
nothing. What cannot be kept of a name is replaced, and a digest of the whole keeps apart
what would otherwise be the same.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from orchestrator_async.config._names import server_part as server_part

LONGEST: Final = 64
SEPARATOR: Final = "__"

_OTHER: Final = re.compile(r"[^A-Za-z0-9_-]")
_DIGITS: Final = 8


def tool_name(server: str, tool: str) -> str:
    """
    What a tool of that server is called here.
    """
    part = server_part(server)
    plain = _OTHER.sub("_", tool)
    name = f"{part}{SEPARATOR}{plain}"
    if plain == tool and tool and len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(tool.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{name[: LONGEST - _DIGITS - 1]}_{digest}"


def server_of(name: str) -> str | None:
    """
    The server's part of a name, or ``None`` if it has none.
    """
    part, separator, _ = name.partition(SEPARATOR)
    return part if separator else None
