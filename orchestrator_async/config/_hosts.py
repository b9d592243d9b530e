"""
The ``mcpServers`` of hosts of MCP servers, as a table of servers of ours.

Each host has keys of its own there, and a file that works in one of them is to work here
too. What is not known is left out with a line in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Final

from ._errors import Problem, key_text, kind_of, quoted
from ._servers import ServerConfig

logger: Final = logging.getLogger("orchestrator_async")

HOSTS: Final = "mcpServers"
_ADDRESSES: Final = ("serverUrl", "httpUrl")
_TYPES: Final = {
    "stdio": "command",
    "http": "url",
    "streamable-http": "url",
    "streamableHttp": "url",
}
_OURS: Final = frozenset(each.name for each in fields(ServerConfig))


def from_hosts(data: Mapping[str, Any], told: list[Problem]) -> Any:
    """
    The servers of such a file, as ours are written.

    Args:
        data: The whole file.
        told: What is wrong is added to it.
    """
    for name in data:
        if name != HOSTS:
            _ignored((name,))
    servers = data[HOSTS]
    if not isinstance(servers, Mapping):
        return servers
    ours: dict[Any, Any] = {}
    for name, server in servers.items():
        if not isinstance(server, Mapping):
            ours[name] = server
        elif _is_disabled(name, server, told):
            logger.info("%s is disabled, and left out", key_text((HOSTS, name)))
        else:
            ours[name] = _server((HOSTS, name), server, told)
    return ours


def _is_disabled(name: str, server: Mapping[str, Any], told: list[Problem]) -> bool:
    disabled = server.get("disabled", False)
    if not isinstance(disabled, bool):
        at = (HOSTS, name, "disabled")
        problem = f"expected true or false, not {kind_of(disabled)}"
        told.append(Problem(at, problem, "write one of them, without quotes"))
    return disabled is True


def _server(
    at: tuple[str, ...], server: Mapping[str, Any], told: list[Problem]
) -> dict[str, Any]:
    ours: dict[str, Any] = {}
    for name, value in server.items():
        if value is None or name in ("disabled", "type", "transport"):
            continue
        if name in _OURS or name in _ADDRESSES:
            ours["url" if name in _ADDRESSES else name] = value
        else:
            _ignored((*at, name))
    for name in ("type", "transport"):
        if server.get(name) is not None:
            told += _of_type((*at, name), server[name], ours)
    return ours


def _of_type(at: tuple[str, ...], kind: Any, ours: Mapping[str, Any]) -> Iterator[Problem]:
    if kind == "sse":
        hint = 'use the streamable HTTP of the server: type "http", and its address'
        yield Problem(at, '"sse" is an old transport that is not spoken here', hint)
    elif not isinstance(kind, str) or kind not in _TYPES:
        what = quoted(kind) if isinstance(kind, str) else kind_of(kind)
        yield Problem(at, f"{what} is no transport", 'write "stdio" or "http"')
    elif _TYPES[kind] not in ours:
        yield Problem(
            at, f"{quoted(kind)} needs a {_TYPES[kind]}", "give it, or another type"
        )


def _ignored(key: tuple[str, ...]) -> None:
    logger.warning("%s is not known here, and ignored", key_text(key))
